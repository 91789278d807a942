//! The settings of a stream.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::archive::Archive;
use super::compression::Compression;
use super::error::{Error, Result};
use super::file_mode::FileMode;
use super::hash_key::KeyHash;
use super::keys::KeyProvider;
use super::limits::*;
use super::stats::StreamStats;
use super::throughput::Limits;
use super::time::{Clock, DAY, SECOND};

/// The failures that a returned put survives. Every put survives the death of the process.
///
/// ```
/// # use streamlog::{Durability, StreamOptions};
/// # let directory = tempfile::tempdir()?;
/// let stream = StreamOptions::new().durability(Durability::Power).open(directory.path())?;
/// stream.put("order-17", "paid")?; // from here on it survives power loss
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Durability {
    /// A returned put survives the death of the process. It survives power loss after the next sync: within
    /// [`StreamOptions::sync_interval`], or when [`Stream::sync`](crate::Stream::sync) returns.
    #[default]
    Process,
    /// A returned put survives power loss. Puts that wait at the same time share one sync of the disk.
    Power,
}

/// How long a stream keeps records: by age, by bytes, or by both, whichever limit is reached first.
///
/// ```
/// # use streamlog::{HOUR, Retention};
/// let retention = Retention::age(24 * HOUR).bytes_max(8 << 30);
/// assert_eq!(retention.bytes_max, Some(8 << 30));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Retention {
    /// The age after which records expire, at least 1 second. `None` means that they do not expire by age.
    pub age: Option<Duration>,
    /// The bytes beyond which the oldest records are dropped, at least 1. `None` means no such limit.
    pub bytes_max: Option<u64>,
}

impl Retention {
    /// Keeps records for this long, at least 1 second.
    pub const fn age(age: Duration) -> Self {
        Self { age: Some(age), bytes_max: None }
    }

    /// Keeps records forever.
    pub const fn forever() -> Self {
        Self { age: None, bytes_max: None }
    }

    /// Also drops the oldest records once the stream's segments hold more than `bytes`. Blocks that are reserved for coming records, or that a
    /// killed process had reserved, do not count.
    ///
    /// Whole segments are dropped, and never the one that a shard writes to. So a shard keeps up to a segment or two whatever the bound:
    /// for a bound below that, lower [`segment_bytes`](StreamOptions::segment_bytes).
    #[must_use]
    pub const fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = Some(bytes);
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        if let Some(age) = self.age.filter(|&age| age < RETENTION_AGE_MIN) {
            return Err(Error::invalid(format!(
                "a retention of {age:?} is too short: the shortest is {RETENTION_AGE_MIN:?}"
            )));
        }
        if self.bytes_max == Some(0) {
            return Err(Error::invalid(
                "a retention of 0 bytes: set no bytes_max to keep records of any size",
            ));
        }
        Ok(())
    }
}

impl Default for Retention {
    /// Returns 24 hours, as in Kinesis.
    fn default() -> Self {
        Self::age(DAY)
    }
}

/// Selects who does the background work: interval syncs, sealing full segments, retention.
///
/// ```
/// # use streamlog::{Maintenance, StreamOptions};
/// # let directory = tempfile::tempdir()?;
/// let stream = StreamOptions::new().maintenance(Maintenance::Manual).open(directory.path())?;
/// stream.put("user-17", "clicked")?;
/// stream.maintain()?; // in the caller's thread, when the caller likes
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Maintenance {
    /// Two threads: `streamlog` does this work, and `streamlog-ahead` prepares segments for busy shards. Each stream has its own two threads,
    /// unless a [`MaintenancePool`](crate::MaintenancePool) maintains it.
    #[default]
    Thread,
    /// The caller, by calling [`Stream::maintain`](crate::Stream::maintain).
    Manual,
}

/// How to open or create a stream: a builder that ends with [`open`](StreamOptions::open).
///
/// Settings that belong to the stream are stored in its manifest, and apply unless they are set here.
///
/// ```
/// # use streamlog::{Durability, HOUR, KeyHash, Retention, StreamOptions};
/// # let directory = tempfile::tempdir()?;
/// let stream = StreamOptions::new()
///     .shards(4)
///     .key_hash(KeyHash::Md5)
///     .retention(Retention::age(24 * HOUR).bytes_max(8 << 30))
///     .durability(Durability::Power)
///     .open(directory.path().join("clicks"))?;
/// assert_eq!(stream.shards().len(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct StreamOptions {
    pub(crate) shards: u32,
    pub(crate) key_hash: Option<KeyHash>,
    pub(crate) retention: Option<Retention>,
    pub(crate) segment_bytes: Option<u64>,
    pub(crate) record_bytes_max: Option<u64>,
    pub(crate) file_mode: Option<u32>,
    pub(crate) compression: Option<Compression>,
    pub(crate) encryption: Option<Encryption>,
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) durability: Durability,
    pub(crate) sync_interval: Option<Duration>,
    pub(crate) limits: Limits,
    pub(crate) maintenance: Maintenance,
    /// `None` means the system's clock.
    pub(crate) clock: Option<Arc<dyn Clock>>,
    pub(crate) create: Create,
    pub(crate) salvage: bool,
    pub(crate) report: Option<StatsReport>,
    pub(crate) archive: Option<ArchiveSource>,
}

/// The archive that a reader continues with, and where it keeps what it has fetched.
#[derive(Debug, Clone)]
pub(crate) struct ArchiveSource {
    pub(crate) archive: Arc<dyn Archive>,
    /// `None` means the system's directory for temporary files.
    pub(crate) cache_dir: Option<PathBuf>,
    pub(crate) cache_bytes_max: u64,
}

/// The receiver of a stream's counts.
#[derive(Clone)]
pub(crate) struct StatsReport(pub(crate) Arc<Report>);

type Report = dyn Fn(&Path, &StreamStats) + Send + Sync;

impl fmt::Debug for StatsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StatsReport")
    }
}

/// Whether opening may create the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Create {
    IfMissing,
    Never,
    Always,
}

/// Whether new records are encrypted, and who has the keys.
#[derive(Debug, Clone)]
pub(crate) enum Encryption {
    On(Arc<dyn KeyProvider>),
    /// Records that were encrypted before can be read.
    Off(Arc<dyn KeyProvider>),
    /// It stays on or off.
    Kept(Arc<dyn KeyProvider>),
}

impl Encryption {
    pub(crate) fn provider(&self) -> &Arc<dyn KeyProvider> {
        let (Self::On(provider) | Self::Off(provider) | Self::Kept(provider)) = self;
        provider
    }
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl StreamOptions {
    /// Returns the defaults: 1 shard, `Xxh3`, 24 hours, 64 MiB segments, records up to 1 MiB, `Durability::Process` with a sync each
    /// second, maintenance threads, created if missing.
    pub fn new() -> Self {
        Self {
            shards: 1,
            key_hash: None,
            retention: None,
            segment_bytes: None,
            record_bytes_max: None,
            file_mode: None,
            compression: None,
            encryption: None,
            properties: BTreeMap::new(),
            durability: Durability::default(),
            sync_interval: Some(SECOND),
            limits: Limits::none(),
            maintenance: Maintenance::default(),
            clock: None,
            create: Create::IfMissing,
            salvage: false,
            report: None,
            archive: None,
        }
    }

    /// Sets how many shards a new stream has, 1 to 1,024. An existing stream keeps the shards it has.
    #[must_use]
    pub fn shards(mut self, count: u32) -> Self {
        self.shards = count;
        self
    }

    /// Sets how a new stream hashes partition keys. An existing stream never changes its hash: asking for another is an error.
    #[must_use]
    pub fn key_hash(mut self, key_hash: KeyHash) -> Self {
        self.key_hash = Some(key_hash);
        self
    }

    /// Sets how long records are kept. Stored in the manifest. Default: 24 hours.
    #[must_use]
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Sets the size at which a segment file is full, 64 KiB to 2 GiB. Stored in the manifest. Disk space is freed a segment at a time, so
    /// smaller segments free it sooner, and larger ones need fewer files. Default: 64 MiB.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = Some(bytes);
        self
    }

    /// Sets the largest record that a put takes, counting key, data and headers together. Stored in the manifest. A record cannot exceed a
    /// segment. Default: 1 MiB, as in Kinesis, or less if the segments are smaller. The default follows `segment_bytes`.
    #[must_use]
    pub fn record_bytes_max(mut self, bytes: u64) -> Self {
        self.record_bytes_max = Some(bytes);
        self
    }

    /// Sets the permissions of the stream's files: `0o600`, `0o640` (the group may read), `0o604` (all but the group) or `0o644` (everybody).
    /// Stored in the manifest. Directories get the matching permission to enter, such as 0750. Default: `0o600`, so that nobody but the
    /// owner can read the records. Set it if processes of other users read the stream.
    ///
    /// The umask has no effect. The mode applies to everything inside the stream, consumer groups included, and to the stream's directory and
    /// its parents, if opening creates them. A directory that already exists keeps its permissions when a stream is created in it. Opening a
    /// stream with a different mode changes the stream's directory and everything in it, and visits each file.
    ///
    /// Others never get write access: they could truncate a mapped file, which kills the processes that read it.
    ///
    /// ```
    /// # use streamlog::StreamOptions;
    /// # let directory = tempfile::tempdir()?;
    /// let stream = StreamOptions::new().file_mode(0o640).open(directory.path().join("clicks"))?;
    /// assert_eq!(stream.describe().file_mode, 0o640);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn file_mode(mut self, mode: u32) -> Self {
        self.file_mode = Some(mode);
        self
    }

    /// Sets how new records are compressed; see [`Compression`]. The stream keeps this until it is opened with another compression. Default
    /// for a new stream: none.
    ///
    /// It costs batches and producers a third to a half of their rate. Small records that are put one by one stay plain. Leave it off for data
    /// that is already compressed.
    ///
    /// ```
    /// # #[cfg(feature = "lz4")] {
    /// # use streamlog::{Compression, StreamOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let stream = StreamOptions::new().compression(Compression::Lz4).open(directory.path())?;
    /// assert_eq!(stream.describe().compression, Compression::Lz4);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Encrypts new records with AES-256-GCM, and decrypts records that are read. Default: a new stream is plain, and an encrypted stream
    /// stays encrypted. Needs the feature `encryption`.
    ///
    /// The manifest stores this. To put or read later, open the stream with the same keys; without them it opens, but calls that need a key
    /// fail with `KeyUnavailable`. Records that were put before stay as they are. Consumer groups' checkpoints are encrypted like the
    /// stream.
    ///
    /// The keys, data and headers of records are encrypted; their number, times and sizes are not. What encryption protects against is in
    /// [SECURITY.md](https://docs.rs/crate/streamlog/latest/source/docs/SECURITY.md).
    ///
    /// ```
    /// # #[cfg(feature = "encryption")] {
    /// # use streamlog::{KeyFile, Position, StreamOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let keys = KeyFile::create(directory.path().join("keys"))?;
    /// let stream = StreamOptions::new().encryption(keys).open(directory.path().join("clicks"))?;
    /// let receipt = stream.put("user-17", "clicked")?;
    /// let batch = stream.iterator(receipt.shard, Position::TrimHorizon)?.next_batch(10)?;
    /// assert_eq!(batch.data_key(), Some(0), "encrypted with the stream's first key");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn encryption(mut self, keys: impl KeyProvider + 'static) -> Self {
        self.encryption = Some(Encryption::On(Arc::new(keys)));
        self
    }

    /// Decrypts records that are read, and leaves new records plain, even if the stream was encrypted before. Needs the feature
    /// `encryption`.
    #[must_use]
    pub fn decryption_only(mut self, keys: impl KeyProvider + 'static) -> Self {
        self.encryption = Some(Encryption::Off(Arc::new(keys)));
        self
    }

    /// Gives the stream its keys, and leaves it encrypted or plain as it is; a new stream is plain.
    /// [`Stream::set_encrypted`](crate::Stream::set_encrypted) changes that while it is open. Needs the feature `encryption`.
    #[must_use]
    pub fn encryption_keys(mut self, keys: impl KeyProvider + 'static) -> Self {
        self.encryption = Some(Encryption::Kept(Arc::new(keys)));
        self
    }

    /// Sets what a returned put survives. Default: [`Durability::Process`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets how often maintenance syncs records under [`Durability::Process`]. `None` syncs only on request and on closing. Default: each
    /// second.
    ///
    /// ```
    /// # use streamlog::StreamOptions;
    /// # let directory = tempfile::tempdir()?;
    /// let stream = StreamOptions::new().sync_interval(None).open(directory.path())?;
    /// stream.put("user-17", "clicked")?;
    /// stream.sync()?; // only now does it survive power loss
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn sync_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.sync_interval = interval.into();
        self
    }

    /// Sets limits on the write and read throughput of each shard; see [`Limits`]. They apply to this opening only, and
    /// [`Stream::set_limits`](crate::Stream::set_limits) changes it while the stream is open. Default: no limits.
    ///
    /// They limit only the process that has the stream open, not readers in other processes.
    ///
    /// ```
    /// # use streamlog::{Limits, StreamOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let stream = StreamOptions::new().limits(Limits::kinesis()).open(directory.path())?;
    /// assert_eq!(stream.describe().limits.read_calls_per_second, Some(5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets a property of the stream: a text with a name, such as its owner. A new stream has it from the beginning. It is in
    /// [`StreamDescription::properties`](crate::StreamDescription::properties), in snapshots, and unencrypted in `manifest.json`.
    ///
    /// A name has 1 to 255 bytes, and a text up to 64 KiB. They have no meaning to the library.
    ///
    /// ```
    /// # use streamlog::StreamOptions;
    /// # let directory = tempfile::tempdir()?;
    /// let stream = StreamOptions::new().property("team", "checkout").open(directory.path())?;
    /// assert_eq!(stream.describe().properties["team"], "checkout");
    /// stream.set_property("team", None)?;
    /// assert!(stream.describe().properties.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.properties.insert(name.into(), text.into());
        self
    }

    /// Sets who does the maintenance. Default: the stream's own threads.
    #[must_use]
    pub fn maintenance(mut self, maintenance: Maintenance) -> Self {
        self.maintenance = maintenance;
        self
    }

    /// Sets the source of the time. Default: the system's clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Opens an existing stream, and fails if there is none.
    ///
    /// ```
    /// # use streamlog::{Error, StreamOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let missing = StreamOptions::new().must_exist().open(directory.path().join("clicks"));
    /// assert!(matches!(missing, Err(Error::NotAStream(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn must_exist(mut self) -> Self {
        self.create = Create::Never;
        self
    }

    /// Creates a stream, and fails if there already is one.
    #[must_use]
    pub fn must_be_new(mut self) -> Self {
        self.create = Create::Always;
        self
    }

    /// Opens a damaged stream and gives up the damaged records. Default: opening fails with [`Error::Corrupt`] if it finds damage.
    ///
    /// All records are read and checked. [`RecoveryReport::lost`](crate::RecoveryReport::lost) lists every lost record. From then on, a
    /// reader that reaches a lost record fails with [`Error::Lost`], also in later openings. A damaged file is kept beside the repaired
    /// one, with `.damaged` appended to its name. A stream without damage opens as usual.
    ///
    /// A damaged manifest cannot be salvaged: restore `manifest.json` from a copy. It is small, and changes only with the shards, the
    /// settings and the trim horizons.
    ///
    /// ```
    /// # use streamlog::StreamOptions;
    /// # let directory = tempfile::tempdir()?;
    /// let stream = StreamOptions::new().salvage(true).open(directory.path())?;
    /// assert_eq!(stream.recovery().lost().count(), 0, "nothing was damaged");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn salvage(mut self, salvage: bool) -> Self {
        self.salvage = salvage;
        self
    }

    /// Passes the stream's path and its [`stats`](crate::StreamReader::stats) to `report`: each second from the maintenance thread, with each
    /// [`Stream::maintain`](crate::Stream::maintain), and a last time on closing. Default: no report.
    ///
    /// `report` should be quick, because syncs and retention wait for it. It may call the stream, and may close it or drop its last clone. It
    /// must not wait for a producer, because a producer on a full disk waits for retention. A call to `maintain` or `close` within `report`
    /// does not call `report` again. With the cargo feature `metrics`, `streamlog::metrics::reporter` returns a `report` for the `metrics`
    /// facade.
    ///
    /// ```
    /// # use streamlog::StreamOptions;
    /// # let directory = tempfile::tempdir()?;
    /// let stream = StreamOptions::new()
    ///     .report_stats(|path, stats| println!("{}: {} bytes on disk", path.display(), stats.disk_bytes()))
    ///     .open(directory.path())?;
    /// stream.close()?; // told at least this once
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn report_stats(mut self, report: impl Fn(&Path, &StreamStats) + Send + Sync + 'static) -> Self {
        self.report = Some(StatsReport(Arc::new(report)));
        self
    }

    /// Sets an archive from which [`open_reader`](Self::open_reader) reads records that retention has dropped. Default: no archive.
    ///
    /// The reader's trim horizon is that of the archive. Its iterators move from the archive to the stream's own files without a gap, even while
    /// retention runs, and expired shards remain readable while the archive has them. Reading records that neither has fails with
    /// [`Trimmed`](Error::Trimmed). If the archive is unreachable, reading records that only the archive has fails with [`Error::Io`], which names
    /// the object, and may be retried; the records in the stream's own files stay readable.
    ///
    /// The reader fetches and checks a whole segment when the first of its records is read, and keeps it in the
    /// [`archive_cache`](Self::archive_cache). [`StreamReader::archiver`](crate::StreamReader::archiver) fills the archive.
    ///
    /// ```
    /// # #[cfg(feature = "delivery")] {
    /// # use std::ops::ControlFlow;
    /// # use streamlog::{Position, Stream, StreamOptions, StreamReader, delivery::Directory};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("clicks");
    /// # std::fs::create_dir(directory.path().join("archive"))?;
    /// # let archive = Directory::new(directory.path().join("archive"));
    /// # let stream = Stream::open(&path)?;
    /// # let shard = stream.put("user-17", "clicked")?.shard;
    /// # stream.close()?;
    /// # StreamReader::open(&path)?.archiver(archive.clone()).run(|_| ControlFlow::Continue(()))?;
    /// # let stream = Stream::open(&path)?;
    /// # stream.trim_before(shard, 1.into())?;
    /// let reader = StreamOptions::new().archive(archive).open_reader(&path)?;
    /// let mut iterator = reader.lineage_iterator(Position::TrimHorizon)?;
    /// assert_eq!(iterator.next_batch(10)?.len(), 1);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn archive(mut self, archive: impl Archive) -> Self {
        let source = ArchiveSource {
            archive: Arc::new(archive),
            cache_dir: None,
            cache_bytes_max: ARCHIVE_CACHE_BYTES_DEFAULT,
        };
        self.archive = Some(source);
        self
    }

    /// Sets the directory and the size of the cache of segments from the [`archive`](Self::archive). The least recently used segments are evicted.
    /// Call it after `archive`. Default: the system's directory for temporary files, 1 GiB.
    ///
    /// The files have no names: they disappear when the reader and its batches are dropped, also if the process is killed. Each reader has its own
    /// cache. A segment that an iterator is reading, or that a batch holds, stays even beyond the bound. So leave room for one segment per
    /// iterator.
    #[must_use]
    pub fn archive_cache(mut self, dir: impl Into<PathBuf>, bytes_max: u64) -> Self {
        if let Some(source) = &mut self.archive {
            (source.cache_dir, source.cache_bytes_max) = (Some(dir.into()), bytes_max);
        }
        self
    }

    /// Returns the mode that the caller asks for, if any.
    pub(crate) fn asked_mode(&self) -> Result<Option<FileMode>> {
        self.file_mode.map(FileMode::new).transpose()
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_range("a shard count", self.shards, 1..=SHARD_COUNT_MAX)?;
        self.segment_bytes.map_or(Ok(()), check_segment_bytes)?;
        self.asked_mode()?;
        self.compression.map_or(Ok(()), Compression::check)?;
        if self.encryption.is_some() && !cfg!(feature = "encryption") {
            return Err(Error::invalid("encryption needs the cargo feature `encryption`: build with it"));
        }
        if self.archive.is_some() {
            return Err(Error::invalid(
                "a stream that is open for writing does not read an archive: give the archive to open_reader",
            ));
        }
        self.limits.check()?;
        if self.sync_interval.is_some_and(|interval| interval.is_zero()) {
            return Err(Error::invalid("a sync_interval of zero: use Durability::Power to sync each put"));
        }
        self.properties.iter().try_for_each(|(name, text)| check_property(name, text))?;
        self.retention.map_or(Ok(()), |retention| retention.check())
    }
}

/// Refuses a property that is too large.
pub(crate) fn check_property(name: &str, text: &str) -> Result<()> {
    let (name_bytes, text_bytes) = (name.len(), text.len());
    if !(1..=PROPERTY_NAME_BYTES_MAX).contains(&name_bytes) {
        return Err(Error::invalid(format!(
            "the name of a property has {name_bytes} bytes, and may have 1 to {PROPERTY_NAME_BYTES_MAX}"
        )));
    }
    if text_bytes > PROPERTY_BYTES_MAX {
        return Err(Error::invalid(format!(
            "the text of the property {name} has {text_bytes} bytes, and may have {PROPERTY_BYTES_MAX}"
        )));
    }
    Ok(())
}

pub(crate) fn check_segment_bytes(bytes: u64) -> Result<()> {
    check_range("a segment_bytes", bytes, SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX)
}

/// Fails with `InvalidArgument` if a setting is out of its range. `name` is the setting's name, with an article where it reads better.
///
/// ```
/// # use streamlog::extend::check_range;
/// assert!(check_range("batch_count", 17, 1..=10_000).is_ok());
/// let refused = check_range("batch_count", 0, 1..=10_000).unwrap_err();
/// assert_eq!(refused.to_string(), "batch_count of 0 is out of range: 1 to 10000");
/// ```
pub fn check_range<T: PartialOrd + fmt::Display>(
    name: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(format!("{name} of {value} is out of range: {} to {}", range.start(), range.end())))
}
