//! A group that reads user records: which of them a batch holds for it, and commits within an aggregate.

use super::checkpoint::Place;
use super::worker::Worker;
use crate::aggregate::{UserRecord, UserRecords, deaggregate};
use crate::{Batch, HashKeyRange, KeyHash, Result, ShardId, ShardIterator, Timestamp};

/// The last handled user record of a shard. [`Worker::commit_to_user_record`] takes it.
///
/// It borrows nothing, so it can be sent to the thread that commits. That call also accepts the user record itself.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::{Handled, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// stream.put("user-17", "clicked")?;
/// let mut worker = stream.group("billing").worker().open()?;
/// let batch = worker.poll(Duration::from_secs(1))?.expect("a record was put");
/// let handled: Vec<Handled> = worker.user_records(&batch).map(|record| Handled::from(&record)).collect();
/// worker.commit_to_user_record(batch.shard(), handled[0])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Handled {
    next: Place,
    arrival: Timestamp,
}

impl From<&UserRecord<'_>> for Handled {
    fn from(record: &UserRecord<'_>) -> Self {
        let next = match record.is_last() {
            true => record.sequence().plus(1).into(),
            false => Place { sequence: record.sequence(), sub_sequence: record.sub_sequence() + 1 },
        };
        Self { next, arrival: record.timestamp() }
    }
}

impl From<UserRecord<'_>> for Handled {
    fn from(record: UserRecord<'_>) -> Self {
        Self::from(&record)
    }
}

impl Worker {
    /// Returns the user records of a batch, like the Kinesis Client Library. An [aggregate](crate::aggregate) is split into its user
    /// records, and a plain record is one user record.
    ///
    /// - User records of the batch's first record that the group had handled before this worker got the shard are left out.
    /// - If the stream hashes keys as Kinesis does ([`KeyHash::Md5`]), an aggregate with a user record that does not belong to the shard is
    ///   dropped, as in the KCL: the Kinesis Producer Library sends it again. [`UserRecords::foreign_count`] counts these.
    /// - The settings of a worker, `batch_records` for example, and the group's lag count records of the stream, as in the KCL.
    ///
    /// This needs no setting. Each worker of a group may iterate over the batch or over its user records.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::aggregate::Aggregator;
    /// # use streamlog::{PutRecord, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// # let mut aggregator = Aggregator::new();
    /// # aggregator.add(&PutRecord::new("user-17", "/"))?;
    /// # aggregator.add(&PutRecord::new("user-4", "/cart"))?;
    /// # stream.put_record(&aggregator.finish().expect("two user records").as_put())?;
    /// let mut worker = stream.group("billing").worker().open()?;
    /// let batch = worker.poll(Duration::from_secs(1))?.expect("an aggregate was put");
    /// for record in worker.user_records(&batch) {
    ///     println!("{}.{} {:?}", record.sequence(), record.sub_sequence(), record.data());
    /// }
    /// worker.commit(&batch)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn user_records<'a>(&self, batch: &'a Batch) -> UserRecords<'a> {
        let reading = self.reading(batch.shard()).map(|at| &self.readings[at]);
        let records = match reading.and_then(|reading| reading.begun_within) {
            Some(Place { sequence, sub_sequence }) => deaggregate(batch).starting_at(sequence, sub_sequence),
            None => deaggregate(batch),
        };
        let range = match reading.and_then(|reading| reading.range) {
            None if self.must_check_range() => self.range_of(batch.shard()),
            range => range,
        };
        match range {
            Some(range) => records.within(range, self.key_hash),
            None => records,
        }
    }

    /// Commits that all user records of a shard up to this one are handled. After a crash, the group continues after it, even within an
    /// aggregate. A commit below the last one changes nothing.
    ///
    /// Commit the batch, too, once all of it is handled: an aggregate that was dropped has no user record to commit, and a shard that was
    /// split or merged ends with the commit of its last record.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::aggregate::Aggregator;
    /// # use streamlog::{PutRecord, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// # let mut aggregator = Aggregator::new();
    /// # aggregator.add(&PutRecord::new("user-17", "/"))?;
    /// # aggregator.add(&PutRecord::new("user-4", "/cart"))?;
    /// # stream.put_record(&aggregator.finish().expect("two user records").as_put())?;
    /// let mut worker = stream.group("billing").worker().open()?;
    /// let batch = worker.poll(Duration::from_secs(1))?.expect("an aggregate was put");
    /// for record in worker.user_records(&batch) {
    ///     // ... handle it, and say so user record by user record:
    ///     worker.commit_to_user_record(batch.shard(), &record)?;
    /// }
    /// worker.commit(&batch)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// Same as [`commit`](Self::commit).
    ///
    /// # Errors
    /// Same as [`commit`](Self::commit).
    pub fn commit_to_user_record(&mut self, shard: ShardId, last_handled: impl Into<Handled>) -> Result<()> {
        let Handled { next, arrival } = last_handled.into();
        self.commit_handed_out(shard, next, Some(arrival))
    }

    /// Notes where the worker has begun to read a shard.
    pub(super) fn note_begin(&mut self, shard: ShardId, begun: Option<&ShardIterator>) {
        let Some(at) = self.reading(shard) else { return };
        let checkpoint = self.state.checkpoints.get(shard).map(|checkpoint| checkpoint.next);
        let begun_within = checkpoint.filter(|next| {
            next.is_within_record() && begun.is_some_and(|begun| begun.next_sequence() == next.sequence)
        });
        let range = match self.readings[at].range {
            None if self.must_check_range() => self.range_of(shard),
            known => known,
        };
        let reading = &mut self.readings[at];
        (reading.begun_within, reading.range) = (begun_within, range);
    }

    /// Only the KPL resends what is dropped, and it knows the shard of a key only if the stream hashes keys as Kinesis does.
    fn must_check_range(&self) -> bool {
        self.key_hash == KeyHash::Md5
    }

    fn range_of(&self, shard: ShardId) -> Option<HashKeyRange> {
        self.stream().shards().into_iter().find(|known| known.id == shard).map(|known| known.hash_key_range)
    }
}
