//! What waits in a lane to become a batch.

use std::collections::VecDeque;
use std::time::Duration;

use super::event_time::Moment;
use super::rules::Rules;
use super::slice::Slice;
use crate::Record;

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Each with the moment when it came.
    slices: VecDeque<(Slice, Duration)>,
    records: usize,
    /// The memory that the slices keep.
    bytes: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// Returns the first slice, and when it came.
    pub(super) fn front(&self) -> Option<&(Slice, Duration)> {
        self.slices.front()
    }

    pub(super) fn is_full(&self, rules: &Rules) -> bool {
        self.records >= rules.queue_records_max() || self.bytes >= rules.queue_bytes_max()
    }

    /// Returns whether the queue has at most this part of what a full one has.
    pub(super) fn has_at_most(&self, rules: &Rules, part: usize) -> bool {
        self.records <= rules.queue_records_max() / part && self.bytes <= rules.queue_bytes_max() / part
    }

    pub(super) fn push(&mut self, slice: Slice, now: Duration) {
        self.records += slice.len();
        self.bytes += slice.memory_bytes();
        self.slices.push_back((slice, now));
    }

    /// Takes records off for one batch, up to one that `is_within` refuses. It is asked for each in order, and perhaps for some that follow.
    pub(super) fn take(
        &mut self,
        rules: &Rules,
        mut is_within: Option<&mut dyn FnMut(&Moment) -> bool>,
    ) -> Vec<Slice> {
        let mut taken = vec![];
        let (mut records, mut bytes) = (0, 0);
        while let Some((slice, _)) = self.slices.front_mut() {
            let mut fitting = slice.len().min(rules.batch_records - records);
            if let Some(is_within) = &mut is_within {
                fitting = slice.moments().take(fitting).take_while(|moment| is_within(moment)).count();
            }
            // One read returns no more than a batch.
            if !taken.is_empty() {
                let is_within = |record: &Record<'_>| {
                    bytes += bytes_of(record);
                    bytes <= rules.batch_bytes
                };
                fitting = slice.records().take(fitting).take_while(is_within).count();
            } else if self.records > slice.len() && fitting < rules.batch_records {
                // More may come behind it.
                bytes = slice.records().take(fitting).map(|record| bytes_of(&record)).sum();
            }
            if fitting == 0 {
                break;
            }
            records += fitting;
            self.records -= fitting;
            if fitting < slice.len() {
                taken.push(slice.split_off_front(fitting));
                break;
            }
            self.bytes -= slice.memory_bytes();
            taken.extend(self.slices.pop_front().map(|(slice, _)| slice));
        }
        taken
    }
}

/// Returns the bytes of a record that count towards a batch.
fn bytes_of(record: &Record<'_>) -> usize {
    let headers = record.headers().map(|(name, value)| name.len() + value.len());
    record.partition_key().len() + record.data().len() + headers.sum::<usize>()
}
