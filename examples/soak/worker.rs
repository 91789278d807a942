//! The process that gets killed: it opens the stream and runs all its threads on it.

use std::io::Read;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use streamlog::{Stream, StreamReader};

use super::board::{Board, Outcome, end_with};
use super::consumer::{Committed, Consumer, WORKER_COUNT};
use super::group::INSIDE;
use super::jobs::Jobs;
use super::message::Message;
use super::plan::Plan;
use super::writer::Writer;
use super::{Args, Result, Role, keeper, reader, say};

/// The interval at which the worker reports its promises to the supervisor.
const PROMISE_INTERVAL: Duration = Duration::from_millis(50);
/// The worker reports its counters once per this many intervals.
const COUNTERS_EVERY: u32 = 10;

/// A thread of the worker, or of a visitor.
pub(crate) type Part<'a> = Box<dyn FnOnce() -> Outcome + Send + 'a>;

/// Returns what a worker does concurrently. Add every new use of a stream here.
fn parts<'a>(
    stream: &'a Stream,
    jobs: &'a Jobs,
    board: &'a Board,
    committed: &'a Committed,
) -> Vec<(String, Part<'a>)> {
    let mut parts: Vec<(String, Part<'a>)> = jobs.parts(board);
    for writer in 0..board.args.writers {
        let run = move || Writer::new(stream, board, writer)?.run();
        parts.push((format!("writer {writer}"), Box::new(run)));
    }
    let (from, to) = WORKER_COUNT.into_inner();
    for thread in 0..board.random(8).between(from, to) {
        let consumer = Consumer::new(stream, stream.group(INSIDE), board, committed, thread);
        parts.push((format!("consumer {thread}"), Box::new(move || consumer.run())));
    }
    let mut add = |name: &str, part: fn(&Stream, &Board) -> Outcome| {
        parts.push((name.into(), Box::new(move || part(stream, board))));
    };
    add("resharder", keeper::reshard);
    add("maintainer", keeper::maintain);
    let mut add_reader = |name: &str, part: fn(&StreamReader, &Board) -> Outcome| {
        parts.push((name.into(), Box::new(move || part(stream, board))));
    };
    add_reader("tailing reader", reader::tail);
    add_reader("lineage reader", reader::wander_over_lineage);
    add_reader("shard reader", reader::wander_over_shards);
    parts
}

pub(crate) fn main(args: &Args) -> ExitCode {
    main_of(|| work(args, Plan::new(args, args.round, args.run)))
}

/// Runs what a process does for the supervisor.
pub(crate) fn main_of(work: impl FnOnce() -> Result<()>) -> ExitCode {
    // A panic in the library also breaks a promise.
    std::panic::set_hook(Box::new(|panic| end_with(&format!("P11: {panic}"))));
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end_with(&error),
    }
}

fn work(args: &Args, plan: Plan) -> Result<()> {
    let board = Board::new(args, Role::Worker, plan)?;
    let path = args.stream_path()?;
    let began = Instant::now();
    let stream =
        board.plan.options(args).open(path).map_err(|error| format!("the stream does not open: {error}"))?;
    say(&Message::Opened { micros: began.elapsed().as_micros() as u64 }.to_string());
    let committed = Committed::of(&stream, &stream.group(INSIDE))?;
    let jobs = Jobs::open(args, &board.plan)?;
    run(&board, parts(&stream, &jobs, &board, &committed));
    say(&board.promises().to_string());
    jobs.close()?;
    stream.close().map_err(|error| format!("P10: the stream does not close: {error}"))?;
    say(&Message::Closed.to_string());
    Ok(())
}

/// Runs the threads of a process until it must stop, and reports what they do.
pub(crate) fn run<'a>(board: &Board, parts: Vec<(String, Part<'a>)>) {
    thread::scope(|scope| {
        // The end of standard input means that the supervisor closed it or is gone. Then it is time to stop.
        scope.spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut vec![]);
            board.stop();
        });
        for (name, part) in parts {
            scope
                .spawn(move || part().unwrap_or_else(|violation| end_with(&format!("{violation} [{name}]"))));
        }
        let mut interval = 0;
        while !board.must_stop() {
            thread::sleep(PROMISE_INTERVAL);
            board.check_threads().unwrap_or_else(|violation| end_with(&violation));
            if board.is_worker() {
                say(&board.promises().to_string());
            }
            interval += 1;
            if interval % COUNTERS_EVERY == 0 {
                say(&board.take_counters().to_string());
            }
        }
    });
}
