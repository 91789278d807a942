//! The directories and file names of the segments of a shard.

use crate::log::format::header::SegmentHeader;
use crate::log::format::salt::SALT_BYTES;
use crate::log::sys::root::OwnPath;
use crate::log::sys::{dir, random};
use crate::log::types::error::{Corruption, Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

pub(crate) const SHARDS_NAME: &str = "shards";
const EXTENSION: &str = ".seg";
const NAME_DIGITS: usize = 20;

/// Returns the directory that holds the shards' directories.
pub(crate) fn shards_dir(stream_dir: &OwnPath) -> OwnPath {
    stream_dir.join(SHARDS_NAME)
}

/// The directory of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardDir {
    pub(crate) shard: ShardId,
    path: OwnPath,
}

/// The identity of a segment and the path of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentPlace {
    pub(crate) shard: ShardId,
    /// The sequence number of its first record.
    pub(crate) base: SequenceNumber,
    pub(crate) path: OwnPath,
}

impl ShardDir {
    /// Returns the directory of a shard of the stream in `stream_dir`.
    pub(crate) fn new(stream_dir: &OwnPath, shard: ShardId) -> Self {
        Self { shard, path: shards_dir(stream_dir).join(format!("{:012}", shard.get())) }
    }

    pub(crate) fn path(&self) -> &OwnPath {
        &self.path
    }

    /// Returns the place of the segment whose first record has number `base`.
    pub(crate) fn segment(&self, base: SequenceNumber) -> SegmentPlace {
        SegmentPlace { shard: self.shard, base, path: self.segment_path(base) }
    }

    /// Returns the path of the segment whose first record has number `base`.
    pub(crate) fn segment_path(&self, base: SequenceNumber) -> OwnPath {
        self.path.join(format!("{:020}{EXTENSION}", base.get()))
    }

    /// Returns the first sequence numbers of all segments that have a file, in order.
    pub(crate) fn bases(&self) -> Result<Vec<SequenceNumber>> {
        let mut bases: Vec<_> =
            dir::list(&self.path)?.iter().filter_map(|entry| base_of_name(&entry.name)).collect();
        bases.sort_unstable();
        // See `dir::list`: a directory with very many names is not listed all at once.
        bases.dedup();
        Ok(bases)
    }

    /// Makes the names of all segments survive power loss.
    pub(crate) fn sync(&self) -> Result<()> {
        dir::sync(&self.path)
    }

    /// Removes the file of a segment. A file that is already gone counts as removed.
    pub(crate) fn remove_segment(&self, base: SequenceNumber) -> Result<()> {
        dir::remove_file(&self.segment_path(base))
    }
}

impl SegmentPlace {
    /// Returns the header of a new segment at this place.
    pub(crate) fn new_header(&self, created_at_micros: u64) -> Result<SegmentHeader> {
        let (shard, base_sequence) = (self.shard.get(), self.base.get());
        Ok(SegmentHeader { shard, base_sequence, created_at_micros, salt: self.new_salt()? })
    }

    /// Returns a salt that no frame has yet.
    pub(super) fn new_salt(&self) -> Result<[u8; SALT_BYTES]> {
        random::bytes().map_err(|error| Error::io("get random bytes for", &self.path, error))
    }

    /// Returns the error for damage at an offset of the file, where the record with this sequence number should be.
    pub(crate) fn damage(&self, offset: u64, sequence: SequenceNumber, reason: impl Into<String>) -> Error {
        let (path, reason) = (self.path.to_path_buf(), reason.into());
        Corruption { path, shard: Some(self.shard), offset, sequence: Some(sequence), reason }.into_error()
    }
}

/// Returns the first sequence number in a file name, if it is the name of a segment.
pub(super) fn base_of_name(name: &str) -> Option<SequenceNumber> {
    let digits = name.strip_suffix(EXTENSION)?;
    let is_number = digits.len() == NAME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten().map(SequenceNumber::new)
}
