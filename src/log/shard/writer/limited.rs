//! Appending within the limits of the stream.

use std::time::Duration;

use super::Writer;
use super::appender::State;
use crate::log::format::draft::Draft;
use crate::log::types::error::{Error, Result};
use crate::log::types::sequence::SequenceNumber;
use crate::log::types::throughput::Limits;

impl Writer {
    /// Sets how much may pass in a second.
    pub(in super::super) fn set_limits(&self, limits: Limits) {
        let mut appender = self.appender.lock();
        appender.buckets.set(limits.write_bytes_per_second, limits.write_records_per_second);
    }

    /// Does what [`append`](Self::append) does with a frame of one record of these bytes, if the limits let it pass now.
    pub(in super::super) fn append_limited(
        &self,
        frame: &mut Draft<'_>,
        now: Duration,
        bytes: u64,
    ) -> Result<Option<SequenceNumber>> {
        let mut appender = self.appender.lock();
        if appender.state == State::Open {
            let admitted = appender.buckets.admit(now, bytes);
            admitted.map_err(|retry_after| Error::Throttled { shard: self.dir.shard, retry_after })?;
        }
        self.append_locked(appender, frame)
    }

    /// Lets through as many records as may pass now, given the bytes of each. Returns how long each of the others has to wait.
    pub(in super::super) fn admit_first(
        &self,
        now: Duration,
        bytes: impl Iterator<Item = u64>,
    ) -> Vec<Duration> {
        self.appender.lock().buckets.admit_first(now, bytes)
    }
}
