//! Records that are sent together, with their bytes in one place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pending::{Outcomes, PendingReceipt};
use crate::{HashKey, PutRecord, Receipt, Result, Timestamp};

/// What is called with a record's outcome.
pub(super) type Callback = Box<dyn FnOnce(Result<Receipt>) + Send>;

/// What a record takes of the buffer beyond its key and data.
pub(super) const RECORD_BYTES: usize = 128;
/// What a batch takes beyond its records.
pub(super) const BATCH_BYTES: usize = 512;

// A list that grows may be twice as long as it needs to be.
const _: () = assert!(2 * size_of::<Entry>() <= RECORD_BYTES);
const _: () = assert!(2 * size_of::<Batch>() <= BATCH_BYTES);

/// A record of a batch, without its bytes.
struct Entry {
    /// Where its bytes end; they begin where those of the one before end.
    end: u32,
    key_bytes: u16,
    put_at: Timestamp,
    hash_key: Option<HashKey>,
    callback: Option<Callback>,
}

/// The memory of a batch, to be used again for another.
#[derive(Default)]
pub(super) struct Buffers {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl Buffers {
    /// Empties them, and lets go of what a record that was larger than a batch may be has left.
    fn clear(&mut self, bytes_max: usize) {
        self.entries.clear();
        self.bytes.clear();
        if self.bytes.capacity() > bytes_max {
            self.bytes = vec![];
        }
    }
}

/// Records in the order of their puts.
#[derive(Default)]
pub(super) struct Batch {
    buffers: Buffers,
    outcomes: Arc<Outcomes>,
    /// When the first record came, if it may linger.
    pub(super) began_at: Option<Instant>,
    /// What it holds of the budget.
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

    /// The bytes of the keys and the data.
    pub(super) fn bytes(&self) -> usize {
        self.buffers.bytes.len()
    }

    /// Copies a record into the batch.
    ///
    /// `bytes_max` is what a batch is meant to hold, so that no more is allocated for one that is nearly full.
    #[inline]
    pub(super) fn push(
        &mut self,
        record: &PutRecord<'_>,
        callback: Option<Callback>,
        put_at: Timestamp,
        bytes_max: usize,
    ) -> PendingReceipt {
        let (key, data) = (record.partition_key(), record.data());
        let Buffers { bytes, entries } = &mut self.buffers;
        let needed = bytes.len() + key.len() + data.len();
        if needed > bytes.capacity() {
            let wanted = needed.max(bytes_max.min(bytes.capacity() * 2));
            bytes.reserve_exact(wanted - bytes.len());
        }
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(data);
        let at = entries.len() as u32;
        let (end, key_bytes, hash_key) = (needed as u32, key.len() as u16, record.hash_key());
        entries.push(Entry { end, key_bytes, put_at, hash_key, callback });
        PendingReceipt { outcomes: Arc::clone(&self.outcomes), at }
    }

    /// Gives back what a batch that takes no more records does not need: it may wait among many, and counts only with what it holds.
    pub(super) fn trim(&mut self) {
        let Buffers { bytes, entries } = &mut self.buffers;
        if bytes.capacity() - bytes.len() > bytes.capacity() / 8 {
            bytes.shrink_to_fit();
        }
        if entries.capacity() > 2 * entries.len() {
            entries.shrink_to_fit();
        }
    }

    /// The record at a place.
    #[inline]
    pub(super) fn record(&self, at: u32) -> PutRecord<'_> {
        let Buffers { bytes, entries } = &self.buffers;
        let entry = &entries[at as usize];
        let start = at.checked_sub(1).map_or(0, |before| entries[before as usize].end);
        let (key, data) = bytes[start as usize..entry.end as usize].split_at(entry.key_bytes.into());
        let record = PutRecord::new(key, data);
        entry.hash_key.map_or(record, |hash_key| record.explicit_hash_key(hash_key))
    }

    /// How long the record at a place has been here.
    pub(super) fn age(&self, at: u32, now: Timestamp) -> Duration {
        now.since(self.buffers.entries[at as usize].put_at)
    }

    pub(super) fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    pub(super) fn take_callback(&mut self, at: u32) -> Option<Callback> {
        self.buffers.entries[at as usize].callback.take()
    }

    /// The memory for the next batch.
    pub(super) fn take_buffers(&mut self, bytes_max: usize) -> Buffers {
        let mut buffers = std::mem::take(&mut self.buffers);
        buffers.clear(bytes_max);
        buffers
    }
}
