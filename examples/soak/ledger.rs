//! The supervisor's record of promises: what the workers reported, and so what the stream must contain.

use std::collections::BTreeMap;

use streamlog::Timestamp;

use super::message::Promise;
use super::record::{KeyIndex, Number, name_of};

/// If a run has more snapshots than this, the ledger drops every other one of the older half. The remaining ones stay true, but are less
/// precise.
const SNAPSHOT_COUNT_MAX: usize = 1_024;

/// The promises of all runs that may still have records in the stream.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    runs: BTreeMap<u32, Run>,
    /// Records that arrived earlier than this may be gone.
    pub(crate) may_be_gone_before: Timestamp,
}

#[derive(Debug, Default)]
struct Run {
    /// Promises by key.
    promises: Vec<Promise>,
    /// For a point in time, the number of started records of each key: records with higher numbers arrived later.
    snapshots: Vec<(Timestamp, Vec<u64>)>,
}

impl Run {
    fn promise(&self, key: KeyIndex) -> Promise {
        self.promises.get(usize::from(key)).copied().unwrap_or_default()
    }
}

impl Ledger {
    /// Adds a worker's report of its progress.
    pub(crate) fn note(&mut self, run: u32, at: Timestamp, keys: Vec<Promise>) {
        let run = self.runs.entry(run).or_default();
        run.snapshots.push((at, keys.iter().map(|key| key.started).collect()));
        run.promises = keys;
        if run.snapshots.len() > SNAPSHOT_COUNT_MAX {
            let mut at = 0;
            run.snapshots.retain(|_| {
                at += 1;
                at % 2 == 1 || at > SNAPSHOT_COUNT_MAX / 2
            });
        }
    }

    /// Returns the number of the last record of a key that was acknowledged, unless it has expired.
    pub(crate) fn last_acknowledged(&self, key: KeyIndex) -> Option<Number> {
        let mut promised = self.runs.iter().map(|(&run, promised)| (run, promised.promise(key).acknowledged));
        let (run, acknowledged) = promised.rfind(|&(_, acknowledged)| acknowledged > 0)?;
        Some(Number { run, count: acknowledged - 1 })
    }

    /// Checks that no acknowledged record is missing between two adjacent records of a key. `next` is `None` at the end of the key's
    /// records.
    pub(crate) fn check_gap(&self, key: KeyIndex, last: Number, next: Option<Number>) -> Result<(), String> {
        let until = next.map_or(u32::MAX, |next| next.run);
        for (&run, promised) in self.runs.range(last.run..until.max(last.run)) {
            let promise = promised.promise(key);
            let there = if run == last.run { last.count + 1 } else { 0 };
            if promise.acknowledged > there {
                let what = if promise.durable > there { "P1 P2: synced" } else { "P1: returned" };
                let next = next.map_or("nothing".to_owned(), |next| format!("number {next}"));
                let Promise { acknowledged, durable, .. } = promise;
                return Err(format!(
                    "{what} puts are lost: after number {last} of {} comes {next}; in run {run} {acknowledged} puts of the key \
                     had returned, and {durable} were durable",
                    name_of(key)
                ));
            }
        }
        Ok(())
    }

    /// Returns the newest missing record of a key that was certainly put before the key's first remaining record, and a time at which it
    /// was not put yet.
    pub(crate) fn youngest_lost(&self, key: KeyIndex, first: Option<Number>) -> Option<(Number, Timestamp)> {
        let until = first.map_or(u32::MAX, |first| first.run);
        let within = first.filter(|first| first.count > 0);
        let within = within.map(|first| Number { run: first.run, count: first.count - 1 });
        let before = || {
            let mut promised = self.runs.range(..until).map(|(&run, promised)| (run, promised.promise(key)));
            let (run, promise) = promised.rfind(|(_, promise)| promise.acknowledged > 0)?;
            Some(Number { run, count: promise.acknowledged - 1 })
        };
        let lost = within.or_else(before)?;
        let snapshots = self.runs.get(&lost.run).map_or(&[][..], |run| &run.snapshots);
        let not_yet = snapshots.iter().rev().find(|(_, started)| started[usize::from(key)] <= lost.count);
        Some((lost, not_yet.map_or(Timestamp::default(), |(at, _)| *at)))
    }

    /// Drops the promises of a key before its first remaining record, because those records have expired.
    pub(crate) fn forget_before(&mut self, key: KeyIndex, first: Option<Number>) {
        let until = first.map_or(u32::MAX, |first| first.run);
        for (_, run) in self.runs.range_mut(..until) {
            if let Some(promise) = run.promises.get_mut(usize::from(key)) {
                *promise = Promise::default();
            }
        }
    }

    /// Drops the runs that have nothing left to check.
    pub(crate) fn forget_empty_runs(&mut self) {
        self.runs.retain(|_, run| run.promises.iter().any(|promise| promise.acknowledged > 0));
    }
}
