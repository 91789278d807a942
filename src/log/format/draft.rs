//! Frames in the making.

use super::bytes::FieldWriter;
use super::checksum::{self, checksum};
use super::frame::{CHECKED_FROM, CODEC_PLAIN, FRAME_ALIGN, FRAME_HEADER_BYTES, RECORD_HEADER_BYTES};

/// From this size on the checksum of the records is worked out before the sequence number is known and joined to
/// that of the header afterwards; below it, joining costs more than it takes out of the append lock.
const JOINED_CHECKSUM_BYTES_MIN: usize = 8 << 10;

/// A frame in the making: the records first, then, once they are known, its sequence number and timestamp.
///
/// Its buffer is kept and used again, so that a put allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct FrameDraft {
    /// The header's place, then the records that are held by copy, then the padding if there is no `tail`. What is behind them is left
    /// of other drafts: writing over bytes costs less than adding them to a vector.
    buffer: Vec<u8>,
    /// Where the drafted bytes end.
    end: usize,
    len: usize,
    count: u32,
    body_checksum: Option<crc32fast::Hasher>,
}

/// The bytes of a frame, in the order in which they stand in the segment.
pub(crate) type FrameParts<'a> = [&'a [u8]; 3];

const PADDING: [u8; FRAME_ALIGN] = [0; FRAME_ALIGN];

impl FrameDraft {
    /// The bytes that a record takes in a frame.
    pub(crate) fn record_bytes(partition_key: &[u8], data: &[u8]) -> usize {
        RECORD_HEADER_BYTES + partition_key.len() + data.len()
    }

    /// Forgets what was drafted, and keeps the buffer; it will take `bytes` of records.
    #[inline]
    pub(crate) fn clear(&mut self, bytes: usize) {
        self.end = FRAME_HEADER_BYTES;
        self.make_room(FRAME_HEADER_BYTES + bytes + FRAME_ALIGN);
        self.count = 0;
        self.body_checksum = None;
    }

    #[inline]
    fn make_room(&mut self, len: usize) {
        if self.buffer.len() < len {
            self.grow(len);
        }
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        // A new one, whose zeros come from the system and need not be written.
        let mut grown = vec![0; len.max(2 * self.buffer.len())];
        let drafted = self.end.min(self.buffer.len());
        grown[..drafted].copy_from_slice(&self.buffer[..drafted]);
        self.buffer = grown;
    }

    #[inline]
    fn push_bytes(&mut self, bytes: &[u8]) {
        let end = self.end + bytes.len();
        self.make_room(end);
        self.buffer[self.end..end].copy_from_slice(bytes);
        self.end = end;
    }

    /// Adds a record by copy.
    #[inline]
    pub(crate) fn push(&mut self, partition_key: &[u8], data: &[u8]) {
        self.push_head(partition_key, data);
        self.push_bytes(data);
    }

    #[inline]
    fn push_head(&mut self, partition_key: &[u8], data: &[u8]) {
        // The length of the key, no flags, and the length of the data: as one word, since what is stored in parts is slow to load.
        let head = u64::from(partition_key.len() as u16) | (data.len() as u64) << 32;
        self.push_bytes(&head.to_le_bytes());
        self.push_bytes(partition_key);
        self.count += 1;
    }

    /// Ends a draft whose records were all pushed.
    #[inline]
    pub(crate) fn finish(&mut self) {
        self.finish_with_tail(&[]);
    }

    /// Drafts a frame of one record whose data stays where it is: the same `data` goes to [`parts`](Self::parts).
    pub(crate) fn finish_borrowing(&mut self, partition_key: &[u8], data: &[u8]) {
        self.push_head(partition_key, data);
        self.finish_with_tail(data);
    }

    #[inline]
    fn finish_with_tail(&mut self, tail: &[u8]) {
        let bytes = self.end + tail.len();
        self.len = bytes.next_multiple_of(FRAME_ALIGN);
        if tail.is_empty() {
            self.push_bytes(&PADDING);
            self.end = self.len;
        }
        if self.len >= JOINED_CHECKSUM_BYTES_MIN || !tail.is_empty() {
            let mut hasher = checksum::begin();
            hasher.update(&self.buffer[FRAME_HEADER_BYTES..self.end]);
            hasher.update(tail);
            hasher.update(&PADDING[..self.len - self.end - tail.len()]);
            self.body_checksum = Some(hasher);
        }
    }

    /// The bytes of the finished frame.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The records of the frame.
    #[inline]
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Writes the header, now that the frame's place is known.
    #[inline]
    pub(crate) fn seal(&mut self, base_sequence: u64, timestamp_micros: u64) {
        let (frame, _) = self.buffer.split_at_mut(self.end);
        FieldWriter::new(frame)
            .u64(self.len as u64)
            .u64(base_sequence)
            .u64(timestamp_micros)
            .u64(u64::from(self.count) | u64::from(CODEC_PLAIN) << 32);
        let checksum = match self.body_checksum.take() {
            None => checksum(&frame[CHECKED_FROM..]),
            Some(body) => {
                let mut hasher = checksum::begin();
                hasher.update(&frame[CHECKED_FROM..FRAME_HEADER_BYTES]);
                hasher.combine(&body);
                hasher.finalize()
            }
        };
        FieldWriter::new(&mut frame[4..]).u32(checksum);
    }

    /// The bytes of the sealed frame; `tail` is the data that [`finish_borrowing`](Self::finish_borrowing) was given.
    #[inline]
    pub(crate) fn parts<'a>(&'a self, tail: &'a [u8]) -> FrameParts<'a> {
        let padding = self.len - self.end - tail.len();
        [&self.buffer[..self.end], tail, &PADDING[..padding]]
    }

    /// Gives back the memory of an unusually large draft.
    #[inline]
    pub(crate) fn shrink(&mut self, bytes_max: usize) {
        if self.buffer.len() > bytes_max {
            *self = Self::default();
        }
    }
}
