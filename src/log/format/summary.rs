//! A summary of the frames of a segment.

use super::frame::FrameHeader;
use super::header::FRAMES_FROM;
use super::index::{Index, IndexEntry};

/// Where the frames of a segment end, which sequence numbers they have reached, and when the first and the last of them were put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The offset just after the last frame.
    pub(crate) end: u64,
    /// The sequence number after the last record.
    pub(crate) end_sequence: u64,
    /// 0 while the segment holds no frame; the next field likewise.
    pub(crate) first_timestamp_micros: u64,
    pub(crate) last_timestamp_micros: u64,
}

impl Summary {
    /// Returns the summary of a segment that begins with `base_sequence` and holds no frame.
    pub(crate) fn empty(base_sequence: u64) -> Self {
        Self {
            end: FRAMES_FROM,
            end_sequence: base_sequence,
            first_timestamp_micros: 0,
            last_timestamp_micros: 0,
        }
    }

    /// Returns whether the segment holds no frame.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.end == FRAMES_FROM
    }

    /// Adds a frame at the end.
    #[inline]
    pub(crate) fn add(&mut self, frame: &FrameHeader) {
        if self.is_empty() {
            self.first_timestamp_micros = frame.timestamp_micros;
        }
        self.last_timestamp_micros = frame.timestamp_micros;
        self.end += frame.len as u64;
        self.end_sequence = frame.end_sequence();
    }
}

/// A summary and the index of the same frames.
#[derive(Debug)]
pub(crate) struct Indexed {
    pub(crate) frames: Summary,
    pub(crate) index: Index,
}

impl Indexed {
    /// Returns the summary and index of a segment that begins with `base_sequence` and holds no frame.
    pub(crate) fn empty(base_sequence: u64) -> Self {
        Self { frames: Summary::empty(base_sequence), index: Index::default() }
    }

    /// Adds a frame at the end.
    pub(crate) fn add(&mut self, frame: &FrameHeader) {
        if self.index.wants(self.frames.end) {
            self.index.note(IndexEntry::of(frame, self.frames.end));
        }
        self.frames.add(frame);
    }
}
