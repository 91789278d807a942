//! The memory of a delivery: no more than its bound and some batches, however many partitions there are and however slow the sink is: L4.
#![cfg(feature = "delivery")]

mod common;
#[path = "common/peak.rs"]
mod peak;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use peak::peak_bytes;
use streamlog::delivery::{CsvOptions, Format, Object, Sink, SinkError, Transformed};
#[cfg(feature = "parquet")]
use streamlog::delivery::{ParquetOptions, ParquetSchema, ParquetType};
use streamlog::{PutRecord, StreamOptions};

const BOUND: usize = 16 << 20;
/// A batch of records and the rows that it becomes, growing buffers before and after they grow, and the stream.
const BESIDE: usize = 8 << 20;
/// What the writer of Parquet takes for a column, and how many of them write at the same time.
#[cfg(feature = "parquet")]
const WRITER: (usize, usize) = (256 << 10, 4);
const PARTITIONS: u64 = 500;
const RECORDS: u64 = 60_000;
const RECORD_BYTES: usize = 1_000;
#[cfg(feature = "parquet")]
const NAME_BYTES: usize = 4 << 10;

/// Refuses everything until it is opened, and then counts the rows of each partition.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    is_slow: AtomicBool,
    rows: Mutex<BTreeMap<String, u64>>,
}

impl Sink for Gate {
    fn put(&self, object: &Object) -> Result<(), SinkError> {
        let mut is_open = self.is_open.lock().unwrap();
        while !*is_open {
            self.is_slow.store(true, Ordering::SeqCst);
            is_open = self.opened.wait(is_open).unwrap();
        }
        drop(is_open);
        let partition = object.name().split('/').next().unwrap().to_owned();
        *self.rows.lock().unwrap().entry(partition).or_default() += object.record_count();
        Ok(())
    }
}

/// Delivers records of 500 partitions to a sink that refuses everything at first. They are small or large for their format, on average.
fn deliver(format: Format, bound: usize, beside: usize, record: impl Fn(u64) -> Vec<u8>, records: u64) {
    let scratch = common::scratch();
    let stream = StreamOptions::new().open(scratch.path()).unwrap();
    for first in (0..records).step_by(500) {
        let batch: Vec<_> =
            (first..first + 500).map(|number| ((number % PARTITIONS).to_string(), record(number))).collect();
        let batch: Vec<_> = batch.iter().map(|(key, data)| PutRecord::new(key, data)).collect();
        stream.put_batch(&batch).unwrap().into_iter().for_each(|put| _ = put.unwrap());
    }
    let gate = Arc::new(Gate::default());
    let peak = peak_bytes(|| {
        let delivery = stream
            .delivery("archive")
            .partition_keys(["key"])
            .prefix("!{partitionKeyFromLambda:key}/")
            .error_prefix("errors/!{firehose:error-output-type}/")
            .format(format)
            .memory_bytes_max(bound)
            .transform(|record| {
                Transformed::row_in(record.data(), [std::str::from_utf8(record.partition_key()).unwrap()])
            })
            .to(Arc::clone(&gate))
            .start()
            .unwrap();
        // Until memory is full: then nothing more is read.
        let mut read = (0, Instant::now());
        while read.1.elapsed() < Duration::from_millis(500) || !gate.is_slow.load(Ordering::SeqCst) {
            let now = delivery.stats().read_records;
            if now != read.0 {
                read = (now, Instant::now());
            }
            std::thread::yield_now();
        }
        assert!((records / 100..records).contains(&read.0), "{} records were read", read.0);
        *gate.is_open.lock().unwrap() = true;
        gate.opened.notify_all();
        assert!(delivery.flush(Duration::from_secs(120)), "{:?}", delivery.stats());
        assert_eq!(delivery.stats().buffered_bytes, 0);
        delivery.close().unwrap();
    });
    println!("{} MiB", peak as f64 / f64::from(1 << 20));
    assert!(peak < bound + beside, "L4: {peak} bytes were in use");
    let rows = gate.rows.lock().unwrap();
    assert_eq!(rows.len() as u64, PARTITIONS);
    assert!(rows.values().all(|&count| count == records / PARTITIONS), "each record once: {rows:?}");
}

/// Run in sequence, because they count all memory of the process.
#[test]
fn l4_the_memory_of_500_partitions_with_a_slow_sink_has_a_bound() {
    deliver(Format::lines(), BOUND, BESIDE, |_| vec![b'x'; RECORD_BYTES], RECORDS);
    // Where the rows end takes as much memory as they do.
    deliver(Format::lines(), BOUND / 4, BESIDE, |_| vec![b'x'; 8], 5 * RECORDS);
    let json =
        |number: u64| format!(r#"{{"id":{number},"text":"{}"}}"#, "x".repeat(RECORD_BYTES)).into_bytes();
    deliver(Format::csv(CsvOptions::new(["id", "text"])), BOUND, BESIDE, json, RECORDS);
    #[cfg(feature = "parquet")]
    {
        // The name of a column is in memory once, not once for each object.
        let name = "n".repeat(NAME_BYTES);
        let schema =
            ParquetSchema::new().column("id", ParquetType::Int64).column("text", ParquetType::String);
        let schema = schema.column(name, ParquetType::Bool);
        let beside = BESIDE + 3 * WRITER.0 * WRITER.1;
        deliver(Format::parquet(ParquetOptions::new(schema)), BOUND, beside, json, RECORDS);
    }
}
