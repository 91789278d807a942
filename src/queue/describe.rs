//! The description of a queue.

use std::collections::BTreeMap;

use super::entry::Moment;
use super::history::History;
use super::options::TIMEOUT_MAX;
use super::queues::{is_missing, streams_of};
use super::shared::Queue;
use super::state::{Cursor, Rules, State, Visibility};

use crate::{
    Error, Journal, Lag, Position, Result, SequenceNumber, ShardId, StreamReader, Timestamp, extend,
};

/// How far a queue is. [`Queue::describe`](crate::Queue::describe) returns it.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let queue = stream.queue("jobs").open()?;
/// stream.put("job-17", "resize")?;
/// stream.put("job-18", "resize")?;
/// queue.receive(1, Duration::ZERO)?;
/// let described = queue.describe()?;
/// assert_eq!((described.unread.record_count, described.in_flight_count), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct QueueDescription {
    /// The queue's name.
    pub name: String,
    /// When the queue was created.
    pub created_at: Timestamp,
    /// Whether it keeps the [order of each key](crate::QueueOptions::ordered_by_key).
    pub is_ordered_by_key: bool,
    /// What the queue has not read yet. None of it was ever handed out.
    pub unread: Lag,
    /// The records that were read and are not hidden: to be handed out again, or waiting for another record of their key.
    pub visible_count: usize,
    /// The records that are handed out.
    pub in_flight_count: usize,
    /// The records that are hidden because of a delay.
    pub delayed_count: usize,
    /// The dead letters, handed out or not.
    pub dead_letter_count: usize,
    /// How many records retention dropped before they were acknowledged, since this process opened the queue. If a whole shard expired unread,
    /// its end is not known, and the number counts up to the beginning of its children. So it may be too large.
    pub expired_count: u64,
    /// How many records damage took before they were acknowledged, and the owner of the stream gave up, since this process opened the queue.
    pub lost_count: u64,
}

impl Queue {
    /// Returns the queue's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Returns how many records are in which state.
    ///
    /// # Errors
    /// `Closed`, `StorageFull`, `Poisoned`, `Io`.
    pub fn describe(&self) -> Result<QueueDescription> {
        let mut locked = self.shared.lock()?;
        let moment = self.shared.moment();
        locked.settle(moment)?;
        let inner = locked.inner();
        inner.source.expire(&mut inner.state)?;
        locked.commit(moment)?;
        let inner = locked.inner();
        let described = describe(&self.shared.stream, &self.shared.name, &inner.state)?;
        Ok(QueueDescription {
            created_at: self.shared.created,
            is_ordered_by_key: self.shared.is_ordered,
            expired_count: inner.source.expired_count,
            lost_count: inner.source.lost_count,
            ..described
        })
    }

    /// Closes the queue for all its clones, so that another process may open it. Dropping the last clone does the same.
    ///
    /// # Errors
    /// Same as [`Stream::close`](crate::Stream::close).
    pub fn close(self) -> Result<()> {
        self.shared.close()
    }
}

impl StreamReader {
    /// Describes a queue that another process may have open.
    ///
    /// ```
    /// # use streamlog::{Stream, StreamReader};
    /// # let directory = tempfile::tempdir()?;
    /// let stream = Stream::open(directory.path())?; // in one process
    /// let queue = stream.queue("jobs").open()?;
    /// stream.put("job-17", "resize")?;
    ///
    /// let reader = StreamReader::open(directory.path())?; // in another one
    /// assert_eq!(reader.describe_queue("jobs")?.unread.record_count, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` if the stream has no such queue; `Corrupt` if its journal is damaged; `Closed`, `Io`.
    pub fn describe_queue(&self, name: &str) -> Result<QueueDescription> {
        extend::check_name("a queue", name)?;
        if self.is_closed() {
            return Err(Error::Closed);
        }
        let history = Journal::look(streams_of(self), name, History::read).map_err(|error| match error {
            Error::NotAStream(_) => is_missing(name),
            error => error,
        })?;
        let (created_at, is_ordered_by_key) = history.begun.unwrap_or_default();
        let moment = Moment::of(self);
        let mut state = State::new(Rules { receives_max: None, keeps_dead_letters: true });
        history.load(moment, TIMEOUT_MAX, &mut state);
        while !state.settle(moment.elapsed) {}
        let described = describe(self, name, &state)?;
        Ok(QueueDescription { created_at, is_ordered_by_key, ..described })
    }
}

fn describe(stream: &StreamReader, name: &str, state: &State) -> Result<QueueDescription> {
    let counts = state.counts();
    let visible = state
        .outstanding()
        .values()
        .filter(|record| !record.is_dead && matches!(record.visibility, Visibility::Visible));
    Ok(QueueDescription {
        name: name.to_owned(),
        created_at: Timestamp::default(),
        is_ordered_by_key: false,
        unread: unread(stream, state.cursors())?,
        visible_count: visible.count(),
        in_flight_count: counts.in_flight,
        delayed_count: counts.delayed,
        dead_letter_count: counts.dead,
        expired_count: 0,
        lost_count: 0,
    })
}

fn unread(stream: &StreamReader, cursors: &BTreeMap<ShardId, Cursor>) -> Result<Lag> {
    let mut unread = Lag::default();
    for shard in stream.shards() {
        let next = match cursors.get(&shard.id) {
            Some(cursor) if cursor.is_finished => continue,
            Some(cursor) => cursor.next,
            None => shard.first_sequence,
        };
        unread = unread.plus(match lag(stream, shard.id, next) {
            // The shard expired after it was listed.
            Err(Error::ShardNotFound(_)) => continue,
            lag => lag?,
        });
    }
    Ok(unread)
}

fn lag(stream: &StreamReader, shard: ShardId, next: SequenceNumber) -> Result<Lag> {
    match stream.iterator(shard, Position::At(next)) {
        Ok(iterator) => iterator.lag(),
        Err(Error::Trimmed { .. }) => stream.iterator(shard, Position::TrimHorizon)?.lag(),
        Err(error) => Err(error),
    }
}
