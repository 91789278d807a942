//! Mirrors of Kinesis streams, as served by the gateway, Kinesalite and Moto: L1, L2, L3, L5.

use crate::common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::kinesis_origin::{Server, call, client, create, put, wait_until, wait_until_active};
use serde_json::json;
use streamlog::gateway::{Gateway, RunningGateway};
use streamlog::relay::{Mirror, MirrorOptions, MirroredFrom};
use streamlog::{HashKey, Limits, ManualClock, Position, SECOND, ShardFilter, Store, Stream, StreamOptions};
use tempfile::TempDir;

const KEYS: u64 = 20;

/// A Kinesis stream in this process, and a stream that mirrors it.
struct World {
    running: Option<RunningGateway>,
    address: SocketAddr,
    limits: Limits,
    clock: Option<Arc<ManualClock>>,
    store: Store,
    source: Stream,
    local: Stream,
    /// The number of records of each key.
    keys: BTreeMap<u64, u64>,
    scratch: TempDir,
}

impl World {
    fn new(shards: u32, limits: Limits, clock: Option<Arc<ManualClock>>) -> Self {
        let scratch = common::scratch();
        let (store, source) = open_source(&scratch, &clock, Some(shards));
        let running = gateway(&store, &limits, &clock, ([127, 0, 0, 1], 0).into());
        let local = StreamOptions::new().shards(2).open(scratch.path().join("local")).unwrap();
        let address = running.local_address();
        let running = Some(running);
        Self { running, address, limits, clock, store, source, local, keys: BTreeMap::new(), scratch }
    }

    fn mirror(&self) -> MirrorOptions {
        let client = client(&format!("http://{}", self.address));
        self.local.mirror("down").from_kinesis(&client, "orders").poll_interval(Duration::from_millis(50))
    }

    /// Puts the next numbers of all keys.
    fn put(&mut self, count: u64) {
        self.put_with(count, "");
    }

    fn put_with(&mut self, count: u64, filling: &str) {
        for number in 0..count {
            let key = number % KEYS;
            let next = self.keys.entry(key).or_default();
            let data = serde_json::to_vec(&(key, *next, filling)).unwrap();
            self.source.put(format!("key-{key}"), data).unwrap();
            *next += 1;
        }
    }

    fn stop_gateway(&mut self) {
        self.running.take().unwrap().close().unwrap();
        self.store.close().unwrap();
    }

    fn start_gateway(&mut self) {
        (self.store, self.source) = open_source(&self.scratch, &self.clock, None);
        self.running = Some(gateway(&self.store, &self.limits, &self.clock, self.address));
    }

    /// Waits until everything was mirrored, and checks that each record is there once and in the order of its key.
    #[track_caller]
    fn check(&self, mirror: &Mirror) {
        let count: u64 = self.keys.values().sum();
        wait_until(|| mirror.is_caught_up() && count_of(&self.local) >= count);
        let mut next: BTreeMap<u64, u64> = BTreeMap::new();
        for (key, number) in ids(&self.local) {
            let expected = next.entry(key).or_default();
            assert_eq!(number, *expected, "of key {key}");
            *expected += 1;
        }
        assert_eq!(next, self.keys);
    }
}

fn open_source(scratch: &TempDir, clock: &Option<Arc<ManualClock>>, create: Option<u32>) -> (Store, Stream) {
    let mut options = StreamOptions::new().segment_bytes(16 << 20);
    if let Some(clock) = clock {
        options = options.clock(Arc::clone(clock) as _);
    }
    let store = Store::open(scratch.path().join("kinesis"), options.clone()).unwrap();
    let source = match create {
        Some(shards) => store.create("orders", options.shards(shards)).unwrap(),
        None => store.stream("orders").unwrap(),
    };
    (store, source)
}

fn gateway(
    store: &Store,
    limits: &Limits,
    clock: &Option<Arc<ManualClock>>,
    address: SocketAddr,
) -> RunningGateway {
    let gateway = Gateway::new(store.clone()).without_authentication().delay(Duration::ZERO).limits(*limits);
    let gateway = match clock {
        Some(clock) => gateway.clock(Arc::clone(clock) as _),
        None => gateway,
    };
    gateway.start(address).unwrap()
}

fn count_of(stream: &Stream) -> u64 {
    stream.stats().unwrap().shards.iter().map(|shard| shard.record_count()).sum()
}

/// Returns the records that a mirror has put, each with its key and its number.
fn ids(stream: &Stream) -> Vec<(u64, u64)> {
    let mut ids = vec![];
    common::killed::for_each(stream, |_, record| {
        let origin = MirroredFrom::of(&record).expect("it is a copy");
        assert_eq!((origin.mirror.as_str(), origin.origin.as_str()), ("down", "orders"));
        assert!(origin.partition.starts_with("shardId-") && !origin.place.is_empty(), "{origin:?}");
        assert!(origin.arrived_at.is_some());
        let (key, number, _): (u64, u64, String) = serde_json::from_slice(record.data()).unwrap();
        assert_eq!(record.partition_key(), format!("key-{key}").as_bytes());
        ids.push((key, number));
    });
    ids
}

#[test]
fn l2_a_stream_is_mirrored_once_in_order_through_splits_and_merges_on_both_sides() {
    let mut world = World::new(2, Limits::none(), None);
    world.put(2_000);
    let mirror = world.mirror().start().unwrap();
    for round in 0..6 {
        let resharded = if round % 2 == 0 { &world.source } else { &world.local };
        let mut open = resharded.list_shards(ShardFilter::AtLatest);
        open.sort_by_key(|shard| shard.hash_key_range.start);
        if round % 3 == 2 {
            resharded.merge_shards(open[0].id, open[1].id).unwrap();
        } else {
            resharded.split_shard_evenly(open[round % open.len()].id).unwrap();
        }
        world.put(500);
    }
    world.check(&mirror);
    let stats = mirror.stats();
    assert_eq!((stats.records, stats.skipped, stats.refused), (5_000, 0, 0), "{stats:?}");
    assert!(stats.partitions.iter().filter(|shard| shard.is_ended).count() >= 2, "{stats:?}");
    assert_eq!(stats.behind_latest(), Some(Duration::ZERO));
    mirror.close().unwrap();
    let described = world.local.describe_mirror("down").unwrap();
    assert_eq!((described.kind.as_str(), described.origin.as_str()), ("kinesis", "orders"));
    assert_eq!(described.partitions.len(), stats.partitions.len());
    assert_eq!(world.local.mirrors().unwrap(), ["down"]);
    // After a restart, it continues.
    world.put(300);
    let mirror = world.mirror().start().unwrap();
    world.check(&mirror);
    assert_eq!((mirror.stats().records, mirror.stats().recognised), (300, 0));
}

#[test]
fn l5_a_gateway_that_goes_away_and_comes_back_is_waited_for() {
    let mut world = World::new(2, Limits::none(), None);
    world.put(500);
    let mirror = world.mirror().start().unwrap();
    world.check(&mirror);
    world.stop_gateway();
    wait_until(|| mirror.stats().failing_since.is_some());
    assert!(mirror.stats().last_error.unwrap().contains("failed: "), "{:?}", mirror.stats());
    world.start_gateway();
    world.put(500);
    world.check(&mirror);
    wait_until(|| mirror.stats().failing_since.is_none());
    assert!(!mirror.is_over());
    mirror.close().unwrap();
}

#[test]
fn l5_what_kinesis_limits_throttle_is_read_later() {
    // A shard returns up to 10 MiB in one read, and then nothing until 2 MiB a second have made up for that.
    let clock = common::clock();
    let mut world = World::new(1, Limits::none(), Some(Arc::clone(&clock)));
    world.put_with(500, &"x".repeat(30_000));
    world.stop_gateway();
    world.limits = Limits::kinesis();
    world.start_gateway();
    let mirror = world.mirror().start().unwrap();
    wait_until(|| mirror.stats().throttled > 0);
    assert!(count_of(&world.local) < 500);
    wait_until(|| {
        clock.advance(Duration::from_millis(100));
        mirror.is_caught_up() && count_of(&world.local) == 500
    });
    world.check(&mirror);
    let stats = mirror.stats();
    assert!(stats.bytes > 500 * 30_000, "{stats:?}");
}

#[test]
fn l2_an_iterator_that_has_expired_is_renewed_where_it_was() {
    let clock = common::clock();
    let mut world = World::new(2, Limits::none(), Some(Arc::clone(&clock)));
    world.put(100);
    let mirror = world.mirror().poll_interval(Duration::from_millis(500)).start().unwrap();
    world.check(&mirror);
    for _ in 0..3 {
        clock.advance(Duration::from_secs(301));
        world.put(100);
        world.check(&mirror);
    }
    assert_eq!((mirror.stats().records, mirror.stats().skipped), (400, 0));
    assert_eq!(mirror.stats().throttled, 0);
}

#[test]
fn l1_what_was_trimmed_before_it_was_read_is_noticed() {
    let mut world = World::new(1, Limits::none(), None);
    world.put(100);
    let mirror = world.mirror().start().unwrap();
    world.check(&mirror);
    mirror.close().unwrap();
    world.put(100);
    let shard = world.source.shards()[0].id;
    world.source.trim_before(shard, 150.into()).unwrap();
    let mirror = world.mirror().start().unwrap();
    wait_until(|| mirror.is_caught_up() && count_of(&world.local) == 150);
    assert_eq!(mirror.stats().skipped, 1);
    let mirrored = ids(&world.local);
    assert!(mirrored.contains(&(10, 7)) && !mirrored.contains(&(9, 7)), "{mirrored:?}");
    mirror.close().unwrap();
    // Nothing was trimmed since.
    world.put(20);
    let mirror = world.mirror().start().unwrap();
    wait_until(|| count_of(&world.local) == 170);
    assert_eq!(mirror.stats().skipped, 0);
}

#[test]
fn l1_a_mirror_begins_where_it_is_told() {
    let mut world = World::new(1, Limits::none(), None);
    world.put(40);
    let mirror = world.mirror().starting_position(Position::Latest).start().unwrap();
    wait_until(|| mirror.is_caught_up());
    assert_eq!(mirror.stats().records, 0);
    // Without having seen a record, it knows where it was.
    mirror.close().unwrap();
    std::thread::sleep(Duration::from_millis(5));
    world.put(40);
    let mirror = world.mirror().starting_position(Position::Latest).start().unwrap();
    wait_until(|| count_of(&world.local) == 40);
    wait_until(|| mirror.is_caught_up());
    assert!(ids(&world.local).iter().all(|(_, number)| *number >= 2));
    mirror.close().unwrap();

    let later = StreamOptions::new().open(world.scratch.path().join("later")).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    let time = later.now();
    world.put(40);
    let from = |position| {
        let client = client(&format!("http://{}", world.address));
        later.mirror("down").from_kinesis(&client, "orders").starting_position(position).start()
    };
    let mirror = from(Position::AtTimestamp(time)).unwrap();
    wait_until(|| mirror.is_caught_up());
    assert_eq!(ids(&later).first(), Some(&(0, 4)));
    assert_eq!(count_of(&later), 40);
    let again = from(Position::TrimHorizon).unwrap_err();
    assert!(matches!(again, streamlog::Error::Locked(_)), "{again}");
    mirror.close().unwrap();
    for wrong in [Position::At(0.into()), Position::AtTimestamp(later.now() + 60 * SECOND)] {
        let error = from(wrong).unwrap_err().to_string();
        assert!(error.contains("cannot start at"), "{error}");
    }
}

#[test]
fn l5_a_stream_that_is_not_there_is_waited_for() {
    let world = World::new(1, Limits::none(), None);
    let url = format!("http://{}", world.address);
    let mirror = world.local.mirror("other").from_kinesis(&client(&url), "payments").start().unwrap();
    wait_until(|| mirror.stats().last_error.is_some());
    let error = mirror.stats().last_error.unwrap();
    assert!(error.contains("ResourceNotFoundException"), "{error}");
    assert!(!mirror.is_caught_up());
    create(&url, "payments", 1);
    put(&url, "payments", "key", b"data");
    wait_until(|| mirror.is_caught_up() && mirror.stats().records == 1);
    mirror.close().unwrap();
}

#[test]
fn l1_a_mirror_ends_with_its_stream() {
    let mut world = World::new(1, Limits::none(), None);
    let mirror = world.mirror().start().unwrap();
    wait_until(|| mirror.is_caught_up());
    world.local.clone().close().unwrap();
    world.put(10);
    wait_until(|| mirror.is_over());
    assert!(matches!(mirror.close(), Err(streamlog::Error::Closed)));
}

/// Mirrors a stream of another server.
fn mirror_from(server: &Server, splits: bool) {
    let scratch = common::scratch();
    let local = StreamOptions::new().shards(2).open(scratch.path()).unwrap();
    create(&server.url, "orders", 2);
    let mut keys: BTreeMap<u64, u64> = BTreeMap::new();
    let mut put_all = || {
        for number in 0..60 {
            let next = keys.entry(number % KEYS).or_default();
            let data = serde_json::to_vec(&(number % KEYS, *next, "")).unwrap();
            put(&server.url, "orders", &format!("key-{}", number % KEYS), &data);
            *next += 1;
        }
    };
    put_all();
    let mirror = local.mirror("down").from_kinesis(&client(&server.url), "orders").start().unwrap();
    wait_until(|| mirror.is_caught_up() && count_of(&local) == 60);
    if splits {
        let middle = HashKey::new(1 << 126).get().to_string();
        let split = json!({"StreamName": "orders", "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": middle});
        call(&server.url, "SplitShard", &split);
        wait_until_active(&server.url, "orders");
    }
    put_all();
    wait_until(|| mirror.is_caught_up() && count_of(&local) >= 120);
    mirror.close().unwrap();
    put_all();
    let mirror = local.mirror("down").from_kinesis(&client(&server.url), "orders").start().unwrap();
    wait_until(|| mirror.is_caught_up() && count_of(&local) >= 180);
    assert_eq!(mirror.stats().skipped, 0, "{:?}", mirror.stats());
    mirror.close().unwrap();
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for (key, number) in ids(&local) {
        let expected = next.entry(key).or_default();
        assert_eq!(number, *expected, "of key {key}");
        *expected += 1;
    }
    assert_eq!(next, keys);
}

#[test]
fn l2_a_stream_of_kinesalite_is_mirrored_through_a_split() {
    let Some(server) = Server::kinesalite() else { return };
    mirror_from(&server, true);
}

#[test]
fn l2_a_stream_of_moto_is_mirrored() {
    let Some(server) = Server::moto() else { return };
    // Moto moves the records of a shard that is split into its children, under new numbers.
    mirror_from(&server, false);
}

#[test]
fn l5_closing_does_not_wait_for_a_server_that_does_not_answer() {
    let scratch = common::scratch();
    let local = StreamOptions::new().open(scratch.path()).unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = client(&format!("http://{}", silent.local_addr().unwrap()));
    let mirror = local.mirror("down").from_kinesis(&client, "orders").start().unwrap();
    let _asking = silent.accept().unwrap();
    let begun = std::time::Instant::now();
    mirror.close().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
