//! Amazon Kinesis on the other side, or anything else that speaks its API.

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
pub(super) mod read;
mod shard_run;
pub(super) mod source;
