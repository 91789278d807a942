//! How many records a second one thread decodes into columns: JSON with two members or all members requested, and other formats.
//!
//! `cargo bench --features sql --bench query`; `-- --quick` is a smoke run. The records are in memory, and each figure is the median over rounds
//! in which the schemas take turns. `serde_json::Value` shows the limit of a decoder that parses each document into a tree.

use std::hint::black_box;
use std::time::Instant;

use streamlog::query::Schema;
use streamlog::{Batch, Position, ShardId, StreamOptions};

/// As many as a query decodes at a time.
const ROWS: usize = 8_192;

/// Decodes a batch of records, and returns how many rows there are.
type Decode = Box<dyn Fn(&Batch) -> usize>;

fn main() {
    let is_quick = std::env::args().any(|arg| arg == "--quick" || arg == "--test");
    let rounds = if is_quick { 1 } else { 101 };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let batch = |name: &str, record: &dyn Fn(usize) -> String| batch(&directory, name, record);

    let all =
        "page VARCHAR, user VARCHAR, ms DOUBLE, at TIMESTAMP, agent VARCHAR, status BIGINT, referrer VARCHAR";
    let json = Schema::json(all).expect("a schema");
    let nested = Schema::json("event STRUCT<page VARCHAR, ms DOUBLE>").expect("a schema");
    let csv = Schema::csv(all).expect("a schema");
    let plain = batch("plain", &document);
    let blanks = batch("blanks", &|number| document(number).replace("\":", "\": ").replace(",\"", ", \""));
    let mixed = batch("mixed", &|number| match number % 3 {
        0 => document(number),
        1 => document(number).replace("\"status\":200,", ""),
        _ => document(number).replace("\"user\"", "\"uid\""),
    });
    let within = batch("within", &|number| format!(r#"{{"id":{number},"event":{}}}"#, document(number)));
    let lines = batch("lines", &line);

    let contenders: [(&str, &Batch, Decode); 10] = [
        ("JSON, two members of seven", &plain, decode(&json, &["page", "ms"])),
        ("JSON, the first one", &plain, decode(&json, &["page"])),
        ("JSON, a timestamp", &plain, decode(&json, &["at"])),
        (
            "JSON, all members",
            &plain,
            decode(&json, &["page", "user", "ms", "at", "agent", "status", "referrer"]),
        ),
        ("JSON with blanks, two members", &blanks, decode(&json, &["page", "ms"])),
        ("JSON of three kinds, two members", &mixed, decode(&json, &["page", "ms"])),
        ("JSON, two members of an object within", &within, decode(&nested, &["event"])),
        ("CSV, two fields of seven", &lines, decode(&csv, &["page", "ms"])),
        ("no data, only _sequence and _arrival", &plain, decode(&json, &["_sequence", "_arrival"])),
        ("JSON, by serde_json::Value, nothing kept", &plain, Box::new(trees)),
    ];
    let mut seconds = vec![vec![]; contenders.len()];
    for _ in 0..rounds {
        for ((name, batch, decode), seconds) in contenders.iter().zip(&mut seconds) {
            let begun = Instant::now();
            assert_eq!(black_box(decode(batch)), ROWS, "{name}");
            seconds.push(begun.elapsed().as_secs_f64());
        }
    }
    println!("{:<42}{:>14}{:>14}{:>14}", "one thread", "bytes/record", "MB/s", "ns/record");
    for ((name, batch, _), mut seconds) in contenders.iter().zip(seconds) {
        seconds.sort_unstable_by(f64::total_cmp);
        let seconds = seconds[seconds.len() / 2];
        let bytes: usize = batch.iter().map(|record| record.data().len()).sum();
        let (rate, nanos) = (bytes as f64 / seconds / 1e6, seconds / ROWS as f64 * 1e9);
        println!("{name:<42}{:>14}{rate:>14.0}{nanos:>14.1}", bytes / ROWS);
    }
}

fn decode(schema: &Schema, columns: &'static [&'static str]) -> Decode {
    let schema = schema.clone();
    Box::new(move |batch| {
        let decoded = schema.decode(ShardId::new(0), batch, columns).expect("the columns are there");
        assert!(decoded.refused.is_empty(), "{:?}", decoded.refused[0]);
        decoded.rows.num_rows()
    })
}

fn trees(batch: &Batch) -> usize {
    let read = batch.iter().map(|record| serde_json::from_slice::<serde_json::Value>(record.data()));
    read.filter(|value| black_box(value).is_ok()).count()
}

fn batch(directory: &tempfile::TempDir, name: &str, record: &dyn Fn(usize) -> String) -> Batch {
    let stream = StreamOptions::new().open(directory.path().join(name)).expect("a stream");
    for number in 0..ROWS {
        stream.put(format!("user-{number}"), record(number)).expect("a put");
    }
    let mut iterator = stream.iterator(stream.shards()[0].id, Position::TrimHorizon).expect("an iterator");
    let batch = iterator.next_batch(ROWS).expect("a batch");
    assert_eq!(batch.len(), ROWS);
    batch
}

/// A document of about 140 bytes.
fn document(number: usize) -> String {
    let Click { page, user, ms, minute, second, referrer } = Click::new(number);
    format!(
        r#"{{"page":"/p/{page}","user":"user-{user}","ms":{ms},"at":"2026-03-01T12:{minute:02}:{second:02}Z","agent":"Mozilla/5.0 (X11; Linux)","status":200,"referrer":"/p/{referrer}"}}"#
    )
}

/// The same as a line.
fn line(number: usize) -> String {
    let Click { page, user, ms, minute, second, referrer } = Click::new(number);
    format!(
        "/p/{page},user-{user},{ms},2026-03-01T12:{minute:02}:{second:02}Z,\"Mozilla/5.0 (X11; Linux)\",200,/p/{referrer}"
    )
}

struct Click {
    page: usize,
    user: usize,
    ms: f64,
    minute: usize,
    second: usize,
    referrer: usize,
}

impl Click {
    fn new(number: usize) -> Self {
        Self {
            page: number % 97,
            user: number * 7 % 10_000,
            ms: (number * 13 % 5_000) as f64 / 10.0,
            minute: number / 60 % 60,
            second: number % 60,
            referrer: number % 31,
        }
    }
}
