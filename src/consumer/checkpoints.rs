//! How far a group has come, kept in a small stream of its own.
//!
//! Each commit is a record: the shard as its key, the checkpoint as a line of JSON. From time to time all checkpoints are put again, as one
//! batch, and what came before is dropped. A crash leaves a prefix of the commits, as with any stream, and that is what the next
//! opening reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::{
    Corruption, Error, Maintenance, Position, PutRecord, Result, Retention, SequenceNumber, ShardDescription,
    ShardId, Stream, StreamOptions, Timestamp,
};

/// Checkpoints take little room: with small segments it comes back soon.
const SEGMENT_BYTES: u64 = 256 << 10;
/// So many bytes of commits, or as many as all checkpoints take if that is more, before they are put again.
const COMMITTED_BYTES_MAX: u64 = 64 << 10;
/// More than the longest checkpoint takes in the log.
const CHECKPOINT_BYTES: u64 = 160;

/// How far a group has come in one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// All below is handled.
    pub(super) next: SequenceNumber,
    /// When the last record below arrived, if the group has handled one: sequence numbers that power loss took are given out again, and
    /// this tells the new record from the old one.
    pub(super) last_timestamp: Option<Timestamp>,
    /// The shard is read to its end.
    pub(super) is_finished: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    next_sequence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_timestamp_micros: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_finished: bool,
}

/// The checkpoints of a group.
#[derive(Debug)]
pub(super) struct Checkpoints {
    log: Stream,
    shard: ShardId,
    latest: Mutex<BTreeMap<ShardId, Checkpoint>>,
    /// Held for reading by a commit, for writing by whoever puts all checkpoints again: those must be the latest.
    gate: RwLock<()>,
    bytes_since_all: AtomicU64,
}

/// Where the groups of a stream are.
pub(super) fn groups_dir(stream: &Stream) -> PathBuf {
    stream.describe().path.join("groups")
}

impl Checkpoints {
    /// Opens the checkpoints of a group, or creates them.
    pub(super) fn open(stream: &Stream, group: &str, must_salvage: bool) -> Result<Self> {
        let path = groups_dir(stream).join(group);
        let log = StreamOptions::new()
            .segment_bytes(SEGMENT_BYTES)
            .retention(Retention::forever())
            .durability(stream.describe().durability)
            .maintenance(Maintenance::Manual)
            .clock(std::sync::Arc::clone(stream.clock()))
            .salvage(must_salvage)
            .open(&path)?;
        let shard = log.shards().first().map_or(ShardId::new(0), |shard| shard.id);
        let latest = read(&log, shard, &path)?;
        let checkpoints = Self {
            log,
            shard,
            latest: Mutex::new(latest),
            gate: RwLock::default(),
            bytes_since_all: AtomicU64::new(0),
        };
        stream.add_companion(checkpoints.log.clone())?;
        Ok(checkpoints)
    }

    /// Whether nothing was ever committed: the group is new.
    pub(super) fn is_empty(&self) -> bool {
        self.latest.lock().is_empty()
    }

    pub(super) fn get(&self, shard: ShardId) -> Option<Checkpoint> {
        self.latest.lock().get(&shard).copied()
    }

    /// The checkpoints of shards that have expired before they were finished.
    pub(super) fn expired(&self, shards: &[ShardDescription]) -> Vec<(ShardId, Checkpoint)> {
        let is_there = |id: ShardId| shards.iter().any(|shard| shard.id == id);
        let latest = self.latest.lock();
        let unfinished = latest.iter().filter(|(_, checkpoint)| !checkpoint.is_finished);
        unfinished.filter(|&(&id, _)| !is_there(id)).map(|(&id, &checkpoint)| (id, checkpoint)).collect()
    }

    /// Lets go of the files.
    pub(super) fn close(&self) -> Result<()> {
        self.log.clone().close()
    }

    /// Writes one checkpoint. Nobody else may write one of the same shard meanwhile.
    pub(super) fn put(&self, shard: ShardId, checkpoint: Checkpoint) -> Result<()> {
        let line = encode(checkpoint)?;
        {
            let _gate = self.gate.read();
            self.log.put(shard.to_string(), &line)?;
            self.latest.lock().insert(shard, checkpoint);
        }
        let bytes = self.bytes_since_all.fetch_add(CHECKPOINT_BYTES, Ordering::Relaxed);
        if bytes >= COMMITTED_BYTES_MAX.max(self.latest.lock().len() as u64 * CHECKPOINT_BYTES) {
            // The commit is written; if this fails, a later one does it.
            let _ = self.put_all_again(|_| true);
        }
        Ok(())
    }

    /// Replaces all checkpoints by others, at once.
    pub(super) fn replace(&self, others: BTreeMap<ShardId, Checkpoint>) -> Result<()> {
        let _gate = self.gate.write();
        self.write_all(&others)?;
        *self.latest.lock() = others;
        Ok(())
    }

    /// Drops the checkpoints of shards that are of no use any more, and all that was written before.
    pub(super) fn put_all_again(&self, is_of_use: impl Fn(ShardId) -> bool) -> Result<()> {
        let _gate = self.gate.write();
        let mut kept = self.latest.lock().clone();
        kept.retain(|&shard, _| is_of_use(shard));
        self.write_all(&kept)?;
        *self.latest.lock() = kept;
        Ok(())
    }

    fn write_all(&self, all: &BTreeMap<ShardId, Checkpoint>) -> Result<()> {
        let lines = all
            .iter()
            .map(|(shard, &checkpoint)| Ok((shard.to_string(), encode(checkpoint)?)))
            .collect::<Result<Vec<_>>>()?;
        let records: Vec<_> = lines.iter().map(|(shard, line)| PutRecord::new(shard, line)).collect();
        let mut receipts = self.log.put_batch(&records)?.into_iter();
        let Some(first) = receipts.next().transpose()? else { return Ok(()) };
        self.bytes_since_all.store(0, Ordering::Relaxed);
        self.log.trim_before(self.shard, first.sequence)
    }
}

/// The last checkpoint of each shard.
fn read(log: &Stream, shard: ShardId, path: &Path) -> Result<BTreeMap<ShardId, Checkpoint>> {
    let mut latest = BTreeMap::new();
    let mut iterator = log.iterator(shard, Position::TrimHorizon)?;
    loop {
        let batch = match iterator.next_batch(1_000) {
            // Given up by whoever salvaged it: the checkpoints before count, and what they do not cover is read again.
            Err(Error::Lost { .. }) => {
                iterator.skip_lost()?;
                continue;
            }
            batch => batch?,
        };
        if batch.is_empty() {
            return Ok(latest);
        }
        for record in &batch {
            let (shard, checkpoint) = decode(record.partition_key(), record.data()).ok_or_else(|| {
                Error::Corrupt(Box::new(Corruption {
                    path: path.to_owned(),
                    shard: None,
                    offset: 0,
                    sequence: Some(record.sequence()),
                    reason: "expected the checkpoint of a shard, found another record".to_owned(),
                }))
            })?;
            latest.insert(shard, checkpoint);
        }
    }
}

fn encode(checkpoint: Checkpoint) -> Result<Vec<u8>> {
    let line = Line {
        next_sequence: checkpoint.next.get(),
        last_timestamp_micros: checkpoint.last_timestamp.map(Timestamp::as_micros),
        is_finished: checkpoint.is_finished,
    };
    Ok(serde_json::to_vec(&line).expect("numbers always serialize"))
}

fn decode(key: &[u8], data: &[u8]) -> Option<(ShardId, Checkpoint)> {
    let shard = std::str::from_utf8(key).ok()?.parse().ok()?;
    let line: Line = serde_json::from_slice(data).ok()?;
    let checkpoint = Checkpoint {
        next: line.next_sequence.into(),
        last_timestamp: line.last_timestamp_micros.map(Timestamp::from_micros),
        is_finished: line.is_finished,
    };
    Some((shard, checkpoint))
}
