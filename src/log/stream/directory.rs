//! Whole streams: listing those in a directory, and deleting one.

use std::path::{Path, PathBuf};

use super::Stream;
use super::open::{LOCK_NAME, sync_name_of};
use crate::log::manifest::Manifest;
use crate::log::sys::dir;
use crate::log::sys::lock::Lock;
use crate::log::types::error::{Error, Result};

/// The suffix of the directory of a stream that is being deleted.
const DELETED_SUFFIX: &str = "deleted";

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
        let directory = directory.as_ref();
        let entries = if dir::is_dir(directory)? { dir::list(directory)? } else { vec![] };
        let is_stream = |path: &PathBuf| -> Result<bool> {
            let is_deleted = path.extension().is_some_and(|extension| extension == DELETED_SUFFIX);
            Ok(!is_deleted && dir::is_dir(path)? && Manifest::exists_in(path)?)
        };
        let mut found = vec![];
        for path in entries.into_iter().map(|entry| entry.path) {
            if is_stream(&path)? {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Deletes a stream that nobody has open, with all its records, its consumer groups, and everything else in its directory. Like
    /// Kinesis' `DeleteStream`.
    ///
    /// The directory is renamed first, so that after a crash the stream either exists or not. A crash may leave files under the stream's
    /// name with `.deleted` appended. The next deletion of a stream of that name removes them.
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
        if !(dir::is_dir(path)? && Manifest::exists_in(path)?) {
            return Err(Error::not_a_stream(path, "there is no manifest.json; name another path"));
        }
        let _lock = Lock::take(&path.join(LOCK_NAME), path)?;
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{DELETED_SUFFIX}"));
        let aside = PathBuf::from(name);
        dir::remove_all(&aside)?;
        dir::rename(path, &aside)?;
        sync_name_of(path)?;
        dir::remove_all(&aside)
    }
}
