//! What most programs import: `use streamlog::prelude::*;`.
//!
//! It shadows no name of the standard library: write `streamlog::Error` and [`streamlog::Result`](crate::Result) for those of this crate.

pub use crate::{
    Durability, HOUR, HashKey, KeyHash, Position, Producer, PutRecord, Receipt, Retention, SequenceNumber,
    ShardId, ShardIterator, Stream, StreamOptions, Timestamp, Worker, wait_any,
};
