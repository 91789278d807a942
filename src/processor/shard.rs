//! The lanes of one shard, which records go to which of them, and how far they are together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::event_time::Input;
use super::lane::{Behind, Lane, Saved};
use super::progress::{LaneProgress, Progress};
use super::rules::Rules;
use super::seen::{Now, Seen};
use super::slice::Slice;
use super::stats::Counts;
use super::windows::Windows;
use crate::{Record, SequenceNumber, ShardId, Timestamp};

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) lanes: Vec<Lane>,
    /// Everything below came, and is in a lane or was done before.
    pub(super) read_to: SequenceNumber,
    /// The watermark there, by event time.
    pub(super) watermark: Timestamp,
    /// When the last record came that the function wants, or the shard was taken over.
    last_came: Duration,
    /// Everything that arrived before this moment is in a lane, or behind. It does not move while the shard is not read: what comes then is in none.
    pub(super) read_until: Now,
    /// Nothing more comes.
    pub(super) is_ended: bool,
    /// The worker reads no more of it until some lane has room.
    pub(super) is_paused: bool,
    /// How far the lanes were when the shard was taken over. What was done then comes again and is left out.
    done: Vec<SequenceNumber>,
    /// What was committed last.
    pub(super) committed: (SequenceNumber, Vec<u8>),
}

/// Returns which of this many lanes a record goes to, by its key.
pub(super) fn lane_of(record: &Record<'_>, lanes: usize) -> usize {
    match lanes {
        1 => 0,
        lanes => (xxhash_rust::xxh3::xxh3_64(record.partition_key()) % lanes as u64) as usize,
    }
}

impl Shard {
    /// Takes over a shard, as its last commit has left it.
    pub(super) fn new(id: ShardId, rules: &Rules, committed: Option<Progress>, now: Now) -> Self {
        let committed = committed.unwrap_or_default();
        let encoded = committed.encode();
        let Progress { next, watermark, lanes } = committed;
        // What is known of a lane applies to its keys. So the lanes stay, whatever the setting is now.
        let count = if lanes.is_empty() { rules.lanes } else { lanes.len() };
        let done = lanes.iter().map(|lane| lane.done).collect();
        let mut windows = lanes.into_iter().map(|lane| lane.windows);
        let lanes =
            (0..count).map(|_| Lane::new(id, count, windows.next().unwrap_or_default(), rules)).collect();
        Self {
            lanes,
            read_to: next,
            watermark,
            last_came: now.elapsed,
            read_until: Now::default(),
            is_ended: false,
            is_paused: false,
            done,
            committed: (next, encoded),
        }
    }

    /// Adds the records of a batch to the lanes. Returns the lanes that got some, and those with windows that are over now.
    pub(super) fn push(
        &mut self,
        mut input: Input,
        rules: &Rules,
        now: Now,
        counts: &mut Counts,
    ) -> Vec<usize> {
        let (Some(first), Some(last)) = (input.batch.first_sequence(), input.batch.last_sequence()) else {
            return vec![];
        };
        self.read_to = last.plus(1);
        if self.done.iter().all(|&done| done <= first) {
            self.done.clear();
            if self.lanes.len() != rules.lanes && self.is_settled() {
                self.set_lanes(input.batch.shard(), rules);
            }
        }
        if input.raise(&mut self.watermark, self.read_to, rules) {
            self.last_came = now.elapsed;
        }
        let input = Arc::new(input);
        if self.lanes.len() == 1 && rules.filter.is_none() && self.done.is_empty() {
            return self.give(0, Slice::all(input), first, rules, now);
        }
        let picked = self.pick(&input, rules, counts);
        let mut fed = vec![];
        for (lane, places) in picked {
            let first = first.plus(u64::from(places.first().copied().unwrap_or_default()));
            fed.extend(self.give(lane, Slice::picked(&input, places), first, rules, now));
        }
        let is_over = |lane: &Lane| lane.windows().first_end().is_some_and(|end| end <= self.watermark);
        fed.extend(self.lanes.iter().enumerate().filter(|(_, lane)| is_over(lane)).map(|(at, _)| at));
        fed
    }

    /// Begins anew with another number of lanes.
    fn set_lanes(&mut self, id: ShardId, rules: &Rules) {
        // What is late stays late.
        let ended_to = self.lanes.iter().map(|lane| lane.windows().ended_to()).max().unwrap_or_default();
        let lane = |_| Lane::new(id, rules.lanes, Windows::new(vec![], ended_to), rules);
        self.lanes = (0..rules.lanes).map(lane).collect();
    }

    /// Returns which records go to which lane, by their places in the batch.
    fn pick(&self, input: &Input, rules: &Rules, counts: &mut Counts) -> BTreeMap<usize, Vec<u32>> {
        let mut picked: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for (place, record) in input.batch.iter().enumerate() {
            let lane = lane_of(&record, self.lanes.len());
            if self.done.get(lane).is_some_and(|&done| record.sequence() < done) {
                continue;
            }
            if !input.is_wanted(place, &record, rules) {
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
            lane.behind.get_or_insert(Behind { from: first, watermark: slice.watermark() });
            return vec![];
        }
        lane.push(slice, now);
        vec![at]
    }

    /// Gives reread records to a lane that is behind. Returns whether it now has all of them, or is full.
    pub(super) fn push_again(&mut self, at: usize, mut input: Input, rules: &Rules, now: Now) -> bool {
        let (count, read_to) = (self.lanes.len(), self.read_to);
        let Some(lane) = self.lanes.get_mut(at) else { return true };
        let Some(Behind { mut watermark, .. }) = lane.behind else { return true };
        let next = input.batch.last_sequence().map_or(read_to, |last| last.plus(1).min(read_to));
        input.raise(&mut watermark, read_to, rules);
        let is_ours = |place: usize, record: &Record<'_>| {
            record.sequence() < read_to
                && lane_of(record, count) == at
                && input.is_wanted(place, record, rules)
        };
        let places = input.batch.iter().enumerate().filter(|(place, record)| is_ours(*place, record));
        let places = places.map(|(place, _)| place as u32).collect();
        if let Some(slice) = Slice::picked(&Arc::new(input), places) {
            lane.push(slice, now);
        }
        lane.behind = (next < read_to).then_some(Behind { from: next, watermark });
        lane.behind.is_none() || lane.is_full(rules)
    }

    /// Gives up the records that a lane is behind with. Returns how many these are at most.
    pub(super) fn drop_behind(&mut self, at: usize) -> u64 {
        let behind = self.lanes.get_mut(at).and_then(|lane| lane.behind.take());
        behind.map_or(0, |behind| self.read_to.get().saturating_sub(behind.from.get()))
    }

    /// Returns whether some lane should get more.
    pub(super) fn has_room(&self, rules: &Rules) -> bool {
        self.lanes.iter().any(|lane| lane.has_room(rules))
    }

    /// Returns whether everything that came is done, and no window is open.
    pub(super) fn is_settled(&self) -> bool {
        self.lanes.iter().all(|lane| lane.is_idle() && lane.windows().is_empty())
    }

    /// Returns what its lanes have to know of it, besides their records.
    pub(super) fn seen(&self) -> Seen {
        Seen {
            read_until: self.read_until,
            watermark: self.watermark,
            last_came: self.last_came,
            is_last: self.is_ended,
        }
    }

    /// Returns what to commit: how far all lanes are, and what goes with it.
    pub(super) fn progress(&self) -> Progress {
        let saved: Vec<Saved> = self.lanes.iter().map(Lane::saved).collect();
        let is_done = |saved: &Saved| saved.first_open.is_none() && saved.windows.is_empty();
        if self.is_ended && saved.iter().all(is_done) {
            // The worker finishes a shard that has nothing to remember.
            return Progress { next: self.read_to, ..Progress::default() };
        }
        let first_open = saved.iter().filter_map(|saved| saved.first_open).min();
        let (next, watermark) = first_open.unwrap_or((self.read_to, self.watermark));
        let lanes = saved.into_iter().enumerate().map(|(at, saved)| {
            // A lane without open records has done all that was read, and what it had done when the shard was taken over: the states of its
            // windows include that, although it has not been reread yet.
            let done_before = self.done.get(at).copied().unwrap_or_default();
            let all = self.read_to.max(done_before);
            LaneProgress { done: saved.first_open.map_or(all, |(first, _)| first), windows: saved.windows }
        });
        Progress { next, watermark, lanes: lanes.collect() }
    }
}
