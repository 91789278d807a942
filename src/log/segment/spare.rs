//! A segment that is prepared before it is needed: its blocks and pages are there when frames come.
//!
//! It is a new file, or, at less cost, one whose records were trimmed:
//! 1. Nobody has it open. It gets the name of a prepared segment; power loss may bring the old name back, and its file whole.
//! 2. The names in the directory are synced. From now on only the new name can be found, whose file the next opening removes.
//! 3. Its header page is overwritten with zeros, and synced: what it said of itself must not be found under its next name.
//! 4. What it lacks in blocks is given to it. The frames that it held stay; see [`Spare::again`].

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::growth::{Writing, map};
use super::window::FRAMES_FROM;
use super::{base_of_name, path_in, sealed};
use crate::log::format::header::SegmentHeader;
use crate::log::format::index::Index;
use crate::log::format::trailer::TRAILER_BYTES;
use crate::log::sys::dir;
use crate::log::sys::file::DataFile;
use crate::log::sys::map::{Map, MapWriter};
use crate::log::types::error::Result;
use crate::log::types::limits::AHEAD_BYTES;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// The name that a prepared segment has until it is used, and what is added to that of one which is used again. What is found under
/// such a name when a stream is opened is removed.
const NAME: &str = "spare";

fn is_name(name: &str) -> bool {
    let is_of_segment = |name| base_of_name(name).is_some();
    name == NAME || name.strip_suffix(NAME).and_then(|name| name.strip_suffix('.')).is_some_and(is_of_segment)
}

/// Removes what a crash left of prepared segments.
pub(crate) fn remove_left(shard_dir: &Path) -> Result<()> {
    let entries = dir::list(shard_dir)?;
    entries.iter().filter(|entry| is_name(&entry.name)).try_for_each(|entry| dir::remove_file(&entry.path))
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
        let path = shard_dir.join(NAME);
        dir::remove_file(&path)?;
        let file = DataFile::create(&path)?;
        let file_remover = FileRemover { path: Some(path) };
        file.allocate(0, writing.segment_bytes)?;
        Self::with(file, file_remover, writing)
    }

    fn with(file: DataFile, file_remover: FileRemover, writing: Writing) -> Result<Self> {
        let capacity = writing.segment_bytes;
        let writer = map(&file, capacity, capacity, FRAMES_FROM)?;
        let parts = SpareParts { file, capacity, writer, index: Index::with_room_for(capacity), prepared: 0 };
        Ok(Self { parts, file_remover })
    }

    /// Prepares segments of the trimmed ones that begin with `bases`, which nobody has open. A file for which that fails, or would not
    /// pay, is removed.
    ///
    /// The frames that such a file holds are no danger to those that will be put there: a frame counts where one with its sequence
    /// number is expected, and all numbers to come are higher.
    ///
    /// # Errors
    /// `Io` if the names in the directory could not be synced, those of other segments among them.
    pub(crate) fn again(
        shard_dir: &Path,
        (shard, bases): (ShardId, &[SequenceNumber]),
        writing: Writing,
    ) -> Result<Vec<Self>> {
        let rename = |&base| rename_trimmed(shard_dir, (shard, base), writing).ok().flatten();
        let renamed: Vec<_> = bases.iter().filter_map(rename).collect();
        if renamed.is_empty() {
            return Ok(vec![]);
        }
        dir::sync(shard_dir)?;
        // What cannot be prepared is left to the puts, which tell of it.
        let of = |(file, file_remover)| Self::of_trimmed(file, file_remover, writing).ok();
        Ok(renamed.into_iter().filter_map(of).collect())
    }

    fn of_trimmed(file: DataFile, file_remover: FileRemover, writing: Writing) -> Result<Self> {
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
        let spare = Self::with(file, file_remover, writing)?;
        // No more than that page: what else is not on the disk yet need never be.
        let SpareParts { file, writer, .. } = &spare.parts;
        let synced = writer.map().sync_header(file.std(), file.path());
        synced.map_err(|error| file.error("sync the header of", error)).map(|()| spare)
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

/// Gives the file of a trimmed segment the name of a prepared one. Removes it instead if using it again does not pay, or is not safe: one
/// of another size, one with a second name, whose owner wants it as it is, and, where frames are stored into pages, one whose pages
/// would have to be read first.
fn rename_trimmed(
    shard_dir: &Path,
    (shard, base): (ShardId, SequenceNumber),
    writing: Writing,
) -> Result<Option<(DataFile, FileRemover)>> {
    let path = path_in(shard_dir, base);
    let mut file_remover = FileRemover { path: Some(path.clone()) };
    let mut file = DataFile::open_writable(&path)?;
    let len = file.len()?;
    // One that is longer is cut, and no record may then stand where a trailer is looked for.
    let has_size = match len.checked_sub(writing.segment_bytes) {
        None | Some(0) => len >= writing.segment_bytes / 2,
        Some(_) => {
            let header = sealed::read_header(&file, shard, base)?.0;
            let trailer = header.map_or(Ok(None), |header| sealed::read_trailer(&file, &header))?;
            trailer.is_some_and(|it| it.frames_end + TRAILER_BYTES as u64 <= writing.segment_bytes)
        }
    };
    if !has_size || !(writing.syncs_each || file.is_in_memory(len)) {
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
