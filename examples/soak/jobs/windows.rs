//! The processor with lanes and tumbling windows: its function notes which records it has counted in a window, and sometimes fails.

use std::time::Duration;

use streamlog::{Destination, Discarded, Invocation, Record, Response, SECOND, Stream, StreamReader};

use super::note::Note;
use super::record::{Job, good_from};
use super::{HOLD_BYTES, Tell, WindowsId};
use crate::board::{Board, Outcome, end_with, unexpected};
use crate::plan::Random;

const WINDOW: Duration = SECOND;
const TIME_LIMIT: Duration = SECOND;
/// The maximum number of random failures in a row, so that only bad records are given up.
const RANDOM_ATTEMPTS_MAX: u32 = 3;
const RETRIES: u32 = 8;

/// Consecutive counted records of a key: the key, their run, the first number, the last one, and the count.
pub(crate) type Tally = [u64; 5];

/// Runs the processor until the process must stop. Sometimes stops it and starts it with other settings.
pub(super) fn run(
    reader: &StreamReader,
    id: WindowsId,
    own: Option<&Stream>,
    board: &Board,
    tell: &'static Tell,
) -> Outcome {
    let mut random = board.random(18 + id.0 as u64);
    while !board.must_stop() {
        let options = match own {
            Some(stream) => stream.processor(id.name()).hold(HOLD_BYTES),
            None => reader.processor(id.name()),
        };
        let options = options
            .tumbling_window(WINDOW)
            .parallelization_factor(random.between(1, 4) as usize)
            .batch_size(random.between(1, 200) as usize)
            .maximum_batching_window(Duration::from_millis(random.below(40)))
            .bisect_batch_on_function_error(true)
            .maximum_retry_attempts(RETRIES)
            .backoff(Duration::from_millis(1), Duration::from_millis(10))
            .time_limit(TIME_LIMIT)
            .on_failure(Destination::function(move |discarded| give_up(discarded, id, tell)));
        let seed = random.next();
        let processor = options
            .start_with_state(move |invocation, tallies| count(invocation, tallies, id, seed, tell))
            .map_err(unexpected("L1 L2", "a processor does not start"))?;
        board.sleep(Duration::from_millis(random.between(500, 6_000)));
        // The processor may report skipped records: those of a closed shard that expired after all its records were done, when nobody
        // remembers how many it had. The numbers show that none is missing.
        if processor.is_over() {
            return Err(format!("L1: a processor has ended by itself: {:?}", processor.stats()));
        }
        processor.close().map_err(unexpected("L1", "a processor does not close"))?;
    }
    Ok(())
}

fn job_of(record: &Record<'_>) -> Job {
    Job::of(record.partition_key(), record.data()).unwrap_or_else(|violation| end_with(&violation))
}

/// Counts the records of a batch, or reports what a window has counted.
fn count(
    invocation: &Invocation,
    tallies: &mut Vec<Tally>,
    id: WindowsId,
    seed: u64,
    tell: &'static Tell,
) -> Response {
    let first = invocation.records().next().map_or(0, |record| record.sequence().get());
    let mut random = Random::new(seed, [first, invocation.attempt().into()]);
    let may_fail = invocation.attempt() <= RANDOM_ATTEMPTS_MAX;
    if may_fail && random.one_in(20) {
        return Response::failed("at random");
    }
    if may_fail && random.one_in(1_000) {
        // Exceeds the time limit, so the answer of this call does not count.
        std::thread::sleep(TIME_LIMIT + TIME_LIMIT / 4);
        return Response::done();
    }
    let Some(window) = invocation.window() else { end_with(&"L2: a call has no window") };
    if window.is_final {
        let (shard, start_micros) = (invocation.shard(), window.start.as_micros());
        tell(Note::Window { id, shard, start_micros, tallies: tallies.clone() });
        return Response::done();
    }
    // Either the whole batch fails, or a part of it is done.
    let is_partial = random.one_in(2);
    for record in invocation.records() {
        let (job, arrival) = (job_of(&record), record.timestamp());
        // A put that was interrupted between taking the time and writing the record may be seen only after its window has ended. It counts in the
        // next one.
        if arrival >= window.end {
            end_with(&format!("L2: {job:?} arrived at {arrival}, and is in the window {window:?}"));
        }
        if job.is_bad() {
            return if is_partial {
                Response::failed_from(record.sequence())
            } else {
                Response::failed("a bad record")
            };
        }
        add(tallies, job);
    }
    Response::done()
}

fn add(tallies: &mut Vec<Tally>, job: Job) {
    let (key, run, count) = (u64::from(job.key), u64::from(job.number.run), job.number.count);
    let last = tallies.iter_mut().rfind(|tally| tally[0] == key);
    match last {
        Some([_, known, _, last, counted]) if *known == run => {
            if good_from(*last + 1) != count {
                end_with(&format!("L2 L3: {job:?} comes after number {last} of the same run in a window"));
            }
            (*last, *counted) = (count, *counted + 1);
        }
        _ => tallies.push([key, run, count, count, 1]),
    }
}

fn give_up(discarded: &Discarded, id: WindowsId, tell: &'static Tell) -> Result<(), String> {
    tell(Note::GivenUp { id, jobs: discarded.records().map(|record| job_of(&record)).collect() });
    // The destination also fails.
    if discarded.time().as_micros().is_multiple_of(16) { Err("at random".to_owned()) } else { Ok(()) }
}
