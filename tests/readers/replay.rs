//! Replays: order, spacing, ranges, what happens at trims and limits, and all of it against a model: P4, P6, L3.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{clock, read_all, scratch, small};
use proptest::collection::vec;
use proptest::prelude::*;
use streamlog::{
    Error, HOUR, HashKey, KeyHash, Limits, MINUTE, ManualClock, OwnedRecord, Position, PutRecord, Replay,
    ReplayStep, Retention, SECOND, ShardId, Stream, StreamReader, Timestamp,
};

type Record = (ShardId, OwnedRecord);

fn text(record: &OwnedRecord) -> &str {
    std::str::from_utf8(&record.data).unwrap()
}

/// Runs a replay to its end, and advances the clock as it requests. Returns each record with the time at which it came.
fn run(replay: &mut Replay, clock: &ManualClock) -> Vec<(Duration, Record)> {
    let begun = streamlog::Clock::elapsed(clock);
    let mut replayed = vec![];
    loop {
        match replay.step().unwrap() {
            ReplayStep::Record(shard, record) => {
                replayed.push((streamlog::Clock::elapsed(clock) - begun, (shard, record)));
            }
            ReplayStep::Wait(time) => {
                assert!(!time.is_zero());
                clock.advance(time);
            }
            ReplayStep::End => return replayed,
        }
    }
}

fn texts(replayed: &[(Duration, Record)]) -> Vec<(u128, &str)> {
    replayed.iter().map(|(time, (_, record))| (time.as_millis(), text(record))).collect()
}

/// A stream with one shard and a record every ten seconds.
fn every_ten_seconds(clock: &std::sync::Arc<ManualClock>, path: &std::path::Path, count: u32) -> Stream {
    let stream = small(clock).open(path).unwrap();
    for number in 0..count {
        stream.put("k", number.to_string()).unwrap();
        clock.advance(10 * SECOND);
    }
    stream
}

#[test]
fn records_come_with_their_spacing_divided_by_the_speed() {
    let (clock, directory) = (clock(), scratch());
    let stream = every_ten_seconds(&clock, directory.path(), 4);
    for (speed, step) in [(1.0, 10_000), (2.0, 5_000), (0.5, 20_000), (1000.0, 10), (f64::INFINITY, 0)] {
        let mut replay = stream.replay(Position::TrimHorizon).speed(speed).start().unwrap();
        clock.advance(HOUR);
        let replayed = run(&mut replay, &clock);
        assert_eq!(texts(&replayed), [(0, "0"), (step, "1"), (2 * step, "2"), (3 * step, "3")], "{speed}");
        assert_eq!(replay.step().unwrap(), ReplayStep::End);
    }
}

#[test]
fn a_slow_program_catches_up() {
    let (clock, directory) = (clock(), scratch());
    let stream = every_ten_seconds(&clock, directory.path(), 5);
    let mut replay = stream.replay(Position::TrimHorizon).start().unwrap();
    assert!(matches!(replay.step().unwrap(), ReplayStep::Record(..)));
    clock.advance(25 * SECOND);
    assert!(matches!(replay.step().unwrap(), ReplayStep::Record(_, record) if text(&record) == "1"));
    assert!(matches!(replay.step().unwrap(), ReplayStep::Record(_, record) if text(&record) == "2"));
    assert_eq!(replay.step().unwrap(), ReplayStep::Wait(5 * SECOND));
    clock.set(clock.now_plus(HOUR));
    assert_eq!(replay.step().unwrap(), ReplayStep::Wait(5 * SECOND), "somebody set the clock");
}

trait NowPlus {
    fn now_plus(&self, time: Duration) -> Timestamp;
}

impl NowPlus for ManualClock {
    fn now_plus(&self, time: Duration) -> Timestamp {
        streamlog::Clock::now(self) + time
    }
}

#[test]
fn a_replay_ends_where_the_stream_ended_when_it_started() {
    let (clock, directory) = (clock(), scratch());
    let stream = every_ten_seconds(&clock, directory.path(), 2);
    let mut replay = stream.replay(Position::TrimHorizon).speed(f64::INFINITY).start().unwrap();
    stream.put("k", "later").unwrap();
    stream.split_shard_evenly(stream.shards()[0].id).unwrap();
    stream.put("k", "in a child").unwrap();
    assert_eq!(texts(&run(&mut replay, &clock)), [(0, "0"), (0, "1")]);
    let mut nothing = stream.replay(Position::Latest).start().unwrap();
    stream.put("k", "later still").unwrap();
    assert_eq!(nothing.step().unwrap(), ReplayStep::End);
}

#[test]
fn a_range_begins_at_a_time_and_ends_before_one() {
    let (clock, directory) = (clock(), scratch());
    let start = clock.now_plus(Duration::ZERO);
    let stream = every_ten_seconds(&clock, directory.path(), 6);
    let replayed = |from: Duration, until: Duration| {
        let options = stream.replay(Position::AtTimestamp(start + from)).until(start + until);
        let mut replay = options.speed(f64::INFINITY).start().unwrap();
        texts(&run(&mut replay, &clock)).iter().map(|(_, text)| text.to_string()).collect::<Vec<_>>().concat()
    };
    assert_eq!(replayed(10 * SECOND, 30 * SECOND), "12");
    assert_eq!(replayed(11 * SECOND, 31 * SECOND), "23");
    assert_eq!(replayed(Duration::ZERO, 24 * HOUR), "012345");
    assert_eq!(replayed(20 * SECOND, 20 * SECOND), "");
}

#[test]
fn shards_are_merged_by_arrival_and_one_may_be_replayed_alone() {
    let (clock, directory) = (clock(), scratch());
    let stream = small(&clock).shards(3).open(directory.path()).unwrap();
    let shards: Vec<_> = stream.shards().iter().map(|shard| (shard.id, shard.hash_key_range.start)).collect();
    for (number, shard) in [0, 2, 1, 1, 0, 2].into_iter().enumerate() {
        let data = number.to_string();
        stream.put_record(&PutRecord::new("k", &data).explicit_hash_key(shards[shard].1)).unwrap();
        clock.advance(SECOND);
    }
    let mut replay = stream.replay(Position::TrimHorizon).start().unwrap();
    let replayed = run(&mut replay, &clock);
    assert_eq!(
        texts(&replayed),
        [(0, "0"), (1_000, "1"), (2_000, "2"), (3_000, "3"), (4_000, "4"), (5_000, "5")]
    );
    assert!(
        replayed
            .iter()
            .map(|(_, (shard, _))| *shard)
            .eq([0, 2, 1, 1, 0, 2].map(|index: usize| shards[index].0))
    );

    let mut one = stream.replay(Position::At(1.into())).shard(shards[1].0).start().unwrap();
    assert_eq!(texts(&run(&mut one, &clock)), [(0, "3")]);
}

#[test]
fn children_follow_their_parents_even_if_the_clock_was_set_back() {
    let (clock, directory) = (clock(), scratch());
    let stream = small(&clock).open(directory.path()).unwrap();
    let start = clock.now_plus(Duration::ZERO);
    clock.set(start + 24 * HOUR);
    stream.put("k", "parent").unwrap();
    clock.set(start);
    stream.split_shard_evenly(stream.shards()[0].id).unwrap();
    stream.put("k", "child").unwrap();
    let mut replay = stream.replay(Position::TrimHorizon).start().unwrap();
    assert_eq!(
        texts(&run(&mut replay, &clock)).iter().map(|(_, text)| *text).collect::<Vec<_>>(),
        ["parent", "child"]
    );
    let mut cut = stream.replay(Position::TrimHorizon).until(start + HOUR).start().unwrap();
    assert_eq!(run(&mut cut, &clock), [], "no record of a child is older than its parent's");
}

#[test]
fn p6_what_was_trimmed_is_an_error_and_can_be_skipped() {
    let (clock, directory) = (clock(), scratch());
    let stream = small(&clock).retention(Retention::age(HOUR)).open(directory.path()).unwrap();
    for number in 0..300 {
        stream.put("k", format!("{number:03}{}", "x".repeat(1_000))).unwrap();
        clock.advance(SECOND);
    }
    let mut replay = stream.replay(Position::TrimHorizon).speed(f64::INFINITY).start().unwrap();
    assert!(matches!(replay.step().unwrap(), ReplayStep::Record(..)));
    clock.advance(HOUR - 50 * SECOND);
    stream.maintain().unwrap();
    let mut last = 0;
    let error = loop {
        match replay.step() {
            Ok(ReplayStep::Record(_, record)) => {
                assert_eq!(record.sequence.get(), last + 1);
                last += 1;
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    let Error::Trimmed { requested, horizon, .. } = error else { panic!("{error}") };
    assert_eq!(requested.get(), last + 1);
    assert!(matches!(replay.step(), Err(Error::Trimmed { .. })), "nothing is skipped in silence");
    assert_eq!(replay.skip_to_horizon(), horizon.get() - requested.get());
    let rest = run(&mut replay, &clock);
    assert_eq!(rest.first().unwrap().1.1.sequence, horizon);
    assert_eq!(rest.last().unwrap().1.1.sequence.get(), 299);
}

#[test]
fn limits_make_a_replay_wait() {
    let (clock, directory) = (clock(), scratch());
    let limits = Limits::none().read_bytes_per_second(4_000);
    let stream = small(&clock).limits(limits).open(directory.path()).unwrap();
    for number in 0..10 {
        stream.put("k", format!("{number}{}", "x".repeat(3_999))).unwrap();
    }
    let mut replay = stream.replay(Position::TrimHorizon).speed(f64::INFINITY).start().unwrap();
    let replayed = run(&mut replay, &clock);
    assert_eq!(replayed.len(), 10);
    assert!(replayed.last().unwrap().0 >= 5 * SECOND, "{:?}", replayed.last().unwrap().0);
}

#[test]
fn a_replay_iterates_and_works_on_a_reader_of_another_process() {
    let (clock, directory) = (clock(), scratch());
    let stream = every_ten_seconds(&clock, directory.path(), 3);
    let reader: StreamReader =
        streamlog::StreamOptions::new().clock(clock.clone()).open_reader(directory.path()).unwrap();
    for reader in [&*stream, &reader] {
        let replay = reader.replay(Position::TrimHorizon).speed(f64::INFINITY).start().unwrap();
        let found: Vec<_> = replay.map(|record| text(&record.unwrap().1).to_owned()).collect();
        assert_eq!(found, ["0", "1", "2"]);
    }
}

#[test]
fn wrong_settings_are_refused() {
    let (clock, directory) = (clock(), scratch());
    let stream = small(&clock).open(directory.path()).unwrap();
    let begin = || stream.replay(Position::TrimHorizon);
    for speed in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
        let error = begin().speed(speed).start().unwrap_err();
        assert_eq!(error.to_string(), format!("the speed of a replay must be above 0, and is {speed}"));
    }
    assert!(begin().speed(f64::MIN_POSITIVE).start().is_ok());
    assert!(matches!(stream.replay(Position::At(0.into())).start(), Err(Error::InvalidArgument(_))));
    assert!(matches!(begin().shard(ShardId::new(9)).start(), Err(Error::ShardNotFound(_))));
    let future = Position::AtTimestamp(clock.now_plus(HOUR));
    assert!(matches!(stream.replay(future).start(), Err(Error::InvalidArgument(_))));
}

#[test]
fn a_speed_near_zero_waits_and_does_not_overflow() {
    let (clock, directory) = (clock(), scratch());
    let stream = every_ten_seconds(&clock, directory.path(), 2);
    let mut replay = stream.replay(Position::TrimHorizon).speed(f64::MIN_POSITIVE).start().unwrap();
    assert!(matches!(replay.step().unwrap(), ReplayStep::Record(..)));
    assert!(matches!(replay.step().unwrap(), ReplayStep::Wait(time) if time > 1_000 * 365 * 24 * HOUR));
}

#[derive(Debug, Clone)]
enum Operation {
    Put(u8),
    /// Milliseconds.
    Advance(u16),
    Split(prop::sample::Index),
    Merge(prop::sample::Index),
    /// Time passes, and retention drops what is too old by then, including whole shards.
    Expire,
}

fn operations() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => any::<u8>().prop_map(Operation::Put),
        3 => any::<u16>().prop_map(Operation::Advance),
        1 => any::<prop::sample::Index>().prop_map(Operation::Split),
        1 => any::<prop::sample::Index>().prop_map(Operation::Merge),
        1 => Just(Operation::Expire),
    ]
}

/// The key of a record, its number among all, and when it arrived.
type Put = (u8, usize, Timestamp);

fn put(stream: &Stream, key: u8, number: usize) -> Put {
    let data = number.to_string();
    let receipt = stream.put_record(&PutRecord::new(&[key], &data)).unwrap();
    (key, number, receipt.timestamp)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 2, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn p4_replays_agree_with_what_was_put(
        operations in vec(operations(), 1..120),
        range in any::<(prop::sample::Index, prop::sample::Index)>(),
        is_from_horizon in any::<bool>(),
        speed in prop::sample::select(&[0.5, 1.0, 3.0, 1e6, f64::INFINITY]),
    ) {
        let (clock, directory) = (clock(), scratch());
        let options = small(&clock).shards(2).key_hash(KeyHash::Md5).retention(Retention::age(5 * MINUTE));
        let stream = options.open(directory.path()).unwrap();
        let mut puts: Vec<Put> = vec![];
        for operation in operations {
            let open: Vec<_> = stream.shards().into_iter().filter(|shard| shard.is_open()).collect();
            match operation {
                Operation::Put(key) => puts.push(put(&stream, key, puts.len())),
                Operation::Advance(millis) => clock.advance(Duration::from_millis(millis.into())),
                Operation::Split(index) if open.len() < 12 => {
                    stream.split_shard_evenly(open[index.index(open.len())].id).unwrap();
                }
                Operation::Merge(index) if open.len() > 1 => {
                    let mut by_range: Vec<(HashKey, ShardId)> =
                        open.iter().map(|shard| (shard.hash_key_range.start, shard.id)).collect();
                    by_range.sort();
                    let left = index.index(open.len() - 1);
                    stream.merge_shards(by_range[left].1, by_range[left + 1].1).unwrap();
                }
                Operation::Expire => {
                    clock.advance(MINUTE);
                    stream.maintain().unwrap();
                }
                _ => {}
            }
        }
        // What is still there, shard by shard.
        let data = stream.shards().into_iter().flat_map(|shard| read_all(&stream, shard.id)).map(|(_, data)| data);
        let data: BTreeSet<Vec<u8>> = data.collect();
        let is_left = |put: &Put| data.contains(put.1.to_string().as_bytes());
        let left: Vec<Put> = puts.iter().copied().filter(is_left).collect();
        prop_assume!(!left.is_empty());
        let times: Vec<Timestamp> = left.iter().map(|put| put.2).collect();
        let from = if is_from_horizon { times[0] } else { times[range.0.index(times.len())] };
        let until = times[range.1.index(times.len())] + Duration::from_micros(range.1.index(2) as u64);
        let position = if is_from_horizon { Position::TrimHorizon } else { Position::AtTimestamp(from) };
        let expected: Vec<&Put> = left.iter().filter(|put| put.2 >= from && put.2 < until).collect();

        let mut replay = stream.replay(position).until(until).speed(speed).start().unwrap();
        let replayed = run(&mut replay, &clock);
        let numbers = |replayed: &[(Duration, Record)]| -> Vec<usize> {
            replayed.iter().map(|(_, (_, record))| text(record).parse().unwrap()).collect()
        };
        let mut sorted = numbers(&replayed);
        sorted.sort_unstable();
        prop_assert!(sorted.iter().eq(expected.iter().map(|put| &put.1)), "each record of the range once");
        let mut last_of_key: BTreeMap<u8, usize> = BTreeMap::new();
        for (number, (time, (_, record))) in numbers(&replayed).into_iter().zip(&replayed) {
            let (key, _, arrived) = puts[number];
            prop_assert_eq!(record.timestamp, arrived);
            prop_assert!(last_of_key.insert(key, number).is_none_or(|last| last < number), "the order of a key");
            let micros = (arrived.as_micros() - expected[0].2.as_micros()) as f64 / speed;
            prop_assert_eq!(time.as_micros(), micros as u128, "by the arrival of the first");
        }
        prop_assert!(replayed.is_sorted_by_key(|(_, (_, record))| record.timestamp), "merged by arrival");
    }
}
