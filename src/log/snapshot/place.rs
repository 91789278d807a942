//! Putting one segment file in place.
//!
//! A file has its name only once it is whole and synced, so what an unfinished snapshot left can be used. `false` means that the source is gone:
//! retention may have dropped it. Retention may also drop and refill the file while its bytes are read. These bytes are then of a segment that the
//! caller leaves out.

use super::work::{How, Stop, Work};
use crate::log::format::header::{FRAMES_FROM, HEADER_BYTES};
use crate::log::format::trailer::TRAILER_BYTES;
use crate::log::segment::place::SegmentPlace;
use crate::log::segment::rewrite::Rewrite;
use crate::log::segment::stored;
use crate::log::sys::copy::{copy_bytes, copy_in_order, share_blocks};
use crate::log::sys::dir;
use crate::log::sys::file::DataFile;
use crate::log::sys::root::{FileId, OwnPath};
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;

/// How many bytes are copied at a time, so that the caller can stop in between.
const COPY_BYTES: u64 = 8 << 20;

/// A file to put in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct FilePlaces<'a> {
    pub(super) source: &'a SegmentPlace,
    pub(super) new: &'a SegmentPlace,
    /// Its place in the last snapshot.
    pub(super) old: &'a SegmentPlace,
}

impl FilePlaces<'_> {
    /// Puts a sealed segment in place, which nobody writes to again.
    pub(super) fn put_sealed(self, work: &mut Work<'_>) -> Result<bool, Stop> {
        let (from, new, old) = (&self.source.path, &self.new.path, &self.old.path);
        let Some(source) = from.file_id()? else { return Ok(false) };
        if let Some(left) = new.file_id()? {
            if left.is_same_file(&source) || has_same_content(from, new)? {
                return done(work, How::Kept, source.bytes);
            }
            dir::remove_file(new)?;
        }
        match dir::link(from, new) {
            Ok(true) => {
                let is_kept = old.file_id()?.is_some_and(|old| old.is_same_file(&source));
                done(work, if is_kept { How::Kept } else { How::Linked }, source.bytes)
            }
            Ok(false) if has_same_content(from, old)? && dir::link(old, new)? => {
                done(work, How::Kept, source.bytes)
            }
            Ok(false) => self.copy(work, true),
            Err(_) if from.file_id()?.is_none() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Copies the whole file, as it is. One that is not sealed may be written to meanwhile.
    pub(super) fn copy(self, work: &mut Work<'_>, is_sealed: bool) -> Result<bool, Stop> {
        let (from, new) = (&self.source.path, &self.new.path);
        let Some(file) = open(from)? else { return Ok(false) };
        let bytes = file.len()?;
        dir::remove_file(new)?;
        let aside = new.with_extension("new");
        dir::remove_file(&aside)?;
        let mut copied = DataFile::create(&aside)?;
        let mut at = 0;
        if is_sealed && share_blocks(&file, &copied) {
            at = bytes;
            work.advance(bytes)?;
        }
        while at < bytes {
            let piece = at..bytes.min(at + COPY_BYTES);
            let piece = if is_sealed { copy_bytes } else { copy_in_order }(&file, &copied, piece)?;
            if piece == 0 {
                break;
            }
            at += piece;
            work.advance(piece)?;
        }
        // Zeros that were not written count too.
        copied.set_len(at)?;
        copied.sync()?;
        let bytes = if is_sealed { at } else { copied.disk_bytes()? };
        copied.rename(new)?;
        work.count(How::Copied, bytes);
        Ok(true)
    }

    /// Copies the frames of a segment that had no trailer, up to the offset `frames_end`, where the record before `end` ends. The copy is
    /// sealed.
    pub(super) fn put_unsealed(
        self,
        work: &mut Work<'_>,
        frames_end: u64,
        end: SequenceNumber,
    ) -> Result<bool, Stop> {
        let Some(file) = open(&self.source.path)? else { return Ok(false) };
        let header = stored::read_header(&file, self.source)?;
        // The last snapshot may hold the same frames, if nothing was put since.
        let holds_same = |place: &SegmentPlace| -> Result<Option<FileId>> {
            let Some(there) = open(&place.path)? else { return Ok(None) };
            if stored::read_header(&there, place).ok().as_ref() != Some(&header) {
                return Ok(None);
            }
            let trailer = stored::read_trailer(&there, &header)?;
            let is_same = trailer.is_some_and(|trailer| {
                (trailer.frames.end, trailer.frames.end_sequence) == (frames_end, end.get())
            });
            if is_same { place.path.file_id() } else { Ok(None) }
        };
        if let Some(left) = holds_same(self.new)? {
            work.advance(frames_end)?;
            work.count(How::Kept, left.bytes);
            return Ok(true);
        }
        dir::remove_file(&self.new.path)?;
        if let Some(old) = holds_same(self.old)?
            && dir::link(&self.old.path, &self.new.path)?
        {
            work.advance(frames_end)?;
            work.count(How::Kept, old.bytes);
            return Ok(true);
        }
        let mut rewrite = Rewrite::create(self.new, header, false)?;
        work.advance(FRAMES_FROM)?;
        rewrite.take_frames(&file, frames_end, self.source, |bytes| work.advance(bytes))?;
        if rewrite.next_sequence() != end.get() {
            let reason = format!("expected records up to sequence number {end}");
            return Err(self.source.damage(frames_end, rewrite.next_sequence().into(), reason).into());
        }
        rewrite.replace(self.new)?;
        work.count(How::Copied, self.new.path.file_id()?.map_or(0, |copied| copied.bytes));
        Ok(true)
    }
}

fn done(work: &mut Work<'_>, how: How, bytes: u64) -> Result<bool, Stop> {
    work.count(how, bytes);
    work.advance(bytes)?;
    Ok(true)
}

/// Opens a file for reading, if it is there.
pub(super) fn open(path: &OwnPath) -> Result<Option<DataFile>> {
    match DataFile::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(_) if path.file_id()?.is_none() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns whether two files are the same sealed segment: the header has a salt that no other segment has, and a trailer says how far the
/// frames go and when they were put.
fn has_same_content(one: &OwnPath, other: &OwnPath) -> Result<bool> {
    let Some((one, other)) = open(one)?.zip(open(other)?) else { return Ok(false) };
    let bytes = one.len()?;
    if bytes != other.len()? || bytes < (HEADER_BYTES + TRAILER_BYTES) as u64 {
        return Ok(false);
    }
    let read = |file: &DataFile| -> Result<_> {
        let (mut header, mut trailer) = ([0; HEADER_BYTES], [0; TRAILER_BYTES]);
        file.read_exact_at(&mut header, 0)?;
        file.read_exact_at(&mut trailer, bytes - TRAILER_BYTES as u64)?;
        Ok((header, trailer))
    };
    Ok(read(&one)? == read(&other)?)
}

/// Returns the error for a file that is missing although nothing has dropped it.
pub(super) fn missing(place: &SegmentPlace) -> Error {
    Error::io("open", &place.path, std::io::ErrorKind::NotFound.into())
}
