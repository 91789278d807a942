//! Statements over streams: `Query` and `Watch`.

use std::time::Instant;

use tokio::sync::mpsc;

use super::activity::sign;
use super::*;
use crate::SECOND;

const LIMIT: Duration = Duration::from_secs(30);

fn request(world: &World, operation: &str, body: &Json) -> Request {
    let mut request = world.signed(operation, body.to_string());
    request.headers.insert("x-amz-target", format!("Streamlog_20261129.{operation}").parse().unwrap());
    request
}

fn send(world: &World, request: &Request) -> Got {
    let (status, body) = world.send(request);
    Got { status, body: serde_json::from_slice(&body).unwrap() }
}

fn query(world: &World, statement: &str) -> Got {
    send(world, &request(world, "Query", &json!({"Statement": statement})))
}

/// The lines of a live query.
struct Lines<'a> {
    world: &'a World,
    pieces: mpsc::Receiver<Bytes>,
}

impl Lines<'_> {
    fn next(&mut self) -> Option<Json> {
        let next = async { tokio::time::timeout(LIMIT, self.pieces.recv()).await.expect("a line comes") };
        let line = self.world.runtime.block_on(next)?;
        assert!(line.ends_with(b"\n") && !line[..line.len() - 1].contains(&b'\n'), "{line:?}");
        Some(serde_json::from_slice(&line).unwrap())
    }

    /// Returns the next line that has this member.
    fn with(&mut self, member: &str) -> Json {
        loop {
            let line = self.next().unwrap_or_else(|| panic!("it ended before {member}"));
            if line.get(member).is_some() {
                return line;
            }
        }
    }

    /// Returns this many rows.
    fn rows(&mut self, count: usize) -> Vec<Json> {
        let mut rows = vec![];
        while rows.len() < count {
            rows.extend(self.with("Rows")["Rows"].as_array().unwrap().iter().cloned());
        }
        rows
    }
}

fn watch<'a>(world: &'a World, body: &Json) -> Result<Lines<'a>, Got> {
    let answer = world.answer(&request(world, "Watch", body));
    match answer.body {
        Body::Pieces(pieces) => {
            assert_eq!(answer.headers["content-type"], "application/x-ndjson");
            Ok(Lines { world, pieces })
        }
        Body::Whole(body) => {
            Err(Got { status: answer.status.as_u16(), body: serde_json::from_slice(&body).unwrap() })
        }
    }
}

#[track_caller]
fn wait_for(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < LIMIT, "it is not so after {LIMIT:?}");
        std::thread::yield_now();
    }
}

/// Returns how many groups and directories of queries a stream has.
fn left(world: &World, stream: &str) -> usize {
    let groups = world.front().service.catalogue.stream(stream).unwrap().stream.groups().unwrap();
    let journals = std::fs::read_dir(world.directory.path().join(stream).join("sql"));
    groups.len() + journals.map_or(0, |entries| entries.count())
}

fn clicks() -> World {
    let world = World::new();
    world.create("clicks", 2);
    for (key, page, ms) in [("a", "/cart", 12.5), ("b", "/home", 80.0), ("c", "/cart", 40.0)] {
        world.put("clicks", key, &json!({"page": page, "ms": ms}).to_string());
    }
    world
}

#[test]
fn a_query_is_answered_with_columns_and_rows() {
    let world = clicks();
    let got =
        query(&world, "SELECT page, count(*) AS n, avg(ms) AS ms FROM clicks GROUP BY page ORDER BY page")
            .ok();
    let columns = json!([
        {"Name": "page", "Type": "VARCHAR"}, {"Name": "n", "Type": "BIGINT"}, {"Name": "ms", "Type": "DOUBLE"},
    ]);
    assert_eq!(got["Columns"], columns);
    assert_eq!(got["Rows"], json!([["/cart", 2, 26.25], ["/home", 1, 80]]));
    assert_eq!((&got["HasMoreRows"], &got["Notes"]), (&json!(false), &json!([])));
    assert!(got["TookMillis"].is_u64());
    // Columns of the same name, values that JSON cannot hold, and nested ones.
    let got = query(
        &world,
        "SELECT a.page, b.page, CAST(1.10 AS DECIMAL(20, 2)), 18446744073709551615, [1, NULL], a._data \
         FROM clicks a JOIN clicks b ON a.ms = b.ms WHERE a.ms = 80",
    );
    let data = json!({"page": "/home", "ms": 80.0}).to_string();
    assert_eq!(
        got.ok()["Rows"],
        json!([["/home", "/home", "1.10", "18446744073709551615", [1, null], data]])
    );
    let got = send(
        &world,
        &request(&world, "Query", &json!({"Statement": "SELECT ms FROM clicks ORDER BY ms", "MaxRows": 2})),
    );
    let got = got.ok();
    assert_eq!((&got["Rows"], &got["HasMoreRows"]), (&json!([[12.5], [40]]), &json!(true)));
    // Names that have to be quoted.
    world.create("dev-clicks.eu", 1);
    world.put("dev-clicks.eu", "a", r#"{"n": 7}"#);
    assert_eq!(query(&world, "SELECT n FROM \"dev-clicks.eu\"").ok()["Rows"], json!([[7]]));
}

#[test]
fn tables_columns_and_what_does_not_fit_are_told() {
    let world = clicks();
    world.create("empty", 1);
    world.create("lines", 1);
    world.put("lines", "a", "no json");
    let tables = query(&world, "SHOW TABLES").ok();
    assert_eq!(tables["Rows"], json!([["clicks", "stream"], ["empty", "stream"], ["lines", "stream"]]));
    let columns = query(&world, "DESCRIBE clicks").ok();
    assert_eq!(columns["Rows"][6], json!(["ms", "DOUBLE", true]));
    world.put("clicks", "d", r#"{"page": "/home", "ms": "soon"}"#);
    world.put("clicks", "e", "no json");
    // The types are those of the first records, among which these are.
    assert_eq!(query(&world, "SELECT count(ms) FROM clicks").ok()["Rows"], json!([[4]]));
    let got = query(&world, "SELECT ms FROM clicks").ok();
    assert_eq!((got["Rows"].as_array().unwrap().len(), &got["RefusedRecords"]), (4, &json!(1)));
    assert_eq!(got["RefusedExamples"][0]["StreamName"], "clicks");
    for (stream, note) in [("empty", "no records yet"), ("lines", "as _data only")] {
        let got = query(&world, &format!("SELECT count(*) FROM {stream}")).ok();
        let notes = got["Notes"].as_array().unwrap();
        assert!(notes.len() == 1 && notes[0].as_str().unwrap().contains(note), "{notes:?}");
    }
}

#[test]
fn what_is_wrong_with_a_statement_is_shown_in_it() {
    let world = clicks();
    for (statement, text) in [
        (
            "SELECT pge\nFROM clicks",
            "there is no column \"pge\" in clicks: did you mean \"page\"?\n1 | SELECT pge\n  |        ^^^",
        ),
        (
            "SELECT 1 FROM\n click",
            "there is no table \"click\": did you mean \"clicks\"?\n2 |  click\n  |  ^^^^^",
        ),
        ("SELECT 1 / 0", "the query failed: "),
        ("INSERT INTO x SELECT 1", "a query only reads"),
    ] {
        let got = query(&world, statement);
        let (kind, found) = got.error();
        assert_eq!(kind, "InvalidStatementException", "{found}");
        assert!(found.starts_with(text), "{found}");
    }
    for (statement, text) in [
        ("SELECT pge\nFROM clicks", "\n1 | SELECT pge\n  |        ^"),
        ("SELECT page\nFROM clicks\nWHERE", "\n3 | WHERE\n  |      ^"),
        ("INSERT INTO x SELECT page FROM clicks", ""),
        ("SELECT page FROM clicks; SELECT ms FROM clicks", ""),
        ("SELECT page FROM clicks; CREATE STREAM s (a INTEGER)", ""),
        ("SELECT 1", ""),
    ] {
        let got = watch(&world, &json!({"Statement": statement})).err().expect("it is refused");
        let (kind, found) = got.error();
        assert_eq!(kind, "InvalidStatementException", "{found}");
        assert!(found.contains(text) && !found.contains("watch_"), "{found}");
    }
    assert_eq!(left(&world, "clicks"), 0);
}

const KEYS: &str = r#"{"keys": [
    {"access_key_id": "AK", "secret_access_key": "s", "user": "analyst", "policies": [{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "kinesis:GetRecords", "Resource": "arn:aws:kinesis:us-east-1:000000000000:stream/clicks"},
        {"Effect": "Allow", "Action": ["streamlog:Query", "streamlog:Watch"], "Resource": "*"}]}]}]}"#;

#[test]
fn a_caller_queries_only_what_it_may_read() {
    let mut world = clicks();
    world.create("orders", 1);
    world.put("orders", "a", r#"{"secret": 1}"#);
    let ask = |world: &World, operation: &str, statement: &str| {
        let mut request = request(world, operation, &json!({"Statement": statement}));
        sign(&mut request);
        send(world, &request)
    };
    world.restart(|setup| setup.credentials = Some(KEYS.to_owned()));
    assert_eq!(ask(&world, "Query", "SHOW TABLES").ok()["Rows"], json!([["clicks", "stream"]]));
    assert_eq!(ask(&world, "Query", "SELECT count(*) FROM clicks").ok()["Rows"], json!([[3]]));
    for operation in ["Query", "Watch"] {
        let got = ask(&world, operation, "SELECT secret FROM orders");
        let (kind, text) = got.error();
        assert_eq!(kind, "InvalidStatementException", "{text}");
        assert!(text.contains("orders") && !text.contains("secret\""), "{text}");
    }
    world.restart(|setup| {
        setup.credentials = Some(KEYS.replace("streamlog:Query", "streamlog:DescribeActivity"))
    });
    let got = ask(&world, "Query", "SELECT count(*) FROM clicks");
    assert_eq!(got.error().0, "AccessDeniedException");
    assert!(got.error().1.contains("streamlog:Query"), "{got:?}");
    let mut forged = request(&world, "Watch", &json!({"Statement": "SELECT page FROM clicks"}));
    sign(&mut forged);
    forged.body = json!({"Statement": "SELECT ms FROM clicks"}).to_string().into();
    assert_eq!(send(&world, &forged).error().0, "InvalidSignatureException");
}

/// Takes years.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b, \
                       generate_series(1, 100000) c, generate_series(1, 100000) d WHERE a.value + b.value = c.value * d.value";

#[test]
fn a_query_has_a_time_and_a_connection_has_one() {
    let world = clicks();
    let ask = |body: Json| request(&world, "Query", &body);
    let got = send(&world, &ask(json!({"Statement": ENDLESS, "TimeoutMillis": 20})));
    assert_eq!(got.error().0, "LimitExceededException");
    assert!(got.error().1.contains("ended after 20 ms"), "{got:?}");
    let is_free = || query(&world, "SELECT 1").status == 200;
    wait_for(is_free);
    // One whose client waits.
    let Answering::Later(mut first) = world.begin(&ask(json!({"Statement": ENDLESS}))) else {
        panic!("it has been answered")
    };
    let got = query(&world, "SELECT 1");
    assert_eq!(got.error().0, "LimitExceededException");
    assert!(got.error().1.contains("on this connection"), "{got:?}");
    let mut other = ask(json!({"Statement": "SELECT 1"}));
    other.peer = "127.0.0.1:2".parse().unwrap();
    assert_eq!(send(&world, &other).ok()["Rows"], json!([[1]]));
    // Its client leaves.
    world.runtime.block_on(async {
        let waited = tokio::time::timeout(Duration::from_millis(20), &mut first).await;
        assert!(waited.is_err(), "it has been answered");
    });
    drop(first);
    wait_for(is_free);
    // The gateway ends.
    let Answering::Later(second) = world.begin(&ask(json!({"Statement": ENDLESS}))) else {
        panic!("it has been answered")
    };
    world.front().service.ending.send_replace(true);
    let Answer { status, .. } = world.runtime.block_on(second);
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    world.front().service.sql.end(LIMIT);
    assert_eq!(query(&world, "SELECT 1").error().0, "LimitExceededException");
}

#[test]
fn a_query_has_as_much_memory_as_it_may_have() {
    let mut world = clicks();
    world.restart(|setup| setup.sql.memory_bytes_max = 1 << 20);
    let got = query(
        &world,
        "SELECT count(*) FROM (SELECT value, count(*) FROM generate_series(1, 300000) GROUP BY value) t",
    );
    // It spills, or it is refused; and it never exceeds its memory limit.
    if got.status != 200 {
        assert_eq!(got.error().0, "LimitExceededException", "{got:?}");
    }
    world.restart(|setup| setup.sql.queries_max = 0);
    assert_eq!(query(&world, "SELECT 1").error().0, "LimitExceededException");
}

#[test]
fn rows_of_a_live_query_come_as_they_are_made_and_nothing_stays_behind() {
    let world = clicks();
    let mut lines =
        watch(&world, &json!({"Statement": "SELECT page, ms * 2 AS twice FROM clicks WHERE ms > 30"}))
            .unwrap();
    assert_eq!(lines.next().unwrap(), json!({"Notes": []}));
    world.put("clicks", "d", r#"{"page": "/new", "ms": 20}"#);
    world.put("clicks", "d", r#"{"page": "/new", "ms": 50}"#);
    let first = lines.with("Rows");
    let columns = json!([{"Name": "page", "Type": "VARCHAR"}, {"Name": "twice", "Type": "DOUBLE"}]);
    assert_eq!((&first["Columns"], &first["Rows"]), (&columns, &json!([["/new", 100]])));
    world.put("clicks", "d", "no json");
    world.put("clicks", "d", r#"{"page": "/new", "ms": 60}"#);
    let second = lines.with("Rows");
    assert_eq!((second.get("Columns"), &second["Rows"]), (None, &json!([["/new", 120]])));
    loop {
        let counts = lines.with("Counts");
        if counts["Counts"]["RowsOut"] == 2 {
            assert_eq!(
                (&counts["Counts"]["RecordsIn"], &counts["Counts"]["RefusedRecords"]),
                (&json!(4), &json!(1))
            );
            break;
        }
    }
    // A second one on the connection is refused, but a query is not.
    let refused =
        watch(&world, &json!({"Statement": "SELECT page FROM clicks"})).err().expect("it is refused");
    assert_eq!(refused.error().0, "LimitExceededException");
    assert_eq!(query(&world, "SELECT count(*) FROM clicks").ok()["Rows"], json!([[7]]));
    assert_eq!(left(&world, "clicks"), 2);
    drop(lines);
    wait_for(|| left(&world, "clicks") == 0);
    // From the oldest record on, once the place is free.
    let body = json!({"Statement": "SELECT page FROM clicks", "StartingPosition": {"Type": "TRIM_HORIZON"}});
    let begun = Instant::now();
    let mut lines = loop {
        match watch(&world, &body) {
            Ok(lines) => break lines,
            Err(refused) => assert!(begun.elapsed() < LIMIT, "{refused:?}"),
        }
    };
    assert_eq!(lines.rows(6).len(), 6);
    world.front().service.ending.send_replace(true);
    while lines.next().is_some() {}
    world.front().service.sql.end(LIMIT);
    assert_eq!(left(&world, "clicks"), 0);
}

#[test]
fn windows_of_a_live_query_come_when_they_end() {
    let world = clicks();
    let statement = "SELECT page, count(*) AS n \
        FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(_arrival), INTERVAL '1' SECOND)) \
        GROUP BY page, window_start, window_end";
    let body = json!({"Statement": statement, "StartingPosition": {"Type": "TRIM_HORIZON"}});
    let mut lines = watch(&world, &body).unwrap();
    while lines.with("Counts")["Counts"]["HeldRows"] != 3 {}
    world.clock.advance(2 * SECOND);
    let mut rows = lines.rows(2);
    rows.sort_by_key(Json::to_string);
    assert_eq!(rows, [json!(["/cart", 2]), json!(["/home", 1])]);
}

#[test]
fn a_client_that_takes_nothing_holds_up_the_query_and_not_its_end() {
    let world = World::new();
    world.create("clicks", 1);
    let page = "x".repeat(60_000);
    for _ in 0..40 {
        world.put("clicks", "a", &json!({"page": page}).to_string());
    }
    let body = json!({"Statement": "SELECT page FROM clicks", "StartingPosition": {"Type": "TRIM_HORIZON"}});
    let lines = watch(&world, &body).unwrap();
    // The first line and one more wait in the channel of the answer, and no more than a few others behind them.
    wait_for(|| lines.pieces.len() == 2);
    world.front().service.ending.send_replace(true);
    world.front().service.sql.end(LIMIT);
    assert_eq!(left(&world, "clicks"), 0);
}

#[test]
fn a_live_query_ends_with_its_stream_and_says_so() {
    let world = clicks();
    let mut lines = watch(&world, &json!({"Statement": "SELECT page FROM clicks"})).unwrap();
    lines.with("Counts");
    world.front().service.catalogue.stream("clicks").unwrap().stream.clone().close().unwrap();
    let last = lines.with("Error");
    assert_eq!(last["Error"]["Type"], "ResourceNotFoundException");
    assert_eq!(lines.next(), None);
}
