//! The cargo feature `futures`: the batches of iterators and workers as `Stream`s of that crate, under four executors: P1, P4, P6.

use crate::common;

use std::collections::BTreeSet;
use std::task::{Poll, Waker};

use common::groups::{GROUP, numbers, open, poll, put, sorted, worker};
use common::tasks::{Count, executors, poll_once, run_all_on_this_thread};
use futures_util::{StreamExt, TryStreamExt, stream};
use streamlog::{
    Batch, Batches, Error, LineageIterator, MINUTE, Position, Result, ShardFilter, ShardId, ShardIterator,
    Stream, WorkerBatches,
};

const SHARD: ShardId = ShardId::new(0);

/// Polls the next batch once, and drops the future that waits for it, but not the stream.
fn next<S: futures_core::Stream<Item = Result<Batch>> + Unpin>(
    batches: &mut S,
    waker: &Waker,
) -> Poll<Option<Result<Batch>>> {
    poll_once(&mut batches.next(), waker)
}

/// Collects the numbers of all batches until the stream ends, and commits if there is a worker.
async fn collect<S: futures_core::Stream<Item = Result<Batch>> + Unpin>(
    mut batches: S,
    mut commit: impl FnMut(&mut S, &Batch),
) -> Vec<u32> {
    let mut read = vec![];
    while let Some(batch) = batches.try_next().await.unwrap() {
        assert!(!batch.is_empty() && batch.len() <= 10);
        read.extend(numbers(&batch));
        commit(&mut batches, &batch);
    }
    read
}

async fn all_of_shard(batches: Batches<ShardIterator>) -> Vec<u32> {
    collect(batches, |_, _| {}).await
}

async fn all_of_lineage(batches: Batches<LineageIterator>) -> Vec<u32> {
    collect(batches, |_, _| {}).await
}

async fn all_of_worker(batches: WorkerBatches) -> Vec<u32> {
    collect(batches, |batches, batch| batches.get_mut().commit(batch).unwrap()).await
}

/// Puts a thousand numbers while shards split, and closes the stream once the group, if there is one, has read them.
fn write(stream: Stream) {
    for step in 0..10 {
        put(&stream, step * 100..(step + 1) * 100);
        if step % 3 == 1 {
            let open = stream.list_shards(ShardFilter::AtLatest);
            stream.split_shard_evenly(open[0].id).unwrap();
        }
    }
    while !stream.groups().unwrap().is_empty()
        && stream.group(GROUP).describe().unwrap().lag().record_count > 0
    {
        std::thread::yield_now();
    }
    stream.close().unwrap();
}

#[test]
fn p6_a_lineage_is_a_stream_of_all_records_under_each_executor() {
    for (name, run) in executors() {
        let (scratch, clock) = (common::scratch(), common::clock());
        let stream = open(scratch.path(), &clock, 2);
        let batches = stream.lineage_iterator(Position::TrimHorizon).unwrap().into_batches(10);
        let writer = std::thread::spawn(move || write(stream));
        assert_eq!(sorted(run(all_of_lineage(batches))), (0..1_000).collect::<Vec<_>>(), "P6: {name}");
        writer.join().unwrap();
    }
}

#[test]
fn p6_a_worker_is_a_stream_of_all_records_under_each_executor() {
    for (name, run) in executors() {
        let (scratch, clock) = (common::scratch(), common::clock());
        let stream = open(scratch.path(), &clock, 2);
        let batches = stream.group(GROUP).worker().batch_records(10).open().unwrap().into_batches();
        let writer = std::thread::spawn(move || write(stream));
        assert_eq!(sorted(run(all_of_worker(batches))), (0..1_000).collect::<Vec<_>>(), "P6: {name}");
        writer.join().unwrap();
    }
}

#[test]
fn p6_a_shard_is_a_stream_that_ends_with_it_under_each_executor() {
    for (name, run) in executors() {
        let (scratch, clock) = (common::scratch(), common::clock());
        let stream = open(scratch.path(), &clock, 1);
        let batches = stream.iterator(SHARD, Position::TrimHorizon).unwrap().into_batches(10);
        let writer = std::thread::spawn(move || {
            put(&stream, 0..500);
            std::thread::yield_now();
            stream.split_shard_evenly(SHARD).unwrap();
            put(&stream, 500..600);
            stream
        });
        assert_eq!(run(all_of_shard(batches)), (0..500).collect::<Vec<_>>(), "P6: {name}");
        writer.join().unwrap();
    }
}

#[test]
fn p1_ten_thousand_streams_wait_on_one_thread() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let tasks: Vec<_> = (0..10_000)
        .map(|_| {
            let mut batches = stream.iterator(SHARD, Position::Latest).unwrap().into_batches(10);
            async move { numbers(&batches.try_next().await.unwrap().unwrap()) }
        })
        .collect();
    let read = run_all_on_this_thread(tasks, || put(&stream, 7..8));
    assert_eq!(read, vec![[7]; 10_000]);
}

#[test]
fn p6_streams_of_several_workers_are_merged() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 4);
    put(&stream, 0..100);
    let workers = (0..3).map(|_| worker(&stream).into_batches());
    let merged = stream::select_all(workers);
    stream.close().unwrap();
    let read: Vec<u32> = pollster::block_on(merged.map_ok(|batch| numbers(&batch)).try_concat()).unwrap();
    // No one commits. A worker whose stream ends is dropped, and another one gets its records again.
    assert_eq!(BTreeSet::from_iter(read), (0..100).collect());
}

#[test]
fn p6_an_error_ends_a_stream_unless_the_caller_goes_on() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    put(&stream, 0..5);
    let trimmed =
        |next: Poll<Option<Result<Batch>>>| matches!(next, Poll::Ready(Some(Err(Error::Trimmed { .. }))));
    let ended = |next: Poll<Option<Result<Batch>>>| matches!(next, Poll::Ready(None));
    let waker = Waker::noop();

    let mut shard = stream.iterator(SHARD, Position::TrimHorizon).unwrap().into_batches(2);
    let mut lineage = stream.lineage_iterator(Position::TrimHorizon).unwrap().into_batches(2);
    let mut worker = stream.group(GROUP).worker().batch_records(2).open().unwrap().into_batches();
    stream.trim_before(SHARD, 3.into()).unwrap();
    assert!(trimmed(next(&mut shard, waker)) && trimmed(next(&mut lineage, waker)));
    assert!(trimmed(next(&mut worker, waker)));
    assert!(ended(next(&mut shard, waker)) && ended(next(&mut lineage, waker)), "a loop ends");
    assert!(ended(next(&mut worker, waker)));
    assert!(trimmed(next(&mut shard, waker)) && trimmed(next(&mut lineage, waker)), "it has skipped nothing");
    assert!(trimmed(next(&mut worker, waker)));

    assert_eq!(shard.get_mut().skip_to_horizon(), 3);
    assert_eq!(lineage.get_mut().skip_to_horizon(), 3);
    assert_eq!(worker.get_mut().skip_to_horizon(SHARD).unwrap(), 3);
    let read = |next: Poll<Option<Result<Batch>>>| match next {
        Poll::Ready(Some(Ok(batch))) => numbers(&batch),
        other => panic!("{other:?}"),
    };
    assert_eq!(read(next(&mut shard, waker)), [3, 4]);
    assert_eq!(read(next(&mut lineage, waker)), [3, 4]);
    assert_eq!(read(next(&mut worker, waker)), [3, 4]);
    assert!(next(&mut shard, waker).is_pending() && next(&mut lineage, waker).is_pending());
    assert!(next(&mut worker, waker).is_pending());
    stream.close().unwrap();
    for _ in 0..2 {
        assert!(ended(next(&mut shard, waker)) && ended(next(&mut lineage, waker)), "it stays at its end");
        assert!(ended(next(&mut worker, waker)));
    }
}

#[test]
fn p6_a_stream_that_is_dropped_or_stopped_leaves_nothing_behind() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 2);
    let (count, waker) = Count::new();
    let mut shard = stream.iterator(SHARD, Position::Latest).unwrap().into_batches(0);
    let mut lineage = stream.lineage_iterator(Position::Latest).unwrap().into_batches(10);
    let mut worker = worker(&stream).into_batches();
    assert!(next(&mut shard, &waker).is_pending() && next(&mut shard, &waker).is_pending());
    assert_eq!(count.holders(), 1);
    assert!(next(&mut lineage, &waker).is_pending() && next(&mut worker, &waker).is_pending());
    assert!(count.holders() > 2);
    let iterator = shard.into_inner();
    drop(lineage);
    let mut worker = worker.into_inner();
    assert_eq!(count.holders(), 0);
    put(&stream, 0..100);
    assert_eq!(count.get(), 0);
    assert!(poll(&mut worker).is_some(), "P6: nothing was taken");

    // A call after the wake returns what the task would have returned.
    let mut shard = iterator.into_batches(0);
    let Poll::Ready(Some(Ok(batch))) = next(&mut shard, &waker) else { panic!("there are records") };
    assert_eq!(batch.len(), 1, "no batch is empty, whatever the caller asks for");
    assert_eq!(count.holders(), 0);
}

#[test]
fn a_worker_is_alive_as_long_as_its_stream_waits() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let mut batches = worker(&stream).into_batches();
    let worker_count = || stream.group(GROUP).describe().unwrap().worker_count;
    for _ in 0..2 {
        assert!(next(&mut batches, Waker::noop()).is_pending());
        clock.advance(10 * MINUTE);
        assert_eq!(worker_count(), 1, "it waits");
        batches.get_mut();
        clock.advance(2 * MINUTE);
        assert_eq!(worker_count(), 0, "it does something else");
    }
}

#[test]
fn a_lineage_that_goes_on_waits_only_where_records_can_come() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let mut batches = stream.lineage_iterator(Position::Latest).unwrap().into_batches(10);
    let (count, waker) = Count::new();
    for round in 1..=20u32 {
        assert!(next(&mut batches, &waker).is_pending());
        assert_eq!(count.holders(), 1);
        let open = stream.list_shards(ShardFilter::AtLatest);
        match round % 2 {
            1 => drop(stream.split_shard_evenly(open[0].id).unwrap()),
            _ => {
                let mut open = open;
                open.sort_by_key(|shard| shard.hash_key_range.start);
                stream.merge_shards(open[0].id, open[1].id).unwrap();
            }
        }
        assert!(count.get() >= u64::from(round), "the end of a shard wakes it");
    }
    assert!(next(&mut batches, &waker).is_pending());
    let woken = count.get();
    put(&stream, 3..4);
    assert_eq!(count.get(), woken + 1);
    let Poll::Ready(Some(Ok(batch))) = next(&mut batches, &waker) else { panic!("a record was put") };
    assert_eq!((numbers(&batch), count.holders()), (vec![3], 0));
}
