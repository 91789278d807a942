//! Relays to, mirrors of and sources from Amazon Kinesis, or any other server with its API.

pub(super) mod client;
mod coordinator;
pub(super) mod failure;
mod feed;
mod lease;
mod lease_book;
mod lease_sync;
mod lease_table;
#[cfg(test)]
mod lease_tests;
mod ledger;
pub(super) mod origin;
mod put;
mod put_client;
pub(super) mod put_options;
mod put_plan;
pub(super) mod put_prepare;
mod put_shards;
#[cfg(test)]
mod put_tests;
pub(super) mod read;
mod shard_run;
pub(super) mod source;
