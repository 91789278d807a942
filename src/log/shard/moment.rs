//! What a shard holds at one moment, for a snapshot.

use super::Shard;
use crate::log::types::error::Result;
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::time::Timestamp;

/// What a shard holds at one moment.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) horizon: SequenceNumber,
    /// The number after the last record.
    pub(crate) end: SequenceNumber,
    /// When the last record arrived.
    pub(crate) last_timestamp: Timestamp,
    /// The segments with records, oldest first.
    pub(crate) segments: Vec<SegmentThen>,
}

/// A segment at that moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentThen {
    pub(crate) base: SequenceNumber,
    /// The number after its last record.
    pub(crate) end: SequenceNumber,
    /// The offset at which its frames ended, or `None` if it was sealed and no longer changes.
    pub(crate) frames_end: Option<u64>,
}

impl Shard {
    /// Returns what the shard holds now. Segments that are sealed now are not written to again.
    pub(crate) fn moment(&self) -> Result<Moment> {
        let written = self.writer.written()?;
        let first_unsealed = written.unsealed.first().map_or(written.end, |&(base, _)| base);
        // Segments that were begun meanwhile come after these. Those that were trimmed meanwhile are behind the horizon, which is read last.
        let bases = self.reader.segments.bases().into_iter().filter(|&base| base < first_unsealed);
        let sealed = bases.map(|base| (base, None));
        let unsealed = written.unsealed.into_iter().map(|(base, end)| (base, Some(end)));
        let all: Vec<_> = sealed.chain(unsealed).collect();
        let ends = all.iter().skip(1).map(|&(base, _)| base).chain([written.end]);
        let segments = all.iter().zip(ends);
        let segments = segments.map(|(&(base, frames_end), end)| SegmentThen { base, end, frames_end });
        Ok(Moment {
            segments: segments.collect(),
            end: written.end,
            last_timestamp: written.last_timestamp,
            horizon: self.horizon().min(written.end),
        })
    }
}
