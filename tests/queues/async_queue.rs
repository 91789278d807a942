//! Waiting for records of a queue as a task: what wakes it, what a dropped future leaves behind, and many tasks at a time: L1, P6.

use crate::common;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use common::groups::{open, put};
use common::tasks::{Count, executors, poll_once, run_all_on_this_thread, run_where_woken};
use futures_util::future::{Either, select};
use streamlog::{Error, HOUR, MINUTE, NextRecords, PutRecord, Queue, QueueRecord, Stream};

fn number(record: &QueueRecord) -> u32 {
    std::str::from_utf8(&record.record.data).unwrap().parse().unwrap()
}

/// Receives and acknowledges until the stream is closed, and returns the received numbers.
async fn read_all(queue: Queue) -> Vec<u32> {
    let mut read = vec![];
    loop {
        match queue.next(7).await {
            Ok(records) => {
                assert!(!records.is_empty());
                for record in records {
                    read.push(number(&record));
                    // The stream may be closed by now.
                    let _ = queue.acknowledge(&record.handle);
                }
            }
            Err(Error::Closed) => return read,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Puts 1,000 records while shards split, and closes the stream once all are done.
fn put_and_close(stream: Stream, queue: Queue) {
    for step in 0..10 {
        put(&stream, step * 100..(step + 1) * 100);
        if step % 3 == 1 {
            stream.split_shard_evenly(stream.shards().last().unwrap().id).unwrap();
        }
    }
    loop {
        let described = queue.describe().unwrap();
        if (described.unread.record_count, described.visible_count, described.in_flight_count) == (0, 0, 0) {
            break;
        }
        std::thread::yield_now();
    }
    stream.close().unwrap();
}

#[test]
fn p6_a_task_receives_everything_across_splits_under_each_executor() {
    for (name, run) in executors() {
        for is_ordered in [false, true] {
            let (scratch, clock) = (common::scratch(), common::clock());
            let stream = open(scratch.path(), &clock, 1);
            let options = stream.queue("jobs");
            let options = if is_ordered { options.ordered_by_key() } else { options };
            let queue = options.open().unwrap();
            let writer = std::thread::spawn({
                let queue = queue.clone();
                move || put_and_close(stream, queue)
            });
            let mut read = run(read_all(queue));
            writer.join().unwrap();
            read.sort_unstable();
            assert_eq!(read, (0..1_000).collect::<Vec<_>>(), "P6: {name}");
        }
    }
}

#[test]
fn p6_many_tasks_share_a_queue_and_each_record_comes_once() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 2);
    let queue = stream.queue("jobs").open().unwrap();
    let tasks: Vec<_> = (0..50).map(|_| read_all(queue.clone())).collect();
    let read = run_all_on_this_thread(tasks, move || {
        std::thread::spawn(move || put_and_close(stream, queue));
    });
    let mut read: Vec<u32> = read.into_iter().flatten().collect();
    read.sort_unstable();
    assert_eq!(read, (0..1_000).collect::<Vec<_>>());
}

#[test]
fn each_thing_that_gives_a_task_a_record_wakes_it() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let queue = stream.queue("jobs").outstanding_max(2).max_receive_count(3).ordered_by_key().open().unwrap();
    let (count, waker) = Count::new();
    let mut woken_count = 0;
    let mut next_after = |what: &str, wake: &mut dyn FnMut()| -> QueueRecord {
        let mut next = queue.next(1);
        assert!(poll_once(&mut next, &waker).is_pending(), "nothing before {what}");
        wake();
        assert!(count.get() > woken_count, "{what} wakes");
        woken_count = count.get();
        match poll_once(&mut next, &waker) {
            Poll::Ready(records) => records.unwrap().remove(0),
            Poll::Pending => panic!("{what} brings a record"),
        }
    };
    let first = next_after("a put", &mut || put(&stream, 0..1));
    let first = next_after("a release", &mut || queue.release(&first.handle, Duration::ZERO).unwrap());
    let second = next_after("a put of another key", &mut || put(&stream, 1..2));
    put(&stream, 2..3);
    let third = next_after("room below the bound", &mut || queue.acknowledge(&second.handle).unwrap());
    assert_eq!(number(&third), 2);
    queue.acknowledge(&third.handle).unwrap();
    put(&stream, 50..51);
    let of_same_key =
        next_after("the end of the one before of its key", &mut || queue.acknowledge(&first.handle).unwrap());
    assert_eq!(number(&of_same_key), 50);
    let again = next_after("the end of a timeout", &mut || {
        clock.advance(MINUTE);
        stream.maintain().unwrap();
    });
    let later = next_after("the end of a delay", &mut || {
        queue.release(&again.handle, HOUR).unwrap();
        clock.advance(HOUR);
        stream.maintain().unwrap();
    });
    queue.release(&later.handle, Duration::ZERO).unwrap();
    let dead = queue.receive_dead_letters(1, Duration::ZERO).unwrap().remove(0);
    next_after("a restored dead letter", &mut || queue.restore(&dead.handle).unwrap());
    stream.split_shard_evenly(stream.shards()[0].id).unwrap();
    next_after("a put to a new shard", &mut || put(&stream, 3..4));
}

#[test]
fn a_task_waits_for_dead_letters_with_a_timeout_and_a_bound_of_its_own() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let queue = stream.queue("jobs").max_receive_count(1).open().unwrap();
    let (count, waker) = Count::new();
    let ready = |next: &mut NextRecords<'_>| match poll_once(next, &waker) {
        Poll::Ready(records) => records.unwrap(),
        Poll::Pending => vec![],
    };
    stream.put("a", "0").unwrap();
    let mut next = queue.next(10).visibility_timeout(MINUTE);
    let record = ready(&mut next).remove(0);
    // 30 seconds are the timeout of the queue.
    clock.advance(Duration::from_secs(59));
    let mut dead = queue.next(10).dead_letters().visibility_timeout(HOUR);
    assert!(ready(&mut dead).is_empty());
    queue.extend(&record.handle, Duration::ZERO).unwrap();
    assert_eq!(count.get(), 1, "at once, without a pass of the maintenance");
    assert_eq!(ready(&mut dead).len(), 1);
    clock.advance(HOUR - MINUTE);
    assert!(queue.receive_dead_letters(1, Duration::ZERO).unwrap().is_empty());
    for data in ["12345", "6", "789"] {
        stream.put("a", data).unwrap();
    }
    // Those whose data is less than the bound, and one more.
    for (bytes_max, expected) in [(6, 2), (0, 1)] {
        assert_eq!(ready(&mut queue.next(10).bytes_max(bytes_max)).len(), expected);
    }
    let mut next = queue.next(10).visibility_timeout(13 * HOUR);
    assert!(matches!(poll_once(&mut next, &waker), Poll::Ready(Err(Error::InvalidArgument(_)))));
}

#[test]
fn a_closed_stream_ends_the_wait() {
    let (scratch, clock) = (common::scratch(), common::clock());
    for close_queue in [false, true] {
        let stream = open(scratch.path(), &clock, 1);
        let queue = stream.queue("jobs").outstanding_max(1).open().unwrap();
        // Also when the queue is full, so that no shard is waited for.
        for _ in 0..2 {
            let (count, waker) = Count::new();
            let mut next = queue.next(1);
            assert!(poll_once(&mut next, &waker).is_pending());
            drop(next);
            assert_eq!((count.get(), count.holders()), (0, 0), "a dropped future leaves nothing behind");
            put(&stream, 0..1);
            let _ = queue.receive(1, Duration::ZERO).unwrap();
        }
        let (count, waker) = Count::new();
        let mut next = queue.next(1);
        assert!(poll_once(&mut next, &waker).is_pending());
        if close_queue { queue.clone().close() } else { stream.clone().close() }.unwrap();
        assert!(count.get() > 0);
        assert!(matches!(poll_once(&mut next, &waker), Poll::Ready(Err(Error::Closed))));
        drop(next);
        drop((queue, stream));
    }
}

#[test]
fn a_future_that_is_dropped_in_a_select_loses_nothing() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let (one, two) = (stream.queue("one").open().unwrap(), stream.queue("two").open().unwrap());
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    pollster::block_on(async {
        for number in 0..100 {
            put(&stream, number..number + 1);
            for _ in 0..2 {
                let (of_one, of_two) = (pin!(one.next(1)), pin!(two.next(1)));
                let (at, records) = match select(of_one, of_two).await {
                    Either::Left((records, _)) => (0, records.unwrap()),
                    Either::Right((records, _)) => (1, records.unwrap()),
                };
                let queue = [&one, &two][at];
                queue.acknowledge(&records[0].handle).unwrap();
                assert!(seen[at].insert(self::number(&records[0])));
            }
        }
    });
    assert_eq!(seen, [(0..100).collect(), (0..100).collect()]);
}

#[test]
fn a_task_may_run_within_the_put_or_the_release_that_wakes_it() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let queue = stream.queue("jobs").open().unwrap();
    let seen = Arc::new(Mutex::new(vec![]));
    run_where_woken({
        let (queue, seen) = (queue.clone(), Arc::clone(&seen));
        async move {
            while let Ok(records) = queue.next(10).await {
                for record in records {
                    seen.lock().unwrap().push(number(&record));
                    match record.receive_count {
                        1 => queue.release(&record.handle, Duration::ZERO).unwrap(),
                        _ => queue.acknowledge(&record.handle).unwrap(),
                    }
                }
            }
        }
    });
    put(&stream, 0..3);
    queue.put("id", &PutRecord::new("key", "3")).unwrap();
    let mut seen_now = seen.lock().unwrap().clone();
    seen_now.sort_unstable();
    assert_eq!(seen_now, [0, 0, 1, 1, 2, 2, 3, 3]);
    stream.close().unwrap();
}
