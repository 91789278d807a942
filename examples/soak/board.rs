//! State that the threads of a worker or of a visitor share.

use std::collections::HashMap;
use std::fmt::Display;
use std::io::Write;
use std::process::exit;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use streamlog::{Batch, Error, Timestamp};

use super::group::spans_of;
use super::message::{Counters, Message, Promise};
use super::plan::{Plan, Random};
use super::record::KeyIndex;
use super::{Args, Role, now, say};

/// The exit code of a process that found a broken promise.
pub(crate) const EXIT_VIOLATION: i32 = 3;
/// The longest delay that the histogram resolves: one minute, in nanoseconds.
pub(crate) const DELAY_NANOS_MAX: u64 = 60_000_000_000;

/// The progress of a key in this run, in records.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Records whose put has started.
    pub(crate) started: AtomicU64,
    /// Records whose put has returned.
    pub(crate) acknowledged: AtomicU64,
    /// Records that survive power loss.
    pub(crate) durable: AtomicU64,
}

/// A thread that is silent for this long hangs.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A waiter in another process than the writer rechecks by itself each second. A wait that ends this long after a put was not ended by it.
const LATE: Duration = Duration::from_millis(500);
/// This many late wakes in a row are not explained by a busy machine.
const LATE_MAX: u64 = 5;

/// A wait that may have lasted until a put woke it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait {
    took: Duration,
    ended: Timestamp,
}

/// The shared state of a process; each worker and each visitor has one.
#[derive(Debug)]
pub(crate) struct Board {
    role: Role,
    pub(crate) args: Args,
    pub(crate) plan: Plan,
    /// Progress by key.
    pub(crate) keys: Vec<Progress>,
    /// In microseconds: the start of the latest completed retention pass.
    swept_at: AtomicU64,
    must_stop: AtomicBool,
    counters: Mutex<Counters>,
    delays_nanos: Mutex<Histogram<u64>>,
    /// When each thread was last heard of.
    heard: Mutex<HashMap<ThreadId, Instant>>,
    /// The number of long waits that ended late since the last one that ended in time.
    late_wakes: AtomicU64,
}

impl Board {
    pub(crate) fn new(args: &Args, role: Role, plan: Plan) -> super::Result<Self> {
        Ok(Self {
            role,
            args: args.clone(),
            plan,
            keys: (0..args.key_count()).map(|_| Progress::default()).collect(),
            swept_at: AtomicU64::new(0),
            must_stop: AtomicBool::new(false),
            counters: Mutex::default(),
            delays_nanos: Mutex::new(new_delays()?),
            heard: Mutex::default(),
            late_wakes: AtomicU64::new(0),
        })
    }

    /// Waits for records with `wait`, which returns whether there are any. A visitor sometimes waits so long that it falls silent if nobody
    /// wakes it. Returns such a wait.
    pub(crate) fn wait(
        &self,
        random: &mut Random,
        wait: impl FnOnce(Duration) -> streamlog::Result<bool>,
    ) -> streamlog::Result<Option<Wait>> {
        let is_long = self.role == Role::Follower && random.one_in(8);
        let time = if is_long { SILENCE_MAX / 2 } else { Duration::from_millis(random.below(100)) };
        let began = Instant::now();
        let is_ready = wait(time)?;
        Ok((is_long && is_ready).then(|| Wait { took: began.elapsed(), ended: now() }))
    }

    /// Checks that puts end waits. The batch is the one read after such a wait.
    pub(crate) fn check_wake(&self, wait: Option<Wait>, batch: &Batch) -> Outcome {
        let (Some(wait), Some(first)) = (wait, batch.iter().next()) else { return Ok(()) };
        let delay = wait.ended.since(first.timestamp()).min(wait.took);
        let is_late = delay > LATE;
        let mut counters = self.counters();
        counters.wakes += 1;
        counters.late_wakes += u64::from(is_late);
        drop(counters);
        if !is_late {
            self.late_wakes.store(0, Ordering::SeqCst);
        } else if self.late_wakes.fetch_add(1, Ordering::SeqCst) + 1 >= LATE_MAX {
            return Err(format!(
                "P6 L8: {LATE_MAX} waits in a row have ended late, the last one {delay:.1?} after a put: nobody is woken"
            ));
        }
        Ok(())
    }

    pub(crate) fn is_worker(&self) -> bool {
        self.role == Role::Worker
    }

    /// Returns a separate random generator for each thread.
    pub(crate) fn random(&self, thread: u64) -> Random {
        Random::new(self.args.seed.unwrap_or_default(), [u64::from(self.plan.run) << 16, thread])
    }

    pub(crate) fn key(&self, key: KeyIndex) -> &Progress {
        &self.keys[usize::from(key)]
    }

    pub(crate) fn started(&self) -> Vec<u64> {
        self.keys.iter().map(|key| key.started.load(Ordering::SeqCst)).collect()
    }

    pub(crate) fn acknowledged(&self) -> Vec<u64> {
        self.keys.iter().map(|key| key.acknowledged.load(Ordering::SeqCst)).collect()
    }

    /// Notes that everything in `acknowledged` now survives power loss.
    pub(crate) fn note_durable(&self, acknowledged: &[u64]) {
        for (key, &count) in self.keys.iter().zip(acknowledged) {
            key.durable.fetch_max(count, Ordering::SeqCst);
        }
    }

    /// Checks the age of a batch from a read that began at a time when no record before `oldest` was allowed. For a visitor's reads, only the
    /// supervisor knows that bound.
    pub(crate) fn check_age(&self, batch: &Batch, began: Timestamp, oldest: Timestamp) -> Outcome {
        let Some(first) = batch.iter().next().map(|record| record.timestamp()) else { return Ok(()) };
        if !self.is_worker() {
            say(&Message::Read { began, ended: now(), oldest: first }.to_string());
        }
        if first >= oldest {
            return Ok(());
        }
        Err(format!(
            "P12: {} returned a record of {first} when all before {oldest} had expired",
            batch.shard()
        ))
    }

    /// Reports a batch to the supervisor, if this is the visitor that reads everything.
    pub(crate) fn report_followed(&self, batch: &Batch) -> Outcome {
        if self.role == Role::Follower && !batch.is_empty() {
            say(&Message::Handled { spans: spans_of(batch)? }.to_string());
        }
        Ok(())
    }

    /// Reports that the visitor that reads everything does not resume where it was, but with the next record in the stream.
    pub(crate) fn report_jump(&self) {
        if self.role == Role::Follower {
            say(&Message::Overtaken { keys: (0..self.args.key_count()).collect() }.to_string());
        }
    }

    /// Returns what the supervisor may rely on.
    pub(crate) fn promises(&self) -> Message {
        let (oldest, at) = (self.oldest_allowed(), now());
        // Load the strongest promise first: a durable record is acknowledged, and an acknowledged record was started.
        let promise = |key: &Progress| {
            let Progress { started, acknowledged, durable } = key;
            let durable = durable.load(Ordering::SeqCst);
            let acknowledged = acknowledged.load(Ordering::SeqCst);
            Promise { started: started.load(Ordering::SeqCst), acknowledged, durable }
        };
        Message::Promises { at, oldest, keys: self.keys.iter().map(promise).collect() }
    }

    /// Notes the completion of the retention pass that started at `began`.
    pub(crate) fn note_sweep(&self, began: Timestamp) {
        self.swept_at.fetch_max(began.as_micros(), Ordering::SeqCst);
    }

    /// From now on no read may return a record older than this.
    pub(crate) fn oldest_allowed(&self) -> Timestamp {
        let swept_at = Timestamp::from_micros(self.swept_at.load(Ordering::SeqCst));
        self.plan.retention.age.map_or(Timestamp::default(), |age| swept_at - age)
    }

    pub(crate) fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_put(&self, delay: Duration, records: usize, bytes: usize) {
        let mut delays = self.delays_nanos.lock().unwrap_or_else(PoisonError::into_inner);
        delays.saturating_record(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX));
        drop(delays);
        let mut counters = self.counters();
        counters.put_records += records as u64;
        counters.put_bytes += bytes as u64;
    }

    /// Returns the counts since the last call.
    pub(crate) fn take_counters(&self) -> Message {
        let mut delays = self.delays_nanos.lock().unwrap_or_else(PoisonError::into_inner);
        let recorded = delays.iter_recorded();
        let recorded = recorded.map(|step| (step.value_iterated_to(), step.count_since_last_iteration()));
        let delays_nanos = recorded.collect();
        delays.reset();
        Message::Counters { counters: std::mem::take(&mut self.counters()), delays_nanos }
    }

    pub(crate) fn stop(&self) {
        self.must_stop.store(true, Ordering::SeqCst);
    }

    /// Returns whether the calling thread must stop, and notes that it is alive.
    pub(crate) fn must_stop(&self) -> bool {
        self.heard().insert(thread::current().id(), Instant::now());
        self.must_stop.load(Ordering::SeqCst)
    }

    fn heard(&self) -> MutexGuard<'_, HashMap<ThreadId, Instant>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that no running thread hangs.
    pub(crate) fn check_threads(&self) -> Outcome {
        match self.heard().values().any(|heard| heard.elapsed() > SILENCE_MAX) {
            true => Err(format!("a thread of a {:?} hangs: it did nothing for {SILENCE_MAX:?}", self.role)),
            false => Ok(()),
        }
    }

    /// Sleeps, but wakes up early when the process must stop.
    pub(crate) fn sleep(&self, duration: Duration) {
        let until = Instant::now() + duration;
        while !self.must_stop() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

pub(crate) fn new_delays() -> super::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, DELAY_NANOS_MAX, 2)?)
}

/// The result of a worker's thread: success, or a description of the broken promise.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// Describes an error that the library should not have returned here.
pub(crate) fn unexpected(promise: &str, action: &str) -> impl FnOnce(Error) -> String {
    move |error| match error {
        Error::StorageFull(_) => {
            format!("the disk is full, which proves nothing: give the soak more room ({error})")
        }
        error => format!("{promise}: {action}: {error}"),
    }
}

/// Reports the violation to the supervisor and ends the process immediately, so that the directory stays as it is now.
pub(crate) fn end_with(violation: &dyn Display) -> ! {
    // Hold the lock until the end, so that no message follows this one.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", Message::Violation(violation.to_string()));
    let _ = out.flush();
    exit(EXIT_VIOLATION)
}
