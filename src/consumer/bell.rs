//! A bell that wakes one thread.

use std::sync::Arc;
use std::task::Wake;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Wakes a thread, also as the waker of a task that the thread polls. A ring that comes before the thread waits is not lost.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    is_rung: Mutex<bool>,
    rung: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *self.is_rung.lock() = true;
        self.rung.notify_one();
    }

    /// Waits until somebody rings or the timeout passes.
    pub(crate) fn wait(&self, timeout: Duration) {
        let mut is_rung = self.is_rung.lock();
        self.rung.wait_while_for(&mut is_rung, |is_rung| !*is_rung, timeout);
        *is_rung = false;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}
