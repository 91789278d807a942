//! The shards of a stream, as the reader of one of them sees the others.

use std::sync::Weak;

use parking_lot::Mutex;

use super::WakeReaders;
use crate::log::types::time::Timestamp;

/// The shards of a stream.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    shards: Mutex<Vec<Weak<dyn WakeReaders>>>,
}

impl Peers {
    pub(in super::super) fn add(&self, shard: Weak<dyn WakeReaders>) {
        let mut shards = self.shards.lock();
        shards.retain(|known| known.strong_count() > 0);
        shards.push(shard);
    }

    /// Returns the latest timestamp that a record of the stream can have. It takes the append lock of each shard.
    pub(crate) fn latest(&self) -> Timestamp {
        let shards = self.shards.lock().clone();
        let latest = shards.iter().filter_map(Weak::upgrade).map(|shard| shard.last_timestamp());
        latest.max().unwrap_or_default()
    }
}
