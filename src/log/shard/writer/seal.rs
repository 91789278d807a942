//! Sealing the segments that take no more frames.

use std::sync::Arc;

use super::Writer;
use super::appender::{Appender, State};
use crate::log::segment::unsealed::Unsealed;
use crate::log::types::error::{Error, Result};
use crate::log::types::event::event;
use crate::log::types::limits::unsealed_count_max;

impl Writer {
    /// Seals the first segment that waits for it, under the append lock.
    pub(super) fn seal_first(&self, appender: &mut Appender) -> Result<()> {
        if let Some(first) = appender.unsealed.front().cloned() {
            self.dir.sync()?;
            self.seal(&first, || appender.unsealed.pop_front())?;
        }
        Ok(())
    }

    /// Seals one segment and removes it from the list of those to seal. The caller must have synced the directory. Recovery assumes that
    /// all segments before a sealed one exist, and another thread may have taken `new_names` without having synced the new names yet.
    fn seal<T>(&self, segment: &Unsealed, take_off: impl FnOnce() -> T) -> Result<()> {
        match segment.seal() {
            Ok(true) => {
                take_off();
                let base = segment.base();
                self.reader.segments.unpin(base);
                event!(debug, "a segment is sealed", dir = self.dir.path().display(), base = base);
                Ok(())
            }
            // It stays as it is and is sealed when the disk has room. It is readable, and recovery can scan it.
            Ok(false) | Err(Error::StorageFull(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Returns whether enough segments wait to be sealed that sealing should not wait for the next pass. Sealing costs a sync, and as long
    /// as few segments wait, puts need not compete with it.
    pub(in super::super) fn has_many_to_seal(&self) -> bool {
        self.appender.lock().unsealed.len() >= unsealed_count_max(self.context.writing.segment_bytes) / 2
    }

    /// Seals the segments that wait for it.
    pub(in super::super) fn seal_waiting(&self) -> Result<()> {
        let appender = self.appender.lock();
        // What is on disk is unknown. Opening the stream again scans these segments.
        if appender.state == State::Poisoned {
            return Err(Error::Poisoned(self.dir.shard));
        }
        let waiting: Vec<_> = appender.unsealed.iter().cloned().collect();
        drop(appender);
        if waiting.is_empty() {
            return Ok(());
        }
        let mut sealed = self.dir.sync();
        for segment in waiting {
            sealed = sealed.and_then(|()| {
                self.seal(&segment, || {
                    self.appender.lock().unsealed.retain(|other| !Arc::ptr_eq(other, &segment));
                })
            });
        }
        if let Some(error) = sealed.as_ref().err().filter(|error| error.is_failed_sync()) {
            self.tell_failed_sync(error);
            self.poison();
        }
        sealed
    }
}
