//! Splitting and merging shards while the stream runs.
//!
//! 1. *Plan*, purely: which shards close, and which ranges their children own.
//! 2. The children's directories are created, and their names synced. A crash leaves directories that the manifest does not name, and the
//!    next opening removes them.
//! 3. The parents get a ceiling, at which the children will begin. It is somewhat above the parents' end, so that puts to the parents can
//!    go on for the moment. (Puts beyond it would wait for step 7.)
//! 4. The manifest is replaced: **the one atomic step**. A crash before it leaves the parents open. A crash after it leaves the children,
//!    and the parents end with whatever was put until then. No child holds anything yet.
//! 5. The parents are synced while their puts continue, so that the next step is short.
//! 6. The parents' append locks are taken, so that puts wait, and everything put since is synced. So the parents are complete before the
//!    children hold anything.
//! 7. The children are announced to readers that reach the parents' ends, the shard map is swapped, the parents are closed, and the locks
//!    are released. Waiting puts are routed again.
//!
//! A failure before step 4 leaves the parents open and nothing else behind. A failure after it, or one after which step 4 may or may not
//! survive power loss, poisons the parents. The next opening finds them with everything that was put, closed or open.

pub(crate) mod merge;
pub(crate) mod scale;
pub(crate) mod split;

use std::sync::Arc;

use crate::log::manifest::Manifest;
use crate::log::segment::place::{ShardDir, shards_dir};
use crate::log::shard::Shard;
use crate::log::shard::writer::pause::PausedShard;
use crate::log::sys::dir;
use crate::log::topology::{Topology, lineage};
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Error, Result};
use crate::log::types::event::event;
use crate::log::types::hash_key::HashKeyRange;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

/// The shards that close, and the ranges of the shards that replace them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) parents: Vec<ShardId>,
    pub(crate) children: Vec<HashKeyRange>,
}

/// Carries out the plan that `plan` returns, if any. Returns the children.
pub(crate) fn apply(
    topology: &Topology,
    plan: impl FnOnce(&Manifest) -> Result<Option<Plan>>,
) -> Result<Vec<ShardDescription>> {
    let mut manifest = topology.manifest_to_change()?;
    let Some(plan) = plan(&manifest)? else { return Ok(vec![]) };
    let first_child = manifest.next_shard;
    let ids: Vec<_> = (first_child..).take(plan.children.len()).map(ShardId::new).collect();
    if ids.iter().any(|&id| id > ShardId::MAX) {
        return Err(Error::invalid("the stream has used up its shard ids: go on in a new stream"));
    }
    Reshard { topology, plan, ids }.carry_out(&mut manifest)
}

/// How many records the parents may still get while the manifest is replaced.
const RESERVE: u64 = 1 << 20;

struct Reshard<'a> {
    topology: &'a Topology,
    plan: Plan,
    /// The ids of the children.
    ids: Vec<ShardId>,
}

impl Reshard<'_> {
    fn carry_out(&self, manifest: &mut Manifest) -> Result<Vec<ShardDescription>> {
        let map = self.topology.map_full();
        let parents = self.plan.parents.iter().map(|&id| map.get(id)).collect::<Result<Vec<_>>>()?;
        // This detects a poisoned parent before anything is changed.
        for parent in &parents {
            drop(parent.pause()?);
        }
        self.create_directories().inspect_err(|_| self.remove_directories())?;
        let first_sequence = set_ceilings(&parents);
        let mut next = self.next_manifest(manifest, first_sequence);
        let announced = self.topology.write(&mut next);
        if let Err(failed) = announced {
            if failed.replaced {
                parents.iter().for_each(|parent| parent.poison());
            } else {
                parents.iter().for_each(|parent| parent.lift_ceiling());
                self.remove_directories();
            }
            return Err(failed.error);
        }
        let poison = |_: &Error| parents.iter().for_each(|parent| parent.poison());
        let paused = Self::pause(&parents).inspect_err(poison)?;
        for parent in &paused {
            lineage::settle(&mut next.shards, parent.id(), parent.next_sequence(), parent.last_timestamp());
        }
        let children: Vec<_> =
            next.shards.iter().filter(|shard| self.ids.contains(&shard.id)).cloned().collect();
        let create = |child| Shard::create(self.topology.context(), child);
        let shards = children.iter().map(create).collect::<Result<Vec<_>>>();
        let shards = match shards {
            Ok(shards) => shards,
            Err(error) => {
                drop(paused);
                poison(&error);
                return Err(error);
            }
        };
        *manifest = next;
        let closed_at = children.first().map(|child| child.created_at).unwrap_or_default();
        for parent in &paused {
            let children = shards.iter().map(|shard| Arc::clone(shard.reader())).collect();
            parent.announce(closed_at, children);
        }
        self.topology.swap_map(manifest, &shards);
        paused.into_iter().for_each(PausedShard::close);
        for child in &children {
            let stream = self.topology.context().stream_dir.display();
            event!(info, "a shard begins", stream = stream, shard = child.id, first = child.first_sequence);
        }
        Ok(children)
    }

    /// Syncs the parents, and makes their puts wait.
    fn pause<'p>(parents: &[&'p Arc<Shard>]) -> Result<Vec<PausedShard<'p>>> {
        for parent in parents {
            parent.sync()?;
        }
        let mut paused = parents.iter().map(|parent| parent.pause()).collect::<Result<Vec<_>>>()?;
        for parent in &mut paused {
            parent.sync()?;
        }
        Ok(paused)
    }

    fn create_directories(&self) -> Result<()> {
        let stream_dir = &self.topology.context().stream_dir;
        self.topology.context().writers.live.reserve(self.ids.len())?;
        for &id in &self.ids {
            dir::create(ShardDir::new(stream_dir, id).path())?;
        }
        dir::sync(&shards_dir(stream_dir))
    }

    fn remove_directories(&self) {
        for &id in &self.ids {
            // A directory that cannot be removed now is removed by the next opening.
            let _ = dir::remove_all(ShardDir::new(&self.topology.context().stream_dir, id).path());
        }
    }

    /// Returns the manifest with the parents closed and the children added.
    fn next_manifest(&self, manifest: &Manifest, first_sequence: SequenceNumber) -> Manifest {
        let mut next = manifest.clone();
        let is_parent = |shard: &&mut ShardDescription| self.plan.parents.contains(&shard.id);
        // Not before the parents were created, in case the clock was set back.
        let created = next.shards.iter_mut().filter(is_parent).map(|parent| parent.created_at);
        let closed_at = created.fold(self.topology.context().clock.now(), Timestamp::max);
        for parent in next.shards.iter_mut().filter(is_parent) {
            parent.closed_at = Some(closed_at);
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
        next.shards.extend(children);
        next.next_shard += self.ids.len() as u32;
        next
    }
}

/// Gives the parents a ceiling that none of them has reached, however fast puts arrive.
fn set_ceilings(parents: &[&Arc<Shard>]) -> SequenceNumber {
    loop {
        let highest = parents.iter().map(|parent| parent.next_sequence()).max().unwrap_or_default();
        let ceiling = highest.plus(RESERVE);
        if parents.iter().all(|parent| parent.set_ceiling(ceiling)) {
            return ceiling;
        }
    }
}

/// Returns an open shard by its id.
fn open_shard(shards: &[ShardDescription], id: ShardId) -> Result<&ShardDescription> {
    match shards.iter().find(|shard| shard.id == id) {
        None => Err(Error::ShardNotFound(id)),
        Some(shard) if !shard.is_open() => Err(Error::shard_closed(id)),
        Some(shard) => Ok(shard),
    }
}
