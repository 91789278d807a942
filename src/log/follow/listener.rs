//! Waking the threads and tasks that wait for a record which another process puts.
//!
//! One thread listens for all waiters of a stream: a waiting thread, if nobody listens yet, or else a thread of the listener. It checks the shards
//! only after the bell has rung, and every second. Without a bell, it checks repeatedly, after longer and longer pauses.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::log::live::bell::Bell;
use crate::log::shard::reader::wait::Waiter;
use crate::log::shard::reader::{Reader, WakeReaders};
use crate::log::sys::root::OwnPath;
use crate::log::sys::wake;
use crate::log::types::shard_id::ShardId;
use crate::log::types::time::{SECOND, Timestamp};

/// How long the thread stays after the last waiter has left.
const LINGER: Duration = SECOND;
/// The shortest and the longest pause between two looks where there is no bell.
const PAUSES: [Duration; 2] = [Duration::from_micros(100), Duration::from_millis(5)];

/// The thread that listens for a stream.
#[derive(Debug)]
pub(super) struct Listener {
    root: OwnPath,
    state: Mutex<State>,
    /// Notified when somebody waits.
    arrived: Condvar,
    /// Whether the system has no barrier for the threads of other processes. Then a put may miss a mark.
    is_unordered: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<ShardId, Waiting>,
    bell: Option<Arc<Bell>>,
    /// How often the bell had rung when the thread last looked at the shards.
    rings: u32,
    /// Whether a thread listens.
    is_led: bool,
    /// Whether the listener has a thread, which listens if no other does.
    has_thread: bool,
}

/// The waiters of a shard.
#[derive(Debug)]
struct Waiting {
    reader: Weak<Reader>,
    waiters: Vec<Arc<Waiter>>,
    /// What the reader knew when the first of them looked for records.
    known: Known,
}

type Known = (u64, u64, u64, bool);

/// A shard that another process may write, as seen by the threads that wait for its records.
#[derive(Debug)]
pub(super) struct FollowedShard {
    shard: ShardId,
    reader: Weak<Reader>,
    listener: Arc<Listener>,
}

impl FollowedShard {
    pub(super) fn new(reader: &Arc<Reader>, listener: &Arc<Listener>) -> Self {
        Self { shard: reader.id(), reader: Arc::downgrade(reader), listener: Arc::clone(listener) }
    }
}

impl WakeReaders for FollowedShard {
    fn wake_later(&self, waiter: &Arc<Waiter>, must_wait: &mut dyn FnMut() -> bool) -> bool {
        self.listener.add(self.shard, &self.reader, waiter);
        if !must_wait() {
            self.forget(waiter);
        }
        // Another process may open the stream at any time.
        true
    }

    fn forget(&self, waiter: &Arc<Waiter>) {
        let mut state = self.listener.state.lock();
        if let Some(waiting) = state.waiting.get_mut(&self.shard) {
            waiting.waiters.retain(|known| !Arc::ptr_eq(known, waiter));
            if waiting.waiters.is_empty() {
                state.waiting.remove(&self.shard);
            }
        }
    }

    fn park(&self, waiter: &Arc<Waiter>, deadline: Option<Instant>) -> bool {
        self.listener.park(waiter, deadline)
    }

    fn listen(&self) {
        self.listener.call_thread();
    }

    fn notifier(&self) -> Option<usize> {
        Some(Arc::as_ptr(&self.listener).addr())
    }

    fn last_timestamp(&self) -> Timestamp {
        self.reader.upgrade().map_or(Timestamp::default(), |reader| reader.last_timestamp())
    }
}

impl Listener {
    pub(super) fn new(root: OwnPath) -> Self {
        Self { root, state: Mutex::default(), arrived: Condvar::new(), is_unordered: AtomicBool::new(false) }
    }

    /// Adds a waiter. It is notified once the shard has changed since this call.
    fn add(self: &Arc<Self>, shard: ShardId, reader: &Weak<Reader>, waiter: &Arc<Waiter>) {
        let mut state = self.state.lock();
        if state.bell.is_none() {
            state.bell = Bell::open(&self.root).map(Arc::new);
        }
        if state.waiting.is_empty() {
            state.rings = state.bell.as_ref().map_or(0, |bell| bell.rings());
        }
        let known = reader.upgrade().map_or((0, 0, 0, true), |reader| reader.known());
        let waiting = state.waiting.entry(shard).or_insert_with(|| Waiting {
            reader: Weak::clone(reader),
            waiters: vec![],
            known,
        });
        if !waiting.waiters.iter().any(|known| Arc::ptr_eq(known, waiter)) {
            waiting.waiters.push(Arc::clone(waiter));
        }
        if let Some(bell) = &state.bell {
            bell.mark(shard);
        }
        drop(state);
        // Before the waiter looks for records once more.
        self.pass_barrier();
    }

    /// Ensures that each put sees the marks that were made before, or that this process sees its record afterwards.
    fn pass_barrier(&self) {
        if !wake::barrier() {
            self.is_unordered.store(true, Ordering::Relaxed);
        }
    }

    /// Parks a waiting thread. If nobody listens, it listens for all others meanwhile.
    fn park(self: &Arc<Self>, waiter: &Arc<Waiter>, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        if state.is_led {
            drop(state);
            return waiter.park(deadline);
        }
        state.is_led = true;
        drop(state);
        let was_notified = self.listen(deadline, || waiter.take_notification());
        let mut state = self.state.lock();
        state.is_led = false;
        let has_others = state.waiting.values().any(|waiting| !waiting.is_only(waiter));
        drop(state);
        if has_others {
            self.call_thread();
        }
        was_notified
    }

    /// Makes sure that somebody listens.
    fn call_thread(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.is_led {
            return;
        }
        if !state.has_thread {
            let listener = Arc::clone(self);
            let name = "streamlog-listen".to_owned();
            let started = std::thread::Builder::new().name(name).spawn(move || listener.run());
            state.has_thread = started.is_ok();
        }
        if state.has_thread {
            self.arrived.notify_one();
        } else {
            // The system has no thread left: the waiters have to look for themselves.
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            std::thread::sleep(PAUSES[1]);
            waiting.values().flat_map(|waiting| &waiting.waiters).for_each(|waiter| waiter.notify());
        }
    }

    /// Listens while anybody waits and no other thread does, and for a moment more.
    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            if state.is_led || state.waiting.is_empty() {
                let is_over = self.arrived.wait_for(&mut state, LINGER).timed_out();
                if is_over && (state.is_led || state.waiting.is_empty()) {
                    state.has_thread = false;
                    return;
                }
                continue;
            }
            state.is_led = true;
            drop(state);
            self.listen(None, || self.state.lock().waiting.is_empty());
            state = self.state.lock();
            state.is_led = false;
        }
    }

    /// Notifies the waiters of a shard that changes, until `is_over` returns `true` or until a deadline. Returns whether `is_over` ended it.
    fn listen(&self, deadline: Option<Instant>, is_over: impl Fn() -> bool) -> bool {
        let mut pause = PAUSES[0];
        while !is_over() {
            let left = deadline.map_or(SECOND, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            let state = self.state.lock();
            let (bell, rings) = (state.bell.clone(), state.rings);
            drop(state);
            let is_ordered = !self.is_unordered.load(Ordering::Relaxed);
            match &bell {
                Some(bell) => bell.wait(rings, left.min(if is_ordered { SECOND } else { pause })),
                None => std::thread::sleep(left.min(pause)),
            }
            let mut state = self.state.lock();
            state.rings = bell.as_ref().map_or(0, |bell| bell.rings());
            let mut woken = state.take_changed();
            // Shards share marks: a put to one may have taken away the mark of the waiters of another.
            while bell.as_ref().is_some_and(|bell| state.mark_again(bell)) {
                self.pass_barrier();
                woken.append(&mut state.take_changed());
            }
            // Without the lock: a task that is woken may run immediately.
            drop(state);
            pause = if woken.is_empty() { (pause * 2).min(PAUSES[1]) } else { PAUSES[0] };
            woken.iter().for_each(|waiter| waiter.notify());
        }
        true
    }
}

impl Waiting {
    fn is_only(&self, waiter: &Arc<Waiter>) -> bool {
        self.waiters.iter().all(|known| Arc::ptr_eq(known, waiter))
    }
}

impl State {
    /// Removes and returns the waiters of changed shards.
    fn take_changed(&mut self) -> Vec<Arc<Waiter>> {
        let mut woken = vec![];
        self.waiting.retain(|_, waiting| {
            let has_changed = waiting.reader.upgrade().is_none_or(|reader| {
                // The read that follows reports an error.
                reader.refresh().is_err() || reader.known() != waiting.known
            });
            if has_changed {
                woken.append(&mut waiting.waiters);
            }
            !has_changed
        });
        woken
    }

    /// Marks the shards again whose marks are gone. Returns whether there are any.
    fn mark_again(&self, bell: &Bell) -> bool {
        self.waiting.keys().filter(|&&shard| bell.mark_again(shard)).count() > 0
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use super::*;
    use crate::log::follow::Followed;
    use crate::log::sys::clock::SystemClock;
    use crate::{Maintenance, Stream, StreamOptions};

    /// Less than the time after which the thread looks without a ring.
    const SOON: Duration = Duration::from_millis(900);
    const ROUNDS: u32 = 5;

    fn open(path: &Path, shards: u32) -> Stream {
        StreamOptions::new().maintenance(Maintenance::Manual).shards(shards).open(path).unwrap()
    }

    /// Counts the rounds in which a waiter is woken soon after `work`, which gets the place where the waiter looks for records.
    fn woken_soon(path: &Path, work: impl Fn(&FollowedShard, &Arc<Waiter>)) -> u32 {
        let root = OwnPath::open_root(path).unwrap();
        let followed = Followed::open(root.clone(), Arc::new(SystemClock), None, None).unwrap();
        let reader = followed.reader(ShardId::new(0)).unwrap();
        let shard = FollowedShard::new(&reader, &Arc::new(Listener::new(root)));
        let rounds = 0..ROUNDS;
        rounds
            .map(|_| {
                reader.refresh().unwrap();
                let waiter = Arc::default();
                work(&shard, &waiter);
                u32::from(waiter.park(Some(Instant::now() + SOON)))
            })
            .sum()
    }

    #[test]
    fn l8_a_put_right_after_the_last_look_wakes() {
        let directory = tempfile::tempdir().unwrap();
        let stream = open(directory.path(), 1);
        let count = woken_soon(directory.path(), |shard, waiter| {
            shard.wake_later(waiter, &mut || {
                stream.put("key", "data").unwrap();
                true
            });
            shard.listen();
        });
        // Not each time, on a machine that is busy with other things.
        assert!(count > ROUNDS / 2, "{count}");
    }

    #[test]
    fn l8_a_ring_for_another_shard_takes_no_later_wake_away() {
        let directory = tempfile::tempdir().unwrap();
        // The last one shares its mark with the first.
        let stream = open(directory.path(), 64);
        let last = stream.shards().pop().unwrap();
        let key = (0u32..).map(u32::to_le_bytes).find(|key| last.hash_key_range.contains(hash(&stream, key)));
        let key = key.expect("there are many keys");
        let first = (0u32..).map(u32::to_le_bytes);
        let first_range = stream.shards()[0].hash_key_range;
        let first = first.into_iter().find(|key| first_range.contains(hash(&stream, key)));
        let first = first.expect("there are many keys");
        let count = woken_soon(directory.path(), |shard, waiter| {
            shard.wake_later(waiter, &mut || true);
            shard.listen();
            stream.put(key, "data").unwrap();
            // Until the thread has taken note of that.
            std::thread::sleep(Duration::from_millis(20));
            stream.put(first, "data").unwrap();
        });
        assert!(count > ROUNDS / 2, "{count}");
    }

    fn hash(stream: &Stream, key: &[u8]) -> crate::HashKey {
        stream.describe().key_hash.hash(key)
    }
}
