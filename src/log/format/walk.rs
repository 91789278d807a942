//! Walking along the frames of a segment: the one loop that recovery, seeking, salvage and rewriting share.

use super::fault::FrameFault;
use super::frame::{Frame, FrameHeader};
use super::salt::Salt;

/// How much of each frame a walk reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Depth<'a> {
    /// Only the header, unchecked: for frames that were checked before, or are checked when they are read.
    Headers,
    /// The whole frame, checked with the salt of its file.
    Whole(&'a Salt),
}

/// A walk along consecutive frames. It has no policy: the caller decides where to begin, what to look for and what a fault means.
#[derive(Debug, Clone)]
pub(crate) struct FrameWalk<'a> {
    /// The bytes from the current frame on.
    rest: &'a [u8],
    offset: u64,
    next_sequence: u64,
    depth: Depth<'a>,
}

impl<'a> FrameWalk<'a> {
    /// Starts a walk at the first of `frames`, which is at `offset` in the file. Its first record has the number `next_sequence`.
    #[inline]
    pub(crate) fn new(frames: &'a [u8], offset: u64, next_sequence: u64, depth: Depth<'a>) -> Self {
        Self { rest: frames, offset, next_sequence, depth }
    }

    /// Returns the offset just after the last frame that the walk has passed.
    #[inline]
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the sequence number after the last record that the walk has passed.
    #[inline]
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Returns the length that the current frame claims, if a frame can have it.
    pub(crate) fn peek_len(&self) -> Option<usize> {
        FrameHeader::peek(self.rest).ok().map(|frame| frame.len)
    }

    /// Returns the current frame, or `None` at the end of the bytes.
    #[inline]
    pub(crate) fn here(&self) -> Result<Option<FrameHeader>, FrameFault> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let frame = match self.depth {
            Depth::Headers => FrameHeader::peek(self.rest)?,
            Depth::Whole(salt) => Frame::decode(self.rest, salt)?.header,
        };
        let (expected, found) = (self.next_sequence, frame.base_sequence);
        if found == expected { Ok(Some(frame)) } else { Err(FrameFault::Sequence { expected, found }) }
    }

    /// Passes the current frame, which must be `frame`.
    #[inline]
    pub(crate) fn pass(&mut self, frame: &FrameHeader) {
        self.rest = &self.rest[frame.len..];
        self.offset += frame.len as u64;
        self.next_sequence = frame.end_sequence();
    }

    /// Passes the current frame and returns it, or returns `None` at the end of the bytes. A fault leaves the walk in front of it.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<FrameHeader>, FrameFault> {
        let frame = self.here()?;
        if let Some(frame) = &frame {
            self.pass(frame);
        }
        Ok(frame)
    }

    /// Advances to the first frame for which `is_it` returns `true`, and stops in front of it. Returns `None` at the end of the bytes.
    #[inline]
    pub(crate) fn find(
        &mut self,
        mut is_it: impl FnMut(u64, &FrameHeader) -> bool,
    ) -> Result<Option<FrameHeader>, FrameFault> {
        while let Some(frame) = self.here()? {
            if is_it(self.offset, &frame) {
                return Ok(Some(frame));
            }
            self.pass(&frame);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::draft::DraftBuffer;
    use super::*;
    use crate::PutRecord;

    fn frames(salt: &Salt) -> Vec<u8> {
        let mut buffer = DraftBuffer::default();
        let mut bytes = vec![];
        for base in [5, 7, 9] {
            let records = [PutRecord::new("key", "data"), PutRecord::new("key", "more")];
            let mut draft = buffer.draft(records.iter(), 0);
            draft.seal(base, 100 + base, salt);
            bytes.extend(draft.parts().concat());
        }
        bytes
    }

    #[test]
    fn a_walk_passes_frame_after_frame_and_stops_in_front_of_a_fault() {
        let salt = Salt::new([1; 16]);
        let mut bytes = frames(&salt);
        let len = bytes.len() as u64 / 3;
        let mut walk = FrameWalk::new(&bytes, 4096, 5, Depth::Whole(&salt));
        let found = walk.find(|_, frame| frame.timestamp_micros >= 107).unwrap().unwrap();
        assert_eq!((found.base_sequence, walk.offset()), (7, 4096 + len));
        while walk.next().unwrap().is_some() {}
        assert_eq!((walk.offset(), walk.next_sequence()), (4096 + 3 * len, 11));

        *bytes.last_mut().unwrap() ^= 1;
        let mut walk = FrameWalk::new(&bytes, 4096, 5, Depth::Whole(&salt));
        assert!(matches!(walk.find(|_, _| false), Err(FrameFault::Shape | FrameFault::Checksum { .. })));
        assert_eq!((walk.offset(), walk.next_sequence()), (4096 + 2 * len, 9));
        let mut walk = FrameWalk::new(&bytes, 4096, 5, Depth::Headers);
        assert_eq!(walk.find(|_, _| false), Ok(None), "headers are believed");
        let walk = FrameWalk::new(&bytes, 4096, 6, Depth::Headers);
        assert_eq!(walk.here(), Err(FrameFault::Sequence { expected: 6, found: 5 }));
    }
}
