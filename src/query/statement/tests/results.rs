//! Tests of the results of the SQL of plans, over rows that the runner could have kept.

use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;

use super::super::plan::Shape;
use super::{plan, runtime, session};

/// A session with a table of rows, which are given as a query.
fn with(tables: &[(&str, &str)]) -> SessionContext {
    let session = session();
    runtime().block_on(async {
        for (name, rows) in tables {
            session.sql(&format!("CREATE TABLE {name} AS {rows}")).await.unwrap().collect().await.unwrap();
        }
    });
    session
}

/// The rows that a text of SQL results in, one line each, values separated by a space.
fn rows(session: &SessionContext, sql: &str) -> Vec<String> {
    let batches = runtime().block_on(async { session.sql(sql).await.unwrap().collect().await.unwrap() });
    let table = pretty_format_batches(&batches).unwrap().to_string();
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(1);
    lines
        .map(|line| {
            line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join(" ")
        })
        .collect()
}

/// Micro-batches of `clicks`: page, ms, second of arrival.
const CLICKS: &str = "SELECT page, ms::DOUBLE AS ms, arrow_cast(0, 'UInt32') AS _shard, arrow_cast(place, 'UInt64') AS _sequence, \
                      arrow_cast(second * 1000000, 'Timestamp(Microsecond, Some(\"UTC\"))') AS _arrival, \
                      arrow_cast((second - 1) * 1000000, 'Timestamp(Microsecond, Some(\"UTC\"))') AS at FROM (VALUES \
                      ('a', 10, 0, 0), ('b', 1, 1, 10), ('a', 20, 2, 30), ('a', 3, 3, 60), ('b', 50, 4, 60), ('a', 7, 5, 91)) \
                      AS t(page, ms, place, second)";

fn prepared(text: &str) -> (super::Plan, SessionContext) {
    let plan = plan(text);
    (plan, with(&[("input", CLICKS)]))
}

#[test]
fn conditions_are_checked_and_times_chosen_before_rows_are_kept() {
    let (plan, session) = prepared("INSERT INTO out SELECT page FROM clicks WHERE ms > 5 AND page = 'a'");
    assert_eq!(
        plan.inputs[0].prepare,
        "SELECT page, _shard, _sequence, _arrival, _arrival AS _time FROM input AS clicks WHERE ms > 5 AND page = 'a'"
    );
    assert_eq!(rows(&session, &plan.inputs[0].prepare).len(), 3);
    let (plan, session) =
        prepared("INSERT INTO out SELECT page, count(*) AS n FROM clicks GROUP BY page, FLOOR(at TO MINUTE)");
    let prepared =
        rows(&session, &format!("SELECT _arrival - _time AS d FROM ({}) GROUP BY d", plan.inputs[0].prepare));
    assert_eq!(prepared, ["PT1S"]);
}

#[test]
fn conditions_behind_a_session_function_do_not_change_sessions() {
    let session = "FROM TABLE(SESSION(TABLE clicks PARTITION BY page, DESCRIPTOR(at), INTERVAL '1' MINUTE)) WHERE ms > 5 GROUP BY \
                   page, window_start, window_end";
    let plan = plan(&format!("INSERT INTO out SELECT page, count(*) AS n {session}"));
    assert!(!plan.inputs[0].prepare.contains("WHERE"), "{}", plan.inputs[0].prepare);
    let Shape::Windows { sql, .. } = &plan.shape else { panic!("{:?}", plan.shape) };
    assert!(sql.contains("WHERE ms > 5"), "{sql}");
    let grouped = super::plan(
        "INSERT INTO out SELECT count(*) AS n FROM clicks WHERE ms > 5 GROUP BY SESSION(at, INTERVAL '1' MINUTE)",
    );
    assert!(grouped.inputs[0].prepare.contains("WHERE ms > 5"), "{}", grouped.inputs[0].prepare);
}

/// The result when rows until second 30 are looked back at, and those from second 60 are new.
fn looked_back(plan: &super::Plan) -> Vec<String> {
    let Shape::Over { sql, .. } = &plan.shape else { panic!("{:?}", plan.shape) };
    let first = with(&[("input", CLICKS)]);
    let kept = plan.inputs[0].prepare.clone();
    let batches = runtime().block_on(async { first.sql(&kept).await.unwrap().collect().await.unwrap() });
    let session = session();
    session.register_batch("kept", batches[0].clone()).unwrap();
    runtime().block_on(async {
        let create = "CREATE TABLE _rows_1 AS SELECT *, _sequence > 2 AS _is_new FROM kept";
        session.sql(create).await.unwrap().collect().await.unwrap();
    });
    rows(&session, sql)
}

#[test]
fn sliding_windows_of_time_hold_all_rows_of_the_range_and_of_the_same_moment() {
    let plan = plan(
        "INSERT INTO out SELECT page, sum(ms) OVER (RANGE INTERVAL '1' MINUTE PRECEDING) AS s, \
         count(*) OVER (PARTITION BY page RANGE INTERVAL '30' SECOND PRECEDING) AS n FROM clicks",
    );
    // At 60: 10 + 1 + 20 + 3 + 50; at 91: 3 + 50 + 7.
    assert_eq!(looked_back(&plan), ["a 84.0 2 0 3", "b 84.0 1 0 4", "a 60.0 1 0 5"]);
}

#[test]
fn sliding_windows_of_rows_count_the_rows_of_a_key() {
    let plan = plan(
        "INSERT INTO out SELECT page, sum(ms) OVER (PARTITION BY page ROWS 1 PRECEDING) AS s, \
         lag(ms, 2, 0) OVER (PARTITION BY page) AS b FROM clicks",
    );
    assert_eq!(looked_back(&plan), ["a 23.0 10.0 0 3", "b 51.0 0.0 0 4", "a 10.0 20.0 0 5"]);
}

#[test]
fn conditions_behind_a_sliding_window_leave_out_rows_of_the_output_only() {
    let plan = plan(
        "INSERT INTO out SELECT page, ms FROM (SELECT page, ms, lag(ms) OVER (PARTITION BY page) AS before FROM clicks) \
         WHERE ms > before",
    );
    let mut rows = looked_back(&plan);
    rows.sort();
    assert_eq!(rows, ["a 7.0 0 5", "b 50.0 0 4"]);
}

/// Rows that windows of a minute have released.
fn released(text: &str) -> Vec<String> {
    let plan = plan(text);
    let Shape::Windows { sql, .. } = &plan.shape else { panic!("{:?}", plan.shape) };
    let input = with(&[("input", CLICKS)]);
    let batches = runtime()
        .block_on(async { input.sql(&plan.inputs[0].prepare).await.unwrap().collect().await.unwrap() });
    let session = session();
    session.register_batch("kept", batches[0].clone()).unwrap();
    runtime().block_on(async {
        let create = "CREATE TABLE _rows_1 AS SELECT *, date_bin(INTERVAL '1 minute', _time) AS window_start, \
                      date_bin(INTERVAL '1 minute', _time) + INTERVAL '1 minute' AS window_end FROM kept";
        session.sql(create).await.unwrap().collect().await.unwrap();
    });
    rows(&session, sql)
}

#[test]
fn grouping_released_rows_gives_one_row_for_each_window_and_key() {
    let tumble = "INSERT INTO out SELECT STEP(ROWTIME BY INTERVAL '60' SECOND) AS t, count(*) AS n, max(ms) AS m FROM clicks \
                  GROUP BY STEP(ROWTIME BY INTERVAL '1' MINUTE)";
    assert_eq!(released(tumble), ["1970-01-01T00:00:00Z 3 20.0", "1970-01-01T00:01:00Z 3 50.0"]);
    let end = "INSERT INTO out SELECT ROWTIME AS t, sum(ms) AS s FROM clicks GROUP BY CEIL(ROWTIME TO MINUTE) HAVING s > 40";
    assert_eq!(released(end), ["1970-01-01T00:02:00Z 60.0"]);
    let nested = "INSERT INTO out SELECT n * 2 AS n FROM (SELECT count(*) AS n FROM clicks GROUP BY FLOOR(ROWTIME TO MINUTE), page) \
                  WHERE n > 1 ORDER BY n";
    assert_eq!(released(nested), ["4", "4"]);
}

#[test]
fn ceil_rounds_up_and_keeps_what_is_whole() {
    let (plan, session) = prepared("INSERT INTO out SELECT CEIL(ROWTIME TO MINUTE) AS c FROM clicks");
    let Shape::Each { sql } = &plan.shape else { panic!("{:?}", plan.shape) };
    let create = format!("CREATE TABLE _rows_1 AS {}", plan.inputs[0].prepare);
    runtime().block_on(async { session.sql(&create).await.unwrap().collect().await.unwrap() });
    let minutes: Vec<String> = rows(&session, sql).iter().map(|row| row[14..16].to_owned()).collect();
    assert_eq!(minutes, ["00", "01", "01", "01", "01", "02"]);
}

/// Orders at 0 and 10 s, a shipment of the first at 5 s; the second shipment comes too late for its order.
const SIDES: [(&str, &str); 2] = [
    (
        "_rows_1",
        "SELECT *, true AS _is_new FROM (SELECT id, arrow_cast(second * 1000000, 'Timestamp(Microsecond, Some(\"UTC\"))') AS order_time, \
         arrow_cast(0, 'UInt32') AS _shard, arrow_cast(id, 'UInt64') AS _sequence FROM (VALUES (1, 0), (2, 10)) AS t(id, second))",
    ),
    (
        "_rows_2",
        "SELECT *, false AS _is_new FROM (SELECT id, order_id, arrow_cast(second * 1000000, 'Timestamp(Microsecond, Some(\"UTC\"))') AS \
         ship_time, arrow_cast(1, 'UInt32') AS _shard, arrow_cast(id, 'UInt64') AS _sequence FROM (VALUES (7, 1, 5), (8, 2, 80)) AS \
         t(id, order_id, second))",
    ),
];

const LEFT: &str = "INSERT INTO out SELECT o.id, s.id AS shipment FROM orders o LEFT JOIN shipments s ON o.id = s.order_id AND \
                    s.ship_time BETWEEN o.order_time AND o.order_time + INTERVAL '1' MINUTE";

#[test]
fn pairs_of_a_join_are_near_in_time_and_have_a_new_row() {
    let Shape::Join { sql, alone: Some(alone), .. } = plan(LEFT).shape else { panic!() };
    let session = with(&SIDES);
    assert_eq!(rows(&session, &sql), ["1 7 0 1 1 7 true"]);
    let nothing_new = SIDES.map(|(name, rows)| (name, rows.replace("true AS", "false AS")));
    let nothing_new: Vec<_> = nothing_new.iter().map(|(name, rows)| (*name, &**rows)).collect();
    assert_eq!(rows(&with(&nothing_new), &sql), Vec::<String>::new());
    // A row that has met none goes out with the other side empty.
    let other_empty =
        [(SIDES[0].0, SIDES[0].1.to_owned()), (SIDES[1].0, format!("{} WHERE id = 0", SIDES[1].1))];
    let other_empty: Vec<_> = other_empty.iter().map(|(name, rows)| (*name, &**rows)).collect();
    assert_eq!(rows(&with(&other_empty), &alone), ["1", "2"]);
}

#[test]
fn a_condition_behind_an_outer_join_does_not_make_a_row_alone() {
    let text = format!("{LEFT} WHERE s.id IS NULL");
    let Shape::Join { sql, .. } = plan(&text).shape else { panic!() };
    assert_eq!(rows(&with(&SIDES), &sql), ["1 7 0 1 1 7 false"]);
}
