//! One lane of a shard: which batch its function gets next, and what its answers mean, without a disk, a clock or a thread.
//!
//! A lane has the records of some keys, in order, and one batch in work at a time. A batch is a stack of **parts**: usually one, and more if
//! it has records of several windows, or was bisected. The part on top is tried until it is done or given up.

use std::sync::Arc;
use std::time::Duration;

use super::discarded::{DiscardReason, Discarded};
use super::event_time::When;
use super::invocation::{Failure, Invocation, Response, Window};
use super::part::{Part, Span};
use super::queue::Queue;
use super::rules::Rules;
use super::seen::{Now, Seen};
use super::slice::{Slice, count, split_off_front};
use super::stats::Counts;
use super::windows::{Over, Windows};
use crate::{Record, SequenceNumber, ShardId, Timestamp};

/// The place from which a lane has to read again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Behind {
    pub(super) from: SequenceNumber,
    /// The watermark there, by event time.
    pub(super) watermark: Timestamp,
}

#[derive(Debug)]
pub(super) struct Lane {
    shard: ShardId,
    state_bytes_max: usize,
    /// What waits to become a batch.
    queue: Queue,
    /// The lane was full when this record came. It and those behind it have to be read again.
    pub(super) behind: Option<Behind>,
    /// The batch in work. The last part comes first.
    parts: Vec<Part>,
    /// The batch has records of several windows, which are interleaved.
    is_mixed: bool,
    /// What was given up and is not yet at its destination.
    report: Option<Discarded>,
    failures_in_a_row: u32,
    waits_until: Option<Duration>,
    /// The function runs, or the destination is written.
    is_running: bool,
    windows: Windows,
    /// What may be committed while the current state may not: a batch is mixed, something is on its way to the destination, or the states are too
    /// large.
    saved: Option<Saved>,
}

/// How far a lane is, as it may be committed.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    /// The first record of the lane that is not done, and the watermark there. If there is none, everything that was read is done.
    pub(super) first_open: Option<(SequenceNumber, Timestamp)>,
    pub(super) windows: Windows,
}

/// What a lane wants next.
#[derive(Debug)]
pub(super) enum Next {
    /// A record, or the end of what runs.
    Nothing,
    /// To be asked again at this time of [`Now::elapsed`].
    Wait(Duration),
    /// To be asked again once everything that has arrived by now is known to be read.
    WaitForRead,
    /// A call of the function.
    Call(Invocation),
    /// A write of this to its destination.
    Report(Discarded),
}

impl Lane {
    /// Returns one of this many lanes of a shard.
    pub(super) fn new(shard: ShardId, lanes: usize, windows: Windows, rules: &Rules) -> Self {
        Self {
            shard: rules.origin.unwrap_or(shard),
            state_bytes_max: rules.states_bytes_max / lanes,
            queue: Queue::default(),
            behind: None,
            parts: vec![],
            is_mixed: false,
            report: None,
            failures_in_a_row: 0,
            waits_until: None,
            is_running: false,
            windows,
            saved: None,
        }
    }

    /// Returns whether nothing waits to become a batch.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns whether all records that came are done.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.behind.is_none() && self.parts.is_empty() && self.report.is_none()
    }

    pub(super) fn windows(&self) -> &Windows {
        &self.windows
    }

    pub(super) fn is_full(&self, rules: &Rules) -> bool {
        self.queue.is_full(rules)
    }

    /// Returns whether the lane should get more.
    pub(super) fn has_room(&self, rules: &Rules) -> bool {
        self.behind.is_none() && self.queue.has_at_most(rules, 2)
    }

    /// Returns whether the lane may soon have nothing left to do.
    pub(super) fn is_low(&self, rules: &Rules) -> bool {
        self.queue.has_at_most(rules, 4)
    }

    pub(super) fn is_running(&self) -> bool {
        self.is_running
    }

    /// Adds records. They come after all that the lane has.
    pub(super) fn push(&mut self, slice: Slice, now: Now) {
        self.queue.push(slice, now.elapsed);
    }

    /// Returns how far the lane is.
    pub(super) fn saved(&self) -> Saved {
        let in_work = self.parts.iter().rev().find_map(|part| part.slices.first());
        let first = in_work.or_else(|| self.queue.front().map(|(slice, _)| slice));
        let first = first.map(|slice| (slice.first_sequence(), slice.watermark()));
        let first_open = first.or(self.behind.map(|behind| (behind.from, behind.watermark)));
        match &self.saved {
            // If all was done then, what is open has come since.
            Some(saved) => Saved { first_open: saved.first_open.or(first_open), ..saved.clone() },
            None => Saved { first_open, windows: self.windows.clone() },
        }
    }

    /// Keeps what may be committed, unless the current state may be.
    fn save(&mut self, before: Saved) {
        let is_amid = self.is_mixed && !self.parts.is_empty();
        let is_held = is_amid || self.report.is_some() || self.windows.has_early_end();
        self.saved = is_held.then_some(before);
    }

    /// Returns whether something is done that may not be committed yet.
    #[cfg(test)]
    pub(super) fn is_held(&self) -> bool {
        self.saved.is_some()
    }

    /// Returns what to do next. If it is a call or a report, [`finish`](Self::finish) or [`finish_report`](Self::finish_report) has to follow.
    pub(super) fn next(&mut self, rules: &Rules, now: Now, seen: &Seen, counts: &mut Counts) -> Next {
        if self.is_running {
            return Next::Nothing;
        }
        if let Some(until) = self.waits_until.filter(|&until| until > now.elapsed) {
            return Next::Wait(until);
        }
        loop {
            if let Some(report) = &self.report {
                self.is_running = true;
                return Next::Report(report.clone());
            }
            if self.parts.is_empty()
                && let Some(instead) = self.form(rules, now, seen)
            {
                return instead;
            }
            if self.refuse(rules, now, counts) {
                continue;
            }
            let Some(part) = self.parts.last_mut() else { continue };
            part.attempts += 1;
            if let Some(span) = part.window.filter(|_| !part.is_final) {
                self.windows.open_if_new(span);
            }
            let window = part.window.and_then(|span| self.windows.get(span));
            self.is_running = true;
            return Next::Call(Invocation {
                shard: self.shard,
                slices: part.slices.clone(),
                attempt: part.attempts,
                state: window.map_or_else(Arc::default, |window| Arc::clone(&window.state)),
                window: window.map(|window| Window {
                    start: window.span.start,
                    end: window.span.end,
                    is_final: part.is_final,
                    is_terminated_early: window.is_terminated_early,
                }),
            });
        }
    }

    /// Makes the next batch, or returns what to do instead.
    fn form(&mut self, rules: &Rules, now: Now, seen: &Seen) -> Option<Next> {
        let is_all_read = self.queue.is_empty() && self.behind.is_none();
        if let Some(end) = self.windows.first_end() {
            let first = self.queue.front().and_then(|(slice, _)| slice.moments().next());
            let reached = match first {
                Some(first) => first.watermark,
                None if is_all_read => seen.reached(rules),
                None => Timestamp::default(),
            };
            match self.windows.end(reached, is_all_read && seen.is_over(rules)) {
                Over::Due(span) => {
                    self.call_finally(rules, span);
                    return None;
                }
                Over::NotCommitted => return Some(Next::Nothing),
                Over::No if is_all_read => {
                    let left = seen.wait(rules, end, now);
                    return Some(match left.is_zero() {
                        true => Next::WaitForRead,
                        false => Next::Wait(now.elapsed + left),
                    });
                }
                Over::No => {}
            }
        }
        let Some((_, since)) = self.queue.front() else { return Some(Next::Nothing) };
        let flush_at = *since + rules.batching_window;
        let is_full =
            self.queue.records() >= rules.batch_records || self.behind.is_some() || self.is_full(rules);
        if !is_full && !seen.is_last && flush_at > now.elapsed {
            return Some(Next::Wait(flush_at));
        }
        let before = self.saved();
        self.parts = match rules.tumbling_window {
            Some(_) => self.windows.take(rules, &mut self.queue),
            None => vec![Part::new(self.queue.take(rules, None), None, rules.retries)],
        };
        self.is_mixed = self.parts.len() > 1;
        self.save(before);
        None
    }

    /// Notes that the end of the windows up to this time is committed.
    pub(super) fn note_commit(&mut self, end: Timestamp) {
        self.windows.note_commit(end);
    }

    /// Begins the last call for a window, before what is left of the batch.
    fn call_finally(&mut self, rules: &Rules, window: Span) {
        let part = Part::new(vec![], Some(window), rules.retries);
        self.parts.push(Part { is_final: true, ..part });
    }

    /// Gives up the records of the part on top that the function does not get: those that are late or without an event time, and those that are
    /// too old. Returns whether there were any.
    fn refuse(&mut self, rules: &Rules, now: Now, counts: &mut Counts) -> bool {
        let Some(part) = self.parts.last() else { return false };
        if let Some(reason) = part.refused {
            let first = part.slices.first().and_then(|slice| slice.moments().next());
            let error = first.and_then(|moment| match moment.when {
                When::Unknown(error) => Some(error),
                _ => None,
            });
            let all = count(&part.slices);
            self.discard(rules, now, all, reason, error.as_deref(), counts);
            return true;
        }
        let Some(age_max) = rules.record_age_max else { return false };
        let is_old = |record: &Record<'_>| now.time.since(record.timestamp()) > age_max;
        let old = part.slices.iter().flat_map(Slice::records).take_while(is_old).count();
        if old > 0 {
            self.discard(rules, now, old, DiscardReason::RecordAgeExceeded, None, counts);
        }
        old > 0
    }

    /// Notes what the function has answered.
    pub(super) fn finish(&mut self, rules: &Rules, now: Now, response: Response, counts: &mut Counts) {
        self.is_running = false;
        let Some(part) = self.parts.last_mut() else { return };
        let is_windowed = part.window.is_some() && !part.is_final;
        let done = match response.failure {
            Some(Failure::All(reason)) => return self.fail(rules, now, &reason, counts),
            _ if is_windowed && response.state.is_none() => {
                let reason = "the function has not answered with the state of its window";
                return self.fail(rules, now, reason, counts);
            }
            None => count(&part.slices),
            Some(Failure::Items(failed)) => {
                let sequences = part.slices.iter().flat_map(Slice::records).map(|record| record.sequence());
                let is_known = |number: &SequenceNumber| sequences.clone().any(|known| known == *number);
                if let Some(unknown) = failed.iter().find(|number| !is_known(number)) {
                    let reason = format!(
                        "the function has answered that record {unknown} failed, which it did not get"
                    );
                    return self.fail(rules, now, &reason, counts);
                }
                let lowest = failed.into_iter().min();
                sequences.take_while(|&number| Some(number) < lowest).count()
            }
        };
        if done == 0 && !part.slices.is_empty() {
            return self.fail(rules, now, "the function has answered that its first record failed", counts);
        }
        counts.records += done as u64;
        self.settle(rules, now, done, response.state, counts);
    }

    /// Takes the first records of the part on top as done.
    fn settle(&mut self, rules: &Rules, now: Now, done: usize, state: Option<Vec<u8>>, counts: &mut Counts) {
        let before = self.saved();
        let Some(mut part) = self.parts.pop() else { return };
        match (part.window, state) {
            (Some(span), _) if part.is_final => self.windows.close(span),
            (Some(span), Some(state)) => self.windows.set_state(span, state),
            _ => {}
        }
        (self.failures_in_a_row, self.waits_until) = (0, None);
        split_off_front(&mut part.slices, done);
        if !part.slices.is_empty() {
            self.parts.push(part);
            match rules.bisect {
                // The batch is split there, which is no attempt of its own.
                true => self.pause(rules, now),
                false => self.retry(rules, now, "the function has answered that this record failed", counts),
            }
        }
        if let Some(window) = self.windows.end_early(self.state_bytes_max) {
            self.call_finally(rules, window);
        }
        self.save(before);
    }

    /// Notes that the part on top has failed as a whole.
    fn fail(&mut self, rules: &Rules, now: Now, reason: &str, counts: &mut Counts) {
        counts.errors += 1;
        counts.last_error = Some(reason.to_owned());
        let Some(part) = self.parts.last_mut() else { return };
        let records = count(&part.slices);
        if rules.bisect && records > 1 {
            let slices = split_off_front(&mut part.slices, records / 2);
            let front = Part { slices, ..*part };
            self.parts.push(front);
            self.pause(rules, now);
        } else {
            self.retry(rules, now, reason, counts);
        }
    }

    /// Tries the part on top again, or gives it up.
    fn retry(&mut self, rules: &Rules, now: Now, reason: &str, counts: &mut Counts) {
        let Some(part) = self.parts.last_mut() else { return };
        if part.retries_left == Some(0) {
            let all = count(&part.slices);
            return self.discard(
                rules,
                now,
                all,
                DiscardReason::RetryAttemptsExhausted,
                Some(reason),
                counts,
            );
        }
        part.retries_left = part.retries_left.map(|left| left - 1);
        self.pause(rules, now);
    }

    fn pause(&mut self, rules: &Rules, now: Now) {
        self.failures_in_a_row += 1;
        self.waits_until = Some(now.elapsed + rules.pause(self.failures_in_a_row));
    }

    /// Gives up the first records of the part on top, or the last call for a window.
    fn discard(
        &mut self,
        rules: &Rules,
        now: Now,
        records: usize,
        reason: DiscardReason,
        error: Option<&str>,
        counts: &mut Counts,
    ) {
        let before = self.saved();
        let Some(mut part) = self.parts.pop() else { return };
        let slices = split_off_front(&mut part.slices, records);
        counts.discarded += records as u64;
        if reason == DiscardReason::AllowedLatenessExceeded {
            counts.late += records as u64;
        }
        if part.refused.is_some() && error.is_some() {
            counts.last_error = error.map(str::to_owned);
        }
        (self.failures_in_a_row, self.waits_until) = (0, None);
        let discarded = Discarded {
            shard: self.shard,
            reason,
            error: error.map(str::to_owned),
            attempts: part.attempts,
            time: now.time,
            window: part.window.map(|window| window.start),
            slices,
            is_from_elsewhere: rules.origin.is_some(),
        };
        match part.window {
            Some(window) if part.is_final => self.windows.close(window),
            _ if !part.slices.is_empty() => self.parts.push(part),
            _ => {}
        }
        // It does not count as done until it is there.
        self.report = rules.has_destination.then_some(discarded);
        self.save(before);
    }

    /// Notes whether what was given up is at its destination.
    pub(super) fn finish_report(
        &mut self,
        rules: &Rules,
        now: Now,
        error: Option<String>,
        counts: &mut Counts,
    ) {
        self.is_running = false;
        match error {
            Some(error) => {
                counts.destination_errors += 1;
                counts.last_error = Some(error);
                self.pause(rules, now);
            }
            None => {
                self.report = None;
                (self.failures_in_a_row, self.waits_until) = (0, None);
                let before = self.saved();
                self.save(before);
            }
        }
    }
}
