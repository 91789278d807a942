//! The queues of a stream, by their names.

use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use super::shared::Shared;
use crate::extend::StreamsInside;
use crate::{Error, Result, Stream, StreamReader, extend};

/// Returns the streams that keep the state of a stream's queues.
pub(super) fn streams_of(stream: &StreamReader) -> StreamsInside<'_> {
    extend::streams_inside(stream, "queues")
}

/// Returns the name of a queue's hold. No consumer group has a name like it.
pub(super) fn hold_name(queue: &str) -> String {
    format!("queue:{queue}")
}

/// The open queues of a stream.
#[derive(Debug, Default)]
struct Queues {
    open: Mutex<Vec<Weak<Shared>>>,
    is_attended: OnceLock<()>,
}

impl Queues {
    fn attend(&self) {
        let open: Vec<_> = self.open.lock().iter().filter_map(Weak::upgrade).collect();
        // Without the lock: this may run tasks, and they may open queues.
        open.iter().for_each(|queue| queue.attend());
    }
}

/// Makes the maintenance attend to an open queue. If another process may have the stream open, the maintenance of the queue's journal does so.
pub(super) fn attend(queue: &Arc<Shared>, journal: &Stream) {
    let queues = extend::extension::<Queues>(&queue.stream);
    let mut open = queues.open.lock();
    open.retain(|known| known.strong_count() > 0);
    open.push(Arc::downgrade(queue));
    drop(open);
    let attend = |queues: &Arc<Queues>| {
        let queues = Arc::downgrade(queues);
        move |_: &StreamReader| {
            if let Some(queues) = queues.upgrade() {
                queues.attend();
            }
        }
    };
    if queue.stream.is_own() {
        queues.is_attended.get_or_init(|| extend::after_maintenance(&queue.stream, attend(&queues)));
    } else {
        extend::after_maintenance(journal, attend(&queues));
    }
}

impl Shared {
    /// Does what cannot wait for a call: makes records visible while all callers wait, forgets what retention has dropped, and wakes those that
    /// wait for the stream after it is closed.
    fn attend(&self) {
        match self.lock() {
            Ok(mut locked) => {
                let moment = self.moment();
                // If the changes cannot be written, the next call reports it.
                let _ = locked.settle(moment);
                let inner = locked.inner();
                let _ = inner.source.expire(&mut inner.state);
                let _ = locked.commit(moment);
                self.release_hold(locked.inner());
            }
            Err(_) => {
                self.wake(false);
                self.wake(true);
            }
        }
    }
}

impl StreamReader {
    /// Returns the names of the stream's queues, in order.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let _queue = stream.queue("jobs").open()?;
    /// assert_eq!(stream.queues()?, ["jobs"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io`.
    pub fn queues(&self) -> Result<Vec<String>> {
        streams_of(self).names()
    }

    /// Deletes a queue with its dead letters, even if it is damaged, and with its [hold](crate::QueueOptions::hold). The records stay in the
    /// stream.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.queue("jobs").open()?.close()?;
    /// stream.delete_queue("jobs")?;
    /// assert!(stream.queues()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` if the stream has no such queue, or if the queue has a hold and another process may have the stream open; `Locked`
    /// if the queue is open; `Closed`, `StorageFull`, `Io`.
    pub fn delete_queue(&self, name: &str) -> Result<()> {
        extend::check_name("a queue", name)?;
        extend::check_process(self)?;
        let hold = hold_name(name);
        let has_hold = self.describe().holds.iter().any(|known| known.name == hold);
        if has_hold && !self.is_own() {
            let reason = format!(
                "the queue {name:?} has a hold on retention: delete it in the process that has the stream open"
            );
            return Err(Error::InvalidArgument(reason.into()));
        }
        let deleted = streams_of(self).delete(name);
        // Also for a queue whose deletion was interrupted here.
        if has_hold && matches!(deleted, Ok(()) | Err(Error::NotAStream(_))) {
            extend::hold(self, &hold).end()?;
        }
        match deleted {
            Err(Error::NotAStream(_)) => Err(is_missing(name)),
            deleted => deleted,
        }
    }
}

pub(super) fn is_missing(name: &str) -> Error {
    Error::InvalidArgument(format!("the stream has no queue {name:?}").into())
}
