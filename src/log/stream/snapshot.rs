//! Taking a snapshot of a stream into a directory.

use std::ops::ControlFlow;
use std::path::Path;

use super::address::{Address, Found, Locked};
use super::directory;
use super::reader::StreamReader;
use crate::log::manifest::Manifest;
use crate::log::snapshot::report::{SnapshotProgress, SnapshotReport};
use crate::log::snapshot::{self, target};
use crate::log::sys::outside;
use crate::log::sys::root::OwnPath;
use crate::log::types::error::{Error, Result};
use crate::log::types::file_mode::FileMode;

impl StreamReader {
    /// Takes a snapshot: a directory that opens as a stream, and holds what this stream holds at the moment of the call. Puts continue
    /// meanwhile, without waiting.
    ///
    /// The snapshot holds all records of each shard up to that moment, but no record of a shard whose parents are not complete in it. It
    /// includes the consumer groups, and all other streams in directories inside this one. Checkpoints are from just before that moment, so
    /// no group is ahead of the records. Retention continues: records that it drops before all files are copied are not in the snapshot.
    ///
    /// On the same file system, sealed segments take no space: the snapshot's files are hard links to the stream's. Neither stream writes to
    /// such a file again. On another file system they are copied, with shared blocks if it supports them. Unsealed segments are always
    /// copied.
    ///
    /// A reader can also take a snapshot while another process has the stream open. Then each shard ends where it was copied, somewhat
    /// after the call, and the last two segments of each shard are always copied. If retention drops segments meanwhile, or a shard is
    /// split or merged, everything that has changed is copied again.
    ///
    /// If there is an earlier snapshot of this stream at `path`, it is updated: new records are added, and those that the stream has
    /// dropped since are removed. Until the new one is complete, the earlier one stays as it was. A snapshot into which records were put is
    /// refused. Commits of its groups are replaced.
    ///
    /// It calls `progress` repeatedly. `progress` may stop it. The partial snapshot stays in the directory: the next call continues it, and
    /// [`Stream::delete`](crate::Stream::delete) removes it.
    ///
    /// A snapshot opens like any stream. Opening it applies its retention, and drops the records that have expired by then.
    ///
    /// ```
    /// # use std::ops::ControlFlow;
    /// # use streamlog::{Position, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path().join("clicks"))?;
    /// # let target = directory.path().join("backup");
    /// stream.put("user-17", "clicked")?;
    /// let report = stream.snapshot(&target, |_| ControlFlow::Continue(()))?;
    /// assert!(report.is_complete);
    /// stream.put("user-17", "clicked again")?;
    ///
    /// let backup = Stream::open(&target)?;
    /// assert_eq!(backup.lineage_iterator(Position::TrimHorizon)?.next_batch(10)?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Durability
    /// A snapshot survives power loss once the call returns, with all its records, under any durability. A crash before that leaves the
    /// earlier snapshot or the new one; if there was none, it leaves none that opens.
    ///
    /// # Errors
    /// `InvalidArgument` if the path is inside the stream, or holds a stream that is not a snapshot of this one, or a snapshot into which
    /// records were put; `NotAStream` if it holds something else; `Locked` if somebody has it open, or takes a snapshot there; `StorageFull`
    /// if it has no room; `Poisoned` if a sync of a shard has failed; `Corrupt` if segments that are not sealed are damaged (sealed ones are
    /// taken as they are); `Closed` if the stream is closed before the snapshot is complete; `Io`. After any error, an earlier snapshot is as
    /// it was.
    pub fn snapshot(
        &self,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(SnapshotProgress) -> ControlFlow<()>,
    ) -> Result<SnapshotReport> {
        let path = path.as_ref();
        // Before a directory is created for it.
        let (created_at, mode) = match self.own() {
            Some(own) => {
                let manifest = own.topology.manifest_to_change()?;
                (manifest.created_at, manifest.settings.file_mode)
            }
            None => {
                let manifest = Manifest::load(self.root())?;
                (manifest.created_at, manifest.settings.file_mode)
            }
        };
        refuse_inside(self.root(), path)?;
        let Locked { root, found, lock } = lock(path, mode)?;
        let root = root.with_mode(mode);
        match found {
            Found::Stream => target::check(&root, created_at)?,
            Found::Deleted => directory::remove_contents(&root)?,
            Found::Unfinished | Found::Nothing => {}
        }
        // An interrupted creation may have left the directory without that.
        root.sync_name_of_root()?;
        let report = match self.own() {
            Some(own) => snapshot::take(&own.topology, &root, &mut progress),
            None => snapshot::take_by_files(self.root(), &root, &mut progress),
        };
        drop(lock);
        report
    }
}

/// Refuses a path inside the stream, where the next snapshot would find this one.
fn refuse_inside(root: &OwnPath, path: &Path) -> Result<()> {
    for above in outside::nearest_existing(path)?.ancestors() {
        if root.is_root_at(above)? {
            return Err(Error::invalid(format!(
                "a snapshot of {} cannot be taken inside it, at {}: name another path",
                root.display(),
                path.display()
            )));
        }
    }
    Ok(())
}

/// Locks the target, which is created if it is missing.
pub(super) fn lock(path: &Path, mode: FileMode) -> Result<Locked> {
    let address = Address::Outside(path);
    loop {
        if let Some(locked) = address.lock(|_, _| Ok(()))? {
            return Ok(locked);
        }
        address.create(mode)?;
    }
}
