//! One worker of a consumer group.

use super::checkpoint::Place;
use super::groups::{Group, GroupInUse};
use super::leases::{Held, Term, WorkerId};
use super::options::{OnTrimmed, WorkerOptions};
use super::readable::arrival_before;
use crate::{
    Batch, Error, HashKeyRange, KeyHash, Position, Result, SequenceNumber, ShardId, ShardIterator,
    StreamReader, Timestamp, extend,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The largest state of a shard, which fits into a segment.
const STATE_BYTES_MAX: usize = 1_000_000;

/// One worker of a consumer group. It reads the shards that it has a lease on, a batch at a time, and commits its progress.
///
/// The workers of a group share the shards of the stream. Each shard belongs to one worker, and the numbers of shards per worker differ by
/// at most one. Open one worker in each thread or task that handles records. Dropping a worker does the same as [`close`](Self::close).
///
/// Records are delivered **at least once**: after a crash, or when a lease is lost, records that were not committed are delivered again.
/// The records of one partition key come in the order in which they were put, also across splits and merges: a child is assigned only after
/// its parents are read to the end and committed.
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
    pub(super) state: GroupInUse,
    pub(super) id: WorkerId,
    pub(super) key_hash: KeyHash,
    /// The shards that the worker has leases on, in order. They match `version` of the leases.
    pub(super) readings: Vec<Reading>,
    pub(super) version: Option<u64>,
    /// The index of the shard whose turn it is.
    turn: usize,
    pub(super) skipped_count: u64,
    /// A caller waits for the next batch, and the group knows it.
    pub(super) is_waiting: bool,
    /// The place on the wait lists of the shards.
    pub(super) records: extend::Waiting,
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
    /// Created when it is the shard's turn.
    pub(super) iterator: Option<ShardIterator>,
    /// Everything in it is handed out.
    pub(super) is_at_end: bool,
    /// The caller wants no more of it for now.
    is_paused: bool,
    /// The checkpoint at which the worker began to read, if that is within a record.
    pub(super) begun_within: Option<Place>,
    pub(super) range: Option<HashKeyRange>,
    /// The stream's limits block reads of this shard until then, counted like [`Clock::elapsed`](crate::Clock::elapsed). Zero if they did not
    /// refuse the last read.
    pub(super) throttled_until: Duration,
    /// Ranges of records that were given up: the first, and the one after the last. A commit of everything before a range includes it.
    pub(super) given_up: Vec<(SequenceNumber, SequenceNumber)>,
}

impl Reading {
    fn new(held: Held) -> Self {
        Self {
            held,
            iterator: None,
            is_at_end: false,
            is_paused: false,
            begun_within: None,
            range: None,
            throttled_until: Duration::ZERO,
            given_up: vec![],
        }
    }

    pub(super) fn is_to_read(&self) -> bool {
        !self.is_at_end && !self.held.is_leaving && !self.is_paused
    }
}

impl WorkerOptions {
    /// Joins the group, and creates it if it is new.
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
    /// `InvalidArgument` for a setting out of range or a name that no group can have, and in a child made by `fork`; `Corrupt` if the checkpoints are
    /// damaged; `Closed`, `StorageFull`, `Io`.
    pub fn open(self) -> Result<Worker> {
        self.check()?;
        extend::check_process(&self.group.reader)?;
        Worker::join(self)
    }
}

impl Worker {
    fn join(options: WorkerOptions) -> Result<Self> {
        let group = &options.group;
        let (state, id) = group.open(Some(options.start), options.salvage, |state| {
            if let Some(bytes_max) = options.hold {
                state.set_hold(&group.reader, bytes_max)?;
            }
            Ok(state.join(options.lease_timeout))
        })?;
        let key_hash = group.reader.describe().key_hash;
        Ok(Self {
            options,
            key_hash,
            state,
            id,
            readings: vec![],
            version: None,
            turn: 0,
            skipped_count: 0,
            is_waiting: false,
            records: extend::Waiting::default(),
        })
    }

    pub(super) fn stream(&self) -> &StreamReader {
        &self.options.group.reader
    }

    /// Returns the worker's group.
    pub fn group(&self) -> &Group {
        &self.options.group
    }

    /// Returns the worker's number in its group.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// Returns the shards that the worker reads, as of its last poll, without those that it is about to hand over.
    pub fn shards(&self) -> Vec<ShardId> {
        let readings = self.readings.iter().filter(|reading| !reading.held.is_leaving);
        readings.map(|reading| reading.held.shard).collect()
    }

    /// Returns how many records were skipped because retention had dropped them before the group handled them.
    pub fn skipped_count(&self) -> u64 {
        self.skipped_count
    }

    /// Returns the next batch if there is one.
    pub(super) fn try_next(&mut self) -> Result<Option<Batch>> {
        loop {
            let version = self.state.call(self.id, self.options.lease_timeout);
            if self.version != Some(version) {
                self.take_over();
            }
            if let Some(batch) = self.read_next()? {
                return Ok(Some(batch));
            }
            // At the end of a shard, its children may become readable.
            if self.version.is_some_and(|version| self.state.is_at(version)) {
                return Ok(None);
            }
        }
    }

    /// Returns whether the stream's limits currently block reads of a shard.
    pub(super) fn is_throttled(&self, reading: &Reading) -> bool {
        !reading.throttled_until.is_zero() && reading.throttled_until > self.stream().clock().elapsed()
    }

    /// Drops the shards that the worker no longer has a lease on, and adds those that it has.
    fn take_over(&mut self) {
        let (held, version) = self.state.held_by(self.id);
        let known = std::mem::take(&mut self.readings).into_iter();
        let mut known: BTreeMap<_, _> = known.map(|reading| (reading.held.term, reading)).collect();
        let reading_of = |held: Held| match known.remove(&held.term) {
            Some(reading) => Reading { held, ..reading },
            None => Reading::new(held),
        };
        self.readings = held.into_iter().map(reading_of).collect();
        self.version = Some(version);
    }

    /// Reads a batch of the next shard in turn that has one.
    fn read_next(&mut self) -> Result<Option<Batch>> {
        for _ in 0..self.readings.len() {
            self.turn = (self.turn + 1) % self.readings.len();
            match self.read(self.turn) {
                // The shard was taken away during the read. The next check of the leases shows what the worker may still read.
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
        // A closed stream has no limits.
        let is_throttled = self.is_throttled(&self.readings[at]) && !self.stream().is_closed();
        if !self.readings[at].is_to_read() || is_throttled {
            return Ok(None);
        }
        self.readings[at].throttled_until = Duration::ZERO;
        let held = self.readings[at].held;
        let mut iterator = match self.readings[at].iterator.take() {
            Some(iterator) => iterator,
            None => match self.begin(held)? {
                Some(iterator) => {
                    self.readings[at].given_up.clear();
                    iterator
                }
                None => return Ok(None),
            },
        };
        let mut read = self.read_from(&mut iterator, held);
        if matches!(read, Err(Error::Cut { .. })) {
            // Another process has opened the stream again. The checkpoint says whether the handled records are still there.
            let checkpoint =
                self.state.checkpoints.get(held.shard).map_or(held.checkpoint, |known| known.next);
            let Some(begun) = self.begin(Held { checkpoint, ..held })? else { return Ok(None) };
            iterator = begun;
            read = self.read_from(&mut iterator, held);
        }
        let now = self.stream().clock().elapsed();
        let reading = &mut self.readings[at];
        reading.iterator = (!matches!(read, Ok(Read::NotOurs))).then_some(iterator);
        if let Err(Error::Throttled { retry_after, .. }) = read {
            reading.throttled_until = now + retry_after;
            return Ok(None);
        }
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
        // A read that finds nothing would count towards the limits. A reader in another process has none.
        if self.stream().is_own() && !extend::is_readable(iterator) {
            return Ok(Read::Nothing);
        }
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
            // The worker may keep the shard after all, and then this batch comes next. If the batch is trimmed by now, the iterator has to
            // be created again, which reports that.
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

    /// Commits that all records of a shard up to the last of this batch are handled. After a crash, the group continues after it.
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
    /// A commit survives the death of the process. It survives power loss like a put to the stream.
    ///
    /// # Errors
    /// `GroupLeaseLost` if the shard is no longer this worker's: the records that it handled may be delivered to others, and the commit
    /// changes nothing. `StorageFull`, `Poisoned`, `Closed`, `Io`: the checkpoint stays where it was.
    pub fn commit(&mut self, batch: &Batch) -> Result<()> {
        let Some(last) = batch.last_sequence() else { return Ok(()) };
        self.commit_handed_out(batch.shard(), last.plus(1).into(), batch.last_timestamp())
    }

    /// Commits what this worker was handed out.
    pub(super) fn commit_handed_out(
        &mut self,
        shard: ShardId,
        next: Place,
        arrival: Option<Timestamp>,
    ) -> Result<()> {
        match self.commit_up_to(shard, next, arrival, None) {
            // It was handed out under an earlier lease.
            Err(Error::InvalidArgument(_)) => Err(self.state.lease_lost(shard)),
            committed => committed,
        }
    }

    /// Commits that all records of a shard up to a sequence number are handled; see [`commit`](Self::commit). A commit below the last one
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
    /// Same as [`commit`](Self::commit); `InvalidArgument` if this worker has not received that record since it got the shard.
    pub fn commit_to(&mut self, shard: ShardId, last_handled: SequenceNumber) -> Result<()> {
        let next = last_handled.plus(1);
        self.commit_up_to(shard, next.into(), arrival_before(self.stream(), shard, next), None)
    }

    /// Commits that all records of a shard below a sequence number are handled, together with a state: a crash leaves both or neither. So a
    /// count in the state counts each record exactly once. [`committed_state`](Self::committed_state) returns it to the next worker of the
    /// shard.
    ///
    /// Each commit replaces the state, and a commit without a state drops it. An empty state counts as none. A shard that was split or
    /// merged ends only with a commit of its [end](Self::is_at_end) without a state.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.put("user-17", "/cart")?;
    /// let mut worker = stream.group("billing").worker().open()?;
    /// let batch = worker.poll(Duration::from_secs(1))?.expect("a record was put");
    /// let shard = batch.shard();
    /// let counted = worker.committed_state(shard).map_or(0, |state| state[0]) + batch.len() as u8;
    /// let next = batch.last_sequence().expect("it has a record").plus(1);
    /// worker.commit_with_state(shard, next, &[counted])?;
    /// assert_eq!(worker.committed_state(shard).as_deref(), Some(&[1][..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// Same as [`commit`](Self::commit).
    ///
    /// # Errors
    /// Same as [`commit_to`](Self::commit_to); `InvalidArgument` for a state of more than 1 MB.
    pub fn commit_with_state(&mut self, shard: ShardId, next: SequenceNumber, state: &[u8]) -> Result<()> {
        if state.len() > STATE_BYTES_MAX {
            let reason = format!("a state of {} bytes: it may have {STATE_BYTES_MAX}", state.len());
            return Err(Error::InvalidArgument(reason.into()));
        }
        let state = (!state.is_empty()).then(|| Arc::from(state));
        self.commit_up_to(shard, next.into(), arrival_before(self.stream(), shard, next), state)
    }

    /// Returns the state that was last [committed](Self::commit_with_state) with the checkpoint of a shard, by any worker of the group.
    pub fn committed_state(&self, shard: ShardId) -> Option<Arc<[u8]>> {
        self.state.checkpoints.state(shard)
    }

    /// Records which layer reads as the worker's group, for its description.
    pub(crate) fn note_reader(&self, layer: &str) -> Result<()> {
        self.state.checkpoints.note_reader(layer)
    }

    /// Stores a text with the group under a name, unless there is one already. Returns the stored one.
    #[cfg(feature = "delivery")]
    pub(crate) fn keep_first(&self, name: &str, text: &str) -> Result<String> {
        self.state.checkpoints.keep_first(name, text)
    }

    /// Returns a text that is kept with the group.
    #[cfg(feature = "delivery")]
    pub(crate) fn kept(&self, name: &str) -> Option<String> {
        self.state.checkpoints.kept(name)
    }

    /// Returns whether the worker has read a shard to its end. Only a shard that was split or merged has an end.
    pub fn is_at_end(&self, shard: ShardId) -> bool {
        self.reading(shard).is_some_and(|at| self.readings[at].is_at_end)
    }

    /// Returns whether a poll that found nothing looked at this shard, so that it had no records. A poll skips shards that are paused, that are
    /// moving to another worker, or whose reads the stream's limits refuse.
    pub(crate) fn looks_at(&self, shard: ShardId) -> bool {
        self.reading(shard).map(|at| &self.readings[at]).is_some_and(|reading| {
            reading.is_at_end || reading.is_to_read() && reading.throttled_until.is_zero()
        })
    }

    /// Returns whether the limits of the stream refused the last read of a shard. If so, it may have more records, whatever the time is by now.
    #[cfg(feature = "sql")]
    pub(crate) fn is_held_up(&self, shard: ShardId) -> bool {
        self.reading(shard).is_some_and(|at| !self.readings[at].throttled_until.is_zero())
    }

    /// Returns the number of the lease under which the worker reads a shard and commits, as of its last poll. A new lease begins at the
    /// checkpoint, wherever the previous one was: another worker may have had the shard meanwhile, or the group was moved.
    pub(crate) fn term(&self, shard: ShardId) -> Option<Term> {
        self.reading(shard).map(|at| self.readings[at].held.term)
    }

    /// Returns whether the worker has the lease on a shard, as of its last poll, and so may commit its records. Unlike
    /// [`shards`](Self::shards), this includes shards that it is about to hand over.
    pub fn has_lease(&self, shard: ShardId) -> bool {
        self.reading(shard).is_some()
    }

    /// Returns no more records of a shard until [`resume`](Self::resume) is called, or the worker gets the shard anew. Use it when the caller's
    /// buffers are full.
    pub fn pause(&mut self, shard: ShardId) {
        self.set_paused(shard, true);
    }

    /// Resumes a [paused](Self::pause) shard.
    pub fn resume(&mut self, shard: ShardId) {
        self.set_paused(shard, false);
    }

    fn set_paused(&mut self, shard: ShardId, is_paused: bool) {
        if let Some(at) = self.reading(shard) {
            self.readings[at].is_paused = is_paused;
        }
    }

    fn commit_up_to(
        &mut self,
        shard: ShardId,
        next: Place,
        arrival: Option<Timestamp>,
        state: Option<Arc<[u8]>>,
    ) -> Result<()> {
        let reading = self.reading(shard).map(|at| &self.readings[at]);
        let term = reading.map(|reading| reading.held.term);
        match reading.and_then(|reading| reading.given_up.iter().find(|(first, _)| next == (*first).into())) {
            // The last record is lost then, so there is no arrival time to compare with later.
            Some(&(_, end)) => {
                self.state.commit(self.stream(), (shard, term), self.id, end.into(), None, state)
            }
            None => self.state.commit(self.stream(), (shard, term), self.id, next, arrival, state),
        }
    }

    /// Returns the index of a shard in the readings.
    pub(super) fn reading(&self, shard: ShardId) -> Option<usize> {
        self.readings.binary_search_by_key(&shard, |reading| reading.held.shard).ok()
    }

    pub(super) fn held(&self, shard: ShardId) -> Result<Held> {
        let at = self.reading(shard).ok_or_else(|| self.state.lease_lost(shard))?;
        Ok(self.readings[at].held)
    }

    /// Leaves the group. Its shards go to other workers immediately, and records that it did not commit are delivered again.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.state.leave(self.id);
    }
}

/// The outcome of reading a shard.
enum Read {
    Batch(Batch),
    Nothing,
    End,
    /// The records that were read belong to another worker, and the iterator cannot go back to them.
    NotOurs,
}
