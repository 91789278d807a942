//! A clock that is wrong, jumps, or was never set: P6, P11, P12.

use crate::common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use streamlog::{
    Batch, Clock, DAY, Error, HOUR, MINUTE, ManualClock, Position, PutRecord, Retention, SECOND, ShardFilter,
    ShardId, Stream, Timestamp, Worker,
};

const SHARD: ShardId = ShardId::new(0);
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

fn open(path: &Path, clock: &Arc<ManualClock>, retention: Retention) -> Stream {
    common::small(clock).retention(retention).open(path).unwrap()
}

/// Puts while the clock shows a wrong time.
fn put_at(stream: &Stream, clock: &ManualClock, time: Timestamp, data: &str) {
    let right = clock.now();
    clock.set(time);
    stream.put("key", data).unwrap();
    clock.set(right);
}

/// Returns the data of all records that can be read, in order.
fn read(stream: &Stream) -> Vec<String> {
    let mut iterator = stream.lineage_iterator(Position::TrimHorizon).unwrap();
    let mut read = vec![];
    loop {
        let batch = iterator.next_batch(100).unwrap();
        if batch.is_empty() {
            return read;
        }
        read.extend(batch.iter().map(|record| String::from_utf8(record.data().to_vec()).unwrap()));
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Meanwhile {
    Nothing,
    Reopen,
    Kill,
    Reshard,
}

/// Puts one record while the clock shows 2036, and then one each 15 minutes for two days.
fn two_days_after_a_future_record(meanwhile: Meanwhile) {
    let (scratch, clock) = (common::scratch(), common::clock());
    let mut path = scratch.path().join("stream");
    let options = || common::small(&clock).retention(Retention::age(HOUR));
    let mut stream = options().open(&path).unwrap();
    stream.put("key", "before").unwrap();
    put_at(&stream, &clock, clock.now() + TEN_YEARS, "ahead");
    for number in 0..192 {
        stream.put("key", number.to_string()).unwrap();
        clock.advance(15 * MINUTE);
        stream.maintain().unwrap();
        match meanwhile {
            Meanwhile::Reopen if number % 3 == 2 => {
                stream.close().unwrap();
                stream = options().open(&path).unwrap();
                assert!(stream.recovery().clock_behind.is_some_and(|by| by > 9 * TEN_YEARS / 10));
            }
            Meanwhile::Kill if number % 10 == 9 => {
                let killed = scratch.path().join(format!("killed-{number}"));
                common::copy_dir(&path, &killed);
                drop(stream);
                (stream, path) = (options().open(&killed).unwrap(), killed);
            }
            Meanwhile::Reshard if number == 60 => drop(stream.split_shard_evenly(SHARD).unwrap()),
            Meanwhile::Reshard if number == 120 => drop(stream.update_shard_count(1).unwrap()),
            _ => {}
        }
    }
    stream.maintain().unwrap();
    let left = read(&stream);
    let all: Vec<String> = (0..192).map(|number| number.to_string()).collect();
    assert!(left.len() <= 8, "{meanwhile:?}: {} records are left", left.len());
    assert!(all.ends_with(&left) && left.len() >= 4, "{meanwhile:?}: a younger record is gone: {left:?}");
    let files: usize =
        stream.shards().iter().map(|shard| common::segment_files(&path, shard.id.get()).len()).sum();
    assert!(files <= 12, "{meanwhile:?}: {files} files");
    if meanwhile == Meanwhile::Reshard {
        assert_eq!(stream.shards().len(), 1, "closed shards expire");
    }
}

#[test]
fn p12_a_record_from_a_future_clock_does_not_stop_retention() {
    two_days_after_a_future_record(Meanwhile::Nothing);
}

#[test]
fn p12_a_record_from_a_future_clock_does_not_stop_retention_if_the_stream_is_opened_again_and_again() {
    two_days_after_a_future_record(Meanwhile::Reopen);
    two_days_after_a_future_record(Meanwhile::Kill);
}

#[test]
fn p12_a_record_from_a_future_clock_does_not_stop_retention_in_the_children_of_its_shard() {
    two_days_after_a_future_record(Meanwhile::Reshard);
}

#[test]
fn p12_a_quiet_shard_with_a_record_from_a_future_clock_expires() {
    for (reopens, splits) in [(false, false), (true, false), (false, true), (true, true)] {
        let (scratch, clock) = (common::scratch(), common::clock());
        let mut stream = open(scratch.path(), &clock, Retention::age(HOUR));
        put_at(&stream, &clock, clock.now() + TEN_YEARS, "ahead");
        if splits {
            stream.split_shard_evenly(SHARD).unwrap();
        }
        for minute in 0..=9 {
            stream.maintain().unwrap();
            assert!(minute > 5 || read(&stream).len() == 1, "it is no older than an hour");
            clock.advance(10 * MINUTE);
            if reopens {
                stream.close().unwrap();
                stream = open(scratch.path(), &clock, Retention::age(HOUR));
            }
        }
        stream.maintain().unwrap();
        assert!(read(&stream).is_empty(), "reopens: {reopens}, splits: {splits}");
        assert_eq!(stream.shards().len(), if splits { 2 } else { 1 }, "reopens: {reopens}");
    }
}

#[test]
fn p12_retention_by_bytes_drops_the_oldest_segments_although_one_shard_has_a_record_from_a_future_clock() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let retention = Retention::forever().bytes_max(600 << 10);
    let stream = common::small(&clock).shards(2).retention(retention).open(scratch.path()).unwrap();
    let put = |shard: u128| {
        let key = streamlog::HashKey::new(shard << 127);
        stream.put_record(&PutRecord::new("key", &[7; 10_000]).explicit_hash_key(key)).unwrap();
    };
    let right = clock.now();
    clock.set(right + TEN_YEARS);
    put(0);
    clock.set(right);
    for _ in 0..100 {
        put(0);
        put(1);
        clock.advance(SECOND);
        stream.maintain().unwrap();
    }
    let kept: Vec<u64> = stream.stats().unwrap().shards.iter().map(|shard| shard.record_count()).collect();
    assert!(kept[0].abs_diff(kept[1]) <= 8, "{kept:?} records are kept");
}

#[test]
fn p12_what_was_put_before_the_clock_was_set_for_the_first_time_stays_as_long_as_other_records() {
    let (scratch, clock) = (common::scratch(), Arc::new(ManualClock::default()));
    let mut stream = open(scratch.path(), &clock, Retention::age(DAY));
    for number in 0..100 {
        stream.put("key", number.to_string()).unwrap();
        clock.advance(SECOND);
    }
    clock.set(Timestamp::from_millis(1_700_000_000_000));
    stream.put("key", "set").unwrap();
    for hour in 0..=24 {
        stream.maintain().unwrap();
        assert_eq!(read(&stream).len(), 101, "after {hour} hours");
        if hour % 10 == 1 {
            // The next opening does not know of the jump.
            stream.close().unwrap();
            stream = open(scratch.path(), &clock, Retention::age(DAY));
        }
        clock.advance(if hour < 23 { HOUR } else { HOUR - MINUTE });
    }
    clock.advance(5 * HOUR);
    stream.maintain().unwrap();
    assert!(read(&stream).is_empty());
}

#[test]
fn p12_a_jump_of_the_clock_drops_no_record_that_is_younger_than_the_retention() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, Retention::age(HOUR));
    for number in 0..6 {
        stream.put("key", format!("right {number}")).unwrap();
        clock.advance(10 * MINUTE);
        stream.maintain().unwrap();
    }
    // Someone sets the clock wrong by ten years for an hour.
    clock.set(clock.now() + TEN_YEARS);
    stream.maintain().unwrap();
    assert_eq!(read(&stream).len(), 6, "a jump drops nothing");
    for number in 0..6 {
        stream.put("key", format!("wrong {number}")).unwrap();
        clock.advance(10 * MINUTE);
        stream.maintain().unwrap();
        assert_eq!(read(&stream).len(), 6, "each expires after its hour: {:?}", read(&stream));
    }
    clock.set(clock.now() - TEN_YEARS);
    for number in 0..12 {
        stream.put("key", format!("again {number}")).unwrap();
        clock.advance(10 * MINUTE);
        stream.maintain().unwrap();
        let left = read(&stream);
        assert!((6..=8).contains(&left.len()), "{left:?}");
        assert!(left.ends_with(&[format!("again {number}")]));
    }
}

#[test]
fn p12_a_step_of_a_minute_is_followed_and_moves_the_horizon_by_no_more() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, Retention::age(HOUR));
    for number in 0..120 {
        stream.put("key", number.to_string()).unwrap();
        clock.advance(30 * SECOND);
    }
    stream.maintain().unwrap();
    let before = read(&stream).len();
    clock.set(clock.now() + MINUTE);
    stream.maintain().unwrap();
    assert_eq!(read(&stream).len(), before - 2);
}

#[test]
fn p6_any_timestamp_that_a_record_has_is_accepted_as_a_position() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let options = common::small(&clock).shards(2).retention(Retention::age(HOUR));
    let stream = options.open(scratch.path()).unwrap();
    put_at(&stream, &clock, clock.now() + TEN_YEARS, "ahead");
    let full = |shard: &ShardId| stream.stats().unwrap().shards[shard.get() as usize].record_count() > 0;
    let [shard, other] = if full(&SHARD) { [SHARD, ShardId::new(1)] } else { [ShardId::new(1), SHARD] };
    let mut iterator = stream.iterator(shard, Position::TrimHorizon).unwrap();
    let batch = iterator.next_batch(1).unwrap();
    let time = batch.iter().next().unwrap().timestamp();
    assert!(time > clock.now() + HOUR);
    let at = Position::AtTimestamp(time);
    let first = |shard| stream.iterator(shard, at).unwrap().next_sequence();
    assert_eq!((first(shard), first(other)), (0.into(), 0.into()));
    iterator.seek(at).unwrap();
    assert_eq!(iterator.next_batch(1).unwrap().len(), 1);
    assert_eq!(stream.lineage_iterator(at).unwrap().next_batch(9).unwrap().len(), 1);
    stream.group("billing").worker().start_at(at).open().unwrap();
    let children = stream.split_shard_evenly(shard).unwrap();
    assert_eq!(first(children[1].id), children[1].first_sequence);
    // Also after retention has dropped it.
    for _ in 0..3 {
        stream.maintain().unwrap();
        clock.advance(HOUR);
    }
    stream.maintain().unwrap();
    assert!(read(&stream).is_empty());
    assert_eq!((first(children[1].id), first(other)), (children[1].first_sequence, 0.into()));
    let later = Position::AtTimestamp(time + SECOND);
    assert!(
        matches!(stream.iterator(other, later), Err(Error::InvalidArgument(_))),
        "no record has that time"
    );
}

#[test]
fn p6_a_time_in_the_past_is_found_behind_a_record_from_a_future_clock() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, Retention::age(DAY));
    put_at(&stream, &clock, clock.now() + TEN_YEARS, "ahead");
    for number in 0..20 {
        clock.advance(HOUR);
        stream.maintain().unwrap();
        stream.put("key", number.to_string()).unwrap();
    }
    let asked = clock.now() - 5 * HOUR;
    let first = stream.iterator(SHARD, Position::AtTimestamp(asked)).unwrap().next_sequence();
    // The first record at that time or later is 15. A segment begins every three hours.
    assert!((12..=15).contains(&first.get()), "{first}");
}

#[test]
fn what_is_left_to_read_has_an_age_even_if_the_clock_was_set_back() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, Retention::forever());
    put_at(&stream, &clock, clock.now() + TEN_YEARS, "ahead");
    stream.close().unwrap();
    let stream = open(scratch.path(), &clock, Retention::age(HOUR));
    stream.maintain().unwrap();
    stream.put("key", "stuck").unwrap();
    let iterator = stream.iterator(SHARD, Position::At(1.into())).unwrap();
    let age = || (iterator.lag().unwrap().age, stream.stats().unwrap().iterator_age_ms());
    assert_eq!(age(), (Duration::from_millis(1), Some(1)));
    clock.advance(30 * MINUTE);
    assert_eq!(age(), (30 * MINUTE, Some(1_800_000)));
}

/// Reads batches until one reports that nothing is left. Returns the number of records.
fn read_until_latest(mut next: impl FnMut() -> Batch) -> usize {
    let mut count = 0;
    loop {
        let batch = next();
        count += batch.len();
        if batch.millis_behind_latest() == 0 {
            return count;
        }
    }
}

#[test]
fn p6_a_loop_that_reads_until_it_is_not_behind_reads_everything_whatever_the_clock_shows() {
    for step in [Duration::ZERO, HOUR, TEN_YEARS] {
        let (scratch, clock) = (common::scratch(), common::clock());
        let stream = open(scratch.path(), &clock, Retention::forever());
        (0..1_000u32).for_each(|number| assert!(stream.put("key", number.to_string()).is_ok()));
        clock.set(clock.now() - step);
        let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
        assert!(iterator.next_batch(0).unwrap().millis_behind_latest() > 0);
        assert_eq!(read_until_latest(|| iterator.next_batch(100).unwrap()), 1_000, "set back by {step:?}");

        // For the whole stream, the batch that ends a shard is not the last.
        stream.update_shard_count(4).unwrap();
        (0..1_000u32).for_each(|number| assert!(stream.put(number.to_le_bytes(), "data").is_ok()));
        let mut iterator = stream.lineage_iterator(Position::TrimHorizon).unwrap();
        assert_eq!(read_until_latest(|| iterator.next_batch(100).unwrap()), 2_000, "set back by {step:?}");
    }
}

fn worker(stream: &Stream) -> Worker {
    stream.group("billing").worker().lease_timeout(MINUTE).open().unwrap()
}

#[test]
fn a_clock_that_is_set_forward_ends_no_lease() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).shards(2).open(scratch.path()).unwrap();
    for number in 0..100u32 {
        stream.put(number.to_le_bytes(), number.to_string()).unwrap();
    }
    let mut workers = [worker(&stream), worker(&stream)];
    let poll = |worker: &mut Worker| worker.poll(Duration::ZERO).unwrap();
    let batches = workers.each_mut().map(|worker| poll(worker).expect("each has a shard"));
    for step in [MINUTE, HOUR, TEN_YEARS] {
        clock.set(clock.now() + step);
        assert!(workers.iter_mut().all(|worker| poll(worker).is_none()), "nothing comes twice");
    }
    let mut handled = BTreeSet::new();
    for (worker, batch) in workers.iter_mut().zip(&batches) {
        worker.commit(batch).expect("the lease is kept");
        handled.extend(batch.iter().map(|record| record.data().to_vec()));
    }
    assert_eq!(handled.len(), 100);
    // Elapsed time still counts.
    clock.advance(MINUTE);
    poll(&mut workers[0]);
    assert_eq!(workers[0].shards().len(), 2);
}

/// A clock that shows whatever time it is given, as if no other measure of time existed.
#[derive(Debug, Default)]
struct Bare(ManualClock);

impl Clock for Bare {
    fn now(&self) -> Timestamp {
        self.0.now()
    }
}

#[test]
fn p11_no_time_that_a_clock_shows_causes_a_panic() {
    let times = [0, 1, u64::MAX, 1_700_000_000_000_000, u64::MAX - 1, i64::MAX as u64, 59_999_999];
    for bare in [false, true] {
        let (scratch, clock) = (common::scratch(), Arc::new(Bare::default()));
        let options = || {
            let options = common::small(&common::clock()).retention(Retention::age(HOUR).bytes_max(1 << 20));
            // The same clock as another type, which also counts elapsed time.
            match bare {
                true => options.clock(clock.clone()),
                false => options.clock(Arc::new(Counting(Arc::clone(&clock)))),
            }
        };
        for time in times.iter().chain(times.iter().rev()) {
            clock.0.set(Timestamp::from_micros(*time));
            let stream = options().open(scratch.path()).unwrap();
            for later in times {
                let mut worker = worker(&stream);
                stream.put("key", vec![7; 20_000]).unwrap();
                clock.0.set(Timestamp::from_micros(later));
                stream.maintain().unwrap();
                clock.0.advance(Duration::MAX);
                stream.maintain().unwrap();
                let open = stream.list_shards(ShardFilter::AtTimestamp(Timestamp::from_micros(later)));
                for shard in open {
                    let _ = stream.iterator(shard.id, Position::AtTimestamp(Timestamp::from_micros(later)));
                    let iterator = stream.iterator(shard.id, Position::TrimHorizon).unwrap();
                    iterator.lag().unwrap();
                }
                let _ = worker.poll(Duration::ZERO);
                stream.stats().unwrap();
                let _ = (clock.0.now().to_string(), std::time::SystemTime::from(clock.0.now()));
            }
            stream.set_retention(Retention::age(Duration::MAX)).unwrap();
            stream.update_shard_count(2).unwrap();
            stream.update_shard_count(1).unwrap();
            stream.close().unwrap();
        }
    }
}

/// A clock that shows the time of another one, and counts elapsed time by it.
#[derive(Debug)]
struct Counting(Arc<Bare>);

impl Clock for Counting {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn elapsed(&self) -> Duration {
        self.0.0.elapsed()
    }
}

#[test]
fn p11_a_manual_clock_stops_at_the_latest_time_and_does_not_begin_again() {
    let clock = ManualClock::new(Timestamp::from_micros(u64::MAX - 5));
    clock.advance(SECOND);
    assert_eq!((clock.now().as_micros(), clock.elapsed()), (u64::MAX, Duration::from_micros(5)));
}

#[test]
fn p12_a_clock_without_a_measure_of_its_own_is_believed() {
    let (scratch, clock) = (common::scratch(), Arc::new(Bare::default()));
    clock.0.set(Timestamp::from_millis(1_700_000_000_000));
    let options = common::small(&common::clock()).clock(clock.clone()).retention(Retention::age(HOUR));
    let stream = options.open(scratch.path()).unwrap();
    stream.put("key", "old").unwrap();
    clock.0.set(clock.now() + HOUR + SECOND);
    stream.maintain().unwrap();
    assert!(read(&stream).is_empty(), "it says that an hour has passed");
}

#[test]
fn p12_a_segment_that_was_begun_while_the_clock_was_behind_dates_nothing() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, Retention::age(SECOND));
    let jump = |stream: &Stream, to: Timestamp| {
        clock.set(to);
        stream.maintain().unwrap();
    };
    let created = clock.now();
    jump(&stream, created - 10 * MINUTE);
    stream.put("key", "data").unwrap();
    // The record is as old as its shard, whose time is ahead of the clock. So maintenance begins a segment that dates the record, but by a
    // clock that is wrong.
    jump(&stream, created - 2 * HOUR);
    jump(&stream, created - 11 * MINUTE);
    stream.close().unwrap();

    let stream = open(scratch.path(), &clock, Retention::age(MINUTE));
    for _ in 0..30 {
        stream.maintain().unwrap();
        clock.advance(10 * SECOND);
    }
    assert_eq!(stream.stats().unwrap().record_count(), 0, "P12: it stays forever");
}
