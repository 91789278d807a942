//! The registered consumers of a stream.
//!
//! Each is an empty stream in a directory inside the stream, under the consumer's name. So creating and deleting one is all or nothing, and it
//! moves with the stream and is part of its snapshots. Its time of creation is that of the registration.

use super::pipes::Pipes;
use crate::extend::{self, StreamsInside, check_name};
use crate::{Error, Maintenance, Result, Retention, Stream, StreamOptions, StreamReader, Timestamp};

/// A registered consumer. [`Stream::register_consumer`] returns it.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let consumer = stream.register_consumer("dashboard")?;
/// assert_eq!(stream.consumers()?, [consumer]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ConsumerDescription {
    /// The name.
    pub name: String,
    /// When the consumer was registered. It distinguishes it from earlier consumers of the same name.
    pub created_at: Timestamp,
}

/// Returns the streams that are the registered consumers of a stream.
fn consumers_of(stream: &StreamReader) -> StreamsInside<'_> {
    extend::streams_inside(stream, "consumers")
}

impl Stream {
    /// Registers a consumer, which may then [`subscribe`](Self::subscribe) to shards. It stays registered when the stream is closed and
    /// opened again. If it is already registered, nothing changes; Kinesis returns an error.
    ///
    /// A name has 1 to 128 letters, digits, `.`, `_` and `-`, and does not begin with `.`. A stream may have any number of consumers; in
    /// Kinesis, it may have 20.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("clicks");
    /// let stream = Stream::open(&path)?;
    /// let consumer = stream.register_consumer("dashboard")?;
    /// stream.close()?;
    /// assert_eq!(Stream::open(&path)?.describe_consumer("dashboard")?, consumer);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// Once it returns, the registration survives power loss.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that no consumer can have; `StorageFull`, `Closed`, `Io`.
    pub fn register_consumer(&self, name: &str) -> Result<ConsumerDescription> {
        check_name("a consumer", name)?;
        let pipes = Pipes::of(self)?;
        let _unchanged = pipes.lock();
        match self.describe_consumer(name) {
            // It is new.
            Err(Error::InvalidArgument(_)) => {}
            known => return known,
        }
        let options = StreamOptions::new()
            .segment_bytes(crate::limits::SEGMENT_BYTES_MIN)
            .retention(Retention::forever())
            .maintenance(Maintenance::Manual)
            .clock(self.clock().clone());
        let consumer = consumers_of(self).open(name, options)?;
        let created_at = consumer.describe().created_at;
        consumer.close()?;
        Ok(ConsumerDescription { name: name.to_owned(), created_at })
    }

    /// Removes a registered consumer, and ends its subscriptions.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.register_consumer("dashboard")?;
    /// stream.deregister_consumer("dashboard")?;
    /// assert!(stream.consumers()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` if the stream has no such consumer; `Closed`, `Io`.
    pub fn deregister_consumer(&self, name: &str) -> Result<()> {
        check_name("a consumer", name)?;
        let pipes = Pipes::of(self)?;
        let mut open = pipes.lock();
        match consumers_of(self).delete(name) {
            Err(Error::NotAStream(_)) => Err(missing(name)),
            Ok(()) => {
                open.deregister(name);
                Ok(())
            }
            failed => failed,
        }
    }
}

impl StreamReader {
    /// Returns the registered consumers, sorted by name.
    ///
    /// # Errors
    /// `Io`.
    pub fn consumers(&self) -> Result<Vec<ConsumerDescription>> {
        let mut consumers = vec![];
        for name in consumers_of(self).names()? {
            match self.describe_consumer(&name) {
                // Removed meanwhile.
                Err(Error::InvalidArgument(_)) => {}
                consumer => consumers.push(consumer?),
            }
        }
        Ok(consumers)
    }

    /// Returns a registered consumer.
    ///
    /// # Errors
    /// `InvalidArgument` if the stream has no such consumer; `Io`.
    pub fn describe_consumer(&self, name: &str) -> Result<ConsumerDescription> {
        check_name("a consumer", name)?;
        match consumers_of(self).read(name) {
            Err(Error::NotAStream(_)) => Err(missing(name)),
            consumer => {
                let created_at = consumer?.describe().created_at;
                Ok(ConsumerDescription { name: name.to_owned(), created_at })
            }
        }
    }
}

pub(super) fn missing(name: &str) -> Error {
    Error::InvalidArgument(format!("the stream has no registered consumer {name:?}: register it").into())
}
