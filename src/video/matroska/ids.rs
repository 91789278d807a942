//! The ids of the Matroska elements that this library knows.

/// The header of a document.
pub(crate) const EBML: u32 = 0x1A45_DFA3;
pub(crate) const EBML_MAX_ID_LENGTH: u32 = 0x42F2;
pub(crate) const EBML_MAX_SIZE_LENGTH: u32 = 0x42F3;
pub(crate) const DOC_TYPE: u32 = 0x4282;
/// Padding, which may be anywhere.
pub(crate) const VOID: u32 = 0xEC;
/// The checksum of the elements behind it in the same parent.
pub(crate) const CRC_32: u32 = 0xBF;

pub(crate) const SEGMENT: u32 = 0x1853_8067;
pub(crate) const SEEK_HEAD: u32 = 0x114D_9B74;
pub(crate) const CUES: u32 = 0x1C53_BB6B;
pub(crate) const ATTACHMENTS: u32 = 0x1941_A469;
pub(crate) const CHAPTERS: u32 = 0x1043_A770;

pub(crate) const INFO: u32 = 0x1549_A966;
pub(crate) const TIMESTAMP_SCALE: u32 = 0x2A_D7B1;
pub(crate) const DURATION: u32 = 0x4489;

pub(crate) const TRACKS: u32 = 0x1654_AE6B;
pub(crate) const TRACK_ENTRY: u32 = 0xAE;
pub(crate) const TRACK_NUMBER: u32 = 0xD7;
pub(crate) const CODEC_PRIVATE: u32 = 0x63A2;
pub(crate) const DEFAULT_DURATION: u32 = 0x23_E383;
pub(crate) const TRACK_TYPE: u32 = 0x83;
pub(crate) const NAME: u32 = 0x536E;
pub(crate) const LANGUAGE: u32 = 0x22_B59C;
pub(crate) const CODEC_ID: u32 = 0x86;
pub(crate) const CODEC_DELAY: u32 = 0x56AA;
pub(crate) const VIDEO: u32 = 0xE0;
pub(crate) const PIXEL_WIDTH: u32 = 0xB0;
pub(crate) const PIXEL_HEIGHT: u32 = 0xBA;
pub(crate) const AUDIO: u32 = 0xE1;
pub(crate) const SAMPLING_FREQUENCY: u32 = 0xB5;
pub(crate) const CHANNELS: u32 = 0x9F;
pub(crate) const BIT_DEPTH: u32 = 0x6264;
pub(crate) const CONTENT_ENCODINGS: u32 = 0x6D80;
pub(crate) const CONTENT_ENCODING: u32 = 0x6240;
pub(crate) const CONTENT_ENCODING_SCOPE: u32 = 0x5032;
pub(crate) const CONTENT_ENCODING_TYPE: u32 = 0x5033;
pub(crate) const CONTENT_COMPRESSION: u32 = 0x5034;
pub(crate) const CONTENT_COMPRESSION_ALGORITHM: u32 = 0x4254;
pub(crate) const CONTENT_COMPRESSION_SETTINGS: u32 = 0x4255;

pub(crate) const TAGS: u32 = 0x1254_C367;
pub(crate) const TAG: u32 = 0x7373;
pub(crate) const TARGETS: u32 = 0x63C0;
pub(crate) const TARGET_TRACK_UID: u32 = 0x63C5;
pub(crate) const SIMPLE_TAG: u32 = 0x67C8;
pub(crate) const TAG_NAME: u32 = 0x45A3;
pub(crate) const TAG_STRING: u32 = 0x4487;

pub(crate) const CLUSTER: u32 = 0x1F43_B675;
pub(crate) const TIMESTAMP: u32 = 0xE7;
pub(crate) const SIMPLE_BLOCK: u32 = 0xA3;
pub(crate) const BLOCK_GROUP: u32 = 0xA0;
pub(crate) const BLOCK: u32 = 0xA1;
pub(crate) const BLOCK_DURATION: u32 = 0x9B;
pub(crate) const REFERENCE_BLOCK: u32 = 0xFB;
pub(crate) const ENCRYPTED_BLOCK: u32 = 0xAF;

/// Returns whether an element can only be a child of the segment, or stand beside it. Such an id ends a cluster of unknown size.
pub(crate) const fn ends_cluster(id: u32) -> bool {
    matches!(id, SEEK_HEAD | INFO | TRACKS | TAGS | CLUSTER | CUES | ATTACHMENTS | CHAPTERS)
        || ends_segment(id)
}

/// Returns whether an element can only stand beside a segment. Such an id ends a segment of unknown size.
pub(crate) const fn ends_segment(id: u32) -> bool {
    matches!(id, EBML | SEGMENT)
}
