//! A checkpoint, and the line of JSON that stores it in the log.

use serde::{Deserialize, Serialize};

use crate::{SequenceNumber, ShardId, Timestamp};

/// A place in a shard, between two user records. Everything below it comes before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) sequence: SequenceNumber,
    /// How many user records of that record come before, if it is an aggregate. Usually 0: the place is before the whole record.
    pub(super) sub_sequence: u64,
}

impl From<SequenceNumber> for Place {
    fn from(sequence: SequenceNumber) -> Self {
        Self { sequence, sub_sequence: 0 }
    }
}

impl Place {
    pub(super) fn is_within_record(self) -> bool {
        self.sub_sequence > 0
    }

    /// Returns the number after the last record that comes before the place, as a whole or in part.
    pub(super) fn begun(self) -> SequenceNumber {
        if self.is_within_record() { self.sequence.plus(1) } else { self.sequence }
    }
}

/// How far a group is in one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Everything below is handled.
    pub(super) next: Place,
    /// When the last record arrived that is handled, as a whole or in part, if there is one. After a power loss, new records get the sequence
    /// numbers of the lost ones. This time distinguishes a new record from the old one.
    pub(super) last_timestamp: Option<Timestamp>,
    /// The shard is read to its end.
    pub(super) is_finished: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    next_sequence: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    next_sub_sequence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_timestamp_micros: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_finished: bool,
    /// This line and the following ones are the complete set of checkpoints. Earlier lines do not count, even if they still exist.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_first_of_all: bool,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

pub(super) fn encode(checkpoint: Checkpoint, state: Option<&[u8]>, is_first_of_all: bool) -> Vec<u8> {
    let line = Line {
        next_sequence: checkpoint.next.sequence.get(),
        next_sub_sequence: checkpoint.next.sub_sequence,
        last_timestamp_micros: checkpoint.last_timestamp.map(Timestamp::as_micros),
        is_finished: checkpoint.is_finished,
        is_first_of_all,
    };
    let mut data = serde_json::to_vec(&line).expect("numbers always serialize");
    if let Some(state) = state {
        data.push(b'\n');
        data.extend_from_slice(state);
    }
    data
}

/// The content of a record in a group's journal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded<'a> {
    pub(super) shard: ShardId,
    pub(super) checkpoint: Checkpoint,
    pub(super) state: Option<&'a [u8]>,
    pub(super) is_first_of_all: bool,
}

pub(super) fn decode<'a>(key: &[u8], data: &'a [u8]) -> Option<Decoded<'a>> {
    let shard = std::str::from_utf8(key).ok()?.parse().ok()?;
    let (line, state) = match data.iter().position(|&byte| byte == b'\n') {
        Some(at) => (&data[..at], Some(&data[at + 1..])),
        None => (data, None),
    };
    let line: Line = serde_json::from_slice(line).ok()?;
    let checkpoint = Checkpoint {
        next: Place { sequence: line.next_sequence.into(), sub_sequence: line.next_sub_sequence },
        last_timestamp: line.last_timestamp_micros.map(Timestamp::from_micros),
        is_finished: line.is_finished,
    };
    Some(Decoded { shard, checkpoint, state, is_first_of_all: line.is_first_of_all })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l1_a_checkpoint_within_an_aggregate_is_kept_and_lines_without_one_are_read_as_before() {
        let whole =
            Checkpoint { next: SequenceNumber::new(7).into(), last_timestamp: None, is_finished: false };
        let within = Checkpoint { next: Place { sub_sequence: 3, ..whole.next }, ..whole };
        assert_eq!(encode(whole, None, false), br#"{"next_sequence":7}"#);
        assert_eq!(encode(within, None, false), br#"{"next_sequence":7,"next_sub_sequence":3}"#);
        for (checkpoint, state) in [(whole, None), (within, Some(&b""[..])), (whole, Some(b"a\nb\xff"))] {
            let shard = ShardId::new(1);
            let data = encode(checkpoint, state, true);
            let decoded = decode(shard.to_string().as_bytes(), &data);
            assert_eq!(decoded, Some(Decoded { shard, checkpoint, state, is_first_of_all: true }));
        }
    }
}
