//! What retention needs of a shard: finding the horizon, moving it, and letting go of what is behind it.

use super::Shard;
use super::reader::segments::SegmentUse;
use crate::log::segment::stored;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

impl Shard {
    /// The first record that arrived at `oldest` or later: where the horizon is when all older ones have expired.
    pub(crate) fn horizon_at(&self, oldest: Timestamp) -> Result<SequenceNumber> {
        if self.reader.horizon.timestamp() >= oldest {
            return Ok(self.horizon());
        }
        let horizon = self.reader.first_at_or_after(oldest)?;
        let found = self.reader.find(horizon)?;
        let timestamp = found.map_or(Ok(None), |found| found.window.timestamp_of(horizon))?;
        self.reader.horizon.note_timestamp(timestamp.unwrap_or_default());
        Ok(horizon)
    }

    /// As [`horizon_at`](Self::horizon_at), for a shard whose horizon is held back from there.
    pub(crate) fn end_of_expired(&self, oldest: Timestamp) -> Result<SequenceNumber> {
        self.reader.first_at_or_after(oldest)
    }

    /// Moves the horizon on; it never goes back.
    pub(crate) fn raise_horizon(&self, horizon: SequenceNumber) {
        if self.reader.horizon.raise(horizon) {
            self.writer.wake_readers();
        }
    }

    /// Ends the active segment if its first record is older than `oldest`, so that it can leave the disk, also when nothing is put.
    pub(crate) fn retire_if_older(&self, oldest: Timestamp) -> Result<()> {
        self.writer.retire_if_older(oldest)
    }

    /// What each segment takes on the disk, oldest first, but for one that is being written to.
    pub(crate) fn finished_segments(&self) -> Result<Vec<SegmentUse>> {
        self.reader.segments.uses(self.writer.last_end())
    }

    /// Whether there are segments behind the horizon.
    pub(crate) fn has_segments_behind(&self) -> bool {
        self.reader.segments.count_behind(self.horizon(), self.writer.last_end()) > 0
    }

    /// Takes the segments that are behind the horizon away from readers, and lets go of their files: of some the next segments are
    /// made, the others are removed.
    pub(crate) fn remove_segments_behind(&self) -> Result<()> {
        self.writer.drop_segments_behind(self.horizon())
    }

    /// Removes the segments that are behind the horizon, but for the last one, which says how far the shard is; and the first one that
    /// is left says, instead of the manifest, that those before it were trimmed.
    pub(crate) fn remove_segments_behind_but_last(&self) -> Result<()> {
        let segments = &self.reader.segments;
        let count = segments.count_behind(self.horizon(), None);
        let Some(&first) = segments.bases().get(count).filter(|_| count > 0) else { return Ok(()) };
        // Before they go, so that an error leaves all as it was; its name may be as young as the last put.
        stored::note_first(&self.dir.segment(first))?;
        self.dir.sync()?;
        let mut dropped = segments.drop_behind(first, None).into_iter();
        dropped.try_for_each(|segment| self.dir.remove_segment(segment.base()))
    }

    /// Gives up the segments that are prepared ahead of the puts.
    pub(crate) fn give_up_prepared(&self) {
        self.writer.give_up_prepared();
    }

    /// Whether no record can be read any more.
    pub(crate) fn is_all_trimmed(&self) -> bool {
        self.horizon() >= self.next_sequence()
    }
}
