//! The file `live`, for a process that reads a stream which another one has open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::LIVE_NAME;
use crate::log::format::header::FRAMES_FROM;
use crate::log::format::live::{
    BEGUN_AT, BOOT_AT, BYTES_AT, CLOSED_AT, END_AT, FILE_AT, HORIZON_AT, MAGIC, MAGIC_AT, MANIFESTS_AT,
    OPENED_AT, OPENING_AT, PAGE_SLOTS, SAVED_AT, SHARD_AT, SLOT_WORDS, SYNCED_AT, SYNCS_EACH_AT, place_at,
};
use crate::log::sys::dir;
use crate::log::sys::file::DataFile;
use crate::log::sys::process;
use crate::log::sys::root::OwnPath;
use crate::log::sys::words::{PAGE_BYTES, Words};
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// The file `live` of a stream.
#[derive(Debug)]
pub(crate) struct LiveView {
    file: DataFile,
    header: Words,
    pages: Mutex<Vec<Arc<Words>>>,
    /// The last opening that was found to be one of this machine since its start.
    trusted: AtomicU64,
}

/// The words of one shard.
#[derive(Debug, Clone)]
pub(crate) struct SlotView {
    page: Arc<Words>,
    first: usize,
    shard: ShardId,
}

/// What a slot shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) end: SequenceNumber,
    pub(crate) horizon: SequenceNumber,
    /// The number after the last record, if the shard is closed.
    pub(crate) closed: Option<SequenceNumber>,
    /// The segment that was begun last by this opening, and how far it is committed.
    pub(crate) last: Option<(SequenceNumber, u64)>,
    /// The one before.
    pub(crate) before: Option<(SequenceNumber, u64)>,
}

/// The counts in a slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeenCounts {
    pub(crate) opened_at: SequenceNumber,
    pub(crate) put_bytes: u64,
    pub(crate) synced: SequenceNumber,
    pub(crate) saved_bytes: u64,
}

impl LiveView {
    /// Opens the file, if there is one.
    pub(crate) fn open(root: &OwnPath) -> Result<Option<Self>> {
        let path = root.join(LIVE_NAME);
        if !dir::exists(&path)? {
            return Ok(None);
        }
        let file = DataFile::open(&path)?;
        // It is being created.
        if file.len()? < PAGE_BYTES {
            return Ok(None);
        }
        let header = Words::read_only(file.std(), 0).map_err(|error| file.error("map", error))?;
        Ok(Some(Self { file, header, pages: Mutex::default(), trusted: AtomicU64::new(0) }))
    }

    /// Returns the number of the opening whose words these are, or 0 if they do not count.
    #[inline]
    pub(crate) fn opening(&self) -> u64 {
        let opening = self.header.load(OPENING_AT);
        if opening == self.trusted.load(Ordering::Relaxed) { opening } else { self.check(opening) }
    }

    #[cold]
    fn check(&self, opening: u64) -> u64 {
        let Ok(own) = self.file.identity() else { return 0 };
        let mut expected = (BOOT_AT..).zip(process::boot_id()).chain((FILE_AT..).zip(own));
        if self.header.load(MAGIC_AT) != MAGIC || !expected.all(|(at, word)| self.header.load(at) == word) {
            return 0;
        }
        self.trusted.store(opening, Ordering::Relaxed);
        opening
    }

    /// Returns how many times the manifest was replaced.
    pub(crate) fn manifests(&self) -> u64 {
        self.header.load(MANIFESTS_AT)
    }

    /// Returns whether each put is synced, if the file says so.
    pub(crate) fn syncs_each(&self) -> Option<bool> {
        (self.header.load(MAGIC_AT) == MAGIC).then(|| self.header.load(SYNCS_EACH_AT) != 0)
    }

    /// Returns the words of a shard, if it has any.
    pub(crate) fn find(&self, shard: ShardId) -> Result<Option<SlotView>> {
        let mut pages = self.pages.lock();
        let count = (self.file.len()? / PAGE_BYTES).saturating_sub(1) as usize;
        while pages.len() < count {
            let page = Words::read_only(self.file.std(), pages.len() as u64 + 1);
            pages.push(Arc::new(page.map_err(|error| self.file.error("map", error))?));
        }
        let slots = pages.iter().flat_map(|page| (0..PAGE_SLOTS).map(move |slot| (page, slot * SLOT_WORDS)));
        let mut slots = slots.map(|(page, first)| SlotView { page: Arc::clone(page), first, shard });
        Ok(slots.find(SlotView::is_of_shard))
    }
}

impl SlotView {
    #[inline]
    fn load(&self, at: usize) -> u64 {
        self.page.load(self.first + at)
    }

    #[inline]
    fn is_of_shard(&self) -> bool {
        self.load(SHARD_AT) == u64::from(self.shard.get()) + 1
    }

    #[inline]
    fn words(&self) -> [u64; 3] {
        [self.load(END_AT), self.load(HORIZON_AT), self.load(CLOSED_AT)]
    }

    /// Returns whether the slot still belongs to the shard and shows no more than this.
    #[inline]
    pub(crate) fn shows(&self, seen: &[u64; 3]) -> bool {
        self.words() == *seen && self.is_of_shard()
    }

    /// Returns what the slot shows, and the words to compare with later. Returns `None` if the slot no longer belongs to the shard.
    pub(crate) fn read(&self) -> Option<(Seen, [u64; 3])> {
        loop {
            let words = self.words();
            let begun = self.load(BEGUN_AT);
            let place = |begun: u64| {
                let at = place_at(begun);
                let (base, committed) = (self.load(at), self.load(at + 1));
                (committed >= FRAMES_FROM).then(|| (SequenceNumber::new(base), committed))
            };
            let last = if begun > 0 { place(begun) } else { None };
            let before = if begun > 1 { place(begun - 1) } else { None };
            // A place may have been filled anew meanwhile.
            if self.load(BEGUN_AT) != begun {
                continue;
            }
            let [end, horizon, closed] = words;
            let seen = Seen {
                end: end.into(),
                horizon: horizon.into(),
                closed: closed.checked_sub(1).map(SequenceNumber::new),
                last,
                before,
            };
            return self.is_of_shard().then_some((seen, words));
        }
    }

    pub(crate) fn counts(&self) -> SeenCounts {
        let (bytes, begun) = (self.load(BYTES_AT), self.load(BEGUN_AT));
        let committed = self.load(place_at(begun) + 1);
        SeenCounts {
            opened_at: self.load(OPENED_AT).into(),
            put_bytes: bytes.wrapping_add(committed),
            synced: self.load(SYNCED_AT).into(),
            saved_bytes: self.load(SAVED_AT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::publish::{Begin, Live};
    use super::*;

    #[test]
    fn l8_words_count_only_in_the_file_and_since_the_start_for_which_they_were_written() {
        let directory = tempfile::tempdir().unwrap();
        let root = OwnPath::open_root(directory.path()).unwrap();
        assert!(LiveView::open(&root).unwrap().is_none());
        let live = Live::open(&root, true).unwrap();
        let view = LiveView::open(&root).unwrap().unwrap();
        assert_eq!(view.opening(), 0, "the stream is being opened");
        live.begin().unwrap();
        let opening = view.opening();
        assert_ne!(opening, 0);
        assert_eq!(view.syncs_each(), Some(true));

        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(directory.path().join(LIVE_NAME), copy.path().join(LIVE_NAME)).unwrap();
        let copy = OwnPath::open_root(copy.path()).unwrap();
        assert_eq!(LiveView::open(&copy).unwrap().unwrap().opening(), 0, "a copy");

        let again = Live::open(&root, false).unwrap();
        assert_eq!(view.opening(), 0);
        again.begin().unwrap();
        assert_ne!(view.opening(), opening);
    }

    #[test]
    fn l8_a_slot_shows_a_shard_until_that_expires() {
        let directory = tempfile::tempdir().unwrap();
        let root = OwnPath::open_root(directory.path()).unwrap();
        let live = Live::open(&root, false).unwrap();
        let begin = |shard| Begin {
            shard: ShardId::new(shard),
            end: 10.into(),
            horizon: 4.into(),
            synced: 10.into(),
            is_closed: false,
        };
        let mut slots: Vec<_> = (0..100).map(|shard| live.slot(begin(shard)).unwrap()).collect();
        let view = LiveView::open(&root).unwrap().unwrap();
        let slot = view.find(ShardId::new(77)).unwrap().unwrap();
        let (seen, words) = slot.read().unwrap();
        assert_eq!((seen.end, seen.horizon, seen.last, seen.closed), (10.into(), 4.into(), None, None));
        slots[77].begin_segment(10.into(), 4096, 0);
        slots[77].put(4200, 11.into());
        assert!(!slot.shows(&words));
        slots[77].begin_segment(11.into(), 4096, 104u64.wrapping_sub(4096));
        slots[77].show_closed(11.into());
        let (seen, words) = slot.read().unwrap();
        assert_eq!((seen.end, seen.closed), (11.into(), Some(11.into())));
        assert_eq!((seen.last, seen.before), (Some((11.into(), 4096)), Some((10.into(), 4200))));
        assert_eq!(slot.counts().put_bytes, 104);
        live.free(&mut slots[77]);
        slots[77].put(4300, 12.into());
        assert!(
            !slot.shows(&words) && slot.read().is_none() && view.find(ShardId::new(77)).unwrap().is_none()
        );
        live.slot(begin(777)).unwrap();
        assert!(slot.read().is_none(), "another shard's");
    }
}
