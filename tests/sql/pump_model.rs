//! The output of pumps for random rows, lateness and restarts, compared with a plain implementation.

use crate::common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::pumps::{open, texts, wait_until_read};
use common::waiting::eventually_or;
use streamlog::query::{Catalog, Output, Schema};
use streamlog::{HOUR, ManualClock, SECOND, Stream, Timestamp};

const BEGIN: i64 = 1_700_000_040;
const LATENESS: i64 = 5;
/// The length of windows, in seconds.
const SIZE: i64 = 20;
const SLIDE: i64 = 10;
const GAP: i64 = 7;

/// A window: its key, its start and its end.
type Window = (i64, i64, i64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tumble,
    Hop,
    Session,
}

impl Kind {
    fn statement(self) -> String {
        let windows = match self {
            Self::Tumble => format!("TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '{SIZE}' SECOND)"),
            Self::Hop => {
                format!(
                    "HOP(TABLE clicks, DESCRIPTOR(at), INTERVAL '{SLIDE}' SECOND, INTERVAL '{SIZE}' SECOND)"
                )
            }
            Self::Session => {
                format!("SESSION(TABLE clicks PARTITION BY key, DESCRIPTOR(at), INTERVAL '{GAP}' SECOND)")
            }
        };
        format!(
            "INSERT INTO out SELECT key, window_start, window_end, count(*) AS n FROM TABLE({windows})
             GROUP BY key, window_start, window_end"
        )
    }
}

/// A plain implementation of the windows.
struct Plain {
    kind: Kind,
    watermark: i64,
    /// The rows of open sessions.
    rows: Vec<(i64, i64)>,
    /// Windows, and emitted sessions. These take no more rows: a row near one begins another session.
    windows: BTreeMap<Window, u64>,
    late: u64,
}

impl Plain {
    fn push(&mut self, key: i64, at: i64) {
        let is_late = match self.kind {
            Kind::Tumble => (at.div_euclid(SIZE) + 1) * SIZE <= self.watermark,
            Kind::Hop => at.div_euclid(SLIDE) * SLIDE + SIZE <= self.watermark,
            Kind::Session => {
                let open = self.sessions().into_iter().filter(|((_, _, end), _)| *end >= self.watermark);
                let mut near =
                    open.filter(|((of, start, end), _)| *of == key && start - GAP <= at && at <= *end);
                at + GAP < self.watermark && near.next().is_none()
            }
        };
        if is_late {
            self.late += 1;
        } else if self.kind == Kind::Session {
            self.rows.push((key, at));
        } else {
            // It counts in each of its windows that has not ended.
            let slide = if self.kind == Kind::Hop { SLIDE } else { SIZE };
            let last = at.div_euclid(slide) * slide;
            let starts = (0..).map(|n| last - n * slide).take_while(|start| start + SIZE > at);
            for start in starts.filter(|start| start + SIZE > self.watermark) {
                *self.windows.entry((key, start, start + SIZE)).or_default() += 1;
            }
        }
        self.watermark = self.watermark.max(at - LATENESS);
        if self.kind == Kind::Session {
            for (window, n) in self.sessions().into_iter().filter(|((_, _, end), _)| *end < self.watermark) {
                let (key, start, end) = window;
                self.rows.retain(|(of, at)| *of != key || !(start..=end).contains(at));
                self.windows.insert(window, n);
            }
        }
    }

    /// Returns the sessions of all rows that were not emitted.
    fn sessions(&self) -> BTreeMap<Window, u64> {
        let mut rows = self.rows.clone();
        rows.sort_unstable();
        let mut sessions: Vec<(Window, u64)> = vec![];
        for (key, at) in rows {
            match sessions.last_mut() {
                Some(((of, _, end), n)) if *of == key && at <= *end => {
                    *end = at + GAP;
                    *n += 1;
                }
                _ => sessions.push(((key, at, at + GAP), 1)),
            }
        }
        sessions.into_iter().collect()
    }

    fn windows(&self) -> BTreeMap<Window, u64> {
        self.windows.clone().into_iter().chain(self.sessions()).collect()
    }
}

/// Pseudorandom numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Returns the windows of the output. None comes twice.
fn put_windows(output: &Stream) -> BTreeMap<Window, u64> {
    let mut windows = BTreeMap::new();
    for row in texts(output) {
        let row: serde_json::Value = serde_json::from_str(&row).unwrap();
        let time = |name: &str| {
            let time: Timestamp = row[name].as_str().unwrap().parse().unwrap();
            (time.as_millis() / 1_000) as i64
        };
        let window = (row["key"].as_i64().unwrap(), time("window_start"), time("window_end"));
        assert!(windows.insert(window, row["n"].as_u64().unwrap()).is_none(), "{window:?} is put twice");
    }
    windows
}

fn check(seed: u64) {
    let mut random = Random(seed | 1);
    (0..8).for_each(|_| _ = random.below(2));
    let kind = [Kind::Tumble, Kind::Hop, Kind::Session][random.below(3) as usize];
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(BEGIN as u64 * 1_000)));
    let (input, output) = (open(directory.path(), "in", &clock), open(directory.path(), "out", &clock));
    let schema = Schema::json("key BIGINT, at TIMESTAMP").unwrap();
    let schema = schema.event_time("at", Duration::from_secs(LATENESS as u64)).unwrap().idle_timeout(HOUR);
    let catalog = Catalog::new().stream("clicks", &input, schema).unwrap();
    let catalog = catalog.output("out", Output::stream(&output)).unwrap();
    let start = || catalog.start(&kind.statement()).unwrap_or_else(|error| panic!("{error}"));
    let mut pump = start();
    let mut plain = Plain { kind, watermark: i64::MIN / 2, rows: vec![], windows: BTreeMap::new(), late: 0 };
    let (mut read, mut late, mut now) = (0, 0, BEGIN);
    for _ in 0..30 {
        now += random.below(8) as i64;
        let at = now - random.below(30) as i64 + random.below(10) as i64;
        let key = random.below(2) as i64;
        input.put("k", format!(r#"{{"key": {key}, "at": {at}}}"#)).unwrap();
        plain.push(key, at);
        read += 1;
        wait_until_read(&pump, read);
        clock.advance(SECOND);
        if random.below(6) == 0 {
            late += pump.stats().late;
            pump.close().unwrap();
            drop(pump);
            pump = start();
            read = 0;
        }
    }
    // No record arrives for so long that all windows end.
    eventually_or(
        || {
            clock.advance(HOUR);
            pump.stats().held_rows == 0
        },
        || format!("{:?}", pump.stats()),
    );
    late += pump.stats().late;
    pump.close().unwrap();
    assert_eq!(put_windows(&output), plain.windows(), "{kind:?}");
    assert_eq!(late, plain.late, "{kind:?}");
}

fn run(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8;
        let outcome = std::panic::catch_unwind(|| check(seed));
        assert!(outcome.is_ok(), "it fails with the seed {seed}");
    }
}

#[test]
fn l2_pumps_put_the_windows_of_a_plain_implementation_whatever_restarts_come() {
    run(0..12);
}

#[test]
#[ignore = "a thousand sequences"]
fn l2_a_thousand_sequences() {
    run(1_000..2_000);
}
