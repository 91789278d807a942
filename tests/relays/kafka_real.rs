//! Relays, mirrors and sources against a broker in a process of its own: see `docs/TESTING.md`.
//!
//! The clusters of other tests are librdkafka's, which has no transactions that abort and no times, and our own, which has no consumer groups.

use crate::common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::kafka::{Received, client, received};
use common::kafka_server::Server;
use common::waiting::until;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use streamlog::relay::MirroredFrom;
use streamlog::{Invocation, Position, Processor, Source, Stream, Timestamp};

use super::kafka_exactly_once::{
    check_exact, check_repeated, check_sent_once, kill, put, stream, until_relayed,
};
use super::mirror_kafka::send_to;
use super::source_kafka::source_of;
use super::{mirror_kafka, source_kafka};

const WAIT: Duration = Duration::from_secs(30);
const PARTITIONS: i32 = 3;

/// A topic of its own at a broker.
struct Topic {
    server: Server,
    servers: String,
    name: String,
}

impl Topic {
    /// Creates a topic. Returns none if there is no broker.
    fn new(what: &str) -> Option<Self> {
        let server = Server::start()?;
        let topic =
            Self { servers: server.address(), server, name: format!("streamlog-{what}-{}", millis()) };
        let admin: AdminClient<DefaultClientContext> = topic.config().create().unwrap();
        let new = NewTopic::new(&topic.name, PARTITIONS, TopicReplication::Fixed(1));
        let created = pollster::block_on(admin.create_topics([&new], &AdminOptions::new())).unwrap();
        created.into_iter().for_each(|topic| drop(topic.unwrap()));
        Some(topic)
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        config
    }

    /// Reads everything that is committed.
    fn read(&self) -> Vec<Received> {
        let mut config = self.config();
        config
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            assignment.add_partition_offset(&self.name, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let (mut messages, mut ended) = (vec![], BTreeSet::new());
        until("all is read", || {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => messages.push(received(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => _ = ended.insert(partition),
                _ => {}
            }
            ended.len() == PARTITIONS as usize
        });
        messages.sort_by_key(|message| (message.partition, message.offset));
        messages
    }

    fn producer(&self) -> BaseProducer {
        self.config().set("partitioner", "murmur2").set("enable.idempotence", "true").create().unwrap()
    }
}

fn millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

#[test]
fn r3_a_relay_with_transactions_goes_on_where_kafka_says() {
    let (directory, Some(topic)) = (common::scratch(), Topic::new("position")) else { return };
    let stream = stream(&directory, 2);
    put(&stream, 5, 0, 100);
    let start = |name: &str| {
        let relay = stream.relay(name).batch_size(50).lanes(3).to_kafka(&client(&topic.servers), &topic.name);
        relay.transactional_id(&topic.name).start().unwrap()
    };
    let first = start("up");
    until_relayed(&first, 500);
    first.close().unwrap();
    put(&stream, 5, 100, 100);
    // It knows nothing, as after a crash before the first one has committed.
    let again = start("again");
    until_relayed(&again, 1_000);
    assert_eq!(again.stats().sent, 500, "{:?}", again.stats());
    again.close().unwrap();
    check_exact(&topic.read(), 5, 200);
}

#[test]
fn r3_a_killed_relay_with_transactions_has_sent_each_record_exactly_once() {
    let (directory, Some(topic)) = (common::scratch(), Topic::new("killed")) else { return };
    let ids = kill(directory.path(), &topic.servers, &topic.name, &topic.name, 12);
    check_sent_once(&topic.read(), ids);
}

#[test]
fn r1_a_killed_relay_without_transactions_loses_nothing_and_repeats_a_batch_of_each_lane_at_most() {
    let (directory, Some(topic)) = (common::scratch(), Topic::new("repeated")) else { return };
    let rounds = 10;
    let ids = kill(directory.path(), &topic.servers, &topic.name, "", rounds);
    check_repeated(&topic.read(), ids, rounds);
}

#[test]
fn m1_a_mirror_has_each_record_once_from_a_time_on() {
    let Some(topic) = Topic::new("mirror") else { return };
    let producer = topic.producer();
    send_to(&producer, &topic.name, 4, 0..10);
    let time = pause();
    send_to(&producer, &topic.name, 4, 10..30);
    check_mirrors(&topic, time);
}

#[test]
fn m1_a_mirror_has_no_record_of_an_aborted_transaction() {
    let Some(topic) = Topic::new("aborted") else { return };
    let config = topic.config().set("partitioner", "murmur2").set("transactional.id", &topic.name).clone();
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(WAIT).unwrap();
    let send = |numbers, is_committed| {
        producer.begin_transaction().unwrap();
        send_to(&producer, &topic.name, 4, numbers);
        let ended =
            if is_committed { producer.commit_transaction(WAIT) } else { producer.abort_transaction(WAIT) };
        ended.unwrap();
    };
    send(0..10, true);
    let time = pause();
    send(90..95, false);
    send(10..30, true);
    check_mirrors(&topic, time);
}

#[test]
fn m1_a_killed_mirror_has_put_each_record_exactly_once() {
    let Some(topic) = Topic::new("mirrored") else { return };
    mirror_kafka::check_killed(&topic.servers, &topic.name);
}

#[test]
#[ignore = "needs a broker that removes dead workers from a group, which noida-db 0.2 does not do: see docs/TESTING.md"]
fn l1_l2_windows_count_each_record_once_though_workers_are_killed() {
    let Some(topic) = Topic::new("windows") else { return };
    source_kafka::check_killed(&topic.servers, &topic.name, PARTITIONS as usize);
}

/// Returns a time that is later than all before, and earlier than all after.
fn pause() -> Timestamp {
    std::thread::sleep(Duration::from_millis(50));
    let time = Timestamp::from_millis(millis());
    std::thread::sleep(Duration::from_millis(50));
    time
}

/// Mirrors a topic whose four keys have the numbers below 30, from 10 on since a time, with a restart. Checks that each record is there once.
fn check_mirrors(topic: &Topic, time: Timestamp) {
    let directory = common::scratch();
    for (name, position, first) in
        [("all", Position::TrimHorizon, 0), ("since", Position::AtTimestamp(time), 10)]
    {
        let copy = Stream::open(directory.path().join(name)).unwrap();
        let start = || {
            let mirror = copy.mirror(name).from_kafka(&client(&topic.servers), &topic.name);
            let mirror = mirror.poll_interval(Duration::from_millis(20));
            mirror.starting_position(position).start().unwrap()
        };
        let count = || copy.stats().unwrap().record_count();
        let mirror = start();
        until("it has caught up", || mirror.is_caught_up() && count() >= 4 * (30 - first));
        mirror.close().unwrap();
        let mirror = start();
        until("it has caught up again", || mirror.is_caught_up());
        mirror.close().unwrap();
        let mut numbers = vec![];
        common::killed::for_each(&copy, |_, record| {
            assert!(MirroredFrom::of(&record).is_some());
            let number = String::from_utf8_lossy(record.data()).parse::<u64>().unwrap();
            numbers.push((record.partition_key().to_vec(), number));
        });
        // A stable sort: the numbers of each key keep their order.
        numbers.sort_by(|(one, _), (other, _)| one.cmp(other));
        let expected =
            (0..4).flat_map(|key| (first..30).map(move |number| (format!("key-{key}").into_bytes(), number)));
        assert_eq!(numbers, expected.collect::<Vec<_>>(), "{name}");
    }
}

/// Keys and numbers that a processor has got.
type Got = Arc<Mutex<Vec<(String, u64)>>>;

fn start(topic: &Topic, name: &str, position: Position, got: &Got) -> Processor {
    let got = Arc::clone(got);
    let options = Source::from(source_of(&topic.servers, &topic.name))
        .processor(name)
        .starting_position(position)
        .batch_size(7);
    let function = move |invocation: &Invocation| {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let records = invocation.records();
        let records = records.map(|it| (text(it.partition_key()), text(it.data()).parse::<u64>().unwrap()));
        got.lock().unwrap().extend(records);
    };
    options.start(function).unwrap()
}

fn sorted(got: &Got) -> Vec<u64> {
    let mut numbers: Vec<u64> = got.lock().unwrap().iter().map(|&(_, number)| number).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn l1_a_processor_begins_at_a_time_or_behind_what_is_there_and_goes_on_there() {
    let Some(topic) = Topic::new("begins") else { return };
    let producer = topic.producer();
    send_to(&producer, &topic.name, 1, 0..10);
    let time = pause();
    send_to(&producer, &topic.name, 1, 10..20);
    let [since, latest] = [Got::default(), Got::default()];
    let names = [format!("{}-since", topic.name), format!("{}-latest", topic.name)];
    let begin = || {
        let of_time = start(&topic, &names[0], Position::AtTimestamp(time), &since);
        let of_end = start(&topic, &names[1], Position::Latest, &latest);
        until("both have begun", || {
            [&of_time, &of_end].iter().all(|processor| processor.stats().shards == PARTITIONS as usize)
        });
        [of_time, of_end]
    };
    let processors = begin();
    until("what came since the time is done", || since.lock().unwrap().len() == 10);
    processors.into_iter().for_each(|processor| processor.close().unwrap());
    send_to(&producer, &topic.name, 1, 20..30);
    let processors = begin();
    until("what came meanwhile is done", || {
        since.lock().unwrap().len() == 20 && latest.lock().unwrap().len() == 10
    });
    processors.into_iter().for_each(|processor| processor.close().unwrap());
    assert_eq!(sorted(&since), (10..30).collect::<Vec<_>>());
    assert_eq!(sorted(&latest), (20..30).collect::<Vec<_>>());
}

#[test]
fn l1_l3_workers_share_the_partitions_and_take_over_from_one_that_ends() {
    let Some(topic) = Topic::new("shared") else { return };
    let producer = topic.producer();
    let got = [Got::default(), Got::default()];
    let [one, other] = [0, 1].map(|at: usize| start(&topic, &topic.name, Position::TrimHorizon, &got[at]));
    until("both have partitions", || {
        let [one, other] = [&one, &other].map(|worker| worker.stats().shards);
        one > 0 && other > 0 && one + other == PARTITIONS as usize
    });
    let all = || got.iter().flat_map(|got| got.lock().unwrap().clone()).collect::<Vec<_>>();
    let different = || all().into_iter().collect::<BTreeSet<_>>().len();
    send_to(&producer, &topic.name, 40, 0..5);
    until("all of the first are done", || different() == 200);
    assert!(got.iter().all(|got| !got.lock().unwrap().is_empty()), "both have got some");
    one.close().unwrap();
    send_to(&producer, &topic.name, 40, 5..10);
    until("all of the second are done", || different() == 400);
    other.close().unwrap();
    if topic.server.takes_commits_while_a_group_changes() {
        assert_eq!(all().len(), 400, "none was done twice: the first worker has committed before it left");
    }
}
