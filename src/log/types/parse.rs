//! Parsing values from text.

use std::str::FromStr;

use super::error::Error;
use super::hash_key::HashKey;
use super::shard_id::ShardId;

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl FromStr for ShardId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text.rsplit_once('-').map_or(text, |(_, digits)| digits);
        let number = is_number(digits).then(|| digits.parse().ok()).flatten().map(Self::new);
        number.filter(|&id| id <= Self::MAX).ok_or_else(|| {
            Error::invalid(format!("{text:?} is no shard id; one looks like {}", Self::new(3)))
        })
    }
}

impl FromStr for HashKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_canonical = text == "0" || (!text.starts_with('0') && is_number(text));
        is_canonical.then(|| text.parse().ok()).flatten().map(Self::new).ok_or_else(|| {
            Error::invalid(format!("{text:?} is no hash key; one is a decimal number from 0 to 2^128 - 1"))
        })
    }
}
