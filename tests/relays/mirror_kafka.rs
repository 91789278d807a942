//! Mirrors of a Kafka topic, while brokers fail, partitions move, requests get lost, and the process is killed.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::kafka::{Cluster, TOPIC, client, cluster};
use common::kafka_broker::Broker;
use common::killed;
use common::waiting::until;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use streamlog::relay::{Mirror, MirroredFrom};
use streamlog::{OwnedRecord, Position, Stream, StreamOptions, Timestamp};

const SOON: Duration = Duration::from_millis(20);
const WAIT: Duration = Duration::from_secs(30);

fn stream(directory: &tempfile::TempDir, shards: u32) -> Stream {
    StreamOptions::new().shards(shards).segment_bytes(1 << 20).open(directory.path().join("copy")).unwrap()
}

fn mirror(stream: &Stream, servers: &str) -> Mirror {
    stream.mirror("down").from_kafka(&client(servers), TOPIC).poll_interval(SOON).start().unwrap()
}

fn producer(servers: &str) -> BaseProducer {
    // So the numbers of a key are in order even if requests fail.
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("partitioner", "murmur2").set("max.in.flight", "1");
    config.set("reconnect.backoff.max.ms", "200").create().unwrap()
}

/// Sends this many records for each of this many keys, which count up from a number.
fn send(producer: &BaseProducer, keys: u64, from: u64, records: u64) {
    send_to(producer, TOPIC, keys, from..from + records);
}

/// Sends a record for each of these numbers and each of this many keys.
pub(super) fn send_to(producer: &BaseProducer, topic: &str, keys: u64, numbers: Range<u64>) {
    for number in numbers {
        for key in 0..keys {
            let (key, number) = (format!("key-{key}"), number.to_string());
            producer.send(BaseRecord::to(topic).key(&key).payload(&number)).unwrap();
        }
    }
    producer.flush(WAIT).unwrap();
}

fn copies(stream: &Stream) -> Vec<(OwnedRecord, MirroredFrom)> {
    let mut copies = vec![];
    killed::for_each(stream, |_, record| {
        let from = MirroredFrom::of(&record).expect("the mirror has put it");
        copies.push((record.into_owned(), from));
    });
    copies
}

fn until_mirrored(stream: &Stream, records: u64) {
    until("all is mirrored", || stream.stats().unwrap().record_count() >= records);
}

/// Checks that each record is there once, and that those of each key come in order.
fn check_exact(stream: &Stream, keys: u64, records: u64) {
    let copies = copies(stream);
    let places: BTreeSet<_> = copies.iter().map(|(_, from)| (&from.partition, &from.place)).collect();
    assert_eq!(places.len(), copies.len(), "none comes twice");
    let mut numbers: BTreeMap<&[u8], Vec<u64>> = BTreeMap::new();
    for (record, _) in &copies {
        let number = std::str::from_utf8(&record.data).unwrap().parse().unwrap();
        numbers.entry(&record.partition_key).or_default().push(number);
    }
    assert_eq!(numbers.len() as u64, keys);
    for (key, mut numbers) in numbers {
        // The cluster may have a record twice if its answer got lost and it was sent again: those count as two records.
        numbers.dedup();
        assert!(numbers.is_sorted(), "{}: {numbers:?}", String::from_utf8_lossy(key));
        assert_eq!(numbers, (0..records).collect::<Vec<_>>());
    }
}

#[test]
fn a_copy_has_the_key_data_headers_time_and_place_of_its_original() {
    let (directory, kafka) = (common::scratch(), cluster(1, 1));
    let (stream, producer) = (stream(&directory, 1), producer(&kafka.bootstrap_servers()));
    let headers = OwnedHeaders::new().insert(Header { key: "trace", value: Some("4bf9") });
    let headers = headers.insert(Header { key: "none", value: None::<&str> });
    let time = 1_700_000_000_123;
    let record = BaseRecord::to(TOPIC).key("user-17").payload("clicked").timestamp(time).headers(headers);
    producer.send(record).unwrap();
    producer.send(BaseRecord::<[u8], str>::to(TOPIC).payload("no key")).unwrap();
    producer.send(BaseRecord::<[u8], str>::to(TOPIC).key(&b"\xff\0"[..])).unwrap();
    producer.flush(WAIT).unwrap();
    let mirror = mirror(&stream, &kafka.bootstrap_servers());
    until_mirrored(&stream, 3);
    until("it has caught up", || mirror.is_caught_up());
    mirror.close().unwrap();

    let copies = copies(&stream);
    let text = |record: &OwnedRecord, name: &str| {
        record.headers().get(name).map(|value| String::from_utf8(value.to_vec()).unwrap())
    };
    let (first, from) = &copies[0];
    assert_eq!((&first.partition_key[..], &first.data[..]), (&b"user-17"[..], &b"clicked"[..]));
    assert_eq!((text(first, "trace"), text(first, "none")), (Some("4bf9".into()), Some(String::new())));
    assert_eq!((&*from.mirror, &*from.origin, &*from.partition, &*from.place), ("down", TOPIC, "0", "0"));
    assert_eq!(from.arrived_at.unwrap().as_millis(), time as u64);
    let (second, from) = &copies[1];
    assert_eq!((&second.partition_key[..], &second.data[..]), (&b"clicks-0"[..], &b"no key"[..]));
    assert_eq!((text(second, "kafka-null"), &*from.place), (Some("key".into()), "1"));
    let (third, _) = &copies[2];
    assert_eq!((&third.partition_key[..], &third.data[..]), (&b"\xff\0"[..], &b""[..]));
    assert_eq!(text(third, "kafka-null"), Some("value".into()));
}

#[test]
fn a_mirror_begins_with_the_first_record_of_a_time_and_not_at_the_end_because_nobody_could_look() {
    let (directory, broker) = (common::scratch(), Broker::new(&[(TOPIC, 2)]));
    let (stream, producer) = (stream(&directory, 1), producer(&broker.servers()));
    let put = |partition, millis| {
        let record = BaseRecord::<[u8], str>::to(TOPIC).partition(partition);
        producer.send(record.payload(&format!("{partition} {millis}")).timestamp(millis)).unwrap();
    };
    [1_000, 1_999, 2_001, 2_000, 3_000].into_iter().for_each(|millis| put(0, millis));
    put(1, 1_500);
    producer.flush(WAIT).unwrap();

    broker.refuse_times(true);
    let mirror = stream.mirror("down").from_kafka(&client(&broker.servers()), TOPIC).poll_interval(SOON);
    let mirror =
        mirror.starting_position(Position::AtTimestamp(Timestamp::from_millis(2_000))).start().unwrap();
    until("the broker has refused", || mirror.stats().last_error.is_some());
    let error = mirror.stats().last_error.unwrap();
    assert!(error.contains("cannot look for the place to read on"), "{error}");
    assert_eq!(stream.stats().unwrap().record_count(), 0);
    broker.refuse_times(false);
    until_mirrored(&stream, 3);
    put(1, 4_000);
    producer.flush(WAIT).unwrap();
    until_mirrored(&stream, 4);
    mirror.close().unwrap();
    let mut texts: Vec<_> = copies(&stream)
        .into_iter()
        .map(|(record, _)| String::from_utf8(record.data.to_vec()).unwrap())
        .collect();
    texts.sort();
    assert_eq!(texts, ["0 2000", "0 2001", "0 3000", "1 4000"]);
}

/// Mirrors while records are sent and a closure disturbs the cluster.
fn mirror_meanwhile(kafka: &Cluster, disturb: impl Fn(u64)) {
    let (directory, servers) = (common::scratch(), kafka.bootstrap_servers());
    let stream = stream(&directory, 2);
    let mirror = mirror(&stream, &servers);
    let (keys, rounds) = (30, 40);
    let producer = producer(&servers);
    for round in 0..rounds {
        disturb(round);
        send(&producer, keys, round * 3, 3);
        if round == 20 {
            stream.split_shard_evenly(stream.shards()[0].id).unwrap();
        }
    }
    disturb(rounds);
    until_mirrored(&stream, keys * rounds * 3);
    until("it has caught up", || mirror.is_caught_up());
    mirror.close().unwrap();
    check_exact(&stream, keys, rounds * 3);
}

#[test]
fn m1_none_is_lost_or_comes_twice_while_brokers_hand_over_partitions() {
    let kafka = cluster(3, 4);
    kafka.broker_round_trip_time(-1, Duration::from_millis(3)).unwrap();
    mirror_meanwhile(&kafka, |round| {
        for partition in 0..4 {
            kafka.partition_leader(TOPIC, partition, Some((round as i32 + partition) % 3 + 1)).unwrap();
        }
    });
}

#[test]
fn m1_none_is_lost_or_comes_twice_while_brokers_go_down_and_come_back() {
    let kafka = cluster(2, 4);
    mirror_meanwhile(&kafka, |round| {
        if round % 5 == 2 {
            kafka.broker_down(-1).unwrap();
            thread::sleep(Duration::from_millis(80));
            kafka.broker_up(-1).unwrap();
        }
    });
}

#[test]
fn m1_none_is_lost_or_comes_twice_when_the_mirror_is_started_again_whatever_kafka_knows() {
    let (directory, broker) = (common::scratch(), Broker::new(&[(TOPIC, 3)]));
    let (stream, producer) = (stream(&directory, 1), producer(&broker.servers()));
    for round in 0..3 {
        send(&producer, 10, round * 5, 5);
        let mirror = mirror(&stream, &broker.servers());
        until_mirrored(&stream, 50 * (round + 1));
        until("Kafka is told", || {
            let told = (0..3).filter_map(|partition| broker.committed_offset("down", TOPIC, partition));
            told.sum::<i64>() == 50 * (round as i64 + 1)
        });
        mirror.close().unwrap();
        if round == 1 {
            broker.forget_offsets();
        }
    }
    check_exact(&stream, 10, 15);
}

#[test]
fn what_a_transaction_has_not_committed_is_not_mirrored() {
    let (directory, broker) = (common::scratch(), Broker::new(&[(TOPIC, 1)]));
    let stream = stream(&directory, 1);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.servers()).set("transactional.id", "tx");
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(WAIT).unwrap();
    let mirror = mirror(&stream, &broker.servers());
    for round in 0..6 {
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::to(TOPIC).key("key-0").payload(&round.to_string())).unwrap();
        producer.flush(WAIT).unwrap();
        match round % 2 {
            0 => producer.commit_transaction(WAIT).unwrap(),
            _ => producer.abort_transaction(WAIT).unwrap(),
        }
    }
    until_mirrored(&stream, 3);
    mirror.close().unwrap();
    let copies = copies(&stream);
    let data: Vec<_> = copies.iter().map(|(record, _)| String::from_utf8_lossy(&record.data)).collect();
    assert_eq!(data, ["0", "2", "4"]);
}

#[test]
fn a_mirror_that_comes_too_late_says_so_and_goes_on_with_what_is_left() {
    let (directory, broker) = (common::scratch(), Broker::new(&[(TOPIC, 1)]));
    let (stream, producer) = (stream(&directory, 1), producer(&broker.servers()));
    send(&producer, 1, 0, 3);
    let first = mirror(&stream, &broker.servers());
    until_mirrored(&stream, 3);
    first.close().unwrap();
    (3..9).for_each(|number| send(&producer, 1, number, 1));
    broker.trim(TOPIC, 0, 2);
    let again = mirror(&stream, &broker.servers());
    until_mirrored(&stream, 5);
    assert_eq!(again.stats().skipped, 1);
    again.close().unwrap();
    let data: Vec<_> = killed::data(&stream);
    assert_eq!(data, [&b"0"[..], b"1", b"2", b"7", b"8"]);
}

#[test]
fn a_topic_that_was_created_again_is_not_taken_for_the_old_one() {
    let (directory, broker) = (common::scratch(), Broker::new(&[(TOPIC, 1)]));
    let (stream, producer) = (stream(&directory, 1), producer(&broker.servers()));
    send(&producer, 1, 0, 5);
    let first = mirror(&stream, &broker.servers());
    until_mirrored(&stream, 5);
    first.close().unwrap();
    broker.create_again(TOPIC);
    let again = mirror(&stream, &broker.servers());
    until("the mirror says so", || {
        again.stats().last_error.is_some_and(|error| error.contains("created again"))
    });
    again.close().unwrap();
    assert_eq!(stream.stats().unwrap().record_count(), 5);
}

#[test]
fn a_mirror_begins_where_it_is_told() {
    let (directory, kafka) = (common::scratch(), cluster(1, 2));
    let (stream, servers) = (stream(&directory, 1), kafka.bootstrap_servers());
    let producer = producer(&servers);
    send(&producer, 4, 0, 5);
    let latest = stream.mirror("latest").from_kafka(&client(&servers), TOPIC).poll_interval(SOON);
    let latest = latest.starting_position(Position::Latest).start().unwrap();
    until("it has caught up", || latest.is_caught_up());
    send(&producer, 4, 5, 1);
    until_mirrored(&stream, 4);
    latest.close().unwrap();
    assert!(copies(&stream).iter().all(|(record, _)| record.data == "5"));
}

#[test]
fn a_record_that_the_stream_cannot_hold_is_handed_over() {
    let (directory, kafka) = (common::scratch(), cluster(1, 1));
    let (stream, servers) = (stream(&directory, 1), kafka.bootstrap_servers());
    let producer = producer(&servers);
    producer.send(BaseRecord::to(TOPIC).key(&"k".repeat(2_000)).payload("0")).unwrap();
    send(&producer, 1, 0, 3);
    let (sender, receiver) = std::sync::mpsc::channel();
    let mirror = stream.mirror("down").from_kafka(&client(&servers), TOPIC).poll_interval(SOON);
    let mirror = mirror.on_refused(move |refused| {
        sender.send((refused.place.clone(), refused.partition_key.len())).map_err(|error| error.to_string())
    });
    let mirror = mirror.start().unwrap();
    until_mirrored(&stream, 3);
    mirror.close().unwrap();
    assert_eq!(receiver.recv().unwrap(), ("0".to_owned(), 2_000));
    check_exact(&stream, 1, 3);
}

/// Not a test: the child that the kill test kills. It mirrors.
#[test]
fn child() {
    let Some((path, round)) = killed::child() else { return };
    let [servers, topic, rounds] =
        ["SERVERS", "TOPIC", "ROUNDS"].map(|name| std::env::var(format!("KAFKA_{name}")).unwrap());
    let stream = killed::open(&path, "copy");
    let mirror = stream.mirror("down").from_kafka(&client(&servers), topic).poll_interval(SOON);
    let mirror = killed::told(mirror.start());
    killed::note_begun();
    while round < rounds.parse().unwrap() {
        // Sometimes something is committed before it is killed.
        let _ = stream.sync();
        thread::sleep(Duration::from_millis(50));
    }
    until("it has caught up", || mirror.is_caught_up());
    killed::told(mirror.close());
}

/// Stops the sending thread even if the test fails.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn m1_a_killed_mirror_has_put_each_record_exactly_once() {
    check_killed(&cluster(2, 3).bootstrap_servers(), TOPIC);
}

/// Kills a mirror at random moments while records are sent. Checks that each is there once.
pub(super) fn check_killed(servers: &str, topic: &str) {
    let (directory, rounds) = (common::scratch(), 10);
    let (is_over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let _end = EndOnDrop(&is_over);
        scope.spawn(|| {
            let producer = producer(servers);
            while !is_over.load(Ordering::Relaxed) {
                let from = sent.load(Ordering::Relaxed);
                send_to(&producer, topic, 20, from..from + 5);
                sent.fetch_add(5, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(20));
            }
        });
        let variables = [
            ("KAFKA_SERVERS", servers.to_owned()),
            ("KAFKA_TOPIC", topic.to_owned()),
            ("KAFKA_ROUNDS", rounds.to_string()),
        ];
        killed::kill_each_with(module_path!(), directory.path(), rounds, &variables, |round| {
            // The last child is not killed, so the source must end for it.
            is_over.store(round + 1 == rounds, Ordering::Relaxed);
            Duration::from_millis(100 + round * 173 % 400)
        });
    });
    let stream = killed::open(directory.path(), "copy");
    check_exact(&stream, 20, sent.into_inner());
}
