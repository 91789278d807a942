//! A server under clients that are honest, slow, half-open, oversized, pipelined and malformed.

mod service;

mod answers;
mod bounds;
mod certificates;
mod http2;
mod many;
mod slow;
mod tls;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Counts, Running, Server, Settings};
use service::Tester;

/// Settings with which every test is over soon.
fn settings() -> Settings {
    Settings { threads: 2, ..Settings::default() }
}

const SHORT: Duration = Duration::from_millis(150);

/// How long a test waits for what must happen. Nothing waits for this long unless it fails.
const LONG: Duration = Duration::from_secs(20);

/// A running server.
struct Started {
    running: Running,
    counts: Arc<Counts>,
}

impl Started {
    fn local_address(&self) -> SocketAddr {
        self.running.local_address()
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }

    fn close(self, grace: Duration) -> bool {
        self.running.close(grace)
    }
}

fn start(settings: Settings) -> Started {
    start_with(settings).0
}

/// A server, and the service that it calls.
fn start_with(settings: Settings) -> (Started, Arc<Tester>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tester = Arc::<Tester>::default();
    let counts = settings.counts.clone();
    let running = Server::start(listener, tester.clone(), settings).unwrap();
    (Started { running, counts }, tester)
}

/// A client that writes and reads bytes.
struct Client(TcpStream);

impl Client {
    fn connect(running: &Started) -> Self {
        Self::connect_to(running.local_address())
    }

    fn connect_to(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket.set_write_timeout(Some(LONG)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self(socket)
    }

    /// A client whose system keeps about this many bytes that it has not read.
    fn connect_with(running: &Started, buffer_bytes: usize) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(buffer_bytes).unwrap();
        socket.connect(&running.local_address().into()).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Self(socket.into())
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Everything that comes until the server closes the connection.
    #[track_caller]
    fn read_all(&mut self) -> String {
        let mut bytes = vec![];
        match self.0.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(failure) if failure.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(failure) => panic!("the server does not end the connection: {failure}"),
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The first four bytes, or none if the connection is closed.
    fn first_word(&mut self) -> String {
        let mut word = [0; 4];
        self.0.read_exact(&mut word).map_or(String::new(), |()| String::from_utf8_lossy(&word).into_owned())
    }

    /// Reads until `end` has arrived.
    #[track_caller]
    fn read_until(&mut self, end: &str) -> String {
        let mut bytes = vec![];
        while !bytes.ends_with(end.as_bytes()) {
            let mut byte = [0];
            match self.0.read(&mut byte) {
                Ok(1) => bytes.push(byte[0]),
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&bytes)),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends a request with a body and reads the answer, which has a length.
    #[track_caller]
    fn call(&mut self, path: &str, body: &str) -> (u16, String) {
        self.send(post(path, body));
        self.answer()
    }

    #[track_caller]
    fn answer(&mut self) -> (u16, String) {
        let head = self.read_until("\r\n\r\n");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut lines = head.lines();
        let length =
            lines.find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.0.read_exact(&mut body).unwrap();
        (status, String::from_utf8(body).unwrap())
    }

    /// Whether the server keeps the connection open for a while.
    fn is_open_after(&mut self, time: Duration) -> bool {
        self.0.set_read_timeout(Some(time)).unwrap();
        let outcome = self.0.read(&mut [0]);
        self.0.set_read_timeout(Some(LONG)).unwrap();
        matches!(outcome, Err(failure) if failure.kind() == std::io::ErrorKind::WouldBlock)
    }
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Waits until a condition holds.
#[track_caller]
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
