//! Encrypted streams from the command line.

use super::*;

#[test]
#[cfg(not(feature = "encryption"))]
fn a_tool_without_encryption_says_so() {
    let place = Place::create(&[]);
    for refused in [place.run("cat", &["--key-file", "keys"]), place.run("put", &["--key-file", "keys"])] {
        fails(&refused, &["built without encryption", "--features encryption"]);
    }
}

#[test]
#[cfg(feature = "encryption")]
fn what_is_put_with_a_key_file_is_read_with_it_and_not_without() {
    let place = Place { directory: tempfile::tempdir().unwrap() };
    let keys = place.directory.path().join("keys");
    let (keys, path) = (keys.to_str().unwrap(), place.stream());
    let key = |add: &[&str]| {
        let made = Command::new(tool()).args(["new-key", keys]).args(add).output().unwrap();
        succeeds(&made);
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    };
    let first = key(&[]);
    let again = Command::new(tool()).args(["new-key", keys]).output().unwrap();
    fails(&again, &["cannot create", keys]);
    succeeds(&place.run("create", &["--key-file", keys, "--shards", "2"]));
    let with = ["--key-file", keys];
    succeeds(&place.put(b"one\ntwo\n", &with));
    assert_eq!(place.print("cat", &["--key-file", keys]), "one\ntwo\n");

    let second = key(&["--add"]);
    succeeds(&place.run("rotate-key", &with));
    succeeds(&place.put(b"three\n", &with));
    let described = place.print("describe", &[]);
    assert!(described.contains(&format!("encryption   data key 1, by {second}")), "{described}");
    assert_eq!(place.json("describe", &[])["key_id"], second);
    let mut lines: Vec<_> = place.print("tail", &with).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(
        lines.iter().filter(|line| ["one", "two", "three"].contains(&line.as_str())).count(),
        3,
        "{lines:?}"
    );

    for refused in [place.run("cat", &[]), place.put(b"four\n", &[])] {
        fails(&refused, &[&first[..4], "is needed for", path.to_str().unwrap(), "--key-file"]);
    }
    let verified = place.print("verify", &[]);
    assert!(verified.contains("read 0 records") && verified.contains("checked 3 records"), "{verified}");
    assert_eq!(place.json("verify", &[])["unread_count"], 3);
    assert!(place.print("verify", &with).contains("read 3 records"));

    succeeds(&place.run("consume", &["billing", "--key-file", keys]));
    fails(&place.run("lag", &["billing"]), &["is needed for"]);
    succeeds(&place.run("lag", &["billing", "--key-file", keys]));
    let backup = place.directory.path().join("backup");
    succeeds(&place.run("snapshot", &[backup.to_str().unwrap()]));
    let read = Command::new(tool()).arg("cat").arg(&backup).args(with).output().unwrap();
    succeeds(&read);
    assert_eq!(read.stdout.len(), "one\ntwo\nthree\n".len());
    std::fs::set_permissions(keys, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fails(&place.run("cat", &with), &["0644", "chmod 600"]);
}
