//! Statements of Flink, most of them from its documentation and from Nexmark.

use super::compare;

/// Statements and the sketches of their plans.
pub(super) const EXAMPLES: &[(&str, &str)] = &[
    (
        r#"INSERT INTO out SELECT window_start, window_end, SUM(price) AS total_price FROM TABLE(TUMBLE(TABLE Bid, DESCRIPTOR(bidtime), INTERVAL '10' MINUTES)) GROUP BY window_start, window_end"#,
        r#"pump out -> out (window_start, window_end, total_price)
bid by event: SELECT price, _shard, _sequence, _arrival, bidtime AS _time FROM input AS bid
Tumble { size: 600s, offset: 0ns }: SELECT window_start, window_end, SUM(price) AS total_price FROM _rows_1 AS bid GROUP BY window_start, window_end ORDER BY window_end, window_start"#,
    ),
    (
        r#"INSERT INTO out SELECT * FROM TABLE(TUMBLE(DATA => TABLE Bid, TIMECOL => DESCRIPTOR(bidtime), SIZE => INTERVAL '10' MINUTES, OFFSET => INTERVAL '-1' MINUTES))"#,
        r#"pump out -> out (item, price, supplier_id, bidtime, window_start, window_end)
bid by event: SELECT item, price, supplier_id, bidtime, _shard, _sequence, _arrival, bidtime AS _time FROM input AS bid
Tumble { size: 600s, offset: 540s }: SELECT bid.item AS item, bid.price AS price, bid.supplier_id AS supplier_id, bid.bidtime AS bidtime, bid.window_start AS window_start, bid.window_end AS window_end FROM _rows_1 AS bid ORDER BY bid.window_end, bid.window_start"#,
    ),
    (
        r#"INSERT INTO out SELECT * FROM TABLE(HOP(TABLE bid, DESCRIPTOR(bidtime), INTERVAL '5' MINUTES, INTERVAL '10' MINUTES)) WHERE price > 3 AND window_end > window_start"#,
        r#"pump out -> out (item, price, supplier_id, bidtime, window_start, window_end)
bid by event: SELECT item, price, supplier_id, bidtime, _shard, _sequence, _arrival, bidtime AS _time FROM input AS bid WHERE price > 3
Hop { size: 600s, slide: 300s, offset: 0ns }: SELECT bid.item AS item, bid.price AS price, bid.supplier_id AS supplier_id, bid.bidtime AS bidtime, bid.window_start AS window_start, bid.window_end AS window_end FROM _rows_1 AS bid WHERE window_end > window_start ORDER BY bid.window_end, bid.window_start"#,
    ),
    (
        r#"INSERT INTO out SELECT window_start, window_end, window_time, SUM(price) AS p FROM HOP(DATA => TABLE bid, TIMECOL => DESCRIPTOR(bidtime), SLIDE => INTERVAL '5' MINUTES, SIZE => INTERVAL '10' MINUTES, OFFSET => INTERVAL '1' MINUTE) GROUP BY window_start, window_end, window_time"#,
        r#"pump out -> out (window_start, window_end, window_time, p)
bid by event: SELECT price, _shard, _sequence, _arrival, bidtime AS _time FROM input AS bid
Hop { size: 600s, slide: 300s, offset: 60s }: SELECT window_start, window_end, (window_end - INTERVAL '1 milliseconds') AS window_time, SUM(price) AS p FROM _rows_1 AS bid GROUP BY window_start, window_end, (window_end - INTERVAL '1 milliseconds') ORDER BY window_end, window_start"#,
    ),
    (
        r#"INSERT INTO out SELECT window_start, window_end, SUM(price) AS p FROM TABLE(CUMULATE(TABLE bid, DESCRIPTOR(ROWTIME), INTERVAL '2' MINUTES, INTERVAL '10' MINUTES)) GROUP BY window_start, window_end"#,
        r#"pump out -> out (window_start, window_end, p)
bid by arrival: SELECT price, _shard, _sequence, _arrival, _arrival AS _time FROM input AS bid
Cumulate { max: 600s, step: 120s }: SELECT window_start, window_end, SUM(price) AS p FROM _rows_1 AS bid GROUP BY window_start, window_end ORDER BY window_end, window_start"#,
    ),
    (
        r#"INSERT INTO out SELECT window_start, window_end, item, SUM(price) AS p FROM TABLE(SESSION(TABLE bid PARTITION BY item, DESCRIPTOR(bidtime), INTERVAL '5' MINUTES)) GROUP BY item, window_start, window_end"#,
        r#"pump out -> out (window_start, window_end, item, p)
bid by event: SELECT item, price, _shard, _sequence, _arrival, bidtime AS _time FROM input AS bid
Session { gap: 300s, keys: ["item"] }: SELECT window_start, window_end, item, SUM(price) AS p FROM _rows_1 AS bid GROUP BY item, window_start, window_end ORDER BY window_end, window_start"#,
    ),
    (
        r#"INSERT INTO out SELECT window_start, window_end, item, SUM(price) AS p FROM TABLE(SESSION(DATA => TABLE bid PARTITION BY item, supplier_id, TIMECOL => DESCRIPTOR(bidtime), GAP => INTERVAL '5' MINUTES)) GROUP BY item, supplier_id, window_start, window_end"#,
        r#"pump out -> out (window_start, window_end, item, p)
bid by event: SELECT item, price, supplier_id, _shard, _sequence, _arrival, bidtime AS _time FROM input AS bid
Session { gap: 300s, keys: ["item", "supplier_id"] }: SELECT window_start, window_end, item, SUM(price) AS p FROM _rows_1 AS bid GROUP BY item, supplier_id, window_start, window_end ORDER BY window_end, window_start"#,
    ),
    (
        r#"INSERT INTO out SELECT item, TUMBLE_START(bidtime, INTERVAL '1' DAY) AS wStart, SUM(price) AS p FROM bid GROUP BY TUMBLE(bidtime, INTERVAL '1' DAY), item"#,
        r#"pump out -> out (item, wstart, p)
bid by event: SELECT item, price, _shard, _sequence, _arrival, bidtime AS _time FROM input AS bid
Tumble { size: 86400s, offset: 0ns }: SELECT item, window_start AS wstart, SUM(price) AS p FROM _rows_1 AS bid GROUP BY window_start, window_end, item ORDER BY window_end, window_start"#,
    ),
    (
        r#"INSERT INTO out SELECT upper(item) AS k, SESSION_END(bidtime, INTERVAL '12' HOUR) AS e, SUM(price) AS p FROM bid GROUP BY SESSION(bidtime, INTERVAL '12' HOUR), upper(item)"#,
        r#"pump out -> out (k, e, p)
bid by event: SELECT price, upper(item) AS _key_1, _shard, _sequence, _arrival, bidtime AS _time FROM input AS bid
Session { gap: 43200s, keys: ["_key_1"] }: SELECT _key_1 AS k, window_end AS e, SUM(price) AS p FROM _rows_1 AS bid GROUP BY window_start, window_end, _key_1 ORDER BY window_end, window_start"#,
    ),
    (
        r#"INSERT INTO out SELECT item, HOP_END(ROWTIME, INTERVAL '1' SECOND, INTERVAL '5' SECOND) AS e, max(price) AS p FROM bid GROUP BY HOP(ROWTIME, INTERVAL '1' SECOND, INTERVAL '5' SECOND), item"#,
        r#"pump out -> out (item, e, p)
bid by arrival: SELECT item, price, _shard, _sequence, _arrival, _arrival AS _time FROM input AS bid
Hop { size: 5s, slide: 1s, offset: 0ns }: SELECT item, window_end AS e, max(price) AS p FROM _rows_1 AS bid GROUP BY window_start, window_end, item ORDER BY window_end, window_start"#,
    ),
    (
        r#"INSERT INTO out SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY price DESC) as rownum FROM (SELECT window_start, window_end, supplier_id, SUM(price) as price, COUNT(*) as cnt FROM TABLE(TUMBLE(TABLE Bid, DESCRIPTOR(bidtime), INTERVAL '10' MINUTES)) GROUP BY window_start, window_end, supplier_id)) WHERE rownum <= 3"#,
        r#"pump out -> out (window_start, window_end, supplier_id, price, cnt, rownum)
bid by event: SELECT price, supplier_id, _shard, _sequence, _arrival, bidtime AS _time FROM input AS bid
Tumble { size: 600s, offset: 0ns }: SELECT window_start, window_end, supplier_id, price, cnt, rownum FROM (SELECT window_start, window_end, supplier_id, price, cnt, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY price DESC) AS rownum FROM (SELECT window_start, window_end, supplier_id, SUM(price) AS price, COUNT(*) AS cnt FROM _rows_1 AS bid GROUP BY window_start, window_end, supplier_id)) WHERE rownum <= 3"#,
    ),
    (
        r#"INSERT INTO out SELECT order_time, SUM(amount) OVER (PARTITION BY product ORDER BY order_time RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW) AS s FROM orders"#,
        r#"pump out -> out (order_time, s)
orders by event: SELECT product, amount, order_time, _shard, _sequence, _arrival, order_time AS _time FROM input AS orders
[Range(3600s)]: SELECT order_time, s, _place_shard, _place_sequence FROM (SELECT order_time, SUM(amount) OVER (PARTITION BY product ORDER BY _time RANGE BETWEEN INTERVAL '3600000 milliseconds' PRECEDING AND CURRENT ROW) AS s, orders._shard AS _place_shard, orders._sequence AS _place_sequence, _is_new, _time FROM _rows_1 AS orders) WHERE _is_new ORDER BY _time, _place_shard, _place_sequence"#,
    ),
    (
        r#"INSERT INTO out SELECT AB.item, AB.num FROM (SELECT item, count(*) AS num, window_start AS s, window_end AS e FROM TABLE(HOP(TABLE bid, DESCRIPTOR(bidtime), INTERVAL '2' SECOND, INTERVAL '10' SECOND)) WHERE price > 1 GROUP BY item, window_start, window_end) AS AB JOIN (SELECT max(num) AS maxn, s, e FROM (SELECT count(*) AS num, window_start AS s, window_end AS e FROM TABLE(HOP(TABLE bid, DESCRIPTOR(bidtime), INTERVAL '2' SECOND, INTERVAL '10' SECOND)) GROUP BY item, window_start, window_end) AS c GROUP BY s, e) AS m ON AB.s = m.s AND AB.e = m.e AND AB.num >= m.maxn"#,
        r#"pump out -> out (item, num)
bid by event: SELECT item, price, _shard, _sequence, _arrival, bidtime AS _time FROM input AS bid
Hop { size: 10s, slide: 2s, offset: 0ns } separately: SELECT ab.item AS item, ab.num AS num FROM (SELECT item, count(*) AS num, window_start AS s, window_end AS e FROM _rows_1 AS bid WHERE price > 1 GROUP BY item, window_start, window_end) AS AB JOIN (SELECT max(num) AS maxn, s, e FROM (SELECT count(*) AS num, window_start AS s, window_end AS e FROM _rows_1 AS bid GROUP BY item, window_start, window_end) AS c GROUP BY s, e) AS m ON ab.s = m.s AND ab.e = m.e AND ab.num >= m.maxn"#,
    ),
    (
        r#"INSERT INTO out SELECT p.id, p.s FROM (SELECT id, window_start AS s, window_end AS e FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(order_time), INTERVAL '10' SECOND)) GROUP BY id, window_start, window_end) AS p JOIN (SELECT order_id, window_start AS s, window_end AS e FROM TABLE(TUMBLE(TABLE shipments, DESCRIPTOR(ship_time), INTERVAL '10' SECOND)) GROUP BY order_id, window_start, window_end) AS a ON p.id = a.order_id AND p.s = a.s AND p.e = a.e"#,
        r#"pump out -> out (id, s)
orders by event: SELECT "id", _shard, _sequence, _arrival, order_time AS _time FROM input AS orders
shipments by event: SELECT order_id, _shard, _sequence, _arrival, ship_time AS _time FROM input AS shipments
Tumble { size: 10s, offset: 0ns } separately: SELECT p."id" AS "id", p.s AS s FROM (SELECT "id", window_start AS s, window_end AS e FROM _rows_1 AS orders GROUP BY "id", window_start, window_end) AS p JOIN (SELECT order_id, window_start AS s, window_end AS e FROM _rows_2 AS shipments GROUP BY order_id, window_start, window_end) AS a ON p."id" = a.order_id AND p.s = a.s AND p.e = a.e"#,
    ),
    (
        r#"INSERT INTO out WITH slow AS (SELECT page, ms, at FROM clicks WHERE ms > 100) SELECT page, count(*) AS n FROM TABLE(TUMBLE(TABLE slow, DESCRIPTOR(at), INTERVAL '1' MINUTE)) GROUP BY page, window_start, window_end"#,
        r#"pump out -> out (page, n)
clicks by event: SELECT page, _shard, _sequence, _arrival, "at" AS _time FROM (SELECT page AS page, ms AS ms, "at" AS "at", _shard AS _shard, _sequence AS _sequence, _arrival AS _arrival FROM input AS clicks WHERE ms > 100) AS slow
Tumble { size: 60s, offset: 0ns }: SELECT page, count(*) AS n FROM _rows_1 AS slow GROUP BY page, window_start, window_end ORDER BY window_end, window_start"#,
    ),
    (
        r#"INSERT INTO out SELECT item, price FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(bidtime), INTERVAL '1' MINUTE)) WHERE price > (SELECT avg(price) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(bidtime), INTERVAL '1' MINUTE)))"#,
        r#"pump out -> out (item, price)
bid by event: SELECT item, price, _shard, _sequence, _arrival, bidtime AS _time FROM input AS bid
Tumble { size: 60s, offset: 0ns } separately: SELECT item, price FROM _rows_1 AS bid WHERE price > (SELECT avg(price) AS "avg(price)" FROM _rows_1 AS bid)"#,
    ),
    (
        r#"INSERT INTO out SELECT count(*) AS n FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(bidtime), INTERVAL '1' MINUTE))"#,
        r#"pump out -> out (n)
bid by event: SELECT _shard, _sequence, _arrival, bidtime AS _time FROM input AS bid
Tumble { size: 60s, offset: 0ns } separately: SELECT count(*) AS n FROM _rows_1 AS bid"#,
    ),
];

#[test]
fn statements_of_flink_are_planned() {
    compare(EXAMPLES);
}
