//! The system's clock, queried no more often than its microseconds change.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use super::processor;
use crate::log::types::time::{Clock, Timestamp};

/// The system's clock, and a stream's default.
///
/// A query of the system takes a quarter of the time of a small put. So if the processor has a steady tick counter, a thread that asks
/// again within 2,000 ticks (0.4 to 2 microseconds) gets its previous time again.
///
/// ```
/// # use streamlog::{Clock, MINUTE, SystemClock};
/// let earlier = SystemClock.now();
/// assert!(SystemClock.now().since(earlier) < MINUTE);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// The number of ticks for which a reading is reused.
const HOLDS_TICKS: u64 = 2_000;

/// A thread's last reading of the time or of the elapsed time.
#[derive(Debug, Clone, Copy)]
struct Reading<T> {
    time: T,
    /// The processor's tick count at the reading.
    ticks: u64,
    /// The number of ticks for which the reading is reused.
    holds: u64,
}

thread_local! {
    static LAST: Cell<Reading<Timestamp>> =
        const { Cell::new(Reading { time: Timestamp::from_micros(0), ticks: 0, holds: 0 }) };
    static LAST_ELAPSED: Cell<Reading<Duration>> =
        const { Cell::new(Reading { time: Duration::ZERO, ticks: 0, holds: 0 }) };
}

/// When this process first asked for the elapsed time.
static BEGUN: OnceLock<Instant> = OnceLock::new();

impl Clock for SystemClock {
    #[inline]
    fn now(&self) -> Timestamp {
        let (ticks, last) = (processor::ticks(), LAST.get());
        if ticks.wrapping_sub(last.ticks) < last.holds { last.time } else { read(ticks) }
    }

    /// The time that the system's monotonic clock counts. On Linux it does not count while the machine is suspended.
    #[inline]
    fn elapsed(&self) -> Duration {
        let (ticks, last) = (processor::ticks(), LAST_ELAPSED.get());
        if ticks.wrapping_sub(last.ticks) < last.holds { last.time } else { read_elapsed(ticks) }
    }
}

#[cold]
fn read(ticks: u64) -> Timestamp {
    let time = SystemTime::now().into();
    LAST.set(Reading { time, ticks, holds: holds() });
    time
}

#[cold]
fn read_elapsed(ticks: u64) -> Duration {
    let time = BEGUN.get_or_init(Instant::now).elapsed();
    LAST_ELAPSED.set(Reading { time, ticks, holds: holds() });
    time
}

fn holds() -> u64 {
    if processor::ticks_are_steady() { HOLDS_TICKS } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system_micros() -> u64 {
        Timestamp::from(SystemTime::now()).as_micros()
    }

    #[test]
    fn the_clock_goes_with_that_of_the_system_and_stands_for_no_longer_than_its_ticks() {
        let until = system_micros() + 20_000;
        let mut before = system_micros();
        while before < until {
            let read = SystemClock.now().as_micros();
            let after = system_micros();
            // The slowest of these counters run at 1 GHz.
            assert!(before <= read + 3 && read <= after, "{read} between {before} and {after}");
            before = after;
        }
    }
}
