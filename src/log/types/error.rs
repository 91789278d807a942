//! The errors of the library, one variant for each remedy.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::keys::UnavailableKey;
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

/// An error of this library. Each variant has its own remedy, and its text names it.
///
/// The text of an error includes that of its [`source`](std::error::Error::source), so print one or the other.
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
    /// An argument or a setting is outside what the call accepts. *Remedy:* correct the call.
    #[error("{0}")]
    InvalidArgument(Box<str>),

    /// No stream with these settings can hold this record. The call wrote nothing. *Remedy:* correct the record, or leave it out.
    #[error(
        "the record (index {index} in the call) is refused, and nothing was written: {reason}; correct it or leave it out"
    )]
    InvalidRecord {
        /// The record's index in the call, from 0.
        index: u32,
        /// What is wrong with it.
        reason: Box<str>,
    },

    /// The stream has no such shard, or the shard has expired under the stream's retention. *Remedy:* list the shards again. A reader of an
    /// expired shard continues with its children.
    #[error("the stream has no {0}, or that shard has expired: list the shards to see which exist")]
    ShardNotFound(ShardId),

    /// The disk has no room for this record, which was not written. Reads still work. *Remedy:* free space, or shorten the retention, and
    /// put the record again.
    #[error("no room on the disk for more records in {}: free space or shorten the retention, then put again", .0.display())]
    StorageFull(Arc<Path>),

    /// The call exceeds the stream's limits for now: nothing was put or read. *Remedy:* try again after this time, or raise the limits with
    /// [`set_limits`](crate::Stream::set_limits).
    #[error(
        "{shard} has used up what its stream's limits let pass: try again in {retry_after:?}, or raise the limits"
    )]
    Throttled {
        /// The shard whose limit was reached.
        shard: ShardId,
        /// The time after which the same call succeeds, unless other calls use up the limit meanwhile. For a batch, this counts all
        /// throttled records before it in the batch, too.
        retry_after: Duration,
    },

    /// The requested record is behind the trim horizon. *Remedy:* continue from the horizon. The records from the requested one to the
    /// horizon are lost to this reader.
    #[error(
        "{shard} no longer holds sequence number {requested}: its trim horizon is {horizon}; continue from there"
    )]
    Trimmed {
        /// The shard that was read.
        shard: ShardId,
        /// The requested sequence number.
        requested: SequenceNumber,
        /// The oldest sequence number that can still be read.
        horizon: SequenceNumber,
    },

    /// These records were lost to damage, and the owner of the stream gave them up by opening it with
    /// [`salvage`](crate::StreamOptions::salvage). *Remedy:* call `skip_lost` to continue after them.
    #[error(
        "{shard} has lost the records from sequence number {first} to before {end} to damage; skip what is lost to continue"
    )]
    Lost {
        /// The shard that was read.
        shard: ShardId,
        /// The first lost sequence number, or the requested one if it is lost.
        first: SequenceNumber,
        /// The number after the last lost one.
        end: SequenceNumber,
    },

    /// Another process has opened the stream again, and records that this reader has read, or that existed when it began, are gone: a failed
    /// disk or a failed sync lost them, or somebody removed or replaced their files. *Remedy:* undo the effects of the records that were
    /// read, and `seek` to continue.
    #[error(
        "{shard} was cut when its stream was opened again: this reader was at sequence number {next}, and what it has read before is gone; the shard now ends before {end}; seek to continue"
    )]
    Cut {
        /// The shard that was read.
        shard: ShardId,
        /// The number that the reader would have read next.
        next: SequenceNumber,
        /// The number that the shard's next record will have.
        end: SequenceNumber,
    },

    /// A worker of a consumer group committed to a shard that it has no lease on: it was silent for longer than its lease timeout, the
    /// group was reset, or the worker has not polled yet. The commit changed nothing. *Remedy:* continue to poll. Other workers may handle
    /// the records again that this worker handled since its last commit.
    #[error(
        "this worker has no lease on {shard}, so the consumer group {group} did not move: keep polling, and commit in time"
    )]
    GroupLeaseLost {
        /// The group's name.
        group: Box<str>,
        /// The shard.
        shard: ShardId,
    },

    /// Another [subscription](crate::Stream::subscribe) reads this shard for the consumer: it began less than 5 seconds ago, or it has taken
    /// over from this one. *Remedy:* leave the shard to it, or subscribe later to take over.
    #[error(
        "another subscription of the consumer {consumer} reads {shard}: leave it to that one, or subscribe again once that one has lasted for 5 seconds"
    )]
    ConsumerInUse {
        /// The consumer's name.
        consumer: Box<str>,
        /// The shard.
        shard: ShardId,
    },

    /// A receipt handle of a [queue](crate::Queue) is no longer valid: the record was received again, released, acknowledged or purged, is a dead
    /// letter or has expired, or its visibility timeout is over. The call changed nothing. *Remedy:* drop the record, and receive again. If
    /// timeouts end too early, set a longer one.
    #[error(
        "the receipt handle of the record {sequence} of {shard} is no longer valid, so nothing was changed: leave the record to whoever has it now, or set a longer visibility timeout"
    )]
    ReceiptHandleInvalid {
        /// The shard of the record.
        shard: ShardId,
        /// The record's sequence number.
        sequence: SequenceNumber,
    },

    /// Another handle or process has the stream open. *Remedy:* share that handle (`Stream` is cheap to clone), stop that process, or open
    /// the stream read-only with [`StreamReader::open`](crate::StreamReader::open).
    #[error(transparent)]
    Locked(Box<LockedBy>),

    /// The path holds something that is not a stream. *Remedy:* use another path, or create a stream
    /// there if the path is empty.
    #[error("{} is not a stream: {}", .0.path.display(), .0.reason)]
    NotAStream(Box<Located>),

    /// The bytes have a format that this version cannot read. *Remedy:* open the stream with the version that wrote it, or a later one.
    #[error("{} has {} that this version of streamlog cannot read: open it with the version that wrote it, or a later one", .0.path.display(), .0.reason)]
    UnsupportedFormat(Box<Located>),

    /// Bytes have changed after they were completely written, or a file is missing. *Remedy:* restore the file from a copy, or give up the
    /// damaged records by opening with [`salvage`](crate::StreamOptions::salvage).
    #[error(transparent)]
    Corrupt(Box<Corruption>),

    /// A sync of this shard failed, so the state of the disk is unknown. Nothing put since was acknowledged as durable. *Remedy:* check the
    /// disk, then open the stream again.
    #[error("{0} takes no more puts because a sync failed: check the disk, then open the stream again")]
    Poisoned(ShardId),

    /// The stream, or the producer that sends to it, was closed. *Remedy:* open or start it again.
    #[error("the stream is closed, or the producer that sends to it: open it again to continue")]
    Closed,

    /// The buffer of a producer is full, and the call does not wait. *Remedy:* try again later, or use the call that waits.
    #[error(
        "the producer's buffer is full: try again once some of it is written, or use the call that waits"
    )]
    ProducerFull,

    /// A record's time to live ended before its producer could write it, so it is not in the stream. *Remedy:* remove the cause, and put
    /// the record again if it still matters.
    #[error(
        "the record expired before it could be written, and is not in the stream: put it again if it still matters; the last try failed: {cause}"
    )]
    ProducerExpired {
        /// Why the last attempt to write it failed.
        #[source]
        cause: Arc<Error>,
    },

    /// The operating system refused an operation. *Remedy:* remove the cause that the error names, and try again. After a failed sync,
    /// proceed as for `Poisoned`.
    #[error(transparent)]
    Io(Arc<IoFailure>),

    /// A key that is needed to put or read records is unavailable: the stream was opened without a provider of it, or the provider refused.
    /// *Remedy:* open the stream with the keys that it was encrypted with. Calls that do not look into records work without them.
    #[error(transparent)]
    KeyUnavailable(Box<UnavailableKey>),
}

/// The process that has a stream open, as far as it is known.
///
/// A process that opens a stream writes its id and name into the stream's file `LOCK`. They are only a hint: they are missing if the disk
/// was full, and the process id of another container means nothing outside of it.
///
/// ```
/// # use streamlog::{Error, Stream};
/// # let directory = tempfile::tempdir()?;
/// let stream = Stream::open(directory.path())?;
/// match Stream::open(directory.path()) {
///     Err(Error::Locked(by)) => assert!(by.is_this_process && by.process_id == Some(std::process::id())),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is open {}", .path.display(), self.holder())]
#[non_exhaustive]
pub struct LockedBy {
    /// The stream's directory.
    pub path: PathBuf,
    /// The id of the process.
    pub process_id: Option<u32>,
    /// The name of the program that the process runs.
    pub process_name: Option<String>,
    /// Whether it is this process.
    pub is_this_process: bool,
}

impl LockedBy {
    /// Returns who has the stream open, and the remedy.
    fn holder(&self) -> String {
        if self.is_this_process {
            return "already in this process: share that handle or close it".to_owned();
        }
        let Some(id) = self.process_id else {
            return "already, in this process or in another one: close it there, or open the stream read-only".to_owned();
        };
        let name = self.process_name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        format!("in process {id}{name}: stop it, or open the stream read-only")
    }
}

/// A path, and what is wrong there.
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
#[non_exhaustive]
pub struct Located {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// The place and the kind of damage.
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[error("{} is damaged at byte {offset}{}: {reason}; {}", .path.display(), self.place(), self.remedy())]
#[non_exhaustive]
pub struct Corruption {
    /// The damaged file, or the one that is missing.
    pub path: PathBuf,
    /// The shard that the file belongs to. `None` for the manifest, and for an invalid record in a group's checkpoints.
    pub shard: Option<ShardId>,
    /// The byte of the file at which the damaged part begins.
    pub offset: u64,
    /// The first sequence number that cannot be read, if it is known.
    pub sequence: Option<SequenceNumber>,
    /// What was expected there, and what was found.
    pub reason: String,
}

impl Corruption {
    /// Returns the shard and the record in parentheses, if they are known.
    fn place(&self) -> String {
        match (self.shard, self.sequence) {
            (Some(shard), Some(sequence)) => format!(" ({shard}, sequence number {sequence})"),
            (Some(shard), None) => format!(" ({shard})"),
            (None, _) => String::new(),
        }
    }

    fn remedy(&self) -> &'static str {
        match self.shard {
            // The process that has the stream open writes it, and no copy of it counts.
            Some(_) if self.path.ends_with("live") => {
                "close the stream where it is open for writing, and open it again: that writes the file anew"
            }
            Some(_) => "restore the file from a copy, or salvage the rest",
            // A damaged manifest cannot be salvaged, because it says what there is to salvage.
            None => "restore the file from a copy",
        }
    }

    pub(crate) fn into_error(self) -> Error {
        Error::Corrupt(Box::new(self))
    }
}

/// An operation that the operating system refused.
///
/// ```
/// # use streamlog::{Error, Stream};
/// match Stream::open("/dev/null/clicks") {
///     Err(Error::Io(failure)) => println!("{} {}: {}", failure.action, failure.path.display(), failure.source),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}; {}", .path.display(), self.remedy())]
#[non_exhaustive]
pub struct IoFailure {
    /// The operation, as a verb.
    pub action: &'static str,
    /// The file or directory that it concerns.
    pub path: PathBuf,
    /// The error of the operating system.
    pub source: io::Error,
}

impl IoFailure {
    /// Returns a failure, for callers that report their own, for example in
    /// [`WorkerOptions::positions_from`](crate::WorkerOptions::positions_from). The text of its error begins with "cannot", the action and
    /// the path.
    pub fn new(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self { action, path: path.into(), source }
    }

    /// Returns whether the cause may go away although nobody changes the path or its permissions.
    fn may_pass(&self) -> bool {
        use io::ErrorKind as Kind;
        let lasting = [
            Kind::NotFound,
            Kind::PermissionDenied,
            Kind::NotADirectory,
            Kind::IsADirectory,
            Kind::ReadOnlyFilesystem,
            Kind::InvalidFilename,
            Kind::InvalidInput,
            Kind::Unsupported,
        ];
        !lasting.contains(&self.source.kind())
    }

    /// Returns the remedy.
    fn remedy(&self) -> String {
        if let Some(limit) = self.limit() {
            return limit;
        }
        let remedy = match self.source.kind() {
            io::ErrorKind::NotFound if is_sync(self.action) => "put it back, then open the stream again",
            _ if is_sync(self.action) => "check the disk, then open the stream again",
            io::ErrorKind::PermissionDenied => "check who owns it, and who may do that",
            io::ErrorKind::NotFound => "put back what was moved or removed",
            io::ErrorKind::ReadOnlyFilesystem => "mount it writable, or use another place",
            // An error of our own says what is wrong.
            _ if self.source.raw_os_error().is_none() => "then try again",
            _ => "remove the cause, then try again",
        };
        remedy.to_owned()
    }

    /// Returns which limit of the process or of the system was met, and how to raise it.
    fn limit(&self) -> Option<String> {
        match Errno::from_io_error(&self.source)? {
            Errno::MFILE => {
                let now = getrlimit(Resource::Nofile).current.map(|most| format!(", now {most}"));
                let now = now.unwrap_or_default();
                Some(format!("raise the limit of open files (ulimit -n{now}), or use fewer shards"))
            }
            Errno::NFILE => Some("raise the system's limit of open files (sysctl fs.file-max)".to_owned()),
            Errno::FBIG => {
                Some("raise the limit of a file's size (ulimit -f), or use smaller segments".to_owned())
            }
            Errno::AGAIN if self.action.starts_with("start") => {
                Some("raise the limit of threads (ulimit -u), or of address space (ulimit -v)".to_owned())
            }
            _ => None,
        }
    }
}

/// Returns whether the action is a sync of a file or of a directory.
fn is_sync(action: &str) -> bool {
    action.starts_with("sync")
}

impl From<IoFailure> for Error {
    fn from(failure: IoFailure) -> Self {
        Self::Io(Arc::new(failure))
    }
}

impl Error {
    /// Returns whether the same call may succeed later without a change to the call or the program. This is true if the disk or a buffer
    /// was full, a limit was reached, a producer's record expired, another subscription had the shard, another handle or process had the
    /// stream open, or the operating system refused something other than a sync for a reason that may pass.
    ///
    /// ```
    /// # use streamlog::{Error, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("clicks");
    /// let first = Stream::open(&path)?;
    /// assert!(Stream::open(&path).unwrap_err().is_retryable());
    /// assert!(!Error::Closed.is_retryable());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::StorageFull(_)
            | Self::Throttled { .. }
            | Self::ConsumerInUse { .. }
            | Self::Locked(_)
            | Self::ProducerFull
            | Self::ProducerExpired { .. } => true,
            Self::Io(failure) => !self.is_failed_sync() && failure.may_pass(),
            _ => false,
        }
    }

    /// Returns the file or directory that the error is about, if any.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::StorageFull(path) => Some(path),
            Self::Locked(by) => Some(&by.path),
            Self::NotAStream(found) | Self::UnsupportedFormat(found) => Some(&found.path),
            Self::Corrupt(damage) => Some(&damage.path),
            Self::KeyUnavailable(key) => Some(&key.path),
            Self::Io(failure) => Some(&failure.path),
            Self::ProducerExpired { cause } => cause.path(),
            _ => None,
        }
    }

    /// Returns the shard that the error is about, if any.
    pub fn shard(&self) -> Option<ShardId> {
        match *self {
            Self::ShardNotFound(shard)
            | Self::Poisoned(shard)
            | Self::Throttled { shard, .. }
            | Self::Trimmed { shard, .. }
            | Self::Lost { shard, .. }
            | Self::GroupLeaseLost { shard, .. }
            | Self::ReceiptHandleInvalid { shard, .. }
            | Self::ConsumerInUse { shard, .. } => Some(shard),
            Self::Corrupt(ref damage) => damage.shard,
            Self::ProducerExpired { ref cause } => cause.shard(),
            _ => None,
        }
    }

    /// Returns the first sequence number that could not be read or changed, if the error is about records.
    pub fn sequence(&self) -> Option<SequenceNumber> {
        match *self {
            Self::Trimmed { requested, .. } => Some(requested),
            Self::Lost { first, .. } => Some(first),
            Self::ReceiptHandleInvalid { sequence, .. } => Some(sequence),
            Self::Corrupt(ref damage) => damage.sequence,
            _ => None,
        }
    }

    /// Returns the error of a call that needs an open shard.
    pub(crate) fn shard_closed(shard: ShardId) -> Self {
        Self::invalid(format!(
            "{shard} is closed already, and its children own its hash keys: list the open shards with ShardFilter::AtLatest"
        ))
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::InvalidArgument(reason.into().into())
    }

    pub(crate) fn not_a_stream(path: &Path, reason: impl Into<String>) -> Self {
        Self::NotAStream(Box::new(Located { path: path.to_owned(), reason: reason.into() }))
    }

    pub(crate) fn unsupported(path: &Path, reason: impl Into<String>) -> Self {
        Self::UnsupportedFormat(Box::new(Located { path: path.to_owned(), reason: reason.into() }))
    }

    /// Returns whether a sync failed, so that the state of the disk is unknown.
    pub(crate) fn is_failed_sync(&self) -> bool {
        matches!(self, Self::Io(failure) if is_sync(failure.action))
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            // A sync that finds no room has already lost data that the kernel had accepted. Putting one record again cannot bring it back.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded if !is_sync(action) => {
                Self::StorageFull(path.into())
            }
            _ => IoFailure::new(action, path, source).into(),
        }
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

    #[test]
    fn errors_that_come_up_most_have_a_remedy_of_their_own() {
        // The operating system refuses nothing to root, so a test cannot provoke these errors.
        for (number, remedy) in [
            (13, "check who owns it, and who may do that"),
            (2, "put back what was moved or removed"),
            (24, "raise the limit of open files (ulimit -n, now "),
            (30, "mount it writable, or use another place"),
        ] {
            let error = Error::io("open", Path::new("clicks/LOCK"), io::Error::from_raw_os_error(number));
            let text = error.to_string();
            assert!(text.starts_with("cannot open clicks/LOCK: ") && text.contains(remedy), "{text}");
            let source = std::error::Error::source(&error).unwrap().downcast_ref::<io::Error>();
            assert_eq!(source.unwrap().raw_os_error(), Some(number));
        }
    }

    #[test]
    fn a_cause_is_the_source() {
        let cause = Arc::new(Error::StorageFull(Path::new("clicks").into()));
        let error = Error::ProducerExpired { cause };
        let source = std::error::Error::source(&error).unwrap();
        assert!(source.to_string().starts_with("no room on the disk"), "{source}");
        assert_eq!((error.path(), error.is_retryable()), (Some(Path::new("clicks")), true));
    }
}
