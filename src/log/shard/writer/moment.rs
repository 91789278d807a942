//! What the writer of a shard has put at one moment, for a snapshot.

use super::Writer;
use super::appender::State;
use crate::log::segment::active::Active;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// What the writer of a shard has put.
#[derive(Debug)]
pub(in super::super) struct Written {
    /// The number after the last record.
    pub(in super::super) end: SequenceNumber,
    pub(in super::super) last_timestamp: Timestamp,
    /// The segments with records that are not sealed, oldest first, each with the offset at which its frames end.
    pub(in super::super) unsealed: Vec<(SequenceNumber, u64)>,
}

impl Writer {
    /// Returns what was put until now. From then on no segment that is sealed is written to again: the last one is not resumed.
    ///
    /// # Errors
    /// `Poisoned`, because nothing vouches for what is on the disk.
    pub(in super::super) fn written(&self) -> Result<Written> {
        let mut appender = self.appender.lock();
        if appender.state == State::Poisoned {
            return Err(Error::Poisoned(self.dir.shard));
        }
        // An empty segment stays: a snapshot does not hold it.
        appender.resumable = appender.resumable.filter(|last| last.frames.is_empty());
        let waiting = appender.unsealed.iter().map(|segment| (segment.base(), segment.frames.end));
        let active = appender.active.as_ref().filter(|active| !active.is_empty());
        let active = active.map(|active: &Active| (active.window().place.base, active.frames_end()));
        Ok(Written {
            end: appender.next_sequence,
            last_timestamp: appender.last_timestamp,
            unsealed: waiting.chain(active).collect(),
        })
    }
}
