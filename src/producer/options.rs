//! The settings of a producer.

use std::fmt;
use std::time::Duration;

use super::Producer;
use super::batch::{BATCH_BYTES, RECORD_BYTES};
use super::lane::Limits;
use crate::extend::check_range;
use crate::limits::{FRAME_BYTES_MAX, PARTITION_KEY_BYTES_MAX};
use crate::{Error, Result, SECOND, Stream};

/// The largest `batch_bytes`.
const BATCH_BYTES_MAX: usize = 1 << 30;
/// The largest `batch_count`.
const BATCH_COUNT_MAX: usize = 1 << 24;
/// The smallest `buffer_bytes`: room for some small records.
const BUFFER_BYTES_MIN: usize = 4 << 10;
/// The most `senders`.
const SENDERS_MAX: usize = 256;

// Holds even if a whole batch goes to one shard, with 16 bytes around each record.
const _: () = assert!((BATCH_BYTES_MAX + 16 * BATCH_COUNT_MAX) as u64 + 64 <= FRAME_BYTES_MAX);
const _: () = assert!(PARTITION_KEY_BYTES_MAX + RECORD_BYTES + BATCH_BYTES <= BUFFER_BYTES_MIN);

/// How to set up a [`Producer`]: a builder that begins with [`Stream::producer`] and ends with [`start`](Self::start).
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let producer = stream
///     .producer()
///     .linger(Duration::from_millis(5))
///     .batch_bytes(64 << 10)
///     .buffer_bytes(8 << 20)
///     .senders(2)
///     .time_to_live(Duration::from_secs(60))
///     .start()?;
/// # producer.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct ProducerOptions {
    stream: Stream,
    settings: Settings,
}

/// The settings of a producer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) buffer_bytes: usize,
    pub(super) senders: usize,
    pub(super) time_to_live: Option<Duration>,
    pub(super) backoff: Backoff,
}

/// How long to wait between attempts. Each pause is twice the one before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    pub(super) most: Duration,
}

impl Stream {
    /// Returns a builder of a producer for this stream. A producer takes records from any number of threads and writes them in batches in
    /// the background.
    ///
    /// [`put`](Self::put) is simpler, but waits for each record. With a producer, a thread continues immediately, and many records share
    /// the cost of a frame and, with [`Durability::Power`](crate::Durability::Power), of a sync.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let producer = stream.producer().start()?;
    /// let pending = producer.put("user-17", "clicked")?;
    /// println!("{:?}", pending.wait()?);
    /// producer.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn producer(&self) -> ProducerOptions {
        ProducerOptions { stream: self.clone(), settings: Settings::default() }
    }
}

impl ProducerOptions {
    /// Sets how long the first record of a batch waits for others before the batch is sent. Default: zero.
    ///
    /// With zero, a sender writes the buffered records as soon as it is free, so batches form by themselves if records come faster than
    /// they are written. A longer time saves processor time and syncs if records come more slowly, but delays each of them. KPL:
    /// `RecordMaxBufferedTime`, 100 ms there, because a network request costs more; Kafka: `linger.ms`.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.settings.limits.linger = linger;
        self
    }

    /// Sets the size at which a batch is sent without lingering, counting keys, data and headers: 1 byte to 1 GiB. A larger record is a
    /// batch by itself. Default: 256 KiB. KPL: `CollectionMaxSize`; Kafka: `batch.size`.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.settings.limits.bytes = bytes;
        self
    }

    /// Sets the number of records at which a batch is sent without lingering: 1 to 16,777,216. Default: 10,000. KPL: `CollectionMaxCount`.
    pub fn batch_count(mut self, count: usize) -> Self {
        self.settings.limits.count = count;
        self
    }

    /// Sets the maximum number of buffered bytes. A record counts from its put until its outcome is known: at least 4 KiB. Default: 32 MiB.
    ///
    /// A record counts with its key, its data, its headers and 128 bytes, and a batch with 512. At the bound, `put` waits, `try_put` fails
    /// with [`ProducerFull`](Error::ProducerFull), and nothing lingers. A record larger than the bound is refused. In addition to the
    /// bound, each sender needs about twice the size of a batch while it writes one. Kafka: `buffer.memory`; the KPL has no such bound.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.settings.buffer_bytes = bytes;
        self
    }

    /// Sets how many threads write, 1 to 256. Default: 1.
    ///
    /// Each thread has its own part of the hash keys, so that one partition key always goes to the same thread. More than one helps with
    /// several shards, or with [`Durability::Power`](crate::Durability::Power), where one writes while another waits for the disk.
    pub fn senders(mut self, count: usize) -> Self {
        self.settings.senders = count;
        self
    }

    /// Sets how long a record is retried if the disk is full or the stream's [limits](crate::Limits) throttle it, counted from its put by
    /// the stream's clock. Then it fails with [`ProducerExpired`](Error::ProducerExpired). `None` retries forever. Default: 30 seconds,
    /// like the KPL's `RecordTtl`.
    ///
    /// Each record is tried at least once, however long it waited; the KPL may give up a record untried. With `None`, `flush`, `close` and
    /// dropping the producer wait as long as the disk is full or the limits throttle.
    pub fn time_to_live(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.time_to_live = time.into();
        self
    }

    /// Sets how long a sender waits before it retries after a full disk: `first`, and twice as long each time, up to `most`. Default: 10 ms
    /// to 1 second.
    ///
    /// All later records of the same sender wait too, which keeps the order. Throttled records are retried once the stream's
    /// [limits](crate::Limits) allow it, after `most` at the latest. Only [`StorageFull`](Error::StorageFull) and
    /// [`Throttled`](Error::Throttled) are retried: after any other error a retry would fail too, or might write a record twice.
    pub fn backoff(mut self, first: Duration, most: Duration) -> Self {
        self.settings.backoff = Backoff { first, most };
        self
    }

    /// Starts the producer's threads.
    ///
    /// # Errors
    /// `InvalidArgument` for a setting that is out of range; `Io` if the system refuses a thread.
    pub fn start(self) -> Result<Producer> {
        self.settings.check()?;
        Producer::start(self.stream, self.settings)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits { bytes: 256 << 10, count: 10_000, linger: Duration::ZERO },
            buffer_bytes: 32 << 20,
            senders: 1,
            time_to_live: Some(30 * SECOND),
            backoff: Backoff { first: Duration::from_millis(10), most: SECOND },
        }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        check_range("batch_bytes", self.limits.bytes, 1..=BATCH_BYTES_MAX)?;
        check_range("batch_count", self.limits.count, 1..=BATCH_COUNT_MAX)?;
        check_range("buffer_bytes", self.buffer_bytes, BUFFER_BYTES_MIN..=isize::MAX as usize)?;
        check_range("senders", self.senders, 1..=SENDERS_MAX)?;
        if self.time_to_live.is_some_and(|time| time.is_zero()) {
            return Err(invalid("a time_to_live of zero: every record would expire"));
        }
        if self.backoff.first.is_zero() || self.backoff.most < self.backoff.first {
            return Err(invalid("a backoff begins above zero, and does not end below where it begins"));
        }
        Ok(())
    }
}

pub(super) fn invalid(reason: impl fmt::Display) -> Error {
    Error::InvalidArgument(reason.to_string().into())
}
