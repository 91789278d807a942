//! Any bytes as an index, and any lookup in it: the first 16 bytes say what to look up.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((asked, bytes)) = data.split_at_checked(16) else { return };
    let number = |at: usize| u64::from_le_bytes(asked[at..at + 8].try_into().unwrap());
    streamlog::fuzzing::index(bytes, number(0), number(8));
});
