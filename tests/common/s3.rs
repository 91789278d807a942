//! Servers that speak S3, each with an empty bucket, and a proxy that loses, delays and breaks answers.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use streamlog::delivery::ObjectStorage;
use tempfile::TempDir;

pub const ACCESS_KEY: &str = "access";
pub const SECRET: &str = "s3cret";

/// Runs S3 with an empty bucket until its input ends.
const SERVER: &str = r#"
import sys
import boto3
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
address = "%s:%d" % server.get_host_and_port()
s3 = boto3.client("s3", endpoint_url="http://" + address, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
s3.create_bucket(Bucket="bucket")
print(address, flush=True)
sys.stdin.read()
"#;

/// Prints all objects, as lines of JSON.
const LIST: &str = r#"
import base64, json, sys
import boto3
s3 = boto3.client("s3", endpoint_url="http://" + sys.argv[1], region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
for page in s3.get_paginator("list_objects_v2").paginate(Bucket="bucket"):
    for entry in page.get("Contents", []):
        found = s3.get_object(Bucket="bucket", Key=entry["Key"])
        body = base64.b64encode(found["Body"].read()).decode()
        print(json.dumps([entry["Key"], body, found["ContentType"], found.get("ContentEncoding"), found["ETag"]]))
"#;

/// Runs moto and boto3 until it is dropped.
pub struct Moto {
    python: PathBuf,
    pub address: SocketAddr,
    child: Child,
    input: Option<ChildStdin>,
}

#[derive(Debug)]
pub struct Found {
    pub bytes: Vec<u8>,
    pub content_type: String,
    pub content_encoding: Option<String>,
    pub etag: String,
}

impl Moto {
    pub fn start() -> Option<Self> {
        let python = super::python::with("moto.server, boto3")?;
        let mut child = Command::new(&python)
            .args(["-c", SERVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().parse().expect("moto prints its address");
        let input = child.stdin.take();
        Some(Self { python, address, child, input })
    }

    pub fn objects(&self) -> BTreeMap<String, Found> {
        let listed =
            Command::new(&self.python).args(["-c", LIST, &self.address.to_string()]).output().unwrap();
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let text = String::from_utf8(listed.stdout).unwrap();
        let object = |line: &str| {
            let (key, body, content_type, content_encoding, etag): (String, String, _, _, _) =
                serde_json::from_str(line).unwrap();
            (key, Found { bytes: STANDARD.decode(body).unwrap(), content_type, content_encoding, etag })
        };
        text.lines().map(object).collect()
    }
}

impl Moto {
    /// Returns the bytes of all objects.
    pub fn bytes(&self) -> BTreeMap<String, Vec<u8>> {
        self.objects().into_iter().map(|(key, found)| (key, found.bytes)).collect()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What happens to a request on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    None,
    /// The server never gets it.
    LostBefore,
    /// The server does it, and the client gets no answer.
    LostAfter,
    /// The server does it, and the client gets half of the answer.
    Half,
    /// The server never gets it, and this is the answer.
    Status(u16),
    /// The server does it, and the client gets the answer after its time is up.
    Late,
}

/// Returns a function that decides at random, with a fault in about a third of all cases.
pub fn at_random(seed: u64) -> impl Fn(&str) -> Fault + Send + Sync + 'static {
    let state = Mutex::new((seed, 0));
    move |_| {
        let (seed, late) = &mut *state.lock();
        match next(seed) % 14 {
            0 => Fault::LostBefore,
            1 | 2 => Fault::LostAfter,
            3 => Fault::Half,
            4 => Fault::Status(500),
            5 => Fault::Status(503),
            // These take longer.
            6 if *late < 3 => {
                *late += 1;
                Fault::Late
            }
            _ => Fault::None,
        }
    }
}

/// A small seeded number generator.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// The time that a client allows for a request.
pub const TIMEOUT: Duration = Duration::from_secs(1);

/// A proxy that decides from the first line of a request what happens to it.
pub struct Proxy {
    pub address: SocketAddr,
    pub faults: Arc<Mutex<BTreeMap<Fault, usize>>>,
}

impl Proxy {
    pub fn start(to: SocketAddr, decide: impl Fn(&str) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (faults, decide) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(decide));
        let counted = Arc::clone(&faults);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (counted, decide) = (Arc::clone(&counted), Arc::clone(&decide));
                thread::spawn(move || {
                    let connection = connection.unwrap();
                    let _ = forward(&connection, to, |line| {
                        let fault = decide(line);
                        *counted.lock().entry(fault).or_default() += 1;
                        fault
                    });
                });
            }
        });
        Self { address, faults }
    }

    pub fn storage(&self, prefix: &str) -> ObjectStorage {
        storage_at(self.address, prefix, SECRET)
    }
}

/// Returns a store for the bucket of a server, with a secret.
pub fn storage_at(address: SocketAddr, prefix: &str, secret: &str) -> ObjectStorage {
    let endpoint = format!("http://{address}");
    let timeout = format!("{}ms", TIMEOUT.as_millis());
    let options = [
        ("aws_endpoint", &*endpoint),
        ("aws_region", "us-east-1"),
        ("aws_access_key_id", ACCESS_KEY),
        ("aws_secret_access_key", secret),
        ("allow_http", "true"),
        ("timeout", &*timeout),
    ];
    ObjectStorage::from_url_with(&format!("s3://bucket/{prefix}"), options).unwrap()
}

/// Handles one request of a connection, and closes it.
fn forward(mut client: &TcpStream, to: SocketAddr, fault_of: impl FnOnce(&str) -> Fault) -> io::Result<()> {
    let Some((head, body)) = super::request::read(client)? else { return Ok(()) };
    let fault = fault_of(head.lines().next().unwrap());
    match fault {
        Fault::LostBefore => return Ok(()),
        Fault::Status(status) => {
            return write!(
                client,
                "HTTP/1.1 {status} Fault\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        _ => {}
    }
    let mut server = TcpStream::connect(to)?;
    let first = head.find("\r\n").unwrap() + 2;
    server.write_all(format!("{}Connection: close\r\n{}", &head[..first], &head[first..]).as_bytes())?;
    server.write_all(&body)?;
    let mut answer = vec![];
    server.read_to_end(&mut answer)?;
    match fault {
        Fault::LostAfter => Ok(()),
        Fault::Half => client.write_all(&answer[..answer.len() / 2]),
        Fault::Late => {
            thread::sleep(2 * TIMEOUT);
            client.write_all(&answer)
        }
        _ => client.write_all(&answer),
    }
}

/// Runs `s3s-fs` until it is dropped: a server that checks signatures, and keeps objects as files.
pub struct Checking {
    pub address: SocketAddr,
    root: TempDir,
    child: Child,
}

impl Checking {
    /// Starts the server, if it is installed.
    pub fn start() -> Option<Self> {
        let program = super::installed("STREAMLOG_S3S", "s3s/bin/s3s-fs")?;
        let root = super::scratch();
        std::fs::create_dir(root.path().join("bucket")).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], super::free_port()));
        let child = Command::new(&program)
            .args(["--host", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--access-key", ACCESS_KEY, "--secret-key", SECRET])
            .arg(root.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let server = Self { address, root, child };
        super::waiting::until("the server listens", || TcpStream::connect(address).is_ok());
        Some(server)
    }

    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let bucket = self.root.path().join("bucket");
        let (mut found, mut paths) = (BTreeMap::new(), vec![bucket.clone()]);
        while let Some(at) = paths.pop() {
            if at.is_dir() {
                paths.extend(std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let key = at.strip_prefix(&bucket).unwrap().to_str().unwrap().to_owned();
            found.insert(key, std::fs::read(&at).unwrap());
        }
        found
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
