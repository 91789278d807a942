//! The checksum of all that is on disk: CRC-32 as in zip and Ethernet.

use std::sync::LazyLock;

use crc32fast::Hasher;

/// What begins a checksum, kept because making one asks each time what the processor can do.
static BLANK: LazyLock<Hasher> = LazyLock::new(Hasher::new);

/// Begins the checksum of bytes that come in parts.
#[inline]
pub(crate) fn begin() -> Hasher {
    BLANK.clone()
}

/// The checksum of bytes.
#[inline]
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = begin();
    hasher.update(bytes);
    hasher.finalize()
}

/// The checksum of bytes that stand one behind the other, to be joined to that of what stands before them.
#[inline(never)]
pub(super) fn of_parts(parts: &[&[u8]]) -> Hasher {
    let mut hasher = begin();
    parts.iter().for_each(|part| hasher.update(part));
    hasher
}
