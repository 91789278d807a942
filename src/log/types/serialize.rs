//! The values that serialize in a special form, as text or summed up, where all others derive it.

use serde::de::Error as _;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::compression::Compression;
use super::hash_key::HashKey;
use super::latency::Latency;
use super::shard_id::ShardId;
use super::time::Timestamp;

/// Makes a type serialize as the text that it prints.
macro_rules! serialize_as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

// Few formats have numbers of 128 bits, and the others are easier to read as text.
serialize_as_text!(Compression, HashKey, ShardId, Timestamp);

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Latency", 5)?;
        fields.serialize_field("count", &self.count())?;
        fields.serialize_field("mean", &self.mean())?;
        for (name, part) in [("median", 0.5), ("p99", 0.99), ("max", 1.0)] {
            fields.serialize_field(name, &self.quantile(part))?;
        }
        fields.end()
    }
}
