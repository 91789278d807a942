//! The library under siege: a supervisor starts a worker that puts, reads, reshards, syncs and trims all at
//! once, kills it at random moments, starts it again, and holds what is left against what was promised.
//!
//! ```text
//! cargo run --release --example soak -- --minutes 10
//! cargo run --release --example soak -- --minutes 600 --durability power --kill-every 60 --dir /data/soak
//! ```
//!
//! It ends with code 0 and a summary, or at the first broken promise with code 1; then the directory stays.
//! Each line of the report covers the ten seconds before it. The seed decides what the worker's threads draw,
//! but not how they meet: a violation that depends on that may take several runs to show again.
//!
//! Read in this order: `plan` (what each run is like) and `record` (how a record proves itself), then the
//! worker's side: `worker` (its threads: **a new part of the library joins in there**), `writer`, `reader`
//! with `order`, `consumer`, `keeper`, `board`; `message` is what it tells the supervisor; then the
//! supervisor's side: `supervisor`, `ledger` (what was promised), `group` (what a consumer group has handled),
//! `check` (what is there), `report`.

mod board;
mod check;
mod consumer;
mod group;
mod keeper;
mod ledger;
mod message;
mod order;
mod plan;
mod reader;
mod record;
mod report;
mod supervisor;
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

/// Puts, reads, reshards and trims a stream, kills the process that does it again and again, and checks every
/// promise.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// How long, in minutes; 0.1 is six seconds
    #[arg(long, default_value_t = 1.0, value_name = "N", value_parser = positive)]
    minutes: f64,
    /// An empty directory for the stream, which stays; a temporary one if not given
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
    /// Threads that put, each with keys of its own
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    writers: u16,
    /// Shards to begin with; there will be 1 to 16
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    shards: u32,
    /// What a returned put survives; mixed changes it from run to run
    #[arg(long, default_value = "mixed", value_name = "D")]
    durability: DurabilityArg,
    /// What the dice begin with; drawn from the clock if not given
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// How long a worker lives on average
    #[arg(long, default_value_t = 8.0, value_name = "SECONDS", value_parser = positive)]
    kill_every: f64,
    /// MiB that are put each second, all writers together
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    rate: u64,
    /// Round and run: this process is a worker
    #[arg(long, hide = true, num_args = 2)]
    worker: Option<Vec<u32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DurabilityArg {
    Process,
    Power,
    Mixed,
}

/// No more than hundreds of days, in whatever unit.
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
    if let Some([round, run]) = args.worker.as_deref() {
        return worker::main(&args, *round, *run);
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

/// Prints a line, also to a pipe that nobody reads any more.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
