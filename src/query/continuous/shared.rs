//! What a pump's thread shares with whoever holds the pump.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::columns::Micros;
use super::errors::{Failure, Fault};
use super::operator::Held;
use crate::{Bell, Clock};

/// How long to wait at most before a look at the clock, which may be one that is moved by hand.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a pump's thread shares with whoever holds the pump.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) bell: Arc<Bell>,
    is_closing: AtomicBool,
    counts: Mutex<Counts>,
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
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.bell.ring();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
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
