//! Waiting for a worker's next batch, as a thread or as a task.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::bell::Bell;
use super::worker::Worker;
use crate::{Batch, Error, Result};

/// How long a thread waits before it checks whether the lease of a silent worker is over. Everything else wakes it.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Worker {
    /// Returns the next batch from one of the worker's shards, which take turns. Returns `None` if there is none before the timeout.
    ///
    /// A worker may poll several batches of one shard without a commit in between. A worker that joins gets shards of other workers once
    /// these have committed the records that they received.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let mut worker = stream.group("billing").worker().open()?;
    /// assert!(worker.poll(Duration::ZERO)?.is_none());
    /// stream.put("user-17", "clicked")?;
    /// let batch = worker.poll(Duration::from_secs(1))?.expect("a record was put");
    /// assert_eq!(batch.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Trimmed` if retention has overtaken the group, unless the worker is set to skip: call [`skip_to_horizon`](Self::skip_to_horizon) to
    /// continue. `Lost` if records were lost to damage: call [`skip_lost`](Self::skip_lost). `Corrupt` if the log is damaged. After each of
    /// these errors, calling again reads other shards. `Closed` once the stream is closed and everything is read. `StorageFull`, `Poisoned`
    /// or `Io` if a checkpoint cannot be written.
    pub fn poll(&mut self, timeout: Duration) -> Result<Option<Batch>> {
        let outcome = self.poll_until(timeout);
        self.stop_waiting();
        outcome
    }

    fn poll_until(&mut self, timeout: Duration) -> Result<Option<Batch>> {
        let (mut deadline, mut bell) = (None, None);
        loop {
            if let Some(batch) = self.try_next()? {
                return Ok(Some(batch));
            }
            // A timeout beyond the range of `Instant` means to wait without a deadline.
            let deadline = *deadline.get_or_insert_with(|| Instant::now().checked_add(timeout));
            let left = deadline.map_or(Duration::MAX, |it| it.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            let bell = bell.get_or_insert_with(Arc::<Bell>::default);
            if self.wake_later(&mut Context::from_waker(&Arc::clone(bell).into()))? {
                bell.wait(left.min(LOOK_AGAIN));
            }
        }
    }

    /// Waits for the next batch in a task of any async runtime, without a timeout. No thread is blocked. It returns what
    /// [`poll`](Self::poll) returns.
    ///
    /// A record in one of the worker's shards, a change of its leases, and the end of the stream wake the task. The lease of a worker that is
    /// silent for too long ends when another worker of the group makes a call, or else with the next pass of the stream's
    /// [maintenance](crate::Maintenance), at most a second later. If maintenance is manual, call [`maintain`](crate::Stream::maintain). That
    /// pass also wakes the task for a shard that the stream's [limits](crate::Limits) throttle. A thread in [`poll`](Self::poll) does not need
    /// it.
    ///
    /// A worker counts as alive as long as the future exists. So await the future or drop it, and do not store it. It is cancel-safe: a
    /// batch is taken only when the future returns it, so dropping it loses nothing, and it may be used in a `select!`.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// # let stream = Stream::open(directory.path())?;
    /// let mut worker = stream.group("billing").worker().open()?;
    /// stream.put("user-17", "clicked")?;
    /// let batch = worker.next().await?;
    /// assert_eq!(batch.len(), 1);
    /// worker.commit(&batch)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`poll`](Self::poll).
    #[expect(clippy::should_implement_trait, reason = "what a task awaits is called `next` everywhere")]
    pub fn next(&mut self) -> NextBatch<'_> {
        NextBatch { worker: self }
    }

    /// Returns the next batch, or arranges for the task to be woken once there may be one.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Batch>> {
        let outcome = loop {
            match self.try_next() {
                Ok(Some(batch)) => break Ok(batch),
                Ok(None) => {}
                Err(error) => break Err(error),
            }
            match self.wake_later(context) {
                Ok(true) => return Poll::Pending,
                Ok(false) => {}
                Err(error) => break Err(error),
            }
        };
        self.stop_waiting();
        Poll::Ready(outcome)
    }

    /// Arranges for the caller to be woken once the worker may read something. Returns false if it may already. Until
    /// [`stop_waiting`](Self::stop_waiting), the worker counts as alive.
    fn wake_later(&mut self, context: &mut Context<'_>) -> Result<bool> {
        self.is_waiting = true;
        let version = self.version.unwrap_or_default();
        if !self.state.begin_wait(self.id, self.options.lease_timeout, version, context.waker()) {
            return Ok(false);
        }
        // Checked after the waker is registered: closing the stream wakes it.
        let is_closed = self.options.group.reader.is_closed();
        let open = self.readings.iter().filter(|reading| reading.is_to_read());
        // Throttled shards are readable already. Only time, or closing the stream, ends the wait for them.
        let (throttled, open): (Vec<_>, Vec<_>) =
            open.partition(|reading| !is_closed && self.is_throttled(reading));
        if !throttled.is_empty() {
            self.state.wake_with_maintenance();
        }
        let mut iterators = open.iter().filter_map(|reading| reading.iterator.as_ref()).peekable();
        if iterators.peek().is_none() {
            self.records.end();
            return if is_closed { Err(Error::Closed) } else { Ok(true) };
        }
        match self.records.poll_readable(iterators, context) {
            Poll::Pending => Ok(true),
            // Closed meanwhile.
            Poll::Ready(Err(Error::Closed)) if !throttled.is_empty() => Ok(false),
            Poll::Ready(ready) => ready.map(|_| false),
        }
    }

    /// Removes the worker from all wait lists.
    pub(super) fn stop_waiting(&mut self) {
        if std::mem::take(&mut self.is_waiting) {
            self.records.end();
            self.state.end_wait(self.id, self.options.lease_timeout);
        }
    }
}

/// A future that waits for the next batch of a worker. [`Worker::next`] returns it.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct NextBatch<'a> {
    worker: &'a mut Worker,
}

impl NextBatch<'_> {
    /// Returns the worker.
    pub(crate) fn worker(&self) -> &Worker {
        self.worker
    }
}

impl Future for NextBatch<'_> {
    type Output = Result<Batch>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Batch>> {
        self.worker.poll_next(context)
    }
}

impl Drop for NextBatch<'_> {
    fn drop(&mut self) {
        self.worker.stop_waiting();
    }
}
