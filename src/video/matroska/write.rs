//! Writing Matroska elements.

use super::ids;

/// The head of a segment of unknown size.
pub(crate) const SEGMENT_HEAD: [u8; 12] =
    [0x18, 0x53, 0x80, 0x67, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];

/// Appends an id.
fn push_id(out: &mut Vec<u8>, id: u32) {
    let bytes = id.to_be_bytes();
    let zeros = id.leading_zeros() as usize / 8;
    out.extend_from_slice(&bytes[zeros..]);
}

/// Returns a size in 8 bytes, which can be written before it is known.
pub(crate) fn long_size(size: u64) -> [u8; 8] {
    (size | 1 << 56).to_be_bytes()
}

/// Appends a size in as few bytes as possible.
fn push_size(out: &mut Vec<u8>, size: u64) {
    // All ones would mean that the size is unknown.
    let len = (1..8).find(|&len| size < (1 << (7 * len)) - 1).unwrap_or(8);
    let bytes = (size | 1 << (7 * len)).to_be_bytes();
    out.extend_from_slice(&bytes[8 - len..]);
}

/// Appends an element.
pub(crate) fn push(out: &mut Vec<u8>, id: u32, payload: &[u8]) {
    push_id(out, id);
    push_size(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

/// Appends a parent with the children that `fill` appends.
pub(crate) fn push_parent(out: &mut Vec<u8>, id: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut children = vec![];
    fill(&mut children);
    push(out, id, &children);
}

/// Appends tags without a target, which apply to the whole segment. Appends nothing if there are none.
pub(crate) fn push_tags<'a>(out: &mut Vec<u8>, tags: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let mut tags = tags.into_iter().peekable();
    if tags.peek().is_none() {
        return;
    }
    push_parent(out, ids::TAGS, |out| {
        push_parent(out, ids::TAG, |out| {
            push(out, ids::TARGETS, &[]);
            for (name, value) in tags {
                push_parent(out, ids::SIMPLE_TAG, |out| {
                    push(out, ids::TAG_NAME, name.as_bytes());
                    push(out, ids::TAG_STRING, value.as_bytes());
                });
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::super::element::{Head, elements};
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for len in [0, 1, 126, 127, 128, 16_382, 16_383, 1 << 20] {
            let mut out = vec![];
            push(&mut out, ids::VOID, &vec![7; len]);
            let element = elements(&out).next().unwrap().unwrap();
            assert_eq!((element.id, element.payload.len()), (ids::VOID, len));
        }
        let mut head = vec![0xEC];
        head.extend(long_size(5));
        assert_eq!(Head::read(&head), Ok(Some(Head { id: ids::VOID, size: Some(5), len: 9 })));
        assert_eq!(Head::read(&SEGMENT_HEAD), Ok(Some(Head { id: ids::SEGMENT, size: None, len: 12 })));
    }
}
