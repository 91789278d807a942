//! Directories: listing them, and changing them in steps that happen completely or not at all.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::fault;
use crate::log::types::error::{Error, Result};

/// Only the owner may enter a stream's directories.
const DIRECTORY_MODE: u32 = 0o700;

/// The error for a symbolic link inside a stream. A link may lead to anybody's files.
pub(super) fn refused_link(path: &Path) -> Error {
    let reason =
        "it is a symbolic link, and none is followed inside a stream: put what it leads to in its place";
    Error::io("open", path, io::Error::new(io::ErrorKind::InvalidInput, reason))
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DirEntry {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// Runs a call on a path. An error names the action and the path.
fn attempt(action: &'static str, path: &Path, call: impl FnOnce() -> io::Result<()>) -> Result<()> {
    fault::point(action, path).and_then(|()| call()).map_err(|error| Error::io(action, path, error))
}

fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Creates a directory and its missing parents.
pub(crate) fn create_all(path: &Path) -> Result<()> {
    let create = || fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path);
    attempt("create the directory", path, create)
}

/// Returns the names in a directory, in no order. A name that is not UTF-8 is not one of ours and is returned lossily converted.
pub(crate) fn list(path: &Path) -> Result<Vec<DirEntry>> {
    let failed = |error| Error::io("list the directory", path, error);
    let entries = fs::read_dir(path).map_err(failed)?.map(|entry| {
        let entry = entry.map_err(failed)?;
        Ok(DirEntry { name: entry.file_name().to_string_lossy().into_owned(), path: entry.path() })
    });
    entries.collect()
}

/// Returns whether the name exists, without following a link.
pub(crate) fn exists(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("look at", path, error)),
    }
}

/// Returns whether the path is a directory or a link to one.
pub(crate) fn is_dir(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("look at", path, error)),
    }
}

/// Returns whether a path inside a stream is a directory. Refuses a link.
pub(crate) fn is_own_dir(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => Err(refused_link(path)),
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("look at", path, error)),
    }
}

/// Creates a directory inside a stream and its missing parents, unless it exists.
pub(crate) fn create_own(path: &Path) -> Result<()> {
    if is_own_dir(path)? { Ok(()) } else { create_all(path) }
}

/// Returns whether anybody but the owner may add and remove names in a directory.
pub(crate) fn is_writable_by_others(path: &Path) -> Result<bool> {
    const GROUP_AND_OTHERS_WRITE: u32 = 0o022;
    let metadata = fs::metadata(path).map_err(|error| Error::io("look at", path, error))?;
    Ok(metadata.mode() & GROUP_AND_OTHERS_WRITE != 0)
}

/// Removes a file. A file that is already gone counts as removed.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    attempt("remove", path, || unless_gone(fs::remove_file(path)))
}

/// Removes a directory and its contents. A directory that is already gone counts as removed.
pub(crate) fn remove_all(path: &Path) -> Result<()> {
    attempt("remove", path, || unless_gone(fs::remove_dir_all(path)))
}

/// Makes the names in a directory survive power loss.
pub(crate) fn sync(path: &Path) -> Result<()> {
    attempt("sync the directory", path, || fs::File::open(path)?.sync_all())
}

/// Gives a file a second name, its own plus a suffix that makes it unique, and returns that name.
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

/// Renames a file, replacing the target if it exists.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    attempt("replace", to, || fs::rename(from, to))
}
