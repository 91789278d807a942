//! How far readers may read a segment, and whether that is final.

use super::sync::{AtomicBool, AtomicU64, Ordering};

/// The committed watermark of one segment, in bytes from its start.
///
/// One writer raises `committed` after the bytes below it are in place, and sets `ended` after the next segment can be found. Readers load
/// `ended` first and `committed` second, so a reader that sees the end has seen every frame committed before it. In the other order it
/// would skip frames that were committed between the two loads.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Watermark {
    committed: AtomicU64,
    ended: AtomicBool,
}

/// A reader's view of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Observed {
    /// All bytes below are committed.
    pub(crate) committed: u64,
    /// Whether `committed` is final.
    pub(crate) ended: bool,
}

impl Watermark {
    pub(crate) fn new(committed: u64, ended: bool) -> Self {
        Self { committed: AtomicU64::new(committed), ended: AtomicBool::new(ended) }
    }

    /// Makes all bytes below `committed` visible to readers. The caller must have written them.
    #[inline]
    pub(crate) fn raise(&self, committed: u64) {
        self.committed.store(committed, Ordering::Release);
    }

    /// Makes all bytes below `committed` visible to readers, unless more are. For threads that learn of them from another process.
    pub(crate) fn raise_to(&self, committed: u64) {
        self.committed.fetch_max(committed, Ordering::AcqRel);
    }

    /// Marks `committed` as final.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Returns how far readers may read now.
    #[inline]
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Returns how far readers may read now, and whether that is final.
    #[inline]
    pub(crate) fn observe(&self) -> Observed {
        // `ended` must be loaded first: otherwise frames committed between the two loads would be skipped at a roll.
        let ended = self.ended.load(Ordering::Acquire);
        Observed { committed: self.committed(), ended }
    }
}
