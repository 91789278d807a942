//! A segment that is prepared before it is needed: its blocks and pages are there when frames come.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::growth::{Writing, map};
use super::window::FRAMES_FROM;
use crate::format::header::SegmentHeader;
use crate::format::index::Index;
use crate::format::trailer::TRAILER_BYTES;
use crate::sys::dir;
use crate::sys::file::DataFile;
use crate::sys::map::{Map, MapWriter};
use crate::words::error::Result;
use crate::words::limits::AHEAD_BYTES;

/// The name that a prepared segment has until it is used. What is found under it when a stream is opened is removed.
const NAME: &str = "spare";

/// Where a shard's prepared segment is.
pub(crate) fn path_of(shard_dir: &Path) -> PathBuf {
    shard_dir.join(NAME)
}

/// A prepared segment; dropping it removes its file.
#[derive(Debug)]
pub(crate) struct Spare {
    parts: SpareParts,
    file_remover: FileRemover,
}

/// What a segment is made of.
#[derive(Debug)]
pub(super) struct SpareParts {
    pub(super) file: DataFile,
    pub(super) capacity: u64,
    pub(super) writer: MapWriter,
    pub(super) index: Index,
    /// Pages up to here were prepared.
    pub(super) prepared: u64,
}

/// Pages of a prepared segment that are to be brought in.
#[derive(Debug)]
pub(crate) struct SparePages {
    map: Arc<Map>,
    pages: Range<u64>,
}

impl SparePages {
    /// Brings them in.
    pub(crate) fn carry_out(&self) {
        self.map.populate(self.pages.clone());
    }

    pub(super) fn are_of(&self, map: &Arc<Map>) -> bool {
        Arc::ptr_eq(&self.map, map)
    }

    pub(super) fn end(&self) -> u64 {
        self.pages.end
    }
}

/// Removes a file when it is dropped.
#[derive(Debug)]
struct FileRemover {
    path: Option<PathBuf>,
}

impl Drop for FileRemover {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // What cannot be removed now is removed when the stream is opened again.
            let _ = dir::remove_file(path);
        }
    }
}

impl Spare {
    /// Prepares a segment, but for its pages.
    ///
    /// A file of its name that is there already is removed, and not written to: after a crash it may be a segment's second name.
    pub(crate) fn prepare(shard_dir: &Path, writing: Writing) -> Result<Self> {
        let path = path_of(shard_dir);
        dir::remove_file(&path)?;
        let file = DataFile::create(&path)?;
        let file_remover = FileRemover { path: Some(path) };
        let capacity = writing.segment_bytes;
        file.allocate(0, capacity)?;
        let writer = map(&file, capacity, capacity, FRAMES_FROM)?;
        let index = Index::with_room_for(capacity);
        let parts = SpareParts { file, capacity, writer, index, prepared: 0 };
        Ok(Self { parts, file_remover })
    }

    /// The pages to be brought in next, if fewer than so many bytes are there.
    pub(crate) fn pages(&self, wanted: u64) -> Option<SparePages> {
        let from = self.parts.prepared;
        let to = (from + AHEAD_BYTES).min(self.parts.capacity);
        (from < to.min(wanted))
            .then(|| SparePages { map: Arc::clone(self.parts.writer.map()), pages: from..to })
    }

    /// Notes that pages were brought in, if they are of this segment.
    pub(crate) fn note_prepared(&mut self, prepared: &SparePages) {
        if prepared.are_of(self.parts.writer.map()) {
            self.parts.prepared = prepared.end();
        }
    }

    /// Whether a frame of `len` bytes has room in it.
    pub(crate) fn has_room(&self, len: u64) -> bool {
        FRAMES_FROM + len + TRAILER_BYTES as u64 <= self.parts.capacity
    }

    /// Makes it the segment at `path`, which must not be there. On an error nothing is left of it.
    pub(super) fn into_parts(self, header: &SegmentHeader, path: &Path) -> Result<SpareParts> {
        let Self { mut parts, mut file_remover } = self;
        parts.file.write_all_at(&header.encode(), 0)?;
        parts.file.rename(path)?;
        file_remover.path = None;
        Ok(parts)
    }
}
