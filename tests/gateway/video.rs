//! Real clients of Kinesis Video Streams against a gateway: boto3, a producer of our own, curl, and ffmpeg as a player: L1.
//!
//! The script in `tests/gateway/` is the client. It needs the Python that `.ci/run` installs, and an ffmpeg that `STREAMLOG_FFMPEG` names.
//! Without them, the test prints a note and passes.

use crate::common;

use std::path::{Path, PathBuf};
use std::process::Command;

use streamlog::gateway::{Gateway, RunningGateway};
use streamlog::{Store, StreamOptions};

/// Large enough for the fragments of the test, and small enough to make many streams.
const SEGMENT_BYTES: u64 = 16 << 20;

/// The policies of the second gateway, and of the one for the console.
const KEYS: &str = r#"{"keys": [
    {"access_key_id": "AKIDADMIN", "secret_access_key": "admin-secret", "user": "admin", "policies": [
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kinesisvideo:*", "Resource": "*"}]}]},
    {"access_key_id": "AKADMIN", "secret_access_key": "secret", "user": "person", "policies": [
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}]},
    {"access_key_id": "AKIDCAMERA", "secret_access_key": "camera-secret", "user": "camera", "policies": [
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kinesisvideo:PutMedia", "Resource": [
            "arn:aws:kinesisvideo:us-east-1:000000000000:stream/door/*",
            "arn:aws:kinesisvideo:us-east-1:000000000000:stream/curl/*"]}]}]},
    {"access_key_id": "AKIDVIEWER", "secret_access_key": "viewer-secret", "user": "viewer", "policies": [
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
            "Action": ["kinesisvideo:DescribeStream", "kinesisvideo:GetHLSStreamingSessionURL"], "Resource": "*",
            "Condition": {"StringEquals": {"aws:ResourceTag/public": "yes"}}}]}]}
]}"#;

fn ffmpeg() -> Option<PathBuf> {
    let named = std::env::var_os("STREAMLOG_FFMPEG").map(PathBuf::from);
    match &named {
        Some(path) => assert!(path.exists(), "{} is not there", path.display()),
        None => println!("skipped: STREAMLOG_FFMPEG names no ffmpeg"),
    }
    named
}

fn serve(directory: &Path, set: impl FnOnce(Gateway) -> Gateway) -> RunningGateway {
    let store = Store::open(directory, StreamOptions::new().segment_bytes(SEGMENT_BYTES)).unwrap();
    let gateway = Gateway::new(store).video_segment_bytes(SEGMENT_BYTES);
    set(gateway).start("127.0.0.1:0").unwrap()
}

/// Runs a script, which must succeed.
#[track_caller]
fn run(python: &Path, script: &str, set: impl FnOnce(&mut Command)) {
    // `-B`: leaves no compiled files beside the scripts.
    let mut command = Command::new(python);
    command.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway").join(script));
    set(&mut command);
    let output = command.output().unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{script}: {}\n{stdout}\n{stderr}", output.status);
    print!("{stdout}");
}

fn url(running: &RunningGateway) -> String {
    format!("http://{}", running.local_address())
}

#[test]
fn l1_boto3_curl_and_players_use_every_operation_of_video() {
    let Some(python) = common::python::with("boto3, cryptography") else { return };
    let Some(ffmpeg) = ffmpeg() else { return };
    let scratch = common::scratch();
    let [keys, chain, key] = ["keys.json", "chain.pem", "key.pem"].map(|name| scratch.path().join(name));
    std::fs::write(&keys, KEYS).unwrap();
    run(&python, "certificate.py", |command| {
        command.arg(scratch.path());
    });
    let open = serve(&scratch.path().join("open"), Gateway::without_authentication);
    let keyed = serve(&scratch.path().join("keyed"), |gateway| gateway.credentials(&keys));
    let encrypted =
        serve(&scratch.path().join("tls"), |gateway| gateway.without_authentication().tls(&chain, &key));
    run(&python, "video.py", |command| {
        command.args([url(&open), url(&keyed)]).arg(ffmpeg);
        command.arg(format!("https://localhost:{}", encrypted.local_address().port())).arg(&chain);
    });
    for running in [open, keyed, encrypted] {
        running.close().unwrap();
    }
}

#[test]
fn a_live_stream_plays_in_the_console() {
    let Some(python) = common::python::with("playwright.sync_api, boto3") else { return };
    let Some(ffmpeg) = ffmpeg() else { return };
    let named = std::env::var_os("STREAMLOG_CHROMIUM").map(PathBuf::from);
    let chromium = named.unwrap_or_else(|| PathBuf::from("/usr/bin/chromium"));
    if !chromium.exists() {
        println!("skipped: there is no {}", chromium.display());
        return;
    }
    let scratch = common::scratch();
    let keys = scratch.path().join("keys.json");
    std::fs::write(&keys, KEYS).unwrap();
    let running = serve(&scratch.path().join("streams"), |gateway| gateway.credentials(&keys));
    run(&python, "console/video.py", |command| {
        let axe = std::env::var_os("STREAMLOG_AXE");
        command.envs(axe.map(|axe| ("STREAMLOG_AXE", axe)));
        command.env("STREAMLOG_CHROMIUM", chromium).arg(url(&running)).arg(ffmpeg);
    });
    running.close().unwrap();
}
