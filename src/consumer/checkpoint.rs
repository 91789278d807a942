//! A checkpoint, and the line of JSON that stores it in the log.

use serde::{Deserialize, Serialize};

use crate::{SequenceNumber, ShardId, Timestamp};

/// How far a group is in one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Everything below is handled.
    pub(super) next: SequenceNumber,
    /// When the last record below arrived, if the group has handled one. After a power loss, new records get the sequence numbers of the
    /// lost ones. This time distinguishes a new record from the old one.
    pub(super) last_timestamp: Option<Timestamp>,
    /// The shard is read to its end.
    pub(super) is_finished: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    next_sequence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_timestamp_micros: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_finished: bool,
    /// This line and those that follow are all checkpoints. Earlier lines do not count, even if they still exist.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_first_of_all: bool,
}

pub(super) fn encode(checkpoint: Checkpoint, is_first_of_all: bool) -> Vec<u8> {
    let line = Line {
        next_sequence: checkpoint.next.get(),
        last_timestamp_micros: checkpoint.last_timestamp.map(Timestamp::as_micros),
        is_finished: checkpoint.is_finished,
        is_first_of_all,
    };
    serde_json::to_vec(&line).expect("numbers always serialize")
}

pub(super) fn decode(key: &[u8], data: &[u8]) -> Option<(ShardId, Checkpoint, bool)> {
    let shard = std::str::from_utf8(key).ok()?.parse().ok()?;
    let line: Line = serde_json::from_slice(data).ok()?;
    let checkpoint = Checkpoint {
        next: line.next_sequence.into(),
        last_timestamp: line.last_timestamp_micros.map(Timestamp::from_micros),
        is_finished: line.is_finished,
    };
    Some((shard, checkpoint, line.is_first_of_all))
}
