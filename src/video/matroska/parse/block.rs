//! Blocks: one frame each, or several that are laced together.

use std::borrow::Cow;

use super::element::Element;
use super::invalid;
use super::tracks::TrackEntry;
use crate::video::VideoError;
use crate::video::matroska::element::vint;
use crate::video::matroska::ids;
use crate::video::media::Frame;

/// The most frames in a fragment: a frame may have one byte, and each needs a hundred bytes in the list. A fragment of 20 seconds with
/// frames of 5 ms in each of three tracks has 12,000.
const FRAMES_MAX: usize = 1 << 18;

/// The frames that were read.
#[derive(Default)]
pub(super) struct Blocks<'a> {
    frames: Vec<Frame<'a>>,
    /// The frames of laced blocks whose durations no element gives.
    untimed: Vec<std::ops::Range<usize>>,
}

impl<'a> Blocks<'a> {
    pub(super) fn simple(
        &mut self,
        block: &Element<'a>,
        timecode_ns: i64,
        scale: u64,
        tracks: &[TrackEntry],
    ) -> Result<(), VideoError> {
        let block = Block::read(block, tracks)?;
        let is_key = block.flags & 0x80 != 0;
        self.add(&block, timecode_ns, scale, is_key, None)
    }

    pub(super) fn group(
        &mut self,
        group: &Element<'a>,
        timecode_ns: i64,
        scale: u64,
        tracks: &[TrackEntry],
    ) -> Result<(), VideoError> {
        let (mut block, mut duration, mut is_key) = (None, None, true);
        for child in group.children() {
            let child = child?;
            match child.id {
                ids::BLOCK => block = Some(child),
                ids::BLOCK_DURATION => duration = Some(child.unsigned()?),
                ids::REFERENCE_BLOCK => is_key = false,
                _ => {}
            }
        }
        let block = block.ok_or_else(|| invalid(group.at, "no Block in a BlockGroup"))?;
        let block = Block::read(&block, tracks)?;
        let duration_ns = match duration {
            Some(duration) => Some(
                duration.checked_mul(scale).ok_or_else(|| invalid(group.at, "BlockDuration out of range"))?,
            ),
            None => None,
        };
        self.add(&block, timecode_ns, scale, is_key, duration_ns)
    }

    fn add(
        &mut self,
        block: &Block<'a, '_>,
        timecode_ns: i64,
        scale: u64,
        is_key: bool,
        block_duration_ns: Option<u64>,
    ) -> Result<(), VideoError> {
        let sizes = block.sizes()?;
        if self.frames.len() + sizes.list.len() > FRAMES_MAX {
            return Err(invalid(block.at, "more than 262,144 frames"));
        }
        let count = sizes.list.len() as u64;
        let track = &block.entry.track;
        let each_ns = match block_duration_ns {
            Some(duration) if count > 0 => Some(duration / count),
            _ => track.default_duration_ns,
        };
        let time_ns = i128::from(timecode_ns) + i128::from(block.timecode) * i128::from(scale)
            - i128::from(track.codec_delay_ns);
        let first = self.frames.len();
        let mut data = sizes.data;
        for (index, size) in (0..).zip(sizes.list) {
            let frame;
            (frame, data) = data.split_at(size);
            let time_ns = time_ns + i128::from(each_ns.unwrap_or(0)) * index;
            let time_ns = i64::try_from(time_ns).map_err(|_| invalid(block.at, "a time out of range"))?;
            // An empty frame cannot be decoded.
            if !frame.is_empty() {
                let data = match &*block.entry.prefix {
                    [] => Cow::Borrowed(frame),
                    prefix => Cow::Owned([prefix, frame].concat()),
                };
                self.frames.push(Frame { track: track.number, time_ns, duration_ns: each_ns, is_key, data });
            }
        }
        if each_ns.is_none() && self.frames.len() - first > 1 {
            self.untimed.push(first..self.frames.len());
        }
        Ok(())
    }

    /// Spreads the frames of each laced block without durations over the time until the next block of its track.
    pub(super) fn finish(mut self) -> Vec<Frame<'a>> {
        let mut next = std::collections::HashMap::new();
        let mut end = self.frames.len();
        for range in self.untimed.iter().rev() {
            for frame in self.frames[range.end..end].iter().rev() {
                next.insert(frame.track, frame.time_ns);
            }
            end = range.start;
            let (track, time_ns) = (self.frames[range.start].track, self.frames[range.start].time_ns);
            let Some(next_ns) = next.insert(track, time_ns).filter(|&next_ns| next_ns > time_ns) else {
                continue;
            };
            let each_ns = next_ns.abs_diff(time_ns) / range.len() as u64;
            for (index, frame) in (0..).zip(&mut self.frames[range.clone()]) {
                frame.time_ns += i64::try_from(each_ns).unwrap_or(0).saturating_mul(index);
                frame.duration_ns = Some(each_ns);
            }
        }
        self.frames
    }
}

/// A block, before its frames are separated.
struct Block<'a, 't> {
    entry: &'t TrackEntry,
    /// Relative to the cluster's timecode, in its units.
    timecode: i16,
    flags: u8,
    data: &'a [u8],
    at: usize,
}

/// The sizes of a block's frames, which together are those of the data.
struct Sizes<'a> {
    list: Vec<usize>,
    data: &'a [u8],
}

impl<'a, 't> Block<'a, 't> {
    fn read(block: &Element<'a>, tracks: &'t [TrackEntry]) -> Result<Self, VideoError> {
        let cut_off = || invalid(block.at, "the header of a block is cut off");
        let (number, length) = vint(block.data).ok().flatten().ok_or_else(cut_off)?;
        let [high, low, flags, data @ ..] = &block.data[length..] else { return Err(cut_off()) };
        let entry = tracks.iter().find(|entry| entry.track.number == number);
        Ok(Self {
            entry: entry.ok_or_else(|| invalid(block.at, "a block of a track that is not described"))?,
            timecode: i16::from_be_bytes([*high, *low]),
            flags: *flags,
            data,
            at: block.at,
        })
    }

    fn sizes(&self) -> Result<Sizes<'a>, VideoError> {
        let lacing = self.flags & 0x06;
        if lacing == 0 {
            return Ok(Sizes { list: vec![self.data.len()], data: self.data });
        }
        let wrong = || invalid(self.at, "the sizes of laced frames are wrong");
        let (&last, mut data) = self.data.split_first().ok_or_else(wrong)?;
        let last = usize::from(last);
        let mut list = Vec::with_capacity(last + 1);
        match lacing {
            0x04 => {
                if data.len() % (last + 1) != 0 {
                    return Err(wrong());
                }
                list.resize(last + 1, data.len() / (last + 1));
                return Ok(Sizes { list, data });
            }
            0x02 => {
                for _ in 0..last {
                    let mut size = 0;
                    loop {
                        let (&byte, rest) = data.split_first().ok_or_else(wrong)?;
                        data = rest;
                        size += usize::from(byte);
                        if byte < 255 {
                            break;
                        }
                    }
                    list.push(size);
                }
            }
            _ => {
                let mut size: i64 = 0;
                for index in 0..last {
                    let (value, length) = vint(data).ok().flatten().ok_or_else(wrong)?;
                    data = &data[length..];
                    let all_ones = (1_i64 << (7 * length)) - 1;
                    let value = value.min(all_ones as u64) as i64;
                    // All but the first are differences, as numbers around half of the range.
                    let change = if index == 0 { value } else { value - (all_ones >> 1) };
                    size = size.checked_add(change).filter(|&size| size >= 0).ok_or_else(wrong)?;
                    list.push(usize::try_from(size).map_err(|_| wrong())?);
                }
            }
        }
        let sum = list.iter().try_fold(0_usize, |sum, &size| sum.checked_add(size));
        let rest = sum.and_then(|sum| data.len().checked_sub(sum)).ok_or_else(wrong)?;
        list.push(rest);
        Ok(Sizes { list, data })
    }
}
