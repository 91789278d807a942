//! The console in a browser: user journeys, hostile records, accessibility, many streams.
//!
//! The scripts in `tests/gateway/console/` act as the user. They need Playwright for Python, Chromium and axe, which `.ci/run` installs.
//! Without them, a test prints a note and passes; if `STREAMLOG_PYTHON`, `STREAMLOG_CHROMIUM` or `STREAMLOG_AXE` says that they are
//! there, and they are not, the test fails.

use crate::common;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use parking_lot::Mutex;
use streamlog::gateway::{Gateway, RunningGateway};
use streamlog::{KeyFile, KeyHash, PutRecord, Store, StreamOptions};
use tempfile::TempDir;

/// Large enough for the largest records.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Browsers are large: one at a time.
static ONE: Mutex<()> = Mutex::new(());

const KEYS: &str = r#"{"keys": [
    {"access_key_id": "AKADMIN", "secret_access_key": "secret", "user": "admin", "policies": [{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["kinesis:*", "streamlog:*"], "Resource": "*"}]}]},
    {"access_key_id": "AKREADER", "secret_access_key": "secret", "user": "reader", "policies": [{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["kinesis:Get*", "kinesis:List*", "kinesis:Describe*", "streamlog:*"], "Resource": "*"}]}]},
    {"access_key_id": "AKDEV", "secret_access_key": "secret", "user": "dev", "policies": [{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["kinesis:ListStreams", "streamlog:*"], "Resource": "*"},
        {"Effect": "Allow", "Action": "kinesis:*", "Resource": "arn:aws:kinesis:us-east-1:000000000000:stream/dev-*"}]}]},
    {"access_key_id": "AKPLAIN", "secret_access_key": "secret", "user": "plain", "policies": [{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "kinesis:*", "Resource": "*"}]}]},
    {"access_key_id": "AKNOTHING", "secret_access_key": "secret", "user": "nothing", "policies": []}]}"#;

/// A gateway whose callers sign.
struct Served {
    running: RunningGateway,
    store: Store,
    /// It is removed after the gateway has ended.
    _scratch: TempDir,
}

impl Served {
    fn new() -> Self {
        let scratch = common::scratch();
        let keys = scratch.path().join("keys.json");
        std::fs::write(&keys, KEYS).unwrap();
        let encryption_keys = KeyFile::create(scratch.path().join("key-file")).unwrap();
        let options = StreamOptions::new().segment_bytes(SEGMENT_BYTES).encryption_keys(encryption_keys);
        let store = Store::open(scratch.path().join("streams"), options).unwrap();
        let gateway = Gateway::new(store.clone()).credentials(&keys).delay(Duration::from_millis(200));
        let running = gateway.start("127.0.0.1:0").unwrap();
        Self { running, store, _scratch: scratch }
    }
}

/// Returns a program or file that `.ci/run` installs: the one named by the variable, or else the first of these that exists.
fn installed(variable: &str, places: &[&str]) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(variable).map(PathBuf::from) {
        assert!(named.exists(), "{} is not there: .ci/run installs it", named.display());
        return Some(named);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = places.iter().map(|place| root.join(place)).find(|path| path.exists());
    if found.is_none() {
        println!("skipped: there is none of {places:?}; `.ci/run` installs it");
    }
    found
}

/// Runs a script with the address of a gateway, if everything that it needs is installed.
#[track_caller]
fn run(script: &str, served: impl FnOnce() -> Served, arguments: &[&str]) {
    let Some(python) = common::python::with("playwright.sync_api, boto3, aws_kinesis_agg.aggregator") else {
        return;
    };
    let Some(chromium) = installed("STREAMLOG_CHROMIUM", &["/usr/bin/chromium", "/usr/bin/google-chrome"])
    else {
        return;
    };
    let Some(axe) = installed("STREAMLOG_AXE", &["target/node/node_modules/axe-core/axe.min.js"]) else {
        return;
    };
    let _one = ONE.lock();
    let served = served();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/console").join(script);
    let url = format!("http://{}", served.running.local_address());
    let arguments = [OsString::from(url)].into_iter().chain(arguments.iter().map(OsString::from));
    // `-B`: leaves no compiled files beside the scripts.
    let output = Command::new(python)
        .arg("-B")
        .arg(path)
        .args(arguments)
        .env("STREAMLOG_CHROMIUM", chromium)
        .env("STREAMLOG_AXE", axe)
        .output()
        .unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{script}: {}\n{stdout}\n{stderr}", output.status);
    print!("{script}\n{stdout}");
}

#[test]
fn a_person_does_everything_and_the_api_agrees() {
    run(
        "journeys.py",
        || {
            let served = Served::new();
            let options = StreamOptions::new().shards(1).key_hash(KeyHash::Md5).segment_bytes(SEGMENT_BYTES);
            let stream = served.store.create("grouped", options).unwrap();
            for number in 0..3 {
                let data = number.to_string();
                let put = PutRecord::new("key", &data).header("trace-id", "17-abc");
                stream.put_record(&put.header("<b>raw", &[0xff, number])).unwrap();
            }
            // A group that has read nothing yet.
            stream.group("billing").worker().open().unwrap();
            served
        },
        &[],
    );
}

#[test]
fn hostile_records_are_only_text() {
    run("hostile.py", Served::new, &[]);
}

#[test]
fn everybody_can_use_it() {
    run("accessible.py", Served::new, &[]);
}

#[test]
fn it_is_quick_with_500_streams_and_1024_shards() {
    // For example, 600 seconds show whether the page's memory stays the same.
    let seconds = std::env::var("STREAMLOG_SECONDS").unwrap_or("20".to_owned());
    run("many.py", Served::new, &[&seconds]);
}
