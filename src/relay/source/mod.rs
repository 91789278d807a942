//! The parts that processors of all remote sources share: the spools of their shards, and their counts.

pub(super) mod settings;
#[cfg_attr(not(feature = "relay-kinesis"), allow(dead_code, reason = "only shards of Kinesis end"))]
pub(super) mod spool;
pub(super) mod totals;

use std::hash::{BuildHasher, Hasher, RandomState};

/// Returns a number that nobody else has.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
