//! Relays to a distributed engine, Amazon Kinesis or Apache Kafka, and mirrors of its streams, for when one machine is not enough.

#[cfg(feature = "relay-kinesis")]
mod envelope;
mod failure;
#[cfg(feature = "relay-kafka")]
mod kafka;
#[cfg(feature = "relay-kinesis")]
mod kinesis;
mod link;
mod mirror;
mod options;
#[expect(clippy::module_inception)]
mod relay;
mod source;
mod stats;

#[cfg(feature = "relay-kinesis")]
pub use envelope::Envelope;
#[cfg(feature = "relay-kafka")]
pub use kafka::{
    client::{KafkaClient, KafkaClientOptions},
    options::KafkaRelayOptions,
    partition::Partitioning,
    source::KafkaSource,
};
#[cfg(feature = "relay-kinesis")]
pub use kinesis::client::{KinesisClient, KinesisClientOptions};
#[cfg(feature = "relay-kinesis")]
pub use kinesis::put_options::KinesisRelayOptions;
#[cfg(feature = "relay-kinesis")]
pub use kinesis::put_prepare::RelayHeaders;
#[cfg(feature = "relay-kinesis")]
pub use kinesis::source::KinesisSource;
pub use mirror::{
    Mirror, MirrorDescription, MirrorName, MirrorOptions, MirrorPartition, MirrorPartitionStats, MirrorStats,
    MirroredFrom, Refused,
};
pub use options::RelayOptions;
pub use relay::Relay;
pub use stats::RelayStats;
