//! The manifest in an archive: all shards that ever existed.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Write};

use super::{damage, failure};
use crate::log::manifest::Manifest;
use crate::log::types::archive::Archive;
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Error, Result};
use crate::log::types::limits::MANIFEST_BYTES_MAX;
use crate::log::types::shard_id::ShardId;

const NAME: &str = "stream.json";

/// Reads the manifest in an archive. Returns `None` if nothing is archived there yet.
pub(crate) fn load(archive: &dyn Archive) -> Result<Option<Manifest>> {
    let mut text = Bounded(vec![]);
    match archive.get(NAME, &mut text) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failure(archive, "fetch", NAME, error)),
        Ok(()) => {}
    }
    let path = archive.locate(NAME);
    Manifest::decode(&text.0, path.as_ref()).map(Some)
}

/// Accepts as many bytes as a manifest may have.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.0.len() + bytes.len()) as u64 > MANIFEST_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long for a manifest"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Refuses the archive of another stream.
pub(crate) fn check_same(archive: &dyn Archive, archived: &Manifest, stream: &Manifest) -> Result<()> {
    if archived.created_at == stream.created_at {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{} holds the archive of another stream: name another place",
        archive.locate("")
    )))
}

/// The error for an archive that is ahead of its stream.
pub(super) fn other_history(archive: &dyn Archive) -> Error {
    Error::invalid(format!(
        "{} holds what this stream does not, because one of them goes on from an older copy: name another place for the archive",
        archive.locate("")
    ))
}

/// Adds the shards of a stream to the manifest in its archive, which was read before the stream's. Returns the resulting manifest.
pub(crate) fn add(archive: &dyn Archive, archived: Option<Manifest>, stream: &Manifest) -> Result<Manifest> {
    if let Some(archived) = &archived {
        check_same(archive, archived, stream)?;
        if archived.next_shard > stream.next_shard {
            return Err(other_history(archive));
        }
    }
    let merged = merge(archived.as_ref(), stream);
    // A reader of another process may not see all shards at a moment when they change.
    merged.check().map_err(|reason| failure(archive, "write", NAME, io::Error::other(reason)))?;
    if archived.as_ref() != Some(&merged) {
        let text = merged.encode();
        let put = archive.put(NAME, &mut Cursor::new(text.as_bytes()));
        put.map_err(|error| failure(archive, "write", NAME, error))?;
    }
    Ok(merged)
}

/// Returns the archived manifest with the shards of the stream added. Leaves out what changes with time alone.
fn merge(archived: Option<&Manifest>, stream: &Manifest) -> Manifest {
    let mut shards = stream.shards.clone();
    if let Some(archived) = archived {
        let expired: Vec<_> = expired(&archived.shards, &stream.shards).collect();
        shards.extend_from_slice(&expired);
        shards.sort_by_key(|shard| shard.id);
        adopt_orphans(&mut shards, &expired);
    }
    let mut merged = Manifest { shards, ..stream.clone() };
    merged.holds.clear();
    merged.marks.clear();
    // As it is read back.
    merged.marks = merged.shards.iter().map(|shard| (shard.id, merged.marks_of(shard))).collect();
    merged
}

/// Returns the archived shards that a stream no longer has. One that was never archived as closed counts as closed: it ended, at the latest, where
/// the shards begin that have its hash keys now.
pub(crate) fn expired<'a>(
    archived: &'a [ShardDescription],
    stream: &'a [ShardDescription],
) -> impl Iterator<Item = ShardDescription> + 'a {
    let is_there = |id: ShardId| stream.binary_search_by_key(&id, |shard| shard.id).is_ok();
    archived.iter().filter(move |shard| !is_there(shard.id)).map(move |shard| {
        let mut shard = shard.clone();
        if shard.closing_sequence.is_none() || shard.closed_at.is_none() {
            let later = archived.iter().chain(stream);
            let heirs = later
                .filter(|heir| heir.id > shard.id && heir.hash_key_range.overlaps(&shard.hash_key_range));
            let ends = heirs.map(|heir| (heir.first_sequence, heir.created_at)).min();
            let (end, closed_at) = ends.unwrap_or((shard.first_sequence, shard.created_at));
            shard.closing_sequence.get_or_insert(end);
            shard.closed_at.get_or_insert(closed_at);
        }
        shard
    })
}

/// Gives shards with unknown parents the closest ones: the latest archived shards that had their hash keys. So all earlier records of these keys
/// are read first.
pub(crate) fn adopt_orphans(all: &mut [ShardDescription], expired: &[ShardDescription]) {
    let ranges: BTreeMap<_, _> = all.iter().map(|shard| (shard.id, shard.hash_key_range)).collect();
    let misses_a_parent = |shard: &ShardDescription| shard.parents().any(|id| !ranges.contains_key(&id));
    for orphan in all.iter_mut().filter(|shard| misses_a_parent(shard)) {
        let range = orphan.hash_key_range;
        let mut parents: Vec<_> = orphan.parents().filter(|id| ranges.contains_key(id)).collect();
        let had_keys =
            |shard: &&ShardDescription| shard.id < orphan.id && shard.hash_key_range.overlaps(&range);
        for before in expired.iter().rev().filter(had_keys) {
            // An ancestor whose keys a later one had is read completely before the later one.
            let (start, end) =
                (before.hash_key_range.start.max(range.start), before.hash_key_range.end.min(range.end));
            let has_all = |later: &ShardId| ranges[later].start <= start && end <= ranges[later].end;
            if !parents.iter().any(has_all) {
                parents.push(before.id);
            }
        }
        // If it has none at all, it is the first of its keys.
        if let Some(&parent) = parents.first() {
            (orphan.parent, orphan.adjacent_parent) = (Some(parent), parents.get(1).copied());
        }
    }
}

/// Returns the error for an archive without a manifest.
pub(super) fn missing(archive: &dyn Archive) -> Error {
    damage(archive, NAME, None, "expected the manifest of an archive, found none")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::manifest::StreamSettings;
    use crate::log::types::compression::Compression;
    use crate::log::types::file_mode::FileMode;
    use crate::log::types::hash_key::KeyHash;
    use crate::log::types::keys::KeyList;
    use crate::log::types::options::Retention;
    use crate::log::types::time::Timestamp;

    fn manifest(shards: &[(u32, &[u32], Option<u64>)]) -> Manifest {
        let settings = StreamSettings {
            key_hash: KeyHash::Xxh3,
            retention: Retention::default(),
            segment_bytes: 1 << 20,
            record_bytes_max: 1 << 10,
            file_mode: FileMode::OWNER_ONLY,
            compression: Compression::None,
        };
        let mut manifest = Manifest::new(Timestamp::from_micros(1), settings, KeyList::default(), 1);
        let first = manifest.shards.remove(0);
        manifest.shards.extend(shards.iter().map(|&(id, parents, closing)| ShardDescription {
            id: ShardId::new(id),
            parent: parents.first().copied().map(ShardId::new),
            first_sequence: (u64::from(id) * 100).into(),
            closing_sequence: closing.map(Into::into),
            closed_at: closing.map(Timestamp::from_micros),
            ..first.clone()
        }));
        manifest.next_shard = 9;
        manifest
    }

    #[test]
    fn a_shard_stays_in_the_archived_manifest_and_is_closed_there() {
        let archived = merge(None, &manifest(&[(0, &[], Some(50)), (1, &[0], None)]));
        let merged = merge(Some(&archived), &manifest(&[(1, &[0], Some(150)), (2, &[1], None)]));
        let found: Vec<_> =
            merged.shards.iter().map(|it| (it.id.get(), it.closing_sequence.map(|it| it.get()))).collect();
        assert_eq!(found, [(0, Some(50)), (1, Some(150)), (2, None)]);
        // The same again changes nothing, and what is written is read back as it was.
        assert_eq!(merge(Some(&merged), &manifest(&[(1, &[0], Some(150)), (2, &[1], None)])), merged);
        assert_eq!(Manifest::decode(merged.encode().as_bytes(), "stream.json".as_ref()).unwrap(), merged);
        // Nobody has seen how 2 was closed.
        let later = merge(Some(&merged), &manifest(&[(3, &[2], None)]));
        assert_eq!(later.shards[2].closing_sequence, Some(300.into()));
    }
}
