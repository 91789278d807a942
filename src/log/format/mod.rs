//! The bytes on disk as pure functions over byte slices; `docs/FORMAT.md` owns their meaning.

pub(crate) mod bytes;
pub(crate) mod checksum;
pub(crate) mod draft;
pub(crate) mod encrypted;
pub(crate) mod fault;
pub(crate) mod frame;
pub(crate) mod header;
pub(crate) mod headers;
pub(crate) mod holder;
pub(crate) mod index;
pub(crate) mod live;
pub(crate) mod pack;
pub(crate) mod record;
pub(crate) mod salt;
pub(crate) mod summary;
pub(crate) mod trailer;
pub(crate) mod walk;

/// The version of the segment format that this code writes and reads.
pub(crate) const SEGMENT_VERSION: u32 = 1;

/// Frames begin, and therefore end, at multiples of this.
pub(crate) const FRAME_ALIGN: usize = 8;
