//! The settings that all relays have, wherever they send to.

use std::fmt;
use std::time::Duration;

use crate::{Destination, Filter, Position, ProcessorOptions, SECOND, Stream, StreamReader};

/// The settings of a [`Relay`](super::Relay): a builder that begins with `Stream::relay`, goes on with where to send, such as `to_kinesis`, and ends
/// with `start`. Settings that all relays have come before where to send.
///
/// `batch_size`, `lanes` and `concurrency` together say how much is under way at a time, and so how much a crash may repeat.
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
    /// Returns the settings of a relay, which forwards the stream's records to an engine that is distributed. The name is that of the
    /// [consumer group](Self::group) that the relay reads as.
    pub fn relay(&self, name: impl Into<String>) -> RelayOptions {
        let name = name.into();
        RelayOptions::new(self, self.processor(&name), name)
    }
}

impl StreamReader {
    /// Returns the settings of a relay like [`Stream::relay`], which may run in another process than the one that has the stream open. One process
    /// at a time has a relay's group open.
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

    /// Sets the largest number of bytes in a batch: keys, data and headers together, 1 to 1 GiB. A larger record comes by itself. Default: 4 MiB.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.processor = self.processor.batch_bytes(bytes);
        self
    }

    /// Sets how long to wait for a batch to become full, from its first record on: up to 300 seconds. Default: zero, so that what there is is sent.
    pub fn batching_window(mut self, window: Duration) -> Self {
        self.processor = self.processor.maximum_batching_window(window);
        self
    }

    /// Sets how many batches of a shard of the stream are under way at the same time: 1 to 10 *lanes*. All records of a key are in one lane, and so in
    /// order. Default: 1.
    ///
    /// If there was another number before, a shard changes to the new one once all that was read of it is done.
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.processor = self.processor.parallelization_factor(lanes);
        self
    }

    /// Sets how many batches are under way at the same time, over all shards and lanes: 1 to 1,024. Each has a thread. Default: 64.
    pub fn concurrency(mut self, batches: usize) -> Self {
        self.processor = self.processor.concurrency(batches);
        self
    }

    /// Sets where a new relay begins: `TrimHorizon`, `Latest` or `AtTimestamp`. One that exists continues where it was. Default: `TrimHorizon`.
    pub fn starting_position(mut self, position: Position) -> Self {
        self.processor = self.processor.starting_position(position);
        self
    }

    /// Holds retention back for the relay's group, as [`WorkerOptions::hold`](crate::WorkerOptions::hold) does: what is not relayed is not dropped, up to
    /// this many bytes. `None` ends a hold. Default: as it was set before; a new relay has none, so that a link that is down for longer than the stream
    /// retains records loses some. They count as [`skipped`](super::RelayStats::skipped).
    pub fn hold(mut self, bytes_max: impl Into<Option<u64>>) -> Self {
        self.processor = self.processor.hold(bytes_max);
        self
    }

    /// Sets a filter. The records that match it are relayed, and the others count as done. Default: none.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.processor = self.processor.filter(filter);
        self
    }

    /// Sets how long to wait after a failure: the first time, and at most. Each pause is twice the one before, until something succeeds, and is cut by
    /// up to a half, at random. Default: 100 ms and 10 seconds.
    pub fn backoff(mut self, first: Duration, most: Duration) -> Self {
        self.processor = self.processor.backoff(first, most);
        self.pauses = (first, most);
        self
    }

    /// Sets where a record goes that the other side can never take, for [`Refused`](crate::DiscardReason::Refused), with the reason as its
    /// [error](crate::Discarded::error). Without one, it is only [counted](super::RelayStats::discarded).
    ///
    /// Nothing is given up before it is there: if that fails, it is tried again, and the lane waits.
    pub fn on_failure(mut self, destination: Destination) -> Self {
        self.processor = self.processor.on_failure(destination.clone());
        self.destination = Some(destination);
        self
    }
}
