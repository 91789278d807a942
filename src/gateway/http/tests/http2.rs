//! HTTP/2 clients, legitimate and malicious.

use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{Builder, SendRequest};
use hyper::{HeaderMap, Request, StatusCode};
use tokio::net::TcpStream as AsyncStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::*;

type Sender = SendRequest<Bytes>;

/// Connects, and drives the connection as a task.
async fn connect_with(running: &Started, builder: &Builder) -> (Sender, JoinHandle<Result<(), h2::Error>>) {
    let socket = AsyncStream::connect(running.local_address()).await.unwrap();
    let (sender, connection) = builder.handshake(socket).await.unwrap();
    (sender, tokio::spawn(connection))
}

async fn connect(running: &Started) -> Sender {
    connect_with(running, &Builder::new()).await.0
}

fn request(path: &str) -> Request<()> {
    Request::post(format!("http://localhost{path}")).body(()).unwrap()
}

/// Reads a body, and releases flow control capacity as it does.
async fn read(mut body: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut whole = vec![];
    while let Some(part) = timeout(LONG, body.data()).await.expect("the body goes on") {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        whole.extend_from_slice(&part);
    }
    Ok(whole)
}

async fn call(sender: &Sender, path: &str, text: &str) -> Result<(u16, String), h2::Error> {
    let mut sender = sender.clone().ready().await?;
    let (answer, mut body) = sender.send_request(request(path), text.is_empty())?;
    if !text.is_empty() {
        body.send_data(Bytes::copy_from_slice(text.as_bytes()), true)?;
    }
    let answer = timeout(LONG, answer).await.expect("an answer comes")?;
    let status = answer.status().as_u16();
    Ok((status, String::from_utf8(read(answer.into_body()).await?).unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_are_answered_on_one_connection() {
    let running = start(settings());
    let sender = connect(&running).await;
    let calls = (0..100).map(|n| {
        let (sender, path) = (sender.clone(), ["/", "/slow/wait/1"][n % 2]);
        tokio::spawn(async move { (n, call(&sender, path, &format!("request {n}")).await.unwrap()) })
    });
    for called in calls.collect::<Vec<_>>() {
        let (n, answer) = called.await.unwrap();
        assert_eq!(answer, (200, format!("request {n}")));
    }
    assert_eq!(call(&sender, "/", "").await.unwrap(), (200, String::new()));
    let large = "y".repeat(3_000_000);
    assert_eq!(call(&sender, "/", &large).await.unwrap(), (200, large));
    assert_eq!(call(&sender, "/panic", "").await.unwrap().0, 500);
    assert_eq!(call(&sender, "/pieces/3/4/10", "").await.unwrap(), (200, "000000010002".to_owned()));
    eventually("no request is open", || running.counts().now().http2_requests == 0);
    drop(sender);
    eventually("the connection ends", || running.counts().now().open == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_come_when_they_are_sent() {
    let running = start(settings());
    let mut sender = connect(&running).await;
    let (answer, _) = sender.send_request(request("/pieces/3/4/30"), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    for number in 0..3 {
        let piece = timeout(LONG / 2, body.data()).await.unwrap().unwrap().unwrap();
        assert_eq!(piece, format!("{number:04}"));
    }
    assert!(body.data().await.is_none_or(|end| end.unwrap().is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_and_headers_beyond_their_bounds_are_refused() {
    let bounds =
        Settings { body_bytes_max: 100_000, header_count_max: 20, header_bytes_max: 10_000, ..settings() };
    let running = start(bounds);
    let sender = connect(&running).await;
    assert_eq!(call(&sender, "/", &"x".repeat(100_000)).await.unwrap().0, 200);
    assert_eq!(call(&sender, "/", &"x".repeat(100_001)).await.unwrap().0, 413);
    for (count, bytes, status) in [(10, 10, 200), (21, 10, 431), (1, 11_000, 431)] {
        let mut request = request("/");
        for n in 0..count {
            let name: hyper::header::HeaderName = format!("h{n}").parse().unwrap();
            request.headers_mut().insert(name, "x".repeat(bytes).parse().unwrap());
        }
        // The client would obey the announced bound, so it must not know it.
        let mut sender = sender.clone().ready().await.unwrap();
        match sender.send_request(request, true) {
            Ok((answer, _)) => match answer.await {
                Ok(answer) => assert_eq!(answer.status(), status),
                Err(failure) => assert!(status == 431, "{failure}"),
            },
            Err(failure) => assert!(status == 431, "{failure}"),
        }
    }
    assert_eq!(call(&sender, "/", "again").await.unwrap(), (200, "again".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_stop_are_answered_with_408() {
    let running = start(Settings { body_pause_time: 3 * SHORT, ..settings() });
    let mut sender = connect(&running).await;
    let (answer, mut body) = sender.send_request(request("/"), false).unwrap();
    body.send_data("half".into(), false).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(call(&sender, "/", "again").await.unwrap(), (200, "again".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_beyond_the_bound_are_refused() {
    let (running, tester) = start_with(Settings { streams_max: 5, ..settings() });
    let gate = tester.gate.lock().unwrap();
    let mut raw = Raw::connect(&running);
    for stream in 0..20 {
        raw.headers(2 * stream + 1, "/slow/gate", true);
    }
    // The client knows the bound only after it has sent its first requests, so the server refuses those beyond it.
    let refused =
        (0..15).map(|_| raw.read_frame(RST_STREAM)).filter(|frame| frame.payload == 7u32.to_be_bytes());
    assert_eq!(refused.count(), 15);
    eventually("the others arrive", || running.counts().now().http2_requests == 5);
    drop(gate);
    assert_eq!((0..5).map(|_| raw.read_frame(HEADERS)).count(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sender_of_pieces_knows_that_the_stream_is_reset_or_the_client_gone() {
    let (running, tester) = start_with(settings());
    let (mut sender, connection) = connect_with(&running, &Builder::new()).await;
    let (answer, mut stream) = sender.send_request(request("/pieces/1000000/10/5"), false).unwrap();
    stream.send_data(Bytes::new(), true).unwrap();
    let body = answer.await.unwrap().into_body();
    stream.send_reset(h2::Reason::CANCEL);
    eventually("the sender knows of the reset", || tester.gone.load(SeqCst) == 1);
    assert_eq!(call(&sender, "/", "again").await.unwrap(), (200, "again".to_owned()));

    let (answer, _) = sender.send_request(request("/pieces/1000000/10/5"), true).unwrap();
    let second = answer.await.unwrap().into_body();
    connection.abort();
    let _ = connection.await;
    eventually("the sender knows of the end", || tester.gone.load(SeqCst) == 2);
    drop((body, second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_client_takes_nothing_is_reset_and_the_others_go_on() {
    let (running, tester) =
        start_with(Settings { stall_time: 2 * SHORT, pieces_stall_time: 4 * SHORT, ..settings() });
    let mut builder = Builder::new();
    builder.initial_window_size(1_000).initial_connection_window_size(1_000_000);
    let (mut sender, _connection) = connect_with(&running, &builder).await;
    let whole = sender.send_request(request("/large/10000000"), true).unwrap().0.await.unwrap().into_body();
    let pieces =
        sender.send_request(request("/pieces/100/60000/0"), true).unwrap().0.await.unwrap().into_body();
    // A silent service does not count as a stalled client.
    let millis = 6 * SHORT.as_millis();
    let quiet =
        sender.send_request(request(&format!("/pieces/2/1/{millis}")), true).unwrap().0.await.unwrap();
    let quiet = tokio::spawn(read(quiet.into_body()));
    eventually("the sender knows", || tester.gone.load(SeqCst) == 1);
    for mut body in [whole, pieces] {
        let outcome = loop {
            // Takes what has arrived, but allows no more.
            match timeout(LONG, body.data()).await.unwrap() {
                Some(Ok(_)) => {}
                other => break other,
            }
        };
        assert_eq!(outcome.expect("a reset").unwrap_err().reason(), Some(h2::Reason::CANCEL));
    }
    assert_eq!(quiet.await.unwrap().unwrap(), b"01");
    assert_eq!(call(&sender, "/", "again").await.unwrap(), (200, "again".to_owned()));
    eventually("no request is open", || running.counts().now().http2_requests == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_told_to_go_away() {
    // Pings do not keep it.
    let times = Settings { idle_time: SHORT, header_time: LONG, ping_interval: SHORT / 3, ..settings() };
    let running = start(times);
    let (sender, connection) = connect_with(&running, &Builder::new()).await;
    call(&sender, "/", "hi").await.unwrap();
    timeout(LONG, connection).await.expect("the connection ends").unwrap().unwrap();
    let mut raw = Raw::connect(&running);
    raw.headers(1, "/", true);
    assert_eq!(raw.end(), Some(0), "it is told before the end, and without an error");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_pings_are_not_taken_for_headers_that_never_end() {
    let times = Settings { header_time: 4 * SHORT, idle_time: LONG, ping_interval: SHORT, ..settings() };
    let running = start(times);
    let sender = connect(&running).await;
    call(&sender, "/", "hi").await.unwrap();
    sleep(7 * SHORT).await;
    assert_eq!(call(&sender, "/", "again").await.unwrap(), (200, "again".to_owned()));
}

/// A client that writes frames itself.
struct Raw(Client);

struct Frame {
    kind: u8,
    payload: Vec<u8>,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// POST of a short path in HPACK, from the static table and with literals.
fn header_block(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 0x01, 9];
    block.extend_from_slice(b"localhost");
    block.extend_from_slice(&[0x04, path.len().try_into().unwrap()]);
    block.extend_from_slice(path.as_bytes());
    block
}

impl Raw {
    fn connect(running: &Started) -> Self {
        let mut raw = Self(Client::connect(running));
        raw.0.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        raw.frame(SETTINGS, 0, 0, b"");
        raw
    }

    fn frame_bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[kind, flags]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Sends a frame, or finds the connection closed.
    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.0.0.write_all(&Self::frame_bytes(kind, flags, stream, payload)).is_ok()
    }

    fn headers(&mut self, stream: u32, path: &str, is_end: bool) -> bool {
        let flags = END_HEADERS | if is_end { END_STREAM } else { 0 };
        self.frame(HEADERS, flags, stream, &header_block(path))
    }

    /// The next frame, or nothing at the end of the connection.
    fn next_frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        match self.0.0.read_exact(&mut head) {
            Ok(()) => {}
            Err(failure) if failure.kind() == std::io::ErrorKind::WouldBlock => panic!("no frame came"),
            Err(_) => return None,
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.0.read_exact(&mut payload).ok()?;
        Some(Frame { kind: head[3], payload })
    }

    /// The next frame of a kind.
    #[track_caller]
    fn read_frame(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next_frame().expect("the server ended the connection");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Reads until the connection ends, and returns the code of the last GOAWAY.
    fn end(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next_frame() {
            if frame.kind == GOAWAY {
                code = Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
            }
        }
        code
    }
}

#[test]
fn a_handwritten_client_is_answered() {
    let running = start(settings());
    let mut raw = Raw::connect(&running);
    raw.headers(1, "/", true);
    assert_eq!(raw.read_frame(HEADERS).payload[0], 0x88, "status 200 of the static table");
    raw.headers(3, "/empty/piece", true);
    let pieces = [raw.read_frame(DATA), raw.read_frame(DATA)].map(|frame| frame.payload);
    assert_eq!(pieces, [b"one", b"two"], "no empty frame between them");
}

#[test]
fn a_client_that_sends_only_the_preface_or_half_a_frame_is_cut() {
    let times = Settings { header_time: 2 * SHORT, ping_interval: SHORT, ping_time: SHORT, ..settings() };
    let running = start(times);
    let frame = Raw::frame_bytes(HEADERS, END_HEADERS, 1, &header_block("/"));
    let unended = Raw::frame_bytes(HEADERS, 0, 1, &header_block("/"));
    for (what, bytes) in [("nothing", &[][..]), ("half a frame", &frame[..12]), ("no continuation", &unended)]
    {
        let mut raw = Raw::connect(&running);
        raw.0.send(bytes);
        raw.end();
        eventually(what, || running.counts().now().open == 0);
    }
}

#[test]
fn a_client_that_does_not_answer_pings_is_cut() {
    let times = Settings { ping_interval: SHORT, ping_time: SHORT, ..settings() };
    let (running, tester) = start_with(times);
    let mut raw = Raw::connect(&running);
    raw.headers(1, "/pieces/1000000/1/10000", true);
    raw.read_frame(PING);
    raw.end();
    eventually("the connection is closed", || running.counts().now().open == 0);
    // The sender is asleep for a while, and would notice with its next piece.
    assert_eq!(tester.gone.load(SeqCst), 0);
}

#[test]
fn continuations_without_end_are_cut() {
    let running = start(settings());
    let mut raw = Raw::connect(&running);
    raw.frame(HEADERS, 0, 1, &header_block("/"));
    let field = [&[0x00, 1, b'a', 100][..], &[b'x'; 100]].concat();
    let is_cut = (0..100_000).any(|_| !raw.frame(CONTINUATION, 0, 1, &field));
    assert!(is_cut, "the server took 10 MB of headers");
}

/// Sends what `send` sends, 2,000 times or until the server ends the connection, which it must.
#[track_caller]
fn assert_flood_is_cut(running: &Started, mut send: impl FnMut(&mut Raw, u32) -> bool) {
    let mut raw = Raw::connect(running);
    let _ = (0..2_000).all(|n| send(&mut raw, 2 * n + 1));
    raw.end();
}

#[test]
fn floods_of_resets_and_of_errors_are_cut() {
    let (running, tester) = start_with(Settings { early_resets_max: 10, error_resets_max: 20, ..settings() });
    let cancel = 8u32.to_be_bytes();
    // The requests and their resets arrive together, so that the server sees the resets first.
    assert_flood_is_cut(&running, |raw, stream| {
        let mut bytes = vec![];
        for stream in (0..50).map(|n| 100 * (stream / 2) + 2 * n + 1) {
            bytes.extend(Raw::frame_bytes(HEADERS, END_HEADERS, stream, &header_block("/slow/wait/0")));
            bytes.extend(Raw::frame_bytes(RST_STREAM, 0, stream, &cancel));
        }
        raw.0.0.write_all(&bytes).is_ok()
    });
    assert!(tester.at_work_max.load(SeqCst) <= 64);
    // A stream that depends on itself is a stream error.
    assert_flood_is_cut(&running, |raw, stream| {
        let priority = [&stream.to_be_bytes()[..], &[0], &header_block("/")].concat();
        raw.frame(HEADERS, END_HEADERS | END_STREAM | 0x20, stream, &priority)
    });
}

#[test]
fn malformed_frames_end_the_connection() {
    let running = start(settings());
    let frames: [(&str, Vec<u8>); 6] = [
        ("a frame that is too large", [&[0xff, 0xff, 0xff, 0, 0][..], &[0; 4]].concat()),
        ("data on stream 0", Raw::frame_bytes(DATA, 0, 0, b"x")),
        ("headers on an even stream", Raw::frame_bytes(HEADERS, END_HEADERS, 2, &header_block("/"))),
        ("a broken header block", Raw::frame_bytes(HEADERS, END_HEADERS, 1, &[0xff; 20])),
        ("a continuation of nothing", Raw::frame_bytes(CONTINUATION, END_HEADERS, 1, b"")),
        ("a setting out of range", Raw::frame_bytes(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
    ];
    for (what, bytes) in frames {
        let mut raw = Raw::connect(&running);
        raw.0.send(bytes);
        assert!(raw.end().is_some_and(|code| code != 0), "{what}");
    }
    eventually("all connections are closed", || running.counts().now().open == 0);
    assert_eq!(Client::connect(&running).call("/", "hi").0, 200);
}

#[test]
fn tiny_windows_cost_only_their_client() {
    let running = start(Settings { stall_time: SHORT, ..settings() });
    let mut raw = Raw::connect(&running);
    // Windows of one byte.
    raw.frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]);
    for stream in 0..100 {
        raw.headers(2 * stream + 1, "/large/1000000", true);
    }
    assert_eq!(Client::connect(&running).call("/", "hi").0, 200);
    let (mut answers, mut resets) = (0, 0);
    while resets < 100 {
        match raw.next_frame().expect("the connection goes on").kind {
            HEADERS => answers += 1,
            RST_STREAM => resets += 1,
            _ => {}
        }
    }
    assert_eq!(answers, 100);
    eventually("no request is open", || running.counts().now().http2_requests == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_waits_for_streams_within_the_grace() {
    let (running, _) = start_with(settings());
    let sender = connect(&running).await;
    let mut idle = connect(&running).await;
    idle = idle.ready().await.unwrap();
    let millis = 2 * SHORT.as_millis();
    let called = tokio::spawn(async move { call(&sender, &format!("/slow/wait/{millis}"), "hi").await });
    eventually("the request arrives", || running.counts().now().http2_requests == 1);
    let closed = thread::spawn(move || running.close(LONG));
    assert_eq!(called.await.unwrap().unwrap(), (200, "hi".to_owned()));
    while !closed.is_finished() {
        sleep(SHORT / 10).await;
    }
    assert!(closed.join().unwrap(), "all requests ended");
    assert!(idle.send_request(request("/"), true).is_err() || idle.ready().await.is_err());
}

#[test]
fn closing_does_not_wait_longer_than_the_grace() {
    let (running, tester) = start_with(settings());
    // Neither stream ends, and the second client never acknowledges that the connection goes away.
    let mut raw = Raw::connect(&running);
    raw.headers(1, "/pieces/1000000/10/5", true);
    raw.read_frame(HEADERS);
    let mut silent = Raw::connect(&running);
    let mut plain = Client::connect(&running);
    plain.send(post("/pieces/1000000/10/5", ""));
    plain.read_until("\r\n\r\n");
    silent.read_frame(SETTINGS);
    let before = Instant::now();
    assert!(!running.close(SHORT), "they were broken off");
    assert!(before.elapsed() >= SHORT && before.elapsed() < LONG / 4, "{:?}", before.elapsed());
    raw.end();
    silent.end();
    plain.read_all();
    eventually("the senders know", || tester.gone.load(SeqCst) == 2);
}

/// HTTP/2 has no Host header, and clients sign one.
#[test]
fn the_service_finds_the_host_in_the_uri() {
    let running = start(settings());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let headers: HeaderMap = runtime.block_on(async {
        let mut sender = connect(&running).await;
        sender.send_request(request("/a?b"), true).unwrap().0.await.unwrap().headers().clone()
    });
    assert_eq!(headers["x-seen"], "POST http://localhost/a?b 127.0.0.1 false");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_take_pieces_more_slowly_than_a_whole_answer() {
    let running = start(Settings { stall_time: SHORT, ..settings() });
    let mut builder = Builder::new();
    builder.initial_window_size(1_000);
    let (mut sender, _connection) = connect_with(&running, &builder).await;
    let pieces = sender.send_request(request("/pieces/4/5000/0"), true).unwrap().0.await.unwrap().into_body();
    sleep(3 * SHORT).await;
    assert_eq!(read(pieces).await.unwrap().len(), 20_000);
}
