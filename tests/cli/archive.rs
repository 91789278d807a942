//! Archives from the command line.

use super::*;

#[test]
#[cfg(not(feature = "delivery"))]
fn a_tool_without_archives_says_so() {
    let place = Place::create(&[]);
    fails(&place.run("archive", &["--to", "archive"]), &["built without archives", "--features delivery"]);
    fails(&place.run("cat", &["--archive", "archive"]), &["built without archives"]);
}

#[test]
#[cfg(feature = "delivery")]
fn a_stream_is_archived_read_back_and_restored() {
    let place = Place::create(&["--segment-bytes", "64K", "--retention", "forever"]);
    let archive = place.directory.path().join("archive");
    let archive = archive.to_str().unwrap();
    let log: String = (0..5_000).map(|number| format!("line {number} {}\n", "x".repeat(60))).collect();
    let (first, second) = log.split_at(log.len() / 2 + log[log.len() / 2..].find('\n').unwrap() + 1);
    succeeds(&place.put(first.as_bytes(), &["--key", "one"]));
    fails(&place.run("archive", &["--to", archive]), &["archive", "the directory is missing"]);
    std::fs::create_dir(archive).unwrap();
    let said = place.run("archive", &["--to", archive]);
    succeeds(&said);
    assert!(stderr(&said).contains("retention does not wait for this archive"), "{}", stderr(&said));
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.starts_with("archived 2,508 records in ") && !said.contains("not sealed"), "{said}");
    let again = place.run("archive", &["--to", archive, "--hold", "1G", "--json"]);
    assert!(stderr(&again).is_empty(), "{}", stderr(&again));
    assert_eq!(serde_json::from_slice::<Value>(&again.stdout).unwrap()["segment_count"], 0);

    // Dropped records are only in the archive.
    place.print("retention", &["--bytes", "64K"]);
    succeeds(&place.put(second.as_bytes(), &["--key", "one"]));
    let own = place.cat(&[]);
    assert!(own.len() < log.len() && log.as_bytes().ends_with(&own), "{} of {}", own.len(), log.len());
    assert!(place.cat(&["--archive", archive]) == log.as_bytes(), "the whole log");
    assert_eq!(
        place.cat(&["--archive", archive, "--from", "7", "--count", "1"]),
        format!("line 7 {}\n", "x".repeat(60)).as_bytes()
    );
    assert_eq!(place.json("verify", &["--archive", archive])["record_count"], 5_000);
    fails(&place.run("split", &["0", "--archive", archive]), &["for commands that read records or shards"]);
    fails(&place.run("cat", &["--archive", "/nowhere"]), &["/nowhere", "the directory is missing"]);

    succeeds(&place.run("archive", &["--to", archive]));
    let restored = place.directory.path().join("restored");
    let run = |command: &str, path: &Path, options: &[&str]| {
        Command::new(tool()).arg(command).arg(path).args(options).stdin(Stdio::null()).output().unwrap()
    };
    let said = run("restore", &restored, &["--from", archive]);
    succeeds(&said);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.starts_with("restored 5,000 records, and fetched "), "{said}");
    assert!(run("cat", &restored, &[]).stdout == log.as_bytes(), "the whole log");
    fails(&run("restore", &restored, &["--from", archive]), &["there is a stream at"]);
    #[cfg(not(feature = "object-store"))]
    fails(&place.run("archive", &["--to", "s3://bucket/clicks"]), &["built without object stores"]);
}
