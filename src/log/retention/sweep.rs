//! One pass of retention.
//!
//! 1. The horizons are raised: from here on no iterator returns what is behind them. After a crash, the next pass raises them again.
//! 2. If a shard has expired, or segments are behind the horizon, the manifest is replaced. It records the horizons, since the remaining
//!    segments may not be synced, and power loss must not bring sequence numbers back. A crash before this step leaves the shards as they
//!    were. A crash after it leaves files that nobody needs.
//! 3. Segments behind the horizon are taken away from readers. A reader that holds a batch keeps its bytes.
//! 4. Their files are removed, or refilled for a busy shard, and the directories of expired shards are removed. The next pass or the next
//!    opening removes what a crash leaves of them.
//!
//! The disk may be so full that step 2 has no room, although this pass would free some. Then the shards are synced, so that their remaining
//! segments prove their sequence numbers. The first remaining segment notes that those before it were trimmed. All segments behind the
//! horizon are removed at once, except for the last one of a shard. A crash leaves a shard that begins later.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::held::Held;
use super::policy::{self, Candidate};
use crate::log::manifest::Manifest;
use crate::log::segment::place::ShardDir;
use crate::log::shard::Shard;
use crate::log::shard::reader::segments::{Present, SegmentUse};
use crate::log::shard::trim::PartTime;
use crate::log::sys::dir;
use crate::log::sys::replace::ReplaceError;
use crate::log::topology::Topology;
use crate::log::topology::timeline::{Jump, Look};
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Error, Result};
use crate::log::types::event::event;
use crate::log::types::options::Retention;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

/// Drops everything that has expired under the stream's retention.
pub(crate) fn sweep(topology: &Topology) -> Result<()> {
    let mut manifest = topology.manifest_to_change()?;
    let retention = manifest.settings.retention;
    let times = Times::now(topology, retention);
    let raised = raise_horizons(topology, &manifest, retention, &times);
    raised.and(remove_what_is_behind(topology, &mut manifest, retention, &times))
}

/// Changes the retention, and drops everything that has expired under the new one. The retention is changed even if that fails, which the
/// next pass repeats.
pub(crate) fn change(topology: &Topology, retention: Retention) -> Result<()> {
    update(topology, |manifest| {
        manifest.settings.retention = retention;
        Ok(())
    })?;
    if let Err(error) = sweep(topology) {
        let stream = topology.context().stream_dir.display();
        event!(warn, "what has expired could not be dropped yet", stream = stream, error = error);
    }
    Ok(())
}

/// Changes the manifest, unless `change` fails or changes nothing.
pub(crate) fn update(topology: &Topology, change: impl FnOnce(&mut Manifest) -> Result<()>) -> Result<()> {
    let mut manifest = topology.manifest_to_change()?;
    let mut next = manifest.clone();
    change(&mut next)?;
    if *manifest == next { Ok(()) } else { store(topology, &mut manifest, next) }
}

/// Adds a key to the stream's keys, and encrypts new records with it.
///
/// The manifest lists the key before a frame is encrypted with it. A crash in between leaves a key that nothing is encrypted with.
pub(crate) fn rotate_key(topology: &Topology) -> Result<()> {
    add_key(topology)?;
    topology.for_each_shard(|shard| shard.take_new_key())
}

/// Adds a key to the stream's keys. Nothing is encrypted with it until the shards take it.
pub(crate) fn add_key(topology: &Topology) -> Result<()> {
    let mut manifest = topology.manifest_to_change()?;
    let keys = &topology.context().writers.keys;
    let next = Manifest { keys: keys.rotated()?, ..manifest.clone() };
    store(topology, &mut manifest, next)?;
    keys.set_list(manifest.keys.clone());
    Ok(())
}

/// Leaves new records plain.
pub(crate) fn switch_encryption_off(topology: &Topology) -> Result<()> {
    let mut manifest = topology.manifest_to_change()?;
    let keys = &topology.context().writers.keys;
    let next = Manifest { keys: keys.switched_off(), ..manifest.clone() };
    store(topology, &mut manifest, next)?;
    keys.set_list(manifest.keys.clone());
    Ok(())
}

/// Drops the records of a shard before a sequence number. A number beyond the shard's end means its end.
pub(crate) fn trim_before(topology: &Topology, shard: ShardId, sequence: SequenceNumber) -> Result<()> {
    let manifest = topology.manifest_to_change()?;
    let map = topology.map_full();
    let shard = map.get(shard)?;
    shard.raise_horizon(sequence.min(shard.next_sequence()));
    drop(manifest);
    Ok(())
}

/// Replaces the manifest. If the disk has no room for it, first drops what has expired according to `next`, and tries once more.
fn store(topology: &Topology, manifest: &mut Manifest, next: Manifest) -> Result<()> {
    match topology.store(manifest, next.clone()) {
        Err(ReplaceError { replaced: false, error: Error::StorageFull(_) }) => {
            // A failure in one shard does not keep the others from making room. The second attempt below shows whether there is enough.
            let retention = next.settings.retention;
            let _ = raise_horizons(topology, &next, retention, &Times::now(topology, retention));
            let _ = make_room(topology);
            Ok(topology.store(manifest, next)?)
        }
        stored => Ok(stored?),
    }
}

/// Removes what can be removed without a note in the manifest.
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

/// The times by which records age in one pass.
struct Times<'a> {
    topology: &'a Topology,
    look: Look,
}

impl<'a> Times<'a> {
    /// Looks at the clock, and reports it if it has jumped.
    fn now(topology: &'a Topology, retention: Retention) -> Self {
        let look = Look::at(&*topology.context().clock);
        let map = topology.map_full();
        let ends = map.iter().map(|shard| (shard.id(), shard.next_sequence())).collect();
        let jump = topology.timeline().note(&look, retention.age, ends);
        let (stream, now) = (topology.context().stream_dir.display(), look.now());
        match jump {
            Some(Jump::Forward(by)) => event!(
                warn,
                "the clock was set forward: records put before keep ageing as if it had not been",
                stream = stream,
                now = now,
                by_ms = by.as_millis()
            ),
            Some(Jump::Back(by)) => event!(
                warn,
                "the clock was set back: until it has caught up, timestamps do not show when records were put",
                stream = stream,
                now = now,
                by_ms = by.as_millis()
            ),
            None => {}
        }
        Self { topology, look }
    }

    /// Returns the ends of a shard's parts and the times by which they age.
    fn of(&self, shard: &Shard) -> Vec<PartTime> {
        self.topology.timeline().parts_of(shard.id(), &self.look)
    }

    /// Returns the earliest time by which anything ages.
    fn earliest(&self) -> Timestamp {
        self.topology.timeline().earliest(&self.look)
    }
}

/// A shard whose timestamps are wrong begins this many segments in the time for which records are kept.
const SEGMENTS_OF_MISDATED: u32 = 8;

fn raise_horizons(
    topology: &Topology,
    manifest: &Manifest,
    retention: Retention,
    times: &Times<'_>,
) -> Result<()> {
    let mut outcome = Ok(());
    let held = Held::now(topology, manifest);
    let now = times.look.now();
    if let Some(age) = retention.age {
        // A damaged shard does not keep the others from being trimmed.
        outcome = topology.for_each_shard(|shard| {
            let times = times.of(shard);
            match &held {
                None => shard.raise_horizon(shard.horizon_at(&times, age)?),
                Some(held) => {
                    shard.raise_horizon(shard.end_of_expired(&times, age)?.min(held.first(shard.id())));
                }
            }
            let begun = match shard.begin_if_misdated(now, age / SEGMENTS_OF_MISDATED) {
                // The next pass tries again. This one has to make room.
                Err(Error::StorageFull(_)) => Ok(()),
                begun => begun,
            };
            shard.retire_if_older(now - age).and(begun)
        });
        if let Some(held) = &held {
            outcome = outcome.and(trim_held(topology, times, age, held.bytes_max));
        }
    }
    if let Some(bytes_max) = retention.bytes_max {
        outcome = outcome.and(trim_to(topology, bytes_max, held.as_ref(), times.look.present()));
    }
    outcome
}

/// Hides expired records before anybody reads. This is the first step of a pass.
pub(crate) fn hide_expired(topology: &Topology) {
    let manifest = topology.manifest();
    // The holders have not yet reported how far they are.
    if !manifest.holds.is_empty() {
        return;
    }
    let Some(age) = manifest.settings.retention.age else { return };
    let times = Times::now(topology, manifest.settings.retention);
    // A damaged shard fails its readers.
    let _ = topology.for_each_shard(|shard| {
        shard.horizon_at(&times.of(shard), age).map(|horizon| shard.raise_horizon(horizon))
    });
}

/// Limits the bytes of expired records that are kept because they are held.
fn trim_held(topology: &Topology, times: &Times<'_>, age: Duration, bytes_max: u64) -> Result<()> {
    let mut expired = vec![];
    // As above: a damaged shard does not stop the others.
    let outcome = topology.for_each_shard(|shard| {
        let end_of_expired = shard.end_of_expired(&times.of(shard), age)?;
        let candidates = candidates(shard, times.look.present())?
            .into_iter()
            .filter(|candidate| candidate.end <= end_of_expired);
        expired.extend(candidates.filter(|candidate| candidate.end > shard.horizon()));
        Ok(())
    });
    let bytes = expired.iter().map(|candidate| candidate.bytes).sum();
    outcome.and(raise_to(topology, policy::by_bytes(expired, bytes, bytes_max), None))
}

fn trim_to(topology: &Topology, bytes_max: u64, held: Option<&Held>, present: Present) -> Result<()> {
    let (mut bytes, mut all) = (0, vec![]);
    // A shard that cannot be looked at counts for nothing. The others are dropped only as far as they would be beside it.
    let outcome = topology.for_each_shard(|shard| {
        bytes += shard.data_bytes()?;
        Ok(())
    });
    if bytes <= bytes_max {
        return outcome;
    }
    let outcome = outcome.and(topology.for_each_shard(|shard| {
        all.extend(candidates(shard, present)?);
        Ok(())
    }));
    if let Some(held) = held {
        let bytes_max = bytes_max.saturating_add(held.bytes_max);
        raise_to(topology, policy::by_bytes(all.clone(), bytes, bytes_max), None)?;
    }
    outcome.and(raise_to(topology, policy::by_bytes(all, bytes, bytes_max), held))
}

/// Returns the segments of a shard that nobody writes to.
fn candidates(shard: &Shard, present: Present) -> Result<Vec<Candidate>> {
    let candidate = |SegmentUse { end, first_timestamp, bytes }| Candidate {
        shard: shard.id(),
        end,
        first_timestamp,
        bytes,
    };
    Ok(shard.finished_segments(present)?.into_iter().map(candidate).collect())
}

/// Raises horizons, but not into what is held.
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
    retention: Retention,
    times: &Times<'_>,
) -> Result<()> {
    let map = topology.map_full();
    let now = times.look.now();
    // Records from before a clock jump are kept for as long as they would have been without it.
    let oldest = retention.age.map(|age| times.earliest() - age);
    let is_over = |shard: &ShardDescription, closed_at: Timestamp| match oldest {
        // The clock was set back since. The beginnings of the children's segments show when it was closed.
        Some(oldest) if closed_at.is_ahead_of(now) => {
            map.get(shard.id).is_ok_and(|shard| shard.is_closed_before(oldest, now))
        }
        Some(oldest) => closed_at < oldest,
        None => true,
    };
    let is_empty = |id: ShardId| map.get(id).is_ok_and(|shard| shard.is_all_trimmed());
    let expired: BTreeSet<ShardId> = policy::expired(&manifest.shards, is_over, is_empty);
    let behind: Vec<&Arc<Shard>> = map.iter().filter(|shard| shard.has_segments_behind()).collect();
    if !expired.is_empty() || !behind.is_empty() {
        let mut next = manifest.clone();
        next.shards.retain(|shard| !expired.contains(&shard.id));
        store(topology, manifest, next)?;
        if !expired.is_empty() {
            topology.swap_map(manifest, &[]);
        }
    }
    // A file that cannot be removed does not keep the others. The next opening removes it.
    let mut outcome = Ok(());
    for shard in behind {
        outcome = outcome.and(shard.remove_segments_behind());
    }
    for &id in &expired {
        event!(info, "a shard has expired", stream = topology.context().stream_dir.display(), shard = id);
        outcome = outcome.and(dir::remove_all(ShardDir::new(&topology.context().stream_dir, id).path()));
    }
    outcome
}
