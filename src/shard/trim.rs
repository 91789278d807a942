//! What retention needs of a shard: finding the horizon, moving it, and letting go of what is behind it.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::Shard;
use super::segments::SegmentUse;
use crate::segment::{path_in, sealed};
use crate::sys::dir;
use crate::words::error::Result;
use crate::words::sequence::SequenceNumber;
use crate::words::time::Timestamp;

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

    /// Takes the segments that are behind the horizon away from readers; tells their files, to be removed.
    pub(crate) fn drop_segments_behind(&self) -> Vec<PathBuf> {
        let mut appender = self.appender.lock();
        let dropped = self.segments.drop_behind(self.horizon(), self.last_end(appender.has_active()));
        if self.segments.len() == 0 {
            appender.forget_last_segment();
        }
        dropped
    }

    /// As [`drop_segments_behind`](Self::drop_segments_behind), but leaves the last segment, which says how far the shard is; and the
    /// first one that is left says, instead of the manifest, that those before it were trimmed.
    pub(crate) fn drop_segments_behind_but_last(&self) -> Result<Vec<PathBuf>> {
        let count = self.segments.count_behind(self.horizon(), None);
        let Some(&first) = self.segments.bases().get(count).filter(|_| count > 0) else { return Ok(vec![]) };
        // Before they go, so that an error leaves all as it was; its name may be as young as the last put.
        sealed::note_first(&path_in(&self.dir, first), first)?;
        dir::sync(&self.dir)?;
        Ok(self.segments.drop_behind(first, None))
    }

    /// Whether no record can be read any more.
    pub(crate) fn is_all_trimmed(&self) -> bool {
        self.horizon() >= self.next_sequence()
    }
}
