//! The key of a segment, and encrypting and decrypting frames with it.
//!
//! A segment's key is derived from a data key with HKDF-SHA-256. The salt of the derivation is that of the segment file, and its info names the
//! stream, the shard and the segment. So a frame that is moved to another place does not decrypt with the key of that place.
//!
//! Each nonce is used once with a key: it is 8 random bytes, which are new each time a process begins or continues a segment, and a counter.
//! Sequence numbers would repeat: those of a torn tail are assigned again.

use std::sync::Arc;

use crate::log::format::encrypted::{Encrypted, NONCE_BYTES, ToEncrypt};
use crate::log::format::fault::FrameFault;
use crate::log::format::salt::SALT_BYTES;
use crate::log::types::keys::DataKey;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// What the key of a segment is derived for.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "encryption"), expect(dead_code, reason = "only a cipher reads them"))]
pub(crate) struct SegmentName<'a> {
    pub(crate) shard: ShardId,
    pub(crate) base: SequenceNumber,
    pub(crate) salt: &'a [u8; SALT_BYTES],
}

#[cfg(feature = "encryption")]
mod cipher {
    use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    use ring::hkdf::{HKDF_SHA256, Salt};

    use super::{DataKey, Encrypted, FrameFault, NONCE_BYTES, SegmentName, ToEncrypt};
    use crate::log::sys::wipe::Wiped;

    const INFO: &[u8] = b"streamlog segment 1";

    #[derive(Debug)]
    pub(crate) struct SegmentKey(Wiped<LessSafeKey>);

    impl SegmentKey {
        /// Derives the key of a segment.
        pub(crate) fn derive(data_key: &DataKey, stream_id: &[u8; 16], segment: &SegmentName<'_>) -> Self {
            let shard = segment.shard.get().to_be_bytes();
            let base = segment.base.get().to_be_bytes();
            let extracted = Salt::new(HKDF_SHA256, segment.salt).extract(data_key.as_bytes());
            let info: [&[u8]; 4] = [INFO, stream_id, &shard, &base];
            let key =
                extracted.expand(&info, &AES_256_GCM).expect("HKDF gives far more bytes than a key has");
            Self(Wiped::new(LessSafeKey::new(UnboundKey::from(key))))
        }

        pub(super) fn encrypt(&self, frame: ToEncrypt<'_>, nonce: [u8; NONCE_BYTES]) {
            let ToEncrypt { associated, plain, tag } = frame;
            let (nonce, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(associated));
            let made = self.0.seal_in_place_separate_tag(nonce, aad, plain).expect("a frame is below 64 GiB");
            tag.copy_from_slice(made.as_ref());
        }

        /// Appends the plaintext, if nobody has changed the frame.
        pub(crate) fn decrypt(&self, frame: &Encrypted<'_>, to: &mut Vec<u8>) -> Result<(), FrameFault> {
            let from = to.len();
            to.extend_from_slice(frame.body);
            let nonce = Nonce::assume_unique_for_key(frame.nonce);
            let opened = self.0.open_in_place(nonce, Aad::from(frame.associated), &mut to[from..]);
            match opened.map(|plain| plain.len()) {
                Ok(len) => {
                    to.truncate(from + len);
                    Ok(())
                }
                Err(_) => {
                    to.truncate(from);
                    Err(FrameFault::Encrypted)
                }
            }
        }
    }
}

#[cfg(not(feature = "encryption"))]
mod cipher {
    use super::{DataKey, Encrypted, FrameFault, NONCE_BYTES, SegmentName, ToEncrypt};

    const NONE: &str = "without the feature, nobody unwraps a data key";

    /// The key of a segment. There is never one without the feature.
    #[derive(Debug)]
    pub(crate) struct SegmentKey(());

    impl SegmentKey {
        pub(crate) fn derive(_: &DataKey, _: &[u8; 16], _: &SegmentName<'_>) -> Self {
            unreachable!("{NONE}")
        }

        pub(super) fn encrypt(&self, _: ToEncrypt<'_>, _: [u8; NONCE_BYTES]) {
            unreachable!("{NONE}{:?}", self.0)
        }

        pub(crate) fn decrypt(&self, _: &Encrypted<'_>, _: &mut Vec<u8>) -> Result<(), FrameFault> {
            unreachable!("{NONE}")
        }
    }
}

pub(crate) use cipher::SegmentKey;

/// What encrypts the frames of a segment.
#[derive(Debug)]
pub(crate) struct Encryptor {
    key: Arc<SegmentKey>,
    data_key: u32,
    random: [u8; 8],
    count: u32,
}

impl Encryptor {
    /// Returns an encryptor whose nonces begin with these random bytes.
    pub(super) fn new(key: SegmentKey, data_key: u32, random: [u8; 8]) -> Self {
        Self { key: Arc::new(key), data_key, random, count: 0 }
    }

    /// Returns the number of the data key, and a nonce that no frame of the segment has.
    pub(crate) fn next_nonce(&mut self) -> (u32, [u8; NONCE_BYTES]) {
        let mut nonce = [0; NONCE_BYTES];
        nonce[..8].copy_from_slice(&self.random);
        nonce[8..].copy_from_slice(&self.count.to_be_bytes());
        // A segment has room for fewer frames than there are counts.
        self.count += 1;
        (self.data_key, nonce)
    }

    /// Encrypts a frame that has this nonce in it.
    pub(crate) fn encrypt(&self, frame: ToEncrypt<'_>, nonce: [u8; NONCE_BYTES]) {
        self.key.encrypt(frame, nonce);
    }
}
