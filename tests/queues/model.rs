//! Queues against a model: records that are received, acknowledged, released, extended, buried and restored in random order, while shards change,
//! records are trimmed, time passes, the clock is set, and the process closes the queue or dies: L1, L3, P6.

use crate::common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use streamlog::{
    Clock, Error, HOUR, ManualClock, PutRecord, Queue, QueueRecord, Receipt, ReceiptHandle, Retention,
    SECOND, SequenceNumber, ShardId, Stream, Timestamp,
};
use tempfile::TempDir;

const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(30);
const DELAY_MAX: Duration = Duration::from_secs(43_200);
const ID_KNOWN_FOR: Duration = Duration::from_secs(300);
const KEY_COUNT: u32 = 6;

#[derive(Debug, Clone)]
enum Operation {
    Put {
        count: u8,
    },
    PutDelayed {
        seconds: u8,
    },
    PutWithId {
        id: u8,
    },
    Receive {
        max: u8,
    },
    ReceiveDead {
        max: u8,
    },
    Acknowledge {
        pick: u8,
    },
    AcknowledgeAll,
    /// With any handle that was ever issued.
    AcknowledgeOld {
        pick: u16,
    },
    Release {
        pick: u8,
        seconds: u8,
    },
    Extend {
        pick: u8,
        seconds: u8,
    },
    Restore {
        pick: u8,
    },
    SetMaxReceiveCount {
        count: Option<u32>,
    },
    Purge,
    Trim {
        pick: u8,
    },
    Split {
        pick: u8,
    },
    Merge {
        pick: u8,
    },
    Advance {
        seconds: u8,
    },
    SetClock {
        is_forward: bool,
        hours: u8,
    },
    Maintain,
    Close,
    Kill,
}

fn operation() -> impl Strategy<Value = Operation> {
    let pick = any::<u8>();
    prop_oneof![
        8 => (1..12u8).prop_map(|count| Operation::Put { count }),
        1 => (0..60u8).prop_map(|seconds| Operation::PutDelayed { seconds }),
        1 => (0..4u8).prop_map(|id| Operation::PutWithId { id }),
        14 => (1..8u8).prop_map(|max| Operation::Receive { max }),
        3 => (1..8u8).prop_map(|max| Operation::ReceiveDead { max }),
        8 => pick.prop_map(|pick| Operation::Acknowledge { pick }),
        1 => Just(Operation::AcknowledgeAll),
        2 => any::<u16>().prop_map(|pick| Operation::AcknowledgeOld { pick }),
        5 => (pick, 0..60u8).prop_map(|(pick, seconds)| Operation::Release { pick, seconds: seconds.saturating_sub(30) }),
        2 => (pick, 0..60u8).prop_map(|(pick, seconds)| Operation::Extend { pick, seconds }),
        2 => pick.prop_map(|pick| Operation::Restore { pick }),
        1 => prop::option::of(1..5u32).prop_map(|count| Operation::SetMaxReceiveCount { count }),
        1 => Just(Operation::Purge),
        1 => pick.prop_map(|pick| Operation::Trim { pick }),
        1 => pick.prop_map(|pick| Operation::Split { pick }),
        1 => pick.prop_map(|pick| Operation::Merge { pick }),
        4 => (1..40u8).prop_map(|seconds| Operation::Advance { seconds }),
        1 => (any::<bool>(), 0..30u8).prop_map(|(is_forward, hours)| Operation::SetClock { is_forward, hours }),
        1 => Just(Operation::Maintain),
        1 => Just(Operation::Close),
        1 => Just(Operation::Kill),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Visible,
    InFlight(Until),
    Delayed(Until),
    /// Acknowledged, purged or trimmed.
    Gone,
}

/// A time by both clocks: the first counts while the queue is open, the second for the next opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Until {
    elapsed: Duration,
    time_of_day: Timestamp,
}

#[derive(Debug)]
struct Expected {
    key: u32,
    receipt: Receipt,
    status: Status,
    is_dead: bool,
    receive_count: u32,
    first_received: Option<Timestamp>,
    handle: Option<ReceiptHandle>,
}

struct World {
    _scratch: TempDir,
    root: PathBuf,
    round: u32,
    clock: Arc<ManualClock>,
    is_ordered: bool,
    max_receive_count: Option<u32>,
    stream: Option<Stream>,
    queue: Option<Queue>,
    /// In the order of the puts. The data of a record is its index.
    records: Vec<Expected>,
    ids: BTreeMap<u8, (Until, Receipt)>,
    old_handles: Vec<ReceiptHandle>,
}

impl World {
    fn new(is_ordered: bool) -> Self {
        let scratch = common::scratch();
        let mut world = Self {
            root: scratch.path().to_owned(),
            _scratch: scratch,
            round: 0,
            clock: common::clock(),
            is_ordered,
            max_receive_count: Some(3),
            stream: None,
            queue: None,
            records: vec![],
            ids: BTreeMap::new(),
            old_handles: vec![],
        };
        world.open();
        world
    }

    fn path(&self) -> PathBuf {
        self.root.join(self.round.to_string())
    }

    fn open(&mut self) {
        let stream =
            common::small(&self.clock).shards(3).retention(Retention::forever()).open(self.path()).unwrap();
        let options = stream.queue("model").visibility_timeout(VISIBILITY_TIMEOUT);
        let options = options.max_receive_count(self.max_receive_count);
        let options = if self.is_ordered { options.ordered_by_key() } else { options };
        self.queue = Some(options.open().unwrap());
        self.stream = Some(stream);
        // The time of day says what is left.
        let (elapsed, now) = (self.clock.elapsed(), self.clock.now());
        let again = |until: &mut Until, max: Duration| {
            until.elapsed = elapsed + until.time_of_day.since(now).min(max);
            until.time_of_day = now + (until.elapsed - elapsed);
        };
        for record in &mut self.records {
            if let Status::InFlight(until) | Status::Delayed(until) = &mut record.status {
                again(until, DELAY_MAX);
            }
        }
        self.ids.values_mut().for_each(|(until, _)| again(until, ID_KNOWN_FOR));
    }

    fn stream(&self) -> &Stream {
        self.stream.as_ref().unwrap()
    }

    fn queue(&self) -> Queue {
        self.queue.clone().unwrap()
    }

    fn until(&self, delay: Duration) -> Until {
        Until { elapsed: self.clock.elapsed() + delay, time_of_day: self.clock.now() + delay }
    }

    /// The first step of the queue in each call.
    fn settle(&mut self) {
        let (elapsed, max) = (self.clock.elapsed(), self.max_receive_count);
        for record in &mut self.records {
            let (Status::InFlight(until) | Status::Delayed(until)) = record.status else { continue };
            if until.elapsed <= elapsed {
                record.give_back(Status::Visible, max);
            }
        }
        self.ids.retain(|_, (until, _)| until.elapsed > elapsed);
    }

    fn note_put(&mut self, receipt: Receipt, key: u32, status: Status) {
        self.records.push(Expected {
            key,
            receipt,
            status,
            is_dead: false,
            receive_count: 0,
            first_received: None,
            handle: None,
        });
    }

    fn next_record(&self) -> (u32, [u8; 4], [u8; 4]) {
        let number = self.records.len() as u32;
        let key = (number.wrapping_mul(2_654_435_761) >> 16) % KEY_COUNT;
        (key, key.to_le_bytes(), number.to_le_bytes())
    }

    /// Returns whether the queue may deliver a record.
    fn is_deliverable(&self, at: usize) -> bool {
        let record = &self.records[at];
        if record.is_dead || record.status != Status::Visible {
            return false;
        }
        !self.is_ordered
            || self.records.iter().enumerate().all(|(other_at, other)| {
                let is_in_the_way = match other.status {
                    Status::Gone => false,
                    _ if other.is_dead => false,
                    Status::InFlight(_) => true,
                    _ => other_at < at,
                };
                other.key != record.key || !is_in_the_way
            })
    }

    fn in_flight(&self) -> Vec<usize> {
        let is_in_flight = |at: &usize| matches!(self.records[*at].status, Status::InFlight(_));
        (0..self.records.len()).filter(is_in_flight).collect()
    }

    fn run(&mut self, operation: &Operation) {
        let pick = |pick: usize, from: &[usize]| (!from.is_empty()).then(|| from[pick % from.len()]);
        match *operation {
            Operation::Put { count } => {
                for _ in 0..count {
                    let (key, key_bytes, data) = self.next_record();
                    let receipt = self.stream().put(key_bytes, data).unwrap();
                    self.note_put(receipt, key, Status::Visible);
                }
            }
            Operation::PutDelayed { seconds } => {
                let (key, key_bytes, data) = self.next_record();
                let delay = u32::from(seconds) * SECOND;
                let receipt = self.queue().put_delayed(&PutRecord::new(&key_bytes, &data), delay).unwrap();
                let until = self.until(delay);
                self.note_put(receipt, key, Status::Delayed(until));
            }
            Operation::PutWithId { id } => {
                self.settle();
                let (key, key_bytes, data) = self.next_record();
                let record = PutRecord::new(&key_bytes, &data);
                let receipt = self.queue().put([id], &record).unwrap();
                match self.ids.get(&id) {
                    Some((_, first)) => assert_eq!(receipt, *first, "the id is known"),
                    None => {
                        self.ids.insert(id, (self.until(ID_KNOWN_FOR), receipt));
                        self.note_put(receipt, key, Status::Visible);
                    }
                }
            }
            Operation::Receive { max } => self.receive(max.into()),
            Operation::ReceiveDead { max } => self.receive_dead(max.into()),
            Operation::Acknowledge { pick: which } => {
                self.settle();
                let Some(at) = pick(which.into(), &self.in_flight()) else { return };
                self.queue().acknowledge(&self.records[at].handle.unwrap()).unwrap();
                self.records[at].status = Status::Gone;
            }
            Operation::AcknowledgeAll => {
                self.settle();
                let in_flight = self.in_flight();
                let handles: Vec<_> = in_flight.iter().map(|&at| self.records[at].handle.unwrap()).collect();
                let outcomes = self.queue().acknowledge_batch(&handles).unwrap();
                assert!(outcomes.iter().all(Result::is_ok));
                in_flight.iter().for_each(|&at| self.records[at].status = Status::Gone);
            }
            Operation::AcknowledgeOld { pick: which } => {
                self.settle();
                if self.old_handles.is_empty() {
                    return;
                }
                let handle = self.old_handles[usize::from(which) % self.old_handles.len()];
                let outcome = self.queue().acknowledge(&handle);
                let is_of =
                    |record: &&mut Expected| record.handle == Some(handle) && record.status != Status::Gone;
                match self.records.iter_mut().find(is_of) {
                    Some(record) => {
                        outcome.unwrap();
                        record.status = Status::Gone;
                    }
                    None => {
                        assert!(matches!(outcome, Err(Error::ReceiptHandleInvalid { .. })), "{outcome:?}")
                    }
                }
            }
            Operation::Release { pick: which, seconds } => {
                self.settle();
                let Some(at) = pick(which.into(), &self.in_flight()) else { return };
                let delay = u32::from(seconds) * SECOND;
                self.queue().release(&self.records[at].handle.unwrap(), delay).unwrap();
                let status = if seconds == 0 { Status::Visible } else { Status::Delayed(self.until(delay)) };
                let max = self.max_receive_count;
                self.records[at].give_back(status, max);
                self.records[at].handle = None;
            }
            Operation::Extend { pick: which, seconds } => {
                self.settle();
                let Some(at) = pick(which.into(), &self.in_flight()) else { return };
                let timeout = u32::from(seconds) * SECOND;
                self.queue().extend(&self.records[at].handle.unwrap(), timeout).unwrap();
                self.records[at].status = Status::InFlight(self.until(timeout));
            }
            Operation::Restore { pick: which } => {
                self.settle();
                let mut dead = self.in_flight();
                dead.retain(|&at| self.records[at].is_dead);
                let Some(at) = pick(which.into(), &dead) else { return };
                self.queue().restore(&self.records[at].handle.unwrap()).unwrap();
                let record = &mut self.records[at];
                (record.status, record.is_dead, record.receive_count) = (Status::Visible, false, 0);
                (record.first_received, record.handle) = (None, None);
            }
            Operation::SetMaxReceiveCount { count } => {
                self.settle();
                self.queue().set_max_receive_count(count).unwrap();
                self.max_receive_count = count;
                let visible = self.records.iter_mut().filter(|record| record.status == Status::Visible);
                visible.for_each(|record| record.give_back(Status::Visible, count));
            }
            Operation::Purge => {
                self.queue().purge().unwrap();
                let alive = self.records.iter_mut().filter(|record| !record.is_dead);
                alive.for_each(|record| record.status = Status::Gone);
            }
            Operation::Trim { pick: which } => {
                let shards = self.stream().shards();
                let shard = &shards[usize::from(which) % shards.len()];
                let of_shard = self.records.iter().filter(|record| record.receipt.shard == shard.id);
                let sequences: Vec<_> = of_shard.map(|record| record.receipt.sequence).collect();
                let Some(middle) = sequences.get(sequences.len() / 2) else { return };
                self.stream().trim_before(shard.id, *middle).unwrap();
                self.forget_trimmed(shard.id, *middle);
                self.settle();
                self.queue().describe().unwrap();
                // A kill may undo a trim within a segment, but not what the queue has learned.
                self.read_on();
            }
            Operation::Split { pick: which } => {
                let open: Vec<_> =
                    self.stream().shards().into_iter().filter(|shard| shard.is_open()).collect();
                if open.len() < 8 {
                    self.stream().split_shard_evenly(open[usize::from(which) % open.len()].id).unwrap();
                }
            }
            Operation::Merge { pick: which } => {
                let mut open: Vec<_> =
                    self.stream().shards().into_iter().filter(|shard| shard.is_open()).collect();
                open.sort_by_key(|shard| shard.hash_key_range.start);
                if open.len() > 1 {
                    let at = usize::from(which) % (open.len() - 1);
                    self.stream().merge_shards(open[at].id, open[at + 1].id).unwrap();
                }
            }
            Operation::Advance { seconds } => self.clock.advance(u32::from(seconds) * SECOND),
            Operation::SetClock { is_forward, hours } => {
                let by = u32::from(hours) * HOUR;
                // For delayed records, the time of day counts until the queue reads them.
                self.read_on();
                self.clock.set(if is_forward { self.clock.now() + by } else { self.clock.now() - by });
            }
            Operation::Maintain => {
                self.settle();
                self.stream().maintain().unwrap();
            }
            Operation::Close => {
                self.settle();
                self.queue.take().unwrap().close().unwrap();
                self.stream.take().unwrap().close().unwrap();
                self.open();
            }
            Operation::Kill => {
                let killed = self.path();
                self.round += 1;
                common::copy_dir(&killed, &self.path());
                (self.queue, self.stream) = (None, None);
                self.open();
            }
        }
        self.check_counts();
    }

    /// Makes the queue read everything: nothing new can be delivered.
    fn read_on(&mut self) {
        for _ in 0..2 {
            self.receive(1_000);
        }
    }

    fn forget_trimmed(&mut self, shard: ShardId, before: SequenceNumber) {
        let is_trimmed =
            |record: &&mut Expected| record.receipt.shard == shard && record.receipt.sequence < before;
        self.records.iter_mut().filter(is_trimmed).for_each(|record| record.status = Status::Gone);
    }

    fn receive(&mut self, max: usize) {
        self.settle();
        let received = self.queue().receive(max, Duration::ZERO).unwrap();
        assert!(received.len() <= max);
        let is_all = received.len() < max;
        for record in received {
            let at = index_of(&record);
            assert!(
                self.is_deliverable(at),
                "record {at} was handed out, but is {:?}; in order: {}",
                self.records[at],
                self.is_ordered
            );
            self.note_received(at, record);
        }
        if is_all {
            let left = (0..self.records.len()).find(|&at| self.is_deliverable(at));
            assert_eq!(left, None, "a record was not handed out: {:?}", left.map(|at| &self.records[at]));
        }
    }

    fn receive_dead(&mut self, max: usize) {
        self.settle();
        let received = self.queue().receive_dead_letters(max, Duration::ZERO).unwrap();
        let is_all = received.len() < max;
        let is_visible = |record: &Expected| record.is_dead && record.status == Status::Visible;
        for record in received {
            let at = index_of(&record);
            assert!(is_visible(&self.records[at]), "{:?}", self.records[at]);
            self.note_received(at, record);
        }
        if is_all {
            assert!(!self.records.iter().any(is_visible), "all dead letters were handed out");
        }
    }

    fn note_received(&mut self, at: usize, record: QueueRecord) {
        let (until, now) = (self.until(VISIBILITY_TIMEOUT), self.clock.now());
        let expected = &mut self.records[at];
        expected.receive_count += 1;
        let first_received = *expected.first_received.get_or_insert(now);
        assert_eq!((record.receive_count, record.first_received), (expected.receive_count, first_received));
        assert_eq!(
            (record.shard, record.record.sequence),
            (expected.receipt.shard, expected.receipt.sequence)
        );
        assert_eq!(*record.record.partition_key, expected.key.to_le_bytes());
        assert!(!self.old_handles.contains(&record.handle), "each delivery has a handle of its own");
        (expected.status, expected.handle) = (Status::InFlight(until), Some(record.handle));
        self.old_handles.push(record.handle);
    }

    fn check_counts(&mut self) {
        self.settle();
        let described = self.queue().describe().unwrap();
        let count = |is: &dyn Fn(&Expected) -> bool| self.records.iter().filter(|record| is(record)).count();
        let counts = (
            described.unread.record_count as usize + described.visible_count + described.delayed_count,
            described.in_flight_count,
            described.dead_letter_count,
        );
        let expected = (
            count(&|it| !it.is_dead && matches!(it.status, Status::Visible | Status::Delayed(_))),
            count(&|it| !it.is_dead && matches!(it.status, Status::InFlight(_))),
            count(&|it| it.is_dead && it.status != Status::Gone),
        );
        assert_eq!(counts, expected, "visible and delayed, in flight, dead: {described:?}");
    }

    /// Handles all remaining records.
    fn drain(&mut self) {
        for _ in 0..self.records.len() + 10 {
            if self.records.iter().all(|record| record.status == Status::Gone) {
                break;
            }
            self.receive(1_000);
            self.receive_dead(1_000);
            self.run(&Operation::AcknowledgeAll);
            self.clock.advance(HOUR);
        }
        let left = self.records.iter().find(|record| record.status != Status::Gone);
        assert!(left.is_none(), "not everything was handed out: {left:?}");
        let described = self.queue().describe().unwrap();
        assert_eq!((described.unread.record_count, described.visible_count), (0, 0));
    }
}

impl Expected {
    fn give_back(&mut self, status: Status, max_receive_count: Option<u32>) {
        if max_receive_count.is_some_and(|max| self.receive_count >= max) && !self.is_dead {
            (self.is_dead, self.status, self.handle) = (true, Status::Visible, None);
        } else {
            self.status = status;
        }
    }
}

fn index_of(record: &QueueRecord) -> usize {
    u32::from_le_bytes((*record.record.data).try_into().unwrap()) as usize
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150)
}

proptest! {
    #![proptest_config(Config {
        cases: cases(),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/queues/model.regressions"))),
        ..Config::default()
    })]

    #[test]
    fn l1_l3_p6_a_queue_hands_out_what_is_not_done_and_nothing_else(
        is_ordered in any::<bool>(),
        operations in prop::collection::vec(operation(), 1..120)
    ) {
        let mut world = World::new(is_ordered);
        for operation in &operations {
            world.run(operation);
        }
        world.drain();
    }
}
