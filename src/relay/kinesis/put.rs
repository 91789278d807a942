//! Sending batches to Kinesis: request by request, until all of a batch is stored or given up.

use std::time::Duration;

use parking_lot::Mutex;

use super::super::link::Link;
use super::put_plan::{Batch, Limits, Plan, Unit};
use super::put_prepare::Rules;
use super::put_shards::{FarShard, Shards};
use crate::{Invocation, Response};

/// How long to wait after a request that the limits of a shard have cut short, so that the next one has more than a few records.
const PACED_PAUSE: Duration = Duration::from_millis(50);

/// The outcome of a record in a request that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is in this shard.
    Stored { shard: String },
    /// It came too fast.
    Throttled(String),
    /// It failed, and should be sent again.
    Failed(String),
}

/// Why a request failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It came too fast.
    Throttled(String),
    /// It contains something that is never accepted.
    Refused(String),
    /// A retry may succeed.
    Unavailable(String),
}

/// The other side.
pub(super) trait Far: Send + Sync {
    /// Sends a request. Returns the outcome of each record, in order. It may take the data out of units that are not aggregates.
    fn put(&self, units: &mut [Unit]) -> Result<Vec<Outcome>, Failure>;

    /// Lists the shards.
    fn shards(&self) -> Result<Vec<FarShard>, String>;
}

/// How to send.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) rules: Rules,
    pub(super) limits: Limits,
    pub(super) is_paced: bool,
}

/// The state that all lanes of a relay share.
pub(super) struct Sender<F> {
    far: F,
    settings: Settings,
    shards: Mutex<Shards>,
    /// Held while the list of shards is read.
    listing: Mutex<()>,
}

/// How a batch continues after failures.
struct Pace {
    /// How many requests in a row failed as a whole.
    failures: u32,
    /// How many records the next request has at most. It is halved while a request is refused, until the refused record stands alone.
    records: usize,
    /// Nothing is sent before.
    not_before: Duration,
}

impl<F: Far> Sender<F> {
    pub(super) fn new(far: F, settings: Settings) -> Self {
        let shards = Mutex::new(Shards::new(settings.is_paced));
        Self { far, settings, shards, listing: Mutex::default() }
    }

    /// Sends a batch. Returns when all of it is stored or given up, or the link closes.
    pub(super) fn carry(&self, invocation: &Invocation, link: &Link) -> Response {
        let (mut items, mut refused) = (vec![], vec![]);
        for record in invocation.records() {
            match self.settings.rules.prepare(invocation.shard(), &record) {
                Ok(item) => items.push(item),
                Err(reason) => refused.push((record.sequence(), reason)),
            }
        }
        // First, so that nothing is sent again if the link closes meanwhile.
        for (sequence, reason) in refused {
            if !discard(link, invocation, sequence, &reason) {
                return Response::failed("the relay ends");
            }
        }
        let mut batch = Batch::new(items);
        let mut pace =
            Pace { failures: 0, records: self.settings.limits.records, not_before: Duration::ZERO };
        while !batch.is_empty() && !link.is_closing() && link.wait_until(pace.not_before) {
            self.look_at_shards(&batch, link);
            self.send(&mut batch, &mut pace, invocation, link);
        }
        match batch.first_left() {
            Some(first) => Response::failed_from(first),
            None => Response::done(),
        }
    }

    /// Sends a request with what may be sent now, or notes when more may be sent.
    fn send(&self, batch: &mut Batch<'_>, pace: &mut Pace, invocation: &Invocation, link: &Link) {
        let begun = link.elapsed();
        let is_alone = pace.records == 0;
        let limits = Limits {
            records: pace.records.max(1),
            aggregate_bytes: self.settings.limits.aggregate_bytes.filter(|_| !is_alone),
            ..self.settings.limits
        };
        let Plan { mut units, next_at, is_paced } = batch.plan(limits, &mut self.shards.lock(), begun);
        let paced_at = if is_paced { begun + PACED_PAUSE } else { Duration::ZERO };
        pace.not_before = paced_at;
        if units.is_empty() {
            pace.not_before = next_at.unwrap_or(begun + PACED_PAUSE).max(paced_at);
            return;
        }
        link.counts.lock().requests += 1;
        match self.far.put(&mut units) {
            Ok(outcomes) if outcomes.len() == units.len() => {
                pace.failures = 0;
                pace.records = (2 * pace.records).clamp(1, self.settings.limits.records);
                self.settle(batch, &units, outcomes, link);
            }
            Ok(outcomes) => {
                let text = format!("the answer has {} results for {} records", outcomes.len(), units.len());
                pace.fail(&units, Failure::Unavailable(text), link);
            }
            Err(Failure::Refused(text)) if self.is_answered(link) => {
                let mut sequences = units.iter().flat_map(|unit| batch.sequences(unit));
                if !is_alone && (units.len() > 1 || units[0].is_aggregate) {
                    link.note_error(text);
                    pace.records = units.len() / 2;
                    link.counts.lock().retries += units.len() as u64;
                } else if sequences.all(|sequence| discard(link, invocation, sequence, &text)) {
                    units.iter().for_each(|unit| batch.finish(unit));
                }
            }
            Err(failure) => pace.fail(&units, failure, link),
        }
        batch.clean_up();
    }

    /// Returns whether a request has succeeded before: a refusal then concerns a record, and not this stream or this caller.
    fn is_answered(&self, link: &Link) -> bool {
        self.shards.lock().is_known() || link.counts.lock().sent > 0
    }

    fn settle(&self, batch: &mut Batch<'_>, units: &[Unit], outcomes: Vec<Outcome>, link: &Link) {
        let (mut sent, mut bytes, mut throttled, mut failed) = (0, 0, 0, 0);
        let mut error = None;
        self.look_again_at_shards(units, &outcomes, link);
        for (unit, outcome) in units.iter().zip(outcomes) {
            let again = match outcome {
                Outcome::Stored { shard } => {
                    sent += 1;
                    bytes += unit.bytes as u64;
                    let range = self.shards.lock().range_of(&shard);
                    if !batch.settle(unit, range) {
                        failed += 1;
                        error =
                            Some(format!("an aggregate came to {shard}, which does not own all of its keys"));
                    }
                    continue;
                }
                Outcome::Throttled(text) => {
                    throttled += 1;
                    text
                }
                Outcome::Failed(text) => {
                    failed += 1;
                    text
                }
            };
            error = Some(again);
            let now = link.elapsed();
            batch.fail(unit, now, |failures| link.pause(failures, unit.hash.get() as u64));
        }
        link.note_success(sent, bytes);
        let mut counts = link.counts.lock();
        counts.throttled += throttled;
        counts.partial_failures += failed;
        counts.retries += throttled + failed;
        counts.last_error = error.or(counts.last_error.take());
    }

    /// Reads the list of shards if somebody needs it and it is due.
    fn look_at_shards(&self, batch: &Batch<'_>, link: &Link) {
        let is_needed = self.settings.is_paced
            || self.settings.limits.aggregate_bytes.is_some()
            || batch.has_aggregates();
        let is_due = || is_needed && self.shards.lock().is_due(link.elapsed());
        if !is_due() {
            return;
        }
        let is_known = self.shards.lock().is_known();
        // A caller with an older list need not wait.
        let listing = if is_known { self.listing.try_lock() } else { Some(self.listing.lock()) };
        if listing.is_some() && is_due() {
            self.list(link);
        }
    }

    /// Notes which shards have got records. If aggregates went to unexpected shards, rereads the list immediately: it decides whether readers accept
    /// them.
    fn look_again_at_shards(&self, units: &[Unit], outcomes: &[Outcome], link: &Link) {
        let is_unexpected = || {
            let mut shards = self.shards.lock();
            let mut is_unexpected = false;
            for (unit, outcome) in units.iter().zip(outcomes) {
                if let Outcome::Stored { shard } = outcome {
                    is_unexpected |= !shards.note(shard, unit.hash) && unit.is_aggregate && shards.is_known();
                }
            }
            is_unexpected
        };
        if is_unexpected() {
            let _listing = self.listing.lock();
            // Another lane may have read it meanwhile.
            if is_unexpected() {
                self.list(link);
            }
        }
    }

    /// Reads the list of shards. The caller holds the lock for that.
    fn list(&self, link: &Link) {
        let list = self.far.shards();
        let mut shards = self.shards.lock();
        match list {
            Ok(list) => shards.set(list, link.elapsed()),
            Err(text) => {
                shards.note_failure(link.elapsed());
                drop(shards);
                link.note_error(text);
            }
        }
    }
}

impl Pace {
    /// Notes that a request failed as a whole.
    fn fail(&mut self, units: &[Unit], failure: Failure, link: &Link) {
        self.failures += 1;
        let salt = units.first().map_or(0, |unit| unit.hash.get() as u64);
        self.not_before = link.elapsed() + link.pause(self.failures, salt);
        link.counts.lock().retries += units.len() as u64;
        match failure {
            Failure::Throttled(text) => {
                link.counts.lock().throttled += units.len() as u64;
                link.note_error(text);
            }
            Failure::Refused(text) | Failure::Unavailable(text) => link.note_failure(text),
        }
    }
}

/// Gives up a record, and retries its destination as often as necessary. Returns `false` if the link closes before it is there.
fn discard(link: &Link, invocation: &Invocation, sequence: crate::SequenceNumber, reason: &str) -> bool {
    let mut failures = 0;
    while let Err(error) = link.discard(invocation, sequence, reason) {
        link.note_error(error);
        failures += 1;
        if !link.wait_until(link.elapsed() + link.pause(failures, sequence.get())) {
            return false;
        }
    }
    true
}
