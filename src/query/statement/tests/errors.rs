//! Tests of errors about columns, tables, times and windows: what is wrong, where, and what to write instead.

use super::Refused;

/// Statements, what is wrong with them, what stands at the place, and the hint.
const REFUSED: &[Refused<'static>] = &[
    (
        "INSERT INTO out SELEC page FROM clicks",
        "expected SELECT, VALUES, or a subquery in the query body, found SELEC",
        "SELEC page",
        "",
    ),
    (
        "INSERT INTO out
SELECT page,
       pagee
FROM clicks",
        "there is no column pagee",
        "pagee",
        "did you mean page?",
    ),
    (
        "INSERT INTO out SELECT c.pagee FROM clicks AS c",
        "c has no column pagee",
        "pagee FROM",
        "did you mean page?",
    ),
    (
        "INSERT INTO out SELECT d.page FROM clicks AS c",
        "there is no table and no column d here",
        "d.page",
        "the tables here are c",
    ),
    (
        "INSERT INTO out SELECT nothing FROM orders",
        "there is no column nothing",
        "nothing FROM",
        "there are id, product, amount, order_time",
    ),
    (
        "INSERT INTO out SELECT page FROM click",
        "there is no stream and no table click",
        "click",
        "did you mean clicks?",
    ),
    (
        "INSERT INTO out SELECT page FROM nowhere",
        "there is no stream and no table nowhere",
        "nowhere",
        r#"there are "SOURCE_SQL_STREAM_001", bid, clicks, metrics, orders, pages, raw, shipments"#,
    ),
    (
        r#"INSERT INTO out SELECT "Page" FROM clicks"#,
        r#"there is no column "Page""#,
        r#""Page""#,
        "quoted names are exact: write page",
    ),
    (
        "INSERT INTO out SELECT count(*) FROM clicks",
        "count(*) over a stream has no result until the stream ends",
        "count(",
        "add a window: GROUP BY …, STEP(ROWTIME BY INTERVAL '60' SECOND), or FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(ROWTIME), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end",
    ),
    (
        "INSERT INTO out SELECT DISTINCT page FROM clicks",
        "DISTINCT over a stream needs a window",
        "SELECT DISTINCT",
        "add a window: GROUP BY …, STEP(ROWTIME BY INTERVAL '60' SECOND), or FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(ROWTIME), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end",
    ),
    (
        "INSERT INTO out SELECT page FROM clicks ORDER BY page",
        "ORDER BY page over a stream needs a window: rows go out as they come",
        "SELECT page",
        "add a window: GROUP BY …, STEP(ROWTIME BY INTERVAL '60' SECOND), or FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(ROWTIME), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end",
    ),
    (
        "INSERT INTO out SELECT page FROM clicks LIMIT 10",
        "LIMIT over a stream needs a window: which rows are first is never settled",
        "SELECT page",
        "add a window: GROUP BY …, STEP(ROWTIME BY INTERVAL '60' SECOND), or FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(ROWTIME), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end",
    ),
    (
        "INSERT INTO out SELECT page FROM clicks GROUP BY page",
        "GROUP BY over a stream needs a window",
        "SELECT page",
        "add a window: GROUP BY …, STEP(ROWTIME BY INTERVAL '60' SECOND), or FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(ROWTIME), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end",
    ),
    (
        "INSERT INTO out SELECT page, count(*) FROM clicks GROUP BY page, STEP(seen BY INTERVAL '1' MINUTE)",
        "seen is neither ROWTIME nor the event time of clicks",
        "STEP(seen",
        "group by ROWTIME, or by at",
    ),
    (
        r#"INSERT INTO out SELECT "Name", count(*) FROM metrics GROUP BY "Name", FLOOR(taken TO MINUTE)"#,
        "taken is neither ROWTIME nor the event time of metrics",
        "taken TO",
        "group by ROWTIME, or declare the column as the schema's event time",
    ),
    (
        "INSERT INTO out SELECT page, count(*) FROM clicks GROUP BY page, FLOOR(ROWTIME TO MONTH)",
        "windows of a month have no fixed length",
        "ROWTIME TO",
        "the longest unit is WEEK; others are written STEP(ROWTIME BY INTERVAL '30' DAY)",
    ),
    (
        "INSERT INTO out SELECT page, count(*) FROM clicks GROUP BY page, STEP(ROWTIME BY INTERVAL '1' MONTH)",
        "a month has no fixed length",
        "'1'",
        "write it in days: INTERVAL '30' DAY",
    ),
    (
        "INSERT INTO out SELECT page, count(*) FROM clicks GROUP BY page, STEP(ROWTIME BY 60)",
        "60 is no interval",
        "60)",
        "write it as INTERVAL '1' MINUTE",
    ),
    (
        "INSERT INTO out SELECT page, count(*) FROM clicks GROUP BY page, STEP(ROWTIME BY INTERVAL '0' SECOND)",
        "the interval is empty",
        "'0'",
        "write a longer one: INTERVAL '1' MINUTE",
    ),
    (
        "INSERT INTO out SELECT page, count(*) FROM clicks GROUP BY ALL",
        "GROUP BY ALL, WITH ROLLUP or WITH CUBE is not possible",
        "SELECT page",
        "write the keys: GROUP BY a, b",
    ),
    (
        "INSERT INTO out SELECT * FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(seen), INTERVAL '1' MINUTE))",
        "seen is neither ROWTIME nor the event time of clicks",
        "seen)",
        "write DESCRIPTOR(ROWTIME) or DESCRIPTOR(at)",
    ),
    (
        "INSERT INTO out SELECT * FROM TABLE(TUMBLE(TABLE clicks, at, INTERVAL '1' MINUTE))",
        "the time of a window is a DESCRIPTOR",
        "at,",
        "write TABLE(TUMBLE(TABLE t, DESCRIPTOR(ROWTIME), INTERVAL '1' MINUTE))",
    ),
    (
        "INSERT INTO out SELECT * FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(at)))",
        "TUMBLE has no SIZE",
        "TUMBLE(TABLE",
        "write TABLE(TUMBLE(TABLE t, DESCRIPTOR(ROWTIME), INTERVAL '1' MINUTE))",
    ),
    (
        "INSERT INTO out SELECT * FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(at), SIZ => INTERVAL '1' MINUTE))",
        "TUMBLE has no argument SIZ",
        "SIZ",
        "it has DATA, TIMECOL, SIZE, OFFSET",
    ),
    (
        "INSERT INTO out SELECT * FROM TABLE(TUMBLE(TABLE clicks PARTITION BY page, DESCRIPTOR(at), INTERVAL '1' MINUTE))",
        "TUMBLE has no PARTITION BY",
        "page,",
        "its windows are the same for all keys: GROUP BY window_start, window_end, key",
    ),
    (
        "INSERT INTO out SELECT * FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '1' MINUTE)",
        "this bracket is not closed",
        "(TUMBLE(TABLE",
        "write the missing )",
    ),
    (
        "INSERT INTO out SELECT * FROM TABLE(HOP(TABLE clicks, DESCRIPTOR(at), INTERVAL '1' SECOND, INTERVAL '1' DAY))",
        "a window has 86400 slides, and each row is kept for each of them",
        "HOP(TABLE",
        "choose at most 10000",
    ),
    (
        "INSERT INTO out SELECT * FROM TABLE(CUMULATE(TABLE clicks, DESCRIPTOR(at), INTERVAL '7' SECOND, INTERVAL '1' MINUTE))",
        "the size of CUMULATE is no multiple of its step",
        "CUMULATE(TABLE",
        "write TABLE(CUMULATE(TABLE t, DESCRIPTOR(ROWTIME), INTERVAL '1' MINUTE, INTERVAL '1' HOUR)), the step before the size",
    ),
    (
        "INSERT INTO out SELECT * FROM TABLE(TUMBLE(TABLE pages, DESCRIPTOR(page), INTERVAL '1' MINUTE))",
        "windows need a stream, and this is none",
        "pages,",
        "a subquery of a stream is one as long as it has no GROUP BY, no join and no OVER",
    ),
    (
        "INSERT INTO out SELECT * FROM TABLE(GENERATE(clicks))",
        "TABLE(GENERATE(clicks)) makes no windows",
        "GENERATE(clicks",
        "write TABLE(TUMBLE(TABLE s, DESCRIPTOR(ROWTIME), INTERVAL '1' MINUTE)); there are TUMBLE, HOP, CUMULATE and SESSION",
    ),
    (
        "INSERT INTO out SELECT item FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(bidtime), INTERVAL '1' MINUTE)) WHERE price > (SELECT avg(price) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(bidtime), INTERVAL '2' MINUTE)))",
        "a statement has windows of one kind, and here are others",
        "bid,",
        "let one pump write its windows into a stream, and another one read that",
    ),
    (
        "INSERT INTO out SELECT page, count(*) FROM clicks GROUP BY SESSION(at, INTERVAL '1' MINUTE), page ORDER BY 2 LIMIT 3",
        "LIMIT 3 has nothing to choose from: each key has its own windows",
        "SELECT page",
        "choose by a condition: HAVING count(*) > 100",
    ),
];

#[test]
fn errors_of_columns_and_windows_are_explained() {
    super::refuse(REFUSED);
}
