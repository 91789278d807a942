//! Any requests to a gateway, one a line, whose streams stay from one input to the next for a while.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use streamlog::gateway::fuzzing::Requests;
use tempfile::TempDir;

/// After so many inputs the gateway is a new one, so that an input which fails is likely to fail by itself.
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
