//! Stamps that prove which put a record comes from: key, number and checksum.
//!
//! The stamp is in front of the data. If the data is too short for it, the stamp follows the name in the partition key, and an explicit
//! hash key sends the record to the name's shard.

use std::fmt;

use streamlog::{HashKey, KeyHash};

/// The number of keys of each writer.
pub(crate) const KEYS_PER_WRITER: u16 = 24;
const STAMP_BYTES: usize = 38;
/// Separates the name from the stamp in a partition key.
const SEPARATOR: u8 = 0;

/// The index of a key in every list of keys.
pub(crate) type KeyIndex = u16;

/// Returns the name of the key. It is the partition key, unless the partition key carries the stamp.
pub(crate) fn name_of(key: KeyIndex) -> String {
    format!("w{}-k{:02}", key / KEYS_PER_WRITER, key % KEYS_PER_WRITER)
}

/// Returns the hash that selects the shard of a key.
pub(crate) fn hash_key_of(key: KeyIndex) -> HashKey {
    KeyHash::default().hash(name_of(key).as_bytes())
}

/// The number of a record within its key: the run that put it, and how many records of the key that run had put before.
///
/// Each run starts at 0, because a killed worker cannot report whether its last put succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number {
    pub(crate) run: u32,
    pub(crate) count: u64,
}

impl Number {
    /// Returns whether this number may directly follow `last`, without regard to the promises.
    pub(crate) fn may_follow(self, last: Self) -> bool {
        if self.run == last.run {
            self.count == last.count + 1
        } else {
            self.run > last.run && self.count == 0
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of run {}", self.count, self.run)
    }
}

/// The batch that a record was put in, if any: `records_per_key` records for each key of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) first_key: KeyIndex,
    /// 0 for a record that was put alone.
    pub(crate) key_count: u16,
    pub(crate) records_per_key: u16,
}

impl Part {
    pub(crate) const ALONE: Self = Self { first_key: 0, key_count: 0, records_per_key: 1 };
}

/// Identifies the put that a record comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) key: KeyIndex,
    pub(crate) number: Number,
    /// The writer's calls in this run so far.
    pub(crate) call: u64,
    pub(crate) part: Part,
}

impl Stamp {
    pub(crate) fn writer(&self) -> u16 {
        self.key / KEYS_PER_WRITER
    }

    fn encode(&self, filler: &[u8]) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        let Part { first_key, key_count, records_per_key } = self.part;
        for (at, value) in [self.key, first_key, key_count, records_per_key].into_iter().enumerate() {
            bytes[2 * at..][..2].copy_from_slice(&value.to_le_bytes());
        }
        bytes[8..12].copy_from_slice(&self.number.run.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.number.count.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.call.to_le_bytes());
        bytes[28..34].copy_from_slice(&(filler.len() as u64).to_le_bytes()[..6]);
        let checksum = checksum_of(self.key, &bytes[..34], filler);
        bytes[34..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Parses the stamp of a record, and checks that every byte of the record is as the stamp requires.
    pub(crate) fn of(partition_key: &[u8], data: &[u8]) -> Result<Self, String> {
        let separator = partition_key.iter().position(|&byte| byte == SEPARATOR);
        let (name, stamp, filler) = match separator {
            Some(at) => (&partition_key[..at], &partition_key[at + 1..], data),
            None if data.len() >= STAMP_BYTES => (partition_key, &data[..STAMP_BYTES], &data[STAMP_BYTES..]),
            None => return Err(format!("{} bytes of data have no room for a stamp", data.len())),
        };
        let bytes: &[u8; STAMP_BYTES] = stamp.try_into().map_err(|_| "a stamp has another length")?;
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let long =
            |at: usize| bytes[at..at + 8].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        let stamp = Self {
            key: short(0),
            number: Number { run: (long(8) & u64::from(u32::MAX)) as u32, count: long(12) },
            call: long(20),
            part: Part { first_key: short(2), key_count: short(4), records_per_key: short(6) },
        };
        if name != name_of(stamp.key).as_bytes() {
            return Err(format!(
                "{} is the key of a record of {}",
                String::from_utf8_lossy(name),
                name_of(stamp.key)
            ));
        }
        if stamp.encode(filler) != *bytes {
            return Err(format!(
                "number {} of {} has other bytes than were put",
                stamp.number,
                name_of(stamp.key)
            ));
        }
        Ok(stamp)
    }
}

fn checksum_of(key: KeyIndex, stamp: &[u8], filler: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(name_of(key).as_bytes());
    hasher.update(stamp);
    hasher.update(filler);
    hasher.finalize()
}

/// A record ready to put.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) stamp: Stamp,
    pub(crate) partition_key: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) explicit_hash_key: Option<HashKey>,
}

impl Draft {
    /// Creates a record with `data_bytes` bytes of data, filled up from `noise`.
    pub(crate) fn new(stamp: Stamp, data_bytes: usize, noise: &[u8]) -> Self {
        let name = name_of(stamp.key).into_bytes();
        let from = (stamp.number.count as usize * 31) % (noise.len() / 2);
        match data_bytes.checked_sub(STAMP_BYTES) {
            Some(rest) => {
                let filler = &noise[from..from + rest];
                let data = [&stamp.encode(filler), filler].concat();
                Self { stamp, partition_key: name, data, explicit_hash_key: None }
            }
            None => {
                let data = noise[from..from + data_bytes].to_vec();
                let partition_key = [&name[..], &[SEPARATOR], &stamp.encode(&data)].concat();
                Self { stamp, partition_key, data, explicit_hash_key: Some(hash_key_of(stamp.key)) }
            }
        }
    }
}
