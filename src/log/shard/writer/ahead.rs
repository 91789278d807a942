//! Preparing blocks, pages and the next segment ahead of a busy writer, so that its puts meet neither page faults nor the file system.
//!
//! 1. Under the append lock, the thread looks up what should be prepared.
//! 2. It prepares that without the lock. A crash leaves unused blocks, or a file that the next opening removes.
//! 3. The writer takes over the result, unless it has moved past it in the meantime.

use super::Writer;
use super::appender::{Appender, State};
use super::source::NextStep;
use crate::log::segment::growth::Growth;
use crate::log::types::error::Result;
use crate::log::types::time::{SECOND, Timestamp};

/// The thing that a busy writer will reach first.
enum Need {
    /// More of the active segment.
    Growth(Growth),
    /// This many bytes of the next segment.
    OfNext(u64),
}

impl Appender {
    /// Returns what should be prepared next, if puts come so fast that it pays.
    fn need(&mut self) -> Option<Need> {
        let active = self.active.as_mut().filter(|_| self.state == State::Open)?;
        let need = match (active.is_busy(), active.growth(), active.wanted_of_next()) {
            (false, ..) | (_, None, 0) => None,
            (_, Some(growth), _) => Some(Need::Growth(growth)),
            (_, None, wanted) => Some(Need::OfNext(wanted)),
        };
        if need.is_none() {
            active.rest_ahead();
        }
        need
    }

    fn rest_ahead(&mut self) {
        if let Some(active) = &mut self.active {
            active.rest_ahead();
        }
    }
}

impl Writer {
    /// Prepares the next thing that pays now. Returns whether it found one.
    ///
    /// # Errors
    /// `StorageFull` and others, all harmless: a put that finds no blocks allocates them itself.
    pub(in super::super) fn prepare_ahead(&self) -> Result<bool> {
        let need = self.appender.lock().need();
        match need {
            None => Ok(false),
            Some(Need::Growth(growth)) => {
                let takes_frames = growth.carry_out()?;
                if let Some(active) = self.appender.lock().active.as_mut().filter(|_| takes_frames) {
                    active.take_over(&growth);
                }
                Ok(takes_frames)
            }
            Some(Need::OfNext(wanted)) => self.prepare_next(wanted),
        }
    }

    fn prepare_next(&self, wanted: u64) -> Result<bool> {
        match self.source.next_step(wanted) {
            NextStep::Nothing => {
                self.appender.lock().rest_ahead();
                return Ok(false);
            }
            NextStep::Prepare => {
                self.source.prepare()?;
                if !self.appender.lock().is_writing() {
                    self.source.give_up_ready();
                }
            }
            NextStep::BringIn(pages) => {
                self.source.bring_in(&pages);
                self.source.note_prepared(&pages);
                // The prepared segment may be the active one by now.
                if let Some(active) = &mut self.appender.lock().active {
                    active.note_prepared(&pages);
                }
            }
        }
        Ok(true)
    }

    /// Gives up prepared segments that puts are too slow to need. Called once in each maintenance pass.
    pub(in super::super) fn drop_idle_prepared(&self, now: Timestamp) {
        let busy_since = self.appender.lock().active.as_ref().map(|active| active.busy_since());
        let is_busy = |since: Timestamp| since >= now - SECOND && !since.is_ahead_of(now);
        self.source.drop_idle(busy_since.is_some_and(is_busy));
    }
}
