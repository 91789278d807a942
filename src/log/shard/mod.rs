//! A shard: one writer at a time appends to it, and any number of readers follow.

pub(crate) mod moment;
pub(crate) mod reader;
mod throttle;
pub(crate) mod trim;
pub(crate) mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::log::format::draft::Draft;
use crate::log::manifest::Marks;
use crate::log::recovery::RecoveredShard;
use crate::log::segment::place::ShardDir;
use crate::log::sys::root::OwnPath;
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Error, Result};
use crate::log::types::hash_key::HashKeyRange;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::stats::{ShardStats, Traffic};
use crate::log::types::throughput::Limits;
use crate::log::types::time::{Clock, Timestamp};

use reader::peers::Peers;
use reader::segment::{Begun, OpenWindows};
use reader::segments::Segments;
use reader::wait::Waiter;
use reader::{Reader, WakeReaders};
use writer::pause::PausedShard;
use writer::{Writer, WriterContext};

/// One shard of an open stream: its writer and its reader.
#[derive(Debug)]
pub(crate) struct Shard {
    dir: ShardDir,
    writer: Writer,
    reader: Arc<Reader>,
    /// Whether puts are limited. The appender has the limits.
    limits_puts: AtomicBool,
}

/// The state that all shards of a stream share.
#[derive(Debug, Clone)]
pub(crate) struct ShardContext {
    pub(crate) stream_dir: OwnPath,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) windows: Arc<OpenWindows>,
    /// The limits of each shard. They change while the manifest is locked, and so do the shards.
    pub(crate) limits: Arc<Mutex<Limits>>,
    pub(crate) writers: WriterContext,
}

impl ShardContext {
    /// Returns the reader of a shard whose records end before `end` and can be read from `horizon` on.
    fn reader(
        &self,
        description: &ShardDescription,
        segments: Segments,
        end: SequenceNumber,
        horizon: SequenceNumber,
    ) -> Reader {
        let (clock, peers) = (Arc::clone(&self.clock), Arc::clone(&self.peers));
        Reader::new(description, clock, peers, Arc::clone(&self.writers.keys), segments, horizon..end)
    }
}

impl Shard {
    /// Opens a recovered shard. `marks` are those of the last written manifest. `children` are the children of a closed shard.
    pub(crate) fn open(
        context: &ShardContext,
        description: &ShardDescription,
        marks: Marks,
        recovered: RecoveredShard,
        children: Vec<Arc<Reader>>,
    ) -> Result<Arc<Self>> {
        let dir = ShardDir::new(&context.stream_dir, description.id);
        let segments = Segments::new(dir.clone(), &recovered.sealed, Arc::clone(&context.windows));
        for segment in &recovered.unsealed {
            let first_timestamp = Timestamp::from_micros(segment.frames.first_timestamp_micros);
            let window = segment.file.window();
            segments.push(Arc::clone(window), first_timestamp, Begun::Shown(window.begun));
        }
        let next = recovered.next_sequence;
        let horizon = segments.first_base().unwrap_or(next).max(marks.horizon).min(next);
        let reader = Arc::new(context.reader(description, segments, next, horizon));
        if let Some(closed_at) = description.closed_at {
            reader.announce(next, closed_at, children);
        }
        let writers = context.writers.clone();
        let writer = Writer::recovered(dir.clone(), writers, description, recovered, Arc::clone(&reader))?;
        Ok(Self::join(context, dir, writer, reader))
    }

    /// Creates a new shard. Its directory must exist and be empty.
    pub(crate) fn create(context: &ShardContext, description: &ShardDescription) -> Result<Arc<Self>> {
        let dir = ShardDir::new(&context.stream_dir, description.id);
        let segments = Segments::new(dir.clone(), &[], Arc::clone(&context.windows));
        let first = description.first_sequence;
        let reader = Arc::new(context.reader(description, segments, first, first));
        let writer = Writer::empty(dir.clone(), context.writers.clone(), description, Arc::clone(&reader))?;
        Ok(Self::join(context, dir, writer, reader))
    }

    fn join(context: &ShardContext, dir: ShardDir, writer: Writer, reader: Arc<Reader>) -> Arc<Self> {
        let shard = Arc::new(Self { dir, writer, reader, limits_puts: AtomicBool::new(false) });
        shard.set_limits(*context.limits.lock());
        let weak = Arc::downgrade(&shard);
        shard.reader.attach(weak);
        shard
    }

    pub(crate) fn id(&self) -> ShardId {
        self.dir.shard
    }

    /// Returns the reader of the shard, which works even after the shard has left the stream.
    pub(crate) fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    pub(crate) fn hash_key_range(&self) -> HashKeyRange {
        self.reader.created().hash_key_range
    }

    /// Returns how far the shard is, for the manifest.
    pub(crate) fn marks(&self) -> Marks {
        let horizon = self.horizon();
        let last_timestamp = self.writer.last_timestamp();
        Marks { horizon, synced: self.writer.synced_sequence().max(horizon), last_timestamp }
    }

    /// Returns the number that the next record will have.
    #[inline]
    pub(crate) fn next_sequence(&self) -> SequenceNumber {
        self.reader.next_sequence()
    }

    /// Returns the oldest sequence number that can be read.
    pub(crate) fn horizon(&self) -> SequenceNumber {
        self.reader.horizon()
    }

    /// Appends a drafted frame. Returns the sequence number of the first record, or `None` if the shard is closed and the put has to be
    /// routed again.
    #[inline]
    pub(crate) fn append(&self, frame: &mut Draft<'_>) -> Result<Option<SequenceNumber>> {
        self.writer.append(frame)
    }

    /// Sets how much may pass in a second.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.writer.set_limits(limits);
        self.reader.throttle.set(limits.read_bytes_per_second, limits.read_calls_per_second);
        self.limits_puts.store(limits.limits_writes(), Ordering::Relaxed);
    }

    /// Returns whether puts are limited.
    pub(crate) fn limits_puts(&self) -> bool {
        self.limits_puts.load(Ordering::Relaxed)
    }

    /// Does what [`append`](Self::append) does with a frame of one record of these bytes, if the limits let it pass now. Otherwise it fails
    /// with `Throttled`.
    pub(crate) fn append_limited(
        &self,
        frame: &mut Draft<'_>,
        bytes: usize,
    ) -> Result<Option<SequenceNumber>> {
        self.writer.append_limited(frame, self.reader.elapsed(), bytes as u64)
    }

    /// Lets through as many of the first records as may pass now, given the bytes of each. Returns the errors for the others.
    pub(crate) fn admit_first(&self, bytes: impl Iterator<Item = usize>) -> Vec<Error> {
        let waits = self.writer.admit_first(self.reader.elapsed(), bytes.map(|bytes| bytes as u64));
        let throttled = |retry_after| Error::Throttled { shard: self.id(), retry_after };
        waits.into_iter().map(throttled).collect()
    }

    /// Makes everything put so far survive power loss.
    pub(crate) fn sync(&self) -> Result<()> {
        self.writer.sync()
    }

    /// Returns once everything below `end` survives power loss.
    pub(crate) fn sync_to(&self, end: SequenceNumber) -> Result<()> {
        self.writer.sync_to(end)
    }

    /// Renews the notes of the synced watermark in the segments.
    pub(crate) fn renew_notes(&self) {
        self.writer.renew_notes();
    }

    /// Returns whether enough segments wait to be sealed that sealing should not wait for the next pass.
    pub(crate) fn has_many_to_seal(&self) -> bool {
        self.writer.has_many_to_seal()
    }

    /// Seals the segments that wait for it.
    pub(crate) fn seal_waiting(&self) -> Result<()> {
        self.writer.seal_waiting()
    }

    /// Prepares the next thing that pays now ahead of the puts. Returns whether it found one.
    pub(crate) fn prepare_ahead(&self) -> Result<bool> {
        self.writer.prepare_ahead()
    }

    /// Removes unused prepared segments. Called once in each maintenance pass.
    pub(crate) fn drop_idle_prepared(&self, clock: &dyn Clock) {
        self.writer.drop_idle_prepared(clock.now());
    }

    /// Keeps all later sequence numbers below `ceiling`, so that children can begin there. Returns `false` if a record already has that
    /// number or a higher one.
    pub(crate) fn set_ceiling(&self, ceiling: SequenceNumber) -> bool {
        self.writer.set_ceiling(ceiling)
    }

    /// Removes the ceiling.
    pub(crate) fn lift_ceiling(&self) {
        self.writer.lift_ceiling();
    }

    /// Makes puts wait, so that the shard can be closed.
    pub(crate) fn pause(&self) -> Result<PausedShard<'_>> {
        self.writer.pause()
    }

    /// Encrypts new records with the last key in the list of keys.
    pub(crate) fn take_new_key(&self) -> Result<()> {
        self.writer.take_new_key()
    }

    /// Refuses all later puts, because what is on disk is unknown.
    pub(crate) fn poison(&self) {
        self.writer.poison();
    }

    /// Takes back the slot that shows the shard to other processes, once it has expired.
    pub(crate) fn hide(&self) {
        self.writer.hide();
    }

    /// Shuts the shard down as its stream closes. Remaining records are read without limits.
    pub(crate) fn close(&self) -> Result<()> {
        self.set_limits(Limits::none());
        self.writer.close()
    }

    pub(crate) fn stats(&self) -> Result<ShardStats> {
        let horizon = self.horizon();
        Ok(ShardStats {
            shard: self.id(),
            horizon,
            next_sequence: self.next_sequence().max(horizon),
            synced_sequence: self.writer.synced_sequence(),
            segment_count: self.reader.segments.len(),
            disk_bytes: self.disk_bytes()?,
            traffic: self.traffic(),
            iterator_age_ms: self.reader.iterator_age_ms(),
        })
    }

    /// Returns what was put and read since the stream was opened.
    pub(crate) fn traffic(&self) -> Traffic {
        let (put, read) = (self.writer.put_totals(), self.reader.reads.totals());
        Traffic {
            incoming_records: put.records,
            incoming_bytes: put.bytes + put.saved_bytes,
            incoming_stored_bytes: put.bytes,
            outgoing_records: read.records,
            outgoing_bytes: read.bytes,
            write_throttled_records: put.throttled_records,
            read_throttled_calls: self.reader.throttle.refused_count(),
        }
    }

    /// Returns the bytes that the shard's segments hold.
    pub(crate) fn data_bytes(&self) -> Result<u64> {
        self.reader.segments.data_bytes()
    }

    /// Returns the bytes that the shard's segment files take on disk.
    fn disk_bytes(&self) -> Result<u64> {
        self.reader.segments.disk_bytes()
    }
}

impl WakeReaders for Shard {
    fn wake_later(&self, waiter: &Arc<Waiter>, must_wait: &mut dyn FnMut() -> bool) -> bool {
        self.writer.wake_later(waiter, must_wait)
    }

    fn forget(&self, waiter: &Arc<Waiter>) {
        self.writer.forget_waiter(waiter);
    }

    fn last_timestamp(&self) -> Timestamp {
        self.writer.last_timestamp()
    }
}
