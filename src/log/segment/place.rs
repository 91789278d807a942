//! Where the segments of a shard are, and what their files are called.

use std::path::{Path, PathBuf};

use crate::log::sys::dir;
use crate::log::types::error::{Corruption, Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

const EXTENSION: &str = ".seg";
const NAME_DIGITS: usize = 20;

/// Where the shards' directories are.
pub(crate) fn shards_dir(stream_dir: &Path) -> PathBuf {
    stream_dir.join("shards")
}

/// The directory of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardDir {
    pub(crate) shard: ShardId,
    path: PathBuf,
}

/// Which segment a file is, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentPlace {
    pub(crate) shard: ShardId,
    /// The number of its first record.
    pub(crate) base: SequenceNumber,
    pub(crate) path: PathBuf,
}

impl ShardDir {
    /// That of a shard in the directory of its stream.
    pub(crate) fn new(stream_dir: &Path, shard: ShardId) -> Self {
        Self { shard, path: shards_dir(stream_dir).join(format!("{:012}", shard.get())) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The segment whose first record has number `base`.
    pub(crate) fn segment(&self, base: SequenceNumber) -> SegmentPlace {
        SegmentPlace { shard: self.shard, base, path: self.segment_path(base) }
    }

    /// The file of the segment whose first record has number `base`.
    pub(crate) fn segment_path(&self, base: SequenceNumber) -> PathBuf {
        self.path.join(format!("{:020}{EXTENSION}", base.get()))
    }

    /// The first sequence numbers of all segments that there are files of, in order.
    pub(crate) fn bases(&self) -> Result<Vec<SequenceNumber>> {
        let mut bases: Vec<_> =
            dir::list(&self.path)?.iter().filter_map(|entry| base_of_name(&entry.name)).collect();
        bases.sort_unstable();
        Ok(bases)
    }

    /// Makes the names of all segments survive power loss.
    pub(crate) fn sync(&self) -> Result<()> {
        dir::sync(&self.path)
    }

    /// Removes the file of a segment; one that is gone already counts as removed.
    pub(crate) fn remove_segment(&self, base: SequenceNumber) -> Result<()> {
        dir::remove_file(&self.segment_path(base))
    }
}

impl SegmentPlace {
    /// The error for damage at an offset of the file, where the record with a sequence number should be.
    pub(crate) fn damage(&self, offset: u64, sequence: SequenceNumber, reason: impl Into<String>) -> Error {
        let (path, reason) = (self.path.clone(), reason.into());
        Corruption { path, shard: Some(self.shard), offset, sequence: Some(sequence), reason }.into_error()
    }
}

/// The first sequence number that a file name tells, if it is the name of a segment.
pub(super) fn base_of_name(name: &str) -> Option<SequenceNumber> {
    let digits = name.strip_suffix(EXTENSION)?;
    let is_number = digits.len() == NAME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten().map(SequenceNumber::new)
}
