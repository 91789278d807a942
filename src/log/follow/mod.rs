//! Following a stream that another process may have open: its manifest, and the readers of its shards.
//!
//! **Reload.** The opening that `live` speaks of is loaded → the manifest → the state of each shard → the opening once more. If it is another
//! one, the stream was opened meanwhile, and all of that is repeated. While a stream is being opened, `live` speaks of none. Readers then
//! keep what they know.
//!
//! **A shard closes.** Its process has written the manifest that names the children, and shows the children before it shows that the
//! shard is closed. So whoever sees the latter finds the former.

mod listener;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::log::live::watch::{LiveView, SlotView};
use crate::log::manifest::{self, Manifest, Marks};
use crate::log::recovery::survey;
use crate::log::segment::place::ShardDir;
use crate::log::shard::reader::Reader;
use crate::log::shard::reader::follow::{FollowStream, Found, Source};
use crate::log::shard::reader::peers::Peers;
use crate::log::shard::reader::segment::OpenWindows;
use crate::log::shard::reader::segments::Segments;
use crate::log::sys::root::OwnPath;
use crate::log::topology::lineage;
use crate::log::types::describe::ShardDescription;
use crate::log::types::error::{Error, Result};
use crate::log::types::shard_id::ShardId;
use crate::log::types::stats::StreamStats;
use crate::log::types::time::Clock;

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
    listener: Arc<Listener>,
    this: Weak<Self>,
    state: Mutex<State>,
}

/// What is known of the stream.
#[derive(Debug)]
struct State {
    live: Option<Arc<LiveView>>,
    /// The opening of the stream, and how often it had replaced the manifest.
    opening: u64,
    manifests: u64,
    manifest: Manifest,
    members: BTreeMap<ShardId, Member>,
}

/// A shard that the manifest names.
#[derive(Debug)]
struct Member {
    reader: Arc<Reader>,
    /// Wakes those who wait for the shard.
    _waker: Arc<FollowedShard>,
}

impl Followed {
    /// Opens a stream for reading.
    pub(crate) fn open(root: OwnPath, clock: Arc<dyn Clock>) -> Result<Arc<Self>> {
        let manifest = load(&root)?;
        // For what a layer keeps in the stream's directory.
        let root = root.with_mode(manifest.settings.file_mode);
        let followed = Arc::new_cyclic(|this: &Weak<Self>| Self {
            listener: Arc::new(Listener::new(root.clone())),
            root,
            clock,
            peers: Arc::default(),
            windows: Arc::new(OpenWindows::of_followed()),
            this: Weak::clone(this),
            state: Mutex::new(State {
                live: None,
                opening: 0,
                manifests: 0,
                manifest,
                members: BTreeMap::new(),
            }),
        });
        followed.bring_up_to_date(&mut followed.state.lock())?;
        Ok(followed)
    }

    pub(crate) fn root(&self) -> &OwnPath {
        &self.root
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
        let mut state = self.state.lock();
        // Whoever reads the shards meets the error.
        let _ = self.look(&mut state);
        state.manifest.clone()
    }

    /// Returns the reader of a shard.
    pub(crate) fn reader(&self, shard: ShardId) -> Result<Arc<Reader>> {
        let mut state = self.state.lock();
        self.look(&mut state)?;
        let member = state.members.get(&shard).ok_or(Error::ShardNotFound(shard))?;
        Ok(Arc::clone(&member.reader))
    }

    /// Returns the shards, and what reads them, in the order of their creation.
    pub(crate) fn members(&self) -> Result<Vec<(ShardDescription, Arc<Reader>)>> {
        let mut state = self.state.lock();
        self.look(&mut state)?;
        let shards = state.manifest.shards.iter();
        let members: Vec<_> =
            shards.map(|shard| (shard.clone(), Arc::clone(&state.members[&shard.id].reader))).collect();
        drop(state);
        members.iter().try_for_each(|(_, reader)| reader.refresh())?;
        Ok(members)
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

    /// Brings everything up to date, if it is not.
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
                Ok(true) => return Ok(()),
                Ok(false) => {}
                // What was looked at may have changed meanwhile.
                Err(error) => failed = Some(error),
            }
            std::thread::sleep(RELOAD_PAUSE * 2u32.pow(repetition.min(6)));
        }
        match failed {
            Some(error) => Err(error),
            // It is opened again and again. The next look may be luckier.
            None => Ok(()),
        }
    }

    /// Brings everything up to date. Returns `false` if the stream was opened meanwhile.
    fn try_reload(&self, state: &mut State) -> Result<bool> {
        if state.live.is_none() {
            state.live = LiveView::open(&self.root)?.map(Arc::new);
        }
        let live = state.live.clone();
        let opening = live.as_ref().map_or(0, |live| live.opening());
        let manifests = live.as_ref().map_or(0, |live| live.manifests());
        let has_begun = state.opening != 0;
        let mut manifest = load(&self.root)?;
        if opening == 0 && has_begun {
            // The stream is being opened. What is known stays until it is open.
            return Ok(true);
        }
        let mut slots = BTreeMap::new();
        if let Some(live) = live.as_ref().filter(|_| opening != 0) {
            for shard in &manifest.shards {
                if let Some(slot) = live.find(shard.id)? {
                    slots.insert(shard.id, slot);
                }
            }
            // The others have expired since, or are children that are not there yet.
            manifest.shards.retain(|shard| slots.contains_key(&shard.id));
        }
        for shard in &manifest.shards {
            let source = Source { live: live.clone(), opening, slot: slots.get(&shard.id).cloned() };
            let marks = manifest.marks_of(shard);
            let reader =
                &state.members.entry(shard.id).or_insert_with(|| self.member(shard, &manifest)).reader;
            let slot = source.slot.clone();
            reader.replace(source, || match &slot {
                Some(slot) => self.find_shown(shard, slot),
                None => self.survey(shard, marks),
            })?;
        }
        if live.as_ref().map_or(0, |live| live.opening()) != opening {
            return Ok(false);
        }
        self.close_shards(state, &mut manifest, &slots);
        (state.opening, state.manifests, state.manifest) = (opening, manifests, manifest);
        Ok(true)
    }

    fn member(&self, shard: &ShardDescription, manifest: &Manifest) -> Member {
        let dir = ShardDir::new(&self.root, shard.id);
        let segments = Segments::followed(dir, Arc::clone(&self.windows), manifest.settings.segment_bytes);
        let (clock, peers) = (Arc::clone(&self.clock), Arc::clone(&self.peers));
        let stream: Weak<dyn FollowStream> = Weak::<Self>::clone(&self.this);
        let reader = Arc::new(Reader::followed(shard, clock, peers, segments, stream));
        let waker = Arc::new(FollowedShard::new(&reader, &self.listener));
        let weak = Arc::downgrade(&waker);
        reader.attach(weak);
        Member { reader, _waker: waker }
    }

    /// Returns the segments of a shard that a process shows.
    fn find_shown(&self, shard: &ShardDescription, slot: &SlotView) -> Result<Found> {
        let dir = ShardDir::new(&self.root, shard.id);
        let changed = || Error::io("list the directory", dir.path(), std::io::ErrorKind::Interrupted.into());
        let (seen, _) = slot.read().ok_or_else(changed)?;
        let mut bases = if dir.path().is_own_dir()? { dir.bases()? } else { vec![] };
        bases.retain(|&base| base < seen.end);
        // Loaded after the directory was listed: a file that was removed before is behind this.
        let (now, _) = slot.read().ok_or_else(changed)?;
        let behind = bases.iter().skip(1).take_while(|&&next| next <= now.horizon).count();
        bases.drain(..behind);
        Ok(Found { bases, end: seen.end, horizon: now.horizon })
    }

    /// Returns what the next opening will find in a shard.
    fn survey(&self, shard: &ShardDescription, marks: Marks) -> Result<Found> {
        let found = survey(&self.root, shard, marks)?;
        let end = found.next_sequence;
        let first = found.bases.first().copied().unwrap_or(end);
        Ok(Found { bases: found.bases, end, horizon: first.max(marks.horizon).min(end) })
    }

    /// Lets the readers of closed shards find the children, and closes those of shards that have expired.
    fn close_shards(&self, state: &mut State, manifest: &mut Manifest, slots: &BTreeMap<ShardId, SlotView>) {
        let closed: Vec<_> =
            manifest.shards.iter().filter(|shard| !shard.is_open()).map(|shard| shard.id).collect();
        for id in closed {
            let reader = &state.members[&id].reader;
            let end = match slots.get(&id).and_then(SlotView::read) {
                Some((seen, _)) => seen.closed,
                None => Some(reader.next_sequence()),
            };
            if let Some(end) = end {
                lineage::settle(&mut manifest.shards, id, end, reader.last_timestamp());
            }
        }
        let members = &state.members;
        let children_of = |id: ShardId| -> Vec<Arc<Reader>> {
            let children = lineage::children_of(&manifest.shards, id);
            children
                .filter_map(|child| members.get(&child.id))
                .map(|child| Arc::clone(&child.reader))
                .collect()
        };
        for shard in &manifest.shards {
            if let Some((end, closed_at)) = shard.closing_sequence.zip(shard.closed_at) {
                members[&shard.id].reader.announce(end, closed_at, children_of(shard.id));
            }
        }
        let is_named = |id: ShardId| manifest.shards.iter().any(|shard| shard.id == id);
        for member in members.values().filter(|member| !is_named(member.reader.id())) {
            let children = children_of(member.reader.id());
            let first = children.iter().map(|child| child.created().first_sequence).min();
            let first = first.unwrap_or(member.reader.next_sequence());
            let closed_at = children.first().map(|child| child.created().created_at).unwrap_or_default();
            member.reader.announce(first, closed_at, children);
            member.reader.expire(first);
        }
        state.members.retain(|&id, _| is_named(id));
    }
}

impl FollowStream for Followed {
    fn reload(&self) -> Result<()> {
        let mut state = self.state.lock();
        if state.live.is_none() {
            state.live = LiveView::open(&self.root)?.map(Arc::new);
            if state.live.is_none() {
                return Ok(());
            }
        }
        self.bring_up_to_date(&mut state)
    }
}

/// Reads the manifest of a stream.
fn load(root: &OwnPath) -> Result<Manifest> {
    if !Manifest::exists_in(root)? {
        let reason = if root.join(manifest::SET_ASIDE_NAME).exists() {
            "it was deleted"
        } else {
            "there is no manifest.json; name another path"
        };
        let path: &Path = root;
        return Err(Error::not_a_stream(path, reason));
    }
    Manifest::load(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StreamOptions, SystemClock};

    #[test]
    fn l8_counts_show_no_record_as_synced_that_they_do_not_show_as_put() {
        let directory = tempfile::tempdir().unwrap();
        let stream = StreamOptions::new().segment_bytes(64 << 10).open(directory.path()).unwrap();
        stream.put("key", "first").unwrap();
        let root = OwnPath::open_root(directory.path()).unwrap();
        let followed = Followed::open(root, Arc::new(SystemClock)).unwrap();
        let (shard, reader) = followed.members().unwrap().remove(0);
        stream.put("key", "second").unwrap();
        stream.sync().unwrap();
        let stats = reader.stats(followed.manifest().marks_of(&shard)).unwrap();
        assert_eq!((stats.next_sequence, stats.synced_sequence), (1.into(), 1.into()));
    }
}
