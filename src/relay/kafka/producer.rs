//! A producer that keeps order: later records never overtake one that it could not send.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use rdkafka::{ClientConfig, ClientContext};

use super::batch::{Batch, Parcel, is_permanent};
use super::client::{reported, text};
use super::origin::ORIGIN;
use super::partition::{Partitioning, partition_by_hash_key, partition_by_murmur2};
use crate::{KeyHash, Record};

/// Where records go, and how they look there.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) topic: Arc<str>,
    pub(super) partitioning: Partitioning,
    /// The hash function of the stream.
    pub(super) key_hash: KeyHash,
}

/// Why a record was not sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotSent {
    /// There is no room for it until others are answered.
    Full,
    /// Kafka never takes it.
    Refused(String),
    /// For now.
    Failed(String),
}

/// A producer, with what it has reported since it was created.
pub(super) struct Producer {
    producer: ThreadedProducer<Noted>,
    target: Target,
    partitions: Mutex<Option<(u32, Instant)>>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("target", &self.target).finish_non_exhaustive()
    }
}

/// What a producer has reported.
#[derive(Default)]
pub(super) struct Noted {
    last_error: Mutex<Option<String>>,
    is_fatal: AtomicBool,
}

impl ClientContext for Noted {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.is_fatal.store(true, Ordering::Release);
        }
        if let Some(text) = reported(&error, reason) {
            *self.last_error.lock() = Some(text);
        }
    }
}

impl ProducerContext for Noted {
    type DeliveryOpaque = Box<Parcel>;

    fn delivery(&self, result: &DeliveryResult<'_>, parcel: Box<Parcel>) {
        parcel.report(match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        });
    }
}

impl Producer {
    /// Makes a producer. It connects in the background.
    pub(super) fn new(mut config: ClientConfig, target: Target) -> Result<Self, String> {
        config.set("enable.idempotence", "true");
        // How often the topic's metadata, such as its number of partitions, is refreshed.
        config.set("topic.metadata.refresh.interval.ms", "60000");
        let producer = config.create_with_context(Noted::default()).map_err(|error| text(&error))?;
        Ok(Self { producer, target, partitions: Mutex::default() })
    }

    pub(super) fn client(&self) -> &ThreadedProducer<Noted> {
        &self.producer
    }

    /// Returns what went wrong last, if anything did.
    pub(super) fn last_error(&self) -> Option<String> {
        self.producer.context().last_error.lock().clone()
    }

    /// Returns whether it can send nothing any more.
    pub(super) fn is_broken(&self) -> bool {
        self.producer.context().is_fatal.load(Ordering::Acquire)
            || self.producer.client().fatal_error().is_some()
    }

    /// Gives up all unanswered records, so that they are reported.
    pub(super) fn give_up(&self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }

    /// Sends a record to one of this many partitions, with `origin` as the value of a header, or returns why not.
    pub(super) fn send(
        &self,
        partitions: u32,
        batch: &Arc<Batch>,
        index: usize,
        record: &Record<'_>,
        origin: &str,
    ) -> Result<(), NotSent> {
        let partition = self.partition(record.partition_key(), partitions);
        let mut headers = OwnedHeaders::new_with_capacity(1 + record.headers().count());
        for (name, value) in record.headers() {
            headers = headers.insert(Header { key: name, value: Some(value) });
        }
        headers = headers.insert(Header { key: ORIGIN, value: Some(origin) });
        let message = BaseRecord::with_opaque_to(&self.target.topic, batch.hand_out(index))
            .partition(partition)
            .key(record.partition_key())
            .payload(record.data())
            .timestamp(i64::try_from(record.timestamp().as_millis()).unwrap_or(i64::MAX))
            .headers(headers);
        self.producer.send(message).map_err(|(error, message)| {
            message.delivery_opaque.take_back();
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => NotSent::Full,
                Some(code) if is_permanent(code) => NotSent::Refused(code.to_string()),
                _ => NotSent::Failed(text(&error)),
            }
        })
    }

    fn partition(&self, key: &[u8], partitions: u32) -> i32 {
        let partition = match self.target.partitioning {
            Partitioning::Murmur2 => partition_by_murmur2(key, partitions),
            Partitioning::HashKey => partition_by_hash_key(self.target.key_hash, key, partitions),
        };
        i32::try_from(partition).unwrap_or(i32::MAX)
    }

    /// Returns how many partitions the topic has. Asks for it now and then.
    pub(super) fn partitions(&self) -> Result<u32, String> {
        let mut known = self.partitions.lock();
        if let Some((partitions, at)) = *known
            && at.elapsed() < PARTITIONS_HOLD
        {
            return Ok(partitions);
        }
        let asked = self.producer.client().fetch_metadata(Some(&self.target.topic), METADATA_WAIT);
        let found = match &asked {
            Ok(metadata) => match metadata.topics().first() {
                Some(topic) if topic.error().is_some() => {
                    let code = topic.error().map(RDKafkaErrorCode::from);
                    Err(code.map_or_else(String::new, |code| code.to_string()))
                }
                Some(topic) if !topic.partitions().is_empty() => Ok(topic.partitions().len() as u32),
                _ => Err("it has no partition".to_owned()),
            },
            Err(error) => Err(text(error)),
        };
        match (found, *known) {
            (Ok(partitions), _) => {
                *known = Some((partitions, Instant::now()));
                Ok(partitions)
            }
            // It is asked again later. The known number stays valid if a broker does not answer.
            (Err(_), Some((partitions, _))) => {
                *known = Some((partitions, Instant::now()));
                Ok(partitions)
            }
            (Err(reason), None) => {
                Err(format!("the topic {:?} cannot be found out about: {reason}", self.target.topic))
            }
        }
    }
}

/// The number of partitions is asked for again after this time.
const PARTITIONS_HOLD: Duration = Duration::from_secs(60);
const METADATA_WAIT: Duration = Duration::from_secs(5);
