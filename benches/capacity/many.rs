//! Many shards, many streams, much data: the cost of keeping them open, and the effect on puts.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use streamlog::{Position, PutRecord, Retention, ShardId, Store, Stream, StreamOptions, Timestamp};

use crate::chart::{Axis, number};
use crate::machine::{Taken, clear};
use crate::report::{Line, count, mib};
use crate::{Setting, put_all};

const POINT: Duration = Duration::from_secs(1);
const BATCH: usize = 100;
/// The minimum disk space of a shard that takes puts, with room for what a point adds.
const SHARD_BYTES: u64 = 17 << 16;

/// Runs a part of a point in its own process, so that its memory can be measured. Returns the numbers that it prints, or why it failed.
fn in_child(args: &[&str], path: &Path) -> Result<Vec<f64>, String> {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let output = command.args(["child", "point"]).args(args).arg(path).output().expect("a process");
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines = text.lines().skip_while(|line| !line.contains("panicked")).skip(1);
        return Err(lines.take(1).collect());
    }
    Ok(text.split_whitespace().map(|number| number.parse().expect("a number")).collect())
}

/// The child's side of [`in_child`].
pub(crate) fn be_point(args: &[String]) {
    let number = |at: usize| args[at].parse::<u64>().expect("a number");
    let path = Path::new(args.last().expect("a path"));
    let numbers = match &*args[0] {
        "make" => make(number(1), number(2) as u32, number(3), path),
        "open" => open(path),
        "fill" => fill(number(1), path),
        "look" => look(path),
        other => panic!("no point is called {other:?}"),
    };
    let texts: Vec<_> = numbers.iter().map(f64::to_string).collect();
    println!("{}", texts.join(" "));
}

fn make(streams: u64, shards: u32, segment_bytes: u64, path: &Path) -> Vec<f64> {
    let store = Store::open(path, StreamOptions::new()).expect("a store");
    let started = Instant::now();
    for stream in 0..streams {
        let options = StreamOptions::new().shards(shards).segment_bytes(segment_bytes);
        store.create(&format!("stream-{stream}"), options).expect("a stream");
    }
    let created = started.elapsed();
    store.close().expect("closing");
    vec![created.as_secs_f64()]
}

/// A key from a number, spread over all shards.
fn key(number: u64) -> [u8; 8] {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()
}

/// Opens all streams of a store, puts into all shards, and measures.
fn open(path: &Path) -> Vec<f64> {
    let before = Taken::now();
    let started = Instant::now();
    let store = Store::open(path, StreamOptions::new()).expect("a store");
    let names = store.names().expect("names");
    let streams: Vec<Stream> = names.iter().map(|name| store.stream(name).expect("a stream")).collect();
    let opened = started.elapsed();
    let data = [7; 100];
    for stream in &streams {
        for shard in stream.shards() {
            let record = PutRecord::new("key", &data).explicit_hash_key(shard.hash_key_range.start);
            stream.put_record(&record).expect("a put");
        }
    }
    let started = Instant::now();
    streams.iter().for_each(|stream| stream.sync().expect("a sync"));
    let synced = started.elapsed();

    let (started, mut puts) = (Instant::now(), 0u64);
    while started.elapsed() < POINT {
        for _ in 0..64 {
            let stream = &streams[(puts % streams.len() as u64) as usize];
            stream.put(key(puts), data).expect("a put");
            puts += 1;
        }
    }
    let put_rate = puts as f64 / started.elapsed().as_secs_f64();

    let (started, mut batches) = (Instant::now(), 0u64);
    while started.elapsed() < POINT {
        let keys: Vec<_> = (0..BATCH as u64).map(|number| key(batches * BATCH as u64 + number)).collect();
        let records: Vec<_> = keys.iter().map(|key| PutRecord::new(key, &data)).collect();
        let stream = &streams[(batches % streams.len() as u64) as usize];
        put_all(stream, &records);
        batches += 1;
    }
    let batch_rate = batches as f64 * BATCH as f64 / started.elapsed().as_secs_f64();
    let taken = Taken::now().since(before);
    drop(streams);
    let started = Instant::now();
    store.close().expect("closing");
    vec![
        opened.as_secs_f64(),
        taken.memory as f64,
        taken.mapped as f64,
        taken.threads as f64,
        taken.descriptors as f64,
        taken.mappings as f64,
        synced.as_secs_f64(),
        put_rate,
        batch_rate,
        started.elapsed().as_secs_f64(),
    ]
}

const COLUMNS: [&str; 9] = [
    "to open",
    "memory, MiB",
    "mapped pages, MiB",
    "threads",
    "descriptors",
    "to sync all",
    "put one by one, records/s",
    "100 in a batch",
    "to close",
];

fn seconds(value: f64) -> String {
    if value < 0.1 { format!("{} ms", number(value * 1e3)) } else { format!("{} s", number(value)) }
}

/// Measures this many streams with this many shards; `None` if the disk has no room for them.
fn point(setting: &Setting, streams: u64, shards: u32) -> Option<Vec<f64>> {
    let all = streams * u64::from(shards);
    let shard_bytes = SHARD_BYTES.min(2 * setting.segment_bytes);
    if !setting.has_room(all * shard_bytes + (1 << 29), &format!("{streams} × {shards} shards")) {
        return None;
    }
    let path = setting.scratch.join("store");
    let numbers = [streams, u64::from(shards), setting.segment_bytes].map(|number| number.to_string());
    let [streams_text, shards_text, segment_text] = numbers.each_ref().map(String::as_str);
    let found = in_child(&["make", streams_text, shards_text, segment_text], &path)
        .and_then(|_| in_child(&["open"], &path))
        .inspect_err(|why| println!("{streams} × {shards} shards: {why}"));
    clear(&path);
    found.ok()
}

fn row(setting: &Setting, mut cells: Vec<String>, found: &[f64]) {
    cells.extend([
        seconds(found[0]),
        mib(found[1] as u64),
        mib(found[2] as u64),
        number(found[3]),
        number(found[4]),
        seconds(found[6]),
        count(found[7]),
        count(found[8]),
        seconds(found[9]),
    ]);
    setting.report.row(&cells);
}

pub(crate) fn shards(setting: &Setting) {
    let columns: Vec<_> = ["streams", "shards each"].into_iter().chain(COLUMNS).collect();
    setting.report.head("Records of 100 B, one thread, random keys, by open shards", &columns);
    let mut lines = ["one by one", "100 in a batch"].map(Line::new);
    let mut opening = [Line::new("to open"), Line::new("to sync all")];
    for (streams, shards) in [(1, 1), (1, 4), (1, 16), (1, 64), (1, 256), (1, 1_024), (4, 1_000), (10, 1_000)]
    {
        let Some(found) = point(setting, streams, shards) else { continue };
        let all = (streams * u64::from(shards)) as f64;
        lines[0].points.push((all, found[7] / 1e6));
        lines[1].points.push((all, found[8] / 1e6));
        opening[0].points.push((all, found[0]));
        opening[1].points.push((all, found[6]));
        row(setting, vec![streams.to_string(), shards.to_string()], &found);
    }
    let axis = Axis { name: "open shards (above 1,024 in several streams of 1,000)", is_logarithmic: true };
    let title = "Puts of 100 B by one thread, by shards";
    setting.report.draw("capacity-shards.svg", title, "million records a second", axis, &lines);
    let title = "Opening all shards, and syncing a record in each";
    setting.report.draw("capacity-shards-open.svg", title, "seconds", axis, &opening);
}

pub(crate) fn streams(setting: &Setting) {
    let columns: Vec<_> = ["streams"].into_iter().chain(COLUMNS).collect();
    setting
        .report
        .head("Records of 100 B, one thread, all streams in turn, by open streams of a store", &columns);
    let mut lines = ["one by one", "100 in a batch"].map(Line::new);
    for streams in [1, 10, 100, 1_000, 10_000] {
        let Some(found) = point(setting, streams, 1) else { continue };
        lines[0].points.push((streams as f64, found[7] / 1e6));
        lines[1].points.push((streams as f64, found[8] / 1e6));
        row(setting, vec![streams.to_string()], &found);
    }
    let axis = Axis { name: "open streams of one shard", is_logarithmic: true };
    let title = "Puts of 100 B by one thread, by streams";
    setting.report.draw("capacity-streams.svg", title, "million records a second", axis, &lines);
}

/// Puts records of 1 KB until the stream takes this many bytes on the disk.
fn fill(bytes: u64, path: &Path) -> Vec<f64> {
    let stream = StreamOptions::new().retention(Retention::forever()).open(path).expect("a stream");
    let data = vec![7; 1_000];
    let records = vec![PutRecord::new("key", &data); 100];
    while stream.stats().expect("counts").disk_bytes() < bytes {
        for _ in 0..100 {
            put_all(&stream, &records);
        }
    }
    let stats = stream.stats().expect("counts");
    stream.close().expect("closing");
    vec![stats.record_count() as f64, stats.shards[0].segment_count as f64]
}

/// Opens a stream, reads its first record, and finds records by time.
fn look(path: &Path) -> Vec<f64> {
    const SEEKS: u64 = 500;
    let before = Taken::now();
    let started = Instant::now();
    let stream = StreamOptions::new().must_exist().open(path).expect("a stream");
    let opened = started.elapsed();
    let shard = ShardId::new(0);
    let started = Instant::now();
    let first = stream.iterator(shard, Position::TrimHorizon).expect("an iterator").next_batch(1);
    let first = first.expect("a record").last_timestamp().expect("a time").as_micros();
    let read = started.elapsed();
    let last = stream.stats().expect("counts").shards[0].next_sequence.get() - 1;
    let last = stream.iterator(shard, Position::At(last.into())).expect("an iterator").next_batch(1);
    let last = last.expect("a record").last_timestamp().expect("a time").as_micros();
    let taken = Taken::now().since(before);
    let started = Instant::now();
    for seek in 0..SEEKS {
        let spread = u64::from_le_bytes(key(seek)) % (last - first).max(1);
        let at = Position::AtTimestamp(Timestamp::from_micros(first + spread));
        let batch = stream.iterator(shard, at).expect("an iterator").next_batch(1).expect("a record");
        assert_eq!(batch.len(), 1);
    }
    let seek = started.elapsed() / SEEKS as u32;
    stream.close().expect("closing");
    vec![opened.as_secs_f64(), read.as_secs_f64(), seek.as_secs_f64(), taken.memory as f64]
}

/// Drops a stream's files from the page cache.
fn evict(path: &Path) {
    rustix::fs::sync();
    for entry in std::fs::read_dir(path).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => evict(&path),
            false => {
                let file = File::open(&path).expect("a file");
                fadvise(&file, 0, None, Advice::DontNeed).expect("advice");
            }
        }
    }
}

pub(crate) fn retained(setting: &Setting) {
    setting.report.head(
        "Records of 1 KB in one shard, by what is kept",
        &[
            "MiB",
            "segments",
            "to open, from the disk",
            "the first record",
            "a record by time",
            "to open, from memory",
            "the first record",
            "a record by time",
            "memory, MiB",
        ],
    );
    let path = setting.scratch.join("stream");
    let mut lines = ["from the disk", "from memory"].map(Line::new);
    let mut room = 0;
    for bytes in [100 << 20, 1 << 30, 4 << 30, setting.retained_bytes] {
        let more = bytes.saturating_sub(room) + (1 << 28);
        if bytes > setting.retained_bytes
            || bytes == room
            || !setting.has_room(more, &format!("a stream of {} MiB", bytes >> 20))
        {
            continue;
        }
        let filled = in_child(&["fill", &bytes.to_string()], &path).expect("a stream");
        room = bytes;
        evict(&path);
        let cold = in_child(&["look"], &path).expect("a stream");
        let warm = in_child(&["look"], &path).expect("a stream");
        for (line, found) in lines.iter_mut().zip([&cold, &warm]) {
            line.points.push(((bytes >> 20) as f64, found[0] * 1e3));
        }
        let mut cells = vec![number((bytes >> 20) as f64), number(filled[1])];
        for found in [&cold, &warm] {
            cells.extend(found[..3].iter().map(|value| seconds(*value)));
        }
        cells.push(mib(warm[3] as u64));
        setting.report.row(&cells);
    }
    let axis = Axis { name: "MiB kept", is_logarithmic: true };
    setting.report.draw(
        "capacity-retained.svg",
        "Opening a stream, by what it keeps",
        "milliseconds",
        axis,
        &lines,
    );
}
