//! The lock that keeps a stream to one owner, and the file that names this owner.

use std::fs::TryLockError;
use std::path::Path;

use super::file::DataFile;
use super::process;
use super::root::OwnPath;
use crate::log::format::holder::{HOLDER_BYTES_MAX, Holder};
use crate::log::types::error::{Error, LockedBy, Result};

/// The name of the file that names the process that has the stream open.
pub(crate) const LOCK_NAME: &str = "LOCK";

/// An exclusive lock on a directory, which keeps a stream to one owner. The kernel releases it when the process dies.
///
/// It locks the directory itself: a lock file could be removed, or moved away with a directory whose place another one takes.
#[derive(Debug)]
pub(crate) struct Lock {
    root: OwnPath,
    is_signed: bool,
}

impl Lock {
    /// Locks a root, or fails immediately if it is locked.
    pub(crate) fn take(root: &OwnPath) -> Result<Self> {
        match root.try_lock_root() {
            Ok(()) => Ok(Self { root: root.clone(), is_signed: false }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked(Box::new(locked_by(root)))),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", root, error)),
        }
    }

    /// Writes the lock's owner into the file `LOCK`, if the disk has room. Fails if the file cannot be opened for writing, so a read-only stream
    /// is refused immediately. `root` is the locked one, with the mode of its stream.
    pub(crate) fn sign(&mut self, root: &OwnPath) -> Result<()> {
        let file = DataFile::open_or_create(&root.join(LOCK_NAME))?;
        let text = process::as_holder().encode();
        let is_written = file.write_all_at(text.as_bytes(), 0).is_ok();
        // A process that was killed may have left a longer text.
        let len = if is_written { text.len() as u64 } else { 0 };
        if file.len()? != len {
            let _ = file.set_len(len);
        }
        self.is_signed = true;
        Ok(())
    }

    /// Empties the file, so that it does not name a former owner.
    fn unsign(&self) -> Result<()> {
        DataFile::open_writable(&self.root.join(LOCK_NAME))?.set_len(0)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still locked: afterwards it is the next owner's.
        if self.is_signed {
            let _ = self.unsign();
        }
        // Closing the directory is not enough: a child process that was just forked holds it open until it executes its program.
        self.root.unlock_root();
    }
}

/// Returns who has a root locked, according to the file `LOCK`.
fn locked_by(root: &OwnPath) -> LockedBy {
    let path: &Path = root;
    let Some(holder) = read_holder(root).ok().flatten() else {
        return LockedBy {
            path: path.to_owned(),
            process_id: None,
            process_name: None,
            is_this_process: false,
        };
    };
    LockedBy {
        path: path.to_owned(),
        process_id: Some(holder.id),
        is_this_process: process::is_this(&holder),
        process_name: Some(holder.name).filter(|name| !name.is_empty()),
    }
}

/// Reads the file. Its owner may write it at the same time, and somebody may have put anything there.
fn read_holder(root: &OwnPath) -> Result<Option<Holder>> {
    let file = DataFile::open(&root.join(LOCK_NAME))?;
    let mut text = vec![0; file.len()?.min(HOLDER_BYTES_MAX as u64) as usize];
    file.read_exact_at(&mut text, 0)?;
    Ok(Holder::decode(&text))
}
