//! A prepared segment: a file whose blocks and pages are ready before frames come.
//!
//! It is a new file or, at less cost, the refilled file of a trimmed segment, which nobody has open. A refill has four steps:
//! 1. The file gets the name of a prepared segment. Power loss may bring back the old name, with the whole file.
//! 2. The directory is synced. From now on only the new name can be found, and the next opening removes a file of that name.
//! 3. The header page is overwritten with zeros and synced. Otherwise the old header could be found under the file's next name.
//! 4. The missing blocks are allocated. The old frames stay: none of them has the salt that the file gets with its next name.

use std::ops::Range;
use std::sync::{Arc, Weak};

use super::growth::{Writing, map};
use super::place::{ShardDir, base_of_name};
use crate::log::format::header::{FRAMES_FROM, SegmentHeader};
use crate::log::format::index::Index;
use crate::log::format::trailer::TRAILER_BYTES;
use crate::log::sys::dir;
use crate::log::sys::file::DataFile;
use crate::log::sys::map::{Map, MapWriter};
use crate::log::sys::root::OwnPath;
use crate::log::types::error::Result;
use crate::log::types::limits::AHEAD_BYTES;
use crate::log::types::sequence::SequenceNumber;

/// The name of a prepared segment until it is used; a refilled one has it as a suffix. Opening a stream removes files with such names.
const NAME: &str = "spare";

fn is_name(name: &str) -> bool {
    let is_of_segment = |name| base_of_name(name).is_some();
    name == NAME || name.strip_suffix(NAME).and_then(|name| name.strip_suffix('.')).is_some_and(is_of_segment)
}

/// Removes the prepared segments that a crash left.
pub(crate) fn remove_left(shard_dir: &ShardDir) -> Result<()> {
    let entries = dir::list(shard_dir.path())?;
    entries.iter().filter(|entry| is_name(&entry.name)).try_for_each(|entry| dir::remove_file(&entry.path))
}

/// A prepared segment. Dropping it removes its file.
#[derive(Debug)]
pub(crate) struct Prepared {
    parts: PreparedParts,
    file_remover: FileRemover,
}

/// The parts of a prepared segment.
#[derive(Debug)]
pub(super) struct PreparedParts {
    pub(super) file: DataFile,
    pub(super) capacity: u64,
    pub(super) writer: MapWriter,
    pub(super) index: Index,
    /// How far pages were prepared.
    pub(super) prepared: u64,
}

/// Pages of a prepared segment to bring in. It does not keep the segment: a file that is still mapped keeps its blocks after it was removed.
#[derive(Debug)]
pub(crate) struct PreparedPages {
    map: Weak<Map>,
    pages: Range<u64>,
}

impl PreparedPages {
    /// Brings the pages in, unless the segment was given up. Until this returns, the segment's blocks cannot be freed.
    pub(crate) fn carry_out(&self) {
        if let Some(map) = self.map.upgrade() {
            map.populate(self.pages.clone());
        }
    }

    /// Returns whether nothing keeps the blocks of a segment that was given up.
    #[cfg(test)]
    pub(crate) fn are_gone(&self) -> bool {
        self.map.strong_count() == 0
    }

    pub(super) fn are_of(&self, map: &Arc<Map>) -> bool {
        std::ptr::eq(self.map.as_ptr(), Arc::as_ptr(map))
    }

    pub(super) fn end(&self) -> u64 {
        self.pages.end
    }
}

/// Removes a file on drop.
#[derive(Debug)]
struct FileRemover {
    path: Option<OwnPath>,
}

impl Drop for FileRemover {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // A file that cannot be removed now is removed when the stream is opened again.
            let _ = dir::remove_file(path);
        }
    }
}

impl Prepared {
    /// Prepares a new file, except for its pages.
    ///
    /// An existing file of that name is removed and not written to: after a crash it may be a segment's second name.
    pub(crate) fn create(shard_dir: &ShardDir, writing: Writing) -> Result<Self> {
        let path = shard_dir.path().join(NAME);
        dir::remove_file(&path)?;
        let file = DataFile::create(&path)?;
        let file_remover = FileRemover { path: Some(path) };
        file.allocate(0, writing.segment_bytes)?;
        Self::map(file, file_remover, writing)
    }

    fn map(file: DataFile, file_remover: FileRemover, writing: Writing) -> Result<Self> {
        let capacity = writing.segment_bytes;
        let writer = map(&file, capacity, capacity, FRAMES_FROM)?;
        let parts =
            PreparedParts { file, capacity, writer, index: Index::with_room_for(capacity), prepared: 0 };
        Ok(Self { parts, file_remover })
    }

    /// Prepares the files of the trimmed segments that begin with `bases`, which nobody has open. Removes a file if preparing it fails or
    /// would not pay.
    ///
    /// # Errors
    /// `Io` if the names in the directory could not be synced, including those of other segments.
    pub(crate) fn refill(
        shard_dir: &ShardDir,
        bases: &[SequenceNumber],
        writing: Writing,
    ) -> Result<Vec<Self>> {
        let rename = |&base| rename_trimmed(shard_dir, base, writing).ok().flatten();
        let renamed: Vec<_> = bases.iter().filter_map(rename).collect();
        if renamed.is_empty() {
            return Ok(vec![]);
        }
        shard_dir.sync()?;
        // If a file cannot be prepared, the puts do without it and report their own errors.
        let refill = |(file, file_remover)| Self::refill_one(file, file_remover, writing).ok();
        Ok(renamed.into_iter().filter_map(refill).collect())
    }

    fn refill_one(file: DataFile, file_remover: FileRemover, writing: Writing) -> Result<Self> {
        let len = file.len()?;
        // Zeros also where frames begin: until a frame is written, nothing may look like one there.
        file.write_all_at(&[0; 2 * FRAMES_FROM as usize], 0)?;
        if len < writing.segment_bytes {
            file.allocate(len, writing.segment_bytes)?;
            if writing.syncs_each {
                file.write_zeros_past_cache(len, writing.segment_bytes)?;
            }
        } else {
            // A full segment has its index behind that size.
            file.set_len(writing.segment_bytes)?;
        }
        let prepared = Self::map(file, file_remover, writing)?;
        // Only the header page. The other unwritten pages never need to reach the disk.
        let PreparedParts { file, writer, .. } = &prepared.parts;
        let synced = writer.map().sync_header(file.std(), file.path());
        synced.map_err(|error| file.error("sync the header of", error)).map(|()| prepared)
    }

    /// Returns the pages to bring in next, if fewer than `wanted` bytes are prepared.
    pub(crate) fn pages(&self, wanted: u64) -> Option<PreparedPages> {
        let from = self.parts.prepared;
        let to = (from + AHEAD_BYTES).min(self.parts.capacity);
        (from < to.min(wanted))
            .then(|| PreparedPages { map: Arc::downgrade(self.parts.writer.map()), pages: from..to })
    }

    /// Records that pages were brought in, if they belong to this segment.
    pub(crate) fn note_prepared(&mut self, pages: &PreparedPages) {
        if pages.are_of(self.parts.writer.map()) {
            self.parts.prepared = pages.end();
        }
    }

    /// Returns whether the segment has room for a frame of `len` bytes.
    pub(crate) fn has_room(&self, len: u64) -> bool {
        FRAMES_FROM + len + TRAILER_BYTES as u64 <= self.parts.capacity
    }

    /// Makes it the segment at `path`, which must not exist. On an error, no file is left behind.
    pub(super) fn begin(self, header: &SegmentHeader, path: &OwnPath) -> Result<PreparedParts> {
        let Self { mut parts, mut file_remover } = self;
        parts.file.write_all_at(&header.encode_page(), 0)?;
        parts.file.rename(path)?;
        file_remover.path = None;
        Ok(parts)
    }
}

/// Gives the file of a trimmed segment the name of a prepared one. Removes the file instead unless all conditions for a refill hold:
///
/// | condition | why |
/// |---|---|
/// | it is at least half as large as a segment | less would save too little |
/// | its pages are in memory, unless each put is synced | stores into them would have to read them first |
/// | it has no second name | whoever gave it that name wants the file unchanged |
/// | no other process has it open | its reader would see the bytes change |
fn rename_trimmed(
    shard_dir: &ShardDir,
    base: SequenceNumber,
    writing: Writing,
) -> Result<Option<(DataFile, FileRemover)>> {
    let path = shard_dir.segment_path(base);
    let mut file_remover = FileRemover { path: Some(path.clone()) };
    let mut file = DataFile::open_writable(&path)?;
    let len = file.len()?;
    if len < writing.segment_bytes / 2 || !(writing.syncs_each || file.is_in_memory(len)) {
        return Ok(None);
    }
    let name = path.with_suffix(&format!(".{NAME}"));
    file.rename(&name)?;
    file_remover.path = Some(name);
    // Checked after the rename: nobody can add a name through the old one any more, and a reader that has opened the file by it checks the
    // name after it has locked the file.
    let is_ours = !file.has_second_name()? && file.is_unshared()?;
    Ok(is_ours.then_some((file, file_remover)))
}
