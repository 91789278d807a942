//! Queries of streams as they are when the query begins.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use streamlog::query::{Catalog, QueryError, Schema};
use streamlog::{Error, HashKey, Limits, ManualClock, PutRecord, SECOND, Stream, StreamReader, Timestamp};

use crate::common;

use common::waiting::eventually;
use common::{clock, scratch, small};

fn rows(catalog: &Catalog, statement: &str) -> Vec<String> {
    let mut json = Vec::new();
    let written = catalog.query(statement).and_then(|mut rows| rows.write_json(&mut json));
    written.unwrap_or_else(|error| panic!("{statement}: {error}"));
    String::from_utf8(json).unwrap().lines().map(str::to_owned).collect()
}

/// Runs a statement whose answer is one number.
fn count(catalog: &Catalog, statement: &str) -> u64 {
    let rows = rows(catalog, statement);
    let [row] = &rows[..] else { panic!("{statement}: {rows:?}") };
    let row: BTreeMap<String, u64> = serde_json::from_str(row).unwrap();
    row.into_values().next().unwrap()
}

/// Returns the line of a query's plan that reads the stream.
fn scan(catalog: &Catalog, statement: &str) -> String {
    let plan = catalog.query(&format!("EXPLAIN {statement}")).unwrap().to_table().unwrap();
    let line = plan.lines().find(|line| line.contains("StreamScan")).expect("a scan");
    line.split_once("StreamScan: ").unwrap().1.trim_end_matches(['|', ' ']).to_owned()
}

fn put(stream: &Stream, from: u64, to: u64) {
    for number in from..to {
        stream
            .put(format!("k{}", number % 5), format!(r#"{{"n": {number}, "even": {}}}"#, number % 2 == 0))
            .unwrap();
    }
}

fn numbers(stream: &Stream) -> Catalog {
    Catalog::new().stream("t", stream, Schema::json("n BIGINT, even BOOLEAN").unwrap()).unwrap()
}

#[test]
fn statements_read_streams() {
    let dir = scratch();
    let stream = small(&clock()).open(dir.path()).unwrap();
    put(&stream, 0, 1_000);
    let catalog = numbers(&stream);
    assert_eq!(count(&catalog, "SELECT sum(n) FROM t"), 499_500);
    assert_eq!(
        rows(&catalog, "SELECT _key, count(*) AS c FROM t WHERE even GROUP BY _key ORDER BY _key").len(),
        5
    );
    assert_eq!(
        rows(&catalog, "SELECT n, _sequence, _shard, _arrival, _data FROM t ORDER BY n LIMIT 1"),
        [
            r#"{"n":0,"_sequence":0,"_shard":0,"_arrival":"2023-11-14T22:13:20.000000Z","_data":"{\"n\": 0, \"even\": true}"}"#
        ]
    );
    assert_eq!(
        catalog.query("SELECT N, Even FROM T WHERE n IN (3, 4)").unwrap().to_table().unwrap(),
        "+---+-------+\n| n | even  |\n+---+-------+\n| 3 | false |\n| 4 | true  |\n+---+-------+\n"
    );
    let mut csv = Vec::new();
    catalog.query("SELECT n, NULL AS x, 'a,b' AS y FROM t WHERE n < 2").unwrap().write_csv(&mut csv).unwrap();
    assert_eq!(String::from_utf8(csv).unwrap(), "n,x,y\n0,,\"a,b\"\n1,,\"a,b\"\n");
    let window =
        "SELECT n, sum(n) OVER (ORDER BY n ROWS 1 PRECEDING) AS s FROM t ORDER BY n LIMIT 2 OFFSET 5";
    assert_eq!(rows(&catalog, window), [r#"{"n":5,"s":9}"#, r#"{"n":6,"s":11}"#]);
}

#[test]
fn names_mean_what_is_written_like_them() {
    let dir = scratch();
    let stream = small(&clock()).open(dir.path()).unwrap();
    stream.put("k", r#"{"Count": 3, "user": {"Id": 4}, "tags": ["a", "b"]}"#).unwrap();
    let schema = Schema::json(r#""Count" BIGINT, user STRUCT<"Id" BIGINT>, tags VARCHAR[]"#).unwrap();
    let catalog = Catalog::new().stream("Clicks", &stream, schema).unwrap();
    assert_eq!(
        rows(&catalog, "SELECT COUNT(*), count, User.ID, tags[2] AS Tag, CLICKS.\"Count\" + 1 FROM clicks GROUP BY 2, 3, 4, 5")
            .first()
            .map(String::as_str),
        Some(r#"{"Count(*)":1,"Count":3,"Id":4,"tag":"b","Clicks.\"Count\" + 1":4}"#)
    );
    assert!(catalog.query("SELECT \"COUNT\" FROM clicks").is_err(), "a name in quotes is exact");
}

#[test]
fn empty_streams_have_no_rows_and_closed_ones_are_an_error() {
    let dir = scratch();
    let stream = small(&clock()).open(dir.path()).unwrap();
    let catalog = numbers(&stream);
    assert_eq!(count(&catalog, "SELECT count(*) FROM t"), 0);
    assert_eq!(catalog.query("SELECT n FROM t").unwrap().to_table().unwrap(), "+---+\n| n |\n+---+\n+---+\n");
    let mut csv = Vec::new();
    catalog.query("SELECT n FROM t").unwrap().write_csv(&mut csv).unwrap();
    assert_eq!(csv, b"n\n");
    let reader: StreamReader = StreamReader::clone(&stream);
    stream.close().unwrap();
    assert!(matches!(catalog.query("SELECT n FROM t"), Err(QueryError::Stream(Error::Closed))));
    let refused = Catalog::new().stream("t", &reader, Schema::raw());
    assert!(matches!(refused, Err(QueryError::Stream(Error::Closed))));
}

#[test]
fn binary_values_print_as_text_or_as_digits() {
    let dir = scratch();
    let stream = small(&clock()).open(dir.path()).unwrap();
    stream.put("a", "text").unwrap();
    stream.put_record(&PutRecord::new("b", &[0xff, 0x00]).header("h", &[0xfe])).unwrap();
    let catalog = Catalog::new().stream("t", &stream, Schema::raw()).unwrap();
    let all = "SELECT _data, _headers FROM t ORDER BY _sequence";
    assert_eq!(
        rows(&catalog, all),
        [r#"{"_data":"text","_headers":{}}"#, r#"{"_data":"ff00","_headers":{"h":"fe"}}"#]
    );
    let mut csv = Vec::new();
    catalog.query(all).unwrap().write_csv(&mut csv).unwrap();
    assert_eq!(String::from_utf8(csv).unwrap(), "_data,_headers\ntext,{}\nff00,{h: fe}\n");
}

#[test]
fn filters_on_what_the_log_knows_reach_the_log() {
    let (dir, clock) = (scratch(), clock());
    let stream = small(&clock).open(dir.path()).unwrap();
    let shard = stream.shards()[0].id;
    let [left, right] = &stream.split_shard_evenly(shard).unwrap()[..] else { panic!("two children") };
    for second in 0..100 {
        clock.advance(SECOND);
        put(&stream, second * 100, second * 100 + 100);
    }
    let catalog = numbers(&stream);
    let of = |filter: &str| {
        let plan = scan(&catalog, &format!("SELECT n FROM t WHERE {filter}"));
        let records =
            plan.split_once("records=").unwrap().1.split(',').next().unwrap().parse::<u64>().unwrap();
        (count(&catalog, &format!("SELECT count(*) FROM t WHERE {filter}")), records, plan)
    };
    let (found, read, _) = of("_arrival > now() - INTERVAL '2 seconds'");
    assert_eq!((found, read), (200, 200));
    let (found, read, _) = of("_arrival BETWEEN '2023-11-14T22:13:30Z' AND '2023-11-14 22:13:31Z'");
    assert_eq!((found, read), (200, 200));
    let (found, read, _) = of("date_trunc('second', _arrival) = '2023-11-14T22:13:30Z'");
    assert_eq!(found, 100, "{read} were read");
    let (found, read, _) = of("_arrival > now()");
    assert_eq!((found, read), (0, 0));
    let (found, read, plan) = of(&format!("_shard = {}", left.id.get()));
    assert_eq!(found, read);
    assert!(plan.contains("shards=1 of 3"), "{plan}");
    let first = right.first_sequence.get();
    let (found, read, _) = of(&format!("_shard = {} AND _sequence < {}", right.id.get(), first + 10));
    assert_eq!((found, read), (10, 10));
    let (found, read, _) =
        of(&format!("_shard IN ({}, 77) AND NOT _sequence >= {}", right.id.get(), first + 10));
    assert_eq!((found, read), (10, 10));
    let (found, read, _) = of("_key = 'k1'");
    assert_eq!((found, read), (2_000, 10_000), "a key may be put with a hash key of the caller's choice");
    assert_eq!(of("_key LIKE 'k%' AND n % 2 = 0").0, 5_000);
    assert_eq!(of("_key = 'k1' OR n < 10").0, 2_008);
}

#[test]
fn a_key_decides_the_shard_if_the_schema_says_so() {
    let dir = scratch();
    let stream = small(&clock()).shards(4).open(dir.path()).unwrap();
    put(&stream, 0, 100);
    let schema = Schema::json("n BIGINT").unwrap();
    let catalog =
        |is_on| Catalog::new().stream("t", &stream, schema.clone().keys_decide_shards(is_on)).unwrap();
    let statement = "SELECT n FROM t WHERE _key = 'k1'";
    assert!(scan(&catalog(true), statement).contains("shards=1 of 4"));
    assert_eq!(rows(&catalog(true), statement).len(), 20);
    assert_eq!(rows(&catalog(false), statement).len(), 20);
    stream.put_record(&PutRecord::new("k1", "{}").explicit_hash_key(HashKey::MAX)).unwrap();
    assert_eq!(rows(&catalog(false), statement).len(), 21);
}

#[test]
fn a_query_sees_the_stream_as_it_was_when_it_began() {
    let dir = scratch();
    let stream = small(&clock()).open(dir.path()).unwrap();
    put(&stream, 0, 30_000);
    let catalog = numbers(&stream);
    let running = catalog.query("SELECT a.n FROM t a JOIN t b ON a._sequence = b._sequence").unwrap();
    put(&stream, 30_000, 60_000);
    let shard = stream.shards()[0].id;
    stream.split_shard_evenly(shard).unwrap();
    put(&stream, 60_000, 60_100);
    assert_eq!(running.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 30_000);
    assert_eq!(count(&catalog, "SELECT count(n) FROM t"), 60_100);
    assert_eq!(count(&catalog, "SELECT count(DISTINCT _shard) FROM t"), 3);
}

#[test]
fn rows_that_retention_drops_meanwhile_are_left_out_and_counted() {
    let dir = scratch();
    let stream = small(&clock()).open(dir.path()).unwrap();
    put(&stream, 0, 40_000);
    let shard = stream.shards()[0].id;
    let catalog = numbers(&stream);
    let mut rows = catalog.query("SELECT n FROM t").unwrap();
    let first = rows.next().unwrap().unwrap().num_rows() as u64;
    stream.trim_before(shard, 39_000.into()).unwrap();
    let rest: u64 = rows.by_ref().map(|batch| batch.unwrap().num_rows() as u64).sum();
    assert_eq!(first + rest + rows.trimmed(), 40_000);
    assert!(rows.trimmed() > 10_000, "{} were trimmed", rows.trimmed());
    assert_eq!(count(&catalog, "SELECT count(*) FROM t"), 1_000);
}

#[test]
fn rows_that_do_not_fit_are_left_out_and_told() {
    let dir = scratch();
    let stream = small(&clock()).open(dir.path()).unwrap();
    for number in 0..50 {
        stream.put("k", if number % 2 == 0 { r#"{"n": 1}"# } else { r#"{"n": "one"}"# }).unwrap();
    }
    let catalog = numbers(&stream);
    let mut rows = catalog.query("SELECT n FROM t").unwrap();
    assert_eq!(rows.by_ref().map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 25);
    let refused = rows.refused();
    assert_eq!((refused.count, refused.examples.len()), (25, 10));
    let example = &refused.examples[0];
    assert_eq!((example.table.as_str(), example.sequence.get()), ("t", 1));
    assert!(example.reason.contains('n') && example.reason.contains("BIGINT"), "{}", example.reason);
    assert_eq!(count(&catalog, "SELECT count(*) FROM t"), 50, "nothing of the data is asked for");
}

#[test]
fn l8_a_stream_of_another_process_is_read_like_ones_own() {
    let dir = scratch();
    let stream = small(&clock()).open(dir.path()).unwrap();
    put(&stream, 0, 5_000);
    let reader = StreamReader::open(dir.path()).unwrap();
    let catalog = Catalog::new().stream("t", &reader, Schema::json("n BIGINT").unwrap()).unwrap();
    assert_eq!(count(&catalog, "SELECT sum(n) FROM t"), 12_497_500);
    put(&stream, 5_000, 5_001);
    assert_eq!(count(&catalog, "SELECT max(n) FROM t"), 5_000);
    stream.close().unwrap();
    assert_eq!(count(&catalog, "SELECT count(n) FROM t"), 5_001);
}

#[test]
fn a_thousand_shards_are_one_table() {
    let dir = scratch();
    let stream = small(&clock()).shards(1_000).open(dir.path()).unwrap();
    for number in 0..5_000 {
        stream.put(format!("key-{number}"), format!(r#"{{"n": {number}}}"#)).unwrap();
    }
    let catalog = numbers(&stream);
    assert_eq!(count(&catalog, "SELECT sum(n) FROM t"), 12_497_500);
    let shards = count(&catalog, "SELECT count(DISTINCT _shard) FROM t");
    assert!(shards > 900, "{shards}");
}

#[test]
fn streams_join_with_files_and_with_each_other() {
    let dir = scratch();
    let clicks = small(&clock()).open(dir.path().join("clicks")).unwrap();
    let orders = small(&clock()).open(dir.path().join("orders")).unwrap();
    put(&clicks, 0, 100);
    put(&orders, 50, 60);
    let odd = dir.path().join("a b*[?]%20.csv");
    fs::write(&odd, "key,name\nk0,zero\nk1,one\n").unwrap();
    fs::write(dir.path().join("colours.jsonl"), "{\"key\": \"k0\", \"colour\": \"red\"}\n").unwrap();
    let schema = Schema::json("n BIGINT").unwrap();
    let catalog = Catalog::new().stream("clicks", &clicks, schema.clone()).unwrap();
    let catalog = catalog.stream("orders", &orders, schema).unwrap();
    let catalog =
        catalog.file("names", &odd).unwrap().file("colours", dir.path().join("colours.jsonl")).unwrap();
    assert_eq!(catalog.tables(), ["clicks", "colours", "names", "orders"]);
    let statement = "SELECT name, colour, count(*) AS c FROM clicks JOIN names ON _key = names.key \
                     LEFT JOIN colours USING (key) GROUP BY ALL ORDER BY name";
    let statement = statement.replace("GROUP BY ALL", "GROUP BY name, colour");
    assert_eq!(
        rows(&catalog, &statement),
        [r#"{"name":"one","colour":null,"c":20}"#, r#"{"name":"zero","colour":"red","c":20}"#]
    );
    assert_eq!(count(&catalog, "SELECT count(*) FROM clicks JOIN orders USING (n)"), 10);
    assert_eq!(count(&catalog, "SELECT count(*) FROM clicks WHERE n IN (SELECT n FROM orders)"), 10);
}

#[test]
fn files_that_are_no_tables_are_refused() {
    let dir = scratch();
    let catalog = || Catalog::new();
    let path = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    for (path, why) in [
        (dir.path().join("none.csv"), "No such file"),
        (dir.path().to_path_buf(), "its name must end with"),
        (path("x.txt", "a\n1\n"), "its name must end with"),
        (path("x.parquet", "PAR1"), "Parquet"),
        (path("empty.csv", ""), "no columns"),
    ] {
        let error = catalog().file("t", &path).unwrap_err();
        assert!(matches!(error, QueryError::File { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(why) && text.contains(&path.display().to_string()), "{text}");
    }
    let good = path("good.csv", "a\n1\n");
    let catalog = catalog().file("t", &good).unwrap();
    assert!(matches!(catalog.clone().file("t", &good), Err(QueryError::Invalid(_))));
    assert!(matches!(catalog.clone().file("", &good), Err(QueryError::Invalid(_))));
    assert!(matches!(catalog.clone().file(&"x".repeat(256), &good), Err(QueryError::Invalid(_))));
    fs::remove_file(&good).unwrap();
    assert!(catalog.query("SELECT * FROM t").and_then(|mut rows| rows.to_table()).is_err());
}

#[test]
fn queries_run_inside_a_runtime_of_the_caller() {
    let dir = scratch();
    let stream = small(&clock()).open(dir.path()).unwrap();
    put(&stream, 0, 20_000);
    let catalog = numbers(&stream);
    let work = |catalog: Catalog| {
        // More batches than a task of the runtime may receive at a time.
        let rows = catalog.query("SELECT a.n FROM t a CROSS JOIN (SELECT n FROM t LIMIT 300) b").unwrap();
        let batches = rows.take(400).map(|batch| batch.unwrap().num_rows()).filter(|rows| *rows > 0).count();
        assert_eq!(batches, 400);
        assert_eq!(count(&catalog, "SELECT count(n) FROM t"), 20_000);
    };
    let one = tokio::runtime::Builder::new_current_thread().build().unwrap();
    one.block_on(async { work(catalog.clone()) });
    let many = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let (inside, cloned) = (catalog.clone(), catalog.clone());
    many.block_on(async move { tokio::spawn(async move { work(inside) }).await }).unwrap();
    // The last user of the engine's threads may be a task, too.
    drop(catalog);
    many.block_on(async move { tokio::spawn(async move { drop(cloned) }).await }).unwrap();
}

#[test]
fn many_threads_share_a_catalog() {
    let dir = scratch();
    let stream = small(&clock()).open(dir.path()).unwrap();
    put(&stream, 0, 10_000);
    let catalog = numbers(&stream);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(count(&catalog, "SELECT count(DISTINCT n) FROM t"), 10_000);
                }
            });
        }
    });
}

#[test]
fn l5_a_query_ends_when_its_rows_are_dropped() {
    let dir = scratch();
    let stream = small(&clock()).open(dir.path()).unwrap();
    put(&stream, 0, 1_000);
    let (alive, entered) = (Arc::new(()), Arc::new(AtomicBool::new(false)));
    let (held, seen) = (Arc::clone(&alive), Arc::clone(&entered));
    let schema = Schema::function("n BIGINT", move |_| {
        let _ = &held;
        seen.store(true, Ordering::SeqCst);
        Ok(serde_json::json!({ "n": 1 }))
    });
    let catalog = Catalog::new().stream("t", &stream, schema.unwrap()).unwrap();
    // A trillion rows.
    let endless = "SELECT sum(a.n + d.n) FROM t a, t b, t c, t d";
    let rows = catalog.query(endless).unwrap();
    eventually(|| entered.load(Ordering::SeqCst));
    drop(rows);
    drop(catalog);
    eventually(|| Arc::strong_count(&alive) == 1);
}

#[test]
fn l5_a_join_that_finds_nothing_ends_when_it_is_stopped() {
    let catalog = Catalog::new();
    let (a, b) = ("generate_series(1, 1000) a", "generate_series(1, 1000000000000) b");
    let never = "a.value * b.value % 7 = 8";
    for statement in [
        format!("SELECT count(*) FROM {a}, {b} WHERE {never}"),
        format!("SELECT count(*) FROM {a}, {b}"),
        format!("SELECT count(*) FROM {a} LEFT JOIN {b} ON {never}"),
        format!("SELECT count(*) FROM {a} WHERE NOT EXISTS (SELECT 1 FROM {b} WHERE {never})"),
        format!("SELECT count(*) FROM {a} JOIN {b} ON a.value % 2 = b.value % 2 AND {never}"),
    ] {
        let mut rows = catalog.query(&statement).unwrap();
        let stopper = rows.stopper();
        let stopped = std::thread::spawn(move || {
            // One side is small, so by now the rows of the other are being tried.
            std::thread::sleep(Duration::from_millis(300));
            stopper.stop();
            Instant::now()
        });
        let last = rows.next();
        let after = stopped.join().unwrap().elapsed();
        assert!(matches!(last, Some(Err(QueryError::Stopped))), "{statement}: {last:?}");
        assert!(after < Duration::from_secs(10), "{statement}: after {after:?}");
        // No thread of the engine still works on it.
        let begun = Instant::now();
        let two = format!("SELECT count(*) FROM {a} JOIN generate_series(1, 10) b ON a.value = b.value");
        assert_eq!(count(&catalog, &two), 10);
        assert!(begun.elapsed() < Duration::from_secs(10), "{statement}: {:?}", begun.elapsed());
    }
}

#[test]
fn l4_memory_is_bounded() {
    let dir = scratch();
    let stream = small(&clock()).open(dir.path()).unwrap();
    put(&stream, 0, 30_000);
    let catalog = numbers(&stream).memory_limit(1 << 20);
    // It cannot write the array to the disk.
    let result = catalog
        .query("SELECT array_agg(n) FROM (SELECT a.n FROM t a CROSS JOIN (SELECT 1 FROM t LIMIT 100) b)");
    let error = result.and_then(|mut rows| rows.to_table()).unwrap_err();
    assert!(matches!(error, QueryError::Memory(_)), "{error}");
    // The sorted data can be.
    let sorted = "SELECT count(*) FROM (SELECT n, row_number() OVER (ORDER BY even, n DESC) AS r FROM t)";
    assert_eq!(count(&numbers(&stream).memory_limit(8 << 20), sorted), 30_000);
}

#[test]
fn limits_end_a_scan_early() {
    let dir = scratch();
    let stream = small(&clock()).open(dir.path()).unwrap();
    put(&stream, 0, 100_000);
    let catalog = numbers(&stream);
    let before = stream.stats().unwrap().traffic().outgoing_records;
    assert_eq!(rows(&catalog, "SELECT n FROM t LIMIT 10").len(), 10);
    assert!(scan(&catalog, "SELECT n FROM t LIMIT 10").contains("partitions=1"));
    assert_eq!(rows(&catalog, "SELECT n FROM t WHERE n % 3 = 0 LIMIT 10").len(), 10);
    assert_eq!(rows(&catalog, "SELECT n FROM t WHERE _key = 'k2' LIMIT 10").len(), 10);
    let after = stream.stats().unwrap().traffic().outgoing_records - before;
    assert!(after < 20_000, "{after} records were read for 30");
}

#[test]
fn the_newest_records_are_found_without_reading_the_others() {
    let (dir, clock) = (scratch(), clock());
    let stream = small(&clock).shards(3).open(dir.path()).unwrap();
    for number in 0..60_000 {
        clock.advance(Duration::from_micros(10));
        stream.put(format!("k{}", number % 97), format!(r#"{{"n": {number}}}"#)).unwrap();
    }
    let catalog = numbers(&stream);
    let newest = |count: u64, skipped: u64| {
        (60_000 - skipped - count..60_000 - skipped).rev().map(|n| format!(r#"{{"n":{n}}}"#))
    };
    let before = stream.stats().unwrap().traffic().outgoing_records;
    let last = "SELECT n FROM t ORDER BY _arrival DESC LIMIT 10";
    assert!(rows(&catalog, last).into_iter().eq(newest(10, 0)));
    assert!(scan(&catalog, last).contains("from the end"), "{}", scan(&catalog, last));
    let skipping = rows(
        &catalog,
        "SELECT n FROM t ORDER BY _arrival DESC, _shard, _sequence DESC LIMIT 300 OFFSET 1000",
    );
    assert!(skipping.into_iter().eq(newest(300, 1_000)));
    let read = stream.stats().unwrap().traffic().outgoing_records - before;
    assert!(read < 10_000, "{read} records were read");
    assert!(rows(&catalog, "SELECT n FROM t ORDER BY _arrival DESC").into_iter().eq(newest(60_000, 0)));
    let first = rows(&catalog, "SELECT n FROM t ORDER BY _arrival LIMIT 3");
    assert_eq!(first, [r#"{"n":0}"#, r#"{"n":1}"#, r#"{"n":2}"#]);
    let shard = stream.shards()[1].id.get();
    let within = format!(
        "SELECT _sequence AS s FROM t WHERE _shard = {shard} AND n % 2 = 0 ORDER BY _sequence DESC LIMIT 500"
    );
    assert!(
        rows(&catalog, &within)
            .is_sorted_by_key(|row| std::cmp::Reverse(row[5..row.len() - 1].parse::<u64>().unwrap()))
    );
    let by_key = "SELECT n FROM t WHERE _key = 'k5' ORDER BY _arrival DESC LIMIT 2";
    assert_eq!(rows(&catalog, by_key), [r#"{"n":59951}"#, r#"{"n":59854}"#]);
}

/// Puts records in an order that the seed decides, between reshards and trims, and compares random queries with a plain evaluation.
#[test]
fn any_query_finds_what_a_plain_evaluation_finds() {
    for seed in 0..16_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let (dir, clock) = (scratch(), clock());
        let options = common::any_codec(small(&clock), below(9)).shards(1 + below(4) as u32);
        let stream = options.open(dir.path()).unwrap();
        // Shard, sequence number, arrival, key, and a number that is NULL or does not fit in some.
        let mut model: Vec<(u32, u64, u64, String, Option<i64>)> = Vec::new();
        for _ in 0..200 + below(800) {
            clock.advance(Duration::from_micros(below(3) * 500_000));
            let (key, n) = (format!("k{}", below(4)), below(10) as i64);
            let data = match n {
                0 => "{}".to_owned(),
                1 => r#"{"n": "one"}"#.to_owned(),
                n => format!(r#"{{"n": {n}}}"#),
            };
            let receipt = stream.put(&key, &data).unwrap();
            if n != 1 {
                let at = (receipt.shard.get(), receipt.sequence.get(), receipt.timestamp.as_micros());
                model.push((at.0, at.1, at.2, key, Some(n).filter(|n| *n > 0)));
            }
            if below(200) == 0 {
                let open: Vec<_> = stream.shards().into_iter().filter(|shard| shard.is_open()).collect();
                stream.split_shard_evenly(open[below(open.len() as u64) as usize].id).unwrap();
            }
            if below(300) == 0 && stream.trim_before(receipt.shard, receipt.sequence).is_ok() {
                model.retain(|row| row.0 != receipt.shard.get() || row.1 >= receipt.sequence.get());
            }
        }
        let catalog = numbers(&stream);
        let pick = model[below(model.len() as u64) as usize].clone();
        let time = |micros: u64| format!("TIMESTAMP '{}'", Timestamp::from_micros(micros));
        type Passes<'a> = Box<dyn Fn(&(u32, u64, u64, String, Option<i64>)) -> bool + 'a>;
        let filters: Vec<(String, Passes<'_>)> = vec![
            ("true".to_owned(), Box::new(|_| true)),
            (format!("_shard = {}", pick.0), Box::new(|row| row.0 == pick.0)),
            (
                format!("NOT (_shard = {} OR _key = '{}')", pick.0, pick.3),
                Box::new(|row| row.0 != pick.0 && row.3 != pick.3),
            ),
            (
                format!("_sequence BETWEEN {} AND {}", pick.1, pick.1 + 20),
                Box::new(|row| (pick.1..=pick.1 + 20).contains(&row.1)),
            ),
            (format!("_arrival >= {}", time(pick.2)), Box::new(|row| row.2 >= pick.2)),
            (
                format!("_arrival < {} AND n > 4", time(pick.2)),
                Box::new(|row| row.2 < pick.2 && row.4 > Some(4)),
            ),
            (
                format!("_arrival > {} OR n IS NULL", time(pick.2)),
                Box::new(|row| row.2 > pick.2 || row.4.is_none()),
            ),
            (
                format!("date_trunc('second', _arrival) = date_trunc('second', {})", time(pick.2)),
                Box::new(|row| row.2 / 1_000_000 == pick.2 / 1_000_000),
            ),
            (
                format!("_key IN ('{}', 'x') AND _arrival <> {}", pick.3, time(pick.2)),
                Box::new(|row| row.3 == pick.3 && row.2 != pick.2),
            ),
        ];
        for (filter, passes) in filters {
            let mut expected: Vec<_> = model.iter().filter(|row| passes(row)).collect();
            expected.sort_unstable_by_key(|row| (row.0, row.1));
            let statement =
                format!("SELECT _shard, _sequence, n FROM t WHERE {filter} ORDER BY _shard, _sequence");
            let found = rows(&catalog, &statement);
            let row = |row: &&(u32, u64, u64, String, Option<i64>)| {
                let n = row.4.map_or("null".to_owned(), |n| n.to_string());
                format!(r#"{{"_shard":{},"_sequence":{},"n":{n}}}"#, row.0, row.1)
            };
            assert_eq!(found, expected.iter().map(row).collect::<Vec<_>>(), "seed {seed}: {statement}");
            let newest =
                format!("SELECT _sequence AS s, n FROM t WHERE {filter} ORDER BY _arrival DESC LIMIT 7");
            let mut arrivals: Vec<u64> = expected.iter().map(|row| row.2).collect();
            arrivals.sort_unstable_by_key(|arrival| std::cmp::Reverse(*arrival));
            let newest = newest.replace("_sequence AS s, n", "CAST(_arrival AS BIGINT) AS s, n");
            let found = rows(&catalog, &newest)
                .into_iter()
                .map(|row| row[5..row.find(',').unwrap()].parse::<u64>().unwrap());
            assert!(found.eq(arrivals.into_iter().take(7)), "seed {seed}: {newest}");
        }
    }
}

#[test]
fn throttled_streams_are_read_as_fast_as_their_limits_allow() {
    let (dir, clock) = (scratch(), clock());
    let stream = small(&clock).open(dir.path()).unwrap();
    put(&stream, 0, 100);
    let catalog = numbers(&stream);
    stream.set_limits(Limits::none().read_calls_per_second(1)).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..4 {
                assert_eq!(count(&catalog, "SELECT count(n) FROM t"), 100);
            }
            is_done.store(true, Ordering::SeqCst);
        });
        let is_throttled = || stream.stats().unwrap().traffic().read_throttled_calls > 0;
        eventually(is_throttled);
        assert!(!is_done.load(Ordering::SeqCst));
        eventually(|| {
            clock.advance(SECOND / 50);
            is_done.load(Ordering::SeqCst)
        });
    });
}

#[test]
fn l6_no_statement_is_too_much() {
    let dir = scratch();
    let stream = small(&clock()).open(dir.path()).unwrap();
    put(&stream, 0, 10);
    let catalog = numbers(&stream);
    let refused = |statement: &str, why: &str| {
        let error = catalog.query(statement).map(drop).unwrap_err();
        assert!(matches!(&error, QueryError::Statement(error) if error.to_string().contains(why)), "{error}");
    };
    refused(&" ".repeat((1 << 20) + 1), "may have 1048576");
    refused(&format!("SELECT 1{}", " + 1".repeat(200_000)), "without a comma");
    refused(&format!("SELECT true{}", " OR true".repeat(100_000)), "without a comma");
    refused(&format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)), "nested more than 50 levels");
    refused(&format!("SELECT {}1", "NOT ".repeat(3_000)), "NOT NOT");
    refused(&format!("SELECT {}1", "1, ".repeat(100_000)), "may have up to 2000 columns");
    let doubled = (1..40).map(|n| format!("q{n} AS (SELECT a.* FROM q{} a, q{} b)", n - 1, n - 1));
    let doubled = doubled.collect::<Vec<_>>().join(", ");
    refused(
        &format!("WITH q0 AS (SELECT n FROM t), {doubled} SELECT count(*) FROM q39"),
        "more than 200 tables",
    );
    let inner = format!("SELECT * FROM (WITH q0 AS (SELECT n FROM t), {doubled} SELECT count(*) FROM q39)");
    refused(&inner, "more than 200 tables");
    refused(&format!("SELECT 1 FROM {}", vec!["t"; 300].join(", ")), "more than 200 tables");
    refused(&format!("SELECT 1 {}", "UNION ALL SELECT 1 ".repeat(5_000)), "without a comma");
    // Long, and still within bounds.
    assert_eq!(count(&catalog, &format!("SELECT 1{}", " + 1".repeat(250))), 251);
    let chain = (0..1_000).map(|n| format!("n = {n}")).collect::<Vec<_>>().join(" OR ");
    assert_eq!(count(&catalog, &format!("SELECT count(*) FROM t WHERE {chain}")), 10);
    let list = (0..20_000).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    assert_eq!(count(&catalog, &format!("SELECT count(*) FROM t WHERE n IN ({list})")), 10);
    assert_eq!(count(&catalog, &format!("SELECT {}", "-".to_string() + " -1")), 1);
}

#[test]
fn l6_statements_reach_no_file_but_those_of_the_catalog() {
    let dir = scratch();
    let secret = dir.path().join("secret.csv");
    fs::write(&secret, "a\n1\n").unwrap();
    let written = dir.path().join("written.csv");
    let (secret, written) = (secret.display(), written.display());
    let catalog = Catalog::new();
    for statement in [
        format!("SELECT * FROM '{secret}'"),
        format!("SELECT * FROM \"{secret}\""),
        format!("SELECT * FROM \"file://{secret}\""),
        format!("SELECT * FROM read_csv('{secret}')"),
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{secret}'"),
        format!("COPY (SELECT 1) TO '{written}'"),
        format!("COPY (SELECT 1) TO '{written}' STORED AS CSV"),
        format!("EXPLAIN ANALYZE COPY (SELECT 1) TO '{written}'"),
        format!("INSERT INTO \"{written}\" SELECT 1"),
        format!("SELECT 1 INTO OUTFILE '{written}'"),
        format!("EXPLAIN ANALYZE INSERT INTO \"{written}\" SELECT 1"),
        "CREATE TABLE t AS SELECT 1".to_owned(),
        "CREATE VIEW v AS SELECT 1".to_owned(),
        "SELECT * INTO t FROM (SELECT 1)".to_owned(),
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "SELECT * FROM information_schema.df_settings".to_owned(),
        "SHOW ALL".to_owned(),
    ] {
        let error = catalog.query(&statement).and_then(|mut rows| rows.to_table()).unwrap_err();
        assert!(matches!(error, QueryError::Statement(_)), "{statement}: {error}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn now_is_the_time_of_the_streams_clock() {
    let (dir, clock) = (scratch(), clock());
    let stream = small(&clock).open(dir.path()).unwrap();
    let catalog = numbers(&stream);
    assert_eq!(rows(&catalog, "SELECT now() AS t"), [r#"{"t":"2023-11-14T22:13:20.000000Z"}"#]);
    clock.advance(SECOND);
    assert_eq!(rows(&catalog, "SELECT now() AS t"), [r#"{"t":"2023-11-14T22:13:21.000000Z"}"#]);
}

#[test]
fn a_key_that_is_no_text_is_found_by_what_is_shown_of_it() {
    let dir = scratch();
    let stream = small(&clock()).shards(8).open(dir.path()).unwrap();
    for first in 0x80..=0xff_u8 {
        stream.put([first], "{}").unwrap();
    }
    for decides in [false, true] {
        let schema = Schema::json("n BIGINT").unwrap().keys_decide_shards(decides);
        let catalog = Catalog::new().stream("t", &stream, schema).unwrap();
        assert_eq!(count(&catalog, "SELECT count(*) FROM t WHERE _key = '\u{fffd}'"), 128);
        assert_eq!(count(&catalog, "SELECT count(*) FROM t WHERE _key IN ('a', '\u{fffd}')"), 128);
    }
}

#[test]
fn times_before_the_clock_was_set_are_found_by_what_they_are() {
    let dir = scratch();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
    let stream = small(&clock).open(dir.path()).unwrap();
    put(&stream, 0, 10);
    clock.advance(10 * SECOND);
    put(&stream, 10, 20);
    clock.set(Timestamp::from_millis(1_700_000_000_000));
    put(&stream, 20, 30);
    let catalog = numbers(&stream);
    for (condition, expected) in [
        ("_arrival < TIMESTAMP '1970-01-01 00:00:05'", 10),
        ("_arrival < TIMESTAMP '2000-01-01'", 20),
        ("_arrival < TIMESTAMP '2023-01-01'", 20),
        ("_arrival >= TIMESTAMP '1970-01-01 00:00:05'", 20),
        ("_arrival >= TIMESTAMP '2023-01-01'", 10),
        ("_arrival BETWEEN TIMESTAMP '1970-01-01 00:00:05' AND TIMESTAMP '2023-01-01'", 10),
        ("_arrival > TIMESTAMP '2023-11-14 22:13:15'", 10),
    ] {
        assert_eq!(
            count(&catalog, &format!("SELECT count(*) FROM t WHERE {condition}")),
            expected,
            "{condition}"
        );
        // A condition that is not passed down to the log.
        let slow = condition.replace("_arrival", "date_trunc('microsecond', _arrival)");
        assert_eq!(count(&catalog, &format!("SELECT count(*) FROM t WHERE {slow}")), expected, "{slow}");
    }
}

#[cfg(feature = "delivery")]
#[test]
fn a_time_that_cannot_be_looked_up_leaves_no_record_out_in_silence() {
    let (dir, clock, place) = (scratch(), clock(), common::place::Place::default());
    let stream = small(&clock).open(dir.path()).unwrap();
    for number in 0..60 {
        clock.advance(SECOND);
        let text = "x".repeat(8_000);
        stream.put("k", format!(r#"{{"n": {number}, "text": "{text}"}}"#)).unwrap();
    }
    stream.maintain().unwrap();
    stream.archiver(place.clone()).run(|_| std::ops::ControlFlow::Continue(())).unwrap();
    stream.trim_before(stream.shards()[0].id, 56.into()).unwrap();
    stream.maintain().unwrap();
    let options = streamlog::StreamOptions::new().clock(clock.clone()).archive(place.clone());
    let catalog = |reader: &StreamReader| {
        Catalog::new().stream("t", reader, Schema::json("n BIGINT").unwrap()).unwrap()
    };
    let statement = "SELECT count(*) FROM t WHERE _arrival < TIMESTAMP '2023-11-14 22:13:51'";
    place.with(|state| state.hands_nothing_out = true);
    let reader = options.clone().open_reader(dir.path()).unwrap();
    let read = catalog(&reader).query(statement).and_then(|mut rows| rows.write_json(&mut Vec::new()));
    assert!(read.is_err(), "what is in the archive cannot be read");
    place.with(|state| state.hands_nothing_out = false);
    assert_eq!(count(&catalog(&options.open_reader(dir.path()).unwrap()), statement), 30);
}

#[test]
fn fields_of_what_is_no_column_have_a_dot_too() {
    let dir = scratch();
    let stream = small(&clock()).open(dir.path()).unwrap();
    stream
        .put("a", r#"{"line": "7 seven", "items": [{"id": 1}, {"id": 2}], "at": {"Big": {"x": 5}}}"#)
        .unwrap();
    let schema =
        Schema::json(r#"line VARCHAR, items STRUCT<id BIGINT>[], at STRUCT<"Big" STRUCT<x BIGINT>>"#);
    let catalog = Catalog::new().stream("t", &stream, schema.unwrap()).unwrap();
    let found = |items: &str| rows(&catalog, &format!("SELECT {items} FROM t"));
    assert_eq!(found("(regex_log_parse(line, '(.) (.*)')).column2"), [r#"{"column2":"seven"}"#]);
    assert_eq!(found("items[2].id, (at).big.x, (at).\"Big\".x AS y"), [r#"{"id":2,"x":5,"y":5}"#]);
    assert_eq!(found("(regex_log_parse(line, '(.) (.*)')).COLUMN1 || items[1].id AS s"), [r#"{"s":"71"}"#]);
    let error = catalog.query("SELECT (at).nothing FROM t").map(drop).unwrap_err();
    assert!(matches!(error, QueryError::Statement(_)), "{error}");
    let output = small(&clock()).open(dir.path().join("out")).unwrap();
    let catalog = catalog.output("out", streamlog::query::Output::stream(&output)).unwrap();
    let statement =
        "INSERT INTO out SELECT (regex_log_parse(line, '(.) (.*)')).column2, items[1].id AS i FROM t";
    let pump = catalog.start(statement).unwrap();
    eventually(|| pump.stats().rows_out == 1);
    assert_eq!(common::pumps::texts(&output), [r#"{"column2":"seven","i":1}"#]);
}
