//! The state that a pump's thread shares with its handle.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::columns::Micros;
use super::errors::{Failure, Fault};
use super::operator::Held;
use crate::query::error::QueryError;
use crate::query::interrupt::Stop;
use crate::{Bell, Clock};

/// The longest wait before the clock is checked, which may be moved by hand.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The state that a pump's thread shares with its handle.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) bell: Arc<Bell>,
    /// Set when the pump is closed.
    stop: Stop,
    counts: Mutex<Counts>,
    reload: Mutex<Reload>,
    /// Notified when tables were read again, and when the thread ends.
    reloaded: Condvar,
}

/// How often rereading the tables was requested, and how often it was done.
#[derive(Debug, Default)]
struct Reload {
    asked: u64,
    done: u64,
    outcome: Option<QueryError>,
}

/// What a pump has done so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) records_in: u64,
    pub(super) rows_out: u64,
    pub(super) late: u64,
    pub(super) refused: u64,
    pub(super) skipped: u64,
    pub(super) held: Held,
    pub(super) watermark: Option<Micros>,
    pub(super) last_error: Option<String>,
    pub(super) has_ended: bool,
    /// How often it has found nothing to do.
    pub(super) rests: u64,
}

impl Shared {
    /// Creates the shared state of a pump whose evaluator heeds `stop`.
    pub(super) fn new(stop: Stop) -> Self {
        Self { stop, ..Self::default() }
    }

    pub(super) fn close(&self) {
        self.stop.set();
        self.bell.ring();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.stop.is_set()
    }

    /// Makes the thread reread the tables, and waits until it has.
    pub(super) fn reload(&self) -> Result<(), QueryError> {
        let mut reload = self.reload.lock();
        reload.asked += 1;
        let asked = reload.asked;
        self.bell.ring();
        while reload.done < asked {
            if self.counts.lock().has_ended {
                return Err(QueryError::Invalid("the pump has ended".to_owned()));
            }
            self.reloaded.wait(&mut reload);
        }
        reload.outcome.clone().map_or(Ok(()), Err)
    }

    /// Rereads the tables if somebody waits for that.
    pub(super) fn reload_if_asked(&self, read: impl FnOnce() -> Result<(), QueryError>) {
        let asked = {
            let reload = self.reload.lock();
            if reload.done == reload.asked {
                return;
            }
            reload.asked
        };
        let outcome = read().err();
        let mut reload = self.reload.lock();
        (reload.done, reload.outcome) = (asked, outcome);
        self.reloaded.notify_all();
    }

    /// Notes that the thread ends.
    pub(super) fn end(&self) {
        self.update(|counts| counts.has_ended = true);
        // Under the lock, so that nobody is between checking and waiting.
        let _reload = self.reload.lock();
        self.reloaded.notify_all();
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }

    pub(super) fn update(&self, update: impl FnOnce(&mut Counts)) {
        update(&mut self.counts.lock());
    }

    pub(super) fn note_out(&self, rows: usize) {
        self.update(|counts| counts.rows_out += rows as u64);
    }

    pub(super) fn note_error(&self, error: &str) {
        self.update(|counts| counts.last_error = Some(error.to_owned()));
    }

    pub(super) fn note_failures(&self, failures: &[Failure], last: &str) {
        let late = failures.iter().filter(|failure| failure.fault == Fault::Late).count();
        self.update(|counts| {
            counts.late += late as u64;
            counts.refused += (failures.len() - late) as u64;
            counts.last_error = Some(last.to_owned());
        });
    }

    /// Waits for some time of a clock. Returns false if the pump is closed meanwhile.
    pub(super) fn pause(&self, clock: &Arc<dyn Clock>, pause: Duration) -> bool {
        let end = clock.elapsed().saturating_add(pause);
        while !self.is_closing() {
            let left = end.saturating_sub(clock.elapsed());
            if left.is_zero() {
                return true;
            }
            self.bell.wait(left.min(LOOK_AGAIN));
        }
        false
    }
}
