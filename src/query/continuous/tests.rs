//! Tests of pumps that run hand-written plans.

mod exact;
mod failing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::prelude::SessionContext;

use super::start::Source;
use super::*;
use crate::query::error::QueryError;
use crate::query::schema::Schema;
use crate::query::statement::plan::{Input, JoinKind, Lookback, Plan, Shape, Window};
use crate::{
    Clock, Durability, MINUTE, Maintenance, ManualClock, Position, SECOND, Stream, StreamOptions, Timestamp,
};

const BEGIN: u64 = 1_700_000_040_000;
const LIMIT: Duration = Duration::from_secs(20);

struct World {
    directory: tempfile::TempDir,
    clock: Arc<ManualClock>,
    input: Stream,
    output: Stream,
    errors: Stream,
}

impl World {
    fn new(shards: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(BEGIN)));
        let open = |name: &str, shards| open(directory.path(), name, shards, &clock);
        let (input, output, errors) = (open("input", shards), open("output", 1), open("errors", 1));
        Self { directory, clock, input, output, errors }
    }

    fn start(&self, plan: &Plan) -> Pump {
        self.try_start(plan, PumpOptions::new()).unwrap()
    }

    fn try_start(&self, plan: &Plan, options: PumpOptions) -> Result<Pump, QueryError> {
        self.try_start_with(plan, schema(), options)
    }

    fn try_start_with(&self, plan: &Plan, schema: Schema, options: PumpOptions) -> Result<Pump, QueryError> {
        let source = Source { reader: (*self.input).clone(), schema };
        let sources = vec![source; plan.inputs.len()];
        let options = options.error_output(Output::stream(&self.errors));
        Pump::start(plan, sources, &SessionContext::new(), Output::stream(&self.output), options)
    }

    fn put(&self, user: &str, ms: u64) {
        self.input.put(user, format!(r#"{{"user": "{user}", "ms": {ms}}}"#)).unwrap();
    }

    /// Puts a record with an event time, in milliseconds after the beginning.
    fn put_at(&self, user: &str, at: u64) {
        let at = Timestamp::from_millis(BEGIN + at);
        self.input.put(user, format!(r#"{{"user": "{user}", "ms": 1, "at": "{at}"}}"#)).unwrap();
    }

    /// Waits until the output has this many rows, and returns them.
    fn rows(&self, count: usize) -> Vec<String> {
        wait_for(|| texts(&self.output).len() >= count, || format!("{:?}", texts(&self.output)));
        texts(&self.output)
    }

    /// Closes the streams, and opens them again.
    fn reopen(self) -> Self {
        for stream in [self.input, self.output, self.errors] {
            stream.close().unwrap();
        }
        let open = |name: &str| open(self.directory.path(), name, 1, &self.clock);
        let (input, output, errors) = (open("input"), open("output"), open("errors"));
        Self { input, output, errors, directory: self.directory, clock: self.clock }
    }
}

fn open(directory: &std::path::Path, name: &str, shards: u32, clock: &Arc<ManualClock>) -> Stream {
    StreamOptions::new()
        .shards(shards)
        .segment_bytes(1 << 20)
        .durability(Durability::Process)
        .maintenance(Maintenance::Manual)
        .clock(clock.clone())
        .open(directory.join(name))
        .unwrap()
}

fn schema() -> Schema {
    Schema::json("user VARCHAR, ms BIGINT NOT NULL, at TIMESTAMP").unwrap()
}

fn texts(stream: &Stream) -> Vec<String> {
    let iterators = stream.shards().into_iter().map(|shard| stream.iterator(shard.id, Position::TrimHorizon));
    let records = iterators.flat_map(|iterator| iterator.unwrap().records().collect::<Vec<_>>());
    records.map(|record| String::from_utf8(record.unwrap().data.to_vec()).unwrap()).collect()
}

fn wait_for(is_so: impl Fn() -> bool, what: impl Fn() -> String) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "it does not come: {}", what());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until a pump has read this many records, and rests.
fn wait_until_read(pump: &Pump, count: u64) {
    let has_read = || pump.stats().records_in >= count;
    wait_for(has_read, || format!("{:?}", pump.stats()));
    let rests = pump.rests();
    wait_for(|| pump.rests() >= rests + 2, || format!("{:?}", pump.stats()));
}

fn input(prepare: &str, by_event_time: bool) -> Input {
    Input {
        stream: "clicks".to_owned(),
        alias: "_rows_1".to_owned(),
        prepare: prepare.to_owned(),
        by_event_time,
    }
}

const BY_ARRIVAL: &str = r#"SELECT _shard, _sequence, _arrival, _arrival AS _time, "user", ms FROM input"#;
const BY_EVENT_TIME: &str = r#"SELECT _shard, _sequence, _arrival, "at" AS _time, "user", ms FROM input"#;

fn plan(prepare: &str, shape: Shape) -> Plan {
    Plan {
        name: "counts".to_owned(),
        text: "insert into counts select 1".to_owned(),
        target: "counts".to_owned(),
        columns: vec![],
        stopped: false,
        inputs: vec![input(prepare, prepare == BY_EVENT_TIME)],
        shape,
    }
}

fn counts(kind: Window, prepare: &str) -> Plan {
    let sql = r#"SELECT "user", window_start, count(*) AS n, sum(ms) AS ms FROM _rows_1
        GROUP BY "user", window_start, window_end ORDER BY window_end, "user""#;
    plan(prepare, Shape::Windows { kind, sql: sql.to_owned(), separately: false })
}

fn minutes() -> Window {
    Window::Tumble { size: MINUTE, offset: Duration::ZERO }
}

#[test]
fn a_row_that_passes_a_filter_goes_out_at_once() {
    let world = World::new(2);
    let each = r#"SELECT "user" AS _key, ms * 2 AS twice, _shard AS _place_shard, _sequence AS _place_sequence FROM _rows_1"#;
    let prepare =
        r#"SELECT _shard, _sequence, _arrival, _arrival AS _time, "user", ms FROM input WHERE ms > 10"#;
    let plan = plan(prepare, Shape::Each { sql: each.to_owned() });
    let pump = world.start(&plan);
    world.put("ada", 11);
    assert_eq!(world.rows(1), [r#"{"twice":22}"#]);
    world.put("bob", 9);
    world.input.put("bob", r#"{"user": "bob", "ms": "many"}"#).unwrap();
    world.put("bob", 13);
    assert_eq!(world.rows(2), [r#"{"twice":22}"#, r#"{"twice":26}"#]);
    wait_for(|| !texts(&world.errors).is_empty(), || "an error".to_owned());
    let error: serde_json::Value = serde_json::from_str(&texts(&world.errors)[0]).unwrap();
    assert_eq!(error["ERROR_NAME"], "CoercionError");
    assert!(error["MESSAGE"].as_str().unwrap().contains("ms"), "{error}");
    assert_eq!(error["PUMP_NAME"], "counts");
    wait_until_read(&pump, 4);
    pump.close().unwrap();
    let world = world.reopen();
    world.put("cy", 100);
    let pump = world.start(&plan);
    assert_eq!(world.rows(3)[2], r#"{"twice":200}"#);
    wait_until_read(&pump, 1);
    assert_eq!(texts(&world.output).len(), 3, "nothing is put twice");
}

#[test]
fn a_window_ends_by_the_clock_when_nothing_comes() {
    let world = World::new(2);
    let pump = world.start(&counts(minutes(), BY_ARRIVAL));
    world.put("ada", 1);
    world.put("bob", 2);
    world.put("ada", 3);
    wait_until_read(&pump, 3);
    assert_eq!(texts(&world.output).len(), 0);
    assert_eq!(pump.stats().held_rows, 3);
    world.clock.advance(MINUTE);
    let ada = r#"{"user":"ada","window_start":"2023-11-14T22:14:00.000000Z","n":2,"ms":4}"#;
    let bob = r#"{"user":"bob","window_start":"2023-11-14T22:14:00.000000Z","n":1,"ms":2}"#;
    assert_eq!(world.rows(2), [ada, bob]);
    wait_for(|| pump.stats().held_rows == 0, || format!("{:?}", pump.stats()));
    assert_eq!(pump.stats().rows_out, 2);
    assert_eq!(pump.stats().lag.record_count, 0);
}

#[test]
fn a_restart_goes_on_with_open_windows() {
    let mut world = World::new(1);
    let plan = counts(Window::Hop { size: 2 * MINUTE, slide: MINUTE, offset: Duration::ZERO }, BY_ARRIVAL);
    for round in 0..4 {
        let pump = world.start(&plan);
        world.put("ada", 1 << round);
        wait_until_read(&pump, 1);
        pump.close().unwrap();
        drop(pump);
        world.clock.advance(30 * SECOND);
        world = world.reopen();
    }
    let pump = world.start(&plan);
    world.clock.advance(2 * MINUTE);
    let sums: Vec<u64> = world
        .rows(3)
        .iter()
        .map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap()["ms"].as_u64().unwrap())
        .collect();
    assert_eq!(sums, [3, 15, 12], "of each minute and the one before");
    assert_eq!(pump.stats().late, 0);
}

#[test]
fn late_rows_go_to_the_error_output_with_the_reason() {
    let world = World::new(1);
    let schema = schema().event_time("at", 5 * SECOND).unwrap();
    let pump = world.try_start_with(&counts(minutes(), BY_EVENT_TIME), schema, PumpOptions::new()).unwrap();
    world.put_at("ada", 1_000);
    world.put_at("ada", 64_000);
    world.put_at("ada", 59_000);
    world.put_at("ada", 66_000);
    assert_eq!(
        world.rows(1),
        [r#"{"user":"ada","window_start":"2023-11-14T22:14:00.000000Z","n":2,"ms":2}"#]
    );
    world.put_at("bob", 30_000);
    world.input.put("bob", r#"{"user": "bob", "ms": 1}"#).unwrap();
    world.put_at("bob", 100_000_000);
    wait_for(|| texts(&world.errors).len() >= 3, || format!("{:?}", texts(&world.errors)));
    let errors: Vec<serde_json::Value> =
        texts(&world.errors).iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let find = |words: &str| {
        errors
            .iter()
            .find(|error| error["MESSAGE"].as_str().unwrap().contains(words))
            .expect("it is there")
            .clone()
    };
    let late = find("late");
    assert_eq!(late["ERROR_NAME"], "LateRow");
    assert_eq!(
        late["MESSAGE"],
        "late: the row is of 2023-11-14T22:14:30.000000Z, whose window ended at 2023-11-14T22:15:00.000000Z, \
         and the watermark is 2023-11-14T22:15:01.000000Z"
    );
    let data: String = r#"{"user": "bob", "ms": 1, "at": "2023-11-14T22:14:30.000000Z"}"#
        .bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(late["DATA_ROW"], *data);
    find("null");
    find("after the record's arrival");
    let stats = pump.stats();
    assert_eq!((stats.late, stats.refused), (1, 2));
    assert!(stats.last_error.is_some());
}

#[test]
fn a_shard_that_is_idle_does_not_hold_windows_back_for_ever() {
    let world = World::new(2);
    let schema = schema().event_time("at", Duration::ZERO).unwrap().idle_timeout(10 * SECOND);
    let pump = world.try_start_with(&counts(minutes(), BY_EVENT_TIME), schema, PumpOptions::new()).unwrap();
    world.put_at("ada", 1_000);
    world.put_at("ada", 61_000);
    wait_until_read(&pump, 2);
    assert_eq!(texts(&world.output).len(), 0, "the other shard may have such rows, too");
    world.clock.advance(5 * SECOND);
    world.put_at("ada", 62_000);
    wait_until_read(&pump, 3);
    assert_eq!(texts(&world.output).len(), 0);
    world.clock.advance(6 * SECOND);
    assert_eq!(
        world.rows(1),
        [r#"{"user":"ada","window_start":"2023-11-14T22:14:00.000000Z","n":1,"ms":1}"#]
    );
}

#[test]
fn sessions_and_staggered_windows_are_by_key() {
    let world = World::new(1);
    let keys = vec!["user".to_owned()];
    let sessions = counts(Window::Session { gap: 10 * SECOND, keys: keys.clone() }, BY_ARRIVAL);
    let stagger =
        Plan { name: "staggered".to_owned(), ..counts(Window::Stagger { size: MINUTE, keys }, BY_ARRIVAL) };
    let pumps = [world.start(&sessions), world.start(&stagger)];
    for (user, pause) in [("ada", 4), ("ada", 5), ("bob", 4), ("ada", 15), ("ada", 60)] {
        world.put(user, 1);
        world.clock.advance(pause * SECOND);
    }
    pumps.iter().for_each(|pump| wait_until_read(pump, 5));
    let mut rows = world.rows(5);
    rows.sort();
    let row = |user, start, n| {
        format!(r#"{{"user":"{user}","window_start":"2023-11-14T22:14:{start}.000000Z","n":{n},"ms":{n}}}"#)
    };
    assert_eq!(
        rows,
        [
            row("ada", "00", 3),
            row("ada", "00", 4),
            row("ada", "28", 1),
            row("bob", "09", 1),
            row("bob", "09", 1)
        ]
    );
}

#[test]
fn each_row_goes_out_with_what_it_looks_back_at() {
    let world = World::new(2);
    let sql = r#"SELECT "user", ms, s, _shard AS _place_shard, _sequence AS _place_sequence FROM (
        SELECT *, sum(ms) OVER (PARTITION BY "user" ORDER BY _time RANGE INTERVAL '1 minute' PRECEDING) AS s FROM _rows_1
        ) WHERE _is_new"#;
    let plan = plan(BY_ARRIVAL, Shape::Over { keep: vec![Lookback::Range(MINUTE)], sql: sql.to_owned() });
    let pump = world.start(&plan);
    let mut expected = vec![];
    for (round, s) in (0..5).zip([1, 3, 7, 14, 28]) {
        world.put("ada", 1 << round);
        world.clock.advance(30 * SECOND);
        expected.push(format!(r#"{{"user":"ada","ms":{},"s":{s}}}"#, 1 << round));
        assert_eq!(world.rows(round + 1), expected);
        // A restart in the middle.
        if round == 2 {
            pump.close().unwrap();
        }
        if round == 2 {
            break;
        }
    }
    let pump = world.start(&plan);
    for (round, s) in (3..5).zip([14, 28]) {
        world.put("ada", 1 << round);
        world.clock.advance(30 * SECOND);
        expected.push(format!(r#"{{"user":"ada","ms":{},"s":{s}}}"#, 1 << round));
        assert_eq!(world.rows(round + 1), expected);
    }
    wait_until_read(&pump, 2);
    assert!(pump.stats().held_rows <= 3, "{:?}", pump.stats());
}

fn join(kind: JoinKind) -> Plan {
    let join = |kind: &str| {
        format!(
            r#"_rows_1 AS l {kind} JOIN _rows_2 AS r ON l."user" = r."user" AND r._time BETWEEN l._time AND l._time + INTERVAL '1 minute'"#
        )
    };
    let word = match kind {
        JoinKind::Inner => "INNER",
        JoinKind::Left => "LEFT",
        JoinKind::Right => "RIGHT",
        JoinKind::Full => "FULL",
    };
    let kept = if kind == JoinKind::Inner { "" } else { ", true AS _kept" };
    let sql = format!(
        r#"SELECT l."user" AS l, r.ms AS r, l._shard AS _left_shard, l._sequence AS _left_sequence,
        r._shard AS _right_shard, r._sequence AS _right_sequence{kept} FROM {} WHERE l._is_new OR r._is_new"#,
        join("INNER")
    );
    let alone =
        (kind != JoinKind::Inner).then(|| format!(r#"SELECT l."user" AS l, r.ms AS r FROM {}"#, join(word)));
    let prepare = |condition: &str| format!("{BY_ARRIVAL} WHERE {condition}");
    Plan {
        inputs: vec![
            Input { prepare: prepare("ms = 0"), ..input("", false) },
            Input { prepare: prepare("ms > 0"), alias: "_rows_2".to_owned(), ..input("", false) },
        ],
        ..plan("", Shape::Join { keep_left: MINUTE, keep_right: Duration::ZERO, kind, sql, alone })
    }
}

#[test]
fn rows_of_two_sides_meet_at_once_and_others_go_alone_in_time() {
    let mut world = World::new(1);
    let plan = join(JoinKind::Full);
    let mut pump = world.start(&plan);
    world.put("ada", 0);
    world.put("bob", 0);
    world.put("cy", 7);
    world.clock.advance(SECOND);
    assert_eq!(world.rows(1), [r#"{"l":null,"r":7}"#], "its time has passed");
    wait_until_read(&pump, 6);
    pump.close().unwrap();
    drop(pump);
    world = world.reopen();
    pump = world.start(&plan);
    world.put("ada", 3);
    world.put("ada", 4);
    let met = [r#"{"l":"ada","r":3}"#, r#"{"l":"ada","r":4}"#];
    let mut rows = world.rows(3)[1..].to_vec();
    rows.sort();
    assert_eq!(rows, met);
    wait_until_read(&pump, 4);
    pump.close().unwrap();
    drop(pump);
    world = world.reopen();
    pump = world.start(&plan);
    world.clock.advance(2 * MINUTE);
    assert_eq!(world.rows(4)[3..], [r#"{"l":"bob","r":null}"#]);
    wait_for(|| pump.stats().held_rows == 0, || format!("{:?}", pump.stats()));
    assert_eq!(texts(&world.output).len(), 4);
}

#[test]
fn a_changed_statement_is_refused_unless_the_pump_begins_anew() {
    let world = World::new(1);
    let plan = counts(minutes(), BY_ARRIVAL);
    let pump = world.start(&plan);
    world.put("ada", 1);
    wait_until_read(&pump, 1);
    let Err(QueryError::Stream(crate::Error::Locked(_))) = world.try_start(&plan, PumpOptions::new()) else {
        panic!("a pump runs once at a time");
    };
    pump.close().unwrap();
    let changed = Plan { text: "insert into counts select 2".to_owned(), ..plan.clone() };
    let Err(QueryError::Invalid(reason)) = world.try_start(&changed, PumpOptions::new()) else {
        panic!("the statement has changed");
    };
    assert!(reason.contains("They differ from `1` on, which is now `2`."), "{reason}");
    let pump = world.try_start(&changed, PumpOptions::new().begin_anew(true)).unwrap();
    wait_until_read(&pump, 1);
    world.clock.advance(MINUTE);
    assert_eq!(world.rows(1).len(), 1);
    assert!(world.rows(1)[0].contains(r#""n":1"#), "what was held before is forgotten");
}

#[test]
fn l4_a_pump_that_may_not_hold_more_ends_and_goes_on_with_a_higher_limit() {
    let world = World::new(1);
    let plan = counts(minutes(), BY_ARRIVAL);
    let pump = world.try_start(&plan, PumpOptions::new().memory_limit(10_000)).unwrap();
    for _ in 0..1_000 {
        world.put("ada", 1);
    }
    wait_for(|| pump.stats().has_ended, || format!("{:?}", pump.stats()));
    let Err(QueryError::Memory(reason)) = pump.close() else { panic!("it has a limit") };
    assert!(reason.contains("may hold 10000"), "{reason}");
    assert!(pump.close().is_err(), "it is said again");
    let pump = world.start(&plan);
    wait_for(|| pump.stats().held_rows == 1_000, || format!("{:?}", pump.stats()));
    world.clock.advance(MINUTE);
    assert!(world.rows(1)[0].contains(r#""n":1000"#));
}

#[test]
fn a_row_that_the_statement_fails_for_goes_to_the_error_output() {
    let world = World::new(1);
    let each =
        r#"SELECT 100 / ms AS part, _shard AS _place_shard, _sequence AS _place_sequence FROM _rows_1"#;
    for ms in [1, 0, 50] {
        world.put("ada", ms);
    }
    let pump = world.start(&plan(BY_ARRIVAL, Shape::Each { sql: each.to_owned() }));
    assert_eq!(world.rows(2), [r#"{"part":100}"#, r#"{"part":2}"#]);
    wait_for(|| pump.stats().refused == 1, || format!("{:?}", pump.stats()));
    assert!(texts(&world.errors)[0].contains("EvaluationError"), "{:?}", texts(&world.errors));
}

#[test]
fn rows_of_a_split_shard_are_counted_once() {
    let world = World::new(1);
    let pump = world.start(&counts(minutes(), BY_ARRIVAL));
    let mut expected = 0;
    for round in 0..6 {
        for user in 0..20 {
            world.put(&format!("user-{user}"), 1);
            expected += 1;
        }
        let shards = world.input.shards();
        let open: Vec<_> = shards.iter().filter(|shard| shard.is_open()).collect();
        if round % 2 == 0 {
            world.input.split_shard_evenly(open[0].id).unwrap();
        } else {
            world.input.merge_shards(open[0].id, open[1].id).unwrap();
        }
        world.clock.advance(25 * SECOND);
    }
    wait_until_read(&pump, expected);
    world.clock.advance(2 * MINUTE);
    let sum = || -> u64 {
        let rows = texts(&world.output);
        let count =
            |row: &String| serde_json::from_str::<serde_json::Value>(row).unwrap()["n"].as_u64().unwrap();
        rows.iter().map(count).sum()
    };
    wait_for(|| sum() >= expected, || format!("{} of {expected}: {:?}", sum(), pump.stats()));
    assert_eq!(sum(), expected);
    assert_eq!(pump.stats().late, 0);
}

#[test]
fn shards_that_have_ended_before_they_are_read_hold_time_back() {
    let world = World::new(1);
    for generation in 0..5 {
        for user in 0..20 {
            world.put_at(&format!("user-{user}"), generation * 60_000 + user);
        }
        let open = world.input.list_shards(crate::ShardFilter::AtLatest);
        match generation {
            4 => {}
            3 => drop(world.input.merge_shards(open[0].id, open[1].id).unwrap()),
            _ => open.iter().for_each(|shard| drop(world.input.split_shard_evenly(shard.id).unwrap())),
        }
    }
    let schema = schema().event_time("at", Duration::ZERO).unwrap().idle_timeout(10 * SECOND);
    let plan = Plan { name: "all".to_owned(), ..counts(minutes(), BY_EVENT_TIME) };
    let pump = world.try_start_with(&plan, schema, PumpOptions::new()).unwrap();
    wait_until_read(&pump, 100);
    assert_eq!(pump.stats().late, 0, "{:?}", texts(&world.errors));
    world.clock.advance(10 * MINUTE);
    assert_eq!(world.rows(100).len(), 100, "one row of each user in each minute");
    assert_eq!(pump.stats().late, 0);
}

#[test]
fn what_is_held_does_not_keep_what_was_filtered_out() {
    let world = World::new(1);
    let prepare = format!("{BY_ARRIVAL} WHERE ms = 7");
    let pump = world.start(&Plan { name: "few".to_owned(), ..counts(minutes(), &prepare) });
    let long = "x".repeat(500);
    for round in 0..20 {
        for ms in 0..100 {
            world.put(&long, ms);
        }
        wait_until_read(&pump, 100 * (round + 1));
    }
    let stats = pump.stats();
    assert_eq!(stats.held_rows, 20);
    // The records have a megabyte.
    assert!(stats.held_bytes < 400_000, "{stats:?}");
}

#[test]
fn a_function_gets_rows_and_what_it_refuses_goes_to_the_error_output() {
    let world = World::new(1);
    let seen = Arc::new(parking_lot::Mutex::new(0));
    let output = Output::function({
        let seen = seen.clone();
        move |rows: &datafusion::arrow::array::RecordBatch| {
            let mut seen = seen.lock();
            *seen += 1;
            if *seen == 1 {
                Err("not yet")
            } else {
                assert_eq!(rows.num_rows(), 1);
                Ok(())
            }
        }
    });
    let source = Source { reader: (*world.input).clone(), schema: schema() };
    let plan = counts(minutes(), BY_ARRIVAL);
    let pump = Pump::start(&plan, vec![source], &SessionContext::new(), output, PumpOptions::new()).unwrap();
    world.put("ada", 1);
    wait_until_read(&pump, 1);
    world.clock.advance(MINUTE);
    wait_for(|| *seen.lock() == 1, || "the first call".to_owned());
    assert_eq!(pump.stats().rows_out, 0);
    world.clock.advance(SECOND);
    wait_for(|| pump.stats().rows_out == 1, || format!("{:?}", pump.stats()));
    assert_eq!(*seen.lock(), 2);
    assert_eq!(pump.stats().last_error.as_deref(), Some("not yet"));
    let _ = world.clock.now();
}
