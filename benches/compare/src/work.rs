//! The measurements, each done in a process of its own.

use std::hint::black_box;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::contender::{self, Class, Log, NoCall, Result, Setup, Tally, Writer};
use crate::machine;
use crate::task::{Kind, Outcome, Task, figure};

type Figures = std::collections::BTreeMap<String, f64>;

/// Printed when a log is filled, and open to be killed.
pub const READY: &str = "READY";
const MIB: f64 = (1 << 20) as f64;
/// The number of different records in a run, or as many as fit into a cache.
const POOL_RECORDS: usize = 256;
const POOL_BYTES: usize = 1 << 20;

pub fn run(task: &Task, directory: &Path) -> Outcome {
    machine::raise_file_limit();
    match measure(task, directory) {
        Ok(figures) => Outcome { figures, ..Outcome::default() },
        Err(error) => match error.downcast_ref::<NoCall>() {
            Some(NoCall(why)) => Outcome { no_call: Some((*why).to_owned()), ..Outcome::default() },
            None => Outcome { failure: Some(error.to_string()), ..Outcome::default() },
        },
    }
}

fn measure(task: &Task, directory: &Path) -> Result<Figures> {
    let all = contender::all();
    let contender = all.iter().find(|contender| contender.facts.name == task.contender);
    let contender = contender.ok_or_else(|| format!("no contender is called {}", task.contender))?;
    std::fs::create_dir_all(directory)?;
    let setup = Setup {
        directory: directory.to_owned(),
        class: task.class,
        lanes: task.lanes,
        own_lanes: task.own_lanes,
        key_bytes: task.key_bytes,
        record_bytes: task.record_bytes,
        // Includes the puts before the clock runs.
        bytes_total: task.bytes_total + task.bytes_total / 16,
        batch: task.batch,
        remember: matches!(task.kind, Kind::Read | Kind::Random | Kind::RandomByTime),
        segment_bytes: task.segment_bytes,
    };
    let before = machine::resident_bytes()?;
    let started = Instant::now();
    let log = (contender.open)(&setup)?;
    let opened = started.elapsed();
    let pool = Pool::new(task);
    match task.kind {
        Kind::Put => {
            let (records, elapsed) = put(&*log, task, &pool, true)?;
            log.close()?;
            Ok(rates(records, pool.record_bytes(), elapsed))
        }
        Kind::Read => {
            let (records, _) = put(&*log, task, &pool, false)?;
            Ok(there(read(&*log, task)?, records, &pool))
        }
        Kind::Random | Kind::RandomByTime => {
            let (records, _) = put(&*log, task, &pool, false)?;
            Ok(there(random(&*log, task, records)?, records, &pool))
        }
        Kind::Delay => delay(&*log, task),
        Kind::Fill => {
            let (records, _) = put(&*log, task, &pool, false)?;
            if records * (pool.record_bytes() as u64) < task.bytes_total / 10 * 9 {
                return contender::no_call("it could not be filled in time");
            }
            if task.is_killed {
                println!("{READY}");
                loop {
                    std::thread::park();
                }
            }
            log.close()?;
            Ok(Figures::new())
        }
        Kind::Open => {
            // Each must return a record, so that no contender is fast by doing nothing.
            let by_number = log.random().and_then(|mut random| {
                let mut tally = Tally::default();
                random.get(0, &mut tally)?;
                Ok(black_box(tally).records > 0)
            });
            let first = by_number.or_else(|_| {
                log.tail(false)?
                    .next(&mut |record| {
                        black_box(record.len());
                    })
                    .map(|count| count > 0)
            });
            let read = started.elapsed();
            let (private, mapped) = memory_since(before)?;
            let mut figures = Figures::new();
            figures.insert(figure::OPEN_MILLIS.into(), opened.as_secs_f64() * 1e3);
            if first.is_ok_and(|found| found) {
                figures.insert(figure::FIRST_READ_MILLIS.into(), read.as_secs_f64() * 1e3);
            }
            figures.insert(figure::PRIVATE_MIB.into(), private);
            figures.insert(figure::MAPPED_MIB.into(), mapped);
            Ok(figures)
        }
        Kind::Space => {
            let (records, elapsed) = put(&*log, task, &pool, false)?;
            let payload = records as f64 * pool.record_bytes() as f64;
            let mut figures = rates(records, pool.record_bytes(), elapsed);
            let (private, mapped) = memory_since(before)?;
            figures.insert(figure::PRIVATE_MIB.into(), private);
            figures.insert(figure::MAPPED_MIB.into(), mapped);
            figures.insert(figure::DISK_RATIO_OPEN.into(), machine::disk_bytes(directory)? as f64 / payload);
            log.close()?;
            rustix::fs::sync();
            figures.insert(figure::DISK_RATIO.into(), machine::disk_bytes(directory)? as f64 / payload);
            Ok(figures)
        }
    }
}

fn memory_since(before: (u64, u64)) -> Result<(f64, f64)> {
    let now = machine::resident_bytes()?;
    Ok((now.0.saturating_sub(before.0) as f64 / MIB, now.1.saturating_sub(before.1) as f64 / MIB))
}

/// Incompressible records, with keys that are spread over all shards.
struct Pool {
    records: Vec<Vec<u8>>,
}

impl Pool {
    fn new(task: &Task) -> Self {
        let bytes = task.key_bytes + task.record_bytes;
        let count = (POOL_BYTES / bytes).clamp(8, POOL_RECORDS).max(task.lanes);
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        Self { records: (0..count).map(|_| (0..bytes).map(|_| (next() >> 32) as u8).collect()).collect() }
    }

    fn record_bytes(&self) -> usize {
        self.records[0].len()
    }
}

/// One thread's position in the pool.
struct Putting<'a> {
    pool: &'a Pool,
    batch: Vec<&'a [u8]>,
    at: usize,
    lanes: usize,
    own_lane: Option<usize>,
    may_split: bool,
}

impl<'a> Putting<'a> {
    fn new(pool: &'a Pool, task: &Task, thread: usize) -> Self {
        let may_split = matches!(task.kind, Kind::Random | Kind::RandomByTime | Kind::Fill);
        let own_lane = task.own_lanes.then_some(thread % task.lanes);
        let batch = Vec::with_capacity(task.batch);
        Self { pool, batch, at: thread * 31, lanes: task.lanes, own_lane, may_split }
    }

    /// Makes one call. Returns how many records it put.
    #[inline]
    fn step(&mut self, writer: &mut dyn Writer, batch: usize) -> Result<u64> {
        let lane = self.own_lane.unwrap_or(self.at % self.lanes);
        if batch == 1 {
            let record = &self.pool.records[self.at % self.pool.records.len()];
            self.at += 1;
            writer.put(lane, record)?;
            return Ok(1);
        }
        self.batch.clear();
        for _ in 0..batch {
            self.batch.push(&self.pool.records[self.at % self.pool.records.len()]);
            self.at += 1;
        }
        match writer.put_batch(lane, &self.batch) {
            // Where only the result counts, contenders without batches put singly.
            Err(error) if self.may_split && error.is::<NoCall>() => {
                self.batch.iter().try_for_each(|record| writer.put(lane, record))?;
            }
            outcome => outcome?,
        }
        Ok(batch as u64)
    }
}

/// Returns the time limit for filling a log: more than a slow disk needs.
pub fn fill_seconds(task: &Task) -> f64 {
    (task.seconds * 6.0).max(task.bytes_total as f64 / MIB / 30.0)
}

/// Puts until there are enough bytes, or the time is up. Returns how many records were put while the clock ran.
fn put(log: &dyn Log, task: &Task, pool: &Pool, is_timed: bool) -> Result<(u64, Duration)> {
    let record_bytes = pool.record_bytes() as u64;
    let target = (task.bytes_total / record_bytes / task.threads as u64).max(1);
    let batch = task.batch as u64;
    // Warms up, so that files are created, buffers grown and code pages read before the clock runs.
    let warm_up = if !is_timed {
        0
    } else if task.class == Class::Power {
        2
    } else {
        (target / 32).clamp(batch, 10_000)
    };
    // Reads the clock often if a put takes long, and rarely otherwise.
    let puts_between_looks = if task.class == Class::Power { 1 } else { 32 };
    let seconds = if is_timed { task.seconds } else { fill_seconds(task) };
    let barrier = Barrier::new(task.threads + 1);
    let is_failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..task.threads)
            .map(|thread| {
                let (barrier, is_failed) = (&barrier, &is_failed);
                scope.spawn(move || {
                    let prepared = log.writer(task.threads == 1).and_then(|mut writer| {
                        let mut putting = Putting::new(pool, task, thread);
                        let mut warmed = 0;
                        while warmed < warm_up {
                            warmed += putting.step(&mut *writer, task.batch)?;
                        }
                        Ok((writer, putting))
                    });
                    is_failed.fetch_or(prepared.is_err(), Ordering::SeqCst);
                    barrier.wait();
                    barrier.wait();
                    let (mut writer, mut putting) = prepared?;
                    if is_failed.load(Ordering::SeqCst) {
                        return Ok((0, Instant::now(), Instant::now()));
                    }
                    let started = Instant::now();
                    let deadline = started + Duration::from_secs_f64(seconds);
                    let mut records = 0;
                    'all: while records < target {
                        for _ in 0..puts_between_looks {
                            records += putting.step(&mut *writer, task.batch)?;
                            if records >= target {
                                break 'all;
                            }
                        }
                        if Instant::now() >= deadline {
                            break;
                        }
                    }
                    Result::Ok((records, started, Instant::now()))
                })
            })
            .collect();
        barrier.wait();
        barrier.wait();
        let mut records = 0;
        let mut span = Span::default();
        for thread in threads {
            let (put, started, ended) = thread.join().map_err(|_| "a thread panicked")??;
            records += put;
            span.add(started, ended);
        }
        Ok((records, span.elapsed()))
    })
}

/// The time from the start of the first of several threads to the end of the last one.
#[derive(Default)]
struct Span(Option<(Instant, Instant)>);

impl Span {
    fn add(&mut self, started: Instant, ended: Instant) {
        self.0 = Some(self.0.map_or((started, ended), |span| (span.0.min(started), span.1.max(ended))));
    }

    fn elapsed(&self) -> Duration {
        self.0.map_or(Duration::ZERO, |span| span.1 - span.0).max(Duration::from_nanos(1))
    }
}

fn rates(records: u64, record_bytes: usize, elapsed: Duration) -> Figures {
    let per_second = records as f64 / elapsed.as_secs_f64();
    Figures::from([
        (figure::RECORDS_PER_SECOND.into(), per_second),
        (figure::MIB_PER_SECOND.into(), per_second * record_bytes as f64 / MIB),
        (figure::NANOS_PER_RECORD.into(), 1e9 / per_second),
    ])
}

/// Adds the amount of data to read: contenders that are slow to fill have less.
fn there(mut figures: Figures, records: u64, pool: &Pool) -> Figures {
    figures.insert(figure::MIB_THERE.into(), records as f64 * pool.record_bytes() as f64 / MIB);
    figures
}

/// Lets each reader read everything, one lane after the other.
fn read(log: &dyn Log, task: &Task) -> Result<Figures> {
    if task.readers > log.readers_max() {
        return contender::no_call("it has one reader at a time");
    }
    let barrier = Barrier::new(task.readers + 1);
    let (total, elapsed) = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..task.readers)
            .map(|_| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    let started = Instant::now();
                    let mut tally = Tally::default();
                    (0..task.lanes).try_for_each(|lane| log.read_all(lane, &mut tally))?;
                    Result::Ok((black_box(tally), started, Instant::now()))
                })
            })
            .collect();
        barrier.wait();
        let mut total = Tally::default();
        let mut span = Span::default();
        for reader in readers {
            let (tally, started, ended) = reader.join().map_err(|_| "a reader panicked")??;
            total.add(&tally);
            span.add(started, ended);
        }
        Result::Ok((total, span.elapsed()))
    })?;
    Ok(rates(total.records, (total.bytes / total.records) as usize, elapsed))
}

fn random(log: &dyn Log, task: &Task, records: u64) -> Result<Figures> {
    let mut reader = log.random()?;
    let mut tally = Tally::default();
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut step = |tally: &mut Tally| match task.kind {
        Kind::RandomByTime => reader.get_by_time((next() >> 11) as f64 / (1u64 << 53) as f64, tally),
        _ => reader.get(next() % records, tally),
    };
    // Fills index caches before the clock runs.
    let (warm, length) = (Duration::from_secs_f64(task.seconds / 4.0), Duration::from_secs_f64(task.seconds));
    let mut warming = Instant::now();
    while warming.elapsed() < warm {
        step(&mut tally)?;
    }
    tally = Tally::default();
    warming = Instant::now();
    while warming.elapsed() < length {
        step(&mut tally)?;
    }
    let elapsed = warming.elapsed();
    let tally = black_box(tally);
    Ok(rates(tally.records, (tally.bytes / tally.records.max(1)) as usize, elapsed))
}

/// Each record carries the time at which it was due to be put, even if the writer was late. So a put that is held up also counts for all
/// puts that waited behind it.
fn delay(log: &dyn Log, task: &Task) -> Result<Figures> {
    let start = Instant::now();
    let interval_nanos = 1e9 / task.rate as f64;
    let count = ((task.seconds * task.rate as f64) as u64).max(1);
    // Records due in the first quarter do not count, because the threads are still waking up.
    let uncounted_nanos = (task.seconds * 1e9 / 4.0) as u64;
    let first_due = AtomicU64::new(u64::MAX);
    let (sent, is_over, has_reader) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(true));
    let is_ready = Barrier::new(2);
    let mut delays = Histogram::<u64>::new_with_bounds(1, 600_000_000_000, 3)?;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut record = vec![7; task.key_bytes + task.record_bytes];
            let at = record.len() - 8;
            let prepared = log.writer(false);
            is_ready.wait();
            let put_all = || {
                let mut writer = prepared?;
                let count = if has_reader.load(Ordering::SeqCst) { count } else { 0 };
                let first = start.elapsed().as_nanos() as u64 + 10_000_000;
                first_due.store(first, Ordering::SeqCst);
                let give_up = Duration::from_secs_f64(task.seconds * 3.0 + 1.0);
                for number in 0..count {
                    let due = first + (number as f64 * interval_nanos) as u64;
                    let mut now = start.elapsed();
                    while (now.as_nanos() as u64) < due {
                        std::hint::spin_loop();
                        now = start.elapsed();
                    }
                    if now > give_up {
                        break;
                    }
                    record[at..].copy_from_slice(&due.to_le_bytes());
                    writer.put(0, &record)?;
                    sent.store(number + 1, Ordering::Release);
                }
                Result::Ok((start.elapsed().as_nanos() as u64).saturating_sub(first))
            };
            let outcome = put_all();
            is_over.store(true, Ordering::Release);
            outcome
        });
        let mut tail = log.tail(task.park);
        has_reader.store(tail.is_ok(), Ordering::SeqCst);
        is_ready.wait();
        let mut read = 0u64;
        let mut quiet_since = Instant::now();
        let reading = (|| {
            let tail = tail.as_mut().map_err(|error| std::mem::replace(error, "no reader".into()))?;
            loop {
                let was_over = is_over.load(Ordering::Acquire);
                let found = tail.next(&mut |record| {
                    let now = start.elapsed().as_nanos() as u64;
                    let due = record.last_chunk().map_or(0, |due| u64::from_le_bytes(*due));
                    read += 1;
                    if due.saturating_sub(first_due.load(Ordering::Relaxed)) > uncounted_nanos {
                        delays.saturating_record(now.saturating_sub(due).max(1));
                    }
                })?;
                if found > 0 {
                    quiet_since = Instant::now();
                } else if !task.park {
                    std::hint::spin_loop();
                }
                if was_over && read >= sent.load(Ordering::Acquire) {
                    return Ok(());
                }
                if quiet_since.elapsed() > Duration::from_secs(10) {
                    return Result::Err(
                        format!("read {read} of {} records", sent.load(Ordering::Acquire)).into(),
                    );
                }
            }
        })();
        let written = writer.join().map_err(|_| "the writer panicked")?;
        reading?;
        let nanos = written?;
        if delays.is_empty() {
            return contender::no_call(
                "it is too slow for this rate: no record of the counted part was read in three times the time",
            );
        }
        let micros = |quantile| delays.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Figures::from([
            (figure::P50.into(), micros(0.5)),
            (figure::P99.into(), micros(0.99)),
            (figure::P99_9.into(), micros(0.999)),
            (figure::P99_99.into(), micros(0.9999)),
            (figure::ACHIEVED.into(), sent.load(Ordering::Acquire) as f64 / nanos as f64 * 1e9),
        ]))
    })
}
