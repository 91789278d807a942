//! Throughput limits: what passes, what is refused and for how long, on a clock that the test moves.

use crate::common;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use streamlog::{
    Batch, Clock, Error, HashKey, KeyHash, Limits, ManualClock, MetricValue, Position, PutRecord, Receipt,
    Result, SECOND, ShardFilter, ShardId, ShardIterator, Stream, StreamOptions, extend,
};
use tempfile::TempDir;

const MILLISECOND: Duration = Duration::from_millis(1);
/// The timeout for expected events. Only a failure takes this long.
const LONG: Duration = Duration::from_secs(300);

struct Case {
    clock: Arc<ManualClock>,
    stream: Stream,
    scratch: TempDir,
}

impl Case {
    fn new(limits: Limits, options: impl FnOnce(StreamOptions) -> StreamOptions) -> Self {
        let (clock, scratch) = (common::clock(), common::scratch());
        let stream = options(common::small(&clock).limits(limits)).open(scratch.path()).unwrap();
        Self { clock, stream, scratch }
    }

    fn iterator(&self) -> ShardIterator {
        self.stream.iterator(self.stream.shards()[0].id, Position::TrimHorizon).unwrap()
    }
}

fn records_per_second(records: u64) -> Limits {
    Limits::none().write_records_per_second(records)
}

#[track_caller]
fn retry_after<T: std::fmt::Debug>(outcome: Result<T>) -> Duration {
    match outcome {
        Err(Error::Throttled { retry_after, .. }) => retry_after,
        other => panic!("{other:?}"),
    }
}

/// One bucket of one shard, in floating point.
#[derive(Debug, Clone, Copy)]
struct Level {
    rate: u64,
    /// The seconds until it is full.
    empty_for: f64,
    at: Duration,
    take_count: u32,
}

/// The rounding error of floating-point numbers here, in seconds.
const EPSILON: f64 = 1e-9;

impl Level {
    fn full(rate: u64, at: Duration) -> Self {
        Self { rate, empty_for: 0.0, at, take_count: 0 }
    }

    fn go_to(&mut self, now: Duration) {
        self.empty_for = (self.empty_for - (now - self.at).as_secs_f64()).max(0.0);
        self.at = now;
    }

    /// Returns the seconds until this many tokens are available, or until it is full.
    fn wait(&self, tokens: u64) -> f64 {
        self.empty_for + (tokens as f64 / self.rate as f64).min(1.0) - 1.0
    }

    fn take(&mut self, tokens: u64) {
        self.empty_for += tokens as f64 / self.rate as f64;
        self.take_count += 1;
    }

    /// How many seconds stricter the stream may be: it rounds each take up to a nanosecond.
    fn slack(&self) -> f64 {
        f64::from(self.take_count + 2) * 1e-9 + EPSILON
    }
}

/// The expected state of a shard: its buckets, and what passed since the limits were last changed.
#[derive(Debug, Default)]
struct Model {
    bytes: Option<Level>,
    records: Option<Level>,
    passed: Vec<(Duration, u64)>,
}

impl Model {
    fn levels(&mut self) -> impl Iterator<Item = (&mut Level, bool)> {
        let bytes = self.bytes.iter_mut().map(|level| (level, true));
        bytes.chain(self.records.iter_mut().map(|level| (level, false)))
    }

    fn set(&mut self, limits: Limits, now: Duration) {
        let set = |level: &mut Option<Level>, rate: Option<u64>| match (level.as_mut(), rate) {
            (Some(level), Some(rate)) => {
                level.go_to(now);
                level.rate = rate;
            }
            _ => *level = rate.map(|rate| Level::full(rate, now)),
        };
        set(&mut self.bytes, limits.write_bytes_per_second);
        set(&mut self.records, limits.write_records_per_second);
        self.passed.clear();
    }

    /// Checks the outcome of one record. `before` are the bytes and the number of refused records before it in its batch.
    fn check(&mut self, outcome: &Result<Receipt>, bytes: u64, before: (u64, u64), now: Duration) {
        let wait_of = |level: &Level, is_bytes: bool, more: (u64, u64)| {
            level.wait(if is_bytes { more.0 + bytes } else { more.1 + 1 })
        };
        for (level, _) in self.levels() {
            level.go_to(now);
        }
        match outcome {
            Ok(_) => {
                for (level, is_bytes) in self.levels() {
                    let wait = wait_of(level, is_bytes, (0, 0));
                    assert!(wait <= EPSILON, "too much passed: {level:?}");
                    level.take(if is_bytes { bytes } else { 1 });
                }
                self.passed.push((now, bytes));
                self.check_windows(now, bytes);
            }
            Err(Error::Throttled { retry_after, .. }) => {
                let waited = retry_after.as_secs_f64();
                let all = self.levels().map(|(level, is_bytes)| {
                    let wait = wait_of(level, is_bytes, before);
                    assert!(wait <= waited + EPSILON, "{waited} s is too short: {level:?}");
                    // It is rounded up to a microsecond.
                    wait >= waited - 1e-6 - level.slack()
                });
                assert!(all.collect::<Vec<_>>().contains(&true), "{waited} s is too long: {self:?}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// No time window lets more pass than its share and one second's worth, except for a last record that is larger.
    fn check_windows(&self, now: Duration, last: u64) {
        let (mut bytes, mut count) = (0, 0);
        for (at, more) in self.passed.iter().rev() {
            (bytes, count) = (bytes + more, count + 1);
            let allowed = |rate: u64| u128::from(rate) * (now - *at + SECOND).as_micros();
            if let Some(level) = self.bytes {
                let beyond = u128::from(last.saturating_sub(level.rate)) * 1_000_000;
                assert!(u128::from(bytes) * 1_000_000 <= allowed(level.rate) + beyond, "{self:?}");
            }
            if let Some(level) = self.records {
                assert!(count * 1_000_000 <= allowed(level.rate), "{self:?}");
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Operation {
    Put(u8, usize),
    PutBatch(Vec<(u8, usize)>),
    /// Waits as long as the last refusal says, and puts the record again.
    Retry,
    Advance {
        micros: u64,
    },
    /// Sets the clock, which must have no effect.
    SetClock {
        back: bool,
    },
    SetLimits(Option<u64>, Option<u64>),
    Split {
        shard: usize,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    let len = prop_oneof![6 => 0usize..300, 1 => 300usize..30_000];
    let rate = || proptest::option::weighted(0.7, prop_oneof![1u64..50, 50u64..20_000]);
    prop_oneof![
        8 => (any::<u8>(), len.clone()).prop_map(|(key, len)| Operation::Put(key, len)),
        4 => vec((any::<u8>(), len), 0..40).prop_map(Operation::PutBatch),
        4 => Just(Operation::Retry),
        6 => (0u64..2_000_000).prop_map(|micros| Operation::Advance { micros }),
        1 => any::<bool>().prop_map(|back| Operation::SetClock { back }),
        1 => (rate(), rate()).prop_map(|(bytes, records)| Operation::SetLimits(bytes, records)),
        1 => any::<usize>().prop_map(|shard| Operation::Split { shard }),
    ]
}

struct World {
    case: Case,
    key_hash: KeyHash,
    shards: BTreeMap<ShardId, Model>,
    limits: Limits,
    /// The data of each key's records that were put, in order.
    put: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    number: u32,
    /// The record that was refused last.
    refused: Option<(u8, usize, Duration)>,
    refused_count: u64,
}

impl World {
    fn new(shard_count: u32, key_hash: KeyHash) -> Self {
        let limits = Limits::none().write_bytes_per_second(2_000).write_records_per_second(20);
        let case = Case::new(limits, |options| options.shards(shard_count).key_hash(key_hash));
        let mut world = Self {
            case,
            key_hash,
            shards: BTreeMap::new(),
            limits,
            put: HashMap::new(),
            number: 0,
            refused: None,
            refused_count: 0,
        };
        world.add_shards();
        world
    }

    /// Adds new shards. Their buckets are full, whatever their parents have used up.
    fn add_shards(&mut self) {
        let now = self.case.clock.elapsed();
        for shard in self.case.stream.shards() {
            self.shards.entry(shard.id).or_insert_with(|| {
                let mut model = Model::default();
                model.set(self.limits, now);
                model
            });
        }
    }

    fn shard_of(&self, key: &[u8]) -> ShardId {
        let hash = self.key_hash.hash(key);
        let open = self.case.stream.list_shards(ShardFilter::AtLatest);
        open.iter().find(|shard| shard.hash_key_range.contains(hash)).unwrap().id
    }

    fn data(&mut self, len: usize) -> Vec<u8> {
        self.number += 1;
        let mut data = vec![0; len];
        let at = len.min(4);
        data[..at].copy_from_slice(&self.number.to_be_bytes()[..at]);
        data
    }

    fn note(&mut self, key: &[u8], data: &[u8], outcome: &Result<Receipt>, before: (u64, u64)) {
        let (shard, now) = (self.shard_of(key), self.case.clock.elapsed());
        let model = self.shards.get_mut(&shard).unwrap();
        model.check(outcome, (key.len() + data.len()) as u64, before, now);
        match outcome {
            Ok(receipt) => {
                assert_eq!(receipt.shard, shard);
                self.put.entry(key.to_vec()).or_default().push(data.to_vec());
            }
            Err(error) => {
                assert_eq!(error.shard(), Some(shard));
                self.refused_count += 1;
            }
        }
    }

    fn put(&mut self, key: u8, len: usize) -> Result<Receipt> {
        let data = self.data(len);
        let outcome = self.case.stream.put([key], &data);
        self.note(&[key], &data, &outcome, (0, 0));
        self.refused = match outcome {
            Err(Error::Throttled { retry_after, .. }) => Some((key, len, retry_after)),
            // It has used up the tokens that the refused one waits for.
            _ => None,
        };
        outcome
    }

    fn put_batch(&mut self, wanted: &[(u8, usize)]) {
        let all: Vec<_> = wanted.iter().map(|&(key, len)| ([key], self.data(len))).collect();
        let records: Vec<_> = all.iter().map(|(key, data)| PutRecord::new(key, data)).collect();
        let outcomes = self.case.stream.put_batch(&records).unwrap();
        assert_eq!(outcomes.len(), all.len());
        let mut refused: HashMap<ShardId, (u64, u64)> = HashMap::new();
        for ((key, data), outcome) in all.iter().zip(&outcomes) {
            let shard = self.shard_of(key);
            let before = refused.get(&shard).copied();
            assert!(before.is_none() || outcome.is_err(), "a later record overtook one that was refused");
            self.note(key, data, outcome, before.unwrap_or_default());
            if outcome.is_err() {
                let (bytes, count) = refused.entry(shard).or_default();
                (*bytes, *count) = (*bytes + 1 + data.len() as u64, *count + 1);
            }
        }
    }

    fn run(&mut self, operation: &Operation) {
        let clock = Arc::clone(&self.case.clock);
        match *operation {
            Operation::Put(key, len) => drop(self.put(key, len)),
            Operation::PutBatch(ref records) => self.put_batch(records),
            Operation::Retry => {
                let Some((key, len, retry_after)) = self.refused.take() else { return };
                clock.advance(retry_after);
                self.put(key, len).expect("it waited as long as the refusal said");
            }
            Operation::Advance { micros } => clock.advance(Duration::from_micros(micros)),
            Operation::SetClock { back } => {
                let hour = streamlog::HOUR;
                clock.set(if back { clock.now() - hour } else { clock.now() + hour });
            }
            Operation::SetLimits(bytes, records) => {
                self.limits.write_bytes_per_second = bytes;
                self.limits.write_records_per_second = records;
                self.case.stream.set_limits(self.limits).unwrap();
                self.refused = None;
                let now = clock.elapsed();
                self.shards.values_mut().for_each(|model| model.set(self.limits, now));
            }
            Operation::Split { shard } => {
                let open = self.case.stream.list_shards(ShardFilter::AtLatest);
                if open.len() < 6 {
                    // Ranges of a few hash keys cannot be split.
                    let _ = self.case.stream.split_shard_evenly(open[shard % open.len()].id);
                    self.refused = None;
                    self.add_shards();
                }
            }
        }
        if !matches!(operation, Operation::Advance { .. } | Operation::Retry | Operation::Put(..)) {
            self.refused = None;
        }
    }

    fn check_end(&mut self) {
        assert_eq!(self.case.stream.stats().unwrap().traffic().write_throttled_records, self.refused_count);
        let mut read: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
        let mut iterator = self.case.stream.lineage_iterator(Position::TrimHorizon).unwrap();
        loop {
            let batch = iterator.next_batch(1_000).unwrap();
            if batch.is_empty() {
                break;
            }
            for record in &batch {
                read.entry(record.partition_key().to_vec()).or_default().push(record.data().to_vec());
            }
        }
        assert!(read == self.put, "what was refused is there, or what was put is not");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_passes_is_what_plain_buckets_let_pass(
        shard_count in 1u32..4,
        is_md5: bool,
        operations in vec(operation(), 1..80),
    ) {
        let mut world = World::new(shard_count, if is_md5 { KeyHash::Md5 } else { KeyHash::Xxh3 });
        operations.iter().for_each(|operation| world.run(operation));
        world.check_end();
    }
}

#[test]
fn without_limits_everything_passes_and_kinesis_limits_are_those_of_kinesis() {
    let case = Case::new(Limits::none(), |options| options.record_bytes_max(40_000));
    (0..2_000).for_each(|_| _ = case.stream.put("key", "").unwrap());
    case.stream.set_limits(Limits::kinesis()).unwrap();
    (0..1_000).for_each(|_| _ = case.stream.put("key", "").unwrap());
    assert_eq!(retry_after(case.stream.put("key", "")), MILLISECOND);
    case.clock.advance(SECOND);
    let data = vec![7; 32 << 10];
    let put_count = (0..100).take_while(|_| case.stream.put("k", &data[1..]).is_ok()).count();
    assert_eq!(put_count, 32, "1 MiB");
    assert_eq!(retry_after(case.stream.put("k", &data[1..])), SECOND / 32);
}

#[test]
fn a_batch_puts_the_first_records_of_each_shard_and_says_when_each_of_the_others_may_pass() {
    let case = Case::new(records_per_second(4), |options| options.shards(2));
    // Six records for each shard in turn.
    let hash = |at: u32| if at.is_multiple_of(2) { HashKey::MIN } else { HashKey::MAX };
    let data: Vec<_> = (0..12).map(|at: u32| at.to_string()).collect();
    let record = |at: u32| PutRecord::new("key", &data[at as usize]).explicit_hash_key(hash(at));
    let records: Vec<_> = (0..12).map(record).collect();
    let outcomes = case.stream.put_batch(&records).unwrap();
    let quarter = SECOND / 4;
    for (at, outcome) in outcomes.into_iter().enumerate() {
        match at {
            0..8 => assert_eq!(outcome.unwrap().sequence.get(), at as u64 / 2),
            8..10 => assert_eq!(retry_after(outcome), quarter),
            _ => assert_eq!(retry_after(outcome), 2 * quarter),
        }
    }
    case.clock.advance(2 * quarter);
    assert!(case.stream.put_batch(&records[8..]).unwrap().iter().all(Result::is_ok));
    let shards = case.stream.shards();
    let read = |shard: ShardId| {
        let all = common::read_all(&case.stream, shard);
        all.into_iter().map(|(_, data)| String::from_utf8(data).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(read(shards[0].id), ["0", "2", "4", "6", "8", "10"]);
    assert_eq!(read(shards[1].id), ["1", "3", "5", "7", "9", "11"]);
}

#[test]
fn a_batch_that_is_larger_than_a_second_s_worth_waits_for_a_full_bucket_at_most() {
    let case = Case::new(records_per_second(10), |options| options);
    let records = vec![PutRecord::new("key", ""); 100];
    let outcomes = case.stream.put_batch(&records).unwrap();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 10);
    assert_eq!(retry_after(outcomes[99].clone()), SECOND);
    assert_eq!(retry_after(outcomes[10].clone()), SECOND / 10);
}

#[test]
fn a_record_larger_than_the_limit_passes_when_nothing_was_put_for_a_second_and_is_paid_for() {
    let case = Case::new(Limits::none().write_bytes_per_second(1_000), |options| options);
    case.stream.put("k", [7; 9]).unwrap();
    assert_eq!(retry_after(case.stream.put("k", [7; 3_999])), 10 * MILLISECOND);
    case.clock.advance(10 * MILLISECOND);
    case.stream.put("k", [7; 3_999]).unwrap();
    assert_eq!(retry_after(case.stream.put("k", "")), 3 * SECOND + MILLISECOND);
    case.clock.advance(3 * SECOND + MILLISECOND);
    case.stream.put("k", "").unwrap();
}

#[test]
fn children_of_a_split_have_limits_of_their_own() {
    let case = Case::new(records_per_second(2), |options| options);
    (0..2).for_each(|_| _ = case.stream.put("key", "").unwrap());
    retry_after(case.stream.put("key", ""));
    let parent = case.stream.shards()[0].id;
    let children = case.stream.split_shard_evenly(parent).unwrap();
    for child in &children {
        let record = PutRecord::new("key", "").explicit_hash_key(child.hash_key_range.start);
        (0..2).for_each(|_| assert_eq!(case.stream.put_record(&record).unwrap().shard, child.id));
        assert_eq!(retry_after(case.stream.put_record(&record)), SECOND / 2);
    }
    let traffic = case.stream.stats().unwrap().traffic();
    assert_eq!((traffic.incoming_records, traffic.write_throttled_records), (6, 3));
}

#[test]
fn limits_change_while_the_stream_is_open_and_are_not_kept() {
    let mut case = Case::new(records_per_second(10), |options| options);
    (0..10).for_each(|_| _ = case.stream.put("key", "").unwrap());
    case.stream.set_limits(records_per_second(100)).unwrap();
    assert_eq!(retry_after(case.stream.put("key", "")), SECOND / 100, "empty before, and empty now");
    case.clock.advance(SECOND / 2);
    case.stream.set_limits(records_per_second(10)).unwrap();
    (0..5).for_each(|_| _ = case.stream.put("key", "").unwrap());
    retry_after(case.stream.put("key", ""));
    assert_eq!(case.stream.describe().limits, records_per_second(10));
    case.stream.set_limits(Limits::none()).unwrap();
    (0..100).for_each(|_| _ = case.stream.put("key", "").unwrap());
    case.stream.set_limits(records_per_second(10)).unwrap();
    (0..10).for_each(|_| _ = case.stream.put("key", "").unwrap());
    retry_after(case.stream.put("key", ""));
    let zero = case.stream.set_limits(Limits::none().read_calls_per_second(0));
    assert!(matches!(zero, Err(Error::InvalidArgument(_))), "{zero:?}");
    let clone = case.stream.clone();
    case.stream.close().unwrap();
    assert!(matches!(clone.set_limits(Limits::none()), Err(Error::Closed)));
    assert!(matches!(clone.put("key", ""), Err(Error::Closed)));
    case.stream = common::small(&case.clock).open(case.scratch.path()).unwrap();
    assert_eq!(case.stream.describe().limits, Limits::none());
    (0..100).for_each(|_| _ = case.stream.put("key", "").unwrap());
    let zero =
        common::small(&case.clock).limits(records_per_second(0)).open(case.scratch.path().join("zero"));
    assert!(matches!(zero, Err(Error::InvalidArgument(_))), "{zero:?}");
}

#[test]
fn threads_that_put_at_once_share_a_limit() {
    let case = Case::new(records_per_second(1_000), |options| options.shards(2));
    let put_count = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for at in 0..4u64 {
            let (stream, put_count) = (&case.stream, &put_count);
            scope.spawn(move || {
                for number in 0..1_000u64 {
                    let record = PutRecord::new("key", "");
                    let record = record.explicit_hash_key(if number.is_multiple_of(2) {
                        HashKey::MIN
                    } else {
                        HashKey::MAX
                    });
                    let records = vec![record; 1 + (number + at) as usize % 3];
                    let put = match records.len() {
                        1 => usize::from(stream.put_record(&records[0]).is_ok()),
                        _ => stream.put_batch(&records).unwrap().iter().filter(|it| it.is_ok()).count(),
                    };
                    put_count.fetch_add(put as u64, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(put_count.into_inner(), 2_000);
    assert_eq!(case.stream.stats().unwrap().record_count(), 2_000);
}

#[test]
fn l3_a_producer_waits_for_its_limits_and_keeps_the_order_of_each_key() {
    let case = Case::new(records_per_second(50), |options| options.shards(3));
    let options = case.stream.producer().batch_count(64).time_to_live(None);
    let producer = options.backoff(MILLISECOND, MILLISECOND).senders(2).start().unwrap();
    for number in 0..1_000u32 {
        producer.put(format!("key-{}", number % 7), number.to_be_bytes()).unwrap();
    }
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                case.clock.advance(10 * MILLISECOND);
                std::thread::yield_now();
            }
        });
        producer.flush().unwrap();
        is_done.store(true, Ordering::Relaxed);
    });
    assert!(case.clock.elapsed() >= 5 * SECOND, "it took no time");
    let mut read: HashMap<Vec<u8>, Vec<u32>> = HashMap::new();
    let mut iterator = case.stream.lineage_iterator(Position::TrimHorizon).unwrap();
    loop {
        let batch = iterator.next_batch(1_000).unwrap();
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            let number = u32::from_be_bytes(record.data().try_into().unwrap());
            read.entry(record.partition_key().to_vec()).or_default().push(number);
        }
    }
    assert_eq!(read.values().map(Vec::len).sum::<usize>(), 1_000);
    assert!(read.values().all(|numbers| numbers.is_sorted()), "{read:?}");
}

#[test]
fn a_record_of_a_producer_that_does_not_pass_in_its_time_to_live_expires() {
    let case = Case::new(records_per_second(1), |options| options);
    let options = case.stream.producer().time_to_live(10 * SECOND).backoff(MILLISECOND, MILLISECOND);
    let producer = options.start().unwrap();
    let first = producer.put("key", "first").unwrap();
    first.wait().unwrap();
    let second = producer.put("key", "second").unwrap();
    while case.stream.stats().unwrap().traffic().write_throttled_records < 3 {
        assert!(!second.is_done(), "given up at once");
        std::thread::yield_now();
    }
    assert!(!second.is_done());
    // The clock is not advanced any further, so the record never passes.
    case.stream.set_limits(Limits::none().write_bytes_per_second(1)).unwrap();
    case.stream.put("k", "all that passes").unwrap();
    case.clock.advance(10 * SECOND);
    match second.wait_timeout(LONG).unwrap().unwrap_err() {
        Error::ProducerExpired { cause } => assert!(matches!(*cause, Error::Throttled { .. }), "{cause}"),
        error => panic!("{error}"),
    }
}

#[test]
fn calls_that_read_are_limited_and_one_that_finds_nothing_counts() {
    let case = Case::new(Limits::none().read_calls_per_second(5), |options| options);
    let (mut first, mut second) = (case.iterator(), case.iterator());
    for at in 0..5 {
        let iterator = if at % 2 == 0 { &mut first } else { &mut second };
        assert!(iterator.next_batch(10).unwrap().is_empty());
    }
    case.stream.put("key", "data").unwrap();
    assert_eq!(retry_after(first.next_batch(10)), SECOND / 5);
    assert_eq!(retry_after(second.next_batch_within(10, 10)), SECOND / 5);
    assert_eq!(extend::unlimited(case.iterator()).next_batch(10).unwrap().len(), 1);
    assert!(case.stream.verify(|_| std::ops::ControlFlow::Continue(())).unwrap().is_complete);
    case.clock.advance(SECOND / 5);
    assert_eq!(first.next_batch(10).unwrap().len(), 1, "the refused call has lost nothing");
    retry_after(second.next_batch(10));
    assert_eq!(case.stream.stats().unwrap().traffic().read_throttled_calls, 3);
    case.stream.clone().close().unwrap();
    assert_eq!(second.next_batch(10).unwrap().len(), 1, "a closed stream has no limits");
}

#[test]
fn a_read_of_many_bytes_makes_the_next_ones_wait_as_in_kinesis() {
    let megabyte = 1 << 20;
    let case = Case::new(Limits::none(), |options| options.segment_bytes(64 << 20));
    for _ in 0..40 {
        case.stream.put("key", vec![7; megabyte - 100]).unwrap();
    }
    case.stream.set_limits(Limits::kinesis()).unwrap();
    let (mut first, mut second) = (case.iterator(), case.iterator());
    let batch = first.next_batch(1_000).unwrap();
    assert_eq!(batch.len(), 10, "10 MiB at most");
    // 2 MiB were available, and 8 MiB must be refilled.
    let wait = retry_after(second.next_batch(1));
    assert!((3_999 * MILLISECOND..4 * SECOND).contains(&wait), "{wait:?}");
    case.clock.advance(wait);
    assert_eq!(second.next_batch(1).unwrap().len(), 1);
    let wait = retry_after(second.next_batch(1));
    assert!((499 * MILLISECOND..SECOND / 2).contains(&wait), "{wait:?}");
    case.clock.advance(wait);
    first.next_batch(1_000).unwrap();
    let wait = retry_after(second.next_batch(1));
    assert!((4_999 * MILLISECOND..5 * SECOND).contains(&wait), "{wait:?}");
    // Whatever the limit, a read returns at least one record.
    case.stream.set_limits(Limits::none().read_bytes_per_second(1)).unwrap();
    case.clock.advance(10 * SECOND);
    assert_eq!(second.next_batch(1_000).unwrap().len(), 1);
}

#[test]
fn l8_a_reader_in_another_process_is_not_limited() {
    let limits = records_per_second(1).read_calls_per_second(1);
    let case = Case::new(limits, |options| options);
    case.stream.put("key", "data").unwrap();
    let reader = common::small(&case.clock).open_reader(case.scratch.path()).unwrap();
    let mut iterator = reader.iterator(case.stream.shards()[0].id, Position::TrimHorizon).unwrap();
    assert_eq!(iterator.next_batch(10).unwrap().len(), 1);
    (0..20).for_each(|_| _ = iterator.next_batch(10).unwrap());
    assert_eq!(reader.describe().limits, Limits::none());
}

#[test]
fn a_lineage_iterator_uses_up_no_calls_of_quiet_shards() {
    let case = Case::new(Limits::none().read_calls_per_second(5), |options| options.shards(8));
    let mut iterator = case.stream.lineage_iterator(Position::TrimHorizon).unwrap();
    let busy = case.stream.put("key", "data").unwrap().shard;
    for _ in 0..5 {
        assert_eq!(iterator.next_batch(10).unwrap().len(), 1);
        case.stream.put("key", "data").unwrap();
    }
    assert_eq!(retry_after(iterator.next_batch(10)), SECOND / 5);
    for shard in case.stream.shards().iter().filter(|shard| shard.id != busy) {
        let mut iterator = case.stream.iterator(shard.id, Position::TrimHorizon).unwrap();
        (0..5).for_each(|_| assert!(iterator.next_batch(10).unwrap().is_empty()));
    }
    case.clock.advance(SECOND / 5);
    assert_eq!(iterator.next_batch(10).unwrap().len(), 1);
}

fn numbers(batch: &Batch) -> Vec<u32> {
    batch.iter().map(|record| u32::from_be_bytes(record.data().try_into().unwrap())).collect()
}

#[test]
fn a_worker_waits_for_the_limits_instead_of_failing() {
    let case = Case::new(Limits::none().read_calls_per_second(5), |options| options);
    for number in 0..20u32 {
        case.stream.put("key", number.to_be_bytes()).unwrap();
    }
    let mut worker = case.stream.group("billing").worker().batch_records(2).open().unwrap();
    let mut read = vec![];
    for _ in 0..5 {
        read.extend(numbers(&worker.poll(Duration::ZERO).unwrap().unwrap()));
    }
    assert!(worker.poll(Duration::ZERO).unwrap().is_none());
    assert!(worker.poll(20 * MILLISECOND).unwrap().is_none());
    assert_eq!(
        case.stream.stats().unwrap().traffic().read_throttled_calls,
        1,
        "it does not try again and again"
    );
    let clock = Arc::clone(&case.clock);
    let waiting = std::thread::spawn(move || {
        let batch = worker.poll(LONG).unwrap().unwrap();
        (worker, batch)
    });
    std::thread::sleep(20 * MILLISECOND);
    assert!(!waiting.is_finished());
    clock.advance(SECOND / 5);
    let (mut worker, batch) = waiting.join().unwrap();
    read.extend(numbers(&batch));
    assert!(worker.poll(Duration::ZERO).unwrap().is_none());
    // Once the stream is closed, the rest can be read without limits.
    case.stream.close().unwrap();
    loop {
        match worker.poll(LONG) {
            Ok(batch) => read.extend(numbers(&batch.unwrap())),
            Err(error) => break assert!(matches!(error, Error::Closed), "{error}"),
        }
    }
    assert_eq!(read, (0..20).collect::<Vec<_>>());
}

#[test]
fn an_idle_worker_uses_up_no_calls() {
    let case = Case::new(Limits::none().read_calls_per_second(1), |options| options);
    let mut worker = case.stream.group("billing").worker().open().unwrap();
    (0..10).for_each(|_| assert!(worker.poll(Duration::ZERO).unwrap().is_none()));
    case.stream.put("key", 7u32.to_be_bytes()).unwrap();
    assert_eq!(numbers(&worker.poll(Duration::ZERO).unwrap().unwrap()), [7]);
    assert_eq!(case.stream.stats().unwrap().traffic().read_throttled_calls, 0);
}

#[test]
fn a_worker_that_waits_as_a_task_is_woken_by_maintenance_once_the_limits_let_it_read() {
    let case = Case::new(Limits::none().read_calls_per_second(1), |options| options);
    let mut worker = case.stream.group("billing").worker().batch_records(1).open().unwrap();
    for number in 0..2u32 {
        case.stream.put("key", number.to_be_bytes()).unwrap();
    }
    let (count, waker) = common::tasks::Count::new();
    assert!(common::tasks::poll_once(&mut worker.next(), &waker).is_ready());
    let mut next = worker.next();
    assert!(common::tasks::poll_once(&mut next, &waker).is_pending());
    assert_eq!(count.get(), 0);
    case.clock.advance(SECOND);
    case.stream.maintain().unwrap();
    assert_eq!(count.get(), 1);
    assert!(common::tasks::poll_once(&mut next, &waker).is_ready());
}

#[test]
fn a_group_does_not_read_again_what_it_has_committed_when_the_limits_are_used_up() {
    let limits = Limits::none().read_calls_per_second(1);
    let mut case = Case::new(limits, |options| options);
    for number in 0..2u32 {
        case.stream.put("key", number.to_be_bytes()).unwrap();
    }
    let mut worker = case.stream.group("billing").worker().batch_records(1).open().unwrap();
    let batch = worker.poll(Duration::ZERO).unwrap().unwrap();
    worker.commit(&batch).unwrap();
    drop(worker);
    case.stream.close().unwrap();
    case.stream = common::small(&case.clock).limits(limits).open(case.scratch.path()).unwrap();
    case.iterator().next_batch(1).unwrap();
    let mut worker = case.stream.group("billing").worker().open().unwrap();
    assert!(worker.poll(Duration::ZERO).unwrap().is_none());
    case.clock.advance(SECOND);
    assert_eq!(numbers(&worker.poll(Duration::ZERO).unwrap().unwrap()), [1]);
}

#[test]
fn what_is_throttled_is_counted_under_cloudwatch_s_names() {
    let case = Case::new(records_per_second(1).read_calls_per_second(1), |options| options);
    let outcomes = case.stream.put_batch(&vec![PutRecord::new("key", ""); 4]).unwrap();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 3);
    retry_after(case.stream.put("key", ""));
    let mut iterator = case.iterator();
    iterator.next_batch(10).unwrap();
    retry_after(iterator.next_batch(10));
    let stats = case.stream.stats().unwrap();
    for (name, total) in [("WriteProvisionedThroughputExceeded", 4), ("ReadProvisionedThroughputExceeded", 1)]
    {
        let found: Vec<_> = stats.metrics().filter(|metric| metric.name == name).collect();
        assert_eq!(found.iter().filter(|metric| metric.shard.is_none()).count(), 1);
        assert_eq!(found.iter().filter(|metric| metric.shard.is_some()).count(), 1);
        assert!(found.iter().all(|metric| metric.value == MetricValue::Total(total)), "{found:?}");
        assert!(found.iter().all(|metric| metric.unit == "Count"));
    }
    if let Some(puts) = &stats.puts {
        assert_eq!((puts.put_failed, puts.batch_records_failed, puts.batch_records_throttled), (0, 0, 3));
        let throttled = stats.metrics().find(|metric| metric.name == "PutRecords.ThrottledRecords").unwrap();
        assert_eq!(throttled.value, MetricValue::Total(3));
        let total = stats.metrics().find(|metric| metric.name == "PutRecords.TotalRecords").unwrap();
        assert_eq!(total.value, MetricValue::Total(4));
    }
}
