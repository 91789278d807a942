//! The aggregates of the Kinesis Producer Library (KPL): one record of a stream that holds many user records.
//!
//! A program that writes to Amazon Kinesis with the KPL, or with one of the aggregators for Java, Node, Go and Python, packs many small
//! **user records** into one record of the stream. That record's data is an **aggregate**. Readers with the Kinesis Client Library (KCL) get
//! the user records, each with the sequence number of the containing record and a **sub-sequence number**, its index in the aggregate. This
//! module reads and writes aggregates, with the same bytes and the same rules.
//!
//! - Read user records: [`deaggregate`], of a record or a batch; in a consumer group, [`Worker::user_records`](crate::Worker::user_records)
//!   and [`Worker::commit_to_user_record`](crate::Worker::commit_to_user_record).
//! - Write aggregates: [`Aggregator`].
//! - Read an aggregate that is not in a stream: [`Aggregate`].
//!
//! ```
//! use streamlog::aggregate::{Aggregator, deaggregate};
//! use streamlog::{Position, PutRecord, Stream};
//!
//! # let directory = tempfile::tempdir()?;
//! # let stream = Stream::open(directory.path())?;
//! let mut aggregator = Aggregator::new();
//! for page in ["/", "/cart", "/checkout"] {
//!     if let Some(full) = aggregator.add(&PutRecord::new("user-17", page))? {
//!         stream.put_record(&full.as_put())?;
//!     }
//! }
//! if let Some(last) = aggregator.finish() {
//!     stream.put_record(&last.as_put())?;
//! }
//!
//! let batch = stream.iterator(stream.shards()[0].id, Position::TrimHorizon)?.next_batch(10)?;
//! assert_eq!(batch.len(), 1, "three user records in one record");
//! for record in deaggregate(&batch) {
//!     println!("{}.{} {:?}", record.sequence(), record.sub_sequence(), record.data());
//! }
//! # assert_eq!(deaggregate(&batch).count(), 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which records are aggregates
//!
//! The KCL's rules decide, so that both readers get the same records:
//!
//! - Data is an aggregate if it begins with the magic number `f3899ac2`, ends with the MD5 of the bytes in between, and these are a protobuf
//!   message with all fields that it requires. Everything else is a plain record. It is returned as it is, with sub-sequence number 0.
//! - An aggregate that was sent to the wrong shard is dropped as a whole: the hash key of at least one of its user records is outside the
//!   shard's range. The KPL notices such an aggregate, and sends its user records again. [`UserRecords::foreign_count`] counts them.
//! - If a user record refers to a key that is not in the aggregate's table, or its explicit hash key is not a number, the user records
//!   before it are returned, and the rest is dropped. [`UserRecords::broken_count`] counts these aggregates.
//!
//! Malformed data never causes a panic. Reading an aggregate takes at most twelve times its size in memory, and usually a fraction of that.

mod aggregator;
mod decode;
mod key_table;
mod md5;
mod protobuf;
mod user_records;

pub use aggregator::{AggregatedRecord, Aggregator, BYTES_MAX_DEFAULT, BYTES_MAX_LIMIT};
pub use decode::Aggregate;
pub use user_records::{UserRecord, UserRecords, deaggregate};

/// What each aggregate begins with.
const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
