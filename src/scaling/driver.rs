//! Runs scaling with a stream's maintenance.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::decision::ScalingDecision;
use super::plan::{Interval, Planner, ShardLoad, Step};
use super::sample::Stretch;
use super::settings::{OnDemand, Scaling};
use crate::{
    Error, HashKey, Result, SequenceNumber, ShardFilter, ShardId, ShardStats, Stream, StreamReader, event,
    extend,
};

/// The scaling of a stream.
#[derive(Debug, Default)]
struct Scaler {
    running: Mutex<Option<Running>>,
    is_attended: OnceLock<()>,
}

/// On-demand scaling, from when it was set.
#[derive(Debug)]
struct Running {
    on_demand: OnDemand,
    scaling: Scaling,
    planner: Planner,
    /// When the interval began, and the counts of the shards at that time.
    interval_began: Duration,
    counts: BTreeMap<ShardId, Count>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    records: u64,
    bytes: u64,
}

impl Stream {
    /// Sets who decides how many shards the stream has: the caller ([`Scaling::provisioned`], the default) or the load
    /// ([`Scaling::on_demand`]). The setting lasts until it is set again or the stream is closed; the manifest does not store it.
    ///
    /// If there are fewer shards than allowed, or more, this scales the stream to the nearest allowed number before it returns, like
    /// [`update_shard_count`](Self::update_shard_count). From then on, maintenance splits and merges shards by their traffic, at no cost to
    /// puts. Before a split, up to 1,024 of the shard's last records are read, which counts as reading in
    /// [`stats`](crate::StreamReader::stats). The caller may also split and merge.
    ///
    /// Scaling computes hash keys from partition keys, because the log does not store explicit hash keys. So a record with an
    /// [`explicit_hash_key`](crate::PutRecord::explicit_hash_key) is ignored for the place of a split if the hash of its partition key
    /// belongs to another shard, and distorts it otherwise. A shard with mostly ignored load is split in the middle. In an
    /// [aggregate](crate::aggregate), the hash keys of the user records count.
    ///
    /// ```
    /// # use streamlog::{Scaling, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.set_scaling(Scaling::on_demand(4, 64))?;
    /// assert_eq!(stream.shards().iter().filter(|shard| shard.is_open()).count(), 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for a setting that is out of range; otherwise the same as [`split_shard`](Self::split_shard). Then nothing is set.
    pub fn set_scaling(&self, scaling: Scaling) -> Result<()> {
        scaling.check()?;
        extend::check_process(self)?;
        if self.is_closed() {
            return Err(Error::Closed);
        }
        let scaler = Scaler::of(self);
        let mut running = scaler.running.lock();
        *running = match scaling.on_demand {
            None => None,
            Some(on_demand) => {
                let count = self.list_shards(ShardFilter::AtLatest).len() as u32;
                let allowed = count.clamp(on_demand.rules.min, on_demand.rules.max);
                if allowed != count {
                    self.update_shard_count(allowed)?;
                }
                Some(Running::begin(self, on_demand, scaling)?)
            }
        };
        Ok(())
    }
}

impl Scaler {
    /// Returns the scaling of a stream. Its maintenance attends to it from the first call on.
    fn of(stream: &StreamReader) -> Arc<Self> {
        let scaler = extend::extension::<Self>(stream);
        scaler.is_attended.get_or_init(|| {
            extend::after_maintenance(stream, |stream| extend::extension::<Self>(stream).attend(stream));
        });
        scaler
    }

    fn attend(&self, stream: &StreamReader) {
        // If somebody sets the scaling right now, there is nothing to do for what it was before.
        let Some(mut running) = self.running.try_lock() else { return };
        let Some(known) = running.as_mut().filter(|_| !stream.is_closed()) else { return };
        let outcome = known.look(stream);
        let listener = known.scaling.listener.clone();
        // The listener may set the scaling.
        drop(running);
        let path = || stream.describe().path;
        let decisions = outcome.unwrap_or_else(|error| {
            event!(
                warn,
                "scaling could not look at the traffic, and tries again",
                stream = path().display(),
                error = error
            );
            vec![]
        });
        for decision in decisions {
            match &decision {
                ScalingDecision::Split { .. } | ScalingDecision::Merge { .. } => {
                    event!(info, "the stream is scaled", stream = path().display(), decision = decision);
                }
                _ => event!(
                    warn,
                    "the stream cannot be scaled further",
                    stream = path().display(),
                    decision = decision
                ),
            }
            if let Some(listener) = &listener {
                let _ = extend::run_callback(|| (listener.0)(&decision));
            }
        }
    }
}

impl Running {
    fn begin(stream: &StreamReader, on_demand: OnDemand, scaling: Scaling) -> Result<Self> {
        let mut running = Self {
            on_demand,
            scaling,
            planner: Planner::default(),
            interval_began: stream.clock().elapsed(),
            counts: BTreeMap::new(),
        };
        running.counts = counts(&stream.stats()?.shards);
        Ok(running)
    }

    /// Ends an interval if it is long enough, and scales the stream according to what was put in it. Returns what was done.
    fn look(&mut self, stream: &StreamReader) -> Result<Vec<ScalingDecision>> {
        let now = stream.clock().elapsed();
        let interval = Interval { began: self.interval_began, ended: now };
        let time = interval.ended.saturating_sub(interval.began);
        if time < self.on_demand.interval() {
            return Ok(vec![]);
        }
        let stats = stream.stats()?.shards;
        let before = std::mem::replace(&mut self.counts, counts(&stats));
        self.interval_began = now;
        let key_hash = stream.describe().key_hash;
        let capacity = self.on_demand.capacity;
        let by_id: BTreeMap<ShardId, &ShardStats> = stats.iter().map(|shard| (shard.shard, shard)).collect();
        let (mut loads, mut stretches) = (vec![], BTreeMap::new());
        for description in stream.list_shards(ShardFilter::AtLatest) {
            // A shard that was made since is looked at in the next interval.
            let Some(stats) = by_id.get(&description.id) else { continue };
            let Count { records, bytes } = put_since(stats, before.get(&stats.shard));
            let (shard, range) = (description.id, description.hash_key_range);
            let load = capacity.load(records, bytes, time);
            loads.push(ShardLoad { shard, parent: description.parent, range, load });
            let (horizon, end) = (stats.horizon, stats.next_sequence);
            let first = SequenceNumber::new(end.get().saturating_sub(records));
            stretches.insert(shard, Stretch { shard, range, horizon, first, end });
        }
        let sample = |shard: &ShardLoad| stretches[&shard.shard].sample(stream, key_hash, capacity);
        let steps = self.planner.decide(&self.on_demand.rules, interval, &loads, sample);
        let mut decisions = vec![];
        for step in steps {
            match carry_out(stream, step, |shard, hash_key| {
                stretches[&shard].partition_key(stream, key_hash, hash_key)
            }) {
                Ok(decision) => decisions.push(decision),
                // It is decided again after the next interval, if the load stays.
                Err(error) => event!(
                    warn,
                    "a shard could not be split or merged as its load wants, and is looked at again",
                    stream = stream.describe().path.display(),
                    error = error
                ),
            }
        }
        Ok(decisions)
    }
}

fn counts(stats: &[ShardStats]) -> BTreeMap<ShardId, Count> {
    let count = |shard: &ShardStats| Count {
        records: shard.traffic.incoming_records,
        bytes: shard.traffic.incoming_bytes,
    };
    stats.iter().map(|shard| (shard.shard, count(shard))).collect()
}

/// Returns what was put to a shard since its counts were looked at. A new shard had none.
fn put_since(shard: &ShardStats, before: Option<&Count>) -> Count {
    let before = before.copied().unwrap_or_default();
    Count {
        records: shard.traffic.incoming_records.saturating_sub(before.records),
        bytes: shard.traffic.incoming_bytes.saturating_sub(before.bytes),
    }
}

fn carry_out(
    stream: &StreamReader,
    step: Step,
    partition_key: impl FnOnce(ShardId, HashKey) -> Option<Box<[u8]>>,
) -> Result<ScalingDecision> {
    Ok(match step {
        Step::Split { shard, at, load, share_below } => {
            extend::split_shard(stream, shard, at)?;
            ScalingDecision::Split { shard, at, load, share_below }
        }
        Step::Merge { shard, adjacent, load } => {
            extend::merge_shards(stream, shard, adjacent)?;
            ScalingDecision::Merge { shard, adjacent, load }
        }
        Step::HotKey { shard, hash_key, load, share } => {
            let partition_key = partition_key(shard, hash_key).unwrap_or_default();
            ScalingDecision::HotKey { shard, partition_key, hash_key, load, share }
        }
        Step::AtMaximum { shard, load, shard_count } => {
            ScalingDecision::AtMaximum { shard, load, shard_count }
        }
    })
}
