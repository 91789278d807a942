//! Decides which partition of an origin is read next, reads it, and has the core put what was read.
//!
//! One thread at a time reads a partition, and none before its parents were read to their ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::core::Core;
use super::origin::{Incoming, Origin, Partition};
use super::slots::{Slot, Slots};
use super::stats::MirrorStats;
use crate::relay::failure::{Failure, Remedy};
use crate::{Error, Result, SECOND, event};

/// The partitions are listed this often, and whenever one ends.
const LIST_INTERVAL: Duration = Duration::from_secs(30);
/// How long to wait after a failure, the first time and at most, unless the reader sets the pause.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// A checkpoint is due after this time, by the stream's clock.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// How often a waiting thread checks whether a checkpoint is due.
const LOOK: Duration = Duration::from_millis(500);

/// The state that the threads of a mirror share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) core: Core,
    pub(super) origin: Arc<dyn Origin>,
    pub(super) records_max: usize,
    pub(super) poll_interval: Duration,
    slots: Mutex<Slots>,
    /// Notified when a thread may find work, and when the mirror ends.
    changed: Condvar,
}

enum Task {
    List,
    Read(String),
    Checkpoint,
    Stop,
}

impl Shared {
    pub(super) fn new(
        core: Core,
        origin: Arc<dyn Origin>,
        records_max: usize,
        poll_interval: Duration,
    ) -> Self {
        let checkpoint_at = core.stream.clock().elapsed() + CHECKPOINT_INTERVAL;
        let slots = Mutex::new(Slots::new(checkpoint_at));
        Self { core, origin, records_max, poll_interval, slots, changed: Condvar::new() }
    }

    /// Works until the mirror is stopped.
    pub(super) fn run(&self) {
        loop {
            let outcome = match self.next_task() {
                Task::Stop => return,
                Task::List => self.list(),
                Task::Read(id) => self.read(&id),
                Task::Checkpoint => self.note_failed_checkpoint(self.core.checkpoint()),
            };
            if let Err(error) = outcome {
                self.end_with(error);
            }
        }
    }

    fn next_task(&self) -> Task {
        let mut slots = self.slots.lock();
        loop {
            if slots.is_stopped {
                return Task::Stop;
            }
            let elapsed = self.core.stream.clock().elapsed();
            if elapsed >= slots.checkpoint_at {
                slots.checkpoint_at = elapsed + CHECKPOINT_INTERVAL;
                return Task::Checkpoint;
            }
            let now = Instant::now();
            if slots.list_at.is_some_and(|at| at <= now) {
                slots.list_at = None;
                return Task::List;
            }
            let mut next_at = slots.list_at.unwrap_or(now + LOOK).min(now + LOOK);
            let readable = self.readable_in(&slots);
            let first = readable.into_iter().min_by_key(|id| slots.by_id[id].next_at);
            if let Some(id) = first {
                let at = slots.by_id[&id].next_at;
                if at <= now {
                    slots.by_id.entry(id.clone()).and_modify(|slot| slot.is_busy = true);
                    return Task::Read(id);
                }
                next_at = next_at.min(at);
            }
            self.changed.wait_until(&mut slots, next_at);
        }
    }

    /// Returns the partitions that a thread may read.
    fn readable_in(&self, slots: &Slots) -> Vec<String> {
        let is_readable = |(id, slot): &(&String, &Slot)| {
            !slot.is_busy
                && !self.core.is_over(id)
                && slot.parents.iter().all(|parent| self.core.is_over(parent))
        };
        slots.by_id.iter().filter(is_readable).map(|(id, _)| id.clone()).collect()
    }

    /// Lists the partitions.
    pub(super) fn list(&self) -> Result<()> {
        let wanted = self.slots.lock().lists_wanted;
        let listing = self.origin.list();
        let adopted = match &listing {
            Ok(listing) => self.core.adopt(listing),
            Err(_) => Ok(()),
        };
        let mut slots = self.slots.lock();
        let interval = match (&listing, adopted) {
            (Ok(listing), Ok(())) => {
                self.take_over(&mut slots, &listing.partitions);
                slots.lists_done = wanted;
                if slots.lists_wanted == wanted { LIST_INTERVAL } else { Duration::ZERO }
            }
            (Ok(_), Err(error)) if is_final(&error) => return Err(error),
            (Ok(_), Err(error)) => self.note_list_failure(&mut slots, error.to_string()),
            (Err(failure), _) => {
                slots.counts.throttled += u64::from(failure.remedy == Remedy::SlowDown);
                self.note_list_failure(&mut slots, failure.to_string())
            }
        };
        slots.counts.requests += 1;
        slots.list_at = Some(Instant::now() + interval);
        self.changed.notify_all();
        Ok(())
    }

    fn note_list_failure(&self, slots: &mut Slots, error: String) -> Duration {
        let pause = pause_after(slots.list_failures);
        slots.list_failures += 1;
        self.note_error(slots, error);
        pause
    }

    fn take_over(&self, slots: &mut Slots, partitions: &[Partition]) {
        slots.list_failures = 0;
        slots.has_listed = true;
        let mut gone = vec![];
        for (id, slot) in &mut slots.by_id {
            if slot.is_missing && !partitions.iter().any(|partition| partition.id == *id) {
                gone.push(id.clone());
            }
            slot.is_missing = false;
        }
        for id in gone {
            slots.counts.skipped += 1;
            self.note_gap(&id, "it has expired before it was read to its end");
            self.core.end(&id);
        }
        for partition in partitions {
            let slot = slots.by_id.entry(partition.id.clone()).or_insert_with(|| Slot::new(vec![]));
            slot.parents.clone_from(&partition.parents);
        }
        // A partition that is no longer listed may still have to be read, which shows whether it is gone.
        for (id, state) in self.core.partitions() {
            if !state.is_ended {
                slots.by_id.entry(id).or_insert_with(|| Slot::new(vec![]));
            }
        }
        let core = &self.core;
        slots.by_id.retain(|id, slot| {
            slot.is_busy || !core.is_over(id) || partitions.iter().any(|partition| partition.id == *id)
        });
    }

    fn note_gap(&self, partition: &str, reason: &str) {
        event!(
            warn,
            "records of the origin of a mirror were dropped before they were read",
            stream = self.core.stream.describe().path.display(),
            origin = self.origin.name(),
            partition = partition,
            reason = reason,
        );
    }

    fn note_error(&self, slots: &mut Slots, error: String) {
        slots.counts.failing_since.get_or_insert(self.core.stream.now());
        slots.counts.last_error = Some(error);
    }

    /// Reads once from a partition, and puts what was read. Its slot must be busy, and is free again when it returns.
    pub(super) fn read(&self, id: &str) -> Result<()> {
        let kept = self.slots.lock().by_id.get_mut(id).and_then(|slot| slot.reader.take());
        let mut reader = match kept {
            Some(reader) => reader,
            None => match self.core.next_of(id) {
                Some(from) => self.origin.reader(id, &from),
                None => {
                    self.free(id, |_, _| {});
                    return Ok(());
                }
            },
        };
        let requests_before = reader.requests();
        let outcome = reader.read(self.records_max);
        let requests = reader.requests() - requests_before;
        let batch = match outcome {
            Ok(batch) => batch,
            Err(failure) => {
                let wait = reader.wait();
                self.free(id, |slots, slot| {
                    slots.counts.requests += requests;
                    slot.next_at = Instant::now() + wait;
                    slot.reader = Some(reader);
                    self.note_read_failure(slots, slot, &failure);
                });
                return Ok(());
            }
        };
        {
            let mut slots = self.slots.lock();
            slots.counts.requests += requests;
            slots.counts.failing_since = None;
            slots.counts.skipped += u64::from(batch.has_gap);
            if let Some(slot) = slots.by_id.get_mut(id) {
                slot.behind_latest = Some(batch.behind_latest);
                slot.is_at_tip &= batch.records.is_empty();
            }
        }
        if batch.has_gap {
            self.note_gap(
                id,
                "the record that was read last, and maybe others after it, are no longer there",
            );
        }
        if !self.put(id, &batch.records)? {
            return Ok(());
        }
        if batch.is_end {
            self.core.end(id);
        }
        let is_idle = batch.is_at_tip && batch.records.is_empty();
        let wait = reader.wait().max(if is_idle { self.poll_interval } else { Duration::ZERO });
        self.free(id, |slots, slot| {
            slot.next_at = Instant::now() + wait;
            slot.is_at_tip = batch.is_at_tip;
            if batch.is_end {
                slots.want_list(Duration::ZERO);
            } else {
                slot.reader = Some(reader);
            }
        });
        Ok(())
    }

    fn note_read_failure(&self, slots: &mut Slots, slot: &mut Slot, failure: &Failure) {
        match failure.remedy {
            Remedy::SlowDown => slots.counts.throttled += 1,
            Remedy::Missing => {
                slot.is_missing = true;
                slots.want_list(SECOND);
            }
            Remedy::Retry | Remedy::Refused => {}
            #[cfg(feature = "relay-kinesis")]
            Remedy::Renew => {}
        }
        self.note_error(slots, failure.to_string());
    }

    /// Frees a slot.
    fn free(&self, id: &str, change: impl FnOnce(&mut Slots, &mut Slot)) {
        let mut slots = self.slots.lock();
        if let Some(mut slot) = slots.by_id.remove(id) {
            slot.is_busy = false;
            change(&mut slots, &mut slot);
            slots.by_id.insert(id.to_owned(), slot);
        }
        drop(slots);
        self.changed.notify_all();
    }

    /// Puts records until all are in the stream. Returns false if the mirror was stopped before.
    fn put(&self, id: &str, records: &[Incoming]) -> Result<bool> {
        let mut failures = 0;
        loop {
            let pause = match self.core.put(id, records) {
                Ok(()) => {
                    if failures > 0 {
                        self.slots.lock().counts.failing_since = None;
                    }
                    return Ok(true);
                }
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => {
                    let pause = match error {
                        Error::Throttled { retry_after, .. } => retry_after,
                        _ => pause_after(failures),
                    };
                    self.note_error(&mut self.slots.lock(), error.to_string());
                    pause
                }
            };
            failures += 1;
            if !self.pause(pause) {
                return Ok(false);
            }
        }
    }

    /// Waits, and returns false if the mirror was stopped.
    fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut slots = self.slots.lock();
        while !slots.is_stopped && Instant::now() < until {
            self.changed.wait_until(&mut slots, until);
        }
        !slots.is_stopped
    }

    fn note_failed_checkpoint(&self, outcome: Result<()>) -> Result<()> {
        match outcome {
            Err(error) if !is_final(&error) => {
                self.note_error(&mut self.slots.lock(), error.to_string());
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn end_with(&self, error: Error) {
        let mut slots = self.slots.lock();
        self.note_error(&mut slots, error.to_string());
        slots.error.get_or_insert(error);
        slots.is_stopped = true;
        drop(slots);
        self.changed.notify_all();
    }

    /// Makes all threads end.
    pub(super) fn stop(&self) {
        self.slots.lock().is_stopped = true;
        self.origin.interrupt();
        self.changed.notify_all();
    }

    /// Returns why the mirror has ended by itself, if it has.
    pub(super) fn error(&self) -> Option<Error> {
        self.slots.lock().error.clone()
    }

    pub(super) fn is_over(&self) -> bool {
        self.slots.lock().is_stopped
    }

    /// Returns whether all partitions were read to their ends or to their tips.
    pub(super) fn is_caught_up(&self) -> bool {
        let slots = self.slots.lock();
        slots.has_listed
            && slots.lists_done == slots.lists_wanted
            && slots.by_id.iter().all(|(id, slot)| self.core.is_over(id) || slot.is_at_tip)
    }

    pub(super) fn stats(&self) -> MirrorStats {
        let (core, positions) = (self.core.counts(), self.core.partitions());
        self.slots.lock().stats(&core, positions)
    }

    /// Marks a partition that may be read as busy, for tests that choose themselves what is read.
    #[cfg(test)]
    pub(super) fn take(&self, pick: usize) -> Option<String> {
        let mut slots = self.slots.lock();
        let readable = self.readable_in(&slots);
        let id = readable.get(pick % readable.len().max(1))?.clone();
        slots.by_id.get_mut(&id)?.is_busy = true;
        Some(id)
    }
}

/// Returns whether a mirror cannot continue after an error.
fn is_final(error: &Error) -> bool {
    matches!(error, Error::Closed | Error::Poisoned(_) | Error::Corrupt(_))
}

fn pause_after(failures: u32) -> Duration {
    (PAUSES.0 * (1 << failures.min(10))).min(PAUSES.1)
}
