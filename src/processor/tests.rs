//! Processors against a model: calls that end in any order, fail, or take too long, while shards change, time passes and the process dies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use tempfile::TempDir;

use super::core::{Core, Done, Job, Work};
use super::discarded::DiscardReason;
use super::driver::Driver;
use super::event_time::EventTime;
use super::invocation::{Invocation, Response};
use super::rules::Rules;
use super::shard::Shard;
use crate::{
    Filter, HOUR, Maintenance, ManualClock, Position, Record, ShardFilter, ShardId, Stream, StreamOptions,
    Timestamp,
};

/// A record: its key, and its number among those of the key.
type Id = (u8, u32);
/// Records that come in order: those of a key, and by event time, those of a key and a window. A record without an event time has no window.
type Track = (u8, Option<u64>);
/// Where a record is: its track, and its number there.
type Place = (Track, u32);

const KEYS: u8 = 12;
/// The records of this key are filtered out.
const UNWANTED: u8 = 11;
const WINDOW: Duration = Duration::from_secs(5);
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// Longer than all operations take.
const NEVER_IDLE: Duration = Duration::from_secs(100_000);

/// Which windows there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Windows {
    None,
    ByArrival,
    ByEvent { lateness: Duration, idle_timeout: Duration },
}

#[derive(Debug, Clone)]
struct Setting {
    lanes: usize,
    batch_size: usize,
    bisects: bool,
    answers_items: bool,
    retries: Option<u32>,
    windows: Windows,
    /// Every n-th record always fails, if retries are bounded.
    poison: u32,
    commits_each: bool,
}

#[derive(Debug, Clone)]
enum Operation {
    Put {
        count: u8,
        /// Decides when the events happened.
        seed: u32,
    },
    /// Commits what is done, and reads what is there.
    Drive,
    /// Commits what is done, and reads once.
    Step,
    /// Begins calls.
    Take {
        count: u8,
    },
    /// Ends one of the calls that run.
    Finish {
        pick: u8,
        fails: bool,
    },
    Advance {
        millis: u32,
    },
    Split {
        pick: u8,
    },
    Merge {
        pick: u8,
    },
    Restart {
        lanes: usize,
    },
    Kill {
        lanes: usize,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    let lanes = || 1..=4_usize;
    prop_oneof![
        6 => (1..40u8, any::<u32>()).prop_map(|(count, seed)| Operation::Put { count, seed }),
        8 => Just(Operation::Drive),
        4 => Just(Operation::Step),
        12 => (1..4u8).prop_map(|count| Operation::Take { count }),
        16 => (any::<u8>(), prop::bool::weighted(0.2)).prop_map(|(pick, fails)| Operation::Finish { pick, fails }),
        3 => (0..3_000u32).prop_map(|millis| Operation::Advance { millis }),
        2 => (3_000..70_000u32).prop_map(|millis| Operation::Advance { millis }),
        1 => any::<u8>().prop_map(|pick| Operation::Split { pick }),
        1 => any::<u8>().prop_map(|pick| Operation::Merge { pick }),
        1 => lanes().prop_map(|lanes| Operation::Restart { lanes }),
        1 => lanes().prop_map(|lanes| Operation::Kill { lanes }),
    ]
}

fn setting() -> impl Strategy<Value = Setting> {
    let retries = prop_oneof![Just(None), (0..3u32).prop_map(Some)];
    let idle_timeout = prop_oneof![Just(NEVER_IDLE), (1..12u64).prop_map(Duration::from_secs)];
    let by_event = (0..12_000u64, idle_timeout).prop_map(|(lateness, idle_timeout)| Windows::ByEvent {
        lateness: Duration::from_millis(lateness),
        idle_timeout,
    });
    let windows = prop_oneof![1 => Just(Windows::None), 1 => Just(Windows::ByArrival), 3 => by_event];
    (1..=4_usize, 1..20_usize, any::<bool>(), any::<bool>(), retries, windows, 2..30u32, any::<bool>())
        .prop_map(|(lanes, batch_size, bisects, answers_items, retries, windows, poison, commits_each)| {
            Setting { lanes, batch_size, bisects, answers_items, retries, windows, poison, commits_each }
        })
}

struct World {
    setting: Setting,
    _scratch: TempDir,
    root: PathBuf,
    round: u32,
    clock: Arc<ManualClock>,
    stream: Option<Stream>,
    core: Mutex<Core>,
    driver: Option<Driver>,
    jobs: Vec<Job>,
    /// How many records each key has.
    keys: BTreeMap<u8, u32>,
    /// How many records each track has.
    put: BTreeMap<Track, u32>,
    places: BTreeMap<Id, Place>,
    /// For each track, the number of its first record that is not done.
    done: BTreeMap<Track, u32>,
    /// The same, as of the last time when everything was committed.
    committed: BTreeMap<Track, u32>,
    /// For the tracks that were not read since a restart, the first record that may come again.
    comes_again: BTreeMap<Track, u32>,
    discarded: BTreeMap<Id, DiscardReason>,
    /// The states with which windows ended: for a shard and the beginning of a window.
    windows: BTreeMap<(ShardId, Timestamp), BTreeSet<Vec<Id>>>,
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

/// Reads what a record has: its key, its number, and when its event happened.
fn read(record: &Record<'_>) -> (Id, Option<Timestamp>) {
    let (key, number, happened): (u8, u32, Option<u64>) = serde_json::from_slice(record.data()).unwrap();
    ((key, number), happened.map(Timestamp::from_millis))
}

fn ids<'a>(records: impl Iterator<Item = Record<'a>>) -> Vec<Id> {
    records.map(|record| read(&record).0).collect()
}

fn event_time(record: &Record<'_>) -> Result<Timestamp, String> {
    read(record).1.ok_or_else(|| "it does not say".to_owned())
}

/// Returns the event time of a record that is put now: mostly not long ago, seldom in the future, and seldom unknown.
fn happened(now: Timestamp, random: u32) -> Option<Timestamp> {
    let spread = Duration::from_millis((random >> 8).into());
    let within =
        |seconds: u32| Duration::from_micros(spread.as_micros() as u64 % (u64::from(seconds) * 1_000_000));
    match random & 0xff {
        0..3 => None,
        3..6 => Some(now + 2 * HOUR),
        6..30 => Some(now + within(3)),
        30..100 => Some(now - within(20)),
        _ => Some(now - within(4)),
    }
}

impl World {
    fn new(setting: Setting) -> Self {
        let scratch = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
        let rules = rules(&setting, setting.lanes);
        let mut world = Self {
            setting,
            root: scratch.path().to_owned(),
            _scratch: scratch,
            round: 0,
            clock: Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000))),
            stream: None,
            core: Mutex::new(Core::new(rules)),
            driver: None,
            jobs: vec![],
            keys: BTreeMap::new(),
            put: BTreeMap::new(),
            places: BTreeMap::new(),
            done: BTreeMap::new(),
            committed: BTreeMap::new(),
            comes_again: BTreeMap::new(),
            discarded: BTreeMap::new(),
            windows: BTreeMap::new(),
        };
        world.open(world.setting.lanes);
        world
    }

    fn path(&self) -> PathBuf {
        self.root.join(self.round.to_string())
    }

    fn stream(&self) -> &Stream {
        self.stream.as_ref().unwrap()
    }

    fn open(&mut self, lanes: usize) {
        let options = StreamOptions::new()
            .shards(2)
            .segment_bytes(64 << 10)
            .maintenance(Maintenance::Manual)
            .clock(Arc::clone(&self.clock) as _);
        let stream = options.open(self.path()).unwrap();
        let worker = stream.group("model").worker().batch_records(self.setting.batch_size).open().unwrap();
        self.driver = Some(Driver::new(worker, (*stream).clone()));
        self.stream = Some(stream);
        self.core = Mutex::new(Core::new(rules(&self.setting, lanes)));
        self.jobs.clear();
        let first = |track: &Track| (*track, self.committed.get(track).copied().unwrap_or_default());
        self.comes_again = self.done.keys().map(first).collect();
    }

    fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::Put { count, seed } => self.put(count, seed),
            Operation::Drive => self.drive(),
            Operation::Step => {
                let mut context = Context::from_waker(Waker::noop());
                let driver = self.driver.as_mut().unwrap();
                driver.settle(&self.core).unwrap();
                driver.read(&self.core, &mut context, || ()).unwrap();
                driver.settle(&self.core).unwrap();
            }
            Operation::Take { count } => (0..count).for_each(|_| self.take()),
            Operation::Finish { pick, fails } => {
                if !self.jobs.is_empty() {
                    let job = self.jobs.swap_remove(usize::from(pick) % self.jobs.len());
                    self.finish(job, fails);
                }
            }
            Operation::Advance { millis } => {
                self.clock.advance(Duration::from_millis(millis.into()));
                let now = self.driver.as_ref().unwrap().now();
                self.core.lock().look_at_clock(now);
            }
            Operation::Split { pick } => {
                let open = self.stream().list_shards(ShardFilter::AtLatest);
                if open.len() < 6 {
                    let shard = open[usize::from(pick) % open.len()].id;
                    let _ = self.stream().split_shard_evenly(shard);
                }
            }
            Operation::Merge { pick } => {
                let open = self.stream().list_shards(ShardFilter::AtLatest);
                if open.len() > 1 {
                    let at = usize::from(pick) % (open.len() - 1);
                    let _ = self.stream().merge_shards(open[at].id, open[at + 1].id);
                }
            }
            Operation::Restart { lanes } => {
                self.drive();
                self.driver = None;
                self.stream.take().unwrap().close().unwrap();
                self.open(lanes);
            }
            Operation::Kill { lanes } => {
                let from = self.path();
                self.round += 1;
                copy_dir(&from, &self.path());
                self.driver = None;
                self.stream = None;
                std::fs::remove_dir_all(from).unwrap();
                self.open(lanes);
            }
        }
    }

    fn put(&mut self, count: u8, mut seed: u32) {
        for at in 0..u32::from(count) {
            let key = ((at * 7 + u32::from(count)) % u32::from(KEYS)) as u8;
            seed = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            let random = (seed ^ (seed >> 15)).wrapping_mul(277_803_737);
            self.put_one(key, happened(self.stream().now(), random));
        }
    }

    fn put_one(&mut self, key: u8, happened: Option<Timestamp>) {
        let number = self.keys.entry(key).or_default();
        let id = (key, *number);
        *number += 1;
        let track = match self.setting.windows {
            Windows::ByEvent { .. } => (key, self.start_of(happened)),
            _ => (key, Some(0)),
        };
        let index = self.put.entry(track).or_default();
        self.places.insert(id, (track, *index));
        *index += 1;
        let data = serde_json::to_vec(&(key, id.1, happened.map(Timestamp::as_millis))).unwrap();
        self.stream().put(format!("key-{key}"), data).unwrap();
    }

    /// Returns when the window of an event begins, in microseconds, unless the event cannot have happened at that time.
    fn start_of(&self, happened: Option<Timestamp>) -> Option<u64> {
        let at = happened.filter(|&at| at <= self.stream().now() + HOUR)?;
        let length = WINDOW.as_millis() as u64;
        Some(at.as_millis() / length * length * 1_000)
    }

    fn drive(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let driver = self.driver.as_mut().unwrap();
        loop {
            let has_more = driver.settle(&self.core).unwrap();
            let has_read = driver.read(&self.core, &mut context, || ()).unwrap();
            if !has_more && !has_read {
                break;
            }
        }
        driver.settle(&self.core).unwrap();
        let core = self.core.lock();
        let is_committed = |id: &ShardId| core.commit_of(*id).is_none();
        let is_held = |shard: &Shard| shard.lanes.iter().any(|lane| lane.is_held());
        if core.shards.keys().all(is_committed) && !core.shards.values().any(is_held) {
            let known = self.done.iter().filter(|(track, _)| !self.comes_again.contains_key(track));
            self.committed.extend(known);
        }
    }

    fn take(&mut self) {
        let now = self.driver.as_ref().unwrap().now();
        let Some(job) = self.core.lock().take(now) else { return };
        match &job.work {
            Work::Call(invocation) => self.check_call(invocation),
            Work::Report(discarded) => self.note_coming(&ids(discarded.records())),
        }
        self.jobs.push(job);
    }

    /// What was done but not committed before a restart may come again. How much of it was committed is not known here.
    fn note_coming(&mut self, ids: &[Id]) {
        for (track, number) in ids.iter().map(|id| self.places[id]) {
            if let Some(first) = self.comes_again.remove(&track)
                && (first..=self.done[&track]).contains(&number)
            {
                self.done.insert(track, number);
                // What was given up with others, but not committed, may be done this time.
                let places = &self.places;
                self.discarded.retain(|id, _| places[id].0 != track || places[id].1 < number);
            }
        }
    }

    /// L3: a call has the next records of each of its tracks, and all of them are of its window.
    fn check_call(&mut self, invocation: &Invocation) {
        let ids = ids(invocation.records());
        self.note_coming(&ids);
        let mut next = self.done.clone();
        for (track, number) in ids.iter().map(|id| self.places[id]) {
            assert_ne!(track.0, UNWANTED, "the filter does not want it");
            let next = next.entry(track).or_default();
            assert_eq!(number, *next, "track {track:?}: something is left out, or comes again");
            *next += 1;
        }
        assert!(invocation.len() <= self.setting.batch_size);
        assert_eq!(invocation.window().is_some(), self.setting.windows != Windows::None);
        if let Some(window) = invocation.window() {
            let time_of = |record: Record<'_>| match self.setting.windows {
                Windows::ByEvent { .. } => event_time(&record).unwrap(),
                _ => record.timestamp(),
            };
            let is_within = |at: Timestamp| window.start <= at && at < window.end;
            assert!(invocation.records().map(time_of).all(is_within));
            assert_eq!(invocation.is_empty(), window.is_final);
        }
    }

    fn is_poison(&self, (key, number): Id) -> bool {
        self.setting.retries.is_some() && (u32::from(key) + number * 5) % self.setting.poison == 0
    }

    fn finish(&mut self, job: Job, fails: bool) {
        let now = self.driver.as_ref().unwrap().now();
        if !self.core.lock().is_running(job.ticket) {
            // It took too long, or its shard is gone. What it says does not count.
            self.core.lock().finish(job.ticket, called(Response::done()), now);
            return;
        }
        match job.work {
            Work::Report(discarded) => {
                let error = fails.then(|| "no room".to_owned());
                if !fails {
                    for id in ids(discarded.records()) {
                        let (track, number) = self.places[&id];
                        self.discarded.insert(id, discarded.reason());
                        let next = self.done.entry(track).or_default();
                        assert_eq!(*next, number);
                        *next += 1;
                    }
                }
                self.core.lock().finish(job.ticket, Done::Reported { error }, now);
            }
            Work::Call(invocation) => {
                let response = self.answer(&invocation, fails);
                self.core.lock().finish(job.ticket, called(response), now);
            }
        }
    }

    /// What the function of the model answers.
    fn answer(&mut self, invocation: &Invocation, fails: bool) -> Response {
        let ids = ids(invocation.records());
        // With bounded retries, only poison fails, so that nothing else is given up.
        if fails && self.setting.retries.is_none() {
            return Response::failed("by chance");
        }
        let first = ids.iter().position(|&id| self.is_poison(id));
        let done = match first {
            Some(0) => return Response::failed("poison"),
            Some(at) if self.setting.answers_items => at,
            Some(_) => return Response::failed("poison among others"),
            None => ids.len(),
        };
        for (track, number) in ids[..done].iter().map(|id| self.places[id]) {
            self.done.insert(track, number + 1);
        }
        let mut state: Vec<Id> = match invocation.state() {
            [] => vec![],
            state => serde_json::from_slice(state).unwrap(),
        };
        state.extend(&ids[..done]);
        if let Some(window) = invocation.window().filter(|window| window.is_final) {
            self.windows.entry((invocation.shard(), window.start)).or_default().insert(state.clone());
        }
        let response = match invocation.records().nth(done) {
            Some(record) => Response::failed_from(record.sequence()),
            None => Response::done(),
        };
        match self.setting.windows {
            Windows::None => response,
            _ => response.with_state(serde_json::to_vec(&state).unwrap()),
        }
    }

    /// Continues until everything is done.
    fn drain(&mut self) {
        for _ in 0..100_000 {
            self.drive();
            self.take();
            match self.jobs.pop() {
                Some(job) => self.finish(job, false),
                None if self.is_done() => return,
                None => self.apply(&Operation::Advance { millis: self.rest() }),
            }
        }
        panic!("it does not end: {:?} of {:?}", self.done, self.put);
    }

    /// Returns how many milliseconds it takes at most until something is due.
    fn rest(&self) -> u32 {
        match self.setting.windows {
            Windows::ByEvent { idle_timeout: NEVER_IDLE, .. } => NEVER_IDLE.as_millis() as u32,
            _ => 10_000,
        }
    }

    fn is_done(&self) -> bool {
        let core = self.core.lock();
        let mut wanted = self.put.iter().filter(|((key, _), _)| *key != UNWANTED);
        wanted.all(|(track, number)| self.done.get(track).unwrap_or(&0) == number)
            && core.shards.values().all(|shard| shard.is_settled())
    }

    /// L1, L2: each record counts once, in one window or as given up.
    fn check_end(&self) {
        let all: BTreeSet<Id> = self.places.keys().copied().filter(|&(key, _)| key != UNWANTED).collect();
        let failed: BTreeSet<Id> = self.given_up(DiscardReason::RetryAttemptsExhausted);
        if self.setting.bisects || self.setting.batch_size == 1 {
            let is_called = |id: &Id| failed.contains(id) || !self.discarded.contains_key(id);
            let poison = all.iter().copied().filter(|id| self.is_poison(*id) && is_called(id));
            assert_eq!(failed, poison.collect(), "exactly the poisonous records are given up");
        }
        if self.setting.windows != Windows::None {
            let mut counted: BTreeSet<Id> = self.discarded.keys().copied().collect();
            for &id in self.windows.values().flatten().flatten() {
                assert!(counted.insert(id), "{id:?} counts twice");
            }
            assert_eq!(counted, all);
        }
        for (window, states) in &self.windows {
            let keys = |state: &Vec<Id>| state.iter().map(|&(key, _)| key).collect::<BTreeSet<u8>>();
            let (each, together) = (states.iter().map(|state| keys(state).len()), states.iter().flatten());
            let together: BTreeSet<u8> = together.map(|&(key, _)| key).collect();
            assert_eq!(each.sum::<usize>(), together.len(), "{window:?} ends twice for a key: {states:?}");
        }
        match self.setting.windows {
            Windows::ByEvent { lateness, idle_timeout } => self.check_late(lateness, idle_timeout),
            _ => assert_eq!(failed.len(), self.discarded.len()),
        }
        let lag = self.stream().group("model").describe().unwrap().lag().record_count;
        assert_eq!(lag, 0, "everything is committed");
    }

    fn given_up(&self, reason: DiscardReason) -> BTreeSet<Id> {
        self.discarded.iter().filter(|(_, at)| **at == reason).map(|(&id, _)| id).collect()
    }

    /// L2, L7: what is late follows from the order of the log alone, and from what had ended when nothing came.
    fn check_late(&self, lateness: Duration, idle_timeout: Duration) {
        let (mut late, mut unknown) = (BTreeSet::new(), BTreeSet::new());
        let mut windows: BTreeMap<Id, (ShardId, Timestamp)> = BTreeMap::new();
        for shard in self.stream().shards() {
            let mut iterator = self.stream().iterator(shard.id, Position::TrimHorizon).unwrap();
            let mut watermark = Timestamp::default();
            loop {
                let batch = iterator.next_batch(1_000).unwrap();
                if batch.is_empty() {
                    break;
                }
                for record in batch.iter() {
                    let (id, happened) = read(&record);
                    let Some(start) = self.places[&id].0.1.map(Timestamp::from_micros) else {
                        unknown.insert(id);
                        continue;
                    };
                    if id.0 != UNWANTED {
                        watermark = watermark.max(happened.unwrap() - lateness);
                        if start + WINDOW <= watermark {
                            late.insert(id);
                        }
                        windows.insert(id, (shard.id, start));
                    }
                }
            }
        }
        unknown.retain(|&(key, _)| key != UNWANTED);
        assert_eq!(self.given_up(DiscardReason::EventTimeUnknown), unknown);
        let mut given_up = self.given_up(DiscardReason::AllowedLatenessExceeded);
        if idle_timeout < NEVER_IDLE {
            let has_ended = |id: &Id| self.windows.contains_key(&windows[id]);
            given_up.retain(|id| late.contains(id) || !has_ended(id));
        }
        assert_eq!(given_up, late);
        for (window, states) in &self.windows {
            assert!(states.iter().flatten().all(|id| windows[id] == *window), "{window:?}: {states:?}");
        }
    }
}

fn called(response: Response) -> Done {
    Done::Called { response, took: Duration::ZERO }
}

fn rules(setting: &Setting, lanes: usize) -> Rules {
    Rules {
        batch_records: setting.batch_size,
        batch_bytes: 1 << 20,
        batching_window: Duration::ZERO,
        lanes,
        retries: setting.retries,
        bisect: setting.bisects,
        record_age_max: None,
        first_pause: Duration::from_millis(100),
        longest_pause: Duration::from_secs(10),
        time_limit: setting.retries.is_none().then_some(TIME_LIMIT),
        tumbling_window: (setting.windows != Windows::None).then_some(WINDOW),
        event_time: match setting.windows {
            Windows::ByEvent { lateness, idle_timeout } => {
                Some(EventTime { time_of: Arc::new(event_time), allowed_lateness: lateness, idle_timeout })
            }
            _ => None,
        },
        has_destination: true,
        filter: Some(Filter::new(r#"{"partitionKey": [{"anything-but": "key-11"}]}"#).unwrap()),
        states_bytes_max: 990_000,
        origin: None,
        commits_each: setting.commits_each,
    }
}

#[test]
fn l1_l2_l3_any_operations_leave_each_record_done_once_and_in_order() {
    let config = Config {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(50),
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..Config::default()
    };
    let strategy = (setting(), prop::collection::vec(operation(), 1..200));
    TestRunner::new(config)
        .run(&strategy, |(setting, operations)| {
            let mut world = World::new(setting);
            for operation in &operations {
                world.apply(operation);
            }
            world.drain();
            world.check_end();
            Ok(())
        })
        .unwrap();
}

/// A world with one record that is done, and an open window.
fn world_with_a_window() -> World {
    world_with(Windows::ByArrival, None)
}

/// A world with one record that is done.
fn world_with(windows: Windows, retries: Option<u32>) -> World {
    let mut world = World::new(Setting {
        lanes: 1,
        batch_size: 10,
        bisects: false,
        answers_items: false,
        retries,
        windows,
        poison: 1_000,
        commits_each: false,
    });
    put_one(&mut world);
    world.drive();
    world.take();
    let job = world.jobs.pop().unwrap();
    world.finish(job, false);
    world.drive();
    world
}

fn put_one(world: &mut World) {
    let now = world.stream().now();
    world.put_one(1, Some(now));
}

/// Takes a job that must be a call, and returns its records and whether it is a window's last.
fn call(world: &mut World) -> (Vec<Id>, bool) {
    world.take();
    let job = world.jobs.pop().expect("a call is due");
    let Work::Call(invocation) = &job.work else { panic!("it is a call") };
    let called = (ids(invocation.records()), invocation.window().unwrap().is_final);
    world.finish(job, false);
    called
}

#[test]
fn l2_a_window_ends_only_when_all_that_arrived_in_it_is_read() {
    let mut world = world_with_a_window();
    put_one(&mut world);
    world.apply(&Operation::Advance { millis: 2 * WINDOW.as_millis() as u32 });
    world.take();
    assert!(world.jobs.is_empty(), "its time is over, but a record of it is not read");
    world.drive();
    assert_eq!(call(&mut world), (vec![(1, 1)], false));
}

#[test]
fn l2_the_last_call_of_a_window_comes_when_it_is_committed_that_it_is_over() {
    let mut world = world_with_a_window();
    world.apply(&Operation::Advance { millis: 2 * WINDOW.as_millis() as u32 });
    world.drive();
    world.take();
    assert!(world.jobs.is_empty(), "that it is over is not committed");
    // A record of the next window does not change that.
    put_one(&mut world);
    world.drive();
    assert_eq!(call(&mut world), (vec![], true));
    assert_eq!(call(&mut world), (vec![(1, 1)], false));
}

#[test]
fn l7_a_window_whose_time_is_over_ends_when_all_is_read_without_another_move_of_the_clock() {
    let mut world = world_with_a_window();
    put_one(&mut world);
    world.drive();
    world.apply(&Operation::Advance { millis: 2 * WINDOW.as_millis() as u32 });
    // The record is of the window whose time is over, and it is not known yet that nothing else is.
    assert_eq!(call(&mut world), (vec![(1, 1)], false));
    for _ in 0..2 {
        world.take();
        assert!(world.jobs.is_empty());
        world.drive();
    }
    assert_eq!(call(&mut world), (vec![], true));
}

#[test]
fn l1_what_comes_while_the_end_of_a_window_is_given_up_survives_a_crash() {
    let mut world = world_with(Windows::ByArrival, Some(0));
    world.apply(&Operation::Advance { millis: 2 * WINDOW.as_millis() as u32 });
    for _ in 0..2 {
        world.drive();
        world.take();
    }
    let job = world.jobs.pop().expect("the last call is due");
    let now = world.driver.as_ref().unwrap().now();
    world.core.lock().finish(job.ticket, called(Response::failed("no")), now);
    world.take();
    assert!(matches!(world.jobs[0].work, Work::Report(_)), "it is on its way to the destination");
    put_one(&mut world);
    world.drive();
    world.apply(&Operation::Kill { lanes: 1 });
    world.drive();
    assert_eq!(call(&mut world), (vec![], true));
    assert_eq!(call(&mut world), (vec![(1, 1)], false));
    world.drain();
    world.check_end();
}

#[test]
fn l2_what_is_done_of_a_batch_with_several_windows_is_committed_with_all_of_it() {
    let by_event = Windows::ByEvent { lateness: 4 * WINDOW, idle_timeout: NEVER_IDLE };
    let mut world = world_with(by_event, None);
    let now = world.stream().now();
    for at in [now - WINDOW, now, now - WINDOW] {
        world.put_one(1, Some(at));
    }
    world.drive();
    // The first window comes first, with a record that lies behind one of the second.
    assert_eq!(call(&mut world), (vec![(1, 1), (1, 3)], false));
    world.drive();
    world.apply(&Operation::Kill { lanes: 1 });
    world.drive();
    assert_eq!(call(&mut world), (vec![(1, 1), (1, 3)], false));
    assert_eq!(call(&mut world), (vec![(1, 2)], false));
    world.drive();
    world.apply(&Operation::Kill { lanes: 1 });
    world.drain();
    world.check_end();
}

#[test]
fn l2_a_window_that_has_ended_stays_ended_after_a_restart_with_other_lanes() {
    let by_event = Windows::ByEvent { lateness: Duration::ZERO, idle_timeout: WINDOW };
    for restart in [Operation::Restart { lanes: 3 }, Operation::Kill { lanes: 3 }] {
        let mut world = world_with(by_event, None);
        // The idle timeout ends the window, and not the watermark.
        world.apply(&Operation::Advance { millis: WINDOW.as_millis() as u32 });
        for _ in 0..2 {
            world.drive();
            world.take();
        }
        let job = world.jobs.pop().expect("the last call is due");
        world.finish(job, false);
        world.drive();
        world.apply(&restart);
        let begun = Timestamp::from_millis(1_700_000_000_000);
        world.put_one(1, Some(begun));
        world.drain();
        assert_eq!(world.core.lock().shards.values().map(|shard| shard.lanes.len()).max(), Some(3));
        assert_eq!(world.given_up(DiscardReason::AllowedLatenessExceeded), [(1, 1)].into());
        world.check_end();
    }
}

/// Puts a record of this key.
fn put_key(world: &mut World, key: u8) {
    let now = world.stream().now();
    world.put_one(key, Some(now));
}

#[test]
fn l2_what_a_lane_had_done_counts_as_done_until_it_is_read_again() {
    let mut world = World::new(Setting {
        lanes: 2,
        batch_size: 1,
        bisects: false,
        answers_items: false,
        retries: None,
        windows: Windows::ByArrival,
        poison: 1_000,
        commits_each: false,
    });
    // All keys are in the same shard, and these two are in different lanes.
    world.apply(&Operation::Merge { pick: 0 });
    let lane_of = |key: u8| xxhash_rust::xxh3::xxh3_64(format!("key-{key}").as_bytes()) % 2;
    let other = (1..UNWANTED).find(|&key| lane_of(key) != lane_of(0)).unwrap();
    for key in [0, other, other, other] {
        put_key(&mut world, key);
    }
    world.drive();
    // The first record is not done, and those behind it are, of the other lane.
    world.take();
    let open = world.jobs.pop().unwrap();
    assert!(matches!(&open.work, Work::Call(invocation) if ids(invocation.records()) == [(0, 0)]));
    for number in 0..3 {
        world.drive();
        assert_eq!(call(&mut world), (vec![(other, number)], false));
    }
    world.drive();
    // Each time the process dies when a part of that is read again.
    for _ in 0..2 {
        world.apply(&Operation::Kill { lanes: 2 });
        world.apply(&Operation::Step);
        world.apply(&Operation::Step);
    }
    world.drain();
    world.check_end();
    assert_eq!(world.windows.len(), 1);
}

#[test]
fn l2_what_arrived_while_a_shard_was_not_read_is_read_before_its_windows_end() {
    let mut world = World::new(Setting {
        lanes: 1,
        batch_size: 10,
        bisects: false,
        answers_items: false,
        retries: None,
        windows: Windows::ByArrival,
        poison: 1_000,
        commits_each: false,
    });
    world.apply(&Operation::Merge { pick: 0 });
    (0..11).for_each(|_| put_key(&mut world, 0));
    world.drive();
    // The lane has more than half of what it takes, so these are not read.
    (0..5).for_each(|_| put_key(&mut world, 0));
    world.apply(&Operation::Advance { millis: 2 * WINDOW.as_millis() as u32 });
    world.drive();
    for records in [10, 1] {
        assert_eq!(call(&mut world).0.len(), records);
    }
    // Now it continues, and its lane is asked before anything is read.
    world.driver.as_mut().unwrap().settle(&world.core).unwrap();
    world.take();
    assert!(world.jobs.is_empty());
    world.drive();
    assert_eq!(call(&mut world), ((11..16).map(|number| (0, number)).collect(), false));
    world.drain();
    world.check_end();
    assert_eq!(world.windows.len(), 1);
}

#[test]
fn l2_what_is_known_of_a_shard_ends_with_its_lease() {
    let mut world = world_with_a_window();
    put_one(&mut world);
    world.drive();
    // The checkpoint moves on, and the window is gone with what was counted.
    world.stream().group("model").reset(Position::Latest).unwrap();
    world.done.insert((1, Some(0)), 2);
    put_one(&mut world);
    world.drive();
    assert_eq!(call(&mut world), (vec![(1, 2)], false));
}

#[test]
fn l5_what_a_call_answers_after_its_time_limit_does_not_count_even_if_nobody_has_looked() {
    let mut world = world_with(Windows::None, None);
    put_one(&mut world);
    world.drive();
    world.take();
    let job = world.jobs.pop().expect("a call is due");
    world.clock.advance(TIME_LIMIT);
    let now = world.driver.as_ref().unwrap().now();
    world.core.lock().finish(job.ticket, called(Response::done()), now);
    let counts = world.core.lock().counts.clone();
    assert_eq!((counts.timeouts, counts.stuck, counts.records), (1, 0, 1));
    // It is tried again after the pause.
    world.apply(&Operation::Advance { millis: 100 });
    world.take();
    let again = world.jobs.pop().expect("the same call is due");
    assert!(matches!(&again.work, Work::Call(invocation) if ids(invocation.records()) == [(1, 1)]));
}

#[test]
fn l5_a_shard_whose_commit_fails_does_not_hold_up_the_commits_of_others() {
    let mut world = World::new(Setting {
        lanes: 1,
        batch_size: 100,
        bisects: false,
        answers_items: false,
        retries: None,
        windows: Windows::None,
        poison: 2,
        commits_each: false,
    });
    world.put(39, 0);
    world.drive();
    for _ in 0..2 {
        world.take();
        let job = world.jobs.pop().expect("each shard has records");
        world.finish(job, false);
    }
    let ids: Vec<ShardId> = world.core.lock().shards.keys().copied().collect();
    // Beyond what was handed out, which is refused.
    let read_to = world.core.lock().shards[&ids[0]].read_to;
    world.core.lock().shards.get_mut(&ids[0]).unwrap().read_to = read_to.plus(1_000);
    assert!(world.driver.as_mut().unwrap().settle(&world.core).is_err());
    assert!(world.core.lock().commit_of(ids[1]).is_none(), "it is committed");
    world.core.lock().shards.get_mut(&ids[0]).unwrap().read_to = read_to;
    world.driver.as_mut().unwrap().settle(&world.core).unwrap();
    assert!(world.core.lock().commit_of(ids[0]).is_none(), "it was tried again");
}
