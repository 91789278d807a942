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
