//! Descriptions of a stream and its shards.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::compression::Compression;
use super::error::Error;
use super::hash_key::{HashKeyRange, KeyHash};
use super::keys::EncryptionDescription;
use super::options::{Durability, Retention};
use super::record::Position;
use super::sequence::SequenceNumber;
use super::shard_id::ShardId;
use super::throughput::Limits;
use super::time::Timestamp;

/// How a stream is set up. [`StreamReader::describe`](crate::StreamReader::describe) returns it.
///
/// ```
/// # use streamlog::{KeyHash, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let description = stream.describe();
/// assert_eq!(description.key_hash, KeyHash::Xxh3);
/// assert_eq!(description.record_bytes_max, 1 << 20);
/// assert_eq!(description.shards.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct StreamDescription {
    /// The stream's directory.
    pub path: PathBuf,
    /// When the stream was created.
    pub created_at: Timestamp,
    /// How partition keys are hashed.
    pub key_hash: KeyHash,
    /// How long records are kept.
    pub retention: Retention,
    /// What a returned put survives.
    pub durability: Durability,
    /// The size at which a segment is full.
    pub segment_bytes: u64,
    /// The largest record, counting key, data and headers together.
    pub record_bytes_max: u64,
    /// The permissions of the stream's files, such as `0o600`.
    pub file_mode: u32,
    /// How records are compressed from now on.
    pub compression: Compression,
    /// The key that encrypts new records; `None` if they stay plain.
    pub encryption: Option<EncryptionDescription>,
    /// The limits of each shard. A process that only reads the stream has no limits.
    pub limits: Limits,
    /// The stream's properties: texts, by name.
    pub properties: BTreeMap<String, String>,
    /// The holds on retention.
    pub holds: Vec<HoldDescription>,
    /// The shards that have not expired, in the order of their creation.
    pub shards: Vec<ShardDescription>,
}

/// A hold on retention, such as that of a consumer group that must not miss a record; see [`extend::hold`](crate::extend::hold).
///
/// ```
/// # use streamlog::{Stream, extend};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// extend::hold(&stream, "export").set(1 << 30)?;
/// let hold = &stream.describe().holds[0];
/// assert_eq!((&*hold.name, hold.bytes_max), ("export", 1 << 30));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct HoldDescription {
    /// The name of the hold: that of the group, or the one that an archiver was given.
    pub name: String,
    /// The most bytes of segments that the hold keeps beyond what retention keeps.
    pub bytes_max: u64,
}

/// A shard's place in the stream. [`StreamReader::shards`](crate::StreamReader::shards) returns it.
///
/// ```
/// # use streamlog::{HashKeyRange, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let shard = &stream.shards()[0];
/// assert!(shard.is_open());
/// assert_eq!(shard.hash_key_range, HashKeyRange::ALL);
/// assert_eq!(shard.parents().count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ShardDescription {
    /// The shard's id.
    pub id: ShardId,
    /// The shard that was split or merged into this one.
    pub parent: Option<ShardId>,
    /// The other parent, if this shard comes from a merge.
    pub adjacent_parent: Option<ShardId>,
    /// The hash keys that the shard owns, or owned.
    pub hash_key_range: HashKeyRange,
    /// The number that the shard's first record has or will have. All its parents' numbers are below it.
    pub first_sequence: SequenceNumber,
    /// The number after the last record of a closed shard; `None` while the shard is open. Its children begin somewhat above it.
    pub closing_sequence: Option<SequenceNumber>,
    /// When the shard was created.
    pub created_at: Timestamp,
    /// When the shard was closed; `None` while it is open.
    pub closed_at: Option<Timestamp>,
}

impl ShardDescription {
    /// Returns whether the shard takes puts.
    pub fn is_open(&self) -> bool {
        self.closed_at.is_none()
    }

    /// Returns the shards that were split or merged into this one.
    pub fn parents(&self) -> impl Iterator<Item = ShardId> {
        self.parent.into_iter().chain(self.adjacent_parent)
    }
}

/// Which shards to list, like the filters of Kinesis' `ListShards`.
///
/// ```
/// # use streamlog::{ShardFilter, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let shard = stream.shards()[0].id;
/// stream.split_shard_evenly(shard)?;
/// assert_eq!(stream.list_shards(ShardFilter::AtLatest).len(), 2);
/// assert_eq!(stream.list_shards(ShardFilter::AtTrimHorizon).len(), 1);
/// assert_eq!(stream.list_shards(ShardFilter::AfterShard(shard)).len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum ShardFilter {
    /// All shards that have not expired.
    FromTrimHorizon,
    /// The shards that were open at the trim horizon. They cover the hash-key space exactly once.
    AtTrimHorizon,
    /// The shards that are open now. They cover the hash-key space exactly once.
    AtLatest,
    /// The shards that were open at a time. They cover the hash-key space exactly once. A time before the horizon means the horizon.
    AtTimestamp(Timestamp),
    /// The shards that were open at a time or later.
    FromTimestamp(Timestamp),
    /// The shards created after a shard.
    AfterShard(ShardId),
}

/// Returns the shards in which reading a whole stream from a position begins. Their children follow.
///
/// ```
/// # use streamlog::{Position, ShardFilter};
/// assert_eq!(ShardFilter::try_from(Position::Latest)?, ShardFilter::AtLatest);
/// assert!(ShardFilter::try_from(Position::At(17.into())).is_err());
/// # Ok::<(), streamlog::Error>(())
/// ```
impl TryFrom<Position> for ShardFilter {
    type Error = Error;

    fn try_from(position: Position) -> Result<Self, Error> {
        match position {
            Position::TrimHorizon => Ok(Self::AtTrimHorizon),
            Position::Latest => Ok(Self::AtLatest),
            // A shard that closed at exactly that time may hold records of that time.
            Position::AtTimestamp(time) => Ok(Self::AtTimestamp(time - Duration::from_micros(1))),
            Position::At(_) | Position::After(_) => Err(Error::invalid(
                "a sequence number is a place in one shard: use TrimHorizon, Latest or AtTimestamp",
            )),
        }
    }
}
