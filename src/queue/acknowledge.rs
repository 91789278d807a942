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
    /// Notes that a record is done: it is never handed out again. For a dead letter, too.
    ///
    /// A handle stays valid after the visibility timeout, until the record is handed out again or becomes a dead letter.
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
    /// When it returns, this survives the death of the process. It survives power loss like a put to the stream.
    ///
    /// # Errors
    /// `ReceiptHandleInvalid` if the record was handed out again, released, acknowledged, buried or dropped since; `InvalidArgument` for a
    /// handle of another queue. `StorageFull`, `Poisoned`, `Io`: the record is still in flight. `Closed`.
    pub fn acknowledge(&self, handle: &ReceiptHandle) -> Result<()> {
        self.change(handle, |state, _| state.acknowledge(handle.place(), handle.number))
    }

    /// Acknowledges up to 10,000 records at once, which is much faster than one by one. Returns one result for each, in their order.
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
    /// Same as [`acknowledge`](Self::acknowledge): those of single handles in their place, and all others for the call, which then has
    /// changed nothing. `InvalidArgument` for more than 10,000 handles.
    pub fn acknowledge_batch<'a>(
        &self,
        handles: impl IntoIterator<Item = &'a ReceiptHandle>,
    ) -> Result<Vec<Result<()>>> {
        self.change_batch(handles, |state, handle, _| state.acknowledge(handle.place(), handle.number))
    }

    /// Gives a record back, to be handed out again: at once, or after a delay of up to 12 hours. Its receive count stays. A record that was
    /// handed out for the last time becomes a dead letter.
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

    /// Sets for how long from now on a record stays hidden, as `ChangeMessageVisibility` does in SQS: up to 12 hours. The handle stays valid. With
    /// no time at all, the record is visible at once, and may still be acknowledged until it is handed out again.
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

    /// Puts a dead letter back among the other records, as if it had never been handed out: its receive count begins again.
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
    /// Same as [`acknowledge`](Self::acknowledge); `ReceiptHandleInvalid` also for a record that is no dead letter.
    pub fn restore(&self, handle: &ReceiptHandle) -> Result<()> {
        self.change(handle, |state, _| state.restore(handle.place(), handle.number))
    }

    /// Gives up all records that were put until now, whether they were handed out or not, but no dead letters. The records stay in the
    /// stream.
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
    /// `StorageFull`, `Poisoned`, `Io`: a part of the records may be given up. `Closed`.
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
        // What was extended by no time is visible at once.
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
