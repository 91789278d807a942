//! A sender against another side that fails at random: nothing is lost, and the order of each key holds.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::put_plan::{Batch, Limits, Unit};
use super::put_prepare::Item;
use super::put_shards::{FarShard, Shards};
use crate::aggregate::{Aggregate, Aggregator};
use crate::{HashKey, HashKeyRange, KeyHash, PutRecord};

const KEYS: usize = 6;

/// A record of a batch.
#[derive(Debug, Clone)]
enum Record {
    /// A record of a key, with this many bytes in addition to its number.
    Plain { key: usize, bytes: usize, hash_key: Option<u8> },
    /// An aggregate of another producer, with user records of these keys.
    Aggregate { keys: Vec<usize> },
}

/// What happens to a request.
#[derive(Debug, Clone)]
enum Answer {
    /// These of its records fail, as far as it has them.
    Some { failed: Vec<bool> },
    /// It fails as a whole, and nothing is stored.
    Nothing,
    /// Everything is stored, but the answer is lost.
    Lost,
}

#[derive(Debug, Clone)]
enum Step {
    Request(Answer),
    Reshard(u8),
    List,
    Tick(u16),
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let key = || 0..KEYS;
    let plain = (key(), 0usize..600, prop::option::weighted(0.1, any::<u8>()))
        .prop_map(|(key, bytes, hash_key)| Record::Plain { key, bytes, hash_key });
    let aggregate = prop::collection::vec(key(), 2..5).prop_map(|keys| Record::Aggregate { keys });
    prop::collection::vec(prop_oneof![8 => plain, 1 => aggregate], 1..60)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some =
        prop::collection::vec(prop::bool::weighted(0.3), 0..20).prop_map(|failed| Answer::Some { failed });
    let answer = prop_oneof![6 => some, 1 => Just(Answer::Nothing), 1 => Just(Answer::Lost)];
    let step = prop_oneof![
        6 => answer.prop_map(Step::Request),
        1 => any::<u8>().prop_map(Step::Reshard),
        1 => Just(Step::List),
        2 => (0u16..2_000).prop_map(Step::Tick),
    ];
    prop::collection::vec(step, 0..80)
}

/// The other side.
struct Far {
    /// The boundaries of its open shards, each with a number that is new after each change.
    open: Vec<(u128, u32)>,
    closed: Vec<FarShard>,
    next_shard: u32,
    /// What readers get of each key: the record, and the index in it.
    read: BTreeMap<String, Vec<(u64, usize)>>,
}

impl Far {
    fn new() -> Self {
        Self { open: vec![(0, 0)], closed: vec![], next_shard: 1, read: BTreeMap::new() }
    }

    fn list(&self) -> Vec<FarShard> {
        let ends = self.open[1..].iter().map(|(start, _)| start - 1).chain([u128::MAX]);
        let open = self.open.iter().zip(ends).map(|(&(start, number), end)| FarShard {
            id: number.to_string(),
            range: HashKeyRange { start: HashKey::new(start), end: HashKey::new(end) },
            is_open: true,
        });
        open.chain(self.closed.iter().cloned()).collect()
    }

    fn reshard(&mut self, pick: u8) {
        let before = self.list();
        let at = pick as usize % self.open.len();
        let mut number = || {
            self.next_shard += 1;
            self.next_shard
        };
        if pick < 160 || self.open.len() == 1 {
            let end = before[at].range.end.get();
            let start = self.open[at].0;
            self.open[at].1 = number();
            self.open.insert(at + 1, (start + (end - start) / 2 + 1, number()));
        } else {
            let at = at.max(1);
            self.open.remove(at);
            self.open[at - 1].1 = number();
        }
        let open: Vec<_> = self.open.iter().map(|(_, number)| number.to_string()).collect();
        let closed = before.into_iter().filter(|shard| shard.is_open && !open.contains(&shard.id));
        self.closed.extend(closed.map(|shard| FarShard { is_open: false, ..shard }));
    }

    /// Stores a unit. Returns the shard that has it.
    fn store(&mut self, unit: &Unit) -> FarShard {
        let hash = unit.explicit_hash_key.unwrap_or_else(|| KeyHash::Md5.hash(unit.partition_key.as_bytes()));
        let shard = self.list().into_iter().find(|shard| shard.range.contains(hash)).unwrap();
        match Aggregate::decode_within(&unit.data, shard.range, KeyHash::Md5) {
            Some(aggregate) => {
                for record in aggregate.iter() {
                    self.read_one(std::str::from_utf8(record.partition_key).unwrap(), record.data);
                }
            }
            None => self.read_one(&unit.partition_key, &unit.data),
        }
        shard
    }

    fn read_one(&mut self, key: &str, data: &[u8]) {
        let text = std::str::from_utf8(data).unwrap();
        let mut words = text.split_whitespace().map(|word| word.parse::<u64>().unwrap());
        let (number, index) = (words.next().unwrap(), words.next().unwrap());
        self.read.entry(key.to_owned()).or_default().push((number, index as usize));
    }
}

fn text(number: usize, index: usize, more: usize) -> String {
    format!("{number} {index}{:more$}", "")
}

fn key(key: usize) -> String {
    format!("key-{key}")
}

/// User records by key, each with the number of its record and its place there.
type ByKey = Vec<(String, (u64, usize))>;

/// Returns the item of a record, and what readers should get of it.
fn item(number: usize, record: &Record) -> (Item<'static>, ByKey) {
    let sequence = (number as u64).into();
    match record {
        Record::Plain { key: at, bytes, hash_key } => {
            let hash_key = hash_key.map(|top| HashKey::new(u128::from(top) << 120));
            let data = Cow::Owned(text(number, 0, *bytes).into_bytes());
            let item = Item::new(sequence, Cow::Owned(key(*at)), hash_key, data);
            (item, vec![(key(*at), (number as u64, 0))])
        }
        Record::Aggregate { keys } => {
            let mut aggregator = Aggregator::new();
            for (index, &at) in keys.iter().enumerate() {
                aggregator.add(&PutRecord::new(&key(at), &text(number, index, 0))).unwrap();
            }
            let record = aggregator.finish().unwrap();
            let item = Item::new(sequence, Cow::Owned(record.partition_key), None, Cow::Owned(record.data));
            assert!(item.is_aggregate);
            let of = |(index, &at): (usize, &usize)| (key(at), (number as u64, index));
            (item, keys.iter().enumerate().map(of).collect())
        }
    }
}

/// Sends the records as a relay does, first with these events, and then without any.
fn run(records: &[Record], steps: Vec<Step>, limits: Limits, is_paced: bool) -> TestCaseResult {
    let (items, wanted): (Vec<_>, Vec<_>) =
        records.iter().enumerate().map(|(number, record)| item(number, record)).unzip();
    let has_aggregates = items.iter().any(|item| item.is_aggregate);
    let mut batch = Batch::new(items);
    let (mut far, mut shards) = (Far::new(), Shards::new(is_paced));
    let (mut now, mut lost) = (Duration::ZERO, false);
    let mut steps = VecDeque::from(steps);
    let mut left = 3_000;
    while !batch.is_empty() {
        left -= 1;
        prop_assert!(left > 0, "it does not end: {batch:?}");
        match steps.pop_front().unwrap_or(Step::Request(Answer::Some { failed: vec![] })) {
            Step::Reshard(pick) => far.reshard(pick),
            Step::List => shards.set(far.list(), now),
            Step::Tick(millis) => now += Duration::from_millis(millis.into()),
            Step::Request(answer) => {
                let first_left = batch.first_left();
                let plan = batch.plan(limits, &mut shards, now);
                prop_assert_eq!(batch.first_left(), first_left);
                check(&plan.units, limits)?;
                if plan.units.is_empty() {
                    now = plan.next_at.expect("there is a time when something may be sent").max(now);
                    continue;
                }
                match answer {
                    Answer::Nothing => {}
                    Answer::Lost => {
                        lost = true;
                        plan.units.iter().for_each(|unit| drop(far.store(unit)));
                    }
                    Answer::Some { failed } => {
                        for (at, unit) in plan.units.iter().enumerate() {
                            if failed.get(at) == Some(&true) {
                                batch.fail(unit, now, |failures| Duration::from_millis(100) * failures);
                                continue;
                            }
                            let shard = far.store(unit);
                            if !shards.note(&shard.id, unit.hash) && shards.is_known() && unit.is_aggregate {
                                shards.set(far.list(), now);
                            }
                            let range = shards.range_of(&shard.id);
                            // An aggregate that readers drop is left.
                            let is_taken = batch.settle(unit, range);
                            // Nobody knows whether it is.
                            lost |= !is_taken && range.is_none();
                            if unit.is_aggregate
                                && let Some(range) = range
                            {
                                let read = Aggregate::decode_within(&unit.data, range, KeyHash::Md5);
                                prop_assert_eq!(is_taken, !read.unwrap().is_foreign());
                            }
                        }
                    }
                }
                batch.clean_up();
            }
        }
    }
    let mut all: BTreeMap<String, Vec<(u64, usize)>> = BTreeMap::new();
    for (key, place) in wanted.into_iter().flatten() {
        all.entry(key).or_default().push(place);
    }
    for (key, wanted) in all {
        let read = far.read.remove(&key).unwrap_or_default();
        let mut first = vec![];
        for place in &read {
            if !first.contains(place) {
                first.push(*place);
            }
        }
        if has_aggregates {
            // A user record of another producer's aggregate goes with the aggregate's key.
            first.sort_unstable();
        }
        prop_assert_eq!(&first, &wanted, "of {}", key);
        prop_assert!(
            lost || has_aggregates || read.len() == wanted.len(),
            "{} comes again without need",
            key
        );
    }
    Ok(())
}

/// Checks a request: its size, and that each key is in one of its records.
fn check(units: &[Unit], limits: Limits) -> TestCaseResult {
    prop_assert!(units.len() <= limits.records);
    let bytes: usize = units.iter().map(|unit| unit.bytes).sum();
    prop_assert!(units.len() == 1 || bytes <= limits.bytes, "{} bytes", bytes);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (at, unit) in units.iter().enumerate() {
        prop_assert_eq!(unit.bytes, unit.partition_key.len() + unit.data.len());
        let keys: Vec<_> = match Aggregate::decode(&unit.data) {
            // It came in this form, with other keys.
            Some(aggregate) if limits.aggregate_bytes.is_some_and(|most| unit.data.len() <= most) => {
                aggregate
                    .iter()
                    .map(|record| String::from_utf8_lossy(record.partition_key).into_owned())
                    .collect()
            }
            _ => vec![unit.partition_key.clone()],
        };
        if keys.len() == 1 || limits.aggregate_bytes.is_none() {
            prop_assert!(seen.insert(keys[0].clone(), at).is_none(), "{} is in it twice", keys[0]);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn p3_nothing_is_lost_and_the_order_of_each_key_holds_whatever_fails(
        records in records(),
        steps in steps(),
        records_max in 1usize..20,
        aggregate_bytes in prop::option::of(200usize..2_000),
        is_paced: bool,
    ) {
        let limits = Limits { records: records_max, bytes: 3_000, aggregate_bytes };
        run(&records, steps, limits, is_paced)?;
    }
}
