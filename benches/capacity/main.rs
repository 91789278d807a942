//! The capacity of one machine: each curve ends where the machine does. `docs/SCALING.md` interprets the results.
//!
//! ```sh
//! cargo bench --features gateway --bench capacity                              # all parts, about 8 minutes
//! cargo bench --features gateway --bench capacity -- puts readers              # some of them
//! cargo bench --features gateway --bench capacity -- --charts docs/charts      # and draws the curves there
//! ```
//!
//! `--dir DIRECTORY` names the disk to measure, `--keep-gib N` how much of it stays free (15): points that need more are left out, and say
//! so. `--rounds N` takes the best of so many rounds for each rate (1), for a machine that others use, too. `--gib N` is how much `retained`
//! keeps at most (10). `--segment-kib N` makes the segments of `shards` and `streams` smaller, and with them the room on the disk that each shard
//! takes. The parts are `disk`, `puts`, `threads`, `power`, `sustained`, `readers`, `followers`, `shards`, `streams`,
//! `retained`, and `gateway` with the feature of that name.
//!
//! A column says how many processors a point kept busy, in the program and in the system. With all of them busy, processors are what
//! ends a curve; with few of them, it is the disk or a lock. Points whose memory counts run in processes of their own.

#[path = "../chart/mod.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "other benchmarks draw the other kinds")]
mod chart;
#[cfg(feature = "gateway")]
mod gateway;
mod machine;
mod many;
mod puts;
mod readers;
mod report;

use std::path::PathBuf;

use report::Report;
use streamlog::{PutRecord, Stream};

/// The settings that all parts share.
#[derive(Debug)]
pub(crate) struct Setting {
    /// A directory on the disk to measure, empty at the start of each part.
    pub(crate) scratch: PathBuf,
    /// How many bytes of the disk stay free.
    pub(crate) keep_bytes: u64,
    /// The maximum that `retained` keeps.
    pub(crate) retained_bytes: u64,
    /// The segments of `shards` and `streams`.
    pub(crate) segment_bytes: u64,
    /// How often a rate is measured. The best counts, because other load can only slow it down.
    pub(crate) rounds: usize,
    pub(crate) report: Report,
}

impl Setting {
    /// Returns the best of all rounds, by a rate.
    pub(crate) fn best<T>(&self, rate: impl Fn(&T) -> f64, measure: impl FnMut() -> T) -> T {
        let rounds = std::iter::repeat_with(measure).take(self.rounds);
        rounds.max_by(|one, other| rate(one).total_cmp(&rate(other))).expect("at least one round")
    }

    /// Returns whether the disk has room for this many bytes, and prints a note if not.
    pub(crate) fn has_room(&self, bytes: u64, what: &str) -> bool {
        let free = machine::free_bytes(&self.scratch);
        let has_room = free >= bytes + self.keep_bytes;
        if !has_room {
            println!("\n{what} is left out: it takes {} MiB, and {} MiB are free", bytes >> 20, free >> 20);
        }
        has_room
    }
}

/// Puts a batch, and checks that all of it was put.
pub(crate) fn put_all(stream: &Stream, records: &[PutRecord<'_>]) {
    let outcomes = stream.put_batch(records).expect("a batch");
    assert!(outcomes.iter().all(Result::is_ok), "the disk is full");
}

type Part = (&'static str, fn(&Setting));

fn parts() -> Vec<Part> {
    vec![
        ("disk", puts::disk),
        ("puts", puts::by_size),
        ("threads", puts::by_threads),
        ("power", puts::durable),
        ("sustained", puts::sustained),
        ("readers", readers::catching_up),
        ("followers", readers::following),
        ("shards", many::shards),
        ("streams", many::streams),
        ("retained", many::retained),
        #[cfg(feature = "gateway")]
        ("gateway", gateway::requests),
    ]
}

fn main() {
    machine::raise_file_limit();
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench").peekable();
    if args.next_if(|arg| arg == "child").is_some() {
        let args: Vec<String> = args.collect();
        return match &*args[0] {
            "reader" => readers::be_reader(&args[1..]),
            "point" => many::be_point(&args[1..]),
            other => panic!("no child does {other:?}"),
        };
    }
    let (mut base, mut charts, mut keep_gib, mut gib, mut names) = (None, None, 15, 10, vec![]);
    let (mut rounds, mut segment_kib) = (1, 64 << 10);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match &*arg {
            "--dir" => base = Some(PathBuf::from(value())),
            "--charts" => charts = Some(PathBuf::from(value())),
            "--keep-gib" => keep_gib = value().parse().expect("a number of GiB"),
            "--rounds" => rounds = value().parse().expect("a number of rounds"),
            "--segment-kib" => segment_kib = value().parse().expect("a number of KiB"),
            "--gib" => gib = value().parse().expect("a number of GiB"),
            _ => names.push(arg),
        }
    }
    let parts = parts();
    for name in &names {
        assert!(parts.iter().any(|(part, _)| part == name), "no part is called {name:?}");
    }
    let scratch = base.map_or_else(tempfile::tempdir, tempfile::tempdir_in).expect("a directory to work in");
    println!("{}", machine::describe(scratch.path()));
    machine::warm_memory(scratch.path());
    for (name, work) in parts {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        let directory = scratch.path().join(name);
        std::fs::create_dir(&directory).expect("a directory");
        work(&Setting {
            scratch: directory.clone(),
            keep_bytes: keep_gib << 30,
            retained_bytes: gib << 30,
            segment_bytes: segment_kib << 10,
            rounds,
            report: Report::new(charts.clone()),
        });
        machine::clear(&directory);
    }
}
