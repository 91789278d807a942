//! The name of an operation, a line feed, and any bytes as the body of its request, in JSON and in CBOR.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| streamlog::gateway::fuzzing::body(data));
