//! Samples the stream repeatedly, and computes rates from the differences.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use streamlog::{GroupDescription, HashKeyRange, ShardDescription, ShardId, ShardStats, StreamStats};

use crate::Result;
use crate::follower::Follower;
use crate::readers::{self, GroupSample, ProcessorSample, QueueSample};
use crate::watched::Watched;

/// The changing values of a stream at one moment.
#[derive(Default)]
pub struct Sample {
    /// Over all shards, including those that have closed since the last sample.
    pub records_per_second: f64,
    pub bytes_per_second: f64,
    /// The open shards in the order of their hash keys.
    pub shards: Vec<ShardSample>,
    pub closed_count: usize,
    pub disk_bytes: u64,
    /// Without the groups of processors.
    pub groups: Vec<GroupSample>,
    pub processors: Vec<ProcessorSample>,
    pub queues: Vec<QueueSample>,
    /// How long puts took since the stream was opened. `None` if only another process knows, or if there were none.
    pub puts: Option<Times>,
    /// How long records took from put to read.
    pub delay: Option<Times>,
}

pub struct ShardSample {
    pub id: ShardId,
    pub hash_keys: HashKeyRange,
    pub records_per_second: f64,
    pub bytes_per_second: f64,
    pub record_count: u64,
    pub disk_bytes: u64,
    /// The number of unhandled records of the group with the largest lag.
    pub lag_max: u64,
}

/// Durations.
pub struct Times {
    pub median: Duration,
    pub p99: Duration,
    pub max: Duration,
}

pub struct Sampler {
    watched: Watched,
    follower: Follower,
    taken_at: Instant,
    /// The counts of each shard at that time.
    before: HashMap<ShardId, ShardStats>,
    /// The counts of each processor at that time.
    processors_before: readers::Before,
}

impl Sampler {
    pub fn new(watched: &Watched) -> Result<Self> {
        let follower = Follower::start(watched.reader())?;
        let taken_at = Instant::now();
        let before = by_shard(watched.reader().stats()?);
        Ok(Self {
            watched: watched.clone(),
            follower,
            taken_at,
            before,
            processors_before: readers::Before::new(),
        })
    }

    pub fn take(&mut self) -> Result<Sample> {
        // Take the time directly before the counts: a pause between the two would distort the rates.
        let now = Instant::now();
        let stats = self.watched.reader().stats()?;
        let delays = self.follower.take()?;
        let seconds = (now - self.taken_at).as_secs_f64();
        self.taken_at = now;
        let groups = self.watched.groups()?;

        let puts = stats.puts.as_ref().map(|puts| &puts.put_latency).filter(|puts| puts.count() > 0);
        let puts = puts.map(|puts| Times {
            median: puts.quantile(0.5),
            p99: puts.quantile(0.99),
            max: puts.quantile(1.0),
        });
        let mut sample = Sample { disk_bytes: stats.disk_bytes(), puts, ..Sample::default() };
        let counts = by_shard(stats);
        for shard in self.watched.reader().shards() {
            // A shard created after the counts were taken appears in the next sample.
            let Some(counts) = counts.get(&shard.id) else { continue };
            let (records, bytes) = put_since(&shard, self.before.get(&shard.id), counts);
            let [records_per_second, bytes_per_second] = [records, bytes].map(|count| count as f64 / seconds);
            sample.records_per_second += records_per_second;
            sample.bytes_per_second += bytes_per_second;
            if !shard.is_open() {
                sample.closed_count += 1;
                continue;
            }
            sample.shards.push(ShardSample {
                id: shard.id,
                hash_keys: shard.hash_key_range,
                records_per_second,
                bytes_per_second,
                record_count: counts.record_count(),
                disk_bytes: counts.disk_bytes,
                lag_max: lag_max(&groups, shard.id),
            });
        }
        self.before = counts;
        sample.shards.sort_by_key(|shard| shard.hash_keys.start);
        let readers = readers::sample(&self.watched, groups, &mut self.processors_before, seconds)?;
        (sample.groups, sample.processors, sample.queues) =
            (readers.groups, readers.processors, readers.queues);
        let delay_at = |quantile| Duration::from_micros(delays.value_at_quantile(quantile));
        sample.delay = (!delays.is_empty()).then(|| Times {
            median: delay_at(0.5),
            p99: delay_at(0.99),
            max: delay_at(1.0),
        });
        Ok(sample)
    }
}

fn by_shard(stats: StreamStats) -> HashMap<ShardId, ShardStats> {
    stats.shards.into_iter().map(|counts| (counts.shard, counts)).collect()
}

/// Returns the records and bytes that were put to a shard between two counts.
fn put_since(shard: &ShardDescription, before: Option<&ShardStats>, now: &ShardStats) -> (u64, u64) {
    let first = before.map_or(shard.first_sequence, |before| before.next_sequence).get();
    let bytes = now.traffic.incoming_bytes;
    let bytes_before = before.map_or(0, |before| before.traffic.incoming_bytes);
    // Bytes count from the opening of the stream, and another process may have reopened it.
    (now.next_sequence.get().saturating_sub(first), bytes.checked_sub(bytes_before).unwrap_or(bytes))
}

fn lag_max(groups: &[GroupDescription], shard: ShardId) -> u64 {
    let in_groups = groups.iter().flat_map(|group| &group.shards).filter(|of_group| of_group.shard == shard);
    in_groups.map(|of_group| of_group.lag.record_count).max().unwrap_or(0)
}
