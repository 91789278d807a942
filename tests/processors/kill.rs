//! Kills a process with a processor at random moments, while shards split and merge: each record counts in one window: L1, L2, L3.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use common::killed::{Id, data, ids, kill_again_and_again, open, put_until_killed, told};
use streamlog::{Invocation, SECOND, Stream};

const ROUNDS: u64 = 6;

/// The function's state of its window: the last number of each key, and the count of all records.
type State = (BTreeMap<u64, u64>, Vec<Id>);

/// Not a test: the child that the kill test kills. In its last round, it puts nothing and ends when all windows have.
#[test]
fn child() {
    let Some((path, round)) = common::killed::child() else { return };
    let (clicks, windows) = (open(&path, "clicks"), open(&path, "windows"));
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
    if round < ROUNDS {
        put_until_killed(&clicks, &[&clicks], round);
    }
    while told(clicks.group("count").describe()).lag().record_count > 0 {
        thread::sleep(Duration::from_millis(10));
    }
    // Whatever the last window is, it has ended by then.
    thread::sleep(2 * SECOND);
    told(processor.close());
}

fn count(invocation: &Invocation, (last, all): &mut State, windows: &Stream) -> Result<(), String> {
    for record in invocation.records() {
        let (key, number): Id = serde_json::from_slice(record.data()).unwrap();
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

#[test]
fn l1_l2_l3_each_record_counts_in_one_window_wherever_the_process_is_killed() {
    let scratch = common::scratch();
    kill_again_and_again(module_path!(), scratch.path(), ROUNDS);
    let put: BTreeSet<Id> = ids(&open(scratch.path(), "clicks")).into_iter().collect();
    assert!(put.len() > 1_000, "{} records are too few for a test", put.len());
    // A repeated last call has the same state.
    let windows: BTreeSet<Vec<u8>> = data(&open(scratch.path(), "windows")).into_iter().collect();
    assert!(windows.len() > 10, "{} windows", windows.len());
    let mut counted = BTreeSet::new();
    for window in windows {
        for id in serde_json::from_slice::<Vec<Id>>(&window).unwrap() {
            assert!(counted.insert(id), "{id:?} counts twice");
        }
    }
    assert!(counted == put, "{} of {} count", counted.len(), put.len());
}
