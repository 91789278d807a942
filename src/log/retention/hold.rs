//! What holds retention back: consumer groups that want to miss no record.
//!
//! Who holds, and up to how many bytes, is in the manifest; how far each holder is, it tells each time the stream is opened. Until then
//! all that it may hold is held.

use super::sweep;
use crate::log::topology::Topology;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// Sets how many bytes are held for somebody; none of them for 0.
pub(crate) fn set(topology: &Topology, name: &str, bytes_max: u64) -> Result<()> {
    let mut manifest = topology.manifest_to_change()?;
    let mut next = manifest.clone();
    let before = if bytes_max == 0 {
        topology.hold_positions().remove(name);
        next.holds.remove(name)
    } else {
        next.holds.insert(name.to_owned(), bytes_max)
    };
    if before.unwrap_or_default() != bytes_max {
        sweep::store(topology, &mut manifest, next)?;
    }
    Ok(())
}

/// Lets go of the records of a shard before a sequence number.
pub(crate) fn release(topology: &Topology, name: &str, shard: ShardId, sequence: SequenceNumber) {
    topology.hold_positions().entry(name.to_owned()).or_default().insert(shard, sequence);
}
