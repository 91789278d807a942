//! The thread that writes what waits in a lane, retries while the disk is full or a limit is reached, and reports the outcome of each record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::batch::Batch;
use super::lane::Lane;
use super::{Shared, calling};
use crate::{Error, PutRecord, Receipt, Result, ShardId, extend};

/// Sends what comes through a lane until the lane is closed and empty.
pub(super) fn run(shared: &Shared, lane: &Lane) {
    calling::send_for(calling::address_of(shared));
    let _last = LastWord { shared, lane };
    while let Some(batch) = lane.next(shared.settings.limits.linger) {
        InFlight::new(shared, lane, batch).send();
    }
}

/// A guard that leaves nobody waiting when a sender ends, even if it ends with a panic in the caller's clock.
struct LastWord<'a> {
    shared: &'a Shared,
    lane: &'a Lane,
}

impl Drop for LastWord<'_> {
    fn drop(&mut self) {
        let (shared, lane) = (self.shared, self.lane);
        for batch in lane.abandon() {
            drop(InFlight::new(shared, lane, batch));
        }
    }
}

/// Why records have to be put again.
struct Refusal {
    error: Error,
    /// When to do so, if a limit was reached.
    retry_after: Option<Duration>,
}

/// A batch that is being sent. Dropping it ends the batch: records without an outcome by then fail with `Closed`.
struct InFlight<'a> {
    shared: &'a Shared,
    lane: &'a Lane,
    batch: Batch,
    /// The records that have no outcome yet.
    left: Vec<u32>,
}

impl<'a> InFlight<'a> {
    fn new(shared: &'a Shared, lane: &'a Lane, batch: Batch) -> Self {
        let left = (0..batch.len() as u32).collect();
        Self { shared, lane, batch, left }
    }

    fn send(mut self) {
        let settings = &self.shared.settings;
        let mut pause = settings.backoff.first;
        while let Some(refusal) = self.write() {
            let wait = match refusal.retry_after {
                Some(retry_after) => retry_after.min(settings.backoff.most),
                None => {
                    let longer = pause.saturating_mul(2).min(settings.backoff.most);
                    std::mem::replace(&mut pause, longer)
                }
            };
            self.expire(refusal.error);
            if self.left.is_empty() {
                return;
            }
            // Nothing in this lane overtakes a record that is retried.
            std::thread::sleep(settings.time_to_live.map_or(wait, |time| wait.min(time)));
        }
    }

    /// Puts the remaining records. Returns why some of them have to be put again, if so.
    fn write(&mut self) -> Option<Refusal> {
        let records: Vec<PutRecord<'_>> = self.left.iter().map(|&at| self.batch.record(at)).collect();
        let outcomes = match self.shared.stream.put_batch(&records) {
            Ok(outcomes) => outcomes,
            Err(error) => vec![Err(error); records.len()],
        };
        let mut full_disk = None;
        let mut throttled: BTreeMap<ShardId, (Duration, Error)> = BTreeMap::new();
        let mut told = Vec::with_capacity(outcomes.len());
        for (at, outcome) in std::mem::take(&mut self.left).into_iter().zip(outcomes) {
            match outcome {
                Err(error @ Error::StorageFull(_)) => {
                    self.left.push(at);
                    full_disk = Some(error);
                }
                Err(error @ Error::Throttled { shard, retry_after }) => {
                    self.left.push(at);
                    // The last record of a shard waits longest, for all before it.
                    throttled.insert(shard, (retry_after, error));
                }
                outcome => told.push((at, outcome)),
            }
        }
        self.tell(told);
        let first = throttled.into_values().min_by_key(|&(retry_after, _)| retry_after);
        let throttled = first.map(|(after, error)| Refusal { error, retry_after: Some(after) });
        full_disk.map(|error| Refusal { error, retry_after: None }).or(throttled)
    }

    /// Fails the remaining records that are too old. Only after an attempt, so that no record is lost to a machine that sleeps
    /// while the disk has room for it.
    fn expire(&mut self, cause: Error) {
        let Some(time_to_live) = self.shared.settings.time_to_live else { return };
        let now = self.shared.elapsed();
        let batch = &self.batch;
        let old = self.left.extract_if(.., |at| batch.age(*at, now) >= time_to_live);
        let error = Error::ProducerExpired { cause: Arc::new(cause) };
        let expired = old.map(|at| (at, Err(error.clone()))).collect();
        self.tell(expired);
    }

    /// Reports the outcomes of some records, by their places.
    fn tell(&mut self, told: Vec<(u32, Result<Receipt>)>) {
        if told.is_empty() {
            return;
        }
        if let Some(error) = told.iter().find_map(|(_, outcome)| outcome.as_ref().err()) {
            self.shared.note_error(error);
        }
        self.batch.outcomes().tell(self.batch.len(), &told);
        if self.left.is_empty() {
            // Before the callbacks, because they may put.
            self.give_back();
        }
        for (at, outcome) in told {
            if let Some(callback) = self.batch.take_callback(at) {
                // A panic is the caller's own, has already been reported, and must not keep other records from their outcomes.
                let _ = extend::run_callback(|| callback(outcome));
            }
        }
    }

    fn give_back(&mut self) {
        self.shared.budget.give_back(std::mem::take(&mut self.batch.charge));
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.left);
        self.tell(left.into_iter().map(|at| (at, Err(Error::Closed))).collect());
        self.give_back();
        let count = self.batch.len();
        self.lane.finish(count, self.batch.take_buffers(self.shared.settings.limits.bytes));
    }
}
