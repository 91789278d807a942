//! `streamlog`: a command-line tool over the library, and an example of everything that a program does with a stream: create it, put into
//! it in batches, read it, follow it, describe it, verify it, back it up, reshard it, drop old records.
//!
//! ```text
//! cargo run --release --example streamlog -- create /tmp/clicks --shards 4
//! cargo run --release --example streamlog -- put /tmp/clicks access.log --key-column 1
//! cargo run --release --example streamlog -- cat /tmp/clicks --json | head -3
//! cargo run --release --example streamlog -- describe /tmp/clicks
//! cargo run --release --example streamlog -- split /tmp/clicks 0
//! cargo run --release --example streamlog -- shards /tmp/clicks
//! cargo run --release --example streamlog -- consume /tmp/clicks billing
//! cargo run --release --example streamlog -- snapshot /tmp/clicks /tmp/backup
//! ```
//!
//! Read in this order: `args` and `parse` (the command line), `put` with `input`, `read` (cat and tail), `report` (describe and verify), `snapshot`, `change`
//! (split, merge, scale, retention), `shards` with `picture` and `dot`, `groups` (consumer groups), `output`, `standard`, `failure`.

mod args;
mod change;
mod dot;
mod failure;
mod groups;
mod input;
mod output;
mod parse;
mod picture;
mod put;
mod read;
mod report;
mod shards;
mod snapshot;
mod standard;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use streamlog::{Durability, Maintenance, Stream, StreamOptions};

use args::{Args, Command, CreateArgs};
use failure::{Failure, Outcome};

/// Set by Ctrl-C.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let outcome = match Args::try_parse() {
        Ok(args) => heed_ctrl_c().and_then(|()| run(args.command)),
        Err(wrong) if wrong.use_stderr() => wrong.exit(),
        Err(help) => standard::output().and_then(|_| help.print()).map_err(Failure::Output),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Create(args) => create(&args),
        Command::Put(args) => {
            let durability = if args.power { Durability::Power } else { Durability::Process };
            let options = StreamOptions::new().durability(durability);
            with_stream(options.must_exist().open(&args.path)?, |stream| put::put(stream, &args))
        }
        Command::Cat(args) => with_stream(open(&args.path)?, |stream| read::cat(stream, &args)),
        Command::Tail(args) => with_stream(open(&args.path)?, |stream| read::tail(stream, &args)),
        Command::Describe(args) => {
            with_stream(open(&args.path)?, |stream| report::describe(stream, args.json))
        }
        Command::Verify(args) => report::verify(&args),
        Command::Salvage(args) => report::salvage(&args.path),
        Command::Snapshot(args) => with_stream(open(&args.path)?, |stream| snapshot::snapshot(stream, &args)),
        Command::Shards(args) => with_stream(open(&args.path)?, |stream| shards::list(stream, &args)),
        Command::Split(args) => with_stream(open(&args.path)?, |stream| change::split(stream, &args)),
        Command::Merge(args) => with_stream(open(&args.path)?, |stream| change::merge(stream, &args)),
        Command::Scale(args) => with_stream(open(&args.path)?, |stream| change::scale(stream, &args)),
        Command::Retention(args) => with_stream(open(&args.path)?, |stream| change::retention(stream, &args)),
        Command::Groups(args) => with_stream(open(&args.path)?, |stream| groups::list(stream, &args)),
        Command::Lag(args) => with_stream(open(&args.path)?, |stream| groups::lag(stream, &args)),
        Command::Consume(args) => with_stream(open(&args.path)?, |stream| groups::consume(stream, &args)),
        Command::Reset(args) => with_stream(open(&args.path)?, |stream| groups::reset(stream, &args)),
        Command::DeleteGroup(args) => with_stream(open(&args.path)?, |stream| groups::delete(stream, &args)),
    }
}

fn create(args: &CreateArgs) -> Outcome {
    let options = StreamOptions::new()
        .shards(args.shards)
        .key_hash(args.key_hash.into())
        .retention(args.retention())
        .segment_bytes(args.segment_bytes)
        .compression(args.compression);
    Ok(options.must_be_new().open(&args.path)?.close()?)
}

/// Opens a stream for commands that do not put. It runs without maintenance, so that looking at a stream never removes old records.
fn open(path: &std::path::Path) -> streamlog::Result<Stream> {
    StreamOptions::new().maintenance(Maintenance::Manual).must_exist().open(path)
}

/// Works with a stream, and closes it even if the work fails. If both fail, returns the failure of the work.
fn with_stream(stream: Stream, work: impl FnOnce(&Stream) -> Outcome) -> Outcome {
    report::warn_of_recovery(&stream);
    let outcome = work(&stream);
    let closed = stream.close();
    outcome.and_then(|()| Ok(closed?))
}

/// The first Ctrl-C requests an orderly end; the second ends the process at once.
fn heed_ctrl_c() -> Outcome {
    let on_signal = || {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(failure::EXIT_INTERRUPTED.into());
        }
    };
    ctrlc::set_handler(on_signal).map_err(|error| Failure::Told(format!("cannot heed Ctrl-C: {error}")))
}

/// Returns an error after Ctrl-C, so that loops end with `?`.
fn check_interrupted() -> Outcome {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
}
