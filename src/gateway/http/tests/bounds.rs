//! Clients that send too much, too many or nonsense over HTTP/1.

use std::sync::atomic::Ordering::SeqCst;

use super::*;

const TOO_LARGE: &str = r#"{"__type":"RequestEntityTooLargeException"}"#;

#[test]
fn a_body_that_is_too_large_is_answered_with_413_and_the_connection_goes_on() {
    let running = start(Settings { body_bytes_max: 100_000, ..settings() });
    let mut client = Client::connect(&running);
    assert_eq!(client.call("/", &"x".repeat(100_000)).0, 200);
    assert_eq!(client.call("/", &"x".repeat(100_001)), (413, TOO_LARGE.to_owned()));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..11 {
        client.send(format!("{:x}\r\n{}\r\n", 10_000, "x".repeat(10_000)));
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.answer(), (413, TOO_LARGE.to_owned()));
    assert_eq!(client.call("/", "again"), (200, "again".to_owned()));
}

#[test]
fn a_body_without_end_is_not_read_without_end() {
    let running = start(Settings { body_bytes_max: 100_000, ..settings() });
    let mut client = Client::connect(&running);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("{:x}\r\n{}\r\n", 10_000, "x".repeat(10_000));
    let is_cut = (0..10_000).any(|_| client.0.write_all(chunk.as_bytes()).is_err());
    assert!(is_cut, "the server read 100 MB");
}

#[test]
fn a_declared_body_that_is_too_large_is_not_asked_for() {
    let running = start(Settings { body_bytes_max: 100_000, ..settings() });
    for length in ["100001", "18446744073709551000"] {
        let mut client = Client::connect(&running);
        let head =
            format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
        client.send(head);
        assert_eq!(client.answer(), (413, TOO_LARGE.to_owned()));
        assert_eq!(client.read_all(), "", "what follows cannot be told from the body");
    }
}

#[test]
fn bodies_that_find_no_memory_are_answered_with_503() {
    let (running, tester) = start_with(Settings { memory_bytes_max: 250_000, ..settings() });
    let gate = tester.gate.lock().unwrap();
    let body = "x".repeat(100_000);
    let mut holders: Vec<_> = (0..2).map(|_| Client::connect(&running)).collect();
    holders.iter_mut().for_each(|client| client.send(post("/slow/gate", &body)));
    eventually("both are being answered", || tester.at_work.load(SeqCst) == 2);
    let mut client = Client::connect(&running);
    client.send(post("/", &body));
    let head = client.read_until("\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nretry-after: 1\r\n"), "{head}");
    assert_eq!(client.read_until("}"), r#"{"__type":"ServiceUnavailableException"}"#);
    assert_eq!(client.call("/", "small"), (200, "small".to_owned()), "the connection goes on");
    drop(gate);
    assert!(holders.iter_mut().all(|client| client.answer().0 == 200));
    assert_eq!(client.call("/", &body).0, 200, "memory is given back");
    for _ in 0..10 {
        assert_eq!(client.call("/slow/wait/0", &body).0, 200, "memory is given back");
    }
}

#[test]
fn answers_that_nobody_takes_hold_memory() {
    let settings = Settings { memory_bytes_max: 40_000_000, stall_time: SHORT * 20, ..settings() };
    let running = start(settings);
    // More than the buffers of both sides of a connection hold.
    let mut holders: Vec<_> = (0..2).map(|_| Client::connect(&running)).collect();
    for client in &mut holders {
        client.send(post("/large/15000000", ""));
        assert!(client.read_until("\r\n\r\n").starts_with("HTTP/1.1 200 "));
    }
    let mut client = Client::connect(&running);
    client.send(post("/large/15000000", ""));
    assert!(client.read_until("}").starts_with("HTTP/1.1 503 "));
    assert_eq!(client.call("/large/1000", "").0, 200, "small answers always pass");
    drop(holders);
    eventually("memory is given back", || Client::connect(&running).call("/large/15000000", "").0 == 200);
}

#[test]
fn a_client_that_declares_much_and_sends_little_holds_little() {
    let running = start(Settings { memory_bytes_max: 1_000_000, ..settings() });
    let mut idle: Vec<_> = (0..50).map(|_| Client::connect(&running)).collect();
    for client in &mut idle {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\nx");
    }
    eventually("all are being read", || running.counts().now().http1_requests == 50);
    assert_eq!(Client::connect(&running).call("/", &"x".repeat(900_000)).0, 200);
}

#[test]
fn connections_beyond_the_bound_are_closed_at_once() {
    let running = start(Settings { connections_max: 3, ..settings() });
    let mut open: Vec<_> = (0..3).map(|_| Client::connect(&running)).collect();
    assert!(open.iter_mut().all(|client| client.call("/", "hi").0 == 200));
    assert_eq!(Client::connect(&running).read_all(), "");
    let counts = running.counts().now();
    assert_eq!((counts.accepted, counts.refused, counts.open), (4, 1, 3));
    open.pop();
    eventually("a place is free", || running.counts().now().open == 2);
    // The place is free a moment after the count.
    eventually("a client gets it", || {
        let mut client = Client::connect(&running);
        client.0.write_all(post("/", "hi").as_bytes()).is_ok() && client.first_word() == "HTTP"
    });
}

#[test]
fn headers_that_are_too_large_or_too_many_are_answered_with_431() {
    let running = start(Settings { header_bytes_max: 10_000, header_count_max: 20, ..settings() });
    let request = |headers: String| format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    let header = |n: usize, bytes| format!("h{n}: {}\r\n", "x".repeat(bytes));
    for (headers, status) in [
        (header(0, 9_000), 200),
        (header(0, 10_000), 431),
        ((0..19).map(|n| header(n, 1)).collect(), 200),
        ((0..20).map(|n| header(n, 1)).collect(), 431),
        ((0..15).map(|n| header(n, 1_000)).collect(), 431),
    ] {
        let mut client = Client::connect(&running);
        client.send(request(headers));
        assert_eq!(client.answer().0, status);
    }
    let many = start(Settings { header_count_max: 150, ..settings() });
    for (count, status) in [(149, 200), (150, 431)] {
        let mut client = Client::connect(&many);
        client.send(request((0..count).map(|n| header(n, 1)).collect()));
        assert_eq!(client.answer().0, status);
    }
    let mut client = Client::connect(&running);
    client.send(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000)));
    let status = client.answer().0;
    assert!(status == 431 || status == 414, "{status}");
}

#[test]
fn malformed_requests_are_answered_with_400() {
    let running = start(settings());
    for request in [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/3.7\r\n\r\n",
        "GET / HTTP/1.1\r\nbad header: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nA: \x01\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "PRI * HTTP/2.0\r\n\r\nSMS\r\n\r\n",
    ] {
        let mut client = Client::connect(&running);
        client.send(request);
        let answer = client.read_all();
        assert!(answer.starts_with("HTTP/1.1 400 ") || answer.is_empty(), "{request:?}: {answer}");
        assert!(!answer.contains("x-seen"), "{request:?} came to the service");
    }
    // A request with both lengths could hide a second one from a proxy in between, so the connection ends.
    let mut client = Client::connect(&running);
    client.send("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\n\r\n");
    let answer = client.read_all();
    assert!(!answer.contains("GET /b"), "{answer}");
    let mut client = Client::connect(&running);
    client.send("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n");
    assert_eq!(client.answer().0, 405);
    assert_eq!(client.read_all(), "");
    assert_eq!(Client::connect(&running).call("/", "hi").0, 200);
}

#[test]
fn a_service_that_panics_answers_500_and_the_connection_goes_on() {
    let running = start(settings());
    let mut client = Client::connect(&running);
    for path in ["/panic", "/slow/panic"] {
        assert_eq!(client.call(path, "secret"), (500, r#"{"__type":"InternalFailure"}"#.to_owned()));
        assert_eq!(client.call("/", "again"), (200, "again".to_owned()));
    }
}

#[test]
fn slow_answers_share_a_bounded_number_of_threads() {
    let (running, tester) = start_with(Settings { blocking_threads: 3, ..settings() });
    let gate = tester.gate.lock().unwrap();
    let mut clients: Vec<_> = (0..20).map(|_| Client::connect(&running)).collect();
    clients.iter_mut().for_each(|client| client.send(post("/slow/gate", "hi")));
    eventually("all requests arrive", || running.counts().now().http1_requests == 20);
    eventually("three are being answered", || tester.at_work.load(SeqCst) == 3);
    // Waiting requests are dropped with their clients.
    clients.truncate(5);
    eventually("they are gone", || running.counts().now().http1_requests <= 8);
    drop(gate);
    assert!(clients.iter_mut().all(|client| client.answer() == (200, "hi".to_owned())));
    assert_eq!(tester.at_work_max.load(SeqCst), 3);
}

#[test]
fn bytes_and_requests_are_counted() {
    let running = start(settings());
    let mut client = Client::connect(&running);
    let request = post("/large/1000", "");
    client.send(&request);
    client.answer();
    assert_eq!(running.counts().now().bytes_in, request.len() as u64);
    // A client may have its answer before the server has counted it.
    eventually("the answer is counted", || (1_000..1_500).contains(&running.counts().now().bytes_out));
    eventually("no request is open", || running.counts().now().http1_requests == 0);
}
