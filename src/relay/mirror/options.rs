//! The settings of a mirror.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::core::CoreOptions;
use super::handle::Mirror;
use super::origin::{Origin, StartAt};
use super::refused::{OnRefused, Refused};
#[cfg(feature = "relay-kafka")]
use crate::StreamReader;
#[cfg(feature = "relay-kafka")]
use crate::relay::kafka::{client::KafkaClient, mirror::KafkaOrigin};
#[cfg(feature = "relay-kinesis")]
use crate::relay::kinesis::client::KinesisClient;
#[cfg(feature = "relay-kinesis")]
use crate::relay::kinesis::origin::KinesisOrigin;
#[cfg(feature = "relay-kinesis")]
use crate::relay::kinesis::read::RemoteStream;
use crate::{Error, Position, Result, SECOND, Stream, extend};

/// The most records that one request asks for, which is what Kinesis allows.
const BATCH_RECORDS_MAX: usize = 10_000;
const THREADS_MAX: usize = 256;
const HOLD_BYTES_DEFAULT: u64 = 1 << 30;

impl Stream {
    /// Returns a mirror of this name, without a source yet. It copies records from a remote source into this stream.
    ///
    /// The headers of the records contain the name. The mirror's position is stored under it: when started again, it continues where it was.
    ///
    /// ```no_run
    /// use streamlog::relay::KinesisClient;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    ///
    /// let client = KinesisClient::options().region("eu-west-1").connect()?;
    /// let mirror = stream.mirror("down").from_kinesis(&client, "orders").start()?;
    /// while !mirror.is_caught_up() {
    ///     std::thread::sleep(std::time::Duration::from_secs(1));
    ///     println!("{} records, {:?} behind", mirror.stats().records, mirror.stats().behind_latest());
    /// }
    /// mirror.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn mirror(&self, name: impl Into<String>) -> MirrorName {
        MirrorName { stream: self.clone(), name: name.into() }
    }
}

/// The name of a mirror. [`Stream::mirror`] returns it. Choose the source with one of its methods.
#[derive(Debug, Clone)]
#[must_use = "a mirror does nothing before it is told what to mirror, and started"]
pub struct MirrorName {
    stream: Stream,
    name: String,
}

impl MirrorName {
    /// Mirrors a stream of Amazon Kinesis, by its name or its ARN.
    ///
    /// The client needs the permissions `kinesis:ListShards`, `kinesis:GetShardIterator` and `kinesis:GetRecords`. It should also have
    /// `kinesis:DescribeStreamSummary`, to detect that a stream was deleted and recreated.
    #[cfg(feature = "relay-kinesis")]
    pub fn from_kinesis(self, client: &KinesisClient, stream: impl Into<String>) -> MirrorOptions {
        let origin = Arc::new(KinesisOrigin::new(RemoteStream::new(client.clone(), stream)));
        MirrorOptions::new(self.stream, self.name, origin)
    }

    /// Mirrors a topic of Kafka. Only committed transactions are mirrored.
    ///
    /// If a record has no key, the topic, `-` and the partition become its key; if it has no data, its data becomes empty. A header `kafka-null`
    /// then lists what was missing: `key`, `value` or `key value`. The mirror also commits offsets to Kafka, under a consumer group with the
    /// mirror's name. It does not depend on them: they let Kafka's tools show the mirror's lag.
    #[cfg(feature = "relay-kafka")]
    pub fn from_kafka(self, client: &KafkaClient, topic: impl Into<String>) -> MirrorOptions {
        let reader = StreamReader::clone(&self.stream);
        let origin = KafkaOrigin::new(client.clone(), topic.into(), self.name.clone(), reader);
        MirrorOptions::new(self.stream, self.name, Arc::new(origin))
    }
}

/// Settings of a mirror. [`start`](Self::start) starts it.
#[must_use = "a mirror does nothing before it is started"]
pub struct MirrorOptions {
    stream: Stream,
    name: String,
    origin: Arc<dyn Origin>,
    start: Position,
    threads: usize,
    batch_records: usize,
    poll_interval: Duration,
    hold_bytes: u64,
    on_refused: Option<OnRefused>,
}

impl fmt::Debug for MirrorOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirrorOptions")
            .field("name", &self.name)
            .field("origin", &self.origin.name())
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

impl MirrorOptions {
    pub(in crate::relay) fn new(stream: Stream, name: String, origin: Arc<dyn Origin>) -> Self {
        Self {
            stream,
            name,
            origin,
            start: Position::TrimHorizon,
            threads: 4,
            batch_records: BATCH_RECORDS_MAX,
            poll_interval: SECOND,
            hold_bytes: HOLD_BYTES_DEFAULT,
            on_refused: None,
        }
    }

    /// Sets where a new mirror begins: [`Position::TrimHorizon`] (the default), [`Position::Latest`], or [`Position::AtTimestamp`]. Latest is the
    /// time when the mirror first lists the shards, by the stream's clock.
    pub fn starting_position(mut self, position: Position) -> Self {
        self.start = position;
        self
    }

    /// Sets how many threads read and put: 1 to 256, by default 4. Each reads one shard at a time, and holds the response of one request: up to 10
    /// MiB from Kinesis. More threads help if there are many shards or the network latency is high.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets how many records one request asks for: 1 to 10,000, by default 10,000. Fewer records take less memory.
    pub fn batch_records(mut self, records: usize) -> Self {
        self.batch_records = records;
        self
    }

    /// Sets how long to wait before reading a shard without more records again: by default 1 second, as in the KCL. Kinesis allows all consumers of
    /// a shard together five reads per second.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Sets how many bytes the stream keeps beyond its retention if the process dies, until the mirror is started again: by default 1 GiB.
    ///
    /// The mirror then looks for the records that it put since its last checkpoint, at most 5 seconds before. Any that are no longer there are
    /// mirrored again. While the mirror runs, and after it was closed, the stream keeps nothing for it.
    pub fn hold(mut self, bytes_max: u64) -> Self {
        self.hold_bytes = bytes_max;
        self
    }

    /// Sets a function for records that the stream cannot hold, for example because they are too large. Once it has returned `Ok`, the mirror
    /// continues. It may get a record again after a crash. By default, the mirror of that shard waits, and [`MirrorStats`](super::MirrorStats) shows
    /// the error.
    pub fn on_refused(
        mut self,
        function: impl Fn(&Refused<'_>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.on_refused = Some(OnRefused::new(function));
        self
    }

    /// Starts the mirror. It reads back what it has put since its last checkpoint, and does not wait for the source.
    ///
    /// # Errors
    /// `InvalidArgument` for a setting out of range, or if a mirror of this name has another source; `Locked` if a mirror of this name runs, here or
    /// in another process; `Corrupt`, `Closed`, `StorageFull`, `Io`.
    pub fn start(self) -> Result<Mirror> {
        extend::check_range("threads", self.threads, 1..=THREADS_MAX)?;
        extend::check_range("batch_records", self.batch_records, 1..=BATCH_RECORDS_MAX)?;
        let start = match self.start {
            Position::TrimHorizon => StartAt::Beginning,
            Position::Latest => StartAt::Latest(self.stream.now()),
            Position::AtTimestamp(time) if time <= self.stream.now() => StartAt::AtTimestamp(time),
            other => {
                let reason = format!(
                    "a mirror cannot start at {other:?}: use TrimHorizon, Latest, or AtTimestamp with a time that is over"
                );
                return Err(Error::InvalidArgument(reason.into()));
            }
        };
        let core = CoreOptions {
            name: self.name,
            kind: self.origin.kind(),
            origin: self.origin.name().to_owned(),
            start,
            hold_bytes: self.hold_bytes,
        };
        let (threads, records_max) = (self.threads, self.batch_records);
        Mirror::start(
            &self.stream,
            core,
            self.on_refused,
            self.origin,
            threads,
            records_max,
            self.poll_interval,
        )
    }
}
