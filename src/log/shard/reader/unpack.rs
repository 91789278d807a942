//! Reading frames whose records are compressed or encrypted.

use std::sync::Arc;

use bytes::Bytes;

use super::batch::{Batch, RecordPlace};
use super::iterator::{Place, ShardIterator, Unpacked};
use super::portion::{Limits, Read};
use super::segments::Found;
use crate::log::format::fault::FrameFault;
use crate::log::format::frame::Frame;
use crate::log::keys::segment_key::SegmentKey;
use crate::log::types::error::Result;

/// A batch ends once this many bytes are decompressed for it.
const BATCH_BYTES_MAX: usize = 4 << 20;

impl ShardIterator {
    /// Decrypts and decompresses a frame. What is returned looks like a frame that was always plain, except for its checksum.
    pub(super) fn unpack(&self, place: &Place, frame: &Frame<'_>) -> Result<Bytes> {
        let base_sequence = frame.header.base_sequence;
        if let Some(known) = self.unpacked.as_ref().filter(|known| known.base_sequence == base_sequence) {
            return Ok(known.frame.clone());
        }
        let (mut plain, key) = (vec![], self.key_of(place, frame)?);
        self.unpack_to(place, frame, key.as_deref(), &mut plain)?;
        Ok(plain.into())
    }

    /// Returns the key of a frame, or `None` if it is not encrypted.
    fn key_of(&self, place: &Place, frame: &Frame<'_>) -> Result<Option<Arc<SegmentKey>>> {
        frame.data_key().map(|data_key| self.reader.key(&place.window, data_key)).transpose()
    }

    fn unpack_to(
        &self,
        place: &Place,
        frame: &Frame<'_>,
        key: Option<&SegmentKey>,
        plain: &mut Vec<u8>,
    ) -> Result<()> {
        let unpacked = frame.unpack(plain, |frame, to| match key {
            Some(key) => key.decrypt(frame, to),
            None => Err(FrameFault::Encrypted),
        });
        unpacked.map_err(|fault| place.window.fault(place.offset, self.next, &fault))
    }

    /// Reads compressed frames from a place on, up to the committed end and the limits.
    pub(super) fn collect_packed(&mut self, place: Place, committed: u64, left: Limits) -> Result<Batch> {
        match place.in_frame.index {
            0 => self.collect_whole(place, committed, left),
            _ => self.collect_rest(place, committed, left),
        }
    }

    /// Continues in a frame that was read in part. It was decompressed then, and nothing is copied.
    fn collect_rest(&mut self, mut place: Place, committed: u64, mut left: Limits) -> Result<Batch> {
        let (from, first, first_sequence, records_max) =
            (place.offset, place.in_frame, self.next, left.records);
        let window = Arc::clone(&place.window);
        let frame = self.check(&window, place.offset, place.in_frame, committed)?;
        let bytes = self.unpack(&place, &frame)?;
        let plain = self.checked(&place, &bytes)?;
        left.take(&plain, &mut place.in_frame, true);
        let record_count = records_max - left.records;
        self.next = self.next.plus(record_count as u64);
        self.unpacked = if place.in_frame.index < frame.header.count {
            Some(Unpacked { base_sequence: frame.header.base_sequence, frame: bytes.clone() })
        } else {
            place.pass(frame.header.len);
            None
        };
        let last_timestamp = Some(frame.header.timestamp_micros);
        let log_bytes = place.offset - from;
        let put_bytes = if self.unpacked.is_some() { 0 } else { bytes.len() as u64 };
        let data_key = frame.data_key();
        let read = Read {
            bytes,
            first,
            first_sequence,
            record_count,
            last_timestamp,
            log_bytes,
            data_key,
            put_bytes,
        };
        Ok(self.batch(place, read))
    }

    /// Reads whole frames, and perhaps part of a last one, into one buffer.
    fn collect_whole(&mut self, mut place: Place, committed: u64, mut left: Limits) -> Result<Batch> {
        let (from, first, first_sequence, records_max) =
            (place.offset, place.in_frame, self.next, left.records);
        let window = Arc::clone(&place.window);
        let (mut plain, mut last, mut last_timestamp) = (vec![], None, None);
        let (mut data_key, mut key) = (None, None);
        while place.offset < committed && left.records > 0 && plain.len() < BATCH_BYTES_MAX {
            // The next call reads what is not compressed, or meets what is wrong with it.
            let Ok(frame) = self.check(&window, place.offset, place.in_frame, committed) else { break };
            // The frames of a batch have the same key.
            if frame.is_plain() || !plain.is_empty() && frame.data_key() != data_key {
                break;
            }
            let at = plain.len();
            if at == 0 {
                // All frames of the batch are in one segment, and have one key.
                (data_key, key) = match self.key_of(&place, &frame) {
                    Ok(key) => (frame.data_key(), key),
                    Err(error) => {
                        self.place = Some(place);
                        return Err(error);
                    }
                };
                plain.reserve(room_for(&frame, left.records, committed - place.offset));
            }
            if let Err(error) = self.unpack_to(&place, &frame, key.as_deref(), &mut plain) {
                plain.truncate(at);
                if at == 0 {
                    self.place = Some(place);
                    return Err(error);
                }
                break;
            }
            let unpacked = self.checked(&place, &plain[at..])?;
            let taken = left.take(&unpacked, &mut place.in_frame, left.records == records_max);
            if taken == 0 {
                plain.truncate(at);
                break;
            }
            self.next = self.next.plus(taken as u64);
            last_timestamp = Some(frame.header.timestamp_micros);
            if place.in_frame.index < frame.header.count {
                last = Some((frame.header.base_sequence, at));
                break;
            }
            place.pass(frame.header.len);
        }
        let bytes = Bytes::from(plain);
        let put_bytes = last.map_or(bytes.len(), |(_, at)| at) as u64;
        self.unpacked = last.map(|(base_sequence, at)| Unpacked { base_sequence, frame: bytes.slice(at..) });
        let (record_count, log_bytes) = (records_max - left.records, place.offset - from);
        let read = Read {
            bytes,
            first,
            first_sequence,
            record_count,
            last_timestamp,
            log_bytes,
            data_key,
            put_bytes,
        };
        Ok(self.batch(place, read))
    }

    /// Passes the frame of the next record, whose records need not be readable, after checking that it is whole and where it belongs. Returns
    /// the number of records passed, and the bytes of the frame.
    pub(super) fn pass_frame(&mut self) -> Result<(u64, u64)> {
        let Some(Found { window, .. }) = self.reader.find(self.next)? else { return Ok((0, 0)) };
        let offset = window.offset_of(self.next)?;
        let frame = self.check(&window, offset, RecordPlace::default(), window.committed())?;
        let (len, end) = (frame.header.len as u64, frame.header.end_sequence());
        let count = end - self.next.get();
        (self.next, self.unpacked) = (end.into(), None);
        self.place = Some(Place { window, offset: offset + len, in_frame: RecordPlace::default() });
        Ok((count, len))
    }

    fn checked<'b>(&self, place: &Place, bytes: &'b [u8]) -> Result<Frame<'b>> {
        Frame::decode_checked(bytes).map_err(|fault| place.window.fault(place.offset, self.next, &fault))
    }
}

/// Guesses the bytes that a batch takes from its first frame: enough for many frames like it, and no more than there are.
fn room_for(frame: &Frame<'_>, records_max: usize, log_bytes: u64) -> usize {
    let frames = (records_max / frame.header.count as usize).saturating_add(1);
    let log_bytes = usize::try_from(log_bytes).unwrap_or(usize::MAX);
    frames.saturating_mul(frame.header.len).min(log_bytes).min(BATCH_BYTES_MAX)
}

impl Place {
    /// Goes behind a frame.
    fn pass(&mut self, len: usize) {
        self.offset += len as u64;
        self.in_frame = RecordPlace::default();
    }
}
