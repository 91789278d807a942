//! A token bucket: what may pass at a certain rate, with bursts of up to a second's worth.

use std::time::Duration;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A token bucket that holds what comes in a second. It begins full.
///
/// It has no clock of its own: `now` is what the stream's clock returns for [`elapsed`](crate::Clock::elapsed).
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::extend::Bucket;
/// let mut bucket = Bucket::new(1_000);
/// let now = Duration::ZERO;
/// bucket.take(now, 1_000);
/// assert_eq!(bucket.wait(now, 5), Duration::from_millis(5));
/// assert_eq!(bucket.wait(now + Duration::from_millis(5), 5), Duration::ZERO);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// The nanoseconds in which one token comes, times 2^32. Rounded up, so that never more passes than the rate allows.
    token_nanos: u64,
    /// When the bucket is full again. A take changes only this, and it stays correct if the rate changes.
    full_at_nanos: u64,
}

impl Bucket {
    /// Returns a full bucket into which this many tokens come in a second, at least 1.
    pub fn new(per_second: u64) -> Self {
        Self { token_nanos: 0, full_at_nanos: 0 }.at_rate(per_second)
    }

    /// Returns the bucket with another rate. It is as full as before: half full stays half full.
    #[must_use]
    pub fn at_rate(self, per_second: u64) -> Self {
        Self { token_nanos: (NANOS_PER_SECOND << 32).div_ceil(per_second.max(1)), ..self }
    }

    /// Returns how long it takes until this many tokens are there, if nobody takes any meanwhile: zero if they are there now. More than the
    /// bucket holds are there once it is full.
    #[inline]
    pub fn wait(&self, now: Duration, tokens: u64) -> Duration {
        let now = nanos(now);
        let wanted = self.nanos_of(tokens).min(NANOS_PER_SECOND);
        let there_at = self.full_at_nanos.max(now).saturating_add(wanted);
        Duration::from_nanos(there_at.saturating_sub(now.saturating_add(NANOS_PER_SECOND)))
    }

    /// Takes tokens, whether they are there or not. What is missing has to come before the next ones are there.
    #[inline]
    pub fn take(&mut self, now: Duration, tokens: u64) {
        self.full_at_nanos = self.full_at_nanos.max(nanos(now)).saturating_add(self.nanos_of(tokens));
    }

    /// Returns the time in which this many tokens come.
    #[inline]
    fn nanos_of(&self, tokens: u64) -> u64 {
        let nanos = (u128::from(tokens) * u128::from(self.token_nanos) + u128::from(u32::MAX)) >> 32;
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

#[inline]
fn nanos(time: Duration) -> u64 {
    time.as_secs().saturating_mul(NANOS_PER_SECOND).saturating_add(time.subsec_nanos().into())
}
