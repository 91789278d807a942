//! The writing side of a shard: everything under its append lock.
//!
//! **Roll**, when a frame does not fit into the active segment:
//! 1. The next segment is created, named by the next sequence number. A crash leaves an empty segment, which recovery takes up.
//! 2. It is put where readers find it.
//! 3. The old one is ended: a reader that has read it all goes on to the next.
//! 4. The frame is appended to the new one.
//! 5. The old one is sealed in the background. A crash leaves it without a trailer, which recovery scans.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Shard;
use super::spares::Spares;
use super::wait::WaitList;
use crate::log::format::draft::FrameDraft;
use crate::log::recovery::RecoveredShard;
use crate::log::segment::active::{Active, Resumable};
use crate::log::segment::growth::Growth;
use crate::log::segment::spare::{Spare, SparePages};
use crate::log::segment::unsealed::{SyncTarget, Unsealed};
use crate::log::sys::dir;
use crate::log::types::error::{Error, Result};
use crate::log::types::event::event;
use crate::log::types::limits::unsealed_count_max;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::{SECOND, Timestamp};

/// The ceiling of a shard that is not about to have children.
pub(super) const NO_CEILING: SequenceNumber = SequenceNumber::new(u64::MAX);

/// What the append lock protects.
#[derive(Debug)]
pub(super) struct Appender {
    pub(super) state: State,
    /// None until the first put.
    active: Option<Active>,
    /// The last segment, if there is no active one and it may be written to again.
    resumable: Option<Resumable>,
    /// The next segments, prepared, if puts come so fast that it pays.
    spares: Spares,
    /// Segments before the active one that have no trailer yet, oldest first.
    unsealed: VecDeque<Arc<Unsealed>>,
    next_sequence: SequenceNumber,
    /// No record gets this number or a higher one: the shard's children begin there, if it is about to have some.
    pub(super) ceiling: SequenceNumber,
    last_timestamp: Timestamp,
    /// With the end of the active segment's frames: the bytes put since the stream was opened. May be below zero.
    put_bytes_before: u64,
    pub(super) waiting: WaitList,
    /// There is a segment file whose name may not survive power loss.
    pub(super) has_new_names: bool,
}

/// What to prepare ahead of the writer.
#[derive(Debug)]
pub(super) enum WorkAhead {
    /// More of the active segment.
    Growth(Growth),
    /// The next segment.
    Spare,
    /// More of the next segment.
    SparePages(SparePages),
}

/// What becomes of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// It goes to the shard's children.
    ShardClosed,
    StreamClosed,
    /// A sync failed.
    Poisoned,
}

impl Appender {
    /// Goes on where recovery found the shard.
    pub(super) fn new(recovered: RecoveredShard, is_closed: bool, created_at: Timestamp) -> Self {
        let RecoveredShard { unsealed, resumable, next_sequence, last_timestamp, .. } = recovered;
        Self {
            state: if is_closed { State::ShardClosed } else { State::Open },
            resumable,
            // The names that recovery found may be as young as those of a new segment.
            has_new_names: !unsealed.is_empty(),
            unsealed: unsealed.into_iter().map(Arc::new).collect(),
            // A shard's first record is not older than its parents' last.
            ..Self::empty(next_sequence, last_timestamp.max(created_at))
        }
    }

    /// A shard without a record.
    pub(super) fn empty(next_sequence: SequenceNumber, last_timestamp: Timestamp) -> Self {
        Self {
            state: State::Open,
            active: None,
            resumable: None,
            spares: Spares::default(),
            unsealed: VecDeque::new(),
            next_sequence,
            ceiling: NO_CEILING,
            last_timestamp,
            put_bytes_before: 0,
            waiting: WaitList::default(),
            has_new_names: false,
        }
    }

    /// All segments that may hold bytes that are not synced, oldest first.
    pub(super) fn sync_targets(&self) -> Vec<SyncTarget> {
        let unsealed = self.unsealed.iter().map(|segment| segment.target.clone());
        unsealed.chain(self.active.as_ref().map(Active::sync_target)).collect()
    }

    pub(super) fn next_sequence(&self) -> SequenceNumber {
        self.next_sequence
    }

    /// When the last record arrived.
    pub(super) fn last_timestamp(&self) -> Timestamp {
        self.last_timestamp
    }

    /// The bytes of the frames that were put since the stream was opened.
    pub(super) fn put_bytes(&self) -> u64 {
        self.put_bytes_before.wrapping_add(self.active.as_ref().map_or(0, Active::frames_end))
    }

    /// Ends the active segment, if there is one: the next put begins another. One without a record is only emptied.
    pub(super) fn retire_active(&mut self) -> Result<()> {
        self.spares.clear();
        self.put_bytes_before = self.put_bytes();
        match self.active.take() {
            Some(active) if active.is_empty() => {
                self.resumable = Some(active.as_resumable());
                active.give_back_blocks()
            }
            Some(active) => {
                self.unsealed.push_back(Arc::new(active.finish()));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether there is a segment that is being written to.
    pub(super) fn has_active(&self) -> bool {
        self.active.is_some()
    }

    /// Begins anew with the next put: the last segment is going to be removed.
    pub(super) fn forget_last_segment(&mut self) {
        self.resumable = self.resumable.take().filter(|resumable| resumable.trailer.is_none());
    }

    /// Leaves the segments up to the one that begins with `last` as they are: they are trimmed, and need no trailer any more. Tells
    /// whether there was one.
    pub(super) fn forget_unsealed(&mut self, last: Option<SequenceNumber>) -> bool {
        let count = self.unsealed.partition_point(|segment| Some(segment.target.window.base) <= last);
        self.unsealed.drain(..count).len() > 0
    }

    /// What is to be prepared next, if puts come so fast that it pays: first what they will reach first.
    pub(super) fn work_ahead(&mut self) -> Option<WorkAhead> {
        let active = self.active.as_mut().filter(|_| self.state == State::Open)?;
        let work = match (active.is_busy(), active.growth(), active.wanted_of_next(), self.spares.next()) {
            (false, ..) | (_, None, 0, _) => None,
            (_, Some(growth), ..) => Some(WorkAhead::Growth(growth)),
            (.., wanted, Some(spare)) => spare.pages(wanted).map(WorkAhead::SparePages),
            (.., None) => Some(WorkAhead::Spare),
        };
        if work.is_none() {
            active.rest_ahead();
        }
        work
    }

    /// Takes over blocks that were prepared for the active segment.
    pub(super) fn take_over(&mut self, growth: &Growth) {
        if let Some(active) = &mut self.active {
            active.take_over(growth);
        }
    }

    /// Notes that pages of a prepared segment were brought in, which may be the active one by now.
    pub(super) fn note_prepared(&mut self, pages: &SparePages) {
        self.spares.note_prepared(pages);
        if let Some(active) = &mut self.active {
            active.note_prepared(pages);
        }
    }

    /// Keeps prepared segments for the next rolls, unless there will be none.
    pub(super) fn keep_spares(&mut self, spares: impl IntoIterator<Item = Spare>) {
        if self.state == State::Open && self.active.is_some() {
            self.spares.keep(spares);
        }
    }

    /// How many trimmed segments are worth keeping for the next rolls.
    pub(super) fn wants_trimmed(&self) -> usize {
        if self.state == State::Open && self.active.is_some() { self.spares.wants_trimmed() } else { 0 }
    }

    /// Takes the prepared segments for which puts no longer come fast enough, to be dropped without the lock; once a pass.
    pub(super) fn take_idle_spares(&mut self, now: Timestamp) -> Vec<Spare> {
        let is_busy = self.active.as_ref().is_some_and(|active| active.busy_since() >= now.minus(SECOND));
        self.spares.take_idle(is_busy)
    }

    /// Lets go of the prepared segments.
    pub(super) fn drop_spares(&mut self) {
        self.spares.clear();
    }

    /// When the first record of the active segment arrived.
    pub(super) fn active_since(&self) -> Option<Timestamp> {
        self.active.as_ref().filter(|active| !active.is_empty()).map(Active::first_timestamp)
    }
}

impl Shard {
    /// Appends a drafted frame; `tail` is the data that it borrows, `now` the time of the put.
    ///
    /// Returns the sequence number of the first record, or `None` if the shard is closed and the put has to be routed again.
    #[inline]
    pub(crate) fn append(
        &self,
        draft: &mut FrameDraft,
        tail: &[u8],
        now: Timestamp,
    ) -> Result<Option<SequenceNumber>> {
        let len = draft.len() as u64;
        let mut appender = self.appender.lock();
        match appender.state {
            State::Open => {}
            State::ShardClosed => return Ok(None),
            State::StreamClosed => return Err(Error::Closed),
            State::Poisoned => return Err(Error::Poisoned(self.id)),
        }
        if appender.next_sequence.plus(draft.count().into()) >= appender.ceiling {
            return self.at_ceiling(appender.ceiling);
        }
        let timestamp = now.max(appender.last_timestamp);
        if !appender.active.as_ref().is_some_and(|active| active.has_room(len)) {
            let rolled = self.roll(&mut appender, timestamp, len);
            if let Err(error) = rolled {
                if error.is_failed_sync() {
                    self.tell_failed_sync(&error);
                    appender.state = State::Poisoned;
                }
                return Err(error);
            }
        }
        let Appender { active: Some(active), spares, .. } = &mut *appender else {
            unreachable!("rolling makes an active segment")
        };
        let reserved = match active.reserve(len) {
            // What was prepared for later makes room for now.
            Err(Error::StorageFull(_)) if spares.clear() => active.reserve(len),
            reserved => reserved,
        };
        reserved?;
        let appended = active.append(draft, tail, timestamp);
        if active.wants_more_ahead() {
            self.ahead_bell.notify();
        }
        if appended.is_err() {
            // A write that failed may have left a part of itself behind the last frame: nothing goes over that.
            let _ = appender.retire_active();
        }
        let base = appended?;
        appender.next_sequence = base.plus(draft.count().into());
        appender.last_timestamp = timestamp;
        self.next_sequence.store(appender.next_sequence.get(), Ordering::Release);
        let waiting = appender.waiting.take();
        drop(appender);
        waiting.notify();
        Ok(Some(base))
    }

    /// What becomes of a put for which no sequence number is left: it waits for the children.
    #[cold]
    fn at_ceiling(&self, ceiling: SequenceNumber) -> Result<Option<SequenceNumber>> {
        if ceiling == NO_CEILING {
            return Err(Error::invalid(format!(
                "{} has used up its sequence numbers: go on in a new stream",
                self.id
            )));
        }
        Ok(None)
    }

    /// Makes an active segment with room for a frame of `len` bytes.
    #[cold]
    fn roll(&self, appender: &mut Appender, now: Timestamp, len: u64) -> Result<()> {
        // Nobody came to seal: do it here, so that what a crash leaves to scan stays bounded.
        if appender.unsealed.len() >= unsealed_count_max(self.writing.segment_bytes) {
            self.seal_first(appender)?;
        }
        let base = appender.next_sequence;
        let resumable = appender.resumable.as_ref();
        let again =
            resumable.filter(|it| it.trailer.is_none() || it.has_room(self.writing.segment_bytes, len));
        let next = match (again, appender.spares.take(len)) {
            (Some(resumable), _) => Active::resume(&self.dir, self.id, resumable, self.writing, len)?,
            (None, Some(spare)) => Active::begin_in(spare, &self.dir, (self.id, base), now, self.writing)?,
            (None, None) => {
                let create = || Active::create(&self.dir, (self.id, base), now, self.writing, len);
                match create() {
                    // What was prepared for smaller frames makes room for this one.
                    Err(Error::StorageFull(_)) if appender.spares.clear() => create()?,
                    created => created?,
                }
            }
        };
        event!(debug, "a segment begins", dir = self.dir.display(), base = base);
        appender.resumable = None;
        appender.has_new_names = true;
        appender.spares.note_begun();
        let since = if next.is_empty() { now } else { next.first_timestamp() };
        self.segments.push(Arc::clone(next.window()), since);
        appender.put_bytes_before = appender.put_bytes().wrapping_sub(next.frames_end());
        if let Some(full) = appender.active.replace(next) {
            appender.unsealed.push_back(Arc::new(full.finish()));
            self.bell.notify();
        }
        Ok(())
    }

    fn seal_first(&self, appender: &mut Appender) -> Result<()> {
        if let Some(first) = appender.unsealed.front().cloned() {
            self.sync_names()?;
            self.seal(&first, || appender.unsealed.pop_front())?;
        }
        Ok(())
    }

    /// Makes the names of all segments survive power loss: recovery takes a sealed one to have all those before it, and somebody else
    /// may be about to sync the names that are new.
    fn sync_names(&self) -> Result<()> {
        dir::sync(&self.dir)
    }

    /// Seals one segment, and takes it off the list of those to be sealed.
    fn seal<T>(&self, segment: &Unsealed, take_off: impl FnOnce() -> T) -> Result<()> {
        match segment.seal() {
            Ok(true) => {
                take_off();
                let base = segment.target.window.base;
                self.segments.unpin(base);
                event!(debug, "a segment is sealed", dir = self.dir.display(), base = base);
                Ok(())
            }
            // It stays as it is, to be sealed when there is room; it can be read, and recovery can scan it.
            Ok(false) | Err(Error::StorageFull(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether so many segments wait to be sealed that it should not wait for the next pass. Sealing costs a sync, for which puts need
    /// not compete as long as few wait for it.
    pub(crate) fn has_many_to_seal(&self) -> bool {
        self.appender.lock().unsealed.len() >= unsealed_count_max(self.writing.segment_bytes) / 2
    }

    /// Seals the segments that wait for it.
    pub(crate) fn seal_waiting(&self) -> Result<()> {
        let appender = self.appender.lock();
        // Nobody knows what of them is on the disk: opening the stream again scans them.
        if appender.state == State::Poisoned {
            return Err(Error::Poisoned(self.id));
        }
        let waiting: Vec<_> = appender.unsealed.iter().cloned().collect();
        drop(appender);
        if waiting.is_empty() {
            return Ok(());
        }
        let mut sealed = self.sync_names();
        for segment in waiting {
            sealed = sealed.and_then(|()| {
                self.seal(&segment, || {
                    self.appender.lock().unsealed.retain(|other| !Arc::ptr_eq(other, &segment));
                })
            });
        }
        if let Some(error) = sealed.as_ref().err().filter(|error| error.is_failed_sync()) {
            self.tell_failed_sync(error);
            self.poison();
        }
        sealed
    }

    /// Refuses all later puts: nobody knows what is on the disk.
    pub(crate) fn poison(&self) {
        let mut appender = self.appender.lock();
        if appender.state == State::Open {
            appender.state = State::Poisoned;
        }
        let waiting = appender.waiting.take();
        drop(appender);
        waiting.notify();
    }

    /// Ends the shard's part in an open stream: refuses later puts, syncs, and seals what there is.
    pub(crate) fn close(&self) -> Result<()> {
        let closed = self.end_puts();
        // Another process may open the stream next: nobody here, a pass of the maintenance that is late for one, must seal any more.
        let left = self.appender.lock().unsealed.clone();
        left.iter().for_each(|segment| segment.leave());
        closed
    }

    fn end_puts(&self) -> Result<()> {
        let mut appender = self.appender.lock();
        let was_poisoned = appender.state == State::Poisoned;
        appender.state = State::StreamClosed;
        let emptied = appender.retire_active();
        let waiting = appender.waiting.take();
        let end = appender.next_sequence;
        drop(appender);
        waiting.notify();
        if was_poisoned {
            return Err(Error::Poisoned(self.id));
        }
        self.sync_to(end)?;
        self.seal_waiting()?;
        emptied
    }
}
