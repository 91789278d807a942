//! Kills a process with deliveries at random moments, while shards split and merge, settings change, calls of a function fail and a schema is taken
//! from the first records: the files are exactly the stream: L1, L2. `tests/deliveries/kill.rs` does the same for other sinks.
//!
//! `STREAMLOG_KILLS=100` kills it that often.

use crate::common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::killed::{Id, ids, kill_again_and_again, open, put_until_killed, told};
use streamlog::delivery::{Delivery, Directory, Format, Naming, Transformed};
use streamlog::{SECOND, Stream};

fn rounds() -> u64 {
    std::env::var("STREAMLOG_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8)
}

/// Starts the delivery with the settings of a round. The function's output for a record is always the same, unless its call fails at random.
fn start(stream: &Stream, archive: &Path, round: u64) -> Delivery {
    let options = stream
        .delivery("archive")
        .partition_keys(["key"])
        .prefix(format!("{}/key=!{{partitionKeyFromLambda:key}}/!{{timestamp:HH-mm}}/", round % 3))
        .error_prefix("errors/!{firehose:error-output-type}/")
        .format(if round.is_multiple_of(2) { Format::lines() } else { Format::json_lines() })
        .naming(if round % 4 == 3 { Naming::Firehose } else { Naming::Sequence })
        .buffer_bytes(200 + round as usize % 5 * 1_000)
        .buffer_interval(Duration::from_millis(20 + round % 3 * 50))
        .memory_bytes_max(if round.is_multiple_of(5) { 2_000 } else { 1 << 20 })
        // In some rounds, there is not enough room for all partitions, so that some rows are errors.
        .active_partitions_max(if round % 4 == 2 { 2 } else { 100 })
        .backoff(Duration::from_millis(1), Duration::from_millis(1))
        .transform_batch(|records| {
            let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
            assert_ne!(nanos / 64 % 10, 0, "the call fails");
            let transformed = records.iter().map(|record| {
                let (key, number): Id = serde_json::from_slice(record.data()).unwrap();
                match number % 50 {
                    17 => Transformed::failed("always"),
                    // Two rows in two partitions.
                    18 => Transformed::row_in(record.data(), [&*(key % 5).to_string()])
                        .and_row_in(record.data(), ["twin"]),
                    _ => Transformed::row_in(record.data(), [&*(key % 5).to_string()]),
                }
            });
            transformed.collect()
        });
    told(options.to(Directory::new(archive)).start())
}

/// Not a test: the child that the kill test kills. In its last round, it puts nothing and ends when all is delivered.
#[test]
fn child() {
    let Some((path, round)) = common::killed::child() else { return };
    let stream = open(&path, "clicks");
    let delivery = start(&stream, &path.join("archive"), round);
    #[cfg(feature = "parquet")]
    let table = table::start(&stream, &path.join("table"), round);
    if round < rounds() {
        put_until_killed(&stream, &[&stream], round);
    }
    // Children begin once their parents are delivered.
    let begun = Instant::now();
    while told(stream.group("archive").describe()).lag().record_count > 0 || !delivery.flush(10 * SECOND) {
        thread::sleep(Duration::from_millis(10));
        if begun.elapsed() > Duration::from_secs(60) {
            println!("error it does not end: {:?}", delivery.stats());
            std::process::abort();
        }
    }
    told(delivery.close());
    #[cfg(feature = "parquet")]
    table::finish(&stream, table);
}

/// Counts the rows of each record in all files under a directory.
fn count(path: &Path, rows: &mut BTreeMap<Id, u64>) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count(&path, rows);
            continue;
        }
        // A file that was being written when the process was killed.
        if path.extension().is_some_and(|extension| extension == "partial") {
            continue;
        }
        for line in fs::read_to_string(&path).unwrap().lines() {
            let id: Id = match serde_json::from_str(line).unwrap() {
                serde_json::Value::Object(failed) => {
                    let id: Id =
                        serde_json::from_slice(&base64(failed["rawData"].as_str().unwrap())).unwrap();
                    // A record whose call has failed stands for both of its rows, also if it is written after a kill, when nothing else is known.
                    let of_call = [
                        "the function has panicked",
                        "the call for it failed before the delivery was started again",
                    ];
                    let is_of_call =
                        failed["errorMessage"].as_str().is_some_and(|reason| of_call.contains(&reason));
                    *rows.entry(id).or_default() += u64::from(id.1 % 50 == 18 && is_of_call);
                    id
                }
                id => serde_json::from_value(id).unwrap(),
            };
            *rows.entry(id).or_default() += 1;
        }
    }
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[test]
fn l1_l2_the_files_are_exactly_the_stream_wherever_the_process_is_killed() {
    let scratch = common::scratch();
    kill_again_and_again(module_path!(), scratch.path(), rounds());
    let expected: BTreeMap<Id, u64> = ids(&open(scratch.path(), "clicks"))
        .into_iter()
        .map(|id| (id, if id.1 % 50 == 18 { 2 } else { 1 }))
        .collect();
    assert!(expected.len() > 1_000, "{} records are too few for a test", expected.len());
    let mut found = BTreeMap::new();
    count(&scratch.path().join("archive"), &mut found);
    let wrong: Vec<_> = expected.iter().filter(|(id, count)| found.get(id) != Some(count)).take(10).collect();
    assert!(wrong.is_empty(), "L2: {} of {} are there; wrong are {wrong:?}", found.len(), expected.len());
    assert_eq!(found, expected);
    #[cfg(feature = "parquet")]
    table::check(&scratch.path().join("table"), expected.keys());
}

/// A Parquet table, whose schema is taken from the first records, wherever the process is killed.
#[cfg(feature = "parquet")]
mod table {
    use std::collections::BTreeSet;

    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::record::RowAccessor;
    use streamlog::delivery::ParquetOptions;

    use super::*;

    /// Some records have a text where others have a number. Whether these are error output depends on which records are the first ones.
    pub(super) fn start(stream: &Stream, table: &Path, round: u64) -> Delivery {
        let options = stream
            .delivery("table")
            .format(Format::parquet(ParquetOptions::inferred()))
            .buffer_bytes(500 + round as usize % 5 * 1_000)
            .buffer_interval(Duration::from_millis(20 + round % 3 * 50))
            .transform(|record| {
                let (key, number): Id = serde_json::from_slice(record.data()).unwrap();
                let any = if number % 90 == 89 { "\"text\"".to_owned() } else { number.to_string() };
                Transformed::row(format!("{{\"key\": {key}, \"number\": {number}, \"any\": {any}}}"))
            });
        told(options.to(Directory::new(table)).start())
    }

    pub(super) fn finish(stream: &Stream, delivery: Delivery) {
        let begun = Instant::now();
        while told(stream.group("table").describe()).lag().record_count > 0 || !delivery.flush(10 * SECOND) {
            if begun.elapsed() > Duration::from_secs(60) {
                println!("error it does not end: {:?}", delivery.stats());
                std::process::abort();
            }
        }
        told(delivery.close());
    }

    fn files(path: &Path, to: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path, to) } else { to.push(path) }
        }
    }

    pub(super) fn check<'a>(table: &Path, expected: impl Iterator<Item = &'a Id>) {
        let (mut paths, mut schemas, mut rows, mut failed_count) = (vec![], BTreeSet::new(), vec![], 0);
        files(table, &mut paths);
        for path in paths {
            match path.extension().unwrap().to_str().unwrap() {
                "partial" => {}
                "jsonl" => {
                    for line in fs::read_to_string(&path).unwrap().lines() {
                        let line: serde_json::Value = serde_json::from_str(line).unwrap();
                        rows.push(
                            serde_json::from_slice(&base64(line["rawData"].as_str().unwrap())).unwrap(),
                        );
                        failed_count += 1;
                    }
                }
                _ => {
                    let reader = SerializedFileReader::new(fs::File::open(&path).unwrap()).unwrap();
                    let columns = reader.metadata().file_metadata().schema_descr_ptr();
                    let columns = columns
                        .columns()
                        .iter()
                        .map(|column| (column.name().to_owned(), column.physical_type()));
                    schemas.insert(format!("{:?}", columns.collect::<Vec<_>>()));
                    for row in reader.get_row_iter(None).unwrap().map(Result::unwrap) {
                        let number = |at| u64::try_from(row.get_long(at).unwrap()).unwrap();
                        rows.push((number(0), number(1)));
                    }
                }
            }
        }
        let mut counts: BTreeMap<Id, u64> = expected.map(|id| (*id, 0)).collect();
        rows.into_iter().for_each(|id| *counts.entry(id).or_default() += 1);
        let wrong: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
        let (some, all) = (&wrong[..wrong.len().min(10)], wrong.len());
        assert!(
            wrong.is_empty(),
            "L2: {all} of {} are wrong, such as {some:?}; {failed_count} failed",
            counts.len()
        );
        assert_eq!(schemas.len(), 1, "one schema for all: {schemas:?}");
    }
}
