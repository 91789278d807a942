//! A segment file that is written to: its blocks, and how far it is synced.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::window::Window;
use crate::log::format::header::{COMMITTED_OFFSET, SYNCED_OFFSETS, encode_committed, encode_synced_slot};
use crate::log::sys::file::DataFile;
use crate::log::types::error::Result;

/// Where each put is synced, the synced watermark is noted once in this many syncs.
const SYNCS_OF_A_NOTE: u64 = 16;

/// A segment file that is written to or waits to be sealed. The writer shares it with the threads that sync it, prepare it ahead, or seal
/// it.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    file: DataFile,
    window: Arc<Window>,
    /// Whether each put is synced before it returns.
    syncs_each: bool,
    /// How far the file has blocks. Held by the thread that adds or frees blocks, so that nobody writes zeros over frames.
    blocks: Mutex<u64>,
    /// Held by the thread that syncs the file.
    synced: Mutex<Synced>,
}

/// How far a file is synced, and how far its header page says so.
#[derive(Debug, Default)]
struct Synced {
    /// The bytes that survive power loss.
    bytes: u64,
    /// Whether a sync has failed. A later sync may succeed without the data that the failed one lost.
    has_failed: bool,
    /// The bytes that the header page says are synced.
    noted_bytes: u64,
    /// How many notes were written to the header page, and how many syncs followed the last one.
    note_count: usize,
    syncs_since_note: u64,
}

impl SegmentFile {
    /// Returns a file that has `blocks` bytes of blocks.
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

    /// Returns how far the file has blocks, and locks it for a change.
    pub(super) fn blocks(&self) -> MutexGuard<'_, u64> {
        self.blocks.lock()
    }

    /// Makes all frames that are committed now survive power loss. Returns the committed watermark that it covered.
    ///
    /// It notes the synced watermark in the header page, from which recovery can tell damage from a torn tail. The note reaches the disk
    /// with the next sync. Until then the older note is there, which claims less. Where each put is synced, a note with each sync would
    /// cost up to a quarter of the puts. There the note is renewed with the first sync, with each [`SYNCS_OF_A_NOTE`]th, and with each
    /// maintenance pass.
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

    /// Fails like a failed sync if the file was removed.
    pub(crate) fn check_not_removed(&self) -> Result<()> {
        self.file.check_not_removed()
    }

    /// Renews the note of the synced watermark.
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

    /// Prepares pages ahead of the writer, without its lock. Returns whether the segment still takes frames.
    pub(super) fn prepare(&self, pages: Range<u64>) -> Result<bool> {
        let mut blocks = self.blocks.lock();
        // A segment that has ended may be sealed at any moment. Sealing frees its blocks, and it must not get new ones after that.
        if self.window.observe().ended {
            return Ok(false);
        }
        // The writer may have allocated more since, and may have put frames there.
        let from = *blocks;
        if from < pages.end {
            self.file.allocate(from, pages.end)?;
            if self.syncs_each {
                // A sync of bytes in blocks that were never written also has to commit the file system's journal.
                self.file.write_zeros_past_cache(from, pages.end)?;
            }
            *blocks = pages.end;
        }
        // Without the lock, which the writer may need. If the segment is sealed in between, no pages are left to bring in.
        drop(blocks);
        if !self.syncs_each {
            self.window.map().populate(pages);
        }
        Ok(true)
    }
}
