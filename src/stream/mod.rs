//! The handle of an open stream.

mod maintenance;
mod open;
mod put;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::manifest::Manifest;
use crate::recovery::RecoveryReport;
use crate::shard::Verification;
use crate::shard::iterator::ShardIterator;
use crate::shard::wait::Waiter;
use crate::sys::lock::Lock;
use crate::topology::shard_map::ShardMap;
use crate::words::describe::{ShardDescription, StreamDescription};
use crate::words::error::{Error, Result};
use crate::words::options::StreamOptions;
use crate::words::record::Position;
use crate::words::shard_id::ShardId;
use crate::words::stats::StreamStats;
use crate::words::time::Clock;

use maintenance::MaintenanceThread;

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
#[derive(Debug, Clone)]
pub struct Stream {
    handle: Arc<Handle>,
}

/// What all clones of a stream share; dropping it closes the stream.
#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
    thread: Mutex<Option<MaintenanceThread>>,
}

/// What the maintenance thread works on.
#[derive(Debug)]
struct Core {
    path: PathBuf,
    options: StreamOptions,
    key_hash: crate::words::hash_key::KeyHash,
    record_bytes_max: u64,
    clock: Arc<dyn Clock>,
    manifest: Mutex<Manifest>,
    map: ArcSwap<ShardMap>,
    recovery: RecoveryReport,
    bell: Arc<Waiter>,
    /// Let go of when the stream is closed.
    lock: Mutex<Option<Lock>>,
}

impl Stream {
    /// Opens the stream at `path` with the default settings, or creates it; see [`StreamOptions`] for others.
    ///
    /// # Errors
    /// As [`StreamOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        StreamOptions::new().open(path)
    }

    pub(crate) fn open_with(path: &Path, options: StreamOptions) -> Result<Self> {
        let core = Arc::new(open::open(path, options)?);
        let thread = MaintenanceThread::start(&core)?;
        Ok(Self { handle: Arc::new(Handle { core, thread: Mutex::new(thread) }) })
    }

    fn core(&self) -> &Core {
        &self.handle.core
    }

    /// Makes all that was put before the call survive power loss.
    ///
    /// # Errors
    /// `Poisoned` if this or an earlier sync of a shard failed; the other shards are synced all the same.
    pub fn sync(&self) -> Result<()> {
        self.core().for_each_shard(|shard| shard.sync())
    }

    /// An iterator over a shard.
    ///
    /// Positions follow Kinesis' `GetShardIterator`, with one difference: one that is behind the trim horizon is an error.
    ///
    /// # Errors
    /// `ShardNotFound`; `Trimmed` if the position is behind the horizon; `InvalidArgument` for a time in the future.
    pub fn iterator(&self, shard: ShardId, position: Position) -> Result<ShardIterator> {
        let map = self.core().map.load();
        ShardIterator::new(Arc::clone(map.get(shard)?), position)
    }

    /// How the stream is set up.
    pub fn describe(&self) -> StreamDescription {
        let core = self.core();
        let manifest = core.manifest.lock();
        let settings = manifest.settings;
        StreamDescription {
            path: core.path.clone(),
            created_at: manifest.created_at,
            key_hash: settings.key_hash,
            retention: settings.retention,
            durability: core.options.durability,
            segment_bytes: settings.segment_bytes,
            record_bytes_max: settings.record_bytes_max,
            shards: manifest.shards.clone(),
        }
    }

    /// The shards that have not expired, in the order of their creation.
    pub fn shards(&self) -> Vec<ShardDescription> {
        self.core().manifest.lock().shards.clone()
    }

    /// Counts of each shard: sequence numbers, segments, bytes on the disk.
    ///
    /// # Errors
    /// `Io` if the file system refuses to tell.
    pub fn stats(&self) -> Result<StreamStats> {
        let map = self.core().map.load();
        Ok(StreamStats { shards: map.iter().map(|shard| shard.stats()).collect::<Result<_>>()? })
    }

    /// What opening the stream found and did.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.core().recovery
    }

    /// Does the work behind the puts once: syncs, and seals full segments. With
    /// [`Maintenance::Thread`](crate::Maintenance::Thread) the stream does it by itself.
    ///
    /// # Errors
    /// `Poisoned` or `Io` if a sync failed.
    pub fn maintain(&self) -> Result<()> {
        self.core().maintain(true)
    }

    /// Reads all records that are there, and lists all damage. `progress` is told the bytes of keys and data of each piece that was
    /// read.
    ///
    /// # Errors
    /// `UnsupportedFormat`, or `Io` if the operating system refuses something; damage is no error here.
    pub fn verify(&self, mut progress: impl FnMut(u64)) -> Result<Verification> {
        let map = self.core().map.load_full();
        let mut found = Verification::default();
        for shard in map.iter() {
            shard.verify(&mut found, &mut progress)?;
        }
        Ok(found)
    }

    /// Closes the stream, also for its clones: syncs, seals, gives back unused blocks, and lets another open it. Iterators go on
    /// to read what was put until then.
    ///
    /// Dropping the last clone does the same, and says nothing of errors.
    ///
    /// # Errors
    /// The first error of a sync; the stream is closed all the same.
    pub fn close(self) -> Result<()> {
        self.handle.close()
    }
}

impl Handle {
    fn close(&self) -> Result<()> {
        if let Some(thread) = self.thread.lock().take() {
            thread.stop();
        }
        let Some(_lock) = self.core.lock.lock().take() else {
            return Ok(());
        };
        let closed = self.core.for_each_shard(|shard| shard.close());
        closed.and(self.core.note_synced())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A caller who wants to know calls `close`.
        let _ = self.close();
    }
}

impl Core {
    /// Does something with each shard, all of them, and returns the first error.
    fn for_each_shard(&self, mut work: impl FnMut(&crate::shard::Shard) -> Result<()>) -> Result<()> {
        let map = self.map.load_full();
        let mut outcome = Ok(());
        for shard in map.iter() {
            outcome = outcome.and(work(shard));
        }
        outcome
    }

    /// Keeps in the manifest up to where the shards are synced, so that a file that goes missing later is missed.
    fn note_synced(&self) -> Result<()> {
        let synced = self.map.load().iter().map(|shard| (shard.id(), shard.synced_sequence())).collect();
        let mut manifest = self.manifest.lock();
        if manifest.synced == synced {
            return Ok(());
        }
        manifest.synced = synced;
        match manifest.store(&self.path) {
            // The manifest that is there promises less, and is as true. No record depends on it.
            Err(Error::StorageFull(_)) => Ok(()),
            outcome => outcome,
        }
    }

    /// One pass of the maintenance.
    fn maintain(&self, sync: bool) -> Result<()> {
        self.for_each_shard(|shard| {
            if sync {
                shard.sync()?;
                shard.close_idle_windows();
            }
            shard.seal_waiting()
        })
    }
}
