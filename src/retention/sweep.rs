//! One pass of retention.
//!
//! 1. The horizons move: from here on no iterator returns what is behind them. After a crash the next pass moves them again.
//! 2. If a shard has expired, or segments are behind the horizon, the manifest is replaced: it notes the horizons, since the
//!    segments that are left may not be synced, and power loss must not bring sequence numbers back. A crash before leaves the
//!    shards as they were, one after it leaves files that nobody needs.
//! 3. Segments behind the horizon are taken away from readers; those who hold a batch keep its bytes.
//! 4. Their files are removed, and the directories of expired shards. What a crash leaves of them is removed by the next pass, or
//!    by the next opening.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::policy::{self, Candidate};
use crate::manifest::Manifest;
use crate::shard::{Shard, dir_of};
use crate::sys::dir;
use crate::topology::Topology;
use crate::words::error::Result;
use crate::words::shard_id::ShardId;
use crate::words::time::Timestamp;

/// Drops what the stream's retention says is over by now.
pub(crate) fn sweep(topology: &Topology) -> Result<()> {
    let mut manifest = topology.manifest_to_change()?;
    let retention = manifest.settings.retention;
    let oldest = retention.age_max().map(|age| topology.context().clock.now().minus(age));
    let mut outcome = Ok(());
    if let Some(oldest) = oldest {
        // One shard that is damaged does not keep the others from being trimmed.
        outcome = topology.for_each_shard(|shard| {
            shard.raise_horizon(shard.horizon_at(oldest)?);
            shard.roll_by_age(oldest)
        });
    }
    if let Some(bytes_max) = retention.bytes_max() {
        outcome = outcome.and(trim_to(topology, bytes_max));
    }
    outcome.and(remove_what_is_behind(topology, &mut manifest, oldest))
}

/// Hides the records that have expired, before anybody reads: what a pass does first.
pub(crate) fn hide_expired(topology: &Topology) {
    let age = topology.manifest().settings.retention.age_max();
    let Some(age) = age else { return };
    let oldest = topology.context().clock.now().minus(age);
    // A shard that is damaged tells whoever reads it.
    let _ =
        topology.for_each_shard(|shard| shard.horizon_at(oldest).map(|horizon| shard.raise_horizon(horizon)));
}

fn trim_to(topology: &Topology, bytes_max: u64) -> Result<()> {
    let map = topology.map_full();
    let disk_bytes = map.iter().map(|shard| shard.disk_bytes()).sum::<Result<u64>>()?;
    if disk_bytes <= bytes_max {
        return Ok(());
    }
    let mut candidates = vec![];
    for shard in map.iter() {
        let (uses, is_active) = shard.segment_uses()?;
        let ends = uses.iter().skip(1).map(|next| next.base).chain([shard.next_sequence()]);
        let count = uses.len() - usize::from(is_active && !uses.is_empty());
        candidates.extend(uses.iter().zip(ends).take(count).map(|(of_segment, end)| Candidate {
            shard: shard.id(),
            end,
            first_timestamp: of_segment.first_timestamp,
            disk_bytes: of_segment.disk_bytes,
        }));
    }
    for (shard, horizon) in policy::by_bytes(candidates, disk_bytes, bytes_max) {
        map.get(shard)?.raise_horizon(horizon);
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
        topology.store(manifest, next)?;
        if !expired.is_empty() {
            topology.swap_map(manifest, &[]);
        }
    }
    for shard in behind {
        for file in shard.drop_segments_behind() {
            dir::remove_file(&file)?;
        }
    }
    for &id in &expired {
        dir::remove_all(&dir_of(&topology.context().stream_dir, id))?;
    }
    Ok(())
}
