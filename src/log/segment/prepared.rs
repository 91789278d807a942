//! A segment that is prepared before it is needed: its blocks and pages are there when frames come.
//!
//! It is a new file, or, at less cost, one whose records were trimmed:
//! 1. Nobody has it open. It gets the name of a prepared segment; power loss may bring the old name back, and its file whole.
//! 2. The names in the directory are synced. From now on only the new name can be found, whose file the next opening removes.
//! 3. Its header page is overwritten with zeros, and synced: what it said of itself must not be found under its next name.
//! 4. What it lacks in blocks is given to it. The frames that it held stay: none of them has the salt that it gets with its next name.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::growth::{Writing, map};
use super::place::{ShardDir, base_of_name};
use crate::log::format::header::{FRAMES_FROM, SegmentHeader};
use crate::log::format::index::Index;
use crate::log::format::trailer::TRAILER_BYTES;
use crate::log::sys::dir;
use crate::log::sys::file::DataFile;
use crate::log::sys::map::{Map, MapWriter};
use crate::log::types::error::Result;
use crate::log::types::limits::AHEAD_BYTES;
use crate::log::types::sequence::SequenceNumber;

/// The name that a prepared segment has until it is used, and what is added to that of one which is filled again. What is found under
/// such a name when a stream is opened is removed.
const NAME: &str = "spare";

fn is_name(name: &str) -> bool {
    let is_of_segment = |name| base_of_name(name).is_some();
    name == NAME || name.strip_suffix(NAME).and_then(|name| name.strip_suffix('.')).is_some_and(is_of_segment)
}

/// Removes what a crash left of prepared segments.
pub(crate) fn remove_left(shard_dir: &ShardDir) -> Result<()> {
    let entries = dir::list(shard_dir.path())?;
    entries.iter().filter(|entry| is_name(&entry.name)).try_for_each(|entry| dir::remove_file(&entry.path))
}

/// A prepared segment; dropping it removes its file.
#[derive(Debug)]
pub(crate) struct Prepared {
    parts: PreparedParts,
    file_remover: FileRemover,
}

/// What a prepared segment is made of.
#[derive(Debug)]
pub(super) struct PreparedParts {
    pub(super) file: DataFile,
    pub(super) capacity: u64,
    pub(super) writer: MapWriter,
    pub(super) index: Index,
    /// Pages up to here were prepared.
    pub(super) prepared: u64,
}

/// Pages of a prepared segment that are to be brought in.
#[derive(Debug)]
pub(crate) struct PreparedPages {
    map: Arc<Map>,
    pages: Range<u64>,
}

impl PreparedPages {
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

impl Prepared {
    /// Prepares a new file, but for its pages.
    ///
    /// One of its name that is there already is removed, and not written to: after a crash it may be a segment's second name.
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

    /// Prepares the files of the trimmed segments that begin with `bases`, which nobody has open. One for which that fails, or would not
    /// pay, is removed.
    ///
    /// # Errors
    /// `Io` if the names in the directory could not be synced, those of other segments among them.
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
        // What cannot be prepared is left to the puts, which tell of it.
        let refill = |(file, file_remover)| Self::refill_one(file, file_remover, writing).ok();
        Ok(renamed.into_iter().filter_map(refill).collect())
    }

    fn refill_one(file: DataFile, file_remover: FileRemover, writing: Writing) -> Result<Self> {
        let len = file.len()?;
        // And where frames begin: until one does, nothing shall seem to stand there.
        file.write_all_at(&[0; 2 * FRAMES_FROM as usize], 0)?;
        if len < writing.segment_bytes {
            file.allocate(len, writing.segment_bytes)?;
            if writing.syncs_each {
                file.write_zeros_past_cache(len, writing.segment_bytes)?;
            }
        } else {
            // A full segment has its index behind it.
            file.set_len(writing.segment_bytes)?;
        }
        let prepared = Self::map(file, file_remover, writing)?;
        // No more than that page: what else is not on the disk yet need never be.
        let PreparedParts { file, writer, .. } = &prepared.parts;
        let synced = writer.map().sync_header(file.std(), file.path());
        synced.map_err(|error| file.error("sync the header of", error)).map(|()| prepared)
    }

    /// The pages to be brought in next, if fewer than so many bytes are there.
    pub(crate) fn pages(&self, wanted: u64) -> Option<PreparedPages> {
        let from = self.parts.prepared;
        let to = (from + AHEAD_BYTES).min(self.parts.capacity);
        (from < to.min(wanted))
            .then(|| PreparedPages { map: Arc::clone(self.parts.writer.map()), pages: from..to })
    }

    /// Notes that pages were brought in, if they are of this segment.
    pub(crate) fn note_prepared(&mut self, pages: &PreparedPages) {
        if pages.are_of(self.parts.writer.map()) {
            self.parts.prepared = pages.end();
        }
    }

    /// Whether a frame of `len` bytes has room in it.
    pub(crate) fn has_room(&self, len: u64) -> bool {
        FRAMES_FROM + len + TRAILER_BYTES as u64 <= self.parts.capacity
    }

    /// Makes it the segment at `path`, which must not be there. On an error nothing is left of it.
    pub(super) fn begin(self, header: &SegmentHeader, path: &Path) -> Result<PreparedParts> {
        let Self { mut parts, mut file_remover } = self;
        parts.file.write_all_at(&header.encode_page(), 0)?;
        parts.file.rename(path)?;
        file_remover.path = None;
        Ok(parts)
    }
}

/// Gives the file of a trimmed segment the name of a prepared one, unless filling it again does not pay or is not safe. Then it is removed
/// instead:
///
/// | condition | why |
/// |---|---|
/// | it has half the size of a segment at least | less would save too little |
/// | its pages are in memory, where frames are stored into them | they would have to be read first |
/// | it has no second name | whoever gave it that wants it as it is |
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
    let mut name = path.into_os_string();
    name.push(format!(".{NAME}"));
    let name = PathBuf::from(name);
    file.rename(&name)?;
    file_remover.path = Some(name);
    // Asked now: by the old name nobody can add one any more.
    Ok(if file.has_second_name()? { None } else { Some((file, file_remover)) })
}
