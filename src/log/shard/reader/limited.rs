//! Reading a shard within the limits of its stream, or without.

use std::sync::Arc;

use super::batch::Batch;
use super::iterator::ShardIterator;
use crate::log::types::error::{Error, Result};

impl ShardIterator {
    /// Returns the iterator without the limits of its stream.
    pub(crate) fn unlimited(mut self) -> Self {
        self.is_limited = false;
        self
    }

    /// Returns whether reads are limited now.
    #[inline]
    pub(crate) fn has_limits(&self) -> bool {
        self.is_limited && self.reader.throttle.is_on()
    }

    /// Does what [`next_batch_within`](Self::next_batch_within) does, within the limits of the shard.
    #[cold]
    pub(super) fn next_batch_limited(&mut self, records_max: usize, bytes_max: usize) -> Result<Batch> {
        let shard = self.shard();
        let reader = Arc::clone(&self.reader);
        let begun = reader.throttle.begin(reader.elapsed());
        let may_return = begun.map_err(|retry_after| Error::Throttled { shard, retry_after })?;
        let batch = self.next_batch_unlimited(records_max, bytes_max.min(may_return))?;
        let bytes: usize = batch.iter().map(|record| record.parts.bytes()).sum();
        reader.throttle.end(reader.elapsed(), bytes as u64);
        Ok(batch)
    }

    /// Does what [`next_batch_within`](Self::next_batch_within) does, without limits.
    pub(super) fn next_batch_unlimited(&mut self, records_max: usize, bytes_max: usize) -> Result<Batch> {
        self.catch_up()?;
        self.reader.find_unknown_end()?;
        self.reader.check_horizon(self.next)?;
        match self.read(records_max, bytes_max) {
            // Another process may have trimmed, cut or closed it meanwhile.
            Err(error) if self.reader.is_followed() => {
                self.catch_up()?;
                self.reader.check_horizon(self.next)?;
                Err(error)
            }
            read => read,
        }
    }
}
