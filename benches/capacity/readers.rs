//! Readers of existing records, in this process, in others and as groups; and followers of new records.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use streamlog::{
    Position, PutRecord, Retention, ShardId, ShardIterator, Stream, StreamOptions, StreamReader,
};

use crate::chart::{Axis, number};
use crate::machine::Usage;
use crate::report::{Line, count};
use crate::{Setting, put_all};

const POINT: Duration = Duration::from_secs(1);
const READERS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// The number of records of 1 KB to read.
const FILLED: u64 = 512 << 10;
const BATCH: usize = 1_000;
/// The puts a second while followers read.
const RATE: u64 = 10_000;

pub(crate) fn catching_up(setting: &Setting) {
    let report = &setting.report;
    let path = setting.scratch.join("stream");
    let options = StreamOptions::new().shards(4).retention(Retention::forever());
    let stream = options.open(&path).expect("a stream");
    fill(&stream);
    report.head(
        "Records of 1 KB read by all readers together, each of which reads the whole stream",
        &["readers", "in this process, records/s", "in other processes", "groups that commit"],
    );
    let mut lines = ["in one process", "in other processes", "groups"].map(Line::new);
    for readers in READERS {
        let best = |measure: &dyn Fn() -> f64| setting.best(|rate| *rate, measure);
        let rates = [
            best(&|| inside(&stream, readers)),
            best(&|| outside(&path, readers)),
            best(&|| groups(&stream, readers)),
        ];
        for (line, rate) in lines.iter_mut().zip(rates) {
            line.points.push((readers as f64, rate / 1e6));
        }
        report.row(&[readers.to_string(), count(rates[0]), count(rates[1]), count(rates[2])]);
    }
    let axis = Axis { name: "readers", is_logarithmic: true };
    let title = "Records of 1 KB read, all readers together";
    report.draw("capacity-readers.svg", title, "million records a second", axis, &lines);
    stream.close().expect("closing");
}

fn fill(stream: &Stream) {
    let data = vec![7; 1_000];
    for first in (0..FILLED).step_by(BATCH) {
        let keys: Vec<_> = (first..first + BATCH as u64).map(u64::to_le_bytes).collect();
        let records: Vec<_> = keys.iter().map(|key| PutRecord::new(key, &data)).collect();
        put_all(stream, &records);
    }
    stream.sync().expect("a sync");
}

/// Reads the stream repeatedly for a limited time. Returns the number of records.
fn read(reader: &StreamReader) -> u64 {
    let (started, mut records) = (Instant::now(), 0);
    loop {
        for shard in reader.shards() {
            let mut iterator = reader.iterator(shard.id, Position::TrimHorizon).expect("an iterator");
            loop {
                let batch = iterator.next_batch(BATCH).expect("records");
                batch.iter().for_each(|record| {
                    black_box(record.data());
                });
                records += batch.len() as u64;
                if started.elapsed() > POINT {
                    return records;
                }
                if batch.is_empty() {
                    break;
                }
            }
        }
    }
}

fn inside(stream: &Stream, readers: usize) -> f64 {
    together(readers, |_| read(stream))
}

/// Returns how many records a second all threads read together.
fn together(threads: usize, work: impl Fn(usize) -> u64 + Sync) -> f64 {
    let start = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        let spawned: Vec<_> = (0..threads)
            .map(|thread| {
                let (work, start) = (&work, &start);
                scope.spawn(move || {
                    start.wait();
                    work(thread)
                })
            })
            .collect();
        start.wait();
        let started = Instant::now();
        let records: u64 = spawned.into_iter().map(|thread| thread.join().expect("a reader")).sum();
        records as f64 / started.elapsed().as_secs_f64()
    })
}

/// Each group has one worker, which reads all shards and commits each batch.
fn groups(stream: &Stream, groups: usize) -> f64 {
    let names: Vec<_> = (0..groups).map(|group| format!("group-{group}")).collect();
    let rate = together(groups, |group| {
        let name = &names[group];
        let options = stream.group(name).worker().batch_records(BATCH).start_at(Position::TrimHorizon);
        let (mut worker, started, mut records) = (options.open().expect("a worker"), Instant::now(), 0);
        while started.elapsed() < POINT {
            match worker.poll(Duration::ZERO).expect("a poll") {
                Some(batch) => {
                    batch.iter().for_each(|record| {
                        black_box(record.data());
                    });
                    records += batch.len() as u64;
                    worker.commit(&batch).expect("a commit");
                }
                None => stream.group(name).reset(Position::TrimHorizon).expect("a reset"),
            }
        }
        records
    });
    for name in &names {
        stream.group(name).delete().expect("a group deleted");
    }
    rate
}

fn outside(path: &Path, readers: usize) -> f64 {
    let mut others: Vec<_> = (0..readers).map(|_| Other::start(path, "read")).collect();
    let started = Instant::now();
    others.iter_mut().for_each(Other::go);
    let records: u64 = others.iter_mut().map(|other| other.line().parse::<u64>().expect("a count")).sum();
    records as f64 / started.elapsed().as_secs_f64()
}

/// A reader in another process.
#[derive(Debug)]
struct Other {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Other {
    fn start(path: &Path, way: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["child", "reader", way]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a process");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        let mut other = Self { child, lines };
        assert_eq!(other.line(), "ready");
        other
    }

    fn go(&mut self) {
        self.child.stdin.as_mut().expect("its input").write_all(b"go\n").expect("the reader is there");
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

/// The child's side of [`Other`].
pub(crate) fn be_reader(args: &[String]) {
    let [way, path] = args else { panic!("a way and a path") };
    let reader = StreamReader::open(path).expect("a stream");
    let iterator = reader.iterator(ShardId::new(0), Position::Latest).expect("an iterator");
    println!("ready");
    let _ = std::io::stdin().read_line(&mut String::new());
    match &**way {
        "read" => println!("{}", read(&reader)),
        _ => {
            let delays = follow(iterator);
            println!("{} {}", delays.value_at_quantile(0.5), delays.value_at_quantile(0.99));
        }
    }
}

/// The data of the record that ends a follower.
const LAST: u64 = u64::MAX;

fn now_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Reads records as they arrive. Returns the times from when each was due until it was read, in nanoseconds.
fn follow(mut iterator: ShardIterator) -> Histogram<u64> {
    let mut delays = Histogram::new(3).expect("a histogram");
    loop {
        iterator.wait(Duration::from_secs(10)).expect("the stream");
        let batch = iterator.next_batch(BATCH).expect("records");
        let now = now_nanos();
        for record in &batch {
            let due = u64::from_le_bytes(*record.data().first_chunk().expect("a time"));
            if due == LAST {
                return delays;
            }
            delays.record(now.saturating_sub(due)).expect("it grows");
        }
    }
}

/// Puts at a fixed rate for two seconds. Returns how many.
fn put_at_rate(stream: &Stream) -> u64 {
    let mut data = vec![7; 1_000];
    let started = now_nanos();
    let (mut puts, total) = (0, 2 * RATE);
    while puts < total {
        let due = started + puts * 1_000_000_000 / RATE;
        let now = now_nanos();
        if now < due {
            std::thread::sleep(Duration::from_nanos(due - now));
        }
        data[..8].copy_from_slice(&due.to_le_bytes());
        stream.put("key", &data).expect("a put");
        puts += 1;
        if now_nanos().saturating_sub(started) > 3_000_000_000 {
            break;
        }
    }
    data[..8].copy_from_slice(&LAST.to_le_bytes());
    stream.put("key", &data).expect("a put");
    puts
}

pub(crate) fn following(setting: &Setting) {
    let report = &setting.report;
    let path = setting.scratch.join("stream");
    let stream = StreamOptions::new().retention(Retention::forever()).open(&path).expect("a stream");
    report.head(
        "Readers that follow 10,000 puts of 1 KB a second: from when a put was due until it was read",
        &["readers", "where", "puts done", "records read a second", "p50, ms", "p99, ms", "processors busy"],
    );
    let mut lines = ["in one process, p99", "in other processes, p99"].map(Line::new);
    for readers in [1, 4, 16, 64, 256] {
        let before = Usage::now();
        let (puts, delays) = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..readers)
                .map(|_| {
                    let iterator = stream.iterator(ShardId::new(0), Position::Latest).expect("an iterator");
                    scope.spawn(|| follow(iterator))
                })
                .collect();
            let puts = put_at_rate(&stream);
            let mut all = Histogram::<u64>::new(3).expect("a histogram");
            for thread in threads {
                all.add(thread.join().expect("a reader")).expect("it grows");
            }
            (puts, all)
        });
        let busy = before.busy_since();
        let [p50, p99] = [0.5, 0.99].map(|quantile| delays.value_at_quantile(quantile) as f64 / 1e6);
        lines[0].points.push((readers as f64, p99));
        let part = puts as f64 / (2 * RATE) as f64;
        report.row(&[
            readers.to_string(),
            "threads".to_owned(),
            format!("{:.0} %", part * 100.0),
            count(part * (RATE * readers as u64) as f64),
            number(p50),
            number(p99),
            busy.to_string(),
        ]);
        if readers > 64 {
            continue;
        }
        let mut others: Vec<_> = (0..readers).map(|_| Other::start(&path, "follow")).collect();
        others.iter_mut().for_each(Other::go);
        let puts = put_at_rate(&stream);
        let delays: Vec<(f64, f64)> = others
            .iter_mut()
            .map(|other| {
                let line = other.line();
                let (p50, p99) = line.split_once(' ').expect("two numbers");
                let millis = |text: &str| text.parse::<f64>().expect("a number") / 1e6;
                (millis(p50), millis(p99))
            })
            .collect();
        // Of the slowest reader.
        let p50 = delays.iter().map(|delay| delay.0).fold(0.0, f64::max);
        let p99 = delays.iter().map(|delay| delay.1).fold(0.0, f64::max);
        lines[1].points.push((readers as f64, p99));
        let part = puts as f64 / (2 * RATE) as f64;
        report.row(&[
            readers.to_string(),
            "processes, the worst".to_owned(),
            format!("{:.0} %", part * 100.0),
            count(part * (RATE * readers as u64) as f64),
            number(p50),
            number(p99),
            String::new(),
        ]);
    }
    let axis = Axis { name: "readers that follow", is_logarithmic: true };
    let title = "From put to read at 10,000 puts of 1 KB a second";
    report.draw("capacity-followers.svg", title, "milliseconds", axis, &lines);
    stream.close().expect("closing");
}
