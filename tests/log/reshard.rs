//! Shards that split and merge while the stream runs: P4, P5, P6, P16.

use crate::common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use streamlog::{
    Error, HashKey, Position, PutRecord, SECOND, ShardDescription, ShardFilter, ShardId, Stream,
    StreamOptions, wait_any,
};

fn open_shards(stream: &Stream) -> Vec<ShardDescription> {
    let mut open = stream.list_shards(ShardFilter::AtLatest);
    open.sort_by_key(|shard| shard.hash_key_range.start);
    open
}

#[test]
fn a_split_has_the_preconditions_of_kinesis() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).open(scratch.path()).unwrap();
    let first = stream.shards()[0].id;
    let refused = |shard: ShardId, point: u128, words: &str| {
        let error = stream.split_shard(shard, HashKey::new(point)).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)) && error.to_string().contains(words), "{error}");
    };
    refused(first, 0, "greater than one plus");
    refused(first, 1, "greater than one plus");
    refused(first, u128::MAX, "less than its last");
    assert!(matches!(stream.split_shard_evenly(ShardId::new(9)), Err(Error::ShardNotFound(_))));
    let children = stream.split_shard(first, HashKey::new(2)).unwrap();
    assert_eq!((children[0].id, children[1].id), (ShardId::new(1), ShardId::new(2)));
    assert_eq!((children[0].parent, children[0].adjacent_parent), (Some(first), None));
    assert_eq!((children[0].hash_key_range.end.get(), children[1].hash_key_range.start.get()), (1, 2));
    refused(first, 100, "closed");
    assert!(stream.split_shard_evenly(ShardId::new(1)).is_err(), "[0, 1] has no point to split at");
    assert_eq!(stream.shards().len(), 3, "a refused split leaves nothing behind");
}

#[test]
fn a_merge_has_the_preconditions_of_kinesis() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).shards(3).open(scratch.path()).unwrap();
    let id = ShardId::new;
    for (a, b) in [(0, 2), (1, 0), (1, 1), (2, 0)] {
        let error = stream.merge_shards(id(a), id(b)).unwrap_err();
        assert!(
            matches!(error, Error::InvalidArgument(_)) && error.to_string().contains("right after"),
            "{error}"
        );
    }
    assert!(matches!(stream.merge_shards(id(0), id(7)), Err(Error::ShardNotFound(_))));
    let child = stream.merge_shards(id(0), id(1)).unwrap();
    assert_eq!((child.id, child.parent, child.adjacent_parent), (id(3), Some(id(0)), Some(id(1))));
    let closed: Vec<_> = stream.shards().iter().filter_map(|shard| shard.closed_at).collect();
    assert_eq!((closed.len(), closed[0]), (2, closed[1]), "both parents close at the same instant");
    assert!(stream.merge_shards(id(0), id(1)).unwrap_err().to_string().contains("closed"));
}

#[test]
fn p5_a_child_begins_above_the_larger_of_its_parents() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).shards(2).open(scratch.path()).unwrap();
    let put = |key: u128| {
        let record = PutRecord::new("key", "").explicit_hash_key(HashKey::new(key));
        stream.put_record(&record).unwrap().sequence.get()
    };
    for _ in 0..10 {
        put(0);
    }
    for _ in 0..4 {
        put(u128::MAX);
    }
    let child = stream.merge_shards(ShardId::new(0), ShardId::new(1)).unwrap();
    let ends: Vec<_> = stream.shards().iter().map(|shard| shard.closing_sequence).collect();
    assert_eq!(ends, [Some(10.into()), Some(4.into()), None]);
    assert!(child.first_sequence >= 10.into());
    let first = put(u128::MAX);
    assert_eq!(first, child.first_sequence.get());
    let mut before = stream.iterator(child.id, Position::At(3.into())).unwrap();
    let read = before.next_batch(1).unwrap();
    assert_eq!(
        read.first_sequence(),
        Some(first.into()),
        "the iterator passes the gap before the child's first record"
    );
    let children = stream.split_shard_evenly(child.id).unwrap();
    assert!(children.iter().all(|child| child.first_sequence.get() > first));
}

#[test]
fn p6_an_iterator_reads_a_closed_shard_to_its_end_and_names_the_children() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).open(scratch.path()).unwrap();
    let first = stream.shards()[0].id;
    for number in 0..5 {
        stream.put("key", [number]).unwrap();
    }
    let mut iterator = stream.iterator(first, Position::TrimHorizon).unwrap();
    assert_eq!(iterator.next_batch(3).unwrap().child_shards(), None);
    let mut at_end = stream.iterator(first, Position::Latest).unwrap();
    assert_eq!(at_end.next_batch(3).unwrap().child_shards(), None);
    let children = stream.split_shard_evenly(first).unwrap();
    let last = iterator.next_batch(10).unwrap();
    assert_eq!((last.len(), last.child_shards()), (2, Some(&children[..])));
    assert!(at_end.wait(Duration::ZERO).unwrap(), "the end of the shard counts as something to read");
    let empty = at_end.next_batch(10).unwrap();
    assert_eq!((empty.len(), empty.child_shards()), (0, Some(&children[..])));
    drop(stream);
    let stream = common::small(&clock).open(scratch.path()).unwrap();
    let mut again = stream.iterator(first, Position::Latest).unwrap();
    assert_eq!(again.next_batch(1).unwrap().child_shards(), Some(&children[..]), "also after opening again");
}

#[test]
fn scaling_makes_equal_ranges_from_any_count_to_any_count() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).open(scratch.path()).unwrap();
    for count in [2, 4, 3, 6, 5, 16, 1, 7, 64, 32] {
        stream.update_shard_count(count).unwrap();
        let fresh_dir = common::scratch();
        let fresh = common::small(&clock).shards(count).open(fresh_dir.path()).unwrap();
        let ranges = |stream: &Stream| -> Vec<_> {
            open_shards(stream).iter().map(|shard| shard.hash_key_range).collect()
        };
        assert_eq!(ranges(&stream), ranges(&fresh), "as a new stream of {count} shards has them");
        let key = count.to_string();
        let receipts: Vec<_> = (0..10).map(|_| stream.put(&key, "").unwrap()).collect();
        assert!(receipts.windows(2).all(|pair| pair[0].shard == pair[1].shard));
    }
    for count in [0, 1_025] {
        assert!(matches!(stream.update_shard_count(count), Err(Error::InvalidArgument(_))));
    }
    let before = stream.shards().len();
    stream.update_shard_count(32).unwrap();
    assert_eq!(stream.shards().len(), before, "nothing to do");
}

#[test]
fn scaling_from_2_to_3_goes_as_kinesis_plans_it() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).shards(2).open(scratch.path()).unwrap();
    stream.update_shard_count(3).unwrap();
    let shards = stream.shards();
    let open: Vec<_> = open_shards(&stream).iter().map(|shard| shard.parents().count()).collect();
    assert_eq!(
        (shards.len(), open),
        (7, vec![1, 2, 1]),
        "two splits, and a merge of the two short-lived shards between"
    );
}

struct StopOnDrop<'a>([&'a AtomicBool; 2]);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|flag| flag.store(true, Ordering::Release));
    }
}

/// Puts numbered records per key from several threads while shards change at random, and lets readers follow the lineage.
fn reshard_under_load(duration: Duration) {
    const WRITER_COUNT: u64 = 4;
    const KEYS_PER_WRITER: u64 = 8;
    let scratch = common::scratch();
    let stream = StreamOptions::new().shards(2).segment_bytes(256 << 10).open(scratch.path()).unwrap();
    let (must_stop, is_over, put_count) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (stream, must_stop, is_over, put_count) = (&stream, &must_stop, &is_over, &put_count);
        let writers: Vec<_> = (0..WRITER_COUNT)
            .map(|writer| {
                scope.spawn(move || {
                    let mut number = 0u64;
                    while !must_stop.load(Ordering::Relaxed) {
                        let keys: Vec<_> =
                            (0..KEYS_PER_WRITER).map(|key| (writer * 100 + key).to_le_bytes()).collect();
                        let data = number.to_le_bytes();
                        if number.is_multiple_of(4) {
                            let records: Vec<_> = keys.iter().map(|key| PutRecord::new(key, &data)).collect();
                            for outcome in stream.put_batch(&records).unwrap() {
                                outcome.unwrap();
                            }
                        } else {
                            for key in &keys {
                                stream.put(key, data).unwrap();
                            }
                        }
                        number += 1;
                        put_count.fetch_add(KEYS_PER_WRITER, Ordering::Relaxed);
                        // Gives the readers time to keep up.
                        std::thread::sleep(Duration::from_micros(300));
                    }
                })
            })
            .collect();
        let reader = move |records_max: usize| {
            let mut iterator = stream.lineage_iterator(Position::TrimHorizon).unwrap();
            let mut next: HashMap<u64, u64> = HashMap::new();
            let (mut read, mut idle_count) = (0, 0);
            loop {
                let was_over = is_over.load(Ordering::Acquire) && put_count.load(Ordering::Acquire) == read;
                let batch = iterator.next_batch(records_max).unwrap();
                for record in &batch {
                    let key = u64::from_le_bytes(record.partition_key().try_into().unwrap());
                    let number = u64::from_le_bytes(record.data().try_into().unwrap());
                    let expected = next.entry(key).or_default();
                    assert_eq!(number, *expected, "P4: key {key}");
                    *expected += 1;
                    read += 1;
                }
                if batch.is_empty() {
                    if was_over {
                        return read;
                    }
                    iterator.wait(Duration::from_millis(20)).unwrap();
                    idle_count += 1;
                    assert!(idle_count < 1_500, "no more records come: {read} were read");
                } else {
                    idle_count = 0;
                }
            }
        };
        let readers: Vec<_> =
            [1_000, 7].into_iter().map(|records_max| scope.spawn(move || reader(records_max))).collect();
        // If anything fails here, the other threads must still end.
        let _stop = StopOnDrop([must_stop, is_over]);
        let started = Instant::now();
        let mut random = 0x2545_f491_4f6c_dd1du64;
        let mut reshard_count = 0;
        while started.elapsed() < duration {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let open = open_shards(stream);
            let at = random as usize % open.len();
            if open.len() < 2 || (open.len() < 12 && random & 1 << 40 != 0) {
                stream.split_shard_evenly(open[at].id).unwrap();
            } else if random & 15 == 0 {
                stream.update_shard_count((random >> 50) as u32 % 6 + 1).unwrap();
            } else {
                let at = at.min(open.len() - 2);
                stream.merge_shards(open[at].id, open[at + 1].id).unwrap();
            }
            reshard_count += 1;
        }
        assert!(reshard_count > 10, "{reshard_count} reshards");
        must_stop.store(true, Ordering::Release);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        is_over.store(true, Ordering::Release);
        for reader in readers {
            assert_eq!(
                reader.join().unwrap(),
                put_count.load(Ordering::Relaxed),
                "P6: every record is read once"
            );
        }
    });
}

#[test]
fn p4_p6_p16_keys_keep_their_order_while_shards_change_at_random() {
    reshard_under_load(Duration::from_secs(3));
}

#[test]
#[ignore = "a longer run of the test above: see docs/TESTING.md"]
fn p4_p6_p16_keys_keep_their_order_while_shards_change_at_random_long() {
    reshard_under_load(Duration::from_secs(120));
}

#[test]
fn a_split_wakes_readers_and_others_go_on() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).shards(2).open(scratch.path()).unwrap();
    let iterator = stream.iterator(ShardId::new(0), Position::Latest).unwrap();
    let waiter = std::thread::spawn(move || wait_any([&iterator], Duration::from_secs(30)));
    stream.split_shard_evenly(ShardId::new(0)).unwrap();
    assert_eq!(waiter.join().unwrap().unwrap(), Some(0));
}

/// While shards keep changing, a reader that reaches the end has seen every put that returned before it began to read.
fn read_to_the_end_again_and_again(time: Duration) {
    let scratch = common::scratch();
    let stream = StreamOptions::new().open(scratch.path().join("stream")).unwrap();
    let (returned, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        // More writers than processors, so that the resharding thread can be preempted anywhere.
        for writer in 0..6u8 {
            let (stream, returned, is_over) = (&stream, &returned, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    stream.put([writer], []).unwrap();
                    returned.fetch_add(1, Ordering::Release);
                }
            });
        }
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let open = stream.list_shards(ShardFilter::AtLatest);
                let children = stream.split_shard_evenly(open[0].id).unwrap();
                stream.merge_shards(children[0].id, children[1].id).unwrap();
            }
        });
        let mut iterator = stream.lineage_iterator(Position::TrimHorizon).unwrap();
        let (started, mut seen) = (Instant::now(), 0);
        while started.elapsed() < time {
            let before = returned.load(Ordering::Acquire);
            loop {
                let batch = iterator.next_batch(10_000).unwrap();
                if batch.is_empty() {
                    break;
                }
                seen += batch.len() as u64;
            }
            if seen < before {
                is_over.store(true, Ordering::Relaxed);
                panic!("P1: the end came after {seen} records, but {before} had been put");
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn p1_p6_the_end_is_told_only_where_it_is_while_shards_change() {
    read_to_the_end_again_and_again(Duration::from_secs(1));
}

#[test]
#[ignore = "takes a minute"]
fn p1_p6_the_end_is_told_only_where_it_is_while_shards_change_long() {
    read_to_the_end_again_and_again(Duration::from_secs(60));
}

#[test]
fn p6_reading_from_the_time_of_a_split_begins_with_what_the_parent_took_at_that_time() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).open(scratch.path()).unwrap();
    stream.put("key", "before").unwrap();
    clock.advance(SECOND);
    let time = stream.now();
    stream.put("key", "parent").unwrap();
    stream.split_shard_evenly(stream.shards()[0].id).unwrap();
    stream.put("key", "child").unwrap();
    let mut iterator = stream.lineage_iterator(Position::AtTimestamp(time)).unwrap();
    let mut read = vec![];
    for _ in 0..4 {
        let batch = iterator.next_batch(10).unwrap();
        read.extend(batch.iter().map(|record| String::from_utf8(record.data().to_vec()).unwrap()));
    }
    assert_eq!(read, ["parent", "child"]);
}
