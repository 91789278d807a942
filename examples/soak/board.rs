//! What the threads of a worker tell each other.

use std::fmt::Display;
use std::io::Write;
use std::process::exit;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use streamlog::{Error, Timestamp};

use super::message::{Counters, Message, Promise};
use super::plan::{Plan, Random};
use super::record::{KEYS_PER_WRITER, KeyIndex};
use super::{Args, now};

/// How a worker ends that found a broken promise.
pub(crate) const EXIT_VIOLATION: i32 = 3;
/// The longest delay that is told apart: a minute, in nanoseconds.
pub(crate) const DELAY_NANOS_MAX: u64 = 60_000_000_000;

/// How far a key is in this run, in records.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Whose put has begun.
    pub(crate) started: AtomicU64,
    /// Whose put has returned.
    pub(crate) acknowledged: AtomicU64,
    /// What survives power loss.
    pub(crate) durable: AtomicU64,
}

/// The one board of a worker.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) args: Args,
    pub(crate) plan: Plan,
    /// By key.
    pub(crate) keys: Vec<Progress>,
    /// In microseconds: a pass of retention that began then is over.
    swept_at: AtomicU64,
    must_stop: AtomicBool,
    counters: Mutex<Counters>,
    delays_nanos: Mutex<Histogram<u64>>,
}

impl Board {
    pub(crate) fn new(args: &Args, plan: Plan) -> super::Result<Self> {
        let key_count = usize::from(args.writers * KEYS_PER_WRITER);
        Ok(Self {
            args: args.clone(),
            plan,
            keys: (0..key_count).map(|_| Progress::default()).collect(),
            swept_at: AtomicU64::new(0),
            must_stop: AtomicBool::new(false),
            counters: Mutex::default(),
            delays_nanos: Mutex::new(new_delays()?),
        })
    }

    /// Dice of its own for each thread.
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

    /// Notes that all that was acknowledged at a time survives power loss now.
    pub(crate) fn note_durable(&self, acknowledged: &[u64]) {
        for (key, &count) in self.keys.iter().zip(acknowledged) {
            key.durable.fetch_max(count, Ordering::SeqCst);
        }
    }

    /// What the supervisor may rely on.
    pub(crate) fn promises(&self) -> Message {
        let at = now();
        // The weakest first: what is durable is acknowledged, and what is acknowledged was started.
        let promise = |key: &Progress| {
            let Progress { started, acknowledged, durable } = key;
            let durable = durable.load(Ordering::SeqCst);
            let acknowledged = acknowledged.load(Ordering::SeqCst);
            Promise { started: started.load(Ordering::SeqCst), acknowledged, durable }
        };
        Message::Promises { at, keys: self.keys.iter().map(promise).collect() }
    }

    /// Notes that a pass of retention is over that began at `began`.
    pub(crate) fn note_sweep(&self, began: Timestamp) {
        self.swept_at.fetch_max(began.as_micros(), Ordering::SeqCst);
    }

    /// From now on no record that is older may be returned.
    pub(crate) fn oldest_allowed(&self) -> Timestamp {
        let swept_at = Timestamp::from_micros(self.swept_at.load(Ordering::SeqCst));
        self.plan.retention.age_max().map_or(Timestamp::default(), |age| swept_at.minus(age))
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

    /// What was counted since the last call.
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

    pub(crate) fn must_stop(&self) -> bool {
        self.must_stop.load(Ordering::SeqCst)
    }

    /// Sleeps, but not beyond the order to stop.
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

/// What a thread of a worker returns: nothing, or which promise is broken and how.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// An error that the library should not have returned there.
pub(crate) fn unexpected(promise: &str, action: &str) -> impl FnOnce(Error) -> String {
    move |error| match error {
        Error::StorageFull(_) => {
            format!("the disk is full, which proves nothing: give the soak more room ({error})")
        }
        error => format!("{promise}: {action}: {error}"),
    }
}

/// Tells the supervisor, and ends the process at once: the directory stays as it is at this moment.
pub(crate) fn end_with(violation: &dyn Display) -> ! {
    // Holding the lock to the end, so that nothing is told after it.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", Message::Violation(violation.to_string()));
    let _ = out.flush();
    exit(EXIT_VIOLATION)
}
