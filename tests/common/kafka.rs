//! A Kafka cluster for tests, in this process, and a consumer that reads all of a topic.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use streamlog::relay::KafkaClient;

pub const TOPIC: &str = "clicks";

/// A cluster of librdkafka's, without what happens in it after an abort: what a transaction has sent stays visible.
pub type Cluster = MockCluster<'static, DefaultProducerContext>;

pub fn cluster(brokers: i32, partitions: i32) -> Cluster {
    let cluster = MockCluster::new(brokers).unwrap();
    cluster.create_topic(TOPIC, partitions, brokers.min(3)).unwrap();
    cluster
}

pub fn client(servers: &str) -> KafkaClient {
    // The cluster does not look at the numbers by which Kafka keeps the requests of an idempotent producer in order.
    let options = KafkaClient::options().bootstrap_servers(servers).set("max.in.flight", "1");
    options.set("reconnect.backoff.max.ms", "200").set("retry.backoff.ms", "20").connect().unwrap()
}

/// A message as a consumer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub partition: i32,
    pub offset: i64,
    pub key: Vec<u8>,
    pub data: Vec<u8>,
    pub timestamp: i64,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.iter().find(|(found, _)| found == name);
        value.map(|(_, value)| String::from_utf8(value.clone()).unwrap())
    }

    /// Where it was in the stream.
    pub fn origin(&self) -> String {
        self.header("streamlog-origin").expect("a relay has sent it")
    }
}

/// Reads all that is in a topic of a [`cluster`] now, partition by partition.
pub fn read_all(servers: &str, topic: &str) -> Vec<Received> {
    read(servers, topic, None)
}

/// Reads this many messages of a topic, or all messages of one without transactions.
pub fn read(servers: &str, topic: &str, count: Option<i64>) -> Vec<Received> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("group.id", "reader").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    let wait = Duration::from_secs(20);
    let metadata = consumer.fetch_metadata(Some(topic), wait).unwrap();
    let mut assignment = TopicPartitionList::new();
    let mut ends = BTreeMap::new();
    for partition in metadata.topics()[0].partitions() {
        let (_, end) = consumer.fetch_watermarks(topic, partition.id(), wait).unwrap();
        assignment.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        ends.insert(partition.id(), end);
    }
    consumer.assign(&assignment).unwrap();
    let mut messages = vec![];
    let total = count.unwrap_or(ends.values().sum());
    let until = Instant::now() + Duration::from_secs(60);
    let mut last_error = None;
    while (messages.len() as i64) < total {
        assert!(Instant::now() < until, "{} of {total} messages can be read: {last_error:?}", messages.len());
        let message = match consumer.poll(Duration::from_millis(200)) {
            None => continue,
            // The client reconnects by itself.
            Some(Err(error)) => {
                last_error = Some(error);
                continue;
            }
            Some(Ok(message)) => message,
        };
        messages.push(received(&message));
    }
    messages.sort_by_key(|message| (message.partition, message.offset));
    messages
}

pub fn received(message: &impl Message) -> Received {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Received {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().unwrap_or_default().to_vec(),
        data: message.payload().unwrap_or_default().to_vec(),
        timestamp: message.timestamp().to_millis().unwrap(),
        headers: headers
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
            .collect(),
    }
}
