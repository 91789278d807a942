//! Where the next segment of a shard comes from.
//!
//! | the next segment is | where |
//! |---|---|
//! | the last one, written on | it was closed cleanly or holds no record, nothing was put since, and the frame has room in it |
//! | a prepared one | one is ready, and the frame has room in it |
//! | a new file | otherwise |
//!
//! A prepared segment is a new file, made when a busy writer comes near the end of the active one, or a trimmed one that is filled again. A
//! trimmed file is filled again where all of this holds; otherwise it is removed:
//!
//! | condition | why | looked at by |
//! |---|---|---|
//! | the shard takes puts, and a segment was begun within [`REFILL_WITHIN_PASSES`] | it gives back its room soon after puts rest | [`SegmentSource::wants_trimmed`] |
//! | fewer are ready than were lately begun from one pass to the next | so many will be needed until the next pass | the same |
//! | its segment was begun since the stream was opened | of others, whoever had the stream open before may still hold bytes, and they may have holes, where a copy of them was put back | [`SegmentSource::may_refill`] |
//! | nobody has it open or holds bytes of it | they would change under their reader | the same |
//! | what [`Prepared::refill`] asks of the file itself | | that |
//!
//! Prepared segments hold room on the disk that a put may need. So where one finds no room, they are given up first, in all shards of the
//! stream, and what is just being prepared is waited for: see [`Sources::without_prepared`].

use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};

use super::super::reader::segments::Dropped;
use crate::log::segment::active::{Active, Resumable};
use crate::log::segment::growth::Writing;
use crate::log::segment::place::ShardDir;
use crate::log::segment::prepared::{Prepared, PreparedPages};
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// Trimmed segments are filled again where a segment was begun within so many passes of the maintenance, which come each second: enough
/// for a shard that is synced with each put, and so few that one that rests gives its room back soon.
const REFILL_WITHIN_PASSES: u32 = 10;

/// Where the next segment of a shard comes from.
#[derive(Debug)]
pub(crate) struct SegmentSource {
    dir: ShardDir,
    writing: Writing,
    /// The number that the next record had when the stream was opened.
    opened_at: SequenceNumber,
    demand: Mutex<Demand>,
    /// Held by whoever prepares segments, until they are ready or given up: so no room on the disk is in nobody's hands. Whoever holds an
    /// append lock may take this one, never the other way round.
    making: Mutex<()>,
    /// The prepared segments; the last one is used next. Taken for a moment, after `making`.
    ready: Mutex<Vec<Prepared>>,
}

/// How many prepared segments it pays to have.
#[derive(Debug, Default)]
struct Demand {
    /// How many segments were begun since the last pass, and from the one before to that.
    begun: [usize; 2],
    /// The passes since a segment was begun; `None` before the first.
    passes_since: Option<u32>,
}

impl Demand {
    /// As many as were begun lately from one pass to the next.
    fn wanted(&self) -> usize {
        let is_rolling = self.passes_since.is_some_and(|passes| passes <= REFILL_WITHIN_PASSES);
        if is_rolling { self.begun.into_iter().max().unwrap_or_default().max(1) } else { 0 }
    }

    fn note_begun(&mut self) {
        self.begun[0] += 1;
        self.passes_since = Some(0);
    }

    fn note_pass(&mut self) {
        self.passes_since = self.passes_since.map(|passes| passes.saturating_add(1));
        self.begun = [0, self.begun[0]];
    }
}

/// What there is to be done for the next segment.
#[derive(Debug)]
pub(super) enum NextStep {
    /// It is to be prepared.
    Prepare,
    /// Pages of it are to be brought in.
    BringIn(PreparedPages),
    Nothing,
}

impl SegmentSource {
    pub(super) fn new(dir: ShardDir, writing: Writing, opened_at: SequenceNumber) -> Self {
        Self {
            dir,
            writing,
            opened_at,
            demand: Mutex::default(),
            making: Mutex::default(),
            ready: Mutex::default(),
        }
    }

    /// Begins the next segment, the one with `base`, for a frame of `len` bytes. `last` is the one before it, if that may be written on.
    pub(super) fn next(
        &self,
        last: Option<Resumable>,
        base: SequenceNumber,
        now: Timestamp,
        len: u64,
    ) -> Result<Active> {
        let has_room =
            |last: &Resumable| last.frames.is_empty() || last.has_room(self.writing.segment_bytes, len);
        let ready = || self.ready.lock().pop_if(|prepared| prepared.has_room(len));
        let next = if let Some(last) = last.filter(has_room) {
            Active::resume(&self.dir, last, self.writing, len)?
        } else if let Some(prepared) = ready() {
            Active::begin_in(prepared, &self.dir, base, now, self.writing)?
        } else {
            Active::create(&self.dir, base, now, self.writing, len)?
        };
        self.demand.lock().note_begun();
        Ok(next)
    }

    /// What there is to be done so that the next segment has so many bytes of its pages there.
    pub(super) fn next_step(&self, wanted: u64) -> NextStep {
        match self.ready.lock().last() {
            _ if wanted == 0 => NextStep::Nothing,
            None => NextStep::Prepare,
            Some(next) => next.pages(wanted).map_or(NextStep::Nothing, NextStep::BringIn),
        }
    }

    /// Prepares the next segment, but for its pages.
    pub(super) fn prepare(&self) -> Result<()> {
        let _making = self.making.lock();
        let prepared = Prepared::create(&self.dir, self.writing)?;
        // Not in front of one whose pages were brought in.
        self.ready.lock().insert(0, prepared);
        Ok(())
    }

    /// Notes that pages were brought in, which may be of a prepared segment still.
    pub(super) fn note_prepared(&self, pages: &PreparedPages) {
        self.ready.lock().iter_mut().for_each(|prepared| prepared.note_prepared(pages));
    }

    /// How many trimmed segments are worth keeping.
    pub(super) fn wants_trimmed(&self) -> usize {
        self.demand.lock().wanted().saturating_sub(self.ready.lock().len())
    }

    /// Closes a trimmed segment for those to come, and returns whether its file may be filled again.
    pub(super) fn may_refill(&self, dropped: Dropped) -> bool {
        let is_of_this_opening = dropped.base() >= self.opened_at;
        dropped.close() && is_of_this_opening
    }

    /// Prepares the files of trimmed segments; see [`Prepared::refill`].
    pub(super) fn refill(&self, bases: &[SequenceNumber]) -> Result<()> {
        let _making = self.making.lock();
        let refilled = Prepared::refill(&self.dir, bases, self.writing)?;
        self.ready.lock().splice(0..0, refilled);
        Ok(())
    }

    /// Gives up the prepared segments that are too many by now, which is to be asked once a pass; a shard that is busy keeps one.
    pub(super) fn drop_idle(&self, is_busy: bool) {
        let mut demand = self.demand.lock();
        demand.note_pass();
        let kept = demand.wanted().max(usize::from(is_busy));
        drop(demand);
        let _making = self.making.lock();
        let mut ready = self.ready.lock();
        let excess = ready.len().saturating_sub(kept);
        let idle: Vec<_> = ready.drain(..excess).collect();
        // Removing their files takes time, for which a roll need not wait.
        drop(ready);
        drop(idle);
    }

    /// Gives up all prepared segments that are ready; one that is just being prepared goes with a later pass.
    pub(super) fn give_up_ready(&self) {
        self.ready.lock().clear();
    }

    /// Gives up all prepared segments, also one that is just being prepared. Nobody prepares one until the guard is dropped.
    pub(super) fn give_up_all(&self) -> MutexGuard<'_, ()> {
        let making = self.making.lock();
        self.give_up_ready();
        making
    }
}

/// The sources of all shards of a stream.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    all: Mutex<Vec<Weak<SegmentSource>>>,
}

impl Sources {
    pub(super) fn add(&self, source: &Arc<SegmentSource>) {
        let mut all = self.all.lock();
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(source));
    }

    /// Tries something that needs room on the disk. If there is none, tries it again while no shard of the stream has a prepared segment or is
    /// at work on one: what was refused then has no room.
    pub(super) fn without_prepared<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        match attempt() {
            Err(Error::StorageFull(_)) => {}
            outcome => return outcome,
        }
        let all = self.all.lock();
        let sources: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
        let _nothing_is_prepared: Vec<_> = sources.iter().map(|source| source.give_up_all()).collect();
        attempt()
    }
}
