//! The directory that a snapshot is taken into, what it holds, and the change from one snapshot to the next.

use std::path::Path;

use crate::log::format::header::FRAMES_FROM;
use crate::log::format::salt::Salt;
use crate::log::format::walk::{Depth, FrameWalk};
use crate::log::live::publish;
use crate::log::manifest::{self, Manifest};
use crate::log::segment::place::{SegmentPlace, ShardDir};
use crate::log::segment::stored;
use crate::log::sys::copy::copy_bytes;
use crate::log::sys::dir;
use crate::log::sys::file::DataFile;
use crate::log::sys::map::Map;
use crate::log::sys::root::OwnPath;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// The directory in which the next snapshot is built. Once it has a manifest, it is complete.
pub(crate) const UNFINISHED_NAME: &str = "snapshot.unfinished";
/// The manifest as the snapshot wrote it.
pub(super) const HELD_NAME: &str = "snapshot.json";

/// Returns whether a directory without a manifest holds a snapshot that is not complete.
pub(crate) fn is_unfinished(root: &OwnPath) -> Result<bool> {
    root.join(UNFINISHED_NAME).is_own_dir()
}

/// Finishes the change to a snapshot that is complete, if a crash has interrupted it. The directory must be locked.
pub(crate) fn finish_if_interrupted(root: &OwnPath) -> Result<()> {
    let is_other = Manifest::exists_in(root)? || dir::exists(&root.join(manifest::SET_ASIDE_NAME))?;
    if is_other || !is_unfinished(root)? || !Manifest::exists_in(&root.join(UNFINISHED_NAME))? {
        return Ok(());
    }
    finish(root)
}

/// Replaces the last snapshot with the complete one, which stays whole until the end. After a crash, another call does the rest.
///
/// 1. The manifest of the last snapshot is removed, durably. From now on the new one counts.
/// 2. The names of the new one are added, and those that it does not have are removed. A file that is in both stays.
/// 3. All names are synced, then the new manifest is written.
/// 4. The second names are removed.
pub(super) fn finish(root: &OwnPath) -> Result<()> {
    let new = root.join(UNFINISHED_NAME);
    let manifest = Manifest::load(&new)?;
    // What the last opening of the snapshot has shown is no longer valid.
    publish::withdraw(root)?;
    dir::remove_file(&manifest::path_in(root))?;
    dir::sync(root)?;
    for entry in dir::list(&new)? {
        match entry.path.file_name() {
            Some(name) if name != manifest::FILE_NAME => take_over(&entry.path, &root.join(name))?,
            _ => {}
        }
    }
    dir::sync(root)?;
    manifest.store(root)?;
    remove_left(root);
    Ok(())
}

/// Puts a file or a directory in its place.
fn take_over(new: &OwnPath, place: &OwnPath) -> Result<()> {
    let is_dir = new.is_dir_itself()?;
    let is_same = match (new.file_id()?, place.file_id()?) {
        (Some(new), Some(there)) => new.is_same_file(&there),
        _ => false,
    };
    if is_same {
        return Ok(());
    }
    if is_dir != place.is_dir_itself()? || !is_dir {
        dir::remove_all(place)?;
    }
    if !is_dir {
        return if dir::link(new, place)? { Ok(()) } else { copy(new, place) };
    }
    dir::create(place)?;
    let entries = dir::list(new)?;
    dir::remove_others(place, |name| entries.iter().any(|entry| entry.path.file_name() == Some(name)))?;
    for entry in &entries {
        let Some(name) = entry.path.file_name() else { continue };
        take_over(&entry.path, &place.join(name))?;
    }
    dir::sync(place)
}

/// Copies a file, where the file system has no second names.
fn copy(new: &OwnPath, place: &OwnPath) -> Result<()> {
    let (from, to) = (DataFile::open(new)?, DataFile::create(place)?);
    let bytes = from.len()?;
    copy_bytes(&from, &to, 0..bytes)?;
    to.set_len(bytes)?;
    to.sync()
}

/// Removes what is left of a snapshot that was not finished, from a directory that holds a stream. What cannot be removed takes room, and does
/// no other harm.
pub(crate) fn remove_left(root: &OwnPath) {
    if is_unfinished(root).unwrap_or_default() {
        let _ = dir::remove_all(&root.join(UNFINISHED_NAME));
    }
}

/// Refuses a stream that is not a snapshot of the one created at `created_at`, or into which records were put.
pub(crate) fn check(root: &OwnPath, created_at: Timestamp) -> Result<()> {
    let refused = |what: &str| {
        Err(Error::invalid(format!("{} {what}: name another path, or delete it first", root.display())))
    };
    let held = root.join(HELD_NAME);
    if !dir::exists(&held)? {
        return refused("is a stream, and no snapshot");
    }
    let (held, now) = (Manifest::load_from(held)?, Manifest::load(root)?);
    if (held.created_at, now.created_at) != (created_at, created_at) {
        return refused("is a snapshot of another stream");
    }
    for shard in &now.shards {
        let end = match end_of(&ShardDir::new(root, shard.id)) {
            // Whatever is damaged is replaced.
            Err(Error::Corrupt(_)) => SequenceNumber::ZERO,
            end => end?,
        };
        if shard.id.get() >= held.next_shard || end > held.marks_of(shard).synced {
            return refused("is a snapshot that was written to");
        }
    }
    Ok(())
}

/// Returns the number after the last record that a shard's files hold.
fn end_of(dir: &ShardDir) -> Result<SequenceNumber> {
    if !dir.path().is_own_dir()? {
        return Ok(SequenceNumber::ZERO);
    }
    let last = dir.bases()?.last().map(|&base| dir.segment(base));
    last.map_or(Ok(SequenceNumber::ZERO), |last| end_of_segment(&last))
}

fn end_of_segment(place: &SegmentPlace) -> Result<SequenceNumber> {
    let file = DataFile::open(&place.path)?;
    let header = stored::read_header(&file, place)?;
    if let Some(trailer) = stored::read_trailer(&file, &header)? {
        return Ok(trailer.frames.end_sequence.into());
    }
    let len = file.len()?;
    let map = Map::read_only(file.std(), len).map_err(|error| file.error("map", error))?;
    let (bytes, salt) = (map.bytes(FRAMES_FROM..len), Salt::new(header.salt));
    let mut walk = FrameWalk::new(bytes, FRAMES_FROM, place.base.get(), Depth::Whole(&salt));
    while let Ok(Some(_)) = walk.next() {}
    Ok(walk.next_sequence().into())
}

/// Returns the error for opening a snapshot that is not complete.
pub(crate) fn unfinished(path: &Path) -> Error {
    let reason =
        "it holds a snapshot that was not finished; take the snapshot again, delete it, or name another path";
    Error::not_a_stream(path, reason)
}
