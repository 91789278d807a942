//! Compressed and encrypted streams compared with plain ones: batches of 100 JSON clicks of about 200 B, put, stored and read; and records
//! of 100 B, put one by one, compared with the cost of the cipher alone.
//!
//! `cargo bench --features lz4,zstd,encryption --bench codecs -- [DIRECTORY]`; the directory should be on the disk to measure. `--quick` is a
//! smoke run. One thread puts into one shard, the stream is closed, and one reader reads it to the end. The figures are medians over rounds in
//! which the contenders take turns.

use std::fmt::Write;
use std::hint::black_box;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use streamlog::{Compression, KeyFile, Position, PutRecord, Retention, StreamOptions};

const RECORDS_A_BATCH: usize = 100;
/// The number of different batches. They are put repeatedly: each is compressed by itself.
const BATCHES: usize = 300;

/// The work of a turn, and the number of rounds.
#[derive(Clone, Copy)]
struct Plan {
    rounds: usize,
    batch_count: usize,
}

/// How records are compressed and encrypted.
#[derive(Clone, Copy)]
struct Way {
    compression: Compression,
    is_encrypted: bool,
}

impl Way {
    /// Returns options for a stream whose keys are in this directory.
    fn options(self, directory: &Path) -> StreamOptions {
        let options = StreamOptions::new().retention(Retention::forever()).compression(self.compression);
        if !self.is_encrypted {
            return options;
        }
        let path = directory.join("keys");
        let keys = if path.exists() { KeyFile::open(path) } else { KeyFile::create(path) };
        options.encryption(keys.expect("keys"))
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let compression = self.compression;
        match self.is_encrypted {
            true => write!(f, "{compression}, encrypted"),
            false => write!(f, "{compression}"),
        }
    }
}

/// Puts records of 100 B one by one, plain and encrypted, and encrypts as many bytes without a stream.
fn put_one_by_one(scratch: &Path, plan: Plan) {
    let count = plan.batch_count * RECORDS_A_BATCH;
    let data = [7; 100];
    let put = |is_encrypted| {
        let directory = tempfile::tempdir_in(scratch).expect("a directory");
        let way = Way { compression: Compression::None, is_encrypted };
        let stream = way.options(directory.path()).open(directory.path().join("stream")).expect("a stream");
        let begun = Instant::now();
        (0..count).for_each(|_| _ = black_box(stream.put("key-0001", data).expect("a put")));
        begun.elapsed().as_nanos() as f64 / count as f64
    };
    let seal = || {
        let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("a key");
        let (key, mut record) = (LessSafeKey::new(key), [7; 120]);
        let begun = Instant::now();
        for number in 0..count as u64 {
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&number.to_be_bytes());
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = key.seal_in_place_separate_tag(nonce, Aad::from([0; 40]), &mut record);
            let _ = black_box(tag.expect("a tag"));
        }
        begun.elapsed().as_nanos() as f64 / count as f64
    };
    let mut turns: [Vec<f64>; 3] = Default::default();
    for _ in 0..plan.rounds {
        for (turn, time) in turns.iter_mut().zip([put(false), put(true), seal()]) {
            turn.push(time);
        }
    }
    println!("\nrecords of 100 B, put one by one\n| | ns | lowest to highest |\n|---|---:|---|");
    for (name, mut turn) in ["plain", "encrypted", "the cipher alone"].iter().zip(turns) {
        turn.sort_by(f64::total_cmp);
        let (median, least, most) = (turn[turn.len() / 2], turn[0], turn[turn.len() - 1]);
        println!("| {name} | {median:.0} | {least:.0} to {most:.0} |");
    }
}

/// The result of a turn.
struct Turn {
    put: Duration,
    read: Duration,
    disk_bytes: u64,
}

fn main() {
    let is_quick = std::env::args().any(|arg| arg == "--quick" || arg == "--test");
    let plan = match is_quick {
        true => Plan { rounds: 1, batch_count: 300 },
        false => Plan { rounds: 9, batch_count: 15_000 },
    };
    let base = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).map(PathBuf::from);
    let scratch = base.map_or_else(tempfile::tempdir, tempfile::tempdir_in).expect("a directory to work in");
    for has_id in [false, true] {
        compare(scratch.path(), has_id, plan);
    }
    put_one_by_one(scratch.path(), plan);
}

fn compare(scratch: &Path, has_id: bool, plan: Plan) {
    let clicks = clicks(has_id);
    let bytes: usize = clicks.iter().map(|(user, click)| user.len() + click.len()).sum();
    let with = if has_id { "with 16 random hexadecimal digits each" } else { "without random ids" };
    println!("\nclicks {with}: {} B with its key, {RECORDS_A_BATCH} a batch", bytes / clicks.len());
    let way = |compression, is_encrypted| Way { compression, is_encrypted };
    let ways = [
        way(Compression::None, false),
        way(Compression::Lz4, false),
        way(Compression::zstd(), false),
        way(Compression::zstd_level(3), false),
        way(Compression::None, true),
        way(Compression::Lz4, true),
    ];
    let mut turns: [Vec<Turn>; 6] = Default::default();
    for round in 0..plan.rounds {
        for turn in 0..ways.len() {
            let at = (turn + round) % ways.len();
            turns[at].push(take_turn(scratch, ways[at], &clicks, plan));
        }
    }
    println!(
        "| | puts, M/s | of plain | lowest to highest | disk of plain | reads, M/s | of plain | lowest to highest |"
    );
    println!("|---|---:|---:|---|---:|---:|---:|---|");
    let records = (plan.batch_count * RECORDS_A_BATCH) as f64 / 1e6;
    let rates = |turns: &[Turn], time: fn(&Turn) -> Duration| {
        let mut rates: Vec<f64> = turns.iter().map(|turn| records / time(turn).as_secs_f64()).collect();
        rates.sort_by(f64::total_cmp);
        (rates[rates.len() / 2], rates[0], rates[rates.len() - 1])
    };
    let (put_plain, ..) = rates(&turns[0], |turn| turn.put);
    let (read_plain, ..) = rates(&turns[0], |turn| turn.read);
    for (way, turns_of) in ways.iter().zip(&turns) {
        let (put, put_least, put_most) = rates(turns_of, |turn| turn.put);
        let (read, read_least, read_most) = rates(turns_of, |turn| turn.read);
        println!(
            "| {way} | {put:.2} | {:.2} | {put_least:.2} to {put_most:.2} | {:.3} | {read:.2} | {:.2} | {read_least:.2} to {read_most:.2} |",
            put / put_plain,
            turns_of[0].disk_bytes as f64 / turns[0][0].disk_bytes as f64,
            read / read_plain,
        );
    }
}

/// Makes the users and clicks of all batches. Random digits hardly compress.
fn clicks(has_id: bool) -> Vec<(String, String)> {
    let pages =
        ["/", "/search", "/cart", "/checkout", "/products/shoes", "/products/books", "/account", "/help"];
    let agents = [
        "Mozilla/5.0 (X11; Linux x86_64)",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5)",
        "Mozilla/5.0 (Windows NT 10.0)",
    ];
    let countries = ["DE", "US", "JP", "BR", "IN", "FR"];
    let mut seed = 7u64;
    let mut number = |below: u64| {
        // SplitMix64.
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    };
    let mut clicks = vec![];
    for at in 0..BATCHES * RECORDS_A_BATCH {
        let user = format!("user-{}", number(100_000));
        let session = match has_id {
            true => format!("{:016x}", number(u64::MAX)),
            false => format!("{user}-{}", number(100)),
        };
        let time = [at / 3_600_000 % 24, at / 60_000 % 60, at / 1_000 % 60, at % 1_000];
        let (page, agent, country) = (number(8), number(3), number(6));
        let mut click = String::new();
        write!(
            click,
            r#"{{"time":"2026-11-29T{:02}:{:02}:{:02}.{:03}Z","user":"{user}","session":"{session}","page":"{}","item":{},"agent":"{}","country":"{}","ms":{}}}"#,
            time[0],
            time[1],
            time[2],
            time[3],
            pages[page as usize],
            number(10_000),
            agents[agent as usize],
            countries[country as usize],
            number(3_000),
        )
        .expect("a string takes everything");
        clicks.push((user, click));
    }
    clicks
}

/// Puts all batches into a new stream, closes it, opens it again, and reads it.
fn take_turn(scratch: &Path, way: Way, clicks: &[(String, String)], plan: Plan) -> Turn {
    let directory = tempfile::tempdir_in(scratch).expect("a directory");
    let path = directory.path().join("stream");
    let options = || way.options(directory.path());
    let records: Vec<_> =
        clicks.iter().map(|(user, click)| PutRecord::new(user.as_str(), click.as_str())).collect();
    let batches: Vec<_> = records.chunks(RECORDS_A_BATCH).collect();
    let stream = options().open(&path).expect("a new stream");
    let put = |count: usize| {
        for batch in batches.iter().cycle().take(count) {
            let outcomes = stream.put_batch(batch).expect("a batch");
            assert!(outcomes.iter().all(Result::is_ok));
        }
    };
    put(BATCHES / 3);
    let begun = Instant::now();
    put(plan.batch_count);
    let put = begun.elapsed();
    stream.close().expect("a clean end");
    let disk_bytes = disk_bytes(&path);
    let stream = options().open(&path).expect("the same stream");
    let begun = Instant::now();
    let mut count = 0;
    let mut iterator = stream.iterator(stream.shards()[0].id, Position::TrimHorizon).expect("the only shard");
    loop {
        let batch = iterator.next_batch(1_000).expect("what was put");
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            black_box((record.partition_key(), record.data()));
        }
        count += batch.len();
    }
    let read = begun.elapsed();
    let put_count = (BATCHES / 3 + plan.batch_count) * RECORDS_A_BATCH;
    assert_eq!(count, put_count);
    // Everything was read, and some of it was put before the clock started.
    let read = read.mul_f64((plan.batch_count * RECORDS_A_BATCH) as f64 / put_count as f64);
    Turn { put, read, disk_bytes }
}

/// Returns the bytes that a directory takes on the disk.
fn disk_bytes(path: &Path) -> u64 {
    let metadata = std::fs::symlink_metadata(path).expect("a file");
    let inside: u64 = match metadata.is_dir() {
        true => std::fs::read_dir(path)
            .expect("a directory")
            .map(|entry| disk_bytes(&entry.expect("an entry").path()))
            .sum(),
        false => 0,
    };
    inside + metadata.blocks() * 512
}
