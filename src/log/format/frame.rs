//! Frames: what one append wrote.

use super::FRAME_ALIGN;
use super::bytes::{FieldWriter, is_zero, u64_at};
use super::encrypted::{self, Encrypted};
use super::fault::FrameFault;
use super::pack;
use super::record::{RECORD_HEAD_BYTES, check_shape};
use super::salt::Salt;

/// The size of a frame header.
pub(crate) const FRAME_HEADER_BYTES: usize = 32;

/// Written behind the last frame: a length that no frame has. A refilled file may hold frames of an earlier segment there.
pub(crate) const END_MARK: [u8; FRAME_ALIGN] = [0; FRAME_ALIGN];

/// The checksum covers the salt of the file and all bytes of a frame from here on.
pub(super) const CHECKED_FROM: usize = 8;
/// The flag of a frame that replaces lost records.
const FLAG_LOST: u16 = 1;
/// The size of a frame of lost records, the smallest that a frame can have.
pub(crate) const LOST_FRAME_BYTES: usize = FRAME_HEADER_BYTES + RECORD_HEAD_BYTES;

/// Encodes the frame that replaces `count` lost records.
pub(crate) fn encode_lost(
    base_sequence: u64,
    timestamp_micros: u64,
    count: u32,
    salt: &Salt,
) -> [u8; LOST_FRAME_BYTES] {
    let mut bytes = [0; LOST_FRAME_BYTES];
    FieldWriter::new(&mut bytes)
        .u32(LOST_FRAME_BYTES as u32)
        .u32(0)
        .u64(base_sequence)
        .u64(timestamp_micros)
        .u32(count)
        .u16(0)
        .u16(FLAG_LOST);
    let checksum = salt.checksum(&bytes[CHECKED_FROM..]);
    FieldWriter::new(&mut bytes[4..]).u32(checksum);
    bytes
}

/// A frame header as it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) len: usize,
    pub(crate) base_sequence: u64,
    pub(crate) timestamp_micros: u64,
    pub(crate) count: u32,
    /// Whether the frame holds no records but replaces `count` lost ones.
    pub(crate) is_lost: bool,
    /// How its records are compressed, or 0.
    pub(crate) compression: u8,
    /// How its records are encrypted, or 0.
    pub(crate) encryption: u8,
}

/// A whole frame, with its checksum and the shape of its records checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) header: FrameHeader,
    records: &'a [u8],
}

/// The fields of a frame header.
#[derive(Debug, Clone, Copy)]
struct Head {
    checksum: u32,
    /// Compression, encryption and flags: 0 for nearly all frames.
    kind: u32,
    header: FrameHeader,
}

impl Head {
    /// Reads the head of a frame, if `bytes` are long enough for that frame and its fields are plausible.
    #[inline]
    fn read(bytes: &[u8]) -> Option<Self> {
        let fields = bytes.first_chunk::<FRAME_HEADER_BYTES>()?;
        let (lens, counts) = (u64_at(fields, 0)?, u64_at(fields, 24)?);
        let (len, count, kind) = (lens as u32 as usize, counts as u32, (counts >> 32) as u32);
        let is_sound = len >= FRAME_HEADER_BYTES + RECORD_HEAD_BYTES
            && len.is_multiple_of(FRAME_ALIGN)
            && len <= bytes.len()
            && count > 0;
        let header = FrameHeader {
            len,
            base_sequence: u64_at(fields, 8)?,
            timestamp_micros: u64_at(fields, 16)?,
            count,
            is_lost: kind >> 16 & u32::from(FLAG_LOST) != 0,
            compression: kind as u8,
            encryption: (kind >> 8) as u8,
        };
        let head = Self { checksum: (lens >> 32) as u32, kind, header };
        is_sound.then_some(head)
    }

    /// Returns what is wrong with bytes that do not begin with a frame.
    #[cold]
    fn fault(bytes: &[u8]) -> FrameFault {
        let short = FrameFault::Short { len: FRAME_HEADER_BYTES, available: bytes.len() };
        let Some(fields) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
            return if is_zero(bytes) { FrameFault::Blank } else { short };
        };
        let found = u64_at(fields, 0).map_or(0, |lens| lens as u32);
        let len = found as usize;
        if len == 0 {
            FrameFault::Blank
        } else if len < FRAME_HEADER_BYTES + RECORD_HEAD_BYTES || !len.is_multiple_of(FRAME_ALIGN) {
            FrameFault::Length { found }
        } else if len > bytes.len() {
            FrameFault::Short { len, available: bytes.len() }
        } else {
            FrameFault::Shape
        }
    }
}

impl FrameHeader {
    /// Reads the header of the frame that begins with `bytes`, without checking its checksum.
    #[inline]
    pub(crate) fn peek(bytes: &[u8]) -> Result<Self, FrameFault> {
        Head::read(bytes).map(|head| head.header).ok_or_else(|| Head::fault(bytes))
    }

    /// Returns the sequence number after the frame's last record.
    #[inline]
    pub(crate) fn end_sequence(&self) -> u64 {
        self.base_sequence.saturating_add(self.count.into())
    }
}

impl<'a> Frame<'a> {
    /// Reads and checks the frame that begins with `bytes`, in a file with this salt.
    #[inline]
    pub(crate) fn decode(bytes: &'a [u8], salt: &Salt) -> Result<Self, FrameFault> {
        Self::decode_records(bytes, salt).map_or_else(|| Self::decode_other(bytes, salt), Ok)
    }

    /// Reads and checks the frame that begins with `bytes`. Returns `None` unless it is whole and holds records, as nearly all frames do.
    // As a call, it would take a tenth of reading a small frame.
    #[inline(always)]
    pub(crate) fn decode_records(bytes: &'a [u8], salt: &Salt) -> Option<Self> {
        let Head { checksum, kind, header } = Head::read(bytes)?;
        let frame = &bytes[..header.len];
        if kind != 0 || checksum != salt.checksum(&frame[CHECKED_FROM..]) {
            return None;
        }
        let records = &frame[FRAME_HEADER_BYTES..];
        check_shape(records, header.count).ok()?;
        Some(Self { header, records })
    }

    /// Returns what is wrong with a frame, or reads one that holds no records.
    #[cold]
    fn decode_other(bytes: &'a [u8], salt: &Salt) -> Result<Self, FrameFault> {
        let Head { checksum: stored, kind, header } = Head::read(bytes).ok_or_else(|| Head::fault(bytes))?;
        let (compression, encryption, flags) = (header.compression, header.encryption, (kind >> 16) as u16);
        let frame = &bytes[..header.len];
        let computed = salt.checksum(&frame[CHECKED_FROM..]);
        match (compression, encryption, flags) {
            _ if stored != computed => Err(FrameFault::Checksum { stored, computed }),
            (0, 0, 0) => check_shape(&frame[FRAME_HEADER_BYTES..], header.count).and(Err(FrameFault::Shape)),
            (0, 0, FLAG_LOST) => {
                let is_blank = frame.len() == LOST_FRAME_BYTES && is_zero(&frame[FRAME_HEADER_BYTES..]);
                if is_blank { Ok(Self { header, records: &[] }) } else { Err(FrameFault::Shape) }
            }
            (compression, 0, 0) if pack::is_known(compression) => {
                let records = &frame[FRAME_HEADER_BYTES..];
                pack::check_packed(records, compression).map(|()| Self { header, records })
            }
            // Only holders of the key know what is inside.
            (compression, encrypted::AES_256_GCM, 0) if compression == 0 || pack::is_known(compression) => {
                let records = &frame[FRAME_HEADER_BYTES..];
                encrypted::split(records).map(|_| Self { header, records }).ok_or(FrameFault::Shape)
            }
            (_, encryption, _) if encryption > encrypted::AES_256_GCM => {
                Err(FrameFault::Unsupported { what: "encryption", found: encryption.into() })
            }
            (compression, ..) if compression != 0 && !pack::is_known(compression) => {
                Err(FrameFault::Unsupported { what: "compression", found: compression.into() })
            }
            (_, _, flags) => Err(FrameFault::Unsupported { what: "flags", found: flags }),
        }
    }

    /// Reads a frame that was decoded before.
    #[inline]
    pub(crate) fn decode_checked(bytes: &'a [u8]) -> Result<Self, FrameFault> {
        let header = FrameHeader::peek(bytes)?;
        let records = if header.is_lost { &[] } else { &bytes[FRAME_HEADER_BYTES..header.len] };
        Ok(Self { header, records })
    }

    /// Returns whether the records are plain, as opposed to compressed or encrypted.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.header.compression == 0 && self.header.encryption == 0
    }

    /// Returns the number of the key that the records are encrypted with, or `None` if they are not.
    #[inline]
    pub(crate) fn data_key(&self) -> Option<u32> {
        self.encrypted().map(|encrypted| encrypted.data_key)
    }

    /// Returns what is encrypted, or `None` if nothing is.
    pub(crate) fn encrypted(&self) -> Option<Encrypted<'a>> {
        if self.header.encryption == 0 {
            return None;
        }
        let FrameHeader { base_sequence, timestamp_micros, count, compression, encryption, .. } = self.header;
        let (data_key, nonce, body) = encrypted::split(self.records)?;
        let mut encrypted = Encrypted { data_key, nonce, body, associated: [0; _] };
        FieldWriter::new(&mut encrypted.associated)
            .u64(base_sequence)
            .u64(timestamp_micros)
            .u32(count)
            .u32(u32::from(compression) | u32::from(encryption) << 8)
            .u32(data_key)
            .bytes(&nonce);
        Some(encrypted)
    }

    /// Appends the frame as it would be if its records were plain, except for the checksum, which is 0. If they are encrypted, `open` must append
    /// the plaintext.
    pub(crate) fn unpack(
        &self,
        to: &mut Vec<u8>,
        open: impl FnOnce(&Encrypted<'_>, &mut Vec<u8>) -> Result<(), FrameFault>,
    ) -> Result<(), FrameFault> {
        let from = to.len();
        to.resize(from + FRAME_HEADER_BYTES, 0);
        match (self.encrypted(), self.header.compression) {
            (None, compression) => pack::unpack(self.records, compression, to)?,
            (Some(encrypted), 0) => open(&encrypted, to)?,
            (Some(encrypted), compression) => {
                let mut packed = vec![];
                open(&encrypted, &mut packed)?;
                pack::unpack(&packed, compression, to)?;
            }
        }
        let frame = &mut to[from..];
        let (len, header) = (frame.len(), &self.header);
        FieldWriter::new(frame)
            .u64(len as u64)
            .u64(header.base_sequence)
            .u64(header.timestamp_micros)
            .u64(header.count.into());
        check_shape(&frame[FRAME_HEADER_BYTES..], header.count)
    }

    /// Returns the frame's records, one after the other. They must be plain.
    #[inline]
    pub(crate) fn records(&self) -> &'a [u8] {
        self.records
    }
}

#[cfg(test)]
mod tests {
    use super::super::draft::DraftBuffer;
    use super::super::record::RecordParts;
    use super::*;
    use crate::PutRecord;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const SALT: [u8; 16] = [7; 16];

    fn salt() -> Salt {
        Salt::new(SALT)
    }

    fn encode(records: &[PutRecord<'_>], base_sequence: u64, timestamp_micros: u64) -> Vec<u8> {
        let mut buffer = DraftBuffer::default();
        let mut draft = buffer.draft(records.iter(), 0);
        draft.seal(base_sequence, timestamp_micros, &salt());
        assert_eq!(draft.len() % FRAME_ALIGN, 0);
        draft.parts().concat()
    }

    fn example() -> Vec<u8> {
        let headed = PutRecord::new("key", "some data").header("a", "1").header("bc", "");
        encode(&[headed, PutRecord::new("k", "")], 41, 7)
    }

    /// Gives a changed frame a valid checksum.
    fn sign(bytes: &mut [u8]) {
        let checksum = salt().checksum(&bytes[CHECKED_FROM..]);
        FieldWriter::new(&mut bytes[4..]).u32(checksum);
    }

    fn records_of<'a>(frame: &Frame<'a>) -> Vec<RecordParts<'a>> {
        let mut at = 0;
        (0..frame.header.count)
            .map(|_| {
                let (parts, next) = RecordParts::at(frame.records(), at).unwrap();
                at = next;
                parts
            })
            .collect()
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_noticed() {
        let bytes = example();
        assert!(Frame::decode(&bytes, &salt()).is_ok());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::decode(&flipped, &salt()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn p9_a_frame_counts_in_the_file_of_its_salt_only() {
        let bytes = example();
        for bit in 0..16 * 8 {
            let mut other = SALT;
            other[bit / 8] ^= 1 << (bit % 8);
            let found = Frame::decode(&bytes, &Salt::new(other));
            assert!(matches!(found, Err(FrameFault::Checksum { .. })), "bit {bit}: {found:?}");
        }
    }

    #[test]
    fn p14_a_whole_frame_of_a_newer_version_is_told_from_damage() {
        for (at, what) in [(28, "compression"), (29, "encryption"), (30, "flags"), (34, "record flags")] {
            let mut bytes = encode(&[PutRecord::new("key", "data")], 0, 0);
            bytes[at] = 6;
            sign(&mut bytes);
            assert_eq!(Frame::decode(&bytes, &salt()), Err(FrameFault::Unsupported { what, found: 6 }));
        }
    }

    #[test]
    fn a_frame_of_lost_records_says_which_and_holds_none() {
        let mut bytes = encode_lost(41, 7, 3, &salt());
        let frame = Frame::decode(&bytes, &salt()).unwrap();
        let FrameHeader { base_sequence, timestamp_micros, count, is_lost, .. } = frame.header;
        assert_eq!((base_sequence, timestamp_micros, count, is_lost), (41, 7, 3, true));
        assert_eq!(frame.records(), b"");
        bytes[36] = 1;
        sign(&mut bytes);
        assert_eq!(Frame::decode(&bytes, &salt()), Err(FrameFault::Shape), "one that holds something");
    }

    #[test]
    fn a_record_without_headers_takes_no_byte_for_them() {
        let plain = encode(&[PutRecord::new("key", "data!")], 0, 0);
        assert_eq!(plain.len(), FRAME_HEADER_BYTES + RECORD_HEAD_BYTES + 8);
        let headed = encode(&[PutRecord::new("key", "data!").header("n", "v")], 0, 0);
        assert_eq!(headed.len(), plain.len() + (4 + 6 + 2usize).next_multiple_of(8));
    }

    #[test]
    fn p11_a_block_of_headers_that_does_not_add_up_is_refused_whatever_the_checksum_says() {
        let bytes = encode(&[PutRecord::new("key", "data").header("name", "value")], 0, 0);
        let block_at = FRAME_HEADER_BYTES + RECORD_HEAD_BYTES + 3;
        for (at, byte) in
            [(block_at, 200), (block_at, 3), (block_at + 4, 0), (block_at + 6, 9), (block_at + 10, 0xff)]
        {
            let mut changed = bytes.clone();
            changed[at] = byte;
            sign(&mut changed);
            assert_eq!(Frame::decode(&changed, &salt()), Err(FrameFault::Shape), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn frames_read_back_as_they_were_written(
            records in vec((vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..400), vec("\\PC{1,9}", 0..3)), 1..60),
            base in any::<u64>(), timestamp in any::<u64>(),
        ) {
            let puts: Vec<_> = records.iter().map(|(key, data, names)| {
                names.iter().fold(PutRecord::new(key, data), |record, name| record.header(name, key))
            }).collect();
            let bytes = encode(&puts, base, timestamp);
            let frame = Frame::decode(&bytes, &salt()).unwrap();
            prop_assert_eq!(frame.header.len, bytes.len());
            prop_assert_eq!((frame.header.base_sequence, frame.header.timestamp_micros), (base, timestamp));
            for (found, (key, data, names)) in records_of(&frame).iter().zip(&records) {
                prop_assert_eq!((found.partition_key(), found.data()), (&key[..], &data[..]));
                let headers = super::super::headers::Headers::new(found.headers());
                prop_assert!(headers.eq(names.iter().map(|name| (&**name, &key[..]))));
            }
        }

        #[test]
        fn a_borrowed_record_makes_the_same_frame_as_a_copied_one(
            key in vec(any::<u8>(), 1..40), data in vec(any::<u8>(), 1..20_000), base in any::<u64>(),
        ) {
            let record = PutRecord::new(&key, &data).header("name", &key);
            let mut buffer = DraftBuffer::default();
            let mut draft = buffer.draft_one(&record);
            // Sealed twice, as happens when a shard closes in between and the draft goes to the next shard.
            draft.seal(1, 1, &Salt::new([1; 16]));
            draft.seal(base, 9, &salt());
            prop_assert_eq!(draft.parts().concat(), encode(std::slice::from_ref(&record), base, 9));
        }

        #[test]
        fn p11_any_bytes_decode_without_a_panic(bytes in vec(any::<u8>(), 0..300)) {
            let _ = Frame::decode(&bytes, &salt());
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
            sign(&mut bytes);
            if let Ok(frame) = Frame::decode(&bytes, &salt()) {
                prop_assert_eq!(records_of(&frame).len(), count as usize);
                prop_assert!(count > 0);
            }
            prop_assert_eq!(FrameHeader::peek(&bytes).is_ok(), count > 0);
        }
    }
}
