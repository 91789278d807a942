//! Statements of no dialect in particular: rows one by one, and plain `GROUP BY`.

use super::compare;

/// Statements and the sketches of their plans.
pub(super) const EXAMPLES: &[(&str, &str)] = &[
    (
        r#"INSERT INTO out SELECT page FROM clicks"#,
        r#"pump out -> out (page)
clicks by arrival: SELECT page, _shard, _sequence, _arrival, _arrival AS _time FROM input AS clicks
each: SELECT page, clicks._shard AS _place_shard, clicks._sequence AS _place_sequence FROM _rows_1 AS clicks"#,
    ),
    (
        r#"INSERT INTO out SELECT visitor.id, clicks.visitor.name, visitor['id'] AS i, user, "order", clicks."user" AS u2 FROM clicks"#,
        r#"pump out -> out (id, name, i, user, order, u2)
clicks by arrival: SELECT visitor, "user", "order", _shard, _sequence, _arrival, _arrival AS _time FROM input AS clicks
each: SELECT visitor.id AS "id", clicks.visitor.name AS "name", visitor['id'] AS i, "user", "order", clicks."user" AS u2, clicks._shard AS _place_shard, clicks._sequence AS _place_sequence FROM _rows_1 AS clicks"#,
    ),
    (
        r#"INSERT INTO out SELECT STREAM "Name", value FROM metrics WHERE "VALUE" > 3"#,
        r#"pump out -> out (Name, value)
metrics by arrival: SELECT "Name", "VALUE", _shard, _sequence, _arrival, _arrival AS _time FROM input AS "metrics" WHERE "VALUE" > 3
each: SELECT "Name", "VALUE" AS "value", "metrics"._shard AS _place_shard, "metrics"._sequence AS _place_sequence FROM _rows_1 AS "metrics""#,
    ),
    (
        r#"INSERT INTO out SELECT * FROM raw"#,
        r#"pump out -> out (_shard, _sequence, _arrival, _key, _data, _headers)
raw by arrival: SELECT _key, _data, _headers, _shard, _sequence, _arrival, _arrival AS _time FROM input AS "raw"
each: SELECT "raw"._shard AS _shard, "raw"._sequence AS _sequence, "raw"._arrival AS _arrival, "raw"._key AS _key, "raw"._data AS _data, "raw"._headers AS _headers, "raw"._shard AS _place_shard, "raw"._sequence AS _place_sequence FROM _rows_1 AS "raw""#,
    ),
    (
        r#"INSERT INTO out SELECT *, ROWTIME FROM bid"#,
        r#"pump out -> out (item, price, supplier_id, bidtime, rowtime)
bid by arrival: SELECT item, price, supplier_id, bidtime, _shard, _sequence, _arrival, _arrival AS _time FROM input AS bid
each: SELECT bid.item AS item, bid.price AS price, bid.supplier_id AS supplier_id, bid.bidtime AS bidtime, _arrival AS rowtime, bid._shard AS _place_shard, bid._sequence AS _place_sequence FROM _rows_1 AS bid"#,
    ),
    (
        r#"INSERT INTO out SELECT _key, _data, ROWTIME, ROWTIME AS r2 FROM clicks WHERE _key = 'a'"#,
        r#"pump out -> out (_key, _data, rowtime, r2)
clicks by arrival: SELECT _key, _data, _shard, _sequence, _arrival, _arrival AS _time FROM input AS clicks WHERE _key = 'a'
each: SELECT _key, _data, _arrival AS rowtime, _arrival AS r2, clicks._shard AS _place_shard, clicks._sequence AS _place_sequence FROM _rows_1 AS clicks"#,
    ),
    (
        r#"INSERT INTO out SELECT page, CASE WHEN ms > 5 THEN 'slow' ELSE 'fast' END AS speed, coalesce(ms, 0) AS ms FROM clicks WHERE ms BETWEEN 1 AND 2 OR page LIKE 'a%'"#,
        r#"pump out -> out (page, speed, ms)
clicks by arrival: SELECT page, ms, _shard, _sequence, _arrival, _arrival AS _time FROM input AS clicks WHERE (ms BETWEEN 1 AND 2 OR page LIKE 'a%')
each: SELECT page, CASE WHEN ms > 5 THEN 'slow' ELSE 'fast' END AS speed, coalesce(ms, 0) AS ms, clicks._shard AS _place_shard, clicks._sequence AS _place_sequence FROM _rows_1 AS clicks"#,
    ),
    (
        r#"INSERT INTO out SELECT page FROM clicks WHERE page IN (SELECT page FROM pages) AND ms > 3"#,
        r#"pump out -> out (page)
clicks by arrival: SELECT page, _shard, _sequence, _arrival, _arrival AS _time FROM input AS clicks WHERE ms > 3
each: SELECT page, clicks._shard AS _place_shard, clicks._sequence AS _place_sequence FROM _rows_1 AS clicks WHERE page IN (SELECT page FROM pages)"#,
    ),
    (
        r#"INSERT INTO out SELECT STREAM s.ticker_symbol, c.company FROM "SOURCE_SQL_STREAM_001" AS s LEFT JOIN (SELECT page, owner AS company FROM pages WHERE owner IS NOT NULL) AS c ON s.ticker_symbol = c.page WHERE s.price > 10 AND c.company IS NOT NULL"#,
        r#"pump out -> out (ticker_symbol, company)
SOURCE_SQL_STREAM_001 by arrival: SELECT ticker_symbol, _shard, _sequence, _arrival, _arrival AS _time FROM input AS s WHERE s.price > 10
each: SELECT s.ticker_symbol AS ticker_symbol, c.company AS company, s._shard AS _place_shard, s._sequence AS _place_sequence FROM _rows_1 AS s LEFT JOIN (SELECT page, "owner" AS company FROM pages WHERE "owner" IS NOT NULL) AS c ON s.ticker_symbol = c.page WHERE c.company IS NOT NULL ORDER BY _place_shard, _place_sequence"#,
    ),
    (
        r#"INSERT INTO out SELECT t, total, p FROM (SELECT page AS t, ms AS total, owner AS p FROM clicks JOIN pages USING (page)) WHERE total > 100"#,
        r#"pump out -> out (t, total, p)
clicks by arrival: SELECT page, ms, _shard, _sequence, _arrival, _arrival AS _time FROM input AS clicks
each: SELECT t, total, p, _place_shard, _place_sequence FROM (SELECT page AS t, ms AS total, "owner" AS p, clicks._shard AS _place_shard, clicks._sequence AS _place_sequence FROM _rows_1 AS clicks JOIN pages USING(page)) WHERE total > 100"#,
    ),
    (
        r#"INSERT INTO out SELECT clicks.page, owner FROM clicks, pages WHERE clicks.page = pages.page AND ms > 1"#,
        r#"pump out -> out (page, owner)
clicks by arrival: SELECT page, _shard, _sequence, _arrival, _arrival AS _time FROM input AS clicks WHERE ms > 1
each: SELECT clicks.page AS page, "owner", clicks._shard AS _place_shard, clicks._sequence AS _place_sequence FROM _rows_1 AS clicks, pages WHERE clicks.page = pages.page"#,
    ),
    (
        r#"INSERT INTO out SELECT k FROM (SELECT upper(page) AS k FROM (SELECT page, ms FROM clicks WHERE ms > 1) AS a WHERE ms < 5) AS b WHERE k <> 'X'"#,
        r#"pump out -> out (k)
clicks by arrival: SELECT k, _shard, _sequence, _arrival, _arrival AS _time FROM (SELECT upper(page) AS k, _shard AS _shard, _sequence AS _sequence, _arrival AS _arrival FROM (SELECT page AS page, ms AS ms, _shard AS _shard, _sequence AS _sequence, _arrival AS _arrival FROM input AS clicks WHERE ms > 1) AS a WHERE ms < 5) AS b WHERE k <> 'X'
each: SELECT k, b._shard AS _place_shard, b._sequence AS _place_sequence FROM _rows_1 AS b"#,
    ),
    (
        r#"INSERT INTO out SELECT date_bin(INTERVAL '5 minutes', at) AS slot, page, avg(ms) AS ms FROM clicks GROUP BY 1, page"#,
        r#"pump out -> out (slot, page, ms)
clicks by event: SELECT page, ms, _shard, _sequence, _arrival, "at" AS _time FROM input AS clicks
Tumble { size: 300s, offset: 0ns }: SELECT window_start AS slot, page, avg(ms) AS ms FROM _rows_1 AS clicks GROUP BY window_start, window_end, page ORDER BY window_end, window_start"#,
    ),
    (
        r#"INSERT INTO out SELECT date_trunc('week', at) AS slot, page, avg(ms) AS ms FROM clicks GROUP BY slot, page"#,
        r#"pump out -> out (slot, page, ms)
clicks by event: SELECT page, ms, _shard, _sequence, _arrival, "at" AS _time FROM input AS clicks
Tumble { size: 604800s, offset: 345600s }: SELECT window_start AS slot, page, avg(ms) AS ms FROM _rows_1 AS clicks GROUP BY window_start, window_end, page ORDER BY window_end, window_start"#,
    ),
    (
        r#"INSERT INTO out SELECT DISTINCT page FROM clicks GROUP BY page, STEP(ROWTIME BY INTERVAL '10' SECOND)"#,
        r#"pump out -> out (page)
clicks by arrival: SELECT page, _shard, _sequence, _arrival, _arrival AS _time FROM input AS clicks
Tumble { size: 10s, offset: 0ns } separately: SELECT DISTINCT page FROM _rows_1 AS clicks GROUP BY window_start, window_end, page"#,
    ),
    (
        r#"INSERT INTO out SELECT k, count(*) AS n FROM (SELECT upper(page) AS k, at, ms FROM clicks WHERE ms > 1) AS x GROUP BY k, FLOOR(x.at TO MINUTE)"#,
        r#"pump out -> out (k, n)
clicks by event: SELECT k, _shard, _sequence, _arrival, "at" AS _time FROM (SELECT upper(page) AS k, "at" AS "at", ms AS ms, _shard AS _shard, _sequence AS _sequence, _arrival AS _arrival FROM input AS clicks WHERE ms > 1) AS x
Tumble { size: 60s, offset: 0ns }: SELECT k, count(*) AS n FROM _rows_1 AS x GROUP BY window_start, window_end, k ORDER BY window_end, window_start"#,
    ),
    (
        r#"INSERT INTO out SELECT c.page, p.owner, count(*) AS n FROM clicks c LEFT JOIN pages p ON c.page = p.page WHERE ms > 5 GROUP BY FLOOR(ROWTIME TO MINUTE), c.page, p.owner HAVING count(*) > 3"#,
        r#"pump out -> out (page, owner, n)
clicks by arrival: SELECT page, _shard, _sequence, _arrival, _arrival AS _time FROM input AS c WHERE ms > 5
Tumble { size: 60s, offset: 0ns }: SELECT c.page AS page, p."owner" AS "owner", count(*) AS n FROM _rows_1 AS c LEFT JOIN pages p ON c.page = p.page GROUP BY window_start, window_end, c.page, p."owner" HAVING count(*) > 3 ORDER BY window_end, window_start"#,
    ),
    (
        r#"INSERT INTO out (a, b) SELECT page, count(*) AS n FROM clicks GROUP BY page, STEP(ROWTIME BY INTERVAL '1' SECOND) HAVING n > 1 AND n < 7 ORDER BY n DESC LIMIT 3"#,
        r#"pump out -> out (a, b)
clicks by arrival: SELECT page, _shard, _sequence, _arrival, _arrival AS _time FROM input AS clicks
Tumble { size: 1s, offset: 0ns } separately: SELECT page AS a, count(*) AS b FROM _rows_1 AS clicks GROUP BY window_start, window_end, page HAVING count(*) > 1 AND count(*) < 7 ORDER BY count(*) DESC LIMIT 3"#,
    ),
    (
        r#"INSERT INTO out SELECT page, first_value(ms) OVER w AS f, count(*) OVER w AS n FROM clicks AS c WINDOW w AS (PARTITION BY page ORDER BY c.at ROWS BETWEEN 3 PRECEDING AND CURRENT ROW)"#,
        r#"pump out -> out (page, f, n)
clicks by event: SELECT page, ms, _shard, _sequence, _arrival, "at" AS _time FROM input AS c
[Rows { per: ["page"], count: 3 }]: SELECT page, f, n, _place_shard, _place_sequence FROM (SELECT page, first_value(ms) OVER (PARTITION BY page ORDER BY _time, _shard, _sequence ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) AS f, count(*) OVER (PARTITION BY page ORDER BY _time, _shard, _sequence ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) AS n, c._shard AS _place_shard, c._sequence AS _place_sequence, _is_new, _time FROM _rows_1 AS c) WHERE _is_new ORDER BY _time, _place_shard, _place_sequence"#,
    ),
    (
        r#"INSERT INTO out SELECT approx_distinct(page) AS d, approx_percentile_cont(ms, 0.9) AS p FROM clicks GROUP BY FLOOR(ROWTIME TO MINUTE)"#,
        r#"pump out -> out (d, p)
clicks by arrival: SELECT page, ms, _shard, _sequence, _arrival, _arrival AS _time FROM input AS clicks
Tumble { size: 60s, offset: 0ns }: SELECT approx_distinct(page) AS d, approx_percentile_cont(ms, 0.9) AS p FROM _rows_1 AS clicks GROUP BY window_start, window_end ORDER BY window_end, window_start"#,
    ),
];

#[test]
fn plain_statements_are_planned() {
    compare(EXAMPLES);
}
