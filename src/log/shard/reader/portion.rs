//! How much one read of a shard takes, and what it took.

use bytes::Bytes;

use super::batch::RecordPlace;
use crate::log::format::frame::Frame;
use crate::log::format::record::RecordParts;
use crate::log::types::sequence::SequenceNumber;

/// What was read of a shard.
pub(super) struct Read {
    pub(super) bytes: Bytes,
    pub(super) first: RecordPlace,
    pub(super) first_sequence: SequenceNumber,
    pub(super) record_count: usize,
    /// In microseconds.
    pub(super) last_timestamp: Option<u64>,
    /// The bytes that it takes in the log.
    pub(super) log_bytes: u64,
    /// The bytes of the frames that it ends, as they were put.
    pub(super) put_bytes: u64,
}

/// How much more a batch may hold.
pub(super) struct Limits {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Limits {
    /// Takes records of a frame from a place on. Returns their number, and moves the place behind them. The first record of a batch is
    /// taken whatever its size.
    #[inline]
    pub(super) fn take(&mut self, frame: &Frame<'_>, place: &mut RecordPlace, is_first: bool) -> usize {
        let left = (frame.header.count - place.index) as usize;
        // The usual case: the whole frame fits, so its records need not be looked at one by one.
        if place.index == 0 && left <= self.records && frame.records().len() <= self.bytes {
            self.records -= left;
            self.bytes -= frame.records().len();
            place.index = frame.header.count;
            return left;
        }
        let mut taken = 0;
        while taken < left.min(self.records) {
            let Some((parts, offset)) = RecordParts::at(frame.records(), place.offset) else { break };
            let bytes = parts.bytes();
            if bytes > self.bytes && !(is_first && taken == 0) {
                break;
            }
            self.bytes = self.bytes.saturating_sub(bytes);
            *place = RecordPlace { index: place.index + 1, offset };
            taken += 1;
        }
        self.records -= taken;
        taken
    }
}
