//! Chooses the records that a queue hands out next, and reads them.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::entry::Moment;
use super::handle::QueueRecord;
use super::put::delayed_until;
use super::shared::{Locked, Shared};
use super::state::{CHANGES_MAX, Outstanding, Place};
use crate::{OwnedRecord, Result};

/// What a caller asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) records_max: usize,
    /// No more records are taken once their data has this many bytes.
    pub(super) bytes_max: usize,
    pub(super) visibility_timeout: Duration,
    pub(super) is_dead: bool,
}

impl Locked<'_> {
    /// Takes records, or dead letters, and hides them.
    pub(super) fn take(&mut self, request: Request, moment: Moment) -> Result<Vec<QueueRecord>> {
        self.settle(moment)?;
        loop {
            let mut taken = vec![];
            let outcome = self.take_into(&mut taken, request, moment);
            let is_cut_short = self.inner().state.changes().len() >= CHANGES_MAX;
            // What was found out before an error, such as that records are gone, is kept. If records were taken, these are handed out, and the
            // next call finds the error again.
            self.commit(moment)?;
            if !taken.is_empty() {
                return Ok(taken);
            }
            outcome?;
            if !is_cut_short {
                return Ok(taken);
            }
        }
    }

    fn take_into(&mut self, taken: &mut Vec<QueueRecord>, request: Request, moment: Moment) -> Result<()> {
        let Request { records_max, bytes_max, visibility_timeout, is_dead } = request;
        let shared = self.shared;
        let until = moment.elapsed + visibility_timeout;
        let inner = self.inner();
        // In order by key, new records enter the state first, and the first of a key may be handed out immediately.
        let mut fresh = None;
        let mut bytes = 0;
        while taken.len() < records_max && bytes < bytes_max && inner.state.changes().len() < CHANGES_MAX {
            if let Some(place) = inner.state.first_visible(is_dead) {
                let known = fresh.take().filter(|(fresh, _)| *fresh == place).map(|(_, record)| record);
                let record = match known {
                    Some(record) => Some(record),
                    None => inner.source.record(place, &mut inner.state)?,
                };
                let Some(outstanding) = inner.state.outstanding().get(&place).copied() else { continue };
                match record {
                    None => inner.state.set(place, None),
                    Some(_) if inner.state.is_spent(&outstanding) => inner.state.bury(place, outstanding),
                    Some(record) => {
                        let outstanding = outstanding.handed_out(until, moment.time_of_day);
                        inner.state.set(place, Some(outstanding));
                        bytes += record.data.len();
                        taken.push(shared.queue_record(place, &outstanding, record, moment));
                    }
                }
                continue;
            }
            if is_dead || shared.is_full(inner) {
                break;
            }
            let Some((place, record)) = inner.source.next(&mut inner.state)? else { break };
            let delayed_until = delayed_until(&record, moment);
            let key = shared.is_ordered.then(|| xxh3_64(&record.partition_key));
            let outstanding = Outstanding::new(key, delayed_until);
            if key.is_some() || delayed_until.is_some() {
                inner.state.set(place, Some(outstanding));
                fresh = Some((place, record));
            } else {
                let outstanding = outstanding.handed_out(until, moment.time_of_day);
                inner.state.set(place, Some(outstanding));
                bytes += record.data.len();
                taken.push(shared.queue_record(place, &outstanding, record, moment));
            }
        }
        Ok(())
    }
}

impl Shared {
    fn queue_record(
        &self,
        place: Place,
        outstanding: &Outstanding,
        record: OwnedRecord,
        moment: Moment,
    ) -> QueueRecord {
        QueueRecord {
            record,
            shard: place.shard,
            handle: self.handle(place, outstanding),
            receive_count: outstanding.receive_count,
            first_received: outstanding.first_received.unwrap_or(moment.time_of_day),
        }
    }
}
