//! A batch on its way: what is left of it, the contents of the next request, and the effects of answers.
//!
//! It sends nothing itself, so it is tested without a network.
//!
//! **The order of each key:** at most one Kinesis record of a request contains records of a given key. It contains the first ones that are left of
//! the key, and the rest are not sent before these are stored. So whatever fails, later records of the key never overtake earlier ones.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::put_prepare::Item;
use super::put_shards::Shards;
use crate::aggregate::{Aggregate, Aggregator};
use crate::{HashKey, HashKeyRange, KeyHash, PutRecord, SequenceNumber};

/// The most that a user record takes in an aggregate besides its key and its data: both with their tags and lengths, the text of a hash key, and
/// numbers of both.
const ENTRY_BYTES_MAX: usize = 80;

/// How large a request may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) records: usize,
    pub(super) bytes: usize,
    /// How large an aggregate may be, if records are to be aggregated.
    pub(super) aggregate_bytes: Option<usize>,
}

/// What is left of the records of a key, in order.
#[derive(Debug, Default)]
struct Queue<'a> {
    items: VecDeque<Item<'a>>,
    failures: u32,
    /// It pauses until then, after a failure.
    not_before: Duration,
}

/// What is left of a batch.
#[derive(Debug, Default)]
pub(super) struct Batch<'a> {
    queues: Vec<Queue<'a>>,
    /// The queues that are not empty, in order of their first record.
    live: Vec<usize>,
    by_key: HashMap<Cow<'a, str>, usize>,
    /// Records are no longer aggregated, because the shards that aggregates went to are unknown.
    is_plain: bool,
}

/// A record of Kinesis that is to be sent.
#[derive(Debug)]
pub(super) struct Unit {
    /// The queues that its items come from, and how many from each, counted from the front.
    members: Vec<(usize, usize)>,
    pub(super) partition_key: String,
    pub(super) explicit_hash_key: Option<HashKey>,
    /// Where it goes.
    pub(super) hash: HashKey,
    pub(super) data: Vec<u8>,
    /// What counts against limits: the bytes of key and data.
    pub(super) bytes: usize,
    /// The data is an aggregate, of this relay or another producer.
    pub(super) is_aggregate: bool,
}

/// The contents of the next request.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) units: Vec<Unit>,
    /// When more may be sent, if the rest pauses or its shard has reached its limits.
    pub(super) next_at: Option<Duration>,
    /// The limits of a shard prevented more from being sent.
    pub(super) is_paced: bool,
}

/// An aggregate that is being filled.
struct Open {
    aggregator: Aggregator,
    members: Vec<(usize, usize)>,
    hash: HashKey,
    /// What counts against limits, at most.
    bytes: usize,
}

/// Makes a plan.
struct Planner<'p> {
    limits: Limits,
    shards: &'p mut Shards,
    now: Duration,
    plan: Plan,
    /// By the shard, and by the key if that is not known.
    open: BTreeMap<(Option<usize>, usize), Open>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    /// Returns a batch of items that are in order.
    pub(super) fn new(items: impl IntoIterator<Item = Item<'a>>) -> Self {
        let mut batch = Self::default();
        for item in items {
            let at = batch.queue_of(&item);
            batch.queues[at].items.push_back(item);
        }
        batch
    }

    fn queue_of(&mut self, item: &Item<'a>) -> usize {
        if let Some(&at) = self.by_key.get(&*item.partition_key) {
            return at;
        }
        let at = self.queues.len();
        self.by_key.insert(item.partition_key.clone(), at);
        self.queues.push(Queue::default());
        self.live.push(at);
        at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Returns the first record of which something is left.
    pub(super) fn first_left(&self) -> Option<SequenceNumber> {
        let firsts = self.live.iter().filter_map(|&at| self.queues[at].items.front());
        firsts.map(|item| item.sequence).min()
    }

    /// Returns whether some of what is left is an aggregate of another producer.
    pub(super) fn has_aggregates(&self) -> bool {
        self.live.iter().any(|&at| self.queues[at].items.iter().any(|item| item.is_aggregate))
    }

    /// Returns the contents of the next request, and counts them against the limits of their shards.
    pub(super) fn plan(&mut self, limits: Limits, shards: &mut Shards, now: Duration) -> Plan {
        self.unpack_foreign(shards);
        let limits = Limits { aggregate_bytes: limits.aggregate_bytes.filter(|_| !self.is_plain), ..limits };
        let (plan, open) = (Plan::default(), BTreeMap::new());
        let mut planner = Planner { limits, shards, now, plan, open, bytes: 0 };
        for &at in &self.live {
            let queue = &self.queues[at];
            if queue.not_before > now {
                planner.wait_until(queue.not_before);
                continue;
            }
            if !planner.add(at, queue) {
                break;
            }
        }
        planner.finish()
    }

    /// Replaces aggregates of other producers by their user records, unless all of these belong to the target shard: readers drop those that do not.
    fn unpack_foreign(&mut self, shards: &Shards) {
        let is_plain = self.is_plain;
        let is_foreign = |item: &Item<'_>| {
            let range = || shards.range_at(shards.place(item.hash));
            item.is_aggregate && (is_plain || range().is_none_or(|range| !is_within(&item.data, range)))
        };
        let mut unpacked: Vec<Item<'a>> = vec![];
        for &at in &self.live {
            let items = &mut self.queues[at].items;
            if items.iter().any(is_foreign) {
                let (foreign, kept): (Vec<_>, _) = std::mem::take(items).into_iter().partition(is_foreign);
                *items = kept.into();
                unpacked.extend(foreign.iter().flat_map(Item::user_records));
            }
        }
        for item in unpacked {
            let at = self.queue_of(&item);
            let items = &mut self.queues[at].items;
            // Behind those of the same record, which come in order.
            let behind = items.partition_point(|other| other.sequence <= item.sequence);
            items.insert(behind, item);
            if !self.live.contains(&at) {
                self.live.push(at);
            }
        }
        self.retain_live();
    }

    fn retain_live(&mut self) {
        self.live.retain(|&at| !self.queues[at].items.is_empty());
    }

    /// Notes that a unit is stored in the shard that owns these hash keys, if known. Returns whether readers accept it there: they drop an aggregate
    /// that does not belong to the shard as a whole. Its records then stay in the batch, and are sent again.
    pub(super) fn settle(&mut self, unit: &Unit, range: Option<HashKeyRange>) -> bool {
        if unit.is_aggregate {
            let is_taken = match range {
                Some(range) => is_within(&unit.data, range),
                None => self.is_of_one_hash(unit),
            };
            if !is_taken {
                self.is_plain |= range.is_none();
                return false;
            }
        }
        self.finish(unit);
        true
    }

    fn is_of_one_hash(&self, unit: &Unit) -> bool {
        let mut items = unit.members.iter().flat_map(|&(at, count)| self.queues[at].items.iter().take(count));
        items.all(|item| !item.is_aggregate && item.hash == unit.hash)
    }

    /// Notes that a unit has failed. Its records pause for as long as `pause` returns for this many failures in a row.
    pub(super) fn fail(&mut self, unit: &Unit, now: Duration, pause: impl Fn(u32) -> Duration) {
        for &(at, _) in &unit.members {
            let queue = &mut self.queues[at];
            queue.failures += 1;
            queue.not_before = now + pause(queue.failures);
        }
    }

    /// Returns the records of a unit.
    pub(super) fn sequences(&self, unit: &Unit) -> Vec<SequenceNumber> {
        let items = unit.members.iter().flat_map(|&(at, count)| self.queues[at].items.iter().take(count));
        items.map(|item| item.sequence).collect()
    }

    /// Removes the records of a unit as done.
    pub(super) fn finish(&mut self, unit: &Unit) {
        for &(at, count) in &unit.members {
            let queue = &mut self.queues[at];
            queue.items.drain(..count);
            (queue.failures, queue.not_before) = (0, Duration::ZERO);
        }
    }

    /// Forgets keys without remaining records.
    pub(super) fn clean_up(&mut self) {
        self.retain_live();
    }
}

/// Returns whether all user records of an aggregate belong to the shard that owns these hash keys.
fn is_within(data: &[u8], range: HashKeyRange) -> bool {
    Aggregate::decode_within(data, range, KeyHash::Md5).is_none_or(|aggregate| !aggregate.is_foreign())
}

impl Planner<'_> {
    fn wait_until(&mut self, at: Duration) {
        let next = self.plan.next_at.get_or_insert(at);
        *next = (*next).min(at);
    }

    /// Adds the records of a key that may be sent. Returns whether the request has room for others.
    fn add(&mut self, at: usize, queue: &Queue<'_>) -> bool {
        let mut added = 0;
        for item in &queue.items {
            let place = self.shards.place(item.hash);
            let slot = (place, if place.is_none() { at } else { 0 });
            let is_added = match self.limits.aggregate_bytes {
                Some(most) if !item.is_aggregate && item.bytes() + ENTRY_BYTES_MAX <= most => {
                    self.add_to_aggregate(at, slot, item, added == 0)
                }
                _ if added == 0 => self.add_alone(at, place, item).map(|()| false),
                _ => Ok(false),
            };
            match is_added {
                Ok(true) => added += 1,
                Ok(false) => return true,
                Err(Full) => return false,
            }
        }
        true
    }

    /// Returns whether the request, and the shard at a place, have room for these bytes in another record, or beside `open` bytes in one.
    fn has_room(&mut self, place: Option<usize>, bytes: usize, open: Option<usize>) -> Result<bool, Full> {
        let is_empty = self.plan.units.is_empty() && self.open.is_empty();
        let is_too_many = open.is_none() && self.plan.units.len() + self.open.len() >= self.limits.records;
        // A record larger than the limit of requests is sent alone.
        if is_too_many || (!is_empty && self.bytes + bytes > self.limits.bytes) {
            return Err(Full);
        }
        let wait = self.shards.wait(place, open.unwrap_or_default() + bytes, self.now);
        if !wait.is_zero() {
            self.wait_until(self.now + wait);
            self.plan.is_paced = true;
        }
        Ok(wait.is_zero())
    }

    fn add_alone(&mut self, at: usize, place: Option<usize>, item: &Item<'_>) -> Result<(), Full> {
        if self.has_room(place, item.bytes(), None)? {
            self.push(
                place,
                Unit {
                    members: vec![(at, 1)],
                    partition_key: item.partition_key.clone().into_owned(),
                    explicit_hash_key: item.explicit_hash_key,
                    hash: item.hash,
                    data: item.data.to_vec(),
                    bytes: item.bytes(),
                    is_aggregate: item.is_aggregate,
                },
            );
            self.bytes += item.bytes();
        }
        Ok(())
    }

    /// Adds an item to the aggregate for its shard, or begins another one. `is_first` says that no item of its key is in one. Returns whether it is in.
    fn add_to_aggregate(
        &mut self,
        at: usize,
        slot: (Option<usize>, usize),
        item: &Item<'_>,
        is_first: bool,
    ) -> Result<bool, Full> {
        let bytes = item.bytes() + ENTRY_BYTES_MAX;
        let most = self.limits.aggregate_bytes.unwrap_or_default();
        let open = self.open.get(&slot).map(|open| open.bytes);
        // Records of a key in the same request are in the same aggregate.
        let is_ours = |open: &Open| open.members.last().is_some_and(|&(last, _)| last == at);
        if !is_first && !self.open.get(&slot).is_some_and(is_ours) {
            return Ok(false);
        }
        let fits = open.is_some_and(|open| open + bytes <= most);
        if !fits && !is_first {
            return Ok(false);
        }
        if !fits && let Some(full) = self.open.remove(&slot) {
            self.close(slot.0, full);
        }
        if !self.has_room(slot.0, bytes, open.filter(|_| fits))? {
            return Ok(false);
        }
        let open = self.open.entry(slot).or_insert_with(|| Open {
            aggregator: Aggregator::new().bytes_max(usize::MAX),
            members: vec![],
            hash: item.hash,
            bytes: 0,
        });
        let mut put = PutRecord::new(item.partition_key.as_bytes(), &item.data);
        put.explicit_hash_key = item.explicit_hash_key;
        let full = open.aggregator.add(&put);
        debug_assert!(matches!(full, Ok(None)), "the key is checked, and there is room");
        match open.members.last_mut() {
            Some((last, count)) if *last == at => *count += 1,
            _ => open.members.push((at, 1)),
        }
        open.bytes += bytes;
        self.bytes += bytes;
        Ok(true)
    }

    fn push(&mut self, place: Option<usize>, unit: Unit) {
        self.shards.take(place, unit.bytes, self.now);
        self.plan.units.push(unit);
    }

    fn close(&mut self, place: Option<usize>, mut open: Open) {
        let Some(record) = open.aggregator.finish() else { return };
        self.push(
            place,
            Unit {
                bytes: record.partition_key.len() + record.data.len(),
                members: open.members,
                partition_key: record.partition_key,
                explicit_hash_key: record.explicit_hash_key,
                hash: open.hash,
                data: record.data,
                is_aggregate: record.is_aggregated,
            },
        );
    }

    fn finish(mut self) -> Plan {
        for ((place, _), open) in std::mem::take(&mut self.open) {
            self.close(place, open);
        }
        self.plan
    }
}

/// The request has no room for more.
#[derive(Debug)]
struct Full;
