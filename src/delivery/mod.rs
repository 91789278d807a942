//! Delivery: writes a stream's records into objects, which are files in a directory or anything else a sink accepts, like Amazon Data Firehose.
//!
//! The sinks are a [`Directory`]; an object store, such as S3 (`ObjectStorage`, with the feature `object-store`); an [`HttpEndpoint`], [`SplunkHec`]
//! and [`OpenSearchBulk`]; and any other type that implements [`Sink`].
//!
//! A [`Delivery`] reads as a [consumer group](crate::Group): it continues where it was, follows splits and merges, shares the shards with other
//! deliveries of its name, and may run in another process than the one that writes. The steps of [`DeliveryOptions`] turn its records into rows.
//! Rows are buffered until an object is large or old enough, and then the object goes to a [`Sink`].
//!
//! **Exactly once.** Before an object is delivered, its name and the choice of its records are committed. After a crash, the same records become the
//! same object, with the same name and the same bytes. So if the sink replaces objects of the same name, each record is in the output exactly once.
//! An endpoint that accepts a request twice gets some records twice after a crash, with the same [id](Object::id).
//!
//! **Nothing is lost.** If a sink is unreachable, the delivery retries and lags, within the retention of the stream or its
//! [hold](DeliveryOptions::hold). A record that does not fit, or for which a step fails, goes to the error output with the reason.

mod calls;
mod compress;
mod core;
mod csv;
mod directory;
mod driver;
mod endpoint;
mod error_output;
mod format;
mod function;
mod http;
mod http_function;
mod job;
mod json;
mod lane;
mod manifest;
mod name;
mod noted;
mod objects;
mod opensearch;
mod options;
#[cfg(feature = "parquet")]
mod parquet;
mod part;
mod plan;
mod pool;
mod prefix;
mod query;
mod sample;
mod shard;
mod sink;
mod splunk;
mod state;
mod stats;
mod steps;
#[cfg(feature = "object-store")]
mod storage;
#[cfg(feature = "object-store")]
mod storage_archive;
mod stream_sink;
mod sub_records;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_names;
mod time_pattern;
mod transform;
mod unit;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use compress::CompressionFormat;
pub use csv::CsvOptions;
pub use directory::Directory;
pub use endpoint::HttpEndpoint;
pub use format::Format;
pub use function::{DeliveryRecord, Transformed};
pub use http_function::HttpFunction;
pub use name::Naming;
pub use opensearch::OpenSearchBulk;
pub use options::DeliveryOptions;
pub use sink::{Object, Sink, SinkError};
pub use splunk::SplunkHec;
pub use stats::DeliveryStats;
#[cfg(feature = "object-store")]
pub use storage::ObjectStorage;
pub use sub_records::SubRecords;

#[cfg(feature = "parquet")]
pub use self::parquet::schema::{ParquetSchema, ParquetType};
#[cfg(feature = "parquet")]
pub use self::parquet::{ParquetCompression, ParquetOptions, ParquetVersion};

use self::core::Core;
use calls::Calls;
use driver::{Driver, SCHEMA};
use pool::Shared;
use transform::Transform;

use crate::{IoFailure, Result, StreamReader, extend};

/// A running delivery. [`DeliveryOptions::start`] returns it, and dropping it ends it like [`close`](Self::close).
pub struct Delivery {
    shared: Arc<Shared>,
    stream: StreamReader,
    name: String,
    thread: Option<JoinHandle<Result<()>>>,
    deliverers: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("name", &self.name)
            .field("is_over", &self.is_over())
            .finish_non_exhaustive()
    }
}

impl Delivery {
    fn start(options: DeliveryOptions) -> Result<Self> {
        let (mut rules, bounds) = options.check()?;
        let (group, stream) = options.source()?;
        let name = group.name().to_owned();
        let sinks = options.open_sinks(&stream, &group)?;
        let worker = options.worker(group).open()?;
        if let Some(schema) = worker.kept(SCHEMA).filter(|_| rules.plan.format.is_undecided()) {
            rules = options.check_with_schema(&schema)?;
        }
        let core = Core::new(rules, bounds);
        let shared = Arc::new(Shared::new(core, stream.clone(), sinks, options.close_timeout));
        let transform = options.function.as_ref().map(|function| {
            let function = function.clone().with_timeout(options.transform_timeout);
            let calls = Calls::new(function, stream.clone(), shared.bell());
            Transform::new(calls, options.gathering(), options.transform_timeout)
        });
        let driver = Driver::new(worker, stream.clone(), transform);
        let mut delivery = Self { shared, stream, name, thread: None, deliverers: vec![] };
        for _ in 0..options.concurrency {
            let shared = Arc::clone(&delivery.shared);
            let spawned =
                thread::Builder::new().name("streamlog-deliver".into()).spawn(move || shared.deliver());
            let thread = spawned.map_err(|source| delivery.no_thread(source))?;
            delivery.deliverers.push(thread);
        }
        let shared = Arc::clone(&delivery.shared);
        let spawned =
            thread::Builder::new().name("streamlog-read".into()).spawn(move || shared.drive(driver));
        delivery.thread = Some(spawned.map_err(|source| delivery.no_thread(source))?);
        Ok(delivery)
    }

    fn no_thread(&self, source: std::io::Error) -> IoFailure {
        self.shared.is_over.store(true, Ordering::Release);
        IoFailure::new("start a thread of a delivery for", self.stream.describe().path, source)
    }

    /// Returns the name of the delivery and of its consumer group.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the stream that the delivery reads.
    pub fn stream(&self) -> &StreamReader {
        &self.stream
    }

    /// Returns what the delivery has done since its start, and what it does now.
    pub fn stats(&self) -> DeliveryStats {
        self.shared.core.lock().stats(self.stream.clock().now())
    }

    /// Returns the schema of Parquet objects, given or inferred from the first records; see [`ParquetOptions::inferred`]. `None` until the schema is
    /// decided, and for other formats.
    #[cfg(feature = "parquet")]
    pub fn parquet_schema(&self) -> Option<ParquetSchema> {
        self.shared.core.lock().rules.plan.format.parquet_schema().cloned()
    }

    /// Returns whether the delivery has ended by itself, either because its stream was closed or because of an error, which
    /// [`last_error`](DeliveryStats::last_error) returns.
    pub fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Acquire)
    }

    /// Delivers everything that was put before the call, however small the objects. Returns whether that succeeded before the timeout. It may never
    /// succeed if other threads put faster than the delivery reads.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// use streamlog::delivery::Directory;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path().join("clicks"))?;
    /// let delivery = stream.delivery("archive").to(Directory::new(directory.path().join("archive"))).start()?;
    /// stream.put("user-17", "clicked")?;
    /// assert!(delivery.flush(Duration::from_secs(10)));
    /// assert_eq!(delivery.stats().records, 1);
    /// # delivery.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&self, timeout: Duration) -> bool {
        // A child made by fork has none of the threads.
        extend::check_process(&self.stream).is_ok() && self.shared.flush(timeout)
    }

    /// Ends the delivery. It delivers what was read, with one attempt for each object, for at most the
    /// [close timeout](DeliveryOptions::close_timeout). The rest is delivered after the next start.
    ///
    /// # Errors
    /// The error of the last commit: `StorageFull`, `Poisoned`, `Io`. The next start repeats what it would have committed.
    pub fn close(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        if extend::check_process(&self.stream).is_err() {
            // A child made by fork does not have the threads.
            std::mem::forget((thread, std::mem::take(&mut self.deliverers)));
            return Ok(());
        }
        self.shared.close();
        if extend::is_in_callback() {
            return Ok(());
        }
        // No thread panics: foreign code runs as a callback.
        let ended = thread.join().unwrap_or(Ok(()));
        for thread in self.deliverers.drain(..) {
            // A thread that still waits for its sink ends when the sink answers.
            if !self.shared.core.lock().has_running() {
                drop(thread.join());
            }
        }
        ended
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
