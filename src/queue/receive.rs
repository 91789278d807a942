//! Receiving records from a queue, as a thread or as a task.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::handle::QueueRecord;
use super::options::{RECORDS_MAX, check_timeout};
use super::shared::Queue;
use super::take::Request;
use crate::{Error, Result, Timestamp, extend};

/// How long a thread waits before it looks at the clock again. Everything else wakes it.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Queue {
    /// Returns up to `records_max` records, 1 to 10,000, and hides them from others until the queue's visibility timeout ends. If there are none, it
    /// waits until some arrive. It returns none if `wait` passes first.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let queue = stream.queue("jobs").open()?;
    /// assert!(queue.receive(10, Duration::ZERO)?.is_empty());
    /// stream.put("job-17", "resize")?;
    /// let jobs = queue.receive(10, Duration::from_secs(1))?;
    /// assert_eq!(jobs.len(), 1);
    /// assert!(queue.receive(10, Duration::ZERO)?.is_empty(), "it is in flight");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// The delivery is written before the records are returned. After a crash, they stay hidden for the rest of the timeout.
    ///
    /// # Errors
    /// `InvalidArgument` for a number out of range; `Closed`; `Corrupt` if the log is damaged: calling again reads other shards; `StorageFull`,
    /// `Poisoned`, `Io`: nothing was delivered.
    pub fn receive(&self, records_max: usize, wait: Duration) -> Result<Vec<QueueRecord>> {
        self.receive_for(records_max, wait, self.shared.visibility_timeout)
    }

    /// Returns records like [`receive`](Self::receive), with a visibility timeout of their own: up to 12 hours.
    ///
    /// # Errors
    /// Same as [`receive`](Self::receive); `InvalidArgument` for a longer timeout.
    pub fn receive_for(
        &self,
        records_max: usize,
        wait: Duration,
        visibility_timeout: Duration,
    ) -> Result<Vec<QueueRecord>> {
        self.wait_for(Request { visibility_timeout, ..self.request(records_max) }, wait)
    }

    /// Returns dead letters: records that were delivered as often as [`max_receive_count`](crate::QueueOptions::max_receive_count) allows and never
    /// acknowledged. They are delivered like other records, any number of times. Acknowledge them, or put them back with [`restore`](Self::restore).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let queue = stream.queue("jobs").max_receive_count(1).open()?;
    /// stream.put("job-17", "resize")?;
    /// let job = queue.receive(1, Duration::from_secs(1))?.remove(0);
    /// queue.release(&job.handle, Duration::ZERO)?;
    /// assert!(queue.receive(1, Duration::ZERO)?.is_empty());
    /// let dead = queue.receive_dead_letters(1, Duration::ZERO)?.remove(0);
    /// assert_eq!(&*dead.record.data, b"resize");
    /// queue.acknowledge(&dead.handle)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`receive`](Self::receive).
    pub fn receive_dead_letters(&self, records_max: usize, wait: Duration) -> Result<Vec<QueueRecord>> {
        self.wait_for(Request { is_dead: true, ..self.request(records_max) }, wait)
    }

    /// Waits for records as a task of any async runtime, without a timeout and without blocking a thread. It returns the same as
    /// [`receive`](Self::receive), with at least one record.
    ///
    /// The task is woken when a record is put or released, and when the stream ends. When a timeout or delay ends, the next pass of the stream's
    /// [maintenance](crate::Maintenance) wakes it, at most a second later. If maintenance is manual, call [`maintain`](crate::Stream::maintain). A
    /// thread in [`receive`](Self::receive) checks by itself.
    ///
    /// Dropping the future has no effect and loses no record: records are delivered only when the future returns them. So you can use it in a
    /// `select!`.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// # let stream = Stream::open(directory.path())?;
    /// let queue = stream.queue("jobs").open()?;
    /// stream.put("job-17", "resize")?;
    /// for job in queue.next(10).await? {
    ///     queue.acknowledge(&job.handle)?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`receive`](Self::receive).
    pub fn next(&self, records_max: usize) -> NextRecords<'_> {
        NextRecords { waiting: Waiting::new(self), request: self.request(records_max) }
    }

    fn request(&self, records_max: usize) -> Request {
        let visibility_timeout = self.shared.visibility_timeout;
        Request { records_max, bytes_max: usize::MAX, visibility_timeout, is_dead: false }
    }

    fn wait_for(&self, request: Request, wait: Duration) -> Result<Vec<QueueRecord>> {
        let mut waiting = Waiting::new(self);
        // The first look leaves nothing on any list.
        if let Look::Taken(records) = waiting.look(request, None)? {
            return Ok(records);
        }
        // A wait beyond the range of `Instant` is one without a deadline.
        let deadline = Instant::now().checked_add(wait);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            let left = deadline.map_or(Duration::MAX, |it| it.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(vec![]);
            }
            match waiting.look(request, Some(&mut Context::from_waker(&waker)))? {
                Look::Taken(records) => return Ok(records),
                Look::Nothing { due_in } => thread::park_timeout(left.min(due_in).min(LOOK_AGAIN)),
            }
        }
    }
}

enum Look {
    Taken(Vec<QueueRecord>),
    /// Nothing yet, and time alone brings nothing before this has passed.
    Nothing {
        due_in: Duration,
    },
}

/// A caller that waits for records of a queue, or may.
#[derive(Debug)]
struct Waiting<'a> {
    queue: &'a Queue,
    /// The place on the wait lists of the shards.
    records: extend::Waiting,
    /// The place on the queue's list.
    waiter: Option<u64>,
}

impl<'a> Waiting<'a> {
    fn new(queue: &'a Queue) -> Self {
        Self { queue, records: extend::Waiting::default(), waiter: None }
    }

    /// Takes records. If there are none, `context` is woken once there may be some.
    fn look(&mut self, request: Request, context: Option<&mut Context<'_>>) -> Result<Look> {
        extend::check_range("records_max", request.records_max, 1..=RECORDS_MAX)?;
        check_timeout("visibility_timeout", request.visibility_timeout)?;
        let outcome = self.look_until_settled(request, context);
        if !matches!(outcome, Ok(Look::Nothing { .. })) {
            self.end();
        }
        outcome
    }

    fn look_until_settled(
        &mut self,
        request: Request,
        mut context: Option<&mut Context<'_>>,
    ) -> Result<Look> {
        let shared = &self.queue.shared;
        // Dropped after the lock is released: a waker may be the last owner of a task.
        let mut _replaced = None;
        let mut locked = shared.lock()?;
        loop {
            let moment = shared.moment();
            let is_dead = request.is_dead;
            let taken = locked.take(request, moment)?;
            if !taken.is_empty() {
                return Ok(Look::Taken(taken));
            }
            let due = locked.inner().state.next_due();
            let due_in = due.map_or(Duration::MAX, |due: Timestamp| due.since(moment.elapsed));
            let Some(context) = context.as_mut() else { return Ok(Look::Nothing { due_in }) };
            // On the list while the queue is locked, so that no change is missed.
            let waiter = *self.waiter.get_or_insert_with(|| shared.waiter());
            _replaced = shared.wake_later(waiter, is_dead, context.waker());
            let inner = locked.inner();
            if is_dead || shared.is_full(inner) {
                self.records.end();
                return Ok(Look::Nothing { due_in });
            }
            let mut iterators = inner.source.iterators().peekable();
            if iterators.peek().is_none() {
                self.records.end();
                return Ok(Look::Nothing { due_in });
            }
            match self.records.poll_readable(iterators, context) {
                Poll::Pending => return Ok(Look::Nothing { due_in }),
                Poll::Ready(Err(Error::Closed)) if !shared.stream.is_closed() => {
                    return Ok(Look::Nothing { due_in });
                }
                // A record came in between.
                Poll::Ready(ready) => drop(ready?),
            }
        }
    }

    /// Leaves all lists.
    fn end(&mut self) {
        self.records.end();
        if let Some(waiter) = self.waiter.take() {
            self.queue.shared.forget(waiter);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// A future that waits for records of a queue. [`Queue::next`] returns it.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct NextRecords<'a> {
    waiting: Waiting<'a>,
    request: Request,
}

impl NextRecords<'_> {
    /// Sets a visibility timeout for these records, up to 12 hours, as [`Queue::receive_for`] does.
    pub fn visibility_timeout(mut self, timeout: Duration) -> Self {
        self.request.visibility_timeout = timeout;
        self
    }

    /// Waits for dead letters instead, as [`Queue::receive_dead_letters`] does.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let queue = stream.queue("jobs").max_receive_count(1).open()?;
    /// stream.put("job-17", "resize")?;
    /// let job = queue.receive(1, Duration::from_secs(1))?.remove(0);
    /// queue.release(&job.handle, Duration::ZERO)?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let dead = queue.next(10).dead_letters().visibility_timeout(Duration::from_secs(600)).await?;
    /// assert_eq!(&*dead[0].record.data, b"resize");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn dead_letters(mut self) -> Self {
        self.request.is_dead = true;
        self
    }

    /// Takes no more records once their data has reached this many bytes. So the last record may exceed it. Default: no bound.
    pub fn bytes_max(mut self, bytes: usize) -> Self {
        self.request.bytes_max = bytes.max(1);
        self
    }
}

impl Future for NextRecords<'_> {
    type Output = Result<Vec<QueueRecord>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let request = self.request;
        match self.waiting.look(request, Some(context)) {
            Ok(Look::Taken(records)) => Poll::Ready(Ok(records)),
            Ok(Look::Nothing { .. }) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
