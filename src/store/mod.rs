//! A directory of streams: created, opened when they are first needed, listed and deleted by name.

mod slot;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{Error, MaintenancePool, Result, Stream, StreamOptions, StreamReader};

use slot::Slot;

/// The longest name of a stream, as in Kinesis.
const NAME_BYTES_MAX: usize = 128;

/// A directory of named streams. Two threads maintain all of them, and each stream is opened when it is first needed.
///
/// Each stream is a directory of its own, and can also be used without the store. Streams that another process has open are `Locked` here.
///
/// Clones refer to the same store.
///
/// ```
/// # use streamlog::{Store, StreamOptions};
/// # let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path(), StreamOptions::new())?;
/// store.create("clicks", StreamOptions::new().shards(4))?;
/// store.stream("clicks")?.put("user-17", "/checkout")?;
/// assert_eq!(store.names()?, ["clicks"]);
/// store.delete("clicks")?;
/// assert!(store.names()?.is_empty());
/// store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    directory: PathBuf,
    options: StreamOptions,
    pool: MaintenancePool,
    /// The streams that were asked for. Locked for a moment only, and before a slot.
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("directory", &self.inner.directory).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens a store. The directory need not exist yet. Its streams are opened with `options` when they are first needed.
    ///
    /// # Errors
    /// `Io` if the system does not start the threads.
    pub fn open(directory: impl AsRef<Path>, options: StreamOptions) -> Result<Self> {
        let inner = Inner {
            directory: directory.as_ref().to_owned(),
            options,
            pool: MaintenancePool::new()?,
            slots: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Creates a stream.
    ///
    /// A name has 1 to 128 letters, digits, `_`, `.` and `-`, as in Kinesis, and is not `.` or `..`.
    ///
    /// # Durability
    /// When it returns, the stream survives power loss. A crash leaves the stream with all its settings and properties, or none.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that no stream can have, or if there is a stream of that name; same as [`StreamOptions::open`].
    pub fn create(&self, name: &str, options: StreamOptions) -> Result<Stream> {
        let path = self.path(name)?;
        self.with_slot(name, |slot| slot.create(|| self.inner.pool.open(path, options.must_be_new())))
    }

    /// Returns a stream, and opens it if it is not open yet.
    ///
    /// # Errors
    /// `NotAStream` if there is none of that name; `Locked` if another process has it open; same as [`StreamOptions::open`].
    pub fn stream(&self, name: &str) -> Result<Stream> {
        let path = self.path(name)?;
        self.with_slot(name, |slot| {
            slot.get(|| self.inner.pool.open(path, self.options().clone().must_exist()))
        })
    }

    /// Returns a reader of a stream, even if another process has it open.
    ///
    /// # Errors
    /// `NotAStream` if there is none of that name; same as [`StreamReader::open`].
    pub fn reader(&self, name: &str) -> Result<StreamReader> {
        let path = self.path(name)?;
        match self.with_slot(name, Slot::opened) {
            Some(stream) => Ok((*stream).clone()),
            None => self.inner.options.clone().open_reader(path),
        }
    }

    /// Returns the names of all streams, sorted.
    ///
    /// # Errors
    /// `Io`.
    pub fn names(&self) -> Result<Vec<String>> {
        let paths = Stream::list(&self.inner.directory)?;
        let names = paths.iter().filter_map(|path| path.file_name()?.to_str());
        let mut names: Vec<_> = names.filter(|name| is_valid(name)).map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// Returns the options with which streams are opened.
    pub fn options(&self) -> &StreamOptions {
        &self.inner.options
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// Closes all handles of a stream, and deletes it with all its records and consumer groups.
    ///
    /// A crash leaves the whole stream or none. Leftover files are removed when the name is used again.
    ///
    /// # Errors
    /// `NotAStream` if there is none of that name; `Locked` if another process has it open; `Io`.
    pub fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        self.with_slot(name, |slot| slot.delete(|| Stream::delete(&path)))
    }

    /// Closes all streams. The same handle can open them again.
    ///
    /// Without this call, they close when the last handles of the store and of the stream are dropped, and errors are lost.
    ///
    /// # Errors
    /// The first error of a stream that was not closed cleanly; the others are closed nevertheless.
    pub fn close(&self) -> Result<()> {
        let slots = self.inner.slots.lock().clone();
        let mut outcome = Ok(());
        for slot in slots.values() {
            outcome = outcome.and(slot.close());
        }
        outcome
    }

    /// Works on the slot of a name, of which there is one at a time.
    fn with_slot<T>(&self, name: &str, work: impl FnOnce(&Slot) -> T) -> T {
        let slot = Arc::clone(self.inner.slots.lock().entry(name.to_owned()).or_default());
        let done = work(&slot);
        let mut slots = self.inner.slots.lock();
        // Names that callers ask for but no stream has must not pile up. The map has one, this call the other.
        if Arc::strong_count(&slot) == 2 && slot.opened().is_none() {
            slots.remove(name);
        }
        done
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        if !is_valid(name) {
            let rule = "a name has 1 to 128 letters, digits, '_', '.' and '-', and is not '.' or '..'";
            return Err(Error::InvalidArgument(
                format!("{name:?} is not the name of a stream: {rule}").into(),
            ));
        }
        Ok(self.inner.directory.join(name))
    }
}

/// Returns whether a stream may have this name.
fn is_valid(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        && !matches!(name, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l4_names_that_no_stream_has_take_no_memory() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), StreamOptions::new()).unwrap();
        store.create("clicks", StreamOptions::new()).unwrap();
        for number in 0..100 {
            let name = format!("name-{number}");
            assert!(
                store.stream(&name).is_err() && store.reader(&name).is_err() && store.delete(&name).is_err()
            );
        }
        assert_eq!(store.inner.slots.lock().len(), 1);
        store.delete("clicks").unwrap();
        assert_eq!(store.inner.slots.lock().len(), 0);
    }
}
