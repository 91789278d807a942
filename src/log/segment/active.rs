//! The segment of a shard that takes frames.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::growth::{Growth, Writing, ahead_of, allocate, map};
use super::path_in;
use super::sealed;
use super::spare::{Spare, SparePages};
use super::unsealed::{SyncTarget, Unsealed};
use super::window::{FRAMES_FROM, Window};
use crate::log::format::draft::FrameDraft;
use crate::log::format::frame::END_MARK;
use crate::log::format::header::{COMMITTED_OFFSET, SegmentHeader, encode_committed};
use crate::log::format::index::{Index, IndexEntry};
use crate::log::format::trailer::{TRAILER_BYTES, Trailer};
use crate::log::sys::dir;
use crate::log::sys::file::DataFile;
use crate::log::sys::map::MapWriter;
use crate::log::types::error::{Error, Result};
use crate::log::types::limits::{
    AHEAD_BYTES, AHEAD_BYTES_MAX, BUSY_BYTES_PER_SECOND, GROWTH_BYTES_FIRST, GROWTH_BYTES_MAX,
    INDEX_STRIDE_BYTES, ZEROED_BYTES_PER_SECOND_MAX,
};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

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
        let needed = FRAMES_FROM + len + TRAILER_BYTES as u64;
        let allocated = allocate(&file, 0, needed, GROWTH_BYTES_FIRST, capacity)?;
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
        // Those before came fast, or there would be no prepared segment: the first frame rings for more.
        Ok(Self { ahead_at: FRAMES_FROM, prepared: parts.prepared, ..begun })
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
        let allocated = allocate(&file, frames_end, needed, GROWTH_BYTES_MAX, capacity)?;
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
        *window.blocks.lock() = writer.allocated();
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

    /// Where the frames end.
    pub(crate) fn frames_end(&self) -> u64 {
        self.writer.end()
    }

    /// Whether the segment holds no record.
    pub(crate) fn is_empty(&self) -> bool {
        self.writer.end() == FRAMES_FROM
    }

    /// What it takes to sync the segment.
    pub(crate) fn sync_target(&self) -> SyncTarget {
        let syncs_each = self.writing.syncs_each;
        SyncTarget { window: Arc::clone(&self.window), file: Arc::clone(&self.file), syncs_each }
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
        self.grow(needed)
    }

    #[cold]
    fn grow(&mut self, needed: u64) -> Result<()> {
        let mut blocks = self.window.blocks.lock();
        if *blocks < needed {
            // Where each put is synced, more is given by whoever prepares it ahead, who also writes zeros there.
            let step_max = if self.writing.syncs_each { GROWTH_BYTES_FIRST } else { GROWTH_BYTES_MAX };
            *blocks = allocate(&self.file, *blocks, needed, step_max, self.capacity)?;
        }
        self.writer.extend(*blocks);
        self.grown = (self.writer.end(), self.last_timestamp);
        self.ahead_at = ahead_of(self.writer.end(), *blocks);
        Ok(())
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

    /// Whether the frames have said that they want more ahead of them, and it pays. Pages pay where frames come fast; zeros that are
    /// written ahead pay unless they come so fast that the disk, which has to write twice as much, is better left to them.
    pub(crate) fn is_busy(&self) -> bool {
        let (end, since) = self.grown;
        let micros = self.last_timestamp.as_micros().saturating_sub(since.as_micros());
        let bytes = self.writer.end() - end;
        let is_at = |rate| bytes.saturating_mul(1_000_000) >= micros.saturating_mul(rate);
        let pays = match self.writing.syncs_each {
            true => !is_at(ZEROED_BYTES_PER_SECOND_MAX),
            false => is_at(BUSY_BYTES_PER_SECOND),
        };
        self.ahead_at == u64::MAX && pays
    }

    /// Notes that there is nothing to prepare now: the frames say so again when they have come some way.
    pub(crate) fn rest_ahead(&mut self) {
        if self.ahead_at == u64::MAX {
            self.grown = (self.writer.end(), self.last_timestamp);
            self.ahead_at = self.writer.end() + AHEAD_BYTES / 2;
        }
    }

    /// When the frames last said that they want more ahead of them.
    pub(crate) fn busy_since(&self) -> Timestamp {
        self.grown.1
    }

    /// What of the segment is to be prepared next, if anything is.
    pub(crate) fn growth(&self) -> Option<Growth> {
        let (allocated, end) = (self.writer.allocated(), self.writer.end());
        let (from, step, enough) = if self.writing.syncs_each {
            let step = allocated.clamp(GROWTH_BYTES_FIRST, AHEAD_BYTES);
            (allocated, step, end + step)
        } else {
            // What the frames have reached is not worth it any more.
            (self.prepared.max(end.next_multiple_of(AHEAD_BYTES)), AHEAD_BYTES, end + AHEAD_BYTES_MAX)
        };
        let to = if from < enough { (from + step).min(self.capacity) } else { from };
        (from < to).then(|| Growth { target: self.sync_target(), pages: from..to })
    }

    /// How many bytes of the next segment should be prepared: none before the frames come near the end of this one.
    pub(crate) fn wanted_of_next(&self) -> u64 {
        match self.writing.syncs_each {
            true => 0,
            false => (self.writer.end() + AHEAD_BYTES_MAX).saturating_sub(self.capacity),
        }
    }

    /// Takes over what was prepared, if it was for this segment.
    pub(crate) fn take_over(&mut self, growth: &Growth) {
        if !Arc::ptr_eq(&growth.target.window, &self.window) {
            return;
        }
        self.prepared = self.prepared.max(growth.pages.end);
        self.writer.extend(*self.window.blocks.lock());
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
            let [records, tail, padding] = draft.parts(tail);
            let behind = self.zeros_behind(offset + draft.len() as u64);
            // Without what is behind it a frame is whole: an error of that alone must not be one of the put, which is there.
            self.file.write_parts_at([records, tail, padding], behind, offset)?;
            self.writer.note_written(draft.len() as u64);
        } else {
            match draft.parts(tail) {
                // Nearly all of them are so small that a look at parts that are empty would show.
                [frame, [], []] => self.writer.write(&[frame]),
                parts => self.writer.write(&parts),
            }
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

    /// What is written behind a frame that ends at an offset: the mark of the end, and where each put is synced, zeros up to the end of
    /// its page. What is in that page otherwise, where it is not in memory, would have to be read first.
    fn zeros_behind(&self, offset: u64) -> &'static [u8] {
        const PAGE_BYTES: usize = 4096;
        const ZEROS: [u8; PAGE_BYTES + END_MARK.len()] = [0; PAGE_BYTES + END_MARK.len()];
        let mark = END_MARK.len() as u64;
        let page_end = (offset + mark).next_multiple_of(PAGE_BYTES as u64).min(self.writer.allocated());
        &ZEROS[..if self.writing.syncs_each { (page_end - offset) as usize } else { END_MARK.len() }]
    }

    /// Ends the segment: nothing will follow in it. The next segment, if there is one, must be where readers find it.
    pub(crate) fn finish(self) -> Unsealed {
        self.writer.finish();
        Unsealed {
            target: self.sync_target(),
            header: self.header,
            end_sequence: self.next_sequence,
            first_timestamp: self.first_timestamp,
            last_timestamp: self.last_timestamp,
            progress: Mutex::default(),
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

/// How large a segment is that takes a frame of `len` bytes at `from`: one larger than all others gets a segment that fits it.
fn capacity_for(segment_bytes: u64, from: u64, len: u64) -> u64 {
    segment_bytes.max(from + len + TRAILER_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::format::frame::Frame;

    #[test]
    fn pages_are_prepared_for_fast_frames_and_zeros_for_all_but_the_fastest() {
        for (syncs_each, mib_per_second, expected) in
            [(false, 8, false), (false, 32, true), (true, 8, true), (true, 128, true), (true, 512, false)]
        {
            let directory = tempfile::tempdir().unwrap();
            let writing = Writing { segment_bytes: 64 << 20, syncs_each };
            let place = (ShardId::new(0), SequenceNumber::ZERO);
            let mut active =
                Active::create(directory.path(), place, Timestamp::default(), writing, 0).unwrap();
            let mut draft = FrameDraft::default();
            while !active.wants_more_ahead() {
                draft.clear(0);
                draft.push(b"key", &[7; 3_000]);
                draft.finish();
                active.reserve(draft.len() as u64).unwrap();
                let micros = (active.writer.end() - FRAMES_FROM) * 1_000_000 / (mib_per_second << 20);
                active.append(&mut draft, &[], Timestamp::from_micros(micros)).unwrap();
            }
            assert_eq!(active.is_busy(), expected, "{mib_per_second} MiB/s, each synced: {syncs_each}");
        }
    }

    #[test]
    fn p1_p2_what_is_prepared_late_goes_over_no_frame_that_the_writer_has_put_there_meanwhile() {
        for syncs_each in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let writing = Writing { segment_bytes: 64 << 20, syncs_each };
            let place = (ShardId::new(0), SequenceNumber::ZERO);
            let mut active =
                Active::create(directory.path(), place, Timestamp::default(), writing, 0).unwrap();
            let mut draft = FrameDraft::default();
            let mut put = |active: &mut Active| {
                draft.clear(0);
                draft.push(b"key", &[7; 3_000]);
                draft.finish();
                active.reserve(draft.len() as u64).unwrap();
                active.append(&mut draft, &[], Timestamp::default()).unwrap();
            };
            while !active.wants_more_ahead() {
                put(&mut active);
            }
            let growth = active.growth().unwrap();
            while active.writer.end() < growth.pages.start + (1 << 20) {
                put(&mut active);
            }
            assert!(growth.carry_out().unwrap());
            active.take_over(&growth);
            (0..500).for_each(|_| put(&mut active));
            let (map, mut at) = (active.writer.map(), FRAMES_FROM);
            while at < map.committed() {
                at += Frame::decode(map.bytes(at..map.committed())).unwrap().header.len as u64;
            }
        }
    }
}
