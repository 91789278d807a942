//! Amazon Kinesis on the other side, or anything else that speaks its API.

pub(super) mod client;
pub(super) mod failure;
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
