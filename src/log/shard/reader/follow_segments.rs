//! The list of a shard's segments, if another process may write them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::segment::{OpenWindows, Segment};
use super::segments::{FollowedSegments, Segments};
use crate::log::live::watch::Seen;
use crate::log::segment::place::{SegmentPlace, ShardDir};
use crate::log::segment::window::Window;
use crate::log::sys::root::OwnPath;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;

impl FollowedSegments {
    /// Opens a segment. `end` is where the next one begins, and `growing` how far it is committed if frames are still added to it.
    pub(super) fn open(
        &self,
        place: SegmentPlace,
        end: Option<SequenceNumber>,
        growing: Option<u64>,
    ) -> Result<Window> {
        let Some(committed) = growing else {
            let end = end.unwrap_or_else(|| self.end.load(Ordering::Acquire).into());
            return Window::open_shared(place, end);
        };
        let window = Window::follow(place, self.segment_bytes.max(committed))?;
        window.show(committed)?;
        Ok(window)
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

    fn note_end(&self, end: SequenceNumber) {
        if let Some(followed) = &self.followed {
            followed.end.store(end.get(), Ordering::Release);
        }
    }

    /// Replaces all segments by those that begin with `bases`, which hold the records before `end`.
    pub(super) fn replace(&self, bases: &[SequenceNumber], end: SequenceNumber) {
        let new = |&base: &SequenceNumber| Arc::new(Segment { base, slot: Mutex::default() });
        let old = {
            let mut list = self.list.write();
            self.note_end(end);
            std::mem::replace(&mut *list, bases.iter().map(new).collect::<VecDeque<_>>())
        };
        for segment in old {
            let mut slot = segment.slot.lock();
            slot.is_dropped = true;
            if let Some(window) = slot.window.take() {
                window.end();
            }
        }
    }

    /// Takes over what another process shows of its segments.
    ///
    /// Within each step, a reader that is at the end of a segment finds the next one: segments are added before the one that was the
    /// last is ended.
    pub(super) fn follow(&self, seen: &Seen) -> Result<()> {
        let Some((base, committed)) = seen.last.filter(|&(base, _)| base < seen.end) else {
            self.note_end(seen.end);
            return Ok(());
        };
        let last = self.list.read().back().cloned();
        match last {
            Some(last) if last.base == base => {
                self.note_end(seen.end);
                Self::grow(&last, committed)?;
            }
            last => {
                let known = last.as_ref().map(|last| last.base);
                let bases = self.shard_dir.bases()?;
                let is_new = |&new: &SequenceNumber| new < base && known.is_none_or(|known| new > known);
                let mut added: Vec<_> = bases.into_iter().filter(is_new).collect();
                // The last one may be gone from the directory by now, but then its records are trimmed, which a reader learns when it opens the
                // file.
                added.push(base);
                let new = |base| Arc::new(Segment { base, slot: Mutex::default() });
                let added: Vec<_> = added.into_iter().map(new).collect();
                // It may have been written to again since, and have ended.
                let known_end =
                    self.followed.as_ref().map_or(0, |followed| followed.end.load(Ordering::Acquire));
                let has_grown = added.first().is_some_and(|first| first.base.get() > known_end);
                if let Some(newest) = added.last() {
                    newest.slot.lock().growing = Some(committed);
                }
                {
                    let mut list = self.list.write();
                    list.extend(added);
                    self.note_end(seen.end);
                }
                if let Some(last) = last {
                    let end = seen.before.filter(|before| before.0 == last.base).map(|before| before.1);
                    Self::end(&last, end, has_grown)?;
                }
            }
        }
        Ok(())
    }

    /// Returns where the last segment ends, or `None` if frames are added to it.
    pub(super) fn last_end(&self) -> Option<SequenceNumber> {
        let last = self.list.read().back().cloned()?;
        let end = self.followed.as_ref()?.end.load(Ordering::Acquire);
        let is_growing = last.slot.lock().growing.is_some();
        (!is_growing).then_some(end.into())
    }

    /// Shows more of the segment to which frames are added.
    fn grow(segment: &Segment, committed: u64) -> Result<()> {
        let mut slot = segment.slot.lock();
        let was_growing = slot.growing.replace(committed).is_some();
        let Some(window) = &slot.window else { return Ok(()) };
        // A window of a segment that was closed, or that is too short for a large frame, is opened again.
        if !was_growing || !window.show(committed)? {
            window.end();
            slot.window = None;
        }
        Ok(())
    }

    /// Ends a segment to which no more frames are added. They end at `end`, if that is known.
    fn end(segment: &Segment, end: Option<u64>, has_grown: bool) -> Result<()> {
        let mut slot = segment.slot.lock();
        let was_growing = slot.growing.take().is_some();
        let Some(window) = slot.window.as_ref().filter(|_| was_growing || has_grown) else { return Ok(()) };
        let is_whole = match end.filter(|_| was_growing) {
            Some(end) => window.show(end)?,
            None => false,
        };
        window.end();
        // Otherwise it is opened again, up to its end.
        if !is_whole {
            slot.window = None;
        }
        Ok(())
    }
}
