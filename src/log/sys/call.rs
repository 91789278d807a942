//! Calls to the operating system, and the errors that name what they were for.

use std::io;
use std::path::Path;

use super::fault;
use crate::log::types::error::{Error, Result};

/// The error for a symbolic link inside a stream. A link may lead to anybody's files.
pub(super) fn refused_link(path: &Path) -> Error {
    let reason =
        "it is a symbolic link, and none is followed inside a stream: put what it leads to in its place";
    Error::io("open", path, io::Error::new(io::ErrorKind::InvalidInput, reason))
}

/// The error for a file or directory without a name. What is written to it is lost, although a sync of it would succeed.
pub(super) fn removed(path: &Path) -> Error {
    Error::io("sync", path, io::Error::new(io::ErrorKind::NotFound, "it was removed by somebody"))
}

/// Runs a call on a path. An error names the action and the path.
pub(super) fn attempt(
    action: &'static str,
    path: &Path,
    call: impl FnOnce() -> io::Result<()>,
) -> Result<()> {
    fault::point(action, path).and_then(|()| call()).map_err(|error| Error::io(action, path, error))
}
