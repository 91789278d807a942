//! The memory of a producer: no more than its bound and some batches, however fast records come.

mod common;
#[path = "common/peak.rs"]
mod peak;

use std::sync::mpsc::channel;
use std::time::Duration;

use peak::peak_bytes;
use streamlog::{Error, HOUR, ProducerOptions, PutRecord, Stream, StreamOptions};

const BOUND: usize = 8 << 20;
const BATCH: usize = 64 << 10;
/// An allowance for the batches being filled, written and reused, the lists of records that `put_batch` takes, the stream, and threads.
/// Under load they were measured to take up to 2 MiB.
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

/// Puts records while the sender is blocked, until the buffer is full.
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

/// Puts many times what the buffer holds, from several threads and with changing sizes.
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

// The only test in this file, so that nothing else is counted.
#[test]
fn memory_stays_within_the_bound() {
    let scratch = common::scratch();
    let stream = StreamOptions::new().shards(2).segment_bytes(1 << 20).open(scratch.path()).unwrap();
    // Makes the stream and its threads do their one-time allocations.
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
    // Batches that are full by count but far from full by bytes.
    let options = stream.producer().buffer_bytes(BOUND).batch_bytes(1 << 20).batch_count(65);
    let peak = peak_bytes(|| fill(options, |_| 10_000));
    assert!(peak <= BOUND + BESIDE, "batches with room: {peak} bytes");
    for (at, options) in producers(&stream).into_iter().enumerate() {
        let peak = peak_bytes(|| flood(options.senders(2)));
        assert!(peak <= BOUND + BESIDE, "producer {at}, from many threads: {peak} bytes");
    }
}
