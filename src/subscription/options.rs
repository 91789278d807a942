//! How to subscribe to a shard.

use std::time::Duration;

use super::pipes::Pipes;
use super::subscribed::Subscription;
use crate::extend::check_range;
use crate::{Error, OnTrimmed, Position, Result, SECOND, ShardId, Stream};

/// The settings of a subscription: a builder that begins with [`Stream::subscribe`] and ends with [`open`](Self::open) or
/// [`for_each`](Self::for_each).
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::{Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// # let shard = stream.shards()[0].id;
/// stream.register_consumer("dashboard")?;
/// let subscription = stream
///     .subscribe("dashboard", shard, Position::Latest)
///     .duration(Duration::from_secs(300)) // as in Kinesis
///     .batch_records(500)
///     .open()?;
/// assert_eq!(subscription.shard(), shard);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct SubscriptionOptions {
    pub(super) stream: Stream,
    pub(super) consumer: String,
    pub(super) shard: ShardId,
    pub(super) position: Position,
    pub(super) duration: Option<Duration>,
    pub(super) heartbeat: Duration,
    pub(super) records_max: usize,
    pub(super) bytes_max: usize,
    pub(super) on_trimmed: OnTrimmed,
}

impl Stream {
    /// Returns the settings of a subscription of a registered consumer to a shard, from a position on. [`SubscriptionOptions::open`] opens it,
    /// and [`SubscriptionOptions::for_each`] passes its events to a function.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.register_consumer("dashboard")?;
    /// let shard = stream.put("user-17", "clicked")?.shard;
    /// let mut subscription = stream.subscribe("dashboard", shard, Position::TrimHorizon).open()?;
    /// let event = subscription.poll(Duration::from_secs(1))?.expect("a record is there");
    /// assert_eq!(event.batch().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subscribe(
        &self,
        consumer: impl Into<String>,
        shard: ShardId,
        position: Position,
    ) -> SubscriptionOptions {
        SubscriptionOptions {
            stream: self.clone(),
            consumer: consumer.into(),
            shard,
            position,
            duration: None,
            heartbeat: 5 * SECOND,
            records_max: 10_000,
            bytes_max: 1 << 20,
            on_trimmed: OnTrimmed::default(),
        }
    }
}

impl SubscriptionOptions {
    /// Sets how long the subscription lasts. After it ends, the consumer may subscribe again. Default: as long as the shard. In Kinesis, a
    /// subscription lasts five minutes.
    pub fn duration(mut self, duration: impl Into<Option<Duration>>) -> Self {
        self.duration = duration.into();
        self
    }

    /// Sets how long without records it takes until the consumer gets an event without records. Default: 5 seconds, as in Kinesis.
    pub fn heartbeat(mut self, after: Duration) -> Self {
        self.heartbeat = after;
        self
    }

    /// Sets the most records of one event, at least 1. Default: 10,000.
    pub fn batch_records(mut self, count: usize) -> Self {
        self.records_max = count;
        self
    }

    /// Sets the most bytes of keys, data and headers of one event. A larger record is an event by itself. Default: 1 MiB.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// Sets what happens if retention drops records before the consumer has received them. Default: [`OnTrimmed::Fail`], which returns
    /// [`Error::Trimmed`] until the caller calls [`Subscription::skip_to_horizon`].
    pub fn on_trimmed(mut self, on_trimmed: OnTrimmed) -> Self {
        self.on_trimmed = on_trimmed;
        self
    }

    /// Begins the subscription.
    ///
    /// One subscription at a time reads a shard for a consumer. If another one began at least 5 seconds ago, the new one takes over, and
    /// the old one fails with `ConsumerInUse`.
    ///
    /// # Errors
    /// `ConsumerInUse` if another subscription began less than 5 seconds ago; `InvalidArgument` if the consumer is not registered, or for a
    /// setting that is out of range; otherwise the same as [`StreamReader::iterator`](crate::StreamReader::iterator); `Closed`, `Io`.
    pub fn open(self) -> Result<Subscription> {
        self.check()?;
        let pipes = Pipes::of(&self.stream)?;
        // Finding the position may take a while, so nobody waits for it.
        let iterator = self.stream.iterator(self.shard, self.position)?;
        let mut open = pipes.lock();
        self.stream.describe_consumer(&self.consumer)?;
        let now = self.stream.clock().elapsed();
        let ticket = open.enter(&self.consumer, self.shard, now)?;
        drop(open);
        Ok(Subscription::new(self, iterator, ticket, now))
    }

    fn check(&self) -> Result<()> {
        check_range("batch_records", self.records_max, 1..=usize::MAX)?;
        if self.heartbeat.is_zero() {
            return Err(Error::InvalidArgument(
                "a heartbeat of zero: there would be no end of events".into(),
            ));
        }
        Ok(())
    }
}
