//! Clients that are slow, silent or gone: each costs the server only its own connection, and not for long.

use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use super::*;

/// The server must end the connection in about `time`: not much earlier, and without an answer.
#[track_caller]
fn assert_cut(client: &mut Client, start: Instant, time: Duration) {
    assert_eq!(client.read_all(), "");
    assert!(start.elapsed() >= time * 3 / 4, "cut after {:?}", start.elapsed());
}

#[test]
fn headers_that_never_end_are_cut() {
    let running = start(Settings { header_time: SHORT, ..settings() });
    for first in ["", "P", "PRI * HT", "PRI * HTTP/2.0\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\n"] {
        let start = Instant::now();
        let mut client = Client::connect(&running);
        client.send(first);
        assert_cut(&mut client, start, SHORT);
    }
    eventually("all connections are closed", || running.counts().now().open == 0);
}

#[test]
fn headers_that_come_byte_by_byte_are_cut() {
    let running = start(Settings { header_time: SHORT, ..settings() });
    for text in ["POST / HTTP/1.1\r\nA-Header-Of-Many-Letters: yes", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
        let start = Instant::now();
        let mut client = Client::connect(&running);
        let is_cut = text.bytes().cycle().any(|byte| {
            thread::sleep(SHORT / 20);
            client.0.write_all(&[byte]).is_err() || start.elapsed() > LONG
        });
        assert!(is_cut && start.elapsed() < LONG, "{text}");
    }
}

#[test]
fn a_connection_may_be_idle_for_longer_than_headers_take() {
    let running = start(Settings { header_time: 4 * SHORT, idle_time: 8 * SHORT, ..settings() });
    let mut client = Client::connect(&running);
    let start = Instant::now();
    client.call("/", "first");
    assert!(client.is_open_after(5 * SHORT), "cut while it was idle");
    // A request ends the idle time, and the next idle time begins with its end.
    client.call("/", "second");
    assert!(client.is_open_after(2 * SHORT), "cut while it was idle");
    assert_cut(&mut client, start, 10 * SHORT);
}

#[test]
fn later_headers_that_never_end_are_cut() {
    let running = start(Settings { header_time: 3 * SHORT, ..settings() });
    let mut client = Client::connect(&running);
    client.call("/", "first");
    thread::sleep(4 * SHORT);
    let start = Instant::now();
    client.send("POST / HTTP/1.1\r\n");
    assert_cut(&mut client, start, 3 * SHORT);
}

#[test]
fn an_answer_may_take_longer_than_any_time_limit() {
    let settings = Settings {
        header_time: 3 * SHORT,
        idle_time: 3 * SHORT,
        body_time: 3 * SHORT,
        body_pause_time: 3 * SHORT,
        stall_time: 3 * SHORT,
        pieces_stall_time: 3 * SHORT,
        ..settings()
    };
    let running = start(settings);
    let mut client = Client::connect(&running);
    let millis = 5 * SHORT.as_millis();
    assert_eq!(client.call(&format!("/slow/wait/{millis}"), "hi"), (200, "hi".to_owned()));
    client.send(post(&format!("/pieces/2/1/{millis}"), ""));
    assert_eq!(client.read_until("0\r\n\r\n").split("\r\n\r\n").nth(1).unwrap(), "1\r\n0\r\n1\r\n1\r\n0");
}

#[test]
fn a_body_that_stops_is_answered_with_408() {
    let running = start(Settings { body_pause_time: SHORT, ..settings() });
    for head in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n5\r\nhel"] {
        let mut client = Client::connect(&running);
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}"));
        let answer = client.read_all();
        assert!(
            answer.starts_with("HTTP/1.1 408 ") && answer.contains("\r\nconnection: close\r\n"),
            "{answer}"
        );
        assert!(answer.ends_with(r#"{"__type":"RequestTimeoutException"}"#), "{answer}");
    }
}

#[test]
fn a_body_that_trickles_is_answered_with_408() {
    let running = start(Settings { body_pause_time: SHORT, body_time: 2 * SHORT, ..settings() });
    let mut client = Client::connect(&running);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    let start = Instant::now();
    while client.0.write_all(b"x").is_ok() && start.elapsed() < LONG {
        thread::sleep(SHORT / 10);
    }
    assert!(start.elapsed() >= SHORT && start.elapsed() < LONG);
}

#[test]
fn an_answer_that_nobody_takes_is_cut() {
    let times = Settings { stall_time: SHORT, pieces_stall_time: 12 * SHORT, ..settings() };
    let (running, tester) = start_with(times);
    let mut whole = Client::connect(&running);
    whole.send(post("/large/50000000", ""));
    let mut pieces = Client::connect(&running);
    pieces.send(post("/pieces/1000/60000/0", ""));
    eventually("both requests arrive", || running.counts().now().http1_requests == 2);
    let start = Instant::now();
    eventually("a whole answer is cut", || running.counts().now().open == 1);
    assert!(start.elapsed() < 10 * SHORT, "cut after {:?}", start.elapsed());
    eventually("both connections are closed", || running.counts().now().open == 0);
    eventually("the sender of the pieces knows", || tester.gone.load(SeqCst) == 1);
    assert_eq!(running.counts().now().http1_requests, 0);
}

#[test]
fn an_answer_that_is_taken_a_bit_at_a_time_is_cut() {
    let running = start(Settings { stall_time: 2 * SHORT, ..settings() });
    let mut client = Client::connect_with(&running, 16 << 10);
    client.send(post("/large/50000000", ""));
    eventually("the request arrives", || running.counts().now().http1_requests == 1);
    let start = Instant::now();
    while running.counts().now().open > 0 {
        assert!(start.elapsed() < LONG, "a client that takes 20 KB a second holds the answer");
        let _ = client.0.read(&mut [0; 200]);
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_answer_that_is_taken_slowly_but_steadily_comes_whole() {
    let running = start(Settings { stall_time: 7 * SHORT, ..settings() });
    let mut client = Client::connect_with(&running, 1 << 20);
    client.send(post("/large/40000000", ""));
    client.read_until("\r\n\r\n");
    let take = |client: &mut Client, bytes| client.0.read_exact(&mut vec![0; bytes]).unwrap();
    // The system widens its buffers for a client that is fast.
    take(&mut client, 25_000_000);
    // Then the client takes 500 KB a second, several times what the server requires.
    let slow = Instant::now();
    let mut taken = 0;
    while taken < 1_000_000 {
        thread::sleep(Duration::from_millis(10));
        let due = (slow.elapsed().as_millis() as usize * 500).min(1_000_000) - taken;
        take(&mut client, due);
        taken += due;
    }
    take(&mut client, 14_000_000);
    assert_eq!(client.call("/", "again"), (200, "again".to_owned()));
}

#[test]
fn the_sender_of_pieces_knows_that_the_client_is_gone() {
    let (running, tester) = start_with(settings());
    let mut client = Client::connect(&running);
    client.send(post("/pieces/1000000/10/5", ""));
    client.read_until("0000000000\r\n");
    drop(client);
    eventually("the sender knows", || tester.gone.load(SeqCst) == 1);
    eventually("the connection is closed", || running.counts().now().open == 0);
}

#[test]
fn slow_clients_do_not_hold_up_others() {
    let (running, tester) = start_with(settings());
    let mut slow: Vec<_> = (0..200).map(|_| Client::connect(&running)).collect();
    for (client, text) in slow
        .iter_mut()
        .zip(["", "PRI", "POST / HT", "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n1"].iter().cycle())
    {
        client.send(text);
    }
    eventually("all are open", || running.counts().now().open == 200);
    // All threads that give slow answers are busy, too.
    let gate = tester.gate.lock().unwrap();
    let mut waiting: Vec<_> = (0..100).map(|_| Client::connect(&running)).collect();
    waiting.iter_mut().for_each(|client| client.send(post("/slow/gate", "hi")));
    assert_eq!(Client::connect(&running).call("/", "quick"), (200, "quick".to_owned()));
    drop(gate);
    assert!(waiting.iter_mut().all(|client| client.answer() == (200, "hi".to_owned())));
}
