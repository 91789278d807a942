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
    /// What the rows were made of, for a sink of the library that wants to know.
    pub(super) origins: Vec<Origin>,
}

impl Object {
    /// Returns the name: relative, with slashes, without `.` and `..` and without control characters.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns a text that is the same for each attempt to deliver this object, and another one for each other object.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the bytes, compressed as the delivery says.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the rows, as they stand in the object before compression and without delimiters. It has some only for a sink that
    /// [wants them](Sink::wants_rows), and none if the format is not one of rows.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.body.iter().flat_map(Body::rows)
    }

    /// Returns the shard whose records it holds.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Returns the sequence numbers of the first and the last record in it. With several partitions, not each record in between is.
    pub fn sequence_range(&self) -> (SequenceNumber, SequenceNumber) {
        (self.first, self.last)
    }

    /// Returns when the first record in it arrived.
    pub fn first_arrival(&self) -> Timestamp {
        self.oldest
    }

    /// Returns the number of rows in it: of records, unless a step has made several rows of one.
    pub fn record_count(&self) -> u64 {
        self.record_count
    }

    /// Returns the media type of the bytes before compression.
    pub fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// Returns the compression as HTTP names it, if HTTP knows it.
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
    /// The sink may take the object later.
    pub fn temporary(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), is_permanent: false, rejected: None }
    }

    /// The sink will never take this object, so it goes to the error output at once.
    pub fn permanent(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), is_permanent: true, rejected: None }
    }

    /// The sink has taken the object but for these rows, by their places in [`Object::rows`], which it will never take. These alone go to the
    /// error output.
    pub fn rejected(message: impl fmt::Display, rows: impl IntoIterator<Item = usize>) -> Self {
        Self { rejected: Some(rows.into_iter().collect()), ..Self::permanent(message) }
    }

    /// Returns whether the sink will never take this object, or some of its rows.
    pub fn is_permanent(&self) -> bool {
        self.is_permanent
    }
}

/// The error of a sink that takes rows one by one, and no object of a format that has none.
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

/// Takes objects: a directory, an object store, an endpoint.
///
/// # Exactly once
/// After a crash, an object that was decided is delivered again: with the same name, the same [id](Object::id), and the same bytes, as long as the
/// steps of the delivery make the same of the same records. A sink that replaces an object of the same name has each record once. One that cannot
/// do that has each record at least once.
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
    /// Delivers an object. It is there for good when this returns `Ok`. An error is for this attempt: the object comes again, after a pause.
    ///
    /// Several threads call at the same time, with different objects. A call that never returns holds up one of them.
    fn put(&self, object: &Object) -> Result<(), SinkError>;

    /// Returns whether [`Object::rows`] are needed. Default: no.
    fn wants_rows(&self) -> bool {
        false
    }

    /// Returns the word for objects that the sink did not take, if these go to the error output at last: it is in the names of the error output
    /// there, for `!{firehose:error-output-type}`. Default: none, so that objects wait for the sink for as long as it takes.
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
