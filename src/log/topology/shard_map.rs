//! The shard map: which shard owns a hash key, as an immutable map that is replaced as a whole.

use std::sync::Arc;

use crate::log::manifest::Manifest;
use crate::log::shard::Shard;
use crate::log::types::error::{Error, Result};
use crate::log::types::hash_key::HashKey;
use crate::log::types::shard_id::ShardId;

/// The shards of a stream at one moment.
#[derive(Debug)]
pub(crate) struct ShardMap {
    /// All shards that have not expired, by id.
    all: Vec<Arc<Shard>>,
    /// The open shards with the start of their ranges, in that order. The first range begins at 0.
    open: Vec<(HashKey, Arc<Shard>)>,
}

impl ShardMap {
    /// Returns a map of shards. The ones that are open according to the manifest cover the hash-key space.
    pub(crate) fn new(shards: impl IntoIterator<Item = Arc<Shard>>, manifest: &Manifest) -> Self {
        let mut all: Vec<_> = shards.into_iter().collect();
        all.sort_by_key(|shard| shard.id());
        let is_open = |shard: &Arc<Shard>| {
            let found = manifest.shards.binary_search_by_key(&shard.id(), |description| description.id);
            found.is_ok_and(|at| manifest.shards[at].is_open())
        };
        let open = all.iter().filter(|shard| is_open(shard));
        let mut open: Vec<_> = open.map(|shard| (shard.hash_key_range().start, Arc::clone(shard))).collect();
        open.sort_by_key(|&(start, _)| start);
        Self { all, open }
    }

    /// Returns the place, among the open shards, of the one that owns a hash key.
    #[inline]
    pub(crate) fn route(&self, hash_key: HashKey) -> usize {
        self.open.partition_point(|&(start, _)| start <= hash_key) - 1
    }

    /// Returns the only open shard, which owns all hash keys, or `None` if several are open.
    #[inline]
    pub(crate) fn only_open(&self) -> Option<&Arc<Shard>> {
        match &self.open[..] {
            [(_, shard)] => Some(shard),
            _ => None,
        }
    }

    /// Returns an open shard by its place.
    #[inline]
    pub(crate) fn open_at(&self, place: usize) -> &Arc<Shard> {
        &self.open[place].1
    }

    pub(crate) fn get(&self, id: ShardId) -> Result<&Arc<Shard>> {
        let found = self.all.binary_search_by_key(&id, |shard| shard.id());
        found.map(|at| &self.all[at]).map_err(|_| Error::ShardNotFound(id))
    }

    /// Returns all shards, in the order of their creation.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.all.iter()
    }
}
