//! The salt of a segment file: random bytes that go into the checksum of each of its frames.

use crc32fast::Hasher;

use super::checksum;

/// The bytes of a salt.
pub(crate) const SALT_BYTES: usize = 16;

/// The salt of a segment file.
///
/// Each time a file begins a segment it gets another one. So a frame counts only in the segment it was put to: what a file holds from an
/// earlier life, and what somebody made up without knowing the salt, fails the checksum.
#[derive(Debug, Clone)]
pub(crate) struct Salt {
    /// The checksum of the salt alone, with which that of each frame begins.
    begun: Hasher,
}

impl Salt {
    pub(crate) fn new(bytes: [u8; SALT_BYTES]) -> Self {
        let mut begun = checksum::begin();
        begun.update(&bytes);
        Self { begun }
    }

    /// Begins the checksum of a frame.
    #[inline]
    pub(super) fn begin(&self) -> Hasher {
        self.begun.clone()
    }

    /// The checksum of the salt and the bytes that follow it.
    #[inline]
    pub(super) fn checksum(&self, bytes: &[u8]) -> u32 {
        let mut hasher = self.begin();
        hasher.update(bytes);
        hasher.finalize()
    }
}
