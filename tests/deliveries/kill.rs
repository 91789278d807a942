//! Kills a process with a delivery at random moments, while shards split and merge and settings change: its output is exactly the stream: L1, L2, L3.
//!
//! It delivers into a directory, into another stream, and into S3, which moto plays behind a proxy that loses and breaks answers.
//! `STREAMLOG_KILLS=100` kills it that often. Power loss is tested the same way, if file systems can be mounted; `STREAMLOG_CLONES=30` simulates it
//! that often on each.

use crate::common;
#[cfg(feature = "object-store")]
use crate::common::s3;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::killed::{
    Id, ids, kill_again_and_again, open, put_until_killed, put_with_pauses_until_killed, told,
};
#[cfg(target_os = "linux")]
use common::mounts::{self, Kind, Mount};
use streamlog::delivery::{Delivery, DeliveryOptions, Directory, Format, Naming, Transformed};
use streamlog::{Durability, SECOND, Stream, StreamOptions};

/// The file that tells the children where to deliver. It has `directory`, `stream`, or the address of a server.
const TARGET: &str = "target";
const MANIFESTS: &str = "manifests/";
const URL: &str = "s3://bucket/logs/";

fn rounds(target: &str) -> u64 {
    let default = match target {
        "directory" => 8,
        // With fewer, a kill hardly ever happens between a put and its commit.
        "stream" => 20,
        // All objects of a shard are in S3 before those of its children, which takes time.
        _ => 5,
    };
    std::env::var("STREAMLOG_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(default)
}

/// Returns the settings of a round. The function's output for a record is always the same.
fn options(stream: &Stream, round: u64) -> DeliveryOptions {
    stream
        .delivery("archive")
        .error_prefix("errors/!{firehose:error-output-type}/")
        .format(if round.is_multiple_of(2) { Format::lines() } else { Format::json_lines() })
        .naming(if round % 4 == 3 { Naming::Firehose } else { Naming::Sequence })
        .buffer_bytes(200 + round as usize % 5 * 1_000)
        .buffer_interval(Duration::from_millis(20 + round % 3 * 50))
        .memory_bytes_max(if round.is_multiple_of(5) { 2_000 } else { 1 << 20 })
}

fn made_of(data: &[u8], partition: impl Fn(Transformed, &str) -> Transformed) -> Transformed {
    let (key, number): Id = serde_json::from_slice(data).unwrap();
    let row = || partition(Transformed::dropped(), &(key % 5).to_string());
    match number % 50 {
        17 => Transformed::failed("by chance"),
        // Two rows, in two partitions if there are some.
        18 => partition(row(), "twin"),
        _ => row(),
    }
}

fn with_partitions(options: DeliveryOptions, round: u64) -> DeliveryOptions {
    options
        .partition_keys(["key"])
        .prefix(format!("{}/key=!{{partitionKeyFromLambda:key}}/!{{timestamp:HH-mm}}/", round % 3))
        // In some rounds, there is not enough room for all partitions, so that some rows are errors.
        .active_partitions_max(if round % 4 == 2 { 2 } else { 100 })
        .transform(|record| {
            made_of(record.data(), |made, partition| made.and_row_in(record.data(), [partition]))
        })
}

/// In some rounds, objects have manifests.
fn with_manifests(options: DeliveryOptions, round: u64) -> DeliveryOptions {
    if round % 3 == 1 { options } else { options.manifests(MANIFESTS, URL) }
}

fn start(stream: &Stream, path: &Path, output: Option<&Stream>, target: &str, round: u64) -> Delivery {
    let options = options(stream, round);
    let archive = Directory::new(path.join("archive"));
    let started = match (target, output) {
        ("directory", _) => with_manifests(with_partitions(options, round), round).to(archive).start(),
        (_, Some(output)) => options
            .transform(|record| made_of(record.data(), |made, _| made.and_row(record.data())))
            .to_stream(output)
            .errors_to(archive)
            .start(),
        (address, None) => to_s3(with_manifests(with_partitions(options, round), round), address).start(),
    };
    told(started)
}

#[cfg(feature = "object-store")]
fn to_s3(options: DeliveryOptions, address: &str) -> DeliveryOptions {
    options
        // A Python server takes a hundred objects a second.
        .buffer_bytes(20_000)
        .memory_bytes_max(1 << 20)
        .backoff(Duration::from_millis(5), Duration::from_millis(50))
        .to(s3::storage_at(address.parse().unwrap(), "logs", s3::SECRET))
}

#[cfg(not(feature = "object-store"))]
fn to_s3(_: DeliveryOptions, _: &str) -> DeliveryOptions {
    unreachable!("no test delivers there")
}

/// Not a test: the child that the kill test kills. In its last round, it puts nothing and ends when all is delivered.
#[test]
fn child() {
    let Some((path, round)) = common::killed::child() else { return };
    let stream = open(&path, "clicks");
    let target = fs::read_to_string(path.join(TARGET)).unwrap();
    let output = (target == "stream").then(|| open(&path, "output"));
    let delivery = start(&stream, &path, output.as_ref(), &target, round);
    if round < rounds(&target) {
        let reshard: Vec<_> = [Some(&stream), output.as_ref()].into_iter().flatten().collect();
        let pause = Duration::from_millis(if matches!(&*target, "directory" | "stream") { 1 } else { 60 });
        put_with_pauses_until_killed(&stream, &reshard, round, pause);
    }
    finish(&stream, delivery);
}

/// Waits until everything is delivered, and closes the delivery.
fn finish(stream: &Stream, delivery: Delivery) {
    // Children begin once their parents are delivered.
    let begun = Instant::now();
    while told(stream.group("archive").describe()).lag().record_count > 0 || !delivery.flush(10 * SECOND) {
        thread::sleep(Duration::from_millis(10));
        if begun.elapsed() > Duration::from_secs(600) {
            println!("error it does not end: {:?}", delivery.stats());
            std::process::abort();
        }
    }
    told(delivery.close());
}

/// Returns all files under a directory, by relative name, except those that were being written when the process was killed.
fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut paths) = (BTreeMap::new(), vec![path.to_owned()]);
    while let Some(at) = paths.pop() {
        if at.is_dir() {
            paths.extend(fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()));
        } else if at.extension().is_none_or(|extension| extension != "partial") {
            let name = at.strip_prefix(path).unwrap().to_str().unwrap().to_owned();
            found.insert(name, fs::read(&at).unwrap());
        }
    }
    found
}

/// Returns the record that a line was made of.
fn id_of(line: &str) -> Id {
    match serde_json::from_str(line).unwrap() {
        serde_json::Value::Object(failed) => {
            serde_json::from_slice(&STANDARD.decode(failed["rawData"].as_str().unwrap()).unwrap()).unwrap()
        }
        id => serde_json::from_value(id).unwrap(),
    }
}

/// Checks that each record has as many rows as the function returns for it.
fn check(path: &Path, rows: impl Iterator<Item = Id>) {
    let mut found = BTreeMap::new();
    rows.for_each(|id| *found.entry(id).or_insert(0) += 1);
    let expected: BTreeMap<Id, u64> =
        ids(&open(path, "clicks")).into_iter().map(|id| (id, if id.1 % 50 == 18 { 2 } else { 1 })).collect();
    assert!(expected.len() > 50, "{} records are too few for a test", expected.len());
    let wrong: Vec<_> = expected.iter().filter(|(id, count)| found.get(id) != Some(count)).take(10).collect();
    assert!(wrong.is_empty(), "L2: {} of {} are there; wrong are {wrong:?}", found.len(), expected.len());
    assert_eq!(found, expected);
    println!("{} records", expected.len());
}

/// Checks the objects of partitions and errors, and that each manifest names an object that exists. Returns how many were decided with each of
/// the prefixes.
fn check_objects(path: &Path, objects: BTreeMap<String, Vec<u8>>) -> [usize; 3] {
    let (manifests, objects): (BTreeMap<_, _>, BTreeMap<_, _>) =
        objects.into_iter().partition(|(name, _)| name.starts_with(MANIFESTS));
    assert!(!manifests.is_empty(), "no manifest beside {} objects", objects.len());
    for (name, manifest) in manifests {
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let entry = &manifest["entries"][0];
        let object = entry["url"].as_str().unwrap().strip_prefix(URL).unwrap();
        assert_eq!(name, format!("{MANIFESTS}{object}.manifest"));
        let bytes = objects.get(object).unwrap_or_else(|| panic!("{object} has a manifest and is not there"));
        assert_eq!(entry["meta"]["content_length"], bytes.len());
    }
    let decided = |prefix: &str| objects.keys().filter(|name| name.starts_with(prefix)).count();
    let of_rounds = ["0/", "1/", "2/"].map(decided);
    let lines = objects.values().flat_map(|bytes| std::str::from_utf8(bytes).unwrap().lines());
    check(path, lines.map(id_of));
    of_rounds
}

/// Checks that objects were decided in several rounds and not just in the last one.
fn check_rounds(of_rounds: [usize; 3]) {
    println!("objects by the settings of their round: {of_rounds:?}");
    assert!(of_rounds.iter().filter(|&&count| count > 0).count() > 1, "{of_rounds:?}");
}

#[test]
fn l1_l2_the_files_are_exactly_the_stream_wherever_the_process_is_killed() {
    let scratch = common::scratch();
    fs::write(scratch.path().join(TARGET), "directory").unwrap();
    kill_again_and_again(module_path!(), scratch.path(), rounds("directory"));
    check_rounds(check_objects(scratch.path(), files(&scratch.path().join("archive"))));
}

#[test]
fn l1_l2_l3_the_other_stream_is_exactly_the_stream_wherever_the_process_is_killed() {
    let scratch = common::scratch();
    fs::write(scratch.path().join(TARGET), "stream").unwrap();
    kill_again_and_again(module_path!(), scratch.path(), rounds("stream"));
    let put = ids(&open(scratch.path(), "output"));
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for (key, number) in &put {
        let before = last.insert(*key, *number);
        assert!(before.is_none_or(|before| before <= *number), "L3: {number} of {key} is after {before:?}");
    }
    let errors = files(&scratch.path().join("archive"));
    let lines = errors.values().flat_map(|bytes| std::str::from_utf8(bytes).unwrap().lines());
    let failed: Vec<_> = lines.map(id_of).collect();
    assert!(failed.iter().all(|id| id.1 % 50 == 17), "only those fail that do in the function");
    check(scratch.path(), put.into_iter().chain(failed));
}

#[cfg(feature = "object-store")]
#[test]
fn l1_l2_the_objects_in_s3_are_exactly_the_stream_wherever_the_process_is_killed() {
    let Some(moto) = s3::Moto::start() else { return };
    let scratch = common::scratch();
    let proxy = s3::Proxy::start(moto.address, s3::at_random(5));
    let target = proxy.address.to_string();
    fs::write(scratch.path().join(TARGET), &target).unwrap();
    // The first request takes a while.
    common::killed::kill_each_after(module_path!(), scratch.path(), rounds(&target), |round| {
        Duration::from_millis(100 + round * 173 % 1_000)
    });
    let named = |(key, bytes): (String, Vec<u8>)| (key.strip_prefix("logs/").unwrap().to_owned(), bytes);
    check_rounds(check_objects(scratch.path(), moto.bytes().into_iter().map(named).collect()));
}

/// Not a test: the child of the tests of power loss. It puts and delivers until it is killed.
#[test]
fn power_child() {
    let Some((path, round)) = common::killed::child() else { return };
    let stream = told(durable().open(path.join("clicks")));
    let _delivery = start(&stream, &path, None, "directory", round);
    put_until_killed(&stream, &[&stream], round);
}

fn durable() -> StreamOptions {
    StreamOptions::new().shards(2).segment_bytes(256 << 10).durability(Durability::Power)
}

/// Delivers into a directory, and repeatedly takes the state that the disk holds, as after power loss: the delivery resumes from it, and its
/// output is exactly the stream. See `tests/log/file_systems.rs`.
#[cfg(target_os = "linux")]
fn lose_power(kind: Kind, clone_count: u64) {
    let outer = mounts::told(Kind::Xfs, Mount::try_new(Kind::Xfs, 4 << 30));
    let (Some(_), Some(outer)) = (Mount::new(kind), outer) else { return };
    let image = outer.path().join("image");
    mounts::make(kind, &image, kind.bytes().max(256 << 20)).unwrap();
    let inner = Mount::of_image(kind, &image).unwrap();
    mounts::run("sync", ["--file-system".as_ref(), inner.path().as_os_str()]).unwrap();
    for round in 0..clone_count {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(common::only(module_path!(), "power_child"))
            .env("STREAMLOG_KILL_TEST", inner.path())
            .env("STREAMLOG_ROUND", round.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Objects appear and disappear meanwhile.
        let archive = inner.path().join("archive");
        let (before, begun) = (count_files(&archive), Instant::now());
        while count_files(&archive) < before + 100 {
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing is delivered");
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_micros((round + 1).wrapping_mul(0x9e37_79b9) % 50_000));
        let clone = outer.path().join("clone");
        let (from, to) = (fs::File::open(&image).unwrap(), fs::File::create(&clone).unwrap());
        rustix::fs::ioctl_ficlone(&to, &from).unwrap();
        drop((from, to));
        child.kill().unwrap();
        child.wait().unwrap();

        let mounted = Mount::of_image(kind, &clone).unwrap();
        let path = mounted.path();
        println!("{kind:?}, clone {round}: {} files", count_files(&path.join("archive")));
        let stream = told(durable().open(path.join("clicks")));
        finish(&stream, start(&stream, path, None, "directory", round + 1));
        stream.close().unwrap();
        check_objects(path, files(&path.join("archive")));
        drop(mounted);
        fs::remove_file(&clone).unwrap();
    }
}

#[cfg(target_os = "linux")]
fn count_files(path: &Path) -> usize {
    if path.exists() { files(path).len() } else { 0 }
}

#[cfg(target_os = "linux")]
#[test]
fn l1_l2_the_files_are_exactly_the_stream_after_power_loss() {
    let count = std::env::var("STREAMLOG_CLONES").ok().map_or(2, |count| count.parse().unwrap());
    lose_power(Kind::Ext4, count);
    lose_power(Kind::Xfs, count);
}
