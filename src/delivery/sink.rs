//! Where objects are delivered to.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::format::Body;
use super::part::Origin;
use crate::{SequenceNumber, ShardId, Timestamp};

/// An object to be delivered.
#[derive(Debug, Clone)]
pub struct Object {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) shard: ShardId,
    pub(super) first: SequenceNumber,
    pub(super) last: SequenceNumber,
    pub(super) oldest: Timestamp,
    pub(super) record_count: u64,
    pub(super) content_type: &'static str,
    pub(super) content_encoding: Option<&'static str>,
    pub(super) bytes: Bytes,
    pub(super) body: Option<Body>,
    /// The origins of the rows, for a sink of the library that wants them.
    pub(super) origins: Vec<Origin>,
}

impl Object {
    /// Returns the name: relative, with slashes, without `.` and `..` and without control characters.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns an id that is the same for each attempt to deliver this object, and different for every other object.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the bytes, with the delivery's compression.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the rows before compression, without delimiters. It returns rows only for a sink that [wants them](Sink::wants_rows), and only if the
    /// format has rows.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.body.iter().flat_map(Body::rows)
    }

    /// Returns the shard of its records.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Returns the sequence numbers of the first and the last record in it. With several partitions, some records in between are in other objects.
    pub fn sequence_range(&self) -> (SequenceNumber, SequenceNumber) {
        (self.first, self.last)
    }

    /// Returns when the first record in it arrived.
    pub fn first_arrival(&self) -> Timestamp {
        self.oldest
    }

    /// Returns the number of rows in it: that of the records, unless a step has changed the number of rows.
    pub fn record_count(&self) -> u64 {
        self.record_count
    }

    /// Returns the media type of the bytes before compression.
    pub fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// Returns the compression as an HTTP content encoding, if there is one.
    pub fn content_encoding(&self) -> Option<&'static str> {
        self.content_encoding
    }
}

/// Why an object could not be delivered.
#[derive(Debug, Clone)]
pub struct SinkError {
    pub(super) message: String,
    pub(super) is_permanent: bool,
    /// The rows that were not taken. `None`: the whole object.
    pub(super) rejected: Option<BTreeSet<usize>>,
}

impl SinkError {
    /// The sink may accept the object later.
    pub fn temporary(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), is_permanent: false, rejected: None }
    }

    /// The sink will never accept this object, so it goes to the error output immediately.
    pub fn permanent(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), is_permanent: true, rejected: None }
    }

    /// The sink has accepted the object except for these rows, by their index in [`Object::rows`], and will never accept them. Only these rows go to
    /// the error output.
    pub fn rejected(message: impl fmt::Display, rows: impl IntoIterator<Item = usize>) -> Self {
        Self { rejected: Some(rows.into_iter().collect()), ..Self::permanent(message) }
    }

    /// Returns whether the sink will never accept this object, or some of its rows.
    pub fn is_permanent(&self) -> bool {
        self.is_permanent
    }
}

/// The error of a sink that takes single rows, for an object of a format without rows.
pub(super) fn no_rows(sink: &str) -> SinkError {
    SinkError::permanent(format!("{sink} takes rows, and the format of the delivery has none"))
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SinkError {}

impl From<std::io::Error> for SinkError {
    fn from(error: std::io::Error) -> Self {
        Self::temporary(error)
    }
}

/// Accepts objects: a directory, an object store, an endpoint.
///
/// # Exactly once
/// After a crash, a committed object is delivered again, with the same name, the same [id](Object::id), and the same bytes, provided that the
/// delivery's steps return the same results for the same records. A sink that replaces objects of the same name has each record exactly once, and
/// any other sink at least once.
///
/// ```
/// use streamlog::delivery::{Object, Sink, SinkError};
///
/// /// Prints the names of objects.
/// struct Names;
///
/// impl Sink for Names {
///     fn put(&self, object: &Object) -> Result<(), SinkError> {
///         println!("{}: {} bytes", object.name(), object.bytes().len());
///         Ok(())
///     }
/// }
/// ```
pub trait Sink: Send + Sync + 'static {
    /// Delivers an object. `Ok` means that it is stored durably. After an error, the delivery tries the object again, after a pause.
    ///
    /// Several threads call this at the same time, with different objects. A call that never returns blocks one of them.
    fn put(&self, object: &Object) -> Result<(), SinkError>;

    /// Returns whether [`Object::rows`] are needed. Default: no.
    fn wants_rows(&self) -> bool {
        false
    }

    /// Returns the word for objects that go to the error output because the sink did not accept them. It replaces `!{firehose:error-output-type}` in
    /// the names there. Default: none, so objects are retried without limit.
    fn error_output_type(&self) -> Option<&'static str> {
        None
    }
}

impl<S: Sink + ?Sized> Sink for Arc<S> {
    fn put(&self, object: &Object) -> Result<(), SinkError> {
        (**self).put(object)
    }

    fn wants_rows(&self) -> bool {
        (**self).wants_rows()
    }

    fn error_output_type(&self) -> Option<&'static str> {
        (**self).error_output_type()
    }
}
