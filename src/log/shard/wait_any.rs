//! Waiting for any of many shards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Shard;
use super::appender::State;
use super::iterator::ShardIterator;
use super::wait::Waiter;
use crate::log::types::error::{Error, Result};

/// Waits until one of the iterators has something to read, or has read its shard to the end; tells which one, the first in order
/// if there are several, or `None` after the timeout.
///
/// # Errors
/// `Closed` if the stream is closed and all of it is read.
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
    // One that cannot be told apart from never is waited for without a deadline.
    let deadline = Instant::now().checked_add(timeout);
    if iterators.is_empty() {
        return Ok(None);
    }
    let waiter = Arc::new(Waiter::default());
    let outcome = loop {
        // Each shard is looked at again under its append lock, where no put can come between looking and waiting.
        let mut open_count = 0;
        let found = iterators.iter().position(|iterator| {
            let is_open = iterator.of().wait_in_line(&waiter, || !iterator.is_readable());
            open_count += usize::from(is_open);
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
        iterator.of().leave_line(&waiter);
    }
    outcome
}

impl Shard {
    /// Puts a waiter on the list of those to be woken by the next put, if it still has to wait; tells whether there can be one.
    fn wait_in_line(&self, waiter: &Arc<Waiter>, must_wait: impl FnOnce() -> bool) -> bool {
        let mut appender = self.appender.lock();
        if must_wait() {
            appender.waiting.add(waiter);
        }
        appender.state != State::StreamClosed
    }

    fn leave_line(&self, waiter: &Arc<Waiter>) {
        self.appender.lock().waiting.remove(waiter);
    }
}
