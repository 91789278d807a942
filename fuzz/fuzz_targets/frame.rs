//! Any bytes as a frame. The last byte says whether to correct length and checksum, so that the fuzzer reaches the code behind them.
#![no_main]

use libfuzzer_sys::fuzz_target;

const SALT: [u8; 16] = [9; 16];

fuzz_target!(|data: &[u8]| {
    let Some((&mode, bytes)) = data.split_last() else { return };
    let mut bytes = bytes.to_vec();
    if mode & 2 != 0 && bytes.len() >= 8 {
        let len = bytes.len() as u32 / 8 * 8;
        bytes[..4].copy_from_slice(&len.to_le_bytes());
    }
    if mode & 1 != 0 && bytes.len() >= 8 {
        let len = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        if (8..=bytes.len()).contains(&len) {
            let checksum = crc32fast::hash(&[&SALT[..], &bytes[8..len]].concat());
            bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        }
    }
    streamlog::fuzzing::frame(&bytes, SALT);
});
