//! One file of a shard: taking frames, waiting to be sealed, or unchangeable.

pub(crate) mod active;
pub(crate) mod growth;
pub(crate) mod rewrite;
pub(crate) mod sealed;
pub(crate) mod spare;
pub(crate) mod unsealed;
pub(crate) mod window;

use std::path::{Path, PathBuf};

use crate::log::types::sequence::SequenceNumber;

const EXTENSION: &str = ".seg";
const NAME_DIGITS: usize = 20;

/// The file of the segment whose first record has number `base`.
pub(crate) fn path_in(shard_dir: &Path, base: SequenceNumber) -> PathBuf {
    shard_dir.join(format!("{:020}{EXTENSION}", base.get()))
}

/// The first sequence number that a file name tells, if it is the name of a segment.
pub(crate) fn base_of_name(name: &str) -> Option<SequenceNumber> {
    let digits = name.strip_suffix(EXTENSION)?;
    let is_number = digits.len() == NAME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten().map(SequenceNumber::new)
}
