//! A process at its limits: the error names what ran out, nothing is lost or poisoned, and everything works again once there is room: P1, P10.

use crate::common;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use streamlog::{
    Durability, Error, HOUR, Position, PutRecord, Result, Retention, ShardFilter, ShardId, Stream,
};

const GROUP: &str = "readers";

/// A stream, and its acknowledged records.
struct Script {
    path: PathBuf,
    durability: Durability,
    segment_bytes: u64,
    stream: Option<Stream>,
    acknowledged: BTreeSet<u64>,
    next: u64,
}

type Step = (&'static str, fn(&mut Script) -> Result<()>);

const STEPS: [Step; 14] = [
    ("open", Script::open),
    ("put", |script| script.put(10)),
    ("put a batch", Script::put_batch),
    ("roll", |script| script.put(12_000)),
    ("sync", |script| script.stream().sync()),
    ("maintain", |script| script.stream().maintain()),
    ("consume", Script::consume),
    ("split", Script::split),
    ("put to the children", |script| (0..4).try_for_each(|_| script.put(12_000))),
    ("merge", Script::merge),
    ("change the retention", |script| {
        script.stream().set_retention(Retention::age(24 * HOUR).bytes_max(1 << 40))
    }),
    ("describe the group", |script| script.stream().group(GROUP).describe().map(drop)),
    ("read", |script| script.read().map(drop)),
    ("close and open", |script| script.close().and(script.open())),
];

impl Script {
    fn new(path: &Path, durability: Durability, segment_bytes: u64) -> Self {
        let (stream, acknowledged) = (None, BTreeSet::new());
        Self { path: path.to_owned(), durability, segment_bytes, stream, acknowledged, next: 0 }
    }

    fn stream(&self) -> &Stream {
        self.stream.as_ref().expect("the script opens it first")
    }

    fn open(&mut self) -> Result<()> {
        if self.stream.is_none() {
            let options = common::small(&common::clock()).segment_bytes(self.segment_bytes);
            self.stream = Some(options.durability(self.durability).open(&self.path)?);
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        self.stream.take().map_or(Ok(()), Stream::close)
    }

    fn data(&mut self, len: usize) -> (u64, Vec<u8>) {
        let mut data = self.next.to_le_bytes().to_vec();
        data.resize(len.max(8), 7);
        self.next += 1;
        (self.next - 1, data)
    }

    /// Puts six records of these sizes.
    fn put(&mut self, len: usize) -> Result<()> {
        for _ in 0..6 {
            let (number, data) = self.data(len);
            self.stream().put(number.to_le_bytes(), data)?;
            self.acknowledged.insert(number);
        }
        Ok(())
    }

    fn put_batch(&mut self) -> Result<()> {
        let data: Vec<_> = (0..6).map(|_| self.data(10)).collect();
        let records: Vec<_> = data.iter().map(|(_, data)| PutRecord::new(&data[..8], data)).collect();
        for (outcome, (number, _)) in self.stream().put_batch(&records)?.into_iter().zip(&data) {
            outcome?;
            self.acknowledged.insert(*number);
        }
        Ok(())
    }

    fn consume(&mut self) -> Result<()> {
        let mut worker = self.stream().group(GROUP).worker().start_at(Position::TrimHorizon).open()?;
        while let Some(batch) = worker.poll(Duration::ZERO)? {
            worker.commit(&batch)?;
        }
        worker.close();
        Ok(())
    }

    fn open_shards(&self) -> Vec<ShardId> {
        let mut open = self.stream().list_shards(ShardFilter::AtLatest);
        open.sort_by_key(|shard| shard.hash_key_range.start);
        open.iter().map(|shard| shard.id).collect()
    }

    fn split(&mut self) -> Result<()> {
        self.stream().split_shard_evenly(self.open_shards()[0]).map(drop)
    }

    fn merge(&mut self) -> Result<()> {
        match self.open_shards()[..] {
            [first, second, ..] => self.stream().merge_shards(first, second).map(drop),
            // It was done before.
            _ => Ok(()),
        }
    }

    fn read(&self) -> Result<Vec<u64>> {
        let mut found = vec![];
        for shard in self.stream().shards() {
            for record in self.stream().iterator(shard.id, Position::TrimHorizon)?.records() {
                found.push(u64::from_le_bytes(*record?.data.first_chunk().unwrap()));
            }
        }
        Ok(found)
    }

    /// Checks that every acknowledged record is there once, in this opening and in the next.
    fn check(&mut self, what: &str) {
        for opening in ["", ", opened again"] {
            let found = self.read().unwrap();
            let there: BTreeSet<_> = found.iter().copied().collect();
            assert_eq!(there.len(), found.len(), "{what}{opening}: a record is there twice");
            assert!(self.acknowledged.is_subset(&there), "P1: {what}{opening}: a record is missing");
            self.close().unwrap_or_else(|error| panic!("P10: {what}{opening}: {error}"));
            self.open().unwrap();
        }
    }
}

/// Runs each step of the script once with something exhausted, and everything again when there is room.
fn run_out(
    durability: Durability,
    segment_bytes: u64,
    limits: &[u64],
    run_out: impl Fn(u64) -> Box<dyn Fn()>,
    names: &[&str],
) {
    let mut refused = 0;
    for (at, (name, step)) in STEPS.into_iter().enumerate() {
        for &left in limits {
            let what = format!("{durability:?}, to {name} with {left} left");
            let scratch = common::scratch();
            let mut script = Script::new(&scratch.path().join("stream"), durability, segment_bytes);
            STEPS[..at]
                .iter()
                .for_each(|(name, step)| step(&mut script).unwrap_or_else(|error| panic!("{name}: {error}")));
            let give_back = run_out(left);
            let outcome = step(&mut script);
            give_back();
            if let Err(error) = outcome {
                let text = error.to_string();
                assert!(matches!(error, Error::Io(_)), "{what}: {error:?}");
                assert!(
                    names.iter().any(|name| text.contains(name)),
                    "{what}: the limit is not named: {text}"
                );
                assert!(error.is_retryable(), "{what}: {text}");
                refused += 1;
            }
            for (again, step) in &STEPS[at..] {
                step(&mut script).unwrap_or_else(|error| panic!("P10: {what}, then to {again}: {error}"));
            }
            script.check(&what);
        }
    }
    assert!(refused >= 4, "otherwise this proves nothing: {refused}");
}

/// Opens files until only `left` descriptors remain. Returns a guard that closes them again.
fn use_up_descriptors(left: u64) -> Box<dyn Fn()> {
    let held = std::cell::RefCell::new(vec![]);
    while let Ok(file) = File::open("/dev/null") {
        held.borrow_mut().push(file);
    }
    let keep = held.borrow().len() - left as usize;
    held.borrow_mut().truncate(keep);
    Box::new(move || held.borrow_mut().clear())
}

/// Leaves this many more bytes of address space.
fn use_up_addresses(left: u64) -> Box<dyn Fn()> {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let used = pages.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096;
    let before = getrlimit(Resource::As);
    setrlimit(Resource::As, Rlimit { current: Some(used + left), maximum: before.maximum }).unwrap();
    Box::new(move || setrlimit(Resource::As, before).unwrap())
}

fn child_of(test: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(common::child_test(module_path!())).env("STREAMLOG_LIMITS_TEST", test).output().unwrap()
}

#[track_caller]
fn succeeds(output: &Output) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
}

/// Not a test: the child whose limits are changed.
#[test]
fn child() {
    match std::env::var("STREAMLOG_LIMITS_TEST").as_deref() {
        Ok("descriptors") => {
            let maximum = getrlimit(Resource::Nofile).maximum;
            setrlimit(Resource::Nofile, Rlimit { current: Some(128), maximum }).unwrap();
            for durability in [Durability::Process, Durability::Power] {
                run_out(durability, 64 << 10, &[0, 1, 2, 3, 5], use_up_descriptors, &["ulimit -n, now 128"]);
            }
        }
        Ok("addresses") => {
            // Enough for what the step allocates, and too little for a segment.
            run_out(Durability::Process, 64 << 20, &[4 << 20, 40 << 20], use_up_addresses, &["ulimit -v"]);
        }
        Ok("threads") => {
            // A thread's stack takes 2 MiB.
            let scratch = common::scratch();
            let give_back = use_up_addresses(1 << 20);
            let error = Stream::open(scratch.path().join("stream")).unwrap_err();
            give_back();
            let text = error.to_string();
            assert!(text.contains("start the maintenance thread") && text.contains("ulimit -u"), "{text}");
            Stream::open(scratch.path().join("stream")).unwrap().put("key", "data").unwrap();
        }
        Ok("groups") => {
            let maximum = getrlimit(Resource::Nofile).maximum;
            setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
            let scratch = common::scratch();
            let stream = common::small(&common::clock()).open(scratch.path()).unwrap();
            stream.put("key", "data").unwrap();
            for number in 0..200 {
                let group = stream.group(format!("group-{number}"));
                let mut worker = group.worker().start_at(Position::TrimHorizon).open().unwrap();
                let batch = worker.poll(Duration::ZERO).unwrap().unwrap();
                worker.commit(&batch).unwrap();
                worker.close();
                assert_eq!(group.describe().unwrap().lag().record_count, 0);
            }
            stream.close().unwrap();
        }
        Ok("size") => {
            let path = std::env::var("STREAMLOG_LIMITS_PATH").unwrap();
            let stream = common::small(&common::clock()).segment_bytes(4 << 20).open(path).unwrap();
            let error = (0u64..10_000).find_map(|number| {
                let put = stream.put("key", number.to_le_bytes().repeat(100));
                put.map(|_| println!("put {number}")).err()
            });
            println!("error {}", error.unwrap());
        }
        _ => {}
    }
}

#[test]
fn p1_p10_descriptors_that_run_out_are_named_and_poison_nothing() {
    succeeds(&child_of("descriptors"));
}

#[test]
fn p1_p10_address_space_that_runs_out_is_named_and_poisons_nothing() {
    succeeds(&child_of("addresses"));
}

#[test]
fn threads_that_cannot_be_had_are_named() {
    succeeds(&child_of("threads"));
}

#[test]
fn a_group_without_workers_holds_no_descriptor() {
    succeeds(&child_of("groups"));
}

#[test]
fn p1_a_file_that_may_grow_no_further_is_named_or_ends_the_process_and_loses_nothing() {
    // The system kills a process that does not ignore its signal.
    for (before, is_killed) in [("", true), ("trap '' XFSZ; ", false)] {
        let scratch = common::scratch();
        // 1.5 MiB, in blocks of 512 bytes.
        let output = Command::new("sh")
            .args(["-c", &format!("{before}ulimit -f 3072; exec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().unwrap())
            .args(common::child_test(module_path!()))
            .env("STREAMLOG_LIMITS_TEST", "size")
            .env("STREAMLOG_LIMITS_PATH", scratch.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let put_count = text.lines().filter(|line| line.starts_with("put ")).count();
        assert_eq!(output.status.code().is_none(), is_killed, "{text}");
        assert!(is_killed || text.contains("File too large") && text.contains("ulimit -f"), "{text}");
        let stream = common::small(&common::clock()).segment_bytes(4 << 20).open(scratch.path()).unwrap();
        let there = common::read_all(&stream, ShardId::new(0)).len();
        assert!(put_count > 100 && there == put_count, "P1: {there} of {put_count}");
        stream.put("key", "data").unwrap();
    }
}

#[test]
fn segments_that_nobody_reads_take_no_mappings() {
    const SEGMENT_COUNT: usize = 300;
    const SEGMENTS_READ: usize = 1_100;
    let scratch = common::scratch();
    let open = || common::small(&common::clock()).open(scratch.path()).unwrap();
    let mapped = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let is_segment =
            |line: &&str| line.contains(scratch.path().to_str().unwrap()) && line.contains(".seg");
        maps.lines().filter(is_segment).count()
    };
    let stream = open();
    for _ in 0..SEGMENT_COUNT {
        stream.put("key", vec![7; 50_000]).unwrap();
    }
    stream.close().unwrap();

    let stream = open();
    assert_eq!(common::segment_files(scratch.path(), 0).len(), SEGMENT_COUNT);
    // Retention asks each segment for its first timestamp.
    stream.set_retention(Retention::forever().bytes_max(1 << 20)).unwrap();
    assert!(mapped() <= 2, "{} mappings to learn ages", mapped());
    drop(stream);

    let stream = open();
    stream.set_retention(Retention::forever()).unwrap();
    for number in 0..SEGMENTS_READ {
        stream.put("key", vec![7; 50_000]).unwrap();
        if number % 50 == 0 {
            stream.maintain().unwrap();
        }
    }
    stream.maintain().unwrap();
    let count = common::read_all(&stream, ShardId::new(0)).len();
    assert!(count > SEGMENTS_READ);
    stream.verify(|_| std::ops::ControlFlow::Continue(())).unwrap();
    assert!((100..1_050).contains(&mapped()), "{} mappings after {count} segments were read", mapped());
    // The first pass sees that they were used, the second that they were not used since.
    stream.maintain().unwrap();
    stream.maintain().unwrap();
    assert!(mapped() <= 2, "{} mappings that nobody uses", mapped());
}
