//! Registered consumers and their subscriptions: take-over, heartbeats, limits, and the ends of a subscription.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::tasks::{Count, poll_once};
use proptest::collection::vec;
use proptest::prelude::*;
use streamlog::{
    Clock, Error, HOUR, Limits, MINUTE, ManualClock, OnTrimmed, Position, SECOND, SequenceNumber,
    ShardFilter, ShardId, Stream, StreamOptions, StreamReader, Subscription, SubscriptionEvent,
    SubscriptionOptions, extend,
};
use tempfile::TempDir;

const NAME: &str = "dashboard";
const SHARD: ShardId = ShardId::new(0);
const MILLISECOND: Duration = Duration::from_millis(1);
/// The timeout for expected events. Only a failure takes this long.
const LONG: Duration = Duration::from_secs(300);

struct Case {
    clock: Arc<ManualClock>,
    stream: Stream,
    scratch: TempDir,
}

impl Case {
    fn new(options: impl FnOnce(StreamOptions) -> StreamOptions) -> Self {
        let (clock, scratch) = (common::clock(), common::scratch());
        let stream = options(common::small(&clock)).open(scratch.path()).unwrap();
        stream.register_consumer(NAME).unwrap();
        Self { clock, stream, scratch }
    }

    fn reopen(&mut self) {
        self.stream.clone().close().unwrap();
        self.stream = common::small(&self.clock).open(self.scratch.path()).unwrap();
    }

    fn put(&self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.stream.put("key", number.to_be_bytes()).unwrap();
        }
    }

    fn subscribe(&self, position: Position) -> SubscriptionOptions {
        self.stream.subscribe(NAME, SHARD, position)
    }

    fn open(&self, position: Position) -> Subscription {
        self.subscribe(position).open().unwrap()
    }
}

fn numbers(event: &SubscriptionEvent) -> Vec<u32> {
    event.batch().iter().map(|record| u32::from_be_bytes(record.data().try_into().unwrap())).collect()
}

/// Returns the event that is available now.
#[track_caller]
fn now(subscription: &mut Subscription) -> Option<SubscriptionEvent> {
    subscription.poll(Duration::ZERO).unwrap()
}

#[track_caller]
fn is_in_use<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    match outcome {
        Err(Error::ConsumerInUse { consumer, shard }) => assert_eq!((&*consumer, shard), (NAME, SHARD)),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_unknown<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    match outcome {
        Err(Error::InvalidArgument(text)) => assert!(text.contains("no registered consumer"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn l1_consumers_are_registered_until_they_are_removed_also_through_a_crash() {
    let mut case = Case::new(|options| options);
    let first = case.stream.describe_consumer(NAME).unwrap();
    assert_eq!((&*first.name, first.created_at), (NAME, case.stream.now()));
    case.clock.advance(SECOND);
    assert_eq!(case.stream.register_consumer(NAME).unwrap(), first, "it is registered already");
    case.stream.register_consumer("audit").unwrap();
    let names = |stream: &StreamReader| {
        stream.consumers().unwrap().into_iter().map(|consumer| consumer.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&case.stream), ["audit", NAME]);
    assert_eq!(names(&StreamReader::open(case.scratch.path()).unwrap()), ["audit", NAME]);
    let copy = common::scratch();
    common::copy_dir(case.scratch.path(), &copy.path().join("copy"));
    let crashed = common::small(&case.clock).open(copy.path().join("copy")).unwrap();
    assert_eq!(crashed.describe_consumer(NAME).unwrap(), first);
    case.stream.snapshot(copy.path().join("backup"), |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert_eq!(names(&StreamReader::open(copy.path().join("backup")).unwrap()), ["audit", NAME]);
    case.reopen();
    assert_eq!(case.stream.describe_consumer(NAME).unwrap(), first);
    case.stream.deregister_consumer(NAME).unwrap();
    is_unknown(case.stream.deregister_consumer(NAME));
    is_unknown(case.stream.describe_consumer(NAME));
    is_unknown(case.subscribe(Position::Latest).open());
    case.reopen();
    assert_eq!(names(&case.stream), ["audit"]);
    assert!(case.stream.register_consumer(NAME).unwrap().created_at > first.created_at, "another one");
    for name in ["", ".", "..", ".hidden", "a/b", "ä", &"a".repeat(129)] {
        let refused = case.stream.register_consumer(name);
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
        let refused = case.stream.describe_consumer(name);
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    }
    let clone = case.stream.clone();
    case.stream.close().unwrap();
    assert!(matches!(clone.register_consumer(NAME), Err(Error::Closed)));
    assert!(matches!(clone.deregister_consumer(NAME), Err(Error::Closed)));
    assert!(matches!(clone.subscribe(NAME, SHARD, Position::Latest).open(), Err(Error::Closed)));
}

#[test]
fn l1_a_registration_or_a_removal_that_was_interrupted_leaves_no_consumer() {
    let case = Case::new(|options| options);
    let consumers = case.scratch.path().join("consumers");
    // What a kill leaves before the manifest is written, and after it is set aside.
    fs::create_dir_all(consumers.join("created/shards")).unwrap();
    case.stream.register_consumer("removed").unwrap();
    fs::rename(consumers.join("removed/manifest.json"), consumers.join("removed/manifest.deleted")).unwrap();
    for name in ["created", "removed"] {
        assert_eq!(case.stream.consumers().unwrap().len(), 1);
        is_unknown(case.stream.describe_consumer(name));
        is_unknown(case.stream.subscribe(name, SHARD, Position::Latest).open());
        case.stream.register_consumer(name).unwrap();
        case.stream.deregister_consumer(name).unwrap();
    }
    assert!(!consumers.join("created").exists() && !consumers.join("removed").exists());
}

#[test]
fn a_subscription_hands_out_records_as_they_arrive_from_any_position() {
    let case = Case::new(|options| options);
    case.put(0..10);
    let mut all = case.subscribe(Position::TrimHorizon).batch_records(4).open().unwrap();
    assert_eq!(numbers(&now(&mut all).unwrap()), [0, 1, 2, 3]);
    let event = now(&mut all).unwrap();
    assert_eq!(event.next_sequence(), Some(SequenceNumber::new(8)));
    assert!(event.millis_behind_latest() > 0);
    assert_eq!(numbers(&now(&mut all).unwrap()), [8, 9]);
    assert!(now(&mut all).is_none());
    case.put(10..12);
    let event = now(&mut all).unwrap();
    assert_eq!((numbers(&event), event.millis_behind_latest()), (vec![10, 11], 0));
    all.close();
    assert_eq!(numbers(&now(&mut case.open(Position::At(11.into()))).unwrap()), [11]);
    assert!(now(&mut case.open(Position::Latest)).is_none());
    let mut small = case.subscribe(Position::TrimHorizon).batch_bytes(14).open().unwrap();
    assert_eq!(numbers(&now(&mut small).unwrap()), [0, 1], "a key and a number have 7 bytes");
    assert_eq!((small.consumer(), small.shard()), (NAME, SHARD));
    let refused = case.subscribe(Position::Latest).batch_records(0).open();
    assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    let refused = case.subscribe(Position::Latest).heartbeat(Duration::ZERO).open();
    assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    let refused = case.stream.subscribe(NAME, ShardId::new(7), Position::Latest).open();
    assert!(matches!(refused, Err(Error::ShardNotFound(_))), "{refused:?}");
}

#[test]
fn the_second_subscription_is_refused_for_five_seconds_and_then_takes_over() {
    let case = Case::new(|options| options);
    case.put(0..3);
    let mut first = case.open(Position::TrimHorizon);
    is_in_use(case.subscribe(Position::Latest).open());
    case.clock.advance(5 * SECOND - MILLISECOND);
    is_in_use(case.subscribe(Position::Latest).open());
    assert_eq!(numbers(&now(&mut first).unwrap()), [0, 1, 2], "the refused ones change nothing");
    case.clock.advance(MILLISECOND);
    let mut second = case.open(Position::TrimHorizon);
    is_in_use(first.poll(Duration::ZERO));
    is_in_use(first.poll(LONG));
    assert!(first.is_over());
    assert_eq!(numbers(&now(&mut second).unwrap()), [0, 1, 2]);
    is_in_use(case.subscribe(Position::Latest).open());
    drop(first);
    is_in_use(case.subscribe(Position::Latest).open());
    drop(second);
    let third = case.open(Position::Latest);
    let other = case.stream.split_shard_evenly(SHARD).unwrap()[0].id;
    case.stream.subscribe(NAME, other, Position::Latest).open().expect("another shard");
    case.stream.register_consumer("audit").unwrap();
    case.stream.subscribe("audit", SHARD, Position::Latest).open().expect("another consumer");
    assert!(!third.is_over());
}

#[test]
fn whoever_waits_is_woken_when_another_takes_over_or_the_consumer_is_removed() {
    let case = Case::new(|options| options);
    for is_removed in [false, true] {
        // Without the heartbeats that a thread would get if it starts late.
        let mut thread = case.subscribe(Position::Latest).heartbeat(HOUR).open().unwrap();
        case.stream.register_consumer("task").unwrap();
        let options = case.stream.subscribe("task", SHARD, Position::Latest);
        let mut task = options.heartbeat(HOUR).open().unwrap();
        let waiting = std::thread::spawn(move || thread.poll(LONG).map(drop));
        let (count, waker) = Count::new();
        let mut next = task.next();
        assert!(poll_once(&mut next, &waker).is_pending());
        case.clock.advance(5 * SECOND - MILLISECOND);
        std::thread::sleep(10 * MILLISECOND);
        assert!(!waiting.is_finished());
        assert_eq!(count.get(), 0);
        case.clock.advance(MILLISECOND);
        let (mut thread, mut task) = (None, None);
        if is_removed {
            case.stream.deregister_consumer(NAME).unwrap();
            case.stream.deregister_consumer("task").unwrap();
        } else {
            thread = Some(case.open(Position::Latest));
            task = Some(case.stream.subscribe("task", SHARD, Position::Latest).open().unwrap());
        }
        assert_eq!(count.get(), 1);
        let (of_thread, of_task) = (waiting.join().unwrap(), poll_once(&mut next, &waker));
        let std::task::Poll::Ready(of_task) = of_task else { panic!("it waits on") };
        if is_removed {
            is_unknown(of_thread);
            is_unknown(of_task);
        } else {
            is_in_use(of_thread);
            assert!(matches!(of_task, Err(Error::ConsumerInUse { .. })), "{of_task:?}");
        }
        drop((next, thread.take(), task.take()));
    }
}

#[test]
fn a_quiet_shard_gives_a_heartbeat_each_five_seconds() {
    let case = Case::new(|options| options);
    case.put(0..2);
    let mut subscription = case.open(Position::TrimHorizon);
    case.clock.advance(4 * SECOND);
    assert_eq!(numbers(&now(&mut subscription).unwrap()), [0, 1]);
    case.clock.advance(5 * SECOND - MILLISECOND);
    assert!(now(&mut subscription).is_none());
    case.clock.advance(MILLISECOND);
    let event = now(&mut subscription).unwrap();
    assert!(event.batch().is_empty());
    assert_eq!((event.next_sequence(), event.millis_behind_latest()), (Some(2.into()), 0));
    assert_eq!(event.child_shards(), None);
    assert!(now(&mut subscription).is_none(), "one");
    drop(subscription);
    let mut often = case.subscribe(Position::Latest).heartbeat(SECOND).open().unwrap();
    for _ in 0..3 {
        case.clock.advance(SECOND);
        assert!(now(&mut often).unwrap().batch().is_empty());
        assert!(now(&mut often).is_none());
    }
    drop(often);
    // As a task: the maintenance wakes it, and not before.
    let mut subscription = case.open(Position::Latest);
    let (count, waker) = Count::new();
    let mut next = subscription.next();
    assert!(poll_once(&mut next, &waker).is_pending());
    case.clock.advance(4 * SECOND);
    case.stream.maintain().unwrap();
    assert_eq!(count.get(), 0);
    case.clock.advance(SECOND);
    case.stream.maintain().unwrap();
    assert_eq!(count.get(), 1);
    assert!(poll_once(&mut next, &waker).is_ready());
}

#[test]
fn with_the_system_s_clock_time_alone_brings_a_heartbeat_and_the_end() {
    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    stream.register_consumer(NAME).unwrap();
    let mut subscription =
        stream.subscribe(NAME, SHARD, Position::Latest).heartbeat(20 * MILLISECOND).open().unwrap();
    for _ in 0..3 {
        assert!(subscription.poll(Duration::MAX).unwrap().unwrap().batch().is_empty());
    }
    drop(subscription);
    let options = stream.subscribe(NAME, SHARD, Position::Latest).heartbeat(HOUR);
    let mut subscription = options.duration(20 * MILLISECOND).open().unwrap();
    assert!(subscription.poll(Duration::MAX).unwrap().is_none() && subscription.is_over());
}

#[test]
fn a_subscription_ends_after_its_duration_and_continues_without_a_seam() {
    let case = Case::new(|options| options);
    case.put(0..5);
    let options = || case.subscribe(Position::TrimHorizon).duration(5 * MINUTE).batch_records(3);
    let mut first = options().open().unwrap();
    let event = now(&mut first).unwrap();
    assert_eq!(numbers(&event), [0, 1, 2]);
    case.clock.advance(5 * MINUTE);
    assert!(now(&mut first).is_none(), "also if records are there");
    assert!(first.is_over());
    assert!(first.poll(LONG).unwrap().is_none());
    // It blocks no one, although it still exists.
    let mut second = case.open(Position::At(event.next_sequence().unwrap()));
    assert_eq!(numbers(&now(&mut second).unwrap()), [3, 4]);
    drop(second);
    // As a task.
    let mut third = options().open().unwrap();
    now(&mut third).unwrap();
    now(&mut third).unwrap();
    let (count, waker) = Count::new();
    let mut next = third.next();
    assert!(poll_once(&mut next, &waker).is_pending());
    case.clock.advance(5 * MINUTE);
    case.stream.maintain().unwrap();
    assert_eq!(count.get(), 1);
    assert!(matches!(poll_once(&mut next, &waker), std::task::Poll::Ready(Ok(None))));
}

#[test]
fn the_last_event_of_a_shard_names_its_children() {
    let case = Case::new(|options| options);
    case.put(0..3);
    let mut with_records = case.open(Position::TrimHorizon);
    let children = case.stream.split_shard_evenly(SHARD).unwrap();
    let event = now(&mut with_records).unwrap();
    assert_eq!((numbers(&event), event.next_sequence()), (vec![0, 1, 2], None));
    assert_eq!(event.child_shards(), Some(&children[..]));
    assert!(with_records.is_over());
    assert!(with_records.poll(LONG).unwrap().is_none());
    let mut at_the_end = case.open(Position::Latest);
    let event = now(&mut at_the_end).unwrap();
    assert_eq!((event.batch().len(), event.child_shards()), (0, Some(&children[..])));
    assert!(at_the_end.is_over());
    // One that waits is woken by the split.
    let child = children[0].id;
    let mut waiting = case.stream.subscribe(NAME, child, Position::Latest).open().unwrap();
    let thread = std::thread::spawn(move || waiting.poll(LONG).unwrap().unwrap());
    std::thread::sleep(10 * MILLISECOND);
    let grandchildren = case.stream.split_shard_evenly(child).unwrap();
    assert_eq!(thread.join().unwrap().child_shards(), Some(&grandchildren[..]));
}

#[test]
fn each_subscription_has_limits_of_its_own() {
    let limits = Limits::none().read_bytes_per_second(70).read_calls_per_second(1);
    let case = Case::new(|options| options.limits(limits));
    case.put(0..100);
    case.stream.register_consumer("audit").unwrap();
    // All other readers share one limit, which is now used up.
    let mut iterator = case.stream.iterator(SHARD, Position::TrimHorizon).unwrap();
    iterator.next_batch(100).unwrap();
    assert!(matches!(iterator.next_batch(1), Err(Error::Throttled { .. })));
    let options = |name| case.stream.subscribe(name, SHARD, Position::TrimHorizon).batch_records(5);
    let mut first = options(NAME).open().unwrap();
    let mut second = options("audit").open().unwrap();
    for subscription in [&mut first, &mut second] {
        // 35 bytes each, and 70 a second.
        assert_eq!(numbers(&now(subscription).unwrap()), [0, 1, 2, 3, 4]);
        assert_eq!(numbers(&now(subscription).unwrap()), [5, 6, 7, 8, 9]);
        assert!(now(subscription).is_none());
    }
    case.clock.advance(SECOND / 2);
    assert_eq!(numbers(&now(&mut first).unwrap()), [10, 11, 12, 13, 14]);
    assert!(now(&mut first).is_none());
    // Subscribing again does not reset the limit, even after maintenance.
    drop(first);
    case.stream.maintain().unwrap();
    let mut first = options(NAME).open().unwrap();
    assert!(now(&mut first).is_none());
    let (count, waker) = Count::new();
    let mut next = first.next();
    assert!(poll_once(&mut next, &waker).is_pending());
    case.clock.advance(SECOND / 2);
    case.stream.maintain().unwrap();
    assert_eq!(count.get(), 1);
    assert!(poll_once(&mut next, &waker).is_ready());
    drop(next);
    assert!(now(&mut first).is_none());
    // A heartbeat while nothing passes reports how far the consumer is behind.
    case.stream.set_limits(Limits::none().read_bytes_per_second(1)).unwrap();
    case.clock.advance(20 * SECOND);
    assert_eq!(now(&mut first).unwrap().batch().len(), 1, "more than in five seconds");
    case.clock.advance(6 * SECOND);
    let event = now(&mut first).unwrap();
    assert!(event.batch().is_empty());
    assert_eq!(event.millis_behind_latest(), 27_000);
    case.stream.set_limits(Limits::none()).unwrap();
    assert_eq!(now(&mut first).unwrap().batch().len(), 5);
    // A consumer whose limit has fully recovered is forgotten.
    drop((first, second));
    case.clock.advance(MINUTE);
    case.stream.maintain().unwrap();
    assert!(now(&mut options(NAME).open().unwrap()).is_some());
}

#[test]
fn p6_a_consumer_that_retention_has_overtaken_gets_an_error_or_skips_if_it_is_set_to() {
    let case = Case::new(|options| options);
    case.put(0..10);
    case.stream.register_consumer("audit").unwrap();
    let mut fails = case.subscribe(Position::TrimHorizon).batch_records(2).open().unwrap();
    let options = case.stream.subscribe("audit", SHARD, Position::TrimHorizon).batch_records(2);
    let mut skips = options.on_trimmed(OnTrimmed::SkipToHorizon).open().unwrap();
    for subscription in [&mut fails, &mut skips] {
        assert_eq!(numbers(&now(subscription).unwrap()), [0, 1]);
    }
    case.stream.trim_before(SHARD, 7.into()).unwrap();
    for _ in 0..2 {
        assert!(matches!(fails.poll(LONG), Err(Error::Trimmed { .. })));
    }
    assert!(!fails.is_over());
    assert_eq!(fails.skip_to_horizon(), 5);
    for subscription in [&mut fails, &mut skips] {
        assert_eq!(numbers(&now(subscription).unwrap()), [7, 8]);
        assert_eq!(subscription.skipped_count(), 5);
    }
}

#[test]
fn a_closed_stream_is_read_to_its_end() {
    let case = Case::new(|options| options.limits(Limits::none().read_bytes_per_second(3)));
    case.put(0..6);
    let mut subscription = case.subscribe(Position::TrimHorizon).batch_records(2).open().unwrap();
    assert_eq!(numbers(&now(&mut subscription).unwrap()), [0, 1]);
    assert!(now(&mut subscription).is_none());
    let (count, waker) = Count::new();
    let mut next = subscription.next();
    assert!(poll_once(&mut next, &waker).is_pending());
    case.stream.clone().close().unwrap();
    assert!(count.get() > 0);
    assert!(poll_once(&mut next, &waker).is_ready(), "without limits");
    drop(next);
    assert_eq!(numbers(&subscription.poll(LONG).unwrap().unwrap()), [4, 5]);
    assert!(matches!(subscription.poll(LONG), Err(Error::Closed)));
}

#[test]
fn events_are_pushed_to_a_function_and_a_slow_one_holds_up_nobody() {
    let case = Case::new(|options| options);
    let (held, gate) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let slow = case
        .subscribe(Position::Latest)
        .for_each({
            let (held, gate) = (Arc::clone(&held), Arc::clone(&gate));
            move |_| {
                held.store(true, Ordering::SeqCst);
                while !gate.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
            }
        })
        .unwrap();
    case.put(0..1);
    while !held.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    let mut pushed = vec![];
    let (sender, receiver) = mpsc::channel();
    for at in 0..20 {
        let name = format!("consumer-{at}");
        case.stream.register_consumer(&name).unwrap();
        let sender = sender.clone();
        let options = case.stream.subscribe(name, SHARD, Position::TrimHorizon);
        let on_event = move |event: SubscriptionEvent| {
            numbers(&event).into_iter().for_each(|number| sender.send((at, number)).unwrap());
        };
        pushed.push(options.for_each(on_event).unwrap());
    }
    case.put(1..50);
    let mut got: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for _ in 0..20 * 50 {
        let (at, number) = receiver.recv_timeout(LONG).unwrap();
        got.entry(at).or_default().push(number);
    }
    assert_eq!(got.len(), 20);
    assert!(got.values().all(|got| *got == (0..50).collect::<Vec<_>>()), "{got:?}");
    assert!(pushed.iter().all(|pushed| !pushed.is_over()));
    pushed.drain(..10).for_each(drop);
    pushed.drain(..).for_each(|pushed| pushed.close().unwrap());
    drop(sender);
    assert!(receiver.recv_timeout(LONG).is_err(), "all functions are gone");
    gate.store(true, Ordering::SeqCst);
    slow.close().unwrap();
}

#[test]
fn a_pushed_subscription_says_why_it_ended() {
    let case = Case::new(|options| options);
    let panics = case.subscribe(Position::Latest).for_each(|_| panic!("on purpose")).unwrap();
    case.put(0..1);
    while !panics.is_over() {
        std::thread::yield_now();
    }
    assert!(matches!(panics.close(), Err(Error::InvalidArgument(_))));
    let first = case.subscribe(Position::Latest).for_each(drop).unwrap();
    is_in_use(case.subscribe(Position::Latest).for_each(drop));
    case.clock.advance(5 * SECOND);
    let second = case.subscribe(Position::Latest).for_each(drop).unwrap();
    while !first.is_over() {
        std::thread::yield_now();
    }
    is_in_use(first.close());
    case.stream.split_shard_evenly(SHARD).unwrap();
    while !second.is_over() {
        std::thread::yield_now();
    }
    second.close().expect("the shard is read to its end");
}

#[test]
fn a_function_may_end_its_own_subscription_and_close_the_stream() {
    let case = Case::new(|options| options);
    let (hand_over, handle) = mpsc::channel::<streamlog::PushedSubscription>();
    let (sender, done) = mpsc::channel();
    let stream = case.stream.clone();
    let pushed = case
        .subscribe(Position::Latest)
        .for_each(move |_| {
            drop(handle.recv().unwrap());
            stream.clone().close().unwrap();
            sender.send(()).unwrap();
        })
        .unwrap();
    case.put(0..1);
    hand_over.send(pushed).unwrap();
    done.recv_timeout(LONG).unwrap();
    assert!(matches!(case.stream.put("key", "data"), Err(Error::Closed)));
}

#[test]
fn l3_consumers_follow_their_shards_through_splits_while_records_are_put() {
    let case = Case::new(|options| options.shards(2));
    let names: Vec<_> = (0..4).map(|at| format!("consumer-{at}")).collect();
    names.iter().for_each(|name| _ = case.stream.register_consumer(name).unwrap());
    let is_done = AtomicBool::new(false);
    let put_count = 2_000u32;
    std::thread::scope(|scope| {
        let readers = names.iter().map(|name| {
            let (case, is_done) = (&case, &is_done);
            scope.spawn(move || {
                let mut got: BTreeMap<Vec<u8>, Vec<u32>> = BTreeMap::new();
                let mut to_read: Vec<ShardId> = vec![ShardId::new(0), ShardId::new(1)];
                let mut seen = BTreeSet::new();
                while let Some(shard) = to_read.pop() {
                    // Splits only, so that each child has one parent, which is read before.
                    if !seen.insert(shard) {
                        continue;
                    }
                    let options = case.stream.subscribe(name, shard, Position::TrimHorizon).batch_records(50);
                    let mut subscription = options.open().unwrap();
                    loop {
                        // Checked before the poll: nothing is put after that.
                        let was_done = is_done.load(Ordering::SeqCst);
                        match subscription.poll(20 * MILLISECOND).unwrap() {
                            Some(event) => {
                                for record in event.batch() {
                                    let number = u32::from_be_bytes(record.data().try_into().unwrap());
                                    got.entry(record.partition_key().to_vec()).or_default().push(number);
                                }
                                to_read.extend(event.child_shards().into_iter().flatten().map(|it| it.id));
                            }
                            None if subscription.is_over() || was_done => break,
                            None => {}
                        }
                    }
                }
                got
            })
        });
        let readers: Vec<_> = readers.collect();
        for number in 0..put_count {
            case.stream.put(format!("key-{}", number % 9), number.to_be_bytes()).unwrap();
            if number % 400 == 399 {
                let open = case.stream.list_shards(ShardFilter::AtLatest);
                case.stream.split_shard_evenly(open[number as usize % open.len()].id).unwrap();
            }
        }
        is_done.store(true, Ordering::SeqCst);
        for reader in readers {
            let got = reader.join().unwrap();
            assert_eq!(got.values().map(Vec::len).sum::<usize>(), put_count as usize);
            assert!(got.values().all(|numbers| numbers.is_sorted()), "{got:?}");
        }
    });
}

#[test]
fn a_stream_that_was_opened_again_has_its_consumers_and_none_of_their_subscriptions() {
    let mut case = Case::new(|options| options);
    case.put(0..2);
    let mut before = case.open(Position::TrimHorizon);
    let event = now(&mut before).unwrap();
    case.reopen();
    case.put(2..4);
    let mut after = case.open(Position::At(event.next_sequence().unwrap()));
    assert_eq!(numbers(&now(&mut after).unwrap()), [2, 3]);
    assert!(matches!(before.poll(LONG), Err(Error::Closed)));
}

#[derive(Debug, Clone)]
enum Operation {
    Put(u8),
    Advance(u64),
    Subscribe {
        consumer: usize,
        from_start: bool,
        duration: Option<u64>,
    },
    Poll {
        consumer: usize,
        old: bool,
    },
    Drop {
        consumer: usize,
    },
    Deregister {
        consumer: usize,
    },
    /// Drops a part of the records.
    Trim(f64),
    Split,
    Maintain,
    Reopen,
}

fn operation() -> impl Strategy<Value = Operation> {
    let consumer = 0usize..3;
    prop_oneof![
        5 => (0u8..20).prop_map(Operation::Put),
        4 => (0u64..7_000).prop_map(Operation::Advance),
        6 => (consumer.clone(), any::<bool>(), proptest::option::weighted(0.3, 1_000u64..20_000))
            .prop_map(|(consumer, from_start, duration)| Operation::Subscribe { consumer, from_start, duration }),
        10 => (consumer.clone(), proptest::bool::weighted(0.2))
            .prop_map(|(consumer, old)| Operation::Poll { consumer, old }),
        2 => consumer.clone().prop_map(|consumer| Operation::Drop { consumer }),
        1 => consumer.prop_map(|consumer| Operation::Deregister { consumer }),
        2 => (0.0..1.0).prop_map(Operation::Trim),
        1 => Just(Operation::Split),
        1 => Just(Operation::Maintain),
        1 => Just(Operation::Reopen),
    ]
}

/// The expected state of a subscription.
struct Expected {
    subscription: Subscription,
    next: u32,
    begun: Duration,
    last_event: Duration,
    ends_at: Option<Duration>,
    taken_over: bool,
    is_over: bool,
}

/// One consumer: its active subscription, and those that others have ended.
#[derive(Default)]
struct Consumer {
    current: Option<Expected>,
    ended: Vec<Expected>,
}

struct Model {
    case: Case,
    count: u32,
    horizon: u32,
    is_split: bool,
    consumers: [Consumer; 3],
}

impl Model {
    fn name(consumer: usize) -> String {
        format!("consumer-{consumer}")
    }

    fn subscribe(&mut self, consumer: usize, from_start: bool, duration: Option<u64>) {
        let now = self.case.clock.elapsed();
        let (name, of_name) = (Self::name(consumer), &mut self.consumers[consumer]);
        let position = if from_start { Position::TrimHorizon } else { Position::Latest };
        let duration = duration.map(Duration::from_millis);
        let options = self.case.stream.subscribe(&name, SHARD, position).duration(duration).batch_records(7);
        if of_name.current.as_ref().is_some_and(|it| !it.is_over && now - it.begun < 5 * SECOND) {
            let refused = options.open();
            assert!(matches!(refused, Err(Error::ConsumerInUse { .. })), "{refused:?}");
            return;
        }
        let subscription = options.open().unwrap();
        if let Some(mut last) = of_name.current.take() {
            last.taken_over = !last.is_over;
            of_name.ended.push(last);
        }
        let next = if from_start { self.horizon } else { self.count };
        let ends_at = duration.map(|duration| now + duration);
        let (taken_over, is_over) = (false, false);
        let (begun, last_event) = (now, now);
        of_name.current =
            Some(Expected { subscription, next, begun, last_event, ends_at, taken_over, is_over });
    }

    fn poll(expected: &mut Expected, (horizon, count): (u32, u32), is_split: bool, now: Duration) {
        let polled = expected.subscription.poll(Duration::ZERO);
        if expected.taken_over {
            assert!(matches!(polled, Err(Error::ConsumerInUse { .. })), "{polled:?}");
            return;
        }
        expected.is_over |= expected.ends_at.is_some_and(|ends_at| ends_at <= now);
        if !expected.is_over && expected.next < horizon {
            assert!(matches!(polled, Err(Error::Trimmed { .. })), "{polled:?}");
            assert_eq!(expected.subscription.skip_to_horizon(), u64::from(horizon - expected.next));
            expected.next = horizon;
            return;
        }
        let event = polled.unwrap();
        if expected.is_over {
            assert!(event.is_none() && expected.subscription.is_over());
            return;
        }
        let is_end = event.as_ref().is_some_and(|event| event.child_shards().is_some());
        let read = event.as_ref().map_or(0, |event| event.batch().len() as u32);
        assert_eq!(is_end, is_split && expected.next + read == count, "{event:?}");
        assert_eq!(expected.subscription.is_over(), is_end);
        expected.is_over = is_end;
        if is_end && read == 0 {
            assert_eq!(event.unwrap().next_sequence(), None);
        } else if expected.next < count {
            let event = event.unwrap();
            // An event may end where its segment does.
            let end = expected.next + event.batch().len() as u32;
            assert!(end > expected.next && end <= count.min(expected.next + 7), "{event:?}");
            assert_eq!(numbers(&event), (expected.next..end).collect::<Vec<_>>());
            assert_eq!(event.next_sequence(), (!is_end).then(|| u64::from(end).into()));
            (expected.next, expected.last_event) = (end, now);
        } else if now - expected.last_event >= 5 * SECOND {
            let event = event.unwrap();
            assert!(event.batch().is_empty() && event.millis_behind_latest() == 0);
            assert_eq!(event.next_sequence(), Some(u64::from(expected.next).into()));
            expected.last_event = now;
        } else {
            assert!(event.is_none(), "{event:?}");
        }
    }

    fn run(&mut self, operation: &Operation) {
        let now = self.case.clock.elapsed();
        match *operation {
            Operation::Put(_) if self.is_split => {}
            Operation::Put(count) => {
                self.case.put(self.count..self.count + u32::from(count));
                self.count += u32::from(count);
            }
            Operation::Advance(millis) => self.case.clock.advance(Duration::from_millis(millis)),
            Operation::Subscribe { consumer, from_start, duration } => {
                self.subscribe(consumer, from_start, duration);
            }
            Operation::Poll { consumer, old } => {
                let Consumer { current, ended } = &mut self.consumers[consumer];
                let polled = if old { ended.last_mut() } else { current.as_mut() };
                let bounds = (self.horizon, self.count);
                polled.into_iter().for_each(|expected| Self::poll(expected, bounds, self.is_split, now));
            }
            Operation::Drop { consumer } => drop(self.consumers[consumer].current.take()),
            Operation::Deregister { consumer } => {
                self.case.stream.deregister_consumer(&Self::name(consumer)).unwrap();
                let current = self.consumers[consumer].current.take();
                if let Some(mut expected) = current.filter(|expected| !expected.is_over) {
                    is_unknown(expected.subscription.poll(Duration::ZERO));
                }
                self.case.stream.register_consumer(&Self::name(consumer)).unwrap();
            }
            Operation::Trim(part) => {
                self.horizon = self.horizon.max((f64::from(self.count) * part) as u32);
                self.case.stream.trim_before(SHARD, u64::from(self.horizon).into()).unwrap();
            }
            Operation::Split => {
                if !self.is_split {
                    self.case.stream.split_shard_evenly(SHARD).unwrap();
                    self.is_split = true;
                }
            }
            Operation::Maintain => self.case.stream.maintain().unwrap(),
            Operation::Reopen => {
                self.consumers = Default::default();
                self.case.reopen();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn p6_subscriptions_do_what_a_plain_model_does(operations in vec(operation(), 1..60)) {
        let case = Case::new(|options| options);
        (0..3).for_each(|consumer| _ = case.stream.register_consumer(&Model::name(consumer)).unwrap());
        let consumers = Default::default();
        let mut model = Model { case, count: 0, horizon: 0, is_split: false, consumers };
        operations.iter().for_each(|operation| model.run(operation));
    }
}

#[test]
fn reads_of_subscriptions_do_not_count_as_calls_that_are_limited() {
    let case = Case::new(|options| options.limits(Limits::none().read_calls_per_second(1)));
    let mut subscription = case.open(Position::Latest);
    for number in 0..10 {
        case.put(number..number + 1);
        assert_eq!(numbers(&now(&mut subscription).unwrap()), [number]);
    }
    assert_eq!(case.stream.stats().unwrap().traffic().read_throttled_calls, 0);
    let iterator = case.stream.iterator(SHARD, Position::TrimHorizon).unwrap();
    assert!(extend::is_readable(&iterator));
}
