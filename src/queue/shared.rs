//! An open queue: its state behind a lock, the journal that keeps it, and the waiters for records.
//!
//! **Every call:** the lock is taken → the state is changed → the changes are written to the journal → they are kept, and the call returns. If
//! they cannot be written, they are undone. So what a call has returned survives what a put survives, and the journal has the changes in the
//! order in which they were made.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::entry::Moment;
use super::handle::ReceiptHandle;
use super::history::{restated, write_changes};
use super::put::Putting;
use super::queues;
use super::settings::Settings;
use super::source::Source;
use super::state::{Outstanding, Place, State};
use crate::{Error, Journal, Result, Stream, StreamReader, Timestamp, extend};

/// The state is rewritten after this many bytes since the last time, or after twice its own size if that is more.
const JOURNAL_BYTES_MAX: u64 = 4 << 20;
/// About what a record takes in the journal.
const RECORD_BYTES: u64 = 48;

/// A queue delivers the records of a stream one by one, to be acknowledged one by one. [`Stream::queue`] opens it. Cloning it is cheap, and any
/// number of threads and tasks may use it.
///
/// A delivered record is **in flight**: hidden from others until it is [acknowledged](Self::acknowledge), or until its visibility timeout ends. Then
/// it is delivered again. So each record is delivered **at least once**, and never again once it is acknowledged, even after a crash. A record that
/// was delivered too often becomes a [dead letter](Self::receive_dead_letters). Without [order by key](crate::QueueOptions::ordered_by_key), records
/// come in roughly the order in which they were put.
///
/// The queue's state is stored with the stream. Its size, and the time to open the queue, depend on the number of outstanding records, and not on
/// the number of handled ones. The records stay in the stream, and its retention applies to them: a record that retention drops before it is
/// acknowledged is lost, unless the queue has a [hold](crate::QueueOptions::hold).
///
/// Timeouts and delays are measured by elapsed time, so setting the clock changes none of them. When the stream is reopened, the time of day
/// determines how much of them is left.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let queue = stream.queue("jobs").open()?;
/// stream.put("job-17", "resize")?;
/// for job in queue.receive(10, Duration::from_secs(1))? {
///     match std::str::from_utf8(&job.record.data)? {
///         "resize" => queue.acknowledge(&job.handle)?,
///         _ => queue.release(&job.handle, Duration::from_secs(60))?, // try again later
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Queue {
    pub(super) shared: Arc<InUse>,
}

/// A queue that is in use, until the last clone of its handle is dropped. Then it is closed immediately, even if the maintenance is attending to it.
#[derive(Debug)]
pub(super) struct InUse {
    pub(super) shared: Arc<Shared>,
    /// Keeps the stream open, if the queue comes from a stream and not from a reader.
    pub(super) to_put: Option<Stream>,
}

impl Deref for InUse {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let _ = self.shared.close();
    }
}

/// What the clones of a queue share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) stream: StreamReader,
    pub(super) putting: Putting,
    pub(super) name: String,
    /// The first part of its receipt handles.
    pub(super) id: u64,
    pub(super) created: Timestamp,
    pub(super) settings: Settings,
    pub(super) visibility_timeout: Duration,
    pub(super) is_ordered: bool,
    pub(super) outstanding_max: usize,
    pub(super) inner: Mutex<Inner>,
    /// The waiters for records, or for dead letters. Locked after `inner`.
    pub(super) waiting: Mutex<BTreeMap<u64, (bool, Waker)>>,
    pub(super) next_waiter: AtomicU64,
}

/// What the lock protects.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) state: State,
    pub(super) source: Source,
    pub(super) journal: Journal,
    /// The entries to write, kept for the next ones.
    pub(super) entries: Vec<u8>,
}

/// The locked queue. Dropping this unlocks it, and then wakes the waiters that can proceed: waking may run a task immediately, and the task locks
/// the queue.
pub(super) struct Locked<'a> {
    inner: Option<MutexGuard<'a, Inner>>,
    pub(super) shared: &'a Shared,
    was_full: bool,
}

impl Shared {
    pub(super) fn lock(&self) -> Result<Locked<'_>> {
        extend::check_process(&self.stream)?;
        let inner = self.inner.lock();
        if self.stream.is_closed() || inner.journal.log().is_closed() {
            return Err(Error::Closed);
        }
        let was_full = self.is_full(&inner);
        Ok(Locked { inner: Some(inner), shared: self, was_full })
    }

    pub(super) fn moment(&self) -> Moment {
        Moment::of(&self.stream)
    }

    pub(super) fn is_full(&self, inner: &Inner) -> bool {
        inner.state.outstanding().len() >= self.outstanding_max
    }

    /// Returns a number for a waiter.
    pub(super) fn waiter(&self) -> u64 {
        self.next_waiter.fetch_add(1, Ordering::Relaxed)
    }

    /// Arranges for a waiter for records or for dead letters to be woken. The queue is locked.
    pub(super) fn wake_later(&self, waiter: u64, is_for_dead: bool, waker: &Waker) -> Option<Waker> {
        self.waiting.lock().insert(waiter, (is_for_dead, waker.clone())).map(|(_, replaced)| replaced)
    }

    /// Undoes [`wake_later`](Self::wake_later).
    pub(super) fn forget(&self, waiter: u64) {
        // Dropped without the lock: a waker may be the last owner of a task.
        let forgotten = self.waiting.lock().remove(&waiter);
        drop(forgotten);
    }

    /// Wakes the waiters for records, or for dead letters.
    pub(super) fn wake(&self, is_for_dead: bool) {
        let mut woken = vec![];
        self.waiting.lock().retain(|_, (is_for, waker)| {
            let stays = *is_for != is_for_dead;
            if !stays {
                woken.push(std::mem::replace(waker, Waker::noop().clone()));
            }
            stays
        });
        woken.into_iter().for_each(Waker::wake);
    }

    pub(super) fn hold_name(&self) -> String {
        queues::hold_name(&self.name)
    }

    pub(super) fn begin_hold(&self, asked: Option<Option<u64>>) -> Result<()> {
        let name = self.hold_name();
        let hold = extend::hold(&self.stream, &name);
        hold.take_over()?;
        match asked {
            Some(Some(bytes_max)) => hold.set(bytes_max)?,
            Some(None) => hold.end()?,
            None => {}
        }
        self.release_hold(&self.inner.lock());
        Ok(())
    }

    /// Reports to the stream which records it no longer has to hold, if this queue has a hold.
    pub(super) fn release_hold(&self, inner: &Inner) {
        let name = self.hold_name();
        // The process that has the stream open may set a hold at any time.
        let has_hold =
            !self.stream.is_own() || self.stream.describe().holds.iter().any(|hold| hold.name == name);
        if !has_hold {
            return;
        }
        for &shard in inner.state.cursors().keys() {
            if let Some(first) = inner.state.first_not_done(shard) {
                extend::hold(&self.stream, &name).release(shard, first);
            }
        }
    }

    pub(super) fn close(&self) -> Result<()> {
        extend::check_process(&self.stream)?;
        // Without the lock: closing the journal does what its maintenance does, and that attends to the queue.
        let log = self.inner.lock().journal.log().clone();
        let synced = if log.is_closed() { Ok(()) } else { log.sync() };
        extend::remove_companion(&self.stream, &log);
        let closed = log.close();
        self.wake(false);
        self.wake(true);
        synced.and(closed)
    }

    pub(super) fn handle(&self, place: Place, record: &Outstanding) -> ReceiptHandle {
        handle_of(self.id, place, record)
    }

    /// Returns whether a handle is one of this queue.
    pub(super) fn is_own(&self, handle: &ReceiptHandle) -> bool {
        handle.queue == self.id
    }
}

/// Returns the handle of a record that is valid now. `queue` is the first part of it.
pub(super) fn handle_of(queue: u64, place: Place, record: &Outstanding) -> ReceiptHandle {
    ReceiptHandle { queue, shard: place.shard, sequence: place.sequence, number: record.handle }
}

impl Locked<'_> {
    pub(super) fn inner(&mut self) -> &mut Inner {
        self.inner.as_mut().expect("it is locked until this is dropped")
    }

    /// Makes the records visible whose time is over.
    pub(super) fn settle(&mut self, moment: Moment) -> Result<()> {
        loop {
            let is_all = self.inner().state.settle(moment.elapsed);
            self.commit(moment)?;
            if is_all {
                return Ok(());
            }
        }
    }

    /// Writes the changes to the journal and keeps them. If they cannot be written, they are undone.
    pub(super) fn commit(&mut self, moment: Moment) -> Result<()> {
        let shared = self.shared;
        let inner = self.inner();
        inner.source.set_cursors(&mut inner.state);
        if inner.state.changes().is_empty() {
            return Ok(());
        }
        if let Err(error) = inner.write(moment) {
            inner.roll_back();
            return Err(error);
        }
        inner.state.commit();
        inner.restate_if_long(shared.created, shared.is_ordered, moment, JOURNAL_BYTES_MAX);
        Ok(())
    }
}

impl Inner {
    /// Writes the changes to the journal.
    fn write(&mut self, moment: Moment) -> Result<()> {
        let mut entries = std::mem::take(&mut self.entries);
        let written = write_changes(&self.state, moment, &mut entries, &self.journal);
        self.entries = entries;
        written
    }

    fn roll_back(&mut self) {
        self.state.roll_back();
        self.source.reset();
    }

    /// Writes the whole state to the journal and drops what was there before, if the journal has this many bytes and twice what the state takes.
    pub(super) fn restate_if_long(
        &self,
        created: Timestamp,
        is_ordered: bool,
        moment: Moment,
        bytes_max: u64,
    ) {
        let live_bytes = (self.state.outstanding().len() + self.state.ids().len()) as u64 * RECORD_BYTES;
        if self.journal.bytes() >= bytes_max.max(2 * live_bytes) {
            // The journal is correct without it. If it fails, as on a full disk, a later call does it.
            let _ = self.journal.restate(restated(&self.state, created, is_ordered, moment));
        }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let Some(mut inner) = self.inner.take() else { return };
        // A call that has failed leaves nothing half done.
        if !inner.state.changes().is_empty() {
            inner.roll_back();
        }
        let has_visible = inner.state.first_visible(false).is_some();
        let has_room = self.was_full && !self.shared.is_full(&inner);
        let has_visible_dead = inner.state.first_visible(true).is_some();
        drop(inner);
        if has_visible || has_room {
            self.shared.wake(false);
        }
        if has_visible_dead {
            self.shared.wake(true);
        }
    }
}
