//! The checkpoints of a group, kept in a journal.
//!
//! Each commit is a record: its key is the shard, and its data is the checkpoint as a line of JSON, and the state that was committed with it,
//! if any. As with any stream, a crash leaves a prefix of the commits. The next opening reads that prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::checkpoint::{Checkpoint, decode, encode};
use super::readable::readable;
use crate::extend::{self, StreamsInside};
use crate::{
    Journal, JournalOptions, PutRecord, Record, Result, SequenceNumber, ShardDescription, ShardId, Stream,
    StreamReader, Timestamp,
};

/// Small, so that disk space is freed soon, and large enough for the largest state.
const SEGMENT_BYTES: u64 = 1 << 20;
/// All checkpoints are rewritten after this many bytes since the last time, or after twice their own size if that is more.
const COMMITTED_BYTES_MAX: u64 = 64 << 10;
/// More than the longest checkpoint takes in the log, without a state.
const CHECKPOINT_BYTES: u64 = 160;

/// The checkpoints of a group.
#[derive(Debug)]
pub(super) struct Checkpoints {
    journal: Journal,
    latest: Mutex<Latest>,
    /// A commit locks it for reading. Rewriting all checkpoints locks it for writing, because they must be the latest.
    gate: RwLock<()>,
}

/// The last checkpoint of each shard.
#[derive(Debug, Clone, Default)]
struct Latest {
    checkpoints: BTreeMap<ShardId, Checkpoint>,
    /// What was committed with them.
    states: BTreeMap<ShardId, Arc<[u8]>>,
}

/// The name under which a group's journal keeps which layer reads as the group.
const READER: &str = "reader";

/// What another process sees of a group.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) checkpoints: BTreeMap<ShardId, Checkpoint>,
    pub(super) states: BTreeMap<ShardId, Arc<[u8]>>,
    /// When the last checkpoint was written.
    pub(super) written_at: Option<Timestamp>,
    /// The layer that reads as the group, if it is not only workers.
    pub(super) reader: Option<String>,
}

impl Latest {
    fn insert(&mut self, shard: ShardId, checkpoint: Checkpoint, state: Option<Arc<[u8]>>) {
        self.checkpoints.insert(shard, checkpoint);
        match state {
            Some(state) => self.states.insert(shard, state),
            None => self.states.remove(&shard),
        };
    }

    /// Adds a record of the journal.
    fn read(&mut self, record: &Record<'_>) -> bool {
        let Some(line) = decode(record.partition_key(), record.data()) else { return false };
        if line.is_first_of_all {
            *self = Self::default();
        }
        self.insert(line.shard, line.checkpoint, line.state.map(Arc::from));
        true
    }

    fn bytes(&self) -> u64 {
        let states: usize = self.states.values().map(|state| state.len()).sum();
        self.checkpoints.len() as u64 * CHECKPOINT_BYTES + states as u64
    }
}

/// Returns the streams that keep the checkpoints of a stream's groups.
pub(super) fn logs_of(stream: &StreamReader) -> StreamsInside<'_> {
    extend::streams_inside(stream, "groups")
}

impl Checkpoints {
    /// Opens the checkpoints of a group, or creates them.
    pub(super) fn open(stream: &StreamReader, group: &str, must_salvage: bool) -> Result<Self> {
        let options = JournalOptions { segment_bytes: SEGMENT_BYTES, salvage: must_salvage };
        let (journal, latest) = Journal::open(stream, logs_of(stream), group, options, Latest::read)?;
        Ok(Self { journal, latest: Mutex::new(latest), gate: RwLock::default() })
    }

    /// Returns the stream that keeps the checkpoints.
    pub(super) fn log(&self) -> &Stream {
        self.journal.log()
    }

    /// Records which layer reads as the group, for its description.
    pub(super) fn note_reader(&self, reader: &str) -> Result<()> {
        self.journal.keep(READER, reader)
    }

    /// Stores a text with the group under a name, unless there is one already. Returns the stored one.
    #[cfg(feature = "delivery")]
    pub(super) fn keep_first(&self, name: &str, text: &str) -> Result<String> {
        let _gate = self.gate.write();
        if let Some(kept) = self.kept(name) {
            return Ok(kept);
        }
        self.journal.keep(name, text)?;
        Ok(text.to_owned())
    }

    /// Returns a text that is kept with the group.
    #[cfg(feature = "delivery")]
    pub(super) fn kept(&self, name: &str) -> Option<String> {
        self.journal.log().describe().properties.remove(name)
    }

    /// Returns whether nothing was ever committed, so that the group is new.
    pub(super) fn is_empty(&self) -> bool {
        self.latest.lock().checkpoints.is_empty()
    }

    pub(super) fn get(&self, shard: ShardId) -> Option<Checkpoint> {
        self.latest.lock().checkpoints.get(&shard).copied()
    }

    /// Returns the state that was committed with the checkpoint of a shard, if any.
    pub(super) fn state(&self, shard: ShardId) -> Option<Arc<[u8]>> {
        self.latest.lock().states.get(&shard).cloned()
    }

    /// Returns which of these shards can be read, and where reading begins.
    pub(super) fn readable(&self, shards: &[ShardDescription]) -> BTreeMap<ShardId, Checkpoint> {
        readable(&self.latest.lock().checkpoints, shards)
    }

    /// Closes the files.
    pub(super) fn close(&self) -> Result<()> {
        self.journal.close()
    }

    /// Writes one checkpoint. Nobody else may write one of the same shard at the same time.
    pub(super) fn put(&self, shard: ShardId, checkpoint: Checkpoint, state: Option<Arc<[u8]>>) -> Result<()> {
        let _gate = self.gate.read();
        self.journal.put(shard.to_string(), encode(checkpoint, state.as_deref(), false))?;
        self.latest.lock().insert(shard, checkpoint, state);
        Ok(())
    }

    /// Writes that a shard is read to its end, and where the shards that can now be read begin. Both go into one batch, because the group reports
    /// a shard that expired unread only if it has a checkpoint of that shard.
    pub(super) fn finish(
        &self,
        shard: ShardId,
        checkpoint: Checkpoint,
        shards: &[ShardDescription],
    ) -> Result<()> {
        let _gate = self.gate.write();
        let mut next = self.latest.lock().checkpoints.clone();
        next.insert(shard, checkpoint);
        let mut changes = readable(&next, shards);
        changes.retain(|id, _| !next.contains_key(id));
        changes.insert(shard, checkpoint);
        self.write(&changes, false)?;
        let mut latest = self.latest.lock();
        changes.into_iter().for_each(|(shard, checkpoint)| latest.insert(shard, checkpoint, None));
        Ok(())
    }

    /// Replaces all checkpoints with others, atomically.
    pub(super) fn replace(&self, others: BTreeMap<ShardId, Checkpoint>) -> Result<()> {
        let _gate = self.gate.write();
        if let Some(first) = self.write(&others, true)? {
            *self.latest.lock() = Latest { checkpoints: others, states: BTreeMap::new() };
            self.journal.drop_before(first)?;
        }
        Ok(())
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
        let bytes = self.journal.bytes();
        bytes >= COMMITTED_BYTES_MAX && bytes >= 2 * self.latest.lock().bytes()
    }

    /// Rewrites all checkpoints. The caller holds the gate.
    fn put_all_again(&self, shards: &[ShardDescription]) -> Result<()> {
        let mut kept = self.latest.lock().clone();
        kept.checkpoints.extend(readable(&kept.checkpoints, shards));
        let there: BTreeSet<ShardId> = shards.iter().map(|shard| shard.id).collect();
        kept.checkpoints.retain(|id, checkpoint| !checkpoint.is_finished || there.contains(id));
        self.journal.restate(kept.checkpoints.iter().map(|(shard, &checkpoint)| {
            (shard.to_string(), encode(checkpoint, kept.states.get(shard).map(|state| &**state), false))
        }))?;
        *self.latest.lock() = kept;
        Ok(())
    }

    /// Writes checkpoints without a state as one batch: a crash leaves all of them or none. Returns the number of its first record.
    fn write(
        &self,
        checkpoints: &BTreeMap<ShardId, Checkpoint>,
        are_all: bool,
    ) -> Result<Option<SequenceNumber>> {
        let lines = checkpoints.iter().enumerate().map(|(at, (shard, &checkpoint))| {
            (shard.to_string(), encode(checkpoint, None, are_all && at == 0))
        });
        let lines: Vec<_> = lines.collect();
        let records: Vec<_> = lines.iter().map(|(shard, line)| PutRecord::new(shard, line)).collect();
        self.journal.put_batch(&records)
    }
}

/// Returns what is known of a group, whether or not this process or another one has it open.
pub(super) fn look(stream: &StreamReader, group: &str) -> Result<Seen> {
    let read = |(latest, written_at): &mut (Latest, Option<Timestamp>), record: &Record<'_>| {
        *written_at = Some(record.timestamp());
        latest.read(record)
    };
    let ((Latest { checkpoints, states }, written_at), mut kept) =
        Journal::look(logs_of(stream), group, read)?;
    Ok(Seen { checkpoints, states, written_at, reader: kept.remove(READER) })
}

/// Returns which layer reads as a group, without its checkpoints.
pub(super) fn reader_of(stream: &StreamReader, group: &str) -> Result<Option<String>> {
    Ok(logs_of(stream).read(group)?.describe().properties.remove(READER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Maintenance, StreamOptions};

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
            checkpoints.put(shards[0].id, checkpoint, None).unwrap();
        }
        let log = |checkpoints: &Checkpoints| checkpoints.log().stats().unwrap().shards.remove(0);
        assert_eq!(log(&checkpoints).synced_sequence, SequenceNumber::ZERO, "a commit alone does not sync");
        checkpoints.put_all_again(&shards).unwrap();
        let log = log(&checkpoints);
        assert_eq!((log.horizon, log.next_sequence), (10.into(), 11.into()));
        assert_eq!(log.synced_sequence, log.next_sequence);
    }
}
