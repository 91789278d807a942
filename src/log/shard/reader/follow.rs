//! Keeping the reader of a shard up to date that another process may write.
//!
//! While a process has the stream open, the reader follows what that process shows in the file `live`. If nobody has had it open since the
//! machine was started, the reader has what the next opening will find. Each time the stream is opened, all that was known is replaced:
//! recovery may have cut records, and salvage may have replaced files.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Reader;
use crate::log::live::watch::{LiveView, Seen, SlotView};
use crate::log::manifest::Marks;
use crate::log::sys::process::Process;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::stats::{ShardStats, Traffic};
use crate::log::types::time::Timestamp;

/// The stream, as the reader of one of its shards sees it.
pub(crate) trait FollowStream: std::fmt::Debug + Send + Sync {
    /// Brings the readers of all shards up to date with the manifest and with who has the stream open.
    fn reload(&self) -> Result<()>;
}

/// What keeps a reader up to date.
#[derive(Debug)]
pub(super) struct Follow {
    stream: Weak<dyn FollowStream>,
    /// The process that opened the stream for reading.
    process: Process,
    /// Locked while the reader is brought up to date.
    known: Mutex<Known>,
    /// How often everything was replaced.
    replaced: AtomicU64,
}

/// What the reader knows.
#[derive(Debug, Default)]
struct Known {
    source: Source,
    /// The words of the slot that the reader has taken over.
    words: [u64; 3],
}

/// Where what a reader knows comes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    /// The file in which a process shows how far it is, if there is one.
    pub(crate) live: Option<Arc<LiveView>>,
    /// The opening that it speaks of.
    pub(crate) opening: u64,
    /// The shard's words there.
    pub(crate) slot: Option<SlotView>,
}

/// The state of a shard that nobody changes, or of one that a process has just opened.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) bases: Vec<SequenceNumber>,
    pub(crate) end: SequenceNumber,
    pub(crate) horizon: SequenceNumber,
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

    fn catch_up(&self, follow: &Follow) -> Result<()> {
        follow.process.check(self.segments.dir())?;
        let mut known = follow.known.lock();
        let opening = known.source.live.as_ref().map(|live| live.opening());
        let must_reload = match opening {
            // The stream is being opened, or its last opening failed.
            Some(0) => return Ok(()),
            Some(opening) => opening != known.source.opening,
            // A process may have opened it by now.
            None => true,
        };
        let must_reload = must_reload
            || match &known.source.slot {
                None => false,
                Some(slot) if slot.shows(&known.words) => false,
                Some(slot) => match slot.read() {
                    Some((seen, words)) => {
                        self.take_over(&seen, &slot.clone())?;
                        known.words = words;
                        seen.closed.is_some() && self.closing.get().is_none()
                    }
                    // The shard has expired.
                    None => true,
                },
            };
        drop(known);
        match follow.stream.upgrade().filter(|_| must_reload) {
            Some(stream) => stream.reload(),
            None => Ok(()),
        }
    }

    fn take_over(&self, seen: &Seen, slot: &SlotView) -> Result<()> {
        self.segments.follow(seen)?;
        self.raise_end(seen.end);
        // Loaded after the directory was listed: a file that was not there any more is behind this.
        let horizon = slot.read().map_or(seen.end, |(now, _)| now.horizon).max(seen.horizon);
        if self.horizon.raise(horizon) {
            // Dropping them lets their files go.
            drop(self.segments.drop_behind(horizon, self.segments.last_end()));
        }
        Ok(())
    }

    /// Replaces everything that is known of the shard, unless it comes from this source already.
    pub(crate) fn replace(&self, source: Source, found: impl FnOnce() -> Result<Found>) -> Result<()> {
        let Some(follow) = &self.follow else { return Ok(()) };
        let mut known = follow.known.lock();
        let is_known = known.source.live.is_some() == source.live.is_some()
            && known.source.opening == source.opening
            && follow.replaced.load(Ordering::Relaxed) > 0;
        if is_known {
            return Ok(());
        }
        let found = found()?;
        self.segments.replace(&found.bases, found.end);
        let words = match source.slot.as_ref().and_then(SlotView::read) {
            Some((seen, words)) => {
                self.segments.follow(&seen)?;
                self.raise_end(seen.end);
                self.horizon.set(seen.horizon);
                words
            }
            None => {
                self.raise_end(found.end);
                self.horizon.set(found.horizon);
                [0; 3]
            }
        };
        *known = Known { source, words };
        follow.replaced.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Returns what a thread that waits for the shard compares with later.
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

    /// Closes the reader of a shard that has expired. `first` is where its children begin, if it is not known where it ended.
    pub(crate) fn expire(&self, first: SequenceNumber) {
        let end = self.closing.get().map_or(first, |closing| closing.sequence);
        self.raise_end(end.max(self.next_sequence()));
        self.horizon.raise(self.next_sequence());
    }

    /// Returns the counts of a shard that another process may write. `marks` are those of the last written manifest.
    pub(crate) fn stats(&self, marks: Marks) -> Result<ShardStats> {
        let follow = self.follow.as_ref();
        let shown = follow.and_then(|follow| follow.known.lock().source.slot.as_ref().map(SlotView::counts));
        let (horizon, next_sequence, read) = (self.horizon(), self.next_sequence(), self.reads.totals());
        Ok(ShardStats {
            shard: self.id(),
            horizon,
            next_sequence: next_sequence.max(horizon),
            synced_sequence: shown.map_or(marks.synced, |shown| shown.synced),
            segment_count: self.segments.len(),
            disk_bytes: self.segments.disk_bytes()?,
            traffic: Traffic {
                incoming_records: shown
                    .map_or(0, |shown| next_sequence.get().saturating_sub(shown.opened_at.get())),
                incoming_bytes: shown.map_or(0, |shown| shown.put_bytes.wrapping_add(shown.saved_bytes)),
                incoming_stored_bytes: shown.map_or(0, |shown| shown.put_bytes),
                outgoing_records: read.records,
                outgoing_bytes: read.bytes,
            },
            iterator_age_ms: self.iterator_age_ms(),
        })
    }

    /// Returns whether the record before `next` is still the one that arrived at a time. If it is not, the records up to there were cut, and
    /// others have taken their numbers.
    pub(super) fn has_kept(&self, next: SequenceNumber, arrived: Option<Timestamp>) -> bool {
        if next > self.next_sequence() {
            return false;
        }
        let Some((last, arrived)) = next.previous().zip(arrived).filter(|(last, _)| *last >= self.horizon())
        else {
            return true;
        };
        let found = self.find(last).ok().flatten();
        let frame = found.and_then(|found| found.window.frame_of(last).ok().flatten());
        // What damage took has no time to compare.
        frame.is_none_or(|frame| frame.is_lost || frame.timestamp_micros == arrived.as_micros())
    }

    /// Returns when the record before `next` arrived, if another process may write the shard.
    pub(super) fn arrival_before(&self, next: SequenceNumber) -> Option<Timestamp> {
        let last = next.previous().filter(|&last| self.is_followed() && last >= self.horizon())?;
        self.timestamp_of(last).ok().flatten()
    }
}
