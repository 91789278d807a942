//! What is read of a shard, counted by each iterator for itself, so that none waits for another and a batch costs a few stores.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Reader;
use crate::log::types::sequence::SequenceNumber;

/// What one iterator has read, and where it is. It alone writes; on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct ReadCount {
    next: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
}

impl ReadCount {
    /// Notes where the iterator goes on.
    #[inline]
    pub(super) fn go_to(&self, next: SequenceNumber) {
        self.next.store(next.get(), Ordering::Relaxed);
    }

    /// Notes what the iterator has read.
    #[inline]
    pub(super) fn add(&self, records: usize, bytes: u64) {
        self.records.store(self.records.load(Ordering::Relaxed) + records as u64, Ordering::Relaxed);
        self.bytes.store(self.bytes.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }
}

/// The iterators of a shard, and what those before them have read.
#[derive(Debug, Default)]
pub(in super::super) struct Reads {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    live: Vec<Arc<ReadCount>>,
    dropped: ReadTotals,
}

/// What was read of a shard since the stream was opened.
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
    /// Counts for a new iterator that begins at `next`.
    pub(super) fn begin(&self, next: SequenceNumber) -> Arc<ReadCount> {
        let count = Arc::new(ReadCount::default());
        count.go_to(next);
        self.state.lock().live.push(Arc::clone(&count));
        count
    }

    /// Deregisters an iterator, and adds up its counts.
    pub(super) fn end(&self, count: &Arc<ReadCount>) {
        let mut state = self.state.lock();
        if let Some(at) = state.live.iter().position(|other| Arc::ptr_eq(other, count)) {
            state.live.swap_remove(at);
            state.dropped = state.dropped.plus(count);
        }
    }

    /// What was read by all of them.
    pub(in super::super) fn totals(&self) -> ReadTotals {
        let state = self.state.lock();
        state.live.iter().fold(state.dropped, |all, count| all.plus(count))
    }

    /// Where the iterator is that is furthest behind.
    fn least_next(&self) -> Option<SequenceNumber> {
        let next = |count: &Arc<ReadCount>| SequenceNumber::new(count.next.load(Ordering::Relaxed));
        self.state.lock().live.iter().map(next).min()
    }
}

impl Reader {
    /// The age of the oldest record that an iterator has not read yet. Where that is damaged it is not known.
    pub(in super::super) fn iterator_age_ms(&self) -> Option<u64> {
        let next = self.reads.least_next()?.max(self.horizon());
        if next >= self.next_sequence() {
            return Some(0);
        }
        let found = self.find(next).ok().flatten()?;
        let arrived = found.window.timestamp_of(next).ok().flatten()?;
        Some(self.clock.now().since(arrived).as_millis() as u64)
    }
}
