//! A topic of Apache Kafka as the source of processors.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::client::{KafkaClient, text};
use super::parts::{Parts, Settings};
use crate::extend::is_in_callback;
use crate::relay::source::settings::{Spools, check_millis, check_start};
use crate::relay::source::totals::SharedTotals;
use crate::{
    Bell, Elsewhere, Error, HOUR, IoFailure, PartProcessor, ProcessorStats, Result, Running, Source,
};

/// An Apache Kafka topic as the source of processors. The workers of a processor form a Kafka consumer group with the processor's name and share the
/// partitions, on any number of machines.
///
/// ```no_run
/// use std::time::Duration;
/// use streamlog::Source;
/// use streamlog::relay::{KafkaClient, KafkaSource};
///
/// let client = KafkaClient::options().bootstrap_servers("kafka-1:9092").connect()?;
/// let source = KafkaSource::new(&client, "clicks").checkpoint_interval(Duration::from_secs(10));
/// let processor = Source::from(source).processor("fraud").start(|invocation| println!("{} records", invocation.len()))?;
/// # processor.close()?;
/// # Ok::<(), streamlog::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct KafkaSource {
    client: KafkaClient,
    topic: String,
    checkpoint_interval: Duration,
    session_timeout: Duration,
    spools: Spools,
}

impl KafkaSource {
    /// A topic.
    pub fn new(client: &KafkaClient, topic: impl Into<String>) -> Self {
        Self {
            client: client.clone(),
            topic: topic.into(),
            checkpoint_interval: Duration::from_secs(1),
            session_timeout: Duration::from_secs(45),
            spools: Spools::default(),
        }
    }

    /// Sets how often to commit a partition's offset, with the states of its windows: up to an hour. The end of a window is committed immediately.
    /// After a crash, up to this much work is repeated. Default: a second.
    pub fn checkpoint_interval(mut self, interval: Duration) -> Self {
        self.checkpoint_interval = interval;
        self
    }

    /// Sets after how much silence of a worker the others take its partitions (`session.timeout.ms`): a tenth of a second to an hour, within the
    /// limits of the brokers. Default: 45 seconds, as in Kafka.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    /// Sets the directory for spools: small streams, one for each partition, of the records that were read and are not done. It is created if it is
    /// missing. Spools that a crash has left there are deleted. Default: the system's temporary directory, where files of others are not touched.
    pub fn spool_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.spools.directory = Some(directory.into());
        self
    }

    /// Sets how many bytes of a partition are read ahead of the function: 64 KiB to 16 GiB. Reading waits while this many are not done. Default: 32
    /// MiB. A spool needs up to 32 MiB more disk space, because it is freed in segments.
    pub fn spool_bytes(mut self, bytes: u64) -> Self {
        self.spools.bytes = bytes;
        self
    }

    fn check(&self, part: &PartProcessor) -> Result<()> {
        check_millis("checkpoint_interval", self.checkpoint_interval, Duration::ZERO..=HOUR)?;
        check_millis("session_timeout", self.session_timeout, Duration::from_millis(100)..=HOUR)?;
        self.spools.check()?;
        check_start("Kafka", part)
    }
}

impl From<KafkaSource> for Source {
    fn from(source: KafkaSource) -> Self {
        Self::elsewhere(source)
    }
}

impl Source {
    /// A topic of Apache Kafka, with default settings. See [`KafkaSource`] for others.
    pub fn kafka(client: &KafkaClient, topic: impl Into<String>) -> Self {
        KafkaSource::new(client, topic).into()
    }
}

impl Elsewhere for KafkaSource {
    fn start(&self, part: PartProcessor) -> Result<Box<dyn Running>> {
        self.check(&part)?;
        self.spools.delete_old();
        let mut config = self.client.config();
        config.set("group.id", part.name()).set("isolation.level", "read_committed");
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        // A committed offset that has been trimmed.
        config.set("auto.offset.reset", "earliest").set("enable.partition.eof", "true");
        config.set("partition.assignment.strategy", "range,roundrobin");
        config.set("session.timeout.ms", self.session_timeout.as_millis().to_string());
        config.set(
            "heartbeat.interval.ms",
            (self.session_timeout.as_millis() / 10).clamp(50, 3_000).to_string(),
        );
        let totals = SharedTotals::default();
        let parts = Parts::new(Settings {
            topic: self.topic.clone(),
            part,
            interval: self.checkpoint_interval,
            spools: self.spools.clone(),
            totals: Arc::clone(&totals),
            consumer: OnceLock::new(),
            must_rejoin: AtomicBool::new(false),
        });
        let refused = |error: KafkaError| Error::InvalidArgument(text(&error).into());
        let consumer: BaseConsumer<Parts> = config.create_with_context(parts).map_err(refused)?;
        let consumer = Arc::new(consumer);
        // Set once, so it is not refused.
        let _ = consumer.context().settings.consumer.set(Arc::downgrade(&consumer));
        consumer.subscribe(&[&self.topic]).map_err(refused)?;
        let shared = Arc::<Shared>::default();
        let driven = (Arc::clone(&shared), Arc::clone(&consumer));
        let spawned =
            thread::Builder::new().name("streamlog-source".into()).spawn(move || work(&driven.0, &driven.1));
        let failed = |source| IoFailure::new("start a thread of a processor for", &*self.topic, source);
        let thread = Some(spawned.map_err(failed)?);
        Ok(Box::new(KafkaProcessor {
            topic: self.topic.clone(),
            shared,
            consumer,
            totals,
            thread,
            process: std::process::id(),
        }))
    }
}

#[derive(Debug, Default)]
struct Shared {
    is_closing: AtomicBool,
    is_over: AtomicBool,
    bell: Bell,
}

/// How long to wait for a record before spools are checked again.
const POLL: Duration = Duration::from_millis(20);
/// How many records are taken before spools are checked again.
const RECORDS_AT_ONCE: usize = 1_000;

/// Reads until the processor is closed.
fn work(shared: &Shared, consumer: &BaseConsumer<Parts>) {
    let parts = consumer.context();
    while !shared.is_closing.load(Ordering::Acquire) {
        parts.step(consumer);
        if parts.settings.must_rejoin.swap(false, Ordering::AcqRel) {
            consumer.unsubscribe();
            shared.bell.wait(Duration::from_secs(1));
            if let Err(error) = consumer.subscribe(&[&parts.settings.topic]) {
                parts.settings.totals.note_error(text(&error));
                parts.settings.must_rejoin.store(true, Ordering::Release);
            }
        }
        let mut wait = POLL;
        for _ in 0..RECORDS_AT_ONCE {
            let Some(polled) = consumer.poll(wait) else { break };
            parts.note(polled);
            wait = Duration::ZERO;
        }
    }
    // What is done is committed before this worker leaves the group.
    parts.close_all();
    consumer.unsubscribe();
    shared.is_over.store(true, Ordering::Release);
}

/// A running processor of a topic of Kafka.
struct KafkaProcessor {
    topic: String,
    shared: Arc<Shared>,
    consumer: Arc<BaseConsumer<Parts>>,
    totals: SharedTotals,
    thread: Option<JoinHandle<()>>,
    process: u32,
}

impl Running for KafkaProcessor {
    fn place(&self) -> &str {
        &self.topic
    }

    fn stats(&self) -> ProcessorStats {
        self.totals.with(self.consumer.context().stats())
    }

    fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Acquire)
    }

    fn close(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        if std::process::id() != self.process {
            // A child made by fork does not have the thread.
            std::mem::forget(thread);
            return Ok(());
        }
        self.shared.is_closing.store(true, Ordering::Release);
        self.shared.bell.ring();
        // If a function closes its own processor, this would wait for its own thread.
        if !is_in_callback() {
            let _ = thread.join();
        }
        Ok(())
    }
}
