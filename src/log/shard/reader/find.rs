//! Finding a place in a shard.

use std::io;
use std::time::Duration;

use super::Reader;
use super::segments::{Found, Present};
use crate::log::segment::window::Window;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// How often to repeat the search for a segment that another process may have taken away.
const LOOKS_AGAIN_MAX: u32 = 3;

impl Reader {
    /// Returns the segment that holds a sequence number, or the last one before the place where it will be.
    pub(in super::super) fn find(&self, sequence: SequenceNumber) -> Result<Option<Found>> {
        if let Some(found) = self.find_archived(sequence)? {
            return Ok(Some(found));
        }
        match self.find_own(sequence) {
            // It was trimmed since.
            Err(error @ Error::Trimmed { .. }) => self.find_archived(sequence)?.ok_or(error).map(Some),
            found => found,
        }
    }

    /// Does what [`find`](Self::find) does, in the stream's own files.
    fn find_own(&self, sequence: SequenceNumber) -> Result<Option<Found>> {
        let mut looks_left = if self.is_followed() { LOOKS_AGAIN_MAX } else { 0 };
        loop {
            let failed = match self.segments.find(sequence) {
                Err(failed) => failed,
                found => return found,
            };
            // The file may have been trimmed after it was found. If another process did that, it showed the horizon first.
            let _ = self.refresh();
            let horizon = self.horizon();
            if sequence < horizon {
                return Err(Error::Trimmed { shard: self.id(), requested: sequence, horizon });
            }
            // Or another process has opened the stream since, and the list was replaced.
            let is_gone =
                matches!(&failed, Error::Io(failure) if failure.source.kind() == io::ErrorKind::NotFound);
            if !is_gone || looks_left == 0 {
                return Err(failed);
            }
            looks_left -= 1;
        }
    }

    /// Returns the number of the first record that arrived at a time or later, or of the next record if none has.
    pub(in super::super) fn first_at_or_after(&self, time: Timestamp) -> Result<SequenceNumber> {
        match self.first_archived_since(time)? {
            Some(archived) => Ok(archived),
            None => self.first_own_since(time),
        }
    }

    /// Does what [`first_at_or_after`](Self::first_at_or_after) does, in the stream's own files.
    fn first_own_since(&self, time: Timestamp) -> Result<SequenceNumber> {
        let end = self.next_sequence();
        let bases = self.segments.bases();
        // The place is in the last segment that begins before that time, or else it is the first record of the segment after that one.
        let mut failed = None;
        // A segment that was trimmed since they were listed is older than all that are left.
        let is_trimmed = |base: SequenceNumber| base < self.horizon();
        let find = |base: SequenceNumber| match self.find_own(base) {
            Err(Error::Trimmed { .. }) if is_trimmed(base) => Ok(None),
            found => found,
        };
        let first_of = |found: Result<Option<Found>>| {
            found.and_then(|found| found.map_or(Ok(None), |found| found.window.first_timestamp()))
        };
        let begins_before = |first: Option<Timestamp>| first.is_some_and(|first| first < time);
        // Looks at 1, 2, 4 and so on behind a damaged segment, because there may be any number of them.
        let first_after = |base: SequenceNumber| {
            let at = bases.partition_point(|&other| other <= base);
            let later = (0..u64::BITS).map_while(|step| bases.get(at + (1 << step) - 1));
            later.map(|&later| first_of(find(later))).find_map(Result::ok).flatten()
        };
        let after = bases.partition_point(|&base| {
            let found = find(base);
            if matches!(found, Ok(None)) && is_trimmed(base) {
                return true;
            }
            match first_of(found) {
                Ok(first) => begins_before(first),
                // Damaged records are from before that time if a later segment begins before it.
                Err(Error::Corrupt(_) | Error::UnsupportedFormat(_)) if begins_before(first_after(base)) => {
                    true
                }
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let holds_it = match after.checked_sub(1) {
            Some(at) => find(bases[at])?,
            None => None,
        };
        // If that segment holds no such record, the place is its end. If it was cut short, the next segment begins later, and a reader has
        // to meet the gap.
        let place = match holds_it {
            Some(found) => found.window.first_at_or_after(time)?,
            None => bases.get(after).copied().unwrap_or(end),
        };
        Ok(place.max(self.horizon()))
    }

    /// Does what [`first_at_or_after`](Self::first_at_or_after) does, even if the clock was wrong when records were put.
    ///
    /// A timestamp is certainly wrong if it is ahead of the clock, which was set back since, or if it is from a clock that was not set yet. Such a
    /// record counts as arrived before the next segment was begun. Unlike timestamps, these times may decrease.
    pub(in super::super) fn first_since(&self, time: Timestamp, now: Timestamp) -> Result<SequenceNumber> {
        let (place, first) = (self.first_at_or_after(time)?, self.horizon());
        if place < first && self.archived.is_some() {
            return Ok(place);
        }
        // Damage is reported where it is read. Elsewhere it does not keep records from expiring.
        let timestamp_of = |sequence| self.timestamp_of(sequence).ok().flatten();
        if timestamp_of(first).is_some_and(|first| first.is_from_unset_clock(now)) {
            let known = self.begun_before(time, now).max(first);
            let first_set = self.first_at_or_after(Timestamp::FIRST_SET)?;
            // They also arrived before the first record that has a right timestamp.
            let is_later = |set: Timestamp| set >= time || set.is_ahead_of(now);
            if known < first_set && timestamp_of(first_set).is_none_or(is_later) {
                return Ok(known);
            }
        }
        match timestamp_of(place) {
            Some(timestamp) if timestamp.is_ahead_of(now) => Ok(place.max(self.begun_before(time, now))),
            _ => Ok(place),
        }
    }

    /// Returns a number below which all records arrived before `time`, as far as the beginnings of segments show.
    fn begun_before(&self, time: Timestamp, now: Timestamp) -> SequenceNumber {
        if self.is_closed_before(time, now) {
            return self.next_sequence();
        }
        let begun = self.begun(now).into_iter().rfind(|&(_, begun)| begun < time);
        begun.map_or(SequenceNumber::ZERO, |(base, _)| base)
    }

    /// Returns when segments were begun, by a clock that shows `now`.
    fn begun(&self, now: Timestamp) -> Vec<(SequenceNumber, Timestamp)> {
        let present = Present { now, elapsed: self.clock.elapsed() };
        self.segments.begun(self.next_sequence(), present)
    }

    /// Returns whether the shard was closed before `time`, as far as the segments of its children show. They begin after its last record.
    pub(in super::super) fn is_closed_before(&self, time: Timestamp, now: Timestamp) -> bool {
        let children = self.closing.get().map(|closing| &closing.children[..]).unwrap_or_default();
        children.iter().any(|child| {
            let begun = child.begun(now);
            if begun.is_empty() {
                return child.is_closed_before(time, now);
            }
            begun.iter().any(|&(_, begun)| begun < time)
        })
    }

    /// Returns when the record with a sequence number arrived, or `None` if it does not exist or is damaged.
    pub(in super::super) fn timestamp_of(&self, sequence: SequenceNumber) -> Result<Option<Timestamp>> {
        if sequence >= self.next_sequence() {
            return Ok(None);
        }
        self.find(sequence)?.map_or(Ok(None), |found| found.window.timestamp_of(sequence))
    }

    /// Returns how long ago the record with a sequence number arrived, or `None` if it does not exist or is damaged.
    pub(crate) fn age_at(&self, sequence: SequenceNumber) -> Result<Option<Duration>> {
        if sequence >= self.next_sequence() {
            return Ok(None);
        }
        let Some(found) = self.find(sequence)? else { return Ok(None) };
        let timestamp = found.window.timestamp_of(sequence)?;
        Ok(timestamp.map(|timestamp| self.age_of(&found.window, timestamp)))
    }

    /// Returns how long ago a record arrived, at least a millisecond. If it seems to be from the future, its segment was begun before it.
    #[inline]
    pub(super) fn age_of(&self, window: &Window, timestamp: Timestamp) -> Duration {
        let now = self.clock.now();
        let arrived = if timestamp.is_ahead_of(now) { window.begun } else { timestamp };
        now.since(arrived).max(Duration::from_millis(1))
    }

    /// Returns where reading can continue behind damage at a sequence number: the next whole frame that the index has an entry for, or the
    /// next segment.
    pub(super) fn next_readable(&self, damaged: SequenceNumber) -> Option<SequenceNumber> {
        let within =
            self.find(damaged).ok().flatten().and_then(|found| found.window.next_whole_frame(damaged));
        let within = within.or_else(|| self.next_archived(damaged));
        within.or_else(|| self.segments.bases().into_iter().find(|&base| base > damaged))
    }
}
