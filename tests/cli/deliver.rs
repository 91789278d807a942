//! Deliveries from the command line.

use super::*;

#[test]
#[cfg(not(feature = "delivery"))]
fn a_tool_without_deliveries_says_so() {
    let place = Place::create(&[]);
    fails(&place.run("deliver", &["--to", "archive"]), &["built without deliveries", "--features delivery"]);
}

#[cfg(feature = "delivery")]
fn files(path: &Path, to: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, to);
        } else {
            to.push((path.to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()));
        }
    }
}

#[test]
#[cfg(feature = "delivery")]
fn a_stream_is_delivered_once_and_then_what_is_new() {
    let place = Place::create(&["--shards", "2"]);
    let archive = place.directory.path().join("archive");
    let to = ["--to", archive.to_str().unwrap()];
    let options = [&to[..], &["--format", "json-lines", "--partition-by", "kind=.kind"]].concat();
    let options = [&options[..], &["--prefix", "kind=!{partitionKeyFromQuery:kind}/"]].concat();
    let lines: Vec<String> =
        (0..100).map(|number| format!("{{\"kind\":\"k{}\",\"n\":{number}}}\n", number % 3)).collect();
    succeeds(&place.put(lines.concat().as_bytes(), &[]));
    succeeds(&place.put(b"no json\n", &[]));
    let said = place.print("deliver", &options);
    assert!(
        said.starts_with("delivered 100 records in ") && said.contains("1 record in the error output"),
        "{said}"
    );
    assert_eq!(place.json("deliver", &options)["record_count"], 0, "nothing is new");
    succeeds(&place.put(b"{\"kind\":\"k0\",\"n\":100}\n", &[]));
    assert_eq!(place.json("deliver", &options)["record_count"], 1);

    let mut found = vec![];
    files(&archive, &mut found);
    let is_error = |name: &str| name.contains("/errors/processing-failed/");
    assert_eq!(found.iter().filter(|(name, _)| is_error(name)).count(), 1);
    let mut numbers: Vec<u64> = vec![];
    for (name, bytes) in found.iter().filter(|(name, _)| !is_error(name)) {
        for line in std::str::from_utf8(bytes).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            assert!(name.contains(&format!("/kind={}/", line["kind"].as_str().unwrap())), "{name}");
            numbers.push(line["n"].as_u64().unwrap());
        }
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..=100).collect::<Vec<_>>());
    fails(&place.run("deliver", &[&to[..], &["--prefix", "/a"]].concat()), &["slash"]);
}

#[test]
#[cfg(all(feature = "delivery", not(feature = "parquet")))]
fn a_tool_without_parquet_says_so() {
    let place = Place::create(&[]);
    fails(
        &place.run("deliver", &["--to", "archive", "--format", "parquet"]),
        &["built without Parquet", "--features parquet"],
    );
}

/// Prints the rows of all files below a directory as JSON, with the types of the columns before them.
#[cfg(feature = "parquet")]
const READ: &str = r##"
import glob, json, sys
library, directory = sys.argv[1:]
files = sorted(glob.glob(directory + "/2*/**/*.parquet", recursive=True))
if library == "pyarrow":
    import pyarrow.parquet
    tables = [pyarrow.parquet.read_table(file) for file in files]
    assert all(table.schema == tables[0].schema for table in tables)
    print(",".join(f"{field.name} {field.type}" for field in tables[0].schema))
    rows = [row for table in tables for row in table.to_pylist()]
else:
    import duckdb
    rows = duckdb.sql(f"select * from read_parquet({files!r})")
    print(",".join(f"{name} {kind}" for name, kind in zip(rows.columns, rows.types)))
    rows = [dict(zip(rows.columns, row)) for row in rows.fetchall()]
for row in sorted(rows, key=lambda row: row["n"]):
    print(json.dumps(row, sort_keys=True))
"##;

#[test]
#[cfg(feature = "parquet")]
fn a_stream_is_delivered_as_parquet_with_a_schema_from_its_records_or_with_a_given_one() {
    let place = Place::create(&["--shards", "2"]);
    let lines: Vec<String> = (0..100)
        .map(|number| match number % 4 {
            0 => format!("{{\"n\": {number}, \"price\": {number}}}\n"),
            _ => format!("{{\"n\": {number}, \"price\": {number}.5, \"tags\": [\"a\", null]}}\n"),
        })
        .collect();
    succeeds(&place.put(lines.concat().as_bytes(), &[]));
    succeeds(&place.put(b"no json\n", &[]));
    let archive = place.directory.path().join("archive");
    let to = ["--to", archive.to_str().unwrap(), "--format", "parquet", "--compression", "gzip"];
    let schema = "n int64, price double, tags list<string>";
    let said = place.print("deliver", &to);
    assert!(
        said.starts_with("delivered 100 records in ") && said.contains("1 record in the error output"),
        "{said}"
    );
    assert!(said.ends_with(&format!("schema: {schema}\n")), "{said}");
    // Later records do not change it.
    succeeds(&place.put(b"{\"n\": 100, \"new\": 1}\n{\"n\": 1.5}\n", &[]));
    let said = place.json("deliver", &to);
    assert_eq!(
        (&said["record_count"], &said["failed_record_count"], &said["schema"]),
        (&1.into(), &1.into(), &schema.into())
    );
    let given = place.directory.path().join("given");
    let to_given = ["--to", given.to_str().unwrap(), "--name", "given", "--format", "parquet", "--schema"];
    let said = place.json("deliver", &[&to_given[..], &["n int not null, price decimal(6, 1)"]].concat());
    assert_eq!((&said["record_count"], &said["failed_record_count"]), (&101.into(), &2.into()));
    assert_eq!(said["schema"], "n int32 not null, price decimal(6, 1)");

    for (library, columns) in [
        ("pyarrow", "n int64,price double,tags list<element: string>"),
        ("duckdb", "n BIGINT,price DOUBLE,tags VARCHAR[]"),
    ] {
        let Some(python) = common::python::with(library) else { continue };
        let output = Command::new(python).args(["-c", READ, library]).arg(&archive).output().unwrap();
        succeeds(&output);
        let text = String::from_utf8(output.stdout).unwrap();
        let (head, rows) = text.split_once('\n').unwrap();
        assert_eq!(head, columns);
        let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
        let expected = lines.iter().map(|line| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            row["price"] = row["price"].as_f64().unwrap().into();
            row["tags"] = row.get("tags").cloned().unwrap_or_default();
            row
        });
        let last = serde_json::json!({ "n": 100, "price": null, "tags": null });
        assert_eq!(rows, expected.chain([last]).collect::<Vec<_>>(), "{library}");
    }

    let refused =
        |options: &[&str], told: &[&str]| fails(&place.run("deliver", &[&to[..2], options].concat()), told);
    refused(
        &["--format", "parquet", "--compression", "zip"],
        &["--compression zip", "none, gzip, snappy or zstd"],
    );
    refused(&["--format", "parquet", "--schema", "n what"], &["is no schema: the type \"what\" is unknown"]);
    refused(&["--schema", "n int"], &["--schema is for --format parquet, not for lines"]);
    let texts = Place::create(&[]);
    succeeds(&texts.put(b"one\ntwo\n", &[]));
    let told = [
        "cannot take a schema from its first 2 records: none is a JSON object with members. Give it a schema",
    ];
    let output = texts.run("deliver", &to);
    fails(&output, &told);
    assert_eq!(String::from_utf8_lossy(&output.stderr).matches(told[0]).count(), 1, "said once");
}

#[test]
#[cfg(feature = "object-store")]
fn a_stream_is_delivered_to_an_object_store_by_its_address() {
    let place = Place::create(&[]);
    succeeds(&place.put(b"one\ntwo\n", &[]));
    let archive = place.directory.path().join("archive");
    std::fs::create_dir(&archive).unwrap();
    let url = format!("file://{}", archive.display());
    assert_eq!(place.json("deliver", &["--to", &url])["record_count"], 2);
    let mut found = vec![];
    files(&archive, &mut found);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1, b"one\ntwo\n");
    fails(
        &place.run("deliver", &["--to", "ftp://host/path", "--name", "other"]),
        &["\"ftp\" is no URL of an object store"],
    );
}

#[test]
#[cfg(all(feature = "delivery", not(feature = "object-store")))]
fn a_tool_without_object_stores_says_so() {
    let place = Place::create(&[]);
    fails(
        &place.run("deliver", &["--to", "s3://bucket/path"]),
        &["built without object stores", "--features object-store"],
    );
}
