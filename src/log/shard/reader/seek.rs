//! Where an iterator begins, and how it moves to another place.

use std::time::Duration;

use super::Reader;
use super::iterator::ShardIterator;
use crate::log::types::error::{Error, Result};
use crate::log::types::record::Position;
use crate::log::types::sequence::SequenceNumber;

/// A reading of the clock is younger than this. It may be older than a time that the caller has just asked the system for.
const READING_AGE_MAX: Duration = Duration::from_micros(10);

impl ShardIterator {
    /// Returns the number of the first record at a position.
    pub(super) fn first_at(reader: &Reader, position: Position) -> Result<SequenceNumber> {
        let next = match position {
            Position::TrimHorizon => reader.trim_horizon()?,
            Position::Latest => reader.next_sequence(),
            Position::At(sequence) => sequence.max(reader.created.first_sequence),
            Position::After(sequence) => sequence.plus(1).max(reader.created.first_sequence),
            Position::AtTimestamp(time) => {
                if time > reader.clock.now() {
                    std::thread::sleep(READING_AGE_MAX);
                }
                let (end, now) = (reader.next_sequence(), reader.clock.now());
                // A time from a wrong clock is searched for among the times that this clock showed.
                let found = match time.is_wrong_at(now) {
                    true => reader.first_at_or_after(time)?,
                    false => reader.first_since(time, now)?,
                };
                // No arrival time of the stream's records is in the future, although the clock may have been set back since, or may lag
                // behind that of another thread by a microsecond.
                if time > now && found >= end && time > reader.peers.latest() {
                    return Err(Error::invalid(format!(
                        "the time {time} is in the future: it is {now} now; use Latest"
                    )));
                }
                found
            }
        };
        if position != Position::TrimHorizon {
            reader.check_horizon(next)?;
        }
        Ok(next)
    }

    fn go_to(&mut self, next: SequenceNumber, replaced: u64) {
        (self.next, self.place, self.trace) = (next, None, self.reader.trace(next, replaced));
        self.count.go_to(next);
    }

    /// Returns whether everything that is known of the shard was replaced since the iterator read.
    #[inline]
    pub(super) fn is_replaced(&self) -> bool {
        self.trace.replaced != self.reader.replaced()
    }

    /// Takes over what has happened in the shard, if another process may write it. Fails with `Cut` if records that were read are gone.
    #[inline]
    pub(super) fn catch_up(&mut self) -> Result<()> {
        self.reader.refresh()?;
        if self.is_replaced() { self.look_again() } else { Ok(()) }
    }

    #[cold]
    fn look_again(&mut self) -> Result<()> {
        let replaced = self.reader.replaced();
        if !self.reader.has_kept(self.next, &self.trace) {
            let end = self.reader.next_sequence();
            return Err(Error::Cut { shard: self.shard(), next: self.next, end });
        }
        (self.place, self.trace.replaced) = (None, replaced);
        Ok(())
    }

    /// Moves to another position. From there on it behaves like a new iterator.
    ///
    /// ```
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let receipt = stream.put("user-17", "clicked")?;
    /// let mut iterator = stream.iterator(receipt.shard, Position::Latest)?;
    /// iterator.seek(Position::TrimHorizon)?;
    /// assert_eq!(iterator.next_sequence(), receipt.sequence);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`StreamReader::iterator`](crate::StreamReader::iterator). The iterator then stays where it was.
    pub fn seek(&mut self, position: Position) -> Result<()> {
        self.reader.refresh()?;
        let replaced = self.reader.replaced();
        self.go_to(Self::first_at(&self.reader, position)?, replaced);
        Ok(())
    }

    /// Skips to the trim horizon if retention has overtaken the iterator. Returns the number of skipped records.
    ///
    /// With this call, the caller gives those records up. No record is ever skipped without such a call.
    ///
    /// ```
    /// # use streamlog::{Error, Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let receipt = stream.put("user-17", "clicked")?;
    /// let mut iterator = stream.iterator(receipt.shard, Position::TrimHorizon)?;
    /// stream.trim_before(receipt.shard, receipt.sequence.plus(1))?;
    /// if let Err(Error::Trimmed { .. }) = iterator.next_batch(10) {
    ///     assert_eq!(iterator.skip_to_horizon(), 1);
    /// }
    /// assert!(iterator.next_batch(10)?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn skip_to_horizon(&mut self) -> u64 {
        // If that fails, the next read fails too.
        let _ = self.reader.refresh();
        let replaced = self.reader.replaced();
        let horizon = self.reader.first_readable(self.next).unwrap_or(self.next);
        let skipped = horizon.get().saturating_sub(self.next.get());
        if skipped > 0 {
            self.go_to(horizon, replaced);
        }
        skipped
    }

    /// Skips the lost records at this position, which a salvage has given up. Returns the number of skipped records.
    ///
    /// With this call, the caller gives those records up. No record is ever skipped without such a call.
    ///
    /// # Errors
    /// Same as [`next_batch`](Self::next_batch). The iterator then stays where it was.
    pub fn skip_lost(&mut self) -> Result<u64> {
        self.catch_up()?;
        let from = self.next;
        loop {
            match self.end_of_lost() {
                Ok(Some(end)) => self.go_to(end, self.trace.replaced),
                Err(error) if self.next == from => return Err(error),
                // The next read meets whatever follows the lost records.
                _ => return Ok(self.next.get() - from.get()),
            }
        }
    }

    /// Returns where the lost records end, if the next record is one of them.
    fn end_of_lost(&self) -> Result<Option<SequenceNumber>> {
        match self.locate() {
            Ok(_) => Ok(None),
            Err(Error::Lost { end, .. }) => Ok(Some(end)),
            Err(error) => Err(error),
        }
    }
}
