//! The batches of a worker as a `Stream` of the crate `futures`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::worker::Worker;
use crate::{Batch, Error, Result};

/// The batches of a worker as a [`Stream`](futures_core::Stream): all existing ones, and then new ones as they arrive.
/// [`Worker::into_batches`] returns it.
///
/// - It ends once the stream of records is closed. No batch is empty.
/// - After an error it ends too, so that a loop ends. To continue, call [`get_mut`](Self::get_mut), for example to skip lost records.
/// - A batch is taken only when it is returned, so nothing is lost if a task stops waiting. A task that waits costs no thread.
/// - The worker counts as alive while the task waits, until the stream is polled again or dropped, or its worker is taken.
///
/// ```
/// use futures_util::TryStreamExt;
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let mut batches = stream.group("billing").worker().open()?.into_batches();
/// stream.put("user-17", "clicked")?;
/// while let Some(batch) = batches.try_next().await? {
///     println!("{} records", batch.len());
///     batches.get_mut().commit(&batch)?;
/// #   break;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a stream does nothing unless it is polled"]
pub struct WorkerBatches {
    worker: Worker,
    /// Whether an error was returned since the caller last used the worker.
    has_failed: bool,
}

impl Worker {
    /// Returns the worker's batches as a `Stream` of the crate `futures`. It waits for new records. Needs the cargo feature `futures`.
    pub fn into_batches(self) -> WorkerBatches {
        WorkerBatches { worker: self, has_failed: false }
    }
}

impl WorkerBatches {
    /// Returns the worker.
    pub fn get_ref(&self) -> &Worker {
        &self.worker
    }

    /// Returns the worker, to commit, to skip or to seek. After an error, this lets the batches continue.
    pub fn get_mut(&mut self) -> &mut Worker {
        self.has_failed = false;
        self.worker.stop_waiting();
        &mut self.worker
    }

    /// Returns the worker. It continues after the last batch.
    pub fn into_inner(mut self) -> Worker {
        self.worker.stop_waiting();
        self.worker
    }
}

impl futures_core::Stream for WorkerBatches {
    type Item = Result<Batch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Batch>>> {
        if std::mem::take(&mut self.has_failed) {
            return Poll::Ready(None);
        }
        let outcome = ready!(self.worker.poll_next(context));
        if matches!(outcome, Err(Error::Closed)) {
            return Poll::Ready(None);
        }
        self.has_failed = outcome.is_err();
        Poll::Ready(Some(outcome))
    }
}
