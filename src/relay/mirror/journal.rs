//! The journal of a mirror: its position in each partition, and where to start reading its stream back after a crash.
//!
//! A record replaces the state of one thing: the origin, one partition, or the **floor**. The records of partitions come before the floor that
//! belongs to them: a floor that is too low does no harm.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::origin::{Place, StartAt};
use crate::extend::{self, StreamsInside};
use crate::{
    Journal, JournalOptions, PutRecord, Record, Result, SequenceNumber, ShardId, Stream, StreamReader,
};

/// The journal is rewritten after this many bytes.
const JOURNAL_BYTES_MAX: u64 = 256 << 10;
const SEGMENT_BYTES: u64 = 1 << 20;

/// The number that the next record of each shard had at a moment.
pub(super) type Floor = BTreeMap<ShardId, SequenceNumber>;

/// What a mirror copies, and where it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) kind: String,
    pub(super) origin: String,
    /// Distinguishes the origin from a deleted one of the same name.
    pub(super) incarnation: Option<String>,
    /// Where partitions begin that are not in the journal.
    pub(super) start: StartAt,
    /// The partitions of the first listing are in the journal, if they begin elsewhere.
    pub(super) has_begun: bool,
}

/// How far a mirror is in a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartitionState {
    /// Where reading continues. Everything before and including [`StartAt::After`] is in the stream, and synced.
    pub(super) from: StartAt,
    /// It was read to its end.
    pub(super) is_ended: bool,
}

impl PartitionState {
    /// Returns the last record that is done together with all records before it.
    pub(super) fn done(&self) -> Option<&Place> {
        match &self.from {
            StartAt::After(place) => Some(place),
            _ => None,
        }
    }
}

/// The contents of a journal.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) about: Option<About>,
    pub(super) partitions: BTreeMap<String, PartitionState>,
    pub(super) floor: Option<Floor>,
    /// When the last record was written.
    pub(super) at: crate::Timestamp,
}

impl Written {
    fn read(&mut self, record: &Record<'_>) -> bool {
        self.at = record.timestamp();
        self.add(record.partition_key(), record.data()).is_some()
    }

    fn add(&mut self, key: &[u8], data: &[u8]) -> Option<()> {
        match key {
            b"about" => self.about = Some(serde_json::from_slice(data).ok()?),
            b"floor" => {
                let floor: BTreeMap<String, u64> = serde_json::from_slice(data).ok()?;
                let entry = |(shard, sequence): (String, u64)| Some((shard.parse().ok()?, sequence.into()));
                self.floor = Some(floor.into_iter().map(entry).collect::<Option<_>>()?);
            }
            b"partition" => {
                let (id, state): (String, Option<PartitionState>) = serde_json::from_slice(data).ok()?;
                match state {
                    Some(state) => self.partitions.insert(id, state),
                    None => self.partitions.remove(&id),
                };
            }
            _ => return None,
        }
        Some(())
    }
}

/// Returns the journals of a stream's mirrors.
pub(super) fn journals_of(stream: &StreamReader) -> StreamsInside<'_> {
    extend::streams_inside(stream, "mirrors")
}

/// Opens the journal of a mirror, or creates it.
pub(super) fn open(stream: &Stream, name: &str) -> Result<(Journal, Written)> {
    let options = JournalOptions { segment_bytes: SEGMENT_BYTES, salvage: false };
    Journal::open(stream, journals_of(stream), name, options, Written::read)
}

/// Reads the journal of a mirror that another process may have open.
pub(super) fn look(stream: &StreamReader, name: &str) -> Result<Written> {
    Ok(Journal::look(journals_of(stream), name, Written::read)?.0)
}

/// What is written in one go.
#[derive(Debug, Default)]
pub(super) struct Entry {
    records: Vec<(&'static str, Vec<u8>)>,
}

impl Entry {
    pub(super) fn about(&mut self, about: &About) {
        self.push("about", about);
    }

    /// Adds the state of a partition, or that it is forgotten.
    pub(super) fn partition(&mut self, id: &str, state: Option<&PartitionState>) {
        self.push("partition", &(id, state));
    }

    /// Adds where to start reading back. It comes last.
    pub(super) fn floor(&mut self, floor: &Floor) {
        let floor: BTreeMap<String, u64> =
            floor.iter().map(|(shard, sequence)| (shard.to_string(), sequence.get())).collect();
        self.push("floor", &floor);
    }

    fn push(&mut self, key: &'static str, value: &impl Serialize) {
        let data = serde_json::to_vec(value).expect("texts and numbers always serialize");
        self.records.push((key, data));
    }

    /// Writes it to a journal.
    pub(super) fn write(&self, journal: &Journal) -> Result<()> {
        let records: Vec<_> = self.records.iter().map(|(key, data)| PutRecord::new(*key, data)).collect();
        // In order: a crash leaves a prefix of them. Few fit into one segment of the journal.
        for part in records.chunks(1_000) {
            journal.put_batch(part)?;
        }
        Ok(())
    }

    /// Replaces the contents of a journal, which say the same.
    pub(super) fn replace(self, journal: &Journal) -> Result<()> {
        journal.restate(self.records)
    }
}

/// Returns whether a journal should be rewritten, if its state has about this many bytes.
pub(super) fn is_long(journal: &Journal, state_bytes: u64) -> bool {
    journal.bytes() >= JOURNAL_BYTES_MAX.max(4 * state_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    #[test]
    fn what_is_written_is_read_and_what_is_forgotten_is_not() {
        let about = About {
            kind: "kinesis".to_owned(),
            origin: "orders".to_owned(),
            incarnation: Some("17".to_owned()),
            start: StartAt::AtTimestamp(Timestamp::from_millis(5)),
            has_begun: true,
        };
        let state = |number: u64, is_ended| PartitionState { from: StartAt::After(number.into()), is_ended };
        let mut entry = Entry::default();
        entry.about(&about);
        entry.partition("a", Some(&state(1, false)));
        entry.partition("b", Some(&state(2, true)));
        entry.partition("a", Some(&state(3, false)));
        entry.partition("b", None);
        entry.floor(&Floor::from([(ShardId::new(1), 7.into())]));
        let mut written = Written::default();
        for (key, data) in &entry.records {
            assert!(written.add(key.as_bytes(), data).is_some());
        }
        assert_eq!(written.about, Some(about));
        assert_eq!(written.partitions, BTreeMap::from([("a".to_owned(), state(3, false))]));
        assert_eq!(written.floor, Some(Floor::from([(ShardId::new(1), 7.into())])));
        for (key, data) in [("x", "1"), ("floor", "[]"), ("about", "{}"), ("partition", "[1]")] {
            assert!(written.add(key.as_bytes(), data.as_bytes()).is_none(), "{key}");
        }
    }
}
