//! The cost of resharding: the delay of puts while shards split and merge without a pause, and the time to split a full shard.
//!
//! `cargo bench --bench reshard -- [DIRECTORY]`; the directory should be on the disk to measure. It takes about 12 GiB there.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use streamlog::{PutRecord, Retention, ShardFilter, Stream, StreamOptions};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);

fn main() {
    let base = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).map(PathBuf::from);
    let scratch = base.map_or_else(tempfile::tempdir, tempfile::tempdir_in).expect("a directory to work in");
    put_delays(scratch.path());
    split_times(scratch.path());
}

/// Measures put delays, at rest and while one thread reshards without a pause. The puts are paced, so that one that waits does not hide
/// the delay of those after it.
fn put_delays(scratch: &Path) {
    println!("put of 100 B, 20,000 a second, each delay from the time the put was due; microseconds");
    println!("| round | resharding | reshards | p50 | p99 | p99.9 | max |");
    println!("|---|---|---|---|---|---|---|");
    for round in 1..=ROUNDS {
        for is_resharding in [false, true] {
            let path = scratch.join("delays");
            let stream = StreamOptions::new().shards(4).open(&path).expect("a stream");
            let (is_over, mut reshard_count) = (AtomicBool::new(false), 0);
            let delays = std::thread::scope(|scope| {
                let writer = scope.spawn(|| {
                    let delays = paced_puts(&stream);
                    is_over.store(true, Ordering::Relaxed);
                    delays
                });
                while is_resharding && !is_over.load(Ordering::Relaxed) {
                    let open = stream.list_shards(ShardFilter::AtLatest);
                    let shard = open[reshard_count % open.len()].id;
                    let children = stream.split_shard_evenly(shard).expect("a split");
                    stream.merge_shards(children[0].id, children[1].id).expect("a merge");
                    reshard_count += 2;
                }
                writer.join().expect("the writer")
            });
            let micros = |quantile| delays.value_at_quantile(quantile) as f64 / 1_000.0;
            let what = if is_resharding { "without a pause" } else { "none" };
            println!(
                "| {round} | {what} | {reshard_count} | {:.1} | {:.1} | {:.1} | {:.0} |",
                micros(0.5),
                micros(0.99),
                micros(0.999),
                delays.max() as f64 / 1_000.0
            );
            drop(stream);
            std::fs::remove_dir_all(&path).expect("the stream removed");
        }
    }
}

fn paced_puts(stream: &Stream) -> Histogram<u64> {
    const INTERVAL: Duration = Duration::from_micros(50);
    let mut delays = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("a histogram");
    let started = Instant::now();
    let mut due = started;
    let mut number = 0u64;
    while due.duration_since(started) < ROUND {
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        stream.put(number.to_le_bytes(), [7; 100]).expect("a put");
        delays.saturating_record(due.elapsed().as_nanos() as u64);
        due += INTERVAL;
        number += 1;
    }
    delays
}

/// Measures the time to split an empty shard, and one that holds 10 GiB.
fn split_times(scratch: &Path) {
    let path = scratch.join("full");
    let options =
        StreamOptions::new().retention(Retention::forever()).sync_interval(Duration::from_millis(200));
    let stream = options.open(&path).expect("a stream");
    let timed_split = |what: &str| {
        let shard = stream.list_shards(ShardFilter::AtLatest)[0].id;
        let started = Instant::now();
        let children = stream.split_shard_evenly(shard).expect("a split");
        println!("split of {what}: {:.2} ms", started.elapsed().as_secs_f64() * 1_000.0);
        stream.merge_shards(children[0].id, children[1].id).expect("a merge");
    };
    println!();
    (0..ROUNDS).for_each(|_| timed_split("an empty shard"));
    let data = vec![7; 64 << 10];
    let batch = vec![PutRecord::new("key", &data); 64];
    for _ in 0..(10 << 30) / (64 * data.len()) {
        stream.put_batch(&batch).expect("a batch");
    }
    stream.sync().expect("a sync");
    timed_split("a shard of 10 GiB, synced");
    (0..ROUNDS - 1).for_each(|_| timed_split("the shard merged from its children"));
}
