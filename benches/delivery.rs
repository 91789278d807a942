//! The speed of a delivery, compared with its bare work: writing the same bytes to files, and compressing them.
//!
//! `cargo bench --features delivery,zstd --bench delivery`; `-- --quick` is a smoke run, and a path after `--` names the directory to write in. The
//! contenders take turns, and each figure is the median over the rounds. One thread does the bare work, and syncs each file as
//! a delivery does. A delivery reads the records from the log, checks the JSON, and writes the files with the printed number of threads.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use streamlog::delivery::{CompressionFormat, Directory, Format};
use streamlog::{PutRecord, Stream};

const RECORD_BYTES: usize = 200;
const OBJECT_BYTES: usize = 5 << 20;

fn main() {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let is_quick = args.iter().any(|arg| arg == "--quick" || arg == "--test");
    let (megabytes, rounds) = if is_quick { (8, 1) } else { (256, 7) };
    let work = match args.iter().find(|arg| !arg.starts_with("--")) {
        Some(path) => tempfile::tempdir_in(path),
        None => tempfile::tempdir(),
    };
    let work = work.expect("a directory to write in");
    let stream = Stream::open(work.path().join("stream")).expect("a stream");
    let lines = fill(&stream, megabytes << 20);
    println!(
        "{megabytes} MiB of records of {RECORD_BYTES} B, in objects of {} MiB, in {}",
        OBJECT_BYTES >> 20,
        work.path().display()
    );

    let out = work.path().join("out");
    let mut bench = Bench { stream, lines, out, runs: 0, rounds };
    let lines = |bench: &mut Bench| bench.deliver(Format::lines(), CompressionFormat::Uncompressed, 1);
    let json = |bench: &mut Bench| bench.deliver(Format::json_lines(), CompressionFormat::Uncompressed, 1);
    bench.compare("files", Bench::write, &[("lines", &lines), ("JSON lines", &json)]);
    let gzip = |bench: &mut Bench| bench.deliver(Format::lines(), CompressionFormat::Gzip, 1);
    bench.compare("gzip", |bench| bench.compress(gzipped), &[("lines, gzip", &gzip)]);
    let zstd = |bench: &mut Bench| bench.deliver(Format::lines(), CompressionFormat::Zstd, 1);
    let zipped = |bytes: &[u8]| zstd::encode_all(bytes, 3).expect("it compresses");
    bench.compare("zstd", move |bench| bench.compress(zipped), &[("lines, zstd", &zstd)]);
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("it compresses")
}

/// Puts this many bytes of JSON, and returns them as lines.
fn fill(stream: &Stream, bytes: usize) -> Vec<u8> {
    let mut lines = Vec::with_capacity(bytes + bytes / RECORD_BYTES);
    let mut number = 0u64;
    while lines.len() < bytes {
        let records: Vec<String> = (number..number + 500).map(record).collect();
        let batch: Vec<_> = records.iter().map(|record| PutRecord::new("key", record)).collect();
        stream.put_batch(&batch).expect("a put").into_iter().for_each(|put| _ = put.expect("a put"));
        for record in records {
            lines.extend_from_slice(record.as_bytes());
            lines.push(b'\n');
        }
        number += 500;
    }
    lines
}

fn record(number: u64) -> String {
    let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut text = format!(
        r#"{{"at":{},"user":"user-{}","page":"/product/{}","total":{}.{:02},"agent":"Mozilla/5.0 (X11; Linux x86_64)","id":"{hash:016x}"#,
        1_700_000_000_000 + number * 7,
        hash % 10_007,
        hash % 997,
        hash % 500,
        hash % 100,
    );
    while text.len() < RECORD_BYTES - 2 {
        text.push(char::from(b'a' + (hash >> (text.len() % 56)) as u8 % 26));
    }
    text + "\"}"
}

struct Bench {
    stream: Stream,
    lines: Vec<u8>,
    out: PathBuf,
    runs: u32,
    rounds: usize,
}

type Run<'r> = &'r dyn Fn(&mut Bench) -> Duration;

impl Bench {
    /// Runs the bare work and the deliveries in turns, and prints the medians.
    fn compare(&mut self, name: &str, bare: impl Fn(&mut Self) -> Duration, deliveries: &[(&str, Run<'_>)]) {
        let mut times = vec![vec![]; deliveries.len() + 1];
        for _ in 0..self.rounds {
            times[0].push(bare(self));
            for (at, (_, deliver)) in deliveries.iter().enumerate() {
                times[at + 1].push(deliver(self));
            }
        }
        let medians: Vec<f64> = times.into_iter().map(median).collect();
        let rate = |seconds: f64| self.lines.len() as f64 / seconds / f64::from(1 << 20);
        println!("\n{:<24}{:>8.0} MiB/s", format!("{name}, bare"), rate(medians[0]));
        for ((name, _), &seconds) in deliveries.iter().zip(&medians[1..]) {
            println!("{name:<24}{:>8.0} MiB/s {:>6.2} of bare", rate(seconds), medians[0] / seconds);
        }
    }

    fn deliver(&mut self, format: Format, compression: CompressionFormat, concurrency: usize) -> Duration {
        self.runs += 1;
        let name = format!("bench-{}", self.runs);
        let begun = Instant::now();
        let delivery = self
            .stream
            .delivery(&name)
            .format(format)
            .compression(compression)
            .buffer_bytes(OBJECT_BYTES)
            .concurrency(concurrency)
            .to(Directory::new(&self.out))
            .start()
            .expect("a delivery");
        assert!(delivery.flush(Duration::from_secs(600)), "{:?}", delivery.stats());
        let took = begun.elapsed();
        delivery.close().expect("it closes");
        self.clear();
        took
    }

    /// Writes the lines to files.
    fn write(&mut self) -> Duration {
        fs::create_dir_all(&self.out).expect("a directory");
        let begun = Instant::now();
        for (number, object) in self.lines.chunks(OBJECT_BYTES).enumerate() {
            write_synced(&self.out.join(number.to_string()), object);
        }
        let took = begun.elapsed();
        self.clear();
        took
    }

    /// Compresses the lines, and writes nothing.
    fn compress(&mut self, encode: impl Fn(&[u8]) -> Vec<u8>) -> Duration {
        let begun = Instant::now();
        self.lines.chunks(OBJECT_BYTES).for_each(|object| _ = std::hint::black_box(encode(object)));
        begun.elapsed()
    }

    fn clear(&self) {
        fs::remove_dir_all(&self.out).expect("it was written");
    }
}

fn write_synced(path: &Path, bytes: &[u8]) {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        File::open(path.parent().expect("a directory"))?.sync_all()
    };
    write().expect("a file");
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}
