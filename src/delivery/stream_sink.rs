//! Another stream as a sink: rows become records of it.

use std::sync::Arc;

use super::sink::{Object, Sink, SinkError};
use crate::{Error, Group, PutRecord, Result, Stream, StreamReader};

/// The word for rows that the stream never takes.
pub(super) const FAILED: &str = "stream-failed";

/// Returns the partition key of a row.
pub(super) type KeyFunction = dyn Fn(&[u8]) -> Vec<u8> + Send + Sync;

/// The stream that a delivery puts into.
#[derive(Clone)]
pub(super) struct Output {
    pub(super) stream: Stream,
    /// `None`: a row has the key of the record that it was made of.
    pub(super) key: Option<Arc<KeyFunction>>,
}

impl Output {
    /// Opens the output of the delivery that reads `input` as a group.
    pub(super) fn open(&self, input: &StreamReader, group: &Group) -> Result<StreamSink> {
        if input.describe().path == self.stream.describe().path {
            return Err(Error::InvalidArgument("a delivery cannot put into the stream that it reads".into()));
        }
        // The sink recognises rows that were put before a crash.
        let sink = crate::Sink::open(&self.stream, group)?;
        Ok(StreamSink {
            sink,
            path: self.stream.describe().path.display().to_string(),
            key: self.key.clone(),
        })
    }
}

/// An output that is open.
pub(super) struct StreamSink {
    sink: crate::Sink,
    path: String,
    key: Option<Arc<KeyFunction>>,
}

impl Sink for StreamSink {
    fn put(&self, object: &Object) -> std::result::Result<(), SinkError> {
        let (mut rejected, mut why) = (vec![], String::new());
        let failed = |error: &Error| format!("cannot put into {}: {error}", self.path);
        for (row, (data, origin)) in object.rows().zip(&object.origins).enumerate() {
            let key = self.key.as_ref().map(|key| key(data));
            let record = PutRecord::new(key.as_deref().unwrap_or(&origin.key), data);
            match self.sink.put(object.shard, origin.sequence, origin.index, &record) {
                Ok(_) => {}
                Err(error @ Error::InvalidRecord { .. }) => {
                    why = failed(&error);
                    rejected.push(row);
                }
                // The next attempt skips rows that were put.
                Err(error) => return Err(SinkError::temporary(failed(&error))),
            }
        }
        if rejected.is_empty() { Ok(()) } else { Err(SinkError::rejected(why, rejected)) }
    }

    fn wants_rows(&self) -> bool {
        true
    }

    fn error_output_type(&self) -> Option<&'static str> {
        Some(FAILED)
    }
}
