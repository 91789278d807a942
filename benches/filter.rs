//! How many records a second one thread filters: JSON with two fields inspected, a key, many patterns, and large documents.
//!
//! `cargo bench --bench filter`; `-- --quick` is a smoke run. The records are read from a stream, and are the same for all filters of a
//! group. Each figure is the median over rounds in which the filters take turns. `serde_json::Value` shows the limit of a filter that
//! parses each document into a tree.

use std::hint::black_box;
use std::time::Instant;

use streamlog::{Batch, Filter, Position, Record, StreamOptions};

/// Records of 200 B with twelve fields, of which half match.
const SMALL: usize = 10_000;
const SMALL_BYTES: usize = 200;
const LARGE_BYTES: usize = 10 << 20;

type Matches<'f> = Box<dyn Fn(&Record<'_>) -> bool + 'f>;

fn main() {
    let is_quick = std::env::args().any(|arg| arg == "--quick" || arg == "--test");
    let rounds = if is_quick { 1 } else { 15 };

    let directory = tempfile::tempdir().expect("a temporary directory");
    let batch = batch(&directory, "small", (0..SMALL).map(small));
    let filter = |pattern: &str| Filter::new(pattern).expect("the pattern is right");
    let two = filter(r#"{"data": {"page": ["/checkout"], "total": [{"numeric": [">=", 100]}]}}"#);
    let first_and_last = filter(r#"{"data": {"at": [{"exists": true}], "zone": {"name": ["eu-1"]}}}"#);
    let key = filter(r#"{"partitionKey": [{"prefix": "user-1"}]}"#);
    let texts = filter(r#"{"data": [{"prefix": "{\"at\""}]}"#);
    let ten =
        Filter::any_of((0..10).map(|page| format!(r#"{{"data": {{"page": ["/{page}"], "total": [1]}}}}"#)));
    let ten = ten.expect("the patterns are right");
    let tree = |record: &Record<'_>| {
        let value: serde_json::Value = serde_json::from_slice(record.data()).expect("it is JSON");
        value["page"] == "/checkout" && value["total"].as_f64().is_some_and(|total| total >= 100.0)
    };
    let contenders: [(&str, Matches<'_>); 6] = [
        ("two fields of the data", Box::new(|record| two.matches(record))),
        ("the first field, and one in the last", Box::new(|record| first_and_last.matches(record))),
        ("ten patterns of two fields", Box::new(|record| ten.matches(record))),
        ("a prefix of the partition key", Box::new(|record| key.matches(record))),
        ("a prefix of data that is JSON", Box::new(|record| texts.matches(record))),
        ("two fields, by serde_json::Value", Box::new(tree)),
    ];
    let expected = [true, true, false, true, false, true];
    println!("records of {SMALL_BYTES} B, millions a second of one thread");
    for ((name, _), rate) in contenders.iter().zip(medians(&batch, &contenders, &expected, rounds)) {
        println!("{name:<40}{:>8.2}", rate / 1e6);
    }

    println!("\ndocuments of 10 MiB, MiB a second of one thread");
    let two = filter(r#"{"data": {"items": {"page": ["/none"]}, "last": [1]}}"#);
    let last = filter(r#"{"data": {"last": [1]}}"#);
    let contenders: [(&str, Matches<'_>); 2] = [
        ("a list is looked into", Box::new(|record| two.matches(record))),
        ("a list is skipped", Box::new(|record| last.matches(record))),
    ];
    let batch = self::batch(&directory, "large", std::iter::once(large()));
    for ((name, _), rate) in contenders.iter().zip(medians(&batch, &contenders, &[false, true], rounds)) {
        println!("{name:<40}{:>8.0}", rate * LARGE_BYTES as f64 / f64::from(1 << 20));
    }
}

/// Returns the records a second of each contender. Each must match exactly the records that it is expected to match.
fn medians(batch: &Batch, contenders: &[(&str, Matches<'_>)], expected: &[bool], rounds: usize) -> Vec<f64> {
    let mut rates = vec![vec![]; contenders.len()];
    for _ in 0..rounds {
        for (index, (name, matches)) in contenders.iter().enumerate() {
            let begun = Instant::now();
            let count = batch.iter().filter(|record| black_box(matches(record))).count();
            rates[index].push(batch.len() as f64 / begun.elapsed().as_secs_f64());
            assert_eq!(count > 0, expected[index], "{name}");
        }
    }
    let median = |mut rates: Vec<f64>| {
        rates.sort_unstable_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    rates.into_iter().map(median).collect()
}

fn batch(directory: &tempfile::TempDir, name: &str, documents: impl Iterator<Item = String>) -> Batch {
    let options = StreamOptions::new().record_bytes_max(LARGE_BYTES as u64 + 4_096);
    let stream = options.open(directory.path().join(name)).expect("a stream");
    let mut count = 0;
    for document in documents {
        stream.put(format!("user-{count}"), document).expect("a put");
        count += 1;
    }
    let mut iterator = stream.iterator(stream.shards()[0].id, Position::TrimHorizon).expect("an iterator");
    let batch = iterator.next_batch(count).expect("a batch");
    assert_eq!(batch.len(), count);
    batch
}

fn small(number: usize) -> String {
    let page = if number.is_multiple_of(2) { "/checkout" } else { "/cart" };
    let document = format!(
        r#"{{"at": 17000{number:05}, "session": "{number:016x}", "page": "{page}", "items": [{}, 4711], "total": {}.50, "coupon": null, "new": false, "agent": "", "zone": {{"id": 3, "name": "eu-1"}}}}"#,
        number % 97,
        100 + number % 900,
    );
    let padding = SMALL_BYTES.checked_sub(document.len()).expect("the document is shorter");
    document.replace(r#""agent": """#, &format!(r#""agent": "{}""#, "x".repeat(padding)))
}

fn large() -> String {
    let item = r#"{"page": "/cart", "total": 12.5, "tags": ["a", "b"], "name": "a name of some length"}"#;
    let count = LARGE_BYTES / (item.len() + 1) - 1;
    format!(r#"{{"items": [{}], "last": 1}}"#, vec![item; count].join(","))
}
