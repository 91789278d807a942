//! What the append lock protects.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::log::recovery::RecoveredShard;
use crate::log::segment::active::{Active, Resumable};
use crate::log::segment::file::SegmentFile;
use crate::log::segment::unsealed::Unsealed;
use crate::log::shard::reader::wait::WaitList;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

/// The ceiling of a shard that is not about to have children.
pub(super) const NO_CEILING: SequenceNumber = SequenceNumber::new(u64::MAX);

/// What the append lock protects.
#[derive(Debug)]
pub(super) struct Appender {
    pub(super) state: State,
    /// None until the first put.
    pub(super) active: Option<Active>,
    /// The last segment, if there is no active one and it may be written on.
    pub(super) resumable: Option<Resumable>,
    /// Segments before the active one that have no trailer yet, oldest first.
    pub(super) unsealed: VecDeque<Arc<Unsealed>>,
    pub(super) next_sequence: SequenceNumber,
    /// No record gets this number or a higher one: the shard's children begin there, if it is about to have some.
    pub(super) ceiling: SequenceNumber,
    pub(super) last_timestamp: Timestamp,
    /// With the end of the active segment's frames: the bytes put since the stream was opened. May be below zero.
    put_bytes_before: u64,
    pub(super) waiting: WaitList,
    /// There is a segment file whose name may not survive power loss.
    pub(super) has_new_names: bool,
}

/// What becomes of a put.
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
    /// Goes on where recovery found the shard.
    pub(super) fn recovered(recovered: RecoveredShard, is_closed: bool, created_at: Timestamp) -> Self {
        let RecoveredShard { unsealed, resumable, next_sequence, last_timestamp, .. } = recovered;
        Self {
            state: if is_closed { State::ShardClosed } else { State::Open },
            resumable,
            // The names that recovery found may be as young as those of a new segment.
            has_new_names: !unsealed.is_empty(),
            unsealed: unsealed.into_iter().map(Arc::new).collect(),
            // A shard's first record is not older than its parents' last.
            ..Self::empty(next_sequence, last_timestamp.max(created_at))
        }
    }

    /// A shard without a record.
    pub(super) fn empty(next_sequence: SequenceNumber, last_timestamp: Timestamp) -> Self {
        Self {
            state: State::Open,
            active: None,
            resumable: None,
            unsealed: VecDeque::new(),
            next_sequence,
            ceiling: NO_CEILING,
            last_timestamp,
            put_bytes_before: 0,
            waiting: WaitList::default(),
            has_new_names: false,
        }
    }

    /// All segments that may hold bytes that are not synced, oldest first.
    pub(super) fn files_to_sync(&self) -> Vec<Arc<SegmentFile>> {
        let unsealed = self.unsealed.iter().map(|segment| &segment.file);
        unsealed.chain(self.active.as_ref().map(Active::file)).cloned().collect()
    }

    /// Where the last segment ends; `None` while it is being written to.
    pub(super) fn last_end(&self) -> Option<SequenceNumber> {
        self.active.is_none().then_some(self.next_sequence)
    }

    /// The bytes of the frames that were put since the stream was opened.
    pub(super) fn put_bytes(&self) -> u64 {
        self.put_bytes_before.wrapping_add(self.active.as_ref().map_or(0, Active::frames_end))
    }

    /// Makes the next segment the active one. Returns whether there was one before it, which is to be sealed now.
    pub(super) fn begin(&mut self, next: Active) -> bool {
        self.resumable = None;
        self.has_new_names = true;
        self.put_bytes_before = self.put_bytes().wrapping_sub(next.frames_end());
        let full = self.active.replace(next);
        let has_full = full.is_some();
        self.unsealed.extend(full.map(|full| Arc::new(full.finish())));
        has_full
    }

    /// Ends the active segment, if there is one: the next put begins another. One without a record is only emptied.
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

    /// Lets go of the segments up to the one that begins with `last`, which are trimmed and need no trailer any more. Returns whether there was
    /// one.
    pub(super) fn forget_unsealed(&mut self, last: Option<SequenceNumber>) -> bool {
        let count = self.unsealed.partition_point(|segment| Some(segment.base()) <= last);
        self.unsealed.drain(..count).len() > 0
    }

    /// The error for whoever wants to change a shard that takes no puts.
    pub(super) fn check_open(&self, shard: ShardId) -> Result<()> {
        match self.state {
            State::Open => Ok(()),
            State::ShardClosed => {
                Err(Error::invalid(format!("{shard} is closed already: its children own its hash keys now")))
            }
            State::StreamClosed => Err(Error::Closed),
            State::Poisoned => Err(Error::Poisoned(shard)),
        }
    }
}
