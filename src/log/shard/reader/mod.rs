//! The reader of a shard: its segments, its end, its horizon and its iterators.
//!
//! A reader can exist without a writer. A writer, if there is one, raises the end, adds segments, and wakes waiting threads.

pub(crate) mod archived;
pub(crate) mod batch;
#[cfg(feature = "futures")]
pub(crate) mod batches;
mod find;
pub(crate) mod follow;
mod follow_segments;
pub(crate) mod iterator;
pub(crate) mod lag;
mod limited;
pub(crate) mod peers;
mod portion;
mod reads;
pub(crate) mod record;
pub(crate) mod records;
mod seek;
pub(crate) mod segment;
pub(crate) mod segments;
mod unpack;
pub(crate) mod verify;
pub(crate) mod wait;
pub(crate) mod wait_any;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use super::throttle::ReadThrottle;
use crate::log::keys::Keys;
use crate::log::keys::segment_key::SegmentKey;
use crate::log::segment::window::Window;
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::{Clock, Timestamp};

use archived::Archived;
use follow::{Follow, FollowStream};
use peers::Peers;
use reads::Reads;
use segments::Segments;
use wait::Waiter;

/// The reader of a shard.
#[derive(Debug)]
pub(crate) struct Reader {
    /// The shard as it was when it was created. `closing` has how it ended.
    created: ShardDescription,
    clock: Arc<dyn Clock>,
    peers: Arc<Peers>,
    keys: Arc<Keys>,
    pub(super) segments: Segments,
    /// The number that the next record will have; all records below may be read. The writer raises it after the record is committed in its
    /// segment. In the other order, a reader would look for the record, find nothing, and report damage.
    end: AtomicU64,
    pub(super) horizon: Horizon,
    pub(super) reads: Reads,
    /// Limits the reads, except in a process that follows the stream.
    pub(super) throttle: ReadThrottle,
    closing: OnceLock<Closing>,
    /// Wakes the threads that wait. Not set if the shard has no writer.
    waker: OnceLock<Weak<dyn WakeReaders>>,
    /// Keeps the reader up to date if another process may write the shard.
    follow: Option<Follow>,
    /// What is archived of the shard, for a reader that was given the archive.
    archived: Option<Archived>,
}

/// The writer of a shard, as seen by the threads that wait for its records.
pub(crate) trait WakeReaders: std::fmt::Debug + Send + Sync {
    /// Registers a waiter for the next put if `must_wait` returns `true`. No put can come between that check and the registration. Returns
    /// `false` if no more puts can come because the stream is closed.
    fn wake_later(&self, waiter: &Arc<Waiter>, must_wait: &mut dyn FnMut() -> bool) -> bool;

    /// Undoes [`wake_later`](Self::wake_later).
    fn forget(&self, waiter: &Arc<Waiter>);

    /// Parks a thread whose waiter was registered here and nowhere else until it is notified or until a deadline. Returns whether it was
    /// notified.
    fn park(&self, waiter: &Arc<Waiter>, deadline: Option<Instant>) -> bool {
        waiter.park(deadline)
    }

    /// Called after waiters were registered that do not park here: makes sure that they are notified.
    fn listen(&self) {}

    /// Identifies whatever notifies the waiters, if a thread that waits may do that for the others.
    fn notifier(&self) -> Option<usize> {
        None
    }

    /// Returns a lower bound of the timestamps of all later records.
    fn last_timestamp(&self) -> Timestamp;
}

/// The oldest record that can be read.
#[derive(Debug)]
pub(super) struct Horizon {
    sequence: AtomicU64,
    /// When that record arrived, in microseconds; 0 until somebody has looked.
    timestamp: AtomicU64,
}

/// How a shard ended.
#[derive(Debug)]
struct Closing {
    /// The number after its last record.
    sequence: SequenceNumber,
    closed_at: Timestamp,
    /// Kept here so that a reader slower than retention still finds the children.
    children: Vec<Arc<Reader>>,
}

impl Reader {
    /// Returns the reader of a shard whose records have numbers within `bounds`.
    pub(super) fn new(
        description: &ShardDescription,
        clock: Arc<dyn Clock>,
        peers: Arc<Peers>,
        keys: Arc<Keys>,
        segments: Segments,
        bounds: Range<SequenceNumber>,
    ) -> Self {
        Self {
            created: ShardDescription { closing_sequence: None, closed_at: None, ..description.clone() },
            clock,
            peers,
            keys,
            segments,
            end: AtomicU64::new(bounds.end.get()),
            horizon: Horizon { sequence: AtomicU64::new(bounds.start.get()), timestamp: AtomicU64::new(0) },
            reads: Reads::default(),
            throttle: ReadThrottle::default(),
            closing: OnceLock::new(),
            waker: OnceLock::new(),
            follow: None,
            archived: None,
        }
    }

    /// Returns the reader of a shard of a stream that another process may have open. It knows nothing of the shard yet.
    pub(crate) fn followed(
        description: &ShardDescription,
        clock: Arc<dyn Clock>,
        peers: Arc<Peers>,
        keys: Arc<Keys>,
        segments: Segments,
        stream: Weak<dyn FollowStream>,
        archived: Option<Archived>,
    ) -> Self {
        let first = description.first_sequence;
        let reader = Self::new(description, clock, peers, keys, segments, first..first);
        Self { follow: Some(Follow::new(stream)), archived, ..reader }
    }

    /// Sets the writer that wakes waiting threads from now on.
    pub(crate) fn attach(&self, waker: Weak<dyn WakeReaders>) {
        self.peers.add(Weak::clone(&waker));
        // Nobody else sets it: a shard is created once.
        let _ = self.waker.set(waker);
    }

    fn waker(&self) -> Option<Arc<dyn WakeReaders>> {
        self.waker.get().and_then(Weak::upgrade)
    }

    pub(crate) fn id(&self) -> ShardId {
        self.created.id
    }

    /// Returns the shard's current place in the stream.
    pub(crate) fn description(&self) -> ShardDescription {
        let closing = self.closing.get();
        ShardDescription {
            closing_sequence: closing.map(|closing| closing.sequence),
            closed_at: closing.map(|closing| closing.closed_at),
            ..self.created.clone()
        }
    }

    /// Returns the key of an encrypted frame in a segment.
    pub(super) fn key(&self, window: &Window, data_key: u32) -> Result<Arc<SegmentKey>> {
        if !self.keys.lists(data_key) {
            // Another process has begun to use it since.
            self.reload()?;
        }
        window.key(data_key, |segment| self.keys.segment_key(data_key, segment))
    }

    /// Returns how much time has passed.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Returns the shard's place in the stream as it was when the shard was created.
    pub(crate) fn created(&self) -> &ShardDescription {
        &self.created
    }

    /// Returns the number that the next record will have.
    #[inline]
    pub(crate) fn next_sequence(&self) -> SequenceNumber {
        SequenceNumber::new(self.end.load(Ordering::Acquire))
    }

    /// Makes all records below `end` known to readers. They must be committed.
    #[inline]
    pub(super) fn raise_end(&self, end: SequenceNumber) {
        self.end.store(end.get(), Ordering::Release);
    }

    /// Returns the oldest sequence number that can be read from the stream's own files.
    #[inline]
    pub(crate) fn horizon(&self) -> SequenceNumber {
        SequenceNumber::new(self.horizon.sequence.load(Ordering::Acquire))
    }

    /// Fails with `Trimmed` if a reader is behind the horizon, and the record it needs is not archived.
    fn check_horizon(&self, requested: SequenceNumber) -> Result<()> {
        if requested >= self.horizon() {
            return Ok(());
        }
        match self.first_readable(requested)? {
            horizon if requested < horizon => Err(Error::Trimmed { shard: self.id(), requested, horizon }),
            _ => Ok(()),
        }
    }

    /// Returns the bytes that the shard's segments hold.
    pub(crate) fn data_bytes(&self) -> Result<u64> {
        self.segments.data_bytes()
    }

    /// Publishes the children for readers that reach the end of a closing shard.
    pub(crate) fn announce(&self, end: SequenceNumber, closed_at: Timestamp, children: Vec<Arc<Self>>) {
        // Nobody else sets it: a shard closes once.
        let _ = self.closing.set(Closing { sequence: end, closed_at, children });
    }

    /// Returns the shard's children, if it is closed and `next` is its end.
    pub(crate) fn children_after(&self, next: SequenceNumber) -> Option<&[Arc<Self>]> {
        self.closing.get().filter(|closing| next >= closing.sequence).map(|closing| &closing.children[..])
    }
}

impl Horizon {
    /// Sets the horizon, which may go back: recovery may bring back records of the last segments.
    fn set(&self, sequence: SequenceNumber) {
        self.sequence.store(sequence.get(), Ordering::Release);
        self.timestamp.store(0, Ordering::Relaxed);
    }

    /// Raises the horizon. It never goes back. Returns whether it moved.
    pub(super) fn raise(&self, sequence: SequenceNumber) -> bool {
        self.sequence.fetch_max(sequence.get(), Ordering::AcqRel) < sequence.get()
    }

    /// Returns the earliest time at which the record at the horizon can have arrived, as far as somebody has looked.
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
    use crate::log::sys::root::OwnPath;
    use crate::log::types::keys::KeyList;
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

        let dir = ShardDir::new(&OwnPath::open_root(directory.path()).unwrap(), description.id);
        let bases = dir.bases().unwrap();
        assert!(bases.len() > 5, "{bases:?}");
        let (segments, clock) = (Segments::new(dir, &bases, Arc::default()), Arc::new(SystemClock));
        let bounds = SequenceNumber::new(7)..SequenceNumber::new(50);
        let keys =
            Arc::new(Keys::new(&OwnPath::open_root(directory.path()).unwrap(), None, KeyList::default()));
        let reader = Arc::new(Reader::new(&description, clock, Arc::default(), keys, segments, bounds));
        let mut iterator = ShardIterator::new(Arc::clone(&reader), Position::TrimHorizon).unwrap();
        let numbers: Vec<u8> = iterator.records().map(|record| record.unwrap().data[0]).collect();
        assert_eq!(numbers, (7..50).collect::<Vec<_>>());
        assert!(matches!(wait_any([&iterator], Duration::from_secs(60)), Err(Error::Closed)), "nobody puts");
        let behind = ShardIterator::new(reader, Position::At(SequenceNumber::ZERO));
        assert!(matches!(behind, Err(Error::Trimmed { .. })));
    }
}
