//! The origin of a mirror: something with partitions on the other side, such as a stream of Kinesis with its shards, or a topic of Kafka.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::relay::failure::Failure;

/// What is mirrored.
pub(in crate::relay) trait Origin: Send + Sync + fmt::Debug {
    /// What it is: `kinesis`, `kafka`.
    fn kind(&self) -> &'static str;

    /// The name of the stream or topic, without spaces.
    fn name(&self) -> &str;

    /// Lists all its readable partitions, older ones before younger ones.
    fn list(&self) -> Result<Listing, Failure>;

    /// Returns a reader of a partition. It sends no request yet.
    fn reader(&self, partition: &str, from: &StartAt) -> Box<dyn OriginReader>;

    /// Ends all current and later requests, because the mirror is closed.
    fn interrupt(&self);
}

/// Reads a partition in order.
pub(in crate::relay) trait OriginReader: Send {
    /// Returns how long to wait before the next read, for the sake of the other side.
    fn wait(&self) -> Duration;

    /// Reads up to this many records. After a failure, the next call continues at the same place.
    fn read(&mut self, records_max: usize) -> Result<OriginBatch, Failure>;

    /// Returns how many requests it has sent.
    fn requests(&self) -> u64;
}

/// The partitions of an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::relay) struct Listing {
    /// Distinguishes the origin from a deleted one of the same name, if possible.
    pub(in crate::relay) incarnation: Option<String>,
    pub(in crate::relay) partitions: Vec<Partition>,
}

/// A partition of an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::relay) struct Partition {
    /// Its name for as long as the origin exists, without spaces.
    pub(in crate::relay) id: String,
    /// The partitions to be read before it. They need not be listed.
    pub(in crate::relay) parents: Vec<String>,
    /// It may still get records.
    pub(in crate::relay) is_open: bool,
}

/// Where reading of a partition begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::relay) enum StartAt {
    /// The oldest record.
    Beginning,
    /// After the newest record at the time of the first read. If that record is not known, the first record that arrived at this time or later.
    Latest(#[serde(with = "micros")] Timestamp),
    /// The first record that arrived at this time or later.
    AtTimestamp(#[serde(with = "micros")] Timestamp),
    /// After a record that was read before.
    After(Place),
}

/// What one read returns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::relay) struct OriginBatch {
    /// May be empty although there are more.
    pub(in crate::relay) records: Vec<Incoming>,
    /// How far the reached place is behind the newest record.
    pub(in crate::relay) behind_latest: Duration,
    /// There were no more records at the time of the read.
    pub(in crate::relay) is_at_tip: bool,
    /// There will never be more.
    pub(in crate::relay) is_end: bool,
    /// Records before these may have been dropped before they were read.
    pub(in crate::relay) has_gap: bool,
}

/// A record of an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::relay) struct Incoming {
    /// At least one byte.
    pub(in crate::relay) partition_key: Vec<u8>,
    pub(in crate::relay) data: Vec<u8>,
    pub(in crate::relay) headers: Vec<(String, Vec<u8>)>,
    pub(in crate::relay) place: Place,
    pub(in crate::relay) arrived: Option<Timestamp>,
}

/// Where a record is in its partition: a whole number of any size, such as a sequence number of Kinesis or an offset of Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(in crate::relay) struct Place(Box<str>);

impl Place {
    /// Reads a decimal number.
    pub(in crate::relay) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits = text.trim_start_matches('0');
        Some(Self(if digits.is_empty() { "0" } else { digits }.into()))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Without zeros in front, the longer number is the greater one.
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<u64> for Place {
    fn from(number: u64) -> Self {
        Self(number.to_string().into())
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.0.into()
    }
}

impl TryFrom<String> for Place {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("expected a decimal number")
    }
}

/// Times in the journal, as microseconds since 1970.
mod micros {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::Timestamp;

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        time.as_micros().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        u64::deserialize(deserializer).map(Timestamp::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_compared_as_numbers() {
        let place = |text| Place::parse(text).expect("a number");
        assert!(place("9") < place("10"));
        assert!(place("0099") < place("100"));
        assert_eq!(place("007"), place("7"));
        assert_eq!(place("000"), place("0"));
        let long = "49590338271490256608559692538361571095921975989136588898";
        assert!(place(long) > place("49590338271490256608559692538361571095921975989136588897"));
        assert_eq!(place(long).to_string(), long);
        for wrong in ["", "-1", "1e3", "TRIM_HORIZON", " 1"] {
            assert_eq!(Place::parse(wrong), None, "{wrong:?}");
        }
    }
}
