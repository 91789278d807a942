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
/// The word for objects that were rejected by a sink without a word of its own.
const DELIVERY_FAILED: &str = "delivery-failed";
/// Less than the grace period of supervisors: Kubernetes gives a program 30 s to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(20);

/// The settings of a [`Delivery`]. [`Stream::delivery`] returns them, and [`start`](Self::start) starts the delivery. Names, ranges and defaults are
/// those of Amazon Data Firehose, unless stated otherwise.
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
    /// Returns the settings of a delivery, which writes the stream's records into objects: files, or anything else a [sink](crate::delivery::Sink)
    /// accepts. The delivery reads as the [consumer group](Self::group) of this name.
    ///
    /// See [`DeliveryOptions`] for an example.
    pub fn delivery(&self, name: impl Into<String>) -> DeliveryOptions {
        let group = self.group(name);
        DeliveryOptions::new(group.name()).of(group, self)
    }
}

impl StreamReader {
    /// Returns the settings of a delivery, like [`Stream::delivery`]. The delivery may run in another process than the one that has the stream open.
    /// Only one process at a time can have a delivery's group open.
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

    /// Sets the sink of the objects. There is no default.
    pub fn to(mut self, sink: impl Sink) -> Self {
        self.sink = Some(To::Sink(Arc::new(sink)));
        self
    }

    /// Puts the rows into another stream of this process as records, **each exactly once**, with those of a key in order. A row keeps the partition
    /// key of its source record and gets a header `origin` that identifies this record. After a crash, the delivery uses the header to skip rows
    /// that were already put: see [`Sink`](crate::Sink).
    ///
    /// The rows of a buffer are put together, so set a short [interval](Self::buffer_interval) to keep the other stream close behind. A row that a
    /// stream can never take, because it is too large, goes to the [error output](Self::errors_to), which is required, under `stream-failed`. Any
    /// other failure makes the delivery wait for the stream. Prefixes and compression have no effect. Partition keys and
    /// [manifests](Self::manifests) are not available. Only one delivery of a name at a time can put into a stream.
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
    /// Exactly once holds whatever happens to the process. For power loss, both streams also need [`Durability::Power`](crate::Durability::Power).
    pub fn to_stream(mut self, output: &Stream) -> Self {
        self.sink = Some(To::Stream(Output { stream: output.clone(), key: None }));
        self
    }

    /// Puts the rows into another stream like [`to_stream`](Self::to_stream), with the partition key that a function returns for each row. The rows
    /// of a new key stay in order if all of them had the same old key.
    pub fn to_stream_by(
        mut self,
        output: &Stream,
        key: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.sink = Some(To::Stream(Output { stream: output.clone(), key: Some(Arc::new(key)) }));
        self
    }

    /// Writes a manifest for each object, as Amazon Redshift reads it: `{"entries":[{"url":…,"mandatory":true,"meta":{"content_length":…}}]}`. Its
    /// name is this prefix, the object's name and `.manifest`. `url` is the location of the sink's objects, such as `s3://my-bucket/clicks/`.
    ///
    /// A manifest is written to the same sink after its object, and again if the object is delivered again. So an object with a manifest is
    /// complete, and each record is in the object of exactly one manifest. Objects of the error output and of the backup have no manifests. The
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

    /// Sets the sink of the error output. Default: the sink of the objects, unless that is an endpoint, which requires a separate one.
    pub fn errors_to(mut self, sink: impl Sink) -> Self {
        self.error_sink = Some(Arc::new(sink));
        self
    }

    /// Sets a sink for a backup of the unchanged records, before any step, and the prefix of its objects. Default: no backup.
    pub fn backup_to(mut self, sink: impl Sink, prefix: impl Into<String>) -> Self {
        self.backup_sink = Some(Arc::new(sink));
        self.plan.backup_prefix = Some(prefix.into());
        self
    }

    /// Sets where the delivery begins in shards that exist when it is started for the first time. Default: at the horizon, unlike Firehose, which
    /// begins with the latest record.
    pub fn starting_position(mut self, position: Position) -> Self {
        self.start = position;
        self
    }

    /// Sets the format of the objects. Default: [`Format::raw`].
    pub fn format(mut self, format: Format) -> Self {
        self.plan.format = format;
        self
    }

    /// Sets how objects are compressed. Default: no compression.
    pub fn compression(mut self, compression: CompressionFormat) -> Self {
        self.plan.compression = compression;
        self
    }

    /// Sets the extension of the names, with its dot: up to 128 letters, digits and `!-_.*'()`. Default: that of the format and the compression.
    pub fn extension(mut self, extension: impl Into<String>) -> Self {
        self.plan.extension = Some(extension.into());
        self
    }

    /// Sets how names continue after their prefix. Default: [`Naming::Sequence`].
    pub fn naming(mut self, naming: Naming) -> Self {
        self.plan.naming = naming;
        self
    }

    /// Sets the prefix of the names: text with expressions.
    ///
    /// - `!{timestamp:yyyy/MM/dd}`: when the first record of the object arrived, as a pattern of Java's `DateTimeFormatter`, in
    ///   [`time_zone`](Self::time_zone). Without one, `yyyy/MM/dd/HH/` is added at the end.
    /// - `!{firehose:random-string}`: 11 characters that differ from object to object.
    /// - `!{partitionKeyFromLambda:name}`, `!{partitionKeyFromQuery:name}`: the value of a partition key that a [function](Self::partition_keys) or
    ///   a [query](Self::partition_by) returns. Slashes and control characters in it become `%` and two hexadecimal digits.
    ///
    /// Default: only the time.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.plan.prefix = prefix.into();
        self
    }

    /// Sets the prefix of the error output's names. It may have the expressions of times and random strings. With any of them, it also needs
    /// `!{firehose:error-output-type}`, which is `processing-failed`, `format-conversion-failed`, or, for objects that the sink rejected, the
    /// [word of the sink](super::Sink::error_output_type), such as `http-endpoint-failed`; `delivery-failed` if it has none. This prefix is required
    /// if the other one has expressions. Default: that word, a slash and the time.
    pub fn error_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.plan.error_prefix = prefix.into();
        self
    }

    /// Sets the time zone of prefixes by its name, such as `Europe/Paris`. Default: UTC.
    pub fn time_zone(mut self, name: impl Into<String>) -> Self {
        self.plan.time_zone = name.into();
        self
    }

    /// Sets how many bytes of records an object holds, counted before formatting and compression: up to 128 MiB. Firehose requires at least 1 MiB.
    /// Default: 5 MiB.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.bounds.limits.buffer_bytes = bytes;
        self
    }

    /// Sets how long the first record of an object waits for others: up to 15 minutes. Default: 5 minutes.
    pub fn buffer_interval(mut self, interval: Duration) -> Self {
        self.bounds.limits.buffer_interval = interval;
        self
    }

    /// Limits the memory of all buffers and of objects in delivery. At the limit, the largest buffers are delivered before they are full, and
    /// reading waits. One batch of records of up to 1 MiB, or one larger record, may exceed the limit. Parquet's writer takes an additional 200 KB
    /// or so for each column of each object that is being written, of which there are up to [`concurrency`](Self::concurrency). Default: 256 MiB.
    pub fn memory_bytes_max(mut self, bytes: usize) -> Self {
        self.bounds.memory_bytes_max = bytes;
        self
    }

    /// Enables dynamic partitioning, with the names of the partition keys whose values the [function](Self::transform) returns with each row, in
    /// this order. The prefix must name each of them. Rows with different values go into different objects.
    pub fn partition_keys<const N: usize>(mut self, names: [&str; N]) -> Self {
        self.plan.keys.retain(|(source, _)| *source != KeySource::Lambda);
        self.plan.keys.extend(names.map(|name| (KeySource::Lambda, name.to_owned())));
        self
    }

    /// Enables dynamic partitioning by a query: the value of the partition key `name` is the result of the query on the row's data, which is JSON.
    /// Rows without a value go to the error output. The prefix must name the key as `!{partitionKeyFromQuery:name}`.
    ///
    /// Queries use a subset of jq: paths (`.a.b`, `.a[0]`, `.["a b"]`), alternatives (`.a // .b // "none"`), `|`, parentheses, strings, numbers,
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

    /// Limits the number of partitions that are buffered at the same time: 1 to 10,000. Rows of further partitions go to the error output. Default:
    /// 500.
    pub fn active_partitions_max(mut self, count: usize) -> Self {
        self.bounds.partitions_max = count;
        self
    }

    /// Decompresses records that begin like GZIP data. Default: off.
    pub fn decompression(mut self, is_on: bool) -> Self {
        self.plan.decompresses = is_on;
        self
    }

    /// Splits the [aggregates](crate::aggregate) of the Kinesis Producer Library into their records. Default: off.
    pub fn deaggregation(mut self, is_on: bool) -> Self {
        self.plan.deaggregates = is_on;
        self
    }

    /// Splits records that contain several sub-records. Each sub-record goes through the following steps by itself. A record with any other content,
    /// or with more than 10,000 sub-records, goes to the error output as a whole. Default: off.
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

    /// Extracts the log events from records that a subscription filter of CloudWatch Logs has sent, compressed with GZIP: each message is a row,
    /// without CloudWatch's metadata. Control messages are dropped, and records that are not from CloudWatch go to the error output. This turns
    /// [decompression](Self::decompression) on, and replaces [deaggregation](Self::deaggregation). Default: off.
    ///
    /// Firehose calls this `CloudWatchLogProcessing` with `DataMessageExtraction`.
    pub fn cloudwatch_logs(mut self, is_on: bool) -> Self {
        self.plan.extracts_messages = is_on;
        self.plan.decompresses |= is_on;
        self
    }

    /// Sets a function that turns each record into rows, nothing, or error output. If it panics, the record goes to the error output. It runs on a
    /// separate thread, so a slow call holds up only its shard; up to 8 shards have calls at a time. A delivery has one function: this one,
    /// [one for batches](Self::transform_batch), or [one over HTTP](Self::transform_over_http).
    ///
    /// After a crash, it gets the records of committed objects again. For exactly once, it must return the same result for the same record.
    /// Otherwise [`changed_objects`](super::DeliveryStats::changed_objects) counts the objects that differ.
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

    /// Sets a function that transforms a batch of records of one shard: it returns one outcome for each record, in order. If it panics, or returns
    /// more or fewer outcomes, all records of the batch go to the error output.
    ///
    /// It follows the rules of [`transform`](Self::transform). The outcome of a record must not depend on the other records of the batch, because a
    /// batch may have others after a crash. However, the records of a failed call are committed as failed, and remain so.
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

    /// Sets an HTTP function that transforms records, as an AWS Lambda function does for Firehose; see [`HttpFunction`].
    pub fn transform_over_http(mut self, function: HttpFunction) -> Self {
        self.function = Some(Function::Http(Arc::new(function)));
        self
    }

    /// Sets how many bytes of a shard's records (with their keys and 200 more for each) to collect for a call of the function, and how long to wait
    /// after the first of them: up to 3 MiB, and 15 minutes. Firehose requires at least 200 KB. A larger record gets its own call. Default: 1 MiB,
    /// and 60 seconds for a function over HTTP; a function in this process does not wait.
    pub fn transform_buffer(mut self, bytes: usize, interval: Duration) -> Self {
        self.transform_buffer = Some(Gathering { bytes, interval });
        self
    }

    /// Sets how long a call of the function may take: up to 5 minutes. After that, all of its records have failed. A function in this process that
    /// does not return keeps its thread. Up to 16 threads are abandoned like this; the delivery waits for further calls. Default: 5 minutes.
    pub fn transform_timeout(mut self, timeout: Duration) -> Self {
        self.transform_timeout = timeout;
        self
    }

    /// Sets how long an object is retried before it goes to the error output. `None`: without limit, while the delivery lags. Objects that the sink
    /// will [never take](super::SinkError::permanent) go there immediately. Default: `None`, and 5 minutes for endpoints.
    pub fn retry_duration(mut self, duration: impl Into<Option<Duration>>) -> Self {
        self.retry_duration = Some(duration.into());
        self
    }

    /// Sets the first and the longest pause before a failed object is retried. Each pause is twice the previous one. Default: 100 ms and 1 minute.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        (self.bounds.retries.first_pause, self.bounds.retries.longest_pause) = (first, longest);
        self
    }

    /// Sets how many objects are delivered at the same time: 1 to 64. Default: 4.
    pub fn concurrency(mut self, count: usize) -> Self {
        self.concurrency = count;
        self
    }

    /// Sets how long [closing](Delivery::close) waits for objects in delivery. The rest is delivered after the next start, although a request in
    /// progress may still arrive. To wait longer, [flush](Delivery::flush) first. Default: 20 seconds.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// Makes retention keep up to this many bytes for the delivery: see [`WorkerOptions::hold`](crate::WorkerOptions::hold). Default: retention does
    /// not wait, and [`skipped`](super::DeliveryStats::skipped) counts records that it drops before they are read.
    pub fn hold(mut self, bytes_max: impl Into<Option<u64>>) -> Self {
        self.hold = Some(bytes_max.into());
        self
    }

    /// Names the objects as Firehose does for a stream of this name whose settings have this version.
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
