//! What retention needs from a shard: finding the horizon, moving it, and removing the segments behind it.

use std::time::Duration;

use super::Shard;
use super::reader::segments::{Present, SegmentUse};
use crate::log::segment::stored;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// The end of a part of a shard, if it is not the last one, and the time by which its records age.
pub(crate) type PartTime = (Option<SequenceNumber>, Timestamp);

impl Shard {
    /// Returns the number of the first record that is not older than `age`, which is the horizon once all older records have expired.
    ///
    /// `times` are the ends of the shard's parts and the times by which they age, oldest first. The last part has no end.
    pub(crate) fn horizon_at(&self, times: &[PartTime], age: Duration) -> Result<SequenceNumber> {
        let noted = self.reader.horizon.timestamp();
        // Mostly the clock has not jumped, and nothing has expired since the last pass.
        if let [(None, now)] = *times
            && noted >= now - age
            && !noted.is_wrong_at(now)
        {
            return Ok(self.horizon());
        }
        let horizon = self.end_of_expired(times, age)?;
        self.reader.horizon.note_timestamp(self.reader.timestamp_of(horizon)?.unwrap_or_default());
        Ok(horizon)
    }

    /// Does what [`horizon_at`](Self::horizon_at) does, for a shard whose horizon is held back from there.
    pub(crate) fn end_of_expired(&self, times: &[PartTime], age: Duration) -> Result<SequenceNumber> {
        let mut expired = self.horizon();
        for &(end, now) in times {
            expired = expired.max(self.reader.first_since(now - age, now)?);
            match end {
                // Everything in this part has expired. The next part ages by another time.
                Some(end) if expired >= end => expired = end,
                _ => break,
            }
        }
        Ok(expired)
    }

    /// Returns whether the shard was closed before `time`, as far as the segments of its children show.
    pub(crate) fn is_closed_before(&self, time: Timestamp, now: Timestamp) -> bool {
        self.reader.is_closed_before(time, now)
    }

    /// Begins a segment if the timestamps of the shard do not show when its records arrive. The segment's beginning then shows that.
    pub(crate) fn begin_if_misdated(&self, now: Timestamp, after: Duration) -> Result<()> {
        let has_parents = self.reader.created().parents().next().is_some();
        self.writer.begin_if_misdated(now, after, has_parents)
    }

    /// Raises the horizon. It never goes back.
    pub(crate) fn raise_horizon(&self, horizon: SequenceNumber) {
        if self.reader.horizon.raise(horizon) {
            self.writer.show_horizon();
        }
    }

    /// Ends the active segment if its first record is older than `oldest`, so that its file can be removed even if nothing more is put.
    pub(crate) fn retire_if_older(&self, oldest: Timestamp) -> Result<()> {
        self.writer.retire_if_older(oldest)
    }

    /// Returns what each segment holds, oldest first, except for one that is written to.
    pub(crate) fn finished_segments(&self, present: Present) -> Result<Vec<SegmentUse>> {
        self.reader.segments.uses(self.writer.last_end(), present)
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

    /// Returns whether no record is left to read.
    pub(crate) fn is_all_trimmed(&self) -> bool {
        self.horizon() >= self.next_sequence()
    }
}
