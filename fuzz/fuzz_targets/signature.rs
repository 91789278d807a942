//! Any bytes as a request whose signature the gateway checks.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| streamlog::gateway::fuzzing::signature(data));
