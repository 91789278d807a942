//! A forked child of a process with an open stream: it is refused, and its parent loses nothing. P1, P13.
#![cfg(unix)]
#![allow(unsafe_code)]

mod common;

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use common::waiting::eventually;
use streamlog::{
    Error, Limits, Maintenance, MaintenancePool, Position, ProcessorOptions, PutRecord, Result, Retention,
    ShardId, Store, Stream, StreamOptions, StreamReader, extend,
};

// SAFETY: these are the declarations of POSIX.
unsafe extern "C" {
    fn fork() -> c_int;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
}

/// Runs `work` in a child, and fails the test if it panics there. The child ends without running the exit handlers of the test program.
#[track_caller]
fn in_child(work: impl FnOnce()) {
    // SAFETY: the child runs nothing but `work`, which needs no thread but this one, and ends.
    let child = unsafe { fork() };
    assert!(child >= 0, "a child");
    if child == 0 {
        let status = c_int::from(catch_unwind(AssertUnwindSafe(work)).is_err());
        // SAFETY: it takes any number.
        unsafe { _exit(status) };
    }
    let mut status = 0;
    // SAFETY: the status is a place for one number.
    let ended = unsafe { waitpid(child, &raw mut status, 0) };
    assert_eq!((ended, status), (child, 0), "the child has failed: see its message");
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(outcome: Result<T>) {
    match outcome {
        Err(Error::InvalidArgument(reason)) => assert!(reason.contains("fork"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

fn numbers(stream: &Stream) -> Vec<u8> {
    common::read_all(stream, ShardId::new(0)).into_iter().map(|(_, data)| data[0]).collect()
}

#[test]
fn p13_a_child_made_by_fork_opens_nothing_with_the_pool_of_its_parent_and_can_drop_it() {
    let scratch = common::scratch();
    let pool = MaintenancePool::new().unwrap();
    let store = Store::open(scratch.path(), StreamOptions::new()).unwrap();
    in_child(|| {
        assert_refused(pool.open(scratch.path().join("child"), StreamOptions::new()));
        assert_refused(store.create("child", StreamOptions::new()));
        // SAFETY: the child ends without using or dropping the originals, so each is dropped once.
        drop(unsafe { (std::ptr::read(&raw const pool), std::ptr::read(&raw const store)) });
    });
    store.create("parent", StreamOptions::new()).unwrap().put("key", "data").unwrap();
    drop(pool);
}

#[test]
fn p1_p13_a_child_made_by_fork_changes_nothing_and_its_parent_goes_on() {
    for maintenance in [Maintenance::Thread, Maintenance::Manual] {
        let scratch = common::scratch();
        let options = StreamOptions::new().segment_bytes(64 << 10).maintenance(maintenance);
        let stream = options.clone().open(scratch.path()).unwrap();
        let producer = stream.producer().start().unwrap();
        stream.register_consumer("dashboard").unwrap();
        let subscribe = |stream: &Stream| stream.subscribe("dashboard", ShardId::new(0), Position::Latest);
        let pushed = subscribe(&stream).for_each(drop).unwrap();
        for number in 0..10 {
            stream.put("key", vec![number; 10_000]).unwrap();
        }
        let queue = stream.queue("jobs").open().unwrap();
        let record = queue.receive(1, Duration::ZERO).unwrap().remove(0);
        let mut ours = Some((producer, pushed, stream, queue));
        in_child(|| {
            let (producer, pushed, stream, queue) = ours.take().unwrap();
            assert_refused(stream.queue("children").open());
            assert_refused(queue.receive(1, Duration::ZERO));
            assert_refused(queue.receive(1, Duration::from_secs(60)));
            assert_refused(queue.acknowledge(&record.handle));
            assert_refused(queue.put("id", &PutRecord::new("key", "a child's")));
            assert_refused(queue.describe());
            assert_refused(stream.delete_queue("jobs"));
            drop(queue);
            assert_refused(stream.put("key", "a child's"));
            assert_refused(stream.put_batch(&[]));
            assert_refused(stream.sync());
            assert_refused(stream.maintain());
            assert_refused(stream.split_shard_evenly(ShardId::new(0)));
            assert_refused(stream.trim_before(ShardId::new(0), 5.into()));
            assert_refused(stream.set_retention(Retention::forever()));
            assert_refused(stream.set_limits(Limits::kinesis()));
            assert_refused(stream.register_consumer("audit"));
            assert_refused(stream.deregister_consumer("dashboard"));
            assert_refused(subscribe(&stream).open());
            drop(pushed);
            assert_refused(extend::hold(&stream, "a child's").set(1));
            assert_refused(producer.put("key", "a child's"));
            assert_refused(producer.flush());
            assert_refused(producer.clone().close());
            drop(producer);
            assert_refused(stream.clone().close());
            drop(stream);
        });
        let (producer, pushed, stream, queue) = ours.take().unwrap();
        queue.acknowledge(&record.handle).unwrap();
        assert_eq!(queue.describe().unwrap().unread.record_count, 9);
        assert!(matches!(stream.queue("jobs").open(), Err(Error::Locked(_))), "P13: it is still locked");
        drop(queue);
        assert!(!pushed.is_over());
        pushed.close().unwrap();
        assert!(matches!(Stream::open(scratch.path()), Err(Error::Locked(_))), "P13: it is still locked");
        for number in 10..20 {
            stream.put("key", vec![number; 10_000]).unwrap();
        }
        assert_eq!(producer.put("key", [20]).unwrap().wait().unwrap().sequence, 20.into());
        stream.sync().unwrap();
        assert_eq!(numbers(&stream), (0..=20).collect::<Vec<_>>());
        producer.close().unwrap();
        stream.close().unwrap();
        assert_eq!(numbers(&options.open(scratch.path()).unwrap()), (0..=20).collect::<Vec<_>>());
    }
}

#[test]
fn l8_a_child_made_by_fork_opens_its_own_reader() {
    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    stream.put("key", [1]).unwrap();
    let reader = StreamReader::open(scratch.path()).unwrap();
    let mut iterator = reader.iterator(ShardId::new(0), Position::TrimHorizon).unwrap();
    in_child(|| {
        assert_refused(iterator.next_batch(10));
        assert_refused(reader.iterator(ShardId::new(0), Position::TrimHorizon));
        assert_refused(reader.stats());
        let own = StreamReader::open(scratch.path()).unwrap();
        let mut iterator = own.iterator(ShardId::new(0), Position::TrimHorizon).unwrap();
        assert_eq!(iterator.next_batch(10).unwrap().len(), 1);
        assert!(!iterator.wait(Duration::from_millis(5)).unwrap());
    });
    assert_eq!(iterator.next_batch(10).unwrap().len(), 1);
}

#[test]
fn p13_a_child_made_by_fork_leaves_a_processor_to_its_parent() {
    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    let reader = StreamReader::open(scratch.path()).unwrap();
    let start = |options: ProcessorOptions| options.start(|_| Ok::<_, Error>(())).unwrap();
    let mut processors = Some([start(stream.processor("inside")), start(reader.processor("outside"))]);
    in_child(|| {
        let [inside, outside] = processors.take().unwrap();
        for reader in [&stream, &reader] {
            assert_refused(reader.group("child").worker().open());
            assert_refused(reader.processor("child").start(|_| Ok::<_, Error>(())));
        }
        drop(inside);
        outside.close().unwrap();
    });
    stream.put("key", [1]).unwrap();
    for processor in processors.take().unwrap() {
        eventually(|| processor.stats().records == 1);
        processor.close().unwrap();
    }
}

#[cfg(feature = "delivery")]
#[test]
fn l1_l2_a_child_made_by_fork_leaves_a_delivery_to_its_parent() {
    use streamlog::delivery::{Delivery, Directory, Format};

    let scratch = common::scratch();
    let stream = Stream::open(scratch.path().join("stream")).unwrap();
    let output = Stream::open(scratch.path().join("output")).unwrap();
    let reader = StreamReader::open(scratch.path().join("stream")).unwrap();
    let [inside, outside, errors] = ["inside", "outside", "errors"].map(|name| scratch.path().join(name));
    let start = |reader: &StreamReader, name: &str| reader.delivery(name).format(Format::lines());
    let started = [
        start(&stream, "inside").to(Directory::new(&inside)).start().unwrap(),
        start(&reader, "outside").to(Directory::new(&outside)).start().unwrap(),
        start(&stream, "output").to_stream(&output).errors_to(Directory::new(&errors)).start().unwrap(),
    ];
    // They are read, and wait for more.
    stream.put("key", [b'1']).unwrap();
    started.iter().for_each(|delivery| eventually(|| delivery.stats().read_records == 1));
    let is_untouched = || {
        let is_behind = |name| stream.group(name).describe().unwrap().lag().record_count == 1;
        assert!(["inside", "outside", "output"].into_iter().all(is_behind), "nothing is committed");
        assert!(!inside.exists() && !outside.exists(), "nothing is delivered");
        assert_eq!(numbers(&output), [0u8; 0], "nothing is put");
    };
    let mut ours = Some(started);
    in_child(|| {
        let begun = std::time::Instant::now();
        let [first, second, third]: [Delivery; 3] = ours.take().unwrap();
        assert!(!first.flush(Duration::from_secs(60)) && !second.flush(Duration::from_secs(60)));
        assert_refused(stream.delivery("child").to(Directory::new(&inside)).start());
        assert_refused(reader.delivery("child").to(Directory::new(&inside)).start());
        drop(first);
        second.close().unwrap();
        drop(third);
        assert!(begun.elapsed() < Duration::from_secs(10), "it waits for nothing");
    });
    is_untouched();
    for delivery in ours.take().unwrap() {
        assert!(!delivery.is_over());
        stream.put("key", [b'2']).unwrap();
        assert!(delivery.flush(Duration::from_secs(30)));
        delivery.close().unwrap();
    }
    assert_eq!(numbers(&output), b"1222");
    assert!(inside.exists() && outside.exists() && !errors.exists());
}

#[test]
fn a_child_made_by_fork_uses_streams_that_it_opens_itself() {
    let scratch = common::scratch();
    let ours = Stream::open(scratch.path().join("ours")).unwrap();
    let parent = std::process::id();
    in_child(|| {
        match Stream::open(scratch.path().join("ours")) {
            Err(Error::Locked(by)) => assert_eq!((by.process_id, by.is_this_process), (Some(parent), false)),
            other => panic!("{other:?}"),
        }
        let stream = Stream::open(scratch.path().join("its")).unwrap();
        stream.put("key", [1]).unwrap();
        in_child(|| assert_refused(stream.put("key", "a grandchild's")));
        stream.put("key", [2]).unwrap();
        stream.close().unwrap();
    });
    assert_eq!(numbers(&Stream::open(scratch.path().join("its")).unwrap()), [1, 2]);
    ours.close().unwrap();
}
