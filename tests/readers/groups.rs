//! Consumer groups in other processes than the one that has the stream open.

use std::time::Duration;

use streamlog::{Error, Position, Retention, SECOND, Stream, StreamOptions, StreamReader, Worker, extend};

use crate::common;

use common::{clock, small};

fn put(stream: &Stream, count: u64) {
    for number in 0..count {
        stream.put(number.to_le_bytes(), vec![7; 200]).unwrap();
    }
}

/// Handles all available records. Returns how many there were.
fn handle_all(worker: &mut Worker) -> usize {
    let mut count = 0;
    while let Some(batch) = worker.poll(Duration::ZERO).unwrap() {
        count += batch.len();
        worker.commit(&batch).unwrap();
    }
    count
}

fn lag(reader: &StreamReader) -> u64 {
    reader.group("billing").describe().unwrap().lag().record_count
}

#[test]
fn l1_a_group_in_another_process_goes_on_where_it_was_wherever_it_runs() {
    let scratch = common::scratch();
    let clock = clock();
    let stream = small(&clock).shards(2).open(scratch.path()).unwrap();
    let reader = StreamOptions::new().clock(clock.clone()).open_reader(scratch.path()).unwrap();
    put(&stream, 1_000);
    let mut worker = reader.group("billing").worker().open().unwrap();
    assert_eq!(stream.groups().unwrap(), ["billing"]);
    assert_eq!((lag(&stream), lag(&reader)), (1_000, 1_000));
    assert_eq!(handle_all(&mut worker), 1_000);
    assert_eq!((lag(&stream), lag(&reader)), (0, 0));

    // Another process cannot have it meanwhile.
    let other = StreamReader::open(scratch.path()).unwrap();
    for refused in [other.group("billing").worker().open(), stream.group("billing").worker().open()] {
        match refused {
            Err(Error::Locked(by)) => {
                assert!(by.path.ends_with("groups/billing"));
                assert_eq!(by.process_id, Some(std::process::id()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(stream.group("billing").delete(), Err(Error::Locked(_))));
    assert!(matches!(stream.group("billing").reset(Position::Latest), Err(Error::Locked(_))));

    // Splits and merges, a stream that is closed and opened again.
    stream.split_shard_evenly(stream.shards()[0].id).unwrap();
    put(&stream, 500);
    stream.close().unwrap();
    assert_eq!(handle_all(&mut worker), 500);
    let stream = small(&clock).open(scratch.path()).unwrap();
    put(&stream, 100);
    assert_eq!(handle_all(&mut worker), 100);
    put(&stream, 10);
    worker.close();

    let mut inside = stream.group("billing").worker().open().unwrap();
    assert_eq!(handle_all(&mut inside), 10);
    put(&stream, 20);
    inside.close();
    let mut outside = other.group("billing").worker().open().unwrap();
    assert_eq!(handle_all(&mut outside), 20);
    outside.close();
    other.group("billing").delete().unwrap();
    assert!(reader.groups().unwrap().is_empty());
}

#[test]
fn l1_a_worker_in_another_process_is_woken_by_a_put() {
    let scratch = common::scratch();
    let stream = small(&clock()).open(scratch.path()).unwrap();
    let reader = StreamReader::open(scratch.path()).unwrap();
    std::thread::scope(|threads| {
        let (ready, begun) = std::sync::mpsc::channel();
        let waiting = threads.spawn(move || {
            let mut worker = reader.group("billing").worker().open().unwrap();
            ready.send(()).unwrap();
            worker.poll(Duration::from_secs(60)).unwrap().map(|batch| batch.len())
        });
        begun.recv().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        put(&stream, 1);
        assert_eq!(waiting.join().unwrap(), Some(1));
    });
}

#[test]
fn p12_a_hold_counts_for_a_group_in_another_process() {
    let scratch = common::scratch();
    let clock = clock();
    let stream = small(&clock).retention(Retention::age(10 * SECOND)).open(scratch.path()).unwrap();
    let reader = StreamOptions::new().clock(clock.clone()).open_reader(scratch.path()).unwrap();
    let hold = extend::hold(&stream, "billing");
    hold.set(1 << 30).unwrap();
    assert!(matches!(extend::hold(&reader, "billing").set(1), Err(Error::InvalidArgument(_))));
    let refused = reader.group("billing").worker().hold(1 << 20).open();
    assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    let mut worker = reader.group("billing").worker().open().unwrap();
    let readable = |stream: &Stream| stream.stats().unwrap().record_count();
    let expire = || {
        clock.advance(20 * SECOND);
        stream.maintain().unwrap();
    };
    put(&stream, 1_000);
    expire();
    assert_eq!(readable(&stream), 1_000, "all of them are held");
    assert_eq!(handle_all(&mut worker), 1_000);
    put(&stream, 500);
    expire();
    assert_eq!(readable(&stream), 500, "what is handled is released");
    drop(worker);

    // Opened again: released records stay released, and records handled within count from then on.
    stream.close().unwrap();
    let stream = small(&clock).open(scratch.path()).unwrap();
    stream.maintain().unwrap();
    assert_eq!(readable(&stream), 500);
    let mut inside = stream.group("billing").worker().open().unwrap();
    assert_eq!(handle_all(&mut inside), 500);
    put(&stream, 100);
    clock.advance(20 * SECOND);
    stream.maintain().unwrap();
    assert_eq!(readable(&stream), 100);
    assert!(matches!(reader.group("billing").delete(), Err(Error::InvalidArgument(_))));
    inside.close();
    stream.group("billing").delete().unwrap();
    stream.maintain().unwrap();
    assert_eq!(readable(&stream), 0);
}
