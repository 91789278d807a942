//! Processors compared with a consumer group on the same data, and the gain from lanes if the function waits.
//!
//! `cargo bench --bench processor -- [DIRECTORY]`; the directory should be on the disk to measure. The contenders take turns, and the
//! figures are medians over the rounds.

use std::convert::Infallible;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use streamlog::{
    Filter, Invocation, MINUTE, Position, ProcessorOptions, PutRecord, Record, Response, Stream,
    StreamOptions,
};

const ROUNDS: usize = 7;
const RECORD_COUNT: u64 = 1_000_000;
const BATCH_SIZE: usize = 100;
/// In the second part, how long the function waits in each call, and how many records it gets in total.
const WAIT: Duration = Duration::from_millis(1);
const WAITING_RECORDS: u64 = 20_000;

/// Reads the whole stream. Returns the records a second.
type Way<'a> = (&'static str, Box<dyn Fn() -> f64 + 'a>);

fn main() {
    let base = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).map(PathBuf::from);
    let scratch = base.map_or_else(tempfile::tempdir, tempfile::tempdir_in).expect("a directory to work in");
    let stream = StreamOptions::new().open(scratch.path().join("stream")).expect("a stream");
    fill(&stream, RECORD_COUNT);
    let filter = Filter::new(r#"{"data": {"level": ["error"], "status": [{"numeric": [">=", 500]}]}}"#)
        .expect("a filter");
    println!("| batches of {BATCH_SIZE}, an empty function | records a second | of the group's |");
    println!("|---|---|---|");
    compare(&[
        ("consumer group, 1 worker", Box::new(|| group(&stream))),
        ("processor, 1 lane", Box::new(|| processor(&stream, RECORD_COUNT, |options| options))),
        (
            "processor, 4 lanes",
            Box::new(|| processor(&stream, RECORD_COUNT, |options| options.parallelization_factor(4))),
        ),
        (
            "processor, a filter that takes all",
            Box::new(|| processor(&stream, RECORD_COUNT, |options| options.filter(filter.clone()))),
        ),
        (
            "processor, windows of a minute by arrival",
            Box::new(|| windows(&stream, |options| options.tumbling_window(MINUTE))),
        ),
        (
            "processor, windows of a minute by event time",
            Box::new(|| {
                let time_of = |record: &Record<'_>| Ok::<_, Infallible>(record.timestamp());
                windows(&stream, |options| options.tumbling_window(MINUTE).event_time(time_of))
            }),
        ),
    ]);
    drop(stream);
    let stream = StreamOptions::new().open(scratch.path().join("waiting")).expect("a stream");
    fill(&stream, WAITING_RECORDS);
    println!();
    println!(
        "| batches of {BATCH_SIZE}, a function that waits {WAIT:?} | records a second | of one lane's |"
    );
    println!("|---|---|---|");
    compare(&[("1 lane", Box::new(|| waiting(&stream, 1))), ("10 lanes", Box::new(|| waiting(&stream, 10)))]);
}

/// Runs the ways in turns, and prints the median of each.
fn compare(ways: &[Way<'_>]) {
    let mut rates = vec![vec![]; ways.len()];
    for round in 0..ROUNDS {
        for at in 0..ways.len() {
            let at = (at + round) % ways.len();
            rates[at].push(ways[at].1());
        }
    }
    let medians: Vec<f64> = rates.into_iter().map(median).collect();
    for ((name, _), rate) in ways.iter().zip(&medians) {
        println!("| {name} | {rate:.0} | {:.2} |", rate / medians[0]);
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn fill(stream: &Stream, count: u64) {
    let data = [br#"{"level":"error","status":503,"message":""#, &[b'x'; 157][..], br#""}"#].concat();
    for first in (0..count).step_by(1_000) {
        let keys: Vec<_> = (first..first + 1_000).map(u64::to_le_bytes).collect();
        let records: Vec<_> = keys.iter().map(|key| PutRecord::new(key, &data)).collect();
        for outcome in stream.put_batch(&records).expect("a batch") {
            outcome.expect("a record");
        }
    }
}

/// Each turn uses a new group, so that it starts at the first record.
fn name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("bench-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn group(stream: &Stream) -> f64 {
    let group = stream.group(name());
    let mut worker =
        group.worker().start_at(Position::TrimHorizon).batch_records(BATCH_SIZE).open().expect("a worker");
    let (started, mut records) = (Instant::now(), 0);
    while records < RECORD_COUNT {
        let batch = worker.poll(Duration::from_secs(1)).expect("a batch").expect("some are left");
        batch.iter().for_each(|record| {
            black_box(record.data().len());
        });
        records += batch.len() as u64;
        worker.commit(&batch).expect("a commit");
    }
    let rate = records as f64 / started.elapsed().as_secs_f64();
    drop(worker);
    group.delete().expect("the group deleted");
    rate
}

fn processor(stream: &Stream, count: u64, set: impl Fn(ProcessorOptions) -> ProcessorOptions) -> f64 {
    run(stream, count, set, |_| Response::done())
}

/// The function counts the records of a window in its state.
fn windows(stream: &Stream, set: impl Fn(ProcessorOptions) -> ProcessorOptions) -> f64 {
    run(stream, RECORD_COUNT, set, |invocation| {
        let before = invocation.state().first_chunk().map_or(0, |count| u64::from_le_bytes(*count));
        Response::done().with_state((before + invocation.len() as u64).to_le_bytes())
    })
}

fn waiting(stream: &Stream, lanes: usize) -> f64 {
    let set = |options: ProcessorOptions| options.parallelization_factor(lanes);
    run(stream, WAITING_RECORDS, set, |_| {
        thread::sleep(WAIT);
        Response::done()
    })
}

fn run(
    stream: &Stream,
    count: u64,
    set: impl Fn(ProcessorOptions) -> ProcessorOptions,
    work: impl Fn(&Invocation) -> Response + Send + Sync + 'static,
) -> f64 {
    let (name, seen) = (name(), Arc::new(AtomicU64::new(0)));
    let started = Instant::now();
    let counted = Arc::clone(&seen);
    let options = set(stream.processor(&name).batch_size(BATCH_SIZE));
    let processor = options
        .start(move |invocation| {
            invocation.records().for_each(|record| {
                black_box(record.data().len());
            });
            counted.fetch_add(invocation.len() as u64, Ordering::Relaxed);
            work(invocation)
        })
        .expect("a processor");
    // Wakes rarely, so that it takes no processor time.
    while seen.load(Ordering::Relaxed) < count {
        thread::sleep(Duration::from_millis(1));
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    processor.close().expect("the processor closed");
    stream.group(&name).delete().expect("the group deleted");
    rate
}
