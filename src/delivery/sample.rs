//! The first records of a delivery whose schema is inferred from them: they wait here until it is decided.

use std::time::Duration;

use super::part::Part;
use super::transform::Finished;
use crate::ShardId;

/// This many records are enough, or this many bytes of them.
const RECORDS: usize = 1_000;
const BYTES: usize = 1 << 20;

/// Records that wait, with the rows that they have become.
#[derive(Debug, Default)]
pub(super) struct Sample {
    waiting: Vec<Finished>,
    records: usize,
    bytes: usize,
    /// When the first of them came.
    since: Duration,
}

impl Sample {
    pub(super) fn add(&mut self, finished: Finished, now: Duration) {
        if self.waiting.is_empty() {
            self.since = now;
        }
        let rows = finished.made.iter().flat_map(|made| &made.rows);
        self.bytes += rows.map(|row| row.data.len()).sum::<usize>();
        self.records += finished.made.len();
        self.waiting.push(finished);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns whether no more records are needed.
    pub(super) fn is_full(&self) -> bool {
        self.records >= RECORDS || self.bytes >= BYTES
    }

    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// Returns when the first of them has waited for as long as an object waits for more.
    pub(super) fn due(&self, interval: Duration) -> Option<Duration> {
        (!self.is_empty()).then(|| self.since + interval)
    }

    /// Returns whether records of a shard wait.
    pub(super) fn holds(&self, id: ShardId) -> bool {
        self.waiting.iter().any(|finished| finished.call.shard == id)
    }

    /// Forgets a shard that another worker has, or that is read again.
    pub(super) fn forget(&mut self, id: ShardId) {
        let others = std::mem::take(self);
        let others_waiting = others.waiting.into_iter().filter(|finished| finished.call.shard != id);
        others_waiting.for_each(|finished| self.add(finished, others.since));
    }

    /// Returns the rows that are to be in objects.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[u8]> {
        let rows = self.waiting.iter().flat_map(|finished| &finished.made).flat_map(|made| &made.rows);
        rows.filter(|row| matches!(row.part, Part::Records(_))).map(|row| &*row.data)
    }

    /// Takes what has waited, in the order in which it came.
    pub(super) fn take(&mut self) -> Vec<Finished> {
        std::mem::take(self).waiting
    }
}
