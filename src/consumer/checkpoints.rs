//! The checkpoints of a group, kept in a small stream of its own.
//!
//! Each commit is a record: its key is the shard, and its data is the checkpoint as a line of JSON. From time to time, all checkpoints are
//! written again as one batch, and everything before them is dropped. As with any stream, a crash leaves a prefix of the commits. The next
//! opening reads that prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::checkpoint::{Checkpoint, decode, encode};
use super::readable::readable;
use crate::extend::{self, StreamsInside};
use crate::{
    Corruption, Error, Maintenance, Position, PutRecord, Result, Retention, SequenceNumber, ShardDescription,
    ShardId, Stream, StreamOptions, StreamReader,
};

/// Small, so that disk space is freed soon, and large enough that a fast group does not create a file every few milliseconds.
const SEGMENT_BYTES: u64 = 1 << 20;
/// All checkpoints are written again after this many bytes since the last time, or after twice their own size if that is more.
const COMMITTED_BYTES_MAX: u64 = 64 << 10;
/// More than the longest checkpoint takes in the log.
const CHECKPOINT_BYTES: u64 = 160;

/// The checkpoints of a group.
#[derive(Debug)]
pub(super) struct Checkpoints {
    log: Stream,
    shard: ShardId,
    latest: Mutex<BTreeMap<ShardId, Checkpoint>>,
    /// A commit locks it for reading. Writing all checkpoints again locks it for writing, because those must be the latest ones.
    gate: RwLock<()>,
    /// The bytes since all checkpoints were written together, including those.
    bytes_since_all: AtomicU64,
}

/// Returns the streams that keep the checkpoints of a stream's groups.
pub(super) fn logs_of(stream: &StreamReader) -> StreamsInside<'_> {
    extend::streams_inside(stream, "groups")
}

impl Checkpoints {
    /// Opens the checkpoints of a group, or creates them.
    pub(super) fn open(stream: &StreamReader, group: &str, must_salvage: bool) -> Result<Self> {
        let options = StreamOptions::new()
            .segment_bytes(SEGMENT_BYTES)
            .retention(Retention::forever())
            .durability(stream.describe().durability)
            // The stream maintains it, if this process has that open.
            .maintenance(if stream.is_own() { Maintenance::Manual } else { Maintenance::Thread })
            .clock(std::sync::Arc::clone(stream.clock()))
            .salvage(must_salvage);
        let log = logs_of(stream).open(group, options)?;
        let shard = log.shards().first().map_or(ShardId::new(0), |shard| shard.id);
        let (latest, bytes_since_all) = read(&log, shard, &log.describe().path)?;
        Ok(Self {
            log,
            shard,
            latest: Mutex::new(latest),
            gate: RwLock::default(),
            bytes_since_all: AtomicU64::new(bytes_since_all),
        })
    }

    /// Returns the stream that keeps the checkpoints.
    pub(super) fn log(&self) -> &Stream {
        &self.log
    }

    /// Returns whether nothing was ever committed, so that the group is new.
    pub(super) fn is_empty(&self) -> bool {
        self.latest.lock().is_empty()
    }

    pub(super) fn get(&self, shard: ShardId) -> Option<Checkpoint> {
        self.latest.lock().get(&shard).copied()
    }

    /// Returns which of these shards can be read, and where reading begins.
    pub(super) fn readable(&self, shards: &[ShardDescription]) -> BTreeMap<ShardId, Checkpoint> {
        readable(&self.latest.lock(), shards)
    }

    /// Closes the files.
    pub(super) fn close(&self) -> Result<()> {
        self.log.clone().close()
    }

    /// Writes one checkpoint. Nobody else may write one of the same shard at the same time.
    pub(super) fn put(&self, shard: ShardId, checkpoint: Checkpoint) -> Result<()> {
        let line = encode(checkpoint, false);
        let _gate = self.gate.read();
        self.log.put(shard.to_string(), &line)?;
        self.latest.lock().insert(shard, checkpoint);
        self.bytes_since_all.fetch_add(CHECKPOINT_BYTES, Ordering::Relaxed);
        Ok(())
    }

    /// Writes that a shard is read to its end, and where the shards begin that can now be read. Both are written at once, because the group
    /// reports a shard that expired unread only if it has a checkpoint of that shard.
    pub(super) fn finish(
        &self,
        shard: ShardId,
        checkpoint: Checkpoint,
        shards: &[ShardDescription],
    ) -> Result<()> {
        let _gate = self.gate.write();
        let mut next = self.latest.lock().clone();
        next.insert(shard, checkpoint);
        let mut changes = readable(&next, shards);
        changes.retain(|id, _| !next.contains_key(id));
        changes.insert(shard, checkpoint);
        self.write(&changes, false)?;
        self.bytes_since_all.fetch_add(changes.len() as u64 * CHECKPOINT_BYTES, Ordering::Relaxed);
        self.latest.lock().extend(changes);
        Ok(())
    }

    /// Replaces all checkpoints by others, at once.
    pub(super) fn replace(&self, others: BTreeMap<ShardId, Checkpoint>) -> Result<()> {
        let _gate = self.gate.write();
        self.replace_by(others)
    }

    /// Drops old lines of the log if it is long enough, together with the checkpoints of finished shards that have expired.
    ///
    /// The checkpoints are correct without it. If it fails, as on a full disk, a later call does it.
    pub(super) fn put_all_again_if_long(&self, stream: &StreamReader) {
        if self.are_long() {
            let shards = stream.shards();
            let _gate = self.gate.write();
            // If several workers commit at the same time, one of them does it for all.
            if self.are_long() {
                let _ = self.put_all_again(&shards);
            }
        }
    }

    fn are_long(&self) -> bool {
        let bytes_since_all = self.bytes_since_all.load(Ordering::Relaxed);
        bytes_since_all >= COMMITTED_BYTES_MAX
            && bytes_since_all >= 2 * self.latest.lock().len() as u64 * CHECKPOINT_BYTES
    }

    /// Writes all checkpoints again. The caller holds the gate.
    fn put_all_again(&self, shards: &[ShardDescription]) -> Result<()> {
        let mut kept = self.latest.lock().clone();
        kept.extend(readable(&kept, shards));
        let there: BTreeSet<ShardId> = shards.iter().map(|shard| shard.id).collect();
        kept.retain(|id, checkpoint| !checkpoint.is_finished || there.contains(id));
        self.replace_by(kept)
    }

    /// Replaces all checkpoints. The caller holds the gate.
    fn replace_by(&self, all: BTreeMap<ShardId, Checkpoint>) -> Result<()> {
        if let Some(first) = self.write(&all, true)? {
            self.bytes_since_all.store(all.len() as u64 * CHECKPOINT_BYTES, Ordering::Relaxed);
            *self.latest.lock() = all;
            if first > SequenceNumber::ZERO {
                // What is trimmed does not come back, so its replacement has to survive power loss first.
                self.log.sync()?;
                self.log.trim_before(self.shard, first)?;
            }
        }
        Ok(())
    }

    /// Writes checkpoints as one batch: a crash leaves all of them or none. Returns the number of its first record.
    fn write(
        &self,
        checkpoints: &BTreeMap<ShardId, Checkpoint>,
        are_all: bool,
    ) -> Result<Option<SequenceNumber>> {
        let lines = checkpoints
            .iter()
            .enumerate()
            .map(|(at, (shard, &checkpoint))| (shard.to_string(), encode(checkpoint, are_all && at == 0)));
        let lines: Vec<_> = lines.collect();
        let records: Vec<_> = lines.iter().map(|(shard, line)| PutRecord::new(shard, line)).collect();
        let first = self.log.put_batch(&records)?.into_iter().next().transpose()?;
        Ok(first.map(|first| first.sequence))
    }
}

/// Returns the last checkpoint of each shard of a group that this process does not have open. Another one may.
pub(super) fn look(stream: &StreamReader, group: &str) -> Result<BTreeMap<ShardId, Checkpoint>> {
    let log = logs_of(stream).read(group)?;
    let shard = log.shards().first().map_or(ShardId::new(0), |shard| shard.id);
    loop {
        match read(&log, shard, &log.describe().path) {
            // All checkpoints were written again meanwhile, and the ones before them dropped.
            Err(Error::Trimmed { .. } | Error::Cut { .. }) => {}
            read => return read.map(|(latest, _)| latest),
        }
    }
}

/// Returns the last checkpoint of each shard, and the bytes since all checkpoints were written together, including those.
fn read(log: &StreamReader, shard: ShardId, path: &Path) -> Result<(BTreeMap<ShardId, Checkpoint>, u64)> {
    let (mut latest, mut bytes_since_all) = (BTreeMap::new(), 0);
    let mut iterator = log.iterator(shard, Position::TrimHorizon)?;
    loop {
        let batch = match iterator.next_batch(1_000) {
            // Salvage gave these up. The checkpoints before them count, and records that those do not cover are read again.
            Err(Error::Lost { .. }) => {
                iterator.skip_lost()?;
                continue;
            }
            batch => batch?,
        };
        if batch.is_empty() {
            return Ok((latest, bytes_since_all));
        }
        for record in &batch {
            let (shard, checkpoint, is_first_of_all) = decode(record.partition_key(), record.data())
                .ok_or_else(|| {
                    Error::Corrupt(Box::new(Corruption {
                        path: path.to_owned(),
                        shard: None,
                        offset: 0,
                        sequence: Some(record.sequence()),
                        reason: "expected the checkpoint of a shard, found another record".to_owned(),
                    }))
                })?;
            if is_first_of_all {
                latest.clear();
                bytes_since_all = 0;
            }
            latest.insert(shard, checkpoint);
            bytes_since_all += CHECKPOINT_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p2_checkpoints_are_dropped_only_once_those_that_replace_them_survive_power_loss() {
        let directory = tempfile::tempdir().unwrap();
        let options = StreamOptions::new().maintenance(Maintenance::Manual).sync_interval(None);
        let stream = options.open(directory.path()).unwrap();
        let checkpoints = Checkpoints::open(&stream, "billing", false).unwrap();
        let shards = stream.shards();
        for next in 0..10 {
            let checkpoint = Checkpoint {
                next: SequenceNumber::new(next).into(),
                last_timestamp: None,
                is_finished: false,
            };
            checkpoints.put(shards[0].id, checkpoint).unwrap();
        }
        let log = |checkpoints: &Checkpoints| checkpoints.log.stats().unwrap().shards.remove(0);
        assert_eq!(log(&checkpoints).synced_sequence, SequenceNumber::ZERO, "a commit alone does not sync");
        checkpoints.put_all_again(&shards).unwrap();
        let log = log(&checkpoints);
        assert_eq!((log.horizon, log.next_sequence), (10.into(), 11.into()));
        assert_eq!(log.synced_sequence, log.next_sequence);
    }
}
