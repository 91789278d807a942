//! What leaves the stream, and when.

pub(crate) mod hold;
mod policy;
pub(crate) mod sweep;
