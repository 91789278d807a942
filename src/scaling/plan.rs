//! Decides which shards to split and to merge, from the load of each shard in one interval after another.
//!
//! No I/O, no clock, and no state except how long shards have been hot or cold, so that days can be simulated.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cut::{Cut, Sample};
use crate::{HashKey, HashKeyRange, ShardId};

/// A shard with this load is hot, as in Kinesis' on-demand mode.
pub(super) const SPLIT_LOAD: f64 = 0.5;
/// Two neighbours with less than this together are cold. The children of a split have more than that, and the merged shard is not hot: so a
/// steady load never leads to both.
pub(super) const MERGE_LOAD: f64 = 0.4;

const _: () = assert!(MERGE_LOAD < SPLIT_LOAD);

/// How many shards there may be, `min` to `max`, and how long a shard must be hot or cold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) split_after: Duration,
    pub(super) merge_after: Duration,
}

/// A stretch of time in which traffic was measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interval {
    pub(super) began: Duration,
    pub(super) ended: Duration,
}

/// An open shard in an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ShardLoad {
    pub(super) shard: ShardId,
    /// The shard that was split into this one.
    pub(super) parent: Option<ShardId>,
    pub(super) range: HashKeyRange,
    /// The part of its capacity that it took.
    pub(super) load: f64,
}

/// What is to be done, or reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    Split { shard: ShardId, at: HashKey, load: f64, share_below: f64 },
    Merge { shard: ShardId, adjacent: ShardId, load: f64 },
    HotKey { shard: ShardId, hash_key: HashKey, load: f64, share: f64 },
    AtMaximum { shard: ShardId, load: f64, shard_count: u32 },
}

/// What is reported once while it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    HotKey(HashKey),
    AtMaximum,
}

/// How long shards have been hot or cold, and what was reported.
#[derive(Debug, Default)]
pub(super) struct Planner {
    /// Since when a shard has been hot in every interval.
    hot_since: BTreeMap<ShardId, Duration>,
    /// Since when two neighbours have been cold in every interval.
    cold_since: BTreeMap<(ShardId, ShardId), Duration>,
    /// When something that was reported was last the case.
    said: BTreeMap<Said, Duration>,
}

impl Planner {
    /// Decides after an interval. `shards` are the open shards, in any order; `sample` returns records of one of them. Each shard is in at most
    /// one split or merge.
    pub(super) fn decide(
        &mut self,
        rules: &Rules,
        interval: Interval,
        shards: &[ShardLoad],
        mut sample: impl FnMut(&ShardLoad) -> Sample,
    ) -> Vec<Step> {
        let mut shards = shards.to_vec();
        shards.sort_unstable_by_key(|shard| shard.range.start);
        self.observe(interval, &shards);
        self.said.retain(|_, last| interval.ended.saturating_sub(*last) < rules.merge_after);
        let mut count = shards.len() as u32;
        let mut steps = self.merges(rules, interval, &shards, &mut count);
        let is_long_hot = |shard: &&ShardLoad| {
            let since = self.hot_since.get(&shard.shard);
            since.is_some_and(|&since| interval.ended.saturating_sub(since) >= rules.split_after)
        };
        let mut hot: Vec<ShardLoad> = shards.iter().filter(is_long_hot).copied().collect();
        hot.sort_by(|a, b| b.load.total_cmp(&a.load));
        for known in &hot {
            let ShardLoad { shard, range, load, .. } = *known;
            let step =
                match sample(known).cut(range) {
                    None => continue,
                    Some(Cut::At { at, share_below }) if count < rules.max => {
                        count += 1;
                        Some(Step::Split { shard, at, load, share_below })
                    }
                    Some(Cut::At { .. }) => self
                        .is_news(Said::AtMaximum, interval)
                        .then_some(Step::AtMaximum { shard, load, shard_count: count }),
                    Some(Cut::HotKey { hash_key, share }) => self
                        .is_news(Said::HotKey(hash_key), interval)
                        .then_some(Step::HotKey { shard, hash_key, load, share }),
                };
            steps.extend(step);
        }
        steps
    }

    /// Notes which shards and neighbours are hot or cold, and forgets those that are gone.
    fn observe(&mut self, interval: Interval, shards: &[ShardLoad]) {
        // The child of a hot shard has been hot for as long as its parent.
        let known = |shard: &ShardLoad| {
            let ids = [Some(shard.shard), shard.parent].into_iter().flatten();
            ids.filter_map(|id| self.hot_since.get(&id)).min().copied()
        };
        let hot = shards.iter().filter(|shard| shard.load >= SPLIT_LOAD);
        self.hot_since = hot.map(|shard| (shard.shard, known(shard).unwrap_or(interval.began))).collect();
        let pairs = shards.windows(2).filter(|pair| together(pair) < MERGE_LOAD);
        self.cold_since = pairs
            .filter(|pair| pair[0].range.is_followed_by(&pair[1].range))
            .map(|pair| (pair[0].shard, pair[1].shard))
            .map(|pair| (pair, self.cold_since.get(&pair).copied().unwrap_or(interval.began)))
            .collect();
    }

    /// Merges neighbours that have been cold long enough, the coldest first.
    fn merges(&self, rules: &Rules, interval: Interval, shards: &[ShardLoad], count: &mut u32) -> Vec<Step> {
        let mut cold: Vec<&[ShardLoad]> = shards
            .windows(2)
            .filter(|pair| {
                let since = self.cold_since.get(&(pair[0].shard, pair[1].shard));
                since.is_some_and(|&since| interval.ended.saturating_sub(since) >= rules.merge_after)
            })
            .collect();
        let width = |pair: &[ShardLoad]| pair[1].range.end.get() - pair[0].range.start.get();
        // Among equals the narrowest first, so that ranges without load grow evenly.
        cold.sort_by(|a, b| together(a).total_cmp(&together(b)).then(width(a).cmp(&width(b))));
        let mut merged: Vec<ShardId> = vec![];
        let mut steps = vec![];
        for pair in cold {
            let (shard, adjacent) = (pair[0].shard, pair[1].shard);
            if *count <= rules.min || merged.contains(&shard) || merged.contains(&adjacent) {
                continue;
            }
            *count -= 1;
            merged.extend([shard, adjacent]);
            steps.push(Step::Merge { shard, adjacent, load: together(pair) });
        }
        steps
    }

    /// Returns whether something is to be reported: it was not the case for a long time.
    fn is_news(&mut self, said: Said, interval: Interval) -> bool {
        self.said.insert(said, interval.ended).is_none()
    }
}

/// Returns the load of two neighbours together, as a part of what one shard can take.
fn together(pair: &[ShardLoad]) -> f64 {
    pair.iter().map(|shard| shard.load).sum()
}

#[cfg(test)]
mod tests {
    use super::super::simulation::{Demand, Numbers, Shards};
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    /// Each key weighs exactly what is put with it.
    fn exact_sample(demand: &Demand, shard: &ShardLoad) -> Sample {
        let mut sample = Sample::default();
        for (hash_key, part) in demand.range(shard.range.start..=shard.range.end) {
            (0..16).for_each(|_| sample.add(*hash_key, part / 16.0, shard.range));
        }
        sample
    }

    /// A stream and its planner, in a time of their own.
    struct World {
        rules: Rules,
        shards: Shards,
        planner: Planner,
        now: Duration,
        /// When shards were made by a split and by a merge.
        split_at: BTreeMap<ShardId, Duration>,
        merged_at: BTreeMap<ShardId, Duration>,
    }

    impl World {
        fn new(min: u32, max: u32, shards: u32) -> Self {
            Self {
                rules: Rules { min, max, split_after: 3 * INTERVAL, merge_after: 10 * INTERVAL },
                shards: Shards::even(shards),
                planner: Planner::default(),
                now: Duration::ZERO,
                split_at: BTreeMap::new(),
                merged_at: BTreeMap::new(),
            }
        }

        /// Lets an interval pass in which this much is put. Returns what was decided, after checking and carrying it out.
        fn pass(&mut self, demand: &Demand) -> Vec<Step> {
            for shard in &mut self.shards.open {
                shard.load = demand.range(shard.range.start..=shard.range.end).map(|(_, part)| part).sum();
            }
            let interval = Interval { began: self.now, ended: self.now + INTERVAL };
            self.now = interval.ended;
            let sample = |shard: &ShardLoad| exact_sample(demand, shard);
            let steps = self.planner.decide(&self.rules, interval, &self.shards.open, sample);
            for step in &steps {
                let before = self.shards.open.clone();
                self.shards.carry_out(step);
                let made =
                    self.shards.open.iter().filter(|shard| !before.contains(shard)).map(|shard| shard.shard);
                match *step {
                    Step::Split { shard, at, .. } => {
                        let range =
                            before.iter().find(|known| known.shard == shard).expect("it was open").range;
                        let sum = |from, to| demand.range(from..=to).map(|(_, part)| part).sum::<f64>();
                        let (below, all) =
                            (sum(range.start, HashKey::new(at.get() - 1)), sum(range.start, range.end));
                        assert!(
                            (0.05 * all..=0.95 * all).contains(&below),
                            "{below} of {all}: a hot key is split"
                        );
                        let merged_at = self.merged_at.get(&shard);
                        assert!(merged_at.is_none_or(|&at| self.now - at >= self.rules.split_after), "flaps");
                        self.split_at.extend(made.map(|shard| (shard, self.now)));
                    }
                    Step::Merge { shard, adjacent, .. } => {
                        for shard in [shard, adjacent] {
                            let split_at = self.split_at.get(&shard);
                            assert!(
                                split_at.is_none_or(|&at| self.now - at >= self.rules.merge_after),
                                "flaps"
                            );
                        }
                        self.merged_at.extend(made.map(|shard| (shard, self.now)));
                    }
                    _ => {}
                }
            }
            let count = self.shards.open.len() as u32;
            assert!((self.rules.min..=self.rules.max).contains(&count), "{count} shards");
            steps
        }

        fn is_change(step: &Step) -> bool {
            matches!(step, Step::Split { .. } | Step::Merge { .. })
        }
    }

    fn keys(weights: &[f64], seed: u64) -> Demand {
        let mut numbers = Numbers(seed);
        weights.iter().map(|weight| (numbers.hash_key(), *weight)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_traffic_keeps_the_bounds_divides_no_key_and_never_flaps(
            (min, more, at) in (1u32..5, 0u32..12, 0u32..12),
            phases in vec((vec(0.0..1.2f64, 1..40), 0.0..2.0f64, 1usize..40), 1..12),
            seed in any::<u64>(),
        ) {
            let max = min + more;
            let mut world = World::new(min, max, (min + at).min(max));
            for (weights, level, intervals) in phases {
                let weights: Vec<f64> = weights.iter().map(|weight| weight * level).collect();
                let demand = keys(&weights, seed);
                (0..intervals).for_each(|_| drop(world.pass(&demand)));
            }
        }

        #[test]
        fn a_steady_load_comes_to_rest(
            weights in vec(0.0..0.8f64, 1..60), shards in 1u32..20, seed in any::<u64>(),
        ) {
            let mut world = World::new(1, 64, shards);
            let demand = keys(&weights, seed);
            (0..200).for_each(|_| drop(world.pass(&demand)));
            for _ in 0..100 {
                let steps = world.pass(&demand);
                prop_assert!(!steps.iter().any(World::is_change), "{steps:?}");
            }
        }
    }

    #[test]
    fn a_shard_is_split_once_it_was_hot_long_enough_and_its_hot_children_at_once() {
        let mut world = World::new(1, 8, 1);
        let demand = keys(&[0.02; 100], 1);
        let counts: Vec<_> = (0..6).map(|_| (world.pass(&demand), world.shards.open.len()).1).collect();
        assert_eq!(counts, [1, 1, 2, 4, 8, 8]);
        let at_maximum = world.pass(&keys(&[0.08; 100], 1));
        assert!(matches!(at_maximum[..], []), "not yet hot long enough: {at_maximum:?}");
        world.pass(&keys(&[0.08; 100], 1));
        let at_maximum = world.pass(&keys(&[0.08; 100], 1));
        assert!(matches!(at_maximum[..], [Step::AtMaximum { shard_count: 8, .. }]), "{at_maximum:?}");
        assert_eq!(world.pass(&keys(&[0.08; 100], 1)), [], "said once");
    }

    #[test]
    fn a_short_burst_splits_nothing_and_a_short_lull_merges_nothing() {
        let mut world = World::new(1, 8, 2);
        let (busy, quiet) = (keys(&[0.03; 100], 1), keys(&[0.001; 100], 1));
        for _ in 0..20 {
            assert_eq!([world.pass(&busy), world.pass(&busy), world.pass(&quiet)].concat(), []);
        }
        let mut world = World::new(1, 8, 2);
        let calm = keys(&[0.008; 100], 1);
        for _ in 0..20 {
            (0..9).for_each(|_| assert_eq!(world.pass(&quiet), []));
            assert_eq!(world.pass(&calm), []);
        }
        (0..9).for_each(|_| assert_eq!(world.pass(&quiet), []));
        assert!(matches!(world.pass(&quiet)[..], [Step::Merge { .. }]));
    }

    #[test]
    fn a_hot_key_is_said_once_and_again_after_a_pause() {
        let mut world = World::new(1, 8, 1);
        let hot = keys(&[0.9], 1);
        let steps: Vec<_> = (0..50).flat_map(|_| world.pass(&hot)).collect();
        assert!(matches!(steps[..], [Step::HotKey { share: 1.0, .. }]), "{steps:?}");
        (0..20).for_each(|_| assert_eq!(world.pass(&Demand::new()), []));
        let steps: Vec<_> = (0..50).flat_map(|_| world.pass(&hot)).collect();
        assert!(matches!(steps[..], [Step::HotKey { .. }]), "{steps:?}");
    }

    #[test]
    fn shards_without_load_are_merged_down_to_the_fewest_and_evenly() {
        let mut world = World::new(4, 16, 16);
        (0..100).for_each(|_| drop(world.pass(&Demand::new())));
        let width = |range: HashKeyRange| (range.end.get() - range.start.get()) as f64 / u128::MAX as f64;
        let widths = world.shards.open.iter().map(|shard| (width(shard.range) * 100.0).round());
        assert_eq!(widths.collect::<Vec<_>>(), [25.0; 4]);
    }
}
