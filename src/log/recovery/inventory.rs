//! Which segment files a shard has, and which of them are sealed.

use std::path::Path;

use crate::log::format::trailer::Trailer;
use crate::log::segment::{base_of_name, path_in, sealed};
use crate::log::sys::dir;
use crate::log::sys::file::DataFile;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// A shard's segment files by their first sequence numbers, in order.
#[derive(Debug)]
pub(super) struct Inventory {
    pub(super) sealed: Vec<SequenceNumber>,
    pub(super) unsealed: Vec<SequenceNumber>,
    /// The trailer of the last sealed one.
    pub(super) last_trailer: Option<Trailer>,
    /// Those that end at the horizon or before it; they are in neither of the other lists.
    pub(super) behind: Vec<SequenceNumber>,
}

impl Inventory {
    /// Lists a directory. Only the files from the last sealed one on are opened: segments are sealed in order.
    pub(super) fn of(shard_dir: &Path, shard: ShardId, horizon: SequenceNumber) -> Result<Self> {
        let (behind, mut sealed) = Self::names(shard_dir, horizon)?;
        let mut unsealed = vec![];
        let mut last_trailer = None;
        while let Some(&base) = sealed.last() {
            last_trailer = trailer_of(&path_in(shard_dir, base), shard, base)?;
            if last_trailer.is_some() {
                break;
            }
            unsealed.push(base);
            sealed.pop();
        }
        unsealed.reverse();
        Ok(Self { sealed, unsealed, last_trailer, behind })
    }

    /// The segments that end at the horizon or before it, and the others, by their names.
    pub(super) fn names(
        shard_dir: &Path,
        horizon: SequenceNumber,
    ) -> Result<(Vec<SequenceNumber>, Vec<SequenceNumber>)> {
        let entries = dir::list(shard_dir)?;
        let mut behind: Vec<_> = entries.iter().filter_map(|entry| base_of_name(&entry.name)).collect();
        behind.sort_unstable();
        let others = behind.split_off(behind.iter().skip(1).take_while(|&&next| next <= horizon).count());
        Ok((behind, others))
    }
}

fn trailer_of(path: &Path, shard: ShardId, base: SequenceNumber) -> Result<Option<Trailer>> {
    let file = DataFile::open(path)?;
    match sealed::read_header(&file, shard, base)?.0 {
        Some(header) => sealed::read_trailer(&file, &header),
        None => Ok(None),
    }
}
