//! On-demand scaling of real streams, with an injected clock. The decisions themselves are tested in `src/scaling/`, and with all other
//! operations in `tests/log/model.rs`.

use crate::common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use streamlog::aggregate::Aggregator;
use streamlog::{
    Clock, DAY, Error, HashKey, HashKeyRange, KeyHash, Limits, MINUTE, ManualClock, Position, PutRecord,
    SECOND, Scaling, ScalingDecision, ShardFilter, Stream, StreamOptions,
};

/// A stream, its clock, and the scaling decisions.
struct World {
    _scratch: tempfile::TempDir,
    clock: Arc<ManualClock>,
    stream: Stream,
    decisions: Arc<Mutex<Vec<ScalingDecision>>>,
}

impl World {
    fn new(scaling: Scaling, options: impl FnOnce(StreamOptions) -> StreamOptions) -> Self {
        let (scratch, clock) = (common::scratch(), common::clock());
        let stream = options(common::small(&clock)).open(scratch.path().join("stream")).unwrap();
        let decisions = Arc::new(Mutex::new(vec![]));
        let listener = Arc::clone(&decisions);
        let scaling = scaling.on_decision(move |decision| listener.lock().unwrap().push(decision.clone()));
        stream.set_scaling(scaling).unwrap();
        Self { _scratch: scratch, clock, stream, decisions }
    }

    /// Advances the clock by ten seconds, and runs maintenance. Returns its decisions.
    fn pass(&self) -> Vec<ScalingDecision> {
        self.clock.advance(10 * SECOND);
        self.stream.maintain().unwrap();
        std::mem::take(&mut self.decisions.lock().unwrap())
    }

    fn open_shards(&self) -> Vec<(streamlog::ShardId, HashKeyRange)> {
        let open = self.stream.list_shards(ShardFilter::AtLatest);
        let mut open: Vec<_> = open.iter().map(|shard| (shard.id, shard.hash_key_range)).collect();
        open.sort_by_key(|(_, range)| range.start);
        open
    }

    /// Returns how many records each open shard received since the stream was opened, lowest hash keys first.
    fn counts(&self) -> Vec<u64> {
        let stats = self.stream.stats().unwrap();
        let of = |id| stats.shards.iter().find(|shard| shard.shard == id).unwrap();
        self.open_shards().iter().map(|(id, _)| of(*id).traffic.incoming_records).collect()
    }
}

/// 100 records a second are a shard's capacity.
fn small_capacity(min: u32, max: u32) -> Scaling {
    Scaling::on_demand(min, max).capacity(1 << 20, 100)
}

/// Users whose keys all hash into the lowest sixteenth of the space.
fn low_users(count: usize) -> Vec<String> {
    let is_low = |user: &String| KeyHash::Xxh3.hash(user.as_bytes()).get() >> 124 == 0;
    (0..).map(|number| format!("user-{number}")).filter(is_low).take(count).collect()
}

#[test]
fn p4_a_hot_shard_is_split_at_the_median_of_what_is_put_and_each_child_gets_half() {
    let world = World::new(small_capacity(1, 8), |options| options);
    let users = low_users(200);
    let put = |rounds: usize| {
        for number in 0..rounds {
            users.iter().for_each(|user| _ = world.stream.put(user, number.to_string()).unwrap());
        }
    };
    for _ in 0..2 {
        put(4); // 80 % of the capacity
        assert_eq!(world.pass(), []);
    }
    put(4);
    let decisions = world.pass();
    let [ScalingDecision::Split { shard, at, load, share_below, .. }] = decisions[..] else {
        panic!("{decisions:?}")
    };
    assert!((load - 0.8).abs() < 1e-9 && (share_below - 0.5).abs() < 0.05, "{decisions:?}");
    assert!(at.get() < 1 << 124, "not in the middle of the shard: {at}");
    let text = decisions[0].to_string();
    assert!(text.starts_with(&format!("{shard} took 80 % of its capacity: it was split at")), "{text}");
    put(4);
    let counts = world.counts();
    assert_eq!(counts.iter().sum::<u64>(), 800);
    assert!(counts.iter().all(|count| (320..=480).contains(count)), "about half each: {counts:?}");
    assert_eq!(world.pass(), [], "neither of them is hot");

    // Each user's records are read in the order of the puts.
    let mut next: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    let mut iterator = world.stream.lineage_iterator(Position::TrimHorizon).unwrap();
    while iterator.wait(Duration::ZERO).unwrap() {
        for record in &iterator.next_batch(1_000).unwrap() {
            let data = String::from_utf8(record.data().to_vec()).unwrap();
            next.entry(record.partition_key().to_vec()).or_default().push(data);
        }
    }
    let rounds: Vec<String> = (0..4).flat_map(|_| 0..4).map(|number| number.to_string()).collect();
    assert!(next.len() == 200 && next.values().all(|read| *read == rounds));
}

#[test]
fn bytes_count_as_well_as_records() {
    let world = World::new(Scaling::on_demand(1, 8), |options| options);
    let decisions: Vec<_> = (0..3)
        .flat_map(|_| {
            // 60 records of 10,000 bytes in ten seconds are 6 % of a shard by bytes, and 0.6 % by records.
            (0..60).for_each(|user| _ = world.stream.put(format!("user-{user}"), [7; 10_000]).unwrap());
            world.pass()
        })
        .collect();
    assert_eq!(decisions, []);
    let world = World::new(Scaling::on_demand(1, 8).capacity(100_000, 1_000), |options| options);
    let decisions: Vec<_> = (0..3)
        .flat_map(|_| {
            (0..60).for_each(|user| _ = world.stream.put(format!("user-{user}"), [7; 10_000]).unwrap());
            world.pass()
        })
        .collect();
    assert!(matches!(decisions[..], [ScalingDecision::Split { .. }]), "60 % by bytes: {decisions:?}");
}

#[test]
fn a_hot_key_is_named_once_and_its_shard_is_never_split() {
    let world = World::new(small_capacity(1, 8), |options| options);
    let mut decisions = vec![];
    for _ in 0..20 {
        (0..900).for_each(|_| _ = world.stream.put("the-hot-one", "x").unwrap());
        (0..20).for_each(|user| _ = world.stream.put(format!("user-{user}"), "x").unwrap());
        decisions.extend(world.pass());
    }
    let [ScalingDecision::HotKey { partition_key, hash_key, share, load, .. }] = &decisions[..] else {
        panic!("{decisions:?}")
    };
    assert_eq!((&**partition_key, *hash_key), (&b"the-hot-one"[..], KeyHash::Xxh3.hash(b"the-hot-one")));
    assert!((0.95..1.0).contains(share) && (load - 0.92).abs() < 1e-9, "{share} {load}");
    let text = decisions[0].to_string();
    assert!(text.contains("no split helps") && !text.contains("the-hot-one"), "{text}");
    assert_eq!(world.open_shards().len(), 1);
}

#[test]
fn a_quiet_stream_is_merged_down_to_the_fewest_shards() {
    let world = World::new(small_capacity(2, 64), |options| options.shards(8));
    let passes = |count: usize| (0..count).flat_map(|_| world.pass()).collect::<Vec<_>>();
    assert_eq!(passes(89), [], "a quarter of an hour has not passed");
    let decisions = passes(1);
    assert_eq!(decisions.len(), 4);
    let text = decisions[0].to_string();
    assert!(text.ends_with("together took 0 % of the capacity of one: they were merged"), "{text}");
    assert_eq!(passes(90).len(), 2);
    assert_eq!(passes(500), [], "not below the fewest");
    assert_eq!(world.open_shards().len(), 2);
}

#[test]
fn a_stream_is_brought_within_its_bounds_at_once_and_says_when_it_may_not_grow() {
    let world = World::new(small_capacity(4, 4), |options| options);
    assert_eq!(world.open_shards().len(), 4);
    let mut decisions = vec![];
    for _ in 0..10 {
        (0..4_000).for_each(|user| _ = world.stream.put(format!("user-{user}"), "x").unwrap());
        decisions.extend(world.pass());
    }
    assert!(matches!(decisions[..], [ScalingDecision::AtMaximum { shard_count: 4, .. }]), "{decisions:?}");
    assert!(decisions[0].to_string().ends_with("may not have more than its 4 shards: allow more"));
    world.stream.set_scaling(Scaling::on_demand(1, 2)).unwrap();
    assert_eq!(world.open_shards().len(), 2);
    assert_eq!(world.stream.stats().unwrap().record_count(), 40_000, "nothing is lost");
}

#[test]
fn a_stream_that_is_not_on_demand_keeps_its_shards() {
    let world = World::new(small_capacity(1, 8), |options| options);
    let put = || (0..2_000).for_each(|user| _ = world.stream.put(format!("user-{user}"), "x").unwrap());
    put();
    world.pass();
    world.stream.set_scaling(Scaling::provisioned()).unwrap();
    for _ in 0..10 {
        put();
        world.clock.advance(10 * SECOND);
        world.stream.maintain().unwrap();
    }
    assert_eq!(world.open_shards().len(), 1);
    // Earlier puts do not count.
    world.stream.set_scaling(small_capacity(1, 8).split_after(SECOND)).unwrap();
    for _ in 0..10 {
        world.clock.advance(10 * SECOND);
        world.stream.maintain().unwrap();
    }
    assert_eq!(world.open_shards().len(), 1);
}

#[test]
fn a_jump_of_the_clock_is_no_time_that_passes() {
    let world = World::new(small_capacity(1, 8), |options| options.shards(4));
    world.clock.set(world.clock.now() + DAY);
    world.stream.maintain().unwrap();
    assert_eq!(world.open_shards().len(), 4, "nobody has seen a quiet quarter of an hour");
}

/// A shard in which most records have an explicit hash key that differs from the hash of their partition key.
#[test]
fn a_shard_whose_hash_keys_are_hidden_is_split_in_the_middle() {
    let world = World::new(small_capacity(2, 8), |options| options);
    let [(_, lower), (_, upper)] = world.open_shards()[..] else { panic!("two shards") };
    let constant = (0..).map(|n| format!("k{n}")).find(|k| upper.contains(KeyHash::Xxh3.hash(k.as_bytes())));
    let constant = constant.unwrap();
    let mut decisions = vec![];
    for _ in 0..3 {
        for number in 0..600u128 {
            let at = HashKey::new(lower.end.get() / 600 * number);
            world.stream.put_record(&PutRecord::new(&constant, "x").explicit_hash_key(at)).unwrap();
        }
        decisions.extend(world.pass());
    }
    let [ScalingDecision::Split { at, .. }] = decisions[..] else { panic!("{decisions:?}") };
    assert_eq!(at, HashKey::new(1 << 126));
}

#[test]
fn the_user_records_in_aggregates_count() {
    let world = World::new(small_capacity(1, 8).capacity(100_000, 1_000_000), |options| options);
    let low = |number: u128| HashKey::new((number * 7_919 % 1_000) << 60);
    for _ in 0..3 {
        let mut aggregator = Aggregator::new().bytes_max(5_000);
        for number in 0..8_000 {
            let user = PutRecord::new("a", [7; 100].as_slice()).explicit_hash_key(low(number));
            if let Some(full) = aggregator.add(&user).unwrap() {
                world.stream.put_record(&full.as_put()).unwrap();
            }
        }
        world.stream.put_record(&aggregator.finish().unwrap().as_put()).unwrap();
        let decisions = world.pass();
        if let [ScalingDecision::Split { at, share_below, .. }] = decisions[..] {
            assert!((at.get() >> 60).abs_diff(500) < 100, "{at}");
            assert!((share_below - 0.5).abs() < 0.05);
            return;
        }
        assert_eq!(decisions, []);
    }
    panic!("it was not split");
}

#[test]
fn a_throttled_shard_is_split_and_the_limits_are_left_to_consumers() {
    let limits = Limits::none().write_records_per_second(100).read_calls_per_second(1);
    let world = World::new(small_capacity(1, 8), |options| options.limits(limits));
    let mut decisions = vec![];
    for _ in 0..30 {
        let refused = (0..150).filter(|user| world.stream.put(format!("user-{user}"), "x").is_err()).count();
        assert_eq!(refused, if world.open_shards().len() == 1 { 50 } else { 0 });
        world.clock.advance(SECOND);
        world.stream.maintain().unwrap();
        decisions.append(&mut world.decisions.lock().unwrap());
    }
    assert!(matches!(decisions[..], [ScalingDecision::Split { load: 0.9.., .. }]), "{decisions:?}");
    let parent = world.stream.shards()[0].id;
    let mut iterator = world.stream.iterator(parent, Position::TrimHorizon).unwrap();
    assert_eq!(iterator.next_batch(10).unwrap().len(), 10, "nobody has read before");
    assert!(matches!(iterator.next_batch(10), Err(Error::Throttled { .. })));
}

#[test]
fn batches_of_one_key_each_are_no_hot_key() {
    let world = World::new(small_capacity(1, 8), |options| options);
    let mut decisions = vec![];
    for _ in 0..3 {
        for user in 0..4 {
            let key = format!("user-{user}");
            let batch = vec![PutRecord::new(&key, "x"); 2_000];
            assert!(world.stream.put_batch(&batch).unwrap().iter().all(Result::is_ok));
        }
        decisions.extend(world.pass());
    }
    assert!(matches!(decisions[..], [ScalingDecision::Split { .. }]), "{decisions:?}");
}

#[test]
fn settings_out_of_range_are_refused_and_leave_the_scaling_as_it_is() {
    let world = World::new(small_capacity(1, 8), |options| options);
    let refused = |scaling: Scaling, reason: &str| {
        let error = world.stream.set_scaling(scaling).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)) && error.to_string().contains(reason), "{error}");
    };
    let good = || Scaling::on_demand(1, 8);
    refused(Scaling::on_demand(0, 8), "the fewest shards on demand of 0 is out of range: 1 to 1024");
    refused(Scaling::on_demand(1, 1_025), "the most shards on demand of 1025 is out of range");
    refused(Scaling::on_demand(3, 2), "3 to 2 shards on demand: put the smaller number first");
    refused(good().capacity(0, 1), "a shard's capacity in bytes a second of 0");
    refused(good().capacity(1, 0), "a shard's capacity in records a second of 0");
    refused(good().split_after(Duration::from_millis(999)), "split_after of 999ms is out of range");
    refused(good().split_after(2 * DAY), "split_after of 172800s is out of range");
    refused(good().merge_after(29 * SECOND), "merge_after of 29s is out of range: 30s");
    refused(good().merge_after(31 * DAY), "merge_after");
    for scaling in [
        Scaling::on_demand(1, 1_024).split_after(SECOND).merge_after(SECOND),
        Scaling::on_demand(1, 1).capacity(u64::MAX, u64::MAX).split_after(DAY).merge_after(30 * DAY),
    ] {
        World::new(scaling, |options| options).pass();
    }
    (0..100).for_each(|_| {
        (0..1_000).for_each(|user| _ = world.stream.put(format!("user-{user}"), "x").unwrap());
        world.pass();
    });
    assert!(world.open_shards().len() > 1, "it goes on as it was set");
    let stream = world.stream.clone();
    stream.clone().close().unwrap();
    assert!(matches!(stream.set_scaling(Scaling::on_demand(1, 2)), Err(Error::Closed)));
}

#[test]
fn a_listener_may_panic_set_the_scaling_and_close_the_stream() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = common::small(&clock).open(scratch.path()).unwrap();
    let holder = Arc::new(Mutex::new(Some(stream.clone())));
    let calls = Arc::new(Mutex::new(0));
    let scaling = small_capacity(1, 8).on_decision({
        let (holder, calls) = (Arc::clone(&holder), Arc::clone(&calls));
        move |_| {
            *calls.lock().unwrap() += 1;
            let stream = holder.lock().unwrap().take().expect("the first decision");
            stream.set_scaling(Scaling::provisioned()).unwrap();
            stream.close().unwrap();
            panic!("on purpose");
        }
    });
    stream.set_scaling(scaling).unwrap();
    for _ in 0..3 {
        (0..4_000).for_each(|user| _ = stream.put(format!("user-{user}"), "x").unwrap());
        clock.advance(10 * SECOND);
        let _ = stream.maintain();
    }
    assert_eq!(*calls.lock().unwrap(), 1);
    assert!(stream.is_closed());
    let open = common::small(&clock).open(scratch.path()).unwrap().list_shards(ShardFilter::AtLatest).len();
    assert_eq!(open, 2, "the split is kept");
}

#[test]
fn p13_a_stream_on_demand_closes_with_its_last_clone_and_is_provisioned_when_it_is_opened_again() {
    let (scratch, clock) = (common::scratch(), common::clock());
    for _ in 0..20 {
        let stream = StreamOptions::new().clock(clock.clone()).open(scratch.path()).unwrap();
        stream.set_scaling(Scaling::on_demand(4, 8)).unwrap();
        drop(stream);
    }
    let stream = common::small(&clock).open(scratch.path()).unwrap();
    for _ in 0..100 {
        clock.advance(MINUTE);
        stream.maintain().unwrap();
    }
    assert_eq!(stream.list_shards(ShardFilter::AtLatest).len(), 4);
}
