//! Relays to an engine that is distributed, Amazon Kinesis or Apache Kafka, and mirrors of what is there: for when one machine is not enough.

mod failure;
#[cfg(feature = "relay-kinesis")]
mod kinesis;
mod mirror;

#[cfg(feature = "relay-kinesis")]
pub use kinesis::client::{KinesisClient, KinesisClientOptions};
pub use mirror::{
    Mirror, MirrorDescription, MirrorName, MirrorOptions, MirrorPartition, MirrorPartitionStats, MirrorStats,
    MirroredFrom, Refused,
};
