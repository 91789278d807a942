//! Giving a segment blocks and pages, both on demand and ahead of a busy writer.

use std::ops::Range;
use std::sync::Arc;

use super::file::SegmentFile;
use crate::log::format::header::FRAMES_FROM;
use crate::log::sys::file::DataFile;
use crate::log::sys::map::{Map, MapWriter};
use crate::log::types::error::{Error, Result};
use crate::log::types::limits::{
    AHEAD_BYTES, BUSY_BYTES_PER_SECOND, GROWTH_BYTES_FIRST, ZEROED_BYTES_PER_SECOND_MAX,
};
use crate::log::types::time::Timestamp;

/// How the segments of a shard are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writing {
    /// The size at which a segment is full.
    pub(crate) segment_bytes: u64,
    /// Whether each put is synced before it returns.
    pub(crate) syncs_each: bool,
}

/// Blocks and pages to prepare ahead of the writer, without its lock.
#[derive(Debug)]
pub(crate) struct Growth {
    pub(super) file: Arc<SegmentFile>,
    pub(super) pages: Range<u64>,
}

impl Growth {
    /// Prepares the blocks and pages. Returns whether the segment still takes frames.
    pub(crate) fn carry_out(&self) -> Result<bool> {
        self.file.prepare(self.pages.clone())
    }
}

/// How far a segment is prepared ahead of its frames, and when to continue.
#[derive(Debug)]
pub(super) struct Pace {
    /// The end of the frames, and the time, when blocks were last added.
    grown_end: u64,
    grown_at: Timestamp,
    /// The end of the frames at which more should be prepared; `u64::MAX` once `asks` has returned `true`.
    ask_at: u64,
    /// How far pages were prepared.
    pub(super) prepared: u64,
}

impl Pace {
    /// Returns the pace of a segment whose frames end at `end` and which has blocks up to `allocated`.
    pub(super) fn new(end: u64, allocated: u64, at: Timestamp) -> Self {
        Self { grown_end: end, grown_at: at, ask_at: half_way(end, allocated), prepared: 0 }
    }

    /// Returns the pace of a segment that was prepared up to `prepared`. The frames of the previous segment came fast, so the first frame
    /// asks for more.
    pub(super) fn of_prepared(prepared: u64, at: Timestamp) -> Self {
        Self { grown_end: FRAMES_FROM, grown_at: at, ask_at: FRAMES_FROM, prepared }
    }

    /// Records that the segment got blocks up to `allocated`.
    pub(super) fn note_grown(&mut self, end: u64, allocated: u64, at: Timestamp) {
        (self.grown_end, self.grown_at, self.ask_at) = (end, at, half_way(end, allocated));
    }

    /// Returns whether the frames have come so far that more should be prepared ahead of them. Returns `true` only once each time.
    #[inline]
    pub(super) fn asks(&mut self, end: u64) -> bool {
        let asks = end >= self.ask_at;
        if asks {
            self.ask_at = u64::MAX;
        }
        asks
    }

    /// Returns whether the frames have asked for more and preparing it pays. Pages pay where frames come fast. Zeros written ahead pay
    /// unless frames come so fast that the disk, which then writes twice as much, has no bandwidth to spare.
    pub(super) fn is_busy(&self, end: u64, now: Timestamp, syncs_each: bool) -> bool {
        let micros = now.as_micros().saturating_sub(self.grown_at.as_micros());
        let bytes = end - self.grown_end;
        let is_at = |rate| bytes.saturating_mul(1_000_000) >= micros.saturating_mul(rate);
        let pays = match syncs_each {
            true => !is_at(ZEROED_BYTES_PER_SECOND_MAX),
            false => is_at(BUSY_BYTES_PER_SECOND),
        };
        self.ask_at == u64::MAX && pays
    }

    /// Records that nothing has to be prepared now. The frames ask again after some distance.
    pub(super) fn rest(&mut self, end: u64, now: Timestamp) {
        if self.ask_at == u64::MAX {
            (self.grown_end, self.grown_at, self.ask_at) = (end, now, end + AHEAD_BYTES / 2);
        }
    }

    /// Returns when the segment last got blocks.
    pub(super) fn grown_at(&self) -> Timestamp {
        self.grown_at
    }
}

/// Returns the point half way from `end` to `allocated`, at which more should be prepared.
fn half_way(end: u64, allocated: u64) -> u64 {
    end + allocated.saturating_sub(end) / 2
}

/// Maps a segment for writing.
pub(super) fn map(file: &DataFile, capacity: u64, allocated: u64, committed: u64) -> Result<MapWriter> {
    let writer = Map::writable(file.std(), capacity, allocated, committed, FRAMES_FROM);
    writer.map_err(|error| file.error("map", error))
}

/// Allocates blocks of a file up to at least `needed`: a whole step or, if the disk has too little room for that, only what is needed now.
pub(super) fn allocate(
    file: &DataFile,
    allocated: u64,
    needed: u64,
    step_max: u64,
    capacity: u64,
) -> Result<u64> {
    const PAGE_BYTES: u64 = 4096;
    let step = allocated.clamp(GROWTH_BYTES_FIRST, step_max);
    let needed = needed.next_multiple_of(PAGE_BYTES).min(capacity);
    let wanted = (allocated + step).next_multiple_of(PAGE_BYTES).max(needed).min(capacity);
    match file.allocate(allocated, wanted) {
        Err(Error::StorageFull(_)) if needed < wanted => file.allocate(allocated, needed).map(|()| needed),
        outcome => outcome.map(|()| wanted),
    }
}
