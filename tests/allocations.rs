//! Allocations of puts and reads on the calling thread: none for a put, one for a read, a few for a batch.
#![allow(unsafe_code)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use streamlog::{Durability, KeyHash, Maintenance, Position, PutRecord, Stream, StreamOptions};
use tempfile::TempDir;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts the allocations of each thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count_one() {
    // Allocates nothing itself: the cell is initialised as a constant and never dropped.
    COUNT.with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed to the system's allocator unchanged, and counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller keeps the promises of `alloc`, which are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count_one();
        // SAFETY: the block came from `System`, as every block of this allocator does; the caller promises the rest.
        unsafe { System.realloc(block, layout, bytes) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Returns how often the calling thread allocates in `work`, and the result of `work`.
fn allocations<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = COUNT.get();
    let outcome = work();
    (COUNT.get() - before, outcome)
}

const KEY: &str = "0123456789";
const MANUAL: Maintenance = Maintenance::Manual;

/// Opens a stream whose segments have room for everything that a test puts.
fn open(options: StreamOptions) -> (TempDir, Stream) {
    let directory = common::scratch();
    let stream = options.segment_bytes(64 << 20).open(directory.path()).unwrap();
    (directory, stream)
}

fn segment_count(stream: &Stream) -> usize {
    stream.stats().unwrap().shards[0].segment_count
}

/// Makes a thread do its one-time allocations: its draft, and what it needs to wait for a lock.
fn warm_up(stream: &Stream, data: &[u8]) {
    (0..100).for_each(|_| assert!(stream.put(KEY, data).is_ok()));
    let mutex = Mutex::new(());
    Condvar::new().wait_for(&mut mutex.lock(), Duration::from_millis(1));
}

/// Returns how often `count` puts of one size allocate within a segment.
fn allocations_of_puts(stream: &Stream, count: usize, data_bytes: usize) -> u64 {
    let data = vec![7; data_bytes];
    warm_up(stream, &data);
    let before = segment_count(stream);
    let (found, ()) = allocations(|| (0..count).for_each(|_| assert!(stream.put(KEY, &data).is_ok())));
    assert_eq!(segment_count(stream), before, "the puts must not roll");
    found
}

#[test]
fn the_counter_counts_all_ways_to_allocate_and_only_those_of_its_thread() {
    assert_eq!(allocations(|| drop(black_box(vec![1u8; 100]))).0, 1);
    assert_eq!(allocations(|| drop(black_box(vec![0u8; 100]))).0, 1);
    let mut grown = black_box(vec![1u8; 100]);
    assert_eq!(allocations(|| black_box(&mut grown).reserve(1_000)).0, 1);
    let there = std::thread::spawn(|| allocations(|| drop(black_box(vec![1u8; 100]))).0);
    let (here, there) = allocations(|| there.join().unwrap());
    assert_eq!((here, there), (0, 1));
}

#[test]
fn a_put_allocates_nothing() {
    for (maintenance, key_hash) in [(MANUAL, KeyHash::Xxh3), (Maintenance::Thread, KeyHash::Md5)] {
        let (_directory, stream) = open(StreamOptions::new().maintenance(maintenance).key_hash(key_hash));
        // 64 KiB is neither copied into the draft nor written through the mapping.
        for (count, data_bytes) in [(10_000, 0), (10_000, 100), (10_000, 1 << 10), (300, 64 << 10)] {
            let found = allocations_of_puts(&stream, count, data_bytes);
            assert_eq!(found, 0, "{count} puts of {data_bytes} bytes, {maintenance:?}");
        }
    }
}

#[test]
fn a_put_that_wakes_a_reader_allocates_nothing() {
    let (_directory, stream) = open(StreamOptions::new());
    let shard = stream.put(KEY, "").unwrap().shard;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut iterator = stream.iterator(shard, Position::Latest).unwrap();
            while iterator.wait(Duration::from_millis(200)).unwrap() {
                iterator.next_batch(100).unwrap();
            }
        });
        assert_eq!(allocations_of_puts(&stream, 10_000, 100), 0);
    });
}

#[test]
fn a_put_that_survives_power_loss_allocates_once() {
    for maintenance in [MANUAL, Maintenance::Thread] {
        let (_directory, stream) =
            open(StreamOptions::new().maintenance(maintenance).durability(Durability::Power));
        for data_bytes in [100, 1 << 10, 64 << 10] {
            // The list of segments to sync.
            let found = allocations_of_puts(&stream, 300, data_bytes);
            assert!(found <= 300, "300 puts of {data_bytes} bytes allocated {found} times, {maintenance:?}");
        }
    }
}

#[test]
fn only_the_puts_that_roll_allocate() {
    let directory = common::scratch();
    let options = StreamOptions::new().segment_bytes(1 << 20).maintenance(MANUAL);
    let stream = options.open(directory.path()).unwrap();
    let data = vec![7; 1 << 10];
    warm_up(&stream, &data);
    let before = segment_count(&stream);
    let allocating = (0..10_000).filter(|_| allocations(|| stream.put(KEY, &data).unwrap()).0 > 0).count();
    assert_eq!(allocating, segment_count(&stream) - before);
    assert!(allocating >= 9, "{allocating} rolls");
}

/// Returns how often a batch of `count` records with different keys allocates, on a thread that has put such a batch before.
fn allocations_of_batch(stream: &Stream, count: usize, data_bytes: usize) -> u64 {
    let data = vec![7; data_bytes];
    let keys: Vec<_> = (0..count).map(|key| key.to_string()).collect();
    let records: Vec<_> = keys.iter().map(|key| PutRecord::new(key, &data)).collect();
    stream.put_batch(&records).unwrap();
    let (found, outcomes) = allocations(|| stream.put_batch(&records).unwrap());
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), count);
    found
}

const BATCHES: [usize; 5] = [1, 10, 100, 1_000, 5_000];

#[test]
fn a_batch_to_one_shard_allocates_what_it_returns() {
    let (_directory, stream) = open(StreamOptions::new().maintenance(MANUAL));
    for count in BATCHES {
        assert_eq!(allocations_of_batch(&stream, count, 100), 1, "{count} records");
    }
    // A draft above 1 MiB is not kept.
    assert_eq!(allocations_of_batch(&stream, 100, 20 << 10), 2);

    let (_directory, stream) = open(StreamOptions::new().maintenance(MANUAL).durability(Durability::Power));
    for count in BATCHES {
        // Also the list of files to sync.
        assert_eq!(allocations_of_batch(&stream, count, 100), 2, "{count} records, with syncs");
    }
}

#[test]
fn a_batch_to_several_shards_allocates_a_few_lists_of_its_records() {
    let (_directory, stream) = open(StreamOptions::new().shards(4).maintenance(MANUAL));
    for count in BATCHES {
        // Outcomes by place, records to route, their shards, and the returned outcomes, a list that grows by doubling.
        let doublings = count.next_power_of_two().ilog2().max(2) - 1;
        let found = allocations_of_batch(&stream, count, 100);
        assert!(found <= u64::from(3 + doublings), "{count} records allocated {found} times");
    }
}

#[test]
fn a_read_allocates_once_and_its_records_nothing() {
    let (_directory, stream) = open(StreamOptions::new().maintenance(MANUAL));
    let first = stream.put(KEY, "first").unwrap();
    for count in [1, 100].into_iter().cycle().take(200) {
        stream
            .put_batch(&vec![PutRecord::new(KEY, &[7; 100]); count])
            .unwrap()
            .iter()
            .for_each(|it| assert!(it.is_ok()));
    }
    let mut iterator = stream.iterator(first.shard, Position::TrimHorizon).unwrap();
    // 37 ends a read within a frame.
    for records_max in [1, 10, 37, 1_000, 5_000] {
        let (found, batch) = allocations(|| iterator.next_batch(records_max).unwrap());
        assert_eq!((found, batch.len()), (1, records_max));
        let (found, data_bytes) =
            allocations(|| batch.iter().map(|record| record.data().len()).sum::<usize>());
        assert!(found == 0 && data_bytes > 0, "iterating {records_max} records allocated {found} times");
        let owned = allocations(|| batch.iter().map(|record| record.into_owned().data.len()).sum::<usize>());
        assert_eq!(owned, (0, data_bytes), "owned records share their batch");
    }
    let (found, ()) = allocations(|| iterator.seek(Position::At(first.sequence)).unwrap());
    assert_eq!(found, 0);
    assert_eq!(allocations(|| iterator.next_batch(1).unwrap().len()), (1, 1));
    iterator.seek(Position::Latest).unwrap();
    assert_eq!(allocations(|| iterator.next_batch(1_000).unwrap().len()), (0, 0));
}
