//! Pages of words in a file that several processes map: one stores a word, the others load it.
//!
//! The invariants that the unsafe code relies on, besides those of `map.rs`:
//! - **I7** the words of such a page are only accessed through atomics, and each word always in one size;
//! - **I8** the file has blocks for the page, and is never shortened.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use memmap2::{MmapMut, MmapOptions, MmapRaw};

use super::fault;

/// The size of a page, whatever the size of the processor's pages.
pub(crate) const PAGE_BYTES: u64 = 4096;
const WORD_BYTES: usize = size_of::<u64>();

/// A mapped page of words.
#[derive(Debug)]
pub(crate) struct Words {
    raw: MmapRaw,
    writable: bool,
}

impl Words {
    /// Maps a page of a file, which must have blocks there, for a process that stores words.
    pub(crate) fn writable(file: &File, page: u64) -> io::Result<Self> {
        Self::map(file, page, true)
    }

    /// Maps a page of a file for a process that only loads words.
    pub(crate) fn read_only(file: &File, page: u64) -> io::Result<Self> {
        Self::map(file, page, false)
    }

    fn map(file: &File, page: u64, writable: bool) -> io::Result<Self> {
        let (from, to) = (page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
        if file.metadata()?.len() < to {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        fault::point("map", Path::new(""))?;
        let mut options = MmapOptions::new();
        options.offset(from).len(PAGE_BYTES as usize);
        let raw = if writable { options.map_raw(file)? } else { options.map_raw_read_only(file)? };
        Ok(Self { raw, writable })
    }

    /// Returns a page that no other process sees.
    pub(crate) fn private() -> io::Result<Self> {
        let raw = MmapRaw::from(MmapMut::map_anon(PAGE_BYTES as usize)?);
        Ok(Self { raw, writable: true })
    }

    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        assert!((at + 1) * WORD_BYTES <= PAGE_BYTES as usize, "no word {at}");
        // SAFETY: the word lies in the page, which has blocks for as long as it is mapped (I8). It is aligned, since mappings begin at a
        // page. All access is through atomics of this size (I7), except for the words of `half`, which nobody accesses through here.
        unsafe { AtomicU64::from_ptr(self.raw.as_mut_ptr().add(at * WORD_BYTES).cast()) }
    }

    /// Loads a word, and with it everything that was stored before the word.
    #[inline]
    pub(crate) fn load(&self, at: usize) -> u64 {
        // A relaxed load is the only one that a page allows which is mapped for reading.
        let value = self.word(at).load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        value
    }

    /// Loads a word whose value orders nothing.
    #[inline]
    pub(crate) fn peek(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::Relaxed)
    }

    /// Stores a word, after everything that was stored before.
    #[inline]
    pub(crate) fn store(&self, at: usize, value: u64) {
        assert!(self.writable, "the page is mapped for reading");
        self.word(at).store(value, Ordering::Release);
    }

    /// Returns the lower half of a word that is used for nothing else. A process that maps the page for reading must only load it.
    pub(crate) fn half(&self, at: usize) -> &AtomicU32 {
        assert!((at + 1) * WORD_BYTES <= PAGE_BYTES as usize, "no word {at}");
        // SAFETY: as in `word`; the caller uses this word only in this size (I7).
        unsafe { AtomicU32::from_ptr(self.raw.as_mut_ptr().add(at * WORD_BYTES).cast()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_one_mapping_stores_is_loaded_through_another() {
        let file = tempfile::tempfile().unwrap();
        assert!(Words::writable(&file, 0).is_err(), "the file is too short");
        file.set_len(2 * PAGE_BYTES).unwrap();
        let (one, other) = (Words::writable(&file, 1).unwrap(), Words::read_only(&file, 1).unwrap());
        one.store(511, 77);
        assert_eq!((other.load(511), other.load(510)), (77, 0));
        one.half(3).fetch_add(1, Ordering::Relaxed);
        assert_eq!(other.half(3).load(Ordering::Relaxed), 1);
        assert_eq!(Words::read_only(&file, 0).unwrap().load(511), 0, "another page");
        assert_eq!(Words::private().unwrap().load(0), 0);
    }

    #[test]
    #[should_panic(expected = "mapped for reading")]
    fn a_page_that_is_mapped_for_reading_takes_no_store() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(PAGE_BYTES).unwrap();
        Words::read_only(&file, 0).unwrap().store(0, 1);
    }

    #[test]
    #[should_panic(expected = "no word 512")]
    fn a_word_behind_the_page_is_out_of_reach() {
        Words::private().unwrap().load(512);
    }
}
