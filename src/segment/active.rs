//! The segment of a shard that takes frames.

use std::path::Path;
use std::sync::Arc;

use super::path_in;
use super::sealed;
use super::spare::{Spare, SparePages};
use super::unsealed::{SyncTarget, Unsealed};
use super::window::{FRAMES_FROM, Window};
use crate::format::frame::FrameDraft;
use crate::format::header::{COMMITTED_OFFSET, SegmentHeader, encode_committed};
use crate::format::index::{Index, IndexEntry};
use crate::format::trailer::{TRAILER_BYTES, Trailer};
use crate::sys::dir;
use crate::sys::file::DataFile;
use crate::sys::map::{Map, MapWriter};
use crate::words::error::{Error, Result};
use crate::words::limits::{
    AHEAD_BYTES, BUSY_BYTES_PER_SECOND, GROWTH_BYTES_FIRST, GROWTH_BYTES_MAX, INDEX_STRIDE_BYTES,
};
use crate::words::sequence::SequenceNumber;
use crate::words::shard_id::ShardId;
use crate::words::time::Timestamp;

/// How the segments of a shard are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writing {
    /// The size at which a segment is full.
    pub(crate) segment_bytes: u64,
    /// Each put is synced before it returns.
    pub(crate) syncs_each: bool,
}

/// Frames of this size and larger go in by a write to the file: it takes no page faults and zeroes no page that it then fills.
const FILE_WRITE_BYTES_MIN: usize = 32 << 10;
/// Whether writes to a file and its mapping share their pages, so that either is seen in the other at once.
const SHARES_PAGES: bool = cfg!(target_os = "linux");

/// The segment of a shard that takes frames. Whoever owns it is the one writer.
#[derive(Debug)]
pub(crate) struct Active {
    window: Arc<Window>,
    file: Arc<DataFile>,
    writer: MapWriter,
    header: SegmentHeader,
    writing: Writing,
    capacity: u64,
    next_sequence: SequenceNumber,
    first_timestamp: Timestamp,
    last_timestamp: Timestamp,
    next_index_offset: u64,
    /// How far the frames went, and when, at the time that blocks were given last.
    grown: (u64, Timestamp),
    /// Once the frames reach so far, it is time to prepare more ahead of them.
    ahead_at: u64,
    /// Pages up to here were prepared.
    prepared: u64,
}

/// The last segment of a shard that was closed cleanly: what one needs to go on writing to it.
#[derive(Debug, Clone)]
pub(crate) struct Resumable {
    pub(crate) base: SequenceNumber,
    /// `None` for a segment that holds no record.
    pub(crate) trailer: Option<Trailer>,
}

impl Resumable {
    fn frames_end(&self) -> u64 {
        self.trailer.map_or(FRAMES_FROM, |trailer| trailer.frames_end)
    }

    /// Whether a segment of `segment_bytes` has room for a frame of `len` bytes more.
    pub(crate) fn has_room(&self, segment_bytes: u64, len: u64) -> bool {
        self.frames_end() + len + TRAILER_BYTES as u64 <= segment_bytes
    }
}

impl Active {
    /// Creates the segment that begins with `base`, with room for a first frame of `len` bytes at least.
    ///
    /// On an error nothing is left of it.
    pub(crate) fn create(
        shard_dir: &Path,
        (shard, base): (ShardId, SequenceNumber),
        created_at: Timestamp,
        writing: Writing,
        len: u64,
    ) -> Result<Self> {
        let path = path_in(shard_dir, base);
        let header = header_of(shard, base, created_at);
        let file = DataFile::create(&path)?;
        let created = Self::begin(file, header, writing, len);
        if created.is_err() {
            // The error that made it fail says more than one of this removal, which the next attempt would meet again.
            let _ = dir::remove_file(&path);
        }
        created
    }

    fn begin(file: DataFile, header: SegmentHeader, writing: Writing, len: u64) -> Result<Self> {
        let capacity = capacity_for(writing.segment_bytes, FRAMES_FROM, len);
        let allocated = allocate(&file, writing, 0, FRAMES_FROM + len + TRAILER_BYTES as u64, capacity)?;
        file.write_all_at(&header.encode(), 0)?;
        let writer = map(&file, capacity, allocated, FRAMES_FROM)?;
        let resumable = Resumable { base: header.base_sequence.into(), trailer: None };
        Ok(Self::on(file, (header, writing), (capacity, writer), &resumable, Index::with_room_for(capacity)))
    }

    /// Begins the segment that starts with `base` in one that was prepared.
    ///
    /// On an error nothing is left of either.
    pub(crate) fn begin_in(
        spare: Spare,
        shard_dir: &Path,
        (shard, base): (ShardId, SequenceNumber),
        created_at: Timestamp,
        writing: Writing,
    ) -> Result<Self> {
        let header = header_of(shard, base, created_at);
        let parts = spare.into_parts(&header, &path_in(shard_dir, base))?;
        let resumable = Resumable { base, trailer: None };
        let begun =
            Self::on(parts.file, (header, writing), (parts.capacity, parts.writer), &resumable, parts.index);
        // Those before came fast, or there would be no prepared segment.
        Ok(Self { ahead_at: u64::MAX, prepared: parts.prepared, ..begun })
    }

    /// Goes on with a segment that was closed cleanly.
    ///
    /// 1. The file is cut behind its frames, and synced, so that no trailer stands there once frames follow. A crash leaves the
    ///    segment with a trailer or without, and with the same frames.
    /// 2. It gets blocks again, and is mapped to be written.
    ///
    /// After an error in step 2 it is as after step 1: to be sealed again, and whole for its readers.
    pub(crate) fn resume(
        shard_dir: &Path,
        shard: ShardId,
        resumable: &Resumable,
        writing: Writing,
        len: u64,
    ) -> Result<Self> {
        let base = resumable.base;
        let path = path_in(shard_dir, base);
        let file = DataFile::open_writable(&path)?;
        let Some(header) = sealed::read_header(&file, shard, base)?.0 else {
            return Err(Error::unsupported(&path, "a header page of zeros"));
        };
        let capacity = capacity_for(writing.segment_bytes, resumable.frames_end(), len);
        let mut index = Index::with_room_for(capacity);
        if let Some(trailer) = &resumable.trailer {
            let window = sealed::open(&path, shard, base, Some(trailer.end_sequence.into()))?;
            window.with_index(|stored| index.extend_from(stored))?;
        }
        let frames_end = resumable.frames_end();
        file.set_len(frames_end)?;
        file.sync()?;
        let needed = frames_end + len + TRAILER_BYTES as u64;
        let allocated = allocate(&file, writing, frames_end, needed, capacity)?;
        let writer = map(&file, capacity, allocated, frames_end)?;
        Ok(Self::on(file, (header, writing), (capacity, writer), resumable, index))
    }

    fn on(
        file: DataFile,
        (header, writing): (SegmentHeader, Writing),
        (capacity, writer): (u64, MapWriter),
        resumable: &Resumable,
        index: Index,
    ) -> Self {
        let committed = resumable.frames_end();
        writer.map().store_live_word(COMMITTED_OFFSET, encode_committed(committed));
        let next_index_offset = index.next_offset();
        let place = (ShardId::new(header.shard), resumable.base);
        let window = Window::new(Arc::clone(writer.map()), file.path(), place, None, Some(index));
        let trailer = resumable.trailer.as_ref();
        let created_at = Timestamp::from_micros(header.created_at_micros);
        Self {
            grown: (committed, trailer.map_or(created_at, |_| Timestamp::default())),
            ahead_at: ahead_of(committed, writer.allocated()),
            prepared: 0,
            window: Arc::new(window),
            file: Arc::new(file),
            writer,
            header,
            writing,
            capacity,
            next_sequence: trailer.map_or(resumable.base, |trailer| trailer.end_sequence.into()),
            first_timestamp: Timestamp::from_micros(
                trailer.map_or(0, |trailer| trailer.first_timestamp_micros),
            ),
            last_timestamp: Timestamp::from_micros(
                trailer.map_or(0, |trailer| trailer.last_timestamp_micros),
            ),
            next_index_offset,
        }
    }

    pub(crate) fn window(&self) -> &Arc<Window> {
        &self.window
    }

    /// When the first record arrived.
    pub(crate) fn first_timestamp(&self) -> Timestamp {
        self.first_timestamp
    }

    /// Whether the segment holds no record.
    pub(crate) fn is_empty(&self) -> bool {
        self.writer.end() == FRAMES_FROM
    }

    /// What it takes to sync the segment.
    pub(crate) fn sync_target(&self) -> SyncTarget {
        SyncTarget { window: Arc::clone(&self.window), file: Arc::clone(&self.file) }
    }

    /// Whether a frame of `len` bytes goes into the segment. Its last bytes stay free, so that no record can pass for a trailer.
    #[inline]
    pub(crate) fn has_room(&self, len: u64) -> bool {
        self.writer.end() + len + TRAILER_BYTES as u64 <= self.capacity
    }

    /// Makes sure that there are blocks for a frame of `len` bytes, which must have room.
    ///
    /// # Errors
    /// `StorageFull`; the segment is as it was.
    #[inline]
    pub(crate) fn reserve(&mut self, len: u64) -> Result<()> {
        let needed = self.writer.end() + len + TRAILER_BYTES as u64;
        if needed <= self.writer.allocated() {
            return Ok(());
        }
        let allocated = allocate(&self.file, self.writing, self.writer.allocated(), needed, self.capacity)?;
        self.extend(allocated);
        Ok(())
    }

    fn extend(&mut self, allocated: u64) {
        self.writer.extend(allocated);
        self.grown = (self.writer.end(), self.last_timestamp);
        self.ahead_at = ahead_of(self.writer.end(), allocated);
    }

    /// Whether the frames have come so far that more should be prepared ahead of them; says so once each time.
    #[inline]
    pub(crate) fn wants_more_ahead(&mut self) -> bool {
        let wants = self.writer.end() >= self.ahead_at;
        if wants {
            self.ahead_at = u64::MAX;
        }
        wants
    }

    /// Whether the frames have said that they want more ahead of them, and come so fast that it pays.
    pub(crate) fn is_busy(&self) -> bool {
        let (end, since) = self.grown;
        let micros = self.last_timestamp.as_micros().saturating_sub(since.as_micros());
        let bytes = self.writer.end() - end;
        self.ahead_at == u64::MAX
            && bytes.saturating_mul(1_000_000) >= micros.saturating_mul(BUSY_BYTES_PER_SECOND)
    }

    /// What of the segment is to be prepared next, if anything is.
    pub(crate) fn growth(&self) -> Option<Growth> {
        let (allocated, target) = (self.writer.allocated(), self.sync_target());
        let (from, to) = if self.writing.syncs_each {
            // Zeros that are written ahead are synced with the next put, which waits for them: a little at a time.
            let is_enough = allocated >= self.writer.end() + GROWTH_BYTES_FIRST;
            (allocated, if is_enough { allocated } else { allocated + GROWTH_BYTES_FIRST })
        } else {
            // What the frames have reached is not worth it any more.
            let from = self.prepared.max(self.writer.end().next_multiple_of(AHEAD_BYTES));
            (from, from + AHEAD_BYTES)
        };
        let to = to.min(self.capacity);
        (from < to).then_some(Growth { target, writing: self.writing, allocated, from, to })
    }

    /// Whether it pays to prepare the next segment: not where puts wait for syncs, next to which it would not tell.
    pub(crate) fn wants_spare(&self) -> bool {
        !self.writing.syncs_each
    }

    /// Takes over what was prepared, if it was for this segment.
    pub(crate) fn take_over(&mut self, growth: &Growth) {
        if !Arc::ptr_eq(&growth.target.window.map, self.writer.map()) {
            return;
        }
        self.prepared = self.prepared.max(growth.to);
        if growth.to > self.writer.allocated() {
            self.writer.extend(growth.to);
        }
        if self.writing.syncs_each {
            self.ahead_at = ahead_of(self.writer.end(), growth.to);
        }
    }

    /// Notes that pages were prepared, if they are of this segment, which was a prepared one when that began.
    pub(crate) fn note_prepared(&mut self, prepared: &SparePages) {
        if prepared.are_of(self.writer.map()) {
            self.prepared = self.prepared.max(prepared.end());
        }
    }

    /// Appends a frame for which blocks are reserved, and lets readers see it. `tail` is the data that the draft borrowed.
    ///
    /// Returns the sequence number of its first record.
    ///
    /// # Errors
    /// `Io`; the segment is as it was.
    #[inline]
    pub(crate) fn append(
        &mut self,
        draft: &mut FrameDraft,
        tail: &[u8],
        timestamp: Timestamp,
    ) -> Result<SequenceNumber> {
        let (offset, base) = (self.writer.end(), self.next_sequence);
        draft.seal(base.get(), timestamp.as_micros());
        if SHARES_PAGES && (self.writing.syncs_each || draft.len() >= FILE_WRITE_BYTES_MIN) {
            // What a store into the mapping makes dirty is a whole folio, which may be a megabyte; a write, the blocks it writes.
            self.file.write_parts_at(draft.parts(tail), offset)?;
            self.writer.note_written(draft.len() as u64);
        } else {
            self.writer.write(&draft.parts(tail));
        }
        self.writer.commit();
        if !self.writing.syncs_each {
            self.window.map.store_live_word(COMMITTED_OFFSET, encode_committed(self.writer.end()));
        }
        if offset >= self.next_index_offset {
            self.next_index_offset = offset + INDEX_STRIDE_BYTES;
            let timestamp_micros = timestamp.as_micros();
            self.window.note(IndexEntry { sequence: base.get(), timestamp_micros, offset });
        }
        if offset == FRAMES_FROM {
            self.first_timestamp = timestamp;
        }
        self.last_timestamp = timestamp;
        self.next_sequence = base.plus(draft.count().into());
        Ok(base)
    }

    /// Ends the segment: nothing will follow in it. The next segment, if there is one, must be where readers find it.
    pub(crate) fn finish(self) -> Unsealed {
        self.writer.finish();
        Unsealed {
            target: SyncTarget { window: self.window, file: self.file },
            header: self.header,
            end_sequence: self.next_sequence,
            first_timestamp: self.first_timestamp,
            last_timestamp: self.last_timestamp,
        }
    }

    /// What one needs to write to this segment, which holds no record, later on.
    pub(crate) fn as_resumable(&self) -> Resumable {
        Resumable { base: self.next_sequence, trailer: None }
    }

    /// Ends a segment that holds no record: gives back its blocks, and keeps the file for the sequence number in its name.
    pub(crate) fn give_back_blocks(self) -> Result<()> {
        self.writer.finish();
        let _blocks = self.window.blocks.lock();
        self.file.set_len(FRAMES_FROM)?;
        self.file.sync()
    }
}

fn header_of(shard: ShardId, base: SequenceNumber, created_at: Timestamp) -> SegmentHeader {
    let (shard, base_sequence) = (shard.get(), base.get());
    SegmentHeader { shard, base_sequence, created_at_micros: created_at.as_micros() }
}

/// Blocks and pages to be prepared ahead of the writer, without its lock.
#[derive(Debug)]
pub(crate) struct Growth {
    target: SyncTarget,
    writing: Writing,
    /// Blocks are there up to here.
    allocated: u64,
    from: u64,
    to: u64,
}

impl Growth {
    /// Prepares them; tells whether the segment still takes frames.
    pub(crate) fn carry_out(&self) -> Result<bool> {
        let SyncTarget { window, file } = &self.target;
        // A segment that has ended may be sealed any moment: whoever does that gives back blocks, and must not get more.
        let _blocks = window.blocks.lock();
        if window.map.observe().ended {
            return Ok(false);
        }
        if self.to > self.allocated {
            allocate(file, self.writing, self.allocated, self.to, self.to)?;
        }
        if !self.writing.syncs_each {
            window.map.populate(self.from..self.to);
        }
        Ok(true)
    }
}

/// Where frames that go from `end` on are when it is time to prepare more than is `allocated`.
fn ahead_of(end: u64, allocated: u64) -> u64 {
    end + allocated.saturating_sub(end) / 2
}

/// Maps a segment to write to it.
pub(super) fn map(file: &DataFile, capacity: u64, allocated: u64, committed: u64) -> Result<MapWriter> {
    let writer = Map::writable(file.std(), capacity, allocated, committed, FRAMES_FROM);
    writer.map_err(|error| file.error("map", error))
}

/// How large a segment is that takes a frame of `len` bytes at `from`: one larger than all others gets a segment that fits it.
fn capacity_for(segment_bytes: u64, from: u64, len: u64) -> u64 {
    segment_bytes.max(from + len + TRAILER_BYTES as u64)
}

/// Gives a file blocks up to `needed` at least: a step more than it has, or, on a disk that has not so many, what is needed now.
fn allocate(file: &DataFile, writing: Writing, allocated: u64, needed: u64, capacity: u64) -> Result<u64> {
    const PAGE_BYTES: u64 = 4096;
    let step_max = if writing.syncs_each { GROWTH_BYTES_FIRST } else { GROWTH_BYTES_MAX };
    let step = allocated.clamp(GROWTH_BYTES_FIRST, step_max);
    let needed = needed.next_multiple_of(PAGE_BYTES).min(capacity);
    let wanted = (allocated + step).next_multiple_of(PAGE_BYTES).max(needed).min(capacity);
    let reached = match file.allocate(allocated, wanted) {
        Err(Error::StorageFull(_)) if needed < wanted => file.allocate(allocated, needed).map(|()| needed)?,
        outcome => outcome.map(|()| wanted)?,
    };
    if writing.syncs_each {
        // A sync of bytes that go into blocks which were never written has to sync the file system's journal too.
        // The header page stays apart from them, so that its live words do not make all of that dirty.
        file.write_zeros(allocated.max(FRAMES_FROM), reached)?;
    }
    Ok(reached)
}
