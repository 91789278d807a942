//! Which fragments a call is about.

use std::ops::RangeInclusive;

use super::fragment::FragmentInfo;
use crate::Timestamp;
use crate::video::number::FragmentNumber;

/// Chooses fragments by the time at which they begin or arrived. Both ends of a range belong to it, as in Kinesis.
///
/// A fragment that begins before a range and reaches into it is not chosen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum FragmentSelector {
    /// All fragments.
    #[default]
    All,
    /// Those that arrived in this time.
    ServerTime(RangeInclusive<Timestamp>),
    /// Those that begin in this time by the producer's clock.
    ProducerTime(RangeInclusive<Timestamp>),
}

impl FragmentSelector {
    /// Returns whether it chooses a fragment.
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
    /// The newest fragment there is, or the first to come.
    Now,
    /// The oldest fragment there is.
    Earliest,
    /// This fragment. If it has expired, the oldest one that is left.
    At(FragmentNumber),
    /// The fragment after this one. It need not exist any more.
    After(FragmentNumber),
    /// The first fragment, in the order of arrival, that begins at this time or later by the producer's clock.
    ProducerTime(Timestamp),
    /// The first fragment that arrived at this time or later.
    ServerTime(Timestamp),
    /// Where an earlier read stopped, by the token that came with its last chunk.
    ContinuationToken(String),
}
