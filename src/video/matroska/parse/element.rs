//! Elements of EBML in a slice: identifiers, sizes, values.

use super::invalid;
use crate::video::VideoError;
use crate::video::matroska::element::{Head, NoHead, uint};
use crate::video::matroska::ids;

/// A complete element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) id: u32,
    pub(super) data: &'a [u8],
    /// Where the data begins in the file.
    pub(super) at: usize,
}

impl<'a> Element<'a> {
    pub(super) fn children(&self) -> Elements<'a> {
        Elements { bytes: self.data, at: self.at }
    }

    /// Returns the children with an identifier, and the first error.
    pub(super) fn children_with(
        &self,
        id: u32,
    ) -> impl Iterator<Item = Result<Element<'a>, VideoError>> + use<'a> {
        self.children().filter(move |child| !matches!(child, Ok(child) if child.id != id))
    }

    /// Returns the first child with an identifier.
    pub(super) fn child(&self, id: u32) -> Result<Option<Element<'a>>, VideoError> {
        self.children_with(id).next().transpose()
    }

    pub(super) fn unsigned(&self) -> Result<u64, VideoError> {
        uint(self.data).ok_or_else(|| invalid(self.at, "a number of more than eight bytes"))
    }

    /// Returns a number that must fit into 32 bits.
    pub(super) fn unsigned_32(&self) -> Result<u32, VideoError> {
        u32::try_from(self.unsigned()?).map_err(|_| invalid(self.at, "a number out of range"))
    }

    pub(super) fn float(&self) -> Result<f64, VideoError> {
        match *self.data {
            [] => Ok(0.0),
            [a, b, c, d] => Ok(f64::from(f32::from_be_bytes([a, b, c, d]))),
            [a, b, c, d, e, f, g, h] => Ok(f64::from_be_bytes([a, b, c, d, e, f, g, h])),
            _ => Err(invalid(self.at, "a float of neither four nor eight bytes")),
        }
    }

    /// Returns a text without the zeros that may pad it.
    pub(super) fn text(&self) -> String {
        let end = self.data.iter().position(|&byte| byte == 0).unwrap_or(self.data.len());
        String::from_utf8_lossy(&self.data[..end]).into_owned()
    }
}

/// The elements in a slice, one after the other; ends after the first error.
#[derive(Debug, Clone)]
pub(super) struct Elements<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Elements<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn read(&mut self) -> Result<Element<'a>, VideoError> {
        let head = head(self.bytes, self.at)?;
        let (at, rest) = (self.at + head.len, &self.bytes[head.len..]);
        let size = match head.size {
            Some(size) => usize::try_from(size).ok().filter(|&size| size <= rest.len()),
            None => Some(unknown_size(head.id, rest, at)?),
        };
        let size = size.ok_or_else(|| invalid(at, "an element reaches beyond its parent"))?;
        let (data, rest) = rest.split_at(size);
        (self.bytes, self.at) = (rest, at + size);
        Ok(Element { id: head.id, data, at })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, VideoError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.bytes = &[];
        }
        Some(read)
    }
}

/// Reads the head of an element.
fn head(bytes: &[u8], at: usize) -> Result<Head, VideoError> {
    match Head::read(bytes) {
        Ok(Some(head)) => Ok(head),
        Ok(None) => Err(invalid(at, "the head of an element is cut off")),
        Err(NoHead) => Err(invalid(at, "no element")),
    }
}

/// Determines the size of an element of unknown size: it extends to the first element that cannot be in it.
fn unknown_size(id: u32, data: &[u8], at: usize) -> Result<usize, VideoError> {
    if id != ids::SEGMENT && id != ids::CLUSTER {
        return Err(invalid(at, "an element of unknown size that is no Segment or Cluster"));
    }
    let mut size = 0;
    while size < data.len() {
        let head = head(&data[size..], at + size)?;
        if if id == ids::CLUSTER { ids::ends_cluster(head.id) } else { ids::ends_segment(head.id) } {
            break;
        }
        // The children of an element of unknown size are examined one by one, too.
        let child = match head.size {
            Some(child) => usize::try_from(child).ok(),
            None if head.id == ids::CLUSTER => Some(0),
            None => None,
        };
        let end = child.and_then(|child| (size + head.len).checked_add(child));
        size = end
            .filter(|&end| end <= data.len())
            .ok_or_else(|| invalid(at + size, "an element reaches beyond its parent"))?;
    }
    Ok(size)
}
