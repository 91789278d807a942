//! What most programs import: `use streamlog::prelude::*;`.

pub use crate::{
    Durability, Error, HOUR, HashKey, KeyHash, Position, Producer, PutRecord, Receipt, Retention,
    SequenceNumber, ShardId, ShardIterator, Stream, StreamOptions, Timestamp, Worker, wait_any,
};
