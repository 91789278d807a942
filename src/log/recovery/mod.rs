//! What a shard's directory holds after whatever happened to it, put in order.
//!
//! 1. *Inventory*: the segment files, in the order of their names. Those that end at the manifest's horizon or before it are removed:
//!    they were to be, and power loss may have brought back any of them. From the last one back to the first with a valid trailer,
//!    the others were not sealed; those before it were, and are not looked at.
//! 2. *Tail*: the unsealed ones are scanned, side by side, each up to the first place where no good frame begins. Where the next file
//!    begins with the sequence number after the last good one, the shard goes on there.
//! 3. Otherwise, above the synced watermark, that place begins the torn tail: files after it are removed, the last one first. A
//!    crash in between leaves the same good frames and less of the tail. So are files behind one that is missing: names reach the
//!    disk in any order until their directory is synced, which is done before anything is called synced or sealed.
//! 4. Below the synced watermark it is damage: `Error::Corrupt`, and nothing is changed.
//! 5. A shard that ends below its horizon goes on there: what was trimmed need not have been synced.
//!
//! The next put begins a new segment, also where the tail looks clean: bytes beyond it may hold frames that a power loss left
//! behind, and appending in front of them would bring them back. That is also why the file need not be cut here: sealing does
//! it. Only a segment that was closed cleanly, or holds nothing, is written to again.

mod inventory;
mod report;
mod runs;
mod salvage;
mod tail;

pub use report::{LostRecords, RecoveryReport, ShardRecovery, TornTail};

use std::iter;
use std::path::{Path, PathBuf};

use crate::log::manifest::Marks;
use crate::log::segment::active::Resumable;
use crate::log::segment::unsealed::Unsealed;
use crate::log::segment::window::FRAMES_FROM;
use crate::log::segment::{path_in, sealed, spare};
use crate::log::sys::dir;
use crate::log::sys::file::DataFile;
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Corruption, Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

use inventory::Inventory;
use tail::{Scan, scan_all};

/// A shard's segments, put in order.
#[derive(Debug)]
pub(crate) struct RecoveredShard {
    /// The first sequence numbers of the sealed segments.
    pub(crate) sealed: Vec<SequenceNumber>,
    /// The segments after them, all of which hold records.
    pub(crate) unsealed: Vec<Unsealed>,
    /// The last segment, if one may write to it again.
    pub(crate) resumable: Option<Resumable>,
    pub(crate) next_sequence: SequenceNumber,
    pub(crate) last_timestamp: Timestamp,
    pub(crate) report: ShardRecovery,
}

/// Puts a shard's directory in order. It was as far as `marks` when the manifest was written last.
///
/// With `must_salvage`, what is damaged is given up first.
pub(crate) fn recover(
    shard_dir: &Path,
    shard: &ShardDescription,
    marks: Marks,
    must_salvage: bool,
) -> Result<RecoveredShard> {
    let mut report = ShardRecovery::new(shard.id);
    if must_salvage {
        let mends = salvage::mend(shard_dir, shard, marks)?;
        (report.lost, report.damaged_files) = (mends.lost, mends.kept_files);
    }
    spare::remove_left(shard_dir)?;
    let mut inventory = Inventory::of(shard_dir, shard.id, marks.horizon)?;
    report.segment_count = inventory.sealed.len() + inventory.unsealed.len();
    // The horizon is noted before a file goes, and power loss may bring back any of those that went.
    for &base in &inventory.behind {
        dir::remove_file(&path_in(shard_dir, base))?;
    }

    let first_sealed = inventory.sealed.first().copied();
    let first_name = inventory.unsealed.first().copied();
    let first = first_sealed.or(first_name).filter(|&first| first > marks.horizon);
    // Where the manifest had no room to say so, the first segment that stayed says that it is the first.
    let is_noted =
        first.map_or(Ok(false), |first| sealed::is_noted_first(&path_in(shard_dir, first), first))?;
    if let Some(first) = first_sealed.filter(|&first| first > marks.horizon && !is_noted) {
        // A segment is sealed once the names of all before it are synced.
        return Err(missing(&path_in(shard_dir, first), shard.id, marks.horizon, first));
    }
    let begins_at = first.filter(|_| is_noted).unwrap_or(marks.horizon);
    let last_sealed = inventory.last_trailer;
    let mut next = match last_sealed {
        Some(trailer) => SequenceNumber::new(trailer.end_sequence),
        // Retention may have removed what came before, up to the horizon.
        None => first_name.unwrap_or(begins_at).min(begins_at).max(shard.first_sequence),
    };
    let promised = marks.promised();
    let sealed_until = last_sealed.map_or(0, |trailer| trailer.last_timestamp_micros);
    // What has expired was not younger than what follows it.
    let mut last_timestamp = Timestamp::from_micros(sealed_until).max(marks.last_timestamp);
    let mut recovered = vec![];
    let mut resumable = None;

    let mut scans = scan_all(shard_dir, shard.id, &inventory.unsealed).into_iter();
    let mut files = inventory.unsealed.iter().copied().peekable();
    while let Some((base, scanned)) = files.next().zip(scans.next()) {
        let path = path_in(shard_dir, base);
        if base != next {
            // Its name reached the disk, and that of the one before did not.
            let tail: Vec<_> = iter::once(base).chain(files.by_ref()).collect();
            if any_synced(shard_dir, &tail)?.is_some() {
                return Err(missing(&path, shard.id, next, base));
            }
            refuse_to_lose_synced(&path, shard.id, next, promised)?;
            let (bytes, reason) = (DataFile::open(&path)?.len()?, expected_segment(next, base));
            report.torn_tail = Some(TornTail { path, offset: 0, bytes, reason });
            report.removed_files.extend(cut(shard_dir, &tail)?);
            break;
        }
        let (file, scan) = scanned?;
        let end = scan.end_sequence(base);
        let goes_on = files.peek().is_some_and(|&following| following == end);
        let following: Vec<_> = if goes_on { vec![] } else { files.by_ref().collect() };
        refuse_to_cut_synced(shard_dir, shard.id, &file, (base, &scan), &following)?;
        if !goes_on {
            refuse_to_lose_synced(&path, shard.id, end, promised)?;
        }
        if !following.is_empty() || (scan.is_torn() && !goes_on) {
            report.torn_tail = Some(scan.torn_tail(&file)?);
        }
        report.removed_files.extend(cut(shard_dir, &following)?);
        report.scanned_bytes += scan.frames_end();
        match scan {
            // Creating it was not finished. It never held a record, and its name says nothing that the file before does not.
            Scan::Blank => dir::remove_file(&path)?,
            Scan::Header { .. } => resumable = Some(Resumable { base, trailer: None }),
            Scan::Frames(frames) => {
                (next, last_timestamp) = (end, last_timestamp.max(frames.last_timestamp));
                recovered.push(frames.into_unsealed(file)?);
            }
        }
    }
    if inventory.unsealed.is_empty() {
        let last = inventory.sealed.last().copied();
        resumable = last.zip(last_sealed).map(|(base, trailer)| Resumable { base, trailer: Some(trailer) });
    }
    report.was_closed_cleanly = recovered.is_empty() && report.torn_tail.is_none();
    let last = path_in(shard_dir, inventory.sealed.last().copied().unwrap_or(next));
    refuse_to_lose_synced(&last, shard.id, next, promised)?;
    if next < marks.horizon {
        // What is left was trimmed, and ends before the numbers that were given out.
        for &base in inventory.sealed.iter().chain(&inventory.unsealed) {
            dir::remove_file(&path_in(shard_dir, base))?;
        }
        inventory.sealed.clear();
        recovered.clear();
        (next, resumable) = (marks.horizon, None);
    }
    report.next_sequence = next;
    Ok(RecoveredShard {
        sealed: inventory.sealed,
        unsealed: recovered,
        resumable,
        next_sequence: next,
        last_timestamp,
        report,
    })
}

/// Removes the files of a torn tail, the last one first, for good: were one to come back after new records took its numbers, it
/// might fit behind them.
fn cut(shard_dir: &Path, tail: &[SequenceNumber]) -> Result<Vec<PathBuf>> {
    let paths: Vec<_> = tail.iter().rev().map(|&base| path_in(shard_dir, base)).collect();
    for path in &paths {
        dir::remove_file(path)?;
    }
    if !paths.is_empty() {
        dir::sync(shard_dir)?;
    }
    Ok(paths)
}

/// The first of some files of which anything was synced.
///
/// A segment is synced only after those before it, so one that is synced vouches for them all.
fn any_synced(shard_dir: &Path, bases: &[SequenceNumber]) -> Result<Option<PathBuf>> {
    for &base in bases {
        let path = path_in(shard_dir, base);
        if Scan::synced_of(&DataFile::open(&path)?)? > FRAMES_FROM {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn expected_segment(expected: SequenceNumber, found: SequenceNumber) -> String {
    format!(
        "expected the segment that begins with sequence number {expected}, found the one of {found}: a file is missing"
    )
}

/// The error for a gap, or an overlap, between one segment and the next.
fn missing(path: &Path, shard: ShardId, expected: SequenceNumber, found: SequenceNumber) -> Error {
    let reason = expected_segment(expected, found);
    Corruption { path: path.to_owned(), shard: Some(shard), offset: 0, sequence: Some(expected), reason }
        .into_error()
}

/// What was synced when the manifest was written last must be there, whatever the segments say.
fn refuse_to_lose_synced(
    path: &Path,
    shard: ShardId,
    end: SequenceNumber,
    promised: SequenceNumber,
) -> Result<()> {
    if end >= promised {
        return Ok(());
    }
    let reason = format!("expected records up to sequence number {promised}, found them to end before {end}");
    Err(Corruption { path: path.to_owned(), shard: Some(shard), offset: 0, sequence: Some(end), reason }
        .into_error())
}

/// A tail may be cut only where nothing of it was synced.
fn refuse_to_cut_synced(
    shard_dir: &Path,
    shard: ShardId,
    file: &DataFile,
    (base, scan): (SequenceNumber, &Scan),
    following: &[SequenceNumber],
) -> Result<()> {
    let damage = |reason: String| {
        let (path, offset) = (file.path().to_owned(), scan.frames_end());
        Err(Corruption { path, shard: Some(shard), offset, sequence: Some(scan.end_sequence(base)), reason }
            .into_error())
    };
    if scan.frames_end() < scan.synced() {
        return damage(format!("{}; all up to byte {} was synced", scan.stopped_at(), scan.synced()));
    }
    if let Some(path) = any_synced(shard_dir, following)? {
        return damage(format!("{}; the later segment {} was synced", scan.stopped_at(), path.display()));
    }
    Ok(())
}
