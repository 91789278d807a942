//! What a lane has to know besides its records: the time, and the state of its shard.

use std::sync::Arc;
use std::time::Duration;

use super::rules::Rules;
use crate::{Clock, StreamReader, Timestamp};

/// The time, as the stream's clock has it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Now {
    /// The time of day.
    pub(super) time: Timestamp,
    /// No more records come that arrived before this. It is the time of day, unless the records come from elsewhere.
    pub(super) arrived: Timestamp,
    /// The time since some moment, by which waits are measured.
    pub(super) elapsed: Duration,
}

/// The clocks of a processor.
#[derive(Debug, Clone)]
pub(super) struct Clocks {
    pub(super) stream: StreamReader,
    /// The time of the day, if the stream's clock says only how far arrivals have come.
    pub(super) day: Option<Arc<dyn Clock>>,
}

impl Clocks {
    pub(super) fn now(&self) -> Now {
        let arrived = self.stream.clock().now();
        let time = self.day.as_ref().map_or(arrived, |day| day.now());
        Now { time, arrived, elapsed: self.elapsed() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.stream.clock().elapsed()
    }
}

/// What is known of the records of a shard, besides those in the lanes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// All that came before this moment is in the lanes, or is behind.
    pub(super) read_until: Now,
    /// The watermark, by event time.
    pub(super) watermark: Timestamp,
    /// When the last record came, or the shard was taken over.
    pub(super) last_came: Duration,
    /// No more will come.
    pub(super) is_last: bool,
}

impl Seen {
    /// Returns how far time is, for a lane that has all that came.
    pub(super) fn reached(&self, rules: &Rules) -> Timestamp {
        if rules.event_time.is_some() { self.watermark } else { self.read_until.arrived }
    }

    /// Returns whether all windows are over, whatever time it is.
    pub(super) fn is_over(&self, rules: &Rules) -> bool {
        let is_idle = |timeout| self.read_until.elapsed >= self.last_came + timeout;
        self.is_last || rules.event_time.as_ref().is_some_and(|event_time| is_idle(event_time.idle_timeout))
    }

    /// Returns how long it takes until a window with this end is over, if nothing comes.
    pub(super) fn wait(&self, rules: &Rules, end: Timestamp, now: Now) -> Duration {
        match &rules.event_time {
            Some(event_time) => (self.last_came + event_time.idle_timeout).saturating_sub(now.elapsed),
            None => end.since(now.arrived),
        }
    }
}
