//! Joins of streams.

use super::compare;

/// Statements and the sketches of their plans.
pub(super) const EXAMPLES: &[(&str, &str)] = &[
    (
        r#"INSERT INTO out SELECT o.id, s.id AS sid FROM orders o JOIN shipments s ON o.id = s.order_id AND s.ship_time BETWEEN o.order_time AND o.order_time + INTERVAL '4' HOUR WHERE o.amount > 3"#,
        r#"pump out -> out (id, sid)
orders by event: SELECT "id", order_time, _shard, _sequence, _arrival, order_time AS _time FROM input AS o WHERE o.amount > 3
shipments by event: SELECT "id", order_id, ship_time, _shard, _sequence, _arrival, ship_time AS _time FROM input AS s
Inner 14400s 0ns: SELECT o."id" AS "id", s."id" AS sid, o._shard AS _left_shard, o._sequence AS _left_sequence, s._shard AS _right_shard, s._sequence AS _right_sequence FROM _rows_1 AS o JOIN _rows_2 AS s ON o."id" = s.order_id AND s.ship_time BETWEEN o.order_time AND o.order_time + INTERVAL '4' HOUR WHERE (o._is_new OR s._is_new)"#,
    ),
    (
        r#"INSERT INTO out SELECT o.id, s.id AS sid FROM orders o, shipments s WHERE o.id = s.order_id AND o.order_time BETWEEN s.ship_time - INTERVAL '4' HOUR AND s.ship_time"#,
        r#"pump out -> out (id, sid)
orders by event: SELECT "id", order_time, _shard, _sequence, _arrival, order_time AS _time FROM input AS o
shipments by event: SELECT "id", order_id, ship_time, _shard, _sequence, _arrival, ship_time AS _time FROM input AS s
Inner 14400s 0ns: SELECT o."id" AS "id", s."id" AS sid, o._shard AS _left_shard, o._sequence AS _left_sequence, s._shard AS _right_shard, s._sequence AS _right_sequence FROM _rows_1 AS o, _rows_2 AS s WHERE o."id" = s.order_id AND o.order_time BETWEEN s.ship_time - INTERVAL '4' HOUR AND s.ship_time AND (o._is_new OR s._is_new)"#,
    ),
    (
        r#"INSERT INTO out SELECT o.id, s.id AS sid FROM orders o LEFT JOIN shipments s ON o.id = s.order_id AND s.ship_time BETWEEN o.order_time AND o.order_time + INTERVAL '4' HOUR WHERE o.amount > 3 AND s.id IS NULL"#,
        r#"pump out -> out (id, sid)
orders by event: SELECT "id", order_time, _shard, _sequence, _arrival, order_time AS _time FROM input AS o WHERE o.amount > 3
shipments by event: SELECT "id", order_id, ship_time, _shard, _sequence, _arrival, ship_time AS _time FROM input AS s
Left 14400s 0ns: SELECT o."id" AS "id", s."id" AS sid, o._shard AS _left_shard, o._sequence AS _left_sequence, s._shard AS _right_shard, s._sequence AS _right_sequence, coalesce(s."id" IS NULL, false) AS _kept FROM _rows_1 AS o INNER JOIN _rows_2 AS s ON o."id" = s.order_id AND s.ship_time BETWEEN o.order_time AND o.order_time + INTERVAL '4' HOUR WHERE o._is_new OR s._is_new
alone: SELECT o."id" AS "id", s."id" AS sid FROM _rows_1 AS o LEFT JOIN _rows_2 AS s ON o."id" = s.order_id AND s.ship_time BETWEEN o.order_time AND o.order_time + INTERVAL '4' HOUR WHERE s."id" IS NULL"#,
    ),
    (
        r#"INSERT INTO out SELECT o.id, s.id AS sid FROM orders o RIGHT JOIN shipments s ON o.id = s.order_id AND o.order_time >= s.ship_time - INTERVAL '1' HOUR AND o.order_time < s.ship_time + INTERVAL '90' SECOND"#,
        r#"pump out -> out (id, sid)
orders by event: SELECT "id", order_time, _shard, _sequence, _arrival, order_time AS _time FROM input AS o
shipments by event: SELECT "id", order_id, ship_time, _shard, _sequence, _arrival, ship_time AS _time FROM input AS s
Right 3600s 90s: SELECT o."id" AS "id", s."id" AS sid, o._shard AS _left_shard, o._sequence AS _left_sequence, s._shard AS _right_shard, s._sequence AS _right_sequence, true AS _kept FROM _rows_1 AS o INNER JOIN _rows_2 AS s ON o."id" = s.order_id AND o.order_time >= s.ship_time - INTERVAL '1' HOUR AND o.order_time < s.ship_time + INTERVAL '90' SECOND WHERE o._is_new OR s._is_new
alone: SELECT o."id" AS "id", s."id" AS sid FROM _rows_1 AS o RIGHT JOIN _rows_2 AS s ON o."id" = s.order_id AND o.order_time >= s.ship_time - INTERVAL '1' HOUR AND o.order_time < s.ship_time + INTERVAL '90' SECOND"#,
    ),
    (
        r#"INSERT INTO out SELECT a.page, b.page AS next FROM clicks a FULL JOIN clicks b ON a.page = b.page AND b.ROWTIME > a.ROWTIME AND b.ROWTIME <= a.ROWTIME + INTERVAL '1' MINUTE"#,
        r#"pump out -> out (page, next)
clicks by arrival: SELECT page, _shard, _sequence, _arrival, _arrival AS _time FROM input AS a
clicks by arrival: SELECT page, _shard, _sequence, _arrival, _arrival AS _time FROM input AS b
Full 60s 0ns: SELECT a.page AS page, b.page AS "next", a._shard AS _left_shard, a._sequence AS _left_sequence, b._shard AS _right_shard, b._sequence AS _right_sequence, true AS _kept FROM _rows_1 AS a INNER JOIN _rows_2 AS b ON a.page = b.page AND b._arrival > a._arrival AND b._arrival <= a._arrival + INTERVAL '1' MINUTE WHERE a._is_new OR b._is_new
alone: SELECT a.page AS page, b.page AS "next" FROM _rows_1 AS a FULL JOIN _rows_2 AS b ON a.page = b.page AND b._arrival > a._arrival AND b._arrival <= a._arrival + INTERVAL '1' MINUTE"#,
    ),
    (
        r#"INSERT INTO out SELECT o.id, s.id AS sid FROM orders OVER (RANGE INTERVAL '1' MINUTE PRECEDING) AS o JOIN shipments OVER (RANGE INTERVAL '2' MINUTE PRECEDING) AS s ON o.id = s.order_id OR o.id = 0"#,
        r#"pump out -> out (id, sid)
orders by arrival: SELECT "id", _shard, _sequence, _arrival, _arrival AS _time FROM input AS o
shipments by arrival: SELECT "id", order_id, _shard, _sequence, _arrival, _arrival AS _time FROM input AS s
Inner 60s 120s: SELECT o."id" AS "id", s."id" AS sid, o._shard AS _left_shard, o._sequence AS _left_sequence, s._shard AS _right_shard, s._sequence AS _right_sequence FROM _rows_1 AS o JOIN _rows_2 AS s ON (o."id" = s.order_id OR o."id" = 0) AND s._time >= o._time - INTERVAL '120000 milliseconds' AND s._time <= o._time + INTERVAL '60000 milliseconds' WHERE (o._is_new OR s._is_new)"#,
    ),
    (
        r#"INSERT INTO out SELECT STREAM o.id, s.id AS sid FROM orders OVER (RANGE INTERVAL '1' MINUTE PRECEDING) AS o LEFT JOIN shipments AS s ON o.id = s.order_id"#,
        r#"pump out -> out (id, sid)
orders by arrival: SELECT "id", _shard, _sequence, _arrival, _arrival AS _time FROM input AS o
shipments by arrival: SELECT "id", order_id, _shard, _sequence, _arrival, _arrival AS _time FROM input AS s
Left 60s 0ns: SELECT o."id" AS "id", s."id" AS sid, o._shard AS _left_shard, o._sequence AS _left_sequence, s._shard AS _right_shard, s._sequence AS _right_sequence, true AS _kept FROM _rows_1 AS o INNER JOIN _rows_2 AS s ON (o."id" = s.order_id) AND s._time >= o._time - INTERVAL '0 milliseconds' AND s._time <= o._time + INTERVAL '60000 milliseconds' WHERE o._is_new OR s._is_new
alone: SELECT o."id" AS "id", s."id" AS sid FROM _rows_1 AS o LEFT JOIN _rows_2 AS s ON (o."id" = s.order_id) AND s._time >= o._time - INTERVAL '0 milliseconds' AND s._time <= o._time + INTERVAL '60000 milliseconds'"#,
    ),
    (
        r#"INSERT INTO out SELECT o.id, owner FROM (SELECT id, order_time AS t, product FROM orders WHERE amount > 1) AS o JOIN shipments s ON o.id = s.order_id AND s.ship_time = o.t JOIN pages ON page = o.product"#,
        r#"pump out -> out (id, owner)
orders by event: SELECT "id", t, product, _shard, _sequence, _arrival, t AS _time FROM (SELECT "id" AS "id", order_time AS t, product AS product, _shard AS _shard, _sequence AS _sequence, _arrival AS _arrival FROM input AS orders WHERE amount > 1) AS o
shipments by event: SELECT "id", order_id, ship_time, _shard, _sequence, _arrival, ship_time AS _time FROM input AS s
Inner 0ns 0ns: SELECT o."id" AS "id", "owner", o._shard AS _left_shard, o._sequence AS _left_sequence, s._shard AS _right_shard, s._sequence AS _right_sequence FROM _rows_1 AS o JOIN _rows_2 AS s ON o."id" = s.order_id AND s.ship_time = o.t JOIN pages ON page = o.product WHERE (o._is_new OR s._is_new)"#,
    ),
];

#[test]
fn joins_of_streams_are_planned() {
    compare(EXAMPLES);
}
