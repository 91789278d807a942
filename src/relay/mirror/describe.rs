//! The description of a mirror, as any process sees it.

use super::{checkpoint, journal};
use crate::{Error, Result, Stream, StreamReader, Timestamp, extend};

/// How far a mirror is, according to its last checkpoint. [`StreamReader::describe_mirror`] returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct MirrorDescription {
    /// The mirror's name.
    pub name: String,
    /// The kind of source: `kinesis` or `kafka`.
    pub kind: String,
    /// The name of the mirrored stream or topic.
    pub origin: String,
    /// When the last checkpoint was written. Starting the mirror counts as one.
    pub committed_at: Timestamp,
    /// How far it is in each shard or partition, in the order of their names.
    pub partitions: Vec<MirrorPartition>,
}

/// How far a mirror is in a shard or partition, according to its last checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct MirrorPartition {
    /// The id of the shard, or the number of the partition.
    pub partition: String,
    /// The sequence number or the offset up to which all records are in the stream. `None` if nothing was read yet.
    pub place: Option<String>,
    /// Whether it was read to its end.
    pub is_ended: bool,
}

impl StreamReader {
    /// Returns the names of the stream's mirrors, in order. It includes every mirror that was ever started, until it is
    /// [deleted](Stream::delete_mirror).
    ///
    /// # Errors
    /// `Io`.
    pub fn mirrors(&self) -> Result<Vec<String>> {
        journal::journals_of(self).names()
    }

    /// Returns how far a mirror is, according to its last checkpoint. It works while any process runs the mirror.
    ///
    /// # Errors
    /// `InvalidArgument` if the stream has no such mirror; `Corrupt`, `Io`.
    pub fn describe_mirror(&self, name: &str) -> Result<MirrorDescription> {
        check_exists(self, name)?;
        let written = journal::look(self, name)?;
        let about = written.about.ok_or_else(|| no_mirror(name))?;
        let partitions = written.partitions.into_iter().map(|(partition, state)| MirrorPartition {
            place: state.done().map(ToString::to_string),
            is_ended: state.is_ended,
            partition,
        });
        Ok(MirrorDescription {
            name: name.to_owned(),
            kind: about.kind,
            origin: about.origin,
            committed_at: written.at,
            partitions: partitions.collect(),
        })
    }
}

impl Stream {
    /// Deletes the position of a mirror. When it is started again, it begins from scratch, and does not recognise the records that it put before.
    ///
    /// # Errors
    /// `InvalidArgument` if the stream has no such mirror; `Locked` if it runs; `Io`.
    pub fn delete_mirror(&self, name: &str) -> Result<()> {
        check_exists(self, name)?;
        journal::journals_of(self).delete(name)?;
        checkpoint::end_hold(self, name)
    }
}

fn check_exists(stream: &StreamReader, name: &str) -> Result<()> {
    extend::check_name("a mirror", name)?;
    if stream.mirrors()?.iter().any(|known| known == name) { Ok(()) } else { Err(no_mirror(name)) }
}

fn no_mirror(name: &str) -> Error {
    Error::InvalidArgument(format!("the stream has no mirror {name:?}: see which there are").into())
}
