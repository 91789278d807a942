//! The segments of a shard, where readers find them.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::segment::window::Window;
use crate::segment::{path_in, sealed};
use crate::sys::dir;
use crate::sys::file::DataFile;
use crate::words::error::Result;
use crate::words::sequence::SequenceNumber;
use crate::words::shard_id::ShardId;

/// The segments of a shard in order.
///
/// A reader looks here only when it goes from one segment to the next; in between it works on its window. A writer adds a segment
/// before it ends the one before, so that a reader who has seen the end of one finds the next.
#[derive(Debug)]
pub(crate) struct Segments {
    shard_dir: PathBuf,
    shard: ShardId,
    list: RwLock<VecDeque<Arc<Segment>>>,
}

/// One segment: a name, and a window that is opened when somebody reads.
#[derive(Debug)]
struct Segment {
    base: SequenceNumber,
    slot: Mutex<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    window: Option<Arc<Window>>,
    /// The window is of a segment that has no trailer yet: it stays.
    is_pinned: bool,
    /// Somebody asked for the window since the last look.
    is_used: bool,
}

/// A segment that a reader found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) window: Arc<Window>,
    /// Where the next segment begins, if there is one.
    pub(crate) end: Option<SequenceNumber>,
}

impl Segments {
    pub(crate) fn new(shard_dir: &Path, shard: ShardId, sealed: &[SequenceNumber]) -> Self {
        let list = sealed.iter().map(|&base| Arc::new(Segment { base, slot: Mutex::default() })).collect();
        Self { shard_dir: shard_dir.to_owned(), shard, list: RwLock::new(list) }
    }

    /// Adds a segment without a trailer at the end, or puts it in the place of the last one if that has the same name.
    pub(crate) fn push(&self, window: Arc<Window>) {
        let base = window.base;
        let slot = Slot { window: Some(window), is_pinned: true, is_used: false };
        let segment = Arc::new(Segment { base, slot: Mutex::new(slot) });
        let mut list = self.list.write();
        if list.back().is_some_and(|last| last.base == base) {
            list.pop_back();
        }
        list.push_back(segment);
    }

    /// Notes that a segment has its trailer, so that its window can be opened again.
    pub(crate) fn unpin(&self, base: SequenceNumber) {
        let list = self.list.read();
        if let Ok(at) = list.binary_search_by_key(&base, |segment| segment.base) {
            list[at].slot.lock().is_pinned = false;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.read().len()
    }

    /// The oldest sequence number that a segment holds.
    pub(crate) fn first_base(&self) -> Option<SequenceNumber> {
        self.list.read().front().map(|segment| segment.base)
    }

    /// The first sequence numbers of all segments.
    pub(crate) fn bases(&self) -> Vec<SequenceNumber> {
        self.list.read().iter().map(|segment| segment.base).collect()
    }

    /// The last segment that begins at or before a sequence number, opened.
    pub(crate) fn find(&self, sequence: SequenceNumber) -> Result<Option<Found>> {
        let (segment, end) = {
            let list = self.list.read();
            let after = list.partition_point(|segment| segment.base <= sequence);
            let Some(at) = after.checked_sub(1) else {
                return Ok(None);
            };
            (Arc::clone(&list[at]), list.get(after).map(|next| next.base))
        };
        let mut slot = segment.slot.lock();
        slot.is_used = true;
        let window = match &slot.window {
            Some(window) => Arc::clone(window),
            None => {
                let path = path_in(&self.shard_dir, segment.base);
                let window = Arc::new(sealed::open(&path, self.shard, segment.base, end)?);
                slot.window = Some(Arc::clone(&window));
                window
            }
        };
        Ok(Some(Found { window, end }))
    }

    /// Closes the windows that nobody asked for since the last call and nobody holds.
    pub(crate) fn close_idle(&self) {
        for segment in self.list.read().iter() {
            let mut slot = segment.slot.lock();
            let is_held = slot.window.as_ref().is_some_and(|window| Arc::strong_count(window) > 1);
            if !std::mem::take(&mut slot.is_used) && !slot.is_pinned && !is_held {
                slot.window = None;
            }
        }
    }

    /// The bytes that the segment files take on the disk.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for base in self.bases() {
            let path = path_in(&self.shard_dir, base);
            match DataFile::open(&path).and_then(|file| file.disk_bytes()) {
                Ok(of_file) => bytes += of_file,
                // A file that was trimmed since it was listed takes nothing.
                Err(_) if !dir::exists(&path)? => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }
}
