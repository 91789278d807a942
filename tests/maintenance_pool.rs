//! Many streams that two threads maintain: P1, P2, P12.
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use streamlog::{MaintenancePool, Position, Retention, Stream, StreamOptions};

mod common;

/// Streams of all tests of this program are maintained by threads of the same names, so the tests run one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Returns how many maintenance threads this process has.
fn thread_count() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| ["streamlog", "streamlog-ahead"].contains(&name.trim())).count()
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

fn is_synced(stream: &Stream) -> bool {
    stream.stats().unwrap().shards.iter().all(|shard| shard.synced_sequence == shard.next_sequence)
}

fn options() -> StreamOptions {
    StreamOptions::new().segment_bytes(64 << 10).sync_interval(Duration::from_millis(100))
}

#[test]
fn p2_two_threads_sync_and_seal_hundreds_of_streams() {
    let _alone = ALONE.lock();
    let scratch = common::scratch();
    let pool = MaintenancePool::new().unwrap();
    let open = |number: usize| pool.open(scratch.path().join(number.to_string()), options()).unwrap();
    let mut streams: Vec<_> = (0..200).map(open).collect();
    assert_eq!(thread_count(), 2);
    for round in 0..3 {
        for (number, stream) in streams.iter().enumerate() {
            // Some roll many times, some not at all.
            (0..1 + number % 7 * 4).for_each(|_| _ = stream.put("key", vec![round; 10_000]).unwrap());
        }
        wait_until("all are synced", || streams.iter().all(is_synced));
        // Some are closed meanwhile, and opened again.
        let closed = streams.split_off(150);
        closed.into_iter().for_each(|stream| stream.close().unwrap());
        streams.extend((150..200).map(open));
    }
    for (number, stream) in streams.iter().enumerate() {
        assert_eq!(stream.stats().unwrap().record_count(), 3 * (1 + number as u64 % 7 * 4));
        assert!(number < 150 || stream.recovery().shards[0].was_closed_cleanly);
    }
    drop(pool);
    assert_eq!(thread_count(), 2, "the streams still need them");
    streams[0].put("key", "the last").unwrap();
    wait_until("it is synced", || is_synced(&streams[0]));
    drop(streams);
    assert_eq!(thread_count(), 0);
}

#[test]
fn p12_retention_runs_in_each_stream_of_a_pool() {
    let _alone = ALONE.lock();
    let (scratch, clock) = (common::scratch(), common::clock());
    let pool = MaintenancePool::new().unwrap();
    let options = options().retention(Retention::age(Duration::from_secs(60))).clock(clock.clone());
    let open = |number: u32| pool.open(scratch.path().join(number.to_string()), options.clone()).unwrap();
    let streams: Vec<_> = (0..20).map(open).collect();
    streams.iter().for_each(|stream| _ = stream.put("key", "old").unwrap());
    clock.advance(Duration::from_secs(61));
    streams.iter().for_each(|stream| _ = stream.put("key", "new").unwrap());
    let is_trimmed = |stream: &Stream| stream.stats().unwrap().record_count() == 1;
    wait_until("the old record is dropped everywhere", || streams.iter().all(is_trimmed));
    for stream in &streams {
        let mut iterator = stream.iterator(stream.shards()[0].id, Position::TrimHorizon).unwrap();
        assert_eq!(iterator.next_batch(10).unwrap().iter().next().unwrap().data(), b"new");
    }
}

#[test]
fn a_callback_of_one_stream_may_close_itself_or_another_of_the_pool() {
    let _alone = ALONE.lock();
    let scratch = common::scratch();
    let pool = MaintenancePool::new().unwrap();
    let other = pool.open(scratch.path().join("other"), options()).unwrap();
    let to_close = Arc::new(Mutex::new(vec![other]));
    let closed = Arc::new(AtomicUsize::new(0));
    let itself = {
        let (to_close, closed) = (Arc::clone(&to_close), Arc::clone(&closed));
        let report = move |_: &std::path::Path, _: &streamlog::StreamStats| {
            let streams = std::mem::take(&mut *to_close.lock());
            for stream in streams {
                stream.close().unwrap();
                closed.fetch_add(1, Ordering::Release);
            }
        };
        pool.open(scratch.path().join("itself"), options().report_stats(report)).unwrap()
    };
    to_close.lock().push(itself.clone());
    wait_until("both are closed", || closed.load(Ordering::Acquire) == 2);
    assert!(itself.put("key", "data").is_err());
    for name in ["itself", "other"] {
        let again = pool.open(scratch.path().join(name), options()).unwrap();
        again.put("key", "data").unwrap();
        wait_until("the pool goes on", || is_synced(&again));
    }
}
