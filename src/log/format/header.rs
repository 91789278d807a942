//! The header page of a segment: what the file is, and its live words.

use super::SEGMENT_VERSION;
use super::bytes::{FieldWriter, is_zero, u32_at, u64_at};
use super::checksum::checksum;
use super::salt::SALT_BYTES;

/// The bytes before the first frame.
pub(crate) const HEADER_PAGE_BYTES: usize = 4096;
/// The offset of the first frame of a segment.
pub(crate) const FRAMES_FROM: u64 = HEADER_PAGE_BYTES as u64;
/// The size of the header, including its checksum.
pub(crate) const HEADER_BYTES: usize = 64;
/// The offset of the second copy of the header, in a sector of its own. Without the salt in the header, a frame cannot be distinguished from other
/// bytes.
pub(crate) const COPY_OFFSET: usize = 3584;
/// The offset of the committed word.
pub(crate) const COMMITTED_OFFSET: usize = 1024;
/// The bytes between the committed word and here are reserved for further words that a writer changes. A reader ignores the ones it does
/// not know.
const LIVE_WORDS_END: usize = 1536;
/// The offset of the word which says that the segments before this one were trimmed.
pub(crate) const FIRST_OFFSET: usize = 1536;
/// The offsets of the two slots of the synced watermark.
pub(crate) const SYNCED_OFFSETS: [usize; 2] = [2048, 3072];
/// The size of one slot of the synced watermark.
pub(crate) const SYNCED_SLOT_BYTES: usize = 16;
/// The places that change while a segment is in use, with their lengths.
const LIVE: [(usize, usize); 4] = [
    (COMMITTED_OFFSET, LIVE_WORDS_END - COMMITTED_OFFSET),
    (FIRST_OFFSET, 8),
    (SYNCED_OFFSETS[0], SYNCED_SLOT_BYTES),
    (SYNCED_OFFSETS[1], SYNCED_SLOT_BYTES),
];

const MAGIC: [u8; 8] = *b"slogseg\0";
const SALT_OFFSET: usize = 32;
const CHECKSUM_OFFSET: usize = HEADER_BYTES - 4;

const _: () = assert!(COMMITTED_OFFSET.is_multiple_of(64) && COMMITTED_OFFSET >= HEADER_BYTES);
const _: () = assert!(SYNCED_OFFSETS[0].is_multiple_of(512) && SYNCED_OFFSETS[1].is_multiple_of(512));
const _: () = assert!(SYNCED_OFFSETS[1] + SYNCED_SLOT_BYTES <= COPY_OFFSET);
const _: () = assert!(COPY_OFFSET.is_multiple_of(512) && COPY_OFFSET + HEADER_BYTES <= HEADER_PAGE_BYTES);

/// The header of a segment file: which segment it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) shard: u32,
    pub(crate) base_sequence: u64,
    pub(crate) created_at_micros: u64,
    /// The salt that goes into the checksum of each frame.
    pub(crate) salt: [u8; SALT_BYTES],
}

/// The reason why this version cannot use a header page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// All zeros: the page was never written.
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
        stored: u32,
        computed: u32,
    },
    /// The second copy of the header is neither whole nor blank.
    Copy,
    Reserved,
}

impl SegmentHeader {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        FieldWriter::new(&mut bytes)
            .bytes(&MAGIC)
            .u32(SEGMENT_VERSION)
            .u32(self.shard)
            .u64(self.base_sequence)
            .u64(self.created_at_micros)
            .bytes(&self.salt);
        let checksum = checksum(&bytes[..CHECKSUM_OFFSET]);
        FieldWriter::new(&mut bytes[CHECKSUM_OFFSET..]).u32(checksum);
        bytes
    }

    /// Returns the header for both of its places, each with its offset in the page.
    pub(crate) fn encode_twice(&self) -> [(u64, [u8; HEADER_BYTES]); 2] {
        [0, COPY_OFFSET as u64].map(|offset| (offset, self.encode()))
    }

    /// Returns the header page of a segment that holds no frame yet.
    pub(crate) fn encode_page(&self) -> [u8; HEADER_PAGE_BYTES] {
        let mut page = [0; HEADER_PAGE_BYTES];
        for (offset, header) in self.encode_twice() {
            page[offset as usize..][..HEADER_BYTES].copy_from_slice(&header);
        }
        page
    }

    /// Reads the header from a whole header page.
    pub(crate) fn decode(page: &[u8]) -> Result<Self, HeaderFault> {
        let page = page.get(..HEADER_PAGE_BYTES).ok_or(HeaderFault::Short { len: page.len() })?;
        let header = Self::decode_at(page, 0)?;
        // A crash may leave one copy written and the other still blank or with its previous content.
        let has_copy = matches!(Self::decode_at(page, COPY_OFFSET), Ok(_) | Err(HeaderFault::Blank));
        if !has_copy {
            return Err(HeaderFault::Copy);
        }
        let mut reserved = [0; HEADER_PAGE_BYTES];
        reserved.copy_from_slice(page);
        for (at, len) in [(0, HEADER_BYTES), (COPY_OFFSET, HEADER_BYTES)].into_iter().chain(LIVE) {
            reserved[at..at + len].fill(0);
        }
        if is_zero(&reserved) { Ok(header) } else { Err(HeaderFault::Reserved) }
    }

    /// Reads the second copy of the header, for a page that is damaged elsewhere.
    pub(crate) fn decode_copy(page: &[u8]) -> Option<Self> {
        let page = page.get(..HEADER_PAGE_BYTES)?;
        Self::decode_at(page, COPY_OFFSET).or_else(|_| Self::decode_at(page, 0)).ok()
    }

    fn decode_at(page: &[u8], offset: usize) -> Result<Self, HeaderFault> {
        let short = HeaderFault::Short { len: page.len() };
        let bytes = page.get(offset..offset + HEADER_BYTES).ok_or(short.clone())?;
        if is_zero(bytes) {
            return Err(HeaderFault::Blank);
        }
        if bytes[..8] != MAGIC {
            return Err(HeaderFault::Magic);
        }
        let version = u32_at(bytes, 8).ok_or(short.clone())?;
        let computed = checksum(&bytes[..CHECKSUM_OFFSET]);
        let stored = u32_at(bytes, CHECKSUM_OFFSET).ok_or(short.clone())?;
        if version != SEGMENT_VERSION {
            let mut of_ours = [0; CHECKSUM_OFFSET];
            of_ours.copy_from_slice(&bytes[..CHECKSUM_OFFSET]);
            FieldWriter::new(&mut of_ours[8..]).u32(SEGMENT_VERSION);
            // A version of 0, or a checksum that fits once our version is put in: the field is damaged, and no newer version wrote the
            // page.
            let is_ours = version == 0 || checksum(&of_ours) == stored;
            let damaged = HeaderFault::Checksum { stored, computed };
            return Err(if is_ours { damaged } else { HeaderFault::Version { found: version } });
        }
        if computed != stored {
            return Err(HeaderFault::Checksum { stored, computed });
        }
        if !is_zero(&bytes[SALT_OFFSET + SALT_BYTES..CHECKSUM_OFFSET]) {
            return Err(HeaderFault::Reserved);
        }
        let salt = bytes[SALT_OFFSET..].first_chunk().ok_or(short.clone())?;
        Ok(Self {
            shard: u32_at(bytes, 12).ok_or(short.clone())?,
            base_sequence: u64_at(bytes, 16).ok_or(short.clone())?,
            created_at_micros: u64_at(bytes, 24).ok_or(short)?,
            salt: *salt,
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

/// Returns whether the header page of the segment that begins with `base_sequence` says that the segments before it were trimmed.
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

/// Returns the synced watermark of a header page: the higher of the whole slots, or 0 if nothing was synced yet.
pub(crate) fn decode_synced(page: &[u8]) -> u64 {
    let slot_value = |offset: usize| {
        let slot = page.get(offset..offset + SYNCED_SLOT_BYTES)?;
        let is_whole = u32_at(slot, 12)? == checksum(&slot[..12]) && u32_at(slot, 8)? == 0;
        u64_at(slot, 0).filter(|_| is_whole)
    };
    SYNCED_OFFSETS.into_iter().filter_map(slot_value).max().unwrap_or(0)
}

/// Returns the committed word of a header page.
pub(crate) fn decode_committed(page: &[u8]) -> u64 {
    u64_at(page, COMMITTED_OFFSET).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: SegmentHeader = SegmentHeader {
        shard: 3,
        base_sequence: 77,
        created_at_micros: 1_700_000_000_000_000,
        salt: [9; SALT_BYTES],
    };

    #[test]
    fn every_flipped_bit_outside_the_live_words_is_noticed() {
        let page = HEADER.encode_page();
        assert_eq!(SegmentHeader::decode(&page), Ok(HEADER));
        for bit in 0..page.len() * 8 {
            let mut flipped = page;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let at = bit / 8;
            let live = (COMMITTED_OFFSET..LIVE_WORDS_END).contains(&at)
                || (FIRST_OFFSET..FIRST_OFFSET + 8).contains(&at)
                || SYNCED_OFFSETS.iter().any(|&slot| (slot..slot + SYNCED_SLOT_BYTES).contains(&at));
            assert_eq!(SegmentHeader::decode(&flipped).is_ok(), live, "bit {bit}");
            assert_eq!(
                SegmentHeader::decode_copy(&flipped),
                Some(HEADER),
                "bit {bit}: the other copy is whole"
            );
        }
    }

    #[test]
    fn a_page_of_which_power_loss_left_some_sectors_is_whole_or_blank() {
        let mut page = HEADER.encode_page();
        page[COPY_OFFSET..].fill(0);
        assert_eq!(SegmentHeader::decode(&page), Ok(HEADER));
        let mut page = HEADER.encode_page();
        page[..512].fill(0);
        assert_eq!(SegmentHeader::decode(&page), Err(HeaderFault::Blank));
    }

    #[test]
    fn p14_an_unknown_version_is_told_from_damage() {
        let mut page = HEADER.encode_page();
        page[8] = 9;
        assert!(matches!(SegmentHeader::decode(&page), Err(HeaderFault::Checksum { .. })), "a flipped bit");
        // Whatever that version has in the place of our checksum, it is not the checksum of one of our pages.
        page[CHECKSUM_OFFSET] ^= 1;
        assert_eq!(SegmentHeader::decode(&page), Err(HeaderFault::Version { found: 9 }));
    }

    #[test]
    fn a_torn_synced_slot_leaves_the_other_one() {
        let mut page = HEADER.encode_page();
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
