//! Closing a shard in favour of its children.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::Writer;
use super::appender::{Appender, State};
use super::turn::HeldTurn;
use crate::log::shard::reader::Reader;
use crate::log::types::error::Result;
use crate::log::types::event::event;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

/// A shard whose puts wait until it is closed or resumed. Dropping this resumes them.
#[derive(Debug)]
pub(crate) struct PausedShard<'a> {
    writer: &'a Writer,
    appender: MutexGuard<'a, Appender>,
    _turn: HeldTurn<'a>,
}

impl Writer {
    /// Makes puts wait, so that the shard can be closed.
    pub(in super::super) fn pause(&self) -> Result<PausedShard<'_>> {
        let turn = self.turn.take();
        let appender = self.appender.lock();
        appender.check_open(self.dir.shard)?;
        Ok(PausedShard { writer: self, appender, _turn: turn })
    }
}

impl PausedShard<'_> {
    /// Makes everything put so far survive power loss.
    pub(crate) fn sync(&mut self) -> Result<()> {
        let synced = self.writer.sync_all(&mut self.appender);
        if let Err(error) = &synced {
            self.writer.tell_failed_sync(error);
            self.appender.state = State::Poisoned;
        }
        synced
    }

    pub(crate) fn id(&self) -> ShardId {
        self.writer.dir.shard
    }

    /// Returns the number that the next record would have.
    pub(crate) fn next_sequence(&self) -> SequenceNumber {
        self.appender.next_sequence
    }

    /// Returns when the last record arrived.
    pub(crate) fn last_timestamp(&self) -> Timestamp {
        self.appender.last_timestamp
    }

    /// Publishes the children for readers that reach the end of this shard. It must precede the first put to a child: otherwise a reader at
    /// the end of this shard would take that for the end of all records.
    pub(crate) fn announce(&self, closed_at: Timestamp, children: Vec<Arc<Reader>>) {
        self.writer.reader.announce(self.appender.next_sequence, closed_at, children);
        self.appender.live.show_closed(self.appender.next_sequence);
    }

    /// Closes the shard. Waiting puts are routed again, and readers move on to the children, which must have been announced.
    ///
    /// The shard map that routes those puts must already be in place.
    pub(crate) fn close(mut self) {
        let writer = self.writer;
        self.appender.state = State::ShardClosed;
        // If the blocks of an empty segment cannot be freed, the next opening finds the segment and ignores it.
        let _ = writer.retire_active(&mut self.appender);
        let end = self.appender.next_sequence;
        writer.note_synced_to(end);
        self.appender.live.show_synced(end);
        let Self { appender, _turn, .. } = self;
        writer.wake(appender);
        drop(_turn);
        event!(info, "a shard is closed", dir = writer.dir.path().display(), end = end);
        writer.context.work.notify();
    }
}
