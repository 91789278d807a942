//! Aggregates written and read, compared with `aws_kinesis_agg`, AWS' library for Python, on the same user records.
//!
//! `cargo bench --bench aggregate`; `-- --quick` is a smoke run. User records of 100 B go into aggregates of up to 51,200 B, the KPL's
//! default. Each figure is the median over rounds in which the contenders take turns, in millions of user records a second of one thread.
//! MD5 over the same bytes is the limit of both: an aggregate ends with its MD5.
//!
//! Python is the one that `STREAMLOG_PYTHON` names, or else `target/python/bin/python`, where `.ci/run` installs the library. Without it, only
//! this library is measured.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use md5::{Digest, Md5};
use streamlog::aggregate::{Aggregate, AggregatedRecord, Aggregator, BYTES_MAX_DEFAULT};
use streamlog::{HashKeyRange, KeyHash, PutRecord};

const DATA: [u8; 100] = [7; 100];

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

/// How much work a round is, and how many rounds there are.
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
    println!(
        "{:<22}{:>10}{:>10}{:>10}{:>16}{:>10}",
        "", "aggregate", "read", "read in", "aws_kinesis_agg", ""
    );
    println!(
        "{:<22}{:>10}{:>10}{:>10}{:>10}{:>10}{:>8}",
        "keys", "", "", "a shard", "aggregate", "read", "MD5"
    );
    for key_count in [1, 1_000, plan.count] {
        compare(&plan, key_count, python.as_deref());
    }
}

fn compare(plan: &Plan, key_count: usize, python: Option<&Path>) {
    let keys: Vec<String> = (0..key_count).map(|number| format!("user-{number}")).collect();
    let mut times: [Vec<f64>; 6] = Default::default();
    for _ in 0..plan.rounds {
        let begun = Instant::now();
        let made = aggregate(&keys, plan.count);
        times[0].push(rate(plan.count, begun.elapsed()));
        times[1].push(rate(plan.count, timed(|| read(&made, HashKeyRange::ALL, plan.count))));
        // A range that is not all: each key is hashed as Kinesis does.
        let range = HashKeyRange { end: (u128::MAX - 1).into(), ..HashKeyRange::ALL };
        times[2].push(rate(plan.count, timed(|| read(&made, range, plan.count))));
        if let Some((written, read)) = python.map(|python| in_python(python, plan.python_count, key_count)) {
            times[3].push(rate(plan.python_count, written));
            times[4].push(rate(plan.python_count, read));
        }
        times[5].push(rate(plan.count, timed(|| digest(&made))));
    }
    let [aggregate, read, in_shard, python_aggregate, python_read, md5] = times.map(median);
    println!(
        "{key_count:<22}{aggregate:>10.2}{read:>10.2}{in_shard:>10.2}{python_aggregate:>10.3}{python_read:>10.3}{md5:>8.2}"
    );
    if python.is_some() {
        let (aggregate, read) = (aggregate / python_aggregate, read / python_read);
        println!("{:<22}{aggregate:>9.0}x{read:>9.0}x", "  times aws_kinesis_agg");
    }
}

fn aggregate(keys: &[String], count: usize) -> Vec<AggregatedRecord> {
    let mut aggregator = Aggregator::new().bytes_max(BYTES_MAX_DEFAULT);
    let mut made = vec![];
    for number in 0..count {
        let record = PutRecord::new(&keys[number % keys.len()], &DATA);
        made.extend(aggregator.add(&record).expect("a record that fits"));
    }
    made.extend(aggregator.finish());
    made
}

fn read(made: &[AggregatedRecord], range: HashKeyRange, count: usize) {
    let mut found = 0;
    for record in made {
        let Some(aggregate) = Aggregate::decode_within(&record.data, range, KeyHash::Md5) else {
            found += 1; // The only user record of the last one.
            continue;
        };
        for user in aggregate.iter() {
            black_box(user);
            found += 1;
        }
    }
    assert_eq!(found, count);
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

/// Millions a second.
fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64() / 1e6
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
