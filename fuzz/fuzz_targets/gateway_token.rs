//! Any text as a token, or in the place of a part of a good one.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, u64, &str)| {
    let (at, age_ms, text) = input;
    streamlog::gateway::fuzzing::token(text, at.into(), age_ms);
});
