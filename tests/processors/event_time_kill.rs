//! Kills a process with windows by event time at random moments, while shards split and merge: each record counts in the window of its event time, or is
//! late: L1, L2, L3.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use common::killed::{
    Id, child as killed_child, data, for_each, kill_again_and_again, open, put_until_killed, told,
};
use streamlog::{Destination, Discarded, Invocation, Record, SECOND, Stream, Timestamp};

const ROUNDS: u64 = 6;
const WINDOW: Duration = Duration::from_millis(1_000);
const LATENESS: Duration = Duration::from_millis(1_500);

/// When the event of a record happened: up to 2 s before it arrived, so that some are late.
fn event_time(record: &Record<'_>) -> Result<Timestamp, String> {
    let (key, number): Id = serde_json::from_slice(record.data()).map_err(|error| error.to_string())?;
    Ok(record.timestamp() - Duration::from_millis((key * 7_919 + number * 104_729) % 2_000))
}

/// Not a test: the child that the kill test kills. In its last round, it puts nothing and ends when all windows have.
#[test]
fn child() {
    let Some((path, round)) = killed_child() else { return };
    let [clicks, windows, late] = ["clicks", "windows", "late"].map(|name| open(&path, name));
    let to_windows = windows.clone();
    let processor = clicks
        .processor("count")
        .batch_size(20)
        // Other lanes in each round.
        .parallelization_factor(1 + round as usize % 4)
        .backoff(Duration::from_millis(1), Duration::from_millis(10))
        .tumbling_window(WINDOW)
        .event_time(event_time)
        .allowed_lateness(LATENESS)
        .idle_timeout(2 * SECOND)
        .on_failure(Destination::function(move |discarded: &Discarded| put_late(discarded, &late)))
        .start_with_state(move |invocation, all: &mut Vec<Id>| count(invocation, all, &to_windows));
    let processor = told(processor);
    if round < ROUNDS {
        put_until_killed(&clicks, &[&clicks], round);
    }
    while told(clicks.group("count").describe()).lag().record_count > 0 {
        thread::sleep(Duration::from_millis(10));
    }
    // No more events arrive, so all windows end.
    thread::sleep(6 * SECOND);
    told(processor.close());
}

fn count(invocation: &Invocation, all: &mut Vec<Id>, windows: &Stream) -> Result<(), String> {
    let window = invocation.window().unwrap();
    for record in invocation.records() {
        let (key, number): Id = serde_json::from_slice(record.data()).unwrap();
        if all.iter().rfind(|(other, _)| *other == key).is_some_and(|(_, last)| *last >= number) {
            println!("error L3: record {number} of key {key} comes out of order");
            std::process::abort();
        }
        // It fails from time to time, after it has changed the state.
        if number % 31 == 7 && invocation.attempt() == 1 {
            return Err("by chance".to_owned());
        }
        all.push((key, number));
    }
    if window.is_final {
        told(windows.put("window", serde_json::to_vec(&(window.start.as_micros(), all)).unwrap()));
    }
    Ok(())
}

fn put_late(discarded: &Discarded, late: &Stream) -> Result<(), streamlog::Error> {
    for record in discarded.records() {
        late.put(record.partition_key(), record.data())?;
    }
    Ok(())
}

#[test]
fn l1_l2_l3_each_record_counts_in_the_window_of_its_event_or_is_late_wherever_the_process_is_killed() {
    let scratch = common::scratch();
    kill_again_and_again(module_path!(), scratch.path(), ROUNDS);
    let mut event_of: BTreeMap<Id, Timestamp> = BTreeMap::new();
    let mut late_by_log: BTreeSet<Id> = BTreeSet::new();
    let mut watermarks = BTreeMap::new();
    for_each(&open(scratch.path(), "clicks"), |shard, record| {
        let (id, at) = (serde_json::from_slice(record.data()).unwrap(), event_time(&record).unwrap());
        let watermark: &mut Timestamp = watermarks.entry(shard).or_default();
        *watermark = (*watermark).max(at - LATENESS);
        if start_of(at) + WINDOW <= *watermark {
            late_by_log.insert(id);
        }
        event_of.insert(id, at);
    });
    assert!(event_of.len() > 1_000, "{} records are too few for a test", event_of.len());
    // A record may be given up twice if the process is killed in between.
    let late = data(&open(scratch.path(), "late"));
    let late: BTreeSet<Id> = late.iter().map(|data| serde_json::from_slice(data).unwrap()).collect();
    assert!(!late_by_log.is_empty() && late.is_superset(&late_by_log), "{} late", late_by_log.len());
    // A repeated last call has the same state.
    let windows: BTreeSet<Vec<u8>> = data(&open(scratch.path(), "windows")).into_iter().collect();
    assert!(windows.len() > 10, "{} windows", windows.len());
    let mut counted = late;
    for window in windows {
        let (start, ids): (u64, Vec<Id>) = serde_json::from_slice(&window).unwrap();
        for id in ids {
            assert_eq!(start_of(event_of[&id]), Timestamp::from_micros(start));
            assert!(counted.insert(id), "{id:?} counts twice");
        }
    }
    assert!(counted.iter().eq(event_of.keys()), "{} of {} count", counted.len(), event_of.len());
}

fn start_of(at: Timestamp) -> Timestamp {
    let length = WINDOW.as_micros() as u64;
    Timestamp::from_micros(at.as_micros() / length * length)
}
