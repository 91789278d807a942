//! Making the files of a stream from its archive.
//!
//! All segments are fetched, each under another name until it is whole and synced, so that a later attempt can keep it. Where records are missing
//! between others, a segment marks them as lost, as salvage does: a stream has no gaps.

use std::ops::ControlFlow;

use super::fetch::{fetch, is_whole};
use super::name::{self, ArchivedSegment};
use super::report::{ArchiveProgress, RestoreReport};
use super::{contents, damage};
use crate::log::manifest::{Manifest, Marks};
use crate::log::segment::place::{SegmentPlace, ShardDir, shards_dir};
use crate::log::segment::rewrite::Rewrite;
use crate::log::sys::dir;
use crate::log::sys::file::DataFile;
use crate::log::sys::root::OwnPath;
use crate::log::types::archive::Archive;
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::Result;
use crate::log::types::options::Retention;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// More lost records than this are not a gap but forged or garbled names.
const GAP_MAX: u64 = 1 << 40;

/// Returns the manifest in an archive that a stream can be made of.
pub(crate) fn manifest_in(archive: &dyn Archive) -> Result<Manifest> {
    contents::load(archive)?.ok_or_else(|| contents::missing(archive))
}

/// Makes the files of a stream in a directory, from the manifest in its archive. Returns the manifest that makes them a stream that keeps its
/// records forever; the caller stores it. Returns `None` if the caller stops it.
pub(crate) fn build(
    archive: &dyn Archive,
    mut manifest: Manifest,
    new: &OwnPath,
    report: &mut RestoreReport,
    progress: &mut dyn FnMut(ArchiveProgress) -> ControlFlow<()>,
) -> Result<Option<Manifest>> {
    let shards = shards_dir(new);
    dir::create(&shards)?;
    // Leftovers of an attempt for another stream.
    dir::remove_others(new, |name| shards.file_name() == Some(name))?;
    let dirs: Vec<_> = manifest.shards.iter().map(|shard| ShardDir::new(new, shard.id)).collect();
    dir::remove_others(&shards, |name| dirs.iter().any(|dir| dir.path().file_name() == Some(name)))?;
    manifest.settings.retention = Retention::forever();
    manifest.marks.clear();
    for (shard, dir) in manifest.shards.iter().zip(dirs) {
        dir::create(dir.path())?;
        let (report, last) = (&mut *report, shard.created_at);
        let mut restore = RestoredShard { archive, dir, shard, report, next: None, last, bases: vec![] };
        for segment in name::list(archive, shard.id)? {
            if restore.add(&segment)? && progress(so_far(restore.report)).is_break() {
                return Ok(None);
            }
        }
        let marks = restore.end()?;
        manifest.marks.insert(shard.id, marks);
    }
    dir::sync(&shards)?;
    Ok(Some(manifest))
}

fn so_far(report: &RestoreReport) -> ArchiveProgress {
    ArchiveProgress { segment_count: report.segment_count, bytes: report.bytes }
}

/// A shard that is being restored.
struct RestoredShard<'a> {
    archive: &'a dyn Archive,
    dir: ShardDir,
    shard: &'a ShardDescription,
    report: &'a mut RestoreReport,
    /// The first number of the first segment, and the one after the last record so far.
    next: Option<(SequenceNumber, SequenceNumber)>,
    /// When the last record arrived.
    last: Timestamp,
    /// The first numbers of all segments so far.
    bases: Vec<SequenceNumber>,
}

impl RestoredShard<'_> {
    /// Adds the next segment. Returns whether it had to be fetched.
    fn add(&mut self, segment: &ArchivedSegment) -> Result<bool> {
        if let Some((_, end)) = self.next.filter(|&(_, end)| end < segment.base) {
            self.add_lost(end, segment.base, segment.first)?;
        }
        let place = self.dir.segment(segment.base);
        let is_there =
            DataFile::open(&place.path).and_then(|file| is_whole(segment, &file)).unwrap_or_default();
        if !is_there {
            let aside = place.path.with_suffix(".new");
            dir::remove_file(&aside)?;
            let mut file = DataFile::create(&aside)?;
            fetch(self.archive, segment, &file)?;
            file.sync()?;
            dir::remove_file(&place.path)?;
            file.rename(&place.path)?;
            self.report.segment_count += 1;
            self.report.bytes += segment.bytes;
        }
        self.bases.push(segment.base);
        self.report.record_count += segment.end.get() - segment.base.get();
        let first = self.next.map_or(segment.base, |(first, _)| first);
        (self.next, self.last) = (Some((first, segment.end)), segment.last);
        Ok(!is_there)
    }

    fn add_lost(&mut self, from: SequenceNumber, to: SequenceNumber, arrived: Timestamp) -> Result<()> {
        let count = to.get() - from.get();
        if count > GAP_MAX {
            let reason =
                format!("expected segments up to sequence number {to}, found them to end before {from}");
            let name = format!("shards/{:012}/", self.shard.id.get());
            return Err(damage(self.archive, &name, Some((self.shard.id, from)), reason));
        }
        let place: SegmentPlace = self.dir.segment(from);
        let header = place.new_header(arrived.as_micros())?;
        let mut lost = Rewrite::create(&place, header, false)?;
        lost.push_lost(to.get(), arrived.as_micros())?;
        dir::remove_file(&place.path)?;
        lost.replace(&place)?;
        self.bases.push(from);
        self.report.lost_count += count;
        Ok(())
    }

    /// Ends the shard. Returns how far it is.
    fn end(mut self) -> Result<Marks> {
        let first_sequence = self.shard.first_sequence;
        let (horizon, mut end) = match (self.next, self.shard.closing_sequence) {
            (Some(bounds), _) => bounds,
            // Its records were never archived, or it never had any.
            (None, Some(closing)) => (closing, closing),
            (None, None) => (first_sequence, first_sequence),
        };
        // Records missing at the end become lost ones, because the children begin after them.
        if let Some(closing) = self.shard.closing_sequence.filter(|&closing| closing > end) {
            self.add_lost(end, closing, self.last)?;
            end = closing;
        }
        let kept: Vec<_> = self.bases.iter().map(|&base| self.dir.segment_path(base)).collect();
        dir::remove_others(self.dir.path(), |name| kept.iter().any(|kept| kept.file_name() == Some(name)))?;
        self.dir.sync()?;
        Ok(Marks { horizon, synced: end, last_timestamp: self.last.max(self.shard.created_at) })
    }
}
