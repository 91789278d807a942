//! A cheap client that signs its requests.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use ring::{digest, hmac};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub const ACCESS_KEY: &str = "AKBENCH";
pub const SECRET_KEY: &str = "a secret";
const SCOPE_END: &str = "us-east-1/kinesis/aws4_request";

/// A connection used by one thread.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    socket: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        Ok(Self { address, socket, answer: vec![] })
    }

    /// Calls an operation, and returns the body of its answer.
    pub fn call(&mut self, operation: &str, body: &[u8]) -> io::Result<String> {
        self.socket.write_all(&signed(self.address, operation, body))?;
        self.answer.clear();
        let mut part = [0; 16 << 10];
        loop {
            if let Some(Answer { is_ok, start, len }) = parse(&self.answer)
                && self.answer.len() >= start + len
            {
                let body = String::from_utf8_lossy(&self.answer[start..]).into_owned();
                return if is_ok { Ok(body) } else { Err(io::Error::other(body)) };
            }
            match self.socket.read(&mut part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.answer.extend_from_slice(&part[..count]),
            }
        }
    }

    /// Sends a request with an endless response, and waits for its headers.
    pub fn begin(&mut self, operation: &str, body: &[u8]) -> io::Result<()> {
        self.socket.write_all(&signed(self.address, operation, body))?;
        let mut part = [0; 1 << 10];
        let count = self.socket.read(&mut part)?;
        match part[..count].starts_with(b"HTTP/1.1 200") {
            true => Ok(()),
            false => Err(io::Error::other(String::from_utf8_lossy(&part[..count]).into_owned())),
        }
    }
}

struct Answer {
    is_ok: bool,
    /// Where the body begins.
    start: usize,
    len: usize,
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let start = answer.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..start]).ok()?.to_ascii_lowercase();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.trim().parse().ok()?;
    Some(Answer { is_ok: head.starts_with("http/1.1 200"), start, len })
}

/// Returns a request with its signature.
pub fn signed(address: SocketAddr, operation: &str, body: &[u8]) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let date = date(now);
    let day = &date[..8];
    let target = format!("Kinesis_20131202.{operation}");
    let names = "content-type;host;x-amz-date;x-amz-target";
    let canonical = format!(
        "POST\n/\n\ncontent-type:application/x-amz-json-1.1\nhost:{address}\nx-amz-date:{date}\nx-amz-target:{target}\n\n{names}\n{}",
        hex(digest::digest(&digest::SHA256, body).as_ref())
    );
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{day}/{SCOPE_END}\n{hash}");
    let mut key = format!("AWS4{SECRET_KEY}").into_bytes();
    for part in [day, "us-east-1", "kinesis", "aws4_request"] {
        key = sign(&key, part).as_ref().to_vec();
    }
    let signature = hex(sign(&key, &to_sign).as_ref());
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Date: {date}\r\nX-Amz-Target: \
         {target}\r\nAuthorization: AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{day}/{SCOPE_END}, SignedHeaders={names}, \
         Signature={signature}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn sign(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a time as `20150830T123600Z`.
fn date(seconds: u64) -> String {
    let text = streamlog::Timestamp::from_millis(seconds * 1_000).to_string();
    text[..19].replace(['-', ':'], "") + "Z"
}

/// Puts of 1 KiB on many connections.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub address: SocketAddr,
    pub connections: usize,
    pub time: Duration,
    /// Puts a second; `None` for as fast as the responses allow.
    pub rate: Option<u64>,
}

/// The result of a run.
#[derive(Debug)]
pub struct Done {
    pub count: u64,
    pub took: Duration,
    pub micros: Histogram<u64>,
}

impl Load {
    pub fn run(self) -> io::Result<Done> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let begun = Instant::now();
        let next = Arc::new(AtomicU64::new(0));
        let tasks: Vec<_> = (0..self.connections)
            .map(|number| runtime.spawn(self.connection(number, begun, Arc::clone(&next))))
            .collect();
        let mut done = Done { count: 0, took: Duration::ZERO, micros: histogram() };
        for task in tasks {
            let micros = runtime.block_on(task).map_err(io::Error::other)??;
            done.count += micros.len();
            done.micros.add(micros).map_err(io::Error::other)?;
        }
        done.took = begun.elapsed();
        Ok(done)
    }

    async fn connection(
        self,
        number: usize,
        begun: Instant,
        next: Arc<AtomicU64>,
    ) -> io::Result<Histogram<u64>> {
        let mut socket = tokio::net::TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        // 1 KiB in base64. The server checks the signature of each request, but signing each one would measure this client.
        let data = "QUJD".repeat(341) + "QQ==";
        let body = format!(r#"{{"StreamName": "bench", "PartitionKey": "user-{number}", "Data": "{data}"}}"#);
        let request = signed(self.address, "PutRecord", body.as_bytes());
        let mut micros = histogram();
        let mut answer = Vec::with_capacity(4 << 10);
        while begun.elapsed() < self.time {
            let due = match self.rate {
                None => Instant::now(),
                Some(rate) => {
                    let due = begun
                        + Duration::from_nanos(next.fetch_add(1, Ordering::Relaxed) * 1_000_000_000 / rate);
                    tokio::time::sleep_until(due.into()).await;
                    due
                }
            };
            socket.write_all(&request).await?;
            answer.clear();
            loop {
                if socket.read_buf(&mut answer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                match parse(&answer) {
                    Some(Answer { start, len, .. }) if answer.len() < start + len => {}
                    Some(Answer { is_ok: true, .. }) => break,
                    Some(_) => return Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned())),
                    None => {}
                }
            }
            micros.saturating_record(due.elapsed().as_micros() as u64);
        }
        Ok(micros)
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are fine")
}

/// Waits for a condition that another thread makes true.
pub fn settle() {
    thread::sleep(Duration::from_millis(500));
}
