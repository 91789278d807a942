//! A subscription: the next event of a shard for one consumer, awaited as a thread or as a task.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::event::SubscriptionEvent;
use super::options::SubscriptionOptions;
use super::pipes::in_use;
use super::registry::missing;
use super::ticket::{End, Ticket};
use crate::{Batch, Error, OnTrimmed, Result, ShardId, ShardIterator, extend};

/// An event has at most what the limit lets pass in this time, like a read that the stream's limits apply to, or a single record.
const EVENT_SECONDS_MAX: u64 = 5;

/// A consumer's subscription to a shard. [`SubscriptionOptions::open`] opens it, and dropping it ends it.
///
/// It returns records as they arrive, and an event without records if none arrive for a while. Its throughput is its own: no other reader
/// or consumer slows it down, and if the stream has [limits](crate::Limits), `read_bytes_per_second` applies to each consumer and shard
/// separately. A slow consumer takes no memory, because its records stay in the log until it asks for them.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::{Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// # let shard = stream.put("user-17", "clicked")?.shard;
/// # stream.split_shard_evenly(shard)?;
/// stream.register_consumer("dashboard")?;
/// let mut subscription = stream.subscribe("dashboard", shard, Position::TrimHorizon).open()?;
/// while let Some(event) = subscription.poll(Duration::MAX)? {
///     for record in event.batch() {
///         println!("{:?}", record.data());
///     }
///     if let Some(children) = event.child_shards() {
///         println!("the shard was split or merged: subscribe to {children:?}");
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Subscription {
    options: SubscriptionOptions,
    iterator: ShardIterator,
    pub(super) ticket: Arc<Ticket>,
    /// When it is over, if ever. Times are those of [`Clock::elapsed`](crate::Clock::elapsed).
    ends_at: Option<Duration>,
    last_event: Duration,
    skipped_count: u64,
    /// The place on the wait list of the shard.
    records: extend::Waiting,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("consumer", &self.options.consumer)
            .field("iterator", &self.iterator)
            .finish_non_exhaustive()
    }
}

impl Subscription {
    pub(super) fn new(
        options: SubscriptionOptions,
        iterator: ShardIterator,
        ticket: Arc<Ticket>,
        now: Duration,
    ) -> Self {
        Self {
            // A time that never comes means no end.
            ends_at: options.duration.and_then(|duration| now.checked_add(duration)),
            iterator: extend::unlimited(iterator),
            options,
            ticket,
            last_event: now,
            skipped_count: 0,
            records: extend::Waiting::default(),
        }
    }

    /// Returns the name of the consumer.
    pub fn consumer(&self) -> &str {
        &self.options.consumer
    }

    /// Returns the shard.
    pub fn shard(&self) -> ShardId {
        self.iterator.shard()
    }

    /// Returns whether the subscription has ended: the shard was read to its end, the subscription's duration has passed, or somebody ended it.
    pub fn is_over(&self) -> bool {
        self.ticket.end_of().is_some()
    }

    /// Returns how many records retention had dropped before the consumer got them.
    pub fn skipped_count(&self) -> u64 {
        self.skipped_count
    }

    /// Returns the next event. Returns `None` if there is none before the timeout, or if the [subscription is over](Self::is_over).
    ///
    /// Because heartbeats arrive even if nothing is put, `poll(Duration::MAX)` returns `None` only at the end.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// # let shard = stream.shards()[0].id;
    /// stream.register_consumer("dashboard")?;
    /// let subscribe = stream.subscribe("dashboard", shard, Position::Latest);
    /// let mut subscription = subscribe.heartbeat(Duration::from_millis(10)).open()?;
    /// let event = subscription.poll(Duration::MAX)?.expect("a heartbeat");
    /// assert!(event.batch().is_empty());
    /// assert_eq!(event.millis_behind_latest(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `ConsumerInUse` if another subscription has taken over; `InvalidArgument` if the consumer was removed; `Closed` once the stream is
    /// closed and everything is read. `Trimmed` if retention has overtaken the consumer: [`skip_to_horizon`](Self::skip_to_horizon) to
    /// continue. `Lost` where records were lost to damage: [`skip_lost`](Self::skip_lost) to continue. `Corrupt` where the log is damaged;
    /// `Io`.
    pub fn poll(&mut self, timeout: Duration) -> Result<Option<SubscriptionEvent>> {
        let outcome = self.poll_until(timeout);
        self.stop_waiting();
        outcome
    }

    fn poll_until(&mut self, timeout: Duration) -> Result<Option<SubscriptionEvent>> {
        let (mut deadline, mut waker) = (None, None);
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(Some(event));
            }
            // A timeout beyond the range of `Instant` means to wait without a deadline.
            let deadline = *deadline.get_or_insert_with(|| Instant::now().checked_add(timeout));
            let left = deadline.map_or(Duration::MAX, |it| it.saturating_duration_since(Instant::now()));
            if left.is_zero() || self.has_ended_well() {
                return Ok(None);
            }
            let waker = waker.get_or_insert_with(|| Waker::from(Arc::new(Unpark(thread::current()))));
            if let Some(due_in) = self.wake_later(&mut Context::from_waker(waker))? {
                thread::park_timeout(left.min(due_in));
            }
        }
    }

    /// Waits for the next event in a task of any async runtime, without a blocked thread or a timer: the stream's
    /// [maintenance](crate::Maintenance) triggers heartbeats, the end of the subscription and throttled reads, up to a second late. Returns
    /// `None` at the end.
    ///
    /// The future is cancel-safe: dropping it loses no event, so it may be used in a `select!`.
    ///
    /// ```
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// # let stream = Stream::open(directory.path())?;
    /// # let shard = stream.shards()[0].id;
    /// stream.register_consumer("dashboard")?;
    /// let mut subscription = stream.subscribe("dashboard", shard, Position::Latest).open()?;
    /// stream.put("user-17", "clicked")?;
    /// let event = subscription.next().await?.expect("a record was put");
    /// assert_eq!(event.batch().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`poll`](Self::poll).
    #[expect(clippy::should_implement_trait, reason = "what a task awaits is called `next` everywhere")]
    pub fn next(&mut self) -> NextEvent<'_> {
        NextEvent { subscription: self }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<SubscriptionEvent>>> {
        let outcome = loop {
            match self.try_next() {
                Ok(None) if !self.has_ended_well() => {}
                outcome => break outcome,
            }
            match self.wake_later(context) {
                Ok(Some(_)) => return Poll::Pending,
                Ok(None) => {}
                Err(error) => break Err(error),
            }
        };
        self.stop_waiting();
        Poll::Ready(outcome)
    }

    /// Returns the next event if there is one.
    fn try_next(&mut self) -> Result<Option<SubscriptionEvent>> {
        match self.ticket.end_of() {
            None => {}
            Some(End::Over) => return Ok(None),
            Some(End::TakenOver) => return Err(in_use(self.consumer(), self.shard())),
            Some(End::Deregistered) => return Err(missing(self.consumer())),
        }
        let now = self.options.stream.clock().elapsed();
        if self.ends_at.is_some_and(|ends_at| ends_at <= now) {
            self.end();
            return Ok(None);
        }
        let rate = self.bytes_per_second();
        if extend::is_readable(&self.iterator) && self.ticket.wait(rate, now).is_zero() {
            let may_read = rate.map_or(u64::MAX, |rate| rate.saturating_mul(EVENT_SECONDS_MAX));
            let bytes_max = self.options.bytes_max.min(usize::try_from(may_read).unwrap_or(usize::MAX));
            let batch = self.read(self.options.records_max, bytes_max)?;
            self.ticket.take(now, bytes_of(&batch));
            let millis_behind_latest = batch.millis_behind_latest();
            return Ok(Some(self.event(batch, millis_behind_latest, now)));
        }
        if now >= self.last_event.saturating_add(self.options.heartbeat) {
            let millis_behind_latest = self.iterator.lag()?.age.as_millis();
            let batch = self.read(0, 0)?;
            let millis_behind_latest = u64::try_from(millis_behind_latest).unwrap_or(u64::MAX);
            return Ok(Some(self.event(batch, millis_behind_latest, now)));
        }
        Ok(None)
    }

    fn read(&mut self, records_max: usize, bytes_max: usize) -> Result<Batch> {
        loop {
            match self.iterator.next_batch_within(records_max, bytes_max) {
                Err(Error::Trimmed { .. }) if self.options.on_trimmed == OnTrimmed::SkipToHorizon => {
                    self.skip_to_horizon();
                }
                read => return read,
            }
        }
    }

    fn event(&mut self, batch: Batch, millis_behind_latest: u64, now: Duration) -> SubscriptionEvent {
        self.last_event = now;
        let is_end = batch.child_shards().is_some();
        if is_end {
            self.end();
        }
        let next_sequence = (!is_end).then(|| self.iterator.next_sequence());
        SubscriptionEvent { batch, next_sequence, millis_behind_latest }
    }

    /// Returns the limit of the consumer for the shard, if there is one.
    fn bytes_per_second(&self) -> Option<u64> {
        self.options.stream.limits().read_bytes_per_second
    }

    /// Arranges for the caller to be woken once there may be an event. Returns the time after which there is one at the latest, or `None` if there
    /// may be one already.
    fn wake_later(&mut self, context: &mut Context<'_>) -> Result<Option<Duration>> {
        let now = self.options.stream.clock().elapsed();
        let throttled_for = match extend::is_readable(&self.iterator) {
            true => self.ticket.wait(self.bytes_per_second(), now),
            false => Duration::ZERO,
        };
        let heartbeat = self.last_event.saturating_add(self.options.heartbeat);
        let due = self.ends_at.map_or(heartbeat, |ends_at| heartbeat.min(ends_at));
        if !throttled_for.is_zero() {
            self.records.end();
            // Each pass wakes it, because the limits may have been raised or the stream closed.
            let waits = self.ticket.wake_later(context.waker(), Duration::ZERO);
            return Ok(waits.then(|| throttled_for.min(due.saturating_sub(now))));
        }
        if !self.ticket.wake_later(context.waker(), due) {
            return Ok(None);
        }
        match self.records.poll_readable([&self.iterator], context) {
            Poll::Pending => Ok(Some(due.saturating_sub(now))),
            Poll::Ready(ready) => ready.map(|_| None),
        }
    }

    fn stop_waiting(&mut self) {
        self.records.end();
        self.ticket.forget();
    }

    /// Continues from the trim horizon if retention has overtaken the consumer. Returns the number of skipped records.
    ///
    /// With this call, the caller gives those records up.
    pub fn skip_to_horizon(&mut self) -> u64 {
        let skipped = self.iterator.skip_to_horizon();
        self.skipped_count += skipped;
        skipped
    }

    /// Continues after records that were lost to damage and given up since. Returns the number of skipped records.
    ///
    /// # Errors
    /// Same as [`ShardIterator::skip_lost`].
    pub fn skip_lost(&mut self) -> Result<u64> {
        self.iterator.skip_lost()
    }

    /// Returns whether it is over, and nobody else has ended it.
    fn has_ended_well(&self) -> bool {
        self.ticket.end_of() == Some(End::Over)
    }

    fn end(&self) {
        // Only the caller itself could wait.
        drop(self.ticket.end(End::Over));
    }

    /// Ends the subscription. The consumer may subscribe again immediately.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // A child made by fork leaves it to its parent.
        if extend::check_process(&self.options.stream).is_ok() {
            self.end();
        }
    }
}

/// Returns the bytes that count towards the limit: keys, data and headers.
fn bytes_of(batch: &Batch) -> u64 {
    let bytes = batch.iter().map(|record| {
        let headers: usize = record.headers().map(|(name, value)| name.len() + value.len()).sum();
        record.partition_key().len() + record.data().len() + headers
    });
    bytes.sum::<usize>() as u64
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A future that waits for the next event of a subscription. [`Subscription::next`] returns it.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct NextEvent<'a> {
    subscription: &'a mut Subscription,
}

impl Future for NextEvent<'_> {
    type Output = Result<Option<SubscriptionEvent>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.subscription.poll_next(context)
    }
}

impl Drop for NextEvent<'_> {
    fn drop(&mut self) {
        self.subscription.stop_waiting();
    }
}
