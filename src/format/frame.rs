//! Frames: what one append wrote.

use super::bytes::{FieldWriter, u16_at, u32_at, u64_at};

/// The bytes of a frame before its records.
pub(crate) const FRAME_HEADER_BYTES: usize = 32;
/// The bytes of a record before its key.
pub(crate) const RECORD_HEADER_BYTES: usize = 8;
/// Frames start, and so end, on multiples of this.
pub(crate) const FRAME_ALIGN: usize = 8;

/// The checksum speaks for all bytes of a frame from here on.
const CHECKED_FROM: usize = 8;
const CODEC_PLAIN: u16 = 0;
/// The flag of a frame that stands in the place of records that damage took.
const FLAG_LOST: u16 = 1;
/// A frame of lost records is as short as a frame can be.
pub(crate) const LOST_FRAME_BYTES: usize = FRAME_HEADER_BYTES + RECORD_HEADER_BYTES;
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
            let mut hasher = crc32fast::Hasher::new();
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
            None => crc32fast::hash(&frame[CHECKED_FROM..]),
            Some(body) => {
                let mut hasher = crc32fast::Hasher::new();
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

/// The frame that stands in the place of `count` records that damage took.
pub(crate) fn encode_lost(base_sequence: u64, timestamp_micros: u64, count: u32) -> [u8; LOST_FRAME_BYTES] {
    let mut bytes = [0; LOST_FRAME_BYTES];
    FieldWriter::new(&mut bytes)
        .u32(LOST_FRAME_BYTES as u32)
        .u32(0)
        .u64(base_sequence)
        .u64(timestamp_micros)
        .u32(count)
        .u16(CODEC_PLAIN)
        .u16(FLAG_LOST);
    let checksum = crc32fast::hash(&bytes[CHECKED_FROM..]);
    FieldWriter::new(&mut bytes[4..]).u32(checksum);
    bytes
}

/// The header of a frame, as it stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) len: usize,
    pub(crate) base_sequence: u64,
    pub(crate) timestamp_micros: u64,
    pub(crate) count: u32,
    /// It holds no record: it stands in the place of so many that damage took.
    pub(crate) is_lost: bool,
}

/// A whole frame, its checksum and the shape of its records checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) header: FrameHeader,
    records: &'a [u8],
}

/// Why no good frame begins at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FrameFault {
    /// A length of zero: nothing was ever put here.
    Blank,
    /// The bytes end before the frame does.
    Short {
        len: usize,
        available: usize,
    },
    /// A length that no frame has.
    Length {
        found: u32,
    },
    Checksum {
        expected: u32,
        found: u32,
    },
    /// Whole, but written by a newer version.
    Unsupported {
        what: &'static str,
        found: u16,
    },
    /// Whole, but its records do not add up: nothing that this library wrote.
    Shape,
    /// Whole, but not the frame that belongs there.
    Sequence {
        expected: u64,
        found: u64,
    },
}

impl std::fmt::Display for FrameFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blank => write!(f, "expected a frame, found zeros"),
            Self::Short { len, available } => {
                write!(f, "expected a frame of {len} bytes, found {available} bytes")
            }
            Self::Length { found } => write!(f, "expected the length of a frame, found {found}"),
            Self::Checksum { expected, found } => {
                write!(f, "expected a frame with checksum {found:#010x}, found bytes with {expected:#010x}")
            }
            Self::Unsupported { what, found } => write!(f, "a frame with {what} {found}"),
            Self::Sequence { expected, found } => {
                write!(f, "expected the frame of sequence number {expected}, found that of {found}")
            }
            Self::Shape => write!(f, "the lengths of a frame's records do not add up"),
        }
    }
}

impl FrameHeader {
    /// Reads the header of the frame that begins with `bytes`, believing it.
    #[inline]
    pub(crate) fn peek(bytes: &[u8]) -> Result<Self, FrameFault> {
        let short = FrameFault::Short { len: FRAME_HEADER_BYTES, available: bytes.len() };
        let Some(head) = bytes.get(..FRAME_HEADER_BYTES) else {
            return Err(if bytes.iter().all(|&byte| byte == 0) { FrameFault::Blank } else { short });
        };
        let (Some(len), Some(base_sequence), Some(timestamp_micros), Some(count), Some(flags)) =
            (u32_at(head, 0), u64_at(head, 8), u64_at(head, 16), u32_at(head, 24), u16_at(head, 30))
        else {
            return Err(short);
        };
        if len == 0 {
            return Err(FrameFault::Blank);
        }
        if (len as usize) < FRAME_HEADER_BYTES + RECORD_HEADER_BYTES
            || !(len as usize).is_multiple_of(FRAME_ALIGN)
        {
            return Err(FrameFault::Length { found: len });
        }
        if count == 0 {
            return Err(FrameFault::Shape);
        }
        let len = len as usize;
        if len > bytes.len() {
            return Err(FrameFault::Short { len, available: bytes.len() });
        }
        Ok(Self { len, base_sequence, timestamp_micros, count, is_lost: flags & FLAG_LOST != 0 })
    }

    /// The sequence number after the frame's last.
    #[inline]
    pub(crate) fn end_sequence(&self) -> u64 {
        self.base_sequence.saturating_add(self.count.into())
    }
}

impl<'a> Frame<'a> {
    /// Reads and checks the frame that begins with `bytes`.
    #[inline]
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, FrameFault> {
        Self::decode_records(bytes).map_or_else(|| Self::decode_other(bytes), Ok)
    }

    /// Reads and checks the frame that begins with `bytes`, if it is whole and holds records: what nearly all are, and all that a
    /// reader needs to know then.
    #[inline]
    pub(crate) fn decode_records(bytes: &'a [u8]) -> Option<Self> {
        const PLAIN: u32 = CODEC_PLAIN as u32;
        let header = FrameHeader::peek(bytes).ok()?;
        let frame = &bytes[..header.len];
        // Codec and flags, side by side.
        if u32_at(frame, 4)? != crc32fast::hash(&frame[CHECKED_FROM..]) || u32_at(frame, 28)? != PLAIN {
            return None;
        }
        let records = &frame[FRAME_HEADER_BYTES..];
        check_shape(records, header.count).ok()?;
        Some(Self { header, records })
    }

    /// Tells what is wrong with a frame, or else reads one that holds no records.
    #[cold]
    fn decode_other(bytes: &'a [u8]) -> Result<Self, FrameFault> {
        let header = FrameHeader::peek(bytes)?;
        let frame = &bytes[..header.len];
        let expected = crc32fast::hash(&frame[CHECKED_FROM..]);
        let (found, codec, flags) = (u32_at(frame, 4), u16_at(frame, 28), u16_at(frame, 30));
        match (found, codec, flags) {
            (Some(found), ..) if found != expected => Err(FrameFault::Checksum { expected, found }),
            (_, Some(CODEC_PLAIN), Some(0)) => {
                check_shape(&frame[FRAME_HEADER_BYTES..], header.count).and(Err(FrameFault::Shape))
            }
            (_, Some(CODEC_PLAIN), Some(FLAG_LOST)) => {
                let is_blank = frame.len() == LOST_FRAME_BYTES
                    && frame[FRAME_HEADER_BYTES..].iter().all(|&byte| byte == 0);
                if is_blank { Ok(Self { header, records: &[] }) } else { Err(FrameFault::Shape) }
            }
            (_, Some(codec), Some(0)) => Err(FrameFault::Unsupported { what: "codec", found: codec }),
            (.., flags) => Err(FrameFault::Unsupported { what: "flags", found: flags.unwrap_or_default() }),
        }
    }

    /// Reads a frame that was decoded before.
    #[inline]
    pub(crate) fn decode_checked(bytes: &'a [u8]) -> Result<Self, FrameFault> {
        let header = FrameHeader::peek(bytes)?;
        let records = if header.is_lost { &[] } else { &bytes[FRAME_HEADER_BYTES..header.len] };
        Ok(Self { header, records })
    }

    /// The part of the frame that holds its records, for [`RecordParts::at`].
    #[inline]
    pub(crate) fn records(&self) -> &'a [u8] {
        self.records
    }
}

/// Checks that `count` records and less than a word of zeros fill `records`.
#[inline]
fn check_shape(records: &[u8], count: u32) -> Result<(), FrameFault> {
    let mut at = 0;
    for _ in 0..count {
        let flags = u16_at(records, at + 2).ok_or(FrameFault::Shape)?;
        if flags != 0 {
            return Err(FrameFault::Unsupported { what: "record flags", found: flags });
        }
        at = RecordParts::at(records, at).ok_or(FrameFault::Shape)?.1;
    }
    let padding = records.get(at..).ok_or(FrameFault::Shape)?;
    if padding.len() >= FRAME_ALIGN || padding.iter().any(|&byte| byte != 0) {
        return Err(FrameFault::Shape);
    }
    Ok(())
}

/// A record's bytes in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordParts<'a> {
    pub(crate) partition_key: &'a [u8],
    pub(crate) data: &'a [u8],
}

impl<'a> RecordParts<'a> {
    /// The record at an offset of a frame's records, and the offset of the next.
    #[inline]
    pub(crate) fn at(records: &'a [u8], offset: usize) -> Option<(Self, usize)> {
        let key_len = u16_at(records, offset)? as usize;
        let data_len = u32_at(records, offset + 4)? as usize;
        let key_at = offset + RECORD_HEADER_BYTES;
        let data_at = key_at + key_len;
        let end = data_at.checked_add(data_len)?;
        let data = records.get(data_at..end)?;
        Some((Self { partition_key: &records[key_at..data_at], data }, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn encode(records: &[(Vec<u8>, Vec<u8>)], base_sequence: u64, timestamp_micros: u64) -> Vec<u8> {
        let mut draft = FrameDraft::default();
        draft.clear(0);
        for (key, data) in records {
            draft.push(key, data);
        }
        draft.finish();
        draft.seal(base_sequence, timestamp_micros);
        assert_eq!(draft.len() % FRAME_ALIGN, 0);
        draft.parts(&[]).concat()
    }

    fn records_of(frame: &Frame<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut at = 0;
        (0..frame.header.count)
            .map(|_| {
                let (parts, next) = RecordParts::at(frame.records(), at).unwrap();
                at = next;
                (parts.partition_key.to_vec(), parts.data.to_vec())
            })
            .collect()
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_noticed() {
        let bytes = encode(&[(b"key".to_vec(), b"some data".to_vec()), (b"k".to_vec(), vec![])], 41, 7);
        assert!(Frame::decode(&bytes).is_ok());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::decode(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn p14_a_whole_frame_of_a_newer_version_is_told_from_damage() {
        for (at, what) in [(28, "codec"), (30, "flags"), (34, "record flags")] {
            let mut bytes = encode(&[(b"key".to_vec(), b"data".to_vec())], 0, 0);
            bytes[at] = 5;
            let checksum = crc32fast::hash(&bytes[CHECKED_FROM..]);
            FieldWriter::new(&mut bytes[4..]).u32(checksum);
            assert_eq!(Frame::decode(&bytes), Err(FrameFault::Unsupported { what, found: 5 }));
        }
    }

    #[test]
    fn a_frame_of_lost_records_says_which_and_holds_none() {
        let mut bytes = encode_lost(41, 7, 3);
        let frame = Frame::decode(&bytes).unwrap();
        let FrameHeader { base_sequence, timestamp_micros, count, is_lost, .. } = frame.header;
        assert_eq!((base_sequence, timestamp_micros, count, is_lost), (41, 7, 3, true));
        assert_eq!(frame.records(), b"");
        bytes[36] = 1;
        let checksum = crc32fast::hash(&bytes[CHECKED_FROM..]);
        FieldWriter::new(&mut bytes[4..]).u32(checksum);
        assert_eq!(Frame::decode(&bytes), Err(FrameFault::Shape), "one that holds something");
    }

    proptest! {
        #[test]
        fn frames_read_back_as_they_were_written(
            records in vec((vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..400)), 1..60),
            base in any::<u64>(), timestamp in any::<u64>(),
        ) {
            let bytes = encode(&records, base, timestamp);
            let frame = Frame::decode(&bytes).unwrap();
            prop_assert_eq!(frame.header.len, bytes.len());
            prop_assert_eq!((frame.header.base_sequence, frame.header.timestamp_micros), (base, timestamp));
            prop_assert_eq!(records_of(&frame), records);
        }

        #[test]
        fn a_borrowed_record_makes_the_same_frame_as_a_copied_one(
            key in vec(any::<u8>(), 1..40), data in vec(any::<u8>(), 1..20_000), base in any::<u64>(),
        ) {
            let mut draft = FrameDraft::default();
            draft.clear(0);
            draft.finish_borrowing(&key, &data);
            draft.seal(base, 9);
            prop_assert_eq!(draft.parts(&data).concat(), encode(&[(key, data.clone())], base, 9));
        }

        #[test]
        fn p11_any_bytes_decode_without_a_panic(bytes in vec(any::<u8>(), 0..300)) {
            let _ = Frame::decode(&bytes);
            let _ = RecordParts::at(&bytes, 3);
        }

        #[test]
        fn p11_a_valid_checksum_over_any_records_is_no_reason_to_believe_them(
            mut bytes in vec(any::<u8>(), 40..300), count in 0u32..5,
        ) {
            bytes.truncate(bytes.len() / 8 * 8);
            let len = bytes.len() as u32;
            FieldWriter::new(&mut bytes).u32(len);
            FieldWriter::new(&mut bytes[24..]).u32(count).u32(0);
            let checksum = crc32fast::hash(&bytes[CHECKED_FROM..]);
            FieldWriter::new(&mut bytes[4..]).u32(checksum);
            if let Ok(frame) = Frame::decode(&bytes) {
                prop_assert_eq!(records_of(&frame).len(), count as usize);
                prop_assert!(count > 0);
            }
            prop_assert_eq!(FrameHeader::peek(&bytes).is_ok(), count > 0);
        }
    }
}
