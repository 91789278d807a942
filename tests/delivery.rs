//! Deliveries on real streams: each record is in the output exactly once, and the rules of Amazon Data Firehose hold.
#![cfg(feature = "delivery")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use streamlog::delivery::{
    CompressionFormat, DeliveryOptions, Directory, Format, Naming, Object, Sink, SinkError, Transformed,
};
use streamlog::{Clock, Error, ManualClock, SECOND, Stream, StreamOptions};

/// Returns the files under a directory, by their names in it.
fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    fn add(root: &Path, path: &Path, to: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(root, &path, to);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                to.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    if path.exists() {
        add(path, path, &mut found);
    }
    found
}

/// Objects in memory, with what the sink was asked.
#[derive(Debug, Default)]
struct Memory {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    attempts: AtomicUsize,
    is_out_of_reach: AtomicBool,
}

impl Sink for Memory {
    fn put(&self, object: &Object) -> Result<(), SinkError> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        if self.is_out_of_reach.load(Ordering::SeqCst) {
            return Err(SinkError::temporary("out of reach"));
        }
        self.objects.lock().insert(object.name().to_owned(), object.bytes().to_vec());
        Ok(())
    }
}

impl Memory {
    fn lines(&self) -> Vec<String> {
        let objects = self.objects.lock();
        let lines =
            objects.values().flat_map(|bytes| std::str::from_utf8(bytes).unwrap().lines().map(str::to_owned));
        lines.collect()
    }

    fn names(&self) -> Vec<String> {
        self.objects.lock().keys().cloned().collect()
    }
}

fn open(path: &Path, clock: &Arc<ManualClock>) -> Stream {
    StreamOptions::new().segment_bytes(64 << 10).clock(clock.clone()).open(path).unwrap()
}

fn lines(stream: &Stream) -> DeliveryOptions {
    stream.delivery("archive").format(Format::lines()).backoff(Duration::ZERO, Duration::ZERO)
}

/// Waits until something holds that other threads bring about.
fn until(what: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !what() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not come about");
        std::thread::yield_now();
    }
}

#[test]
fn records_become_files_with_the_names_and_times_that_firehose_gives_them() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let archive = scratch.path().join("archive");
    for number in 0..10 {
        stream.put("key", format!("{number}")).unwrap();
        clock.advance(SECOND);
    }
    let delivery = lines(&stream).to(Directory::new(&archive)).start().unwrap();
    assert!(delivery.flush(Duration::from_secs(30)));
    delivery.close().unwrap();
    let found = files(&archive);
    let shard = stream.shards()[0].id;
    let read: String = found.values().map(|bytes| String::from_utf8(bytes.clone()).unwrap()).collect();
    assert_eq!(read, (0..10).map(|number| format!("{number}\n")).collect::<String>());
    let hour = "2023/11/14/22/";
    assert!(
        found.keys().all(|name| name.starts_with(&format!("{hour}archive-{shard}-"))),
        "{:?}",
        found.keys()
    );
}

#[test]
fn an_object_is_delivered_when_it_is_large_or_old_enough_and_not_before() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let sink = Arc::new(Memory::default());
    let options = lines(&stream).buffer_bytes(100).buffer_interval(10 * SECOND);
    let delivery = options.to(Arc::clone(&sink)).start().unwrap();
    let put = |number: u32| _ = stream.put("key", format!("{number:010}")).unwrap();
    (0..9).for_each(put);
    until(|| delivery.stats().read_records == 9);
    assert_eq!(sink.attempts.load(Ordering::SeqCst), 0, "90 bytes are not enough");
    put(9);
    until(|| delivery.stats().objects == 1);
    assert_eq!(sink.lines().len(), 10);

    put(10);
    until(|| delivery.stats().read_records == 11);
    clock.advance(9 * SECOND);
    assert_eq!(delivery.stats().objects, 1, "it is not old enough");
    clock.advance(SECOND);
    until(|| delivery.stats().objects == 2);
    assert_eq!(sink.lines().len(), 11);
    delivery.close().unwrap();
    assert_eq!(sink.attempts.load(Ordering::SeqCst), 2, "an empty buffer is no object");
}

#[test]
fn l1_a_flush_delivers_all_that_was_put_before() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let sink = Arc::new(Memory::default());
    for number in 0..200 {
        // While the delivery looks at the log for the first time.
        let delivery = lines(&stream).to(Arc::clone(&sink)).start().unwrap();
        for _ in 0..number * 50 {
            std::hint::spin_loop();
        }
        stream.put("key", number.to_string()).unwrap();
        assert!(delivery.flush(Duration::from_secs(30)));
        assert_eq!(sink.lines().len(), number + 1);
        delivery.close().unwrap();
    }
}

#[test]
fn l1_a_flush_right_after_the_start_delivers_what_was_there() {
    for _ in 0..100 {
        let (scratch, clock) = (common::scratch(), common::clock());
        let stream = open(&scratch.path().join("stream"), &clock);
        stream.put("key", "there").unwrap();
        let sink = Arc::new(Memory::default());
        let delivery = lines(&stream).to(Arc::clone(&sink)).start().unwrap();
        assert!(delivery.flush(Duration::from_secs(30)));
        assert_eq!(sink.lines(), ["there"], "{:?}", delivery.stats());
        delivery.close().unwrap();
    }
}

#[test]
fn l1_a_sink_that_is_out_of_reach_loses_nothing() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let sink = Arc::new(Memory::default());
    sink.is_out_of_reach.store(true, Ordering::SeqCst);
    for round in 0..3 {
        for number in 0..100 {
            stream.put("key", format!("{round} {number:02}")).unwrap();
        }
        let delivery = lines(&stream).buffer_bytes(100).to(Arc::clone(&sink)).start().unwrap();
        until(|| delivery.stats().errors > 20);
        assert_eq!(delivery.stats().last_error.as_deref(), Some("out of reach"));
        delivery.close().unwrap();
    }
    sink.is_out_of_reach.store(false, Ordering::SeqCst);
    let delivery = lines(&stream).buffer_bytes(100).to(Arc::clone(&sink)).start().unwrap();
    until(|| delivery.stats().read_records == 300);
    delivery.close().unwrap();
    let expected: Vec<_> =
        (0..3).flat_map(|round| (0..100).map(move |number| format!("{round} {number:02}"))).collect();
    assert_eq!(sink.lines(), expected, "L2: each once, in order");
    assert_eq!(stream.group("archive").describe().unwrap().lag().record_count, 0);
}

#[test]
fn l5_what_a_step_fails_with_goes_to_the_error_output_and_the_rest_on() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let (sink, errors, backup) =
        (Arc::new(Memory::default()), Arc::new(Memory::default()), Arc::new(Memory::default()));
    for number in 0..10 {
        stream.put("key", number.to_string()).unwrap();
    }
    let transform = |record: &streamlog::delivery::DeliveryRecord<'_>| match record.data() {
        b"3" => Transformed::failed("three"),
        b"5" => panic!("five"),
        b"7" => Transformed::dropped(),
        b"8" => Transformed::row("8a").and_row("8b"),
        data => Transformed::row(data),
    };
    let delivery = lines(&stream)
        .transform(transform)
        .to(Arc::clone(&sink))
        .errors_to(Arc::clone(&errors))
        .backup_to(Arc::clone(&backup), "source/")
        .start()
        .unwrap();
    until(|| delivery.stats().read_records == 10);
    assert_eq!(delivery.stats().failed_records, 2);
    delivery.close().unwrap();
    assert_eq!(sink.lines(), ["0", "1", "2", "4", "6", "8a", "8b", "9"]);
    let failed: Vec<serde_json::Value> =
        errors.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<_> = failed
        .iter()
        .map(|line| (line["errorMessage"].as_str().unwrap(), line["rawData"].as_str().unwrap()))
        .collect();
    assert_eq!(found, [("three", "Mw=="), ("the function has panicked", "NQ==")]);
    assert!(errors.names().iter().all(|name| name.starts_with("processing-failed/2023/11/14/22/")));
    let source: Vec<u8> = backup.objects.lock().values().flatten().copied().collect();
    assert_eq!(source, b"0123456789");
    assert!(backup.names().iter().all(|name| name.starts_with("source/2023/11/14/22/")));
}

#[test]
fn partitions_have_objects_of_their_own_and_too_many_of_them_are_errors() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let (sink, errors) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
    for number in 0..40 {
        stream.put(format!("user/{}", number % 4), number.to_string()).unwrap();
    }
    let delivery = lines(&stream)
        .partition_keys(["user"])
        .prefix("user=!{partitionKeyFromLambda:user}/")
        .error_prefix("errors/!{firehose:error-output-type}/")
        .active_partitions_max(3)
        .transform(|record| {
            Transformed::row_in(record.data(), [std::str::from_utf8(record.partition_key()).unwrap()])
        })
        .to(Arc::clone(&sink))
        .errors_to(Arc::clone(&errors))
        .start()
        .unwrap();
    until(|| delivery.stats().read_records == 40);
    assert_eq!((delivery.stats().active_partitions, delivery.stats().failed_records), (3, 10));
    delivery.close().unwrap();
    let names = sink.names();
    assert_eq!(names.len(), 3);
    assert!(names[1].starts_with("user=user%2F1/2023/11/14/22/archive-"), "{names:?}");
    assert_eq!(sink.objects.lock()[&names[1]], b"1\n5\n9\n13\n17\n21\n25\n29\n33\n37\n");
    assert_eq!(errors.lines().len(), 10);
    assert!(errors.lines()[0].contains("ActivePartitionLimitExceeded"));
}

#[test]
fn settings_that_break_a_rule_are_refused_with_a_sentence() {
    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    let options = || stream.delivery("archive").to(Arc::new(Memory::default()));
    let refused = |options: DeliveryOptions| match options.start() {
        Err(Error::InvalidArgument(reason)) => reason.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(refused(stream.delivery("archive")).contains("needs a sink"));
    for (prefix, reason) in [
        ("/a", "slash"),
        ("a/../b", "`..`"),
        ("!{timestamp:yyyy", "no end"),
        ("!{timestamp:B}/", "no field"),
        ("!{firehose:error-output-type}/", "error prefix"),
        ("!{partitionKeyFromQuery:a}/", "names no partition key"),
        ("!{what:a}/", "unknown"),
        ("!{timestamp:yyyy}/", "needs an error prefix"),
    ] {
        let found = refused(options().prefix(prefix));
        assert!(found.contains(reason), "{prefix}: {found}");
    }
    assert!(
        refused(options().error_prefix("!{timestamp:yyyy}/")).contains("needs !{firehose:error-output-type}")
    );
    assert!(refused(options().time_zone("Mars/Olympus")).contains("unknown"));
    assert!(refused(options().partition_keys(["a"])).contains("does not name the partition key"));
    assert!(refused(options().concurrency(0)).contains("concurrency"));
    assert!(stream.groups().unwrap().is_empty(), "nothing was begun");
}

#[test]
fn each_compression_is_read_by_its_tool_and_the_same_each_time() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    for number in 0..1_000 {
        stream.put("key", format!("record {number}")).unwrap();
    }
    let formats = [
        CompressionFormat::Gzip,
        CompressionFormat::Zip,
        CompressionFormat::Snappy,
        CompressionFormat::HadoopSnappy,
    ];
    for format in formats {
        let deliver = || {
            let sink = Arc::new(Memory::default());
            let name = format!("{format:?}-{}", stream.groups().unwrap().len() % 2);
            let options = stream.delivery(name).format(Format::lines()).naming(Naming::Sequence);
            let delivery = options.compression(format).to(Arc::clone(&sink)).start().unwrap();
            until(|| delivery.stats().read_records == 1_000);
            delivery.close().unwrap();
            let objects = std::mem::take(&mut *sink.objects.lock());
            assert_eq!(objects.len(), 1);
            objects.into_iter().next().unwrap()
        };
        let (first, second) = (deliver(), deliver());
        if format != CompressionFormat::Zip {
            assert_eq!(first.1, second.1, "{format:?}: the same bytes");
        }
        assert!(first.1.len() < 8_000, "{format:?}");
    }
    assert!(clock.now() > streamlog::Timestamp::default());
}
