//! The inventory: which segment files a shard has, and which of them are sealed.

use crate::log::format::summary::Summary;
use crate::log::segment::place::ShardDir;
use crate::log::segment::stored::{self, HeaderPage};
use crate::log::sys::file::DataFile;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;

/// A shard's segment files by their first sequence numbers, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inventory {
    pub(super) sealed: Vec<SequenceNumber>,
    /// The summary in the trailer of the last sealed segment.
    pub(super) last_sealed: Option<Summary>,
    pub(super) unsealed: Vec<SequenceNumber>,
    /// The segments that end at or before the horizon. They are in neither of the other lists.
    pub(super) behind: Vec<SequenceNumber>,
    /// Whether the first of the other segments says that those before it were trimmed, because the disk had no room for a manifest that
    /// says so.
    pub(super) is_noted_first: bool,
}

impl Inventory {
    /// Lists a directory. Opens only the first file and the files from the last sealed one on, since segments are sealed in order.
    pub(super) fn read(dir: &ShardDir, horizon: SequenceNumber) -> Result<Self> {
        let (behind, mut sealed) = names(dir, horizon)?;
        let is_noted_first = match sealed.first() {
            Some(&first) if first > horizon => {
                let place = dir.segment(first);
                HeaderPage::read(&DataFile::open(&place.path)?)?.is_noted_first(&place)
            }
            _ => false,
        };
        let (mut unsealed, mut last_sealed) = (vec![], None);
        while let Some(&base) = sealed.last() {
            last_sealed = trailer_of(dir, base)?;
            if last_sealed.is_some() {
                break;
            }
            unsealed.push(base);
            sealed.pop();
        }
        unsealed.reverse();
        Ok(Self { sealed, last_sealed, unsealed, behind, is_noted_first })
    }
}

/// Returns the segments that end at or before the horizon, and the others, by their names.
pub(super) fn names(
    dir: &ShardDir,
    horizon: SequenceNumber,
) -> Result<(Vec<SequenceNumber>, Vec<SequenceNumber>)> {
    let mut behind = dir.bases()?;
    let others = behind.split_off(behind.iter().skip(1).take_while(|&&next| next <= horizon).count());
    Ok((behind, others))
}

fn trailer_of(dir: &ShardDir, base: SequenceNumber) -> Result<Option<Summary>> {
    let place = dir.segment(base);
    let file = DataFile::open(&place.path)?;
    match stored::find_header(&HeaderPage::read(&file)?, &file, &place)? {
        Some(header) => Ok(stored::read_trailer(&file, &header)?.map(|trailer| trailer.frames)),
        None => Ok(None),
    }
}
