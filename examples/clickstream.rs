//! The main job in one run: a web shop's clicks go through a stream, readers follow live, and at the end the run accounts for every
//! record twice.
//!
//! ```text
//! cargo run --release --example clickstream                          # made-up clicks, nothing to prepare
//! cargo run --release --example clickstream -- access.log            # the lines of a real log, in common or combined format
//! cargo run --release --example clickstream -- --rate 0 --seconds 10 # as fast as it goes
//! ```
//!
//! Producer threads put clicks with the user as the key (for a log: the client host), and number the clicks of each key. One reader
//! thread per shard waits for records and checks the numbers. Every second the main thread prints the records and bytes, the time from
//! put to read, and the most requested pages. At the end it closes the stream, opens it again and reads it once more from disk. Then it
//! compares both readings with what the producers put: the same keys, no number missing, duplicated or out of order, and the same bytes
//! both times.

use std::collections::HashMap;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use hdrhistogram::Histogram;
use indicatif::{HumanBytes, HumanCount};
use streamlog::{Batch, Position, ShardId, ShardIterator, Stream, StreamOptions, Timestamp};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The longest time before a thread notices that it should stop.
const WAIT: Duration = Duration::from_millis(50);
const RECORDS_AT_A_TIME: usize = 10_000;
/// The longest delay that the histogram resolves: one minute, in microseconds.
const DELAY_MICROS_MAX: u64 = 60_000_000;

/// Puts clicks through a stream, follows them live, and proves that none is lost.
#[derive(Debug, Parser)]
struct Args {
    /// An access log in common or combined format to put once; made-up clicks if not given
    log: Option<PathBuf>,
    /// How long to put, in seconds
    #[arg(long, default_value_t = 5, value_name = "N")]
    seconds: u64,
    /// Records per second over all producers; 0 for as fast as possible
    #[arg(long, default_value_t = 200_000, value_name = "N")]
    rate: u64,
    /// Stop once the stream uses about this many MiB on disk
    #[arg(long, default_value_t = 2_048, value_name = "N")]
    disk_mib: u64,
    /// Number of threads that put
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=256))]
    producers: u64,
    /// Number of shards, each with its own reader thread
    #[arg(long, default_value_t = 4, value_name = "N")]
    shards: u32,
    /// Where to create the stream, which must not exist and is kept; a temporary directory if not given
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("clickstream: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every check passed.
fn run(args: &Args) -> Result<bool> {
    let clicks = Clicks::new(args)?;
    let temporary = tempfile::tempdir()?;
    let path = args.dir.clone().unwrap_or_else(|| temporary.path().join("clicks"));
    let stream = StreamOptions::new().shards(args.shards).must_be_new().open(&path)?;
    introduce(args, &path);

    let (put, live) = put_and_follow(&stream, &clicks, args)?;
    let closing = Instant::now();
    stream.close()?;
    say(&format!("closed in {:.1?}", closing.elapsed()));

    let stream = StreamOptions::new().must_exist().open(&path)?;
    say(&format!("opened again in {:.1?}", stream.recovery().duration));
    let again = read_again(&stream)?;
    stream.close()?;
    Ok(prove(&put, &live, &again))
}

fn introduce(args: &Args, path: &std::path::Path) {
    let rate =
        if args.rate == 0 { "no limit".to_owned() } else { format!("{} records/s", HumanCount(args.rate)) };
    say(&format!(
        "{} producers, {} shards, in {}\nlimits: {rate} (--rate), {} s (--seconds), about {} on the disk (--disk-mib)\n",
        args.producers,
        args.shards,
        path.display(),
        args.seconds,
        HumanBytes(args.disk_mib << 20),
    ));
}

/// Prints a line, and ignores a pipe whose reader is gone.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

// ---- Putting ----

/// The source of the clicks. All clicks of a user come from one producer; otherwise they would have no order.
enum Clicks {
    MadeUp,
    /// The lines of a log, divided among the producers by key.
    Log(Vec<Vec<Vec<u8>>>),
}

impl Clicks {
    fn new(args: &Args) -> Result<Self> {
        let Some(path) = &args.log else { return Ok(Self::MadeUp) };
        let log = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let mut shares = vec![vec![]; args.producers as usize];
        for line in log.split(|&byte| byte == b'\n').filter(|line| !key_of(line).is_empty()) {
            let share = crc32fast::hash(key_of(line)) as usize % shares.len();
            shares[share].push(line.to_owned());
        }
        Ok(Self::Log(shares))
    }

    /// Returns the clicks of one producer, in order.
    fn of_producer(&self, producer: u64, producers: u64) -> Box<dyn Iterator<Item = Vec<u8>> + Send + '_> {
        match self {
            Self::MadeUp => Box::new(made_up_clicks(producer, producers)),
            Self::Log(shares) => Box::new(shares[producer as usize].iter().cloned()),
        }
    }
}

/// Returns endless lines of a web shop's log in common format. Every run gets the same lines.
fn made_up_clicks(producer: u64, producers: u64) -> impl Iterator<Item = Vec<u8>> {
    const USERS: u64 = 20_000;
    const PAGES: [&str; 8] =
        ["/", "/search", "/product/17", "/product/4", "/cart", "/product/256", "/checkout", "/help"];
    let mut random = producer + 1;
    (0u64..).map(move |count| {
        let user = next_random(&mut random) % USERS / producers * producers + producer;
        // The minimum of several random numbers makes the first pages the most popular.
        let page = (0..3).map(|_| next_random(&mut random) as usize % PAGES.len()).min().unwrap_or(0);
        let (seconds, size) = (count / 10_000, next_random(&mut random) % 50_000);
        format!(
            "user-{user:05} - - [31/Jan/2026:{:02}:{:02}:{:02} +0000] \"GET {} HTTP/1.1\" 200 {size}",
            seconds / 3_600 % 24,
            seconds / 60 % 60,
            seconds % 60,
            PAGES[page]
        )
        .into_bytes()
    })
}

/// The SplitMix64 generator.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Returns the first word of a log line, cut to the maximum length of a key: the client host, or the user in made-up clicks.
fn key_of(line: &[u8]) -> &[u8] {
    let key = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    &key[..key.len().min(streamlog::limits::PARTITION_KEY_BYTES_MAX)]
}

/// Returns the page that a log line requests, without its query.
fn page_of(line: &[u8]) -> Option<&[u8]> {
    let request = line.split(|&byte| byte == b'"').nth(1)?;
    let target = request.split(|&byte| byte == b' ').nth(1)?;
    target.split(|&byte| byte == b'?').next()
}

/// The number of records of each key.
type Counts = HashMap<Vec<u8>, u64>;

/// Puts one producer's clicks at its share of the rate, until the clicks or the time run out.
///
/// The data of a record is its number within its key (from 0), a tab, and the line.
fn produce(
    stream: &Stream,
    clicks: impl Iterator<Item = Vec<u8>>,
    per_second: u64,
    must_stop: &AtomicBool,
) -> Result<Counts> {
    let started = Instant::now();
    let mut counts = Counts::new();
    let mut data = vec![];
    for (click, put) in clicks.zip(0u64..) {
        if must_stop.load(Ordering::Relaxed) || !keep_to_rate(started, put, per_second, must_stop) {
            break;
        }
        let key = key_of(&click);
        let next = count_of(&mut counts, key);
        data.clear();
        write!(data, "{next}\t")?;
        data.extend_from_slice(&click);
        stream.put(key, &data)?;
        *next += 1;
    }
    Ok(counts)
}

/// Waits until the next record is due. Returns `false` if it is time to stop.
fn keep_to_rate(started: Instant, put: u64, per_second: u64, must_stop: &AtomicBool) -> bool {
    if per_second == 0 || !put.is_multiple_of(16) {
        return true;
    }
    let due = Duration::from_secs_f64(put as f64 / per_second as f64);
    while let Some(early) = due.checked_sub(started.elapsed()).filter(|early| !early.is_zero()) {
        if must_stop.load(Ordering::Relaxed) {
            return false;
        }
        thread::sleep(early.min(WAIT));
    }
    true
}

/// Returns the count of a key. Copies the key only if it is new.
fn count_of<'c>(counts: &'c mut Counts, key: &[u8]) -> &'c mut u64 {
    if !counts.contains_key(key) {
        counts.insert(key.to_owned(), 0);
    }
    counts.get_mut(key).expect("it was just put in")
}

// ---- Reading ----

/// The result of reading the stream once.
#[derive(Default)]
struct Reading {
    counts: Counts,
    record_count: u64,
    /// The first few records that are out of order, missing or duplicated.
    faults: Vec<String>,
    /// A checksum of each shard's records in order.
    checksums: HashMap<ShardId, u32>,
}

/// Checks the records of one shard.
struct Checker {
    shard: ShardId,
    reading: Reading,
    checksum: crc32fast::Hasher,
}

impl Checker {
    fn new(shard: ShardId) -> Self {
        Self { shard, reading: Reading::default(), checksum: crc32fast::Hasher::new() }
    }

    /// Checks that each record is the next one of its key.
    fn check(&mut self, batch: &Batch) {
        for record in batch {
            let (key, data) = (record.partition_key(), record.data());
            self.checksum.update(key);
            self.checksum.update(data);
            self.reading.record_count += 1;
            let expected = count_of(&mut self.reading.counts, key);
            let found = number_of(data);
            if found != Some(*expected) && self.reading.faults.len() < 10 {
                self.reading.faults.push(format!(
                    "{} of {}: expected number {expected} of {}, found {found:?}",
                    record.sequence(),
                    self.shard,
                    String::from_utf8_lossy(key),
                ));
            }
            *expected = found.map_or(*expected, |found| found + 1);
        }
    }

    fn finish(mut self) -> Reading {
        self.reading.checksums.insert(self.shard, self.checksum.finalize());
        self.reading
    }
}

fn number_of(data: &[u8]) -> Option<u64> {
    let digits = data.split(|&byte| byte == b'\t').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl Reading {
    /// Adds the result of another shard. A key that appears in both is a fault, because a key belongs to one shard.
    fn take_in(&mut self, other: Self) {
        for (key, count) in other.counts {
            if self.counts.insert(key.clone(), count).is_some() {
                self.faults.push(format!("{} is in two shards", String::from_utf8_lossy(&key)));
            }
        }
        self.record_count += other.record_count;
        self.faults.extend(other.faults);
        self.checksums.extend(other.checksums);
    }
}

/// What a reader has read since the main thread last collected it.
struct Seen {
    record_count: u64,
    bytes: u64,
    delays_micros: Histogram<u64>,
    pages: Counts,
}

impl Seen {
    fn new() -> Result<Self> {
        let delays_micros = Histogram::new_with_bounds(1, DELAY_MICROS_MAX, 3)?;
        Ok(Self { record_count: 0, bytes: 0, delays_micros, pages: Counts::new() })
    }

    fn note(&mut self, batch: &Batch, now: Timestamp) {
        for record in batch {
            let (key, data) = (record.partition_key(), record.data());
            self.record_count += 1;
            self.bytes += (key.len() + data.len()) as u64;
            self.delays_micros.saturating_record(now.since(record.timestamp()).as_micros() as u64);
            if let Some(page) = page_of(data) {
                *count_of(&mut self.pages, page) += 1;
            }
        }
    }

    /// Moves everything read to `total`, and starts over.
    fn move_to(&mut self, total: &mut Self) -> Result<()> {
        total.record_count += std::mem::take(&mut self.record_count);
        total.bytes += std::mem::take(&mut self.bytes);
        total.delays_micros.add(&self.delays_micros)?;
        self.delays_micros.reset();
        for (page, count) in self.pages.drain() {
            *count_of(&mut total.pages, &page) += count;
        }
        Ok(())
    }

    fn line(&self, seconds: f64) -> String {
        let mut pages: Vec<_> = self.pages.iter().collect();
        pages.sort_unstable_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let pages = pages.iter().take(3).map(|(page, count)| {
            format!(
                "{} {:.0}%",
                String::from_utf8_lossy(page),
                **count as f64 / self.record_count as f64 * 100.0
            )
        });
        format!(
            "{:>11} records/s  {:>11}/s  delay p50 {:>9} p99 {:>9}  {}",
            HumanCount((self.record_count as f64 / seconds) as u64).to_string(),
            HumanBytes((self.bytes as f64 / seconds) as u64).to_string(),
            format!("{:?}", Duration::from_micros(self.delays_micros.value_at_quantile(0.50))),
            format!("{:?}", Duration::from_micros(self.delays_micros.value_at_quantile(0.99))),
            pages.collect::<Vec<_>>().join("  "),
        )
    }
}

/// Follows one shard until the producers are done and every record is read.
fn follow(mut iterator: ShardIterator, are_done: &AtomicBool, seen: &Mutex<Seen>) -> Result<Reading> {
    let mut checker = Checker::new(iterator.shard());
    loop {
        // Load the flag before the wait: the wait then sees everything that was put before the producers finished.
        let is_last_look = are_done.load(Ordering::Acquire);
        if !iterator.wait(WAIT)? {
            if is_last_look {
                return Ok(checker.finish());
            }
            continue;
        }
        let batch = iterator.next_batch(RECORDS_AT_A_TIME)?;
        let now = SystemTime::now().into();
        checker.check(&batch);
        seen.lock().map_err(|_| "the main thread has died")?.note(&batch, now);
    }
}

// ---- The run ----

/// Runs producers and readers. Returns what the producers put and what the readers read live.
fn put_and_follow(stream: &Stream, clicks: &Clicks, args: &Args) -> Result<(Counts, Reading)> {
    let (must_stop, are_done) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut iterators = vec![];
    for shard in stream.shards() {
        iterators.push((stream.iterator(shard.id, Position::TrimHorizon)?, Mutex::new(Seen::new()?)));
    }
    let (iterators, seen): (Vec<_>, Vec<_>) = iterators.into_iter().unzip();
    let per_producer = if args.rate == 0 { 0 } else { args.rate.div_ceil(args.producers) };
    let (must_stop, are_done) = (&must_stop, &are_done);
    thread::scope(|scope| {
        let readers: Vec<_> = iterators
            .into_iter()
            .zip(&seen)
            .map(|(iterator, seen)| scope.spawn(move || follow(iterator, are_done, seen)))
            .collect();
        let producers: Vec<_> = (0..args.producers)
            .map(|producer| {
                let clicks = clicks.of_producer(producer, args.producers);
                scope.spawn(move || produce(stream, clicks, per_producer, must_stop))
            })
            .collect();
        let watched = watch(stream, args, &seen, || producers.iter().all(|producer| producer.is_finished()));
        // Stop the threads even if watching failed, because the scope waits for them.
        must_stop.store(true, Ordering::Relaxed);
        let put = join_all(producers);
        are_done.store(true, Ordering::Release);
        let live = join_all(readers);
        watched?;
        let mut all_put = Counts::new();
        put?.into_iter().for_each(|counts| all_put.extend(counts));
        let mut all_read = Reading::default();
        live?.into_iter().for_each(|reading| all_read.take_in(reading));
        Ok((all_put, all_read))
    })
}

/// Joins all threads, even if one failed.
fn join_all<T>(threads: Vec<thread::ScopedJoinHandle<'_, Result<T>>>) -> Result<Vec<T>> {
    let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|_| Err("a thread has died".into()))).collect()
}

/// Prints every second what the readers see, until the time, the disk limit or the clicks run out.
fn watch(stream: &Stream, args: &Args, seen: &[Mutex<Seen>], is_over: impl Fn() -> bool) -> Result<()> {
    let started = Instant::now();
    let mut total = Seen::new()?;
    for second in 1..=args.seconds {
        let from = started.elapsed();
        let mut why_stop = None;
        while why_stop.is_none() && started.elapsed() < Duration::from_secs(second) {
            thread::sleep(WAIT);
            if is_over() {
                why_stop = Some("all producers are done");
            } else if stream.stats()?.disk_bytes() >= args.disk_mib << 20 {
                why_stop = Some("the disk space that it may take is used up");
            }
        }
        let mut last_second = Seen::new()?;
        for seen in seen {
            seen.lock().map_err(|_| "a reader has died")?.move_to(&mut last_second)?;
        }
        say(&last_second.line((started.elapsed() - from).as_secs_f64()));
        last_second.move_to(&mut total)?;
        if let Some(why) = why_stop {
            say(&format!("stopped: {why}"));
            break;
        }
    }
    say(&format!("\nin all {}", total.line(started.elapsed().as_secs_f64())));
    Ok(())
}

/// Reads all shards from the beginning.
fn read_again(stream: &Stream) -> Result<Reading> {
    let started = Instant::now();
    let mut all = Reading::default();
    for shard in stream.shards() {
        let mut iterator = stream.iterator(shard.id, Position::TrimHorizon)?;
        let mut checker = Checker::new(shard.id);
        loop {
            let batch = iterator.next_batch(RECORDS_AT_A_TIME)?;
            if batch.is_empty() {
                break;
            }
            checker.check(&batch);
        }
        all.take_in(checker.finish());
    }
    say(&format!("read again in {:.1?}\n", started.elapsed()));
    Ok(all)
}

/// Compares both readings with what was put, and prints the verdict.
fn prove(put: &Counts, live: &Reading, again: &Reading) -> bool {
    let put_count: u64 = put.values().sum();
    let mut faults = vec![];
    for (which, reading) in [("live", live), ("after opening again", again)] {
        faults.extend(reading.faults.iter().map(|fault| format!("{which}: {fault}")));
        if reading.record_count != put_count {
            faults.push(format!("{which}: {} records were read, {put_count} were put", reading.record_count));
        }
        if reading.counts != *put {
            faults.push(format!("{which}: not every key has the records that were put"));
        }
    }
    if live.checksums != again.checksums {
        faults.push("the two readings differ in their bytes".to_owned());
    }
    for fault in &faults {
        say(&format!("FAIL {fault}"));
    }
    if faults.is_empty() {
        say(&format!(
            "PASS {} records of {} keys: each read once, in the order of its key, live and after opening again",
            HumanCount(put_count),
            HumanCount(put.len() as u64)
        ));
    }
    faults.is_empty()
}
