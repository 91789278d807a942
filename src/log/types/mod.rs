//! The vocabulary: small value types and settings that all other rooms use.

pub(crate) mod archive;
pub(crate) mod bucket;
pub(crate) mod compression;
pub(crate) mod describe;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod file_mode;
pub(crate) mod hash_key;
pub(crate) mod hex;
pub(crate) mod keys;
pub(crate) mod latency;
pub mod limits;
pub(crate) mod options;
mod parse;
pub(crate) mod record;
pub(crate) mod sequence;
#[cfg(feature = "serde")]
mod serialize;
pub(crate) mod shard_id;
pub(crate) mod stats;
pub(crate) mod throughput;
pub(crate) mod time;
