//! Continuous queries, from their statements to their output.

use crate::common;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::pumps::{open, texts, wait_until_read};
use common::waiting::eventually_or;
#[cfg(feature = "delivery")]
use streamlog::Archive;
use streamlog::query::{Catalog, Output, Pump, PumpOptions, QueryError, Schema};
use streamlog::{MINUTE, ManualClock, Position, SECOND, Stream, StreamOptions, Timestamp};

/// 2017-11-15 11:00:00 UTC, in milliseconds: the start time of the AWS example.
const ELEVEN: u64 = 1_510_743_600_000;

struct World {
    directory: tempfile::TempDir,
    clock: Arc<ManualClock>,
    input: Stream,
    output: Stream,
    catalog: Catalog,
}

impl World {
    fn new(schema: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(ELEVEN)));
        let (input, output) = (open(directory.path(), "in", &clock), open(directory.path(), "out", &clock));
        let catalog = Catalog::new()
            .stream("clicks", &input, Schema::json(schema).unwrap())
            .unwrap()
            .output("out", Output::stream(&output))
            .unwrap();
        Self { directory, clock, input, output, catalog }
    }

    fn start(&self, statement: &str) -> Pump {
        self.catalog.start(statement).unwrap_or_else(|error| panic!("{error}"))
    }

    fn rows(&self, count: usize) -> Vec<String> {
        eventually_or(|| texts(&self.output).len() >= count, || format!("{:?}", texts(&self.output)));
        texts(&self.output)
    }
}

#[test]
fn a_filter_passes_rows_on_with_their_keys() {
    let world = World::new("name VARCHAR, ms BIGINT");
    let pump = world.start("INSERT INTO out SELECT _key, upper(name) AS u FROM clicks WHERE ms > 5");
    world.input.put("user-17", r#"{"name": "ada", "ms": 9}"#).unwrap();
    world.input.put("user-18", r#"{"name": "bob", "ms": 3}"#).unwrap();
    world.input.put("user-19", r#"{"name": "cy", "ms": 6}"#).unwrap();
    assert_eq!(world.rows(2), [r#"{"u":"ADA"}"#, r#"{"u":"CY"}"#]);
    let shard = world.output.shards()[0].id;
    let batch = world.output.iterator(shard, Position::TrimHorizon).unwrap().next_batch(10).unwrap();
    let keys: Vec<&[u8]> = batch.iter().map(|record| record.partition_key()).collect();
    assert_eq!(keys, [b"user-17", b"user-19"]);
    assert_eq!(pump.name(), "out");
    pump.close().unwrap();
}

#[test]
fn a_table_that_is_joined_is_read_again_when_told() {
    let mut world = World::new("name VARCHAR, city BIGINT");
    let [users, cities] = ["users.csv", "cities.json"].map(|name| world.directory.path().join(name));
    std::fs::write(&users, "id,role\nada,admin\n").unwrap();
    std::fs::write(&cities, "{\"id\": 1, \"city\": \"Rome\"}\n").unwrap();
    world.catalog = world.catalog.file("users", &users).unwrap().file("cities", &cities).unwrap();
    let pump = world.start(
        "INSERT INTO out SELECT name, role, t.city FROM clicks c JOIN users ON id = name JOIN cities t ON t.id = c.city",
    );
    let put = |name: &str| _ = world.input.put("k", format!(r#"{{"name": "{name}", "city": 1}}"#)).unwrap();
    let ada = r#"{"name":"ada","role":"admin","city":"Rome"}"#;
    put("ada");
    assert_eq!(world.rows(1), [ada]);

    // The pump does not see changes to the file until it reloads its tables.
    std::fs::write(&users, "id,role\nada,guest\nbob,guest\n").unwrap();
    std::fs::write(&cities, "{\"id\": 1, \"city\": \"Oslo\"}\n").unwrap();
    put("bob");
    put("ada");
    assert_eq!(world.rows(2), [ada, ada]);
    pump.reload_tables().unwrap();
    let bob = r#"{"name":"bob","role":"guest","city":"Oslo"}"#;
    put("bob");
    assert_eq!(world.rows(3), [ada, ada, bob]);

    // If a table cannot be read, all stay as they were.
    std::fs::write(&users, "id,role\n").unwrap();
    std::fs::remove_file(&cities).unwrap();
    let error = pump.reload_tables().unwrap_err();
    assert!(error.to_string().contains("cities.json"), "{error}");
    put("bob");
    assert_eq!(world.rows(4), [ada, ada, bob, bob]);
    pump.close().unwrap();
    assert!(pump.reload_tables().unwrap_err().to_string().contains("has ended"));
}

#[test]
fn l5_closing_ends_a_join_that_finds_nothing_and_its_records_come_again() {
    let mut world = World::new("n BIGINT");
    let numbers = world.directory.path().join("numbers.csv");
    let lines: Vec<_> = std::iter::once("v".to_owned()).chain((0..200_000).map(|v| v.to_string())).collect();
    std::fs::write(&numbers, lines.join("\n")).unwrap();
    world.catalog = world.catalog.file("numbers", &numbers).unwrap();
    for n in 0..3_000 {
        world.input.put("key", format!(r#"{{"n": {n}}}"#)).unwrap();
    }
    // It tries 600 million pairs.
    let pump = world.start("INSERT INTO out SELECT n, v FROM clicks JOIN numbers ON n * v % 7 = 8");
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    pump.close().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let groups = world.input.groups().unwrap();
    assert_eq!(groups.len(), 1);
    let lag = world.input.group(&*groups[0]).describe().unwrap().lag().record_count;
    assert_eq!(lag, 3_000, "{:?}", pump.stats());
    assert!(texts(&world.output).is_empty());
}

#[test]
fn l4_tables_that_are_joined_have_a_bound() {
    let mut world = World::new("name VARCHAR");
    let users = world.directory.path().join("users.csv");
    let many: String = (0..10_000).map(|user| format!("user-{user},guest\n")).collect();
    std::fs::write(&users, format!("id,role\n{many}")).unwrap();
    world.catalog = world.catalog.file("users", &users).unwrap();
    let statement = "INSERT INTO out SELECT name, role FROM clicks JOIN users ON id = name";
    let start = |bytes| world.catalog.start_with(statement, PumpOptions::new().memory_limit(bytes));
    assert!(matches!(start(100_000), Err(QueryError::Memory(_))));
    start(10_000_000).unwrap().close().unwrap();
}

/// The rows of the AWS example that contrasts stagger windows with tumbling ones: the arrival time and the data of each.
const TRADES: [(u64, &str); 4] = [
    (20, r#"{"event_time": "2017-11-15T11:00:10Z", "ticker": "AMZN"}"#),
    (30, r#"{"event_time": "2017-11-15T11:00:20Z", "ticker": "AMZN"}"#),
    (65, r#"{"event_time": "2017-11-15T11:00:30Z", "ticker": "AMZN"}"#),
    (75, r#"{"event_time": "2017-11-15T11:01:10Z", "ticker": "AMZN"}"#),
];

fn trades_through(statement: &str, count: usize) -> Vec<String> {
    let world = World::new("event_time TIMESTAMP, ticker VARCHAR");
    let pump = world.start(statement);
    let mut at = 0;
    for (read, (second, trade)) in (1..).zip(TRADES) {
        world.clock.advance(Duration::from_secs(second - at));
        at = second;
        world.input.put("AMZN", trade).unwrap();
        wait_until_read(&pump, read);
    }
    world.clock.advance(3 * MINUTE);
    world.rows(count)
}

#[test]
fn staggered_windows_are_those_of_the_example_of_aws() {
    let rows = trades_through(
        "INSERT INTO out SELECT STREAM FLOOR(event_time TO MINUTE) AS event_minute, ticker, COUNT(*) AS ticker_count
         FROM clicks WINDOWED BY STAGGER (PARTITION BY FLOOR(event_time TO MINUTE), ticker RANGE INTERVAL '1' MINUTE)",
        2,
    );
    let row = |minute, n| {
        format!(
            r#"{{"event_minute":"2017-11-15T11:{minute}:00.000000Z","ticker":"AMZN","ticker_count":{n}}}"#
        )
    };
    assert_eq!(rows, [row("00", 3), row("01", 1)]);
}

#[test]
fn tumbling_windows_cut_what_staggered_ones_keep_together() {
    let rows = trades_through(
        "INSERT INTO out SELECT STREAM FLOOR(event_time TO MINUTE) AS event_minute, ticker, COUNT(*) AS ticker_count
         FROM clicks GROUP BY ticker, FLOOR(event_time TO MINUTE), STEP(ROWTIME BY INTERVAL '1' MINUTE)",
        3,
    );
    let counts: Vec<u64> = rows
        .iter()
        .map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap()["ticker_count"].as_u64().unwrap())
        .collect();
    assert_eq!(counts.iter().sum::<u64>(), 4);
    assert_eq!(counts.len(), 3, "{rows:?}");
}

#[test]
fn declared_streams_lead_from_one_pump_to_the_next() {
    let world = World::new("name VARCHAR, ms BIGINT");
    let program = "CREATE OR REPLACE STREAM slow (name VARCHAR, ms BIGINT);
         CREATE OR REPLACE PUMP first AS INSERT INTO slow SELECT STREAM name, ms FROM clicks WHERE ms > 5;
         CREATE OR REPLACE PUMP second AS INSERT INTO out SELECT STREAM name, ms * 2 AS twice FROM slow WHERE ms < 20;";
    let start =
        || world.catalog.start_all(program, PumpOptions::new()).unwrap_or_else(|error| panic!("{error}"));
    let pumps = start();
    assert_eq!(pumps.iter().map(Pump::name).collect::<Vec<_>>(), ["first", "second"]);
    for ms in [3, 9, 30, 12] {
        world.input.put("ada", format!(r#"{{"name": "ada", "ms": {ms}}}"#)).unwrap();
    }
    assert_eq!(world.rows(2), [r#"{"name":"ada","twice":18}"#, r#"{"name":"ada","twice":24}"#]);
    drop(pumps);
    let pumps = start();
    world.input.put("bob", r#"{"name": "bob", "ms": 7}"#).unwrap();
    assert_eq!(world.rows(3)[2..], [r#"{"name":"bob","twice":14}"#]);
    pumps.iter().for_each(|pump| pump.close().unwrap());
}

#[test]
fn mistakes_are_shown_where_they_are() {
    let world = World::new("name VARCHAR, ms BIGINT");
    let Err(QueryError::Statement(error)) = world.catalog.start("INSERT INTO out SELECT nme FROM clicks")
    else {
        panic!("there is no such column")
    };
    assert_eq!((error.line(), error.column()), (Some(1), Some(24)), "{error}");
    assert!(error.to_string().contains("name"), "{error}");
    let Err(QueryError::Invalid(error)) = world.catalog.start("INSERT INTO nowhere SELECT name FROM clicks")
    else {
        panic!("there is no such output")
    };
    assert!(error.contains("nowhere"), "{error}");
    let catalog = world.catalog.clone().output("keyed", Output::stream(&world.output).key("nme")).unwrap();
    let Err(QueryError::Invalid(error)) = catalog.start("INSERT INTO keyed SELECT name FROM clicks") else {
        panic!("the key is no column")
    };
    assert!(error.contains("nme"), "{error}");
    assert!(world.input.groups().unwrap().is_empty(), "nothing is left behind");
}

#[test]
fn a_pump_ends_when_its_stream_is_closed() {
    let world = World::new("name VARCHAR, ms BIGINT");
    let pump = world.start("INSERT INTO out SELECT name FROM clicks");
    world.input.put("ada", r#"{"name": "ada"}"#).unwrap();
    world.rows(1);
    world.input.clone().close().unwrap();
    eventually_or(|| pump.stats().has_ended, || format!("{:?}", pump.stats()));
    pump.close().unwrap();
}

#[test]
fn rows_come_as_csv_with_a_key_from_a_column() {
    let world = World::new("name VARCHAR, ms BIGINT");
    let catalog =
        world.catalog.clone().output("lines", Output::stream(&world.output).csv().key("name")).unwrap();
    let pump = catalog
        .start("INSERT INTO lines SELECT name, ms FROM clicks")
        .unwrap_or_else(|error| panic!("{error}"));
    world.input.put("k", r#"{"name": "Ada, \"the first\"\nof all", "ms": 9}"#).unwrap();
    world.input.put("k", r#"{"name": null, "ms": 3}"#).unwrap();
    assert_eq!(world.rows(2), ["\"Ada, \"\"the first\"\"\nof all\",9", ",3"]);
    pump.close().unwrap();
}

#[test]
fn a_state_that_has_grown_is_written_anew_and_is_still_whole() {
    let world = World::new("name VARCHAR, ms BIGINT");
    let statement = "INSERT INTO out SELECT count(*) AS n, sum(ms) AS ms
        FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(_arrival), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end";
    let text = "x".repeat(1_000);
    let mut pump = world.start(statement);
    let mut read = 0;
    // Each window is larger than the size at which the journal is rewritten.
    for minute in 0..3 {
        for ms in 0..6_000 {
            world.input.put("k", format!(r#"{{"name": "{text}", "ms": {ms}}}"#)).unwrap();
            read += 1;
        }
        wait_until_read(&pump, read);
        pump.close().unwrap();
        drop(pump);
        pump = world.start(statement);
        read = 0;
        world.clock.advance(MINUTE);
        assert_eq!(world.rows(minute + 1)[minute], r#"{"n":6000,"ms":17997000}"#);
    }
}

/// Run with `cargo test --release --features sql --test sql pump:: -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, for an optimized build"]
fn how_long_a_row_takes_through_a_filter() {
    let directory = tempfile::tempdir().unwrap();
    let input = Stream::open(directory.path().join("in")).unwrap();
    let output = Stream::open(directory.path().join("out")).unwrap();
    let catalog = Catalog::new()
        .stream("clicks", &input, Schema::json("name VARCHAR, ms BIGINT").unwrap())
        .unwrap()
        .output("out", Output::stream(&output))
        .unwrap();
    let pump = catalog.start("INSERT INTO out SELECT name, ms FROM clicks WHERE ms % 2 = 0").unwrap();
    let mut iterator = output.iterator(output.shards()[0].id, Position::TrimHorizon).unwrap();
    let mut times = vec![];
    for _ in 0..1_000 {
        let begun = Instant::now();
        input.put("ada", r#"{"name": "ada", "ms": 2}"#).unwrap();
        assert!(iterator.wait(5 * SECOND).unwrap());
        assert_eq!(iterator.next_batch(10).unwrap().len(), 1);
        times.push(begun.elapsed());
        std::thread::sleep(Duration::from_millis(3));
    }
    times.sort();
    eprintln!("p50 {:?}, p99 {:?}, most {:?}", times[500], times[990], times[999]);
    assert!(times[990] < Duration::from_millis(10));
    pump.close().unwrap();
}

/// Run with `cargo test --release --features sql --test sql pump:: -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, for an optimized build"]
fn how_many_rows_a_tumbling_count_takes() {
    const COUNT: u64 = 3_000_000;
    let directory = tempfile::tempdir().unwrap();
    let input = Stream::open(directory.path().join("in")).unwrap();
    let output = Stream::open(directory.path().join("out")).unwrap();
    let datas: Vec<String> = (0..COUNT).map(|ms| format!(r#"{{"name": "user-{}", "ms": {ms}, "page": "/products/{}/reviews", "agent": "Mozilla/5.0 (X11; Linux x86_64) Gecko", "status": 200}}"#, ms % 1_000, ms % 77)).collect();
    for chunk in datas.chunks(1_000) {
        let records: Vec<_> = chunk.iter().map(|data| streamlog::PutRecord::new("k", data)).collect();
        input.put_batch(&records).unwrap();
    }
    let catalog = Catalog::new()
        .stream("clicks", &input, Schema::json("name VARCHAR, ms BIGINT").unwrap())
        .unwrap()
        .output("out", Output::stream(&output))
        .unwrap();
    for (name, statement) in [
        (
            "by JSON columns",
            "CREATE PUMP p1 AS INSERT INTO out SELECT name, count(*) AS n FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(_arrival), INTERVAL '1' SECOND)) GROUP BY name, window_start, window_end",
        ),
        (
            "by keys",
            "CREATE PUMP p2 AS INSERT INTO out SELECT _key, count(*) AS n FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(_arrival), INTERVAL '1' SECOND)) GROUP BY _key, window_start, window_end",
        ),
    ] {
        let begun = Instant::now();
        let pump = catalog.start(statement).unwrap_or_else(|error| panic!("{error}"));
        while pump.stats().records_in < COUNT {
            std::thread::sleep(Duration::from_millis(1));
        }
        let took = begun.elapsed();
        eprintln!("{name}: {:.0} rows/s, {:?}", COUNT as f64 / took.as_secs_f64(), pump.stats());
        pump.close().unwrap();
    }
}

/// Run with `cargo test --release --features sql --test sql pump:: -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, for an optimized build"]
fn how_long_a_restart_with_many_open_sessions_takes() {
    let world = World::new("name VARCHAR, ms BIGINT");
    let statement = "INSERT INTO out SELECT name, count(*) AS n FROM
        TABLE(SESSION(TABLE clicks PARTITION BY name, DESCRIPTOR(_arrival), INTERVAL '1' MINUTE)) GROUP BY name, window_start, window_end";
    let pump = world.start(statement);
    for user in 0..100_000 {
        world.input.put("k", format!(r#"{{"name": "user-{user}", "ms": 1}}"#)).unwrap();
    }
    wait_until_read(&pump, 100_000);
    pump.close().unwrap();
    drop(pump);
    let begun = Instant::now();
    let pump = world.start(statement);
    let took = begun.elapsed();
    eventually_or(|| pump.stats().held_rows == 100_000, || format!("{:?}", pump.stats()));
    eprintln!("100,000 open sessions: started in {took:?}, works after {:?}", begun.elapsed());
    assert!(begun.elapsed() < SECOND);
}

/// An archive that pumps cannot reach while it is switched off.
#[cfg(feature = "delivery")]
#[derive(Debug, Clone, Default)]
struct Distant {
    place: common::place::Place,
    is_away: Arc<std::sync::atomic::AtomicBool>,
}

#[cfg(feature = "delivery")]
impl Archive for Distant {
    fn locate(&self, name: &str) -> String {
        self.place.locate(name)
    }

    fn list(&self, prefix: &str) -> std::io::Result<Vec<String>> {
        self.place.list(prefix)
    }

    fn get(&self, name: &str, into: &mut dyn std::io::Write) -> std::io::Result<()> {
        let is_pump = std::thread::current().name().is_some_and(|name| name.starts_with("streamlog-sql"));
        if is_pump && self.is_away.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(std::io::Error::other("the network is gone"));
        }
        self.place.get(name, into)
    }

    fn put(&self, name: &str, from: &mut dyn std::io::Read) -> std::io::Result<()> {
        self.place.put(name, from)
    }
}

#[cfg(feature = "delivery")]
#[test]
fn l5_a_pump_waits_for_an_archive_that_is_away() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let archive = Distant::default();
    let clicks = common::small(&clock).open(scratch.path().join("clicks")).unwrap();
    let text = "x".repeat(8_000);
    for number in 0..60 {
        clicks.put("k", format!(r#"{{"n": {number}, "text": "{text}"}}"#)).unwrap();
    }
    clicks.maintain().unwrap();
    clicks.archiver(archive.clone()).run(|_| std::ops::ControlFlow::Continue(())).unwrap();
    clicks.trim_before(clicks.shards()[0].id, 56.into()).unwrap();
    clicks.maintain().unwrap();
    archive.is_away.store(true, std::sync::atomic::Ordering::SeqCst);
    let options = StreamOptions::new().clock(clock.clone()).archive(archive.clone());
    let reader = options.open_reader(scratch.path().join("clicks")).unwrap();
    let output = open(scratch.path(), "out", &clock);
    let catalog = Catalog::new().stream("clicks", &reader, Schema::json("n BIGINT").unwrap()).unwrap();
    let catalog = catalog.output("out", Output::stream(&output)).unwrap();
    let pump = catalog.start("INSERT INTO out SELECT n FROM clicks").unwrap();
    eventually_or(|| pump.stats().last_error.is_some(), || format!("{:?}", pump.stats()));
    clock.advance(SECOND);
    assert!(!pump.stats().has_ended, "{:?}", pump.stats());
    archive.is_away.store(false, std::sync::atomic::Ordering::SeqCst);
    let has_come = || {
        clock.advance(SECOND);
        texts(&output).len() == 60
    };
    eventually_or(has_come, || format!("{} rows, {:?}", texts(&output).len(), pump.stats()));
    pump.close().unwrap();
}

/// Returns the state that queries keep in a stream.
fn left(stream: &Stream, directory: &Path) -> Vec<String> {
    let journals = std::fs::read_dir(directory.join("in/sql")).into_iter().flatten();
    let journals = journals.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    stream.groups().unwrap().into_iter().chain(journals).collect()
}

#[test]
fn a_query_that_is_watched_leaves_nothing_behind() {
    let world = World::new("page VARCHAR, ms DOUBLE");
    let directory = world.directory.path();
    // The state that a killed process has left, in a stream named first and in one named second.
    let killed = |name: &str| {
        let catalog = world.catalog.clone().output(name, Output::stream(&world.output)).unwrap();
        catalog.start(&format!("INSERT INTO {name} SELECT page FROM clicks")).unwrap().close().unwrap();
    };
    killed("watch_0_0_0");
    killed("mine");
    world.input.group("sql2-watch_0_0_1").worker().open().unwrap().close();
    assert_eq!(left(&world.input, directory).len(), 5);

    let watch = |statement: &str| {
        let (rows, seen) = std::sync::mpsc::channel();
        let options = PumpOptions::new().start_at(Position::Latest);
        let pump = world.catalog.watch(statement, options, move |batch| rows.send(batch.num_rows())).unwrap();
        (pump, seen)
    };
    let (first, of_first) = watch("SELECT page FROM clicks WHERE ms > 10");
    let (second, of_second) = watch("SELECT page FROM clicks");
    world.input.put("a", r#"{"page": "/cart", "ms": 1}"#).unwrap();
    assert_eq!(of_second.recv_timeout(20 * SECOND), Ok(1));
    world.input.put("a", r#"{"page": "/cart", "ms": 11}"#).unwrap();
    assert_eq!((of_first.recv_timeout(20 * SECOND), of_second.recv_timeout(20 * SECOND)), (Ok(1), Ok(1)));
    assert_eq!(left(&world.input, directory).len(), 2 + 4);
    first.close().unwrap();
    drop(second);
    let mut left = left(&world.input, directory);
    left.sort();
    assert_eq!(left, ["mine", "sql-mine"]);
}

#[test]
fn what_is_wrong_with_a_query_that_is_watched_is_shown_in_its_own_lines() {
    let world = World::new("page VARCHAR, ms DOUBLE");
    let watch = |statement: &str| {
        let watched = world.catalog.watch(statement, PumpOptions::new(), |_| Ok::<_, String>(()));
        watched.err().unwrap_or_else(|| panic!("{statement} runs")).to_string()
    };
    let told = watch("SELECT pge FROM clicks");
    assert!(told.ends_with("\n1 | SELECT pge FROM clicks\n  |        ^"), "{told}");
    let told = watch("SELECT page\nFROM click");
    assert!(told.ends_with("\n2 | FROM click\n  |      ^"), "{told}");
    for statement in [
        "",
        "SELECT 1",
        "INSERT INTO out SELECT page FROM clicks",
        "SELECT page FROM clicks; INSERT INTO out SELECT page FROM clicks",
        "SELECT page FROM clicks; CREATE STREAM s (a INTEGER)",
    ] {
        let told = watch(statement);
        assert!(!told.contains("watch_") && !told.contains("INSERT INTO watch"), "{told}");
    }
    assert!(world.input.groups().unwrap().is_empty());
}
