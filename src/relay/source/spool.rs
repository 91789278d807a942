//! A spool: the records of one shard elsewhere, in a small stream on this machine that a processor reads, and that is deleted at the end.
//!
//! **Time.** The spool's clock does not show the present: it shows how far arrivals have come in the source. So records keep their arrival times of
//! the source, and windows by arrival end once no more of their records can come.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::{
    Clock, Durability, Maintenance, Position, PutRecord, Result, Retention, SequenceNumber, ShardId, Stream,
    StreamOptions, SystemClock, Timestamp,
};

/// How far arrivals have come elsewhere.
#[derive(Debug, Default)]
struct ArrivalClock {
    micros: AtomicU64,
}

impl Clock for ArrivalClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.micros.load(Ordering::Acquire))
    }

    fn elapsed(&self) -> Duration {
        SystemClock.elapsed()
    }
}

/// How far the processor of a spool is.
#[derive(Debug, Default)]
pub(in crate::relay) struct Done {
    place: Mutex<(SequenceNumber, bool)>,
    /// The spool has no room until more is done.
    is_wanted: AtomicBool,
}

impl Done {
    /// Notes that everything below a number is done, and whether more is unfinished than the records from there on, such as an open window.
    pub(in crate::relay) fn note(&self, next: SequenceNumber, has_state: bool) {
        *self.place.lock() = (next, has_state);
    }

    /// Returns whether somebody waits for more to be done.
    pub(in crate::relay) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed)
    }
}

/// A record to be put into a spool.
#[derive(Debug)]
pub(in crate::relay) struct Arrived<'a> {
    pub(in crate::relay) record: PutRecord<'a>,
    pub(in crate::relay) arrived: Timestamp,
}

/// The spool of one shard.
#[derive(Debug)]
pub(in crate::relay) struct SpoolStream {
    stream: Option<Stream>,
    path: PathBuf,
    clock: Arc<ArrivalClock>,
    bytes_max: u64,
    /// The puts that are not done: the number behind the last record of a put, and the bytes of the put.
    open: VecDeque<(SequenceNumber, u64)>,
    bytes: u64,
    next: SequenceNumber,
    done: Arc<Done>,
}

/// The largest record of Kinesis has 10 MiB. A segment must hold one.
const RECORD_BYTES_MAX: u64 = 11 << 20;
const SEGMENT_BYTES: u64 = 16 << 20;
/// A spool has one shard, until its end.
pub(in crate::relay) const SHARD: ShardId = ShardId::new(0);

impl SpoolStream {
    /// Creates a spool in a directory that does not exist yet.
    pub(in crate::relay) fn create(path: PathBuf, bytes_max: u64) -> Result<Self> {
        let clock = Arc::new(ArrivalClock::default());
        let options = StreamOptions::new()
            .shards(1)
            .segment_bytes(SEGMENT_BYTES)
            .record_bytes_max(RECORD_BYTES_MAX)
            .retention(Retention::forever())
            .durability(Durability::Process)
            .sync_interval(None)
            .maintenance(Maintenance::Manual)
            .clock(Arc::clone(&clock) as _)
            .must_be_new();
        let stream = Some(options.open(&path)?);
        let (open, done) = (VecDeque::new(), Arc::default());
        Ok(Self { stream, path, clock, bytes_max, open, bytes: 0, next: SequenceNumber::ZERO, done })
    }

    pub(in crate::relay) fn stream(&self) -> Option<&Stream> {
        self.stream.as_ref()
    }

    pub(in crate::relay) fn done(&self) -> &Arc<Done> {
        &self.done
    }

    /// Returns whether more may be put. If not, the processor is asked to commit what it has done.
    pub(in crate::relay) fn has_room(&self) -> bool {
        let has_room = self.bytes < self.bytes_max;
        self.done.is_wanted.store(!has_room, Ordering::Relaxed);
        has_room
    }

    /// Puts records that arrived elsewhere, in order. Returns how many of them were put before an error, and the error.
    pub(in crate::relay) fn put(&mut self, records: &[Arrived<'_>]) -> (usize, Result<()>) {
        let Some(stream) = &self.stream else { return (0, Ok(())) };
        let mut count = 0;
        for together in records.chunk_by(|one, other| one.arrived == other.arrived) {
            self.clock.micros.fetch_max(together[0].arrived.as_micros(), Ordering::AcqRel);
            for Arrived { record, .. } in together {
                let put = stream.put_record(record);
                let Ok(receipt) = put else { return (count, put.map(drop)) };
                let headers = record.headers().map(|(name, value)| name.len() + value.len());
                let bytes = record.partition_key.len() + record.data.len() + headers.sum::<usize>();
                self.bytes += bytes as u64;
                self.next = receipt.sequence.plus(1);
                self.open.push_back((self.next, bytes as u64));
                count += 1;
            }
        }
        (count, Ok(()))
    }

    /// Notes that everything was put that arrived before a moment.
    pub(in crate::relay) fn note_arrived(&self, before: Timestamp) {
        self.clock.micros.fetch_max(before.as_micros(), Ordering::AcqRel);
    }

    /// Drops what is done.
    pub(in crate::relay) fn trim(&mut self) -> Result<()> {
        let (done, _) = *self.done.place.lock();
        let before = self.open.len();
        while let Some(&(_, bytes)) = self.open.front().filter(|(next, _)| *next <= done) {
            self.open.pop_front();
            self.bytes -= bytes;
        }
        if let Some(stream) = self.stream.as_ref().filter(|_| self.open.len() < before) {
            stream.trim_before(SHARD, done)?;
            stream.maintain()?;
        }
        Ok(())
    }

    /// Ends the shard: no more records come. The processor then ends its windows. The shard is split, so that it has an end.
    pub(in crate::relay) fn end(&self) -> Result<()> {
        if let Some(stream) = &self.stream
            && stream.shards().len() == 1
        {
            stream.split_shard_evenly(SHARD)?;
        }
        Ok(())
    }

    /// Returns whether everything is done that was put, if nothing comes any more.
    pub(in crate::relay) fn is_done(&self) -> bool {
        *self.done.place.lock() == (self.next, false)
    }
}

impl Drop for SpoolStream {
    fn drop(&mut self) {
        // Files that cannot be deleted stay, which does no harm: they are never read again.
        if let Some(stream) = self.stream.take() {
            let _ = stream.close();
        }
        let _ = Stream::delete(&self.path);
    }
}

/// Reads one record of a spool.
pub(in crate::relay) fn record_at<T>(
    spool: &crate::StreamReader,
    sequence: SequenceNumber,
    read: impl FnOnce(&crate::Record<'_>) -> Option<T>,
) -> Result<Option<T>> {
    let batch = spool.iterator(SHARD, Position::At(sequence))?.next_batch(1)?;
    Ok(batch.iter().next().and_then(|record| read(&record)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(millis: u64, data: &[u8]) -> Arrived<'_> {
        Arrived { record: PutRecord::new("key", data), arrived: Timestamp::from_millis(millis) }
    }

    #[test]
    fn records_have_the_times_at_which_they_arrived_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool");
        let mut spool = SpoolStream::create(path.clone(), 10).unwrap();
        let (count, put) = spool.put(&[arrived(5, b"a"), arrived(7, b"b"), arrived(6, b"c")]);
        assert_eq!((count, put.is_ok(), spool.has_room()), (3, true, false));
        let stream = spool.stream().unwrap().clone();
        let times =
            (0..3).map(|at| record_at(&stream, at.into(), |it| Some(it.timestamp().as_millis())).unwrap());
        assert_eq!(times.collect::<Vec<_>>(), [Some(5), Some(7), Some(7)], "they never decrease");
        spool.note_arrived(Timestamp::from_millis(9));
        assert_eq!(stream.now().as_millis(), 9);

        spool.done().note(2.into(), true);
        spool.trim().unwrap();
        assert!(spool.has_room() && !spool.is_done());
        assert!(stream.iterator(SHARD, Position::At(1.into())).is_err(), "it is done");
        spool.end().unwrap();
        spool.done().note(3.into(), true);
        assert!(!spool.is_done(), "a window is open");
        spool.done().note(3.into(), false);
        assert!(spool.is_done());
        drop(stream);
        drop(spool);
        assert!(!path.exists());
    }
}
