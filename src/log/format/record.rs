//! Records as they stand in a frame.

use super::FRAME_ALIGN;
use super::bytes::u64_at;
use super::fault::FrameFault;
use super::headers;

/// The bytes of a record before its key.
pub(crate) const RECORD_HEAD_BYTES: usize = 8;

/// The flag of a record that has headers between its key and its data.
const FLAG_HEADERS: u16 = 1;

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
}

/// The head of a record: as one word, since what is stored in parts is slow to load.
#[inline]
pub(super) fn encode_head(partition_key: &[u8], data: &[u8], has_headers: bool) -> [u8; RECORD_HEAD_BYTES] {
    let flags = if has_headers { FLAG_HEADERS } else { 0 };
    let head = u64::from(partition_key.len() as u16) | u64::from(flags) << 16 | (data.len() as u64) << 32;
    head.to_le_bytes()
}

/// A record's bytes in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordParts<'a> {
    pub(crate) partition_key: &'a [u8],
    /// What [`Headers`](headers::Headers) reads.
    pub(crate) headers: &'a [u8],
    pub(crate) data: &'a [u8],
}

impl<'a> RecordParts<'a> {
    /// The first of a frame's records, and those behind it.
    #[inline]
    pub(crate) fn split_off(records: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let head = RecordHead::at(records, 0)?;
        if head.flags != 0 {
            return Self::split_off_flagged(head, records);
        }
        let (record, rest) = records.split_at_checked(RECORD_HEAD_BYTES + head.key_len + head.data_len)?;
        let (partition_key, data) = record[RECORD_HEAD_BYTES..].split_at_checked(head.key_len)?;
        Some((Self { partition_key, headers: &[], data }, rest))
    }

    #[cold]
    fn split_off_flagged(head: RecordHead, records: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (partition_key, rest) = records[RECORD_HEAD_BYTES..].split_at_checked(head.key_len)?;
        let (headers, rest) = headers::split_block(rest)?;
        let (data, rest) = rest.split_at_checked(head.data_len)?;
        Some((Self { partition_key, headers, data }, rest))
    }

    /// The record at an offset of a frame's records, and the offset of the next.
    #[inline]
    pub(crate) fn at(records: &'a [u8], offset: usize) -> Option<(Self, usize)> {
        let (record, rest) = Self::split_off(records.get(offset..)?)?;
        Some((record, records.len() - rest.len()))
    }
}

/// Checks that `count` records and less than a word of zeros fill `records`.
#[inline]
pub(super) fn check_shape(records: &[u8], count: u32) -> Result<(), FrameFault> {
    let mut at = 0;
    for _ in 0..count {
        let head = RecordHead::at(records, at).ok_or(FrameFault::Shape)?;
        at += RECORD_HEAD_BYTES + head.key_len + head.data_len;
        if head.flags != 0 {
            at = check_flagged(head, records, at)?;
        }
    }
    let padding = records.get(at..).ok_or(FrameFault::Shape)?;
    if padding.len() >= FRAME_ALIGN || padding.iter().any(|&byte| byte != 0) {
        return Err(FrameFault::Shape);
    }
    Ok(())
}

/// Checks a record that has headers; `end` is where it would end without. Returns where it ends.
#[cold]
fn check_flagged(head: RecordHead, records: &[u8], end: usize) -> Result<usize, FrameFault> {
    if head.flags != FLAG_HEADERS {
        return Err(FrameFault::Unsupported { what: "record flags", found: head.flags });
    }
    let after_key = end - head.data_len;
    let behind_key = records.get(after_key..).ok_or(FrameFault::Shape)?;
    let (block, rest) = headers::split_block(behind_key).ok_or(FrameFault::Shape)?;
    if !headers::is_sound(block) {
        return Err(FrameFault::Shape);
    }
    Ok(records.len() - rest.len() + head.data_len)
}
