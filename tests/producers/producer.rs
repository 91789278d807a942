//! Producers: they buffer records, batch them and write them on another thread. No record is lost, order is kept, memory is bounded.

use crate::common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use streamlog::{
    Clock, Durability, Error, HOUR, HashKey, ManualClock, PendingReceipt, Position, Producer,
    ProducerOptions, PutRecord, Receipt, SECOND, Stream, StreamOptions, Timestamp,
};
use tempfile::TempDir;

/// The timeout for expected events. Only a failure takes this long.
const LONG: Duration = Duration::from_secs(300);

fn open(options: StreamOptions) -> (TempDir, Stream) {
    let scratch = common::scratch();
    let stream = options.open(scratch.path()).unwrap();
    (scratch, stream)
}

fn start(options: ProducerOptions) -> Producer {
    options.start().unwrap()
}

/// Holds a producer's only sender in a callback until the gate opens or is dropped. The producer must not linger.
struct Gate(Sender<()>);

impl Gate {
    fn close(producer: &Producer) -> Self {
        let (enter, entered) = channel();
        let (leave, left) = channel();
        let stay = move |outcome: streamlog::Result<Receipt>| {
            outcome.unwrap();
            enter.send(()).unwrap();
            // Ends when the gate opens.
            let _ = left.recv();
        };
        producer.put_then(&PutRecord::new("gate", "gate"), stay).unwrap();
        entered.recv_timeout(LONG).unwrap();
        Self(leave)
    }

    fn open(self) {
        self.0.send(()).unwrap();
    }
}

/// Returns all records but those of gates. The records of each key keep their order.
fn read(stream: &Stream) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut iterator = stream.lineage_iterator(Position::TrimHorizon).unwrap();
    let mut found = vec![];
    loop {
        let batch = iterator.next_batch(1_000).unwrap();
        if batch.is_empty() {
            return found;
        }
        let records = batch.iter().map(|record| (record.partition_key().to_vec(), record.data().to_vec()));
        found.extend(records.filter(|(key, _)| key != b"gate"));
    }
}

/// Checks that a record is where its receipt says.
#[track_caller]
fn assert_at(stream: &Stream, receipt: Receipt, key: &[u8], data: &[u8]) {
    let mut iterator = stream.iterator(receipt.shard, Position::At(receipt.sequence)).unwrap();
    let batch = iterator.next_batch(1).unwrap();
    let record = batch.iter().next().expect("a record");
    assert_eq!((record.sequence(), record.partition_key(), record.data()), (receipt.sequence, key, data));
}

fn number(data: &[u8]) -> u64 {
    u64::from_le_bytes(*data.first_chunk().unwrap())
}

/// Checks that the data of each key counts from 0 up to `count`.
#[track_caller]
fn assert_in_order(records: &[(Vec<u8>, Vec<u8>)], key_count: usize, count: u64) {
    let mut next: HashMap<&[u8], u64> = HashMap::new();
    for (key, data) in records {
        let next = next.entry(key).or_default();
        assert_eq!(number(data), *next, "the records of {key:?} are not in order");
        *next += 1;
    }
    assert_eq!(next.len(), key_count);
    assert!(next.values().all(|&next| next == count), "{next:?}");
}

#[test]
fn a_receipt_says_where_the_record_is() {
    let (_scratch, stream) = open(StreamOptions::new().shards(4));
    let producer = start(stream.producer().senders(3));
    let keys: Vec<String> = (0..200).map(|at| format!("key {at}")).collect();
    let pending: Vec<_> = keys.iter().map(|key| producer.put(key, key).unwrap()).collect();
    for (key, pending) in keys.iter().zip(pending) {
        let receipt = pending.wait_timeout(LONG).unwrap().unwrap();
        assert!(pending.is_done());
        assert_eq!(pending.clone().wait().unwrap(), receipt);
        assert_at(&stream, receipt, key.as_bytes(), key.as_bytes());
    }
    let hash_key = HashKey::MAX;
    let record = PutRecord::new("placed", "here").explicit_hash_key(hash_key);
    let receipt = producer.put_record(&record).unwrap().wait().unwrap();
    let shards = stream.shards();
    let owner = shards.iter().find(|shard| shard.hash_key_range.contains(hash_key)).unwrap();
    assert_eq!(receipt.shard, owner.id);
    let receipt = producer.try_put_record(&record).unwrap().wait().unwrap();
    assert_at(&stream, receipt, b"placed", b"here");
}

#[test]
fn p4_the_records_of_a_key_keep_their_order_from_many_threads_while_shards_change() {
    let (_scratch, stream) = open(StreamOptions::new().shards(2).segment_bytes(64 << 10));
    // Batches of all sizes, and a buffer that is full most of the time.
    let producer =
        start(stream.producer().senders(3).batch_bytes(3_000).batch_count(70).buffer_bytes(20 << 10));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..6_u8)
            .map(|writer| {
                let producer = &producer;
                scope.spawn(move || {
                    for number in 0..3_000_u64 {
                        // Two keys in turn, each with its own count.
                        let mut data = (number / 2).to_le_bytes().to_vec();
                        data.resize(8 + (number as usize * 7) % 90, 0);
                        producer.put([writer, (number % 2) as u8], data).unwrap();
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                stream.update_shard_count(5).unwrap();
                stream.update_shard_count(2).unwrap();
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        is_over.store(true, Ordering::SeqCst);
    });
    producer.close().unwrap();
    assert_in_order(&read(&stream), 12, 1_500);
}

#[test]
fn p4_what_has_one_hash_key_keeps_its_order_whatever_the_partition_keys_are() {
    let (_scratch, stream) = open(StreamOptions::new());
    let producer = start(stream.producer().senders(8).batch_count(3));
    let hash_key = stream.describe().key_hash.hash(b"key");
    for number in 0..1_000_u64 {
        let (key, data) = (format!("key {number}"), number.to_le_bytes());
        let record = match number % 2 {
            0 => PutRecord::new("key", &data),
            _ => PutRecord::new(&key, &data).explicit_hash_key(hash_key),
        };
        producer.put_record(&record).unwrap();
    }
    producer.close().unwrap();
    let found: Vec<u64> = read(&stream).iter().map(|(_, data)| number(data)).collect();
    assert_eq!(found, (0..1_000).collect::<Vec<_>>());
}

#[test]
fn the_bound_holds_and_a_full_buffer_refuses_puts() {
    const BOUND: usize = 64 << 10;
    let (_scratch, stream) = open(StreamOptions::new());
    let producer = start(stream.producer().buffer_bytes(BOUND).batch_bytes(1_000));
    let gate = Gate::close(&producer);
    let mut taken = 0_u64;
    loop {
        match producer.try_put("key", taken.to_le_bytes()) {
            Ok(_) => taken += 1,
            Err(Error::ProducerFull) => break,
            Err(error) => panic!("{error}"),
        }
        assert!(producer.buffered_bytes() <= BOUND + 512);
    }
    // The bound counts the bytes and little more.
    assert!(taken as usize * (3 + 8) < BOUND && taken > 350, "{taken}");
    assert!(matches!(producer.try_put("key", ""), Ok(_) | Err(Error::ProducerFull)));
    gate.open();
    while let Err(error) = producer.try_put("other", 0_u64.to_le_bytes()) {
        assert!(matches!(error, Error::ProducerFull));
        std::thread::yield_now();
    }
    producer.flush().unwrap();
    assert_eq!(producer.buffered_bytes(), 0);
    let found = read(&stream);
    let of_key = found.iter().filter(|(key, data)| key == b"key" && !data.is_empty());
    assert_eq!(of_key.map(|(_, data)| number(data)).collect::<Vec<_>>(), (0..taken).collect::<Vec<_>>());
}

/// Puts until the buffer is full. Returns the number of records.
fn fill(producer: &Producer, data: &[u8]) -> usize {
    let mut count = 0;
    while producer.try_put("filling", data).is_ok() {
        count += 1;
    }
    count
}

#[test]
fn a_put_waits_for_room() {
    let (_scratch, stream) = open(StreamOptions::new());
    let producer = start(stream.producer().buffer_bytes(8 << 10));
    let gate = Gate::close(&producer);
    let count = fill(&producer, &[7; 100]);
    std::thread::scope(|scope| {
        let (done, is_done) = channel();
        // Also larger records, which small ones must not lock out.
        for len in [100, 7_000, 100, 6_000] {
            let (producer, done) = (&producer, done.clone());
            scope.spawn(move || done.send(producer.put("late", vec![1; len]).map(drop)).unwrap());
        }
        assert!(is_done.recv_timeout(Duration::from_millis(100)).is_err(), "a put did not wait for room");
        gate.open();
        for _ in 0..4 {
            is_done.recv_timeout(LONG).unwrap().unwrap();
        }
    });
    producer.close().unwrap();
    assert_eq!(read(&stream).len(), count + 4);
}

#[test]
fn a_large_record_gets_in_between_small_ones() {
    let (_scratch, stream) = open(StreamOptions::new().segment_bytes(64 << 10));
    let producer = start(stream.producer().buffer_bytes(8 << 10).batch_count(3));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    producer.put("small", "small").unwrap();
                }
            });
        }
        for _ in 0..20 {
            producer.put("large", [7; 7_900]).unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
    });
    producer.close().unwrap();
}

#[test]
fn a_put_that_waits_fails_when_the_producer_is_closed() {
    let (_scratch, stream) = open(StreamOptions::new());
    let producer = start(stream.producer().buffer_bytes(8 << 10));
    let gate = Gate::close(&producer);
    let count = fill(&producer, &[7; 100]);
    let closed = std::thread::scope(|scope| {
        let waiting = [0, 1].map(|_| scope.spawn(|| producer.put("late", [1; 1_000])));
        let closer = scope.spawn(|| producer.clone().close());
        for put in waiting {
            assert!(matches!(put.join().unwrap(), Err(Error::Closed)));
        }
        // Everything taken so far is still to be written.
        gate.open();
        closer.join().unwrap()
    });
    closed.unwrap();
    assert!(matches!(producer.put("later", ""), Err(Error::Closed)));
    assert!(matches!(producer.try_put("later", ""), Err(Error::Closed)));
    producer.flush().unwrap();
    producer.clone().close().unwrap();
    assert_eq!(producer.buffered_bytes(), 0);
    assert_eq!(read(&stream).len(), count);
}

#[test]
fn closing_and_dropping_lose_nothing_and_do_not_linger() {
    type End = fn(Producer);
    let ends: [(&str, End); 3] = [
        ("close", |producer| producer.close().unwrap()),
        ("drop", drop),
        ("drop of the last clone", |producer| {
            let clone = producer.clone();
            drop(producer);
            clone.put("key", 100_u64.to_le_bytes()).unwrap();
            drop(clone);
        }),
    ];
    for (name, end) in ends {
        let (_scratch, stream) = open(StreamOptions::new().shards(3));
        let producer = start(stream.producer().linger(HOUR).senders(2));
        let pending: Vec<_> =
            (0..100_u64).map(|number| producer.put("key", number.to_le_bytes()).unwrap()).collect();
        assert!(!pending.iter().any(PendingReceipt::is_done), "it lingers");
        end(producer);
        assert!(pending.iter().all(PendingReceipt::is_done), "{name}");
        let count = if name.contains("last") { 101 } else { 100 };
        assert_in_order(&read(&stream), 1, count);
    }
}

#[test]
fn a_full_batch_does_not_linger_and_one_that_is_not_full_does() {
    for by_bytes in [false, true] {
        let (_scratch, stream) = open(StreamOptions::new());
        let options = stream.producer().linger(HOUR);
        // Ten records of 8 bytes with a key of 2.
        let producer = start(if by_bytes { options.batch_bytes(100) } else { options.batch_count(10) });
        let put = |number: u64| producer.put("ab", number.to_le_bytes()).unwrap();
        for pending in (0..10).map(put).collect::<Vec<_>>() {
            pending.wait().unwrap();
        }
        let pending: Vec<_> = (10..15).map(put).collect();
        assert!(!pending.iter().any(PendingReceipt::is_done));
        assert!(pending[0].wait_timeout(Duration::ZERO).is_none());
        producer.flush().unwrap();
        assert!(pending.iter().all(PendingReceipt::is_done));
    }
}

#[test]
fn a_record_that_a_batch_has_no_room_for_begins_the_next() {
    let (_scratch, stream) = open(StreamOptions::new());
    let producer = start(stream.producer().linger(HOUR).batch_bytes(100));
    let [first, second] = [0, 1].map(|_| producer.put("key", [7; 60]).unwrap());
    first.wait().unwrap();
    assert!(!second.is_done());
    // A record larger than a batch is a batch by itself.
    let large = producer.put("key", [7; 1_000]).unwrap();
    second.wait().unwrap();
    large.wait().unwrap();
}

#[test]
fn a_batch_that_lingers_is_sent_in_the_end() {
    let (_scratch, stream) = open(StreamOptions::new());
    let producer = start(stream.producer().linger(Duration::from_millis(3)));
    for _ in 0..3 {
        producer.put("key", "data").unwrap().wait_timeout(LONG).unwrap().unwrap();
    }
}

#[test]
fn nothing_lingers_while_a_put_waits_for_room() {
    let (_scratch, stream) = open(StreamOptions::new());
    let producer =
        start(stream.producer().linger(HOUR).senders(3).batch_bytes(1 << 30).buffer_bytes(8 << 10));
    for number in 0..500_u64 {
        producer.put(number.to_le_bytes(), [7; 100]).unwrap();
    }
    // Nor while the caller retries a put that does not wait.
    for number in 0..500_u64 {
        while producer.try_put(number.to_le_bytes(), [7; 100]).is_err() {
            std::thread::yield_now();
        }
    }
    producer.close().unwrap();
    assert_eq!(read(&stream).len(), 1_000);
}

#[test]
fn a_record_with_room_on_the_disk_is_written_however_long_it_waited() {
    let clock = common::clock();
    let (_scratch, stream) = open(common::small(&clock));
    let producer = start(stream.producer().time_to_live(SECOND));
    let gate = Gate::close(&producer);
    let pending = producer.put("key", "data").unwrap();
    clock.advance(1_000 * HOUR);
    gate.open();
    pending.wait().unwrap();
}

#[test]
fn a_record_that_nobody_can_write_is_refused_at_once_and_harms_no_other() {
    let (_scratch, stream) = open(StreamOptions::new().record_bytes_max(10_000));
    let producer = start(stream.producer().linger(HOUR).buffer_bytes(9_000));
    let before = producer.put("key", "before").unwrap();
    let refused = |key: &[u8], data: &[u8]| {
        let record = PutRecord::new(key, data);
        let never = |_| panic!("a refused record has no outcome");
        for outcome in [
            producer.put(key, data).map(drop),
            producer.try_put(key, data).map(drop),
            producer.put_then(&record, never),
        ] {
            match outcome.unwrap_err() {
                Error::InvalidRecord { index: 0, reason } => assert!(!reason.is_empty()),
                error => panic!("{error}"),
            }
        }
    };
    refused(b"", b"no key");
    refused(&[7; 1_025], b"a key that is too long");
    refused(b"key", &[7; 10_000]);
    // The stream itself takes it.
    refused(b"key", &[7; 9_000]);
    stream.put(b"key", [7; 9_000]).unwrap();
    let after = producer.put("key", "after").unwrap();
    producer.close().unwrap();
    before.wait().unwrap();
    after.wait().unwrap();
}

#[test]
fn settings_out_of_range_are_refused() {
    let (_scratch, stream) = open(StreamOptions::new());
    let zero = Duration::ZERO;
    for options in [
        stream.producer().batch_bytes(0),
        stream.producer().batch_bytes((1 << 30) + 1),
        stream.producer().batch_count(0),
        stream.producer().batch_count(usize::MAX),
        stream.producer().buffer_bytes(100),
        stream.producer().buffer_bytes(usize::MAX),
        stream.producer().senders(0),
        stream.producer().senders(257),
        stream.producer().time_to_live(zero),
        stream.producer().backoff(zero, SECOND),
        stream.producer().backoff(SECOND, SECOND / 2),
    ] {
        let told = format!("{options:?}");
        assert!(matches!(options.start(), Err(Error::InvalidArgument(_))), "{told}");
    }
    let producer = start(stream.producer().linger(Duration::MAX).buffer_bytes(isize::MAX as usize));
    producer.put("key", "data").unwrap();
    producer.close().unwrap();
}

#[test]
fn a_stream_closed_under_a_producer_fails_its_records() {
    for durability in [Durability::Process, Durability::Power] {
        let (_scratch, stream) = open(StreamOptions::new().durability(durability));
        let producer = start(stream.producer());
        let gate = Gate::close(&producer);
        let buffered = producer.put("key", "data").unwrap();
        stream.clone().close().unwrap();
        gate.open();
        assert!(matches!(buffered.wait(), Err(Error::Closed)));
        assert!(matches!(producer.put("key", "data").unwrap().wait(), Err(Error::Closed)));
        assert!(matches!(producer.close(), Err(Error::Closed)));
    }
}

#[test]
fn a_flush_waits_for_what_was_put_before_and_for_no_more() {
    let (_scratch, stream) = open(StreamOptions::new().shards(2));
    let producer = start(stream.producer().linger(HOUR).senders(2).buffer_bytes(64 << 10));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0_u64;
            while !is_over.load(Ordering::SeqCst) {
                producer.put(number.to_le_bytes(), "others").unwrap();
                number += 1;
            }
        });
        let flushing: Vec<_> = (0..3_u8)
            .map(|thread| {
                let producer = &producer;
                scope.spawn(move || {
                    for number in 0..200_u64 {
                        let called = Arc::new(AtomicUsize::new(0));
                        let in_callback = Arc::clone(&called);
                        let note = move |_| _ = in_callback.fetch_add(1, Ordering::SeqCst);
                        producer.put_then(&PutRecord::new(&[thread, 1], "callback"), note).unwrap();
                        let pending = producer.put([thread, 2], number.to_le_bytes()).unwrap();
                        producer.flush().unwrap();
                        assert!(pending.is_done());
                        assert_eq!(called.load(Ordering::SeqCst), 1);
                    }
                })
            })
            .collect();
        flushing.into_iter().for_each(|thread| thread.join().unwrap());
        is_over.store(true, Ordering::SeqCst);
    });
}

#[test]
fn callbacks_come_once_each_in_order_and_one_that_panics_does_so_alone() {
    let (_scratch, stream) = open(StreamOptions::new().shards(2));
    let producer = start(stream.producer().senders(2).batch_count(7));
    let calls: Arc<Mutex<Vec<(u64, Receipt)>>> = Arc::default();
    for number in 0..100_u64 {
        let calls = Arc::clone(&calls);
        let record = number.to_le_bytes();
        let note = move |outcome: streamlog::Result<Receipt>| {
            calls.lock().unwrap().push((number, outcome.unwrap()));
            // The list is unlocked again here.
            assert!(number % 30 != 0, "the test makes this callback panic");
        };
        producer.put_then(&PutRecord::new("key", &record), note).unwrap();
    }
    producer.close().unwrap();
    let calls = calls.lock().unwrap();
    assert_eq!(calls.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    for (number, receipt) in calls.iter() {
        assert_at(&stream, *receipt, b"key", &number.to_le_bytes());
    }
}

/// Runs `work` in a callback of a producer. Returns a channel with its result.
fn in_callback<T: Send + 'static>(
    producer: Producer,
    work: impl FnOnce(Producer) -> T + Send + 'static,
) -> Receiver<T> {
    let (sender, receiver) = channel();
    let inner = producer.clone();
    let run = move |_| drop(sender.send(work(inner)));
    producer.put_then(&PutRecord::new("gate", "callback"), run).unwrap();
    receiver
}

#[test]
fn a_callback_may_put_but_never_waits_for_its_own_producer() {
    let (_scratch, stream) = open(StreamOptions::new());
    let producer = start(stream.producer().buffer_bytes(8 << 10));
    let filled = in_callback(producer.clone(), |producer| {
        assert!(matches!(producer.flush(), Err(Error::InvalidArgument(_))));
        assert!(matches!(producer.clone().close(), Err(Error::InvalidArgument(_))));
        let count = fill(&producer, &[7; 100]);
        assert!(matches!(producer.put("late", [7; 1_000]), Err(Error::ProducerFull)));
        count
    });
    let count = filled.recv_timeout(LONG).expect("the callback neither waits nor panics");
    producer.put("key", "the producer is still open").unwrap();
    producer.close().unwrap();
    assert!(count > 10);
    assert_eq!(read(&stream).len(), count + 1);
}

#[test]
fn a_producer_that_is_dropped_in_its_callback_writes_what_it_has() {
    let (_scratch, stream) = open(StreamOptions::new());
    let producer = start(stream.producer());
    let (go, may_go) = channel();
    let dropped = in_callback(producer.clone(), move |producer| {
        may_go.recv().unwrap();
        let pending = producer.put("key", 0_u64.to_le_bytes()).unwrap();
        // The last handle.
        drop(producer);
        pending
    });
    drop(producer);
    go.send(()).unwrap();
    let pending = dropped.recv_timeout(LONG).unwrap();
    pending.wait_timeout(LONG).unwrap().unwrap();
    assert_in_order(&read(&stream), 1, 1);
}

/// A clock that panics on a producer's threads once its flag is set.
#[derive(Debug)]
struct Breaking(AtomicBool, ManualClock);

impl Clock for Breaking {
    fn now(&self) -> Timestamp {
        let is_sender = std::thread::current().name() == Some("streamlog-send");
        assert!(!(is_sender && self.0.load(Ordering::SeqCst)), "the test makes the clock panic");
        self.1.now()
    }
}

#[test]
fn nobody_waits_for_a_sender_that_is_gone() {
    let clock = Arc::new(Breaking(AtomicBool::new(false), ManualClock::new(Timestamp::from_millis(1_000))));
    let (_scratch, stream) = open(StreamOptions::new().clock(clock.clone()));
    let producer = start(stream.producer().buffer_bytes(8 << 10).batch_count(5));
    let gate = Gate::close(&producer);
    let pending: Vec<_> = (0..12).map(|_| producer.put("key", "data").unwrap()).collect();
    fill(&producer, &[7; 100]);
    clock.0.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| producer.put("key", [7; 1_000]));
        gate.open();
        for pending in pending {
            assert!(matches!(pending.wait_timeout(LONG), Some(Err(Error::Closed))));
        }
        // The put may enter the buffer while the sender ends. Then its receipt fails.
        let put = waiting.join().unwrap();
        assert!(matches!(put.and_then(PendingReceipt::wait), Err(Error::Closed)));
    });
    assert!(matches!(producer.put("key", "data"), Err(Error::Closed)));
    assert!(matches!(producer.close(), Err(Error::Closed)));
}

#[cfg(target_os = "linux")]
mod full_disk {
    use super::*;
    use common::mounts::{Ballast, Kind, Mount};

    #[test]
    fn p8_a_full_disk_is_waited_for_and_nothing_is_lost_or_misordered() {
        for kind in [Kind::Tmpfs, Kind::Ext4, Kind::Xfs] {
            let Some(mount) = Mount::new(kind) else { continue };
            let options = StreamOptions::new().shards(3).segment_bytes(64 << 10);
            let stream = options.open(mount.path().join("stream")).unwrap();
            let millisecond = Duration::from_millis(1);
            let options = stream.producer().senders(2).time_to_live(None);
            let producer =
                start(options.batch_bytes(5_000).buffer_bytes(100 << 10).backoff(millisecond, millisecond));
            let ballast = Ballast::fill(mount.path());
            std::thread::scope(|scope| {
                for writer in 0..4_u8 {
                    let producer = &producer;
                    scope.spawn(move || {
                        for number in 0..500_u64 {
                            let mut data = number.to_le_bytes().to_vec();
                            data.resize(500, 0);
                            producer.put([writer], data).unwrap();
                        }
                    });
                }
                // The writers put more than the buffer holds, so they finish only once the disk has room.
                while stream.put("room", [7; 30_000]).is_ok() {}
                drop(ballast);
            });
            producer.close().unwrap();
            let mut found = read(&stream);
            found.retain(|(key, _)| key != b"room");
            assert_in_order(&found, 4, 500);
            stream.close().unwrap();
        }
    }

    #[test]
    fn p8_a_record_that_a_full_disk_outlasts_says_so() {
        let Some(mount) = Mount::new(Kind::Tmpfs) else { return };
        let clock = common::clock();
        let stream = common::small(&clock).open(mount.path().join("stream")).unwrap();
        let millisecond = Duration::from_millis(1);
        let options = stream.producer().time_to_live(10 * SECOND).backoff(millisecond, millisecond);
        let producer = start(options.clone());
        let ballast = Ballast::fill(mount.path());
        let pending = producer.put("key", "data").unwrap();
        // A direct put fails, so the sender's put fails too. The sender may or may not have begun before the clock moves.
        assert!(matches!(stream.put("key", "data"), Err(Error::StorageFull(_))));
        clock.advance(10 * SECOND);
        let error = pending.wait().unwrap_err();
        assert!(
            matches!(&error, Error::ProducerExpired { cause } if matches!(**cause, Error::StorageFull(_))),
            "{error}"
        );
        // Dropping a producer takes no longer than its records' time to live.
        producer.put("key", "data").unwrap();
        std::thread::scope(|scope| {
            let dropped = scope.spawn(|| drop(producer));
            while !dropped.is_finished() {
                clock.advance(SECOND);
                std::thread::yield_now();
            }
        });
        drop(ballast);
        start(options).put("key", "data").unwrap().wait().unwrap();
        assert_eq!(read(&stream).len(), 1);
    }
}

/// A step of one thread.
#[derive(Debug, Clone)]
enum Step {
    Put { key: u8, len: usize, is_placed: bool },
    TryPut { key: u8, len: usize },
    PutThen { key: u8, len: usize },
    Flush,
    Scale { count: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![8 => 0..300_usize, 1 => 2_000..5_000_usize];
    prop_oneof![
        20 => (0..4_u8, len.clone(), any::<bool>()).prop_map(|(key, len, is_placed)| Step::Put { key, len, is_placed }),
        10 => (0..4_u8, len.clone()).prop_map(|(key, len)| Step::TryPut { key, len }),
        10 => (0..4_u8, len).prop_map(|(key, len)| Step::PutThen { key, len }),
        2 => Just(Step::Flush),
        1 => (1..5_u32).prop_map(|count| Step::Scale { count }),
    ]
}

/// Key, data and receipt of each put of a thread, in the order of the puts.
type Written = Vec<(Vec<u8>, Vec<u8>, Receipt)>;

/// The data of a record: its number, and bytes that show whether it is whole.
fn data_of(number: u64, len: usize) -> Vec<u8> {
    let mut data = number.to_le_bytes().to_vec();
    data.resize(8 + len, number as u8);
    data
}

proptest! {
    // A failure depends on how the threads run, so a saved case proves little.
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn p4_whatever_the_settings_each_record_is_written_once_in_order(
        threads in proptest::collection::vec(proptest::collection::vec(step(), 0..120), 1..4),
        (batch_bytes, batch_count, buffer_bytes) in (1..6_000_usize, 1..60_usize, 6_000..40_000_usize),
        (senders, linger_us, shards) in (1..4_usize, prop_oneof![Just(0_u64), 1..3_000_u64], 1..4_u32),
        is_dropped in any::<bool>(),
    ) {
        let (_scratch, stream) = open(StreamOptions::new().shards(shards).segment_bytes(64 << 10));
        let options = stream.producer().batch_bytes(batch_bytes).batch_count(batch_count);
        let options = options.buffer_bytes(buffer_bytes).senders(senders);
        let producer = start(options.linger(Duration::from_micros(linger_us)));
        let written: Vec<Written> = std::thread::scope(|scope| {
            let running: Vec<_> = threads.iter().zip(0_u8..).map(|(steps, thread)| {
                let (producer, stream) = (&producer, &stream);
                scope.spawn(move || run(steps, thread, producer, stream))
            }).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        if is_dropped { drop(producer) } else { producer.close().unwrap() }
        let found = read(&stream);
        prop_assert_eq!(found.len(), written.iter().map(Vec::len).sum::<usize>());
        let mut by_key: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
        for (key, data) in found {
            by_key.entry(key).or_default().push(data);
        }
        for (key, data, receipt) in written.iter().flatten() {
            assert_at(&stream, *receipt, key, data);
        }
        for (key, found) in by_key {
            let put = written.iter().flatten().filter(|(of, ..)| *of == key);
            prop_assert_eq!(found, put.map(|(_, data, _)| data.clone()).collect::<Vec<_>>());
        }
    }
}

/// Runs the steps of a thread, which has keys of its own. Returns what was written, in the order of the puts.
fn run(steps: &[Step], thread: u8, producer: &Producer, stream: &Stream) -> Written {
    let (told, outcomes) = channel();
    let mut pending = vec![];
    for (step, number) in steps.iter().zip(0_u64..) {
        match *step {
            Step::Put { key, len, is_placed } => {
                // A key is always placed or never, so that it has one order.
                let (key, data) = (vec![thread, key, is_placed.into()], data_of(number, len));
                let record = PutRecord::new(&key, &data);
                let place = HashKey::new(u128::from(key[1]) << 126);
                let record = if is_placed { record.explicit_hash_key(place) } else { record };
                let put = producer.put_record(&record).unwrap();
                pending.push((number, key, data, put));
            }
            Step::TryPut { key, len } => {
                let (key, data) = (vec![thread, key, 0], data_of(number, len));
                match producer.try_put(&key, &data) {
                    Ok(put) => pending.push((number, key, data, put)),
                    Err(error) => assert!(matches!(error, Error::ProducerFull), "{error}"),
                }
            }
            Step::PutThen { key, len } => {
                let (key, data) = (vec![thread, key, 0], data_of(number, len));
                let told = told.clone();
                let (own_key, own_data) = (key.clone(), data.clone());
                let tell = move |outcome| {
                    told.send((number, own_key, own_data, outcome)).expect("the receiver waits")
                };
                producer.put_then(&PutRecord::new(&key, &data), tell).unwrap();
            }
            Step::Flush => {
                producer.flush().unwrap();
                assert!(pending.iter().all(|(.., put): &(_, _, _, PendingReceipt)| put.is_done()));
            }
            Step::Scale { count } => drop(stream.update_shard_count(count).unwrap()),
        }
    }
    drop(told);
    producer.flush().unwrap();
    let waited = pending.into_iter().map(|(number, key, data, put)| (number, key, data, put.wait()));
    let mut written: Vec<_> = waited.chain(outcomes).collect();
    written.sort_by_key(|(number, ..)| *number);
    written.into_iter().map(|(_, key, data, outcome)| (key, data, outcome.unwrap())).collect()
}
