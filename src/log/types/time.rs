//! Points in time, and the clock they come from.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One second.
pub const SECOND: Duration = Duration::from_secs(1);
/// One minute.
pub const MINUTE: Duration = Duration::from_secs(60);
/// One hour, for expressions like `24 * HOUR`.
pub const HOUR: Duration = Duration::from_secs(60 * 60);
/// One day of 24 hours.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A point in time: whole microseconds since 1970-01-01 00:00 UTC.
///
/// It prints as RFC 3339 in UTC, and parses what it prints, with any number of decimals up to 9 or none; those beyond microseconds are
/// dropped.
///
/// ```
/// # use streamlog::{HOUR, Timestamp};
/// let time = Timestamp::from_millis(1_700_000_000_000);
/// assert_eq!((time - HOUR).as_millis(), 1_699_996_400_000);
/// let now: Timestamp = std::time::SystemTime::now().into();
/// assert!(now.since(time) > HOUR);
/// assert_eq!(time.to_string(), "2023-11-14T22:13:20.000000Z");
/// assert_eq!("2023-11-14T22:13:20Z".parse::<Timestamp>()?, time);
/// # Ok::<(), streamlog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Returns the point in time this many microseconds after 1970.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Returns the point in time this many milliseconds after 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Returns the microseconds since 1970.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns the milliseconds since 1970, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// Returns the time from `earlier` to this point, or zero if `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Saturates at the latest point that a `Timestamp` can hold.
impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }
}

/// Saturates at 1970.
impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }
}

/// The last microsecond of the year 9999, the last year that RFC 3339 can express.
const LAST_WITH_DATE: Timestamp = Timestamp(253_402_300_799_999_999);
/// What follows the number of a later time.
pub(super) const BEYOND_DATES: &str = " microseconds after 1970";

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self <= LAST_WITH_DATE {
            humantime::format_rfc3339_micros((*self).into()).fmt(f)
        } else {
            write!(f, "{}{BEYOND_DATES}", self.0)
        }
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(micros(time.duration_since(UNIX_EPOCH).unwrap_or_default()))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        UNIX_EPOCH + Duration::from_micros(timestamp.0)
    }
}

/// The source of a stream's time, for the arrival timestamps of records and for retention.
///
/// It may jump backwards. Timestamps in a shard never decrease even then.
///
/// ```
/// # use std::sync::Arc;
/// # use streamlog::{Clock, StreamOptions, Timestamp};
/// # let directory = tempfile::tempdir()?;
/// /// Time as the simulation has it.
/// #[derive(Debug)]
/// struct Simulated;
///
/// impl Clock for Simulated {
///     fn now(&self) -> Timestamp {
///         Timestamp::from_millis(1_700_000_000_000)
///     }
/// }
///
/// let stream = StreamOptions::new().clock(Arc::new(Simulated)).open(directory.path())?;
/// assert_eq!(stream.now().as_millis(), 1_700_000_000_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
}

/// A clock that stands still until the caller moves it, for tests.
///
/// ```
/// # use std::sync::Arc;
/// # use streamlog::{Clock, ManualClock, HOUR, Timestamp};
/// let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
/// clock.advance(2 * HOUR);
/// assert_eq!(clock.now().as_millis(), 1_700_007_200_000);
/// ```
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Returns a clock that stands at `start`.
    pub const fn new(start: Timestamp) -> Self {
        Self(AtomicU64::new(start.0))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(micros(by), Ordering::SeqCst);
    }

    /// Sets the clock, also backwards.
    pub fn set(&self, to: Timestamp) {
        self.0.store(to.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}
