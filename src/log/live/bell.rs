//! The bell: how a process that waits for a record is woken by another one that puts it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::BELL_NAME;
use crate::log::sys::file::DataFile;
use crate::log::sys::root::OwnPath;
use crate::log::sys::wake;
use crate::log::sys::words::{PAGE_BYTES, Words};
use crate::log::types::error::{Error, Result};
use crate::log::types::shard_id::ShardId;

/// The word that changes with each ring.
const RINGS_AT: usize = 0;
/// The words between two marks. A mark has a cache line of its own.
const MARK_WORDS: usize = 8;
/// How many marks there are. Shards whose numbers differ by a multiple of this share one.
const MARKS: u32 = PAGE_BYTES as u32 / 64 - 1;

/// The page of a bell.
#[derive(Debug)]
pub(crate) struct Bell {
    page: Words,
}

fn mark_of(shard: ShardId) -> usize {
    MARK_WORDS * (1 + shard.get() % MARKS) as usize
}

impl Bell {
    /// Opens the bell of a stream that this process has open, or creates it. If the disk has no room for it, nobody hears it.
    pub(crate) fn create(root: &OwnPath) -> Result<Self> {
        let file = DataFile::open_or_create(&root.join(BELL_NAME))?;
        wake::join_barriers();
        let page = match file.allocate(0, PAGE_BYTES) {
            Ok(()) => Words::writable(file.std(), 0),
            Err(Error::StorageFull(_)) => Words::private(),
            Err(error) => return Err(error),
        };
        Ok(Self { page: page.map_err(|error| file.error("map", error))? })
    }

    /// Opens the bell of a stream that another process has open. Returns `None` if this process may not write to it.
    pub(crate) fn open(root: &OwnPath) -> Option<Self> {
        if !wake::CAN_WAIT {
            return None;
        }
        let file = DataFile::open_writable(&root.join(BELL_NAME)).ok()?;
        // Its creator may have found no room for it.
        file.allocate(0, PAGE_BYTES).ok()?;
        Words::writable(file.std(), 0).ok().map(|page| Self { page })
    }

    /// Wakes the waiters of a shard, if there are any. Called after the shard's new end is stored.
    #[inline]
    pub(crate) fn ring(&self, shard: ShardId) {
        // The compiler must keep the order, too.
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        if self.page.peek(mark_of(shard)) != 0 {
            self.ring_for(shard);
        }
    }

    #[cold]
    fn ring_for(&self, shard: ShardId) {
        // Taken away first: a mark that is made from now on is for the next ring.
        self.page.store(mark_of(shard), 0);
        let rings = self.page.half(RINGS_AT);
        rings.fetch_add(1, Ordering::SeqCst);
        wake::wake(rings);
    }

    /// Marks that somebody waits for a shard.
    pub(crate) fn mark(&self, shard: ShardId) {
        self.page.store(mark_of(shard), 1);
    }

    /// Marks a shard whose mark is gone. Returns `false` if it is there.
    pub(crate) fn mark_again(&self, shard: ShardId) -> bool {
        let is_gone = self.page.load(mark_of(shard)) == 0;
        if is_gone {
            self.mark(shard);
        }
        is_gone
    }

    /// Returns how often the bell has rung.
    pub(crate) fn rings(&self) -> u32 {
        self.page.half(RINGS_AT).load(Ordering::SeqCst)
    }

    /// Waits until the bell has rung more than `rings` times, or until the time is over. May return spuriously.
    pub(crate) fn wait(&self, rings: u32, time: Duration) {
        wake::wait(self.page.half(RINGS_AT), rings, time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_for_one_ring_and_for_one_shard() {
        let directory = tempfile::tempdir().unwrap();
        let root = OwnPath::open_root(directory.path()).unwrap();
        assert!(Bell::open(&root).is_none());
        let one = Bell::create(&root).unwrap();
        crate::log::sys::fault::set_hook(Some(Box::new(|action, _| match action {
            "allocate blocks for" => Err(std::io::Error::from_raw_os_error(28)),
            _ => Ok(()),
        })));
        let without_room = Bell::open(&root);
        crate::log::sys::fault::set_hook(None);
        assert!(without_room.is_none(), "a store to a page without blocks would be a SIGBUS");
        let other = Bell::open(&root).unwrap();
        let shard = ShardId::new(3);
        one.ring(shard);
        assert_eq!(other.rings(), 0, "nobody waits");
        other.mark(shard);
        one.ring(ShardId::new(4));
        assert_eq!(other.rings(), 0, "nobody waits for that one");
        one.ring(shard);
        one.ring(shard);
        assert_eq!(other.rings(), 1);
    }
}
