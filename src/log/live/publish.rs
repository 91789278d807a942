//! The file `live`, for the process that has the stream open.

use std::sync::Arc;

use parking_lot::Mutex;

use super::LIVE_NAME;
use crate::log::format::live::{MAGIC, PAGE_SLOTS, SLOT_WORDS, bytes_at, header, place_at, slot};
use crate::log::sys::file::DataFile;
use crate::log::sys::root::OwnPath;
use crate::log::sys::words::{PAGE_BYTES, Words};
use crate::log::sys::{dir, process, random};
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// The file `live` of an open stream.
#[derive(Debug)]
pub(crate) struct Live {
    path: OwnPath,
    header: Words,
    /// The number of this opening.
    opening: u64,
    syncs_each: bool,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    pages: Vec<Arc<Words>>,
    /// How many of them are pages of the file.
    shared_count: usize,
    /// The numbers of the slots that no shard has.
    free: Vec<usize>,
    /// The numbers of the slots of the last opening, which counts until this one does.
    last: Vec<usize>,
}

/// The words of one shard. The shard's append lock protects it.
#[derive(Debug)]
pub(crate) struct Slot {
    page: Arc<Words>,
    /// The number of its first word in the page.
    first: usize,
    /// The number of the slot, until the shard has expired.
    number: Option<usize>,
    /// The number of the word with the committed offset of the last segment.
    committed: usize,
}

/// What a slot shows at first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begin {
    pub(crate) shard: ShardId,
    pub(crate) end: SequenceNumber,
    pub(crate) horizon: SequenceNumber,
    pub(crate) synced: SequenceNumber,
    pub(crate) is_closed: bool,
}

/// Invalidates what the file shows, because the stream is deleted.
pub(crate) fn withdraw(root: &OwnPath) -> Result<()> {
    let path = root.join(LIVE_NAME);
    if dir::exists(&path)? {
        let file = DataFile::open_writable(&path)?;
        if file.len()? >= PAGE_BYTES {
            let header = Words::writable(file.std(), 0).map_err(|error| file.error("map", error))?;
            header.store(header::OPENING, 0);
        }
    }
    Ok(())
}

impl Live {
    /// Opens the file, or creates it. What it shows of the last opening counts until [`begin`](Self::begin): recovery leaves everything that could
    /// be read then. Otherwise, while the next process opens the stream, a reader would miss the last puts of one that was killed.
    ///
    /// If the disk has no room for the file, other processes do not see how far the shards are until the stream is opened again.
    pub(crate) fn open(root: &OwnPath, syncs_each: bool) -> Result<Self> {
        let path = root.join(LIVE_NAME);
        let file = DataFile::open_or_create(&path)?;
        let pages = file.len()?.div_ceil(PAGE_BYTES).max(2);
        // Existing pages too: a copy of the file may have holes.
        let header = match file.allocate(0, pages * PAGE_BYTES) {
            Ok(()) => Words::writable(file.std(), 0),
            Err(Error::StorageFull(_)) => {
                // What it showed before must not count either. If it has no block for this write, it reads as zero already.
                let _ = file.write_all_at(&0u64.to_ne_bytes(), (header::OPENING * size_of::<u64>()) as u64);
                Words::private()
            }
            Err(error) => return Err(error),
        };
        let header = header.map_err(|error| file.error("map", error))?;
        let random: [u8; 8] =
            random::bytes().map_err(|error| Error::io("get random bytes for", &path, error))?;
        let opening = u64::from_ne_bytes(random).max(1);
        let identity = (header::BOOT..).zip(process::boot_id()).chain((header::FILE..).zip(file.identity()?));
        let counts =
            header.load(header::MAGIC) == MAGIC && identity.clone().all(|(at, word)| header.load(at) == word);
        if !counts {
            header.store(header::OPENING, 0);
            identity.for_each(|(at, word)| header.store(at, word));
            header.store(header::MAGIC, MAGIC);
        }
        let last = header.load(header::OPENING);
        let mut slots = Slots::default();
        (1..pages).try_for_each(|_| slots.add_page_or_unseen(&file, last))?;
        Ok(Self { path, header, opening, syncs_each, slots: Mutex::new(slots) })
    }

    /// Makes this opening count instead of the last one.
    pub(crate) fn begin(&self) {
        self.header.store(header::SYNCS_EACH, u64::from(self.syncs_each));
        self.header.store(header::OPENING, self.opening);
        let mut slots = self.slots.lock();
        let last = std::mem::take(&mut slots.last);
        last.iter().for_each(|&slot| slots.clear(slot));
        slots.free.extend(last.into_iter().rev());
    }

    /// Shows that the manifest was replaced.
    pub(crate) fn note_manifest(&self) {
        self.header.store(header::MANIFESTS, self.header.load(header::MANIFESTS).wrapping_add(1));
    }

    /// Makes sure that this many shards get a slot that others see.
    pub(crate) fn reserve(&self, count: usize) -> Result<()> {
        let mut slots = self.slots.lock();
        while slots.free.len() < count {
            slots.add_page(&DataFile::open_writable(&self.path)?, 0)?;
        }
        Ok(())
    }

    /// Returns a slot for a shard. If there is none that others see, it returns one that they do not see.
    pub(crate) fn slot(&self, begin: Begin) -> Result<Slot> {
        let mut slots = self.slots.lock();
        if slots.free.is_empty() {
            slots.add_page_or_unseen(&DataFile::open_writable(&self.path)?, 0)?;
        }
        let number = slots.free.pop().expect("a page has slots");
        let page = Arc::clone(&slots.pages[number / PAGE_SLOTS]);
        drop(slots);
        let first = number % PAGE_SLOTS * SLOT_WORDS;
        let slot = Slot { page, first, number: Some(number), committed: place_at(0) + 1 };
        (slot::END..SLOT_WORDS).for_each(|at| slot.store(at, 0));
        slot.store(slot::HORIZON, begin.horizon.get());
        slot.store(slot::CLOSED, if begin.is_closed { begin.end.get() + 1 } else { 0 });
        slot.store(slot::OPENED, begin.end.get());
        slot.store(slot::SYNCED, begin.synced.get());
        slot.store(slot::END, begin.end.get());
        slot.store(slot::OPENING, self.opening);
        slot.store(slot::SHARD, u64::from(begin.shard.get()) + 1);
        Ok(slot)
    }

    /// Takes back the slot of a shard that has expired. Nobody sees what the shard shows from now on.
    pub(crate) fn free(&self, slot: &mut Slot) {
        // Without another page for what follows, the slot stays unused.
        if let (Some(number), Ok(unseen)) = (slot.number.take(), Words::private()) {
            slot.store(slot::SHARD, 0);
            slot.page = Arc::new(unseen);
            self.slots.lock().free.push(number);
        }
    }
}

impl Slots {
    /// Adds a page of slots, which are free unless they are of the opening `last`.
    ///
    /// # Errors
    /// `StorageFull`, and others.
    fn add_page(&mut self, file: &DataFile, last: u64) -> Result<()> {
        let number = self.shared_count as u64 + 1;
        file.allocate(number * PAGE_BYTES, (number + 1) * PAGE_BYTES)?;
        let page = Words::writable(file.std(), number).map_err(|error| file.error("map", error))?;
        self.shared_count += 1;
        self.add(page, last);
        Ok(())
    }

    /// Does what [`add_page`](Self::add_page) does. Other processes do not see the page if the disk has no room for it.
    fn add_page_or_unseen(&mut self, file: &DataFile, last: u64) -> Result<()> {
        match self.add_page(file, last) {
            Err(Error::StorageFull(_)) => {
                self.add(Words::private().map_err(|error| file.error("map", error))?, 0);
                Ok(())
            }
            added => added,
        }
    }

    fn add(&mut self, page: Words, last: u64) {
        let first = self.pages.len() * PAGE_SLOTS;
        let is_of_last = |&slot: &usize| {
            let word = |at| page.load((slot - first) * SLOT_WORDS + at);
            last != 0 && word(slot::SHARD) != 0 && word(slot::OPENING) == last
        };
        let (of_last, free): (Vec<_>, Vec<_>) = (first..first + PAGE_SLOTS).partition(is_of_last);
        self.pages.push(Arc::new(page));
        free.iter().for_each(|&slot| self.clear(slot));
        self.last.extend(of_last);
        // The first ones are taken first.
        self.free.splice(0..0, free.into_iter().rev());
    }

    /// Takes a slot away from its shard.
    fn clear(&self, slot: usize) {
        self.pages[slot / PAGE_SLOTS].store(slot % PAGE_SLOTS * SLOT_WORDS + slot::SHARD, 0);
    }
}

impl Slot {
    #[inline]
    fn store(&self, at: usize, value: u64) {
        self.page.store(self.first + at, value);
    }

    /// Shows that a segment begins, in which the frames end at `committed`. Added to that offset, `bytes_before` gives the bytes that were
    /// put since the stream was opened. It may be below zero.
    pub(crate) fn begin_segment(&mut self, base: SequenceNumber, committed: u64, bytes_before: u64) {
        let begun = self.page.load(self.first + slot::BEGUN);
        if begun > 0 && self.page.load(self.first + place_at(begun)) == base.get() {
            // It is begun again without records. Its place stays, so that the one before still has the end of the last records.
            self.store(self.committed, committed);
            self.store(bytes_at(begun), bytes_before);
            return;
        }
        let begun = begun.wrapping_add(1);
        let place = place_at(begun);
        self.store(place, base.get());
        self.store(place + 1, committed);
        self.store(bytes_at(begun), bytes_before);
        self.committed = place + 1;
        self.store(slot::BEGUN, begun);
    }

    /// Shows that all records below `end` can be read, which are in the last segment up to `committed`.
    #[inline]
    pub(crate) fn put(&self, committed: u64, end: SequenceNumber) {
        self.store(self.committed, committed);
        self.store(slot::END, end.get());
    }

    pub(crate) fn show_horizon(&self, horizon: SequenceNumber) {
        self.store(slot::HORIZON, horizon.get());
    }

    pub(crate) fn show_saved(&self, bytes: u64) {
        self.store(slot::SAVED, bytes);
    }

    pub(crate) fn show_synced(&self, synced: SequenceNumber) {
        self.store(slot::SYNCED, synced.get());
    }

    /// Shows that the shard is closed at `end`. Its children must have their slots.
    pub(crate) fn show_closed(&self, end: SequenceNumber) {
        self.store(slot::CLOSED, end.get() + 1);
    }
}
