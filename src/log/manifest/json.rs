//! The manifest as JSON, readable with `cat` and protected by a checksum.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Manifest, Marks, StreamSettings, VERSION};
use crate::log::format::checksum::checksum as crc32;
use crate::log::types::compression::Compression;
use crate::log::types::describe::ShardDescription;
use crate::log::types::file_mode::FileMode;
use crate::log::types::hash_key::{HashKey, HashKeyRange, KeyHash};
use crate::log::types::hex;
use crate::log::types::keys::{KeyList, WrappedKey};
use crate::log::types::options::Retention;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

const FORMAT: &str = "streamlog";

/// The reason why a text is not a manifest.
pub(super) enum Fault {
    Version(u64),
    Damage(String),
}

#[derive(Serialize)]
struct Whole<'a> {
    format: &'a str,
    version: u64,
    checksum: &'a str,
    stream: Body,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    created_at_micros: u64,
    key_hash: String,
    retention_age_micros: Option<u64>,
    retention_bytes_max: Option<u64>,
    segment_bytes: u64,
    record_bytes_max: u64,
    /// In octal, as `ls` and `chmod` have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file_mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compression: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encryption: Option<Keys>,
    next_shard: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    holds: BTreeMap<String, u64>,
    shards: Vec<Shard>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shard {
    id: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adjacent_parent: Option<u32>,
    /// Decimal text, as in Kinesis: JSON numbers do not hold 128 bits.
    first_hash_key: String,
    last_hash_key: String,
    first_sequence: u64,
    horizon_sequence: u64,
    synced_sequence: u64,
    last_timestamp_micros: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    closing_sequence: Option<u64>,
    created_at_micros: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    closed_at_micros: Option<u64>,
}

/// The keys of a stream that is encrypted, or was.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    stream_id: String,
    is_on: bool,
    data_keys: Vec<DataKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DataKey {
    key_id: String,
    wrapped: String,
}

pub(super) fn encode(manifest: &Manifest) -> String {
    let settings = &manifest.settings;
    let body = Body {
        created_at_micros: manifest.created_at.as_micros(),
        key_hash: key_hash_name(settings.key_hash).to_owned(),
        retention_age_micros: settings
            .retention
            .age
            .map(|age| age.as_micros().try_into().unwrap_or(u64::MAX)),
        retention_bytes_max: settings.retention.bytes_max,
        segment_bytes: settings.segment_bytes,
        record_bytes_max: settings.record_bytes_max,
        file_mode: encode_mode(settings.file_mode),
        compression: (settings.compression != Compression::None).then(|| settings.compression.to_string()),
        encryption: encode_keys(&manifest.keys),
        next_shard: manifest.next_shard,
        properties: manifest.properties.clone(),
        holds: manifest.holds.clone(),
        shards: manifest.shards.iter().map(|shard| encode_shard(shard, manifest.marks_of(shard))).collect(),
    };
    let checksum = checksum(&body);
    let whole = Whole { format: FORMAT, version: VERSION, checksum: &checksum, stream: body };
    serde_json::to_string_pretty(&whole).expect("numbers and text always serialize") + "\n"
}

pub(super) fn decode(text: &[u8]) -> Result<Manifest, Fault> {
    let damage = |reason: &str| Fault::Damage(reason.to_owned());
    let whole: Map<String, Value> = serde_json::from_slice(text)
        .map_err(|error| Fault::Damage(format!("expected a manifest in JSON: {error}")))?;
    if whole.get("format").and_then(Value::as_str) != Some(FORMAT) {
        return Err(damage("expected the format \"streamlog\""));
    }
    let version = whole.get("version").and_then(Value::as_u64).ok_or_else(|| damage("expected a version"))?;
    if version != VERSION {
        return Err(Fault::Version(version));
    }
    let body = whole.get("stream").ok_or_else(|| damage("expected a stream"))?;
    let body = Body::deserialize(body).map_err(|error| Fault::Damage(error.to_string()))?;
    let found = whole.get("checksum").and_then(Value::as_str).unwrap_or_default();
    let expected = checksum(&body);
    if found != expected {
        return Err(Fault::Damage(format!("expected checksum {expected}, found {found:?}")));
    }
    decode_body(body).ok_or_else(|| damage("a value is out of its range"))
}

/// Returns the checksum of the body in its compact form, which does not depend on the layout of the text.
fn checksum(body: &Body) -> String {
    let compact = serde_json::to_string(body).expect("numbers and text always serialize");
    format!("{:08x}", crc32(compact.as_bytes()))
}

fn encode_keys(list: &KeyList) -> Option<Keys> {
    let data_key =
        |key: &WrappedKey| DataKey { key_id: key.key_id.clone(), wrapped: hex::encode(&key.bytes) };
    (!list.keys.is_empty()).then(|| Keys {
        stream_id: hex::encode(&list.stream_id),
        is_on: list.is_on,
        data_keys: list.keys.iter().map(data_key).collect(),
    })
}

fn decode_keys(keys: Keys) -> Option<KeyList> {
    let wrapped = |key: DataKey| Some(WrappedKey { bytes: hex::decode(&key.wrapped)?, key_id: key.key_id });
    let list: Vec<_> = keys.data_keys.into_iter().map(wrapped).collect::<Option<_>>()?;
    let stream_id = hex::decode(&keys.stream_id)?.try_into().ok()?;
    (!list.is_empty()).then_some(KeyList { stream_id, is_on: keys.is_on, keys: list })
}

fn encode_shard(shard: &ShardDescription, marks: Marks) -> Shard {
    Shard {
        id: shard.id.get(),
        parent: shard.parent.map(ShardId::get),
        adjacent_parent: shard.adjacent_parent.map(ShardId::get),
        first_hash_key: shard.hash_key_range.start.to_string(),
        last_hash_key: shard.hash_key_range.end.to_string(),
        first_sequence: shard.first_sequence.get(),
        horizon_sequence: marks.horizon.get(),
        synced_sequence: marks.synced.get(),
        last_timestamp_micros: marks.last_timestamp.as_micros(),
        closing_sequence: shard.closing_sequence.map(|sequence| sequence.get()),
        created_at_micros: shard.created_at.as_micros(),
        closed_at_micros: shard.closed_at.map(Timestamp::as_micros),
    }
}

fn decode_body(body: Body) -> Option<Manifest> {
    let retention = match body.retention_age_micros {
        Some(micros) => Retention::age(Duration::from_micros(micros)),
        None => Retention::forever(),
    };
    let retention = body.retention_bytes_max.map_or(retention, |bytes| retention.bytes_max(bytes));
    let settings = StreamSettings {
        key_hash: [KeyHash::Xxh3, KeyHash::Md5]
            .into_iter()
            .find(|&hash| key_hash_name(hash) == body.key_hash)?,
        retention,
        segment_bytes: body.segment_bytes,
        record_bytes_max: body.record_bytes_max,
        file_mode: body.file_mode.map_or(Some(FileMode::OWNER_ONLY), |text| decode_mode(&text))?,
        compression: body.compression.map_or(Ok(Compression::None), |text| text.parse()).ok()?,
    };
    let marks = |shard: &Shard| Marks {
        horizon: shard.horizon_sequence.into(),
        synced: shard.synced_sequence.into(),
        last_timestamp: Timestamp::from_micros(shard.last_timestamp_micros),
    };
    let marks = body.shards.iter().map(|shard| (ShardId::new(shard.id), marks(shard))).collect();
    Some(Manifest {
        created_at: Timestamp::from_micros(body.created_at_micros),
        settings,
        keys: body.encryption.map_or(Some(KeyList::default()), decode_keys)?,
        next_shard: body.next_shard,
        properties: body.properties,
        holds: body.holds,
        shards: body.shards.into_iter().map(decode_shard).collect::<Option<_>>()?,
        marks,
    })
}

fn decode_shard(shard: Shard) -> Option<ShardDescription> {
    let hash_key = |text: String| text.parse::<HashKey>().ok();
    Some(ShardDescription {
        id: ShardId::new(shard.id),
        parent: shard.parent.map(ShardId::new),
        adjacent_parent: shard.adjacent_parent.map(ShardId::new),
        hash_key_range: HashKeyRange {
            start: hash_key(shard.first_hash_key)?,
            end: hash_key(shard.last_hash_key)?,
        },
        first_sequence: shard.first_sequence.into(),
        closing_sequence: shard.closing_sequence.map(Into::into),
        created_at: Timestamp::from_micros(shard.created_at_micros),
        closed_at: shard.closed_at_micros.map(Timestamp::from_micros),
    })
}

/// Returns the text of a mode, or `None` for the default, which a manifest leaves out.
fn encode_mode(mode: FileMode) -> Option<String> {
    (mode != FileMode::OWNER_ONLY).then(|| format!("{:04o}", mode.of_files()))
}

fn decode_mode(text: &str) -> Option<FileMode> {
    let mode = FileMode::new(u32::from_str_radix(text, 8).ok()?).ok()?;
    (encode_mode(mode)? == text).then_some(mode)
}

fn key_hash_name(key_hash: KeyHash) -> &'static str {
    match key_hash {
        KeyHash::Xxh3 => "xxh3",
        KeyHash::Md5 => "md5",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> Manifest {
        let settings = StreamSettings {
            key_hash: KeyHash::Md5,
            retention: Retention::age(Duration::from_secs(60)).bytes_max(1 << 30),
            segment_bytes: 64 << 20,
            record_bytes_max: 1 << 20,
            file_mode: FileMode::new(0o640).unwrap(),
            compression: Compression::zstd(),
        };
        let wrapped = |byte| WrappedKey { key_id: format!("key {byte}"), bytes: vec![byte; 60] };
        let keys = KeyList { stream_id: [7; 16], is_on: true, keys: vec![wrapped(1), wrapped(2)] };
        let mut manifest = Manifest::new(Timestamp::from_millis(1_700_000_000_000), settings, keys, 3);
        manifest.properties.insert("owner".to_owned(), "the \"shop\" team".to_owned());
        manifest.shards[0].closing_sequence = Some(u64::MAX.into());
        manifest.shards[0].closed_at = Some(Timestamp::from_millis(1_700_000_000_001));
        manifest.shards[2].parent = Some(ShardId::new(0));
        let last_timestamp = Timestamp::from_millis(1_700_000_000_002);
        let marks = |horizon: u64, synced: u64| Marks {
            horizon: horizon.into(),
            synced: synced.into(),
            last_timestamp,
        };
        manifest.marks = (0..).map(ShardId::new).zip([marks(0, 5), marks(0, 0), marks(1, 1)]).collect();
        manifest
    }

    #[test]
    fn a_manifest_reads_back_as_it_was_written() {
        let manifest = example();
        assert_eq!(decode(encode(&manifest).as_bytes()).ok(), Some(manifest));
    }

    #[test]
    fn a_mode_that_is_not_there_is_the_default_and_one_that_no_stream_has_is_refused() {
        let mut manifest = example();
        manifest.settings.file_mode = FileMode::OWNER_ONLY;
        let text = encode(&manifest);
        assert!(!text.contains("file_mode"), "earlier manifests read as they are: {text}");
        assert_eq!(decode(text.as_bytes()).ok(), Some(manifest));
        assert_eq!(decode_mode("0644").map(FileMode::of_files), Some(0o644));
        for text in ["", "0600", "640", "0666", "0o640", "+0640", "00640", "1640", "99999999999999"] {
            assert_eq!(decode_mode(text), None, "{text}");
        }
    }

    #[test]
    fn p9_a_flipped_bit_changes_nothing_or_is_noticed() {
        let manifest = example();
        let text = encode(&manifest).into_bytes();
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = decode(&flipped) {
                assert_eq!(read, manifest, "bit {bit}");
            }
        }
    }

    #[test]
    fn p14_a_newer_version_is_told_from_damage() {
        let text = encode(&example()).replace("\"version\": 1", "\"version\": 2");
        assert!(matches!(decode(text.as_bytes()), Err(Fault::Version(2))));
    }

    proptest! {
        #[test]
        fn p11_any_text_decodes_without_a_panic(text in "\\PC{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (decode(text.as_bytes()), decode(&bytes));
        }
    }
}
