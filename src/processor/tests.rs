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
use super::driver::Driver;
use super::invocation::{Invocation, Response};
use super::rules::Rules;
use crate::{Filter, Maintenance, ManualClock, ShardFilter, ShardId, Stream, StreamOptions, Timestamp};

/// A record: its key, and its number among those of the key.
type Id = (u8, u32);

const KEYS: u8 = 12;
/// The records of this key are filtered out.
const UNWANTED: u8 = 11;
const WINDOW: Duration = Duration::from_secs(5);
const TIME_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
struct Setting {
    lanes: usize,
    batch_size: usize,
    bisects: bool,
    answers_items: bool,
    retries: Option<u32>,
    has_windows: bool,
    /// Every so manieth record always fails, if there are bounded retries.
    poison: u32,
}

#[derive(Debug, Clone)]
enum Operation {
    Put {
        count: u8,
    },
    /// Commits what is done, and reads what is there.
    Drive,
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
        6 => (1..40u8).prop_map(|count| Operation::Put { count }),
        8 => Just(Operation::Drive),
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
    (1..=4_usize, 1..20_usize, any::<bool>(), any::<bool>(), retries, any::<bool>(), 2..30u32).prop_map(
        |(lanes, batch_size, bisects, answers_items, retries, has_windows, poison)| Setting {
            lanes,
            batch_size,
            bisects,
            answers_items,
            retries,
            has_windows,
            poison,
        },
    )
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
    put: BTreeMap<u8, u32>,
    /// For each key, the number of its first record that is not done.
    done: BTreeMap<u8, u32>,
    /// The same, as of the last time when everything was committed.
    committed: BTreeMap<u8, u32>,
    /// For the keys that were not read since a restart, the first record that may come again.
    comes_again: BTreeMap<u8, u32>,
    discarded: BTreeSet<Id>,
    /// The states with which windows ended.
    windows: BTreeSet<Vec<Id>>,
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

fn ids(invocation: &Invocation) -> Vec<Id> {
    let id = |data: &[u8]| serde_json::from_slice(data).unwrap();
    invocation.records().map(|record| id(record.data())).collect()
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
            put: BTreeMap::new(),
            done: BTreeMap::new(),
            committed: BTreeMap::new(),
            comes_again: BTreeMap::new(),
            discarded: BTreeSet::new(),
            windows: BTreeSet::new(),
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
        let first = |key: &u8| (*key, self.committed.get(key).copied().unwrap_or_default());
        self.comes_again = self.done.keys().map(first).collect();
    }

    fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::Put { count } => self.put(count),
            Operation::Drive => self.drive(),
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

    fn put(&mut self, count: u8) {
        for at in 0..u32::from(count) {
            let key = ((at * 7 + u32::from(count)) % u32::from(KEYS)) as u8;
            let number = self.put.entry(key).or_default();
            let data = serde_json::to_vec(&(key, *number)).unwrap();
            *number += 1;
            self.stream.as_ref().unwrap().put(format!("key-{key}"), data).unwrap();
        }
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
        if core.shards.keys().all(is_committed) {
            let known = self.done.iter().filter(|(key, _)| !self.comes_again.contains_key(key));
            self.committed.extend(known);
        }
    }

    fn take(&mut self) {
        let now = self.driver.as_ref().unwrap().now();
        let Some(job) = self.core.lock().take(now) else { return };
        if let Work::Call(invocation) = &job.work {
            self.check_call(invocation);
        }
        self.jobs.push(job);
    }

    /// L3: a call has the next records of each of its keys, and all of them are of its window.
    fn check_call(&mut self, invocation: &Invocation) {
        for (key, number) in ids(invocation) {
            // What was done but not committed before a restart may come again. How much of it was committed is not known here.
            if let Some(first) = self.comes_again.remove(&key)
                && (first..=self.done[&key]).contains(&number)
            {
                self.done.insert(key, number);
                // What was given up with others, but not committed, may be done this time.
                self.discarded.retain(|&(other, at)| other != key || at < number);
            }
        }
        let mut next = self.done.clone();
        for (key, number) in ids(invocation) {
            assert_ne!(key, UNWANTED, "the filter does not want it");
            let next = next.entry(key).or_default();
            assert_eq!(number, *next, "key {key}: something is left out, or comes again");
            *next += 1;
        }
        assert!(invocation.len() <= self.setting.batch_size);
        assert_eq!(invocation.window().is_some(), self.setting.has_windows);
        if let Some(window) = invocation.window() {
            let is_within = |at: Timestamp| window.start <= at && at < window.end;
            assert!(invocation.records().all(|record| is_within(record.timestamp())));
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
                    for record in discarded.records() {
                        let (key, number): Id = serde_json::from_slice(record.data()).unwrap();
                        self.discarded.insert((key, number));
                        let next = self.done.entry(key).or_default();
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
        let ids = ids(invocation);
        let is_final = invocation.window().is_some_and(|window| window.is_final);
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
        for &(key, number) in &ids[..done] {
            self.done.insert(key, number + 1);
        }
        let mut state: Vec<Id> = match invocation.state() {
            [] => vec![],
            state => serde_json::from_slice(state).unwrap(),
        };
        state.extend(&ids[..done]);
        if is_final {
            self.windows.insert(state.clone());
        }
        let response = match invocation.records().nth(done) {
            Some(record) => Response::failed_from(record.sequence()),
            None => Response::done(),
        };
        match self.setting.has_windows {
            true => response.with_state(serde_json::to_vec(&state).unwrap()),
            false => response,
        }
    }

    /// Goes on until everything is done.
    fn drain(&mut self) {
        for _ in 0..100_000 {
            self.drive();
            self.take();
            match self.jobs.pop() {
                Some(job) => self.finish(job, false),
                None if self.is_done() => return,
                None => self.apply(&Operation::Advance { millis: 10_000 }),
            }
        }
        panic!("it does not end: {:?} of {:?}", self.done, self.put);
    }

    fn is_done(&self) -> bool {
        let core = self.core.lock();
        let mut wanted = self.put.iter().filter(|&(&key, _)| key != UNWANTED);
        wanted.all(|(key, number)| self.done.get(key).unwrap_or(&0) == number)
            && core.shards.values().all(|shard| shard.is_settled())
    }

    /// L1, L2: each record counts once, in one window or as given up.
    fn check_end(&self) {
        let all = self.put.iter().filter(|&(&key, _)| key != UNWANTED);
        let all: BTreeSet<Id> =
            all.flat_map(|(&key, &count)| (0..count).map(move |number| (key, number))).collect();
        if self.setting.bisects || self.setting.batch_size == 1 {
            let poison: BTreeSet<Id> = all.iter().copied().filter(|&id| self.is_poison(id)).collect();
            assert_eq!(self.discarded, poison, "exactly the poisonous records are given up");
        }
        if self.setting.has_windows {
            let mut counted = self.discarded.clone();
            for &id in self.windows.iter().flatten() {
                assert!(counted.insert(id), "{id:?} counts twice");
            }
            assert_eq!(counted, all);
        }
        let lag = self.stream().group("model").describe().unwrap().lag().record_count;
        assert_eq!(lag, 0, "everything is committed");
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
        tumbling_window: setting.has_windows.then_some(WINDOW),
        has_destination: true,
        filter: Some(Filter::new(r#"{"partitionKey": [{"anything-but": "key-11"}]}"#).unwrap()),
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
    let mut world = World::new(Setting {
        lanes: 1,
        batch_size: 10,
        bisects: false,
        answers_items: false,
        retries: None,
        has_windows: true,
        poison: 2,
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
    let number = world.put.entry(0).or_default();
    let data = serde_json::to_vec(&(0, *number)).unwrap();
    *number += 1;
    world.stream.as_ref().unwrap().put("key-0", data).unwrap();
}

/// Takes a job that must be a call, and returns its records and whether it is a window's last.
fn call(world: &mut World) -> (Vec<Id>, bool) {
    world.take();
    let job = world.jobs.pop().expect("a call is due");
    let Work::Call(invocation) = &job.work else { panic!("it is a call") };
    let called = (ids(invocation), invocation.window().unwrap().is_final);
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
    assert_eq!(call(&mut world), (vec![(0, 1)], false));
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
    assert_eq!(call(&mut world), (vec![(0, 1)], false));
}

#[test]
fn l7_a_window_whose_time_is_over_ends_when_all_is_read_without_another_move_of_the_clock() {
    let mut world = world_with_a_window();
    put_one(&mut world);
    world.drive();
    world.apply(&Operation::Advance { millis: 2 * WINDOW.as_millis() as u32 });
    // The record is of the window whose time is over, and it is not known yet that nothing else is.
    assert_eq!(call(&mut world), (vec![(0, 1)], false));
    for _ in 0..2 {
        world.take();
        assert!(world.jobs.is_empty());
        world.drive();
    }
    assert_eq!(call(&mut world), (vec![], true));
}

#[test]
fn l5_a_shard_whose_commit_fails_does_not_hold_up_the_commits_of_others() {
    let mut world = World::new(Setting {
        lanes: 1,
        batch_size: 100,
        bisects: false,
        answers_items: false,
        retries: None,
        has_windows: false,
        poison: 2,
    });
    world.put(39);
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
