//! Sequence numbers: a record's place in its shard.

use std::fmt;

/// A record's place in its shard. Numbers are dense: the next record's number is always this one plus 1.
///
/// Numbers order the records of one shard. Across shards, only the numbers of parents and children are comparable: a child begins above the
/// end of all its parents.
///
/// ```
/// # use streamlog::SequenceNumber;
/// let sequence = SequenceNumber::new(41);
/// assert_eq!(sequence.plus(1), 42.into());
/// assert_eq!(sequence.previous(), Some(SequenceNumber::new(40)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SequenceNumber(u64);

impl SequenceNumber {
    /// The number of the first record of a shard without parents.
    pub const ZERO: Self = Self(0);

    /// Returns the sequence number with this value.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Returns the value.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the number `count` records further on. Saturates at the largest number.
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// Returns the number of the record before this one, if there can be one.
    pub const fn previous(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for SequenceNumber {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl From<SequenceNumber> for u64 {
    fn from(value: SequenceNumber) -> Self {
        value.0
    }
}
