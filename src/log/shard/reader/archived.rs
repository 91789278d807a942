//! What a reader finds in the archive of its stream: the records before the horizon of the stream's own files.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Reader;
use super::segments::Found;
use crate::log::archive::cache::ArchiveCache;
use crate::log::archive::name::{self, ArchivedSegment};
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

/// How often the archive is listed again because it no longer has a segment that it had.
const LISTINGS_MAX: u32 = 3;

/// The archived segments of a shard.
#[derive(Debug)]
pub(crate) struct Archived {
    cache: Arc<ArchiveCache>,
    shard: ShardId,
    known: Mutex<Known>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    segments: Arc<[ArchivedSegment]>,
    /// The horizon when they were listed.
    listed_at: Option<SequenceNumber>,
}

impl Archived {
    pub(crate) fn new(cache: &Arc<ArchiveCache>, shard: ShardId) -> Self {
        Self { cache: Arc::clone(cache), shard, known: Mutex::default() }
    }

    /// Returns the segments. Lists them again if the known ones do not reach up to the horizon, unless the horizon has not moved since the last
    /// listing. The horizon must have been loaded before, so that the list has everything that was archived before the horizon moved.
    fn segments(&self, horizon: SequenceNumber) -> Result<Arc<[ArchivedSegment]>> {
        let known = self.known.lock().clone();
        let reaches = known.segments.last().is_some_and(|last| last.end >= horizon);
        if reaches || known.listed_at == Some(horizon) { Ok(known.segments) } else { self.list(horizon) }
    }

    fn list(&self, horizon: SequenceNumber) -> Result<Arc<[ArchivedSegment]>> {
        let segments: Arc<[_]> = self.cache.list(self.shard)?.into();
        *self.known.lock() = Known { segments: Arc::clone(&segments), listed_at: Some(horizon) };
        Ok(segments)
    }
}

impl Reader {
    /// Returns the first number from `from` on that can be read. Everything from the horizon on can, and everything before it that is archived.
    ///
    /// # Errors
    /// `Io` if the archive cannot be listed.
    pub(super) fn first_readable(&self, from: SequenceNumber) -> Result<SequenceNumber> {
        let horizon = self.horizon();
        let Some(archived) = self.archived.as_ref().filter(|_| from < horizon) else {
            return Ok(from.max(horizon));
        };
        let first = name::first_held(&archived.segments(horizon)?, from);
        Ok(first.map_or(horizon, |first| first.min(horizon)))
    }

    /// Returns the number of the oldest record that can be read.
    ///
    /// # Errors
    /// Same as [`first_readable`](Self::first_readable).
    pub(crate) fn trim_horizon(&self) -> Result<SequenceNumber> {
        match &self.archived {
            None => Ok(self.horizon()),
            Some(_) => self.first_readable(self.created.first_sequence),
        }
    }

    /// Returns the archived segment that holds a record before the horizon, opened, if there is an archive.
    ///
    /// # Errors
    /// `Trimmed` if it is not archived; `Corrupt` if what is archived is damaged; `Io` if the archive fails.
    pub(super) fn find_archived(&self, sequence: SequenceNumber) -> Result<Option<Found>> {
        let horizon = self.horizon();
        let Some(archived) = self.archived.as_ref().filter(|_| sequence < horizon) else { return Ok(None) };
        let mut segments = archived.segments(horizon)?;
        for _ in 0..LISTINGS_MAX {
            let Some(segment) = name::holder(&segments, sequence) else {
                let first = name::first_held(&segments, sequence).unwrap_or(horizon);
                let (shard, requested) = (self.id(), sequence);
                return Err(Error::Trimmed { shard, requested, horizon: first.min(horizon) });
            };
            if let Some(window) = archived.cache.window(segment)? {
                return Ok(Some(Found { window, end: Some(segment.end) }));
            }
            // Somebody has removed it.
            segments = archived.list(horizon)?;
        }
        Err(archived.cache.gone(name::holder(&segments, sequence)))
    }

    /// Returns the number of the first archived record before the horizon that arrived at a time or later, if there is one.
    pub(super) fn first_archived_since(&self, time: Timestamp) -> Result<Option<SequenceNumber>> {
        let horizon = self.horizon();
        let Some(archived) = &self.archived else { return Ok(None) };
        let segments = archived.segments(horizon)?;
        let Some(segment) = segments.get(segments.partition_point(|segment| segment.last < time)) else {
            return Ok(None);
        };
        let first = match segment.first < time && segment.base < horizon {
            true => match self.find_archived(segment.base)? {
                Some(found) => found.window.first_at_or_after(time)?,
                None => segment.base,
            },
            false => segment.base,
        };
        Ok((first < horizon).then_some(first))
    }

    /// Returns how much of the archive is left to read from an archived record on, and how long ago it arrived. Both come from the names of the
    /// segments, without fetching: the bytes of whole files, and when the first record of its segment arrived.
    pub(super) fn unread_archived(&self, oldest: SequenceNumber) -> Result<(u64, Duration)> {
        let horizon = self.horizon();
        let Some(archived) = self.archived.as_ref().filter(|_| oldest < horizon) else {
            return Ok((0, Duration::ZERO));
        };
        let segments = archived.segments(horizon)?;
        let own = self.segments.first_base().unwrap_or(horizon);
        let unread = segments.iter().filter(|segment| segment.end > oldest && segment.base < own);
        let bytes = unread.clone().map(|segment| segment.bytes).sum();
        let first = unread.map(|segment| segment.first).next();
        let age = first.map_or(Duration::ZERO, |first| self.clock.now().since(first));
        Ok((bytes, age.max(Duration::from_millis(1))))
    }

    /// Returns the first archived segment behind a damaged one.
    pub(super) fn next_archived(&self, damaged: SequenceNumber) -> Option<SequenceNumber> {
        let (archived, horizon) = (self.archived.as_ref()?, self.horizon());
        let segments = archived.segments(horizon).ok()?;
        segments.iter().map(|segment| segment.base).find(|&base| base > damaged && base < horizon)
    }
}
