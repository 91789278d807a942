//! Some records of a batch, which keep the batch in memory and are handed from lane to function without a copy.

use std::ops::Range;
use std::sync::Arc;

use crate::{Batch, Record, Records, SequenceNumber, Timestamp};

/// Some records of a batch, in order.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    batch: Arc<Batch>,
    first_sequence: SequenceNumber,
    /// The places of the records in the batch, unless they are all of it.
    picked: Option<Arc<[u32]>>,
    /// Which of the picked records, or of all.
    range: Range<usize>,
}

impl Slice {
    /// Returns all records of a batch, or `None` if it is empty.
    pub(super) fn all(batch: Arc<Batch>) -> Option<Self> {
        let (first_sequence, range) = (batch.first_sequence()?, 0..batch.len());
        Some(Self { batch, first_sequence, picked: None, range })
    }

    /// Returns the records at these places, in increasing order, or `None` if there are none.
    pub(super) fn picked(batch: &Arc<Batch>, places: Vec<u32>) -> Option<Self> {
        if places.len() == batch.len() {
            return Self::all(Arc::clone(batch));
        }
        let (first_sequence, range) = (batch.first_sequence()?, 0..places.len());
        let picked = Some(places.into());
        (!range.is_empty()).then(|| Self { batch: Arc::clone(batch), first_sequence, picked, range })
    }

    pub(super) fn len(&self) -> usize {
        self.range.len()
    }

    fn place(&self, at: usize) -> usize {
        self.picked.as_ref().map_or(at, |picked| picked[at] as usize)
    }

    /// Returns the number of the first record. A slice has one, at least.
    pub(super) fn first_sequence(&self) -> SequenceNumber {
        self.first_sequence.plus(self.place(self.range.start) as u64)
    }

    /// Returns when its last record arrived.
    pub(super) fn last_timestamp(&self) -> Option<Timestamp> {
        match &self.picked {
            None if self.range.end == self.batch.len() => self.batch.last_timestamp(),
            _ => self.records().last().map(|record| record.timestamp()),
        }
    }

    /// Returns how much memory the slice keeps: that of its batch.
    pub(super) fn memory_bytes(&self) -> usize {
        self.batch.memory_bytes()
    }

    /// Cuts the slice before its record `at`, which is not the first one. Returns what comes before.
    pub(super) fn split_off_front(&mut self, at: usize) -> Self {
        let middle = self.range.start + at;
        let front = Self { range: self.range.start..middle, ..self.clone() };
        self.range.start = middle;
        front
    }

    pub(super) fn records(&self) -> SliceRecords<'_> {
        SliceRecords { slice: self, records: self.batch.iter(), passed: 0, next: self.range.start }
    }
}

/// The records of a slice, in order.
#[derive(Debug, Clone)]
pub(super) struct SliceRecords<'a> {
    slice: &'a Slice,
    records: Records<'a>,
    /// How many records of the batch are passed.
    passed: usize,
    /// The next record of the slice's range.
    next: usize,
}

impl<'a> Iterator for SliceRecords<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        if self.next == self.slice.range.end {
            return None;
        }
        let place = self.slice.place(self.next);
        let record = self.records.nth(place - self.passed)?;
        self.passed = place + 1;
        self.next += 1;
        Some(record)
    }
}

/// Returns how many records some slices have.
pub(super) fn count(slices: &[Slice]) -> usize {
    slices.iter().map(Slice::len).sum()
}

/// Cuts slices before their record `at`. Returns what comes before.
pub(super) fn split_off_front(slices: &mut Vec<Slice>, mut at: usize) -> Vec<Slice> {
    let whole = slices.iter().take_while(|slice| {
        let is_whole = slice.len() <= at;
        at -= if is_whole { slice.len() } else { 0 };
        is_whole
    });
    let whole = whole.count();
    let mut front: Vec<_> = slices.drain(..whole).collect();
    if at > 0
        && let Some(cut) = slices.first_mut()
    {
        front.push(cut.split_off_front(at));
    }
    front
}
