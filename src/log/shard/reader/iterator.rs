//! Reading a shard in order.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::Reader;
use super::batch::{Batch, RecordPlace};
use super::follow::Trace;
use super::portion::{Limits, Read};
use super::reads::ReadCount;
use super::segments::Found;
use crate::log::format::fault::FrameFault;
use crate::log::format::frame::{FRAME_HEADER_BYTES, Frame};
use crate::log::format::record::RecordParts;
use crate::log::segment::window::Window;
use crate::log::types::error::{Error, Result};
use crate::log::types::record::Position;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

/// Reads one shard in order. [`StreamReader::iterator`](crate::StreamReader::iterator) returns it.
///
/// It takes no lock that a writer takes, and it never expires. After the stream is closed, it still reads everything that was put before.
///
/// ```
/// # use streamlog::{Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// let stream = Stream::open(directory.path())?;
/// let receipt = stream.put("user-17", "clicked")?;
/// let mut iterator = stream.iterator(receipt.shard, Position::TrimHorizon)?;
/// let batch = iterator.next_batch(1_000)?;
/// for record in &batch {
///     assert_eq!(record.data(), b"clicked");
/// }
/// assert!(iterator.next_batch(1_000)?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ShardIterator {
    pub(super) reader: Arc<Reader>,
    pub(super) next: SequenceNumber,
    pub(super) place: Option<Place>,
    pub(super) count: Arc<ReadCount>,
    /// The frame of the next record, if that is compressed and was read in part.
    pub(super) unpacked: Option<Unpacked>,
    /// The record before the next one, if another process may write the shard.
    pub(super) trace: Trace,
    /// Whether the limits of the stream apply.
    pub(super) is_limited: bool,
    /// Whether the last call of `Iterator::next` failed.
    has_failed: bool,
}

impl fmt::Debug for ShardIterator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardIterator")
            .field("shard", &self.shard())
            .field("next_sequence", &self.next)
            .finish_non_exhaustive()
    }
}

/// A frame whose records were decompressed.
#[derive(Debug, Clone)]
pub(super) struct Unpacked {
    pub(super) base_sequence: u64,
    pub(super) frame: Bytes,
}

/// The place of the next record.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) window: Arc<Window>,
    /// The offset of its frame.
    pub(super) offset: u64,
    /// Its place in the frame.
    pub(super) in_frame: RecordPlace,
}

impl ShardIterator {
    pub(crate) fn new(reader: Arc<Reader>, position: Position) -> Result<Self> {
        reader.refresh()?;
        let replaced = reader.replaced();
        let next = Self::first_at(&reader, position)?;
        Ok(Self::begin(reader, next, replaced))
    }

    /// Returns an iterator that reads from a sequence number on. If that is behind the horizon, its first read fails with `Trimmed`.
    pub(crate) fn from_first(reader: Arc<Reader>, next: SequenceNumber) -> Self {
        let replaced = reader.replaced();
        Self::begin(reader, next, replaced)
    }

    fn begin(reader: Arc<Reader>, next: SequenceNumber, replaced: u64) -> Self {
        let (count, trace) = (reader.reads.begin(next), reader.trace(next, replaced));
        Self { reader, next, place: None, count, unpacked: None, trace, is_limited: true, has_failed: false }
    }

    /// Returns the shard that is read.
    pub fn shard(&self) -> ShardId {
        self.reader.id()
    }

    /// Returns the number of the next record to read.
    pub fn next_sequence(&self) -> SequenceNumber {
        self.next
    }

    /// Reads up to `records_max` records. Never blocks: an empty batch means that the iterator was at the end.
    ///
    /// ```
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let receipt = stream.put("user-17", "clicked")?;
    /// let mut iterator = stream.iterator(receipt.shard, Position::TrimHorizon)?;
    /// for record in &iterator.next_batch(1_000)? {
    ///     println!("{} {:?}", record.sequence(), record.data());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Trimmed` if retention has overtaken the iterator: [`seek`](Self::seek) to continue. `Lost` where records were lost to damage and
    /// given up: [`skip_lost`](Self::skip_lost) to continue. `Corrupt` where the log is damaged: the iterator stays in front of the damage.
    /// `Throttled` if the stream has [`limits`](crate::StreamOptions::limits) and this shard is read too fast: try again later.
    /// `UnsupportedFormat`, `Io`.
    pub fn next_batch(&mut self, records_max: usize) -> Result<Batch> {
        self.next_batch_within(records_max, usize::MAX)
    }

    /// Reads up to `records_max` records of up to `bytes_max` bytes of keys, data and headers in total, but at least one record if there is
    /// one.
    ///
    /// ```
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let receipt = stream.put("user-17", "12345678")?;
    /// stream.put("user-17", "12345678")?;
    /// let mut iterator = stream.iterator(receipt.shard, Position::TrimHorizon)?;
    /// assert_eq!(iterator.next_batch_within(1_000, 20)?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`next_batch`](Self::next_batch).
    pub fn next_batch_within(&mut self, records_max: usize, bytes_max: usize) -> Result<Batch> {
        if self.has_limits() {
            return self.next_batch_limited(records_max, bytes_max);
        }
        self.next_batch_unlimited(records_max, bytes_max)
    }

    pub(super) fn read(&mut self, records_max: usize, bytes_max: usize) -> Result<Batch> {
        loop {
            let place = match self.place.take() {
                Some(place) => place,
                None => match self.locate() {
                    _ if self.is_replaced() => {
                        self.catch_up()?;
                        continue;
                    }
                    Err(error) => return Err(error),
                    Ok(Some(place)) => place,
                    Ok(None) => {
                        // It may have been trimmed since.
                        self.reader.check_horizon(self.next)?;
                        return Ok(self.empty_batch());
                    }
                },
            };
            // `observe` reads whether the segment has ended before it reads how far it is committed: see `Watermark::observe`.
            let observed = place.window.observe();
            if place.offset < observed.committed {
                return self.collect(place, observed.committed, records_max, bytes_max);
            }
            if !observed.ended {
                self.place = Some(place);
                return Ok(self.empty_batch());
            }
            // Read before the lookup: a record below this end is in a segment that the lookup finds.
            let end = self.reader.next_sequence();
            let found = self.reader.find(self.next);
            if self.is_replaced() {
                self.catch_up()?;
                continue;
            }
            match found? {
                Some(Found { window, .. }) if !Arc::ptr_eq(&window, &place.window) => {
                    self.place = Some(Place {
                        offset: window.offset_of(self.next)?,
                        window,
                        in_frame: RecordPlace::default(),
                    });
                }
                Some(Found { end: Some(end), .. }) => {
                    let (found, at) = (place.window, place.offset);
                    let reason = format!(
                        "expected records up to the next segment, which begins with sequence number {end}, found them to end: a \
                         file is missing, or this one was cut"
                    );
                    return Err(found.place.damage(at, self.next, reason));
                }
                // A damaged frame header leads past the records of its frame.
                Some(_) if self.next < end => {
                    let reason = format!("expected records up to sequence number {end}, found them to end");
                    return Err(place.window.place.damage(place.offset, self.next, reason));
                }
                _ => return Ok(self.empty_batch()),
            }
        }
    }

    /// Finds the next record. Returns `None` if it does not exist yet.
    pub(super) fn locate(&self) -> Result<Option<Place>> {
        if self.next > self.reader.next_sequence() {
            return Ok(None);
        }
        let Some(Found { window, .. }) = self.reader.find(self.next)? else {
            return Ok(None);
        };
        let offset = window.offset_of(self.next)?;
        let mut place = Place { window, offset, in_frame: RecordPlace::default() };
        let committed = place.window.committed();
        if offset < committed {
            let frame = self.check(&place.window, offset, RecordPlace::default(), committed)?;
            let index = (self.next.get() - frame.header.base_sequence) as u32;
            let unpacked =
                if frame.is_plain() || index == 0 { None } else { Some(self.unpack(&place, &frame)?) };
            let records = unpacked.as_ref().map_or(frame.records(), |frame| &frame[FRAME_HEADER_BYTES..]);
            for _ in 0..index {
                let (_, offset) = RecordParts::at(records, place.in_frame.offset)
                    .ok_or_else(|| place.window.fault(place.offset, self.next, &FrameFault::Shape))?;
                place.in_frame = RecordPlace { index: place.in_frame.index + 1, offset };
            }
        }
        Ok(Some(place))
    }

    /// Returns the frame at an offset after checking that it holds the next record.
    #[inline]
    pub(super) fn check<'w>(
        &self,
        window: &'w Window,
        offset: u64,
        in_frame: RecordPlace,
        committed: u64,
    ) -> Result<Frame<'w>> {
        let bytes = window.bytes(offset..committed);
        // A reader that stopped within a frame has already checked it.
        let frame = if in_frame.index > 0 {
            Frame::decode_checked(bytes)
        } else {
            Frame::decode(bytes, &window.salt)
        };
        let frame = frame.and_then(|frame| {
            let (first, end) = (frame.header.base_sequence, frame.header.end_sequence());
            let expected = self.next.get();
            let holds = (first..end).contains(&expected);
            if holds { Ok(frame) } else { Err(FrameFault::Sequence { expected, found: first }) }
        });
        match frame {
            Ok(frame) if frame.header.is_lost => Err(self.lost(frame.header.end_sequence().into())),
            frame => frame.map_err(|fault| window.fault(offset, self.next, &fault)),
        }
    }

    #[cold]
    fn lost(&self, end: SequenceNumber) -> Error {
        Error::Lost { shard: self.reader.id(), first: self.next, end }
    }

    /// Reads frames from a place on, up to the committed end and the limits.
    fn collect(
        &mut self,
        place: Place,
        committed: u64,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Batch> {
        let Place { window, mut offset, mut in_frame } = place;
        let (from, first, first_sequence) = (offset, in_frame, self.next);
        let mut left = Limits { records: records_max, bytes: bytes_max };
        let mut last_timestamp = None;
        let mut damage = None;
        let mut is_packed = false;
        let frames = window.bytes(from..committed);
        let mut rest = frames;
        while !rest.is_empty() && left.records > 0 {
            if in_frame.index == 0 {
                let whole = left.take_whole(rest, &window.salt, self.next);
                self.next = self.next.plus(whole.record_count);
                last_timestamp = whole.last_timestamp.or(last_timestamp);
                rest = whole.rest;
                offset = committed - rest.len() as u64;
                if rest.is_empty() || left.records == 0 {
                    break;
                }
            }
            // The next frame does not fit whole, was read in part, or is compressed, lost or damaged.
            let frame = match in_frame.index {
                0 => Frame::decode_records(rest, &window.salt),
                // A reader that stopped within a frame has already checked it.
                _ => Frame::decode_checked(rest).ok(),
            };
            let expected = self.next.get().wrapping_sub(in_frame.index.into());
            let Some(frame) =
                frame.filter(|frame| frame.header.base_sequence == expected && frame.is_plain())
            else {
                match self.refuse(&window, offset, in_frame, committed) {
                    Ok(()) => is_packed = true,
                    Err(error) => damage = Some(error),
                }
                break;
            };
            let taken = left.take(&frame, &mut in_frame, left.records == records_max);
            if taken == 0 {
                break;
            }
            self.next = self.next.plus(taken as u64);
            last_timestamp = Some(frame.header.timestamp_micros);
            rest = &rest[frame.header.len..];
            if in_frame.index < frame.header.count {
                break;
            }
            (offset, in_frame) = (committed - rest.len() as u64, RecordPlace::default());
        }
        let (record_count, frames_to) = (records_max - left.records, committed - rest.len() as u64);
        // A batch holds either plain frames or compressed ones.
        if is_packed && record_count == 0 {
            return self.collect_packed(Place { window, offset, in_frame }, committed, left);
        }
        // The records before the damage are returned first. The next call meets the damage again.
        if let Some(damage) = damage.filter(|_| record_count == 0) {
            self.place = Some(Place { window, offset, in_frame });
            return Err(damage);
        }
        let bytes = if record_count == 0 { Bytes::new() } else { window.shared_bytes(from..frames_to) };
        let (log_bytes, place) = (offset - from, Place { window, offset, in_frame });
        let read = Read {
            bytes,
            first,
            first_sequence,
            record_count,
            last_timestamp,
            log_bytes,
            data_key: None,
            put_bytes: log_bytes,
        };
        Ok(self.batch(place, read))
    }

    /// Moves to a place, and returns what was read before it as a batch.
    pub(super) fn batch(&mut self, place: Place, read: Read) -> Batch {
        let Read {
            bytes,
            first,
            first_sequence,
            record_count,
            last_timestamp,
            log_bytes,
            data_key,
            put_bytes,
        } = read;
        let last_timestamp = last_timestamp.map(Timestamp::from_micros);
        if let Some(arrived) = last_timestamp {
            self.trace.note(arrived);
        }
        self.count.go_to(self.next);
        self.count.add(record_count, put_bytes);
        let is_latest = self.next >= self.reader.next_sequence();
        let millis_behind_latest = match last_timestamp {
            _ if is_latest => 0,
            Some(timestamp) => self.reader.age_of(&place.window, timestamp).as_millis() as u64,
            None => 1,
        };
        self.place = Some(place);
        Batch {
            bytes,
            first,
            first_sequence,
            record_count,
            last_timestamp,
            millis_behind_latest,
            log_bytes,
            data_key,
            ..self.empty_batch()
        }
    }

    /// Returns the error for a place where the frame of the next record is missing or lost. If the frame is there and is compressed, this
    /// is no error.
    #[cold]
    fn refuse(&self, window: &Window, offset: u64, in_frame: RecordPlace, committed: u64) -> Result<()> {
        let frame = self.check(window, offset, in_frame, committed)?;
        if !frame.is_plain() {
            return Ok(());
        }
        let (expected, found) = (self.next.get(), frame.header.base_sequence);
        Err(window.fault(offset, self.next, &FrameFault::Sequence { expected, found }))
    }

    fn empty_batch(&self) -> Batch {
        Batch {
            shard: self.reader.id(),
            bytes: Bytes::new(),
            first: RecordPlace::default(),
            first_sequence: self.next,
            record_count: 0,
            last_timestamp: None,
            millis_behind_latest: 0,
            log_bytes: 0,
            data_key: None,
            children: self
                .children()
                .map(|children| children.iter().map(|child| child.description()).collect()),
        }
    }

    /// Returns the shards that follow, once this one is closed and read to its end.
    pub(crate) fn children(&self) -> Option<&[Arc<Reader>]> {
        self.reader.children_after(self.next)
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Returns whether a read would return something: a record, an error, or the end of the shard.
    pub(crate) fn is_readable(&self) -> bool {
        // The read that follows reports an error.
        self.reader.refresh().is_err()
            || self.is_replaced() && !self.reader.has_kept(self.next, &self.trace)
            || self.next < self.reader.next_sequence()
            || self.next < self.reader.horizon()
            || self.children().is_some()
            || self.reader.has_unknown_end()
    }
}

impl Drop for ShardIterator {
    fn drop(&mut self) {
        self.reader.reads.end(&self.count);
    }
}

/// The most records of a batch of the iterator's [`Iterator`] implementation.
const BATCH_RECORDS: usize = 1_000;

/// Returns batches of up to 1,000 records, and `None` at the end of what is there. It continues once more is put. An error is returned once, and
/// then `None`, so that a loop ends; the iterator stays where it was, as with [`next_batch`](ShardIterator::next_batch).
///
/// ```
/// # use streamlog::{Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let receipt = stream.put("user-17", "clicked")?;
/// for batch in stream.iterator(receipt.shard, Position::TrimHorizon)? {
///     println!("{} records", batch?.len());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl Iterator for ShardIterator {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        if std::mem::take(&mut self.has_failed) {
            return None;
        }
        let batch = self.next_batch(BATCH_RECORDS);
        self.has_failed = batch.is_err();
        batch.map(|batch| (!batch.is_empty()).then_some(batch)).transpose()
    }
}
