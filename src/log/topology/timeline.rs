//! The time by which records age, although the clock may jump.
//!
//! The clock has jumped if it and the elapsed time diverge by more than [`CLOCK_STEP_MAX`]. Nobody can know which side of a jump was right: a
//! machine may begin in 1970 and get its time later, or somebody may set the clock to 2036 by mistake. So the records that are there at a jump
//! keep ageing as if the clock had not jumped. Only later records age by the new time. Once the jump is as long ago as records are kept, it no
//! longer matters.
//!
//! This is forgotten when the stream is closed. An opening takes the clock as it is.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::log::shard::reader::segments::Present;
use crate::log::shard::trim::PartTime;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::{CLOCK_STEP_MAX, Clock, Timestamp};

/// More jumps than this are not kept apart.
const JUMPS_MAX: usize = 16;

/// The time by which records age.
#[derive(Debug)]
pub(crate) struct Timeline {
    /// What was there before each jump, oldest first.
    before: VecDeque<Era>,
    /// The clock at the last look, less the time that had passed then, in microseconds.
    offset: i128,
    /// The number of each shard's next record at the last look.
    ends: BTreeMap<ShardId, SequenceNumber>,
}

/// The time between two jumps.
#[derive(Debug)]
struct Era {
    /// The clock, less the time that had passed.
    offset: i128,
    /// The records of each shard that existed when it ended are below this number.
    ends: BTreeMap<ShardId, SequenceNumber>,
    /// When it ended, by the time that had passed.
    ended_at: Duration,
}

/// A look at the clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    now: Timestamp,
    /// How much time had passed before and after the clock was read. The thread may have been held up in between.
    elapsed: (Duration, Duration),
}

/// A jump of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Jump {
    Forward(Duration),
    Back(Duration),
}

impl Look {
    pub(crate) fn at(clock: &dyn Clock) -> Self {
        let before = clock.elapsed();
        let now = clock.now();
        Self { now, elapsed: (before, clock.elapsed().max(before)) }
    }

    /// Returns the least and the greatest distance of the clock from the time that has passed.
    fn offsets(&self) -> (i128, i128) {
        let offset = |elapsed: Duration| i128::from(self.now.as_micros()) - micros(elapsed);
        (offset(self.elapsed.1), offset(self.elapsed.0))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn present(&self) -> Present {
        Present { now: self.now, elapsed: self.elapsed.0 }
    }
}

impl Timeline {
    pub(crate) fn new(look: &Look) -> Self {
        Self { before: VecDeque::new(), offset: look.offsets().0, ends: BTreeMap::new() }
    }

    /// Notes what the clock shows. Returns by how much it has jumped since the last look, if it has.
    ///
    /// `ends` are the numbers of each shard's next record. Jumps that are `age` ago are forgotten.
    ///
    /// Records that were put since the last look may have come before the jump or after it. They age by whichever time is earlier.
    pub(crate) fn note(
        &mut self,
        look: &Look,
        age: Option<Duration>,
        ends: BTreeMap<ShardId, SequenceNumber>,
    ) -> Option<Jump> {
        let (least, greatest) = look.offsets();
        let (before, step_max) = (self.offset, micros(CLOCK_STEP_MAX));
        self.offset = before.clamp(least, greatest);
        let by = self.offset - before;
        let jump = (by.abs() > step_max).then(|| {
            let distance = Duration::from_micros(u64::try_from(by.abs()).unwrap_or(u64::MAX));
            if by > 0 { Jump::Forward(distance) } else { Jump::Back(distance) }
        });
        let ends_before = std::mem::replace(&mut self.ends, ends);
        let ends = match jump {
            Some(Jump::Forward(_)) => Some(self.ends.clone()),
            Some(Jump::Back(_)) => Some(ends_before),
            None => None,
        };
        if let Some(ends) = ends {
            self.before.push_back(Era { offset: before, ends, ended_at: look.elapsed.0 });
            self.merge_oldest_if_many();
        }
        while let Some((oldest, age)) = self.before.front().zip(age)
            && look.elapsed.0.saturating_sub(oldest.ended_at) >= age
        {
            self.before.pop_front();
        }
        jump
    }

    /// Merges the era before the oldest jump with the one before the next. Both age by whichever of their clocks is behind.
    fn merge_oldest_if_many(&mut self) {
        if self.before.len() > JUMPS_MAX
            && let Some(oldest) = self.before.pop_front()
            && let Some(next) = self.before.front_mut()
        {
            next.offset = next.offset.min(oldest.offset);
        }
    }

    /// Returns the parts of a shard, oldest first. The last one has no end.
    pub(crate) fn parts_of(&self, shard: ShardId, look: &Look) -> Vec<PartTime> {
        // A shard that an era does not know was created after it.
        let earlier = self.before.iter().filter_map(|era| {
            let end = Some(*era.ends.get(&shard)?);
            Some((end, time(micros(look.elapsed.0) + era.offset)))
        });
        earlier.chain([(None, look.now)]).collect()
    }

    /// Returns the earliest of the times by which anything ages.
    pub(crate) fn earliest(&self, look: &Look) -> Timestamp {
        let earlier = self.before.iter().map(|era| time(micros(look.elapsed.0) + era.offset));
        earlier.chain([look.now]).min().unwrap_or_default()
    }
}

fn micros(duration: Duration) -> i128 {
    i128::try_from(duration.as_micros()).unwrap_or(i128::MAX / 4)
}

fn time(micros: i128) -> Timestamp {
    Timestamp::from_micros(u64::try_from(micros.max(0)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DAY, HOUR, MINUTE, ManualClock, SECOND};

    const SHARD: ShardId = ShardId::new(0);

    struct World {
        clock: ManualClock,
        timeline: Timeline,
    }

    impl World {
        fn new() -> Self {
            let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
            let timeline = Timeline::new(&Look::at(&clock));
            Self { clock, timeline }
        }

        fn note(&mut self, end: u64) -> Option<Jump> {
            self.timeline.note(&Look::at(&self.clock), Some(DAY), BTreeMap::from([(SHARD, end.into())]))
        }

        fn parts(&self) -> Vec<(Option<u64>, Timestamp)> {
            let parts = self.timeline.parts_of(SHARD, &Look::at(&self.clock)).into_iter();
            parts.map(|(end, now)| (end.map(SequenceNumber::get), now)).collect()
        }
    }

    #[test]
    fn p12_what_is_there_at_a_jump_ages_on_as_if_the_clock_had_not_jumped_for_as_long_as_records_are_kept() {
        let mut world = World::new();
        let start = world.clock.now();
        world.clock.advance(HOUR);
        assert_eq!(world.note(5), None, "time that passes is no jump");
        world.clock.set(start + 10 * DAY);
        assert_eq!(world.note(7), Some(Jump::Forward(10 * DAY - HOUR)));
        world.clock.advance(HOUR);
        assert_eq!(world.note(9), None);
        let ahead = start + 10 * DAY + HOUR;
        assert_eq!(world.parts(), [(Some(7), start + 2 * HOUR), (None, ahead)]);
        world.clock.set(start + 2 * HOUR);
        assert_eq!(world.note(11), Some(Jump::Back(10 * DAY - HOUR)));
        assert_eq!(world.parts(), [(Some(7), start + 2 * HOUR), (Some(9), ahead), (None, start + 2 * HOUR)]);
        assert_eq!(world.timeline.parts_of(ShardId::new(1), &Look::at(&world.clock)).len(), 1, "a new shard");
        world.clock.advance(DAY - HOUR);
        assert_eq!((world.note(20), world.parts().len()), (None, 2));
        world.clock.advance(HOUR);
        assert_eq!((world.note(20), world.parts().len()), (None, 1));
    }

    #[test]
    fn a_small_step_is_followed_and_many_jumps_take_no_more_memory_than_some() {
        let mut world = World::new();
        world.clock.set(world.clock.now() + MINUTE);
        assert_eq!(world.note(1), None);
        let earliest = world.clock.now();
        for number in 0..100u64 {
            let jump = HOUR * (number % 7) as u32;
            world.clock.set(earliest + jump);
            world.note(number);
        }
        assert_eq!(world.parts().len(), JUMPS_MAX + 1);
        assert_eq!(world.timeline.earliest(&Look::at(&world.clock)), earliest);
    }

    #[test]
    fn p11_no_time_is_too_early_or_too_late() {
        let mut world = World::new();
        for to in [0, u64::MAX, 1, u64::MAX - 1, u64::MAX / 2] {
            world.clock.set(Timestamp::from_micros(to));
            world.note(1);
            world.clock.advance(SECOND);
            world.clock.advance(Duration::MAX);
            assert!(world.parts().is_sorted_by_key(|part| part.0.is_none()));
        }
    }
}
