//! The lag: how much of a shard is still to be read.

use std::time::Duration;

use super::Reader;
use super::iterator::ShardIterator;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;

/// The records that are still to be read from some position on.
///
/// ```
/// # use streamlog::{Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let receipt = stream.put("user-17", "clicked")?;
/// let lag = stream.iterator(receipt.shard, Position::TrimHorizon)?.lag()?;
/// println!("{} records, {} bytes, the oldest put {:?} ago", lag.record_count, lag.bytes, lag.age);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Lag {
    /// The records to be read, including those that retention dropped before they were read.
    pub record_count: u64,
    /// Their bytes in the log: keys, data, and overhead. A sealed segment that is not open, or is in an archive, counts with its whole
    /// file.
    pub bytes: u64,
    /// How long ago the oldest of them arrived, at least a millisecond, or zero if there is none. If the clock was set back behind its
    /// timestamp, or if it is in an archive, this is the age of its segment.
    pub age: Duration,
}

impl Lag {
    /// Returns both lags together: the sum of records and bytes, and the greater age.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            record_count: self.record_count + other.record_count,
            bytes: self.bytes + other.bytes,
            age: self.age.max(other.age),
        }
    }
}

impl ShardIterator {
    /// Returns how much the iterator still has to read.
    ///
    /// ```
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let receipt = stream.put("user-17", "clicked")?;
    /// let mut iterator = stream.iterator(receipt.shard, Position::TrimHorizon)?;
    /// assert_eq!(iterator.lag()?.record_count, 1);
    /// iterator.next_batch(10)?;
    /// assert_eq!(iterator.lag()?.record_count, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` if damage prevents finding it; `Io` if the file system fails.
    pub fn lag(&self) -> Result<Lag> {
        self.reader().refresh()?;
        self.reader().lag_from(self.next_sequence())
    }
}

impl Reader {
    fn lag_from(&self, next: SequenceNumber) -> Result<Lag> {
        loop {
            let record_count = self.next_sequence().get().saturating_sub(next.get());
            let oldest = self.first_readable(next)?;
            if record_count == 0 || oldest >= self.next_sequence() {
                return Ok(Lag { record_count, ..Lag::default() });
            }
            match self.unread_from(oldest) {
                // Retention has passed it since.
                Err(_) if self.first_readable(oldest)? > oldest => {}
                unread => {
                    let (bytes, age) = unread?;
                    return Ok(Lag { record_count, bytes, age });
                }
            }
        }
    }

    /// Returns the bytes of the records from one on, and how long ago that one arrived.
    fn unread_from(&self, oldest: SequenceNumber) -> Result<(u64, Duration)> {
        let own = oldest.max(self.horizon());
        let (archived_bytes, archived_age) = self.unread_archived(oldest)?;
        let Some(found) = self.find(own)? else { return Ok((archived_bytes, archived_age)) };
        let bytes = archived_bytes + self.segments.bytes_from(&found.window, own)?;
        Ok((bytes, if own > oldest { archived_age } else { self.age_at(oldest)?.unwrap_or_default() }))
    }
}
