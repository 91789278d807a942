//! The memory of idle connections and subscriptions.

use std::fs;
use std::process;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::{Client, settle};
use crate::{Outcome, create, gateway};

/// The number of shards of a stream here.
const SHARDS: usize = 20;

pub fn measure(connections: usize, subscriptions: usize) -> Outcome {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let directory = tempfile::tempdir()?;
    let running = gateway(directory.path())?;
    let address = running.local_address();
    create(address, "bench", SHARDS as u32)?;
    let mut client = Client::connect(address)?;
    settle();

    let before = resident_kib()?;
    let mut idle = vec![];
    for _ in 0..connections {
        let mut client = Client::connect(address)?;
        client.call("ListQueues", b"{}")?;
        idle.push(client);
    }
    settle();
    let after = resident_kib()?;
    // This process also holds the clients: a socket and the data read.
    println!(
        "{connections} idle connections: {:.1} KiB each, client included",
        per(after - before, connections)
    );
    drop(idle);
    settle();

    let before = resident_kib()?;
    let mut pushed = vec![];
    for number in 0..subscriptions {
        let (consumer, shard) = (number / SHARDS, number % SHARDS);
        let body = format!(
            r#"{{"StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/bench", "ConsumerName": "consumer-{consumer}"}}"#
        );
        if shard == 0 {
            client.call("RegisterStreamConsumer", body.as_bytes())?;
        }
        let described = client.call("DescribeStreamConsumer", body.as_bytes())?;
        let arn = described.split('"').find(|text| text.contains("/consumer/")).ok_or("no ARN")?;
        let body = format!(
            r#"{{"ConsumerARN": "{arn}", "ShardId": "shardId-{shard:012}", "StartingPosition": {{"Type": "LATEST"}}}}"#
        );
        let mut subscriber = Client::connect(address)?;
        subscriber.begin("SubscribeToShard", body.as_bytes())?;
        pushed.push(subscriber);
    }
    settle();
    let after = resident_kib()?;
    println!(
        "{subscriptions} subscriptions: {:.1} KiB each, client included",
        per(after - before, subscriptions)
    );
    drop(pushed);
    running.close()?;
    Ok(())
}

fn per(kib: i64, count: usize) -> f64 {
    kib as f64 / count as f64
}

fn resident_kib() -> Outcome<i64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process::id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
