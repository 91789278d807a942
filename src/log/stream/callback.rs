//! Functions of the caller that the library calls, and that may call the library in turn.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// How many of the caller's functions are running on this thread, one called from within another.
    static RUNNING: Cell<usize> = const { Cell::new(0) };
    /// The streams whose counts are being reported on this thread, by their addresses.
    static REPORTING: RefCell<Vec<usize>> = const { RefCell::new(vec![]) };
}

/// Undoes what began a callback, even if it panics.
struct Ended<F: FnMut()>(F);

impl<F: FnMut()> Drop for Ended<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Returns whether the calling thread runs a function of the caller.
pub(super) fn is_running() -> bool {
    // A thread that is ending runs none.
    RUNNING.try_with(Cell::get).unwrap_or_default() > 0
}

/// Runs a function of the caller. Returns `None` if it panics, which affects nothing else: the panic hook has already reported that.
pub(super) fn run<T>(work: impl FnOnce() -> T) -> Option<T> {
    RUNNING.set(RUNNING.get() + 1);
    let _ended = Ended(|| RUNNING.set(RUNNING.get() - 1));
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Runs a function that reports the counts of the stream at an address, unless that function is running on this thread already.
pub(super) fn report(stream: usize, work: impl FnOnce()) {
    // A thread that is ending may drop a stream after it has lost this list. It is in no report then.
    let is_nested = REPORTING.try_with(|streams| streams.borrow().contains(&stream));
    if is_nested.unwrap_or_default() {
        return;
    }
    let _ = REPORTING.try_with(|streams| streams.borrow_mut().push(stream));
    let _ended = Ended(|| _ = REPORTING.try_with(|streams| streams.borrow_mut().pop()));
    run(work);
}
