//! What a queue hands out: records with receipt handles.

use std::fmt;
use std::str::FromStr;

use super::state::Place;
use crate::{Error, OwnedRecord, Result, SequenceNumber, ShardId, Timestamp};

/// Identifies one delivery of a record by a [`Queue`](crate::Queue). Acknowledging, releasing and extending take it.
///
/// Each delivery of a record creates a new handle and invalidates the older ones. A handle converts to and from text, so it can travel to another
/// process and back. It stays valid when the stream is closed and reopened.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::{ReceiptHandle, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let queue = stream.queue("jobs").open()?;
/// stream.put("job-17", "resize")?;
/// let job = queue.receive(1, Duration::from_secs(1))?.remove(0);
/// let text = job.handle.to_string(); // to the worker, and back:
/// queue.acknowledge(&text.parse::<ReceiptHandle>()?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReceiptHandle {
    /// Distinguishes the queues of a stream, and a queue from a deleted one of the same name.
    pub(super) queue: u64,
    pub(super) shard: ShardId,
    pub(super) sequence: SequenceNumber,
    pub(super) number: u32,
}

impl ReceiptHandle {
    /// Returns the shard of the record.
    pub const fn shard(&self) -> ShardId {
        self.shard
    }

    /// Returns the sequence number of the record.
    pub const fn sequence(&self) -> SequenceNumber {
        self.sequence
    }

    pub(super) fn place(&self) -> Place {
        Place { shard: self.shard, sequence: self.sequence }
    }
}

/// Prints numbers, separated by hyphens.
impl fmt::Display for ReceiptHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}-{}-{}", self.queue, self.shard.get(), self.sequence, self.number)
    }
}

/// Parses the output of `Display`. Fails with `InvalidArgument` for anything else.
impl FromStr for ReceiptHandle {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('-');
        let mut next = || parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let handle = (|| {
            Some(Self {
                queue: u64::from_str_radix(next()?, 16).ok()?,
                shard: ShardId::new(next()?.parse().ok()?),
                sequence: SequenceNumber::new(next()?.parse().ok()?),
                number: next()?.parse().ok()?,
            })
        })();
        // One spelling for each handle.
        handle
            .filter(|handle| handle.to_string() == text)
            .ok_or_else(|| Error::InvalidArgument("this text is not a receipt handle".into()))
    }
}

/// A record that a [`Queue`](crate::Queue) has delivered. [`Queue::receive`](crate::Queue::receive) returns it.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let queue = stream.queue("jobs").open()?;
/// let receipt = stream.put("job-17", "resize")?;
/// let job = queue.receive(1, Duration::from_secs(1))?.remove(0);
/// assert_eq!((&*job.record.partition_key, &*job.record.data), (&b"job-17"[..], &b"resize"[..]));
/// assert_eq!((job.shard, job.record.sequence, job.record.timestamp), (receipt.shard, receipt.sequence, receipt.timestamp));
/// assert_eq!(job.receive_count, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueRecord {
    /// The record: partition key, data, headers, sequence number and arrival time.
    pub record: OwnedRecord,
    /// The shard that holds the record. Together with the sequence number, this identifies it.
    pub shard: ShardId,
    /// Identifies this delivery.
    pub handle: ReceiptHandle,
    /// How often the record has been delivered since it was put or restored, including this time.
    pub receive_count: u32,
    /// When the record was first delivered since it was put or restored.
    pub first_received: Timestamp,
}
