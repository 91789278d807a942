//! Deliveries on real streams: each record is in the output exactly once, and the rules of Amazon Data Firehose hold.

use crate::common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::waiting::eventually;
use parking_lot::Mutex;
use streamlog::aggregate::Aggregator;
use streamlog::delivery::{
    CompressionFormat, CsvOptions, DeliveryOptions, Directory, Format, Naming, Object, Sink, SinkError,
    Transformed,
};
use streamlog::{Error, Limits, ManualClock, Position, PutRecord, SECOND, Stream, StreamOptions};

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

/// Objects in memory, and the calls to the sink.
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
    eventually(|| delivery.stats().read_records == 9);
    assert_eq!(sink.attempts.load(Ordering::SeqCst), 0, "90 bytes are not enough");
    put(9);
    eventually(|| delivery.stats().objects == 1);
    assert_eq!(sink.lines().len(), 10);

    put(10);
    eventually(|| delivery.stats().read_records == 11);
    clock.advance(9 * SECOND);
    assert_eq!(delivery.stats().objects, 1, "it is not old enough");
    clock.advance(SECOND);
    eventually(|| delivery.stats().objects == 2);
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
        // While the delivery reads the log for the first time.
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
fn l2_what_was_read_before_a_group_was_moved_is_not_delivered_behind_it() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let sink = Arc::new(Memory::default());
    let delivery = lines(&stream).to(Arc::clone(&sink)).start().unwrap();
    stream.put("key", "before").unwrap();
    eventually(|| delivery.stats().read_records == 1);
    stream.group("archive").reset(Position::Latest).unwrap();
    stream.put("key", "after").unwrap();
    eventually(|| delivery.stats().read_records == 2);
    assert!(delivery.flush(Duration::from_secs(30)));
    assert_eq!(sink.lines(), ["after"]);
    delivery.close().unwrap();
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
        eventually(|| delivery.stats().errors > 20);
        assert_eq!(delivery.stats().last_error.as_deref(), Some("out of reach"));
        delivery.close().unwrap();
    }
    sink.is_out_of_reach.store(false, Ordering::SeqCst);
    let delivery = lines(&stream).buffer_bytes(100).to(Arc::clone(&sink)).start().unwrap();
    eventually(|| delivery.stats().read_records == 300);
    delivery.close().unwrap();
    let expected: Vec<_> =
        (0..3).flat_map(|round| (0..100).map(move |number| format!("{round} {number:02}"))).collect();
    assert_eq!(sink.lines(), expected, "L2: each once, in order");
    assert_eq!(stream.group("archive").describe().unwrap().lag().record_count, 0);
}

#[test]
fn l1_a_sink_that_is_out_of_reach_for_very_many_objects_loses_nothing() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = StreamOptions::new().clock(clock).open(scratch.path().join("stream")).unwrap();
    for number in 0..20_000 {
        stream.put("key", format!("{number:05}")).unwrap();
    }
    let sink = Arc::new(Memory::default());
    sink.is_out_of_reach.store(true, Ordering::SeqCst);
    // Each record is an object, and the decisions about all of them do not fit into one commit.
    let start =
        || lines(&stream).buffer_bytes(1).backoff(SECOND, SECOND).to(Arc::clone(&sink)).start().unwrap();
    let delivery = start();
    let mut read = (0, std::time::Instant::now());
    while read.1.elapsed() < Duration::from_millis(500) {
        let now = delivery.stats().read_records;
        read = if now == read.0 { read } else { (now, std::time::Instant::now()) };
        assert!(!delivery.is_over(), "{:?}", delivery.stats());
        std::thread::yield_now();
    }
    assert!((1_000..20_000).contains(&read.0), "reading waits, after {} records", read.0);
    drop(delivery);
    sink.is_out_of_reach.store(false, Ordering::SeqCst);
    let delivery = start();
    assert!(delivery.flush(Duration::from_secs(60)), "{:?}", delivery.stats());
    delivery.close().unwrap();
    assert_eq!(sink.lines(), (0..20_000).map(|number| format!("{number:05}")).collect::<Vec<_>>());
}

/// Refuses everything, and counts.
#[derive(Default)]
struct Refusing(AtomicUsize);

impl Sink for Refusing {
    fn put(&self, _: &Object) -> Result<(), SinkError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(SinkError::permanent("never"))
    }
}

/// Keeps each object, but reports a failure, as if the connection were lost at the end.
#[derive(Default)]
struct Forgetful(Memory);

impl Sink for Forgetful {
    fn put(&self, object: &Object) -> Result<(), SinkError> {
        self.0.put(object)?;
        Err(SinkError::temporary("the connection is lost"))
    }
}

#[test]
fn l2_what_a_sink_never_takes_has_the_same_name_in_the_error_output_after_a_restart() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let (sink, errors) = (Arc::new(Refusing::default()), Arc::new(Forgetful::default()));
    for number in 0..5 {
        stream.put("key", number.to_string()).unwrap();
    }
    for naming in [Naming::Firehose, Naming::Sequence, Naming::Firehose] {
        let attempts = errors.0.attempts.load(Ordering::SeqCst);
        let delivery = lines(&stream)
            .naming(naming)
            .error_prefix(
                "!{firehose:random-string}/!{firehose:random-string}/!{firehose:error-output-type}/",
            )
            .buffer_bytes(1)
            .backoff(Duration::from_millis(5), Duration::from_millis(5))
            // The time that a refusing sink takes does not matter.
            .retry_duration(None)
            .to(Arc::clone(&sink))
            .errors_to(Arc::clone(&errors))
            .start()
            .unwrap();
        eventually(|| {
            clock.advance(Duration::from_millis(5));
            errors.0.attempts.load(Ordering::SeqCst) > attempts + 20
        });
        delivery.close().unwrap();
    }
    let (names, mut lines) = (errors.0.names(), errors.0.lines());
    lines.sort();
    assert_eq!(lines, ["0", "1", "2", "3", "4"], "each once: {names:?}");
    let words: Vec<_> = names[0].split('/').collect();
    assert!(words[0].len() == 11 && words[0] != words[1] && words[2] == "delivery-failed", "{names:?}");
}

#[test]
fn l5_what_a_directory_never_takes_goes_to_the_error_output_at_once() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let archive = scratch.path().join("archive");
    for key in ["a".to_owned(), "/".repeat(100)] {
        stream.put(&key, format!("of {}", key.len())).unwrap();
    }
    let delivery = lines(&stream)
        .partition_keys(["key"])
        .prefix("key=!{partitionKeyFromLambda:key}/")
        .error_prefix("errors/!{firehose:error-output-type}/")
        .transform(|record| {
            Transformed::row_in(record.data(), [std::str::from_utf8(record.partition_key()).unwrap()])
        })
        .to(Directory::new(&archive))
        .start()
        .unwrap();
    assert!(delivery.flush(Duration::from_secs(30)), "{:?}", delivery.stats());
    let stats = delivery.stats();
    delivery.close().unwrap();
    let found = files(&archive);
    let names: Vec<_> = found.keys().collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].starts_with("errors/delivery-failed/2023/11/14/22/archive-"), "{names:?}");
    assert_eq!(found[names[0]], b"of 100\n");
    assert!(names[1].starts_with("key=a/2023/11/14/22/archive-"), "{names:?}");
    assert_eq!((stats.records, stats.failed_records), (1, 1));
    assert!(stats.last_error.unwrap().contains("too long"));
}

/// Returns the partition keys and the data of all records of a stream, parents before their children.
fn records(stream: &Stream) -> Vec<(String, String)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let all = stream.shards().into_iter().flat_map(|shard| common::read_all(stream, shard.id));
    all.map(|(key, data)| (text(key), text(data))).collect()
}

#[test]
fn l2_l3_the_rows_of_another_stream_have_the_keys_of_their_records_or_those_that_a_function_gives() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let mut aggregator = Aggregator::new();
    for number in 0..6 {
        let (key, data) = (format!("user-{}", number % 2), number.to_string());
        assert!(aggregator.add(&PutRecord::new(&key, &data)).unwrap().is_none());
    }
    let aggregate = aggregator.finish().unwrap();
    stream.put_record(&aggregate.as_put()).unwrap();
    stream.put("user-9", "6").unwrap();
    let [own, made] = ["own", "made"].map(|name| open(&scratch.path().join(name), &clock));
    let deliver = |name: &str, to: &dyn Fn(DeliveryOptions) -> DeliveryOptions| {
        let errors = Arc::new(Memory::default());
        let options = stream.delivery(name).deaggregation(true).errors_to(Arc::clone(&errors));
        let delivery = to(options).start().unwrap();
        assert!(delivery.flush(Duration::from_secs(30)), "{:?}", delivery.stats());
        let stats = delivery.stats();
        delivery.close().unwrap();
        (stats.records, errors)
    };
    let keyed = |number: usize| (format!("user-{}", number % 2), number.to_string());
    let mut expected: Vec<_> = (0..6).map(keyed).collect();
    expected.push(("user-9".into(), "6".into()));
    let (count, _) = deliver("own", &|options| options.to_stream(&own));
    assert_eq!((count, records(&own)), (7, expected));
    // A key of no bytes is no key.
    let key = |row: &[u8]| if row == b"3" { vec![] } else { [b"key-", row].concat() };
    let (count, errors) = deliver("made", &|options| options.to_stream_by(&made, key));
    let expected: Vec<_> =
        [0, 1, 2, 4, 5, 6].map(|number| (format!("key-{number}"), number.to_string())).into();
    assert_eq!((count, records(&made)), (6, expected));
    assert!(errors.names()[0].starts_with("stream-failed/"), "{:?}", errors.names());
    let line: serde_json::Value = serde_json::from_str(&errors.lines()[0]).unwrap();
    assert_eq!((errors.lines().len(), &line["rawData"]), (1, &STANDARD.encode("3").into()));
}

#[test]
fn l5_a_flush_waits_for_records_whose_reads_the_limits_refuse() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    stream.set_limits(Limits::none().read_calls_per_second(1)).unwrap();
    let sink = Arc::new(Memory::default());
    stream.put("key", "first").unwrap();
    let delivery = lines(&stream).to(Arc::clone(&sink)).start().unwrap();
    eventually(|| delivery.stats().read_records == 1);
    stream.put("key", "second").unwrap();
    assert!(!delivery.flush(Duration::from_millis(300)), "{:?}", delivery.stats());
    assert_eq!(delivery.stats().read_records, 1);
    eventually(|| {
        clock.advance(SECOND);
        delivery.flush(Duration::from_millis(100))
    });
    assert_eq!(sink.lines(), ["first", "second"]);
    delivery.close().unwrap();
}

#[test]
fn l2_l3_a_stream_that_takes_nothing_for_a_while_gets_everything_once_and_in_order() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let output = open(&scratch.path().join("output"), &clock);
    // Ten records a second, and no more until the clock moves.
    output.set_limits(Limits::none().write_records_per_second(10)).unwrap();
    let start = || {
        let options = stream.delivery("copy").buffer_bytes(60).backoff(Duration::ZERO, Duration::ZERO);
        options.to_stream(&output).errors_to(Arc::new(Memory::default())).start().unwrap()
    };
    for round in 0..4 {
        for number in 0..50 {
            stream.put("key", format!("{:03}", round * 50 + number)).unwrap();
        }
        let delivery = start();
        eventually(|| delivery.stats().errors > 20);
        assert!(delivery.stats().last_error.unwrap().contains("cannot put into"));
        let before = records(&output).len();
        clock.advance(SECOND);
        eventually(|| records(&output).len() == before + 10);
        delivery.close().unwrap();
        clock.advance(SECOND);
    }
    output.set_limits(Limits::none()).unwrap();
    let delivery = start();
    assert!(delivery.flush(Duration::from_secs(30)), "{:?}", delivery.stats());
    delivery.close().unwrap();
    let data: Vec<_> = records(&output).into_iter().map(|(_, data)| data).collect();
    assert_eq!(data, (0..200).map(|number| format!("{number:03}")).collect::<Vec<_>>());
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
    eventually(|| delivery.stats().read_records == 10);
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
    eventually(|| delivery.stats().read_records == 40);
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
        ("!{timestamp:'/'yyyy}/", "slash"),
        ("!{timestamp:'..'}/", "`..`"),
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
    for extension in ["jsonl", "./../a", ".a\n", &format!(".{}", "a".repeat(128))] {
        assert!(refused(options().extension(extension)).contains("is no extension"), "{extension}");
    }
    for (prefix, url, reason) in [
        ("", "s3://bucket/", "without expressions"),
        ("!{timestamp:yyyy}/", "s3://bucket/", "without expressions"),
        ("../", "s3://bucket/", "`..`"),
        ("/m", "s3://bucket/", "slash"),
        ("m/", "bucket", "no URL"),
        ("m/", "s3://", "no URL"),
    ] {
        assert!(refused(options().manifests(prefix, url)).contains(reason), "{prefix} {url}");
    }
    let output = Stream::open(scratch.path().join("output")).unwrap();
    let to_stream = || stream.delivery("copy").to_stream(&output);
    let errors = || Arc::new(Memory::default());
    assert!(refused(to_stream()).contains("call errors_to()"));
    assert!(
        refused(stream.delivery("copy").to_stream(&stream).errors_to(errors())).contains("that it reads")
    );
    let keyed = to_stream().errors_to(errors()).partition_keys(["k"]).prefix("!{partitionKeyFromLambda:k}/");
    assert!(refused(keyed.error_prefix("!{firehose:error-output-type}/")).contains("no partitions"));
    assert!(refused(to_stream().errors_to(errors()).manifests("m/", "s3://bucket/")).contains("manifests"));
    assert!(stream.groups().unwrap().is_empty(), "nothing was begun");
}

#[test]
fn l2_each_compression_gives_the_same_bytes_each_time() {
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
        CompressionFormat::RawSnappy,
    ];
    for format in formats {
        let deliver = || {
            let sink = Arc::new(Memory::default());
            let name = format!("{format:?}-{}", stream.groups().unwrap().len() % 2);
            let options = stream.delivery(name).format(Format::lines()).naming(Naming::Sequence);
            let delivery = options.compression(format).to(Arc::clone(&sink)).start().unwrap();
            eventually(|| delivery.stats().read_records == 1_000);
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
}

/// Reads the file in the second argument, which is compressed as the first one says, and compares it with that in the third. Blocks of Snappy are
/// read twice: by python-snappy, and by the Snappy of Apache Arrow, which is Google's in C++.
const UNCOMPRESS: &str = r#"
import gzip, io, struct, sys, zipfile
import pyarrow, snappy

kind, path, expected = sys.argv[1:]
data, expected = open(path, "rb").read(), open(expected, "rb").read()

def masked_crc32c(block):
    crc = 0xffffffff
    for byte in block:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xffffffff
    return (crc >> 15 | crc << 17 & 0xffffffff) + 0xa282ead8 & 0xffffffff

TABLE = []
for number in range(256):
    for _ in range(8):
        number = number >> 1 ^ (0x82f63b78 if number & 1 else 0)
    TABLE.append(number)

def length_of(block):
    length, shift = 0, 0
    for byte in block:
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return length

def raw(block):
    return pyarrow.decompress(block, length_of(block), codec="snappy", asbytes=True)

def framed():
    at = 0
    while at < len(data):
        kind, length = data[at], int.from_bytes(data[at + 1:at + 4], "little")
        chunk = data[at + 4:at + 4 + length]
        assert at > 0 or (kind, chunk) == (0xff, b"sNaPpY")
        at += 4 + length
        if kind in (0, 1):
            block = raw(chunk[4:]) if kind == 0 else chunk[4:]
            assert struct.unpack("<I", chunk[:4])[0] == masked_crc32c(block)
            yield block

def hadoop():
    at = 0
    while at < len(data):
        left, = struct.unpack(">I", data[at:at + 4])
        at += 4
        while left:
            length, = struct.unpack(">I", data[at:at + 4])
            block = raw(data[at + 4:at + 4 + length])
            at += 4 + length
            left -= len(block)
            yield block

if kind == "gzip":
    found = [gzip.decompress(data)]
elif kind == "zip":
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.testzip() is None and len(archive.namelist()) == 1
    found = [archive.read(archive.namelist()[0])]
elif kind == "snappy":
    found = [snappy.StreamDecompressor().decompress(data), b"".join(framed())]
elif kind == "raw":
    found = [snappy.decompress(data), raw(data)]
elif kind == "hadoop":
    found = [snappy.HadoopStreamDecompressor().decompress(data), b"".join(hadoop())]
elif kind == "zstd":
    found = [pyarrow.CompressedInputStream(io.BytesIO(data), "zstd").read()]
assert all(bytes == expected for bytes in found), [len(bytes) for bytes in found]
"#;

#[test]
fn other_tools_read_each_compression() {
    let Some(python) = common::python::with("snappy, pyarrow") else { return };
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let (mut expected, mut seed) = (vec![], 17u64);
    for number in 0..600 {
        // Some are noise, which becomes larger.
        let noise = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        });
        let data = match number % 4 {
            0 => noise.take(1_000 + number * 3).collect(),
            _ => format!("record {number} {}", "and more ".repeat(number)).into_bytes(),
        };
        stream.put("key", &data).unwrap();
        expected.extend_from_slice(&data);
        expected.push(b'\n');
    }
    let plain = scratch.path().join("plain");
    fs::write(&plain, &expected).unwrap();
    assert!(expected.len() > 1 << 20, "several blocks of each kind");
    // With the command that reads it, which may not be there.
    let formats = [
        ("gzip", CompressionFormat::Gzip, "gzip -dc"),
        ("zip", CompressionFormat::Zip, "unzip -p"),
        ("snappy", CompressionFormat::Snappy, ""),
        ("hadoop", CompressionFormat::HadoopSnappy, ""),
        ("raw", CompressionFormat::RawSnappy, ""),
        #[cfg(feature = "zstd")]
        ("zstd", CompressionFormat::Zstd, "zstd -dc"),
    ];
    for (kind, format, command) in formats {
        let archive = scratch.path().join(kind);
        let options = stream.delivery(kind).format(Format::lines()).compression(format);
        let delivery = options.buffer_bytes(8 << 20).to(Directory::new(&archive)).start().unwrap();
        assert!(delivery.flush(Duration::from_secs(30)));
        delivery.close().unwrap();
        let found = files(&archive);
        let [name] = found.keys().collect::<Vec<_>>()[..] else { panic!("{:?}", found.keys()) };
        let file = archive.join(name);
        let read =
            Command::new(&python).args(["-c", UNCOMPRESS, kind]).args([&file, &plain]).output().unwrap();
        assert!(read.status.success(), "{kind}: {}", String::from_utf8_lossy(&read.stderr));
        let Some((program, option)) = command.split_once(' ') else { continue };
        match Command::new(program).arg(option).arg(&file).output() {
            Ok(read) => assert!(read.status.success() && read.stdout == expected, "{command}"),
            Err(error) => println!("skipped: {program}: {error}"),
        }
    }
}

fn gzip(data: &str) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    encoder.write_all(data.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn log_events_of_cloudwatch_become_rows_with_and_without_a_function() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let data = |messages: &[&str]| {
        let events = messages
            .iter()
            .map(|message| serde_json::json!({ "id": "1", "timestamp": 1, "message": message }));
        let events: Vec<_> = events.collect();
        let data = serde_json::json!({ "messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "g", "logEvents": events });
        gzip(&data.to_string())
    };
    stream.put("key", data(&["one", "two"])).unwrap();
    stream
        .put("key", gzip(r#"{"messageType":"CONTROL_MESSAGE","logEvents":[{"message":"Checking health"}]}"#))
        .unwrap();
    stream.put("key", "no log").unwrap();
    stream.put("key", data(&["three"])).unwrap();
    for has_function in [false, true] {
        let (sink, errors) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
        let mut options =
            stream.delivery(format!("logs-{has_function}")).format(Format::lines()).cloudwatch_logs(true);
        if has_function {
            options = options.transform(|record| {
                Transformed::row(format!(
                    "{} {}",
                    record.sub_sequence(),
                    String::from_utf8_lossy(record.data())
                ))
            });
        }
        let delivery = options.to(Arc::clone(&sink)).errors_to(Arc::clone(&errors)).start().unwrap();
        assert!(delivery.flush(Duration::from_secs(30)), "{:?}", delivery.stats());
        delivery.close().unwrap();
        let expected = if has_function { ["0 one", "1 two", "0 three"] } else { ["one", "two", "three"] };
        assert_eq!(sink.lines(), expected);
        let errors = errors.lines();
        assert!(errors.len() == 1 && errors[0].contains("it is not from CloudWatch Logs: "), "{errors:?}");
        assert!(errors[0].contains("\"rawData\":\"bm8gbG9n\""), "the record as it was put: {errors:?}");
    }
}

#[test]
fn l5_a_function_of_batches_changes_drops_splits_fails_and_partitions_records() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let (sink, errors, backup) =
        (Arc::new(Memory::default()), Arc::new(Memory::default()), Arc::new(Memory::default()));
    for number in 0..10 {
        stream.put("key", number.to_string()).unwrap();
    }
    let largest = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&largest);
    let delivery = lines(&stream)
        .partition_keys(["parity"])
        .prefix("parity=!{partitionKeyFromLambda:parity}/")
        .error_prefix("errors/!{firehose:error-output-type}/")
        // 2 bytes of data and key, and one more, for each record.
        .transform_buffer(15, 300 * SECOND)
        .transform_batch(move |records| {
            seen.fetch_max(records.len(), Ordering::SeqCst);
            let each = records.iter().map(|record| {
                let number: u32 = std::str::from_utf8(record.data()).unwrap().parse().unwrap();
                let parity = if number.is_multiple_of(2) { "even" } else { "odd" };
                match number {
                    2 => Transformed::failed("two"),
                    3 => Transformed::dropped(),
                    4 => Transformed::row_in("4a", [parity]).and_row_in("4b", ["odd"]),
                    5 => Transformed::row("no key"),
                    number => Transformed::row_in(format!("{}", number * 100), [parity]),
                }
            });
            each.collect()
        })
        .to(Arc::clone(&sink))
        .errors_to(Arc::clone(&errors))
        .backup_to(Arc::clone(&backup), "source/")
        .start()
        .unwrap();
    assert!(delivery.flush(Duration::from_secs(30)), "{:?}", delivery.stats());
    let stats = delivery.stats();
    assert_eq!((stats.read_records, stats.failed_records, stats.failed_function_calls), (10, 2, 0));
    assert!(stats.function_calls >= 4, "no more than 3 records fit into a call: {stats:?}");
    assert!(largest.load(Ordering::SeqCst) <= 3);
    delivery.close().unwrap();
    let objects = sink.objects.lock();
    let of = |parity: &str| {
        let of = objects.iter().filter(|(name, _)| name.starts_with(&format!("parity={parity}/")));
        let text: String = of.map(|(_, bytes)| String::from_utf8(bytes.clone()).unwrap()).collect();
        text
    };
    assert_eq!(of("even"), "0\n4a\n600\n800\n");
    assert_eq!(of("odd"), "100\n4b\n700\n900\n");
    let errors = errors.lines();
    assert!(
        errors[0].contains("\"two\"") && errors[1].contains("0 values of partition keys instead of 1"),
        "{errors:?}"
    );
    let source: Vec<u8> = backup.objects.lock().values().flatten().copied().collect();
    assert_eq!(source, b"0123456789");
}

#[test]
fn l5_a_batch_whose_function_panics_or_miscounts_is_error_output() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let (sink, errors) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
    let delivery = lines(&stream)
        .transform_batch(|records| match records[0].data() {
            b"panic" => panic!("at once"),
            b"miscount" => vec![],
            data => vec![Transformed::row(data)],
        })
        .to(Arc::clone(&sink))
        .errors_to(Arc::clone(&errors))
        .start()
        .unwrap();
    for data in ["one", "panic", "two", "miscount", "three"] {
        let read = delivery.stats().read_records;
        stream.put("key", data).unwrap();
        eventually(|| delivery.stats().read_records == read + 1);
    }
    assert_eq!(delivery.stats().failed_function_calls, 2);
    assert!(delivery.flush(Duration::from_secs(30)));
    delivery.close().unwrap();
    assert_eq!(sink.lines(), ["one", "two", "three"]);
    let errors = errors.lines();
    assert!(errors[0].contains("\"the function has panicked\""), "{errors:?}");
    assert!(errors[1].contains("\"the function has returned 0 outcomes for 1 records\""), "{errors:?}");
}

#[test]
fn l5_a_function_that_does_not_return_holds_up_its_shard_and_after_a_time_fails() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let options = StreamOptions::new().shards(2).segment_bytes(64 << 10).clock(clock.clone());
    let stream = options.open(scratch.path().join("stream")).unwrap();
    let (sink, errors) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Mutex::new(released);
    let delivery = lines(&stream)
        .transform(move |record| {
            if record.data() == b"hang" {
                let _ = released.lock().recv();
            }
            Transformed::row(record.data())
        })
        .to(Arc::clone(&sink))
        .errors_to(Arc::clone(&errors))
        .start()
        .unwrap();
    let shards = stream.shards();
    let key_of = |at: usize| {
        let keys = (0..1_000).map(|number| format!("key {number}"));
        keys.into_iter().find(|key| stream.put(key, "probe").unwrap().shard == shards[at].id).unwrap()
    };
    let (hung, other) = (key_of(0), key_of(1));
    assert!(delivery.flush(Duration::from_secs(30)));
    let before = delivery.stats().read_records;
    stream.put(&hung, "hang").unwrap();
    stream.put(&hung, "behind").unwrap();
    stream.put(&other, "beside").unwrap();
    eventually(|| delivery.stats().read_records == before + 1);
    assert!(!delivery.flush(Duration::from_millis(50)), "a flush waits for the function");
    assert!(delivery.stats().read_records == before + 1, "{:?}", delivery.stats());
    clock.advance(300 * SECOND);
    eventually(|| delivery.stats().read_records == before + 3);
    assert!(delivery.flush(Duration::from_secs(30)));
    let stats = delivery.stats();
    assert!((1..=2).contains(&stats.failed_records) && stats.failed_function_calls == 1, "{stats:?}");
    assert!(sink.lines().contains(&"beside".to_owned()));
    assert!(
        errors.lines()[0].contains("\"the function did not return within 300s\""),
        "{:?}",
        errors.lines()
    );
    // A late answer changes nothing, and the delivery does not wait for it.
    drop(release);
    stream.put(&hung, "after").unwrap();
    assert!(delivery.flush(Duration::from_secs(30)));
    delivery.close().unwrap();
    assert!(sink.lines().contains(&"after".to_owned()) && !sink.lines().contains(&"hang".to_owned()));
}

/// Refuses everything while it is unreachable, so that decided objects are left for the next delivery.
fn leave_decided(options: &DeliveryOptions, sink: &Arc<Memory>) {
    sink.is_out_of_reach.store(true, Ordering::SeqCst);
    let delivery = options.clone().to(Arc::clone(sink)).errors_to(Arc::clone(sink)).start().unwrap();
    let asked = sink.attempts.load(Ordering::SeqCst);
    // Repeatedly, because reading may take longer than one flush waits.
    eventually(|| {
        assert!(!delivery.flush(Duration::from_millis(50)));
        sink.attempts.load(Ordering::SeqCst) > asked
    });
    delivery.close().unwrap();
    sink.is_out_of_reach.store(false, Ordering::SeqCst);
}

#[test]
fn l2_a_call_that_failed_before_a_restart_is_not_made_again_and_one_that_worked_is_until_it_does() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let sink = Arc::new(Memory::default());
    // Fails for numbers with this remainder.
    let (fails, calls) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(0)));
    let (failing, called) = (Arc::clone(&fails), Arc::clone(&calls));
    let options = lines(&stream).transform_buffer(1, Duration::ZERO).transform_batch(move |records| {
        called.fetch_add(1, Ordering::SeqCst);
        assert_eq!(records.len(), 1, "a call has one byte, or one record");
        let number: usize = std::str::from_utf8(records[0].data()).unwrap().parse().unwrap();
        assert_ne!(number % 2, failing.load(Ordering::SeqCst), "it fails");
        vec![Transformed::row(records[0].data())]
    });
    for number in 0..10 {
        stream.put("key", number.to_string()).unwrap();
    }
    leave_decided(&options, &sink);
    // Now the others fail. The failed calls are not repeated, and those that worked are repeated until they work.
    fails.store(0, Ordering::SeqCst);
    let before = calls.load(Ordering::SeqCst);
    let delivery = options.clone().to(Arc::clone(&sink)).errors_to(Arc::clone(&sink)).start().unwrap();
    eventually(|| delivery.stats().failed_function_calls > 3);
    let stats = delivery.stats();
    assert_eq!((stats.read_records, stats.function_calls), (0, stats.failed_function_calls), "{stats:?}");
    assert_eq!(stats.last_error.as_deref(), Some("the function has panicked"));
    assert!(calls.load(Ordering::SeqCst) > before);
    fails.store(2, Ordering::SeqCst);
    assert!(delivery.flush(Duration::from_secs(30)), "{:?}", delivery.stats());
    assert_eq!(delivery.stats().changed_objects, 0);
    delivery.close().unwrap();
    let (failed, rows): (Vec<_>, Vec<_>) = sink.lines().into_iter().partition(|line| line.starts_with('{'));
    assert_eq!(rows, ["0", "2", "4", "6", "8"]);
    let raw = failed
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["rawData"].to_string());
    assert_eq!(
        raw.collect::<Vec<_>>(),
        [1, 3, 5, 7, 9].map(|number| format!("{:?}", STANDARD.encode(number.to_string())))
    );
}

#[test]
fn l2_a_function_that_makes_something_else_of_a_record_after_a_restart_is_said_aloud() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let sink = Arc::new(Memory::default());
    for number in 0..10 {
        stream.put("key", number.to_string()).unwrap();
    }
    let with = |suffix: &'static str| {
        lines(&stream).transform(move |record| Transformed::row([record.data(), suffix.as_bytes()].concat()))
    };
    leave_decided(&with(""), &sink);
    let delivery = with("!").to(Arc::clone(&sink)).start().unwrap();
    assert!(delivery.flush(Duration::from_secs(30)));
    let stats = delivery.stats();
    assert_eq!((stats.changed_objects, stats.records), (1, 10));
    let name = sink.names().remove(0);
    let error = stats.last_error.unwrap();
    assert!(
        error.starts_with(&format!("{name} is not the same again after a restart: the function")),
        "{error}"
    );
    delivery.close().unwrap();
}

#[test]
fn a_delivery_whose_committed_settings_are_not_valid_here_ends_and_says_what_to_do() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let sink = Arc::new(Memory::default());
    stream.put("key", "one").unwrap();
    leave_decided(&lines(&stream), &sink);
    // As if the machine no longer knew the time zone.
    let (shard, next) = (stream.shards()[0].id, streamlog::SequenceNumber::ZERO);
    let mut worker = stream.group("archive").worker().open().unwrap();
    assert!(worker.poll(Duration::from_secs(5)).unwrap().is_some());
    let state = String::from_utf8(worker.committed_state(shard).unwrap().to_vec()).unwrap();
    let changed = state.replace("\"time_zone\":\"UTC\"", "\"time_zone\":\"Mars/Olympus\"");
    assert_ne!(changed, state);
    worker.commit_with_state(shard, next, changed.as_bytes()).unwrap();
    worker.close();
    for _ in 0..2 {
        let delivery = lines(&stream).to(Arc::clone(&sink)).start().unwrap();
        eventually(|| delivery.is_over());
        let error = delivery.stats().last_error.unwrap();
        let begin = format!(
            "the delivery \"archive\" cannot go on in {shard}: the state in its checkpoint has settings that are not valid here: "
        );
        assert!(error.contains(&format!("{begin}the time zone \"Mars/Olympus\" is unknown")), "{error}");
        assert!(error.ends_with("delete the group to start anew"), "{error}");
        assert_eq!(delivery.close().unwrap_err().to_string(), error);
        assert!(sink.names().is_empty(), "nothing is delivered under other settings");
    }
    // Once the settings are valid, it continues.
    let mut worker = stream.group("archive").worker().open().unwrap();
    assert!(worker.poll(Duration::from_secs(5)).unwrap().is_some());
    worker.commit_with_state(shard, next, state.as_bytes()).unwrap();
    worker.close();
    let delivery = lines(&stream).to(Arc::clone(&sink)).start().unwrap();
    assert!(delivery.flush(Duration::from_secs(30)));
    delivery.close().unwrap();
    assert_eq!(sink.lines(), ["one"]);
}

/// Returns the columns of lines of the error output: the messages, and the data.
fn failures(errors: &Memory) -> Vec<(String, String)> {
    let failures = errors.lines().into_iter().map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["errorCode"], "DataFormatConversion.MalformedData");
        let data = STANDARD.decode(line["rawData"].as_str().unwrap()).unwrap();
        (line["errorMessage"].as_str().unwrap().to_owned(), String::from_utf8(data).unwrap())
    });
    failures.collect()
}

#[test]
fn l5_csv_holds_what_is_an_object_and_the_error_output_the_rest() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(&scratch.path().join("stream"), &clock);
    let (sink, errors) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
    for number in 0..100 {
        let name = if number % 2 == 0 { "Ann" } else { "Bo, \"the\" one" };
        let record = match number % 10 {
            7 => format!("record {number}"),
            8 => format!("{{\"id\": {number}}}"),
            _ => serde_json::json!({ "user": { "name": name }, "id": number }).to_string(),
        };
        stream.put("key", record).unwrap();
    }
    let options = CsvOptions::new(["id", ".user.name"]).header(true).delimiter(';');
    let delivery = stream
        .delivery("archive")
        .format(Format::csv(options))
        .buffer_bytes(1_000)
        .to(Arc::clone(&sink))
        .errors_to(Arc::clone(&errors))
        .start()
        .unwrap();
    assert!(delivery.flush(Duration::from_secs(30)));
    assert_eq!((delivery.stats().records, delivery.stats().failed_records), (90, 10));
    delivery.close().unwrap();
    let names = sink.names();
    assert!(names.len() > 1 && names.iter().all(|name| name.ends_with(".csv")), "{names:?}");
    let objects = sink.objects.lock();
    let rows = objects.values().flat_map(|bytes| {
        let lines = std::str::from_utf8(bytes).unwrap().strip_suffix("\r\n").unwrap().split("\r\n");
        let mut lines = lines.map(str::to_owned);
        assert_eq!(lines.next().as_deref(), Some("id;user.name"), "each object has the header");
        lines
    });
    let expected = (0..100).filter(|number| number % 10 != 7).map(|number| match number {
        number if number % 10 == 8 => format!("{number};"),
        number if number % 2 == 0 => format!("{number};Ann"),
        number => format!("{number};\"Bo, \"\"the\"\" one\""),
    });
    assert_eq!(rows.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    let failures = failures(&errors);
    assert_eq!(failures.len(), 10);
    assert!(
        failures[3].0.starts_with("it is no JSON object") && failures[3].1 == "record 37",
        "{failures:?}"
    );
    assert!(errors.names().iter().all(|name| name.starts_with("format-conversion-failed/")));
}

#[cfg(feature = "parquet")]
mod parquet {

    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::record::RowAccessor;
    use streamlog::delivery::{
        ParquetCompression, ParquetOptions, ParquetSchema, ParquetType, ParquetVersion,
    };
    use streamlog::{Clock, Timestamp};

    use super::*;

    fn numbers() -> ParquetSchema {
        ParquetSchema::new().required("id", ParquetType::Int64).column("text", ParquetType::String)
    }

    /// Returns the numbers in a file.
    fn ids(file: &[u8]) -> Vec<i64> {
        let reader = SerializedFileReader::new(bytes::Bytes::copy_from_slice(file)).unwrap();
        reader.get_row_iter(None).unwrap().map(|row| row.unwrap().get_long(0).unwrap()).collect()
    }

    #[test]
    fn l5_parquet_holds_what_fits_and_the_error_output_the_rest() {
        let (scratch, clock) = (common::scratch(), common::clock());
        let stream = open(&scratch.path().join("stream"), &clock);
        let (sink, errors) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
        for number in 0..1_000 {
            let record = match number % 100 {
                33 => format!("{{\"id\": \"number {number}\"}}"),
                66 => format!("{{\"text\": \"{number}\"}}"),
                99 => format!("record {number}"),
                _ => format!("{{\"ID\": \"{number}\", \"text\": {number}}}"),
            };
            stream.put("key", record).unwrap();
        }
        let delivery = stream
            .delivery("archive")
            .format(Format::parquet(ParquetOptions::new(numbers())))
            .buffer_bytes(5_000)
            .to(Arc::clone(&sink))
            .errors_to(Arc::clone(&errors))
            .start()
            .unwrap();
        assert!(delivery.flush(Duration::from_secs(30)));
        let stats = delivery.stats();
        assert_eq!((stats.records, stats.failed_records, stats.buffered_bytes), (970, 30, 0));
        delivery.close().unwrap();
        let names = sink.names();
        assert!(names.len() > 4 && names.iter().all(|name| name.ends_with(".parquet")), "{names:?}");
        let found: Vec<i64> = sink.objects.lock().values().flat_map(|file| ids(file)).collect();
        let expected: Vec<i64> =
            (0..1_000).filter(|number| ![33, 66, 99].contains(&(number % 100))).collect();
        assert_eq!(found, expected);
        let failures = failures(&errors);
        assert_eq!(failures.len(), 30);
        assert_eq!(failures[0].0, "column id: expected int64, found \"number 33\"");
        assert_eq!(failures[1].0, "column id: expected int64, found nothing");
        assert!(failures[2].0.starts_with("it is no JSON object") && failures[2].1 == "record 99");
    }

    /// Keeps each object, but reports a failure, as if the connection were lost at the end.
    #[derive(Debug, Default)]
    struct Forgetful {
        /// Objects, and the round in which each came first.
        objects: Mutex<BTreeMap<String, (usize, Vec<u8>)>>,
        round: AtomicUsize,
        is_reached: AtomicBool,
        /// The names of objects that came again in a later round, and whether they had the same bytes.
        again: Mutex<Vec<(String, bool)>>,
    }

    impl Sink for Forgetful {
        fn put(&self, object: &Object) -> Result<(), SinkError> {
            let (name, round) = (object.name().to_owned(), self.round.load(Ordering::SeqCst));
            let mut objects = self.objects.lock();
            let (first, bytes) = objects.entry(name.clone()).or_insert((round, object.bytes().to_vec()));
            if *first != round {
                self.again.lock().push((name, bytes == object.bytes()));
            }
            match self.is_reached.load(Ordering::SeqCst) {
                true => Ok(()),
                false => Err(SinkError::temporary("the connection is lost")),
            }
        }
    }

    #[test]
    fn l2_an_object_of_parquet_that_comes_again_has_the_same_bytes() {
        let (scratch, clock) = (common::scratch(), common::clock());
        let stream = open(&scratch.path().join("stream"), &clock);
        let sink = Arc::new(Forgetful::default());
        let codecs = [ParquetCompression::Gzip, ParquetCompression::Snappy, ParquetCompression::Uncompressed];
        let deliver = |codec| {
            let options = ParquetOptions::new(numbers()).compression(codec);
            let options = lines(&stream).format(Format::parquet(options)).buffer_bytes(5_000);
            options.to(Arc::clone(&sink)).start().unwrap()
        };
        for (round, codec) in codecs.into_iter().enumerate() {
            for number in 0..500 {
                let number = round * 500 + number;
                stream.put("key", format!("{{\"id\": {number}, \"text\": \"record {number}\"}}")).unwrap();
            }
            // With other settings each time, which do not change earlier decisions.
            sink.round.store(round, Ordering::SeqCst);
            let delivery = deliver(codec);
            eventually(|| delivery.stats().errors > 5);
            delivery.close().unwrap();
        }
        sink.round.store(codecs.len(), Ordering::SeqCst);
        sink.is_reached.store(true, Ordering::SeqCst);
        let delivery = deliver(ParquetCompression::Snappy);
        assert!(delivery.flush(Duration::from_secs(30)));
        delivery.close().unwrap();
        let again = sink.again.lock();
        assert!(!again.is_empty(), "objects came again after a restart");
        assert!(again.iter().all(|(_, is_same)| *is_same), "L2: {again:?}");
        let objects = sink.objects.lock();
        let found: Vec<i64> = objects.values().flat_map(|(_, file)| ids(file)).collect();
        assert_eq!(found, (0..1_500).collect::<Vec<_>>());
    }

    fn inferred() -> Format {
        Format::parquet(ParquetOptions::inferred())
    }

    /// Returns the columns of a file, as Parquet names their types.
    fn columns(file: &[u8]) -> Vec<String> {
        let reader = SerializedFileReader::new(bytes::Bytes::copy_from_slice(file)).unwrap();
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        schema
            .columns()
            .iter()
            .map(|column| format!("{} {}", column.name(), column.physical_type()))
            .collect()
    }

    #[test]
    fn l1_a_schema_is_taken_from_the_first_records_of_all_shards_and_stays() {
        let (scratch, clock) = (common::scratch(), common::clock());
        let options = StreamOptions::new().shards(2).segment_bytes(64 << 10).clock(clock.clone());
        let stream = options.open(scratch.path().join("stream")).unwrap();
        let (sink, errors) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
        let start = || {
            let options = stream.delivery("archive").format(inferred()).buffer_interval(10 * SECOND);
            options.to(Arc::clone(&sink)).errors_to(Arc::clone(&errors)).start().unwrap()
        };
        let put = |number: i64, record: String| _ = stream.put(number.to_string(), record).unwrap();
        put(0, "no JSON".into());
        (1..20).for_each(|number| put(number, format!("{{\"id\": {number}, \"price\": {number}}}")));
        put(20, "{\"id\": 20, \"price\": 20.5, \"Tags\": [\"a\"]}".into());
        let delivery = start();
        clock.advance(9 * SECOND);
        assert_eq!(
            (delivery.parquet_schema(), delivery.stats().read_records),
            (None, 0),
            "they wait for more"
        );
        eventually(|| {
            clock.advance(SECOND);
            delivery.parquet_schema().is_some()
        });
        let schema = "id int64, price double, Tags list<string>";
        assert_eq!(delivery.parquet_schema().unwrap().to_string(), schema);
        assert!(delivery.flush(Duration::from_secs(30)), "{:?}", delivery.stats());
        delivery.close().unwrap();
        // Records that do not fit are error output, and a new member is left out, also after a restart.
        let delivery = start();
        assert_eq!(delivery.parquet_schema().unwrap().to_string(), schema, "from the beginning");
        put(21, "{\"id\": 21.5}".into());
        put(22, "{\"id\": 22, \"new\": true}".into());
        assert!(delivery.flush(Duration::from_secs(30)));
        delivery.close().unwrap();
        let objects = sink.objects.lock();
        let mut found: Vec<i64> = objects.values().flat_map(|file| ids(file)).collect();
        found.sort_unstable();
        assert_eq!(found, (1..=20).chain([22]).collect::<Vec<_>>());
        for file in objects.values() {
            assert_eq!(columns(file), ["id INT64", "price DOUBLE", "element BYTE_ARRAY"]);
        }
        let failures = failures(&errors);
        let mut failures: Vec<_> = failures.iter().map(|(reason, data)| (&reason[..12], &**data)).collect();
        failures.sort_unstable();
        assert_eq!(failures, [("column id: e", "{\"id\": 21.5}"), ("it is no JSO", "no JSON")]);
    }

    /// A clock that advances by a second with each reading.
    #[derive(Debug)]
    struct Hasty(ManualClock);

    impl Clock for Hasty {
        fn now(&self) -> Timestamp {
            self.0.now()
        }

        fn elapsed(&self) -> Duration {
            self.0.advance(SECOND);
            self.0.elapsed()
        }
    }

    #[test]
    fn records_that_are_there_already_take_part_in_a_schema_however_slowly_they_are_read() {
        let scratch = common::scratch();
        let clock = Hasty(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let options = StreamOptions::new().shards(4).clock(Arc::new(clock));
        let stream = options.open(scratch.path().join("stream")).unwrap();
        // Each shard has a member that the others do not have.
        for shard in stream.shards() {
            let place = shard.id.to_string();
            let data = format!("{{\"{place}\": 1}}");
            let record = PutRecord::new(&place, &data).explicit_hash_key(shard.hash_key_range.start);
            stream.put_record(&record).unwrap();
        }
        let options = stream.delivery("archive").format(inferred()).buffer_interval(SECOND);
        let delivery = options.to(Arc::new(Memory::default())).start().unwrap();
        eventually(|| delivery.parquet_schema().is_some());
        let schema = delivery.parquet_schema().unwrap().to_string();
        assert_eq!(schema.split(", ").count(), 4, "{schema}");
        delivery.close().unwrap();
    }

    #[test]
    fn a_thousand_records_are_enough_for_a_schema_and_rows_of_a_function_are_what_counts() {
        let (scratch, clock) = (common::scratch(), common::clock());
        let stream = open(&scratch.path().join("stream"), &clock);
        let sink = Arc::new(Memory::default());
        let calls = Arc::new(AtomicUsize::new(0));
        let called = Arc::clone(&calls);
        (0..999).for_each(|number| _ = stream.put("key", number.to_string()).unwrap());
        let delivery = stream
            .delivery("archive")
            .format(inferred())
            .transform(move |record| {
                called.fetch_add(1, Ordering::SeqCst);
                let number = std::str::from_utf8(record.data()).unwrap();
                Transformed::row(format!("{{\"id\": {number}}}")).and_row(format!("{{\"id\": -{number}}}"))
            })
            .to(Arc::clone(&sink))
            .start()
            .unwrap();
        eventually(|| calls.load(Ordering::SeqCst) == 999);
        assert_eq!(delivery.parquet_schema(), None);
        stream.put("key", "999").unwrap();
        eventually(|| delivery.stats().read_records == 1_000);
        assert_eq!(delivery.parquet_schema().unwrap().to_string(), "id int64");
        assert!(delivery.flush(Duration::from_secs(30)));
        assert_eq!(calls.load(Ordering::SeqCst), 1_000, "once for each record");
        assert_eq!(delivery.stats().records, 2_000);
        delivery.close().unwrap();
    }

    #[test]
    fn a_close_takes_the_schema_from_what_is_there() {
        let (scratch, clock) = (common::scratch(), common::clock());
        let stream = open(&scratch.path().join("stream"), &clock);
        let sink = Arc::new(Memory::default());
        let options = stream.delivery("archive").format(inferred()).to(Arc::clone(&sink));
        stream.put("key", "no JSON").unwrap();
        let read = |stream: &Stream| stream.group("archive").describe().unwrap().lag().record_count == 0;
        options.clone().start().unwrap().close().unwrap();
        assert!(sink.names().is_empty() && !read(&stream), "without an object, it comes again");
        // A delivery that is closed before it has read the record has nothing to take a schema from. So retry until one has read it.
        stream.put("key", "{\"id\": 7}").unwrap();
        eventually(|| {
            options.clone().start().unwrap().close().unwrap();
            read(&stream)
        });
        let objects = sink.objects.lock();
        assert_eq!(objects.len(), 2, "a file, and the error output");
        let found: Vec<_> = objects.iter().filter(|(name, _)| name.ends_with(".parquet")).collect();
        assert_eq!(ids(found[0].1), [7]);
    }

    #[test]
    fn a_delivery_without_a_json_object_to_take_a_schema_from_ends_and_says_so() {
        let (scratch, clock) = (common::scratch(), common::clock());
        let stream = open(&scratch.path().join("stream"), &clock);
        let sink = Arc::new(Memory::default());
        for number in 0..3 {
            stream.put("key", number.to_string()).unwrap();
        }
        let options = || stream.delivery("archive").to(Arc::clone(&sink));
        let delivery = options().format(inferred()).start().unwrap();
        assert!(!delivery.flush(Duration::from_secs(30)));
        assert!(delivery.is_over());
        let error = delivery.stats().last_error.unwrap();
        let expected = "the delivery \"archive\" cannot take a schema from its first 3 records: none is a JSON object with members. Give it a schema";
        assert!(error.ends_with(expected), "{error}");
        assert_eq!(delivery.close().unwrap_err().to_string(), error);
        // With a schema, they are error output.
        let delivery = options().format(Format::parquet(ParquetOptions::new(numbers()))).start().unwrap();
        assert!(delivery.flush(Duration::from_secs(30)));
        assert_eq!(delivery.stats().failed_records, 3);
        delivery.close().unwrap();
    }

    #[test]
    fn l2_two_deliveries_of_a_name_take_one_schema() {
        let (scratch, clock) = (common::scratch(), common::clock());
        let options = StreamOptions::new().shards(8).segment_bytes(64 << 10).clock(clock.clone());
        let stream = options.open(scratch.path().join("stream")).unwrap();
        let (sink, errors) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
        let start = || {
            let options = stream.delivery("archive").format(inferred());
            options.to(Arc::clone(&sink)).errors_to(Arc::clone(&errors)).start().unwrap()
        };
        let deliveries = [start(), start()];
        // Each shard has records of a type of its own.
        for number in 0..400 {
            let key = number.to_string();
            let receipt = stream.put(&key, format!("{{\"id\": {number}}}")).unwrap();
            stream.put(&key, format!("{{\"of {}\": {number}, \"id\": -{number}}}", receipt.shard)).unwrap();
        }
        eventually(|| {
            let flushed = deliveries.iter().filter(|delivery| delivery.flush(Duration::from_secs(1))).count();
            flushed == 2 && stream.group("archive").describe().unwrap().lag().record_count == 0
        });
        let schemas: Vec<_> = deliveries.iter().filter_map(|delivery| delivery.parquet_schema()).collect();
        assert!(!schemas.is_empty() && schemas.iter().all(|schema| *schema == schemas[0]), "{schemas:?}");
        for delivery in deliveries {
            delivery.close().unwrap();
        }
        let objects = sink.objects.lock();
        let mut kinds: Vec<_> = objects.values().map(|file| columns(file)).collect();
        kinds.dedup();
        assert_eq!(kinds.len(), 1, "{kinds:?}");
        assert_eq!(errors.lines().len(), 0, "all have the column that is everywhere");
        assert_eq!(
            objects
                .values()
                .map(|file| {
                    let reader = SerializedFileReader::new(bytes::Bytes::copy_from_slice(file)).unwrap();
                    reader.metadata().file_metadata().num_rows()
                })
                .sum::<i64>(),
            800
        );
    }

    #[test]
    fn a_schema_that_is_taken_follows_the_names_that_the_options_give() {
        let (scratch, clock) = (common::scratch(), common::clock());
        let stream = open(&scratch.path().join("stream"), &clock);
        stream.put("key", r#"{"TS": 5, "a.b": {"c.d": [{"e.f": 1}]}, "id": 1}"#).unwrap();
        let options = ParquetOptions::inferred().convert_dots_to_underscores(true).json_key("time", "ts");
        let sink = Arc::new(Memory::default());
        let delivery = stream.delivery("archive").format(Format::parquet(options)).to(sink).start().unwrap();
        assert!(delivery.flush(Duration::from_secs(30)), "{:?}", delivery.stats());
        let schema = "time int64, a_b struct<c_d list<struct<e_f int64>>>, id int64";
        assert_eq!(delivery.parquet_schema().unwrap().to_string(), schema);
        assert_eq!((delivery.stats().records, delivery.stats().failed_records), (1, 0));
        delivery.close().unwrap();
    }

    #[test]
    fn settings_that_do_not_go_with_parquet_are_refused() {
        /// A sink that wants rows.
        struct Endpoint;
        impl Sink for Endpoint {
            fn put(&self, _: &Object) -> Result<(), SinkError> {
                Ok(())
            }
            fn wants_rows(&self) -> bool {
                true
            }
        }
        let scratch = common::scratch();
        let stream = Stream::open(scratch.path()).unwrap();
        let format = |schema| Format::parquet(ParquetOptions::new(schema));
        let options = || stream.delivery("archive").to(Arc::new(Memory::default())).format(format(numbers()));
        let refused = |options: DeliveryOptions| match options.start() {
            Err(Error::InvalidArgument(reason)) => reason.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(refused(options().compression(CompressionFormat::Gzip)).contains("compressed inside"));
        assert!(refused(options().to(Endpoint)).contains("takes rows"));
        assert!(refused(options().format(format(ParquetSchema::new()))).contains("at least one column"));
        assert!(refused(options().format(Format::csv(CsvOptions::new([""])))).contains("empty name"));
        assert!(stream.groups().unwrap().is_empty(), "nothing was begun");
    }

    /// Reads the files in the second argument with a library, and compares them with the records in the first, value by value.
    const SCRIPT: &str = r##"
import base64, datetime, decimal, glob, json, struct, sys

library, records, directory = sys.argv[1:]
files = sorted(glob.glob(directory + "/**/*.parquet", recursive=True))
names = ["id", "text", "price", "ratio", "small", "is_new", "at", "cents", "raw", "inner", "list"]

def single(number):
    return None if number is None else struct.unpack("f", struct.pack("f", number))[0]

def micros(text):
    if text is None: return None
    begin = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return (datetime.datetime.fromisoformat(text) - begin) // datetime.timedelta(microseconds=1)

def inner(value):
    return None if value is None else {"n": value["n"], "tags": value.get("tags")}

def expected(record):
    get = record.get
    return [
        get("id"), get("text"), get("price"), single(get("ratio")), get("small"), get("is_new"), micros(get("at")),
        None if get("cents") is None else decimal.Decimal(get("cents")),
        None if get("raw") is None else base64.b64decode(get("raw")),
        inner(get("inner")), None if get("list") is None else [inner(value) for value in get("list")],
    ]

def read_with_pyarrow():
    import pyarrow, pyarrow.parquet
    for file in files:
        opened = pyarrow.parquet.ParquetFile(file)
        assert opened.metadata.created_by.startswith("streamlog"), opened.metadata.created_by
        assert str(opened.schema_arrow.field("at").type) == "timestamp[us, tz=UTC]", opened.schema_arrow
        assert not opened.schema_arrow.field("id").nullable
        table = opened.read()
        table.validate(full=True)
        at = table.column("at").cast(pyarrow.int64())
        table = table.set_column(names.index("at"), "at", at)
        for row in table.to_pylist():
            yield [row[name] for name in names]

def read_with_duckdb():
    import duckdb
    columns = ", ".join('epoch_us("at")' if name == "at" else '"%s"' % name for name in names)
    for file in files:
        yield from map(list, duckdb.sql("select %s from read_parquet('%s')" % (columns, file)).fetchall())

found = list({"pyarrow": read_with_pyarrow, "duckdb": read_with_duckdb}[library]())
wanted = [expected(json.loads(line)) for line in open(records)]
assert len(found) == len(wanted), (len(found), len(wanted))
for row, want in zip(found, wanted):
    for name, a, b in zip(names, row, want):
        assert a == b and type(a) == type(b), (want[0], name, a, b)
print(len(found), "rows in", len(files), "files")
"##;

    fn record(number: u32) -> String {
        let inner =
            |n: u32| serde_json::json!({ "n": n, "tags": [["a", null], null, [], [format!("ü{n}")]] });
        let mut record = serde_json::json!({ "id": i64::MIN + i64::from(number) });
        let mut set = |name: &str, value: serde_json::Value| record[name] = value;
        match number % 4 {
            0 => {}
            1 => {
                set("text", format!("line {number}\n\"\u{1f600}\"").into());
                set("price", (f64::from(number) / 7.0).into());
                set("ratio", (f64::from(number) / 3.0).into());
                set("small", (-i64::from(number)).into());
                set("list", serde_json::json!([]));
            }
            2 => {
                set("is_new", (number % 8 == 2).into());
                set("at", format!("2024-02-29T23:{:02}:59.{:06}+05:30", number % 60, number).into());
                set("cents", format!("-{}.{:02}", u64::from(number) << 30, number % 100).into());
                set("raw", STANDARD.encode([0, 255, number as u8]).into());
                set("inner", inner(number));
            }
            _ => set("list", serde_json::json!([inner(number), null, { "n": 0 }])),
        }
        record.to_string()
    }

    #[test]
    fn other_readers_of_parquet_find_each_value() {
        let readers: Vec<_> = ["pyarrow", "duckdb"]
            .into_iter()
            .filter_map(|library| common::python::with(library).map(|python| (library, python)))
            .collect();
        if readers.is_empty() {
            return;
        }
        let (scratch, clock) = (common::scratch(), common::clock());
        let stream = open(&scratch.path().join("stream"), &clock);
        let records: Vec<_> = (0..2_000).map(record).collect();
        records.iter().for_each(|record| _ = stream.put("key", record.as_bytes()).unwrap());
        let source = scratch.path().join("records");
        fs::write(&source, records.join("\n")).unwrap();
        let inner = ParquetSchema::new()
            .required("n", ParquetType::Int64)
            .column("tags", ParquetType::list(ParquetType::list(ParquetType::String)));
        let schema = ParquetSchema::new()
            .required("id", ParquetType::Int64)
            .column("text", ParquetType::String)
            .column("price", ParquetType::Double)
            .column("ratio", ParquetType::Float)
            .column("small", ParquetType::Int32)
            .column("is_new", ParquetType::Bool)
            .column("at", ParquetType::Timestamp)
            .column("cents", ParquetType::Decimal { precision: 38, scale: 2 })
            .column("raw", ParquetType::Bytes)
            .column("inner", inner.clone())
            .column("list", ParquetType::list(inner));
        let codecs = [
            ParquetCompression::Uncompressed,
            ParquetCompression::Snappy,
            ParquetCompression::Gzip,
            #[cfg(feature = "zstd")]
            ParquetCompression::Zstd,
        ];
        for (codec, number) in codecs.into_iter().cycle().take(8).zip(0..) {
            let options = ParquetOptions::new(schema.clone())
                .compression(codec)
                .dictionary(number % 2 == 0)
                .writer_version(if number < 4 { ParquetVersion::V1 } else { ParquetVersion::V2 })
                .row_group_bytes(64 << 10)
                .page_bytes(4 << 10);
            let archive = scratch.path().join(format!("archive-{number}"));
            let delivery = stream
                .delivery(format!("archive-{number}"))
                .format(Format::parquet(options))
                .buffer_bytes(150_000)
                .to(Directory::new(&archive))
                .start()
                .unwrap();
            assert!(delivery.flush(Duration::from_secs(30)));
            assert_eq!(delivery.stats().failed_records, 0);
            delivery.close().unwrap();
            for (library, python) in &readers {
                let mut command = Command::new(python);
                let output =
                    command.args(["-c", SCRIPT, library]).arg(&source).arg(&archive).output().unwrap();
                let error = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{library}, {codec:?}: {error}");
            }
        }
    }
}
