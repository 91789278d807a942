//! Giving a segment blocks and pages: when it needs them, and ahead of a busy writer.

use std::ops::Range;

use super::unsealed::SyncTarget;
use super::window::FRAMES_FROM;
use crate::log::sys::file::DataFile;
use crate::log::sys::map::{Map, MapWriter};
use crate::log::types::error::{Error, Result};
use crate::log::types::limits::GROWTH_BYTES_FIRST;

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
    pub(super) target: SyncTarget,
    pub(super) pages: Range<u64>,
}

impl Growth {
    /// Prepares them; tells whether the segment still takes frames.
    pub(crate) fn carry_out(&self) -> Result<bool> {
        let SyncTarget { window, file, syncs_each } = &self.target;
        let mut blocks = window.blocks.lock();
        // A segment that has ended may be sealed any moment: its blocks are given back then, and it must not get more.
        if window.map.observe().ended {
            return Ok(false);
        }
        // The writer may have taken more meanwhile, and may have frames there.
        let from = *blocks;
        if from < self.pages.end {
            file.allocate(from, self.pages.end)?;
            if *syncs_each {
                // A sync of bytes in blocks that were never written has to commit the file system's journal as well.
                file.write_zeros_past_cache(from, self.pages.end)?;
            }
            *blocks = self.pages.end;
        }
        // Not under the lock, which the writer may want. Where the segment is sealed meanwhile, there is nothing left to bring in.
        drop(blocks);
        if !syncs_each {
            window.map.populate(self.pages.clone());
        }
        Ok(true)
    }
}

/// Where frames that go from `end` on are when it is time to prepare more than is `allocated`.
pub(super) fn ahead_of(end: u64, allocated: u64) -> u64 {
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
