//! What the supervisor knows about the consumer group across all runs: the handled records and the commits.

use std::collections::BTreeMap;

use streamlog::{Batch, Error, HashKeyRange, ShardId, Stream};

use super::board::Outcome;
use super::ledger::Ledger;
use super::record::{KeyIndex, Number, Stamp, hash_key_of, name_of};

/// The name of the group.
pub(crate) const GROUP: &str = "soak";

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
pub(crate) fn keys_of(stream: &Stream, shard: ShardId, key_count: KeyIndex) -> Vec<KeyIndex> {
    let range: Option<HashKeyRange> =
        stream.shards().iter().find(|known| known.id == shard).map(|known| known.hash_key_range);
    (0..key_count).filter(|&key| range.is_none_or(|range| range.contains(hash_key_of(key)))).collect()
}

/// What the workers of the group reported: before each commit the records it covers, and afterwards that it returned.
#[derive(Debug, Default)]
pub(crate) struct GroupLedger {
    keys: BTreeMap<KeyIndex, Handled>,
    /// The next record of each shard.
    committed: BTreeMap<ShardId, u64>,
    /// The number of spans with records that had been handed out before.
    pub(crate) spans_again: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Handled {
    last: Option<Number>,
    /// A worker learned that retention had dropped the next records.
    may_jump: bool,
}

impl GroupLedger {
    /// Checks that the group skipped nothing.
    pub(crate) fn note_handled(&mut self, ledger: &Ledger, spans: &[Span]) -> Result<(), String> {
        for span in spans {
            let known = self.keys.entry(span.key).or_default();
            let Some(last) = known.last else {
                *known = Handled { last: Some(span.last), may_jump: false };
                continue;
            };
            if span.first <= last {
                self.spans_again += 1;
                if span.last > last {
                    known.last = Some(span.last);
                }
                continue;
            }
            if !known.may_jump {
                ledger.check_gap(span.key, last, Some(span.first))?;
                if !span.first.may_follow(last) {
                    return Err(format!(
                        "P4 P6: a group was handed number {} of {} after {last}",
                        span.first,
                        name_of(span.key)
                    ));
                }
            }
            *known = Handled { last: Some(span.last), may_jump: false };
        }
        Ok(())
    }

    /// Notes that the group is about to continue from the horizon after a `Trimmed` error.
    pub(crate) fn note_overtaken(&mut self, keys: &[KeyIndex]) {
        for &key in keys {
            self.keys.entry(key).or_default().may_jump = true;
        }
    }

    pub(crate) fn note_committed(&mut self, shard: ShardId, next: u64) {
        let committed = self.committed.entry(shard).or_default();
        *committed = next.max(*committed);
    }

    /// Checks that a newly opened stream still has the commits.
    pub(crate) fn check_commits(&self, stream: &Stream) -> Result<(), String> {
        if !stream.groups().map_err(|error| error.to_string())?.iter().any(|name| name == GROUP) {
            return if self.committed.is_empty() { Ok(()) } else { Err("P1: the group is gone".into()) };
        }
        let group = stream.group(GROUP).describe().map_err(|error| format!("P1 P9: the group: {error}"))?;
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
        let mut worker = stream.group(GROUP).worker().open().map_err(failed)?;
        loop {
            match worker.poll(std::time::Duration::ZERO) {
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
                    self.note_overtaken(&keys_of(stream, shard, lasts.len() as KeyIndex));
                    worker.skip_to_horizon(shard).map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        for (key, &last) in (0..).zip(lasts) {
            let handled = self.keys.get(&key).and_then(|known| known.last);
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
