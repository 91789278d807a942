//! Notes about records beside their objects, kept because the outcome would differ if the records were read again.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::SequenceNumber;

/// How much is noted before all objects that are being built are decided.
const NOTED_MAX: usize = 10_000;
/// About how many bytes the note of a row for which there were too many parts takes, or of a failed record that stands alone.
const OVERFLOWED_BYTES: usize = 26;
const FAILED_BYTES: usize = 44;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// Rows for which there were too many parts.
    overflowed: BTreeSet<(SequenceNumber, u32)>,
    /// Records for which the call of the function failed. The call is not repeated when they are read again: another outcome would put their rows
    /// into other parts.
    failed: BTreeSet<SequenceNumber>,
}

impl Noted {
    pub(super) fn overflow(&mut self, sequence: SequenceNumber, index: u32) {
        self.overflowed.insert((sequence, index));
    }

    pub(super) fn has_overflowed(&self, place: (SequenceNumber, u32)) -> bool {
        self.overflowed.contains(&place)
    }

    pub(super) fn fail(&mut self, sequence: SequenceNumber) {
        self.failed.insert(sequence);
    }

    /// Returns the records of a range whose calls failed.
    pub(super) fn failed(&self, range: Range<SequenceNumber>) -> Vec<SequenceNumber> {
        self.failed.range(range).copied().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.overflowed.is_empty() && self.failed.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.overflowed.len() + self.failed.len() >= NOTED_MAX
    }

    /// Returns about how many bytes it takes in a state.
    pub(super) fn state_bytes(&self) -> usize {
        self.overflowed.len() * OVERFLOWED_BYTES + self.failed.len() * FAILED_BYTES
    }

    /// Forgets what is noted of records before one.
    pub(super) fn forget_before(&mut self, next: SequenceNumber) {
        self.overflowed = self.overflowed.split_off(&(next, 0));
        self.failed = self.failed.split_off(&next);
    }

    /// Returns what is noted from a record on.
    pub(super) fn since(&self, next: SequenceNumber) -> Self {
        Self {
            overflowed: self.overflowed.range((next, 0)..).copied().collect(),
            failed: self.failed.range(next..).copied().collect(),
        }
    }

    /// Returns the numbers and indexes of rows for which there were too many parts.
    pub(super) fn overflowed(&self) -> Vec<(u64, u32)> {
        self.overflowed.iter().map(|&(sequence, index)| (sequence.get(), index)).collect()
    }

    /// Returns the first and the last of failed records that follow each other.
    pub(super) fn failed_ranges(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = vec![];
        for sequence in self.failed.iter().map(|sequence| sequence.get()) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == sequence => *last = sequence,
                _ => ranges.push((sequence, sequence)),
            }
        }
        ranges
    }

    pub(super) fn decode(overflowed: Vec<(u64, u32)>, failed: Vec<(u64, u64)>) -> Self {
        let overflowed = overflowed.into_iter().map(|(sequence, index)| (sequence.into(), index));
        let failed = failed.into_iter().flat_map(|(first, last)| first..=last).map(SequenceNumber::new);
        Self { overflowed: overflowed.collect(), failed: failed.collect() }
    }
}
