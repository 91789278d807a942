//! Counts that a stream keeps of its shards.

use super::sequence::SequenceNumber;
use super::shard_id::ShardId;

/// The stream's counts at one moment; see [`Stream::stats`](crate::Stream::stats).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamStats {
    /// One for each shard that has not expired, in the order of creation.
    pub shards: Vec<ShardStats>,
}

impl StreamStats {
    /// The records that can be read.
    pub fn record_count(&self) -> u64 {
        self.shards.iter().map(ShardStats::record_count).sum()
    }

    /// The bytes that all segment files take on the disk.
    pub fn disk_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.disk_bytes).sum()
    }
}

/// A shard's counts at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardStats {
    /// The shard.
    pub shard: ShardId,
    /// The oldest sequence number that can be read.
    pub horizon: SequenceNumber,
    /// The number that the next record will have.
    pub next_sequence: SequenceNumber,
    /// All below this number survives power loss.
    pub synced_sequence: SequenceNumber,
    /// The shard's segment files.
    pub segment_count: usize,
    /// The bytes that its segment files take on the disk.
    pub disk_bytes: u64,
}

impl ShardStats {
    /// The records that can be read.
    pub fn record_count(&self) -> u64 {
        self.next_sequence.get() - self.horizon.get()
    }
}
