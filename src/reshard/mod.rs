//! Splitting and merging shards while the stream runs.
//!
//! 1. *Plan*, purely: which shards close, and which ranges their children own.
//! 2. The children's directories are created, and their names synced. A crash leaves directories that the manifest does not name;
//!    the next opening removes them.
//! 3. The parents are synced while their puts go on, so that step 5 is short.
//! 4. The parents' append locks are taken: from here on their puts wait.
//! 5. What was put since is synced: whatever the children will hold, the parents are whole.
//! 6. The manifest is replaced: **the one atomic step**. A crash before leaves the parents open, one after it leaves the children.
//! 7. The shard map is swapped, the parents are closed, and the locks are let go of: puts that wait are routed again.
//!
//! A failure before step 6 leaves the parents open and nothing else. One that leaves open whether step 6 survives power loss
//! poisons the parents: both outcomes are whole, and the next opening finds the one that counts.

pub(crate) mod merge;
pub(crate) mod scale;
pub(crate) mod split;

use std::sync::Arc;

use crate::manifest::Manifest;
use crate::shard::closing::PausedShard;
use crate::shard::{Shard, dir_of, shards_dir};
use crate::sys::dir::{self, ReplaceError};
use crate::topology::Topology;
use crate::words::describe::ShardDescription;
use crate::words::error::{Error, Result};
use crate::words::hash_key::HashKeyRange;
use crate::words::sequence::SequenceNumber;
use crate::words::shard_id::ShardId;
use crate::words::time::Timestamp;

/// Shards that close, and the ranges of the shards that take their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) parents: Vec<ShardId>,
    pub(crate) children: Vec<HashKeyRange>,
}

/// Carries out what a plan finds to do, if anything; returns the children.
pub(crate) fn apply(
    topology: &Topology,
    plan: impl FnOnce(&Manifest) -> Result<Option<Plan>>,
) -> Result<Vec<ShardDescription>> {
    let mut manifest = topology.manifest();
    let Some(plan) = plan(&manifest)? else { return Ok(vec![]) };
    let first_child = manifest.next_shard;
    let ids: Vec<_> = (first_child..).take(plan.children.len()).map(ShardId::new).collect();
    if ids.iter().any(|&id| id > ShardId::MAX) {
        return Err(Error::invalid("the stream has used up its shard ids"));
    }
    let reshard = Reshard { topology, plan, ids };
    reshard.carry_out(&mut manifest).map_err(|failed| {
        if !failed.replaced {
            reshard.remove_directories();
        }
        failed.error
    })
}

struct Reshard<'a> {
    topology: &'a Topology,
    plan: Plan,
    /// The children's.
    ids: Vec<ShardId>,
}

impl Reshard<'_> {
    fn carry_out(&self, manifest: &mut Manifest) -> Result<Vec<ShardDescription>, ReplaceError> {
        let map = self.topology.map_full();
        let parents = self.plan.parents.iter().map(|&id| map.get(id)).collect::<Result<Vec<_>>>()?;
        self.create_directories()?;
        for parent in &parents {
            parent.sync()?;
        }
        let mut paused = parents.iter().map(|parent| parent.pause()).collect::<Result<Vec<_>>>()?;
        for parent in &mut paused {
            parent.sync()?;
        }
        let closed_at = self.closing_time(manifest, &paused);
        let (next, children) = self.next_manifest(manifest, &paused, closed_at);
        if let Err(failed) = self.topology.store(manifest, next) {
            if failed.replaced {
                paused.into_iter().for_each(PausedShard::poison);
            }
            return Err(failed);
        }
        let shards: Vec<_> =
            children.iter().map(|child| Arc::new(Shard::new(self.topology.context(), child))).collect();
        self.topology.swap_map(manifest, &shards);
        for parent in paused {
            parent.close(closed_at, shards.clone());
        }
        Ok(children)
    }

    fn create_directories(&self) -> Result<()> {
        let stream_dir = &self.topology.context().stream_dir;
        for &id in &self.ids {
            dir::create_all(&dir_of(stream_dir, id))?;
        }
        dir::sync(&shards_dir(stream_dir))
    }

    fn remove_directories(&self) {
        for &id in &self.ids {
            // What cannot be removed now is removed by the next opening.
            let _ = dir::remove_all(&dir_of(&self.topology.context().stream_dir, id));
        }
    }

    /// Now, but not before anything that the parents hold, so that time does not run backwards from parent to child.
    fn closing_time(&self, manifest: &Manifest, paused: &[PausedShard<'_>]) -> Timestamp {
        let created = self.parents_in(manifest).map(|parent| parent.created_at);
        let last = paused.iter().map(PausedShard::last_timestamp);
        created.chain(last).fold(self.topology.context().clock.now(), Timestamp::max)
    }

    fn parents_in<'m>(&self, manifest: &'m Manifest) -> impl Iterator<Item = &'m ShardDescription> {
        manifest.shards.iter().filter(|shard| self.plan.parents.contains(&shard.id))
    }

    fn next_manifest(
        &self,
        manifest: &Manifest,
        paused: &[PausedShard<'_>],
        closed_at: Timestamp,
    ) -> (Manifest, Vec<ShardDescription>) {
        let mut next = manifest.clone();
        let mut first_sequence = SequenceNumber::ZERO;
        for (id, parent) in self.plan.parents.iter().zip(paused) {
            let end = parent.next_sequence();
            // A child begins above the end of all its parents.
            first_sequence = first_sequence.max(end);
            for shard in next.shards.iter_mut().filter(|shard| shard.id == *id) {
                (shard.closing_sequence, shard.closed_at) = (Some(end), Some(closed_at));
            }
        }
        let children =
            self.ids.iter().zip(&self.plan.children).map(|(&id, &hash_key_range)| ShardDescription {
                id,
                parent: self.plan.parents.first().copied(),
                adjacent_parent: self.plan.parents.get(1).copied(),
                hash_key_range,
                first_sequence,
                closing_sequence: None,
                created_at: closed_at,
                closed_at: None,
            });
        let children: Vec<_> = children.collect();
        next.next_shard += children.len() as u32;
        next.shards.extend(children.iter().cloned());
        (next, children)
    }
}

/// An open shard, by its id.
fn open_shard(shards: &[ShardDescription], id: ShardId) -> Result<&ShardDescription> {
    match shards.iter().find(|shard| shard.id == id) {
        None => Err(Error::ShardNotFound(id)),
        Some(shard) if !shard.is_open() => {
            Err(Error::invalid(format!("{id} is closed already: its children own its hash keys now")))
        }
        Some(shard) => Ok(shard),
    }
}
