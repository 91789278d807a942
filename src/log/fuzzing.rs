//! A door to the private decoders for the fuzz targets; compiled for nothing else.
//!
//! What decodes must be what encoding it again gives: a byte that is read past would be one that no later version can use.

use crate::log::format::draft::FrameDraft;
use crate::log::format::frame::{Frame, FrameHeader, RecordParts, encode_lost};
use crate::log::format::header::{HEADER_BYTES, SegmentHeader, decode_committed, decode_synced};
use crate::log::format::index::Index;
use crate::log::format::trailer::{TRAILER_BYTES, Trailer};

/// Decodes a header page.
pub fn header(page: &[u8]) {
    if let Ok(header) = SegmentHeader::decode(page) {
        assert_eq!(header.encode(), page[..HEADER_BYTES]);
    }
    let _ = (decode_synced(page), decode_committed(page));
}

/// Decodes a frame.
pub fn frame(bytes: &[u8]) {
    let Ok(frame) = Frame::decode(bytes) else { return };
    assert_eq!(Frame::decode_checked(bytes).as_ref(), Ok(&frame));
    if frame.header.is_lost {
        let FrameHeader { base_sequence, timestamp_micros, count, len, .. } = frame.header;
        assert_eq!(encode_lost(base_sequence, timestamp_micros, count), bytes[..len]);
        return;
    }
    let mut draft = FrameDraft::default();
    draft.clear(0);
    let mut at = 0;
    for _ in 0..frame.header.count {
        let (parts, next) = RecordParts::at(frame.records(), at).expect("decoding has checked the shape");
        draft.push(parts.partition_key, parts.data);
        at = next;
    }
    draft.finish();
    draft.seal(frame.header.base_sequence, frame.header.timestamp_micros);
    assert_eq!(draft.parts(&[]).concat(), bytes[..frame.header.len]);
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

/// Decodes a trailer as the end of a file of so many bytes.
pub fn trailer(bytes: &[u8], shard: u32, base_sequence: u64, file_bytes: u64) {
    let header = SegmentHeader { shard, base_sequence, created_at_micros: 0 };
    if let Some(trailer) = Trailer::decode(bytes, &header, file_bytes) {
        assert_eq!(trailer.encode(&header), bytes[bytes.len() - TRAILER_BYTES..]);
    }
}
