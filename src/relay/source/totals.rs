//! The counts of a processor whose shards are processed one by one.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::ProcessorStats;

/// What processors of single shards have done together.
#[derive(Debug, Default)]
pub(in crate::relay) struct Totals {
    /// The counts of processors that have ended.
    ended: Mutex<ProcessorStats>,
    /// The last error that did not come from a processor.
    last_error: Mutex<Option<String>>,
}

impl Totals {
    pub(in crate::relay) fn note_error(&self, error: impl ToString) {
        *self.last_error.lock() = Some(error.to_string());
    }

    /// Adds the counts of a processor that ends.
    pub(in crate::relay) fn add(&self, stats: ProcessorStats) {
        let mut ended = self.ended.lock();
        *ended = std::mem::take(&mut *ended).plus(&ProcessorStats {
            shards: 0,
            running: 0,
            watermark: None,
            ..stats
        });
    }

    /// Returns the counts together with those of processors that run.
    pub(in crate::relay) fn with(&self, running: impl IntoIterator<Item = ProcessorStats>) -> ProcessorStats {
        let ended = self.ended.lock().clone();
        let mut all = running.into_iter().fold(ended, |all, stats| all.plus(&stats));
        if let Some(error) = &*self.last_error.lock() {
            all.last_error = Some(error.clone());
        }
        all
    }
}

/// Shared by a processor and those of its shards.
pub(in crate::relay) type SharedTotals = Arc<Totals>;
