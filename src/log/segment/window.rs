//! A window: a segment opened for reading, its committed frames, and how to find one.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::place::SegmentPlace;
use super::read_frames::read_frames;
use super::stored;
use crate::log::format::fault::FrameFault;
use crate::log::format::frame::{Frame, FrameHeader};
use crate::log::format::header::{FRAMES_FROM, SegmentHeader};
use crate::log::format::index::{Index, IndexEntry};
use crate::log::format::salt::Salt;
use crate::log::format::summary::{Indexed, Summary};
use crate::log::format::trailer::Trailer;
use crate::log::format::walk::{Depth, FrameWalk};
use crate::log::keys::segment_key::{SegmentKey, SegmentName};
use crate::log::sys::file::DataFile;
use crate::log::sys::map::Map;
use crate::log::sys::watermark::Observed;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// The index of a segment to which another process adds frames covers all but this many bytes of them.
const INDEX_BEHIND_MAX: u64 = 256 << 10;

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
    /// Read or rebuilt on first use. The summary counts only where another process adds frames: it says how far the index covers them.
    index: RwLock<Option<Indexed>>,
    /// The keys of its encrypted frames, by the numbers of the data keys.
    keys: Mutex<Vec<(u32, Arc<SegmentKey>)>>,
}

impl Window {
    /// Opens a segment that is no longer written to. `end` is where the next segment begins, if there is one.
    pub(crate) fn open(place: SegmentPlace, end: Option<SequenceNumber>) -> Result<Self> {
        Self::open_file(&DataFile::open(&place.path)?, place, end)
    }

    /// Opens a sealed segment in a file without a name. So its index is read now.
    pub(crate) fn open_unnamed(file: &DataFile, place: SegmentPlace, end: SequenceNumber) -> Result<Self> {
        let window = Self::open_file(file, place, Some(end))?;
        let stored = window.trailer.and_then(|trailer| {
            let index = stored::load_index_of(file, &window.place, &trailer)?;
            Some(Indexed { frames: trailer.frames, index })
        });
        // A damaged one is built again from the frames.
        *window.index.write() = Some(stored.unwrap_or_else(|| Indexed::empty(window.place.base.get())));
        Ok(window)
    }

    fn open_file(file: &DataFile, place: SegmentPlace, end: Option<SequenceNumber>) -> Result<Self> {
        let header = stored::read_header(file, &place)?;
        let salt = Salt::new(header.salt);
        let trailer = stored::read_trailer(file, &header)?;
        let frames_end = match trailer {
            Some(trailer) => trailer.frames.end,
            // Reading data never requires a trailer: without one, the frames themselves show where they end.
            None => scan_end(file, &header, end)?,
        };
        let map = Map::read_only(file.std(), frames_end).map_err(|error| file.error("map", error))?;
        let begun = Timestamp::from_micros(header.created_at_micros);
        Ok(Self { map, place, salt, begun, trailer, index: RwLock::default(), keys: Mutex::default() })
    }

    /// Opens a segment of a stream that another process may have open, after the last frame was added to it. `end` is where the next segment
    /// begins, or where the records of the shard end.
    pub(crate) fn open_shared(place: SegmentPlace, end: SequenceNumber) -> Result<Self> {
        let file = open_locked(&place)?;
        let header = stored::read_header(&file, &place)?;
        let trailer = stored::read_trailer(&file, &header)?;
        // A trailer may be from before the last frames.
        let trailer = trailer.filter(|trailer| trailer.frames.end_sequence >= end.get());
        let frames_end = match trailer {
            Some(trailer) => trailer.frames.end,
            None => scan_end(&file, &header, Some(end))?,
        };
        let window = Self::of_followed(file, place, &header, trailer, frames_end)?;
        window.show(frames_end)?;
        window.end();
        Ok(window)
    }

    /// Opens a segment to which another process adds frames, for up to `bytes` of them. It shows nothing yet. At least one frame must be
    /// committed: a segment without frames may still get another salt.
    pub(crate) fn follow(place: SegmentPlace, bytes: u64) -> Result<Self> {
        let file = open_locked(&place)?;
        let header = stored::read_header(&file, &place)?;
        let bytes = bytes.max(file.len()?);
        Self::of_followed(file, place, &header, None, bytes)
    }

    fn of_followed(
        file: DataFile,
        place: SegmentPlace,
        header: &SegmentHeader,
        trailer: Option<Trailer>,
        bytes: u64,
    ) -> Result<Self> {
        let map = Map::followed(file.into_std(), bytes, FRAMES_FROM);
        let map = map.map_err(|error| Error::io("map", &place.path, error))?;
        let (salt, begun) = (Salt::new(header.salt), Timestamp::from_micros(header.created_at_micros));
        Ok(Self { map, place, salt, begun, trailer, index: RwLock::default(), keys: Mutex::default() })
    }

    /// Shows more of a segment that another process writes: see [`Map::show`].
    pub(crate) fn show(&self, committed: u64) -> Result<bool> {
        self.map.show(committed).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                let reason = format!("expected frames up to byte {committed}, found the file to end before");
                self.place.damage(self.committed(), self.place.base, reason)
            }
            _ => Error::io("look at", &self.place.path, error),
        })
    }

    /// Marks what a segment shows that another process writes as final.
    pub(crate) fn end(&self) {
        self.map.end();
    }

    /// Returns the window of a segment that is written to, or was until now. `index` covers the frames written so far.
    pub(super) fn of_written(
        map: Arc<Map>,
        place: SegmentPlace,
        header: &SegmentHeader,
        index: Index,
    ) -> Self {
        let index = Indexed { frames: Summary::empty(header.base_sequence), index };
        let (salt, index) = (Salt::new(header.salt), RwLock::new(Some(index)));
        let begun = Timestamp::from_micros(header.created_at_micros);
        Self { map, place, salt, begun, trailer: None, index, keys: Mutex::default() }
    }

    /// Returns what the segment's key is derived for.
    pub(crate) fn name(&self) -> SegmentName<'_> {
        SegmentName { shard: self.place.shard, base: self.place.base, salt: self.salt.bytes() }
    }

    /// Returns the key that a data key gives for the segment. The first call derives it.
    pub(crate) fn key(
        &self,
        data_key: u32,
        derive: impl FnOnce(&SegmentName<'_>) -> Result<SegmentKey>,
    ) -> Result<Arc<SegmentKey>> {
        let known = |keys: &[(u32, Arc<SegmentKey>)]| {
            keys.iter().find(|(number, _)| *number == data_key).map(|(_, key)| Arc::clone(key))
        };
        if let Some(key) = known(&self.keys.lock()) {
            return Ok(key);
        }
        // The lock is not held while the data key is unwrapped, which may be slow.
        let derived = Arc::new(derive(&self.name())?);
        let mut keys = self.keys.lock();
        Ok(known(&keys).unwrap_or_else(|| {
            keys.push((data_key, Arc::clone(&derived)));
            derived
        }))
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
        if let Some(known) = &mut *self.index.write() {
            known.index.note(entry);
        }
    }

    /// Runs `work` on the index. The first call reads it from the file or rebuilds it from the frames.
    pub(super) fn with_index<T>(&self, work: impl FnOnce(&Index) -> T) -> Result<T> {
        if let Some(known) = self.index.read().as_ref().filter(|known| !self.is_behind(known)) {
            return Ok(work(&known.index));
        }
        let mut slot = self.index.write();
        let known = match &mut *slot {
            Some(known) => known,
            none => {
                let trailer = self.trailer.as_ref();
                let stored = trailer.and_then(|trailer| {
                    let index = stored::load_index(&self.place, trailer)?;
                    Some(Indexed { frames: trailer.frames, index })
                });
                none.insert(stored.unwrap_or_else(|| Indexed::empty(self.place.base.get())))
            }
        };
        let is_rebuilt = known.frames.is_empty() && known.index.len() == 0;
        if is_rebuilt || self.is_behind(known) {
            self.extend_index(known)?;
        }
        Ok(work(&known.index))
    }

    /// Returns whether another process has added so many frames that walking along them takes long.
    fn is_behind(&self, known: &Indexed) -> bool {
        self.map.is_followed() && self.committed() >= known.frames.end + INDEX_BEHIND_MAX
    }

    fn extend_index(&self, known: &mut Indexed) -> Result<()> {
        let frames = self.bytes(known.frames.end..self.committed());
        let mut walk = FrameWalk::new(frames, known.frames.end, known.frames.end_sequence, Depth::Headers);
        while let Some(frame) = walk.next().map_err(|fault| self.fault_of(&walk, &fault))? {
            known.add(&frame);
        }
        Ok(())
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

    /// Returns the header of the frame that holds a sequence number, or `None` if it is not there yet or is damaged.
    pub(crate) fn frame_of(&self, sequence: SequenceNumber) -> Result<Option<FrameHeader>> {
        let (offset, frame) = self.find(sequence)?;
        Ok(frame.filter(|_| self.check(offset).is_ok()))
    }

    /// Returns when the record with a sequence number arrived, or `None` if it is not there yet or its frame is damaged.
    pub(crate) fn timestamp_of(&self, sequence: SequenceNumber) -> Result<Option<Timestamp>> {
        let frame = self.frame_of(sequence)?;
        Ok(frame.map(|frame| Timestamp::from_micros(frame.timestamp_micros)))
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

/// Opens and locks the file of a segment, so that no other process fills it again. Fails with `NotFound` if one already does.
pub(crate) fn open_locked(place: &SegmentPlace) -> Result<DataFile> {
    let file = DataFile::open(&place.path)?;
    // The name is checked after the file is locked: a writer takes the name away before it looks for locks.
    if file.lock_shared()? && file.is_at_its_path()? {
        return Ok(file);
    }
    Err(Error::io("open", &place.path, io::ErrorKind::NotFound.into()))
}

/// Returns where the frames of a segment without a trailer end. If they do not reach `end`, it returns the end of the file, so that a
/// reader meets the damage and reports it.
fn scan_end(file: &DataFile, header: &SegmentHeader, end: Option<SequenceNumber>) -> Result<u64> {
    let frames = read_frames(file, header, end, |_| {})?;
    Ok(if end.is_none_or(|end| end == frames.sequence) { frames.offset } else { file.len()? })
}
