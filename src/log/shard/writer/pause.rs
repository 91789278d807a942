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

/// A shard whose puts wait, until it is closed or goes on; dropping this lets it go on.
#[derive(Debug)]
pub(crate) struct PausedShard<'a> {
    writer: &'a Writer,
    appender: MutexGuard<'a, Appender>,
    _turn: HeldTurn<'a>,
}

impl Writer {
    /// Makes puts wait, to close the shard.
    pub(in super::super) fn pause(&self) -> Result<PausedShard<'_>> {
        let turn = self.turn.take();
        let appender = self.appender.lock();
        appender.check_open(self.dir.shard)?;
        Ok(PausedShard { writer: self, appender, _turn: turn })
    }
}

impl PausedShard<'_> {
    /// Makes all that was put survive power loss.
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

    /// The number that the next record would have.
    pub(crate) fn next_sequence(&self) -> SequenceNumber {
        self.appender.next_sequence
    }

    /// When the last record arrived.
    pub(crate) fn last_timestamp(&self) -> Timestamp {
        self.appender.last_timestamp
    }

    /// Shows readers who come to the end where to go on. This has to come before anything is put to the children: a reader at the end
    /// of this shard would take it for the end of all.
    pub(crate) fn announce(&self, closed_at: Timestamp, children: Vec<Arc<Reader>>) {
        self.writer.reader.announce(self.appender.next_sequence, closed_at, children);
    }

    /// Closes the shard: puts that wait are routed again, and readers go on with the children, which were announced.
    ///
    /// The map that routes them must be in its place.
    pub(crate) fn close(mut self) {
        let writer = self.writer;
        self.appender.state = State::ShardClosed;
        // An empty segment that cannot be emptied further is found and ignored when the stream is opened again.
        let _ = writer.retire_active(&mut self.appender);
        let end = self.appender.next_sequence;
        writer.note_synced_to(end);
        let waiting = self.appender.waiting.take();
        drop(self);
        waiting.notify();
        event!(info, "a shard is closed", dir = writer.dir.path().display(), end = end);
        writer.context.bell.notify();
    }
}
