//! An embeddable streaming log: the model of Amazon Kinesis Data Streams, in process, on memory-mapped files.
//!
//! A [`Stream`] is a directory of **shards**. Each shard owns a range of the 128-bit hash-key space and is an append-only log with dense
//! sequence numbers. A record goes to the shard that owns the hash of its partition key. The records of one key are read in the order in
//! which they were put, across any number of splits and merges.
//!
//! ```
//! use streamlog::prelude::*;
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("clicks");
//! let stream = StreamOptions::new().shards(4).open(&path)?;
//! let receipt = stream.put("user-17", "/checkout")?;
//!
//! let mut iterator = stream.iterator(receipt.shard, Position::TrimHorizon)?;
//! for record in &iterator.next_batch(1_000)? {
//!     println!("{} {:?}", record.sequence(), record.data());
//! }
//! stream.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - Put records: [`Stream::put`], [`Stream::put_batch`]. What a returned put survives: [`Durability`].
//! - Put from many threads without waiting for each record: [`Stream::producer`], [`Producer`].
//! - Read in the same process or in any other: [`StreamReader`].
//! - Read a shard: [`StreamReader::iterator`], [`Position`], [`Batch`]. Read several shards: [`wait_any`], [`StreamReader::lineage_iterator`].
//! - Wait in a task of any async runtime: [`ShardIterator::readable`], [`any_readable`], [`Worker::next`], [`Queue::next`]; a [`PendingReceipt`] is a
//!   future.
//! - Share the shards among workers: [`Stream::group`], [`Group`], [`Worker`].
//! - Call a function with batches of records, as AWS Lambda does: [`Stream::processor`], [`Processor`]. It can also read from Amazon Kinesis and
//!   Apache Kafka: [`Source`].
//! - Push a shard's records to registered consumers, each at its own pace: [`Stream::subscribe`], [`Subscription`].
//! - Receive and acknowledge records one by one, with timeouts and dead letters: [`Stream::queue`], [`Queue`].
//! - Deliver records to files and object stores, exactly once, and to HTTP endpoints, as Amazon Data Firehose does: the module `delivery`, with
//!   the feature of the same name.
//! - Forward records to Amazon Kinesis or Apache Kafka as they arrive: the module `relay`, with the features `relay-kinesis` and `relay-kafka`.
//! - Read and write the aggregated records of the Kinesis Producer Library: [`aggregate`], [`Worker::user_records`].
//! - Filter records by EventBridge patterns, as Lambda does: [`Filter`].
//! - Ingest video from cameras as Matroska, and play it live or from the archive, as Amazon Kinesis Video Streams does: the module `video`, with the
//!   feature of the same name.
//! - Mirror an Amazon Kinesis stream or a Kafka topic into a local stream, exactly once: the module `relay`, with the same features.
//! - Replay records with their original spacing, or faster: [`StreamReader::replay`].
//! - Change the shards: [`Stream::split_shard`], [`Stream::merge_shards`], [`Stream::update_shard_count`], [`ShardFilter`]. Scale them with the
//!   load: [`Stream::set_scaling`], [`Scaling`].
//! - Keep many streams in a directory: [`Store`], [`MaintenancePool`].
//! - Back up a running stream: [`StreamReader::snapshot`].
//! - Archive sealed segments in a directory or an object store, and read back what retention has dropped: [`StreamReader::archiver`],
//!   [`StreamOptions::archive`], [`Stream::restore`].
//! - Limit the write and read throughput of each shard, as Kinesis does: [`Limits`].
//! - Set how long records are kept: [`Retention`]. Inspect the disk: [`StreamReader::stats`], [`StreamReader::verify`], [`Stream::recovery`].
//! - Monitor: [`StreamStats::metrics`] with CloudWatch's names, [`StreamOptions::report_stats`].
//! - Handle errors, sorted by remedy: [`Error`].
//!
//! # Cargo features
//!
//! All features are off by default. While off, they cost nothing.
//!
//! - `delivery`: the module `delivery`, which delivers records to files, HTTP endpoints and other storage. Needs a C compiler, for TLS.
//! - `encryption`: AES-256-GCM for records, and `KeyFile`. Needs a C compiler. [`StreamOptions::encryption`], [`KeyProvider`].
//! - `futures`: the batches of iterators and workers as a `Stream` of the crate `futures`: `into_batches`. Waiting in a task needs no
//!   feature.
//! - `metrics`: `streamlog::metrics::reporter` passes all counts to the facade crate `metrics`. The feature counts calls to put by outcome
//!   and times some of them, which takes about 37 instructions per put.
//! - `gateway`: the module `gateway`, which serves Kinesis' API over HTTP, with `delivery` also Firehose's, and with `video` that of Kinesis Video
//!   Streams. Needs a C compiler. Enables `encryption` and `tracing`.
//! - `parquet`: deliveries in Apache Parquet format. Enables `delivery`, and compiles 32 more crates.
//! - `lz4`, `zstd`: [`Compression`] of batches. `zstd` needs a C compiler.
//! - `object-store`: `delivery` to S3, Google Cloud Storage, Azure, and every other store of the crate `object_store`: `delivery::ObjectStorage`.
//!   Needs a C compiler. Enables `delivery`.
//! - `relay-kafka`, `relay-kinesis`: the module `relay`, which relays streams to Apache Kafka and Amazon Kinesis, mirrors their topics and
//!   streams, and runs processors on them. Both need a C compiler, and `relay-kafka` also needs `make`.
//! - `serde`: ids, times, positions, settings, receipts, descriptions and reports serialize and deserialize; statistics serialize. Shard
//!   ids, hash keys and times serialize as the text that they print.
//! - `sql`: SQL over streams, by DataFusion: `streamlog::query`. Needs a C compiler, and compiles 200 more crates.
//! - `tracing`: emits events for opening, recovery, rolls, seals, reshards, scaling, trims and failed syncs. Puts to the shard wait while some of
//!   them are emitted, so a subscriber must not call into the stream of the event.
//! - `video`: ingests and plays video like Kinesis Video Streams: `streamlog::video`.

pub mod aggregate;
mod consumer;
#[cfg(feature = "delivery")]
pub mod delivery;
mod filter;
#[cfg(feature = "gateway")]
pub mod gateway;
mod journal;
mod log;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod prelude;
mod processor;
mod producer;
#[cfg(feature = "sql")]
pub mod query;
mod queue;
#[cfg(any(feature = "relay-kafka", feature = "relay-kinesis"))]
pub mod relay;
mod replay;
mod scaling;
mod store;
mod subscription;
#[cfg(any(feature = "parquet", feature = "sql"))]
mod values;
#[cfg(feature = "video")]
pub mod video;

#[cfg(feature = "futures")]
pub use consumer::WorkerBatches;
pub(crate) use consumer::{Bell, Patience, Term};
pub use consumer::{
    Group, GroupDescription, GroupShard, Handled, NextBatch, OnTrimmed, Worker, WorkerId, WorkerOptions,
};
pub use filter::Filter;
#[cfg(any(feature = "parquet", feature = "sql"))]
pub(crate) use filter::{JsonSkip, MalformedJson, decode_json_text};
#[cfg(feature = "delivery")]
pub(crate) use filter::{Written, check_json, for_each_member};
pub(crate) use journal::{Journal, JournalOptions};
pub use log::archive::report::{ArchiveProgress, ArchiveReport, RestoreReport};
pub use log::format::headers::Headers;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use log::fuzzing;
#[cfg(feature = "encryption")]
pub use log::keys::key_file::KeyFile;
pub use log::recovery::{LostRecords, RecoveryReport, ShardRecovery, TornTail};
pub use log::shard::reader::batch::{Batch, Records};
#[cfg(feature = "futures")]
pub use log::shard::reader::batches::Batches;
pub use log::shard::reader::iterator::ShardIterator;
pub use log::shard::reader::lag::Lag;
pub use log::shard::reader::record::{OwnedRecord, Record};
pub use log::shard::reader::records::OwnedRecords;
pub use log::shard::reader::verify::{Verification, VerifyProgress};
pub use log::shard::reader::wait_any::{AnyReadable, Readable, any_readable, wait_any};
pub use log::snapshot::report::{SnapshotProgress, SnapshotReport};
pub use log::stream::Stream;
pub use log::stream::archive::Archiver;
pub use log::stream::extend;
pub use log::stream::lineage_iterator::LineageIterator;
pub use log::stream::maintenance::MaintenancePool;
pub use log::stream::reader::StreamReader;
pub use log::sys::clock::SystemClock;
pub use log::types::archive::Archive;
pub use log::types::compression::Compression;
pub use log::types::describe::{HoldDescription, ShardDescription, ShardFilter, StreamDescription};
pub use log::types::error::{Corruption, Error, IoFailure, Located, LockedBy, Result};
pub(crate) use log::types::event::event;
pub use log::types::hash_key::{HashKey, HashKeyRange, KeyHash};
pub use log::types::keys::{
    DataKey, EncryptionDescription, KeyError, KeyProvider, UnavailableKey, WrappedKey,
};
pub use log::types::latency::Latency;
pub use log::types::limits;
pub use log::types::options::{Durability, Maintenance, Retention, StreamOptions};
pub use log::types::record::{Position, PutRecord, Receipt};
pub use log::types::sequence::SequenceNumber;
pub use log::types::shard_id::ShardId;
pub use log::types::stats::{Metric, MetricValue, PutStats, ShardStats, StreamStats, Traffic};
pub use log::types::throughput::Limits;
pub use log::types::time::{Clock, DAY, HOUR, MINUTE, ManualClock, SECOND, Timestamp};
pub use processor::{
    Destination, DiscardReason, Discarded, Invocation, Processor, ProcessorDescription, ProcessorLane,
    ProcessorOptions, ProcessorShard, ProcessorStats, ProcessorWindow, Response, Sink, Source, Window,
};
#[cfg(any(feature = "relay-kafka", feature = "relay-kinesis"))]
pub(crate) use processor::{Elsewhere, Entry, Ledger, Origin, PartProcessor, Running, Spool};
pub use producer::{PendingReceipt, Producer, ProducerOptions};
pub use queue::{NextRecords, Queue, QueueDescription, QueueOptions, QueueRecord, ReceiptHandle};
pub use replay::{Replay, ReplayOptions, ReplayStep};
pub use scaling::{Scaling, ScalingDecision};
pub use store::Store;
pub use subscription::{
    ConsumerDescription, NextEvent, PushedSubscription, Subscription, SubscriptionEvent, SubscriptionOptions,
};
#[cfg(any(feature = "parquet", feature = "sql"))]
pub(crate) use values::{Sampled, TYPE_DEPTH_MAX, moment, sample_members, scalar, shorten};

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The examples of the guide, compiled.
#[cfg(doctest)]
#[doc = include_str!("../docs/GUIDE.md")]
struct Guide;

/// The examples of the page on SQL, compiled.
#[cfg(all(doctest, feature = "sql"))]
#[doc = include_str!("../docs/SQL.md")]
struct SqlPage;

/// The examples of the page on deliveries, compiled.
#[cfg(all(doctest, feature = "delivery"))]
#[doc = include_str!("../docs/DELIVERY.md")]
struct DeliveryPage;

/// The examples of the page on video, compiled.
#[cfg(all(doctest, feature = "video"))]
#[doc = include_str!("../docs/VIDEO.md")]
struct VideoPage;

/// The examples of the page on relays, compiled.
#[cfg(all(doctest, feature = "relay-kinesis"))]
#[doc = include_str!("../docs/RELAYS.md")]
struct RelaysPage;

/// The examples of the page on the limits of one machine, compiled.
#[cfg(doctest)]
#[doc = include_str!("../docs/SCALING.md")]
struct ScalingPage;

/// The examples of the page on Kafka, compiled.
#[cfg(all(doctest, feature = "relay-kafka"))]
#[doc = include_str!("../docs/KAFKA.md")]
struct KafkaPage;

/// The examples of the page on mirrors, compiled.
#[cfg(all(doctest, feature = "relay-kinesis"))]
#[doc = include_str!("../docs/MIRRORS.md")]
struct MirrorsPage;
