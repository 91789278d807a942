//! Which segment files a shard has, and which of them are sealed.

use std::path::Path;

use crate::format::trailer::Trailer;
use crate::segment::{base_of_name, path_in, sealed};
use crate::sys::dir;
use crate::sys::file::DataFile;
use crate::words::error::Result;
use crate::words::sequence::SequenceNumber;
use crate::words::shard_id::ShardId;

/// A shard's segment files by their first sequence numbers, in order.
#[derive(Debug)]
pub(super) struct Inventory {
    pub(super) sealed: Vec<SequenceNumber>,
    pub(super) unsealed: Vec<SequenceNumber>,
    /// The trailer of the last sealed one.
    pub(super) last_trailer: Option<Trailer>,
}

impl Inventory {
    /// Lists a directory. Only the files from the last sealed one on are opened: segments are sealed in order.
    pub(super) fn of(shard_dir: &Path, shard: ShardId) -> Result<Self> {
        let entries = dir::list(shard_dir)?;
        let mut sealed: Vec<_> = entries.iter().filter_map(|entry| base_of_name(&entry.name)).collect();
        sealed.sort_unstable();
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
        Ok(Self { sealed, unsealed, last_trailer })
    }
}

fn trailer_of(path: &Path, shard: ShardId, base: SequenceNumber) -> Result<Option<Trailer>> {
    let file = DataFile::open(path)?;
    match sealed::read_header(&file, shard, base)?.0 {
        Some(header) => sealed::read_trailer(&file, &header),
        None => Ok(None),
    }
}
