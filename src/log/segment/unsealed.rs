//! Segments that take no more frames and wait to be sealed.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::log::format::checksum::checksum;
use crate::log::format::header::SegmentHeader;
use crate::log::format::trailer::Trailer;
use crate::log::segment::window::Window;
use crate::log::sys::file::DataFile;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// Where each put is synced, what is synced is noted once in so many syncs.
const SYNCS_OF_A_NOTE: u64 = 16;

/// What syncing needs of a segment whose frames may not be on the disk yet.
#[derive(Debug, Clone)]
pub(crate) struct SyncTarget {
    pub(crate) window: Arc<Window>,
    pub(crate) file: Arc<DataFile>,
    /// Each put is synced before it returns.
    pub(crate) syncs_each: bool,
}

impl SyncTarget {
    /// Makes all frames that are committed now survive power loss; tells how far that is.
    ///
    /// What is synced is noted in the header page, for recovery to tell damage from a torn tail. The note itself reaches the disk
    /// with the next sync; until then the older one stands, which claims less. Where a sync follows each put, a note with each would
    /// cost up to a quarter of them: it is renewed with each [`SYNCS_OF_A_NOTE`]th, and with each pass of the maintenance.
    pub(crate) fn sync(&self) -> Result<u64> {
        let map = &self.window.map;
        let mut has_failed = self.window.has_failed_sync.lock();
        let committed = map.committed();
        if self.window.synced() < committed {
            if *has_failed {
                return Err(self.file.error("sync", io::Error::other("an earlier sync of it failed")));
            }
            let flushed = map.flush().map_err(|error| self.file.error("sync", error));
            flushed.and_then(|()| self.file.sync()).inspect_err(|_| *has_failed = true)?;
            self.window.set_synced(committed);
        }
        if self.window.is_note_behind_by(if self.syncs_each { SYNCS_OF_A_NOTE } else { 0 }) {
            self.window.note_synced();
        }
        Ok(committed)
    }

    /// Renews the note of what is synced.
    pub(crate) fn note(&self) {
        if self.window.is_note_behind() {
            self.window.note_synced();
        }
    }
}

/// A segment that takes no more frames and has no trailer yet.
#[derive(Debug)]
pub(crate) struct Unsealed {
    pub(crate) target: SyncTarget,
    pub(crate) header: SegmentHeader,
    pub(crate) end_sequence: SequenceNumber,
    pub(crate) first_timestamp: Timestamp,
    pub(crate) last_timestamp: Timestamp,
    /// Held by whoever seals it.
    pub(crate) progress: Mutex<Progress>,
}

/// How far sealing a segment is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Progress {
    #[default]
    Waiting,
    Sealed,
    /// It stays as it is.
    Left,
}

impl Unsealed {
    /// Seals the segment: gives it index and trailer, and gives back the blocks it does not need. Tells whether it is sealed now, and not
    /// left as it was.
    ///
    /// 1. The frames are synced. A crash before or after leaves a segment without a trailer, which recovery scans.
    /// 2. Index and trailer are written behind the frames, and the file is cut behind them. The trailer counts only at the very end
    ///    of the file, so a crash in between leaves step 1.
    /// 3. The file is synced. From now on the segment is sealed, also after power loss.
    ///
    /// `StorageFull` leaves the segment as it was, to be sealed later; it can be read meanwhile.
    pub(crate) fn seal(&self) -> Result<bool> {
        let mut progress = self.progress.lock();
        if *progress != Progress::Waiting {
            return Ok(*progress == Progress::Sealed);
        }
        let file = &self.target.file;
        let frames_end = self.target.sync()?;
        let (index, index_count) = self.target.window.with_index(|index| (index.encode(), index.len()))?;
        let trailer = Trailer {
            frames_end,
            index_count: index_count as u32,
            index_checksum: checksum(&index),
            end_sequence: self.end_sequence.get(),
            first_timestamp_micros: self.first_timestamp.as_micros(),
            last_timestamp_micros: self.last_timestamp.as_micros(),
        };
        let end = [&index[..], &trailer.encode(&self.header)].concat();
        let _blocks = self.target.window.blocks.lock();
        file.write_all_at(&end, frames_end)?;
        file.set_len(frames_end + end.len() as u64)?;
        file.sync()?;
        *progress = Progress::Sealed;
        Ok(true)
    }

    /// Leaves the segment as it is, once whoever seals it just now is done: its file may be somebody else's from now on.
    pub(crate) fn leave(&self) {
        *self.progress.lock() = Progress::Left;
    }
}
