//! The lanes of one shard, which records go to which of them, and how far they are together.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lane::{Lane, Now, Saved};
use super::progress::{LaneProgress, Progress};
use super::rules::Rules;
use super::slice::Slice;
use super::stats::Counts;
use crate::{Batch, Record, SequenceNumber, ShardId};

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) lanes: Vec<Lane>,
    /// Everything below came, and is in a lane or was done before.
    pub(super) read_to: SequenceNumber,
    /// Nothing comes any more.
    pub(super) is_ended: bool,
    /// The worker reads no more of it until some lane has room.
    pub(super) is_paused: bool,
    /// How far the lanes were when the shard was taken over. What was done then comes again and is left out.
    done: Vec<SequenceNumber>,
    /// What was committed last.
    pub(super) committed: (SequenceNumber, Vec<u8>),
}

/// Returns which of so many lanes a record goes to, by its key.
pub(super) fn lane_of(record: &Record<'_>, lanes: usize) -> usize {
    match lanes {
        1 => 0,
        lanes => (xxhash_rust::xxh3::xxh3_64(record.partition_key()) % lanes as u64) as usize,
    }
}

impl Shard {
    /// Takes over a shard, as its last commit has left it.
    pub(super) fn new(id: ShardId, rules: &Rules, committed: Option<Progress>) -> Self {
        let committed = committed.unwrap_or_default();
        let encoded = committed.encode();
        let Progress { next, lanes } = committed;
        // What is known of a lane is known of its keys. So the lanes stay, whatever the setting is now.
        let count = if lanes.is_empty() { rules.lanes } else { lanes.len() };
        let done = lanes.iter().map(|lane| lane.done).collect();
        let mut windows = lanes.into_iter().map(|lane| lane.window);
        let lanes = (0..count).map(|_| Lane::new(id, count, windows.next().flatten())).collect();
        Self { lanes, read_to: next, is_ended: false, is_paused: false, done, committed: (next, encoded) }
    }

    /// Adds the records of a batch to the lanes. Returns the lanes that got some.
    pub(super) fn push(&mut self, batch: Batch, rules: &Rules, now: Now, counts: &mut Counts) -> Vec<usize> {
        let (Some(first), Some(last)) = (batch.first_sequence(), batch.last_sequence()) else {
            return vec![];
        };
        self.read_to = last.plus(1);
        self.is_ended |= batch.child_shards().is_some();
        if self.done.iter().all(|&done| done <= first) {
            self.done.clear();
            if self.lanes.len() != rules.lanes && self.is_settled() {
                let count = rules.lanes;
                self.lanes = (0..count).map(|_| Lane::new(batch.shard(), count, None)).collect();
            }
        }
        let batch = Arc::new(batch);
        if self.lanes.len() == 1 && rules.filter.is_none() && self.done.is_empty() {
            return self.give(0, Slice::all(batch), first, rules, now);
        }
        let picked = self.pick(&batch, rules, counts);
        let mut fed = vec![];
        for (lane, places) in picked {
            let first = first.plus(u64::from(places.first().copied().unwrap_or_default()));
            fed.extend(self.give(lane, Slice::picked(&batch, places), first, rules, now));
        }
        fed
    }

    /// Returns which records go to which lane, by their places in the batch.
    fn pick(&self, batch: &Batch, rules: &Rules, counts: &mut Counts) -> BTreeMap<usize, Vec<u32>> {
        let mut picked: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for (place, record) in batch.iter().enumerate() {
            let lane = lane_of(&record, self.lanes.len());
            if self.done.get(lane).is_some_and(|&done| record.sequence() < done) {
                continue;
            }
            if !rules.accepts(&record) {
                counts.filtered += 1;
                continue;
            }
            picked.entry(lane).or_default().push(place as u32);
        }
        picked
    }

    fn give(
        &mut self,
        at: usize,
        slice: Option<Slice>,
        first: SequenceNumber,
        rules: &Rules,
        now: Now,
    ) -> Vec<usize> {
        let (Some(lane), Some(slice)) = (self.lanes.get_mut(at), slice) else { return vec![] };
        if lane.behind.is_some() || lane.is_full(rules) {
            lane.behind.get_or_insert(first);
            return vec![];
        }
        lane.push(slice, now);
        vec![at]
    }

    /// Gives a lane that is behind records that were read again. Returns whether it has all by now, or is full.
    pub(super) fn push_again(&mut self, at: usize, batch: Batch, rules: &Rules, now: Now) -> bool {
        let (count, read_to) = (self.lanes.len(), self.read_to);
        let Some(lane) = self.lanes.get_mut(at) else { return true };
        let next = batch.last_sequence().map_or(read_to, |last| last.plus(1).min(read_to));
        let is_ours = |record: &Record<'_>| {
            record.sequence() < read_to && lane_of(record, count) == at && rules.accepts(record)
        };
        let places = batch.iter().enumerate().filter(|(_, record)| is_ours(record));
        let places = places.map(|(place, _)| place as u32).collect();
        if let Some(slice) = Slice::picked(&Arc::new(batch), places) {
            lane.push(slice, now);
        }
        lane.behind = (next < read_to).then_some(next);
        lane.behind.is_none() || lane.is_full(rules)
    }

    /// Gives up what a lane is behind. Returns how many records that are at most.
    pub(super) fn drop_behind(&mut self, at: usize) -> u64 {
        let behind = self.lanes.get_mut(at).and_then(|lane| lane.behind.take());
        behind.map_or(0, |from| self.read_to.get().saturating_sub(from.get()))
    }

    /// Returns whether some lane should get more.
    pub(super) fn has_room(&self, rules: &Rules) -> bool {
        self.lanes.iter().any(|lane| lane.has_room(rules))
    }

    /// Returns whether everything is done that came, and no window is open.
    pub(super) fn is_settled(&self) -> bool {
        self.lanes.iter().all(|lane| lane.is_idle() && !lane.has_window())
    }

    /// Returns what to commit: how far all lanes are, and what goes with it.
    pub(super) fn progress(&self) -> Progress {
        let saved: Vec<Saved> = self.lanes.iter().map(Lane::saved).collect();
        let next = saved.iter().filter_map(|saved| saved.first_open).min().unwrap_or(self.read_to);
        let lanes = saved.into_iter().map(|saved| LaneProgress {
            done: saved.first_open.unwrap_or(self.read_to),
            window: saved.window,
        });
        Progress { next, lanes: lanes.collect() }
    }
}
