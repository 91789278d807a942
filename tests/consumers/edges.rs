//! Edge cases of consumer groups: leases lost during a call, kills after a reset, shards that expire unread: P4, P6.

use crate::common;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::groups::{GROUP, open, poll, put, sorted, worker};
use streamlog::{
    Batch, Error, HOUR, MINUTE, ManualClock, OnTrimmed, Position, Retention, SECOND, ShardId, Stream, Worker,
};

/// Reads and commits until nothing is left. Returns the numbers, sorted.
fn drain(worker: &mut Worker) -> Vec<u32> {
    sorted(common::groups::drain(worker))
}

/// Work that a test does during a poll, when the worker asks for a position.
type Interruption = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

fn interrupt(interruption: &Interruption) {
    let work = interruption.lock().unwrap().take();
    if let Some(work) = work {
        work();
    }
}

#[test]
fn a_clock_that_is_set_back_gives_nobody_more_time() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 2);
    put(&stream, 0..20);
    let silent = worker(&stream);
    let mut alive = worker(&stream);
    clock.set(clock.now_minus(HOUR));
    for _ in 0..4 {
        clock.advance(MINUTE / 3);
        poll(&mut alive);
    }
    assert_eq!(alive.shards().len(), 2, "the other was silent for more than a minute");

    // The same holds for a shard that waits to be handed over.
    drop(silent);
    let mut third = worker(&stream);
    poll(&mut alive);
    poll(&mut third);
    clock.set(clock.now_minus(HOUR));
    for _ in 0..4 {
        clock.advance(MINUTE / 3);
        poll(&mut alive);
        poll(&mut third);
    }
    assert_eq!((alive.shards().len(), third.shards().len()), (1, 1), "the handover times out");
}

trait NowMinus {
    fn now_minus(&self, by: Duration) -> streamlog::Timestamp;
}

impl NowMinus for ManualClock {
    fn now_minus(&self, by: Duration) -> streamlog::Timestamp {
        streamlog::Clock::now(self) - by
    }
}

#[test]
fn a_shard_whose_handover_is_called_off_continues_where_it_was() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 3);
    put(&stream, 0..90);
    let interruption = Interruption::default();
    let at_takeover = Arc::clone(&interruption);
    let last = Mutex::new(vec![]);
    // The worker begins the third shard later than the other two, because asking for its position fails at first.
    let may_begin = Arc::new(AtomicBool::new(false));
    let begins = Arc::clone(&may_begin);
    let last_handled = move |shard: ShardId| {
        let mut begun = last.lock().unwrap();
        if begun.len() == 2 && !begun.contains(&shard) {
            if !begins.load(Ordering::Relaxed) {
                return Err(Error::InvalidArgument("not yet".into()));
            }
            interrupt(&at_takeover);
        }
        if !begun.contains(&shard) {
            begun.push(shard);
        }
        Ok(None)
    };
    let options = stream.group(GROUP).worker().lease_timeout(MINUTE).batch_records(5);
    let mut first = options.positions_from(last_handled).open().unwrap();
    let held: Vec<Batch> = (0..2).map(|_| poll(&mut first).unwrap()).collect();
    for batch in &held {
        let third = batch.first_sequence().unwrap().plus(2);
        first.commit_to(batch.shard(), third).unwrap();
    }
    while first.poll(Duration::ZERO).is_ok() {}
    may_begin.store(true, Ordering::Relaxed);

    // While the worker begins the third shard, two workers join, so it must hand over two shards. Then they leave.
    let others: Arc<Mutex<Vec<Worker>>> = Arc::default();
    let come = {
        let (stream, others) = (stream.clone(), Arc::clone(&others));
        move || others.lock().unwrap().extend([worker(&stream), worker(&stream)])
    };
    *interruption.lock().unwrap() = Some(Box::new(come));
    let mut seen = vec![];
    while others.lock().unwrap().is_empty() {
        seen.extend(poll(&mut first));
    }
    seen.extend(poll(&mut first));
    others.lock().unwrap().clear();
    while let Some(batch) = poll(&mut first) {
        seen.push(batch);
    }
    for batch in seen {
        let committed = held.iter().any(|held| {
            held.shard() == batch.shard()
                && batch.first_sequence() < held.first_sequence().map(|it| it.plus(3))
        });
        assert!(
            !committed,
            "{} is delivered again from {:?}, which was committed",
            batch.shard(),
            batch.first_sequence()
        );
    }
}

#[test]
fn a_lease_lost_during_a_poll_does_not_fail_the_poll() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 0..10);
    let resets = Arc::new(AtomicBool::new(true));
    let other = stream.clone();
    let last_handled = move |_| {
        if resets.swap(false, Ordering::Relaxed) {
            other.group(GROUP).reset(Position::TrimHorizon).unwrap();
            return Ok(Some(3.into()));
        }
        Ok(None)
    };
    let mut worker = stream.group(GROUP).worker().positions_from(last_handled).open().unwrap();
    assert_eq!(drain(&mut worker), (0..10).collect::<Vec<_>>());
}

#[test]
fn p6_a_reset_counts_for_all_shards_also_after_a_kill() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let (path, killed) = (scratch.path().join("stream"), scratch.path().join("killed"));
    let stream = open(&path, &clock, 1);
    put(&stream, 0..10);
    stream.split_shard_evenly(stream.shards()[0].id).unwrap();
    put(&stream, 10..30);
    assert_eq!(drain(&mut worker(&stream)).len(), 30);
    stream.group(GROUP).reset(Position::TrimHorizon).unwrap();
    common::copy_dir(&path, &killed);
    let again = open(&killed, &clock, 1);
    assert_eq!(drain(&mut worker(&again)), (0..30).collect::<Vec<_>>(), "also the children's");
}

#[test]
fn p6_a_child_that_expired_before_anything_of_it_was_committed_is_told() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let path = scratch.path().join("stream");
    let open = || common::small(&clock).retention(Retention::age(HOUR)).open(&path).unwrap();
    let stream = open();
    put(&stream, 0..5);
    let parent = stream.shards()[0].id;
    let children = stream.split_shard_evenly(parent).unwrap();
    let mut first = worker(&stream);
    let batch = poll(&mut first).unwrap();
    first.commit(&batch).unwrap();
    put(&stream, 5..25);
    drop(first);
    // The stream was killed or closed: the group is not open while its shards expire.
    stream.close().unwrap();
    let stream = open();
    let [lower, upper] = [children[0].id, children[1].id];
    stream.merge_shards(lower, upper).unwrap();
    for _ in 0..3 {
        clock.advance(2 * HOUR);
        stream.maintain().unwrap();
    }
    assert_eq!(stream.shards().len(), 1, "parent and children have expired");
    put(&stream, 25..30);
    let mut second = worker(&stream);
    for _ in 0..2 {
        let refused = second.poll(Duration::ZERO);
        let Err(Error::Trimmed { shard, .. }) = refused else { panic!("20 records are gone: {refused:?}") };
        assert!(shard == lower || shard == upper);
        assert!(second.skip_to_horizon(shard).unwrap() > 0);
    }
    assert_eq!(drain(&mut second), (25..30).collect::<Vec<_>>());
}

#[test]
fn a_group_that_could_not_be_opened_can_be_opened_later() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 0..3);
    // What an interrupted creation leaves.
    drop(open(&scratch.path().join("groups").join(GROUP), &clock, 1));
    let future = Position::AtTimestamp(stream.now() + HOUR);
    assert!(matches!(stream.group(GROUP).worker().start_at(future).open(), Err(Error::InvalidArgument(_))));
    assert_eq!(drain(&mut worker(&stream)), [0, 1, 2]);
}

#[test]
fn looking_at_a_group_writes_nothing() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 2);
    put(&stream, 0..10);
    drain(&mut worker(&stream));
    stream.close().unwrap();
    let log = &common::segment_files(&scratch.path().join("groups").join(GROUP), 0)[0];
    let before = fs::read(log).unwrap();
    for _ in 0..3 {
        let stream = open(scratch.path(), &clock, 2);
        assert_eq!(stream.group(GROUP).describe().unwrap().lag().record_count, 0);
        assert!(poll(&mut worker(&stream)).is_none());
        stream.close().unwrap();
    }
    assert!(fs::read(log).unwrap() == before);
}

#[test]
fn checkpoints_of_shards_that_have_expired_go() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let path = scratch.path().join("stream");
    let stream = common::small(&clock).retention(Retention::age(HOUR)).open(&path).unwrap();
    let mut worker = stream.group(GROUP).worker().batch_records(1).open().unwrap();
    for round in 0..60 {
        let open: Vec<ShardId> =
            stream.list_shards(streamlog::ShardFilter::AtLatest).iter().map(|it| it.id).collect();
        match open[..] {
            [only] => drop(stream.split_shard_evenly(only).unwrap()),
            [lower, upper] => drop(stream.merge_shards(lower, upper).unwrap()),
            _ => unreachable!("one or two shards are open"),
        }
        put(&stream, round * 20..(round + 1) * 20);
        assert_eq!(drain(&mut worker).len(), 20);
        clock.advance(2 * HOUR);
        stream.maintain().unwrap();
    }
    assert!(stream.shards().len() <= 4);
    let kept = Stream::list(path.join("groups")).unwrap();
    drop(worker);
    stream.close().unwrap();
    // The log holds all checkpoints as they were when it was last written anew, and the commits after that.
    let log = Stream::open(&kept[0]).unwrap();
    let lines = common::read_all(&log, ShardId::new(0));
    assert!(lines.len() < 1_000, "{} lines", lines.len());
    let names: std::collections::BTreeSet<_> = lines.iter().map(|(shard, _)| shard.clone()).collect();
    assert!(names.len() < 60, "the group still knows {} of 90 shards", names.len());
    drop(log);
    fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_group_is_not_deleted_under_a_worker_that_joins_or_is_silent() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 0..10);
    let silent = worker(&stream);
    clock.advance(HOUR);
    assert!(
        matches!(stream.group(GROUP).delete(), Err(Error::InvalidArgument(_))),
        "its worker may come back"
    );
    drop(silent);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                let _ = stream.group(GROUP).delete();
            }
        });
        let joins = scope.spawn(|| {
            for _ in 0..1_000 {
                let mut worker = worker(&stream);
                let batch = poll(&mut worker).expect("the group is new, or little is committed");
                worker.commit_to(batch.shard(), 3.into()).expect("a group with a worker is not deleted");
            }
        });
        let outcome = joins.join();
        is_done.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
}

#[test]
fn p4_records_lost_at_the_end_of_a_shard_do_not_keep_its_children_waiting() {
    let (scratch, clock) = (common::scratch(), common::clock());
    for commits_first in [true, false] {
        let path = scratch.path().join(format!("commits-first-{commits_first}"));
        let stream = open(&path, &clock, 1);
        put(&stream, 0..10);
        stream.sync().unwrap();
        stream.split_shard_evenly(stream.shards()[0].id).unwrap();
        put(&stream, 10..30);
        stream.close().unwrap();
        let file = common::segment_files(&path, 0).remove(0);
        let mut bytes = fs::read(&file).unwrap();
        let at = bytes.windows(6).position(|bytes| bytes == b"key-99").unwrap();
        bytes[at + 4] ^= 1;
        fs::write(&file, bytes).unwrap();
        let stream = common::small(&clock).salvage(true).open(&path).unwrap();
        let mut worker = worker(&stream);
        let mut lost = vec![];
        let mut seen = vec![];
        let mut outstanding = vec![];
        loop {
            match worker.poll(Duration::ZERO) {
                Ok(Some(batch)) if commits_first => {
                    seen.push(batch.len());
                    worker.commit(&batch).unwrap();
                }
                Ok(Some(batch)) => {
                    seen.push(batch.len());
                    outstanding.push(batch);
                }
                Ok(None) if outstanding.is_empty() => break,
                Ok(None) => outstanding.drain(..).for_each(|batch| worker.commit(&batch).unwrap()),
                Err(Error::Lost { shard, .. }) => lost.push(worker.skip_lost(shard).unwrap()),
                Err(error) => panic!("{error}"),
            }
        }
        let lost_count = lost.iter().sum::<u64>();
        assert!(lost_count > 0 && lost_count < 10, "{lost:?}");
        assert_eq!(seen.iter().sum::<usize>() as u64 + lost_count, 30, "also the children's");
        assert_eq!(worker.group().describe().unwrap().lag().record_count, 0);
    }
}

/// Damage takes the last record that the group has handled, and the next ones.
#[test]
fn p6_records_lost_around_a_checkpoint_are_told() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    for number in 0..20 {
        put(&stream, number..number + 1);
        clock.advance(SECOND);
    }
    let mut first = stream.group(GROUP).worker().batch_records(10).open().unwrap();
    let batch = poll(&mut first).unwrap();
    first.commit(&batch).unwrap();
    drop(first);
    stream.close().unwrap();
    let file = common::segment_files(scratch.path(), 0).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    let places = [b"key-99", b"key-10"].map(|key| bytes.windows(6).position(|bytes| bytes == key).unwrap());
    bytes[places[0]..places[1]].fill(0xa5);
    fs::write(&file, bytes).unwrap();
    let stream = common::small(&clock).salvage(true).open(scratch.path()).unwrap();
    let lost = stream.recovery().shards[0].lost[0].sequences.clone();
    assert!(lost.contains(&9.into()) && lost.contains(&10.into()), "{lost:?}");

    let mut second = worker(&stream);
    let (mut seen, mut given_up) = (vec![], vec![]);
    loop {
        match second.poll(Duration::ZERO) {
            Ok(Some(batch)) => {
                seen.extend(common::groups::numbers(&batch));
                second.commit(&batch).unwrap();
            }
            Ok(None) => break,
            Err(Error::Lost { shard, first, end }) => {
                given_up.extend(first.get()..end.get());
                assert_eq!(second.skip_lost(shard).unwrap(), end.get() - first.get());
            }
            Err(error) => panic!("{error}"),
        }
    }
    let missing: Vec<_> =
        (10..20).filter(|&number| !seen.contains(&number) && !given_up.contains(&number.into())).collect();
    assert_eq!(missing, Vec::<u32>::new(), "skipped in silence; lost: {lost:?}, read: {seen:?}");
}

#[test]
fn p6_skipping_to_the_horizon_goes_by_the_callers_own_position() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 0..20);
    assert_eq!(drain(&mut worker(&stream)).len(), 20);
    let shard = stream.shards()[0].id;
    stream.trim_before(shard, 12.into()).unwrap();
    for on_trimmed in [OnTrimmed::Fail, OnTrimmed::SkipToHorizon] {
        // The caller restored its output from an old copy.
        let options = stream.group(GROUP).worker().on_trimmed(on_trimmed);
        let mut behind = options.positions_from(|_| Ok(Some(4.into()))).open().unwrap();
        if on_trimmed == OnTrimmed::Fail {
            assert!(matches!(behind.poll(Duration::ZERO), Err(Error::Trimmed { .. })));
            assert_eq!(behind.skip_to_horizon(shard).unwrap(), 7);
        }
        assert_eq!(drain(&mut behind), (12..20).collect::<Vec<_>>());
        assert_eq!(behind.skipped_count(), 7);
    }
}

#[test]
fn a_seek_hands_a_shard_over_that_was_only_waiting_for_a_commit() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 2);
    put(&stream, 0..20);
    let mut first = worker(&stream);
    let held = [poll(&mut first).unwrap(), poll(&mut first).unwrap()];
    let mut second = worker(&stream);
    assert!(poll(&mut second).is_none());
    for batch in held {
        first.seek(batch.shard(), Position::At(batch.last_sequence().unwrap().plus(1))).unwrap();
    }
    poll(&mut second);
    assert_eq!(second.shards().len(), 1);
}

#[test]
fn a_closed_stream_takes_no_workers() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    drop(worker(&stream));
    stream.clone().close().unwrap();
    assert!(matches!(stream.group(GROUP).worker().open(), Err(Error::Closed)));
    assert!(matches!(stream.group("new").worker().open(), Err(Error::Closed)));
    assert!(matches!(stream.group(GROUP).reset(Position::Latest), Err(Error::Closed)));
}

#[test]
fn a_failure_of_the_callers_positions_is_returned_and_leaves_nothing_behind() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 0..10);
    let calls = Arc::new(Mutex::new(0));
    let count = Arc::clone(&calls);
    let last_handled = move |_| {
        let call = {
            let mut calls = count.lock().unwrap();
            *calls += 1;
            *calls
        };
        match call {
            1 => Err(Error::InvalidArgument("the output is not there".into())),
            2 => panic!("the output is not there"),
            _ => Ok(Some(3.into())),
        }
    };
    let mut worker = stream.group(GROUP).worker().positions_from(last_handled).open().unwrap();
    assert!(worker.poll(Duration::ZERO).is_err());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.poll(Duration::ZERO)));
    assert!(panicked.is_err());
    assert_eq!(drain(&mut worker), (4..10).collect::<Vec<_>>());
    drop(worker);
    stream.group(GROUP).reset(Position::TrimHorizon).unwrap();
    assert_eq!(drain(&mut self::worker(&stream)).len(), 10);
    clock.advance(SECOND);
    stream.group(GROUP).delete().unwrap();
}

#[test]
fn resets_and_reshards_among_busy_workers_come_through() {
    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    put(&stream, 0..2_000);
    drop(worker(&stream));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let mut worker = stream.group(GROUP).worker().batch_records(7).open().unwrap();
                    for _ in 0..100 {
                        let Some(batch) = worker.poll(Duration::from_millis(1)).unwrap() else { break };
                        match worker.commit(&batch) {
                            Ok(()) | Err(Error::GroupLeaseLost { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
        }
        let changes = scope.spawn(|| {
            for round in 0..60u32 {
                let positions = [Position::TrimHorizon, Position::Latest];
                stream.group(GROUP).reset(positions[round as usize % 2]).unwrap();
                stream.group(GROUP).describe().unwrap();
                let open = stream.list_shards(streamlog::ShardFilter::AtLatest);
                match open[..] {
                    [ref only] => drop(stream.split_shard_evenly(only.id).unwrap()),
                    [ref lower, ref upper, ..] => drop(stream.merge_shards(lower.id, upper.id).unwrap()),
                    [] => unreachable!("some shard is open"),
                }
                put(&stream, 2_000 + round * 20..2_000 + (round + 1) * 20);
            }
        });
        let changed = changes.join();
        is_over.store(true, Ordering::Relaxed);
        changed.unwrap();
    });
    stream.group(GROUP).reset(Position::TrimHorizon).unwrap();
    assert_eq!(drain(&mut worker(&stream)).len(), 2_000 + 60 * 20);
}

#[test]
fn a_group_can_be_deleted_while_the_stream_is_maintained() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 0..10);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let maintains = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                stream.maintain().expect("no group disturbs it");
                stream.sync().expect("no group disturbs it");
            }
        });
        for _ in 0..300 {
            drain(&mut worker(&stream));
            stream.group(GROUP).delete().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        maintains.join().unwrap();
    });
}

/// Whole generations of shards expire before the group reads them. The group gets the error before it reads the remaining shards.
#[test]
fn p4_p6_records_behind_expired_shards_come_after_the_report_that_others_are_gone() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let age = Duration::from_secs(10);
    let open = || common::small(&clock).retention(Retention::age(age)).open(scratch.path()).unwrap();
    let stream = open();
    let first = stream.put("key", "old").unwrap().shard;
    stream.group(GROUP).worker().open().unwrap().close();
    stream.split_shard_evenly(first).unwrap();
    clock.advance(Duration::from_secs(6));
    let second = stream.put("key", "expired, too").unwrap().shard;
    stream.split_shard_evenly(second).unwrap();
    clock.advance(Duration::from_secs(6));
    stream.put("key", "new").unwrap();
    clock.advance(Duration::from_secs(5));
    stream.maintain().unwrap();
    assert!(stream.shards().iter().all(|shard| shard.id != first && shard.id != second));
    stream.close().unwrap();

    let stream = open();
    let mut worker = stream.group(GROUP).worker().open().unwrap();
    let mut events = vec![];
    loop {
        match worker.poll(Duration::ZERO) {
            Ok(None) => break,
            Ok(Some(batch)) => {
                events.extend(batch.iter().map(|record| String::from_utf8_lossy(record.data()).into_owned()));
                worker.commit(&batch).unwrap();
            }
            Err(Error::Trimmed { shard, requested, horizon }) => {
                events.push(format!("{shard} is gone"));
                assert!(requested < horizon, "the error says that records are gone, and how many at most");
                let skipped = worker.skip_to_horizon(shard).unwrap();
                assert_eq!(skipped, horizon.get() - requested.get());
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(events, [format!("{first} is gone"), "new".into()]);
}

#[test]
fn p6_the_error_for_an_expired_shard_counts_what_may_be_missing_also_if_its_children_have_expired() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).retention(Retention::age(HOUR)).open(scratch.path()).unwrap();
    put(&stream, 0..5);
    let parent = stream.shards()[0].id;
    drop(worker(&stream));
    for child in stream.split_shard_evenly(parent).unwrap() {
        stream.split_shard_evenly(child.id).unwrap();
    }
    for _ in 0..3 {
        clock.advance(2 * HOUR);
        stream.maintain().unwrap();
    }
    assert_eq!(stream.shards().len(), 4, "parent and children have expired");
    let mut worker = worker(&stream);
    match worker.poll(Duration::ZERO) {
        Err(Error::Trimmed { shard, requested, horizon }) => {
            assert!(shard == parent && requested.get() + 5 <= horizon.get(), "{requested} to {horizon}");
            assert_eq!(worker.skip_to_horizon(parent).unwrap(), horizon.get() - requested.get());
        }
        other => panic!("5 records are gone: {other:?}"),
    }
    put(&stream, 5..8);
    assert_eq!(drain(&mut worker), [5, 6, 7]);
}

#[test]
fn a_group_that_is_deleted_while_others_look_at_it_stays_deleted() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    for _ in 0..50 {
        stream.group(GROUP).worker().open().unwrap().close();
        std::thread::scope(|threads| {
            let looking = threads.spawn(|| {
                // Each of them may find it, or find it deleted.
                while stream.group(GROUP).describe().is_ok() {}
            });
            std::thread::yield_now();
            stream.group(GROUP).delete().unwrap();
            looking.join().unwrap();
        });
        assert!(stream.groups().unwrap().is_empty());
    }
}
