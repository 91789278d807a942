//! The handle of an open stream.

mod directory;
pub mod extend;
pub(crate) mod lineage_iterator;
mod maintenance;
mod open;
mod put;
mod put_metrics;

use std::fmt;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::log::recovery::RecoveryReport;
use crate::log::reshard::{self, merge, scale, split};
use crate::log::retention::sweep;
use crate::log::shard::reader::iterator::ShardIterator;
use crate::log::shard::reader::verify::{Verification, VerifyProgress};
use crate::log::sys::lock::Lock;
use crate::log::topology::{Topology, lineage};
use crate::log::types::describe::{HoldDescription, ShardDescription, ShardFilter, StreamDescription};
use crate::log::types::error::{Error, Result};
use crate::log::types::event::event;
use crate::log::types::hash_key::{HashKey, KeyHash};
use crate::log::types::options::{Retention, StreamOptions};
use crate::log::types::record::Position;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::stats::StreamStats;
use crate::log::types::time::{Clock, Timestamp};

use extend::Extensions;
use lineage_iterator::LineageIterator;
use maintenance::MaintenanceThreads;
use put_metrics::PutMetrics;

/// An open stream: put records, and make iterators to read them.
///
/// A cheap clone; all clones are one stream, which is closed when the last is dropped, or by [`close`](Self::close). One process
/// has a stream open at a time.
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

/// What all clones of a stream share; dropping it closes the stream.
#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
    threads: Mutex<Option<MaintenanceThreads>>,
}

/// What the maintenance thread works on.
#[derive(Debug)]
struct Core {
    path: PathBuf,
    options: StreamOptions,
    key_hash: KeyHash,
    record_bytes_max: u64,
    clock: Arc<dyn Clock>,
    topology: Topology,
    recovery: RecoveryReport,
    extensions: Extensions,
    put_metrics: PutMetrics,
    /// Let go of when the stream is closed.
    lock: Mutex<Option<Lock>>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("path", &self.core().path).finish_non_exhaustive()
    }
}

impl Stream {
    /// Opens the stream at `path` with the default settings, or creates it; see [`StreamOptions`] for others.
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
    /// As [`StreamOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        StreamOptions::new().open(path)
    }

    pub(crate) fn open_with(path: &Path, options: StreamOptions) -> Result<Self> {
        let core = Arc::new(open::open(path, options)?);
        let threads = MaintenanceThreads::start(&core)?;
        Ok(Self { handle: Arc::new(Handle { core, threads: Mutex::new(Some(threads)) }) })
    }

    /// Where the stream takes the time from.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.core().clock
    }

    /// The time by the stream's clock.
    pub fn now(&self) -> Timestamp {
        self.core().clock.now()
    }

    /// Whether the stream was closed, here or by a clone.
    pub fn is_closed(&self) -> bool {
        self.core().topology.is_closed()
    }

    fn core(&self) -> &Core {
        &self.handle.core
    }

    /// Makes all that was put before the call survive power loss; companions too.
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
    /// `Poisoned` if this or an earlier sync of a shard failed; the other shards are synced all the same.
    pub fn sync(&self) -> Result<()> {
        self.core().sync()
    }

    /// An iterator over a shard.
    ///
    /// Positions follow Kinesis' `GetShardIterator`, with one difference: one that is behind the trim horizon is an error.
    ///
    /// ```
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let receipt = stream.put("user-17", "clicked")?;
    /// let mut iterator = stream.iterator(receipt.shard, Position::At(receipt.sequence))?;
    /// assert_eq!(iterator.next_batch(10)?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `ShardNotFound`; `Trimmed` if the position is behind the horizon; `InvalidArgument` for a time in the future; `Corrupt` if
    /// damaged bytes are in the way to a time.
    pub fn iterator(&self, shard: ShardId, position: Position) -> Result<ShardIterator> {
        let reader = Arc::clone(self.core().topology.map().get(shard)?.reader());
        ShardIterator::new(reader, position)
    }

    /// Reads all shards, each key's records in the order of their puts, across any number of splits and merges.
    ///
    /// `position` is `TrimHorizon`, `Latest` or `AtTimestamp`; the others are places in one shard.
    ///
    /// ```
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.put("user-17", "clicked")?;
    /// let mut iterator = stream.lineage_iterator(Position::TrimHorizon)?;
    /// assert_eq!(iterator.next_batch(10)?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for another position, or a time in the future.
    pub fn lineage_iterator(&self, position: Position) -> Result<LineageIterator> {
        LineageIterator::new(&self.core().topology, position)
    }

    /// How the stream is set up.
    ///
    /// ```
    /// # use streamlog::{Retention, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let description = stream.describe();
    /// assert_eq!(description.retention, Retention::default());
    /// assert_eq!(description.segment_bytes, 64 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn describe(&self) -> StreamDescription {
        let core = self.core();
        let manifest = core.topology.manifest();
        let settings = manifest.settings;
        StreamDescription {
            path: core.path.clone(),
            created_at: manifest.created_at,
            key_hash: settings.key_hash,
            retention: settings.retention,
            durability: core.options.durability,
            segment_bytes: settings.segment_bytes,
            record_bytes_max: settings.record_bytes_max,
            holds: manifest
                .holds
                .iter()
                .map(|(name, &bytes_max)| HoldDescription { name: name.clone(), bytes_max })
                .collect(),
            shards: manifest.shards.clone(),
        }
    }

    /// The shards that have not expired, in the order of their creation.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// for shard in stream.shards() {
    ///     println!("{} owns {}", shard.id, shard.hash_key_range);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shards(&self) -> Vec<ShardDescription> {
        self.core().topology.manifest().shards.clone()
    }

    /// The shards that a filter lets through, in the order of their creation, as Kinesis' `ListShards`.
    ///
    /// ```
    /// # use streamlog::{ShardFilter, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.split_shard_evenly(stream.shards()[0].id)?;
    /// assert_eq!(stream.shards().len(), 3, "the parent and its children");
    /// assert_eq!(stream.list_shards(ShardFilter::AtLatest).len(), 2, "the children");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list_shards(&self, filter: ShardFilter) -> Vec<ShardDescription> {
        lineage::filter(&self.core().topology.manifest().shards, filter)
    }

    /// Splits an open shard in two; the upper child begins with `new_starting_hash_key`. Returns the children.
    ///
    /// Puts to the shard wait for a moment and go to the children; others go on. The shard's records stay readable, and are read
    /// before those of the children, whose sequence numbers begin somewhat above its end. It takes no longer for a full shard than for
    /// an empty one.
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
    /// All or nothing, also through power loss; the shard's records are synced.
    ///
    /// # Errors
    /// `ShardNotFound`; `InvalidArgument` if the shard is closed, if the point is not greater than one plus the shard's first hash
    /// key and less than its last (as in Kinesis), or if there are 1,024 open shards; `StorageFull` or `Io` if the change cannot be
    /// written, which leaves the shard open; `Poisoned`.
    pub fn split_shard(
        &self,
        shard: ShardId,
        new_starting_hash_key: HashKey,
    ) -> Result<Vec<ShardDescription>> {
        self.reshard(|shards| split::plan(shards, shard, new_starting_hash_key).map(Some))
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
    /// As [`split_shard`](Self::split_shard).
    pub fn split_shard_evenly(&self, shard: ShardId) -> Result<Vec<ShardDescription>> {
        self.reshard(|shards| split::plan_evenly(shards, shard).map(Some))
    }

    /// Merges an open shard with the open one whose hash keys follow its own. Returns the child, which begins above the end of both.
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
    /// As [`split_shard`](Self::split_shard).
    ///
    /// # Errors
    /// `ShardNotFound`; `InvalidArgument` if one is closed, or the second does not begin right after the first ends (as in Kinesis,
    /// the order matters); otherwise as [`split_shard`](Self::split_shard).
    pub fn merge_shards(&self, shard: ShardId, adjacent: ShardId) -> Result<ShardDescription> {
        let children = self.reshard(|shards| merge::plan(shards, shard, adjacent).map(Some))?;
        children.into_iter().next().ok_or(Error::ShardNotFound(shard))
    }

    /// Scales the stream to `count` open shards that own equal parts of the hash-key space, by a series of splits and merges.
    /// Returns the open shards, in the order of their creation.
    ///
    /// As Kinesis' uniform scaling, with no bound on the factor. Each split or merge is all or nothing; after a failure or a crash
    /// the same call goes on where it stopped. Shards that appear on the way and are closed again expire like others.
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
    /// `InvalidArgument` if `count` is not 1 to 1,024; otherwise as [`split_shard`](Self::split_shard).
    pub fn update_shard_count(&self, count: u32) -> Result<Vec<ShardDescription>> {
        scale::check(count)?;
        while !self.reshard(|shards| scale::next(shards, count))?.is_empty() {}
        Ok(self.list_shards(ShardFilter::AtLatest))
    }

    fn reshard(
        &self,
        plan: impl FnOnce(&[ShardDescription]) -> Result<Option<reshard::Plan>>,
    ) -> Result<Vec<ShardDescription>> {
        reshard::apply(&self.core().topology, |manifest| plan(&manifest.shards))
    }

    /// Drops the records of a shard before a sequence number, as if they had expired; one beyond the end means all of them. No iterator
    /// returns them any more; the disk gets their segments back with the next pass of the maintenance. As Kafka's `DeleteRecords`.
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
    /// After a crash records of the last segments may be back.
    /// Where a later record replaces what is dropped, [`sync`](Self::sync) first: power loss may take that one, and what has left the disk does
    /// not come back.
    ///
    /// # Errors
    /// `ShardNotFound`; `Closed`.
    pub fn trim_before(&self, shard: ShardId, sequence: SequenceNumber) -> Result<()> {
        sweep::trim_before(&self.core().topology, shard, sequence)
    }

    /// Changes how long records are kept, from now on; kept in the manifest. What has expired does not come back.
    ///
    /// ```
    /// # use streamlog::{DAY, Retention, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.set_retention(Retention::age(7 * DAY).max_bytes(8 << 30))?;
    /// assert_eq!(stream.describe().retention.age_max(), Some(7 * DAY));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for an age below 1 second; `Io` if the change cannot be written, which changes nothing; `StorageFull` if there
    /// is no room for it, not even once what is over by the new retention is gone.
    pub fn set_retention(&self, retention: Retention) -> Result<()> {
        retention.check()?;
        sweep::change(&self.core().topology, retention)
    }

    /// Counts of each shard: sequence numbers, segments, bytes on the disk, what was put and read, how far readers are behind.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.put("user-17", "clicked")?;
    /// let stats = stream.stats()?;
    /// println!("{} records on {} bytes of disk", stats.record_count(), stats.disk_bytes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io` if the file system refuses to tell.
    pub fn stats(&self) -> Result<StreamStats> {
        self.core().stats()
    }

    /// What opening the stream found and did.
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

    /// Does the work behind the puts once: syncs, seals full segments, and drops what retention says is over. With
    /// [`Maintenance::Thread`](crate::Maintenance::Thread) the stream does it by itself.
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
    /// `Poisoned` or `Io` if a sync failed.
    pub fn maintain(&self) -> Result<()> {
        self.core().maintain(Pass { sync: true, tidy: true })
    }

    /// Reads all records that are there, and lists all damage. `progress` is told how far it is, again and again, and may break off.
    ///
    /// ```
    /// # use std::ops::ControlFlow;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let found = stream.verify(|progress| {
    ///     println!("{} of {} bytes", progress.bytes_read, progress.bytes_total);
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert!(found.is_complete && found.damage.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `UnsupportedFormat`, or `Io` if the operating system refuses something; damage is no error here.
    pub fn verify(
        &self,
        mut progress: impl FnMut(VerifyProgress) -> ControlFlow<()>,
    ) -> Result<Verification> {
        let map = self.core().topology.map_full();
        let mut found = Verification::default();
        let mut at = VerifyProgress { bytes_read: 0, bytes_total: self.stats()?.disk_bytes() };
        let mut step = |bytes: u64| {
            at.bytes_read += bytes;
            progress(at)
        };
        for shard in map.iter() {
            if shard.reader().verify(&mut found, &mut step)?.is_break() {
                return Ok(found);
            }
        }
        Ok(Verification { is_complete: true, ..found })
    }

    /// Closes the stream, also for its clones: syncs, seals, gives back unused blocks, and lets another open it. Iterators go on
    /// to read what was put until then.
    ///
    /// Dropping the last clone does the same, and says nothing of errors.
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
    /// The first error of a sync; the stream is closed all the same.
    pub fn close(self) -> Result<()> {
        self.handle.close()
    }
}

/// What tests of crashes have to do at a moment of their own, or to see without a call to the system.
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

        /// Which records of each shard can be read.
        pub(crate) fn shard_bounds(&self) -> BTreeMap<ShardId, Range<SequenceNumber>> {
            let bounds = |shard: &Arc<Shard>| (shard.id(), shard.horizon()..shard.next_sequence());
            self.core().topology.map_full().iter().map(bounds).collect()
        }

        /// Seals what waits for it.
        pub(crate) fn seal_waiting(&self) -> Result<()> {
            self.core().topology.for_each_shard(|shard| shard.seal_waiting())
        }

        /// A pass that does not sync.
        pub(crate) fn tidy(&self) -> Result<()> {
            self.core().maintain(Pass { sync: false, tidy: true })
        }
    }
}

impl Handle {
    fn close(&self) -> Result<()> {
        if let Some(threads) = self.threads.lock().take() {
            threads.stop();
        }
        let Some(_lock) = self.core.lock.lock().take() else {
            return Ok(());
        };
        // The companions after the records that they may tell of.
        let shards = self.core.topology.close();
        let (closed, stream) = (shards.and(self.core.extensions.close()), self.core.path.display());
        match &closed {
            Ok(()) => event!(info, "the stream is closed", stream = stream),
            Err(error) => event!(error, "the stream is not closed cleanly", stream = stream, error = error),
        }
        self.core.report();
        closed
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A caller who wants to know calls `close`.
        let _ = self.close();
    }
}

/// What a pass of the maintenance does, besides what cannot wait.
#[derive(Debug, Clone, Copy)]
struct Pass {
    sync: bool,
    /// Seal, drop what is too old, and let go of what nobody uses.
    tidy: bool,
}

impl Core {
    fn sync(&self) -> Result<()> {
        let synced = self.topology.for_each_shard(|shard| shard.sync());
        // After the records that they may tell of.
        synced.and(self.extensions.for_each_companion(Stream::sync))
    }

    fn stats(&self) -> Result<StreamStats> {
        let (map, expired) = self.topology.map_and_expired();
        let shards = map.iter().map(|shard| shard.stats()).collect::<Result<_>>()?;
        Ok(StreamStats { shards, expired, puts: self.put_metrics.stats() })
    }

    /// Hands the stream's counts to whoever asked for them.
    fn report(&self) {
        let Some(report) = &self.options.report else { return };
        match self.stats() {
            // Should it panic, which is printed, the syncs that follow on this thread matter more.
            Ok(stats) => drop(catch_unwind(AssertUnwindSafe(|| (report.0)(&self.path, &stats)))),
            Err(error) => {
                event!(warn, "counts cannot be told", stream = self.path.display(), error = error)
            }
        }
    }

    /// One pass of the maintenance.
    fn maintain(&self, pass: Pass) -> Result<()> {
        let mut outcome = Ok(());
        if pass.sync {
            outcome = self.topology.for_each_shard(|shard| {
                shard.sync()?;
                shard.renew_notes();
                Ok(())
            });
        }
        // A stream that is bounded in bytes may go far beyond the bound in a second. What is dropped need not be sealed first.
        if pass.tidy || self.topology.manifest().settings.retention.bytes_max().is_some() {
            outcome = outcome.and(sweep::sweep(&self.topology));
        }
        outcome = outcome.and(self.topology.for_each_shard(|shard| {
            if pass.tidy {
                shard.drop_idle(&*self.clock);
            }
            if pass.tidy || shard.has_many_to_seal() { shard.seal_waiting() } else { Ok(()) }
        }));
        outcome =
            outcome.and(self.extensions.for_each_companion(|companion| companion.core().maintain(pass)));
        if pass.tidy {
            self.report();
        }
        outcome
    }
}
