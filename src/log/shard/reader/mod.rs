//! The reading side of a shard: its segments, how far it goes, and what reads it.
//!
//! It can exist without a writer. Where there is one, that raises the end and adds segments, and wakes those who wait.

pub(crate) mod batch;
mod find;
pub(crate) mod iterator;
pub(crate) mod lag;
mod reads;
pub(crate) mod record;
pub(crate) mod records;
pub(crate) mod segments;
pub(crate) mod verify;
pub(crate) mod wait;
pub(crate) mod wait_any;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::{Clock, Timestamp};

use reads::Reads;
use segments::Segments;
use wait::Waiter;

/// What reads a shard.
#[derive(Debug)]
pub(crate) struct Reader {
    /// As it was when the shard was created: how it ended is in `closing`.
    created: ShardDescription,
    clock: Arc<dyn Clock>,
    pub(super) segments: Segments,
    /// The number that the next record will have: all below may be read. Raised by the writer after the record is committed in its
    /// segment; were it raised before, a reader that looks for it would find nothing and call that damage.
    end: AtomicU64,
    pub(super) horizon: Horizon,
    pub(super) reads: Reads,
    closing: OnceLock<Closing>,
    /// Who wakes those that wait; nobody, where the shard has no writer.
    waker: OnceLock<Weak<dyn WakeReaders>>,
}

/// Who puts to a shard, as those see it who wait for its records.
pub(super) trait WakeReaders: std::fmt::Debug + Send + Sync {
    /// Has a waiter woken by the next put, if it still has to wait, which is looked at when no put can come in between. Returns whether there can
    /// be a put.
    fn wake_later(&self, waiter: &Arc<Waiter>, must_wait: &mut dyn FnMut() -> bool) -> bool;

    /// Takes back [`wake_later`](Self::wake_later).
    fn forget(&self, waiter: &Arc<Waiter>);
}

/// The oldest record that can be read.
#[derive(Debug)]
pub(super) struct Horizon {
    sequence: AtomicU64,
    /// When that record arrived, in microseconds; 0 while nobody has looked.
    timestamp: AtomicU64,
}

/// How a shard ended.
#[derive(Debug)]
struct Closing {
    /// The number after its last record.
    sequence: SequenceNumber,
    closed_at: Timestamp,
    /// They are kept here, so that a reader who is slower than the retention still finds its way.
    children: Vec<Arc<Reader>>,
}

impl Reader {
    /// That of a shard whose records end before `end`, of which those from `horizon` on can be read.
    pub(super) fn new(
        description: &ShardDescription,
        clock: Arc<dyn Clock>,
        segments: Segments,
        end: SequenceNumber,
        horizon: SequenceNumber,
    ) -> Self {
        Self {
            created: ShardDescription { closing_sequence: None, closed_at: None, ..description.clone() },
            clock,
            segments,
            end: AtomicU64::new(end.get()),
            horizon: Horizon { sequence: AtomicU64::new(horizon.get()), timestamp: AtomicU64::new(0) },
            reads: Reads::default(),
            closing: OnceLock::new(),
            waker: OnceLock::new(),
        }
    }

    /// Has those that wait woken by `waker` from now on.
    pub(super) fn attach(&self, waker: Weak<dyn WakeReaders>) {
        // Nobody else sets it: a shard is made once.
        let _ = self.waker.set(waker);
    }

    fn waker(&self) -> Option<Arc<dyn WakeReaders>> {
        self.waker.get().and_then(Weak::upgrade)
    }

    pub(crate) fn id(&self) -> ShardId {
        self.created.id
    }

    /// The shard's place in the stream, as it is now.
    pub(crate) fn description(&self) -> ShardDescription {
        let closing = self.closing.get();
        ShardDescription {
            closing_sequence: closing.map(|closing| closing.sequence),
            closed_at: closing.map(|closing| closing.closed_at),
            ..self.created.clone()
        }
    }

    /// The shard's place in the stream, as it was when the shard was created.
    pub(super) fn created(&self) -> &ShardDescription {
        &self.created
    }

    /// The number that the next record will have.
    #[inline]
    pub(crate) fn next_sequence(&self) -> SequenceNumber {
        SequenceNumber::new(self.end.load(Ordering::Acquire))
    }

    /// Lets readers know of all records below a number, which are committed.
    #[inline]
    pub(super) fn raise_end(&self, end: SequenceNumber) {
        self.end.store(end.get(), Ordering::Release);
    }

    /// The oldest number that can be read.
    #[inline]
    pub(crate) fn horizon(&self) -> SequenceNumber {
        SequenceNumber::new(self.horizon.sequence.load(Ordering::Acquire))
    }

    /// The error for a reader that is behind the horizon.
    fn check_horizon(&self, requested: SequenceNumber) -> Result<()> {
        match self.horizon() {
            horizon if requested < horizon => Err(Error::Trimmed { shard: self.id(), requested, horizon }),
            _ => Ok(()),
        }
    }

    /// Shows readers who come to the end of a shard that closes where to go on.
    pub(super) fn announce(&self, end: SequenceNumber, closed_at: Timestamp, children: Vec<Arc<Self>>) {
        // Nobody else sets it: a shard closes once.
        let _ = self.closing.set(Closing { sequence: end, closed_at, children });
    }

    /// The shard's children, for a reader that goes on with `next`, if the shard is closed and that is its end.
    fn children_after(&self, next: SequenceNumber) -> Option<&[Arc<Self>]> {
        self.closing.get().filter(|closing| next >= closing.sequence).map(|closing| &closing.children[..])
    }
}

impl Horizon {
    /// Moves the horizon on; it never goes back. Returns whether it moved.
    pub(super) fn raise(&self, sequence: SequenceNumber) -> bool {
        self.sequence.fetch_max(sequence.get(), Ordering::AcqRel) < sequence.get()
    }

    /// When the record at the horizon arrived, at the earliest, as far as that was looked at.
    pub(super) fn timestamp(&self) -> Timestamp {
        Timestamp::from_micros(self.timestamp.load(Ordering::Relaxed))
    }

    pub(super) fn note_timestamp(&self, timestamp: Timestamp) {
        self.timestamp.store(timestamp.as_micros(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::iterator::ShardIterator;
    use super::wait_any::wait_any;
    use super::*;
    use crate::log::segment::place::ShardDir;
    use crate::{Position, StreamOptions, SystemClock};

    #[test]
    fn p6_a_reader_needs_no_writer() {
        let directory = tempfile::tempdir().unwrap();
        let stream = StreamOptions::new().segment_bytes(64 << 10).open(directory.path()).unwrap();
        for number in 0..50u8 {
            stream.put("key", vec![number; 10_000]).unwrap();
        }
        let description = stream.shards().remove(0);
        stream.close().unwrap();

        let dir = ShardDir::new(directory.path(), description.id);
        let bases = dir.bases().unwrap();
        assert!(bases.len() > 5, "{bases:?}");
        let (segments, clock) = (Segments::new(dir, &bases), Arc::new(SystemClock));
        let (end, horizon) = (SequenceNumber::new(50), SequenceNumber::new(7));
        let reader = Arc::new(Reader::new(&description, clock, segments, end, horizon));
        let mut iterator = ShardIterator::new(Arc::clone(&reader), Position::TrimHorizon).unwrap();
        let numbers: Vec<u8> = iterator.records().map(|record| record.unwrap().data[0]).collect();
        assert_eq!(numbers, (7..50).collect::<Vec<_>>());
        assert!(matches!(wait_any([&iterator], Duration::from_secs(60)), Err(Error::Closed)), "nobody puts");
        let behind = ShardIterator::new(reader, Position::At(SequenceNumber::ZERO));
        assert!(matches!(behind, Err(Error::Trimmed { .. })));
    }
}
