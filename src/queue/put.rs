//! Puts through a queue: with an id, so that a repeated put stores the record once, and delayed.
//!
//! **A put with an id:** the journal notes that the id is being put → the record is put, with the id in a header → the journal has its receipt.
//! After a crash in between, the next put with the id looks for it among the records since then.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use xxhash_rust::xxh3::xxh3_128;

use super::entry::Moment;
use super::options::{TIMEOUT_MAX, check_timeout};
use super::shared::Queue;
use super::state::{IdHash, Known, Place};
use crate::{Error, MINUTE, OwnedRecord, Position, PutRecord, Receipt, Result, Stream, Timestamp, extend};

/// How long an id is known, as in SQS.
pub(super) const ID_KNOWN_FOR: Duration = Duration::from_secs(300);

/// The header that says until when a record is delayed, in microseconds since 1970.
const DELAYED_UNTIL: &str = "queue-delayed-until";
/// The header with the id that a record was put with.
const ID: &str = "queue-id";

/// Returns until when a record that was just read is delayed, if it is.
pub(super) fn delayed_until(record: &OwnedRecord, moment: Moment) -> Option<Timestamp> {
    let text = std::str::from_utf8(record.headers().get(DELAYED_UNTIL)?).ok()?;
    let until = Timestamp::from_micros(text.parse().ok()?);
    Some(moment.to_elapsed(until, TIMEOUT_MAX)).filter(|&until| until > moment.elapsed)
}

/// The ids of puts that are in progress.
#[derive(Debug, Default)]
pub(super) struct Putting {
    ids: Mutex<BTreeSet<IdHash>>,
    ended: Condvar,
}

/// A put with an id that is in progress until this is dropped.
struct PutInProgress<'a> {
    putting: &'a Putting,
    id: IdHash,
}

impl Putting {
    /// Waits until nobody else puts with the same id.
    fn begin(&self, id: IdHash) -> PutInProgress<'_> {
        let mut ids = self.ids.lock();
        while !ids.insert(id) {
            self.ended.wait(&mut ids);
        }
        PutInProgress { putting: self, id }
    }
}

impl Drop for PutInProgress<'_> {
    fn drop(&mut self) {
        self.putting.ids.lock().remove(&self.id);
        self.putting.ended.notify_all();
    }
}

impl Queue {
    /// Puts a record to the stream that the queue delivers only after a delay of up to 12 hours. The delay is in a header of the record,
    /// `queue-delayed-until`, which all queues of the stream respect. Groups and other readers see the record immediately.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::{PutRecord, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let queue = stream.queue("jobs").open()?;
    /// queue.put_delayed(&PutRecord::new("job-17", "remind"), Duration::from_secs(60))?;
    /// assert!(queue.receive(1, Duration::ZERO)?.is_empty());
    /// assert_eq!(queue.describe()?.delayed_count, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`Stream::put`]; `InvalidArgument` for a longer delay, or if another process may have the stream open.
    pub fn put_delayed(&self, record: &PutRecord<'_>, delay: Duration) -> Result<Receipt> {
        check_timeout("delay", delay)?;
        let stream = self.stream_to_put()?;
        let until = (stream.now() + delay).as_micros().to_string();
        stream.put_record(&record.clone().header(DELAYED_UNTIL, &until))
    }

    /// Puts a record to the stream, unless this call has put one with the same id within the last five minutes. In that case, it returns the receipt
    /// of the earlier record, even if that record has been acknowledged since, and even after a crash. So if a program does not know whether a put
    /// succeeded, it can repeat the put. The id is in a header of the record, `queue-id`.
    ///
    /// Puts with the same id wait for each other. The queue remembers as many ids as it may have
    /// [outstanding](crate::QueueOptions::outstanding_max) records.
    ///
    /// ```
    /// # use streamlog::{PutRecord, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let queue = stream.queue("jobs").open()?;
    /// let first = queue.put("order-17", &PutRecord::new("user-4", "ship it"))?;
    /// let again = queue.put("order-17", &PutRecord::new("user-4", "ship it"))?;
    /// assert_eq!(again, first);
    /// assert_eq!(stream.stats()?.record_count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// Same as [`Stream::put`], for the record and for its remembered id.
    ///
    /// # Errors
    /// Same as [`Stream::put`]; `InvalidArgument` if another process may have the stream open, or if the queue remembers too many ids. After
    /// any error, put again with the same id.
    pub fn put(&self, id: impl AsRef<[u8]>, record: &PutRecord<'_>) -> Result<Receipt> {
        let (id, stream) = (id.as_ref(), self.stream_to_put()?);
        let record = record.clone().header(ID, id);
        stream.check_record(&record)?;
        extend::check_process(stream)?;
        let hash = xxh3_128(id);
        // Meanwhile, an id without a receipt is one whose put was interrupted.
        let _putting = self.shared.putting.begin(hash);
        let mut known = self.known(hash)?;
        if let Some(Known { until, receipt: None }) = known {
            let receipt = self.find(id, until)?;
            known = receipt.map(|receipt| self.remember(hash, Some(receipt))).transpose()?;
        }
        if let Some(Known { receipt: Some((place, timestamp)), .. }) = known {
            return Ok(Receipt { shard: place.shard, sequence: place.sequence, timestamp });
        }
        self.remember(hash, None)?;
        let receipt = stream.put_record(&record)?;
        let place = Place { shard: receipt.shard, sequence: receipt.sequence };
        self.remember(hash, Some((place, receipt.timestamp)))?;
        Ok(receipt)
    }

    fn stream_to_put(&self) -> Result<&Stream> {
        self.shared.to_put.as_ref().ok_or_else(|| {
            Error::InvalidArgument(
                "records are put by the process that has the stream open: call this there".into(),
            )
        })
    }

    /// Returns what is known of an id.
    fn known(&self, hash: IdHash) -> Result<Option<Known>> {
        let mut locked = self.shared.lock()?;
        locked.settle(self.shared.moment())?;
        let state = &locked.inner().state;
        let known = state.ids().get(&hash).copied();
        if known.is_none() && state.ids().len() >= self.shared.outstanding_max {
            let reason = format!(
                "the queue {:?} remembers {} ids of the last five minutes: put again later, or raise outstanding_max",
                self.shared.name,
                state.ids().len()
            );
            return Err(Error::InvalidArgument(reason.into()));
        }
        Ok(known)
    }

    fn remember(&self, hash: IdHash, receipt: Option<(Place, Timestamp)>) -> Result<Known> {
        let mut locked = self.shared.lock()?;
        let moment = self.shared.moment();
        let known = Known { until: moment.elapsed + ID_KNOWN_FOR, receipt };
        locked.inner().state.set_id(hash, Some(known));
        locked.commit(moment)?;
        Ok(known)
    }

    /// Looks for the record of a put that was interrupted.
    fn find(&self, id: &[u8], until: Timestamp) -> Result<Option<(Place, Timestamp)>> {
        let stream = &self.shared.stream;
        let moment = self.shared.moment();
        // When the id was remembered, at most; a clock that was set since may have been behind.
        let age = ID_KNOWN_FOR.saturating_sub(until.since(moment.elapsed)) + MINUTE;
        let since = Position::AtTimestamp(moment.time_of_day - age);
        for shard in stream.shards() {
            let mut iterator = match stream.iterator(shard.id, since) {
                Ok(iterator) => extend::unlimited(iterator),
                // It has expired since it was listed.
                Err(Error::ShardNotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            for record in iterator.records() {
                let record = record?;
                if record.headers().get(ID) == Some(id) {
                    let place = Place { shard: shard.id, sequence: record.sequence };
                    return Ok(Some((place, record.timestamp)));
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Maintenance, ManualClock, StreamOptions};

    #[test]
    fn l1_a_put_that_was_interrupted_is_found_by_its_id() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let open = || {
            let options = StreamOptions::new().shards(2).maintenance(Maintenance::Manual);
            options.clock(clock.clone()).open(directory.path()).unwrap()
        };
        for is_put in [false, true] {
            let (stream, id) = (open(), format!("id-{is_put}"));
            let queue = stream.queue("jobs").open().unwrap();
            queue.put("another", &PutRecord::new("key", "data")).unwrap();
            // What a put does until it is interrupted.
            queue.remember(xxh3_128(id.as_bytes()), None).unwrap();
            let record = PutRecord::new("key", &id).header(ID, &id);
            let first = is_put.then(|| stream.put_record(&record).unwrap());
            queue.close().unwrap();
            stream.close().unwrap();
            clock.advance(MINUTE);
            let stream = open();
            let queue = stream.queue("jobs").open().unwrap();
            let again = queue.put(&id, &PutRecord::new("key", &id)).unwrap();
            assert_eq!(first.unwrap_or(again), again);
            assert_eq!(queue.put(&id, &PutRecord::new("key", &id)).unwrap(), again);
            let records = queue.receive(10, Duration::ZERO).unwrap();
            assert_eq!(records.iter().filter(|record| &*record.record.data == id.as_bytes()).count(), 1);
            clock.advance(10 * MINUTE);
        }
    }
}
