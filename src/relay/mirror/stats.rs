//! What a mirror has done and does.

use std::time::Duration;

use crate::Timestamp;

/// What a [`Mirror`](super::Mirror) has done since it was started, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MirrorStats {
    /// How many records it has put.
    pub records: u64,
    /// The bytes of their data.
    pub bytes: u64,
    /// How many records it has found in the stream when it was started, which had been put after its last checkpoint.
    pub recognised: u64,
    /// How many records the stream could not hold, and [`on_refused`](super::MirrorOptions::on_refused) has taken.
    pub refused: u64,
    /// How many requests it has sent.
    pub requests: u64,
    /// How many requests were refused because they were too many or asked for too much.
    pub throttled: u64,
    /// How often it has come upon a gap: the other side had dropped the record that was read last, so others that came after it may have been
    /// dropped before they were read. Their number is not known, because sequence numbers of Kinesis are not dense.
    pub skipped: u64,
    /// How far it is in each partition, in the order of their names.
    pub partitions: Vec<MirrorPartitionStats>,
    /// Since when requests or puts fail. `None` if the last one succeeded.
    pub failing_since: Option<Timestamp>,
    /// The last error, also if all is well by now.
    pub last_error: Option<String>,
}

/// How far a mirror is in a shard or partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MirrorPartitionStats {
    /// The id of the shard, or the number of the partition.
    pub partition: String,
    /// The sequence number or the offset of the last record that is in the stream with all before it. `None` if nothing was read yet.
    pub place: Option<String>,
    /// It was read to its end: it was split or merged, and gets no more records.
    pub is_ended: bool,
    /// How far the last read was behind the newest record, with a resolution of milliseconds. `None` if it was not read since the start, or has ended.
    pub behind_latest: Option<Duration>,
}

impl MirrorStats {
    /// Returns how far the partition that lags most is behind its newest record. `None` if none was read yet.
    pub fn behind_latest(&self) -> Option<Duration> {
        self.partitions.iter().filter_map(|partition| partition.behind_latest).max()
    }
}
