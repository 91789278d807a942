//! How to set up a delivery.

mod check;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Delivery;
use super::compress::CompressionFormat;
use super::core::Bounds;
use super::format::Format;
use super::function::{DeliveryRecord, Function, Transformed};
use super::http_function::HttpFunction;
use super::job::Retries;
use super::lane::Gathering;
use super::manifest::Manifests;
use super::name::Naming;
use super::plan::Plan;
use super::prefix::KeySource;
use super::shard::Limits;
use super::sink::Sink;
use super::stream_sink::Output;
use super::sub_records::SubRecords;
use crate::{Error, Group, MINUTE, Position, Result, Stream, StreamReader};

const TRANSFORM_TIMEOUT_MAX: Duration = MINUTE.saturating_mul(5);
/// The word for objects that a sink without a word of its own did not take.
const DELIVERY_FAILED: &str = "delivery-failed";
/// Less than what a supervisor gives a program that it ends: Kubernetes gives 30 s.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(20);

/// The settings of a [`Delivery`]: a builder that begins with [`Stream::delivery`] and ends with [`start`](Self::start). Names, ranges and defaults
/// are those of Amazon Data Firehose, unless the text says otherwise.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::Stream;
/// use streamlog::delivery::{CompressionFormat, Directory, Format};
///
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path().join("clicks"))?;
/// let delivery = stream
///     .delivery("archive")
///     .format(Format::json_lines())
///     .compression(CompressionFormat::Gzip)
///     .prefix("year=!{timestamp:yyyy}/month=!{timestamp:MM}/")
///     .error_prefix("errors/!{firehose:error-output-type}/")
///     .buffer_bytes(64 << 20)
///     .buffer_interval(Duration::from_secs(60))
///     .to(Directory::new(directory.path().join("archive")))
///     .start()?;
/// delivery.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct DeliveryOptions {
    /// What is delivered. `None` as long as only settings are checked.
    source: Option<(Group, StreamReader)>,
    start: Position,
    plan: Plan,
    bounds: Bounds,
    retry_duration: Option<Option<Duration>>,
    pub(super) function: Option<Function>,
    transform_buffer: Option<Gathering>,
    pub(super) transform_timeout: Duration,
    sink: Option<To>,
    error_sink: Option<Arc<dyn Sink>>,
    backup_sink: Option<Arc<dyn Sink>>,
    pub(super) concurrency: usize,
    pub(super) close_timeout: Duration,
    hold: Option<Option<u64>>,
}

/// Where the records go.
#[derive(Clone)]
enum To {
    Sink(Arc<dyn Sink>),
    Stream(Output),
}

impl fmt::Debug for DeliveryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryOptions")
            .field("plan", &self.plan)
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

impl Stream {
    /// Returns the settings of a delivery, which writes the stream's records into objects: files, or what else a
    /// [sink](crate::delivery::Sink) takes. The name is that of the [consumer group](Self::group) that the delivery reads as.
    ///
    /// See [`DeliveryOptions`] for an example.
    pub fn delivery(&self, name: impl Into<String>) -> DeliveryOptions {
        let group = self.group(name);
        DeliveryOptions::new(group.name()).of(group, self)
    }
}

impl StreamReader {
    /// Returns the settings of a delivery like [`Stream::delivery`], which may run in another process than the one that has the stream open. One
    /// process at a time has a delivery's group open.
    pub fn delivery(&self, name: impl Into<String>) -> DeliveryOptions {
        let group = self.group(name);
        DeliveryOptions::new(group.name()).of(group, self)
    }
}

impl DeliveryOptions {
    /// Returns the settings of a delivery of this name, of no stream yet.
    pub(crate) fn new(name: &str) -> Self {
        let plan = Plan {
            delivery: name.to_owned(),
            version: 1,
            format: Format::default(),
            compression: CompressionFormat::default(),
            naming: Naming::default(),
            extension: None,
            prefix: String::new(),
            error_prefix: String::new(),
            backup_prefix: None,
            manifests: None,
            time_zone: "UTC".into(),
            keys: vec![],
            queries: vec![],
            decompresses: false,
            deaggregates: false,
            sub_records: None,
            extracts_messages: false,
        };
        let bounds = Bounds {
            limits: Limits { buffer_bytes: 5 << 20, buffer_interval: Duration::from_secs(300) },
            memory_bytes_max: 256 << 20,
            partitions_max: 500,
            retries: Retries {
                first_pause: Duration::from_millis(100),
                longest_pause: MINUTE,
                duration: None,
                error_output_type: DELIVERY_FAILED,
            },
            is_to_stream: false,
            has_function: false,
        };
        Self {
            source: None,
            start: Position::TrimHorizon,
            plan,
            bounds,
            retry_duration: None,
            function: None,
            transform_buffer: None,
            transform_timeout: TRANSFORM_TIMEOUT_MAX,
            sink: None,
            error_sink: None,
            backup_sink: None,
            concurrency: 4,
            close_timeout: CLOSE_TIMEOUT,
            hold: None,
        }
    }

    /// Sets what is delivered.
    pub(crate) fn of(mut self, group: Group, stream: &StreamReader) -> Self {
        self.source = Some((group, stream.clone()));
        self
    }

    /// Sets where the objects go. There is no default.
    pub fn to(mut self, sink: impl Sink) -> Self {
        self.sink = Some(To::Sink(Arc::new(sink)));
        self
    }

    /// Puts the rows into another stream of this process, as records, **each exactly once**, and those of a key in their order. A record has the
    /// partition key of the one that it was made of, and a header `origin` that says which one that was. After a crash, what was put before is
    /// recognised by it: see [`Sink`](crate::Sink).
    ///
    /// The rows of a buffer are put together, so a short [interval](Self::buffer_interval) is what keeps the other stream close behind. A row that a stream
    /// never takes, because it is too large, goes to the [error output](Self::errors_to), which is required, under `stream-failed`; everything else waits
    /// for the stream. Prefixes and compression have no effect; there are no partition keys and no [manifests](Self::manifests). One
    /// delivery of a name at a time puts into a stream.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::{Position, Stream};
    /// use streamlog::delivery::{Directory, Format, Transformed};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let clicks = Stream::open(directory.path().join("clicks"))?;
    /// # let orders = Stream::open(directory.path().join("orders"))?;
    /// clicks.put("user-17", "/cart")?;
    /// clicks.put("user-17", "/order")?;
    /// let delivery = clicks
    ///     .delivery("orders")
    ///     .transform(|record| match record.data() {
    ///         b"/order" => Transformed::row("ordered"),
    ///         _ => Transformed::dropped(),
    ///     })
    ///     .buffer_interval(Duration::from_secs(1))
    ///     .to_stream(&orders)
    ///     .errors_to(Directory::new(directory.path().join("errors")))
    ///     .start()?;
    /// assert!(delivery.flush(Duration::from_secs(10)));
    /// let batch = orders.iterator(orders.shards()[0].id, Position::TrimHorizon)?.next_batch(10)?;
    /// assert_eq!(batch.len(), 1);
    /// assert_eq!(batch.iter().next().expect("an order").partition_key(), b"user-17");
    /// # delivery.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// Exactly once holds whatever happens to the process. After power loss, it holds if both streams have
    /// [`Durability::Power`](crate::Durability::Power).
    pub fn to_stream(mut self, output: &Stream) -> Self {
        self.sink = Some(To::Stream(Output { stream: output.clone(), key: None }));
        self
    }

    /// Puts the rows into another stream like [`to_stream`](Self::to_stream), with the partition key that a function returns for a row.
    /// Records are in their order if those of one new key all had one key before.
    pub fn to_stream_by(
        mut self,
        output: &Stream,
        key: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.sink = Some(To::Stream(Output { stream: output.clone(), key: Some(Arc::new(key)) }));
        self
    }

    /// Writes a manifest for each object: a file with this prefix before the object's name, and `.manifest` behind it, that says where the object is, as
    /// Amazon Redshift reads it: `{"entries":[{"url":…,"mandatory":true,"meta":{"content_length":…}}]}`. `url` is where the sink's objects are, such as
    /// `s3://my-bucket/clicks/`.
    ///
    /// A manifest is written after its object, to the same sink, and again if the object is delivered again. So what has a manifest is
    /// there, whole, and each record is in the object of exactly one manifest. Objects of the error output and of the backup have none. The
    /// prefix has no expressions. Default: no manifests.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// use streamlog::delivery::{Directory, Format};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path().join("clicks"))?;
    /// # let mirrored = directory.path().join("mirrored");
    /// let delivery = stream
    ///     .delivery("archive")
    ///     .format(Format::json_lines())
    ///     .prefix("clicks/")
    ///     .manifests("manifests/", "s3://my-bucket/")
    ///     .to(Directory::new(&mirrored))
    ///     .start()?;
    /// stream.put("user-17", r#"{"page":"/cart"}"#)?;
    /// assert!(delivery.flush(Duration::from_secs(10)));
    /// assert!(mirrored.join("clicks").is_dir() && mirrored.join("manifests/clicks").is_dir());
    /// # delivery.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn manifests(mut self, prefix: impl Into<String>, url: impl Into<String>) -> Self {
        self.plan.manifests = Some(Manifests::new(prefix.into(), url.into()));
        self
    }

    /// Sets where the error output goes. Default: to the sink of the objects, unless that is an endpoint, which needs one of its own.
    pub fn errors_to(mut self, sink: impl Sink) -> Self {
        self.error_sink = Some(Arc::new(sink));
        self
    }

    /// Sets where the records go as they were put, before any step, and the prefix of the objects there. Default: nowhere.
    pub fn backup_to(mut self, sink: impl Sink, prefix: impl Into<String>) -> Self {
        self.backup_sink = Some(Arc::new(sink));
        self.plan.backup_prefix = Some(prefix.into());
        self
    }

    /// Sets where the delivery begins in shards that are there when it is started for the first time. Default: at the horizon, unlike
    /// Firehose, which begins with the latest record.
    pub fn starting_position(mut self, position: Position) -> Self {
        self.start = position;
        self
    }

    /// Sets how the records stand in an object. Default: [`Format::raw`].
    pub fn format(mut self, format: Format) -> Self {
        self.plan.format = format;
        self
    }

    /// Sets how objects are compressed. Default: not at all.
    pub fn compression(mut self, compression: CompressionFormat) -> Self {
        self.plan.compression = compression;
        self
    }

    /// Sets the end of the names, with its dot: up to 128 letters, digits and `!-_.*'()`. Default: that of the format and the compression.
    pub fn extension(mut self, extension: impl Into<String>) -> Self {
        self.plan.extension = Some(extension.into());
        self
    }

    /// Sets what the names end with, behind their prefix. Default: [`Naming::Sequence`].
    pub fn naming(mut self, naming: Naming) -> Self {
        self.plan.naming = naming;
        self
    }

    /// Sets the beginning of the names: text with expressions.
    ///
    /// - `!{timestamp:yyyy/MM/dd}`: when the first record of the object arrived, as a pattern of Java's `DateTimeFormatter`, in
    ///   [`time_zone`](Self::time_zone). Without one, `yyyy/MM/dd/HH/` is added at the end.
    /// - `!{firehose:random-string}`: 11 characters that differ from object to object.
    /// - `!{partitionKeyFromLambda:name}`, `!{partitionKeyFromQuery:name}`: the value of a partition key that a [function](Self::partition_keys) or a
    ///   [query](Self::partition_by) gives. Slashes and control characters in it become `%` and
    ///   two hexadecimal digits.
    ///
    /// Default: none but the time.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.plan.prefix = prefix.into();
        self
    }

    /// Sets the beginning of the names of the error output. It may have the expressions of times and random strings; with any, it needs
    /// `!{firehose:error-output-type}`, which is `processing-failed`, `format-conversion-failed`, or the
    /// [word of the sink](super::Sink::error_output_type) for objects that it did not take, such as `http-endpoint-failed`; `delivery-failed` if it
    /// has none. It is required if the prefix has expressions. Default: that word, a slash and the time.
    pub fn error_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.plan.error_prefix = prefix.into();
        self
    }

    /// Sets the zone of the times in prefixes, by its name, such as `Europe/Paris`. Default: UTC.
    pub fn time_zone(mut self, name: impl Into<String>) -> Self {
        self.plan.time_zone = name.into();
        self
    }

    /// Sets how many bytes of records an object holds, as they were before formatting and compression: up to 128 MiB. Firehose takes no less
    /// than 1 MiB. Default: 5 MiB.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.bounds.limits.buffer_bytes = bytes;
        self
    }

    /// Sets how long the first record of an object waits for others: up to 15 minutes. Default: 5 minutes.
    pub fn buffer_interval(mut self, interval: Duration) -> Self {
        self.bounds.limits.buffer_interval = interval;
        self
    }

    /// Bounds the memory of all buffers and of objects on their way. When it is reached, the largest buffers are delivered before they are full, and
    /// reading waits. One batch of records of up to 1 MiB, or one larger record, may come on top, and for Parquet what its writer takes: some 200 KB
    /// for each column of each object that is being written, which are as many as [`concurrency`](Self::concurrency) says. Default: 256 MiB.
    pub fn memory_bytes_max(mut self, bytes: usize) -> Self {
        self.bounds.memory_bytes_max = bytes;
        self
    }

    /// Turns dynamic partitioning on: these are the names of the partition keys whose values the [function](Self::transform) returns with each
    /// row, in this order. The prefix must name each of them. Rows with other values go into other objects.
    pub fn partition_keys<const N: usize>(mut self, names: [&str; N]) -> Self {
        self.plan.keys.retain(|(source, _)| *source != KeySource::Lambda);
        self.plan.keys.extend(names.map(|name| (KeySource::Lambda, name.to_owned())));
        self
    }

    /// Turns dynamic partitioning on by a query: the value of the partition key `name` is what the query finds in the data of a row, which is JSON.
    /// Rows without a value go to the error output. The prefix must name the key as `!{partitionKeyFromQuery:name}`.
    ///
    /// A query is a part of the language of jq: paths (`.a.b`, `.a[0]`, `.["a b"]`), alternatives (`.a // .b // "none"`), `|`, brackets, texts, numbers,
    /// `tostring`, `tonumber`, `floor`, `ascii_downcase`, `ascii_upcase`, and `strftime("%Y-%m")` of seconds since 1970.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// use streamlog::delivery::{Directory, Format};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path().join("clicks"))?;
    /// # let archive = directory.path().join("archive");
    /// stream.put("user-17", r#"{"country":"FR","page":"/cart"}"#)?;
    /// let delivery = stream
    ///     .delivery("by-country")
    ///     .partition_by("country", r#".country // "unknown" | ascii_downcase"#)
    ///     .prefix("country=!{partitionKeyFromQuery:country}/")
    ///     .error_prefix("failed/!{firehose:error-output-type}/")
    ///     .format(Format::json_lines())
    ///     .to(Directory::new(&archive))
    ///     .start()?;
    /// assert!(delivery.flush(Duration::from_secs(10)));
    /// assert!(archive.join("country=fr").is_dir());
    /// delivery.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn partition_by(mut self, name: impl Into<String>, query: impl Into<String>) -> Self {
        self.plan.keys.push((KeySource::Query, name.into()));
        self.plan.queries.push(query.into());
        self
    }

    /// Bounds the number of partitions that are buffered at a time: 1 to 10,000. Rows for which there are too many go to the error output.
    /// Default: 500.
    pub fn active_partitions_max(mut self, count: usize) -> Self {
        self.bounds.partitions_max = count;
        self
    }

    /// Decompresses records that begin as GZIP does. Default: off.
    pub fn decompression(mut self, is_on: bool) -> Self {
        self.plan.decompresses = is_on;
        self
    }

    /// Takes the [aggregates](crate::aggregate) of the Kinesis Producer Library apart. Default: off.
    pub fn deaggregation(mut self, is_on: bool) -> Self {
        self.plan.deaggregates = is_on;
        self
    }

    /// Takes records apart that hold several ones. Each of these goes through the steps behind this one by itself. A record in which
    /// something else stands, or more than 10,000 of them, goes to the error output as a whole. Default: off.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// use streamlog::delivery::{Directory, Format, SubRecords};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path().join("clicks"))?;
    /// stream.put("user-17", r#"{"page":"/"}{"page":"/cart"}"#)?;
    /// let delivery = stream
    ///     .delivery("pages")
    ///     .sub_records(SubRecords::Json)
    ///     .format(Format::lines())
    ///     .to(Directory::new(directory.path().join("pages")))
    ///     .start()?;
    /// assert!(delivery.flush(Duration::from_secs(10)));
    /// assert_eq!(delivery.stats().records, 2);
    /// delivery.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sub_records(mut self, sub_records: impl Into<Option<SubRecords>>) -> Self {
        self.plan.sub_records = sub_records.into();
        self
    }

    /// Takes the log events apart that CloudWatch Logs has sent through a subscription filter, compressed with GZIP: each message is a row, without what else
    /// CloudWatch says of it. Its control messages are dropped, and what is not from CloudWatch goes to the error output. This turns
    /// [decompression](Self::decompression) on, and takes the place of [deaggregation](Self::deaggregation). Default: off.
    ///
    /// Firehose calls this `CloudWatchLogProcessing` with `DataMessageExtraction`.
    pub fn cloudwatch_logs(mut self, is_on: bool) -> Self {
        self.plan.extracts_messages = is_on;
        self.plan.decompresses |= is_on;
        self
    }

    /// Sets a function that says what becomes of each record: rows, nothing, or error output. If it panics, the record goes to the error
    /// output. It runs on a thread of its own, so that a slow one holds up only its shard. A delivery has one function: this one,
    /// [one for batches](Self::transform_batch), or [one over HTTP](Self::transform_over_http).
    ///
    /// After a crash, it gets records again whose objects were decided. So that each record is in the output exactly once, it must make the same
    /// of the same record. If it does not, [`changed_objects`](super::DeliveryStats::changed_objects) counts that.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// use streamlog::delivery::{Directory, Format, Transformed};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path().join("clicks"))?;
    /// stream.put("user-17", "/cart")?;
    /// let delivery = stream
    ///     .delivery("pages")
    ///     .partition_keys(["user"])
    ///     .prefix("user=!{partitionKeyFromLambda:user}/")
    ///     .error_prefix("failed/!{firehose:error-output-type}/")
    ///     .format(Format::lines())
    ///     .transform(|record| match std::str::from_utf8(record.partition_key()) {
    ///         Ok(user) => Transformed::row_in(record.data(), [user]),
    ///         Err(error) => Transformed::failed(error),
    ///     })
    ///     .to(Directory::new(directory.path().join("pages")))
    ///     .start()?;
    /// delivery.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn transform(
        mut self,
        function: impl Fn(&DeliveryRecord<'_>) -> Transformed + Send + Sync + 'static,
    ) -> Self {
        self.function = Some(Function::Each(Arc::new(function)));
        self
    }

    /// Sets a function that says what becomes of the records of a batch: one outcome for each of them, in their order. They are of one shard. If it
    /// panics, or returns more or fewer outcomes, all records of the batch go to the error output.
    ///
    /// What holds for [`transform`](Self::transform) holds for this one. What it makes of a record must not depend on which others are in the batch: after
    /// a crash, other records may be. Records of a call that failed, though, are committed as failed, and stay so.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// use streamlog::delivery::{Directory, Format, Transformed};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path().join("clicks"))?;
    /// stream.put("user-17", "/cart")?;
    /// let delivery = stream
    ///     .delivery("pages")
    ///     .format(Format::lines())
    ///     .transform_batch(|records| {
    ///         // Here, one statement could ask a database about all of them.
    ///         records.iter().map(|record| Transformed::row(record.data().to_ascii_uppercase())).collect()
    ///     })
    ///     .to(Directory::new(directory.path().join("pages")))
    ///     .start()?;
    /// assert!(delivery.flush(Duration::from_secs(10)));
    /// # delivery.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn transform_batch(
        mut self,
        function: impl Fn(&[DeliveryRecord<'_>]) -> Vec<Transformed> + Send + Sync + 'static,
    ) -> Self {
        self.function = Some(Function::Batch(Arc::new(function)));
        self
    }

    /// Sets a function over HTTP that says what becomes of records, as a function of AWS Lambda does for Firehose; see [`HttpFunction`].
    pub fn transform_over_http(mut self, function: HttpFunction) -> Self {
        self.function = Some(Function::Http(Arc::new(function)));
        self
    }

    /// Sets for how many bytes of records, with their keys and 200 more for each, of a shard, or for how long after the first of them, a call of the
    /// function waits: up to 3 MiB, and 15 minutes. Firehose takes no less than 200 KB. A larger record is called for alone. Default: 1 MiB, and 60
    /// seconds for a function over HTTP; a function in this process does not wait.
    pub fn transform_buffer(mut self, bytes: usize, interval: Duration) -> Self {
        self.transform_buffer = Some(Gathering { bytes, interval });
        self
    }

    /// Sets how long a call of the function may take: up to 5 minutes. After that, all of its records have failed. A function in this process
    /// that does not return keeps its thread; up to 16 threads are given up so, and further calls are waited for. Default: 5 minutes.
    pub fn transform_timeout(mut self, timeout: Duration) -> Self {
        self.transform_timeout = timeout;
        self
    }

    /// Sets for how long an object is tried before it goes to the error output. `None`: for as long as it takes, while the delivery lags. What
    /// the sink says that it will [never take](super::SinkError::permanent) goes there at once.
    /// Default: `None`, and 5 minutes for endpoints.
    pub fn retry_duration(mut self, duration: impl Into<Option<Duration>>) -> Self {
        self.retry_duration = Some(duration.into());
        self
    }

    /// Sets how long a failed object waits until it is tried again, the first time and at most; each time it waits twice as long as before.
    /// Default: 100 ms and 1 minute.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        (self.bounds.retries.first_pause, self.bounds.retries.longest_pause) = (first, longest);
        self
    }

    /// Sets how many objects are delivered at a time: 1 to 64. Default: 4.
    pub fn concurrency(mut self, count: usize) -> Self {
        self.concurrency = count;
        self
    }

    /// Sets how long [closing](Delivery::close) waits for objects that are on their way. What has not arrived then comes again when the
    /// delivery is started again, while a request that is under way may still arrive. [Flush](Delivery::flush) before to wait longer.
    /// Default: 20 seconds.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// Holds the stream's retention back, up to so many bytes: see [`WorkerOptions::hold`](crate::WorkerOptions::hold). Default: retention does not
    /// wait, and records that it drops before they are read are counted as [skipped](super::DeliveryStats::skipped).
    pub fn hold(mut self, bytes_max: impl Into<Option<u64>>) -> Self {
        self.hold = Some(bytes_max.into());
        self
    }

    /// Sets how the objects are named: as Firehose names those of a stream of this name, whose settings have this version.
    #[cfg(feature = "gateway")]
    pub(crate) fn firehose_names(mut self, name: &str, version: u64) -> Self {
        (self.plan.naming, self.plan.version) = (Naming::Firehose, version);
        self.plan.delivery = name.to_owned();
        self
    }

    /// Checks all but whether there is a stream.
    #[cfg(feature = "gateway")]
    pub(crate) fn validate(&self) -> Result<()> {
        self.check().map(drop)
    }

    /// Starts the delivery.
    ///
    /// # Errors
    /// `InvalidArgument` for a setting out of range, a prefix that breaks a rule, or no sink; the same as
    /// [`WorkerOptions::open`](crate::WorkerOptions::open); `Io` if a thread cannot be started.
    pub fn start(self) -> Result<Delivery> {
        Delivery::start(self)
    }
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::InvalidArgument(reason.into().into())
}
