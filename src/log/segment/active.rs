//! The active segment: the one of a shard that takes frames.

use std::sync::Arc;

use super::file::SegmentFile;
use super::growth::{Growth, Pace, Writing, allocate, map};
use super::place::{SegmentPlace, ShardDir};
use super::prepared::{Prepared, PreparedPages};
use super::stored;
use super::unsealed::Unsealed;
use super::window::Window;
use crate::log::format::draft::Draft;
use crate::log::format::frame::{END_MARK, FrameHeader};
use crate::log::format::header::{COMMITTED_OFFSET, FRAMES_FROM, SegmentHeader, encode_committed};
use crate::log::format::index::{Index, IndexEntry};
use crate::log::format::salt::Salt;
use crate::log::format::summary::Summary;
use crate::log::format::trailer::TRAILER_BYTES;
use crate::log::keys::segment_key::{Encryptor, SegmentName};
use crate::log::sys::dir;
use crate::log::sys::file::DataFile;
use crate::log::sys::map::MapWriter;
use crate::log::types::error::Result;
use crate::log::types::limits::{
    AHEAD_BYTES, AHEAD_BYTES_MAX, GROWTH_BYTES_FIRST, GROWTH_BYTES_MAX, INDEX_STRIDE_BYTES,
};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// The smallest frame that is written through the file: such a write takes no page faults and does not zero pages that it then fills.
const FILE_WRITE_BYTES_MIN: usize = 32 << 10;
/// Whether a file and its mapping share their pages, so that a write to either is visible in the other immediately.
const SHARES_PAGES: bool = cfg!(target_os = "linux");

/// The segment of a shard that takes frames. Its owner is the only writer.
#[derive(Debug)]
pub(crate) struct Active {
    file: Arc<SegmentFile>,
    writer: MapWriter,
    header: SegmentHeader,
    salt: Salt,
    /// Encrypts the frames, if they are not to stay plain.
    encryptor: Option<Encryptor>,
    writing: Writing,
    capacity: u64,
    frames: Summary,
    next_index_offset: u64,
    pace: Pace,
}

/// The last segment of a shard that was closed cleanly, with what is needed to continue writing to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resumable {
    pub(crate) base: SequenceNumber,
    pub(crate) frames: Summary,
}

impl Resumable {
    /// Returns a segment that holds no record.
    pub(crate) fn empty(base: SequenceNumber) -> Self {
        Self { base, frames: Summary::empty(base.get()) }
    }

    /// Returns whether a segment of `segment_bytes` has room for another frame of `len` bytes.
    pub(crate) fn has_room(&self, segment_bytes: u64, len: u64) -> bool {
        self.frames.end + len + TRAILER_BYTES as u64 <= segment_bytes
    }
}

impl Active {
    /// Creates the segment that begins with `base`, with room for a first frame of at least `len` bytes.
    ///
    /// On an error, no file is left behind.
    pub(crate) fn create(
        shard_dir: &ShardDir,
        base: SequenceNumber,
        created_at: Timestamp,
        writing: Writing,
        len: u64,
    ) -> Result<Self> {
        let place = shard_dir.segment(base);
        let header = place.new_header(created_at.as_micros())?;
        let file = DataFile::create(&place.path)?;
        let created = Self::fill_in(file, &place, header, writing, len);
        if created.is_err() {
            // The first error says more than an error of this removal. If the removal fails, the next attempt fails too.
            let _ = dir::remove_file(&place.path);
        }
        created
    }

    fn fill_in(
        file: DataFile,
        place: &SegmentPlace,
        header: SegmentHeader,
        writing: Writing,
        len: u64,
    ) -> Result<Self> {
        let capacity = capacity_for(writing.segment_bytes, FRAMES_FROM, len);
        let needed = FRAMES_FROM + len + TRAILER_BYTES as u64;
        let allocated = allocate(&file, 0, needed, GROWTH_BYTES_FIRST, capacity)?;
        file.write_all_at(&header.encode_page(), 0)?;
        let writer = map(&file, capacity, allocated, FRAMES_FROM)?;
        let pace = Pace::new(FRAMES_FROM, allocated, Timestamp::from_micros(header.created_at_micros));
        let parts = Parts { file, writer, capacity, index: Index::with_room_for(capacity), pace };
        Ok(Self::assemble(parts, place, header, writing, Summary::empty(header.base_sequence)))
    }

    /// Turns a prepared segment into the segment that begins with `base`.
    ///
    /// On an error, neither file is left behind.
    pub(crate) fn begin_in(
        prepared: Prepared,
        shard_dir: &ShardDir,
        base: SequenceNumber,
        created_at: Timestamp,
        writing: Writing,
    ) -> Result<Self> {
        let place = shard_dir.segment(base);
        let header = place.new_header(created_at.as_micros())?;
        let prepared = prepared.begin(&header, &place.path)?;
        let parts = Parts {
            file: prepared.file,
            writer: prepared.writer,
            capacity: prepared.capacity,
            index: prepared.index,
            pace: Pace::of_prepared(prepared.prepared, created_at),
        };
        Ok(Self::assemble(parts, &place, header, writing, Summary::empty(base.get())))
    }

    /// Continues a segment that was closed cleanly.
    ///
    /// 1. The file is cut behind its frames and synced, so that neither a trailer nor anything else is there once frames follow. A crash
    ///    leaves the segment with or without a trailer, and with the same frames. A segment without frames begins now and gets a new salt:
    ///    frames that a power loss took may have been written with the old one.
    /// 2. The file gets blocks again and is mapped for writing.
    ///
    /// An error in step 2 leaves the state after step 1: the segment must be sealed again, and its readers find it whole.
    pub(crate) fn resume(
        shard_dir: &ShardDir,
        resumable: Resumable,
        now: Timestamp,
        writing: Writing,
        len: u64,
    ) -> Result<Self> {
        let place = shard_dir.segment(resumable.base);
        let file = DataFile::open_writable(&place.path)?;
        let mut header = stored::read_header(&file, &place)?;
        let frames = resumable.frames;
        let capacity = capacity_for(writing.segment_bytes, frames.end, len);
        let mut index = Index::with_room_for(capacity);
        if !frames.is_empty() {
            let window = Window::open(place.clone(), Some(frames.end_sequence.into()))?;
            window.with_index(|stored| index.extend_from(stored))?;
        }
        file.set_len(frames.end)?;
        if frames.is_empty() {
            (header.salt, header.created_at_micros) = (place.new_salt()?, now.as_micros());
            for (offset, header) in header.encode_twice() {
                file.write_all_at(&header, offset)?;
            }
        }
        file.sync()?;
        let needed = frames.end + len + TRAILER_BYTES as u64;
        let allocated = allocate(&file, frames.end, needed, GROWTH_BYTES_MAX, capacity)?;
        let writer = map(&file, capacity, allocated, frames.end)?;
        let pace = Pace::new(frames.end, allocated, Timestamp::default());
        Ok(Self::assemble(Parts { file, writer, capacity, index, pace }, &place, header, writing, frames))
    }

    fn assemble(
        parts: Parts,
        place: &SegmentPlace,
        header: SegmentHeader,
        writing: Writing,
        frames: Summary,
    ) -> Self {
        let Parts { file, writer, capacity, index, pace } = parts;
        writer.map().store_live_word(COMMITTED_OFFSET, encode_committed(frames.end));
        let next_index_offset = index.next_offset();
        let window = Window::of_written(Arc::clone(writer.map()), place.clone(), &header, index);
        let file = SegmentFile::new(file, window, writing.syncs_each, writer.allocated());
        let (file, salt) = (Arc::new(file), Salt::new(header.salt));
        Self {
            file,
            writer,
            header,
            salt,
            encryptor: None,
            writing,
            capacity,
            frames,
            next_index_offset,
            pace,
        }
    }

    pub(crate) fn window(&self) -> &Arc<Window> {
        self.file.window()
    }

    /// Returns the file, for syncing it.
    pub(crate) fn file(&self) -> &Arc<SegmentFile> {
        &self.file
    }

    /// Returns what the segment's key is derived for.
    pub(crate) fn name(&self) -> SegmentName<'_> {
        self.window().name()
    }

    /// Sets what encrypts the frames from now on.
    pub(crate) fn set_encryptor(&mut self, encryptor: Option<Encryptor>) {
        self.encryptor = encryptor;
    }

    /// Returns the arrival time of the first record.
    pub(crate) fn first_timestamp(&self) -> Timestamp {
        Timestamp::from_micros(self.frames.first_timestamp_micros)
    }

    fn last_timestamp(&self) -> Timestamp {
        Timestamp::from_micros(self.frames.last_timestamp_micros)
    }

    /// Returns the offset at which the frames end.
    #[inline]
    pub(crate) fn frames_end(&self) -> u64 {
        self.writer.end()
    }

    /// Returns whether the segment holds no record.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Returns whether the segment has room for a frame of `len` bytes. Its last bytes stay free, so that no record can pass for a trailer.
    #[inline]
    pub(crate) fn has_room(&self, len: u64) -> bool {
        self.writer.end() + len + TRAILER_BYTES as u64 <= self.capacity
    }

    /// Allocates blocks for a frame of `len` bytes, for which the segment must have room.
    ///
    /// # Errors
    /// `StorageFull`; the segment is unchanged.
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
        let mut blocks = self.file.blocks();
        if *blocks < needed {
            // Where each put is synced, the thread that prepares ahead allocates more, because it also writes zeros there.
            let step_max = if self.writing.syncs_each { GROWTH_BYTES_FIRST } else { GROWTH_BYTES_MAX };
            *blocks = allocate(self.file.data(), *blocks, needed, step_max, self.capacity)?;
        }
        self.writer.extend(*blocks);
        self.pace.note_grown(self.writer.end(), *blocks, self.last_timestamp());
        Ok(())
    }

    /// Returns whether the frames have come so far that more should be prepared ahead of them. Returns `true` only once each time.
    #[inline]
    pub(crate) fn asks_for_more_ahead(&mut self) -> bool {
        self.pace.asks(self.writer.end())
    }

    /// Returns whether the frames have asked for more ahead of them and preparing it pays.
    pub(crate) fn is_busy(&self) -> bool {
        self.pace.is_busy(self.writer.end(), self.last_timestamp(), self.writing.syncs_each)
    }

    /// Records that nothing has to be prepared now.
    pub(crate) fn rest_ahead(&mut self) {
        self.pace.rest(self.writer.end(), self.last_timestamp());
    }

    /// Returns when the frames last asked for more ahead of them.
    pub(crate) fn busy_since(&self) -> Timestamp {
        self.pace.grown_at()
    }

    /// Returns the part of the segment to prepare next, if any.
    pub(crate) fn growth(&self) -> Option<Growth> {
        let (allocated, end) = (self.writer.allocated(), self.writer.end());
        let (from, step, enough) = if self.writing.syncs_each {
            let step = allocated.clamp(GROWTH_BYTES_FIRST, AHEAD_BYTES);
            (allocated, step, end + step)
        } else {
            // Preparing what the frames have already reached no longer pays.
            (self.pace.prepared.max(end.next_multiple_of(AHEAD_BYTES)), AHEAD_BYTES, end + AHEAD_BYTES_MAX)
        };
        let to = if from < enough { (from + step).min(self.capacity) } else { from };
        (from < to).then(|| Growth { file: Arc::clone(&self.file), pages: from..to })
    }

    /// Returns how many bytes of the next segment should be prepared: none until the frames come near the end of this one.
    pub(crate) fn wanted_of_next(&self) -> u64 {
        match self.writing.syncs_each {
            true => 0,
            false => (self.writer.end() + AHEAD_BYTES_MAX).saturating_sub(self.capacity),
        }
    }

    /// Takes over what was prepared, if it was for this segment.
    pub(crate) fn take_over(&mut self, growth: &Growth) {
        if Arc::ptr_eq(&growth.file, &self.file) {
            self.pace.prepared = self.pace.prepared.max(growth.pages.end);
            self.writer.extend(*self.file.blocks());
        }
    }

    /// Records that pages were prepared, if they belong to this segment. It may have been a prepared segment when that began.
    pub(crate) fn note_prepared(&mut self, pages: &PreparedPages) {
        if pages.are_of(self.writer.map()) {
            self.pace.prepared = self.pace.prepared.max(pages.end());
        }
    }

    /// Appends a frame for which blocks are reserved, and commits it. Returns the sequence number of its first record.
    ///
    /// # Errors
    /// `Io`; the segment is unchanged.
    #[inline]
    pub(crate) fn append(&mut self, frame: &mut Draft<'_>, timestamp: Timestamp) -> Result<SequenceNumber> {
        let (offset, base) = (self.writer.end(), self.frames.end_sequence);
        if frame.is_to_encrypt() {
            self.encrypt(frame, base, timestamp);
        }
        frame.seal(base, timestamp.as_micros(), &self.salt);
        if SHARES_PAGES && (self.writing.syncs_each || frame.len() >= FILE_WRITE_BYTES_MIN) {
            // A store into the mapping makes a whole folio dirty, which may be a megabyte. A write makes only the blocks it writes dirty.
            let behind = self.zeros_behind(offset + frame.len() as u64);
            // A frame is whole without the zeros behind it. An error of those alone must not fail the put, whose frame is written.
            self.file.data().write_parts_at(frame.parts(), behind, offset)?;
            self.writer.note_written(frame.len() as u64);
        } else {
            match frame.parts() {
                // Nearly all frames are so small that looping over empty parts would cost a measurable share.
                [frame, [], []] => self.writer.write(&[frame]),
                parts => self.writer.write(&parts),
            }
        }
        self.writer.commit();
        if !self.writing.syncs_each {
            self.writer.map().store_live_word(COMMITTED_OFFSET, encode_committed(self.writer.end()));
        }
        if offset >= self.next_index_offset {
            self.next_index_offset = offset + INDEX_STRIDE_BYTES;
            let timestamp_micros = timestamp.as_micros();
            self.window().note(IndexEntry { sequence: base, timestamp_micros, offset });
        }
        self.frames.add(&FrameHeader {
            len: frame.len(),
            base_sequence: base,
            timestamp_micros: timestamp.as_micros(),
            count: frame.count(),
            is_lost: false,
            compression: 0,
            encryption: 0,
        });
        Ok(SequenceNumber::new(base))
    }

    fn encrypt(&mut self, frame: &mut Draft<'_>, base: u64, timestamp: Timestamp) {
        let Some(encryptor) = &mut self.encryptor else {
            unreachable!("a segment begins with its encryptor")
        };
        let (data_key, nonce) = encryptor.next_nonce();
        encryptor.encrypt(frame.begin_encryption(base, timestamp.as_micros(), data_key, nonce), nonce);
    }

    /// Returns the bytes to write behind a frame that ends at `offset`: the end mark and, where each put is synced, zeros up to the end of
    /// its page. Without them, a page that is not in memory would have to be read first.
    fn zeros_behind(&self, offset: u64) -> &'static [u8] {
        const PAGE_BYTES: usize = 4096;
        const ZEROS: [u8; PAGE_BYTES + END_MARK.len()] = [0; PAGE_BYTES + END_MARK.len()];
        let mark = END_MARK.len() as u64;
        let page_end = (offset + mark).next_multiple_of(PAGE_BYTES as u64).min(self.writer.allocated());
        &ZEROS[..if self.writing.syncs_each { (page_end - offset) as usize } else { END_MARK.len() }]
    }

    /// Ends the segment: no frame will follow in it. The next segment, if any, must already be where readers find it.
    pub(crate) fn finish(self) -> Unsealed {
        self.writer.finish();
        Unsealed::new(self.file, self.header, self.frames)
    }

    /// Ends a segment that holds no record. Frees its blocks and keeps the file for the sequence number in its name.
    pub(crate) fn give_back_blocks(self) -> Result<()> {
        self.writer.finish();
        let _blocks = self.file.blocks();
        self.file.data().set_len(FRAMES_FROM)?;
        self.file.data().sync()
    }
}

/// The parts of an active segment.
struct Parts {
    file: DataFile,
    writer: MapWriter,
    capacity: u64,
    index: Index,
    pace: Pace,
}

/// Returns the size of a segment that takes a frame of `len` bytes at `from`. A frame larger than `segment_bytes` gets a segment of its own
/// size.
fn capacity_for(segment_bytes: u64, from: u64, len: u64) -> u64 {
    segment_bytes.max(from + len + TRAILER_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PutRecord;
    use crate::log::format::draft::DraftBuffer;
    use crate::log::format::walk::{Depth, FrameWalk};
    use crate::log::sys::root::OwnPath;
    use crate::log::types::shard_id::ShardId;

    fn shard_dir(path: &std::path::Path) -> ShardDir {
        let shard = ShardDir::new(&OwnPath::open_root(path).unwrap(), ShardId::new(0));
        dir::create(shard.path()).unwrap();
        shard
    }

    fn put(active: &mut Active, at: Timestamp) {
        let (record, mut buffer) = (PutRecord::new("key", &[7; 3_000]), DraftBuffer::default());
        let mut frame = buffer.draft_one(&record);
        active.reserve(frame.len() as u64).unwrap();
        active.append(&mut frame, at).unwrap();
    }

    #[test]
    fn pages_are_prepared_for_fast_frames_and_zeros_for_all_but_the_fastest() {
        for (syncs_each, mib_per_second, expected) in
            [(false, 8, false), (false, 32, true), (true, 8, true), (true, 128, true), (true, 512, false)]
        {
            let directory = tempfile::tempdir().unwrap();
            let writing = Writing { segment_bytes: 64 << 20, syncs_each };
            let dir = shard_dir(directory.path());
            let mut active =
                Active::create(&dir, SequenceNumber::ZERO, Timestamp::default(), writing, 0).unwrap();
            while !active.asks_for_more_ahead() {
                let micros = (active.writer.end() - FRAMES_FROM) * 1_000_000 / (mib_per_second << 20);
                put(&mut active, Timestamp::from_micros(micros));
            }
            assert_eq!(active.is_busy(), expected, "{mib_per_second} MiB/s, each synced: {syncs_each}");
        }
    }

    #[test]
    fn p1_p2_what_is_prepared_late_goes_over_no_frame_that_the_writer_has_put_there_meanwhile() {
        for syncs_each in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let writing = Writing { segment_bytes: 64 << 20, syncs_each };
            let dir = shard_dir(directory.path());
            let mut active =
                Active::create(&dir, SequenceNumber::ZERO, Timestamp::default(), writing, 0).unwrap();
            while !active.asks_for_more_ahead() {
                put(&mut active, Timestamp::default());
            }
            let growth = active.growth().unwrap();
            while active.writer.end() < growth.pages.start + (1 << 20) {
                put(&mut active, Timestamp::default());
            }
            assert!(growth.carry_out().unwrap());
            active.take_over(&growth);
            (0..500).for_each(|_| put(&mut active, Timestamp::default()));
            let (window, end) = (active.window(), active.writer.end());
            let frames = window.bytes(FRAMES_FROM..end);
            let mut walk = FrameWalk::new(frames, FRAMES_FROM, 0, Depth::Whole(&window.salt));
            while walk.next().unwrap().is_some() {}
            assert_eq!(walk.offset(), end);
        }
    }
}
