//! What a processor has done, by Lambda's names.

use std::time::Duration;

/// What a processor has done since it was started. [`Processor::stats`](super::Processor::stats) returns it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessorStats {
    /// How often the function was called. (Lambda: `Invocations`)
    pub invocations: u64,
    /// Calls that failed as a whole: the function answered so, panicked, or took too long. (Lambda: `Errors`)
    pub errors: u64,
    /// Calls that took longer than the [time limit](super::ProcessorOptions::time_limit).
    pub timeouts: u64,
    /// How long calls took, together. (Lambda: `Duration`)
    pub duration: Duration,
    /// How long the longest call took.
    pub duration_max: Duration,
    /// How old the last record of a batch was when the function was last called with it. (Lambda: `IteratorAge`)
    pub iterator_age: Duration,
    /// Records that are done.
    pub records: u64,
    /// Records that no filter wanted. (Lambda: `FilteredOutEventCount`)
    pub filtered: u64,
    /// Records that were given up, because their retries or their age ran out. (Lambda: `DroppedEventCount`)
    pub discarded: u64,
    /// Records that were gone before the processor got to them, because retention had dropped them or damage had taken them.
    pub skipped: u64,
    /// How often a record of what was given up could not be written to its destination. That is tried again.
    pub destination_errors: u64,
    /// The last error of the function, the destination or the stream.
    pub last_error: Option<String>,
    /// Calls of the function that run now.
    pub running: usize,
    /// Calls that took too long and have not returned yet. Each keeps a thread.
    pub stuck: usize,
    /// Shards that the processor reads.
    pub shards: usize,
}

/// The counts of a running processor.
pub(super) type Counts = ProcessorStats;
