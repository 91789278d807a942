//! Holds: keeping retention from dropping records that a consumer group has yet to read.
//!
//! The manifest lists the holders, each with its maximum of bytes. After each opening of the stream, each holder reports its position. Until then,
//! everything that it may hold is held. A holder in another process reports that in a file: see `live/hold_file.rs`.

use super::sweep;
use crate::log::live::hold_file;
use crate::log::topology::Topology;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// Sets how many bytes are held under a name.
pub(crate) fn set(topology: &Topology, name: &str, bytes_max: u64) -> Result<()> {
    sweep::update(topology, |manifest| {
        manifest.holds.insert(name.to_owned(), bytes_max);
        Ok(())
    })
}

/// Ends a hold.
pub(crate) fn end(topology: &Topology, name: &str) -> Result<()> {
    sweep::update(topology, |manifest| {
        topology.hold_positions().remove(name);
        hold_file::remove(&topology.context().stream_dir, name)?;
        manifest.holds.remove(name);
        Ok(())
    })
}

/// Takes over a hold whose holder may have run in another process before.
pub(crate) fn take_over(topology: &Topology, name: &str) -> Result<()> {
    hold_file::remove(&topology.context().stream_dir, name)
}

/// Releases the records of a shard before a sequence number.
pub(crate) fn release(topology: &Topology, name: &str, shard: ShardId, sequence: SequenceNumber) {
    topology.hold_positions().entry(name.to_owned()).or_default().insert(shard, sequence);
}
