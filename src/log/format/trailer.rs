//! The trailer: the last bytes of a segment file, which make it sealed.

use super::bytes::{FieldWriter, u32_at, u64_at};
use super::checksum::checksum;
use super::header::{HEADER_PAGE_BYTES, SegmentHeader};
use super::index::{ENTRY_BYTES, Index};
use super::summary::Summary;
use crate::log::types::limits::{FRAME_BYTES_MAX, INDEX_STRIDE_BYTES};

/// The size of a trailer. Frames never reach into these last bytes of a file, so that no record can pass for a trailer.
pub(crate) const TRAILER_BYTES: usize = 88;

/// The upper limit for the end of a segment's frames, so that no trailer makes a reader expect an impossibly large index.
const FRAMES_END_MAX: u64 = HEADER_PAGE_BYTES as u64 + FRAME_BYTES_MAX;

/// The lower limit: a sealed segment holds a frame.
const FRAMES_END_MIN: u64 = HEADER_PAGE_BYTES as u64 + 1;

const MAGIC: [u8; 8] = *b"slogend\0";
const SALT_OFFSET: usize = 56;
const SHARD_OFFSET: usize = 72;
const CHECKSUM_OFFSET: usize = TRAILER_BYTES - 4;

/// The fields of the trailer of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// The summary of the frames. The index begins where they end.
    pub(crate) frames: Summary,
    pub(crate) index_count: u32,
    pub(crate) index_checksum: u32,
}

/// Encodes what follows the frames of a sealed segment: the index and the trailer.
pub(crate) fn encode_end(header: &SegmentHeader, frames: Summary, index: &Index) -> Vec<u8> {
    let mut bytes = index.encode();
    let (index_count, index_checksum) = (index.len() as u32, checksum(&bytes));
    bytes.extend_from_slice(&Trailer { frames, index_count, index_checksum }.encode(header));
    bytes
}

impl Trailer {
    /// Encodes the trailer of the segment that begins with `header`.
    pub(crate) fn encode(&self, header: &SegmentHeader) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        FieldWriter::new(&mut bytes)
            .bytes(&MAGIC)
            .u64(self.frames.end)
            .u32(self.index_count)
            .u32(self.index_checksum)
            .u64(header.base_sequence)
            .u64(self.frames.end_sequence)
            .u64(self.frames.first_timestamp_micros)
            .u64(self.frames.last_timestamp_micros)
            .bytes(&header.salt)
            .u32(header.shard);
        let checksum = checksum(&bytes[..CHECKSUM_OFFSET]);
        FieldWriter::new(&mut bytes[CHECKSUM_OFFSET..]).u32(checksum);
        bytes
    }

    /// Reads the trailer from the last bytes of a file. Returns `None` if they hold none, or one that belongs to another segment or to a
    /// file of another length.
    pub(crate) fn decode(bytes: &[u8], header: &SegmentHeader, file_bytes: u64) -> Option<Self> {
        let (trailer, of) = Self::decode_any(bytes, file_bytes)?;
        let belongs =
            of.base_sequence == header.base_sequence && of.shard == header.shard && of.salt == header.salt;
        belongs.then_some(trailer)
    }

    /// Reads the trailer of any segment, and the header that it implies, for a file whose header page is damaged.
    pub(crate) fn decode_any(bytes: &[u8], file_bytes: u64) -> Option<(Self, SegmentHeader)> {
        let bytes = bytes.last_chunk::<TRAILER_BYTES>()?;
        let is_whole =
            bytes[..8] == MAGIC && u32_at(bytes, CHECKSUM_OFFSET)? == checksum(&bytes[..CHECKSUM_OFFSET]);
        let frames = Summary {
            end: u64_at(bytes, 8)?,
            end_sequence: u64_at(bytes, 32)?,
            first_timestamp_micros: u64_at(bytes, 40)?,
            last_timestamp_micros: u64_at(bytes, 48)?,
        };
        let trailer = Self { frames, index_count: u32_at(bytes, 16)?, index_checksum: u32_at(bytes, 20)? };
        let header = SegmentHeader {
            shard: u32_at(bytes, SHARD_OFFSET)?,
            base_sequence: u64_at(bytes, 24)?,
            created_at_micros: frames.first_timestamp_micros,
            salt: *bytes[SALT_OFFSET..].first_chunk()?,
        };
        let expected_bytes =
            frames.end.checked_add(trailer.index_bytes())?.checked_add(TRAILER_BYTES as u64)?;
        let adds_up = expected_bytes == file_bytes
            && frames.end_sequence > header.base_sequence
            && (FRAMES_END_MIN..=FRAMES_END_MAX).contains(&frames.end)
            && u64::from(trailer.index_count) <= frames.end / INDEX_STRIDE_BYTES + 1
            && u64_at(bytes, SHARD_OFFSET + 4)? == 0;
        (is_whole && adds_up).then_some((trailer, header))
    }

    /// Returns the size of the index between the frames and the trailer.
    pub(crate) fn index_bytes(&self) -> u64 {
        u64::from(self.index_count) * ENTRY_BYTES as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: SegmentHeader =
        SegmentHeader { shard: 1, base_sequence: 100, created_at_micros: 7, salt: [3; 16] };
    const TRAILER: Trailer = Trailer {
        frames: Summary { end: 8192, end_sequence: 150, first_timestamp_micros: 7, last_timestamp_micros: 9 },
        index_count: 2,
        index_checksum: 0xabcd,
    };
    const FILE_BYTES: u64 = 8192 + 2 * ENTRY_BYTES as u64 + TRAILER_BYTES as u64;

    #[test]
    fn every_flipped_bit_of_a_trailer_is_noticed() {
        let bytes = TRAILER.encode(&HEADER);
        assert_eq!(Trailer::decode(&bytes, &HEADER, FILE_BYTES), Some(TRAILER));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Trailer::decode(&flipped, &HEADER, FILE_BYTES), None, "bit {bit}");
        }
    }

    #[test]
    fn a_trailer_counts_only_in_its_own_segment_and_at_its_own_place() {
        let bytes = TRAILER.encode(&HEADER);
        assert_eq!(Trailer::decode(&bytes, &HEADER, FILE_BYTES + 4096), None);
        assert_eq!(Trailer::decode(&bytes, &SegmentHeader { shard: 2, ..HEADER }, FILE_BYTES), None);
        assert_eq!(Trailer::decode(&bytes, &SegmentHeader { base_sequence: 99, ..HEADER }, FILE_BYTES), None);
        assert_eq!(Trailer::decode(&bytes, &SegmentHeader { salt: [4; 16], ..HEADER }, FILE_BYTES), None);
        assert_eq!(Trailer::decode_any(&bytes, FILE_BYTES), Some((TRAILER, HEADER)));
    }

    #[test]
    fn p11_a_trailer_whose_frames_end_in_the_header_page_does_not_count() {
        for end in [0, HEADER_PAGE_BYTES as u64 - 16, HEADER_PAGE_BYTES as u64] {
            let trailer = Trailer { frames: Summary { end, ..TRAILER.frames }, index_count: 1, ..TRAILER };
            let file_bytes = end + (ENTRY_BYTES + TRAILER_BYTES) as u64;
            assert_eq!(Trailer::decode(&trailer.encode(&HEADER), &HEADER, file_bytes), None, "{end}");
        }
    }

    proptest! {
        #[test]
        fn p11_any_bytes_decode_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), len in any::<u64>()) {
            let _ = Trailer::decode(&bytes, &HEADER, len);
        }
    }
}
