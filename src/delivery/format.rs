//! The formats of objects: how rows stand in them one behind the other.

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// How the records stand in an object.
///
/// ```
/// use streamlog::delivery::Format;
///
/// let format = Format::lines();
/// # let _ = format;
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Format(Kind);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Delimited { delimiter: Vec<u8> },
    JsonLines,
}

impl Format {
    /// The data of the records one behind the other, without anything in between, as Amazon Data Firehose does it. This is the default.
    pub fn raw() -> Self {
        Self::delimited([])
    }

    /// The data of each record, and a line feed. A line feed in the data stays.
    pub fn lines() -> Self {
        Self::delimited("\n")
    }

    /// The data of each record, and these bytes behind it.
    pub fn delimited(delimiter: impl AsRef<[u8]>) -> Self {
        Self(Kind::Delimited { delimiter: delimiter.as_ref().to_vec() })
    }

    /// JSON on one line for each record. Data that is no JSON goes to the error output. Blanks and line feeds between its tokens are left out;
    /// otherwise it stays as it is.
    pub fn json_lines() -> Self {
        Self(Kind::JsonLines)
    }

    /// Returns how names of objects end, with the dot.
    pub(super) fn extension(&self) -> &'static str {
        match self.0 {
            Kind::Delimited { .. } => "",
            Kind::JsonLines => ".jsonl",
        }
    }

    pub(super) fn content_type(&self) -> &'static str {
        match self.0 {
            Kind::Delimited { .. } => "application/octet-stream",
            Kind::JsonLines => "application/x-ndjson",
        }
    }

    /// Returns what writes an object.
    pub(super) fn begin(&self) -> Box<dyn Encode> {
        let (delimiter, is_json) = match &self.0 {
            Kind::Delimited { delimiter } => (delimiter.clone(), false),
            Kind::JsonLines => (b"\n".to_vec(), true),
        };
        Box::new(Rows { delimiter, is_json, bytes: vec![], ends: vec![] })
    }
}

impl Default for Format {
    fn default() -> Self {
        Self::raw()
    }
}

/// Writes an object row by row. The same rows give the same bytes.
pub(super) trait Encode: std::fmt::Debug + Send {
    /// Adds a row. If it does not fit into the format, nothing is added, and the error says why.
    fn push(&mut self, data: &[u8]) -> Result<(), String>;

    /// Returns the bytes that it takes in memory.
    fn memory_bytes(&self) -> usize;

    fn finish(self: Box<Self>) -> Body;
}

/// The bytes of an object before compression.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    /// Where each row ends, with its delimiter. Empty if the rows do not stand one behind the other.
    pub(super) row_ends: Vec<usize>,
    pub(super) delimiter_bytes: usize,
}

impl Body {
    /// Returns the rows without their delimiters.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.row_ends.iter().copied());
        begins.zip(&self.row_ends).map(|(begin, &end)| &self.bytes[begin..end - self.delimiter_bytes])
    }
}

#[derive(Debug)]
struct Rows {
    delimiter: Vec<u8>,
    is_json: bool,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Encode for Rows {
    fn push(&mut self, data: &[u8]) -> Result<(), String> {
        make_room(&mut self.bytes, data.len() + self.delimiter.len());
        if self.is_json {
            serde_json::from_slice::<IgnoredAny>(data).map_err(|error| format!("it is no JSON: {error}"))?;
            push_on_one_line(data, &mut self.bytes);
        } else {
            self.bytes.extend_from_slice(data);
        }
        self.bytes.extend_from_slice(&self.delimiter);
        self.ends.push(self.bytes.len());
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    fn finish(self: Box<Self>) -> Body {
        Body { bytes: self.bytes.into(), row_ends: self.ends, delimiter_bytes: self.delimiter.len() }
    }
}

/// Makes room for more bytes. Hundreds of buffers that grow at once must not take twice the memory at once, so they grow by an eighth.
fn make_room(buffer: &mut Vec<u8>, bytes: usize) {
    if buffer.capacity() - buffer.len() < bytes {
        buffer.reserve_exact(bytes.max(buffer.capacity() / 8).max(1_024));
    }
}

/// Adds JSON without the blanks around it, and on one line: if there is a line feed, without any blanks between its tokens.
fn push_on_one_line(json: &[u8], to: &mut Vec<u8>) {
    let json = json.trim_ascii();
    if !json.contains(&b'\n') && !json.contains(&b'\r') {
        to.extend_from_slice(json);
        return;
    }
    let (mut is_in_text, mut is_escaped) = (false, false);
    for &byte in json {
        let is_blank = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        if is_in_text || !is_blank {
            to.push(byte);
        }
        is_in_text = match byte {
            b'"' if !is_escaped => !is_in_text,
            _ => is_in_text,
        };
        is_escaped = is_in_text && byte == b'\\' && !is_escaped;
    }
}
