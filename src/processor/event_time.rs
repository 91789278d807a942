//! Event time: when the events of records happened, as the records say, and the watermark that follows from it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::rules::Rules;
use crate::{Batch, HOUR, Record, SequenceNumber, Timestamp, extend};

/// Returns a record's event time, or why it has none.
pub(super) type TimeOf = dyn Fn(&Record<'_>) -> Result<Timestamp, String> + Send + Sync;

/// An event time may be this much later than the arrival of its record: clocks differ. A later one is wrong, and would end every window.
pub(super) const AHEAD_MAX: Duration = HOUR;

/// The rules for windows by event time.
#[derive(Clone)]
pub(super) struct EventTime {
    pub(super) time_of: Arc<TimeOf>,
    /// The watermark is this far behind the highest event time.
    pub(super) allowed_lateness: Duration,
    /// After this long without a record, the windows of a shard end.
    pub(super) idle_timeout: Duration,
}

impl fmt::Debug for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventTime")
            .field("allowed_lateness", &self.allowed_lateness)
            .field("idle_timeout", &self.idle_timeout)
            .finish_non_exhaustive()
    }
}

impl EventTime {
    /// Asks the caller's function for a record's event time.
    fn of(&self, record: &Record<'_>) -> When {
        let time = extend::run_callback(|| (self.time_of)(record));
        match time.unwrap_or_else(|| Err("the function for the event time has panicked".to_owned())) {
            Ok(time) if time > record.timestamp() + AHEAD_MAX => {
                let ahead = time.since(record.timestamp()).as_secs();
                When::Unknown(format!("the event time {time} is {ahead} s after the record's arrival").into())
            }
            Ok(time) => When::At(time),
            Err(error) => When::Unknown(error.into()),
        }
    }
}

/// When something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum When {
    At(Timestamp),
    /// The record does not say, for this reason.
    Unknown(Arc<str>),
    /// Nobody asks, because the filter does not want the record.
    Unwanted,
}

/// Where a record lies in time.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) when: When,
    /// The watermark once the record was read: no earlier event is expected.
    pub(super) watermark: Timestamp,
}

impl Moment {
    /// Returns the moment of a record by its arrival, after which nothing comes late.
    pub(super) fn of_arrival(arrival: Timestamp) -> Self {
        Self { when: When::At(arrival), watermark: arrival }
    }
}

/// A batch of the log, and the moments of its records if the processor goes by event time.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) batch: Batch,
    /// None, or one for each record.
    pub(super) moments: Vec<Moment>,
}

impl Input {
    /// Asks the caller's function for the event times. Nothing may be locked meanwhile.
    pub(super) fn new(batch: Batch, rules: &Rules) -> Self {
        let Some(event_time) = &rules.event_time else { return Self { batch, moments: vec![] } };
        let moment = |record: Record<'_>| Moment {
            when: if rules.accepts(&record) { event_time.of(&record) } else { When::Unwanted },
            watermark: Timestamp::default(),
        };
        let moments = batch.iter().map(moment).collect();
        Self { batch, moments }
    }

    /// Raises the watermark by the records below a sequence number, one after the other, and notes it with each. Returns whether one of them has
    /// an event time.
    pub(super) fn raise(&mut self, watermark: &mut Timestamp, below: SequenceNumber, rules: &Rules) -> bool {
        let (Some(event_time), Some(first)) = (&rules.event_time, self.batch.first_sequence()) else {
            return false;
        };
        let count = usize::try_from(below.get().saturating_sub(first.get())).unwrap_or(usize::MAX);
        let mut has_time = false;
        for moment in self.moments.iter_mut().take(count) {
            if let When::At(time) = moment.when {
                *watermark = (*watermark).max(time - event_time.allowed_lateness);
                has_time = true;
            }
            moment.watermark = *watermark;
        }
        has_time
    }

    /// Returns how much memory the batch keeps, with what is known of its records.
    pub(super) fn memory_bytes(&self) -> usize {
        self.batch.memory_bytes() + size_of_val(&*self.moments)
    }

    /// Returns whether the function wants the record at this place.
    pub(super) fn is_wanted(&self, place: usize, record: &Record<'_>, rules: &Rules) -> bool {
        match self.moments.get(place) {
            Some(moment) => moment.when != When::Unwanted,
            None => rules.accepts(record),
        }
    }
}
