//! The header page of a segment: what the file is, and its live words.

use super::SEGMENT_VERSION;
use super::bytes::{FieldWriter, u32_at, u64_at};
use super::checksum::checksum;

/// The bytes before the first frame.
pub(crate) const HEADER_PAGE_BYTES: usize = 4096;
/// The bytes of the page that the header checksum speaks for, the checksum included.
pub(crate) const HEADER_BYTES: usize = 64;
/// Where the committed word stands.
pub(crate) const COMMITTED_OFFSET: usize = 1024;
/// Where the word stands that says that no segment before this one is to be expected.
pub(crate) const FIRST_OFFSET: usize = 1536;
/// Where the two slots of the synced watermark stand.
pub(crate) const SYNCED_OFFSETS: [usize; 2] = [2048, 3072];
/// The size of one slot of the synced watermark.
pub(crate) const SYNCED_SLOT_BYTES: usize = 16;

const MAGIC: [u8; 8] = *b"slogseg\0";
const CHECKSUM_OFFSET: usize = HEADER_BYTES - 4;

const _: () = assert!(COMMITTED_OFFSET.is_multiple_of(64) && COMMITTED_OFFSET >= HEADER_BYTES);
const _: () = assert!(SYNCED_OFFSETS[0].is_multiple_of(512) && SYNCED_OFFSETS[1].is_multiple_of(512));
const _: () = assert!(SYNCED_OFFSETS[1] + SYNCED_SLOT_BYTES <= HEADER_PAGE_BYTES);

/// What a segment file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) shard: u32,
    pub(crate) base_sequence: u64,
    pub(crate) created_at_micros: u64,
}

/// Why a header page is not one that this version can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// All zero: the page was never written.
    Blank,
    /// The file ends before the header page does.
    Short {
        len: usize,
    },
    Magic,
    Version {
        found: u32,
    },
    Checksum {
        expected: u32,
        found: u32,
    },
    Reserved,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut page = [0; HEADER_BYTES];
        FieldWriter::new(&mut page)
            .bytes(&MAGIC)
            .u32(SEGMENT_VERSION)
            .u32(self.shard)
            .u64(self.base_sequence)
            .u64(self.created_at_micros);
        let checksum = checksum(&page[..CHECKSUM_OFFSET]);
        FieldWriter::new(&mut page[CHECKSUM_OFFSET..]).u32(checksum);
        page
    }

    /// Reads the header out of a whole header page.
    pub(crate) fn decode(page: &[u8]) -> Result<Self, HeaderFault> {
        let short = HeaderFault::Short { len: page.len() };
        let page = page.get(..HEADER_PAGE_BYTES).ok_or(short.clone())?;
        if page[..HEADER_BYTES].iter().all(|&byte| byte == 0) {
            return Err(HeaderFault::Blank);
        }
        if page[..8] != MAGIC {
            return Err(HeaderFault::Magic);
        }
        let version = u32_at(page, 8).ok_or(short.clone())?;
        let expected = checksum(&page[..CHECKSUM_OFFSET]);
        let found = u32_at(page, CHECKSUM_OFFSET).ok_or(short.clone())?;
        if version != SEGMENT_VERSION {
            let mut of_ours = [0; CHECKSUM_OFFSET];
            of_ours.copy_from_slice(&page[..CHECKSUM_OFFSET]);
            FieldWriter::new(&mut of_ours[8..]).u32(SEGMENT_VERSION);
            // With our version in its place all would be well, or it is none at all: the field is damaged, and no newer version
            // wrote it.
            let is_ours = version == 0 || checksum(&of_ours) == found;
            let damaged = HeaderFault::Checksum { expected, found };
            return Err(if is_ours { damaged } else { HeaderFault::Version { found: version } });
        }
        if expected != found {
            return Err(HeaderFault::Checksum { expected, found });
        }
        let is_live = |at: usize| {
            [COMMITTED_OFFSET, FIRST_OFFSET].iter().any(|&word| (word..word + 8).contains(&at))
                || SYNCED_OFFSETS.iter().any(|&slot| (slot..slot + SYNCED_SLOT_BYTES).contains(&at))
        };
        let is_reserved =
            |at: usize| (32..CHECKSUM_OFFSET).contains(&at) || (at >= HEADER_BYTES && !is_live(at));
        if page.iter().enumerate().any(|(at, &byte)| byte != 0 && is_reserved(at)) {
            return Err(HeaderFault::Reserved);
        }
        Ok(Self {
            shard: u32_at(page, 12).ok_or(short.clone())?,
            base_sequence: u64_at(page, 16).ok_or(short.clone())?,
            created_at_micros: u64_at(page, 24).ok_or(short)?,
        })
    }
}

/// Encodes the committed word.
#[inline]
pub(crate) fn encode_committed(committed: u64) -> [u8; 8] {
    committed.to_le_bytes()
}

/// Encodes the word which says that the segments before the one that begins with `base_sequence` were trimmed.
pub(crate) fn encode_first(base_sequence: u64) -> [u8; 8] {
    base_sequence.to_le_bytes()
}

/// Whether the header page of the segment that begins with `base_sequence` says that those before it were trimmed.
pub(crate) fn decode_first(page: &[u8], base_sequence: u64) -> bool {
    u64_at(page, FIRST_OFFSET) == Some(base_sequence)
}

/// Encodes the synced watermark for one of its slots.
pub(crate) fn encode_synced_slot(synced_bytes: u64) -> [u8; SYNCED_SLOT_BYTES] {
    let mut slot = [0; SYNCED_SLOT_BYTES];
    FieldWriter::new(&mut slot).u64(synced_bytes);
    let checksum = checksum(&slot[..12]);
    FieldWriter::new(&mut slot[12..]).u32(checksum);
    slot
}

/// The synced watermark of a header page: the higher of the slots that are whole; 0 where nothing was synced yet.
pub(crate) fn decode_synced(page: &[u8]) -> u64 {
    let slot_value = |offset: usize| {
        let slot = page.get(offset..offset + SYNCED_SLOT_BYTES)?;
        let is_whole = u32_at(slot, 12)? == checksum(&slot[..12]) && u32_at(slot, 8)? == 0;
        u64_at(slot, 0).filter(|_| is_whole)
    };
    SYNCED_OFFSETS.into_iter().filter_map(slot_value).max().unwrap_or(0)
}

/// The committed word of a header page.
pub(crate) fn decode_committed(page: &[u8]) -> u64 {
    u64_at(page, COMMITTED_OFFSET).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page_of(header: SegmentHeader) -> Vec<u8> {
        let mut page = vec![0; HEADER_PAGE_BYTES];
        page[..HEADER_BYTES].copy_from_slice(&header.encode());
        page
    }

    const HEADER: SegmentHeader =
        SegmentHeader { shard: 3, base_sequence: 77, created_at_micros: 1_700_000_000_000_000 };

    #[test]
    fn every_flipped_bit_outside_the_live_words_is_noticed() {
        let page = page_of(HEADER);
        assert_eq!(SegmentHeader::decode(&page), Ok(HEADER));
        for bit in 0..page.len() * 8 {
            let mut flipped = page.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let at = bit / 8;
            let live = (COMMITTED_OFFSET..COMMITTED_OFFSET + 8).contains(&at)
                || (FIRST_OFFSET..FIRST_OFFSET + 8).contains(&at)
                || SYNCED_OFFSETS.iter().any(|&slot| (slot..slot + SYNCED_SLOT_BYTES).contains(&at));
            assert_eq!(SegmentHeader::decode(&flipped).is_ok(), live, "bit {bit}");
        }
    }

    #[test]
    fn p14_an_unknown_version_is_told_from_damage() {
        let mut page = page_of(HEADER);
        page[8] = 9;
        assert!(matches!(SegmentHeader::decode(&page), Err(HeaderFault::Checksum { .. })), "a flipped bit");
        // Whatever that version keeps where we keep a checksum, it is not the checksum of a page of ours.
        page[CHECKSUM_OFFSET] ^= 1;
        assert_eq!(SegmentHeader::decode(&page), Err(HeaderFault::Version { found: 9 }));
    }

    #[test]
    fn a_torn_synced_slot_leaves_the_other_one() {
        let mut page = page_of(HEADER);
        let [a, b] = SYNCED_OFFSETS;
        page[a..a + SYNCED_SLOT_BYTES].copy_from_slice(&encode_synced_slot(5_000));
        page[b..b + SYNCED_SLOT_BYTES].copy_from_slice(&encode_synced_slot(9_000));
        assert_eq!(decode_synced(&page), 9_000);
        page[b + 1] ^= 0x40;
        assert_eq!(decode_synced(&page), 5_000);
        page[a] ^= 1;
        assert_eq!(decode_synced(&page), 0);
    }

    proptest! {
        #[test]
        fn p11_any_bytes_decode_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..5_000)) {
            let _ = SegmentHeader::decode(&bytes);
            let _ = (decode_synced(&bytes), decode_committed(&bytes));
        }
    }
}
