//! What a mirror has done and does.

use std::time::Duration;

use crate::Timestamp;

/// What a [`Mirror`](super::Mirror) has done since its start, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MirrorStats {
    /// How many records it has put.
    pub records: u64,
    /// The bytes of their data.
    pub bytes: u64,
    /// How many records it found in the stream at its start that had been put after its last checkpoint.
    pub recognised: u64,
    /// How many records the stream could not hold and [`on_refused`](super::MirrorOptions::on_refused) has accepted.
    pub refused: u64,
    /// How many requests it has sent.
    pub requests: u64,
    /// How many requests were throttled because they were too many or too large.
    pub throttled: u64,
    /// How often it encountered a gap: the source had dropped the record that was read last, so later records may also have been dropped before they
    /// were read. Their number is unknown, because sequence numbers of Kinesis are not dense.
    pub skipped: u64,
    /// How far it is in each partition, in the order of their names.
    pub partitions: Vec<MirrorPartitionStats>,
    /// When requests or puts began to fail. `None` if the last one succeeded.
    pub failing_since: Option<Timestamp>,
    /// The last error. It remains after the mirror has recovered.
    pub last_error: Option<String>,
}

/// How far a mirror is in a shard or partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MirrorPartitionStats {
    /// The id of the shard, or the number of the partition.
    pub partition: String,
    /// The sequence number or the offset up to which all records are in the stream. `None` if nothing was read yet.
    pub place: Option<String>,
    /// Whether it was read to its end: it was split or merged, and gets no more records.
    pub is_ended: bool,
    /// How far the last read was behind the newest record, in milliseconds. `None` if it has not been read since the start, or has ended.
    pub behind_latest: Option<Duration>,
}

impl MirrorStats {
    /// Returns how far the slowest partition is behind its newest record. `None` if none has been read yet.
    pub fn behind_latest(&self) -> Option<Duration> {
        self.partitions.iter().filter_map(|partition| partition.behind_latest).max()
    }
}
