//! The writer of a shard.
//!
//! Only this room takes the append lock. Other code calls the methods here.

mod ahead;
mod append;
mod appender;
mod limited;
pub(super) mod moment;
pub(crate) mod pause;
mod seal;
pub(crate) mod source;
mod sync;
mod turn;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::reader::Reader;
use super::reader::segment::Dropped;
use super::reader::segments::Present;
use super::reader::wait::Waiter;
use crate::log::keys::Keys;
use crate::log::live::bell::Bell;
use crate::log::live::publish::{Begin, Live};
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

/// The state that the writers of all shards of a stream share.
#[derive(Debug, Clone)]
pub(crate) struct WriterContext {
    pub(crate) writing: Writing,
    /// Notified when maintenance has work to do.
    pub(crate) work: Arc<Waiter>,
    /// Notified when something should be prepared ahead of the puts.
    pub(crate) work_ahead: Arc<Waiter>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) keys: Arc<Keys>,
    /// Shows other processes how far the shards are.
    pub(crate) live: Arc<Live>,
    /// Wakes other processes that wait for a shard.
    pub(crate) bell: Arc<Bell>,
}

/// The writer of a shard.
#[derive(Debug)]
pub(super) struct Writer {
    dir: ShardDir,
    context: WriterContext,
    /// The append lock. It is taken after the sync turn, and before the list of segments and the source's locks.
    appender: Mutex<Appender>,
    source: Arc<SegmentSource>,
    /// The reader of the same shard.
    reader: Arc<Reader>,
    /// Held by the thread that syncs.
    turn: SyncTurn,
    /// How long the last sync took, in nanoseconds.
    sync_nanos: AtomicU64,
    /// All records below survive power loss.
    synced_sequence: AtomicU64,
    /// The number that the next record had when the stream was opened.
    opened_at: SequenceNumber,
}

/// The records and bytes put to a shard since the stream was opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct PutTotals {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) saved_bytes: u64,
    pub(super) throttled_records: u64,
}

impl Writer {
    /// Returns the writer of a recovered shard, which is closed if `description` says so.
    pub(super) fn recovered(
        dir: ShardDir,
        context: WriterContext,
        description: &ShardDescription,
        recovered: RecoveredShard,
        reader: Arc<Reader>,
    ) -> Result<Self> {
        let (next, is_closed) = (recovered.next_sequence, !description.is_open());
        let synced = recovered.unsealed.first().map_or(next, |first| first.base());
        let live = context.live.slot(Begin {
            shard: dir.shard,
            end: next,
            horizon: reader.horizon(),
            synced,
            is_closed,
        })?;
        let appender = Appender::recovered(recovered, is_closed, description.created_at, live);
        Ok(Self::start(dir, context, appender, synced, next, reader))
    }

    /// Returns the writer of a new shard.
    pub(super) fn empty(
        dir: ShardDir,
        context: WriterContext,
        description: &ShardDescription,
        reader: Arc<Reader>,
    ) -> Result<Self> {
        let first = description.first_sequence;
        let begin = Begin { shard: dir.shard, end: first, horizon: first, synced: first, is_closed: false };
        let appender = Appender::empty(first, description.created_at, context.live.slot(begin)?);
        Ok(Self::start(dir, context, appender, first, first, reader))
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

    /// Returns when the last record arrived.
    pub(super) fn last_timestamp(&self) -> Timestamp {
        self.appender.lock().last_timestamp
    }

    /// Returns what was put since the stream was opened. Puts are not counted one by one: the totals follow from sequence numbers and the
    /// ends of the segments' frames.
    pub(super) fn put_totals(&self) -> PutTotals {
        let appender = self.appender.lock();
        let records = appender.next_sequence.get() - self.opened_at.get();
        PutTotals {
            records,
            bytes: appender.put_bytes(),
            saved_bytes: appender.saved_bytes,
            throttled_records: appender.buckets.refused_count,
        }
    }

    /// Returns where the last segment ends, or `None` if it is written to and its end still moves.
    pub(super) fn last_end(&self) -> Option<SequenceNumber> {
        self.appender.lock().last_end()
    }

    /// Keeps all later sequence numbers below `ceiling`, so that children can begin there. Returns `false` if a record already has that
    /// number or a higher one.
    pub(super) fn set_ceiling(&self, ceiling: SequenceNumber) -> bool {
        let mut appender = self.appender.lock();
        appender.ceiling = ceiling;
        appender.next_sequence <= ceiling
    }

    /// Removes the ceiling.
    pub(super) fn lift_ceiling(&self) {
        self.appender.lock().ceiling = NO_CEILING;
    }

    /// Refuses all later puts, because what is on disk is unknown.
    pub(super) fn poison(&self) {
        let mut appender = self.appender.lock();
        if appender.state == State::Open {
            appender.state = State::Poisoned;
        }
        self.wake(appender);
    }

    /// Shows the horizon to other processes, and wakes all that wait for the shard.
    pub(super) fn show_horizon(&self) {
        let appender = self.appender.lock();
        appender.live.show_horizon(self.reader.horizon());
        self.wake(appender);
    }

    /// Releases the append lock, and wakes all that wait for the shard, in this process and in others.
    #[inline]
    fn wake(&self, mut appender: MutexGuard<'_, Appender>) {
        let waiting = appender.waiting.take();
        drop(appender);
        waiting.notify();
        self.context.bell.ring(self.dir.shard);
    }

    /// Encrypts new records with the last key in the list of keys.
    pub(super) fn take_new_key(&self) -> Result<()> {
        let mut appender = self.appender.lock();
        let Some(active) = &mut appender.active else { return Ok(()) };
        let secrets = self.context.keys.to_encrypt()?;
        active.set_encryptor(secrets.map(|secrets| secrets.encryptor(&active.name())));
        Ok(())
    }

    /// Ends the active segment if its first record is older than `oldest`, so that its file can be removed even if nothing more is put.
    pub(super) fn retire_if_older(&self, oldest: Timestamp) -> Result<()> {
        let mut appender = self.appender.lock();
        let since = appender.active.as_ref().filter(|it| !it.is_empty()).map(|it| it.first_timestamp());
        if since.is_some_and(|since| since < oldest) {
            self.retire_active(&mut appender)?;
            self.context.work.notify();
        }
        Ok(())
    }

    /// Begins a segment if the last timestamp is certainly wrong and no segment was begun in the time `after` before now. A shard without
    /// segments needs one only if it has parents, whose end it dates.
    pub(super) fn begin_if_misdated(&self, now: Timestamp, after: Duration, has_parents: bool) -> Result<()> {
        let mut appender = self.appender.lock();
        if appender.state != State::Open || !appender.last_timestamp.is_wrong_at(now) {
            return Ok(());
        }
        let is_recent = |begun: Timestamp| begun <= now && now.since(begun) < after;
        let is_dated = match (&appender.active, &appender.resumable) {
            (Some(active), _) if is_recent(active.window().begun) => true,
            // Nothing was put since. It needs no blocks: its header says when it was begun.
            (Some(active), _) if active.is_empty() => {
                self.retire_active(&mut appender)?;
                true
            }
            (Some(_), _) => false,
            (None, Some(last)) if last.frames.is_empty() => {
                // If the clock was wrong then too, it is begun again.
                let present = Present { now, elapsed: self.reader.elapsed() };
                let begun = self.reader.segments.begun(appender.next_sequence, present);
                begun.last().is_some_and(|&(base, _)| base == last.base)
            }
            (None, _) => self.reader.segments.len() == 0 && !has_parents,
        };
        if is_dated {
            return Ok(());
        }
        // Not in the last segment if that was begun before the records in it.
        appender.resumable = appender.resumable.filter(|last| last.frames.is_empty());
        let timestamp = appender.last_timestamp;
        self.roll(&mut appender, now, timestamp, 0)
    }

    fn retire_active(&self, appender: &mut Appender) -> Result<()> {
        self.source.give_up_ready();
        appender.retire_active()
    }

    /// Takes the segments that end at or before the horizon away from readers. Refills some of their files for the next segments, and
    /// removes the others.
    pub(super) fn drop_segments_behind(&self, horizon: SequenceNumber) -> Result<()> {
        let mut appender = self.appender.lock();
        let last_end = appender.last_end();
        let (dropped, forgot) = self.take_behind(&mut appender, horizon, last_end);
        let is_writing = appender.is_writing();
        drop(appender);
        let wanted = if is_writing { self.source.wants_trimmed() } else { 0 };
        if forgot && wanted > 0 {
            // A sync in progress may have the files open. Once it has ended, no later sync opens them.
            drop(self.turn.take());
        }
        let (mut refilled, mut removed) = (vec![], Ok(()));
        // The youngest files are the most likely to be still in memory.
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
        if let Some(error) = refilled.as_ref().err().filter(|error| error.is_failed_sync()) {
            // The failed sync covered names that the next group sync relies on, and no later sync would report the failure.
            self.tell_failed_sync(error);
            self.poison();
        }
        removed.and(refilled)
    }

    /// Takes the segments before the one that begins with `first` away from readers. Their files can be removed.
    pub(super) fn take_segments_before(&self, first: SequenceNumber) -> Vec<Dropped> {
        self.take_behind(&mut self.appender.lock(), first, None).0
    }

    /// Returns the segments that were taken away, and whether one of them had no trailer yet.
    fn take_behind(
        &self,
        appender: &mut Appender,
        horizon: SequenceNumber,
        last_end: Option<SequenceNumber>,
    ) -> (Vec<Dropped>, bool) {
        let dropped = self.reader.segments.drop_behind(horizon, last_end);
        let forgot = dropped.last().is_some_and(|last| appender.forget_up_to(last.base()));
        (dropped, forgot)
    }

    /// Gives up the prepared segments, including one that is being prepared.
    pub(super) fn give_up_prepared(&self) {
        drop(self.source.give_up_all());
    }

    /// Takes back the slot that shows the shard to other processes, once it has expired.
    pub(super) fn hide(&self) {
        self.context.live.free(&mut self.appender.lock().live);
    }

    /// Shuts the shard down as its stream closes: refuses later puts, syncs, and seals all segments.
    pub(super) fn close(&self) -> Result<()> {
        let closed = self.end_puts();
        self.give_up_prepared();
        // Another process may open the stream next. No thread of this one, such as a late maintenance pass, may seal a segment after that.
        let left = self.appender.lock().unsealed.clone();
        left.iter().for_each(|segment| segment.leave());
        closed
    }

    fn end_puts(&self) -> Result<()> {
        let mut appender = self.appender.lock();
        let was_poisoned = appender.state == State::Poisoned;
        appender.state = State::StreamClosed;
        let emptied = self.retire_active(&mut appender);
        self.wake(appender);
        if was_poisoned {
            return Err(Error::Poisoned(self.dir.shard));
        }
        self.sync()?;
        self.seal_waiting()?;
        emptied
    }

    /// Reports a failed sync as an event.
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

    /// See [`WakeReaders`](super::reader::WakeReaders). Under the append lock, no put can come between looking for records and waiting.
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
