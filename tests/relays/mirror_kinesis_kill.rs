//! A mirror whose process is killed repeatedly, while the Kinesis stream gets records and is split and merged: L1, L2, L3.

use crate::common;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::killed::{ids, kill_each_after, open, split_or_merge, told};
use common::kinesis_origin::client;
use streamlog::gateway::Gateway;
use streamlog::{Store, Stream, StreamOptions};

const ROUNDS: u64 = 12;
const KEYS: u64 = 20;

/// Not a test: the process that is killed. It mirrors, and splits and merges the shards of its own stream meanwhile.
#[test]
fn child() {
    let Some((path, round)) = common::killed::child() else { return };
    let url = std::fs::read_to_string(path.join("url")).unwrap();
    let stream = open(&path, "local");
    let mirror = stream.mirror("down").from_kinesis(&client(&url), "orders");
    let mirror = told(mirror.poll_interval(Duration::from_millis(20)).start());
    common::killed::note_begun();
    if round < ROUNDS {
        for pick in round.. {
            std::thread::sleep(Duration::from_millis(100));
            split_or_merge(&stream, pick);
            if mirror.is_over() {
                told(Err::<(), _>(format!("it has ended: {:?}", mirror.stats())));
            }
        }
    }
    // The source gets no more records once it has seen this.
    std::fs::write(path.join("last"), "").unwrap();
    let stopped = path.join("stopped");
    common::kinesis_origin::wait_until(|| stopped.exists());
    let count: u64 = std::fs::read_to_string(stopped).unwrap().parse().unwrap();
    common::kinesis_origin::wait_until(|| mirror.is_caught_up() && count_of(&stream) >= count);
    assert_eq!(mirror.stats().skipped, 0, "error");
    told(mirror.close());
    told(stream.close());
}

fn count_of(stream: &Stream) -> u64 {
    told(stream.stats()).shards.iter().map(|shard| shard.record_count()).sum()
}

/// Puts numbers of all keys into the source until the last child runs, and splits and merges its shards. Returns how many each key has.
fn feed(source: &Stream, path: &Path, is_over: &AtomicBool) -> BTreeMap<u64, u64> {
    let mut keys: BTreeMap<u64, u64> = BTreeMap::new();
    for number in 0u64.. {
        let next = keys.entry(number % KEYS).or_default();
        let data = serde_json::to_vec(&(number % KEYS, *next)).unwrap();
        source.put(format!("key-{}", number % KEYS), data).unwrap();
        *next += 1;
        if number % 20 == 0 {
            std::thread::sleep(Duration::from_millis(15));
            if path.join("last").exists() || is_over.load(Ordering::Relaxed) {
                break;
            }
        }
        if number % 1_500 == 700 {
            split_or_merge(source, number / 1_500);
        }
    }
    std::fs::write(path.join("stopping"), keys.values().sum::<u64>().to_string()).unwrap();
    std::fs::rename(path.join("stopping"), path.join("stopped")).unwrap();
    keys
}

#[test]
fn l2_a_mirror_that_is_killed_again_and_again_has_each_record_once_in_order() {
    let scratch = common::scratch();
    let store = Store::open(scratch.path().join("kinesis"), StreamOptions::new()).unwrap();
    let source = store.create("orders", StreamOptions::new().shards(2)).unwrap();
    let gateway = Gateway::new(store.clone()).without_authentication().delay(Duration::ZERO);
    let running = gateway.start("127.0.0.1:0").unwrap();
    std::fs::write(scratch.path().join("url"), format!("http://{}", running.local_address())).unwrap();
    let is_over = AtomicBool::new(false);
    let keys = std::thread::scope(|scope| {
        let feeding = scope.spawn(|| feed(&source, scratch.path(), &is_over));
        let killing = std::panic::catch_unwind(AssertUnwindSafe(|| {
            kill_each_after(module_path!(), scratch.path(), ROUNDS, |round| {
                Duration::from_millis(100 + round * 373 % 800)
            });
        }));
        is_over.store(true, Ordering::Relaxed);
        let keys = feeding.join().unwrap();
        killing.unwrap();
        keys
    });
    let local = open(scratch.path(), "local");
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for (key, number) in ids(&local) {
        let expected = next.entry(key).or_default();
        assert_eq!(number, *expected, "of key {key}");
        *expected += 1;
    }
    assert_eq!(next, keys);
    assert!(keys.values().sum::<u64>() > 3_000, "{keys:?}");
    running.close().unwrap();
}
