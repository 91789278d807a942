//! The lock that keeps a stream to one writer.

use std::fs::TryLockError;
use std::path::Path;

use super::file::DataFile;
use crate::log::types::error::{Error, Result};

/// An exclusive lock on a stream's directory. The kernel releases it when the process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    file: DataFile,
}

impl Lock {
    /// Takes the lock at `path`, or fails at once with an error that names the directory `stream`.
    pub(crate) fn take(path: &Path, stream: &Path) -> Result<Self> {
        let file = DataFile::open_or_create(path)?;
        match file.std().try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked(stream.into())),
            Err(TryLockError::Error(error)) => Err(file.error("lock", error)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that was just forked holds it open until it executes its program.
        let _ = self.file.std().unlock();
    }
}
