//! Closing a shard in favour of its children.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::appender::{Appender, NO_CEILING, State};
use super::turn::HeldTurn;
use super::{Closing, Shard};
use crate::log::types::error::{Error, Result};
use crate::log::types::event::event;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

/// A shard whose puts wait, until it is closed or goes on; dropping this lets it go on.
#[derive(Debug)]
pub(crate) struct PausedShard<'a> {
    shard: &'a Shard,
    appender: MutexGuard<'a, Appender>,
    _sync_turn: HeldTurn<'a>,
}

impl Shard {
    /// Lets no record have the number `ceiling` or a higher one, so that children can begin there; tells whether none has.
    pub(crate) fn set_ceiling(&self, ceiling: SequenceNumber) -> bool {
        let mut appender = self.appender.lock();
        appender.ceiling = ceiling;
        appender.next_sequence() <= ceiling
    }

    /// Takes that back.
    pub(crate) fn lift_ceiling(&self) {
        self.appender.lock().ceiling = NO_CEILING;
    }

    /// Makes puts wait, to close the shard.
    pub(crate) fn pause(&self) -> Result<PausedShard<'_>> {
        let sync_turn = self.sync_turn.take();
        let appender = self.appender.lock();
        match appender.state {
            State::Open => Ok(PausedShard { shard: self, appender, _sync_turn: sync_turn }),
            State::ShardClosed => Err(Error::invalid(format!(
                "{} is closed already: its children own its hash keys now",
                self.id
            ))),
            State::StreamClosed => Err(Error::Closed),
            State::Poisoned => Err(Error::Poisoned(self.id)),
        }
    }
}

impl PausedShard<'_> {
    /// Makes all that was put survive power loss.
    pub(crate) fn sync(&mut self) -> Result<()> {
        let synced = self.shard.sync_segments(&mut self.appender);
        if let Err(error) = &synced {
            self.shard.tell_failed_sync(error);
            self.appender.state = State::Poisoned;
        }
        synced
    }

    pub(crate) fn id(&self) -> ShardId {
        self.shard.id
    }

    /// The number that the next record would have.
    pub(crate) fn next_sequence(&self) -> SequenceNumber {
        self.appender.next_sequence()
    }

    /// When the last record arrived.
    pub(crate) fn last_timestamp(&self) -> Timestamp {
        self.appender.last_timestamp()
    }

    /// Shows readers who come to the end where to go on. This has to come before anything is put to the children: a reader at the end
    /// of this shard would take it for the end of all.
    pub(crate) fn announce(&self, closed_at: Timestamp, children: Vec<Arc<Shard>>) {
        let sequence = self.appender.next_sequence();
        // Nobody else sets it: the state is `Open`, under this lock.
        let _ = self.shard.closing.set(Closing { sequence, closed_at, children });
    }

    /// Closes the shard: puts that wait are routed again, and readers go on with the children, which were announced.
    ///
    /// The map that routes them must be in its place.
    pub(crate) fn close(mut self) {
        let shard = self.shard;
        self.appender.state = State::ShardClosed;
        // An empty segment that cannot be emptied further is found and ignored when the stream is opened again.
        let _ = self.appender.retire_active();
        let sequence = self.appender.next_sequence();
        shard.synced_sequence.store(sequence.get(), Ordering::Release);
        let waiting = self.appender.waiting.take();
        drop(self);
        waiting.notify();
        event!(info, "a shard is closed", dir = shard.dir.display(), end = sequence);
        shard.bell.notify();
    }
}
