//! Sequence numbers as Kinesis writes them: 56 decimal digits that hold a shard, when it was created, and a place in it.

use std::fmt;

use crate::{SequenceNumber, ShardDescription, ShardId, Timestamp};

/// The place that no record has: the end of a closed shard.
const END: u64 = i64::MAX as u64;
/// Shards cannot have been created at this second or later, as in Kinesis.
const CREATED_MAX: u64 = 16_025_175_000;
/// The size of a group of digits. Three groups hold any number.
const GROUP: u128 = 10u128.pow(19);
/// The bits below the shard and the place.
const LOW_BITS: u32 = 80;

/// A parsed sequence number.
///
/// It has 188 bits, from the top: 4 that are 2; the shard's creation in seconds (36); the last 4 bits of the shard's number; the place in the
/// shard (64); 8 that are 0; the arrival in seconds (36); the shard's number (32); 4 that are 2, the version. So the numbers of a shard
/// increase with its records, and those of a child shard are above those of its parents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KinesisNumber {
    /// When the shard was created, in seconds.
    pub(super) created: u64,
    /// The place in the shard: one more than the record's number in the log, so that the start of a shard is below its first record.
    pub(super) index: u64,
    /// When the record arrived, in seconds.
    pub(super) time: u64,
    pub(super) shard: u32,
}

/// The numbers of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShardNumbers {
    shard: ShardId,
    created: u64,
    first: SequenceNumber,
}

impl ShardNumbers {
    pub(super) fn of(shard: &ShardDescription) -> Self {
        // A child is a second younger than the close of its parents, so that all its numbers are above theirs.
        let is_child = shard.parents().next().is_some();
        let created = seconds(shard.created_at) + u64::from(is_child);
        Self { shard: shard.id, created, first: shard.first_sequence }
    }

    /// Returns the number of a record.
    pub(super) fn record(&self, sequence: SequenceNumber, arrival: Timestamp) -> KinesisNumber {
        self.at(sequence.get() + 1, seconds(arrival))
    }

    /// Returns a number above those of all records before `next`, and below that of `next`: a reader that continues after it misses nothing.
    pub(super) fn before(&self, next: SequenceNumber, now: Timestamp) -> KinesisNumber {
        self.at(next.get(), seconds(now))
    }

    /// Returns the number of the shard's start, which is below its first record.
    pub(super) fn start(&self) -> KinesisNumber {
        self.at(self.first.get(), self.created)
    }

    /// Returns the number of the shard's end, which no record has.
    pub(super) fn end(&self, closed_at: Timestamp) -> KinesisNumber {
        self.at(END, seconds(closed_at))
    }

    fn at(&self, index: u64, time: u64) -> KinesisNumber {
        KinesisNumber { created: self.created, index, time: time.max(self.created), shard: self.shard.get() }
    }

    /// Returns whether this shard has issued the number.
    pub(super) fn gave(&self, number: &KinesisNumber) -> bool {
        (number.shard, number.created) == (self.shard.get(), self.created)
    }

    /// Returns the first record whose number is at least this one, unless the number [lies behind it](Self::may_be_behind).
    pub(super) fn at_or_after(&self, number: &KinesisNumber) -> SequenceNumber {
        SequenceNumber::new(number.index.saturating_sub(1)).max(self.first)
    }

    /// Returns whether a number may lie between this record's and the next one's, like the continuation number of a subscription without records.
    /// Such a number holds a later second than the record's.
    pub(super) fn may_be_behind(&self, number: &KinesisNumber, record: SequenceNumber) -> bool {
        number.index == record.get() + 1 && number.time > self.created
    }

    /// Returns the first record whose number is above this one.
    pub(super) fn after(&self, number: &KinesisNumber) -> SequenceNumber {
        SequenceNumber::new(number.index).max(self.first)
    }
}

impl KinesisNumber {
    /// Returns whether it is the end of a closed shard.
    pub(super) fn is_end(&self) -> bool {
        self.index == END
    }
}

fn seconds(time: Timestamp) -> u64 {
    time.as_millis() / 1_000
}

/// A sequence number of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    Number(KinesisNumber),
    /// A number as Kinesis wrote them before 2014, with the shard and the second in which it was created.
    Old {
        is_first_version: bool,
        shard: u32,
    },
}

/// Reads a sequence number. Returns `None` if no shard can have issued it.
pub(super) fn parse(text: &str) -> Option<Parsed> {
    let mut limbs = [0u64; 4];
    if text.is_empty() {
        return None;
    }
    for digit in text.bytes() {
        let mut carry = u128::from(digit.checked_sub(b'0').filter(|digit| *digit <= 9)?);
        for limb in &mut limbs {
            let product = u128::from(*limb) * 10 + carry;
            *limb = product as u64;
            carry = product >> 64;
        }
        if carry != 0 {
            return None;
        }
    }
    let [low, middle, high, top] = limbs;
    let mut low = u128::from(middle) << 64 | u128::from(low);
    let high = u128::from(top) << 64 | u128::from(high);
    // Numbers of the first version have 128 bits, of which the top four are 1; smaller ones are read as if they had it.
    if high == 0 && low >> 124 <= 1 {
        low |= 1 << 124;
        let created = (low >> 88) as u64 & mask(36);
        return (created < CREATED_MAX)
            .then_some(Parsed::Old { is_first_version: true, shard: low as u32 & 0xffff });
    }
    // The top four bits of 188 are 2.
    if high >> 56 != 2 {
        return None;
    }
    let shard = (low >> 4) as u32;
    match low as u8 & 0xf {
        1 => Some(Parsed::Old { is_first_version: false, shard }),
        2 => {
            let upper = high << 48 | low >> LOW_BITS;
            let created = (upper >> 68) as u64 & mask(36);
            let index = upper as u64;
            let is_valid = index <= END && created < CREATED_MAX && shard <= i32::MAX as u32;
            let time = (low >> 36) as u64 & mask(36);
            is_valid.then_some(Parsed::Number(KinesisNumber { created, index, time, shard }))
        }
        _ => None,
    }
}

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

impl fmt::Display for KinesisNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let created = u128::from(self.created & mask(36));
        let upper = 2 << 104 | created << 68 | u128::from(self.shard & 0xf) << 64 | u128::from(self.index);
        let lower = u128::from(self.time & mask(36)) << 36 | u128::from(self.shard) << 4 | 2;
        // As three words of 64 bits, divided three times by a group of digits.
        let mut words = [(upper >> 48) as u64, (upper << 16 | lower >> 64) as u64, lower as u64];
        let mut groups = [0; 3];
        for group in groups.iter_mut().rev() {
            let mut rest = 0u128;
            for word in &mut words {
                let dividend = rest << 64 | u128::from(*word);
                *word = (dividend / GROUP) as u64;
                rest = dividend % GROUP;
            }
            *group = rest as u64;
        }
        let [high, middle, low] = groups;
        write!(f, "{high}{middle:019}{low:019}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLES: [(u64, u32, u64, u64, &str); 5] = [
        (
            1_542_776_258,
            6,
            1_734_642_199,
            1_545_084_650,
            "49590338271490256608559692538361571095921575989136588898",
        ),
        (1_700_000_000, 0, 0, 1_700_000_000, "49646437577108476416916876405825929425585429676275269634"),
        (1_700_000_000, 0, 1, 1_700_000_005, "49646437577108476416916876405827138351405044649047359490"),
        (1_700_000_000, 17, 0, 1_700_000_000, "49646437577130777162115407028967465143858078037781250322"),
        (1_700_000_000, 0, END, 1_700_003_600, "49646437577119626789516141717395488358902386617969803266"),
    ];

    #[test]
    fn numbers_are_those_of_kinesis() {
        for (created, shard, index, time, text) in EXAMPLES {
            let number = KinesisNumber { created, index, time, shard };
            assert_eq!(number.to_string(), text);
            assert_eq!(parse(text), Some(Parsed::Number(number)));
        }
    }

    #[test]
    fn numbers_that_no_shard_gave_out_are_refused() {
        let old = |shard| Some(Parsed::Old { is_first_version: true, shard });
        assert_eq!(parse("0"), old(0));
        assert_eq!(parse("1"), old(1));
        for text in ["", "x", "99999999999999999999999999999999999999999999999999999999", &"9".repeat(129)] {
            assert_eq!(parse(text), None, "{text}");
        }
        let too_late = KinesisNumber { created: CREATED_MAX, index: 1, time: 1, shard: 0 };
        assert_eq!(parse(&too_late.to_string()), None);
        let too_high = KinesisNumber { index: END + 1, created: 1, ..too_late };
        assert_eq!(parse(&too_high.to_string()), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            created in 0..CREATED_MAX, index in 0..=END, time in 0..CREATED_MAX, shard in 0..=i32::MAX as u32
        ) {
            let number = KinesisNumber { created, index, time, shard };
            let text = number.to_string();
            prop_assert_eq!(text.len(), 56);
            prop_assert_eq!(parse(&text), Some(Parsed::Number(number)));
        }

        #[test]
        fn later_records_have_greater_numbers(index in 0..END - 1, more in 1u64..1_000, times: (u32, u32)) {
            let number = |index, time: u32| KinesisNumber { created: 1, index, time: time.into(), shard: 3 };
            let (earlier, later) = (number(index, times.0), number((index + more).min(END), times.1));
            // They have the same number of digits.
            prop_assert!(earlier.to_string() < later.to_string());
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9]{0,140}") {
            parse(&text);
        }
    }
}
