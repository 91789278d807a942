//! A lane: the batches that wait for one sender.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::batch::{BATCH_BYTES, Batch, Buffers, Callback, bytes_of};
use super::budget::Budget;
use super::pending::PendingReceipt;
use crate::{Error, PutRecord, Result, Timestamp};

/// When a batch is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) bytes: usize,
    pub(super) count: usize,
    pub(super) linger: Duration,
}

/// The batches of one sender, in the order in which it sends them. All records of a hash key go through one lane.
#[derive(Default)]
pub(super) struct Lane {
    state: Mutex<State>,
    /// Notified when the sender may have something to do.
    work: Condvar,
    /// Notified when records have got their outcome.
    progress: Condvar,
}

#[derive(Default)]
struct State {
    full: VecDeque<Batch>,
    /// The batch that takes records.
    open: Batch,
    /// Whether the open batch must not linger.
    is_hurried: bool,
    is_closing: bool,
    spare: Option<Buffers>,
    put_count: u64,
    done_count: u64,
}

impl State {
    /// Begins the next batch, and returns the one that was open.
    fn begin(&mut self) -> Batch {
        self.is_hurried = false;
        let buffers = self.spare.take().unwrap_or_default();
        std::mem::replace(&mut self.open, Batch::new(buffers))
    }

    fn seal(&mut self) {
        let mut batch = self.begin();
        batch.trim();
        self.full.push_back(batch);
    }
}

impl Lane {
    /// Adds a record, which holds `charge` bytes of the budget from then on.
    ///
    /// # Errors
    /// `Closed`
    #[inline]
    pub(super) fn push(
        &self,
        record: &PutRecord<'_>,
        callback: Option<Callback>,
        put_at: Timestamp,
        charge: usize,
        limits: &Limits,
        budget: &Budget,
    ) -> Result<PendingReceipt> {
        let record_bytes = bytes_of(record);
        let mut state = self.state.lock();
        if state.is_closing {
            return Err(Error::Closed);
        }
        let mut has_work = false;
        if !state.open.is_empty() && state.open.bytes() + record_bytes > limits.bytes {
            state.seal();
            has_work = true;
        }
        if state.open.is_empty() {
            has_work = true;
            budget.overdraw(BATCH_BYTES);
            state.open.charge = BATCH_BYTES;
            state.open.began_at = (!limits.linger.is_zero()).then(Instant::now);
        }
        let pending = state.open.push(record, callback, put_at, limits.bytes);
        state.open.charge += charge;
        state.put_count += 1;
        if state.open.len() >= limits.count || state.open.bytes() >= limits.bytes {
            state.seal();
            has_work = true;
        } else if budget.is_wanted() {
            state.is_hurried = true;
            has_work = true;
        }
        drop(state);
        if has_work {
            self.work.notify_one();
        }
        Ok(pending)
    }

    /// Makes the sender send everything in the lane without lingering. Returns how many records were put so far.
    pub(super) fn hurry(&self) -> u64 {
        let mut state = self.state.lock();
        state.is_hurried = !state.open.is_empty();
        let put_count = state.put_count;
        drop(state);
        self.work.notify_one();
        put_count
    }

    /// Stops taking records, and sends everything in the lane. Returns how many records were put so far.
    pub(super) fn close(&self) -> u64 {
        self.state.lock().is_closing = true;
        self.hurry()
    }

    /// Waits until `count` records have their outcome.
    pub(super) fn wait_until_done(&self, count: u64) {
        let mut state = self.state.lock();
        while state.done_count < count {
            self.progress.wait(&mut state);
        }
    }

    /// Returns the next batch for the sender once it is due, or `None` once the lane is closed and empty.
    pub(super) fn next(&self, linger: Duration) -> Option<Batch> {
        let mut state = self.state.lock();
        loop {
            if let Some(batch) = state.full.pop_front() {
                return Some(batch);
            }
            if state.open.is_empty() {
                if state.is_closing {
                    return None;
                }
                self.work.wait(&mut state);
                continue;
            }
            let began_at = state.open.began_at.filter(|_| !state.is_hurried && !state.is_closing);
            let Some(began_at) = began_at else { return Some(state.begin()) };
            match began_at.checked_add(linger) {
                // A time beyond the range of `Instant` is never reached.
                None => self.work.wait(&mut state),
                Some(due) if Instant::now() >= due => return Some(state.begin()),
                Some(due) => drop(self.work.wait_until(&mut state, due)),
            }
        }
    }

    /// Records that a whole batch has its outcomes, and keeps its memory for another.
    pub(super) fn finish(&self, count: usize, buffers: Buffers) {
        let mut state = self.state.lock();
        state.done_count += count as u64;
        state.spare = Some(buffers);
        drop(state);
        self.progress.notify_all();
    }

    /// Takes no more records, and returns all batches, for a sender that cannot continue.
    pub(super) fn abandon(&self) -> Vec<Batch> {
        let mut state = self.state.lock();
        state.is_closing = true;
        let open = state.begin();
        let mut left: Vec<_> = state.full.drain(..).collect();
        left.extend((!open.is_empty()).then_some(open));
        left
    }
}
