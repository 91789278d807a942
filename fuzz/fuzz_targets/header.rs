//! Any bytes as a header page. The last byte says whether to correct the checksum, so that the fuzzer reaches the code behind it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&mode, page)) = data.split_last() else { return };
    let mut page = page.to_vec();
    // A whole page: the fuzzer need not find out that the rest is zeros.
    if mode & 2 != 0 {
        page.resize(4096, 0);
    }
    if mode & 1 != 0 && page.len() >= 64 {
        let checksum = crc32fast::hash(&page[..60]);
        page[60..64].copy_from_slice(&checksum.to_le_bytes());
    }
    if mode & 4 != 0 && page.len() >= 3648 {
        let checksum = crc32fast::hash(&page[3584..3644]);
        page[3644..3648].copy_from_slice(&checksum.to_le_bytes());
    }
    streamlog::fuzzing::header(&page);
});
