//! The batches of an iterator as a `Stream` of the crate `futures`.

use std::pin::Pin;
use std::slice;
use std::task::{Context, Poll};

use super::batch::Batch;
use super::iterator::ShardIterator;
use super::wait_any::Waiting;
use crate::log::types::error::{Error, Result};

/// The batches of a [`ShardIterator`] or a [`LineageIterator`](crate::LineageIterator) as a [`Stream`](futures_core::Stream): all existing
/// ones, and then new ones as they arrive. [`ShardIterator::into_batches`] and
/// [`LineageIterator::into_batches`](crate::LineageIterator::into_batches) return it.
///
/// - It ends once the shard is read to its end, or once the stream of records is closed and everything is read. No batch is empty.
/// - After an error it ends too, so that a loop ends; the iterator stays where it was. To continue, call [`get_mut`](Self::get_mut), for
///   example to skip lost records.
/// - A batch is taken only when it is returned, so nothing is lost if a task stops waiting. A task that waits costs no thread.
///
/// ```
/// use futures_util::TryStreamExt;
/// # use streamlog::{Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let receipt = stream.put("user-17", "clicked")?;
/// let mut batches = stream.iterator(receipt.shard, Position::TrimHorizon)?.into_batches(1_000);
/// # stream.close()?;
/// while let Some(batch) = batches.try_next().await? {
///     println!("{} records", batch.len());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a stream does nothing unless it is polled"]
pub struct Batches<I> {
    iterator: I,
    records_max: usize,
    waiting: Waiting,
    /// Whether an error was returned since the caller last used the iterator.
    has_failed: bool,
}

impl<I> Batches<I> {
    pub(crate) fn new(iterator: I, records_max: usize) -> Self {
        // Batches of no records would never end.
        Self { iterator, records_max: records_max.max(1), waiting: Waiting::default(), has_failed: false }
    }

    /// Returns the iterator.
    pub fn get_ref(&self) -> &I {
        &self.iterator
    }

    /// Returns the iterator, to skip or to seek. After an error, this lets the batches continue.
    pub fn get_mut(&mut self) -> &mut I {
        self.has_failed = false;
        &mut self.iterator
    }

    /// Returns the iterator. It continues after the last batch.
    pub fn into_inner(self) -> I {
        self.iterator
    }

    /// Returns what `Stream::poll_next` returns. `reading` returns the shards in which the next record may come.
    pub(crate) fn poll_batch(
        &mut self,
        context: &mut Context<'_>,
        read: impl Fn(&mut I, usize) -> Result<Batch>,
        reading: impl Fn(&I) -> &[ShardIterator],
    ) -> Poll<Option<Result<Batch>>> {
        if std::mem::take(&mut self.has_failed) {
            return Poll::Ready(None);
        }
        let outcome = loop {
            match read(&mut self.iterator, self.records_max) {
                Ok(batch) if !batch.is_empty() => break Ok(batch),
                Ok(batch) if batch.child_shards().is_some() => break Err(Error::Closed),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
            match self.waiting.poll_readable(reading(&self.iterator), context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => break Err(error),
            }
        };
        self.waiting.end();
        if matches!(outcome, Err(Error::Closed)) {
            return Poll::Ready(None);
        }
        self.has_failed = outcome.is_err();
        Poll::Ready(Some(outcome))
    }
}

impl ShardIterator {
    /// Returns the batches of the shard as a `Stream` of the crate `futures`, each of up to `records_max` records and at least one. It waits
    /// for new records. Needs the cargo feature `futures`.
    ///
    /// When it ends, the iterator returns the child shards:
    ///
    /// ```
    /// use futures_util::TryStreamExt;
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let parent = stream.put("user-17", "clicked")?.shard;
    /// let children = stream.split_shard_evenly(parent)?;
    /// let mut batches = stream.iterator(parent, Position::TrimHorizon)?.into_batches(1_000);
    /// while let Some(batch) = batches.try_next().await? {
    ///     println!("{} records", batch.len());
    /// }
    /// let end = batches.into_inner().next_batch(1)?;
    /// assert_eq!(end.child_shards(), Some(&children[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_batches(self, records_max: usize) -> Batches<Self> {
        Batches::new(self, records_max)
    }
}

impl futures_core::Stream for Batches<ShardIterator> {
    type Item = Result<Batch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Batch>>> {
        self.poll_batch(context, ShardIterator::next_batch, slice::from_ref)
    }
}
