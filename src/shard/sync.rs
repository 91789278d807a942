//! Group sync: one sync for many waiting puts.

use std::sync::atomic::Ordering;

use super::Shard;
use super::appender::{Appender, State};
use crate::segment::unsealed::SyncTarget;
use crate::sys::dir;
use crate::words::error::{Error, Result};
use crate::words::sequence::SequenceNumber;

impl Shard {
    /// All below this number survives power loss.
    pub(crate) fn synced_sequence(&self) -> SequenceNumber {
        SequenceNumber::new(self.synced_sequence.load(Ordering::Acquire))
    }

    /// Makes all that was put until now survive power loss.
    pub(crate) fn sync(&self) -> Result<()> {
        self.sync_to(self.next_sequence())
    }

    /// Returns once everything below `end` survives power loss.
    ///
    /// Whoever gets the turn syncs for all that was committed until then; those who waited for the turn find theirs done.
    pub(crate) fn sync_to(&self, end: SequenceNumber) -> Result<()> {
        if self.synced_sequence() >= end {
            return Ok(());
        }
        let turn = self.sync_turn.lock();
        if self.synced_sequence() >= end {
            return Ok(());
        }
        let mut appender = self.appender.lock();
        if appender.state == State::Poisoned {
            return Err(Error::Poisoned(self.id));
        }
        let (targets, committed) = (appender.sync_targets(), appender.next_sequence());
        let has_new_names = std::mem::take(&mut appender.has_new_names);
        drop(appender);
        let synced = self.sync_files(has_new_names, &targets);
        match synced {
            Ok(()) => self.synced_sequence.store(committed.get(), Ordering::Release),
            // The kernel may have dropped the pages it could not write, so that trying again would succeed without them.
            Err(_) => self.poison(),
        }
        drop(turn);
        synced
    }

    /// Syncs all segments while nothing is put.
    pub(super) fn sync_segments(&self, appender: &mut Appender) -> Result<()> {
        self.sync_files(std::mem::take(&mut appender.has_new_names), &appender.sync_targets())
    }

    fn sync_files(&self, has_new_names: bool, targets: &[SyncTarget]) -> Result<()> {
        if has_new_names {
            dir::sync(&self.dir)?;
        }
        // The oldest first: a segment that is synced vouches for those before it.
        targets.iter().try_for_each(|target| target.sync().map(drop))
    }
}
