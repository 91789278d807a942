//! What any process can see of processors and queues: their progress, windows, settings and dead letters. L1, L6, L8.

use crate::common;

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use streamlog::{
    Clock, Error, MINUTE, ManualClock, Position, ProcessorDescription, Queue, Retention, SECOND, Stream,
    StreamOptions, StreamReader,
};

const NONE: Duration = Duration::ZERO;

fn open(path: &Path, clock: &Arc<ManualClock>) -> (Stream, StreamReader) {
    let stream = common::small(clock).retention(Retention::forever()).open(path).unwrap();
    (stream, StreamOptions::new().clock(clock.clone()).open_reader(path).unwrap())
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, Error>, part: &str) {
    match outcome {
        Err(Error::InvalidArgument(reason)) => assert!(reason.contains(part), "{reason}"),
        other => panic!("{other:?}"),
    }
}

/// Describes a processor repeatedly until a condition holds.
#[track_caller]
fn eventually(
    reader: &StreamReader,
    name: &str,
    what: impl Fn(&ProcessorDescription) -> bool,
) -> ProcessorDescription {
    let begun = Instant::now();
    loop {
        let described = reader.describe_processor(name).unwrap();
        if what(&described) {
            return described;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it stays {described:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Returns two keys, one for each of two lanes.
fn keys_of_lanes() -> [String; 2] {
    let lane = |key: &String| xxhash_rust::xxh3::xxh3_64(key.as_bytes()) % 2;
    [0, 1].map(|of| (0..).map(|number| format!("key-{number}")).find(|key| lane(key) == of).unwrap())
}

#[test]
fn l8_a_processor_is_seen_with_its_lag_its_lanes_and_its_windows() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let (stream, reader) = open(scratch.path(), &clock);
    let worker = stream.group("billing").worker().open().unwrap();
    assert!(reader.processors().unwrap().is_empty());
    let [good, bad] = keys_of_lanes();
    let start = || {
        let bad = bad.clone();
        let options =
            stream.processor("audit").parallelization_factor(2).tumbling_window(MINUTE).batch_size(1);
        let function = move |invocation: &streamlog::Invocation, seen: &mut Vec<String>| {
            for record in invocation.records() {
                if record.partition_key() == bad.as_bytes() {
                    return Err("not this one");
                }
                seen.push("seen".to_owned());
            }
            Ok(())
        };
        options.start_with_state(function).unwrap()
    };
    let processor = start();
    for key in [&bad, &good, &good] {
        stream.put(key, "clicked").unwrap();
    }
    let is_seen = |described: &ProcessorDescription| {
        described.windows().any(|window| window.state_bytes == r#"["seen","seen"]"#.len())
    };
    let described = eventually(&reader, "audit", is_seen);
    assert_eq!(reader.processors().unwrap(), ["audit"]);
    assert_eq!((described.name.as_str(), described.committed_at), ("audit", clock.now()));
    let [shard] = &described.shards[..] else { panic!("{described:?}") };
    assert_eq!((shard.next_sequence.get(), shard.lag.record_count), (0, 3), "the first record is not done");
    let next: Vec<u64> = shard.lanes.iter().map(|lane| lane.next_sequence.get()).collect();
    assert_eq!(next, [3, 0], "one lane is done with everything, the other with nothing");
    let [window] = &shard.lanes[0].windows[..] else { panic!("{described:?}") };
    // The clock stands at 20 seconds after a minute.
    assert_eq!((window.start + 20 * SECOND, window.end), (clock.now(), window.start + MINUTE));
    assert!(!window.is_over);
    assert_eq!(shard.lanes[1].windows[0].state_bytes, 0, "nothing has succeeded there");
    clock.advance(10 * SECOND);
    assert_eq!(reader.describe_processor("audit").unwrap().lag().age, 10 * SECOND, "the iterator age");
    // Also while no process runs it.
    processor.close().unwrap();
    let again = reader.describe_processor("audit").unwrap();
    assert_eq!((&again.shards[0].lanes, again.lag().record_count), (&shard.lanes, 3));

    assert_refused(reader.describe_processor("billing"), "the stream has no processor \"billing\"");
    assert_refused(reader.describe_processor("other"), "the stream has no processor \"other\"");
    assert_refused(reader.describe_processor("../x"), "is not a name of a processor");
    drop(worker);
    stream.group("audit").delete().unwrap();
    assert!(reader.processors().unwrap().is_empty());
    stream.clone().close().unwrap();
    assert!(matches!(stream.describe_processor("audit"), Err(Error::Closed)));
}

#[test]
fn l8_a_processor_that_has_nothing_to_do_is_seen_through_splits_resets_and_plain_workers() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let (stream, reader) = open(scratch.path(), &clock);
    let processor = stream.processor("audit").start(|_| ()).unwrap();
    let started = clock.now();
    let described = reader.describe_processor("audit").unwrap();
    assert_eq!((described.committed_at, described.shards.len()), (started, 1));
    clock.advance(MINUTE);
    stream.put("key", "clicked").unwrap();
    let described = eventually(&reader, "audit", |described| described.lag().record_count == 0);
    assert_eq!(described.committed_at, started + MINUTE);
    assert!(described.shards[0].lanes.is_empty(), "the shard says it all");
    stream.split_shard_evenly(stream.shards()[0].id).unwrap();
    let described = eventually(&reader, "audit", |described| described.shards.len() == 2);
    assert_eq!((described.shards[0].shard.get(), described.shards[1].shard.get()), (1, 2));
    processor.close().unwrap();
    stream.group("audit").reset(Position::TrimHorizon).unwrap();
    assert_eq!(reader.describe_processor("audit").unwrap().lag().record_count, 1);
    let mut worker = stream.group("audit").worker().open().unwrap();
    let batch = worker.poll(SECOND).unwrap().unwrap();
    // A processor would not commit this. No reader fails on it.
    worker.commit_with_state(batch.shard(), 1.into(), b"{}\n").unwrap();
    drop(worker);
    let described = reader.describe_processor("audit").unwrap();
    assert!(described.lag().record_count == 0 && described.windows().next().is_none());
    assert_eq!(reader.processors().unwrap(), ["audit"]);
}

fn dead_letter(queue: &Queue, clock: &ManualClock) {
    for record in queue.receive(10_000, NONE).unwrap() {
        queue.release(&record.handle, NONE).unwrap();
    }
    clock.advance(SECOND);
}

#[test]
fn l8_the_settings_of_a_queue_are_those_of_its_last_opening_wherever_one_looks() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let (stream, reader) = open(scratch.path(), &clock);
    let settings = |timeout, receives: Option<u32>, keep, outstanding| {
        let options = stream.queue("jobs").visibility_timeout(timeout).max_receive_count(receives);
        let queue = options.keep_dead_letters(keep).outstanding_max(outstanding).open().unwrap();
        let inside = queue.describe().unwrap();
        let outside = reader.describe_queue("jobs").unwrap();
        assert_eq!(inside, outside);
        queue.close().unwrap();
        assert_eq!(reader.describe_queue("jobs").unwrap(), inside);
        assert_eq!((inside.visibility_timeout, inside.max_receive_count), (timeout, receives));
        assert_eq!((inside.keep_dead_letters, inside.outstanding_max), (keep, outstanding));
    };
    settings(Duration::from_micros(1_500), Some(3), false, 17);
    settings(12 * 60 * MINUTE, Some(1_000), true, 10_000_000);
    settings(MINUTE, None, true, 10);
    settings(NONE, Some(1), true, 1);
    // Also settings changed since.
    let queue = stream.queue("jobs").open().unwrap();
    for count in [None, Some(2)] {
        queue.set_max_receive_count(count).unwrap();
        let inside = queue.describe().unwrap();
        assert_eq!((inside.max_receive_count, reader.describe_queue("jobs").unwrap()), (count, inside));
    }
    queue.close().unwrap();
    stream.queue("jobs").ordered_by_key().open().unwrap_err();
    let kept = reader.describe_queue("jobs").unwrap();
    assert_eq!(kept.max_receive_count, Some(2), "an opening that fails changes nothing");
    // One created before settings were stored, and one with settings of a later version.
    let journal = scratch.path().join("queues").join("jobs");
    for text in [None, Some("{"), Some(r#"{"another":1}"#)] {
        let journal = Stream::open(&journal).unwrap();
        journal.set_property("options", text).unwrap();
        journal.close().unwrap();
        let described = reader.describe_queue("jobs").unwrap();
        assert_eq!(
            (described.visibility_timeout, described.max_receive_count),
            (30 * SECOND, Some(6)),
            "the defaults"
        );
    }
}

#[test]
fn l8_the_oldest_record_is_the_oldest_that_is_not_done() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let (stream, reader) = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").max_receive_count(1).open().unwrap();
    let age = || {
        let outside = reader.describe_queue("jobs").unwrap().oldest_age;
        assert_eq!(queue.describe().unwrap().oldest_age, outside);
        outside
    };
    let put = || {
        clock.advance(10 * SECOND);
        stream.put("key", "job").unwrap()
    };
    assert_eq!(age(), NONE);
    put();
    put();
    clock.advance(SECOND);
    assert_eq!(age(), 11 * SECOND, "not read yet");
    let jobs = queue.receive(10, NONE).unwrap();
    assert_eq!(age(), 11 * SECOND, "in flight");
    queue.acknowledge(&jobs[0].handle).unwrap();
    assert_eq!(age(), SECOND, "the other one");
    put();
    queue.release(&jobs[1].handle, NONE).unwrap();
    assert_eq!(queue.describe().unwrap().dead_letter_count, 1);
    clock.advance(SECOND);
    assert_eq!(age(), SECOND, "a dead letter is done");
    let job = queue.receive(1, NONE).unwrap().remove(0);
    let shard = stream.split_shard_evenly(job.shard).unwrap().remove(0);
    stream.put("key", "in a child").unwrap();
    clock.advance(SECOND);
    assert_eq!(age(), 2 * SECOND, "of all shards");
    stream.trim_before(job.shard, job.record.sequence.plus(1)).unwrap();
    let outside = reader.describe_queue("jobs").unwrap().oldest_age;
    assert_eq!(outside, SECOND, "what is trimmed is gone, also before the queue notices");
    let in_child = queue.receive(1, NONE).unwrap().remove(0);
    assert!(shard.id > job.shard && in_child.shard > job.shard);
    put();
    let done = queue.receive(1, NONE).unwrap().remove(0);
    queue.acknowledge(&done.handle).unwrap();
    clock.advance(SECOND);
    assert_eq!(age(), 12 * SECOND);
    stream.trim_before(done.shard, done.record.sequence).unwrap();
    assert_eq!(reader.describe_queue("jobs").unwrap().oldest_age, NONE, "only one that is done is left");
}

#[test]
fn l1_l8_dead_letters_are_looked_at_without_handing_them_out() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let (stream, reader) = open(scratch.path(), &clock);
    let queue = stream.queue("jobs").max_receive_count(2).open().unwrap();
    for number in 0..5 {
        stream.put("key", number.to_string()).unwrap();
    }
    let first_received = clock.now();
    dead_letter(&queue, &clock);
    assert!(reader.peek_dead_letters("jobs", 10).unwrap().is_empty());
    dead_letter(&queue, &clock);
    stream.put("key", "alive").unwrap();
    let taken = queue.receive_dead_letters(1, NONE).unwrap().remove(0);
    let texts = |max| {
        let peeked = reader.peek_dead_letters("jobs", max).unwrap();
        peeked.iter().map(|dead| String::from_utf8_lossy(&dead.record.data).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(texts(10_000), ["0", "1", "2", "3", "4"], "also the one that is handed out");
    assert_eq!(texts(2), ["0", "1"]);
    let dead = reader.peek_dead_letters("jobs", 10).unwrap();
    assert_eq!(dead[0].handle, taken.handle);
    assert_eq!((dead[1].receive_count, dead[1].first_received), (2, first_received));
    assert_eq!(dead, reader.peek_dead_letters("jobs", 10).unwrap(), "looking changes nothing");
    assert_eq!(queue.receive_dead_letters(10, NONE).unwrap().len(), 4, "they are not hidden");
    assert!(
        matches!(queue.restore(&dead[1].handle), Err(Error::ReceiptHandleInvalid { .. })),
        "handed out since"
    );

    // Also after everything was closed, and as time passes while no process has the queue open.
    clock.advance(MINUTE);
    let waiting = queue.receive(10, NONE).unwrap();
    queue.release(&waiting[0].handle, NONE).unwrap();
    assert_eq!(queue.receive(10, NONE).unwrap()[0].receive_count, 2);
    queue.close().unwrap();
    assert_eq!(texts(10).len(), 5);
    clock.advance(MINUTE);
    let dead = reader.peek_dead_letters("jobs", 10).unwrap();
    assert_eq!(&*dead[5].record.data, b"alive", "its last time out is over");
    let queue = reader.queue("jobs").max_receive_count(2).open().unwrap();
    queue.acknowledge(&dead[0].handle).unwrap();
    queue.restore(&dead[5].handle).unwrap();
    let restored = queue.receive(10, NONE).unwrap();
    assert_eq!((restored.len(), restored[0].receive_count, &*restored[0].record.data), (1, 1, &b"alive"[..]));
    assert_eq!(texts(10), ["1", "2", "3", "4"]);
    stream.trim_before(dead[3].shard, dead[3].record.sequence).unwrap();
    assert_eq!(texts(10), ["3", "4"], "what retention has dropped is left out");
    assert_refused(reader.peek_dead_letters("jobs", 0), "records_max");
    assert_refused(reader.peek_dead_letters("jobs", 10_001), "records_max");
    assert_refused(reader.peek_dead_letters("other", 1), "no queue");
}
