//! Any requests to a gateway, one per line. Its streams persist for a number of inputs.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use streamlog::gateway::fuzzing::Requests;
use tempfile::TempDir;

/// The gateway is replaced after this many inputs, so that a failing input is likely to fail by itself.
const INPUTS_MAX: usize = 200;

thread_local! {
    static GATEWAY: RefCell<Option<(Requests, TempDir, usize)>> = const { RefCell::new(None) };
}

fuzz_target!(|data: &[u8]| GATEWAY.with_borrow_mut(|gateway| {
    let (requests, _, inputs) = gateway.get_or_insert_with(|| {
        let directory = tempfile::tempdir().unwrap();
        (Requests::new(directory.path()), directory, 0)
    });
    *inputs += 1;
    if requests.send(data) || *inputs > INPUTS_MAX {
        *gateway = None;
    }
}));
