//! A gateway beside other users of its streams, and its shutdown.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use streamlog::gateway::{Gateway, GatewayError};
use streamlog::{Store, Stream, StreamOptions};

use crate::common;

#[test]
fn l1_a_gateway_that_is_closed_leaves_no_stream_open() {
    let directory = common::scratch();
    let store = Store::open(directory.path(), StreamOptions::new()).unwrap();
    for number in 0..300 {
        store.create(&format!("stream-{number}"), StreamOptions::new()).unwrap();
    }
    store.close().unwrap();
    // It is closed immediately, while it still opens streams, and a moment later.
    for wait in [0, 1, 5, 20] {
        let running = Gateway::new(store.clone()).without_authentication().start("127.0.0.1:0").unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        running.close().unwrap();
        for path in Stream::list(directory.path()).unwrap() {
            Stream::open(path).unwrap().close().unwrap();
        }
    }
}

#[test]
fn a_gateway_that_nobody_said_who_may_use_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = || Gateway::new(Store::open(directory.path(), StreamOptions::new()).unwrap());
    let invalid = |gateway: Gateway, address: &str| match gateway.start(address) {
        Err(GatewayError::InvalidSetting(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(invalid(gateway(), "127.0.0.1:0").starts_with("say who may call"));
    let text = invalid(gateway().without_authentication(), "0.0.0.0:0");
    assert_eq!(text, "0.0.0.0 can be reached by other machines: use 127.0.0.1, or give credentials");
    let keys = directory.path().join("keys.json");
    std::fs::write(&keys, r#"{"keys": [{"access_key_id": "a"}]}"#).unwrap();
    assert!(
        invalid(gateway().credentials(&keys), "127.0.0.1:0")
            .ends_with("keys.json: key 1: secret_access_key is missing")
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = gateway().without_authentication().start(&*address).unwrap_err();
    assert!(error.to_string().starts_with(&format!("listen at {address}: ")), "{error}");
}

/// Sends a call. The connection closes after the response.
fn send(address: SocketAddr, operation: &str, body: &str) -> TcpStream {
    send_to(address, &format!("Kinesis_20131202.{operation}"), body)
}

fn send_to(address: SocketAddr, target: &str, body: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    let head =
        "Connection: close\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Date: 20200101T000000Z";
    let signature = "AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=0";
    write!(
        socket,
        "POST / HTTP/1.1\r\nHost: a\r\n{head}\r\nX-Amz-Target: {target}\r\nAuthorization: {signature}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    socket
}

/// Returns the body of a successful response.
#[track_caller]
fn answer(mut socket: TcpStream) -> String {
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    assert!(head.starts_with("HTTP/1.1 200"), "{text}");
    body.to_owned()
}

#[test]
fn l5_calls_that_wait_for_records_hold_up_neither_others_nor_the_end() {
    let directory = common::scratch();
    let store = Store::open(directory.path(), StreamOptions::new()).unwrap();
    let running =
        Gateway::new(store).without_authentication().delay(Duration::ZERO).start("127.0.0.1:0").unwrap();
    let call = |operation: &str, body: &str| answer(send(running.local_address(), operation, body));
    call("CreateStream", r#"{"StreamName": "clicks", "StreamModeDetails": {"StreamMode": "ON_DEMAND"}}"#);
    let stream = "arn:aws:kinesis:us-east-1:000000000000:stream/clicks";
    let created = call(
        "CreateQueue",
        &format!(r#"{{"QueueName": "jobs", "StreamConfigurationList": [{{"StreamARN": "{stream}"}}]}}"#),
    );
    let created: serde_json::Value = serde_json::from_str(&created).unwrap();
    let receive = format!(
        r#"{{"QueueARN": {}, "WaitTimeSeconds": 20, "Limit": 1}}"#,
        created["QueueDescription"]["QueueARN"]
    );
    // More than the server's threads for slow calls.
    let begin = || send(running.local_address(), "ReceiveQueueRecords", &receive);
    let waiting: Vec<_> = (0..200).map(|_| begin()).collect();
    let begun = std::time::Instant::now();
    for _ in 0..20 {
        call("ListStreams", "{}");
        call("PutRecord", r#"{"StreamName": "clicks", "PartitionKey": "a", "Data": ""}"#);
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "they waited for calls that wait");
    let closing = std::thread::spawn(move || running.close());
    let answers: Vec<_> = waiting.into_iter().map(answer).collect();
    closing.join().unwrap().unwrap();
    let received: Vec<_> = answers.iter().filter(|body| **body != r#"{"QueueRecords":[]}"#).collect();
    assert_eq!(received.len(), 20, "each record went to one of them, and the others got none at the end");
}

#[cfg(feature = "sql")]
mod sql {
    use super::common::waiting::eventually;
    use super::*;

    #[test]
    fn statements_end_with_their_clients_and_with_the_gateway() {
        let directory = common::scratch();
        let store = Store::open(directory.path(), StreamOptions::new()).unwrap();
        let gateway = Gateway::new(store.clone()).without_authentication().delay(Duration::ZERO);
        let running = gateway.queries_max(1).start("127.0.0.1:0").unwrap();
        let address = running.local_address();
        answer(send(address, "CreateStream", r#"{"StreamName": "clicks", "ShardCount": 1}"#));
        let ask = |operation: &str, statement: &str| {
            let body = serde_json::json!({"Statement": statement}).to_string();
            send_to(address, &format!("Streamlog_20261129.{operation}"), &body)
        };
        let text = |mut socket: TcpStream| {
            let mut text = String::new();
            socket.read_to_string(&mut text).unwrap();
            text
        };
        let has_place = || text(ask("Query", "SELECT 1")).starts_with("HTTP/1.1 200");
        // The first statement must prepare what all share, and may hold its slot for longer than the next one waits for it.
        eventually(has_place);
        let endless = ask(
            "Query",
            "SELECT count(*) FROM generate_series(1, 1000) a, generate_series(1, 1000000000000) b WHERE a.value * b.value % 7 = 8",
        );
        eventually(|| !has_place());
        drop(endless);
        eventually(has_place);

        let stream = store.stream("clicks").unwrap();
        let watch = || {
            let mut socket = ask("Watch", "SELECT _key FROM clicks");
            let mut text = String::new();
            while !text.contains("\"Notes\"") {
                let mut bytes = [0; 1_000];
                let count = socket.read(&mut bytes).unwrap();
                assert!(count > 0, "{text}");
                text.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            assert_eq!(stream.groups().unwrap().len(), 1);
            socket
        };
        drop(watch());
        eventually(|| stream.groups().unwrap().is_empty());
        let socket = watch();
        running.close().unwrap();
        text(socket);
        let stream = Stream::open(directory.path().join("clicks")).unwrap();
        assert!(stream.groups().unwrap().is_empty());
        stream.close().unwrap();
    }
}
