//! One file of a shard: taking frames, waiting to be sealed, or unchangeable.

pub(crate) mod active;
pub(crate) mod file;
pub(crate) mod growth;
pub(crate) mod place;
pub(crate) mod prepared;
pub(crate) mod rewrite;
pub(crate) mod stored;
pub(crate) mod unsealed;
pub(crate) mod window;
