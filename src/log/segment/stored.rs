//! What a segment file stores about itself: its header page, its trailer and its index.

use std::io;

use super::place::SegmentPlace;
use crate::log::format::bytes::is_zero;
use crate::log::format::checksum::checksum;
use crate::log::format::header::{
    COPY_OFFSET, FIRST_OFFSET, FRAMES_FROM, HEADER_PAGE_BYTES, HeaderFault, SegmentHeader, decode_committed,
    decode_first, decode_synced, encode_first,
};
use crate::log::format::index::Index;
use crate::log::format::trailer::{TRAILER_BYTES, Trailer};
use crate::log::sys::file::DataFile;
use crate::log::types::error::{Error, Result};
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::Timestamp;

/// The header page of a segment file as read. It may be short or all zeros if power was lost before it was written.
#[derive(Debug)]
pub(crate) struct HeaderPage {
    bytes: Vec<u8>,
}

impl HeaderPage {
    pub(crate) fn read(file: &DataFile) -> Result<Self> {
        let mut bytes = vec![0; HEADER_PAGE_BYTES.min(file.len()? as usize)];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Self { bytes })
    }

    /// Returns the header, which must be that of the segment at `place`, or `None` if the page is blank.
    pub(crate) fn header(&self, place: &SegmentPlace) -> Result<Option<SegmentHeader>> {
        // This includes a short page: a file may have grown without its content reaching the disk.
        if is_zero(&self.bytes) {
            return Ok(None);
        }
        let damage = |offset: usize, reason: String| Err(place.damage(offset as u64, place.base, reason));
        let header = match SegmentHeader::decode(&self.bytes) {
            Ok(header) => header,
            Err(HeaderFault::Blank) => return Ok(None),
            Err(HeaderFault::Version { found }) => {
                return Err(Error::unsupported(&place.path, format!("segment format version {found}")));
            }
            Err(HeaderFault::Short { len }) => {
                return damage(
                    len,
                    format!("expected a header page of {HEADER_PAGE_BYTES} bytes, found {len}"),
                );
            }
            Err(HeaderFault::Magic) => return damage(0, "expected the mark of a segment file".into()),
            Err(HeaderFault::Checksum { stored, computed }) => {
                return damage(
                    0,
                    format!("expected a header with checksum {stored:#010x}, found {computed:#010x}"),
                );
            }
            Err(HeaderFault::Copy) => {
                return damage(COPY_OFFSET, "expected a copy of the header, or zeros".into());
            }
            Err(HeaderFault::Reserved) => return damage(0, "expected zeros in the header page".into()),
        };
        if header.shard != place.shard.get() {
            let found = ShardId::new(header.shard);
            return damage(0, format!("expected a segment of {}, found one of {found}", place.shard));
        }
        if header.base_sequence != place.base.get() {
            let (expected, found) = (place.base, header.base_sequence);
            return damage(
                0,
                format!("expected a segment that begins with sequence number {expected}, found {found}"),
            );
        }
        Ok(Some(header))
    }

    /// Returns the second copy of the header, for a page that is damaged elsewhere, if it is that of the segment at `place`.
    pub(crate) fn copy(&self, place: &SegmentPlace) -> Option<SegmentHeader> {
        SegmentHeader::decode_copy(&self.bytes).filter(|copy| is_of(copy, place))
    }

    /// Returns the synced watermark in the page, or 0 if it has none.
    pub(crate) fn synced(&self) -> u64 {
        decode_synced(&self.bytes)
    }

    /// Returns the committed watermark in the page, or 0 if it has none.
    pub(crate) fn committed(&self) -> u64 {
        decode_committed(&self.bytes)
    }

    /// Returns whether the page says that the segments before the one at `place` were trimmed.
    pub(crate) fn is_noted_first(&self, place: &SegmentPlace) -> bool {
        decode_first(&self.bytes, place.base.get())
    }
}

fn is_of(header: &SegmentHeader, place: &SegmentPlace) -> bool {
    header.shard == place.shard.get() && header.base_sequence == place.base.get()
}

/// Reads the header of a segment. Fails if it was never written.
pub(crate) fn read_header(file: &DataFile, place: &SegmentPlace) -> Result<SegmentHeader> {
    HeaderPage::read(file)?.header(place)?.ok_or_else(|| blank_header(place))
}

/// Returns what the clock showed when a segment was begun.
pub(crate) fn begun(place: &SegmentPlace) -> Result<Timestamp> {
    let header = read_header(&DataFile::open(&place.path)?, place)?;
    Ok(Timestamp::from_micros(header.created_at_micros))
}

/// Returns the error for zeros in the place of a header that was written.
fn blank_header(place: &SegmentPlace) -> Error {
    place.damage(0, place.base, "expected a segment header, found zeros")
}

/// Reads the header of a segment from its header page. Returns `None` if it was never written. A blank page whose file has a trailer was
/// written once: then the segment is damaged.
pub(crate) fn find_header(
    page: &HeaderPage,
    file: &DataFile,
    place: &SegmentPlace,
) -> Result<Option<SegmentHeader>> {
    match page.header(place)? {
        None if header_in_trailer(file, place)?.is_some() => Err(blank_header(place)),
        found => Ok(found),
    }
}

/// Notes durably in a segment that the segments before it were trimmed. This takes no room on the disk.
pub(crate) fn note_first(place: &SegmentPlace) -> Result<()> {
    let file = DataFile::open_writable(&place.path)?;
    file.write_all_at(&encode_first(place.base.get()), FIRST_OFFSET as u64)?;
    file.sync()
}

/// Reads the trailer at the end of a file, if it has a valid one.
pub(crate) fn read_trailer(file: &DataFile, header: &SegmentHeader) -> Result<Option<Trailer>> {
    let Some((bytes, file_bytes)) = last_bytes(file)? else { return Ok(None) };
    Ok(Trailer::decode(&bytes, header, file_bytes))
}

/// Reads the header of the segment at `place` from its trailer, for a file whose header page is damaged.
pub(crate) fn header_in_trailer(file: &DataFile, place: &SegmentPlace) -> Result<Option<SegmentHeader>> {
    let Some((bytes, file_bytes)) = last_bytes(file)? else { return Ok(None) };
    let header = Trailer::decode_any(&bytes, file_bytes).map(|(_, header)| header);
    Ok(header.filter(|header| is_of(header, place)))
}

/// Returns the bytes where a trailer would be, and the length of the file.
fn last_bytes(file: &DataFile) -> Result<Option<([u8; TRAILER_BYTES], u64)>> {
    let file_bytes = file.len()?;
    let Some(at) = file_bytes.checked_sub(TRAILER_BYTES as u64).filter(|&at| at >= FRAMES_FROM) else {
        return Ok(None);
    };
    let mut bytes = [0; TRAILER_BYTES];
    match file.read_exact_at(&mut bytes, at) {
        Ok(()) => Ok(Some((bytes, file_bytes))),
        // A put that resumes the segment has just truncated the trailer.
        Err(Error::Io(failure)) if failure.source.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the index of a sealed segment. Returns `None` if it is missing or damaged, which only costs the time to rebuild it.
pub(crate) fn load_index(place: &SegmentPlace, trailer: &Trailer) -> Option<Index> {
    load_index_of(&DataFile::open(&place.path).ok()?, place, trailer)
}

/// Reads the index of a sealed segment from its open file.
pub(crate) fn load_index_of(file: &DataFile, place: &SegmentPlace, trailer: &Trailer) -> Option<Index> {
    let frames = trailer.frames;
    if file.len().ok()? < frames.end + trailer.index_bytes() {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(trailer.index_bytes()).ok()?];
    file.read_exact_at(&mut bytes, frames.end).ok()?;
    let is_whole = checksum(&bytes) == trailer.index_checksum;
    let index = is_whole.then(|| Index::decode(&bytes)).flatten()?;
    index.is_within(place.base.get()..frames.end_sequence, FRAMES_FROM..frames.end).then_some(index)
}
