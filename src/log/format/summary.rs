//! What the frames of a segment add up to.

use super::frame::FrameHeader;
use super::header::FRAMES_FROM;
use super::index::{Index, IndexEntry};

/// Where the frames of a segment end, which numbers they have reached, and when the first and the last of them were put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The byte behind the last frame.
    pub(crate) end: u64,
    /// The sequence number after the last record.
    pub(crate) end_sequence: u64,
    /// 0 while there is no frame, as is the next.
    pub(crate) first_timestamp_micros: u64,
    pub(crate) last_timestamp_micros: u64,
}

impl Summary {
    /// That of a segment which begins with a number and holds no frame.
    pub(crate) fn empty(base_sequence: u64) -> Self {
        Self {
            end: FRAMES_FROM,
            end_sequence: base_sequence,
            first_timestamp_micros: 0,
            last_timestamp_micros: 0,
        }
    }

    /// Whether there is no frame.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.end == FRAMES_FROM
    }

    /// Adds a frame that stands at the end.
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

/// A summary with the index that goes with it.
#[derive(Debug)]
pub(crate) struct Indexed {
    pub(crate) frames: Summary,
    pub(crate) index: Index,
}

impl Indexed {
    /// That of a segment which begins with a number and holds no frame.
    pub(crate) fn empty(base_sequence: u64) -> Self {
        Self { frames: Summary::empty(base_sequence), index: Index::default() }
    }

    /// Adds a frame that stands at the end.
    pub(crate) fn add(&mut self, frame: &FrameHeader) {
        if self.index.wants(self.frames.end) {
            self.index.note(IndexEntry::of(frame, self.frames.end));
        }
        self.frames.add(frame);
    }
}
