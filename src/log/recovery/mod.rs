//! Recovery: turning whatever a shard's directory holds into a consistent shard.
//!
//! 1. *Inventory* (`inventory.rs`) lists the segment files in the order of their names. Files that end at or before the manifest's horizon
//!    are removed: they were due for removal before, and power loss may have brought any of them back. From the last file back to the
//!    first with a valid trailer, the others are unsealed. The files before that one are sealed and are not read.
//! 2. *Scan* (`scan.rs`) scans the unsealed files in parallel, each up to the first place where no good frame begins.
//! 3. *Decide* (`decide.rs`) decides what becomes of each file, or finds the shard damaged. Then no file is changed.
//! 4. *Apply* ([`Recovery::apply`]) removes files, and those of a torn tail from the last one back. A crash in between leaves the same good
//!    frames and less of the tail.
//!
//! The next put begins a new segment, even where the tail looks clean: the bytes behind it may hold frames that a power loss left, and
//! appending in front of them would bring them back. For the same reason the file need not be cut here: sealing cuts it. Only a segment
//! that was closed cleanly or holds no record is written to again.

mod decide;
mod inventory;
mod report;
mod runs;
mod salvage;
mod scan;

pub use report::{LostRecords, RecoveryReport, ShardRecovery, TornTail};

use crate::log::manifest::Marks;
use crate::log::segment::active::Resumable;
use crate::log::segment::place::{ShardDir, shards_dir};
use crate::log::segment::prepared;
use crate::log::segment::unsealed::Unsealed;
use crate::log::sys::dir::{self, OpenDir};
use crate::log::sys::root::OwnPath;
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

use decide::{Case, Facts, Plan, TornAt};
use inventory::Inventory;
use scan::{Access, Scanned, scan_all};

/// A shard after recovery.
#[derive(Debug)]
pub(crate) struct RecoveredShard {
    /// The first sequence numbers of the sealed segments.
    pub(crate) sealed: Vec<SequenceNumber>,
    /// The segments after the sealed ones. Each holds records.
    pub(crate) unsealed: Vec<Unsealed>,
    /// The last segment, if it may be written to again.
    pub(crate) resumable: Option<Resumable>,
    /// The directory, if the names of these segments may not survive power loss.
    pub(crate) new_names: Option<OpenDir>,
    pub(crate) next_sequence: SequenceNumber,
    pub(crate) last_timestamp: Timestamp,
    pub(crate) report: ShardRecovery,
}

/// The findings in a shard's directory, and the plan for it. No file is changed yet, except by salvage.
#[derive(Debug)]
pub(crate) struct Recovery {
    dir: ShardDir,
    inventory: Inventory,
    scanned: Vec<Scanned>,
    plan: Plan,
    report: ShardRecovery,
}

/// What the next opening of a stream will find in a shard.
#[derive(Debug)]
pub(crate) struct Survey {
    /// The first sequence numbers of the segments that hold records.
    pub(crate) bases: Vec<SequenceNumber>,
    pub(crate) next_sequence: SequenceNumber,
}

/// Examines a shard as the next opening will, and changes nothing. `marks` are those of the last written manifest.
pub(crate) fn survey(stream_dir: &OwnPath, shard: &ShardDescription, marks: Marks) -> Result<Survey> {
    let dir = ShardDir::new(stream_dir, shard.id);
    let (mut bases, mut next_sequence) = (vec![], marks.horizon);
    // Some tools that copy directories leave out empty ones.
    if dir.path().is_own_dir()? {
        let report = ShardRecovery::new(shard.id);
        let Recovery { inventory, plan, .. } = Recovery::examine(dir, shard, marks, Access::Read, report)?;
        if !plan.is_all_behind {
            bases = inventory.sealed;
            bases.extend(plan.unsealed);
        }
        next_sequence = plan.next_sequence;
    }
    Ok(Survey { bases, next_sequence })
}

/// Finds the directory of a shard, or creates it. Some tools that copy directories leave out empty ones, and power loss may remove them.
fn find_dir(stream_dir: &OwnPath, shard: &ShardDescription) -> Result<ShardDir> {
    let dir = ShardDir::new(stream_dir, shard.id);
    if !dir.path().is_own_dir()? {
        dir::create(dir.path())?;
        dir::sync(&shards_dir(stream_dir))?;
        dir::sync(stream_dir)?;
    }
    Ok(dir)
}

impl Recovery {
    /// Examines a shard's files and decides what becomes of them. `marks` are those of the last written manifest.
    ///
    /// With `must_salvage`, it first gives up what is damaged.
    pub(crate) fn prepare(
        stream_dir: &OwnPath,
        shard: &ShardDescription,
        marks: Marks,
        must_salvage: bool,
    ) -> Result<Self> {
        let dir = find_dir(stream_dir, shard)?;
        let mut report = ShardRecovery::new(shard.id);
        if must_salvage {
            let salvaged = salvage::salvage(&dir, shard, marks)?;
            (report.lost, report.damaged_files) = (salvaged.lost, salvaged.kept_files);
        }
        Self::examine(dir, shard, marks, Access::Write, report)
    }

    fn examine(
        dir: ShardDir,
        shard: &ShardDescription,
        marks: Marks,
        access: Access,
        report: ShardRecovery,
    ) -> Result<Self> {
        let inventory = Inventory::read(&dir, marks.horizon)?;
        let scanned = scan_all(&dir, &inventory.unsealed, access)?;
        let unsealed: Vec<_> = scanned.iter().map(Facts::of).collect();
        let first_sequence = shard.first_sequence;
        let case = Case { dir: &dir, first_sequence, marks, inventory: &inventory, unsealed: &unsealed };
        let plan = case.decide()?;
        Ok(Self { dir, inventory, scanned, plan, report })
    }

    /// Carries out the plan.
    pub(crate) fn apply(self) -> Result<RecoveredShard> {
        let Self { dir, mut inventory, scanned, plan, mut report } = self;
        report.segment_count = inventory.sealed.len() + inventory.unsealed.len();
        report.scanned_bytes = plan.scanned_bytes;
        report.next_sequence = plan.next_sequence;
        report.was_closed_cleanly = plan.unsealed.is_empty() && plan.torn_tail.is_none();
        report.torn_tail = plan.torn_tail.map(|TornAt { base, offset, bytes, reason }| {
            let path = dir.segment_path(base).to_path_buf();
            TornTail { path, offset, bytes, reason }
        });
        report.removed_files =
            plan.cut.iter().rev().map(|&base| dir.segment_path(base).to_path_buf()).collect();

        prepared::remove_left(&dir)?;
        inventory.behind.iter().try_for_each(|&base| dir.remove_segment(base))?;
        plan.cut.iter().rev().try_for_each(|&base| dir.remove_segment(base))?;
        if !plan.cut.is_empty() {
            dir.sync()?;
        }
        plan.unfinished.iter().try_for_each(|&base| dir.remove_segment(base))?;
        if plan.is_all_behind {
            let all = inventory.sealed.drain(..).chain(inventory.unsealed);
            all.into_iter().try_for_each(|base| dir.remove_segment(base))?;
        }
        let is_kept = |file: &Scanned| !plan.is_all_behind && plan.unsealed.contains(&file.place.base);
        let kept = scanned.into_iter().filter(is_kept);
        let unsealed = kept.map(Scanned::into_unsealed).filter_map(Result::transpose);
        let unsealed = unsealed.collect::<Result<Vec<_>>>()?;
        // Their names may be as young as those of a new segment.
        let new_names = if unsealed.is_empty() { None } else { Some(OpenDir::open(dir.path())?) };
        Ok(RecoveredShard {
            unsealed,
            new_names,
            sealed: inventory.sealed,
            resumable: plan.resumable,
            next_sequence: plan.next_sequence,
            last_timestamp: plan.last_timestamp,
            report,
        })
    }
}
