//! A shard: one writer at a time appends, any number of readers follow.

mod ahead;
mod appender;
pub(crate) mod batch;
pub(crate) mod closing;
mod find;
pub(crate) mod iterator;
pub(crate) mod lag;
mod reads;
pub(crate) mod records;
mod segments;
mod spares;
mod sync;
pub(crate) mod trim;
mod turn;
mod verify;
pub(crate) mod wait;
pub(crate) mod wait_any;

pub use verify::{Verification, VerifyProgress};

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::log::manifest::Marks;
use crate::log::recovery::{self, RecoveredShard};
use crate::log::segment::growth::Writing;
use crate::log::sys::dir;
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Error, Result};
use crate::log::types::event::event;
use crate::log::types::hash_key::HashKeyRange;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::stats::ShardStats;
use crate::log::types::time::{Clock, Timestamp};

use appender::Appender;
use reads::Reads;
use segments::Segments;
use turn::SyncTurn;
use wait::Waiter;

/// Where the shards' directories are.
pub(crate) fn shards_dir(stream_dir: &Path) -> PathBuf {
    stream_dir.join("shards")
}

/// Where a shard's directory is.
pub(crate) fn dir_of(stream_dir: &Path, shard: ShardId) -> PathBuf {
    shards_dir(stream_dir).join(format!("{:012}", shard.get()))
}

/// One shard of an open stream.
#[derive(Debug)]
pub(crate) struct Shard {
    id: ShardId,
    dir: PathBuf,
    /// As it was when the shard was created: how it ended is in `closing`.
    created: ShardDescription,
    writing: Writing,
    clock: Arc<dyn Clock>,
    /// Rung when there is work for the maintenance.
    bell: Arc<Waiter>,
    /// Rung when something is to be prepared ahead of the puts.
    ahead_bell: Arc<Waiter>,
    segments: Segments,
    appender: Mutex<Appender>,
    /// Held by whoever syncs. Taken before `appender`.
    sync_turn: SyncTurn,
    /// How long the last sync took, in nanoseconds.
    sync_nanos: AtomicU64,
    /// The number that the next record will have: readers may see all below.
    next_sequence: AtomicU64,
    /// All below survives power loss.
    synced_sequence: AtomicU64,
    /// The oldest number that can be read.
    horizon: AtomicU64,
    /// When that record arrived, in microseconds; 0 while nobody has looked.
    horizon_timestamp: AtomicU64,
    /// The number that the next record had when the stream was opened.
    opened_at: SequenceNumber,
    reads: Reads,
    closing: OnceLock<Closing>,
}

/// How a shard ended.
#[derive(Debug)]
struct Closing {
    /// The number after its last record.
    sequence: SequenceNumber,
    closed_at: Timestamp,
    /// They are kept here, so that a reader who is slower than the retention still finds its way.
    children: Vec<Arc<Shard>>,
}

/// What all shards of a stream have in common.
#[derive(Debug, Clone)]
pub(crate) struct ShardContext {
    pub(crate) stream_dir: PathBuf,
    pub(crate) writing: Writing,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) bell: Arc<Waiter>,
    pub(crate) ahead_bell: Arc<Waiter>,
    /// Opening gives up what is damaged.
    pub(crate) must_salvage: bool,
}

impl Shard {
    /// Puts a shard's directory in order, after whatever happened to it. It was as far as `marks` when the manifest was written last.
    pub(crate) fn recover(
        context: &ShardContext,
        description: &ShardDescription,
        marks: Marks,
    ) -> Result<RecoveredShard> {
        let dir = dir_of(&context.stream_dir, description.id);
        // Some tools that copy directories leave out those that are empty, and so may power loss.
        if !dir::is_own_dir(&dir)? {
            dir::create_all(&dir)?;
            dir::sync(&shards_dir(&context.stream_dir))?;
            dir::sync(&context.stream_dir)?;
        }
        recovery::recover(&dir, description, marks, context.must_salvage)
    }

    /// Opens a shard that was recovered. `children` are those of a closed one.
    pub(crate) fn open(
        context: &ShardContext,
        description: &ShardDescription,
        marks: Marks,
        recovered: RecoveredShard,
        children: Vec<Arc<Self>>,
    ) -> Self {
        let dir = dir_of(&context.stream_dir, description.id);
        let segments = Segments::new(&dir, description.id, &recovered.sealed);
        for segment in &recovered.unsealed {
            segments.push(Arc::clone(&segment.target.window), segment.first_timestamp);
        }
        let next = recovered.next_sequence;
        let synced = recovered.unsealed.first().map_or(next, |first| first.target.window.base);
        let horizon = segments.first_base().unwrap_or(next).max(marks.horizon).min(next);
        let closing = description.closed_at.map(|closed_at| Closing { sequence: next, closed_at, children });
        let appender = Appender::new(recovered, closing.is_some(), description.created_at);
        let shard = Self::with(context, description, segments, appender);
        shard.next_sequence.store(next.get(), Ordering::Relaxed);
        shard.synced_sequence.store(synced.get(), Ordering::Relaxed);
        shard.horizon.store(horizon.get(), Ordering::Relaxed);
        Self { opened_at: next, closing: closing.map(OnceLock::from).unwrap_or_default(), ..shard }
    }

    /// A new shard, whose directory is there and empty.
    pub(crate) fn new(context: &ShardContext, description: &ShardDescription) -> Self {
        let segments = Segments::new(&dir_of(&context.stream_dir, description.id), description.id, &[]);
        let appender = Appender::empty(description.first_sequence, description.created_at);
        Self::with(context, description, segments, appender)
    }

    fn with(
        context: &ShardContext,
        description: &ShardDescription,
        segments: Segments,
        appender: Appender,
    ) -> Self {
        let first = description.first_sequence.get();
        Self {
            id: description.id,
            dir: dir_of(&context.stream_dir, description.id),
            created: ShardDescription { closing_sequence: None, closed_at: None, ..description.clone() },
            writing: context.writing,
            clock: Arc::clone(&context.clock),
            bell: Arc::clone(&context.bell),
            ahead_bell: Arc::clone(&context.ahead_bell),
            segments,
            appender: Mutex::new(appender),
            sync_turn: SyncTurn::default(),
            sync_nanos: AtomicU64::new(0),
            next_sequence: AtomicU64::new(first),
            synced_sequence: AtomicU64::new(first),
            horizon: AtomicU64::new(first),
            horizon_timestamp: AtomicU64::new(0),
            opened_at: description.first_sequence,
            reads: Reads::default(),
            closing: OnceLock::new(),
        }
    }

    /// The shard's place in the stream, as it is now.
    pub(crate) fn description(&self) -> ShardDescription {
        let closing = self.closing.get();
        ShardDescription {
            closing_sequence: closing.map(|closing| closing.sequence),
            closed_at: closing.map(|closing| closing.closed_at),
            ..self.created.clone()
        }
    }

    pub(crate) fn hash_key_range(&self) -> HashKeyRange {
        self.created.hash_key_range
    }

    /// How far the shard is, for the manifest.
    pub(crate) fn marks(&self) -> Marks {
        let horizon = self.horizon();
        let last_timestamp = self.appender.lock().last_timestamp();
        Marks { horizon, synced: self.synced_sequence().max(horizon), last_timestamp }
    }

    pub(crate) fn id(&self) -> ShardId {
        self.id
    }

    /// The number that the next record will have.
    #[inline]
    pub(crate) fn next_sequence(&self) -> SequenceNumber {
        SequenceNumber::new(self.next_sequence.load(Ordering::Acquire))
    }

    /// The oldest number that can be read.
    #[inline]
    pub(crate) fn horizon(&self) -> SequenceNumber {
        SequenceNumber::new(self.horizon.load(Ordering::Acquire))
    }

    /// The shard's children, for a reader that goes on with `next`, if the shard is closed and that is its end.
    fn children_after(&self, next: SequenceNumber) -> Option<&[Arc<Self>]> {
        self.closing.get().filter(|closing| next >= closing.sequence).map(|closing| &closing.children[..])
    }

    /// The error for a reader that is behind the horizon.
    fn check_horizon(&self, requested: SequenceNumber) -> Result<()> {
        match self.horizon() {
            horizon if requested < horizon => Err(Error::Trimmed { shard: self.id, requested, horizon }),
            _ => Ok(()),
        }
    }

    pub(crate) fn stats(&self) -> Result<ShardStats> {
        let horizon = self.horizon();
        Ok(ShardStats {
            shard: self.id,
            horizon,
            next_sequence: self.next_sequence().max(horizon),
            synced_sequence: self.synced_sequence(),
            segment_count: self.segments.len(),
            disk_bytes: self.segments.disk_bytes()?,
            traffic: self.traffic(),
            iterator_age_ms: self.iterator_age_ms(),
        })
    }

    /// The bytes that the shard's segment files take on the disk.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        self.segments.disk_bytes()
    }

    /// Tells whoever watches that a sync failed.
    #[cold]
    fn tell_failed_sync(&self, error: &Error) {
        event!(
            error,
            "a sync failed: the shard takes no more puts until the stream is opened again",
            shard = self.id,
            dir = self.dir.display(),
            error = error
        );
    }

    /// Closes the windows of segments that nobody reads.
    pub(crate) fn close_idle_windows(&self) {
        self.segments.close_idle();
    }
}
