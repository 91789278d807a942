//! The command-line tool of `examples/streamlog`, run as a user runs it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use streamlog::{PutRecord, Stream};

#[path = "../common/mod.rs"]
mod common;

mod archive;
#[cfg(unix)]
mod beside;
mod deliver;
mod encrypted;
mod mirror;
mod processors;
mod queues;
mod relay;
mod sql;
mod video;

/// Returns the path of the tool. `cargo test` builds it; if only this test runs, it is built here.
fn tool() -> &'static Path {
    static TOOL: OnceLock<PathBuf> = OnceLock::new();
    TOOL.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        // <target>/<profile>/deps/cli-<hash>
        let profile = test.parent().and_then(Path::parent).unwrap();
        let tool = profile.join("examples").join(format!("streamlog{}", std::env::consts::EXE_SUFFIX));
        // Cargo builds examples along with all tests, but keeps an old one if only this test runs.
        // The built tool may lack a feature that this test has. With exactly this test's features, Cargo reuses the dependencies built for it.
        let features = [
            ("delivery", cfg!(feature = "delivery")),
            ("encryption", cfg!(feature = "encryption")),
            ("futures", cfg!(feature = "futures")),
            ("gateway", cfg!(feature = "gateway")),
            ("lz4", cfg!(feature = "lz4")),
            ("metrics", cfg!(feature = "metrics")),
            ("object-store", cfg!(feature = "object-store")),
            ("parquet", cfg!(feature = "parquet")),
            ("relay-kafka", cfg!(feature = "relay-kafka")),
            ("relay-kinesis", cfg!(feature = "relay-kinesis")),
            ("serde", cfg!(feature = "serde")),
            ("sql", cfg!(feature = "sql")),
            ("tracing", cfg!(feature = "tracing")),
            ("video", cfg!(feature = "video")),
            ("zstd", cfg!(feature = "zstd")),
        ];
        let features: Vec<_> =
            features.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name).collect();
        if modified(&tool) < newest_source() || !features.is_empty() {
            let mut cargo = Command::new(env!("CARGO"));
            // Cargo sets variables that name the package of a test. Build scripts that read them, and everything that depends on these, would be
            // rebuilt for the tool, and again for the next test.
            let of_package = ["CARGO_PKG_", "CARGO_MANIFEST_"];
            for (name, _) in
                std::env::vars().filter(|(name, _)| of_package.iter().any(|of| name.starts_with(of)))
            {
                cargo.env_remove(name);
            }
            cargo.args(["build", "--example", "streamlog", "--target-dir"]).arg(profile.parent().unwrap());
            cargo.args(["--features", &features.join(",")]);
            if profile.ends_with("release") {
                cargo.arg("--release");
            }
            assert!(cargo.status().unwrap().success(), "the tool does not build");
        }
        tool
    })
}

fn modified(path: &Path) -> SystemTime {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Returns when a source of the tool last changed.
fn newest_source() -> SystemTime {
    let mut paths =
        ["src", "examples/streamlog"].map(|path| Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).to_vec();
    let mut newest = SystemTime::UNIX_EPOCH;
    while let Some(path) = paths.pop() {
        newest = newest.max(modified(&path));
        paths.extend(std::fs::read_dir(&path).into_iter().flatten().map(|entry| entry.unwrap().path()));
    }
    newest
}

/// A directory with a stream in it.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn create(options: &[&str]) -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        succeeds(&place.run("create", options));
        place
    }

    fn stream(&self) -> PathBuf {
        self.directory.path().join("stream")
    }

    fn file(&self, content: &[u8]) -> PathBuf {
        let path = self.directory.path().join("input");
        std::fs::write(&path, content).unwrap();
        path
    }

    fn command(&self, name: &str, options: &[&str]) -> Command {
        let mut command = Command::new(tool());
        command.arg(name).arg(self.stream()).args(options).stdin(Stdio::null());
        command
    }

    fn run(&self, name: &str, options: &[&str]) -> Output {
        self.command(name, options).output().unwrap()
    }

    /// Puts the lines of `content` from a file.
    fn put(&self, content: &[u8], options: &[&str]) -> Output {
        self.command("put", &[]).arg(self.file(content)).args(options).output().unwrap()
    }

    /// Runs a command that must succeed, and returns its output.
    fn print(&self, name: &str, options: &[&str]) -> String {
        let output = self.run(name, options);
        succeeds(&output);
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, name: &str, options: &[&str]) -> Value {
        serde_json::from_str(&self.print(name, &[options, &["--json"]].concat())).unwrap()
    }

    /// Returns the numbers of the shards that pass a filter.
    fn numbers(&self, filter: &str) -> Vec<u64> {
        numbers(&self.json("shards", &["--filter", filter]))
    }

    /// Creates a stream with a part of a log in each generation of shards: 0 is split into 1 and 2, 2 into 3 and 4, and 1 and 3
    /// are merged into 5.
    fn resharded(log: &[u8]) -> Self {
        let place = Self::create(&["--segment-bytes", "64K"]);
        let lines: Vec<_> = log.split_inclusive(|&byte| byte == b'\n').collect();
        let mut parts = lines.chunks(lines.len().div_ceil(4)).map(<[_]>::concat);
        let mut put = || {
            let part = parts.next().unwrap();
            succeeds(&place.put(&part, &["--key-column", "1", "--key", "none"]));
        };
        put();
        place.print("split", &["0"]);
        put();
        place.print("split", &["2"]);
        put();
        place.print("merge", &["1", "3"]);
        put();
        place
    }

    /// Runs a command in a shell that redirects its input or output, such as `>&-`.
    #[cfg(unix)]
    fn redirected(&self, name: &str, options: &[&str], redirection: &str) -> Output {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec \"$@\" {redirection}"), "sh"]).arg(tool()).arg(name);
        shell.arg(self.stream()).args(options).stdin(Stdio::null()).output().unwrap()
    }

    /// Puts `content` from a pipe.
    fn pipe(&self, content: &[u8], options: &[&str]) -> Output {
        let mut command = self.command("put", options);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It may end before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(content);
        child.wait_with_output().unwrap()
    }

    /// Returns whether the last process that had the stream open closed it.
    fn was_closed_cleanly(&self) -> bool {
        Stream::open(self.stream()).unwrap().recovery().was_closed_cleanly()
    }

    fn cat(&self, options: &[&str]) -> Vec<u8> {
        let output = self.run("cat", options);
        succeeds(&output);
        output.stdout
    }
}

fn numbers(listed: &Value) -> Vec<u64> {
    let number = |shard: &Value| shard["shard"].as_str().unwrap().strip_prefix("shardId-")?.parse().ok();
    listed["shards"].as_array().unwrap().iter().map(|shard| number(shard).unwrap()).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeeds(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
}

/// Checks that the command failed with an error that contains all of `parts`.
fn fails(output: &Output, parts: &[&str]) {
    let stderr = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("streamlog: ") && !stderr.contains("panicked"), "{stderr}");
    parts.iter().for_each(|part| assert!(stderr.contains(part), "no {part:?} in {stderr}"));
}

/// Waits until `is_so` returns true, for a limited time.
fn comes_true(mut is_so: impl FnMut() -> bool) -> bool {
    let late = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        if Instant::now() > late {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Waits for a child that must end by itself. Kills one that does not, so that the test fails instead of waiting forever.
fn ends(mut child: Child) -> Output {
    if !comes_true(|| child.try_wait().unwrap().is_some()) {
        child.kill().unwrap();
        panic!("it does not end: {:?}", child.wait_with_output());
    }
    child.wait_with_output().unwrap()
}

/// Lines of a log: hosts, empty lines, carriage returns, zeros, and bytes that are not UTF-8.
fn odd_log() -> Vec<u8> {
    let mut log = vec![];
    for number in 0..5_000u32 {
        match number % 7 {
            0 => {}
            1 => log.extend_from_slice(b"\r"),
            2 => log.extend_from_slice(&[b'h', b'0' + (number % 10) as u8, b' ', 0, 0xff, 0xfe, 0x80]),
            _ => write!(log, "h{} - GET /{number} {}", number % 13, "x".repeat((number % 300) as usize))
                .unwrap(),
        }
        log.push(b'\n');
    }
    log
}

fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if bytes.is_empty() { vec![] } else { lines.split(|&byte| byte == b'\n').collect() }
}

/// Returns the lines of a log in order, by their first word.
fn lines_by_key(log: &[u8]) -> HashMap<&[u8], Vec<&[u8]>> {
    let mut by_key: HashMap<_, Vec<_>> = HashMap::new();
    lines(log)
        .into_iter()
        .for_each(|line| by_key.entry(first_word(line).unwrap_or(b"none")).or_default().push(line));
    by_key
}

/// Returns the lines that were printed with keys in order, by key.
fn printed_by_key(printed: &[u8]) -> HashMap<&[u8], Vec<&[u8]>> {
    let mut by_key: HashMap<_, Vec<_>> = HashMap::new();
    for line in lines(printed) {
        let tab = line.iter().position(|&byte| byte == b'\t').unwrap();
        by_key.entry(&line[..tab]).or_default().push(&line[tab + 1..]);
    }
    by_key
}

fn json_lines(bytes: &[u8]) -> Vec<Value> {
    lines(bytes).into_iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn first_word(line: &[u8]) -> Option<&[u8]> {
    line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())
}

#[test]
fn a_stream_that_others_may_write_to_is_pointed_out() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::create(&[]);
    for (mode, is_told) in [(0o700, false), (0o770, true)] {
        std::fs::set_permissions(place.stream(), std::fs::Permissions::from_mode(mode)).unwrap();
        let output = place.run("describe", &["--json"]);
        assert_eq!(String::from_utf8_lossy(&output.stderr).contains("chmod go-w"), is_told, "{output:?}");
        let described: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(described["is_writable_by_others"], is_told);
    }
}

#[test]
fn one_shard_gives_back_the_file_byte_for_byte() {
    let place = Place::create(&["--segment-bytes", "64K"]);
    let log = odd_log();
    succeeds(&place.put(&log, &[]));
    assert!(place.cat(&[]) == log);
    assert!(
        place.cat(&["--from", "4990"])
            == lines(&log)[4_990..].join(&b'\n').iter().copied().chain([b'\n']).collect::<Vec<u8>>()
    );
    assert_eq!(lines(&place.cat(&["--count", "3"])).len(), 3);
    assert_eq!(place.cat(&["--from", "latest"]), b"");
}

#[test]
fn several_shards_keep_the_order_of_each_key() {
    let place = Place::create(&["--shards", "4", "--key-hash", "md5"]);
    let log = odd_log();
    succeeds(&place.put(&log, &["--key-column", "1", "--key", "none"]));
    let printed = place.cat(&["--with-key"]);
    assert!(lines_by_key(&log) == printed_by_key(&printed));
    assert!(printed_by_key(&printed).len() > 10);
}

#[test]
fn json_shows_each_record_and_loses_no_byte() {
    let place = Place::create(&[]);
    let log = odd_log();
    succeeds(&place.put(&log, &["--key", "k"]));
    let records = json_lines(&place.cat(&["--json"]));
    assert_eq!(records.len(), 5_000);
    for ((record, line), number) in records.iter().zip(lines(&log)).zip(0u64..) {
        assert_eq!(record["shard"], "shardId-000000000000");
        assert_eq!(record["sequence"], number);
        assert_eq!(record["key"], "k");
        let data = match &record["data"] {
            Value::String(text) => text.clone().into_bytes(),
            _ => STANDARD.decode(record["data_base64"].as_str().unwrap()).unwrap(),
        };
        assert_eq!(data, line);
    }
    let described: Value = serde_json::from_slice(&place.run("describe", &["--json"]).stdout).unwrap();
    assert_eq!(described["record_count"], 5_000);
    assert_eq!(described["shards"][0]["next_sequence"], 5_000);
}

#[test]
fn standard_input_and_long_lines_and_a_last_line_without_a_newline() {
    let place = Place::create(&[]);
    let long = [vec![b'a'; 1_000_000], b"\n\nend".to_vec()].concat();
    let mut child =
        place.command("put", &["--key", "k"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&long).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(place.cat(&[]) == [long, b"\n".to_vec()].concat());
}

#[test]
fn a_line_that_cannot_be_put_is_named_and_those_before_it_are_there() {
    let place = Place::create(&[]);
    fails(
        &place.put(b"a 1\nb\nc 3\n", &["--key-column", "2"]),
        &["line 2", "column 2", "the lines before it"],
    );
    fails(&place.put(b"id=\nid=7\n", &["--key-regex", "id=([0-9]*)"]), &["line 1", "empty"]);
    let too_long = [b"ok\n".to_vec(), vec![b'x'; 2 << 20]].concat();
    fails(&place.put(&too_long, &["--key", "k"]), &["line 2: it has 2097152 bytes", "may have 1048576"]);
    fails(&place.put(&[b'k'; 2_000], &["--key-column", "1"]), &["line 1", "partition key has 2000 bytes"]);
    assert_eq!(place.cat(&[]), b"a 1\nok\n");
}

#[test]
fn keys_come_from_columns_expressions_or_line_numbers() {
    let keys_of = |options: &[&str]| {
        let place = Place::create(&[]);
        succeeds(&place.put(b"a::b::c\nd::e\n", options));
        let records = json_lines(&place.cat(&["--json"]));
        records.iter().map(|record| record["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys_of(&[]), ["1", "2"]);
    assert_eq!(keys_of(&["--key-column", "2", "--separator", "::"]), ["b", "e"]);
    assert_eq!(keys_of(&["--key-column", "3", "--separator", "::", "--key", "other"]), ["c", "other"]);
    assert_eq!(keys_of(&["--key-regex", "::(.)"]), ["b", "e"]);
    assert_eq!(keys_of(&["--key-regex", "^.::"]), ["a::", "d::"]);
}

#[test]
fn a_pipe_that_is_closed_ends_it_in_silence() {
    let place = Place::create(&[]);
    let log = "a line that is long enough to fill a pipe\n".repeat(50_000);
    succeeds(&place.put(log.as_bytes(), &[]));
    for options in [&[][..], &["--json"]] {
        let mut child =
            place.command("cat", options).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut String::new()).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        succeeds(&output);
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn errors_are_one_line_without_a_backtrace_and_have_the_exit_codes_of_the_help() {
    let help = Command::new(tool()).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let codes = help.split("Exit codes:\n").nth(1).unwrap().lines();
    let codes: Vec<_> = codes.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(codes, ["0", "1", "2", "130"], "130 is tested with each command that Ctrl-C ends");

    let place = Place::create(&[]);
    let file = place.file(b"no stream");
    let ends = |args: &[&str], code: i32, parts: &[&str]| {
        let mut command = Command::new(tool());
        command.args(args).stdin(Stdio::null()).env("RUST_BACKTRACE", "full");
        let output = command.output().unwrap();
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        parts.iter().for_each(|part| assert!(told.contains(part), "{args:?}: no {part:?} in {told}"));
        assert!(
            !["panicked", "backtrace", "src/"].iter().any(|sign| told.contains(sign)),
            "{args:?}: {told}"
        );
        assert!(code != 1 || told.lines().count() == 1, "{args:?}: {told}");
    };
    let (path, file) = (place.stream(), file);
    let [path, file] = [&path, &file].map(|path| path.to_str().unwrap());
    ends(&["describe", path], 0, &[]);
    ends(&["describe", file], 1, &[file, "is not a stream", "name another path"]);
    ends(&["cat", path, "--shard", "9"], 1, &["has no shardId-000000000009", "list the shards"]);
    ends(&["put", path, "/dev/null/lines"], 1, &["/dev/null/lines"]);
    ends(&["cat", path, "--from", "someday"], 2, &["--from", "--help"]);
    ends(&["peel", path], 2, &["peel", "--help"]);
    std::fs::write(place.stream().join("manifest.json"), "{}").unwrap();
    ends(&["cat", path], 1, &["manifest.json is damaged", "restore the file from a copy"]);
}

#[test]
fn create_wants_a_new_stream_and_the_others_one_that_exists() {
    let place = Place::create(&["--shards", "2", "--retention", "forever", "--retention-bytes", "1G"]);
    fails(&place.run("create", &[]), &["already"]);
    let described: Value = serde_json::from_slice(&place.run("describe", &["--json"]).stdout).unwrap();
    assert_eq!(described["retention_age_seconds"], Value::Null);
    assert_eq!(described["retention_bytes_max"], 1 << 30);
    assert_eq!(described["shards"].as_array().unwrap().len(), 2);
    let nowhere = Place { directory: tempfile::tempdir().unwrap() };
    for name in ["cat", "tail", "put", "describe", "verify", "shards", "retention"] {
        fails(&nowhere.run(name, &[]), &["is not a stream"]);
    }
    assert!(!nowhere.stream().exists());
    assert_eq!(nowhere.run("cat", &["--from", "someday"]).status.code(), Some(2));
}

#[test]
fn verify_finds_a_flipped_bit() {
    let place = Place::create(&["--segment-bytes", "64K"]);
    let log = odd_log();
    succeeds(&place.put(&log, &[]));
    succeeds(&place.run("verify", &[]));
    let shard = place.stream().join("shards").join("000000000000");
    let mut segments: Vec<_> = std::fs::read_dir(shard).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    assert!(segments.len() > 2);
    let mut bytes = std::fs::read(&segments[0]).unwrap();
    bytes[5_000] ^= 4;
    std::fs::write(&segments[0], bytes).unwrap();

    let output = place.run("verify", &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(segments[0].to_str().unwrap()) && text.contains("damage in 1 place"), "{text}");

    let output = place.run("verify", &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["damage"].as_array().unwrap().len(), 1);
    assert_eq!(found["damage"][0]["path"], segments[0].to_str().unwrap());
    assert!(found["record_count"].as_u64().unwrap() > 0);
    assert_eq!(found["is_complete"], true);
    fails(&place.run("cat", &[]), &["is damaged at byte"]);
}

#[test]
fn a_snapshot_is_a_stream_with_its_groups_and_a_second_one_adds_what_is_new() {
    let place = Place::resharded(&odd_log());
    let to = place.directory.path().join("backup");
    let to_text = to.to_str().unwrap();
    succeeds(&place.run("consume", &["billing"]));
    let first = place.json("snapshot", &[to_text]);
    assert!(first["linked_file_count"].as_u64().unwrap() > 2, "{first}");
    assert_eq!(first["kept_file_count"], 0);
    let of_backup = |name: &str| {
        let output = Command::new(tool()).arg(name).arg(&to).output().unwrap();
        succeeds(&output);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let all = |name: &str| String::from_utf8_lossy(&place.run(name, &[]).stdout).into_owned();
    assert_eq!(of_backup("cat"), all("cat"));
    assert!(of_backup("verify").contains("no damage"));
    assert_eq!(of_backup("groups"), all("groups"));

    succeeds(&place.put(b"more\n", &["--key", "k"]));
    let text = place.print("snapshot", &[to_text]);
    assert!(text.contains("kept") && !text.contains("kept 0"), "{text}");
    assert_eq!(of_backup("cat"), all("cat"));

    let put = Command::new(tool()).arg("put").arg(&to).arg(place.file(b"other\n")).output().unwrap();
    succeeds(&put);
    fails(&place.run("snapshot", &[to_text]), &["was written to", "name another path"]);
    fails(&place.run("snapshot", &[place.stream().to_str().unwrap()]), &["inside it"]);
}

#[test]
fn salvage_gives_up_what_is_damaged_and_cat_passes_over_it() {
    let place = Place::create(&[]);
    for line in ["first\n", "second\n", "third\n"] {
        succeeds(&place.put(line.as_bytes(), &["--key", "k"]));
    }
    let segment = place.stream().join("shards/000000000000/00000000000000000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(6).position(|window| window == b"second").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    fails(&place.run("cat", &[]), &["damaged at byte", "salvage"]);
    let output = place.run("salvage", &[]);
    succeeds(&output);
    assert!(stderr(&output).contains("lost 1 record, from sequence number 1 to before 2"), "{output:?}");
    assert_eq!(output.stdout, b"1 record lost, and all others can be read\n");
    let output = place.run("cat", &[]);
    succeeds(&output);
    assert_eq!(output.stdout, b"first\nthird\n");
    assert!(
        stderr(&output).contains("has lost the records from sequence number 1 to before 2"),
        "{output:?}"
    );
    assert_eq!(place.json("verify", &[])["lost"][0]["end_sequence"], 2);
}

#[test]
fn tail_prints_the_last_of_each_shard() {
    let place = Place::create(&[]);
    succeeds(&place.put(b"1\n2\n3\n", &[]));
    assert_eq!(place.run("tail", &["-n", "2"]).stdout, b"2\n3\n");
    assert_eq!(place.run("tail", &["-n", "0"]).stdout, b"");
    assert_eq!(place.run("tail", &["-n", "18446744073709551615"]).stdout, b"1\n2\n3\n");
    let place = Place::create(&["--shards", "8"]);
    succeeds(&place.put(&odd_log(), &[]));
    let text = String::from_utf8_lossy(&place.run("tail", &["-n", "1"]).stdout).into_owned();
    assert_eq!(text.matches("==> shardId-").count(), 8);
    assert_eq!(json_lines(&place.run("tail", &["-n", "2", "--json"]).stdout).len(), 16);
}

#[test]
fn split_merge_and_scale_print_the_shards_that_come_of_it() {
    let place = Place::create(&[]);
    assert_eq!(
        place.print("split", &["shardId-000000000000"]),
        "shardId-000000000001  0% - 50%, from 0\nshardId-000000000002  50% - 100%, from 0\n"
    );
    // A third of 2^128, rounded down.
    let third = "113427455640312821154458202477256070485";
    let split = place.json("split", &["1", "--at", third]);
    assert_eq!(numbers(&split), [3, 4]);
    assert_eq!(split["shards"][1]["hash_key_start"], third);
    assert_eq!(split["shards"][1]["parents"][0], "shardId-000000000001");
    assert_eq!(place.print("merge", &["4", "2"]), "shardId-000000000005  33.333% - 100%, from 4 and 2\n");
    assert_eq!(
        place.print("scale", &["2"]),
        "shardId-000000000008  0% - 50%, from 3 and 6\nshardId-000000000007  50% - 100%, from 5\n"
    );
    assert_eq!(numbers(&place.json("scale", &["2"])), [8, 7]);
    assert_eq!(
        place.print("split", &["8", "--at", "2"]).lines().next().unwrap(),
        "shardId-000000000009  at 0%, from 8"
    );
}

#[test]
fn a_reshard_that_cannot_be_is_refused_and_changes_nothing() {
    let place = Place::create(&["--shards", "3"]);
    let before = place.print("shards", &[]);
    fails(
        &place.run("merge", &["0", "2"]),
        &["and shardId-000000000002 cannot be merged", "must begin right after"],
    );
    fails(&place.run("merge", &["1", "0"]), &["cannot be merged"]);
    fails(&place.run("split", &["7"]), &["has no shardId-000000000007"]);
    fails(&place.run("split", &["0", "--at", "1"]), &["cannot be split at 1", "greater than one plus"]);
    fails(&place.run("scale", &["0"]), &["a shard count of 0 is out of range: 1 to 1024"]);
    assert_eq!(place.run("split", &["0", "--at", "half"]).status.code(), Some(2));
    assert_eq!(place.print("shards", &[]), before);
    place.print("split", &["0"]);
    fails(&place.run("split", &["0"]), &["shardId-000000000000 is closed already"]);
    fails(&place.run("merge", &["0", "1"]), &["shardId-000000000000 is closed already"]);
}

#[test]
fn shards_are_a_table_and_a_picture_of_their_lineage() {
    let place = Place::create(&[]);
    place.print("split", &["0"]);
    place.print("split", &["2", "--at", "255211775190703847597530955573826158592"]);
    place.print("merge", &["1", "3"]);
    let expected = "\
shard  state   parents  hash keys   sequence          records  disk
    0  closed           0% - 100%   0..0                    0   0 B
    1  closed  0        0% - 50%    1048576..1048576        0   0 B
    2  closed  0        50% - 100%  1048576..1048576        0   0 B
    3  closed  2        50% - 75%   2097152..2097152        0   0 B
    4  open    2        75% - 100%  2097152..               0   0 B
    5  open    1, 3     0% - 75%    3145728..               0   0 B

shard  0%                25%               50%               75%            100%
    0  -------------------------------------------------------------------------
    1  -------------------------------------
    2                                       ------------------------------------
    3                                       ------------------
    4                                                         ##################
    5  #######################################################
       # open, - closed
";
    assert_eq!(place.print("shards", &[]), expected);
    assert_eq!(place.print("shards", &["--filter", "after:5"]), "no such shards\n");
}

#[test]
fn shards_count_their_records_and_are_filtered() {
    let place = Place::resharded(&odd_log());
    let listed = place.json("shards", &[]);
    let shards = listed["shards"].as_array().unwrap();
    assert_eq!(shards.iter().map(|shard| shard["record_count"].as_u64().unwrap()).sum::<u64>(), 5_000);
    assert_eq!(shards[0]["closing_sequence"], 1_250);
    assert!(shards[1]["first_sequence"].as_u64().unwrap() >= 1_250, "above its parent's end");
    assert_eq!(shards[5]["parents"], serde_json::json!(["shardId-000000000001", "shardId-000000000003"]));
    assert!(shards[0]["disk_bytes"].as_u64().unwrap() > 0);
    let table = place.print("shards", &[]);
    let first: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(first[..7], ["0", "closed", "0%", "-", "100%", "0..1250", "1,250"]);

    assert_eq!(place.numbers("all"), [0, 1, 2, 3, 4, 5]);
    assert_eq!(place.numbers("horizon"), [0]);
    assert_eq!(place.numbers("latest"), [4, 5]);
    assert_eq!(place.numbers("after:3"), [4, 5]);
    assert_eq!(place.numbers("at:@0"), [0]);
    assert_eq!(place.numbers("at:2100-01-01T00:00:00Z"), [4, 5]);
    let created = |shard: usize| shards[shard]["created_at_micros"].as_f64().unwrap() / 1e6;
    let between = (created(3) + created(5)) / 2.0;
    assert_eq!(place.numbers(&format!("at:@{between}")), [1, 3, 4]);
    assert_eq!(place.numbers(&format!("from:@{between}")), [1, 3, 4, 5]);
    for bad in ["none", "at:someday", "after:x"] {
        assert_eq!(place.run("shards", &["--filter", bad]).status.code(), Some(2));
    }
}

#[test]
fn shards_are_a_graph_for_graphviz() {
    let place = Place::create(&[]);
    place.print("split", &["0"]);
    place.print("merge", &["1", "2"]);
    let expected = r#"digraph shards {
    node [shape=box, fillcolor=lightgrey]
    "shardId-000000000000" [label="shardId-000000000000\n0% - 100%\n0..0"]
    "shardId-000000000001" [label="shardId-000000000001\n0% - 50%\n1048576..1048576"]
    "shardId-000000000002" [label="shardId-000000000002\n50% - 100%\n1048576..1048576"]
    "shardId-000000000003" [label="shardId-000000000003\n0% - 100%\n2097152..", style=filled]
    "shardId-000000000000" -> "shardId-000000000001"
    "shardId-000000000000" -> "shardId-000000000002"
    "shardId-000000000001" -> "shardId-000000000003"
    "shardId-000000000002" -> "shardId-000000000003"
}
"#;
    assert_eq!(place.print("shards", &["--dot"]), expected);
    // Shards that are not listed appear in no edge.
    assert!(!place.print("shards", &["--dot", "--filter", "latest"]).contains("->"));
}

#[test]
fn each_key_is_read_in_order_across_splits_and_merges() {
    let log = odd_log();
    let place = Place::resharded(&log);
    let all = place.cat(&["--with-key"]);
    assert!(printed_by_key(&all) == lines_by_key(&log));
    let tail = place.run("tail", &["-n", "5000", "--quiet", "--with-key"]).stdout;
    assert!(printed_by_key(&tail) == lines_by_key(&log));
    // In the order of creation, so parents first.
    let shards = json_lines(&place.cat(&["--json"]));
    assert!(shards.windows(2).all(|pair| pair[0]["shard"].as_str() <= pair[1]["shard"].as_str()));
    // By time, each key still keeps its order.
    let by_time = place.cat(&["--order", "time", "--with-key"]);
    assert!(printed_by_key(&by_time) == lines_by_key(&log));
    let records = json_lines(&place.cat(&["--order", "time", "--json"]));
    let times: Vec<_> = records.iter().map(|record| record["timestamp_micros"].as_u64().unwrap()).collect();
    assert!(times.is_sorted() && times.len() == shards.len());
    assert_ne!(records, shards, "both orders are the same, so the test proves nothing");
    let first = json_lines(&place.cat(&["--order", "time", "--json", "--count", "7"]));
    assert_eq!(first, records[..7]);
    succeeds(&place.run("verify", &[]));
}

#[test]
fn headers_are_printed_as_json() {
    let place = Place::create(&[]);
    let stream = Stream::open(place.stream()).unwrap();
    let record = PutRecord::new("key", "data").header("trace", "17").header("bytes", &[0xff]);
    stream.put_record(&record).unwrap();
    stream.close().unwrap();
    for order in ["shard", "time"] {
        let headers = &json_lines(&place.cat(&["--json", "--order", order]))[0]["headers"];
        let expected = serde_json::json!([
            { "name": "trace", "value": "17" },
            { "name": "bytes", "value_base64": "/w==" },
        ]);
        assert_eq!(headers, &expected);
    }
}

#[cfg(unix)]
#[test]
fn tail_follows_into_children_and_put_shows_what_goes_there() {
    let place = Place::create(&[]);
    succeeds(&place.put(b"1\n2\n", &["--key", "k"]));
    place.print("split", &["0"]);
    place.print("merge", &["1", "2"]);
    assert_eq!(place.put(b"3\n4\n", &["--key", "k", "--follow"]).stdout, b"3\n4\n");
    let mut command = place.command("tail", &["-f", "-n", "1"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let expected = b"==> shardId-000000000000 <==\n2\n\n==> shardId-000000000003 <==\n4\n";
    let mut printed = vec![0; expected.len()];
    child.stdout.as_mut().unwrap().read_exact(&mut printed).unwrap();
    assert_eq!(String::from_utf8_lossy(&printed), String::from_utf8_lossy(expected));
    assert!(child.try_wait().unwrap().is_none(), "it waits for more");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0));
}

#[test]
fn retention_is_printed_and_changed_part_by_part() {
    let place = Place::create(&["--segment-bytes", "64K"]);
    assert_eq!(place.print("retention", &[]), "1day\n");
    assert_eq!(place.print("retention", &["--bytes", "1G"]), "1day, up to 1.00 GiB\n");
    assert_eq!(place.print("retention", &["--age", "90m"]), "1h 30m, up to 1.00 GiB\n");
    assert_eq!(place.json("retention", &["--bytes", "none"])["retention_age_seconds"], 5_400.0);
    assert_eq!(place.print("retention", &["--age", "forever"]), "forever\n");
    fails(&place.run("retention", &["--age", "1ms"]), &["a retention of 1ms is too short"]);
    assert_eq!(place.run("retention", &["--bytes", "some"]).status.code(), Some(2));
    assert_eq!(place.print("retention", &[]), "forever\n");

    succeeds(&place.put(&odd_log(), &[]));
    let disk_bytes = |place: &Place| place.json("describe", &[])["disk_bytes"].as_u64().unwrap();
    assert!(disk_bytes(&place) > 256 << 10);
    assert_eq!(place.print("retention", &["--bytes", "256K"]), "forever, up to 256.00 KiB\n");
    assert!(disk_bytes(&place) <= 256 << 10);
    let described = place.json("describe", &[]);
    assert!(described["shards"][0]["horizon"].as_u64().unwrap() > 0);
    assert_eq!(lines(&place.cat(&[])).len() as u64, described["record_count"].as_u64().unwrap());
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_put_with_all_that_it_was_given_in_the_stream() {
    let place = Place::create(&[]);
    let mut command = place.command("put", &["--key", "k", "--follow"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"first\nsecond\nnot yet a li").unwrap();
    // It prints the count while the input is still open.
    let mut printed = [0; 13];
    child.stdout.as_mut().unwrap().read_exact(&mut printed).unwrap();
    assert_eq!(&printed, b"first\nsecond\n");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(stderr(&output).contains("stopped after line 2"), "{}", stderr(&output));
    drop(stdin);
    assert_eq!(place.cat(&[]), b"first\nsecond\n");
    assert!(place.was_closed_cleanly());
}

#[test]
fn consume_prints_what_a_group_has_not_handled_yet_and_lag_how_much_that_is() {
    let place = Place::create(&[]);
    succeeds(&place.put(b"1\n2\n", &["--key", "k"]));
    place.print("split", &["0"]);
    succeeds(&place.put(b"3\n", &["--key", "k"]));
    assert_eq!(place.json("groups", &[])["groups"].as_array().unwrap().len(), 0);
    fails(&place.run("lag", &["billing"]), &["no consumer group \"billing\""]);
    assert_eq!(place.print("consume", &["billing"]), "1\n2\n3\n");
    assert_eq!(place.print("consume", &["billing"]), "");
    assert_eq!(place.print("consume", &["late", "--from", "latest"]), "");
    succeeds(&place.put(b"4\n5\n", &["--key", "k"]));

    let groups = place.json("groups", &[]);
    let lag = |group: usize| {
        (groups["groups"][group]["group"].clone(), groups["groups"][group]["record_count"].clone())
    };
    assert_eq!((lag(0), lag(1)), (("billing".into(), 2.into()), ("late".into(), 2.into())));
    let listed = place.print("groups", &[]);
    assert!(lines(listed.as_bytes())[1].starts_with(b"billing        2 "), "{listed}");
    let shards = place.json("lag", &["billing"]);
    let counts: Vec<_> = shards["shards"]
        .as_array()
        .unwrap()
        .iter()
        .map(|shard| shard["record_count"].as_u64().unwrap())
        .collect();
    assert!(counts == [0, 2] || counts == [2, 0], "the children's; the parent is finished: {shards}");
    let printed = place.print("lag", &["billing"]);
    assert_eq!(lines(printed.as_bytes()).len(), 4, "{printed}");

    let printed = place.print("consume", &["billing", "--json"]);
    let data: Vec<_> = json_lines(printed.as_bytes()).iter().map(|record| record["data"].clone()).collect();
    assert_eq!(data, ["4", "5"]);
    assert_eq!(place.json("lag", &["billing"])["record_count"], 0);

    assert_eq!(place.print("reset", &["billing", "trim-horizon"]), "");
    assert_eq!(place.print("consume", &["billing", "--with-key"]), "k\t1\nk\t2\nk\t3\nk\t4\nk\t5\n");
    place.print("reset", &["billing", "ago:1h"]);
    assert_eq!(place.json("lag", &["billing"])["record_count"], 5);
    place.print("reset", &["billing", "latest"]);
    assert_eq!(place.json("lag", &["billing"])["record_count"], 0);
    assert_eq!(
        place.run("reset", &["billing", "17"]).status.code(),
        Some(2),
        "a sequence number is a position in one shard only"
    );
    place.print("delete-group", &["billing"]);
    fails(&place.run("delete-group", &["billing"]), &["no consumer group"]);
    assert_eq!(place.json("groups", &[])["groups"].as_array().unwrap().len(), 1);
    fails(&place.run("consume", &["a/b"]), &["is not a name of a consumer group"]);
}

#[test]
fn what_nobody_took_from_consume_comes_again() {
    let place = Place::create(&[]);
    let log: String = (0..100_000).map(|number| format!("line {number}\n")).collect();
    succeeds(&place.put(log.as_bytes(), &["--key", "k"]));
    let mut child =
        place.command("consume", &["g"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    let rest = place.print("consume", &["g"]);
    assert!(log.ends_with(&rest) && !rest.is_empty(), "{} bytes", rest.len());
    // A pipe holds 64 KiB. The batch that did not fit into it was not committed.
    assert!(rest.len() > log.len() - (256 << 10), "{} bytes of {}", rest.len(), log.len());
}

#[test]
fn consume_reports_what_retention_dropped_before_it_was_handled() {
    let place = Place::create(&["--segment-bytes", "64K"]);
    place.print("consume", &["g"]);
    succeeds(&place.put(&odd_log(), &["--key", "k"]));
    place.print("retention", &["--bytes", "256K"]);
    fails(&place.run("consume", &["g"]), &["trim horizon", "--skip-trimmed"]);
    let output = place.run("consume", &["g", "--skip-trimmed"]);
    succeeds(&output);
    assert!(stderr(&output).contains("skipped, which retention has dropped"), "{}", stderr(&output));
    assert_eq!(output.stdout, place.cat(&[]));
}

#[cfg(unix)]
#[test]
fn consume_follows_until_ctrl_c() {
    let place = Place::create(&[]);
    succeeds(&place.put(b"1\n2\n", &[]));
    let mut command = place.command("consume", &["g", "--follow"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut printed = [0; 4];
    child.stdout.as_mut().unwrap().read_exact(&mut printed).unwrap();
    assert_eq!(&printed, b"1\n2\n");
    assert!(child.try_wait().unwrap().is_none(), "it waits for more");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0));
    assert_eq!(place.print("consume", &["g"]), "", "what was printed is committed");
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_goes_nowhere_is_an_error_and_changes_nothing() {
    let place = Place::create(&[]);
    succeeds(&place.put(b"1\n2\n", &["--key", "k"]));
    for (name, options) in [
        ("consume", &["g"][..]),
        ("consume", &["g", "-f"]),
        ("cat", &[]),
        ("cat", &["--order", "time"]),
        ("cat", &["--json"]),
        ("tail", &[]),
        ("tail", &["-f"]),
        ("describe", &[]),
        ("describe", &["--json"]),
        ("verify", &[]),
        ("salvage", &[]),
        ("shards", &[]),
        ("shards", &["--dot"]),
        ("retention", &[]),
        ("groups", &[]),
        ("processors", &[]),
        ("queues", &[]),
    ] {
        // Closed, open for reading only, and full.
        for redirection in [">&-", "1</dev/null", ">/dev/full"] {
            let output = place.redirected(name, options, redirection);
            fails(&output, &["cannot write to standard output: "]);
        }
    }
    assert_eq!(place.print("consume", &["g"]), "1\n2\n", "what was not printed is not handled");
    // Nothing is printed, so nothing is missing.
    succeeds(&place.redirected("reset", &["g", "latest"], ">&-"));
    for option in ["--help", "--version"] {
        for redirection in [">&-", ">/dev/full"] {
            let script = format!("\"$0\" {option} {redirection}");
            let output = Command::new("sh").args(["-c", &script]).arg(tool()).output().unwrap();
            fails(&output, &["cannot write to standard output: "]);
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn put_follow_without_an_output_puts_nothing() {
    let place = Place::create(&[]);
    fails(&place.redirected("put", &["-f"], "</dev/null >&-"), &["cannot write to standard output: "]);
    succeeds(&place.redirected("put", &[], "</dev/null >&-"));
}

#[cfg(target_os = "linux")]
#[test]
fn input_that_cannot_be_read_is_an_error() {
    let place = Place::create(&[]);
    for redirection in ["<&-", "0>/dev/null", "</"] {
        fails(&place.redirected("put", &[], redirection), &["cannot read standard input: "]);
    }
    fails(&place.run("put", &["/"]), &["/ is a directory: name a file"]);
    fails(&place.run("put", &["/nowhere"]), &["cannot read /nowhere: No such file"]);
    let output = place.put(b"", &[]);
    succeeds(&output);
    assert!(stderr(&output).starts_with("streamlog: put 0 records"), "{}", stderr(&output));
}

#[cfg(target_os = "linux")]
#[test]
fn a_command_that_waits_ends_when_the_reader_of_its_output_goes_away() {
    let place = Place::create(&[]);
    succeeds(&place.put(b"1\n", &[]));
    for (name, options) in [("tail", &["-f"][..]), ("consume", &["g", "-f"]), ("put", &["-f"])] {
        let mut command = place.command(name, options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The input stays open, and silent after one line.
        let mut stdin = child.stdin.take().unwrap();
        // Only put reads it.
        let _ = stdin.write_all(b"1\n");
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "1\n", "{name}");
        assert!(child.try_wait().unwrap().is_none(), "{name} waits for more");
        drop(stdout);
        succeeds(&ends(child));
        drop(stdin);
    }
    assert!(place.was_closed_cleanly());
}

/// Returns a file whose second line has 5,000,000 bytes.
fn log_with_a_long_line() -> Vec<u8> {
    [b"first\n".to_vec(), vec![b'x'; 5_000_000], b"\nthird\n".to_vec()].concat()
}

#[test]
fn a_line_that_is_too_long_is_reported_with_its_length() {
    // From a file, and from a pipe, whose reads return less.
    for put in [Place::put, Place::pipe] {
        let place = Place::create(&[]);
        let output = put(&place, &log_with_a_long_line(), &[]);
        fails(&output, &["line 2: it has 5000000 bytes", "may have 1048576", "--skip-long", "were put"]);
        assert_eq!(place.cat(&[]), b"first\n");
        // The same without a newline at its end.
        fails(&put(&place, &vec![b'x'; 3_000_000], &[]), &["line 1: it has 3000000 bytes"]);
    }
}

#[test]
fn lines_that_are_too_long_are_skipped_and_counted_if_the_user_says_so() {
    for put in [Place::put, Place::pipe] {
        let place = Place::create(&[]);
        let longest = 1 << 20;
        let log: Vec<u8> = [
            log_with_a_long_line(),
            // One that is read in one piece with its neighbors, one that is too long only because of its key, and one with a key that is too long.
            [b"k ".to_vec(), vec![b'x'; longest], b"\n".to_vec()].concat(),
            [b"k ".to_vec(), vec![b'x'; longest - 2], b"\n".to_vec()].concat(),
            [vec![b'k'; 2_000], b" long key\n".to_vec()].concat(),
            b"seventh\n".to_vec(),
            vec![b'x'; 2_000_000],
        ]
        .concat();
        let output = put(&place, &log, &["--skip-long", "--key-column", "1"]);
        succeeds(&output);
        let told = stderr(&output);
        assert!(told.starts_with("streamlog: note: line 2 is skipped: it has 5000000 bytes"), "{told}");
        assert!(told.contains("put 3 records") && told.contains("; skipped 5 long lines"), "{told}");
        assert_eq!(told.lines().count(), 2, "{told}");
        assert_eq!(place.cat(&[]), b"first\nthird\nseventh\n");
        // It skips nothing else.
        fails(&put(&place, b"a 1\nb\n", &["--skip-long", "--key-column", "2"]), &["line 2: column 2"]);
    }
}

#[test]
fn line_numbers_count_skipped_lines() {
    let place = Place::create(&[]);
    let output = place.put(&log_with_a_long_line(), &["--skip-long"]);
    succeeds(&output);
    let records = json_lines(&place.cat(&["--json"]));
    assert_eq!(records.iter().map(|record| record["key"].as_str().unwrap()).collect::<Vec<_>>(), ["1", "3"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_named_pipe_is_an_input_that_ctrl_c_ends_before_anyone_writes_to_it() {
    let place = Place::create(&[]);
    let pipe = place.directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut command = place.command("put", &[]);
    command.arg(&pipe).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // By the time it opens the stream, it handles the signal.
    let open_files = format!("/proc/{}/fd", child.id());
    let has_opened = || {
        let files = std::fs::read_dir(&open_files).unwrap().flatten();
        files.flat_map(|file| file.path().read_link()).any(|path| path.starts_with(place.stream()))
    };
    assert!(comes_true(has_opened));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(ends(child).status.code(), Some(130));
    assert!(place.was_closed_cleanly());

    let child = command.spawn().unwrap();
    std::fs::write(&pipe, b"1\n2\n").unwrap();
    succeeds(&ends(child));
    assert_eq!(place.cat(&[]), b"1\n2\n");
}

#[cfg(unix)]
#[test]
fn a_killed_put_keeps_the_lines_that_it_has_put() {
    let place = Place::create(&[]);
    for signal in ["-TERM", "-USR1"] {
        let mut command = place.command("put", &["--follow"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(b"a line\nhalf a li").unwrap();
        let mut printed = [0; 7];
        child.stdout.as_mut().unwrap().read_exact(&mut printed).unwrap();
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        assert!(!ends(child).status.success());
    }
    assert_eq!(place.cat(&[]), b"a line\na line\n");
    succeeds(&place.run("verify", &[]));
}

#[test]
fn a_compressed_file_is_refused_with_the_command_that_decompresses_it() {
    let place = Place::create(&[]);
    for (start, command) in [
        (&b"\x1f\x8b\x08\x08\x0a\n\n\n"[..], "zcat FILE | streamlog put"),
        (b"\x28\xb5\x2f\xfd\x04\n", "zstdcat FILE | streamlog put"),
        (b"\xfd7zXZ\0\n", "xzcat FILE | streamlog put"),
        (b"BZh91AY&SY\n", "bzcat FILE | streamlog put"),
    ] {
        for put in [Place::put, Place::pipe] {
            let long = [start, &vec![0; 3_000_000]].concat();
            fails(&put(&place, start, &[]), &[command]);
            fails(&put(&place, &long, &["--skip-long"]), &[command]);
        }
        // Only at the beginning.
        succeeds(&place.put(&[b"\n", start].concat(), &[]));
    }
    assert_eq!(place.json("describe", &[])["record_count"], 4 * 2 + 3);
}

#[test]
fn each_byte_of_a_line_comes_back_and_only_a_missing_newline_at_the_end_is_added() {
    let files: [&[u8]; 9] = [
        b"",
        b"\n",
        b"\n\n",
        b"\r\n",
        b"windows\r\nlines\r\n\r\n",
        b"old mac\rlines\r\n",
        b"\xef\xbb\xbfmark\n\0\n\xff\xfe\n",
        b"\xff\xfel\0\n\0",
        b"no newline",
    ];
    for file in files {
        let place = Place::create(&[]);
        succeeds(&place.put(file, &[]));
        let mut expected = file.to_vec();
        if !file.is_empty() && !file.ends_with(b"\n") {
            expected.push(b'\n');
        }
        assert_eq!(place.cat(&[]), expected);
    }
}

#[test]
fn a_carriage_return_at_the_end_of_a_line_belongs_to_no_key() {
    for options in [&["--key-column", "2", "--separator", ","][..], &["--key-regex", ",(.*)$"]] {
        let place = Place::create(&[]);
        succeeds(&place.put(b"1,a\r\n2,a", options));
        let records = json_lines(&place.cat(&["--json"]));
        let fields: Vec<_> = records.iter().map(|record| (&record["key"], &record["data"])).collect();
        assert_eq!(fields, [(&"a".into(), &"1,a\r".into()), (&"a".into(), &"2,a".into())]);
    }
}
