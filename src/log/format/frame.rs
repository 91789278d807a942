//! Frames: what one append wrote.

use super::bytes::{FieldWriter, u64_at};
use super::checksum::checksum;

/// The bytes of a frame before its records.
pub(crate) const FRAME_HEADER_BYTES: usize = 32;
/// The bytes of a record before its key.
pub(crate) const RECORD_HEADER_BYTES: usize = 8;
/// Frames start, and so end, on multiples of this.
pub(crate) const FRAME_ALIGN: usize = 8;

/// What a writer leaves behind its last frame, the length of none: a file may hold other bytes there, from when it was another segment.
pub(crate) const END_MARK: [u8; FRAME_ALIGN] = [0; FRAME_ALIGN];

/// The checksum speaks for all bytes of a frame from here on.
pub(super) const CHECKED_FROM: usize = 8;
pub(super) const CODEC_PLAIN: u16 = 0;
/// The flag of a frame that stands in the place of records that damage took.
const FLAG_LOST: u16 = 1;
/// A frame of lost records is as short as a frame can be.
pub(crate) const LOST_FRAME_BYTES: usize = FRAME_HEADER_BYTES + RECORD_HEADER_BYTES;

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
    let checksum = checksum(&bytes[CHECKED_FROM..]);
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

/// All that stands before a frame's records.
#[derive(Debug, Clone, Copy)]
struct Head {
    checksum: u32,
    codec: u16,
    flags: u16,
    header: FrameHeader,
}

impl Head {
    /// Reads what `bytes` begin with, if it can be the head of a frame that they hold.
    #[inline]
    fn read(bytes: &[u8]) -> Option<Self> {
        let fields = bytes.first_chunk::<FRAME_HEADER_BYTES>()?;
        let (lens, counts) = (u64_at(fields, 0)?, u64_at(fields, 24)?);
        let (len, count, flags) = (lens as u32 as usize, counts as u32, (counts >> 48) as u16);
        let is_sound = len >= FRAME_HEADER_BYTES + RECORD_HEADER_BYTES
            && len.is_multiple_of(FRAME_ALIGN)
            && len <= bytes.len()
            && count > 0;
        let header = FrameHeader {
            len,
            base_sequence: u64_at(fields, 8)?,
            timestamp_micros: u64_at(fields, 16)?,
            count,
            is_lost: flags & FLAG_LOST != 0,
        };
        let head = Self { checksum: (lens >> 32) as u32, codec: (counts >> 32) as u16, flags, header };
        is_sound.then_some(head)
    }

    /// Tells what is wrong with bytes that no frame begins with.
    #[cold]
    fn fault(bytes: &[u8]) -> FrameFault {
        let short = FrameFault::Short { len: FRAME_HEADER_BYTES, available: bytes.len() };
        let Some(fields) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
            return if bytes.iter().all(|&byte| byte == 0) { FrameFault::Blank } else { short };
        };
        let found = u64_at(fields, 0).map_or(0, |lens| lens as u32);
        let len = found as usize;
        if len == 0 {
            FrameFault::Blank
        } else if len < FRAME_HEADER_BYTES + RECORD_HEADER_BYTES || !len.is_multiple_of(FRAME_ALIGN) {
            FrameFault::Length { found }
        } else if len > bytes.len() {
            FrameFault::Short { len, available: bytes.len() }
        } else {
            FrameFault::Shape
        }
    }
}

impl FrameHeader {
    /// Reads the header of the frame that begins with `bytes`, believing it.
    #[inline]
    pub(crate) fn peek(bytes: &[u8]) -> Result<Self, FrameFault> {
        Head::read(bytes).map(|head| head.header).ok_or_else(|| Head::fault(bytes))
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
    // As a call it is a tenth of what reading a small frame takes.
    #[inline(always)]
    pub(crate) fn decode_records(bytes: &'a [u8]) -> Option<Self> {
        let Head { checksum: found, codec, flags, header } = Head::read(bytes)?;
        let frame = &bytes[..header.len];
        if found != checksum(&frame[CHECKED_FROM..]) || (codec, flags) != (CODEC_PLAIN, 0) {
            return None;
        }
        let records = &frame[FRAME_HEADER_BYTES..];
        check_shape(records, header.count).ok()?;
        Some(Self { header, records })
    }

    /// Tells what is wrong with a frame, or else reads one that holds no records.
    #[cold]
    fn decode_other(bytes: &'a [u8]) -> Result<Self, FrameFault> {
        let Head { checksum: found, codec, flags, header } =
            Head::read(bytes).ok_or_else(|| Head::fault(bytes))?;
        let frame = &bytes[..header.len];
        let expected = checksum(&frame[CHECKED_FROM..]);
        match (codec, flags) {
            _ if found != expected => Err(FrameFault::Checksum { expected, found }),
            (CODEC_PLAIN, 0) => {
                check_shape(&frame[FRAME_HEADER_BYTES..], header.count).and(Err(FrameFault::Shape))
            }
            (CODEC_PLAIN, FLAG_LOST) => {
                let is_blank = frame.len() == LOST_FRAME_BYTES
                    && frame[FRAME_HEADER_BYTES..].iter().all(|&byte| byte == 0);
                if is_blank { Ok(Self { header, records: &[] }) } else { Err(FrameFault::Shape) }
            }
            (codec, 0) => Err(FrameFault::Unsupported { what: "codec", found: codec }),
            (_, flags) => Err(FrameFault::Unsupported { what: "flags", found: flags }),
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
        let head = RecordHead::at(records, at).ok_or(FrameFault::Shape)?;
        if head.flags != 0 {
            return Err(FrameFault::Unsupported { what: "record flags", found: head.flags });
        }
        at += head.bytes();
    }
    let padding = records.get(at..).ok_or(FrameFault::Shape)?;
    if padding.len() >= FRAME_ALIGN || padding.iter().any(|&byte| byte != 0) {
        return Err(FrameFault::Shape);
    }
    Ok(())
}

/// What stands before the key of a record.
#[derive(Debug, Clone, Copy)]
struct RecordHead {
    key_len: usize,
    flags: u16,
    data_len: usize,
}

impl RecordHead {
    #[inline]
    fn at(records: &[u8], offset: usize) -> Option<Self> {
        let fields = u64_at(records, offset)?;
        Some(Self {
            key_len: fields as u16 as usize,
            flags: (fields >> 16) as u16,
            data_len: (fields >> 32) as usize,
        })
    }

    /// The bytes of the record, its head included.
    #[inline]
    fn bytes(self) -> usize {
        RECORD_HEADER_BYTES + self.key_len + self.data_len
    }
}

/// A record's bytes in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordParts<'a> {
    pub(crate) partition_key: &'a [u8],
    pub(crate) data: &'a [u8],
}

impl<'a> RecordParts<'a> {
    /// The first of a frame's records, and those behind it.
    #[inline]
    pub(crate) fn split_off(records: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let head = RecordHead::at(records, 0)?;
        let (record, rest) = records.split_at_checked(head.bytes())?;
        let (partition_key, data) = record[RECORD_HEADER_BYTES..].split_at_checked(head.key_len)?;
        Some((Self { partition_key, data }, rest))
    }

    /// The record at an offset of a frame's records, and the offset of the next.
    #[inline]
    pub(crate) fn at(records: &'a [u8], offset: usize) -> Option<(Self, usize)> {
        let (record, rest) = Self::split_off(records.get(offset..)?)?;
        Some((record, records.len() - rest.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::draft::FrameDraft;
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
            let checksum = checksum(&bytes[CHECKED_FROM..]);
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
        let checksum = checksum(&bytes[CHECKED_FROM..]);
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
            let checksum = checksum(&bytes[CHECKED_FROM..]);
            FieldWriter::new(&mut bytes[4..]).u32(checksum);
            if let Ok(frame) = Frame::decode(&bytes) {
                prop_assert_eq!(records_of(&frame).len(), count as usize);
                prop_assert!(count > 0);
            }
            prop_assert_eq!(FrameHeader::peek(&bytes).is_ok(), count > 0);
        }
    }
}
