//! A log pipeline: a shipper tails files and puts their lines into a stream, and an aggregator counts them by service and level.
//!
//! The shipper puts the new lines of a file as one batch, with the file's name as the key. Each record also holds the offset in the file
//! at which its line ends, so the shipper needs no state of its own: on start it asks the stream how much of each file it has shipped.
//! The example stops the shipper in the middle and starts another one. At the end it compares the counts with the files.
//!
//! ```text
//! cargo run --example log_pipeline
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use streamlog::{Error as StreamError, Position, PutRecord, SECOND, Stream, StreamOptions};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;
/// The number of lines of each service and level.
type Counts = BTreeMap<(String, String), u64>;

const SERVICES: [&str; 3] = ["auth", "cart", "search"];
const LINES: usize = 2_000;

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let logs: Vec<PathBuf> =
        SERVICES.iter().map(|service| directory.path().join(service).with_extension("log")).collect();
    let stream = StreamOptions::new().shards(2).open(directory.path().join("logs"))?;
    let counts = thread::scope(|scope| -> Result<Counts> {
        let aggregator = scope.spawn(|| aggregate(&stream));
        let services: Vec<_> = logs.iter().map(|path| scope.spawn(|| write_log(path))).collect();
        let started = Instant::now();
        let first = ship(&stream, &logs, || started.elapsed() > Duration::from_millis(40));
        let second = ship(&stream, &logs, || services.iter().all(|service| service.is_finished()));
        // Close even if a shipper failed: this ends the aggregator, after it has read everything.
        stream.clone().close()?;
        println!("the first shipper put {} lines, the second one the other {}", first?, second?);
        for service in services {
            service.join().map_err(|_| "a service has died")??;
        }
        aggregator.join().map_err(|_| "the aggregator has died")?
    })?;
    for ((service, level), count) in &counts {
        println!("{service:<8} {level:<6} {count:>6}");
    }
    assert_eq!(counts, count_in_files(&logs)?, "each line is counted once");
    Ok(())
}

// ---- Shipping ----

/// Puts the lines of the logs as they are written, until `is_over` returns true. Returns the number of lines put.
fn ship(stream: &Stream, logs: &[PathBuf], is_over: impl Fn() -> bool) -> Result<usize> {
    let shipped = shipped_so_far(stream)?;
    let mut bytes_shipped: Vec<u64> =
        logs.iter().map(|path| shipped.get(&name_of(path)).copied().unwrap_or(0)).collect();
    let mut count = 0;
    loop {
        // Check before reading the files: this pass then ships everything written up to now.
        let is_last_look = is_over();
        for (path, bytes_shipped) in logs.iter().zip(&mut bytes_shipped) {
            count += ship_new_lines(stream, path, bytes_shipped)?;
        }
        if is_last_look {
            return Ok(count);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn ship_new_lines(stream: &Stream, path: &Path, bytes_shipped: &mut u64) -> Result<usize> {
    // A service that has not started to write has no log yet.
    let Ok(mut file) = File::open(path) else { return Ok(0) };
    file.seek(SeekFrom::Start(*bytes_shipped))?;
    let mut new = String::new();
    file.read_to_string(&mut new)?;
    let mut end = *bytes_shipped;
    // The last line may be incomplete.
    let whole_lines = new.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let lines: Vec<String> = whole_lines
        .map(|line| {
            end += line.len() as u64;
            format!("{end} {line}")
        })
        .collect();
    let key = name_of(path);
    let records: Vec<_> = lines.iter().map(|line| PutRecord::new(&key, line)).collect();
    // All records of a key go to one shard, where a batch is atomic: after a crash either all of these lines are there or none.
    for outcome in stream.put_batch(&records)? {
        outcome?;
    }
    *bytes_shipped = end;
    Ok(lines.len())
}

/// Returns how many bytes of each file are shipped: the offset at which its last shipped line ends.
fn shipped_so_far(stream: &Stream) -> Result<BTreeMap<String, u64>> {
    let mut shipped = BTreeMap::new();
    for shard in stream.shards() {
        for record in stream.iterator(shard.id, Position::TrimHorizon)?.records() {
            let record = record?;
            let (end, _) = parse(&record.data)?;
            shipped.insert(String::from_utf8_lossy(&record.partition_key).into_owned(), end);
        }
    }
    Ok(shipped)
}

/// Splits a record's data into the offset at which the line ends in its file, and the line.
fn parse(data: &[u8]) -> Result<(u64, &str)> {
    let (end, line) = std::str::from_utf8(data)?.split_once(' ').ok_or("a record without an end")?;
    Ok((end.parse()?, line))
}

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

// ---- Aggregating ----

/// Counts all lines until the stream is closed. Nothing has to save the counts, because the stream can rebuild them.
fn aggregate(stream: &Stream) -> Result<Counts> {
    let mut iterator = stream.lineage_iterator(Position::TrimHorizon)?;
    let mut counts = Counts::new();
    loop {
        match iterator.wait(SECOND) {
            Err(StreamError::Closed) => return Ok(counts),
            waited => waited?,
        };
        for record in &iterator.next_batch(1_000)? {
            let service = String::from_utf8_lossy(record.partition_key()).into_owned();
            count(&mut counts, service, parse(record.data())?.1);
        }
    }
}

fn count(counts: &mut Counts, service: String, line: &str) {
    let level = line.split(' ').nth(1).unwrap_or("?").to_owned();
    *counts.entry((service, level)).or_default() += 1;
}

// ---- Writing the logs, and counting their lines at the end ----

fn write_log(path: &Path) -> Result<()> {
    let mut file = File::create(path)?;
    for number in 0..LINES {
        let level = ["INFO", "INFO", "INFO", "WARN", "INFO", "INFO", "ERROR"][number % 7];
        write!(file, "2026-01-31T10:{:02}:{:02}Z {level} ", number / 60 % 60, number % 60)?;
        // Write some lines slowly, so that the shipper finds an incomplete line.
        if number % 20 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        writeln!(file, "request {number} took {} ms", number * 7 % 50)?;
    }
    Ok(())
}

fn count_in_files(logs: &[PathBuf]) -> Result<Counts> {
    let mut counts = Counts::new();
    for path in logs {
        fs::read_to_string(path)?.lines().for_each(|line| count(&mut counts, name_of(path), line));
    }
    Ok(counts)
}
