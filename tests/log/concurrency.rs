//! Writers and readers at the same time, across rolls: P1, P2, P4, P6.

use crate::common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use streamlog::{Durability, Error, Position, PutRecord, ShardIterator, StreamOptions, wait_any};

const WRITER_COUNT: u64 = 4;
const RECORDS_PER_WRITER: u64 = 20_000;

/// Reads a shard, and checks that each writer's records come in order, none missing and none twice.
struct Follower {
    iterator: ShardIterator,
    seen: HashMap<u64, u64>,
    next: u64,
}

impl Follower {
    fn new(iterator: ShardIterator) -> Self {
        let next = iterator.next_sequence().get();
        Self { iterator, seen: HashMap::new(), next }
    }

    fn read(&mut self, records_max: usize) -> usize {
        let batch = self.iterator.next_batch(records_max).unwrap();
        for record in &batch {
            assert_eq!(record.sequence().get(), self.next, "P6: a record was skipped or read twice");
            self.next += 1;
            let writer = u64::from_le_bytes(record.partition_key().try_into().unwrap());
            let number = u64::from_le_bytes(record.data()[..8].try_into().unwrap());
            if let Some(last) = self.seen.insert(writer, number) {
                assert_eq!(number, last + 1, "P4: the records of one key come in the order of their puts");
            }
            assert!(record.data()[8..].iter().all(|&byte| byte == number as u8), "a record was torn");
        }
        batch.len()
    }
}

#[test]
fn p4_p6_readers_at_every_place_see_every_record_once_across_rolls() {
    let scratch = common::scratch();
    let stream = StreamOptions::new().segment_bytes(64 << 10).open(scratch.path()).unwrap();
    let shard = stream.shards()[0].id;
    let is_over = AtomicBool::new(false);
    let put_count = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITER_COUNT)
            .map(|writer| {
                let (stream, put_count) = (&stream, &put_count);
                scope.spawn(move || {
                    let key = writer.to_le_bytes();
                    let mut number = 0;
                    while number < RECORDS_PER_WRITER {
                        // Sizes that end segments at many different places, sometimes in a batch.
                        let count = if number % 50 == 0 { 7 } else { 1 }.min(RECORDS_PER_WRITER - number);
                        let data: Vec<_> = (number..number + count)
                            .map(|number| {
                                let mut data = number.to_le_bytes().to_vec();
                                data.resize(8 + (number * 31 % 600) as usize, number as u8);
                                data
                            })
                            .collect();
                        let records: Vec<_> = data.iter().map(|data| PutRecord::new(&key, data)).collect();
                        if let [record] = &records[..] {
                            stream.put_record(record).unwrap();
                        } else {
                            stream.put_batch(&records).unwrap().into_iter().for_each(|outcome| {
                                outcome.unwrap();
                            });
                        }
                        number += count;
                        put_count.fetch_add(count, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        // Two readers wait, one spins with small reads, and one starts again and again at odd places.
        for records_max in [1_000, 3] {
            let mut follower = Follower::new(stream.iterator(shard, Position::TrimHorizon).unwrap());
            scope.spawn(move || {
                while follower.next < WRITER_COUNT * RECORDS_PER_WRITER {
                    if follower.read(records_max) == 0 {
                        follower.iterator.wait(Duration::from_secs(30)).unwrap();
                    }
                }
            });
        }
        let (stream, is_over) = (&stream, &is_over);
        let spinner = scope.spawn(move || {
            let mut follower = Follower::new(stream.iterator(shard, Position::TrimHorizon).unwrap());
            while follower.next < WRITER_COUNT * RECORDS_PER_WRITER {
                follower.read(17);
            }
        });
        scope.spawn(move || {
            let mut place = 1u64;
            while !is_over.load(Ordering::Relaxed) {
                let end = stream.stats().unwrap().shards[0].next_sequence.get().max(1);
                place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let position = Position::At((place % end).into());
                let mut follower = Follower::new(stream.iterator(shard, position).unwrap());
                for _ in 0..20 {
                    follower.read(50);
                }
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        spinner.join().unwrap();
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(put_count.into_inner(), WRITER_COUNT * RECORDS_PER_WRITER);
    assert!(stream.stats().unwrap().shards[0].segment_count > 100, "there were rolls");
}

#[test]
fn p1_a_reader_that_waits_on_many_shards_is_woken_for_each_put() {
    const SHARD_COUNT: u32 = 8;
    const PUT_COUNT: u64 = 3_000;
    let scratch = common::scratch();
    let stream = StreamOptions::new().shards(SHARD_COUNT).open(scratch.path()).unwrap();
    let mut iterators: Vec<_> =
        stream.shards().iter().map(|shard| stream.iterator(shard.id, Position::Latest).unwrap()).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..PUT_COUNT {
                stream.put(number.to_le_bytes(), "data").unwrap();
                if number % 7 == 0 {
                    std::thread::yield_now();
                }
            }
        });
        let mut read = 0;
        while read < PUT_COUNT {
            let ready =
                wait_any(&iterators, Duration::from_secs(30)).unwrap().expect("a put wakes the reader");
            read += iterators[ready].next_batch(10).unwrap().len() as u64;
        }
    });
}

#[test]
fn p2_puts_that_wait_for_power_share_syncs_and_each_is_covered() {
    let scratch = common::scratch();
    let options = StreamOptions::new().segment_bytes(64 << 10).durability(Durability::Power);
    let stream = options.open(scratch.path()).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..16u64 {
            let stream = &stream;
            scope.spawn(move || {
                for _ in 0..50 {
                    let receipt = stream.put(writer.to_le_bytes(), [0; 500]).unwrap();
                    let synced = stream.stats().unwrap().shards[0].synced_sequence;
                    assert!(receipt.sequence < synced, "P2: {} is not synced: {synced}", receipt.sequence);
                }
            });
        }
    });
    assert_eq!(stream.stats().unwrap().shards[0].next_sequence, 800.into());
}

#[test]
fn closing_releases_writers_and_readers() {
    let scratch = common::scratch();
    let stream = StreamOptions::new().shards(2).open(scratch.path()).unwrap();
    let mut iterators: Vec<_> = stream
        .shards()
        .iter()
        .map(|shard| stream.iterator(shard.id, Position::TrimHorizon).unwrap())
        .collect();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3u64)
            .map(|writer| {
                let stream = stream.clone();
                scope.spawn(move || {
                    let puts =
                        (0u64..).map_while(|number| stream.put((writer + number).to_le_bytes(), "data").ok());
                    puts.count() as u64
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut read = 0;
            loop {
                match wait_any(&iterators, Duration::from_secs(30)) {
                    Ok(Some(ready)) => read += iterators[ready].next_batch(100).unwrap().len() as u64,
                    Ok(None) => panic!("neither a put nor the close came"),
                    Err(Error::Closed) => return read,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        while stream.stats().unwrap().record_count() < 10_000 {
            std::thread::yield_now();
        }
        stream.clone().close().unwrap();
        let put: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        assert_eq!(reader.join().unwrap(), put, "every record put before the close is read");
    });
}
