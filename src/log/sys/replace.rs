//! Replacing a small file whole.

use std::path::Path;

use super::dir::{remove_file, rename, sync};
use super::file::DataFile;
use crate::log::types::error::{Error, Result};

/// A file that was not replaced, or not durably.
#[derive(Debug)]
pub(crate) struct ReplaceError {
    /// The new content is there for whoever looks now, but may not survive power loss. Otherwise the old content is as it was.
    pub(crate) replaced: bool,
    pub(crate) error: Error,
}

impl From<ReplaceError> for Error {
    fn from(failed: ReplaceError) -> Self {
        failed.error
    }
}

impl From<Error> for ReplaceError {
    fn from(error: Error) -> Self {
        Self { replaced: false, error }
    }
}

/// Replaces a file whole, and durably: a crash at any moment leaves the old content or the new one.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> Result<(), ReplaceError> {
    let aside = path.with_extension("new");
    if let Err(error) = write_aside(&aside, content).and_then(|()| rename(&aside, path)) {
        // The error that made it fail says more than one of this removal.
        let _ = remove_file(&aside);
        return Err(ReplaceError { replaced: false, error });
    }
    path.parent().map_or(Ok(()), sync).map_err(|error| ReplaceError { replaced: true, error })
}

fn write_aside(aside: &Path, content: &[u8]) -> Result<()> {
    // Whatever has that name, what a crash left or somebody put there, is neither followed nor written to.
    remove_file(aside)?;
    let file = DataFile::create(aside)?;
    file.write_all_at(content, 0)?;
    file.sync()
}
