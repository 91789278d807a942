//! Any bytes as a trailer. The last byte says whether to correct the checksum, and whether segment and file match the trailer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&mode, bytes)) = data.split_last() else { return };
    let mut bytes = bytes.to_vec();
    let (mut shard, mut base, mut salt, mut file_bytes) = (1, 1, [0; 16], 9424);
    if let Some(trailer) = bytes.last_chunk_mut::<88>() {
        if mode & 1 != 0 {
            let checksum = crc32fast::hash(&trailer[..84]);
            trailer[84..].copy_from_slice(&checksum.to_le_bytes());
        }
        if mode & 2 != 0 {
            let u32_at = |at: usize| u32::from_le_bytes(trailer[at..at + 4].try_into().unwrap());
            let u64_at = |at: usize| u64::from_le_bytes(trailer[at..at + 8].try_into().unwrap());
            (shard, base) = (u32_at(72), u64_at(24));
            salt.copy_from_slice(&trailer[56..72]);
            file_bytes = u64_at(8).wrapping_add(u64::from(u32_at(16)) * 24).wrapping_add(88);
        }
    }
    streamlog::fuzzing::trailer(&bytes, shard, base, salt, file_bytes);
});
