//! What a subscription hands out.

use crate::{Batch, SequenceNumber, ShardDescription};

/// Records that have arrived, or a heartbeat if none have arrived for a while. [`Subscription::poll`](crate::Subscription::poll) returns it.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::{Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// stream.register_consumer("dashboard")?;
/// let receipt = stream.put("user-17", "clicked")?;
/// let mut subscription = stream.subscribe("dashboard", receipt.shard, Position::TrimHorizon).open()?;
/// let event = subscription.poll(Duration::from_secs(1))?.expect("a record is there");
/// for record in event.batch() {
///     assert_eq!(record.data(), b"clicked");
/// }
/// assert_eq!(event.next_sequence(), Some(receipt.sequence.plus(1)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SubscriptionEvent {
    pub(super) batch: Batch,
    pub(super) next_sequence: Option<SequenceNumber>,
    pub(super) millis_behind_latest: u64,
}

impl SubscriptionEvent {
    /// Returns the records, which share the log's memory. A heartbeat has none, and the end of a shard may have none.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Returns the records.
    pub fn into_batch(self) -> Batch {
        self.batch
    }

    /// Returns the number of the next record. To continue without a gap or a repetition, subscribe again with
    /// [`Position::At`](crate::Position::At) and this number. `None` at the end of the shard: continue with
    /// [`child_shards`](Self::child_shards).
    ///
    /// In Kinesis, `ContinuationSequenceNumber` is the number before it.
    pub fn next_sequence(&self) -> Option<SequenceNumber> {
        self.next_sequence
    }

    /// Returns how far behind the newest record the consumer is after this event, in milliseconds: 0 if it has everything, otherwise at
    /// least 1.
    pub fn millis_behind_latest(&self) -> u64 {
        self.millis_behind_latest
    }

    /// Returns the child shards to continue with at the end of a shard, and `None` before. All parents of a child must be read before the
    /// child.
    pub fn child_shards(&self) -> Option<&[ShardDescription]> {
        self.batch.child_shards()
    }
}
