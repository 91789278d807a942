//! The system's clock, queried no more often than its microseconds change.

use std::cell::Cell;
use std::time::SystemTime;

use super::processor;
use crate::log::types::time::{Clock, Timestamp};

/// The system's clock, and a stream's default.
///
/// A query of the system takes a quarter of the time of a small put. So where the processor has a steady tick counter, a thread that asks
/// again within 2,000 ticks (0.4 to 2 microseconds) gets its previous time again.
///
/// ```
/// # use streamlog::{Clock, MINUTE, SystemClock};
/// let earlier = SystemClock.now();
/// assert!(SystemClock.now().since(earlier) < MINUTE);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// The number of ticks for which a reading is used again.
const HOLDS_TICKS: u64 = 2_000;

/// A thread's last reading.
#[derive(Debug, Clone, Copy)]
struct Reading {
    time: Timestamp,
    /// The processor's tick count at the reading.
    ticks: u64,
    /// The number of ticks for which the reading is used again.
    holds: u64,
}

thread_local! {
    static LAST: Cell<Reading> =
        const { Cell::new(Reading { time: Timestamp::from_micros(0), ticks: 0, holds: 0 }) };
}

impl Clock for SystemClock {
    #[inline]
    fn now(&self) -> Timestamp {
        let (ticks, last) = (processor::ticks(), LAST.get());
        if ticks.wrapping_sub(last.ticks) < last.holds { last.time } else { read(ticks) }
    }
}

#[cold]
fn read(ticks: u64) -> Timestamp {
    let time = SystemTime::now().into();
    let holds = if processor::ticks_are_steady() { HOLDS_TICKS } else { 0 };
    LAST.set(Reading { time, ticks, holds });
    time
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
