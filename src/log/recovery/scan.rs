//! The scan of unsealed segments for the end of their good frames.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, available_parallelism};

use crate::log::format::fault::FrameFault;
use crate::log::format::header::{FRAMES_FROM, SegmentHeader};
use crate::log::format::salt::Salt;
use crate::log::format::summary::Indexed;
use crate::log::format::walk::{Depth, FrameWalk};
use crate::log::segment::place::{SegmentPlace, ShardDir};
use crate::log::segment::stored::HeaderPage;
use crate::log::segment::unsealed::Unsealed;
use crate::log::sys::file::DataFile;
use crate::log::sys::map::Map;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;

/// The result of scanning a segment file.
#[derive(Debug)]
pub(super) enum Scan {
    /// No header page, because power was lost before it was written. Nothing behind it counts: without the salt, a frame cannot be told
    /// from any other bytes. Nothing in such a file was ever synced.
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
    fn new(place: SegmentPlace) -> Result<Self> {
        let file = DataFile::open_writable(&place.path)?;
        let (page, len) = (HeaderPage::read(&file)?, file.len()?);
        Ok(Self { place, file, page, len })
    }

    /// Scans the frames.
    fn scan(&self) -> Result<Scan> {
        let Some(header) = self.page.header(&self.place)? else { return Ok(Scan::Blank) };
        let map = Map::read_only(self.file.std(), self.len);
        let map: Arc<Map> = map.map_err(|error| self.file.error("map", error))?;
        let (salt, mut frames) = (Salt::new(header.salt), Indexed::empty(header.base_sequence));
        let bytes = map.bytes(FRAMES_FROM..self.len);
        let mut walk = FrameWalk::new(bytes, FRAMES_FROM, header.base_sequence, Depth::Whole(&salt));
        let fault = loop {
            match walk.next() {
                Ok(Some(frame)) => frames.add(&frame),
                Ok(None) => break FrameFault::Blank,
                Err(fault @ FrameFault::Unsupported { .. }) => {
                    let what = format!("{fault} at byte {}", walk.offset());
                    return Err(Error::unsupported(&self.place.path, what));
                }
                Err(fault) => break fault,
            }
        };
        // A committed word that points into the header page was overwritten, and perhaps other bytes were too.
        let committed = self.page.committed();
        let is_torn = fault != FrameFault::Blank || walk.offset() < committed || committed < FRAMES_FROM;
        Ok(Scan::Frames { header, frames, stop: Stop { fault, is_torn } })
    }
}

/// Scans the segments that begin with `bases` on all processors. After a crash, their checksums take most of the time of opening.
pub(super) fn scan_all(dir: &ShardDir, bases: &[SequenceNumber]) -> Result<Vec<Scanned>> {
    let opened = bases.iter().map(|&base| Opened::new(dir.segment(base))).collect::<Result<Vec<_>>>()?;
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
