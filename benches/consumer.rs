//! Consumer groups compared with plain shard iterators on the same data: batches and records a second. Workers commit batch by batch.
//!
//! `cargo bench --bench consumer -- [DIRECTORY]`; the directory should be on the disk to measure. The contenders take turns, and the
//! figures are medians over the rounds.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use streamlog::{Batch, Durability, Position, PutRecord, Stream, StreamOptions, Worker};

const ROUNDS: usize = 5;
/// A turn ends after this time, or when everything is read.
const TURN: Duration = Duration::from_millis(300);
const RECORD_COUNT: u64 = 1_000_000;
const GROUP: &str = "bench";

/// Reads for a turn. Returns the number of batches, the number of records, and the time.
type Turn<'a> = Box<dyn FnMut() -> (u64, u64, Duration) + 'a>;

struct Contender<'a> {
    name: String,
    turn: Turn<'a>,
    batch_rates: Vec<f64>,
    record_rates: Vec<f64>,
}

fn main() {
    let base = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).map(PathBuf::from);
    let scratch = base.map_or_else(tempfile::tempdir, tempfile::tempdir_in).expect("a directory to work in");
    println!("| commits | shards | batch | way | batches a second | records a second | of the iterator's |");
    println!("|---|---|---|---|---|---|---|");
    for (durability, shard_count, batch_records) in [
        (Durability::Process, 4, 1),
        (Durability::Process, 4, 100),
        (Durability::Process, 4, 1_000),
        (Durability::Process, 1_024, 100),
        (Durability::Power, 4, 100),
    ] {
        compare(scratch.path(), durability, shard_count, batch_records);
    }
}

fn compare(scratch: &Path, durability: Durability, shard_count: u32, batch_records: usize) {
    let path = scratch.join("stream");
    let stream =
        StreamOptions::new().shards(shard_count).durability(durability).open(&path).expect("a stream");
    fill(&stream);
    let mut contenders = vec![];
    let mut add = |name: &str, turn| {
        contenders.push(Contender { name: name.into(), turn, batch_rates: vec![], record_rates: vec![] });
    };
    add("shard iterators", iterators(&stream, batch_records));
    add("1 worker", workers(&stream, batch_records, 1));
    add("2 workers", workers(&stream, batch_records, 2));
    for round in 0..ROUNDS {
        let count = contenders.len();
        for at in 0..count {
            let contender = &mut contenders[(at + round) % count];
            let (batches, records, elapsed) = (contender.turn)();
            contender.batch_rates.push(batches as f64 / elapsed.as_secs_f64());
            contender.record_rates.push(records as f64 / elapsed.as_secs_f64());
        }
    }
    let baseline = median(&contenders[0].record_rates);
    for contender in &contenders {
        let rate = median(&contender.record_rates);
        println!(
            "| {durability:?} | {shard_count} | {batch_records} | {} | {:.0} | {rate:.0} | {:.2} |",
            contender.name,
            median(&contender.batch_rates),
            rate / baseline
        );
    }
    drop(contenders);
    drop(stream);
    std::fs::remove_dir_all(&path).expect("the stream removed");
}

fn fill(stream: &Stream) {
    let data = [7; 100];
    for first in (0..RECORD_COUNT).step_by(1_000) {
        let keys: Vec<_> = (first..first + 1_000).map(u64::to_le_bytes).collect();
        let records: Vec<_> = keys.iter().map(|key| PutRecord::new(key, &data)).collect();
        for outcome in stream.put_batch(&records).expect("a batch") {
            outcome.expect("a record");
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Handles a batch with the least possible work: looks at each record.
fn handle(batch: &Batch) -> u64 {
    batch.iter().for_each(|record| {
        black_box(record.data().len());
    });
    batch.len() as u64
}

fn iterators(stream: &Stream, batch_records: usize) -> Turn<'_> {
    Box::new(move || {
        let of_shard = |shard| stream.iterator(shard, Position::TrimHorizon).expect("an iterator");
        let mut iterators: Vec<_> = stream.shards().into_iter().map(|shard| of_shard(shard.id)).collect();
        let (started, mut batches, mut records) = (Instant::now(), 0, 0);
        loop {
            let before = records;
            for iterator in &mut iterators {
                let batch = iterator.next_batch(batch_records).expect("a batch");
                records += handle(&batch);
                batches += u64::from(!batch.is_empty());
            }
            if records == before || started.elapsed() > TURN {
                return (batches, records, started.elapsed());
            }
        }
    })
}

fn workers(stream: &Stream, batch_records: usize, count: usize) -> Turn<'_> {
    Box::new(move || {
        let open = || stream.group(GROUP).worker().batch_records(batch_records).open().expect("a worker");
        let workers: Vec<_> = (0..count).map(|_| open()).collect();
        stream.group(GROUP).reset(Position::TrimHorizon).expect("a reset");
        let started = Instant::now();
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                workers.into_iter().map(|worker| scope.spawn(move || work(worker, started))).collect();
            let counts = threads.into_iter().map(|thread| thread.join().expect("a worker"));
            let (batches, records) = counts.fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1));
            (batches, records, started.elapsed())
        })
    })
}

/// Polls and commits for a turn. Returns the number of batches and the number of records.
fn work(mut worker: Worker, started: Instant) -> (u64, u64) {
    let (mut batches, mut records) = (0, 0);
    while started.elapsed() < TURN {
        let Some(batch) = worker.poll(Duration::ZERO).expect("a poll") else { break };
        records += handle(&batch);
        batches += 1;
        worker.commit(&batch).expect("a commit");
    }
    (batches, records)
}
