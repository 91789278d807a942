//! What retention needs of a shard: finding the horizon, moving it, and letting go of what is behind it.

use std::sync::atomic::Ordering;

use super::Shard;
use super::segments::{Dropped, SegmentUse};
use crate::log::segment::spare::Spare;
use crate::log::segment::{path_in, sealed};
use crate::log::sys::dir;
use crate::log::types::error::Result;
use crate::log::types::event::event;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

impl Shard {
    /// The first record that arrived at `oldest` or later: where the horizon is when all older ones have expired.
    pub(crate) fn horizon_at(&self, oldest: Timestamp) -> Result<SequenceNumber> {
        let known = Timestamp::from_micros(self.horizon_timestamp.load(Ordering::Relaxed));
        if known >= oldest {
            return Ok(self.horizon());
        }
        let horizon = self.first_at_or_after(oldest)?;
        let found = self.find(horizon)?;
        let timestamp = found.map_or(Ok(None), |found| found.window.timestamp_of(horizon))?;
        self.horizon_timestamp.store(timestamp.unwrap_or_default().as_micros(), Ordering::Relaxed);
        Ok(horizon)
    }

    /// As [`horizon_at`](Self::horizon_at), for a shard whose horizon is held back from there.
    pub(crate) fn end_of_expired(&self, oldest: Timestamp) -> Result<SequenceNumber> {
        self.first_at_or_after(oldest)
    }

    /// Moves the horizon on; it never goes back.
    pub(crate) fn raise_horizon(&self, horizon: SequenceNumber) {
        if self.horizon.fetch_max(horizon.get(), Ordering::AcqRel) < horizon.get() {
            let waiting = self.appender.lock().waiting.take();
            waiting.notify();
        }
    }

    /// Ends the active segment if its first record is older than `oldest`, so that it can leave the disk, also when nothing is put.
    pub(crate) fn roll_by_age(&self, oldest: Timestamp) -> Result<()> {
        let mut appender = self.appender.lock();
        if appender.active_since().is_some_and(|since| since < oldest) {
            appender.retire_active()?;
            self.bell.notify();
        }
        Ok(())
    }

    /// What each segment takes on the disk, oldest first, and whether the last one is being written to.
    pub(crate) fn segment_uses(&self) -> Result<(Vec<SegmentUse>, bool)> {
        let is_active = self.appender.lock().has_active();
        Ok((self.segments.uses()?, is_active))
    }

    /// Whether all segments have an end that will not move: the shard's, where nobody writes to the last one.
    fn last_end(&self, has_active: bool) -> Option<SequenceNumber> {
        (!has_active).then(|| self.next_sequence())
    }

    /// Whether there are segments behind the horizon.
    pub(crate) fn has_segments_behind(&self) -> bool {
        let appender = self.appender.lock();
        self.segments.count_behind(self.horizon(), self.last_end(appender.has_active())) > 0
    }

    /// Takes the segments that are behind the horizon away from readers, and lets go of their files: of some the next segments are
    /// made, the others are removed.
    pub(crate) fn remove_segments_behind(&self) -> Result<()> {
        let mut appender = self.appender.lock();
        let dropped = self.segments.drop_behind(self.horizon(), self.last_end(appender.has_active()));
        if self.segments.len() == 0 {
            appender.forget_last_segment();
        }
        let forgot = appender.forget_unsealed(dropped.last().map(Dropped::base));
        let wanted = appender.wants_trimmed();
        drop(appender);
        if forgot && wanted > 0 {
            // A sync that is under way may have them open: no later one has.
            drop(self.sync_turn.take());
        }
        let (mut again, mut removed) = (vec![], Ok(()));
        // The youngest are likeliest to be in memory still.
        for segment in dropped.into_iter().rev() {
            let base = segment.base();
            let path = path_in(&self.dir, base);
            if segment.close(self.opened_at) && again.len() < wanted {
                again.push(base);
            } else {
                removed = removed.and(dir::remove_file(&path));
            }
            event!(info, "a segment is behind the horizon, and dropped", path = path.display());
        }
        match Spare::again(&self.dir, (self.id, &again), self.writing) {
            Ok(spares) => self.appender.lock().keep_spares(spares),
            Err(error) => {
                // Names that the next sync is to have synced were among those, and no later one tells of them.
                self.tell_failed_sync(&error);
                self.poison();
                removed = removed.and(Err(error));
            }
        }
        removed
    }

    /// Removes the segments that are behind the horizon, but for the last one, which says how far the shard is; and the first one that
    /// is left says, instead of the manifest, that those before it were trimmed.
    pub(crate) fn remove_segments_behind_but_last(&self) -> Result<()> {
        let count = self.segments.count_behind(self.horizon(), None);
        let Some(&first) = self.segments.bases().get(count).filter(|_| count > 0) else { return Ok(()) };
        // Before they go, so that an error leaves all as it was; its name may be as young as the last put.
        sealed::note_first(&path_in(&self.dir, first), first)?;
        dir::sync(&self.dir)?;
        let mut dropped = self.segments.drop_behind(first, None).into_iter();
        dropped.try_for_each(|segment| dir::remove_file(&path_in(&self.dir, segment.base())))
    }

    /// Whether no record can be read any more.
    pub(crate) fn is_all_trimmed(&self) -> bool {
        self.horizon() >= self.next_sequence()
    }
}
