//! Keeping a shard's reader up to date while another process may write the shard.
//!
//! While a process has the stream open, the reader follows what that process shows in the file `live`. If nobody has had it open since the
//! machine was started, the reader has what the next opening will find. Each time the stream is opened, all that was known is replaced:
//! recovery may have cut records, and salvage may have replaced files.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Reader;
use crate::log::live::watch::{LiveView, Seen, SeenWords, SlotView};
use crate::log::manifest::Marks;
use crate::log::sys::fault;
use crate::log::sys::process::Process;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::stats::{ShardStats, Traffic};
use crate::log::types::time::Timestamp;

/// The stream, as the reader of one of its shards sees it.
pub(crate) trait FollowStream: std::fmt::Debug + Send + Sync {
    /// Brings the readers of all shards up to date with the manifest and with the process that has the stream open.
    fn reload(&self) -> Result<()>;

    /// Asks the archive of the stream for the shards that have expired, if that was not done yet.
    fn read_archive(&self) -> Result<()>;
}

/// What keeps a reader up to date.
#[derive(Debug)]
pub(super) struct Follow {
    stream: Weak<dyn FollowStream>,
    /// The process that opened the stream for reading.
    process: Process,
    /// Locked while the reader is brought up to date.
    known: Mutex<Known>,
    /// Raised before and after everything is replaced.
    replaced: AtomicU64,
}

/// What the reader knows.
#[derive(Debug, Default)]
struct Known {
    source: Source,
    /// The words of the slot that the reader has taken over.
    words: SeenWords,
    /// Whether the shard has left the stream.
    has_expired: bool,
}

/// The source of what a reader knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    /// The file in which a process shows how far it is, if there is one.
    pub(crate) live: Option<Arc<LiveView>>,
    /// The opening that the file shows.
    pub(crate) opening: u64,
    /// The shard's words there.
    pub(crate) slot: Option<SlotView>,
}

/// The state of a shard that nobody changes, or of one that a process has just opened.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) bases: Vec<SequenceNumber>,
    pub(crate) seen: Seen,
    /// The words that show this, if a process shows it.
    pub(crate) words: SeenWords,
}

/// What an iterator remembers about the record before its next one, if another process may write the shard.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// How often everything had been replaced when it was read.
    pub(super) replaced: u64,
    /// Whether it was there.
    was_there: bool,
    /// When it arrived, if it can be read.
    arrived: Option<Timestamp>,
    /// Keeps the reader up to date for as long as the iterator lives.
    _stream: Option<Arc<dyn FollowStream>>,
}

impl Trace {
    /// Notes that a record was read which arrived at that time.
    #[inline]
    pub(super) fn note(&mut self, arrived: Timestamp) {
        (self.was_there, self.arrived) = (true, Some(arrived));
    }
}

impl Follow {
    pub(super) fn new(stream: Weak<dyn FollowStream>) -> Self {
        Self { stream, process: Process::this(), known: Mutex::default(), replaced: AtomicU64::new(0) }
    }
}

impl Reader {
    /// Returns whether another process may write the shard.
    pub(super) fn is_followed(&self) -> bool {
        self.follow.is_some()
    }

    /// Returns how often everything that is known of the shard was replaced.
    #[inline]
    pub(super) fn replaced(&self) -> u64 {
        self.follow.as_ref().map_or(0, |follow| follow.replaced.load(Ordering::Acquire))
    }

    /// Takes over what has happened in the shard, if another process may write it.
    ///
    /// # Errors
    /// `Corrupt`, `UnsupportedFormat`, `NotAStream` if the stream was deleted, `Io`.
    #[inline]
    pub(crate) fn refresh(&self) -> Result<()> {
        match &self.follow {
            None => Ok(()),
            Some(follow) => self.catch_up(follow),
        }
    }

    /// Brings the whole stream up to date, if another process may write it.
    pub(super) fn reload(&self) -> Result<()> {
        let stream = self.follow.as_ref().and_then(|follow| follow.stream.upgrade());
        stream.map_or(Ok(()), |stream| stream.reload())
    }

    /// Returns whether the shard has left the stream, and only the archive may know where it ended and which shards follow.
    pub(super) fn has_unknown_end(&self) -> bool {
        let has_expired = |follow: &Follow| follow.known.lock().has_expired;
        self.archived.is_some()
            && self.closing.get().is_none()
            && self.follow.as_ref().is_some_and(has_expired)
    }

    /// Asks the archive where the shard ended, if only that may know.
    ///
    /// # Errors
    /// `Io` if it is out of reach; `Corrupt`, `UnsupportedFormat`.
    pub(super) fn find_unknown_end(&self) -> Result<()> {
        if !self.has_unknown_end() {
            return Ok(());
        }
        let stream = self.follow.as_ref().and_then(|follow| follow.stream.upgrade());
        stream.map_or(Ok(()), |stream| stream.read_archive())
    }

    fn catch_up(&self, follow: &Follow) -> Result<()> {
        follow.process.check(self.segments.dir())?;
        let taken = self.take_over(&mut follow.known.lock());
        let is_gone =
            matches!(&taken, Err(Error::Io(failure)) if failure.source.kind() == io::ErrorKind::NotFound);
        let Some(stream) = follow.stream.upgrade().filter(|_| is_gone || matches!(taken, Ok(true))) else {
            return taken.map(drop);
        };
        stream.reload()?;
        // The directory of a shard that has expired is gone. That of any other must be there.
        if is_gone { self.take_over(&mut follow.known.lock()).map(drop) } else { Ok(()) }
    }

    /// Takes over what the shard's words show. Returns whether more has changed than these words say.
    ///
    /// The end is loaded first, then the places of the segments, then the directory is listed, then the horizon is loaded: a file that was removed
    /// before the listing is behind that horizon. Words count only if the slot still belongs to the shard and the opening afterwards.
    fn take_over(&self, known: &mut Known) -> Result<bool> {
        if known.has_expired {
            return Ok(self.closing.get().is_none());
        }
        // Without the file, a process may have opened the stream by now.
        let Source { live: Some(live), opening, slot } = &known.source else { return Ok(true) };
        if *opening == 0 || live.opening() != *opening {
            return Ok(true);
        }
        let Some(slot) = slot else { return Ok(false) };
        if slot.shows(&known.words) {
            return Ok(false);
        }
        // If the slot is no longer that of the shard, the shard has expired, or the stream was opened.
        let Some((mut seen, words)) = slot.read()? else { return Ok(true) };
        self.point("list the segments of")?;
        let bases = self.segments.list_if_new(&seen)?;
        self.point("look at the horizon of")?;
        let Some((now, _)) = slot.read()? else { return Ok(true) };
        // It may be beyond the end that was loaded.
        seen.horizon = now.horizon.min(seen.end);
        self.apply(&seen, bases)?;
        known.words = words;
        Ok(seen.closed.is_some() && self.closing.get().is_none())
    }

    /// Lets a test do something in the middle.
    fn point(&self, action: &'static str) -> Result<()> {
        let dir = self.segments.shard_dir.path();
        fault::point(action, dir).map_err(|error| Error::io(action, dir, error))
    }

    /// Makes readers see what another process shows.
    fn apply(&self, seen: &Seen, bases: Option<Vec<SequenceNumber>>) -> Result<()> {
        let is_listed = bases.is_some();
        if seen.horizon < seen.end {
            self.segments.follow(seen, bases)?;
        }
        self.raise_end(seen.end);
        if self.horizon.raise(seen.horizon) || is_listed {
            self.segments.drop_shown_behind(seen);
        }
        Ok(())
    }

    /// Takes over what the shard's words show, like [`refresh`](Self::refresh), but leaves the other shards as they are known. Returns
    /// whether more has changed than these words say.
    pub(crate) fn refresh_alone(&self) -> Result<bool> {
        self.follow.as_ref().map_or(Ok(false), |follow| self.take_over(&mut follow.known.lock()))
    }

    /// Returns the number after the last record, if a process shows that the shard is closed, or if none shows anything.
    pub(crate) fn shown_end(&self) -> Option<SequenceNumber> {
        let known = self.follow.as_ref()?.known.lock();
        match known.source.slot {
            Some(_) => known.words[2].checked_sub(1).map(SequenceNumber::new),
            None => Some(self.next_sequence()),
        }
    }

    /// Replaces everything that is known of the shard, unless it comes from this source already.
    pub(crate) fn replace(&self, source: Source, find: impl FnOnce() -> Result<Found>) -> Result<()> {
        let Some(follow) = &self.follow else { return Ok(()) };
        let mut known = follow.known.lock();
        let is_known = known.source.live.is_some() == source.live.is_some()
            && known.source.opening == source.opening
            && follow.replaced.load(Ordering::Relaxed) > 0;
        if is_known {
            return Ok(());
        }
        let Found { bases, seen, words } = find()?;
        follow.replaced.fetch_add(1, Ordering::AcqRel);
        self.segments.replace(&bases, seen.end);
        self.raise_end(seen.end);
        self.horizon.set(seen.horizon);
        let applied = self.apply(&seen, Some(bases));
        follow.replaced.fetch_add(1, Ordering::AcqRel);
        if applied.is_ok() {
            *known = Known { source, words, has_expired: false };
        }
        applied
    }

    /// Returns the values that a waiting thread compares with later ones.
    pub(crate) fn known(&self) -> (u64, u64, u64, bool) {
        let (end, horizon) = (self.next_sequence().get(), self.horizon().get());
        (end, horizon, self.replaced(), self.closing.get().is_some())
    }

    /// Returns when the last record arrived, as far as it can be read.
    pub(crate) fn last_timestamp(&self) -> Timestamp {
        let last = self.next_sequence().previous();
        let found = last.and_then(|last| self.segments.find(last).ok().flatten().zip(Some(last)));
        let timestamp = found.and_then(|(found, last)| found.window.timestamp_of(last).ok().flatten());
        timestamp.unwrap_or_default()
    }

    /// Returns whether it is known where the shard ended, and which shards follow.
    pub(crate) fn is_closed(&self) -> bool {
        self.closing.get().is_some()
    }

    /// Drops everything of a shard that has left the stream. If it is not known where it ended, this must be repeated once it is.
    pub(crate) fn expire(&self) {
        let Some(follow) = &self.follow else { return };
        let mut known = follow.known.lock();
        known.has_expired = true;
        let known_end = self.next_sequence();
        let end = self.closing.get().map_or(known_end, |closing| closing.sequence.max(known_end));
        self.raise_end(end);
        self.horizon.raise(end);
        self.segments.drop_shown_behind(&Seen::nothing(end));
    }

    /// Returns the counts of a shard that another process may write. `marks` are those of the last written manifest.
    pub(crate) fn stats(&self, marks: Marks) -> Result<ShardStats> {
        let follow = self.follow.as_ref();
        let shown = follow.and_then(|follow| follow.known.lock().source.slot.as_ref().map(SlotView::counts));
        let (horizon, read) = (self.horizon(), self.reads.totals());
        let next_sequence = self.next_sequence().max(horizon);
        // The process may have put and synced more since the reader took over its end.
        let synced_sequence = shown.map_or(marks.synced, |shown| shown.synced).min(next_sequence);
        Ok(ShardStats {
            shard: self.id(),
            horizon,
            next_sequence,
            synced_sequence,
            segment_count: self.segments.len(),
            disk_bytes: self.segments.disk_bytes()?,
            traffic: Traffic {
                incoming_records: shown
                    .map_or(0, |shown| next_sequence.get().saturating_sub(shown.opened_at.get())),
                incoming_bytes: shown.map_or(0, |shown| shown.put_bytes.wrapping_add(shown.saved_bytes)),
                incoming_stored_bytes: shown.map_or(0, |shown| shown.put_bytes),
                outgoing_records: read.records,
                outgoing_bytes: read.bytes,
                ..Traffic::default()
            },
            iterator_age_ms: self.iterator_age_ms(),
        })
    }

    /// Returns the trace of an iterator that begins at `next`. `replaced` is how often everything had been replaced before `next` was found.
    pub(super) fn trace(&self, next: SequenceNumber, replaced: u64) -> Trace {
        let Some(follow) = &self.follow else { return Trace::default() };
        let last = next.previous().filter(|&last| last >= self.horizon());
        Trace {
            replaced,
            was_there: next <= self.next_sequence(),
            arrived: last.and_then(|last| self.timestamp_of(last).ok().flatten()),
            _stream: follow.stream.upgrade(),
        }
    }

    /// Returns whether the record before `next` is still the one of a trace. If it is not, the records up to there were cut, and others may
    /// have taken their numbers.
    pub(super) fn has_kept(&self, next: SequenceNumber, trace: &Trace) -> bool {
        if next > self.next_sequence() {
            return !trace.was_there;
        }
        let Some((last, arrived)) =
            next.previous().zip(trace.arrived).filter(|(last, _)| *last >= self.horizon())
        else {
            return true;
        };
        let found = self.find(last).ok().flatten();
        let frame = found.and_then(|found| found.window.frame_of(last).ok().flatten());
        // A record lost to damage has no time to compare.
        frame.is_none_or(|frame| frame.is_lost || frame.timestamp_micros == arrived.as_micros())
    }
}
