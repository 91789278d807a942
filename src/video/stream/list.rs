//! The queries of player sessions to the index.

use std::ops::RangeInclusive;

use super::VideoStream;
use super::fragment::FragmentInfo;
use super::select::FragmentSelector;
use crate::video::number::FragmentNumber;
use crate::{SequenceNumber, Timestamp};

impl VideoStream {
    /// Returns up to `max` fragments from a number on, or from the first one that has not expired.
    pub(in crate::video) fn infos_from(&self, number: FragmentNumber, max: usize) -> Vec<FragmentInfo> {
        self.infos_from_sequence(number.sequence(), max)
    }

    /// Returns up to `max` fragments after a number, which need not exist.
    pub(in crate::video) fn infos_after(&self, number: FragmentNumber, max: usize) -> Vec<FragmentInfo> {
        self.infos_from_sequence(number.sequence().plus(1), max)
    }

    fn infos_from_sequence(&self, first: SequenceNumber, max: usize) -> Vec<FragmentInfo> {
        let index = self.shared.index.lock();
        let first = first.max(self.first_visible(&index));
        index.select(&FragmentSelector::All, first, max)
    }

    /// Returns the first fragment, in the order of storing, that starts in a range of the producer's time, or that was stored in one.
    pub(in crate::video) fn first_info(
        &self,
        is_by_producer: bool,
        range: RangeInclusive<Timestamp>,
    ) -> Option<FragmentInfo> {
        let selector = match is_by_producer {
            true => FragmentSelector::ProducerTime(range),
            false => FragmentSelector::ServerTime(range),
        };
        let index = self.shared.index.lock();
        index.first_where(&selector, self.first_visible(&index))
    }
}
