//! What can be wrong with a frame.

/// The reason why no valid frame begins at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FrameFault {
    /// A length of zero: nothing was ever written here.
    Blank,
    /// The bytes end before the frame does.
    Short {
        len: usize,
        available: usize,
    },
    /// A length that no frame can have.
    Length {
        found: u32,
    },
    Checksum {
        stored: u32,
        computed: u32,
    },
    /// A whole frame, but of a newer version.
    Unsupported {
        what: &'static str,
        found: u16,
    },
    /// A whole frame that does not decrypt with its key. Somebody has changed it, or moved it here.
    Encrypted,
    /// A whole frame whose records do not decompress. This library never wrote it.
    Packed,
    /// A whole frame whose record lengths do not add up. This library never wrote it.
    Shape,
    /// A whole frame, but not the one that belongs there.
    Sequence {
        expected: u64,
        found: u64,
    },
}

impl std::fmt::Display for FrameFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blank => write!(f, "expected a frame, found zeros"),
            Self::Short { len, available } => {
                write!(f, "expected a frame of {len} bytes, found {available} bytes")
            }
            Self::Length { found } => write!(f, "expected the length of a frame, found {found}"),
            Self::Checksum { stored, computed } => {
                write!(f, "expected a frame with checksum {stored:#010x}, found bytes with {computed:#010x}")
            }
            Self::Unsupported { what, found } => write!(f, "a frame with {what} {found}"),
            Self::Sequence { expected, found } => {
                write!(f, "expected the frame of sequence number {expected}, found that of {found}")
            }
            Self::Encrypted => {
                write!(
                    f,
                    "expected records that were encrypted for this place, found others: somebody has changed them"
                )
            }
            Self::Packed => write!(f, "expected compressed records, found bytes that do not decompress"),
            Self::Shape => write!(f, "the lengths of a frame's records do not add up"),
        }
    }
}
