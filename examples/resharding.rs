//! Adding and removing shards under load: nothing stops, and each key keeps its order.
//!
//! Four threads put continuously while the stream is split, scaled up, merged, scaled down and scaled on demand. One reader follows with a lineage
//! iterator, which reads a shard's children only after the shard itself. The numbers of each key must arrive in order and without gaps.
//!
//! ```text
//! cargo run --release --example resharding
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use streamlog::{Error as StreamError, Position, SECOND, Scaling, ShardFilter, Stream, StreamOptions};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;
/// The number of records of each key.
type Counts = BTreeMap<String, u64>;

const PRODUCERS: u64 = 4;
const KEYS_OF_A_PRODUCER: u64 = 250;

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let stream = StreamOptions::new().shards(2).open(directory.path().join("clicks"))?;
    let must_stop = AtomicBool::new(false);
    let ((put, longest), read) = thread::scope(|scope| -> Result<_> {
        let reader = scope.spawn(|| follow(&stream));
        let produce = |producer| {
            let (stream, must_stop) = (&stream, &must_stop);
            scope.spawn(move || produce(stream, producer, must_stop))
        };
        let producers: Vec<_> = (0..PRODUCERS).map(produce).collect();
        let resharded = reshard(&stream);
        must_stop.store(true, Ordering::Relaxed);
        let mut put = (Counts::new(), Duration::ZERO);
        for producer in producers {
            let (counts, longest) = producer.join().map_err(|_| "a producer has died")??;
            put.0.extend(counts);
            put.1 = put.1.max(longest);
        }
        // Closing the stream ends the reader, after it has read everything.
        stream.clone().close()?;
        let read = reader.join().map_err(|_| "the reader has died")??;
        resharded?;
        Ok((put, read))
    })?;
    println!(
        "{} records of {} keys put, the longest put took {longest:.1?}",
        put.values().sum::<u64>(),
        put.len()
    );
    assert_eq!(put, read, "each key has as many records as were put");
    println!("all of them read, each key's in the order of the puts");
    Ok(())
}

fn reshard(stream: &Stream) -> Result<()> {
    report(stream, "the first one split in halves", |stream| {
        let shards = stream.list_shards(ShardFilter::AtLatest);
        stream.split_shard_evenly(shards[0].id).map(drop)
    })?;
    report(stream, "scaled to eight", |stream| stream.update_shard_count(8).map(drop))?;
    report(stream, "two adjacent ones merged", |stream| {
        // Shards are adjacent if their hash-key ranges are.
        let mut shards = stream.list_shards(ShardFilter::AtLatest);
        shards.sort_by_key(|shard| shard.hash_key_range.start);
        stream.merge_shards(shards[0].id, shards[1].id).map(drop)
    })?;
    report(stream, "scaled to three", |stream| stream.update_shard_count(3).map(drop))?;
    report(stream, "scaled on demand", scale_on_demand)
}

/// Runs on-demand scaling until it has made a decision.
fn scale_on_demand(stream: &Stream) -> streamlog::Result<()> {
    let (decided, decisions) = mpsc::channel();
    // Far below the put rate, so that a shard is soon found to be hot.
    let scaling = Scaling::on_demand(3, 16).capacity(u64::MAX, 10_000).split_after(SECOND);
    stream.set_scaling(scaling.on_decision(move |decision| _ = decided.send(decision.to_string())))?;
    let decision = decisions.recv_timeout(30 * SECOND).expect("maintenance runs each second");
    println!("{decision}");
    stream.set_scaling(Scaling::provisioned())
}

/// Changes the shards, prints how long that took, and lets the load run on the new shards for a while.
fn report(stream: &Stream, what: &str, change: impl FnOnce(&Stream) -> streamlog::Result<()>) -> Result<()> {
    let started = Instant::now();
    change(stream)?;
    let took = started.elapsed();
    let count_before = stream.stats()?.record_count();
    thread::sleep(Duration::from_millis(200));
    let put_since = stream.stats()?.record_count() - count_before;
    let (all, open) = (stream.shards().len(), stream.list_shards(ShardFilter::AtLatest).len());
    println!("{what:<30} {took:>9.1?}: {open} open and {} closed, {put_since} puts in 200 ms", all - open);
    Ok(())
}

/// Puts numbers from 0 for each of its keys. Returns the counts and the longest time of a put.
fn produce(stream: &Stream, producer: u64, must_stop: &AtomicBool) -> Result<(Counts, Duration)> {
    let keys: Vec<String> = (0..KEYS_OF_A_PRODUCER).map(|key| format!("user-{producer}-{key}")).collect();
    let mut longest = Duration::ZERO;
    for number in 0u64.. {
        for key in &keys {
            let started = Instant::now();
            stream.put(key, number.to_string())?;
            longest = longest.max(started.elapsed());
        }
        if must_stop.load(Ordering::Relaxed) {
            return Ok((keys.into_iter().map(|key| (key, number + 1)).collect(), longest));
        }
        // Limit the load so that the reader can keep up.
        thread::sleep(Duration::from_millis(1));
    }
    Err("the numbers are used up".into())
}

/// Reads everything until the stream is closed, and checks that no number is missing, duplicated or out of order.
fn follow(stream: &Stream) -> Result<Counts> {
    let mut iterator = stream.lineage_iterator(Position::TrimHorizon)?;
    let mut counts = Counts::new();
    loop {
        match iterator.wait(SECOND) {
            Err(StreamError::Closed) => return Ok(counts),
            waited => waited?,
        };
        for record in &iterator.next_batch(10_000)? {
            let key = String::from_utf8_lossy(record.partition_key());
            let number: u64 = std::str::from_utf8(record.data())?.parse()?;
            let next = counts.entry(key.clone().into_owned()).or_default();
            assert_eq!(number, *next, "of {key}, in its order");
            *next += 1;
        }
    }
}
