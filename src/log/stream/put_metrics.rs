//! Counts and times of the calls to put, kept under the cargo feature `metrics` only.

#[cfg(not(feature = "metrics"))]
pub(super) use blind::PutMetrics;
#[cfg(feature = "metrics")]
pub(super) use counted::PutMetrics;

#[cfg(not(feature = "metrics"))]
mod blind {
    use crate::log::types::error::Result;
    use crate::log::types::options::Durability;
    use crate::log::types::record::Receipt;
    use crate::log::types::stats::PutStats;

    #[derive(Debug, Default)]
    pub(in crate::log::stream) struct PutMetrics(());

    impl PutMetrics {
        #[inline(always)]
        pub(in crate::log::stream) fn put(
            &self,
            _: Durability,
            put: impl FnOnce() -> Result<Receipt>,
        ) -> Result<Receipt> {
            put()
        }

        #[inline(always)]
        pub(in crate::log::stream) fn put_batch(
            &self,
            _: Durability,
            put: impl FnOnce() -> Vec<Result<Receipt>>,
        ) -> Vec<Result<Receipt>> {
            put()
        }

        pub(in crate::log::stream) fn stats(&self) -> Option<PutStats> {
            None
        }
    }
}

#[cfg(feature = "metrics")]
mod counted {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    use crate::log::types::error::{Error, Result};
    use crate::log::types::latency::LatencyRecorder;
    use crate::log::types::options::Durability;
    use crate::log::types::record::Receipt;
    use crate::log::types::stats::PutStats;

    /// A thread times one in this many calls where a put takes no longer than reading the clock twice.
    const TIMED_EVERY: u32 = 64;

    thread_local! {
        static CALLS: Cell<u32> = const { Cell::new(0) };
    }

    /// On cache lines of its own, because every put reads what lies beside it.
    #[derive(Debug, Default)]
    #[repr(align(64))]
    pub(in crate::log::stream) struct PutMetrics {
        put_latency: LatencyRecorder,
        put_failed: AtomicU64,
        batch_latency: LatencyRecorder,
        batch_success: AtomicU64,
        batch_records: AtomicU64,
        batch_records_failed: AtomicU64,
        batch_records_throttled: AtomicU64,
    }

    #[inline]
    fn is_timed(durability: Durability) -> bool {
        let is_nth = |calls: &Cell<u32>| {
            calls.set(calls.get().wrapping_add(1));
            calls.get().is_multiple_of(TIMED_EVERY)
        };
        durability == Durability::Power || CALLS.with(is_nth)
    }

    #[inline]
    fn timed<T>(durability: Durability, latency: &LatencyRecorder, put: impl FnOnce() -> T) -> T {
        let started = is_timed(durability).then(Instant::now);
        let outcome = put();
        if let Some(started) = started {
            latency.note(started.elapsed());
        }
        outcome
    }

    fn is_throttled(error: &Error) -> bool {
        matches!(error, Error::Throttled { .. })
    }

    impl PutMetrics {
        #[inline]
        pub(in crate::log::stream) fn put(
            &self,
            durability: Durability,
            put: impl FnOnce() -> Result<Receipt>,
        ) -> Result<Receipt> {
            let outcome = timed(durability, &self.put_latency, put);
            if outcome.as_ref().is_err_and(|error| !is_throttled(error)) {
                self.put_failed.fetch_add(1, Ordering::Relaxed);
            }
            outcome
        }

        #[inline]
        pub(in crate::log::stream) fn put_batch(
            &self,
            durability: Durability,
            put: impl FnOnce() -> Vec<Result<Receipt>>,
        ) -> Vec<Result<Receipt>> {
            let outcomes = timed(durability, &self.batch_latency, put);
            let put_count = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            self.batch_success.fetch_add((put_count > 0).into(), Ordering::Relaxed);
            self.batch_records.fetch_add(put_count as u64, Ordering::Relaxed);
            if put_count < outcomes.len() {
                let errors = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
                let throttled = errors.filter(|error| is_throttled(error)).count();
                let failed = outcomes.len() - put_count - throttled;
                self.batch_records_failed.fetch_add(failed as u64, Ordering::Relaxed);
                self.batch_records_throttled.fetch_add(throttled as u64, Ordering::Relaxed);
            }
            outcomes
        }

        pub(in crate::log::stream) fn stats(&self) -> Option<PutStats> {
            let total = |count: &AtomicU64| count.load(Ordering::Relaxed);
            Some(PutStats {
                put_latency: self.put_latency.latency(),
                put_failed: total(&self.put_failed),
                batch_latency: self.batch_latency.latency(),
                batch_success: total(&self.batch_success),
                batch_records: total(&self.batch_records),
                batch_records_failed: total(&self.batch_records_failed),
                batch_records_throttled: total(&self.batch_records_throttled),
            })
        }
    }
}
