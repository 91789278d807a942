//! Segments that are final: made so, and opened again.

use std::path::Path;

use super::window::{FRAMES_FROM, Window};
use crate::log::format::checksum::checksum;
use crate::log::format::frame::Frame;
use crate::log::format::header::{
    FIRST_OFFSET, HEADER_PAGE_BYTES, HeaderFault, SegmentHeader, decode_first, encode_first,
};
use crate::log::format::index::Index;
use crate::log::format::trailer::{TRAILER_BYTES, Trailer};
use crate::log::sys::file::DataFile;
use crate::log::sys::map::Map;
use crate::log::types::error::{Corruption, Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// Reads a segment's header page; the inner `None` stands for one that was never written.
pub(crate) fn read_header(
    file: &DataFile,
    shard: ShardId,
    base: SequenceNumber,
) -> Result<(Option<SegmentHeader>, Vec<u8>)> {
    let mut page = vec![0; HEADER_PAGE_BYTES.min(file.len()? as usize)];
    file.read_exact_at(&mut page, 0)?;
    // Also one that is cut short: a file may have grown without its content reaching the disk.
    if page.iter().all(|&byte| byte == 0) {
        return Ok((None, page));
    }
    let damage = |offset: u64, reason: String| -> Error {
        Corruption { path: file.path().to_owned(), shard: Some(shard), offset, sequence: Some(base), reason }
            .into_error()
    };
    let header = match SegmentHeader::decode(&page) {
        Ok(header) => header,
        Err(HeaderFault::Blank) => return Ok((None, page)),
        Err(HeaderFault::Version { found }) => {
            return Err(Error::unsupported(file.path(), format!("segment format version {found}")));
        }
        Err(HeaderFault::Short { len }) => {
            return Err(damage(
                len as u64,
                format!("expected a header page of {HEADER_PAGE_BYTES} bytes, found {len}"),
            ));
        }
        Err(HeaderFault::Magic) => return Err(damage(0, "expected the mark of a segment file".into())),
        Err(HeaderFault::Checksum { expected, found }) => {
            return Err(damage(0, format!("expected header checksum {expected:#010x}, found {found:#010x}")));
        }
        Err(HeaderFault::Reserved) => return Err(damage(0, "expected zeros in the header page".into())),
    };
    if header.shard != shard.get() {
        let found = ShardId::new(header.shard);
        return Err(damage(0, format!("expected a segment of {shard}, found one of {found}")));
    }
    if header.base_sequence != base.get() {
        let found = header.base_sequence;
        return Err(damage(
            0,
            format!("expected a segment that begins with sequence number {base}, found {found}"),
        ));
    }
    Ok((Some(header), page))
}

/// Notes durably in the segment at `path` that those before it were trimmed. It takes no room on the disk.
pub(crate) fn note_first(path: &Path, base: SequenceNumber) -> Result<()> {
    let file = DataFile::open_writable(path)?;
    file.write_all_at(&encode_first(base.get()), FIRST_OFFSET as u64)?;
    file.sync()
}

/// Whether the segment at `path` says that those before it were trimmed.
pub(crate) fn is_noted_first(path: &Path, base: SequenceNumber) -> Result<bool> {
    let file = DataFile::open(path)?;
    let mut page = vec![0; FRAMES_FROM.min(file.len()?) as usize];
    file.read_exact_at(&mut page, 0)?;
    Ok(decode_first(&page, base.get()))
}

/// Reads the trailer at the end of a file, if there is a valid one.
pub(crate) fn read_trailer(file: &DataFile, header: &SegmentHeader) -> Result<Option<Trailer>> {
    let file_bytes = file.len()?;
    let Some(at) = file_bytes.checked_sub(TRAILER_BYTES as u64).filter(|&at| at >= FRAMES_FROM) else {
        return Ok(None);
    };
    let mut bytes = [0; TRAILER_BYTES];
    file.read_exact_at(&mut bytes, at)?;
    Ok(Trailer::decode(&bytes, header, file_bytes).filter(|trailer| trailer.frames_end > FRAMES_FROM))
}

/// Opens a segment that is no longer written to. `end` is where the next one begins, if there is one.
pub(crate) fn open(
    path: &Path,
    shard: ShardId,
    base: SequenceNumber,
    end: Option<SequenceNumber>,
) -> Result<Window> {
    let file = DataFile::open(path)?;
    let Some(header) = read_header(&file, shard, base)?.0 else {
        let (path, reason) = (path.to_owned(), "expected a segment header, found zeros".into());
        return Err(
            Corruption { path, shard: Some(shard), offset: 0, sequence: Some(base), reason }.into_error()
        );
    };
    let trailer = read_trailer(&file, &header)?;
    let frames_end = match trailer {
        Some(trailer) => trailer.frames_end,
        // A trailer is never needed to read data: without one, the frames themselves tell where they end.
        None => scan_end(&file, base, end)?,
    };
    let map = Map::read_only(file.std(), frames_end).map_err(|error| file.error("map", error))?;
    Ok(Window::new(map, path, (shard, base), trailer, None))
}

/// Where the frames of a segment without a trailer end: if not right before `end`, then at the end of the file, so that a reader
/// meets the damage and can tell of it.
fn scan_end(file: &DataFile, base: SequenceNumber, end: Option<SequenceNumber>) -> Result<u64> {
    let len = file.len()?;
    let map = Map::read_only(file.std(), len).map_err(|error| file.error("map", error))?;
    let (mut offset, mut next) = (FRAMES_FROM, base);
    while let Ok(frame) = Frame::decode(map.bytes(offset..len)) {
        if frame.header.base_sequence != next.get() {
            break;
        }
        next = SequenceNumber::new(frame.header.end_sequence());
        offset += frame.header.len as u64;
    }
    Ok(if end.is_none_or(|end| end == next) { offset } else { len })
}

/// Reads the index out of a sealed segment; `None` if it is gone or damaged, which only costs the time to rebuild it.
pub(crate) fn load_index(path: &Path, base: SequenceNumber, trailer: &Trailer) -> Option<Index> {
    let file = DataFile::open(path).ok()?;
    if file.len().ok()? < trailer.frames_end + trailer.index_bytes() {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(trailer.index_bytes()).ok()?];
    file.read_exact_at(&mut bytes, trailer.frames_end).ok()?;
    let is_whole = checksum(&bytes) == trailer.index_checksum;
    let index = is_whole.then(|| Index::decode(&bytes)).flatten()?;
    index.is_within(base.get()..trailer.end_sequence, FRAMES_FROM..trailer.frames_end).then_some(index)
}
