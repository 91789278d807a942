//! A shard: one writer at a time appends, any number of readers follow.

mod appender;
pub(crate) mod batch;
pub(crate) mod iterator;
mod segments;
mod sync;
mod verify;
pub(crate) mod wait;

pub use verify::Verification;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::recovery::{self, RecoveredShard, ShardRecovery};
use crate::words::describe::ShardDescription;
use crate::words::error::{Error, Result};
use crate::words::sequence::SequenceNumber;
use crate::words::shard_id::ShardId;
use crate::words::stats::ShardStats;
use crate::words::time::Clock;

use appender::{Appender, State};
use segments::Segments;
use wait::Waiter;

/// Where a shard's directory is.
pub(crate) fn dir_of(stream_dir: &Path, shard: ShardId) -> PathBuf {
    stream_dir.join("shards").join(format!("{:012}", shard.get()))
}

/// One shard of an open stream.
#[derive(Debug)]
pub(crate) struct Shard {
    id: ShardId,
    dir: PathBuf,
    first_sequence: SequenceNumber,
    segment_bytes: u64,
    clock: Arc<dyn Clock>,
    /// Rung when there is work for the maintenance.
    bell: Arc<Waiter>,
    segments: Segments,
    appender: Mutex<Appender>,
    /// Held by whoever syncs; those who wait for it find their records synced when they get it.
    sync_turn: Mutex<()>,
    /// The number that the next record will have: readers may see all below.
    next_sequence: AtomicU64,
    /// All below survives power loss.
    synced_sequence: AtomicU64,
    /// The oldest number that can be read.
    horizon: AtomicU64,
    closing: OnceLock<Closing>,
}

/// How a shard ended.
#[derive(Debug)]
struct Closing {
    /// The number after its last record.
    sequence: SequenceNumber,
    children: Vec<ShardDescription>,
}

/// What all shards of a stream have in common.
#[derive(Debug, Clone)]
pub(crate) struct ShardContext {
    pub(crate) stream_dir: PathBuf,
    pub(crate) segment_bytes: u64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) bell: Arc<Waiter>,
}

impl Shard {
    /// Opens a shard, after whatever happened to it; all below `synced` must be there. `children` are those of a closed one.
    pub(crate) fn open(
        context: &ShardContext,
        description: &ShardDescription,
        synced: SequenceNumber,
        children: Vec<ShardDescription>,
    ) -> Result<(Self, ShardRecovery)> {
        let dir = dir_of(&context.stream_dir, description.id);
        let RecoveredShard { sealed, unsealed, resumable, next_sequence, last_timestamp, report } =
            recovery::recover(&dir, description, synced)?;
        let segments = Segments::new(&dir, description.id, &sealed);
        let synced = unsealed.first().map_or(next_sequence, |first| first.target.window.base);
        for segment in &unsealed {
            segments.push(Arc::clone(&segment.target.window));
        }
        let horizon = segments.first_base().unwrap_or(next_sequence);
        let closing = description.closing_sequence.map(|sequence| Closing { sequence, children });
        let state = if closing.is_some() { State::ShardClosed } else { State::Open };
        let shard = Self {
            id: description.id,
            dir,
            first_sequence: description.first_sequence,
            segment_bytes: context.segment_bytes,
            clock: Arc::clone(&context.clock),
            bell: Arc::clone(&context.bell),
            segments,
            appender: Mutex::new(Appender::new(state, resumable, unsealed, next_sequence, last_timestamp)),
            sync_turn: Mutex::default(),
            next_sequence: AtomicU64::new(next_sequence.get()),
            synced_sequence: AtomicU64::new(synced.get()),
            horizon: AtomicU64::new(horizon.get()),
            closing: closing.map(OnceLock::from).unwrap_or_default(),
        };
        Ok((shard, report))
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
    fn children_after(&self, next: SequenceNumber) -> Option<&[ShardDescription]> {
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
        })
    }

    /// Closes the windows of segments that nobody reads.
    pub(crate) fn close_idle_windows(&self) {
        self.segments.close_idle();
    }
}
