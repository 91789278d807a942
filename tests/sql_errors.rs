//! What statements that cannot be run are answered.
#![cfg(feature = "sql")]

use streamlog::Stream;
use streamlog::query::{Catalog, Schema};

const COLUMNS: &str = "page VARCHAR, ms DOUBLE, at TIMESTAMP, user STRUCT<id BIGINT, name VARCHAR>, tags VARCHAR[], \"userId\" BIGINT";

#[test]
fn show() {
    let dir = tempfile::tempdir().unwrap();
    let stream = Stream::open(dir.path().join("s")).unwrap();
    std::fs::write(dir.path().join("u.csv"), "id,page,name\n1,a,b\n").unwrap();
    stream.put("k", r#"{"page": "x", "ms": 1.5, "at": "2026-01-01T00:00:00Z", "user": {"id": 5, "name": "n"}, "tags": ["a"], "userId": 4}"#).unwrap();
    let catalog = Catalog::new()
        .stream("clicks", &stream, Schema::json(COLUMNS).unwrap())
        .unwrap()
        .file("users", dir.path().join("u.csv"))
        .unwrap();
    let all = std::env::var("STATEMENTS").unwrap_or_default();
    for s in all.split("\n;\n") {
        match catalog.query(s).and_then(|mut r| r.to_table()) {
            Err(e) => println!("{e}\n"),
            Ok(t) => println!("OK {s}\n{t}"),
        }
    }
}
