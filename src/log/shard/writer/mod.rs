//! The writing side of a shard.
//!
//! Nobody else takes the append lock: others call verbs.

mod ahead;
mod append;
mod appender;
pub(crate) mod pause;
mod seal;
pub(crate) mod source;
mod sync;
mod turn;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use super::reader::Reader;
use super::reader::segments::Dropped;
use super::reader::wait::Waiter;
use crate::log::recovery::RecoveredShard;
use crate::log::segment::growth::Writing;
use crate::log::segment::place::ShardDir;
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Error, Result};
use crate::log::types::event::event;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

use appender::{Appender, NO_CEILING, State};
use source::{SegmentSource, Sources};
use turn::SyncTurn;

/// What the writers of all shards of a stream have in common.
#[derive(Debug, Clone)]
pub(crate) struct WriterContext {
    pub(crate) writing: Writing,
    /// Rung when there is work for the maintenance.
    pub(crate) bell: Arc<Waiter>,
    /// Rung when something is to be prepared ahead of the puts.
    pub(crate) ahead_bell: Arc<Waiter>,
    pub(crate) sources: Arc<Sources>,
}

/// The writing side of a shard.
#[derive(Debug)]
pub(super) struct Writer {
    dir: ShardDir,
    context: WriterContext,
    /// The append lock. Taken after the sync turn, and before the list of segments and the source's locks.
    appender: Mutex<Appender>,
    source: Arc<SegmentSource>,
    /// What the shard's readers see.
    reader: Arc<Reader>,
    /// Held by whoever syncs.
    turn: SyncTurn,
    /// How long the last sync took, in nanoseconds.
    sync_nanos: AtomicU64,
    /// All below survives power loss.
    synced_sequence: AtomicU64,
    /// The number that the next record had when the stream was opened.
    opened_at: SequenceNumber,
}

/// What was put to a shard since the stream was opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct PutTotals {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Writer {
    /// That of a shard that was recovered, and which is closed if `description` says so.
    pub(super) fn recovered(
        dir: ShardDir,
        context: WriterContext,
        description: &ShardDescription,
        recovered: RecoveredShard,
        reader: Arc<Reader>,
    ) -> Self {
        let next = recovered.next_sequence;
        let synced = recovered.unsealed.first().map_or(next, |first| first.base());
        let appender = Appender::recovered(recovered, !description.is_open(), description.created_at);
        Self::start(dir, context, appender, synced, next, reader)
    }

    /// That of a new shard.
    pub(super) fn empty(
        dir: ShardDir,
        context: WriterContext,
        description: &ShardDescription,
        reader: Arc<Reader>,
    ) -> Self {
        let first = description.first_sequence;
        Self::start(dir, context, Appender::empty(first, description.created_at), first, first, reader)
    }

    fn start(
        dir: ShardDir,
        context: WriterContext,
        appender: Appender,
        synced: SequenceNumber,
        opened_at: SequenceNumber,
        reader: Arc<Reader>,
    ) -> Self {
        let source = Arc::new(SegmentSource::new(dir.clone(), context.writing, opened_at));
        context.sources.add(&source);
        Self {
            dir,
            context,
            appender: Mutex::new(appender),
            source,
            reader,
            turn: SyncTurn::default(),
            sync_nanos: AtomicU64::new(0),
            synced_sequence: AtomicU64::new(synced.get()),
            opened_at,
        }
    }

    /// When the last record arrived.
    pub(super) fn last_timestamp(&self) -> Timestamp {
        self.appender.lock().last_timestamp
    }

    /// What was put since the stream was opened. Puts are not counted one by one: sequence numbers and the ends of the segments' frames
    /// tell.
    pub(super) fn put_totals(&self) -> PutTotals {
        let appender = self.appender.lock();
        let records = appender.next_sequence.get() - self.opened_at.get();
        PutTotals { records, bytes: appender.put_bytes() }
    }

    /// Where the last segment ends; `None` while it is being written to, so that its end moves.
    pub(super) fn last_end(&self) -> Option<SequenceNumber> {
        self.appender.lock().last_end()
    }

    /// Lets no record have the number `ceiling` or a higher one, so that children can begin there; returns whether none has.
    pub(super) fn set_ceiling(&self, ceiling: SequenceNumber) -> bool {
        let mut appender = self.appender.lock();
        appender.ceiling = ceiling;
        appender.next_sequence <= ceiling
    }

    /// Takes that back.
    pub(super) fn lift_ceiling(&self) {
        self.appender.lock().ceiling = NO_CEILING;
    }

    /// Refuses all later puts: nobody knows what is on the disk.
    pub(super) fn poison(&self) {
        let mut appender = self.appender.lock();
        if appender.state == State::Open {
            appender.state = State::Poisoned;
        }
        let waiting = appender.waiting.take();
        drop(appender);
        waiting.notify();
    }

    /// Wakes all that wait for the shard.
    pub(super) fn wake_readers(&self) {
        let waiting = self.appender.lock().waiting.take();
        waiting.notify();
    }

    /// Ends the active segment if its first record is older than `oldest`, so that it can leave the disk, also when nothing is put.
    pub(super) fn retire_if_older(&self, oldest: Timestamp) -> Result<()> {
        let mut appender = self.appender.lock();
        let since = appender.active.as_ref().filter(|it| !it.is_empty()).map(|it| it.first_timestamp());
        if since.is_some_and(|since| since < oldest) {
            self.retire_active(&mut appender)?;
            self.context.bell.notify();
        }
        Ok(())
    }

    fn retire_active(&self, appender: &mut Appender) -> Result<()> {
        self.source.give_up_ready();
        appender.retire_active()
    }

    /// Takes the segments that end at the horizon or before it away from readers, and lets go of their files: some become the next
    /// segments, the others are removed.
    pub(super) fn drop_segments_behind(&self, horizon: SequenceNumber) -> Result<()> {
        let segments = &self.reader.segments;
        let mut appender = self.appender.lock();
        let dropped = segments.drop_behind(horizon, appender.last_end());
        if segments.len() == 0 {
            // The next put begins anew: the last segment is going to be removed.
            appender.resumable = appender.resumable.filter(|last| last.frames.is_empty());
        }
        let forgot = appender.forget_unsealed(dropped.last().map(Dropped::base));
        let takes_puts = appender.state == State::Open && appender.active.is_some();
        drop(appender);
        let wanted = if takes_puts { self.source.wants_trimmed() } else { 0 };
        if forgot && wanted > 0 {
            // A sync that is under way may have them open: no later one has.
            drop(self.turn.take());
        }
        let (mut refilled, mut removed) = (vec![], Ok(()));
        // The youngest are likeliest to be in memory still.
        for segment in dropped.into_iter().rev() {
            let base = segment.base();
            if self.source.may_refill(segment) && refilled.len() < wanted {
                refilled.push(base);
            } else {
                removed = removed.and(self.dir.remove_segment(base));
            }
            let path = self.dir.segment_path(base);
            event!(info, "a segment is behind the horizon, and dropped", path = path.display());
        }
        let refilled = self.source.refill(&refilled);
        if let Err(error) = &refilled {
            // Names that the next sync is to have synced were among those, and no later one tells of them.
            self.tell_failed_sync(error);
            self.poison();
        }
        removed.and(refilled)
    }

    /// Gives up the prepared segments, also one that is just being prepared.
    pub(super) fn give_up_prepared(&self) {
        drop(self.source.give_up_all());
    }

    /// Ends the shard's part in an open stream: refuses later puts, syncs, and seals what there is.
    pub(super) fn close(&self) -> Result<()> {
        let closed = self.end_puts();
        self.give_up_prepared();
        // Another process may open the stream next: nobody here, a pass of the maintenance that is late for one, must seal any more.
        let left = self.appender.lock().unsealed.clone();
        left.iter().for_each(|segment| segment.leave());
        closed
    }

    fn end_puts(&self) -> Result<()> {
        let mut appender = self.appender.lock();
        let was_poisoned = appender.state == State::Poisoned;
        appender.state = State::StreamClosed;
        let emptied = self.retire_active(&mut appender);
        let waiting = appender.waiting.take();
        let end = appender.next_sequence;
        drop(appender);
        waiting.notify();
        if was_poisoned {
            return Err(Error::Poisoned(self.dir.shard));
        }
        self.sync_to(end)?;
        self.seal_waiting()?;
        emptied
    }

    /// Tells whoever watches that a sync failed.
    #[cold]
    fn tell_failed_sync(&self, error: &Error) {
        event!(
            error,
            "a sync failed: the shard takes no more puts until the stream is opened again",
            shard = self.dir.shard,
            dir = self.dir.path().display(),
            error = error
        );
    }

    /// See [`WakeReaders`](super::reader::WakeReaders). Under the append lock no put can come between looking for records and waiting.
    pub(super) fn wake_later(&self, waiter: &Arc<Waiter>, must_wait: &mut dyn FnMut() -> bool) -> bool {
        let mut appender = self.appender.lock();
        if must_wait() {
            appender.waiting.add(waiter);
        }
        appender.state != State::StreamClosed
    }

    /// See [`WakeReaders`](super::reader::WakeReaders).
    pub(super) fn forget_waiter(&self, waiter: &Arc<Waiter>) {
        self.appender.lock().waiting.remove(waiter);
    }
}
