//! The same code on both sides: processors on a Kafka topic, simulated by librdkafka's mock cluster: L1, L2, L3.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::kafka::{TOPIC, client, cluster};
use common::waiting::until;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientConfig, TopicPartitionList};
use streamlog::relay::KafkaSource;
use streamlog::{
    Invocation, Position, Processor, ProcessorOptions, Record, SECOND, Source, Stream, Timestamp,
};

fn source(servers: &str) -> KafkaSource {
    source_of(servers, TOPIC)
}

pub(super) fn source_of(servers: &str, topic: &str) -> KafkaSource {
    KafkaSource::new(&client(servers), topic)
        .session_timeout(Duration::from_secs(6))
        .checkpoint_interval(Duration::from_millis(100))
}

/// Sends records, each with a key.
fn send(servers: &str, records: impl IntoIterator<Item = (String, String)>) {
    send_to(servers, TOPIC, records);
}

fn send_to(servers: &str, topic: &str, records: impl IntoIterator<Item = (String, String)>) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("partitioner", "murmur2_random");
    let producer: BaseProducer = config.create().unwrap();
    for (key, data) in records {
        producer.send(BaseRecord::to(topic).key(&key).payload(&data)).map_err(|(error, _)| error).unwrap();
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(20)).unwrap();
}

fn second(record: &Record<'_>) -> Result<Timestamp, String> {
    let text = String::from_utf8_lossy(record.data());
    let second: u64 = text.split(' ').next().unwrap().parse().map_err(|_| format!("{text} has no time"))?;
    Ok(Timestamp::from_millis(second * 1_000))
}

/// Returns the sum of the offsets that a group has committed.
fn committed(servers: &str, group: &str) -> i64 {
    let mut config = ClientConfig::new();
    let consumer: BaseConsumer =
        config.set("bootstrap.servers", servers).set("group.id", group).create().unwrap();
    let mut partitions = TopicPartitionList::new();
    for partition in 0..4 {
        partitions.add_partition(TOPIC, partition);
    }
    let committed = consumer.committed_offsets(partitions, Duration::from_secs(10)).unwrap();
    let offset = |element: &TopicPartitionListElem<'_>| element.offset().to_raw().unwrap_or(0).max(0);
    committed.elements().iter().map(offset).sum()
}

/// The events of a worker, each with its partition.
type Got = Arc<Mutex<Vec<(u32, String)>>>;
type Windows = Arc<Mutex<BTreeMap<u64, u64>>>;

/// Counts events in windows of ten seconds, for any source.
fn start_counting(options: ProcessorOptions, windows: &Windows, idle: Duration) -> Processor {
    let windows = Arc::clone(windows);
    let options = options.parallelization_factor(2).batch_size(7).tumbling_window(10 * SECOND);
    let function = move |invocation: &Invocation, count: &mut u64| {
        *count += invocation.len() as u64;
        if let Some(window) = invocation.window().filter(|window| window.is_final) {
            *windows.lock().unwrap().entry(window.start.as_millis() / 1_000).or_default() += *count;
        }
    };
    options
        .event_time(second)
        .allowed_lateness(20 * SECOND)
        .idle_timeout(idle)
        .start_with_state(function)
        .unwrap()
}

#[test]
fn l1_l2_a_rule_gives_the_same_on_a_stream_and_on_kafka() {
    let cluster = cluster(1, 3);
    let servers = cluster.bootstrap_servers();
    let events: Vec<_> =
        (0..500).map(|at| (format!("key {}", at % 23), format!("{} click", 1_000 + at / 10))).collect();
    let scratch = common::scratch();
    let local = Stream::open(scratch.path().join("local")).unwrap();
    for (key, data) in &events {
        local.put(key, data).unwrap();
    }
    send(&servers, events);
    let outcomes = [Source::stream(&local), Source::from(source(&servers))].map(|source| {
        let windows = Windows::default();
        let processor = start_counting(source.processor("count"), &windows, 3 * SECOND);
        until("all windows have ended", || windows.lock().unwrap().values().sum::<u64>() == 500);
        // The end of a partition is none.
        assert_eq!(processor.stats().last_error, None);
        processor.close().unwrap();
        std::mem::take(&mut *windows.lock().unwrap())
    });
    assert_eq!(outcomes[0], outcomes[1]);
}

#[test]
fn l2_a_restart_goes_on_with_the_states_in_the_metadata_of_offsets() {
    let cluster = cluster(1, 1);
    let servers = cluster.bootstrap_servers();
    let windows = Windows::default();
    let events = |seconds: std::ops::Range<u64>| seconds.map(|at| ("key".to_owned(), format!("{at} click")));
    send(&servers, events(100..105));
    let start =
        || start_counting(Source::from(source(&servers)).processor("restarts"), &windows, 600 * SECOND);
    let first = start();
    until("the first five are done", || first.stats().records == 5);
    first.close().unwrap();
    send(&servers, events(105..140));
    let second = start();
    until("the first window has ended", || !windows.lock().unwrap().is_empty());
    until("the others are done", || second.stats().records == 35);
    second.close().unwrap();
    assert_eq!(windows.lock().unwrap().get(&100), Some(&10), "five of before, and five of now");
}

#[test]
fn l1_what_comes_while_a_processor_that_has_done_nothing_yet_is_stopped_is_not_left_out() {
    let cluster = cluster(1, 2);
    let servers = cluster.bootstrap_servers();
    let records = |what: &str| (0..20).map(|at| (format!("key {at}"), what.to_owned())).collect::<Vec<_>>();
    send(&servers, records("before"));
    let got = Arc::new(Mutex::new(vec![]));
    let start = || {
        let got = Arc::clone(&got);
        let options = Source::from(source(&servers)).processor("latest").starting_position(Position::Latest);
        let function = move |invocation: &Invocation| {
            let texts = invocation.records().map(|it| String::from_utf8_lossy(it.data()).into_owned());
            got.lock().unwrap().extend(texts);
        };
        options.start(function).unwrap()
    };
    let first = start();
    until("it has begun", || first.stats().shards == 2 && committed(&servers, "latest") == 20);
    first.close().unwrap();
    send(&servers, records("between"));
    let second = start();
    until("what came between is done", || second.stats().records == 20);
    second.close().unwrap();
    assert!(got.lock().unwrap().iter().all(|text| text == "between"), "{got:?}");
}

#[test]
fn l1_l3_workers_share_the_partitions_and_take_over_from_one_that_ends() {
    let cluster = cluster(1, 4);
    let servers = cluster.bootstrap_servers();
    let got: [Got; 2] = Default::default();
    let start = |at: usize| {
        let got = Arc::clone(&got[at]);
        let options = Source::from(source(&servers)).processor("shared");
        let function = move |invocation: &Invocation| {
            let texts =
                invocation.records().map(|record| String::from_utf8_lossy(record.data()).into_owned());
            got.lock().unwrap().extend(texts.map(|text| (invocation.shard().get(), text)));
        };
        options.start(function).unwrap()
    };
    let records = |range: std::ops::Range<u32>| range.map(|at| (format!("key {}", at % 40), format!("{at}")));
    let [one, other] = [start(0), start(1)];
    until("both have partitions", || one.stats().shards == 2 && other.stats().shards == 2);
    send(&servers, records(0..200));
    let all = || {
        let [one, other] = [0, 1].map(|at| got[at].lock().unwrap().clone());
        one.into_iter().chain(other).map(|(_, text)| text).collect::<BTreeSet<_>>().len()
    };
    until("all of the first are there", || all() == 200);
    assert!(got.iter().all(|got| !got.lock().unwrap().is_empty()), "both have got some");
    // The mock takes no commit while the group changes. Kafka does.
    until("all of the first are committed", || committed(&servers, "shared") == 200);
    one.close().unwrap();
    until("the other has all partitions", || other.stats().shards == 4);
    send(&servers, records(200..400));
    until("all are there", || all() == 400);
    other.close().unwrap();
    let count: usize = got.iter().map(|got| got.lock().unwrap().len()).sum();
    assert_eq!(count, 400, "none came twice, because the first ended in peace");
    // The records of a key came in order, to whichever worker.
    for got in &got {
        let mut last = BTreeMap::new();
        for (_, text) in &*got.lock().unwrap() {
            let at: u32 = text.parse().unwrap();
            assert!(last.insert(at % 40, at).is_none_or(|last| last < at), "{at}");
        }
    }
}

/// Not a test: a worker that is killed. It records which windows have ended: the partition, the start, and the number of events counted.
#[test]
fn child() {
    let Ok(servers) = std::env::var("STREAMLOG_SOURCE_KAFKA") else { return };
    let [topic, out] =
        ["TOPIC", "OUT"].map(|name| std::env::var(format!("STREAMLOG_SOURCE_{name}")).unwrap());
    let mut file = OpenOptions::new().append(true).create(true).open(out).unwrap();
    let function = move |invocation: &Invocation, count: &mut u64| {
        *count += invocation.len() as u64;
        let Some(window) = invocation.window().filter(|window| window.is_final) else { return };
        let line = format!("{} {} {count}\n", invocation.shard(), window.start.as_millis() / 1_000);
        file.write_all(line.as_bytes()).unwrap();
    };
    let function = Mutex::new(function);
    let options =
        Source::from(source_of(&servers, &topic)).processor(format!("{topic}-killed")).batch_size(7);
    let processor = options
        .tumbling_window(10 * SECOND)
        .event_time(second)
        .allowed_lateness(20 * SECOND)
        .idle_timeout(600 * SECOND)
        .start_with_state(move |invocation, count: &mut u64| (function.lock().unwrap())(invocation, count))
        .unwrap();
    let _ = std::io::stdin().read_to_end(&mut vec![]);
    processor.close().unwrap();
    std::process::exit(0);
}

/// Returns the windows that have ended: the partition, the start, and the events. A window that ended twice has the same count both times.
fn ended(out: &Path) -> BTreeMap<(String, u64), u64> {
    let text = std::fs::read_to_string(out).unwrap_or_default();
    let mut windows = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [partition, start, count] = words[..] else { panic!("{line}") };
        let count = count.parse().unwrap();
        let before = windows.insert((partition.to_owned(), start.parse().unwrap()), count);
        assert!(before.is_none_or(|before| before == count), "{line} comes after {before:?}");
    }
    windows
}

#[test]
fn l1_l2_windows_count_each_record_once_though_workers_are_killed() {
    check_killed(&cluster(1, 2).bootstrap_servers(), TOPIC, 2);
}

/// Kills workers of a processor with windows. Checks that each window has counted each record once.
pub(super) fn check_killed(servers: &str, topic: &str, partitions: usize) {
    let scratch = common::scratch();
    let out = scratch.path().join("windows");
    let start = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(common::child_test(module_path!())).stdin(Stdio::piped()).stdout(Stdio::null());
        let variables =
            [("KAFKA", OsStr::new(servers)), ("TOPIC", OsStr::new(topic)), ("OUT", out.as_os_str())];
        command
            .envs(variables.map(|(name, value)| (format!("STREAMLOG_SOURCE_{name}"), value)))
            .spawn()
            .unwrap()
    };
    let mut next = 1_000;
    let mut send_minute = || {
        let events = (0..600).map(|at| (format!("key {}", at % 40), format!("{} click", next + at / 10)));
        send_to(servers, topic, events);
        next += 60;
    };
    let mut kept = BTreeMap::new();
    for kill in 0..3_u64 {
        let mut worker = start();
        until("windows of this worker have ended", || {
            send_minute();
            std::thread::sleep(Duration::from_millis(100 + 30 * kill));
            ended(&out).len() > kept.len() + 3
        });
        worker.kill().unwrap();
        worker.wait().unwrap();
        kept = ended(&out);
    }
    // The last windows stay open, as events may be late by 20 seconds.
    send_minute();
    let mut worker = start();
    let of_start = |start: u64| {
        let windows = ended(&out);
        let of_start: Vec<u64> =
            windows.iter().filter(|((_, at), _)| *at == start).map(|(_, count)| *count).collect();
        (of_start.len() == partitions).then(|| of_start.iter().sum::<u64>())
    };
    let starts: Vec<u64> = (1_000..next - 30).step_by(10).collect();
    until("all windows but the last have ended", || starts.iter().all(|start| of_start(*start).is_some()));
    for start in starts {
        assert_eq!(of_start(start), Some(100), "the window that begins at {start}");
    }
    worker.kill().unwrap();
    worker.wait().unwrap();
}
