//! The description of a consumer group.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::checkpoint::{Checkpoint, Place};
use super::checkpoints::{Seen, look};
use super::group::GroupState;
use super::leases::WorkerId;
use crate::{Error, Lag, Position, Result, SequenceNumber, ShardId, StreamReader, Timestamp};

/// How far a consumer group is. [`Group::describe`](crate::Group::describe) returns it.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// stream.put("user-17", "clicked")?;
/// let _worker = stream.group("billing").worker().open()?;
/// let group = stream.group("billing").describe()?;
/// println!("{} has {} workers and {} records to go", group.name, group.worker_count, group.lag().record_count);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct GroupDescription {
    /// The group's name.
    pub name: String,
    /// The number of workers of this process that are alive.
    pub worker_count: usize,
    /// One entry for each shard that the group still has to read, in the order of their creation.
    pub shards: Vec<GroupShard>,
}

/// How far a consumer group is in one shard.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let worker = stream.group("billing").worker().open()?;
/// for shard in worker.group().describe()?.shards {
///     println!("{}: {:?} goes on with {}", shard.shard, shard.worker, shard.next_sequence);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct GroupShard {
    /// The shard.
    pub shard: ShardId,
    /// The worker of this process that reads it. `None` if there is none, or while the shard's parents are not finished.
    pub worker: Option<WorkerId>,
    /// The checkpoint: all records below it are handled.
    pub next_sequence: SequenceNumber,
    /// How many user records of the record `next_sequence` are handled, if it is a partly handled [aggregate](crate::aggregate).
    #[cfg_attr(feature = "serde", serde(default))]
    pub next_sub_sequence: u64,
    /// The records that are not handled yet. A partly handled record counts as unhandled.
    pub lag: Lag,
}

impl GroupDescription {
    /// Returns the group's lag, summed over all shards.
    pub fn lag(&self) -> Lag {
        self.shards.iter().fold(Lag::default(), |sum, shard| sum.plus(shard.lag))
    }
}

impl GroupState {
    pub(super) fn describe(&self, stream: &StreamReader) -> Result<GroupDescription> {
        let (worker_count, leases) = {
            let leases = self.settled();
            let of_shard = |(shard, _, lease): (ShardId, Place, Option<super::leases::Lease>)| {
                lease.map(|lease| (shard, lease.worker))
            };
            (leases.worker_count(), leases.offered().filter_map(of_shard).collect::<Vec<_>>())
        };
        let shards = describe(stream, |shard| self.checkpoints.get(shard), &leases)?;
        Ok(GroupDescription { name: self.name.to_string(), worker_count, shards })
    }
}

/// What a group has stored, whichever process has it open.
#[derive(Debug)]
pub(crate) struct Committed {
    /// The shards that the group still has to read.
    pub(crate) shards: Vec<GroupShard>,
    /// The states that were committed with their checkpoints.
    pub(crate) states: BTreeMap<ShardId, Arc<[u8]>>,
    /// When the last checkpoint was written.
    pub(crate) written_at: Option<Timestamp>,
    /// The layer that reads as the group, if it is not only workers.
    pub(crate) reader: Option<String>,
}

/// Describes a group, whether or not this process has it open.
pub(super) fn describe_elsewhere(stream: &StreamReader, name: &str) -> Result<Committed> {
    let Seen { checkpoints, states, written_at, reader } = look(stream, name)?;
    let shards = describe(stream, |shard| checkpoints.get(&shard).copied(), &[])?;
    Ok(Committed { shards, states, written_at, reader })
}

fn describe(
    stream: &StreamReader,
    checkpoint: impl Fn(ShardId) -> Option<Checkpoint>,
    leases: &[(ShardId, WorkerId)],
) -> Result<Vec<GroupShard>> {
    let mut shards = vec![];
    for shard in stream.shards() {
        let checkpoint = checkpoint(shard.id);
        if checkpoint.is_some_and(|checkpoint| checkpoint.is_finished) {
            continue;
        }
        let next = checkpoint.map_or(shard.first_sequence.into(), |checkpoint| checkpoint.next);
        let Place { sequence: next_sequence, sub_sequence: next_sub_sequence } = next;
        let lag = match lag(stream, shard.id, next_sequence) {
            // The shard expired after it was listed.
            Err(Error::ShardNotFound(_)) => continue,
            lag => lag?,
        };
        let worker = leases.iter().find(|(id, _)| *id == shard.id).map(|&(_, worker)| worker);
        shards.push(GroupShard { shard: shard.id, worker, next_sequence, next_sub_sequence, lag });
    }
    Ok(shards)
}

fn lag(stream: &StreamReader, shard: ShardId, next: SequenceNumber) -> Result<Lag> {
    match stream.iterator(shard, Position::At(next)) {
        Ok(iterator) => iterator.lag(),
        Err(Error::Trimmed { .. }) => {
            let iterator = stream.iterator(shard, Position::TrimHorizon)?;
            let trimmed = iterator.next_sequence().get().saturating_sub(next.get());
            Ok(iterator.lag()?.plus(Lag { record_count: trimmed, ..Lag::default() }))
        }
        Err(error) => Err(error),
    }
}
