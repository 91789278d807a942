//! What a producer takes from the allocator: no more than its bound and some batches, however fast it is put to.
#![allow(unsafe_code)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use streamlog::{Error, HOUR, ProducerOptions, PutRecord, Stream, StreamOptions};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which counts the bytes that are in use.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn add(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came, and counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller keeps the promises of `alloc`, which are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        add(bytes);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the block came from `System`, as all of this allocator do; the rest is the caller's promise.
        unsafe { System.realloc(block, layout, bytes) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// The most bytes in use at a time during `work`, above those before it.
fn peak_bytes(work: impl FnOnce()) -> usize {
    let before = LIVE.load(Ordering::SeqCst);
    PEAK.store(before, Ordering::SeqCst);
    work();
    PEAK.load(Ordering::SeqCst) - before
}

const BOUND: usize = 8 << 20;
const BATCH: usize = 64 << 10;
/// For the batches that are being filled, written and used again, for the lists of their records that `put_batch` takes, for the stream
/// itself, and for threads: up to 2 MiB, as measured under load.
const BESIDE: usize = 3 << 20;

fn producers(stream: &Stream) -> [ProducerOptions; 4] {
    let options = stream.producer().buffer_bytes(BOUND).batch_bytes(BATCH).time_to_live(None);
    [
        options.clone(),
        options.clone().batch_count(1),
        options.clone().batch_count(100),
        options.linger(HOUR).batch_bytes(1),
    ]
}

/// Puts records while the sender stands still, until the buffer is full.
fn fill(options: ProducerOptions, data_bytes: impl Fn(usize) -> usize) {
    let producer = options.start().unwrap();
    let (leave, left) = channel::<()>();
    let (enter, entered) = channel();
    let stay = move |_| {
        enter.send(()).unwrap();
        let _ = left.recv();
    };
    producer.put_then(&PutRecord::new("key", "gate"), stay).unwrap();
    entered.recv_timeout(Duration::from_secs(300)).unwrap();
    let data = vec![7; BATCH];
    let mut count = 0;
    loop {
        match producer.try_put("k", &data[..data_bytes(count)]) {
            Ok(_) => count += 1,
            Err(Error::ProducerFull) => break,
            Err(error) => panic!("{error}"),
        }
    }
    drop(leave);
    producer.close().unwrap();
}

/// Puts from several threads, many times what the buffer holds, with sizes that change on the way.
fn flood(options: ProducerOptions) {
    let producer = options.start().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let producer = &producer;
            scope.spawn(move || {
                let data = [7; 3_000];
                for count in 0..20_000 {
                    let len = if count % 5_000 < 2_000 { 3_000 } else { count % 50 };
                    producer.put([thread], &data[..len]).unwrap();
                }
            });
        }
    });
    producer.close().unwrap();
}

// One test, so that nothing else is counted.
#[test]
fn memory_stays_within_the_bound() {
    let scratch = common::scratch();
    let stream = StreamOptions::new().shards(2).segment_bytes(1 << 20).open(scratch.path()).unwrap();
    // What the stream and its threads take once.
    flood(stream.producer().senders(2));
    for (at, options) in producers(&stream).into_iter().enumerate() {
        // The gate must not linger.
        let options = options.linger(Duration::ZERO);
        for (what, data_bytes) in [
            ("empty", (|_| 0) as fn(usize) -> usize),
            ("small", |_| 100),
            ("large", |_| BATCH / 2 + 1),
            ("mixed", |count| count * 997 % 4_000),
        ] {
            let options = options.clone();
            let peak = peak_bytes(|| fill(options, data_bytes));
            assert!(peak <= BOUND + BESIDE, "producer {at}, {what} records: {peak} bytes");
        }
    }
    // Batches that are full by count, and far from full by bytes.
    let options = stream.producer().buffer_bytes(BOUND).batch_bytes(1 << 20).batch_count(65);
    let peak = peak_bytes(|| fill(options, |_| 10_000));
    assert!(peak <= BOUND + BESIDE, "batches with room: {peak} bytes");
    for (at, options) in producers(&stream).into_iter().enumerate() {
        let peak = peak_bytes(|| flood(options.senders(2)));
        assert!(peak <= BOUND + BESIDE, "producer {at}, from many threads: {peak} bytes");
    }
}
