//! Waiting for one shard, or for any of several.

use std::sync::Arc;
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
    let iterators: Vec<&ShardIterator> = iterators.into_iter().collect();
    let ready = || iterators.iter().position(|iterator| iterator.is_readable());
    if let Some(index) = ready() {
        return Ok(Some(index));
    }
    // A timeout beyond the range of `Instant` means to wait without a deadline.
    let deadline = Instant::now().checked_add(timeout);
    if iterators.is_empty() {
        return Ok(None);
    }
    let waiter = Arc::new(Waiter::default());
    let outcome = loop {
        // Each shard is checked again under its append lock, where no put can come between the check and the registration.
        let mut open_count = 0;
        let found = iterators.iter().position(|iterator| {
            let waker = iterator.reader().waker();
            let can_come =
                waker.is_some_and(|waker| waker.wake_later(&waiter, &mut || !iterator.is_readable()));
            open_count += usize::from(can_come);
            iterator.is_readable()
        });
        if found.is_some() {
            break Ok(found);
        }
        if open_count == 0 {
            break Err(Error::Closed);
        }
        if !waiter.park(deadline) {
            break Ok(ready());
        }
    };
    for iterator in &iterators {
        if let Some(waker) = iterator.reader().waker() {
            waker.forget(&waiter);
        }
    }
    outcome
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
}
