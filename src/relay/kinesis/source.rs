//! A stream of Amazon Kinesis as the source of processors.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::client::KinesisClient;
use super::coordinator::{Coordinator, Shared, Times};
use super::lease_book::Terms;
use super::lease_table::LeaseTable;
use super::ledger::LedgerSettings;
use super::read::RemoteStream;
use super::shard_run::RunSettings;
use crate::extend::check_range;
use crate::relay::source::random;
use crate::relay::source::settings::{Spools, check_millis, check_start};
use crate::relay::source::totals::SharedTotals;
use crate::{Elsewhere, HOUR, IoFailure, PartProcessor, ProcessorStats, Result, Running, Source};

/// A stream of Amazon Kinesis as the source of processors. The workers of an application share its shards, on any number of machines, through a
/// lease table in DynamoDB: workers of this library, and those of Amazon's Kinesis Client Library (KCL).
///
/// ```no_run
/// use std::time::Duration;
/// use streamlog::Source;
/// use streamlog::relay::{KinesisClient, KinesisSource};
///
/// let client = KinesisClient::options().region("eu-west-1").connect()?;
/// let source = KinesisSource::new(&client, "clicks").checkpoint_interval(Duration::from_secs(10));
/// let processor = Source::from(source).processor("fraud").start(|invocation| println!("{} records", invocation.len()))?;
/// # processor.close()?;
/// # Ok::<(), streamlog::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct KinesisSource {
    client: KinesisClient,
    stream: String,
    table: Option<String>,
    worker: Option<String>,
    failover: Duration,
    sync_every: Duration,
    checkpoint_interval: Duration,
    leases_max: usize,
    spools: Spools,
}

const FAILOVER_MIN: Duration = Duration::from_millis(500);

impl KinesisSource {
    /// A stream, by its name or its ARN.
    pub fn new(client: &KinesisClient, stream: impl Into<String>) -> Self {
        Self {
            client: client.clone(),
            stream: stream.into(),
            table: None,
            worker: None,
            failover: Duration::from_secs(10),
            sync_every: Duration::from_secs(60),
            checkpoint_interval: Duration::from_secs(1),
            leases_max: usize::MAX,
            spools: Spools::default(),
        }
    }

    /// Sets the name of the lease table in DynamoDB, which is created if it is missing. Default: the name of the processor, like the application
    /// name in the KCL.
    pub fn lease_table(mut self, name: impl Into<String>) -> Self {
        self.table = Some(name.into());
        self
    }

    /// Sets the name of this worker in the lease table. It must be unique among running workers. Default: a random one.
    pub fn worker_id(mut self, id: impl Into<String>) -> Self {
        self.worker = Some(id.into());
        self
    }

    /// Sets after how much silence of a worker the others take its shards: half a second to an hour. It must be the same for all workers of an
    /// application. Default: 10 seconds, as in the KCL (`failoverTimeMillis`).
    pub fn failover_time(mut self, time: Duration) -> Self {
        self.failover = time;
        self
    }

    /// Sets how often to look for new shards, other than children of finished shards. Default: a minute, as in the KCL (`shardSyncIntervalMillis`).
    pub fn shard_sync_interval(mut self, interval: Duration) -> Self {
        self.sync_every = interval;
        self
    }

    /// Sets how often to write a shard's checkpoint, with the states of its windows: up to an hour. It is written immediately when a window or a
    /// shard ends. After a crash, up to this much work is repeated. Each write costs one DynamoDB write unit for each KB of the states. Default: a
    /// second.
    pub fn checkpoint_interval(mut self, interval: Duration) -> Self {
        self.checkpoint_interval = interval;
        self
    }

    /// Sets how many shards this worker has at most. Default: no limit.
    pub fn max_leases(mut self, leases: usize) -> Self {
        self.leases_max = leases;
        self
    }

    /// Sets the directory for spools: small streams, one for each shard, of the records that were read and are not done. It is created if it is
    /// missing. Spools that a crash has left there are deleted. Default: the system's temporary directory, where files of others are not touched.
    pub fn spool_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.spools.directory = Some(directory.into());
        self
    }

    /// Sets how many bytes of a shard are read ahead of the function: 64 KiB to 16 GiB. Reading waits while this many are not done. Default: 32 MiB.
    /// A spool needs up to 32 MiB more disk space, because it is freed in segments.
    pub fn spool_bytes(mut self, bytes: u64) -> Self {
        self.spools.bytes = bytes;
        self
    }

    fn check(&self, part: &PartProcessor) -> Result<()> {
        check_millis("failover_time", self.failover, FAILOVER_MIN..=HOUR)?;
        check_millis("shard_sync_interval", self.sync_every, Duration::from_millis(100)..=24 * HOUR)?;
        check_millis("checkpoint_interval", self.checkpoint_interval, Duration::ZERO..=HOUR)?;
        check_range("max_leases", self.leases_max, 1..=usize::MAX)?;
        self.spools.check()?;
        check_start("Kinesis", part)
    }
}

impl From<KinesisSource> for Source {
    fn from(source: KinesisSource) -> Self {
        Self::elsewhere(source)
    }
}

impl Source {
    /// A stream of Amazon Kinesis, by its name or its ARN, with default settings. See [`KinesisSource`] for others.
    pub fn kinesis(client: &KinesisClient, stream: impl Into<String>) -> Self {
        KinesisSource::new(client, stream).into()
    }
}

impl Elsewhere for KinesisSource {
    fn start(&self, part: PartProcessor) -> Result<Box<dyn Running>> {
        self.check(&part)?;
        self.spools.delete_old();
        let totals = SharedTotals::default();
        let table = self.table.clone().unwrap_or_else(|| part.name().to_owned());
        // Three requests fit into the time after which a lease is lost.
        let table = LeaseTable::new(self.client.clone(), table, self.failover / 3);
        let settings = Arc::new(RunSettings {
            stream: RemoteStream::new(self.client.clone(), &*self.stream),
            ledger: LedgerSettings {
                table: table.clone(),
                application: part.name().to_owned(),
                interval: self.checkpoint_interval,
                totals: Arc::clone(&totals),
            },
            part,
            spools: self.spools.clone(),
        });
        let shared = Arc::<Shared>::default();
        let terms = Terms { failover: self.failover, leases_max: self.leases_max, steal_max: 1 };
        let times = Times { terms, sync_every: self.sync_every };
        let worker =
            self.worker.clone().unwrap_or_else(|| format!("streamlog-{:016x}{:016x}", random(), random()));
        let coordinator = Coordinator::new(Arc::clone(&shared), settings, table, times, &worker);
        let spawned = thread::Builder::new().name("streamlog-leases".into()).spawn(|| coordinator.work());
        let failed = |source| IoFailure::new("start a thread of a processor for", &*self.stream, source);
        let thread = Some(spawned.map_err(failed)?);
        Ok(Box::new(KinesisProcessor {
            stream: self.stream.clone(),
            shared,
            totals,
            thread,
            process: std::process::id(),
        }))
    }
}

/// A running processor of a stream of Kinesis.
struct KinesisProcessor {
    stream: String,
    shared: Arc<Shared>,
    totals: SharedTotals,
    thread: Option<JoinHandle<()>>,
    process: u32,
}

impl Running for KinesisProcessor {
    fn place(&self) -> &str {
        &self.stream
    }

    fn stats(&self) -> ProcessorStats {
        self.totals.with(self.shared.stats())
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
        if !crate::extend::is_in_callback() {
            let _ = thread.join();
        }
        Ok(())
    }
}
