//! Relays to Amazon Kinesis, simulated by a gateway in this process with the limits of Kinesis: P1, P3, L1.
//!
//! kinesalite and moto are also tested, if they are installed: see `tests/gateway/clients.rs`.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;
use common::kinesis::{Far, Fault, Proxy, Server, call, client, wait_until};
use streamlog::aggregate::{Aggregate, Aggregator};
use streamlog::relay::{Envelope, KinesisRelayOptions, Relay, RelayHeaders, RelayOptions};
use streamlog::{
    DAY, Destination, DiscardReason, Filter, HOUR, HashKey, KeyHash, Limits, Position, PutRecord, Retention,
    SECOND, ShardFilter, Stream, StreamOptions,
};
use tempfile::TempDir;

const KEYS: u64 = 400;

/// A stream to relay.
struct Near {
    stream: Stream,
    put: Mutex<BTreeMap<String, Vec<Vec<u8>>>>,
    scratch: TempDir,
}

impl Near {
    fn new(shards: u32) -> Self {
        let scratch = common::scratch();
        let options = StreamOptions::new().shards(shards).segment_bytes(8 << 20).record_bytes_max(2 << 20);
        let stream = options.open(scratch.path().join("near")).unwrap();
        Self { stream, put: Mutex::default(), scratch }
    }

    fn put(&self, key: &str, data: &[u8]) {
        self.stream.put(key, data).unwrap();
        self.put.lock().unwrap().entry(key.to_owned()).or_default().push(data.to_vec());
    }

    /// Puts this many numbered records. Some keys have many of them.
    fn put_many(&self, count: u64) {
        let before: usize = self.put.lock().unwrap().values().map(Vec::len).sum();
        for number in before as u64..before as u64 + count {
            let key = if number % 4 == 0 { number % 7 } else { number % KEYS };
            self.put(&format!("key-{key}"), number.to_string().as_bytes());
        }
    }

    fn relay(&self) -> RelayOptions {
        self.stream.relay("up").backoff(Duration::from_millis(1), Duration::from_millis(50))
    }

    fn count(&self) -> u64 {
        self.put.lock().unwrap().values().map(|records| records.len() as u64).sum()
    }

    /// Waits until everything is relayed, and closes the relay.
    #[track_caller]
    fn finish(&self, relay: Relay) {
        wait_until("all is relayed", || relay.stats().records >= self.count() || relay.is_over());
        let stats = relay.stats();
        assert_eq!(stats.records, self.count(), "{stats:?}");
        relay.close().unwrap();
        let lag = self.stream.group("up").describe().unwrap().lag();
        assert_eq!(lag.record_count, 0, "all is committed");
    }

    /// Checks that the destination has everything, in the order of each key. `is_once` says that nothing may be there twice.
    #[track_caller]
    fn check(&self, mut found: BTreeMap<String, Vec<Vec<u8>>>, is_once: bool) {
        for (key, put) in &*self.put.lock().unwrap() {
            let found = found.remove(key).unwrap_or_default();
            let mut first: Vec<&Vec<u8>> = vec![];
            let mut seen = BTreeSet::new();
            first.extend(found.iter().filter(|data| seen.insert((*data).clone())));
            assert!(first.iter().copied().eq(put), "{key}: {} of {} are there", first.len(), put.len());
            assert!(!is_once || found.len() == put.len(), "{key}: {} for {}", found.len(), put.len());
        }
        assert!(found.is_empty(), "{found:?}");
    }
}

/// Relays records that are put before and while the relay runs, with these settings.
#[track_caller]
fn relay_all(
    limits: Limits,
    far_shards: u32,
    count: u64,
    set: impl Fn(RelayOptions) -> RelayOptions,
    set_kinesis: impl Fn(KinesisRelayOptions) -> KinesisRelayOptions,
) {
    let (near, far) = (Near::new(2), Far::new(limits));
    far.create("far", far_shards);
    near.put_many(count / 2);
    let relay = set_kinesis(set(near.relay()).to_kinesis(&far.client(), "far")).start().unwrap();
    near.put_many(count - count / 2);
    near.finish(relay);
    near.check(far.read("far"), true);
}

#[test]
fn p3_everything_arrives_once_and_in_the_order_of_each_key() {
    relay_all(Limits::none(), 3, 3_000, |relay| relay.batch_size(50), |relay| relay);
}

#[test]
fn p3_everything_arrives_in_order_with_lanes_and_small_requests() {
    relay_all(
        Limits::none(),
        3,
        3_000,
        |relay| relay.lanes(10).batch_size(1_000),
        |relay| relay.request_records_max(7).request_bytes_max(1 << 10),
    );
}

#[test]
fn p3_everything_arrives_in_order_in_aggregates() {
    relay_all(Limits::none(), 3, 5_000, |relay| relay.lanes(4), |relay| relay.aggregate_bytes(2_000));
}

#[test]
fn p3_everything_arrives_in_order_in_aggregates_when_shards_are_not_known() {
    let (near, far) = (Near::new(1), Far::new(Limits::none()));
    far.create("far", 3);
    let proxy = Proxy::new(far.address, |head| match head.contains("ListShards") {
        true => Fault::Status(403),
        false => Fault::None,
    });
    near.put_many(1_000);
    let relay = near.relay().to_kinesis(&client(proxy.address), "far").aggregate(true).start().unwrap();
    near.finish(relay);
    near.check(far.read("far"), true);
}

#[test]
fn p3_what_is_throttled_is_sent_again_in_order() {
    // A shard takes 1,000 records immediately, and then nothing until time passes.
    let clock = common::clock();
    let (near, far) = (Near::new(2), Far::with_clock(Limits::kinesis(), Arc::clone(&clock) as _));
    far.create("far", 1);
    near.put_many(3_000);
    let relay = near.relay().lanes(4).to_kinesis(&far.client(), "far").pacing(false).start().unwrap();
    wait_until("records are throttled", || relay.stats().throttled > 0);
    wait_until("all is relayed", || {
        clock.advance(Duration::from_millis(20));
        relay.stats().records >= 3_000
    });
    let stats = relay.stats();
    assert!(stats.throttled > 0 && stats.retries >= stats.throttled, "{stats:?}");
    assert_eq!((stats.sent, stats.discarded, stats.failing_since), (3_000, 0, None), "{stats:?}");
    near.finish(relay);
    near.check(far.read("far"), true);
}

#[test]
fn a_relay_that_paces_itself_is_hardly_throttled_and_not_slower_than_the_limits() {
    let (near, far) = (Near::new(2), Far::new(Limits::kinesis()));
    far.create("far", 2);
    near.put_many(6_000);
    let begun = Instant::now();
    let relay = near.relay().lanes(4).to_kinesis(&far.client(), "far").start().unwrap();
    wait_until("all is relayed", || relay.stats().records >= 6_000);
    let (stats, took) = (relay.stats(), begun.elapsed());
    // On a busy machine, requests arrive closer together than planned, so some records come too early.
    assert!(stats.throttled < 600, "{stats:?}");
    // For the busier shard, one second's worth passes immediately.
    assert!(took < Duration::from_secs(20), "{took:?} {stats:?}");
    near.finish(relay);
    near.check(far.read("far"), true);
}

/// Relays while the shards of the destination are split and merged.
fn relay_while_the_other_side_reshards(set: impl Fn(KinesisRelayOptions) -> KinesisRelayOptions) {
    let (near, far) = (Near::new(2), Far::new(Limits::none()));
    far.create("far", 1);
    let relay = near.relay().lanes(3).batch_size(100).to_kinesis(&far.client(), "far");
    let relay = set(relay).start().unwrap();
    let stream = far.stream("far");
    for round in 0..20 {
        near.put_many(300);
        let mut open = stream.list_shards(ShardFilter::AtLatest);
        open.sort_by_key(|shard| shard.hash_key_range.start);
        if open.len() < 4 {
            stream.split_shard_evenly(open[round % open.len()].id).unwrap();
        } else {
            stream.merge_shards(open[1].id, open[2].id).unwrap();
        }
        let sent = relay.stats().records;
        wait_until("it goes on", || {
            relay.stats().records >= sent + 100 || relay.stats().records >= near.count()
        });
    }
    let stats = relay.stats();
    assert_eq!(stats.discarded, 0, "{stats:?}");
    near.finish(relay);
    near.check(far.read("far"), true);
}

#[test]
fn p3_the_order_of_each_key_holds_while_the_other_side_splits_and_merges() {
    relay_while_the_other_side_reshards(|relay| relay);
}

#[test]
fn p3_readers_take_all_aggregates_while_the_other_side_splits_and_merges() {
    relay_while_the_other_side_reshards(|relay| relay.aggregate_bytes(4_000));
}

#[test]
fn p3_the_order_of_each_key_holds_while_the_stream_itself_splits_and_merges() {
    let (near, far) = (Near::new(2), Far::new(Limits::none()));
    far.create("far", 2);
    let relay = near.relay().lanes(3).batch_size(50).to_kinesis(&far.client(), "far").start().unwrap();
    for round in 0..20 {
        near.put_many(200);
        let mut open = near.stream.list_shards(ShardFilter::AtLatest);
        open.sort_by_key(|shard| shard.hash_key_range.start);
        if open.len() < 4 {
            near.stream.split_shard_evenly(open[round % open.len()].id).unwrap();
        } else {
            near.stream.merge_shards(open[1].id, open[2].id).unwrap();
        }
    }
    near.finish(relay);
    near.check(far.read("far"), true);
}

#[test]
fn l1_a_relay_waits_for_a_gateway_that_is_stopped_and_loses_nothing() {
    let (near, mut far) = (Near::new(2), Far::new(Limits::none()));
    far.create("far", 2);
    near.put_many(500);
    let relay = near.relay().lanes(2).batch_size(20).to_kinesis(&far.client(), "far").start().unwrap();
    for _ in 0..3 {
        let sent = relay.stats().sent;
        wait_until("some is relayed", || relay.stats().sent >= sent + 50);
        far.stop();
        near.put_many(200);
        wait_until("it says so", || relay.stats().failing_since.is_some());
        assert!(relay.stats().last_error.is_some());
        far.start();
        wait_until("it goes on", || relay.stats().failing_since.is_none());
    }
    near.finish(relay);
    near.check(far.read("far"), false);
}

#[test]
fn l1_a_link_that_is_down_for_days_loses_nothing_that_is_held_and_counts_what_is_not() {
    for is_held in [true, false] {
        let (scratch, far, clock) = (common::scratch(), Far::new(Limits::none()), common::clock());
        let options = common::small(&clock).retention(Retention::age(HOUR));
        let stream = options.open(scratch.path().join("near")).unwrap();
        let relay = stream.relay("up").batch_size(10);
        let relay = if is_held { relay.hold(1 << 30) } else { relay };
        // The stream does not exist yet, which counts as a link that is down.
        let relay = relay.to_kinesis(&far.client(), "far").start().unwrap();
        for number in 0..3_000u64 {
            stream.put("a", format!("{number:0100}")).unwrap();
        }
        wait_until("it says so", || {
            clock.advance(SECOND);
            relay.stats().failing_since.is_some()
        });
        clock.advance(3 * DAY);
        stream.maintain().unwrap();
        far.create("far", 1);
        // Records in flight may be sent although retention has dropped them. So the lag does not show when everything is over.
        wait_until("all is relayed or counted", || {
            clock.advance(SECOND);
            let stats = relay.stats();
            stats.records + stats.skipped >= 3_000
        });
        let stats = relay.stats();
        assert_eq!(stats.skipped == 0, is_held, "{stats:?}");
        assert_eq!(stats.records == 3_000, is_held, "{stats:?}");
        let found = far.read("far").remove("a").unwrap();
        // Records in flight when the clock jumped are sent, but not counted.
        assert!(found.len() as u64 >= stats.records && found.len() <= 3_000, "{}", found.len());
        assert!(found.is_sorted(), "in order");
        relay.close().unwrap();
    }
}

#[test]
fn l1_a_stream_that_is_not_there_yet_is_waited_for() {
    let (near, far) = (Near::new(1), Far::new(Limits::none()));
    near.put_many(10);
    let relay = near.relay().to_kinesis(&far.client(), "far").start().unwrap();
    wait_until("it says so", || relay.stats().failing_since.is_some());
    let stats = relay.stats();
    assert!(stats.last_error.is_some_and(|error| error.contains("ResourceNotFoundException")));
    assert_eq!((stats.records, stats.discarded, stats.sent), (0, 0, 0));
    assert_eq!(stats.lag.map(|lag| lag.record_count), Some(10));
    far.create("far", 1);
    near.finish(relay);
    near.check(far.read("far"), true);
}

#[test]
fn l1_nothing_is_lost_or_out_of_order_when_requests_and_answers_are() {
    let (near, far) = (Near::new(2), Far::new(Limits::none()));
    far.create("far", 2);
    let number = AtomicU64::new(0);
    let proxy = Proxy::new(far.address, move |_| match number.fetch_add(1, Ordering::Relaxed) % 13 {
        2 => Fault::LostBefore,
        4 => Fault::LostAfter,
        6 => Fault::Status(503),
        7 => Fault::Answer("{\"FailedRecordCount\": 0, \"Records\": []}"),
        9 => Fault::Answer("{\"Records\": [{\"ErrorCode\": \"InternalFailure\", \"ErrorMessage\": \"a\"}]}"),
        11 => Fault::Answer("]["),
        12 => Fault::Answer("{\"FailedRecordCount\": 0, \"Records\": [{}]}"),
        _ => Fault::None,
    });
    near.put_many(1_000);
    let relay =
        near.relay().lanes(2).batch_size(10).to_kinesis(&client(proxy.address), "far").start().unwrap();
    wait_until("all is relayed", || relay.stats().records >= 1_000);
    let stats = relay.stats();
    assert!(proxy.faults.load(Ordering::Relaxed) > 20);
    assert!(stats.failed_requests > 10 && stats.retries > 10 && stats.discarded == 0, "{stats:?}");
    near.finish(relay);
    near.check(far.read("far"), false);
}

#[test]
fn p1_a_batch_is_sent_when_the_one_before_it_is_committed_so_that_a_crash_repeats_one() {
    const BATCH: u64 = 10;
    let (near, far) = (Near::new(1), Far::new(Limits::none()));
    far.create("far", 1);
    for number in 0..300 {
        near.put(&format!("key-{number}"), b"1");
    }
    let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
    let (see, stream) = (Arc::clone(&seen), near.stream.clone());
    let proxy = Proxy::new(far.address, move |_| {
        let group = stream.group("up").describe().unwrap();
        see.lock().unwrap().push(group.shards[0].next_sequence.get());
        Fault::None
    });
    let relay = near.relay().batch_size(BATCH as usize).to_kinesis(&client(proxy.address), "far");
    near.finish(relay.pacing(false).start().unwrap());
    let seen = seen.lock().unwrap();
    // Each batch is one request, because no key occurs twice in it.
    assert!(seen.iter().copied().eq((0..300).step_by(BATCH as usize)), "{seen:?}");
}

#[test]
fn a_relay_whose_link_is_down_ends_when_it_is_closed_and_goes_on_later() {
    let (near, mut far) = (Near::new(1), Far::new(Limits::none()));
    far.create("far", 1);
    far.stop();
    near.put_many(100);
    let long = Duration::from_secs(3_600);
    let relay = near.relay().backoff(long, long).to_kinesis(&far.client(), "far").start().unwrap();
    wait_until("it says so", || relay.stats().failing_since.is_some());
    relay.close().unwrap();
    // A stream that is closed ends it, too.
    let other =
        near.stream.relay("other").backoff(long, long).to_kinesis(&far.client(), "far").start().unwrap();
    wait_until("it says so", || other.stats().failing_since.is_some());
    near.stream.close().unwrap();
    wait_until("it ends", || other.is_over());
    drop(other);

    far.start();
    let stream = Stream::open(near.scratch.path().join("near")).unwrap();
    let near = Near { stream, ..near };
    let relay = near.relay().to_kinesis(&far.client(), "far").start().unwrap();
    near.finish(relay);
    near.check(far.read("far"), true);
}

type GivenUp = Arc<Mutex<BTreeMap<String, String>>>;

/// Returns a destination that records why records were given up, by key.
fn given_up() -> (GivenUp, Destination) {
    let kept = GivenUp::default();
    let keep = Arc::clone(&kept);
    let destination = Destination::function(move |discarded| {
        assert_eq!(discarded.reason(), DiscardReason::Refused);
        for record in discarded.records() {
            let key = String::from_utf8_lossy(record.partition_key()).into_owned();
            keep.lock().unwrap().insert(key, discarded.error().unwrap().to_owned());
        }
        Ok::<_, String>(())
    });
    (kept, destination)
}

#[test]
fn what_can_never_be_sent_goes_to_its_destination_with_the_reason_and_holds_up_nothing() {
    let (near, far) = (Near::new(1), Far::new(Limits::none()));
    far.create("far", 1);
    let (kept, destination) = given_up();
    near.put("a", b"1");
    near.stream.put("k".repeat(257), "long key").unwrap();
    near.stream.put([0xff], "no text").unwrap();
    near.stream.put("large", vec![0; (1 << 20) - 4]).unwrap();
    near.stream.put_record(&PutRecord::new("headers", "1").header("a", "b")).unwrap();
    near.put("a", b"2");
    near.put("é".repeat(256).as_str(), b"3");
    near.put("just", &vec![0; (1 << 20) - 4]);
    let relay = near.relay().on_failure(destination).to_kinesis(&far.client(), "far").start().unwrap();
    wait_until("all is relayed", || relay.stats().records >= 4);
    let stats = relay.stats();
    assert_eq!(
        (stats.records, stats.discarded, stats.sent, stats.failed_requests),
        (4, 4, 4, 0),
        "{stats:?}"
    );
    let kept = kept.lock().unwrap().clone();
    let reason = |key: &str| kept.get(key).map_or("", |reason| reason);
    assert_eq!(reason(&"k".repeat(257)), "its partition key has 257 characters, and Kinesis takes 1 to 256");
    assert_eq!(reason("\u{fffd}"), "its partition key is not UTF-8, which Kinesis requires");
    assert_eq!(reason("large"), "its key and its data have 1048577 bytes, and at most 1048576 are sent");
    assert_eq!(reason("headers"), "it has headers, and Kinesis has none: drop them, or have an envelope");
    near.finish(relay);
    near.check(far.read("far"), true);
}

#[test]
fn what_the_other_side_refuses_is_found_in_its_request_and_given_up_by_itself() {
    for aggregate in [false, true] {
        let (near, far) = (Near::new(1), Far::new(Limits::none()));
        far.create("far", 1);
        let (kept, destination) = given_up();
        for number in 0..100 {
            near.put_many(5);
            if number % 30 == 17 {
                // The stream takes 1 MiB, and the relay does not know that.
                near.stream.put(format!("large-{number}"), vec![0; 1 << 20]).unwrap();
            }
        }
        let relay = near.relay().on_failure(destination).to_kinesis(&far.client(), "far");
        let relay = relay.record_bytes_max(10 << 20).aggregate(aggregate).start().unwrap();
        near.finish(relay);
        let kept = kept.lock().unwrap().clone();
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["large-17", "large-47", "large-77"]);
        assert!(kept.values().all(|reason| reason.contains("Exception")), "{kept:?}");
        near.check(far.read("far"), true);
    }
}

#[test]
fn a_destination_that_fails_is_tried_again_and_nothing_is_given_up_before() {
    let (near, far) = (Near::new(1), Far::new(Limits::none()));
    far.create("far", 1);
    let is_broken = Arc::new(AtomicBool::new(true));
    let set_aside = Stream::open(near.scratch.path().join("aside")).unwrap();
    let destination = {
        let (is_broken, set_aside) = (Arc::clone(&is_broken), set_aside.clone());
        Destination::function(move |discarded| match is_broken.load(Ordering::Relaxed) {
            true => Err("it is broken".to_owned()),
            false => {
                let record = discarded.records().next().unwrap();
                set_aside
                    .put(record.partition_key(), record.data())
                    .map(drop)
                    .map_err(|error| error.to_string())
            }
        })
    };
    near.stream.put_record(&PutRecord::new("headers", "1").header("a", "b")).unwrap();
    near.put("a", b"1");
    let options = || near.relay().on_failure(destination.clone()).to_kinesis(&far.client(), "far");
    let relay = options().start().unwrap();
    wait_until("it says so", || relay.stats().last_error.is_some_and(|error| error == "it is broken"));
    relay.close().unwrap();
    assert_eq!(near.stream.group("up").describe().unwrap().lag().record_count, 2);
    let relay = options().start().unwrap();
    is_broken.store(false, Ordering::Relaxed);
    near.finish(relay);
    near.check(far.read("far"), true);
    assert_eq!(common::killed::data(&set_aside), [b"1"]);
}

#[test]
fn an_envelope_has_headers_and_the_place_by_which_a_duplicate_is_recognised() {
    let (near, far) = (Near::new(1), Far::new(Limits::none()));
    far.create("far", 1);
    let put = PutRecord::new("a", b"\xff\x00").header("trace", "1").header("trace", b"\xfe");
    let receipt = near.stream.put_record(&put).unwrap();
    near.stream.put("a", "2").unwrap();
    for (name, origin) in [("up", None), ("again", Some("orders"))] {
        let options =
            near.stream.relay(name).to_kinesis(&far.client(), "far").headers(RelayHeaders::Envelope);
        let options = match origin {
            Some(origin) => options.origin(origin),
            None => options,
        };
        let relay = options.start().unwrap();
        wait_until("all is relayed", || relay.stats().records >= 2);
        relay.close().unwrap();
    }
    let found = far.read("far").remove("a").unwrap();
    let found: Vec<_> = found.iter().map(|data| Envelope::decode(data).unwrap()).collect();
    let first = &found[0];
    assert_eq!((&*first.stream, first.shard, first.sequence), ("near", receipt.shard, receipt.sequence));
    assert_eq!((first.timestamp, &*first.data), (receipt.timestamp, &b"\xff\x00"[..]));
    let headers = [("trace", &b"1"[..]), ("trace", b"\xfe")];
    assert_eq!(first.headers, headers.map(|(name, value)| (name.to_owned(), value.to_vec())));
    assert_eq!((&*found[1].data, found[1].headers.len()), (&b"2"[..], 0));
    assert_eq!((&*found[2].stream, found[2].sequence), ("orders", receipt.sequence));
}

#[test]
fn headers_are_dropped_on_request_and_hash_keys_are_what_the_function_says() {
    let (near, far) = (Near::new(1), Far::new(Limits::none()));
    far.create("far", 2);
    for number in 0..20u8 {
        near.stream.put_record(&PutRecord::new("a", &[number]).header("half", &[number % 2])).unwrap();
    }
    let relay = near.relay().to_kinesis(&far.client(), "far").headers(RelayHeaders::Drop);
    let relay = relay.explicit_hash_key(|record| match record.headers().get("half") {
        Some([0]) => Some(HashKey::MIN),
        _ => Some(HashKey::MAX),
    });
    let relay = relay.start().unwrap();
    wait_until("all is relayed", || relay.stats().records >= 20);
    relay.close().unwrap();
    let stream = far.stream("far");
    for (shard, half) in stream.shards().iter().zip(0u8..) {
        let batch = stream.iterator(shard.id, Position::TrimHorizon).unwrap().next_batch(100).unwrap();
        let data: Vec<_> = batch.iter().map(|record| record.data()[0]).collect();
        assert_eq!(data, (0..20).filter(|number| number % 2 == half).collect::<Vec<_>>());
        assert!(batch.iter().all(|record| record.headers().get("half").is_none()));
    }
}

#[test]
fn aggregates_go_through_as_they_are_where_readers_take_them_and_as_user_records_elsewhere() {
    let (near, far) = (Near::new(1), Far::new(Limits::none()));
    far.create("one", 1);
    far.create("four", 4);
    let mut aggregator = Aggregator::new();
    for number in 0..100u64 {
        let (key, data) = (format!("key-{}", number % KEYS), number.to_string());
        aggregator.add(&PutRecord::new(&key, &data)).unwrap();
        near.put.lock().unwrap().entry(key).or_default().push(data.into_bytes());
    }
    let aggregate = aggregator.finish().unwrap();
    near.stream.put_record(&aggregate.as_put()).unwrap();
    for (name, is_whole) in [("one", true), ("four", false)] {
        let relay = near.stream.relay(name).to_kinesis(&far.client(), name).start().unwrap();
        wait_until("all is relayed", || relay.stats().records >= 1);
        let sent = relay.stats().sent;
        assert_eq!(sent == 1, is_whole, "{sent}");
        relay.close().unwrap();
        near.check(far.read(name), true);
    }
}

/// Relays to another implementation of Kinesis, using everything that each one answers correctly.
fn relay_to(server: &Server, concurrency: usize) {
    for (name, aggregate) in [("plain", false), ("packed", true)] {
        let near = Near::new(2);
        near.put_many(1_000);
        let relay = near.relay().lanes(3).concurrency(concurrency).to_kinesis(&client(server.address), name);
        let relay = relay.aggregate(aggregate).start().unwrap();
        wait_until("it waits for the stream", || relay.stats().failing_since.is_some());
        call(server.address, "CreateStream", &format!(r#"{{"StreamName": "{name}", "ShardCount": 3}}"#));
        near.finish(relay);
        let shards = [0, 1, 2].map(|number| format!("shardId-{number:012}"));
        let mut found: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        for (key, data) in shards.iter().flat_map(|shard| server.records(name, shard)) {
            let data = STANDARD.decode(data).unwrap();
            match Aggregate::decode(&data) {
                Some(aggregate) => aggregate.iter().for_each(|record| {
                    let key = String::from_utf8(record.partition_key.to_vec()).unwrap();
                    found.entry(key).or_default().push(record.data.to_vec());
                }),
                None => found.entry(key).or_default().push(data),
            }
        }
        near.check(found, true);
    }
}

#[test]
fn p3_kinesalite_gets_everything_in_order() {
    let Some(server) = Server::kinesalite() else { return };
    relay_to(&server, 64);
}

#[test]
fn p3_moto_gets_everything_in_order() {
    let Some(server) = Server::moto() else { return };
    // It loses records of concurrent requests, as its own code says.
    relay_to(&server, 1);
}

#[test]
fn a_relay_begins_where_it_is_told_and_leaves_out_what_its_filter_does_not_want() {
    let (near, far) = (Near::new(1), Far::new(Limits::none()));
    far.create("far", 1);
    near.stream.put("a", "before").unwrap();
    let options = near.relay().starting_position(Position::Latest);
    let options = options.filter(Filter::new(r#"{"data": {"wanted": [true]}}"#).unwrap());
    let relay = options.to_kinesis(&far.client(), "far").start().unwrap();
    near.put("a", br#"{"wanted": true}"#);
    near.stream.put("a", r#"{"wanted": false}"#).unwrap();
    wait_until("all is relayed", || relay.stats().filtered == 1);
    near.finish(relay);
    near.check(far.read("far"), true);
}

#[test]
fn settings_out_of_range_are_refused() {
    let (near, far) = (Near::new(1), Far::new(Limits::none()));
    let to = |name: &str| near.relay().to_kinesis(&far.client(), name);
    let refused = |options: KinesisRelayOptions| options.start().unwrap_err().to_string();
    assert!(refused(to("a b")).contains("is not named \"a b\""));
    assert!(refused(to("")).contains("is not named"));
    assert!(refused(to("a").request_records_max(501)).contains("request_records_max"));
    assert!(refused(to("a").request_bytes_max(0)).contains("request_bytes_max"));
    assert!(refused(to("a").record_bytes_max(11 << 20)).contains("record_bytes_max"));
    assert!(refused(to("a").aggregate_bytes(2 << 20)).contains("aggregate_bytes"));
    assert!(refused(to("a").request_timeout(Duration::ZERO)).contains("request_timeout"));
    let lanes = near.relay().lanes(11).to_kinesis(&far.client(), "a");
    assert!(refused(lanes).contains("parallelization_factor"));
    assert_eq!(KeyHash::default(), KeyHash::Xxh3, "the stream hashes keys in another way than Kinesis");
}

#[test]
fn a_relay_says_what_it_is() {
    let (near, far) = (Near::new(1), Far::new(Limits::none()));
    let relay = near.relay().to_kinesis(&far.client(), "far").start().unwrap();
    assert_eq!((relay.name(), relay.to()), ("up", "the stream far of Kinesis"));
    assert!(!relay.is_over());
    let text = format!("{relay:?} {:?}", near.relay().to_kinesis(&far.client(), "far"));
    assert!(!text.contains("secret"), "{text}");
}
