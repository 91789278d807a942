//! How far readers may read a segment, and whether it will ever be further.

use super::sync::{AtomicBool, AtomicU64, Ordering};

/// The committed watermark of one segment, in bytes from its start.
///
/// One writer raises it, each time after the bytes below it are in place, and ends it after the next segment can be found.
/// Readers look at both words in the opposite order, so that one who sees the end has seen all that came before it.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Watermark {
    committed: AtomicU64,
    ended: AtomicBool,
}

/// What a reader saw of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Observed {
    /// All bytes below are committed.
    pub(crate) committed: u64,
    /// There will be no more.
    pub(crate) ended: bool,
}

impl Watermark {
    pub(crate) fn new(committed: u64, ended: bool) -> Self {
        Self { committed: AtomicU64::new(committed), ended: AtomicBool::new(ended) }
    }

    /// Lets readers see all bytes below `committed`, which the caller has written.
    #[inline]
    pub(crate) fn raise(&self, committed: u64) {
        self.committed.store(committed, Ordering::Release);
    }

    /// Says that `committed` is final.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// How far one may read now.
    #[inline]
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// How far one may read now, and whether that is all.
    #[inline]
    pub(crate) fn observe(&self) -> Observed {
        // The end first: were it read second, frames committed in between would be left behind at a roll.
        let ended = self.ended.load(Ordering::Acquire);
        Observed { committed: self.committed(), ended }
    }
}
