//! Queries over streams, each compared with DuckDB over the same rows in a Parquet file.

use crate::common;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Float64Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType, UInt64Type,
};
use datafusion::parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use streamlog::query::{Catalog, Schema};
use streamlog::{PutRecord, SECOND, Stream, StreamOptions};

/// Queries in SQL that both engines accept. Those that end in ORDER BY are compared in order.
const QUERIES: &[&str] = &[
    // System columns.
    "SELECT count(*) FROM clicks",
    "SELECT count(*), min(_sequence), max(_sequence) FROM clicks GROUP BY _shard ORDER BY _shard",
    "SELECT _shard, _sequence, _arrival, _key FROM clicks ORDER BY _shard, _sequence",
    "SELECT _sequence FROM clicks WHERE _shard = 1 AND _sequence BETWEEN 10 AND 20 ORDER BY 1",
    "SELECT _sequence FROM clicks WHERE _sequence >= 100 AND _sequence < 110 AND _shard IN (0, 2) ORDER BY _sequence, _shard",
    "SELECT count(*) FROM clicks WHERE _sequence = 5 OR _sequence = 7 OR _shard = 3",
    "SELECT count(*) FROM clicks WHERE NOT (_shard = 1 OR _sequence < 50)",
    "SELECT count(*) FROM clicks WHERE _shard <> 0 AND _sequence NOT IN (1, 2, 3)",
    "SELECT _shard, count(*) FROM clicks WHERE _arrival >= TIMESTAMPTZ '2023-11-14 22:20:00+00' GROUP BY 1 ORDER BY 1",
    "SELECT count(*) FROM clicks WHERE _arrival > TIMESTAMPTZ '2023-11-14 22:15:00+00' AND _arrival <= TIMESTAMPTZ '2023-11-14 22:18:00+00'",
    "SELECT count(*) FROM clicks WHERE _arrival < TIMESTAMPTZ '2023-11-14 22:16:00+00' OR _arrival > TIMESTAMPTZ '2023-11-14 22:25:00+00'",
    "SELECT count(*) FROM clicks WHERE _arrival BETWEEN TIMESTAMPTZ '2023-11-14 22:16:00+00' AND TIMESTAMPTZ '2023-11-14 22:17:00+00' AND page = '/cart'",
    "SELECT count(*) FROM clicks WHERE _arrival = TIMESTAMPTZ '1999-01-01 00:00:00+00'",
    "SELECT count(*) FROM clicks WHERE _key = 'user-7'",
    "SELECT DISTINCT _key FROM clicks WHERE _key LIKE 'user-1%' ORDER BY _key",
    "SELECT count(*) FROM clicks WHERE _key IN ('user-1', 'user-2', 'nobody') AND _sequence > 3",
    "SELECT max(_arrival), min(_arrival) FROM clicks",
    "SELECT count(DISTINCT _key), count(DISTINCT _shard) FROM clicks",
    "SELECT date_trunc('minute', _arrival) AS minute, count(*) FROM clicks GROUP BY 1 ORDER BY 1",
    "SELECT _data FROM clicks ORDER BY _shard, _sequence LIMIT 100",
    // Columns of the schema.
    "SELECT page, count(*), avg(ms) FROM clicks GROUP BY page ORDER BY page",
    "SELECT page, sum(ms), min(ms), max(ms), count(ms) FROM clicks GROUP BY page ORDER BY page",
    "SELECT * FROM (SELECT page, ms, is_new, _shard, _sequence FROM clicks) ORDER BY _shard, _sequence",
    "SELECT is_new, count(*) FROM clicks GROUP BY is_new ORDER BY is_new NULLS FIRST",
    "SELECT count(*) FROM clicks WHERE ms IS NULL",
    "SELECT count(*) FROM clicks WHERE page IS NOT NULL AND is_new",
    "SELECT count(*) FROM clicks WHERE ms > 50 AND page IN ('/cart', '/')",
    "SELECT count(*) FROM clicks WHERE ms BETWEEN 10 AND 20 OR is_new IS NULL",
    "SELECT user_id, count(*) AS n FROM clicks GROUP BY user_id HAVING count(*) > 20 ORDER BY n DESC, user_id",
    "SELECT page, user_id, count(*) FROM clicks GROUP BY page, user_id ORDER BY page NULLS LAST, user_id NULLS LAST",
    "SELECT DISTINCT page FROM clicks ORDER BY page NULLS LAST",
    "SELECT time, ms FROM clicks WHERE time IS NOT NULL ORDER BY time, ms NULLS LAST, _shard, _sequence LIMIT 20",
    "SELECT count(*) FROM clicks WHERE time >= TIMESTAMPTZ '2023-11-14 22:14:00+00' AND time < TIMESTAMPTZ '2023-11-14 22:15:00+00'",
    "SELECT max(time) FROM clicks WHERE page = '/cart'",
    "SELECT upper(page), length(page), substr(page, 2) FROM clicks GROUP BY page ORDER BY page NULLS LAST",
    "SELECT CASE WHEN ms < 25 THEN 'fast' WHEN ms < 75 THEN 'fair' ELSE 'slow' END AS speed, count(*) FROM clicks GROUP BY 1 ORDER BY 1",
    "SELECT coalesce(page, 'none') AS p, count(*) FROM clicks GROUP BY 1 ORDER BY 1",
    "SELECT page, round(avg(ms), 3) FROM clicks WHERE user_id % 2 = 0 GROUP BY page ORDER BY page NULLS FIRST",
    "SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM clicks",
    "SELECT stddev(ms), var_pop(ms) FROM clicks",
    "SELECT median(ms) FROM clicks",
    "SELECT CAST(price AS DOUBLE), count(*) FROM clicks GROUP BY 1 ORDER BY 1 NULLS LAST",
    "SELECT CAST(sum(price) AS DOUBLE) FROM clicks WHERE price > 10.5",
    // Nested values.
    "SELECT place.city, count(*) FROM clicks GROUP BY place.city ORDER BY 1 NULLS LAST",
    "SELECT place.city, place.zip + 1 FROM clicks WHERE place.zip IS NOT NULL ORDER BY _shard, _sequence",
    "SELECT count(*) FROM clicks WHERE place.city = 'Oslo' AND place.zip > 100",
    // Joins, sets, subqueries, windows.
    "SELECT c.page, count(*) FROM clicks c JOIN users u ON c.user_id = u.id WHERE u.plan = 'paid' GROUP BY c.page ORDER BY 1 NULLS LAST",
    "SELECT u.name, count(c._sequence) FROM users u LEFT JOIN clicks c ON c.user_id = u.id GROUP BY u.name ORDER BY u.name",
    "SELECT count(*) FROM clicks a JOIN clicks b ON a._shard = b._shard AND a._sequence + 1 = b._sequence WHERE a.page = b.page",
    "SELECT count(*) FROM clicks WHERE user_id IN (SELECT id FROM users WHERE plan = 'free')",
    "SELECT count(*) FROM clicks c WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.id = c.user_id)",
    "SELECT name FROM users WHERE id = (SELECT max(user_id) FROM clicks WHERE user_id < 10)",
    "WITH slow AS (SELECT page, ms FROM clicks WHERE ms > 90) SELECT page, count(*) FROM slow GROUP BY page ORDER BY page NULLS LAST",
    "SELECT page FROM clicks WHERE _shard = 0 UNION SELECT page FROM clicks WHERE _shard = 1 ORDER BY 1 NULLS LAST",
    "SELECT user_id FROM clicks INTERSECT SELECT id FROM users ORDER BY 1",
    "SELECT user_id FROM clicks WHERE user_id IS NOT NULL EXCEPT SELECT id FROM users ORDER BY 1",
    "SELECT _shard, _sequence, row_number() OVER (PARTITION BY page ORDER BY _shard, _sequence) FROM clicks WHERE page = '/cart' ORDER BY 1, 2",
    "SELECT _shard, _sequence, sum(ms) OVER (PARTITION BY _shard ORDER BY _sequence ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM clicks ORDER BY 1, 2",
    "SELECT _shard, _sequence, lag(page) OVER (PARTITION BY _shard ORDER BY _sequence) FROM clicks ORDER BY 1, 2 LIMIT 50",
    "SELECT page, n FROM (SELECT page, count(*) AS n, rank() OVER (ORDER BY count(*) DESC) AS r FROM clicks GROUP BY page) WHERE r <= 2 ORDER BY n DESC, page",
    "SELECT page, _shard, count(*) FROM clicks GROUP BY ROLLUP (page, _shard) ORDER BY page NULLS LAST, _shard NULLS LAST, 3",
    "SELECT _shard, _sequence FROM clicks ORDER BY _shard DESC, _sequence DESC LIMIT 7",
    "SELECT _shard, _sequence FROM clicks ORDER BY _shard, _sequence LIMIT 5 OFFSET 300",
    "SELECT count(*) FROM (SELECT * FROM clicks LIMIT 17)",
    "SELECT count(*) FROM clicks WHERE 1 = 0",
    "SELECT (SELECT count(*) FROM clicks) - (SELECT count(*) FROM clicks WHERE _shard = 0) - (SELECT count(*) FROM clicks WHERE _shard > 0)",
    "SELECT count(*) FROM clicks, users WHERE _shard = 0 AND _sequence < 5",
];

/// Puts rows of all kinds into shards, some of which are closed by a split and a merge.
fn fill(stream: &Stream, clock: &streamlog::ManualClock) {
    let pages = [Some("/"), Some("/cart"), Some("/p/17"), Some("/Zoë \"x\""), None];
    for number in 0..1_500_u64 {
        clock.advance(SECOND / 2);
        let mut row = json!({"user_id": number * 7 % 41});
        let page = pages[(number * 3 % 5) as usize];
        row["page"] = json!(page);
        if !number.is_multiple_of(11) {
            row["ms"] = json!((number * 37 % 1000) as f64 / 10.0);
        }
        if !number.is_multiple_of(4) {
            row["is_new"] = json!(number.is_multiple_of(3));
        }
        if number.is_multiple_of(2) {
            row["time"] = json!(1_700_000_000_000_u64 + number * 250);
        }
        if number.is_multiple_of(3) {
            row["price"] = json!(format!("{}.{:02}", number % 40, number % 100));
        }
        match number % 6 {
            0 => row["place"] = json!({"city": "Oslo", "zip": number % 200}),
            1 => row["place"] = json!({"city": "Bergen"}),
            2 => row["place"] = json!(null),
            _ => {}
        }
        let key = format!("user-{}", number % 13);
        stream.put_record(&PutRecord::new(&key, &row.to_string())).unwrap();
        match number {
            500 => _ = stream.split_shard_evenly(stream.shards()[0].id).unwrap(),
            900 => {
                let open: Vec<_> = stream.shards().into_iter().filter(|shard| shard.is_open()).collect();
                let of_range = |range: streamlog::HashKeyRange| {
                    open.iter().find(|shard| range.is_followed_by(&shard.hash_key_range))
                };
                let (shard, adjacent) =
                    open.iter().find_map(|shard| Some((shard, of_range(shard.hash_key_range)?))).unwrap();
                stream.merge_shards(shard.id, adjacent.id).unwrap();
            }
            _ => {}
        }
    }
}

const COLUMNS: &str = "page VARCHAR, user_id BIGINT, ms DOUBLE, is_new BOOLEAN, time TIMESTAMP, price DECIMAL(10, 2), \
                       place STRUCT<city VARCHAR, zip INTEGER>";

fn write_parquet(path: &Path, schema: &SchemaRef, batches: &[RecordBatch]) {
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema.clone(), None).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
}

/// Returns a value as the Python program prints DuckDB's.
fn plain(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    let as_type = |of: &DataType| cast(column, of).unwrap();
    match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => {
            as_type(&DataType::Utf8).as_string::<i32>().value(row).into()
        }
        DataType::Binary => {
            let bytes = column.as_binary::<i32>().value(row);
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
        }
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into(),
        of if of.is_integer() => as_type(&DataType::Int64).as_primitive::<Int64Type>().value(row).into(),
        DataType::Timestamp(..) => {
            let micros = as_type(&DataType::Timestamp(TimeUnit::Microsecond, None));
            micros.as_primitive::<TimestampMicrosecondType>().value(row).into()
        }
        DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => {
            as_type(&DataType::Float64).as_primitive::<Float64Type>().value(row).into()
        }
        other => panic!("a column of the type {other}"),
    }
}

fn is_same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
        }
        _ => ours == theirs,
    }
}

#[test]
fn queries_return_what_duckdb_returns_for_the_same_rows() {
    let Some(python) = common::python::with("duckdb") else { return };
    let (scratch, clock) = (common::scratch(), common::clock());
    let options = StreamOptions::new().shards(3).segment_bytes(64 << 10).clock(clock.clone());
    let stream = options.open(scratch.path().join("stream")).unwrap();
    fill(&stream, &clock);
    let users = scratch.path().join("users.csv");
    let mut lines = String::from("id,name,plan\n");
    for id in 0..20 {
        lines += &format!("{id},name {id},{}\n", if id % 3 == 0 { "paid" } else { "free" });
    }
    std::fs::write(&users, lines).unwrap();
    let catalog = Catalog::new().stream("clicks", &stream, Schema::json(COLUMNS).unwrap()).unwrap();
    let catalog = catalog.file("users", &users).unwrap();
    // Later records are not in the Parquet files; the queries below do not put any.
    let mut tables = json!({});
    for table in ["clicks", "users"] {
        let columns = if table == "clicks" {
            "_shard, _sequence, _arrival, _key, _data, page, user_id, ms, is_new, time, price, place"
        } else {
            "*"
        };
        let rows = catalog.query(&format!("SELECT {columns} FROM {table}")).unwrap();
        let schema = rows.schema();
        let batches: Vec<_> = rows.map(Result::unwrap).collect();
        let path = scratch.path().join(format!("{table}.parquet"));
        write_parquet(&path, &schema, &batches);
        tables[table] = json!(path);
    }
    let mut child = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql/run_duckdb.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let task = json!({"tables": tables, "queries": QUERIES}).to_string();
    child.stdin.take().unwrap().write_all(task.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let answers: Vec<Value> =
        serde_json::Deserializer::from_slice(&output.stdout).into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.len(), QUERIES.len());
    let mut wrong = vec![];
    for (query, answer) in QUERIES.iter().zip(&answers) {
        let ours = catalog.query(query).and_then(|rows| rows.collect::<Result<Vec<_>, _>>());
        let ours = ours.map(|batches| {
            let of_row = |batch: &RecordBatch, row| -> Value {
                batch.columns().iter().map(|column| plain(column, row)).collect()
            };
            let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
            Value::Array(rows.map(|(batch, row)| of_row(batch, row)).collect())
        });
        match (ours, &answer["rows"]) {
            (Ok(ours), theirs @ Value::Array(rows)) if is_same(&ours, theirs) => {
                assert!(!rows.is_empty(), "{query} has no rows, and proves nothing");
            }
            (ours, _) => wrong.push(format!("{query}\nours:   {ours:?}\nDuckDB: {answer}")),
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n\n"));
}
