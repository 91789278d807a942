//! The connection settings of a Kafka cluster, with librdkafka's names.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::{Error, Result, Timestamp};

/// The connection settings of a Kafka cluster. Each relay and mirror opens its own connections with it. Cloning it is cheap.
///
/// ```
/// use streamlog::relay::KafkaClient;
///
/// let client = KafkaClient::options()
///     .bootstrap_servers("kafka-1:9092,kafka-2:9092")
///     .set("compression.type", "lz4")
///     .connect()?;
/// # Ok::<(), streamlog::Error>(())
/// ```
#[derive(Clone)]
pub struct KafkaClient {
    properties: Arc<BTreeMap<String, String>>,
}

impl fmt::Debug for KafkaClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values may be secrets.
        let servers = self.properties.get(BOOTSTRAP_SERVERS);
        f.debug_struct("KafkaClient").field("bootstrap_servers", &servers).finish_non_exhaustive()
    }
}

/// Settings of a [`KafkaClient`]. [`KafkaClient::options`] returns them.
#[derive(Clone, Default)]
pub struct KafkaClientOptions {
    properties: BTreeMap<String, String>,
}

impl fmt::Debug for KafkaClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.properties.keys().collect();
        f.debug_struct("KafkaClientOptions").field("properties", &names).finish_non_exhaustive()
    }
}

impl KafkaClientOptions {
    /// Sets the initial brokers, which list the others: `host:port`, separated by commas.
    pub fn bootstrap_servers(self, servers: impl Into<String>) -> Self {
        self.set(BOOTSTRAP_SERVERS, servers)
    }

    /// Sets a property of [librdkafka](https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md), such as `security.protocol` or
    /// `compression.type`. The relay itself sets the properties that ordering and delivery guarantees depend on, and [`connect`](Self::connect)
    /// rejects them.
    ///
    /// librdkafka is built without TLS, SASL and Zstandard. If your program needs them, add a dependency on the crate `rdkafka`, with the same
    /// version as streamlog's, and with its features `ssl`, `sasl` and `zstd`.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// Creates the client. It sends nothing to Kafka yet.
    ///
    /// # Errors
    /// `InvalidArgument` if `bootstrap_servers` is not set, if this build of librdkafka does not know a property or its value, or if the property is
    /// reserved for the relay.
    pub fn connect(self) -> Result<KafkaClient> {
        if self.properties.get(BOOTSTRAP_SERVERS).is_none_or(|servers| servers.trim().is_empty()) {
            let reason = "a client of Kafka needs bootstrap_servers, such as \"kafka-1:9092\"";
            return Err(Error::InvalidArgument(reason.into()));
        }
        if let Some(name) = RESERVED.iter().find(|&&name| self.properties.contains_key(name)) {
            let reason = format!("{name} is what relays and mirrors set themselves: leave it out");
            return Err(Error::InvalidArgument(reason.into()));
        }
        let client = KafkaClient { properties: Arc::new(self.properties) };
        client
            .config()
            .create_native_config()
            .map_err(|error| Error::InvalidArgument(text(&error).into()))?;
        Ok(client)
    }
}

impl KafkaClient {
    /// Returns the default settings. Set [`bootstrap_servers`](KafkaClientOptions::bootstrap_servers) before you connect.
    pub fn options() -> KafkaClientOptions {
        KafkaClientOptions::default()
    }

    /// Returns the properties for a producer or a consumer, to which it adds its own.
    pub(super) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in &*self.properties {
            config.set(name, value);
        }
        config
    }
}

const BOOTSTRAP_SERVERS: &str = "bootstrap.servers";

/// The properties that ordering and delivery guarantees depend on, by all their names.
const RESERVED: [&str; 15] = [
    "acks",
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "partitioner",
    "request.required.acks",
    "retries",
    "transactional.id",
];

/// Returns the offset of the first record with this time or a later one, if there is one.
pub(super) fn offset_at<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
    time: Timestamp,
    timeout: Duration,
) -> KafkaResult<Option<i64>> {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let mut asked = TopicPartitionList::new();
    asked.add_partition_offset(topic, partition, Offset::Offset(millis))?;
    let found = consumer.offsets_for_times(asked, timeout)?;
    let Some(found) = found.find_partition(topic, partition) else { return Ok(None) };
    found.error()?;
    Ok(match found.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    })
}

/// Returns what went wrong as text, without the names of types.
pub(super) fn text(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, reason, name, value) => {
            format!("Kafka's client does not take {name} = {value:?}: {reason}")
        }
        KafkaError::ClientCreation(reason) => format!("Kafka's client cannot start: {reason}"),
        KafkaError::Transaction(error) => error.string(),
        error => match error.rdkafka_error_code() {
            Some(code) => code.to_string(),
            None => error.to_string(),
        },
    }
}

/// Returns what the client has reported as an error, in words. It also reports the end of a partition in this way, which is none.
pub(super) fn reported(error: &KafkaError, reason: &str) -> Option<String> {
    match (error, reason) {
        (KafkaError::PartitionEOF(_) | KafkaError::Global(RDKafkaErrorCode::PartitionEOF), _) => None,
        (error, "") => Some(text(error)),
        (_, reason) => Some(reason.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_partition_is_no_error() {
        let end = KafkaError::Global(RDKafkaErrorCode::PartitionEOF);
        assert_eq!(reported(&end, "Fetch from broker 1 reached end of partition at offset 7"), None);
        assert_eq!(reported(&KafkaError::PartitionEOF(3), ""), None);
        let down = KafkaError::Global(RDKafkaErrorCode::AllBrokersDown);
        assert_eq!(reported(&down, "1/1 brokers are down"), Some("1/1 brokers are down".into()));
        assert_eq!(reported(&down, ""), Some(text(&down)));
    }
}
