//! Finding a place in a shard.

use super::Reader;
use super::segments::Found;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

impl Reader {
    /// Returns the segment that holds a sequence number, or the last one before the place where it will be.
    pub(in super::super) fn find(&self, sequence: SequenceNumber) -> Result<Option<Found>> {
        self.segments.find(sequence).map_err(|error| {
            // The file may have been trimmed after it was found.
            self.check_horizon(sequence).err().unwrap_or(error)
        })
    }

    /// Returns the number of the first record that arrived at a time or later, or of the next record if none has.
    pub(in super::super) fn first_at_or_after(&self, time: Timestamp) -> Result<SequenceNumber> {
        let end = self.next_sequence();
        let bases = self.segments.bases();
        // The place is in the last segment that begins before that time, or else it is the first record of the segment after that one.
        let mut failed = None;
        // A segment that was trimmed since they were listed is older than all that are left.
        let is_trimmed = |base: SequenceNumber| base < self.horizon();
        let find = |base: SequenceNumber| match self.find(base) {
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
                // What damage hides is before that time if a later segment begins before it.
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

    /// Returns where reading can continue behind damage at a sequence number: the next whole frame that the index has an entry for, or the
    /// next segment.
    pub(super) fn next_readable(&self, damaged: SequenceNumber) -> Option<SequenceNumber> {
        let within =
            self.find(damaged).ok().flatten().and_then(|found| found.window.next_whole_frame(damaged));
        within.or_else(|| self.segments.bases().into_iter().find(|&base| base > damaged))
    }
}
