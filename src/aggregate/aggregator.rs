//! Writing aggregates.

use super::MAGIC;
use super::key_table::{KeyTable, Place};
use super::md5::{DIGEST_BYTES, digests};
use super::protobuf::{varint_len, write_varint};
use crate::{Error, HashKey, PutRecord, Result, limits};

/// The default of [`Aggregator::bytes_max`], as in the KPL.
pub const BYTES_MAX_DEFAULT: usize = 50 << 10;

/// The largest [`Aggregator::bytes_max`], as in the KPL.
pub const BYTES_MAX_LIMIT: usize = 10 << 20;

/// Packs user records into aggregates.
///
/// Each time an aggregate is full, [`add`](Self::add) returns it, and the added user record begins the next one. [`finish`](Self::finish)
/// returns the rest; call it after some time, because an aggregator has no clock.
///
/// **Use one aggregator for each shard.** An aggregate goes to one shard: to the one that owns the hash key of its first user record. Readers
/// with the KCL, and [`Worker::user_records`](crate::Worker::user_records) in a stream with [`KeyHash::Md5`](crate::KeyHash::Md5), drop an
/// aggregate with a user record that belongs to another shard. This may also happen if the shards change between adding and putting: check
/// the receipt, and put the user records again if they do not all belong to its shard.
///
/// ```
/// # use streamlog::PutRecord;
/// # use streamlog::aggregate::Aggregator;
/// let mut aggregator = Aggregator::new().bytes_max(64);
/// assert!(aggregator.add(&PutRecord::new("user-17", "/"))?.is_none());
/// assert!(aggregator.add(&PutRecord::new("user-17", "/cart"))?.is_none());
/// let full = aggregator.add(&PutRecord::new("user-4", "/checkout"))?.expect("there is no room for a third");
/// assert_eq!((full.user_record_count, full.is_aggregated), (2, true));
/// assert!(full.data.len() <= 64);
///
/// let last = aggregator.finish().expect("one is left");
/// assert_eq!((&last.data[..], last.is_aggregated), (&b"/checkout"[..], false));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Aggregator {
    bytes_max: usize,
    user_records_max: usize,
    partition_keys: KeyTable,
    explicit_hash_keys: KeyTable,
    /// The user records, encoded one after the other.
    records: Vec<u8>,
    user_record_count: usize,
    /// The first user record's hash key, and the length of its data.
    first: (Option<HashKey>, usize),
    /// The last hash key written, with its text, which is slow to produce.
    last_hash_key: Option<(HashKey, String)>,
}

/// A record made by an [`Aggregator`]: an aggregate, or a single user record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AggregatedRecord {
    /// The partition key of the first user record.
    pub partition_key: String,
    /// The explicit hash key of the first user record, if it has one.
    pub explicit_hash_key: Option<HashKey>,
    /// The aggregate, or the data of the single user record.
    pub data: Vec<u8>,
    /// How many user records it holds.
    pub user_record_count: usize,
    /// Whether the data is an aggregate. As with the KPL, a single user record stays a plain record.
    pub is_aggregated: bool,
}

impl AggregatedRecord {
    /// Returns the record to put. It goes to the shard of its first user record.
    pub fn as_put(&self) -> PutRecord<'_> {
        let mut record = PutRecord::new(&self.partition_key, &self.data);
        record.explicit_hash_key = self.explicit_hash_key;
        record
    }
}

/// What a user record adds to the aggregate.
struct Added<'a> {
    partition_key: Place,
    explicit_hash_key: Option<(Place, &'a [u8])>,
    /// The encoded user record without its head.
    record_bytes: usize,
    /// All bytes that are added.
    bytes: usize,
}

impl Default for Aggregator {
    fn default() -> Self {
        Self::new()
    }
}

impl Aggregator {
    /// Returns an empty aggregator with the KPL's defaults.
    pub fn new() -> Self {
        Self {
            bytes_max: BYTES_MAX_DEFAULT,
            user_records_max: usize::MAX,
            partition_keys: KeyTable::new(1),
            explicit_hash_keys: KeyTable::new(2),
            records: vec![],
            user_record_count: 0,
            first: (None, 0),
            last_hash_key: None,
        }
    }

    /// Sets the maximum size of an aggregate in bytes. A user record that does not fit into one becomes a plain record. Default: 51,200
    /// ([`BYTES_MAX_DEFAULT`]), as in the KPL. More than 10 MiB ([`BYTES_MAX_LIMIT`]) is the same as 10 MiB.
    ///
    /// Set no more than the [`record_bytes_max`](crate::StreamOptions::record_bytes_max) of the target stream less the longest partition
    /// key.
    #[must_use]
    pub fn bytes_max(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes.min(BYTES_MAX_LIMIT);
        self
    }

    /// Sets the maximum number of user records in an aggregate. Default: no limit.
    #[must_use]
    pub fn user_records_max(mut self, count: usize) -> Self {
        self.user_records_max = count;
        self
    }

    /// Returns how many user records were added since the last aggregate.
    pub fn len(&self) -> usize {
        self.user_record_count
    }

    /// Returns whether no user record was added since the last aggregate.
    pub fn is_empty(&self) -> bool {
        self.user_record_count == 0
    }

    /// Returns the size in bytes of an aggregate of the user records added so far: 0 if there are none.
    pub fn bytes(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        let tables = self.partition_keys.encoded().len() + self.explicit_hash_keys.encoded().len();
        MAGIC.len() + tables + self.records.len() + DIGEST_BYTES
    }

    /// Adds a user record. If it does not fit, returns the aggregate of the previous ones.
    ///
    /// # Errors
    /// `InvalidRecord` for a partition key that is empty, longer than 1,024 bytes or not UTF-8, because it is text in an aggregate, and for
    /// a record with headers, because an aggregate has none. Nothing is added then.
    pub fn add(&mut self, record: &PutRecord<'_>) -> Result<Option<AggregatedRecord>> {
        check(0, record)?;
        let mut full = self.add_checked(record);
        sign(full.as_mut_slice());
        Ok(full)
    }

    /// Adds many user records. Returns the aggregates that are full. It is faster than several calls of [`add`](Self::add), because it
    /// computes the aggregates' digests together.
    ///
    /// ```
    /// # use streamlog::PutRecord;
    /// # use streamlog::aggregate::Aggregator;
    /// let pages: Vec<String> = (0..1_000).map(|number| format!("/item/{number}")).collect();
    /// let records: Vec<_> = pages.iter().map(|page| PutRecord::new("user-17", page)).collect();
    /// let mut aggregator = Aggregator::new().user_records_max(300);
    /// let full = aggregator.add_all(&records)?;
    /// assert_eq!((full.len(), aggregator.len()), (3, 100));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Same as [`add`](Self::add), with the index of the first user record that is refused. Nothing is added then.
    pub fn add_all(&mut self, records: &[PutRecord<'_>]) -> Result<Vec<AggregatedRecord>> {
        for (index, record) in records.iter().enumerate() {
            check(index, record)?;
        }
        let mut full: Vec<_> = records.iter().filter_map(|record| self.add_checked(record)).collect();
        sign(&mut full);
        Ok(full)
    }

    /// Adds a user record. A full aggregate that it returns still lacks its digest.
    fn add_checked(&mut self, record: &PutRecord<'_>) -> Option<AggregatedRecord> {
        let text = record.explicit_hash_key.map(|hash_key| self.text_of(hash_key));
        let text = text.as_deref().map(str::as_bytes);
        let mut added = self.added(record, text);
        let is_full = !self.is_empty()
            && (self.user_record_count >= self.user_records_max
                || self.bytes() + added.bytes > self.bytes_max);
        let full = if is_full { self.finish_unsigned() } else { None };
        if is_full {
            added = self.added(record, text);
        }
        self.push(record, &added);
        full
    }

    /// Returns the user records added since the last aggregate, if any.
    pub fn finish(&mut self) -> Option<AggregatedRecord> {
        let mut last = self.finish_unsigned();
        sign(last.as_mut_slice());
        last
    }

    fn finish_unsigned(&mut self) -> Option<AggregatedRecord> {
        if self.is_empty() {
            return None;
        }
        let (explicit_hash_key, data_len) = self.first;
        let only = &self.records[self.records.len() - data_len.min(self.records.len())..];
        // Unaggregated, such data would be read as an aggregate.
        let is_aggregated = self.user_record_count > 1 || only.starts_with(&MAGIC);
        let record = AggregatedRecord {
            partition_key: String::from_utf8_lossy(self.partition_keys.first()).into_owned(),
            explicit_hash_key,
            data: if is_aggregated { self.encode() } else { only.to_vec() },
            user_record_count: self.user_record_count,
            is_aggregated,
        };
        self.partition_keys.clear();
        self.explicit_hash_keys.clear();
        self.records.clear();
        self.user_record_count = 0;
        Some(record)
    }

    fn encode(&self) -> Vec<u8> {
        let mut data = Vec::with_capacity(self.bytes());
        data.extend_from_slice(&MAGIC);
        data.extend_from_slice(self.partition_keys.encoded());
        data.extend_from_slice(self.explicit_hash_keys.encoded());
        data.extend_from_slice(&self.records);
        data.resize(self.bytes(), 0);
        data
    }

    fn text_of(&mut self, hash_key: HashKey) -> String {
        match &self.last_hash_key {
            Some((last, text)) if *last == hash_key => text.clone(),
            _ => {
                let text = hash_key.to_string();
                self.last_hash_key = Some((hash_key, text.clone()));
                text
            }
        }
    }

    fn added<'a>(&self, record: &PutRecord<'_>, hash_key: Option<&'a [u8]>) -> Added<'a> {
        let partition_key = self.partition_keys.find(record.partition_key);
        let explicit_hash_key = hash_key.map(|text| (self.explicit_hash_keys.find(text), text));
        let number = |index: u32| 1 + varint_len(index.into());
        let data = 1 + varint_len(record.data.len() as u64) + record.data.len();
        let keys = number(self.partition_keys.index(partition_key))
            + explicit_hash_key.map_or(0, |(place, _)| number(self.explicit_hash_keys.index(place)));
        let record_bytes = keys + data;
        let bytes = KeyTable::added(partition_key, record.partition_key)
            + explicit_hash_key.map_or(0, |(place, text)| KeyTable::added(place, text))
            + 1
            + varint_len(record_bytes as u64)
            + record_bytes;
        Added { partition_key, explicit_hash_key, record_bytes, bytes }
    }

    fn push(&mut self, record: &PutRecord<'_>, added: &Added<'_>) {
        if self.is_empty() {
            self.first = (record.explicit_hash_key, record.data.len());
        }
        // A field's number, and whether a number (0) or bytes (2) follow.
        let tag = |number: u8, wire_type: u8| number << 3 | wire_type;
        let out = &mut self.records;
        out.push(tag(3, 2));
        write_varint(out, added.record_bytes as u64);
        out.push(tag(1, 0));
        write_varint(out, self.partition_keys.index(added.partition_key).into());
        if let Some((place, text)) = added.explicit_hash_key {
            out.push(tag(2, 0));
            write_varint(out, self.explicit_hash_keys.index(place).into());
            self.explicit_hash_keys.insert(place, text);
        }
        out.push(tag(3, 2));
        write_varint(out, record.data.len() as u64);
        out.extend_from_slice(record.data);
        self.partition_keys.insert(added.partition_key, record.partition_key);
        self.user_record_count += 1;
    }
}

/// Writes the digest of each aggregate in its place at the end.
fn sign(records: &mut [AggregatedRecord]) {
    let mut unsigned: Vec<_> = records
        .iter_mut()
        .filter(|record| record.is_aggregated)
        .filter_map(|record| record.data[MAGIC.len()..].split_last_chunk_mut::<DIGEST_BYTES>())
        .collect();
    let messages: Vec<&[u8]> = unsigned.iter().map(|(message, _)| &**message).collect();
    let computed = digests(&messages);
    for ((_, place), digest) in unsigned.iter_mut().zip(computed) {
        **place = digest;
    }
}

fn check(index: usize, record: &PutRecord<'_>) -> Result<()> {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    let refused = |reason: String| Err(Error::InvalidRecord { index, reason: reason.into() });
    let key = record.partition_key;
    if key.is_empty() || key.len() > limits::PARTITION_KEY_BYTES_MAX {
        return refused(format!(
            "its partition key has {} bytes, and a key has 1 to {}",
            key.len(),
            limits::PARTITION_KEY_BYTES_MAX
        ));
    }
    if std::str::from_utf8(key).is_err() {
        return refused("its partition key is not UTF-8, and an aggregate stores keys as text".to_owned());
    }
    if record.headers().len() > 0 {
        return refused("it has headers, and an aggregate has none: put it by itself".to_owned());
    }
    if record.data.len() as u64 > limits::FRAME_BYTES_MAX {
        return refused(format!(
            "its data has {} bytes, and a record has at most {}",
            record.data.len(),
            limits::FRAME_BYTES_MAX
        ));
    }
    Ok(())
}
