//! Consumer groups that read user records: delivery, commits within an aggregate, and where the group continues: L1, L3, P4, P6.

use crate::common;

use std::sync::Arc;
use std::time::Duration;

use common::aggregates::aggregate;
use common::groups::{GROUP, poll};
use proptest::prelude::*;
use streamlog::aggregate::Aggregator;
use streamlog::{
    Batch, Error, HOUR, Handled, HashKey, KeyHash, MINUTE, ManualClock, OnTrimmed, Position, PutRecord,
    Retention, SECOND, SequenceNumber, ShardId, Stream, StreamOptions, Worker,
};

fn open(path: &std::path::Path, clock: &Arc<ManualClock>) -> Stream {
    common::small(clock).open(path).unwrap()
}

fn worker(stream: &Stream) -> Worker {
    stream.group(GROUP).worker().lease_timeout(MINUTE).open().unwrap()
}

/// Puts one record with these user records: a plain one if there is only one.
fn put(stream: &Stream, key: &str, data: &[&str]) -> SequenceNumber {
    let records: Vec<_> = data.iter().map(|data| PutRecord::new(key, data)).collect();
    stream.put_record(&aggregate(&records).as_put()).unwrap().sequence
}

fn data(worker: &Worker, batch: &Batch) -> Vec<String> {
    worker.user_records(batch).map(|record| String::from_utf8(record.data().to_vec()).unwrap()).collect()
}

/// Commits up to the user record with this data.
fn commit_to(worker: &mut Worker, batch: &Batch, up_to: &str) -> streamlog::Result<()> {
    let handled: Vec<_> = worker
        .user_records(batch)
        .filter(|record| record.data() == up_to.as_bytes())
        .map(|record| Handled::from(&record))
        .collect();
    worker.commit_to_user_record(batch.shard(), handled[0])
}

/// The checkpoint of the only shard: the record to continue with, and how many of its user records are handled.
fn next(stream: &Stream) -> (u64, u64) {
    let shard = &stream.group(GROUP).describe().unwrap().shards[0];
    (shard.next_sequence.get(), shard.next_sub_sequence)
}

#[test]
fn l1_a_group_continues_within_an_aggregate_after_a_close_and_after_a_kill() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let (path, killed) = (scratch.path().join("stream"), scratch.path().join("killed"));
    let stream = open(&path, &clock);
    put(&stream, "key", &["0"]);
    put(&stream, "key", &["1a", "1b", "1c", "1d"]);
    put(&stream, "key", &["2"]);
    put(&stream, "key", &["3a", "3b"]);
    let mut first = worker(&stream);
    let batch = poll(&mut first).unwrap();
    assert_eq!(data(&first, &batch), ["0", "1a", "1b", "1c", "1d", "2", "3a", "3b"]);
    commit_to(&mut first, &batch, "1b").unwrap();
    assert_eq!(next(&stream), (1, 2));
    let described = stream.group(GROUP).describe().unwrap();
    assert_eq!(described.lag().record_count, 3, "a record that is handled in part is behind");
    common::copy_dir(&path, &killed);
    drop(first);
    stream.close().unwrap();

    for path in [&path, &killed] {
        let stream = open(path, &clock);
        assert_eq!(next(&stream), (1, 2), "before any worker is there");
        let mut second = worker(&stream);
        let batch = poll(&mut second).unwrap();
        assert_eq!(
            batch.first_sequence().map(SequenceNumber::get),
            Some(1),
            "as a record it comes as a whole"
        );
        assert_eq!(data(&second, &batch), ["1c", "1d", "2", "3a", "3b"]);
        let numbers: Vec<u64> = second.user_records(&batch).map(|record| record.sub_sequence()).collect();
        assert_eq!(numbers, [2, 3, 0, 0, 1], "they have the numbers that they had before");
        for up_to in ["1c", "1d", "2", "3a"] {
            commit_to(&mut second, &batch, up_to).unwrap();
        }
        assert_eq!(next(&stream), (3, 1));
        second.commit(&batch).unwrap();
        assert_eq!((next(&stream), poll(&mut second).is_none()), ((4, 0), true));
    }
}

#[test]
fn l1_the_commit_of_the_last_user_record_is_that_of_its_record() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    put(&stream, "key", &["0a", "0b", "0c"]);
    let parent = stream.shards()[0].id;
    let children = stream.split_shard_evenly(parent).unwrap();
    put(&stream, "key", &["1a", "1b"]);
    let mut worker = worker(&stream);
    let batch = poll(&mut worker).unwrap();
    commit_to(&mut worker, &batch, "0b").unwrap();
    assert!(poll(&mut worker).is_none(), "the parent is not finished");
    commit_to(&mut worker, &batch, "0c").unwrap();
    let batch = poll(&mut worker).expect("the parent is finished");
    assert!(children.iter().any(|child| child.id == batch.shard()));
    assert_eq!(data(&worker, &batch), ["1a", "1b"]);
}

#[test]
fn l1_another_worker_continues_within_an_aggregate() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    put(&stream, "key", &["0a", "0b", "0c"]);
    let mut first = worker(&stream);
    let batch = poll(&mut first).unwrap();
    commit_to(&mut first, &batch, "0a").unwrap();
    let mut second = worker(&stream);
    clock.advance(2 * MINUTE);
    let taken = poll(&mut second).expect("the first was silent for too long");
    assert_eq!(data(&second, &taken), ["0b", "0c"]);
    let refused = commit_to(&mut first, &batch, "0b");
    assert!(matches!(refused, Err(Error::GroupLeaseLost { .. })), "{refused:?}");
    commit_to(&mut second, &taken, "0b").unwrap();
    drop((first, second));
    let mut third = worker(&stream);
    let batch = poll(&mut third).unwrap();
    assert_eq!(data(&third, &batch), ["0c"]);
}

#[test]
fn l1_commits_only_go_forward_and_never_beyond_what_was_handed_out() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let first = put(&stream, "key", &["0a", "0b", "0c"]);
    put(&stream, "key", &["1a", "1b"]);
    let options = || stream.group(GROUP).worker().batch_records(1).lease_timeout(MINUTE);
    let mut worker = options().open().unwrap();
    let batch = poll(&mut worker).unwrap();
    for (up_to, expected) in [("0b", (0, 2)), ("0a", (0, 2)), ("0b", (0, 2)), ("0c", (1, 0)), ("0a", (1, 0))]
    {
        commit_to(&mut worker, &batch, up_to).unwrap();
        assert_eq!(next(&stream), expected, "{up_to}");
    }
    // It is handled as a whole, so a worker that does not know of the parts commits nothing new.
    worker.commit_to(batch.shard(), first).unwrap();
    assert_eq!(next(&stream), (1, 0));
    let unread = stream.iterator(batch.shard(), Position::At(1.into())).unwrap().next_batch(1).unwrap();
    let refused = commit_to(&mut worker, &unread, "1a");
    assert!(matches!(refused, Err(Error::GroupLeaseLost { .. })), "not handed out: {refused:?}");
    assert_eq!(next(&stream), (1, 0));
}

#[test]
fn l1_a_worker_may_commit_first_and_handle_then() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    put(&stream, "key", &["0a", "0b", "0c"]);
    let mut worker = worker(&stream);
    let batch = poll(&mut worker).unwrap();
    worker.commit(&batch).unwrap();
    assert_eq!(data(&worker, &batch), ["0a", "0b", "0c"], "at most once");
}

#[test]
fn l1_a_seek_a_reset_and_positions_of_the_caller_begin_with_whole_records() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    put(&stream, "key", &["0a", "0b", "0c"]);
    let begin = |worker: &mut Worker| {
        let batch = poll(worker).unwrap();
        commit_to(worker, &batch, "0a").unwrap();
        batch.shard()
    };
    let mut first = worker(&stream);
    let shard = begin(&mut first);
    first.seek(shard, Position::TrimHorizon).unwrap();
    assert_eq!(next(&stream), (0, 0));
    let batch = poll(&mut first).unwrap();
    assert_eq!(data(&first, &batch), ["0a", "0b", "0c"]);
    commit_to(&mut first, &batch, "0b").unwrap();
    stream.group(GROUP).reset(Position::TrimHorizon).unwrap();
    let batch = poll(&mut first).unwrap();
    assert_eq!(data(&first, &batch), ["0a", "0b", "0c"]);
    commit_to(&mut first, &batch, "0b").unwrap();
    drop(first);

    let none = |_: ShardId| Ok(None);
    let mut by_checkpoint = stream.group(GROUP).worker().positions_from(none).open().unwrap();
    let batch = poll(&mut by_checkpoint).unwrap();
    assert_eq!(data(&by_checkpoint, &batch), ["0c"], "the caller knows nothing of the shard");
    drop(by_checkpoint);
    put(&stream, "key", &["1a", "1b"]);
    let mut again = worker(&stream);
    let batch = poll(&mut again).unwrap();
    commit_to(&mut again, &batch, "1a").unwrap();
    drop(again);
    let known = |_: ShardId| Ok(Some(SequenceNumber::ZERO));
    let mut by_caller = stream.group(GROUP).worker().positions_from(known).open().unwrap();
    let batch = poll(&mut by_caller).unwrap();
    assert_eq!(data(&by_caller, &batch), ["1a", "1b"], "the caller has handled record 0 and no more");
    assert_eq!(next(&stream), (1, 0));
}

#[test]
fn l1_p6_user_records_put_under_the_number_of_a_lost_aggregate_are_not_skipped() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let (path, lossy) = (scratch.path().join("stream"), scratch.path().join("lossy"));
    let stream = open(&path, &clock);
    put(&stream, "key", &["0a", "0b"]);
    common::copy_dir(&path, &lossy);
    clock.advance(SECOND);
    put(&stream, "key", &["1a", "1b", "1c"]);
    let mut first = worker(&stream);
    let batch = poll(&mut first).unwrap();
    commit_to(&mut first, &batch, "1b").unwrap();
    // The disk has the group's checkpoints but not the last record, which was not synced.
    common::copy_dir(&path.join("groups"), &lossy.join("groups"));
    let stream = open(&lossy, &clock);
    clock.advance(SECOND);
    put(&stream, "key", &["new a", "new b", "new c"]);
    let mut second = worker(&stream);
    let batch = poll(&mut second).unwrap();
    assert_eq!(data(&second, &batch), ["new a", "new b", "new c"]);
}

#[test]
fn p6_a_shard_that_expired_while_an_aggregate_was_handled_in_part_is_finished() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let path = scratch.path().join("stream");
    let open = || common::small(&clock).retention(Retention::age(HOUR)).open(&path).unwrap();
    let stream = open();
    put(&stream, "key", &["0a", "0b"]);
    let mut first = worker(&stream);
    let batch = poll(&mut first).unwrap();
    commit_to(&mut first, &batch, "0a").unwrap();
    drop(first);
    stream.split_shard_evenly(batch.shard()).unwrap();
    for _ in 0..3 {
        clock.advance(2 * HOUR);
        stream.maintain().unwrap();
    }
    assert!(stream.shards().iter().all(|shard| shard.id != batch.shard()), "the parent has expired");
    put(&stream, "key", &["1a", "1b"]);
    stream.close().unwrap();
    let stream = open();
    let options = stream.group(GROUP).worker().on_trimmed(OnTrimmed::SkipToHorizon);
    let mut second = options.lease_timeout(MINUTE).open().unwrap();
    let batch = poll(&mut second).expect("the child");
    assert_eq!(data(&second, &batch), ["1a", "1b"]);
    assert!(second.skipped_count() > 0);
}

#[test]
fn p6_a_trimmed_aggregate_that_was_handled_in_part_is_reported() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    put(&stream, "key", &["0a", "0b"]);
    put(&stream, "key", &["1a", "1b"]);
    let mut first = worker(&stream);
    let batch = poll(&mut first).unwrap();
    commit_to(&mut first, &batch, "0a").unwrap();
    drop(first);
    stream.trim_before(batch.shard(), 1.into()).unwrap();
    let mut second = worker(&stream);
    let refused = second.poll(Duration::ZERO);
    assert!(matches!(refused, Err(Error::Trimmed { requested: SequenceNumber::ZERO, .. })), "{refused:?}");
    assert_eq!(second.skip_to_horizon(batch.shard()).unwrap(), 1);
    let batch = poll(&mut second).unwrap();
    assert_eq!(data(&second, &batch), ["1a", "1b"]);
}

#[test]
fn l3_foreign_aggregates_are_dropped_where_keys_are_hashed_as_in_kinesis() {
    for (key_hash, is_dropped) in [(KeyHash::Md5, true), (KeyHash::Xxh3, false)] {
        let (scratch, clock) = (common::scratch(), common::clock());
        let stream = common::small(&clock).shards(2).key_hash(key_hash).open(scratch.path()).unwrap();
        let at = |hash_key, data| PutRecord::new("key", data).explicit_hash_key(hash_key);
        let foreign = aggregate(&[at(HashKey::MIN, "low"), at(HashKey::MAX, "high")]);
        stream.put_record(&foreign.as_put()).unwrap();
        stream.put_record(&aggregate(&[at(HashKey::MIN, "a"), at(HashKey::MIN, "b")]).as_put()).unwrap();
        let mut worker = worker(&stream);
        let batch = poll(&mut worker).unwrap();
        let mut records = worker.user_records(&batch);
        let expected: &[&[u8]] = if is_dropped { &[b"a", b"b"] } else { &[b"low", b"high", b"a", b"b"] };
        assert_eq!((&mut records).map(|record| record.data()).collect::<Vec<_>>(), expected);
        assert_eq!(records.foreign_count(), u64::from(is_dropped));
        worker.commit(&batch).unwrap();
        assert!(poll(&mut worker).is_none());
        // Also for a worker that has lost its lease on the shard.
        stream.group(GROUP).reset(Position::Latest).unwrap();
        assert!(poll(&mut worker).is_none());
        assert_eq!(worker.user_records(&batch).count(), expected.len());
    }
}

/// A step of a group with one worker.
#[derive(Debug, Clone)]
enum Step {
    /// Puts a record with this many user records.
    Put(usize),
    Poll,
    /// Commits up to one of the received but uncommitted user records.
    Commit(prop::sample::Index),
    CommitBatch,
    /// The worker is replaced by another one; whether the stream is opened again, too.
    Restart(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_usize..6).prop_map(Step::Put),
        3 => Just(Step::Poll),
        3 => any::<prop::sample::Index>().prop_map(Step::Commit),
        1 => Just(Step::CommitBatch),
        2 => any::<bool>().prop_map(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// The group gets each user record once, in order, from the first uncommitted one on after each restart.
    #[test]
    fn l1_l3_a_group_continues_after_the_last_user_record_that_was_committed(
        steps in proptest::collection::vec(step(), 1..60),
        batch_records in 1_usize..4,
    ) {
        let (scratch, clock) = (common::scratch(), common::clock());
        let options = || -> StreamOptions { common::small(&clock) };
        let mut stream = options().open(scratch.path()).unwrap();
        let worker = |stream: &Stream| stream.group(GROUP).worker().batch_records(batch_records).open().unwrap();
        let mut current = worker(&stream);
        // Numbers of user records: the next one to put, the next one to receive, and the first uncommitted one.
        let (mut put_next, mut handed_out, mut committed) = (0_u32, 0_u32, 0_u32);
        // Received but uncommitted: the number of a user record, and the value that commits it.
        let mut outstanding: Vec<(u32, Handled)> = vec![];
        let mut last_batch = None;
        let mut shard = stream.shards()[0].id;
        for step in steps {
            match step {
                Step::Put(count) => {
                    clock.advance(SECOND);
                    let mut aggregator = Aggregator::new();
                    for _ in 0..count {
                        aggregator.add(&PutRecord::new("key", &put_next.to_string())).unwrap();
                        put_next += 1;
                    }
                    stream.put_record(&aggregator.finish().unwrap().as_put()).unwrap();
                }
                Step::Poll => {
                    let batch = poll(&mut current);
                    prop_assert_eq!(batch.is_none(), handed_out == put_next);
                    let Some(batch) = batch else { continue };
                    shard = batch.shard();
                    for record in current.user_records(&batch) {
                        let expected = handed_out.to_string();
                        prop_assert_eq!(record.data(), expected.as_bytes());
                        outstanding.push((handed_out, Handled::from(record)));
                        handed_out += 1;
                    }
                    last_batch = Some((handed_out, batch));
                }
                Step::Commit(index) => {
                    if outstanding.is_empty() {
                        continue;
                    }
                    let index = index.index(outstanding.len());
                    let (number, handled) = outstanding[index];
                    current.commit_to_user_record(shard, handled).unwrap();
                    committed = number + 1;
                    outstanding.drain(..=index);
                }
                Step::CommitBatch => {
                    let Some((end, batch)) = last_batch.take() else { continue };
                    current.commit(&batch).unwrap();
                    committed = committed.max(end);
                    outstanding.retain(|(number, _)| *number >= end);
                }
                Step::Restart(must_open) => {
                    drop(current);
                    if must_open {
                        stream.close().unwrap();
                        stream = options().open(scratch.path()).unwrap();
                    }
                    current = worker(&stream);
                    (handed_out, last_batch) = (committed, None);
                    outstanding.clear();
                }
            }
        }
    }
}
