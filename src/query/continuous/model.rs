//! Random rows, random lateness, random advances of the watermark: operators against plain implementations of the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use datafusion::arrow::datatypes::{
    DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType, UInt64Type,
};

use super::columns::Micros;
use super::operator::Operator;
use crate::query::statement::plan::{JoinKind, Lookback, Shape, Window};

/// A row: its time, its key, its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    time: Micros,
    key: i64,
    id: u64,
}

type Bounds = (Micros, Micros);

/// Numbers that a seed determines.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("_shard", DataType::UInt32, false),
        Field::new("_sequence", DataType::UInt64, false),
        Field::new("_time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("key", DataType::Int64, false),
    ]))
}

fn batch(rows: &[Row]) -> RecordBatch {
    let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.time));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|_| 0))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.id))),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.key))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn times_of(batch: &RecordBatch, name: &str) -> Vec<Micros> {
    let column = batch.column_by_name(name).unwrap().as_primitive::<TimestampMicrosecondType>();
    column.values().to_vec()
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let ids = batch.column_by_name("_sequence").unwrap().as_primitive::<UInt64Type>();
    let keys = batch.column_by_name("key").unwrap().as_primitive::<Int64Type>();
    let times = times_of(batch, "_time");
    (0..batch.num_rows()).map(|at| Row { time: times[at], key: keys.value(at), id: ids.value(at) }).collect()
}

/// The windows of rows that were released, with the numbers of the rows.
type Windows = BTreeMap<(Bounds, i64), BTreeSet<u64>>;

/// Windows in the plain way: all held rows, in a list.
#[derive(Debug)]
struct Plain {
    window: Window,
    watermark: Micros,
    held: Vec<Row>,
}

const MILLIS: Micros = 1_000;

fn micros(duration: Duration) -> Micros {
    duration.as_micros() as Micros
}

impl Plain {
    /// Returns all windows of a fixed grid that a time is in.
    fn windows_of(&self, time: Micros) -> Vec<Bounds> {
        let (offset, slide, lengths) = match self.window {
            Window::Tumble { size, offset } => (micros(offset), micros(size), vec![micros(size)]),
            Window::Hop { size, slide, offset } => (micros(offset), micros(slide), vec![micros(size)]),
            Window::Cumulate { max, step } => {
                (0, micros(max), (1..=micros(max) / micros(step)).map(|n| n * micros(step)).collect())
            }
            _ => unreachable!("its windows depend on keys"),
        };
        let longest = lengths.iter().max().unwrap();
        let starts = ((time - longest) / slide - 3..time / slide + 3).map(|n| offset + n * slide);
        let bounds = starts.flat_map(|start| lengths.iter().map(move |length| (start, start + length)));
        bounds.filter(|(start, end)| (*start..*end).contains(&time)).collect()
    }

    /// Returns the sessions, or stagger windows, of all rows of a key.
    fn windows_of_key(&self, key: i64) -> Vec<(Bounds, Vec<Row>)> {
        let mut rows: Vec<Row> = self.held.iter().copied().filter(|row| row.key == key).collect();
        rows.sort();
        let mut windows: Vec<(Bounds, Vec<Row>)> = vec![];
        for row in rows {
            let length = match &self.window {
                Window::Session { gap, .. } => micros(*gap),
                Window::Stagger { size, .. } => micros(*size),
                _ => unreachable!(),
            };
            match windows.last_mut() {
                Some(((_, end), rows)) if row.time < *end || row.time == *end && self.is_session() => {
                    if self.is_session() {
                        *end = row.time + length;
                    }
                    rows.push(row);
                }
                _ => windows.push(((row.time, row.time + length), vec![row])),
            }
        }
        windows
    }

    fn is_session(&self) -> bool {
        matches!(self.window, Window::Session { .. })
    }

    fn is_late(&self, row: &Row) -> bool {
        match &self.window {
            Window::Session { gap, .. } => {
                let takes = |((start, end), _): &(Bounds, Vec<Row>)| {
                    *start - micros(*gap) <= row.time && row.time <= *end
                };
                row.time + micros(*gap) < self.watermark && !self.windows_of_key(row.key).iter().any(takes)
            }
            Window::Stagger { size, .. } => row.time + micros(*size) <= self.watermark,
            _ => {
                let windows = self.windows_of(row.time);
                !windows.is_empty() && windows.iter().all(|(_, end)| *end <= self.watermark)
            }
        }
    }

    fn advance(&mut self, watermark: Micros) -> Windows {
        let mut released = Windows::new();
        if let Window::Session { .. } | Window::Stagger { .. } = self.window {
            for key in self.held.iter().map(|row| row.key).collect::<BTreeSet<_>>() {
                for (bounds, rows) in self.windows_of_key(key) {
                    if bounds.1 > watermark || bounds.1 == watermark && self.is_session() {
                        break;
                    }
                    self.held.retain(|row| !rows.contains(row));
                    released.insert((bounds, key), rows.iter().map(|row| row.id).collect());
                }
            }
        } else {
            for row in &self.held {
                for bounds in self.windows_of(row.time) {
                    if bounds.1 > self.watermark && bounds.1 <= watermark {
                        released.entry((bounds, 0)).or_default().insert(row.id);
                    }
                }
            }
        }
        self.watermark = watermark;
        released
    }
}

fn is_keyed(window: &Window) -> bool {
    matches!(window, Window::Session { .. } | Window::Stagger { .. })
}

fn released_windows(tables: &[Vec<RecordBatch>], window: &Window, into: &mut Windows) {
    for batch in tables.iter().flatten() {
        let (starts, ends) = (times_of(batch, "window_start"), times_of(batch, "window_end"));
        for (at, row) in rows_of(batch).into_iter().enumerate() {
            let key = if is_keyed(window) { row.key } else { 0 };
            let is_first = into.entry(((starts[at], ends[at]), key)).or_default().insert(row.id);
            assert!(is_first, "{row:?} came out twice");
        }
    }
}

/// Rows that are mostly a little after the watermark.
fn random_rows(random: &mut Random, watermark: Micros, keys: u64, next_id: &mut u64) -> Vec<Row> {
    let count = random.below(12);
    let row = |_| {
        *next_id += 1;
        let time = match random.below(8) {
            // On the edges of windows.
            0 => (watermark / (10 * MILLIS) + random.below(4) as Micros - 1) * 10 * MILLIS,
            1 => watermark - random.below(60_000) as Micros,
            _ => watermark + random.below(50_000) as Micros - 5_000,
        };
        Row { time: time.max(0), key: random.below(keys) as i64, id: *next_id }
    };
    (0..count).map(row).collect()
}

fn random_window(random: &mut Random) -> Window {
    let millis = |count: u64| Duration::from_millis(count);
    let keys = || vec!["key".to_owned()];
    match random.below(6) {
        0 => Window::Tumble { size: millis(10), offset: millis(random.below(10)) },
        1 => Window::Hop { size: millis(30), slide: millis(10), offset: millis(random.below(10)) },
        2 => Window::Hop {
            size: millis(1 + random.below(40)),
            slide: millis(1 + random.below(40)),
            offset: Duration::ZERO,
        },
        3 => Window::Cumulate { max: millis(40), step: millis(10) },
        4 => Window::Session { gap: millis(1 + random.below(10)), keys: keys() },
        _ => Window::Stagger { size: millis(1 + random.below(20)), keys: keys() },
    }
}

/// Moves the contents of an operator to a new one, as a restart does.
fn restored(operator: &Operator, shape: &Shape, watermark: Micros) -> Operator {
    let inputs = if matches!(shape, Shape::Join { .. }) { 2 } else { 1 };
    let mut new = Operator::new(shape, &vec![schema(); inputs]).unwrap().unwrap();
    new.advance(watermark, usize::MAX).unwrap();
    for (input, rows) in operator.snapshot().unwrap() {
        new.restore(input, rows, watermark).unwrap();
    }
    new
}

fn check_windows(seed: u64) {
    let mut random = Random(seed | 1);
    (0..8).for_each(|_| _ = random.below(2));
    let window = random_window(&mut random);
    let shape = Shape::Windows { kind: window.clone(), sql: String::new(), separately: false };
    let mut operator = Operator::new(&shape, &[schema()]).unwrap().unwrap();
    let mut plain = Plain { window: window.clone(), watermark: 0, held: vec![] };
    operator.advance(0, usize::MAX).unwrap();
    let mut next_id = 0;
    for _ in 0..40 {
        let rows = random_rows(&mut random, plain.watermark, 3, &mut next_id);
        let is_late: Vec<bool> = rows.iter().map(|row| plain.is_late(row)).collect();
        let late = operator.late(0, &batch(&rows), plain.watermark).unwrap();
        let late: BTreeSet<usize> = late.iter().map(|late| late.row).collect();
        let expected: BTreeSet<usize> = (0..rows.len()).filter(|&row| is_late[row]).collect();
        assert_eq!(late, expected, "late rows of {rows:?} at {}", plain.watermark);
        let rows: Vec<Row> = (0..rows.len()).filter(|row| !late.contains(row)).map(|row| rows[row]).collect();
        operator.push(0, batch(&rows)).unwrap();
        plain.held.extend(&rows);
        if random.below(3) > 0 {
            continue;
        }
        let to = plain.watermark + random.below(30_000) as Micros;
        let rows_max = 1 + random.below(20) as usize;
        let due = operator.due().unwrap();
        let mut released = Windows::new();
        let mut reached = plain.watermark;
        while reached < to || to == plain.watermark {
            let (step, _) = operator.advance(to, rows_max).unwrap();
            assert!(step.reached > reached || step.reached == to, "it goes on");
            let mut of_step = Windows::new();
            released_windows(&step.tables, &window, &mut of_step);
            let passed = |end: Micros| end + Micros::from(plain.is_session());
            assert!(of_step.keys().all(|((_, end), _)| (reached + 1..=step.reached).contains(&passed(*end))));
            of_step.into_iter().for_each(|(key, ids)| assert!(released.insert(key, ids).is_none()));
            reached = step.reached;
            if reached == to {
                break;
            }
        }
        assert!(released.is_empty() || due.is_some_and(|due| due <= to), "{due:?} is due, but {to} releases");
        let before = plain.watermark;
        assert_eq!(released, plain.advance(to), "released from {before} to {to}");
        if random.below(4) == 0 {
            operator = restored(&operator, &shape, plain.watermark);
        }
    }
    let to = plain.watermark + 1_000_000;
    let (step, _) = operator.advance(to, usize::MAX).unwrap();
    let mut released = Windows::new();
    released_windows(&step.tables, &window, &mut released);
    assert_eq!(released, plain.advance(to));
    assert_eq!(operator.held().rows, 0, "all rows are released");
}

fn check_over(seed: u64) {
    let mut random = Random(seed | 1);
    (0..8).for_each(|_| _ = random.below(2));
    let mut keep = vec![];
    if random.below(2) == 0 {
        keep.push(Lookback::Range(Duration::from_millis(random.below(30))));
    }
    if random.below(2) == 0 {
        keep.push(Lookback::Rows { per: vec!["key".to_owned()], count: random.below(4) });
    }
    if random.below(3) == 0 {
        keep.push(Lookback::Rows { per: vec![], count: random.below(4) });
    }
    let shape = Shape::Over { keep: keep.clone(), sql: String::new() };
    let mut operator = Operator::new(&shape, &[schema()]).unwrap().unwrap();
    let (mut watermark, mut next_id) = (0, 0);
    let (mut waiting, mut gone): (Vec<Row>, Vec<Row>) = (vec![], vec![]);
    for _ in 0..40 {
        let rows = random_rows(&mut random, watermark, 3, &mut next_id);
        let late = operator.late(0, &batch(&rows), watermark).unwrap();
        let on_time: Vec<Row> = rows.iter().copied().filter(|row| row.time >= watermark).collect();
        assert_eq!(late.len() + on_time.len(), rows.len());
        operator.push(0, batch(&on_time)).unwrap();
        waiting.extend(on_time);
        watermark += random.below(20_000) as Micros;
        let (released, _) = operator.advance(watermark, 1).unwrap();
        waiting.sort();
        let new: Vec<Row> = waiting.iter().copied().filter(|row| row.time < watermark).collect();
        waiting.retain(|row| row.time >= watermark);
        let mut found = (vec![], vec![]);
        for table in &released.tables[0] {
            let is_new = table.column_by_name("_is_new").unwrap().as_boolean();
            for (at, row) in rows_of(table).into_iter().enumerate() {
                if is_new.value(at) { found.0.push(row) } else { found.1.push(row) }
            }
        }
        found.0.sort();
        assert_eq!(found.0, new);
        let seen: BTreeSet<Row> = found.1.iter().copied().collect();
        assert_eq!(seen.len(), found.1.len(), "no row is there twice");
        for row in &new {
            let before: Vec<Row> = gone
                .iter()
                .chain(&new)
                .copied()
                .filter(|other| (other.time, other.id) < (row.time, row.id))
                .collect();
            for lookback in &keep {
                let needed: Vec<Row> = match lookback {
                    Lookback::Range(range) => before
                        .iter()
                        .copied()
                        .filter(|other| other.time >= row.time - micros(*range))
                        .collect(),
                    Lookback::Rows { per, count } => {
                        let of_key =
                            before.iter().rev().filter(|other| per.is_empty() || other.key == row.key);
                        of_key.take(*count as usize).copied().collect()
                    }
                };
                let is_there = |needed: &Row| seen.contains(needed) || new.contains(needed);
                assert!(needed.iter().all(is_there), "{row:?} sees all of {needed:?}");
            }
        }
        gone.extend(new);
        gone.sort_by_key(|row| (row.time, row.id));
        if random.below(4) == 0 {
            operator = restored(&operator, &shape, watermark);
        }
    }
}

fn check_join(seed: u64) {
    let mut random = Random(seed | 1);
    (0..8).for_each(|_| _ = random.below(2));
    let keep = [random.below(30), random.below(30)].map(Duration::from_millis);
    let kind = [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full][random.below(4) as usize];
    let shape =
        Shape::Join { keep_left: keep[0], keep_right: keep[1], kind, sql: String::new(), alone: None };
    let mut operator = Operator::new(&shape, &[schema(), schema()]).unwrap().unwrap();
    let meets = |left: &Row, right: &Row| {
        let after = right.time - left.time;
        left.key == right.key && after <= micros(keep[0]) && -after <= micros(keep[1])
    };
    let (mut watermark, mut next_id) = (0, 0);
    let mut all: [Vec<Row>; 2] = [vec![], vec![]];
    let mut pairs = BTreeSet::new();
    let mut alone: [BTreeSet<u64>; 2] = Default::default();
    for round in 0..40 {
        for input in [0, 1] {
            let rows = random_rows(&mut random, watermark, 2, &mut next_id);
            let late = operator.late(input, &batch(&rows), watermark).unwrap();
            let on_time: Vec<Row> = rows.iter().copied().filter(|row| row.time >= watermark).collect();
            assert_eq!(late.len() + on_time.len(), rows.len());
            operator.push(input, batch(&on_time)).unwrap();
            all[input].extend(on_time);
        }
        let sides = operator.sides().unwrap();
        if let Some(tables) = sides.meet().unwrap() {
            let [left, right] = tables.map(|table| {
                let marked = table.iter().flat_map(|batch| {
                    let is_new = batch.column_by_name("_is_new").unwrap().as_boolean().clone();
                    rows_of(batch).into_iter().enumerate().map(move |(at, row)| (row, is_new.value(at)))
                });
                marked.collect::<Vec<_>>()
            });
            let mut met = [vec![], vec![]];
            for (left, is_new_left) in &left {
                for (right, is_new_right) in &right {
                    if (*is_new_left || *is_new_right) && meets(left, right) {
                        assert!(pairs.insert((left.id, right.id)), "{left:?} and {right:?} meet twice");
                        met[0].push((0, left.id));
                        met[1].push((0, right.id));
                    }
                }
            }
            sides.note_met(0, met[0].iter().copied());
            sides.note_met(1, met[1].iter().copied());
        }
        watermark += if round == 39 { 1_000_000 } else { random.below(15_000) as Micros };
        let due = operator.due().unwrap();
        let held = operator.held();
        let (_, of_advance) = operator.advance(watermark, 1).unwrap();
        assert!(operator.held() == held || due.is_some_and(|due| due <= watermark), "{due:?} is due");
        for (alone, tables) in alone.iter_mut().zip(&of_advance.tables) {
            tables.iter().flat_map(rows_of).for_each(|row| assert!(alone.insert(row.id)));
        }
        if random.below(4) == 0 {
            let met = [0, 1].map(|input| operator.sides().unwrap().met(input));
            operator = restored(&operator, &shape, watermark);
            for (input, met) in met.into_iter().enumerate() {
                operator.sides().unwrap().note_met(input, met);
            }
        }
    }
    let [lefts, rights] = &all;
    let expected: BTreeSet<(u64, u64)> = lefts
        .iter()
        .flat_map(|left| {
            rights.iter().filter(move |right| meets(left, right)).map(move |right| (left.id, right.id))
        })
        .collect();
    assert_eq!(pairs, expected);
    let unmet = |rows: &[Row], met: BTreeSet<u64>| -> BTreeSet<u64> {
        rows.iter().map(|row| row.id).filter(|id| !met.contains(id)).collect()
    };
    let left = unmet(lefts, pairs.iter().map(|pair| pair.0).collect());
    let right = unmet(rights, pairs.iter().map(|pair| pair.1).collect());
    let goes = [[JoinKind::Left, JoinKind::Full], [JoinKind::Right, JoinKind::Full]];
    let expected = [left, right]
        .into_iter()
        .zip(goes)
        .map(|(ids, kinds)| if kinds.contains(&kind) { ids } else { BTreeSet::new() });
    assert_eq!(alone.to_vec(), expected.collect::<Vec<_>>());
    assert_eq!(operator.held().rows, 0);
}

/// Runs a check with many seeds. A seed that fails is named.
fn run(seeds: std::ops::Range<u64>, check: fn(u64)) {
    for seed in seeds {
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8;
        let outcome = std::panic::catch_unwind(|| check(seed));
        assert!(outcome.is_ok(), "it fails with the seed {seed}");
    }
}

#[test]
fn windows_are_those_of_a_plain_implementation() {
    run(0..400, check_windows);
}

#[test]
fn rows_that_look_back_see_all_that_they_need() {
    run(0..200, check_over);
}

#[test]
fn each_pair_meets_once_and_rows_that_met_none_go_alone() {
    run(0..200, check_join);
}

#[test]
#[ignore = "thousands of sequences"]
fn thousands_of_sequences() {
    run(1_000..11_000, check_windows);
    run(1_000..6_000, check_over);
    run(1_000..6_000, check_join);
}

#[test]
#[ignore = "a measurement, for an optimized build"]
fn how_fast_windows_are() {
    let rows: Vec<Row> =
        (0..1_000_000_u64).map(|id| Row { time: id as Micros * 60, key: (id % 1_000) as i64, id }).collect();
    let batches: Vec<RecordBatch> = rows.chunks(4_096).map(batch).collect();
    let second = Duration::from_secs(1);
    let keys = vec!["key".to_owned()];
    let windows = [
        ("tumble", Window::Tumble { size: second, offset: Duration::ZERO }),
        ("hop", Window::Hop { size: 5 * second, slide: second, offset: Duration::ZERO }),
        ("cumulate", Window::Cumulate { max: 5 * second, step: second }),
        ("session", Window::Session { gap: Duration::from_micros(50_000), keys: keys.clone() }),
        ("stagger", Window::Stagger { size: second, keys }),
    ];
    for (name, kind) in windows {
        let shape = Shape::Windows { kind, sql: String::new(), separately: false };
        let mut operator = Operator::new(&shape, &[schema()]).unwrap().unwrap();
        let begun = std::time::Instant::now();
        let mut released = 0;
        for batch in &batches {
            operator.push(0, batch.clone()).unwrap();
            let last = times_of(batch, "_time").into_iter().max().unwrap();
            released += operator.advance(last, usize::MAX).unwrap().0.row_count();
        }
        released += operator.advance(Micros::MAX / 4, usize::MAX).unwrap().0.row_count();
        eprintln!("{name}: 1,000,000 rows in, {released} out, {:?}", begun.elapsed());
    }
    let sessions: Vec<Row> = (0..100_000).map(|id| Row { time: id as Micros, key: id as i64, id }).collect();
    let shape = Shape::Windows {
        kind: Window::Session { gap: second, keys: vec!["key".to_owned()] },
        sql: String::new(),
        separately: false,
    };
    let mut operator = Operator::new(&shape, &[schema()]).unwrap().unwrap();
    sessions.chunks(1_000).for_each(|rows| operator.push(0, batch(rows)).unwrap());
    let begun = std::time::Instant::now();
    let restored = restored(&operator, &shape, 0);
    eprintln!("{} rows of 100,000 sessions restored in {:?}", restored.held().rows, begun.elapsed());
}
