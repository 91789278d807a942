//! How to set up a relay to Kafka.

use std::sync::Arc;

use super::client::KafkaClient;
use super::origin::Origin;
use super::partition::Partitioning;
use super::producer::Target;
use super::put::Put;
use super::transaction::Transactions;
use crate::relay::options::RelayOptions;
use crate::relay::relay::Relay;
use crate::{Error, Result};

/// The settings of a relay to Kafka: [`RelayOptions::to_kafka`] returns them, and [`start`](Self::start) starts the relay.
///
/// ```no_run
/// # use streamlog::Stream;
/// use streamlog::relay::KafkaClient;
///
/// # let stream = Stream::open("clicks")?;
/// let client = KafkaClient::options().bootstrap_servers("kafka-1:9092,kafka-2:9092").connect()?;
/// let relay = stream.relay("up").lanes(4).to_kafka(&client, "clicks").start()?;
/// # relay.close()?;
/// # Ok::<(), streamlog::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct KafkaRelayOptions {
    relay: RelayOptions,
    client: KafkaClient,
    topic: String,
    partitioning: Partitioning,
    transactional_id: Option<String>,
}

impl RelayOptions {
    /// Sends the records to a topic of Kafka. Each becomes a record there with the same key, data and headers, its arrival time as the timestamp,
    /// and a header `streamlog-origin`: the name of the stream's directory, the shard and the sequence number, separated by spaces. Consumers can
    /// use the header to detect duplicates.
    pub fn to_kafka(self, client: &KafkaClient, topic: impl Into<String>) -> KafkaRelayOptions {
        KafkaRelayOptions {
            relay: self,
            client: client.clone(),
            topic: topic.into(),
            partitioning: Partitioning::default(),
            transactional_id: None,
        }
    }
}

impl KafkaRelayOptions {
    /// Sets how records are assigned to the partitions of the topic. Default: as in Kafka's Java client.
    pub fn partitioning(mut self, partitioning: Partitioning) -> Self {
        self.partitioning = partitioning;
        self
    }

    /// Relays exactly once: each batch is a Kafka transaction, which includes the relay's position. Consumers must read with
    /// `isolation.level=read_committed`, which is the default of librdkafka but not of Kafka's Java client. Without this setting, a relay sends at
    /// least once.
    ///
    /// The id must be unique to this relay in the whole cluster. Each shard has a transactional id and a consumer group, both named after this id,
    /// `-` and the shard: Kafka must permit them. A shard then has one lane, regardless of [`lanes`](RelayOptions::lanes).
    ///
    /// Records that Kafka can never accept go to their destination at least once. Kafka forgets the position of a relay that sends nothing for
    /// `offsets.retention.minutes` (a week by default): if the process died just before such a pause, a batch of each shard may be duplicated.
    pub fn transactional_id(mut self, id: impl Into<String>) -> Self {
        self.transactional_id = Some(id.into());
        self
    }

    /// Starts the relay. It connects to Kafka in the background, and reports errors of the connection in its [statistics](Relay::stats).
    ///
    /// # Errors
    /// `InvalidArgument` for a setting out of range, an empty topic or an empty id; otherwise the same as
    /// [`ProcessorOptions::start`](crate::ProcessorOptions::start).
    pub fn start(self) -> Result<Relay> {
        let Self { mut relay, client, topic, partitioning, transactional_id } = self;
        if topic.is_empty() || topic.contains('\0') {
            return Err(Error::InvalidArgument(format!("{topic:?} is not a name of a topic").into()));
        }
        if transactional_id.as_ref().is_some_and(|id| id.is_empty() || id.contains('\0')) {
            return Err(Error::InvalidArgument("a transactional id has at least one character".into()));
        }
        let to = format!("the topic {topic} of Kafka");
        let key_hash = relay.stream.describe().key_hash;
        let target = Target { topic: Arc::from(topic), partitioning, key_hash };
        let origin = Origin::new(&relay.stream);
        let Some(id) = transactional_id else {
            let put = Put::new(client, target, origin);
            return Relay::start(relay, to, move |invocation, link| put.carry(invocation, link));
        };
        relay.processor = relay.processor.parallelization_factor(1);
        let transactions = Transactions::new(client, target, origin, id, relay.name.clone());
        Relay::start(relay, to, move |invocation, link| transactions.carry(invocation, link))
    }
}
