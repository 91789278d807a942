//! Fragment numbers, which identify fragments everywhere.

use std::fmt;
use std::str::FromStr;

use super::error::VideoError;
use crate::SequenceNumber;

/// The prefix of every number's text. It only gives the text the length that Kinesis clients expect.
const PREFIX: &str = "913438523331814323926820626";
/// The digits behind it: as many as the largest sequence number has.
const SEQUENCE_DIGITS: usize = 20;
const _: () = assert!(PREFIX.len() + SEQUENCE_DIGITS == 47);

/// The number of a fragment: 47 decimal digits, increasing in the order of arrival.
///
/// A stream never reuses a number. Fragments of different streams may have the same number.
///
/// ```
/// # use streamlog::video::FragmentNumber;
/// let number: FragmentNumber = "91343852333181432392682062600000000000000000017".parse()?;
/// assert_eq!(number.sequence(), 17.into());
/// assert_eq!(number.to_string().len(), 47);
/// assert!("17".parse::<FragmentNumber>().is_err());
/// # Ok::<(), streamlog::video::VideoError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentNumber(SequenceNumber);

impl FragmentNumber {
    /// Returns the number of the fragment whose record has this sequence number.
    pub const fn new(sequence: SequenceNumber) -> Self {
        Self(sequence)
    }

    /// Returns the sequence number of the fragment's record.
    pub const fn sequence(self) -> SequenceNumber {
        self.0
    }
}

impl fmt::Display for FragmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{PREFIX}{:0width$}", self.0.get(), width = SEQUENCE_DIGITS))
    }
}

impl FromStr for FragmentNumber {
    type Err = VideoError;

    /// Parses what [`Display`](fmt::Display) prints, and nothing else.
    fn from_str(text: &str) -> Result<Self, VideoError> {
        let digits = text.strip_prefix(PREFIX).filter(|digits| digits.len() == SEQUENCE_DIGITS);
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let sequence = digits.and_then(|digits| digits.parse::<u64>().ok());
        sequence.map(|sequence| Self(sequence.into())).ok_or_else(|| {
            VideoError::invalid(format!(
                "{text:?} is not the number of a fragment of a stream of this library"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_texts_is_that_of_the_numbers() {
        let texts = [0, 9, 10, 1 << 40, u64::MAX].map(|it| FragmentNumber::new(it.into()).to_string());
        assert!(texts.is_sorted() && texts.iter().all(|text| text.len() == 47), "{texts:?}");
        for text in &texts {
            assert_eq!(text.parse::<FragmentNumber>().unwrap().to_string(), *text);
        }
    }

    #[test]
    fn no_other_text_is_a_number() {
        let largest = FragmentNumber::new(u64::MAX.into()).to_string();
        for text in [
            "",
            "+",
            PREFIX,
            &largest[1..],
            &largest.replace('5', "9"),
            &format!("{PREFIX}+0000000000000000001"),
            &format!("{largest}0"),
            &largest.replace("184467", "18446٧"),
        ] {
            assert!(text.parse::<FragmentNumber>().is_err(), "{text:?}");
        }
    }
}
