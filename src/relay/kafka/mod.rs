//! Relays to, mirrors of and sources from Apache Kafka, or any other server with its protocol.

mod batch;
pub(super) mod client;
mod ledger;
mod message;
pub(super) mod mirror;
pub(super) mod options;
mod origin;
pub(super) mod partition;
mod parts;
mod producer;
mod put;
mod session;
pub(super) mod source;
mod transaction;
