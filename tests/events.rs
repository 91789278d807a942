//! The events of a stream's life, with the cargo feature `tracing`.
#![cfg(feature = "tracing")]

mod common;

use std::fmt::{Debug, Write};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use streamlog::{Clock, HOUR, Retention, SECOND, Scaling, ShardId, StreamOptions};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const SHARD: ShardId = ShardId::new(0);

/// Records each event as a line: level, text, fields.
#[derive(Debug, Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("streamlog")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Notes {
    /// Checks that the events since the last call include, for each list of parts, one that has all of them.
    #[track_caller]
    fn tell(&self, expected: &[&[&str]]) {
        let lines = std::mem::take(&mut *self.0.lock().unwrap());
        for parts in expected {
            let is_it = |line: &&String| parts.iter().all(|part| line.contains(part));
            assert!(lines.iter().find(is_it).is_some(), "no {parts:?} in {lines:#?}");
        }
    }
}

#[test]
fn a_stream_reports_the_events_of_its_life() {
    let (scratch, clock, notes) = (common::scratch(), common::clock(), Notes::default());
    let path = scratch.path().join("stream");
    let (name, copy) = (path.to_str().unwrap(), scratch.path().join("copy"));
    let options = || common::small(&clock).retention(Retention::age(10 * SECOND));
    let _subscribed = tracing::subscriber::set_default(notes.clone());

    let stream = options().open(&path).unwrap();
    notes.tell(&[
        &["INFO the stream is created", name, "shard_count=1"],
        &["INFO the stream is open", name, "duration_ms="],
    ]);
    (0..10).for_each(|_| assert!(stream.put("key", [7; 10_000]).is_ok()));
    notes.tell(&[&["DEBUG a segment begins", name, "base=0"], &["DEBUG a segment begins", "base=6"]]);
    stream.maintain().unwrap();
    notes.tell(&[&["DEBUG a segment is sealed", name, "base=0"]]);
    common::copy_dir(&path, &copy);
    stream.split_shard_evenly(SHARD).unwrap();
    notes.tell(&[
        &["INFO a shard is closed", "000000000000", "end=10"],
        &["INFO a shard begins", name, "shard=shardId-000000000002"],
    ]);
    clock.advance(11 * SECOND);
    stream.maintain().unwrap();
    notes.tell(&[
        &["INFO a segment is behind the horizon", "00000000000000000000.seg"],
        &["INFO a shard has expired", "shard=shardId-000000000000"],
    ]);
    stream.close().unwrap();
    notes.tell(&[&["INFO the stream is closed", name]]);

    // What a kill leaves, with a tail that is not a frame.
    let last = common::segment_files(&copy, 0).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    let last_byte = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    bytes[(last_byte + 1).next_multiple_of(8)] = 1;
    fs::write(&last, bytes).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o770)).unwrap();
    drop(common::small(&clock).open(&copy).unwrap());
    notes.tell(&[
        &["INFO a shard was not closed cleanly", "scanned_bytes="],
        &["WARN a torn tail is cut", last.to_str().unwrap(), "offset=", "reason="],
        &["WARN others than its owner may write", copy.to_str().unwrap(), "chmod go-w"],
    ]);
}

#[test]
fn a_clock_that_jumps_is_reported() {
    let (scratch, clock, notes) = (common::scratch(), common::clock(), Notes::default());
    let _subscribed = tracing::subscriber::set_default(notes.clone());
    let options = || common::small(&clock).retention(Retention::age(10 * SECOND));
    let stream = options().open(scratch.path()).unwrap();
    let right = clock.now();
    clock.set(right + HOUR);
    stream.maintain().unwrap();
    notes.tell(&[&["WARN the clock was set forward", scratch.path().to_str().unwrap(), "by_ms=3600000"]]);
    stream.put("key", "data").unwrap();
    clock.set(right);
    stream.maintain().unwrap();
    notes.tell(&[&["WARN the clock was set back", "by_ms=3600000"]]);
    stream.close().unwrap();
    drop(options().open(scratch.path()).unwrap());
    notes.tell(&[&["WARN the clock is behind the latest record", "by_ms=3600000"]]);
    clock.set(right + 2 * HOUR);
    drop(options().open(scratch.path()).unwrap());
    notes.tell(&[&["WARN all records have expired", "by_ms=3600000"]]);
}

#[test]
fn each_decision_of_scaling_is_reported_with_its_reason() {
    let (scratch, clock, notes) = (common::scratch(), common::clock(), Notes::default());
    let name = scratch.path().to_str().unwrap();
    let _subscribed = tracing::subscriber::set_default(notes.clone());
    let stream = common::small(&clock).open(scratch.path()).unwrap();
    stream.set_scaling(Scaling::on_demand(1, 2).capacity(1 << 20, 10)).unwrap();
    let pass = |records: u32, key: &dyn Fn(u32) -> String| {
        for _ in 0..3 {
            (0..records).for_each(|number| _ = stream.put(key(number), "data").unwrap());
            clock.advance(10 * SECOND);
            stream.maintain().unwrap();
        }
    };
    pass(50, &|number| format!("user-{number}"));
    notes.tell(&[
        &["INFO the stream is scaled", name, "took 50 % of its capacity: it was split at hash key"],
        &["INFO a shard begins", "shardId-000000000001"],
    ]);
    pass(400, &|number| format!("user-{number}"));
    notes.tell(&[&["WARN the stream cannot be scaled further", name, "not have more than its 2 shards"]]);
    pass(100, &|_| "secret".to_owned());
    notes.tell(&[&["WARN the stream cannot be scaled further", "100 % of that came from one partition key"]]);
    (0..30).for_each(|_| pass(0, &|_| String::new()));
    notes.tell(&[&[
        "INFO the stream is scaled",
        "shardId-000000000001 and shardId-000000000002 together took 0 %",
    ]]);
}

#[test]
fn a_failed_sync_and_lost_records_are_reported_as_errors() {
    let (scratch, notes) = (common::scratch(), Notes::default());
    let path = scratch.path().join("stream");
    let options = || common::small(&common::clock());
    let _subscribed = tracing::subscriber::set_default(notes.clone());
    let stream = options().open(&path).unwrap();
    stream.put("key", "data").unwrap();
    let segment = common::segment_files(&path, 0).remove(0);
    let bytes = fs::read(&segment).unwrap();
    fs::remove_file(&segment).unwrap();
    stream.sync().unwrap_err();
    notes.tell(&[&["ERROR a sync failed", "shardId-000000000000", segment.to_str().unwrap(), "was removed"]]);
    fs::write(&segment, bytes).unwrap();
    stream.close().unwrap_err();
    notes.tell(&[&["ERROR the stream is not closed cleanly", "takes no more puts"]]);

    let stream = options().open(&path).unwrap();
    ["second", "third"].iter().for_each(|data| assert!(stream.put("key", data).is_ok()));
    stream.close().unwrap();
    let segment = common::segment_files(&path, 0).pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(6).position(|window| window == b"second").unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let salvaged: StreamOptions = options().salvage(true);
    drop(salvaged.open(&path).unwrap());
    notes.tell(&[&["ERROR records are lost", "lost 1 record, from sequence number 1 to before 2"]]);
}
