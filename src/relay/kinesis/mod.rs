//! Amazon Kinesis on the other side, or anything else that speaks its API.

pub(super) mod client;
pub(super) mod failure;
pub(super) mod origin;
pub(super) mod read;
