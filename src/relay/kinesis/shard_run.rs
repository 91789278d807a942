//! Runs the processor of one shard whose lease this worker holds: reads the shard into a spool, until the lease is lost or the shard ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::failure::{Failure, Remedy};
use super::feed::Feed;
use super::lease::{Checkpoint, Lease};
use super::lease_book::Grip;
use super::lease_sync::Children;
use super::ledger::{LedgerSettings, ShardLedger, split_state};
use super::read::{READ_RECORDS_MAX, ReadFrom, RemoteBatch, RemoteShardReader, RemoteStream};
use crate::relay::source::settings::Spools;
use crate::relay::source::spool::SpoolStream;
use crate::{
    Bell, Clock, PartProcessor, Position, Processor, ProcessorStats, Result, SequenceNumber, ShardId, Spool,
    SystemClock, Timestamp,
};

/// What the runs of a processor's shards share.
#[derive(Debug)]
pub(super) struct RunSettings {
    pub(super) stream: RemoteStream,
    pub(super) part: PartProcessor,
    pub(super) ledger: LedgerSettings,
    pub(super) spools: Spools,
}

/// How a run has ended.
#[derive(Debug)]
pub(super) enum RunEnd {
    /// The lease is lost, or the processor is to end.
    Left,
    /// Everything in the shard is done. These are its children, each with its parents, if Kinesis said so.
    ShardEnd(Children),
}

/// A run, as its thread and its owner share it.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) is_stopped: AtomicBool,
    pub(super) bell: Bell,
    processor: Mutex<Option<Processor>>,
}

impl Run {
    /// Stops the run. Calls in progress finish, and no other begins.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        if let Some(processor) = &*self.processor.lock() {
            processor.stop();
        }
        self.bell.ring();
    }

    pub(super) fn stats(&self) -> Option<ProcessorStats> {
        let stats = self.processor.lock().as_ref()?.stats();
        Some(ProcessorStats { shards: 1, ..stats })
    }
}

/// How long after a request that found nothing more no record can appear that arrived before it: a record of Kinesis does not become visible
/// immediately.
const PROPAGATION: Duration = Duration::from_secs(1);
/// How long to wait before checking again whether there is room, or everything is done.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// Runs a shard on the thread that calls this.
pub(super) fn run(settings: &RunSettings, run: &Run, grip: &Arc<Grip>, lease: &Lease) -> RunEnd {
    let mut shard = Shard::new(settings, run, grip, lease);
    loop {
        if let Some(end) = shard.try_to_end() {
            let ended = run.processor.lock().take();
            if let Some(processor) = ended {
                let stats = processor.stats();
                processor.close().unwrap_or_else(|error| settings.ledger.totals.note_error(error));
                settings.ledger.totals.add(stats);
            }
            return end;
        }
        if let Err(error) = shard.step() {
            settings.ledger.totals.note_error(error);
            run.bell.wait(AFTER_ERROR);
        }
    }
}

struct Shard<'a> {
    settings: &'a RunSettings,
    run: &'a Run,
    grip: &'a Arc<Grip>,
    lease: &'a Lease,
    reader: RemoteShardReader,
    feed: Feed,
    spool: Option<SpoolStream>,
    /// Whether the shard lacks the record that it should begin with, once known.
    has_gap: Option<bool>,
    /// Every record that arrived before this time is in the spool.
    arrived: Timestamp,
    end: Option<Children>,
}

impl<'a> Shard<'a> {
    fn new(settings: &'a RunSettings, run: &'a Run, grip: &'a Arc<Grip>, lease: &'a Lease) -> Self {
        let from = match (&lease.checkpoint, settings.part.start_at()) {
            (Checkpoint::Number(number, _), _) => ReadFrom::At(number.clone()),
            (Checkpoint::Latest, _) => ReadFrom::Latest(SystemClock.now()),
            (Checkpoint::AtTimestamp, Position::AtTimestamp(time)) => ReadFrom::AtTimestamp(time),
            _ => ReadFrom::TrimHorizon,
        };
        Self {
            settings,
            run,
            grip,
            lease,
            reader: settings.stream.reader(&*lease.key, from),
            feed: Feed::new(range_of(settings, lease).as_ref(), &lease.checkpoint),
            spool: None,
            has_gap: None,
            arrived: Timestamp::default(),
            end: None,
        }
    }

    /// Returns how the run ends, if it does.
    fn try_to_end(&self) -> Option<RunEnd> {
        if self.run.is_stopped.load(Ordering::Acquire) || self.grip.is_lost(SystemClock.elapsed()) {
            if let Some(processor) = &*self.run.processor.lock() {
                processor.stop();
            }
            return Some(RunEnd::Left);
        }
        let spool = self.spool.as_ref()?;
        let children = self.end.as_ref().filter(|_| self.feed.is_empty() && spool.is_done())?;
        Some(RunEnd::ShardEnd(children.clone()))
    }

    /// Does the next step: puts, reads, or waits.
    fn step(&mut self) -> Result<()> {
        if let Some(spool) = &mut self.spool {
            spool.trim()?;
            self.feed.put(spool)?;
            if self.feed.is_empty() && self.end.is_some() {
                spool.end()?;
            } else if self.feed.is_empty() {
                spool.note_arrived(self.arrived);
            }
            if !self.feed.is_empty() || self.end.is_some() {
                self.run.bell.wait(LOOK_AGAIN);
                return Ok(());
            }
        }
        let wait = self.reader.wait();
        if !wait.is_zero() {
            self.run.bell.wait(wait);
            return Ok(());
        }
        let asked_at = SystemClock.now();
        match self.reader.read(READ_RECORDS_MAX) {
            Ok(batch) => self.note_read(batch, asked_at),
            // The shard has expired, with its remaining records.
            Err(Failure { remedy: Remedy::Missing, .. }) => {
                self.end = Some(vec![]);
                self.has_gap.get_or_insert(true);
            }
            Err(failure) => self.settings.ledger.totals.note_error(failure),
        }
        if self.spool.is_none()
            && let Some(has_gap) = self.has_gap
        {
            self.start(has_gap)?;
        }
        Ok(())
    }

    fn note_read(&mut self, batch: RemoteBatch, asked_at: Timestamp) {
        let is_all = batch.is_end || batch.millis_behind_latest == 0;
        if batch.millis_behind_latest == 0 {
            self.arrived = asked_at - PROPAGATION;
        }
        if batch.is_end {
            self.end = Some(batch.children.clone());
        }
        let first = batch.records.first().map(|record| &*record.sequence_number);
        if first.is_some() || is_all {
            let expected = match &self.lease.checkpoint {
                Checkpoint::Number(number, _) => Some(&**number),
                _ => split_state(&self.lease.state).0,
            };
            self.has_gap.get_or_insert(expected.is_some() && first != expected);
        }
        self.feed.add(batch);
    }

    fn start(&mut self, has_gap: bool) -> Result<()> {
        let spool = self.settings.spools.create(&self.lease.key)?;
        let Some(stream) = spool.stream() else { return Ok(()) };
        let (_, state) = split_state(&self.lease.state);
        spool.done().note(SequenceNumber::ZERO, !state.is_empty());
        let ledger = ShardLedger {
            settings: self.settings.ledger.clone(),
            grip: Arc::clone(self.grip),
            spool: (**stream).clone(),
            done: Arc::clone(spool.done()),
            kept: (SequenceNumber::ZERO, self.lease.checkpoint.clone()),
            kept_at: SystemClock.elapsed(),
        };
        let processor = self.settings.part.start(Spool {
            stream,
            origin: shard_number(&self.lease.key),
            day: Arc::new(SystemClock),
            state,
            has_gap,
            states_bytes_max: STATES_BYTES_MAX,
            ledger: Box::new(ledger),
        })?;
        *self.run.processor.lock() = Some(processor);
        self.spool = Some(spool);
        Ok(())
    }
}

/// Returns the range of hash keys of a shard. A lease that was made at the end of a parent may not have it.
fn range_of(settings: &RunSettings, lease: &Lease) -> Option<(String, String)> {
    let listed = || {
        let shards = settings.stream.list_shards().ok()?;
        shards.into_iter().find(|shard| shard.id == lease.key).map(|shard| shard.hash_range)
    };
    lease.hash_range.clone().or_else(listed)
}

/// A row of DynamoDB has 400 KB at most, with names and numbers.
const STATES_BYTES_MAX: usize = 350_000;

/// Returns a shard's number, which is at the end of its id.
fn shard_number(id: &str) -> ShardId {
    id.parse().unwrap_or(ShardId::new(0))
}
