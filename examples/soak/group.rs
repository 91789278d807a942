//! What the supervisor knows of the consumer group, across all runs: what was handled, and what was committed.

use std::collections::BTreeMap;

use streamlog::{Batch, Error, HashKeyRange, ShardId, Stream};

use super::board::Outcome;
use super::ledger::Ledger;
use super::record::{KeyIndex, Number, Stamp, hash_key_of, name_of};

/// The group's name.
pub(crate) const GROUP: &str = "soak";

/// Records of a key that were handed out one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) key: KeyIndex,
    pub(crate) first: Number,
    pub(crate) last: Number,
}

/// What of each key is in a batch; within it the records of a key have to follow each other.
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

/// The keys whose records may be in a shard: all of them where it has expired, so that nobody knows any more.
pub(crate) fn keys_of(stream: &Stream, shard: ShardId, key_count: KeyIndex) -> Vec<KeyIndex> {
    let range: Option<HashKeyRange> =
        stream.shards().iter().find(|known| known.id == shard).map(|known| known.hash_key_range);
    (0..key_count).filter(|&key| range.is_none_or(|range| range.contains(hash_key_of(key)))).collect()
}

/// What workers of the group told: before each commit what it covers, and after it that it returned.
#[derive(Debug, Default)]
pub(crate) struct GroupLedger {
    keys: BTreeMap<KeyIndex, Handled>,
    /// The next record of each shard.
    committed: BTreeMap<ShardId, u64>,
    /// Records of so many spans had been handed out before.
    pub(crate) spans_again: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Handled {
    last: Option<Number>,
    /// Whoever handled it was told that retention had dropped what came next.
    may_jump: bool,
}

impl GroupLedger {
    /// Checks that nothing was skipped.
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

    /// The group is about to go on from the horizon where it was told of a trim.
    pub(crate) fn note_overtaken(&mut self, keys: &[KeyIndex]) {
        for &key in keys {
            self.keys.entry(key).or_default().may_jump = true;
        }
    }

    pub(crate) fn note_committed(&mut self, shard: ShardId, next: u64) {
        let committed = self.committed.entry(shard).or_default();
        *committed = next.max(*committed);
    }

    /// What was committed is so in a stream that was just opened.
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

    /// Handles all that is left, as a worker does; then nothing of what is there may be missing.
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
