//! The heads of EBML elements, and the elements in a slice.

/// The most bytes that an element's id and size take.
pub(crate) const HEAD_BYTES_MAX: usize = 12;

/// The size of an element that ends at the first element that cannot be its child.
const UNKNOWN_SIZE: u64 = u64::MAX;

/// The id and the size of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) id: u32,
    /// The bytes behind the head, or `None` if the producer did not know them.
    pub(crate) size: Option<u64>,
    /// The bytes of the head itself.
    pub(crate) len: usize,
}

/// The bytes are not the head of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoHead;

impl Head {
    /// Reads the head that `bytes` begin with. Returns `None` if they end within it.
    #[inline]
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, NoHead> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let id_len = first.leading_zeros() as usize + 1;
        if id_len > 4 {
            return Err(NoHead);
        }
        let Some(id_bytes) = bytes.get(..id_len) else { return Ok(None) };
        let id = id_bytes.iter().fold(0, |id, &byte| id << 8 | u32::from(byte));
        match vint(&bytes[id_len..]) {
            Ok(Some((UNKNOWN_SIZE, size_len))) => Ok(Some(Self { id, size: None, len: id_len + size_len })),
            Ok(Some((size, size_len))) => Ok(Some(Self { id, size: Some(size), len: id_len + size_len })),
            Ok(None) => Ok(None),
            Err(no_head) => Err(no_head),
        }
    }
}

/// Reads a number of variable length. Returns it with its length, or `None` if the bytes end within it. All ones become `u64::MAX`.
#[inline]
pub(crate) fn vint(bytes: &[u8]) -> Result<Option<(u64, usize)>, NoHead> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let len = first.leading_zeros() as usize + 1;
    if len > 8 {
        return Err(NoHead);
    }
    let Some(bytes) = bytes.get(..len) else { return Ok(None) };
    let mask = (1u64 << (7 * len)) - 1;
    let value = bytes.iter().fold(0u64, |value, &byte| value << 8 | u64::from(byte)) & mask;
    Ok(Some((if value == mask { u64::MAX } else { value }, len)))
}

/// Reads the payload of an unsigned integer.
pub(crate) fn uint(payload: &[u8]) -> Option<u64> {
    (payload.len() <= 8).then(|| payload.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

/// Reads the payload of a text, which ends at its first zero.
pub(crate) fn text(payload: &[u8]) -> Option<&str> {
    let end = payload.iter().position(|&byte| byte == 0).unwrap_or(payload.len());
    std::str::from_utf8(&payload[..end]).ok()
}

/// The consecutive elements of a slice.
#[derive(Debug, Clone)]
pub(crate) struct Elements<'a> {
    rest: &'a [u8],
    at: usize,
}

/// An element in a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) id: u32,
    pub(crate) payload: &'a [u8],
    /// Where its head begins in the slice.
    pub(crate) at: usize,
    /// The bytes of its head.
    pub(crate) head_len: usize,
}

/// Returns the elements in the payload of a parent whose size is known.
pub(crate) fn elements(payload: &[u8]) -> Elements<'_> {
    Elements { rest: payload, at: 0 }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, NoHead>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let element = Head::read(self.rest).ok().flatten().and_then(|head| {
            let size = usize::try_from(head.size?).ok()?;
            let (payload, rest) = self.rest[head.len..].split_at_checked(size)?;
            let at = self.at;
            self.at += head.len + size;
            self.rest = rest;
            Some(Element { id: head.id, payload, at, head_len: head.len })
        });
        if element.is_none() {
            self.rest = &[];
        }
        Some(element.ok_or(NoHead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn heads_have_ids_and_sizes() {
        let head = |bytes: &[u8]| Head::read(bytes);
        assert_eq!(head(&[0xA3, 0x85, 1]), Ok(Some(Head { id: 0xA3, size: Some(5), len: 2 })));
        let cluster = [0x1F, 0x43, 0xB6, 0x75, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(head(&cluster), Ok(Some(Head { id: 0x1F43_B675, size: None, len: 12 })));
        assert_eq!(head(&cluster[..11]), Ok(None));
        assert_eq!(head(&[0xEC, 0xFF]), Ok(Some(Head { id: 0xEC, size: None, len: 2 })));
        assert_eq!(head(&[0xEC, 0x40, 0x7F]), Ok(Some(Head { id: 0xEC, size: Some(127), len: 3 })));
        assert_eq!(head(&[]), Ok(None));
        assert_eq!(head(&[0x08, 0, 0, 0, 0]), Err(NoHead), "an id has at most 4 bytes");
        assert_eq!(head(&[0xEC, 0x00]), Err(NoHead), "a size has at most 8 bytes");
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_to_their_end(bytes in vec(any::<u8>(), 0..100)) {
            let mut end = 0;
            for element in elements(&bytes).flatten() {
                prop_assert!(element.at >= end);
                end = element.at + element.head_len + element.payload.len();
            }
            prop_assert!(end <= bytes.len());
        }
    }
}
