//! One pass of retention.
//!
//! 1. The horizons move: from here on no iterator returns what is behind them. After a crash the next pass moves them again.
//! 2. If a shard has expired, or segments are behind the horizon, the manifest is replaced: it notes the horizons, since the
//!    segments that are left may not be synced, and power loss must not bring sequence numbers back. A crash before leaves the
//!    shards as they were, one after it leaves files that nobody needs.
//! 3. Segments behind the horizon are taken away from readers; those who hold a batch keep its bytes.
//! 4. Their files are removed, or become the next segments of a busy shard; and the directories of expired shards are removed. What a
//!    crash leaves of them is removed by the next pass, or by the next opening.
//!
//! A disk may be so full that step 2 has no room, and this is what would free it. Then the shards are synced, so that what is left of
//! them vouches for their sequence numbers, the first segment that is left says that those before it were trimmed, and all segments
//! behind the horizon go at once, but for the last one of a shard. A crash leaves a shard that begins later.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::held::Held;
use super::policy::{self, Candidate};
use crate::log::manifest::Manifest;
use crate::log::segment::place::ShardDir;
use crate::log::shard::Shard;
use crate::log::shard::reader::segments::SegmentUse;
use crate::log::sys::dir;
use crate::log::sys::replace::ReplaceError;
use crate::log::topology::Topology;
use crate::log::types::error::{Error, Result};
use crate::log::types::event::event;
use crate::log::types::options::Retention;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

/// Drops what the stream's retention says is over by now.
pub(crate) fn sweep(topology: &Topology) -> Result<()> {
    let mut manifest = topology.manifest_to_change()?;
    let retention = manifest.settings.retention;
    let oldest = oldest_kept(topology, retention);
    raise_horizons(topology, &manifest, retention).and(remove_what_is_behind(topology, &mut manifest, oldest))
}

/// Changes how long records are kept, and drops what is over by that.
pub(crate) fn change(topology: &Topology, retention: Retention) -> Result<()> {
    let mut manifest = topology.manifest_to_change()?;
    let mut next = manifest.clone();
    next.settings.retention = retention;
    store(topology, &mut manifest, next)?;
    drop(manifest);
    sweep(topology)
}

/// Drops the records of a shard before a sequence number; those after its end do not count.
pub(crate) fn trim_before(topology: &Topology, shard: ShardId, sequence: SequenceNumber) -> Result<()> {
    let manifest = topology.manifest_to_change()?;
    let map = topology.map_full();
    let shard = map.get(shard)?;
    shard.raise_horizon(sequence.min(shard.next_sequence()));
    drop(manifest);
    Ok(())
}

/// Replaces the manifest. If there is no room for it, what `next` says is over goes first, and it is tried once more.
pub(super) fn store(topology: &Topology, manifest: &mut Manifest, next: Manifest) -> Result<()> {
    match topology.store(manifest, next.clone()) {
        Err(ReplaceError { replaced: false, error: Error::StorageFull(_) }) => {
            // A shard where this fails does not keep the others from making room; whether it was enough is about to be seen.
            let _ = raise_horizons(topology, &next, next.settings.retention);
            let _ = make_room(topology);
            Ok(topology.store(manifest, next)?)
        }
        stored => Ok(stored?),
    }
}

/// Removes what can go without a note in the manifest.
fn make_room(topology: &Topology) -> Result<()> {
    topology.for_each_shard(|shard| {
        shard.give_up_prepared();
        if !shard.has_segments_behind() {
            return Ok(());
        }
        shard.sync()?;
        shard.remove_segments_behind_but_last()
    })
}

/// The time before which records expire, if they do.
fn oldest_kept(topology: &Topology, retention: Retention) -> Option<Timestamp> {
    retention.age_max().map(|age| topology.context().clock.now().minus(age))
}

fn raise_horizons(topology: &Topology, manifest: &Manifest, retention: Retention) -> Result<()> {
    let mut outcome = Ok(());
    let held = Held::now(topology, manifest);
    let oldest = oldest_kept(topology, retention);
    if let Some(oldest) = oldest {
        // One shard that is damaged does not keep the others from being trimmed.
        outcome = topology.for_each_shard(|shard| {
            match &held {
                None => shard.raise_horizon(shard.horizon_at(oldest)?),
                Some(held) => shard.raise_horizon(shard.end_of_expired(oldest)?.min(held.first(shard.id()))),
            }
            shard.retire_if_older(oldest)
        });
        if let Some(held) = &held {
            outcome = outcome.and(trim_held(topology, oldest, held.bytes_max));
        }
    }
    if let Some(bytes_max) = retention.bytes_max() {
        outcome = outcome.and(trim_to(topology, bytes_max, held.as_ref()));
    }
    outcome
}

/// Hides the records that have expired, before anybody reads: what a pass does first.
pub(crate) fn hide_expired(topology: &Topology) {
    let manifest = topology.manifest();
    // Those that hold have not told yet how far they are.
    if !manifest.holds.is_empty() {
        return;
    }
    let Some(oldest) = oldest_kept(topology, manifest.settings.retention) else { return };
    // A shard that is damaged tells whoever reads it.
    let _ =
        topology.for_each_shard(|shard| shard.horizon_at(oldest).map(|horizon| shard.raise_horizon(horizon)));
}

/// Keeps no more of what has expired and is held than may be.
fn trim_held(topology: &Topology, oldest: Timestamp, bytes_max: u64) -> Result<()> {
    let mut expired = vec![];
    // As above: one that is damaged does not keep the others.
    let outcome = topology.for_each_shard(|shard| {
        let end_of_expired = shard.end_of_expired(oldest)?;
        let candidates = candidates(shard)?.into_iter().filter(|candidate| candidate.end <= end_of_expired);
        expired.extend(candidates.filter(|candidate| candidate.end > shard.horizon()));
        Ok(())
    });
    let disk_bytes = expired.iter().map(|candidate| candidate.disk_bytes).sum();
    outcome.and(raise_to(topology, policy::by_bytes(expired, disk_bytes, bytes_max), None))
}

fn trim_to(topology: &Topology, bytes_max: u64, held: Option<&Held>) -> Result<()> {
    let map = topology.map_full();
    let disk_bytes = map.iter().map(|shard| shard.disk_bytes()).sum::<Result<u64>>()?;
    if disk_bytes <= bytes_max {
        return Ok(());
    }
    let mut all = vec![];
    for shard in map.iter() {
        all.extend(candidates(shard)?);
    }
    if let Some(held) = held {
        let bytes_max = bytes_max.saturating_add(held.bytes_max);
        raise_to(topology, policy::by_bytes(all.clone(), disk_bytes, bytes_max), None)?;
    }
    raise_to(topology, policy::by_bytes(all, disk_bytes, bytes_max), held)
}

/// The segments of a shard that nobody writes to.
fn candidates(shard: &Shard) -> Result<Vec<Candidate>> {
    let candidate = |SegmentUse { end, first_timestamp, disk_bytes }| Candidate {
        shard: shard.id(),
        end,
        first_timestamp,
        disk_bytes,
    };
    Ok(shard.finished_segments()?.into_iter().map(candidate).collect())
}

/// Moves horizons on, but not into what is held.
fn raise_to(
    topology: &Topology,
    horizons: Vec<(ShardId, SequenceNumber)>,
    held: Option<&Held>,
) -> Result<()> {
    let map = topology.map_full();
    for (shard, horizon) in horizons {
        map.get(shard)?.raise_horizon(held.map_or(horizon, |held| horizon.min(held.first(shard))));
    }
    Ok(())
}

fn remove_what_is_behind(
    topology: &Topology,
    manifest: &mut Manifest,
    oldest: Option<Timestamp>,
) -> Result<()> {
    let map = topology.map_full();
    let is_empty = |id: ShardId| map.get(id).is_ok_and(|shard| shard.is_all_trimmed());
    let expired: BTreeSet<ShardId> = policy::expired(&manifest.shards, oldest, is_empty);
    let behind: Vec<&Arc<Shard>> = map.iter().filter(|shard| shard.has_segments_behind()).collect();
    if !expired.is_empty() || !behind.is_empty() {
        let mut next = manifest.clone();
        next.shards.retain(|shard| !expired.contains(&shard.id));
        store(topology, manifest, next)?;
        if !expired.is_empty() {
            topology.swap_map(manifest, &[]);
        }
    }
    for shard in behind {
        shard.remove_segments_behind()?;
    }
    for &id in &expired {
        event!(info, "a shard has expired", stream = topology.context().stream_dir.display(), shard = id);
        dir::remove_all(ShardDir::new(&topology.context().stream_dir, id).path())?;
    }
    Ok(())
}
