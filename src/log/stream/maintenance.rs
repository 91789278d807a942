//! The threads that work behind the puts, and ahead of them, for one stream or for many.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::address::Address;
use super::{Core, Pass, Stream, callback};
use crate::log::shard::reader::wait::Waiter;
use crate::log::sys::process::Process;
use crate::log::types::error::{IoFailure, Result};
use crate::log::types::event::event;
use crate::log::types::options::StreamOptions;
use crate::log::types::time::SECOND;

/// The interval between retention passes.
const SWEEP_INTERVAL: Duration = SECOND;

/// Two threads that do the background work of any number of streams.
///
/// By default, each stream has two threads of its own. That is best for a few streams: a stream with much to sync does not delay the others.
/// A program with hundreds of streams should open them all with one pool.
///
/// The threads end once the last clone of the pool is dropped and the last of its streams is closed.
///
/// ```
/// # use streamlog::{MaintenancePool, StreamOptions};
/// # let directory = tempfile::tempdir()?;
/// let pool = MaintenancePool::new()?;
/// let clicks = pool.open(directory.path().join("clicks"), StreamOptions::new())?;
/// let orders = pool.open(directory.path().join("orders"), StreamOptions::new().shards(4))?;
/// clicks.put("user-17", "/checkout")?;
/// orders.put("user-17", "3 books")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct MaintenancePool {
    threads: Arc<Threads>,
}

impl MaintenancePool {
    /// Starts the threads.
    ///
    /// # Errors
    /// `Io` if the system does not start them.
    pub fn new() -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut threads = Threads { shared: Arc::clone(&shared), running: vec![], process: Process::this() };
        // Two threads: syncing takes long, and preparing what puts need next cannot wait for it.
        for (name, run) in [("streamlog", run_behind as fn(&Shared)), ("streamlog-ahead", run_ahead)] {
            let shared = Arc::clone(&shared);
            let started = Builder::new().name(name.into()).spawn(move || run(&shared));
            threads
                .running
                .push(started.map_err(|error| IoFailure::new("start the maintenance thread", name, error))?);
        }
        Ok(Self { threads: Arc::new(threads) })
    }

    /// Opens a stream like [`StreamOptions::open`]. The pool maintains it until it is closed. With
    /// [`Maintenance::Manual`](crate::Maintenance::Manual), the pool leaves it alone.
    ///
    /// # Errors
    /// Same as [`StreamOptions::open`]; `InvalidArgument` in a child that `fork` made of the process with the pool.
    pub fn open(&self, path: impl AsRef<Path>, options: StreamOptions) -> Result<Stream> {
        self.threads.process.check(path.as_ref())?;
        Stream::open_at(Address::Outside(path.as_ref()), options, Some(self))
    }

    /// Notified when maintenance has work to do.
    pub(super) fn work(&self) -> &Arc<Waiter> {
        &self.threads.shared.work
    }

    /// Notified when something should be prepared ahead of the puts.
    pub(super) fn work_ahead(&self) -> &Arc<Waiter> {
        &self.threads.shared.work_ahead
    }
}

/// The threads of a pool, which end when it is dropped.
#[derive(Debug)]
struct Threads {
    shared: Arc<Shared>,
    running: Vec<JoinHandle<()>>,
    /// The process that has them. A child that `fork` makes of it has none.
    process: Process,
}

/// What the threads of a pool work on.
#[derive(Debug, Default)]
struct Shared {
    work: Arc<Waiter>,
    work_ahead: Arc<Waiter>,
    members: Mutex<Vec<Arc<Member>>>,
    must_stop: AtomicBool,
}

impl Drop for Threads {
    /// Ends the threads after what they are doing, and waits for them.
    ///
    /// A callback does not wait for a thread that runs callbacks: it may be that thread, or one that waits for this callback. Such a thread ends
    /// after its callback.
    fn drop(&mut self) {
        if !self.process.is_this() {
            // Waiting for a thread that does not exist would never end.
            return std::mem::forget(std::mem::take(&mut self.running));
        }
        self.shared.must_stop.store(true, Ordering::Release);
        self.shared.work.notify();
        self.shared.work_ahead.notify();
        for thread in self.running.drain(..) {
            if !callback::is_running() && thread.thread().id() != std::thread::current().id() {
                // The thread returns nothing, and the panic hook has already reported a panic.
                let _ = thread.join();
            }
        }
    }
}

/// A stream that a pool maintains.
#[derive(Debug)]
struct Member {
    core: Arc<Core>,
    /// Locked during a pass, as `ahead` is while something is prepared.
    behind: Mutex<Timers>,
    ahead: Mutex<()>,
    has_left: AtomicBool,
}

#[derive(Debug)]
struct Timers {
    sync: Timer,
    sweep: Timer,
}

/// The place of a stream in its pool.
#[derive(Debug)]
pub(super) struct Membership {
    pool: MaintenancePool,
    member: Arc<Member>,
}

impl Membership {
    /// Makes the pool maintain a stream from now on.
    pub(super) fn begin(core: &Arc<Core>, pool: MaintenancePool) -> Self {
        let timers = Timers {
            sync: Timer::every(core.options.sync_interval),
            sweep: Timer::every(Some(SWEEP_INTERVAL)),
        };
        let member = Arc::new(Member {
            core: Arc::clone(core),
            behind: Mutex::new(timers),
            ahead: Mutex::default(),
            has_left: AtomicBool::new(false),
        });
        pool.threads.shared.members.lock().push(Arc::clone(&member));
        // The thread has to wait for this one, too.
        pool.work().notify();
        Self { pool, member }
    }

    /// Ends the maintenance of the stream after what is being done, and waits for that.
    ///
    /// A callback does not wait for a pass, which may run that callback or wait for it. The pass then changes no more than a pass of another
    /// thread that closing the stream has overtaken.
    pub(super) fn end(self) {
        self.member.has_left.store(true, Ordering::Release);
        self.pool.threads.shared.members.lock().retain(|member| !Arc::ptr_eq(member, &self.member));
        drop(self.member.ahead.lock());
        if !callback::is_running() {
            drop(self.member.behind.lock());
        }
    }
}

impl Shared {
    fn members(&self) -> Vec<Arc<Member>> {
        self.members.lock().clone()
    }

    fn must_stop(&self) -> bool {
        self.must_stop.load(Ordering::Acquire)
    }
}

fn run_ahead(shared: &Shared) {
    while !shared.must_stop() {
        shared.work_ahead.park(None);
        let members = shared.members();
        // One round for each stream in turn, so that none waits for everything that another wants.
        while !shared.must_stop()
            && members.iter().map(|member| member.prepare_ahead()).fold(false, |a, b| a | b)
        {}
    }
}

fn run_behind(shared: &Shared) {
    loop {
        let next = shared.members().iter().filter_map(|member| member.next()).min();
        let is_notified = shared.work.park(next);
        if shared.must_stop() {
            return;
        }
        // The notification does not say which stream has work.
        shared.members().iter().for_each(|member| member.maintain(is_notified));
    }
}

impl Member {
    fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    /// Takes one step for each shard in turn. If something cannot be prepared, the puts do without it and report their own errors. Returns
    /// whether there was something to do.
    fn prepare_ahead(&self) -> bool {
        let _ahead = self.ahead.lock();
        if self.has_left() {
            return false;
        }
        let map = self.core.topology.map_full();
        map.iter().map(|shard| shard.prepare_ahead().unwrap_or(false)).fold(false, |any, one| any | one)
    }

    /// Returns when recurring work is next due.
    fn next(&self) -> Option<Instant> {
        let timers = self.behind.lock();
        [timers.sync.next, timers.sweep.next].into_iter().flatten().min()
    }

    /// Makes a pass if one is due, or in any case.
    fn maintain(&self, in_any_case: bool) {
        let mut timers = self.behind.lock();
        let pass = Pass { sync: timers.sync.is_due(), tidy: timers.sweep.is_due() };
        if self.has_left() || !(in_any_case || pass.sync || pass.tidy) {
            return;
        }
        // A failed sync has poisoned its shard, and puts to it fail. Everything else is retried.
        if let Err(error) = self.core.maintain(pass) {
            event!(
                warn,
                "maintenance has failed, and is tried again",
                stream = self.core.root.display(),
                error = error
            );
        }
    }
}

/// A recurring task.
#[derive(Debug)]
struct Timer {
    interval: Option<Duration>,
    next: Option<Instant>,
}

impl Timer {
    fn every(interval: Option<Duration>) -> Self {
        Self { interval, next: interval.and_then(|interval| Instant::now().checked_add(interval)) }
    }

    /// Returns whether it is time, and if so, sets the next time.
    fn is_due(&mut self) -> bool {
        let is_due = self.next.is_some_and(|next| Instant::now() >= next);
        if is_due {
            *self = Self::every(self.interval);
        }
        is_due
    }
}
