//! How a worker joins a consumer group.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::groups::Group;
use crate::{Error, Position, Result, SECOND, SequenceNumber, ShardId};

/// The shortest time after which a silent worker loses its shards.
const LEASE_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// What a worker does when retention has dropped records before its group handled them.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::{OnTrimmed, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let receipt = stream.put("user-17", "clicked")?;
/// let mut worker = stream.group("billing").worker().on_trimmed(OnTrimmed::SkipToHorizon).open()?;
/// stream.trim_before(receipt.shard, receipt.sequence.plus(1))?;
/// assert!(worker.poll(Duration::ZERO)?.is_none());
/// assert_eq!(worker.skipped_count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum OnTrimmed {
    /// [`Worker::poll`](crate::Worker::poll) returns [`Error::Trimmed`], which names the dropped records (from `requested` to before
    /// `horizon`), until the caller calls [`Worker::skip_to_horizon`](crate::Worker::skip_to_horizon).
    #[default]
    Fail,
    /// The worker continues from the horizon by itself. [`Worker::skipped_count`](crate::Worker::skipped_count) returns how many records it
    /// skipped.
    SkipToHorizon,
}

/// Returns the last record of a shard that the caller has handled, by the caller's own records.
type Positions = Arc<dyn Fn(ShardId) -> Result<Option<SequenceNumber>> + Send + Sync>;

/// The settings with which a worker joins a consumer group: a builder that ends with [`open`](Self::open). [`Group::worker`] returns it.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::{Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let worker = stream
///     .group("billing").worker()
///     .start_at(Position::TrimHorizon)
///     .lease_timeout(Duration::from_secs(30))
///     .batch_records(500)
///     .open()?;
/// assert_eq!(worker.group().name(), "billing");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct WorkerOptions {
    pub(super) group: Group,
    pub(super) start: Position,
    pub(super) lease_timeout: Duration,
    pub(super) records_max: usize,
    pub(super) bytes_max: usize,
    pub(super) on_trimmed: OnTrimmed,
    pub(super) positions: Option<Positions>,
    /// The bound of the hold to set, or `Some(None)` to end it. `None` leaves the hold as it was.
    pub(super) hold: Option<Option<u64>>,
    pub(super) salvage: bool,
}

impl Group {
    /// Returns the settings of a worker that joins the group. [`WorkerOptions::open`] opens the worker.
    ///
    /// ```
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let worker = stream.group("billing").worker().start_at(Position::Latest).open()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn worker(&self) -> WorkerOptions {
        WorkerOptions::new(self.clone())
    }
}

impl WorkerOptions {
    fn new(group: Group) -> Self {
        Self {
            group,
            start: Position::TrimHorizon,
            lease_timeout: 10 * SECOND,
            records_max: 1_000,
            bytes_max: 256 << 10,
            on_trimmed: OnTrimmed::default(),
            positions: None,
            hold: None,
            salvage: false,
        }
    }

    /// Sets where a new group begins: `TrimHorizon`, `Latest` or `AtTimestamp`. A group that exists continues where it was. Shards that are
    /// created later are read from their first record. Default: `TrimHorizon`.
    #[must_use]
    pub fn start_at(mut self, position: Position) -> Self {
        self.start = position;
        self
    }

    /// Sets how long the worker may be silent, neither polling nor committing, before its shards go to others: at least 100 ms. It should
    /// be longer than a batch takes to handle. Default: 10 seconds, as in the Kinesis Client Library.
    #[must_use]
    pub fn lease_timeout(mut self, timeout: Duration) -> Self {
        self.lease_timeout = timeout;
        self
    }

    /// Sets the largest number of records in a batch. Default: 1,000.
    #[must_use]
    pub fn batch_records(mut self, count: usize) -> Self {
        self.records_max = count;
        self
    }

    /// Sets the largest number of bytes in a batch: keys, data and headers together. A larger record comes in a batch of its own. Default:
    /// 256 KiB, which stays in a processor's cache while the batch is handled.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// Sets what to do when retention has overtaken the group. Default: [`OnTrimmed::Fail`].
    #[must_use]
    pub fn on_trimmed(mut self, on_trimmed: OnTrimmed) -> Self {
        self.on_trimmed = on_trimmed;
        self
    }

    /// Takes positions from the caller instead of the group's checkpoints, for a caller that stores them together with its output in one
    /// transaction. Then each record counts exactly once in that output, regardless of crashes.
    ///
    /// The worker calls `last_handled` each time it takes over a shard. `last_handled` returns the last record that was handled, or `None`
    /// to continue from the group's checkpoint. [`Worker::commit`](crate::Worker::commit) is still needed, because it finishes shards that
    /// were split or merged. With [`Durability::Process`](crate::Durability::Process), a power loss may take records that the output
    /// already contains. New records then get the same numbers. The worker returns them if it took over the shard before they were put.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let receipt = stream.put("user-17", "in the database already")?;
    /// stream.put("user-17", "new")?;
    /// // As the database has it.
    /// let last_handled = receipt.sequence;
    /// let mut worker = stream.group("billing").worker().positions_from(move |_shard| Ok(Some(last_handled))).open()?;
    /// let batch = worker.poll(Duration::from_secs(1))?.expect("a new record");
    /// assert_eq!(batch.first_sequence(), Some(last_handled.plus(1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn positions_from(
        mut self,
        last_handled: impl Fn(ShardId) -> Result<Option<SequenceNumber>> + Send + Sync + 'static,
    ) -> Self {
        self.positions = Some(Arc::new(last_handled));
        self
    }

    /// Sets a hold on retention: it keeps records that the group has not handled, up to `bytes_max` bytes of segments beyond what retention
    /// keeps. The hold stays set, even while no worker runs, until a worker is opened with `hold(None)` or the group is deleted.
    /// [`describe`](crate::StreamReader::describe) lists it. Default: unchanged; a new group has none.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let _worker = stream.group("billing").worker().hold(10 << 30).open()?;
    /// assert_eq!(stream.describe().holds[0].name, "billing");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn hold(mut self, bytes_max: impl Into<Option<u64>>) -> Self {
        self.hold = Some(bytes_max.into());
        self
    }

    /// Opens damaged checkpoints, and gives up the damaged ones. The group continues from older checkpoints, or from the oldest record, so
    /// records are delivered again and none is skipped. Default: damage is [`Error::Corrupt`]. Alternatives are to restore the group's
    /// directory from a copy, or [`Group::delete`].
    #[must_use]
    pub fn salvage(mut self, salvage: bool) -> Self {
        self.salvage = salvage;
        self
    }

    /// Refuses settings that are out of range.
    pub(super) fn check(&self) -> Result<()> {
        let refused = |what: &str| Err(Error::InvalidArgument(what.into()));
        if self.lease_timeout < LEASE_TIMEOUT_MIN {
            return refused(
                "a lease timeout below 100 ms: a worker could lose its shards while it handles a batch",
            );
        }
        if self.records_max == 0 {
            return refused("a batch of no records: batch_records is at least 1");
        }
        Ok(())
    }
}

impl fmt::Debug for WorkerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerOptions")
            .field("group", &self.group.name())
            .field("start", &self.start)
            .field("lease_timeout", &self.lease_timeout)
            .field("records_max", &self.records_max)
            .field("bytes_max", &self.bytes_max)
            .field("on_trimmed", &self.on_trimmed)
            .field("has_positions", &self.positions.is_some())
            .field("hold", &self.hold)
            .field("salvage", &self.salvage)
            .finish_non_exhaustive()
    }
}
