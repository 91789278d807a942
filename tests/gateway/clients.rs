//! Real clients of Kinesis against a gateway: boto3, the AWS CLI, the KCL, and another server beside it: L1, L3, L6.
//!
//! The scripts in `tests/gateway/` are the clients. A test starts a gateway on a directory of its own and passes its address to a script.
//! What the scripts need is installed by `.ci/run`. Without it, a test prints a note and passes; if `STREAMLOG_PYTHON`,
//! `STREAMLOG_KINESALITE` or `STREAMLOG_JAVA` says that it is there, and it is not, the test fails.

use crate::common;

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use streamlog::gateway::{Gateway, Profile, RunningGateway};
use streamlog::{KeyFile, Limits, Store, StreamOptions};
use tempfile::TempDir;

/// Large enough for the largest records, and small enough to roll.
const SEGMENT_BYTES: u64 = 16 << 20;

/// A gateway without authentication, at a port that the system chose.
struct Served {
    running: RunningGateway,
    /// It is removed after the gateway has ended.
    _scratch: TempDir,
}

impl Served {
    fn new(set: impl FnOnce(Gateway) -> Gateway) -> Self {
        let scratch = common::scratch();
        let keys = KeyFile::create(scratch.path().join("keys")).unwrap();
        let options = StreamOptions::new().segment_bytes(SEGMENT_BYTES).encryption_keys(keys);
        let store = Store::open(scratch.path().join("streams"), options).unwrap();
        let gateway = Gateway::new(store).without_authentication().delay(Duration::from_millis(100));
        let running = set(gateway).start("127.0.0.1:0").unwrap();
        Self { running, _scratch: scratch }
    }

    fn url(&self) -> String {
        format!("http://{}", self.running.local_address())
    }
}

/// Not a test: the server that scripts kill. It serves a directory until its standard input ends.
#[test]
fn child() {
    let Some(directory) = std::env::var_os("STREAMLOG_GATEWAY_DIRECTORY") else { return };
    let port: u16 = std::env::var("STREAMLOG_GATEWAY_PORT").unwrap().parse().unwrap();
    let store = Store::open(directory, StreamOptions::new().segment_bytes(SEGMENT_BYTES)).unwrap();
    let gateway = Gateway::new(store).without_authentication().delay(Duration::from_millis(100));
    #[cfg(feature = "delivery")]
    let gateway = match std::env::var_os("STREAMLOG_GATEWAY_BUCKETS") {
        Some(directory) => gateway.buckets(streamlog::gateway::Buckets::in_directory(directory)),
        None => gateway,
    };
    let running = gateway.start(("127.0.0.1", port)).unwrap();
    println!("http://{}", running.local_address());
    let _ = std::io::stdin().read_to_end(&mut vec![]);
    std::process::exit(0);
}

/// The command that runs [`child`].
fn child_command() -> Vec<OsString> {
    let program = std::env::current_exe().unwrap().into_os_string();
    [program].into_iter().chain(common::child_test(module_path!()).map(OsString::from)).collect()
}

/// Runs a script, which must succeed.
#[track_caller]
fn run<A: Into<OsString>>(python: &Path, script: &str, arguments: impl IntoIterator<Item = A>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway").join(script);
    // `-B`: leaves no compiled files beside the scripts.
    let output = Command::new(python)
        .arg("-B")
        .arg(path)
        .args(arguments.into_iter().map(Into::into))
        .output()
        .unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{script}: {}\n{stdout}\n{stderr}", output.status);
    print!("{stdout}");
}

#[test]
fn boto3_uses_every_operation_with_every_field() {
    let Some(python) = common::python::with("boto3") else { return };
    let served = Served::new(|gateway| gateway.subscription_life(Duration::from_secs(4)));
    let limited = Served::new(|gateway| gateway.limits(Limits::kinesis()));
    run(&python, "operations.py", [served.url(), limited.url()]);
}

#[test]
fn the_aws_cli_uses_every_operation_that_it_has() {
    let Some(python) = common::python::with("awscli.botocore, boto3") else { return };
    let served = Served::new(|gateway| gateway);
    run(&python, "cli.py", [served.url()]);
}

#[test]
fn l6_requests_are_judged_as_the_service_model_says() {
    let Some(python) = common::python::with("boto3") else { return };
    let served = Served::new(|gateway| gateway.delay(Duration::ZERO));
    run(&python, "service_model.py", [served.url()]);
}

#[test]
fn answers_are_those_of_kinesalite() {
    let Some(python) = common::python::with("boto3") else { return };
    let Some(kinesalite) = common::installed("STREAMLOG_KINESALITE", "node/node_modules/kinesalite/cli.js")
    else {
        return;
    };
    let served =
        Served::new(|gateway| gateway.profile(Profile::Year2018).delay(Duration::ZERO).shards_max(60));
    let arguments = [served.url().into(), kinesalite.into_os_string()];
    run(&python, "differential.py", arguments);
}

#[test]
fn l1_what_was_acknowledged_is_there_after_kill_9() {
    let Some(python) = common::python::with("boto3") else { return };
    let scratch = common::scratch();
    let directory = scratch.path().join("streams").into_os_string();
    run(&python, "kill.py", [directory].into_iter().chain(child_command()));
}

#[test]
fn l1_a_queue_is_worked_off_while_the_gateway_is_killed() {
    let Some(python) = common::python::with("boto3") else { return };
    let scratch = common::scratch();
    let directory = scratch.path().join("streams").into_os_string();
    run(&python, "queues.py", [directory].into_iter().chain(child_command()));
}

#[cfg(feature = "delivery")]
mod firehose {
    use std::net::TcpListener;

    use super::*;
    use streamlog::gateway::Buckets;

    /// Returns the address of a free port.
    fn free_address() -> String {
        format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
    }

    #[test]
    fn l1_l2_boto3_delivers_to_a_directory_and_to_an_endpoint() {
        let Some(python) = common::python::with("boto3") else { return };
        let scratch = common::scratch();
        let buckets = scratch.path().join("buckets");
        let endpoint = free_address();
        let served =
            Served::new(|gateway| gateway.buckets(Buckets::in_directory(&buckets)).allow_endpoint(&endpoint));
        run(&python, "firehose.py", [buckets.into_os_string(), served.url().into(), endpoint.into()]);
    }

    #[cfg(feature = "object-store")]
    #[test]
    fn l1_l2_boto3_delivers_to_s3_as_moto_plays_it() {
        let Some(python) = common::python::with("boto3, moto.server") else { return };
        let moto = common::moto::Moto::start(&python);
        let options = [
            ("aws_endpoint", &*moto.url),
            ("allow_http", "true"),
            ("aws_access_key_id", "test"),
            ("aws_secret_access_key", "test"),
            ("aws_region", "us-east-1"),
        ];
        let buckets = Buckets::at_url_with("s3://", options).unwrap();
        let endpoint = free_address();
        let served = Served::new(|gateway| gateway.buckets(buckets).allow_endpoint(&endpoint));
        run(&python, "firehose.py", [moto.url.clone(), served.url(), endpoint]);
    }

    #[test]
    fn l1_l2_each_record_is_delivered_once_while_the_gateway_is_killed() {
        let Some(python) = common::python::with("boto3") else { return };
        let scratch = common::scratch();
        let paths = ["streams", "buckets"].map(|name| scratch.path().join(name).into_os_string());
        run(&python, "firehose_kill.py", paths.into_iter().chain(child_command()));
    }

    #[test]
    fn l6_requests_to_firehose_are_judged_as_its_service_model_says() {
        let Some(python) = common::python::with("boto3") else { return };
        let scratch = common::scratch();
        let buckets = scratch.path().join("buckets");
        let served =
            Served::new(|gateway| gateway.delay(Duration::ZERO).buckets(Buckets::in_directory(&buckets)));
        run(&python, "service_model.py", [served.url(), "firehose".into()]);
    }
}

#[test]
fn boto3_speaks_tls_with_a_certificate_of_our_own() {
    let Some(python) = common::python::with("boto3, cryptography") else { return };
    let scratch = common::scratch();
    let [chain, key] = ["chain.pem", "key.pem"].map(|name| scratch.path().join(name));
    run(&python, "certificate.py", [scratch.path()]);
    let served = Served::new(|gateway| gateway.tls(&chain, &key));
    let url = format!("https://localhost:{}", served.running.local_address().port());
    run(&python, "tls.py", [OsString::from(url), scratch.path().into()]);
}

/// The KCL takes all of the machine that it can get, and has a time limit.
static KCL: Mutex<()> = Mutex::new(());

/// Runs the KCL: polling and fan-out at the same time.
fn run_kcl(kills: &str) {
    let Some(python) = common::python::with("amazon_kclpy, moto.server") else { return };
    let Some(java) = common::java() else { return };
    let _alone = KCL.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = common::scratch();
    let arguments = [java, scratch.path().into(), kills.into()];
    run(&python, "kcl.py", arguments.into_iter().chain(child_command()));
}

#[test]
fn l1_l3_the_kcl_reads_every_record_through_a_split_and_a_merge() {
    run_kcl("0");
}

#[test]
fn l1_l3_the_kcl_reads_every_record_while_the_gateway_is_killed() {
    run_kcl("2");
}
