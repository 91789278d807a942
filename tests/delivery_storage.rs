//! Deliveries to object stores: each record is there exactly once, in S3 (as moto plays it) behind a proxy that loses, delays and breaks answers.
//!
//! moto needs the Python that `STREAMLOG_PYTHON` names, or else the one that `.ci/run` installs in `target/python`. Without any, those tests print a
//! note and pass; if `STREAMLOG_PYTHON` is set, they fail.
#![cfg(feature = "object-store")]

mod common;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use parking_lot::Mutex;
use streamlog::delivery::{
    CompressionFormat, DeliveryOptions, Directory, Format, Object, ObjectStorage, Sink, SinkError,
};
use streamlog::{Error, ManualClock, Stream, StreamOptions};

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

/// Has moto and boto3 running until it is dropped.
struct Moto {
    python: PathBuf,
    address: SocketAddr,
    child: Child,
    input: Option<ChildStdin>,
}

#[derive(Debug)]
struct Found {
    bytes: Vec<u8>,
    content_type: String,
    content_encoding: Option<String>,
    etag: String,
}

impl Moto {
    fn start() -> Option<Self> {
        let python = common::python::with("moto.server, boto3")?;
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

    fn objects(&self) -> BTreeMap<String, Found> {
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

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What happens to a request on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
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

/// The time that a client gives a request.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A proxy that decides from the first line of a request what happens to it.
struct Proxy {
    address: SocketAddr,
    faults: Arc<Mutex<BTreeMap<Fault, usize>>>,
}

impl Proxy {
    fn start(to: SocketAddr, decide: impl Fn(&str) -> Fault + Send + Sync + 'static) -> Self {
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

    fn storage(&self, prefix: &str) -> ObjectStorage {
        let endpoint = format!("http://{}", self.address);
        let timeout = format!("{}ms", TIMEOUT.as_millis());
        let options = [
            ("aws_endpoint", &*endpoint),
            ("aws_region", "us-east-1"),
            ("aws_access_key_id", "access"),
            ("aws_secret_access_key", "s3cret"),
            ("allow_http", "true"),
            ("timeout", &*timeout),
        ];
        ObjectStorage::from_url_with(&format!("s3://bucket/{prefix}"), options).unwrap()
    }
}

/// Handles one request of a connection, and closes it.
fn forward(mut client: &TcpStream, to: SocketAddr, fault_of: impl FnOnce(&str) -> Fault) -> io::Result<()> {
    let mut from = BufReader::new(client);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let begin = head.len();
        if from.read_line(&mut head)? == 0 {
            return Ok(());
        }
        let line = head[begin..].to_lowercase();
        if let Some(number) = line.strip_prefix("content-length:") {
            length = number.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
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

fn open(path: &Path, clock: &Arc<ManualClock>) -> Stream {
    StreamOptions::new().shards(2).clock(clock.clone()).open(path).unwrap()
}

fn lines(stream: &Stream) -> DeliveryOptions {
    stream.delivery("archive").format(Format::lines()).backoff(Duration::ZERO, Duration::ZERO)
}

/// A small generator of numbers that are the same for the same seed.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

fn sorted_lines<'a>(objects: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<String> {
    let texts = objects.into_iter().map(|bytes| std::str::from_utf8(bytes).unwrap());
    let mut lines: Vec<_> = texts.flat_map(str::lines).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn l2_each_record_is_in_s3_once_whatever_happens_to_requests_and_restarts() {
    let Some(moto) = Moto::start() else { return };
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let state = Mutex::new((11, 0));
    let proxy = Proxy::start(moto.address, move |_| {
        let (seed, late) = &mut *state.lock();
        match next(seed) % 14 {
            0 => Fault::LostBefore,
            1 | 2 => Fault::LostAfter,
            3 => Fault::Half,
            4 => Fault::Status(500),
            5 => Fault::Status(503),
            // These take their time.
            6 if *late < 3 => {
                *late += 1;
                Fault::Late
            }
            _ => Fault::None,
        }
    });
    let mut expected = vec![];
    for round in 0..6 {
        let delivery = lines(&stream).buffer_bytes(512).to(proxy.storage("logs/web")).start().unwrap();
        for number in 0..200 {
            let data = format!("{round} {number:03} {}", "x".repeat(20));
            stream.put(format!("key {number}"), data.clone()).unwrap();
            expected.push(data);
        }
        if round % 2 == 1 {
            assert!(delivery.flush(Duration::from_secs(120)), "{:?}", delivery.stats());
        }
        // One attempt for each object, so some are left for the next delivery.
        delivery.close().unwrap();
        clock.advance(streamlog::MINUTE);
    }
    let objects = moto.objects();
    assert!(
        objects.keys().all(|key| key.starts_with("logs/web/2023/11/14/22/archive-")),
        "{:?}",
        objects.keys()
    );
    assert_eq!(sorted_lines(objects.values().map(|found| &found.bytes)), expected);
    let faults = proxy.faults.lock();
    for fault in [Fault::LostAfter, Fault::Half, Fault::Status(500), Fault::Status(503), Fault::Late] {
        assert!(faults.get(&fault).is_some_and(|&count| count > 1), "{faults:?}");
    }
    assert_eq!(stream.group("archive").describe().unwrap().lag().record_count, 0);
}

#[test]
fn l2_a_large_object_is_uploaded_in_parts_and_again_if_the_answer_to_the_last_request_is_lost() {
    let Some(moto) = Moto::start() else { return };
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = StreamOptions::new().clock(clock).open(scratch.path().join("stream")).unwrap();
    let lost = Mutex::new(0);
    let proxy = Proxy::start(moto.address, move |line| {
        // The one that puts the parts together.
        let is_last = line.starts_with("POST") && line.contains("uploadId=");
        *lost.lock() += u32::from(is_last);
        // As often as the client repeats it, which then finds no upload of that name.
        if is_last && *lost.lock() <= 4 { Fault::LostAfter } else { Fault::None }
    });
    let mut expected = vec![];
    for number in 0..11u8 {
        let data = vec![b'a' + number; 1_000_000];
        stream.put("key", &data).unwrap();
        expected.extend(data);
    }
    let storage = proxy.storage("").part_bytes(5 << 20).unwrap();
    let delivery = stream
        .delivery("archive")
        .backoff(Duration::ZERO, Duration::ZERO)
        .buffer_bytes(32 << 20)
        .to(storage)
        .start()
        .unwrap();
    assert!(delivery.flush(Duration::from_secs(120)), "{:?}", delivery.stats());
    assert!(delivery.stats().errors > 0, "the answer was lost");
    delivery.close().unwrap();
    let objects = moto.objects();
    assert_eq!(objects.len(), 1);
    let found = objects.values().next().unwrap();
    assert!(found.bytes == expected, "other bytes");
    assert!(found.etag.ends_with("-3\""), "in three parts: {}", found.etag);
    assert_eq!(found.content_type, "application/octet-stream");
    assert_eq!(found.content_encoding, None);
}

#[test]
fn l8_an_archive_in_s3_is_read_back_and_restored_whatever_happens_to_requests() {
    let Some(moto) = Moto::start() else { return };
    let (scratch, clock) = (common::scratch(), common::clock());
    let path = scratch.path().join("stream");
    let options = common::small(&clock).segment_bytes(12 << 20).record_bytes_max(2 << 20);
    let stream = options.retention(streamlog::Retention::forever()).open(&path).unwrap();
    let state = Mutex::new(7);
    let proxy = Proxy::start(moto.address, move |_| match next(&mut state.lock()) % 10 {
        0 => Fault::LostBefore,
        1 => Fault::LostAfter,
        2 => Fault::Half,
        3 => Fault::Status(503),
        _ => Fault::None,
    });
    // Some segments are uploaded and fetched in parts.
    let storage = proxy.storage("archive/clicks").part_bytes(5 << 20).unwrap();
    for number in 0..40u8 {
        stream.put("key", vec![number; 1_000_000]).unwrap();
    }
    stream.maintain().unwrap();
    let go_on = |_| std::ops::ControlFlow::Continue(());
    let mut archiver = stream.archiver(storage.clone());
    let mut failures = 0;
    loop {
        match archiver.run(go_on) {
            Ok(report) => break assert_eq!(report.waiting.len(), 1, "the last segment is not sealed"),
            Err(error) => {
                assert!(
                    error.is_retryable() && error.to_string().contains("s3://bucket/archive/clicks/"),
                    "{error}"
                );
                failures += 1;
                assert!(failures < 100, "{error}");
            }
        }
    }
    stream.trim_before(stream.shards()[0].id, 35.into()).unwrap();
    stream.maintain().unwrap();
    let names: Vec<_> = moto.objects().into_keys().collect();
    assert!(names.contains(&"archive/clicks/stream.json".to_owned()) && names.len() == 4, "{names:?}");

    let reader = StreamOptions::new().clock(clock).archive(storage.clone()).open_reader(&path).unwrap();
    let mut numbers = vec![];
    let mut iterator = loop {
        match reader.lineage_iterator(streamlog::Position::TrimHorizon) {
            Ok(iterator) => break iterator,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    };
    while numbers.len() < 40 {
        match iterator.next_batch(7) {
            Ok(batch) => numbers.extend(batch.iter().map(|record| record.data()[0])),
            Err(error) => assert!(
                error.is_retryable() && error.to_string().contains("archive/clicks/shards/"),
                "{error}"
            ),
        }
    }
    assert_eq!(numbers, (0..40).collect::<Vec<_>>());
    let restored = scratch.path().join("restored");
    let report = loop {
        match Stream::restore(storage.clone(), &restored, go_on) {
            Ok(report) => break report,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    };
    assert_eq!(report.lost_count, 0);
    assert!(!proxy.faults.lock().is_empty());
    drop(moto);
    let lost = Stream::restore(storage, scratch.path().join("again"), go_on);
    assert!(lost.unwrap_err().to_string().contains("s3://bucket/archive/clicks/stream.json"));
}

#[test]
fn objects_in_s3_have_the_type_and_encoding_of_their_bytes() {
    let Some(moto) = Moto::start() else { return };
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let proxy = Proxy::start(moto.address, |_| Fault::None);
    stream.put("key", r#"{"page":"/cart"}"#).unwrap();
    stream.put("key", "no JSON").unwrap();
    let delivery = lines(&stream)
        .format(Format::json_lines())
        .compression(CompressionFormat::Gzip)
        .prefix("day=!{timestamp:dd}/a b+c=ü&%2F/")
        .error_prefix("errors/!{firehose:error-output-type}/")
        .to(proxy.storage("web"))
        .start()
        .unwrap();
    assert!(delivery.flush(Duration::from_secs(60)), "{:?}", delivery.stats());
    delivery.close().unwrap();
    let objects = moto.objects();
    let keys: Vec<_> = objects.keys().collect();
    assert_eq!(keys.len(), 2);
    assert!(
        keys[0].starts_with("web/day=14/a b+c=ü&%2F/archive-") && keys[0].ends_with(".jsonl.gz"),
        "{keys:?}"
    );
    assert!(keys[1].starts_with("web/errors/format-conversion-failed/"), "{keys:?}");
    let (records, errors) = (&objects[keys[0]], &objects[keys[1]]);
    assert_eq!(records.content_type, "application/x-ndjson");
    assert_eq!(records.content_encoding.as_deref(), Some("gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*records.bytes).read_to_string(&mut text).unwrap();
    assert_eq!(text, "{\"page\":\"/cart\"}\n");
    assert_eq!((&*errors.content_type, &errors.content_encoding), ("application/x-ndjson", &None));
}

/// Puts as a task of a runtime, as a program might that calls a sink by itself.
struct InTask<S>(S);

impl<S: Sink> Sink for InTask<S> {
    fn put(&self, object: &Object) -> Result<(), SinkError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { self.0.put(object) })
    }
}

#[test]
fn any_store_takes_objects_from_a_task_too_and_may_be_dropped_by_one() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let memory = Arc::new(InMemory::new());
    let storage = ObjectStorage::new(memory.clone(), "a/b").unwrap();
    for number in 0..100 {
        stream.put(format!("key {number}"), format!("{number:03}")).unwrap();
    }
    let delivery = lines(&stream).buffer_bytes(64).to(InTask(storage.clone())).start().unwrap();
    assert!(delivery.flush(Duration::from_secs(60)), "{:?}", delivery.stats());
    delivery.close().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let objects: Vec<Vec<u8>> = runtime.block_on(async {
        drop(storage);
        use futures_util::TryStreamExt as _;
        use object_store::ObjectStoreExt as _;
        let listed: Vec<_> = memory.list(None).try_collect().await.unwrap();
        let mut objects = vec![];
        for meta in listed {
            assert!(meta.location.as_ref().starts_with("a/b/2023/11/14/22/archive-"));
            objects.push(memory.get(&meta.location).await.unwrap().bytes().await.unwrap().to_vec());
        }
        objects
    });
    assert!(objects.len() > 4, "several objects");
    assert_eq!(sorted_lines(&objects), (0..100).map(|number| format!("{number:03}")).collect::<Vec<_>>());
}

#[test]
fn a_local_directory_by_its_url_has_the_same_files_as_the_sink_for_directories() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    stream.put("key", "one").unwrap();
    let (left, right) = (scratch.path().join("left"), scratch.path().join("right"));
    let url = format!("file://{}", left.display());
    for sink in
        [Arc::new(ObjectStorage::from_url(&url).unwrap()) as Arc<dyn Sink>, Arc::new(Directory::new(&right))]
    {
        let delivery = lines(&stream).prefix("k=%2F/").to(sink).start().unwrap();
        assert!(delivery.flush(Duration::from_secs(60)), "{:?}", delivery.stats());
        delivery.close().unwrap();
        stream.group("archive").delete().unwrap();
    }
    let files = |path: &Path| {
        let (mut found, mut paths) = (vec![], vec![path.to_owned()]);
        while let Some(at) = paths.pop() {
            match std::fs::read(&at) {
                Ok(bytes) => found.push((at.strip_prefix(path).unwrap().to_owned(), bytes)),
                Err(_) => paths.extend(std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path())),
            }
        }
        found
    };
    assert_eq!(files(&left), files(&right));
    assert_eq!(files(&left).len(), 1);
}

#[test]
fn an_error_names_the_bucket_and_the_key_and_no_secret() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    stream.put("key", "one").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Proxy::start(nobody, |_| Fault::Status(403));
    let storage = proxy.storage("logs");
    assert!(!format!("{storage:?}").contains("s3cret"));
    let delivery = lines(&stream).buffer_bytes(1).to(storage).start().unwrap();
    let begun = Instant::now();
    while delivery.stats().errors == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(5));
    }
    let error = delivery.stats().last_error.unwrap();
    assert!(error.starts_with("cannot write s3://bucket/logs/2023/11/14/22/archive-"), "{error}");
    assert!(error.contains("403"), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
}

#[test]
fn settings_that_do_not_work_are_refused() {
    let refused = |storage: Result<ObjectStorage, Error>| match storage {
        Err(Error::InvalidArgument(reason)) => reason.to_string(),
        other => panic!("{other:?}"),
    };
    for url in ["", "bucket", "ftp://bucket/", "http://bucket/", "file://host/directory"] {
        assert!(refused(ObjectStorage::from_url(url)).contains("is no URL of an object store"), "{url}");
    }
    assert!(refused(ObjectStorage::from_url("s3:///prefix")).contains("names no bucket"));
    assert!(refused(ObjectStorage::from_url("s3://bucket/a/../b")).contains(".."));
    let option = refused(ObjectStorage::from_url_with("s3://bucket/", [("aws_sekret", "s3cret")]));
    assert!(option.contains("aws_sekret") && !option.contains("s3cret\""), "{option}");
    let storage = || ObjectStorage::from_url("s3://bucket/").unwrap();
    assert!(refused(storage().part_bytes(1)).contains("part_bytes"));
}
