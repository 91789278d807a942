//! Calls from inside callbacks: whatever they do with a stream or a producer, nothing waits forever, and a stream that
//! they close is closed. P13.

use crate::common;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use streamlog::{Error, Maintenance, PutRecord, Result, Stream, StreamOptions, extend};

/// The timeout for expected events. Only a failure takes this long.
const LONG: Duration = Duration::from_secs(60);

/// A slot from which a report takes a value that a test has put there.
type Slot<T> = Arc<Mutex<Option<T>>>;

/// Opens a stream whose report takes what the test puts into the slot and runs `work` on it.
fn reporting<T: Send + 'static>(
    options: StreamOptions,
    path: &Path,
    work: impl Fn(T) + Send + Sync + 'static,
) -> (Stream, Slot<T>) {
    let slot: Slot<T> = Arc::default();
    let place = Arc::clone(&slot);
    let options = options.report_stats(move |_, _| {
        // The lock is held on purpose, as careless code would hold it: a report called from within itself would wait for it.
        let mut taken = place.lock().unwrap();
        if let Some(value) = taken.take() {
            work(value);
        }
    });
    (options.open(path).unwrap(), slot)
}

/// Returns two ends of a channel, of which the first can be shared.
fn shared_channel<T>() -> (Mutex<Sender<T>>, Receiver<T>) {
    let (sender, receiver) = channel();
    (Mutex::new(sender), receiver)
}

fn put_and_close(path: &Path) {
    let stream = Stream::open(path).expect("P13: the stream is free");
    stream.put("key", "data").unwrap();
    stream.close().unwrap();
}

#[test]
fn p13_a_stream_that_is_closed_within_its_report_is_closed() {
    for maintenance in [Maintenance::Thread, Maintenance::Manual] {
        let scratch = common::scratch();
        let (told, outcome) = shared_channel();
        let options = StreamOptions::new().maintenance(maintenance);
        let (stream, slot) = reporting(options, scratch.path(), move |stream: Stream| {
            told.lock().unwrap().send(stream.close()).unwrap();
        });
        *slot.lock().unwrap() = Some(stream.clone());
        if maintenance == Maintenance::Manual {
            stream.maintain().unwrap();
        }
        outcome.recv_timeout(LONG).expect("the close returns").unwrap();
        assert!(matches!(stream.put("key", "data"), Err(Error::Closed)), "{maintenance:?}");
        put_and_close(scratch.path());
        stream.close().unwrap();
    }
}

#[test]
fn p13_a_stream_whose_last_clone_is_dropped_within_its_report_is_closed() {
    let scratch = common::scratch();
    let (told, outcome) = shared_channel();
    let (stream, slot) = reporting(StreamOptions::new(), scratch.path(), move |stream: Stream| {
        drop(stream);
        told.lock().unwrap().send(()).unwrap();
    });
    stream.put("key", "data").unwrap();
    *slot.lock().unwrap() = Some(stream);
    outcome.recv_timeout(LONG).expect("the drop returns");
    put_and_close(scratch.path());
}

#[test]
fn p13_a_report_and_another_thread_may_close_a_stream_at_the_same_time() {
    for _ in 0..3 {
        let scratch = common::scratch();
        let (told, outcome) = shared_channel();
        let (here, is_here) = shared_channel();
        let (stream, slot) = reporting(StreamOptions::new(), scratch.path(), move |stream: Stream| {
            here.lock().unwrap().send(()).unwrap();
            told.lock().unwrap().send(stream.close()).unwrap();
        });
        *slot.lock().unwrap() = Some(stream.clone());
        is_here.recv_timeout(LONG).unwrap();
        let (sender, closed) = channel();
        thread::spawn(move || sender.send(stream.close()));
        closed.recv_timeout(LONG).expect("nobody waits forever").unwrap();
        outcome.recv_timeout(LONG).expect("nobody waits forever").unwrap();
        put_and_close(scratch.path());
    }
}

#[test]
fn p13_a_close_returns_after_the_close_of_another_thread_that_came_first() {
    let scratch = common::scratch();
    let (told, first_is_closing) = shared_channel();
    let (returned, second_has_returned) = channel();
    let second_has_returned = Mutex::new(second_has_returned);
    let options = StreamOptions::new().maintenance(Maintenance::Manual);
    let stream = options
        .report_stats(move |_, _| {
            told.lock().unwrap().send(()).unwrap();
            // Only a premature return could happen within this time.
            let early = second_has_returned.lock().unwrap().recv_timeout(Duration::from_millis(200));
            assert!(early.is_err(), "it has returned before the stream was closed");
        })
        .open(scratch.path())
        .unwrap();
    let first = stream.clone();
    let first = thread::spawn(move || first.close());
    first_is_closing.recv_timeout(LONG).unwrap();
    let path = scratch.path().to_owned();
    let second = thread::spawn(move || {
        stream.close().unwrap();
        let reopened = Stream::open(path).map(drop);
        let _ = returned.send(());
        reopened
    });
    first.join().unwrap().unwrap();
    second.join().unwrap().expect("P13: the stream is free");
}

#[test]
fn a_pass_within_a_report_reports_no_more() {
    let scratch = common::scratch();
    let count = Arc::new(AtomicUsize::new(0));
    let slot: Slot<Stream> = Arc::default();
    let options = StreamOptions::new().maintenance(Maintenance::Manual).report_stats({
        let (count, slot) = (Arc::clone(&count), Arc::clone(&slot));
        move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            let stream = slot.lock().unwrap().clone();
            stream.map_or(Ok(()), |stream| stream.maintain()).unwrap();
        }
    });
    let stream = options.open(scratch.path()).unwrap();
    *slot.lock().unwrap() = Some(stream.clone());
    stream.maintain().unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 1);
    *slot.lock().unwrap() = None;
    stream.close().unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn p13_the_report_of_a_companion_may_use_and_close_the_main_stream() {
    let scratch = common::scratch();
    let (told, outcome) = shared_channel();
    let stream = Stream::open(scratch.path().join("main")).unwrap();
    let options = StreamOptions::new().maintenance(Maintenance::Manual);
    let (audit, slot) = reporting(options, &scratch.path().join("audit"), move |stream: Stream| {
        let synced = stream.sync();
        extend::remove_companion(&stream, &stream.clone());
        told.lock().unwrap().send(synced.and_then(|()| stream.close())).unwrap();
    });
    extend::add_companion(&stream, audit.clone()).unwrap();
    *slot.lock().unwrap() = Some(stream.clone());
    outcome.recv_timeout(LONG).expect("nobody waits forever").unwrap();
    assert!(stream.is_closed() && audit.is_closed());
    put_and_close(&scratch.path().join("main"));
    put_and_close(&scratch.path().join("audit"));
}

/// Puts one record whose callback runs `work` on the stream. Returns its outcome once the callback has returned.
fn within_a_callback<T: Send + 'static>(path: &Path, work: impl FnOnce(Stream) -> T + Send + 'static) -> T {
    let stream = Stream::open(path).unwrap();
    let producer = stream.producer().start().unwrap();
    let (told, outcome) = channel();
    producer
        .put_then(&PutRecord::new("key", "data"), move |receipt| {
            receipt.unwrap();
            told.send(work(stream)).unwrap();
        })
        .unwrap();
    let outcome = outcome.recv_timeout(LONG).expect("nobody waits forever");
    drop(producer);
    outcome
}

#[test]
fn p13_a_stream_may_be_closed_within_the_callback_of_a_put() {
    let scratch = common::scratch();
    within_a_callback(scratch.path(), Stream::close).unwrap();
    put_and_close(scratch.path());
}

#[test]
fn p13_a_stream_and_its_producer_may_be_dropped_within_the_callback_of_a_put() {
    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    let producer = stream.producer().linger(Duration::from_secs(3_600)).start().unwrap();
    let (told, outcome) = channel();
    let last = (producer.clone(), stream);
    let record = PutRecord::new("key", "data");
    producer
        .put_then(&record, move |_| {
            drop(last);
            told.send(()).unwrap();
        })
        .unwrap();
    let flushing = thread::spawn(move || producer.flush());
    outcome.recv_timeout(LONG).expect("nobody waits forever");
    flushing.join().unwrap().unwrap();
    // The sender drops the last clone when it ends, which may be a moment later.
    let open = || Stream::open(scratch.path());
    let free = std::iter::repeat_with(open).find(|opened| !matches!(opened, Err(Error::Locked(_))));
    assert_eq!(free.unwrap().unwrap().stats().unwrap().record_count(), 1);
}

#[test]
fn a_callback_that_asks_for_a_receipt_of_its_own_producer_does_not_wait() {
    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    let producer = stream.producer().start().unwrap();
    let (told, outcome) = channel();
    let within = producer.clone();
    let record = PutRecord::new("key", "data");
    producer
        .put_then(&record, move |_| {
            let waited = within.put("key", "data").unwrap().wait();
            told.send((waited, within.flush())).unwrap();
        })
        .unwrap();
    let (waited, flushed) = outcome.recv_timeout(LONG).expect("nobody waits forever");
    assert!(matches!(waited, Err(Error::InvalidArgument(_))), "{waited:?}");
    assert!(matches!(flushed, Err(Error::InvalidArgument(_))), "{flushed:?}");
    producer.close().unwrap();
    assert_eq!(stream.stats().unwrap().record_count(), 2);
}

#[test]
fn p13_a_report_may_wait_for_a_put_whose_callback_closes_the_stream() {
    let scratch = common::scratch();
    let (told, outcome) = shared_channel();
    let slot: Slot<Stream> = Arc::default();
    let place = Arc::clone(&slot);
    let options = StreamOptions::new().report_stats(move |_, _| {
        let Some(stream) = place.lock().unwrap().take() else { return };
        let producer = stream.producer().start().unwrap();
        let (closed, is_closed) = channel();
        let close = move |_: Result<_>| closed.send(stream.close()).unwrap();
        producer.put_then(&PutRecord::new("key", "data"), close).unwrap();
        producer.flush().unwrap();
        told.lock().unwrap().send(is_closed.recv().unwrap()).unwrap();
    });
    let stream = options.open(scratch.path()).unwrap();
    *slot.lock().unwrap() = Some(stream.clone());
    outcome.recv_timeout(LONG).expect("nobody waits forever").unwrap();
    assert!(stream.is_closed());
    put_and_close(scratch.path());
}
