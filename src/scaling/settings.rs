//! The settings of scaling.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::decision::ScalingDecision;
use super::plan::Rules;
use crate::extend::check_range;
use crate::limits::SHARD_COUNT_MAX;
use crate::{DAY, Error, MINUTE, Result, SECOND};

/// What a shard of Kinesis takes in a second.
const KINESIS_BYTES: u64 = 1 << 20;
const KINESIS_RECORDS: u64 = 1_000;
/// How many intervals make up the time after which a hot shard is split. A shard has to be hot in all of them.
const INTERVALS_TO_SPLIT: u32 = 3;

/// Who decides how many shards a stream has: the caller, or the load. [`Stream::set_scaling`](crate::Stream::set_scaling) sets it.
///
/// ```
/// # use streamlog::{MINUTE, Scaling, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let scaling = Scaling::on_demand(2, 64)
///     .capacity(4 << 20, 10_000)
///     .merge_after(30 * MINUTE)
///     .on_decision(|decision| println!("{decision}"));
/// stream.set_scaling(scaling)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Scaling {
    pub(super) on_demand: Option<OnDemand>,
    pub(super) listener: Option<Listener>,
}

/// The settings of on-demand scaling.
#[derive(Debug, Clone, Copy)]
pub(super) struct OnDemand {
    pub(super) capacity: Capacity,
    pub(super) rules: Rules,
}

/// What one shard is meant to take in a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    pub(super) bytes: u64,
    pub(super) records: u64,
}

/// The receiver of the decisions.
#[derive(Clone)]
pub(super) struct Listener(pub(super) Arc<dyn Fn(&ScalingDecision) + Send + Sync>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

impl Capacity {
    pub(super) const KINESIS: Self = Self { bytes: KINESIS_BYTES, records: KINESIS_RECORDS };

    /// Returns the part of the capacity that putting this much in this time takes. 1 is all of it.
    pub(super) fn load(&self, records: u64, bytes: u64, time: Duration) -> f64 {
        let seconds = time.as_secs_f64().max(f64::MIN_POSITIVE);
        self.seconds(records, bytes) / seconds
    }

    /// Returns in how many seconds a shard can take this much.
    pub(super) fn seconds(&self, records: u64, bytes: u64) -> f64 {
        let (of_records, of_bytes) = (records as f64 / self.records as f64, bytes as f64 / self.bytes as f64);
        of_records.max(of_bytes)
    }
}

impl Scaling {
    /// Only the caller splits and merges shards. This is the default, and Kinesis' provisioned mode.
    pub fn provisioned() -> Self {
        Self { on_demand: None, listener: None }
    }

    /// The load decides, and the stream has `min` to `max` open shards, within 1 to 1,024. It is like Kinesis' on-demand mode, but also
    /// merges, and splits at the median of the load:
    ///
    /// - A shard that takes half of its [capacity](Self::capacity) or more, and has done so for [`split_after`](Self::split_after), is
    ///   split. The median is taken over the hash keys of up to 1,024 of its last records.
    /// - Two neighbours that together take less than two fifths of one shard's capacity, and have done so for
    ///   [`merge_after`](Self::merge_after), are merged.
    /// - If nearly all the load of a shard comes from one partition key, no split can divide it. The shard is left as it is, and
    ///   [`ScalingDecision::HotKey`] says so once.
    pub fn on_demand(min: u32, max: u32) -> Self {
        let rules = Rules { min, max, split_after: 30 * SECOND, merge_after: 15 * MINUTE };
        Self { on_demand: Some(OnDemand { capacity: Capacity::KINESIS, rules }), listener: None }
    }

    /// Sets the intended capacity of one shard per second. Default: 1 MiB and 1,000 records, as in Kinesis.
    ///
    /// Nothing enforces it, unless the stream also has [`Limits`](crate::Limits). Without limits, set what one of your workers can handle, so
    /// that there are as many shards as workers needed. Bytes are those of [`Traffic`](crate::Traffic), before compression.
    pub fn capacity(mut self, bytes_per_second: u64, records_per_second: u64) -> Self {
        if let Some(on_demand) = &mut self.on_demand {
            on_demand.capacity = Capacity { bytes: bytes_per_second, records: records_per_second };
        }
        self
    }

    /// Sets how long a shard must be hot before it is split, 1 second to 1 day. Default: 30 seconds. The load is measured in intervals of a
    /// third of this, but not more often than maintenance runs. A child that is still hot in the next interval is split again immediately.
    pub fn split_after(mut self, time: Duration) -> Self {
        if let Some(on_demand) = &mut self.on_demand {
            on_demand.rules.split_after = time;
        }
        self
    }

    /// Sets how long two neighbours must be cold before they are merged, at least as long as `split_after` and at most 30 days. Default: 15
    /// minutes. Children of a split are not merged before that either.
    pub fn merge_after(mut self, time: Duration) -> Self {
        if let Some(on_demand) = &mut self.on_demand {
            on_demand.rules.merge_after = time;
        }
        self
    }

    /// Passes each decision to `listener`, after it is carried out. With the cargo feature `tracing`, each one is an event as well.
    ///
    /// It runs within maintenance, so it should be quick. It may call the stream, and may close it.
    pub fn on_decision(mut self, listener: impl Fn(&ScalingDecision) + Send + Sync + 'static) -> Self {
        self.listener = Some(Listener(Arc::new(listener)));
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let Some(OnDemand { capacity, rules }) = &self.on_demand else { return Ok(()) };
        check_range("the fewest shards on demand", rules.min, 1..=SHARD_COUNT_MAX)?;
        check_range("the most shards on demand", rules.max, 1..=SHARD_COUNT_MAX)?;
        if rules.min > rules.max {
            let reason =
                format!("{} to {} shards on demand: put the smaller number first", rules.min, rules.max);
            return Err(Error::InvalidArgument(reason.into()));
        }
        check_range("a shard's capacity in bytes a second", capacity.bytes, 1..=u64::MAX)?;
        check_range("a shard's capacity in records a second", capacity.records, 1..=u64::MAX)?;
        check_time("split_after", rules.split_after, SECOND, DAY)?;
        check_time("merge_after", rules.merge_after, rules.split_after, 30 * DAY)
    }
}

fn check_time(name: &str, time: Duration, min: Duration, max: Duration) -> Result<()> {
    if (min..=max).contains(&time) {
        return Ok(());
    }
    let reason = format!("{name} of {time:?} is out of range: {min:?} to {max:?}");
    Err(Error::InvalidArgument(reason.into()))
}

impl OnDemand {
    /// Returns how long an interval is at least.
    pub(super) fn interval(&self) -> Duration {
        self.rules.split_after / INTERVALS_TO_SPLIT
    }
}
