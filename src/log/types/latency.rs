//! How long calls took, counted in buckets.

use std::fmt;
use std::time::Duration;

/// The buckets between one power of two and the next, which make a time accurate to an eighth.
const PARTS: usize = 8;
#[cfg(any(feature = "metrics", test))]
const PARTS_LOG: u32 = PARTS.ilog2();
/// One bucket for each time below `PARTS` nanoseconds, then `PARTS` for each power of two.
#[cfg(any(feature = "metrics", test))]
const BUCKET_COUNT: usize = PARTS + (u64::BITS - PARTS_LOG) as usize * PARTS;

/// Returns the bucket of a time.
#[cfg(any(feature = "metrics", test))]
fn bucket_of(nanos: u64) -> usize {
    match nanos.checked_ilog2() {
        Some(log) if log >= PARTS_LOG => {
            let part = (nanos >> (log - PARTS_LOG)) as usize % PARTS;
            (log - PARTS_LOG + 1) as usize * PARTS + part
        }
        _ => nanos as usize,
    }
}

/// Returns the longest time that goes into a bucket, in nanoseconds.
fn longest_of(bucket: usize) -> u64 {
    let (power, part) = (bucket / PARTS, (bucket % PARTS) as u64);
    match power.checked_sub(1) {
        None => part,
        Some(shift) => ((PARTS as u64 + part) << shift) + ((1 << shift) - 1),
    }
}

/// A histogram of how long calls took, accurate to an eighth of the time.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// stream.put("user-17", "clicked")?;
/// if let Some(puts) = stream.stats()?.puts {
///     let latency = puts.put_latency;
///     println!("{} timed, mean {:?}, median {:?}", latency.count(), latency.mean(), latency.quantile(0.5));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Latency {
    /// Empty in a `Latency::default()`.
    counts: Vec<u64>,
    sum_nanos: u64,
}

impl Latency {
    /// Returns how many calls were timed.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum of their times.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos)
    }

    /// Returns their mean, or zero if there are none.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos.checked_div(self.count()).unwrap_or_default())
    }

    /// Returns the time that this fraction of the calls did not exceed, such as 0.99 for 99 %. Returns zero if there are none.
    pub fn quantile(&self, part: f64) -> Duration {
        let wanted = (self.count() as f64 * part.clamp(0.0, 1.0)).ceil() as u64;
        let mut seen = 0;
        let mut buckets = self.buckets();
        let found = buckets.find(|&(_, count)| {
            seen += count;
            count > 0 && seen >= wanted
        });
        found.map_or(Duration::ZERO, |(longest, _)| longest)
    }

    /// Returns all buckets in order: the longest time in each bucket, and its number of calls. The buckets are always the same, except that
    /// a `Latency::default()` has none.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let counted = self.counts.iter().enumerate();
        counted.map(|(bucket, &count)| (Duration::from_nanos(longest_of(bucket)), count))
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, p99] = [0.5, 0.99].map(|part| self.quantile(part));
        f.debug_struct("Latency")
            .field("count", &self.count())
            .field("mean", &self.mean())
            .field("median", &median)
            .field("p99", &p99)
            .finish_non_exhaustive()
    }
}

/// Records the times of calls from any number of threads.
#[cfg(feature = "metrics")]
#[derive(Debug)]
pub(crate) struct LatencyRecorder {
    counts: [std::sync::atomic::AtomicU64; BUCKET_COUNT],
    sum_nanos: std::sync::atomic::AtomicU64,
}

#[cfg(feature = "metrics")]
mod recorder {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::{BUCKET_COUNT, Latency, LatencyRecorder, bucket_of};

    impl Default for LatencyRecorder {
        fn default() -> Self {
            Self { counts: [const { AtomicU64::new(0) }; BUCKET_COUNT], sum_nanos: AtomicU64::new(0) }
        }
    }

    impl LatencyRecorder {
        pub(crate) fn note(&self, time: Duration) {
            let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            self.counts[bucket_of(nanos)].fetch_add(1, Ordering::Relaxed);
            self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
        }

        pub(crate) fn latency(&self) -> Latency {
            let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
            Latency { counts, sum_nanos: self.sum_nanos.load(Ordering::Relaxed) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_goes_into_the_one_bucket_that_holds_it_to_an_eighth() {
        let near = |at: u64| [at.saturating_sub(1), at, at.saturating_add(1)];
        for nanos in (0..64).flat_map(|log| near(1 << log).into_iter().chain(near(3 << log.min(62)))) {
            let bucket = bucket_of(nanos);
            let longest = longest_of(bucket);
            assert!(bucket < BUCKET_COUNT && nanos <= longest, "{nanos}");
            assert!(bucket == 0 || nanos > longest_of(bucket - 1), "{nanos}");
            assert!(longest - nanos <= nanos / 8, "{nanos}");
        }
        assert_eq!((bucket_of(u64::MAX), longest_of(BUCKET_COUNT - 1)), (BUCKET_COUNT - 1, u64::MAX));
    }

    #[test]
    fn quantiles_and_the_mean_are_those_of_what_was_counted() {
        let mut latency = Latency::default();
        assert_eq!(
            (latency.count(), latency.mean(), latency.quantile(0.5)),
            (0, Duration::ZERO, Duration::ZERO)
        );
        latency.counts = vec![0; BUCKET_COUNT];
        for nanos in [100, 100, 100, 1_000_000] {
            latency.counts[bucket_of(nanos)] += 1;
            latency.sum_nanos += nanos;
        }
        assert_eq!((latency.count(), latency.mean().as_nanos()), (4, 250_075));
        assert_eq!(latency.quantile(0.75).as_nanos(), 103);
        assert!(latency.quantile(1.0) >= Duration::from_millis(1));
        assert_eq!(latency.buckets().map(|(_, count)| count).sum::<u64>(), 4);
    }
}
