//! What is done with records that a queue has handed out: acknowledge, release, extend, restore.

use std::time::Duration;

use super::entry::Moment;
use super::handle::ReceiptHandle;
use super::options::{RECORDS_MAX, check_timeout};
use super::shared::{Locked, Queue};
use super::source::begin_at;
use super::state::State;
use crate::{Error, Position, Result, extend};

impl Queue {
    /// Marks a record as done: it is never delivered again. This also removes a dead letter.
    ///
    /// A handle stays valid after the visibility timeout, until the record is delivered again or becomes a dead letter.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::{Error, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let queue = stream.queue("jobs").open()?;
    /// stream.put("job-17", "resize")?;
    /// let job = queue.receive(1, Duration::from_secs(1))?.remove(0);
    /// queue.acknowledge(&job.handle)?;
    /// assert!(matches!(queue.acknowledge(&job.handle), Err(Error::ReceiptHandleInvalid { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// When it returns, the acknowledgement survives the death of the process. It survives power loss like a put to the stream.
    ///
    /// # Errors
    /// `ReceiptHandleInvalid` if the record was delivered again, released, acknowledged, buried or dropped since; `InvalidArgument` for a handle of
    /// another queue. `StorageFull`, `Poisoned`, `Io`: the record is still in flight. `Closed`.
    pub fn acknowledge(&self, handle: &ReceiptHandle) -> Result<()> {
        self.change(handle, |state, _| state.acknowledge(handle.place(), handle.number))
    }

    /// Acknowledges up to 10,000 records in one call, much faster than one by one. Returns one result for each, in the same order.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let queue = stream.queue("jobs").open()?;
    /// stream.put("job-17", "resize")?;
    /// stream.put("job-18", "resize")?;
    /// let jobs = queue.receive(10, Duration::from_secs(1))?;
    /// for outcome in queue.acknowledge_batch(jobs.iter().map(|job| &job.handle))? {
    ///     outcome?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`acknowledge`](Self::acknowledge): errors of single handles are in the returned results. All other errors fail the call, which then
    /// has changed nothing. `InvalidArgument` for more than 10,000 handles.
    pub fn acknowledge_batch<'a>(
        &self,
        handles: impl IntoIterator<Item = &'a ReceiptHandle>,
    ) -> Result<Vec<Result<()>>> {
        self.change_batch(handles, |state, handle, _| state.acknowledge(handle.place(), handle.number))
    }

    /// Returns a record to the queue, which delivers it again: immediately, or after a delay of up to 12 hours. Its receive count stays. If this was
    /// its last delivery, the record becomes a dead letter.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let queue = stream.queue("jobs").open()?;
    /// stream.put("job-17", "resize")?;
    /// let job = queue.receive(1, Duration::from_secs(1))?.remove(0);
    /// queue.release(&job.handle, Duration::ZERO)?;
    /// let again = queue.receive(1, Duration::from_secs(1))?.remove(0);
    /// assert_eq!(again.receive_count, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`acknowledge`](Self::acknowledge); `ReceiptHandleInvalid` also after the visibility timeout; `InvalidArgument` for a longer
    /// delay.
    pub fn release(&self, handle: &ReceiptHandle, delay: Duration) -> Result<()> {
        check_timeout("delay", delay)?;
        self.change(handle, |state, moment| {
            state.release(handle.place(), handle.number, moment.elapsed, delay)
        })
    }

    /// Sets how long a record stays hidden, counted from now: up to 12 hours, like `ChangeMessageVisibility` in SQS. The handle stays valid. With a
    /// timeout of zero, the record is visible immediately, and may still be acknowledged until it is delivered again.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let queue = stream.queue("jobs").open()?;
    /// stream.put("job-17", "resize")?;
    /// let job = queue.receive(1, Duration::from_secs(1))?.remove(0);
    /// // It takes longer than expected:
    /// queue.extend(&job.handle, Duration::from_secs(600))?;
    /// queue.acknowledge(&job.handle)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`release`](Self::release).
    pub fn extend(&self, handle: &ReceiptHandle, timeout: Duration) -> Result<()> {
        check_timeout("timeout", timeout)?;
        self.change(handle, |state, moment| {
            state.extend(handle.place(), handle.number, moment.elapsed + timeout)
        })
    }

    /// Moves a dead letter back to the other records, as if it had never been delivered: its receive count starts again.
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
    /// // ... once the cause is removed:
    /// for dead in queue.receive_dead_letters(10, Duration::ZERO)? {
    ///     queue.restore(&dead.handle)?;
    /// }
    /// assert_eq!(queue.receive(1, Duration::ZERO)?[0].receive_count, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`acknowledge`](Self::acknowledge); `ReceiptHandleInvalid` also for a record that is not a dead letter.
    pub fn restore(&self, handle: &ReceiptHandle) -> Result<()> {
        self.change(handle, |state, _| state.restore(handle.place(), handle.number))
    }

    /// Drops from the queue all records that were put until now, delivered or not, except dead letters. The records stay in the stream.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let queue = stream.queue("jobs").open()?;
    /// stream.put("job-17", "resize")?;
    /// queue.purge()?;
    /// assert!(queue.receive(10, Duration::ZERO)?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `StorageFull`, `Poisoned`, `Io`: some of the records may have been dropped. `Closed`.
    pub fn purge(&self) -> Result<()> {
        let mut locked = self.shared.lock()?;
        let moment = self.shared.moment();
        let inner = locked.inner();
        begin_at(&self.shared.stream, Position::Latest, &mut inner.state)?;
        // What was read ahead is among the records that are given up.
        inner.source.reset();
        loop {
            let purged_count = locked.inner().state.purge();
            locked.commit(moment)?;
            if purged_count == 0 {
                return Ok(());
            }
        }
    }

    /// Changes a record by its handle. `change` returns whether the handle was valid.
    fn change(&self, handle: &ReceiptHandle, change: impl FnOnce(&mut State, Moment) -> bool) -> Result<()> {
        self.check_own(handle)?;
        let mut locked = self.shared.lock()?;
        let moment = self.shared.moment();
        locked.settle(moment)?;
        if !change(&mut locked.inner().state, moment) {
            return Err(invalid(handle));
        }
        // A record that was extended by no time is visible immediately.
        locked.settle(moment)
    }

    fn change_batch<'a>(
        &self,
        handles: impl IntoIterator<Item = &'a ReceiptHandle>,
        mut change: impl FnMut(&mut State, &ReceiptHandle, Moment) -> bool,
    ) -> Result<Vec<Result<()>>> {
        let handles: Vec<_> = handles.into_iter().collect();
        extend::check_range("the number of handles", handles.len(), 0..=RECORDS_MAX)?;
        let mut locked: Locked<'_> = self.shared.lock()?;
        let moment = self.shared.moment();
        locked.settle(moment)?;
        let outcomes = handles.into_iter().map(|handle| {
            self.check_own(handle)?;
            let is_valid = change(&mut locked.inner().state, handle, moment);
            if is_valid { Ok(()) } else { Err(invalid(handle)) }
        });
        let outcomes = outcomes.collect();
        locked.commit(moment)?;
        Ok(outcomes)
    }

    fn check_own(&self, handle: &ReceiptHandle) -> Result<()> {
        if self.shared.is_own(handle) {
            return Ok(());
        }
        let reason = format!(
            "the receipt handle {handle} is not one of the queue {:?}: use the queue that handed the record out",
            self.shared.name
        );
        Err(Error::InvalidArgument(reason.into()))
    }
}

fn invalid(handle: &ReceiptHandle) -> Error {
    Error::ReceiptHandleInvalid { shard: handle.shard, sequence: handle.sequence }
}
