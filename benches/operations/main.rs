//! The cost of single operations on records of 100 B, 1 KiB and 64 KiB, and its change between two versions.
//!
//! `cargo bench --bench operations -- [FILTER] [--quick]`; `--save-baseline NAME` and `--baseline NAME` compare two versions, `--test`
//! runs each operation once. It works in `TMPDIR`, which should be on the disk to measure, and takes up to 1 GiB there.
//!
//! | group | what is timed |
//! |---|---|
//! | `put` | a put, including rolls |
//! | `put_limited` | the same in a stream with limits that let everything pass |
//! | `put_batch` | a batch of 100 records |
//! | `next_batch` | a read of 1,000 records and a look at every byte, of records put singly and 100 at a time; everything is mapped |
//! | `seek` | a seek to a random place in 8 or more sealed segments, by number and by time, and a read of one record there |
//! | `roll` | a put of 40,000 B that begins a segment; `fits` does not begin one, `seals` also seals an older one |
//! | `open` | opening a stream of 32 MiB after a clean close, and after a kill, which scans all of it; closing is not timed |
//! | `hash` | the hash of a partition key of 10 bytes |
//! | `route` | a put of 100 B, with 16 keys in turn, to streams of more and more shards |
//!
//! Growing streams sync, seal and trim while the clock is stopped, so that neither the speed nor the size of the disk counts.

mod streams;

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use streamlog::{
    Batch, KeyHash, Limits, Maintenance, Position, PutRecord, Retention, ShardIterator, Stream,
    StreamOptions, Timestamp,
};

use streams::{BYTES_BETWEEN, Growing, KEY, copy_dir, filled};

const SIZES: [(&str, usize); 3] = [("100 B", 100), ("1 KiB", 1 << 10), ("64 KiB", 64 << 10)];

criterion_group! {
    name = operations;
    // Long measurements write a lot.
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = put, put_limited, put_batch, next_batch, seek, roll, open, hash, route
}
criterion_main!(operations);

fn group<'a>(
    criterion: &'a mut Criterion,
    name: &str,
    records: usize,
    bytes: usize,
) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::ElementsAndBytes {
        elements: records as u64,
        bytes: (records * bytes) as u64,
    });
    group
}

fn put(criterion: &mut Criterion) {
    for (name, bytes) in SIZES {
        let (mut growing, data) = (Growing::new(StreamOptions::new()), vec![7; bytes]);
        group(criterion, "put", 1, bytes).bench_function(name, |bencher| {
            bencher.iter_custom(|runs| {
                growing.time(runs, bytes, |stream| assert!(black_box(stream.put(KEY, &data)).is_ok()))
            });
        });
    }
}

fn put_limited(criterion: &mut Criterion) {
    const PLENTY: u64 = 1 << 40;
    let limits = Limits::none().write_bytes_per_second(PLENTY).write_records_per_second(PLENTY);
    let (mut growing, data) = (Growing::new(StreamOptions::new().limits(limits)), vec![7; 100]);
    group(criterion, "put_limited", 1, data.len()).bench_function("100 B", |bencher| {
        bencher.iter_custom(|runs| {
            growing.time(runs, data.len(), |stream| assert!(black_box(stream.put(KEY, &data)).is_ok()))
        });
    });
}

fn put_batch(criterion: &mut Criterion) {
    const RECORDS: usize = 100;
    for (name, bytes) in SIZES {
        let (mut growing, data) = (Growing::new(StreamOptions::new()), vec![7; bytes]);
        let batch = vec![PutRecord::new(KEY, &data); RECORDS];
        group(criterion, "put_batch", RECORDS, bytes).bench_function(name, |bencher| {
            bencher.iter_custom(|runs| {
                growing.time(runs, RECORDS * bytes, |stream| {
                    let outcomes = stream.put_batch(&batch).expect("a batch");
                    assert!(outcomes.iter().all(Result::is_ok));
                })
            });
        });
    }
}

fn iterator(stream: &Stream) -> ShardIterator {
    stream.iterator(stream.shards()[0].id, Position::TrimHorizon).expect("an iterator")
}

/// Looks at every byte of a batch.
fn touch(batch: &Batch) -> u64 {
    batch.iter().map(|record| record.data().iter().map(|&byte| u64::from(byte)).sum::<u64>()).sum()
}

fn next_batch(criterion: &mut Criterion) {
    const RECORDS: usize = 1_000;
    for ((name, bytes), at_a_time) in SIZES.into_iter().flat_map(|size| [(size, 1), (size, 100)]) {
        // In one segment, since a batch ends where its segment does.
        let reads = (BYTES_BETWEEN / (RECORDS * bytes)).max(4) as u64;
        let mut full = None;
        let id = BenchmarkId::new(name, format!("put {at_a_time} at a time"));
        group(criterion, "next_batch", RECORDS, bytes).bench_function(id, |bencher| {
            let (_, iterator, read) = full.get_or_insert_with(|| {
                let (directory, stream, _) = filled(512 << 20, reads as usize * RECORDS, bytes, at_a_time);
                let mut iterator = iterator(&stream);
                // Reads once before, so that no page is mapped while the clock runs.
                for _ in 0..reads {
                    black_box(touch(&iterator.next_batch(RECORDS).expect("a batch")));
                }
                (directory, iterator, 0)
            });
            let mut timed_read = || {
                if *read % reads == 0 {
                    iterator.seek(Position::TrimHorizon).expect("the start");
                }
                *read += 1;
                let started = Instant::now();
                let batch = iterator.next_batch(RECORDS).expect("a batch");
                black_box(touch(&batch));
                let elapsed = started.elapsed();
                assert_eq!(batch.len(), RECORDS);
                elapsed
            };
            bencher.iter_custom(|runs| (0..runs).map(|_| timed_read()).sum());
        });
    }
}

fn seek(criterion: &mut Criterion) {
    for (name, bytes) in SIZES {
        let records = (BYTES_BETWEEN / bytes) as u64;
        let (directory, stream, options) = filled(8 << 20, records as usize, bytes, 1);
        stream.close().expect("a clean close");
        let stream = options.open(directory.path()).expect("the stream again");
        assert!(stream.stats().expect("stats").shards[0].segment_count >= 8);
        let mut iterator = iterator(&stream);
        let first = iterator.next_sequence();
        let mut random = 1u64;
        let mut place = || {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (random >> 32) % records
        };
        let mut read_at = |position| {
            iterator.seek(position).expect("a place");
            black_box(touch(&iterator.next_batch(1).expect("a record")))
        };
        let mut group = group(criterion, "seek", 1, bytes);
        group.bench_function(BenchmarkId::new(name, "by number"), |bencher| {
            bencher.iter(|| read_at(Position::At(first.plus(place()))));
        });
        group.bench_function(BenchmarkId::new(name, "by time"), |bencher| {
            bencher.iter(|| read_at(Position::AtTimestamp(Timestamp::from_millis(place()))));
        });
    }
}

fn roll(criterion: &mut Criterion) {
    const BYTES: usize = 40_000;
    let mut group = group(criterion, "roll", 1, BYTES);
    let data = vec![7; BYTES];
    let put = |stream: &Stream| assert!(black_box(stream.put(KEY, &data)).is_ok());
    let mut growing = Growing::new(StreamOptions::new());
    group.bench_function("fits", |bencher| bencher.iter_custom(|runs| growing.time(runs, BYTES, put)));
    group.sample_size(20);
    for (name, segment_bytes, seals) in [
        ("64 KiB segments", 64 << 10, false),
        ("64 KiB segments, seals", 64 << 10, true),
        ("64 MiB segments", 64 << 20, false),
    ] {
        let Growing { stream, directory: _directory, .. } =
            Growing::new(StreamOptions::new().segment_bytes(segment_bytes).maintenance(Maintenance::Manual));
        stream.set_retention(Retention::forever().bytes_max(segment_bytes)).expect("a retention");
        let segments = || stream.stats().expect("stats").shards[0].segment_count;
        let mut fitting = 0;
        while segments() < 2 {
            put(&stream);
            fitting += 1;
        }
        // The last put did not fit: it is in the next segment.
        fitting -= 1;
        let timed_roll = || {
            if !seals {
                stream.maintain().expect("maintenance");
            }
            (1..fitting).for_each(|_| put(&stream));
            let before = segments();
            let started = Instant::now();
            put(&stream);
            let elapsed = started.elapsed();
            assert_eq!(segments(), before + 1, "the put must roll");
            elapsed
        };
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|runs| {
                stream.maintain().expect("maintenance");
                // As many segments of this size as may wait to be sealed.
                (0..4).filter(|_| seals).for_each(|_| put(&stream));
                (0..runs).map(|_| timed_roll()).sum()
            });
        });
    }
}

fn open(criterion: &mut Criterion) {
    for (name, bytes) in SIZES {
        let (live, stream, _) = filled(64 << 20, (32 << 20) / bytes, bytes, 1);
        let mut group = criterion.benchmark_group("open");
        group.sample_size(20);
        let timed_open = |path: &Path| {
            let started = Instant::now();
            let opened = StreamOptions::new().must_exist().open(path).expect("the stream again");
            let elapsed = started.elapsed();
            opened.close().expect("a clean close");
            elapsed
        };
        group.bench_function(BenchmarkId::new(name, "after a kill"), |bencher| {
            let copy_and_open = |_| {
                let copy = tempfile::tempdir().expect("a directory to work in");
                copy_dir(live.path(), copy.path()).expect("a copy of the live files");
                timed_open(copy.path())
            };
            bencher.iter_custom(|runs| (0..runs).map(copy_and_open).sum());
        });
        stream.close().expect("a clean close");
        group.bench_function(BenchmarkId::new(name, "after a clean close"), |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| timed_open(live.path())).sum());
        });
    }
}

fn hash(criterion: &mut Criterion) {
    for (name, key_hash) in [("Xxh3", KeyHash::Xxh3), ("Md5", KeyHash::Md5)] {
        group(criterion, "hash", 1, KEY.len()).bench_function(name, |bencher| {
            bencher.iter(|| key_hash.hash(black_box(KEY.as_bytes())));
        });
    }
}

fn route(criterion: &mut Criterion) {
    const BYTES: usize = 100;
    let keys: Vec<_> = (0..16).map(|key| format!("key-{key:06}")).collect();
    for shards in [1, 16, 1_024] {
        // Small segments, because as many streams grow as there are keys.
        let mut growing = Growing::new(StreamOptions::new().shards(shards).segment_bytes(8 << 20));
        let mut keys = keys.iter().cycle();
        let id = BenchmarkId::from_parameter(format!("{shards} shards"));
        group(criterion, "route", 1, BYTES).bench_function(id, |bencher| {
            bencher.iter_custom(|runs| {
                growing.time(runs, BYTES, |stream| {
                    let key = keys.next().expect("an endless cycle");
                    assert!(black_box(stream.put(key, [7; BYTES])).is_ok());
                })
            });
        });
    }
}
