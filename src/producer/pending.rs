//! The receipts of records that are not written yet.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::calling;
use crate::{Error, Receipt, Result};

/// The outcomes of the records of a batch, shared by all their handles.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// One entry for each record once the first outcome is known; `None` for a record that is still being tried.
    known: Mutex<Vec<Option<Result<Receipt>>>>,
    changed: Condvar,
    /// Locked after `known`.
    tasks: Mutex<Tasks>,
}

/// The tasks that wait.
#[derive(Debug, Default)]
struct Tasks {
    /// In the order of their tickets.
    waiting: Vec<Task>,
    next_ticket: u64,
}

impl Tasks {
    fn place_of(&self, ticket: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&ticket, |task| task.ticket).ok()
    }
}

#[derive(Debug)]
struct Task {
    ticket: u64,
    /// The record that it waits for.
    at: u32,
    waker: Waker,
}

impl Outcomes {
    /// Records the outcomes of some records of a batch of `count`, and wakes the threads that wait.
    pub(super) fn tell(&self, count: usize, told: &[(u32, Result<Receipt>)]) {
        let mut known = self.known.lock();
        known.resize(count, None);
        for (at, outcome) in told {
            known[*at as usize] = Some(outcome.clone());
        }
        let told = |at: u32| known.get(at as usize).is_some_and(Option::is_some);
        let woken: Vec<_> = self.tasks.lock().waiting.extract_if(.., |task| told(task.at)).collect();
        drop(known);
        self.changed.notify_all();
        // Without the locks, because waking may run the task immediately.
        woken.into_iter().for_each(|task| task.waker.wake());
    }

    /// Returns the outcome, or arranges for the task with this ticket to be woken once it is known. A task without a ticket gets one.
    fn poll(&self, at: u32, ticket: &mut Option<u64>, waker: &Waker) -> Poll<Result<Receipt>> {
        let known = self.known.lock();
        if let Some(Some(outcome)) = known.get(at as usize) {
            return Poll::Ready(outcome.clone());
        }
        let mut tasks = self.tasks.lock();
        let mut replaced = None;
        if let Some(known) = *ticket {
            let at = tasks.place_of(known).expect("it waits until the outcome is known");
            replaced = Some(std::mem::replace(&mut tasks.waiting[at].waker, waker.clone()));
        } else {
            let new = tasks.next_ticket;
            tasks.next_ticket += 1;
            tasks.waiting.push(Task { ticket: new, at, waker: waker.clone() });
            *ticket = Some(new);
        }
        drop((tasks, known));
        // Without the locks, because a waker may be the last owner of a task that has other receipts.
        drop(replaced);
        Poll::Pending
    }

    /// Forgets a task that no longer waits.
    fn forget(&self, ticket: u64) {
        let mut tasks = self.tasks.lock();
        let forgotten = tasks.place_of(ticket).map(|at| tasks.waiting.remove(at));
        drop(tasks);
        drop(forgotten);
    }

    pub(super) fn get(&self, at: usize) -> Option<Result<Receipt>> {
        self.known.lock().get(at).cloned().flatten()
    }

    fn wait(&self, at: usize, deadline: Option<Instant>) -> Option<Result<Receipt>> {
        let mut known = self.known.lock();
        loop {
            if let Some(Some(outcome)) = known.get(at) {
                return Some(outcome.clone());
            }
            match deadline {
                None => self.changed.wait(&mut known),
                Some(deadline) if Instant::now() >= deadline => return None,
                Some(deadline) => drop(self.changed.wait_until(&mut known, deadline)),
            }
        }
    }
}

/// The receipt of a record that a [`Producer`](crate::Producer) has taken. It has an outcome once the record is written or has failed.
///
/// It is a future, too: `producer.put(…)?.await` waits for the outcome in a task of any async runtime, without blocking a thread. Under
/// [`Durability::Power`](crate::Durability::Power) the outcome comes once the record is on disk, so this is the durable put for tasks: the
/// producer's thread syncs once for a whole batch, however many tasks wait for it.
///
/// It is cheap: the records of a batch share one place for their outcomes. Dropping it changes nothing for the record.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let producer = stream.producer().start()?;
/// let pending = producer.put("user-17", "clicked")?;
/// while pending.wait_timeout(Duration::from_millis(100)).is_none() {
///     // Something else, meanwhile.
/// }
/// assert!(pending.is_done());
/// println!("{:?}", pending.wait()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A hundred durable puts on one thread:
///
/// ```
/// use streamlog::{Durability, Receipt, StreamOptions};
///
/// # let directory = tempfile::tempdir()?;
/// let stream = StreamOptions::new().durability(Durability::Power).open(directory.path())?;
/// let producer = stream.producer().start()?;
/// let puts = (0..100).map(|number| {
///     let producer = &producer;
///     // `try_put` fails with `ProducerFull` instead of waiting for room.
///     async move { producer.try_put(format!("user-{number}"), "/checkout")?.await }
/// });
/// let receipts: Vec<Receipt> = pollster::block_on(futures_util::future::try_join_all(puts))?;
/// assert_eq!(receipts.len(), 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PendingReceipt {
    outcomes: Arc<Outcomes>,
    at: u32,
    /// The producer, by the address that its senders know, or 0 until it hands the receipt out.
    pub(super) producer: usize,
    /// Set once it was polled as a future.
    ticket: Option<u64>,
}

impl PendingReceipt {
    pub(super) fn new(outcomes: Arc<Outcomes>, at: u32) -> Self {
        Self { outcomes, at, producer: 0, ticket: None }
    }

    /// Waits until the record is written. This does not make the producer send sooner: [`flush`](crate::Producer::flush) does.
    ///
    /// Within a callback of the same producer, it fails instead of waiting, because that callback may have to return first.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let producer = stream.producer().start()?;
    /// let receipt = producer.put("user-17", "/checkout")?.wait()?;
    /// assert_eq!(receipt.shard, stream.shards()[0].id);
    /// producer.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` within a callback of the same producer, if the record has no outcome yet; the error of the put;
    /// [`ProducerExpired`](crate::Error::ProducerExpired) if the record's time to live ended first. On an error, the record was not put,
    /// except that after a failed sync under [`Durability::Power`](crate::Durability::Power) it may or may not be there.
    pub fn wait(self) -> Result<Receipt> {
        if calling::sends_for(self.producer) && !self.is_done() {
            let reason =
                "a callback cannot wait for its own producer: wait for the receipt in another thread";
            return Err(Error::InvalidArgument(reason.into()));
        }
        loop {
            if let Some(outcome) = self.outcomes.wait(self.at as usize, None) {
                return outcome;
            }
        }
    }

    /// Waits at most this long. Returns `None` if the record has no outcome yet. It can be called any number of times.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<Receipt>> {
        // A timeout beyond the range of `Instant` means to wait without a deadline.
        self.outcomes.wait(self.at as usize, Instant::now().checked_add(timeout))
    }

    /// Returns whether the record is written or has failed, so that [`wait`](Self::wait) returns immediately.
    pub fn is_done(&self) -> bool {
        self.outcomes.get(self.at as usize).is_some()
    }
}

/// Waits like [`wait`](Self::wait). Awaiting a clone again returns the same outcome.
impl Future for PendingReceipt {
    type Output = Result<Receipt>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Receipt>> {
        let Self { outcomes, at, ticket, .. } = &mut *self;
        outcomes.poll(*at, ticket, context.waker())
    }
}

impl Clone for PendingReceipt {
    fn clone(&self) -> Self {
        Self { outcomes: Arc::clone(&self.outcomes), at: self.at, producer: self.producer, ticket: None }
    }
}

impl Drop for PendingReceipt {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.outcomes.forget(ticket);
        }
    }
}

impl fmt::Debug for PendingReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PendingReceipt").field(&self.outcomes.get(self.at as usize)).finish()
    }
}
