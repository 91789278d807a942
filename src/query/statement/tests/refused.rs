//! Errors of sliding windows, joins, targets and declarations.

use super::Refused;

/// Statements, what is wrong with them, what stands at the place, and the hint.
const REFUSED: &[Refused<'static>] = &[
    (
        "INSERT INTO out SELECT avg(ms) OVER (PARTITION BY page) FROM clicks",
        "this window looks back to the beginning of the stream",
        "avg(ms",
        "write OVER (PARTITION BY k RANGE INTERVAL '1' MINUTE PRECEDING) or OVER (PARTITION BY k ROWS 10 PRECEDING)",
    ),
    (
        "INSERT INTO out SELECT avg(ms) OVER (PARTITION BY page ORDER BY ms ROWS 3 PRECEDING) FROM clicks",
        "ms is neither ROWTIME nor the stream's event time",
        "ms ROWS",
        "write ORDER BY ROWTIME, or declare the column: Schema::event_time",
    ),
    (
        "INSERT INTO out SELECT avg(ms) OVER (ORDER BY at DESC ROWS 3 PRECEDING) FROM clicks",
        "rows are looked back at in the order of time",
        "at DESC",
        "write ORDER BY ROWTIME, or leave it out",
    ),
    (
        "INSERT INTO out SELECT avg(ms) OVER (PARTITION BY page ROWS BETWEEN 3 PRECEDING AND 3 FOLLOWING) FROM clicks",
        "a window with FOLLOWING looks ahead, to rows that have not come",
        "avg(ms",
        "write OVER (PARTITION BY k RANGE INTERVAL '1' MINUTE PRECEDING) or OVER (PARTITION BY k ROWS 10 PRECEDING)",
    ),
    (
        "INSERT INTO out SELECT lead(ms) OVER (PARTITION BY page) FROM clicks",
        "LEAD looks ahead, to rows that have not come",
        "lead(ms",
        "write LAG, which looks back",
    ),
    (
        "INSERT INTO out SELECT row_number() OVER (PARTITION BY page ORDER BY at) FROM clicks",
        "ROW_NUMBER counts rows from the beginning of the stream",
        "row_number(",
        "number the rows of a window that ends: FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(ROWTIME), INTERVAL '1' MINUTE)), with PARTITION BY window_start, window_end",
    ),
    (
        "INSERT INTO out SELECT avg(ms) OVER w FROM clicks WINDOW v AS (ROWS 3 PRECEDING)",
        "there is no window w",
        "w FROM",
        "write OVER (PARTITION BY k RANGE INTERVAL '1' MINUTE PRECEDING) or OVER (PARTITION BY k ROWS 10 PRECEDING)",
    ),
    (
        "INSERT INTO out SELECT avg(ms) OVER (ROWS 3 PRECEDING) AS a FROM clicks JOIN pages USING (page)",
        "rows are counted before the join, and seen after it",
        "avg(ms",
        "look back in a pump of its own, and join the stream that it writes; RANGE is possible here",
    ),
    (
        "INSERT INTO out SELECT page, avg(ms) OVER (ROWS 3 PRECEDING) AS a FROM clicks WHERE avg(ms) OVER (ROWS 3 PRECEDING) > 3",
        "WHERE is checked before OVER",
        "avg(ms",
        "put the SELECT into brackets: SELECT * FROM (SELECT …, lag(x) OVER … AS before FROM s) WHERE …",
    ),
    (
        "INSERT INTO out SELECT sum(b) OVER (ROWS 3 PRECEDING) FROM (SELECT lag(ms) OVER (PARTITION BY page) AS b FROM clicks)",
        "sum(b) OVER (ROWS 3 PRECEDING) looks back over rows of a query",
        "sum(b",
        "write OVER in the SELECT that reads the stream",
    ),
    (
        "INSERT INTO out SELECT o.id, s.id AS sid FROM orders o JOIN shipments s ON o.id = s.order_id",
        "a join of two streams keeps their rows, and there is no bound in time",
        "shipments s",
        "write … ON a.k = b.k AND b.ROWTIME BETWEEN a.ROWTIME AND a.ROWTIME + INTERVAL '10' MINUTE, or FROM a OVER (RANGE INTERVAL '10' MINUTE PRECEDING) JOIN b OVER (RANGE INTERVAL '10' MINUTE PRECEDING) ON …",
    ),
    (
        "INSERT INTO out SELECT o.id, s.id AS sid FROM orders o JOIN shipments s ON o.id = s.order_id AND s.ship_time > o.order_time",
        "a join of two streams keeps their rows, and there is only one bound in time",
        "shipments s",
        "write … ON a.k = b.k AND b.ROWTIME BETWEEN a.ROWTIME AND a.ROWTIME + INTERVAL '10' MINUTE, or FROM a OVER (RANGE INTERVAL '10' MINUTE PRECEDING) JOIN b OVER (RANGE INTERVAL '10' MINUTE PRECEDING) ON …",
    ),
    (
        "INSERT INTO out SELECT o.id, s.id AS sid FROM orders o JOIN shipments s ON o.id = s.order_id AND s.ship_time BETWEEN o.ROWTIME AND o.ROWTIME + INTERVAL '1' HOUR",
        "arrival is compared with event time",
        "o.ROWTIME",
        "compare ROWTIME with ROWTIME, or the event times of both streams",
    ),
    (
        "INSERT INTO out SELECT o.id, s.id FROM orders o JOIN shipments s ON o.id = s.order_id AND s.ship_time BETWEEN o.order_time AND o.order_time + INTERVAL '1' HOUR",
        "two columns of the output are called id",
        "s.id",
        "give one another name: b.id AS b_id",
    ),
    (
        "INSERT INTO out SELECT o.id, s.id AS sid FROM orders o JOIN shipments s ON s.ship_time BETWEEN o.order_time + INTERVAL '2' HOUR AND o.order_time + INTERVAL '1' HOUR",
        "no row can keep both bounds in time",
        "shipments s",
        "write … ON a.k = b.k AND b.ROWTIME BETWEEN a.ROWTIME AND a.ROWTIME + INTERVAL '10' MINUTE, or FROM a OVER (RANGE INTERVAL '10' MINUTE PRECEDING) JOIN b OVER (RANGE INTERVAL '10' MINUTE PRECEDING) ON …",
    ),
    (
        "INSERT INTO out SELECT c.page FROM pages p LEFT JOIN clicks c ON c.page = p.page",
        "this join repeats rows of the table that no row of the stream has met",
        "clicks c",
        "put the stream first: FROM stream LEFT JOIN table ON …",
    ),
    (
        "INSERT INTO out SELECT a.page FROM clicks a JOIN clicks b ON a.page = b.page JOIN clicks c ON c.page = a.page",
        "more than two streams are joined",
        "clicks c",
        "let one pump join two of them into a stream, and another one join that with the third",
    ),
    (
        "INSERT INTO out SELECT a.page, count(*) AS n FROM clicks a JOIN orders b ON a.page = b.product GROUP BY a.page, FLOOR(a.ROWTIME TO MINUTE)",
        "streams are joined and grouped by windows in one SELECT",
        "a.ROWTIME",
        "let one pump join them into a stream, and another one group that",
    ),
    (
        "INSERT INTO out SELECT a.page FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '1' MINUTE)) a JOIN orders b ON a.page = b.product",
        "a stream with windows is joined with one without",
        "orders b",
        "read both through the same windows",
    ),
    (
        "INSERT INTO out SELECT page FROM clicks JOIN clicks ON true",
        "two tables are called clicks",
        "clicks ON",
        "give one another name: FROM s AS a JOIN s AS b",
    ),
    (
        "INSERT INTO out SELECT page FROM clicks WHERE ms > (SELECT avg(ms) FROM clicks)",
        "a subquery reads all of clicks, which never ends",
        "clicks)",
        "read it through windows: FROM TABLE(TUMBLE(TABLE clicks, …)), or join it",
    ),
    (
        "INSERT INTO out SELECT page FROM clicks UNION ALL SELECT page FROM pages",
        "UNION, EXCEPT and INTERSECT do not work row by row",
        "clicks UNION",
        "let several pumps insert into one stream: one for each SELECT",
    ),
    (
        "INSERT INTO out SELECT page FROM pages",
        "the statement reads no stream, so that it would end",
        "out SELECT",
        "run it by Catalog::query",
    ),
    (
        "INSERT INTO pages SELECT page FROM clicks",
        "pages is a file, which is only read",
        "pages SELECT",
        "insert into a stream, a delivery or a function",
    ),
    (
        "INSERT INTO clicks SELECT page FROM clicks",
        "clicks would be written into itself for ever",
        "clicks SELECT",
        "insert into another stream",
    ),
    (
        "INSERT INTO out (a, b) SELECT page FROM clicks",
        "the SELECT has 1 column, and out takes 2",
        "out",
        "select as many: a, b",
    ),
    (
        "INSERT INTO out SELECT page, ms AS page FROM clicks",
        "two columns of the output are called page",
        "out SELECT",
        "give one another name with AS",
    ),
    (
        "INSERT INTO out VALUES (1)",
        "the INSERT has no SELECT",
        "out VALUES",
        "write INSERT INTO target SELECT …; single records are put by Stream::put",
    ),
    (
        "SELECT page FROM clicks",
        "a continuous query does not begin with SELECT",
        "SELECT page",
        "write INSERT INTO target SELECT … or CREATE PUMP name AS INSERT INTO target SELECT …",
    ),
    (
        "CREATE TABLE x (a INT)",
        "CREATE TABLE is not possible",
        "TABLE x",
        "write CREATE STREAM or CREATE PUMP; tables are put into the catalog by the program",
    ),
    (
        "CREATE STREAM x",
        "the stream has no columns",
        "x",
        "write its columns: CREATE STREAM s (page VARCHAR, ms DOUBLE)",
    ),
    ("CREATE STREAM x (a INT, A VARCHAR)", "there are two columns A", "A VARCHAR", "rename one"),
    ("CREATE STREAM x (_key INT)", "_key is the name of a system column", "_key INT", "choose another name"),
    (
        "CREATE STREAM x (a INT PRIMARY KEY, PRIMARY KEY (a))",
        "PRIMARY KEY (a) is not kept",
        "STREAM x",
        "streams have columns and NOT NULL, but no keys",
    ),
    ("CREATE STREAM clicks (a INT)", "there is a stream clicks already", "clicks", "choose another name"),
    ("CREATE STREAM s (a INT); INSERT INTO s (b) SELECT page FROM clicks", "s has no column b", "b)", ""),
    (
        "CREATE PUMP AS INSERT INTO out SELECT page FROM clicks",
        "a pump is an INSERT with a name",
        "INSERT INTO",
        "write CREATE PUMP name AS INSERT INTO stream SELECT STREAM …",
    ),
    (
        "CREATE PUMP p AS INSERT INTO out SELECT page FROM clicks; CREATE PUMP p AS INSERT INTO out SELECT ms FROM clicks",
        "there is a pump p already",
        "p AS",
        "choose another name",
    ),
    (
        "INSERT INTO out SELECT page FROM clicks WHERE page = 'abc",
        "unterminated string literal",
        "'abc",
        "close the quotes",
    ),
    (
        "INSERT INTO out SELECT STREAM ITEM FROM TABLE(TOP_K_ITEMS_TUMBLING(CURSOR(SELECT STREAM * FROM clicks), 'page', 10, 60))",
        "TOP_K_ITEMS_TUMBLING is not possible",
        "TOP_K_ITEMS_TUMBLING(CURSOR",
        "write SELECT item, count(*) … GROUP BY item, STEP(ROWTIME BY INTERVAL '60' SECOND) ORDER BY 2 DESC LIMIT 10",
    ),
    (
        "INSERT INTO out SELECT STREAM page, count(*) FROM clicks WINDOWED BY STAGGER (PARTITION BY page)",
        "the stagger window has no RANGE",
        ")",
        "write WINDOWED BY STAGGER (PARTITION BY page RANGE INTERVAL '1' MINUTE)",
    ),
    (
        "INSERT INTO out SELECT STREAM page, count(*) FROM clicks WINDOWED BY TUMBLE (PARTITION BY page RANGE INTERVAL '1' MINUTE)",
        "WINDOWED BY takes STAGGER only",
        "WINDOWED BY",
        "write WINDOWED BY STAGGER (PARTITION BY page RANGE INTERVAL '1' MINUTE)",
    ),
    (
        "INSERT INTO out SELECT STREAM page, count(*) FROM clicks WINDOWED BY STAGGER (PARTITION BY page RANGE INTERVAL '1' MINUTE) GROUP BY page",
        "a stagger window groups by its PARTITION BY",
        "page",
        "leave GROUP BY out",
    ),
    (
        "INSERT INTO out SELECT o.id FROM orders o OVER (ROWS 10 PRECEDING) JOIN shipments s ON o.id = s.order_id",
        "the window of a joined stream is a range of time before now",
        "OVER",
        "write FROM s OVER (RANGE INTERVAL '1' MINUTE PRECEDING) AS a JOIN …",
    ),
    (
        "INSERT INTO out SELECT window_start FROM clicks",
        "there is no window here",
        "window_start FROM",
        "read the stream through one: FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(ROWTIME), INTERVAL '1' MINUTE))",
    ),
    (
        "INSERT INTO out SELECT ROWTIME FROM (SELECT page, count(*) AS n FROM clicks GROUP BY page, FLOOR(ROWTIME TO MINUTE))",
        "there is no ROWTIME here",
        "ROWTIME FROM",
        "give it a name in the SELECT that reads the stream: ROWTIME AS t",
    ),
    (
        "INSERT INTO out WITH RECURSIVE x AS (SELECT 1) SELECT page FROM clicks",
        "WITH RECURSIVE is not possible in a continuous query",
        "WITH RECURSIVE",
        "",
    ),
    (
        "INSERT INTO out SELECT page FROM db.clicks",
        "db.clicks has several parts",
        "db.clicks",
        "tables and columns have one name here; quote it if it has a dot",
    ),
    (
        "INSERT INTO out SELECT page FROM clicks FETCH FIRST 3 ROWS ONLY",
        "FETCH is not possible",
        "SELECT page",
        "write LIMIT",
    ),
    (
        "INSERT INTO out SELECT page FROM clicks MATCH_RECOGNIZE (PATTERN (a) DEFINE a AS true)",
        "MATCH_RECOGNIZE is not possible",
        "MATCH_RECOGNIZE",
        "LAG(x) OVER (PARTITION BY k ORDER BY ROWTIME) compares with rows before",
    ),
    (";", "there is no statement", ";", "write INSERT INTO target SELECT … FROM stream"),
];

#[test]
fn errors_of_joins_and_declarations_are_explained() {
    super::refuse(REFUSED);
}
