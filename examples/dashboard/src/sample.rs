//! Samples the stream repeatedly, and computes rates from the differences.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use streamlog::{HashKeyRange, Lag, ShardId, Stream};

use crate::Result;
use crate::follower::Follower;

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
    pub groups: Vec<GroupSample>,
    pub delay: Option<Delay>,
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

pub struct GroupSample {
    pub name: String,
    pub worker_count: usize,
    pub lag: Lag,
}

/// The time of records from put to read.
pub struct Delay {
    pub median: Duration,
    pub p99: Duration,
    pub max: Duration,
}

pub struct Sampler {
    stream: Stream,
    follower: Follower,
    taken_at: Instant,
    /// The next sequence number of each shard at that time.
    next_sequences: HashMap<ShardId, u64>,
}

impl Sampler {
    pub fn new(stream: &Stream) -> Result<Self> {
        let stats = stream.stats()?;
        let next_sequences =
            stats.shards.iter().map(|shard| (shard.shard, shard.next_sequence.get())).collect();
        let follower = Follower::start(stream)?;
        Ok(Self { stream: stream.clone(), follower, taken_at: Instant::now(), next_sequences })
    }

    pub fn take(&mut self) -> Result<Sample> {
        // Take the time directly before the counts: a pause between the two would distort the rates.
        let now = Instant::now();
        let stats = self.stream.stats()?;
        let seen = self.follower.take()?;
        let seconds = (now - self.taken_at).as_secs_f64();
        self.taken_at = now;
        let groups = self.stream.groups()?;
        let groups =
            groups.iter().map(|group| self.stream.group(group).describe()).collect::<Result<Vec<_>, _>>()?;

        let (mut shards, mut closed_count, mut put_count) = (vec![], 0, 0);
        for shard in self.stream.shards() {
            let id = shard.id;
            // A shard created after the counts were taken appears in the next sample.
            let Some(stats) = stats.shards.iter().find(|stats| stats.shard == id) else { continue };
            let next_sequence = stats.next_sequence.get();
            let before = self.next_sequences.insert(id, next_sequence).unwrap_or(shard.first_sequence.get());
            let put_to_shard = next_sequence.saturating_sub(before);
            put_count += put_to_shard;
            if !shard.is_open() {
                closed_count += 1;
                continue;
            }
            let in_groups =
                groups.iter().flat_map(|group| &group.shards).filter(|of_group| of_group.shard == id);
            shards.push(ShardSample {
                id,
                hash_keys: shard.hash_key_range,
                records_per_second: put_to_shard as f64 / seconds,
                bytes_per_second: seen.bytes.get(&id).copied().unwrap_or(0) as f64 / seconds,
                record_count: stats.record_count(),
                disk_bytes: stats.disk_bytes,
                lag_max: in_groups.map(|of_group| of_group.lag.record_count).max().unwrap_or(0),
            });
        }
        shards.sort_by_key(|shard| shard.hash_keys.start);
        let delays = seen.delay_micros;
        let delay_at = |quantile| Duration::from_micros(delays.value_at_quantile(quantile));
        Ok(Sample {
            records_per_second: put_count as f64 / seconds,
            bytes_per_second: seen.bytes.values().sum::<u64>() as f64 / seconds,
            closed_count,
            shards,
            disk_bytes: stats.disk_bytes(),
            groups: groups
                .into_iter()
                .map(|group| GroupSample {
                    lag: group.lag(),
                    worker_count: group.worker_count,
                    name: group.name,
                })
                .collect(),
            delay: (!delays.is_empty()).then(|| Delay {
                median: delay_at(0.5),
                p99: delay_at(0.99),
                max: delay_at(1.0),
            }),
        })
    }
}
