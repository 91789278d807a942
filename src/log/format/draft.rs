//! Drafts: frames in the making.

use super::FRAME_ALIGN;
use super::bytes::FieldWriter;
use super::checksum;
use super::encrypted::{self, ENCRYPTION_BYTES, NONCE_BYTES, ToEncrypt};
use super::frame::{CHECKED_FROM, FRAME_HEADER_BYTES};
use super::headers;
use super::pack::Packer;
use super::record::{RECORD_HEAD_BYTES, encode_head};
use super::salt::Salt;
use crate::log::types::compression::Compression;
use crate::log::types::record::PutRecord;
use crate::log::types::time::Timestamp;

/// From this size on, the checksum of the records is computed before the sequence number is known and combined with that of the header later.
/// Below it, combining costs more than it saves under the append lock.
const JOINED_CHECKSUM_BYTES_MIN: usize = 8 << 10;
/// From this size on, the data of a single record is not copied into the draft but goes straight from the caller's memory into the segment.
const BORROWED_DATA_BYTES_MIN: usize = 4 << 10;

const PADDING: [u8; FRAME_ALIGN] = [0; FRAME_ALIGN];

/// The memory that frames are drafted in. It is reused, so that a put allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct DraftBuffer {
    /// Room for the frame header, then the copied records, then the padding. The bytes behind them are left over from other drafts:
    /// overwriting bytes costs less than pushing them to a vector.
    bytes: Vec<u8>,
    /// The end of the drafted bytes.
    end: usize,
    packer: Packer,
}

/// A frame in the making: its records and the time of the put. [`seal`](Self::seal) adds the sequence number and the checksum.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    /// Room for the frame header, and everything that was copied.
    drafted: &'a mut [u8],
    /// The data of a large record, still in the caller's memory.
    borrowed: &'a [u8],
    len: usize,
    count: u32,
    /// The checksum of the records and their padding, if it was worth computing early.
    body_checksum: Option<crc32fast::Hasher>,
    /// How the records are packed, and what packs them.
    compression: u8,
    /// How the records are to be encrypted, or 0.
    encryption: u8,
    packer: Option<&'a mut Packer>,
    /// The length that the frame would have if it were not packed.
    plain_len: usize,
    /// The time of the put by the clock. Appending makes it the time that the records have, which is later if the clock was set back.
    pub(crate) put_at: Timestamp,
}

/// The bytes of a frame, in the order in which they are in the segment.
pub(crate) type FrameParts<'a> = [&'a [u8]; 3];

/// Returns the bytes that a record takes in a frame.
#[inline]
pub(crate) fn record_bytes(record: &PutRecord<'_>) -> usize {
    let data_bytes = record.partition_key.len() + record.data.len();
    RECORD_HEAD_BYTES + data_bytes + headers::bytes_of(record.header_list())
}

impl DraftBuffer {
    /// Drafts a frame of one record.
    #[inline]
    pub(crate) fn draft_one<'a>(&'a mut self, record: &PutRecord<'a>) -> Draft<'a> {
        if record.data.len() < BORROWED_DATA_BYTES_MIN {
            self.clear(record_bytes(record));
            self.push(record);
            self.finish(1)
        } else {
            self.clear(record_bytes(record) - record.data.len());
            self.push_all_but_data(record);
            self.finish_borrowing(record.data, 1)
        }
    }

    /// Drafts a frame of several records, which take at most `bytes_max`.
    #[inline]
    pub(crate) fn draft<'r>(
        &mut self,
        records: impl Iterator<Item = &'r PutRecord<'r>>,
        bytes_max: usize,
    ) -> Draft<'_> {
        self.clear(bytes_max);
        let mut count = 0;
        for record in records {
            self.push(record);
            count += 1;
        }
        self.finish(count)
    }

    /// Frees the memory of an unusually large draft.
    #[inline]
    pub(crate) fn shrink(&mut self, bytes_max: usize) {
        if self.bytes.len() > bytes_max {
            *self = Self::default();
        }
        self.packer.shrink(bytes_max);
    }

    /// Discards the previous draft and makes room for `bytes` of records.
    #[inline]
    fn clear(&mut self, bytes: usize) {
        self.end = FRAME_HEADER_BYTES;
        self.make_room(FRAME_HEADER_BYTES + bytes + FRAME_ALIGN);
    }

    #[inline]
    fn make_room(&mut self, len: usize) {
        if self.bytes.len() < len {
            self.grow(len);
        }
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        // A new vector gets its zeros from the system, and nothing has to write them.
        let mut grown = vec![0; len.max(2 * self.bytes.len())];
        let drafted = self.end.min(self.bytes.len());
        grown[..drafted].copy_from_slice(&self.bytes[..drafted]);
        self.bytes = grown;
    }

    #[inline]
    fn push_bytes(&mut self, bytes: &[u8]) {
        let end = self.end + bytes.len();
        self.make_room(end);
        self.bytes[self.end..end].copy_from_slice(bytes);
        self.end = end;
    }

    #[inline]
    fn push(&mut self, record: &PutRecord<'_>) {
        self.push_all_but_data(record);
        self.push_bytes(record.data);
    }

    // A call would take a twentieth of a small put.
    #[inline(always)]
    fn push_all_but_data(&mut self, record: &PutRecord<'_>) {
        let headers = record.header_list();
        self.push_bytes(&encode_head(record.partition_key, record.data, !headers.is_empty()));
        self.push_bytes(record.partition_key);
        if !headers.is_empty() {
            self.push_headers(headers);
        }
    }

    #[cold]
    fn push_headers(&mut self, headers: &[(&str, &[u8])]) {
        let end = self.end + headers::bytes_of(headers);
        self.make_room(end);
        headers::encode(headers, &mut self.bytes[self.end..end]);
        self.end = end;
    }

    /// Finishes a draft that holds copies of all its records.
    // As a call, it would write the draft to memory only for it to be read again immediately.
    #[inline(always)]
    fn finish(&mut self, count: u32) -> Draft<'_> {
        let len = self.end.next_multiple_of(FRAME_ALIGN);
        self.push_bytes(&PADDING);
        let drafted = &mut self.bytes[..len];
        let body_checksum = match len {
            JOINED_CHECKSUM_BYTES_MIN.. => Some(checksum::of_parts(&[&drafted[FRAME_HEADER_BYTES..]])),
            _ => None,
        };
        let packer = Some(&mut self.packer);
        let (put_at, plain_len) = (Timestamp::default(), len);
        Draft {
            drafted,
            borrowed: &[],
            len,
            count,
            body_checksum,
            compression: 0,
            encryption: 0,
            packer,
            plain_len,
            put_at,
        }
    }

    /// Finishes a draft that borrows the data of its last record.
    fn finish_borrowing<'a>(&'a mut self, data: &'a [u8], count: u32) -> Draft<'a> {
        let bytes = self.end + data.len();
        let len = bytes.next_multiple_of(FRAME_ALIGN);
        let drafted = &mut self.bytes[..self.end];
        let body = [&drafted[FRAME_HEADER_BYTES..], data, &PADDING[..len - bytes]];
        let body_checksum = Some(checksum::of_parts(&body));
        let packer = Some(&mut self.packer);
        let (put_at, plain_len) = (Timestamp::default(), len);
        Draft {
            drafted,
            borrowed: data,
            len,
            count,
            body_checksum,
            compression: 0,
            encryption: 0,
            packer,
            plain_len,
            put_at,
        }
    }
}

impl Draft<'_> {
    /// Compresses the records, if that makes the frame much shorter, and makes room for what encryption adds, if the frame is to be
    /// encrypted.
    pub(crate) fn pack(&mut self, compression: Compression, is_to_encrypt: bool) {
        let Some(packer) = self.packer.take() else { return };
        let padding = self.len - self.drafted.len() - self.borrowed.len();
        let parts = [&self.drafted[FRAME_HEADER_BYTES..], self.borrowed, &PADDING[..padding]];
        let Some((packed, field)) = packer.pack(parts, compression, is_to_encrypt) else { return };
        self.body_checksum = (packed.len() >= JOINED_CHECKSUM_BYTES_MIN && !is_to_encrypt)
            .then(|| checksum::of_parts(&[&packed[FRAME_HEADER_BYTES..]]));
        (self.len, self.compression) = (packed.len(), field);
        (self.drafted, self.borrowed) = (packed, &[]);
        if is_to_encrypt {
            self.encryption = encrypted::AES_256_GCM;
            self.plain_len += ENCRYPTION_BYTES;
        }
    }

    /// Returns whether the records are to be encrypted before the frame is [sealed](Self::seal).
    #[inline]
    pub(crate) fn is_to_encrypt(&self) -> bool {
        self.encryption != 0
    }

    /// Returns what is to be encrypted, in place, now that the frame's place is known. This is done once.
    pub(crate) fn begin_encryption(
        &mut self,
        base_sequence: u64,
        timestamp_micros: u64,
        data_key: u32,
        nonce: [u8; NONCE_BYTES],
    ) -> ToEncrypt<'_> {
        self.write_header(base_sequence, timestamp_micros);
        encrypted::begin(self.drafted, data_key, nonce)
    }

    /// Returns the length that the frame would have if it were not compressed.
    #[inline]
    pub(crate) fn plain_len(&self) -> usize {
        self.plain_len
    }

    /// Returns the length of the frame.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of records in the frame.
    #[inline]
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    #[inline]
    fn write_header(&mut self, base_sequence: u64, timestamp_micros: u64) {
        let kind = u64::from(self.compression) | u64::from(self.encryption) << 8;
        FieldWriter::new(self.drafted)
            .u64(self.len as u64)
            .u64(base_sequence)
            .u64(timestamp_micros)
            .u64(u64::from(self.count) | kind << 32);
    }

    /// Writes the frame header, now that the frame's place is known.
    #[inline]
    pub(crate) fn seal(&mut self, base_sequence: u64, timestamp_micros: u64, salt: &Salt) {
        self.write_header(base_sequence, timestamp_micros);
        let checksum = match &self.body_checksum {
            None => salt.checksum(&self.drafted[CHECKED_FROM..]),
            Some(body) => {
                let mut hasher = salt.begin();
                hasher.update(&self.drafted[CHECKED_FROM..FRAME_HEADER_BYTES]);
                hasher.combine(body);
                hasher.finalize()
            }
        };
        FieldWriter::new(&mut self.drafted[4..]).u32(checksum);
    }

    /// Returns the bytes of the sealed frame.
    #[inline]
    pub(crate) fn parts(&self) -> FrameParts<'_> {
        let padding = self.len - self.drafted.len() - self.borrowed.len();
        [self.drafted, self.borrowed, &PADDING[..padding]]
    }
}
