//! Reading a whole stream, parents before children.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::reader::Member;
use crate::log::shard::reader::Reader;
use crate::log::shard::reader::batch::Batch;
#[cfg(feature = "futures")]
use crate::log::shard::reader::batches::Batches;
use crate::log::shard::reader::iterator::ShardIterator;
use crate::log::shard::reader::wait_any::{Readable, wait_any};
use crate::log::topology::lineage;
use crate::log::types::error::{Error, Result};
use crate::log::types::record::Position;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// Reads all shards of a stream. The records of each key come in the order of their puts, across any number of splits and merges: a child is
/// read only after all its parents are read to the end. [`StreamReader::lineage_iterator`](crate::StreamReader::lineage_iterator) returns it.
///
/// ```
/// # use streamlog::{Position, Stream};
/// # let directory = tempfile::tempdir()?;
/// let stream = Stream::open(directory.path())?;
/// stream.put("user-17", "first")?;
/// stream.split_shard_evenly(stream.shards()[0].id)?;
/// stream.put("user-17", "second")?;
///
/// let mut iterator = stream.lineage_iterator(Position::TrimHorizon)?;
/// let mut read = vec![];
/// loop {
///     let batch = iterator.next_batch(100)?;
///     if batch.is_empty() {
///         break;
///     }
///     read.extend(batch.iter().map(|record| record.data().to_vec()));
/// }
/// assert_eq!(read, [b"first".to_vec(), b"second".to_vec()]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LineageIterator {
    /// The iterators of the shards that are being read, in turns.
    reading: Vec<ShardIterator>,
    /// The index of the next iterator to read.
    turn: usize,
    /// Children that wait until all shards before them that had some of their hash keys are read to the end.
    waiting: BTreeMap<ShardId, Arc<Reader>>,
    /// The horizons of the shards at the time of the call. Records trimmed before that are no loss to this reader.
    horizons: BTreeMap<ShardId, SequenceNumber>,
}

impl LineageIterator {
    /// Returns an iterator over all shards of a stream.
    pub(super) fn new(members: &[Member], position: Position) -> Result<Self> {
        let readers: BTreeMap<ShardId, &Arc<Reader>> =
            members.iter().map(|(shard, reader)| (shard.id, reader)).collect();
        let shards: Vec<_> = members.iter().map(|(shard, _)| shard.clone()).collect();
        let begun = lineage::filter(&shards, position.try_into()?);
        let reading = begun.iter().map(|shard| ShardIterator::new(Arc::clone(readers[&shard.id]), position));
        let reading = reading.collect::<Result<_>>()?;
        let horizons = readers.into_iter().map(|(id, reader)| Ok((id, reader.trim_horizon()?)));
        let horizons = horizons.collect::<Result<_>>()?;
        Ok(Self { reading, turn: 0, waiting: BTreeMap::new(), horizons })
    }

    /// Reads up to `records_max` records of one shard. The shards take turns. Never blocks: an empty batch means that all shards were read
    /// to the end. The batch's `millis_behind_latest` is 0 only if nothing is left in any shard.
    ///
    /// # Errors
    /// `Trimmed` if retention has overtaken the iterator in a shard: [`skip_to_horizon`](Self::skip_to_horizon) to continue. `Lost` where
    /// records were lost to damage: [`skip_lost`](Self::skip_lost) to continue. `Corrupt` where the log is damaged. `Throttled` where the
    /// stream's [limits](crate::Limits) are reached. After an error, the next call reads the other shards.
    pub fn next_batch(&mut self, records_max: usize) -> Result<Batch> {
        let mut looked_at = 0;
        loop {
            self.turn = self.turn.checked_rem(self.reading.len()).unwrap_or_default();
            let shard_count = self.reading.len();
            // Open shards have no end, so at least one shard is always being read.
            let Some(iterator) = self.reading.get_mut(self.turn) else { return Err(Error::Closed) };
            // A read that finds nothing would count towards the limits. One of them has to, if there is nothing in any shard.
            if looked_at + 1 < shard_count && iterator.has_limits() && !iterator.is_readable() {
                self.turn += 1;
                looked_at += 1;
                continue;
            }
            let batch = match iterator.next_batch(records_max) {
                Ok(batch) => batch,
                Err(error) => {
                    self.turn += 1;
                    return Err(error);
                }
            };
            if iterator.children().is_some() {
                let finished = self.reading.swap_remove(self.turn);
                self.go_on_with_children_of(&finished);
                looked_at = 0;
            } else {
                self.turn += 1;
                looked_at += 1;
            }
            if !batch.is_empty() || looked_at >= self.reading.len() {
                let is_behind = batch.millis_behind_latest() > 0;
                let left = if is_behind { None } else { self.left() };
                return Ok(match left {
                    Some(reader) => batch.with_more_left(reader),
                    None => batch,
                });
            }
        }
    }

    /// Returns the reader of a shard in which a record is left to read.
    fn left(&self) -> Option<&Reader> {
        let reading = self.reading.iter().map(|iterator| (iterator.reader(), iterator.next_sequence()));
        let first = |child: &Reader| {
            let known = self.horizons.get(&child.id()).copied();
            known.unwrap_or(child.created().first_sequence)
        };
        let waiting = self.waiting.values().map(|child| (&**child, first(child)));
        let mut to_look_at: Vec<(&Reader, SequenceNumber)> = waiting.chain(reading).collect();
        let mut seen = BTreeSet::new();
        while let Some((reader, next)) = to_look_at.pop() {
            if next < reader.next_sequence() {
                return Some(reader);
            }
            for child in reader.children_after(next).unwrap_or_default() {
                if seen.insert(child.id()) {
                    to_look_at.push((child, first(child)));
                }
            }
        }
        None
    }

    fn go_on_with_children_of(&mut self, finished: &ShardIterator) {
        let children = finished.children().unwrap_or_default();
        self.waiting.extend(children.iter().map(|child| (child.id(), Arc::clone(child))));
        // The number of finished parents does not decide: if they have expired unseen, a child follows the shards that they came from.
        while let Some(child) = self.waiting.values().find(|child| self.is_next(child)).cloned() {
            self.waiting.remove(&child.id());
            // A child is read from its horizon at the time of the call. A record trimmed since then is an error, and is not skipped.
            let first = self.horizons.remove(&child.id()).unwrap_or(child.created().first_sequence);
            self.reading.push(ShardIterator::from_first(child, first));
        }
    }

    /// Returns whether all records are read that were put with the hash keys of a child before it began.
    fn is_next(&self, child: &Reader) -> bool {
        let range = child.created().hash_key_range;
        let mut before = self.reading.iter().map(ShardIterator::reader);
        let mut waiting = self.waiting.values().take_while(|other| other.id() < child.id());
        let has_same_keys = |other: &Reader| other.created().hash_key_range.overlaps(&range);
        !before.any(has_same_keys) && !waiting.any(|other| has_same_keys(other))
    }

    /// Skips to the trim horizon in all shards where retention has overtaken the iterator. Returns the number of skipped records.
    pub fn skip_to_horizon(&mut self) -> u64 {
        self.reading.iter_mut().map(ShardIterator::skip_to_horizon).sum()
    }

    /// Skips lost records that a salvage has given up, in all shards where such records come next. Returns the number of skipped records.
    ///
    /// # Errors
    /// Same as [`next_batch`](Self::next_batch).
    pub fn skip_lost(&mut self) -> Result<u64> {
        // All shards are tried, even if one of them has reached damage.
        let skipped: Vec<_> = self.reading.iter_mut().map(ShardIterator::skip_lost).collect();
        skipped.into_iter().sum()
    }

    /// Waits until there is something to read. Returns whether that happened before the timeout.
    ///
    /// # Errors
    /// `Closed` if the stream is closed and everything is read.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        Ok(wait_any(&self.reading, timeout)?.is_some())
    }

    /// Waits like [`wait`](Self::wait), without a timeout, in a task of an async runtime: see [`any_readable`](crate::any_readable).
    pub fn readable(&self) -> Readable<'_> {
        Readable::new(&self.reading)
    }

    /// Returns the batches of all shards as a `Stream` of the crate `futures`, each of up to `records_max` records and at least one. It waits
    /// for new records. Needs the cargo feature `futures`.
    ///
    /// ```
    /// use futures_util::TryStreamExt;
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// stream.put("user-17", "first")?;
    /// stream.split_shard_evenly(stream.shards()[0].id)?;
    /// stream.put("user-17", "second")?;
    /// let mut batches = stream.lineage_iterator(Position::TrimHorizon)?.into_batches(1_000);
    /// stream.close()?;
    /// let mut count = 0;
    /// while let Some(batch) = batches.try_next().await? {
    ///     count += batch.len();
    /// }
    /// assert_eq!(count, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "futures")]
    pub fn into_batches(self, records_max: usize) -> Batches<Self> {
        Batches::new(self, records_max)
    }
}

#[cfg(feature = "futures")]
impl futures_core::Stream for Batches<LineageIterator> {
    type Item = Result<Batch>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Batch>>> {
        self.poll_batch(context, LineageIterator::next_batch, |iterator| &iterator.reading)
    }
}
