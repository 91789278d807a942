//! What scaling has decided, and why.

use std::fmt;

use crate::{HashKey, ShardId};

/// An action of on-demand scaling, or the reason why it cannot act. [`Scaling::on_decision`](crate::Scaling::on_decision) receives it.
///
/// A load is a fraction of one shard's capacity: 1 is all of it. Without limits on puts, it can exceed 1. A decision prints as one
/// sentence, which names no partition key, so it can be logged.
///
/// ```
/// # use std::sync::{Arc, Mutex};
/// # use streamlog::{Clock, Maintenance, ManualClock, SECOND, Scaling, ScalingDecision, StreamOptions};
/// # let directory = tempfile::tempdir()?;
/// # let clock = Arc::new(ManualClock::default());
/// let stream = StreamOptions::new().maintenance(Maintenance::Manual).clock(clock.clone()).open(directory.path())?;
/// let decisions = Arc::new(Mutex::new(vec![]));
/// stream.set_scaling(Scaling::on_demand(1, 8).on_decision({
///     let decisions = Arc::clone(&decisions);
///     move |decision| decisions.lock().unwrap().push(decision.clone())
/// }))?;
/// for _ in 0..3 {
///     for user in 0..10_000 {
///         stream.put(format!("user-{user}"), "clicked")?; // a thousand a second
///     }
///     clock.advance(10 * SECOND);
///     stream.maintain()?;
/// }
/// for decision in decisions.lock().unwrap().iter() {
///     println!("{decision}");
///     assert!(matches!(decision, ScalingDecision::Split { .. }));
/// }
/// # assert_eq!(decisions.lock().unwrap().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ScalingDecision {
    /// A hot shard was split.
    #[non_exhaustive]
    Split {
        /// The shard, which is closed now.
        shard: ShardId,
        /// Where the upper child begins.
        at: HashKey,
        /// The shard's load in the last interval.
        load: f64,
        /// The fraction of this load that the lower child will have, estimated from the last records.
        share_below: f64,
    },
    /// Two cold neighbours were merged.
    #[non_exhaustive]
    Merge {
        /// The lower one.
        shard: ShardId,
        /// The upper one.
        adjacent: ShardId,
        /// The load of both together in the last interval.
        load: f64,
    },
    /// A hot shard stays as it is, because nearly all of its load comes from one partition key, which cannot be split. It is reported once
    /// while the shard stays hot.
    ///
    /// Remedy: divide the key, for example by appending a number to it, or put its records less often.
    #[non_exhaustive]
    HotKey {
        /// The shard.
        shard: ShardId,
        /// The partition key. Empty if retention has just dropped its records.
        partition_key: Box<[u8]>,
        /// The hash key of its records.
        hash_key: HashKey,
        /// The shard's load in the last interval.
        load: f64,
        /// The fraction of this load that comes from the key.
        share: f64,
    },
    /// A hot shard stays as it is, because the stream has its maximum number of shards. It is reported once while this lasts.
    #[non_exhaustive]
    AtMaximum {
        /// The hottest shard.
        shard: ShardId,
        /// Its load in the last interval.
        load: f64,
        /// How many shards the stream has.
        shard_count: u32,
    },
}

fn percent(part: f64) -> f64 {
    (part * 100.0).round()
}

impl fmt::Display for ScalingDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Split { shard, at, load, share_below } => write!(
                f,
                "{shard} took {} % of its capacity: it was split at hash key {at}, with {} % of the load below",
                percent(*load),
                percent(*share_below)
            ),
            Self::Merge { shard, adjacent, load } => write!(
                f,
                "{shard} and {adjacent} together took {} % of the capacity of one: they were merged",
                percent(*load)
            ),
            Self::HotKey { shard, hash_key, load, share, .. } => write!(
                f,
                "{shard} took {} % of its capacity, and {} % of that came from one partition key, with hash key {hash_key}: no split \
                 helps, so divide the key or put it less often",
                percent(*load),
                percent(*share)
            ),
            Self::AtMaximum { shard, load, shard_count } => write!(
                f,
                "{shard} took {} % of its capacity, and the stream may not have more than its {shard_count} shards: allow more",
                percent(*load)
            ),
        }
    }
}
