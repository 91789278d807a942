//! The clusters: each becomes a fragment.

use super::super::element::{Head, uint, vint};
use super::super::header::{invalid, set_tag};
use super::super::ids;
use super::super::timing::BlockHead;
use super::super::write::{SEGMENT_HEAD, long_size, push_tags};
use super::{BLOCK_HEAD_BYTES_MAX, Body, Cut, Cutter, Level, Sink, UNKNOWN_BYTES_MAX, Whole};
use crate::video::error::{AckErrorId, VideoError};

/// The memory for fragments that is kept, however small they are.
const KEPT_BYTES_MIN: usize = 1 << 20;

impl Cutter {
    pub(super) fn begin_cluster(
        &mut self,
        head: Head,
        end: Option<u64>,
        head_bytes: &[u8],
    ) -> Result<(), VideoError> {
        if self.track_heads.is_empty() {
            return Err(invalid("a cluster comes before the tracks"));
        }
        let mut tags = self.options.tags.clone();
        for (name, value) in self.tags.drain(..) {
            set_tag(&mut tags, &name, &value)?;
        }
        // A large fragment does not keep its memory while small ones follow.
        let kept = (4 * self.out.len()).max(KEPT_BYTES_MIN);
        self.out.clear();
        if self.out.capacity() > kept {
            self.out.shrink_to(kept);
        }
        for part in [&self.document[..], &SEGMENT_HEAD, &self.info, &self.tracks] {
            self.out.extend_from_slice(part);
        }
        push_tags(&mut self.out, tags.iter().map(|(name, value)| (&**name, &**value)));
        self.cluster_at = self.out.len();
        match head.size {
            Some(size) => {
                self.check_room(head.len as u64 + size)?;
                self.out.extend_from_slice(head_bytes);
            }
            None => {
                // The size is filled in at the end.
                self.out.extend_from_slice(&head_bytes[..4]);
                self.out.extend_from_slice(&long_size(0));
            }
        }
        self.timing.begin(self.scale, &self.track_heads);
        self.timecode_ns = None;
        self.cluster_end = end;
        self.level = Level::Cluster;
        Ok(())
    }

    /// Fails if the fragment has no room for this many more bytes.
    fn check_room(&self, bytes: u64) -> Result<(), VideoError> {
        let max = self.options.fragment_bytes_max;
        if bytes <= max.saturating_sub(self.out.len()) as u64 {
            return Ok(());
        }
        let reason = format!("a fragment has more than {max} bytes");
        Err(VideoError::rejected(AckErrorId::MaxFragmentSizeReached, reason))
    }

    /// Opens an element of a cluster.
    pub(super) fn open_inside(
        &mut self,
        head: Head,
        end: Option<u64>,
        bytes: &[u8],
        sink: Sink<'_>,
    ) -> Result<Option<usize>, VideoError> {
        let Some(size) = head.size else {
            return Err(invalid(format!("the element {:X} has no size", head.id)));
        };
        self.check_room(head.len as u64 + size)?;
        // The bytes of the payload that are parsed here.
        let looked_at = match (self.level, head.id) {
            (Level::Cluster, ids::TIMESTAMP) | (Level::Group, ids::BLOCK_DURATION) => {
                if size > 8 {
                    return Err(invalid("a time has more than 8 bytes"));
                }
                size as usize
            }
            (Level::Cluster, ids::SIMPLE_BLOCK) | (Level::Group, ids::BLOCK) => {
                size.min(BLOCK_HEAD_BYTES_MAX as u64) as usize
            }
            _ => 0,
        };
        let len = head.len + looked_at;
        let Some(taken) = bytes.get(..len) else { return Ok(None) };
        let payload = &taken[head.len..];
        match (self.level, head.id) {
            (Level::Cluster, ids::TIMESTAMP) => self.take_timecode(payload, sink)?,
            (Level::Cluster, ids::SIMPLE_BLOCK) => {
                let block = self.read_block(payload)?;
                self.timing.add(&block)?;
            }
            (Level::Cluster, ids::BLOCK_GROUP) => {
                self.level = Level::Group;
                self.group_end = end;
                self.group = None;
            }
            (Level::Group, ids::BLOCK) => self.group = Some(self.read_block(payload)?),
            (Level::Group, ids::BLOCK_DURATION) => {
                if let Some(block) = &mut self.group {
                    block.duration = uint(payload);
                }
            }
            _ if size > UNKNOWN_BYTES_MAX && head.id != ids::VOID => {
                return Err(invalid(format!("the element {:X} of a cluster is too long", head.id)));
            }
            _ => {}
        }
        self.out.extend_from_slice(taken);
        self.position += len as u64;
        if head.id != ids::BLOCK_GROUP {
            self.body = Body::Copied;
            self.body_left = size - looked_at as u64;
        }
        Ok(Some(len))
    }

    fn take_timecode(&mut self, payload: &[u8], sink: Sink<'_>) -> Result<(), VideoError> {
        if self.timecode_ns.is_some() {
            return Err(invalid("a cluster has two timecodes"));
        }
        let timecode_ns = self.timing.cluster_ns(uint(payload).unwrap_or_default())?;
        if timecode_ns < self.previous_ns {
            let reason = format!(
                "a fragment begins at {timecode_ns} ns, and the one before it at {} ns",
                self.previous_ns
            );
            return Err(VideoError::rejected(AckErrorId::FragmentTimecodeLesserThanPrevious, reason));
        }
        self.timecode_ns = Some(timecode_ns);
        self.previous_ns = timecode_ns;
        sink(Cut::Begun { timecode_ns })
    }

    fn read_block(&self, payload: &[u8]) -> Result<BlockHead, VideoError> {
        let too_short = || invalid("a block is too short for its head");
        if self.timecode_ns.is_none() {
            return Err(invalid("a frame comes before the timecode of its cluster"));
        }
        let (track, len) = vint(payload)?.ok_or_else(too_short)?;
        let &[high, low, flags] = payload.get(len..len + 3).ok_or_else(too_short)? else {
            return Err(too_short());
        };
        // Two bits give the kind of lacing, and the next byte gives the number of further frames.
        let frame_count = match flags & 0x06 {
            0 => 1,
            _ => u64::from(*payload.get(len + 3).ok_or_else(too_short)?) + 1,
        };
        Ok(BlockHead { track, relative: i16::from_be_bytes([high, low]), frame_count, duration: None })
    }

    pub(super) fn end_group(&mut self) -> Result<(), VideoError> {
        self.level = Level::Cluster;
        self.group_end = None;
        match self.group.take() {
            Some(block) => self.timing.add(&block),
            None => Err(invalid("a block group has no block")),
        }
    }

    pub(super) fn end_cluster(&mut self, sink: Sink<'_>) -> Result<(), VideoError> {
        self.level = Level::Segment;
        let length_ns = self.timing.end(self.options.are_tracks_sparse)?;
        if self.timecode_ns.is_none() {
            return Err(invalid("a cluster has no timecode"));
        }
        if self.cluster_end.take().is_none() {
            let size_at = self.cluster_at + 4;
            let size = (self.out.len() - size_at - 8) as u64;
            self.out[size_at..size_at + 8].copy_from_slice(&long_size(size));
        }
        let (cluster_at, setup) = (self.cluster_at, self.setup);
        sink(Cut::Whole(Whole { data: &self.out, cluster_at, length_ns, setup }))
    }
}
