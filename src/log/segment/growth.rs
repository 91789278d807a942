//! Giving a segment blocks and pages: when it needs them, and ahead of a busy writer.

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
    /// Each put is synced before it returns.
    pub(crate) syncs_each: bool,
}

/// Blocks and pages to be prepared ahead of the writer, without its lock.
#[derive(Debug)]
pub(crate) struct Growth {
    pub(super) file: Arc<SegmentFile>,
    pub(super) pages: Range<u64>,
}

impl Growth {
    /// Prepares them; returns whether the segment still takes frames.
    pub(crate) fn carry_out(&self) -> Result<bool> {
        self.file.prepare(self.pages.clone())
    }
}

/// How far a segment is prepared ahead of its frames, and when it is time to go on.
#[derive(Debug)]
pub(super) struct Pace {
    /// How far the frames went, and when, at the time that blocks were given last.
    grown_end: u64,
    grown_at: Timestamp,
    /// Once the frames reach so far, it is time to prepare more ahead of them; `u64::MAX` once they have said so.
    ask_at: u64,
    /// Pages up to here were prepared.
    pub(super) prepared: u64,
}

impl Pace {
    /// That of a segment whose frames end at `end`, and which has blocks up to `allocated`.
    pub(super) fn new(end: u64, allocated: u64, at: Timestamp) -> Self {
        Self { grown_end: end, grown_at: at, ask_at: half_way(end, allocated), prepared: 0 }
    }

    /// That of a segment that was prepared up to `prepared`. Those before it came fast: the first frame asks for more.
    pub(super) fn of_prepared(prepared: u64, at: Timestamp) -> Self {
        Self { grown_end: FRAMES_FROM, grown_at: at, ask_at: FRAMES_FROM, prepared }
    }

    /// Notes that the segment got blocks up to `allocated`.
    pub(super) fn note_grown(&mut self, end: u64, allocated: u64, at: Timestamp) {
        (self.grown_end, self.grown_at, self.ask_at) = (end, at, half_way(end, allocated));
    }

    /// Whether the frames have come so far that more should be prepared ahead of them; says so once each time.
    #[inline]
    pub(super) fn asks(&mut self, end: u64) -> bool {
        let asks = end >= self.ask_at;
        if asks {
            self.ask_at = u64::MAX;
        }
        asks
    }

    /// Whether the frames have asked for more, and it pays. Pages pay where frames come fast; zeros that are written ahead pay unless they
    /// come so fast that the disk, which has to write twice as much, is better left to them.
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

    /// Notes that there is nothing to prepare now: the frames ask again when they have come some way.
    pub(super) fn rest(&mut self, end: u64, now: Timestamp) {
        if self.ask_at == u64::MAX {
            (self.grown_end, self.grown_at, self.ask_at) = (end, now, end + AHEAD_BYTES / 2);
        }
    }

    /// When the frames last got blocks.
    pub(super) fn grown_at(&self) -> Timestamp {
        self.grown_at
    }
}

/// Where frames that go from `end` on are when it is time to prepare more than is `allocated`.
fn half_way(end: u64, allocated: u64) -> u64 {
    end + allocated.saturating_sub(end) / 2
}

/// Maps a segment to write to it.
pub(super) fn map(file: &DataFile, capacity: u64, allocated: u64, committed: u64) -> Result<MapWriter> {
    let writer = Map::writable(file.std(), capacity, allocated, committed, FRAMES_FROM);
    writer.map_err(|error| file.error("map", error))
}

/// Gives a file blocks up to `needed` at least: a step more than it has, or, on a disk that has not so many, what is needed now.
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
