//! Puts that survive power loss, compared with bare writes of the same size to a file: operations a second, and bytes to the disk.
//!
//! `cargo bench --bench power -- [DIRECTORY]`; the directory should be on the disk to measure. The contenders take turns, and the figures
//! are medians over the rounds.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use streamlog::{Durability, Stream, StreamOptions};

const ROUNDS: usize = 9;
const TURN: Duration = Duration::from_millis(600);
/// The size of the file that bare writes fill before they start again at its beginning.
const FILE_BYTES: u64 = 64 << 20;
const O_DSYNC: i32 = 0o10000;
/// Not an `open` flag: also writes a word at the start of the file.
const WORD: i32 = -1;

/// Puts records for a turn. Returns how many.
type Turn = Box<dyn FnMut() -> u64>;

struct Contender {
    name: String,
    turn: Turn,
    rates: Vec<f64>,
    disk_bytes: Vec<f64>,
}

fn main() {
    let base = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).map(PathBuf::from);
    let scratch = base.map_or_else(tempfile::tempdir, tempfile::tempdir_in).expect("a directory to work in");
    for record_bytes in [1 << 10, 64 << 10] {
        compare(scratch.path(), record_bytes);
    }
}

fn compare(scratch: &Path, record_bytes: usize) {
    let mut contenders = vec![];
    let mut add = |name: &str, turn: Turn| {
        contenders.push(Contender { name: name.to_owned(), turn, rates: vec![], disk_bytes: vec![] });
    };
    let path = |name: &str| scratch.join(format!("{name}-{record_bytes}"));
    add("bare: pwrite, fdatasync; written space", bare(&path("written"), record_bytes, 0, true));
    add("bare: the same, and a word elsewhere", bare(&path("word"), record_bytes, WORD, true));
    add("bare: pwrite, O_DSYNC; written space", bare(&path("dsync"), record_bytes, O_DSYNC, true));
    add("bare: pwrite, fdatasync; new space", bare(&path("new"), record_bytes, 0, false));
    for threads in [1, 8, 64] {
        let path = path(&format!("stream-{threads}"));
        let options = StreamOptions::new().durability(Durability::Power);
        let stream = options.open(path).expect("a stream");
        add(&format!("streamlog, {threads} threads"), streamlog(stream, record_bytes, threads));
    }
    for round in 0..ROUNDS {
        let count = contenders.len();
        for at in 0..count {
            let contender = &mut contenders[(at + round) % count];
            let before = disk_bytes_written(scratch);
            let started = Instant::now();
            let puts = (contender.turn)() as f64;
            contender.rates.push(puts / started.elapsed().as_secs_f64());
            contender.disk_bytes.push((disk_bytes_written(scratch) - before) as f64 / puts);
        }
    }
    let baseline = median(&contenders[0].rates);
    println!("\nrecords of {record_bytes} bytes");
    println!("| way | puts a second | of the first | lowest to highest | bytes to the disk a put |");
    println!("|---|---|---|---|---|");
    for contender in &contenders {
        let rate = median(&contender.rates);
        let lowest = contender.rates.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = contender.rates.iter().copied().fold(0.0, f64::max);
        println!(
            "| {} | {rate:.0} | {:.2} | {lowest:.0} to {highest:.0} | {:.0} |",
            contender.name,
            rate / baseline,
            median(&contender.disk_bytes)
        );
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Writes record after record with a checksum, each made durable.
fn bare(path: &Path, record_bytes: usize, flags: i32, is_written_before: bool) -> Turn {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).custom_flags(flags.max(0));
    let file: File = options.open(path).expect("a file");
    if is_written_before {
        let zeros = vec![0; 1 << 20];
        (0..FILE_BYTES).step_by(zeros.len()).for_each(|at| file.write_all_at(&zeros, at).expect("zeros"));
        file.sync_all().expect("a sync");
    }
    let mut record = vec![7; record_bytes];
    let mut at = 0;
    Box::new(move || {
        let started = Instant::now();
        let mut puts = 0;
        while started.elapsed() < TURN {
            let checksum = crc32fast::hash(&record[4..]);
            record[..4].copy_from_slice(&checksum.to_ne_bytes());
            file.write_all_at(&record, at).expect("a write");
            if flags == WORD {
                file.write_all_at(&at.to_ne_bytes(), 0).expect("a write");
            }
            if flags != O_DSYNC {
                file.sync_data().expect("a sync");
            }
            at += record.len() as u64;
            if is_written_before && at + record.len() as u64 > FILE_BYTES {
                at = 0;
            }
            puts += 1;
        }
        puts
    })
}

fn streamlog(stream: Stream, record_bytes: usize, threads: usize) -> Turn {
    Box::new(move || {
        let (puts, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let data = vec![7; record_bytes];
                    while !is_over.load(Ordering::Relaxed) {
                        stream.put("0123456789", &data).expect("a put");
                        puts.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            std::thread::sleep(TURN);
            is_over.store(true, Ordering::Relaxed);
        });
        puts.into_inner()
    })
}

/// Returns the bytes written so far to a directory's device, including writes by others, or 0 if the system does not say.
fn disk_bytes_written(path: &Path) -> u64 {
    let device = fs::metadata(path).map_or(0, |metadata| metadata.dev());
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    let stats = fs::read_to_string("/proc/diskstats").unwrap_or_default();
    let line = stats.lines().find(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(&major.to_string()) && words.next() == Some(&minor.to_string())
    });
    let sectors =
        line.and_then(|line| line.split_whitespace().nth(9)).and_then(|word| word.parse::<u64>().ok());
    sectors.unwrap_or(0) * 512
}
