//! Directories inside a stream: listing them, and changing them in steps that happen completely or not at all.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, RawMode};
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

/// The bytes of names with which a listing begins, and at which it gives up listing all in one call.
const LIST_BYTES: usize = 64 << 10;
const LIST_BYTES_MAX: usize = 16 << 20;

/// Returns the entries of a directory as they are at one moment, in no order. A name that is not UTF-8 is not one of ours; the path keeps its
/// bytes.
///
/// One call to the system lists them all. While names change, several calls in a row may return a name twice, and on some file systems leave
/// out names that were there all the time.
pub(crate) fn list(path: &OwnPath) -> Result<Vec<DirEntry>> {
    let mut bytes = LIST_BYTES;
    loop {
        let (found, is_of_one_moment) = list_within(path, bytes)?;
        if is_of_one_moment || bytes >= LIST_BYTES_MAX {
            return Ok(found);
        }
        bytes *= 4;
    }
}

/// Lists a directory with a buffer of this many bytes. Also returns whether that was enough for all names in one call.
fn list_within(path: &OwnPath, bytes: usize) -> Result<(Vec<DirEntry>, bool)> {
    let dir = path.open_dir()?;
    let mut buffer = Vec::with_capacity(bytes);
    let mut entries = RawDir::new(&dir, buffer.spare_capacity_mut());
    let (mut found, mut call_count) = (vec![], 0);
    loop {
        call_count += u32::from(entries.is_buffer_empty());
        let Some(entry) = entries.next() else { break };
        let entry = entry.map_err(|errno| Error::io("list the directory", path, errno.into()))?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            found.push(DirEntry { name: name.to_string_lossy().into_owned(), path: path.join(name) });
        }
    }
    // The last call finds nothing more.
    Ok((found, call_count <= 2))
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
    // Even if it existed: a crash may have come between these two calls.
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

/// Lets exactly the users whom the path's mode allows read a directory and everything in it. Does not follow links, and leaves them as they are.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;
    use crate::log::crash_tests::steps::scratch;

    /// Returns the names, each of which must be there once.
    fn names(root: &OwnPath) -> BTreeSet<String> {
        let listed = list(root).unwrap();
        let names: BTreeSet<_> = listed.iter().map(|entry| entry.name.clone()).collect();
        assert_eq!(names.len(), listed.len(), "L8: a name is there twice: {listed:?}");
        names
    }

    #[test]
    fn names_that_stay_are_listed_once_while_others_change() {
        const FILES: u64 = 60;
        let scratch = scratch();
        let root = OwnPath::open_root(scratch.path()).unwrap();
        let name = |number: u64| format!("{number:020}.seg");
        let path = |number: u64| scratch.path().join(name(number));
        (0..FILES).for_each(|number| fs::write(path(number), []).unwrap());
        let (next, is_over) = (AtomicU64::new(FILES), AtomicBool::new(false));
        std::thread::scope(|threads| {
            threads.spawn(|| {
                // As a writer that rolls and trims does: the oldest file goes, and a new one comes, or the same one with a new name.
                for number in FILES.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let spare = scratch.path().join("spare");
                    fs::rename(path(number - FILES), &spare).unwrap();
                    if number % 3 > 0 {
                        fs::remove_file(&spare).unwrap();
                        fs::write(&spare, []).unwrap();
                    }
                    fs::rename(&spare, path(number)).unwrap();
                    next.store(number + 1, Ordering::SeqCst);
                }
            });
            let listed = std::panic::catch_unwind(|| {
                for _ in 0..20_000 {
                    let before = next.load(Ordering::SeqCst);
                    let names = names(&root);
                    // One more may be on its way.
                    let after = next.load(Ordering::SeqCst) + 1 - FILES;
                    let missing: Vec<_> =
                        (after..before).filter(|&there| !names.contains(&name(there))).collect();
                    assert!(missing.is_empty(), "L8: names {missing:?} that stayed are missing of {names:?}");
                }
            });
            is_over.store(true, Ordering::Relaxed);
            listed.unwrap();
        });
    }

    #[test]
    fn a_directory_with_more_names_than_a_listing_begins_with_is_listed() {
        let scratch = scratch();
        let root = OwnPath::open_root(scratch.path()).unwrap();
        let names_there: BTreeSet<_> = (0..3_000).map(|number| format!("{number:0100}")).collect();
        names_there.iter().for_each(|name| fs::write(scratch.path().join(name), []).unwrap());
        assert!(!list_within(&root, LIST_BYTES).unwrap().1, "it takes several calls");
        assert_eq!(names(&root), names_there);
    }
}
