//! Directories: what is in them, and changes to them that are whole or not there.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::fault;
use crate::log::types::error::{Error, Result};

/// Only the owner enters a stream's directories.
const DIRECTORY_MODE: u32 = 0o700;

/// The error for a symbolic link inside a stream: what it leads to may be anybody's.
pub(super) fn refused_link(path: &Path) -> Error {
    let reason =
        "it is a symbolic link, and none is followed inside a stream: put what it leads to in its place";
    Error::io("open", path, io::Error::new(io::ErrorKind::InvalidInput, reason))
}

/// What a directory entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DirEntry {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// Does something to a path; an error says what, and to which.
fn attempt(action: &'static str, path: &Path, call: impl FnOnce() -> io::Result<()>) -> Result<()> {
    fault::point(action, path).and_then(|()| call()).map_err(|error| Error::io(action, path, error))
}

fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Creates a directory and those above it, where they are missing.
pub(crate) fn create_all(path: &Path) -> Result<()> {
    let create = || fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path);
    attempt("create the directory", path, create)
}

/// The names in a directory, in no order; those that are not UTF-8 are none of ours and come changed.
pub(crate) fn list(path: &Path) -> Result<Vec<DirEntry>> {
    let failed = |error| Error::io("list the directory", path, error);
    let entries = fs::read_dir(path).map_err(failed)?.map(|entry| {
        let entry = entry.map_err(failed)?;
        Ok(DirEntry { name: entry.file_name().to_string_lossy().into_owned(), path: entry.path() })
    });
    entries.collect()
}

/// Whether there is something of that name, without following a link.
pub(crate) fn exists(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("look at", path, error)),
    }
}

/// Whether the path is a directory; a link to one counts.
pub(crate) fn is_dir(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("look at", path, error)),
    }
}

/// Whether there is a directory of that name inside a stream, where a link is refused.
pub(crate) fn is_own_dir(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => Err(refused_link(path)),
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("look at", path, error)),
    }
}

/// Creates a directory inside a stream, with those above it, where it is missing.
pub(crate) fn create_own(path: &Path) -> Result<()> {
    if is_own_dir(path)? { Ok(()) } else { create_all(path) }
}

/// Whether anybody but the owner may add names to a directory, and take them away.
pub(crate) fn is_writable_by_others(path: &Path) -> Result<bool> {
    const GROUP_AND_OTHERS_WRITE: u32 = 0o022;
    let metadata = fs::metadata(path).map_err(|error| Error::io("look at", path, error))?;
    Ok(metadata.mode() & GROUP_AND_OTHERS_WRITE != 0)
}

/// Removes a file; one that is gone already counts as removed.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    attempt("remove", path, || unless_gone(fs::remove_file(path)))
}

/// Removes a directory and all that is in it; one that is gone already counts as removed.
pub(crate) fn remove_all(path: &Path) -> Result<()> {
    attempt("remove", path, || unless_gone(fs::remove_dir_all(path)))
}

/// Makes the names in a directory survive power loss.
pub(crate) fn sync(path: &Path) -> Result<()> {
    attempt("sync the directory", path, || fs::File::open(path)?.sync_all())
}

/// Gives a file a second name, its own with a suffix that no other file has there; tells the name.
pub(crate) fn link_beside(path: &Path, suffix: &str) -> Result<PathBuf> {
    for round in 1.. {
        let number = if round == 1 { String::new() } else { format!("-{round}") };
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{suffix}{number}"));
        let beside = PathBuf::from(name);
        if !exists(&beside)? {
            attempt("give a second name to", path, || fs::hard_link(path, &beside))?;
            return Ok(beside);
        }
    }
    unreachable!("a directory has room for fewer names than there are numbers")
}

/// Puts a file in the place of another, or of none.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    attempt("replace", to, || fs::rename(from, to))
}
