//! The lease logic of a worker, without a network and a clock: renewing, taking, stealing, and detecting loss.
//!
//! The rules are those of the KCL, so that its workers and ours share one application.
//!
//! **No clocks are compared.** Each write by an owner changes the row's counter. A lease has expired if its counter has not changed for the failover
//! time, on the observer's own clock, since the observer first saw that counter. An owner uses the same time, counted from before it sent its last
//! write: so it gives up a lease before anybody else takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::lease::{Checkpoint, Lease};

/// The table, as far as a worker needs it. Each write names the counter that it expects. If the row has another counter, the write changes nothing
/// and returns false. After an error, it is unknown whether the write was done.
pub(super) trait Table {
    type Error;

    fn scan(&self) -> Result<Vec<Lease>, Self::Error>;
    fn get(&self, key: &str) -> Result<Option<Lease>, Self::Error>;
    fn renew(&self, key: &str, counter: u64) -> Result<bool, Self::Error>;
    fn take(&self, lease: &Lease, owner: &str) -> Result<bool, Self::Error>;
    fn checkpoint(&self, key: &str, counter: u64, to: &Checkpoint, state: &[u8])
    -> Result<bool, Self::Error>;
    /// Lets others take it immediately.
    fn evict(&self, key: &str, owner: &str) -> Result<bool, Self::Error>;
}

/// The times and bounds of a worker.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    /// After this long without a write, a lease has expired.
    pub(super) failover: Duration,
    pub(super) leases_max: usize,
    /// How many leases are stolen from another worker at a time.
    pub(super) steal_max: usize,
}

/// Room for the inaccuracy of clocks.
const EPSILON: Duration = Duration::from_millis(25);

impl Terms {
    pub(super) fn renew_every(&self) -> Duration {
        (self.failover / 3).saturating_sub(EPSILON).max(self.failover / 6)
    }

    pub(super) fn take_every(&self) -> Duration {
        2 * (self.failover + EPSILON)
    }
}

/// A lease that this worker has, or had.
#[derive(Debug)]
pub(super) struct Grip {
    pub(super) key: String,
    owner: String,
    failover: Duration,
    /// Locked during each write.
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    counter: u64,
    /// When the last write that was done was sent.
    renewed_at: Duration,
    is_lost: bool,
}

/// The lease is somebody else's by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost;

impl Grip {
    /// Returns whether the lease is no longer this worker's. Once it is lost, it stays so.
    pub(super) fn is_lost(&self, now: Duration) -> bool {
        self.held.lock().is_lost_by(now, self.failover)
    }

    pub(super) fn lose(&self) {
        self.held.lock().is_lost = true;
    }

    pub(super) fn renew<T: Table>(
        &self,
        table: &T,
        clock: &dyn Fn() -> Duration,
    ) -> Result<Result<(), Lost>, T::Error> {
        self.write(table, clock, &|counter| table.renew(&self.key, counter), &|_| true)
    }

    /// Writes the checkpoint of the shard, with its state.
    pub(super) fn checkpoint<T: Table>(
        &self,
        table: &T,
        clock: &dyn Fn() -> Duration,
        to: &Checkpoint,
        state: &[u8],
    ) -> Result<Result<(), Lost>, T::Error> {
        let write = |counter| table.checkpoint(&self.key, counter, to, state);
        self.write(table, clock, &write, &|lease| lease.checkpoint == *to && lease.state == state)
    }

    /// Writes to the row. `is_done` returns whether a row is as the write would leave it.
    fn write<T: Table>(
        &self,
        table: &T,
        clock: &dyn Fn() -> Duration,
        write: &dyn Fn(u64) -> Result<bool, T::Error>,
        is_done: &dyn Fn(&Lease) -> bool,
    ) -> Result<Result<(), Lost>, T::Error> {
        let mut held = self.held.lock();
        loop {
            let sent_at = clock();
            if held.is_lost_by(sent_at, self.failover) {
                return Ok(Err(Lost));
            }
            if write(held.counter)? {
                held.counter += 1;
                held.renewed_at = sent_at;
                return Ok(Ok(()));
            }
            // This write or an earlier one may have been done, although its answer was lost.
            let row = table.get(&self.key)?;
            let is_ours =
                |row: &&Lease| row.owner.as_deref() == Some(&*self.owner) && row.counter == held.counter + 1;
            let Some(row) = row.as_ref().filter(is_ours) else {
                held.is_lost = true;
                return Ok(Err(Lost));
            };
            held.counter += 1;
            if is_done(row) {
                held.renewed_at = sent_at;
                return Ok(Ok(()));
            }
        }
    }
}

impl Held {
    fn is_lost_by(&mut self, now: Duration, failover: Duration) -> bool {
        self.is_lost |= now >= self.renewed_at + failover;
        self.is_lost
    }
}

/// What a worker has seen of a lease.
#[derive(Debug, Clone)]
struct Sighting {
    owner: Option<String>,
    counter: u64,
    /// When it first saw that counter. `None` is long ago: the lease was unowned when it was first seen.
    since: Option<Duration>,
}

/// What a worker knows of the leases.
#[derive(Debug)]
pub(super) struct LeaseBook {
    me: String,
    terms: Terms,
    seen: BTreeMap<String, Sighting>,
    grips: BTreeMap<String, Arc<Grip>>,
    /// Makes each choice different.
    rounds: u64,
}

impl LeaseBook {
    pub(super) fn new(me: impl Into<String>, terms: Terms) -> Self {
        Self { me: me.into(), terms, seen: BTreeMap::new(), grips: BTreeMap::new(), rounds: 0 }
    }

    /// Returns the leases that the worker has, as far as it knows.
    pub(super) fn grips(&self) -> impl Iterator<Item = &Arc<Grip>> {
        self.grips.values()
    }

    /// Drops the leases that are lost by now. Returns them.
    pub(super) fn drop_lost(&mut self, now: Duration) -> Vec<Arc<Grip>> {
        let lost: Vec<_> = self.grips.values().filter(|grip| grip.is_lost(now)).cloned().collect();
        for grip in &lost {
            self.grips.remove(&grip.key);
        }
        lost
    }

    /// Renews all leases. After an error, it still tries the others.
    pub(super) fn renew<T: Table>(&self, table: &T, clock: &dyn Fn() -> Duration) -> Result<(), T::Error> {
        let mut outcome = Ok(());
        for grip in self.grips.values() {
            if let Err(error) = grip.renew(table, clock) {
                outcome = Err(error);
            }
        }
        outcome
    }

    /// Reads the table, and takes the leases that the worker should have. Returns the rows as they were read, and the keys of the leases that were
    /// taken.
    pub(super) fn take<T: Table>(
        &mut self,
        table: &T,
        clock: &dyn Fn() -> Duration,
    ) -> Result<(Vec<Lease>, Vec<String>), T::Error> {
        let rows = table.scan()?;
        let now = clock();
        self.look(&rows, now);
        let mut taken = vec![];
        for key in self.choose(now) {
            let Some(lease) = rows.iter().find(|lease| lease.key == key) else { continue };
            let sent_at = clock();
            if table.take(lease, &self.me)? {
                let held = Held { counter: lease.counter + 1, renewed_at: sent_at, is_lost: false };
                let (owner, failover) = (self.me.clone(), self.terms.failover);
                let grip = Arc::new(Grip { key: key.clone(), owner, failover, held: Mutex::new(held) });
                if let Some(before) = self.grips.insert(key.clone(), grip) {
                    before.lose();
                }
                taken.push(key);
            }
        }
        Ok((rows, taken))
    }

    /// Notes the rows of the table.
    fn look(&mut self, rows: &[Lease], now: Duration) {
        let mut before = std::mem::take(&mut self.seen);
        for row in rows {
            let since = match before.remove(&row.key) {
                Some(sighting) if sighting.counter == row.counter && sighting.owner == row.owner => {
                    sighting.since
                }
                None if row.owner.is_none() => None,
                _ => Some(now),
            };
            self.seen
                .insert(row.key.clone(), Sighting { owner: row.owner.clone(), counter: row.counter, since });
        }
        for grip in self.grips.values() {
            let owner = self.seen.get(&grip.key).and_then(|seen| seen.owner.as_deref());
            // Another worker has stolen it, or it was deleted.
            if owner != Some(&*self.me) {
                grip.lose();
            }
        }
    }

    /// Returns which leases to take in this round, in an order that differs from worker to worker and from round to round.
    fn choose(&mut self, now: Duration) -> Vec<String> {
        self.rounds += 1;
        let mine = self.grips.values().filter(|grip| !grip.is_lost(now)).count();
        let may_have = self.terms.leases_max.saturating_sub(mine);
        let is_mine = |key: &String| self.grips.get(key).is_some_and(|grip| !grip.is_lost(now));
        let others = || self.seen.iter().filter(|(key, _)| !is_mine(key));
        let is_unchanged_for = |seen: &Sighting, time| seen.since.is_none_or(|since| now > since + time);
        let is_free = |seen: &Sighting| seen.owner.is_none() || is_unchanged_for(seen, self.terms.failover);

        let forgotten = others().filter(|(_, seen)| is_unchanged_for(seen, 3 * self.terms.failover));
        let forgotten = self.shuffled(forgotten.map(|(key, _)| key));
        if !forgotten.is_empty() {
            return forgotten.into_iter().take(may_have).collect();
        }
        // How many leases each other worker has.
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for owner in others().filter(|(_, seen)| !is_free(seen)).filter_map(|(_, seen)| seen.owner.as_deref())
        {
            *counts.entry(owner).or_default() += 1;
        }
        let workers = counts.len() + usize::from(!counts.contains_key(&*self.me));
        let target = match workers >= self.seen.len() {
            true => 1,
            false => self.seen.len().div_ceil(workers),
        };
        let need = target.min(self.terms.leases_max).saturating_sub(mine);
        if need == 0 {
            return vec![];
        }
        let free = self.shuffled(others().filter(|(_, seen)| is_free(seen)).map(|(key, _)| key));
        if !free.is_empty() {
            return free.into_iter().take(need).collect();
        }
        let Some((victim, has)) = counts.into_iter().max_by_key(|(_, count)| *count) else { return vec![] };
        let steal = match has.cmp(&target) {
            std::cmp::Ordering::Greater => need.min(has - target).min(self.terms.steal_max),
            std::cmp::Ordering::Equal if need > 1 => 1.min(self.terms.steal_max),
            _ => 0,
        };
        let of_victim = others().filter(|(_, seen)| seen.owner.as_deref() == Some(victim));
        self.shuffled(of_victim.map(|(key, _)| key)).into_iter().take(steal).collect()
    }

    fn shuffled<'a>(&self, keys: impl Iterator<Item = &'a String>) -> Vec<String> {
        let rank = |key: &String| {
            let text = format!("{} {} {key}", self.me, self.rounds);
            xxhash_rust::xxh3::xxh3_64(text.as_bytes())
        };
        let ranked: BTreeSet<(u64, &String)> = keys.map(|key| (rank(key), key)).collect();
        ranked.into_iter().map(|(_, key)| key.clone()).collect()
    }

    /// Releases all leases, so that others can take them immediately.
    pub(super) fn leave<T: Table>(&mut self, table: &T) -> Result<(), T::Error> {
        let mut outcome = Ok(());
        for (key, grip) in std::mem::take(&mut self.grips) {
            let mut held = grip.held.lock();
            if !std::mem::replace(&mut held.is_lost, true)
                && let Err(error) = table.evict(&key, &self.me)
            {
                outcome = Err(error);
            }
        }
        outcome
    }

    /// Forgets a lease whose row this worker has deleted.
    pub(super) fn forget(&mut self, key: &str) {
        if let Some(grip) = self.grips.remove(key) {
            grip.lose();
        }
    }
}
