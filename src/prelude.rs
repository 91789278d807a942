//! What most programs import: `use streamlog::prelude::*;`.
//!
//! It shadows no name of the standard library: write `streamlog::Error` and [`streamlog::Result`](crate::Result) for those of this crate.

pub use crate::{
    Batch, DAY, Durability, Group, HOUR, HashKey, KeyHash, MINUTE, OnTrimmed, Position, Producer, PutRecord,
    Queue, Receipt, Record, Retention, SECOND, SequenceNumber, ShardFilter, ShardId, ShardIterator, Stream,
    StreamOptions, StreamReader, Timestamp, Worker, wait_any,
};
