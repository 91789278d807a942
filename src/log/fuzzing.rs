//! Access to the private decoders for the fuzz targets, compiled for nothing else.
//!
//! Encoding what was decoded must give the same bytes: a byte that a decoder ignores is one that no later version can use.

use crate::PutRecord;
use crate::log::format::draft::DraftBuffer;
use crate::log::format::frame::{Frame, FrameHeader, encode_lost};
use crate::log::format::header::{SegmentHeader, decode_committed, decode_synced};
use crate::log::format::headers::Headers;
use crate::log::format::index::Index;
use crate::log::format::record::RecordParts;
use crate::log::format::salt::Salt;
use crate::log::format::trailer::{TRAILER_BYTES, Trailer};
use crate::log::format::walk::{Depth, FrameWalk};

/// Decodes a header page.
pub fn header(page: &[u8]) {
    if let Ok(header) = SegmentHeader::decode(page) {
        assert_eq!(header.encode_page()[..64], page[..64]);
    }
    if let Some(copy) = SegmentHeader::decode_copy(page) {
        let encoded = copy.encode_page();
        assert!(encoded[..64] == page[..64] || encoded[3584..3648] == page[3584..3648]);
    }
    let _ = (decode_synced(page), decode_committed(page));
}

/// Decodes a frame of a file with this salt.
pub fn frame(bytes: &[u8], salt: [u8; 16]) {
    let salt = Salt::new(salt);
    let mut walk = FrameWalk::new(bytes, 4096, 0, Depth::Headers);
    while let Ok(Some(frame)) = walk.next() {
        assert!(frame.len <= bytes.len());
    }
    let Ok(frame) = Frame::decode(bytes, &salt) else { return };
    assert_eq!(Frame::decode_checked(bytes).as_ref(), Ok(&frame));
    let FrameHeader { base_sequence, timestamp_micros, count, len, is_lost } = frame.header;
    if is_lost {
        assert_eq!(encode_lost(base_sequence, timestamp_micros, count, &salt), bytes[..len]);
        return;
    }
    let mut records = vec![];
    let mut rest = frame.records();
    for _ in 0..count {
        let (parts, behind) = RecordParts::split_off(rest).expect("decoding has checked the shape");
        let record = PutRecord::new(parts.partition_key(), parts.data());
        records.push(
            Headers::new(parts.headers()).fold(record, |record, (name, value)| record.header(name, value)),
        );
        rest = behind;
    }
    let mut buffer = DraftBuffer::default();
    let mut draft = buffer.draft(records.iter(), 0);
    draft.seal(base_sequence, timestamp_micros, &salt);
    assert_eq!(draft.parts().concat(), bytes[..len]);
}

/// Decodes an index, and searches it.
pub fn index(bytes: &[u8], sequence: u64, timestamp_micros: u64) {
    let Some(index) = Index::decode(bytes) else { return };
    assert_eq!(index.encode(), bytes);
    assert!(index.before_sequence(sequence).is_none_or(|entry| entry.sequence <= sequence));
    assert!(
        index
            .before_timestamp(timestamp_micros)
            .is_none_or(|entry| entry.timestamp_micros < timestamp_micros)
    );
}

/// Decodes a trailer at the end of a file of `file_bytes` bytes.
pub fn trailer(bytes: &[u8], shard: u32, base_sequence: u64, salt: [u8; 16], file_bytes: u64) {
    let header = SegmentHeader { shard, base_sequence, created_at_micros: 0, salt };
    let any = Trailer::decode_any(bytes, file_bytes);
    if let Some((trailer, header)) = any {
        assert_eq!(trailer.encode(&header), bytes[bytes.len() - TRAILER_BYTES..]);
    }
    if let Some(trailer) = Trailer::decode(bytes, &header, file_bytes) {
        assert_eq!(any.map(|(any, _)| any), Some(trailer));
    }
}
