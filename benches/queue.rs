//! Queues: records received and acknowledged a second on one thread, one by one and in batches, and the time to open a queue that has
//! handled many records.
//!
//! `cargo bench --bench queue -- [DIRECTORY]`; the directory should be on the disk to measure. The figures are medians over the rounds.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use streamlog::{Durability, PutRecord, Queue, Stream, StreamOptions};

const ROUNDS: usize = 5;
/// A turn ends after this time.
const TURN: Duration = Duration::from_millis(500);
const RECORD_BYTES: usize = 100;
const HANDLED: u64 = 10_000_000;
const OUTSTANDING: u64 = 1_000;

fn main() {
    let base = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).map(PathBuf::from);
    let scratch = base.map_or_else(tempfile::tempdir, tempfile::tempdir_in).expect("a directory to work in");
    println!("| acknowledged | order | batch | records a second |");
    println!("|---|---|---|---|");
    for (durability, is_ordered, batch) in [
        (Durability::Process, false, 1),
        (Durability::Process, false, 10),
        (Durability::Process, false, 100),
        (Durability::Process, true, 1),
        (Durability::Process, true, 10),
        (Durability::Power, false, 10),
    ] {
        let order = if is_ordered { "by key" } else { "none" };
        let rate = rate(scratch.path(), durability, is_ordered, batch);
        println!("| {durability:?} | {order} | {batch} | {rate:.0} |");
    }
    reopen(scratch.path());
}

fn fill(stream: &Stream, count: u64) {
    let data = [7; RECORD_BYTES];
    let keys: Vec<_> = (0..1_000u64).map(u64::to_le_bytes).collect();
    for at in (0..count).step_by(keys.len()) {
        let keys = &keys[..(count - at).min(1_000) as usize];
        let records: Vec<_> = keys.iter().map(|key| PutRecord::new(key, &data)).collect();
        for receipt in stream.put_batch(&records).expect("a batch") {
            receipt.expect("put");
        }
    }
}

fn rate(scratch: &Path, durability: Durability, is_ordered: bool, batch: usize) -> f64 {
    let path = scratch.join("stream");
    let stream = StreamOptions::new().shards(4).durability(durability).open(&path).expect("a stream");
    let options = stream.queue("bench");
    let options = if is_ordered { options.ordered_by_key() } else { options };
    let queue = options.open().expect("a queue");
    let mut rates: Vec<f64> = (0..ROUNDS).map(|_| turn(&stream, &queue, batch)).collect();
    rates.sort_by(f64::total_cmp);
    drop(queue);
    drop(stream);
    std::fs::remove_dir_all(&path).expect("the stream removed");
    rates[ROUNDS / 2]
}

/// Receives and acknowledges for a turn. Returns the records a second, without the time to fill the stream.
fn turn(stream: &Stream, queue: &Queue, batch: usize) -> f64 {
    let (mut count, mut elapsed) = (0, Duration::ZERO);
    while elapsed < TURN {
        fill(stream, 100_000);
        let begin = Instant::now();
        loop {
            let records = queue.receive(batch, Duration::ZERO).expect("records");
            match &records[..] {
                [] => break,
                [record] => queue.acknowledge(&record.handle).expect("acknowledged"),
                records => {
                    let handles = records.iter().map(|record| &record.handle);
                    queue.acknowledge_batch(handles).expect("acknowledged");
                }
            }
            count += records.len();
            if begin.elapsed() + elapsed > TURN {
                break;
            }
        }
        elapsed += begin.elapsed();
    }
    count as f64 / elapsed.as_secs_f64()
}

/// Handles many records, leaves some outstanding, and opens the queue again.
fn reopen(scratch: &Path) {
    let path = scratch.join("stream");
    let stream = StreamOptions::new().shards(4).open(&path).expect("a stream");
    let queue = stream.queue("bench").open().expect("a queue");
    let mut handled = 0;
    while handled < HANDLED {
        fill(&stream, 1_000_000);
        loop {
            let records = queue.receive(1_000, Duration::ZERO).expect("records");
            if records.is_empty() {
                break;
            }
            handled += records.len() as u64;
            queue.acknowledge_batch(records.iter().map(|record| &record.handle)).expect("acknowledged");
        }
    }
    fill(&stream, OUTSTANDING);
    assert_eq!(queue.receive(OUTSTANDING as usize, Duration::ZERO).expect("records").len(), 1_000);
    drop(queue);
    let open = || {
        let begin = Instant::now();
        let queue = stream.queue("bench").open().expect("the queue");
        let elapsed = begin.elapsed();
        assert_eq!(queue.describe().expect("described").in_flight_count, 1_000);
        elapsed
    };
    // The first opening reads a journal of up to 4 MiB and shortens it.
    let first = open();
    let mut times: Vec<Duration> = (0..ROUNDS).map(|_| open()).collect();
    times.sort();
    println!();
    println!(
        "{handled} records handled, {OUTSTANDING} outstanding: opened in {first:.2?}, and again in {:.2?}",
        times[ROUNDS / 2]
    );
}
