//! The engine: a stream, its shards, and their files.
//!
//! The modules form strict layers, lowest first. `tests/tidy.rs` checks the code against the list in `docs/DESIGN.md`.

pub(crate) mod archive;
#[cfg(test)]
mod crash_tests;
pub(crate) mod follow;
pub(crate) mod format;
#[cfg(fuzzing)]
pub mod fuzzing;
pub(crate) mod keys;
pub(crate) mod live;
mod manifest;
pub(crate) mod recovery;
mod reshard;
mod retention;
mod segment;
pub(crate) mod shard;
pub(crate) mod snapshot;
pub(crate) mod stream;
pub(crate) mod sys;
mod topology;
pub(crate) mod types;
