//! The subscriptions that are open: how far each is behind, for monitoring.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::{ShardId, Timestamp};

type Key = (String, ShardId);

/// The open subscriptions of a stream, by consumer and shard.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Pipes {
    open: Mutex<BTreeMap<Key, Arc<Pipe>>>,
}

/// A subscription as watchers see it.
#[derive(Debug)]
pub(in crate::gateway) struct Pipe {
    pub(in crate::gateway) since: Timestamp,
    millis_behind: AtomicU64,
}

impl Pipe {
    /// Returns how far the last event was behind the end of the shard.
    pub(in crate::gateway) fn millis_behind(&self) -> u64 {
        self.millis_behind.load(Ordering::Relaxed)
    }

    pub(in crate::gateway) fn set_millis_behind(&self, millis: u64) {
        self.millis_behind.store(millis, Ordering::Relaxed);
    }
}

impl Pipes {
    /// Adds a subscription. It replaces another one of the consumer and the shard, which it has ended.
    pub(in crate::gateway) fn add(&self, consumer: &str, shard: ShardId, since: Timestamp) -> Arc<Pipe> {
        let pipe = Arc::new(Pipe { since, millis_behind: AtomicU64::default() });
        self.open.lock().insert((consumer.to_owned(), shard), Arc::clone(&pipe));
        pipe
    }

    /// Removes a subscription, unless another one has replaced it.
    pub(in crate::gateway) fn remove(&self, consumer: &str, shard: ShardId, pipe: &Arc<Pipe>) {
        let mut open = self.open.lock();
        let key = (consumer.to_owned(), shard);
        if open.get(&key).is_some_and(|current| Arc::ptr_eq(current, pipe)) {
            open.remove(&key);
        }
    }

    /// Returns how far each consumer with subscriptions is behind in its slowest shard.
    pub(super) fn behind(&self) -> BTreeMap<String, u64> {
        let mut behind = BTreeMap::new();
        for ((consumer, _), pipe) in &*self.open.lock() {
            let furthest = behind.entry(consumer.clone()).or_default();
            *furthest = pipe.millis_behind().max(*furthest);
        }
        behind
    }

    /// Returns the open subscriptions of a consumer, by shard.
    pub(in crate::gateway) fn of(&self, consumer: &str) -> Vec<(ShardId, Arc<Pipe>)> {
        let open = self.open.lock();
        let of_consumer = open.iter().filter(|((name, _), _)| name == consumer);
        of_consumer.map(|((_, shard), pipe)| (*shard, Arc::clone(pipe))).collect()
    }
}
