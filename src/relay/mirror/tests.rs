//! Mirrors against a model: an origin that is split, merged and trimmed, while the stream changes, time passes, and the process dies at any step.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use tempfile::TempDir;

use super::core::{Core, CoreOptions};
use super::driver::Shared;
use super::mirrored::Labels;
use super::origin::{Incoming, Listing, Origin, OriginBatch, OriginReader, Partition, Place, StartAt};
use super::refused::OnRefused;
use crate::relay::failure::{Failure, Remedy};
use crate::{
    Error, Limits, Maintenance, ManualClock, Position, Retention, SequenceNumber, ShardFilter, ShardId,
    Stream, StreamOptions, Timestamp,
};

/// A record: its key, and its number among those of the key.
type Id = (u8, u32);

const KEYS: u8 = 24;
const RETENTION: Duration = Duration::from_secs(600);

/// An origin in memory.
#[derive(Debug)]
struct Fake {
    clock: Arc<ManualClock>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    partitions: BTreeMap<String, FakePartition>,
    place: u64,
    batch_max: usize,
    /// How many requests fail.
    failures: u32,
    incarnation: Option<String>,
    /// The records that a mirror that starts at the latest may leave out.
    before_latest: BTreeSet<Id>,
}

#[derive(Debug, Default)]
struct FakePartition {
    parents: Vec<String>,
    /// It has the keys from here to before there.
    keys: (u8, u8),
    is_closed: bool,
    records: Vec<(u64, Id, Timestamp)>,
    /// How many of the records are trimmed.
    trimmed: usize,
}

impl Inner {
    fn add(&mut self, parents: &[&String], keys: (u8, u8)) {
        let id = format!("shardId-{:012}", self.partitions.len());
        let parents = parents.iter().map(|&parent| parent.clone()).collect();
        self.partitions.insert(id, FakePartition { parents, keys, ..FakePartition::default() });
    }

    fn open(&self) -> Vec<(String, (u8, u8))> {
        let open = self.partitions.iter().filter(|(_, partition)| !partition.is_closed);
        open.map(|(id, partition)| (id.clone(), partition.keys)).collect()
    }

    fn close(&mut self, id: &str) {
        self.partitions.get_mut(id).unwrap().is_closed = true;
    }

    /// Returns whether a partition is no longer there: closed for as long as records are kept, and then its parents are closed as long, too.
    fn is_expired(&self, id: &str) -> bool {
        let partition = &self.partitions[id];
        partition.is_closed
            && partition.trimmed > 0
            && partition.trimmed == partition.records.len()
            && partition.parents.iter().all(|parent| self.is_expired(parent))
    }

    fn request(&mut self) -> Result<(), Failure> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(Failure::new(Remedy::Retry, "the line is down"));
        }
        Ok(())
    }
}

impl Fake {
    fn new(clock: &Arc<ManualClock>, batch_max: usize) -> Arc<Self> {
        let mut inner = Inner { batch_max, ..Inner::default() };
        inner.add(&[], (0, KEYS / 2));
        inner.add(&[], (KEYS / 2, KEYS));
        Arc::new(Self { clock: Arc::clone(clock), inner: Mutex::new(inner) })
    }

    fn put(&self, id: Id) {
        let mut inner = self.inner.lock();
        inner.place += 10;
        let (place, now) = (inner.place, self.clock_now());
        let owns = |partition: &&mut FakePartition| {
            !partition.is_closed && (partition.keys.0..partition.keys.1).contains(&id.0)
        };
        inner.partitions.values_mut().find(owns).unwrap().records.push((place, id, now));
    }

    fn clock_now(&self) -> Timestamp {
        use crate::Clock;
        self.clock.now()
    }
}

/// A partition is read from here on.
#[derive(Debug, Clone, Copy)]
enum Next {
    After(u64),
    Latest,
    At(Timestamp),
}

struct FakeReader {
    fake: Arc<Fake>,
    partition: String,
    next: Next,
    requests: u64,
}

#[derive(Debug)]
struct FakeOrigin(Arc<Fake>);

impl Origin for FakeOrigin {
    fn kind(&self) -> &'static str {
        "fake"
    }

    fn name(&self) -> &str {
        "orders"
    }

    fn list(&self) -> Result<Listing, Failure> {
        let mut inner = self.0.inner.lock();
        inner.request()?;
        let listed = inner.partitions.iter().filter(|(id, _)| !inner.is_expired(id));
        let partitions = listed.map(|(id, partition)| Partition {
            id: id.clone(),
            parents: partition.parents.clone(),
            is_open: !partition.is_closed,
        });
        Ok(Listing { incarnation: inner.incarnation.clone(), partitions: partitions.collect() })
    }

    fn reader(&self, partition: &str, from: &StartAt) -> Box<dyn OriginReader> {
        let next = match from {
            StartAt::Beginning => Next::After(0),
            StartAt::Latest(_) => Next::Latest,
            StartAt::AtTimestamp(time) => Next::At(*time),
            StartAt::After(place) => Next::After(place.to_string().parse().unwrap()),
        };
        Box::new(FakeReader { fake: Arc::clone(&self.0), partition: partition.to_owned(), next, requests: 0 })
    }

    fn interrupt(&self) {}
}

impl OriginReader for FakeReader {
    fn wait(&self) -> Duration {
        Duration::ZERO
    }

    fn requests(&self) -> u64 {
        self.requests
    }

    fn read(&mut self, records_max: usize) -> Result<OriginBatch, Failure> {
        self.requests += 1;
        let mut inner = self.fake.inner.lock();
        inner.request()?;
        let max = records_max.min(inner.batch_max);
        let missing = || Failure::new(Remedy::Missing, "there is no such partition");
        let partition = inner.partitions.get(&self.partition).ok_or_else(missing)?;
        if inner.is_expired(&self.partition) {
            return Err(missing());
        }
        let mut before_latest = vec![];
        let after = match self.next {
            Next::After(place) => place,
            Next::Latest => {
                before_latest.extend(partition.records.iter().map(|record| record.1));
                partition.records.last().map_or(0, |record| record.0)
            }
            Next::At(time) => {
                let before = partition.records.iter().take_while(|record| record.2 < time);
                before.last().map_or(0, |record| record.0)
            }
        };
        let has_gap =
            after > 0 && partition.records[..partition.trimmed].iter().any(|record| record.0 > after);
        let rest: Vec<_> =
            partition.records[partition.trimmed..].iter().filter(|record| record.0 > after).collect();
        let records: Vec<_> = rest.iter().take(max).map(|&&record| incoming(record)).collect();
        let is_at_tip = records.len() == rest.len();
        let last = rest.get(records.len().wrapping_sub(1)).map_or(after, |record| record.0);
        // The end is seen with the last records, or after them.
        let is_end = is_at_tip && partition.is_closed && (records.is_empty() || last % 20 == 0);
        self.next = Next::After(last);
        inner.before_latest.extend(before_latest);
        Ok(OriginBatch { records, behind_latest: Duration::ZERO, is_at_tip, is_end, has_gap })
    }
}

fn incoming((place, id, arrived): (u64, Id, Timestamp)) -> Incoming {
    Incoming {
        partition_key: format!("key-{}", id.0).into_bytes(),
        data: serde_json::to_vec(&id).unwrap(),
        headers: vec![("of".to_owned(), b"the original".to_vec())],
        place: place.into(),
        arrived: Some(arrived),
    }
}

#[derive(Debug, Clone)]
enum Operation {
    Put {
        count: u8,
        seed: u8,
    },
    /// Somebody else puts into the stream.
    PutBeside {
        count: u8,
    },
    List,
    Read {
        pick: u8,
    },
    Fail {
        count: u8,
    },
    SplitOrigin {
        pick: u8,
    },
    MergeOrigin {
        pick: u8,
    },
    TrimOrigin {
        pick: u8,
        part: u8,
    },
    Checkpoint,
    Split {
        pick: u8,
    },
    Merge {
        pick: u8,
    },
    /// Time passes, and retention drops what is old.
    Retain {
        seconds: u16,
    },
    Restart,
    /// The process dies.
    Kill,
    /// The process dies while a batch is put, and some of it is in the stream.
    KillInPut {
        pick: u8,
        odd: bool,
    },
    /// The process dies, and the stream continues for a time without the mirror.
    KillAndRetain {
        seconds: u16,
    },
    /// Power is lost: one shard of the stream is as it was at the last checkpoint.
    LosePower {
        pick: u8,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    let seconds = || 1..2_000u16;
    prop_oneof![
        8 => (1..40u8, any::<u8>()).prop_map(|(count, seed)| Operation::Put { count, seed }),
        2 => (1..20u8).prop_map(|count| Operation::PutBeside { count }),
        3 => Just(Operation::List),
        16 => any::<u8>().prop_map(|pick| Operation::Read { pick }),
        1 => (1..3u8).prop_map(|count| Operation::Fail { count }),
        1 => any::<u8>().prop_map(|pick| Operation::SplitOrigin { pick }),
        1 => any::<u8>().prop_map(|pick| Operation::MergeOrigin { pick }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(pick, part)| Operation::TrimOrigin { pick, part }),
        3 => Just(Operation::Checkpoint),
        1 => any::<u8>().prop_map(|pick| Operation::Split { pick }),
        1 => any::<u8>().prop_map(|pick| Operation::Merge { pick }),
        2 => seconds().prop_map(|seconds| Operation::Retain { seconds }),
        1 => Just(Operation::Restart),
        2 => Just(Operation::Kill),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(pick, odd)| Operation::KillInPut { pick, odd }),
        1 => seconds().prop_map(|seconds| Operation::KillAndRetain { seconds }),
        2 => any::<u8>().prop_map(|pick| Operation::LosePower { pick }),
    ]
}

struct World {
    _scratch: TempDir,
    root: PathBuf,
    round: u32,
    clock: Arc<ManualClock>,
    fake: Arc<Fake>,
    start: StartAt,
    shared: Option<Shared>,
    stream: Option<Stream>,
    /// How many records each key has.
    keys: BTreeMap<u8, u32>,
    /// The records seen in the stream, in order.
    seen: BTreeMap<u8, Vec<u32>>,
    seen_to: BTreeMap<ShardId, SequenceNumber>,
    /// The records that may be missing in the stream, because the origin has trimmed them.
    may_miss: BTreeSet<Id>,
    /// Retention has dropped something of the stream.
    has_trimmed: bool,
    has_listed: bool,
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn core_options(start: &StartAt) -> CoreOptions {
    CoreOptions {
        name: "down".to_owned(),
        kind: "fake",
        origin: "orders".to_owned(),
        start: start.clone(),
        hold_bytes: 1 << 30,
    }
}

impl World {
    fn new(batch_max: usize, start: StartAt) -> Self {
        let scratch = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let mut world = Self {
            root: scratch.path().to_owned(),
            _scratch: scratch,
            round: 0,
            fake: Fake::new(&clock, batch_max),
            clock,
            start,
            shared: None,
            stream: None,
            keys: BTreeMap::new(),
            seen: BTreeMap::new(),
            seen_to: BTreeMap::new(),
            may_miss: BTreeSet::new(),
            has_trimmed: false,
            has_listed: false,
        };
        world.open_stream();
        world.open_mirror();
        world.save();
        world
    }

    fn path(&self) -> PathBuf {
        self.root.join(self.round.to_string())
    }

    fn saved(&self) -> PathBuf {
        self.root.join("saved")
    }

    /// Saves the state that power loss may restore.
    fn save(&self) {
        let _ = std::fs::remove_dir_all(self.saved());
        copy_dir(&self.path(), &self.saved());
    }

    fn stream(&self) -> &Stream {
        self.stream.as_ref().unwrap()
    }

    fn shared(&self) -> &Shared {
        self.shared.as_ref().unwrap()
    }

    fn open_stream(&mut self) {
        let options = StreamOptions::new()
            .shards(2)
            .segment_bytes(64 << 10)
            .retention(Retention::age(RETENTION))
            .maintenance(Maintenance::Manual)
            .clock(Arc::clone(&self.clock) as _);
        self.stream = Some(options.open(self.path()).unwrap());
    }

    fn open_mirror(&mut self) {
        let core = Core::open(self.stream(), core_options(&self.start), None).unwrap();
        let origin = Arc::new(FakeOrigin(Arc::clone(&self.fake)));
        self.shared = Some(Shared::new(core, origin, 1_000, Duration::ZERO));
    }

    fn kill(&mut self) {
        let from = self.path();
        self.round += 1;
        copy_dir(&from, &self.path());
        self.shared = None;
        self.stream = None;
        std::fs::remove_dir_all(from).unwrap();
        self.open_stream();
    }

    fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::Put { count, seed } => {
                for at in 0..count {
                    let key = at.wrapping_mul(7).wrapping_add(seed) % KEYS;
                    let number = self.keys.entry(key).or_default();
                    self.fake.put((key, *number));
                    *number += 1;
                }
            }
            Operation::PutBeside { count } => {
                for number in 0..count {
                    self.stream().put([number], "beside").unwrap();
                }
            }
            Operation::List => self.list(),
            Operation::Read { pick } => {
                if let Some(id) = self.shared().take(pick.into()) {
                    self.shared().read(&id).unwrap();
                }
            }
            Operation::Fail { count } => self.fake.inner.lock().failures = count.into(),
            Operation::SplitOrigin { pick } => {
                let mut inner = self.fake.inner.lock();
                let open = inner.open();
                let (id, (low, high)) = &open[usize::from(pick) % open.len()];
                if high - low > 1 {
                    let middle = (low + high) / 2;
                    inner.close(id);
                    inner.add(&[id], (*low, middle));
                    inner.add(&[id], (middle, *high));
                }
            }
            Operation::MergeOrigin { pick } => {
                let mut inner = self.fake.inner.lock();
                let mut open = inner.open();
                open.sort_by_key(|(_, keys)| *keys);
                if open.len() > 1 {
                    let at = usize::from(pick) % (open.len() - 1);
                    let ((first, low), (second, high)) = (&open[at], &open[at + 1]);
                    inner.close(first);
                    inner.close(second);
                    inner.add(&[first, second], (low.0, high.1));
                }
            }
            Operation::TrimOrigin { pick, part } => self.trim_origin(pick, part),
            Operation::Checkpoint => {
                self.shared().core.checkpoint().unwrap();
                self.save();
            }
            Operation::Split { pick } => {
                let open = self.stream().list_shards(ShardFilter::AtLatest);
                if open.len() < 6 {
                    let _ = self.stream().split_shard_evenly(open[usize::from(pick) % open.len()].id);
                }
            }
            Operation::Merge { pick } => {
                let open = self.stream().list_shards(ShardFilter::AtLatest);
                if open.len() > 1 {
                    let at = usize::from(pick) % (open.len() - 1);
                    let _ = self.stream().merge_shards(open[at].id, open[at + 1].id);
                }
            }
            Operation::Retain { seconds } => self.retain(seconds),
            Operation::Restart => {
                self.shared().core.close().unwrap();
                let is_ahead = self.shared().core.is_ahead();
                self.shared = None;
                self.stream.take().unwrap().close().unwrap();
                self.open_stream();
                let is_held = !self.stream().describe().holds.is_empty();
                assert_eq!(is_held, is_ahead, "once it was closed, only what has to be read back is held");
                self.open_mirror();
                self.save();
            }
            Operation::Kill => {
                self.kill();
                self.open_mirror();
            }
            Operation::KillInPut { pick, odd } => {
                self.put_some(pick, odd);
                self.kill();
                self.open_mirror();
            }
            Operation::KillAndRetain { seconds } => {
                self.kill();
                self.look();
                self.retain(seconds);
                self.open_mirror();
            }
            Operation::LosePower { pick } => self.lose_power(pick),
        }
        self.look();
    }

    fn list(&mut self) {
        let failed = self.fake.inner.lock().failures > 0;
        if matches!(self.start, StartAt::Latest(_)) && !failed && !self.has_listed {
            let mut inner = self.fake.inner.lock();
            let all: Vec<Id> = inner
                .partitions
                .values()
                .flat_map(|partition| partition.records.iter().map(|record| record.1))
                .collect();
            inner.before_latest.extend(all);
        }
        self.has_listed |= !failed;
        self.shared().list().unwrap();
    }

    fn trim_origin(&mut self, pick: u8, part: u8) {
        let mut inner = self.fake.inner.lock();
        let count = inner.partitions.len();
        let partition = inner.partitions.values_mut().nth(usize::from(pick) % count).unwrap();
        let left = partition.records.len() - partition.trimmed;
        let trimmed = partition.trimmed + left * usize::from(part) / 255;
        for (_, id, _) in &partition.records[partition.trimmed..trimmed] {
            if !self.seen.get(&id.0).is_some_and(|seen| seen.contains(&id.1)) {
                self.may_miss.insert(*id);
            }
        }
        partition.trimmed = trimmed;
    }

    fn retain(&mut self, seconds: u16) {
        self.clock.advance(Duration::from_secs(seconds.into()));
        self.stream().maintain().unwrap();
        self.has_trimmed = true;
    }

    /// Puts a part of the next records as the mirror would, without its knowledge.
    fn put_some(&mut self, pick: u8, odd: bool) {
        let Some(id) = self.shared().take(pick.into()) else { return };
        let Some(from) = self.shared().core.next_of(&id) else { return };
        if matches!(from, StartAt::Latest(_)) {
            return;
        }
        let Ok(batch) = FakeOrigin(Arc::clone(&self.fake)).reader(&id, &from).read(1_000) else { return };
        for record in &batch.records {
            let of_key: Id = serde_json::from_slice(&record.data).unwrap();
            if (of_key.0 % 2 == 1) == odd && !self.shared().core.is_there(&id, &record.place) {
                let labels = Labels::new("down", "orders", &id, record);
                self.stream().put_record(&labels.record(record)).unwrap();
            }
        }
    }

    /// One shard loses what was put since the last checkpoint, and all else is as if it had been written just in time.
    fn lose_power(&mut self, pick: u8) {
        let manifest = |path: &Path| std::fs::read(path.join("manifest.json")).unwrap();
        let is_same = manifest(&self.path()) == manifest(&self.saved());
        if self.has_trimmed || !is_same {
            return;
        }
        let shards = self.stream().list_shards(ShardFilter::AtLatest);
        let shard = shards[usize::from(pick) % shards.len()].id;
        let name = Path::new("shards").join(format!("{:012}", shard.get()));
        let from = self.path();
        self.round += 1;
        copy_dir(&from, &self.path());
        self.shared = None;
        self.stream = None;
        std::fs::remove_dir_all(from).unwrap();
        std::fs::remove_dir_all(self.path().join(&name)).unwrap();
        copy_dir(&self.saved().join(&name), &self.path().join(&name));
        self.open_stream();
        let before = std::mem::take(&mut self.seen);
        self.seen_to.clear();
        self.look();
        for (key, numbers) in before {
            let lost = numbers
                .into_iter()
                .filter(|number| !self.seen.get(&key).is_some_and(|seen| seen.contains(number)));
            let lost: Vec<Id> = lost.map(|number| (key, number)).collect();
            let inner = self.fake.inner.lock();
            let trimmed =
                inner.partitions.values().flat_map(|partition| &partition.records[..partition.trimmed]);
            let trimmed: BTreeSet<Id> = trimmed.map(|record| record.1).collect();
            self.may_miss.extend(lost.into_iter().filter(|id| trimmed.contains(id)));
        }
        self.open_mirror();
    }

    /// Reads what is new in the stream. Each record must be a new one of its key, and follow the earlier ones.
    fn look(&mut self) {
        let stream = self.stream().clone();
        for shard in stream.shards() {
            let from = self.seen_to.get(&shard.id).map_or(Position::TrimHorizon, |&next| Position::At(next));
            let mut iterator = match stream.iterator(shard.id, from) {
                Ok(iterator) => iterator,
                Err(Error::Trimmed { .. }) => stream.iterator(shard.id, Position::TrimHorizon).unwrap(),
                Err(error) => panic!("{error}"),
            };
            loop {
                let batch = iterator.next_batch(1_000).unwrap();
                if batch.is_empty() {
                    break;
                }
                for record in &batch {
                    if record.data() == b"beside" {
                        continue;
                    }
                    let (key, number): Id = serde_json::from_slice(record.data()).unwrap();
                    assert_eq!(record.partition_key(), format!("key-{key}").as_bytes());
                    assert_eq!(record.headers().get("of"), Some(&b"the original"[..]));
                    let seen = self.seen.entry(key).or_default();
                    let last = seen.last().copied();
                    assert!(last < Some(number), "key {key}: {number} comes after {last:?}");
                    seen.push(number);
                }
            }
            self.seen_to.insert(shard.id, iterator.next_sequence());
        }
    }

    /// Mirrors everything, and checks that nothing is missing.
    fn finish(&mut self) {
        self.fake.inner.lock().failures = 0;
        for _ in 0..1_000 {
            self.list();
            // A partition at its tip must not keep the others from being read.
            for pick in 0..40 {
                if let Some(id) = self.shared().take(pick) {
                    self.shared().read(&id).unwrap();
                }
            }
            if self.shared().is_caught_up() {
                break;
            }
        }
        assert!(self.shared().is_caught_up(), "{:?}", self.shared().stats());
        self.look();
        let before_latest = self.fake.inner.lock().before_latest.clone();
        for (&key, &count) in &self.keys {
            let seen: BTreeSet<u32> = self.seen.get(&key).into_iter().flatten().copied().collect();
            for number in 0..count {
                let id = (key, number);
                assert!(
                    seen.contains(&number) || self.may_miss.contains(&id) || before_latest.contains(&id),
                    "record {number} of key {key} is missing"
                );
            }
        }
    }
}

#[test]
fn l2_each_record_is_mirrored_once_in_order_whatever_happens() {
    let regressions = FileFailurePersistence::SourceParallel("proptest-regressions");
    let config = Config { failure_persistence: Some(Box::new(regressions)), cases: 100, ..Config::default() };
    let start = prop_oneof![
        4 => Just(StartAt::Beginning),
        1 => Just(StartAt::Latest(Timestamp::from_millis(1_700_000_000_000))),
    ];
    let strategy = (1..30_usize, start, proptest::collection::vec(operation(), 1..120));
    let outcome = TestRunner::new(config).run(&strategy, |(batch_max, start, operations)| {
        let mut world = World::new(batch_max, start);
        for operation in &operations {
            world.apply(operation);
        }
        world.finish();
        Ok(())
    });
    outcome.unwrap();
}

fn put(world: &mut World, count: u8) {
    world.apply(&Operation::Put { count, seed: 0 });
}

fn read_all(world: &mut World) {
    world.apply(&Operation::List);
    for pick in 0..20 {
        world.apply(&Operation::Read { pick });
    }
}

#[test]
fn l2_what_was_put_is_held_for_the_mirror_until_it_has_been_read_back() {
    let mut world = World::new(100, StartAt::Beginning);
    put(&mut world, 30);
    read_all(&mut world);
    assert_eq!(world.seen.values().map(Vec::len).sum::<usize>(), 30);
    world.apply(&Operation::KillAndRetain { seconds: 1_999 });
    assert_eq!(world.shared().stats().recognised, 30);
    // Once the originals were read again and this is checkpointed, retention drops the copies.
    read_all(&mut world);
    world.apply(&Operation::Checkpoint);
    // While there is a hold, whole segments are dropped: the first pass begins a new one.
    world.apply(&Operation::Retain { seconds: 1_999 });
    world.apply(&Operation::Retain { seconds: 1_999 });
    let left = world.stream().stats().unwrap().shards.iter().map(|shard| shard.record_count()).sum::<u64>();
    assert_eq!(left, 0);
    world.apply(&Operation::Kill);
    assert_eq!(world.shared().stats().recognised, 0);
    world.finish();
}

#[test]
fn l3_a_mirror_that_begins_at_the_latest_and_dies_early_does_not_bring_older_records_later() {
    let mut world = World::new(1, StartAt::Latest(Timestamp::from_millis(1_700_000_000_000)));
    world.apply(&Operation::List);
    put(&mut world, 24);
    world.apply(&Operation::Read { pick: 0 });
    put(&mut world, 24);
    for _ in 0..30 {
        world.apply(&Operation::Read { pick: 0 });
    }
    world.apply(&Operation::Kill);
    world.finish();
    assert_eq!(world.seen.values().map(Vec::len).sum::<usize>(), 48);
}

#[test]
fn l2_what_was_read_back_is_held_through_a_close_that_comes_before_it_is_done() {
    let mut world = World::new(2, StartAt::Beginning);
    put(&mut world, 1);
    world.apply(&Operation::List);
    world.apply(&Operation::Read { pick: 0 });
    world.apply(&Operation::KillAndRetain { seconds: 601 });
    world.apply(&Operation::Restart);
    world.finish();
}

#[test]
fn l2_a_shard_that_ends_below_the_floor_after_power_loss_is_read_back_from_where_it_ends() {
    let mut world = World::new(100, StartAt::Beginning);
    world.apply(&Operation::Checkpoint);
    world.apply(&Operation::PutBeside { count: 50 });
    // It notes a floor above what others have put, and is not synced with it.
    world.shared().core.checkpoint().unwrap();
    world.apply(&Operation::LosePower { pick: 0 });
    assert_eq!(world.stream().stats().unwrap().shards[0].next_sequence.get(), 0);
    put(&mut world, 48);
    read_all(&mut world);
    world.apply(&Operation::Kill);
    assert_eq!(world.shared().stats().recognised, 48);
    world.finish();
}

#[test]
fn l2_a_batch_of_which_one_shard_takes_only_a_part_is_completed_in_order() {
    let mut world = World::new(1_000, StartAt::Beginning);
    put(&mut world, 200);
    world.list();
    world.stream().set_limits(Limits::none().write_records_per_second(5)).unwrap();
    let id = world.shared().take(0).unwrap();
    let batch = FakeOrigin(Arc::clone(&world.fake)).reader(&id, &StartAt::Beginning).read(1_000).unwrap();
    let (mut rounds, mut has_killed) = (0, false);
    loop {
        match world.shared().core.put(&id, &batch.records) {
            Ok(()) => break,
            Err(Error::Throttled { retry_after, .. }) => world.clock.advance(retry_after),
            Err(error) => panic!("{error}"),
        }
        world.look();
        rounds += 1;
        if rounds == 5 {
            // Records that are there although earlier ones are not are above the floor.
            world.shared().core.checkpoint().unwrap();
            world.apply(&Operation::Kill);
            world.stream().set_limits(Limits::none().write_records_per_second(5)).unwrap();
            has_killed = true;
        }
    }
    assert!(has_killed);
    world.stream().set_limits(Limits::none()).unwrap();
    world.apply(&Operation::Kill);
    world.finish();
}

#[test]
fn l5_a_record_that_the_stream_cannot_hold_goes_to_its_taker_and_the_others_go_on() {
    let mut world = World::new(1_000, StartAt::Beginning);
    world.list();
    let record = |place: u64, bytes: usize| Incoming {
        data: [b"[0,", vec![b' '; bytes].as_slice(), place.to_string().as_bytes(), b"]"].concat(),
        ..incoming((place, (0, 0), Timestamp::default()))
    };
    let records = [record(1, 0), record(2, 2 << 20), record(3, 0)];
    let id = "shardId-000000000000";
    let refused = world.shared().core.put(id, &records).unwrap_err().to_string();
    assert!(refused.contains("record 2 of shardId-000000000000"), "{refused}");
    world.look();
    assert_eq!(world.seen[&0], [1], "what comes before it is put");
    world.shared = None;
    let taken = Arc::new(Mutex::new(vec![]));
    let taker = {
        let taken = Arc::clone(&taken);
        OnRefused::new(move |refused| {
            taken.lock().push((refused.place.clone(), refused.reason.clone()));
            if taken.lock().len() > 1 { Ok(()) } else { Err("not yet".to_owned()) }
        })
    };
    let core = Core::open(world.stream(), core_options(&StartAt::Beginning), Some(taker)).unwrap();
    let failed = core.put(id, &records).unwrap_err().to_string();
    assert!(failed.contains("not yet"), "{failed}");
    core.put(id, &records).unwrap();
    assert_eq!(core.counts().refused, 1);
    world.look();
    assert_eq!(world.seen[&0], [1, 3]);
    let taken = taken.lock();
    assert!(taken.len() == 2 && taken[1].0 == "2" && taken[1].1.contains("2097"), "{taken:?}");
}

#[test]
fn l1_an_origin_that_was_deleted_and_created_again_is_not_taken_for_the_old_one() {
    let mut world = World::new(100, StartAt::Beginning);
    world.fake.inner.lock().incarnation = Some("1".to_owned());
    put(&mut world, 10);
    read_all(&mut world);
    world.fake.inner.lock().incarnation = Some("2".to_owned());
    put(&mut world, 10);
    world.apply(&Operation::Kill);
    read_all(&mut world);
    let error = world.shared().stats().last_error.unwrap();
    assert!(error.contains("was deleted and created again"), "{error}");
    assert_eq!(world.seen.values().map(Vec::len).sum::<usize>(), 10);
}

#[test]
fn l1_a_partition_that_expires_before_it_was_read_is_counted_and_its_children_go_on() {
    let mut world = World::new(5, StartAt::Beginning);
    put(&mut world, 48);
    world.apply(&Operation::List);
    world.apply(&Operation::Read { pick: 0 });
    world.apply(&Operation::SplitOrigin { pick: 0 });
    put(&mut world, 48);
    world.apply(&Operation::TrimOrigin { pick: 0, part: 255 });
    world.finish();
    assert_eq!(world.shared().stats().skipped, 1);
    let mirrored = world.seen.values().map(Vec::len).sum::<usize>();
    assert!((48..96).contains(&mirrored), "{mirrored}");
}

#[test]
fn p13_two_mirrors_of_one_name_do_not_run_at_a_time_and_another_origin_is_refused() {
    let mut world = World::new(100, StartAt::Beginning);
    let second = Core::open(world.stream(), core_options(&StartAt::Beginning), None);
    assert!(matches!(second, Err(Error::Locked(_))), "{second:?}");
    assert!(matches!(world.stream().delete_mirror("down"), Err(Error::Locked(_))));
    world.shared = None;
    let other = CoreOptions { origin: "payments".to_owned(), ..core_options(&StartAt::Beginning) };
    let other = Core::open(world.stream(), other, None).unwrap_err().to_string();
    assert!(other.contains("\"orders\", not of fake \"payments\""), "{other}");
    world.stream().delete_mirror("down").unwrap();
    assert!(world.stream().describe().holds.is_empty());
    assert!(world.stream().mirrors().unwrap().is_empty());
    assert!(matches!(world.stream().delete_mirror("down"), Err(Error::InvalidArgument(_))));
}

#[test]
fn l4_the_journal_stays_small_and_tells_any_process_how_far_the_mirror_is() {
    let mut world = World::new(1_000, StartAt::Beginning);
    for _ in 0..400 {
        put(&mut world, 2);
        read_all(&mut world);
        world.shared().core.checkpoint().unwrap();
    }
    let journal = world.path().join("mirrors").join("down");
    let reader = crate::StreamReader::open(&journal).unwrap();
    let bytes: u64 = reader.stats().unwrap().shards.iter().map(|shard| shard.disk_bytes).sum();
    assert!(bytes < 4 << 20, "{bytes}");
    let described = world.stream().describe_mirror("down").unwrap();
    assert_eq!((described.kind.as_str(), described.origin.as_str()), ("fake", "orders"));
    let places = described.partitions.iter().filter_map(|at| at.place.as_deref().and_then(Place::parse));
    let places: Vec<Place> = places.collect();
    assert_eq!(places.iter().max(), Some(&Place::from(8_000)));
}
