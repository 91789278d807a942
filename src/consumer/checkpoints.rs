//! How far a group has come, kept in a small stream of its own.
//!
//! Each commit is a record: the shard as its key, the checkpoint as a line of JSON. From time to time all checkpoints are put again, as one
//! batch, and what came before is dropped. A crash leaves a prefix of the commits, as with any stream, and that is what the next
//! opening reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::checkpoint::{Checkpoint, decode, encode};
use super::readable::readable;
use crate::{
    Corruption, Error, Maintenance, Position, PutRecord, Result, Retention, SequenceNumber, ShardDescription,
    ShardId, Stream, StreamOptions,
};

/// Small, so that room comes back soon, and large enough that a fast group does not make a file every few milliseconds.
const SEGMENT_BYTES: u64 = 1 << 20;
/// So many bytes since all checkpoints were put, or twice what these take if that is more, before they are put again.
const COMMITTED_BYTES_MAX: u64 = 64 << 10;
/// More than the longest checkpoint takes in the log.
const CHECKPOINT_BYTES: u64 = 160;

/// The checkpoints of a group.
#[derive(Debug)]
pub(super) struct Checkpoints {
    log: Stream,
    shard: ShardId,
    latest: Mutex<BTreeMap<ShardId, Checkpoint>>,
    /// Held for reading by a commit, for writing by whoever puts all checkpoints again: those must be the latest.
    gate: RwLock<()>,
    /// Since all were put together, these included.
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
        let (latest, bytes_since_all) = read(&log, shard, &path)?;
        Ok(Self {
            log,
            shard,
            latest: Mutex::new(latest),
            gate: RwLock::default(),
            bytes_since_all: AtomicU64::new(bytes_since_all),
        })
    }

    /// The stream that they are kept in.
    pub(super) fn log(&self) -> &Stream {
        &self.log
    }

    /// Whether nothing was ever committed: the group is new.
    pub(super) fn is_empty(&self) -> bool {
        self.latest.lock().is_empty()
    }

    pub(super) fn get(&self, shard: ShardId) -> Option<Checkpoint> {
        self.latest.lock().get(&shard).copied()
    }

    /// What can be read of these shards, and from where on.
    pub(super) fn readable(&self, shards: &[ShardDescription]) -> BTreeMap<ShardId, Checkpoint> {
        readable(&self.latest.lock(), shards)
    }

    /// Lets go of the files.
    pub(super) fn close(&self) -> Result<()> {
        self.log.clone().close()
    }

    /// Writes one checkpoint. Nobody else may write one of the same shard meanwhile.
    pub(super) fn put(&self, shard: ShardId, checkpoint: Checkpoint) -> Result<()> {
        let line = encode(checkpoint, false);
        let _gate = self.gate.read();
        self.log.put(shard.to_string(), &line)?;
        self.latest.lock().insert(shard, checkpoint);
        self.bytes_since_all.fetch_add(CHECKPOINT_BYTES, Ordering::Relaxed);
        Ok(())
    }

    /// Writes that a shard is read to its end, and where those begin that can be read by that: at once, since a shard that expires unread
    /// is told only where the group knows of it.
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

    /// Drops, if it is time to, what was written before, and the checkpoints of shards that were finished and have expired.
    ///
    /// What is there is true without it: where it fails, as on a full disk, a later call does it.
    pub(super) fn put_all_again_if_long(&self, stream: &Stream) {
        if self.are_long() {
            let shards = stream.shards();
            let _gate = self.gate.write();
            // Of workers that commit together one does it for all.
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

    /// For whoever holds the gate.
    fn put_all_again(&self, shards: &[ShardDescription]) -> Result<()> {
        let mut kept = self.latest.lock().clone();
        kept.extend(readable(&kept, shards));
        let there: BTreeSet<ShardId> = shards.iter().map(|shard| shard.id).collect();
        kept.retain(|id, checkpoint| !checkpoint.is_finished || there.contains(id));
        self.replace_by(kept)
    }

    /// For whoever holds the gate.
    fn replace_by(&self, all: BTreeMap<ShardId, Checkpoint>) -> Result<()> {
        if let Some(first) = self.write(&all, true)? {
            self.bytes_since_all.store(all.len() as u64 * CHECKPOINT_BYTES, Ordering::Relaxed);
            *self.latest.lock() = all;
            if first > SequenceNumber::ZERO {
                // What is trimmed is gone for good: power loss must not take what replaces it.
                self.log.sync()?;
                self.log.trim_before(self.shard, first)?;
            }
        }
        Ok(())
    }

    /// Writes checkpoints as one batch, of which a crash leaves all or none; tells the number of its first record.
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

/// The last checkpoint of each shard, and how many bytes came after all of them together.
fn read(log: &Stream, shard: ShardId, path: &Path) -> Result<(BTreeMap<ShardId, Checkpoint>, u64)> {
    let (mut latest, mut bytes_since_all) = (BTreeMap::new(), 0);
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
            let checkpoint = Checkpoint { next: next.into(), last_timestamp: None, is_finished: false };
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
