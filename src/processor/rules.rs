//! The rules by which a processor forms batches, tries them again and gives them up.

use std::time::Duration;

use super::event_time::EventTime;
use crate::{Filter, Record, ShardId};

/// The rules of a lane.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) batch_records: usize,
    pub(super) batch_bytes: usize,
    pub(super) batching_window: Duration,
    pub(super) lanes: usize,
    /// How often a batch is tried again, or `None` for as long as its records are there.
    pub(super) retries: Option<u32>,
    pub(super) bisect: bool,
    pub(super) record_age_max: Option<Duration>,
    pub(super) first_pause: Duration,
    pub(super) longest_pause: Duration,
    pub(super) time_limit: Option<Duration>,
    pub(super) tumbling_window: Option<Duration>,
    /// Assigns records to windows by this, and not by their arrival.
    pub(super) event_time: Option<EventTime>,
    /// What is given up goes to a destination.
    pub(super) has_destination: bool,
    pub(super) filter: Option<Filter>,
    /// The most bytes that the states of all lanes of a shard may have.
    pub(super) states_bytes_max: usize,
    /// The shard elsewhere that the records come from, if they do.
    pub(super) origin: Option<ShardId>,
    /// A lane continues only once its work is committed.
    pub(super) commits_each: bool,
}

impl Rules {
    /// Returns whether the function wants the record.
    pub(super) fn accepts(&self, record: &Record<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(record))
    }

    /// Returns how many records are read at once: about a batch for each lane.
    pub(super) fn records_of_a_read(&self) -> usize {
        self.batch_records * self.lanes
    }

    /// Returns how many records a lane keeps ready.
    pub(super) fn queue_records_max(&self) -> usize {
        self.batch_records.saturating_mul(BATCHES_AHEAD)
    }

    /// Returns how much memory a lane keeps ready.
    pub(super) fn queue_bytes_max(&self) -> usize {
        self.batch_bytes.saturating_mul(2)
    }

    /// Returns how long to wait after this many failures in a row.
    pub(super) fn pause(&self, failures: u32) -> Duration {
        let doubled = failures.saturating_sub(1).min(31);
        self.first_pause.saturating_mul(1 << doubled).min(self.longest_pause)
    }
}

/// The most batches that a lane has ready, so that it does not wait for the thread that reads. That thread reads on while there are fewer than
/// half. In tests there are few, so that lanes are often full.
pub(super) const BATCHES_AHEAD: usize = if cfg!(test) { 2 } else { 16 };
