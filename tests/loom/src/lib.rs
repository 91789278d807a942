//! The commit protocol under a model checker: every order in which its threads can run, and every value that a load may see.
//!
//! `cargo test --release -p model_checker`
//!
//! This crate compiles the files that hold the protocol with loom's primitives in the place of the standard library's. Around them it
//! models the segment's bytes, the list of segments and the append lock.
//!
//! The models can fail. Each of these changes, made by hand, was found immediately:
//! - `Watermark::observe` loads `committed` before `ended`: `a_reader_sees_all_of_a_segment_before_it_goes_on` misses a frame;
//! - `Watermark::raise` stores with `Relaxed` instead of `Release`: the same model finds a read of bytes that races with their write;
//! - `Watermark::end` stores with `Relaxed` instead of `Release`: the same model misses a frame;
//! - the writer below ends the first segment before the next is on the list: the same model finds an end without a next segment;
//! - the waiter below looks for records only outside the append lock: `a_waiter_misses_no_put` never ends, which loom calls a deadlock;
//! - the end of a round of `SyncTurn` wakes no thread of the next round, or only one of its own: `whoever_waits_for_a_sync_gets_it` never
//!   ends.
#![cfg(test)]
#![allow(dead_code, missing_docs, unsafe_code)]
// Loom's cell is not `Sync`, because loom's threads are not real threads.
#![allow(clippy::arc_with_non_send_sync)]

/// Stands in for `crate::log::sys::sync`.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
}

mod log {
    pub(crate) mod sys {
        pub(crate) use crate::sync;
    }
}

#[path = "../../../src/log/sys/watermark.rs"]
mod watermark;

#[path = "../../../src/log/shard/writer/turn.rs"]
mod turn;

#[path = "../../../src/log/shard/reader/wait.rs"]
mod wait;

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use turn::SyncTurn;
use wait::{WaitList, Waiter};
use watermark::Watermark;

/// A segment of one-byte frames.
struct Segment {
    frames: Vec<UnsafeCell<u8>>,
    watermark: Watermark,
}

impl Segment {
    fn new(capacity: usize) -> Arc<Self> {
        let frames = (0..capacity).map(|_| UnsafeCell::new(0)).collect();
        Arc::new(Self { frames, watermark: Watermark::new(0, false) })
    }

    fn append(&self, at: u64, frame: u8) {
        self.frames[at as usize].with_mut(|place| {
            // SAFETY: the place is above the watermark, and there is one writer; loom checks both.
            unsafe { *place = frame }
        });
        self.watermark.raise(at + 1);
    }

    fn read(&self, at: u64) -> u8 {
        // SAFETY: the place is below the watermark, where nothing is written; loom checks that.
        self.frames[at as usize].with(|place| unsafe { *place })
    }
}

/// Reads as `ShardIterator::next_batch` does: only what is committed, and the next segment only after this one has ended.
struct Reader {
    list: Arc<Mutex<Vec<Arc<Segment>>>>,
    segment: usize,
    offset: u64,
    seen: Vec<u8>,
}

impl Reader {
    fn new(list: &Arc<Mutex<Vec<Arc<Segment>>>>) -> Self {
        Self { list: Arc::clone(list), segment: 0, offset: 0, seen: vec![] }
    }

    /// Reads to the current end.
    fn read_all(&mut self) {
        loop {
            let segment = Arc::clone(&self.list.lock().unwrap()[self.segment]);
            let observed = segment.watermark.observe();
            if self.offset < observed.committed {
                while self.offset < observed.committed {
                    self.seen.push(segment.read(self.offset));
                    self.offset += 1;
                }
                continue;
            }
            if !observed.ended {
                return;
            }
            assert!(self.list.lock().unwrap().len() > self.segment + 1, "an end without a next segment");
            (self.segment, self.offset) = (self.segment + 1, 0);
        }
    }
}

/// Appends across a roll, as `Shard::append` and `Shard::roll` do. Only one thread writes.
fn write_across_a_roll(list: &Mutex<Vec<Arc<Segment>>>) {
    let first = Arc::clone(&list.lock().unwrap()[0]);
    first.append(0, 1);
    first.append(1, 2);
    let next = Segment::new(1);
    list.lock().unwrap().push(Arc::clone(&next));
    first.watermark.end();
    next.append(0, 3);
}

#[test]
fn a_reader_sees_all_of_a_segment_before_it_goes_on() {
    loom::model(|| {
        let list = Arc::new(Mutex::new(vec![Segment::new(2)]));
        let writer = {
            let list = Arc::clone(&list);
            thread::spawn(move || write_across_a_roll(&list))
        };
        let mut reader = Reader::new(&list);
        reader.read_all();
        // What was read while the writer ran is a gap-free prefix.
        assert_eq!(reader.seen, [1, 2, 3][..reader.seen.len()]);
        writer.join().unwrap();
        reader.read_all();
        assert_eq!(reader.seen, [1, 2, 3]);
    });
}

#[test]
fn two_readers_see_the_same() {
    let mut model = loom::model::Builder::new();
    // With three threads, the model tries all orders with at most this many preemptions.
    model.preemption_bound = Some(3);
    model.check(|| {
        let list = Arc::new(Mutex::new(vec![Segment::new(2)]));
        let reading = {
            let mut reader = Reader::new(&list);
            thread::spawn(move || {
                reader.read_all();
                reader
            })
        };
        let writing = {
            let list = Arc::clone(&list);
            thread::spawn(move || write_across_a_roll(&list))
        };
        let mut here = Reader::new(&list);
        here.read_all();
        assert_eq!(here.seen, [1, 2, 3][..here.seen.len()]);
        let mut there = reading.join().unwrap();
        writing.join().unwrap();
        for reader in [&mut here, &mut there] {
            reader.read_all();
            assert_eq!(reader.seen, [1, 2, 3]);
        }
    });
}

/// The wait list, which the append lock protects, and the word that readers load without the lock.
#[derive(Default)]
struct Shard {
    waiting: Mutex<WaitList>,
    next_sequence: AtomicU64,
}

impl Shard {
    /// Puts as `Shard::append` does: makes the record visible and takes the list under the lock, and wakes the threads after releasing it.
    fn put(&self) {
        let mut waiting = self.waiting.lock().unwrap();
        let next = self.next_sequence.load(Ordering::Relaxed);
        self.next_sequence.store(next + 1, Ordering::Release);
        let taken = waiting.take();
        drop(waiting);
        taken.notify();
    }

    fn has(&self, sequence: u64) -> bool {
        sequence < self.next_sequence.load(Ordering::Acquire)
    }
}

/// Waits until one of the shards has a record with that number, as `wait_any` does.
fn wait_for(shards: &[Arc<Shard>], sequence: u64) {
    let waiter = Arc::new(Waiter::default());
    let has_one = || shards.iter().any(|shard| shard.has(sequence));
    while !has_one() {
        for shard in shards {
            let mut waiting = shard.waiting.lock().unwrap();
            if !shard.has(sequence) {
                waiting.add(&waiter);
            }
        }
        if has_one() {
            break;
        }
        waiter.park(None);
    }
    for shard in shards {
        shard.waiting.lock().unwrap().remove(&waiter);
    }
}

#[test]
fn a_waiter_misses_no_put() {
    loom::model(|| {
        let shard = Arc::new(Shard::default());
        let writer = {
            let shard = Arc::clone(&shard);
            thread::spawn(move || {
                shard.put();
                shard.put();
            })
        };
        wait_for(&[Arc::clone(&shard)], 0);
        wait_for(&[Arc::clone(&shard)], 1);
        writer.join().unwrap();
    });
}

#[test]
fn a_waiter_for_two_shards_misses_no_put_on_either() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shards = [Arc::new(Shard::default()), Arc::new(Shard::default())];
        let second = Arc::clone(&shards[1]);
        let writer = thread::spawn(move || second.put());
        wait_for(&shards, 0);
        writer.join().unwrap();
    });
}

#[test]
fn two_waiters_are_both_woken() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shard = Arc::new(Shard::default());
        let [waiting, writing] = [Arc::clone(&shard), Arc::clone(&shard)];
        let other = thread::spawn(move || wait_for(&[waiting], 0));
        let writer = thread::spawn(move || writing.put());
        wait_for(&[shard], 0);
        other.join().unwrap();
        writer.join().unwrap();
    });
}

/// Puts a record and waits until it is synced, or syncs it together with all records committed by then.
fn put_durably(turn: &SyncTurn, committed: &AtomicU64, synced: &AtomicU64, is_syncing: &AtomicU64) {
    let end = committed.fetch_add(1, Ordering::AcqRel) + 1;
    let is_done = || synced.load(Ordering::Acquire) >= end;
    if let Some(held) = turn.take_unless(end, is_done) {
        assert_eq!(is_syncing.fetch_add(1, Ordering::AcqRel), 0, "one thread syncs at a time");
        let all = committed.load(Ordering::Acquire);
        held.begin(all);
        synced.store(all, Ordering::Release);
        is_syncing.fetch_sub(1, Ordering::AcqRel);
    }
    assert!(is_done());
}

#[test]
fn whoever_waits_for_a_sync_gets_it() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Arc::new((SyncTurn::default(), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)));
        let put = |shared: &(SyncTurn, AtomicU64, AtomicU64, AtomicU64)| {
            put_durably(&shared.0, &shared.1, &shared.2, &shared.3);
        };
        let others: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || put(&shared))
            })
            .collect();
        put(&shared);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn a_turn_taken_for_something_else_blocks_nobody_forever() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Arc::new((SyncTurn::default(), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || put_durably(&shared.0, &shared.1, &shared.2, &shared.3))
            })
            .collect();
        drop(shared.0.take());
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}
