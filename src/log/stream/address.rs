//! The address of a stream, and what its directory holds.

use std::io;
use std::path::Path;

use crate::log::live::{BELL_NAME, LIVE_NAME};
use crate::log::manifest::{self, Manifest};
use crate::log::segment::place::{SHARDS_NAME, ShardDir, shards_dir};
use crate::log::snapshot::target;
use crate::log::sys::lock::{LOCK_NAME, Lock};
use crate::log::sys::root::OwnPath;
use crate::log::sys::{dir, outside};
use crate::log::types::error::{Corruption, Error, Result};
use crate::log::types::file_mode::FileMode;
use crate::log::types::shard_id::ShardId;

/// The names that the directory of a stream may hold although the manifest is missing.
const UNFINISHED_NAMES: [&str; 5] = [LOCK_NAME, SHARDS_NAME, manifest::NEW_NAME, LIVE_NAME, BELL_NAME];

/// Where a stream is, or is to be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Address<'a> {
    /// A path of the caller's.
    Outside(&'a Path),
    /// A path inside another stream's directory.
    Inside(&'a OwnPath),
}

/// What a directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Stream,
    /// A stream whose deletion was interrupted.
    Deleted,
    /// A snapshot that is not complete.
    Unfinished,
    /// Nothing, or what an interrupted creation left.
    Nothing,
}

impl Address<'_> {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Outside(path) => path,
            Self::Inside(path) => path,
        }
    }

    /// Opens the directory and locks it, if `check` accepts what it holds. Returns `None` if there is nothing at this address.
    pub(super) fn lock(&self, check: impl Fn(&OwnPath, Found) -> Result<()>) -> Result<Option<Locked>> {
        loop {
            let Some(root) = self.open()? else { return Ok(None) };
            let lock = Lock::take(&root);
            if lock.is_err() && Manifest::exists_in(&root)? {
                // Its owner may be about to create or delete it, so only an existing stream is conclusive.
                check(&root, Found::Stream)?;
            }
            let lock = lock?;
            // The last holder of the lock may have deleted this stream, and another one may be in its place by now.
            if self.leads_to(&root)? {
                target::finish_if_interrupted(&root)?;
                let found = find_in(&root)?;
                check(&root, found)?;
                return Ok(Some(Locked { root, found, lock }));
            }
        }
    }

    fn open(&self) -> Result<Option<OwnPath>> {
        let opened = match self {
            Self::Outside(path) => OwnPath::open_root(path),
            Self::Inside(path) => return path.open_as_root(),
        };
        let path = self.path();
        match opened {
            Ok(root) => Ok(Some(root)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory && path.is_file() => {
                Err(Error::not_a_stream(path, "it is a file, and a stream is a directory; name another path"))
            }
            Err(error) => Err(Error::io("open the directory", path, error)),
        }
    }

    fn leads_to(&self, root: &OwnPath) -> Result<bool> {
        match self {
            Self::Outside(path) => root.is_root_at(path),
            Self::Inside(path) => path.open_as_root()?.map_or(Ok(false), |there| there.is_same_root(root)),
        }
    }

    /// Creates the directory and makes its name survive power loss.
    pub(super) fn create(&self, mode: FileMode) -> Result<()> {
        match self {
            Self::Outside(path) => outside::create_durably(path, mode),
            Self::Inside(path) => {
                dir::create(&path.with_mode(mode))?;
                dir::sync(&path.parent())?;
                dir::sync(&path.parent().parent())
            }
        }
    }
}

/// A locked directory.
#[derive(Debug)]
pub(super) struct Locked {
    pub(super) root: OwnPath,
    pub(super) found: Found,
    pub(super) lock: Lock,
}

/// Returns what a directory holds. Fails if that is something other than a stream. Changes nothing.
fn find_in(root: &OwnPath) -> Result<Found> {
    if Manifest::exists_in(root)? {
        return Ok(Found::Stream);
    }
    if dir::exists(&root.join(manifest::SET_ASIDE_NAME))? {
        return Ok(Found::Deleted);
    }
    if target::is_unfinished(root)? {
        return Ok(Found::Unfinished);
    }
    if let Some(stranger) =
        dir::list(root)?.iter().find(|entry| !UNFINISHED_NAMES.contains(&entry.name.as_str()))
    {
        return Err(Error::not_a_stream(
            root,
            format!("it has no manifest.json, and holds {:?}; name another path", stranger.name),
        ));
    }
    refuse_orphans(root)?;
    Ok(Found::Nothing)
}

/// Refuses to create a stream over segments whose manifest is gone.
fn refuse_orphans(root: &OwnPath) -> Result<()> {
    let shards = shards_dir(root);
    if !shards.is_own_dir()? {
        return Ok(());
    }
    for shard in dir::list(&shards)? {
        let Ok(id) = shard.name.parse::<ShardId>() else { continue };
        if shard.path.is_own_dir()? && !ShardDir::new(root, id).bases()?.is_empty() {
            let reason = "the manifest is missing, but there are segments".to_owned();
            let path = manifest::path_in(root).to_path_buf();
            return Err(Corruption { path, shard: None, offset: 0, sequence: None, reason }.into_error());
        }
    }
    Ok(())
}
