//! Encrypted frames.
//!
//! The records of an encrypted frame begin with the number of the data key (4 bytes) and the nonce (12 bytes). The ciphertext follows, and then
//! the tag (16 bytes). The plaintext is what the frame would hold otherwise: plain or packed records. Its length is a multiple of 8 bytes, and so
//! is that of the rest: there is no padding.
//!
//! The associated data are the bytes of the frame from its sequence number up to the ciphertext. The length of the frame is not among them,
//! because the tag proves it.

use super::bytes::{FieldWriter, u32_at};
use super::frame::{CHECKED_FROM, FRAME_HEADER_BYTES};

/// The value of the frame header's field.
pub(crate) const AES_256_GCM: u8 = 1;
/// The bytes before the ciphertext.
pub(super) const ENCRYPTION_HEAD_BYTES: usize = 16;
pub(crate) const NONCE_BYTES: usize = 12;
pub(crate) const TAG_BYTES: usize = 16;
/// How much longer an encrypted frame is than a plain one.
pub(super) const ENCRYPTION_BYTES: usize = ENCRYPTION_HEAD_BYTES + TAG_BYTES;

const BODY_FROM: usize = FRAME_HEADER_BYTES + ENCRYPTION_HEAD_BYTES;
const ASSOCIATED_BYTES: usize = BODY_FROM - CHECKED_FROM;

/// The parts of an encrypted frame.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "encryption"), expect(dead_code, reason = "only a cipher reads them"))]
pub(crate) struct Encrypted<'a> {
    pub(crate) data_key: u32,
    pub(crate) nonce: [u8; NONCE_BYTES],
    /// What the tag authenticates besides the ciphertext.
    pub(crate) associated: [u8; ASSOCIATED_BYTES],
    /// The ciphertext, and behind it the tag.
    pub(crate) body: &'a [u8],
}

/// Returns the number of the data key, the nonce and the body of encrypted records.
pub(super) fn split(records: &[u8]) -> Option<(u32, [u8; NONCE_BYTES], &[u8])> {
    let (head, body) = records.split_at_checked(ENCRYPTION_HEAD_BYTES)?;
    (body.len() > TAG_BYTES).then_some((u32_at(head, 0)?, *head[4..].first_chunk()?, body))
}

/// The parts of a frame that is about to be encrypted.
#[derive(Debug)]
#[cfg_attr(not(feature = "encryption"), expect(dead_code, reason = "only a cipher reads them"))]
pub(crate) struct ToEncrypt<'a> {
    pub(crate) associated: &'a [u8],
    pub(crate) plain: &'a mut [u8],
    pub(crate) tag: &'a mut [u8],
}

/// Writes the number of the data key and the nonce into a frame that has its header and room for what encryption adds.
pub(super) fn begin(frame: &mut [u8], data_key: u32, nonce: [u8; NONCE_BYTES]) -> ToEncrypt<'_> {
    FieldWriter::new(&mut frame[FRAME_HEADER_BYTES..]).u32(data_key).bytes(&nonce);
    let (head, body) = frame.split_at_mut(BODY_FROM);
    let (plain, tag) = body.split_at_mut(body.len() - TAG_BYTES);
    ToEncrypt { associated: &head[CHECKED_FROM..], plain, tag }
}
