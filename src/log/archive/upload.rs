//! Putting the sealed segments of a shard into an archive.

use std::io::{self, Read};

use super::name::{self, ArchivedSegment};
use super::{contents, failure};
use crate::log::format::checksum;
use crate::log::format::header::FRAMES_FROM;
use crate::log::segment::place::{SegmentPlace, ShardDir};
use crate::log::segment::read_frames::read_frames;
use crate::log::segment::stored;
use crate::log::segment::window::open_locked;
use crate::log::sys::file::DataFile;
use crate::log::types::archive::Archive;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// How many bytes of a file are read at a time.
const READ_BYTES: usize = 256 << 10;

/// What an archive has of a shard, as an archiver knows it.
#[derive(Debug)]
pub(crate) struct ArchivedShard {
    segments: Vec<ArchivedSegment>,
    /// All files before this number were compared with their archived copies.
    compared_to: SequenceNumber,
}

impl ArchivedShard {
    /// Lists what an archive has of a shard.
    pub(crate) fn list(archive: &dyn Archive, dir: &ShardDir) -> Result<Self> {
        Ok(Self { segments: name::list(archive, dir.shard)?, compared_to: SequenceNumber::ZERO })
    }

    /// Returns how far all records from `horizon` on are archived, and where the last archived segment before that begins.
    pub(crate) fn reach(&self, horizon: SequenceNumber) -> (SequenceNumber, SequenceNumber) {
        let end = name::held_to(&self.segments, horizon);
        let last = end.previous().and_then(|last| name::holder(&self.segments, last));
        (end, last.map_or(horizon, |segment| segment.base.max(horizon)))
    }

    /// Archives the sealed segments of a shard that the archive does not have, oldest first. Stops in front of the first one that is not sealed,
    /// or that is damaged. Calls `step` after each, and stops if that returns `false`.
    ///
    /// # Errors
    /// `Corrupt` for a damaged segment, which is not archived; `InvalidArgument` if the archive has other segments with these numbers; `Io` if
    /// the archive fails.
    pub(crate) fn add(
        &mut self,
        archive: &dyn Archive,
        dir: &ShardDir,
        horizon: SequenceNumber,
        mut step: impl FnMut(&ArchivedSegment) -> bool,
    ) -> Result<()> {
        let bases = if dir.path().is_own_dir()? { dir.bases()? } else { vec![] };
        for (at, &base) in bases.iter().enumerate() {
            let next = bases.get(at + 1).copied();
            if next.is_some_and(|next| next <= horizon.max(self.compared_to)) {
                continue;
            }
            let place = dir.segment(base);
            let (file, mut segment) = match examine(&place, next) {
                Ok(Some(examined)) => examined,
                Ok(None) => return Ok(()),
                // It was trimmed since it was listed.
                Err(Error::Io(failure)) if failure.source.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if !self.has(archive, &segment)? {
                segment.checksum = check(&file, &place, &segment)?;
                put(archive, &file, &segment)?;
                self.segments.retain(|known| known.base != base);
                let at = self.segments.partition_point(|known| known.base < base);
                self.segments.insert(at, segment.clone());
                if !step(&segment) {
                    return Ok(());
                }
            }
            // The last one may be resumed, and end later.
            if next.is_some() {
                self.compared_to = segment.end;
            }
        }
        Ok(())
    }

    /// Returns whether the archive has a segment. Refuses one that is not of the same writing as those that it has.
    fn has(&self, archive: &dyn Archive, segment: &ArchivedSegment) -> Result<bool> {
        let begins_before = |known: &&ArchivedSegment| known.base < segment.end && known.end > segment.base;
        for known in self.segments.iter().filter(begins_before) {
            let is_same = known.base == segment.base && known.identity == segment.identity;
            if !is_same || known.end > segment.end {
                return Err(contents::other_history(archive));
            }
            if known.end == segment.end {
                // Two copies of a closed stream continue its last segment with the same salt.
                let is_same = known.last == segment.last;
                return if is_same { Ok(true) } else { Err(contents::other_history(archive)) };
            }
        }
        Ok(false)
    }
}

/// Examines the file of a segment, except for its frames. Returns `None` if it is not sealed. The file stays locked, so that it is not filled again.
fn examine(
    place: &SegmentPlace,
    next: Option<SequenceNumber>,
) -> Result<Option<(DataFile, ArchivedSegment)>> {
    let file = open_locked(place)?;
    let header = match stored::HeaderPage::read(&file)?.header(place)? {
        Some(header) => header,
        // It was begun, and not written yet. With a segment behind it, it is damaged.
        None if next.is_none() => return Ok(None),
        None => return Err(place.damage(0, place.base, "expected a segment header, found zeros")),
    };
    let Some(trailer) = stored::read_trailer(&file, &header)? else { return Ok(None) };
    let frames = trailer.frames;
    if let Some(next) = next.filter(|next| next.get() != frames.end_sequence) {
        let reason = format!(
            "expected records up to the next segment, which begins with sequence number {next}, found them to end before {}",
            frames.end_sequence
        );
        return Err(place.damage(frames.end, frames.end_sequence.into(), reason));
    }
    let segment = ArchivedSegment {
        shard: place.shard,
        base: place.base,
        end: frames.end_sequence.into(),
        first: Timestamp::from_micros(frames.first_timestamp_micros),
        last: Timestamp::from_micros(frames.last_timestamp_micros),
        bytes: file.len()?,
        identity: name::identity_of(&header.salt),
        checksum: 0,
    };
    Ok(Some((file, segment)))
}

/// Checks all frames of a segment, and returns the checksum of everything behind the header page.
fn check(file: &DataFile, place: &SegmentPlace, segment: &ArchivedSegment) -> Result<u32> {
    let header = stored::read_header(file, place)?;
    let frames = read_frames(file, &header, Some(segment.end), |_| {})?;
    if let Some(fault) = frames.fault {
        return Err(place.damage(frames.offset, frames.sequence, fault.to_string()));
    }
    let mut content = Content::new(file, segment, None);
    content.skip_header();
    io::copy(&mut content, &mut io::sink()).map_err(|error| file.error("read", error))?;
    Ok(content.hasher.finalize())
}

fn put(archive: &dyn Archive, file: &DataFile, segment: &ArchivedSegment) -> Result<()> {
    let name = segment.name();
    let mut content = Content::new(file, segment, Some(segment.checksum));
    archive.put(&name, &mut content).map_err(|error| failure(archive, "write", &name, error))
}

/// The bytes of a segment's file. Reading fails at the end if they differ from those that were checked: the last segment of a closed stream may be
/// resumed meanwhile.
struct Content<'a> {
    file: &'a DataFile,
    at: u64,
    end: u64,
    hasher: crc32fast::Hasher,
    expected: Option<u32>,
}

impl<'a> Content<'a> {
    fn new(file: &'a DataFile, segment: &ArchivedSegment, expected: Option<u32>) -> Self {
        Self { file, at: 0, end: segment.bytes, hasher: checksum::begin(), expected }
    }

    fn skip_header(&mut self) {
        self.at = FRAMES_FROM;
    }
}

impl Read for Content<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let changed = || io::Error::new(io::ErrorKind::InvalidData, "it has changed while it was read");
        let wanted = into.len().min(READ_BYTES).min((self.end - self.at) as usize);
        if self.at == self.end {
            let is_same = self.expected.is_none_or(|expected| self.hasher.clone().finalize() == expected);
            return if is_same { Ok(0) } else { Err(changed()) };
        }
        let read = self.file.read_at(&mut into[..wanted], self.at).map_err(io::Error::other)?;
        if read == 0 && wanted > 0 {
            return Err(changed());
        }
        let header = (FRAMES_FROM.saturating_sub(self.at) as usize).min(read);
        self.hasher.update(&into[header..read]);
        self.at += read as u64;
        Ok(read)
    }
}
