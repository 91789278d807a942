//! Up to where the frames of an unsealed segment are good.

use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, available_parallelism};

use parking_lot::Mutex;

use super::report::TornTail;
use crate::log::format::frame::{Frame, FrameFault, FrameHeader};
use crate::log::format::header::{SegmentHeader, decode_committed, decode_synced};
use crate::log::format::index::{Index, IndexEntry};
use crate::log::segment::unsealed::{SyncTarget, Unsealed};
use crate::log::segment::window::{FRAMES_FROM, Window};
use crate::log::segment::{path_in, sealed};
use crate::log::sys::file::DataFile;
use crate::log::sys::map::Map;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

/// What a scan found in a segment file.
#[derive(Debug)]
pub(super) enum Scan {
    /// No header and no frame: the file was being created.
    Blank,
    /// A header, and no good frame.
    Header { synced: u64, stop: Stop },
    /// Good frames, at least one.
    Frames(GoodFrames),
}

/// Why a scan went no further.
#[derive(Debug)]
pub(super) struct Stop {
    fault: FrameFault,
    /// Whether there is anything but zeros, or less than was committed once, or no word of how much was.
    is_torn: bool,
}

/// The good frames of a segment.
#[derive(Debug)]
pub(super) struct GoodFrames {
    header: SegmentHeader,
    /// Whether the header page was blank: frames reached the disk before it, and make up for it.
    lacks_header: bool,
    /// The byte after the last good frame.
    end: u64,
    end_sequence: SequenceNumber,
    first_timestamp: Timestamp,
    pub(super) last_timestamp: Timestamp,
    index: Index,
    synced: u64,
    stop: Stop,
}

/// A segment file that is open and not looked at yet.
#[derive(Debug)]
struct Opened {
    shard: ShardId,
    base: SequenceNumber,
    file: DataFile,
    header: Option<SegmentHeader>,
    page: Vec<u8>,
    /// `None` for a file that ends before the first frame.
    map: Option<Arc<Map>>,
    len: u64,
}

impl Opened {
    fn new(shard_dir: &Path, shard: ShardId, base: SequenceNumber) -> Result<Self> {
        let file = DataFile::open_writable(&path_in(shard_dir, base))?;
        let (header, page) = sealed::read_header(&file, shard, base)?;
        let len = file.len()?;
        let map = if len < FRAMES_FROM {
            None
        } else {
            Some(Map::read_only(file.std(), len).map_err(|error| file.error("map", error))?)
        };
        Ok(Self { shard, base, file, header, page, map, len })
    }
}

/// Scans the segments that begin with `bases`, on all processors: their checksums are what opening after a crash takes. The outcome of
/// each stands by itself, since files behind the end of the good frames are of no interest.
pub(super) fn scan_all(
    shard_dir: &Path,
    shard: ShardId,
    bases: &[SequenceNumber],
) -> Vec<Result<(DataFile, Scan)>> {
    let opened: Vec<_> = bases.iter().map(|&base| Opened::new(shard_dir, shard, base)).collect();
    let scans: Vec<OnceLock<Result<Scan>>> = opened.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let scan_some = || {
        while let Some((opened, scan)) = opened.iter().zip(&scans).nth(next.fetch_add(1, Ordering::Relaxed)) {
            if let Ok(opened) = opened {
                // Nobody else has the same place.
                let _ = scan.set(Scan::of(opened));
            }
        }
    };
    std::thread::scope(|threads| {
        // Asking how many processors there are takes longer than opening a shard that was closed cleanly.
        let helpers = match bases.len() {
            0 | 1 => 0,
            count => available_parallelism().map_or(1, NonZero::get).min(count) - 1,
        };
        for _ in 0..helpers {
            // A system that has no thread left leaves it to this one.
            let _ = Builder::new().name("streamlog-open".into()).spawn_scoped(threads, scan_some);
        }
        scan_some();
    });
    let outcome = |(opened, scan): (Result<Opened>, OnceLock<Result<Scan>>)| {
        let opened = opened?;
        let scan = scan.into_inner().unwrap_or_else(|| Scan::of(&opened))?;
        Ok((opened.file, scan))
    };
    opened.into_iter().zip(scans).map(outcome).collect()
}

impl Scan {
    /// Looks at the frames of a segment.
    fn of(opened: &Opened) -> Result<Self> {
        let Opened { shard, base, file, header, page, map: Some(map), len } = opened else {
            return Ok(Self::Blank);
        };
        let (header, base, len) = (*header, *base, *len);
        let (synced, committed) = (decode_synced(page), decode_committed(page));
        let (mut end, mut next) = (FRAMES_FROM, base);
        let mut timestamps: Option<(u64, u64)> = None;
        let mut index = Index::default();
        let fault = loop {
            let frame = match Frame::decode(map.bytes(end..len)) {
                Ok(frame) => frame.header,
                Err(fault) => break fault,
            };
            if frame.base_sequence != next.get() {
                break FrameFault::Sequence { expected: next.get(), found: frame.base_sequence };
            }
            if index.wants(end) {
                let (sequence, timestamp_micros) = (frame.base_sequence, frame.timestamp_micros);
                index.note(IndexEntry { sequence, timestamp_micros, offset: end });
            }
            let first = timestamps.map_or(frame.timestamp_micros, |(first, _)| first);
            timestamps = Some((first, frame.timestamp_micros));
            next = SequenceNumber::new(frame.end_sequence());
            end += frame.len as u64;
        };
        // One that has not the next number is left from when the file was another segment.
        let is_next =
            || FrameHeader::peek(map.bytes(end..len)).is_ok_and(|it| it.base_sequence == next.get());
        if matches!(fault, FrameFault::Unsupported { .. }) && is_next() {
            return Err(Error::unsupported(file.path(), format!("{fault} at byte {end}")));
        }
        // The committed word of a page that has its header points behind the page, or was overwritten, and then perhaps not alone.
        let is_torn =
            fault != FrameFault::Blank || end < committed || (header.is_some() && committed < FRAMES_FROM);
        let stop = Stop { is_torn, fault };
        Ok(match (timestamps, header) {
            (None, None) => Self::Blank,
            (None, Some(_)) => Self::Header { synced, stop },
            (Some((first, last)), header) => Self::Frames(GoodFrames {
                lacks_header: header.is_none(),
                header: header.unwrap_or(SegmentHeader {
                    shard: shard.get(),
                    base_sequence: base.get(),
                    created_at_micros: first,
                }),
                end,
                end_sequence: next,
                first_timestamp: Timestamp::from_micros(first),
                last_timestamp: Timestamp::from_micros(last),
                index,
                synced,
                stop,
            }),
        })
    }

    /// The synced watermark of a file; 0 where its header page was never written.
    pub(super) fn synced_of(file: &DataFile) -> Result<u64> {
        let mut page = vec![0; FRAMES_FROM.min(file.len()?) as usize];
        file.read_exact_at(&mut page, 0)?;
        Ok(decode_synced(&page))
    }

    pub(super) fn synced(&self) -> u64 {
        match self {
            Self::Blank => 0,
            Self::Header { synced, .. } => *synced,
            Self::Frames(frames) => frames.synced,
        }
    }

    fn stop(&self) -> Option<&Stop> {
        match self {
            Self::Blank => None,
            Self::Header { stop, .. } => Some(stop),
            Self::Frames(frames) => Some(&frames.stop),
        }
    }

    /// Whether there is more in the file than good frames and zeros.
    pub(super) fn is_torn(&self) -> bool {
        self.stop().is_none_or(|stop| stop.is_torn)
    }

    /// What was found where the good frames end.
    pub(super) fn stopped_at(&self) -> String {
        self.stop()
            .map_or_else(|| "expected a segment header, found none".into(), |stop| stop.fault.to_string())
    }

    /// The byte after the last good frame.
    pub(super) fn frames_end(&self) -> u64 {
        match self {
            Self::Blank => 0,
            Self::Header { .. } => FRAMES_FROM,
            Self::Frames(frames) => frames.end,
        }
    }

    /// The number after the last good record of the segment that begins with `base`.
    pub(super) fn end_sequence(&self, base: SequenceNumber) -> SequenceNumber {
        match self {
            Self::Blank | Self::Header { .. } => base,
            Self::Frames(frames) => frames.end_sequence,
        }
    }

    /// What is behind the good frames, for the report.
    pub(super) fn torn_tail(&self, file: &DataFile) -> Result<TornTail> {
        let offset = self.frames_end();
        let bytes = file.len()?.saturating_sub(offset);
        Ok(TornTail { path: file.path().to_owned(), offset, bytes, reason: self.stopped_at() })
    }
}

impl GoodFrames {
    /// Opens the good frames for reading, and for sealing.
    pub(super) fn into_unsealed(self, file: DataFile) -> Result<Unsealed> {
        if self.lacks_header {
            file.write_all_at(&self.header.encode(), 0)?;
        }
        let writer = Map::writable(file.std(), self.end, self.end, self.end, FRAMES_FROM)
            .map_err(|error| file.error("map", error))?;
        writer.finish();
        let place = (ShardId::new(self.header.shard), self.header.base_sequence.into());
        let window = Window::new(Arc::clone(writer.map()), file.path(), place, None, Some(self.index));
        Ok(Unsealed {
            target: SyncTarget { window: Arc::new(window), file: Arc::new(file), syncs_each: false },
            header: self.header,
            end_sequence: self.end_sequence,
            first_timestamp: self.first_timestamp,
            last_timestamp: self.last_timestamp,
            progress: Mutex::default(),
        })
    }
}
