//! Deliveries to object stores: each record arrives exactly once, in S3 behind a proxy that loses, delays and breaks answers. moto simulates S3,
//! and so does `s3s-fs`, which checks signatures.
//!
//! moto needs the Python that `STREAMLOG_PYTHON` names, or else the one that `.ci/run` installs in `target/python`. Without any, those tests print a
//! note and pass; if `STREAMLOG_PYTHON` is set, they fail. The same holds for `s3s-fs` and `STREAMLOG_S3S`.

use crate::common;
use crate::common::s3;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use object_store::ObjectStore;
use object_store::memory::InMemory;
use parking_lot::Mutex;
use s3::{Checking, Fault, Moto, Proxy, storage_at};
use streamlog::delivery::{
    CompressionFormat, DeliveryOptions, Directory, Format, Object, ObjectStorage, Sink, SinkError,
};
use streamlog::{Error, ManualClock, Stream, StreamOptions};

fn open(path: &Path, clock: &Arc<ManualClock>) -> Stream {
    StreamOptions::new().shards(2).clock(clock.clone()).open(path).unwrap()
}

fn lines(stream: &Stream) -> DeliveryOptions {
    stream.delivery("archive").format(Format::lines()).backoff(Duration::ZERO, Duration::ZERO)
}

fn sorted_lines<'a>(objects: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<String> {
    let texts = objects.into_iter().map(|bytes| std::str::from_utf8(bytes).unwrap());
    let mut lines: Vec<_> = texts.flat_map(str::lines).map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Delivers to a server behind a proxy with faults, with a delivery that is closed and started again.
fn deliver_with_faults(address: SocketAddr, objects: impl Fn() -> BTreeMap<String, Vec<u8>>) {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let proxy = Proxy::start(address, s3::at_random(11));
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
    let objects = objects();
    assert!(
        objects.keys().all(|key| key.starts_with("logs/web/2023/11/14/22/archive-")),
        "{:?}",
        objects.keys()
    );
    assert_eq!(sorted_lines(objects.values()), expected);
    let faults = proxy.faults.lock();
    for fault in [Fault::LostAfter, Fault::Half, Fault::Status(500), Fault::Status(503), Fault::Late] {
        assert!(faults.get(&fault).is_some_and(|&count| count > 1), "{faults:?}");
    }
    assert_eq!(stream.group("archive").describe().unwrap().lag().record_count, 0);
}

#[test]
fn l2_each_record_is_in_s3_once_whatever_happens_to_requests_and_restarts() {
    let Some(moto) = Moto::start() else { return };
    deliver_with_faults(moto.address, || moto.bytes());
}

#[test]
fn l2_each_record_is_there_once_at_a_server_that_checks_signatures() {
    let Some(server) = Checking::start() else { return };
    deliver_with_faults(server.address, || server.objects());
}

/// Delivers one object in three parts. Returns its bytes.
fn deliver_in_parts(address: SocketAddr) -> Vec<u8> {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = StreamOptions::new().clock(clock).open(scratch.path().join("stream")).unwrap();
    let lost = Mutex::new(0);
    let proxy = Proxy::start(address, move |line| {
        // The request that combines the parts.
        let is_last = line.starts_with("POST") && line.contains("uploadId=");
        *lost.lock() += u32::from(is_last);
        // As often as the client retries it. The retry finds that the upload no longer exists.
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
    expected
}

#[test]
fn l2_a_large_object_is_uploaded_in_parts_and_again_if_the_answer_to_the_last_request_is_lost() {
    let Some(moto) = Moto::start() else { return };
    let expected = deliver_in_parts(moto.address);
    let objects = moto.objects();
    assert_eq!(objects.len(), 1);
    let found = objects.values().next().unwrap();
    assert!(found.bytes == expected, "other bytes");
    assert!(found.etag.ends_with("-3\""), "in three parts: {}", found.etag);
    assert_eq!(found.content_type, "application/octet-stream");
    assert_eq!(found.content_encoding, None);
}

#[test]
fn l2_a_large_object_is_uploaded_in_parts_to_a_server_that_checks_signatures() {
    let Some(server) = Checking::start() else { return };
    let expected = deliver_in_parts(server.address);
    let objects = server.objects();
    assert_eq!(objects.len(), 1);
    assert!(objects.into_values().next().unwrap() == expected, "other bytes");
}

#[test]
fn a_wrong_secret_is_refused_with_the_reason_and_without_the_secret() {
    let Some(server) = Checking::start() else { return };
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    stream.put("key", "one").unwrap();
    let start = |secret| {
        let options = lines(&stream).buffer_interval(Duration::ZERO).prefix("a b+c=ü&%2F/");
        options.to(storage_at(server.address, "logs", secret)).start().unwrap()
    };
    let delivery = start("wr0ng");
    let begun = Instant::now();
    while delivery.stats().errors == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(5));
    }
    let error = delivery.stats().last_error.unwrap();
    delivery.close().unwrap();
    assert!(error.starts_with("cannot write s3://bucket/logs/a b+c=ü&%2F/2023/11/14/22/archive-"), "{error}");
    assert!(error.contains("403") && error.contains("SignatureDoesNotMatch"), "{error}");
    assert!(!error.contains("wr0ng") && !error.contains("s3cret"), "{error}");
    assert_eq!(server.objects().len(), 0);
    // With the right one, waiting records are delivered.
    let delivery = start("s3cret");
    assert!(delivery.flush(Duration::from_secs(60)), "{:?}", delivery.stats());
    delivery.close().unwrap();
    let objects = server.objects();
    assert_eq!(sorted_lines(objects.values()), ["one"]);
    assert!(
        objects.keys().all(|key| key.starts_with("logs/a b+c=ü&%2F/2023/11/14/22/archive-")),
        "{objects:?}"
    );
}

#[test]
fn a_manifest_has_the_url_and_the_length_of_an_object_that_is_there() {
    let Some(moto) = Moto::start() else { return };
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let proxy = Proxy::start(moto.address, s3::at_random(7));
    for number in 0..200 {
        let data = if number % 10 == 0 { format!("no JSON {number}") } else { format!("{{\"n\":{number}}}") };
        stream.put(format!("key {number}"), data).unwrap();
    }
    let delivery = lines(&stream)
        .format(Format::json_lines())
        .compression(CompressionFormat::Gzip)
        .buffer_bytes(200)
        .manifests("manifests/", "s3://bucket/web")
        .to(proxy.storage("web"))
        .start()
        .unwrap();
    assert!(delivery.flush(Duration::from_secs(60)), "{:?}", delivery.stats());
    delivery.close().unwrap();
    let objects = moto.bytes();
    let (manifests, others): (Vec<_>, Vec<_>) =
        objects.iter().partition(|(key, _)| key.starts_with("web/manifests/"));
    let (errors, mut records): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|(key, _)| key.starts_with("web/format-conversion-failed/"));
    assert!(records.len() > 4 && !errors.is_empty(), "{:?}", objects.keys());
    for (key, manifest) in manifests {
        let manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
        let url = manifest["entries"][0]["url"].as_str().unwrap();
        let named = url.strip_prefix("s3://bucket/").unwrap();
        assert_eq!(key.as_str(), format!("web/manifests/{}.manifest", &named["web/".len()..]));
        let at =
            records.iter().position(|(key, _)| *key == named).expect("it is there, and in no other manifest");
        let (_, bytes) = records.swap_remove(at);
        let meta = serde_json::json!({ "content_length": bytes.len() });
        let entry = serde_json::json!({ "url": url, "mandatory": true, "meta": meta });
        assert_eq!(manifest, serde_json::json!({ "entries": [entry] }));
    }
    assert!(records.is_empty(), "each object has a manifest, but not {records:?}");
}

#[test]
fn l8_an_archive_in_s3_is_read_back_and_restored_whatever_happens_to_requests() {
    let Some(moto) = Moto::start() else { return };
    let (scratch, clock) = (common::scratch(), common::clock());
    let path = scratch.path().join("stream");
    let options = common::small(&clock).segment_bytes(12 << 20).record_bytes_max(2 << 20);
    let stream = options.retention(streamlog::Retention::forever()).open(&path).unwrap();
    let proxy = Proxy::start(moto.address, s3::at_random(7));
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
    let names: Vec<_> = moto.bytes().into_keys().collect();
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

/// Puts in a task of a runtime, as a program might that calls a sink by itself.
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
