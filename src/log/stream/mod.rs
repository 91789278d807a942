//! The handle of an open stream.

mod address;
pub(crate) mod archive;
mod callback;
mod directory;
pub mod extend;
mod extras;
pub(crate) mod lineage_iterator;
pub(crate) mod maintenance;
mod open;
mod put;
mod put_metrics;
pub(crate) mod reader;
mod snapshot;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};

use crate::log::keys::Keys;
use crate::log::recovery::RecoveryReport;
use crate::log::reshard::{self, scale, split};
use crate::log::retention::sweep;
use crate::log::sys::lock::Lock;
use crate::log::sys::root::OwnPath;
use crate::log::topology::Topology;
use crate::log::types::describe::{ShardDescription, ShardFilter};
use crate::log::types::error::{Error, Result};
use crate::log::types::event::event;
use crate::log::types::hash_key::{HashKey, KeyHash};
use crate::log::types::options::{Maintenance, Retention, StreamOptions, check_property};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::stats::StreamStats;
use crate::log::types::time::Clock;

use address::Address;
use extend::Extensions;
use extras::Codec;
use maintenance::{MaintenancePool, Membership};
use put_metrics::PutMetrics;
use reader::StreamReader;

/// An open stream: puts records, and creates iterators that read them.
///
/// Clones are cheap, and all of them are the same stream. [`close`](Self::close) or dropping the last clone closes it. Only one process at
/// a time can have a stream open.
///
/// ```
/// # use streamlog::{Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("clicks");
/// let stream = Stream::open(&path)?;
/// let receipt = stream.put("user-17", b"clicked")?;
///
/// let mut iterator = stream.iterator(receipt.shard, Position::TrimHorizon)?;
/// let batch = iterator.next_batch(1_000)?;
/// assert_eq!(batch.iter().next().unwrap().partition_key(), b"user-17");
/// stream.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Stream {
    handle: Arc<Handle>,
}

/// What all clones of a stream share. Dropping it closes the stream.
#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
    reader: StreamReader,
    maintained: Mutex<Option<Membership>>,
}

/// The part of a stream that the maintenance threads also use.
#[derive(Debug)]
struct Core {
    root: OwnPath,
    options: StreamOptions,
    key_hash: KeyHash,
    record_bytes_max: u64,
    codec: RwLock<Codec>,
    /// Whether a put has more to do than to append: the stream compresses, encrypts, or limits puts. A put checks only this flag for all of them.
    has_extras: AtomicBool,
    keys: Arc<Keys>,
    clock: Arc<dyn Clock>,
    topology: Topology,
    recovery: RecoveryReport,
    extensions: Extensions,
    put_metrics: PutMetrics,
    /// Released when the stream is closed.
    lock: Mutex<Option<Lock>>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("path", &self.core().root.to_path_buf()).finish_non_exhaustive()
    }
}

impl Stream {
    /// Opens the stream at `path` with the default settings, or creates it. [`StreamOptions`] opens it with other settings.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("clicks");
    /// let stream = Stream::open(&path)?;
    /// assert_eq!(stream.shards().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`StreamOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        StreamOptions::new().open(path)
    }

    /// Opens a stream, which the pool maintains, or threads of its own if there is none.
    fn open_at(address: Address<'_>, options: StreamOptions, pool: Option<&MaintenancePool>) -> Result<Self> {
        let pool = match (options.maintenance, pool) {
            (Maintenance::Manual, _) => None,
            (Maintenance::Thread, Some(pool)) => Some(pool.clone()),
            (Maintenance::Thread, None) => Some(MaintenancePool::new()?),
        };
        let core = Arc::new(open::open(address, options, pool.as_ref())?);
        let maintained = Mutex::new(pool.map(|pool| Membership::begin(&core, pool)));
        let reader = StreamReader::of_core(&core);
        Ok(Self { handle: Arc::new(Handle { core, reader, maintained }) })
    }

    fn core(&self) -> &Core {
        &self.handle.core
    }

    /// Syncs everything that was put before the call, so that it survives power loss. Companions are synced too.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.put("user-17", "clicked")?;
    /// stream.sync()?; // from here on it survives power loss
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io` if the sync of a shard fails, or `Poisoned` if an earlier sync of it failed. The other shards are synced all the same.
    pub fn sync(&self) -> Result<()> {
        self.core().sync()
    }

    /// Splits an open shard in two. The upper child begins with `new_starting_hash_key`. Returns the children.
    ///
    /// Puts to the shard wait for a moment and then go to the children. Puts to other shards do not wait. The shard's records stay
    /// readable, and readers read them before those of the children. The children's sequence numbers begin somewhat above the shard's end.
    /// The time of a split does not depend on the size of the shard.
    ///
    /// ```
    /// # use streamlog::{HashKey, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let shard = stream.shards()[0].id;
    /// let children = stream.split_shard(shard, HashKey::new(1 << 127))?;
    /// assert_eq!(children[1].hash_key_range.start, HashKey::new(1 << 127));
    /// assert_eq!(children[1].parent, Some(shard));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// A split is all or nothing, also through power loss. The shard's records are synced.
    ///
    /// # Errors
    /// `ShardNotFound`; `InvalidArgument` if the shard is closed, if the hash key is not greater than one plus the shard's first hash key
    /// and less than its last (as in Kinesis), or if there are 1,024 open shards; `StorageFull` or `Io` if the change cannot be written,
    /// which leaves the shard open; `Poisoned`, `Closed`.
    pub fn split_shard(
        &self,
        shard: ShardId,
        new_starting_hash_key: HashKey,
    ) -> Result<Vec<ShardDescription>> {
        extend::split_shard(self, shard, new_starting_hash_key)
    }

    /// Splits an open shard into halves; see [`split_shard`](Self::split_shard).
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let children = stream.split_shard_evenly(stream.shards()[0].id)?;
    /// assert_eq!(children.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`split_shard`](Self::split_shard).
    pub fn split_shard_evenly(&self, shard: ShardId) -> Result<Vec<ShardDescription>> {
        self.core().reshard(|shards| split::plan_evenly(shards, shard).map(Some))
    }

    /// Merges an open shard with the open shard whose hash keys follow its own. Returns the child, which begins above the end of both.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let children = stream.split_shard_evenly(stream.shards()[0].id)?;
    /// let merged = stream.merge_shards(children[0].id, children[1].id)?;
    /// assert_eq!(merged.adjacent_parent, Some(children[1].id));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// Same as [`split_shard`](Self::split_shard).
    ///
    /// # Errors
    /// `ShardNotFound`; `InvalidArgument` if one of them is closed, or if the second does not begin right after the first ends (as in
    /// Kinesis, the order matters); otherwise the same as [`split_shard`](Self::split_shard).
    pub fn merge_shards(&self, shard: ShardId, adjacent: ShardId) -> Result<ShardDescription> {
        extend::merge_shards(self, shard, adjacent)
    }

    /// Scales the stream to `count` open shards that own equal parts of the hash-key space, by a series of splits and merges. Returns the
    /// open shards, in the order of their creation.
    ///
    /// It works like Kinesis' uniform scaling, but without a limit on the factor. Each split or merge is all or nothing. After a failure or
    /// a crash, the same call continues where it stopped. Intermediate shards expire like others.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let open = stream.update_shard_count(4)?;
    /// assert_eq!(open.len(), 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` if `count` is not 1 to 1,024; otherwise the same as [`split_shard`](Self::split_shard).
    pub fn update_shard_count(&self, count: u32) -> Result<Vec<ShardDescription>> {
        scale::check(count)?;
        while !self.core().reshard(|shards| scale::next(shards, count))?.is_empty() {}
        Ok(self.list_shards(ShardFilter::AtLatest))
    }

    /// Drops the records of a shard before a sequence number, as if they had expired. A number beyond the end drops all records. Iterators
    /// no longer return them, and the next maintenance pass frees the disk space of their segments. It works like Kafka's `DeleteRecords`.
    ///
    /// ```
    /// # use streamlog::{Error, Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let receipt = stream.put("user-17", "clicked")?;
    /// stream.trim_before(receipt.shard, receipt.sequence.plus(1))?;
    /// let outcome = stream.iterator(receipt.shard, Position::At(receipt.sequence));
    /// assert!(matches!(outcome, Err(Error::Trimmed { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// After a crash, dropped records of the last segments may be back. If a later record replaces the dropped ones, call
    /// [`sync`](Self::sync) first: otherwise, power loss may take both.
    ///
    /// # Errors
    /// `ShardNotFound`; `Closed`.
    pub fn trim_before(&self, shard: ShardId, sequence: SequenceNumber) -> Result<()> {
        sweep::trim_before(&self.core().topology, shard, sequence)
    }

    /// Sets or removes a property of the stream, a text with a name; see [`StreamOptions::property`].
    ///
    /// # Durability
    /// The change is durable when the call returns. A crash leaves the old text or the new one.
    ///
    /// # Errors
    /// `InvalidArgument` for a name or a text that is too long; same as [`set_retention`](Self::set_retention).
    pub fn set_property(&self, name: &str, text: Option<&str>) -> Result<()> {
        check_property(name, text.unwrap_or_default())?;
        sweep::update(&self.core().topology, |manifest| {
            match text {
                Some(text) => drop(manifest.properties.insert(name.to_owned(), text.to_owned())),
                None => drop(manifest.properties.remove(name)),
            }
            Ok(())
        })
    }

    /// Encrypts new records with a new data key, which the stream's [`KeyProvider`](crate::KeyProvider) wraps. Records that were put before
    /// stay as they are, and the stream keeps their keys. Open groups rotate the keys of their checkpoints too.
    ///
    /// ```
    /// # #[cfg(feature = "encryption")] {
    /// # use streamlog::{KeyFile, StreamOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let keys = KeyFile::create(directory.path().join("keys"))?;
    /// let stream = StreamOptions::new().encryption(keys).open(directory.path().join("clicks"))?;
    /// stream.rotate_key()?;
    /// assert_eq!(stream.describe().encryption.unwrap().data_key, 1);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// When it returns, the new key is in the manifest, and no later put uses the old one.
    ///
    /// # Errors
    /// `InvalidArgument` if the stream is not encrypted; `KeyUnavailable` if the key cannot be wrapped; same as
    /// [`set_retention`](Self::set_retention).
    pub fn rotate_key(&self) -> Result<()> {
        let core = self.core();
        if !core.keys.is_on() {
            return Err(Error::invalid(
                "the stream is not encrypted, and has no key to rotate: open it with StreamOptions::encryption",
            ));
        }
        sweep::rotate_key(&core.topology)?;
        core.extensions.for_each_companion(Self::rotate_key)
    }

    /// Switches encryption of new records on or off. Records that were put before stay as they are. Open groups do the same with their
    /// checkpoints. The stream must have been opened with keys, such as those of
    /// [`StreamOptions::encryption_keys`](crate::StreamOptions::encryption_keys). Each time encryption is switched on, the stream gets a
    /// new data key.
    ///
    /// ```
    /// # #[cfg(feature = "encryption")] {
    /// # use streamlog::{KeyFile, StreamOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let keys = KeyFile::create(directory.path().join("keys"))?;
    /// let stream = StreamOptions::new().encryption_keys(keys).open(directory.path().join("clicks"))?;
    /// assert!(stream.describe().encryption.is_none());
    /// stream.set_encrypted(true)?;
    /// assert!(stream.describe().encryption.is_some());
    /// stream.set_encrypted(false)?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// When it returns, the change survives power loss, and applies to all puts that begin later.
    ///
    /// # Errors
    /// `KeyUnavailable` if the stream was opened without keys, or if the new key cannot be wrapped, which changes nothing. Also
    /// `KeyUnavailable` if the new key cannot be unwrapped: then the stream is encrypted, and puts fail with the same error until a later call
    /// succeeds. Otherwise same as [`set_retention`](Self::set_retention).
    pub fn set_encrypted(&self, is_encrypted: bool) -> Result<()> {
        let core = self.core();
        match is_encrypted {
            _ if core.keys.is_on() == is_encrypted => {}
            true => sweep::add_key(&core.topology)?,
            false => sweep::switch_encryption_off(&core.topology)?,
        }
        core.apply_keys()?;
        core.extensions.for_each_companion(|companion| companion.set_encrypted(is_encrypted))
    }

    /// Changes how long records are kept, from now on. The manifest stores it. Expired records do not come back. If some of them cannot be
    /// dropped now, the call succeeds, and the next maintenance pass tries again.
    ///
    /// ```
    /// # use streamlog::{DAY, Retention, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.set_retention(Retention::age(7 * DAY).bytes_max(8 << 30))?;
    /// assert_eq!(stream.describe().retention.age, Some(7 * DAY));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for an age below 1 second; `Io` if the change cannot be written, which changes nothing; `StorageFull` if there is
    /// no room for the change, even after dropping records that have expired under the new retention; `Closed`.
    pub fn set_retention(&self, retention: Retention) -> Result<()> {
        retention.check()?;
        sweep::change(&self.core().topology, retention)
    }

    /// Returns what opening the stream found and did.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// for shard in &stream.recovery().shards {
    ///     println!("{}: {} bytes scanned, {:?} cut", shard.shard, shard.scanned_bytes, shard.torn_tail);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recovery(&self) -> &RecoveryReport {
        &self.core().recovery
    }

    /// Runs one maintenance pass: syncs, seals full segments, and drops expired records. With [`Maintenance::Thread`], the stream does this
    /// by itself.
    ///
    /// ```
    /// # use streamlog::{Maintenance, StreamOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let stream = StreamOptions::new().maintenance(Maintenance::Manual).open(directory.path())?;
    /// stream.put("user-17", "clicked")?;
    /// stream.maintain()?;
    /// let shard = &stream.stats()?.shards[0];
    /// assert_eq!(shard.synced_sequence, shard.next_sequence);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Poisoned` or `Io` if a sync failed; `Closed`; otherwise the first error of retention or of sealing.
    pub fn maintain(&self) -> Result<()> {
        self.handle.core.maintain(Pass { sync: true, tidy: true })
    }

    /// Closes the stream, also for its clones: syncs, seals, frees unused blocks, and lets others open the stream. Iterators can still read
    /// everything that was put before.
    ///
    /// Dropping the last clone does the same, but reports no errors. If another thread is closing the stream, the call waits for it. A
    /// callback, such as that of `report_stats`, may close the stream too; there, the call does not wait for other threads.
    ///
    /// ```
    /// # use streamlog::{Error, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let clone = stream.clone();
    /// stream.close()?;
    /// assert!(matches!(clone.put("user-17", "clicked"), Err(Error::Closed)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns the first error, such as that of a sync. The stream is closed all the same. `InvalidArgument` in a child made by `fork`, which
    /// leaves the stream to its parent.
    pub fn close(self) -> Result<()> {
        self.handle.close()
    }
}

/// What crash tests have to do at a certain moment, or to observe without a system call.
#[cfg(test)]
mod for_tests {
    use std::collections::BTreeMap;
    use std::ops::Range;

    use super::*;
    use crate::log::shard::Shard;

    impl Stream {
        /// Prepares one thing ahead of the puts to each shard.
        pub(crate) fn prepare_ahead(&self) -> Result<()> {
            self.core().topology.for_each_shard(|shard| shard.prepare_ahead().map(drop))
        }

        /// Returns which records of each shard can be read.
        pub(crate) fn shard_bounds(&self) -> BTreeMap<ShardId, Range<SequenceNumber>> {
            let bounds = |shard: &Arc<Shard>| (shard.id(), shard.horizon()..shard.next_sequence());
            self.core().topology.map_full().iter().map(bounds).collect()
        }

        /// Seals the segments that wait for it.
        pub(crate) fn seal_waiting(&self) -> Result<()> {
            self.core().topology.for_each_shard(|shard| shard.seal_waiting())
        }

        /// Runs a pass that does not sync.
        pub(crate) fn tidy(&self) -> Result<()> {
            self.handle.core.maintain(Pass { sync: false, tidy: true })
        }
    }
}

impl Handle {
    fn close(&self) -> Result<()> {
        if let Err(error) = self.core.topology.check_process() {
            self.leave_to_parent();
            return Err(error);
        }
        // Held to the end, so that no call that closes the stream returns before it is closed. A callback does not wait for that: the thread that
        // closes the stream may wait for the one that runs the callback.
        let mut maintained = match self.maintained.try_lock() {
            Some(maintained) => maintained,
            None if callback::is_running() => return Ok(()),
            None => self.maintained.lock(),
        };
        if let Some(membership) = maintained.take() {
            membership.end();
        }
        let Some(_lock) = self.core.lock.lock().take() else {
            return Ok(());
        };
        // The companions are closed after the records that they may refer to.
        let shards = self.core.topology.close();
        let (closed, stream) = (shards.and(self.core.extensions.close()), self.core.root.display());
        match &closed {
            Ok(()) => event!(info, "the stream is closed", stream = stream),
            Err(error) => event!(error, "the stream is not closed cleanly", stream = stream, error = error),
        }
        self.core.report();
        self.core.extensions.do_chores(&self.reader);
        closed
    }

    /// Leaves everything to the process that opened the stream. In a child that `fork` made of it, dropping the stream would remove files
    /// and unlock the directory, and the threads to wait for do not exist.
    fn leave_to_parent(&self) {
        std::mem::forget(Arc::clone(&self.core));
        if let Some(mut maintained) = self.maintained.try_lock() {
            std::mem::forget(maintained.take());
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A caller who wants to see the error calls `close`.
        let _ = self.close();
    }
}

/// What a maintenance pass does besides what cannot wait.
#[derive(Debug, Clone, Copy)]
struct Pass {
    sync: bool,
    /// Seal, drop what has expired, and close what is unused.
    tidy: bool,
}

impl Core {
    fn reshard(
        &self,
        plan: impl FnOnce(&[ShardDescription]) -> Result<Option<reshard::Plan>>,
    ) -> Result<Vec<ShardDescription>> {
        reshard::apply(&self.topology, |manifest| plan(&manifest.shards))
    }

    fn sync(&self) -> Result<()> {
        self.topology.check_process()?;
        let synced = self.topology.for_each_shard(|shard| shard.sync());
        // The companions are synced after the records that they may refer to.
        let synced = synced.and(self.extensions.for_each_companion(Stream::sync));
        synced.and(self.root.check_root_not_removed())
    }

    fn stats(&self) -> Result<StreamStats> {
        let (map, expired) = self.topology.map_and_expired();
        let shards = map.iter().map(|shard| shard.stats()).collect::<Result<_>>()?;
        Ok(StreamStats { shards, expired, puts: self.put_metrics.stats() })
    }

    /// Passes the stream's counts to the report that is set, if any.
    fn report(&self) {
        let Some(report) = &self.options.report else { return };
        match self.stats() {
            // If it panics, the panic is printed. The syncs that follow on this thread matter more.
            Ok(stats) => {
                callback::report(std::ptr::from_ref(self).addr(), || (report.0)(&self.root, &stats));
            }
            Err(error) => {
                event!(warn, "the counts could not be collected", stream = self.root.display(), error = error)
            }
        }
    }

    /// Runs one maintenance pass, and reports the counts.
    fn maintain(self: &Arc<Self>, pass: Pass) -> Result<()> {
        self.topology.check_process()?;
        let outcome = self.carry_out(pass);
        if pass.tidy {
            self.report_all();
            self.extensions.do_chores(&StreamReader::of_core(self));
        }
        outcome
    }

    /// Reports the counts of the stream and of its companions. No lock is held meanwhile, so the reports may call any of them.
    fn report_all(&self) {
        self.extensions.companions().iter().for_each(|companion| companion.report_all());
        // The last report came with closing, while this pass ran.
        if !self.topology.is_closed() {
            self.report();
        }
    }

    fn carry_out(&self, pass: Pass) -> Result<()> {
        let mut outcome = Ok(());
        if pass.sync {
            outcome = self.topology.for_each_shard(|shard| {
                shard.sync()?;
                shard.renew_notes();
                Ok(())
            });
        }
        // A stream with a limit in bytes may go far beyond it in a second. What is dropped does not have to be sealed first.
        if pass.tidy || self.topology.manifest().settings.retention.bytes_max.is_some() {
            outcome = outcome.and(sweep::sweep(&self.topology));
        }
        if pass.tidy {
            self.topology.context().windows.close_idle();
        }
        outcome = outcome.and(self.topology.for_each_shard(|shard| {
            if pass.tidy {
                shard.drop_idle_prepared(&*self.clock);
            }
            if pass.tidy || shard.has_many_to_seal() { shard.seal_waiting() } else { Ok(()) }
        }));
        outcome.and(self.extensions.for_each_companion(|companion| companion.core().carry_out(pass)))
    }
}
