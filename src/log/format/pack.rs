//! Packed frames: the records of a frame, compressed.
//!
//! The records of a packed frame begin with two lengths of 4 bytes each: of the plain records, which the frame would hold otherwise, and of the
//! bytes that follow. Zeros pad the rest to a multiple of 8 bytes.

use super::FRAME_ALIGN;
use super::bytes::{FieldWriter, is_zero, u32_at};
use super::encrypted::{ENCRYPTION_HEAD_BYTES, TAG_BYTES};
use super::fault::FrameFault;
use super::frame::FRAME_HEADER_BYTES;
use crate::log::types::compression::Compression;
use crate::log::types::limits::FRAME_BYTES_MAX;

/// The bytes before the compressed ones.
const PACK_HEAD_BYTES: usize = 8;
/// The values of the frame header's field.
const LZ4: u8 = 1;
const ZSTD: u8 = 2;

/// A frame shorter than this is not worth packing: what it saves is little, and each read pays for it.
const PACKED_FROM_BYTES: usize = 512;
/// A packed frame must be shorter by at least this part of the plain one.
const GAIN_MIN: usize = 16;

/// The memory for packing, which is used again.
#[derive(Default)]
pub(crate) struct Packer {
    /// The plain records, if they are not in one piece.
    plain: Vec<u8>,
    /// Room for the frame header, the lengths and the compressed bytes. The bytes behind them are left over.
    packed: Vec<u8>,
    zstd: Zstd,
}

/// A compressor, which is used again as long as its level stays.
#[derive(Default)]
struct Zstd {
    #[cfg(feature = "zstd")]
    compressor: Option<(i32, zstd::bulk::Compressor<'static>)>,
}

impl Zstd {
    /// Compresses `plain` into `into`. Returns `None` if the result does not fit.
    #[cfg(feature = "zstd")]
    fn compress(&mut self, plain: &[u8], into: &mut [u8], level: i32) -> Option<usize> {
        if self.compressor.as_ref().is_none_or(|(known, _)| *known != level) {
            self.compressor = Some((level, zstd::bulk::Compressor::new(level).ok()?));
        }
        let (_, compressor) = self.compressor.as_mut()?;
        compressor.compress_to_buffer(plain, into).ok()
    }

    #[cfg(not(feature = "zstd"))]
    fn compress(&mut self, _: &[u8], _: &mut [u8], _: i32) -> Option<usize> {
        None
    }
}

#[cfg(feature = "lz4")]
fn compress_lz4(plain: &[u8], into: &mut [u8]) -> Option<usize> {
    lz4_flex::block::compress_into(plain, into).ok()
}

#[cfg(not(feature = "lz4"))]
fn compress_lz4(_: &[u8], _: &mut [u8]) -> Option<usize> {
    None
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

/// Returns whether a frame header's field names a known compression.
pub(crate) fn is_known(compression: u8) -> bool {
    matches!(compression, LZ4 | ZSTD)
}

impl Packer {
    /// Packs the parts of a frame's records. Returns the frame with room for its header and, if it is to be encrypted, for what that adds, and the
    /// value of the header's field. If the frame would not be much shorter, it stays plain, and `None` is returned unless it is to be
    /// encrypted.
    pub(super) fn pack(
        &mut self,
        parts: [&[u8]; 3],
        compression: Compression,
        is_to_encrypt: bool,
    ) -> Option<(&mut [u8], u8)> {
        let (from, behind) = match is_to_encrypt {
            true => (FRAME_HEADER_BYTES + ENCRYPTION_HEAD_BYTES, TAG_BYTES),
            false => (FRAME_HEADER_BYTES, 0),
        };
        let plain_len: usize = parts.iter().map(|part| part.len()).sum();
        // LZ4 wants room for the worst case.
        let room = from + PACK_HEAD_BYTES + plain_len + plain_len / 64 + 64;
        if self.packed.len() < room {
            self.packed = vec![0; room.next_power_of_two()];
        }
        let (end, field) = match self.compress(parts, plain_len, compression, from) {
            Some(packed) => packed,
            None if is_to_encrypt => {
                let into = &mut self.packed[from..from + plain_len];
                parts.iter().fold(into, |into, part| {
                    let (head, rest) = into.split_at_mut(part.len());
                    head.copy_from_slice(part);
                    rest
                });
                (from + plain_len, 0)
            }
            None => return None,
        };
        Some((&mut self.packed[..end + behind], field))
    }

    /// Compresses the parts of a frame's records to the place `from`, unless the frame would not be much shorter. Returns where they end,
    /// and the value of the header's field.
    fn compress(
        &mut self,
        parts: [&[u8]; 3],
        plain_len: usize,
        compression: Compression,
        from: usize,
    ) -> Option<(usize, u8)> {
        if FRAME_HEADER_BYTES + plain_len < PACKED_FROM_BYTES || compression == Compression::None {
            return None;
        }
        let plain = match parts {
            [plain, [], []] => plain,
            parts => {
                self.plain.clear();
                parts.iter().for_each(|part| self.plain.extend_from_slice(part));
                &self.plain
            }
        };
        let at = from + PACK_HEAD_BYTES;
        let into = &mut self.packed[at..];
        let field = if compression == Compression::Lz4 { LZ4 } else { ZSTD };
        let len = match compression {
            Compression::Zstd { level } => self.zstd.compress(plain, into, level)?,
            _ => compress_lz4(plain, into)?,
        };
        let end = (at + len).next_multiple_of(FRAME_ALIGN);
        if end - from > plain_len - plain_len / GAIN_MIN {
            return None;
        }
        self.packed[at + len..end].fill(0);
        FieldWriter::new(&mut self.packed[from..at]).u32(plain_len as u32).u32(len as u32);
        Some((end, field))
    }

    /// Frees the memory of unusually large frames.
    pub(super) fn shrink(&mut self, bytes_max: usize) {
        if self.packed.len() > bytes_max || self.plain.capacity() > bytes_max {
            (self.plain, self.packed) = (vec![], vec![]);
        }
    }
}

/// The parts of packed records.
struct Packed<'a> {
    plain_len: usize,
    bytes: &'a [u8],
}

impl<'a> Packed<'a> {
    fn read(records: &'a [u8], compression: u8) -> Option<Self> {
        let (plain_len, len) = (u32_at(records, 0)? as usize, u32_at(records, 4)? as usize);
        let (bytes, padding) = records[PACK_HEAD_BYTES..].split_at_checked(len)?;
        // The most that one compressed byte can become: 255 bytes with LZ4; with zstd, four bytes can become a block of 128 KiB.
        let most = len.saturating_mul(if compression == LZ4 { 255 } else { 32 << 10 });
        let is_sound = padding.len() < FRAME_ALIGN
            && is_zero(padding)
            && plain_len.is_multiple_of(FRAME_ALIGN)
            && plain_len > 0
            && plain_len <= most
            && plain_len as u64 <= FRAME_BYTES_MAX;
        is_sound.then_some(Self { plain_len, bytes })
    }
}

/// Checks that lengths and padding of packed records add up.
pub(super) fn check_packed(records: &[u8], compression: u8) -> Result<(), FrameFault> {
    Packed::read(records, compression).map(drop).ok_or(FrameFault::Shape)
}

/// Appends the plain records of a packed frame.
pub(super) fn unpack(records: &[u8], compression: u8, to: &mut Vec<u8>) -> Result<(), FrameFault> {
    let Packed { plain_len, bytes } = Packed::read(records, compression).ok_or(FrameFault::Shape)?;
    let from = to.len();
    to.resize(from + plain_len, 0);
    let into = &mut to[from..];
    let len = match compression {
        LZ4 => unpack_lz4(bytes, into)?,
        _ => unpack_zstd(bytes, into)?,
    };
    if len == Some(plain_len) { Ok(()) } else { Err(FrameFault::Packed) }
}

#[cfg(feature = "lz4")]
fn unpack_lz4(bytes: &[u8], into: &mut [u8]) -> Result<Option<usize>, FrameFault> {
    Ok(lz4_flex::block::decompress_into(bytes, into).ok())
}

#[cfg(not(feature = "lz4"))]
fn unpack_lz4(_: &[u8], _: &mut [u8]) -> Result<Option<usize>, FrameFault> {
    Err(FrameFault::Unsupported {
        what: "compression lz4, which needs the cargo feature of that name: number",
        found: LZ4.into(),
    })
}

#[cfg(feature = "zstd")]
fn unpack_zstd(bytes: &[u8], into: &mut [u8]) -> Result<Option<usize>, FrameFault> {
    use std::cell::RefCell;
    use zstd::bulk::Decompressor;
    thread_local! {
        static ZSTD: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }
    let with = |decompressor: &mut Decompressor<'static>| decompressor.decompress_to_buffer(bytes, into).ok();
    let kept = ZSTD.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.is_none() {
            *kept = Decompressor::new().ok();
        }
        kept.as_mut().and_then(with)
    });
    // A thread that is exiting cannot keep one.
    Ok(kept.unwrap_or(None))
}

#[cfg(not(feature = "zstd"))]
fn unpack_zstd(_: &[u8], _: &mut [u8]) -> Result<Option<usize>, FrameFault> {
    Err(FrameFault::Unsupported {
        what: "compression zstd, which needs the cargo feature of that name: number",
        found: ZSTD.into(),
    })
}

#[cfg(all(test, feature = "lz4", feature = "zstd"))]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn pack(plain: &[u8], compression: Compression) -> Option<(Vec<u8>, u8)> {
        let mut packer = Packer::default();
        let (half, rest) = plain.split_at(plain.len() / 2);
        let whole =
            packer.pack([plain, &[], &[]], compression, false).map(|(frame, field)| (frame.to_vec(), field));
        let parts =
            packer.pack([half, rest, &[]], compression, false).map(|(frame, field)| (frame.to_vec(), field));
        assert_eq!(whole, parts);
        whole.map(|(frame, field)| (frame[FRAME_HEADER_BYTES..].to_vec(), field))
    }

    const ALL: [Compression; 3] =
        [Compression::Lz4, Compression::Zstd { level: -1 }, Compression::Zstd { level: 19 }];

    proptest! {
        #[test]
        fn what_is_packed_unpacks_to_the_same(seed in vec(any::<u8>(), 1..200), times in 10usize..200, which in 0usize..3) {
            let mut plain = seed.repeat(times);
            plain.resize(plain.len().next_multiple_of(8), 0);
            if let Some((records, field)) = pack(&plain, ALL[which]) {
                prop_assert!(records.len() < plain.len());
                let mut unpacked = vec![1, 2, 3];
                prop_assert_eq!(unpack(&records, field, &mut unpacked), Ok(()));
                prop_assert_eq!(&unpacked[3..], &plain[..]);
            }
        }

        #[test]
        fn p11_any_bytes_unpack_without_a_panic_and_with_bounded_memory(
            bytes in vec(any::<u8>(), 0..300), lens in any::<(u32, u16)>(), field in 1u8..3,
        ) {
            let mut records = [lens.0.to_ne_bytes().to_vec(), u32::from(lens.1 % 400).to_ne_bytes().to_vec()].concat();
            records.extend(bytes);
            let mut plain = vec![];
            let _ = unpack(&records, field, &mut plain);
            prop_assert!(plain.len() <= records.len() * (32 << 10));
        }
    }

    #[test]
    fn p11_a_frame_that_claims_more_than_its_bytes_can_hold_is_refused_before_it_gets_memory() {
        for (compression, most) in [(Compression::Lz4, 255), (Compression::zstd(), 32 << 10)] {
            let (mut records, field) = pack(&[7; 4096], compression).unwrap();
            let len = u32_at(&records, 4).unwrap();
            let claims = [(len * most + 8).next_multiple_of(8), 1 << 31, !7, 0];
            for claim in claims {
                records[..4].copy_from_slice(&claim.to_ne_bytes());
                let mut plain = Vec::new();
                assert_eq!(unpack(&records, field, &mut plain), Err(FrameFault::Shape), "{claim}");
                assert_eq!(plain.capacity(), 0);
            }
        }
    }

    #[test]
    fn what_does_not_get_much_smaller_stays_plain() {
        let noise: Vec<u8> =
            (0..1024u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_ne_bytes()).collect();
        for compression in ALL {
            assert_eq!(pack(&noise, compression), None, "{compression}");
            assert_eq!(pack(&[7; 256], compression), None, "too short");
            assert_eq!(pack(&noise, Compression::None), None);
        }
    }
}
