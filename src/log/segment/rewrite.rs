//! Rewriting a segment: without its damaged part, or as it was at a moment.

use std::path::PathBuf;

use super::place::SegmentPlace;
use crate::log::format::frame::encode_lost;
use crate::log::format::header::{
    COMMITTED_OFFSET, FIRST_OFFSET, FRAMES_FROM, SYNCED_OFFSETS, SYNCED_SLOT_BYTES, SegmentHeader,
    encode_committed, encode_first, encode_synced_slot,
};
use crate::log::format::salt::Salt;
use crate::log::format::summary::Indexed;
use crate::log::format::trailer::encode_end;
use crate::log::format::walk::{Depth, FrameWalk};
use crate::log::sys::copy::copy_bytes;
use crate::log::sys::dir;
use crate::log::sys::file::DataFile;
use crate::log::sys::map::Map;
use crate::log::types::error::{Error, Result};

/// How many bytes of another file's frames are copied at a time.
const COPY_BYTES: u64 = 8 << 20;

/// A sealed segment in the making, in a file beside the old one.
#[derive(Debug)]
pub(crate) struct Rewrite {
    file: DataFile,
    header: SegmentHeader,
    salt: Salt,
    /// Whether the damaged file notes, in place of the manifest, that the segments before it were trimmed.
    is_noted_first: bool,
    written: Indexed,
}

impl Rewrite {
    /// Begins to rewrite the segment at `place` in a file beside it.
    pub(crate) fn create(place: &SegmentPlace, header: SegmentHeader, is_noted_first: bool) -> Result<Self> {
        let aside = place.path.with_extension("new");
        dir::remove_file(&aside)?;
        Ok(Self {
            file: DataFile::create(&aside)?,
            header,
            salt: Salt::new(header.salt),
            is_noted_first,
            written: Indexed::empty(header.base_sequence),
        })
    }

    /// Returns the sequence number of the next record.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.written.frames.end_sequence
    }

    /// Adds whole frames that follow those written so far.
    pub(crate) fn push_frames(&mut self, bytes: &[u8]) -> Result<()> {
        let from = self.written.frames.end;
        self.file.write_all_at(bytes, from)?;
        let mut walk = FrameWalk::new(bytes, from, self.next_sequence(), Depth::Headers);
        while let Ok(Some(frame)) = walk.next() {
            self.written.add(&frame);
        }
        debug_assert_eq!(self.written.frames.end, from + bytes.len() as u64, "all of them were good");
        Ok(())
    }

    /// Copies the frames of another file, which end at `end`, byte for byte. No frame may have been written yet. Checks them, and reports damage
    /// as that of the segment at `place`. Calls `step` after each piece, with its bytes.
    pub(crate) fn take_frames<E: From<Error>>(
        &mut self,
        from: &DataFile,
        end: u64,
        place: &SegmentPlace,
        mut step: impl FnMut(u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut at = FRAMES_FROM;
        while at < end {
            let piece = at..end.min(at + COPY_BYTES);
            let copied = copy_bytes(from, &self.file, piece)?;
            if copied == 0 {
                break;
            }
            at += copied;
            step(copied)?;
        }
        // A piece of zeros at the end is not written, and a file that ends too soon is damaged.
        self.file.set_len(end)?;
        let map = Map::read_only(self.file.std(), end).map_err(|error| self.file.error("map", error))?;
        let (bytes, base) = (map.bytes(FRAMES_FROM..end), self.next_sequence());
        let mut walk = FrameWalk::new(bytes, FRAMES_FROM, base, Depth::Whole(&self.salt));
        loop {
            match walk.next() {
                Ok(Some(frame)) => self.written.add(&frame),
                Ok(None) => return Ok(()),
                Err(fault) => {
                    let (offset, sequence) = (walk.offset(), walk.next_sequence());
                    return Err(place.damage(offset, sequence.into(), fault.to_string()).into());
                }
            }
        }
    }

    /// Marks the records up to `end_sequence` as lost.
    pub(crate) fn push_lost(&mut self, end_sequence: u64, timestamp_micros: u64) -> Result<()> {
        while self.next_sequence() < end_sequence {
            let first = self.next_sequence();
            let count = u32::try_from(end_sequence - first).unwrap_or(u32::MAX);
            self.push_frames(&encode_lost(first, timestamp_micros, count, &self.salt))?;
        }
        Ok(())
    }

    /// Seals the rewritten segment and puts it in place durably. Returns the name under which the damaged file is kept, if one was there.
    pub(crate) fn replace(self, place: &SegmentPlace) -> Result<Option<PathBuf>> {
        let Indexed { frames, index } = &self.written;
        let mut page = self.header.encode_page();
        page[COMMITTED_OFFSET..COMMITTED_OFFSET + 8].copy_from_slice(&encode_committed(frames.end));
        if self.is_noted_first {
            page[FIRST_OFFSET..FIRST_OFFSET + 8].copy_from_slice(&encode_first(self.header.base_sequence));
        }
        let slot = SYNCED_OFFSETS[0];
        page[slot..slot + SYNCED_SLOT_BYTES].copy_from_slice(&encode_synced_slot(frames.end));
        self.file.write_all_at(&encode_end(&self.header, *frames, index), frames.end)?;
        self.file.write_all_at(&page, 0)?;
        self.file.sync()?;
        let path = &place.path;
        let kept = if dir::exists(path)? { Some(dir::link_beside(path, "damaged")?) } else { None };
        dir::rename(self.file.path(), path)?;
        dir::sync(&path.parent())?;
        Ok(kept.map(|kept| kept.to_path_buf()))
    }
}
