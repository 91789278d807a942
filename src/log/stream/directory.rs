//! Whole streams: listing those in a directory, and deleting one.

use std::path::{Path, PathBuf};

use super::Stream;
use super::address::{Address, Found, Locked};
use crate::log::live::publish;
use crate::log::manifest::{self, SET_ASIDE_NAME};
use crate::log::sys::root::OwnPath;
use crate::log::sys::{dir, outside};
use crate::log::types::error::{Error, Result};

impl Stream {
    /// Returns the paths of the streams in a directory, sorted, or none if the directory does not exist. Like Kinesis' `ListStreams`.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// Stream::open(directory.path().join("clicks"))?.close()?;
    /// Stream::open(directory.path().join("orders"))?.close()?;
    /// let paths = Stream::list(directory.path())?;
    /// assert!(paths[0].ends_with("clicks") && paths[1].ends_with("orders"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io`.
    pub fn list(directory: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
        let mut found = outside::directories_with(directory.as_ref(), manifest::FILE_NAME)?;
        found.sort();
        Ok(found)
    }

    /// Deletes a stream that nobody has open, with all its records, its consumer groups, and everything else in its directory. Like
    /// Kinesis' `DeleteStream`.
    ///
    /// The manifest is renamed first, so that after a crash the stream either exists or not. The next opening or deletion at this path
    /// removes what the crash left. If the path is a symbolic link, the link is removed too.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("clicks");
    /// Stream::open(&path)?.close()?;
    /// Stream::delete(&path)?;
    /// assert!(!path.exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotAStream` if there is none; `Locked` if somebody has it open; `Io`.
    pub fn delete(path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let locked = lock(Address::Outside(path))?;
        let target = outside::without_links(path)?;
        empty(&locked)?;
        // The stream may have been moved meanwhile. Its directory is empty then, and stays.
        if locked.root.is_root_at(&target)? {
            outside::remove_name(&target)?;
            outside::sync_name_of(&target)?;
        }
        let link = path.components().as_path();
        if link.is_symlink() { outside::remove_name(link) } else { Ok(()) }
    }
}

/// Deletes a stream inside another one.
pub(super) fn delete_inside(path: &OwnPath) -> Result<()> {
    let locked = lock(Address::Inside(path))?;
    empty(&locked)?;
    dir::remove_all(path)?;
    dir::sync(&path.parent())
}

/// Locks a stream, or what is left of a deleted one.
fn lock(address: Address<'_>) -> Result<Locked> {
    let missing = |path: &Path| Error::not_a_stream(path, "there is no manifest.json; name another path");
    let check = |root: &OwnPath, found| if found == Found::Nothing { Err(missing(root)) } else { Ok(()) };
    address.lock(check)?.ok_or_else(|| missing(address.path()))
}

/// Deletes a stream except for its directory.
fn empty(locked: &Locked) -> Result<()> {
    let root = &locked.root;
    if locked.found == Found::Stream {
        manifest::set_aside(root)?;
        publish::withdraw(root)?;
    }
    remove_contents(root)
}

/// Removes what is left of a deleted stream, and last the name that says that it is deleted.
pub(super) fn remove_contents(root: &OwnPath) -> Result<()> {
    let entries = dir::list(root)?;
    entries
        .iter()
        .filter(|entry| entry.name != SET_ASIDE_NAME)
        .try_for_each(|entry| dir::remove_all(&entry.path))?;
    dir::sync(root)?;
    dir::remove_file(&root.join(SET_ASIDE_NAME))
}
