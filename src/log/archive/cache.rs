//! The segments that a reader has fetched from an archive, up to a bound.
//!
//! Each is a file without a name, mapped for its readers. It disappears once nobody maps it, even if the process is killed, so nothing has to be
//! found again, shared with other processes, or cleaned up. At the bound, the least recently used segments are dropped, except for those that a
//! reader or a batch uses.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::failure;
use super::fetch::{FetchError, fetch};
use super::name::{self, ArchivedSegment};
use crate::log::segment::place::SegmentPlace;
use crate::log::segment::window::Window;
use crate::log::sys::file::DataFile;
use crate::log::sys::root::OwnPath;
use crate::log::types::archive::Archive;
use crate::log::types::error::{Error, IoFailure, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// The archive of a stream, and what is fetched from it.
#[derive(Debug)]
pub(crate) struct ArchiveCache {
    archive: Arc<dyn Archive>,
    dir: OwnPath,
    bytes_max: u64,
    /// Locked for moments only, also while a slot is locked. A thread that has it locked only tries to lock slots.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The segments that are fetched or being fetched. Each counts towards the bound.
    segments: BTreeMap<Key, Fetched>,
    /// Raised with each use.
    use_count: u64,
}

/// A shard, a segment's first sequence number, and the number after its last: the segment may be archived again with more records.
type Key = (ShardId, SequenceNumber, SequenceNumber);

#[derive(Debug)]
struct Fetched {
    bytes: u64,
    slot: Arc<Slot>,
    last_use: u64,
}

/// Locked while the segment is being fetched, so that it is fetched once.
type Slot = Mutex<Option<Arc<Window>>>;

fn key_of(segment: &ArchivedSegment) -> Key {
    (segment.shard, segment.base, segment.end)
}

impl ArchiveCache {
    pub(crate) fn new(archive: Arc<dyn Archive>, dir: OwnPath, bytes_max: u64) -> Self {
        Self { archive, dir, bytes_max, state: Mutex::default() }
    }

    pub(crate) fn archive(&self) -> &dyn Archive {
        &*self.archive
    }

    /// Returns the segments that the archive has of a shard.
    pub(crate) fn list(&self, shard: ShardId) -> Result<Vec<ArchivedSegment>> {
        name::list(&*self.archive, shard)
    }

    /// Returns a segment for reading, and fetches it first if necessary. Returns `None` if the archive no longer has it.
    pub(crate) fn window(&self, segment: &ArchivedSegment) -> Result<Option<Arc<Window>>> {
        loop {
            let slot = self.state.lock().slot_of(segment);
            let mut window = slot.lock();
            if let Some(window) = &*window {
                return Ok(Some(Arc::clone(window)));
            }
            // Another thread has failed to fetch it, or it was closed, since its slot was found.
            if !self.state.lock().has(segment, &slot) {
                continue;
            }
            self.make_room();
            match self.fetch(segment) {
                Ok(fetched) => {
                    *window = Some(Arc::clone(&fetched));
                    return Ok(Some(fetched));
                }
                Err(error) => {
                    self.state.lock().segments.remove(&key_of(segment));
                    return match error {
                        FetchError::Gone(_) => Ok(None),
                        FetchError::Failed(error) => Err(error),
                    };
                }
            }
        }
    }

    /// Returns the error for a segment that is listed repeatedly but cannot be fetched.
    pub(crate) fn gone(&self, segment: Option<&ArchivedSegment>) -> Error {
        let name = segment.map(ArchivedSegment::name).unwrap_or_default();
        failure(&*self.archive, "fetch", &name, io::ErrorKind::NotFound.into())
    }

    fn fetch(&self, segment: &ArchivedSegment) -> Result<Arc<Window>, FetchError> {
        let file = DataFile::create_unnamed(&self.dir).map_err(|error| match error {
            // This disk is full, not the stream's.
            Error::StorageFull(path) => {
                let full = io::ErrorKind::StorageFull.into();
                FetchError::Failed(IoFailure::new("fetch a segment to", &*path, full).into())
            }
            error => FetchError::Failed(error),
        })?;
        fetch(&*self.archive, segment, &file)?;
        // Faults in its frames are reported under the object's name.
        let path = self.dir.join(segment.name());
        let place = SegmentPlace { shard: segment.shard, base: segment.base, path };
        let window = Window::open_unnamed(&file, place, segment.end).map_err(FetchError::Failed)?;
        Ok(Arc::new(window))
    }

    /// Closes unused segments, least recently used first, until the rest are within the bound.
    fn make_room(&self) {
        let mut state = self.state.lock();
        let mut bytes: u64 = state.segments.values().map(|it| it.bytes).sum();
        let mut by_use: Vec<_> = state.segments.iter().map(|(&key, it)| (it.last_use, key)).collect();
        by_use.sort_unstable();
        let mut closed = vec![];
        for (_, key) in by_use {
            if bytes <= self.bytes_max {
                break;
            }
            let Some(window) = state.segments[&key].take_idle_window() else { continue };
            closed.push(window);
            bytes -= state.segments.remove(&key).map_or(0, |it| it.bytes);
        }
        // Unmapping takes time, and needs no lock.
        drop(state);
        drop(closed);
    }
}

impl State {
    fn slot_of(&mut self, segment: &ArchivedSegment) -> Arc<Slot> {
        self.use_count += 1;
        let new = || Fetched { bytes: segment.bytes, slot: Arc::default(), last_use: 0 };
        let fetched = self.segments.entry(key_of(segment)).or_insert_with(new);
        fetched.last_use = self.use_count;
        Arc::clone(&fetched.slot)
    }

    fn has(&self, segment: &ArchivedSegment, slot: &Arc<Slot>) -> bool {
        self.segments.get(&key_of(segment)).is_some_and(|it| Arc::ptr_eq(&it.slot, slot))
    }
}

impl Fetched {
    /// Takes the window, unless a reader is in it, somebody holds bytes of it, or it is being fetched.
    fn take_idle_window(&self) -> Option<Arc<Window>> {
        let mut slot = self.slot.try_lock()?;
        if slot.as_ref().is_none_or(Window::is_shared) { None } else { slot.take() }
    }
}
