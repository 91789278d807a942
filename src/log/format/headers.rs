//! The headers of a record: named values beside its data.

use std::fmt;

use super::bytes::{FieldWriter, u16_at, u32_at};

/// The size of the field that holds the length of all headers of a record.
const BLOCK_LENGTH_BYTES: usize = 4;
/// The bytes of one header before its name.
const ENTRY_HEAD_BYTES: usize = 6;

/// A name and a value.
type Header<'a> = (&'a str, &'a [u8]);

/// The headers of a record, in the order in which they were put. [`Record::headers`](crate::Record::headers) returns them.
///
/// ```
/// # use streamlog::{Position, PutRecord, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let record = PutRecord::new("user-17", "clicked").header("trace", "4bf92f35").header("hops", b"3");
/// let receipt = stream.put_record(&record)?;
/// let batch = stream.iterator(receipt.shard, Position::TrimHorizon)?.next_batch(10)?;
/// let headers = batch.iter().next().expect("one was put").headers();
/// assert_eq!(headers.get("trace"), Some(&b"4bf92f35"[..]));
/// assert_eq!(headers.map(|(name, _)| name).collect::<Vec<_>>(), ["trace", "hops"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    /// The remaining headers, as they are in the frame.
    block: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Reads the headers in a block that was checked.
    pub(crate) fn new(block: &'a [u8]) -> Self {
        Self { block }
    }

    /// Returns the value of the first header with this name.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        let mut headers = *self;
        headers.find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Returns whether no headers are left.
    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, rest) = split_entry(self.block)?;
        self.block = rest;
        Some(header)
    }
}

impl std::iter::FusedIterator for Headers<'_> {}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(*self).finish()
    }
}

/// Splits off the first header of a block. Returns `None` if no valid header begins there.
fn split_entry(block: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let (name_len, value_len) = (usize::from(u16_at(block, 0)?), u32_at(block, 2)? as usize);
    let (name, rest) = block[ENTRY_HEAD_BYTES..].split_at_checked(name_len)?;
    let (value, rest) = rest.split_at_checked(value_len)?;
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
    Some(((name, value), rest))
}

/// Returns the bytes that headers take in a frame. Without headers, that is 0.
pub(crate) fn bytes_of(headers: &[(&str, &[u8])]) -> usize {
    let entries = headers.iter().map(|(name, value)| ENTRY_HEAD_BYTES + name.len() + value.len());
    if headers.is_empty() { 0 } else { BLOCK_LENGTH_BYTES + entries.sum::<usize>() }
}

/// Writes headers into a place of the size that [`bytes_of`] returned.
pub(super) fn encode(headers: &[(&str, &[u8])], place: &mut [u8]) {
    let block_len = (place.len() - BLOCK_LENGTH_BYTES) as u32;
    let writer = FieldWriter::new(place).u32(block_len);
    headers.iter().fold(writer, |writer, (name, value)| {
        writer.u16(name.len() as u16).u32(value.len() as u32).bytes(name.as_bytes()).bytes(value)
    });
}

/// Splits `bytes` into the block of headers that they begin with and the rest.
pub(super) fn split_block(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(BLOCK_LENGTH_BYTES).and_then(|(_, rest)| {
        let len = u32_at(bytes, 0)? as usize;
        rest.split_at_checked(len)
    })
}

/// Returns whether a block consists of valid headers only, and of at least one.
pub(super) fn is_sound(mut block: &[u8]) -> bool {
    if block.is_empty() {
        return false;
    }
    while !block.is_empty() {
        match split_entry(block) {
            Some((_, rest)) => block = rest,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn encoded(headers: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; bytes_of(headers)];
        encode(headers, &mut bytes);
        bytes
    }

    #[test]
    fn a_name_that_is_empty_or_not_text_is_refused() {
        let bytes = encoded(&[("name", b"value")]);
        let (block, behind) = split_block(&bytes).unwrap();
        assert!(is_sound(block) && behind.is_empty());
        assert!(!is_sound(&[]), "a record without headers has no block");
        assert!(!is_sound(&block[..block.len() - 1]), "cut short");
        let mut not_text = block.to_vec();
        not_text[ENTRY_HEAD_BYTES] = 0xff;
        assert!(!is_sound(&not_text));
        assert!(!is_sound(&[0, 0, 1, 0, 0, 0, 7]), "no name");
    }

    proptest! {
        #[test]
        fn headers_read_back_in_their_order(names in vec("\\PC{1,20}", 1..6), value in vec(any::<u8>(), 0..50)) {
            let headers: Vec<(&str, &[u8])> = names.iter().map(|name| (&**name, &value[..])).collect();
            let bytes = encoded(&headers);
            let (block, behind) = split_block(&bytes).unwrap();
            prop_assert!(is_sound(block) && behind.is_empty());
            prop_assert_eq!(Headers::new(block).collect::<Vec<_>>(), headers);
        }

        #[test]
        fn p11_any_bytes_decode_without_a_panic(bytes in vec(any::<u8>(), 0..100)) {
            let _ = (is_sound(&bytes), split_block(&bytes), Headers::new(&bytes).count());
        }
    }
}
