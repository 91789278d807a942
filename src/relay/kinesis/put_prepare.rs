//! Prepares a record for Kinesis: returns what is sent for it, or why it can never be sent.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::super::envelope::Envelope;
use crate::aggregate::Aggregate;
use crate::{HashKey, KeyHash, Record, SequenceNumber, ShardId};

/// The most characters of a key of Kinesis.
const KEY_CHARS_MAX: usize = 256;

/// How to handle the headers of records, which Amazon Kinesis does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RelayHeaders {
    /// Gives a record with headers up to the [destination](super::super::RelayOptions::on_failure).
    #[default]
    Refuse,
    /// Sends records without their headers.
    Drop,
    /// Sends each record as an [`Envelope`], with its headers, its data and its position.
    Envelope,
}

/// Returns the explicit hash key of a record.
pub(super) type HashKeyOf = dyn Fn(&Record<'_>) -> Option<HashKey> + Send + Sync;

/// How records are prepared.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) headers: RelayHeaders,
    /// The name of the stream that the records come from, in envelopes.
    pub(super) stream: String,
    pub(super) hash_key_of: Option<Arc<HashKeyOf>>,
    /// The largest record, key and data together.
    pub(super) record_bytes_max: usize,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("headers", &self.headers)
            .field("stream", &self.stream)
            .field("record_bytes_max", &self.record_bytes_max)
            .finish_non_exhaustive()
    }
}

/// A record, or a user record of an aggregate, that is to be sent.
#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    /// The place of the record that it comes from.
    pub(super) sequence: SequenceNumber,
    pub(super) partition_key: Cow<'a, str>,
    pub(super) explicit_hash_key: Option<HashKey>,
    /// Which shard it goes to.
    pub(super) hash: HashKey,
    pub(super) data: Cow<'a, [u8]>,
    /// The data is an aggregate of the KPL.
    pub(super) is_aggregate: bool,
}

impl<'a> Item<'a> {
    pub(super) fn new(
        sequence: SequenceNumber,
        partition_key: Cow<'a, str>,
        explicit_hash_key: Option<HashKey>,
        data: Cow<'a, [u8]>,
    ) -> Self {
        let hash = explicit_hash_key.unwrap_or_else(|| KeyHash::Md5.hash(partition_key.as_bytes()));
        let is_aggregate = Aggregate::decode(&data).is_some_and(|aggregate| !aggregate.is_empty());
        Self { sequence, partition_key, explicit_hash_key, hash, data, is_aggregate }
    }

    /// Returns what counts against limits: the bytes of key and data.
    pub(super) fn bytes(&self) -> usize {
        self.partition_key.len() + self.data.len()
    }

    /// Returns the user records of an aggregate.
    pub(super) fn user_records(&self) -> Vec<Self> {
        let Some(aggregate) = Aggregate::decode(&self.data) else { return vec![] };
        let item = |record: crate::PutRecord<'_>| {
            let key = String::from_utf8_lossy(record.partition_key).into_owned();
            let data = Cow::Owned(record.data.to_vec());
            // User records are not unpacked again.
            let hash_key = record.explicit_hash_key;
            let hash = hash_key.unwrap_or_else(|| KeyHash::Md5.hash(key.as_bytes()));
            Item {
                sequence: self.sequence,
                partition_key: Cow::Owned(key),
                explicit_hash_key: hash_key,
                hash,
                data,
                is_aggregate: false,
            }
        };
        aggregate.iter().map(item).collect()
    }
}

impl Rules {
    /// Returns what is sent for a record.
    ///
    /// # Errors
    /// Why it can never be sent.
    pub(super) fn prepare<'a>(&self, shard: ShardId, record: &Record<'a>) -> Result<Item<'a>, String> {
        let key = record.partition_key();
        let key =
            std::str::from_utf8(key).map_err(|_| "its partition key is not UTF-8, which Kinesis requires")?;
        let chars = key.chars().count();
        if chars == 0 || chars > KEY_CHARS_MAX {
            return Err(format!(
                "its partition key has {chars} characters, and Kinesis takes 1 to {KEY_CHARS_MAX}"
            ));
        }
        let data = match self.headers {
            RelayHeaders::Refuse if !record.headers().is_empty() => {
                return Err("it has headers, and Kinesis has none: drop them, or have an envelope".to_owned());
            }
            RelayHeaders::Envelope => Cow::Owned(Envelope::encode(&self.stream, shard, record)),
            _ => Cow::Borrowed(record.data()),
        };
        let bytes = key.len() + data.len();
        if bytes > self.record_bytes_max {
            let what = if self.headers == RelayHeaders::Envelope { "its envelope" } else { "its data" };
            let most = self.record_bytes_max;
            return Err(format!("its key and {what} have {bytes} bytes, and at most {most} are sent"));
        }
        let hash_key = self.hash_key_of.as_ref().and_then(|hash_key_of| hash_key_of(record));
        Ok(Item::new(record.sequence(), Cow::Borrowed(key), hash_key, data))
    }
}
