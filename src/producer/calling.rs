//! Whether a call comes from a sender of a producer, which would wait for itself.

use std::cell::Cell;

thread_local! {
    /// The producer that this thread sends for, by its address.
    static SENDS_FOR: Cell<usize> = const { Cell::new(0) };
}

/// Returns the number by which a producer's senders and receipts know it.
pub(super) fn address_of<T>(producer: &T) -> usize {
    std::ptr::from_ref(producer).addr()
}

/// Makes the calling thread a sender of the producer at this address.
pub(super) fn send_for(address: usize) {
    SENDS_FOR.set(address);
}

/// Returns whether the calling thread is a sender of the producer at this address.
pub(super) fn sends_for(address: usize) -> bool {
    SENDS_FOR.get() == address
}
