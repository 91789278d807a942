//! Readers in other processes: the time from a put to its read, and the cost of readers to the puts.
//!
//! `cargo bench --bench readers -- [DIRECTORY]`. Within one run, all ways take turns. The times are those of `CLOCK_MONOTONIC`, which all
//! processes share. In the first part, a put comes every 0.3 ms, so that a waiting reader is parked by then.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use streamlog::{Position, ShardId, ShardIterator, Stream, StreamOptions, StreamReader};

const ROUNDS: usize = 7;
const TURN: Duration = Duration::from_millis(1_000);
const PAUSE: Duration = Duration::from_micros(300);
/// The data of the record that ends a reader.
const LAST: u64 = u64::MAX;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if let [first, path, way] = &args[..]
        && first == "reader"
    {
        return be_reader(&StreamReader::open(path).expect("a stream"), way);
    }
    let base = args.first().map(PathBuf::from);
    let scratch = base.map_or_else(tempfile::tempdir, tempfile::tempdir_in).expect("a directory to work in");
    delays(scratch.path());
    costs(scratch.path());
}

fn now_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A reader in a process of its own.
fn be_reader(reader: &StreamReader, way: &str) {
    let iterator = reader.iterator(ShardId::new(0), Position::Latest).expect("an iterator");
    println!("ready");
    if way == "idle" {
        // Until the writer closes the pipe.
        let _ = std::io::stdin().read_line(&mut String::new());
        return;
    }
    println!("{}", read_all(iterator, way));
    std::io::stdout().flush().expect("stdout");
}

/// Reads until the last record. Returns three quantiles of the delays, in nanoseconds.
fn read_all(mut iterator: ShardIterator, way: &str) -> String {
    let mut delays = Histogram::<u64>::new(3).expect("a histogram");
    loop {
        if way != "spinning" {
            iterator.wait(Duration::from_secs(60)).expect("the stream");
        }
        let batch = iterator.next_batch(10_000).expect("records");
        let now = now_nanos();
        for record in &batch {
            let put_at = u64::from_le_bytes(*record.data().first_chunk().expect("a time"));
            if put_at == LAST {
                let quantiles =
                    [0.5, 0.9, 0.99].map(|quantile| delays.value_at_quantile(quantile).to_string());
                return quantiles.join(" ");
            }
            delays.record(now.saturating_sub(put_at)).expect("it grows");
        }
    }
}

/// A reader in another process.
struct Other {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Other {
    fn start(path: &Path, way: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg("reader").arg(path).arg(way).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a process");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        let mut other = Self { child, lines };
        assert_eq!(other.line(), "ready");
        other
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn put_now(stream: &Stream, at: u64) {
    let mut data = [7; 100];
    data[..8].copy_from_slice(&at.to_le_bytes());
    stream.put("key", data).expect("a put");
}

fn put_for_a_turn(stream: &Stream) {
    let started = Instant::now();
    while started.elapsed() < TURN {
        let next = Instant::now() + PAUSE;
        put_now(stream, now_nanos());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    put_now(stream, LAST);
}

fn delays(scratch: &Path) {
    let path = scratch.join("delays");
    let stream = StreamOptions::new().open(&path).expect("a stream");
    let ways = [
        ("this process", "parked"),
        ("this process", "spinning"),
        ("another process", "parked"),
        ("another process", "spinning"),
    ];
    let mut found: Vec<Vec<[u64; 3]>> = vec![vec![]; ways.len()];
    for _ in 0..ROUNDS {
        for (at, (place, way)) in ways.iter().enumerate() {
            let text = if *place == "another process" {
                let mut other = Other::start(&path, way);
                put_for_a_turn(&stream);
                other.line()
            } else {
                within(&stream, way)
            };
            let numbers: Vec<u64> = text.split(' ').map(|number| number.parse().expect("a number")).collect();
            found[at].push([numbers[0], numbers[1], numbers[2]]);
        }
    }
    println!("| reader | p50, µs | p90 | p99 |\n|---|---|---|---|");
    for ((place, way), found) in ways.iter().zip(&found) {
        let median = |which: usize| {
            let mut values: Vec<u64> = found.iter().map(|round| round[which]).collect();
            values.sort_unstable();
            values[values.len() / 2] as f64 / 1_000.0
        };
        println!("| in {place}, {way} | {:.2} | {:.2} | {:.2} |", median(0), median(1), median(2));
    }
}

/// Measures a reader in a thread of this process.
fn within(stream: &Stream, way: &str) -> String {
    let iterator = stream.iterator(ShardId::new(0), Position::Latest).expect("an iterator");
    std::thread::scope(|threads| {
        let reading = threads.spawn(move || read_all(iterator, way));
        put_for_a_turn(stream);
        reading.join().expect("the reader")
    })
}

/// Puts as fast as possible while other processes have the stream open.
fn costs(scratch: &Path) {
    let ways = [
        (0, "no"),
        (1, "idle"),
        (8, "idle"),
        (1, "waiting"),
        (8, "waiting"),
        (1, "spinning"),
        (8, "spinning"),
    ];
    let mut rates: Vec<Vec<f64>> = vec![vec![]; ways.len()];
    for round in 0..ROUNDS {
        for turn in 0..ways.len() {
            let at = (turn + round) % ways.len();
            let (count, way) = ways[at];
            let path = scratch.join("costs");
            let stream = StreamOptions::new().open(&path).expect("a stream");
            let readers: Vec<_> = (0..count).map(|_| Other::start(&path, way)).collect();
            let started = Instant::now();
            let mut puts = 0u64;
            while started.elapsed() < TURN {
                for _ in 0..100 {
                    put_now(&stream, 0);
                }
                puts += 100;
            }
            rates[at].push(puts as f64 / started.elapsed().as_secs_f64());
            drop(readers);
            stream.close().expect("closing");
            Stream::delete(&path).expect("deleting");
        }
    }
    println!("\n| readers in other processes | puts of 100 B a second | of those without |\n|---|---|---|");
    for (at, (count, way)) in ways.iter().enumerate() {
        let ratios = rates[at].iter().zip(&rates[0]).map(|(rate, without)| rate / without);
        let name = if *count == 0 { "none".to_owned() } else { format!("{count} {way}") };
        println!("| {name} | {:.0} | {:.3} |", median(rates[at].iter().copied()), median(ratios));
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
