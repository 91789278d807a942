//! The id of a shard.

use std::fmt;

/// The id of a shard: a number assigned in order of creation over the life of a stream, and never reused.
///
/// It prints as in Kinesis, and parses what Kinesis accepts: `shardId-000000000003`, any other prefix before a last `-`, or the bare
/// number.
///
/// ```
/// # use streamlog::ShardId;
/// let shard: ShardId = "shardId-000000000003".parse()?;
/// assert_eq!(shard, ShardId::new(3));
/// assert_eq!("3".parse::<ShardId>()?, shard);
/// assert_eq!(shard.to_string(), "shardId-000000000003");
/// # Ok::<(), streamlog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u32);

impl ShardId {
    /// The largest number that a shard can have, as in Kinesis.
    pub const MAX: Self = Self(i32::MAX as u32);

    /// Returns the shard id with this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl From<u32> for ShardId {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl From<ShardId> for u32 {
    fn from(shard: ShardId) -> Self {
        shard.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shardId-{:012}", self.0)
    }
}
