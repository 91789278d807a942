//! Relays to Kafka, against a cluster in this process whose brokers fail, are slow, and hand over partitions.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use common::kafka::{Received, TOPIC, client, cluster, read_all};
use common::waiting::until;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use streamlog::relay::{KafkaClient, Partitioning, Relay};
use streamlog::{Destination, Error, KeyHash, PutRecord, Stream, StreamOptions};

fn stream(directory: &tempfile::TempDir, shards: u32) -> Stream {
    StreamOptions::new().shards(shards).segment_bytes(1 << 20).open(directory.path().join("clicks")).unwrap()
}

/// Puts this many records for each of this many keys, which count up from a number.
fn put(stream: &Stream, keys: u64, from: u64, records: u64) {
    for number in from..from + records {
        for key in 0..keys {
            stream.put(format!("key-{key}"), number.to_string()).unwrap();
        }
    }
}

fn until_relayed(relay: &Relay, records: u64) {
    until("all is relayed", || relay.stats().records + relay.stats().discarded >= records);
}

/// Checks that each key has all its numbers up to this one, with first occurrences in order. Returns the number of copies.
fn check_order(messages: &[Received], keys: u64, records: u64) -> usize {
    let mut numbers: BTreeMap<&[u8], Vec<u64>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for message in messages.iter().filter(|message| seen.insert(message.origin())) {
        let number = std::str::from_utf8(&message.data).unwrap().parse().unwrap();
        numbers.entry(&message.key).or_default().push(number);
    }
    assert_eq!(numbers.len() as u64, keys);
    for (key, numbers) in numbers {
        let key = String::from_utf8_lossy(key);
        assert!(numbers.is_sorted(), "the order of {key}: {numbers:?}");
        assert_eq!(numbers, (0..records).collect::<Vec<_>>(), "of {key}, all is there");
    }
    messages.len() - seen.len()
}

#[test]
fn a_record_arrives_with_its_key_data_headers_time_and_origin() {
    let (directory, kafka) = (common::scratch(), cluster(1, 4));
    let stream = stream(&directory, 1);
    let relay = stream.relay("up").to_kafka(&client(&kafka.bootstrap_servers()), TOPIC).start().unwrap();
    let record = PutRecord::new("user-17", "clicked").header("trace", "4bf9").header("trace", b"\xff\0");
    let receipt = stream.put_record(&record).unwrap();
    stream.put(b"\xfe\0", "").unwrap();
    until_relayed(&relay, 2);

    let messages = read_all(&kafka.bootstrap_servers(), TOPIC);
    let first = messages.iter().find(|message| message.key == b"user-17").unwrap();
    assert_eq!(first.data, b"clicked");
    assert_eq!(first.timestamp as u64, receipt.timestamp.as_millis());
    let headers: Vec<_> = first.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let origin = format!("clicks {} {}", receipt.shard, receipt.sequence);
    assert_eq!(
        headers,
        [("trace", &b"4bf9"[..]), ("trace", b"\xff\0"), ("streamlog-origin", origin.as_bytes())]
    );
    let second = messages.iter().find(|message| message.key == b"\xfe\0").unwrap();
    assert_eq!(second.data, b"");

    let stats = relay.stats();
    assert_eq!((stats.records, stats.sent, stats.bytes), (2, 2, 16));
    assert_eq!((stats.failed_requests, stats.discarded, stats.last_error), (0, 0, None));
    assert_eq!(relay.to(), "the topic clicks of Kafka");
    relay.close().unwrap();
}

#[test]
fn keys_go_where_other_clients_of_kafka_send_them_or_where_the_stream_does() {
    let (directory, kafka) = (common::scratch(), cluster(1, 7));
    kafka.create_topic("by-hash-key", 7, 1).unwrap();
    kafka.create_topic("by-librdkafka", 7, 1).unwrap();
    let servers = kafka.bootstrap_servers();
    let stream = stream(&directory, 2);
    put(&stream, 50, 0, 1);
    let other: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &servers)
        .set("partitioner", "murmur2_random")
        .create()
        .unwrap();
    for key in 0..50 {
        other.send(BaseRecord::to("by-librdkafka").key(&format!("key-{key}")).payload("0")).unwrap();
    }
    other.flush(Duration::from_secs(20)).unwrap();
    let murmur2 = stream.relay("murmur2").to_kafka(&client(&servers), TOPIC).start().unwrap();
    let hash_key = stream.relay("hash-key").to_kafka(&client(&servers), "by-hash-key");
    let hash_key = hash_key.partitioning(Partitioning::HashKey).start().unwrap();
    until_relayed(&murmur2, 50);
    until_relayed(&hash_key, 50);

    let places = |topic| -> BTreeMap<Vec<u8>, i32> {
        read_all(&servers, topic).into_iter().map(|message| (message.key, message.partition)).collect()
    };
    assert_eq!(places(TOPIC), places("by-librdkafka"));
    let places = places("by-hash-key");
    assert_eq!(places.len(), 50);
    for (key, partition) in places {
        let part = KeyHash::Xxh3.hash(&key).get() / (u128::MAX / 7 + 1);
        assert_eq!(part, partition as u128);
    }
}

/// Relays while a closure disturbs the cluster, and returns the contents of the topic.
fn relay_meanwhile(kafka: &common::kafka::Cluster, lanes: usize, disturb: impl Fn(u64)) -> Vec<Received> {
    let (keys, rounds) = (40, 60);
    let directory = common::scratch();
    let stream = stream(&directory, 3);
    let servers = kafka.bootstrap_servers();
    let relay =
        stream.relay("up").batch_size(50).lanes(lanes).to_kafka(&client(&servers), TOPIC).start().unwrap();
    for round in 0..rounds {
        put(&stream, keys, round * 5, 5);
        disturb(round);
        if round == 20 || round == 40 {
            stream.split_shard_evenly(stream.shards().last().unwrap().id).unwrap();
        }
        thread::sleep(Duration::from_millis(10));
    }
    until_relayed(&relay, keys * rounds * 5);
    until("all is committed", || relay.stats().lag.is_some_and(|lag| lag.record_count == 0));
    let stats = relay.stats();
    assert_eq!((stats.records, stats.discarded), (keys * rounds * 5, 0), "{stats:?}");
    relay.close().unwrap();
    let messages = read_all(&servers, TOPIC);
    let copies = check_order(&messages, keys, rounds * 5);
    assert!(copies < messages.len() / 2, "{copies} copies");
    messages
}

/// About once in thirty runs, records are missing. Unlike Kafka, the mock cluster does not check the sequence numbers of an idempotent producer: it
/// stores a later request after the previous leader has refused an earlier one, and the client takes the answer for both.
#[test]
#[ignore = "the mock cluster does not check sequence numbers"]
fn r1_nothing_is_lost_and_keys_stay_in_order_while_brokers_hand_over_partitions() {
    let kafka = cluster(3, 4);
    relay_meanwhile(&kafka, 4, |round| {
        for partition in 0..4 {
            let broker = (round as i32 + partition) % 3 + 1;
            kafka.partition_leader(TOPIC, partition, Some(broker)).unwrap();
        }
    });
}

#[test]
fn r1_nothing_is_lost_and_keys_stay_in_order_while_answers_take_long() {
    let kafka = cluster(3, 4);
    kafka.broker_round_trip_time(-1, Duration::from_millis(5)).unwrap();
    relay_meanwhile(&kafka, 4, |_| {});
}

#[test]
fn r1_nothing_is_lost_and_keys_stay_in_order_while_brokers_go_down_and_come_back() {
    let kafka = cluster(3, 4);
    relay_meanwhile(&kafka, 2, |round| match round % 6 {
        0 => kafka.broker_down((round / 6 % 3) as i32 + 1).unwrap(),
        3 => kafka.broker_up(-1).unwrap(),
        _ => {}
    });
    kafka.broker_up(-1).unwrap();
}

#[test]
fn r1_nothing_is_lost_and_keys_stay_in_order_while_requests_fail() {
    use RDKafkaRespErr as Code;
    let kafka = cluster(2, 4);
    relay_meanwhile(&kafka, 3, |round| {
        let codes = [
            Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            Code::RD_KAFKA_RESP_ERR__TRANSPORT,
            Code::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
            // librdkafka must not retry this error: it ends the producer.
            Code::RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS,
        ];
        kafka.request_errors(RDKafkaApiKey::Produce, &[codes[round as usize % codes.len()]]);
    });
}

#[test]
fn without_a_failure_there_is_no_copy() {
    let kafka = cluster(3, 4);
    let messages = relay_meanwhile(&kafka, 4, |_| {});
    assert_eq!(messages.len(), 40 * 300);
}

#[test]
fn a_record_that_is_too_large_goes_to_its_destination_and_holds_up_nobody() {
    let (directory, kafka) = (common::scratch(), cluster(1, 1));
    let refused = Stream::open(directory.path().join("refused")).unwrap();
    let stream = stream(&directory, 1);
    let client = KafkaClient::options().bootstrap_servers(kafka.bootstrap_servers());
    let client = client.set("message.max.bytes", "2000").connect().unwrap();
    put(&stream, 3, 0, 5);
    let large = stream.put("key-1", "x".repeat(5_000)).unwrap();
    put(&stream, 3, 5, 5);
    for (name, id) in [("plain", None), ("exactly-once", Some("tx"))] {
        let topic = format!("topic-{name}");
        kafka.create_topic(&topic, 1, 1).unwrap();
        let relay = stream.relay(name).on_failure(Destination::stream(&refused)).to_kafka(&client, &topic);
        let relay = match id {
            Some(id) => relay.transactional_id(id),
            None => relay,
        };
        let relay = relay.start().unwrap();
        until_relayed(&relay, 31);
        until("all is committed", || relay.stats().lag.is_some_and(|lag| lag.record_count == 0));
        let stats = relay.stats();
        assert_eq!((stats.records, stats.discarded, stats.sent), (30, 1, 30), "{name}");
        relay.close().unwrap();
        assert_eq!(check_order(&read_all(&kafka.bootstrap_servers(), &topic), 3, 10), 0, "{name}");
    }
    let batch = refused.iterator(refused.shards()[0].id, streamlog::Position::TrimHorizon);
    let batch = batch.unwrap().next_batch(10).unwrap();
    assert_eq!(batch.len(), 2);
    for record in &batch {
        assert_eq!((record.partition_key(), record.data().len()), (&b"key-1"[..], 5_000));
        let header = |name| std::str::from_utf8(record.headers().get(name).unwrap()).unwrap().to_owned();
        assert_eq!(header("discard-reason"), "Refused");
        assert!(header("discard-error").contains("size too large"), "{}", header("discard-error"));
        assert_eq!(header("discard-sequence"), large.sequence.to_string());
    }
}

#[test]
fn of_a_request_that_kafka_refuses_only_the_record_that_it_refuses_alone_is_given_up() {
    use RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as TOO_LARGE;
    use RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR as FINE;
    let (directory, kafka) = (common::scratch(), cluster(1, 1));
    let stream = stream(&directory, 1);
    put(&stream, 1, 0, 8);
    // The whole batch, and then the third record of it.
    kafka.request_errors(RDKafkaApiKey::Produce, &[TOO_LARGE, FINE, FINE, TOO_LARGE]);
    let servers = kafka.bootstrap_servers();
    let patient =
        KafkaClient::options().bootstrap_servers(&servers).set("linger.ms", "200").connect().unwrap();
    let relay = stream.relay("up").to_kafka(&patient, TOPIC).start().unwrap();
    until_relayed(&relay, 8);
    let stats = relay.stats();
    assert_eq!((stats.records, stats.discarded), (7, 1), "{stats:?}");
    assert!(stats.last_error.unwrap().contains("is given up"));
    relay.close().unwrap();
    let messages = read_all(&servers, TOPIC);
    let data: Vec<_> = messages.iter().map(|message| String::from_utf8_lossy(&message.data)).collect();
    assert_eq!(data, ["0", "1", "3", "4", "5", "6", "7"]);
}

#[test]
fn r2_a_cluster_that_is_down_holds_up_the_relay_and_loses_nothing() {
    let (directory, kafka) = (common::scratch(), cluster(2, 2));
    let stream = stream(&directory, 2);
    let servers = kafka.bootstrap_servers();
    let relay = stream.relay("up").to_kafka(&client(&servers), TOPIC).start().unwrap();
    put(&stream, 5, 0, 2);
    until_relayed(&relay, 10);
    kafka.broker_down(-1).unwrap();
    put(&stream, 5, 2, 8);
    until("the relay says that it fails", || relay.stats().failing_since.is_some());
    let stats = relay.stats();
    assert!(stats.last_error.is_some() && stats.lag.unwrap().record_count == 40, "{stats:?}");
    kafka.broker_up(-1).unwrap();
    until_relayed(&relay, 50);
    assert_eq!(relay.stats().failing_since, None);
    relay.close().unwrap();
    assert_eq!(check_order(&read_all(&servers, TOPIC), 5, 10), 0);
}

#[test]
fn r2_a_relay_that_is_closed_while_the_cluster_is_down_goes_on_later() {
    let (directory, kafka) = (common::scratch(), cluster(1, 2));
    let stream = stream(&directory, 1);
    let servers = kafka.bootstrap_servers();
    put(&stream, 5, 0, 10);
    for id in [None, Some("tx")] {
        kafka.broker_down(-1).unwrap();
        let options = stream.relay("up").to_kafka(&client(&servers), TOPIC);
        let options = id.map_or(options.clone(), |id| options.transactional_id(id));
        let relay = options.start().unwrap();
        let begun = Instant::now();
        relay.close().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
    kafka.broker_up(-1).unwrap();
    let relay = stream.relay("up").to_kafka(&client(&servers), TOPIC).start().unwrap();
    until_relayed(&relay, 50);
    relay.close().unwrap();
    assert_eq!(check_order(&read_all(&servers, TOPIC), 5, 10), 0);
}

#[test]
fn what_cannot_work_is_refused() {
    let refused = |options: streamlog::relay::KafkaClientOptions| match options.connect() {
        Err(Error::InvalidArgument(reason)) => reason.into_string(),
        other => panic!("{other:?}"),
    };
    assert!(refused(KafkaClient::options()).contains("bootstrap_servers"));
    let options = KafkaClient::options().bootstrap_servers("127.0.0.1:9");
    assert!(refused(options.clone().set("acks", "1")).contains("acks"));
    assert!(refused(options.clone().set("no.such", "1")).contains("no.such"));
    let secret = refused(options.clone().set("security.protocol", "sasl_ssl"));
    assert!(!secret.is_empty(), "this librdkafka is built without TLS");
    assert!(!format!("{:?}", options.clone().set("sasl.password", "hunter2")).contains("hunter2"));

    let directory = common::scratch();
    let stream = stream(&directory, 1);
    let client = options.connect().unwrap();
    assert!(!format!("{client:?}").contains("hunter2"));
    for relay in [
        stream.relay("up").to_kafka(&client, ""),
        stream.relay("up").to_kafka(&client, "clicks").transactional_id(""),
        stream.relay("up").batch_size(0).to_kafka(&client, "clicks"),
    ] {
        assert!(matches!(relay.start(), Err(Error::InvalidArgument(_))));
    }
}

#[test]
fn a_topic_that_is_not_there_is_waited_for() {
    let (directory, kafka) = (common::scratch(), cluster(1, 2));
    let stream = stream(&directory, 1);
    let servers = kafka.bootstrap_servers();
    kafka.topic_error("later", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    put(&stream, 2, 0, 3);
    let relay = stream.relay("up").to_kafka(&client(&servers), "later").start().unwrap();
    until("the relay says so", || relay.stats().last_error.is_some_and(|error| error.contains("later")));
    kafka.topic_error("later", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    until_relayed(&relay, 6);
    relay.close().unwrap();
    assert_eq!(check_order(&read_all(&servers, "later"), 2, 3), 0);
}
