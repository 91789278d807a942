//! Selectors of the fragments that a call is about.

use std::ops::RangeInclusive;

use super::fragment::FragmentInfo;
use crate::Timestamp;
use crate::video::number::FragmentNumber;

/// Selects fragments by the time at which they begin or arrived. Both ends of a range are inclusive, as in Kinesis.
///
/// A fragment that begins before a range and overlaps it is not selected.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum FragmentSelector {
    /// All fragments.
    #[default]
    All,
    /// Fragments that arrived in this range.
    ServerTime(RangeInclusive<Timestamp>),
    /// Fragments that begin in this range, by the producer's clock.
    ProducerTime(RangeInclusive<Timestamp>),
}

impl FragmentSelector {
    /// Returns whether it selects a fragment.
    pub fn selects(&self, info: &FragmentInfo) -> bool {
        match self {
            Self::All => true,
            Self::ServerTime(range) => range.contains(&info.server_time),
            Self::ProducerTime(range) => range.contains(&info.producer_time),
        }
    }
}

/// Where [`VideoStream::get_media`](crate::video::VideoStream::get_media) begins.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StartSelector {
    /// The newest fragment, or the first to arrive if there is none.
    Now,
    /// The oldest available fragment.
    Earliest,
    /// This fragment or, if it has expired, the oldest one that is left.
    At(FragmentNumber),
    /// The fragment after this one, which need not exist any more.
    After(FragmentNumber),
    /// The first fragment, in the order of arrival, that begins at this time or later by the producer's clock.
    ProducerTime(Timestamp),
    /// The first fragment that arrived at this time or later.
    ServerTime(Timestamp),
    /// Where an earlier read stopped, by the token of its last chunk.
    ContinuationToken(String),
}
