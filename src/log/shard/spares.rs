//! The segments of a shard that are ready for the next rolls.

use crate::log::segment::spare::{Spare, SparePages};

/// Trimmed segments are used again where a segment was begun within so many passes of the maintenance, which come each second: enough
/// for a shard that is synced with each put, and so few that one that rests gives its room back soon.
const REUSE_WITHIN_PASSES: u32 = 10;

/// Prepared segments, and how many it pays to have.
#[derive(Debug, Default)]
pub(super) struct Spares {
    /// The last one is used next.
    ready: Vec<Spare>,
    /// How many segments were begun since the last pass, and from the one before to that.
    begun: [usize; 2],
    /// The passes since a segment was begun; `None` before the first.
    passes_since: Option<u32>,
}

impl Spares {
    /// Takes one in which a frame of `len` bytes has room.
    pub(super) fn take(&mut self, len: u64) -> Option<Spare> {
        self.ready.pop_if(|spare| spare.has_room(len))
    }

    /// The one that is used next.
    pub(super) fn next(&self) -> Option<&Spare> {
        self.ready.last()
    }

    pub(super) fn keep(&mut self, spares: impl IntoIterator<Item = Spare>) {
        // Not in front of one whose pages were brought in.
        self.ready.splice(0..0, spares);
    }

    /// Lets go of all; tells whether there was one.
    pub(super) fn clear(&mut self) -> bool {
        !std::mem::take(&mut self.ready).is_empty()
    }

    /// Notes that pages were brought in, which may be of one of them.
    pub(super) fn note_prepared(&mut self, pages: &SparePages) {
        self.ready.iter_mut().for_each(|spare| spare.note_prepared(pages));
    }

    /// Notes that a segment was begun.
    pub(super) fn note_begun(&mut self) {
        self.begun[0] += 1;
        self.passes_since = Some(0);
    }

    /// How many trimmed segments are worth keeping.
    pub(super) fn wants_trimmed(&self) -> usize {
        self.wanted().saturating_sub(self.ready.len())
    }

    /// As many as were begun lately from one pass to the next.
    fn wanted(&self) -> usize {
        let is_rolling = self.passes_since.is_some_and(|passes| passes <= REUSE_WITHIN_PASSES);
        if is_rolling { self.begun.into_iter().max().unwrap_or_default().max(1) } else { 0 }
    }

    /// Takes those that are too many by now, which is to be asked once a pass; a shard that is busy keeps one.
    pub(super) fn take_idle(&mut self, is_busy: bool) -> Vec<Spare> {
        self.passes_since = self.passes_since.map(|passes| passes.saturating_add(1));
        let kept = self.wanted().max(usize::from(is_busy));
        self.begun = [0, self.begun[0]];
        self.ready.drain(..self.ready.len().saturating_sub(kept)).collect()
    }
}
