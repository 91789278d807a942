//! Queues, rule by rule as in Kinesis and SQS: visibility timeouts, receipt handles, receive counts, dead letters, starting positions,
//! order by key, ids, delays, several queues on one stream. L1, L3, L4, P6.

use crate::common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use streamlog::{
    Clock, Error, HOUR, HashKey, MINUTE, ManualClock, Position, PutRecord, Queue, QueueOptions, QueueRecord,
    Receipt, ReceiptHandle, Retention, SECOND, Stream, StreamReader,
};

const NONE: Duration = Duration::ZERO;

fn open(path: &Path, clock: &Arc<ManualClock>) -> Stream {
    common::small(clock).shards(2).retention(Retention::forever()).open(path).unwrap()
}

fn put(stream: &Stream, numbers: std::ops::Range<u32>) {
    for number in numbers {
        stream.put(format!("key-{}", number % 10), number.to_string()).unwrap();
    }
}

fn number(record: &QueueRecord) -> u32 {
    std::str::from_utf8(&record.record.data).unwrap().parse().unwrap()
}

fn numbers(records: &[QueueRecord]) -> BTreeSet<u32> {
    records.iter().map(number).collect()
}

fn receive(queue: &Queue, max: usize) -> Vec<QueueRecord> {
    queue.receive(max, NONE).unwrap()
}

fn receive_one(queue: &Queue) -> QueueRecord {
    let mut received = receive(queue, 1);
    assert_eq!(received.len(), 1, "a record can be handed out");
    received.remove(0)
}

#[track_caller]
fn assert_invalid<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    assert!(matches!(outcome, Err(Error::ReceiptHandleInvalid { .. })), "{outcome:?}");
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, Error>, part: &str) {
    match outcome {
        Err(Error::InvalidArgument(reason)) => assert!(reason.contains(part), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_is_handed_out_with_all_that_kinesis_says_of_it() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").open().unwrap();
    let record = PutRecord::new("job-17", "resize").header("trace", "4711");
    let receipt = stream.put_record(&record).unwrap();
    clock.advance(MINUTE);
    let first_time = clock.now();
    let first = receive_one(&queue);
    assert_eq!((&*first.record.partition_key, &*first.record.data), (&b"job-17"[..], &b"resize"[..]));
    assert_eq!(first.record.headers().get("trace"), Some(&b"4711"[..]));
    assert_eq!((first.shard, first.record.sequence), (receipt.shard, receipt.sequence));
    assert_eq!(first.record.timestamp, receipt.timestamp);
    assert_eq!((first.receive_count, first.first_received), (1, first_time));
    clock.advance(MINUTE);
    let second = receive_one(&queue);
    assert_eq!((second.receive_count, second.first_received), (2, first_time));
    assert_eq!(
        (second.shard, second.record.sequence),
        (first.shard, first.record.sequence),
        "the id is stable"
    );
    assert_ne!(second.handle, first.handle, "the handle is new");
}

#[test]
fn a_record_that_is_not_acknowledged_in_time_is_visible_again() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").open().unwrap();
    put(&stream, 0..2);
    let first = receive_one(&queue);
    assert_eq!(receive(&queue, 10).len(), 1, "only the other one");
    clock.advance(30 * SECOND - Duration::from_micros(1));
    assert!(receive(&queue, 10).is_empty(), "30 seconds are the default");
    clock.advance(Duration::from_micros(1));
    assert_eq!(receive(&queue, 10).len(), 2);
    assert_invalid(queue.acknowledge(&first.handle));
}

#[test]
fn a_record_can_be_acknowledged_late_as_long_as_nobody_else_has_it() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").open().unwrap();
    put(&stream, 0..1);
    let late = receive_one(&queue);
    clock.advance(MINUTE);
    assert_invalid(queue.extend(&late.handle, MINUTE));
    assert_invalid(queue.release(&late.handle, NONE));
    queue.acknowledge(&late.handle).unwrap();
    clock.advance(HOUR);
    assert!(receive(&queue, 10).is_empty());
}

#[test]
fn a_handle_is_refused_after_each_way_in_which_it_ends() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").max_receive_count(2).open().unwrap();
    put(&stream, 0..1);
    let released = receive_one(&queue);
    queue.release(&released.handle, NONE).unwrap();
    let refuse = |handle: &ReceiptHandle| {
        assert_invalid(queue.acknowledge(handle));
        assert_invalid(queue.release(handle, NONE));
        assert_invalid(queue.extend(handle, MINUTE));
        assert_invalid(queue.restore(handle));
    };
    refuse(&released.handle);
    let buried = receive_one(&queue);
    clock.advance(HOUR);
    refuse(&buried.handle);
    let dead = queue.receive_dead_letters(1, NONE).unwrap().remove(0);
    queue.restore(&dead.handle).unwrap();
    refuse(&dead.handle);
    let restored = receive_one(&queue);
    assert_invalid(queue.restore(&restored.handle));
    queue.purge().unwrap();
    refuse(&restored.handle);
    put(&stream, 1..2);
    let done = receive_one(&queue);
    queue.acknowledge(&done.handle).unwrap();
    refuse(&done.handle);
    let error = queue.acknowledge(&done.handle).unwrap_err().to_string();
    assert!(error.contains("no longer valid") && error.contains(&done.shard.to_string()), "{error}");
}

#[test]
fn a_handle_is_text_and_survives_a_restart() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").open().unwrap();
    put(&stream, 0..1);
    let text = receive_one(&queue).handle.to_string();
    assert!(text.len() <= 1_024);
    queue.close().unwrap();
    stream.close().unwrap();
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").open().unwrap();
    for wrong in [
        "",
        "-",
        &text[1..],
        &format!("{text}-"),
        &format!("{text}0"),
        &text.replace('-', "_"),
        &format!("+{text}"),
    ] {
        match wrong.parse::<ReceiptHandle>() {
            Err(Error::InvalidArgument(_)) => {}
            Ok(handle) => assert!(queue.acknowledge(&handle).is_err(), "{wrong}"),
            Err(error) => panic!("{error}"),
        }
    }
    queue.acknowledge(&text.parse().unwrap()).unwrap();
}

#[test]
fn a_release_makes_a_record_visible_at_once_or_after_its_delay() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").open().unwrap();
    put(&stream, 0..1);
    queue.release(&receive_one(&queue).handle, NONE).unwrap();
    let again = receive_one(&queue);
    assert_eq!(again.receive_count, 2);
    queue.release(&again.handle, 10 * MINUTE).unwrap();
    assert_eq!(queue.describe().unwrap().delayed_count, 1);
    clock.advance(10 * MINUTE - SECOND);
    assert!(receive(&queue, 1).is_empty());
    clock.advance(SECOND);
    assert_eq!(receive_one(&queue).receive_count, 3);
}

#[test]
fn an_extension_counts_from_the_call_on_and_keeps_the_handle() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").open().unwrap();
    put(&stream, 0..1);
    let record = receive_one(&queue);
    clock.advance(20 * SECOND);
    queue.extend(&record.handle, MINUTE).unwrap();
    clock.advance(59 * SECOND);
    assert!(receive(&queue, 1).is_empty());
    queue.extend(&record.handle, NONE).unwrap();
    assert_eq!(receive_one(&queue).receive_count, 2, "a timeout of zero is over at once");
    assert_invalid(queue.acknowledge(&record.handle));
}

#[test]
fn timeouts_and_counts_have_the_ranges_of_kinesis() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let twelve_hours = 12 * HOUR;
    let open = |options: QueueOptions| options.open().map(|queue| queue.close().unwrap());
    for allowed in [NONE, twelve_hours] {
        open(stream.queue("jobs").visibility_timeout(allowed)).unwrap();
    }
    assert_refused(
        open(stream.queue("jobs").visibility_timeout(twelve_hours + SECOND)),
        "visibility_timeout",
    );
    for allowed in [1, 1_000] {
        open(stream.queue("jobs").max_receive_count(allowed)).unwrap();
    }
    for refused in [0, 1_001] {
        assert_refused(open(stream.queue("jobs").max_receive_count(refused)), "max_receive_count");
    }
    for refused in [0, 10_000_001] {
        assert_refused(open(stream.queue("jobs").outstanding_max(refused)), "outstanding_max");
    }
    for name in ["", ".jobs", "no/name", "queue:jobs"] {
        assert_refused(open(stream.queue(name)), "a queue");
    }
    let queue = stream.queue("jobs").open().unwrap();
    put(&stream, 0..1);
    for refused in [0, 10_001] {
        assert_refused(queue.receive(refused, NONE), "records_max");
    }
    assert_refused(queue.receive_for(1, NONE, twelve_hours + SECOND), "visibility_timeout");
    let record = queue.receive_for(1, NONE, twelve_hours).unwrap().remove(0);
    assert_refused(queue.release(&record.handle, twelve_hours + SECOND), "delay");
    assert_refused(queue.extend(&record.handle, twelve_hours + SECOND), "timeout");
    queue.extend(&record.handle, twelve_hours).unwrap();
    queue.release(&record.handle, twelve_hours).unwrap();
    assert_refused(queue.acknowledge_batch(&vec![record.handle; 10_001]), "handles");
}

#[test]
fn a_record_that_was_received_too_often_is_a_dead_letter_that_only_those_who_ask_for_it_see() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").open().unwrap();
    put(&stream, 0..1);
    for count in 1..=6 {
        assert_eq!(receive_one(&queue).receive_count, count, "six times is the default");
        assert!(queue.receive_dead_letters(1, NONE).unwrap().is_empty());
        clock.advance(30 * SECOND);
    }
    assert!(receive(&queue, 1).is_empty());
    let described = queue.describe().unwrap();
    assert_eq!((described.dead_letter_count, described.visible_count), (1, 0));
    let dead = queue.receive_dead_letters(10, NONE).unwrap();
    assert_eq!((dead.len(), number(&dead[0])), (1, 0));
    assert!(queue.receive_dead_letters(10, NONE).unwrap().is_empty(), "it is hidden like any other");
    clock.advance(30 * SECOND);
    let again = queue.receive_dead_letters(10, NONE).unwrap().remove(0);
    assert_invalid(queue.acknowledge(&dead[0].handle));
    queue.release(&again.handle, NONE).unwrap();
    let last = queue.receive_dead_letters(10, NONE).unwrap().remove(0);
    queue.extend(&last.handle, HOUR).unwrap();
    queue.acknowledge(&last.handle).unwrap();
    clock.advance(2 * HOUR);
    assert_eq!(queue.describe().unwrap().dead_letter_count, 0);
    assert!(queue.receive_dead_letters(10, NONE).unwrap().is_empty());
}

#[test]
fn a_restored_dead_letter_begins_again() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").max_receive_count(2).open().unwrap();
    put(&stream, 0..1);
    for _ in 0..2 {
        queue.release(&receive_one(&queue).handle, HOUR).unwrap();
        clock.advance(HOUR);
    }
    let dead = queue.receive_dead_letters(1, NONE).unwrap().remove(0);
    queue.restore(&dead.handle).unwrap();
    assert!(queue.receive_dead_letters(1, NONE).unwrap().is_empty());
    let restored = receive_one(&queue);
    assert_eq!((restored.receive_count, restored.first_received), (1, clock.now()));
}

#[test]
fn without_dead_letters_a_record_that_was_received_too_often_is_dropped() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").max_receive_count(1).keep_dead_letters(false).open().unwrap();
    put(&stream, 0..1);
    receive_one(&queue);
    clock.advance(30 * SECOND);
    assert!(receive(&queue, 1).is_empty());
    assert!(queue.receive_dead_letters(1, NONE).unwrap().is_empty());
    let described = queue.describe().unwrap();
    assert_eq!((described.dead_letter_count, described.in_flight_count), (0, 0));
}

#[test]
fn without_a_bound_a_record_is_handed_out_until_it_is_acknowledged() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").max_receive_count(None).open().unwrap();
    put(&stream, 0..1);
    for count in 1..=1_002 {
        let record = receive_one(&queue);
        assert_eq!(record.receive_count, count);
        clock.advance(30 * SECOND);
    }
    assert!(queue.receive_dead_letters(1, NONE).unwrap().is_empty());
}

#[test]
fn the_number_of_receives_changes_while_the_queue_is_open() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").open().unwrap();
    put(&stream, 0..2);
    // One was received twice, and is in flight; the other once, and is visible.
    let first = receive_one(&queue);
    queue.release(&first.handle, NONE).unwrap();
    assert_eq!(number(&receive_one(&queue)), number(&first));
    let second = receive_one(&queue);
    queue.release(&second.handle, NONE).unwrap();
    queue.set_max_receive_count(1).unwrap();
    let dead = queue.receive_dead_letters(10, NONE).unwrap();
    assert_eq!(numbers(&dead), [number(&second)].into());
    clock.advance(30 * SECOND);
    assert!(receive(&queue, 10).is_empty());
    assert_eq!(numbers(&queue.receive_dead_letters(10, NONE).unwrap()), [0, 1].into());
    // More receives do not bring back dead letters.
    queue.set_max_receive_count(None).unwrap();
    clock.advance(30 * SECOND);
    assert!(receive(&queue, 10).is_empty());
    assert_eq!(queue.describe().unwrap().dead_letter_count, 2);
    for refused in [0, 1_001] {
        assert_refused(queue.set_max_receive_count(refused), "max_receive_count");
    }
}

#[test]
fn l1_a_record_extended_by_no_time_is_visible_at_once_and_its_handle_still_good() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").max_receive_count(2).open().unwrap();
    put(&stream, 0..1);
    let first = receive_one(&queue);
    queue.extend(&first.handle, NONE).unwrap();
    assert_eq!(queue.describe().unwrap().visible_count, 1);
    let second = receive_one(&queue);
    queue.extend(&second.handle, NONE).unwrap();
    assert_eq!(queue.describe().unwrap().dead_letter_count, 1, "it was received twice");
    assert_invalid(queue.acknowledge(&second.handle));
    let dead = queue.receive_dead_letters(1, NONE).unwrap().remove(0);
    queue.extend(&dead.handle, NONE).unwrap();
    queue.acknowledge(&dead.handle).unwrap();
    assert_eq!(queue.describe().unwrap().dead_letter_count, 0);
}

#[test]
fn a_queue_begins_where_it_is_told_and_continues_where_it_was() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    put(&stream, 0..10);
    clock.advance(MINUTE);
    let later = clock.now();
    stream.split_shard_evenly(stream.shards()[0].id).unwrap();
    put(&stream, 10..20);
    let queue = |name: &str, position| stream.queue(name).start_at(position).open().unwrap();
    let latest = queue("latest", Position::Latest);
    let horizon = queue("horizon", Position::TrimHorizon);
    let at_time = queue("at-time", Position::AtTimestamp(later));
    put(&stream, 20..30);
    assert_eq!(numbers(&receive(&latest, 100)), (20..30).collect());
    assert_eq!(numbers(&receive(&horizon, 100)), (0..30).collect());
    assert_eq!(numbers(&receive(&at_time, 100)), (10..30).collect());
    latest.close().unwrap();
    clock.advance(MINUTE);
    let again = queue("latest", Position::TrimHorizon);
    assert_eq!(numbers(&receive(&again, 100)), (20..30).collect(), "the position is fixed at creation");
    let refused = stream.queue("none").start_at(Position::At(0.into())).open();
    assert_refused(refused.map(drop), "TrimHorizon, Latest or AtTimestamp");
    assert_refused(
        stream.queue("none").start_at(Position::AtTimestamp(clock.now() + HOUR)).open().map(drop),
        "future",
    );
    assert!(!stream.queues().unwrap().contains(&"none".to_owned()), "what is refused creates nothing");
}

#[test]
fn a_new_visibility_timeout_does_not_touch_records_in_flight() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").visibility_timeout(HOUR).open().unwrap();
    put(&stream, 0..2);
    receive_one(&queue);
    queue.close().unwrap();
    let queue = stream.queue("jobs").visibility_timeout(SECOND).open().unwrap();
    receive_one(&queue);
    clock.advance(SECOND);
    assert_eq!(receive(&queue, 10).len(), 1);
    clock.advance(HOUR - SECOND);
    assert_eq!(receive(&queue, 10).len(), 2);
}

#[test]
fn a_lower_max_receive_count_counts_for_records_that_were_received_before() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").open().unwrap();
    put(&stream, 0..1);
    for _ in 0..3 {
        queue.release(&receive_one(&queue).handle, NONE).unwrap();
    }
    queue.close().unwrap();
    let queue = stream.queue("jobs").max_receive_count(2).open().unwrap();
    assert!(receive(&queue, 1).is_empty());
    assert_eq!(queue.receive_dead_letters(1, NONE).unwrap().len(), 1);
}

#[test]
fn a_batch_is_acknowledged_handle_by_handle() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").open().unwrap();
    put(&stream, 0..3);
    let records = receive(&queue, 3);
    queue.acknowledge(&records[1].handle).unwrap();
    let twice = [&records[0], &records[1], &records[2], &records[2]].map(|record| record.handle);
    let outcomes = queue.acknowledge_batch(&twice).unwrap();
    assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, false]);
    clock.advance(HOUR);
    assert!(receive(&queue, 10).is_empty());
}

#[test]
fn l4_beyond_its_bound_a_queue_hands_out_nothing_new_until_something_is_done() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").outstanding_max(10).open().unwrap();
    put(&stream, 0..30);
    let records = receive(&queue, 100);
    assert_eq!(records.len(), 10);
    assert!(receive(&queue, 100).is_empty());
    queue.release(&records[0].handle, NONE).unwrap();
    let again = receive(&queue, 100);
    assert_eq!(
        numbers(&again),
        [number(&records[0])].into(),
        "what is given back is handed out all the same"
    );
    let waiter = thread::spawn({
        let queue = queue.clone();
        move || queue.receive(100, Duration::from_secs(60)).unwrap()
    });
    // By now it most likely waits. If not, it finds the room immediately.
    thread::sleep(Duration::from_millis(5));
    queue.acknowledge_batch(records[1..4].iter().map(|record| &record.handle)).unwrap();
    let woken = waiter.join().unwrap();
    assert_eq!(woken.len(), 3, "whoever waits is woken once there is room");
}

#[test]
fn l3_one_record_of_a_key_is_in_flight_and_the_others_wait_in_order() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").ordered_by_key().max_receive_count(2).open().unwrap();
    put(&stream, 0..30); // three of each of ten keys
    let first = receive(&queue, 100);
    assert_eq!(numbers(&first), (0..10).collect());
    queue.acknowledge(&first[0].handle).unwrap();
    let next = receive(&queue, 100);
    assert_eq!(numbers(&next), [number(&first[0]) + 10].into());
    // A delayed first record of a key blocks the others.
    queue.release(&first[1].handle, MINUTE).unwrap();
    assert!(receive(&queue, 100).is_empty());
    // A dead letter does not.
    clock.advance(MINUTE);
    let again = receive(&queue, 100);
    assert_eq!(again.len(), 10, "one of each key");
    let second = again.iter().find(|record| number(record) == number(&first[1])).unwrap();
    queue.release(&second.handle, NONE).unwrap();
    let after_dead = receive(&queue, 100);
    assert_eq!(numbers(&after_dead), [number(&first[1]) + 10].into());
    // If it is restored, it is delivered as soon as none of its key is in flight.
    let dead = queue.receive_dead_letters(1, NONE).unwrap().remove(0);
    queue.restore(&dead.handle).unwrap();
    assert!(receive(&queue, 100).is_empty());
    queue.release(&after_dead[0].handle, NONE).unwrap();
    assert_eq!(numbers(&receive(&queue, 100)), [number(&first[1])].into(), "the older one first");
}

#[test]
fn l3_the_order_of_a_key_holds_across_splits_merges_and_restarts() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let mut stream = open(scratch.path(), &clock);
    let mut queue = stream.queue("jobs").ordered_by_key().open().unwrap();
    let mut next = [0u32; 10];
    for round in 0..8 {
        put(&stream, round * 30..(round + 1) * 30);
        let mut open: Vec<_> = stream.shards().into_iter().filter(|shard| shard.is_open()).collect();
        open.sort_by_key(|shard| shard.hash_key_range.start);
        match round % 2 {
            0 => drop(stream.split_shard_evenly(open[0].id).unwrap()),
            _ => drop(stream.merge_shards(open[0].id, open[1].id).unwrap()),
        }
        if round == 4 {
            queue.close().unwrap();
            stream.close().unwrap();
            stream = self::open(scratch.path(), &clock);
            queue = stream.queue("jobs").ordered_by_key().open().unwrap();
        }
        // Not all of them, so that records of a key wait in parents and children.
        for _ in 0..2 {
            take_one_of_each_key(&queue, &mut next);
        }
    }
    while take_one_of_each_key(&queue, &mut next) {}
    assert_eq!(next, [24; 10]);
}

fn take_one_of_each_key(queue: &Queue, next: &mut [u32; 10]) -> bool {
    let records = receive(queue, 100);
    for record in &records {
        let number = number(record);
        let expected = &mut next[number as usize % 10];
        assert_eq!(number / 10, *expected, "in order");
        *expected += 1;
        queue.acknowledge(&record.handle).unwrap();
    }
    !records.is_empty()
}

#[test]
fn the_order_of_a_queue_is_fixed_when_it_is_created() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    stream.queue("ordered").ordered_by_key().open().unwrap();
    stream.queue("not").open().unwrap();
    assert_refused(stream.queue("ordered").open().map(drop), "order");
    assert_refused(stream.queue("not").ordered_by_key().open().map(drop), "order");
    assert!(stream.queue("ordered").ordered_by_key().open().unwrap().describe().unwrap().is_ordered_by_key);
}

#[test]
fn several_queues_and_groups_of_a_stream_are_each_on_their_own() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let (jobs, audit) = (stream.queue("jobs").open().unwrap(), stream.queue("audit").open().unwrap());
    let mut worker = stream.group("jobs").worker().open().unwrap();
    put(&stream, 0..5);
    let of_jobs = receive(&jobs, 10);
    let of_audit = receive(&audit, 10);
    assert_eq!((of_jobs.len(), of_audit.len()), (5, 5));
    assert!(worker.poll(NONE).unwrap().is_some());
    assert_refused(jobs.acknowledge(&of_audit[0].handle), "jobs");
    jobs.acknowledge_batch(of_jobs.iter().map(|record| &record.handle)).unwrap();
    clock.advance(HOUR);
    assert_eq!((receive(&jobs, 10).len(), receive(&audit, 10).len()), (0, 5));
    assert_eq!(stream.queues().unwrap(), ["audit", "jobs"]);
    // A queue created again is a new one.
    jobs.close().unwrap();
    stream.delete_queue("jobs").unwrap();
    clock.advance(SECOND);
    let again = stream.queue("jobs").open().unwrap();
    assert_eq!(receive(&again, 10).len(), 5);
    assert_refused(again.acknowledge(&of_jobs[0].handle), "jobs");
}

#[test]
fn p13_one_process_at_a_time_has_a_queue_open() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").open().unwrap();
    let locked = |outcome: Result<Queue, Error>| match outcome {
        Err(Error::Locked(by)) => assert_eq!(by.process_id, Some(std::process::id())),
        other => panic!("{other:?}"),
    };
    locked(stream.queue("jobs").open());
    let reader = StreamReader::open(scratch.path()).unwrap();
    locked(reader.queue("jobs").open());
    assert!(matches!(stream.delete_queue("jobs"), Err(Error::Locked(_))));
    drop(queue);
    reader.queue("jobs").open().unwrap();
    stream.queue("jobs").open().unwrap();
    assert_refused(stream.delete_queue("other"), "no queue");
}

#[test]
fn p13_a_queue_is_closed_once_it_is_dropped_though_the_maintenance_attends_to_it() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let is_over = AtomicBool::new(false);
    for from_reader in [false, true] {
        let stream = open(scratch.path(), &clock);
        let reader = if from_reader {
            StreamReader::open(scratch.path()).unwrap()
        } else {
            StreamReader::clone(&stream)
        };
        is_over.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    stream.maintain().unwrap();
                }
            });
            for _ in 0..300 {
                let queue = reader.queue("jobs").open();
                is_over.store(queue.is_err(), Ordering::Relaxed);
                drop(queue.unwrap());
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let queue = stream.queue("jobs").open().unwrap();
        drop((stream, reader));
        // The queue was the last that kept the stream open.
        drop(queue);
        open(scratch.path(), &clock);
    }
}

/// Not a test: the process that has the queue open in the next one.
#[test]
fn child() {
    let Ok(path) = std::env::var("STREAMLOG_QUEUE_TEST") else { return };
    let queue = StreamReader::open(path).unwrap().queue("jobs").visibility_timeout(12 * HOUR).open().unwrap();
    let mut records = vec![];
    while records.len() < 5 {
        records.extend(queue.receive(5, Duration::from_secs(60)).unwrap());
    }
    queue.acknowledge_batch(records[..3].iter().map(|record| &record.handle)).unwrap();
    println!("ready");
    thread::park();
}

#[test]
fn p13_l8_another_process_has_the_queue_open_until_it_is_killed() {
    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    put(&stream, 0..2);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(common::child_test(module_path!()))
        .env("STREAMLOG_QUEUE_TEST", scratch.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    put(&stream, 2..5);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"));
    match stream.queue("jobs").open() {
        Err(Error::Locked(by)) => assert_eq!((by.process_id, by.is_this_process), (Some(child.id()), false)),
        other => panic!("{other:?}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let described = stream.queue("jobs").open().unwrap().describe().unwrap();
    assert_eq!((described.unread.record_count, described.in_flight_count), (0, 2), "L1");
}

#[test]
fn l8_a_queue_works_the_same_for_a_reader_of_the_stream() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let reader = streamlog::StreamOptions::new().clock(clock.clone()).open_reader(scratch.path()).unwrap();
    let queue = reader.queue("jobs").max_receive_count(1).open().unwrap();
    let waiter = thread::spawn({
        let queue = queue.clone();
        move || queue.receive(1, Duration::from_secs(60)).unwrap()
    });
    put(&stream, 0..1);
    assert_eq!(waiter.join().unwrap().len(), 1, "a put of the other process wakes");
    stream.split_shard_evenly(stream.shards()[0].id).unwrap();
    put(&stream, 1..20);
    let records = receive(&queue, 100);
    assert_eq!(numbers(&records), (1..20).collect());
    queue.acknowledge_batch(records[1..].iter().map(|record| &record.handle)).unwrap();
    clock.advance(HOUR);
    assert_eq!(queue.receive_dead_letters(10, NONE).unwrap().len(), 2);
    let described = stream.describe_queue("jobs").unwrap();
    assert_eq!((described.dead_letter_count, described.unread.record_count), (2, 0), "seen from outside");
    let record = PutRecord::new("key", "data");
    assert_refused(queue.put("id", &record), "the process that has the stream open");
    assert_refused(queue.put_delayed(&record, SECOND), "the process that has the stream open");
    assert_refused(stream.describe_queue("other"), "no queue");
}

#[test]
fn a_queue_hands_out_what_is_put_while_somebody_waits() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").max_receive_count(2).open().unwrap();
    let begin = Instant::now();
    assert!(queue.receive(1, Duration::from_millis(30)).unwrap().is_empty());
    assert!(begin.elapsed() >= Duration::from_millis(30), "it waits for as long as it is told");
    let wait = |is_dead: bool| {
        let queue = queue.clone();
        thread::spawn(move || match is_dead {
            false => queue.receive(1, Duration::MAX).unwrap().remove(0),
            true => queue.receive_dead_letters(1, Duration::MAX).unwrap().remove(0),
        })
    };
    let waiter = wait(false);
    put(&stream, 0..1);
    let record = waiter.join().unwrap();
    let waiter = wait(false);
    queue.release(&record.handle, NONE).unwrap();
    waiter.join().unwrap();
    // By the clock, the timeout has ended, and the record becomes a dead letter.
    let waiter = wait(true);
    clock.advance(HOUR);
    let dead = waiter.join().unwrap();
    let waiter = wait(false);
    queue.restore(&dead.handle).unwrap();
    waiter.join().unwrap();
    let waiter = {
        let queue = queue.clone();
        thread::spawn(move || queue.receive(1, Duration::MAX))
    };
    stream.close().unwrap();
    assert!(matches!(waiter.join().unwrap(), Err(Error::Closed)));
    assert!(matches!(queue.acknowledge(&dead.handle), Err(Error::Closed)));
}

#[test]
fn p12_what_retention_drops_is_gone_and_counted() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).open(scratch.path()).unwrap();
    let queue = stream.queue("jobs").max_receive_count(1).open().unwrap();
    let shard = stream.shards()[0].id;
    put(&stream, 0..10);
    let dead = receive_one(&queue);
    queue.release(&dead.handle, NONE).unwrap();
    let in_flight = receive(&queue, 2);
    stream.trim_before(shard, 5.into()).unwrap();
    let described = queue.describe().unwrap();
    assert_eq!((described.in_flight_count, described.dead_letter_count), (0, 0));
    assert_invalid(queue.acknowledge(&in_flight[0].handle));
    assert_eq!(numbers(&receive(&queue, 100)), (5..10).collect());
    assert_eq!(queue.describe().unwrap().expired_count, 5);
    // Also released records, and no one has checked since.
    put(&stream, 10..12);
    let records = receive(&queue, 100);
    stream.trim_before(shard, 12.into()).unwrap();
    queue.release(&records[0].handle, NONE).unwrap();
    clock.advance(HOUR);
    assert!(receive(&queue, 100).is_empty());
    assert!(queue.receive_dead_letters(100, NONE).unwrap().is_empty());
    assert_eq!(queue.describe().unwrap().expired_count, 12);
}

#[test]
fn a_hold_keeps_what_is_not_acknowledged() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).retention(Retention::age(HOUR)).open(scratch.path()).unwrap();
    let queue = stream.queue("jobs").hold(100 << 20).visibility_timeout(12 * HOUR).open().unwrap();
    let shard = stream.shards()[0].id;
    for number in 0..3_000u32 {
        stream.put("key", format!("{number:0>100}")).unwrap();
    }
    let horizon = || stream.iterator(shard, Position::TrimHorizon).unwrap().next_sequence().get();
    let records = receive(&queue, 3_000);
    let keep = &records[1_500];
    let done = records.iter().filter(|record| record.handle != keep.handle).map(|record| &record.handle);
    queue.acknowledge_batch(done).unwrap();
    for _ in 0..3 {
        clock.advance(2 * HOUR);
        stream.put("key", "later").unwrap();
        stream.maintain().unwrap();
    }
    let held = horizon();
    assert!(held > 0 && held <= 1_500, "up to the one that is not done, by segments: {held}");
    queue.acknowledge(&keep.handle).unwrap();
    for _ in 0..3 {
        stream.maintain().unwrap();
    }
    assert!(horizon() > 1_500, "{}", horizon());
    assert_eq!(stream.describe().holds[0].name, "queue:jobs");
    queue.close().unwrap();
    stream.delete_queue("jobs").unwrap();
    assert!(stream.describe().holds.is_empty());
}

#[test]
fn a_record_that_is_put_again_with_its_id_is_put_once() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let mut stream = open(scratch.path(), &clock);
    let mut queue = stream.queue("jobs").open().unwrap();
    let put = |queue: &Queue, id: &str| -> Receipt { queue.put(id, &PutRecord::new("key", "data")).unwrap() };
    let (first, other) = (put(&queue, "a"), put(&queue, "b"));
    assert_ne!(first, other);
    for record in receive(&queue, 10) {
        queue.acknowledge(&record.handle).unwrap();
    }
    assert_eq!(put(&queue, "a"), first, "also if it is done");
    queue.close().unwrap();
    stream.close().unwrap();
    stream = open(scratch.path(), &clock);
    queue = stream.queue("jobs").open().unwrap();
    clock.advance(5 * MINUTE - SECOND);
    assert_eq!(put(&queue, "a"), first, "also after a restart");
    assert!(receive(&queue, 10).is_empty());
    clock.advance(SECOND);
    let again = put(&queue, "a");
    assert_ne!(again, first, "five minutes later it is a new record");
    assert_eq!(receive(&queue, 10).len(), 1);
    // If several threads use one id, the record is put once.
    let receipts: Vec<Receipt> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| put(&queue, "same"))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0]));
}

#[test]
fn l4_a_queue_remembers_a_bounded_number_of_ids() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").outstanding_max(3).open().unwrap();
    let put = |id: &str| queue.put(id, &PutRecord::new("key", "data"));
    let first = put("a").unwrap();
    put("b").unwrap();
    put("c").unwrap();
    assert_refused(put("d"), "remembers 3 ids");
    assert_eq!(put("a").unwrap(), first);
    clock.advance(5 * MINUTE);
    put("d").unwrap();
}

#[test]
fn a_delayed_put_is_handed_out_after_its_delay_and_seen_by_others_at_once() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").open().unwrap();
    let mut worker = stream.group("others").worker().open().unwrap();
    queue.put_delayed(&PutRecord::new("key", "0"), 15 * MINUTE).unwrap();
    assert_refused(queue.put_delayed(&PutRecord::new("key", "0"), 13 * HOUR), "delay");
    assert!(receive(&queue, 10).is_empty());
    assert!(worker.poll(NONE).unwrap().is_some());
    queue.close().unwrap();
    let queue = stream.queue("jobs").open().unwrap();
    clock.advance(15 * MINUTE - SECOND);
    assert!(receive(&queue, 10).is_empty(), "also after a restart");
    clock.advance(SECOND);
    assert_eq!(receive(&queue, 10).len(), 1);
    // A delay that is not a number is ignored, and one that is too long is cut.
    stream.put_record(&PutRecord::new("key", "1").header("queue-delayed-until", "soon")).unwrap();
    let far = u64::MAX.to_string();
    stream.put_record(&PutRecord::new("key", "2").header("queue-delayed-until", &far)).unwrap();
    assert_eq!(numbers(&receive(&queue, 10)), [1].into());
    clock.advance(12 * HOUR);
    assert!(numbers(&receive(&queue, 10)).contains(&2));
}

#[test]
fn a_purge_gives_up_everything_but_dead_letters() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").max_receive_count(1).open().unwrap();
    put(&stream, 0..4);
    let records = receive(&queue, 3);
    queue.release(&records[0].handle, NONE).unwrap();
    queue.put_delayed(&PutRecord::new("key", "9"), MINUTE).unwrap();
    queue.purge().unwrap();
    assert_invalid(queue.acknowledge(&records[1].handle));
    clock.advance(HOUR);
    assert!(receive(&queue, 10).is_empty());
    assert_eq!(queue.receive_dead_letters(10, NONE).unwrap().len(), 1);
    put(&stream, 10..12);
    assert_eq!(numbers(&receive(&queue, 10)), (10..12).collect());
}

#[test]
fn a_clock_that_is_set_ends_no_timeout_and_prolongs_none() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").open().unwrap();
    put(&stream, 0..1);
    receive_one(&queue);
    clock.set(clock.now() + 100 * HOUR);
    assert!(receive(&queue, 1).is_empty());
    clock.set(clock.now() - 300 * HOUR);
    clock.advance(30 * SECOND);
    receive_one(&queue);
    // After a restart the time of day counts, and the limit is 12 hours.
    clock.set(clock.now() - 200 * HOUR);
    queue.close().unwrap();
    let queue = stream.queue("jobs").open().unwrap();
    clock.advance(12 * HOUR - SECOND);
    assert!(receive(&queue, 1).is_empty());
    clock.advance(SECOND);
    receive_one(&queue);
}

#[test]
fn l1_after_a_power_loss_new_records_with_old_numbers_are_handed_out() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let (before, after) = (scratch.path().join("before"), scratch.path().join("after"));
    let stream = common::small(&clock).open(&before).unwrap();
    put(&stream, 0..5);
    let queue = stream.queue("jobs").open().unwrap();
    queue.acknowledge_batch(receive(&queue, 5).iter().map(|record| &record.handle)).unwrap();
    // The stream keeps five records, but its queue knows of ten.
    common::copy_dir(&before, &after);
    clock.advance(SECOND);
    put(&stream, 5..10);
    let late = receive(&queue, 10);
    queue.acknowledge_batch(late[..3].iter().map(|record| &record.handle)).unwrap();
    drop((queue, stream));
    std::fs::remove_dir_all(after.join("queues")).unwrap();
    common::copy_dir(&before.join("queues"), &after.join("queues"));
    clock.advance(MINUTE);
    let stream = common::small(&clock).open(&after).unwrap();
    put(&stream, 100..105);
    let queue = stream.queue("jobs").open().unwrap();
    clock.advance(HOUR);
    assert_eq!(numbers(&receive(&queue, 100)), (100..105).collect());
    assert_eq!(queue.describe().unwrap().in_flight_count, 5);
}

#[test]
fn p9_a_damaged_queue_is_reported_and_salvage_skips_nothing() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).retention(Retention::forever()).open(scratch.path()).unwrap();
    let queue = stream.queue("jobs").visibility_timeout(12 * HOUR).open().unwrap();
    put(&stream, 0..100);
    for _ in 0..10 {
        let records = receive(&queue, 10);
        queue.acknowledge_batch(records[..5].iter().map(|record| &record.handle)).unwrap();
    }
    queue.close().unwrap();
    stream.close().unwrap();
    let journal = scratch.path().join("queues").join("jobs");
    let file = common::segment_files(&journal, 0).remove(0);
    let bytes = std::fs::read(&file).unwrap();
    let step = 97;
    for at in (4_096..bytes.len().min(4_096 + 2_000)).step_by(step) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        if damaged[at..].iter().take(step).all(|byte| *byte == 0) {
            continue;
        }
        std::fs::write(&file, &damaged).unwrap();
        let stream = common::small(&clock).retention(Retention::forever()).open(scratch.path()).unwrap();
        match stream.queue("jobs").open() {
            Err(Error::Corrupt(_)) => {}
            Ok(_) => panic!("damage at byte {at} was not noticed"),
            Err(error) => panic!("{error}"),
        }
        let copy = common::scratch();
        common::copy_dir(&journal, copy.path());
        let queue = stream.queue("jobs").salvage(true).open().unwrap();
        clock.advance(13 * HOUR);
        let handed_out = numbers(&receive(&queue, 1_000));
        // Of each ten received records, the first five are done; if the queue no longer knows that, they are delivered again.
        let not_done: BTreeSet<u32> = (0..100).filter(|number| number % 10 >= 5).collect();
        assert!(
            handed_out.is_superset(&not_done),
            "damage at byte {at}: {:?}",
            not_done.difference(&handed_out)
        );
        queue.close().unwrap();
        // The next opening needs no salvage, and finds the outstanding records.
        let queue = stream.queue("jobs").open().unwrap();
        assert_eq!(queue.describe().unwrap().in_flight_count, handed_out.len());
        queue.close().unwrap();
        stream.close().unwrap();
        std::fs::remove_dir_all(&journal).unwrap();
        common::copy_dir(copy.path(), &journal);
        std::fs::write(&file, &bytes).unwrap();
    }
}

#[test]
fn l1_the_journal_of_a_queue_is_as_long_as_what_is_outstanding() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock)
        .segment_bytes(1 << 20)
        .retention(Retention::forever())
        .open(scratch.path())
        .unwrap();
    let queue = stream.queue("jobs").open().unwrap();
    let journal_bytes = || -> u64 {
        let reader = StreamReader::open(scratch.path().join("queues").join("jobs")).unwrap();
        reader.stats().unwrap().shards.iter().map(|shard| shard.disk_bytes).sum()
    };
    let keys: Vec<_> = (0..1_000u32).map(u32::to_le_bytes).collect();
    let records: Vec<_> = keys.iter().map(|key| PutRecord::new(key, b"data")).collect();
    let mut bytes_max = 0;
    for round in 0..600 {
        stream.put_batch(&records).unwrap();
        let received = receive(&queue, 1_000);
        assert_eq!(received.len(), 1_000);
        let done = &received[usize::from(round % 100 == 0)..];
        queue.acknowledge_batch(done.iter().map(|record| &record.handle)).unwrap();
        bytes_max = bytes_max.max(journal_bytes());
    }
    assert!(bytes_max <= 10 << 20, "600,000 handled, and the journal had {bytes_max} bytes");
    let described = queue.describe().unwrap();
    queue.close().unwrap();
    let queue = stream.queue("jobs").open().unwrap();
    assert_eq!(queue.describe().unwrap(), described);
    assert_eq!(described.in_flight_count, 6);
    clock.advance(HOUR);
    assert_eq!(receive(&queue, 1_000).len(), 6);
}

#[test]
fn explicit_hash_keys_put_a_key_anywhere_and_each_record_is_handed_out_once() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").ordered_by_key().open().unwrap();
    for number in 0..10u32 {
        let hash_key = if number % 2 == 0 { HashKey::MIN } else { HashKey::MAX };
        let data = number.to_string();
        stream.put_record(&PutRecord::new("key", &data).explicit_hash_key(hash_key)).unwrap();
    }
    let mut seen = BTreeSet::new();
    loop {
        let records = receive(&queue, 100);
        assert!(records.len() <= 1, "one of the key is in flight");
        let Some(record) = records.first() else { break };
        assert!(seen.insert(number(record)));
        queue.acknowledge(&record.handle).unwrap();
    }
    assert_eq!(seen, (0..10).collect());
}

#[test]
fn p6_records_that_damage_took_are_counted_and_the_others_come() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let open = |salvage| common::small(&clock).salvage(salvage).open(scratch.path()).unwrap();
    let stream = open(false);
    for number in 0..20 {
        put(&stream, number..number + 1);
        clock.advance(SECOND);
    }
    let queue = stream.queue("jobs").open().unwrap();
    assert_eq!(receive(&queue, 10).len(), 10);
    queue.close().unwrap();
    stream.close().unwrap();
    let file = common::segment_files(scratch.path(), 0).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let place_of = |key: &[u8]| {
        let mut places = bytes.windows(key.len()).enumerate().filter(|(_, bytes)| *bytes == key);
        places.next().map(|(at, _)| at).unwrap()
    };
    // The last delivered record, and the next two.
    let (from, to) = (place_of(b"key-99"), place_of(b"key-212"));
    bytes[from..to].fill(0xa5);
    std::fs::write(&file, bytes).unwrap();
    let stream = open(true);
    let lost = stream.recovery().shards[0].lost[0].sequences.clone();
    let lost: BTreeSet<u32> = (0..20).filter(|&number| lost.contains(&u64::from(number).into())).collect();
    assert!(lost.contains(&9) && lost.contains(&10), "{lost:?}");
    let queue = stream.queue("jobs").open().unwrap();
    clock.advance(HOUR);
    let mut seen = numbers(&receive(&queue, 100));
    assert!(seen.is_disjoint(&lost));
    seen.extend(&lost);
    assert_eq!(seen, (0..20).collect());
    assert_eq!(queue.describe().unwrap().lost_count, lost.len() as u64);
}

#[test]
fn shards_take_turns() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").open().unwrap();
    for number in 0..3_000u32 {
        let data = number.to_string();
        stream.put_record(&PutRecord::new("key", &data).explicit_hash_key(HashKey::MIN)).unwrap();
    }
    let rare = PutRecord::new("key", "9999").explicit_hash_key(HashKey::MAX);
    stream.put_record(&rare).unwrap();
    let mut count = 0;
    while !numbers(&receive(&queue, 10)).contains(&9_999) {
        count += 10;
    }
    assert!(count < 1_000, "the other shard waited for {count} records");
}
