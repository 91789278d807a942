//! Statements of Kinesis Data Analytics, most of them from AWS' documentation.

use super::compare;

/// Statements and the sketches of their plans.
pub(super) const EXAMPLES: &[(&str, &str)] = &[
    (
        r#"CREATE OR REPLACE STREAM "DESTINATION_SQL_STREAM" (ticker_symbol VARCHAR(4), sector VARCHAR(12), change REAL, price REAL);
CREATE OR REPLACE PUMP "STREAM_PUMP" AS INSERT INTO "DESTINATION_SQL_STREAM"
    SELECT STREAM ticker_symbol, sector, change, price FROM "SOURCE_SQL_STREAM_001"
    WHERE sector SIMILAR TO '%TECH%';"#,
        r#"stream DESTINATION_SQL_STREAM replace: ticker_symbol VARCHAR(4), sector VARCHAR(12), "change" REAL, price REAL
pump STREAM_PUMP -> DESTINATION_SQL_STREAM (ticker_symbol, sector, change, price)
SOURCE_SQL_STREAM_001 by arrival: SELECT ticker_symbol, sector, "change", price, _shard, _sequence, _arrival, _arrival AS _time FROM input AS "SOURCE_SQL_STREAM_001" WHERE sector SIMILAR TO '%TECH%'
each: SELECT ticker_symbol, sector, "change", price, "SOURCE_SQL_STREAM_001"._shard AS _place_shard, "SOURCE_SQL_STREAM_001"._sequence AS _place_sequence FROM _rows_1 AS "SOURCE_SQL_STREAM_001""#,
    ),
    (
        r#"CREATE OR REPLACE STREAM "CALC_COUNT_SQL_STREAM" (TICKER VARCHAR(4), TRADETIME TIMESTAMP, TICKERCOUNT DOUBLE);
CREATE OR REPLACE PUMP "CALC_COUNT_SQL_PUMP_001" AS
    INSERT INTO "CALC_COUNT_SQL_STREAM" ("TICKER", "TRADETIME", "TICKERCOUNT")
    SELECT STREAM "TICKER_SYMBOL",
        STEP("SOURCE_SQL_STREAM_001"."ROWTIME" BY INTERVAL '1' MINUTE) AS "TradeTime",
        COUNT(*) AS "TickerCount"
    FROM "SOURCE_SQL_STREAM_001"
    GROUP BY STEP("SOURCE_SQL_STREAM_001".ROWTIME BY INTERVAL '1' MINUTE),
        STEP("SOURCE_SQL_STREAM_001"."APPROXIMATE_ARRIVAL_TIME" BY INTERVAL '1' MINUTE),
        TICKER_SYMBOL;"#,
        r#"stream CALC_COUNT_SQL_STREAM replace: ticker VARCHAR(4), tradetime TIMESTAMP, tickercount DOUBLE
pump CALC_COUNT_SQL_PUMP_001 -> CALC_COUNT_SQL_STREAM (ticker, tradetime, tickercount)
SOURCE_SQL_STREAM_001 by arrival: SELECT ticker_symbol, _shard, _sequence, _arrival, _arrival AS _time FROM input AS "SOURCE_SQL_STREAM_001"
Tumble { size: 60s, offset: 0ns }: SELECT ticker_symbol AS ticker, window_start AS tradetime, COUNT(*) AS tickercount FROM _rows_1 AS "SOURCE_SQL_STREAM_001" GROUP BY window_start, window_end, ticker_symbol ORDER BY window_end, window_start"#,
    ),
    (
        r#"CREATE OR REPLACE PUMP "STREAM_PUMP" AS INSERT INTO "DESTINATION_SQL_STREAM"
    SELECT STREAM ticker_symbol, MIN(Price) AS Min_Price, MAX(Price) AS Max_Price
    FROM "SOURCE_SQL_STREAM_001"
    GROUP BY Ticker_Symbol, FLOOR("SOURCE_SQL_STREAM_001".ROWTIME TO MINUTE);"#,
        r#"pump STREAM_PUMP -> DESTINATION_SQL_STREAM (ticker_symbol, min_price, max_price)
SOURCE_SQL_STREAM_001 by arrival: SELECT ticker_symbol, price, _shard, _sequence, _arrival, _arrival AS _time FROM input AS "SOURCE_SQL_STREAM_001"
Tumble { size: 60s, offset: 0ns }: SELECT ticker_symbol, MIN(price) AS min_price, MAX(price) AS max_price FROM _rows_1 AS "SOURCE_SQL_STREAM_001" GROUP BY window_start, window_end, ticker_symbol ORDER BY window_end, window_start"#,
    ),
    (
        r#"CREATE OR REPLACE STREAM "DESTINATION_SQL_STREAM" (event_time TIMESTAMP, ticker_symbol VARCHAR(4), ticker_count INTEGER);
CREATE OR REPLACE PUMP "STREAM_PUMP" AS INSERT INTO "DESTINATION_SQL_STREAM"
    SELECT STREAM FLOOR(EVENT_TIME TO MINUTE), TICKER_SYMBOL, COUNT(TICKER_SYMBOL) AS TICKER_COUNT
    FROM "SOURCE_SQL_STREAM_001"
    WINDOWED BY STAGGER (PARTITION BY FLOOR(EVENT_TIME TO MINUTE), TICKER_SYMBOL RANGE INTERVAL '1' MINUTE);"#,
        r#"stream DESTINATION_SQL_STREAM replace: event_time TIMESTAMP, ticker_symbol VARCHAR(4), ticker_count INTEGER
pump STREAM_PUMP -> DESTINATION_SQL_STREAM (event_time, ticker_symbol, ticker_count)
SOURCE_SQL_STREAM_001 by arrival: SELECT ticker_symbol, date_trunc('minute', event_time) AS _key_1, _shard, _sequence, _arrival, _arrival AS _time FROM input AS "SOURCE_SQL_STREAM_001"
Stagger { size: 60s, keys: ["_key_1", "ticker_symbol"] }: SELECT _key_1 AS event_time, ticker_symbol, COUNT(ticker_symbol) AS ticker_count FROM _rows_1 AS "SOURCE_SQL_STREAM_001" GROUP BY window_start, window_end, _key_1, ticker_symbol ORDER BY window_end, window_start"#,
    ),
    (
        r#"CREATE PUMP sliding STOPPED AS INSERT INTO out
    SELECT STREAM ticker_symbol, MIN(price) OVER w1 AS min_price, MAX(price) OVER w1 max_price
    FROM "SOURCE_SQL_STREAM_001" WHERE price > 0
    WINDOW w1 AS (PARTITION BY ticker_symbol RANGE INTERVAL '1' MINUTE PRECEDING);"#,
        r#"pump sliding stopped -> out (ticker_symbol, min_price, max_price)
SOURCE_SQL_STREAM_001 by arrival: SELECT ticker_symbol, price, _shard, _sequence, _arrival, _arrival AS _time FROM input AS "SOURCE_SQL_STREAM_001" WHERE price > 0
[Range(60s)]: SELECT ticker_symbol, min_price, max_price, _place_shard, _place_sequence FROM (SELECT ticker_symbol, MIN(price) OVER (PARTITION BY ticker_symbol ORDER BY _time RANGE BETWEEN INTERVAL '60000 milliseconds' PRECEDING AND CURRENT ROW) AS min_price, MAX(price) OVER (PARTITION BY ticker_symbol ORDER BY _time RANGE BETWEEN INTERVAL '60000 milliseconds' PRECEDING AND CURRENT ROW) AS max_price, "SOURCE_SQL_STREAM_001"._shard AS _place_shard, "SOURCE_SQL_STREAM_001"._sequence AS _place_sequence, _is_new, _time FROM _rows_1 AS "SOURCE_SQL_STREAM_001") WHERE _is_new ORDER BY _time, _place_shard, _place_sequence"#,
    ),
    (
        r#"INSERT INTO out SELECT STREAM ticker_symbol, AVG(price) OVER last2rows a, SUM(price) OVER lasthour AS s, lag(price, 2) OVER (PARTITION BY upper(sector)) b
    FROM "SOURCE_SQL_STREAM_001"
    WINDOW last2rows AS (PARTITION BY ticker_symbol ROWS 2 PRECEDING), lasthour AS (RANGE INTERVAL '1' HOUR PRECEDING)"#,
        r#"pump out -> out (ticker_symbol, a, s, b)
SOURCE_SQL_STREAM_001 by arrival: SELECT ticker_symbol, price, upper(sector) AS _key_1, _shard, _sequence, _arrival, _arrival AS _time FROM input AS "SOURCE_SQL_STREAM_001"
[Rows { per: ["ticker_symbol"], count: 2 }, Range(3600s), Rows { per: ["_key_1"], count: 2 }]: SELECT ticker_symbol, a, s, b, _place_shard, _place_sequence FROM (SELECT ticker_symbol, AVG(price) OVER (PARTITION BY ticker_symbol ORDER BY _time, _shard, _sequence ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS a, SUM(price) OVER (ORDER BY _time RANGE BETWEEN INTERVAL '3600000 milliseconds' PRECEDING AND CURRENT ROW) AS s, lag(price, 2) OVER (PARTITION BY _key_1 ORDER BY _time, _shard, _sequence) AS b, "SOURCE_SQL_STREAM_001"._shard AS _place_shard, "SOURCE_SQL_STREAM_001"._sequence AS _place_sequence, _is_new, _time FROM _rows_1 AS "SOURCE_SQL_STREAM_001") WHERE _is_new ORDER BY _time, _place_shard, _place_sequence"#,
    ),
    (
        r#"INSERT INTO out SELECT STREAM * FROM (SELECT STREAM ticker_symbol AS t, price, AVG(price) OVER (PARTITION BY ticker_symbol ROWS 2 PRECEDING) AS a FROM "SOURCE_SQL_STREAM_001") WHERE price > a"#,
        r#"pump out -> out (t, price, a)
SOURCE_SQL_STREAM_001 by arrival: SELECT ticker_symbol, price, _shard, _sequence, _arrival, _arrival AS _time FROM input AS "SOURCE_SQL_STREAM_001"
[Rows { per: ["ticker_symbol"], count: 2 }]: SELECT t, price, a, _place_shard, _place_sequence FROM (SELECT t, price, a, _place_shard, _place_sequence FROM (SELECT ticker_symbol AS t, price, AVG(price) OVER (PARTITION BY ticker_symbol ORDER BY _time, _shard, _sequence ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS a, "SOURCE_SQL_STREAM_001"._shard AS _place_shard, "SOURCE_SQL_STREAM_001"._sequence AS _place_sequence, _is_new, _time FROM _rows_1 AS "SOURCE_SQL_STREAM_001") WHERE _is_new) WHERE price > a"#,
    ),
    (
        r#"INSERT INTO out SELECT STREAM sector, ROWTIME, MIN(ROWTIME) AS first, CEIL(ROWTIME TO HOUR) AS hour, COUNT(DISTINCT ticker_symbol) AS c FROM "SOURCE_SQL_STREAM_001" WHERE ROWTIME > TIMESTAMP '2020-01-01 00:00:00' GROUP BY sector, CEIL(ROWTIME TO HOUR)"#,
        r#"pump out -> out (sector, rowtime, first, hour, c)
SOURCE_SQL_STREAM_001 by arrival: SELECT ticker_symbol, sector, _shard, _sequence, _arrival, _arrival AS _time FROM input AS "SOURCE_SQL_STREAM_001" WHERE _arrival > TIMESTAMP '2020-01-01 00:00:00'
Tumble { size: 3600s, offset: 0ns }: SELECT sector, window_end AS rowtime, MIN(_arrival) AS "first", window_end AS "hour", COUNT(DISTINCT ticker_symbol) AS c FROM _rows_1 AS "SOURCE_SQL_STREAM_001" GROUP BY window_start, window_end, sector ORDER BY window_end, window_start"#,
    ),
    (
        r#"INSERT INTO out SELECT STREAM sector, STEP(event_time BY INTERVAL '1' HOUR) AS bucket, count(*) AS n FROM "SOURCE_SQL_STREAM_001" GROUP BY sector, FLOOR(ROWTIME TO MINUTE), STEP(event_time BY INTERVAL '1' HOUR)"#,
        r#"pump out -> out (sector, bucket, n)
SOURCE_SQL_STREAM_001 by arrival: SELECT sector, event_time, _shard, _sequence, _arrival, _arrival AS _time FROM input AS "SOURCE_SQL_STREAM_001"
Tumble { size: 60s, offset: 0ns }: SELECT sector, date_bin(INTERVAL '3600000 milliseconds', event_time) AS "bucket", count(*) AS n FROM _rows_1 AS "SOURCE_SQL_STREAM_001" GROUP BY window_start, window_end, sector, date_bin(INTERVAL '3600000 milliseconds', event_time) ORDER BY window_end, window_start"#,
    ),
    (
        r#"INSERT INTO out SELECT STREAM t, total FROM (SELECT STREAM ticker_symbol AS t, sum(price) AS total FROM "SOURCE_SQL_STREAM_001" GROUP BY ticker_symbol, STEP(ROWTIME BY INTERVAL '60' SECOND)) WHERE total > 100"#,
        r#"pump out -> out (t, total)
SOURCE_SQL_STREAM_001 by arrival: SELECT ticker_symbol, price, _shard, _sequence, _arrival, _arrival AS _time FROM input AS "SOURCE_SQL_STREAM_001"
Tumble { size: 60s, offset: 0ns }: SELECT t, total FROM (SELECT ticker_symbol AS t, sum(price) AS total FROM _rows_1 AS "SOURCE_SQL_STREAM_001" GROUP BY window_start, window_end, ticker_symbol) WHERE total > 100"#,
    ),
    (
        r#"CREATE STREAM mid (p VARCHAR, n BIGINT); CREATE PUMP a AS INSERT INTO mid SELECT STREAM page, count(*) FROM clicks GROUP BY page, STEP(ROWTIME BY INTERVAL '1' SECOND); CREATE PUMP b STOPPED AS INSERT INTO out SELECT p, sum(n) AS n FROM mid GROUP BY p, FLOOR(mid.ROWTIME TO HOUR); INSERT INTO out SELECT p, n FROM mid WHERE n > 5; INSERT INTO out SELECT STREAM p FROM mid"#,
        r#"stream mid: p VARCHAR, n BIGINT
pump a -> mid (p, n)
clicks by arrival: SELECT page, _shard, _sequence, _arrival, _arrival AS _time FROM input AS clicks
Tumble { size: 1s, offset: 0ns }: SELECT page AS p, count(*) AS n FROM _rows_1 AS clicks GROUP BY window_start, window_end, page ORDER BY window_end, window_start
pump b stopped -> out (p, n)
mid by arrival: SELECT p, n, _shard, _sequence, _arrival, _arrival AS _time FROM input AS mid
Tumble { size: 3600s, offset: 0ns }: SELECT p, sum(n) AS n FROM _rows_1 AS mid GROUP BY window_start, window_end, p ORDER BY window_end, window_start
pump out -> out (p, n)
mid by arrival: SELECT p, n, _shard, _sequence, _arrival, _arrival AS _time FROM input AS mid WHERE n > 5
each: SELECT p, n, mid._shard AS _place_shard, mid._sequence AS _place_sequence FROM _rows_1 AS mid
pump out-2 -> out (p)
mid by arrival: SELECT p, _shard, _sequence, _arrival, _arrival AS _time FROM input AS mid
each: SELECT p, mid._shard AS _place_shard, mid._sequence AS _place_sequence FROM _rows_1 AS mid"#,
    ),
];

#[test]
fn statements_of_kinesis_are_planned() {
    compare(EXAMPLES);
}
