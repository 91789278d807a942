//! The topology of a stream: which shard owns which hash keys, and which shards are parents and children.

pub(crate) mod lineage;
pub(crate) mod shard_map;
pub(crate) mod timeline;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::{Mutex, MutexGuard};

use crate::log::manifest::{self, Manifest, Marks};
use crate::log::recovery::{Recovery, ShardRecovery};
use crate::log::segment::place::{ShardDir, shards_dir};
use crate::log::shard::{Shard, ShardContext};
use crate::log::sys::dir;
use crate::log::sys::process::Process;
use crate::log::sys::replace::ReplaceError;
use crate::log::sys::root::OwnPath;
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Corruption, Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::shard_id::ShardId;
use crate::log::types::stats::Traffic;
use crate::log::types::throughput::Limits;

use shard_map::ShardMap;
use timeline::{Look, Timeline};

/// The shards of an open stream: durably in the manifest, and in the map for puts and readers.
///
/// A thread that changes which shards exist holds the manifest's lock from the plan to the swap of the map.
#[derive(Debug)]
pub(crate) struct Topology {
    context: ShardContext,
    manifest: Mutex<Manifest>,
    map: ArcSwap<ShardMap>,
    /// The traffic of the shards that have left the map. Held while the map changes, so that each shard is in exactly one of the two.
    expired: Mutex<Traffic>,
    is_closed: AtomicBool,
    /// The process that opened the stream.
    process: Process,
    /// How far each holder is, if it has reported that since the stream was opened.
    hold_positions: Mutex<HoldPositions>,
    /// The time by which records age. Locked after the manifest.
    timeline: Mutex<Timeline>,
}

/// By name and shard: the first sequence number that is held.
pub(crate) type HoldPositions = BTreeMap<String, BTreeMap<ShardId, SequenceNumber>>;

/// What was found in the directory of a stream that is to be opened.
#[derive(Debug)]
pub(crate) struct Examined {
    manifest: Manifest,
    /// The directories of shards that are not in the manifest.
    orphans: Vec<OwnPath>,
    recoveries: Vec<Recovery>,
}

impl Examined {
    /// Examines all shards in the manifest, and changes nothing. With `must_salvage`, it first gives up what is damaged.
    pub(crate) fn new(stream_dir: &OwnPath, manifest: Manifest, must_salvage: bool) -> Result<Self> {
        let orphans = find_orphans(stream_dir, &manifest)?;
        let prepare = |shard: &ShardDescription| {
            Recovery::prepare(stream_dir, shard, manifest.marks_of(shard), must_salvage)
        };
        let recoveries = manifest.shards.iter().map(prepare).collect::<Result<Vec<_>>>()?;
        Ok(Self { manifest, orphans, recoveries })
    }
}

impl Topology {
    /// Opens the shards, and removes what is left of others.
    pub(crate) fn open(context: ShardContext, examined: Examined) -> Result<(Self, Vec<ShardRecovery>)> {
        let Examined { mut manifest, orphans, recoveries } = examined;
        orphans.iter().try_for_each(dir::remove_all)?;
        let recovered = recoveries.into_iter().map(Recovery::apply).collect::<Result<Vec<_>>>()?;
        let reports = recovered.iter().map(|shard| shard.report.clone()).collect();
        for (id, shard) in
            manifest.shards.iter().map(|shard| shard.id).collect::<Vec<_>>().into_iter().zip(&recovered)
        {
            lineage::settle(&mut manifest.shards, id, shard.next_sequence, shard.last_timestamp);
        }
        let mut shards: BTreeMap<ShardId, Arc<Shard>> = BTreeMap::new();
        // Children first: a closed shard knows its children, which are always younger.
        for (description, recovered) in manifest.shards.iter().zip(recovered).rev() {
            let children = lineage::children_of(&manifest.shards, description.id);
            let children = children.filter_map(|child| shards.get(&child.id));
            let children = children.map(|child| Arc::clone(child.reader())).collect();
            let marks = manifest.marks_of(description);
            let shard = Shard::open(&context, description, marks, recovered, children)?;
            shards.insert(description.id, shard);
        }
        let map = ArcSwap::from_pointee(ShardMap::new(shards.into_values(), &manifest));
        let timeline = Mutex::new(Timeline::new(&Look::at(&*context.clock)));
        Ok((
            Self {
                context,
                manifest: Mutex::new(manifest),
                map,
                expired: Mutex::default(),
                is_closed: AtomicBool::new(false),
                process: Process::this(),
                hold_positions: Mutex::default(),
                timeline,
            },
            reports,
        ))
    }

    /// Returns what the shards share.
    pub(crate) fn context(&self) -> &ShardContext {
        &self.context
    }

    /// Locks the manifest for reading it, or for keeping it unchanged.
    pub(crate) fn manifest(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock()
    }

    /// Fails in a child that `fork` made of the process that opened the stream. Checked before any lock is taken: a thread that the child
    /// does not have may have held it.
    #[inline]
    pub(crate) fn check_process(&self) -> Result<()> {
        self.process.check(&self.context.stream_dir)
    }

    /// Locks the manifest for changing it. Fails with `Closed` after the stream is closed.
    pub(crate) fn manifest_to_change(&self) -> Result<MutexGuard<'_, Manifest>> {
        self.check_process()?;
        let manifest = self.manifest();
        // Once the stream is closed, another process may have it open.
        if self.is_closed() { Err(Error::Closed) } else { Ok(manifest) }
    }

    /// Locks the hold positions: how far each holder is.
    pub(crate) fn hold_positions(&self) -> MutexGuard<'_, HoldPositions> {
        self.hold_positions.lock()
    }

    /// Locks the time by which records age.
    pub(crate) fn timeline(&self) -> MutexGuard<'_, Timeline> {
        self.timeline.lock()
    }

    /// Returns how far the latest timestamp is ahead of the clock, if it is so far that one of them is wrong.
    pub(crate) fn clock_behind(&self) -> Option<Duration> {
        let (now, latest) = (self.context.clock.now(), self.context.peers.latest());
        latest.is_ahead_of(now).then(|| latest.since(now))
    }

    /// Returns how long ago the last record arrived, if there is one.
    pub(crate) fn time_since_latest(&self) -> Option<Duration> {
        let has_records = self.map.load().iter().any(|shard| shard.next_sequence() > SequenceNumber::ZERO);
        has_records.then(|| self.context.clock.now().since(self.context.peers.latest()))
    }

    /// Returns whether the stream is closed and nothing changes from then on.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Returns the current shards.
    #[inline]
    pub(crate) fn map(&self) -> Guard<Arc<ShardMap>> {
        self.map.load()
    }

    /// Returns the current shards, for longer use.
    pub(crate) fn map_full(&self) -> Arc<ShardMap> {
        self.map.load_full()
    }

    /// Returns the current shards, for longer use, and the traffic of the shards that are no longer among them.
    pub(crate) fn map_and_expired(&self) -> (Arc<ShardMap>, Traffic) {
        let expired = self.expired.lock();
        (self.map_full(), *expired)
    }

    /// Makes `next` the current manifest, on disk and in memory.
    ///
    /// After an error, the old manifest remains current in memory. If the new one is on disk nevertheless, the next opening may find
    /// either. The caller must ensure that both are true.
    pub(crate) fn store(&self, current: &mut Manifest, mut next: Manifest) -> Result<(), ReplaceError> {
        self.write(&mut next)?;
        *current = next;
        Ok(())
    }

    /// Writes a manifest to disk, with how far the shards are now.
    pub(crate) fn write(&self, next: &mut Manifest) -> Result<(), ReplaceError> {
        let kept = |shard: &&Arc<Shard>| next.shards.iter().any(|description| description.id == shard.id());
        next.marks = self.map.load().iter().filter(kept).map(|shard| (shard.id(), shard.marks())).collect();
        let stored = next.store(&self.context.stream_dir);
        self.context.writers.live.note_manifest();
        stored
    }

    /// Replaces the map. The new one also has the `added` shards, and lacks those that the manifest does not name.
    pub(crate) fn swap_map(&self, manifest: &Manifest, added: &[Arc<Shard>]) {
        let present = self.map.load();
        let all = present.iter().chain(added).cloned();
        let named =
            |shard: &Arc<Shard>| manifest.shards.iter().any(|description| description.id == shard.id());
        let mut expired = self.expired.lock();
        for shard in present.iter().filter(|shard| !named(shard)) {
            *expired += shard.traffic();
            shard.hide();
        }
        self.map.store(Arc::new(ShardMap::new(all.filter(named), manifest)));
        // Once more: another process that has read the manifest since may have found no slots of the added shards yet.
        self.context.writers.live.note_manifest();
    }

    /// Wakes the other processes that wait for any shard.
    pub(crate) fn wake_other_processes(&self) {
        self.map.load().iter().for_each(|shard| self.context.writers.bell.ring(shard.id()));
    }

    /// Runs `work` on every shard, even after an error, and returns the first error.
    pub(crate) fn for_each_shard(&self, mut work: impl FnMut(&Arc<Shard>) -> Result<()>) -> Result<()> {
        let mut outcome = Ok(());
        for shard in self.map_full().iter() {
            outcome = outcome.and(work(shard));
        }
        outcome
    }

    /// Closes all shards, and prevents all changes after that.
    ///
    /// The manifest records how far the shards are, so that a file that goes missing later is detected.
    pub(crate) fn close(&self) -> Result<()> {
        let mut manifest = self.manifest();
        self.is_closed.store(true, Ordering::Release);
        // Remaining records are read without limits.
        *self.context.limits.lock() = Limits::none();
        let closed = self.for_each_shard(|shard| shard.close());
        let marks = |shard: &Arc<Shard>| -> Option<Marks> { manifest.marks.get(&shard.id()).copied() };
        if self.map.load().iter().all(|shard| marks(shard) == Some(shard.marks())) {
            return closed;
        }
        let next = manifest.clone();
        let noted = match self.store(&mut manifest, next) {
            // The manifest on disk promises less and is just as valid. No record depends on it.
            Err(ReplaceError { error: Error::StorageFull(_), .. }) => Ok(()),
            noted => noted.map_err(Error::from),
        };
        closed.and(noted)
    }
}

/// Returns the directories of shards that are not in the manifest: expired shards, and children of a split or merge that failed.
fn find_orphans(stream_dir: &OwnPath, manifest: &Manifest) -> Result<Vec<OwnPath>> {
    let shards_dir = shards_dir(stream_dir);
    let entries = if shards_dir.is_own_dir()? { dir::list(&shards_dir)? } else { vec![] };
    let mut orphans = vec![];
    for entry in entries {
        let Ok(id) = entry.name.parse::<ShardId>() else { continue };
        let dir = ShardDir::new(stream_dir, id);
        let is_ours = *dir.path() == entry.path && entry.path.is_own_dir()?;
        if !is_ours || manifest.shards.iter().any(|shard| shard.id == id) {
            continue;
        }
        if id.get() >= manifest.next_shard && !dir.bases()?.is_empty() {
            let path = manifest::path_in(stream_dir).to_path_buf();
            let reason =
                format!("expected it to name {id}, of which there are segments: it is older than they are");
            return Err(Corruption { path, shard: None, offset: 0, sequence: None, reason }.into_error());
        }
        orphans.push(entry.path);
    }
    Ok(orphans)
}
