//! Reading a stream, in the process that has it open and in any other.

use std::fmt;
use std::io;
use std::ops::{ControlFlow, Deref};
use std::path::Path;
use std::sync::Arc;

use super::extend::Extensions;
use super::lineage_iterator::LineageIterator;
use super::{Core, Stream};
use crate::log::archive::cache::ArchiveCache;
use crate::log::follow::Followed;
use crate::log::manifest::Manifest;
use crate::log::shard::reader::Reader;
use crate::log::shard::reader::iterator::ShardIterator;
use crate::log::shard::reader::verify::{Verification, VerifyProgress};
use crate::log::sys::clock::SystemClock;
use crate::log::sys::root::OwnPath;
use crate::log::topology::lineage;
use crate::log::types::describe::{HoldDescription, ShardDescription, ShardFilter, StreamDescription};
use crate::log::types::error::{Error, Result};
use crate::log::types::keys::KeyProvider;
use crate::log::types::options::{ArchiveSource, Durability, Encryption, StreamOptions};
use crate::log::types::record::Position;
use crate::log::types::shard_id::ShardId;
use crate::log::types::stats::StreamStats;
use crate::log::types::throughput::Limits;
use crate::log::types::time::{Clock, Timestamp};

/// Reads a stream. It changes nothing in the stream's directory.
///
/// [`StreamReader::open`] opens a stream for reading, in any number of processes: while another process writes it, while nobody has it open,
/// and after its writer was killed. It works on a read-only file system, and for a user with read permission only. It sees each record as soon
/// as its put returns. If the writer closes the stream or dies, the reader waits for the next writer. Its iterators stay up to date after it is
/// dropped.
///
/// Every [`Stream`] is a `StreamReader` too, so code that only reads should take a `&StreamReader`. A reader that is cloned from a stream
/// does not keep the stream open.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::{Position, Stream, StreamReader};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("clicks");
/// let stream = Stream::open(&path)?; // in one process
///
/// let reader = StreamReader::open(&path)?; // in another one
/// let mut iterator = reader.iterator(reader.shards()[0].id, Position::Latest)?;
/// stream.put("user-17", "clicked")?;
/// assert!(iterator.wait(Duration::from_secs(1))?);
/// assert_eq!(iterator.next_batch(1_000)?.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct StreamReader {
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// A stream that this process has open.
    Own(Arc<Core>),
    /// A stream that another process may have open.
    Followed(Arc<FollowedHandle>),
}

/// What all clones of a reader share.
#[derive(Debug)]
struct FollowedHandle {
    followed: Arc<Followed>,
    extensions: Extensions,
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReader").field("path", &self.root().to_path_buf()).finish_non_exhaustive()
    }
}

/// Opens the directory for what a reader fetches from an archive.
fn open_cache(source: &ArchiveSource) -> Result<Arc<ArchiveCache>> {
    let dir = source.cache_dir.clone().unwrap_or_else(std::env::temp_dir);
    let opened = OwnPath::open_root(&dir).map_err(|error| Error::io("open the directory", &dir, error))?;
    Ok(Arc::new(ArchiveCache::new(Arc::clone(&source.archive), opened, source.cache_bytes_max)))
}

/// A shard, and what reads it.
pub(super) type Member = (ShardDescription, Arc<Reader>);

impl Deref for Stream {
    type Target = StreamReader;

    fn deref(&self) -> &StreamReader {
        &self.handle.reader
    }
}

impl StreamOptions {
    /// Opens a stream for reading, as [`StreamReader::open`] does, with the clock, the keys and the [archive](Self::archive) of these options. The
    /// other options have no effect.
    ///
    /// # Errors
    /// Same as [`StreamReader::open`]; `InvalidArgument` if the archive is that of another stream.
    pub fn open_reader(self, path: impl AsRef<Path>) -> Result<StreamReader> {
        StreamReader::open_at(path.as_ref(), &self)
    }
}

impl StreamReader {
    pub(super) fn of_core(core: &Arc<Core>) -> Self {
        Self { source: Source::Own(Arc::clone(core)) }
    }

    /// Opens the stream at `path` for reading.
    ///
    /// It needs no write permission. If it may write to the file `bell` in the stream's directory, which belongs to the user that writes the
    /// stream, a put wakes threads and tasks that wait for a record. Otherwise they poll, at first after 100 microseconds, and finally each 5
    /// milliseconds.
    ///
    /// ```
    /// # use streamlog::{Position, Stream, StreamReader};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("clicks");
    /// # Stream::open(&path)?.put("user-17", "clicked")?;
    /// let reader = StreamReader::open(&path)?;
    /// for shard in reader.shards() {
    ///     for batch in reader.iterator(shard.id, Position::TrimHorizon)? {
    ///         println!("{} records", batch?.len());
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotAStream` if the path holds something else, or nothing; `UnsupportedFormat` if a newer version wrote it; `Corrupt` if synced data is
    /// damaged and nobody has the stream open; `Io`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        StreamOptions::new().open_reader(path)
    }

    fn open_at(path: &Path, options: &StreamOptions) -> Result<Self> {
        let root = match OwnPath::open_root(path) {
            Ok(root) => root,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(Error::not_a_stream(
                    path,
                    "there is no directory at this path; name another path",
                ));
            }
            Err(error) => return Err(Error::io("open the directory", path, error)),
        };
        let clock = options.clock.clone().unwrap_or_else(|| Arc::new(SystemClock));
        let keys = options.encryption.as_ref().map(Encryption::provider).cloned();
        let cache = options.archive.as_ref().map(open_cache).transpose()?;
        Ok(Self::of_followed(Followed::open(root, clock, keys, cache)?))
    }

    /// Opens the stream in an opened directory for reading.
    pub(super) fn open_root(
        root: OwnPath,
        clock: Arc<dyn Clock>,
        keys: Option<Arc<dyn KeyProvider>>,
    ) -> Result<Self> {
        Ok(Self::of_followed(Followed::open(root, clock, keys, None)?))
    }

    fn of_followed(followed: Arc<Followed>) -> Self {
        let handle = FollowedHandle { followed, extensions: Extensions::default() };
        Self { source: Source::Followed(Arc::new(handle)) }
    }

    /// Returns the manifest as it is now, and the shards with their readers.
    pub(super) fn manifest_and_members(&self) -> Result<(Manifest, Vec<Member>)> {
        match &self.source {
            Source::Own(core) => {
                let manifest = core.topology.manifest_to_change()?;
                let members = core.members(&manifest);
                Ok((manifest.clone(), members))
            }
            Source::Followed(handle) => handle.followed.manifest_and_members(),
        }
    }

    /// Returns the stream's directory.
    pub(super) fn root(&self) -> &OwnPath {
        match &self.source {
            Source::Own(core) => &core.root,
            Source::Followed(handle) => handle.followed.root(),
        }
    }

    /// Returns the stream, if this process has it open.
    pub(super) fn own(&self) -> Option<&Core> {
        match &self.source {
            Source::Own(core) => Some(core),
            Source::Followed(_) => None,
        }
    }

    /// Fails in a child that `fork` made of the process that opened the stream, or followed it.
    pub(super) fn check_process(&self) -> Result<()> {
        match &self.source {
            Source::Own(core) => core.topology.check_process(),
            Source::Followed(handle) => handle.followed.check_process(),
        }
    }

    /// Returns the provider that wraps and unwraps the stream's keys.
    pub(super) fn key_provider(&self) -> Option<&Arc<dyn KeyProvider>> {
        match &self.source {
            Source::Own(core) => core.keys.provider(),
            Source::Followed(handle) => handle.followed.keys().provider(),
        }
    }

    /// Returns whether new records of the stream are encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        match &self.source {
            Source::Own(core) => core.keys.is_on(),
            Source::Followed(handle) => handle.followed.keys().is_on(),
        }
    }

    pub(super) fn extensions(&self) -> &Extensions {
        match &self.source {
            Source::Own(core) => &core.extensions,
            Source::Followed(handle) => &handle.extensions,
        }
    }

    /// Returns whether the reader belongs to a stream that this process opened for writing. Otherwise, another process may have it open.
    pub fn is_own(&self) -> bool {
        self.own().is_some()
    }

    /// Returns whether this process has closed the stream, so that no more records come. A reader that was opened by its path is never
    /// closed.
    pub fn is_closed(&self) -> bool {
        self.own().is_some_and(|core| core.topology.is_closed())
    }

    /// Returns the clock from which the reader takes the time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        match &self.source {
            Source::Own(core) => &core.clock,
            Source::Followed(handle) => handle.followed.clock(),
        }
    }

    /// Returns the current time of the reader's clock.
    pub fn now(&self) -> Timestamp {
        self.clock().now()
    }

    /// Returns an iterator over a shard.
    ///
    /// Positions follow Kinesis' `GetShardIterator`, with one difference: a position behind the trim horizon is an error.
    ///
    /// ```
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let receipt = stream.put("user-17", "clicked")?;
    /// let mut iterator = stream.iterator(receipt.shard, Position::At(receipt.sequence))?;
    /// assert_eq!(iterator.next_batch(10)?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `ShardNotFound`; `Trimmed` if the position is behind the horizon; `InvalidArgument` for a time in the future; `Corrupt` if damage
    /// prevents finding a time.
    pub fn iterator(&self, shard: ShardId, position: Position) -> Result<ShardIterator> {
        let reader = match &self.source {
            Source::Own(core) => Arc::clone(core.topology.map().get(shard)?.reader()),
            Source::Followed(handle) => handle.followed.reader(shard)?,
        };
        ShardIterator::new(reader, position)
    }

    /// Returns an iterator over all shards. It reads each key's records in the order of their puts, across any number of splits and merges.
    ///
    /// `position` is `TrimHorizon`, `Latest` or `AtTimestamp`. The other positions refer to one shard.
    ///
    /// ```
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.put("user-17", "clicked")?;
    /// let mut iterator = stream.lineage_iterator(Position::TrimHorizon)?;
    /// assert_eq!(iterator.next_batch(10)?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for another position, or for a time in the future.
    pub fn lineage_iterator(&self, position: Position) -> Result<LineageIterator> {
        match &self.source {
            Source::Own(core) => {
                // The lock keeps the manifest unchanged until all iterators have their place.
                let manifest = core.topology.manifest();
                LineageIterator::new(&core.members(&manifest), position)
            }
            Source::Followed(handle) => LineageIterator::new(&handle.followed.members()?, position),
        }
    }

    /// Returns the settings, holds and shards of the stream.
    ///
    /// ```
    /// # use streamlog::{Retention, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let description = stream.describe();
    /// assert_eq!(description.retention, Retention::default());
    /// assert_eq!(description.segment_bytes, 64 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn describe(&self) -> StreamDescription {
        match &self.source {
            Source::Own(core) => {
                let manifest = core.topology.manifest();
                let limits = *core.topology.context().limits.lock();
                describe(self.root(), manifest.clone(), core.options.durability, limits)
            }
            Source::Followed(handle) => {
                let durability =
                    if handle.followed.syncs_each() { Durability::Power } else { Durability::Process };
                describe(self.root(), handle.followed.manifest(), durability, Limits::none())
            }
        }
    }

    fn with_shards<T>(&self, work: impl FnOnce(&[ShardDescription]) -> T) -> T {
        match &self.source {
            Source::Own(core) => work(&core.topology.manifest().shards),
            Source::Followed(handle) => work(&handle.followed.manifest().shards),
        }
    }

    /// Returns the shards that have not expired, in the order of their creation.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// for shard in stream.shards() {
    ///     println!("{} owns {}", shard.id, shard.hash_key_range);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shards(&self) -> Vec<ShardDescription> {
        self.with_shards(<[_]>::to_vec)
    }

    /// Returns the shards that match a filter, in the order of their creation, like Kinesis' `ListShards`.
    ///
    /// ```
    /// # use streamlog::{ShardFilter, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.split_shard_evenly(stream.shards()[0].id)?;
    /// assert_eq!(stream.shards().len(), 3, "the parent and its children");
    /// assert_eq!(stream.list_shards(ShardFilter::AtLatest).len(), 2, "the children");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list_shards(&self, filter: ShardFilter) -> Vec<ShardDescription> {
        self.with_shards(|shards| lineage::filter(shards, filter))
    }

    /// Returns counts of each shard: sequence numbers, segments, bytes on the disk, puts, reads, and how far readers are behind.
    ///
    /// ```
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.put("user-17", "clicked")?;
    /// let stats = stream.stats()?;
    /// println!("{} records on {} bytes of disk", stats.record_count(), stats.disk_bytes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io` if the file system does not return the sizes of files.
    pub fn stats(&self) -> Result<StreamStats> {
        match &self.source {
            Source::Own(core) => core.stats(),
            Source::Followed(handle) => handle.followed.stats(),
        }
    }

    /// Reads all records, and lists all damage. It calls `progress` repeatedly. `progress` may stop it.
    ///
    /// ```
    /// # use std::ops::ControlFlow;
    /// # use streamlog::Stream;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// let found = stream.verify(|progress| {
    ///     println!("{} of {} bytes", progress.bytes_read, progress.bytes_total);
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert!(found.is_complete && found.damage.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `UnsupportedFormat`, or `Io` if the operating system refuses an operation. Damage is not an error here.
    pub fn verify(
        &self,
        mut progress: impl FnMut(VerifyProgress) -> ControlFlow<()>,
    ) -> Result<Verification> {
        let members = match &self.source {
            Source::Own(core) => core.members(&core.topology.manifest()),
            Source::Followed(handle) => handle.followed.members()?,
        };
        let mut found = Verification::default();
        let bytes_total = members.iter().map(|(_, reader)| reader.data_bytes()).sum::<Result<_>>()?;
        let mut at = VerifyProgress { bytes_read: 0, bytes_total };
        let mut step = |bytes: u64| {
            at.bytes_read += bytes;
            progress(at)
        };
        for (_, reader) in members {
            if reader.verify(&mut found, &mut step)?.is_break() {
                return Ok(found);
            }
        }
        Ok(Verification { is_complete: true, ..found })
    }
}

impl Core {
    /// Returns the shards that the manifest names. It must be that of the stream.
    fn members(&self, manifest: &Manifest) -> Vec<Member> {
        let map = self.topology.map();
        let member =
            |shard: &ShardDescription| Some((shard.clone(), Arc::clone(map.get(shard.id).ok()?.reader())));
        manifest.shards.iter().filter_map(member).collect()
    }
}

fn describe(path: &Path, manifest: Manifest, durability: Durability, limits: Limits) -> StreamDescription {
    let settings = manifest.settings;
    let holds = manifest.holds.into_iter().map(|(name, bytes_max)| HoldDescription { name, bytes_max });
    StreamDescription {
        path: path.to_path_buf(),
        created_at: manifest.created_at,
        key_hash: settings.key_hash,
        retention: settings.retention,
        durability,
        segment_bytes: settings.segment_bytes,
        record_bytes_max: settings.record_bytes_max,
        file_mode: settings.file_mode.of_files(),
        compression: settings.compression,
        encryption: manifest.keys.describe(),
        limits,
        properties: manifest.properties,
        holds: holds.collect(),
        shards: manifest.shards,
    }
}
