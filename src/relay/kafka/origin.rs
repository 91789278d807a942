//! The header that identifies copies of a record by its place in its stream.

use std::fmt::Write;

use crate::{SequenceNumber, ShardId, StreamReader};

/// The name of the header.
pub(super) const ORIGIN: &str = "streamlog-origin";

/// The stream that records come from.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    stream: String,
}

impl Origin {
    pub(super) fn new(stream: &StreamReader) -> Self {
        let path = stream.describe().path;
        let name = path.file_name().unwrap_or(path.as_os_str());
        Self { stream: name.to_string_lossy().into_owned() }
    }

    /// Begins with the records of a shard.
    pub(super) fn begin(&self, shard: ShardId) -> OriginText {
        let text = format!("{} {shard} ", self.stream);
        OriginText { stem: text.len(), text }
    }
}

/// The values of the header for records of one shard.
pub(super) struct OriginText {
    text: String,
    stem: usize,
}

impl OriginText {
    /// Returns the value for a record: the name of the stream's directory, the shard and the sequence number, with blanks between them.
    pub(super) fn of(&mut self, sequence: SequenceNumber) -> &str {
        self.text.truncate(self.stem);
        write!(self.text, "{sequence}").expect("a text has room");
        &self.text
    }
}
