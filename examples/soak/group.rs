//! What the supervisor knows about a consumer group across all runs: the handled records and the commits.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use streamlog::{Batch, Error, HashKeyRange, ShardId, Stream, StreamReader};

use super::board::Outcome;
use super::course::Course;
use super::ledger::Ledger;
use super::record::{KeyIndex, Number, Stamp, hash_key_of, name_of};

/// The group whose workers run in the worker process.
pub(crate) const INSIDE: &str = "inside";
/// The group whose workers run in a visitor.
pub(crate) const OUTSIDE: &str = "outside";

/// Consecutive records of a key that a worker received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) key: KeyIndex,
    pub(crate) first: Number,
    pub(crate) last: Number,
}

/// Returns the span of each key in a batch. Within the batch the records of a key must be consecutive.
pub(crate) fn spans_of(batch: &Batch) -> Outcome<Vec<Span>> {
    let mut spans: BTreeMap<KeyIndex, Span> = BTreeMap::new();
    for record in batch {
        let stamp = Stamp::of(record.partition_key(), record.data()).map_err(|what| format!("P9: {what}"))?;
        let Stamp { key, number, .. } = stamp;
        let span = spans.entry(key).or_insert(Span { key, first: number, last: number });
        if number != span.first && !number.may_follow(span.last) {
            return Err(format!(
                "P4 P6: number {number} of {} comes after {} in a batch",
                name_of(key),
                span.last
            ));
        }
        span.last = number;
    }
    Ok(spans.into_values().collect())
}

/// Returns the keys whose records a shard may hold. Returns all keys if the shard has expired, because its range is then unknown.
pub(crate) fn keys_of(stream: &StreamReader, shard: ShardId, key_count: KeyIndex) -> Vec<KeyIndex> {
    let range: Option<HashKeyRange> =
        stream.shards().iter().find(|known| known.id == shard).map(|known| known.hash_key_range);
    (0..key_count).filter(|&key| range.is_none_or(|range| range.contains(hash_key_of(key)))).collect()
}

/// What the workers of a group reported: before each commit the records it covers, and afterwards that it returned.
#[derive(Debug)]
pub(crate) struct GroupLedger {
    name: &'static str,
    pub(crate) course: Course,
    /// The next record of each shard.
    committed: BTreeMap<ShardId, u64>,
}

impl GroupLedger {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, course: Course::default(), committed: BTreeMap::new() }
    }

    /// Checks that the group skipped nothing.
    pub(crate) fn note_handled(&mut self, ledger: &Ledger, spans: &[Span]) -> Result<(), String> {
        self.course.note("a group", ledger, spans)
    }

    /// Notes that the group is about to continue from the horizon after a `Trimmed` error.
    pub(crate) fn note_overtaken(&mut self, keys: &[KeyIndex], at: Instant) {
        self.course.note_jump(keys, at);
    }

    pub(crate) fn note_committed(&mut self, shard: ShardId, next: u64) {
        let committed = self.committed.entry(shard).or_default();
        *committed = next.max(*committed);
    }

    /// Checks that a newly opened stream still has the commits.
    pub(crate) fn check_commits(&self, stream: &Stream) -> Result<(), String> {
        if !stream.groups().map_err(|error| error.to_string())?.iter().any(|name| name == self.name) {
            return if self.committed.is_empty() { Ok(()) } else { Err("P1: a group is gone".into()) };
        }
        let group = stream
            .group(self.name)
            .describe()
            .map_err(|error| format!("P1 P9: the group {}: {error}", self.name))?;
        for shard in &group.shards {
            let committed = self.committed.get(&shard.shard);
            if committed.is_some_and(|&committed| shard.next_sequence.get() < committed) {
                return Err(format!(
                    "P1: a commit up to before {committed:?} had returned, and it is {shard:?}"
                ));
            }
        }
        Ok(())
    }

    /// Handles all remaining records as a worker does. Afterwards the group must have handled every record in the stream.
    pub(crate) fn drain(
        &mut self,
        stream: &Stream,
        ledger: &Ledger,
        lasts: &[Option<Number>],
    ) -> Result<(), String> {
        let failed = |error: Error| format!("P6: reading what a group has left: {error}");
        let mut worker = stream.group(self.name).worker().open().map_err(failed)?;
        loop {
            match worker.poll(Duration::ZERO) {
                Ok(None) => break,
                Ok(Some(batch)) => {
                    let (first, committed) = (batch.first_sequence(), self.committed.get(&batch.shard()));
                    if first.zip(committed).is_some_and(|(first, &committed)| first.get() < committed) {
                        return Err(format!(
                            "P6: {first:?} of {} comes again after a commit up to before {committed:?}",
                            batch.shard()
                        ));
                    }
                    self.note_handled(ledger, &spans_of(&batch)?)?;
                    worker.commit(&batch).map_err(failed)?;
                }
                Err(Error::Trimmed { shard, .. }) => {
                    self.note_overtaken(&keys_of(stream, shard, lasts.len() as KeyIndex), Instant::now());
                    worker.skip_to_horizon(shard).map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        for (key, &last) in (0..).zip(lasts) {
            let handled = self.course.last(key);
            if handled < last {
                return Err(format!(
                    "P6: a group has read all, and handled {} up to {handled:?}; {last:?} is there",
                    name_of(key)
                ));
            }
        }
        Ok(())
    }
}
