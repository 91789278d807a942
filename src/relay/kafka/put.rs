//! At least once into Kafka: sends a batch, waits until Kafka has all of it, and resends what is missing.
//!
//! **Order:** of the records that a producer gets for a partition, Kafka has a prefix without gaps: idempotence keeps the requests in order, and a
//! record that fails ends the producer (`enable.gapless.guarantee`), so that no later one gets through. Once all reports of the old producer are
//! there, a new one begins with the first record that Kafka lacks. So the records of a key arrive in order; copies of some may arrive after later
//! records of their key.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;

use super::batch::{Batch, State, is_permanent};
use super::client::KafkaClient;
use super::origin::{Origin, OriginText};
use super::producer::{NotSent, Producer, Target};
use crate::relay::link::Link;
use crate::{Invocation, Record, Response};

/// How often a wait looks whether the relay closes, or the producer has ended.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A relay that gets no answer for this long counts as failing. Kafka's client keeps trying.
pub(super) const ANSWER_OVERDUE: Duration = Duration::from_secs(5);
/// How long a closing relay waits for outstanding answers.
const CLOSE_WAIT: Duration = Duration::from_secs(3);
/// How long to wait for outstanding answers after a producer has failed.
const BROKEN_WAIT: Duration = Duration::from_secs(10);

/// Sends what a relay reads.
pub(super) struct Put {
    client: KafkaClient,
    target: Target,
    origin: Origin,
    /// The producer of all lanes. It is replaced when it fails.
    shared: Mutex<Option<Arc<Producer>>>,
    /// A producer that sends single records, of batches that Kafka has refused.
    careful: Mutex<Option<Arc<Producer>>>,
}

/// A batch, and what is needed to send it.
struct Work<'a> {
    invocation: &'a Invocation,
    link: &'a Link,
    records: Vec<Record<'a>>,
    batch: Arc<Batch>,
}

impl Put {
    pub(super) fn new(client: KafkaClient, target: Target, origin: Origin) -> Self {
        Self { client, target, origin, shared: Mutex::default(), careful: Mutex::default() }
    }

    /// Sends a batch. Returns when it is done, or when the relay closes.
    pub(super) fn carry(&self, invocation: &Invocation, link: &Link) -> Response {
        let records: Vec<_> = invocation.records().collect();
        let batch = Batch::new(records.len());
        let work = Work { invocation, link, records, batch };
        let mut failures = 0;
        loop {
            let left = work.batch.left();
            let Some(&(first, _)) = left.first() else { return Response::done() };
            let first = work.records[first].sequence();
            if link.is_closing() {
                return Response::failed_from(first);
            }
            match self.send(&work, &left) {
                Ok(()) => failures = 0,
                Err(reason) => {
                    failures += 1;
                    link.note_failure(reason);
                    link.wait_until(link.elapsed() + link.pause(failures, first.get()));
                }
            }
        }
    }

    /// Sends the rest of a batch, and waits for the answers. After an error, or when the relay closes, part of it is still left.
    fn send(&self, work: &Work<'_>, left: &[(usize, State)]) -> Result<(), String> {
        let is_refused = |state: State| matches!(state, State::Failed(code) if is_permanent(code));
        // Kafka refuses a whole request because of a single record.
        if let Some(last) = left.iter().rposition(|&(_, state)| is_refused(state)) {
            return left[..=last].iter().try_for_each(|&(index, _)| self.send_alone(work, index));
        }
        let producer = self.producer(&self.shared, |config| {
            config.set("enable.gapless.guarantee", "true").set("message.timeout.ms", "0");
        })?;
        let partitions = producer.partitions()?;
        work.note_attempt(left);
        let mut unsent = Ok(());
        let mut origin = self.origin.begin(work.invocation.shard());
        for &(index, _) in left {
            unsent = Self::send_one(work, &producer, partitions, index, &mut origin);
            if unsent.is_err() || work.link.is_closing() {
                break;
            }
        }
        work.wait_for_reports(&producer);
        work.note_answers(left);
        let failed = work.batch.failure();
        match (unsent, failed) {
            (Err(reason), _) => Err(reason),
            // Refused records are sent one by one, immediately.
            (Ok(()), Some(code)) if is_permanent(code) => Ok(()),
            (Ok(()), Some(code)) => Err(producer.last_error().unwrap_or_else(|| code.to_string())),
            (Ok(()), None) => Ok(()),
        }
    }

    /// Sends a record, or gives it up.
    fn send_one(
        work: &Work<'_>,
        producer: &Producer,
        partitions: u32,
        index: usize,
        origin: &mut OriginText,
    ) -> Result<(), String> {
        let record = &work.records[index];
        loop {
            match producer.send(partitions, &work.batch, index, record, origin.of(record.sequence())) {
                Ok(()) => return Ok(()),
                Err(NotSent::Full) if work.link.is_closing() => return Ok(()),
                // Other lanes may have filled it, so there is no event to wait for.
                Err(NotSent::Full) => thread::sleep(FULL_WAIT),
                Err(NotSent::Refused(reason)) => return work.give_up(index, &reason),
                Err(NotSent::Failed(reason)) => return Err(reason),
            }
        }
    }

    /// Sends a record that Kafka may have refused together with others, and gives it up if Kafka refuses it again.
    fn send_alone(&self, work: &Work<'_>, index: usize) -> Result<(), String> {
        if work.link.is_closing() {
            return Ok(());
        }
        let producer = self.producer(&self.careful, |config| {
            config.set("message.timeout.ms", "0").set("linger.ms", "0");
        })?;
        let partitions = producer.partitions()?;
        let one = [(index, work.batch.state(index))];
        work.note_attempt(&one);
        Self::send_one(work, &producer, partitions, index, &mut self.origin.begin(work.invocation.shard()))?;
        work.wait_for_reports(&producer);
        work.note_answers(&one);
        match work.batch.state(index) {
            State::Failed(code) if is_permanent(code) => work.give_up(index, &code.to_string()),
            State::Failed(code) => Err(producer.last_error().unwrap_or_else(|| code.to_string())),
            _ => Ok(()),
        }
    }

    /// Returns the producer of a slot. Makes a new one if there is none, or if it has failed.
    fn producer(
        &self,
        slot: &Mutex<Option<Arc<Producer>>>,
        configure: impl FnOnce(&mut ClientConfig),
    ) -> Result<Arc<Producer>, String> {
        let mut slot = slot.lock();
        if let Some(producer) = slot.as_ref().filter(|producer| !producer.is_broken()) {
            return Ok(Arc::clone(producer));
        }
        let mut config = self.client.config();
        configure(&mut config);
        let producer = Arc::new(Producer::new(config, self.target.clone())?);
        *slot = Some(Arc::clone(&producer));
        Ok(producer)
    }
}

/// A producer whose buffer is full is tried again after this time.
pub(super) const FULL_WAIT: Duration = Duration::from_millis(5);

impl Work<'_> {
    fn give_up(&self, index: usize, reason: &str) -> Result<(), String> {
        self.link.discard(self.invocation, self.records[index].sequence(), reason)?;
        self.batch.set_given_up(index);
        Ok(())
    }

    /// Waits until the outcome of everything that was sent is known.
    fn wait_for_reports(&self, producer: &Producer) {
        // Kafka's client goes by the clock of the system.
        let (mut overdue_at, mut give_up_at) = (Instant::now() + ANSWER_OVERDUE, None);
        while !self.batch.wait(LOOK_AGAIN) {
            let now = Instant::now();
            if now >= overdue_at {
                overdue_at = now + ANSWER_OVERDUE;
                self.link
                    .note_failure(producer.last_error().unwrap_or_else(|| "no answer from Kafka".into()));
            }
            let wait = match (self.link.is_closing(), producer.is_broken()) {
                (true, _) => CLOSE_WAIT,
                (false, true) => BROKEN_WAIT,
                (false, false) => continue,
            };
            if now >= *give_up_at.get_or_insert(now + wait) {
                producer.give_up();
            }
        }
    }

    fn note_attempt(&self, left: &[(usize, State)]) {
        let mut counts = self.link.counts.lock();
        counts.requests += 1;
        counts.retries += left.iter().filter(|(_, state)| matches!(state, State::Failed(_))).count() as u64;
    }

    /// Counts Kafka's answers to the records that were sent.
    fn note_answers(&self, sent: &[(usize, State)]) {
        let done = sent.iter().filter(|(index, _)| self.batch.state(*index) == State::Done);
        let (mut records, mut bytes) = (0, 0);
        for &(index, _) in done {
            records += 1;
            bytes += (self.records[index].partition_key().len() + self.records[index].data().len()) as u64;
        }
        if records > 0 {
            self.link.note_success(records, bytes);
        }
        if records > 0 && records < sent.len() as u64 {
            self.link.counts.lock().partial_failures += sent.len() as u64 - records;
        }
    }
}
