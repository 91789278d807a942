//! The leases of a group behind a lock that wakes the waiting workers when it is released.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};

use super::leases::{Leases, WorkerId};

/// The leases of a group, and what wakes the workers that wait.
///
/// A worker checks the version of the leases and stores its waker while they are locked, so it cannot miss a change. A thread that changes the
/// version takes all wakers, and wakes them after it has unlocked the leases, because waking may immediately run a task, which locks them.
#[derive(Debug, Default)]
pub(super) struct SharedLeases {
    leases: Mutex<Leases>,
    /// Locked after `leases`.
    waiting: Mutex<BTreeMap<WorkerId, Waker>>,
}

impl SharedLeases {
    pub(super) fn lock(&self) -> LockedLeases<'_> {
        let leases = self.leases.lock();
        let version = leases.version();
        LockedLeases { leases, version, waiting: &self.waiting, woken: Woken::default(), replaced: None }
    }

    /// Undoes [`LockedLeases::wake_later`].
    pub(super) fn forget(&self, worker: WorkerId) {
        // Dropped without the lock: a waker may be the last owner of a task.
        let forgotten = self.waiting.lock().remove(&worker);
        drop(forgotten);
    }

    /// Wakes all workers that wait.
    pub(super) fn wake_all(&self) {
        let woken = Woken(std::mem::take(&mut *self.waiting.lock()));
        drop(woken);
    }
}

/// The locked leases. Dropping this unlocks them. If their version has changed, it also wakes all waiting workers.
pub(super) struct LockedLeases<'a> {
    // Fields are dropped in this order: unlocked first, then woken.
    leases: MutexGuard<'a, Leases>,
    woken: Woken,
    replaced: Option<Waker>,
    version: u64,
    waiting: &'a Mutex<BTreeMap<WorkerId, Waker>>,
}

impl<'a> LockedLeases<'a> {
    /// Arranges for a worker to be woken once the version of the leases changes.
    pub(super) fn wake_later(&mut self, worker: WorkerId, waker: &Waker) {
        self.replaced = self.waiting.lock().insert(worker, waker.clone());
    }

    /// Returns the guard, for a condition variable.
    pub(super) fn guard(&mut self) -> &mut MutexGuard<'a, Leases> {
        &mut self.leases
    }
}

impl Deref for LockedLeases<'_> {
    type Target = Leases;

    fn deref(&self) -> &Leases {
        &self.leases
    }
}

impl DerefMut for LockedLeases<'_> {
    fn deref_mut(&mut self) -> &mut Leases {
        &mut self.leases
    }
}

impl Drop for LockedLeases<'_> {
    fn drop(&mut self) {
        if self.leases.version() != self.version {
            self.woken.0 = std::mem::take(&mut *self.waiting.lock());
        }
    }
}

/// Wakers that are woken when this is dropped.
#[derive(Default)]
struct Woken(BTreeMap<WorkerId, Waker>);

impl Drop for Woken {
    fn drop(&mut self) {
        std::mem::take(&mut self.0).into_values().for_each(Waker::wake);
    }
}
