//! Support for code that builds on a stream, like the consumer groups of this crate: state kept with an open stream, streams that are
//! synced and closed along with it, work after its maintenance passes, holds on retention, waits of tasks, and checks of settings.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::path::{Component, Path};
use std::sync::Arc;

use parking_lot::Mutex;

use super::address::Address;
use super::directory::delete_inside;
use super::reader::StreamReader;
use super::{Core, Stream, callback};
use crate::log::live::hold_file::HoldFile;
use crate::log::manifest::Manifest;
use crate::log::reshard::{merge, split};
use crate::log::retention::hold;
use crate::log::shard::reader::iterator::ShardIterator;
pub use crate::log::shard::reader::wait_any::Waiting;
use crate::log::sys::dir;
use crate::log::sys::root::OwnPath;
use crate::log::topology::Topology;
pub use crate::log::types::bucket::Bucket;
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Error, Result};
use crate::log::types::hash_key::HashKey;
pub use crate::log::types::options::check_range;
use crate::log::types::options::{Encryption, StreamOptions};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// What the layers above keep with a stream.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    values: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    companions: Mutex<Vec<Stream>>,
    /// The holds whose holder runs in this process, while another one may have the stream open.
    holds: Mutex<HashMap<String, HoldFile>>,
    chores: Mutex<Vec<Chore>>,
}

/// What a layer above does after each maintenance pass.
#[derive(Clone)]
struct Chore(Arc<dyn Fn(&StreamReader) + Send + Sync>);

impl fmt::Debug for Chore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chore")
    }
}

impl Extensions {
    /// Runs `work` on all companions, even after an error, and returns the first error.
    pub(super) fn for_each_companion(&self, mut work: impl FnMut(&Stream) -> Result<()>) -> Result<()> {
        let mut outcome = Ok(());
        // Under the lock, so that `work` does not run on a companion that was removed to be closed.
        for companion in &*self.companions.lock() {
            outcome = outcome.and(work(companion));
        }
        outcome
    }

    /// Returns the companions. Holding these does not keep them open.
    pub(super) fn companions(&self) -> Vec<Arc<Core>> {
        self.companions.lock().iter().map(|companion| Arc::clone(&companion.handle.core)).collect()
    }

    /// Does what layers do after a maintenance pass, and after the stream is closed. No lock of the stream's may be held that a pass takes.
    pub(super) fn do_chores(&self, stream: &StreamReader) {
        let chores = self.chores.lock().clone();
        for chore in chores {
            // It may wake tasks, and with some executors that runs them.
            let _ = callback::run(|| (chore.0)(stream));
        }
    }

    pub(super) fn close(&self) -> Result<()> {
        let mut outcome = Ok(());
        let companions = std::mem::take(&mut *self.companions.lock());
        for companion in companions {
            outcome = outcome.and(companion.close());
        }
        outcome
    }
}

/// Returns the value that a layer above the stream keeps with it. All clones share one value of each type, created at the first call. It is
/// dropped with the last clone, so it must not hold a clone itself.
///
/// ```
/// # use std::sync::atomic::{AtomicU64, Ordering};
/// # use streamlog::{Stream, extend};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// #[derive(Default)]
/// struct Refused(AtomicU64);
///
/// extend::extension::<Refused>(&stream).0.fetch_add(1, Ordering::Relaxed);
/// assert_eq!(extend::extension::<Refused>(&stream.clone()).0.load(Ordering::Relaxed), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn extension<T: Any + Send + Sync + Default>(stream: &StreamReader) -> Arc<T> {
    let mut values = stream.extensions().values.lock();
    let of_type = values.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default()));
    Arc::clone(of_type).downcast().expect("the value at the id of a type is of that type")
}

/// Adds a companion to a stream: another stream, such as one that keeps data for a layer above. A call that syncs, maintains or closes the
/// stream then does the same with its companions, after the stream's own records. A companion should be opened with
/// [`Maintenance::Manual`](crate::Maintenance::Manual).
///
/// A companion of a reader that was opened by its path stays open until it is removed or the last clone of the reader is dropped, and nobody
/// else maintains it.
///
/// ```
/// # use streamlog::{Maintenance, Stream, StreamOptions, extend};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let path = directory.path().join("audit");
/// let audit = StreamOptions::new().maintenance(Maintenance::Manual).open(&path)?;
/// extend::add_companion(&stream, audit.clone())?;
/// audit.put("user-17", "logged in")?;
/// stream.sync()?; // both
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `Closed`. The other stream is then left as it is.
pub fn add_companion(stream: &StreamReader, companion: Stream) -> Result<()> {
    // Checked under the lock that closing takes: a companion either comes in time to be closed, or is refused here.
    let mut companions = stream.extensions().companions.lock();
    if let Some(own) = stream.own() {
        drop(own.topology.manifest_to_change()?);
    }
    companions.push(companion);
    Ok(())
}

/// Removes a companion, once work in progress on it ends. The companion stays open as long as a clone of it exists.
pub fn remove_companion(stream: &StreamReader, companion: &Stream) {
    let is_other = |known: &Stream| !Arc::ptr_eq(&known.handle, &companion.handle);
    stream.extensions().companions.lock().retain(is_other);
}

/// Runs a function after each maintenance pass, about once a second or when [`Stream::maintain`] is called, and once more after the stream is
/// closed. Use it for periodic work, and to wake waiters that wait for the stream and not for one of its shards.
///
/// The function gets a reader of the stream, and runs as in [`run_callback`], until the stream is dropped. So it must not hold a clone of
/// the stream or of that reader. With that reader, [`split_shard`] and [`merge_shards`] can change the stream.
///
/// ```
/// # use std::sync::Arc;
/// # use std::sync::atomic::{AtomicU64, Ordering};
/// # use streamlog::{Maintenance, StreamOptions, extend};
/// # let directory = tempfile::tempdir()?;
/// let stream = StreamOptions::new().maintenance(Maintenance::Manual).open(directory.path())?;
/// let count = Arc::new(AtomicU64::new(0));
/// extend::after_maintenance(&stream, {
///     let count = Arc::clone(&count);
///     move |_| _ = count.fetch_add(1, Ordering::Relaxed)
/// });
/// stream.maintain()?;
/// stream.close()?;
/// assert_eq!(count.load(Ordering::Relaxed), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn after_maintenance(stream: &StreamReader, work: impl Fn(&StreamReader) + Send + Sync + 'static) {
    stream.extensions().chores.lock().push(Chore(Arc::new(work)));
}

/// Splits a shard like [`Stream::split_shard`], for work that does not keep the stream open.
///
/// ```
/// # use streamlog::{HashKey, Stream, StreamReader, extend};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let reader = StreamReader::clone(&stream);
/// let children = extend::split_shard(&reader, stream.shards()[0].id, HashKey::new(1 << 127))?;
/// assert_eq!(children.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Same as [`Stream::split_shard`]; `InvalidArgument` if another process may have the stream open.
pub fn split_shard(
    stream: &StreamReader,
    shard: ShardId,
    new_starting_hash_key: HashKey,
) -> Result<Vec<ShardDescription>> {
    own_to_reshard(stream)?.reshard(|shards| split::plan(shards, shard, new_starting_hash_key).map(Some))
}

/// Merges two shards like [`Stream::merge_shards`], for work that does not keep the stream open.
///
/// ```
/// # use streamlog::{Stream, StreamReader, extend};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let reader = StreamReader::clone(&stream);
/// let children = stream.split_shard_evenly(stream.shards()[0].id)?;
/// let merged = extend::merge_shards(&reader, children[0].id, children[1].id)?;
/// assert_eq!(merged.parent, Some(children[0].id));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Same as [`Stream::merge_shards`]; `InvalidArgument` if another process may have the stream open.
pub fn merge_shards(stream: &StreamReader, shard: ShardId, adjacent: ShardId) -> Result<ShardDescription> {
    let children =
        own_to_reshard(stream)?.reshard(|shards| merge::plan(shards, shard, adjacent).map(Some))?;
    children.into_iter().next().ok_or(Error::ShardNotFound(shard))
}

fn own_to_reshard(stream: &StreamReader) -> Result<&Core> {
    let reason = "shards are split and merged by the process that has the stream open: call this there";
    stream.own().ok_or_else(|| Error::invalid(reason))
}

/// The streams in a directory inside a stream. [`streams_inside`] returns it.
#[derive(Debug, Clone, Copy)]
pub struct StreamsInside<'a> {
    stream: &'a StreamReader,
    directory: &'a str,
}

/// Returns the streams in a directory inside a stream, for a layer that keeps data in streams of its own. They move with the stream, even
/// while it is open, and its [snapshots](StreamReader::snapshot) include them, as of a moment before its records.
///
/// ```
/// # use streamlog::{Maintenance, Stream, StreamOptions, extend};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path().join("clicks"))?;
/// let audits = extend::streams_inside(&stream, "audits");
/// let audit = audits.open("logins", StreamOptions::new().maintenance(Maintenance::Manual))?;
/// assert_eq!(audits.names()?, ["logins"]);
/// audit.close()?;
/// audits.delete("logins")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn streams_inside<'a>(stream: &'a StreamReader, directory: &'a str) -> StreamsInside<'a> {
    StreamsInside { stream, directory }
}

impl StreamsInside<'_> {
    /// Opens a stream in the directory, or creates it. By default, it takes over the file mode and the encryption of the enclosing stream.
    ///
    /// # Errors
    /// Same as [`StreamOptions::open`]; `InvalidArgument` if the name is not that of a single directory.
    pub fn open(&self, name: &str, options: StreamOptions) -> Result<Stream> {
        let mode = options.file_mode.unwrap_or(self.stream.root().mode().of_files());
        let mut options = options.file_mode(mode);
        if let (None, Some(keys)) = (&options.encryption, self.stream.key_provider()) {
            let keys = Arc::clone(keys);
            let is_on = self.stream.is_encrypted();
            options.encryption = Some(if is_on { Encryption::On(keys) } else { Encryption::Off(keys) });
        }
        Stream::open_at(Address::Inside(&self.path(name)?), options, None)
    }

    /// Returns the names of the streams in the directory, sorted.
    ///
    /// # Errors
    /// `Io`.
    pub fn names(&self) -> Result<Vec<String>> {
        let directory = self.stream.root().join(self.directory);
        let entries = if directory.is_own_dir()? { dir::list(&directory)? } else { vec![] };
        let mut names = vec![];
        for entry in entries {
            if entry.path.is_own_dir()? && Manifest::exists_in(&entry.path)? {
                names.push(entry.name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Opens a stream in the directory for reading, even if another process has it open.
    ///
    /// # Errors
    /// Same as [`StreamReader::open`].
    pub fn read(&self, name: &str) -> Result<StreamReader> {
        let path = self.path(name)?;
        let missing = || Error::not_a_stream(&path, "there is no directory at this path");
        let (clock, keys) = (Arc::clone(self.stream.clock()), self.stream.key_provider().cloned());
        StreamReader::open_root(path.open_as_root()?.ok_or_else(missing)?, clock, keys)
    }

    /// Deletes a stream in the directory.
    ///
    /// # Errors
    /// Same as [`Stream::delete`]; `InvalidArgument` if the name is not that of a single directory.
    pub fn delete(&self, name: &str) -> Result<()> {
        delete_inside(&self.path(name)?)
    }

    fn path(&self, name: &str) -> Result<OwnPath> {
        for part in [self.directory, name] {
            let mut parts = Path::new(part).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(only)), None) if only == part)
            {
                return Err(Error::invalid(format!("{part:?} is not the name of a single directory")));
            }
        }
        let directory = self.stream.root().join(self.directory);
        // Refuses a link, which may lead to another stream's files.
        directory.is_own_dir()?;
        Ok(directory.join(name))
    }
}

/// Returns the iterator without the [limits](crate::Limits) of its stream, for internal reads, or for reads with limits of their own.
///
/// ```
/// # use streamlog::{Limits, Position, StreamOptions, extend};
/// # let directory = tempfile::tempdir()?;
/// # let stream = StreamOptions::new().limits(Limits::none().read_calls_per_second(1)).open(directory.path())?;
/// let iterator = stream.iterator(stream.shards()[0].id, Position::TrimHorizon)?;
/// let mut iterator = extend::unlimited(iterator);
/// for _ in 0..10 {
///     iterator.next_batch(1_000)?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn unlimited(iterator: ShardIterator) -> ShardIterator {
    iterator.unlimited()
}

/// Returns whether a read of the iterator would return something: a record, an error, or the end of the shard. Unlike a read, this never
/// counts towards the stream's [limits](crate::Limits).
///
/// ```
/// # use streamlog::{Position, Stream, extend};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let iterator = stream.iterator(stream.shards()[0].id, Position::TrimHorizon)?;
/// assert!(!extend::is_readable(&iterator));
/// stream.put("user-17", "clicked")?;
/// assert!(extend::is_readable(&iterator));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn is_readable(iterator: &ShardIterator) -> bool {
    iterator.is_readable()
}

/// The longest name that [`check_name`] accepts, the same as for a consumer in Kinesis.
const NAME_BYTES_MAX: usize = 128;

/// Fails with `InvalidArgument` unless the name has 1 to 128 letters, digits, `.`, `_` and `-`, and does not begin with `.`, so that it can
/// name a directory. `what` is the thing named, such as `a consumer group`.
///
/// ```
/// # use streamlog::extend::check_name;
/// assert!(check_name("an audit", "logins-2023").is_ok());
/// assert!(check_name("an audit", "../logins").is_err());
/// ```
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(is_plain) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{name:?} is not a name of {what}: use 1 to {NAME_BYTES_MAX} letters, digits, '.', '_' and '-', and do not begin with '.'"
    )))
}

/// Runs a function that a caller has passed to code that builds on a stream. Returns `None` if it panics, which affects nothing else.
///
/// Within the function, closing a stream or dropping its last clone does not wait for threads that may themselves wait for the function.
///
/// ```
/// # use streamlog::{Stream, extend};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let on_overload = || stream.close(); // a caller's
/// assert!(matches!(extend::run_callback(on_overload), Some(Ok(()))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn run_callback<T>(callback: impl FnOnce() -> T) -> Option<T> {
    callback::run(callback)
}

/// Returns whether the calling thread runs a callback: a function passed to [`run_callback`], or to
/// [`report_stats`](crate::StreamOptions::report_stats).
pub fn is_in_callback() -> bool {
    callback::is_running()
}

/// Fails in a child that `fork` made of the process that opened the stream or the reader. The child has none of the parent's threads, and its
/// writes would destroy those of its parent.
///
/// # Errors
/// `InvalidArgument`.
pub fn check_process(stream: &StreamReader) -> Result<()> {
    stream.check_process()
}

/// A hold on retention. [`hold()`] returns it by name.
#[derive(Debug, Clone, Copy)]
pub struct Hold<'a> {
    stream: &'a StreamReader,
    name: &'a str,
}

/// Returns the hold with this name, whether it is set or not. While a hold is set, retention keeps the records that its reader has not
/// [released](Hold::release).
///
/// The manifest stores the hold, but not how far it is released. Each time the stream is opened, everything is held until it is released
/// again. [`StreamReader::describe`](crate::StreamReader::describe) lists the holds that are set.
///
/// ```
/// # use streamlog::{Position, Stream, extend};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let export = extend::hold(&stream, "export");
/// export.set(1 << 30)?;
/// let receipt = stream.put("user-17", "clicked")?;
/// // ... once it is exported:
/// export.release(receipt.shard, receipt.sequence.plus(1));
/// // ... once nothing is exported any more:
/// export.end()?;
/// assert!(stream.describe().holds.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn hold<'a>(stream: &'a StreamReader, name: &'a str) -> Hold<'a> {
    Hold { stream, name }
}

impl Hold<'_> {
    /// Sets the hold, or changes its bound: it keeps up to `bytes_max` bytes of segments beyond what retention keeps. If several holds are
    /// set, the largest bound counts for all.
    ///
    /// # Errors
    /// Same as [`Stream::set_retention`]; `InvalidArgument` for a bound of 0, or if another process may have the stream open.
    pub fn set(&self, bytes_max: u64) -> Result<()> {
        if bytes_max == 0 {
            let reason =
                format!("the hold {:?} would keep 0 bytes, which is nothing: end it instead", self.name);
            return Err(Error::InvalidArgument(reason.into()));
        }
        hold::set(self.topology()?, self.name, bytes_max)
    }

    /// Ends the hold, if it is set.
    ///
    /// # Errors
    /// Same as [`Stream::set_retention`]; `InvalidArgument` if another process may have the stream open.
    pub fn end(&self) -> Result<()> {
        hold::end(self.topology()?, self.name)
    }

    /// Takes over the hold from another process that may have had it before. From then on, [releases](Self::release) of this process count.
    /// Until then, everything is held.
    ///
    /// # Errors
    /// `Io`, `StorageFull`.
    pub fn take_over(&self) -> Result<()> {
        match self.stream.own() {
            Some(own) => hold::take_over(&own.topology, self.name),
            None => {
                let file = HoldFile::create(self.stream.root(), self.name)?;
                self.stream.extensions().holds.lock().insert(self.name.to_owned(), file);
                Ok(())
            }
        }
    }

    /// Releases the records of a shard before a sequence number, so that retention may drop them. If another process may have the stream
    /// open, the hold must have been [taken over](Self::take_over).
    pub fn release(&self, shard: ShardId, before: SequenceNumber) {
        if let Some(own) = self.stream.own() {
            hold::release(&own.topology, self.name, shard, before);
        } else if let Some(file) = self.stream.extensions().holds.lock().get(self.name) {
            // On a full disk, more is held than necessary.
            let _ = file.release(shard, before);
        }
    }

    fn topology(&self) -> Result<&Topology> {
        let reason = "a hold is set and ended by the process that has the stream open: call this there";
        self.stream.own().map(|own| &own.topology).ok_or_else(|| Error::invalid(reason))
    }
}
