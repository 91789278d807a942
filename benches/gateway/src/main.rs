//! Measures the gateway over loopback, next to a server on the same HTTP library that reads each request and answers with a constant.
//!
//! ```sh
//! cargo run --release -p gateway_bench -- puts          # PutRecord of 1 KiB, signed, on 64 connections: both servers in turn
//! cargo run --release -p gateway_bench -- latency       # the same at 5,000 a second: percentiles
//! cargo run --release -p gateway_bench -- start         # from nothing to the first answer, with 100 streams of 4 shards
//! cargo run --release -p gateway_bench -- idle          # the memory of connections and of subscriptions
//! cargo run --release -p gateway_bench -- canned --port 4568   # a server of constants, for clients in other languages
//! ```

mod canned;
mod client;
mod memory;

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use streamlog::gateway::{Gateway, RunningGateway};
use streamlog::{Store, StreamOptions};

use client::{ACCESS_KEY, Client, Load, SECRET_KEY};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// Puts as fast as the connections allow, to both servers in turn
    Puts {
        #[arg(long, default_value_t = 64)]
        connections: usize,
        #[arg(long, default_value_t = 4)]
        seconds: u64,
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Puts at a rate
    Latency {
        #[arg(long, default_value_t = 64)]
        connections: usize,
        #[arg(long, default_value_t = 5_000)]
        rate: u64,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Starts a gateway on many streams
    Start {
        #[arg(long, default_value_t = 100)]
        streams: usize,
        #[arg(long, default_value_t = 4)]
        shards: u32,
    },
    /// Opens connections and subscriptions that have nothing to do
    Idle {
        #[arg(long, default_value_t = 2_000)]
        connections: usize,
        #[arg(long, default_value_t = 500)]
        subscriptions: usize,
    },
    /// Answers all puts and reads with a constant
    Canned {
        #[arg(long, default_value_t = 4568)]
        port: u16,
    },
}

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    match Arguments::parse().work {
        Work::Puts { connections, seconds, rounds } => {
            puts(connections, Duration::from_secs(seconds), rounds)
        }
        Work::Latency { connections, rate, seconds } => {
            latency(connections, rate, Duration::from_secs(seconds))
        }
        Work::Start { streams, shards } => start(streams, shards),
        Work::Idle { connections, subscriptions } => memory::measure(connections, subscriptions),
        Work::Canned { port } => canned::serve_for_ever(port),
    }
}

/// Starts a gateway that checks signatures, with a key file beside its streams.
fn gateway(directory: &Path) -> Outcome<RunningGateway> {
    let keys = directory.join("keys.json");
    let policy = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kinesis:*", "Resource": "*"}]}"#;
    let key = format!(
        r#"{{"access_key_id": "{ACCESS_KEY}", "secret_access_key": "{SECRET_KEY}", "user": "bench", "policies": [{policy}]}}"#
    );
    std::fs::write(&keys, format!(r#"{{"keys": [{key}]}}"#))?;
    let store = Store::open(directory.join("streams"), StreamOptions::new())?;
    Ok(Gateway::new(store).credentials(keys).delay(Duration::ZERO).start("127.0.0.1:0")?)
}

fn create(address: SocketAddr, stream: &str, shards: u32) -> Outcome {
    let mut client = Client::connect(address)?;
    let body = format!(r#"{{"StreamName": "{stream}", "ShardCount": {shards}}}"#);
    client.call("CreateStream", body.as_bytes())?;
    Ok(())
}

fn puts(connections: usize, time: Duration, rounds: usize) -> Outcome {
    let directory = tempfile::tempdir()?;
    let running = gateway(directory.path())?;
    create(running.local_address(), "bench", 4)?;
    let bare = canned::start(0)?;
    let mut ratios = vec![];
    println!("PutRecord of 1 KiB, signed, {connections} connections");
    for _ in 0..rounds {
        let mut rates = [0.0; 2];
        for (rate, address) in rates.iter_mut().zip([running.local_address(), bare]) {
            let done = Load { address, connections, time, rate: None }.run()?;
            *rate = done.count as f64 / done.took.as_secs_f64();
        }
        let [gateway, bare] = rates;
        println!("  gateway {gateway:>8.0}/s   constant {bare:>8.0}/s   {:.2}", gateway / bare);
        ratios.push(gateway / bare);
    }
    ratios.sort_by(f64::total_cmp);
    println!("  median of the ratios: {:.2}", ratios[ratios.len() / 2]);
    running.close()?;
    Ok(())
}

fn latency(connections: usize, rate: u64, time: Duration) -> Outcome {
    let directory = tempfile::tempdir()?;
    let running = gateway(directory.path())?;
    create(running.local_address(), "bench", 4)?;
    let done = Load { address: running.local_address(), connections, time, rate: Some(rate) }.run()?;
    let micros = |part: f64| done.micros.value_at_quantile(part);
    println!(
        "PutRecord of 1 KiB, signed, {connections} connections, {rate}/s: {:.0}/s done; p50 {} µs, p99 {} µs, p99.9 {} µs, \
         most {} µs, each from when it was due",
        done.count as f64 / done.took.as_secs_f64(),
        micros(0.5),
        micros(0.99),
        micros(0.999),
        done.micros.max()
    );
    running.close()?;
    Ok(())
}

fn start(streams: usize, shards: u32) -> Outcome {
    let directory = tempfile::tempdir()?;
    let running = gateway(directory.path())?;
    for number in 0..streams {
        create(running.local_address(), &format!("stream-{number}"), shards)?;
    }
    let mut client = Client::connect(running.local_address())?;
    for number in 0..streams {
        let body = format!(r#"{{"StreamName": "stream-{number}", "PartitionKey": "a", "Data": "aGk="}}"#);
        client.call("PutRecord", body.as_bytes())?;
    }
    running.close()?;
    for _ in 0..5 {
        let begun = Instant::now();
        let running = gateway(directory.path())?;
        let mut client = Client::connect(running.local_address())?;
        let body =
            format!(r#"{{"StreamName": "stream-{}", "PartitionKey": "a", "Data": "aGk="}}"#, streams - 1);
        client.call("PutRecord", body.as_bytes())?;
        let first = begun.elapsed();
        client.call("ListStreams", b"{}")?;
        let all = begun.elapsed();
        println!(
            "{streams} streams of {shards} shards: first put answered after {first:?}, all listed after {all:?}"
        );
        running.close()?;
    }
    Ok(())
}
