//! Aggregates written and read, compared with `aws_kinesis_agg`, AWS' library for Python, on the same user records.
//!
//! `cargo bench --bench aggregate`; `-- --quick` is a smoke run. User records of 100 B go into aggregates of up to 51,200 B, the KPL's
//! default. Each figure is the median over rounds in which the contenders take turns, in millions of user records a second of one thread.
//! MD5 over the same bytes, one aggregate after the other, is the limit of an implementation that does not compute several hashes together.
//!
//! Python is the one that `STREAMLOG_PYTHON` names, or else `target/python/bin/python`, where `.ci/run` installs the library. Without it,
//! only this library is measured.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use md5::{Digest, Md5};
use streamlog::aggregate::{Aggregate, AggregatedRecord, Aggregator, BYTES_MAX_DEFAULT, deaggregate};
use streamlog::{Batch, HashKeyRange, KeyHash, Position, PutRecord, Retention, StreamOptions};

const DATA: [u8; 100] = [7; 100];
/// The number of user records added with one call.
const AT_ONCE: usize = 10_000;
/// The bytes of a batch that is read.
const BATCH_BYTES: usize = 1 << 20;

/// Prints the seconds that writing and reading took. Both are called as their documentation shows.
const SCRIPT: &str = r#"
import sys, time
from aws_kinesis_agg.aggregator import RecordAggregator
from aws_kinesis_agg.deaggregator import iter_deaggregate_records

count, key_count, bytes_max = (int(argument) for argument in sys.argv[1:])
keys, data = [f"user-{number}".encode() for number in range(key_count)], bytes([7] * 100)
begun = time.perf_counter()
aggregator, made = RecordAggregator(bytes_max), []
for number in range(count):
    full = aggregator.add_user_record(keys[number % key_count], data)
    if full:
        made.append(full.get_contents())
last = aggregator.clear_and_get()
if last:
    made.append(last.get_contents())
written = time.perf_counter()
outer = [{"SequenceNumber": "1", "PartitionKey": key, "ApproximateArrivalTimestamp": 0, "Data": data} for key, _, data in made]
before = time.perf_counter()
found = sum(1 for _ in iter_deaggregate_records(outer, data_format="Boto3"))
read = time.perf_counter()
assert found == count
print(written - begun, read - before)
"#;

/// The work of a round, and the number of rounds.
struct Plan {
    rounds: usize,
    count: usize,
    python_count: usize,
}

fn main() {
    let is_quick = std::env::args().any(|arg| arg == "--quick" || arg == "--test");
    let plan = match is_quick {
        true => Plan { rounds: 1, count: 20_000, python_count: 2_000 },
        false => Plan { rounds: 7, count: 2_000_000, python_count: 50_000 },
    };
    let python = python();
    if python.is_none() {
        println!("there is no Python with aws_kinesis_agg: `.ci/run` installs one in target/python");
    }
    println!("user records of 100 B, millions a second of one thread");
    for key_count in [1, 1_000, plan.count] {
        compare(&plan, key_count, python.as_deref());
    }
}

const WORK: [&str; 8] = [
    "write, one by one (add)",
    "write, many at once (add_all)",
    "write, aws_kinesis_agg",
    "read, one aggregate (Aggregate::decode)",
    "read, batches of a stream (deaggregate)",
    "read, batches, each key checked by its MD5",
    "read, aws_kinesis_agg",
    "MD5 of the aggregates",
];

fn compare(plan: &Plan, key_count: usize, python: Option<&Path>) {
    let keys: Vec<String> = (0..key_count).map(|number| format!("user-{number}")).collect();
    let mut rates: [Vec<f64>; WORK.len()] = Default::default();
    for _ in 0..plan.rounds {
        let mut note = |work: usize, count: usize, time: Duration| {
            rates[work].push(count as f64 / time.as_secs_f64() / 1e6);
        };
        note(0, plan.count, timed(|| drop(black_box(write_one_by_one(&keys, plan.count)))));
        let begun = Instant::now();
        let made = write_many(&keys, plan.count);
        note(1, plan.count, begun.elapsed());
        note(3, plan.count, timed(|| assert_eq!(read(&made), plan.count)));
        let batches = batches(&made);
        note(4, plan.count, timed(|| assert_eq!(read_batches(&batches, HashKeyRange::ALL), plan.count)));
        // Not the whole range, so that each key is hashed as in Kinesis.
        let range = HashKeyRange { end: (u128::MAX - 1).into(), ..HashKeyRange::ALL };
        note(5, plan.count, timed(|| assert_eq!(read_batches(&batches, range), plan.count)));
        if let Some((written, read)) = python.map(|python| in_python(python, plan.python_count, key_count)) {
            note(2, plan.python_count, written);
            note(6, plan.python_count, read);
        }
        note(7, plan.count, timed(|| digest(&made)));
    }
    let medians = rates.map(median);
    println!("\n{key_count} keys");
    for (work, (name, median)) in WORK.iter().zip(medians).enumerate() {
        let theirs = match work {
            0 | 1 => medians[2],
            3..=5 => medians[6],
            _ => f64::NAN,
        };
        let times = if theirs.is_nan() { String::new() } else { format!("{:>8.0} times", median / theirs) };
        println!("{name:<44}{median:>10.3}{times}");
    }
}

fn write_one_by_one(keys: &[String], count: usize) -> Vec<AggregatedRecord> {
    let mut aggregator = Aggregator::new();
    let mut made = vec![];
    for number in 0..count {
        let record = PutRecord::new(&keys[number % keys.len()], &DATA);
        made.extend(aggregator.add(&record).expect("a record that fits"));
    }
    made.extend(aggregator.finish());
    made
}

fn write_many(keys: &[String], count: usize) -> Vec<AggregatedRecord> {
    let mut aggregator = Aggregator::new();
    let (mut made, mut records) = (vec![], vec![]);
    for first in (0..count).step_by(AT_ONCE) {
        records.clear();
        let numbers = first..count.min(first + AT_ONCE);
        records.extend(numbers.map(|number| PutRecord::new(&keys[number % keys.len()], &DATA)));
        made.extend(aggregator.add_all(&records).expect("records that fit"));
    }
    made.extend(aggregator.finish());
    made
}

/// Returns how many user records there are.
fn read(made: &[AggregatedRecord]) -> usize {
    let mut found = 0;
    for record in made {
        // The last one may be plain.
        let Some(aggregate) = Aggregate::decode(&record.data) else {
            found += 1;
            continue;
        };
        for user in aggregate.iter() {
            black_box(user);
            found += 1;
        }
    }
    found
}

/// Returns these records as batches of a stream.
fn batches(made: &[AggregatedRecord]) -> Vec<Batch> {
    let directory = tempfile::tempdir().expect("a directory");
    let options = StreamOptions::new().retention(Retention::forever());
    let stream = options.open(directory.path().join("stream")).expect("a new stream");
    for record in made {
        stream.put_record(&record.as_put()).expect("it fits into a record");
    }
    let mut iterator = stream.iterator(stream.shards()[0].id, Position::TrimHorizon).expect("the only shard");
    let mut batches = vec![];
    loop {
        let batch = iterator.next_batch_within(usize::MAX, BATCH_BYTES).expect("records that were put");
        if batch.is_empty() {
            return batches;
        }
        batches.push(batch);
    }
}

/// Returns how many user records there are.
fn read_batches(batches: &[Batch], range: HashKeyRange) -> usize {
    let mut found = 0;
    for batch in batches {
        for user in deaggregate(batch).within(range, KeyHash::Md5) {
            black_box(user);
            found += 1;
        }
    }
    found
}

fn digest(made: &[AggregatedRecord]) {
    for record in made {
        black_box(Md5::digest(&record.data));
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn python() -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python");
    let python = std::env::var_os("STREAMLOG_PYTHON").map_or(installed, PathBuf::from);
    let import = Command::new(&python).args(["-c", "import aws_kinesis_agg.aggregator"]).output();
    import.is_ok_and(|output| output.status.success()).then_some(python)
}

/// Returns how long writing and reading take in Python.
fn in_python(python: &Path, count: usize, key_count: usize) -> (Duration, Duration) {
    let arguments = [count, key_count.min(count), BYTES_MAX_DEFAULT].map(|number| number.to_string());
    let output = Command::new(python).args(["-c", SCRIPT]).args(arguments).output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("two numbers");
    let mut seconds = text.split_whitespace().map(|number| number.parse().expect("a number of seconds"));
    let mut next = || Duration::from_secs_f64(seconds.next().expect("two numbers"));
    (next(), next())
}
