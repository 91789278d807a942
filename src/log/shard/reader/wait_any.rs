//! Waiting for one shard, or for any of several.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::WakeReaders;
use super::iterator::ShardIterator;
use super::wait::Waiter;
use crate::log::types::error::{Error, Result};

/// Waits until one of the iterators has something to read or has read its shard to the end, and returns its index, or the first index if
/// there are several. Returns `None` after the timeout.
///
/// # Errors
/// `Closed` if the stream is closed and everything is read.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::{Position, StreamOptions, wait_any};
/// # let directory = tempfile::tempdir()?;
/// let stream = StreamOptions::new().shards(8).open(directory.path())?;
/// let mut iterators = stream
///     .shards()
///     .iter()
///     .map(|shard| stream.iterator(shard.id, Position::Latest))
///     .collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(wait_any(&iterators, Duration::ZERO)?, None);
/// stream.put("user-17", "clicked")?;
/// let ready = wait_any(&iterators, Duration::from_secs(1))?.expect("a record was put");
/// assert_eq!(iterators[ready].next_batch(10)?.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn wait_any<'a>(
    iterators: impl IntoIterator<Item = &'a ShardIterator>,
    timeout: Duration,
) -> Result<Option<usize>> {
    let iterators: Vec<_> = iterators.into_iter().collect();
    let mut waiting = Waiting::default();
    // A timeout beyond the range of `Instant` means to wait without a deadline.
    let deadline = Instant::now().checked_add(timeout);
    if iterators.is_empty() {
        return Ok(None);
    }
    loop {
        if let Some(ready) = waiting.look(&iterators)? {
            return Ok(Some(ready));
        }
        if !waiting.park(deadline) {
            return Ok(first_ready(&iterators));
        }
    }
}

/// Waits like [`wait_any`], in a task of any async runtime, without blocking a thread. The future returns the index of an iterator that has
/// something to read or has read its shard to the end. It is cancel-safe.
///
/// ```
/// # use streamlog::{Position, StreamOptions, any_readable};
/// # let directory = tempfile::tempdir()?;
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let stream = StreamOptions::new().shards(8).open(directory.path())?;
/// let mut iterators = stream
///     .shards()
///     .iter()
///     .map(|shard| stream.iterator(shard.id, Position::Latest))
///     .collect::<Result<Vec<_>, _>>()?;
/// stream.put("user-17", "clicked")?;
/// let ready = any_readable(&iterators).await?;
/// assert_eq!(iterators[ready].next_batch(10)?.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `Closed` if the stream is closed and everything is read, or if there are no iterators.
pub fn any_readable<'a>(iterators: impl IntoIterator<Item = &'a ShardIterator>) -> AnyReadable<'a> {
    AnyReadable { iterators: iterators.into_iter().collect(), waiting: Waiting::default() }
}

/// A future that waits for any of several iterators. [`any_readable`] returns it.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct AnyReadable<'a> {
    iterators: Vec<&'a ShardIterator>,
    waiting: Waiting,
}

impl Future for AnyReadable<'_> {
    type Output = Result<usize>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<usize>> {
        let Self { iterators, waiting } = &mut *self;
        waiting.poll(iterators, context)
    }
}

/// A future that waits for one iterator. [`ShardIterator::readable`] returns it.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Readable<'a> {
    any: AnyReadable<'a>,
}

impl<'a> Readable<'a> {
    pub(crate) fn new(iterators: impl IntoIterator<Item = &'a ShardIterator>) -> Self {
        Self { any: any_readable(iterators) }
    }
}

impl Future for Readable<'_> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.any).poll(context).map_ok(drop)
    }
}

/// A task's wait for any of several iterators, for code that polls by itself and cannot borrow the iterators meanwhile. [`any_readable`] is
/// simpler. It is cancel-safe.
///
/// ```
/// # use std::future::poll_fn;
/// # use streamlog::{Batch, Position, ShardIterator, Stream, extend};
/// async fn next(iterator: &mut ShardIterator) -> streamlog::Result<Batch> {
///     let mut waiting = extend::Waiting::default();
///     poll_fn(|context| waiting.poll_readable([&*iterator], context)).await?;
///     iterator.next_batch(1_000)
/// }
///
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let receipt = stream.put("user-17", "clicked")?;
/// let mut iterator = stream.iterator(receipt.shard, Position::TrimHorizon)?;
/// assert_eq!(pollster::block_on(next(&mut iterator))?.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Waiting {
    /// Created when nothing is ready at the first look.
    waiter: Option<Arc<Waiter>>,
    /// The shards that have the waiter on their lists.
    on: Vec<Weak<dyn WakeReaders>>,
}

impl Waiting {
    /// Returns the index of an iterator that has something to read or has read its shard to the end. If there is none, the task is woken
    /// once there may be one. The iterators may differ from those of the last call: iterators that are left out no longer wake the task.
    ///
    /// # Errors
    /// `Closed` if the stream is closed and everything is read, or if there are no iterators.
    pub fn poll_readable<'a>(
        &mut self,
        iterators: impl IntoIterator<Item = &'a ShardIterator>,
        context: &mut Context<'_>,
    ) -> Poll<Result<usize>> {
        self.poll(&iterators.into_iter().collect::<Vec<_>>(), context)
    }

    fn poll(&mut self, iterators: &[&ShardIterator], context: &mut Context<'_>) -> Poll<Result<usize>> {
        // Set first: a put may come as soon as the waiter is on a list.
        self.waiter().set_waker(context.waker());
        let Some(outcome) = self.look(iterators).transpose() else {
            self.on.iter().filter_map(Weak::upgrade).for_each(|shard| shard.listen());
            return Poll::Pending;
        };
        self.end();
        Poll::Ready(outcome)
    }

    /// Ends the wait: nothing wakes the task any more.
    pub fn end(&mut self) {
        let Some(waiter) = self.waiter.take() else { return };
        forget(&waiter, std::mem::take(&mut self.on));
    }

    /// Parks the thread. If all its notifications come from one source, the thread may do that source's work, which saves a detour through another
    /// thread.
    fn park(&mut self, deadline: Option<Instant>) -> bool {
        let waiter = Arc::clone(self.waiter());
        let on: Vec<_> = self.on.iter().filter_map(Weak::upgrade).collect();
        let notifier = on.first().and_then(|shard| shard.notifier());
        if notifier.is_some() && on.iter().all(|shard| shard.notifier() == notifier) {
            return on[0].park(&waiter, deadline);
        }
        on.iter().for_each(|shard| shard.listen());
        waiter.park(deadline)
    }

    fn waiter(&mut self) -> &Arc<Waiter> {
        self.waiter.get_or_insert_default()
    }

    /// Returns the index of an iterator that is ready. If there is none, the waiter is notified once there may be one.
    fn look(&mut self, iterators: &[&ShardIterator]) -> Result<Option<usize>> {
        if let Some(ready) = first_ready(iterators) {
            return Ok(Some(ready));
        }
        let waiter = Arc::clone(self.waiter());
        // Each shard is checked again under its append lock, where no put can come between the check and the registration.
        let mut open_count = 0;
        let mut on = vec![];
        let found = iterators.iter().position(|iterator| {
            if let Some(waker) = iterator.reader().waker() {
                let can_come = waker.wake_later(&waiter, &mut || !iterator.is_readable());
                open_count += usize::from(can_come);
                on.push(Arc::downgrade(&waker));
            }
            iterator.is_readable()
        });
        let mut left = std::mem::replace(&mut self.on, on);
        if !left.is_empty() {
            let address = |shard: &Weak<dyn WakeReaders>| shard.as_ptr().cast::<()>();
            let kept: BTreeSet<_> = self.on.iter().map(address).collect();
            left.retain(|shard| !kept.contains(&address(shard)));
            forget(&waiter, left);
        }
        if found.is_none() && open_count == 0 {
            return Err(Error::Closed);
        }
        Ok(found)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.end();
    }
}

fn first_ready(iterators: &[&ShardIterator]) -> Option<usize> {
    iterators.iter().position(|iterator| iterator.is_readable())
}

/// Takes a waiter off the lists of shards.
fn forget(waiter: &Arc<Waiter>, shards: Vec<Weak<dyn WakeReaders>>) {
    shards.iter().filter_map(Weak::upgrade).for_each(|shard| shard.forget(waiter));
}

impl ShardIterator {
    /// Waits until there is something to read, or the shard is read to its end. Returns whether that happened before the timeout.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let mut iterator = stream.iterator(stream.shards()[0].id, Position::Latest)?;
    /// assert!(!iterator.wait(Duration::ZERO)?);
    /// stream.put("user-17", "clicked")?;
    /// assert!(iterator.wait(Duration::from_secs(1))?);
    /// assert_eq!(iterator.next_batch(10)?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Closed` if the stream is closed and everything is read.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        Ok(wait_any([self], timeout)?.is_some())
    }

    /// Waits like [`wait`](Self::wait), without a timeout, in a task of an async runtime: see [`any_readable`].
    ///
    /// ```
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let mut iterator = stream.iterator(stream.shards()[0].id, Position::TrimHorizon)?;
    /// stream.put("user-17", "clicked")?;
    /// iterator.readable().await?;
    /// assert_eq!(iterator.next_batch(10)?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn readable(&self) -> Readable<'_> {
        Readable::new([self])
    }
}
