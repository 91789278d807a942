//! The origin of a record that a processor does not read from a stream of this machine.
#![cfg_attr(
    not(any(feature = "relay-kafka", feature = "relay-kinesis")),
    allow(dead_code, reason = "only relays note it")
)]

use crate::{PutRecord, Record};

/// The header with the sequence number that a record has where it comes from.
pub(crate) const SEQUENCE_NUMBER: &str = "source-sequence-number";
/// The header with the index of a user record in its aggregate. Without it, that is zero.
pub(crate) const SUB_SEQUENCE_NUMBER: &str = "source-sub-sequence-number";

/// The place of a record where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin<'a> {
    pub(crate) sequence_number: &'a str,
    pub(crate) sub_sequence_number: u64,
}

impl<'a> Origin<'a> {
    /// Returns the origin that a record states.
    pub(crate) fn of(record: &Record<'a>) -> Option<Self> {
        let header = |wanted: &str| {
            let (_, value) = record.headers().find(|(name, _)| *name == wanted)?;
            std::str::from_utf8(value).ok()
        };
        let sequence_number = header(SEQUENCE_NUMBER)?;
        let sub_sequence_number = header(SUB_SEQUENCE_NUMBER).map_or(Some(0), |sub| sub.parse().ok())?;
        Some(Self { sequence_number, sub_sequence_number })
    }

    /// Adds the origin to a record, in front of its own headers, so that it is found first. `sub` is room for a text.
    pub(crate) fn note(self, record: PutRecord<'a>, sub: &'a mut String) -> PutRecord<'a> {
        let noted = record.header(SEQUENCE_NUMBER, self.sequence_number);
        if self.sub_sequence_number == 0 {
            return noted;
        }
        *sub = self.sub_sequence_number.to_string();
        noted.header(SUB_SEQUENCE_NUMBER, &**sub)
    }
}
