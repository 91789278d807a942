//! The thread of a Kinesis processor that renews its leases, creates missing ones, and runs its shards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use super::failure::Failure;
use super::lease::{Checkpoint, Lease};
use super::lease_book::{Grip, LeaseBook, Table, Terms};
use super::lease_sync::{
    Children, Inconsistent, first_leases, is_needless, leases_of_children, may_begin, missing_leases, roots,
};
use super::lease_table::LeaseTable;
use super::read::RemoteShard;
use super::shard_run::{Run, RunEnd, RunSettings, run};
use crate::{Bell, Clock, Position, ProcessorStats, SystemClock};

fn elapsed() -> Duration {
    SystemClock.elapsed()
}

/// The state that the coordinator shares with the handle of its processor.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) is_closing: AtomicBool,
    pub(super) is_over: AtomicBool,
    pub(super) bell: Bell,
    runs: Mutex<BTreeMap<String, Arc<Run>>>,
}

impl Shared {
    pub(super) fn stats(&self) -> Vec<ProcessorStats> {
        self.runs.lock().values().filter_map(|run| run.stats()).collect()
    }
}

/// The times of a coordinator.
#[derive(Debug, Clone)]
pub(super) struct Times {
    pub(super) terms: Terms,
    pub(super) sync_every: Duration,
}

pub(super) struct Coordinator {
    pub(super) shared: Arc<Shared>,
    pub(super) settings: Arc<RunSettings>,
    pub(super) table: LeaseTable,
    pub(super) times: Times,
    book: LeaseBook,
    /// When to renew, to take and to look at the shards.
    due: [Duration; 3],
    rows: Vec<Lease>,
    threads: BTreeMap<String, (Arc<Grip>, JoinHandle<RunEnd>)>,
    /// Shards that have ended, with their children, but whose leases do not say so yet.
    ended: BTreeMap<String, (Arc<Grip>, Children)>,
}

/// How long after an error everything is retried.
const AFTER_ERROR: Duration = Duration::from_secs(1);

impl Coordinator {
    pub(super) fn new(
        shared: Arc<Shared>,
        settings: Arc<RunSettings>,
        table: LeaseTable,
        times: Times,
        worker: &str,
    ) -> Self {
        let book = LeaseBook::new(worker, times.terms.clone());
        let (threads, ended) = (BTreeMap::new(), BTreeMap::new());
        Self { shared, settings, table, times, book, due: [elapsed(); 3], rows: vec![], threads, ended }
    }

    /// Works until the processor is closed.
    pub(super) fn work(mut self) {
        while !self.is_closing() {
            if let Err(reason) = self.round() {
                self.note_error(&reason);
                self.shared.bell.wait(AFTER_ERROR.min(self.times.terms.failover / 10));
            }
        }
        self.shared.runs.lock().values().for_each(|run| run.stop());
        // Their calls may take a while. Meanwhile, the leases are renewed.
        while self.threads.values().any(|(_, thread)| !thread.is_finished()) {
            let _ = self.keep_leases();
            self.shared.bell.wait(Duration::from_millis(20));
        }
        self.reap();
        if let Err(failure) = self.book.leave(&self.table) {
            self.note_error(&failure);
        }
        self.shared.is_over.store(true, Ordering::Release);
    }

    fn is_closing(&self) -> bool {
        self.shared.is_closing.load(Ordering::Acquire)
    }

    fn note_error(&self, error: &impl ToString) {
        self.settings.ledger.totals.note_error(error.to_string());
    }

    fn round(&mut self) -> Result<(), String> {
        let text = |failure: Failure| failure.to_string();
        self.keep_leases().map_err(text)?;
        self.reap();
        self.end_shards().map_err(text)?;
        if self.due[2] <= elapsed() {
            if !self.table.create().map_err(text)? {
                self.shared.bell.wait(Duration::from_millis(200));
                return Ok(());
            }
            self.sync()?;
            self.due[2] = elapsed() + self.times.sync_every;
        }
        if self.due[1] <= elapsed() {
            let (rows, taken) = self.book.take(&self.table, &elapsed).map_err(text)?;
            self.rows = rows;
            // A lease that is taken again is a new one.
            for key in taken {
                self.stop(&key);
            }
            self.due[1] = elapsed() + self.times.terms.take_every();
        }
        self.start_runs();
        let next = self.due.into_iter().min().unwrap_or_default().saturating_sub(elapsed());
        self.shared.bell.wait(next.min(self.times.terms.failover / 20));
        Ok(())
    }

    /// Renews due leases, and stops the runs of lost ones.
    fn keep_leases(&mut self) -> Result<(), Failure> {
        let mut outcome = Ok(());
        if self.due[0] <= elapsed() {
            self.due[0] = elapsed() + self.times.terms.renew_every();
            outcome = self.book.renew(&self.table, &elapsed);
        }
        for grip in self.book.drop_lost(elapsed()) {
            self.stop(&grip.key);
            self.ended.remove(&grip.key);
        }
        outcome
    }

    fn stop(&self, key: &str) {
        if let Some(run) = self.shared.runs.lock().get(key) {
            run.stop();
        }
    }

    /// Starts the shards that this worker has and may read.
    fn start_runs(&mut self) {
        for grip in self.book.grips().cloned().collect::<Vec<_>>() {
            let Some(lease) = self.rows.iter().find(|lease| lease.key == grip.key) else { continue };
            let is_known = self.threads.contains_key(&grip.key) || self.ended.contains_key(&grip.key);
            if is_known || lease.is_ended() || !may_begin(lease, &self.rows) {
                continue;
            }
            let (settings, shared) = (Arc::clone(&self.settings), Arc::clone(&self.shared));
            let (lease, one, own) = (lease.clone(), Arc::<Run>::default(), Arc::clone(&grip));
            let shown = Arc::clone(&one);
            let body = move || {
                let end = run(&settings, &one, &own, &lease);
                shared.bell.ring();
                end
            };
            // If no thread can be started, the next round tries again.
            match thread::Builder::new().name("streamlog-source".into()).spawn(body) {
                Ok(thread) => {
                    self.shared.runs.lock().insert(grip.key.clone(), shown);
                    self.threads.insert(grip.key.clone(), (grip, thread));
                }
                Err(error) => self.note_error(&error),
            }
        }
    }

    /// Notes which runs have ended.
    fn reap(&mut self) {
        let finished = self.threads.iter().filter(|(_, (_, thread))| thread.is_finished());
        let finished: Vec<String> = finished.map(|(key, _)| key.clone()).collect();
        for key in finished {
            self.shared.runs.lock().remove(&key);
            let Some((grip, thread)) = self.threads.remove(&key) else { continue };
            match thread.join() {
                Ok(RunEnd::ShardEnd(children)) => drop(self.ended.insert(key, (grip, children))),
                // The run may have committed after the table was read, so the table is read again before the shard runs again.
                Ok(RunEnd::Left) => {
                    self.rows.retain(|lease| lease.key != key);
                    self.due[1] = elapsed();
                }
                Err(_) => self.note_error(&format!("the thread of {key} has panicked")),
            }
        }
    }

    /// Marks the leases of ended shards as ended, once the leases of their children exist.
    fn end_shards(&mut self) -> Result<(), Failure> {
        for (key, (grip, children)) in self.ended.clone() {
            let rows = self.table.scan()?;
            let shards = self.settings.stream.list_shards()?;
            let children = if children.is_empty() { children_of(&key, &shards) } else { children };
            for lease in leases_of_children(&key, &children, &shards, &rows) {
                self.table.add(&lease)?;
            }
            let ids: Vec<String> = children.into_iter().map(|(id, _)| id).collect();
            self.table.set_children(&key, &ids)?;
            // If the lease is lost, its new owner ends the shard, too.
            let _ = grip.checkpoint(&self.table, &elapsed, &Checkpoint::ShardEnd, b"")?;
            self.ended.remove(&key);
            // The children may begin.
            self.due[1] = elapsed();
        }
        Ok(())
    }

    /// Creates missing leases, and deletes this worker's leases that are no longer needed.
    fn sync(&mut self) -> Result<(), String> {
        let text = |failure: Failure| failure.to_string();
        // First the leases, so that the list of shards is newer.
        let rows = self.table.scan().map_err(text)?;
        let shards = self.settings.stream.list_shards().map_err(text)?;
        let initial = match self.settings.part.start_at() {
            Position::Latest => Checkpoint::Latest,
            Position::AtTimestamp(_) => Checkpoint::AtTimestamp,
            _ => Checkpoint::TrimHorizon,
        };
        let missing = match rows.is_empty() {
            true => self.first(&shards, &initial)?,
            false => missing_leases(&shards, &rows, &initial).map_err(|Inconsistent(reason)| reason)?,
        };
        for lease in &missing {
            self.table.add(lease).map_err(text)?;
        }
        let mine: Vec<_> = self.book.grips().map(|grip| grip.key.clone()).collect();
        for lease in rows.iter().filter(|lease| mine.contains(&lease.key)) {
            if is_needless(lease, &rows, &shards) {
                self.table.delete(&lease.key).map_err(text)?;
                self.book.forget(&lease.key);
                self.rows.retain(|other| other.key != lease.key);
            }
        }
        Ok(())
    }

    fn first(&self, shards: &[RemoteShard], initial: &Checkpoint) -> Result<Vec<Lease>, String> {
        let at = match self.settings.part.start_at() {
            Position::Latest => shards.iter().filter(|shard| shard.is_open()).collect(),
            Position::AtTimestamp(time) => {
                let there = self.settings.stream.shards_at(time).map_err(|failure| failure.to_string())?;
                shards.iter().filter(|shard| there.contains(&shard.id)).collect()
            }
            _ => roots(shards),
        };
        first_leases(&at, initial).map_err(|Inconsistent(reason)| reason)
    }
}

/// Returns the children of a shard, each with its parents.
fn children_of(key: &str, shards: &[RemoteShard]) -> Children {
    let children = shards.iter().filter(|shard| shard.parents.iter().any(|parent| parent == key));
    children.map(|child| (child.id.clone(), child.parents.clone())).collect()
}
