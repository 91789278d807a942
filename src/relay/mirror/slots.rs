//! The state that the threads of a mirror share about the partitions: when to read which, and the counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::core;
use super::journal::PartitionState;
use super::origin::OriginReader;
use super::stats::{MirrorPartitionStats, MirrorStats};
use crate::{Error, Timestamp};

/// What the threads of a mirror know.
#[derive(Debug)]
pub(super) struct Slots {
    pub(super) by_id: BTreeMap<String, Slot>,
    /// When to list the partitions. `None` while a thread does.
    pub(super) list_at: Option<Instant>,
    pub(super) list_failures: u32,
    pub(super) has_listed: bool,
    /// How often a new list was wanted, and the value of this count when the last one was requested.
    pub(super) lists_wanted: u64,
    pub(super) lists_done: u64,
    pub(super) checkpoint_at: Duration,
    pub(super) is_stopped: bool,
    /// Why the mirror has ended by itself.
    pub(super) error: Option<Error>,
    pub(super) counts: Counts,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) throttled: u64,
    pub(super) skipped: u64,
    pub(super) failing_since: Option<Timestamp>,
    pub(super) last_error: Option<String>,
}

/// A partition that is listed, or was not read to its end.
pub(super) struct Slot {
    pub(super) parents: Vec<String>,
    pub(super) reader: Option<Box<dyn OriginReader>>,
    pub(super) is_busy: bool,
    pub(super) next_at: Instant,
    pub(super) behind_latest: Option<Duration>,
    pub(super) is_at_tip: bool,
    /// The origin has no such partition any more.
    pub(super) is_missing: bool,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("parents", &self.parents).finish_non_exhaustive()
    }
}

impl Slots {
    pub(super) fn new(checkpoint_at: Duration) -> Self {
        Self {
            by_id: BTreeMap::new(),
            list_at: Some(Instant::now()),
            list_failures: 0,
            has_listed: false,
            lists_wanted: 0,
            lists_done: 0,
            checkpoint_at,
            is_stopped: false,
            error: None,
            counts: Counts::default(),
        }
    }

    /// Requests a list of the partitions after this time. A list in progress may lack the partition that is wanted.
    pub(super) fn want_list(&mut self, after: Duration) {
        self.lists_wanted += 1;
        let at = Instant::now() + after;
        self.list_at = self.list_at.map(|known| known.min(at));
    }

    /// Returns what the mirror has done, and how far it is.
    pub(super) fn stats(
        &self,
        core: &core::Counts,
        positions: BTreeMap<String, PartitionState>,
    ) -> MirrorStats {
        let partitions = positions.into_iter().map(|(id, state)| {
            let behind_latest = self.by_id.get(&id).and_then(|slot| slot.behind_latest);
            MirrorPartitionStats {
                behind_latest: if state.is_ended { None } else { behind_latest },
                place: state.done().map(ToString::to_string),
                is_ended: state.is_ended,
                partition: id,
            }
        });
        MirrorStats {
            records: core.records,
            bytes: core.bytes,
            recognised: core.recognised,
            refused: core.refused,
            requests: self.counts.requests,
            throttled: self.counts.throttled,
            skipped: self.counts.skipped,
            partitions: partitions.collect(),
            failing_since: self.counts.failing_since,
            last_error: self.counts.last_error.clone(),
        }
    }
}

impl Slot {
    pub(super) fn new(parents: Vec<String>) -> Self {
        Self {
            parents,
            reader: None,
            is_busy: false,
            next_at: Instant::now(),
            behind_latest: None,
            is_at_tip: false,
            is_missing: false,
        }
    }
}
