//! Producers on a disk that fails: a callback sets the hook on the sender's thread.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::log::sys::fault::{Hook, set_hook};
use crate::{
    Durability, Error, HOUR, HashKey, Maintenance, ManualClock, Position, Producer, PutRecord, Result,
    SECOND, ShardId, Stream, StreamOptions, Timestamp, extend,
};

/// How long a test waits for what must happen. Only a failure takes this long.
const LONG: Duration = Duration::from_secs(300);
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A disk that refuses everything to the second shard while it is full, and counts the refusals.
#[derive(Default)]
struct FullDisk {
    is_full: AtomicBool,
    refusals: AtomicUsize,
}

impl FullDisk {
    fn hook(self: &Arc<Self>) -> Hook {
        let disk = Arc::clone(self);
        Box::new(move |_, path: &Path| {
            let is_second = path.to_string_lossy().contains("000000000001");
            if is_second && disk.is_full.load(Ordering::SeqCst) {
                disk.refusals.fetch_add(1, Ordering::SeqCst);
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
            Ok(())
        })
    }

    fn wait_for_refusals(&self, count: usize) {
        let target = self.refusals.load(Ordering::SeqCst) + count;
        let started = Instant::now();
        while self.refusals.load(Ordering::SeqCst) < target {
            assert!(started.elapsed() < LONG, "nothing is tried");
            std::thread::yield_now();
        }
    }
}

struct Case {
    clock: Arc<ManualClock>,
    stream: Stream,
    producer: Producer,
    disk: Arc<FullDisk>,
    _scratch: tempfile::TempDir,
}

/// Returns a key that goes to the first or to the second shard.
fn key_of(shard: usize) -> HashKey {
    HashKey::new(if shard == 0 { 0 } else { u128::MAX })
}

impl Case {
    /// Returns a stream of two shards, the second of which finds the disk full. Records linger until they are flushed.
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let scratch = tempfile::tempdir().unwrap();
        let options = StreamOptions::new().shards(2).segment_bytes(64 << 10).maintenance(Maintenance::Manual);
        let stream = options.clock(clock.clone()).open(scratch.path()).unwrap();
        let options = stream.producer().linger(HOUR).time_to_live(10 * SECOND);
        let millisecond = Duration::from_millis(1);
        let producer = options.backoff(millisecond, millisecond).start().unwrap();
        let disk = Arc::new(FullDisk::default());
        disk.is_full.store(true, Ordering::SeqCst);
        let hooked = Arc::clone(&disk);
        on_sender(&producer, move || set_hook(Some(hooked.hook())));
        Self { clock, stream, producer, disk, _scratch: scratch }
    }

    fn put(&self, shard: usize, data: &str) -> crate::PendingReceipt {
        let record = PutRecord::new("key", data).explicit_hash_key(key_of(shard));
        self.producer.put_record(&record).unwrap()
    }

    /// Sends what is buffered, without waiting for it.
    fn send(&self) {
        self.producer.shared().lanes[0].hurry();
    }

    fn read(&self, shard: u32) -> Vec<String> {
        let mut iterator = self.stream.iterator(ShardId::new(shard), Position::TrimHorizon).unwrap();
        let batch = iterator.next_batch(1_000).unwrap();
        batch.iter().map(|record| String::from_utf8(record.data().to_vec()).unwrap()).collect()
    }
}

/// Runs something on the thread of the only sender.
fn on_sender(producer: &Producer, work: impl FnOnce() + Send + 'static) {
    let record = PutRecord::new("key", "hook").explicit_hash_key(key_of(0));
    producer.put_then(&record, |_| work()).unwrap();
    producer.flush().unwrap();
}

#[test]
fn what_one_shard_has_no_room_for_is_tried_again_in_order_and_nothing_overtakes_it() {
    let case = Case::new();
    let pending: Vec<_> =
        ["a", "b", "c", "d"].iter().enumerate().map(|(at, data)| case.put(at % 2, data)).collect();
    case.send();
    // The first shard has room, and its records get their receipts meanwhile.
    for at in [0, 2] {
        pending[at].wait_timeout(LONG).unwrap().unwrap();
    }
    case.disk.wait_for_refusals(3);
    assert!(!pending[1].is_done() && !pending[3].is_done());
    let behind = [case.put(0, "e"), case.put(1, "f")];
    case.send();
    case.disk.wait_for_refusals(3);
    assert!(!behind[0].is_done() && !behind[1].is_done(), "overtaken");
    case.disk.is_full.store(false, Ordering::SeqCst);
    case.producer.flush().unwrap();
    assert!(pending.iter().chain(&behind).all(|pending| pending.clone().wait().is_ok()));
    assert_eq!(case.read(0), ["hook", "a", "c", "e"]);
    assert_eq!(case.read(1), ["b", "d", "f"]);
    assert_eq!(case.producer.buffered_bytes(), 0);
}

#[test]
fn a_producer_that_is_dropped_within_any_callback_writes_what_it_has_once_there_is_room() {
    let Case { stream, producer, disk, clock: _clock, _scratch } = Case::new();
    let record = PutRecord::new("key", "data").explicit_hash_key(key_of(1));
    let pending = producer.put_record(&record).unwrap();
    let (sender, dropped) = channel();
    std::thread::spawn(move || {
        extend::run_callback(|| drop(producer));
        sender.send(())
    });
    dropped.recv_timeout(LONG).expect("the drop does not wait, and maintenance can make room");
    disk.wait_for_refusals(3);
    disk.is_full.store(false, Ordering::SeqCst);
    pending.wait_timeout(LONG).unwrap().unwrap();
    assert_eq!(stream.stats().unwrap().record_count(), 2);
}

#[test]
fn a_record_expires_after_its_time_to_live_and_younger_ones_are_tried_on() {
    let case = Case::new();
    let old = case.put(1, "old");
    case.clock.advance(4 * SECOND);
    let young = case.put(1, "young");
    case.send();
    case.disk.wait_for_refusals(3);
    assert!(!old.is_done());
    case.clock.advance(6 * SECOND);
    match old.wait_timeout(LONG).unwrap().unwrap_err() {
        Error::ProducerExpired { cause } => assert!(matches!(*cause, Error::StorageFull(_)), "{cause}"),
        error => panic!("{error}"),
    }
    case.disk.wait_for_refusals(3);
    assert!(!young.is_done());
    case.disk.is_full.store(false, Ordering::SeqCst);
    young.wait().unwrap();
    assert_eq!(case.read(1), ["young"]);
    assert!(matches!(case.producer.flush(), Err(Error::ProducerExpired { .. })), "a flush tells of it");
    case.producer.flush().expect("and only once");
}

#[test]
fn a_clock_that_is_set_forward_expires_no_record() {
    let case = Case::new();
    let waiting = case.put(1, "waiting");
    case.send();
    case.disk.wait_for_refusals(3);
    case.clock.set(case.stream.now() + HOUR);
    case.disk.wait_for_refusals(3);
    assert!(!waiting.is_done());
    case.disk.is_full.store(false, Ordering::SeqCst);
    waiting.wait().unwrap();
}

#[test]
fn a_record_that_was_given_up_is_no_longer_in_the_way() {
    let case = Case::new();
    let old = case.put(1, "old");
    case.send();
    case.disk.wait_for_refusals(3);
    let behind = [case.put(1, "too old by then"), case.put(0, "written")];
    case.clock.advance(10 * SECOND);
    let [too_old, written] = behind;
    let Case { producer, .. } = &case;
    assert!(matches!(producer.flush(), Err(Error::ProducerExpired { .. })));
    assert!(matches!(old.wait(), Err(Error::ProducerExpired { .. })));
    assert!(matches!(too_old.wait(), Err(Error::ProducerExpired { .. })));
    written.wait().unwrap();
}

#[test]
fn p10_a_shard_that_is_poisoned_is_told_of_and_not_tried_again() {
    let scratch = tempfile::tempdir().unwrap();
    let options = StreamOptions::new().durability(Durability::Power).maintenance(Maintenance::Manual);
    let stream = options.open(scratch.path()).unwrap();
    let producer = stream.producer().start().unwrap();
    let syncs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&syncs);
    on_sender(&producer, move || {
        set_hook(Some(Box::new(move |action, _| {
            if !action.starts_with("sync") {
                return Ok(());
            }
            counted.fetch_add(1, Ordering::SeqCst);
            Err(io::Error::from_raw_os_error(EIO))
        })));
    });
    let error = producer.put("key", "unknown").unwrap().wait().unwrap_err();
    assert!(matches!(error, Error::Io(_) | Error::Poisoned(_)), "{error}");
    assert_eq!(syncs.load(Ordering::SeqCst), 1);
    assert!(matches!(producer.put("key", "refused").unwrap().wait(), Err(Error::Poisoned(_))));
    assert_eq!(syncs.load(Ordering::SeqCst), 1);
    assert!(matches!(producer.close(), Err(Error::Io(_) | Error::Poisoned(_))));
}

#[test]
fn callbacks_are_told_of_errors_too() {
    let case = Case::new();
    let (sender, receiver) = channel::<Result<_>>();
    let record = PutRecord::new("key", "data").explicit_hash_key(key_of(1));
    case.producer.put_then(&record, move |outcome| sender.send(outcome).unwrap()).unwrap();
    case.send();
    case.disk.wait_for_refusals(1);
    case.clock.advance(10 * SECOND);
    let outcome = receiver.recv_timeout(LONG).unwrap();
    assert!(matches!(outcome, Err(Error::ProducerExpired { .. })));
    receiver.recv_timeout(LONG).expect_err("once");
}
