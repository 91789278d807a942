//! The memory that all requests' bodies share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How many bytes are left for bodies.
#[derive(Debug)]
pub(super) struct Memory {
    left: AtomicUsize,
}

/// Bytes that a request has taken. They are released on drop.
#[derive(Debug)]
pub(super) struct Reserved {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Memory {
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes) })
    }

    pub(super) fn reserve_nothing(self: &Arc<Self>) -> Reserved {
        Reserved { memory: self.clone(), bytes: 0 }
    }
}

impl Reserved {
    /// Takes more bytes. Returns whether there were enough.
    #[must_use]
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let is_taken =
            self.memory.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)).is_ok();
        if is_taken {
            self.bytes += bytes;
        }
        is_taken
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.memory.left.fetch_add(self.bytes, Relaxed);
    }
}
