//! Reading the frames of a file without mapping it: another process may truncate the file behind its frames meanwhile.

use std::io;

use crate::log::format::fault::FrameFault;
use crate::log::format::frame::FrameHeader;
use crate::log::format::header::{FRAMES_FROM, SegmentHeader};
use crate::log::format::salt::Salt;
use crate::log::format::walk::{Depth, FrameWalk};
use crate::log::sys::file::DataFile;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;

/// How much of a file is read at a time, unless a frame is longer.
const CHUNK_BYTES: u64 = 1 << 20;

/// Where the good frames of a file end, and why.
#[derive(Debug)]
pub(crate) struct FramesEnd {
    /// The offset behind the last one.
    pub(crate) offset: u64,
    /// The sequence number after its last record.
    pub(crate) sequence: SequenceNumber,
    /// The fault behind it, or `None` if the frames reach the number up to which they were wanted.
    pub(crate) fault: Option<FrameFault>,
}

/// Reads the frames of a file from the first one on and checks each, up to the one that begins with the number `until`. Calls `each` with the
/// good ones.
pub(crate) fn read_frames(
    file: &DataFile,
    header: &SegmentHeader,
    until: Option<SequenceNumber>,
    mut each: impl FnMut(&FrameHeader),
) -> Result<FramesEnd> {
    let salt = Salt::new(header.salt);
    let mut at = FramesEnd { offset: FRAMES_FROM, sequence: header.base_sequence.into(), fault: None };
    let (mut buffer, mut chunk_bytes) = (vec![], CHUNK_BYTES);
    loop {
        let end = file.len()?.max(at.offset);
        let to = end.min(at.offset + chunk_bytes);
        buffer.resize((to - at.offset) as usize, 0);
        match file.read_exact_at(&mut buffer, at.offset) {
            // It was truncated meanwhile.
            Err(Error::Io(failure)) if failure.source.kind() == io::ErrorKind::UnexpectedEof => continue,
            read => read?,
        }
        let mut walk = FrameWalk::new(&buffer, at.offset, at.sequence.get(), Depth::Whole(&salt));
        let fault = loop {
            if until.is_some_and(|until| walk.next_sequence() >= until.get()) {
                break None;
            }
            match walk.next() {
                Ok(Some(frame)) => each(&frame),
                Ok(None) => break Some(FrameFault::Blank),
                Err(fault) => break Some(fault),
            }
        };
        let is_first = walk.offset() == at.offset;
        at = FramesEnd { offset: walk.offset(), sequence: walk.next_sequence().into(), fault };
        chunk_bytes = match at.fault {
            // The frame may be longer than what was read of it.
            Some(FrameFault::Short { len, .. }) if to < end && len as u64 > chunk_bytes => len as u64,
            Some(_) if to < end && !is_first => CHUNK_BYTES,
            _ => return Ok(at),
        };
    }
}
