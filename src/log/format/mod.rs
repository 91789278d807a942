//! The bytes on disk as pure functions over byte slices; `docs/FORMAT.md` owns what they do.

mod bytes;
pub(crate) mod checksum;
pub(crate) mod draft;
pub(crate) mod frame;
pub(crate) mod header;
pub(crate) mod index;
pub(crate) mod trailer;

/// The version of the segment format that this code writes and reads.
pub(crate) const SEGMENT_VERSION: u32 = 1;
