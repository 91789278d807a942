//! The settings that all relays have, whatever their target.

use std::fmt;
use std::time::Duration;

use crate::{Destination, Filter, Position, ProcessorOptions, SECOND, Stream, StreamReader};

/// The settings of a [`Relay`](super::Relay). `Stream::relay` returns them. Set the common settings first, then the target, such as `to_kinesis`,
/// and finally call `start`.
///
/// Together, `batch_size`, `lanes` and `concurrency` limit how much is in work at the same time, and so how much a crash may repeat.
#[derive(Clone)]
#[must_use]
pub struct RelayOptions {
    pub(super) stream: StreamReader,
    pub(super) name: String,
    pub(super) processor: ProcessorOptions,
    pub(super) destination: Option<Destination>,
    pub(super) pauses: (Duration, Duration),
}

impl fmt::Debug for RelayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayOptions").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Stream {
    /// Returns the settings of a relay, which forwards the stream's records to a distributed engine. The relay reads as the
    /// [consumer group](Self::group) of this name.
    pub fn relay(&self, name: impl Into<String>) -> RelayOptions {
        let name = name.into();
        RelayOptions::new(self, self.processor(&name), name)
    }
}

impl StreamReader {
    /// Returns the settings of a relay, like [`Stream::relay`]. The relay may run in another process than the one that has the stream open. Only one
    /// process at a time can have a relay's group open.
    pub fn relay(&self, name: impl Into<String>) -> RelayOptions {
        let name = name.into();
        RelayOptions::new(self, self.processor(&name), name)
    }
}

impl RelayOptions {
    fn new(stream: &StreamReader, processor: ProcessorOptions, name: String) -> Self {
        // A call lasts as long as the link is down. It returns when the relay closes.
        let processor = processor.batch_size(500).batch_bytes(4 << 20).time_limit(None).commit_each_batch();
        let options = Self {
            stream: stream.clone(),
            name,
            processor,
            destination: None,
            pauses: (Duration::ZERO, Duration::ZERO),
        };
        options.backoff(Duration::from_millis(100), 10 * SECOND)
    }

    /// Sets the largest number of records in a batch: 1 to 10,000. A crash repeats up to a batch of each lane. Default: 500.
    pub fn batch_size(mut self, records: usize) -> Self {
        self.processor = self.processor.batch_size(records);
        self
    }

    /// Sets the largest number of bytes in a batch, counting keys, data and headers: 1 to 1 GiB. A larger record is a batch of its own. Default: 4
    /// MiB.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.processor = self.processor.batch_bytes(bytes);
        self
    }

    /// Sets how long to wait for a batch to fill up, counted from its first record: up to 300 seconds. Default: zero, so records are sent
    /// immediately.
    pub fn batching_window(mut self, window: Duration) -> Self {
        self.processor = self.processor.maximum_batching_window(window);
        self
    }

    /// Sets how many batches of a shard of the stream are in work at the same time: 1 to 10 *lanes*. All records of a key go to one lane, which
    /// keeps them in order. Default: 1.
    ///
    /// After a change of this number, each shard switches once all records that were read from it are done.
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.processor = self.processor.parallelization_factor(lanes);
        self
    }

    /// Sets how many batches are in work at the same time, over all shards and lanes: 1 to 1,024. Each has a thread. Default: 64.
    pub fn concurrency(mut self, batches: usize) -> Self {
        self.processor = self.processor.concurrency(batches);
        self
    }

    /// Sets where a new relay begins: `TrimHorizon`, `Latest` or `AtTimestamp`. An existing relay continues where it was. Default: `TrimHorizon`.
    pub fn starting_position(mut self, position: Position) -> Self {
        self.processor = self.processor.starting_position(position);
        self
    }

    /// Makes retention keep records that are not relayed yet, up to this many bytes, like [`WorkerOptions::hold`](crate::WorkerOptions::hold).
    /// `None` ends a hold. Default: unchanged; a new relay has none, so it loses records if its link is down for longer than the stream's retention.
    /// [`skipped`](super::RelayStats::skipped) counts them.
    pub fn hold(mut self, bytes_max: impl Into<Option<u64>>) -> Self {
        self.processor = self.processor.hold(bytes_max);
        self
    }

    /// Sets a filter. Only records that match are relayed, and the others count as done. Default: none.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.processor = self.processor.filter(filter);
        self
    }

    /// Sets how long to wait after a failure: the first pause and the longest. Each pause is twice the previous one, until a request succeeds, and
    /// is randomly shortened by up to a half. Default: 100 ms and 10 seconds.
    pub fn backoff(mut self, first: Duration, most: Duration) -> Self {
        self.processor = self.processor.backoff(first, most);
        self.pauses = (first, most);
        self
    }

    /// Sets the destination for reports of records that the target can never accept, as [`Refused`](crate::DiscardReason::Refused), with the reason
    /// as their [error](crate::Discarded::error). Without one, they are only [counted](super::RelayStats::discarded).
    ///
    /// A record is given up only after its report is written. If writing fails, the relay tries again, and the lane waits.
    pub fn on_failure(mut self, destination: Destination) -> Self {
        self.processor = self.processor.on_failure(destination.clone());
        self.destination = Some(destination);
        self
    }
}
