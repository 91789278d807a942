//! Following a stream that another process may have open: its manifest, and the readers of its shards.
//!
//! **Reload.** A reader loads from `live` the current opening and how often the manifest was replaced → the manifest → the state of each shard →
//! the first two once more. If one has changed, it repeats all of that. While a stream is being opened, `live` still shows the last opening. While
//! damage is salvaged, it shows none; readers then keep what they know.
//!
//! **A shard closes.** The writing process stores the manifest that names the children, then shows the children, and then shows that the shard is
//! closed. So a reader that sees the shard closed finds the children, but only if it looks for them afterwards. Until a shard is shown as closed,
//! it is open, whatever the manifest says, and its children do not exist yet.
//!
//! **A shard expires.** The writing process stores a manifest that does not name it, and then takes its slot away. So a shard that the manifest
//! names but that has no slot has expired since, and the manifest was replaced. A shard that a manifest does not name never comes back. Its
//! readers are closed immediately, whatever else is changing: its files are gone, and a reload may be repeated for long. Which shards follow it is
//! known only once a reload finds nothing changed.

mod archived;
mod closed;
mod listener;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::log::archive::cache::ArchiveCache;
use crate::log::keys::Keys;
use crate::log::live::watch::{LiveView, Seen, SlotView};
use crate::log::manifest::{self, Manifest, Marks};
use crate::log::recovery::survey;
use crate::log::segment::place::ShardDir;
use crate::log::shard::reader::Reader;
use crate::log::shard::reader::archived::Archived;
use crate::log::shard::reader::follow::{FollowStream, Found, Source};
use crate::log::shard::reader::peers::Peers;
use crate::log::shard::reader::segment::OpenWindows;
use crate::log::shard::reader::segments::Segments;
use crate::log::sys::fault;
use crate::log::sys::process::Process;
use crate::log::sys::root::OwnPath;
use crate::log::topology::lineage;
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Error, Result};
use crate::log::types::keys::KeyProvider;
use crate::log::types::shard_id::ShardId;
use crate::log::types::stats::StreamStats;
use crate::log::types::time::Clock;

use archived::ArchivedShards;
use closed::{Members, announce_children, close_unnamed, unnamed};
use listener::{FollowedShard, Listener};

/// How often a reload is repeated because the stream is changing, and the time before the first repetition.
const RELOADS_MAX: u32 = 10;
const RELOAD_PAUSE: Duration = Duration::from_micros(200);

/// A stream that another process may have open.
#[derive(Debug)]
pub(crate) struct Followed {
    root: OwnPath,
    clock: Arc<dyn Clock>,
    peers: Arc<Peers>,
    windows: Arc<OpenWindows>,
    keys: Arc<Keys>,
    listener: Arc<Listener>,
    this: Weak<Self>,
    /// The process that opened the stream for reading.
    process: Process,
    state: Mutex<State>,
}

/// What is known of the stream.
#[derive(Debug)]
struct State {
    live: Option<Arc<LiveView>>,
    /// The opening of the stream, and how often it had replaced the manifest.
    opening: u64,
    manifests: u64,
    /// With the shards that can be read: the stream's own, and those that have expired and are archived.
    manifest: Manifest,
    /// The shards that the stream's manifest names, and those of them that are there.
    named: Vec<ShardDescription>,
    own: Vec<ShardDescription>,
    members: Members,
    archive: Option<ArchivedShards>,
}

/// Shards, and what reads them.
type Shards = Vec<(ShardDescription, Arc<Reader>)>;

/// A shard that the manifest names.
#[derive(Debug)]
struct Member {
    reader: Arc<Reader>,
    /// Wakes the waiters of the shard.
    _waker: Arc<FollowedShard>,
}

impl Followed {
    /// Opens a stream for reading.
    pub(crate) fn open(
        root: OwnPath,
        clock: Arc<dyn Clock>,
        provider: Option<Arc<dyn KeyProvider>>,
        archive: Option<Arc<ArchiveCache>>,
    ) -> Result<Arc<Self>> {
        let manifest = load(&root, false)?;
        // For what a layer keeps in the stream's directory.
        let root = root.with_mode(manifest.settings.file_mode);
        let keys = Arc::new(Keys::new(&root, provider, manifest.keys.clone()));
        let followed = Arc::new_cyclic(|this: &Weak<Self>| Self {
            listener: Arc::new(Listener::new(root.clone())),
            root,
            clock,
            peers: Arc::default(),
            windows: Arc::new(OpenWindows::of_followed()),
            keys,
            this: Weak::clone(this),
            process: Process::this(),
            state: Mutex::new(State {
                live: None,
                opening: 0,
                manifests: 0,
                manifest,
                named: vec![],
                own: vec![],
                members: BTreeMap::new(),
                archive: archive.map(ArchivedShards::new),
            }),
        });
        followed.bring_up_to_date(&mut followed.state.lock())?;
        match followed.ask_archive() {
            Err(error @ Error::InvalidArgument(_)) => Err(error),
            // The archive is out of reach. The stream's own records can be read.
            _ => Ok(followed),
        }
    }

    pub(crate) fn root(&self) -> &OwnPath {
        &self.root
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Returns whether the process that has the stream open, or had it open last, syncs each put.
    pub(crate) fn syncs_each(&self) -> bool {
        self.state.lock().live.as_ref().and_then(|live| live.syncs_each()).unwrap_or_default()
    }

    /// Returns the manifest, or the last one that could be read.
    pub(crate) fn manifest(&self) -> Manifest {
        // A reader of the shards gets the error.
        let _ = self.look(&mut self.state.lock());
        let _ = self.ask_archive();
        self.state.lock().manifest.clone()
    }

    /// Fails in a child that `fork` made of the process that opened the reader.
    pub(crate) fn check_process(&self) -> Result<()> {
        self.process.check(&self.root)
    }

    /// Returns the reader of a shard.
    pub(crate) fn reader(&self, shard: ShardId) -> Result<Arc<Reader>> {
        self.check_process()?;
        let mut state = self.state.lock();
        self.look(&mut state)?;
        if !state.members.contains_key(&shard) {
            drop(state);
            self.ask_archive()?;
            state = self.state.lock();
        }
        let member = state.members.get(&shard).ok_or(Error::ShardNotFound(shard))?;
        Ok(Arc::clone(&member.reader))
    }

    /// Returns the shards, and what reads them, in the order of their creation.
    pub(crate) fn members(&self) -> Result<Shards> {
        Ok(self.manifest_and_members()?.1)
    }

    /// Returns the manifest and its shards, and what reads them.
    pub(crate) fn manifest_and_members(&self) -> Result<(Manifest, Shards)> {
        self.check_process()?;
        let mut state = self.state.lock();
        self.look(&mut state)?;
        drop(state);
        self.ask_archive()?;
        let state = self.state.lock();
        let manifest = state.manifest.clone();
        let shards = state.manifest.shards.iter();
        let members: Vec<_> =
            shards.map(|shard| (shard.clone(), Arc::clone(&state.members[&shard.id].reader))).collect();
        drop(state);
        members.iter().try_for_each(|(_, reader)| reader.refresh())?;
        Ok((manifest, members))
    }

    /// Returns the counts of all shards.
    pub(crate) fn stats(&self) -> Result<StreamStats> {
        let members = self.members()?;
        let manifest = self.state.lock().manifest.clone();
        let stats =
            |(shard, reader): &(ShardDescription, Arc<Reader>)| reader.stats(manifest.marks_of(shard));
        let shards = members.iter().map(stats).collect::<Result<_>>()?;
        Ok(StreamStats { shards, ..StreamStats::default() })
    }

    /// Brings everything up to date, if necessary.
    fn look(&self, state: &mut State) -> Result<()> {
        let is_current = state.live.as_ref().is_some_and(|live| {
            let opening = live.opening();
            opening != 0 && opening == state.opening && live.manifests() == state.manifests
        });
        if is_current { Ok(()) } else { self.bring_up_to_date(state) }
    }

    fn bring_up_to_date(&self, state: &mut State) -> Result<()> {
        let mut failed = None;
        for repetition in 0..RELOADS_MAX {
            match self.try_reload(state) {
                Ok(true) => {
                    self.close_gone(state);
                    return Ok(());
                }
                Ok(false) => {}
                Err(error @ Error::NotAStream(_)) => return Err(error),
                // Damage stays. Files may have been removed while they were looked at.
                Err(error) if repetition >= 2 && !matches!(error, Error::Io(_)) => return Err(error),
                Err(error) => failed = Some(error),
            }
            std::thread::sleep(RELOAD_PAUSE * 2u32.pow(repetition.min(6)));
        }
        match failed {
            Some(error) => Err(error),
            // The stream is reopened again and again. The next look may succeed.
            None => Ok(()),
        }
    }

    /// Brings everything up to date. Returns `false` if something has changed meanwhile.
    fn try_reload(&self, state: &mut State) -> Result<bool> {
        if state.live.is_none() {
            state.live = LiveView::open(&self.root)?.map(Arc::new);
        }
        let live = state.live.clone();
        let shown = || live.as_ref().map_or((0, 0), |live| (live.opening(), live.manifests()));
        let (opening, manifests) = shown();
        if opening == 0 && !state.members.is_empty() {
            // Nobody has opened the stream since the machine was started, or damage is being salvaged. What is known stays.
            return check_exists(&self.root, true).map(|()| true);
        }
        self.point("read the manifest of")?;
        let manifest = load(&self.root, true)?;
        let named: BTreeSet<_> = manifest.shards.iter().map(|shard| shard.id).collect();
        let cache = state.archive.as_ref().map(|archive| &archive.cache);
        unnamed(&state.members, &named).for_each(|(_, member)| member.reader.expire());
        let mut shards = manifest.shards.clone();
        let (mut there, mut over) = (BTreeSet::new(), BTreeSet::new());
        // In the order of their creation, so that it is known by then whether the parents are closed.
        for at in 0..shards.len() {
            let shard = shards[at].clone();
            if shard.parents().any(|parent| named.contains(&parent) && !over.contains(&parent)) {
                continue;
            }
            self.point("find the slot of a shard of")?;
            let slot = match live.as_ref().filter(|_| opening != 0) {
                None => None,
                Some(live) => match live.find(shard.id, opening)? {
                    Some(slot) => Some(slot),
                    None if shown() != (opening, manifests) => return Ok(false),
                    // The process has no room to show it.
                    None => continue,
                },
            };
            let marks = manifest.marks_of(&shard);
            let reader = &state
                .members
                .entry(shard.id)
                .or_insert_with(|| self.member(&shard, &manifest, cache))
                .reader;
            let source = Source { live: live.clone(), opening, slot: slot.clone() };
            reader.replace(source, || match &slot {
                Some(slot) => self.find_shown(&shard, slot),
                None => self.survey(&shard, marks),
            })?;
            reader.refresh_alone()?;
            there.insert(shard.id);
            match reader.shown_end().filter(|_| !shard.is_open()) {
                Some(end) => {
                    lineage::settle(&mut shards, shard.id, end, reader.last_timestamp());
                    over.insert(shard.id);
                }
                None => (shards[at].closed_at, shards[at].closing_sequence) = (None, None),
            }
        }
        self.point("look at the opening of")?;
        if shown() != (opening, manifests) {
            return Ok(false);
        }
        shards.retain(|shard| there.contains(&shard.id));
        announce_children(&state.members, &shards, &manifest.shards);
        (state.opening, state.manifests) = (opening, manifests);
        self.keys.set_list(manifest.keys.clone());
        (state.named, state.own) = (manifest.shards, shards.clone());
        state.manifest = Manifest { shards, ..manifest };
        Ok(true)
    }

    /// Closes the readers of the shards that the stream no longer has.
    fn close_gone(&self, state: &mut State) {
        if state.archive.is_some() {
            return self.add_archived(state);
        }
        let named = state.named.iter().map(|shard| shard.id).collect();
        close_unnamed(&mut state.members, &state.own, &named);
    }

    /// Lets a test do something in the middle.
    fn point(&self, action: &'static str) -> Result<()> {
        fault::point(action, &self.root).map_err(|error| Error::io(action, &self.root, error))
    }

    fn member(
        &self,
        shard: &ShardDescription,
        manifest: &Manifest,
        cache: Option<&Arc<ArchiveCache>>,
    ) -> Member {
        let dir = ShardDir::new(&self.root, shard.id);
        let segments = Segments::followed(dir, Arc::clone(&self.windows), manifest.settings.segment_bytes);
        let (clock, peers, keys) = (Arc::clone(&self.clock), Arc::clone(&self.peers), Arc::clone(&self.keys));
        let stream: Weak<dyn FollowStream> = Weak::<Self>::clone(&self.this);
        let archived = cache.map(|cache| Archived::new(cache, shard.id));
        let reader = Arc::new(Reader::followed(shard, clock, peers, keys, segments, stream, archived));
        let waker = Arc::new(FollowedShard::new(&reader, &self.listener));
        let weak = Arc::downgrade(&waker);
        reader.attach(weak);
        Member { reader, _waker: waker }
    }

    /// Returns the segments of a shard that a process shows.
    fn find_shown(&self, shard: &ShardDescription, slot: &SlotView) -> Result<Found> {
        let dir = ShardDir::new(&self.root, shard.id);
        let changed =
            || Error::io("read what the writer shows of", dir.path(), std::io::ErrorKind::Interrupted.into());
        let (mut seen, words) = slot.read()?.ok_or_else(changed)?;
        let mut bases = if dir.path().is_own_dir()? { dir.bases()? } else { vec![] };
        bases.retain(|&base| base < seen.end);
        // Loaded after the directory was listed: a file that was removed before is behind this horizon, which may be beyond the loaded end.
        let (now, _) = slot.read()?.ok_or_else(changed)?;
        seen.horizon = now.horizon.min(seen.end);
        Ok(Found { bases, seen, words })
    }

    /// Returns what the next opening will find in a shard.
    fn survey(&self, shard: &ShardDescription, marks: Marks) -> Result<Found> {
        let found = survey(&self.root, shard, marks)?;
        let end = found.next_sequence;
        let first = found.bases.first().copied().unwrap_or(end);
        let seen = Seen { horizon: first.max(marks.horizon).min(end), ..Seen::nothing(end) };
        Ok(Found { bases: found.bases, seen, words: [0; 3] })
    }
}

impl FollowStream for Followed {
    fn reload(&self) -> Result<()> {
        let mut state = self.state.lock();
        if state.live.is_none() {
            state.live = LiveView::open(&self.root)?.map(Arc::new);
            if state.live.is_none() {
                return check_exists(&self.root, true);
            }
        }
        self.bring_up_to_date(&mut state)
    }

    fn read_archive(&self) -> Result<()> {
        self.ask_archive()
    }
}

/// Fails if there is no stream. `was_there` says whether there was one before.
fn check_exists(root: &OwnPath, was_there: bool) -> Result<()> {
    if Manifest::exists_in(root)? {
        return Ok(());
    }
    let is_deleted = was_there || root.join(manifest::SET_ASIDE_NAME).exists();
    let reason = if is_deleted { "it was deleted" } else { "there is no manifest.json; name another path" };
    let path: &Path = root;
    Err(Error::not_a_stream(path, reason))
}

/// Reads the manifest of a stream.
fn load(root: &OwnPath, was_there: bool) -> Result<Manifest> {
    check_exists(root, was_there)?;
    Manifest::load(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Maintenance, ManualClock, Position, Retention, SECOND, StreamOptions, SystemClock, Timestamp,
    };

    #[test]
    fn l8_counts_show_no_record_as_synced_that_they_do_not_show_as_put() {
        let directory = tempfile::tempdir().unwrap();
        let stream = StreamOptions::new().segment_bytes(64 << 10).open(directory.path()).unwrap();
        stream.put("key", "first").unwrap();
        let root = OwnPath::open_root(directory.path()).unwrap();
        let followed = Followed::open(root, Arc::new(SystemClock), None, None).unwrap();
        let (shard, reader) = followed.members().unwrap().remove(0);
        stream.put("key", "second").unwrap();
        stream.sync().unwrap();
        let stats = reader.stats(followed.manifest().marks_of(&shard)).unwrap();
        assert_eq!((stats.next_sequence, stats.synced_sequence), (1.into(), 1.into()));
    }

    #[test]
    fn l8_a_file_that_is_trimmed_before_the_files_are_listed_is_behind_the_horizon() {
        let directory = tempfile::tempdir().unwrap();
        let options = StreamOptions::new().segment_bytes(64 << 10).maintenance(Maintenance::Manual);
        let stream = options.open(directory.path()).unwrap();
        for _ in 0..30 {
            stream.put("key", vec![7; 8_000]).unwrap();
        }
        let root = OwnPath::open_root(directory.path()).unwrap();
        let followed = Followed::open(root, Arc::new(SystemClock), None, None).unwrap();
        let (shard, _) = followed.members().unwrap().remove(0);
        let slot = {
            let state = followed.state.lock();
            state.live.as_ref().unwrap().find(shard.id, state.opening).unwrap().unwrap()
        };
        let mut trimmed = Some((stream.clone(), shard.id));
        fault::set_hook(Some(Box::new(move |action, _| {
            if let Some((stream, shard)) = trimmed.take_if(|_| action == "load the words of a shard") {
                let trim = move || {
                    stream.trim_before(shard, 25.into()).unwrap();
                    stream.maintain().unwrap();
                };
                std::thread::spawn(trim).join().unwrap();
            }
            Ok(())
        })));
        let found = followed.find_shown(&shard, &slot);
        fault::set_hook(None);
        let Found { bases, seen, .. } = found.unwrap();
        assert!(bases[0] > 0.into() && bases[0] <= seen.horizon, "{bases:?} {seen:?}");
    }

    #[test]
    fn l8_readers_learn_that_a_shard_has_expired_while_the_manifest_changes_again_and_again() {
        // With and without having seen that the shard was split.
        for has_seen_the_split in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
            let options = StreamOptions::new().segment_bytes(64 << 10).maintenance(Maintenance::Manual);
            let options = options.retention(Retention::age(100 * SECOND)).clock(clock.clone());
            let stream = options.open(directory.path()).unwrap();
            for _ in 0..30 {
                stream.put("key", vec![7; 8_000]).unwrap();
            }
            let reader = StreamOptions::new().clock(clock.clone()).open_reader(directory.path()).unwrap();
            let parent = stream.shards()[0].id;
            let mut iterator = reader.iterator(parent, Position::TrimHorizon).unwrap();
            iterator.next_batch(1).unwrap();
            stream.split_shard_evenly(parent).unwrap();
            if has_seen_the_split {
                reader.stats().unwrap();
            }
            clock.advance(200 * SECOND);
            stream.maintain().unwrap();
            assert_eq!(stream.shards().len(), 2, "the parent has expired");

            let mut change = 0;
            let other = stream.clone();
            fault::set_hook(Some(Box::new(move |action, _| {
                if action == "look at the opening of" {
                    change += 1;
                    let (stream, text) = (other.clone(), change.to_string());
                    let change = move || stream.set_property("changed", Some(&text)).unwrap();
                    std::thread::spawn(change).join().unwrap();
                }
                Ok(())
            })));
            // The iterator holds the first segment, and has not opened the others, whose files are gone.
            let read: Vec<_> = (0..3).map(|_| iterator.next_batch(10).map(|batch| batch.len())).collect();
            fault::set_hook(None);
            assert!(read.iter().all(|read| matches!(read, Err(Error::Trimmed { .. }))), "{read:?}");
            assert!(iterator.skip_to_horizon() > 0);
            while let Err(Error::Trimmed { .. }) = iterator.next_batch(1) {
                iterator.skip_to_horizon();
            }
            assert_eq!(iterator.next_batch(1).unwrap().child_shards().map(<[_]>::len), Some(2));
        }
    }

    #[test]
    fn l8_a_shard_that_expires_before_its_directory_is_listed_is_trimmed() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let options = StreamOptions::new().segment_bytes(64 << 10).maintenance(Maintenance::Manual);
        let options = options.retention(Retention::age(100 * SECOND)).clock(clock.clone());
        let stream = options.open(directory.path()).unwrap();
        stream.put("key", "first").unwrap();
        let reader = StreamOptions::new().clock(clock.clone()).open_reader(directory.path()).unwrap();
        let parent = stream.shards()[0].id;
        for _ in 0..30 {
            stream.put("key", vec![7; 8_000]).unwrap();
        }
        let mut expires = Some(stream.clone());
        fault::set_hook(Some(Box::new(move |action, path| {
            let is_listed = action == "list the segments of" && path.ends_with("shards/000000000000");
            if let Some(stream) = expires.take_if(|_| is_listed) {
                let clock = clock.clone();
                let expire = move || {
                    stream.split_shard_evenly(parent).unwrap();
                    clock.advance(200 * SECOND);
                    stream.maintain().unwrap();
                    assert_eq!(stream.shards().len(), 2);
                };
                std::thread::spawn(expire).join().unwrap();
            }
            Ok(())
        })));
        let begun = reader.iterator(parent, Position::TrimHorizon);
        fault::set_hook(None);
        let mut iterator = begun.unwrap();
        assert_eq!(iterator.next_batch(1).unwrap().child_shards().map(<[_]>::len), Some(2));
    }
}
