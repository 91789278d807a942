//! The list of a shard's segments, in which readers find them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::segment::{Begun, Dropped, OpenWindows, Segment, Slot};
use crate::log::format::header::FRAMES_FROM;
use crate::log::segment::place::ShardDir;
use crate::log::segment::stored;
use crate::log::segment::window::Window;
use crate::log::sys::dir;
use crate::log::sys::file::DataFile;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// The segments of a shard in order.
///
/// A reader takes this lock only to go from one segment to the next. In between it works on its window. The writer adds a segment before it
/// ends the previous one, so a reader that has seen the end of one finds the next.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(super) shard_dir: ShardDir,
    pub(super) list: RwLock<VecDeque<Arc<Segment>>>,
    pub(super) windows: Arc<OpenWindows>,
    /// For a stream that another process may have open.
    pub(super) followed: Option<FollowedSegments>,
}

/// What is known about the segments of a shard that another process may write.
#[derive(Debug)]
pub(super) struct FollowedSegments {
    /// The size of a segment, unless a frame is larger.
    pub(super) segment_bytes: u64,
    /// The number after the last record, which is in the last segment.
    pub(super) end: AtomicU64,
}

/// The present: what the clock shows, and how much time has passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Present {
    pub(crate) now: Timestamp,
    pub(crate) elapsed: Duration,
}

/// What a segment holds, and the time of its first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentUse {
    /// The number after its last record.
    pub(crate) end: SequenceNumber,
    /// When its first record arrived, as far as that is known. If damage hides it, this is when the next segment begins: not earlier, so that no
    /// younger record of another shard is dropped before it.
    pub(crate) first_timestamp: Timestamp,
    /// See [`Segments::data_bytes`].
    pub(crate) bytes: u64,
}

/// A segment that a reader found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) window: Arc<Window>,
    /// Where the next segment begins, if there is one.
    pub(crate) end: Option<SequenceNumber>,
}

impl Segments {
    pub(crate) fn new(shard_dir: ShardDir, sealed: &[SequenceNumber], windows: Arc<OpenWindows>) -> Self {
        let list = sealed.iter().map(|&base| Arc::new(Segment { base, slot: Mutex::default() })).collect();
        Self { shard_dir, list: RwLock::new(list), windows, followed: None }
    }

    /// Adds a segment without a trailer at the end, or replaces the last one if that has the same name.
    pub(crate) fn push(&self, window: Arc<Window>, first_timestamp: Timestamp, begun: Begun) {
        let base = window.place.base;
        let (first_timestamp, begun) = (Some(first_timestamp), Some(begun));
        let slot = Slot { window: Some(window), first_timestamp, begun, is_pinned: true, ..Slot::default() };
        let segment = Arc::new(Segment { base, slot: Mutex::new(slot) });
        let mut list = self.list.write();
        if list.back().is_some_and(|last| last.base == base) {
            list.pop_back();
        }
        list.push_back(segment);
    }

    /// Records that a segment has its trailer, so that its window can be closed and opened again.
    pub(crate) fn unpin(&self, base: SequenceNumber) {
        let list = self.list.read();
        let Ok(at) = list.binary_search_by_key(&base, |segment| segment.base) else { return };
        let segment = Arc::clone(&list[at]);
        drop(list);
        segment.slot.lock().is_pinned = false;
        self.windows.add(segment);
    }

    pub(crate) fn len(&self) -> usize {
        self.list.read().len()
    }

    /// Returns the oldest sequence number that a segment holds.
    pub(crate) fn first_base(&self) -> Option<SequenceNumber> {
        self.list.read().front().map(|segment| segment.base)
    }

    /// Returns the first sequence numbers of all segments.
    pub(crate) fn bases(&self) -> Vec<SequenceNumber> {
        self.list.read().iter().map(|segment| segment.base).collect()
    }

    /// Opens and returns the last segment that begins at or before a sequence number.
    pub(crate) fn find(&self, sequence: SequenceNumber) -> Result<Option<Found>> {
        let (segment, end) = {
            let list = self.list.read();
            let after = list.partition_point(|segment| segment.base <= sequence);
            let Some(at) = after.checked_sub(1) else {
                return Ok(None);
            };
            (Arc::clone(&list[at]), list.get(after).map(|next| next.base))
        };
        self.point_if_followed()?;
        let window = self.open(&segment, end)?;
        Ok(Some(Found { window, end }))
    }

    fn open(&self, segment: &Arc<Segment>, end: Option<SequenceNumber>) -> Result<Arc<Window>> {
        let mut slot = segment.slot.lock();
        slot.is_used = true;
        if let Some(window) = &slot.window {
            return Ok(Arc::clone(window));
        }
        let place = self.shard_dir.segment(segment.base);
        if slot.is_dropped {
            return Err(Error::io("open", &place.path, io::ErrorKind::NotFound.into()));
        }
        let window = Arc::new(match &self.followed {
            None => Window::open(place, end)?,
            Some(followed) => followed.open(place, &slot)?,
        });
        slot.window = Some(Arc::clone(&window));
        drop(slot);
        self.windows.add(Arc::clone(segment));
        Ok(window)
    }

    /// Returns how many segments, from the first on, end at or before a sequence number. The last one ends at `last_end`, or has no end yet
    /// if that is `None`.
    pub(crate) fn count_behind(&self, sequence: SequenceNumber, last_end: Option<SequenceNumber>) -> usize {
        count_behind(&self.list.read(), sequence, last_end)
    }

    /// Takes those segments off the list and returns them, oldest first.
    pub(crate) fn drop_behind(
        &self,
        sequence: SequenceNumber,
        last_end: Option<SequenceNumber>,
    ) -> Vec<Dropped> {
        let mut list = self.list.write();
        let count = count_behind(&list, sequence, last_end);
        list.drain(..count).map(Dropped).collect()
    }

    /// Returns the bytes that all segment files take on disk, without segments that are trimmed during the call.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        self.sum(Self::disk_bytes_of)
    }

    /// Returns the bytes that all segments hold, without segments that are trimmed during the call. A segment without a trailer holds what
    /// is before the end of its frames. The blocks behind that are reserved, and a killed process may have left any number of them.
    pub(crate) fn data_bytes(&self) -> Result<u64> {
        self.sum(Self::data_bytes_of)
    }

    fn sum(&self, bytes_of: impl Fn(&Self, &Segment, &mut Slot) -> Result<u64>) -> Result<u64> {
        let list: Vec<_> = self.list.read().iter().cloned().collect();
        let mut bytes = 0;
        for segment in &list {
            match bytes_of(self, segment, &mut segment.slot.lock()) {
                Ok(of_segment) => bytes += of_segment,
                Err(_) if !dir::exists(&self.shard_dir.segment_path(segment.base))? => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    fn disk_bytes_of(&self, segment: &Segment, slot: &mut Slot) -> Result<u64> {
        let disk_bytes = match slot.disk_bytes {
            Some(bytes) => bytes,
            None => DataFile::open(&self.shard_dir.segment_path(segment.base))?.disk_bytes()?,
        };
        // An unsealed segment still grows, or frees blocks.
        slot.disk_bytes = (!slot.is_pinned && self.followed.is_none()).then_some(disk_bytes);
        Ok(disk_bytes)
    }

    fn data_bytes_of(&self, segment: &Segment, slot: &mut Slot) -> Result<u64> {
        match &slot.window {
            Some(window) if slot.is_pinned => Ok(window.committed()),
            _ if slot.growing.is_some() => Ok(slot.growing.unwrap_or_default()),
            _ => self.disk_bytes_of(segment, slot),
        }
    }

    /// Returns the bytes of frames from a sequence number on, which is in the segment `first`. A segment that is not open counts with its
    /// whole file.
    pub(crate) fn bytes_from(&self, first: &Window, sequence: SequenceNumber) -> Result<u64> {
        let offset = first.offset_of(sequence)?;
        let mut bytes = first.committed().saturating_sub(offset);
        let later: Vec<_> =
            self.list.read().iter().filter(|segment| segment.base > sequence).cloned().collect();
        for segment in later {
            let mut slot = segment.slot.lock();
            bytes += match (&slot.window, slot.growing) {
                (_, Some(committed)) => committed.saturating_sub(FRAMES_FROM),
                (Some(window), None) => window.committed().saturating_sub(FRAMES_FROM),
                (None, None) => match self.disk_bytes_of(&segment, &mut slot) {
                    Err(_) if !dir::exists(&self.shard_dir.segment_path(segment.base))? => 0,
                    disk_bytes => disk_bytes?,
                },
            };
        }
        Ok(bytes)
    }

    /// Returns what each segment with an end holds, oldest first. The last one ends at `last_end`, or has no end yet if that is `None`. A
    /// segment that is trimmed during the call is left out. Which timestamps are wrong depends on the `present`.
    pub(crate) fn uses(&self, last_end: Option<SequenceNumber>, present: Present) -> Result<Vec<SegmentUse>> {
        let list: Vec<_> = self.list.read().iter().cloned().collect();
        let ends: Vec<_> = list.iter().skip(1).map(|next| Some(next.base)).chain([last_end]).collect();
        let mut uses = Vec::with_capacity(list.len());
        // From the youngest to the oldest, because a damaged one takes the time of the next one.
        let mut next_timestamp = Timestamp::from_micros(u64::MAX);
        for (segment, end) in list.iter().zip(ends).rev() {
            // A segment that ends where it begins is empty, or was begun after the caller looked.
            let Some(end) = end.filter(|&end| end > segment.base) else {
                next_timestamp = segment.slot.lock().first_timestamp.unwrap_or(next_timestamp);
                continue;
            };
            match self.use_of(segment, end, next_timestamp) {
                Ok(of_segment) => {
                    next_timestamp = of_segment.first_timestamp;
                    uses.push(of_segment);
                }
                Err(_) if !dir::exists(&self.shard_dir.segment_path(segment.base))? => {}
                Err(error) => return Err(error),
            }
        }
        uses.reverse();
        let now = present.now;
        if uses.iter().any(|of_segment| of_segment.first_timestamp.is_wrong_at(now)) {
            let begun = self.begun(SequenceNumber::ZERO, present);
            // Each began before the next one.
            let mut next = now;
            for of_segment in uses.iter_mut().rev() {
                let own = begun.iter().rfind(|(base, _)| *base < of_segment.end).map(|&(_, begun)| begun);
                let is_wrong = of_segment.first_timestamp.is_wrong_at(now);
                let first = if is_wrong { own.unwrap_or_default() } else { of_segment.first_timestamp };
                next = next.min(first);
                of_segment.first_timestamp = next;
            }
        }
        Ok(uses)
    }

    /// Returns when the segments were begun, by a clock that shows the present time and was never set.
    ///
    /// A segment is left out if its header cannot be read, or if the time in it must be wrong, because it is later than now or earlier than
    /// that of a segment before it. After opening, a segment at `end` without records is not on the list, but its file may be there.
    pub(crate) fn begun(&self, end: SequenceNumber, present: Present) -> Vec<(SequenceNumber, Timestamp)> {
        let list: Vec<_> = self.list.read().iter().cloned().collect();
        let empty = list.last().is_none_or(|last| last.base < end).then_some(end);
        let listed = list.iter().map(|segment| (segment.base, self.begun_of(segment)));
        let empty = empty.map(|base| (base, self.begun_at(base)));
        let mut latest = Timestamp::default();
        let begun = listed.chain(empty).filter_map(|(base, begun)| {
            let begun = match begun? {
                Begun::Passed(begun) => present.now - present.elapsed.saturating_sub(begun),
                Begun::Shown(begun) if latest.is_ahead_of(begun) || begun.is_wrong_at(present.now) => {
                    return None;
                }
                Begun::Shown(begun) => begun.max(latest),
            };
            latest = latest.max(begun);
            Some((base, begun))
        });
        begun.collect()
    }

    fn begun_of(&self, segment: &Segment) -> Option<Begun> {
        let mut slot = segment.slot.lock();
        if slot.begun.is_none() && !slot.is_dropped {
            slot.begun = self.begun_at(segment.base);
        }
        slot.begun
    }

    /// Reads when a segment was begun. Does not map its file: there may be many segments.
    fn begun_at(&self, base: SequenceNumber) -> Option<Begun> {
        stored::begun(&self.shard_dir.segment(base)).ok().map(Begun::Shown)
    }

    fn use_of(
        &self,
        segment: &Arc<Segment>,
        end: SequenceNumber,
        next_timestamp: Timestamp,
    ) -> Result<SegmentUse> {
        let mut slot = segment.slot.lock();
        let bytes = self.data_bytes_of(segment, &mut slot)?;
        let first_timestamp = match slot.first_timestamp {
            Some(timestamp) => timestamp,
            None => {
                drop(slot);
                match self.first_timestamp_of(segment, end) {
                    Ok(first) => {
                        segment.slot.lock().first_timestamp = Some(first);
                        first
                    }
                    // Its readers meet the damage. Retention needs no more of it than its place between the others.
                    Err(Error::Corrupt(_) | Error::UnsupportedFormat(_)) => next_timestamp,
                    Err(error) => return Err(error),
                }
            }
        };
        Ok(SegmentUse { end, first_timestamp, bytes })
    }

    /// Returns when the first record of a segment arrived. A sealed one says so in its trailer, and need not be mapped.
    fn first_timestamp_of(&self, segment: &Arc<Segment>, end: SequenceNumber) -> Result<Timestamp> {
        let place = self.shard_dir.segment(segment.base);
        let file = DataFile::open(&place.path)?;
        let header = stored::read_header(&file, &place)?;
        match stored::read_trailer(&file, &header)? {
            Some(trailer) => Ok(Timestamp::from_micros(trailer.frames.first_timestamp_micros)),
            None => Ok(self.open(segment, Some(end))?.first_timestamp()?.unwrap_or_default()),
        }
    }
}

fn count_behind(
    list: &VecDeque<Arc<Segment>>,
    sequence: SequenceNumber,
    last_end: Option<SequenceNumber>,
) -> usize {
    let ends = list.iter().skip(1).map(|next| Some(next.base)).chain([last_end]);
    // An empty last segment is never behind: the next put resumes it, or begins one of the same name.
    let is_behind = |(segment, end): &(&Arc<Segment>, Option<SequenceNumber>)| {
        end.is_some_and(|end| segment.base < end && end <= sequence)
    };
    list.iter().zip(ends).take_while(is_behind).count()
}
