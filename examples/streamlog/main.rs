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
//! cargo run --release --example streamlog -- processors /tmp/clicks
//! cargo run --release --example streamlog -- queues /tmp/clicks
//! cargo run --release --features delivery --example streamlog -- deliver /tmp/clicks --to /tmp/archive --compression gzip
//! cargo run --release --features relay-kinesis --example streamlog -- relay /tmp/clicks --to-kinesis clicks --region eu-west-1
//! cargo run --release --features relay-kinesis --example streamlog -- mirror /tmp/clicks --from-kinesis clicks --region eu-west-1
//! cargo run --release --features sql --example streamlog -- sql /tmp/clicks 'SELECT _key, count(*) FROM clicks GROUP BY _key'
//! cargo run --release --features video --example streamlog -- video clip /tmp/door --last 1m -o minute.mp4
//! cargo run --release --example streamlog -- snapshot /tmp/clicks /tmp/backup
//! cargo run --release --features delivery --example streamlog -- archive /tmp/clicks --to /tmp/archive
//! ```
//!
//! Read in this order: `args` with `queue_args` and `parse` (the command line), `put` with `input`, `read` (cat and tail) with `follow`, `report`
//! (describe and verify), `snapshot`, `archive`, `change` (split, merge, scale, retention), `shards` with `picture` and `dot`, `groups` (consumer groups),
//! `processors`, `queues` with `deliveries`, `deliver`, `relay` and `mirror` with `kafka`, `sql` and `video` with the files in their directories, `output` with `table`, `standard`, `failure`.

mod archive;
mod args;
mod change;
mod deliver;
mod deliveries;
mod dot;
mod failure;
mod follow;
mod groups;
mod input;
mod kafka;
mod keys;
mod kinesis;
mod mirror;
mod output;
mod parse;
mod picture;
mod processors;
mod put;
mod queue_args;
mod queues;
mod read;
mod relay;
mod report;
mod shards;
mod snapshot;
mod sql;
mod standard;
mod table;
mod video;

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use streamlog::{Durability, Error, Maintenance, Stream, StreamOptions, StreamReader};

use args::{Args, Command, CreateArgs};
use failure::{Failure, Outcome};

/// Set by Ctrl-C.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// Set by a shell, which Ctrl-C does not end.
static IS_SHELL: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    standard::allow_many_files();
    let outcome = match Args::try_parse() {
        Ok(args) => heed_ctrl_c().and_then(|()| run(&args)),
        Err(wrong) if wrong.use_stderr() => wrong.exit(),
        Err(help) => standard::output().and_then(|_| help.print()).map_err(Failure::Output),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(args: &Args) -> Outcome {
    let key_file = args.key_file.as_deref();
    let archive = args.archive.as_deref();
    if archive.is_some() && !args.command.reads() {
        return Err(Failure::Told(
            "--archive is for commands that read records or shards: leave it out".to_owned(),
        ));
    }
    let with_reader =
        |path: &Path, work: &dyn Fn(&StreamReader) -> Outcome| with_reader(path, key_file, archive, work);
    match &args.command {
        Command::Create(args) => create(args, key_file),
        Command::Put(args) => {
            let durability = if args.power { Durability::Power } else { Durability::Process };
            let options = keys::with_keys(StreamOptions::new().durability(durability), key_file)?;
            with_stream(options.must_exist().open(&args.path)?, |stream| put::put(stream, args))
        }
        Command::Cat(args) => with_reader(&args.path, &|reader| read::cat(reader, args)),
        Command::Tail(args) => with_reader(&args.path, &|reader| read::tail(reader, args)),
        Command::Describe(args) => with_reader(&args.path, &|reader| report::describe(reader, args.json)),
        Command::Verify(args) => report::verify(args, key_file, archive),
        Command::Salvage(args) => report::salvage(&args.path),
        Command::Snapshot(args) => with_reader(&args.path, &|reader| snapshot::snapshot(reader, args)),
        Command::Archive(args) => archive::archive(args, key_file),
        Command::Restore(args) => archive::restore(args),
        Command::Shards(args) => with_reader(&args.path, &|reader| shards::list(reader, args)),
        Command::Split(args) => with_stream(open(&args.path)?, |stream| change::split(stream, args)),
        Command::Merge(args) => with_stream(open(&args.path)?, |stream| change::merge(stream, args)),
        Command::Scale(args) => with_stream(open(&args.path)?, |stream| change::scale(stream, args)),
        Command::Retention(args) if args.changes_nothing() => {
            with_reader(&args.path, &|reader| change::print_retention(reader, args.json))
        }
        Command::Retention(args) => with_stream(open(&args.path)?, |stream| change::retention(stream, args)),
        Command::Groups(args) => with_reader(&args.path, &|reader| groups::list(reader, args)),
        Command::Lag(args) => with_reader(&args.path, &|reader| groups::lag(reader, args)),
        Command::Consume(args) => with_reader(&args.path, &|reader| groups::consume(reader, args)),
        Command::Reset(args) => with_reader(&args.path, &|reader| groups::reset(reader, args)),
        Command::DeleteGroup(args) => match open(&args.path) {
            // Only the process that has the stream open can end a hold on retention.
            Ok(stream) => with_stream(stream, |stream| groups::delete(&stream.group(&args.group))),
            Err(Error::Locked(_)) => {
                with_reader(&args.path, &|reader| groups::delete(&reader.group(&args.group)))
            }
            Err(error) => Err(error.into()),
        },
        Command::Deliver(args) => with_reader(&args.path, &|reader| deliver::deliver(reader, args)),
        Command::Relay(args) => with_reader(&args.path, &|reader| relay::relay(reader, args)),
        Command::Mirror(args) => mirror::mirror(args, key_file),
        Command::Mirrors(args) => with_reader(&args.path, &|reader| mirror::print(reader, args)),
        Command::Processors(args) => with_reader(&args.path, &|reader| processors::print(reader, args)),
        Command::Queues(args) => with_reader(&args.path, &|reader| queues::print(reader, args)),
        Command::DeadLetters(args) => {
            with_reader(&args.queue.path, &|reader| deliveries::dead_letters(reader, args))
        }
        Command::Receive(args) => with_reader(&args.queue.path, &|reader| deliveries::receive(reader, args)),
        Command::Acknowledge(args) => {
            with_reader(&args.queue.path, &|reader| deliveries::acknowledge(reader, args))
        }
        Command::Release(args) => with_reader(&args.queue.path, &|reader| deliveries::release(reader, args)),
        Command::RestoreDeadLetters(args) => {
            with_reader(&args.queue.path, &|reader| deliveries::restore(reader, args))
        }
        Command::Purge(args) => with_reader(&args.queue.path, &|reader| queues::purge(reader, args)),
        Command::DeleteQueue(args) => match open(&args.queue.path) {
            // Only the process that has the stream open can end a hold on retention.
            Ok(stream) => with_stream(stream, |stream| queues::delete(stream, &args.queue)),
            Err(Error::Locked(_)) => {
                with_reader(&args.queue.path, &|reader| queues::delete(reader, &args.queue))
            }
            Err(error) => Err(error.into()),
        },
        Command::Sql(args) => sql::sql(args, key_file, archive),
        Command::Video(args) => video::video(args, key_file),
        Command::NewKey(args) => keys::new_key(args),
        Command::RotateKey(args) => {
            let options = keys::with_keys(StreamOptions::new(), key_file)?.maintenance(Maintenance::Manual);
            with_stream(options.must_exist().open(&args.path)?, |stream| Ok(stream.rotate_key()?))
        }
    }
}

fn create(args: &CreateArgs, key_file: Option<&Path>) -> Outcome {
    let options = keys::with_keys(StreamOptions::new(), key_file)?
        .shards(args.shards)
        .key_hash(args.key_hash.into())
        .retention(args.retention())
        .segment_bytes(args.segment_bytes)
        .file_mode(args.file_mode)
        .compression(args.compression);
    Ok(options.must_be_new().open(&args.path)?.close()?)
}

/// Opens a stream for commands that change it without putting. It runs without maintenance, so that only a change of the retention removes old
/// records.
fn open(path: &Path) -> streamlog::Result<Stream> {
    StreamOptions::new().maintenance(Maintenance::Manual).must_exist().open(path)
}

/// Works with a stream that another process may have open, without changing it.
fn with_reader(
    path: &Path,
    key_file: Option<&Path>,
    archive: Option<&str>,
    work: impl FnOnce(&StreamReader) -> Outcome,
) -> Outcome {
    let options = keys::with_keys(StreamOptions::new(), key_file)?;
    let reader = archive::with_archive(options, archive)?.open_reader(path)?;
    report::warn_of_permissions(path);
    work(&reader)
}

/// Works with a stream, and closes it even if the work fails. If both fail, returns the failure of the work.
fn with_stream(stream: Stream, work: impl FnOnce(&Stream) -> Outcome) -> Outcome {
    report::warn_of_recovery(&stream);
    let outcome = work(&stream);
    let closed = stream.close();
    outcome.and_then(|()| Ok(closed?))
}

/// The first Ctrl-C requests an orderly end; the second ends the process immediately.
fn heed_ctrl_c() -> Outcome {
    let on_signal = || {
        if INTERRUPTED.swap(true, Ordering::Relaxed) && !IS_SHELL.load(Ordering::Relaxed) {
            std::process::exit(failure::EXIT_INTERRUPTED.into());
        }
    };
    ctrlc::set_handler(on_signal).map_err(|error| Failure::Told(format!("cannot handle Ctrl-C: {error}")))
}

/// Returns an error after Ctrl-C, so that loops end with `?`.
fn check_interrupted() -> Outcome {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
}
