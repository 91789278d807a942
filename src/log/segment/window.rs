//! A window: a segment opened for reading, its committed frames, and how to find one.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use super::place::SegmentPlace;
use super::stored;
use crate::log::format::fault::FrameFault;
use crate::log::format::frame::{Frame, FrameHeader};
use crate::log::format::header::{FRAMES_FROM, SegmentHeader};
use crate::log::format::index::{Index, IndexEntry};
use crate::log::format::salt::Salt;
use crate::log::format::summary::Indexed;
use crate::log::format::trailer::Trailer;
use crate::log::format::walk::{Depth, FrameWalk};
use crate::log::sys::file::DataFile;
use crate::log::sys::map::Map;
use crate::log::sys::watermark::Observed;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// A segment opened for reading.
#[derive(Debug)]
pub(crate) struct Window {
    map: Arc<Map>,
    pub(crate) place: SegmentPlace,
    pub(crate) salt: Salt,
    /// What the clock showed when the segment was begun.
    pub(crate) begun: Timestamp,
    /// The trailer, which locates the index in the file, for a segment that was opened sealed.
    trailer: Option<Trailer>,
    /// Read or rebuilt on first use.
    index: RwLock<Option<Index>>,
}

impl Window {
    /// Opens a segment that is no longer written to. `end` is where the next segment begins, if there is one.
    pub(crate) fn open(place: SegmentPlace, end: Option<SequenceNumber>) -> Result<Self> {
        let file = DataFile::open(&place.path)?;
        let header = stored::read_header(&file, &place)?;
        let salt = Salt::new(header.salt);
        let trailer = stored::read_trailer(&file, &header)?;
        let frames_end = match trailer {
            Some(trailer) => trailer.frames.end,
            // Reading data never requires a trailer: without one, the frames themselves show where they end.
            None => scan_end(&file, &place, &salt, end)?,
        };
        let map = Map::read_only(file.std(), frames_end).map_err(|error| file.error("map", error))?;
        let begun = Timestamp::from_micros(header.created_at_micros);
        Ok(Self { map, place, salt, begun, trailer, index: RwLock::default() })
    }

    /// Returns the window of a segment that is written to, or was until now. `index` covers the frames written so far.
    pub(super) fn of_written(
        map: Arc<Map>,
        place: SegmentPlace,
        header: &SegmentHeader,
        index: Index,
    ) -> Self {
        let (salt, index) = (Salt::new(header.salt), RwLock::new(Some(index)));
        let begun = Timestamp::from_micros(header.created_at_micros);
        Self { map, place, salt, begun, trailer: None, index }
    }

    pub(super) fn map(&self) -> &Arc<Map> {
        &self.map
    }

    /// Returns whether anybody besides the caller holds the window or bytes of it.
    pub(crate) fn is_shared(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || Arc::strong_count(&self.map) > 1
    }

    /// Closes the window. Returns whether it was the last use of the file, so that nobody holds the window or bytes of it.
    pub(crate) fn close(self: Arc<Self>) -> bool {
        Arc::into_inner(self).is_some_and(|window| Arc::into_inner(window.map).is_some())
    }

    /// Returns how far readers may read now, and whether that is final.
    #[inline]
    pub(crate) fn observe(&self) -> Observed {
        self.map.observe()
    }

    /// Returns how far readers may read now.
    #[inline]
    pub(crate) fn committed(&self) -> u64 {
        self.map.committed()
    }

    /// Returns committed bytes behind the header page.
    #[inline]
    pub(crate) fn bytes(&self, range: Range<u64>) -> &[u8] {
        self.map.bytes(range)
    }

    /// Returns committed bytes that keep the segment mapped.
    pub(crate) fn shared_bytes(&self, range: Range<u64>) -> Bytes {
        self.map.shared_bytes(range)
    }

    /// Returns the error for a bad frame.
    #[cold]
    pub(crate) fn fault(&self, offset: u64, sequence: SequenceNumber, fault: &FrameFault) -> Error {
        match fault {
            FrameFault::Unsupported { .. } => {
                Error::unsupported(&self.place.path, format!("{fault} at byte {offset}"))
            }
            _ => self.place.damage(offset, sequence, fault.to_string()),
        }
    }

    /// Adds an entry to the index of a segment that is written to. The frame must be committed.
    pub(super) fn note(&self, entry: IndexEntry) {
        self.index.write().get_or_insert_default().note(entry);
    }

    /// Runs `work` on the index. The first call reads it from the file or rebuilds it from the frames.
    pub(super) fn with_index<T>(&self, work: impl FnOnce(&Index) -> T) -> Result<T> {
        if let Some(index) = self.index.read().as_ref() {
            return Ok(work(index));
        }
        let mut slot = self.index.write();
        if slot.is_none() {
            let stored = self.trailer.and_then(|trailer| stored::load_index(&self.place, &trailer));
            *slot = Some(match stored {
                Some(index) => index,
                None => self.rebuild_index()?,
            });
        }
        Ok(work(slot.get_or_insert_default()))
    }

    fn rebuild_index(&self) -> Result<Index> {
        let mut rebuilt = Indexed::empty(self.place.base.get());
        let mut walk = self.walk_from(None);
        while let Some(frame) = walk.next().map_err(|fault| self.fault_of(&walk, &fault))? {
            rebuilt.add(&frame);
        }
        Ok(rebuilt.index)
    }

    /// Walks along the committed frames, from the one that the index entry names or, if there is no entry or it is wrong, from the first.
    fn walk_from(&self, entry: Option<IndexEntry>) -> FrameWalk<'_> {
        // `committed` must be read after the entry, which was added after its frame was committed.
        let committed = self.committed();
        let named = entry.filter(|entry| {
            (FRAMES_FROM..committed).contains(&entry.offset)
                && FrameHeader::peek(self.bytes(entry.offset..committed))
                    .is_ok_and(|header| header.base_sequence == entry.sequence)
        });
        let first = IndexEntry { sequence: self.place.base.get(), timestamp_micros: 0, offset: FRAMES_FROM };
        let IndexEntry { sequence, offset, .. } = named.unwrap_or(first);
        FrameWalk::new(self.bytes(offset..committed), offset, sequence, Depth::Headers)
    }

    fn fault_of(&self, walk: &FrameWalk<'_>, fault: &FrameFault) -> Error {
        self.fault(walk.offset(), SequenceNumber::new(walk.next_sequence()), fault)
    }

    /// Checks that a committed frame is whole, so that its header can be trusted. A frame of a newer version passes too.
    fn check(&self, offset: u64) -> Result<(), FrameFault> {
        match Frame::decode(self.bytes(offset..self.committed()), &self.salt) {
            Ok(_) | Err(FrameFault::Unsupported { .. }) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Returns the offset of the frame that holds a sequence number, or the committed end if that comes first.
    pub(crate) fn offset_of(&self, sequence: SequenceNumber) -> Result<u64> {
        Ok(self.find(sequence)?.0)
    }

    /// Returns the offset of the frame that holds a sequence number, and its header if it is already committed.
    fn find(&self, sequence: SequenceNumber) -> Result<(u64, Option<FrameHeader>)> {
        let entry = self.with_index(|index| index.before_sequence(sequence.get()))?;
        let mut walk = self.walk_from(entry);
        let found = walk.find(|_, frame| sequence.get() < frame.end_sequence());
        let frame = found.map_err(|fault| self.fault_of(&walk, &fault))?;
        Ok((walk.offset(), frame))
    }

    /// Returns the first whole frame behind a sequence number that the index has an entry for.
    pub(crate) fn next_whole_frame(&self, damaged: SequenceNumber) -> Option<SequenceNumber> {
        let committed = self.committed();
        let is_whole = |entry: &&IndexEntry| {
            (FRAMES_FROM..committed).contains(&entry.offset)
                && Frame::decode(self.bytes(entry.offset..committed), &self.salt)
                    .is_ok_and(|frame| frame.header.base_sequence == entry.sequence)
        };
        let found =
            self.with_index(|index| index.after_sequence(damaged.get()).iter().find(is_whole).copied());
        found.ok().flatten().map(|entry| SequenceNumber::new(entry.sequence))
    }

    /// Returns when the record with a sequence number arrived, or `None` if it is not there yet or its frame is damaged.
    pub(crate) fn timestamp_of(&self, sequence: SequenceNumber) -> Result<Option<Timestamp>> {
        let (offset, frame) = self.find(sequence)?;
        let whole = frame.filter(|_| self.check(offset).is_ok());
        Ok(whole.map(|frame| Timestamp::from_micros(frame.timestamp_micros)))
    }

    /// Returns the number of the first record that arrived at a time or later, or the number after the last record if no record did.
    ///
    /// # Errors
    /// `Corrupt` for a damaged frame on the way. Its timestamp is meaningless, and it must not be skipped silently.
    pub(crate) fn first_at_or_after(&self, time: Timestamp) -> Result<SequenceNumber> {
        let sealed = self.trailer.map(|trailer| trailer.frames);
        if let Some(frames) = sealed.filter(|frames| frames.last_timestamp_micros < time.as_micros()) {
            return Ok(frames.end_sequence.into());
        }
        let entry = self.with_index(|index| index.before_timestamp(time.as_micros()))?;
        let mut walk = self.walk_from(entry);
        let is_it = |offset, frame: &FrameHeader| {
            frame.timestamp_micros >= time.as_micros() || self.check(offset).is_err()
        };
        let found = walk.find(is_it).and_then(|found| match found {
            Some(_) => self.check(walk.offset()),
            None => Ok(()),
        });
        found.map_err(|fault| self.fault_of(&walk, &fault))?;
        Ok(walk.next_sequence().into())
    }

    /// Returns when the first record arrived, or `None` if the segment is empty.
    pub(crate) fn first_timestamp(&self) -> Result<Option<Timestamp>> {
        if let Some(trailer) = &self.trailer {
            return Ok(Some(Timestamp::from_micros(trailer.frames.first_timestamp_micros)));
        }
        let walk = self.walk_from(None);
        let first = walk.here().map_err(|fault| self.fault_of(&walk, &fault))?;
        Ok(first.map(|frame| Timestamp::from_micros(frame.timestamp_micros)))
    }
}

/// Returns where the frames of a segment without a trailer end. If they do not reach `end`, it returns the end of the file, so that a
/// reader meets the damage and reports it.
fn scan_end(file: &DataFile, place: &SegmentPlace, salt: &Salt, end: Option<SequenceNumber>) -> Result<u64> {
    let len = file.len()?;
    let map = Map::read_only(file.std(), len).map_err(|error| file.error("map", error))?;
    let frames = map.bytes(FRAMES_FROM..len);
    let mut walk = FrameWalk::new(frames, FRAMES_FROM, place.base.get(), Depth::Whole(salt));
    while let Ok(Some(_)) = walk.next() {}
    Ok(if end.is_none_or(|end| end.get() == walk.next_sequence()) { walk.offset() } else { len })
}
