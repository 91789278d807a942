//! Archiving a stream, and making a stream from an archive.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::address::{Found, Locked};
use super::extend;
use super::reader::StreamReader;
use super::{Stream, directory};
use crate::log::archive::report::{ArchiveProgress, ArchiveReport, RestoreReport};
use crate::log::archive::upload::ArchivedShard;
use crate::log::archive::{contents, restore};
use crate::log::manifest::Manifest;
use crate::log::segment::place::ShardDir;
use crate::log::snapshot::target;
use crate::log::sys::dir;
use crate::log::types::archive::Archive;
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;

/// The hold of an archiver, unless it is given another name.
const HOLD_NAME: &str = "archive";

/// Copies the sealed segments of a stream into an archive. [`StreamReader::archiver`] returns it.
///
/// ```
/// # #[cfg(feature = "delivery")] {
/// # use std::ops::ControlFlow;
/// # use streamlog::{StreamOptions, delivery::Directory};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("clicks");
/// let stream = StreamOptions::new().open(&path)?;
/// stream.put("user-17", "clicked")?;
/// stream.close()?; // which seals everything
///
/// let reader = streamlog::StreamReader::open(&path)?;
/// # std::fs::create_dir(directory.path().join("archive"))?;
/// let mut archiver = reader.archiver(Directory::new(directory.path().join("archive")));
/// let report = archiver.run(|_| ControlFlow::Continue(()))?;
/// assert_eq!((report.segment_count, report.record_count), (1, 1));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Archiver {
    stream: StreamReader,
    archive: Arc<dyn Archive>,
    hold: String,
    /// Whether the hold was taken over.
    has_hold: bool,
    shards: BTreeMap<ShardId, ArchivedShard>,
}

impl fmt::Debug for Archiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archiver")
            .field("archive", &self.archive)
            .field("hold", &self.hold)
            .finish_non_exhaustive()
    }
}

impl StreamReader {
    /// Returns an archiver, which copies sealed segments into an archive: a directory, an object store, or any other [`Archive`].
    ///
    /// A segment is sealed once it is full, once its shard is closed or has been quiet for as long as records are kept, and when the stream is
    /// closed. A segment that still takes records is not archived. Encrypted records stay encrypted in the archive, with the keys in their wrapped
    /// form.
    ///
    /// It works in any process, even while another one has the stream open, and reads only files. Several archivers may share an archive, but each
    /// does all the work. An archive holds one stream.
    ///
    /// By default, retention does not wait for an archive. [`Archiver::hold`] makes it wait.
    ///
    /// A reader that is opened with [`StreamOptions::archive`](crate::StreamOptions::archive) also reads records from the archive, and
    /// [`Stream::restore`] makes a stream of it.
    pub fn archiver(&self, archive: impl Archive) -> Archiver {
        Archiver {
            stream: self.clone(),
            archive: Arc::new(archive),
            hold: HOLD_NAME.to_owned(),
            has_hold: false,
            shards: BTreeMap::new(),
        }
    }
}

impl Archiver {
    /// Sets the name of the archiver's hold. Default: `archive`. Each archive of a stream needs a name of its own.
    #[must_use]
    pub fn hold_name(mut self, name: impl Into<String>) -> Self {
        self.hold = name.into();
        self
    }

    /// Keeps retention from dropping records that are not archived yet, up to `bytes_max` bytes of segments beyond what retention keeps; see
    /// [`extend::hold`](crate::extend::hold()). The hold is stored with the stream and stays until `extend::hold(&stream, "archive").end()`. If no
    /// archiver runs, the stream grows by up to `bytes_max` bytes.
    ///
    /// Call it in the process that has the stream open. An archiver in another process uses the hold that is set there.
    ///
    /// # Errors
    /// Same as [`Hold::set`](crate::extend::Hold::set).
    pub fn hold(self, bytes_max: u64) -> Result<Self> {
        extend::check_name("a hold", &self.hold)?;
        extend::hold(&self.stream, &self.hold).set(bytes_max)?;
        Ok(self)
    }

    /// Returns whether the archiver's hold is set, so that retention waits for the archiver.
    pub fn is_held(&self) -> bool {
        self.stream.describe().holds.iter().any(|hold| hold.name == self.hold)
    }

    /// Copies all sealed segments that the archive does not have yet, and releases the hold up to there. Call it periodically, for example each
    /// minute. It calls `progress` after each segment. `progress` may stop it; the next call continues.
    ///
    /// Shards are copied one after another. No segment of a child is archived before all segments of its parents.
    ///
    /// # Durability
    /// A copied segment is as durable as the archive's objects. After a crash, the archiver finds it there by its name.
    ///
    /// # Errors
    /// `Io` if the archive or a file fails, and names it; `Corrupt` for a damaged segment: neither it nor the segments after it are archived until
    /// the stream is [salvaged](crate::StreamOptions::salvage) or retention has dropped it; `InvalidArgument` if the archive is that of another
    /// stream, or of a copy that has diverged; `Closed`. Other shards are archived all the same.
    pub fn run(
        &mut self,
        mut progress: impl FnMut(ArchiveProgress) -> ControlFlow<()>,
    ) -> Result<ArchiveReport> {
        if !self.has_hold && self.is_held() {
            extend::hold(&self.stream, &self.hold).take_over()?;
            self.has_hold = true;
        }
        // In this order, what is archived cannot be ahead of the stream.
        let archived = contents::load(&*self.archive)?;
        let (manifest, members) = self.stream.manifest_and_members()?;
        let archived = contents::add(&*self.archive, archived, &manifest)?;
        let mut report = ArchiveReport { is_complete: true, ..ArchiveReport::default() };
        let mut outcome = Ok(());
        for (shard, reader) in members {
            if shard.parents().any(|parent| report.waiting.contains(&parent)) {
                report.waiting.push(shard.id);
                continue;
            }
            let (horizon, next) = (reader.horizon(), reader.next_sequence());
            let reach = self.run_shard(&shard, horizon, &mut report, &mut progress);
            match reach {
                Ok((end, last)) => {
                    let is_closed = closing_of(&archived, shard.id).is_some_and(|closing| end >= closing);
                    if end < next || !is_closed && shard.closed_at.is_some() {
                        report.waiting.push(shard.id);
                    }
                    if self.has_hold {
                        let hold = extend::hold(&self.stream, &self.hold);
                        hold.release(shard.id, if is_closed { end } else { last });
                    }
                }
                Err(error) => {
                    report.waiting.push(shard.id);
                    outcome = outcome.and(Err(error));
                }
            }
            if !report.is_complete {
                break;
            }
        }
        outcome.map(|()| report)
    }

    /// Archives the sealed segments of a shard. Returns how far it is archived, and where the last archived segment begins.
    fn run_shard(
        &mut self,
        shard: &ShardDescription,
        horizon: SequenceNumber,
        report: &mut ArchiveReport,
        progress: &mut dyn FnMut(ArchiveProgress) -> ControlFlow<()>,
    ) -> Result<(SequenceNumber, SequenceNumber)> {
        let dir = ShardDir::new(self.stream.root(), shard.id);
        let archived = match self.shards.entry(shard.id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(ArchivedShard::list(&*self.archive, &dir)?),
        };
        archived.add(&*self.archive, &dir, horizon, |segment| {
            report.segment_count += 1;
            report.bytes += segment.bytes;
            report.record_count += segment.end.get() - segment.base.get();
            let at = ArchiveProgress { segment_count: report.segment_count, bytes: report.bytes };
            report.is_complete = progress(at).is_continue();
            report.is_complete
        })?;
        Ok(archived.reach(horizon))
    }
}

/// Returns where a shard ended, if the archived manifest says so.
fn closing_of(archived: &Manifest, shard: ShardId) -> Option<SequenceNumber> {
    let at = archived.shards.binary_search_by_key(&shard, |shard| shard.id).ok()?;
    archived.shards[at].closing_sequence.filter(|_| !archived.shards[at].is_open())
}

impl Stream {
    /// Makes a stream from an archive: a directory with all archived records, shards, settings and wrapped keys, which opens like any stream. It does
    /// not contain records that were put after the last archived segment, consumer groups or holds.
    ///
    /// The restored stream keeps records forever, because otherwise the first opening would drop those that have expired since: set the
    /// retention then. If the archive has a gap, readers get [`Lost`](Error::Lost) for the missing records.
    ///
    /// `path` must be missing, empty, or left by an interrupted restore, which is then completed. `restore` calls `progress` after each segment.
    /// `progress` may stop it.
    ///
    /// ```
    /// # #[cfg(feature = "delivery")] {
    /// # use std::ops::ControlFlow;
    /// # use streamlog::{Position, Stream, delivery::Directory};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("clicks");
    /// # std::fs::create_dir(directory.path().join("archive"))?;
    /// # let archive = Directory::new(directory.path().join("archive"));
    /// # let stream = Stream::open(&path)?;
    /// # stream.put("user-17", "clicked")?;
    /// # stream.close()?;
    /// # streamlog::StreamReader::open(&path)?.archiver(archive.clone()).run(|_| ControlFlow::Continue(()))?;
    /// let restored = directory.path().join("restored");
    /// let report = Stream::restore(archive, &restored, |_| ControlFlow::Continue(()))?;
    /// assert_eq!((report.record_count, report.lost_count), (1, 0));
    /// let stream = Stream::open(&restored)?;
    /// assert_eq!(stream.lineage_iterator(Position::TrimHorizon)?.next_batch(10)?.len(), 1);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// The stream survives power loss once the call returns. A crash before that leaves a directory that does not open as a stream.
    ///
    /// # Errors
    /// `InvalidArgument` if there is a stream at `path`; `NotAStream` if it holds something else; `Locked`; `Corrupt`, which names the object, if one
    /// is damaged, truncated or missing; `StorageFull`; `Io`.
    pub fn restore(
        archive: impl Archive,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(ArchiveProgress) -> ControlFlow<()>,
    ) -> Result<RestoreReport> {
        let path = path.as_ref();
        // Before a directory is created.
        let manifest = restore::manifest_in(&archive)?;
        let mode = manifest.settings.file_mode;
        let Locked { root, found, lock } = super::snapshot::lock(path, mode)?;
        let root = root.with_mode(mode);
        match found {
            Found::Stream => {
                let text = format!("there is a stream at {} already: name another path", path.display());
                return Err(Error::invalid(text));
            }
            Found::Deleted => directory::remove_contents(&root)?,
            Found::Unfinished | Found::Nothing => {}
        }
        root.sync_name_of_root()?;
        let new = root.join(target::UNFINISHED_NAME);
        dir::create(&new)?;
        dir::sync(&root)?;
        let mut report = RestoreReport::default();
        if let Some(manifest) = restore::build(&archive, manifest, &new, &mut report, &mut progress)? {
            manifest.store(&new)?;
            target::finish_if_interrupted(&root)?;
            report.is_complete = true;
        }
        drop(lock);
        Ok(report)
    }
}
