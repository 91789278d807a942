//! What holds keep from retention at one moment.

use crate::log::live::hold_file;
use crate::log::manifest::Manifest;
use crate::log::topology::{HoldPositions, Topology};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// The holds at one moment.
#[derive(Debug)]
pub(super) struct Held {
    names: Vec<String>,
    positions: HoldPositions,
    /// The bytes of segments that may be kept beyond what retention keeps.
    pub(super) bytes_max: u64,
}

impl Held {
    /// Returns the current holds, or `None` if there are none.
    pub(super) fn now(topology: &Topology, manifest: &Manifest) -> Option<Self> {
        let bytes_max = manifest.holds.values().copied().max()?;
        let names: Vec<String> = manifest.holds.keys().cloned().collect();
        let mut positions = topology.hold_positions().clone();
        for name in &names {
            match hold_file::read(&topology.context().stream_dir, name) {
                Ok(None) => {}
                Ok(Some(of_other_process)) => _ = positions.insert(name.clone(), of_other_process),
                // Everything is held then.
                Err(_) => _ = positions.remove(name),
            }
        }
        Some(Self { names, positions, bytes_max })
    }

    /// Returns the first sequence number of a shard that is held.
    pub(super) fn first(&self, shard: ShardId) -> SequenceNumber {
        let first = |name: &String| self.positions.get(name).and_then(|of_name| of_name.get(&shard)).copied();
        self.names.iter().map(|name| first(name).unwrap_or_default()).min().unwrap_or_default()
    }
}
