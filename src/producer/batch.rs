//! Records that are sent together, with their bytes in one place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pending::{Outcomes, PendingReceipt};
use crate::{HashKey, PutRecord, Receipt, Result, Timestamp};

/// The callback for a record's outcome.
pub(super) type Callback = Box<dyn FnOnce(Result<Receipt>) + Send>;

/// The bytes that a record takes in the buffer besides its own.
pub(super) const RECORD_BYTES: usize = 128;
/// The bytes that a batch takes besides its records.
pub(super) const BATCH_BYTES: usize = 512;

// A list that grows may be twice as long as it needs to be.
const _: () = assert!(2 * size_of::<Entry>() <= RECORD_BYTES);
const _: () = assert!(2 * size_of::<Batch>() <= BATCH_BYTES);

/// Returns the bytes of a record in the buffer: its key, its data, and its headers with [`HEADER_BYTES`] for each.
#[inline]
pub(super) fn bytes_of(record: &PutRecord<'_>) -> usize {
    let headers: usize = record.headers().map(|(name, value)| HEADER_BYTES + name.len() + value.len()).sum();
    record.partition_key.len() + record.data.len() + headers
}

/// The bytes that a header takes in the buffer besides its name and value.
const HEADER_BYTES: usize = 2 * size_of::<Header>();

/// A header of one of the records, without its bytes.
#[derive(Debug, Clone, Copy)]
struct Header {
    /// The place of the record.
    at: u32,
    name_bytes: u32,
    value_bytes: u32,
}

/// A record of a batch, without its bytes.
struct Entry {
    /// The end of its bytes. They begin where those of the record before end.
    end: u32,
    key_bytes: u16,
    put_at: Timestamp,
    hash_key: Option<HashKey>,
    callback: Option<Callback>,
}

/// The memory of a batch, to be reused for another.
#[derive(Default)]
pub(super) struct Buffers {
    /// For each record the key, the data, and then the name and value of each header.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// In the order of their records.
    headers: Vec<Header>,
}

impl Buffers {
    /// Empties the buffers, and frees one that has grown beyond `bytes_max`.
    fn clear(&mut self, bytes_max: usize) {
        self.entries.clear();
        self.headers.clear();
        self.bytes.clear();
        if self.bytes.capacity() > bytes_max {
            self.bytes = vec![];
        }
        if self.headers.capacity() * size_of::<Header>() > bytes_max {
            self.headers = vec![];
        }
    }
}

/// Records in the order of their puts.
#[derive(Default)]
pub(super) struct Batch {
    buffers: Buffers,
    outcomes: Arc<Outcomes>,
    /// When the first record came, if the batch may linger.
    pub(super) began_at: Option<Instant>,
    /// The bytes of the budget that the batch holds.
    pub(super) charge: usize,
}

impl Batch {
    pub(super) fn new(buffers: Buffers) -> Self {
        Self { buffers, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.buffers.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffers.entries.is_empty()
    }

    /// Returns the bytes of the records.
    pub(super) fn bytes(&self) -> usize {
        self.buffers.bytes.len()
    }

    /// Copies a record into the batch.
    ///
    /// `bytes_max` is the intended size of a batch, so that a batch that is nearly full does not allocate more than that.
    #[inline]
    pub(super) fn push(
        &mut self,
        record: &PutRecord<'_>,
        callback: Option<Callback>,
        put_at: Timestamp,
        bytes_max: usize,
    ) -> PendingReceipt {
        let (key, data) = (record.partition_key, record.data);
        let Buffers { bytes, entries, headers } = &mut self.buffers;
        let header_bytes: usize = record.headers().map(|(name, value)| name.len() + value.len()).sum();
        let needed = bytes.len() + key.len() + data.len() + header_bytes;
        if needed > bytes.capacity() {
            let wanted = needed.max(bytes_max.min(bytes.capacity() * 2));
            bytes.reserve_exact(wanted - bytes.len());
        }
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(data);
        let at = entries.len() as u32;
        for (name, value) in record.headers() {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(value);
            headers.push(Header { at, name_bytes: name.len() as u32, value_bytes: value.len() as u32 });
        }
        let (end, key_bytes, hash_key) = (needed as u32, key.len() as u16, record.explicit_hash_key);
        entries.push(Entry { end, key_bytes, put_at, hash_key, callback });
        PendingReceipt { outcomes: Arc::clone(&self.outcomes), at, producer: 0 }
    }

    /// Frees unused memory of a batch that takes no more records. It may wait among many, and counts only with what it holds.
    pub(super) fn trim(&mut self) {
        let Buffers { bytes, entries, headers } = &mut self.buffers;
        headers.shrink_to_fit();
        if bytes.capacity() - bytes.len() > bytes.capacity() / 8 {
            bytes.shrink_to_fit();
        }
        if entries.capacity() > 2 * entries.len() {
            entries.shrink_to_fit();
        }
    }

    /// Returns the record at a place.
    #[inline]
    pub(super) fn record(&self, at: u32) -> PutRecord<'_> {
        let Buffers { bytes, entries, headers } = &self.buffers;
        let entry = &entries[at as usize];
        let start = at.checked_sub(1).map_or(0, |before| entries[before as usize].end);
        let (key, rest) = bytes[start as usize..entry.end as usize].split_at(entry.key_bytes.into());
        let record =
            if headers.is_empty() { PutRecord::new(key, rest) } else { self.headed_record(at, key, rest) };
        match entry.hash_key {
            Some(hash_key) => record.explicit_hash_key(hash_key),
            None => record,
        }
    }

    #[cold]
    fn headed_record<'a>(&'a self, at: u32, key: &'a [u8], rest: &'a [u8]) -> PutRecord<'a> {
        let headers = &self.buffers.headers;
        let from = headers.partition_point(|header| header.at < at);
        let of_record = headers[from..].iter().take_while(|header| header.at == at);
        let header_bytes: u32 = of_record.clone().map(|header| header.name_bytes + header.value_bytes).sum();
        let (data, mut rest) = rest.split_at(rest.len() - header_bytes as usize);
        let mut record = PutRecord::new(key, data);
        for header in of_record {
            let (name, behind) = rest.split_at(header.name_bytes as usize);
            let (value, behind) = behind.split_at(header.value_bytes as usize);
            let name = std::str::from_utf8(name).expect("it was copied from a text");
            (record, rest) = (record.header(name, value), behind);
        }
        record
    }

    /// Returns how long ago the record at a place was put.
    pub(super) fn age(&self, at: u32, now: Timestamp) -> Duration {
        now.since(self.buffers.entries[at as usize].put_at)
    }

    pub(super) fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    pub(super) fn take_callback(&mut self, at: u32) -> Option<Callback> {
        self.buffers.entries[at as usize].callback.take()
    }

    /// Returns the memory for the next batch.
    pub(super) fn take_buffers(&mut self, bytes_max: usize) -> Buffers {
        let mut buffers = std::mem::take(&mut self.buffers);
        buffers.clear(bytes_max);
        buffers
    }
}
