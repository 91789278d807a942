//! Where sealed segments are archived: any place that keeps objects under names.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// A place that keeps objects under names, such as a directory or a bucket of an object store. It holds the archive of one stream.
///
/// The crate has two: `delivery::Directory` with the cargo feature `delivery`, and `delivery::ObjectStorage` with `object-store`. Your own
/// implementation needs these four functions. Several threads may call them at the same time.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::io::{self, Read, Write};
/// use std::sync::Mutex;
///
/// use streamlog::Archive;
///
/// /// Keeps objects in memory.
/// #[derive(Debug, Default)]
/// struct Memory(Mutex<BTreeMap<String, Vec<u8>>>);
///
/// impl Archive for Memory {
///     fn locate(&self, name: &str) -> String {
///         format!("memory:{name}")
///     }
///
///     fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
///         Ok(self.0.lock().unwrap().keys().filter(|name| name.starts_with(prefix)).cloned().collect())
///     }
///
///     fn get(&self, name: &str, into: &mut dyn Write) -> io::Result<()> {
///         let objects = self.0.lock().unwrap();
///         into.write_all(objects.get(name).ok_or(io::ErrorKind::NotFound)?)
///     }
///
///     fn put(&self, name: &str, from: &mut dyn Read) -> io::Result<()> {
///         let mut bytes = vec![];
///         from.read_to_end(&mut bytes)?;
///         self.0.lock().unwrap().insert(name.to_owned(), bytes);
///         Ok(())
///     }
/// }
/// ```
pub trait Archive: fmt::Debug + Send + Sync + 'static {
    /// Returns where an object is, for messages: a URL or a path, without credentials.
    fn locate(&self, name: &str) -> String;

    /// Returns the names of all objects that begin with a prefix, which ends with a slash, in any order. It may leave out names with another slash
    /// after the prefix.
    ///
    /// # Errors
    /// Any, if they cannot be listed. An empty list is not an error.
    fn list(&self, prefix: &str) -> io::Result<Vec<String>>;

    /// Writes the bytes of an object to `into`. An error of `into` ends the call, which returns it.
    ///
    /// # Errors
    /// `NotFound` if there is no such object; any other if it cannot be read.
    fn get(&self, name: &str, into: &mut dyn Write) -> io::Result<()>;

    /// Creates or replaces an object with all bytes of `from`. The object is durable when this returns. Before that, it exists completely or not at
    /// all, even if the process is killed, or if `from` fails, whose error it returns.
    ///
    /// # Errors
    /// Any, if it cannot be written. The object may exist nevertheless.
    fn put(&self, name: &str, from: &mut dyn Read) -> io::Result<()>;
}

impl<A: Archive + ?Sized> Archive for Arc<A> {
    fn locate(&self, name: &str) -> String {
        (**self).locate(name)
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        (**self).list(prefix)
    }

    fn get(&self, name: &str, into: &mut dyn Write) -> io::Result<()> {
        (**self).get(name, into)
    }

    fn put(&self, name: &str, from: &mut dyn Read) -> io::Result<()> {
        (**self).put(name, from)
    }
}
