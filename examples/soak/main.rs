//! A stress test of the library: a supervisor starts a worker that puts, reads, reshards, syncs and trims at the same time. It kills the
//! worker at random moments, starts it again, and checks the stream against the promises.
//!
//! Beside the worker, visitors read the stream in processes of their own: one follows all shards, one reads here and there and keeps what
//! it has read, one runs the workers of a consumer group, and one a processor and queues. They live across many lives of the worker, and are
//! killed in turn.
//!
//! A second stream, `jobs`, has records that must each count exactly once: in the tumbling windows of processors with lanes, whose functions fail,
//! hang and give up, and in queues, whose workers forget records and give them back.
//!
//! ```text
//! cargo run --release --example soak -- --minutes 10
//! cargo run --release --example soak -- --minutes 600 --durability power --kill-every 60 --dir /data/soak
//! ```
//!
//! It exits with code 0 and a summary, or at the first broken promise with code 1; then it keeps the directory. Each line of the report
//! covers the ten seconds before it. The seed determines the random choices of the worker's threads, but not their interleaving: a
//! violation that depends on the interleaving may take several runs to reproduce.
//!
//! Read in this order: `plan` (the settings of each run) and `record` (how a record proves its origin), then the worker's side: `worker`
//! (its threads: **add a new part of the library there**), `writer`, `reader` with `order` and `held`, `consumer`, `keeper`, `board`; then
//! the visitors: `visitor`, `follower`, `seeker`; `jobs` for both sides; `message` is what all of them report to the supervisor; then the supervisor's side:
//! `supervisor`, `process`, `visitors`, `ledger` (the promises), `course` (how far a reader is), `group` (what a consumer group has
//! handled), `check` (what the stream contains), `report`.

mod board;
mod check;
mod consumer;
mod course;
mod follower;
mod group;
mod held;
mod jobs;
mod keeper;
mod ledger;
mod message;
mod order;
mod plan;
mod process;
mod reader;
mod record;
mod report;
mod seeker;
mod supervisor;
mod visitor;
mod visitors;
mod worker;
mod writer;

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Parser, ValueEnum};
use streamlog::Timestamp;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Puts, reads, reshards and trims a stream, kills the processes that do it again and again, and checks every promise.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// How long to run, in minutes; 0.1 is six seconds
    #[arg(long, default_value_t = 1.0, value_name = "N", value_parser = positive)]
    minutes: f64,
    /// An empty directory for the streams, which are kept; a temporary directory if not given
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
    /// Number of threads that put, each with its own keys
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    writers: u16,
    /// Shards at the start; later the stream has 1 to 16
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    shards: u32,
    /// What a returned put survives; mixed changes it from run to run
    #[arg(long, default_value = "mixed", value_name = "D")]
    durability: DurabilityArg,
    /// The seed of the random choices; taken from the clock if not given
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// The average lifetime of a worker; a visitor lives three times as long
    #[arg(long, default_value_t = 8.0, value_name = "SECONDS", value_parser = positive)]
    kill_every: f64,
    /// MiB to put per second over all writers; in one run of four, four times as many
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    rate: u64,
    /// Makes this process a worker, or a visitor
    #[arg(long, hide = true)]
    role: Option<Role>,
    /// The round of a worker
    #[arg(long, hide = true, default_value_t = 0)]
    round: u32,
    /// The run of a worker, or the number of a visitor
    #[arg(long, hide = true, default_value_t = 0)]
    run: u32,
}

/// The role of a process that the supervisor starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Role {
    /// Opens the stream and changes it.
    Worker,
    /// A visitor that follows all shards.
    Follower,
    /// A visitor that reads at random places, and keeps what it has read.
    Seeker,
    /// A visitor in which the workers of a consumer group run.
    Group,
    /// A visitor with a processor and workers of queues.
    Jobs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DurabilityArg {
    Process,
    Power,
    Mixed,
}

impl Args {
    /// Returns the path of the stream.
    fn stream_path(&self) -> std::result::Result<PathBuf, String> {
        Ok(self.dir.as_deref().ok_or("there is no directory")?.join("stream"))
    }

    /// Returns the path of the stream of jobs.
    fn jobs_path(&self) -> std::result::Result<PathBuf, String> {
        Ok(self.dir.as_deref().ok_or("there is no directory")?.join("jobs"))
    }

    /// Returns the number of keys of all writers.
    fn key_count(&self) -> record::KeyIndex {
        self.writers * record::KEYS_PER_WRITER
    }
}

/// Parses a positive number of at most hundreds of days in any unit.
fn positive(text: &str) -> std::result::Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if number > 0.0 && number <= 1e6 {
        Ok(number)
    } else {
        Err(format!("{text} is not within 0 and 1000000"))
    }
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    match args.role {
        Some(Role::Worker) => return worker::main(&args),
        Some(role) => return visitor::main(&args, role),
        None => {}
    }
    args.seed.get_or_insert(now().as_micros() % 1_000_000);
    match supervisor::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("soak: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

/// Prints a line, and ignores a pipe whose reader is gone.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
