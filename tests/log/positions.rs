//! Where iterators begin, and what they return at the edges: as in Kinesis, unless the design says otherwise.

use crate::common;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use streamlog::{
    Error, HashKey, HashKeyRange, KeyHash, ManualClock, Position, PutRecord, Retention, SequenceNumber,
    ShardId, Stream, Timestamp, wait_any,
};

const SHARD: ShardId = ShardId::new(0);
const NONE: [u8; 0] = [];

/// Makes a stream with ten records, numbered from 0, one a second.
fn ten_records(clock: &Arc<ManualClock>, path: &std::path::Path) -> Stream {
    let stream = common::small(clock).open(path).unwrap();
    for number in 0..10u8 {
        stream.put("key", [number]).unwrap();
        clock.advance(Duration::from_secs(1));
    }
    stream
}

/// Returns the numbers that an iterator at a position reads.
fn from(stream: &Stream, position: Position) -> Vec<u8> {
    let mut iterator = stream.iterator(SHARD, position).unwrap();
    iterator.records().map(|record| record.unwrap().data[0]).collect()
}

#[test]
fn each_position_begins_where_it_says() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = ten_records(&clock, scratch.path());
    let all: Vec<u8> = (0..10).collect();
    assert_eq!(from(&stream, Position::TrimHorizon), all);
    assert_eq!(from(&stream, Position::Latest), NONE);
    assert_eq!(from(&stream, Position::At(3.into())), all[3..]);
    assert_eq!(from(&stream, Position::After(3.into())), all[4..]);
    assert_eq!(from(&stream, Position::At(9.into())), [9]);
    assert_eq!(from(&stream, Position::After(9.into())), NONE);
}

#[test]
fn a_time_finds_the_first_record_that_arrived_then_or_later() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = ten_records(&clock, scratch.path());
    let start = Timestamp::from_millis(1_700_000_000_000);
    let after = |millis: u64| Position::AtTimestamp(start + Duration::from_millis(millis));
    assert_eq!(
        from(&stream, Position::AtTimestamp(Timestamp::from_millis(5)))[0],
        0,
        "before the first record"
    );
    assert_eq!(from(&stream, after(0))[0], 0);
    assert_eq!(from(&stream, after(1))[0], 1);
    assert_eq!(from(&stream, after(4_000))[0], 4);
    assert_eq!(from(&stream, after(9_000)), [9]);
    assert_eq!(from(&stream, after(9_001)), NONE, "after the last record, and not in the future");

    let mut iterator = stream.iterator(SHARD, after(9_001)).unwrap();
    stream.put("key", [10]).unwrap();
    assert_eq!(iterator.next_batch(10).unwrap().len(), 1, "a later record is returned");

    let future = stream.iterator(SHARD, after(10_001));
    assert!(matches!(future, Err(Error::InvalidArgument(_))), "{future:?}");
}

#[test]
fn latest_means_the_end_at_the_time_of_the_call() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = ten_records(&clock, scratch.path());
    let mut iterator = stream.iterator(SHARD, Position::Latest).unwrap();
    assert!(iterator.next_batch(10).unwrap().is_empty());
    stream.put("key", [10]).unwrap();
    assert_eq!(iterator.next_batch(10).unwrap().first_sequence(), Some(10.into()));
}

#[test]
fn a_position_beyond_the_end_waits_until_the_shard_gets_there() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = ten_records(&clock, scratch.path());
    let mut iterator = stream.iterator(SHARD, Position::At(12.into())).unwrap();
    for number in 10..14u8 {
        assert!(iterator.next_batch(10).unwrap().is_empty());
        assert!(!iterator.wait(Duration::ZERO).unwrap());
        stream.put("key", [number]).unwrap();
        if number >= 12 {
            assert!(iterator.wait(Duration::ZERO).unwrap());
            assert_eq!(iterator.next_batch(10).unwrap().first_sequence(), Some(u64::from(number).into()));
        }
    }
    let mut never = stream.iterator(SHARD, Position::After(SequenceNumber::new(u64::MAX))).unwrap();
    assert!(never.next_batch(10).unwrap().is_empty());
}

#[test]
fn p6_a_position_behind_the_horizon_is_an_error_that_tells_the_horizon() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let path = scratch.path().join("stream");
    let stream = common::small(&clock).open(&path).unwrap();
    for _ in 0..10 {
        stream.put("key", vec![0; 20_000]).unwrap();
    }
    stream.maintain().unwrap();
    stream.set_retention(Retention::forever().bytes_max(150_000)).unwrap();
    let horizon = stream.stats().unwrap().shards[0].horizon;
    assert!(horizon > 0.into());
    for (position, requested) in [(Position::At(0.into()), 0), (Position::After(0.into()), 1)] {
        match stream.iterator(SHARD, position) {
            Err(Error::Trimmed { shard, requested: asked, horizon: told }) => {
                assert_eq!((shard, asked, told), (SHARD, requested.into(), horizon));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stream.iterator(SHARD, Position::At(horizon)).unwrap().next_sequence(), horizon);
    assert_eq!(stream.iterator(SHARD, Position::TrimHorizon).unwrap().next_sequence(), horizon);
    let old = Position::AtTimestamp(Timestamp::from_millis(1));
    assert_eq!(stream.iterator(SHARD, old).unwrap().next_sequence(), horizon, "as in Kinesis, for times");
}

#[test]
fn a_missing_shard_is_an_error() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = ten_records(&clock, scratch.path());
    let missing = ShardId::new(7);
    assert!(
        matches!(stream.iterator(missing, Position::Latest), Err(Error::ShardNotFound(id)) if id == missing)
    );
}

#[test]
fn limits_cut_a_batch_but_never_to_nothing() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).open(scratch.path()).unwrap();
    let records: Vec<_> = (0..5).map(|_| PutRecord::new("key", &[0; 1_000])).collect();
    stream.put_batch(&records).unwrap();
    let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
    assert_eq!(iterator.next_batch_within(100, 0).unwrap().len(), 1, "one record always fits");
    assert_eq!(iterator.next_batch_within(100, 2_006).unwrap().len(), 2);
    assert_eq!(iterator.next_batch_within(1, usize::MAX).unwrap().len(), 1);
    let last = iterator.next_batch_within(100, usize::MAX).unwrap();
    assert_eq!(
        (last.len(), last.first_sequence(), last.last_sequence()),
        (1, Some(4.into()), Some(4.into()))
    );
    assert!(iterator.next_batch(100).unwrap().is_empty());
    assert_eq!(iterator.next_batch(0).unwrap().first_sequence(), None);
}

#[test]
fn how_far_behind_is_the_age_of_the_last_record_unless_it_is_the_newest() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = ten_records(&clock, scratch.path());
    let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
    assert_eq!(iterator.next_batch(3).unwrap().millis_behind_latest(), 8_000, "record 2 is 8 s old");
    assert_eq!(iterator.next_batch(100).unwrap().millis_behind_latest(), 0);
    assert_eq!(iterator.next_batch(100).unwrap().millis_behind_latest(), 0);
}

#[test]
fn seek_moves_an_iterator_or_leaves_it() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = ten_records(&clock, scratch.path());
    let mut iterator = stream.iterator(SHARD, Position::At(8.into())).unwrap();
    iterator.next_batch(1).unwrap();
    iterator.seek(Position::At(2.into())).unwrap();
    assert_eq!(iterator.next_batch(1).unwrap().first_sequence(), Some(2.into()));
    iterator.seek(Position::AtTimestamp(Timestamp::from_micros(u64::MAX))).unwrap_err();
    assert_eq!(iterator.next_batch(1).unwrap().first_sequence(), Some(3.into()));
}

#[test]
fn records_stop_at_the_end_as_it_stood_when_they_were_asked_for() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = ten_records(&clock, scratch.path());
    let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
    let mut records = iterator.records();
    assert_eq!(records.next().unwrap().unwrap().data[0], 0);
    stream.put("key", [10]).unwrap();
    assert_eq!(records.last().unwrap().unwrap().data[0], 9);
}

#[test]
fn owned_records_outlive_batch_iterator_and_stream() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = ten_records(&clock, scratch.path());
    let mut iterator = stream.iterator(SHARD, Position::At(4.into())).unwrap();
    let record = iterator.next_batch(1).unwrap().iter().next().unwrap().into_owned();
    drop((iterator, stream));
    std::fs::remove_dir_all(scratch.path()).unwrap();
    assert_eq!(
        (&record.partition_key[..], &record.data[..], record.sequence),
        (&b"key"[..], &[4][..], 4.into())
    );
}

#[test]
fn p1_waiting_ends_with_the_first_put_on_any_of_many_shards() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).shards(16).open(scratch.path()).unwrap();
    let mut iterators: Vec<_> =
        stream.shards().iter().map(|shard| stream.iterator(shard.id, Position::Latest).unwrap()).collect();
    for round in 0..50u32 {
        let writer = stream.clone();
        let thread = std::thread::spawn(move || writer.put(round.to_le_bytes(), b"").unwrap());
        let ready = wait_any(&iterators, Duration::from_secs(20)).unwrap().expect("a put wakes the waiter");
        let receipt = thread.join().unwrap();
        assert_eq!(iterators[ready].shard(), receipt.shard);
        assert_eq!(iterators[ready].next_batch(10).unwrap().first_sequence(), Some(receipt.sequence));
    }
    assert_eq!(wait_any(&iterators, Duration::from_millis(1)).unwrap(), None);
    assert_eq!(wait_any([], Duration::from_secs(60)).unwrap(), None);
}

#[test]
fn waiting_on_a_closed_stream_ends() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = ten_records(&clock, scratch.path());
    let iterator = stream.iterator(SHARD, Position::Latest).unwrap();
    let waiter = std::thread::spawn(move || iterator.wait(Duration::from_secs(60)));
    stream.close().unwrap();
    assert!(matches!(waiter.join().unwrap(), Err(Error::Closed)));
}

#[test]
fn keys_of_several_bytes_a_character_land_where_kinesis_puts_them() {
    // The shard of three that each key's MD5 selects, worked out by hand.
    let keys = [("a", 0), ("b", 1), ("pk-1", 2), ("ünïcode", 2)];
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).shards(3).key_hash(KeyHash::Md5).open(scratch.path()).unwrap();
    for (key, shard) in keys {
        assert_eq!(stream.put(key, b"").unwrap().shard, ShardId::new(shard), "{key}");
    }
}

#[test]
fn an_explicit_hash_key_decides_the_shard_at_the_very_borders() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).shards(3).open(scratch.path()).unwrap();
    for shard in stream.shards() {
        let HashKeyRange { start, end } = shard.hash_key_range;
        for border in [start, end] {
            let record = PutRecord::new("same key", b"").explicit_hash_key(border);
            assert_eq!(stream.put_record(&record).unwrap().shard, shard.id);
            assert_eq!(stream.put_batch(&[record]).unwrap()[0].as_ref().unwrap().shard, shard.id);
        }
    }
    assert_eq!(
        stream.shards()[1].hash_key_range.start,
        HashKey::new(113427455640312821154458202477256070485)
    );
}

#[test]
fn a_batch_is_one_result_a_record_in_order() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).shards(4).open(scratch.path()).unwrap();
    let keys: Vec<_> = (0..1_000u32).map(|number| number.to_le_bytes()).collect();
    let records: Vec<_> = keys.iter().map(|key| PutRecord::new(key, key)).collect();
    let receipts: Vec<_> =
        stream.put_batch(&records).unwrap().into_iter().map(|outcome| outcome.unwrap()).collect();
    assert_eq!(receipts.len(), keys.len());
    for (receipt, key) in receipts.iter().zip(&keys) {
        let mut iterator = stream.iterator(receipt.shard, Position::At(receipt.sequence)).unwrap();
        assert_eq!(iterator.next_batch(1).unwrap().iter().next().unwrap().data(), key);
    }
    for shard in stream.shards() {
        let of_shard: Vec<_> = receipts.iter().filter(|receipt| receipt.shard == shard.id).collect();
        assert!(
            of_shard.iter().zip(0..).all(|(receipt, number)| receipt.sequence.get() == number),
            "in their order"
        );
    }
    assert!(stream.put_batch(&[]).unwrap().is_empty());
}

#[test]
fn an_iterator_in_a_loop_returns_an_error_once_and_goes_on_after_it() {
    let scratch = common::scratch();
    let stream = common::small(&common::clock()).open(scratch.path()).unwrap();
    for _ in 0..3 {
        stream.put("key", "data").unwrap();
    }
    let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
    stream.trim_before(SHARD, 2.into()).unwrap();
    let outcomes: Vec<_> = iterator.by_ref().collect();
    assert!(matches!(outcomes[..], [Err(Error::Trimmed { .. })]), "{outcomes:?}");
    assert_eq!(iterator.skip_to_horizon(), 2);
    let counts: Vec<_> = iterator.by_ref().map(|batch| batch.unwrap().len()).collect();
    assert_eq!(counts, [1]);
    stream.put("key", "data").unwrap();
    assert_eq!(iterator.by_ref().count(), 1, "it continues after another put");
}

#[test]
fn a_time_at_which_a_record_arrived_is_not_in_the_future() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = ten_records(&clock, scratch.path());
    let last = stream
        .iterator(SHARD, Position::At(9.into()))
        .unwrap()
        .next_batch(1)
        .unwrap()
        .last_timestamp()
        .unwrap();
    clock.set(last - Duration::from_secs(5));
    let at = |time| stream.iterator(SHARD, Position::AtTimestamp(time));
    assert_eq!(at(last).unwrap().next_sequence().get(), 9);
    assert!(matches!(at(last + Duration::from_micros(1)), Err(Error::InvalidArgument(_))));
}

#[test]
fn the_time_of_the_call_is_not_in_the_future() {
    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    for _ in 0..20_000 {
        // The stream reads the system's clock at most about once per microsecond.
        let earlier = stream.now();
        let now = SystemTime::now().into();
        assert!(earlier <= now);
        stream.iterator(SHARD, Position::AtTimestamp(now)).unwrap();
    }
}

#[test]
fn a_receipt_has_the_time_with_which_its_record_is_read() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).shards(2).open(scratch.path().join("stream")).unwrap();
    let batch = ["a", "b", "c"].map(|key| PutRecord::new(key, ""));
    let mut receipts = vec![stream.put("a", "").unwrap()];
    // Setting the clock back does not set back the timestamps of records.
    for back in [false, true] {
        clock.advance(Duration::from_secs(1));
        receipts.extend(stream.put_batch(&batch).unwrap().into_iter().map(Result::unwrap));
        if back {
            clock.set(Timestamp::from_millis(0));
        }
        receipts.push(stream.put("b", "").unwrap());
    }
    for receipt in receipts {
        let mut iterator = stream.iterator(receipt.shard, Position::At(receipt.sequence)).unwrap();
        assert_eq!(iterator.records().next().unwrap().unwrap().timestamp, receipt.timestamp);
    }
}
