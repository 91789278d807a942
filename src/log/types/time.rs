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

/// A step of the clock up to this much is followed without special handling, and a timestamp may be this far ahead of the clock.
pub(crate) const CLOCK_STEP_MAX: Duration = MINUTE;

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
    /// 2020-01-01. A clock that shows an earlier time was never set: a machine without a battery begins in 1970.
    pub(crate) const FIRST_SET: Self = Self::from_millis(1_577_836_800_000);

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

    /// Returns whether the time is so far ahead of the clock that the clock must have been set back since.
    pub(crate) fn is_ahead_of(self, now: Self) -> bool {
        self > now + CLOCK_STEP_MAX
    }

    /// Returns whether the time is from a clock that had not been set yet, while it is set now.
    pub(crate) fn is_from_unset_clock(self, now: Self) -> bool {
        self < Self::FIRST_SET && now >= Self::FIRST_SET
    }

    /// Returns whether nothing can have happened at that time by the clock that shows `now`.
    pub(crate) fn is_wrong_at(self, now: Self) -> bool {
        self.is_ahead_of(now) || self.is_from_unset_clock(now)
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
        // Some systems cannot express times as late as a `Timestamp` can.
        let latest = Duration::from_micros(LAST_WITH_DATE.0);
        UNIX_EPOCH.checked_add(Duration::from_micros(timestamp.0)).unwrap_or(UNIX_EPOCH + latest)
    }
}

/// The source of a stream's time, for the arrival timestamps of records and for retention.
///
/// It may jump, in both directions. Timestamps in a shard never decrease even then. A clock that can be set should also implement
/// [`elapsed`](Self::elapsed), which jumps do not affect, so that a jump neither ends a lease nor makes records expire early.
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

    /// Returns how much time has passed since some fixed moment. It never decreases, and setting the clock does not change it.
    ///
    /// By default it is the time since 1970 according to [`now`](Self::now). Then every jump of the clock counts as time that has passed.
    ///
    /// ```
    /// # use streamlog::{Clock, HOUR, ManualClock, SystemClock, Timestamp};
    /// let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
    /// let before = clock.elapsed();
    /// clock.set(clock.now() + HOUR);
    /// assert_eq!(clock.elapsed(), before, "somebody set the clock, and no time has passed");
    /// clock.advance(HOUR);
    /// assert_eq!(clock.elapsed(), before + HOUR);
    /// assert!(SystemClock.elapsed() <= SystemClock.elapsed());
    /// ```
    fn elapsed(&self) -> Duration {
        self.now().since(Timestamp::default())
    }
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
pub struct ManualClock {
    /// The microseconds by which it was advanced.
    elapsed: AtomicU64,
    /// What the time is beyond that. The sum wraps around.
    beyond: AtomicU64,
}

impl ManualClock {
    /// Returns a clock that stands at `start`.
    pub const fn new(start: Timestamp) -> Self {
        Self { elapsed: AtomicU64::new(0), beyond: AtomicU64::new(start.0) }
    }

    /// Lets time pass. The clock stops at the latest point that a `Timestamp` can hold.
    pub fn advance(&self, by: Duration) {
        let beyond = self.beyond.load(Ordering::SeqCst);
        let advanced = |elapsed: u64| {
            let room = u64::MAX - elapsed.max(elapsed.wrapping_add(beyond));
            Some(elapsed + micros(by).min(room))
        };
        // The closure never refuses.
        let _ = self.elapsed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, advanced);
    }

    /// Sets the clock, even backwards. To the stream this is a jump, not elapsed time: see [`Clock::elapsed`].
    pub fn set(&self, to: Timestamp) {
        self.beyond.store(to.0.wrapping_sub(self.elapsed.load(Ordering::SeqCst)), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let elapsed = self.elapsed.load(Ordering::SeqCst);
        Timestamp(elapsed.wrapping_add(self.beyond.load(Ordering::SeqCst)))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed.load(Ordering::SeqCst))
    }
}
