//! One worker of a consumer group.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::group::GroupState;
use super::groups::Group;
use super::leases::{Held, WorkerId};
use super::options::{OnTrimmed, WorkerOptions};
use super::readable::arrival_before;
use crate::{
    Batch, Error, Position, Result, SequenceNumber, ShardId, ShardIterator, Stream, Timestamp, wait_any,
};

/// How long a worker waits for records before it looks again at what it may read.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// One worker of a consumer group: reads the shards that it has a lease on, a batch at a time, and says how far it has come.
///
/// Workers of a group share the shards of the stream, so that each shard is with one worker and their counts differ by one at most. Open
/// one in each thread that is to work. Dropping a worker is as [`close`](Self::close).
///
/// Records are handed out **at least once**: after a crash, or when a lease is lost, what was not committed comes again. Those of one
/// partition key come in the order in which they were put, also across splits and merges: a child is handed out only when its parents
/// are read to the end and committed.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// stream.put("user-17", "clicked")?;
///
/// let mut worker = stream.group("billing").worker().open()?;
/// while let Some(batch) = worker.poll(Duration::from_millis(10))? {
///     for record in &batch {
///         println!("{:?}", record.data());
///     }
///     worker.commit(&batch)?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Worker {
    pub(super) options: WorkerOptions,
    pub(super) state: Arc<GroupState>,
    pub(super) id: WorkerId,
    /// The shards that it has leases on, in their order, and the version of the leases that this is true of.
    pub(super) readings: Vec<Reading>,
    version: Option<u64>,
    /// Whose turn it is.
    turn: usize,
    pub(super) skipped_count: u64,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("group", &self.group().name())
            .field("id", &self.id)
            .field("shards", &self.shards())
            .finish_non_exhaustive()
    }
}

/// A shard that the worker has a lease on.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) held: Held,
    /// Made when it is the shard's turn.
    pub(super) iterator: Option<ShardIterator>,
    /// All of it is handed out.
    pub(super) is_at_end: bool,
    /// Records that were given up, from the first to behind the last: who commits up to the first, commits them as well.
    pub(super) given_up: Vec<(SequenceNumber, SequenceNumber)>,
}

impl Reading {
    fn is_to_read(&self) -> bool {
        !self.is_at_end && !self.held.is_leaving
    }
}

impl WorkerOptions {
    /// Joins the group, which is created if it is new.
    ///
    /// ```
    /// # use streamlog::{Error, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let _worker = stream.group("billing").worker().open()?;
    /// assert!(matches!(stream.group("no/name").worker().open(), Err(Error::InvalidArgument(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for a setting out of its range or a name that no group can have; `Corrupt` if the checkpoints are damaged;
    /// `Closed`, `StorageFull`, `Io`.
    pub fn open(self) -> Result<Worker> {
        self.check()?;
        Worker::join(self)
    }
}

impl Worker {
    fn join(options: WorkerOptions) -> Result<Self> {
        let group = &options.group;
        let (state, id) = group.with_state(options.start, options.salvage, |state| {
            if let Some(bytes_max) = options.hold {
                state.set_hold(&group.stream, bytes_max)?;
            }
            Ok((Arc::clone(state), state.join(options.lease_timeout)))
        })?;
        Ok(Self { options, state, id, readings: vec![], version: None, turn: 0, skipped_count: 0 })
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.options.group.stream
    }

    /// The group that the worker is in.
    pub fn group(&self) -> &Group {
        &self.options.group
    }

    /// The worker's name in its group.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// The shards that the worker reads, as of its last poll. Those that it is to hand over, once what it has of them is committed, do
    /// not count.
    pub fn shards(&self) -> Vec<ShardId> {
        let readings = self.readings.iter().filter(|reading| !reading.held.is_leaving);
        readings.map(|reading| reading.held.shard).collect()
    }

    /// How many records were skipped because retention had dropped them before the group handled them.
    pub fn skipped_count(&self) -> u64 {
        self.skipped_count
    }

    /// The next batch of one of the worker's shards, which take turns; `None` if there is none before the timeout.
    ///
    /// Batches of one shard can be polled one after the other without a commit in between. A worker that joins is given shards of others
    /// once what they were handed out is committed.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let mut worker = stream.group("billing").worker().open()?;
    /// assert!(worker.poll(Duration::ZERO)?.is_none());
    /// stream.put("user-17", "clicked")?;
    /// let batch = worker.poll(Duration::from_secs(1))?.expect("a record was put");
    /// assert_eq!(batch.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Trimmed` where retention has overtaken the group, unless the worker was told to skip: call
    /// [`skip_to_horizon`](Self::skip_to_horizon) to go on. `Lost` where damage took records: [`skip_lost`](Self::skip_lost). `Corrupt`
    /// where the log is damaged. After each of these other shards can be read by calling again. `Closed` once the stream is
    /// closed and all of it is read.
    pub fn poll(&mut self, timeout: Duration) -> Result<Option<Batch>> {
        let mut deadline = None;
        loop {
            let version = self.state.call(self.id, self.options.lease_timeout);
            if self.version != Some(version) {
                self.take_over();
            }
            if let Some(batch) = self.read_next()? {
                return Ok(Some(batch));
            }
            // The end of a shard lets others begin.
            if !self.version.is_some_and(|version| self.state.is_at(version)) {
                continue;
            }
            // One that cannot be told apart from never is waited for without a deadline.
            let deadline = *deadline.get_or_insert_with(|| Instant::now().checked_add(timeout));
            let left = deadline.map_or(Duration::MAX, |it| it.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            self.wait(left.min(LOOK_AGAIN))?;
        }
    }

    /// Lets go of the shards that the worker has no lease on any more, and takes those that it has.
    fn take_over(&mut self) {
        let (held, version) = self.state.held_by(self.id);
        let known = std::mem::take(&mut self.readings).into_iter();
        let mut known: BTreeMap<_, _> = known.map(|reading| (reading.held.term, reading)).collect();
        let reading_of = |held: Held| match known.remove(&held.term) {
            Some(reading) => Reading { held, ..reading },
            None => Reading { held, iterator: None, is_at_end: false, given_up: vec![] },
        };
        self.readings = held.into_iter().map(reading_of).collect();
        self.version = Some(version);
    }

    /// Reads a batch of the first shard, from whose turn it is, that has one.
    fn read_next(&mut self) -> Result<Option<Batch>> {
        for _ in 0..self.readings.len() {
            self.turn = (self.turn + 1) % self.readings.len();
            match self.read(self.turn) {
                // It was taken away while it was read; what else the worker may read it sees when it looks again.
                Err(Error::GroupLeaseLost { .. }) => {
                    self.version = None;
                    return Ok(None);
                }
                Ok(None) => {}
                read => return read,
            }
        }
        Ok(None)
    }

    fn read(&mut self, at: usize) -> Result<Option<Batch>> {
        if !self.readings[at].is_to_read() {
            return Ok(None);
        }
        let held = self.readings[at].held;
        let mut iterator = match self.readings[at].iterator.take() {
            Some(iterator) => iterator,
            None => match self.start(held)? {
                Some(iterator) => {
                    self.readings[at].given_up.clear();
                    iterator
                }
                None => return Ok(None),
            },
        };
        let read = self.read_from(&mut iterator, held);
        let reading = &mut self.readings[at];
        reading.iterator = (!matches!(read, Ok(Read::NotOurs))).then_some(iterator);
        match read? {
            Read::Batch(batch) => {
                reading.is_at_end = batch.child_shards().is_some();
                Ok(Some(batch))
            }
            Read::End => {
                reading.is_at_end = true;
                Ok(None)
            }
            Read::Nothing | Read::NotOurs => Ok(None),
        }
    }

    fn read_from(&mut self, iterator: &mut ShardIterator, held: Held) -> Result<Read> {
        let batch = loop {
            match iterator.next_batch_within(self.options.records_max, self.options.bytes_max) {
                Err(Error::Trimmed { .. }) if self.options.on_trimmed == OnTrimmed::SkipToHorizon => {
                    self.skipped_count += iterator.skip_to_horizon();
                    self.seek_to(held, iterator.next_sequence())?;
                }
                batch => break batch?,
            }
        };
        let end = iterator.next_sequence();
        if let Some(first) = batch.first_sequence()
            && !self.state.hand_out(held, self.id, end)
        {
            self.version = None;
            // The shard may stay with this worker in the end, and then this batch is the next. Where it is trimmed by now, the iterator
            // has to be made anew, which tells.
            return Ok(match iterator.seek(Position::At(first)) {
                Ok(()) => Read::Nothing,
                Err(_) => Read::NotOurs,
            });
        }
        if batch.child_shards().is_some() {
            self.state.note_end(self.stream(), held, self.id, end)?;
        }
        Ok(match batch.is_empty() {
            false => Read::Batch(batch),
            true if batch.child_shards().is_some() => Read::End,
            true => Read::Nothing,
        })
    }

    fn wait(&self, timeout: Duration) -> Result<()> {
        let version = self.version.unwrap_or_default();
        self.state.while_waiting(self.id, self.options.lease_timeout, || {
            let open = self.readings.iter().filter(|reading| reading.is_to_read());
            let iterators: Vec<&ShardIterator> =
                open.filter_map(|reading| reading.iterator.as_ref()).collect();
            if iterators.is_empty() {
                if self.stream().is_closed() {
                    return Err(Error::Closed);
                }
                self.state.wait_for_change(version, timeout);
            } else {
                wait_any(iterators, timeout)?;
            }
            Ok(())
        })
    }

    /// Says that all records of a shard up to the last of this batch are handled: after a crash the group goes on behind it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.put("user-17", "clicked")?;
    /// let mut worker = stream.group("billing").worker().open()?;
    /// let batch = worker.poll(Duration::from_secs(1))?.expect("a record was put");
    /// worker.commit(&batch)?;
    /// assert_eq!(worker.group().describe()?.lag().record_count, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// It survives the death of the process, and power loss as a put of the stream does.
    ///
    /// # Errors
    /// `GroupLeaseLost` if the shard is not this worker's any more: what it handled may be handed out to others, and the commit changes
    /// nothing. `StorageFull`, `Poisoned`, `Closed`, `Io`: the checkpoint stays where it was.
    pub fn commit(&mut self, batch: &Batch) -> Result<()> {
        let Some(last) = batch.last_sequence() else { return Ok(()) };
        match self.commit_up_to(batch.shard(), last, batch.last_timestamp()) {
            // It was handed out under an earlier lease.
            Err(Error::InvalidArgument(_)) => Err(self.state.lease_lost(batch.shard())),
            committed => committed,
        }
    }

    /// Says that all records of a shard up to one are handled; see [`commit`](Self::commit). A commit of less than was committed before
    /// changes nothing.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.put("user-17", "/")?;
    /// stream.put("user-17", "/cart")?;
    /// let mut worker = stream.group("billing").worker().open()?;
    /// let batch = worker.poll(Duration::from_secs(1))?.expect("records were put");
    /// for record in &batch {
    ///     // ... handle it, and say so record by record:
    ///     worker.commit_to(batch.shard(), record.sequence())?;
    /// }
    /// assert_eq!(worker.group().describe()?.lag().record_count, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`commit`](Self::commit); `InvalidArgument` if that record was not handed out to this worker since it got the shard.
    pub fn commit_to(&mut self, shard: ShardId, last_handled: SequenceNumber) -> Result<()> {
        let arrival = arrival_before(self.stream(), shard, last_handled.plus(1));
        self.commit_up_to(shard, last_handled, arrival)
    }

    fn commit_up_to(
        &mut self,
        shard: ShardId,
        last: SequenceNumber,
        arrival: Option<Timestamp>,
    ) -> Result<()> {
        let reading = self.reading(shard).map(|at| &self.readings[at]);
        let term = reading.map(|reading| reading.held.term);
        let next = last.plus(1);
        match reading.and_then(|reading| reading.given_up.iter().find(|(first, _)| *first == next)) {
            // There is no last record then to tell from another one.
            Some(&(_, end)) => self.state.commit(self.stream(), (shard, term), self.id, end, None),
            None => self.state.commit(self.stream(), (shard, term), self.id, next, arrival),
        }
    }

    /// The place of a shard among the readings.
    pub(super) fn reading(&self, shard: ShardId) -> Option<usize> {
        self.readings.binary_search_by_key(&shard, |reading| reading.held.shard).ok()
    }

    pub(super) fn held(&self, shard: ShardId) -> Result<Held> {
        let at = self.reading(shard).ok_or_else(|| self.state.lease_lost(shard))?;
        Ok(self.readings[at].held)
    }
    /// Leaves the group: the worker's shards go to others at once, and what it did not commit comes again.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.state.leave(self.id);
    }
}

/// What reading a shard came to.
enum Read {
    Batch(Batch),
    Nothing,
    End,
    /// What was read is for somebody else, and cannot be read again from here.
    NotOurs,
}
