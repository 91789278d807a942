//! Puts: by size, by threads, by durability, and for as long as the disk keeps up.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use streamlog::{DAY, Durability, PutRecord, Retention, Stream, StreamOptions};

use crate::chart::{Axis, number};
use crate::machine::{Busy, Usage, clear};
use crate::report::{Line, count};
use crate::{Setting, put_all};

const POINT: Duration = Duration::from_secs(1);
/// A point also ends after this many bytes of data, so that the page cache can hold them.
const POINT_BYTES: u64 = 2 << 30;
/// The maximum data size of one batch.
const BATCH_BYTES_MAX: usize = 1_000_000;
const MB: f64 = 1e6;

/// The puts of a point.
#[derive(Debug, Clone, Copy)]
struct Puts {
    threads: usize,
    /// Each thread has a shard of its own, or all share one.
    own_shards: bool,
    bytes: usize,
    batch: usize,
    durability: Durability,
}

impl Default for Puts {
    fn default() -> Self {
        Self { threads: 1, own_shards: false, bytes: 1_000, batch: 1, durability: Durability::Process }
    }
}

#[derive(Debug, Clone, Copy)]
struct Done {
    /// Per second.
    records: f64,
    busy: Busy,
}

impl Puts {
    fn best(self, setting: &Setting) -> Done {
        setting.best(|done: &Done| done.records, || self.run(&setting.scratch))
    }

    fn run(self, scratch: &Path) -> Done {
        let path = scratch.join("stream");
        let shards = if self.own_shards { self.threads as u32 } else { 1 };
        // Only the data of this point is on the disk, and trimmed files are reused.
        let retention = Retention::age(DAY).bytes_max(1 << 30);
        let options = StreamOptions::new().shards(shards).retention(retention).durability(self.durability);
        let stream = options.open(&path).expect("a stream");
        let keys = keys_of_shards(&stream, shards);
        // For the threads, and for this one, which measures the time.
        let (start, end) = (Barrier::new(self.threads + 1), Barrier::new(self.threads + 1));
        let (elapsed, busy, records) = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads)
                .map(|thread| {
                    let (stream, start, end) = (&stream, &start, &end);
                    let key = &keys[thread % keys.len()];
                    scope.spawn(move || {
                        start.wait();
                        let done = self.put(stream, key);
                        end.wait();
                        done
                    })
                })
                .collect();
            start.wait();
            let (started, before) = (Instant::now(), Usage::now());
            end.wait();
            let elapsed = started.elapsed();
            let busy = before.busy_since();
            let records: u64 = threads.into_iter().map(|thread| thread.join().expect("a thread")).sum();
            (elapsed, busy, records)
        });
        stream.close().expect("closing");
        clear(&path);
        Done { records: records as f64 / elapsed.as_secs_f64(), busy }
    }

    /// Puts for a limited time. Returns the number of records.
    fn put(self, stream: &Stream, key: &[u8]) -> u64 {
        let data = vec![7; self.bytes];
        let records = vec![PutRecord::new(key, &data); self.batch];
        let most = POINT_BYTES / (self.bytes * self.threads) as u64;
        let between = if self.durability == Durability::Power { 1 } else { 64usize.div_ceil(self.batch) };
        let (started, mut done) = (Instant::now(), 0);
        while done < most && started.elapsed() < POINT {
            for _ in 0..between {
                if self.batch == 1 {
                    stream.put(key, &data).expect("a put");
                } else {
                    put_all(stream, &records);
                }
            }
            done += (between * self.batch) as u64;
        }
        done
    }
}

/// Returns a key for each shard.
fn keys_of_shards(stream: &Stream, shards: u32) -> Vec<[u8; 8]> {
    let mut keys = vec![None; shards as usize];
    let mut number = 0u64;
    while keys.iter().any(Option::is_none) {
        let key = number.to_le_bytes();
        let shard = stream.put(key, "").expect("a put").shard;
        keys[shard.get() as usize] = Some(key);
        number += 1;
    }
    keys.into_iter().flatten().collect()
}

/// The disk alone: bytes written and synced in pieces, and syncs of 4 KiB.
pub(crate) fn disk(setting: &Setting) {
    let (report, path) = (&setting.report, setting.scratch.join("bare"));
    let file = File::create_new(&path).expect("a file");
    let piece = vec![7; 8 << 20];
    let (started, mut at) = (Instant::now(), 0);
    while started.elapsed() < 3 * POINT && at < 4 << 30 {
        file.write_all_at(&piece, at).expect("a write");
        file.sync_data().expect("a sync");
        at += piece.len() as u64;
    }
    let rate = at as f64 / MB / started.elapsed().as_secs_f64();
    let (started, mut syncs) = (Instant::now(), 0);
    while started.elapsed() < POINT {
        file.write_all_at(&piece[..4 << 10], syncs * (4 << 10)).expect("a write");
        file.sync_data().expect("a sync");
        syncs += 1;
    }
    report.head("The disk alone", &["written and synced 8 MiB at a time, MB/s", "syncs of 4 KiB a second"]);
    report.row(&[count(rate), count(syncs as f64 / started.elapsed().as_secs_f64())]);
}

pub(crate) fn by_size(setting: &Setting) {
    let report = &setting.report;
    report.head(
        "Puts by one thread",
        &["bytes", "a batch", "records/s", "MB/s", "processors busy: program + system"],
    );
    let mut lines = vec![];
    for (batch, name) in [(1, "one at a time"), (100, "100 in a batch, up to 1 MB")] {
        let mut line = Line::new(name);
        for bytes in [100, 1_000, 10_000, 100_000] {
            let batch = batch.min(BATCH_BYTES_MAX / bytes);
            let done = Puts { bytes, batch, ..Puts::default() }.best(setting);
            let rate = done.records * bytes as f64 / MB;
            line.points.push((bytes as f64, rate));
            report.row(&[
                number(bytes as f64),
                batch.to_string(),
                count(done.records),
                count(rate),
                done.busy.to_string(),
            ]);
        }
        lines.push(line);
    }
    let axis = Axis { name: "bytes of a record", is_logarithmic: true };
    report.draw("capacity-puts.svg", "Puts by one thread, by size", "MB a second", axis, &lines);
}

pub(crate) fn by_threads(setting: &Setting) {
    let report = &setting.report;
    report.head("Puts of 100 B", &["threads", "shards", "a batch", "records/s", "processors busy"]);
    let mut lines = vec![];
    for (own_shards, batch, name) in
        [(false, 1, "one shard"), (true, 1, "a shard each"), (true, 100, "a shard each, 100 in a batch")]
    {
        let mut line = Line::new(name);
        for threads in [1, 2, 4, 8, 16, 32, 64] {
            let puts = Puts { threads, own_shards, bytes: 100, batch, ..Puts::default() };
            let done = puts.best(setting);
            line.points.push((threads as f64, done.records / 1e6));
            let shards = if own_shards { threads } else { 1 };
            report.row(&[
                threads.to_string(),
                shards.to_string(),
                batch.to_string(),
                count(done.records),
                done.busy.to_string(),
            ]);
        }
        lines.push(line);
    }
    let axis = Axis { name: "threads that put", is_logarithmic: true };
    let title = "Puts of 100 B, by threads";
    report.draw("capacity-threads.svg", title, "million records a second", axis, &lines);
}

pub(crate) fn durable(setting: &Setting) {
    let report = &setting.report;
    report.head(
        "Puts of 1 KB that survive power loss, one shard",
        &["threads", "a batch", "records/s", "processors busy"],
    );
    let mut lines = vec![];
    for (batch, name) in [(1, "one at a time"), (100, "100 in a batch")] {
        let mut line = Line::new(name);
        for threads in [1, 4, 16, 64] {
            let puts = Puts { threads, batch, durability: Durability::Power, ..Puts::default() };
            let done = puts.best(setting);
            line.points.push((threads as f64, done.records / 1e3));
            report.row(&[threads.to_string(), batch.to_string(), count(done.records), done.busy.to_string()]);
        }
        lines.push(line);
    }
    let axis = Axis { name: "threads that put", is_logarithmic: true };
    let title = "Puts of 1 KB that survive power loss, by threads";
    report.draw("capacity-power.svg", title, "thousand records a second", axis, &lines);
}

/// Puts as fast as possible for longer than the page cache can absorb.
pub(crate) fn sustained(setting: &Setting) {
    const SECONDS: usize = 25;
    let report = &setting.report;
    if !setting.has_room(8 << 30, "the sustained load") {
        return;
    }
    let path = setting.scratch.join("stream");
    let options = StreamOptions::new().retention(Retention::age(DAY).bytes_max(4 << 30));
    let stream = options.open(&path).expect("a stream");
    let data = vec![7; 1_000];
    let records = vec![PutRecord::new("key", &data); 100];
    let mut line = Line::new("puts");
    let (started, before) = (Instant::now(), Usage::now());
    let (mut second, mut done, mut worst) = (1, 0u64, Duration::ZERO);
    let mut worsts = vec![];
    let mut last = Instant::now();
    while second <= SECONDS {
        put_all(&stream, &records);
        done += 100 * 1_000;
        worst = worst.max(last.elapsed());
        last = Instant::now();
        let elapsed = started.elapsed().as_secs_f64();
        if elapsed >= second as f64 {
            line.points.push((second as f64, done as f64 / MB));
            worsts.push(worst);
            (done, worst) = (0, Duration::ZERO);
            second = elapsed as usize + 1;
        }
    }
    let busy = before.busy_since();
    report.head(
        "Batches of 100 records of 1 KB by one thread, for longer than the page cache lasts; 4 GiB are kept",
        &["second", "MB/s", "longest batch, ms"],
    );
    for ((second, rate), worst) in line.points.iter().zip(worsts) {
        report.row(&[number(*second), count(*rate), number(worst.as_secs_f64() * 1e3)]);
    }
    println!("\nprocessors busy: {busy}");
    let axis = Axis { name: "seconds", is_logarithmic: false };
    let title = "Batches of 1 KB without a pause: the page cache, then the disk";
    report.draw("capacity-sustained.svg", title, "MB a second", axis, &[line]);
    stream.close().expect("closing");
}
