//! The source of a shard's next segment.
//!
//! | the next segment is | where |
//! |---|---|
//! | the last one, resumed | it holds no record; or it was closed cleanly, nothing was put since, it has room for the frame, and no second name |
//! | a prepared one | one is ready, and it has room for the frame |
//! | a new file | otherwise |
//!
//! A second name is that of a snapshot, which must not change.
//!
//! A prepared segment is a new file, made when a busy writer comes near the end of the active one, or a refilled file of a trimmed segment.
//! A trimmed file is refilled if all of these conditions hold, and removed otherwise:
//!
//! | condition | why | looked at by |
//! |---|---|---|
//! | the shard takes puts and began a segment within [`REFILL_WITHIN_PASSES`] | to free room when idle | [`SegmentSource::wants_trimmed`] |
//! | fewer are ready than were lately begun between two passes | that many will be needed until the next pass | the same |
//! | it was begun since opening | another process may hold older ones; they may have holes if restored | [`SegmentSource::may_refill`] |
//! | nobody has it open or holds bytes of it | the bytes would change under their reader | the same |
//! | what [`Prepared::refill`] requires of the file itself | | that |
//!
//! Prepared segments hold disk space that a put may need. So when a put finds no room, they are given up first, in all shards of the
//! stream, and those being prepared are waited for: see [`Sources::retry_if_full`].

use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};

use super::super::reader::segment::Dropped;
use crate::log::segment::active::{Active, Resumable};
use crate::log::segment::growth::Writing;
use crate::log::segment::place::ShardDir;
use crate::log::segment::prepared::{Prepared, PreparedPages};
use crate::log::sys::file::DataFile;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// Trimmed segments are refilled only if a segment was begun within this many maintenance passes, which come each second. That is enough
/// for a shard that is synced with each put, and few enough that an idle shard soon gives its room back.
const REFILL_WITHIN_PASSES: u32 = 10;

/// The source of a shard's next segment.
#[derive(Debug)]
pub(crate) struct SegmentSource {
    dir: ShardDir,
    writing: Writing,
    /// The number that the next record had when the stream was opened.
    opened_at: SequenceNumber,
    demand: Mutex<Demand>,
    /// Held while segments are being prepared, until they are ready or given up, and while their pages are brought in. So a thread that holds it
    /// knows of all prepared disk space, except for that of a segment that is about to be used. A thread that holds an append lock may take
    /// this lock, never the other way round.
    making: Mutex<()>,
    /// The prepared segments. The last one is used next. Taken after `making`, and held until that one is a segment.
    ready: Mutex<Vec<Prepared>>,
}

/// How many prepared segments pay.
#[derive(Debug, Default)]
struct Demand {
    /// How many segments were begun since the last pass, and between the last two passes.
    begun: [usize; 2],
    /// The passes since a segment was begun, or `None` before the first.
    passes_since: Option<u32>,
}

impl Demand {
    /// Returns the larger number of segments begun between two recent passes.
    fn wanted(&self) -> usize {
        let is_rolling = self.passes_since.is_some_and(|passes| passes <= REFILL_WITHIN_PASSES);
        if is_rolling { self.begun.into_iter().max().unwrap_or_default().max(1) } else { 0 }
    }

    fn note_begun(&mut self) {
        self.begun[0] += 1;
        self.passes_since = Some(0);
    }

    /// Notes a maintenance pass. Returns how many are wanted, as of before it.
    fn note_pass(&mut self) -> usize {
        self.passes_since = self.passes_since.map(|passes| passes.saturating_add(1));
        let wanted = self.wanted();
        self.begun = [0, self.begun[0]];
        wanted
    }
}

/// The next thing to do for the next segment.
#[derive(Debug)]
pub(super) enum NextStep {
    /// Prepare it.
    Prepare,
    /// Bring in pages of it.
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

    /// Begins the next segment, the one with `base`, for a frame of `len` bytes. `last` is the segment before, if it may be written to
    /// again.
    pub(super) fn next(
        &self,
        last: Option<Resumable>,
        base: SequenceNumber,
        now: Timestamp,
        len: u64,
    ) -> Result<Active> {
        let has_room =
            |last: &Resumable| last.frames.is_empty() || last.has_room(self.writing.segment_bytes, len);
        let begin_prepared = || {
            // The list stays locked until the file has its name as a segment. A thread that finds the list empty creates a file, under the
            // name that this one still has.
            let mut ready = self.ready.lock();
            let prepared = ready.pop_if(|prepared| prepared.has_room(len))?;
            Some(Active::begin_in(prepared, &self.dir, base, now, self.writing))
        };
        let last = match last.filter(has_room) {
            Some(last) if !last.frames.is_empty() && self.has_second_name(last.base)? => None,
            last => last,
        };
        let next = if let Some(last) = last {
            Active::resume(&self.dir, last, now, self.writing, len)?
        } else if let Some(begun) = begin_prepared() {
            begun?
        } else {
            Active::create(&self.dir, base, now, self.writing, len)?
        };
        self.demand.lock().note_begun();
        Ok(next)
    }

    /// Returns whether the file of a segment has a second name, such as that in a snapshot. Then it is no longer written to.
    fn has_second_name(&self, base: SequenceNumber) -> Result<bool> {
        DataFile::open(&self.dir.segment_path(base))?.has_second_name()
    }

    /// Returns what should be done so that `wanted` bytes of the next segment's pages are brought in.
    pub(super) fn next_step(&self, wanted: u64) -> NextStep {
        match self.ready.lock().last() {
            None => NextStep::Prepare,
            Some(next) => next.pages(wanted).map_or(NextStep::Nothing, NextStep::BringIn),
        }
    }

    /// Prepares the next segment, except for its pages.
    pub(super) fn prepare(&self) -> Result<()> {
        let _making = self.making.lock();
        let prepared = Prepared::create(&self.dir, self.writing)?;
        // Inserted first, so that a segment whose pages were brought in stays next.
        self.ready.lock().insert(0, prepared);
        Ok(())
    }

    /// Brings pages in, unless their segment was given up. A thread that gives it up waits for this.
    pub(super) fn bring_in(&self, pages: &PreparedPages) {
        let _making = self.making.lock();
        pages.carry_out();
    }

    /// Records that pages were brought in. The segment may still be a prepared one.
    pub(super) fn note_prepared(&self, pages: &PreparedPages) {
        self.ready.lock().iter_mut().for_each(|prepared| prepared.note_prepared(pages));
    }

    /// Returns how many trimmed segments are worth keeping.
    pub(super) fn wants_trimmed(&self) -> usize {
        let wanted = self.demand.lock().wanted();
        wanted.saturating_sub(self.ready.lock().len())
    }

    /// Closes a trimmed segment to later readers, and returns whether its file may be refilled.
    pub(super) fn may_refill(&self, dropped: Dropped) -> bool {
        let is_of_this_opening = dropped.base() >= self.opened_at;
        dropped.close() && is_of_this_opening
    }

    /// Refills the files of trimmed segments. See [`Prepared::refill`].
    pub(super) fn refill(&self, bases: &[SequenceNumber]) -> Result<()> {
        let _making = self.making.lock();
        let refilled = Prepared::refill(&self.dir, bases, self.writing)?;
        self.ready.lock().splice(0..0, refilled);
        Ok(())
    }

    /// Gives up excess prepared segments. Called once in each maintenance pass. A busy shard keeps one.
    pub(super) fn drop_idle(&self, is_busy: bool) {
        let kept = self.demand.lock().note_pass().max(usize::from(is_busy));
        let _making = self.making.lock();
        let mut ready = self.ready.lock();
        let excess = ready.len().saturating_sub(kept);
        let idle: Vec<_> = ready.drain(..excess).collect();
        // Without the lock, because removing files takes time and a roll need not wait for it.
        drop(ready);
        drop(idle);
    }

    /// Gives up all ready prepared segments. One that is being prepared is left to the thread that prepares it.
    pub(super) fn give_up_ready(&self) {
        self.ready.lock().clear();
    }

    /// Gives up all prepared segments, including one that is being prepared or whose pages are being brought in. No thread prepares another until
    /// the guard is dropped.
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

    /// Returns the outcome of something that needs disk space. If the disk was full, retries it while no shard of the stream has a prepared
    /// segment or is preparing one. If the retry fails too, the disk really has no room.
    #[inline]
    pub(super) fn retry_if_full<T>(
        &self,
        outcome: Result<T>,
        retry: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        match outcome {
            Err(Error::StorageFull(_)) => self.without_prepared(retry),
            outcome => outcome,
        }
    }

    #[cold]
    fn without_prepared<T>(&self, retry: impl FnOnce() -> Result<T>) -> Result<T> {
        let all = self.all.lock();
        let sources: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
        let _nothing_is_prepared: Vec<_> = sources.iter().map(|source| source.give_up_all()).collect();
        retry()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::ShardId;
    use crate::log::segment::stored::read_header;
    use crate::log::sys::dir;
    use crate::log::sys::fault::set_hook;
    use crate::log::sys::root::OwnPath;

    fn source(stream_dir: &Path) -> SegmentSource {
        let dir = ShardDir::new(&OwnPath::open_root(stream_dir).unwrap(), ShardId::new(0));
        dir::create(dir.path()).unwrap();
        let writing = Writing { segment_bytes: 64 << 10, syncs_each: false };
        SegmentSource::new(dir, writing, SequenceNumber::ZERO)
    }

    #[test]
    fn p1_a_segment_that_begins_keeps_its_file_while_the_next_one_is_prepared() {
        let scratch = tempfile::tempdir().unwrap();
        let source = &source(scratch.path());
        source.prepare().unwrap();
        let (ask, asked) = mpsc::channel();
        let (answer, answered) = mpsc::channel();
        std::thread::scope(|threads| {
            let preparing = threads.spawn(move || {
                asked.recv().unwrap();
                let step = source.next_step(1);
                if matches!(step, NextStep::Prepare) {
                    source.prepare().unwrap();
                }
                // Nobody may be waiting any more.
                let _ = answer.send(());
            });
            set_hook(Some(Box::new(move |action, file| {
                if action == "write to" && file.ends_with("spare") {
                    ask.send(()).unwrap();
                    // It must wait until the segment has its name. If it does not, this gives it the time to take the file's name away.
                    let _ = answered.recv_timeout(Duration::from_millis(200));
                }
                Ok(())
            })));
            let begun = source.next(None, 5.into(), Timestamp::from_millis(1), 100);
            set_hook(None);
            begun.unwrap();
            preparing.join().unwrap();
        });
        let place = source.dir.segment(5.into());
        let header = read_header(&DataFile::open(&place.path).unwrap(), &place).unwrap();
        assert_eq!(header.base_sequence, 5, "P1: records go to the file that has the segment's name");
        assert!(matches!(source.next_step(1), NextStep::BringIn(_)), "and the next one is prepared");
    }

    #[test]
    fn p8_a_segment_that_is_given_up_is_not_kept_by_a_thread_that_was_to_bring_in_its_pages() {
        let scratch = tempfile::tempdir().unwrap();
        let source = &source(scratch.path());
        source.prepare().unwrap();
        let NextStep::BringIn(pages) = source.next_step(1) else { panic!("no pages were brought in yet") };
        let nothing_is_prepared = source.give_up_all();
        assert!(pages.are_gone(), "P8: a file that is mapped keeps its blocks, and the put finds no room");
        let (tell, told) = mpsc::channel();
        std::thread::scope(|threads| {
            threads.spawn(move || {
                source.bring_in(&pages);
                tell.send(()).unwrap();
            });
            let early = told.recv_timeout(Duration::from_millis(100));
            drop(nothing_is_prepared);
            assert!(early.is_err(), "P8: pages of a segment that goes meanwhile would keep its blocks");
            told.recv().unwrap();
        });
    }

    #[test]
    fn as_many_prepared_segments_are_kept_as_the_busier_of_two_passes_began() {
        let mut demand = Demand::default();
        assert_eq!(demand.note_pass(), 0);
        for begun in [3, 1, 3, 1] {
            (0..begun).for_each(|_| demand.note_begun());
            assert_eq!(demand.note_pass(), 3);
        }
        let rest: Vec<_> = (0..11).map(|_| demand.note_pass()).collect();
        assert_eq!(rest, [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0], "an idle shard gives its room back");
    }
}
