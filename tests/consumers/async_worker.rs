//! Waiting for a worker's next batch as a task: what wakes it, what a dropped future leaves behind, and many workers at a time: P1, P4, P6.

use crate::common;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use common::groups::{GROUP, drain, numbers, open, poll, put, sorted, worker};
use common::tasks::{Count, LONG, executors, poll_once, run_all_on_this_thread, run_where_woken};
use futures_util::future::{Either, select};
use streamlog::{
    Batch, Durability, Error, MINUTE, ManualClock, Position, PutRecord, Result, ShardFilter, ShardId, Stream,
    StreamOptions, Worker,
};
use tempfile::TempDir;

/// Reads and commits until the stream is closed, and returns the numbers read.
async fn read_all(mut worker: Worker) -> Vec<u32> {
    let mut read = vec![];
    loop {
        match worker.next().await {
            Ok(batch) => {
                read.extend(numbers(&batch));
                // The stream may be closed by now.
                let _ = worker.commit(&batch);
            }
            Err(Error::Closed) => return read,
            Err(error) => panic!("{error}"),
        }
    }
}

fn lag(stream: &Stream) -> u64 {
    stream.group(GROUP).describe().unwrap().lag().record_count
}

fn worker_count(stream: &Stream) -> usize {
    stream.group(GROUP).describe().unwrap().worker_count
}

/// Polls the worker's next batch once, and drops the future.
fn next(worker: &mut Worker) -> Option<Batch> {
    let (_count, waker) = Count::new();
    match poll_once(&mut worker.next(), &waker) {
        Poll::Ready(batch) => Some(batch.unwrap()),
        Poll::Pending => None,
    }
}

fn split_first(stream: &Stream) {
    let open = stream.list_shards(ShardFilter::AtLatest);
    stream.split_shard_evenly(open[0].id).unwrap();
}

#[test]
fn p6_a_task_reads_everything_across_splits_under_each_executor() {
    for (name, run) in executors() {
        let (scratch, clock) = (common::scratch(), common::clock());
        let stream = open(scratch.path(), &clock, 1);
        let worker = worker(&stream);
        let writer = std::thread::spawn(move || {
            for step in 0..10 {
                put(&stream, step * 100..(step + 1) * 100);
                if step % 3 == 1 {
                    split_first(&stream);
                }
            }
            while lag(&stream) > 0 {
                std::thread::yield_now();
            }
            stream.close().unwrap();
        });
        assert_eq!(sorted(run(read_all(worker))), (0..1_000).collect::<Vec<_>>(), "P6: {name}");
        writer.join().unwrap();
    }
}

#[test]
fn p4_p6_workers_share_one_thread_while_shards_split_and_merge() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 4);
    let workers: Vec<_> = (0..5).map(|_| read_all(worker(&stream))).collect();
    let read = run_all_on_this_thread(workers, move || {
        std::thread::spawn(move || {
            for step in 0..20 {
                put(&stream, step * 50..(step + 1) * 50);
                let mut open = stream.list_shards(ShardFilter::AtLatest);
                open.sort_by_key(|shard| shard.hash_key_range.start);
                match step % 4 {
                    1 => drop(stream.split_shard_evenly(open[0].id).unwrap()),
                    3 => drop(stream.merge_shards(open[0].id, open[1].id).unwrap()),
                    _ => {}
                }
            }
            while lag(&stream) > 0 {
                std::thread::yield_now();
            }
            stream.close().unwrap();
        });
    });
    // A lease may be lost before a commit, so a record may come twice.
    let read: BTreeSet<u32> = read.into_iter().flatten().collect();
    assert_eq!(read, (0..1_000).collect());
}

#[test]
fn p1_ten_thousand_workers_wait_on_one_thread() {
    const SHARD_COUNT: u32 = 100;
    const GROUP_COUNT: usize = 100;
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, SHARD_COUNT);
    let workers: Vec<_> = (0..GROUP_COUNT)
        .flat_map(|group| {
            let options = stream.group(format!("group-{group}")).worker().lease_timeout(MINUTE);
            (0..SHARD_COUNT).map(move |_| options.clone().open().unwrap())
        })
        .collect();
    let tasks = workers.into_iter().map(|mut worker| async move {
        let batch = worker.next().await.unwrap();
        worker.commit(&batch).unwrap();
        assert_eq!(batch.len(), 1);
        // It stays until all have read, so that no other worker gets its shard.
        (worker.group().name().to_owned(), batch.shard(), worker)
    });
    let read = run_all_on_this_thread(tasks, || {
        for shard in stream.shards() {
            stream
                .put_record(&PutRecord::new("key", "data").explicit_hash_key(shard.hash_key_range.start))
                .unwrap();
        }
    });
    let places: BTreeSet<_> = read.iter().map(|(group, shard, _)| (group.clone(), *shard)).collect();
    assert_eq!(places.len(), GROUP_COUNT * SHARD_COUNT as usize, "each group has read each shard once");
}

#[test]
fn p1_a_put_and_a_close_wake_a_worker() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let mut busy = worker(&stream);
    let (count, waker) = Count::new();
    {
        let mut waiting = busy.next();
        assert!(poll_once(&mut waiting, &waker).is_pending());
        assert!(poll_once(&mut waiting, &waker).is_pending(), "it may be polled again");
        put(&stream, 0..1);
        assert_eq!(count.get(), 1, "P1: one put, one wake");
        put(&stream, 1..2);
        assert_eq!(count.get(), 1, "it is awake");
        let Poll::Ready(Ok(batch)) = poll_once(&mut waiting, &waker) else { panic!("there is a record") };
        assert!(!batch.is_empty());
    }
    assert_eq!(count.holders(), 0);

    drain(&mut busy);
    let mut idle = worker(&stream);
    assert!(poll(&mut idle).is_none());
    assert_eq!((busy.shards().len(), idle.shards().len()), (1, 0));
    let (mut busy, mut idle) = (busy.next(), idle.next());
    let (idle_count, idle_waker) = Count::new();
    assert!(poll_once(&mut busy, &waker).is_pending());
    assert!(poll_once(&mut idle, &idle_waker).is_pending());
    stream.clone().close().unwrap();
    assert!(count.get() > 1 && idle_count.get() > 0, "also the worker without a shard");
    assert!(matches!(poll_once(&mut busy, &waker), Poll::Ready(Err(Error::Closed))));
    assert!(matches!(poll_once(&mut idle, &idle_waker), Poll::Ready(Err(Error::Closed))));
    assert_eq!((count.holders(), idle_count.holders()), (0, 0));
}

/// Lets a worker without shards wait, makes a change, and expects that this wakes it and that it then gets records.
#[track_caller]
fn wakes(stream: &Stream, idle: &mut Worker, change: impl FnOnce(&Stream)) -> Vec<u32> {
    let (count, waker) = Count::new();
    let mut waiting = idle.next();
    assert!(poll_once(&mut waiting, &waker).is_pending());
    change(stream);
    assert!(count.get() > 0, "the change wakes the worker");
    match poll_once(&mut waiting, &waker) {
        Poll::Ready(batch) => numbers(&batch.unwrap()),
        Poll::Pending => panic!("the worker has a shard now"),
    }
}

/// A stream of one shard with six records. The first worker has received three of them, and the second waits for a shard.
fn with_an_idle_worker(clock: &Arc<ManualClock>) -> (TempDir, Stream, (Worker, Batch), Worker) {
    let scratch = common::scratch();
    let stream = open(scratch.path(), clock, 1);
    let options = stream.group(GROUP).worker().lease_timeout(MINUTE);
    let (mut first, second) = (options.batch_records(3).open().unwrap(), worker(&stream));
    put(&stream, 0..6);
    let batch = next(&mut first).unwrap();
    assert_eq!(numbers(&batch), [0, 1, 2]);
    (scratch, stream, (first, batch), second)
}

#[test]
fn a_worker_that_leaves_wakes_the_one_that_gets_its_shard() {
    let (_scratch, stream, (first, _), mut second) = with_an_idle_worker(&common::clock());
    assert_eq!(wakes(&stream, &mut second, |_| first.close()), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn p4_the_end_of_a_shard_wakes_the_worker_that_gets_a_child() {
    let (_scratch, stream, (mut first, batch), mut second) = with_an_idle_worker(&common::clock());
    let of_child = wakes(&stream, &mut second, |stream| {
        split_first(stream);
        put(stream, 6..40);
        first.commit(&batch).unwrap();
        let rest = next(&mut first).unwrap();
        assert_eq!(numbers(&rest), [3, 4, 5]);
        first.commit(&rest).unwrap();
    });
    assert!(!of_child.is_empty() && of_child.iter().all(|number| *number >= 6), "{of_child:?}");
}

#[test]
fn maintenance_ends_the_lease_of_a_silent_worker_while_all_others_wait() {
    let clock = common::clock();
    let (_scratch, stream, (mut first, batch), mut second) = with_an_idle_worker(&clock);
    let again = wakes(&stream, &mut second, |stream| {
        clock.advance(2 * MINUTE);
        stream.maintain().unwrap();
    });
    assert_eq!(again, [0, 1, 2, 3, 4, 5]);
    assert!(matches!(first.commit(&batch), Err(Error::GroupLeaseLost { .. })));
}

#[test]
fn whoever_looks_at_a_group_ends_the_lease_of_a_silent_worker() {
    let clock = common::clock();
    let (_scratch, stream, _silent, mut second) = with_an_idle_worker(&clock);
    let again = wakes(&stream, &mut second, |stream| {
        clock.advance(2 * MINUTE);
        assert_eq!(worker_count(stream), 1);
    });
    assert_eq!(again, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_commit_wakes_the_worker_that_it_hands_a_shard_to() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 2);
    let mut first = worker(&stream);
    put(&stream, 0..50);
    let batches: Vec<_> = (0..2).map(|_| next(&mut first).unwrap()).collect();
    let mut second = worker(&stream);
    assert!(poll(&mut second).is_none(), "both shards have an uncommitted batch");
    let handed_over = wakes(&stream, &mut second, |stream| {
        put(stream, 50..100);
        batches.iter().for_each(|batch| first.commit(batch).unwrap());
    });
    assert!(!handed_over.is_empty() && handed_over.iter().all(|number| *number >= 50));
}

#[test]
fn a_reset_wakes_a_worker_that_waits() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 0..5);
    let mut worker = worker(&stream);
    assert_eq!(drain(&mut worker).len(), 5);
    let again = wakes(&stream, &mut worker, |stream| {
        stream.group(GROUP).reset(Position::TrimHorizon).unwrap();
    });
    assert_eq!(again, [0, 1, 2, 3, 4]);
}

#[test]
fn a_worker_is_alive_as_long_as_it_waits_and_no_longer() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 2);
    let (mut first, mut second) = (worker(&stream), worker(&stream));
    let (_count, waker) = Count::new();
    {
        let (mut first, mut second) = (first.next(), second.next());
        assert!(poll_once(&mut first, &waker).is_pending());
        assert!(poll_once(&mut second, &waker).is_pending());
        clock.advance(10 * MINUTE);
        stream.maintain().unwrap();
        assert_eq!(worker_count(&stream), 2, "they wait");
        drop(second);
        clock.advance(MINUTE / 2);
        assert_eq!(worker_count(&stream), 2, "it had the lease timeout from when it stopped waiting");
        clock.advance(MINUTE);
        assert_eq!(worker_count(&stream), 1, "it does not wait any more");
    }
    put(&stream, 0..50);
    assert_eq!(sorted(drain(&mut first)), (0..50).collect::<Vec<_>>(), "it has both shards");
    assert!(poll(&mut second).is_none());
    assert_eq!(worker_count(&stream), 2, "it joins again when it calls");
}

#[test]
fn p6_a_future_that_is_dropped_leaves_nothing_behind_and_takes_no_batch() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 4);
    let mut first = worker(&stream);
    let (count, waker) = Count::new();
    {
        let mut waiting = first.next();
        assert!(poll_once(&mut waiting, &waker).is_pending());
        assert!(count.holders() > 0);
    }
    assert_eq!(count.holders(), 0, "no list has its waker");
    put(&stream, 0..10);
    let other = worker(&stream);
    assert_eq!(count.get(), 0, "neither a put nor a change of the leases wakes it");
    drop(other);

    // Woken, and dropped before it is polled again.
    assert_eq!(sorted(drain(&mut first)).len(), 10);
    {
        let mut waiting = first.next();
        assert!(poll_once(&mut waiting, &waker).is_pending());
        put(&stream, 10..20);
        assert!(count.get() > 0);
    }
    assert_eq!(count.holders(), 0);
    assert_eq!(sorted(drain(&mut first)), (10..20).collect::<Vec<_>>(), "P6: nothing was taken");

    // Not even dropped: the worker still leaves.
    std::mem::forget({
        let mut waiting = first.next();
        assert!(poll_once(&mut waiting, &waker).is_pending());
        waiting
    });
    drop(first);
    assert_eq!((count.holders(), worker_count(&stream)), (0, 0));
}

#[test]
fn a_worker_is_not_woken_for_a_shard_that_it_has_lost() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 2);
    let put_to = |shard: ShardId| {
        let shards = stream.shards();
        let key = shards.iter().find(|known| known.id == shard).unwrap().hash_key_range.start;
        stream.put_record(&PutRecord::new("key", "1").explicit_hash_key(key)).unwrap();
    };
    let mut first = worker(&stream);
    let (count, waker) = Count::new();
    let mut waiting = first.next();
    assert!(poll_once(&mut waiting, &waker).is_pending());
    let mut second = worker(&stream);
    assert_eq!(count.get(), 1, "one of its shards goes to the second worker");
    assert!(poll_once(&mut waiting, &waker).is_pending());
    assert!(poll(&mut second).is_none());
    let [lost] = second.shards()[..] else { panic!("{:?}", second.shards()) };
    put_to(lost);
    assert_eq!(count.get(), 1);
    put_to(stream.shards().iter().map(|shard| shard.id).find(|&shard| shard != lost).unwrap());
    assert_eq!(count.get(), 2);
}

#[test]
fn p6_nothing_is_lost_when_many_waits_are_cut_short() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 2);
    let mut worker = worker(&stream);
    let writer = std::thread::spawn(move || {
        for step in 0..100 {
            put(&stream, step * 10..(step + 1) * 10);
            std::thread::yield_now();
        }
        while lag(&stream) > 0 {
            std::thread::yield_now();
        }
        stream.close().unwrap();
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (read, cut_count) = runtime.block_on(async {
        let (mut read, mut cut_count) = (vec![], 0);
        loop {
            let outcome = match select(worker.next(), pin!(tokio::task::yield_now())).await {
                Either::Left((outcome, _)) => outcome,
                Either::Right(_) => {
                    cut_count += 1;
                    continue;
                }
            };
            match outcome {
                Ok(batch) => {
                    read.extend(numbers(&batch));
                    worker.commit(&batch).unwrap();
                }
                Err(Error::Closed) => return (read, cut_count),
                Err(error) => panic!("{error}"),
            }
        }
    });
    writer.join().unwrap();
    assert!(cut_count > 0);
    assert_eq!(sorted(read), (0..1_000).collect::<Vec<_>>());
}

#[test]
fn tasks_that_run_where_they_are_woken_lock_nothing_up() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 2);
    let (read, ended) = (Arc::new(Mutex::new(vec![])), Arc::new(AtomicU64::new(0)));
    for _ in 0..4 {
        let (read, ended, stream) = (Arc::clone(&read), Arc::clone(&ended), stream.clone());
        let mut worker = worker(&stream);
        run_where_woken(async move {
            while let Ok(batch) = worker.next().await {
                read.lock().unwrap().extend(numbers(&batch));
                worker.commit(&batch).unwrap();
            }
            // Within the close that woke it.
            assert!(stream.is_closed());
            ended.fetch_add(1, Ordering::SeqCst);
        });
    }
    put(&stream, 0..100);
    for _ in 0..3 {
        let mut joined = worker(&stream);
        poll(&mut joined);
        joined.close();
    }
    stream.group(GROUP).reset(Position::TrimHorizon).unwrap();
    put(&stream, 100..110);
    stream.maintain().unwrap();
    stream.close().unwrap();
    let read: BTreeSet<u32> = read.lock().unwrap().iter().copied().collect();
    assert_eq!((read, ended.load(Ordering::SeqCst)), ((0..110).collect(), 4));
}

#[test]
fn a_task_that_maintenance_wakes_may_close_the_stream() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).durability(Durability::Power).open(scratch.path()).unwrap();
    put(&stream, 0..1);
    let mut silent = worker(&stream);
    poll(&mut silent).unwrap();
    let (mut second, closer) = (worker(&stream), stream.clone());
    run_where_woken(async move {
        second.next().await.unwrap();
        drop(second);
        closer.close().unwrap();
    });
    clock.advance(2 * MINUTE);
    let _ = stream.maintain();
    assert!(stream.is_closed());
}

#[test]
fn a_lease_ends_within_seconds_although_nobody_calls() {
    let scratch = common::scratch();
    // With threads and the system's clock.
    let stream = StreamOptions::new().open(scratch.path()).unwrap();
    put(&stream, 0..1);
    let options = stream.group(GROUP).worker().lease_timeout(Duration::from_millis(100));
    let mut silent = options.clone().open().unwrap();
    assert!(silent.poll(Duration::ZERO).unwrap().is_some());
    let mut second = options.open().unwrap();
    assert_eq!(numbers(&pollster::block_on(second.next()).unwrap()), [0]);
}

#[test]
fn p6_errors_are_returned_as_by_poll_and_the_worker_goes_on() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 0..5);
    let mut worker = worker(&stream);
    let shard = stream.shards()[0].id;
    stream.trim_before(shard, 3.into()).unwrap();
    assert!(matches!(pollster::block_on(worker.next()), Err(Error::Trimmed { .. })));
    assert_eq!(worker.skip_to_horizon(shard).unwrap(), 3);
    let batch: Result<Batch> = pollster::block_on(worker.next());
    assert_eq!(numbers(&batch.unwrap()), [3, 4]);
}

#[test]
fn a_thread_that_polls_is_woken_by_a_task_that_leaves() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 0..1);
    let (mut holder, mut waiting) = (worker(&stream), worker(&stream));
    assert!(next(&mut holder).is_some());
    std::thread::scope(|threads| {
        let thread = threads.spawn(|| waiting.poll(LONG).unwrap());
        threads.spawn(|| holder.close());
        assert_eq!(numbers(&thread.join().unwrap().expect("it has the shard")), [0]);
    });
}
