//! One file of a shard: active, unsealed or sealed.

pub(crate) mod active;
pub(crate) mod file;
pub(crate) mod growth;
pub(crate) mod place;
pub(crate) mod prepared;
pub(crate) mod read_frames;
pub(crate) mod rewrite;
pub(crate) mod stored;
pub(crate) mod unsealed;
pub(crate) mod window;
