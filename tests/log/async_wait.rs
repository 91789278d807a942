//! Waiting as a task: futures work under any executor, miss no wake, and leave nothing behind: P1, P6.

use crate::common;

use std::collections::BTreeSet;
use std::pin::pin;
use std::task::{Context, Poll};

use common::tasks::{Count, LONG, executors, run_all_on_this_thread};
use streamlog::{
    Durability, Error, Position, Receipt, Result, ShardFilter, ShardId, ShardIterator, Stream, any_readable,
};

const SHARD: ShardId = ShardId::new(0);

fn open(shards: u32) -> (tempfile::TempDir, Stream) {
    let scratch = common::scratch();
    let stream = common::small(&common::clock()).shards(shards).open(scratch.path()).unwrap();
    (scratch, stream)
}

fn latest(stream: &Stream) -> Vec<ShardIterator> {
    let shards = stream.list_shards(ShardFilter::AtLatest).into_iter();
    shards.map(|shard| stream.iterator(shard.id, Position::Latest).unwrap()).collect()
}

/// Reads a shard in the background until the stream is closed, and returns the records.
async fn read_all(mut iterator: ShardIterator) -> Vec<u64> {
    let mut read = vec![];
    loop {
        match iterator.readable().await {
            Ok(()) => {}
            Err(Error::Closed) => return read,
            Err(error) => panic!("{error}"),
        }
        let batch = iterator.next_batch(100).unwrap();
        read.extend(batch.iter().map(|record| u64::from_le_bytes(*record.data().first_chunk().unwrap())));
    }
}

fn writes_and_closes(stream: Stream) {
    for number in 0u64..2_000 {
        stream.put("key", number.to_le_bytes()).unwrap();
        if number.is_multiple_of(100) {
            std::thread::yield_now();
        }
    }
    stream.close().unwrap();
}

#[test]
fn p6_a_task_reads_everything_under_each_executor() {
    for (name, run) in executors() {
        let (_scratch, stream) = open(1);
        let iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
        let writer = std::thread::spawn(move || writes_and_closes(stream));
        assert_eq!(run(read_all(iterator)), (0..2_000).collect::<Vec<_>>(), "P6: {name}");
        writer.join().unwrap();
    }
}

#[test]
fn p1_ten_thousand_tasks_wait_on_one_thread() {
    const TASK_COUNT: usize = 10_000;
    let (_scratch, stream) = open(4);
    // Each waits for all shards.
    let tasks: Vec<_> = (0..TASK_COUNT)
        .map(|_| {
            let iterators = latest(&stream);
            async move {
                let ready = any_readable(&iterators).await.unwrap();
                iterators[ready].shard()
            }
        })
        .collect();
    let mut put = None;
    let woken = run_all_on_this_thread(tasks, || put = Some(stream.put("key", "data").unwrap().shard));
    assert_eq!(woken, vec![put.unwrap(); TASK_COUNT]);
}

#[test]
fn a_future_that_is_dropped_is_not_woken() {
    let (_scratch, stream) = open(2);
    let iterators = latest(&stream);
    let (count, waker) = Count::new();
    let mut context = Context::from_waker(&waker);
    {
        let mut waiting = pin!(any_readable(&iterators));
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        assert!(waiting.as_mut().poll(&mut context).is_pending(), "it may be polled again");
    }
    assert_eq!(count.holders(), 0, "the future has left nothing behind");
    stream.put("key", "data").unwrap();
    assert_eq!(count.get(), 0);

    let mut waiting = pin!(any_readable(&iterators));
    let Poll::Ready(Ok(ready)) = waiting.as_mut().poll(&mut context) else { panic!("there is a record") };
    let mut iterator = stream.iterator(iterators[ready].shard(), Position::Latest).unwrap();
    {
        let mut waiting = pin!(iterator.readable());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        stream.put("key", "data").unwrap();
        assert_eq!(count.get(), 1, "P1: one put, one wake");
        assert!(matches!(waiting.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
    }
    assert_eq!(iterator.next_batch(10).unwrap().len(), 1);
}

#[test]
fn p1_tasks_are_woken_by_a_close_and_by_the_end_of_a_shard() {
    let (_scratch, stream) = open(1);
    let iterator = stream.iterator(SHARD, Position::Latest).unwrap();
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| pollster::block_on(iterator.readable()));
        stream.split_shard_evenly(SHARD).unwrap();
        assert!(waiting.join().unwrap().is_ok(), "the shard has ended");
    });
    let iterators = latest(&stream);
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| pollster::block_on(any_readable(&iterators)));
        stream.clone().close().unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Closed)));
    });
    assert!(matches!(pollster::block_on(any_readable([])), Err(Error::Closed)), "nothing can come");
}

#[test]
fn p6_a_lineage_is_read_across_splits() {
    let (_scratch, stream) = open(1);
    let mut iterator = stream.lineage_iterator(Position::TrimHorizon).unwrap();
    let writer = std::thread::spawn(move || {
        for number in 0u64..300 {
            stream.put(number.to_le_bytes(), "data").unwrap();
            if number % 100 == 50 {
                let open = stream.list_shards(ShardFilter::AtLatest);
                stream.split_shard_evenly(open[0].id).unwrap();
            }
        }
        stream.close().unwrap();
    });
    let count = pollster::block_on(async {
        let mut count = 0;
        while iterator.readable().await.is_ok() {
            count += iterator.next_batch(10).unwrap().len();
        }
        count
    });
    writer.join().unwrap();
    assert_eq!(count, 300);
}

#[test]
fn receipts_are_awaited_by_many_tasks() {
    for durability in [Durability::Process, Durability::Power] {
        let scratch = common::scratch();
        let stream =
            common::small(&common::clock()).shards(2).durability(durability).open(scratch.path()).unwrap();
        let producer = stream.producer().senders(2).start().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let receipts = runtime.block_on(async {
            let tasks: Vec<_> = (0u64..2_000)
                .map(|number| {
                    let producer = producer.clone();
                    tokio::spawn(async move {
                        let pending = producer.put(number.to_le_bytes(), "data")?;
                        let again = pending.clone();
                        let receipt = pending.await?;
                        assert_eq!(again.await?, receipt, "a clone has the same outcome");
                        Ok(receipt)
                    })
                })
                .collect();
            let mut receipts: Vec<Result<Receipt>> = vec![];
            for task in tasks {
                receipts.push(task.await.unwrap());
            }
            receipts
        });
        let mut places: Vec<_> =
            receipts.into_iter().map(|receipt| receipt.unwrap()).map(|it| (it.shard, it.sequence)).collect();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), 2_000, "each record has a place of its own");
        producer.close().unwrap();
    }
}

#[test]
fn p2_ten_thousand_durable_puts_are_awaited_on_one_thread() {
    const PUT_COUNT: u64 = 10_000;
    let scratch = common::scratch();
    let options = common::small(&common::clock()).shards(4).durability(Durability::Power);
    let stream = options.open(scratch.path()).unwrap();
    // Nothing is written before all of them wait.
    let producer = stream.producer().linger(LONG).batch_count(20_000).batch_bytes(8 << 20).start().unwrap();
    let tasks = (0..PUT_COUNT).map(|number| {
        let (producer, stream) = (producer.clone(), stream.clone());
        async move {
            let receipt = producer.try_put(number.to_le_bytes(), "data")?.await?;
            let shards = stream.stats()?.shards;
            let of_shard = shards.iter().find(|shard| shard.shard == receipt.shard).unwrap();
            assert!(receipt.sequence < of_shard.synced_sequence, "P2: {receipt:?} of {of_shard:?}");
            Ok((receipt.shard, receipt.sequence))
        }
    });
    let flusher = producer.clone();
    let places = run_all_on_this_thread(tasks, || {
        assert_eq!(stream.stats().unwrap().record_count(), 0, "all of them wait");
        std::thread::spawn(move || flusher.flush().unwrap());
    });
    let places: BTreeSet<_> = places.into_iter().collect::<Result<_>>().unwrap();
    assert_eq!(places.len() as u64, PUT_COUNT, "each record has a place of its own");
    producer.close().unwrap();
}

#[test]
fn ten_thousand_receipts_that_are_no_longer_awaited_leave_nothing_behind() {
    let (_scratch, stream) = open(1);
    let producer = stream.producer().linger(LONG).batch_count(20_000).batch_bytes(8 << 20).start().unwrap();
    let (count, waker) = Count::new();
    let mut context = Context::from_waker(&waker);
    let mut waiting: Vec<_> =
        (0..10_000).map(|_| Box::pin(producer.try_put("key", "data").unwrap())).collect();
    assert!(waiting.iter_mut().all(|pending| pending.as_mut().poll(&mut context).is_pending()));
    assert_eq!(count.holders(), 10_000);
    let kept = waiting.split_off(9_000);
    // From the middle, the end and the beginning.
    waiting.drain(3_000..6_000).for_each(drop);
    waiting.into_iter().rev().for_each(drop);
    assert_eq!(count.holders(), 1_000);
    producer.flush().unwrap();
    assert_eq!((count.get(), count.holders()), (1_000, 0));
    assert!(kept.into_iter().all(|mut pending| pending.as_mut().poll(&mut context).is_ready()));
    producer.close().unwrap();
}

#[test]
fn a_receipt_that_is_no_longer_awaited_leaves_nothing_behind() {
    let (_scratch, stream) = open(1);
    // It lingers until it is flushed.
    let producer = stream.producer().linger(LONG).start().unwrap();
    let (count, waker) = Count::new();
    let mut context = Context::from_waker(&waker);
    let kept = producer.put("key", "data").unwrap();
    let mut awaited = Box::pin(kept.clone());
    {
        let mut dropped = pin!(kept.clone());
        assert!(dropped.as_mut().poll(&mut context).is_pending());
        assert!(awaited.as_mut().poll(&mut context).is_pending());
        assert!(awaited.as_mut().poll(&mut context).is_pending(), "it may be polled again");
        assert_eq!(count.holders(), 2);
    }
    assert_eq!(count.holders(), 1, "the one that was dropped has left nothing behind");
    producer.flush().unwrap();
    kept.wait().unwrap();
    assert_eq!(count.get(), 1);
    assert!(awaited.as_mut().poll(&mut context).is_ready());
    producer.close().unwrap();
}
