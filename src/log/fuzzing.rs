//! Access to the private decoders for the fuzz targets, compiled for nothing else.
//!
//! Encoding what was decoded must give the same bytes: a byte that a decoder ignores is one that no later version can use.

use crate::log::format::draft::DraftBuffer;
use crate::log::format::encrypted::TAG_BYTES;
use crate::log::format::frame::{FRAME_HEADER_BYTES, Frame, FrameHeader, encode_lost};
use crate::log::format::header::{SegmentHeader, decode_committed, decode_synced};
use crate::log::format::headers::Headers;
use crate::log::format::index::Index;
use crate::log::format::record::RecordParts;
use crate::log::format::salt::Salt;
use crate::log::format::trailer::{TRAILER_BYTES, Trailer};
use crate::log::format::walk::{Depth, FrameWalk};
use crate::{Compression, PutRecord};

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
    let FrameHeader { base_sequence, timestamp_micros, count, len, is_lost, .. } = frame.header;
    if is_lost {
        assert_eq!(encode_lost(base_sequence, timestamp_micros, count, &salt), bytes[..len]);
    } else if frame.is_plain() {
        assert_eq!(encode(&records_of(&frame), &frame.header, Compression::None, &salt), bytes[..len]);
    } else {
        packed(&frame, &salt);
    }
}

/// The most that a method can make of one compressed byte: zstd, a block of 128 KiB of four bytes.
const UNPACKED_BYTES_MAX: usize = 32 << 10;

/// Decompresses a frame whose outer form was checked. The same records, compressed again, must read back the same. Encrypted bytes are taken as
/// the plaintext: a fuzzer would never guess valid ones.
fn packed(frame: &Frame<'_>, salt: &Salt) {
    let mut plain = vec![];
    let outcome = frame.unpack(&mut plain, |encrypted, to| {
        to.extend_from_slice(&encrypted.body[..encrypted.body.len() - TAG_BYTES]);
        Ok(())
    });
    assert!(plain.capacity() <= 2 * (FRAME_HEADER_BYTES + frame.records().len() * UNPACKED_BYTES_MAX));
    if outcome.is_err() {
        return;
    }
    let unpacked = Frame::decode_checked(&plain).expect("unpacking has checked the shape");
    assert_eq!(
        FrameHeader { len: frame.header.len, ..unpacked.header },
        FrameHeader { compression: 0, encryption: 0, ..frame.header }
    );
    let records = records_of(&unpacked);
    for compression in [Compression::None, Compression::Lz4, Compression::zstd()] {
        let bytes = encode(&records, &frame.header, compression, salt);
        let again = Frame::decode(&bytes, salt).expect("an encoded frame");
        let mut read = vec![];
        if again.is_plain() {
            read.clone_from(&bytes);
        } else {
            again.unpack(&mut read, |_, _| unreachable!()).expect("compressed records");
        }
        // All but the checksum, which an unpacked frame lacks.
        assert_eq!((&read[..4], &read[8..]), (&plain[..4], &plain[8..]));
    }
}

/// Returns the records of a frame that are not compressed.
fn records_of<'a>(frame: &Frame<'a>) -> Vec<PutRecord<'a>> {
    let mut rest = frame.records();
    let record = |_| {
        let (parts, behind) = RecordParts::split_off(rest).expect("decoding has checked the shape");
        rest = behind;
        let record = PutRecord::new(parts.partition_key(), parts.data());
        Headers::new(parts.headers()).fold(record, |record, (name, value)| record.header(name, value))
    };
    (0..frame.header.count).map(record).collect()
}

fn encode(records: &[PutRecord<'_>], header: &FrameHeader, compression: Compression, salt: &Salt) -> Vec<u8> {
    let mut buffer = DraftBuffer::default();
    let mut draft = buffer.draft(records.iter(), 0);
    if compression != Compression::None {
        draft.pack(compression, false);
    }
    draft.seal(header.base_sequence, header.timestamp_micros, salt);
    draft.parts().concat()
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
