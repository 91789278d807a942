//! The settings of each run of the worker. They come from the seed, so supervisor and worker know them without communication.

use std::time::Duration;

use streamlog::{Durability, Retention, SECOND, StreamOptions};

use super::{Args, DurabilityArg};

/// The maximum number of shards that the resharder leaves open.
pub(crate) const SHARD_COUNT_MAX: u32 = 16;
/// The maximum data size of a record.
pub(crate) const DATA_BYTES_MAX: u64 = 100 << 10;
/// The maximum size of a record, including a key that carries the stamp.
const RECORD_BYTES_MAX: u64 = DATA_BYTES_MAX + 1_024;
/// The maximum segment size of a run.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 4 << 20;

/// How much faster the writers of some runs are.
const FAST_FACTOR: u64 = 4;

/// One run of the worker, from start to end.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) run: u32,
    pub(crate) durability: Durability,
    pub(crate) segment_bytes: u64,
    pub(crate) sync_interval: Option<Duration>,
    /// MiB to put per second. Files are reused only if many are needed.
    pub(crate) rate: u64,
    /// The same in all runs of a round, because only the retention decides which records may be missing afterwards.
    pub(crate) retention: Retention,
}

impl Plan {
    pub(crate) fn new(args: &Args, round: u32, run: u32) -> Self {
        let seed = args.seed.unwrap_or_default();
        let mut of_round = Random::new(seed, [1, round.into()]);
        let mut of_run = Random::new(seed, [2, run.into()]);
        let age = Duration::from_millis(of_round.between(5_000, 15_000));
        let bytes_max = of_round.between(64, 192) << 20;
        let (retention, segment_bytes_max) = match of_round.below(4) {
            // Small segments, so that the check can determine how much was dropped.
            0 => (Retention::forever().bytes_max(bytes_max), 512 << 10),
            1 => (Retention::age(age).bytes_max(bytes_max), SEGMENT_BYTES_MAX),
            _ => (Retention::age(age), SEGMENT_BYTES_MAX),
        };
        let durability = match args.durability {
            DurabilityArg::Process => Durability::Process,
            DurabilityArg::Power => Durability::Power,
            DurabilityArg::Mixed if of_run.one_in(3) => Durability::Power,
            DurabilityArg::Mixed => Durability::Process,
        };
        let sync_interval = *of_run.pick(&[None, Some(SECOND / 10), Some(SECOND)]);
        let segment_bytes = of_run.between(256 << 10, segment_bytes_max);
        let rate = if of_run.one_in(4) { args.rate * FAST_FACTOR } else { args.rate };
        Self { run, durability, segment_bytes, sync_interval, rate, retention }
    }

    /// Returns the settings of a visitor. No records are put in its run.
    pub(crate) fn of_visitor(args: &Args, number: u32) -> Self {
        Self { run: u32::MAX - number, ..Self::new(args, 0, 0) }
    }

    pub(crate) fn options(&self, args: &Args) -> StreamOptions {
        StreamOptions::new()
            .shards(args.shards)
            .segment_bytes(self.segment_bytes)
            .record_bytes_max(RECORD_BYTES_MAX)
            .durability(self.durability)
            .sync_interval(self.sync_interval)
            .retention(self.retention)
    }

    /// A short description for the summary of a violation.
    pub(crate) fn in_words(&self) -> String {
        let Self { run, durability, segment_bytes, retention, .. } = self;
        format!(
            "run {run}: {durability:?}, segments of {} KiB, age {:?}, bytes {:?}",
            segment_bytes >> 10,
            retention.age,
            retention.bytes_max
        )
    }
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The worker closes the stream.
    Close,
    /// The supervisor kills the worker this long after it has opened the stream.
    Kill(Duration),
    /// The supervisor kills the worker this long after its start: while it opens the stream, or soon after.
    KillEarly(Duration),
}

impl Ending {
    pub(crate) fn draw(args: &Args, random: &mut Random, is_last_of_round: bool) -> Self {
        let life = args.kill_every * (0.2 + 1.6 * random.fraction());
        match random.below(10) {
            0 | 1 if is_last_of_round => Self::Close,
            2..=4 => Self::KillEarly(Duration::from_micros(random.below(60_000))),
            _ => Self::Kill(Duration::from_secs_f64(life)),
        }
    }
}

/// The SplitMix64 generator.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Creates a generator whose sequence depends on the seed and the salt.
    pub(crate) fn new(seed: u64, salt: [u64; 2]) -> Self {
        let mut random = Self(seed);
        for part in salt {
            random.0 = random.next() ^ part;
        }
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to `end - 1`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Returns a number from `from` to `to`, both included.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn fraction(&mut self) -> f64 {
        self.below(1 << 20) as f64 / (1 << 20) as f64
    }

    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}
