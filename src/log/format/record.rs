//! Records as they are in a frame.

use super::FRAME_ALIGN;
use super::bytes::u64_at;
use super::fault::FrameFault;
use super::headers;

/// The bytes of a record before its key.
pub(crate) const RECORD_HEAD_BYTES: usize = 8;

/// The flag of a record that has headers between its key and its data.
const FLAG_HEADERS: u16 = 1;

/// The fields before the key of a record.
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
}

/// Encodes the head of a record. It is one word, since bytes that were stored in parts are slow to load.
#[inline]
pub(super) fn encode_head(partition_key: &[u8], data: &[u8], has_headers: bool) -> [u8; RECORD_HEAD_BYTES] {
    let flags = if has_headers { FLAG_HEADERS } else { 0 };
    let head = u64::from(partition_key.len() as u16) | u64::from(flags) << 16 | (data.len() as u64) << 32;
    head.to_le_bytes()
}

/// The bytes of a record in a frame: key, headers if any, and data, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordParts<'a> {
    bytes: &'a [u8],
    key_len: u32,
    data_len: u32,
}

impl<'a> RecordParts<'a> {
    /// Splits `records` into the first record and the rest.
    // As a call, it takes a third of the step from one small record to the next.
    #[inline(always)]
    pub(crate) fn split_off(records: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let head = RecordHead::at(records, 0)?;
        let behind_head = &records[RECORD_HEAD_BYTES..];
        let len = match head.flags {
            0 => head.key_len + head.data_len,
            _ => len_with_headers(head, behind_head)?,
        };
        let (bytes, rest) = behind_head.split_at_checked(len)?;
        Some((Self { bytes, key_len: head.key_len as u32, data_len: head.data_len as u32 }, rest))
    }

    /// Returns the length of key, headers and data together.
    #[inline]
    pub(crate) fn bytes(self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub(crate) fn partition_key(self) -> &'a [u8] {
        &self.bytes[..self.key_len as usize]
    }

    #[inline]
    pub(crate) fn data(self) -> &'a [u8] {
        &self.bytes[self.bytes.len() - self.data_len as usize..]
    }

    /// Returns the block for [`Headers`](headers::Headers), which is empty if the record has none.
    pub(crate) fn headers(self) -> &'a [u8] {
        let between = &self.bytes[self.key_len as usize..self.bytes.len() - self.data_len as usize];
        headers::split_block(between).map_or(&[], |(block, _)| block)
    }

    /// Returns the record at an offset of a frame's records, and the offset of the next.
    #[inline]
    pub(crate) fn at(records: &'a [u8], offset: usize) -> Option<(Self, usize)> {
        let (record, rest) = Self::split_off(records.get(offset..)?)?;
        Some((record, records.len() - rest.len()))
    }
}

/// Returns the length of key, headers and data of a record that has headers.
#[cold]
fn len_with_headers(head: RecordHead, behind_head: &[u8]) -> Option<usize> {
    let behind_key = behind_head.get(head.key_len..)?;
    let (_, data) = headers::split_block(behind_key)?;
    Some(behind_head.len() - data.len() + head.data_len)
}

/// Checks that `count` records and less than a word of zeros fill `records`.
#[inline]
pub(super) fn check_shape(records: &[u8], count: u32) -> Result<(), FrameFault> {
    let mut at = 0;
    for _ in 0..count {
        let head = RecordHead::at(records, at).ok_or(FrameFault::Shape)?;
        if head.flags != 0 {
            // This starts over with the first record. A loop that returned here or kept its place would be slower for all other frames.
            return check_flagged(records, count);
        }
        at += RECORD_HEAD_BYTES + head.key_len + head.data_len;
    }
    check_padding(records, at)
}

/// Does what [`check_shape`] does, for records that may have flags.
#[cold]
fn check_flagged(records: &[u8], count: u32) -> Result<(), FrameFault> {
    let mut at = 0;
    for _ in 0..count {
        let head = RecordHead::at(records, at).ok_or(FrameFault::Shape)?;
        if head.flags & !FLAG_HEADERS != 0 {
            return Err(FrameFault::Unsupported { what: "record flags", found: head.flags });
        }
        let (record, next) = RecordParts::at(records, at).ok_or(FrameFault::Shape)?;
        if head.flags == FLAG_HEADERS && !headers::is_sound(record.headers()) {
            return Err(FrameFault::Shape);
        }
        at = next;
    }
    check_padding(records, at)
}

/// Checks that less than a word of zeros follows byte `end` of a frame's records.
#[inline]
fn check_padding(records: &[u8], end: usize) -> Result<(), FrameFault> {
    let padding = records.len().wrapping_sub(end);
    // The padding is in the upper bytes of the last word, so one comparison replaces a loop. Two shifts, since shifting a word by all its
    // bits overflows.
    let last = records.last_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    let is_padding = padding < FRAME_ALIGN && last >> 1 >> (63 - 8 * padding) == 0;
    if is_padding { Ok(()) } else { Err(FrameFault::Shape) }
}
