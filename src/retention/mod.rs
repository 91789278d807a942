//! What leaves the stream, and when.

mod policy;
pub(crate) mod sweep;
