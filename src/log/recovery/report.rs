//! The report of what recovery found and did.

use std::ops::Range;
use std::path::PathBuf;

use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// The report of what opening a stream found and did. [`Stream::recovery`](crate::Stream::recovery) returns it.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let report = stream.recovery();
/// if !report.was_closed_cleanly() {
///     println!("opened in {:?} after a crash, torn tail: {}", report.duration, report.has_torn_tail());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct RecoveryReport {
    /// One entry for each shard that has not expired, in the order of creation.
    pub shards: Vec<ShardRecovery>,
    /// How long opening took.
    pub duration: std::time::Duration,
    /// Whether the permissions of the stream's directory let its group or everybody add and remove files, and so replace records. By
    /// default, the library creates directories that only their owner may enter.
    pub is_writable_by_others: bool,
    /// How far the latest timestamp is ahead of the clock, if by more than a minute: the clock was wrong when that record was put, or is
    /// wrong now.
    pub clock_behind: Option<std::time::Duration>,
}

impl RecoveryReport {
    /// Returns whether all shards were closed cleanly, so that nothing had to be scanned.
    pub fn was_closed_cleanly(&self) -> bool {
        self.shards.iter().all(|shard| shard.was_closed_cleanly)
    }

    /// Returns whether anything was cut: bytes behind the last whole frame, none of which was ever synced. A killed process leaves such
    /// bytes only if it was in the middle of a put.
    pub fn has_torn_tail(&self) -> bool {
        self.shards.iter().any(|shard| shard.torn_tail.is_some())
    }

    /// Returns the records that this opening gave up under [`salvage`](crate::StreamOptions::salvage).
    pub fn lost(&self) -> impl Iterator<Item = &LostRecords> {
        self.shards.iter().flat_map(|shard| &shard.lost)
    }
}

/// The report of what opening found and did in one shard.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// for shard in &stream.recovery().shards {
///     println!("{} goes on with {} after {} bytes", shard.shard, shard.next_sequence, shard.scanned_bytes);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ShardRecovery {
    /// The shard.
    pub shard: ShardId,
    /// The number of segment files found.
    pub segment_count: usize,
    /// Whether the shard was closed cleanly, so that nothing had to be scanned.
    pub was_closed_cleanly: bool,
    /// The bytes of unsealed segments, which had to be scanned.
    pub scanned_bytes: u64,
    /// The sequence number after the last record.
    pub next_sequence: SequenceNumber,
    /// The bytes behind the last whole frame, if any. They were never synced, so no receipt promised that they survive power loss.
    pub torn_tail: Option<TornTail>,
    /// The files behind the torn tail, which were removed.
    pub removed_files: Vec<PathBuf>,
    /// The records that were given up under [`salvage`](crate::StreamOptions::salvage), in order.
    pub lost: Vec<LostRecords>,
    /// The damaged files, unchanged, under their new names. They can be removed.
    pub damaged_files: Vec<PathBuf>,
}

impl ShardRecovery {
    pub(crate) fn new(shard: ShardId) -> Self {
        Self {
            shard,
            segment_count: 0,
            was_closed_cleanly: true,
            scanned_bytes: 0,
            next_sequence: SequenceNumber::ZERO,
            torn_tail: None,
            removed_files: vec![],
            lost: vec![],
            damaged_files: vec![],
        }
    }
}

/// Records that were lost to damage and given up by the caller.
///
/// ```
/// # use streamlog::StreamOptions;
/// # let directory = tempfile::tempdir()?;
/// let stream = StreamOptions::new().salvage(true).open(directory.path())?;
/// for lost in stream.recovery().lost() {
///     eprintln!("{lost}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LostRecords {
    /// The shard.
    pub shard: ShardId,
    /// The first lost sequence number, and the one after the last.
    pub sequences: Range<SequenceNumber>,
    /// The segment file that held them.
    pub path: PathBuf,
    /// What was found there.
    pub reason: String,
}

impl std::fmt::Display for LostRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Range { start, end } = self.sequences;
        let count = end.get().saturating_sub(start.get());
        let (shard, path, reason) = (self.shard, self.path.display(), &self.reason);
        let plural = if count == 1 { "" } else { "s" };
        write!(
            f,
            "{shard} lost {count} record{plural}, from sequence number {start} to before {end}: {path} has {reason}"
        )
    }
}

/// The bytes after the last whole frame.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// for shard in &stream.recovery().shards {
///     if let Some(tail) = &shard.torn_tail {
///         println!("{}: {} bytes from byte {} on: {}", tail.path.display(), tail.bytes, tail.offset, tail.reason);
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct TornTail {
    /// The segment file.
    pub path: PathBuf,
    /// The offset at which the tail begins.
    pub offset: u64,
    /// The length of the tail, including unused blocks.
    pub bytes: u64,
    /// What was found there instead of a frame.
    pub reason: String,
}
