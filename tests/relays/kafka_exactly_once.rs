//! Relays to Kafka exactly once, and at least once, while requests get lost and the process is killed, against a broker that has transactions.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use common::kafka::{Received, TOPIC, client, read};
use common::kafka_broker::Broker;
use common::killed;
use common::waiting::until;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use streamlog::relay::{KafkaRelayOptions, Relay};
use streamlog::{Destination, Position, Stream, StreamOptions};

const BATCH: usize = 20;

pub(super) fn stream(directory: &tempfile::TempDir, shards: u32) -> Stream {
    StreamOptions::new().shards(shards).segment_bytes(1 << 20).open(directory.path().join("clicks")).unwrap()
}

/// Puts this many records for each of this many keys, which count up from a number.
pub(super) fn put(stream: &Stream, keys: u64, from: u64, records: u64) {
    for number in from..from + records {
        for key in 0..keys {
            stream.put(format!("key-{key}"), number.to_string()).unwrap();
        }
    }
}

pub(super) fn until_relayed(relay: &Relay, records: u64) {
    until("all is relayed", || relay.stats().records + relay.stats().discarded >= records);
}

fn until_committed(relay: &Relay) {
    until("all is committed", || relay.stats().lag.is_some_and(|lag| lag.record_count == 0));
}

/// Returns what a consumer gets of the topic that reads committed records only.
fn committed(broker: &Broker) -> Vec<Received> {
    read(&broker.servers(), TOPIC, Some(broker.committed_records(TOPIC)))
}

/// Checks that each key has all its numbers up to this one, in order and once.
pub(super) fn check_exact(messages: &[Received], keys: u64, records: u64) {
    let mut numbers: BTreeMap<&[u8], Vec<u64>> = BTreeMap::new();
    for message in messages {
        let number = std::str::from_utf8(&message.data).unwrap().parse().unwrap();
        numbers.entry(&message.key).or_default().push(number);
    }
    assert_eq!(numbers.len() as u64, keys);
    for (key, numbers) in numbers {
        assert_eq!(numbers, (0..records).collect::<Vec<_>>(), "of {}", String::from_utf8_lossy(key));
    }
}

/// Returns the position that Kafka has stored for a shard of a relay, and its owner.
fn position(servers: &str, group: &str, topic: &str) -> Option<(i64, String)> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("group.id", group);
    let consumer: BaseConsumer = config.create().unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, 0);
    let found = consumer.committed_offsets(asked, Duration::from_secs(20)).unwrap();
    let element = &found.elements()[0];
    match element.offset() {
        Offset::Offset(offset) => Some((offset, element.metadata().to_owned())),
        _ => None,
    }
}

#[test]
fn r3_the_position_is_in_kafka_and_what_lies_below_is_not_sent_again() {
    let (directory, broker) = (common::scratch(), Broker::new(&[(TOPIC, 3)]));
    let stream = stream(&directory, 1);
    let shard = stream.shards()[0].id;
    let servers = broker.servers();
    put(&stream, 4, 0, 5);
    let relay = |name: &str| {
        let options = stream.relay(name).batch_size(7).lanes(3).to_kafka(&client(&servers), TOPIC);
        options.transactional_id("clicks-up").start().unwrap()
    };
    let first = relay("up");
    until_relayed(&first, 20);
    first.close().unwrap();
    let (offset, _) = position(&servers, &format!("clicks-up-{shard}"), TOPIC).unwrap();
    assert_eq!(offset, 20);

    // If a relay knows nothing, as after a crash before its first commit, Kafka says where to continue.
    put(&stream, 4, 5, 5);
    let again = relay("again");
    until_relayed(&again, 40);
    assert_eq!(again.stats().sent, 20);
    again.close().unwrap();
    check_exact(&committed(&broker), 4, 10);
}

#[test]
fn r3_a_position_of_another_stream_or_from_before_a_restore_is_not_taken_for_ones_own() {
    let (directory, broker) = (common::scratch(), Broker::new(&[(TOPIC, 1)]));
    let stream = stream(&directory, 1);
    let servers = broker.servers();
    put(&stream, 1, 0, 5);
    let copy = directory.path().join("copy");
    common::copy_dir(&directory.path().join("clicks"), &copy);
    put(&stream, 1, 5, 5);
    let start = |stream: &Stream| {
        let options = stream.relay("up").to_kafka(&client(&servers), TOPIC);
        options.transactional_id("tx").start().unwrap()
    };
    let relay = start(&stream);
    until_relayed(&relay, 10);
    relay.close().unwrap();

    let other = Stream::open(directory.path().join("other")).unwrap();
    put(&other, 1, 0, 20);
    let restored = Stream::open(&copy).unwrap();
    for (stream, reason) in [(&other, "another stream"), (&restored, "restored from a backup")] {
        let relay = start(stream);
        until(reason, || relay.stats().last_error.is_some_and(|error| error.contains(reason)));
        assert_eq!((relay.stats().records, relay.stats().sent), (0, 0));
        relay.close().unwrap();
    }
}

#[test]
fn r3_a_relay_that_another_has_taken_over_from_is_fenced_and_begins_anew() {
    let (directory, broker) = (common::scratch(), Broker::new(&[(TOPIC, 1)]));
    let stream = stream(&directory, 1);
    let shard = stream.shards()[0].id;
    let servers = broker.servers();
    let relay = stream.relay("up").to_kafka(&client(&servers), TOPIC).transactional_id("tx").start().unwrap();
    put(&stream, 2, 0, 5);
    until_relayed(&relay, 10);
    let zombie: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &servers)
        .set("transactional.id", format!("tx-{shard}"))
        .create()
        .unwrap();
    zombie.init_transactions(Duration::from_secs(20)).unwrap();
    put(&stream, 2, 5, 5);
    until_relayed(&relay, 20);
    assert!(relay.stats().failed_requests > 0, "the relay was fenced: {:?}", relay.stats());
    relay.close().unwrap();
    assert_eq!(position(&servers, &format!("tx-{shard}"), TOPIC).unwrap().0, 20);
    check_exact(&committed(&broker), 2, 10);
}

#[test]
fn r3_transactions_whose_requests_and_answers_get_lost_are_in_kafka_once() {
    let (directory, broker) = (common::scratch(), Broker::new(&[(TOPIC, 3)]));
    let stream = stream(&directory, 2);
    let servers = broker.servers();
    let options = stream.relay("up").batch_size(BATCH).to_kafka(&client(&servers), TOPIC);
    let relay = options.transactional_id("tx").start().unwrap();
    broker.break_connections(10);
    for round in 0..20 {
        put(&stream, 10, round * 4, 4);
        if round == 10 {
            stream.split_shard_evenly(stream.shards()[0].id).unwrap();
        }
        until_relayed(&relay, 40 * (round + 1));
    }
    broker.break_connections(0);
    relay.close().unwrap();
    check_exact(&committed(&broker), 10, 80);
    for shard in stream.shards().into_iter().filter(|shard| shard.is_open()) {
        let end = stream.iterator(shard.id, Position::Latest).unwrap().next_sequence();
        let (offset, owner) = position(&servers, &format!("tx-{}", shard.id), TOPIC).unwrap();
        assert_eq!(offset as u64, end.get());
        assert!(owner.contains("streamlog"), "{owner}");
    }
}

#[test]
fn r1_an_idempotent_relay_makes_no_copy_of_what_gets_lost_on_the_way() {
    let (directory, broker) = (common::scratch(), Broker::new(&[(TOPIC, 3)]));
    let stream = stream(&directory, 2);
    let relay = stream.relay("up").batch_size(BATCH).lanes(2).to_kafka(&client(&broker.servers()), TOPIC);
    let relay = relay.start().unwrap();
    broker.break_connections(5);
    for round in 0..20 {
        put(&stream, 10, round * 4, 4);
        until_relayed(&relay, 40 * (round + 1));
    }
    broker.break_connections(0);
    relay.close().unwrap();
    check_exact(&committed(&broker), 10, 80);
}

#[test]
fn a_record_that_the_broker_refuses_is_given_up_alone_and_holds_up_nobody() {
    for id in [None, Some("tx")] {
        let (directory, broker) = (common::scratch(), Broker::new(&[(TOPIC, 2)]));
        let refused = Stream::open(directory.path().join("refused")).unwrap();
        let stream = stream(&directory, 1);
        broker.refuse_rows_of_x(1_000);
        put(&stream, 5, 0, 4);
        stream.put("key-2", "x".repeat(1_000)).unwrap();
        put(&stream, 5, 4, 4);
        let relay = stream.relay("up").on_failure(Destination::stream(&refused));
        let relay = relay.to_kafka(&client(&broker.servers()), TOPIC);
        let relay = id.map_or(relay.clone(), |id| relay.transactional_id(id)).start().unwrap();
        until_relayed(&relay, 41);
        until_committed(&relay);
        assert_eq!((relay.stats().records, relay.stats().discarded), (40, 1), "{id:?}");
        relay.close().unwrap();
        check_exact(&committed(&broker), 5, 8);
        let batch = refused.iterator(refused.shards()[0].id, Position::TrimHorizon).unwrap().next_batch(10);
        let batch = batch.unwrap();
        assert_eq!(batch.len(), 1, "{id:?}");
        let record = batch.iter().next().unwrap();
        assert_eq!(record.partition_key(), b"key-2");
        let error = String::from_utf8_lossy(record.headers().get("discard-error").unwrap());
        assert!(error.contains("size too large"), "{error}");
    }
}

/// Sets up the relay of the child that is killed.
fn relay(stream: &Stream, servers: &str, topic: &str, id: &str) -> KafkaRelayOptions {
    let options = stream.relay("up").batch_size(BATCH).lanes(2).to_kafka(&client(servers), topic);
    if id.is_empty() { options } else { options.transactional_id(id) }
}

/// Not a test: the child that the kill tests kill. It puts, splits and merges, and relays.
#[test]
fn child() {
    let Some((path, round)) = killed::child() else { return };
    let [servers, topic, id, rounds] =
        ["SERVERS", "TOPIC", "ID", "ROUNDS"].map(|name| std::env::var(format!("KAFKA_{name}")).unwrap());
    let stream = killed::open(&path, "clicks");
    let relay = killed::told(relay(&stream, &servers, &topic, &id).start());
    if round < rounds.parse().unwrap() {
        killed::put_with_pauses_until_killed(&stream, &[&stream], round, Duration::from_millis(20));
    }
    until_committed(&relay);
    killed::told(relay.close());
}

/// Kills a relay at random moments. Returns what was in the stream.
pub(super) fn kill(path: &Path, servers: &str, topic: &str, id: &str, rounds: u64) -> Vec<killed::Id> {
    let variables = [
        ("KAFKA_SERVERS", servers.to_owned()),
        ("KAFKA_TOPIC", topic.to_owned()),
        ("KAFKA_ID", id.to_owned()),
        ("KAFKA_ROUNDS", rounds.to_string()),
    ];
    killed::kill_each_with(module_path!(), path, rounds, &variables, |round| {
        Duration::from_millis(100 + round * 173 % 400)
    });
    let ids = killed::ids(&killed::open(path, "clicks"));
    assert!(ids.len() > 500, "{} records", ids.len());
    ids
}

/// Checks that each record of a stream was sent once, in the order of its key.
pub(super) fn check_sent_once(messages: &[Received], mut ids: Vec<killed::Id>) {
    let mut sent: Vec<killed::Id> =
        messages.iter().map(|message| serde_json::from_slice(&message.data).unwrap()).collect();
    check_order_of_first(messages);
    sent.sort_unstable();
    ids.sort_unstable();
    assert_eq!(sent.len(), ids.len());
    assert!(sent == ids);
}

#[test]
fn r3_a_killed_relay_with_transactions_has_sent_each_record_exactly_once() {
    let (directory, broker) = (common::scratch(), Broker::new(&[(TOPIC, 3)]));
    let ids = kill(directory.path(), &broker.servers(), TOPIC, "tx", 12);
    check_sent_once(&committed(&broker), ids);
}

#[test]
fn r1_a_killed_relay_repeats_a_batch_of_each_lane_at_most() {
    let (directory, broker) = (common::scratch(), Broker::new(&[(TOPIC, 3)]));
    let rounds = 10;
    let ids = kill(directory.path(), &broker.servers(), TOPIC, "", rounds);
    check_repeated(&committed(&broker), ids, rounds);
}

/// Checks that all records of a stream were sent, in the order of their keys, and that each kill repeated a batch of each lane at most.
pub(super) fn check_repeated(messages: &[Received], ids: Vec<killed::Id>, rounds: u64) {
    check_order_of_first(messages);
    let origins: BTreeSet<_> = messages.iter().map(Received::origin).collect();
    assert_eq!(origins.len(), ids.len());
    let sent: BTreeSet<killed::Id> =
        messages.iter().map(|message| serde_json::from_slice(&message.data).unwrap()).collect();
    assert_eq!(sent, ids.into_iter().collect());
    // Up to three shards are open, and one of their parents is being finished.
    let copies = messages.len() - origins.len();
    assert!(copies <= rounds as usize * 4 * 2 * BATCH, "{copies} copies");
}

/// Checks that the records of each key come in order, counting only the first occurrence of each.
fn check_order_of_first(messages: &[Received]) {
    let mut seen = BTreeSet::new();
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for message in messages.iter().filter(|message| seen.insert(message.origin())) {
        let (key, number): killed::Id = serde_json::from_slice(&message.data).unwrap();
        let before = last.insert(key, number);
        assert!(before.is_none_or(|before| before < number), "key {key}: {number} after {before:?}");
    }
}
