//! The manifest: the settings of a stream, and which shards exist.

mod json;

use std::collections::BTreeMap;
use std::path::Path;

use crate::log::sys::dir;
use crate::log::sys::file::DataFile;
use crate::log::sys::replace::{ReplaceError, replace_file};
use crate::log::sys::root::OwnPath;
use crate::log::types::compression::Compression;
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Corruption, Error, Result};
use crate::log::types::file_mode::FileMode;
use crate::log::types::hash_key::{HashKeyRange, KeyHash};
use crate::log::types::keys::KeyList;
use crate::log::types::limits::{MANIFEST_BYTES_MAX, record_bytes_max_of};
use crate::log::types::options::{Retention, check_segment_bytes};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

/// The version of the manifest that this code writes and reads.
const VERSION: u64 = 1;
pub(crate) const FILE_NAME: &str = "manifest.json";
/// Its name while it is being written, before it takes the place of the last one.
pub(crate) const NEW_NAME: &str = "manifest.new";
/// The name that it gets when its stream is deleted.
pub(crate) const SET_ASIDE_NAME: &str = "manifest.deleted";

/// The content of the file `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) created_at: Timestamp,
    pub(crate) settings: StreamSettings,
    /// The keys that encrypt its records, wrapped.
    pub(crate) keys: KeyList,
    /// The number of the next shard to create.
    pub(crate) next_shard: u32,
    /// The shards that have not expired, in the order of their creation.
    pub(crate) shards: Vec<ShardDescription>,
    /// What the owner of the stream keeps with it, by name.
    pub(crate) properties: BTreeMap<String, String>,
    /// The holds on retention, by name, each with the bytes up to which it holds.
    pub(crate) holds: BTreeMap<String, u64>,
    /// How far each shard was when the manifest was written.
    pub(crate) marks: BTreeMap<ShardId, Marks>,
}

/// How far a shard was, which is the least that opening must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Marks {
    /// All records below were trimmed and do not come back.
    pub(crate) horizon: SequenceNumber,
    /// All records from the horizon up to here were synced.
    pub(crate) synced: SequenceNumber,
    /// The arrival time of its last record. No later record is older, even after the last segment is gone.
    pub(crate) last_timestamp: Timestamp,
}

impl Marks {
    /// Returns the sequence number below which all records must be there, except for trimmed ones.
    pub(crate) fn promised(&self) -> SequenceNumber {
        if self.synced > self.horizon { self.synced } else { SequenceNumber::ZERO }
    }
}

/// The settings that belong to a stream, regardless of who opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamSettings {
    pub(crate) key_hash: KeyHash,
    pub(crate) retention: Retention,
    pub(crate) segment_bytes: u64,
    pub(crate) record_bytes_max: u64,
    pub(crate) file_mode: FileMode,
    pub(crate) compression: Compression,
}

impl StreamSettings {
    /// Refuses settings that no stream can have.
    pub(crate) fn check(&self) -> Result<()> {
        check_segment_bytes(self.segment_bytes)?;
        let most = record_bytes_max_of(self.segment_bytes);
        if !(1..=most).contains(&self.record_bytes_max) {
            return Err(Error::invalid(format!(
                "a record_bytes_max of {} is out of range: 1 to {most}, which is what a segment of {} bytes holds",
                self.record_bytes_max, self.segment_bytes
            )));
        }
        self.retention.check()
    }
}

impl Manifest {
    /// Returns the manifest of a new stream, whose shards divide the hash-key space as in Kinesis.
    pub(crate) fn new(
        created_at: Timestamp,
        settings: StreamSettings,
        keys: KeyList,
        shard_count: u32,
    ) -> Self {
        let shards =
            HashKeyRange::tiles(shard_count).zip(0..).map(|(hash_key_range, number)| ShardDescription {
                id: ShardId::new(number),
                parent: None,
                adjacent_parent: None,
                hash_key_range,
                first_sequence: SequenceNumber::ZERO,
                closing_sequence: None,
                created_at,
                closed_at: None,
            });
        Self {
            holds: BTreeMap::new(),
            properties: BTreeMap::new(),
            created_at,
            settings,
            keys,
            next_shard: shard_count,
            shards: shards.collect(),
            marks: BTreeMap::new(),
        }
    }

    /// Returns whether a directory has a manifest.
    pub(crate) fn exists_in(stream_dir: &OwnPath) -> Result<bool> {
        dir::exists(&path_in(stream_dir))
    }

    /// Returns the least that a shard had reached.
    pub(crate) fn marks_of(&self, shard: &ShardDescription) -> Marks {
        let marks = self.marks.get(&shard.id).copied().unwrap_or_default();
        let horizon = marks.horizon.max(shard.first_sequence);
        let last_timestamp = marks.last_timestamp.max(shard.created_at);
        Marks { horizon, synced: marks.synced.max(horizon), last_timestamp }
    }

    /// Reads the manifest of a stream.
    pub(crate) fn load(stream_dir: &OwnPath) -> Result<Self> {
        Self::load_from(path_in(stream_dir))
    }

    /// Reads a manifest by its path.
    pub(crate) fn load_from(path: OwnPath) -> Result<Self> {
        let file = DataFile::open(&path)?;
        let len = file.len()?;
        if len > MANIFEST_BYTES_MAX {
            return Err(damage(&path, format!("expected at most {MANIFEST_BYTES_MAX} bytes, found {len}")));
        }
        let mut text = vec![0; len as usize];
        file.read_exact_at(&mut text, 0)?;
        Self::decode(&text, &path)
    }

    /// Reads a manifest from its text. Errors name this path.
    pub(crate) fn decode(text: &[u8], path: &Path) -> Result<Self> {
        let manifest = json::decode(text).map_err(|fault| match fault {
            json::Fault::Version(found) => Error::unsupported(path, format!("manifest version {found}")),
            json::Fault::Damage(reason) => damage(path, reason),
        })?;
        manifest.check().map_err(|reason| damage(path, reason))?;
        Ok(manifest)
    }

    /// Returns the text of the manifest.
    pub(crate) fn encode(&self) -> String {
        json::encode(self)
    }

    /// Replaces the manifest of a stream atomically and durably.
    pub(crate) fn store(&self, stream_dir: &OwnPath) -> Result<(), ReplaceError> {
        self.store_at(&path_in(stream_dir))
    }

    /// Replaces a manifest atomically and durably, by its path.
    pub(crate) fn store_at(&self, path: &OwnPath) -> Result<(), ReplaceError> {
        replace_file(path, self.encode().as_bytes())
    }

    /// Refuses what no version of this library writes, so that later code need not check it.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.settings.check().map_err(|error| error.to_string())?;
        let ids = || self.shards.iter().map(|shard| shard.id.get());
        if !ids().is_sorted_by(|a, b| a < b) || ids().any(|id| id >= self.next_shard) {
            return Err("the shards are not in the order of their creation".into());
        }
        let mut open: Vec<_> =
            self.shards.iter().filter(|shard| shard.is_open()).map(|shard| shard.hash_key_range).collect();
        open.sort_by_key(|range| range.start);
        let covers = open.first().is_some_and(|first| first.start == HashKeyRange::ALL.start)
            && open.last().is_some_and(|last| last.end == HashKeyRange::ALL.end)
            && open.windows(2).all(|pair| pair[0].is_followed_by(&pair[1]))
            && open.iter().all(|range| range.start <= range.end);
        if !covers {
            return Err("the open shards do not cover the hash-key space exactly once".into());
        }
        Ok(())
    }
}

/// Returns the path of a stream's manifest.
pub(crate) fn path_in(stream_dir: &OwnPath) -> OwnPath {
    stream_dir.join(FILE_NAME)
}

/// Durably marks a stream as deleted, by renaming its manifest.
pub(crate) fn set_aside(stream_dir: &OwnPath) -> Result<()> {
    dir::rename(&path_in(stream_dir), &stream_dir.join(SET_ASIDE_NAME))?;
    dir::sync(stream_dir)
}

fn damage(path: &Path, reason: String) -> Error {
    Corruption { path: path.to_owned(), shard: None, offset: 0, sequence: None, reason }.into_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p11_settings_that_no_stream_has_are_not_believed_whatever_the_checksum_says() {
        let settings = StreamSettings {
            key_hash: KeyHash::Xxh3,
            retention: Retention::default(),
            segment_bytes: 1 << 20,
            record_bytes_max: 1 << 10,
            file_mode: FileMode::OWNER_ONLY,
            compression: Compression::None,
        };
        let manifest = |settings| Manifest::new(Timestamp::default(), settings, KeyList::default(), 2);
        assert_eq!(manifest(settings).check(), Ok(()));
        for absurd in [
            StreamSettings { segment_bytes: 0, ..settings },
            StreamSettings { segment_bytes: 1 << 62, ..settings },
            StreamSettings { record_bytes_max: 0, ..settings },
            StreamSettings { record_bytes_max: 1 << 20, ..settings },
            StreamSettings { retention: Retention::age(std::time::Duration::ZERO), ..settings },
        ] {
            assert!(manifest(absurd).check().is_err(), "{absurd:?}");
        }
        let mut gap = manifest(settings);
        gap.shards[1].closed_at = Some(Timestamp::default());
        assert!(gap.check().is_err(), "open shards that leave a gap");
    }
}
