//! The scan of unsealed segments for the end of their good frames.

use std::num::NonZero;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, available_parallelism};

use crate::log::format::fault::FrameFault;
use crate::log::format::header::{FRAMES_FROM, SegmentHeader};
use crate::log::format::summary::Indexed;
use crate::log::segment::place::{SegmentPlace, ShardDir};
use crate::log::segment::read_frames::read_frames;
use crate::log::segment::stored::HeaderPage;
use crate::log::segment::unsealed::Unsealed;
use crate::log::sys::file::DataFile;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;

/// The result of scanning a segment file.
#[derive(Debug)]
pub(super) enum Scan {
    /// No header page, because power was lost before it was written. Nothing behind it counts: without the salt, a frame cannot be distinguished
    /// from other bytes. Nothing in such a file was ever synced.
    Blank,
    /// A header page and the good frames behind it, if any.
    Frames { header: SegmentHeader, frames: Indexed, stop: Stop },
}

/// Why a scan stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) fault: FrameFault,
    /// Whether the bytes behind the good frames are not zeros, or the frames end before the committed word, or there is no valid committed
    /// word.
    pub(super) is_torn: bool,
}

/// What the files are opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// For the stream's writer, which seals them later.
    Write,
    /// For a reader, which may not be allowed to write.
    Read,
}

/// A segment file that is open but not scanned yet.
#[derive(Debug)]
struct Opened {
    place: SegmentPlace,
    file: DataFile,
    page: HeaderPage,
    len: u64,
}

/// A segment file that was scanned.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) place: SegmentPlace,
    file: DataFile,
    pub(super) len: u64,
    /// The synced watermark in its header page, whatever else is wrong with that page.
    pub(super) synced: u64,
    /// Ignored unless the good frames of the files before reach this file.
    pub(super) scan: Result<Scan>,
}

impl Scanned {
    /// Opens the good frames for reading and sealing.
    pub(super) fn into_unsealed(self) -> Result<Option<Unsealed>> {
        match self.scan? {
            Scan::Frames { header, frames, .. } if !frames.frames.is_empty() => {
                Unsealed::recovered(self.file, self.place, header, frames).map(Some)
            }
            _ => Ok(None),
        }
    }
}

impl Opened {
    fn new(place: SegmentPlace, access: Access) -> Result<Self> {
        let file = match access {
            Access::Write => DataFile::open_writable(&place.path)?,
            Access::Read => DataFile::open(&place.path)?,
        };
        let (page, len) = (HeaderPage::read(&file)?, file.len()?);
        Ok(Self { place, file, page, len })
    }

    /// Scans the frames.
    fn scan(&self) -> Result<Scan> {
        let Some(header) = self.page.header(&self.place)? else { return Ok(Scan::Blank) };
        let mut frames = Indexed::empty(header.base_sequence);
        let end = read_frames(&self.file, &header, None, |frame| frames.add(frame))?;
        let fault = end.fault.unwrap_or(FrameFault::Blank);
        if matches!(fault, FrameFault::Unsupported { .. }) {
            let what = format!("{fault} at byte {}", end.offset);
            return Err(Error::unsupported(&self.place.path, what));
        }
        // A committed word that points into the header page was overwritten, and perhaps other bytes were too.
        let committed = self.page.committed();
        let is_torn = fault != FrameFault::Blank || end.offset < committed || committed < FRAMES_FROM;
        Ok(Scan::Frames { header, frames, stop: Stop { fault, is_torn } })
    }
}

/// Scans the segments that begin with `bases` on all processors. After a crash, their checksums take most of the time of opening.
pub(super) fn scan_all(dir: &ShardDir, bases: &[SequenceNumber], access: Access) -> Result<Vec<Scanned>> {
    let open = |&base: &SequenceNumber| Opened::new(dir.segment(base), access);
    let opened = bases.iter().map(open).collect::<Result<Vec<_>>>()?;
    let scans: Vec<OnceLock<Result<Scan>>> = opened.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let scan_some = || {
        while let Some((opened, scan)) = opened.iter().zip(&scans).nth(next.fetch_add(1, Ordering::Relaxed)) {
            // No other thread got the same index.
            let _ = scan.set(opened.scan());
        }
    };
    std::thread::scope(|threads| {
        // Counting the processors takes longer than opening a shard that was closed cleanly.
        let helpers = match bases.len() {
            0 | 1 => 0,
            count => available_parallelism().map_or(1, NonZero::get).min(count) - 1,
        };
        for _ in 0..helpers {
            // If the system has no thread left, this thread does the work.
            let _ = Builder::new().name("streamlog-open".into()).spawn_scoped(threads, scan_some);
        }
        scan_some();
    });
    let scanned = opened.into_iter().zip(scans).map(|(opened, scan)| {
        let scan = scan.into_inner().unwrap_or_else(|| opened.scan());
        let Opened { place, file, page, len } = opened;
        Scanned { place, file, len, synced: page.synced(), scan }
    });
    Ok(scanned.collect())
}
