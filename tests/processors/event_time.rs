//! Windows by event time: the watermark, late records, idle shards, lanes, splits, failures, states that are too large, and dry runs: L1, L2, L3,
//! L5, L6, L7.

use crate::common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use common::waiting::eventually;
use parking_lot::Mutex;
use streamlog::{
    Destination, DiscardReason, Discarded, Error, Filter, HOUR, Invocation, MINUTE, ManualClock, MetricValue,
    Position, Processor, ProcessorOptions, Record, Response, SECOND, Stream, Timestamp,
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn open(path: &Path, clock: &Arc<ManualClock>, shards: u32) -> Stream {
    common::small(clock).shards(shards).open(path).unwrap()
}

/// When an event happened: the data of its record, in seconds.
fn event_time(record: &Record<'_>) -> Result<Timestamp, String> {
    let text = std::str::from_utf8(record.data()).map_err(|error| error.to_string())?;
    text.parse()
        .map(|seconds: u64| Timestamp::from_millis(seconds * 1_000))
        .map_err(|error| error.to_string())
}

fn seconds(records: impl Iterator<Item = u64>) -> String {
    records.map(|second| second.to_string()).collect::<Vec<_>>().join(" ")
}

fn seconds_of<'a>(records: impl Iterator<Item = Record<'a>>) -> Vec<u64> {
    records.map(|record| std::str::from_utf8(record.data()).unwrap().parse().unwrap()).collect()
}

fn put(stream: &Stream, key: &str, seconds: impl IntoIterator<Item = u64>) {
    for second in seconds {
        stream.put(key, second.to_string()).unwrap();
    }
}

/// A window that has ended: its start, in seconds, and its events.
type Ended = (u64, Vec<u64>);

/// Starts a processor with windows of 10 s that allows events to be late by 20 s. It forwards ended windows.
fn start(options: ProcessorOptions) -> (Processor, Receiver<Ended>) {
    let (sender, receiver) = mpsc::channel();
    let processor = windows(options).start_with_state(move |invocation, events: &mut Vec<u64>| {
        collect(invocation, events, |ended| sender.send(ended).unwrap());
    });
    (processor.unwrap(), receiver)
}

/// Time passes much faster here than in reality, where a loaded machine may delay a call: so there is no time limit.
fn windows(options: ProcessorOptions) -> ProcessorOptions {
    options.time_limit(None).tumbling_window(10 * SECOND).event_time(event_time).allowed_lateness(20 * SECOND)
}

fn collect(invocation: &Invocation, events: &mut Vec<u64>, end: impl FnOnce(Ended)) {
    let window = invocation.window().unwrap();
    assert_eq!(window.end.since(window.start), 10 * SECOND);
    assert_eq!(invocation.is_empty(), window.is_final);
    events.extend(seconds_of(invocation.records()));
    if window.is_final {
        end((window.start.as_millis() / 1_000, events.clone()));
    }
}

fn next<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(LONG).unwrap()
}

/// Waits until everything put so far is committed.
#[track_caller]
fn until_committed(stream: &Stream, name: &str) {
    eventually(|| stream.group(name).describe().unwrap().lag().record_count == 0);
}

fn nothing_comes<T>(receiver: &Receiver<T>) {
    assert!(receiver.recv_timeout(Duration::from_millis(200)).is_err(), "nothing is due");
}

#[test]
fn l2_events_out_of_order_count_in_their_windows_which_the_watermark_ends() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let (processor, ended) = start(stream.processor("count"));
    put(&stream, "key", [105, 119, 99, 128, 110, 109, 111]);
    // The watermark is at 108 and has passed the first window alone.
    assert_eq!(next(&ended), (90, vec![99]));
    nothing_comes(&ended);
    assert_eq!(processor.stats().watermark, Some(Timestamp::from_millis(108_000)));
    put(&stream, "key", [131]);
    assert_eq!(next(&ended), (100, vec![105, 109]));
    nothing_comes(&ended);
    // Four end together.
    put(&stream, "key", [145, 200]);
    assert_eq!(next(&ended), (110, vec![119, 110, 111]));
    assert_eq!(next(&ended), (120, vec![128]));
    assert_eq!(next(&ended), (130, vec![131]));
    assert_eq!(next(&ended), (140, vec![145]));
    until_committed(&stream, "count");
    assert_eq!((processor.stats().records, processor.stats().late), (10, 0));
    processor.close().unwrap();
}

#[test]
fn l5_late_records_go_to_the_destination_and_are_counted() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock, 1);
    let aside = open(&scratch.path().join("aside"), &clock, 1);
    let (sender, given_up) = mpsc::channel();
    let (to_aside, failures) = (Destination::stream(&aside), AtomicBool::new(true));
    let both = Destination::function(move |discarded: &Discarded| {
        // It is retried until it succeeds.
        if failures.swap(false, Ordering::SeqCst) {
            return Err("not yet".to_owned());
        }
        sender.send(discarded.clone()).map_err(|error| error.to_string())
    });
    let (processor, ended) = start(stream.processor("count").on_failure(both));
    put(&stream, "key", [100, 130]);
    assert_eq!(next(&ended), (100, vec![100]));
    // The watermark is at 110. These belong to two windows that have ended, and one that has not.
    put(&stream, "key", [109, 99, 110, 108]);
    let mut late: Vec<(u64, Vec<u64>)> = vec![];
    eventually(|| {
        clock.advance(SECOND / 10);
        processor.stats().late == 3 && processor.stats().records == 3
    });
    while late.iter().map(|(_, events)| events.len()).sum::<usize>() < 3 {
        clock.advance(SECOND / 10);
        let Ok(discarded) = given_up.recv_timeout(Duration::from_millis(10)) else { continue };
        assert_eq!(discarded.reason(), DiscardReason::AllowedLatenessExceeded);
        assert_eq!((discarded.error(), discarded.attempts()), (None, 0));
        assert!(discarded.to_json().contains(r#""condition":"AllowedLatenessExceeded""#));
        let start = discarded.window_start().unwrap().as_millis() / 1_000;
        late.push((start, seconds_of(discarded.records())));
    }
    for (start, events) in &late {
        assert!(events.iter().all(|&event| event / 10 * 10 == *start), "{late:?}");
    }
    let events: BTreeSet<u64> = late.into_iter().flat_map(|(_, events)| events).collect();
    assert_eq!(events, [99, 108, 109].into());
    let stats = processor.stats();
    assert_eq!((stats.late, stats.discarded, stats.records), (3, 3, 3));
    let metric = stats.metrics().find(|metric| metric.name == "LateEventCount").unwrap();
    assert_eq!(metric.value, MetricValue::Total(3));
    processor.close().unwrap();
    // The same into another stream.
    let dry = windows(stream.processor("count").on_failure(to_aside));
    dry.dry_run_with_state(None, |invocation, events: &mut Vec<u64>| collect(invocation, events, drop))
        .unwrap();
    let batch = aside.iterator(aside.shards()[0].id, Position::TrimHorizon).unwrap().next_batch(10).unwrap();
    assert_eq!(batch.len(), 3);
    for record in batch.iter() {
        assert_eq!(record.headers().get("discard-reason"), Some(&b"AllowedLatenessExceeded"[..]));
    }
}

#[test]
fn l7_an_idle_shard_ends_its_windows_by_the_clock_and_what_comes_later_is_late() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let (processor, ended) = start(stream.processor("count"));
    put(&stream, "key", [100, 105, 121]);
    until_committed(&stream, "count");
    // The idle timeout is the length of a window and the allowed lateness: 30 s.
    clock.advance(29 * SECOND);
    nothing_comes(&ended);
    put(&stream, "key", [106]);
    until_committed(&stream, "count");
    clock.advance(29 * SECOND);
    nothing_comes(&ended);
    clock.advance(SECOND);
    assert_eq!(next(&ended), (100, vec![100, 105, 106]));
    assert_eq!(next(&ended), (120, vec![121]));
    // They stay ended when the processor is started again.
    processor.close().unwrap();
    let (processor, ended) = start(stream.processor("count"));
    put(&stream, "key", [129, 130, 107]);
    eventually(|| processor.stats().late == 2);
    clock.advance(30 * SECOND);
    assert_eq!(next(&ended), (130, vec![130]));
    processor.close().unwrap();
    // The caller may set it.
    let (processor, ended) = start(stream.processor("other").idle_timeout(5 * SECOND));
    until_committed(&stream, "other");
    eventually(|| processor.stats().invocations > 0);
    eventually(|| {
        clock.advance(SECOND / 2);
        thread::sleep(Duration::from_millis(1));
        processor.stats().watermark.is_some() && ended.try_iter().any(|(start, _)| start == 130)
    });
    processor.close().unwrap();
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let by_event = || stream.processor("count").event_time(event_time);
    let refused = [
        (by_event(), "set a tumbling_window"),
        (by_event().tumbling_window(Duration::from_secs(86_401)), "tumbling_window"),
        (windows(by_event()).allowed_lateness(Duration::from_secs(10_001)), "allowed_lateness"),
        (windows(by_event()).idle_timeout(Duration::from_millis(999)), "idle_timeout"),
        (windows(by_event()).idle_timeout(Duration::from_secs(604_801)), "idle_timeout"),
        (stream.processor("count").tumbling_window(MINUTE).allowed_lateness(SECOND), "set event_time"),
        (stream.processor("count").tumbling_window(MINUTE).idle_timeout(SECOND), "set event_time"),
    ];
    for (options, why) in refused {
        let error = options.start(|_| ()).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    assert!(stream.groups().unwrap().is_empty(), "nothing was created");
    let day = by_event().tumbling_window(Duration::from_secs(86_400)).allowed_lateness(HOUR);
    day.start(|_| Response::done().with_state("")).unwrap().close().unwrap();
}

#[test]
fn l2_open_windows_and_the_watermark_survive_a_restart() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let mut stream = open(scratch.path(), &clock, 1);
    for (round, events) in [vec![100, 115, 131], vec![116, 109, 122], vec![117, 150]].into_iter().enumerate()
    {
        let (processor, ended) = start(stream.processor("count"));
        put(&stream, "key", events);
        until_committed(&stream, "count");
        match round {
            0 => assert_eq!(next(&ended), (100, vec![100])),
            // The watermark is still at 111.
            1 => eventually(|| processor.stats().late == 1),
            _ => {
                assert_eq!(next(&ended), (110, vec![115, 116, 117]));
                assert_eq!(next(&ended), (120, vec![122]));
            }
        }
        nothing_comes(&ended);
        until_committed(&stream, "count");
        processor.close().unwrap();
        stream.close().unwrap();
        stream = open(scratch.path(), &clock, 1);
    }
}

#[test]
fn a_split_and_a_merge_end_the_windows_and_the_children_begin_without_a_watermark() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let (processor, ended) = start(stream.processor("count"));
    let keys: Vec<String> = (0..8).map(|key| format!("key-{key}")).collect();
    for key in &keys {
        put(&stream, key, [100, 111]);
    }
    until_committed(&stream, "count");
    stream.split_shard_evenly(stream.shards()[0].id).unwrap();
    assert_eq!(next(&ended), (100, vec![100; 8]));
    assert_eq!(next(&ended), (110, vec![111; 8]));
    // They are behind the watermark of the parent, which does not count here.
    keys.iter().for_each(|key| put(&stream, key, [80]));
    keys.iter().for_each(|key| put(&stream, key, [112]));
    eventually(|| processor.stats().records == 32);
    eventually(|| processor.stats().shards == 2);
    let children: Vec<_> = stream.list_shards(streamlog::ShardFilter::AtLatest);
    stream.merge_shards(children[0].id, children[1].id).unwrap();
    let mut of_children: Vec<u64> = (0..4).flat_map(|_| next(&ended).1).collect();
    of_children.sort_unstable();
    assert_eq!(seconds(of_children.into_iter()), seconds([[80; 8], [112; 8]].concat().into_iter()));
    put(&stream, "key", [90, 140]);
    assert_eq!(next(&ended), (90, vec![90]));
    eventually(|| processor.stats().records == 34);
    assert_eq!(processor.stats().late, 0);
    processor.close().unwrap();
}

#[test]
fn l5_retries_bisecting_and_partial_failures_stay_within_one_window() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    for bisects in [true, false] {
        let name = format!("bisects-{bisects}");
        let (sender, ended) = mpsc::channel();
        let (report, given_up) = mpsc::channel();
        let destination = Destination::function(move |discarded: &Discarded| {
            report.send((discarded.window_start(), seconds_of(discarded.records()), discarded.reason()))
        });
        let options = windows(stream.processor(&name))
            .maximum_retry_attempts(1)
            .bisect_batch_on_function_error(bisects)
            .on_failure(destination);
        let options = options.start_with_state(move |invocation, events: &mut Vec<u64>| {
            // Two windows take turns, and one event in each always fails.
            let bad = invocation.records().find(|record| matches!(record.data(), b"103" | b"117"));
            if bisects && bad.is_some() {
                return Response::failed("it is bad");
            }
            let done: Vec<u64> = seconds_of(invocation.records());
            let done = done.into_iter().take_while(|event| ![103, 117].contains(event));
            events.extend(done);
            if let Some(window) = invocation.window().filter(|window| window.is_final) {
                sender.send((window.start.as_millis() / 1_000, events.clone())).unwrap();
            }
            bad.map_or(Response::done(), |bad| Response::failed_from(bad.sequence()))
        });
        let processor = options.unwrap();
        if bisects {
            for event in 100..110 {
                put(&stream, "key", [event, event + 10]);
            }
        }
        eventually(|| {
            clock.advance(SECOND / 10);
            let stats = processor.stats();
            stats.records + stats.discarded == 20
        });
        put(&stream, "key", if bisects { vec![] } else { vec![150] });
        eventually(|| {
            clock.advance(SECOND);
            thread::sleep(Duration::from_millis(1));
            processor.stats().invocations > 0
                && stream.group(&name).describe().unwrap().lag().record_count == 0
        });
        let given_up: Vec<_> = [next(&given_up), next(&given_up)].into();
        let window = |start: u64| Some(Timestamp::from_millis(start * 1_000));
        let exhausted = DiscardReason::RetryAttemptsExhausted;
        // Without bisecting, all records after the bad one in the window are given up with it.
        let bad = |event: u64, end: u64| if bisects { vec![event] } else { (event..end).collect() };
        assert_eq!(
            given_up,
            [(window(100), bad(103, 110), exhausted), (window(110), bad(117, 120), exhausted)]
        );
        clock.advance(MINUTE);
        let good = |events: std::ops::Range<u64>, end: u64| {
            let bad = bad(if end == 110 { 103 } else { 117 }, end);
            events.filter(|event| !bad.contains(event)).collect::<Vec<_>>()
        };
        assert_eq!(next(&ended), (100, good(100..110, 110)));
        assert_eq!(next(&ended), (110, good(110..120, 120)));
        processor.close().unwrap();
    }
}

/// Returns a key of each of two lanes.
fn keys_of_two_lanes() -> (String, String) {
    let lane = |key: &String| xxhash_rust::xxh3::xxh3_64(key.as_bytes()) % 2;
    let keys: Vec<String> = (0..64).map(|key| format!("key-{key}")).collect();
    let find = |wanted| keys.iter().find(|key| lane(key) == wanted).unwrap().clone();
    (find(0), find(1))
}

#[test]
fn l2_the_watermark_of_a_shard_ends_the_windows_of_all_its_lanes() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let (processor, ended) = start(stream.processor("count").parallelization_factor(2));
    let (quiet, busy) = keys_of_two_lanes();
    put(&stream, &quiet, [100]);
    put(&stream, &busy, [101]);
    until_committed(&stream, "count");
    put(&stream, &busy, [130]);
    // Each lane has a window of its own, also the one that gets nothing more.
    let mut both = [next(&ended), next(&ended)];
    both.sort_unstable();
    assert_eq!(both, [(100, vec![100]), (100, vec![101])]);
    put(&stream, &quiet, [102, 110]);
    eventually(|| processor.stats().late == 1);
    eventually(|| processor.stats().records == 4);
    processor.close().unwrap();
}

#[test]
fn l5_a_slow_function_makes_no_record_late() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let (slow, fast) = keys_of_two_lanes();
    let (sender, ended) = mpsc::channel();
    let is_held = Arc::new(AtomicBool::new(true));
    let (held, slow_key) = (Arc::clone(&is_held), slow.clone());
    let processor = windows(stream.processor("count"))
        .batch_size(3)
        .parallelization_factor(2)
        .time_limit(None)
        .start_with_state(move |invocation, events: &mut Vec<u64>| {
            if invocation.records().any(|record| record.partition_key() == slow_key.as_bytes()) {
                while held.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            collect(invocation, events, |ended| sender.send(ended).unwrap());
        })
        .unwrap();
    // Far more than a lane buffers. When the slow lane continues, the watermark is 800 s ahead.
    for event in 100..900 {
        put(&stream, &slow, [event]);
        put(&stream, &fast, [event]);
    }
    eventually(|| processor.stats().records >= 800);
    eventually(|| ended.try_iter().any(|(start, _)| start == 860));
    is_held.store(false, Ordering::SeqCst);
    eventually(|| processor.stats().records == 1_600);
    assert_eq!(processor.stats().late, 0);
    let mut slow_windows = vec![];
    while slow_windows.len() < 77 {
        let (start, events) = next(&ended);
        assert_eq!(events, (start..start + 10).collect::<Vec<_>>());
        slow_windows.push(start);
    }
    processor.close().unwrap();
}

#[test]
fn l4_the_largest_window_ends_early_if_the_states_are_too_large_together() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let (sender, calls) = mpsc::channel();
    let processor = windows(stream.processor("count"))
        .batch_size(1)
        .start(move |invocation| {
            let window = invocation.window().unwrap();
            let call = (window.start.as_millis() / 1_000, window.is_final, window.is_terminated_early);
            sender.send((call, invocation.state().len())).unwrap();
            let added = match &seconds_of(invocation.records())[..] {
                [100] => 500_000,
                [110] => 480_000,
                [_] => 20_000,
                _ => 0,
            };
            Response::done().with_state(vec![b'x'; invocation.state().len() + added])
        })
        .unwrap();
    put(&stream, "key", [100, 110, 120, 101]);
    assert_eq!(next(&calls), ((100, false, false), 0));
    assert_eq!(next(&calls), ((110, false, false), 0));
    assert_eq!(next(&calls), ((120, false, false), 0));
    assert_eq!(next(&calls), ((100, true, true), 500_000), "together they have more than 990,000 bytes");
    assert_eq!(next(&calls), ((100, false, false), 0), "the rest of the window begins anew");
    until_committed(&stream, "count");
    put(&stream, "key", [150]);
    let finals: Vec<_> = (0..4).map(|_| next(&calls)).filter(|((_, is_final, _), _)| *is_final).collect();
    assert_eq!(
        finals,
        [((100, true, false), 20_000), ((110, true, false), 480_000), ((120, true, false), 20_000)]
    );
    processor.close().unwrap();
}

#[test]
fn l6_records_without_an_event_time_are_given_up_and_end_no_window() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let (sender, given_up) = mpsc::channel();
    let destination = Destination::function(move |discarded: &Discarded| {
        sender.send((discarded.reason(), discarded.error().map(str::to_owned), discarded.window_start()))
    });
    let options =
        windows(stream.processor("count")).batch_size(1).on_failure(destination).event_time(|record| {
            match record.data() {
                b"panic" => panic!("a panic of the test's function"),
                _ => event_time(record),
            }
        });
    let (ended_sender, ended) = mpsc::channel();
    let processor = options
        .start_with_state(move |invocation, events: &mut Vec<u64>| {
            collect(invocation, events, |ended| ended_sender.send(ended).unwrap());
        })
        .unwrap();
    let now = clock.now_seconds();
    let (ahead, within) = (now + 3_601, now + 3_600);
    put(&stream, "key", [now]);
    for data in ["no number", "panic", &ahead.to_string(), ""] {
        stream.put("key", data).unwrap();
    }
    put(&stream, "key", [now + 1]);
    for why in ["invalid digit", "has panicked", "3601 s after the record's arrival", "empty string"] {
        let (reason, error, window) = next(&given_up);
        assert_eq!((reason, window), (DiscardReason::EventTimeUnknown, None));
        assert!(error.as_ref().is_some_and(|error| error.contains(why)), "{error:?}");
    }
    eventually(|| processor.stats().records == 2);
    let stats = processor.stats();
    assert_eq!((stats.discarded, stats.late), (4, 0));
    assert!(stats.last_error.unwrap().contains("empty string"));
    nothing_comes(&ended);
    // An hour ahead is not too much.
    put(&stream, "key", [within]);
    assert_eq!(next(&ended), (now / 10 * 10, vec![now, now + 1]));
    processor.close().unwrap();
}

trait Seconds {
    fn now_seconds(&self) -> u64;
}

impl Seconds for Arc<ManualClock> {
    fn now_seconds(&self) -> u64 {
        streamlog::Clock::now(&**self).as_millis() / 1_000
    }
}

#[test]
fn the_function_for_the_event_time_may_call_the_processor_and_gets_what_the_filter_wants() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    let processor: Arc<OnceLock<Processor>> = Arc::default();
    let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let (inside, inside_seen) = (Arc::clone(&processor), Arc::clone(&seen));
    let filter = Filter::new(r#"{"partitionKey": ["wanted"]}"#).unwrap();
    let options = windows(stream.processor("count")).filter(filter).event_time(move |record| {
        // No lock is held meanwhile.
        inside.get().map(Processor::stats);
        inside_seen.lock().push(record.data().to_vec());
        event_time(record)
    });
    let (sender, ended) = mpsc::channel();
    let started = options.start_with_state(move |invocation, events: &mut Vec<u64>| {
        collect(invocation, events, |ended| sender.send(ended).unwrap());
    });
    processor.set(started.unwrap()).unwrap();
    put(&stream, "wanted", [100]);
    put(&stream, "other", [200]);
    put(&stream, "wanted", [101]);
    until_committed(&stream, "count");
    nothing_comes(&ended);
    assert_eq!(*seen.lock(), [b"100", b"101"]);
    // A shard that receives only filtered records is idle.
    clock.advance(29 * SECOND);
    put(&stream, "other", [200]);
    until_committed(&stream, "count");
    clock.advance(SECOND);
    assert_eq!(next(&ended), (100, vec![100, 101]));
    assert_eq!(processor.get().unwrap().stats().filtered, 2);
}

#[test]
fn a_dry_run_ends_the_same_windows_and_leaves_nothing_behind() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, 1);
    for event in 0..200 {
        // Every fourth is out of order, and some are late.
        put(&stream, &format!("key-{}", event % 5), [1_000 + event - (event % 4 / 3) * (event % 45)]);
    }
    stream.split_shard_evenly(stream.shards()[0].id).unwrap();
    put(&stream, "key-1", [1_100, 1_300]);
    let run = |lanes: usize| {
        let (sender, ended) = mpsc::channel();
        let options = windows(stream.processor("dry")).batch_size(7).parallelization_factor(lanes);
        let stats = options.dry_run_with_state(None, move |invocation, events: &mut Vec<u64>| {
            collect(invocation, events, |ended| sender.send(ended).unwrap());
        });
        (stats.unwrap(), ended.into_iter().collect::<Vec<_>>())
    };
    let (stats, dry) = run(1);
    assert!(stream.groups().unwrap().is_empty(), "nothing was committed");
    assert!(stats.late > 0);
    assert_eq!(stats.late + stats.records, 202);
    let (processor, ended) = start(stream.processor("count").batch_size(7));
    until_committed(&stream, "count");
    eventually(|| processor.stats().records + processor.stats().late == 202);
    clock.advance(30 * SECOND);
    let wet: Vec<_> = (0..dry.len()).map(|_| next(&ended)).collect();
    assert_eq!(wet, dry);
    assert_eq!((processor.stats().records, processor.stats().late), (stats.records, stats.late));
    processor.close().unwrap();
    // With lanes, the same records are late, and the windows have the same events together.
    let (with_lanes, by_lane) = run(3);
    assert_eq!((with_lanes.records, with_lanes.late), (stats.records, stats.late));
    let sorted = |windows: Vec<Ended>| {
        let each = windows
            .into_iter()
            .flat_map(|(start, events)| events.into_iter().map(move |event| (start, event)));
        let mut each: Vec<_> = each.collect();
        each.sort_unstable();
        each
    };
    assert_eq!(sorted(by_lane), sorted(dry));
}
