//! The salt of a segment file: random bytes that go into the checksum of each of its frames.

use crc32fast::Hasher;

use super::checksum;

/// The size of a salt.
pub(crate) const SALT_BYTES: usize = 16;

/// The salt of a segment file.
///
/// A file gets a new salt each time it begins a segment. So a frame is valid only in the segment it was put to: frames left over from an
/// earlier segment, and frames made up without knowledge of the salt, fail the checksum.
#[derive(Debug, Clone)]
pub(crate) struct Salt {
    bytes: [u8; SALT_BYTES],
    /// The checksum state after the salt alone. The checksum of each frame continues from it.
    begun: Hasher,
}

impl Salt {
    pub(crate) fn new(bytes: [u8; SALT_BYTES]) -> Self {
        let mut begun = checksum::begin();
        begun.update(&bytes);
        Self { bytes, begun }
    }

    pub(crate) fn bytes(&self) -> &[u8; SALT_BYTES] {
        &self.bytes
    }

    /// Begins the checksum of a frame.
    #[inline]
    pub(super) fn begin(&self) -> Hasher {
        self.begun.clone()
    }

    /// Returns the checksum of the salt and the bytes that follow it.
    #[inline]
    pub(super) fn checksum(&self, bytes: &[u8]) -> u32 {
        let mut hasher = self.begin();
        hasher.update(bytes);
        hasher.finalize()
    }
}
