//! The list of a shard's segments, if another process may write them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::segment::{Dropped, OpenWindows, Segment, Slot};
use super::segments::{FollowedSegments, Segments};
use crate::log::live::watch::Seen;
use crate::log::segment::place::{SegmentPlace, ShardDir};
use crate::log::segment::window::Window;
use crate::log::sys::fault;
use crate::log::sys::root::OwnPath;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;

impl FollowedSegments {
    /// Opens a segment up to the end that its slot gives.
    pub(super) fn open(&self, place: SegmentPlace, slot: &Slot) -> Result<Window> {
        let Some(committed) = slot.growing else {
            return Window::open_shared(place, slot.end.unwrap_or_else(|| self.end()));
        };
        let window = Window::follow(place, self.segment_bytes.max(committed))?;
        window.show(committed)?;
        Ok(window)
    }

    /// Returns the number after the last record.
    fn end(&self) -> SequenceNumber {
        self.end.load(Ordering::Acquire).into()
    }
}

impl Segments {
    /// Returns an empty list of the segments of a shard that another process may write.
    pub(crate) fn followed(shard_dir: ShardDir, windows: Arc<OpenWindows>, segment_bytes: u64) -> Self {
        let followed = Some(FollowedSegments { segment_bytes, end: AtomicU64::new(0) });
        Self { followed, ..Self::new(shard_dir, &[], windows) }
    }

    /// Returns the directory of the shard.
    pub(super) fn dir(&self) -> &OwnPath {
        self.shard_dir.path()
    }

    /// Lets a test do something before a found segment is opened.
    #[inline]
    pub(super) fn point_if_followed(&self) -> Result<()> {
        let action = "open a segment of";
        let point = if self.followed.is_some() { fault::point(action, self.dir()) } else { Ok(()) };
        point.map_err(|error| Error::io(action, self.dir(), error))
    }

    fn note_end(&self, end: SequenceNumber) {
        if let Some(followed) = &self.followed {
            followed.end.store(end.get(), Ordering::Release);
        }
    }

    /// Replaces all segments with those that begin with `bases`, which hold the records before `end`.
    pub(super) fn replace(&self, bases: &[SequenceNumber], end: SequenceNumber) {
        let old = {
            let mut list = self.list.write();
            self.note_end(end);
            std::mem::replace(&mut *list, new_segments(bases, None))
        };
        old.into_iter().for_each(Segment::abandon);
    }

    /// Lists the directory if [`follow`](Self::follow) needs that.
    pub(super) fn list_if_new(&self, seen: &Seen) -> Result<Option<Vec<SequenceNumber>>> {
        let last = self.list.read().back().map(|last| last.base);
        let is_new = seen.holder().is_some_and(|(base, _)| last != Some(base));
        is_new.then(|| self.shard_dir.bases()).transpose()
    }

    /// Takes over what another process shows of its segments. `bases` are those in the directory, if the last one is new.
    ///
    /// After each step, a reader that is at the end of a segment finds the next one, and one that opens a segment finds where it ends:
    /// 1. The segment that was the last one learns where the next one begins. If it was written to again since it was opened, its window is
    ///    closed.
    /// 2. The new ones are added.
    /// 3. The one that was the last is ended.
    pub(super) fn follow(&self, seen: &Seen, bases: Option<Vec<SequenceNumber>>) -> Result<()> {
        let Some((base, committed)) = seen.holder() else { return Ok(()) };
        let last = self.list.read().back().cloned();
        if let Some(last) = last.as_ref().filter(|last| last.base == base) {
            self.note_end(seen.end);
            return Self::grow(last, committed);
        }
        let known = last.as_ref().map(|last| last.base);
        let is_new = |&new: &SequenceNumber| new < base && known.is_none_or(|known| new > known);
        // Some may be gone from the directory by now. Their records are trimmed.
        let mut added: Vec<_> = bases.unwrap_or_default().into_iter().filter(is_new).collect();
        added.push(base);
        if let Some(last) = &last {
            let known_end = self.followed.as_ref().map_or(seen.end, FollowedSegments::end);
            let mut slot = last.slot.lock();
            slot.end = Some(added[0]);
            if slot.growing.is_none() && added[0] > known_end {
                slot.close_window();
            }
        }
        {
            let mut list = self.list.write();
            list.extend(new_segments(&added, Some(committed)));
            self.note_end(seen.end);
        }
        let Some(last) = last else { return Ok(()) };
        let mut slot = last.slot.lock();
        let was_growing = slot.growing.take().is_some();
        let Some(window) = slot.window.as_ref().filter(|_| was_growing) else { return Ok(()) };
        let is_whole = match seen.before.filter(|&(before, _)| before == last.base) {
            Some((_, end)) => window.show(end)?,
            None => false,
        };
        if is_whole {
            window.end();
        } else {
            // It is opened again, up to its end.
            slot.close_window();
        }
        Ok(())
    }

    /// Drops the segments from which nothing can be read any more.
    pub(super) fn drop_shown_behind(&self, seen: &Seen) {
        // Dropping them lets their files go. A reader at the end of one must look for the next.
        let dropped = self.drop_behind(seen.horizon, Some(seen.end));
        dropped.iter().for_each(Dropped::end);
        if seen.horizon >= seen.end {
            // All segments were dropped. The next put may go into the last one, which is then found anew.
            drop(dropped);
            self.note_end(seen.end);
        }
    }

    /// Shows more of the segment to which frames are added.
    fn grow(segment: &Segment, committed: u64) -> Result<()> {
        let mut slot = segment.slot.lock();
        let was_growing = slot.growing.replace(committed).is_some();
        let Some(window) = &slot.window else { return Ok(()) };
        // A window of a segment that was closed, or that is too short for a large frame, is opened again.
        if !was_growing || !window.show(committed)? {
            slot.close_window();
        }
        Ok(())
    }
}

impl Segment {
    /// Keeps threads that still hold the segment from opening its file, which may be another segment's by now.
    fn abandon(self: Arc<Self>) {
        let mut slot = self.slot.lock();
        slot.is_dropped = true;
        slot.close_window();
    }
}

impl Slot {
    /// Closes the window. A reader that holds it then looks for another one.
    pub(super) fn close_window(&mut self) {
        if let Some(window) = self.window.take() {
            window.end();
        }
    }
}

/// Returns segments that follow each other. Frames are added to the last one, which is committed up to `growing`, if that is given.
fn new_segments(bases: &[SequenceNumber], growing: Option<u64>) -> VecDeque<Arc<Segment>> {
    let ends = bases.iter().skip(1).map(|&next| Some(next)).chain([None]);
    let new = |(&base, end): (&SequenceNumber, Option<SequenceNumber>)| {
        let growing = growing.filter(|_| end.is_none());
        Arc::new(Segment { base, slot: Mutex::new(Slot { end, growing, ..Slot::default() }) })
    };
    bases.iter().zip(ends).map(new).collect()
}
