//! The segments of a shard that are ready for the next rolls.

use crate::segment::spare::{Spare, SparePages};
use crate::words::time::{SECOND, Timestamp};

/// Trimmed segments are used again where a segment was begun within this time: enough for one that is synced with each put, and so
/// short that a shard which rests gives its room back.
const REUSE_WITHIN_SECONDS: u32 = 10;

/// Prepared segments, and how many it pays to have.
#[derive(Debug, Default)]
pub(super) struct Spares {
    /// The last one is used next.
    ready: Vec<Spare>,
    /// How many segments were begun since the last look, and before that since the one before.
    begun: [usize; 2],
    last_begun: Option<Timestamp>,
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
    pub(super) fn note_begun(&mut self, now: Timestamp) {
        self.begun[0] += 1;
        self.last_begun = Some(now);
    }

    /// How many trimmed segments are worth keeping: as many as were begun lately, in the time from one look to the next.
    pub(super) fn wants_trimmed(&self, now: Timestamp) -> usize {
        let lately = self.begun.into_iter().max().unwrap_or_default().max(1);
        if self.is_rolling(now) { lately.saturating_sub(self.ready.len()) } else { 0 }
    }

    /// Has a look, once in a while; tells whether segments are begun often enough to have some ready.
    pub(super) fn look(&mut self, now: Timestamp) -> bool {
        self.begun = [0, self.begun[0]];
        self.is_rolling(now)
    }

    fn is_rolling(&self, now: Timestamp) -> bool {
        self.last_begun.is_some_and(|begun| begun >= now.minus(SECOND * REUSE_WITHIN_SECONDS))
    }
}
