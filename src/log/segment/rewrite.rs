//! A segment written again without its damaged part.

use std::path::{Path, PathBuf};

use super::window::FRAMES_FROM;
use crate::log::format::checksum::checksum;
use crate::log::format::frame::{FrameHeader, LOST_FRAME_BYTES, encode_lost};
use crate::log::format::header::{
    COMMITTED_OFFSET, FIRST_OFFSET, HEADER_BYTES, HEADER_PAGE_BYTES, SYNCED_OFFSETS, SYNCED_SLOT_BYTES,
    SegmentHeader, encode_committed, encode_first, encode_synced_slot,
};
use crate::log::format::index::{Index, IndexEntry};
use crate::log::format::trailer::Trailer;
use crate::log::sys::dir;
use crate::log::sys::file::DataFile;
use crate::log::types::error::Result;

/// A sealed segment in the making, in a file aside.
#[derive(Debug)]
pub(crate) struct Rewrite {
    file: DataFile,
    header: SegmentHeader,
    /// The segments before it were trimmed, and the damaged file says so in the place of the manifest.
    is_noted_first: bool,
    end: u64,
    next_sequence: u64,
    first_timestamp: Option<u64>,
    last_timestamp: u64,
    index: Index,
}

impl Rewrite {
    /// Begins the segment aside of `path`.
    pub(crate) fn create(path: &Path, header: SegmentHeader, is_noted_first: bool) -> Result<Self> {
        let aside = path.with_extension("new");
        dir::remove_file(&aside)?;
        Ok(Self {
            file: DataFile::create(&aside)?,
            header,
            is_noted_first,
            end: FRAMES_FROM,
            next_sequence: header.base_sequence,
            first_timestamp: None,
            last_timestamp: 0,
            index: Index::default(),
        })
    }

    /// The number of the record that comes next.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Notes a frame that is going to be written at the end.
    fn note(&mut self, sequence: u64, timestamp_micros: u64) {
        if self.index.wants(self.end) {
            self.index.note(IndexEntry { sequence, timestamp_micros, offset: self.end });
        }
        self.first_timestamp.get_or_insert(timestamp_micros);
        self.last_timestamp = timestamp_micros;
    }

    /// Adds good frames that follow what is there.
    pub(crate) fn push_frames(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, self.end)?;
        let end = self.end + bytes.len() as u64;
        let mut left = bytes;
        while let Ok(header) = FrameHeader::peek(left) {
            self.note(header.base_sequence, header.timestamp_micros);
            self.end += header.len as u64;
            self.next_sequence = header.end_sequence();
            left = &left[header.len..];
        }
        debug_assert_eq!(self.end, end, "all of them were good");
        Ok(())
    }

    /// Says that the records up to `end_sequence` are lost.
    pub(crate) fn push_lost(&mut self, end_sequence: u64, timestamp_micros: u64) -> Result<()> {
        while self.next_sequence < end_sequence {
            let count = u32::try_from(end_sequence - self.next_sequence).unwrap_or(u32::MAX);
            self.note(self.next_sequence, timestamp_micros);
            self.file.write_all_at(&encode_lost(self.next_sequence, timestamp_micros, count), self.end)?;
            self.end += LOST_FRAME_BYTES as u64;
            self.next_sequence += u64::from(count);
        }
        Ok(())
    }

    /// Seals the segment and puts it in its place, durably. What was there is kept under the name that is returned.
    pub(crate) fn replace(self, path: &Path) -> Result<Option<PathBuf>> {
        let index = self.index.encode();
        let trailer = Trailer {
            frames_end: self.end,
            index_count: self.index.len() as u32,
            index_checksum: checksum(&index),
            end_sequence: self.next_sequence,
            first_timestamp_micros: self.first_timestamp.unwrap_or_default(),
            last_timestamp_micros: self.last_timestamp,
        };
        let mut page = [0; HEADER_PAGE_BYTES];
        page[..HEADER_BYTES].copy_from_slice(&self.header.encode());
        page[COMMITTED_OFFSET..COMMITTED_OFFSET + 8].copy_from_slice(&encode_committed(self.end));
        if self.is_noted_first {
            page[FIRST_OFFSET..FIRST_OFFSET + 8].copy_from_slice(&encode_first(self.header.base_sequence));
        }
        let slot = SYNCED_OFFSETS[0];
        page[slot..slot + SYNCED_SLOT_BYTES].copy_from_slice(&encode_synced_slot(self.end));
        self.file.write_all_at(&[&index[..], &trailer.encode(&self.header)].concat(), self.end)?;
        self.file.write_all_at(&page, 0)?;
        self.file.sync()?;
        let kept = if dir::exists(path)? { Some(dir::link_beside(path, "damaged")?) } else { None };
        dir::rename(self.file.path(), path)?;
        path.parent().map_or(Ok(()), dir::sync)?;
        Ok(kept)
    }
}
