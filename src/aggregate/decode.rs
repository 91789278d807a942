//! Reading an aggregate by the KCL's rules.

use super::MAGIC;
use super::md5::{DIGEST_BYTES, LANES, digests};
use super::protobuf::{Fields, Malformed, Span, Value};
use crate::{HashKey, HashKeyRange, KeyHash, PutRecord};

/// A decoded aggregate and its user records. It borrows the data.
///
/// Use it for data from another source than a stream, such as a response of Amazon Kinesis. For the records of a stream, use
/// [`deaggregate`](super::deaggregate).
///
/// ```
/// # use streamlog::PutRecord;
/// # use streamlog::aggregate::{Aggregate, Aggregator};
/// let mut aggregator = Aggregator::new();
/// aggregator.add(&PutRecord::new("user-17", "/"))?;
/// aggregator.add(&PutRecord::new("user-4", "/cart"))?;
/// let record = aggregator.finish().expect("two user records");
///
/// let aggregate = Aggregate::decode(&record.data).expect("an aggregate");
/// assert_eq!(aggregate.len(), 2);
/// assert_eq!(aggregate.iter().next(), Some(PutRecord::new("user-17", "/")));
/// assert!(Aggregate::decode(b"anything else").is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Aggregate<'a> {
    message: &'a [u8],
    partition_keys: Vec<Span>,
    explicit_hash_keys: Vec<Span>,
    /// The user records to return.
    entries: Vec<Entry>,
    is_foreign: bool,
    is_broken: bool,
}

/// A user record as it is stored: indexes in the tables of keys, and its data.
#[derive(Debug, Clone, Copy)]
struct Entry {
    partition_key: u32,
    explicit_hash_key: Option<u32>,
    data: Span,
}

/// What is wrong with a user record: an index past the end of a table, or an explicit hash key that is not a number.
struct Broken;

impl<'a> Aggregate<'a> {
    /// Reads an aggregate. Returns `None` if the data is not one, but that of a plain record.
    pub fn decode(data: &'a [u8]) -> Option<Self> {
        Self::decode_within(data, HashKeyRange::ALL, KeyHash::Md5)
    }

    /// Reads an aggregate of a shard that owns this range. If any of its user records belongs to another shard, all of them are dropped: see
    /// [`is_foreign`](Self::is_foreign). Amazon Kinesis hashes keys with [`KeyHash::Md5`].
    ///
    /// ```
    /// # use streamlog::{HashKey, HashKeyRange, KeyHash, PutRecord};
    /// # use streamlog::aggregate::{Aggregate, Aggregator};
    /// let mut aggregator = Aggregator::new();
    /// for hash_key in [5, 50] {
    ///     aggregator.add(&PutRecord::new("user-17", "/").explicit_hash_key(HashKey::new(hash_key)))?;
    /// }
    /// let record = aggregator.finish().expect("two user records");
    ///
    /// let range = HashKeyRange { start: HashKey::MIN, end: HashKey::new(9) };
    /// let aggregate = Aggregate::decode_within(&record.data, range, KeyHash::Md5).expect("an aggregate");
    /// assert!(aggregate.is_foreign() && aggregate.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn decode_within(data: &'a [u8], range: HashKeyRange, key_hash: KeyHash) -> Option<Self> {
        let message = messages_of(&[data]).pop()??;
        Self::of_message(message, range, key_hash)
    }

    /// Reads the message of an aggregate whose digest is right.
    pub(super) fn of_message(message: &'a [u8], range: HashKeyRange, key_hash: KeyHash) -> Option<Self> {
        let mut aggregate = Self::parse(message).ok()?;
        aggregate.check(range, key_hash);
        Some(aggregate)
    }

    fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let (mut partition_keys, mut explicit_hash_keys, mut entries) = (vec![], vec![], vec![]);
        let mut fields = Fields::of(message)?;
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(key)) => partition_keys.push(key),
                (2, Value::Bytes(key)) => explicit_hash_keys.push(key),
                (3, Value::Bytes(record)) => entries.push(Entry::parse(fields.within(record))?),
                _ => {}
            }
        }
        Ok(Self { message, partition_keys, explicit_hash_keys, entries, is_foreign: false, is_broken: false })
    }

    /// Keeps the user records to return. As in the KCL, the first foreign or broken one decides what is dropped.
    fn check(&mut self, range: HashKeyRange, key_hash: KeyHash) {
        let are_keys_within = match range == HashKeyRange::ALL {
            true => vec![true; self.partition_keys.len()],
            false => self.are_keys_within(range, key_hash),
        };
        for at in 0..self.entries.len() {
            match self.is_within(self.entries[at], range, &are_keys_within) {
                Ok(true) => {}
                Ok(false) => {
                    self.is_foreign = true;
                    self.entries.clear();
                    return;
                }
                Err(Broken) => {
                    self.is_broken = true;
                    self.entries.truncate(at);
                    return;
                }
            }
        }
    }

    /// Returns for each key of the table whether its hash is in the range.
    fn are_keys_within(&self, range: HashKeyRange, key_hash: KeyHash) -> Vec<bool> {
        const AT_ONCE: usize = 8 * LANES;
        let mut are_within = Vec::with_capacity(self.partition_keys.len());
        for keys in self.partition_keys.chunks(AT_ONCE) {
            let keys: Vec<&[u8]> = keys.iter().map(|key| key.of(self.message)).collect();
            match key_hash {
                KeyHash::Md5 => are_within.extend(
                    digests(&keys)
                        .into_iter()
                        .map(|md5| range.contains(HashKey::new(u128::from_be_bytes(md5)))),
                ),
                _ => are_within.extend(keys.iter().map(|key| range.contains(key_hash.hash(key)))),
            }
        }
        are_within
    }

    /// Returns whether a user record belongs to the range, by its explicit hash key or else by its partition key.
    #[inline]
    fn is_within(&self, entry: Entry, range: HashKeyRange, are_keys_within: &[bool]) -> Result<bool, Broken> {
        let &is_key_within = are_keys_within.get(entry.partition_key as usize).ok_or(Broken)?;
        match entry.explicit_hash_key {
            None => Ok(is_key_within),
            Some(_) => Ok(self.explicit_hash_key(entry)?.is_some_and(|hash_key| range.contains(hash_key))),
        }
    }

    /// Returns the explicit hash key of a user record that has one. `None` is a number that is not a hash key.
    fn explicit_hash_key(&self, entry: Entry) -> Result<Option<HashKey>, Broken> {
        let index = entry.explicit_hash_key.ok_or(Broken)?;
        let text = self.explicit_hash_keys.get(index as usize).ok_or(Broken)?;
        parse_hash_key(text.of(self.message))
    }

    /// Returns the number of user records, without dropped ones.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there are no user records, or all were dropped.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns whether the whole aggregate is dropped, because one of its user records does not belong to the shard.
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// Returns whether user records at the end are dropped because one is broken: it refers to a key that is not in the table, or has an
    /// explicit hash key that is not a number.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Returns the user records in order, ready to be put.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = PutRecord<'a>> {
        self.entries.iter().map(|&entry| self.record(entry))
    }

    /// Returns the user record with this index.
    pub fn get(&self, index: usize) -> Option<PutRecord<'a>> {
        self.entries.get(index).map(|&entry| self.record(entry))
    }

    #[inline]
    fn record(&self, entry: Entry) -> PutRecord<'a> {
        // `check` has dropped the entries for which this fails.
        let key = self.partition_keys.get(entry.partition_key as usize);
        let key = key.map_or(&self.message[..0], |key| key.of(self.message));
        let mut record = PutRecord::new(key, entry.data.of(self.message));
        if entry.explicit_hash_key.is_some() {
            record.explicit_hash_key = self.explicit_hash_key(entry).ok().flatten();
        }
        record
    }
}

impl Entry {
    fn parse(mut fields: Fields<'_>) -> Result<Self, Malformed> {
        let (mut partition_key, mut explicit_hash_key, mut data) = (None, None, None);
        while let Some(field) = fields.next()? {
            match field {
                // The KCL drops the bits above 32.
                (1, Value::Number(index)) => partition_key = Some(index as u32),
                (2, Value::Number(index)) => explicit_hash_key = Some(index as u32),
                (3, Value::Bytes(bytes)) => data = Some(bytes),
                (4, Value::Bytes(tag)) => check_tag(fields.within(tag))?,
                _ => {}
            }
        }
        // If a field occurs more than once, the last one counts. These two must occur.
        let (Some(partition_key), Some(data)) = (partition_key, data) else { return Err(Malformed) };
        Ok(Self { partition_key, explicit_hash_key, data })
    }
}

/// Checks a tag. Nothing uses it, but the format requires its name.
fn check_tag(mut fields: Fields<'_>) -> Result<(), Malformed> {
    let mut has_name = false;
    while let Some(field) = fields.next()? {
        has_name |= matches!(field, (1, Value::Bytes(_)));
    }
    if has_name { Ok(()) } else { Err(Malformed) }
}

/// Returns, for each record's data, the message in it if the data is an aggregate with a correct digest.
pub(super) fn messages_of<'a>(data: &[&'a [u8]]) -> Vec<Option<&'a [u8]>> {
    let split: Vec<_> = data.iter().map(|data| split(data)).collect();
    let messages: Vec<&[u8]> = split.iter().flatten().map(|(message, _)| *message).collect();
    let mut computed = digests(&messages).into_iter();
    let mut is_right =
        |digest: &[u8; DIGEST_BYTES]| computed.next().is_some_and(|computed| computed == *digest);
    split
        .into_iter()
        .map(|split| split.filter(|(_, digest)| is_right(digest)).map(|(message, _)| message))
        .collect()
}

/// Splits data that begins like an aggregate, and is long enough, into the message and the digest.
fn split(data: &[u8]) -> Option<(&[u8], &[u8; DIGEST_BYTES])> {
    data.strip_prefix(&MAGIC)?.split_last_chunk().filter(|(message, _)| !message.is_empty())
}

/// Reads an explicit hash key as Java's `BigInteger` does: a sign and any number of zeros may precede the digits. Returns `None` for a number
/// below 0 or above the highest hash key.
fn parse_hash_key(text: &[u8]) -> Result<Option<HashKey>, Broken> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Broken);
    }
    let value = digits
        .iter()
        .try_fold(0_u128, |value, digit| value.checked_mul(10)?.checked_add(u128::from(digit - b'0')));
    Ok(value.filter(|&value| !is_negative || value == 0).map(HashKey::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explicit_hash_keys_are_read_as_in_java() {
        let read = |text: &str| parse_hash_key(text.as_bytes()).ok().map(|key| key.map(HashKey::get));
        assert_eq!(read("7"), Some(Some(7)));
        assert_eq!(read("0007"), Some(Some(7)));
        assert_eq!(read("+7"), Some(Some(7)));
        assert_eq!(read("-0"), Some(Some(0)));
        assert_eq!(read("-7"), Some(None), "a number, and never a hash key");
        assert_eq!(read("340282366920938463463374607431768211455"), Some(Some(u128::MAX)));
        assert_eq!(read("340282366920938463463374607431768211456"), Some(None));
        assert_eq!(read(&"9".repeat(10_000)), Some(None));
        for text in ["", "-", "+", "+-7", "7 ", " 7", "0x7", "1e3", "7.0"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
