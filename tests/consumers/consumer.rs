//! Consumer groups: which worker reads which shard, checkpoints, and what is delivered again after a crash: P4, P6.

use crate::common;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use common::groups::{GROUP, drain, numbers, open, poll, put, sorted, worker};
use streamlog::{
    Batch, Durability, Error, HOUR, MINUTE, OnTrimmed, Position, Retention, SECOND, ShardId, Stream, Worker,
};

#[test]
fn a_group_goes_on_behind_its_last_commit_after_a_close_and_after_a_kill() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let (path, killed) = (scratch.path().join("stream"), scratch.path().join("killed"));
    let stream = open(&path, &clock, 1);
    put(&stream, 0..10);
    let mut first = stream.group(GROUP).worker().batch_records(4).open().unwrap();
    let batch = poll(&mut first).unwrap();
    assert_eq!(numbers(&batch), [0, 1, 2, 3]);
    first.commit(&batch).unwrap();
    assert_eq!(numbers(&poll(&mut first).unwrap()), [4, 5, 6, 7], "delivered, not committed");
    common::copy_dir(&path, &killed);
    drop(first);
    stream.close().unwrap();
    for path in [&path, &killed] {
        let stream = open(path, &clock, 1);
        assert_eq!(drain(&mut worker(&stream)), [4, 5, 6, 7, 8, 9], "at least once, and none committed");
        assert_eq!(stream.groups().unwrap(), [GROUP]);
    }
}

#[test]
fn groups_read_the_same_records_each_by_itself() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 3);
    put(&stream, 0..30);
    for group in ["a", "b"] {
        let mut worker = stream.group(group).worker().open().unwrap();
        assert_eq!(sorted(drain(&mut worker)), (0..30).collect::<Vec<_>>());
    }
    let mut late = stream.group("late").worker().start_at(Position::Latest).open().unwrap();
    assert_eq!(drain(&mut late), [0; 0]);
    put(&stream, 30..40);
    assert_eq!(sorted(drain(&mut late)), (30..40).collect::<Vec<_>>());
}

#[test]
fn workers_share_the_shards_evenly_as_they_come_and_go() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 7);
    let counts = |workers: &mut Vec<Worker>| {
        let count = |worker: &mut Worker| {
            assert!(poll(worker).is_none());
            worker.shards().len()
        };
        let mut counts: Vec<usize> = workers.iter_mut().map(count).collect();
        let all: BTreeSet<ShardId> = workers.iter().flat_map(Worker::shards).collect();
        assert_eq!(all.len(), counts.iter().sum::<usize>(), "no shard belongs to two workers");
        counts.sort_unstable();
        counts
    };
    let mut workers = vec![];
    for expected in [vec![7], vec![3, 4], vec![2, 2, 3], vec![1, 2, 2, 2]] {
        workers.push(worker(&stream));
        assert_eq!(counts(&mut workers), expected);
    }
    workers.swap_remove(1).close();
    assert_eq!(counts(&mut workers), [2, 2, 3]);
    let mut silent = workers.remove(0);
    for _ in 0..2 {
        clock.advance(MINUTE / 2);
        counts(&mut workers);
    }
    assert_eq!(counts(&mut workers), [3, 4], "a silent worker loses its shards");
    poll(&mut silent);
    workers.push(silent);
    assert_eq!(counts(&mut workers), [2, 2, 3], "it joins again when it polls");
}

#[test]
fn a_shard_changes_hands_once_what_was_handed_out_is_committed_or_took_too_long() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let other = open(scratch.path(), &clock, 2);
    put(&other, 0..20);

    let mut first = other.group(GROUP).worker().lease_timeout(MINUTE).batch_records(2).open().unwrap();
    let held: Vec<Batch> = (0..2).map(|_| poll(&mut first).unwrap()).collect();
    assert_ne!(held[0].shard(), held[1].shard(), "shards take turns");
    let mut second = worker(&other);
    assert!(poll(&mut second).is_none(), "both shards have an uncommitted batch");
    first.commit(&held[0]).unwrap();
    let taken = held.iter().find_map(|batch| (poll(&mut second)?.shard() == batch.shard()).then_some(batch));
    let leaving = match taken {
        Some(batch) => batch,
        None => {
            first.commit(&held[1]).unwrap();
            assert_eq!(poll(&mut second).unwrap().shard(), held[1].shard());
            &held[1]
        }
    };
    assert!(
        matches!(first.commit(leaving), Err(Error::GroupLeaseLost { .. })),
        "another worker holds it now"
    );

    // The same again, but without a commit.
    let mut third = worker(&other);
    let before = first.shards().len() + second.shards().len();
    assert_eq!(before, 3, "the first has not polled since");
    clock.advance(MINUTE / 2);
    poll(&mut first);
    poll(&mut second);
    poll(&mut third);
    clock.advance(MINUTE / 2);
    let late = poll(&mut first);
    poll(&mut second);
    assert!(first.shards().len() + second.shards().len() + third.shards().len() == 2);
    drop(late);
}

#[test]
fn a_commit_of_a_lost_lease_changes_nothing() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 0..10);
    let mut slow = stream.group(GROUP).worker().lease_timeout(MINUTE).batch_records(5).open().unwrap();
    let batch = poll(&mut slow).unwrap();
    clock.advance(2 * MINUTE);
    let mut quick = stream.group(GROUP).worker().lease_timeout(MINUTE).batch_records(2).open().unwrap();
    let again = poll(&mut quick).unwrap();
    assert_eq!(numbers(&again), [0, 1]);
    quick.commit(&again).unwrap();
    let refused = slow.commit(&batch).unwrap_err();
    assert!(
        matches!(&refused, Error::GroupLeaseLost { group, shard } if **group == *GROUP && *shard == batch.shard())
    );
    assert_eq!(numbers(&poll(&mut quick).unwrap()), [2, 3]);
    assert_eq!(stream.group(GROUP).describe().unwrap().shards[0].next_sequence, 2.into());
}

#[test]
fn only_what_was_handed_out_can_be_committed_and_less_changes_nothing() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 0..10);
    let mut worker = stream.group(GROUP).worker().batch_records(5).open().unwrap();
    let batch = poll(&mut worker).unwrap();
    let shard = batch.shard();
    assert!(matches!(worker.commit_to(shard, 5.into()), Err(Error::InvalidArgument(_))));
    worker.commit_to(shard, 3.into()).unwrap();
    worker.commit_to(shard, 1.into()).unwrap();
    assert_eq!(worker.group().describe().unwrap().shards[0].next_sequence, 4.into());
    assert!(matches!(worker.commit_to(ShardId::new(7), 0.into()), Err(Error::GroupLeaseLost { .. })));
}

#[test]
fn p4_children_come_when_their_parents_are_committed_to_the_end() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 0..10);
    let parent = stream.shards()[0].id;
    stream.split_shard_evenly(parent).unwrap();
    put(&stream, 10..30);
    let (mut first, mut second) = (worker(&stream), worker(&stream));
    let batch = poll(&mut first).or_else(|| poll(&mut second)).unwrap();
    assert_eq!(numbers(&batch), (0..10).collect::<Vec<_>>());
    assert!(batch.child_shards().is_some());
    assert!(poll(&mut first).is_none() && poll(&mut second).is_none(), "the parent is not committed");
    first.commit(&batch).or_else(|_| second.commit(&batch)).unwrap();
    let read: Vec<u32> = [&mut first, &mut second].into_iter().flat_map(drain).collect();
    assert_eq!(sorted(read), (10..30).collect::<Vec<_>>());
    assert_eq!([first.shards().len(), second.shards().len()], [1, 1]);

    let ids: Vec<ShardId> = first.shards().into_iter().chain(second.shards()).collect();
    let (lower, upper) = (ids[0].min(ids[1]), ids[0].max(ids[1]));
    let merged = stream.merge_shards(lower, upper).unwrap().id;
    put(&stream, 30..40);
    drop(second);
    assert_eq!(drain(&mut first), (30..40).collect::<Vec<_>>());
    assert_eq!(first.shards(), [merged]);
    drop(first);
    stream.close().unwrap();
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 40..42);
    assert_eq!(drain(&mut worker(&stream)), [40, 41], "finished shards stay finished");
}

#[test]
fn p4_a_shard_that_ends_without_another_record_ends_for_the_group_too() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 0..3);
    let mut worker = worker(&stream);
    assert_eq!(drain(&mut worker), [0, 1, 2]);
    stream.split_shard_evenly(stream.shards()[0].id).unwrap();
    put(&stream, 3..10);
    assert_eq!(sorted(drain(&mut worker)), (3..10).collect::<Vec<_>>());
}

#[test]
fn p6_what_was_trimmed_before_it_was_read_is_told_and_skipped_only_when_asked() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).retention(Retention::age(HOUR)).open(scratch.path()).unwrap();
    put(&stream, 0..5);
    let mut worker = worker(&stream);
    let mut skipping = stream.group("skipping").worker().on_trimmed(OnTrimmed::SkipToHorizon).open().unwrap();
    clock.advance(HOUR + SECOND);
    put(&stream, 5..8);
    stream.maintain().unwrap();
    let Err(Error::Trimmed { shard, requested, horizon }) = worker.poll(Duration::ZERO) else {
        panic!("five records are gone");
    };
    assert_eq!((requested, horizon), (0.into(), 5.into()));
    assert!(matches!(worker.poll(Duration::ZERO), Err(Error::Trimmed { .. })), "until the caller skips");
    assert_eq!(worker.group().describe().unwrap().lag().record_count, 8, "trimmed records count");
    assert_eq!(worker.skip_to_horizon(shard).unwrap(), 5);
    assert_eq!(drain(&mut worker), [5, 6, 7]);
    assert_eq!((drain(&mut skipping), skipping.skipped_count()), (vec![5, 6, 7], 5));
}

#[test]
fn p6_a_shard_that_expired_before_it_was_read_is_told() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).retention(Retention::age(HOUR)).open(scratch.path()).unwrap();
    put(&stream, 0..5);
    drop(worker(&stream));
    let parent = stream.shards()[0].id;
    stream.split_shard_evenly(parent).unwrap();
    clock.advance(2 * HOUR);
    stream.maintain().unwrap();
    stream.maintain().unwrap();
    assert_eq!(stream.shards().len(), 2, "the parent has expired");
    put(&stream, 5..8);
    let mut worker = worker(&stream);
    assert!(matches!(worker.poll(Duration::ZERO), Err(Error::Trimmed { shard, .. }) if shard == parent));
    assert!(worker.skip_to_horizon(parent).unwrap() >= 5);
    assert_eq!(sorted(drain(&mut worker)), [5, 6, 7]);
}

#[test]
fn a_hold_keeps_what_the_group_has_not_handled_up_to_its_bound() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let path = scratch.path().join("stream");
    let options = || common::small(&clock).retention(Retention::age(HOUR));
    let stream = options().open(&path).unwrap();
    let mut worker = stream.group(GROUP).worker().hold(1 << 20).open().unwrap();
    assert_eq!(stream.describe().holds[0].name, GROUP);
    put(&stream, 0..10);
    clock.advance(2 * HOUR);
    stream.maintain().unwrap();
    let batch = poll(&mut worker).unwrap();
    assert_eq!(batch.len(), 10, "expired but held");
    worker.commit_to(batch.shard(), 3.into()).unwrap();
    stream.maintain().unwrap();
    assert_eq!(stream.stats().unwrap().record_count(), 6, "committed records expire");
    drop(worker);
    stream.close().unwrap();

    let stream = options().open(&path).unwrap();
    stream.maintain().unwrap();
    assert_eq!(stream.stats().unwrap().record_count(), 6, "held although no worker is open yet");
    let mut worker = stream.group(GROUP).worker().open().unwrap();
    assert_eq!(drain(&mut worker), (4..10).collect::<Vec<_>>());
    stream.maintain().unwrap();
    assert_eq!(stream.stats().unwrap().record_count(), 0);

    // With segments of 64 KiB, the hold keeps at most 16 of 40 segments beyond what retention keeps.
    for _ in 0..40 * 8 {
        stream.put("key", vec![7; 8_000]).unwrap();
    }
    clock.advance(2 * HOUR);
    stream.maintain().unwrap();
    stream.maintain().unwrap();
    let kept = stream.stats().unwrap().disk_bytes();
    assert!((512 << 10..=(1 << 20) + (128 << 10)).contains(&kept), "{kept} bytes");
    drop(worker);
    stream.group(GROUP).delete().unwrap();
    stream.maintain().unwrap();
    stream.maintain().unwrap();
    assert_eq!((stream.stats().unwrap().record_count(), stream.describe().holds.len()), (0, 0));
}

#[test]
fn a_group_can_be_reset_and_deleted() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 2);
    put(&stream, 0..10);
    clock.advance(MINUTE);
    let middle = stream.now();
    put(&stream, 10..20);
    stream.split_shard_evenly(stream.shards()[0].id).unwrap();
    put(&stream, 20..30);
    let mut worker = worker(&stream);
    assert_eq!(drain(&mut worker).len(), 30);
    put(&stream, 30..31);
    let outstanding = poll(&mut worker).unwrap();
    for (position, expected) in
        [(Position::TrimHorizon, 0..31), (Position::AtTimestamp(middle), 10..31), (Position::Latest, 31..31)]
    {
        stream.group(GROUP).reset(position).unwrap();
        assert_eq!(sorted(drain(&mut worker)), expected.collect::<Vec<_>>(), "from {position:?}");
    }
    stream.group(GROUP).reset(Position::TrimHorizon).unwrap();
    assert!(
        matches!(worker.commit(&outstanding), Err(Error::GroupLeaseLost { .. })),
        "delivered before the reset"
    );
    assert!(stream.group(GROUP).reset(Position::At(3.into())).is_err());
    assert!(matches!(stream.group(GROUP).delete(), Err(Error::InvalidArgument(_))), "it has a worker");
    drop(worker);
    stream.group(GROUP).delete().unwrap();
    assert_eq!(stream.groups().unwrap(), [""; 0]);
    assert!(stream.group(GROUP).delete().is_err() && stream.group(GROUP).describe().is_err());
    let mut anew = stream.group(GROUP).worker().start_at(Position::Latest).open().unwrap();
    assert_eq!(drain(&mut anew), [0; 0], "a new group of that name knows nothing of the old one");
}

#[test]
fn a_seek_is_the_new_checkpoint_in_both_directions() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 0..10);
    let mut first = worker(&stream);
    assert_eq!(drain(&mut first).len(), 10);
    let shard = first.shards()[0];
    first.seek(shard, Position::At(4.into())).unwrap();
    assert_eq!(numbers(&poll(&mut first).unwrap())[0], 4);
    drop(first);
    let mut second = worker(&stream);
    poll(&mut second);
    second.seek(shard, Position::At(8.into())).unwrap();
    drop(second);
    assert_eq!(drain(&mut worker(&stream)), [8, 9]);
}

#[test]
fn lag_counts_records_bytes_and_age_of_what_is_not_committed() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 0..10);
    clock.advance(3 * SECOND);
    put(&stream, 10..14);
    let mut worker = stream.group(GROUP).worker().batch_records(10).open().unwrap();
    let lag = worker.group().describe().unwrap().lag();
    assert_eq!((lag.record_count, lag.age), (14, 3 * SECOND));
    assert!((14 * 40..14 * 80).contains(&lag.bytes), "{lag:?}");
    let batch = poll(&mut worker).unwrap();
    worker.commit(&batch).unwrap();
    clock.advance(SECOND);
    let lag = worker.group().describe().unwrap().lag();
    assert_eq!((lag.record_count, lag.age), (4, SECOND));
    drain(&mut worker);
    assert_eq!(worker.group().describe().unwrap().lag(), streamlog::Lag::default());
}

#[test]
fn positions_of_the_callers_own_decide_where_reading_begins() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 0..10);
    let from = |last: Option<u64>| {
        let last_handled = move |_| Ok(last.map(Into::into));
        stream.group(GROUP).worker().positions_from(last_handled).open().unwrap()
    };
    assert_eq!(drain(&mut from(None)).len(), 10);
    assert_eq!(drain(&mut from(Some(6))), [7, 8, 9], "from before the group's checkpoint");
    assert_eq!(drain(&mut from(Some(9))), [0; 0]);
    put(&stream, 10..12);
    assert_eq!(drain(&mut from(Some(10))), [11], "from after it");
}

#[test]
fn p9_damaged_checkpoints_are_an_error_with_ways_out_and_never_a_new_beginning() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let path = scratch.path().join("stream");
    let stream = open(&path, &clock, 1);
    put(&stream, 0..10);
    let mut first = stream.group(GROUP).worker().batch_records(2).open().unwrap();
    for _ in 0..3 {
        let batch = poll(&mut first).unwrap();
        first.commit(&batch).unwrap();
    }
    drop(first);
    stream.close().unwrap();
    let file = common::segment_files(&path.join("groups").join(GROUP), 0).remove(0);
    let pristine = fs::read(&file).unwrap();
    let mut damaged = pristine.clone();
    let at = 4096 + damaged[4096..].windows(4).position(|bytes| bytes == b"\":4,").unwrap();
    damaged[at + 2] ^= 1;
    fs::write(&file, &damaged).unwrap();

    let stream = open(&path, &clock, 1);
    for _ in 0..2 {
        let refused = stream.group(GROUP).worker().open().unwrap_err();
        assert!(matches!(&refused, Error::Corrupt(_)), "{refused}");
        assert!(refused.to_string().contains("billing"), "{refused}");
    }
    assert!(matches!(stream.group(GROUP).describe(), Err(Error::Corrupt(_))));
    let mut salvaged = stream.group(GROUP).worker().salvage(true).open().unwrap();
    assert_eq!(drain(&mut salvaged), [6, 7, 8, 9], "the last checkpoint is intact, an older one is lost");
    drop(salvaged);
    stream.group(GROUP).delete().unwrap();
    assert_eq!(drain(&mut worker(&stream)).len(), 10, "from the beginning only after the group was deleted");
}

#[test]
fn records_put_under_the_numbers_of_those_that_power_loss_took_are_not_skipped() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let (path, lossy) = (scratch.path().join("stream"), scratch.path().join("lossy"));
    let stream = open(&path, &clock, 1);
    put(&stream, 0..10);
    common::copy_dir(&path, &lossy);
    clock.advance(SECOND);
    put(&stream, 10..20);
    assert_eq!(drain(&mut worker(&stream)).len(), 20);
    // The disk has the group's checkpoints but not the last records, which were not synced.
    common::copy_dir(&path.join("groups"), &lossy.join("groups"));
    let stream = open(&lossy, &clock, 1);
    clock.advance(SECOND);
    put(&stream, 100..130);
    assert_eq!(drain(&mut worker(&stream)), (100..130).collect::<Vec<_>>());
}

#[test]
fn p6_records_put_under_the_numbers_of_lost_ones_are_not_skipped_if_the_clock_was_ahead() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let (path, lossy) = (scratch.path().join("stream"), scratch.path().join("lossy"));
    let stream = open(&path, &clock, 1);
    put(&stream, 0..10);
    common::copy_dir(&path, &lossy);
    let right = stream.now();
    clock.set(right + 1_000 * HOUR);
    put(&stream, 10..20);
    assert_eq!(drain(&mut worker(&stream)).len(), 20);
    common::copy_dir(&path.join("groups"), &lossy.join("groups"));
    clock.set(right + SECOND);
    let stream = open(&lossy, &clock, 1);
    put(&stream, 100..130);
    clock.advance(SECOND);
    assert!(drain(&mut worker(&stream)).ends_with(&(100..130).collect::<Vec<_>>()));
}

#[test]
fn commits_take_bounded_room_and_survive_their_own_compaction() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let path = scratch.path().join("stream");
    let stream = open(&path, &clock, 3);
    put(&stream, 0..30_000);
    let mut worker = stream.group(GROUP).worker().batch_records(1).open().unwrap();
    for round in 0..30_000 {
        let batch = poll(&mut worker).unwrap();
        worker.commit(&batch).unwrap();
        if round % 500 == 0 {
            stream.maintain().unwrap();
        }
    }
    stream.maintain().unwrap();
    let bytes = common::disk_bytes(&path.join("groups"));
    // Of the 4 MiB written, two segments remain: the active one, and one that may hold the last list of all checkpoints.
    assert!(bytes < (2 << 20) + (64 << 10), "{bytes} bytes for three checkpoints");
    drop(worker);
    drop(stream);
    let stream = open(&path, &clock, 3);
    assert_eq!(stream.group(GROUP).describe().unwrap().lag().record_count, 0);
}

#[test]
fn l1_a_state_is_committed_with_its_place_and_survives_crashes_and_compaction() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let path = scratch.path().join("stream");
    let stream = open(&path, &clock, 1);
    put(&stream, 0..500);
    let mut worker = stream.group(GROUP).worker().batch_records(1).open().unwrap();
    let shard = worker.shards().first().copied().unwrap_or(stream.shards()[0].id);
    // The largest state, written 300 times, so that the journal is rewritten repeatedly.
    let mut state = vec![7; 1_000_000];
    for round in 0..300_u32 {
        let batch = poll(&mut worker).unwrap();
        assert_eq!(batch.last_sequence(), Some(u64::from(round).into()));
        state[..4].copy_from_slice(&round.to_be_bytes());
        worker.commit_with_state(shard, u64::from(round + 1).into(), &state).unwrap();
        if round % 5 == 0 {
            stream.maintain().unwrap();
        }
        if round % 100 == 99 {
            let crashed = scratch.path().join(format!("after-{round}"));
            common::copy_dir(&path, &crashed);
            let stream = open(&crashed, &clock, 1);
            let mut worker = stream.group(GROUP).worker().open().unwrap();
            let next = poll(&mut worker).unwrap();
            assert_eq!(next.first_sequence(), Some(u64::from(round + 1).into()));
            assert_eq!(worker.committed_state(shard).as_deref(), Some(&*state));
            fs::remove_dir_all(&crashed).unwrap();
        }
    }
    stream.maintain().unwrap();
    let bytes = common::disk_bytes(&path.join("groups"));
    assert!(bytes < 16 << 20, "{bytes} bytes remain of 300 MB");
    let too_large = worker.commit_with_state(shard, 300.into(), &vec![0; 1_000_001]);
    assert!(matches!(too_large, Err(Error::InvalidArgument(_))), "{too_large:?}");

    // A commit at the same place can replace a state, and a commit without a state removes it.
    worker.commit_with_state(shard, 300.into(), b"another").unwrap();
    assert_eq!(worker.committed_state(shard).as_deref(), Some(&b"another"[..]));
    worker.commit_to(shard, 299.into()).unwrap();
    assert_eq!(worker.committed_state(shard), None);
}

#[test]
fn l1_a_shard_with_a_state_ends_only_with_a_commit_of_its_end() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let path = scratch.path().join("stream");
    let mut stream = open(&path, &clock, 1);
    put(&stream, 0..3);
    let shard = stream.shards()[0].id;
    let mut worker = worker(&stream);
    assert_eq!(poll(&mut worker).unwrap().len(), 3);
    worker.commit_with_state(shard, 3.into(), b"an open window").unwrap();
    stream.split_shard_evenly(shard).unwrap();
    put(&stream, 3..20);
    for is_reopened in [false, true] {
        if is_reopened {
            drop(worker);
            drop(stream);
            stream = open(&path, &clock, 1);
            worker = self::worker(&stream);
        }
        assert!(poll(&mut worker).is_none(), "the children wait until the state is settled");
        assert!(worker.is_at_end(shard));
        assert_eq!(worker.committed_state(shard).as_deref(), Some(&b"an open window"[..]));
    }
    worker.commit_with_state(shard, 3.into(), b"a window that is over").unwrap();
    assert!(poll(&mut worker).is_none(), "something is left to do");
    worker.commit_with_state(shard, 3.into(), b"").unwrap();
    assert_eq!(worker.committed_state(shard), None);
    assert_eq!(sorted(drain(&mut worker)), (3..20).collect::<Vec<_>>());
}

#[test]
fn a_state_is_forgotten_when_the_group_moves_and_kept_when_retention_moves_it() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock, 1);
    let shard = stream.shards()[0].id;
    put(&stream, 0..10);
    let mut worker = stream.group(GROUP).worker().on_trimmed(OnTrimmed::SkipToHorizon).open().unwrap();
    let commit = |worker: &mut Worker| {
        poll(worker).unwrap();
        worker.commit_with_state(shard, 5.into(), b"state").unwrap();
    };
    commit(&mut worker);
    stream.trim_before(shard, 7.into()).unwrap();
    drop(worker);
    let mut worker = stream.group(GROUP).worker().on_trimmed(OnTrimmed::SkipToHorizon).open().unwrap();
    assert_eq!(poll(&mut worker).unwrap().first_sequence(), Some(7.into()));
    assert_eq!(worker.committed_state(shard).as_deref(), Some(&b"state"[..]));
    worker.seek(shard, Position::TrimHorizon).unwrap();
    assert_eq!(worker.committed_state(shard), None);
    poll(&mut worker).unwrap();
    worker.commit_with_state(shard, 8.into(), b"state").unwrap();
    stream.group(GROUP).reset(Position::TrimHorizon).unwrap();
    assert_eq!(worker.committed_state(shard), None);
}

#[test]
fn commits_are_as_durable_as_the_stream() {
    let (scratch, clock) = (common::scratch(), common::clock());
    for durability in [Durability::Process, Durability::Power] {
        let path = scratch.path().join(format!("{durability:?}"));
        let stream = common::small(&clock).durability(durability).open(&path).unwrap();
        put(&stream, 0..3);
        let mut worker = worker(&stream);
        let batch = poll(&mut worker).unwrap();
        worker.commit(&batch).unwrap();
        let is_synced = |what: &str| {
            let log = fs::read(&common::segment_files(&path.join("groups").join(GROUP), 0)[0]).unwrap();
            // The synced slots of the header page.
            assert_eq!(
                log[2048..3584].iter().any(|&byte| byte != 0),
                durability == Durability::Power,
                "{what}"
            );
        };
        is_synced("a commit is synced with Power and not with Process");
        stream.sync().unwrap();
        stream.maintain().unwrap();
        drop(worker);
        stream.close().unwrap();
    }
}

#[test]
fn a_worker_waits_for_records_and_is_woken() {
    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    let mut worker = stream.group(GROUP).worker().open().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| worker.poll(30 * SECOND).unwrap().map(|batch| batch.len()));
        stream.put("key", "data").unwrap();
        assert_eq!(waiting.join().unwrap(), Some(1));
    });
    let other = stream.clone();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| worker.poll(30 * SECOND));
        other.close().unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Closed)));
    });
}

#[test]
fn names_and_settings_out_of_range_are_refused() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    for name in ["", ".", "..", ".hidden", "a/b", "a b", &"x".repeat(129)] {
        assert!(matches!(stream.group(name).worker().open(), Err(Error::InvalidArgument(_))), "{name:?}");
        assert!(matches!(stream.group(name).delete(), Err(Error::InvalidArgument(_))), "{name:?}");
    }
    assert!(stream.group("a").worker().batch_records(0).open().is_err());
    assert!(stream.group("a").worker().lease_timeout(Duration::ZERO).open().is_err());
    assert!(stream.group("a").worker().start_at(Position::At(0.into())).open().is_err());
    assert_eq!(stream.groups().unwrap(), [""; 0]);
}
