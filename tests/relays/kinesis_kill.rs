//! Kills a process with a relay to Kinesis at random moments, while shards split and merge on both sides: nothing is lost, the order of each key holds,
//! and duplicates are at most a batch of each lane. Then kills the other side: P1, P3, L1.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::killed::{Id, ids, kill_again_and_again, open, put_until_killed, told};
use common::kinesis::{Far, call, client, read, wait_until};
use streamlog::gateway::Gateway;
use streamlog::relay::{Envelope, RelayHeaders};
use streamlog::{Limits, ShardFilter, Store, StreamOptions};

const ROUNDS: u64 = 6;
const BATCH: usize = 7;
const LANES: usize = 3;
/// A stream has at most three open shards, and one that is about to end beside each.
const SHARDS: usize = 6;

/// Not a test: the child that the kill tests kill: the other side, or a relay. In its last round, a relay puts nothing and ends when all is relayed.
#[test]
fn child() {
    if let Some(directory) = std::env::var_os("STREAMLOG_GATEWAY_DIRECTORY") {
        return serve(directory.as_ref());
    }
    let Some((path, round)) = common::killed::child() else { return };
    let clicks = open(&path, "clicks");
    let address: String = told(std::fs::read_to_string(path.join("address")));
    let relay = clicks
        .relay("up")
        .batch_size(BATCH)
        // Other lanes in each round.
        .lanes(1 + round as usize % LANES)
        .backoff(Duration::from_millis(1), Duration::from_millis(20))
        .to_kinesis(&client(address.parse().unwrap()), "far")
        .headers(RelayHeaders::Envelope)
        .aggregate(round % 2 == 1);
    let relay = told(relay.start());
    if round < ROUNDS {
        put_until_killed(&clicks, &[&clicks], round);
    }
    while relay.stats().lag.is_none_or(|lag| lag.record_count > 0) {
        thread::sleep(Duration::from_millis(10));
    }
    told(relay.close());
}

#[test]
fn p1_p3_l1_all_is_relayed_in_order_and_at_most_a_batch_of_each_lane_twice_wherever_the_process_is_killed() {
    let (scratch, far) = (common::scratch(), Far::new(Limits::none()));
    far.create("far", 2);
    std::fs::write(scratch.path().join("address"), far.address.to_string()).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let resharding = {
        let (is_over, stream) = (Arc::clone(&is_over), far.stream("far"));
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let mut open = stream.list_shards(ShardFilter::AtLatest);
                open.sort_by_key(|shard| shard.hash_key_range.start);
                match open.len() {
                    4.. => drop(stream.merge_shards(open[1].id, open[2].id).unwrap()),
                    count => drop(stream.split_shard_evenly(open[count - 1].id).unwrap()),
                }
                thread::sleep(Duration::from_millis(200));
            }
        })
    };
    kill_again_and_again(module_path!(), scratch.path(), ROUNDS);
    is_over.store(true, Ordering::Relaxed);
    resharding.join().unwrap();

    let mut put: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let all = ids(&open(scratch.path(), "clicks"));
    assert!(all.len() > 1_000, "{} records are too few for a test", all.len());
    for (key, number) in &all {
        put.entry(*key).or_default().push(*number);
    }
    let (mut places, mut twice) = (BTreeSet::new(), 0);
    let mut found: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for data in far.read("far").into_values().flatten() {
        let envelope = Envelope::decode(&data).unwrap();
        if places.insert((envelope.shard, envelope.sequence)) {
            let (key, number): Id = serde_json::from_slice(&envelope.data).unwrap();
            found.entry(key).or_default().push(number);
        } else {
            twice += 1;
        }
    }
    // Duplicates are recognised by their place. Without them, each key is complete and in order.
    assert!(found == put, "{} of {} places", places.len(), all.len());
    let most = ROUNDS as usize * SHARDS * LANES * BATCH;
    assert!(twice <= most, "{twice} came twice, of {}", all.len());
    println!("{} records, {twice} twice, at most {most}", all.len());
}

/// Serves a directory until the process is killed, or its input ends.
fn serve(directory: &Path) {
    let store = Store::open(directory, StreamOptions::new().segment_bytes(16 << 20)).unwrap();
    let port: u16 = std::env::var("STREAMLOG_GATEWAY_PORT").unwrap().parse().unwrap();
    let gateway = || Gateway::new(store.clone()).without_authentication().delay(Duration::ZERO);
    let mut running = None;
    wait_until("the port is free", || {
        running = gateway().start(("127.0.0.1", port)).ok();
        running.is_some()
    });
    let running = running.unwrap();
    println!("{}", running.local_address());
    let _ = std::io::stdin().read_to_end(&mut vec![]);
    std::process::exit(0);
}

/// Starts a process that serves a directory. Returns it with its address.
fn served(directory: &Path, port: u16) -> (Child, std::net::SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(common::child_test(module_path!()))
        .env("STREAMLOG_GATEWAY_DIRECTORY", directory)
        .env("STREAMLOG_GATEWAY_PORT", port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines.map_while(Result::ok).find_map(|line| line.parse().ok());
    (child, address.expect("it prints its address"))
}

#[test]
fn p3_l1_nothing_is_lost_or_out_of_order_when_the_other_side_is_killed() {
    let scratch = common::scratch();
    let (near, far) = (open(scratch.path(), "clicks"), scratch.path().join("far"));
    let (mut child, address) = served(&far, 0);
    call(address, "CreateStream", r#"{"StreamName": "far", "ShardCount": 2}"#);
    let relay = near.relay("up").lanes(3).batch_size(20);
    let relay = relay.backoff(Duration::from_millis(1), Duration::from_millis(50));
    let relay = relay.to_kinesis(&client(address), "far").start().unwrap();
    let mut put: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for round in 0..8u64 {
        for number in 0..400u64 {
            let (key, data) = (format!("key-{}", number % 17), format!("{round}-{number}").into_bytes());
            near.put(&key, &data).unwrap();
            put.entry(key).or_default().push(data);
        }
        thread::sleep(Duration::from_millis(round * 37 % 150));
        child.kill().unwrap();
        child.wait().unwrap();
        (child, _) = served(&far, address.port());
    }
    wait_until("all is relayed", || relay.stats().records >= 3_200);
    let stats = relay.stats();
    assert!(stats.failed_requests > 0 && stats.discarded == 0, "{stats:?}");
    relay.close().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let store = Store::open(&far, StreamOptions::new()).unwrap();
    for (key, found) in read(&store.stream("far").unwrap()) {
        let mut seen = BTreeSet::new();
        let first: Vec<_> = found.into_iter().filter(|data| seen.insert(data.clone())).collect();
        assert!(put.remove(&key) == Some(first), "{key}");
    }
    assert!(put.is_empty(), "{:?}", put.keys());
}
