//! Putting a shard's segments in place.

use super::place::{FilePlaces, missing};
use super::work::{Stop, Work};
use crate::log::manifest::{Manifest, Marks};
use crate::log::segment::place::{ShardDir, shards_dir};
use crate::log::shard::Shard;
use crate::log::shard::moment::{Moment, SegmentThen};
use crate::log::sys::dir;
use crate::log::sys::root::OwnPath;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// The directories of a stream, of the snapshot that is being taken, and of the last one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) source: &'a OwnPath,
    pub(super) new: &'a OwnPath,
    pub(super) old: &'a OwnPath,
}

/// The directories of one shard in each of these.
#[derive(Debug)]
pub(super) struct ShardPlaces {
    pub(super) source: ShardDir,
    pub(super) new: ShardDir,
    old: ShardDir,
}

impl Places<'_> {
    pub(super) fn of_shard(self, id: ShardId) -> ShardPlaces {
        let [source, new, old] =
            [self.source, self.new, self.old].map(|stream_dir| ShardDir::new(stream_dir, id));
        ShardPlaces { source, new, old }
    }
}

impl ShardPlaces {
    /// Runs `put` with the places of one segment.
    pub(super) fn with_segment<T>(
        &self,
        base: SequenceNumber,
        put: impl FnOnce(FilePlaces<'_>) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let [source, new, old] = [&self.source, &self.new, &self.old].map(|dir| dir.segment(base));
        put(FilePlaces { source: &source, new: &new, old: &old })
    }

    /// Removes all files but these segments, and makes the names of these survive power loss.
    pub(super) fn keep_only(&self, bases: &[SequenceNumber]) -> Result<()> {
        let kept: Vec<_> = bases.iter().map(|&base| self.new.segment_path(base)).collect();
        dir::remove_others(self.new.path(), |name| kept.iter().any(|kept| kept.file_name() == Some(name)))?;
        self.new.sync()
    }
}

/// Returns the segments that hold records which were not trimmed.
fn segments(moment: &Moment) -> impl Iterator<Item = &SegmentThen> {
    moment.segments.iter().filter(|segment| segment.end > moment.horizon)
}

/// Returns the bytes of the segments to put in place.
pub(super) fn bytes_of(source: &OwnPath, shard: ShardId, moment: &Moment) -> Result<u64> {
    let dir = ShardDir::new(source, shard);
    let bytes = |segment: &SegmentThen| match segment.frames_end {
        Some(frames_end) => Ok(frames_end),
        None => Ok(dir.segment_path(segment.base).file_id()?.map_or(0, |file| file.bytes)),
    };
    segments(moment).map(bytes).sum()
}

/// Puts the segments of a shard in place, except for those that retention drops meanwhile.
pub(super) fn copy(
    work: &mut Work<'_>,
    shard: &Shard,
    moment: &Moment,
    places: Places<'_>,
) -> Result<(), Stop> {
    let places = places.of_shard(shard.id());
    dir::create(places.new.path())?;
    for &SegmentThen { base, end, frames_end } in segments(moment) {
        let put = places.with_segment(base, |places| match frames_end {
            None => places.put_sealed(work),
            Some(frames_end) => places.put_unsealed(work, frames_end, end),
        });
        match put {
            Ok(true) => {}
            // Retention has dropped it.
            Ok(false) | Err(Stop::Failed(_)) if end <= shard.horizon() => {}
            Ok(false) => return Err(missing(&places.source.segment(base)).into()),
            Err(stop) => return Err(stop),
        }
    }
    Ok(())
}

/// Removes segments that end at or before the horizon or are of another snapshot, and makes the names of the others survive power loss. Returns
/// the marks for the manifest.
pub(super) fn complete(
    shard: ShardId,
    moment: &Moment,
    horizon: SequenceNumber,
    places: Places<'_>,
) -> Result<Marks> {
    let horizon = horizon.clamp(moment.horizon, moment.end);
    let kept: Vec<_> =
        segments(moment).filter(|segment| segment.end > horizon).map(|segment| segment.base).collect();
    places.of_shard(shard).keep_only(&kept)?;
    Ok(Marks { horizon, synced: moment.end, last_timestamp: moment.last_timestamp })
}

/// Removes what an unfinished snapshot left of shards that are not in the manifest.
pub(super) fn remove_others(new: &OwnPath, manifest: &Manifest) -> Result<()> {
    let kept: Vec<_> = manifest.shards.iter().map(|shard| ShardDir::new(new, shard.id)).collect();
    dir::remove_others(&shards_dir(new), |name| kept.iter().any(|dir| dir.path().file_name() == Some(name)))
}
