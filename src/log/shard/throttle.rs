//! What passes into a shard, or out of it, within the stream's limits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::log::types::bucket::Bucket;

/// A read returns at most what the limit lets pass in this time. So no read makes others wait for longer, unless a single record does.
const READ_SECONDS_MAX: u64 = 5;

/// Lets through what the limits of one direction allow: bytes, and records or calls. The appender has those of the puts.
///
/// Time is what the stream's clock returns for [`elapsed`](crate::Clock::elapsed).
#[derive(Debug, Default)]
pub(super) struct Buckets {
    bytes: Option<Bucket>,
    count: Option<Bucket>,
    /// The most bytes that a read returns.
    read_bytes_max: u64,
    /// How many records or calls were refused.
    pub(super) refused_count: u64,
}

impl Buckets {
    /// Sets the limits, each for one second. A limit that was set before stays as used up as it was.
    pub(super) fn set(&mut self, bytes: Option<u64>, count: Option<u64>) {
        let at_rate = |bucket: Option<Bucket>, rate: Option<u64>| {
            rate.map(|rate| bucket.map_or_else(|| Bucket::new(rate), |bucket| bucket.at_rate(rate)))
        };
        self.bytes = at_rate(self.bytes, bytes);
        self.count = at_rate(self.count, count);
        self.read_bytes_max = bytes.map_or(u64::MAX, |bytes| bytes.saturating_mul(READ_SECONDS_MAX));
    }

    /// Lets one record through. Otherwise it returns the time after which it may pass.
    #[inline]
    pub(super) fn admit(&mut self, now: Duration, bytes: u64) -> Result<(), Duration> {
        let wait = self.wait(now, bytes, 1);
        if wait.is_zero() {
            self.take(now, bytes, 1);
            return Ok(());
        }
        Err(self.refuse(wait))
    }

    /// Lets through as many of the first records as may pass, given the bytes of each. Returns, for each of the others, the time after which it
    /// may pass together with the others before it.
    pub(super) fn admit_first(&mut self, now: Duration, bytes: impl Iterator<Item = u64>) -> Vec<Duration> {
        let mut left = bytes.peekable();
        while let Some(bytes) = left.next_if(|&bytes| self.wait(now, bytes, 1).is_zero()) {
            self.take(now, bytes, 1);
        }
        let (mut bytes, mut count) = (0u64, 0);
        let waits = left.map(|more| {
            (bytes, count) = (bytes.saturating_add(more), count + 1);
            self.refuse(self.wait(now, bytes, count))
        });
        waits.collect()
    }

    #[inline]
    fn wait(&self, now: Duration, bytes: u64, count: u64) -> Duration {
        let wait = |bucket: &Option<Bucket>, tokens| bucket.map_or(Duration::ZERO, |it| it.wait(now, tokens));
        wait(&self.bytes, bytes).max(wait(&self.count, count))
    }

    #[inline]
    fn take(&mut self, now: Duration, bytes: u64, count: u64) {
        for (bucket, tokens) in [(&mut self.bytes, bytes), (&mut self.count, count)] {
            if let Some(bucket) = bucket {
                bucket.take(now, tokens);
            }
        }
    }

    /// Counts what is refused. Returns the time in whole microseconds, which is what a clock counts.
    fn refuse(&mut self, wait: Duration) -> Duration {
        self.refused_count += 1;
        let micros = wait.as_nanos().div_ceil(1_000);
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// Limits the reads of a shard.
#[derive(Debug, Default)]
pub(super) struct ReadThrottle {
    /// Whether there is a limit. Without one, the buckets are not looked at.
    is_on: AtomicBool,
    buckets: Mutex<Buckets>,
}

impl ReadThrottle {
    /// Sets the limits, each for one second.
    pub(super) fn set(&self, bytes: Option<u64>, calls: Option<u64>) {
        self.buckets.lock().set(bytes, calls);
        self.is_on.store(bytes.is_some() || calls.is_some(), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Returns how many calls were refused.
    pub(super) fn refused_count(&self) -> u64 {
        self.buckets.lock().refused_count
    }

    /// Lets a read begin, which [`end`](Self::end) ends. Returns how many bytes it may return.
    pub(super) fn begin(&self, now: Duration) -> Result<usize, Duration> {
        let mut buckets = self.buckets.lock();
        let wait = buckets.wait(now, 1, 1);
        if wait.is_zero() {
            buckets.take(now, 0, 1);
            return Ok(usize::try_from(buckets.read_bytes_max).unwrap_or(usize::MAX));
        }
        Err(buckets.refuse(wait))
    }

    /// Notes what a read returned, which is not known before.
    pub(super) fn end(&self, now: Duration, bytes: u64) {
        self.buckets.lock().take(now, bytes, 0);
    }
}
