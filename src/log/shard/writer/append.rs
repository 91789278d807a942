//! Appending frames, and rolling to the next segment.
//!
//! **Roll**, when a frame does not fit into the active segment:
//! 1. The next segment is begun, named by the next sequence number. A crash leaves an empty segment, which recovery resumes.
//! 2. It is added where readers find it.
//! 3. The old segment is ended: a reader that has read all of it moves on to the next.
//! 4. The frame is appended to the new segment.
//! 5. The old segment is sealed in the background. A crash leaves it without a trailer, and recovery scans it.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::Writer;
use super::appender::{Appender, NO_CEILING, State};
use crate::log::format::draft::Draft;
use crate::log::segment::active::Active;
use crate::log::shard::reader::segment::Begun;
use crate::log::sys::dir::OpenDir;
use crate::log::types::error::{Error, Result};
use crate::log::types::event::event;
use crate::log::types::limits::unsealed_count_max;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

impl Writer {
    /// Appends a drafted frame.
    ///
    /// Returns the sequence number of the first record, or `None` if the shard is closed and the put has to be routed again.
    #[inline]
    pub(in super::super) fn append(&self, frame: &mut Draft<'_>) -> Result<Option<SequenceNumber>> {
        self.append_locked(self.appender.lock(), frame)
    }

    // As a call, it would cost each put.
    #[inline(always)]
    pub(super) fn append_locked(
        &self,
        mut appender: MutexGuard<'_, Appender>,
        frame: &mut Draft<'_>,
    ) -> Result<Option<SequenceNumber>> {
        let len = frame.len() as u64;
        match appender.state {
            State::Open => {}
            State::ShardClosed => return Ok(None),
            State::StreamClosed => return Err(Error::Closed),
            State::Poisoned => return Err(Error::Poisoned(self.dir.shard)),
        }
        if appender.next_sequence.plus(frame.count().into()) >= appender.ceiling {
            return self.at_ceiling(appender.ceiling);
        }
        let timestamp = frame.put_at.max(appender.last_timestamp);
        if !appender.active.as_ref().is_some_and(|active| active.has_room(len)) {
            self.roll(&mut appender, frame.put_at, timestamp, len)?;
        }
        let Some(active) = &mut appender.active else { unreachable!("rolling makes an active segment") };
        let reserved = active.reserve(len);
        self.context.sources.retry_if_full(reserved, || active.reserve(len))?;
        let appended = active.append(frame, timestamp);
        if active.asks_for_more_ahead() {
            self.context.work_ahead.notify();
        }
        if appended.is_err() {
            // A failed write may have left part of a frame behind the last one. The segment ends here, so that nothing is written over it.
            let _ = self.retire_active(&mut appender);
        }
        let base = appended?;
        let committed = appender.active.as_ref().map_or(0, Active::frames_end);
        appender.next_sequence = base.plus(frame.count().into());
        appender.last_timestamp = timestamp;
        frame.put_at = timestamp;
        self.reader.raise_end(appender.next_sequence);
        if frame.plain_len() != frame.len() {
            appender.saved_bytes += (frame.plain_len() - frame.len()) as u64;
            appender.live.show_saved(appender.saved_bytes);
        }
        appender.live.put(committed, appender.next_sequence);
        self.wake(appender);
        Ok(Some(base))
    }

    /// Handles a put for which no sequence number is left below the ceiling: it has to wait for the children.
    #[cold]
    fn at_ceiling(&self, ceiling: SequenceNumber) -> Result<Option<SequenceNumber>> {
        if ceiling == NO_CEILING {
            return Err(Error::invalid(format!(
                "{} has used up its sequence numbers: go on in a new stream",
                self.dir.shard
            )));
        }
        Ok(None)
    }

    /// Makes an active segment with room for a frame of `len` bytes. It is begun `now` by the clock, and its first record will have
    /// `timestamp`. That is later if the clock was set back.
    #[cold]
    pub(super) fn roll(
        &self,
        appender: &mut Appender,
        now: Timestamp,
        timestamp: Timestamp,
        len: u64,
    ) -> Result<()> {
        // The background has not sealed in time. Sealing here bounds what a crash leaves to scan.
        if appender.unsealed.len() >= unsealed_count_max(self.context.writing.segment_bytes)
            && let Err(error) = self.seal_first(appender)
        {
            if error.is_failed_sync() {
                self.tell_failed_sync(&error);
                appender.state = State::Poisoned;
            }
            return Err(error);
        }
        let secrets = self.context.keys.to_encrypt()?;
        if appender.new_names.is_none() {
            appender.new_names = Some(OpenDir::open(self.dir.path())?);
        }
        // A segment that was begun for its date, but is too small for the frame, is begun again under the same name.
        if appender.active.as_ref().is_some_and(Active::is_empty) {
            appender.retire_active()?;
        }
        let (last, base) = (appender.resumable, appender.next_sequence);
        let begin = || self.source.next(last, base, now, len);
        let mut next = match self.context.sources.retry_if_full(begin(), begin) {
            Err(error) if error.is_failed_sync() => {
                self.tell_failed_sync(&error);
                appender.state = State::Poisoned;
                return Err(error);
            }
            next => next?,
        };
        next.set_encryptor(secrets.map(|secrets| secrets.encryptor(&next.name())));
        event!(debug, "a segment begins", dir = self.dir.path().display(), base = base);
        let since = if next.is_empty() { timestamp } else { next.first_timestamp() };
        let window = next.window();
        // A resumed segment was begun before.
        let is_new = window.begun == now;
        let begun = if is_new { Begun::Passed(self.reader.elapsed()) } else { Begun::Shown(window.begun) };
        self.reader.segments.push(Arc::clone(window), since, begun);
        if appender.begin(next) {
            self.context.work.notify();
        }
        Ok(())
    }
}
