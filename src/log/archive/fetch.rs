//! Fetching an archived segment into a file, and refusing it if it is not what was archived.

use std::io::{self, Write};

use super::name::ArchivedSegment;
use super::{damage, failure, name};
use crate::log::format::checksum;
use crate::log::format::header::FRAMES_FROM;
use crate::log::segment::place::SegmentPlace;
use crate::log::segment::stored;
use crate::log::sys::file::DataFile;
use crate::log::types::archive::Archive;
use crate::log::types::error::{Error, Result};

/// Why a fetch failed.
#[derive(Debug)]
pub(super) enum FetchError {
    /// The object no longer exists.
    Gone(Error),
    Failed(Error),
}

impl From<FetchError> for Error {
    fn from(error: FetchError) -> Self {
        let (FetchError::Gone(error) | FetchError::Failed(error)) = error;
        error
    }
}

/// Fetches a segment into an empty file, and checks all of it but the frames, which their readers check.
pub(super) fn fetch(
    archive: &dyn Archive,
    segment: &ArchivedSegment,
    file: &DataFile,
) -> Result<(), FetchError> {
    let name = segment.name();
    let mut into = Target { file, at: 0, bytes: segment.bytes, hasher: checksum::begin(), failed: None };
    let got = archive.get(&name, &mut into);
    let Target { at, hasher, failed, .. } = into;
    if let Some(failed) = failed {
        return Err(FetchError::Failed(failed));
    }
    let damaged = |reason: String| {
        FetchError::Failed(damage(archive, &name, Some((segment.shard, segment.base)), reason))
    };
    if at > segment.bytes {
        return Err(damaged(format!("expected {} bytes, found more", segment.bytes)));
    }
    got.map_err(|error| {
        let is_gone = error.kind() == io::ErrorKind::NotFound;
        let error = failure(archive, "fetch", &name, error);
        if is_gone { FetchError::Gone(error) } else { FetchError::Failed(error) }
    })?;
    let found = hasher.finalize();
    if at < segment.bytes {
        return Err(damaged(format!("expected {} bytes, found {at}", segment.bytes)));
    }
    if found != segment.checksum {
        return Err(damaged(format!("expected checksum {:08x}, found {found:08x}", segment.checksum)));
    }
    match is_whole(segment, file) {
        Ok(true) => Ok(()),
        Ok(false) => Err(damaged(format!("expected a sealed segment up to sequence number {}", segment.end))),
        Err(Error::Corrupt(inside)) => Err(damaged(inside.reason)),
        Err(error) => Err(FetchError::Failed(error)),
    }
}

/// Returns whether a file holds a segment, as far as its header page, its trailer and its length show.
pub(super) fn is_whole(segment: &ArchivedSegment, file: &DataFile) -> Result<bool> {
    let place = SegmentPlace { shard: segment.shard, base: segment.base, path: file.path().clone() };
    let header = stored::read_header(file, &place)?;
    let trailer = stored::read_trailer(file, &header)?;
    Ok(file.len()? == segment.bytes
        && name::identity_of(&header.salt) == segment.identity
        && trailer.is_some_and(|trailer| trailer.frames.end_sequence == segment.end.get()))
}

/// Writes the fetched bytes to a file, up to the expected length.
struct Target<'a> {
    file: &'a DataFile,
    at: u64,
    bytes: u64,
    hasher: crc32fast::Hasher,
    /// Why the file could not be written.
    failed: Option<Error>,
}

impl Write for Target<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let begin = self.at;
        self.at += bytes.len() as u64;
        if self.at > self.bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than it should be"));
        }
        if let Err(error) = self.file.std_write_all_at(bytes, begin) {
            let text = error.to_string();
            self.failed = Some(self.file.failure("write to", error));
            return Err(io::Error::other(text));
        }
        let header = (FRAMES_FROM.saturating_sub(begin) as usize).min(bytes.len());
        self.hasher.update(&bytes[header..]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
