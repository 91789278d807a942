//! `random_cut_forest` compared with the package `rrcf` from PyPI, which `.ci/run` installs, and across restarts.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use streamlog::query::{Catalog, Output, Schema};
use streamlog::{ManualClock, SECOND, Stream, Timestamp};

use crate::common;

use common::pumps::{open, texts, wait_until_read};
use common::waiting::eventually_or;

/// The number of rows in a window.
const WINDOW: usize = 48;

/// Rows of two numbers: a wave and noise, some of them equal, with a few outliers.
fn values() -> Vec<[f64; 2]> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / (1 << 24) as f64
    };
    let row = |number: usize| {
        if number % 67 == 66 {
            return [40.0 + noise(), -3.0];
        }
        let wave = (number as f64 / 9.0).sin() * 10.0;
        [(wave + noise()).round(), noise() * 4.0 - if number.is_multiple_of(50) { 9.0 } else { 0.0 }]
    };
    (0..350).map(row).collect()
}

fn put(stream: &Stream, clock: &ManualClock, values: &[[f64; 2]]) {
    for [a, b] in values {
        stream.put("key", json!({"a": a, "b": b}).to_string()).unwrap();
        clock.advance(SECOND / 100);
    }
}

fn scores(catalog: &Catalog, columns: &str) -> Vec<f64> {
    let window = format!("ORDER BY _sequence ROWS {} PRECEDING", WINDOW - 1);
    let statement =
        format!("SELECT random_cut_forest({columns}) OVER ({window}) AS score FROM s ORDER BY _sequence");
    let mut lines = vec![];
    catalog.query(&statement).unwrap().write_json(&mut lines).unwrap();
    let rows = serde_json::Deserializer::from_slice(&lines).into_iter::<Value>();
    rows.map(|row| row.unwrap()["score"].as_f64().unwrap()).collect()
}

struct World {
    directory: tempfile::TempDir,
    clock: Arc<ManualClock>,
    stream: Stream,
    catalog: Catalog,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let stream = open(directory.path(), "in", &clock);
        let catalog =
            Catalog::new().stream("s", &stream, Schema::json("a DOUBLE, b DOUBLE").unwrap()).unwrap();
        Self { directory, clock, stream, catalog }
    }
}

#[test]
fn scores_are_those_of_rrcf() {
    let Some(python) = common::python::with("rrcf") else { return };
    let (world, values) = (World::new(), values());
    put(&world.stream, &world.clock, &values);
    let ends: Vec<usize> = (WINDOW - 1..values.len()).step_by(24).chain([66, 133, 334]).collect();
    for columns in [vec![0], vec![0, 1]] {
        let names = columns.iter().map(|column| ["a", "b"][*column]).collect::<Vec<_>>().join(", ");
        let scores = scores(&world.catalog, &names);
        let point = |row: &[f64; 2]| columns.iter().map(|&column| row[column]).collect::<Vec<f64>>();
        let windows: Vec<Vec<Vec<f64>>> =
            ends.iter().map(|&end| values[end + 1 - WINDOW..=end].iter().map(point).collect()).collect();
        let answers = rrcf(&python, &json!({"windows": windows, "trees": 150}));
        let mut sum = 0.0;
        for (&end, (mean, variance)) in ends.iter().zip(&answers) {
            // Both are sample means: of 100 trees, and of 150.
            let error = (variance / 100.0 + variance / 150.0).sqrt().max(0.01);
            let off = (scores[end] - mean) / error;
            assert!(
                off.abs() < 5.0,
                "row {end} of {names}: {}, rrcf says {mean}, whose error is {error}",
                scores[end]
            );
            sum += off;
        }
        let bias = sum / (ends.len() as f64).sqrt();
        assert!(bias.abs() < 5.0, "{names}: all scores together are {bias} standard errors off");
        // Outliers are found: they score more than twice as high as any other row.
        let is_odd = |row: usize| row % 67 == 66 || columns.len() > 1 && row.is_multiple_of(50);
        let most = |odd: bool| {
            (WINDOW..values.len())
                .filter(|&row| is_odd(row) == odd)
                .map(|row| scores[row])
                .fold(0.0, f64::max)
        };
        assert!(most(true) > 2.0 * most(false), "{} and {}", most(true), most(false));
    }
}

/// Returns the mean and the variance of the score of each window's last point over all trees.
fn rrcf(python: &Path, task: &Value) -> Vec<(f64, f64)> {
    let mut child = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql/run_rrcf.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(task.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn l2_a_pump_that_begins_again_scores_as_one_query_of_all_rows() {
    let (mut world, values) = (World::new(), &values()[..120]);
    let output = open(world.directory.path(), "out", &world.clock);
    world.catalog = world.catalog.output("out", Output::stream(&output)).unwrap();
    let statement = format!(
        "INSERT INTO out SELECT _sequence AS n, random_cut_forest(a, b) OVER (ROWS {} PRECEDING) AS score FROM s",
        WINDOW - 1
    );
    for (part, rows) in values.chunks(30).enumerate() {
        let pump = world.catalog.start(&statement).unwrap();
        put(&world.stream, &world.clock, rows);
        world.clock.advance(SECOND);
        wait_until_read(&pump, rows.len() as u64);
        // In one of the parts, rows have been read but not scored.
        if part != 1 {
            eventually_or(
                || texts(&output).len() == 30 * (part + 1),
                || format!("{} rows", texts(&output).len()),
            );
        }
        pump.close().unwrap();
    }
    let found: BTreeMap<u64, f64> = texts(&output)
        .iter()
        .map(|text| serde_json::from_str::<Value>(text).unwrap())
        .map(|row| (row["n"].as_u64().unwrap(), row["score"].as_f64().unwrap()))
        .collect();
    let right: BTreeMap<u64, f64> = (0..).zip(scores(&world.catalog, "a, b")).collect();
    assert_eq!(texts(&output).len(), 120);
    assert_eq!(found, right);
}
