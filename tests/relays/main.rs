//! Tests of relays, mirrors and sources.
#![cfg(any(feature = "relay-kafka", all(feature = "relay-kinesis", feature = "gateway")))]

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "relay-kafka")]
mod kafka;
#[cfg(feature = "relay-kafka")]
mod kafka_exactly_once;
#[cfg(feature = "relay-kafka")]
mod kafka_real;
#[cfg(all(feature = "relay-kinesis", feature = "gateway"))]
mod kinesis;
#[cfg(all(feature = "relay-kinesis", feature = "gateway"))]
mod kinesis_kill;
#[cfg(feature = "relay-kafka")]
mod mirror_kafka;
#[cfg(all(feature = "relay-kinesis", feature = "gateway"))]
mod mirror_kinesis;
#[cfg(all(feature = "relay-kinesis", feature = "gateway"))]
mod mirror_kinesis_kill;
#[cfg(feature = "relay-kafka")]
mod source_kafka;
#[cfg(all(feature = "gateway", feature = "relay-kinesis"))]
mod source_kinesis;
