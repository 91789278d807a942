//! A segment file that is written to: its blocks, and up to where it is synced.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::window::Window;
use crate::log::format::header::{COMMITTED_OFFSET, SYNCED_OFFSETS, encode_committed, encode_synced_slot};
use crate::log::sys::file::DataFile;
use crate::log::types::error::Result;

/// Where each put is synced, what is synced is noted once in so many syncs.
const SYNCS_OF_A_NOTE: u64 = 16;

/// A segment file that is written to, or waits to be sealed; shared by the writer and those who sync it, prepare it ahead, or seal it.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    file: DataFile,
    window: Arc<Window>,
    /// Each put is synced before it returns.
    syncs_each: bool,
    /// Up to where the file has blocks. Held by whoever gives it more or takes them back, so that nobody writes zeros over frames.
    blocks: Mutex<u64>,
    /// Held by whoever syncs the file.
    synced: Mutex<Synced>,
}

/// Up to where a file is synced, and what its header page says of that.
#[derive(Debug, Default)]
struct Synced {
    /// The bytes that survive power loss.
    bytes: u64,
    /// A sync failed: the next one may succeed without what that one lost.
    has_failed: bool,
    /// The bytes that the header page says are synced.
    noted_bytes: u64,
    /// How often the header page was told, and the syncs since.
    note_count: usize,
    syncs_since_note: u64,
}

impl SegmentFile {
    /// A file that has `blocks` bytes of blocks.
    pub(super) fn new(file: DataFile, window: Window, syncs_each: bool, blocks: u64) -> Self {
        Self {
            file,
            window: Arc::new(window),
            syncs_each,
            blocks: Mutex::new(blocks),
            synced: Mutex::default(),
        }
    }

    pub(crate) fn window(&self) -> &Arc<Window> {
        &self.window
    }

    pub(super) fn data(&self) -> &DataFile {
        &self.file
    }

    /// Up to where the file has blocks, for whoever changes that.
    pub(super) fn blocks(&self) -> MutexGuard<'_, u64> {
        self.blocks.lock()
    }

    /// Makes all frames that are committed now survive power loss; returns how far that is.
    ///
    /// What is synced is noted in the header page, for recovery to tell damage from a torn tail. The note itself reaches the disk
    /// with the next sync; until then the older one stands, which claims less. Where a sync follows each put, a note with each would
    /// cost up to a quarter of them: it is renewed with each [`SYNCS_OF_A_NOTE`]th, and with each pass of the maintenance.
    pub(crate) fn sync(&self) -> Result<u64> {
        let mut synced = self.synced.lock();
        let committed = self.window.committed();
        if synced.bytes < committed {
            if synced.has_failed {
                return Err(self.file.error("sync", io::Error::other("an earlier sync of it failed")));
            }
            let flushed = self.window.map().flush().map_err(|error| self.file.error("sync", error));
            flushed.and_then(|()| self.file.sync()).inspect_err(|_| synced.has_failed = true)?;
            synced.bytes = committed;
            synced.syncs_since_note += 1;
        }
        let is_due =
            !self.syncs_each || synced.noted_bytes == 0 || synced.syncs_since_note >= SYNCS_OF_A_NOTE;
        if is_due {
            self.note(&mut synced);
        }
        Ok(committed)
    }

    /// Renews the note of what is synced.
    pub(crate) fn note_synced(&self) {
        self.note(&mut self.synced.lock());
    }

    fn note(&self, synced: &mut Synced) {
        if synced.noted_bytes >= synced.bytes {
            return;
        }
        let offset = SYNCED_OFFSETS[synced.note_count % SYNCED_OFFSETS.len()];
        let map = self.window.map();
        for (at, word) in encode_synced_slot(synced.bytes).as_chunks().0.iter().enumerate() {
            map.store_live_word(offset + at * 8, *word);
        }
        map.store_live_word(COMMITTED_OFFSET, encode_committed(map.committed()));
        (synced.noted_bytes, synced.syncs_since_note) = (synced.bytes, 0);
        synced.note_count += 1;
    }

    /// Prepares pages ahead of the writer, without its lock; returns whether the segment still takes frames.
    pub(super) fn prepare(&self, pages: Range<u64>) -> Result<bool> {
        let mut blocks = self.blocks.lock();
        // A segment that has ended may be sealed any moment: its blocks are given back then, and it must not get more.
        if self.window.observe().ended {
            return Ok(false);
        }
        // The writer may have taken more meanwhile, and may have frames there.
        let from = *blocks;
        if from < pages.end {
            self.file.allocate(from, pages.end)?;
            if self.syncs_each {
                // A sync of bytes in blocks that were never written has to commit the file system's journal as well.
                self.file.write_zeros_past_cache(from, pages.end)?;
            }
            *blocks = pages.end;
        }
        // Not under the lock, which the writer may want. Where the segment is sealed meanwhile, there is nothing left to bring in.
        drop(blocks);
        if !self.syncs_each {
            self.window.map().populate(pages);
        }
        Ok(true)
    }
}
