//! A transactional producer of one shard, and the shard's position in Kafka.
//!
//! **The position** of a shard is the sequence number of its first record that is not in Kafka. It is kept in Kafka as the offset of a consumer
//! group, which is sent in the same transaction as the records: so Kafka has both or neither. The group has the name of the transactional id, and
//! uses the offset of partition 0 of the topic, because that partition always exists. A group that only stores offsets needs no topic of its own, no
//! permission to create one, and no reading on start.
//!
//! **On start and after any failure**, a new producer with the same transactional id makes Kafka finish or abort the old one's transaction, and
//! refuse whatever the old one still sends. Only then is the position read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;
use rdkafka::{Offset, TopicPartitionList};

use super::batch::{Batch, is_permanent};
use super::client::{KafkaClient, text};
use super::origin::OriginText;
use super::producer::{NotSent, Producer, Target};
use super::put::{ANSWER_OVERDUE, FULL_WAIT, LOOK_AGAIN};
use crate::relay::link::Link;
use crate::{Record, SequenceNumber};

/// A request of a transaction that takes longer has failed.
const WAIT: Duration = Duration::from_secs(10);

/// Whose position it is.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    /// The transactional id and the name of the consumer group.
    pub(super) id: String,
    /// Identifies the stream.
    pub(super) stream: String,
    /// The sequence number that the shard gives to the next record.
    pub(super) end: SequenceNumber,
}

/// A transactional producer.
pub(super) struct Session {
    producer: Producer,
    topic: Arc<str>,
    group: ConsumerGroupMetadata,
    owner: Owner,
    /// The records of the shard below it are in Kafka.
    pub(super) position: SequenceNumber,
}

/// Why a transaction was not committed, or may not have been. The session is of no use any more.
#[derive(Debug)]
pub(super) enum Failure {
    /// Kafka does not take a request because of one of its records.
    Refused(String),
    /// Kafka may take it later.
    Failed(String),
    /// The relay closes.
    Closing,
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        Self::Failed(text(&error))
    }
}

impl Session {
    /// Takes over a transactional id, and reads the position of its shard.
    pub(super) fn begin(client: &KafkaClient, target: &Target, owner: Owner) -> Result<Self, String> {
        let mut config = client.config();
        config.set("transactional.id", &owner.id);
        let producer = Producer::new(config, target.clone())?;
        let failed = |error| {
            let reason = text(&error);
            producer.last_error().map_or(reason.clone(), |cause| format!("{reason}: {cause}"))
        };
        producer.client().init_transactions(WAIT).map_err(failed)?;
        let mut config = client.config();
        config.set("group.id", &owner.id).set("enable.auto.commit", "false");
        // With it, Kafka does not answer as long as a transaction with an offset of the group is open.
        config.set("isolation.level", "read_committed");
        let consumer: BaseConsumer = config.create().map_err(|error| text(&error))?;
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&target.topic, 0);
        let found = consumer.committed_offsets(asked, WAIT).map_err(|error| text(&error))?;
        let position = position_of(&found, &owner)?;
        let group = consumer.group_metadata().ok_or("Kafka's client has forgotten the name of its group")?;
        Ok(Self { producer, topic: Arc::clone(&target.topic), group, owner, position })
    }

    /// Sends records and the position behind them in one transaction. `give_up` gets the index of each that Kafka can never take, and why.
    pub(super) fn send(
        &mut self,
        records: &[Record<'_>],
        next: SequenceNumber,
        origin: &mut OriginText,
        link: &Link,
        mut give_up: impl FnMut(usize, &str) -> Result<(), String>,
    ) -> Result<(), Failure> {
        let batch = Batch::new(records.len());
        let partitions = self.producer.partitions().map_err(Failure::Failed)?;
        self.producer.client().begin_transaction()?;
        for (index, record) in records.iter().enumerate() {
            loop {
                match self.producer.send(partitions, &batch, index, record, origin.of(record.sequence())) {
                    Ok(()) => break,
                    Err(NotSent::Full) if link.is_closing() => return Err(Failure::Closing),
                    // There is room once some of the transaction's records are reported.
                    Err(NotSent::Full) => std::thread::sleep(FULL_WAIT),
                    Err(NotSent::Refused(reason)) => {
                        give_up(index, &reason).map_err(Failure::Failed)?;
                        batch.set_given_up(index);
                        break;
                    }
                    Err(NotSent::Failed(reason)) => return Err(Failure::Failed(reason)),
                }
            }
        }
        self.wait_for_reports(&batch, link)?;
        let mut offsets = TopicPartitionList::new();
        let offset = i64::try_from(next.get()).map(Offset::Offset).unwrap_or(Offset::End);
        offsets.add_partition_offset(&self.topic, 0, offset)?;
        if let Some(mut offset) = offsets.find_partition(&self.topic, 0) {
            offset.set_metadata(&self.owner.stream);
        }
        self.producer.client().send_offsets_to_transaction(&offsets, &self.group, WAIT)?;
        self.producer.client().commit_transaction(WAIT)?;
        self.position = next;
        Ok(())
    }

    fn wait_for_reports(&self, batch: &Arc<Batch>, link: &Link) -> Result<(), Failure> {
        // Kafka's client goes by the clock of the system.
        let mut overdue_at = Instant::now() + ANSWER_OVERDUE;
        while !batch.wait(LOOK_AGAIN) {
            if link.is_closing() {
                return Err(Failure::Closing);
            }
            if Instant::now() >= overdue_at {
                overdue_at = Instant::now() + ANSWER_OVERDUE;
                let error = self.producer.last_error();
                link.note_failure(error.unwrap_or_else(|| "no answer from Kafka".into()));
            }
        }
        let failed = batch.failure();
        match failed {
            None => Ok(()),
            Some(code) if is_permanent(code) => Err(Failure::Refused(code.to_string())),
            Some(code) => Err(Failure::Failed(match (code, self.producer.last_error()) {
                (RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight, Some(error)) => error,
                _ => code.to_string(),
            })),
        }
    }
}

/// Reads a position. A shard without a position in Kafka begins with its first record.
fn position_of(found: &TopicPartitionList, owner: &Owner) -> Result<SequenceNumber, String> {
    let elements = found.elements();
    let Some(element) = elements.first() else { return Ok(SequenceNumber::from(0)) };
    element.error().map_err(|error| text(&error))?;
    let Offset::Offset(offset) = element.offset() else { return Ok(SequenceNumber::from(0)) };
    let id = &owner.id;
    if element.metadata() != owner.stream {
        return Err(format!(
            "the transactional id {id:?} belongs to another stream, or to another program: use one of its own for each relay"
        ));
    }
    let position = SequenceNumber::from(u64::try_from(offset).unwrap_or_default());
    if position > owner.end {
        return Err(format!(
            "Kafka has records of this shard up to {position}, and the stream only up to {}: was it restored from a backup? A relay with a new \
             transactional id begins anew",
            owner.end
        ));
    }
    Ok(position)
}
