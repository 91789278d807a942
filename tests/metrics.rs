//! The cargo feature `metrics`: what it reports to the facade of that name, and how it counts puts.
#![cfg(feature = "metrics")]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use streamlog::{Durability, PutRecord, Retention, SECOND, ShardId, Stream};

const SHARD: ShardId = ShardId::new(0);
const NAME: &str = "shardId-000000000000";

/// What an exporter would show: values by name and shard, and the unit of each name.
#[derive(Debug, Clone, Default)]
struct Exporter {
    values: Arc<Mutex<BTreeMap<(String, String), f64>>>,
    units: Arc<Mutex<BTreeMap<String, Unit>>>,
}

/// One value of an exporter.
struct Cell(Exporter, (String, String));

impl Cell {
    fn change(&self, change: impl FnOnce(&mut f64)) {
        change(self.0.values.lock().unwrap().entry(self.1.clone()).or_default());
    }
}

impl CounterFn for Cell {
    fn increment(&self, more: u64) {
        self.change(|value| *value += more as f64);
    }

    fn absolute(&self, total: u64) {
        self.change(|value| *value = value.max(total as f64));
    }
}

impl GaugeFn for Cell {
    fn increment(&self, more: f64) {
        self.change(|value| *value += more);
    }

    fn decrement(&self, less: f64) {
        self.change(|value| *value -= less);
    }

    fn set(&self, to: f64) {
        self.change(|value| *value = to);
    }
}

impl HistogramFn for Cell {
    fn record(&self, value: f64) {
        assert!((0.0..600_000.0).contains(&value), "{value} ms");
        self.change(|count| *count += 1.0);
    }
}

impl Exporter {
    fn cell(&self, key: &Key) -> Arc<Cell> {
        let label =
            |name: &str| key.labels().find(|label| label.key() == name).map(|label| label.value().to_owned());
        assert!(label("stream").is_some_and(|stream| stream.contains('/')), "{key}");
        let cell = Cell(self.clone(), (key.name().to_owned(), label("shard").unwrap_or_default()));
        cell.change(|_| ());
        Arc::new(cell)
    }

    fn describe(&self, key: &KeyName, unit: Option<Unit>) {
        self.units.lock().unwrap().insert(key.as_str().to_owned(), unit.unwrap());
    }

    fn value(&self, name: &str, shard: &str) -> f64 {
        let values = self.values.lock().unwrap();
        let key = (name.to_owned(), shard.to_owned());
        *values.get(&key).unwrap_or_else(|| panic!("no {key:?} in {values:#?}"))
    }
}

impl Recorder for Exporter {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, unit);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, unit);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&key, unit);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.cell(key))
    }
}

#[test]
fn the_facade_gets_the_counts_of_a_processor() {
    let (scratch, clock, exporter) = (common::scratch(), common::clock(), Exporter::default());
    let stream = common::small(&clock).open(scratch.path()).unwrap();
    let report = streamlog::metrics::processor_reporter();
    let (sender, receiver) = std::sync::mpsc::channel();
    let processor = stream
        .processor("audit")
        .maximum_retry_attempts(0)
        .start(move |invocation| {
            let is_bad = invocation.records().any(|record| record.data() == b"bad");
            sender.send(is_bad).unwrap();
            if is_bad { Err("it is bad") } else { Ok(()) }
        })
        .unwrap();
    metrics::with_local_recorder(&exporter, || {
        for (round, data) in ["good", "bad", "good"].into_iter().enumerate() {
            stream.put("key", data).unwrap();
            assert_eq!(receiver.recv().unwrap(), data == "bad");
            while processor.stats().records + processor.stats().discarded <= round as u64 {
                std::thread::yield_now();
            }
            report(&processor);
        }
        let values =
            ["Invocations", "ProcessedEventCount", "DroppedEventCount", "Errors", "ConcurrentExecutions"];
        assert_eq!(values.map(|name| exporter.value(name, "")), [3.0, 2.0, 1.0, 1.0, 0.0]);
        assert_eq!(exporter.units.lock().unwrap()["IteratorAge"], Unit::Milliseconds);
    });
    processor.close().unwrap();
}

#[test]
fn the_facade_gets_the_stats_also_across_reopening_and_expiry() {
    let (scratch, clock, exporter) = (common::scratch(), common::clock(), Exporter::default());
    let options = common::small(&clock).retention(Retention::age(10 * SECOND));
    let options = options.report_stats(streamlog::metrics::reporter());
    metrics::with_local_recorder(&exporter, || {
        let stream = options.clone().open(scratch.path()).unwrap();
        (0..200).for_each(|_| assert!(stream.put("key", "data").is_ok()));
        stream.maintain().unwrap();
        assert_eq!(exporter.value("IncomingRecords", ""), 200.0);
        assert_eq!(exporter.value("IncomingRecords", NAME), 200.0);
        assert_eq!(exporter.value("PutRecord.Latency", ""), 3.0, "one put in 64 is timed");
        assert!(exporter.value("IteratorAgeMilliseconds", NAME).is_nan(), "nobody reads");

        let mut iterator = stream.iterator(SHARD, streamlog::Position::TrimHorizon).unwrap();
        iterator.next_batch(150).unwrap();
        clock.advance(SECOND);
        stream.maintain().unwrap();
        assert_eq!(exporter.value("GetRecords.Records", ""), 150.0);
        assert_eq!(exporter.value("OutgoingRecords", NAME), 150.0);
        assert_eq!(exporter.value("IteratorAgeMilliseconds", NAME), 1_000.0);
        assert_eq!(exporter.value("GetRecords.IteratorAgeMilliseconds", ""), 1_000.0);
        stream.put("key", "data").unwrap();
        stream.close().unwrap();
        assert_eq!(exporter.value("IncomingRecords", ""), 201.0, "closing reports the last counts");
        drop(iterator);

        let stream = options.open(scratch.path()).unwrap();
        (0..5).for_each(|_| assert!(stream.put("key", "data").is_ok()));
        stream.maintain().unwrap();
        assert_eq!(exporter.value("IncomingRecords", ""), 206.0);

        let _behind = stream.iterator(SHARD, streamlog::Position::TrimHorizon).unwrap();
        stream.split_shard_evenly(SHARD).unwrap();
        clock.advance(5 * SECOND);
        stream.maintain().unwrap();
        assert_eq!(exporter.value("IteratorAgeMilliseconds", NAME), 6_000.0);
        clock.advance(6 * SECOND);
        stream.maintain().unwrap();
        assert!(exporter.value("IteratorAgeMilliseconds", NAME).is_nan(), "the shard has expired");
        assert_eq!(exporter.value("IncomingRecords", ""), 206.0);
    });
    let units = exporter.units.lock().unwrap();
    assert_eq!(units["IncomingBytes"], Unit::Bytes);
    assert_eq!(units["PutRecord.Latency"], Unit::Milliseconds);
    assert_eq!(units["OutgoingRecords"], Unit::Count);
}

#[test]
fn puts_are_timed_and_batches_counted_by_their_outcomes() {
    let scratch = common::scratch();
    let options = common::small(&common::clock()).durability(Durability::Power);
    let stream = options.open(scratch.path()).unwrap();
    let puts = |stream: &Stream| stream.stats().unwrap().puts.unwrap();
    let batch = [1, 2, 3].map(|_| PutRecord::new("key", "data"));
    stream.put("key", "data").unwrap();
    stream.put("key", "data").unwrap();
    stream.put_batch(&batch).unwrap();
    let counted = puts(&stream);
    assert_eq!(
        (counted.put_latency.count(), counted.batch_latency.count()),
        (2, 1),
        "puts that sync are all timed"
    );
    assert!(counted.put_latency.mean() > Duration::ZERO);
    assert!(counted.put_latency.quantile(1.0) >= counted.put_latency.mean());
    assert_eq!((counted.batch_success, counted.batch_records), (1, 3));

    stream.put("", "data").unwrap_err();
    assert_eq!(puts(&stream), counted, "a put with invalid arguments does not count");
    stream.clone().close().unwrap();
    stream.put("key", "data").unwrap_err();
    assert!(stream.put_batch(&batch).unwrap().iter().all(Result::is_err));
    let counted = puts(&stream);
    assert_eq!((counted.put_failed, counted.batch_records_failed), (1, 3));
    assert_eq!((counted.batch_success, counted.batch_records), (1, 3));
}
