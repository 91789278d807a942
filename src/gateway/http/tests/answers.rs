//! Tests of what legitimate clients get over HTTP/1.

use std::sync::atomic::Ordering::SeqCst;

use super::*;

#[test]
fn an_answer_comes_and_the_connection_goes_on() {
    let running = start(settings());
    let mut client = Client::connect(&running);
    for round in 0..3 {
        assert_eq!(client.call("/", &format!("hello {round}")), (200, format!("hello {round}")));
    }
    assert_eq!(client.call("/", ""), (200, String::new()));
    assert!(running.close(LONG));
}

#[test]
fn answers_that_come_later_hold_no_thread() {
    let (running, tester) = start_with(Settings { blocking_threads: 1, ..settings() });
    let mut waiting: Vec<_> = (0..50).map(|_| Client::connect(&running)).collect();
    waiting.iter_mut().for_each(|client| client.send(post("/slow/later/60000", "hi")));
    let mut client = Client::connect(&running);
    for _ in 0..3 {
        assert_eq!(client.call("/slow/wait/0", "others are served"), (200, "others are served".to_owned()));
        assert_eq!(client.call("/slow/later/10", "later"), (200, "later".to_owned()));
    }
    assert_eq!(client.call("/slow/later-panic", "").0, 500);
    assert_eq!(client.call("/slow/later/0", "it goes on"), (200, "it goes on".to_owned()));
    // Nothing is kept for clients that have left.
    drop(waiting);
    eventually("the answers are given up", || tester.gone.load(SeqCst) == 50);
}

#[test]
fn an_expecting_client_is_told_to_continue() {
    let running = start(settings());
    let mut client = Client::connect(&running);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    assert_eq!(client.answer(), (200, "hello".to_owned()));
    assert_eq!(client.call("/", "again"), (200, "again".to_owned()));
}

#[test]
fn a_connection_ends_when_the_client_asks_for_it() {
    let running = start(settings());
    let mut client = Client::connect(&running);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
    let answer = client.read_all();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhi"), "{answer}");
}

#[test]
fn http_1_0_gets_a_whole_answer_and_pieces_until_the_end() {
    let running = start(settings());
    let mut client = Client::connect(&running);
    client.send("POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi");
    let answer = client.read_all();
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nhi"), "{answer}");

    let mut client = Client::connect(&running);
    client.send("POST /pieces/3/2/0 HTTP/1.0\r\n\r\n");
    let answer = client.read_all();
    assert!(answer.ends_with("\r\n\r\n000102") && !answer.contains("chunked"), "{answer}");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let running = start(settings());
    let mut client = Client::connect(&running);
    let requests: String =
        (0..50).map(|n| post(["/", "/slow/wait/1"][n % 2], &format!("request {n}"))).collect();
    client.send(requests);
    for n in 0..50 {
        assert_eq!(client.answer(), (200, format!("request {n}")));
    }
}

#[test]
fn a_chunked_request_arrives_whole() {
    let running = start(settings());
    let mut client = Client::connect(&running);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    client.send("6;extension=1\r\n world\r\n0\r\nTrailer: t\r\n\r\n");
    assert_eq!(client.answer(), (200, "hello world".to_owned()));
    assert_eq!(client.call("/", "again"), (200, "again".to_owned()));
}

#[test]
fn a_body_in_pieces_is_answered_while_it_arrives() {
    let running = start(settings());
    let mut client = Client::connect(&running);
    for round in 0..2 {
        client.send("POST /echo/9 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let head = client.read_until("\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("transfer-encoding: chunked"), "{head}");
        for piece in ["first", "second"] {
            let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
            client.send(&chunk);
            assert_eq!(client.read_until(piece).lines().last(), Some(piece), "{round}");
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.read_until("0\r\n\r\n"), "\r\n5\r\n<end>\r\n0\r\n\r\n");
    }
    assert_eq!(client.call("/", "again"), (200, "again".to_owned()));
}

#[test]
fn a_body_in_pieces_may_be_longer_than_any_other() {
    let running = start(Settings { body_bytes_max: 1_000, memory_bytes_max: 1_000, ..settings() });
    let mut client = Client::connect(&running);
    client.send("POST /echo/1000000 HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    client.read_until("\r\n\r\n");
    for _ in 0..100 {
        client.send("x".repeat(1_000));
    }
    let answer = client.read_until("0\r\n\r\n");
    assert_eq!(answer.matches('x').count(), 100_000);
    assert!(answer.contains("<end>"));
}

#[test]
fn a_client_that_breaks_off_a_body_in_pieces_is_noticed() {
    let running = start(settings());
    let mut client = Client::connect(&running);
    client.send("POST /echo/9 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    client.read_until("hello\r\n");
    client.0.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.read_all().contains("<broken>"));
    // And one that is only silent.
    let running = start(Settings { pieces_stall_time: SHORT, ..settings() });
    let mut client = Client::connect(&running);
    client.send("POST /echo/9 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(client.read_all().contains("<broken>"));
}

#[test]
fn an_answer_may_end_before_a_body_in_pieces() {
    let running = start(settings());
    for path in ["/echo/1", "/echo/refused"] {
        let mut client = Client::connect(&running);
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        ));
        let answer = client.read_all();
        assert!(answer.contains(if path == "/echo/1" { "hello" } else { "refused" }), "{answer}");
    }
}

#[test]
fn the_service_sees_absolute_uris_and_the_peer() {
    let running = start(settings());
    let mut client = Client::connect(&running);
    client.send("GET http://kinesis.example/a?b=c HTTP/1.1\r\nHost: kinesis.example\r\n\r\n");
    let head = client.read_until("\r\n\r\n");
    assert!(head.contains("x-seen: GET http://kinesis.example/a?b=c 127.0.0.1 false\r\n"), "{head}");
}

#[test]
fn pieces_come_when_they_are_sent() {
    let running = start(settings());
    let mut client = Client::connect(&running);
    client.send(post("/pieces/3/4/30", ""));
    let head = client.read_until("\r\n\r\n");
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    for number in 0..3 {
        let before = Instant::now();
        assert_eq!(client.read_until("\r\n"), "4\r\n");
        assert_eq!(client.read_until("\r\n"), format!("{number:04}\r\n"));
        assert!(before.elapsed() < LONG / 2);
    }
    assert_eq!(client.read_until("\r\n\r\n"), "0\r\n\r\n");
    assert_eq!(client.call("/", "again"), (200, "again".to_owned()));
}

#[test]
fn a_large_answer_comes_whole() {
    let running = start(settings());
    let mut client = Client::connect(&running);
    let (status, body) = client.call("/large/5000000", "");
    assert_eq!((status, body.len()), (200, 5_000_000));
    let body = "y".repeat(3_000_000);
    assert_eq!(client.call("/", &body), (200, body));
}

#[test]
fn an_empty_piece_is_not_sent() {
    let running = start(settings());
    let mut client = Client::connect(&running);
    client.send(post("/empty/piece", ""));
    client.read_until("\r\n\r\n");
    assert_eq!(client.read_until("0\r\n\r\n"), "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n");
}

#[test]
fn settings_out_of_range_work() {
    for (time, number) in [(Duration::ZERO, 0), (Duration::MAX, usize::MAX)] {
        let settings = Settings {
            blocking_threads: number,
            connections_max: number.max(1),
            streams_max: number.min(u32::MAX as usize) as u32,
            early_resets_max: number,
            error_resets_max: number,
            header_bytes_max: number.max(1_000),
            header_count_max: number.max(10),
            body_bytes_max: number.max(10),
            memory_bytes_max: number.max(10),
            ping_interval: time,
            ping_time: time,
            certificate_interval: time,
            ..settings()
        };
        // With no time at all, clients are cut before they can send anything.
        let times = Settings {
            handshake_time: time,
            header_time: time,
            body_time: time,
            body_pause_time: time,
            idle_time: time,
            stall_time: time,
            pieces_stall_time: time,
            ..settings.clone()
        };
        for settings in [Some(settings), (!time.is_zero()).then_some(times)].into_iter().flatten() {
            let running = start(settings);
            let mut client = Client::connect(&running);
            assert_eq!(client.call("/slow/wait/0", "hello"), (200, "hello".to_owned()));
            assert!(running.close(LONG));
        }
    }
}

#[test]
fn a_server_starts_and_ends_within_another_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let running = start(settings());
        assert_eq!(Client::connect(&running).call("/", "hello"), (200, "hello".to_owned()));
        assert!(running.close(LONG));
        drop(start(settings()));
    });
}
