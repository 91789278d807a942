//! Waiting for other threads and processes.

use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything takes, also on a machine that has other work.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so. It leaves the processor to those that bring it about.
#[track_caller]
pub fn eventually(is_so: impl FnMut() -> bool) {
    eventually_or(is_so, || "what this waits for".to_owned());
}

/// Waits until something is so, and says what was not if it never is.
#[track_caller]
pub fn until(what: &str, is_so: impl FnMut() -> bool) {
    eventually_or(is_so, || what.to_owned());
}

/// Waits until something is so. If it never is, `what` says what there is instead.
#[track_caller]
pub fn eventually_or(mut is_so: impl FnMut() -> bool, what: impl Fn() -> String) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not so after {PATIENCE:?}: {}", what());
        thread::sleep(Duration::from_micros(200));
    }
}
