//! Queries of whole streams.
#![cfg(feature = "sql")]

use streamlog::query::{Catalog, QueryError, Schema};
use streamlog::{PutRecord, Stream};

mod common;

fn answer(catalog: &Catalog, statement: &str) -> String {
    match catalog.query(statement).and_then(|mut rows| rows.to_table()) {
        Ok(table) => table,
        Err(error) => panic!("{statement}: {error}"),
    }
}

#[test]
fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    let stream = Stream::open(dir.path()).unwrap();
    let catalog = Catalog::new().stream("clicks", &stream, Schema::raw()).unwrap();
    for i in 0..100_000 {
        stream.put(&format!("k{}", i % 7), &format!("{i}")).unwrap();
    }
    for s in [
        "SELECT * FROM clicks LIMIT 3",
        "SELECT _key, count(*) n FROM clicks GROUP BY _KEY ORDER BY n DESC, 1",
        "SHOW TABLES",
        "DESCRIBE clicks",
        "EXPLAIN SELECT count(*) FROM clicks WHERE _sequence > 500 AND _key = 'k1'",
        "SELECT count(*) FROM clicks WHERE _sequence >= 500 AND _key = 'k1'",
        "EXPLAIN SELECT count(*) FROM clicks WHERE _sequence < 500 and _arrival > now() - interval '1 minute'",
        "EXPLAIN ANALYZE SELECT _key FROM clicks ORDER BY _sequence DESC LIMIT 3",
    ] {
        println!("{s}\n{}", answer(&catalog, s));
    }
    for s in [
        "SELECT pgae FROM clicks",
        "SELECT 1 +\n FROM clicks",
        "SELECT * FROM click",
        "SELECT foo(1)",
        "SELECT _key, count(*) FROM clicks",
        "INSERT INTO x SELECT 1",
        "SELECT 'a' + INTERVAL '1 day'",
        "SELECT upper(1,2)",
        "SELECT 1/0",
    ] {
        let e = catalog.query(s).and_then(|mut r| r.to_table());
        match e {
            Err(e) => println!("{e}\n"),
            Ok(t) => println!("OK {s}\n{t}"),
        }
    }
}
