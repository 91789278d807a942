//! Memory-mapped segments.
//!
//! The invariants that the unsafe code relies on:
//! - **I1** a file is never shortened below the `committed` of a live mapping of it;
//! - **I2** bytes below the `committed` of a live mapping are not written again, except for the live words of the header page;
//! - **I3** a slice is made only of bytes below `committed` (and, where there is a writer, behind the header page), and writes go through
//!   raw pointers, so no `&mut [u8]` over shared bytes exists;
//! - **I4** nothing touches bytes beyond those allocated to the file;
//! - **I9** a mapping of a file that another process writes shows no more than that process has committed, and holds a shared lock on the
//!   file: the writer keeps I1 and I2 for it as for its own mappings, and does not fill the file again.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use memmap2::{Advice, MmapOptions, MmapRaw};

use super::watermark::{Observed, Watermark};
use super::{fault, processor};
use crate::log::format::frame::END_MARK;

/// A mapped segment as its readers see it: its committed bytes.
#[derive(Debug)]
pub(crate) struct Map {
    raw: MmapRaw,
    watermark: Watermark,
    /// The first byte that a slice may hold. A writer changes the bytes before it.
    slices_from: u64,
    writable: bool,
    /// For a file that another process writes.
    followed: Option<Followed>,
}

/// A file that another process writes.
#[derive(Debug)]
struct Followed {
    /// Open and locked for as long as it is mapped.
    file: File,
    /// How long it is at least.
    len: AtomicU64,
}

/// Adds the limits that a failed mapping may have hit to its error.
fn name_limit(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::OutOfMemory {
        return error;
    }
    let count_max = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    let count_max = if count_max.is_empty() { String::new() } else { format!(", now {}", count_max.trim()) };
    let text = format!(
        "{error}: it has too many mappings (sysctl vm.max_map_count{count_max}), or too little address space (ulimit -v)"
    );
    io::Error::new(error.kind(), text)
}

/// How far ahead of the writer its next cache lines are requested, and at most how many bytes of them at a time. A cache has room for that
/// much.
const EXPECTED_AHEAD: usize = 512;
const EXPECTED_BYTES_MAX: usize = 2 << 10;
/// The smallest write after which lines are requested. After shorter ones the processor fetches the lines in time by itself, and a request
/// would cost more than it saves.
const EXPECTED_FROM_BYTES: usize = 512;

/// The only writer of a mapped segment.
#[derive(Debug)]
pub(crate) struct MapWriter {
    map: Arc<Map>,
    /// The bytes of the file that have blocks.
    allocated: u64,
    /// Where the next frame goes. `commit` raises `committed` to it.
    end: u64,
}

impl Map {
    /// Maps the first `len` bytes of a file that nobody writes to. Fails if the file is shorter.
    pub(crate) fn read_only(file: &File, len: u64) -> io::Result<Arc<Self>> {
        if file.metadata()?.len() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        fault::point("map", Path::new(""))?;
        let raw = MmapOptions::new().len(to_usize(len)?).map_raw_read_only(file).map_err(name_limit)?;
        let watermark = Watermark::new(len, true);
        Ok(Arc::new(Self { raw, watermark, slices_from: 0, writable: false, followed: None }))
    }

    /// Maps the first `len` bytes of a file that another process writes, even if the file is shorter. Nothing can be read until
    /// [`show`](Self::show). The file must have a shared lock, which it keeps for as long as it is mapped.
    pub(crate) fn followed(file: File, len: u64, header_bytes: u64) -> io::Result<Arc<Self>> {
        fault::point("map", Path::new(""))?;
        let raw = MmapOptions::new().len(to_usize(len)?).map_raw_read_only(&file).map_err(name_limit)?;
        let followed = Followed { len: AtomicU64::new(file.metadata()?.len()), file };
        let watermark = Watermark::new(header_bytes, false);
        Ok(Arc::new(Self {
            raw,
            watermark,
            slices_from: header_bytes,
            writable: false,
            followed: Some(followed),
        }))
    }

    /// Lets readers read up to `committed`, which the process that writes the file must have committed. Returns `false` if the mapping does
    /// not reach so far.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file is shorter.
    pub(crate) fn show(&self, committed: u64) -> io::Result<bool> {
        let Some(followed) = &self.followed else { return Ok(true) };
        if committed > self.raw.len() as u64 {
            return Ok(false);
        }
        if committed > followed.len.load(Ordering::Relaxed) {
            let len = followed.file.metadata()?.len();
            if committed > len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            followed.len.store(len, Ordering::Relaxed);
        }
        self.watermark.raise_to(committed);
        Ok(true)
    }

    /// Returns whether another process writes the file.
    pub(crate) fn is_followed(&self) -> bool {
        self.followed.is_some()
    }

    /// Marks what is shown as final. The next segment, if there is one, must be in its place before.
    pub(crate) fn end(&self) {
        self.watermark.end();
    }

    /// Maps `capacity` bytes of a file for one writer and any number of readers.
    ///
    /// The first `allocated` bytes must have blocks. The first `committed` of them hold what was written before, including a header page of
    /// `header_bytes`.
    pub(crate) fn writable(
        file: &File,
        capacity: u64,
        allocated: u64,
        committed: u64,
        header_bytes: u64,
    ) -> io::Result<MapWriter> {
        let bytes_in_file = file.metadata()?.len();
        if !(header_bytes <= committed
            && committed <= allocated
            && allocated <= bytes_in_file
            && allocated <= capacity)
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        fault::point("map", Path::new(""))?;
        let raw = MmapOptions::new().len(to_usize(capacity)?).map_raw(file).map_err(name_limit)?;
        let watermark = Watermark::new(committed, false);
        let map =
            Arc::new(Self { raw, watermark, slices_from: header_bytes, writable: true, followed: None });
        Ok(MapWriter { map, allocated, end: committed })
    }

    /// Returns how far readers may read now, and whether that is final.
    #[inline]
    pub(crate) fn observe(&self) -> Observed {
        self.watermark.observe()
    }

    /// Returns how far readers may read now.
    #[inline]
    pub(crate) fn committed(&self) -> u64 {
        self.watermark.committed()
    }

    /// Returns committed bytes.
    ///
    /// # Panics
    /// If the range is not within the committed bytes behind the header page. That is a bug in the caller, whatever is on disk.
    #[inline]
    pub(crate) fn bytes(&self, range: Range<u64>) -> &[u8] {
        assert!(
            self.slices_from <= range.start && range.start <= range.end && range.end <= self.committed(),
            "{range:?} is not committed"
        );
        let len = (range.end - range.start) as usize;
        // SAFETY: the assertion gives I3, and the acquiring load in it makes those bytes visible; I2 keeps them unchanged, and I1 keeps
        // them in the file for as long as the slice borrows the mapping. `committed` is below the mapped length (I4). If another process
        // writes the file, all of that holds by I9.
        unsafe { std::slice::from_raw_parts(self.raw.as_ptr().add(range.start as usize), len) }
    }

    /// Returns committed bytes that keep the mapping alive.
    pub(crate) fn shared_bytes(self: &Arc<Self>, range: Range<u64>) -> Bytes {
        struct Part {
            map: Arc<Map>,
            range: Range<u64>,
        }
        impl AsRef<[u8]> for Part {
            fn as_ref(&self) -> &[u8] {
                self.map.bytes(self.range.clone())
            }
        }
        Bytes::from_owner(Part { map: Arc::clone(self), range })
    }

    /// Makes the system bring in pages that are about to be written, large ones where it can, so that the writer meets no page fault. The
    /// file must have blocks there (I4). Where the system cannot do this, the writer takes the faults.
    pub(crate) fn populate(&self, range: Range<u64>) {
        #[cfg(target_os = "linux")]
        {
            let (offset, len) = (range.start as usize, (range.end - range.start) as usize);
            let _ = self.raw.advise_range(Advice::HugePage, offset, len);
            let _ = self.raw.advise_range(Advice::PopulateWrite, offset, len);
        }
    }

    /// Stores a live word of the header page, for other processes and for recovery.
    #[inline]
    pub(crate) fn store_live_word(&self, offset: usize, bytes: [u8; 8]) {
        assert!(self.writable && offset.is_multiple_of(8) && offset + 8 <= self.slices_from as usize);
        // SAFETY: the word is in the header page, which has blocks (I4) and of which no slice exists (I3, `slices_from`); it is aligned,
        // since mappings begin at a page; all access to it in this process is through this atomic.
        let word = unsafe { AtomicU64::from_ptr(self.raw.as_mut_ptr().add(offset).cast()) };
        word.store(u64::from_ne_bytes(bytes), Ordering::Release);
    }

    /// Makes the header page survive power loss, whatever else is in the file.
    pub(crate) fn sync_header(&self, file: &File, path: &Path) -> io::Result<()> {
        fault::point("sync the header of", path)?;
        // On Linux this syncs that range of the file. Elsewhere the bytes need not reach the disk.
        if cfg!(target_os = "linux") {
            self.raw.flush_range(0, self.slices_from as usize)
        } else {
            file.sync_all()
        }
    }

    /// Passes what was written through the mapping to the file, where the system keeps the two apart.
    pub(crate) fn flush(&self) -> io::Result<()> {
        // Linux has one page cache for both, and fdatasync writes the pages that mappings dirtied.
        if cfg!(target_os = "linux") {
            return Ok(());
        }
        self.raw.flush_range(0, self.committed() as usize)
    }
}

impl MapWriter {
    /// Returns the mapping, for readers.
    pub(crate) fn map(&self) -> &Arc<Map> {
        &self.map
    }

    /// Returns where the next bytes go.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Returns the number of bytes of the file that have blocks.
    #[inline]
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Records that the file now has blocks up to `allocated`.
    pub(crate) fn extend(&mut self, allocated: u64) {
        assert!(allocated >= self.allocated && allocated <= self.map.raw.len() as u64);
        self.allocated = allocated;
    }

    /// Writes the parts one after the other at the end. Readers do not see them until `commit`.
    ///
    /// # Panics
    /// If they do not fit into the allocated bytes, [`END_MARK`] included. The caller must extend first.
    #[inline]
    pub(crate) fn write(&mut self, parts: &[&[u8]]) {
        let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let left = self.allocated - self.end;
        assert!(len + END_MARK.len() as u64 <= left, "no blocks for {len} bytes at {}", self.end);
        let mut at = self.end as usize;
        for part in parts {
            // SAFETY: the bytes lie in the mapping and have blocks (I4, the assertion). They are above `committed`, so no slice of them
            // exists (I3) and none is made before `commit`; `&mut self` on the only writer excludes other writes.
            unsafe {
                std::ptr::copy_nonoverlapping(part.as_ptr(), self.map.raw.as_mut_ptr().add(at), part.len());
            }
            at += part.len();
        }
        // SAFETY: as above, I3 and I4; the assertion counted these bytes too.
        unsafe {
            let end = self.map.raw.as_mut_ptr().add(at);
            std::ptr::copy_nonoverlapping(END_MARK.as_ptr(), end, END_MARK.len());
        }
        // The lines of the next frame are in the cache of the processor that prepared them, or in none.
        let written = at - self.end as usize;
        if written >= EXPECTED_FROM_BYTES {
            let next = self.map.raw.as_ptr().wrapping_add(at + EXPECTED_AHEAD);
            processor::expect_stores(next, written.min(EXPECTED_BYTES_MAX));
        }
        self.end = at as u64;
    }

    /// Records that `len` bytes, and [`END_MARK`] behind them, were written at the end through the file, which shares its pages with the
    /// mapping.
    ///
    /// # Panics
    /// If they do not fit into the allocated bytes.
    pub(crate) fn note_written(&mut self, len: u64) {
        assert!(len <= self.allocated - self.end, "no blocks for {len} bytes at {}", self.end);
        self.end += len;
    }

    /// Makes everything written so far visible to readers.
    #[inline]
    pub(crate) fn commit(&mut self) {
        self.map.watermark.raise(self.end);
    }

    /// Marks the segment as ended for readers. The next segment must be in its place before.
    pub(crate) fn finish(&self) {
        self.map.watermark.end();
    }
}

fn to_usize(len: u64) -> io::Result<usize> {
    usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(committed: u64) -> MapWriter {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        Map::writable(&file, 1 << 20, 8192, committed, 4096).unwrap()
    }

    #[test]
    fn readers_see_bytes_only_once_they_are_committed() {
        let mut writer = writer(4096);
        let map = Arc::clone(writer.map());
        writer.write(&[b"hello ", b"world"]);
        assert_eq!(map.observe(), Observed { committed: 4096, ended: false });
        writer.commit();
        assert_eq!(map.bytes(4096..4107), b"hello world");
        let kept = map.shared_bytes(4102..4107);
        writer.finish();
        drop((writer, map));
        assert_eq!(&kept[..], b"world");
    }

    #[test]
    #[should_panic(expected = "is not committed")]
    fn bytes_beyond_the_watermark_are_out_of_reach() {
        writer(4096).map().bytes(4096..4097);
    }

    #[test]
    #[should_panic(expected = "is not committed")]
    fn the_page_with_the_live_words_is_out_of_reach_while_there_is_a_writer() {
        writer(4096).map().bytes(0..64);
    }

    #[test]
    #[should_panic(expected = "no blocks")]
    fn bytes_without_blocks_are_out_of_reach() {
        writer(8000).write(&[&[0; 200]]);
    }

    #[test]
    fn a_file_shorter_than_asked_for_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(100).unwrap();
        assert!(Map::read_only(&file, 101).is_err());
        assert!(Map::writable(&file, 1 << 20, 8192, 4096, 4096).is_err());
    }
}
