//! What can go wrong, told apart by what the caller should do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::sequence::SequenceNumber;
use super::shard_id::ShardId;

/// A result of this library.
///
/// ```
/// # use streamlog::{Receipt, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// fn put_click(stream: &Stream, user: &str) -> streamlog::Result<Receipt> {
///     stream.put(user, "clicked")
/// }
/// # put_click(&stream, "user-17")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Each variant is a different thing for the caller to do.
///
/// ```
/// # use streamlog::{Error, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// match stream.put("user-17", "clicked") {
///     Ok(receipt) => println!("{} {}", receipt.shard, receipt.sequence),
///     Err(Error::StorageFull(path)) => eprintln!("{} is full: try again later", path.display()),
///     Err(Error::InvalidRecord { reason, .. }) => eprintln!("this one can never be put: {reason}"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument or a setting is outside what the call takes. *Remedy:* mend the call.
    #[error("{0}")]
    InvalidArgument(Box<str>),

    /// A record that no stream with these settings can hold; nothing of the call was written.
    /// *Remedy:* mend or leave out that record.
    #[error(
        "record {index} of the call is refused, and nothing was written: {reason}; mend it or leave it out"
    )]
    InvalidRecord {
        /// The record's place in the call, from 0.
        index: u32,
        /// What is wrong with it.
        reason: Box<str>,
    },

    /// The stream has no such shard, or retention has expired it. *Remedy:* list the shards again;
    /// whoever read an expired shard goes on with its children.
    #[error(
        "the stream has no {0}: it never had, or the shard has expired; list the shards to see which there are"
    )]
    ShardNotFound(ShardId),

    /// The disk has no room for this record, which was not written. Reads go on. *Remedy:* free space,
    /// or shorten the retention, and put the record again.
    #[error("no room on the disk for more records in {}: free space or shorten the retention, then put again", .0.display())]
    StorageFull(Arc<Path>),

    /// The record asked for has fallen behind the trim horizon. *Remedy:* go on from the horizon, knowing
    /// that the records between are lost to this reader.
    #[error(
        "{shard} no longer holds sequence number {requested}: its trim horizon is {horizon}; go on from there"
    )]
    Trimmed {
        /// The shard that was read.
        shard: ShardId,
        /// The sequence number asked for.
        requested: SequenceNumber,
        /// The oldest sequence number that can still be read.
        horizon: SequenceNumber,
    },

    /// Records that damage took, and that the owner of the stream gave up by opening it with
    /// [`salvage`](crate::StreamOptions::salvage). *Remedy:* call `skip_lost` to go on behind them, knowing that they are lost.
    #[error(
        "{shard} has lost the records from sequence number {first} to before {end} to damage; skip what is lost to go on"
    )]
    Lost {
        /// The shard that was read.
        shard: ShardId,
        /// The first sequence number that is lost, or the one asked for if that is among them.
        first: SequenceNumber,
        /// The number after the last that is lost.
        end: SequenceNumber,
    },

    /// A worker of a consumer group said how far it is in a shard that is not its own any more: it was silent for longer than its lease
    /// timeout, or the group was reset. The commit changed nothing. *Remedy:* go on polling; what the worker handled since its last
    /// commit may be handled again, by others.
    #[error(
        "{shard} is not this worker's any more, so the consumer group {group} stays where it was: go on polling, and commit in time"
    )]
    LeaseLost {
        /// The group's name.
        group: Box<str>,
        /// The shard.
        shard: ShardId,
    },

    /// Another handle or process has the stream open for writing. *Remedy:* share that handle (`Stream` is
    /// a cheap clone), or stop that process.
    #[error("{} is open already, in this process or in another one: share that handle or close it", .0.display())]
    Locked(Arc<Path>),

    /// The path holds something that is not a stream. *Remedy:* name another path.
    #[error("{} is not a stream: {}; name another path", .0.path.display(), .0.reason)]
    NotAStream(Box<Located>),

    /// The bytes are of a format that this version cannot read. *Remedy:* open the stream with the version
    /// that wrote it, or a later one.
    #[error("{} has {} that this version of streamlog cannot read: open it with the version that wrote it, or a later one", .0.path.display(), .0.reason)]
    UnsupportedFormat(Box<Located>),

    /// Bytes that were written whole have changed since, or a file is missing. *Remedy:* restore the file
    /// from a copy, or give up what is damaged by opening with [`salvage`](crate::StreamOptions::salvage).
    #[error("{0}")]
    Corrupt(Box<Corruption>),

    /// A sync of this shard failed, so nobody knows what is on the disk; nothing put since was acknowledged
    /// as durable. *Remedy:* mend the disk, then open the stream again.
    #[error("{0} takes no more puts because a sync failed: check the disk, then open the stream again")]
    Poisoned(ShardId),

    /// The stream, or the producer that was to send to it, was closed. *Remedy:* open or start it again.
    #[error("the stream is closed, or the producer that sends to it: open it again to go on")]
    Closed,

    /// The buffer of a producer is full, and the call does not wait. *Remedy:* try again later, or use the call that waits.
    #[error(
        "the producer's buffer is full: try again once some of it is written, or use the call that waits"
    )]
    Busy,

    /// A producer had no room on the disk for the record for as long as its time to live, and has given it up: it is not in the
    /// stream. *Remedy:* free space, and put it again if it still matters.
    #[error(
        "the record was given up, and is not in the stream, since its time to live was over: put it again if it still matters; {cause}"
    )]
    Expired {
        /// Why it was not written the last time it was tried.
        cause: Arc<Error>,
    },

    /// The operating system refused an operation. *Remedy:* mend what its error names, and try again; after a failed sync, as for
    /// `Poisoned`.
    #[error("cannot {} {}: {}; {}", .0.action, .0.path.display(), .0.source, .0.remedy())]
    Io(Arc<IoFailure>),
}

/// A path, and what is the matter there.
///
/// ```
/// # use streamlog::{Error, Stream};
/// # let directory = tempfile::tempdir()?;
/// std::fs::write(directory.path().join("notes.txt"), "no stream")?;
/// match Stream::open(directory.path()) {
///     Err(Error::NotAStream(found)) => println!("{}: {}", found.path.display(), found.reason),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Located {
    /// The file or directory.
    pub path: PathBuf,
    /// What is the matter.
    pub reason: String,
}

/// Where damage is, and how one can tell.
///
/// ```
/// # use streamlog::{Error, Stream};
/// # let directory = tempfile::tempdir()?;
/// Stream::open(directory.path())?.close()?;
/// std::fs::write(directory.path().join("manifest.json"), "{}")?;
/// match Stream::open(directory.path()) {
///     Err(Error::Corrupt(damage)) => println!("{} at byte {}: {}", damage.path.display(), damage.offset, damage.reason),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Corruption {
    /// The damaged file, or the one that is missing.
    pub path: PathBuf,
    /// The shard it belongs to, unless it is the manifest.
    pub shard: Option<ShardId>,
    /// The byte of the file at which the damaged part begins.
    pub offset: u64,
    /// The first sequence number that cannot be read, where it is known.
    pub sequence: Option<SequenceNumber>,
    /// What was expected there, and what was found.
    pub reason: String,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at byte {}", self.path.display(), self.offset)?;
        if let Some(shard) = self.shard {
            write!(f, " ({shard}")?;
            if let Some(sequence) = self.sequence {
                write!(f, ", sequence number {sequence}")?;
            }
            write!(f, ")")?;
        }
        // The manifest says what there is to be salvaged: without it nothing can be.
        let remedy = self.shard.map_or("", |_| ", or salvage the rest");
        write!(f, ": {}; restore the file from a copy{remedy}", self.reason)
    }
}

/// What the operating system refused.
///
/// ```
/// # use streamlog::{Error, Stream};
/// match Stream::open("/dev/null/clicks") {
///     Err(Error::Io(failure)) => println!("{} {}: {}", failure.action, failure.path.display(), failure.source),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug)]
pub struct IoFailure {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

impl IoFailure {
    /// What to do about it.
    fn remedy(&self) -> &'static str {
        match self.source.kind() {
            _ if is_sync(self.action) => "check the disk, then open the stream again",
            io::ErrorKind::PermissionDenied => "check who owns it, and who may do that",
            io::ErrorKind::NotFound => "put back what was moved or removed",
            io::ErrorKind::ReadOnlyFilesystem => "mount it writable, or use another place",
            _ if self.source.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
                "raise the limit of open files (ulimit -n), or use fewer shards"
            }
            // An error of our own says what to mend.
            _ if self.source.raw_os_error().is_none() => "then try again",
            _ => "mend that, then try again",
        }
    }
}

/// Whether what was tried is a sync, of a file or of a directory.
fn is_sync(action: &str) -> bool {
    action.starts_with("sync")
}

impl Error {
    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::InvalidArgument(reason.into().into())
    }

    pub(crate) fn not_a_stream(path: &Path, reason: impl Into<String>) -> Self {
        Self::NotAStream(Box::new(Located { path: path.to_owned(), reason: reason.into() }))
    }

    pub(crate) fn unsupported(path: &Path, reason: impl Into<String>) -> Self {
        Self::UnsupportedFormat(Box::new(Located { path: path.to_owned(), reason: reason.into() }))
    }

    /// Whether a sync failed, so that nobody knows what is on the disk.
    pub(crate) fn is_failed_sync(&self) -> bool {
        matches!(self, Self::Io(failure) if is_sync(failure.action))
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            // A sync that finds no room has lost what the kernel had taken already: no remedy for one put mends that.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded if !is_sync(action) => {
                Self::StorageFull(path.into())
            }
            _ => Self::Io(Arc::new(IoFailure { action, path: path.to_owned(), source })),
        }
    }
}

impl Corruption {
    pub(crate) fn into_error(self) -> Error {
        Error::Corrupt(Box::new(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Receipt;

    #[test]
    fn a_result_of_a_put_stays_small() {
        assert!(size_of::<Result<Receipt>>() <= 32);
        assert!(size_of::<Error>() <= 24);
    }
}
