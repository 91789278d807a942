//! Tests of processors of records from elsewhere: they continue in another spool where the ledger says, whenever they are stopped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};

use super::ledger::{Entry, Ledger};
use super::source::{Elsewhere, PartProcessor, Running, Source, Spool};
use super::{Invocation, Processor, ProcessorStats, Runs};
use crate::{
    Destination, Error, Maintenance, ManualClock, PutRecord, Record, Result, SECOND, ShardId, StreamOptions,
    SystemClock, Timestamp,
};

/// What is kept elsewhere.
#[derive(Debug, Default)]
struct Kept {
    /// How many records are done.
    done: u64,
    state: Vec<u8>,
    /// The lease is lost.
    is_lost: bool,
    entries: u32,
}

/// A ledger of a spool whose first record is the one with this number.
#[derive(Debug)]
struct TestLedger {
    first: u64,
    kept: Arc<Mutex<Kept>>,
    /// How many requests there are for each entry that nobody waits for.
    every: u32,
    asked: u32,
}

impl Ledger for TestLedger {
    fn is_due(&mut self, is_urgent: bool) -> bool {
        self.asked += 1;
        is_urgent || self.asked.is_multiple_of(self.every)
    }

    fn enter(&mut self, entry: &Entry<'_>) -> Result<()> {
        let mut kept = self.kept.lock();
        if kept.is_lost {
            return Err(Error::GroupLeaseLost { group: "test".into(), shard: entry.shard });
        }
        if entry.shard == ShardId::new(0) {
            kept.done = self.first + entry.next.get();
            kept.state = entry.state.to_vec();
            kept.entries += 1;
        }
        Ok(())
    }
}

/// Keeps what it is to start, for a test to start it.
#[derive(Debug, Default)]
struct Captured(Arc<Mutex<Option<PartProcessor>>>);

struct Nothing;

impl Running for Nothing {
    fn place(&self) -> &str {
        "nowhere"
    }

    fn stats(&self) -> ProcessorStats {
        ProcessorStats::default()
    }

    fn is_over(&self) -> bool {
        true
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Elsewhere for Captured {
    fn start(&self, part: PartProcessor) -> Result<Box<dyn Running>> {
        *self.0.lock() = Some(part);
        Ok(Box::new(Nothing))
    }
}

fn number(record: &Record<'_>) -> u32 {
    std::str::from_utf8(record.data()).unwrap().parse().unwrap()
}

/// One run: it is stopped after this many records.
#[derive(Debug, Clone)]
struct RunFor {
    records: u32,
    lanes: usize,
    every: u32,
    /// It ends without a last commit, as a process that dies.
    dies: bool,
}

fn run_for() -> impl Strategy<Value = RunFor> {
    (0..150u32, 1..4usize, 1..20u32, any::<bool>()).prop_map(|(records, lanes, every, dies)| RunFor {
        records,
        lanes,
        every,
        dies,
    })
}

const RECORDS: u32 = 300;

struct World {
    kept: Arc<Mutex<Kept>>,
    /// The records with which windows ended.
    windows: Arc<Mutex<BTreeSet<Vec<u32>>>>,
    seen: Arc<Mutex<Vec<u32>>>,
    is_by_event: bool,
}

impl World {
    fn part(&self, lanes: usize) -> PartProcessor {
        let captured = Captured::default();
        let part = Arc::clone(&captured.0);
        let (windows, seen) = (Arc::clone(&self.windows), Arc::clone(&self.seen));
        let options = Source::elsewhere(captured).processor("test");
        let options = options.batch_size(5).parallelization_factor(lanes).tumbling_window(10 * SECOND);
        let options = match self.is_by_event {
            // A record happens as many tenths of a second after the beginning as its number says.
            true => options.event_time(|record| {
                Ok::<_, String>(Timestamp::from_millis(u64::from(number(record)) * 100))
            }),
            false => options,
        };
        let options = options.on_failure(Destination::function(|_| Ok::<_, String>(())));
        let function = move |invocation: &Invocation, ids: &mut Vec<u32>| {
            assert_eq!(invocation.shard(), ShardId::new(7), "that of elsewhere");
            let some: Vec<u32> = invocation.records().map(|record| number(&record)).collect();
            seen.lock().extend(&some);
            ids.extend(some);
            if invocation.window().is_some_and(|window| window.is_final) {
                windows.lock().insert(ids.clone());
            }
        };
        options.start_with_state(function).unwrap().close().unwrap();
        part.lock().take().unwrap()
    }

    /// Says where a processor stands, for a failure.
    fn state_of(&self, processor: &Processor) -> String {
        let Runs::Here { shared, .. } = &processor.runs else { return String::new() };
        let core = shared.core.lock();
        let mut seen = self.seen.lock().clone();
        seen.sort_unstable();
        seen.dedup();
        format!("{:?}, {} were seen, kept {:?}, {core:?}", core.stats(), seen.len(), self.kept.lock())
    }

    /// Runs on a new spool with the records that are not done. If `to_end`, the shard ends behind them.
    fn run(&self, run: &RunFor, to_end: bool) {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
        let clock = Arc::new(ManualClock::default());
        let options = StreamOptions::new().segment_bytes(64 << 10).maintenance(Maintenance::Manual);
        let stream = options.clock(Arc::clone(&clock) as _).open(directory.path()).unwrap();
        let (first, state) = {
            let kept = self.kept.lock();
            (kept.done, kept.state.clone())
        };
        let ledger = TestLedger { first, kept: Arc::clone(&self.kept), every: run.every, asked: 0 };
        let processor = self.part(run.lanes).start(Spool {
            stream: &stream,
            origin: ShardId::new(7),
            day: Arc::new(SystemClock),
            state: &state,
            has_gap: false,
            states_bytes_max: 100_000,
            ledger: Box::new(ledger),
        });
        let processor = processor.unwrap();
        for at in first..u64::from(RECORDS) {
            clock.set(Timestamp::from_millis(at * 100));
            let (key, data) = (format!("key {}", at % 7), at.to_string());
            stream.put_record(&PutRecord::new(&key, &data)).unwrap();
        }
        let begun = Instant::now();
        let wait = |is_there: &dyn Fn() -> bool| {
            while !is_there() {
                assert!(begun.elapsed() < Duration::from_secs(30), "{}", self.state_of(&processor));
                std::thread::sleep(Duration::from_micros(200));
            }
        };
        if to_end {
            stream.split_shard_evenly(ShardId::new(0)).unwrap();
            wait(&|| {
                // A lane that the last batch has nothing for ends its window when the time is over, or the shard is idle.
                if begun.elapsed() > Duration::from_millis(300) {
                    std::thread::sleep(Duration::from_millis(50));
                    clock.advance(SECOND);
                }
                let kept = self.kept.lock();
                kept.done == u64::from(RECORDS) && kept.state.is_empty()
            });
        } else {
            // What other lanes had done before does not come again.
            let have_all_come = || self.seen.lock().iter().collect::<BTreeSet<_>>().len() == RECORDS as usize;
            wait(&|| processor.stats().records >= run.records.into() || have_all_come());
            self.kept.lock().is_lost = run.dies;
        }
        processor.close().unwrap();
        self.kept.lock().is_lost = false;
    }
}

#[test]
fn l1_l2_a_processor_goes_on_in_another_spool_where_the_ledger_says() {
    let config = Config {
        cases: 12,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..Config::default()
    };
    let runs = (prop::collection::vec(run_for(), 0..4), any::<bool>());
    let outcome = TestRunner::new(config).run(&runs, |(runs, is_by_event)| {
        let world =
            World { kept: Arc::default(), windows: Arc::default(), seen: Arc::default(), is_by_event };
        runs.iter().for_each(|run| world.run(run, false));
        world.run(&RunFor { records: RECORDS, lanes: 2, every: 3, dies: false }, true);
        // Each record is in the state of one window, with which that ended.
        let mut ids: Vec<u32> = world.windows.lock().iter().flatten().copied().collect();
        ids.sort_unstable();
        prop_assert_eq!(ids, (0..RECORDS).collect::<Vec<_>>());
        // All came, and what was done when a run ended in peace came once.
        let mut seen = world.seen.lock().clone();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), RECORDS as usize);
        if runs.iter().all(|run| !run.dies) {
            prop_assert_eq!(world.seen.lock().len(), RECORDS as usize);
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn l4_entries_that_nobody_waits_for_are_made_seldom() {
    let world =
        World { kept: Arc::default(), windows: Arc::default(), seen: Arc::default(), is_by_event: true };
    world.run(&RunFor { records: RECORDS, lanes: 1, every: 1_000_000, dies: false }, true);
    // Each of the windows of thirty seconds is noted as over, and the end of the shard.
    let entries = world.kept.lock().entries;
    assert!(entries <= 2 * 4 + 4, "{entries}");
}

#[test]
fn l2_the_windows_of_all_lanes_end_with_the_shard_also_of_those_that_its_last_batch_has_nothing_for() {
    let key_of = |lane: u64| {
        let mut keys = (0..).map(|number: u32| format!("key {number}"));
        keys.find(|key| xxhash_rust::xxh3::xxh3_64(key.as_bytes()) % 2 == lane).unwrap()
    };
    let directory = tempfile::tempdir().unwrap();
    let options = StreamOptions::new().segment_bytes(64 << 10).maintenance(Maintenance::Manual);
    // No time passes.
    let stream = options.clock(Arc::new(ManualClock::default())).open(directory.path()).unwrap();
    // It is read in batches of ten.
    for number in 0..15 {
        stream.put(key_of(u64::from(number >= 5)), number.to_string()).unwrap();
    }
    stream.split_shard_evenly(ShardId::new(0)).unwrap();
    let world =
        World { kept: Arc::default(), windows: Arc::default(), seen: Arc::default(), is_by_event: false };
    let ledger = TestLedger { first: 0, kept: Arc::clone(&world.kept), every: 1, asked: 0 };
    let processor = world.part(2).start(Spool {
        stream: &stream,
        origin: ShardId::new(7),
        day: Arc::new(SystemClock),
        state: &[],
        has_gap: false,
        states_bytes_max: 100_000,
        ledger: Box::new(ledger),
    });
    let processor = processor.unwrap();
    let begun = Instant::now();
    while world.windows.lock().len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", world.state_of(&processor));
        std::thread::sleep(Duration::from_micros(200));
    }
    processor.close().unwrap();
    assert_eq!(*world.windows.lock(), BTreeSet::from([(0..5).collect(), (5..15).collect()]));
}
