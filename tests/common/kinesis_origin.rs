//! Servers with the Kinesis API, and calls to them, for tests of sources and mirrors.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use streamlog::relay::KinesisClient;

/// Returns a client of a server, with credentials that all servers accept.
pub fn client(url: &str) -> KinesisClient {
    let options = KinesisClient::options().region("us-east-1").credentials("key", "secret", None);
    options.endpoint_url(url).connect().unwrap()
}

/// Calls an operation, and returns the answer.
#[track_caller]
pub fn call(url: &str, operation: &str, body: &Value) -> Value {
    try_call(url, operation, body).unwrap_or_else(|answer| panic!("{operation}: {answer}"))
}

fn try_call(url: &str, operation: &str, body: &Value) -> Result<Value, String> {
    let address = url.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).map_err(|error| error.to_string())?;
    let body = body.to_string();
    let signature = "AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=0";
    write!(
        socket,
        "POST / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/x-amz-json-1.1\r\n\
         X-Amz-Date: 20200101T000000Z\r\nX-Amz-Target: Kinesis_20131202.{operation}\r\nAuthorization: {signature}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .map_err(|error| error.to_string())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if !head.starts_with("HTTP/1.1 200") {
        return Err(answer);
    }
    if body.is_empty() { Ok(Value::Null) } else { serde_json::from_str(body).map_err(|_| answer.clone()) }
}

/// Creates a stream, and waits until it is active.
pub fn create(url: &str, stream: &str, shards: u32) {
    call(url, "CreateStream", &json!({"StreamName": stream, "ShardCount": shards}));
    wait_until_active(url, stream);
}

pub fn wait_until_active(url: &str, stream: &str) {
    wait_until(|| {
        let answer = call(url, "DescribeStreamSummary", &json!({"StreamName": stream}));
        answer["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE"
    });
}

pub fn put(url: &str, stream: &str, key: &str, data: &[u8]) {
    let body = json!({"StreamName": stream, "PartitionKey": key, "Data": STANDARD.encode(data)});
    call(url, "PutRecord", &body);
}

/// Waits for a condition, for up to a minute.
#[track_caller]
pub fn wait_until(condition: impl FnMut() -> bool) {
    assert!(is_met(condition, Duration::from_secs(60)), "it did not happen within a minute");
}

fn is_met(mut condition: impl FnMut() -> bool, within: Duration) -> bool {
    let begun = Instant::now();
    while !condition() {
        if begun.elapsed() > within {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// A server in a process of its own, which is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub url: String,
}

impl Server {
    fn start(command: &mut Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, url: format!("http://127.0.0.1:{port}") };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait_until(|| TcpStream::connect(address).is_ok());
        server
    }

    /// Starts Kinesalite, if it is installed.
    pub fn kinesalite() -> Option<Self> {
        let program = super::installed("STREAMLOG_KINESALITE", "node/node_modules/kinesalite/cli.js")?;
        let port = super::free_port();
        let mut command = Command::new("node");
        command.arg(program).args(["--port", &port.to_string()]);
        for option in ["--createStreamMs", "--deleteStreamMs", "--updateStreamMs"] {
            command.args([option, "50"]);
        }
        Some(Self::start(&mut command, port))
    }

    /// Starts Moto, if it is installed.
    pub fn moto() -> Option<Self> {
        let python = super::python::with("moto.server")?;
        let port = super::free_port();
        let mut command = Command::new(python);
        Some(Self::start(command.args(["-m", "moto.server", "-p", &port.to_string()]), port))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
