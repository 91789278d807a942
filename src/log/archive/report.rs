//! What archiving and restoring have done.

use crate::log::types::shard_id::ShardId;

/// How far a pass of archiving, or a restore, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ArchiveProgress {
    /// The segments that were copied.
    pub segment_count: u64,
    /// The bytes of these.
    pub bytes: u64,
}

/// What a pass of archiving did. [`Archiver::run`](crate::Archiver::run) returns it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ArchiveReport {
    /// The segments that this pass has put into the archive.
    pub segment_count: u64,
    /// The bytes of these.
    pub bytes: u64,
    /// The records in these.
    pub record_count: u64,
    /// The shards of which something is not in the archive yet: it is not sealed, or it waits for a parent that is not sealed.
    pub waiting: Vec<ShardId>,
    /// Whether everything that is sealed is archived; `false` if the caller stopped the pass.
    pub is_complete: bool,
}

/// What a restore did. [`Stream::restore`](crate::Stream::restore) returns it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct RestoreReport {
    /// The segments that were fetched.
    pub segment_count: u64,
    /// The bytes of these.
    pub bytes: u64,
    /// The records that the stream has now.
    pub record_count: u64,
    /// The records between these that the archive does not have. Their readers get [`Error::Lost`](crate::Error::Lost).
    pub lost_count: u64,
    /// Whether the stream is complete; `false` if the caller stopped the restore. Then the next one goes on.
    pub is_complete: bool,
}
