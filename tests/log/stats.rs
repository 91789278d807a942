//! Statistics of a stream: what was put and read, how far readers are behind, and how the counts are reported.

use crate::common;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use streamlog::{
    Durability, MetricValue, Position, PutRecord, Retention, SECOND, ShardId, ShardIterator, Stream, Traffic,
};

const SHARD: ShardId = ShardId::new(0);

/// Returns the bytes of a frame with these records: a header of 32, 8 more for each record, and padding to a multiple of 8.
fn frame_bytes<'a>(records: impl IntoIterator<Item = (&'a str, usize)>) -> u64 {
    let records = records.into_iter().map(|(key, data)| 8 + key.len() + data);
    (32 + records.sum::<usize>()).next_multiple_of(8) as u64
}

fn traffic(stream: &Stream) -> Traffic {
    stream.stats().unwrap().traffic()
}

fn incoming(stream: &Stream) -> (u64, u64) {
    let all = traffic(stream);
    (all.incoming_records, all.incoming_bytes)
}

fn outgoing(stream: &Stream) -> (u64, u64) {
    let all = traffic(stream);
    (all.outgoing_records, all.outgoing_bytes)
}

fn read_to_end(iterator: &mut ShardIterator, at_a_time: usize) {
    while !iterator.next_batch(at_a_time).unwrap().is_empty() {}
}

/// Puts records one by one and in batches, over several segments. Returns their number and their bytes.
fn put_some(stream: &Stream) -> (u64, u64) {
    let data = [7; 3_000];
    let (mut records, mut bytes) = (0, 0);
    for len in (0..3_000).step_by(37) {
        stream.put("key", &data[..len]).unwrap();
        let batch = [0, 1, 2].map(|more| PutRecord::new("key", &data[..len + more]));
        assert!(stream.put_batch(&batch).unwrap().iter().all(Result::is_ok));
        records += 4;
        bytes +=
            frame_bytes([("key", len)]) + frame_bytes([("key", len), ("key", len + 1), ("key", len + 2)]);
    }
    assert!(stream.stats().unwrap().shards[0].segment_count > 3);
    (records, bytes)
}

#[test]
fn puts_and_reads_are_counted_to_the_byte() {
    for durability in [Durability::Process, Durability::Power] {
        let scratch = common::scratch();
        let options = common::small(&common::clock()).durability(durability);
        let stream = options.clone().open(scratch.path()).unwrap();
        assert_eq!(traffic(&stream), Traffic::default());
        let put = put_some(&stream);
        assert_eq!(incoming(&stream), put);
        stream.maintain().unwrap();
        assert_eq!(incoming(&stream), put, "sealing counts nothing");

        let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
        assert_eq!(outgoing(&stream), (0, 0));
        read_to_end(&mut iterator, 7);
        assert_eq!(outgoing(&stream), put, "also if batches are read in parts");
        let mut again = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
        read_to_end(&mut again, 1_000);
        iterator.seek(Position::TrimHorizon).unwrap();
        read_to_end(&mut iterator, 1);
        assert_eq!(outgoing(&stream), (put.0 * 3, put.1 * 3));
        drop((iterator, again));
        assert_eq!(outgoing(&stream), (put.0 * 3, put.1 * 3), "reads of dropped iterators still count");
        stream.close().unwrap();

        let stream = options.open(scratch.path()).unwrap();
        assert_eq!(traffic(&stream), Traffic::default(), "opening starts the counts at zero");
        stream.put("key", [7; 10]).unwrap();
        assert_eq!(
            incoming(&stream),
            (1, frame_bytes([("key", 10)])),
            "in a segment that was closed and is resumed"
        );
    }
}

#[test]
fn a_shard_that_expires_takes_nothing_away_from_the_stream() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let options = common::small(&clock).retention(Retention::age(10 * SECOND));
    let stream = options.open(scratch.path()).unwrap();
    stream.put("key", "data").unwrap();
    read_to_end(&mut stream.iterator(SHARD, Position::TrimHorizon).unwrap(), 10);
    stream.split_shard_evenly(SHARD).unwrap();
    stream.put("key", "data").unwrap();
    let before = stream.stats().unwrap();
    assert_eq!((before.shards.len(), before.traffic().incoming_records), (3, 2));
    clock.advance(11 * SECOND);
    stream.maintain().unwrap();
    let after = stream.stats().unwrap();
    assert_eq!(after.shards.len(), 2);
    assert_eq!(after.traffic(), before.traffic());
    assert_eq!(after.expired, before.shards[0].traffic);
}

#[test]
fn the_age_is_that_of_the_oldest_record_that_an_iterator_has_not_read() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let options = common::small(&clock).retention(Retention::age(100 * SECOND));
    let stream = options.open(scratch.path()).unwrap();
    let age = || stream.stats().unwrap().iterator_age_ms();
    assert_eq!(age(), None, "nobody reads");
    let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
    assert_eq!(age(), Some(0), "nothing is left to read");
    clock.advance(50 * SECOND);
    stream.put("key", "first").unwrap();
    assert_eq!(age(), Some(1), "the least, however long the shard was empty");
    clock.advance(3 * SECOND);
    assert_eq!(age(), Some(3_000), "it grows while the reader stands still");
    stream.put("key", "second").unwrap();
    clock.advance(SECOND);
    iterator.next_batch(1).unwrap();
    assert_eq!(age(), Some(1_000), "of the second record");
    let mut ahead = stream.iterator(SHARD, Position::Latest).unwrap();
    assert_eq!(age(), Some(1_000), "of the iterator that is furthest behind");
    iterator.next_batch(1).unwrap();
    assert_eq!(age(), Some(0));
    ahead.seek(Position::TrimHorizon).unwrap();
    assert_eq!(age(), Some(4_000));
    drop((iterator, ahead));
    assert_eq!(age(), None);

    let mut overtaken = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
    clock.advance(97 * SECOND);
    stream.maintain().unwrap();
    assert_eq!(age(), Some(98_000), "of the record at the horizon: trimmed records have no age");
    overtaken.skip_to_horizon();
    read_to_end(&mut overtaken, 10);
    assert_eq!(age(), Some(0));
}

#[test]
fn metrics_have_the_names_and_units_of_cloudwatch() {
    let scratch = common::scratch();
    let stream = common::small(&common::clock()).shards(2).open(scratch.path()).unwrap();
    stream.put("key", "data").unwrap();
    let stats = stream.stats().unwrap();
    let of = |shard: Option<ShardId>| {
        let metrics = stats.metrics().filter(move |metric| metric.shard == shard);
        metrics.map(|metric| (metric.name, metric.unit)).collect::<BTreeSet<_>>()
    };
    let put_names = [
        ("PutRecord.Latency", "Milliseconds"),
        ("PutRecord.FailedRecords", "Count"),
        ("PutRecords.Latency", "Milliseconds"),
        ("PutRecords.Success", "Count"),
        ("PutRecords.TotalRecords", "Count"),
        ("PutRecords.SuccessfulRecords", "Count"),
        ("PutRecords.FailedRecords", "Count"),
        ("PutRecords.ThrottledRecords", "Count"),
    ];
    let names = [
        ("IncomingRecords", "Count"),
        ("IncomingBytes", "Bytes"),
        ("GetRecords.Records", "Count"),
        ("GetRecords.Bytes", "Bytes"),
        ("GetRecords.IteratorAgeMilliseconds", "Milliseconds"),
        ("WriteProvisionedThroughputExceeded", "Count"),
        ("ReadProvisionedThroughputExceeded", "Count"),
    ];
    let put_names = put_names.into_iter().filter(|_| cfg!(feature = "metrics"));
    assert_eq!(of(None), names.into_iter().chain(put_names).collect());
    let of_shard = [
        ("IncomingRecords", "Count"),
        ("IncomingBytes", "Bytes"),
        ("OutgoingRecords", "Count"),
        ("OutgoingBytes", "Bytes"),
        ("IteratorAgeMilliseconds", "Milliseconds"),
        ("WriteProvisionedThroughputExceeded", "Count"),
        ("ReadProvisionedThroughputExceeded", "Count"),
    ];
    for shard in &stats.shards {
        assert_eq!(of(Some(shard.shard)), of_shard.into_iter().collect());
    }
    let records = stats.metrics().filter(|metric| metric.name == "IncomingRecords");
    let values: Vec<_> = records.map(|metric| metric.value).collect();
    assert_eq!(values.len(), 3);
    assert_eq!(values[0], MetricValue::Total(1), "the stream's");
    assert!(values[1..].contains(&MetricValue::Total(1)) && values[1..].contains(&MetricValue::Total(0)));
}

#[test]
fn counts_are_reported_with_each_pass_and_on_closing_even_if_the_reporter_panics() {
    let scratch = common::scratch();
    let told: Arc<Mutex<Vec<(PathBuf, u64)>>> = Arc::default();
    let options = common::small(&common::clock()).report_stats({
        let told = Arc::clone(&told);
        move |path, stats| {
            let count = stats.traffic().incoming_records;
            told.lock().unwrap().push((path.to_owned(), count));
            assert_ne!(count, 2, "the test makes the reporter panic");
        }
    });
    let stream = options.open(scratch.path()).unwrap();
    for _ in 0..3 {
        stream.put("key", "data").unwrap();
        stream.maintain().unwrap();
    }
    stream.put("key", "data").unwrap();
    stream.close().unwrap();
    let counts: Vec<_> = told.lock().unwrap().iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [1, 2, 3, 4]);
    assert!(told.lock().unwrap().iter().all(|(path, _)| path == scratch.path()));
}

#[test]
fn the_maintenance_thread_reports_by_itself() {
    let scratch = common::scratch();
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = Mutex::new(sender);
    let options = streamlog::StreamOptions::new();
    let options = options.report_stats(move |_, stats| _ = sender.lock().unwrap().send(stats.record_count()));
    let stream = options.open(scratch.path()).unwrap();
    stream.put("key", "data").unwrap();
    while receiver.recv_timeout(Duration::from_secs(60)).unwrap() == 0 {}
}
