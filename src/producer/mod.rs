//! Putting from many threads without waiting for each record: buffered up to a bound, batched, tried again while the disk is full.
//!
//! A put checks its record, takes room in the [budget], and copies the record into the open batch of a [lane], which the
//! hash of its partition key chooses. The lane's [sender] takes batch after batch, writes it with one call, and tells the
//! outcomes. So what is put to one key stays in order: it is in one lane, and a lane sends one batch at a time, however often it has to
//! try.

mod batch;
mod budget;
mod lane;
mod options;
mod pending;
mod sender;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use parking_lot::Mutex;

use crate::{Error, IoFailure, KeyHash, PutRecord, Receipt, Result, Stream, Timestamp};

use batch::{Callback, RECORD_BYTES, bytes_of};
use budget::Budget;
use lane::Lane;
use options::{Settings, invalid};

pub use options::ProducerOptions;
pub use pending::PendingReceipt;

/// Takes records from any number of threads, and writes them in batches behind their backs; made by [`Stream::producer`].
///
/// A cheap clone; all clones are one producer. What is buffered is written when the last of them is dropped, or by
/// [`close`](Self::close): before the stream is closed, which ends what is still buffered with [`Closed`](Error::Closed).
///
/// Follows the Kinesis Producer Library, with these differences: what is buffered has a bound; the records of one partition key keep
/// their order, also where they are tried again; and none is written twice.
///
/// # Durability
/// A record that is buffered survives nothing. One whose receipt is there survives what a returned [`Stream::put`] does.
///
/// ```
/// use std::time::Duration;
/// use streamlog::{PutRecord, Stream};
///
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let producer = stream.producer().linger(Duration::from_millis(2)).start()?;
/// std::thread::scope(|scope| {
///     for user in ["user-4", "user-17"] {
///         let producer = &producer;
///         scope.spawn(move || {
///             for page in ["/", "/cart", "/checkout"] {
///                 producer.put(user, page).expect("the producer is open");
///             }
///         });
///     }
/// });
/// // All of it is written, or this says what went wrong first.
/// producer.flush()?;
/// # producer.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// What all clones of a producer share; dropping it closes the producer.
struct Handle {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What puts and senders work on.
struct Shared {
    stream: Stream,
    settings: Settings,
    key_hash: KeyHash,
    budget: Budget,
    lanes: Vec<Lane>,
    /// The first error of a record since it was last asked for.
    first_error: Mutex<Option<Error>>,
}

impl Producer {
    fn start(stream: Stream, settings: Settings) -> Result<Self> {
        let shared = Arc::new(Shared {
            key_hash: stream.describe().key_hash,
            stream,
            budget: Budget::new(settings.buffer_bytes),
            lanes: (0..settings.senders).map(|_| Lane::default()).collect(),
            first_error: Mutex::default(),
            settings,
        });
        let producer =
            Self { handle: Arc::new(Handle { shared: Arc::clone(&shared), threads: Mutex::default() }) };
        for at in 0..settings.senders {
            let thread = {
                let shared = Arc::clone(&shared);
                Builder::new()
                    .name("streamlog-send".into())
                    .spawn(move || sender::run(&shared, &shared.lanes[at]))
            };
            let failed = |source| {
                let path = shared.stream.describe().path;
                Error::Io(Arc::new(IoFailure { action: "start the threads of a producer for", path, source }))
            };
            producer.handle.threads.lock().push(thread.map_err(failed)?);
        }
        Ok(producer)
    }

    /// Takes a record, to be written soon; waits while the buffer is full. The record is copied.
    ///
    /// Records that one thread puts with one partition key are written in that order. From within a callback of this producer it does
    /// not wait: it says `Busy`.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let producer = stream.producer().start()?;
    /// let pending = producer.put("user-17", "/checkout")?; // buffered
    /// println!("{:?}", pending.wait()?); // written
    /// producer.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidRecord` if no stream with these settings can hold it, or the buffer cannot; `Closed`; within a callback `Busy`. Errors
    /// of writing it come with the [`PendingReceipt`].
    #[inline]
    pub fn put(&self, partition_key: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Result<PendingReceipt> {
        self.put_record(&PutRecord::new(partition_key.as_ref(), data.as_ref()))
    }

    /// As [`put`](Self::put), for a record that may carry a hash key of the caller's choice.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_record(&self, record: &PutRecord<'_>) -> Result<PendingReceipt> {
        self.shared().put(record, None, true)
    }

    /// As [`put`](Self::put), but says `Busy` where that would wait.
    ///
    /// ```
    /// # use streamlog::{Error, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let producer = stream.producer().start()?;
    /// match producer.try_put("user-17", "/checkout") {
    ///     Ok(_) => {}
    ///     Err(Error::Busy) => println!("the buffer is full: shed it, or put it later"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// producer.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put), and `Busy` if the buffer is full.
    pub fn try_put(&self, partition_key: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Result<PendingReceipt> {
        self.try_put_record(&PutRecord::new(partition_key.as_ref(), data.as_ref()))
    }

    /// As [`try_put`](Self::try_put), for a record that may carry a hash key of the caller's choice.
    ///
    /// # Errors
    /// As [`try_put`](Self::try_put).
    pub fn try_put_record(&self, record: &PutRecord<'_>) -> Result<PendingReceipt> {
        self.shared().put(record, None, false)
    }

    /// As [`put_record`](Self::put_record), and has `callback` called with the record's outcome.
    ///
    /// It is called once, on the thread of a sender, in the order of the puts of a key; where this returns an error, it is not. Nothing
    /// else is written by that sender meanwhile, so it should be quick. If it panics, it does so alone. It may put, which does not wait
    /// there; it must not wait for receipts.
    ///
    /// ```
    /// # use streamlog::{PutRecord, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let producer = stream.producer().start()?;
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// producer.put_then(&PutRecord::new("user-17", "clicked"), move |outcome| {
    ///     let _ = sender.send(outcome);
    /// })?;
    /// println!("{:?}", receiver.recv()??);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_then(
        &self,
        record: &PutRecord<'_>,
        callback: impl FnOnce(Result<Receipt>) + Send + 'static,
    ) -> Result<()> {
        self.shared().put(record, Some(Box::new(callback)), true).map(drop)
    }

    /// Has all that was put before the call sent without lingering, and waits until each of these records is written or has failed, and
    /// its callback has returned. Others may go on to put.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let producer = stream.producer().start()?;
    /// producer.put("user-17", "/checkout")?;
    /// producer.flush()?;
    /// assert_eq!(stream.stats()?.record_count(), 1);
    /// producer.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// It does not sync: what it wrote survives what a returned [`Stream::put`] does.
    ///
    /// # Errors
    /// The first error of a record, also of one whose receipt nobody waits for, that no `flush` or [`close`](Self::close) has told of
    /// before; `InvalidArgument` within a callback of this producer, which would wait for itself.
    pub fn flush(&self) -> Result<()> {
        let shared = self.shared();
        shared.refuse_callbacks()?;
        let counts: Vec<u64> = shared.lanes.iter().map(Lane::hurry).collect();
        shared.lanes.iter().zip(counts).for_each(|(lane, count)| lane.wait_until_done(count));
        shared.take_error()
    }

    /// Closes the producer, also for its clones: takes no more records, and writes all that it has, as [`flush`](Self::flush) does. A put
    /// that waits for room is told `Closed`.
    ///
    /// Dropping the last clone does the same, and says nothing of errors; within a callback it does not wait.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let producer = stream.producer().start()?;
    /// producer.put("user-17", "/checkout")?;
    /// producer.close()?; // before the stream
    /// stream.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`flush`](Self::flush); the producer is closed all the same, but within a callback.
    pub fn close(self) -> Result<()> {
        self.shared().refuse_callbacks()?;
        self.handle.close();
        self.shared().take_error()
    }

    /// The bytes that are buffered now, counted as for [`buffer_bytes`](ProducerOptions::buffer_bytes): KPL's outstanding records.
    pub fn buffered_bytes(&self) -> usize {
        self.shared().budget.used()
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.shared();
        let mut told = f.debug_struct("Producer");
        told.field("settings", &shared.settings).field("buffered_bytes", &shared.budget.used());
        told.finish_non_exhaustive()
    }
}

impl Handle {
    fn close(&self) {
        let shared = &*self.shared;
        shared.budget.close();
        let counts: Vec<u64> = shared.lanes.iter().map(Lane::close).collect();
        if sender::is_sender_of(shared) {
            return;
        }
        shared.lanes.iter().zip(counts).for_each(|(lane, count)| lane.wait_until_done(count));
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // It has nothing to return, and a panic of it is printed already.
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    #[inline]
    fn put(
        &self,
        record: &PutRecord<'_>,
        callback: Option<Callback>,
        may_wait: bool,
    ) -> Result<PendingReceipt> {
        self.stream.check_record(record)?;
        let bytes = bytes_of(record) + RECORD_BYTES;
        if !self.budget.try_take(bytes) {
            self.take_late(bytes, may_wait)?;
        }
        let Settings { limits, time_to_live, .. } = &self.settings;
        let put_at = if time_to_live.is_some() { self.stream.now() } else { Timestamp::default() };
        let lane = &self.lanes[self.lane_of(record)];
        let pushed = lane.push(record, callback, put_at, bytes, limits, &self.budget);
        if pushed.is_err() {
            self.budget.give_back(bytes);
        }
        pushed
    }

    #[cold]
    fn take_late(&self, bytes: usize, may_wait: bool) -> Result<()> {
        let bytes_max = self.settings.buffer_bytes;
        if bytes > bytes_max {
            let reason = format!(
                "it takes {bytes} bytes in the producer's buffer, which has {bytes_max}: enlarge buffer_bytes"
            );
            return Err(Error::InvalidRecord { index: 0, reason: reason.into() });
        }
        let hurry = || self.lanes.iter().for_each(|lane| _ = lane.hurry());
        if may_wait && !sender::is_sender_of(self) {
            return self.budget.wait_and_take(bytes, hurry);
        }
        // Whoever comes back later finds room the sooner.
        hurry();
        Err(Error::Busy)
    }

    /// The lane of a record: each has its part of the hash keys, so that it has as few shards as can be, and that all records which the
    /// stream keeps in order go through one.
    #[inline]
    fn lane_of(&self, record: &PutRecord<'_>) -> usize {
        if self.lanes.len() == 1 {
            return 0;
        }
        let hash_key = record.hash_key().unwrap_or_else(|| self.key_hash.hash(record.partition_key()));
        let high = hash_key.get() >> 64;
        ((high * self.lanes.len() as u128) >> 64) as usize
    }

    fn refuse_callbacks(&self) -> Result<()> {
        let reason = "a callback cannot wait for its own producer: flush or close it from another thread";
        if sender::is_sender_of(self) { Err(invalid(reason)) } else { Ok(()) }
    }

    #[cold]
    fn note_error(&self, error: &Error) {
        self.first_error.lock().get_or_insert_with(|| error.clone());
    }

    fn take_error(&self) -> Result<()> {
        self.first_error.lock().take().map_or(Ok(()), Err)
    }
}
