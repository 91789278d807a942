//! Requests to the gateway over loopback, by connections. The clients are threads of this process, so both share the processors.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use streamlog::gateway::Gateway;
use streamlog::{Store, StreamOptions};

use crate::Setting;
use crate::chart::Axis;
use crate::machine::Usage;
use crate::report::{Line, count};

const POINT: Duration = Duration::from_secs(1);
/// Every request has a signature, which this gateway does not check.
const SIGNATURE: &str = "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/kinesis/aws4_request, SignedHeaders=host, \
                         Signature=0000000000000000000000000000000000000000000000000000000000000000";
/// 1,000 bytes as base64.
const DATA_CHARACTERS: usize = 1_336;

/// A persistent HTTP/1.1 connection.
#[derive(Debug)]
struct Client {
    address: SocketAddr,
    socket: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("a connection");
        socket.set_nodelay(true).expect("a socket");
        Self { address, socket, answer: vec![0; 4 << 20] }
    }

    fn request(&self, operation: &str, body: &str) -> Vec<u8> {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: \
             Kinesis_20131202.{operation}\r\nX-Amz-Date: 20260101T000000Z\r\nAuthorization: {SIGNATURE}\r\nContent-Length: \
             {}\r\n\r\n",
            self.address,
            body.len()
        );
        (head + body).into_bytes()
    }

    /// Sends a request, and returns the body of its answer.
    fn send(&mut self, request: &[u8]) -> &[u8] {
        self.socket.write_all(request).expect("the gateway reads");
        let mut len = 0;
        loop {
            len += match self.socket.read(&mut self.answer[len..]).expect("the gateway answers") {
                0 => panic!("the gateway closed the connection"),
                count => count,
            };
            if let Some((start, body)) = body_of(&self.answer[..len]) {
                assert!(body + start <= self.answer.len(), "an answer of {body} bytes");
                if len == start + body {
                    return &self.answer[start..len];
                }
            }
        }
    }
}

/// Returns where the body of an answer begins, and its length, once its headers are there.
fn body_of(answer: &[u8]) -> Option<(usize, usize)> {
    const HEAD_BYTES_MAX: usize = 4 << 10;
    let head = &answer[..answer.len().min(HEAD_BYTES_MAX)];
    let start = head.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&head[..start]).expect("headers").to_ascii_lowercase();
    let text = || String::from_utf8_lossy(answer).into_owned();
    assert!(head.starts_with("http/1.1 200"), "{}", text());
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    Some((start, len.trim().parse().expect("a number")))
}

/// Sends a request repeatedly on this many connections. Returns how many were answered a second, and how busy the processors were.
fn rate(
    address: SocketAddr,
    connections: usize,
    operation: &str,
    body: impl Fn(usize) -> String + Sync,
) -> (f64, String) {
    let start = Barrier::new(connections + 1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|connection| {
                let (start, body) = (&start, &body);
                scope.spawn(move || {
                    let mut client = Client::connect(address);
                    let request = client.request(operation, &body(connection));
                    // The first answer also checks the request.
                    check(operation, client.send(&request));
                    start.wait();
                    let (started, mut requests) = (Instant::now(), 0u64);
                    while started.elapsed() < POINT {
                        client.send(&request);
                        requests += 1;
                    }
                    check(operation, client.send(&request));
                    requests
                })
            })
            .collect();
        start.wait();
        let (started, before) = (Instant::now(), Usage::now());
        let requests: u64 = threads.into_iter().map(|thread| thread.join().expect("a client")).sum();
        (requests as f64 / started.elapsed().as_secs_f64(), before.busy_since().to_string())
    })
}

/// Checks that an answer reports success.
fn check(operation: &str, body: &[u8]) {
    let text = std::str::from_utf8(body).expect("JSON");
    let is_done = match operation {
        "PutRecord" => text.contains("\"SequenceNumber\""),
        "PutRecords" => text.contains("\"FailedRecordCount\":0"),
        _ => text.matches("\"SequenceNumber\"").count() == GET_RECORDS,
    };
    assert!(is_done, "{operation}: {}", &text[..text.len().min(300)]);
}

const PUT_RECORDS: usize = 100;
const GET_RECORDS: usize = 1_000;

pub(crate) fn requests(setting: &Setting) {
    let store = Store::open(setting.scratch.join("streams"), StreamOptions::new()).expect("a store");
    let gateway = Gateway::new(store.clone()).without_authentication().delay(Duration::ZERO);
    let running = gateway.start("127.0.0.1:0").expect("a gateway");
    let address = running.local_address();
    let mut client = Client::connect(address);
    let create = client.request("CreateStream", r#"{"StreamName": "bench", "ShardCount": 4}"#);
    client.send(&create);
    let data = "A".repeat(DATA_CHARACTERS - 1) + "=";
    let record = |key: usize| format!(r#""Data": "{data}", "PartitionKey": "key-{key}""#);
    let single = |connection: usize| format!(r#"{{"StreamName": "bench", {}}}"#, record(connection));
    let batch = |connection: usize| {
        let records: Vec<_> =
            (0..PUT_RECORDS).map(|at| format!("{{{}}}", record(connection * PUT_RECORDS + at))).collect();
        format!(r#"{{"StreamName": "bench", "Records": [{}]}}"#, records.join(","))
    };

    setting.report.head(
        "Requests with records of 1 KB over loopback, with their clients on the same processors",
        &[
            "connections",
            "operation",
            "records each",
            "requests/s",
            "records/s",
            "processors busy, clients included",
        ],
    );
    let mut lines = ["PutRecord", "PutRecords of 100", "GetRecords of 1,000"].map(Line::new);
    for connections in [1, 2, 4, 8, 16, 32, 64, 256] {
        let best = |operation: &str, body: &(dyn Fn(usize) -> String + Sync)| {
            let of = |found: &(f64, String)| found.0;
            setting.best(of, || rate(address, connections, operation, body))
        };
        let (puts, puts_busy) = best("PutRecord", &single);
        let (batches, batches_busy) = best("PutRecords", &batch);
        let iterator = iterator(&mut client);
        let body = |_: usize| format!(r#"{{"ShardIterator": "{iterator}", "Limit": {GET_RECORDS}}}"#);
        let (gets, gets_busy) = best("GetRecords", &body);
        let found = [
            ("PutRecord", 1, puts, puts_busy),
            ("PutRecords", PUT_RECORDS, batches, batches_busy),
            ("GetRecords", GET_RECORDS, gets, gets_busy),
        ];
        for (line, (operation, each, requests, busy)) in lines.iter_mut().zip(found) {
            let records = requests * each as f64;
            line.points.push((connections as f64, records / 1e3));
            setting.report.row(&[
                connections.to_string(),
                operation.to_owned(),
                each.to_string(),
                count(requests),
                count(records),
                busy,
            ]);
        }
    }
    let axis = Axis { name: "connections", is_logarithmic: true };
    let title = "The gateway over loopback, records of 1 KB";
    setting.report.draw("capacity-gateway.svg", title, "thousand records a second", axis, &lines);
    running.close().expect("closing");
    store.close().expect("closing");
}

/// Returns an iterator at the start of a shard that has records. The same one is used repeatedly.
fn iterator(client: &mut Client) -> String {
    let body =
        r#"{"StreamName": "bench", "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"}"#;
    let request = client.request("GetShardIterator", body);
    let answer = String::from_utf8_lossy(client.send(&request)).into_owned();
    let (_, rest) = answer.split_once("\"ShardIterator\":\"").expect("an iterator");
    rest.split('"').next().expect("an iterator").to_owned()
}
