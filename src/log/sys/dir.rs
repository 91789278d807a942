//! Directories inside a stream: listing them, and changing them in steps that happen completely or not at all.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RawMode};
use rustix::io::Errno;

use super::call::{attempt, refused_link};
use super::fault;
use super::root::OwnPath;
use crate::log::types::error::{Error, Result};
use crate::log::types::file_mode::FileMode;

/// An entry of a directory.
#[derive(Debug, Clone)]
pub(crate) struct DirEntry {
    pub(crate) name: String,
    pub(crate) path: OwnPath,
}

/// A directory that is open so that it can be synced: opening it may fail for lack of a descriptor, which says nothing about the disk.
#[derive(Debug)]
pub(crate) struct OpenDir {
    dir: File,
    path: OwnPath,
}

impl OpenDir {
    pub(crate) fn open(path: &OwnPath) -> Result<Self> {
        Ok(Self { dir: path.open_dir()?, path: path.clone() })
    }

    /// Makes the names in the directory survive power loss.
    pub(crate) fn sync(&self) -> Result<()> {
        attempt("sync the directory", &self.path, || self.dir.sync_all())
    }
}

fn unless_gone(removed: rustix::io::Result<()>) -> io::Result<()> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        removed => Ok(removed?),
    }
}

/// Returns the entries of a directory, in no order. A name that is not UTF-8 is not one of ours; the path keeps its bytes.
pub(crate) fn list(path: &OwnPath) -> Result<Vec<DirEntry>> {
    let failed = |errno: Errno| Error::io("list the directory", path, errno.into());
    let entries = Dir::new(path.open_dir()?).map_err(failed)?;
    let mut found = vec![];
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            found.push(DirEntry { name: name.to_string_lossy().into_owned(), path: path.join(name) });
        }
    }
    Ok(found)
}

/// Returns whether the name exists, without following a link.
pub(crate) fn exists(path: &OwnPath) -> Result<bool> {
    Ok(path.file_type()?.is_some())
}

/// Creates a directory and its missing parents with the mode of the path, unless it exists.
pub(crate) fn create(path: &OwnPath) -> Result<()> {
    if path.is_root() {
        return Ok(());
    }
    if !path.is_own_dir()? {
        create(&path.parent())?;
        make(path)?;
    }
    // Also if it was there: a crash may have come between these two calls.
    let has_readers = path.mode() != FileMode::OWNER_ONLY;
    if has_readers { change_readers(path, &path.open_dir()?, OwnPath::add_readers) } else { Ok(()) }
}

fn make(path: &OwnPath) -> Result<()> {
    let mode = Mode::from_raw_mode(path.mode().of_directories() as RawMode);
    let create = || match rustix::fs::mkdirat(path.root(), path.relative(), mode) {
        // Somebody else was faster.
        Err(Errno::EXIST) => Ok(()),
        created => Ok(created?),
    };
    attempt("create the directory", path, create)
}

/// Lets exactly those read a directory and everything in it whom the mode of the path lets. Follows no link, and leaves it as it is.
pub(crate) fn set_readers(path: &OwnPath) -> Result<()> {
    let opened = match path.file_type()? {
        Some(FileType::Directory) => {
            list(path)?.iter().try_for_each(|entry| set_readers(&entry.path))?;
            path.open_dir()?
        }
        Some(FileType::RegularFile) => {
            let opened = path.open(OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
            opened.map_err(|error| path.refused("open", error))?
        }
        _ => return Ok(()),
    };
    change_readers(path, &opened, OwnPath::set_readers)
}

fn change_readers(
    path: &OwnPath,
    opened: &File,
    change: impl FnOnce(&OwnPath, &File, &Metadata) -> io::Result<()>,
) -> Result<()> {
    let changed = opened.metadata().and_then(|found| change(path, opened, &found));
    changed.map_err(|error| Error::io("change the mode of", path, error))
}

/// Removes a file. A file that is already gone counts as removed.
pub(crate) fn remove_file(path: &OwnPath) -> Result<()> {
    attempt("remove", path, || {
        unless_gone(rustix::fs::unlinkat(path.root(), path.relative(), AtFlags::empty()))
    })
}

/// Removes a directory and its contents. A directory that is already gone counts as removed. Follows no link.
pub(crate) fn remove_all(path: &OwnPath) -> Result<()> {
    if path.file_type()? != Some(FileType::Directory) {
        return remove_file(path);
    }
    list(path)?.iter().try_for_each(|entry| remove_all(&entry.path))?;
    attempt("remove", path, || {
        unless_gone(rustix::fs::unlinkat(path.root(), path.relative(), AtFlags::REMOVEDIR))
    })
}

/// Makes the names in a directory survive power loss.
pub(crate) fn sync(path: &OwnPath) -> Result<()> {
    if path.is_root() {
        return attempt("sync the directory", path, || path.sync_root());
    }
    OpenDir::open(path)?.sync()
}

/// Gives a file a second name, its own plus a suffix that makes it unique, and returns that name.
pub(crate) fn link_beside(path: &OwnPath, suffix: &str) -> Result<OwnPath> {
    for round in 1.. {
        let number = if round == 1 { String::new() } else { format!("-{round}") };
        let beside = path.with_suffix(&format!(".{suffix}{number}"));
        if !exists(&beside)? {
            let (from, to) = (path.relative(), beside.relative());
            attempt("give a second name to", path, || {
                Ok(rustix::fs::linkat(path.root(), from, beside.root(), to, AtFlags::empty())?)
            })?;
            return Ok(beside);
        }
    }
    unreachable!("a directory has room for fewer names than there are numbers")
}

/// Gives a file a second name, which no file may have yet. Returns `false` where that is not possible: on another file system, on one
/// without such names, for a file with too many of them, and where the system lets nobody link to the files of others.
pub(crate) fn link(from: &OwnPath, to: &OwnPath) -> Result<bool> {
    if from.file_type()? == Some(FileType::Symlink) {
        return Err(refused_link(from));
    }
    const IMPOSSIBLE: [Errno; 5] = [Errno::XDEV, Errno::PERM, Errno::MLINK, Errno::OPNOTSUPP, Errno::NOSYS];
    let link =
        || rustix::fs::linkat(from.root(), from.relative(), to.root(), to.relative(), AtFlags::empty());
    match fault::point("link", to).and_then(|()| Ok(link()?)) {
        Ok(()) => Ok(true),
        Err(error) if Errno::from_io_error(&error).is_some_and(|errno| IMPOSSIBLE.contains(&errno)) => {
            Ok(false)
        }
        Err(error) => Err(Error::io("link", to, error)),
    }
}

/// Removes all names in a directory but some.
pub(crate) fn remove_others(path: &OwnPath, is_kept: impl Fn(&OsStr) -> bool) -> Result<()> {
    let is_other = |entry: &&DirEntry| !entry.path.file_name().is_some_and(&is_kept);
    list(path)?.iter().filter(is_other).try_for_each(|entry| remove_all(&entry.path))
}

/// Renames a file, replacing the target if it exists.
pub(crate) fn rename(from: &OwnPath, to: &OwnPath) -> Result<()> {
    attempt("replace", to, || {
        Ok(rustix::fs::renameat(from.root(), from.relative(), to.root(), to.relative())?)
    })
}
