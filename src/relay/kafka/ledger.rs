//! Stores the position of a partition's processor as the offset that the group commits, with a state in its metadata.

use std::sync::{Arc, Weak};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::client::text;
use super::parts::Parts;
use crate::relay::source::spool::{Done, SHARD, record_at};
use crate::relay::source::totals::SharedTotals;
use crate::{
    Clock, Entry, Error, IoFailure, Ledger, Origin, Result, SequenceNumber, ShardId, StreamReader,
    SystemClock,
};

/// The prefix of metadata that has a state.
const STATE: &str = "streamlog:1:";

/// Returns the state in the metadata of an offset. Metadata of other programs has none.
pub(super) fn decode(metadata: &str) -> Vec<u8> {
    metadata.strip_prefix(STATE).and_then(|state| STANDARD.decode(state).ok()).unwrap_or_default()
}

fn encode(state: &[u8]) -> String {
    if state.is_empty() { String::new() } else { format!("{STATE}{}", STANDARD.encode(state)) }
}

/// The ledger of one partition.
#[derive(Debug)]
pub(super) struct OffsetLedger {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) consumer: Weak<BaseConsumer<Parts>>,
    /// The interval between commits that nobody waits for.
    pub(super) interval: Duration,
    pub(super) totals: SharedTotals,
    pub(super) spool: StreamReader,
    pub(super) done: Arc<Done>,
    /// What is stored by now: all records below the number are done, and the next record has this offset or a larger one.
    pub(super) kept: (SequenceNumber, i64),
    pub(super) kept_at: Duration,
}

impl Ledger for OffsetLedger {
    fn is_due(&mut self, is_urgent: bool) -> bool {
        is_urgent || self.done.is_wanted() || SystemClock.elapsed() >= self.kept_at + self.interval
    }

    fn enter(&mut self, entry: &Entry<'_>) -> Result<()> {
        // A spool of Kafka has no other shards: partitions do not end.
        if entry.shard != SHARD {
            return Ok(());
        }
        let offset = match entry.next.previous().filter(|_| entry.next != self.kept.0) {
            None => self.kept.1,
            Some(last) => {
                let read =
                    |record: &crate::Record<'_>| Origin::of(record)?.sequence_number.parse::<i64>().ok();
                let last = record_at(&self.spool, last, read)?;
                last.ok_or_else(|| failed("a record does not say where it comes from"))? + 1
            }
        };
        match self.commit(offset, entry.state) {
            Ok(()) => {
                self.kept = (entry.next, offset);
                self.kept_at = SystemClock.elapsed();
                self.done.note(entry.next, !entry.state.is_empty());
                Ok(())
            }
            Err(error) => {
                self.totals.note_error(text(&error));
                if is_lost(&error) {
                    let shard = ShardId::new(self.partition.unsigned_abs());
                    return Err(Error::GroupLeaseLost { group: (&*self.topic).into(), shard });
                }
                Err(failed(&text(&error)))
            }
        }
    }
}

impl OffsetLedger {
    fn commit(&self, offset: i64, state: &[u8]) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(&self.topic, self.partition);
        element.set_offset(Offset::Offset(offset))?;
        element.set_metadata(encode(state));
        let consumer = self.consumer.upgrade();
        let consumer = consumer.ok_or(KafkaError::ConsumerCommit(RDKafkaErrorCode::AssignmentLost))?;
        consumer.commit(&list, CommitMode::Sync)
    }
}

/// Returns whether the group no longer knows this worker, or has given the partition to another.
fn is_lost(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let lost = [Code::AssignmentLost, Code::IllegalGeneration, Code::UnknownMemberId, Code::FencedInstanceId];
    error.rdkafka_error_code().is_some_and(|code| lost.contains(&code))
}

fn failed(reason: &str) -> Error {
    let source = std::io::Error::other(reason.to_owned());
    IoFailure::new("commit an offset to", "the group of the processor", source).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l6_states_come_back_and_the_metadata_of_others_has_none() {
        for state in [&b""[..], b"a\n\xff", &[7; 1_000]] {
            assert_eq!(decode(&encode(state)), state);
        }
        for other in ["", "streamlog:1", "streamlog:1:%", "of somebody else"] {
            assert!(decode(other).is_empty());
        }
    }
}
