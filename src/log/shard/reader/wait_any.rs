//! Waiting for one shard, or for any of several.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::iterator::ShardIterator;
use super::wait::Waiter;
use crate::log::types::error::{Error, Result};

/// Waits until one of the iterators has something to read or has read its shard to the end, and returns its index, the first if there are
/// several. Returns `None` after the timeout.
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
    let mut waiting = Waiting::new(iterators);
    // A timeout beyond the range of `Instant` means to wait without a deadline.
    let deadline = Instant::now().checked_add(timeout);
    if waiting.iterators.is_empty() {
        return Ok(None);
    }
    loop {
        if let Some(ready) = waiting.look()? {
            return Ok(Some(ready));
        }
        if !waiting.waiter().park(deadline) {
            return Ok(waiting.ready());
        }
    }
}

/// Waits like [`wait_any`], as a task of an async runtime. No thread is blocked, and no runtime is needed in particular. The future
/// returns the index of an iterator that has something to read or has read its shard to the end. Dropping it leaves nothing behind.
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
    AnyReadable { waiting: Waiting::new(iterators) }
}

/// A future that waits for any of several iterators. [`any_readable`] returns it.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct AnyReadable<'a> {
    waiting: Waiting<'a>,
}

impl Future for AnyReadable<'_> {
    type Output = Result<usize>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<usize>> {
        // Set first: a put may come as soon as the waiter is on a list.
        self.waiting.waiter().set_waker(context.waker());
        match self.waiting.look() {
            Ok(Some(ready)) => Poll::Ready(Ok(ready)),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
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

/// Somebody who waits for any of several iterators. Dropping it takes the waiter off the shards' lists.
#[derive(Debug)]
struct Waiting<'a> {
    iterators: Vec<&'a ShardIterator>,
    /// Created when nothing is ready at the first look.
    waiter: Option<Arc<Waiter>>,
}

impl<'a> Waiting<'a> {
    fn new(iterators: impl IntoIterator<Item = &'a ShardIterator>) -> Self {
        Self { iterators: iterators.into_iter().collect(), waiter: None }
    }

    fn waiter(&mut self) -> &Arc<Waiter> {
        self.waiter.get_or_insert_default()
    }

    fn ready(&self) -> Option<usize> {
        self.iterators.iter().position(|iterator| iterator.is_readable())
    }

    /// Returns the index of an iterator that is ready. If there is none, the waiter is notified once there may be one.
    fn look(&mut self) -> Result<Option<usize>> {
        if let Some(ready) = self.ready() {
            return Ok(Some(ready));
        }
        let waiter = Arc::clone(self.waiter());
        // Each shard is checked again under its append lock, where no put can come between the check and the registration.
        let mut open_count = 0;
        let found = self.iterators.iter().position(|iterator| {
            let waker = iterator.reader().waker();
            let can_come =
                waker.is_some_and(|waker| waker.wake_later(&waiter, &mut || !iterator.is_readable()));
            open_count += usize::from(can_come);
            iterator.is_readable()
        });
        if found.is_none() && open_count == 0 {
            return Err(Error::Closed);
        }
        Ok(found)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(waiter) = &self.waiter else { return };
        for iterator in &self.iterators {
            if let Some(waker) = iterator.reader().waker() {
                waker.forget(waiter);
            }
        }
    }
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

    /// Waits like [`wait`](Self::wait), without a timeout, as a task of an async runtime: see [`any_readable`].
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
