//! A simulated day of on-demand scaling, beside as many shards as it has on average. It draws `docs/charts/on-demand-day.svg`.
//!
//! No stream, no clock and no random bytes from outside: the planner gets intervals of made-up traffic. After an intended change, draw it again
//! and look at it: `STREAMLOG_UPDATE=1 cargo test --lib scaling::simulation`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::cut::Sample;
use super::plan::{Interval, Planner, Rules, ShardLoad, Step};
use crate::{HOUR, HashKey, HashKeyRange, MINUTE, SECOND, ShardId};

#[path = "../../benches/chart/mod.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "the benchmarks draw the other kinds")]
mod chart;

/// SplitMix64: the same numbers in each run.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn hash_key(&mut self) -> HashKey {
        HashKey::new(u128::from(self.next()) << 64 | u128::from(self.next()))
    }

    /// Returns a number from 0 to below 1.
    pub(super) fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The open shards of a stream that does not exist.
#[derive(Debug, Clone)]
pub(super) struct Shards {
    pub(super) open: Vec<ShardLoad>,
    next_id: u32,
}

impl Shards {
    /// Returns this many shards with equal ranges.
    pub(super) fn even(count: u32) -> Self {
        let width = u128::MAX / u128::from(count);
        let open = (0..count).map(|id| {
            let start = u128::from(id) * width;
            let end = if id + 1 == count { u128::MAX } else { start + width - 1 };
            let range = HashKeyRange { start: HashKey::new(start), end: HashKey::new(end) };
            ShardLoad { shard: ShardId::new(id), parent: None, range, load: 0.0 }
        });
        Self { open: open.collect(), next_id: count }
    }

    fn take(&mut self, shard: ShardId) -> ShardLoad {
        let at = self.open.iter().position(|open| open.shard == shard).expect("an open shard");
        self.open.remove(at)
    }

    fn add(&mut self, parent: ShardId, start: HashKey, end: HashKey) {
        let shard = ShardId::new(self.next_id);
        self.next_id += 1;
        let range = HashKeyRange { start, end };
        self.open.push(ShardLoad { shard, parent: Some(parent), range, load: 0.0 });
    }

    /// Carries a step out as a stream does, under the preconditions of Kinesis.
    pub(super) fn carry_out(&mut self, step: &Step) {
        match *step {
            Step::Split { shard, at, .. } => {
                let range = self.take(shard).range;
                assert!(range.start.get() + 1 < at.get() && at < range.end, "{at} in {range}");
                self.add(shard, range.start, HashKey::new(at.get() - 1));
                self.add(shard, at, range.end);
            }
            Step::Merge { shard, adjacent, .. } => {
                let (lower, upper) = (self.take(shard), self.take(adjacent));
                assert!(lower.range.is_followed_by(&upper.range));
                self.add(shard, lower.range.start, upper.range.end);
            }
            Step::HotKey { .. } | Step::AtMaximum { .. } => {}
        }
    }

    fn owner(&self, hash_key: HashKey) -> usize {
        self.open.iter().position(|shard| shard.range.contains(hash_key)).expect("ranges without a gap")
    }
}

/// How much is put with each hash key in an interval, as a part of what one shard can take.
pub(super) type Demand = BTreeMap<HashKey, f64>;

/// Draws records of a shard, each key as often as it is put.
pub(super) fn sample(demand: &Demand, shard: &ShardLoad, numbers: &mut Numbers) -> Sample {
    let range = shard.range.start..=shard.range.end;
    let mut sums = vec![];
    let mut total = 0.0;
    for (hash_key, part) in demand.range(range) {
        total += part;
        sums.push((total, *hash_key));
    }
    let mut sample = Sample::default();
    if total > 0.0 {
        for _ in 0..1_024 {
            let at = numbers.part() * total;
            let drawn = sums.partition_point(|(sum, _)| *sum <= at).min(sums.len() - 1);
            sample.add(sums[drawn].1, 1.0, shard.range);
        }
    }
    sample
}

const INTERVAL: Duration = Duration::from_secs(10);
/// What one shard can take in an interval.
const RECORDS: f64 = 10_000.0;
const INTERVALS: usize = 8_640;
const INTERVALS_A_MINUTE: usize = 6;
const MIN: u32 = 2;
const KEYS: usize = 400;
/// When one user puts much more than all others, and how much, in what one shard can take.
const HOT: (f64, f64, f64) = (16.0, 17.5, 1.6);
/// What is put at the full hours, in what one shard can take. It goes straight in between.
const BY_HOUR: [f64; 25] = [
    2.5, 1.0, 0.3, 0.1, 0.1, 0.2, 0.6, 1.5, 3.0, 4.0, 4.5, 5.0, 5.0, 4.8, 4.5, 4.5, 5.0, 5.5, 6.0, 7.0, 7.0,
    6.0, 5.0, 4.0, 2.5,
];
/// When bursts begin and end, and how much they add.
const BURSTS: [(f64, f64, f64); 3] = [(10.5, 10.9, 12.0), (13.5, 14.0, 9.0), (20.0, 20.4, 15.0)];

/// Returns what is put at an hour of the day except for the hot key.
fn demand_at(hour: f64) -> f64 {
    let (from, part) = (hour as usize, hour.fract());
    let usual = BY_HOUR[from] + (BY_HOUR[from + 1] - BY_HOUR[from]) * part;
    // A burst takes two minutes to rise, and six to go.
    let burst = BURSTS.iter().map(|(begin, end, most)| {
        let (rise, fall) = ((hour - begin) * 30.0, (end - hour) * 10.0);
        most * rise.min(fall).clamp(0.0, 1.0)
    });
    usual + burst.sum::<f64>()
}

/// What happened to a stream in a day.
#[derive(Debug, Default)]
struct Day {
    /// For each minute.
    shard_counts: Vec<f64>,
    demand: Vec<f64>,
    throttled: Vec<f64>,
    /// Puts of all keys but the hot one that were refused, and those of the hot one.
    throttled_others: f64,
    throttled_hot: f64,
    steps: Vec<(Duration, Step)>,
}

/// Runs a day from midnight to midnight. Each shard takes what it can, and refuses the rest.
fn run(mut shards: Shards, rules: Option<Rules>) -> Day {
    let mut numbers = Numbers(17);
    let hot_key = numbers.hash_key();
    // The first users put most.
    let users: Vec<_> = (0..KEYS).map(|user| (numbers.hash_key(), 1.0 / (user + 20) as f64)).collect();
    let all: f64 = users.iter().map(|(_, part)| part).sum();
    let (mut planner, mut day) = (Planner::default(), Day::default());
    for at in 0..INTERVALS {
        let hour = 24.0 * at as f64 / INTERVALS as f64;
        let total = demand_at(hour);
        let noise = |numbers: &mut Numbers| 0.8 + 0.4 * numbers.part();
        let mut demand: Demand =
            users.iter().map(|(key, part)| (*key, total * part / all * noise(&mut numbers))).collect();
        if (HOT.0..HOT.1).contains(&hour) {
            demand.insert(hot_key, HOT.2);
        }
        shards.open.iter_mut().for_each(|shard| shard.load = 0.0);
        for (key, part) in &demand {
            let owner = shards.owner(*key);
            shards.open[owner].load += part;
        }
        let mut throttled = 0.0;
        for (key, part) in &demand {
            let load = shards.open[shards.owner(*key)].load;
            let refused = RECORDS * part * (1.0 - 1.0 / load.max(1.0));
            throttled += refused;
            *(if *key == hot_key { &mut day.throttled_hot } else { &mut day.throttled_others }) += refused;
        }
        if at.is_multiple_of(INTERVALS_A_MINUTE) {
            day.shard_counts.push(shards.open.len() as f64);
            day.demand.push(demand.values().sum());
            day.throttled.push(0.0);
        }
        *day.throttled.last_mut().expect("a minute has begun") += throttled;
        let Some(rules) = &rules else { continue };
        // The planner sees what the shards took.
        shards.open.iter_mut().for_each(|shard| shard.load = shard.load.min(1.0));
        let interval = Interval { began: INTERVAL * at as u32, ended: INTERVAL * (at as u32 + 1) };
        let steps =
            planner.decide(rules, interval, &shards.open, |shard| sample(&demand, shard, &mut numbers));
        for step in steps {
            shards.carry_out(&step);
            day.steps.push((interval.ended, step));
        }
    }
    day
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn a_day_on_demand_throttles_far_fewer_puts_than_as_many_shards_that_are_fixed() {
    let rules = Rules { min: MIN, max: 64, split_after: 30 * SECOND, merge_after: 15 * MINUTE };
    let ours = run(Shards::even(8), Some(rules));
    let fixed_count = mean(&ours.shard_counts).round();
    let fixed = run(Shards::even(fixed_count as u32), None);
    let picture = picture(&ours, &fixed);

    assert!(ours.throttled_others * 20.0 < fixed.throttled_others, "far fewer are throttled");
    let figures = (ours.throttled_others / 1e3, fixed.throttled_others / 1e6);
    assert_eq!(format!("{:.0} {:.1}", figures.0, figures.1), "5 11.6", "as docs/GUIDE.md says");
    // Nobody can give the hot key more than one shard.
    let hot_seconds = (HOT.1 - HOT.0) * HOUR.as_secs_f64();
    let least = (HOT.2 - 1.0) * RECORDS / INTERVAL.as_secs_f64() * hot_seconds;
    assert!((least..1.1 * least).contains(&ours.throttled_hot), "{} of {least}", ours.throttled_hot);
    assert!(fixed.throttled_hot > 1.1 * least, "its neighbours in the shard take some of its room");

    let night = ours.shard_counts[3 * 60..6 * 60].iter();
    assert!(night.clone().all(|count| *count == f64::from(MIN)), "a quiet night needs the fewest shards");
    let is_change = |step: &&(Duration, Step)| matches!(step.1, Step::Split { .. } | Step::Merge { .. });
    let changes: Vec<_> = ours.steps.iter().filter(is_change).collect();
    // Each burst doubles the shards and more, and the day itself goes up and down once.
    assert!(changes.len() < 250, "{} splits and merges", changes.len());
    let in_calm = changes.iter().filter(|(at, _)| (12 * HOUR..13 * HOUR + 25 * MINUTE).contains(at)).count();
    assert!(in_calm <= 5, "{in_calm} while nearly nothing changes");
    let said: Vec<_> = ours.steps.iter().filter(|(_, step)| matches!(step, Step::HotKey { .. })).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!((16 * HOUR..16 * HOUR + 5 * MINUTE).contains(&said[0].0), "soon after it begins: {said:?}");

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/charts/on-demand-day.svg");
    if std::env::var_os("STREAMLOG_UPDATE").is_some() {
        fs::write(&path, &picture).unwrap();
    }
    let drawn = fs::read_to_string(&path).unwrap_or_default();
    assert!(drawn == picture, "{} shows another day: draw it again, and look at it", path.display());
}

fn picture(ours: &Day, fixed: &Day) -> String {
    use chart::{Panel, Series, day};
    let demand: Vec<_> = ours.demand.chunks(5).map(mean).collect();
    let thousands =
        |day: &Day| day.throttled.iter().map(|count| (count / 1_000.0).round()).collect::<Vec<_>>();
    let (ours_throttled, fixed_throttled) = (thousands(ours), thousands(fixed));
    let shards = [
        Series { name: "demand", class: "peer-area", values: &demand },
        Series { name: "fixed", class: "bare-line", values: &fixed.shard_counts },
        Series { name: "on demand", class: "ours-line", values: &ours.shard_counts },
    ];
    let throttled = [
        Series { name: "on demand", class: "ours-area", values: &ours_throttled },
        Series { name: "fixed", class: "bare-area", values: &fixed_throttled },
    ];
    let panels = [
        Panel { unit: "shards, and how many the demand would fill", series: &shards },
        Panel { unit: "puts throttled a minute, in thousands", series: &throttled },
    ];
    let notes = [(3.5, "quiet night"), (16.75, "hot key")];
    day("A simulated day on demand, beside the same mean number of fixed shards", &panels, &notes)
}
