//! How much one read of a shard takes, and what it took.

use bytes::Bytes;

use super::batch::RecordPlace;
use crate::log::format::frame::{FRAME_HEADER_BYTES, Frame, FrameHeader};
use crate::log::format::record::RecordParts;
use crate::log::format::salt::Salt;
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
    /// The number of the key that it was encrypted with.
    pub(super) data_key: Option<u32>,
    /// The bytes of the frames that it ends, as they were put.
    pub(super) put_bytes: u64,
}

/// How much more a batch may hold.
pub(super) struct Limits {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// Plain frames that were taken whole.
pub(super) struct Whole<'a> {
    /// The bytes behind them.
    pub(super) rest: &'a [u8],
    pub(super) record_count: u64,
    /// When the records of the last one arrived, in microseconds.
    pub(super) last_timestamp: Option<u64>,
}

impl Limits {
    /// Takes as many frames as fit whole, are plain and are valid: the first record of `frames` has the number `next`.
    // A function of its own, because nearly all the time of reading small frames is spent in this loop, which must get along with few
    // registers.
    #[inline(never)]
    pub(super) fn take_whole<'a>(
        &mut self,
        frames: &'a [u8],
        salt: &Salt,
        next: SequenceNumber,
    ) -> Whole<'a> {
        let mut whole = Whole { rest: frames, record_count: 0, last_timestamp: None };
        // Whether a frame fits is checked before its checksum, so that one that does not fit is checked only once.
        while let Ok(FrameHeader { len, count, .. }) = FrameHeader::peek(whole.rest) {
            let (count, bytes) = (count as usize, len - FRAME_HEADER_BYTES);
            if count > self.records || bytes > self.bytes {
                break;
            }
            let Some(Frame { header, .. }) = Frame::decode_records(whole.rest, salt) else { break };
            if header.base_sequence != next.get() + whole.record_count {
                break;
            }
            self.records -= count;
            self.bytes -= bytes;
            whole.rest = &whole.rest[len..];
            whole.record_count += count as u64;
            whole.last_timestamp = Some(header.timestamp_micros);
        }
        whole
    }

    /// Takes records of a frame from a place on. Returns their number, and moves the place behind them. The first record of a batch is
    /// taken whatever its size.
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
