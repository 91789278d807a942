//! The settings with which a queue is opened.

use std::fmt;
use std::time::Duration;

use super::settings::Settings;
use super::shared::Queue;
use crate::{Error, Position, Result, Stream, StreamReader, extend};

/// The longest visibility timeout and the longest delay, as in Kinesis and SQS: 12 hours.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(43_200);
/// The most records that one call hands out or takes back.
pub(super) const RECORDS_MAX: usize = 10_000;

/// The settings with which a queue is opened. [`Stream::queue`] returns them, and [`open`](Self::open) opens the queue.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let queue = stream
///     .queue("jobs")
///     .visibility_timeout(Duration::from_secs(60))
///     .max_receive_count(3)
///     .open()?;
/// assert_eq!(queue.name(), "jobs");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct QueueOptions {
    pub(super) reader: StreamReader,
    /// Keeps the stream open, if the queue comes from a stream and not from a reader.
    pub(super) stream: Option<Stream>,
    pub(super) name: String,
    pub(super) visibility_timeout: Duration,
    pub(super) receives_max: Option<u32>,
    pub(super) keeps_dead_letters: bool,
    pub(super) start: Position,
    pub(super) is_ordered: bool,
    pub(super) outstanding_max: usize,
    /// The bound of the hold to set, or `Some(None)` to end it. `None` leaves the hold as it was.
    pub(super) hold: Option<Option<u64>>,
    pub(super) salvage: bool,
}

impl Stream {
    /// Returns the settings of the queue of this name. [`QueueOptions::open`] opens it, and creates it if it is new.
    ///
    /// A queue delivers the records of the stream one by one, to any number of threads and tasks, which acknowledge them one by one. Amazon SQS and
    /// Kinesis' queues work the same way. A stream may have any number of queues and [groups](Self::group), and each of them reads the whole stream.
    ///
    /// A name has 1 to 128 letters, digits, `.`, `_` and `-`. It must not begin with `.`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let queue = stream.queue("jobs").open()?;
    /// stream.put("job-17", "resize")?;
    /// for job in queue.receive(10, Duration::from_secs(1))? {
    ///     println!("{:?}", job.record.data);
    ///     queue.acknowledge(&job.handle)?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn queue(&self, name: impl Into<String>) -> QueueOptions {
        QueueOptions::new(StreamReader::clone(self), Some(self.clone()), name.into())
    }
}

impl StreamReader {
    /// Returns the settings of the queue of this name, like [`Stream::queue`].
    ///
    /// A queue may run in another process than the one that has the stream open, and works the same way there. Only one process at a time can have a
    /// queue open. Others fail with `Locked`, which names that process. The process needs permission to write in the directory `queues` of the
    /// stream.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::{Stream, StreamReader};
    /// # let directory = tempfile::tempdir()?;
    /// let stream = Stream::open(directory.path())?; // in one process
    /// stream.put("job-17", "resize")?;
    ///
    /// let queue = StreamReader::open(directory.path())?.queue("jobs").open()?; // in another one
    /// let job = queue.receive(1, Duration::from_secs(1))?.remove(0);
    /// queue.acknowledge(&job.handle)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn queue(&self, name: impl Into<String>) -> QueueOptions {
        QueueOptions::new(self.clone(), None, name.into())
    }
}

impl QueueOptions {
    fn new(reader: StreamReader, stream: Option<Stream>, name: String) -> Self {
        let Settings { max_receive_count, keep_dead_letters, outstanding_max, .. } = Settings::DEFAULT;
        Self {
            reader,
            stream,
            name,
            visibility_timeout: Settings::DEFAULT.visibility_timeout(),
            receives_max: max_receive_count,
            keeps_dead_letters: keep_dead_letters,
            start: Position::TrimHorizon,
            is_ordered: false,
            outstanding_max,
            hold: None,
            salvage: false,
        }
    }

    /// Sets how long a delivered record stays hidden from other receivers: up to 12 hours. If it is not acknowledged by then, it is delivered again.
    /// Choose a timeout longer than the handling of a record takes. [`Queue::extend`](crate::Queue::extend) extends it for one record. Records in
    /// flight keep the timeout with which they were delivered. Default: 30 seconds, as in Kinesis.
    #[must_use]
    pub fn visibility_timeout(mut self, timeout: Duration) -> Self {
        self.visibility_timeout = timeout;
        self
    }

    /// Sets how often a record is delivered before it becomes a [dead letter](crate::Queue::receive_dead_letters): 1 to 1,000, or `None` to deliver
    /// it until it is acknowledged. Default: 6, as in Kinesis. [`Queue::set_max_receive_count`](crate::Queue::set_max_receive_count) changes it
    /// while the queue is open.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let queue = stream.queue("jobs").max_receive_count(None).open()?;
    /// stream.put("job-17", "resize")?;
    /// for count in 1..=1_001 {
    ///     let job = queue.receive(1, Duration::ZERO)?.remove(0);
    ///     assert_eq!(job.receive_count, count);
    ///     queue.release(&job.handle, Duration::ZERO)?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn max_receive_count(mut self, count: impl Into<Option<u32>>) -> Self {
        self.receives_max = count.into();
        self
    }

    /// Sets whether the queue keeps dead letters. If not, the queue drops a record after its last delivery. The record stays in the stream in either
    /// case. Default: true.
    #[must_use]
    pub fn keep_dead_letters(mut self, keep: bool) -> Self {
        self.keeps_dead_letters = keep;
        self
    }

    /// Sets where a new queue begins: `TrimHorizon`, `Latest` or `AtTimestamp`. An existing queue continues where it was. Shards that are created
    /// later are read from their first record. Default: `TrimHorizon`, as for consumer groups; in Kinesis it is `Latest`.
    #[must_use]
    pub fn start_at(mut self, position: Position) -> Self {
        self.start = position;
        self
    }

    /// Keeps the order of each partition key: one record of a key is in flight at a time, and a record waits until all earlier ones of its key
    /// are acknowledged or dead letters. Keys do not wait for each other. This is fixed when the queue is created. Default: no order.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let queue = stream.queue("jobs").ordered_by_key().open()?;
    /// stream.put("image-17", "resize")?;
    /// stream.put("image-17", "publish")?;
    /// let resize = queue.receive(10, Duration::ZERO)?;
    /// assert_eq!(resize.len(), 1, "to publish has to wait");
    /// queue.acknowledge(&resize[0].handle)?;
    /// assert_eq!(&*queue.receive(10, Duration::ZERO)?[0].record.data, b"publish");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn ordered_by_key(mut self) -> Self {
        self.is_ordered = true;
        self
    }

    /// Sets how many records may be outstanding: in flight, delayed, waiting for their key, or dead letters. Each takes 100 to 300 bytes of memory.
    /// At this number, the queue stops reading new records until some are acknowledged. 1 to 10,000,000. Default: 120,000, as in SQS.
    #[must_use]
    pub fn outstanding_max(mut self, count: usize) -> Self {
        self.outstanding_max = count;
        self
    }

    /// Makes retention keep unacknowledged records, up to `bytes_max` bytes of segments beyond what it would keep anyway. The hold persists, even
    /// while the queue is not open, until the queue is opened with `hold(None)` or deleted. [`describe`](crate::StreamReader::describe) lists it as
    /// `queue:` and the name. Only the process that has the stream open can set and end it. Default: unchanged; a new queue has none.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let _queue = stream.queue("jobs").hold(10 << 30).open()?;
    /// assert_eq!(stream.describe().holds[0].name, "queue:jobs");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn hold(mut self, bytes_max: impl Into<Option<u64>>) -> Self {
        self.hold = Some(bytes_max.into());
        self
    }

    /// Opens a damaged queue and discards the damaged part. The queue continues from its state before the damage, or from the oldest record, so
    /// records may be delivered again and none is skipped. Default: damage is [`Error::Corrupt`].
    #[must_use]
    pub fn salvage(mut self, salvage: bool) -> Self {
        self.salvage = salvage;
        self
    }

    /// Opens the queue, and creates it if it is new.
    ///
    /// # Errors
    /// `InvalidArgument` for a setting out of range, an invalid name, or a queue that was created with a different ordering; `Locked` if the queue
    /// is open already, here or in another process; `Corrupt` if its journal is damaged; `Closed`, `StorageFull`, `Io`.
    pub fn open(self) -> Result<Queue> {
        extend::check_name("a queue", &self.name)?;
        check_timeout("visibility_timeout", self.visibility_timeout)?;
        check_receives(self.receives_max)?;
        extend::check_range("outstanding_max", self.outstanding_max, 1..=10_000_000)?;
        extend::check_process(&self.reader)?;
        Queue::open(self)
    }
}

impl Queue {
    /// Changes how often a record is delivered before it becomes a dead letter, like [`max_receive_count`](crate::QueueOptions::max_receive_count),
    /// until the queue is opened again. A record that has already been delivered that often becomes a dead letter: if it is in flight or delayed,
    /// when its timeout or delay ends, and otherwise now. Dead letters remain dead letters.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let queue = stream.queue("jobs").open()?;
    /// stream.put("job-17", "resize")?;
    /// let job = queue.receive(1, Duration::from_secs(1))?.remove(0);
    /// queue.set_max_receive_count(1)?;
    /// queue.release(&job.handle, Duration::ZERO)?;
    /// assert_eq!(queue.receive_dead_letters(1, Duration::ZERO)?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for a count out of range; `Closed`; `StorageFull`, `Poisoned`, `Io`: the new count applies, and records may become dead
    /// letters later than they should.
    pub fn set_max_receive_count(&self, count: impl Into<Option<u32>>) -> Result<()> {
        let count = count.into();
        check_receives(count)?;
        let mut locked = self.shared.lock()?;
        let moment = self.shared.moment();
        locked.settle(moment)?;
        let inner = locked.inner();
        let mut settings = self.shared.settings;
        settings.max_receive_count = count;
        settings.keep(&inner.journal)?;
        inner.state.set_receives_max(count);
        while locked.inner().state.bury_spent() > 0 {
            locked.commit(moment)?;
        }
        Ok(())
    }
}

/// Refuses a number of receives that is out of range.
pub(super) fn check_receives(receives_max: Option<u32>) -> Result<()> {
    receives_max.map_or(Ok(()), |count| extend::check_range("max_receive_count", count, 1..=1_000))
}

/// Refuses a timeout or a delay that is too long.
pub(super) fn check_timeout(name: &str, timeout: Duration) -> Result<()> {
    if timeout <= TIMEOUT_MAX {
        return Ok(());
    }
    let reason = format!("{name} of {timeout:?} is out of range: 0 seconds to 12 hours");
    Err(Error::InvalidArgument(reason.into()))
}

impl fmt::Debug for QueueOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueOptions")
            .field("name", &self.name)
            .field("visibility_timeout", &self.visibility_timeout)
            .field("receives_max", &self.receives_max)
            .field("keeps_dead_letters", &self.keeps_dead_letters)
            .field("start", &self.start)
            .field("is_ordered", &self.is_ordered)
            .field("outstanding_max", &self.outstanding_max)
            .field("hold", &self.hold)
            .field("salvage", &self.salvage)
            .finish_non_exhaustive()
    }
}
