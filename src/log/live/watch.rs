//! The file `live`, for a process that reads a stream which another one has open.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::LIVE_NAME;
use crate::log::format::header::FRAMES_FROM;
use crate::log::format::live::{MAGIC, PAGE_SLOTS, SLOT_WORDS, bytes_at, header, place_at, slot};
use crate::log::sys::dir;
use crate::log::sys::fault;
use crate::log::sys::file::DataFile;
use crate::log::sys::process;
use crate::log::sys::root::OwnPath;
use crate::log::sys::words::{PAGE_BYTES, Words};
use crate::log::types::error::{Corruption, Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// The file `live` of a stream.
#[derive(Debug)]
pub(crate) struct LiveView {
    file: DataFile,
    header: Words,
    pages: Mutex<Vec<Arc<Page>>>,
    /// The last opening that was found to be one of this machine since its start.
    trusted: AtomicU64,
}

/// The words of one shard.
#[derive(Debug, Clone)]
pub(crate) struct SlotView {
    page: Arc<Page>,
    first: usize,
    shard: ShardId,
    opening: u64,
}

/// A page of slots.
#[derive(Debug)]
struct Page {
    path: OwnPath,
    number: u64,
    words: Words,
}

/// How often a slot that seems to be changing is read again, so that no content makes a reader look forever.
const LOOKS_MAX: u32 = 100_000;

/// What a slot shows: [`Seen::end`], [`Seen::horizon`] and [`Seen::closed`], as it stores them.
pub(crate) type SeenWords = [u64; 3];

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

impl Seen {
    /// Returns what a shard shows whose records are all trimmed.
    pub(crate) fn nothing(end: SequenceNumber) -> Self {
        Self { end, horizon: end, closed: None, last: None, before: None }
    }

    /// Returns the segment of this opening that holds the last record, if there is one, and how far it is committed. The segment that was begun
    /// last may hold no shown record yet.
    pub(crate) fn holder(&self) -> Option<(SequenceNumber, u64)> {
        [self.last, self.before].into_iter().flatten().find(|&(base, _)| base < self.end)
    }
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
        let opening = self.header.load(header::OPENING);
        if opening == self.trusted.load(Ordering::Relaxed) { opening } else { self.check(opening) }
    }

    #[cold]
    fn check(&self, opening: u64) -> u64 {
        let Ok(own) = self.file.identity() else { return 0 };
        let mut expected = (header::BOOT..).zip(process::boot_id()).chain((header::FILE..).zip(own));
        if self.header.load(header::MAGIC) != MAGIC
            || !expected.all(|(at, word)| self.header.load(at) == word)
        {
            return 0;
        }
        self.trusted.store(opening, Ordering::Relaxed);
        opening
    }

    /// Returns how many times the manifest was replaced.
    pub(crate) fn manifests(&self) -> u64 {
        self.header.load(header::MANIFESTS)
    }

    /// Returns whether each put is synced, if the file says so.
    pub(crate) fn syncs_each(&self) -> Option<bool> {
        (self.header.load(header::MAGIC) == MAGIC).then(|| self.header.load(header::SYNCS_EACH) != 0)
    }

    /// Returns the words that an opening shows of a shard, if it shows any.
    pub(crate) fn find(&self, shard: ShardId, opening: u64) -> Result<Option<SlotView>> {
        let mut pages = self.pages.lock();
        let count = (self.file.len()? / PAGE_BYTES).saturating_sub(1) as usize;
        while pages.len() < count {
            let number = pages.len() as u64 + 1;
            let words = Words::read_only(self.file.std(), number);
            let words = words.map_err(|error| self.file.error("map", error))?;
            pages.push(Arc::new(Page { path: self.file.path().clone(), number, words }));
        }
        let slots = pages.iter().flat_map(|page| (0..PAGE_SLOTS).map(move |slot| (page, slot * SLOT_WORDS)));
        let mut slots = slots.map(|(page, first)| SlotView { page: Arc::clone(page), first, shard, opening });
        Ok(slots.find(SlotView::is_of_shard))
    }
}

impl SlotView {
    #[inline]
    fn load(&self, at: usize) -> u64 {
        self.page.words.load(self.first + at)
    }

    #[inline]
    fn is_of_shard(&self) -> bool {
        self.load(slot::SHARD) == u64::from(self.shard.get()) + 1 && self.load(slot::OPENING) == self.opening
    }

    #[inline]
    fn words(&self) -> SeenWords {
        // Loaded first: if the shard is closed, what is loaded next is its last end.
        let closed = self.load(slot::CLOSED);
        [self.load(slot::END), self.load(slot::HORIZON), closed]
    }

    /// Returns whether the slot still belongs to the shard and shows no more than this.
    #[inline]
    pub(crate) fn shows(&self, seen: &SeenWords) -> bool {
        self.words() == *seen && self.is_of_shard()
    }

    /// Lets a test do something between two loads.
    #[inline]
    fn point(&self) {
        let _ = fault::point("load the words of a shard", Path::new(""));
    }

    /// Returns what the slot shows, and the words to compare with later, or `None` if the slot no longer belongs to the shard.
    ///
    /// # Errors
    /// `Corrupt` if its words still contradict each other after [`LOOKS_MAX`] looks.
    pub(crate) fn read(&self) -> Result<Option<(Seen, SeenWords)>> {
        for _ in 0..LOOKS_MAX {
            let words = self.words();
            self.point();
            let begun = self.load(slot::BEGUN);
            self.point();
            let place = |begun: u64| {
                let at = place_at(begun);
                let (base, committed) = (self.load(at), self.load(at + 1));
                (committed >= FRAMES_FROM).then(|| (SequenceNumber::new(base), committed))
            };
            let last = if begun > 0 { place(begun) } else { None };
            let before = if begun > 1 { place(begun - 1) } else { None };
            // A place may have been filled anew meanwhile.
            if self.load(slot::BEGUN) != begun {
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
            // The end is from before the last two segments began.
            if seen.holder().is_none() && seen.end > self.load(slot::OPENED).into() && self.is_of_shard() {
                continue;
            }
            return Ok(self.is_of_shard().then_some((seen, words)));
        }
        if self.is_of_shard() { Err(self.corrupt()) } else { Ok(None) }
    }

    #[cold]
    fn corrupt(&self) -> Error {
        let corruption = Corruption {
            path: self.page.path.to_path_buf(),
            shard: Some(self.shard),
            offset: self.page.number * PAGE_BYTES + (self.first * size_of::<u64>()) as u64,
            sequence: None,
            reason: "what it says of the shard's end and segments cannot be".to_owned(),
        };
        corruption.into_error()
    }

    pub(crate) fn counts(&self) -> SeenCounts {
        let put_bytes = loop {
            let begun = self.load(slot::BEGUN);
            let (bytes, committed) = (self.load(bytes_at(begun)), self.load(place_at(begun) + 1));
            // They may be of a later segment.
            if self.load(slot::BEGUN) == begun {
                break if begun > 0 { bytes.wrapping_add(committed) } else { 0 };
            }
        };
        SeenCounts {
            opened_at: self.load(slot::OPENED).into(),
            put_bytes,
            synced: self.load(slot::SYNCED).into(),
            saved_bytes: self.load(slot::SAVED),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, Instant};

    use super::super::publish::{Begin, Live};
    use super::*;
    use crate::log::sys::fault::set_hook;

    #[test]
    fn l8_words_count_only_in_the_file_and_since_the_start_for_which_they_were_written() {
        let directory = tempfile::tempdir().unwrap();
        let root = OwnPath::open_root(directory.path()).unwrap();
        assert!(LiveView::open(&root).unwrap().is_none());
        let live = Live::open(&root, true).unwrap();
        let view = LiveView::open(&root).unwrap().unwrap();
        assert_eq!(view.opening(), 0, "the stream is being opened");
        live.begin();
        let opening = view.opening();
        assert_ne!(opening, 0);
        assert_eq!(view.syncs_each(), Some(true));

        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(directory.path().join(LIVE_NAME), copy.path().join(LIVE_NAME)).unwrap();
        let copy = OwnPath::open_root(copy.path()).unwrap();
        assert_eq!(LiveView::open(&copy).unwrap().unwrap().opening(), 0, "a copy");

        let slot = live.slot(of_shard(77)).unwrap();
        let last = view.find(ShardId::new(77), opening).unwrap().unwrap();
        let again = Live::open(&root, false).unwrap();
        let mut slots: Vec<_> = (0..100).map(|shard| again.slot(of_shard(shard)).unwrap()).collect();
        slots[77].begin_segment(10.into(), 4096, 0);
        slots[77].put(4200, 11.into());
        assert_eq!(
            (view.opening(), last.read().unwrap().unwrap().0.end),
            (opening, 10.into()),
            "until it begins"
        );
        again.begin();
        let next = view.opening();
        assert!(next != opening && next != 0);
        assert!(last.read().unwrap().is_none() && view.find(ShardId::new(77), opening).unwrap().is_none());
        let seen = view.find(ShardId::new(77), next).unwrap().unwrap().read().unwrap().unwrap().0;
        assert_eq!(seen.end, 11.into());
        // The process that had it open before may still have a thread.
        slot.show_synced(1.into());

        super::super::publish::withdraw(&root).unwrap();
        assert_eq!(view.opening(), 0);
    }

    #[test]
    fn l8_a_segment_without_records_hides_none_of_those_before() {
        let directory = tempfile::tempdir().unwrap();
        let root = OwnPath::open_root(directory.path()).unwrap();
        let live = Live::open(&root, false).unwrap();
        live.begin();
        let mut slot = live.slot(of_shard(3)).unwrap();
        let view = LiveView::open(&root).unwrap().unwrap();
        let shown = view.find(ShardId::new(3), view.opening()).unwrap().unwrap();
        slot.begin_segment(10.into(), 4096, 0);
        slot.put(5000, 15.into());
        // It is begun for its date, and once more for a frame that is larger.
        for _ in 0..2 {
            slot.begin_segment(15.into(), 4096, 904);
            let seen = shown.read().unwrap().unwrap().0;
            assert_eq!(seen.holder(), Some((10.into(), 5000)));
            assert_eq!(shown.counts().put_bytes, 5000);
        }
        slot.put(4200, 16.into());
        let seen = shown.read().unwrap().unwrap().0;
        assert_eq!((seen.holder(), seen.before), (Some((15.into(), 4200)), Some((10.into(), 5000))));
    }

    #[test]
    fn l8_segments_that_begin_between_two_loads_do_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        let root = OwnPath::open_root(directory.path()).unwrap();
        let live = Live::open(&root, false).unwrap();
        live.begin();
        let view = LiveView::open(&root).unwrap().unwrap();
        for (shard, (at, count)) in (0..).zip((0..2).flat_map(|at| (1..5).map(move |count| (at, count)))) {
            let mut slot = live.slot(of_shard(shard)).unwrap();
            let shown = view.find(ShardId::new(shard), view.opening()).unwrap().unwrap();
            let mut end = 10;
            let mut begin = move |slot: &mut super::super::publish::Slot| {
                slot.begin_segment(end.into(), 4096, 0);
                end += 1;
                slot.put(5000, end.into());
            };
            (0..2).for_each(|_| begin(&mut slot));
            let mut number = 0;
            set_hook(Some(Box::new(move |_, _| {
                if number == at {
                    (0..count).for_each(|_| begin(&mut slot));
                }
                number += 1;
                Ok(())
            })));
            let seen = shown.read().unwrap().unwrap().0;
            set_hook(None);
            let (base, committed) = seen.holder().unwrap();
            assert_eq!((base.get() + 1, committed), (seen.end.get(), 5000), "at {at}, {count}: {seen:?}");
            assert!(seen.before.is_none_or(|(before, _)| before.plus(1) == seen.last.unwrap().0), "{seen:?}");
        }
    }

    #[test]
    fn p11_words_that_cannot_be_end_the_look() {
        let directory = tempfile::tempdir().unwrap();
        let root = OwnPath::open_root(directory.path()).unwrap();
        let live = Live::open(&root, false).unwrap();
        live.begin();
        let mut slot = live.slot(of_shard(3)).unwrap();
        let view = LiveView::open(&root).unwrap().unwrap();
        let shown = view.find(ShardId::new(3), view.opening()).unwrap().unwrap();
        // No segment holds these records.
        slot.put(5000, 99.into());
        let Err(Error::Corrupt(damage)) = shown.read() else { panic!("no process shows that") };
        assert!(damage.path.ends_with(LIVE_NAME) && damage.shard == Some(ShardId::new(3)));
        assert_eq!(damage.offset, PAGE_BYTES);
        live.free(&mut slot);
        assert!(shown.read().unwrap().is_none(), "it shows another shard, or none");
    }

    #[test]
    fn l8_a_slot_that_is_read_while_it_is_written_shows_one_moment() {
        const RECORDS: u64 = 3;
        const RECORD_BYTES: u64 = 10;
        let directory = tempfile::tempdir().unwrap();
        let root = OwnPath::open_root(directory.path()).unwrap();
        let live = Live::open(&root, false).unwrap();
        live.begin();
        let mut slot = live.slot(Begin { end: 0.into(), horizon: 0.into(), ..of_shard(3) }).unwrap();
        let view = LiveView::open(&root).unwrap().unwrap();
        let shown = view.find(ShardId::new(3), view.opening()).unwrap().unwrap();
        let until = Instant::now() + Duration::from_millis(300);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for base in (0..).step_by(RECORDS as usize) {
                    let bytes_before = (base * RECORD_BYTES).wrapping_sub(FRAMES_FROM);
                    slot.begin_segment(base.into(), FRAMES_FROM, bytes_before);
                    for count in 1..=RECORDS {
                        slot.put(FRAMES_FROM + count * RECORD_BYTES, (base + count).into());
                    }
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
            // Also if something below fails.
            let _over = OnDrop(&is_over);
            let mut last_end = 0;
            while Instant::now() < until {
                let seen = shown.read().unwrap().unwrap().0;
                let end = seen.end.get();
                let count_in = |committed| (committed - FRAMES_FROM) / RECORD_BYTES;
                assert!(end >= last_end);
                if let Some((last, committed)) = seen.last {
                    assert_eq!(last.get() % RECORDS, 0);
                    assert!(last.get() + count_in(committed) >= end, "{seen:?}");
                }
                if let (Some(last), Some(before)) = (seen.last, seen.before) {
                    assert_eq!(before.0.get() + RECORDS, last.0.get(), "{seen:?}");
                    assert_eq!(count_in(before.1), RECORDS, "{seen:?}");
                }
                let put_bytes = shown.counts().put_bytes;
                last_end = shown.read().unwrap().unwrap().0.end.get();
                let possible = end * RECORD_BYTES..=(last_end + 1) * RECORD_BYTES;
                assert!(possible.contains(&put_bytes), "{put_bytes} of {possible:?}");
            }
        });
    }

    /// Sets a flag on drop.
    struct OnDrop<'a>(&'a AtomicBool);

    impl Drop for OnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn l8_without_room_for_the_words_nothing_that_was_shown_before_counts() {
        let directory = tempfile::tempdir().unwrap();
        let root = OwnPath::open_root(directory.path()).unwrap();
        Live::open(&root, false).unwrap().begin();
        let view = LiveView::open(&root).unwrap().unwrap();
        assert_ne!(view.opening(), 0);
        set_hook(Some(Box::new(|action, _| match action {
            "allocate blocks for" => Err(std::io::Error::from_raw_os_error(28)),
            _ => Ok(()),
        })));
        let unseen = Live::open(&root, false).map(|live| live.begin());
        set_hook(None);
        unseen.unwrap();
        assert_eq!(view.opening(), 0);
    }

    fn of_shard(shard: u32) -> Begin {
        Begin {
            shard: ShardId::new(shard),
            end: 10.into(),
            horizon: 4.into(),
            synced: 10.into(),
            is_closed: false,
        }
    }

    #[test]
    fn l8_a_slot_shows_a_shard_until_that_expires() {
        let directory = tempfile::tempdir().unwrap();
        let root = OwnPath::open_root(directory.path()).unwrap();
        let live = Live::open(&root, false).unwrap();
        live.begin();
        let mut slots: Vec<_> = (0..100).map(|shard| live.slot(of_shard(shard)).unwrap()).collect();
        let view = LiveView::open(&root).unwrap().unwrap();
        let opening = view.opening();
        let slot = view.find(ShardId::new(77), opening).unwrap().unwrap();
        assert!(view.find(ShardId::new(77), opening ^ 1).unwrap().is_none(), "another opening's");
        let (seen, words) = slot.read().unwrap().unwrap();
        assert_eq!((seen.end, seen.horizon, seen.last, seen.closed), (10.into(), 4.into(), None, None));
        slots[77].begin_segment(10.into(), 4096, 0);
        slots[77].put(4200, 11.into());
        assert!(!slot.shows(&words));
        slots[77].begin_segment(11.into(), 4096, 104u64.wrapping_sub(4096));
        slots[77].show_closed(11.into());
        let (seen, words) = slot.read().unwrap().unwrap();
        assert_eq!((seen.end, seen.closed), (11.into(), Some(11.into())));
        assert_eq!((seen.last, seen.before), (Some((11.into(), 4096)), Some((10.into(), 4200))));
        assert_eq!(slot.counts().put_bytes, 104);
        live.free(&mut slots[77]);
        slots[77].put(4300, 12.into());
        assert!(
            !slot.shows(&words)
                && slot.read().unwrap().is_none()
                && view.find(ShardId::new(77), opening).unwrap().is_none()
        );
        live.slot(of_shard(777)).unwrap();
        assert!(slot.read().unwrap().is_none(), "another shard's");
        let again = view.find(ShardId::new(777), opening).unwrap().unwrap();
        assert_eq!(
            (again.page.number, again.first),
            (slot.page.number, slot.first),
            "the file grows only if more shards are there at a time"
        );
    }
}
