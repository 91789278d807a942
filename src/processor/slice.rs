//! Some records of a batch, which keep the batch in memory and are handed from lane to function without a copy.

use std::ops::Range;
use std::sync::Arc;

use super::event_time::{Input, Moment};
use crate::{Record, Records, SequenceNumber, Timestamp};

/// Some records of a batch, in order.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    input: Arc<Input>,
    first_sequence: SequenceNumber,
    /// The places of the records in the batch, unless they are all of it.
    picked: Option<Arc<[u32]>>,
    /// Which of the picked records, or of all.
    range: Range<usize>,
}

impl Slice {
    /// Returns all records of a batch, or `None` if it is empty.
    pub(super) fn all(input: Arc<Input>) -> Option<Self> {
        let (first_sequence, range) = (input.batch.first_sequence()?, 0..input.batch.len());
        Some(Self { input, first_sequence, picked: None, range })
    }

    /// Returns the records at these places, in increasing order, or `None` if there are none.
    pub(super) fn picked(input: &Arc<Input>, places: Vec<u32>) -> Option<Self> {
        if places.len() == input.batch.len() {
            return Self::all(Arc::clone(input));
        }
        let (first_sequence, range) = (input.batch.first_sequence()?, 0..places.len());
        let picked = Some(places.into());
        (!range.is_empty()).then(|| Self { input: Arc::clone(input), first_sequence, picked, range })
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

    /// Returns the places of the records in their batch, in order.
    pub(super) fn places(&self) -> impl Iterator<Item = u32> {
        self.range.clone().map(|at| self.place(at) as u32)
    }

    /// Returns the records at these places in their batch.
    pub(super) fn at(&self, places: Vec<u32>) -> Option<Self> {
        Self::picked(&self.input, places)
    }

    /// Returns the record with this number, by itself.
    #[cfg(any(feature = "relay-kafka", feature = "relay-kinesis"))]
    pub(super) fn find(&self, sequence: SequenceNumber) -> Option<Self> {
        let found = self.places().find(|&place| self.first_sequence.plus(u64::from(place)) == sequence)?;
        self.at(vec![found])
    }

    /// Returns the watermark with the first record, if the processor goes by event time.
    pub(super) fn watermark(&self) -> Timestamp {
        let first = self.input.moments.get(self.place(self.range.start));
        first.map_or_else(Timestamp::default, |moment| moment.watermark)
    }

    /// Returns where the records lie in time, in order.
    pub(super) fn moments(&self) -> impl Iterator<Item = Moment> {
        self.range.clone().zip(self.records()).map(|(at, record)| {
            let moment = self.input.moments.get(self.place(at)).cloned();
            moment.unwrap_or_else(|| Moment::of_arrival(record.timestamp()))
        })
    }

    /// Returns when its last record arrived.
    pub(super) fn last_timestamp(&self) -> Option<Timestamp> {
        match &self.picked {
            None if self.range.end == self.input.batch.len() => self.input.batch.last_timestamp(),
            _ => self.records().last().map(|record| record.timestamp()),
        }
    }

    /// Returns how much memory the slice keeps: that of its batch.
    pub(super) fn memory_bytes(&self) -> usize {
        self.input.memory_bytes()
    }

    /// Cuts the slice before its record `at`, which is not the first one. Returns what comes before.
    pub(super) fn split_off_front(&mut self, at: usize) -> Self {
        let middle = self.range.start + at;
        let front = Self { range: self.range.start..middle, ..self.clone() };
        self.range.start = middle;
        front
    }

    pub(super) fn records(&self) -> SliceRecords<'_> {
        SliceRecords { slice: self, records: self.input.batch.iter(), passed: 0, next: self.range.start }
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
