//! A process that reads the stream beside the worker, and outlives many workers.

use std::process::ExitCode;
use std::time::Instant;

use streamlog::StreamReader;

use super::board::Board;
use super::consumer::{Committed, Consumer, WORKER_COUNT};
use super::group::OUTSIDE;
use super::jobs::Jobs;
use super::message::Message;
use super::plan::Plan;
use super::worker::{Part, main_of, run};
use super::{Args, Result, Role, follower, say, seeker};

/// Returns what a visitor does concurrently.
fn parts<'a>(
    role: Role,
    stream: &'a StreamReader,
    board: &'a Board,
    committed: &'a Committed,
    jobs: Option<&'a Jobs>,
) -> Vec<(String, Part<'a>)> {
    match role {
        Role::Worker => vec![],
        Role::Jobs => jobs.map_or(vec![], |jobs| jobs.parts(board)),
        Role::Follower => vec![("outside follower".into(), Box::new(|| follower::follow(stream, board)))],
        Role::Seeker => vec![("outside seeker".into(), Box::new(|| seeker::seek(stream, board)))],
        Role::Group => {
            let (from, to) = WORKER_COUNT.into_inner();
            let consumer = |thread| Consumer::new(stream, stream.group(OUTSIDE), board, committed, thread);
            let threads = (0..board.random(8).between(from, to)).map(|thread| (thread, consumer(thread)));
            let part = |(thread, consumer): (u64, Consumer<'a>)| -> (String, Part<'a>) {
                (format!("outside consumer {thread}"), Box::new(move || consumer.run()))
            };
            threads.map(part).collect()
        }
    }
}

pub(crate) fn main(args: &Args, role: Role) -> ExitCode {
    main_of(|| visit(args, role))
}

fn visit(args: &Args, role: Role) -> Result<()> {
    let board = Board::new(args, role, Plan::of_visitor(args, args.run))?;
    let path = args.stream_path()?;
    let began = Instant::now();
    let stream = StreamReader::open(path)
        .map_err(|error| format!("P6 L8: the stream does not open for reading: {error}"))?;
    say(&Message::Opened { micros: began.elapsed().as_micros() as u64 }.to_string());
    let committed = match role {
        Role::Group => Committed::of(&stream, &stream.group(OUTSIDE))?,
        _ => Committed::default(),
    };
    let jobs = if role == Role::Jobs { Some(Jobs::visit(&args.jobs_path()?)?) } else { None };
    run(&board, parts(role, &stream, &board, &committed, jobs.as_ref()));
    jobs.map_or(Ok(()), Jobs::close)?;
    say(&board.take_counters().to_string());
    say(&Message::Closed.to_string());
    Ok(())
}
