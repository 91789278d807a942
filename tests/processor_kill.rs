//! Kills a process with a processor at random moments, while shards split and merge: each record counts in one window: L1, L2, L3.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use streamlog::{Invocation, Position, SECOND, ShardFilter, Stream, StreamOptions};

const ROUNDS: u64 = 8;
const KEYS: u64 = 20;

/// What the function knows of its window: the last number of each key, and all numbers.
type State = (BTreeMap<u64, u64>, Vec<(u64, u64)>);

/// Prints an error and aborts, because the child cannot return it to anyone.
fn told<T, E: Display>(outcome: Result<T, E>) -> T {
    outcome.unwrap_or_else(|error| {
        println!("error {error}");
        std::process::abort()
    })
}

fn open(path: &Path, name: &str) -> Stream {
    told(StreamOptions::new().shards(2).segment_bytes(256 << 10).open(path.join(name)))
}

/// Not a test: the child that the kill test kills. In its last round, it ends when all windows have.
#[test]
fn child() {
    let Ok(path) = std::env::var("STREAMLOG_PROCESSOR_KILL_TEST") else { return };
    let round: u64 = std::env::var("STREAMLOG_ROUND").unwrap().parse().unwrap();
    let (clicks, windows) = (open(path.as_ref(), "clicks"), open(path.as_ref(), "windows"));
    let to_windows = windows.clone();
    let processor = clicks
        .processor("count")
        .batch_size(7)
        // Other lanes in each round.
        .parallelization_factor(1 + round as usize % 4)
        .backoff(Duration::from_millis(1), Duration::from_millis(10))
        .tumbling_window(SECOND)
        .start_with_state(move |invocation, state: &mut State| count(invocation, state, &to_windows));
    let processor = told(processor);
    println!("ready");
    if round == ROUNDS {
        // Whatever the last window is, it has ended by then.
        let ready = || told(clicks.group("count").describe()).lag().record_count == 0;
        while !ready() {
            thread::sleep(Duration::from_millis(10));
        }
        let of_rest = processor.stats().invocations;
        thread::sleep(3 * SECOND);
        println!("{of_rest} calls, and {} after it", processor.stats().invocations - of_rest);
        told(processor.close());
        return;
    }
    // The next numbers of all keys.
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for (key, _) in read(&clicks) {
        *next.entry(key).or_default() += 1;
    }
    for number in 0u64.. {
        let key = number % KEYS;
        let next = next.entry(key).or_default();
        told(clicks.put(key.to_le_bytes(), serde_json::to_vec(&(key, *next)).unwrap()));
        *next += 1;
        if number % 200 == 100 {
            reshard(&clicks, number / 200 + round);
        }
        if number % 50 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn reshard(stream: &Stream, pick: u64) {
    let mut open = stream.list_shards(ShardFilter::AtLatest);
    open.sort_by_key(|shard| shard.hash_key_range.start);
    let at = (pick * 7) as usize % open.len();
    if open.len() < 3 {
        told(stream.split_shard_evenly(open[at].id));
    } else {
        told(stream.merge_shards(open[0].id, open[1].id));
    }
}

fn numbers(invocation: &Invocation) -> Vec<(u64, u64)> {
    invocation.records().map(|record| serde_json::from_slice(record.data()).unwrap()).collect()
}

fn count(invocation: &Invocation, (last, all): &mut State, windows: &Stream) -> Result<(), String> {
    for (key, number) in numbers(invocation) {
        if last.insert(key, number).is_some_and(|last| last + 1 != number) {
            println!("error L3: record {number} of key {key} comes out of order");
            std::process::abort();
        }
        // It fails from time to time, after it has changed the state.
        if number % 31 == 7 && invocation.attempt() == 1 {
            return Err("by chance".to_owned());
        }
        all.push((key, number));
    }
    if invocation.window().is_some_and(|window| window.is_final) {
        told(windows.put("window", serde_json::to_vec(all).unwrap()));
    }
    Ok(())
}

fn records(stream: &Stream) -> Vec<Vec<u8>> {
    let mut records = vec![];
    for shard in stream.shards() {
        let mut iterator = told(stream.iterator(shard.id, Position::TrimHorizon));
        loop {
            let batch = told(iterator.next_batch(1_000));
            if batch.is_empty() {
                break;
            }
            records.extend(batch.iter().map(|record| record.data().to_vec()));
        }
    }
    records
}

fn read(clicks: &Stream) -> Vec<(u64, u64)> {
    records(clicks).iter().map(|data| serde_json::from_slice(data).unwrap()).collect()
}

fn spawn_child(path: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(common::CHILD_TEST)
        .env("STREAMLOG_PROCESSOR_KILL_TEST", path)
        .env("STREAMLOG_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn l1_l2_l3_each_record_counts_in_one_window_wherever_the_process_is_killed() {
    let scratch = common::scratch();
    for round in 0..=ROUNDS {
        let mut child = spawn_child(scratch.path(), round);
        if round < ROUNDS {
            let begun = Instant::now();
            // In some rounds the child dies while it opens.
            let life = Duration::from_millis(100 + round * 173 % 700);
            while begun.elapsed() < life && child.try_wait().unwrap().is_none() {
                thread::sleep(Duration::from_millis(5));
            }
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains("error"), "round {round}: {text}");
        assert!(round < ROUNDS || output.status.success(), "{text}");
    }
    let put: BTreeSet<(u64, u64)> = read(&open(scratch.path(), "clicks")).into_iter().collect();
    assert!(put.len() > 1_000, "{} records are too few for a test", put.len());
    // A last call that was repeated has the same state.
    let windows: BTreeSet<Vec<u8>> = records(&open(scratch.path(), "windows")).into_iter().collect();
    assert!(windows.len() > 10, "{} windows", windows.len());
    let mut counted = BTreeSet::new();
    for window in windows {
        for id in serde_json::from_slice::<Vec<(u64, u64)>>(&window).unwrap() {
            assert!(counted.insert(id), "{id:?} counts twice");
        }
    }
    assert!(counted == put, "{} of {} count", counted.len(), put.len());
}
