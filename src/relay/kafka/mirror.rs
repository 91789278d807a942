//! A topic of Kafka as the origin of a mirror.
//!
//! The position in a partition comes from the mirror, never from Kafka: this makes it exactly-once. The offsets that are committed to Kafka only let
//! Kafka's tools show the lag of the consumer group.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::client::{KafkaClient, offset_at, reported, text};
use super::message::Converted;
use crate::relay::failure::{Failure, Remedy};
use crate::relay::mirror::origin::{
    Incoming, Listing, Origin, OriginBatch, OriginReader, Partition, Place, StartAt,
};
use crate::{SECOND, StreamReader};

/// A request that takes longer has failed.
const WAIT: Duration = Duration::from_secs(5);
/// How long a read waits for the first record.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// A read returns at most about this many bytes.
const READ_BYTES: usize = 10 << 20;
/// How much the client reads ahead of each partition.
const AHEAD_KIBIBYTES: &str = "16384";
/// How often the position of a partition is committed to Kafka.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);

/// A topic that is mirrored.
pub(in crate::relay) struct KafkaOrigin {
    topic: Arc<Topic>,
}

impl fmt::Debug for KafkaOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaOrigin").field("topic", &self.topic.name).finish_non_exhaustive()
    }
}

/// The state that the readers of a topic share.
struct Topic {
    client: KafkaClient,
    name: String,
    /// The consumer group that offsets are committed as.
    group: String,
    /// The stream, for its clock.
    stream: StreamReader,
    consumer: Mutex<Option<Arc<TopicConsumer>>>,
    /// The mirror is closed.
    is_closed: AtomicBool,
}

type TopicConsumer = BaseConsumer<Heard>;

/// What a consumer has reported.
#[derive(Default)]
struct Heard {
    last_error: Mutex<Option<String>>,
}

impl ClientContext for Heard {
    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(text) = reported(&error, reason) {
            *self.last_error.lock() = Some(text);
        }
    }
}

impl ConsumerContext for Heard {}

impl KafkaOrigin {
    pub(in crate::relay) fn new(
        client: KafkaClient,
        topic: String,
        group: String,
        stream: StreamReader,
    ) -> Self {
        let topic = Topic {
            client,
            name: topic,
            group,
            stream,
            consumer: Mutex::default(),
            is_closed: AtomicBool::new(false),
        };
        Self { topic: Arc::new(topic) }
    }
}

impl Topic {
    /// Returns the consumer of all partitions, for a request. It is assigned the partitions that have a reader.
    fn consumer(&self) -> Result<Arc<TopicConsumer>, Failure> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(Failure::new(Remedy::Retry, "the mirror is closed"));
        }
        let mut consumer = self.consumer.lock();
        if let Some(consumer) = &*consumer {
            return Ok(Arc::clone(consumer));
        }
        let mut config = self.client.config();
        config.set("group.id", &self.group).set("isolation.level", "read_committed");
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("auto.offset.reset", "error").set("enable.partition.eof", "true");
        config.set("queued.max.messages.kbytes", AHEAD_KIBIBYTES);
        let new: TopicConsumer =
            config.create_with_context(Heard::default()).map_err(|error| failure("connect", &error))?;
        Ok(Arc::clone(consumer.insert(Arc::new(new))))
    }
}

impl Origin for KafkaOrigin {
    fn kind(&self) -> &'static str {
        "kafka"
    }

    fn name(&self) -> &str {
        &self.topic.name
    }

    fn list(&self) -> Result<Listing, Failure> {
        let consumer = self.topic.consumer()?;
        let failed = |error: KafkaError| failure("ask for the partitions", &error);
        let metadata = consumer.fetch_metadata(Some(&self.topic.name), WAIT).map_err(failed)?;
        let Some(topic) = metadata.topics().first() else {
            let text = format!("Kafka does not know the topic {:?}", self.topic.name);
            return Err(Failure::new(Remedy::Missing, text));
        };
        if let Some(error) = topic.error() {
            return Err(failed(KafkaError::MetadataFetch(error.into())));
        }
        let mut ids: Vec<_> = topic.partitions().iter().map(|partition| partition.id()).collect();
        ids.sort_unstable();
        let partition = |id: i32| Partition { id: id.to_string(), parents: vec![], is_open: true };
        let incarnation = consumer.client().fetch_cluster_id(WAIT);
        Ok(Listing { incarnation, partitions: ids.into_iter().map(partition).collect() })
    }

    fn reader(&self, partition: &str, from: &StartAt) -> Box<dyn OriginReader> {
        Box::new(KafkaReader {
            topic: Arc::clone(&self.topic),
            partition: partition.parse().unwrap_or(-1),
            from: from.clone(),
            queue: None,
            next: 0,
            is_at_tip: false,
            has_failed: false,
            requests: 0,
            put: None,
            committed: (0, Instant::now()),
        })
    }

    fn interrupt(&self) {
        // Running requests soon end by themselves.
        self.topic.is_closed.store(true, Ordering::Relaxed);
    }
}

/// Reads a partition.
struct KafkaReader {
    topic: Arc<Topic>,
    partition: i32,
    from: StartAt,
    /// `None` before the first read, and after the position was no longer in the partition.
    queue: Option<PartitionQueue<Heard>>,
    /// The offset of the record to be read next.
    next: i64,
    is_at_tip: bool,
    has_failed: bool,
    requests: u64,
    /// The offset behind the records that are in the stream.
    put: Option<i64>,
    /// The offset that was last committed to Kafka, and when.
    committed: (i64, Instant),
}

impl OriginReader for KafkaReader {
    fn wait(&self) -> Duration {
        // The client has retried itself all the time.
        if self.has_failed { SECOND } else { Duration::ZERO }
    }

    fn requests(&self) -> u64 {
        self.requests
    }

    fn read(&mut self, records_max: usize) -> Result<OriginBatch, Failure> {
        self.requests += 1;
        let outcome = self.try_read(records_max);
        self.has_failed = outcome.is_err();
        outcome
    }
}

impl KafkaReader {
    fn try_read(&mut self, records_max: usize) -> Result<OriginBatch, Failure> {
        let consumer = self.topic.consumer()?;
        let mut has_gap = false;
        if self.queue.is_none() {
            has_gap = self.begin(&consumer)?;
        } else {
            // The records of the last read are in the stream, or this would not be called.
            self.put = Some(self.next);
            self.commit(&consumer, COMMIT_INTERVAL);
        }
        // Errors that the client reports beside records.
        if let Some(Err(error)) = consumer.poll(Duration::ZERO) {
            consumer.context().error(error, "");
        }
        let (records, end) = self.drain(records_max);
        let newest = records.last().and_then(|record| record.arrived);
        match end {
            Some(End::Tip) => self.is_at_tip = true,
            Some(End::Gone) => {
                // The next read looks for the position again.
                self.end(&consumer);
            }
            Some(End::Failed(failure)) if records.is_empty() => return Err(failure),
            None if records.is_empty() && !self.is_at_tip => {
                if let Some(error) = consumer.context().last_error.lock().take() {
                    let text = format!("partition {} of {:?}: {error}", self.partition, self.topic.name);
                    return Err(Failure::new(Remedy::Retry, text));
                }
            }
            Some(End::Failed(_)) | None => {}
        }
        let now = self.topic.stream.clock().now();
        let behind_latest =
            newest.filter(|_| !self.is_at_tip).map_or(Duration::ZERO, |newest| now.since(newest));
        Ok(OriginBatch { records, behind_latest, is_at_tip: self.is_at_tip, is_end: false, has_gap })
    }

    /// Finds the offset to begin with, and starts fetching there. Returns whether records before it were dropped before they were read.
    fn begin(&mut self, consumer: &Arc<TopicConsumer>) -> Result<bool, Failure> {
        let (topic, partition) = (&*self.topic.name, self.partition);
        let failed = |error: KafkaError| failure("look for the place to read on", &error);
        let (low, high) = consumer.fetch_watermarks(topic, partition, WAIT).map_err(failed)?;
        let (next, has_gap) = match &self.from {
            StartAt::Beginning => (low, false),
            // This may not be the very first read, and records that came since then must not be lost.
            StartAt::Latest(time) | StartAt::AtTimestamp(time) => {
                let first = offset_at(consumer, topic, partition, *time, WAIT);
                (first.map_err(failed)?.unwrap_or(high), false)
            }
            StartAt::After(place) => {
                let last: i64 = place.to_string().parse().map_err(|_| {
                    let text = format!("{place} is not an offset of partition {partition} of {topic:?}");
                    Failure::new(Remedy::Refused, text)
                })?;
                (last.saturating_add(1).max(low), last.saturating_add(1) < low)
            }
        };
        if next > high {
            let text = format!(
                "partition {partition} of {topic:?} ends at {high}, but was read up to {next}: was the topic deleted and created again? Mirror it \
                 by another name then"
            );
            return Err(Failure::new(Remedy::Refused, text));
        }
        // The queue comes first, so that no record goes to the common one.
        let queue = consumer.split_partition_queue(topic, partition).ok_or_else(|| {
            Failure::new(Remedy::Retry, format!("partition {partition} of {topic:?} cannot be read"))
        })?;
        let mut assigned = TopicPartitionList::new();
        assigned.add_partition_offset(topic, partition, Offset::Offset(next)).map_err(failed)?;
        consumer.incremental_assign(&assigned).map_err(failed)?;
        // If the reader has to begin again, it begins there.
        self.from = match next {
            0 => StartAt::Beginning,
            next => StartAt::After(Place::from(next as u64 - 1)),
        };
        (self.queue, self.next, self.is_at_tip) = (Some(queue), next, false);
        Ok(has_gap)
    }

    /// Takes the fetched records.
    fn drain(&mut self, records_max: usize) -> (Vec<Incoming>, Option<End>) {
        let Some(queue) = &self.queue else { return (vec![], None) };
        let (mut records, mut bytes) = (vec![], 0);
        while records.len() < records_max && bytes < READ_BYTES {
            let wait = if records.is_empty() && !self.is_at_tip { FIRST_WAIT } else { Duration::ZERO };
            match queue.poll(wait) {
                Some(Ok(message)) => {
                    self.is_at_tip = false;
                    // Earlier records were read before an error made the client begin again.
                    if message.offset() >= self.next {
                        self.next = message.offset() + 1;
                        bytes += message.key_len() + message.payload_len();
                        records.push(incoming(&message));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return (records, Some(End::Tip)),
                Some(Err(error)) => {
                    let end = match error.rdkafka_error_code() {
                        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                            End::Gone
                        }
                        _ => End::Failed(failure("read", &error)),
                    };
                    return (records, Some(end));
                }
                None => break,
            }
        }
        (records, None)
    }

    /// Commits the position of the partition to Kafka, unless it is unchanged or was committed recently.
    fn commit(&mut self, consumer: &TopicConsumer, interval: Duration) {
        let Some(put) = self.put.filter(|&put| put > self.committed.0) else { return };
        if self.committed.1.elapsed() < interval {
            return;
        }
        let mut offsets = TopicPartitionList::new();
        let added = offsets.add_partition_offset(&self.topic.name, self.partition, Offset::Offset(put));
        // Nothing depends on it.
        let _ = added.and_then(|()| consumer.commit(&offsets, CommitMode::Async));
        self.committed = (put, Instant::now());
    }

    /// Stops fetching. The next read begins behind the last record that was returned.
    fn end(&mut self, consumer: &TopicConsumer) {
        if self.queue.take().is_none() {
            return;
        }
        let mut assigned = TopicPartitionList::new();
        assigned.add_partition(&self.topic.name, self.partition);
        let _ = consumer.incremental_unassign(&assigned);
        if self.next > 0 {
            self.from = StartAt::After(Place::from(self.next as u64 - 1));
        }
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        let consumer = self.topic.consumer.lock().clone();
        if let Some(consumer) = consumer
            && self.queue.is_some()
        {
            self.commit(&consumer, Duration::ZERO);
            self.end(&consumer);
        }
    }
}

/// Why a read ends before it has as many records as it may.
enum End {
    /// There are no more at present.
    Tip,
    /// The position is no longer in the partition.
    Gone,
    Failed(Failure),
}

fn incoming(message: &BorrowedMessage<'_>) -> Incoming {
    let Converted { offset, key, data, headers, time } = Converted::from(message);
    let place = Place::from(u64::try_from(offset).unwrap_or_default());
    Incoming { partition_key: key, data, headers, place, arrived: time }
}

fn failure(action: &str, error: &KafkaError) -> Failure {
    use RDKafkaErrorCode as Code;
    let remedy = match error.rdkafka_error_code() {
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => Remedy::Missing,
        Some(
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::Authentication
            | Code::InvalidTopic,
        ) => Remedy::Refused,
        _ => Remedy::Retry,
    };
    Failure::new(remedy, format!("Kafka's client cannot {action}: {}", text(error)))
}
