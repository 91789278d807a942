//! Waking the threads and tasks that wait for a record which another process puts.
//!
//! One thread listens for all shards of a stream, while anybody waits. It looks at a shard only after the bell has rung, and each second.
//! Where there is no bell, it looks again and again, after longer and longer pauses.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

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
    is_running: bool,
}

/// Those who wait for a shard.
#[derive(Debug)]
struct Waiting {
    reader: Weak<Reader>,
    waiters: Vec<Arc<Waiter>>,
    /// What the reader knew when the first of them looked for records.
    known: Known,
}

type Known = (u64, u64, u64, bool);

/// A shard that another process may write, as the threads see it that wait for its records.
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
        if !state.is_running {
            let listener = Arc::clone(self);
            let name = "streamlog-listen".to_owned();
            let started = std::thread::Builder::new().name(name).spawn(move || listener.run());
            state.is_running = started.is_ok();
        }
        let has_thread = state.is_running;
        drop(state);
        if has_thread {
            self.arrived.notify_one();
        } else {
            // The system has no thread left: the waiter has to look for itself.
            std::thread::sleep(PAUSES[1]);
            waiter.notify();
        }
        // Before the waiter looks for records once more.
        self.pass_barrier();
    }

    fn pass_barrier(&self) {
        if !wake::barrier() {
            self.is_unordered.store(true, Ordering::Relaxed);
        }
    }

    fn run(&self) {
        let mut pause = PAUSES[0];
        let mut state = self.state.lock();
        loop {
            if state.waiting.is_empty() {
                self.arrived.wait_for(&mut state, LINGER);
                if state.waiting.is_empty() {
                    state.is_running = false;
                    return;
                }
            }
            let (bell, rings) = (state.bell.clone(), state.rings);
            drop(state);
            match &bell {
                Some(bell) => {
                    bell.wait(rings, if self.is_unordered.load(Ordering::Relaxed) { pause } else { SECOND })
                }
                None => std::thread::sleep(pause),
            }
            state = self.state.lock();
            state.rings = bell.as_ref().map_or(0, |bell| bell.rings());
            let mut woken = state.take_changed();
            // A ring takes the mark away: also one after which this shard is as before, and one for another shard that has the same mark.
            while bell.as_ref().is_some_and(|bell| state.mark_again(bell)) {
                self.pass_barrier();
                woken.append(&mut state.take_changed());
            }
            pause = if woken.is_empty() { (pause * 2).min(PAUSES[1]) } else { PAUSES[0] };
            // Without the lock: a task that is woken may run at once.
            drop(state);
            woken.iter().for_each(|waiter| waiter.notify());
            state = self.state.lock();
        }
    }
}

impl State {
    /// Marks those shards again whose marks a ring has taken away. Returns whether there were any.
    fn mark_again(&self, bell: &Bell) -> bool {
        let unmarked = self.waiting.keys().filter(|&&shard| !bell.is_marked(shard));
        unmarked.inspect(|&&shard| bell.mark(shard)).count() > 0
    }

    /// Takes away those who wait for a shard that has changed.
    fn take_changed(&mut self) -> Vec<Arc<Waiter>> {
        let mut woken = vec![];
        self.waiting.retain(|_, waiting| {
            let has_changed = waiting.reader.upgrade().is_none_or(|reader| {
                // An error is for the read that follows.
                reader.refresh().is_err() || reader.known() != waiting.known
            });
            if has_changed {
                woken.append(&mut waiting.waiters);
            }
            !has_changed
        });
        woken
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
        let followed = Followed::open(root.clone(), Arc::new(SystemClock)).unwrap();
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
