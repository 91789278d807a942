//! How the shards of a stream hang together: who owns which hash keys, and who came from whom.

pub(crate) mod lineage;
pub(crate) mod shard_map;
