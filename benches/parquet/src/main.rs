//! The speed of a delivery that writes JSON as Parquet, compared with Arrow's JSON reader and Parquet writer.
//!
//! `cargo run --release -p parquet_bench`; `-- --quick` is a smoke run with little memory, and a path after `--` names the directory to write in.
//! Both make the same files of the same records: the same columns, rows, compression and page sizes. They take turns, and each figure is
//! the median over the rounds. Arrow works in one thread, which has the lines in memory and syncs each file as a delivery does. A delivery
//! reads the records from the log and separates those that do not fit; one thread reads, and one writes.

use std::fs::{self, File};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_json::ReaderBuilder;
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use streamlog::delivery::{Directory, Format, ParquetOptions, ParquetSchema, ParquetType};
use streamlog::{PutRecord, Stream};

const RECORD_BYTES: usize = 200;
/// Both pass this many rows at a time to their writers.
const BATCH_ROWS: usize = 1_024;

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let is_quick = args.iter().any(|arg| arg == "--quick");
    let (megabytes, object_megabytes, rounds) = if is_quick { (8, 4, 1) } else { (256, 32, 7) };
    let work = match args.iter().find(|arg| !arg.starts_with("--")) {
        Some(path) => tempfile::tempdir_in(path),
        None => tempfile::tempdir(),
    };
    let work = work.expect("a directory to write in");
    let stream = Stream::open(work.path().join("stream")).expect("a stream");
    let objects = fill(&stream, megabytes << 20, object_megabytes << 20);
    println!(
        "{megabytes} MiB of JSON in records of {RECORD_BYTES} B, in objects of {object_megabytes} MiB, in {}\n",
        work.path().display()
    );
    let mut bench = Bench {
        stream,
        objects,
        object_bytes: object_megabytes << 20,
        out: work.path().join("out"),
        runs: 0,
    };
    let (mut arrow, mut delivery, mut sizes) = (vec![], vec![], (0, 0));
    for _ in 0..rounds {
        arrow.push(bench.arrow());
        sizes.0 = bench.clear();
        delivery.push(bench.deliver());
        sizes.1 = bench.clear();
    }
    let (arrow, delivery) = (median(arrow), median(delivery));
    let rate = |seconds: f64| megabytes as f64 / seconds;
    println!("{:<24}{:>8.0} MiB/s", "Arrow", rate(arrow));
    println!("{:<24}{:>8.0} MiB/s {:>6.2} of Arrow", "delivery", rate(delivery), arrow / delivery);
    println!("\nThe files have {} and {} bytes.", sizes.0, sizes.1);
}

/// Puts this many bytes of JSON. Returns them as lines, in objects.
fn fill(stream: &Stream, bytes: usize, object_bytes: usize) -> Vec<Vec<u8>> {
    let (mut objects, mut lines, mut in_object, mut number) = (vec![], vec![], 0, 0u64);
    for _ in 0..bytes / RECORD_BYTES / 500 {
        let records: Vec<String> = (number..number + 500).map(record).collect();
        let batch: Vec<_> = records.iter().map(|record| PutRecord::new("key", record)).collect();
        stream.put_batch(&batch).expect("a put").into_iter().for_each(|put| _ = put.expect("a put"));
        for record in records {
            in_object += record.len();
            lines.extend_from_slice(record.as_bytes());
            lines.push(b'\n');
            if in_object >= object_bytes {
                objects.push(std::mem::take(&mut lines));
                in_object = 0;
            }
        }
        number += 500;
    }
    objects.push(lines);
    objects
}

fn record(number: u64) -> String {
    let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut text = format!(
        r#"{{"at":{},"user":"user-{}","page":"/product/{}","total":{}.{:02},"is_new":{},"agent":"Mozilla/5.0 (X11; Linux)","id":"{hash:016x}"#,
        1_700_000_000_000 + number * 7,
        hash % 10_007,
        hash % 997,
        hash % 500,
        hash % 100,
        hash.is_multiple_of(3),
    );
    while text.len() < RECORD_BYTES - 2 {
        text.push(char::from(b'a' + (hash >> (text.len() % 56)) as u8 % 26));
    }
    text + "\"}"
}

struct Bench {
    stream: Stream,
    objects: Vec<Vec<u8>>,
    object_bytes: usize,
    out: PathBuf,
    runs: u32,
}

impl Bench {
    fn deliver(&mut self) -> Duration {
        self.runs += 1;
        let schema = ParquetSchema::new()
            .column("at", ParquetType::Int64)
            .column("user", ParquetType::String)
            .column("page", ParquetType::String)
            .column("total", ParquetType::Double)
            .column("is_new", ParquetType::Bool)
            .column("agent", ParquetType::String)
            .column("id", ParquetType::String);
        let begun = Instant::now();
        let delivery = self
            .stream
            .delivery(format!("bench-{}", self.runs))
            .format(Format::parquet(ParquetOptions::new(schema)))
            .buffer_bytes(self.object_bytes)
            .concurrency(1)
            .to(Directory::new(&self.out))
            .start()
            .expect("a delivery");
        assert!(delivery.flush(Duration::from_secs(600)), "{:?}", delivery.stats());
        let took = begun.elapsed();
        assert_eq!(delivery.stats().failed_records, 0);
        delivery.close().expect("it closes");
        took
    }

    fn arrow(&self) -> Duration {
        fs::create_dir_all(&self.out).expect("a directory");
        let columns = [
            ("at", DataType::Int64),
            ("user", DataType::Utf8),
            ("page", DataType::Utf8),
            ("total", DataType::Float64),
            ("is_new", DataType::Boolean),
            ("agent", DataType::Utf8),
            ("id", DataType::Utf8),
        ];
        let fields: Vec<_> = columns.map(|(name, of)| Field::new(name, of, true)).into();
        let schema = Arc::new(Schema::new(fields));
        let begun = Instant::now();
        for (number, lines) in self.objects.iter().enumerate() {
            let path = self.out.join(format!("{number}.parquet"));
            let file = File::create(&path).expect("a file");
            // The settings of `ParquetOptions::new`.
            let properties = WriterProperties::builder()
                .set_compression(Compression::SNAPPY)
                .set_statistics_enabled(EnabledStatistics::Page)
                .set_data_page_size_limit(1 << 20)
                .set_dictionary_page_size_limit(1 << 20)
                .set_max_row_group_row_count(None)
                .set_max_row_group_bytes(Some(256 << 20))
                .build();
            let reader = ReaderBuilder::new(Arc::clone(&schema))
                .with_batch_size(BATCH_ROWS)
                .with_coerce_primitive(true)
                .build(Cursor::new(lines))
                .expect("a reader");
            let mut writer =
                ArrowWriter::try_new(&file, Arc::clone(&schema), Some(properties)).expect("a writer");
            reader.for_each(|batch| writer.write(&batch.expect("JSON that fits")).expect("a write"));
            writer.close().expect("a footer");
            sync(&file, &path);
        }
        begun.elapsed()
    }

    /// Removes the output. Returns its size in bytes.
    fn clear(&self) -> u64 {
        let (mut bytes, mut paths) = (0, vec![self.out.clone()]);
        while let Some(path) = paths.pop() {
            if path.is_dir() {
                paths.extend(
                    fs::read_dir(path).expect("it was written").map(|entry| entry.expect("a name").path()),
                );
            } else {
                bytes += path.metadata().expect("a file").len();
            }
        }
        fs::remove_dir_all(&self.out).expect("it was written");
        bytes
    }
}

fn sync(file: &File, path: &Path) {
    file.sync_all().expect("it syncs");
    let directory = File::open(path.parent().expect("a directory"));
    directory.and_then(|directory| directory.sync_all()).expect("it syncs");
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}
