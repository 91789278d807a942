//! What workers were told, and so what has to be there: the supervisor's memory of promises.

use std::collections::BTreeMap;

use streamlog::Timestamp;

use super::message::Promise;
use super::record::{KeyIndex, Number, name_of};

/// Beyond so many snapshots of a run, every other one of the older half goes: what is left is as true, and
/// says less.
const SNAPSHOT_COUNT_MAX: usize = 1_024;

/// The promises of all runs of which a record may still be there.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    runs: BTreeMap<u32, Run>,
    /// What arrived before may be gone.
    pub(crate) may_be_gone_before: Timestamp,
}

#[derive(Debug, Default)]
struct Run {
    /// By key.
    promises: Vec<Promise>,
    /// By key, how many records had been started at a time: those above arrived later.
    snapshots: Vec<(Timestamp, Vec<u64>)>,
}

impl Run {
    fn promise(&self, key: KeyIndex) -> Promise {
        self.promises.get(usize::from(key)).copied().unwrap_or_default()
    }
}

impl Ledger {
    /// A worker has told how far it is.
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

    /// Checks that nothing that was acknowledged is missing between two records of a key that stand next to
    /// each other. `next` is `None` where the key's records end.
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

    /// The youngest record of a key that was put for certain and comes before its first one that is there, if
    /// it is not there; and a time at which it was not put yet.
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

    /// Forgets the promises of a key before its first record that is there: they have expired.
    pub(crate) fn forget_before(&mut self, key: KeyIndex, first: Option<Number>) {
        let until = first.map_or(u32::MAX, |first| first.run);
        for (_, run) in self.runs.range_mut(..until) {
            if let Some(promise) = run.promises.get_mut(usize::from(key)) {
                *promise = Promise::default();
            }
        }
    }

    /// Forgets the runs of which nothing is left to be checked.
    pub(crate) fn forget_empty_runs(&mut self) {
        self.runs.retain(|_, run| run.promises.iter().any(|promise| promise.acknowledged > 0));
    }
}
