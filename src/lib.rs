//! An embeddable streaming log: the model of Amazon Kinesis Data Streams, in process, on memory-mapped files.

mod format;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod manifest;
pub mod prelude;
mod recovery;
mod reshard;
mod retention;
mod segment;
mod shard;
mod stream;
mod sys;
mod topology;
mod words;

pub use recovery::{RecoveryReport, ShardRecovery, TornTail};
pub use shard::Verification;
pub use shard::batch::{Batch, Records};
pub use shard::iterator::ShardIterator;
pub use shard::records::OwnedRecords;
pub use shard::wait_any::wait_any;
pub use stream::Stream;
pub use stream::lineage_iterator::LineageIterator;
pub use words::describe::{ShardDescription, ShardFilter, StreamDescription};
pub use words::error::{Corruption, Error, IoFailure, Located, Result};
pub use words::hash_key::{HashKey, HashKeyRange, KeyHash};
pub use words::limits;
pub use words::options::{Durability, Maintenance, Retention, StreamOptions};
pub use words::record::{OwnedRecord, Position, PutRecord, Receipt, Record};
pub use words::sequence::SequenceNumber;
pub use words::shard_id::ShardId;
pub use words::stats::{ShardStats, StreamStats};
pub use words::time::{Clock, DAY, HOUR, MINUTE, ManualClock, SECOND, SystemClock, Timestamp};
