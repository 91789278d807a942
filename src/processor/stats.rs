//! What a processor has done, by Lambda's names.

use std::time::Duration;

use crate::{Metric, MetricValue, Timestamp};

/// What a processor has done since its start. [`Processor::stats`](super::Processor::stats) returns it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessorStats {
    /// How often the function was called. (Lambda: `Invocations`)
    pub invocations: u64,
    /// Calls that failed as a whole: the function returned a failure, panicked, or took too long. (Lambda: `Errors`)
    pub errors: u64,
    /// Calls that took longer than the [time limit](super::ProcessorOptions::time_limit).
    pub timeouts: u64,
    /// The total time that calls took. (Lambda: `Duration`)
    pub duration: Duration,
    /// How long the longest call took.
    pub duration_max: Duration,
    /// How old the last record of a batch was when the function was last called with it. (Lambda: `IteratorAge`)
    pub iterator_age: Duration,
    /// Records that are done.
    pub records: u64,
    /// Records that the filter dropped. (Lambda: `FilteredOutEventCount`)
    pub filtered: u64,
    /// Records that were given up, for any [reason](super::DiscardReason). (Lambda: `DroppedEventCount`)
    pub discarded: u64,
    /// Those of the discarded records that came too late for their window, by [event time](super::ProcessorOptions::event_time).
    pub late: u64,
    /// Records that were lost before the processor read them, because retention dropped them or they were damaged.
    pub skipped: u64,
    /// How often a report of discarded records could not be written to its destination. Each such write is retried.
    pub destination_errors: u64,
    /// The last error of the function, the destination or the stream.
    pub last_error: Option<String>,
    /// Calls of the function that run now.
    pub running: usize,
    /// Calls that exceeded the time limit and have not returned. Each occupies a thread.
    pub stuck: usize,
    /// Shards that the processor reads.
    pub shards: usize,
    /// The lowest watermark of these shards, by [event time](super::ProcessorOptions::event_time). None if one of them has no record yet.
    pub watermark: Option<Timestamp>,
}

impl ProcessorStats {
    /// Returns the counts as metrics, with Lambda's names where Lambda has them.
    ///
    /// ```
    /// # use streamlog::{MetricValue, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let processor = stream.processor("audit").start(|_| ())?;
    /// let stats = processor.stats();
    /// let errors = stats.metrics().find(|metric| metric.name == "Errors").expect("it is there");
    /// assert_eq!(errors.value, MetricValue::Total(0));
    /// processor.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn metrics(&self) -> impl Iterator<Item = Metric<'_>> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let totals = [
            ("Invocations", "Count", self.invocations),
            ("Errors", "Count", self.errors),
            ("Timeouts", "Count", self.timeouts),
            ("Duration", "Milliseconds", millis(self.duration)),
            ("ProcessedEventCount", "Count", self.records),
            ("FilteredOutEventCount", "Count", self.filtered),
            ("DroppedEventCount", "Count", self.discarded),
            ("LateEventCount", "Count", self.late),
            ("SkippedEventCount", "Count", self.skipped),
            ("DestinationDeliveryFailures", "Count", self.destination_errors),
        ];
        let levels = [
            ("IteratorAge", "Milliseconds", millis(self.iterator_age)),
            ("ConcurrentExecutions", "Count", self.running as u64),
            ("StuckExecutions", "Count", self.stuck as u64),
        ];
        let totals = totals.into_iter().map(|(name, unit, total)| (name, unit, MetricValue::Total(total)));
        let levels =
            levels.into_iter().map(|(name, unit, level)| (name, unit, MetricValue::Level(Some(level))));
        totals.chain(levels).map(|(name, unit, value)| Metric { name, unit, shard: None, value })
    }

    /// Returns the counts of two processors of different shards together.
    #[cfg(any(feature = "relay-kafka", feature = "relay-kinesis"))]
    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            invocations: self.invocations + other.invocations,
            errors: self.errors + other.errors,
            timeouts: self.timeouts + other.timeouts,
            duration: self.duration + other.duration,
            duration_max: self.duration_max.max(other.duration_max),
            iterator_age: self.iterator_age.max(other.iterator_age),
            records: self.records + other.records,
            filtered: self.filtered + other.filtered,
            discarded: self.discarded + other.discarded,
            late: self.late + other.late,
            skipped: self.skipped + other.skipped,
            destination_errors: self.destination_errors + other.destination_errors,
            last_error: other.last_error.clone().or_else(|| self.last_error.clone()),
            running: self.running + other.running,
            stuck: self.stuck + other.stuck,
            shards: self.shards + other.shards,
            watermark: [self.watermark, other.watermark].into_iter().flatten().min(),
        }
    }
}

/// The counts of a running processor.
pub(super) type Counts = ProcessorStats;
