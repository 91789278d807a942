//! The shards that have expired and are archived, for a reader that was given the archive of its stream.
//!
//! The archived manifest is read when the stream's own manifest lacks a shard that is not known from the archive. The caller that asks for all
//! shards, or reaches the end of an expired one, reads it, and gets the error if the archive is out of reach. Nobody else waits for it, and no lock
//! is held meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::closed::unnamed;
use super::{Followed, State};
use crate::log::archive::cache::ArchiveCache;
use crate::log::archive::contents;
use crate::log::manifest::Manifest;
use crate::log::topology::lineage;
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::Result;
use crate::log::types::shard_id::ShardId;

/// The shards of the stream may change while the manifest in the archive is read. Then it is read again, up to this many times.
const READINGS_MAX: u32 = 3;

/// What is known of an archive.
#[derive(Debug)]
pub(super) struct ArchivedShards {
    pub(super) cache: Arc<ArchiveCache>,
    /// The manifest that was read last, if there was one.
    manifest: Option<Manifest>,
    /// The shards that the stream had itself before that.
    read_for: Option<Vec<ShardId>>,
}

impl ArchivedShards {
    pub(super) fn new(cache: Arc<ArchiveCache>) -> Self {
        Self { cache, manifest: None, read_for: None }
    }

    /// Returns whether the archive may know shards that the stream no longer has and that are not known from the archive yet.
    fn is_stale(&self, named: &[ShardDescription], next_shard: u32) -> bool {
        let ids = named.iter().map(|shard| shard.id);
        let Some(read_for) = &self.read_for else { return true };
        if ids.clone().eq(read_for.iter().copied()) {
            return false;
        }
        let archived = self.manifest.iter().flat_map(|manifest| &manifest.shards);
        let closed = archived.filter(|shard| !shard.is_open()).map(|shard| shard.id);
        let known: BTreeSet<_> = ids.chain(closed).collect();
        !(0..next_shard).all(|id| known.contains(&ShardId::new(id)))
    }
}

impl State {
    fn named_ids(&self) -> BTreeSet<ShardId> {
        self.named.iter().map(|shard| shard.id).collect()
    }

    fn has_stale_archive(&self) -> bool {
        let archive = self.archive.as_ref();
        archive.is_some_and(|archive| archive.is_stale(&self.named, self.manifest.next_shard))
    }
}

impl Followed {
    /// Reads the manifest in the archive, if there is an archive and it may know more shards than are known.
    ///
    /// # Errors
    /// `Io` if it is out of reach; `InvalidArgument` if it is that of another stream; `Corrupt`, `UnsupportedFormat`.
    pub(super) fn ask_archive(&self) -> Result<()> {
        for _ in 0..READINGS_MAX {
            let state = self.state.lock();
            let Some(archive) = state.archive.as_ref().filter(|_| state.has_stale_archive()) else {
                return Ok(());
            };
            let (cache, stream) = (Arc::clone(&archive.cache), state.manifest.clone());
            let ids = state.named.iter().map(|shard| shard.id).collect();
            drop(state);
            let archived = contents::load(cache.archive())?;
            archived.as_ref().map_or(Ok(()), |it| contents::check_same(cache.archive(), it, &stream))?;
            let mut state = self.state.lock();
            if let Some(archive) = &mut state.archive {
                (archive.manifest, archive.read_for) = (archived, Some(ids));
            }
            self.add_archived(&mut state);
        }
        Ok(())
    }

    /// Adds the archived shards that the stream no longer has. Closes the readers of these and of all other shards that it no longer has.
    pub(super) fn add_archived(&self, state: &mut State) {
        let is_stale = state.has_stale_archive();
        let cache = state.archive.as_ref().map(|archive| &archive.cache);
        let archived = state.archive.as_ref().and_then(|archive| archive.manifest.as_ref());
        let archived = archived.map_or(&[][..], |manifest| &manifest.shards);
        // Others were added since the stream's own manifest was read.
        let next_shard = state.manifest.next_shard;
        let expired = contents::expired(archived, &state.named).filter(|shard| shard.id.get() < next_shard);
        let expired: Vec<_> = expired.collect();
        for shard in &expired {
            state.members.entry(shard.id).or_insert_with(|| self.member(shard, &state.manifest, cache));
        }
        let mut all: Vec<_> = expired.iter().chain(&state.own).cloned().collect();
        all.sort_by_key(|shard| shard.id);
        contents::adopt_orphans(&mut all, &expired);
        let own: BTreeSet<_> = state.own.iter().map(|shard| shard.id).collect();
        for (id, member) in unnamed(&state.members, &state.named_ids()) {
            let (reader, gone) = (&member.reader, member.reader.created());
            let archived = expired.iter().find(|shard| shard.id == id);
            let is_later = |shard: &&ShardDescription| {
                shard.id > id && shard.hash_key_range.overlaps(&gone.hash_key_range)
            };
            // If some are not there or not known yet, a reader must not take the others for all.
            let is_known =
                !is_stale && state.named.iter().filter(is_later).all(|shard| own.contains(&shard.id));
            if !reader.is_closed() && is_known {
                let mut heirs: Vec<_> = lineage::children_of(&all, id).collect();
                if heirs.is_empty() {
                    // Its children are gone as well, or there are more parents than a shard has. Its reader continues with all that had its keys,
                    // in their order.
                    heirs = all.iter().filter(is_later).collect();
                }
                let first = heirs.iter().map(|heir| (heir.first_sequence, heir.created_at)).min();
                let ends = archived.and_then(|shard| shard.closing_sequence.zip(shard.closed_at));
                if let Some((end, closed_at)) = ends.or(first) {
                    let readers = heirs.iter().map(|heir| Arc::clone(&state.members[&heir.id].reader));
                    reader.announce(end, closed_at, readers.collect());
                }
            }
            reader.expire();
        }
        let named: BTreeSet<_> = all.iter().chain(&state.named).map(|shard| shard.id).collect();
        // An iterator that stands in one of the others keeps its reader.
        state.members.retain(|id, member| named.contains(id) || !member.reader.is_closed());
        state.manifest.shards = all;
    }
}
