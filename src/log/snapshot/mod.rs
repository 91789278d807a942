//! A snapshot: a directory that opens as a stream, and holds what this one held at one moment.
//!
//! The target is locked, and a new stream is built in its subdirectory `snapshot.unfinished`, beside what the last snapshot left there:
//! 1. The streams inside the stream are copied first (`inside.rs`). Nothing in them, such as the checkpoints of a group, is ahead of the
//!    records, which are looked at later.
//! 2. The **moment**: the manifest is locked, so that no shard is split or merged, and the end of each shard is noted (`moment`), children before
//!    their parents, so that no child has a record while one of its parent's is missing. From then on no sealed segment is written to again.
//! 3. The segments are put in place, without any lock (`shards.rs`). A sealed one gets a second name. Where that is not possible, the last
//!    snapshot's file gets one, or else the bytes are copied. From the others, the frames up to the moment are copied, and the copy is sealed.
//! 4. What retention has dropped from the stream until now leaves the snapshot too: files may be missing, and no shard may lack records that
//!    are younger than those of another. All files and names are synced, then the manifest is written, with the horizons and the ends. Now the
//!    new stream is complete.
//! 5. The manifest of the last snapshot is removed: **the one atomic step** (for a first snapshot, it was the fourth).
//! 6. The target gets the names of the new stream and loses all others, and its manifest comes last (`target.rs`).
//!
//! | a crash, a failure or an end that the caller wants, after | leaves |
//! |---|---|
//! | 1 to 4 | the last snapshot. A first one does not open. The next snapshot finds what was put in place, and continues |
//! | 5, 6 | the new snapshot. The next to lock the directory, to open it or otherwise, repeats step 6 first |
//!
//! A file with two names is a file of two streams, so neither writes to it. A segment that is sealed is not written to, except in these cases:
//!
//! | the file is | |
//! |---|---|
//! | refilled after it was trimmed | not if it has a second name, which is looked at when no one can add another: see `segment/prepared.rs` |
//! | resumed after a clean close | not if it has a second name: see `shard/writer/source.rs`. Step 2 excludes it while the stream is open |
//! | repaired by salvage | the repaired file is another one, and takes over the name |
//! | noted to be the first | that changes no record. It matters only to a stream whose first file it is |
//!
//! If the stream is closed in the middle, another process may open it and resume a segment just before that gets its second name. So step 4
//! is taken only if the stream is still open.
//!
//! A snapshot keeps a copy of its manifest, `snapshot.json`, which is not changed when it is opened. It distinguishes a snapshot from other
//! streams, and shows whether records were put into it. Another snapshot would lose those, so none is taken there.

mod inside;
mod place;
pub(crate) mod report;
mod shards;
pub(crate) mod target;
mod work;

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::log::manifest::Manifest;
use crate::log::segment::place::{SHARDS_NAME, shards_dir};
use crate::log::shard::Shard;
use crate::log::shard::moment::Moment;
use crate::log::sys::dir;
use crate::log::sys::root::OwnPath;
use crate::log::topology::Topology;
use crate::log::types::error::{Error, Result};
use crate::log::types::event::event;
use crate::log::types::sequence::SequenceNumber;

use report::{SnapshotProgress, SnapshotReport};
use target::{HELD_NAME, UNFINISHED_NAME};
use work::{Stop, Work};

/// The shards of a stream, and what each of them held at the moment.
type Shards = Vec<(Arc<Shard>, Moment)>;

/// Takes a snapshot into a locked directory. The directory holds nothing, or an earlier snapshot that [`target::check`] has accepted, or what is
/// left of an unfinished one.
pub(crate) fn take(
    topology: &Topology,
    target: &OwnPath,
    progress: &mut dyn FnMut(SnapshotProgress) -> ControlFlow<()>,
) -> Result<SnapshotReport> {
    let source = &topology.context().stream_dir;
    carry_out(source, target, progress, |work| build(topology, target, work))
}

/// Takes a snapshot of a stream that another process may have open, in the same way, but from the stream's files (`inside.rs`): each shard up to
/// the moment when it was copied.
pub(crate) fn take_by_files(
    source: &OwnPath,
    target: &OwnPath,
    progress: &mut dyn FnMut(SnapshotProgress) -> ControlFlow<()>,
) -> Result<SnapshotReport> {
    carry_out(source, target, progress, |work| {
        let new = target.join(UNFINISHED_NAME);
        if !inside::copy_as_snapshot(work, shards::Places { source, new: &new, old: target })? {
            return Err(Error::not_a_stream(source, "it was deleted").into());
        }
        work.end()?;
        Ok(target::finish(target)?)
    })
}

fn carry_out(
    source: &OwnPath,
    target: &OwnPath,
    progress: &mut dyn FnMut(SnapshotProgress) -> ControlFlow<()>,
    build: impl FnOnce(&mut Work<'_>) -> Result<(), Stop>,
) -> Result<SnapshotReport> {
    let mut work = Work::new(progress);
    let outcome = build(&mut work);
    let mut report = work.report;
    match outcome {
        Ok(()) => report.is_complete = true,
        Err(Stop::Wanted) => return Ok(report),
        Err(Stop::Failed(error)) => return Err(error),
    }
    event!(
        info,
        "a snapshot is complete",
        stream = source.display(),
        target = target.display(),
        total_bytes = report.total_bytes,
        copied_bytes = report.copied_bytes
    );
    Ok(report)
}

fn build(topology: &Topology, target: &OwnPath, work: &mut Work<'_>) -> Result<(), Stop> {
    let source = &topology.context().stream_dir;
    let new = target.join(UNFINISHED_NAME);
    dir::create(&new)?;
    dir::sync(target)?;
    // A hold that begins from here on may be that of a group that is not copied.
    let holds = topology.manifest_to_change()?.holds.clone();
    let inside = inside::copy(work, source, &new, target)?;
    let is_kept = |name: &std::ffi::OsStr| name == SHARDS_NAME || inside.iter().any(|kept| kept == name);
    // This includes the manifest of a complete snapshot that did not replace the last one.
    dir::remove_others(&new, is_kept)?;

    let (mut manifest, shards) = moment(topology)?;
    manifest.holds.retain(|name, _| holds.contains_key(name));
    manifest.marks.clear();
    dir::create(&shards_dir(&new))?;
    for (shard, moment) in &shards {
        work.expect(shards::bytes_of(source, shard.id(), moment)?);
    }
    let places = shards::Places { source, new: &new, old: target };
    for (shard, moment) in &shards {
        shards::copy(work, shard, moment, places)?;
    }
    work.end()?;
    for ((shard, moment), horizon) in shards.iter().zip(horizons(topology, &shards)?) {
        manifest.marks.insert(shard.id(), shards::complete(shard.id(), moment, horizon, places)?);
    }
    shards::remove_others(&new, &manifest)?;
    dir::sync(&shards_dir(&new))?;
    dir::sync(&new)?;
    manifest.store_at(&new.join(HELD_NAME)).map_err(Error::from)?;
    manifest.store(&new).map_err(Error::from)?;
    Ok(target::finish(target)?)
}

/// Returns the manifest, and what each shard holds, at the moment of the snapshot.
fn moment(topology: &Topology) -> Result<(Manifest, Shards)> {
    // Held until all shards were looked at.
    let manifest = topology.manifest_to_change()?;
    let map = topology.map_full();
    let mut shards = Shards::new();
    for description in manifest.shards.iter().rev() {
        let shard = Arc::clone(map.get(description.id)?);
        let moment = shard.moment()?;
        shards.push((shard, moment));
    }
    shards.reverse();
    Ok((manifest.clone(), shards))
}

/// Returns how far retention has come in each shard. Fails if the stream was closed meanwhile.
fn horizons(topology: &Topology, shards: &Shards) -> Result<Vec<SequenceNumber>> {
    // Held, so that no pass of retention is in the middle of the shards.
    let _manifest = topology.manifest_to_change()?;
    Ok(shards.iter().map(|(shard, _)| shard.horizon()).collect())
}
