//! Reading fragments by their numbers, as Matroska.

use std::collections::VecDeque;
use std::io;

use super::VideoStream;
use super::get_media::{MediaChunk, Pending, seconds};
use crate::video::error::VideoError;
use crate::video::matroska::ids;
use crate::video::matroska::write::{SEGMENT_HEAD, push, push_parent, push_tags};
use crate::video::number::FragmentNumber;

/// The most fragments of one call, as in Kinesis.
const FRAGMENTS_MAX: usize = 1_000;
/// The codes of Kinesis' exception tags for a missing fragment, and for an internal failure.
const NOT_FOUND_CODE: u32 = 4000;
const INTERNAL_CODE: u32 = 5000;

/// The requested fragments, in the order of the request. [`VideoStream::media_for`] returns it.
///
/// Each is a Matroska document with the tags `AWS_KINESISVIDEO_FRAGMENT_NUMBER`, `_SERVER_SIDE_TIMESTAMP` and `_PRODUCER_SIDE_TIMESTAMP`. As a
/// reader, it concatenates them.
#[derive(Debug)]
pub struct MediaForFragments {
    stream: VideoStream,
    numbers: VecDeque<FragmentNumber>,
    pending: Pending,
}

impl VideoStream {
    /// Reads fragments by their numbers, like Kinesis' `GetMediaForFragmentList`.
    ///
    /// # Errors
    /// `NoDataRetention`; `InvalidArgument` for no numbers or more than 1,000.
    pub fn media_for(&self, numbers: &[FragmentNumber]) -> Result<MediaForFragments, VideoError> {
        if !(1..=FRAGMENTS_MAX).contains(&numbers.len()) {
            return Err(VideoError::invalid(format!(
                "{} fragments are asked for: ask for 1 to {FRAGMENTS_MAX} at a time",
                numbers.len()
            )));
        }
        self.check_retention()?;
        Ok(MediaForFragments {
            stream: self.clone(),
            numbers: numbers.iter().copied().collect(),
            pending: Pending::default(),
        })
    }
}

impl MediaForFragments {
    /// Returns the next fragment, or `None` after the last one.
    ///
    /// # Errors
    /// `NotFound` if there is no such fragment, or if it has expired; `Stream`. After an error, the next call continues with the next number.
    pub fn next_chunk(&mut self) -> Result<Option<MediaChunk>, VideoError> {
        let Some(number) = self.numbers.pop_front() else { return Ok(None) };
        self.chunk(number).map(Some)
    }

    fn chunk(&self, number: FragmentNumber) -> Result<MediaChunk, VideoError> {
        let missing =
            || VideoError::NotFound(format!("there is no fragment {number}, or it has expired").into());
        let fragment = self.stream.fragment(number)?.ok_or_else(missing)?;
        let info = fragment.info();
        let tags = [
            ("AWS_KINESISVIDEO_FRAGMENT_NUMBER", &*number.to_string()),
            ("AWS_KINESISVIDEO_SERVER_SIDE_TIMESTAMP", &seconds(info.server_time)),
            ("AWS_KINESISVIDEO_PRODUCER_SIDE_TIMESTAMP", &seconds(info.producer_time)),
        ];
        Ok(MediaChunk::new(&fragment, &tags, &[]))
    }
}

impl io::Read for MediaForFragments {
    /// At a fragment that cannot be read, the data ends with a document with Kinesis' exception tags, which give the reason.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.pending.is_empty() && !out.is_empty() {
            let Some(number) = self.numbers.pop_front() else { return Ok(0) };
            self.pending = match self.chunk(number) {
                Ok(chunk) => Pending::new(chunk),
                Err(error) => {
                    self.numbers.clear();
                    Pending::of_bytes(exception(number, &error))
                }
            };
        }
        Ok(self.pending.read(out))
    }
}

/// Returns a document with the reason why a fragment cannot be read.
fn exception(number: FragmentNumber, error: &VideoError) -> Vec<u8> {
    let code = if matches!(error, VideoError::NotFound(_)) { NOT_FOUND_CODE } else { INTERNAL_CODE };
    let mut out = vec![];
    push_parent(&mut out, ids::EBML, |out| push(out, ids::DOC_TYPE, b"matroska"));
    out.extend_from_slice(&SEGMENT_HEAD);
    let tags = [
        ("AWS_KINESISVIDEO_FRAGMENT_NUMBER", &*number.to_string()),
        ("AWS_KINESISVIDEO_EXCEPTION_ERROR_CODE", &code.to_string()),
        ("AWS_KINESISVIDEO_EXCEPTION_MESSAGE", &error.to_string()),
    ];
    push_tags(&mut out, tags);
    out
}
