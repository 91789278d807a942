//! Mirrors: streams and topics of Amazon Kinesis and Kafka, copied into a stream, exactly once.

mod checkpoint;
mod core;
mod describe;
mod driver;
mod handle;
mod journal;
mod mirrored;
mod options;
pub(super) mod origin;
mod refused;
mod slots;
mod stats;
#[cfg(test)]
mod tests;

pub use describe::{MirrorDescription, MirrorPartition};
pub use handle::Mirror;
pub use mirrored::MirroredFrom;
pub use options::{MirrorName, MirrorOptions};
pub use refused::Refused;
pub use stats::{MirrorPartitionStats, MirrorStats};
