//! Deliveries to HTTP endpoints, rule by rule of their protocols, against servers that answer correctly, wrongly, late, partially or not at all.

mod function;

use crate::common;
use crate::common::certificates;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::waiting::eventually;
use parking_lot::Mutex;
use serde_json::{Value, json};
use streamlog::delivery::{
    Delivery, DeliveryOptions, Directory, Format, HttpEndpoint, OpenSearchBulk, SplunkHec,
};
use streamlog::{Clock, Error, MINUTE, ManualClock, SECOND, Stream, StreamOptions};

/// A request that a server has received in full.
#[derive(Debug, Clone)]
struct Request {
    line: String,
    /// By their names in small letters.
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn id(&self) -> String {
        self.headers["x-amz-firehose-request-id"].clone()
    }

    fn records(&self) -> Vec<String> {
        let json = self.json();
        let records = json["records"].as_array().unwrap().iter();
        let data = records.map(|record| STANDARD.decode(record["data"].as_str().unwrap()).unwrap());
        data.map(|data| String::from_utf8(data).unwrap()).collect()
    }
}

/// What a server does after a request.
enum Reply {
    Answer(u16, &'static str, String),
    /// Sends the bytes and closes the connection.
    Bytes(String),
    /// Closes the connection.
    Lost,
    /// Keeps the connection open.
    Silent,
}

fn success(request: &Request) -> Reply {
    let body = json!({ "requestId": request.id(), "timestamp": 1_700_000_000_000u64 });
    Reply::Answer(200, "application/json", body.to_string())
}

type Requests = Arc<Mutex<Vec<Request>>>;

/// A server that decides from the number of the request, from 0 on, and the request.
struct Server {
    address: SocketAddr,
    requests: Requests,
}

impl Server {
    fn start(reply: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", reply)
    }

    fn start_at(address: &str, reply: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, reply) = (Requests::default(), Arc::new(reply));
        let received = Arc::clone(&requests);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (received, reply) = (Arc::clone(&received), Arc::clone(&reply));
                thread::spawn(move || serve(&connection.unwrap(), &received, &*reply));
            }
        });
        Self { address, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().clone()
    }
}

/// Returns the next request of a connection, or `None` if it ends before.
fn receive(from: &mut impl BufRead) -> io::Result<Request> {
    let mut lines = vec![];
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers: BTreeMap<_, _> = lines[1..]
        .iter()
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    from.read_exact(&mut body)?;
    Ok(Request { line: lines[0].clone(), headers, body })
}

fn serve(mut connection: &TcpStream, received: &Requests, reply: &dyn Fn(usize, &Request) -> Reply) {
    let mut from = BufReader::new(connection);
    while let Ok(request) = receive(&mut from) {
        let number = {
            let mut requests = received.lock();
            requests.push(request.clone());
            requests.len() - 1
        };
        let sent = match reply(number, &request) {
            Reply::Answer(status, content_type, body) => {
                let body = if status == 204 { "" } else { &body };
                let length = body.len();
                let location = "Location: /elsewhere\r\n";
                write!(
                    connection,
                    "HTTP/1.1 {status} Words\r\nContent-Type: {content_type}\r\n{location}Content-Length: {length}\r\n\r\n{body}"
                )
            }
            Reply::Bytes(bytes) => {
                let _ = connection.write_all(bytes.as_bytes());
                return;
            }
            Reply::Lost => return,
            Reply::Silent => {
                let _ = io::copy(&mut from, &mut io::sink());
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn open(path: &Path, clock: &Arc<ManualClock>) -> Stream {
    StreamOptions::new().segment_bytes(64 << 10).clock(clock.clone()).open(path).unwrap()
}

fn options(stream: &Stream, errors: &Path) -> DeliveryOptions {
    stream.delivery("collector").backoff(Duration::ZERO, Duration::ZERO).errors_to(Directory::new(errors))
}

fn flush(delivery: &Delivery) {
    assert!(delivery.flush(Duration::from_secs(60)), "{:?}", delivery.stats());
}

/// Returns the lines of all files below a directory, with the name of the file before each.
fn lines_below(path: &Path) -> Vec<(String, Value)> {
    let mut lines = vec![];
    let mut paths = vec![path.to_owned()];
    while let Some(at) = paths.pop() {
        if at.is_dir() {
            paths.extend(std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()));
        } else if at.exists() {
            let name = at.strip_prefix(path).unwrap().display().to_string();
            let text = std::fs::read_to_string(&at).unwrap();
            lines.extend(
                text.lines().map(|line| (name.clone(), serde_json::from_str::<Value>(line).unwrap())),
            );
        }
    }
    lines.sort_by_key(|(name, line)| (name.clone(), line["rawData"].to_string()));
    lines
}

#[test]
fn a_request_is_that_of_firehose() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let server = Server::start(|_, request| success(request));
    for data in ["one", "", "three\n"] {
        stream.put("key", data).unwrap();
    }
    clock.advance(SECOND);
    let endpoint = HttpEndpoint::new(&server.url("/in?token=7"))
        .unwrap()
        .access_key("s3cret key")
        .unwrap()
        .source_arn("arn:aws:firehose:eu-west-1:123456789012:deliverystream/clicks")
        .unwrap()
        .common_attribute("team", "Büro \"7\" 🦀")
        .clock(clock.clone());
    assert!(!format!("{endpoint:?}").contains("s3cret") && !format!("{endpoint:?}").contains("token"));
    // The delimiters belong to the format, not to the records.
    let delivery = options(&stream, scratch.path()).format(Format::lines()).to(endpoint).start().unwrap();
    flush(&delivery);
    delivery.close().unwrap();

    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(request.line, "POST /in?token=7 HTTP/1.1");
    let header = |name: &str| request.headers.get(name).map(String::as_str);
    assert_eq!(header("content-type"), Some("application/json"));
    assert_eq!(header("content-encoding"), None);
    assert_eq!(header("x-amz-firehose-protocol-version"), Some("1.0"));
    assert_eq!(header("x-amz-firehose-access-key"), Some("s3cret key"));
    assert_eq!(
        header("x-amz-firehose-source-arn"),
        Some("arn:aws:firehose:eu-west-1:123456789012:deliverystream/clicks")
    );
    let attributes = header("x-amz-firehose-common-attributes").unwrap();
    assert!(attributes.is_ascii());
    assert_eq!(
        serde_json::from_str::<Value>(attributes).unwrap(),
        json!({ "commonAttributes": { "team": "Büro \"7\" 🦀" } })
    );
    assert_eq!(
        request.json(),
        json!({
            "requestId": request.id(),
            "timestamp": clock.now().as_millis(),
            "records": [{ "data": "b25l" }, { "data": "" }, { "data": "dGhyZWUK" }],
        })
    );
}

#[test]
fn a_request_has_no_more_headers_than_it_needs_and_gzip_on_demand() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let server = Server::start(|_, request| success(request));
    stream.put("key", "one").unwrap();
    let endpoint = HttpEndpoint::new(&server.url("")).unwrap().gzip(true);
    let delivery = options(&stream, scratch.path()).to(endpoint).start().unwrap();
    flush(&delivery);
    let mut request = server.requests().remove(0);
    assert_eq!(request.line, "POST / HTTP/1.1");
    assert_eq!(request.headers["content-encoding"], "gzip");
    assert_eq!(request.headers["x-amz-firehose-access-key"], "", "as Firehose has it without a key");
    assert!(!request.headers.contains_key("x-amz-firehose-common-attributes"));
    let mut body = vec![];
    flate2::read::GzDecoder::new(&*request.body).read_to_end(&mut body).unwrap();
    request.body = body;
    assert_eq!(request.records(), ["one"]);
    delivery.close().unwrap();
}

/// Delivers three records to an endpoint whose first reply is this one and the others are success, and returns the error of the first attempt.
fn error_of(first: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> String {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let server = Server::start(move |number, request| match number {
        0 => first(request),
        _ => success(request),
    });
    for data in ["one", "two", "three"] {
        stream.put("key", data).unwrap();
    }
    let endpoint = HttpEndpoint::new(&server.url("/in?token=7"))
        .unwrap()
        .access_key("s3cret")
        .unwrap()
        .timeout(Duration::from_secs(2));
    let errors = scratch.path().join("errors");
    let delivery = options(&stream, &errors).to(endpoint).start().unwrap();
    flush(&delivery);
    let stats = delivery.stats();
    assert_eq!((stats.records, stats.objects, stats.errors, stats.failed_records), (3, 1, 1, 0));
    delivery.close().unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 2, "one more than failed");
    assert_eq!(requests[0].id(), requests[1].id(), "the id is stable");
    for request in requests {
        assert_eq!(request.json()["requestId"], request.id());
        assert_eq!(request.records(), ["one", "two", "three"]);
    }
    assert!(!errors.exists());
    let error = stats.last_error.unwrap();
    assert!(!error.contains("s3cret") && !error.contains("token"), "{error}");
    assert!(error.contains(&format!("http://{}/in", server.address)), "{error}");
    error
}

#[test]
fn each_answer_but_success_is_an_error_that_is_tried_again_with_the_same_id() {
    let json = "application/json";
    let answer = |status: u16, change: fn(&mut Value)| {
        move |request: &Request| {
            let mut body = json!({ "requestId": request.id(), "timestamp": 1 });
            change(&mut body);
            Reply::Answer(status, json, body.to_string())
        }
    };
    let same = |_: &mut Value| {};
    for status in [201, 202, 204, 302, 307, 400, 401, 403, 404, 429, 500, 502, 503] {
        assert!(error_of(answer(status, same)).ends_with(&format!("answered {status}")));
    }
    let error = error_of(answer(500, |body| body["errorMessage"] = "the key s3cret is\nfull".into()));
    assert!(error.ends_with("answered 500: the key (hidden) is\nfull"), "{error}");
    let error = error_of(answer(200, |body| body["requestId"] = "another".into()));
    assert!(error.contains("for the request \"another\" instead of"), "{error}");
    for change in [
        |body: &mut Value| body["timestamp"] = "now".into(),
        |body: &mut Value| _ = body.as_object_mut().unwrap().remove("timestamp"),
    ] {
        assert!(error_of(answer(200, change)).ends_with("without a timestamp in milliseconds"));
    }
    let typed = |content_type: &'static str| {
        move |request: &Request| match success(request) {
            Reply::Answer(status, _, body) => Reply::Answer(status, content_type, body),
            other => other,
        }
    };
    let error = error_of(typed("text/html"));
    assert!(error.ends_with(r#"with the type "text/html" instead of application/json"#), "{error}");
    let error = error_of(move |_| Reply::Answer(200, json, "<p>fine</p>".into()));
    assert!(error.ends_with("with what is no JSON object"), "{error}");
    error_of(move |_| Reply::Answer(200, json, " ".repeat(2 << 20)));
}

#[test]
fn an_answer_whose_type_has_parameters_is_success() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let server = Server::start(|_, request| match success(request) {
        Reply::Answer(status, _, body) => Reply::Answer(status, "Application/JSON; charset=utf-8", body),
        other => other,
    });
    stream.put("key", "one").unwrap();
    let endpoint = HttpEndpoint::new(&server.url("")).unwrap();
    let delivery = options(&stream, scratch.path()).to(endpoint).start().unwrap();
    flush(&delivery);
    assert_eq!((delivery.stats().errors, server.requests().len()), (0, 1));
}

#[test]
fn a_connection_that_is_lost_or_silent_is_an_error_that_is_tried_again_with_the_same_id() {
    error_of(|_| Reply::Lost);
    error_of(|_| Reply::Bytes("HTTP/1.1 200 O".into()));
    error_of(|_| Reply::Bytes("no HTTP at all\r\n\r\n".into()));
    error_of(|request| {
        let body = json!({ "requestId": request.id(), "timestamp": 1 }).to_string();
        let length = body.len() + 1;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:";
        Reply::Bytes(format!("{head} {length}\r\n\r\n{body}"))
    });
    let error = error_of(|_| Reply::Silent);
    assert!(error.ends_with("did not answer within 2s"), "{error}");
}

#[test]
fn l1_an_endpoint_that_refuses_connections_is_waited_for() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    stream.put("key", "one").unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let endpoint = HttpEndpoint::new(&format!("http://{address}/")).unwrap();
    let delivery = options(&stream, scratch.path()).buffer_bytes(1).to(endpoint).start().unwrap();
    eventually(|| delivery.stats().errors >= 3);
    let error = delivery.stats().last_error.unwrap();
    assert!(error.starts_with(&format!("no answer from http://{address}/: ")), "{error}");
    let server = Server::start_at(&address, |_, request| success(request));
    flush(&delivery);
    assert_eq!(server.requests()[0].records(), ["one"]);
}

#[test]
fn l5_what_is_too_large_goes_to_the_error_output_at_once() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let server = Server::start(|_, _| {
        Reply::Answer(413, "application/json", json!({ "errorMessage": "too much" }).to_string())
    });
    for data in ["one", "two"] {
        stream.put("key", data).unwrap();
    }
    let errors = scratch.path().join("errors");
    let endpoint = HttpEndpoint::new(&server.url("/")).unwrap();
    let delivery = options(&stream, &errors).to(endpoint).start().unwrap();
    flush(&delivery);
    delivery.close().unwrap();
    assert_eq!(server.requests().len(), 1);
    let found = lines_below(&errors);
    assert_eq!(found.len(), 2);
    for ((name, line), data) in found.iter().zip(["b25l", "dHdv"]) {
        assert!(name.starts_with("http-endpoint-failed/2023/11/14/22/collector-"), "{name}");
        assert_eq!((&line["rawData"], &line["attemptsMade"]), (&json!(data), &json!(1)));
        assert!(line["errorMessage"].as_str().unwrap().ends_with("too large: too much"));
    }
}

#[test]
fn l5_what_fails_for_five_minutes_goes_to_the_error_output_and_not_before() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let server = Server::start(|_, _| Reply::Answer(503, "text/plain", "busy".into()));
    stream.put("key", "one").unwrap();
    let errors = scratch.path().join("errors");
    let endpoint = HttpEndpoint::new(&server.url("/")).unwrap();
    let options = options(&stream, &errors).error_prefix("not/!{firehose:error-output-type}/");
    let delivery = options.buffer_bytes(1).to(endpoint).start().unwrap();
    eventually(|| delivery.stats().errors >= 3);
    clock.advance(5 * MINUTE - SECOND);
    let before = delivery.stats().errors;
    eventually(|| delivery.stats().errors >= before + 3);
    assert!(!errors.exists());
    clock.advance(SECOND);
    eventually(|| delivery.stats().objects == 1);
    delivery.close().unwrap();
    let found = lines_below(&errors);
    assert!(found[0].0.starts_with("not/http-endpoint-failed/"), "{found:?}");
    assert_eq!(found[0].1["rawData"], "b25l");
    assert!(found[0].1["attemptsMade"].as_u64().unwrap() >= 6);
    assert!(found[0].1["errorMessage"].as_str().unwrap().ends_with("answered 503"));
}

/// A small seeded number generator.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// At an endpoint that drops duplicates by id, each record arrives once, whatever happens to requests and to the delivery.
#[test]
fn l2_a_request_has_the_same_id_and_records_after_faults_and_restarts() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let state = Mutex::new(7);
    let server = Server::start(move |_, request| match next(&mut state.lock()) % 8 {
        0 => Reply::Lost,
        1 => Reply::Bytes("HTTP/1.1 200 OK\r\nContent-Le".into()),
        2 => Reply::Answer(500, "text/plain", String::new()),
        3 => Reply::Answer(200, "application/json", json!({ "requestId": "another" }).to_string()),
        _ => success(request),
    });
    let mut expected = vec![];
    for round in 0..30 {
        let endpoint = HttpEndpoint::new(&server.url("/")).unwrap().gzip(false);
        let delivery = options(&stream, scratch.path())
            .buffer_bytes(64)
            .retry_duration(None)
            .to(endpoint)
            .start()
            .unwrap();
        for number in 0..40 {
            let data = format!("{round:02} {number:02}");
            stream.put("key", data.clone()).unwrap();
            expected.push(data);
        }
        if round % 3 == 2 {
            flush(&delivery);
        }
        // One attempt for each object, so some are left for the next delivery.
        delivery.close().unwrap();
    }
    let mut taken = BTreeMap::new();
    let mut repeated = 0;
    for request in server.requests() {
        let (id, records) = (request.id(), request.records());
        if let Some(before) = taken.insert(id, records.clone()) {
            assert_eq!(before, records, "the same id, other records");
            repeated += 1;
        }
    }
    assert!(repeated > 20, "the faults were seen: {repeated}");
    let mut taken: Vec<_> = taken.into_values().flatten().collect();
    taken.sort();
    assert_eq!(taken, expected);
}

#[test]
fn settings_that_do_not_work_are_refused() {
    for url in ["", "collector", "/in", "ftp://collector/", "https://", "http:// x/"] {
        match HttpEndpoint::new(url) {
            Err(Error::InvalidArgument(reason)) => {
                assert!(reason.starts_with("the URL of an endpoint "), "{reason}")
            }
            other => panic!("{url}: {other:?}"),
        }
    }
    let endpoint = || HttpEndpoint::new("https://user:password@collector.example.com/in?token=7").unwrap();
    assert!(endpoint().access_key("two\nlines").is_err());
    assert!(endpoint().access_key("x".repeat(4_097)).is_err());
    assert!(endpoint().source_arn("arn\r\n").is_err());
    let shown = format!("{:?}", endpoint());
    assert!(!shown.contains("password") && !shown.contains("token"), "{shown}");

    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    let refused = stream.delivery("collector").to(endpoint()).start().unwrap_err().to_string();
    assert!(refused.contains("errors_to"), "{refused}");
}

fn answer(status: u16, body: Value) -> Reply {
    Reply::Answer(status, "application/json", body.to_string())
}

fn path_of(request: &Request) -> &str {
    request.line.split([' ', '?']).nth(1).unwrap()
}

#[test]
fn splunk_gets_events_and_is_asked_until_they_are_indexed() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let server = Server::start(|number, request| match (number, path_of(request)) {
        (0, _) => answer(503, json!({ "text": "Server is busy", "code": 9 })),
        (_, "/services/collector/event") => answer(200, json!({ "text": "Success", "code": 0, "ackId": 7 })),
        (2, _) => Reply::Lost,
        (3, _) => answer(200, json!({ "acks": { "7": false } })),
        _ => answer(200, json!({ "acks": { "7": true } })),
    });
    for data in [&b"{\"page\":1}"[..], b"", b"a \"text\"", b"\xff"] {
        stream.put("key", data).unwrap();
    }
    let channel = "0aeeac95-ac74-4aa9-b30d-6c4c0ac581ba";
    let splunk = SplunkHec::new(&server.url("/"), "s3cret").unwrap().channel(channel).unwrap();
    assert!(!format!("{splunk:?}").contains("s3cret"));
    let errors = scratch.path().join("errors");
    let delivery = options(&stream, &errors).to(splunk).start().unwrap();
    flush(&delivery);
    let stats = delivery.stats();
    delivery.close().unwrap();
    let requests = server.requests();
    let paths: Vec<_> = requests.iter().map(path_of).collect();
    let (event, ack) = ("/services/collector/event", "/services/collector/ack");
    assert_eq!(paths, [event, event, ack, ack, ack], "one more for each attempt, and one for each question");
    for request in &requests {
        assert_eq!(request.headers["authorization"], "Splunk s3cret");
        assert_eq!(request.headers["x-splunk-request-channel"], channel);
    }
    assert_eq!(requests[1].body, b"{\"event\":{\"page\":1}}\n{\"event\":\"a \\\"text\\\"\"}\n");
    assert_eq!(requests[2].json(), json!({ "acks": [7] }));
    // Only data that is not text goes to the error output.
    let found = lines_below(&errors);
    assert_eq!(found.len(), 1);
    assert!(found[0].0.starts_with("splunk-failed/"), "{found:?}");
    assert_eq!(found[0].1["rawData"], "/w==");
    assert_eq!((stats.records, stats.failed_records), (3, 1));
}

#[test]
fn splunk_refuses_data_for_good_and_everything_else_for_now() {
    let error_of = |status: u16, code: u64| {
        let (scratch, clock) = (common::scratch(), common::clock());
        let stream = open(&scratch.path().join("stream"), &clock);
        let server = Server::start(move |number, request| match number {
            0 => answer(status, json!({ "text": "no, s3cret", "code": code })),
            _ => {
                assert_eq!(path_of(request), "/services/collector/raw");
                answer(200, json!({ "code": 0 }))
            }
        });
        stream.put("key", "one").unwrap();
        stream.put("key", "two").unwrap();
        let splunk = SplunkHec::new(&server.url(""), "s3cret").unwrap().raw(true);
        let errors = scratch.path().join("errors");
        let delivery = options(&stream, &errors).to(splunk).start().unwrap();
        flush(&delivery);
        let error = delivery.stats().last_error.unwrap();
        delivery.close().unwrap();
        assert_eq!(server.requests()[0].body, b"one\ntwo\n");
        assert!(error.ends_with(&format!("answered {status}: no, (hidden)")), "{error}");
        (server.requests().len(), lines_below(&errors).len())
    };
    for (status, code) in [(400, 5), (400, 6), (400, 12), (400, 13), (413, 27)] {
        assert_eq!(error_of(status, code), (1, 2), "{status} {code}");
    }
    for (status, code) in [(400, 7), (401, 2), (403, 4), (404, 404), (500, 8), (503, 9), (200, 9)] {
        assert_eq!(error_of(status, code), (2, 0), "{status} {code}");
    }
}

#[test]
fn splunk_gets_events_again_that_it_does_not_acknowledge_in_time() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let server = Server::start(|number, request| match path_of(request) {
        "/services/collector/event" => answer(200, json!({ "code": 0, "ackId": number })),
        // The first is lost, the second is indexed.
        _ => answer(200, json!({ "acks": { "0": false, "2": true } })),
    });
    stream.put("key", "one").unwrap();
    let splunk = SplunkHec::new(&server.url(""), "s3cret").unwrap().acknowledgement_timeout(Duration::ZERO);
    let delivery = options(&stream, scratch.path()).to(splunk).start().unwrap();
    flush(&delivery);
    let error = delivery.stats().last_error.unwrap();
    assert!(error.ends_with("did not acknowledge within 0ns"), "{error}");
    assert_eq!(server.requests().len(), 4);
    assert_eq!(delivery.stats().records, 1);
}

#[test]
fn an_index_gets_documents_whose_ids_are_stable_and_only_what_it_refuses_goes_to_the_error_output() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let created = || json!({ "index": { "status": 201 } });
    let failed = |status: u16, kind: &str| json!({ "index": { "status": status, "error": { "type": kind, "reason": "it says" } } });
    let items = vec![
        answer(429, json!({ "error": { "type": "busy", "reason": "later" } })),
        Reply::Lost,
        answer(200, json!({ "items": [created()] })),
        answer(200, json!({ "items": [created(), failed(400, "mapper"), failed(429, "full")] })),
        answer(200, json!({ "items": [created(), failed(503, "down"), created()] })),
        answer(200, json!({ "items": [created(), failed(400, "mapper"), created()] })),
    ];
    let items = Mutex::new(items.into_iter());
    let server = Server::start(move |_, _| items.lock().next().unwrap());
    for data in ["{\"a\":\n1}", "no object", "{\"b\":[]}", "[1]", "{\"c\":0}"] {
        stream.put("key", data).unwrap();
    }
    let index = OpenSearchBulk::new(&server.url(""), "clicks").unwrap().password("me", "s3cret").unwrap();
    assert!(!format!("{index:?}").contains("s3cret") && !format!("{index:?}").contains("Basic"));
    let errors = scratch.path().join("errors");
    let delivery = options(&stream, &errors).to(index).start().unwrap();
    flush(&delivery);
    let stats = delivery.stats();
    delivery.close().unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 6);
    for request in &requests {
        assert_eq!(request.line, "POST /clicks/_bulk HTTP/1.1");
        assert_eq!(request.headers["authorization"], "Basic bWU6czNjcmV0");
        assert_eq!(request.headers["content-type"], "application/x-ndjson");
        assert_eq!(request.body, requests[0].body, "the ids are stable");
    }
    let lines: Vec<Value> = std::str::from_utf8(&requests[0].body)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        [&lines[1], &lines[3], &lines[5]],
        [&json!({ "a": 1 }), &json!({ "b": [] }), &json!({ "c": 0 })]
    );
    let ids: Vec<_> = lines.iter().step_by(2).map(|line| line["index"]["_id"].as_str().unwrap()).collect();
    let id = ids[0].strip_suffix("-0").unwrap();
    assert_eq!(ids[1..], [format!("{id}-2"), format!("{id}-4")]);

    let found = lines_below(&errors);
    assert!(found[0].0.starts_with("AmazonOpenSearchService-failed/"), "{found:?}");
    let data: Vec<_> =
        found.iter().map(|(_, line)| STANDARD.decode(line["rawData"].as_str().unwrap()).unwrap()).collect();
    let mut data: Vec<_> = data.iter().map(|data| std::str::from_utf8(data).unwrap()).collect();
    data.sort_unstable();
    assert_eq!(data, ["[1]", "no object", "{\"b\":[]}"]);
    let message = found[0].1["errorMessage"].as_str().unwrap();
    assert!(message.ends_with("refused a row with 400: mapper: it says"), "{message}");
    assert_eq!((stats.records, stats.failed_records, stats.errors), (2, 3, 6));
}

/// An HTTPS server that accepts each request with an answer valid for the protocols of Firehose, Splunk and OpenSearch. It ends with its input.
const TLS_SERVER: &str = r#"
import http.server, json, ssl, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        items = [{"index": {"status": 201}} for _ in range(body.count(b"\n") // 2)]
        answer = {"requestId": self.headers.get("X-Amz-Firehose-Request-Id"), "timestamp": 1, "code": 0, "items": items}
        answer = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
"#;

struct TlsServer {
    child: Child,
    port: u16,
}

impl TlsServer {
    fn start(python: &Path, directory: &Path, certificate: &str, key: &str) -> Self {
        let [certificate_file, key_file] = ["certificate", "key"].map(|name| directory.join(name));
        std::fs::write(&certificate_file, certificate).unwrap();
        std::fs::write(&key_file, key).unwrap();
        let mut child = Command::new(python)
            .args(["-c", TLS_SERVER])
            .args([certificate_file, key_file])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().expect("it prints its port") }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_is_trusted_by_the_certificates_that_are_given_and_by_no_others() {
    use certificates::{AUTHORITY, OWN, OWN_KEY, SERVER, SERVER_KEY};
    let Some(python) = common::python::with("ssl") else { return };
    let scratch = common::scratch();
    let signed = TlsServer::start(&python, scratch.path(), SERVER, SERVER_KEY);
    let own = TlsServer::start(&python, scratch.path(), OWN, OWN_KEY);
    let clock = common::clock();
    let stream = open(&scratch.path().join("stream"), &clock);
    stream.put("key", "{}").unwrap();
    let url = |host: &str, server: &TlsServer| format!("https://{host}:{}", server.port);
    // `None`: it exists.
    let error_of = |sink: Arc<dyn streamlog::delivery::Sink>| {
        let delivery = options(&stream, &scratch.path().join("errors")).to(sink).start().unwrap();
        delivery.flush(Duration::from_millis(1));
        eventually(|| {
            delivery.flush(Duration::from_millis(10));
            delivery.stats().errors > 0 || delivery.stats().records > 0
        });
        let error = delivery.stats().last_error;
        delivery.close().unwrap();
        stream.group("collector").delete().unwrap();
        error
    };
    let endpoint = |url: &str| HttpEndpoint::new(url).unwrap();
    let trusting = |url: &str, pem: &str| Arc::new(endpoint(url).root_certificates(pem).unwrap());
    // Trusted: an authority, the server itself, and several.
    assert_eq!(error_of(trusting(&url("127.0.0.1", &signed), AUTHORITY)), None);
    assert_eq!(error_of(trusting(&url("127.0.0.1", &own), OWN)), None);
    assert_eq!(error_of(trusting(&url("127.0.0.1", &own), &format!("{AUTHORITY}{OWN}"))), None);
    let splunk = SplunkHec::new(&url("127.0.0.1", &signed), "s3cret").unwrap();
    assert_eq!(error_of(Arc::new(splunk.root_certificates(AUTHORITY).unwrap())), None);
    let search = OpenSearchBulk::new(&url("127.0.0.1", &signed), "index").unwrap();
    assert_eq!(error_of(Arc::new(search.root_certificates(AUTHORITY).unwrap())), None);
    // Not trusted: a certificate that no trusted authority signed, and another name.
    let unknown = [
        Arc::new(endpoint(&url("127.0.0.1", &signed))),
        trusting(&url("127.0.0.1", &signed), OWN),
        trusting(&url("127.0.0.1", &own), AUTHORITY),
    ];
    for sink in unknown {
        let error = error_of(sink).unwrap();
        assert!(error.starts_with("no answer from https://127.0.0.1:"), "{error}");
        assert!(error.contains("the certificate of the server is not trusted: UnknownIssuer"), "{error}");
        assert!(error.ends_with("set root_certificates to the authority that signed it"), "{error}");
    }
    let error = error_of(trusting(&url("localhost", &signed), AUTHORITY)).unwrap();
    assert!(
        error.contains("certificate of the server is not trusted") && error.contains("localhost"),
        "{error}"
    );
    // Invalid certificates.
    for (pem, reason) in
        [("", "no certificate in PEM"), ("junk", "no certificate in PEM"), (OWN_KEY, "without keys")]
    {
        match endpoint("https://127.0.0.1").root_certificates(pem) {
            Err(Error::InvalidArgument(text)) => assert!(text.contains(reason), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn l5_closing_waits_for_its_time_and_not_for_the_sink() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let is_indexed = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&is_indexed);
    let server = Server::start(move |_, request| match path_of(request) {
        "/services/collector/event" => answer(200, json!({ "code": 0, "ackId": 7 })),
        _ => answer(200, json!({ "acks": { "7": answers.load(Ordering::SeqCst) } })),
    });
    let start = || {
        let splunk = SplunkHec::new(&server.url(""), "s3cret").unwrap();
        options(&stream, scratch.path()).close_timeout(5 * MINUTE).to(splunk).start().unwrap()
    };
    let events = || server.requests().iter().filter(|request| path_of(request).ends_with("event")).count();
    stream.put("key", "one").unwrap();
    let delivery = start();
    eventually(|| delivery.stats().read_records == 1);
    let closing = thread::spawn(|| delivery.close());
    eventually(|| server.requests().len() > 2);
    thread::sleep(Duration::from_millis(100));
    assert!(!closing.is_finished(), "it is given its time");
    clock.advance(5 * MINUTE);
    closing.join().unwrap().unwrap();
    assert_eq!(stream.group("collector").describe().unwrap().lag().record_count, 1, "it has not arrived");
    // It is sent again, and closing waits until it has arrived.
    let delivery = start();
    eventually(|| events() == 2);
    let closing = thread::spawn(|| delivery.close());
    is_indexed.store(true, Ordering::SeqCst);
    closing.join().unwrap().unwrap();
    assert_eq!(stream.group("collector").describe().unwrap().lag().record_count, 0);
    assert_eq!(events(), 2);
}
