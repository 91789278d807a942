//! The description of a queue.

use std::collections::BTreeMap;
use std::time::Duration;

use super::look::{Seen, look};
use super::settings::Settings;
use super::shared::{Queue, Shared};
use super::state::{Cursor, State, Visibility};
use crate::{Error, Lag, Position, Result, SequenceNumber, ShardId, StreamReader, Timestamp};

/// The state of a queue. [`Queue::describe`](crate::Queue::describe) returns it.
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
    /// The records that the queue has not read yet. None of them was ever delivered.
    pub unread: Lag,
    /// The records that were read and are not hidden: ready for delivery, or waiting for another record of their key.
    pub visible_count: usize,
    /// The records that are in flight.
    pub in_flight_count: usize,
    /// The records that are hidden because of a delay.
    pub delayed_count: usize,
    /// The dead letters, in flight or not.
    pub dead_letter_count: usize,
    /// The age of the oldest record that is not done, ignoring dead letters, or zero if all are done. (SQS: `ApproximateAgeOfOldestMessage`)
    pub oldest_age: Duration,
    /// The [visibility timeout](crate::QueueOptions::visibility_timeout) with which the queue was last opened.
    pub visibility_timeout: Duration,
    /// The [largest receive count](crate::QueueOptions::max_receive_count), if there is one, with which the queue was last opened, or which was
    /// [set](crate::Queue::set_max_receive_count) since.
    pub max_receive_count: Option<u32>,
    /// Whether it was last opened to [keep dead letters](crate::QueueOptions::keep_dead_letters).
    pub keep_dead_letters: bool,
    /// How many records [may be outstanding](crate::QueueOptions::outstanding_max) since it was last opened.
    pub outstanding_max: usize,
    /// How many records retention dropped before they were acknowledged, since this process opened the queue. If a whole shard expired unread, its
    /// end is unknown, and the count runs up to the beginning of its children. So it may be too high.
    pub expired_count: u64,
    /// How many unacknowledged records were lost to damage that the stream's owner salvaged, since this process opened the queue.
    pub lost_count: u64,
}

impl Queue {
    /// Returns the queue's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Returns the state of the queue, with the number of records in each state.
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
        let Shared { stream, name, settings, .. } = &**self.shared;
        let described = describe(stream, name, &inner.state, *settings)?;
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
        let Seen { created, is_ordered, settings, state } = look(self, name)?;
        let described = describe(self, name, &state, settings)?;
        Ok(QueueDescription { created_at: created, is_ordered_by_key: is_ordered, ..described })
    }
}

fn describe(
    stream: &StreamReader,
    name: &str,
    state: &State,
    settings: Settings,
) -> Result<QueueDescription> {
    let counts = state.counts();
    let visible = state
        .outstanding()
        .values()
        .filter(|record| !record.is_dead && matches!(record.visibility, Visibility::Visible));
    let unread = unread(stream, state.cursors())?;
    Ok(QueueDescription {
        name: name.to_owned(),
        created_at: Timestamp::default(),
        is_ordered_by_key: false,
        unread,
        visible_count: visible.count(),
        in_flight_count: counts.in_flight,
        delayed_count: counts.delayed,
        dead_letter_count: counts.dead,
        oldest_age: unread.age.max(oldest_age(stream, state)?),
        visibility_timeout: settings.visibility_timeout(),
        max_receive_count: state.receives_max(),
        keep_dead_letters: settings.keep_dead_letters,
        outstanding_max: settings.outstanding_max,
        expired_count: 0,
        lost_count: 0,
    })
}

/// Returns the age of the oldest outstanding record that is not a dead letter.
fn oldest_age(stream: &StreamReader, state: &State) -> Result<Duration> {
    let mut oldest = Duration::ZERO;
    for shard in stream.shards() {
        let horizon = match stream.iterator(shard.id, Position::TrimHorizon) {
            Ok(iterator) => iterator.next_sequence(),
            Err(Error::ShardNotFound(_)) => continue,
            Err(error) => return Err(error),
        };
        if let Some(first) = state.first_outstanding(shard.id, horizon) {
            oldest = match lag(stream, shard.id, first) {
                Err(Error::ShardNotFound(_)) => continue,
                lag => oldest.max(lag?.age),
            };
        }
    }
    Ok(oldest)
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
