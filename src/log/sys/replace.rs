//! Replacing a small file atomically.

use super::dir::{remove_file, rename, sync};
use super::file::DataFile;
use super::root::OwnPath;
use crate::log::types::error::{Error, Result};

/// The error of a file that was not replaced, or not durably.
#[derive(Debug)]
pub(crate) struct ReplaceError {
    /// Whether readers now see the new content, which may not survive power loss. If `false`, the old content is unchanged.
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

/// Replaces a file atomically and durably: a crash at any moment leaves the old content or the new one.
pub(crate) fn replace_file(path: &OwnPath, content: &[u8]) -> Result<(), ReplaceError> {
    let aside = path.with_extension("new");
    if let Err(error) = write_aside(&aside, content).and_then(|()| rename(&aside, path)) {
        // The first error says more than an error of this removal would.
        let _ = remove_file(&aside);
        return Err(ReplaceError { replaced: false, error });
    }
    sync(&path.parent()).map_err(|error| ReplaceError { replaced: true, error })
}

fn write_aside(aside: &OwnPath, content: &[u8]) -> Result<()> {
    // Whatever has that name, left by a crash or put there by somebody, is neither followed nor written to.
    remove_file(aside)?;
    let file = DataFile::create(aside)?;
    file.write_all_at(content, 0)?;
    file.sync()
}
