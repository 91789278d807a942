//! Keeps running deliveries in line with their definitions: starts and ends them, restarts them after changes, and deletes delivery streams.
//!
//! One thread checks all delivery streams. Slow steps, which may wait for a destination, run on a separate thread, at most one for each delivery
//! stream: so none holds up another.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::stream::{DeliveryStream, Runner};
use super::{Registry, start};
use crate::delivery::Delivery;

/// How often the keeper checks, at least, and how often while something is in progress.
const ROUND: Duration = Duration::from_secs(1);
const ROUND_BUSY: Duration = Duration::from_millis(20);
/// After how long a failed start of a delivery is retried: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// The thread.
#[derive(Debug)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    has_news: bool,
    /// All deliveries are to end.
    is_ending: bool,
    /// All deliveries have ended.
    is_ended: bool,
}

/// The next step for a delivery stream.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Something is in progress, or waits for its time.
    Later,
    /// To end the running delivery, and to start the defined one, if any is to run.
    Replace {
        starts: bool,
    },
    /// To delete it.
    Delete,
}

impl Keeper {
    pub(super) fn start(registry: Arc<Registry>) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let work = Arc::clone(&shared);
        let thread = thread::Builder::new().name("gateway-firehose".to_owned());
        let thread = thread.spawn(move || work.run(&registry))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Makes the thread check immediately.
    pub(super) fn notify(&self) {
        self.shared.notify();
    }

    /// Ends all deliveries. Deliveries that take longer continue in the background, and the next start repeats what they have not committed.
    pub(super) fn end(&self, timeout: Duration) {
        let mut state = self.shared.state.lock();
        state.is_ending = true;
        self.shared.changed.notify_one();
        let end = Instant::now() + timeout;
        while !state.is_ended && !self.shared.settled.wait_until(&mut state, end).timed_out() {}
        let is_ended = state.is_ended;
        drop(state);
        let thread = self.thread.lock().take();
        if let Some(thread) = thread.filter(|_| is_ended) {
            // It has nothing to return, and a panic was printed.
            let _ = thread.join();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

impl Shared {
    fn notify(&self) {
        self.state.lock().has_news = true;
        self.changed.notify_one();
    }

    fn run(self: Arc<Self>, registry: &Arc<Registry>) {
        loop {
            let is_ending = {
                let mut state = self.state.lock();
                state.has_news = false;
                state.is_ending
            };
            let mut is_quiet = true;
            for stream in registry.all() {
                let step = decide(Seen::of(&stream, is_ending));
                is_quiet &= step == Step::Nothing;
                match step {
                    Step::Nothing | Step::Later => {}
                    Step::Replace { starts } => self.replace(registry, stream, starts),
                    Step::Delete => {
                        if !registry.finish_deleting(&stream) {
                            put_off(&mut stream.runner.lock(), &stream);
                        }
                    }
                }
            }
            let mut state = self.state.lock();
            if is_ending && is_quiet {
                state.is_ended = true;
                self.settled.notify_all();
                return;
            }
            if !state.has_news && state.is_ending == is_ending {
                self.changed.wait_for(&mut state, if is_quiet { ROUND } else { ROUND_BUSY });
            }
        }
    }

    /// Ends the running delivery and starts the defined one, on a separate thread.
    fn replace(self: &Arc<Self>, registry: &Arc<Registry>, stream: Arc<DeliveryStream>, starts: bool) {
        let mut runner = stream.runner.lock();
        // If the thread does not start, the delivery is dropped here, however long that takes.
        let old = runner.delivery.take();
        let (shared, registry, of) = (Arc::clone(self), Arc::clone(registry), Arc::clone(&stream));
        let work = move || {
            if let Some(Err(error)) = old.map(Delivery::close) {
                tracing::warn!(%error, delivery_stream = of.name, "a delivery did not end well");
            }
            let definition = of.definition();
            let started = starts.then(|| start::delivery(&registry, &of, &definition));
            let mut runner = of.runner.lock();
            runner.is_busy = false;
            match started {
                None => {}
                Some(Ok(delivery)) => {
                    (runner.delivery, runner.version, runner.failures) =
                        (Some(delivery), definition.version, 0);
                }
                Some(Err(reason)) => {
                    tracing::error!(reason, delivery_stream = of.name, "a delivery does not start");
                    put_off(&mut runner, &of);
                }
            }
            drop(runner);
            shared.notify();
        };
        let thread = thread::Builder::new().name("gateway-delivery".to_owned());
        match thread.spawn(work) {
            Ok(thread) => (runner.is_busy, runner.thread) = (true, Some(thread)),
            Err(error) => {
                tracing::error!(%error, delivery_stream = stream.name, "a thread does not start");
                put_off(&mut runner, &stream);
            }
        }
    }
}

fn put_off(runner: &mut Runner, stream: &DeliveryStream) {
    let pause = RETRY_FIRST.saturating_mul(1 << runner.failures.min(6)).min(RETRY_LAST);
    runner.failures += 1;
    runner.retry_at = stream.clock().elapsed() + pause;
}

/// The state that decides the next step for a delivery stream.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// A thread ends the delivery or starts another one.
    is_busy: bool,
    /// The version of the settings of the running delivery, or of one that has ended by itself.
    running: Option<u64>,
    is_over: bool,
    /// The version of the settings that is defined.
    defined: u64,
    /// The gateway ends.
    is_ending: bool,
    /// It is being deleted, and until when that is shown.
    is_deleting: bool,
    is_to_go: bool,
    is_gone: bool,
    /// A failed start waits for its retry.
    is_put_off: bool,
}

impl Seen {
    fn of(stream: &DeliveryStream, is_ending: bool) -> Self {
        let definition = stream.definition();
        let mut runner = stream.runner.lock();
        if !runner.is_busy
            && let Some(thread) = runner.thread.take()
        {
            // The thread is at its end, and no longer uses the runner. A panic was printed.
            let _ = thread.join();
        }
        Self {
            is_busy: runner.is_busy,
            running: runner.delivery.as_ref().map(|_| runner.version),
            is_over: runner.delivery.as_ref().is_some_and(Delivery::is_over),
            defined: definition.version,
            is_ending,
            is_deleting: definition.is_deleting,
            is_to_go: stream.is_to_go(),
            is_gone: stream.is_gone.load(Ordering::Acquire),
            is_put_off: stream.clock().elapsed() < runner.retry_at,
        }
    }
}

fn decide(seen: Seen) -> Step {
    let is_to_end = seen.is_ending || seen.is_deleting;
    match seen.running {
        _ if seen.is_busy => Step::Later,
        Some(_) if is_to_end => Step::Replace { starts: false },
        None if seen.is_ending || seen.is_gone => Step::Nothing,
        None if seen.is_deleting && seen.is_to_go && !seen.is_put_off => Step::Delete,
        None if seen.is_deleting => Step::Later,
        Some(version) if version == seen.defined && !seen.is_over => Step::Nothing,
        _ if seen.is_put_off => Step::Nothing,
        _ => Step::Replace { starts: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_follows_what_is_defined() {
        let (start, end) = (Step::Replace { starts: true }, Step::Replace { starts: false });
        let new = Seen { defined: 3, ..Seen::default() };
        let runs = Seen { running: Some(3), ..new };
        let deleted = Seen { is_deleting: true, ..new };
        let gone = Seen { is_to_go: true, ..deleted };
        for (seen, expected) in [
            (new, &start),
            (runs, &Step::Nothing),
            (Seen { running: Some(2), ..new }, &start),
            (Seen { is_over: true, ..runs }, &start),
            // A failed start waits, and is then retried.
            (Seen { is_put_off: true, ..new }, &Step::Nothing),
            (Seen { is_put_off: true, is_over: true, ..runs }, &Step::Nothing),
            // One thread at a time.
            (Seen { is_busy: true, ..new }, &Step::Later),
            (Seen { is_busy: true, ..gone }, &Step::Later),
            (Seen { is_busy: true, is_ending: true, ..new }, &Step::Later),
            // Nothing is deleted while it runs, nor before its time.
            (Seen { is_deleting: true, ..runs }, &end),
            (Seen { is_deleting: true, is_to_go: true, ..runs }, &end),
            (deleted, &Step::Later),
            (gone, &Step::Delete),
            (Seen { is_put_off: true, ..gone }, &Step::Later),
            (Seen { is_gone: true, ..gone }, &Step::Nothing),
            // The gateway ends: nothing is started or deleted any more.
            (Seen { is_ending: true, ..runs }, &end),
            (Seen { is_ending: true, ..new }, &Step::Nothing),
            (Seen { is_ending: true, ..gone }, &Step::Nothing),
        ] {
            assert_eq!(&decide(seen), expected, "{seen:?}");
        }
    }
}
