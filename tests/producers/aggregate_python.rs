//! Aggregates both ways against `aws_kinesis_agg`, AWS' library for Python, with the same rules for damaged ones: L3, L6.
//!
//! The tests run a Python that has the library: the one that `STREAMLOG_PYTHON` names, or else the one that `.ci/run` installs in
//! `target/python`. Without any, they print a note and pass; if `STREAMLOG_PYTHON` is set, they fail.

use crate::common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::aggregates::{bytes, hex, signed};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use streamlog::aggregate::{Aggregate, AggregatedRecord, Aggregator};
use streamlog::{HashKey, PutRecord};

/// Reads one request per line, and answers each with a line. Data is in hexadecimal digits.
const SCRIPT: &str = r#"
import json, sys
from aws_kinesis_agg.aggregator import RecordAggregator
from aws_kinesis_agg.deaggregator import deaggregate_records, iter_deaggregate_records

def aggregate(request):
    # Keys are given as bytes. Of those given as text, the library counts the size of each occurrence, and characters instead of bytes.
    aggregator, made = RecordAggregator(request["bytes_max"]), []
    for key, hash_key, data in request["records"]:
        hash_key = hash_key and hash_key.encode()
        made.append(aggregator.add_user_record(key.encode(), bytes.fromhex(data), hash_key))
    made.append(aggregator.clear_and_get())
    contents = [record.get_contents() for record in made if record]
    return [[key.decode(), hash_key and hash_key.decode(), data.hex()] for key, hash_key, data in contents]

def deaggregate(request):
    record = {"SequenceNumber": "1", "PartitionKey": "outer", "ApproximateArrivalTimestamp": 0}
    record["Data"] = bytes.fromhex(request["data"])
    found = list(iter_deaggregate_records([record], data_format="Boto3"))
    if len(found) == 1 and not found[0]["kinesis"].get("aggregated"):
        return None
    import base64
    found = [user["kinesis"] for user in found]
    return [[user["partitionKey"], user["explicitHashKey"], base64.b64decode(user["data"]).hex(),
             user["subSequenceNumber"]] for user in found]

for line in sys.stdin:
    request = json.loads(line)
    answer = aggregate(request) if "records" in request else deaggregate(request)
    print(json.dumps(answer), flush=True)
"#;

/// Returns Python's answers to these requests.
fn ask(python: &Path, requests: &[Value]) -> Vec<Value> {
    let mut command = Command::new(python);
    command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines: Vec<String> = requests.iter().map(|request| format!("{request}\n")).collect();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(lines.concat().as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), requests.len());
    answers
}

/// A user record: partition key, explicit hash key, data.
type User = (String, Option<u128>, Vec<u8>);

/// A user record as Python returns it: partition key, explicit hash key, data, sub-sequence number.
type Found = (String, Option<String>, String, usize);

/// Makes sequences of user records. They have an explicit hash key either all or none, because the Python library gives a user record
/// without one that of another.
fn sequences(count: usize) -> Vec<Vec<User>> {
    let key = prop_oneof![2 => "[a-c]", 1 => "\\PC{1,20}", 1 => "[a-z]{120,140}"];
    let data = prop_oneof![4 => proptest::collection::vec(any::<u8>(), 0..40), 1 => Just(vec![7; 300])];
    let hash_key = prop_oneof![Just(7), any::<u128>()];
    let with = proptest::collection::vec((key.clone(), hash_key.prop_map(Some), data.clone()), 1..200);
    let without = proptest::collection::vec((key, Just(None), data), 1..200);
    let sequence = prop_oneof![with, without];
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    (0..count).map(|_| sequence.new_tree(&mut runner).unwrap().current()).collect()
}

/// More than the largest of these user records takes: the library refuses records that do not fit.
const BYTES_MAX: usize = 700;

fn aggregate(users: &[User]) -> Vec<AggregatedRecord> {
    let mut aggregator = Aggregator::new().bytes_max(BYTES_MAX);
    let mut made = vec![];
    for (key, hash_key, data) in users {
        let record = PutRecord::new(key, data);
        let record = match hash_key {
            Some(hash_key) => record.explicit_hash_key(HashKey::new(*hash_key)),
            None => record,
        };
        made.extend(aggregator.add(&record).unwrap());
    }
    made.extend(aggregator.finish());
    made
}

fn decoded(data: &[u8]) -> Option<Vec<User>> {
    let user = |record: PutRecord<'_>| {
        let key = String::from_utf8(record.partition_key.to_vec()).unwrap();
        (key, record.explicit_hash_key.map(HashKey::get), record.data.to_vec())
    };
    Some(Aggregate::decode(data)?.iter().map(user).collect())
}

#[test]
fn l3_what_python_aggregates_is_read_here_and_both_write_the_same_bytes() {
    let Some(python) = common::python::with("aws_kinesis_agg.aggregator") else { return };
    let sequences = sequences(60);
    let request = |users: &Vec<User>| {
        let user = |(key, hash_key, data): &User| json!([key, hash_key.map(|it| it.to_string()), hex(data)]);
        json!({"bytes_max": BYTES_MAX, "records": users.iter().map(user).collect::<Vec<_>>()})
    };
    let answers = ask(&python, &sequences.iter().map(request).collect::<Vec<_>>());
    for (users, answer) in sequences.iter().zip(answers) {
        let theirs: Vec<(String, Option<String>, String)> = serde_json::from_value(answer).unwrap();
        let read: Vec<User> =
            theirs.iter().flat_map(|(_, _, data)| decoded(&bytes(data)).expect("an aggregate")).collect();
        assert_eq!(&read, users);
        let ours = aggregate(users);
        assert_eq!(ours.len(), theirs.len(), "aggregates end in the same places");
        for (ours, (key, hash_key, data)) in ours.iter().zip(&theirs) {
            assert_eq!(&ours.partition_key, key);
            assert_eq!(ours.explicit_hash_key.map(|it| it.to_string()), *hash_key);
            // The Python library makes an aggregate of a single user record, and the KPL does not.
            if ours.is_aggregated {
                assert_eq!(hex(&ours.data), *data);
            }
        }
    }
}

#[test]
fn l3_what_is_aggregated_here_is_read_by_python() {
    let Some(python) = common::python::with("aws_kinesis_agg.aggregator") else { return };
    let sequences = sequences(60);
    let made: Vec<_> = sequences.iter().map(|users| aggregate(users)).collect();
    let requests = made.iter().flatten().map(|record| json!({"data": hex(&record.data)}));
    let mut answers = ask(&python, &requests.collect::<Vec<_>>()).into_iter();
    for (users, made) in sequences.iter().zip(&made) {
        let mut users = users.iter();
        for record in made {
            let answer = answers.next().unwrap();
            assert_eq!(answer.is_null(), !record.is_aggregated);
            if answer.is_null() {
                assert_eq!(users.next().unwrap().2, record.data);
                continue;
            }
            let found: Vec<Found> = serde_json::from_value(answer).unwrap();
            assert_eq!(found.len(), record.user_record_count);
            for (index, (key, hash_key, data, sub_sequence)) in found.into_iter().enumerate() {
                let user = users.next().unwrap();
                assert_eq!((key, bytes(&data), sub_sequence), (user.0.clone(), user.2.clone(), index));
                assert_eq!(hash_key, user.1.map(|it| it.to_string()));
            }
        }
        assert!(users.next().is_none());
    }
}

#[test]
fn l6_damaged_aggregates_are_the_same_for_python() {
    let Some(python) = common::python::with("aws_kinesis_agg.aggregator") else { return };
    let whole = bytes("0a0161 0a0162 1a05 0800 1a0141 1a05 0801 1a0142");
    let mut damaged: Vec<Vec<u8>> = vec![vec![], b"plain".to_vec(), signed(&[]), signed(&whole)];
    let data = signed(&whole);
    damaged.extend((0..data.len()).map(|len| data[..len].to_vec()));
    damaged.extend((0..data.len()).map(|at| {
        let mut flipped = data.clone();
        flipped[at] ^= 0x10;
        flipped
    }));
    // Whole and truncated messages with the right digest, and unknown, broken or surplus fields. The Python library takes a missing required
    // field as 0 or empty, but the KCL does not: `tests/producers/aggregate.rs` has those.
    damaged.extend((1..whole.len()).map(|len| signed(&whole[..len])));
    let fields = [
        "1a0a 0800 1a0141 2203 0a016b",
        "1a05 0805 1a0141",
        "1a0a 0801 1a0142 0800 1a0141",
        "a00605",
        "2a03010203",
        "2b 08013b3c 2c",
        "2b 0801",
        "31 0000000000000000",
        "35 000000",
        "00",
        "0c",
        "4600",
        "18 05",
    ];
    for fields in fields {
        damaged.push(signed(&[whole.clone(), bytes(fields), bytes("1a05 0800 1a0143")].concat()));
    }
    let requests: Vec<_> = damaged.iter().map(|data| json!({"data": hex(data)})).collect();
    for (data, answer) in damaged.iter().zip(ask(&python, &requests)) {
        let found: Option<Vec<Found>> = serde_json::from_value(answer).unwrap();
        let found =
            found.map(|found| found.into_iter().map(|(key, _, data, _)| (key, None, bytes(&data))).collect());
        assert_eq!(decoded(data), found, "{}", hex(data));
    }
}
