//! What retention needs from a shard: finding the horizon, moving it, and removing the segments behind it.

use super::Shard;
use super::reader::segments::SegmentUse;
use crate::log::segment::stored;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

impl Shard {
    /// Returns the number of the first record that arrived at `oldest` or later, which is the horizon once all older records have expired.
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

    /// Does what [`horizon_at`](Self::horizon_at) does, for a shard whose horizon is held back from there.
    pub(crate) fn end_of_expired(&self, oldest: Timestamp) -> Result<SequenceNumber> {
        self.reader.first_at_or_after(oldest)
    }

    /// Raises the horizon. It never goes back.
    pub(crate) fn raise_horizon(&self, horizon: SequenceNumber) {
        if self.reader.horizon.raise(horizon) {
            self.writer.wake_readers();
        }
    }

    /// Ends the active segment if its first record is older than `oldest`, so that its file can be removed even if nothing more is put.
    pub(crate) fn retire_if_older(&self, oldest: Timestamp) -> Result<()> {
        self.writer.retire_if_older(oldest)
    }

    /// Returns what each segment holds, oldest first, except for one that is written to.
    pub(crate) fn finished_segments(&self) -> Result<Vec<SegmentUse>> {
        self.reader.segments.uses(self.writer.last_end())
    }

    /// Returns whether any segment is behind the horizon.
    pub(crate) fn has_segments_behind(&self) -> bool {
        self.reader.segments.count_behind(self.horizon(), self.writer.last_end()) > 0
    }

    /// Takes the segments behind the horizon away from readers. Refills some of their files for the next segments, and removes the others.
    pub(crate) fn remove_segments_behind(&self) -> Result<()> {
        self.writer.drop_segments_behind(self.horizon())
    }

    /// Removes the segments behind the horizon except for the last one, which says how far the shard is. The first remaining segment then
    /// notes, in place of the manifest, that the segments before it were trimmed.
    pub(crate) fn remove_segments_behind_but_last(&self) -> Result<()> {
        let segments = &self.reader.segments;
        let count = segments.count_behind(self.horizon(), None);
        let Some(&first) = segments.bases().get(count).filter(|_| count > 0) else { return Ok(()) };
        // Before the files are removed, so that an error leaves everything unchanged. The segment's name may be as young as the last put,
        // so the directory is synced too.
        stored::note_first(&self.dir.segment(first))?;
        self.dir.sync()?;
        let dropped = self.writer.take_segments_before(first);
        dropped.into_iter().try_for_each(|segment| self.dir.remove_segment(segment.base()))
    }

    /// Gives up the prepared segments.
    pub(crate) fn give_up_prepared(&self) {
        self.writer.give_up_prepared();
    }

    /// Returns whether no record can be read any more.
    pub(crate) fn is_all_trimmed(&self) -> bool {
        self.horizon() >= self.next_sequence()
    }
}
