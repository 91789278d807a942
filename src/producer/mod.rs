//! Putting from many threads without waiting for each record: buffered up to a bound, batched, retried while the disk is full or a limit is
//! reached.
//!
//! A put checks its record, takes room in the [budget], and copies the record into the open batch of a [lane], which the hash of its
//! partition key chooses. The lane's [sender] takes one batch after the other, writes it with one call, and reports the outcomes. So the
//! puts of one key stay in order: they are in one lane, and a lane sends one batch at a time, however often it has to retry.

mod batch;
mod budget;
mod calling;
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

use crate::{Error, IoFailure, KeyHash, PutRecord, Receipt, Result, Stream, Timestamp, extend};

use batch::{Callback, RECORD_BYTES, bytes_of};
use budget::Budget;
use lane::Lane;
use options::{Settings, invalid};

pub use options::ProducerOptions;
pub use pending::PendingReceipt;

/// Takes records from any number of threads and writes them in batches in the background. [`Stream::producer`] starts one.
///
/// Clones are cheap, and all of them are one producer. Dropping the last clone, or [`close`](Self::close), writes the buffered records. Do
/// that before closing the stream: closing the stream fails everything still buffered with [`Closed`](Error::Closed).
///
/// It follows the Kinesis Producer Library, with these differences: the buffer has a bound; the records of one partition key keep their
/// order, even when they are retried; and no record is written twice.
///
/// # Durability
/// A buffered record survives nothing. A record with a receipt is as durable as after [`Stream::put`].
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

/// The part that all clones of a producer share. Dropping it closes the producer.
struct Handle {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The state that puts and senders work on.
struct Shared {
    stream: Stream,
    settings: Settings,
    key_hash: KeyHash,
    budget: Budget,
    lanes: Vec<Lane>,
    /// The first error of a record since the last call that returned one.
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
                IoFailure::new("start the threads of a producer for", shared.stream.describe().path, source)
            };
            producer.handle.threads.lock().push(thread.map_err(failed)?);
        }
        Ok(producer)
    }

    /// Copies a record into the buffer, to be written soon. Waits while the buffer is full.
    ///
    /// Records that one thread puts with one partition key are written in that order. Within a callback of this producer, it fails with
    /// `ProducerFull` instead of waiting.
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
    /// `InvalidRecord` if a stream with these settings cannot hold it, or the buffer cannot; `Closed`; within a callback `ProducerFull`.
    /// The [`PendingReceipt`] returns write errors.
    #[inline]
    pub fn put(&self, partition_key: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Result<PendingReceipt> {
        self.put_record(&PutRecord::new(partition_key.as_ref(), data.as_ref()))
    }

    /// Like [`put`](Self::put), for a record that may have headers and an explicit hash key.
    ///
    /// # Errors
    /// Same as [`put`](Self::put).
    pub fn put_record(&self, record: &PutRecord<'_>) -> Result<PendingReceipt> {
        self.shared().put(record, None, true)
    }

    /// Like [`put`](Self::put), but fails with `ProducerFull` instead of waiting.
    ///
    /// ```
    /// # use streamlog::{Error, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let producer = stream.producer().start()?;
    /// match producer.try_put("user-17", "/checkout") {
    ///     Ok(_) => {}
    ///     Err(Error::ProducerFull) => println!("the buffer is full: shed it, or put it later"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// producer.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`put`](Self::put), and `ProducerFull` if the buffer is full.
    pub fn try_put(&self, partition_key: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Result<PendingReceipt> {
        self.try_put_record(&PutRecord::new(partition_key.as_ref(), data.as_ref()))
    }

    /// Like [`try_put`](Self::try_put), for a record that may have headers and an explicit hash key.
    ///
    /// # Errors
    /// Same as [`try_put`](Self::try_put).
    pub fn try_put_record(&self, record: &PutRecord<'_>) -> Result<PendingReceipt> {
        self.shared().put(record, None, false)
    }

    /// Like [`put_record`](Self::put_record), and calls `callback` with the record's outcome.
    ///
    /// The callback runs once, on the thread of a sender. Callbacks for one key run in the order of the puts. If this call returns an
    /// error, the callback does not run. The sender writes nothing meanwhile, so the callback should be quick. A panic in it affects
    /// nothing else. It may put and query receipts; neither waits there. It may close or drop the stream and its producers. It must not
    /// wait for another thread that waits for this producer.
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
    /// Same as [`put`](Self::put).
    pub fn put_then(
        &self,
        record: &PutRecord<'_>,
        callback: impl FnOnce(Result<Receipt>) + Send + 'static,
    ) -> Result<()> {
        self.shared().put(record, Some(Box::new(callback)), true).map(drop)
    }

    /// Sends everything put before the call without lingering. Waits until each of these records is written or has failed, and its callback
    /// has returned. Other threads may continue to put.
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
    /// It does not sync: its records are as durable as after [`Stream::put`].
    ///
    /// # Errors
    /// The first error of a record that no `flush` or [`close`](Self::close) has returned before, even if nobody waits for that record's
    /// receipt; `InvalidArgument` within a callback of this producer, which would wait for itself.
    pub fn flush(&self) -> Result<()> {
        let shared = self.shared();
        shared.refuse_callbacks()?;
        let counts: Vec<u64> = shared.lanes.iter().map(Lane::hurry).collect();
        shared.lanes.iter().zip(counts).for_each(|(lane, count)| lane.wait_until_done(count));
        shared.take_error()
    }

    /// Closes the producer and all its clones: takes no more records, and writes the buffered ones, like [`flush`](Self::flush). A put that
    /// waits for room fails with `Closed`.
    ///
    /// Dropping the last clone does the same, without reporting errors. Within a callback of the library, dropping does not wait.
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
    /// Same as [`flush`](Self::flush). The producer is closed even on an error, except within a callback.
    pub fn close(self) -> Result<()> {
        self.shared().refuse_callbacks()?;
        self.handle.close(true);
        self.shared().take_error()
    }

    /// Returns the number of buffered bytes, counted as for [`buffer_bytes`](ProducerOptions::buffer_bytes). KPL: outstanding records.
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
    /// Takes no more records. Unless it is to wait, the senders end by themselves.
    fn close(&self, must_wait: bool) {
        let shared = &*self.shared;
        if extend::check_process(&shared.stream).is_err() {
            // A child made by fork has no senders, and nothing to send: the parent does that.
            std::mem::forget(Arc::clone(&self.shared));
            if let Some(mut threads) = self.threads.try_lock() {
                std::mem::forget(std::mem::take(&mut *threads));
            }
            return;
        }
        shared.budget.close();
        let counts: Vec<u64> = shared.lanes.iter().map(Lane::close).collect();
        if !must_wait {
            return;
        }
        shared.lanes.iter().zip(counts).for_each(|(lane, count)| lane.wait_until_done(count));
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // The thread returns nothing, and the panic hook has already reported a panic.
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A sender may wait for what the callback holds up: its own next record, or the maintenance that makes room.
        self.close(!extend::is_in_callback() && !self.shared.is_called_by_sender());
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
        extend::check_process(&self.stream)?;
        self.stream.check_record(record)?;
        let bytes = bytes_of(record) + RECORD_BYTES;
        if !self.budget.try_take(bytes) {
            self.take_late(bytes, may_wait)?;
        }
        let Settings { limits, time_to_live, .. } = &self.settings;
        let put_at = if time_to_live.is_some() { self.elapsed() } else { Timestamp::default() };
        let lane = &self.lanes[self.lane_of(record)];
        let pushed = lane.push(record, callback, put_at, bytes, limits, &self.budget);
        if pushed.is_err() {
            self.budget.give_back(bytes);
        }
        let mut pending = pushed?;
        pending.producer = calling::address_of(self);
        Ok(pending)
    }

    /// Returns the time by which records age in the buffer. It does not jump with the clock.
    #[inline]
    fn elapsed(&self) -> Timestamp {
        Timestamp::default() + self.stream.clock().elapsed()
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
        if may_wait && !self.is_called_by_sender() {
            return self.budget.wait_and_take(bytes, hurry);
        }
        // So that a later attempt finds room sooner.
        hurry();
        Err(Error::ProducerFull)
    }

    /// Returns the lane of a record. Each lane has one part of the hash keys, so that it serves as few shards as possible, and all records
    /// that the stream keeps in order go through one lane.
    #[inline]
    fn lane_of(&self, record: &PutRecord<'_>) -> usize {
        if self.lanes.len() == 1 {
            return 0;
        }
        let hash_key = record.explicit_hash_key.unwrap_or_else(|| self.key_hash.hash(record.partition_key));
        let high = hash_key.get() >> 64;
        ((high * self.lanes.len() as u128) >> 64) as usize
    }

    fn is_called_by_sender(&self) -> bool {
        calling::sends_for(calling::address_of(self))
    }

    /// Fails where a call would wait forever.
    fn refuse_callbacks(&self) -> Result<()> {
        extend::check_process(&self.stream)?;
        let reason = "a callback cannot wait for its own producer: flush or close it from another thread";
        if self.is_called_by_sender() { Err(invalid(reason)) } else { Ok(()) }
    }

    #[cold]
    fn note_error(&self, error: &Error) {
        self.first_error.lock().get_or_insert_with(|| error.clone());
    }

    fn take_error(&self) -> Result<()> {
        self.first_error.lock().take().map_or(Ok(()), Err)
    }
}
