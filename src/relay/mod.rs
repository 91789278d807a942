//! Relays to an engine that is distributed, Amazon Kinesis or Apache Kafka, and mirrors of what is there: for when one machine is not enough.

#[cfg(feature = "relay-kinesis")]
mod kinesis;
#[cfg(feature = "relay-kinesis")]
mod source;

#[cfg(feature = "relay-kinesis")]
pub use kinesis::client::{KinesisClient, KinesisClientOptions};
#[cfg(feature = "relay-kinesis")]
pub use kinesis::source::KinesisSource;
