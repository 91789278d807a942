//! Retention: what is dropped from the stream, and when.

mod held;
pub(crate) mod hold;
mod policy;
pub(crate) mod sweep;
