//! Processors with their threads: settings, concurrent calls, retries, time limits, windows, discarded records, and other processes: L1, L3, L5,
//! L7.

use crate::common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use common::waiting::eventually;
use parking_lot::Mutex;
use streamlog::{
    Destination, DiscardReason, Error, Filter, HOUR, Invocation, Limits, MINUTE, ManualClock, Position,
    ProcessorOptions, Response, Retention, SECOND, Source, Stream, StreamReader,
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn open(path: &Path, clock: &Arc<ManualClock>, shards: u32) -> Stream {
    common::small(clock).shards(shards).open(path).unwrap()
}

/// Advances the clock until a condition holds, much faster than real time: a call that a loaded machine delays would exceed its limit, so
/// the processor needs a suitable time limit, or none.
#[track_caller]
fn in_time(clock: &ManualClock, what: impl Fn() -> bool) {
    eventually(|| {
        clock.advance(SECOND);
        thread::sleep(Duration::from_millis(1));
        what()
    });
}

fn texts<'a>(records: impl Iterator<Item = streamlog::Record<'a>>) -> Vec<String> {
    records.map(|record| String::from_utf8_lossy(record.data()).into_owned()).collect()
}

/// Starts a processor whose function forwards its records.
fn pass_on(options: ProcessorOptions) -> (streamlog::Processor, Receiver<Vec<String>>) {
    let (sender, receiver) = mpsc::channel();
    let processor =
        options.start(move |invocation| sender.send(texts(invocation.records())).unwrap()).unwrap();
    (processor, receiver)
}

fn received(receiver: &Receiver<Vec<String>>) -> Vec<String> {
    receiver.recv_timeout(LONG).unwrap()
}

#[test]
fn l1_what_is_done_does_not_come_again_after_close_and_drop() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    for round in 0..4 {
        let (processor, receiver) = pass_on(stream.processor("audit"));
        stream.put("key", format!("record {round}")).unwrap();
        assert_eq!(received(&receiver), [format!("record {round}")]);
        if round % 2 == 0 {
            processor.close().unwrap();
        } else {
            drop(processor);
        }
    }
    assert_eq!(stream.group("audit").describe().unwrap().lag().record_count, 0);
}

#[test]
fn l1_a_processor_keeps_its_stream_open_and_a_source_does() {
    for from_source in [false, true] {
        let (directory, clock) = (common::scratch(), common::clock());
        let stream = open(directory.path(), &clock, 1);
        for number in 0..1_000 {
            stream.put("key", number.to_string()).unwrap();
        }
        let options =
            if from_source { Source::stream(&stream).processor("all") } else { stream.processor("all") };
        drop(stream);
        let (processor, receiver) = pass_on(options.batch_size(10));
        let records: usize = (0..100).map(|_| received(&receiver).len()).sum();
        assert_eq!(records, 1_000);
        processor.close().unwrap();
    }
}

#[test]
fn a_processor_ends_with_its_stream_and_its_function_may_close_both() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let holder: Arc<Mutex<Option<streamlog::Processor>>> = Arc::default();
    let (inside, of_function) = (Arc::clone(&holder), stream.clone());
    let mut held = holder.lock();
    let other = stream.processor("other").start(|_| ()).unwrap();
    let processor = stream.processor("audit").start(move |_| {
        drop(inside.lock().take());
        of_function.clone().close()
    });
    *held = Some(processor.unwrap());
    drop(held);
    stream.put("key", "record").unwrap();
    eventually(|| other.is_over());
    assert!(holder.lock().is_none());
    other.close().unwrap();
}

#[test]
fn nothing_of_a_processor_is_left_whenever_it_is_closed() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let mut functions = vec![];
    for round in 0..500 {
        let (done, is_done) = mpsc::channel();
        let held = Arc::new(());
        functions.push(Arc::downgrade(&held));
        let function = move |_: &Invocation| {
            let _ = (&held, done.send(()));
        };
        let processor = stream.processor("audit").start(function).unwrap();
        stream.put("key", "data").unwrap();
        is_done.recv().unwrap();
        // At another moment after the call each time.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(round % 100) {}
        processor.close().unwrap();
    }
    let left = || functions.iter().filter(|function| function.strong_count() > 0).count();
    let begun = Instant::now();
    while left() > 0 && begun.elapsed() < Duration::from_secs(5) {
        thread::yield_now();
    }
    assert_eq!(left(), 0, "threads that still hold the function");
}

#[test]
fn settings_out_of_range_are_refused() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let processor = || stream.processor("audit");
    let refused = [
        processor().batch_size(0),
        processor().batch_size(10_001),
        processor().batch_bytes(0),
        processor().parallelization_factor(0),
        processor().parallelization_factor(11),
        processor().maximum_retry_attempts(10_001),
        processor().maximum_record_age(59 * SECOND),
        processor().maximum_record_age(Duration::from_secs(604_801)),
        processor().maximum_batching_window(301 * SECOND),
        processor().tumbling_window(Duration::from_secs(901)),
        processor().tumbling_window(Duration::from_millis(1)),
        processor().concurrency(0),
        stream.processor("no/name"),
    ];
    for options in refused {
        let name = format!("{options:?}");
        let started = options.start(|_| ());
        assert!(matches!(started, Err(Error::InvalidArgument(_))), "{name}");
    }
    let without_window = processor().start_with_state(|_, _: &mut u32| ());
    assert!(matches!(without_window, Err(Error::InvalidArgument(_))));
    assert!(stream.groups().unwrap().is_empty(), "nothing was created");
}

#[test]
fn batches_have_a_size_in_records_and_in_bytes() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    for number in 0..25 {
        stream.put("key", format!("{number:010}")).unwrap();
    }
    let sizes = |options: ProcessorOptions| {
        let (_processor, receiver) = pass_on(options);
        let mut sizes = vec![];
        while sizes.iter().sum::<usize>() < 25 {
            sizes.push(received(&receiver).len());
        }
        sizes
    };
    assert_eq!(sizes(stream.processor("records").batch_size(10)), [10, 10, 5]);
    // Each has 13 bytes with its key.
    assert!(sizes(stream.processor("bytes").batch_bytes(13 * 9)).iter().all(|&size| size <= 9));
    assert_eq!(sizes(stream.processor("tiny").batch_bytes(1)), [1; 25]);
}

#[test]
fn l7_a_batch_waits_for_its_window_to_pass_or_until_it_is_full() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let options = stream.processor("audit").batch_size(3).maximum_batching_window(30 * SECOND);
    let (processor, receiver) = pass_on(options);
    for number in 0..2 {
        stream.put("key", number.to_string()).unwrap();
    }
    clock.advance(29 * SECOND);
    assert!(receiver.recv_timeout(Duration::from_millis(300)).is_err(), "it waits");
    stream.put("key", "2").unwrap();
    assert_eq!(received(&receiver), ["0", "1", "2"]);
    stream.put("key", "3").unwrap();
    assert!(receiver.recv_timeout(Duration::from_millis(300)).is_err(), "it waits");
    in_time(&clock, || processor.stats().records == 4);
    assert_eq!(received(&receiver), ["3"]);
}

#[test]
fn l3_lanes_work_side_by_side_and_keep_the_order_of_each_key() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    for number in 0..2_000_u32 {
        stream.put(format!("key-{}", number % 40), number.to_string()).unwrap();
    }
    // No call continues until four of them run at the same time.
    let (together, was_together) = (Barrier::new(4), AtomicBool::new(false));
    let (sender, receiver) = mpsc::channel();
    let processor = stream
        .processor("audit")
        .parallelization_factor(4)
        .start(move |invocation| {
            if !was_together.swap(false, Ordering::Relaxed)
                && invocation.records().any(|record| record.sequence().get() < 40)
            {
                together.wait();
            }
            for record in invocation.records() {
                let number: u32 = std::str::from_utf8(record.data()).unwrap().parse().unwrap();
                sender.send(number).unwrap();
            }
        })
        .unwrap();
    let mut last: BTreeMap<u32, u32> = BTreeMap::new();
    for _ in 0..2_000 {
        let number = receiver.recv_timeout(LONG).unwrap();
        let previous = last.insert(number % 40, number);
        assert_eq!(number, previous.map_or(number % 40, |previous| previous + 40));
    }
    processor.close().unwrap();
}

#[test]
fn l5_a_lane_that_fails_holds_up_only_its_keys() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let is_broken = Arc::new(AtomicBool::new(true));
    let broken = Arc::clone(&is_broken);
    let done = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&done);
    let processor = stream
        .processor("audit")
        .time_limit(None)
        .batch_size(5)
        .parallelization_factor(4)
        .start(move |invocation| {
            if broken.load(Ordering::SeqCst)
                && invocation.records().any(|record| record.partition_key() == b"bad")
            {
                return Response::failed("not today");
            }
            counted.fetch_add(invocation.len(), Ordering::SeqCst);
            Response::done()
        })
        .unwrap();
    // Far more than a lane buffers.
    for number in 0..5_000_u32 {
        let key = if number % 10 == 0 { "bad".to_owned() } else { format!("key-{number}") };
        stream.put(key, "record").unwrap();
    }
    let in_the_way = |key: &str| xxhash_lane(key) == xxhash_lane("bad");
    let free =
        (0..5_000_u32).filter(|number| number % 10 != 0 && !in_the_way(&format!("key-{number}"))).count();
    eventually(|| done.load(Ordering::SeqCst) >= free);
    assert!(processor.stats().errors > 0);
    // The others were read again because that lane was full.
    is_broken.store(false, Ordering::SeqCst);
    in_time(&clock, || done.load(Ordering::SeqCst) == 5_000);
    processor.close().unwrap();
    assert_eq!(stream.group("audit").describe().unwrap().lag().record_count, 0);
}

fn xxhash_lane(key: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key.as_bytes()) % 4
}

#[test]
fn a_panic_and_an_error_are_failures_that_are_tried_again() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    stream.put("key", "record").unwrap();
    let calls = AtomicU32::new(0);
    let (sender, receiver) = mpsc::channel();
    let processor = stream
        .processor("audit")
        .time_limit(None)
        .start(move |invocation| {
            sender.send((invocation.attempt(), texts(invocation.records()))).unwrap();
            match calls.fetch_add(1, Ordering::SeqCst) {
                0 => panic!("a panic of the test's function"),
                1 => Err("an error"),
                _ => Ok(()),
            }
        })
        .unwrap();
    in_time(&clock, || processor.stats().records == 1);
    let attempts: Vec<_> = receiver.try_iter().collect();
    assert_eq!(attempts, [1, 2, 3].map(|attempt| (attempt, vec!["record".to_owned()])));
    let stats = processor.stats();
    assert_eq!((stats.invocations, stats.errors, stats.discarded), (3, 2, 0));
    assert_eq!(stats.last_error.as_deref(), Some("an error"));
}

#[test]
fn l5_a_call_that_never_returns_is_given_up_and_does_not_count_later() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    stream.put("key", "record").unwrap();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let (sender, receiver) = mpsc::channel();
    let processor = stream
        .processor("audit")
        .time_limit(MINUTE)
        .start(move |invocation| {
            sender.send(invocation.attempt()).unwrap();
            if invocation.attempt() == 1 {
                let _ = released.lock().recv();
            }
        })
        .unwrap();
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), 1);
    assert_eq!(processor.stats().running, 1);
    in_time(&clock, || processor.stats().records == 1);
    let stats = processor.stats();
    assert_eq!((stats.timeouts, stats.errors, stats.stuck, stats.running), (1, 1, 1, 0));
    assert_eq!(stats.last_error.as_deref(), Some("the function has not returned within 1m"));
    release.send(()).unwrap();
    eventually(|| processor.stats().stuck == 0);
    assert_eq!(processor.stats().records, 1, "what it says later does not count");
    processor.close().unwrap();
    assert_eq!(stream.group("audit").describe().unwrap().lag().record_count, 0);
}

/// Puts a record that fails among others, and lets it be discarded.
fn give_up(stream: &Stream, clock: &ManualClock, destination: Destination) {
    for number in 0..10 {
        let put =
            streamlog::PutRecord::new("key", if number == 4 { "bad" } else { "good" }).header("trace", "17");
        stream.put_record(&put).unwrap();
    }
    let processor = stream
        .processor("audit")
        .maximum_retry_attempts(2)
        .bisect_batch_on_function_error(true)
        .on_failure(destination)
        .start(|invocation| match texts(invocation.records()).contains(&"bad".to_owned()) {
            true => Err("it is bad"),
            false => Ok(()),
        })
        .unwrap();
    in_time(clock, || {
        let stats = processor.stats();
        stats.records == 9 && stats.discarded == 1
    });
    eventually(|| stream.group("audit").describe().unwrap().lag().record_count == 0);
    processor.close().unwrap();
}

#[test]
fn l5_what_is_given_up_goes_to_a_function() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let (sender, receiver): (Sender<_>, _) = mpsc::channel();
    let failures = AtomicU32::new(2);
    give_up(
        &stream,
        &clock,
        Destination::function(move |discarded| {
            // It is not discarded until the destination has it.
            if failures.load(Ordering::SeqCst) > 0 {
                failures.fetch_sub(1, Ordering::SeqCst);
                return Err("the destination is not there yet".to_owned());
            }
            sender.send(discarded.clone()).map_err(|error| error.to_string())
        }),
    );
    let discarded = receiver.recv_timeout(LONG).unwrap();
    assert_eq!(texts(discarded.records()), ["bad"]);
    assert_eq!(discarded.reason(), DiscardReason::RetryAttemptsExhausted);
    assert_eq!(discarded.error(), Some("it is bad"));
    assert_eq!(discarded.shard(), stream.shards()[0].id);
    assert!(discarded.attempts() >= 3, "the calls before the cuts count, too");
    assert!(receiver.try_recv().is_err());
}

#[test]
fn l5_what_is_given_up_goes_to_lines_of_json_as_lambda_writes_them() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock, 1);
    let path = scratch.path().join("failed.jsonl");
    let file = std::fs::File::options().create(true).append(true).open(&path).unwrap();
    give_up(&stream, &clock, Destination::lines(file));
    let lines = std::fs::read_to_string(path).unwrap();
    assert_eq!(lines.lines().count(), 1);
    let line: serde_json::Value = serde_json::from_str(&lines).unwrap();
    assert_eq!(line["requestContext"]["condition"], "RetryAttemptsExhausted");
    assert_eq!(line["responseContext"]["functionError"], "it is bad");
    let info = &line["KinesisBatchInfo"];
    assert_eq!(info["shardId"], "shardId-000000000000");
    assert_eq!((&info["startSequenceNumber"], &info["endSequenceNumber"]), (&"4".into(), &"4".into()));
    assert_eq!(info["batchSize"], 1);
    assert_eq!(info["approximateArrivalOfFirstRecord"], "2023-11-14T22:13:20.000000Z");
}

#[test]
fn l5_what_is_given_up_goes_to_another_stream_and_can_be_put_back() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock, 1);
    let aside = open(&scratch.path().join("aside"), &clock, 1);
    give_up(&stream, &clock, Destination::stream(&aside));
    let batch = aside.iterator(aside.shards()[0].id, Position::TrimHorizon).unwrap().next_batch(10).unwrap();
    assert_eq!(batch.len(), 1);
    let record = batch.iter().next().unwrap();
    assert_eq!((record.partition_key(), record.data()), (&b"key"[..], &b"bad"[..]));
    let headers = record.headers();
    assert_eq!(headers.get("trace"), Some(&b"17"[..]));
    assert_eq!(headers.get("discard-reason"), Some(&b"RetryAttemptsExhausted"[..]));
    assert_eq!(headers.get("discard-error"), Some(&b"it is bad"[..]));
    assert_eq!(headers.get("discard-shard"), Some(&b"shardId-000000000000"[..]));
    assert_eq!(headers.get("discard-sequence"), Some(&b"4"[..]));
}

#[test]
fn l7_records_that_are_too_old_are_given_up_without_a_call() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    stream.put("key", "old").unwrap();
    clock.advance(HOUR);
    stream.put("key", "new").unwrap();
    let (sender, given_up) = mpsc::channel();
    let options = stream.processor("audit").maximum_record_age(MINUTE);
    let destination = Destination::function(move |discarded| {
        sender.send((discarded.reason(), discarded.attempts(), discarded.to_json()))
    });
    let (processor, receiver) = pass_on(options.on_failure(destination));
    assert_eq!(received(&receiver), ["new"]);
    let (reason, attempts, json) = given_up.recv_timeout(LONG).unwrap();
    assert_eq!((reason, attempts), (DiscardReason::RecordAgeExceeded, 0));
    assert!(!json.contains("responseContext"), "{json}");
    eventually(|| processor.stats().records == 1);
    assert_eq!(processor.stats().discarded, 1);
}

#[test]
fn a_response_with_items_that_failed_is_taken_as_lambda_takes_it() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    for number in 0..6 {
        stream.put("key", number.to_string()).unwrap();
    }
    let (sender, receiver) = mpsc::channel();
    let calls = AtomicU32::new(0);
    let processor = stream
        .processor("audit")
        .time_limit(None)
        .start(move |invocation| {
            sender.send(texts(invocation.records())).unwrap();
            match calls.fetch_add(1, Ordering::SeqCst) {
                // The lowest is the checkpoint, and all records from it on come again.
                0 => Response::item_failures([4.into(), 2.into()]),
                // Not a record of the batch: all have failed.
                1 => Response::item_failures([1.into()]),
                // The first: all have failed.
                2 => Response::failed_from(2.into()),
                // An empty list: all are done.
                _ => Response::item_failures([]),
            }
        })
        .unwrap();
    in_time(&clock, || processor.stats().records == 6);
    let rest = ["2", "3", "4", "5"].map(String::from).to_vec();
    let all = ["0", "1", "2", "3", "4", "5"].map(String::from).to_vec();
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [all, rest.clone(), rest.clone(), rest]);
    assert_eq!(processor.stats().errors, 2, "an answer with items is no error");
}

#[test]
fn a_batch_that_fails_is_cut_in_halves_and_the_first_half_comes_first() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    for number in 0..8 {
        stream.put("key", number.to_string()).unwrap();
    }
    let (sender, receiver) = mpsc::channel();
    let processor = stream
        .processor("audit")
        .time_limit(None)
        .maximum_retry_attempts(0)
        .bisect_batch_on_function_error(true)
        .start(move |invocation| {
            let numbers = texts(invocation.records()).concat();
            sender.send(numbers.clone()).unwrap();
            if numbers.contains('5') { Err("it is bad") } else { Ok(()) }
        })
        .unwrap();
    in_time(&clock, || processor.stats().records == 7);
    let calls: Vec<_> = receiver.try_iter().collect();
    assert_eq!(calls, ["01234567", "0123", "4567", "45", "4", "5", "67"]);
}

#[test]
fn filtered_records_count_as_done_without_a_call() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    for number in 0..100 {
        stream.put("key", format!(r#"{{"number": {number}}}"#)).unwrap();
    }
    stream.put("key", "no JSON").unwrap();
    let filter = Filter::new(r#"{"data": {"number": [{"numeric": ["<", 3]}]}}"#).unwrap();
    let (processor, receiver) = pass_on(stream.processor("audit").filter(filter));
    assert_eq!(
        received(&receiver),
        (0..3).map(|number| format!(r#"{{"number": {number}}}"#)).collect::<Vec<_>>()
    );
    eventually(|| stream.group("audit").describe().unwrap().lag().record_count == 0);
    assert_eq!((processor.stats().records, processor.stats().filtered), (3, 98));
}

#[test]
fn l2_a_window_ends_by_the_clock_and_its_state_survives_restarts() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let mut stream = open(scratch.path(), &clock, 1);
    let (sender, receiver) = mpsc::channel();
    for round in 0..3_u32 {
        let sender = sender.clone();
        let processor = stream
            .processor("count")
            .time_limit(None)
            .tumbling_window(MINUTE)
            .start_with_state(move |invocation, sum: &mut u32| {
                let window = invocation.window().unwrap();
                assert_eq!(window.start.as_micros() % 60_000_000, 0, "windows are aligned");
                for text in texts(invocation.records()) {
                    *sum += text.parse::<u32>().unwrap();
                }
                sender.send((window.is_final, *sum)).unwrap();
            })
            .unwrap();
        stream.put("key", (round + 1).to_string()).unwrap();
        let sum = (1..=round + 1).sum::<u32>();
        assert_eq!(receiver.recv_timeout(LONG).unwrap(), (false, sum));
        eventually(|| stream.group("count").describe().unwrap().lag().record_count == 0);
        if round == 2 {
            in_time(&clock, || processor.stats().invocations == 2);
            assert_eq!(receiver.recv_timeout(LONG).unwrap(), (true, sum));
            stream.put("key", "100").unwrap();
            assert_eq!(receiver.recv_timeout(LONG).unwrap(), (false, 100), "the next one begins anew");
        }
        processor.close().unwrap();
        stream.close().unwrap();
        stream = open(scratch.path(), &clock, 1);
    }
}

#[test]
fn l2_a_window_that_is_over_waits_for_records_of_it_whose_reads_the_limits_refuse() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    // The first read returns a record of 40 bytes, and the next one must wait for as many seconds.
    stream.set_limits(Limits::none().read_bytes_per_second(1)).unwrap();
    stream.put("key", format!("first {:40}", "")).unwrap();
    let (sender, ended) = mpsc::channel();
    let processor = stream
        .processor("count")
        .time_limit(None)
        .tumbling_window(10 * SECOND)
        .start_with_state(move |invocation, seen: &mut Vec<String>| {
            seen.extend(texts(invocation.records()).iter().map(|text| text.trim_end().to_owned()));
            if invocation.window().unwrap().is_final {
                sender.send(seen.clone()).unwrap();
            }
        })
        .unwrap();
    eventually(|| processor.stats().records == 1);
    clock.advance(5 * SECOND);
    stream.put("key", "second").unwrap();
    clock.advance(10 * SECOND);
    assert!(ended.recv_timeout(Duration::from_millis(300)).is_err(), "it waits");
    in_time(&clock, || processor.stats().records == 2);
    in_time(&clock, || processor.stats().invocations == 3);
    assert_eq!(ended.recv_timeout(LONG).unwrap(), ["first", "second"]);
}

#[test]
fn a_window_ends_early_if_its_state_is_too_large_and_with_its_shard() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let (sender, receiver) = mpsc::channel();
    let processor = stream
        .processor("count")
        .batch_size(1)
        .tumbling_window(MINUTE)
        .start(move |invocation| {
            let window = invocation.window().unwrap();
            let added = if texts(invocation.records()) == ["large"] { 990_000 } else { invocation.len() };
            sender.send((window.is_final, window.is_terminated_early, invocation.state().len())).unwrap();
            Response::done().with_state(vec![b'x'; invocation.state().len() + added])
        })
        .unwrap();
    for data in ["a", "large", "b"] {
        stream.put("key", data).unwrap();
    }
    let next = || receiver.recv_timeout(LONG).unwrap();
    assert_eq!([next(), next()], [(false, false, 0), (false, false, 1)]);
    assert_eq!(next(), (true, true, 990_001));
    assert_eq!(next(), (false, false, 0), "the rest of the window begins anew");
    eventually(|| stream.group("count").describe().unwrap().lag().record_count == 0);
    stream.split_shard_evenly(stream.shards()[0].id).unwrap();
    assert_eq!(next(), (true, false, 1), "its shard has ended");
    stream.put("key", "c").unwrap();
    assert_eq!(next(), (false, false, 0));
    processor.close().unwrap();
}

#[test]
fn a_windowed_function_without_an_answer_has_failed() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    stream.put("key", "record").unwrap();
    let processor = stream.processor("count").tumbling_window(MINUTE).start(|_| ()).unwrap();
    eventually(|| processor.stats().errors > 0);
    let error = processor.stats().last_error;
    assert_eq!(error.as_deref(), Some("the function has not answered with the state of its window"));
}

#[test]
fn a_group_that_keeps_another_state_is_no_processors() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    stream.put("key", "record").unwrap();
    let mut worker = stream.group("mine").worker().open().unwrap();
    worker.poll(Duration::ZERO).unwrap();
    worker.commit_with_state(stream.shards()[0].id, 1.into(), b"my own").unwrap();
    drop(worker);
    let processor = stream.processor("mine").start(|_| ()).unwrap();
    stream.put("key", "record").unwrap();
    eventually(|| processor.is_over());
    let error = processor.close().unwrap_err();
    assert!(error.to_string().contains("give the processor another name"), "{error}");
}

#[test]
fn l8_a_processor_runs_on_a_reader_and_two_share_the_shards() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 4);
    let reader = StreamReader::open(scratch.path()).unwrap();
    let (first, records) = pass_on(reader.processor("audit"));
    let (second, more_records) = pass_on(reader.processor("audit"));
    eventually(|| first.stats().shards == 2 && second.stats().shards == 2);
    for number in 0..100 {
        stream.put(number.to_string(), "record").unwrap();
    }
    let count =
        |receiver: &Receiver<Vec<String>>| receiver.try_iter().map(|batch| batch.len()).sum::<usize>();
    let total = AtomicUsize::new(0);
    eventually(|| {
        total.fetch_add(count(&records) + count(&more_records), Ordering::SeqCst);
        total.load(Ordering::SeqCst) == 100
    });
    drop((first, second));
}

#[test]
fn a_processor_follows_splits_and_merges_and_finishes_parents_first() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let seen: Arc<Mutex<BTreeMap<Vec<u8>, u32>>> = Arc::default();
    let order = Arc::clone(&seen);
    let processor = stream
        .processor("audit")
        .parallelization_factor(3)
        .start(move |invocation| {
            for record in invocation.records() {
                let number: u32 = std::str::from_utf8(record.data()).unwrap().parse().unwrap();
                let mut seen = order.lock();
                let next = seen.entry(record.partition_key().to_vec()).or_default();
                assert_eq!(number, *next);
                *next += 1;
            }
        })
        .unwrap();
    for number in 0..300_u32 {
        for key in 0..10 {
            stream.put(format!("key-{key}"), number.to_string()).unwrap();
        }
        if number % 60 == 20 {
            stream.split_shard_evenly(stream.list_shards(streamlog::ShardFilter::AtLatest)[0].id).unwrap();
        }
        if number % 60 == 50 {
            let open = stream.list_shards(streamlog::ShardFilter::AtLatest);
            stream.merge_shards(open[0].id, open[1].id).unwrap();
        }
    }
    eventually(|| processor.stats().records == 3_000);
    assert_eq!(processor.stats().errors, 0);
    assert!(seen.lock().values().all(|&count| count == 300));
    processor.close().unwrap();
}

#[test]
fn a_dry_run_calls_the_function_with_a_part_of_the_log_and_leaves_nothing_behind() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock, 2);
    let begun = stream.now();
    for number in 0..300_u32 {
        clock.advance(SECOND);
        stream.put(format!("key-{}", number % 7), number.to_string()).unwrap();
        if number == 100 {
            stream.split_shard_evenly(stream.shards()[0].id).unwrap();
        }
    }
    let aside = open(&scratch.path().join("aside"), &clock, 1);
    let files_before = common::disk_bytes(&scratch.path().join("stream"));
    let (sender, receiver) = mpsc::channel();
    // The records of 50 to 249 seconds. Those divisible by 7 are bad.
    let stats = stream
        .processor("audit")
        .starting_position(Position::AtTimestamp(begun + 50 * SECOND))
        .batch_size(10)
        .parallelization_factor(3)
        .bisect_batch_on_function_error(true)
        .on_failure(Destination::stream(&aside))
        .tumbling_window(MINUTE)
        .dry_run_with_state(begun + 250 * SECOND, move |invocation, sum: &mut Vec<u32>| {
            let numbers: Vec<u32> =
                texts(invocation.records()).iter().map(|number| number.parse().unwrap()).collect();
            if numbers.iter().any(|number| number % 7 == 0) {
                return Err("it is bad");
            }
            sum.extend(numbers);
            if invocation.window().unwrap().is_final {
                sender.send(sum.clone()).unwrap();
            }
            Ok(())
        })
        .unwrap();
    let (bad, good): (Vec<u32>, Vec<u32>) = (49..249).partition(|number| number % 7 == 0);
    assert_eq!((stats.records, stats.discarded), (good.len() as u64, bad.len() as u64));
    let mut counted: Vec<u32> = receiver.try_iter().flatten().collect();
    counted.sort_unstable();
    assert_eq!(counted, good, "each counts in one window");
    let put_aside =
        aside.iterator(aside.shards()[0].id, Position::TrimHorizon).unwrap().next_batch(100).unwrap();
    let mut put_aside: Vec<u32> =
        texts(put_aside.iter()).iter().map(|number| number.parse().unwrap()).collect();
    put_aside.sort_unstable();
    assert_eq!(put_aside, bad);
    assert!(stream.groups().unwrap().is_empty());
    assert_eq!(common::disk_bytes(&scratch.path().join("stream")), files_before);
}

#[test]
fn l2_a_hold_keeps_a_closed_shard_until_its_windows_are_over() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).retention(Retention::age(MINUTE)).open(scratch.path()).unwrap();
    let shard = stream.shards()[0].id;
    let start = || {
        let (sender, receiver) = mpsc::channel();
        let options = stream.processor("audit").tumbling_window(15 * MINUTE).hold(1 << 30);
        let function = move |invocation: &Invocation, seen: &mut u32| {
            *seen += invocation.len() as u32;
            sender.send((*seen, invocation.window().unwrap().is_final)).unwrap();
        };
        (options.start_with_state(function).unwrap(), receiver)
    };
    let (processor, receiver) = start();
    stream.put("key", "first").unwrap();
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), (1, false));
    eventually(|| stream.group("audit").describe().unwrap().lag().record_count == 0);
    processor.close().unwrap();
    stream.split_shard_evenly(shard).unwrap();
    for _ in 0..3 {
        clock.advance(5 * MINUTE);
        stream.maintain().unwrap();
    }
    assert!(
        stream.shards().iter().any(|known| known.id == shard),
        "its record is done, and the window is not"
    );
    let (processor, receiver) = start();
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), (1, true));
    eventually(|| stream.group("audit").describe().unwrap().shards.iter().all(|known| known.shard != shard));
    processor.close().unwrap();
    stream.maintain().unwrap();
    assert!(stream.shards().iter().all(|known| known.id != shard), "now it may go");
}
