//! A producer compared with plain puts, and the trade between linger and the size of a batch.
//!
//! `cargo bench --bench producer -- [DIRECTORY]`; the directory should be on the disk to measure. `--quick` is a smoke run. The figures
//! are medians over rounds in which the contenders take turns; `docs/PRODUCER.md` says what they mean.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use streamlog::{Durability, Producer, ProducerOptions, PutRecord, Retention, Stream, StreamOptions};

const KEY: &str = "0123456789";
const DATA: [u8; 100] = [7; 100];
/// The rate at which delay is measured, in records a second: more than single syncs reach, and far less than batches do.
const PACE: u64 = 20_000;
/// A batch of one byte is a batch of one record.
const BATCHES: [(&str, usize); 6] = [
    ("1 record", 1),
    ("1 KiB", 1 << 10),
    ("16 KiB", 16 << 10),
    ("64 KiB", 64 << 10),
    ("256 KiB", 256 << 10),
    ("1 MiB", 1 << 20),
];
const LINGER_MS: [u64; 4] = [0, 1, 10, 100];

/// The length of the turns, and the number of rounds.
#[derive(Clone, Copy)]
struct Plan {
    rounds: usize,
    turn: Duration,
    paced_turn: Duration,
}

fn main() {
    let is_quick = std::env::args().any(|arg| arg == "--quick");
    let plan = match is_quick {
        true => Plan { rounds: 1, turn: Duration::from_millis(50), paced_turn: Duration::from_millis(150) },
        false => {
            Plan { rounds: 5, turn: Duration::from_millis(400), paced_turn: Duration::from_millis(1_500) }
        }
    };
    let base = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).map(PathBuf::from);
    let scratch = base.map_or_else(tempfile::tempdir, tempfile::tempdir_in).expect("a directory to work in");
    for durability in [Durability::Process, Durability::Power] {
        compare(scratch.path(), durability, plan);
    }
    for durability in [Durability::Process, Durability::Power] {
        trade(scratch.path(), durability, plan);
    }
}

/// Runs `work` on a new stream, and removes the stream afterwards.
fn with_stream<T>(scratch: &Path, durability: Durability, work: impl FnOnce(&Stream) -> T) -> T {
    let directory = tempfile::tempdir_in(scratch).expect("a directory");
    let options = StreamOptions::new().durability(durability);
    let options = options.retention(Retention::forever().bytes_max(512 << 20));
    let stream = options.open(directory.path()).expect("a stream");
    let outcome = work(&stream);
    stream.close().expect("a clean end");
    outcome
}

/// Puts records for a turn. Returns how many were written, and the time.
type Way = fn(&Stream, Duration) -> (u64, Duration);

fn compare(scratch: &Path, durability: Durability, plan: Plan) {
    let mut ways: Vec<(&str, Way)> = vec![
        ("put, 1 thread", |stream, turn| put(stream, 1, turn)),
        ("put, 4 threads", |stream, turn| put(stream, 4, turn)),
    ];
    if durability == Durability::Power {
        ways.push(("put, 64 threads", |stream, turn| put(stream, 64, turn)));
    }
    ways.extend([
        ("put_batch of 100 records", (|stream, turn| put_batch(stream, 100, turn)) as Way),
        ("put_batch of 2,000 records", |stream, turn| put_batch(stream, 2_000, turn)),
        ("producer, 1 thread", |stream, turn| produce(stream.producer(), 1, false, turn)),
        ("producer, 4 threads", |stream, turn| produce(stream.producer(), 4, false, turn)),
        ("producer, 4 threads, 2 senders", |stream, turn| {
            produce(stream.producer().senders(2), 4, false, turn)
        }),
        ("producer, 1 thread, a callback each", |stream, turn| produce(stream.producer(), 1, true, turn)),
        ("producer, 1 thread, which waits for each", |stream, turn| one_by_one(stream, turn)),
    ]);
    let mut rates = vec![vec![]; ways.len()];
    for round in 0..plan.rounds {
        for turn in 0..ways.len() {
            let at = (turn + round) % ways.len();
            let (count, took) = with_stream(scratch, durability, |stream| (ways[at].1)(stream, plan.turn));
            rates[at].push(count as f64 / took.as_secs_f64());
        }
    }
    println!("\n{durability:?}: records of {} bytes", KEY.len() + DATA.len());
    println!("| way | records a second | lowest to highest |");
    println!("|---|---|---|");
    for ((name, _), rates) in ways.iter().zip(&rates) {
        let lowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = rates.iter().copied().fold(0.0, f64::max);
        println!("| {name} | {:.0} | {lowest:.0} to {highest:.0} |", median(rates));
    }
}

/// Puts records from several threads until the turn is over. Returns how many, and the time, including `end`.
fn by_threads(
    threads: usize,
    turn: Duration,
    put: impl Fn(usize) -> u64 + Sync,
    end: impl FnOnce(),
) -> (u64, Duration) {
    let (count, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (count, is_over, put) = (&count, &is_over, &put);
            scope.spawn(move || {
                let mut own = 0;
                while !is_over.load(Ordering::Relaxed) {
                    own += put(thread);
                }
                count.fetch_add(own, Ordering::Relaxed);
            });
        }
        std::thread::sleep(turn);
        is_over.store(true, Ordering::Relaxed);
    });
    end();
    (count.into_inner(), started.elapsed())
}

fn put(stream: &Stream, threads: usize, turn: Duration) -> (u64, Duration) {
    let one = |_| stream.put(KEY, DATA).map(|_| 1).expect("a put");
    by_threads(threads, turn, one, || {})
}

fn put_batch(stream: &Stream, count: usize, turn: Duration) -> (u64, Duration) {
    let records = vec![PutRecord::new(KEY, &DATA); count];
    let one = |_| {
        let outcomes = stream.put_batch(&records).expect("a batch");
        outcomes.into_iter().map(|outcome| outcome.map(|_| 1).expect("a put")).sum()
    };
    by_threads(1, turn, one, || {})
}

fn produce(options: ProducerOptions, threads: usize, has_callbacks: bool, turn: Duration) -> (u64, Duration) {
    // The machine may stall for any time.
    let producer = options.time_to_live(None).start().expect("a producer");
    let keys: Vec<String> = (0..threads).map(|thread| format!("thread-{thread:03}")).collect();
    let one = |thread: usize| {
        let record = PutRecord::new(&keys[thread], &DATA);
        match has_callbacks {
            true => producer.put_then(&record, |outcome| assert!(outcome.is_ok())).expect("a put"),
            false => drop(producer.put_record(&record).expect("a put")),
        }
        1
    };
    by_threads(threads, turn, one, || producer.flush().expect("no error"))
}

fn one_by_one(stream: &Stream, turn: Duration) -> (u64, Duration) {
    let producer = stream.producer().start().expect("a producer");
    let one = |_| producer.put(KEY, DATA).and_then(|pending| pending.wait()).map(|_| 1).expect("a put");
    by_threads(1, turn, one, || {})
}

/// The figures for one linger and one batch size.
#[derive(Default)]
struct Cell {
    rates: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    processor_us: Vec<f64>,
}

fn trade(scratch: &Path, durability: Durability, plan: Plan) {
    let places: Vec<(usize, usize)> = (0..BATCHES.len())
        .flat_map(|batch| (0..LINGER_MS.len()).map(move |linger| (batch, linger)))
        .collect();
    let mut cells: Vec<Cell> = places.iter().map(|_| Cell::default()).collect();
    for round in 0..plan.rounds {
        for turn in 0..places.len() {
            let at = (turn + round * 7) % places.len();
            let ((_, bytes), linger) = (BATCHES[places[at].0], LINGER_MS[places[at].1]);
            let options = |stream: &Stream| {
                // So small that the records left at the end of a turn are soon written, even if each waits for the disk.
                let options = stream.producer().batch_bytes(bytes).buffer_bytes((bytes * 16).max(256 << 10));
                options.linger(Duration::from_millis(linger)).time_to_live(None)
            };
            let (count, took) =
                with_stream(scratch, durability, |stream| produce(options(stream), 1, false, plan.turn));
            cells[at].rates.push(count as f64 / took.as_secs_f64());
            with_stream(scratch, durability, |stream| {
                paced(options(stream).start().expect("a producer"), plan.paced_turn, &mut cells[at]);
            });
        }
    }
    let table = |title: &str, tell: &dyn Fn(&Cell) -> String| {
        println!("\n{durability:?}: {title}");
        let lingers: Vec<String> = LINGER_MS.iter().map(|linger| format!("linger {linger} ms")).collect();
        println!("| batch | {} |", lingers.join(" | "));
        println!("|---|{}", "---|".repeat(LINGER_MS.len()));
        for ((name, _), row) in BATCHES.iter().zip(cells.chunks(LINGER_MS.len())) {
            println!("| {name} | {} |", row.iter().map(tell).collect::<Vec<_>>().join(" | "));
        }
    };
    table("records a second, as fast as one thread puts", &|cell| format!("{:.0}", median(&cell.rates)));
    table(&format!("delay from put to receipt at {PACE} records a second, p50 · p99 in ms"), &|cell| {
        format!("{:.2} · {:.2}", median(&cell.p50_ms), median(&cell.p99_ms))
    });
    table(
        &format!("processor time behind the putting thread at {PACE} records a second, µs a record"),
        &|cell| format!("{:.1}", median(&cell.processor_us)),
    );
}

/// Puts at a fixed pace. A record's delay counts from when it was due, so that a put that is held up also counts for those after it.
fn paced(producer: Producer, turn: Duration, cell: &mut Cell) {
    let delays_ns = Arc::new(Mutex::new(Histogram::<u64>::new(3).expect("a histogram")));
    let processor_before = others_processor_time();
    let started = Instant::now();
    let mut count = 0;
    loop {
        let due = started + Duration::from_nanos(count * 1_000_000_000 / PACE);
        // Also stops by the clock, because some settings cannot keep the pace.
        if due.max(Instant::now()) > started + turn {
            break;
        }
        if let Some(left) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(left);
        }
        let delays_ns = Arc::clone(&delays_ns);
        let note = move |outcome: streamlog::Result<_>| {
            assert!(outcome.is_ok());
            delays_ns.lock().expect("no panic").record(due.elapsed().as_nanos() as u64).expect("it grows");
        };
        producer.put_then(&PutRecord::new(KEY, &DATA), note).expect("a put");
        count += 1;
    }
    producer.close().expect("no error");
    let processor = others_processor_time().saturating_sub(processor_before);
    let delays_ns = delays_ns.lock().expect("no panic");
    cell.p50_ms.push(delays_ns.value_at_quantile(0.5) as f64 / 1e6);
    cell.p99_ms.push(delays_ns.value_at_quantile(0.99) as f64 / 1e6);
    cell.processor_us.push(processor.as_secs_f64() * 1e6 / count as f64);
}

/// Returns the processor time of all threads but this one.
fn others_processor_time() -> Duration {
    let time = |clock| {
        let time = clock_gettime(clock);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    time(ClockId::ProcessCPUTime).saturating_sub(time(ClockId::ThreadCPUTime))
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
