//! The state that the append lock protects.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::log::live::publish::Slot;
use crate::log::recovery::RecoveredShard;
use crate::log::segment::active::{Active, Resumable};
use crate::log::segment::file::SegmentFile;
use crate::log::segment::unsealed::Unsealed;
use crate::log::shard::reader::wait::WaitList;
use crate::log::shard::throttle::Buckets;
use crate::log::sys::dir::OpenDir;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

/// The ceiling of a shard that is not about to have children.
pub(super) const NO_CEILING: SequenceNumber = SequenceNumber::new(u64::MAX);

/// The state that the append lock protects.
#[derive(Debug)]
pub(super) struct Appender {
    pub(super) state: State,
    /// `None` until the first put.
    pub(super) active: Option<Active>,
    /// The last segment, if no segment is active and this one may be written to again.
    pub(super) resumable: Option<Resumable>,
    /// The segments before the active one that have no trailer yet, oldest first.
    pub(super) unsealed: VecDeque<Arc<Unsealed>>,
    pub(super) next_sequence: SequenceNumber,
    /// No record gets this number or a higher one. The shard's children begin there if it is about to have any.
    pub(super) ceiling: SequenceNumber,
    pub(super) last_timestamp: Timestamp,
    /// Added to the end of the active segment's frames, this gives the bytes put since the stream was opened. It may be below zero.
    put_bytes_before: u64,
    /// The bytes that compression has saved since the stream was opened.
    pub(super) saved_bytes: u64,
    pub(super) waiting: WaitList,
    /// Limits the puts. Here, because the lock is held for each put anyway.
    pub(super) buckets: Buckets,
    /// Shows other processes how far the shard is.
    pub(super) live: Slot,
    /// The directory, if it may have names that do not survive power loss. It is opened before a segment gets its name, so that no sync of
    /// a put can fail for lack of a descriptor.
    pub(super) new_names: Option<OpenDir>,
}

/// The state of a shard, which decides what happens to a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// It goes to the shard's children.
    ShardClosed,
    StreamClosed,
    /// A sync failed.
    Poisoned,
}

impl Appender {
    /// Continues where recovery found the shard.
    pub(super) fn recovered(
        recovered: RecoveredShard,
        is_closed: bool,
        created_at: Timestamp,
        live: Slot,
    ) -> Self {
        let RecoveredShard { unsealed, resumable, new_names, next_sequence, last_timestamp, .. } = recovered;
        Self {
            state: if is_closed { State::ShardClosed } else { State::Open },
            resumable,
            new_names,
            unsealed: unsealed.into_iter().map(Arc::new).collect(),
            // A shard's first record is not older than its parents' last.
            ..Self::empty(next_sequence, last_timestamp.max(created_at), live)
        }
    }

    /// Returns the state of a shard without records.
    pub(super) fn empty(next_sequence: SequenceNumber, last_timestamp: Timestamp, live: Slot) -> Self {
        Self {
            state: State::Open,
            active: None,
            resumable: None,
            unsealed: VecDeque::new(),
            next_sequence,
            ceiling: NO_CEILING,
            last_timestamp,
            put_bytes_before: 0,
            saved_bytes: 0,
            waiting: WaitList::default(),
            buckets: Buckets::default(),
            live,
            new_names: None,
        }
    }

    /// Returns all segments that may hold unsynced bytes, oldest first.
    pub(super) fn files_to_sync(&self) -> Vec<Arc<SegmentFile>> {
        let unsealed = self.unsealed.iter().map(|segment| &segment.file);
        unsealed.chain(self.active.as_ref().map(Active::file)).cloned().collect()
    }

    /// Returns whether a file is one of those.
    pub(super) fn is_to_sync(&self, file: &Arc<SegmentFile>) -> bool {
        self.files_to_sync().iter().any(|known| Arc::ptr_eq(known, file))
    }

    /// Returns where the last segment ends, or `None` if it is written to.
    pub(super) fn last_end(&self) -> Option<SequenceNumber> {
        self.active.is_none().then_some(self.next_sequence)
    }

    /// Returns the bytes of the frames put since the stream was opened.
    pub(super) fn put_bytes(&self) -> u64 {
        self.put_bytes_before.wrapping_add(self.active.as_ref().map_or(0, Active::frames_end))
    }

    /// Makes `next` the active segment, for whose name `new_names` must be there. Returns whether another was active before, which must now
    /// be sealed.
    pub(super) fn begin(&mut self, next: Active) -> bool {
        debug_assert!(self.new_names.is_some());
        self.resumable = None;
        self.put_bytes_before = self.put_bytes().wrapping_sub(next.frames_end());
        self.live.begin_segment(next.window().place.base, next.frames_end(), self.put_bytes_before);
        let full = self.active.replace(next);
        let has_full = full.is_some();
        self.unsealed.extend(full.map(|full| Arc::new(full.finish())));
        has_full
    }

    /// Ends the active segment, if any, so that the next put begins another. A segment without records is only emptied.
    pub(super) fn retire_active(&mut self) -> Result<()> {
        self.put_bytes_before = self.put_bytes();
        match self.active.take() {
            Some(active) if active.is_empty() => {
                self.resumable = Some(Resumable::empty(self.next_sequence));
                active.give_back_blocks()
            }
            Some(active) => {
                self.unsealed.push_back(Arc::new(active.finish()));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Returns whether the shard takes puts and has a segment for them.
    pub(super) fn is_writing(&self) -> bool {
        self.state == State::Open && self.active.is_some()
    }

    /// Drops the segments up to the one that begins with `last`. They are trimmed: they no longer need a trailer, and are not written to
    /// again. Returns whether one of them had no trailer yet.
    pub(super) fn forget_up_to(&mut self, last: SequenceNumber) -> bool {
        self.resumable = self.resumable.filter(|resumable| resumable.base > last);
        let count = self.unsealed.partition_point(|segment| segment.base() <= last);
        self.unsealed.drain(..count).len() > 0
    }

    /// Fails unless the shard takes puts, for a caller that wants to change it.
    pub(super) fn check_open(&self, shard: ShardId) -> Result<()> {
        match self.state {
            State::Open => Ok(()),
            State::ShardClosed => Err(Error::shard_closed(shard)),
            State::StreamClosed => Err(Error::Closed),
            State::Poisoned => Err(Error::Poisoned(shard)),
        }
    }
}
