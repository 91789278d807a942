//! Group sync: one sync for many waiting puts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Writer;
use super::appender::{Appender, State};
use super::turn::HeldTurn;
use crate::log::segment::file::SegmentFile;
use crate::log::sys::dir::OpenDir;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;

/// A sync waits for others to join, for as long as the last sync took, divided by this.
const PATIENCE: u64 = 4;
/// The longest such wait. The last sync may have taken long because it was held up.
const PATIENCE_MAX: Duration = Duration::from_millis(1);

impl Writer {
    /// Returns the sequence number below which everything survives power loss.
    pub(in super::super) fn synced_sequence(&self) -> SequenceNumber {
        SequenceNumber::new(self.synced_sequence.load(Ordering::Acquire))
    }

    pub(super) fn note_synced_to(&self, end: SequenceNumber) {
        self.synced_sequence.store(end.get(), Ordering::Release);
    }

    /// Makes everything put so far survive power loss.
    pub(in super::super) fn sync(&self) -> Result<()> {
        self.sync_to(self.reader.next_sequence())?;
        let files = self.appender.lock().files_to_sync();
        self.check_not_removed(&files).inspect_err(|error| {
            self.tell_failed_sync(error);
            self.poison();
        })
    }

    /// Fails if somebody removed one of these files. Retention takes a segment off the appender before it removes the file.
    fn check_not_removed(&self, files: &[Arc<SegmentFile>]) -> Result<()> {
        files.iter().try_for_each(|file| match file.check_not_removed() {
            Err(error) if self.appender.lock().is_to_sync(file) => Err(error),
            _ => Ok(()),
        })
    }

    /// Renews the notes of the synced watermark in the segments.
    pub(in super::super) fn renew_notes(&self) {
        let files = self.appender.lock().files_to_sync();
        files.iter().for_each(|file| file.note_synced());
    }

    /// Returns once everything below `end` survives power loss.
    ///
    /// The thread that gets the turn syncs everything committed until then. The other threads wait for that sync.
    pub(in super::super) fn sync_to(&self, end: SequenceNumber) -> Result<()> {
        if self.synced_sequence() >= end {
            return Ok(());
        }
        let Some(turn) = self.turn.take_unless(end.get(), || self.synced_sequence() >= end) else {
            return Ok(());
        };
        self.let_more_come(&turn);
        let mut appender = self.appender.lock();
        if appender.state == State::Poisoned {
            return Err(Error::Poisoned(self.dir.shard));
        }
        let (files, committed) = (appender.files_to_sync(), appender.next_sequence);
        let new_names = appender.new_names.take();
        drop(appender);
        turn.begin(committed.get());
        let started = Instant::now();
        let synced = self.sync_files(new_names.as_ref(), &files);
        let synced = synced.and_then(|()| self.check_not_removed(&files));
        match &synced {
            Ok(()) => {
                // In this order: once the other threads know, the stream may be closed, and the words may be another opening's.
                self.appender.lock().live.show_synced(committed);
                self.note_synced_to(committed);
            }
            // The kernel may have dropped the pages that it could not write, so a retry could succeed without them.
            Err(error) => {
                self.tell_failed_sync(error);
                // Restored for the thread that closes the stream: a closed stream does not become poisoned, and its last sync must include
                // these names.
                let mut appender = self.appender.lock();
                appender.new_names = appender.new_names.take().or(new_names);
                drop(appender);
                self.poison();
            }
        }
        self.sync_nanos.store(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        synced
    }

    /// Gives the threads of the last sync a moment to put their next records, so that this sync covers them too. Where many threads put,
    /// syncing for each half of them in turn would do half the work. The wait is limited to a fraction of a sync's time.
    fn let_more_come(&self, turn: &HeldTurn<'_>) {
        let patience =
            Duration::from_nanos(self.sync_nanos.load(Ordering::Relaxed) / PATIENCE).min(PATIENCE_MAX);
        let started = Instant::now();
        while turn.arrived() < turn.crowd && started.elapsed() < patience {
            std::thread::yield_now();
        }
    }

    /// Syncs all segments while no put is possible.
    pub(super) fn sync_all(&self, appender: &mut Appender) -> Result<()> {
        let new_names = appender.new_names.take();
        let files = appender.files_to_sync();
        self.sync_files(new_names.as_ref(), &files)?;
        files.iter().try_for_each(|file| file.check_not_removed())
    }

    fn sync_files(&self, new_names: Option<&OpenDir>, files: &[Arc<SegmentFile>]) -> Result<()> {
        new_names.map_or(Ok(()), OpenDir::sync)?;
        // Oldest first: a synced segment proves that all segments before it are synced.
        files.iter().try_for_each(|file| file.sync().map(drop))
    }
}
