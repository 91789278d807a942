//! Reads a video stream from a position on, live and archived, as endless Matroska.

use std::io;
use std::time::Duration;

use bytes::Bytes;

use super::VideoStream;
use super::fragment::{Fragment, FragmentInfo};
use super::select::{FragmentSelector, StartSelector};
use crate::video::error::VideoError;
use crate::video::matroska::write::push_tags;
use crate::video::number::FragmentNumber;
use crate::{Error, SequenceNumber, Timestamp};

/// How long a read waits at a time before it checks whether to continue.
const WAIT: Duration = Duration::from_secs(60);

/// A fragment for a consumer: a Matroska document with the tags that Kinesis adds.
#[derive(Debug, Clone)]
pub struct MediaChunk {
    /// The metadata of the fragment.
    pub info: FragmentInfo,
    /// The bytes in three parts: the part before the cluster, with tags for the number and the times; the cluster, which is not copied; and, where
    /// they apply, tags for its delay and the position at which to continue.
    pub parts: [Bytes; 3],
}

impl MediaChunk {
    /// Returns the number of bytes of all parts.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// Returns `false`: a chunk has at least the header of a document.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes a chunk of a fragment.
    pub(super) fn new(fragment: &Fragment, before: &[(&str, &str)], after: &[(&str, &str)]) -> Self {
        let (head, cluster) = fragment.parts();
        let mut first = Vec::with_capacity(head.len() + 512);
        first.extend_from_slice(&head);
        push_tags(&mut first, before.iter().copied());
        let mut last = vec![];
        push_tags(&mut last, after.iter().copied());
        Self { info: fragment.info(), parts: [first.into(), cluster, last.into()] }
    }
}

/// Returns a time as Kinesis' tags have it: seconds since 1970, with milliseconds.
pub(super) fn seconds(time: Timestamp) -> String {
    format!("{}.{:03}", time.as_millis() / 1_000, time.as_millis() % 1_000)
}

/// Reads a video stream from a position on. [`VideoStream::get_media`] returns it.
///
/// It returns complete fragments, each a Matroska document with the tags `AWS_KINESISVIDEO_FRAGMENT_NUMBER`, `_SERVER_TIMESTAMP`,
/// `_PRODUCER_TIMESTAMP`, `_MILLIS_BEHIND_NOW` and `_CONTINUATION_TOKEN`. As a reader, it concatenates them, waits for new ones, and ends when the
/// stream is closed.
///
/// Fragments that expire before they are read are left out.
#[derive(Debug)]
pub struct GetMedia {
    stream: VideoStream,
    next: SequenceNumber,
    /// The data that a read has yet to return.
    pending: Pending,
    waits: bool,
}

impl VideoStream {
    /// Reads the stream from a position on, live and archived, like Kinesis' `GetMedia`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use streamlog::video::{StartSelector, VideoStream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = VideoStream::open(directory.path().join("door"))?;
    /// let mut media = stream.get_media(StartSelector::Earliest)?;
    /// while let Some(chunk) = media.next_chunk(Duration::ZERO)? {
    ///     println!("{} {} bytes", chunk.info.number, chunk.len());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for a continuation token that does not come from a chunk.
    pub fn get_media(&self, start: StartSelector) -> Result<GetMedia, VideoError> {
        let index = self.shared.index.lock();
        let visible = self.first_visible(&index);
        let at_or_next = |selector| {
            index.first_where(&selector, visible).map_or(index.next(), |info| info.number.sequence())
        };
        let next = match start {
            StartSelector::Now => {
                index.newest().map_or(index.next(), |info| info.number.sequence()).max(visible)
            }
            StartSelector::Earliest => visible,
            StartSelector::At(number) => number.sequence(),
            StartSelector::After(number) => number.sequence().plus(1),
            StartSelector::ProducerTime(time) => {
                at_or_next(FragmentSelector::ProducerTime(time..=Timestamp::from_micros(u64::MAX)))
            }
            StartSelector::ServerTime(time) => {
                at_or_next(FragmentSelector::ServerTime(time..=Timestamp::from_micros(u64::MAX)))
            }
            StartSelector::ContinuationToken(token) => {
                let number: FragmentNumber = token.parse().map_err(|_| {
                    VideoError::invalid("the continuation token is not one that a chunk of this stream had")
                })?;
                number.sequence().plus(1)
            }
        };
        drop(index);
        Ok(GetMedia { stream: self.clone(), next, pending: Pending::default(), waits: true })
    }
}

impl GetMedia {
    /// Makes reads end at the end of the stream, instead of waiting for new fragments.
    #[must_use]
    pub fn without_waiting(mut self) -> Self {
        self.waits = false;
        self
    }

    /// Returns the next fragment, waiting for at most `timeout` of real time. Returns `None` if none arrives by then.
    ///
    /// # Errors
    /// `Stream` with `Closed` if the stream was closed and everything was read, or if the log is damaged there. After damage, the next call
    /// continues behind it.
    pub fn next_chunk(&mut self, timeout: Duration) -> Result<Option<MediaChunk>, VideoError> {
        loop {
            let (info, newest) = {
                let index = self.stream.shared.index.lock();
                let from = self.next.max(self.stream.first_visible(&index));
                (index.first_where(&FragmentSelector::All, from), index.newest())
            };
            match info {
                Some(info) => {
                    self.next = info.number.sequence().plus(1);
                    // It may have been dropped meanwhile.
                    if let Some(fragment) = self.stream.read(info)? {
                        return Ok(Some(self.chunk(&fragment, newest)));
                    }
                }
                None if !self.stream.wait_for(self.next, timeout)? => return Ok(None),
                None => {}
            }
        }
    }

    fn chunk(&self, fragment: &Fragment, newest: Option<FragmentInfo>) -> MediaChunk {
        let info = fragment.info();
        let is_newest = newest.is_none_or(|newest| newest.number <= info.number);
        let behind = if is_newest { Duration::ZERO } else { self.stream.now().since(info.server_time) };
        let number = info.number.to_string();
        MediaChunk::new(
            fragment,
            &[
                ("AWS_KINESISVIDEO_FRAGMENT_NUMBER", &number),
                ("AWS_KINESISVIDEO_SERVER_TIMESTAMP", &seconds(info.server_time)),
                ("AWS_KINESISVIDEO_PRODUCER_TIMESTAMP", &seconds(info.producer_time)),
            ],
            // After the cluster, so that a consumer that has the token has the whole fragment.
            &[
                ("AWS_KINESISVIDEO_MILLIS_BEHIND_NOW", &behind.as_millis().to_string()),
                ("AWS_KINESISVIDEO_CONTINUATION_TOKEN", &number),
            ],
        )
    }
}

impl io::Read for GetMedia {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.pending.is_empty() && !out.is_empty() {
            let timeout = if self.waits { WAIT } else { Duration::ZERO };
            match self.next_chunk(timeout) {
                Ok(Some(chunk)) => self.pending = Pending::new(chunk),
                Ok(None) if self.waits => {}
                Ok(None) | Err(VideoError::Stream(Error::Closed)) => return Ok(0),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(self.pending.read(out))
    }
}

/// The parts of a chunk that a read has yet to return.
#[derive(Debug, Default)]
pub(super) struct Pending {
    parts: Vec<Bytes>,
}

impl Pending {
    pub(super) fn new(chunk: MediaChunk) -> Self {
        let mut parts = Vec::from(chunk.parts);
        parts.reverse();
        parts.retain(|part| !part.is_empty());
        Self { parts }
    }

    pub(super) fn of_bytes(bytes: Vec<u8>) -> Self {
        Self { parts: vec![bytes.into()] }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn read(&mut self, out: &mut [u8]) -> usize {
        let Some(part) = self.parts.last_mut() else { return 0 };
        let len = out.len().min(part.len());
        out[..len].copy_from_slice(&part.split_to(len));
        if part.is_empty() {
            self.parts.pop();
        }
        len
    }
}
