//! Parsing values from text.

use std::str::FromStr;

use super::error::Error;
use super::hash_key::HashKey;
use super::sequence::SequenceNumber;
use super::shard_id::ShardId;
use super::time::{BEYOND_DATES, Timestamp};

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl FromStr for ShardId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text.rsplit_once('-').map_or(text, |(_, digits)| digits);
        let number = is_number(digits).then(|| digits.parse().ok()).flatten().map(Self::new);
        number.filter(|&id| id <= Self::MAX).ok_or_else(|| {
            Error::invalid(format!("{text:?} is not a shard id: one looks like {}", Self::new(3)))
        })
    }
}

impl FromStr for SequenceNumber {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        is_number(text).then(|| text.parse().ok()).flatten().map(Self::new).ok_or_else(|| {
            Error::invalid(format!("{text:?} is not a sequence number: one is a decimal number below 2^64"))
        })
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let beyond_dates = || text.strip_suffix(BEYOND_DATES).and_then(|micros| micros.parse().ok());
        let time = humantime::parse_rfc3339(text).ok().map(Self::from);
        time.or_else(|| beyond_dates().map(Self::from_micros)).ok_or_else(|| {
            Error::invalid(format!("{text:?} is not a time in UTC: one looks like {}", Self::from_micros(0)))
        })
    }
}

impl FromStr for HashKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_canonical = text == "0" || (!text.starts_with('0') && is_number(text));
        is_canonical.then(|| text.parse().ok()).flatten().map(Self::new).ok_or_else(|| {
            Error::invalid(format!("{text:?} is not a hash key: one is a decimal number from 0 to 2^128 - 1"))
        })
    }
}
