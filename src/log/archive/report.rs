//! The reports of archiving and restoring.

use crate::log::types::shard_id::ShardId;

/// The progress of a pass of archiving, or of a restore.
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
    /// The shards that are not completely archived yet: a segment is not sealed, or waits for an unsealed segment of a parent.
    pub waiting: Vec<ShardId>,
    /// Whether all sealed segments are archived; `false` if the caller stopped the pass.
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
    /// The number of records in the stream.
    pub record_count: u64,
    /// The number of records missing between them, because the archive does not have them. Their readers get [`Error::Lost`](crate::Error::Lost).
    pub lost_count: u64,
    /// Whether the stream is complete; `false` if the caller stopped the restore. The next one continues.
    pub is_complete: bool,
}
