//! Counts of what was read of a shard, kept by each iterator for itself so that no reader waits for another and a batch costs a few stores.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Reader;
use crate::log::types::sequence::SequenceNumber;

/// The counts and the place of one iterator. Only that iterator writes them, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct ReadCount {
    next: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
}

impl ReadCount {
    /// Records where the iterator continues.
    #[inline]
    pub(super) fn go_to(&self, next: SequenceNumber) {
        self.next.store(next.get(), Ordering::Relaxed);
    }

    /// Adds what the iterator has read.
    #[inline]
    pub(super) fn add(&self, records: usize, bytes: u64) {
        self.records.store(self.records.load(Ordering::Relaxed) + records as u64, Ordering::Relaxed);
        self.bytes.store(self.bytes.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }
}

/// The iterators of a shard, and the totals of those already dropped.
#[derive(Debug, Default)]
pub(in super::super) struct Reads {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    live: Vec<Arc<ReadCount>>,
    dropped: ReadTotals,
}

/// The records and bytes read from a shard since the stream was opened.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct ReadTotals {
    pub(in super::super) records: u64,
    pub(in super::super) bytes: u64,
}

impl ReadTotals {
    fn plus(self, count: &ReadCount) -> Self {
        Self {
            records: self.records + count.records.load(Ordering::Relaxed),
            bytes: self.bytes + count.bytes.load(Ordering::Relaxed),
        }
    }
}

impl Reads {
    /// Registers a new iterator that begins at `next` and returns its counts.
    pub(super) fn begin(&self, next: SequenceNumber) -> Arc<ReadCount> {
        let count = Arc::new(ReadCount::default());
        count.go_to(next);
        self.state.lock().live.push(Arc::clone(&count));
        count
    }

    /// Deregisters an iterator and adds up its counts.
    pub(super) fn end(&self, count: &Arc<ReadCount>) {
        let mut state = self.state.lock();
        if let Some(at) = state.live.iter().position(|other| Arc::ptr_eq(other, count)) {
            state.live.swap_remove(at);
            state.dropped = state.dropped.plus(count);
        }
    }

    /// Returns what all iterators have read.
    pub(in super::super) fn totals(&self) -> ReadTotals {
        let state = self.state.lock();
        state.live.iter().fold(state.dropped, |all, count| all.plus(count))
    }

    /// Returns the place of the iterator that is furthest behind.
    fn least_next(&self) -> Option<SequenceNumber> {
        let next = |count: &Arc<ReadCount>| SequenceNumber::new(count.next.load(Ordering::Relaxed));
        self.state.lock().live.iter().map(next).min()
    }
}

impl Reader {
    /// Returns the age of the oldest record that an iterator has not read yet, or `None` if that record is damaged or the shard has no
    /// iterator.
    pub(in super::super) fn iterator_age_ms(&self) -> Option<u64> {
        let next = self.reads.least_next()?.max(self.horizon());
        if next >= self.next_sequence() {
            return Some(0);
        }
        Some(self.age_at(next).ok().flatten()?.as_millis() as u64)
    }
}
