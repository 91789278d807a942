//! Cutting Matroska that comes in pieces of any size into fragments.
//!
//! Only the heads of elements are parsed. The payload of a frame is copied once, from its piece into the fragment. The cutter keeps one fragment and
//! the data before the clusters, whatever sizes the data claims.

mod cluster;

use super::element::{HEAD_BYTES_MAX, Head};
use super::header::{
    TIMESTAMP_SCALE_DEFAULT, TagList, TrackHead, check_document, invalid, read_info, read_tags, read_tracks,
    setup_of,
};
use super::ids;
use super::timing::{BlockHead, Timing};
use crate::video::error::{AckErrorId, VideoError};

/// The most bytes of a block that are parsed: its track, time, flags, and the number of its frames.
const BLOCK_HEAD_BYTES_MAX: usize = 12;
/// The most bytes of an element that a later version of Matroska may have.
const UNKNOWN_BYTES_MAX: u64 = 1 << 20;

/// The settings of the cutter that do not come from the data.
#[derive(Debug, Clone)]
pub(crate) struct CutOptions {
    /// The largest fragment, as it is stored.
    pub(crate) fragment_bytes_max: usize,
    /// Whether a fragment may lack frames of a track.
    pub(crate) are_tracks_sparse: bool,
    /// Tags of each fragment.
    pub(crate) tags: TagList,
}

/// An event of the cutter.
#[derive(Debug)]
pub(crate) enum Cut<'a> {
    /// A fragment has begun.
    Begun { timecode_ns: u64 },
    /// A fragment is whole.
    Whole(Whole<'a>),
}

/// A whole fragment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole<'a> {
    /// The fragment as a Matroska file.
    pub(crate) data: &'a [u8],
    pub(crate) cluster_at: usize,
    pub(crate) length_ns: u64,
    /// Equal for fragments whose decoder setup is the same.
    pub(crate) setup: u32,
}

/// Takes the events. An error that it returns ends the cutting.
pub(crate) type Sink<'s> = &'s mut dyn FnMut(Cut<'_>) -> Result<(), VideoError>;

/// Where the next element begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Document,
    Segment,
    Cluster,
    Group,
}

/// How the bytes after a head are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Copied,
    Skipped,
    /// Kept until the whole element is there.
    Gathered {
        id: u32,
        head_len: usize,
    },
}

/// Cuts Matroska into fragments: see the module.
#[derive(Debug)]
pub(crate) struct Cutter {
    options: CutOptions,
    /// The bytes before the next one.
    position: u64,
    level: Level,
    /// Where the open elements end, if known.
    segment_end: Option<u64>,
    cluster_end: Option<u64>,
    group_end: Option<u64>,
    /// The beginning of an element whose head is not complete.
    head: Vec<u8>,
    body: Body,
    body_left: u64,
    gathered: Vec<u8>,

    document: Vec<u8>,
    info: Vec<u8>,
    scale: u64,
    tracks: Vec<u8>,
    setup: u32,
    track_heads: Vec<TrackHead>,
    /// The tags of the next fragment.
    tags: TagList,

    /// The fragment in progress, or the last one.
    out: Vec<u8>,
    cluster_at: usize,
    timecode_ns: Option<u64>,
    timing: Timing,
    group: Option<BlockHead>,
    previous_ns: u64,
}

impl Cutter {
    pub(crate) fn new(options: CutOptions) -> Self {
        Self {
            options,
            position: 0,
            level: Level::Document,
            segment_end: None,
            cluster_end: None,
            group_end: None,
            head: Vec::with_capacity(HEAD_BYTES_MAX + BLOCK_HEAD_BYTES_MAX),
            body: Body::Skipped,
            body_left: 0,
            gathered: vec![],
            document: vec![],
            info: vec![],
            scale: 0,
            tracks: vec![],
            setup: 0,
            track_heads: vec![],
            tags: vec![],
            out: vec![],
            cluster_at: 0,
            timecode_ns: None,
            timing: Timing::default(),
            group: None,
            previous_ns: 0,
        }
    }

    /// Takes the next piece. After an error, the cutter must not be used any more.
    pub(crate) fn push(&mut self, mut bytes: &[u8], sink: Sink<'_>) -> Result<(), VideoError> {
        loop {
            if self.body_left > 0 {
                let len = usize::try_from(self.body_left).map_or(bytes.len(), |left| left.min(bytes.len()));
                let (body, rest) = bytes.split_at(len);
                match self.body {
                    Body::Copied => self.out.extend_from_slice(body),
                    Body::Gathered { .. } => self.gathered.extend_from_slice(body),
                    Body::Skipped => {}
                }
                self.body_left -= len as u64;
                self.position += len as u64;
                bytes = rest;
                if self.body_left > 0 {
                    return Ok(());
                }
            }
            self.close(sink)?;
            let Some((&first, rest)) = bytes.split_first() else { return Ok(()) };
            if self.head.is_empty() {
                match self.open(bytes, sink)? {
                    Some(len) => bytes = &bytes[len..],
                    None => {
                        self.head.extend_from_slice(bytes);
                        return Ok(());
                    }
                }
            } else {
                // The head continues in this piece. It is parsed again after each byte, so that it takes none too many.
                self.head.push(first);
                bytes = rest;
                let head = std::mem::take(&mut self.head);
                let opened = self.open(&head, sink)?;
                self.head = head;
                if opened.is_some() {
                    self.head.clear();
                }
            }
        }
    }

    /// Ends the data. A cluster of unknown size ends with it.
    pub(crate) fn finish(&mut self, sink: Sink<'_>) -> Result<(), VideoError> {
        let is_within_cluster = match self.level {
            Level::Group => true,
            Level::Cluster => self.cluster_end.is_some(),
            _ => false,
        };
        if !self.head.is_empty() || self.body_left > 0 || is_within_cluster {
            return Err(VideoError::rejected(AckErrorId::StreamReadError, "the data ends within an element"));
        }
        if self.level == Level::Cluster { self.end_cluster(sink) } else { Ok(()) }
    }

    /// Handles a whole element, and closes its parents if they end with it.
    fn close(&mut self, sink: Sink<'_>) -> Result<(), VideoError> {
        if let Body::Gathered { id, head_len } = std::mem::replace(&mut self.body, Body::Skipped) {
            self.take_gathered(id, head_len)?;
        }
        if self.level == Level::Group && self.group_end == Some(self.position) {
            self.end_group()?;
        }
        let is_segment_over = self.segment_end == Some(self.position);
        if self.level == Level::Cluster && (self.cluster_end == Some(self.position) || is_segment_over) {
            self.end_cluster(sink)?;
        }
        if self.level == Level::Segment && is_segment_over {
            self.level = Level::Document;
        }
        Ok(())
    }

    /// Opens the element that `bytes` begin with. Returns how many of them it has taken, or `None` if it needs more.
    fn open(&mut self, bytes: &[u8], sink: Sink<'_>) -> Result<Option<usize>, VideoError> {
        let Some(head) = Head::read(bytes)? else { return Ok(None) };
        // A head that cannot be a child of the open element closes it, if that has no size.
        if self.level == Level::Cluster && self.cluster_end.is_none() && ids::ends_cluster(head.id) {
            self.end_cluster(sink)?;
        }
        if self.level == Level::Segment && self.segment_end.is_none() && ids::ends_segment(head.id) {
            self.level = Level::Document;
        }
        let end = head.size.map(|size| self.position + head.len as u64 + size);
        if let (Some(parent), Some(end)) = (self.parent_end(), end)
            && end > parent
        {
            return Err(invalid("an element is longer than the one that it is in"));
        }
        match self.level {
            Level::Document | Level::Segment => self.open_outside(head, end, bytes),
            Level::Cluster | Level::Group => self.open_inside(head, end, bytes, sink),
        }
    }

    /// Returns where the innermost open element with a size ends.
    fn parent_end(&self) -> Option<u64> {
        match self.level {
            Level::Document => None,
            Level::Segment => self.segment_end,
            Level::Cluster => self.cluster_end.or(self.segment_end),
            Level::Group => self.group_end,
        }
    }

    /// Opens an element outside of a cluster.
    fn open_outside(
        &mut self,
        head: Head,
        end: Option<u64>,
        bytes: &[u8],
    ) -> Result<Option<usize>, VideoError> {
        match (self.level, head.id) {
            (Level::Document, ids::SEGMENT) if !self.document.is_empty() => {
                self.level = Level::Segment;
                self.segment_end = end;
                self.info.clear();
                self.tracks.clear();
                self.track_heads.clear();
                self.tags.clear();
                self.scale = TIMESTAMP_SCALE_DEFAULT;
            }
            (Level::Segment, ids::CLUSTER) => self.begin_cluster(head, end, &bytes[..head.len])?,
            (Level::Document, ids::EBML) => self.gather(head, 4 << 10, bytes)?,
            (Level::Segment, ids::INFO) => self.gather(head, 64 << 10, bytes)?,
            (Level::Segment, ids::TRACKS) => self.gather(head, 1 << 20, bytes)?,
            (Level::Segment, ids::TAGS) => self.gather(head, 1 << 20, bytes)?,
            (Level::Document | Level::Segment, ids::VOID)
            | (Level::Segment, ids::CRC_32 | ids::SEEK_HEAD | ids::CUES | ids::ATTACHMENTS | ids::CHAPTERS) =>
            {
                self.skip(head)?;
            }
            (Level::Segment, _) if head.size.is_some_and(|size| size <= UNKNOWN_BYTES_MAX) => {
                self.skip(head)?
            }
            (Level::Document, _) => return Err(invalid("there is no Matroska document")),
            (_, id) => {
                return Err(invalid(format!("a segment has the element {id:X}, which it cannot have")));
            }
        }
        self.position += head.len as u64;
        Ok(Some(head.len))
    }

    fn skip(&mut self, head: Head) -> Result<(), VideoError> {
        self.begin_body(Body::Skipped, head)
    }

    fn gather(&mut self, head: Head, bytes_max: u64, bytes: &[u8]) -> Result<(), VideoError> {
        if head.size.is_some_and(|size| size > bytes_max) {
            let id = if head.id == ids::TAGS {
                AckErrorId::FragmentMetadataLimitReached
            } else {
                AckErrorId::InvalidMkvData
            };
            return Err(VideoError::rejected(
                id,
                format!("the element {:X} has more than {bytes_max} bytes", head.id),
            ));
        }
        self.gathered.clear();
        self.gathered.extend_from_slice(&bytes[..head.len]);
        self.begin_body(Body::Gathered { id: head.id, head_len: head.len }, head)
    }

    fn begin_body(&mut self, body: Body, head: Head) -> Result<(), VideoError> {
        let unsized_element = || invalid(format!("the element {:X} has no size", head.id));
        self.body_left = head.size.ok_or_else(unsized_element)?;
        self.body = body;
        Ok(())
    }

    fn take_gathered(&mut self, id: u32, head_len: usize) -> Result<(), VideoError> {
        let gathered = &mut self.gathered;
        match id {
            ids::EBML => {
                check_document(&gathered[head_len..])?;
                std::mem::swap(&mut self.document, gathered);
            }
            ids::INFO => {
                self.scale = read_info(&mut gathered[head_len..])?;
                std::mem::swap(&mut self.info, gathered);
            }
            ids::TRACKS => {
                let heads = read_tracks(&gathered[head_len..])?;
                if !self.track_heads.is_empty() && self.track_heads != heads {
                    let reason = "the tracks change within a segment";
                    return Err(VideoError::rejected(AckErrorId::TrackNumberMismatch, reason));
                }
                self.track_heads = heads;
                self.setup = setup_of(&gathered[head_len..])?;
                std::mem::swap(&mut self.tracks, gathered);
            }
            _ => read_tags(&gathered[head_len..], &mut self.tags)?,
        }
        Ok(())
    }
}
