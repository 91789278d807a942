//! Little-endian integers in byte slices, where reading past the end gives `None`, and zeros.

/// Reads an integer of the named type at an offset.
macro_rules! reader {
    ($name:ident, $type:ty) => {
        #[inline]
        pub(super) fn $name(bytes: &[u8], offset: usize) -> Option<$type> {
            let field = bytes.get(offset..)?.first_chunk::<{ size_of::<$type>() }>()?;
            Some(<$type>::from_le_bytes(*field))
        }
    };
}

reader!(u16_at, u16);
reader!(u32_at, u32);
reader!(u64_at, u64);

/// Returns whether all bytes are zero. Compares whole pages, which is much faster than a look at each byte.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// Writes fields one after the other into a buffer that has exactly the room for them.
pub(super) struct FieldWriter<'a> {
    rest: &'a mut [u8],
}

impl<'a> FieldWriter<'a> {
    pub(super) fn new(buffer: &'a mut [u8]) -> Self {
        Self { rest: buffer }
    }

    #[inline]
    fn put(mut self, field: &[u8]) -> Self {
        let (head, rest) = std::mem::take(&mut self.rest).split_at_mut(field.len());
        head.copy_from_slice(field);
        Self { rest }
    }

    #[inline]
    pub(super) fn bytes(self, value: &[u8]) -> Self {
        self.put(value)
    }

    #[inline]
    pub(super) fn u16(self, value: u16) -> Self {
        self.put(&value.to_le_bytes())
    }

    #[inline]
    pub(super) fn u32(self, value: u32) -> Self {
        self.put(&value.to_le_bytes())
    }

    #[inline]
    pub(super) fn u64(self, value: u64) -> Self {
        self.put(&value.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::is_zero;

    #[test]
    fn a_byte_that_is_not_zero_is_noticed_wherever_it_is() {
        for len in [0, 1, 63, 4_095, 4_096, 4_097, 8_192, 10_000] {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes), "{len}");
            for at in
                (0..len).filter(|at| at % 509 == 0 || at % 4_096 > 4_094 || at % 4_096 < 2 || at + 1 == len)
            {
                bytes[at] = 1;
                assert!(!is_zero(&bytes), "{at} of {len}");
                bytes[at] = 0;
            }
        }
    }
}
