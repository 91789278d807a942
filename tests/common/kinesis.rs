//! A gateway as the destination of relays, the contents of its streams, and a proxy that loses and breaks answers.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use streamlog::aggregate::deaggregate;
use streamlog::gateway::{Gateway, RunningGateway};
use streamlog::relay::{KinesisClient, KinesisClientOptions};
use streamlog::{Clock, Limits, Position, Store, Stream, StreamOptions, SystemClock};
use tempfile::TempDir;

/// The timeout for expected events.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until this holds.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not after {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns a client of the server there.
pub fn client(address: SocketAddr) -> KinesisClient {
    options(address).connect().unwrap()
}

pub fn options(address: SocketAddr) -> KinesisClientOptions {
    let options = KinesisClient::options().region("us-east-1").endpoint_url(format!("http://{address}"));
    options.credentials("access", "secret", None)
}

/// Sends a call without a client. Returns the body of the response, which must be a success.
#[track_caller]
pub fn call(address: SocketAddr, operation: &str, body: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    let head =
        "Connection: close\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Date: 20200101T000000Z";
    let signature = "AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=0";
    let length = body.len();
    write!(
        socket,
        "POST / HTTP/1.1\r\nHost: {address}\r\n{head}\r\nX-Amz-Target: Kinesis_20131202.{operation}\r\n\
         Authorization: {signature}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    assert!(head.contains(" 200 "), "{operation}: {text}");
    body.to_owned()
}

/// A gateway that may be stopped and started again.
pub struct Far {
    running: Option<RunningGateway>,
    store: Store,
    pub address: SocketAddr,
    limits: Limits,
    clock: Arc<dyn Clock>,
    scratch: TempDir,
}

impl Far {
    pub fn new(limits: Limits) -> Self {
        Self::with_clock(limits, Arc::new(SystemClock))
    }

    /// Limits go by this clock.
    pub fn with_clock(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let scratch = super::scratch();
        let store = open(scratch.path(), &clock);
        let running = serve(&store, limits, &clock, "127.0.0.1:0".parse().unwrap());
        let address = running.local_address();
        Self { running: Some(running), store, address, limits, clock, scratch }
    }

    pub fn stop(&mut self) {
        self.running.take().unwrap().close().unwrap();
        self.store.close().unwrap();
    }

    pub fn start(&mut self) {
        self.store = open(self.scratch.path(), &self.clock);
        self.running = Some(serve(&self.store, self.limits, &self.clock, self.address));
    }

    /// Creates a stream.
    pub fn create(&self, name: &str, shards: u32) {
        let body = format!(r#"{{"StreamName": "{name}", "ShardCount": {shards}}}"#);
        call(self.address, "CreateStream", &body);
    }

    /// Returns a stream as the gateway has it.
    pub fn stream(&self, name: &str) -> Stream {
        self.store.stream(name).unwrap()
    }

    pub fn client(&self) -> KinesisClient {
        client(self.address)
    }

    /// Returns the data of all user records of a stream, by their key, in the order in which readers get them.
    pub fn read(&self, name: &str) -> BTreeMap<String, Vec<Vec<u8>>> {
        read(&self.stream(name))
    }
}

fn open(path: &Path, clock: &Arc<dyn Clock>) -> Store {
    Store::open(path, StreamOptions::new().segment_bytes(16 << 20).clock(Arc::clone(clock))).unwrap()
}

fn serve(store: &Store, limits: Limits, clock: &Arc<dyn Clock>, address: SocketAddr) -> RunningGateway {
    let gateway = || {
        let gateway = Gateway::new(store.clone()).without_authentication().delay(Duration::ZERO);
        gateway.limits(limits).clock(Arc::clone(clock))
    };
    // The port may be in use for a moment.
    let mut running = None;
    wait_until("the gateway listens", || {
        running = gateway().start(address).ok();
        running.is_some()
    });
    running.unwrap()
}

/// Returns the data of all user records of a stream, by their key, in the order in which readers get them.
pub fn read(stream: &Stream) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let key_hash = stream.describe().key_hash;
    for shard in stream.shards() {
        let mut iterator = stream.iterator(shard.id, Position::TrimHorizon).unwrap();
        loop {
            let batch = iterator.next_batch(1_000).unwrap();
            if batch.is_empty() {
                break;
            }
            // Like the KCL, drops records that do not belong to the shard.
            for record in deaggregate(&batch).within(shard.hash_key_range, key_hash) {
                let key = String::from_utf8(record.partition_key().to_vec()).unwrap();
                found.entry(key).or_default().push(record.data().to_vec());
            }
        }
    }
    found
}

/// What a proxy does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The request is lost.
    LostBefore,
    /// The answer is lost.
    LostAfter,
    /// An error of the server, without a body.
    Status(u16),
    /// An answer of its own.
    Answer(&'static str),
}

/// A proxy in front of a server. It counts its faults.
pub struct Proxy {
    pub address: SocketAddr,
    pub faults: Arc<AtomicU64>,
}

impl Proxy {
    /// `decide` gets the head of each request.
    pub fn new(to: SocketAddr, decide: impl Fn(&str) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (faults, decide) = (Arc::new(AtomicU64::new(0)), Arc::new(decide));
        let counted = Arc::clone(&faults);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (counted, decide) = (Arc::clone(&counted), Arc::clone(&decide));
                thread::spawn(move || {
                    let connection = connection.unwrap();
                    let _ = forward(&connection, to, |head| {
                        let fault = decide(head);
                        counted.fetch_add(u64::from(fault != Fault::None), Ordering::Relaxed);
                        fault
                    });
                });
            }
        });
        Self { address, faults }
    }
}

/// Handles one request of a connection, and closes it.
fn forward(mut client: &TcpStream, to: SocketAddr, fault_of: impl FnOnce(&str) -> Fault) -> io::Result<()> {
    let Some((head, body)) = super::request::read(client)? else { return Ok(()) };
    let fault = fault_of(&head);
    let own = |status: u16, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status} Fault\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )
    };
    match fault {
        Fault::LostBefore => return Ok(()),
        Fault::Status(status) => return client.write_all(own(status, "").as_bytes()),
        Fault::Answer(body) => return client.write_all(own(200, body).as_bytes()),
        Fault::None | Fault::LostAfter => {}
    }
    let mut server = TcpStream::connect(to)?;
    server.write_all(head.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes())?;
    server.write_all(&body)?;
    let mut answer = vec![];
    server.read_to_end(&mut answer)?;
    if fault == Fault::LostAfter {
        return Ok(());
    }
    client.write_all(&answer)
}

/// Another server that speaks Kinesis' API. It ends when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
}

impl Server {
    /// Runs kinesalite, if it is installed.
    pub fn kinesalite() -> Option<Self> {
        let path = super::installed("STREAMLOG_KINESALITE", "node/node_modules/kinesalite/cli.js")?;
        let start = |port: &str| {
            let mut command = Command::new("node");
            command.arg(&path).args(["--port", port, "--createStreamMs", "100"]);
            command
        };
        Some(Self::start(start))
    }

    /// Runs moto, if it is installed.
    pub fn moto() -> Option<Self> {
        let python = super::python::with("moto.server")?;
        let start = |port: &str| {
            let mut command = Command::new(&python);
            command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", port]);
            command
        };
        Some(Self::start(start))
    }

    fn start(command: impl Fn(&str) -> Command) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = command(&port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let server = Self { address: ([127, 0, 0, 1], port).into(), child: child.unwrap() };
        wait_until("the server listens", || TcpStream::connect(server.address).is_ok());
        server
    }

    /// Returns the data of all records of a shard, in Base64, with their keys.
    pub fn records(&self, stream: &str, shard: &str) -> Vec<(String, String)> {
        let body = format!(
            r#"{{"StreamName": "{stream}", "ShardId": "{shard}", "ShardIteratorType": "TRIM_HORIZON"}}"#
        );
        let answer = |operation: &str, body: &str| -> serde_json::Value {
            serde_json::from_str(&call(self.address, operation, body)).unwrap()
        };
        let mut iterator = answer("GetShardIterator", &body)["ShardIterator"].to_string();
        let mut found = vec![];
        loop {
            let page = answer("GetRecords", &format!(r#"{{"ShardIterator": {iterator}}}"#));
            let records = page["Records"].as_array().unwrap();
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            found.extend(records.iter().map(|record| (text(&record["PartitionKey"]), text(&record["Data"]))));
            if records.is_empty() {
                return found;
            }
            iterator = page["NextShardIterator"].to_string();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
