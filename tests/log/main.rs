//! Tests of the log: what callers see of streams, shards and their files.

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "futures")]
mod async_streams;
mod async_wait;
mod bad_input;
mod callbacks;
mod clocks;
#[cfg(all(feature = "lz4", feature = "zstd"))]
mod compression;
mod concurrency;
mod damage;
#[cfg(feature = "encryption")]
mod encryption;
#[cfg(feature = "encryption")]
mod encryption_python;
mod errors;
mod file_mode;
#[cfg(target_os = "linux")]
mod file_systems;
mod format_golden;
#[cfg(target_os = "linux")]
mod full_disk;
mod headers;
#[cfg(target_os = "linux")]
mod limits;
mod locks_and_privacy;
mod model;
mod paths;
mod positions;
mod recovery;
mod refused;
mod reshard;
mod retention;
mod salvage;
mod scaling;
mod seen_from_outside;
#[cfg(feature = "serde")]
mod serde;
mod snapshot;
mod stats;
mod store;
mod throttling;
