//! Waiting for other threads and processes.

use std::thread;
use std::time::{Duration, Instant};

/// Longer than any step takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a condition holds. Yields the processor to the threads that bring it about.
#[track_caller]
pub fn eventually(is_so: impl FnMut() -> bool) {
    eventually_or(is_so, || "what this waits for".to_owned());
}

/// Waits until a condition holds. Panics with `what` if it never does.
#[track_caller]
pub fn until(what: &str, is_so: impl FnMut() -> bool) {
    eventually_or(is_so, || what.to_owned());
}

/// Waits until a condition holds. If it never does, `what` describes the actual state.
#[track_caller]
pub fn eventually_or(mut is_so: impl FnMut() -> bool, what: impl Fn() -> String) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not so after {PATIENCE:?}: {}", what());
        thread::sleep(Duration::from_micros(200));
    }
}
