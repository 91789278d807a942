//! The partitions of a topic that this worker has, each with a spool and its processor.
//!
//! Kafka's consumer group assigns the partitions. Before one is revoked, its processor ends and commits. Kafka refuses commits of a worker that the
//! group no longer knows.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::client::{offset_at, reported, text};
use super::ledger::{OffsetLedger, decode};
use super::message::Converted;
use crate::relay::source::settings::Spools;
use crate::relay::source::spool::{Arrived, SpoolStream};
use crate::relay::source::totals::SharedTotals;
use crate::{
    Clock, Error, Origin, PartProcessor, Position, Processor, ProcessorStats, PutRecord, Result,
    SequenceNumber, ShardId, Spool, SystemClock, limits,
};

/// What the partitions share.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) topic: String,
    pub(super) part: PartProcessor,
    pub(super) interval: Duration,
    pub(super) spools: Spools,
    pub(super) totals: SharedTotals,
    /// The consumer, which has this as its context.
    pub(super) consumer: OnceLock<Weak<BaseConsumer<Parts>>>,
    /// The partitions that the group has assigned to this worker could not be begun.
    pub(super) must_rejoin: AtomicBool,
}

/// The partitions that this worker has.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) settings: Settings,
    open: Mutex<BTreeMap<i32, Part>>,
}

#[derive(Debug)]
struct Part {
    spool: SpoolStream,
    processor: Processor,
    /// Records that have arrived and are not in the spool yet.
    pending: VecDeque<Converted>,
    is_paused: bool,
    /// There are no more records at present.
    is_at_tip: bool,
}

/// A request that takes longer has failed.
const WAIT: Duration = Duration::from_secs(10);
/// A record may become visible this long after its timestamp.
const PROPAGATION: Duration = Duration::from_secs(1);
/// The metadata of an offset has 4,096 bytes as text, with names and numbers.
const STATES_BYTES_MAX: usize = 1_500;

impl ClientContext for Parts {
    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(text) = reported(&error, reason) {
            self.settings.totals.note_error(text);
        }
    }
}

impl ConsumerContext for Parts {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let outcome = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.begin(consumer, partitions),
            _ => {
                self.close_all();
                consumer.unassign().map_err(|error| text(&error))
            }
        };
        if let Err(reason) = outcome {
            self.settings.totals.note_error(reason);
            self.close_all();
            let _ = consumer.unassign();
            self.settings.must_rejoin.store(true, Ordering::Release);
        }
    }
}

impl Parts {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, open: Mutex::default() }
    }

    /// Begins partitions at the positions that the group has committed. If it has committed none, this commits the beginning, so that no record is
    /// lost that arrives between a worker that ends before anything is done and the next worker.
    fn begin(&self, consumer: &BaseConsumer<Self>, given: &TopicPartitionList) -> Result<(), String> {
        let failed = |error: KafkaError| text(&error);
        let topic = &self.settings.topic;
        let committed = consumer.committed_offsets(given.clone(), WAIT).map_err(failed)?;
        let (mut assigned, mut new) = (TopicPartitionList::new(), TopicPartitionList::new());
        for element in committed.elements() {
            element.error().map_err(failed)?;
            let partition = element.partition();
            let (low, high) = consumer.fetch_watermarks(topic, partition, WAIT).map_err(failed)?;
            let (next, state) = match element.offset() {
                Offset::Offset(next) => (next, decode(element.metadata())),
                _ => {
                    let first = self.first(consumer, partition, (low, high)).map_err(failed)?;
                    new.add_partition_offset(topic, partition, Offset::Offset(first)).map_err(failed)?;
                    (first, vec![])
                }
            };
            let from = Offset::Offset(next.max(low));
            assigned.add_partition_offset(topic, partition, from).map_err(failed)?;
            let part = self.start(partition, next, &state, next < low).map_err(|error| error.to_string())?;
            self.open.lock().insert(partition, part);
        }
        if new.count() > 0 {
            match consumer.commit(&new, CommitMode::Sync) {
                // The group is rebalancing, and this is called again.
                Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::RebalanceInProgress)) => {}
                outcome => outcome.map_err(failed)?,
            }
        }
        consumer.assign(&assigned).map_err(failed)
    }

    /// Returns where a new processor begins.
    fn first(
        &self,
        consumer: &BaseConsumer<Self>,
        partition: i32,
        (low, high): (i64, i64),
    ) -> KafkaResult<i64> {
        match self.settings.part.start_at() {
            Position::Latest => Ok(high),
            Position::AtTimestamp(time) => {
                let first = offset_at(consumer, &self.settings.topic, partition, time, WAIT)?;
                Ok(first.unwrap_or(high))
            }
            _ => Ok(low),
        }
    }

    fn start(&self, partition: i32, next: i64, state: &[u8], has_gap: bool) -> Result<Part> {
        let spool = self.settings.spools.create(partition)?;
        let stream = spool.stream().ok_or(Error::Closed)?;
        let ledger = OffsetLedger {
            topic: self.settings.topic.clone(),
            partition,
            consumer: self.settings.consumer.get().cloned().unwrap_or_default(),
            interval: self.settings.interval,
            totals: Arc::clone(&self.settings.totals),
            spool: (**stream).clone(),
            done: Arc::clone(spool.done()),
            kept: (SequenceNumber::ZERO, next),
            kept_at: SystemClock.elapsed(),
        };
        let processor = self.settings.part.start(Spool {
            stream,
            origin: ShardId::new(partition.unsigned_abs()),
            day: Arc::new(SystemClock),
            state,
            has_gap,
            states_bytes_max: STATES_BYTES_MAX,
            ledger: Box::new(ledger),
        })?;
        Ok(Part { spool, processor, pending: VecDeque::new(), is_paused: false, is_at_tip: false })
    }

    /// Notes what the consumer has received.
    pub(super) fn note(&self, polled: KafkaResult<BorrowedMessage<'_>>) {
        match polled {
            Ok(message) => {
                if let Some(part) = self.open.lock().get_mut(&message.partition()) {
                    part.is_at_tip = false;
                    part.pending.push_back(Converted::from(&message));
                }
            }
            Err(KafkaError::PartitionEOF(partition)) => {
                if let Some(part) = self.open.lock().get_mut(&partition) {
                    part.is_at_tip = true;
                }
            }
            Err(error) => self.settings.totals.note_error(text(&error)),
        }
    }

    /// Puts the records that have arrived into the spools, and pauses partitions whose spool is full.
    pub(super) fn step(&self, consumer: &BaseConsumer<Self>) {
        for (&partition, part) in &mut *self.open.lock() {
            if let Err(error) = part.put() {
                self.settings.totals.note_error(error);
            }
            let is_full = !part.pending.is_empty();
            if is_full == part.is_paused {
                continue;
            }
            let mut list = TopicPartitionList::new();
            list.add_partition(&self.settings.topic, partition);
            let changed = if is_full { consumer.pause(&list) } else { consumer.resume(&list) };
            match changed {
                Ok(()) => part.is_paused = is_full,
                Err(error) => self.settings.totals.note_error(text(&error)),
            }
        }
    }

    /// Ends the processors of all partitions. They commit what is done.
    pub(super) fn close_all(&self) {
        let parts = std::mem::take(&mut *self.open.lock());
        // Stop all before waiting for any.
        parts.values().for_each(|part| part.processor.stop());
        for Part { spool, processor, .. } in parts.into_values() {
            let stats = processor.stats();
            processor.close().unwrap_or_else(|error| self.settings.totals.note_error(error));
            self.settings.totals.add(stats);
            drop(spool);
        }
    }

    pub(super) fn stats(&self) -> Vec<ProcessorStats> {
        let open = self.open.lock();
        open.values().map(|part| ProcessorStats { shards: 1, ..part.processor.stats() }).collect()
    }
}

impl Part {
    fn put(&mut self) -> Result<()> {
        self.spool.trim()?;
        while let Some(first) = self.pending.front().filter(|_| self.spool.has_room()) {
            let offset = first.offset.to_string();
            let mut sub = String::new();
            let origin = Origin { sequence_number: &offset, sub_sequence_number: 0 };
            // A key in a stream is shorter.
            let key = &first.key[..first.key.len().min(limits::PARTITION_KEY_BYTES_MAX)];
            let record = origin.note(PutRecord::new(key, &first.data), &mut sub);
            let headers = first.headers.iter();
            let whole = headers.fold(record.clone(), |record, (name, value)| record.header(name, value));
            // A producer whose clock is ahead must not end windows of others.
            let now = SystemClock.now();
            let arrived = first.time.map_or(now, |time| time.min(now));
            match self.spool.put(&[Arrived { record: whole, arrived }]) {
                // A stream does not take the record's headers.
                (0, Err(Error::InvalidRecord { .. })) => self.spool.put(&[Arrived { record, arrived }]).1?,
                (_, put) => put?,
            }
            self.pending.pop_front();
        }
        if self.pending.is_empty() && self.is_at_tip {
            self.spool.note_arrived(SystemClock.now() - PROPAGATION);
        }
        Ok(())
    }
}
