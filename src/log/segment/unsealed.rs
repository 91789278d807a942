//! Segments that take no more frames and wait to be sealed.

use std::sync::Arc;

use parking_lot::Mutex;

use super::file::SegmentFile;
use super::growth::map;
use super::place::SegmentPlace;
use super::window::Window;
use crate::log::format::header::SegmentHeader;
use crate::log::format::summary::{Indexed, Summary};
use crate::log::format::trailer::encode_end;
use crate::log::sys::file::DataFile;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;

/// A segment that takes no more frames and has no trailer yet.
#[derive(Debug)]
pub(crate) struct Unsealed {
    pub(crate) file: Arc<SegmentFile>,
    header: SegmentHeader,
    pub(crate) frames: Summary,
    /// Held by the thread that seals the segment.
    progress: Mutex<Progress>,
}

/// How far sealing a segment has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Waiting,
    Sealed,
    /// It must never be sealed.
    Left,
}

impl Unsealed {
    pub(super) fn new(file: Arc<SegmentFile>, header: SegmentHeader, frames: Summary) -> Self {
        Self { file, header, frames, progress: Mutex::default() }
    }

    /// Returns an unsealed segment that recovery found, with its whole frames.
    pub(crate) fn recovered(
        file: DataFile,
        place: SegmentPlace,
        header: SegmentHeader,
        good: Indexed,
    ) -> Result<Self> {
        let Indexed { frames, index } = good;
        let writer = map(&file, frames.end, frames.end, frames.end)?;
        writer.finish();
        let window = Window::of_written(Arc::clone(writer.map()), place, &header, index);
        let file = SegmentFile::new(file, window, false, frames.end);
        Ok(Self::new(Arc::new(file), header, frames))
    }

    /// Returns the sequence number of its first record.
    pub(crate) fn base(&self) -> SequenceNumber {
        self.file.window().place.base
    }

    /// Seals the segment: writes the index and the trailer, and frees unused blocks. Returns whether it is sealed, as opposed to left as it
    /// was.
    ///
    /// 1. The frames are synced. A crash before or after this leaves a segment without a trailer, which recovery scans.
    /// 2. The index and the trailer are written behind the frames, and the file is cut behind them. The trailer counts only at the very end
    ///    of the file, so a crash in between leaves the state after step 1.
    /// 3. The file is synced. From now on the segment is sealed, also after power loss.
    ///
    /// `StorageFull` leaves the segment as it was, to be sealed later. It stays readable.
    pub(crate) fn seal(&self) -> Result<bool> {
        let mut progress = self.progress.lock();
        if *progress != Progress::Waiting {
            return Ok(*progress == Progress::Sealed);
        }
        self.file.sync()?;
        let end = self.file.window().with_index(|index| encode_end(&self.header, self.frames, index))?;
        let (data, _blocks) = (self.file.data(), self.file.blocks());
        data.write_all_at(&end, self.frames.end)?;
        data.set_len(self.frames.end + end.len() as u64)?;
        data.sync()?;
        *progress = Progress::Sealed;
        Ok(true)
    }

    /// Waits for a seal in progress and prevents any later one. From then on the file may belong to somebody else.
    pub(crate) fn leave(&self) {
        *self.progress.lock() = Progress::Left;
    }
}
