//! The checksum of everything on disk: CRC-32 as in zip and Ethernet.

use std::sync::LazyLock;

use crc32fast::Hasher;

/// A fresh hasher to clone: each `Hasher::new` queries the processor's features.
static BLANK: LazyLock<Hasher> = LazyLock::new(Hasher::new);

/// Begins a checksum over bytes that come in parts.
#[inline]
pub(crate) fn begin() -> Hasher {
    BLANK.clone()
}

/// Returns the checksum of bytes.
#[inline]
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = begin();
    hasher.update(bytes);
    hasher.finalize()
}

/// Returns the checksum of consecutive parts, to be combined with that of the bytes before them.
#[inline(never)]
pub(super) fn of_parts(parts: &[&[u8]]) -> Hasher {
    let mut hasher = begin();
    parts.iter().for_each(|part| hasher.update(part));
    hasher
}
