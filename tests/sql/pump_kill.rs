//! Kills a process with continuous queries at random moments, while shards split and merge: the output is exact: L1, L2, L3.
//!
//! `STREAMLOG_KILLS=100` kills it that often.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use common::killed::{Id, data, ids, kill_each_after, open, put_until_killed, told};
use serde_json::{Value, json};
use streamlog::query::{Catalog, Output, Pump, Schema};
use streamlog::{Record, SECOND, Stream};

/// Each writes to the output of the same name.
const STATEMENTS: [(&str, &str); 4] = [
    ("passed", "INSERT INTO passed SELECT key, number FROM clicks WHERE number % 3 = 0"),
    (
        "counted",
        "INSERT INTO counted SELECT key, count(*) AS n, min(number) AS lo, max(number) AS hi
         FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(_arrival), INTERVAL '0.2' SECOND)) GROUP BY key, window_start, window_end",
    ),
    (
        "visits",
        "INSERT INTO visits SELECT key, count(*) AS n, min(number) AS lo, max(number) AS hi
         FROM TABLE(SESSION(TABLE clicks PARTITION BY key, DESCRIPTOR(_arrival), INTERVAL '0.1' SECOND))
         GROUP BY key, window_start, window_end",
    ),
    (
        "followed",
        "INSERT INTO followed SELECT key, number, sum(number) OVER
         (PARTITION BY key ORDER BY _arrival ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s FROM clicks",
    ),
];

fn schema() -> Schema {
    let decode = |record: &Record<'_>| {
        let (key, number): Id = serde_json::from_slice(record.data()).map_err(|error| error.to_string())?;
        Ok(json!({"key": key, "number": number}))
    };
    told(Schema::function("key BIGINT, number BIGINT", decode))
}

fn rounds() -> u64 {
    std::env::var("STREAMLOG_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20)
}

/// Not a test: the child that the kill test kills. In its last round, it puts nothing and ends when everything is handled.
#[test]
fn child() {
    let Some((path, round)) = common::killed::child() else { return };
    let clicks = open(&path, "clicks");
    let outputs: Vec<Stream> = STATEMENTS.iter().map(|(name, _)| open(&path, name)).collect();
    let mut catalog = told(Catalog::new().stream("clicks", &clicks, schema()));
    for ((name, _), output) in STATEMENTS.iter().zip(&outputs) {
        catalog = told(catalog.output(name, Output::stream(output)));
    }
    let pumps: Vec<Pump> = STATEMENTS.iter().map(|(_, statement)| told(catalog.start(statement))).collect();
    if round < rounds() {
        // Outputs split and merge as well.
        let reshard: Vec<&Stream> = [&clicks].into_iter().chain(&outputs).collect();
        put_until_killed(&clicks, &reshard, round);
    }
    while pumps.iter().any(|pump| pump.stats().lag.record_count > 0) {
        thread::sleep(Duration::from_millis(10));
    }
    // Whatever the last window is, it has ended by then.
    thread::sleep(2 * SECOND);
    while pumps.iter().any(|pump| pump.stats().watermark.is_some() && pump.stats().held_rows > KEPT_ROWS) {
        thread::sleep(Duration::from_millis(10));
    }
    for pump in pumps {
        assert_eq!(pump.stats().late, 0);
        told(pump.close());
    }
}

/// `followed` keeps one row of each key, because its window looks back one row.
const KEPT_ROWS: u64 = 20;

fn rows(path: &std::path::Path, name: &str) -> Vec<Value> {
    data(&open(path, name)).iter().map(|row| serde_json::from_slice(row).unwrap()).collect()
}

fn number(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or_else(|| panic!("{name} in {row}"))
}

#[test]
fn l1_l2_l3_the_output_is_exact_wherever_the_process_is_killed() {
    let scratch = common::scratch();
    // Pumps need a while until a window ends.
    kill_each_after(module_path!(), scratch.path(), rounds(), |round| {
        Duration::from_millis(40 + round * 173 % 400)
    });
    let put: BTreeSet<Id> = ids(&open(scratch.path(), "clicks")).into_iter().collect();
    assert!(put.len() > 1_000, "{} records are too few for a test", put.len());

    let mut passed = BTreeSet::new();
    for row in rows(scratch.path(), "passed") {
        let id = (number(&row, "key"), number(&row, "number"));
        assert!(passed.insert(id), "{id:?} is put twice");
    }
    let expected: BTreeSet<Id> = put.iter().copied().filter(|(_, number)| number % 3 == 0).collect();
    assert_eq!(passed.len(), expected.len());
    assert!(passed == expected);

    for name in ["counted", "visits"] {
        let mut counted = BTreeSet::new();
        let windows = rows(scratch.path(), name);
        assert!(windows.len() > 100, "{} windows of {name}", windows.len());
        for row in windows {
            let (key, n, lo, hi) =
                (number(&row, "key"), number(&row, "n"), number(&row, "lo"), number(&row, "hi"));
            assert_eq!(n, hi - lo + 1, "a window has all records of its time: {row}");
            (lo..=hi)
                .for_each(|number| assert!(counted.insert((key, number)), "{key} {number} counts twice"));
        }
        assert!(counted == put, "{} of {} count in {name}", counted.len(), put.len());
    }

    let mut followed = BTreeMap::new();
    for row in rows(scratch.path(), "followed") {
        let id = (number(&row, "key"), number(&row, "number"));
        assert!(followed.insert(id, number(&row, "s")).is_none(), "{id:?} is put twice");
    }
    for (&(key, number), &s) in &followed {
        assert_eq!(s, (2 * number).saturating_sub(1), "{number} of {key} sees the one before");
    }
    assert!(followed.into_keys().collect::<BTreeSet<_>>() == put);
}
