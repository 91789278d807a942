//! A worker of a queue: it does most records, gives some back, forgets some, and cannot do the bad ones.

use std::time::Duration;

use streamlog::{Error, Queue, QueueRecord, ReceiptHandle};

use super::note::Note;
use super::record::Job;
use super::{QueueId, RECEIVES_MAX, Tell, VISIBILITY_TIMEOUT};
use crate::board::{Board, Outcome, unexpected};
use crate::plan::Random;

/// A good record is done once it was delivered this often. So only bad ones become dead letters, unless the process is killed
/// again and again.
const DONE_AT: u32 = 3;

/// Works until the process must stop.
pub(super) fn run(queue: &Queue, id: QueueId, board: &Board, tell: &Tell, number: u64) -> Outcome {
    let mut random = board.random(32 + 4 * id.side as u64 + 2 * u64::from(id.is_ordered) + number);
    let failed = |error| format!("L1: the queue {}: {error}", id.name());
    while !board.must_stop() {
        let wait = Duration::from_millis(random.below(50));
        let records = queue.receive(random.between(1, 64) as usize, wait).map_err(failed)?;
        handle(&records, queue, id, &mut random, tell)?;
        if random.one_in(8) {
            bury(queue, id, tell)?;
        }
        if random.one_in(64) {
            let described = queue.describe().map_err(failed)?;
            if described.lost_count > 0 {
                return Err(format!("P9: damage took records of a queue: {described:?}"));
            }
        }
    }
    Ok(())
}

fn handle(records: &[QueueRecord], queue: &Queue, id: QueueId, random: &mut Random, tell: &Tell) -> Outcome {
    if records.is_empty() {
        return Ok(());
    }
    let mut jobs = vec![];
    for record in records {
        let job = Job::of(&record.record.partition_key, &record.record.data)?;
        if record.receive_count > RECEIVES_MAX {
            return Err(format!("L5: {job:?} was handed out {} times", record.receive_count));
        }
        jobs.push((job, record.receive_count));
    }
    tell(Note::Taken { id, jobs: jobs.clone() });
    if random.one_in(100) {
        // Another worker gets them meanwhile.
        std::thread::sleep(VISIBILITY_TIMEOUT + VISIBILITY_TIMEOUT / 4);
    }
    let mut done = vec![];
    for (record, (job, receives)) in records.iter().zip(jobs) {
        let is_urgent = receives >= DONE_AT && !job.is_bad();
        let outcome = match random.below(100) {
            // Its visibility timeout ends.
            0 if !is_urgent => Ok(()),
            1..4 if !is_urgent => queue.release(&record.handle, Duration::from_millis(random.below(100))),
            _ if job.is_bad() => queue.release(&record.handle, Duration::from_millis(random.below(3))),
            4..6 => queue
                .extend(&record.handle, 2 * VISIBILITY_TIMEOUT)
                .map(|()| done.push((job, receives, record.handle))),
            _ => {
                done.push((job, receives, record.handle));
                Ok(())
            }
        };
        match outcome {
            // The visibility timeout had ended.
            Ok(()) | Err(Error::ReceiptHandleInvalid { .. }) => {}
            Err(error) => return Err(format!("L1: {job:?} is given back: {error}")),
        }
    }
    acknowledge(&done, queue, id, tell)
}

fn acknowledge(done: &[(Job, u32, ReceiptHandle)], queue: &Queue, id: QueueId, tell: &Tell) -> Outcome {
    if done.is_empty() {
        return Ok(());
    }
    tell(Note::Acknowledging { id, jobs: done.iter().map(|&(job, ..)| job).collect() });
    let outcomes = queue.acknowledge_batch(done.iter().map(|(.., handle)| handle));
    let outcomes = outcomes.map_err(unexpected("L1", "records are acknowledged"))?;
    let (mut acknowledged, mut refused) = (vec![], vec![]);
    for (outcome, &(job, receives, _)) in outcomes.into_iter().zip(done) {
        match outcome {
            Ok(()) => acknowledged.push((job, receives)),
            Err(Error::ReceiptHandleInvalid { .. }) => refused.push(job),
            Err(error) => return Err(format!("L1: {job:?} is acknowledged: {error}")),
        }
    }
    tell(Note::Acknowledged { id, jobs: acknowledged });
    if !refused.is_empty() {
        tell(Note::Refused { id, jobs: refused });
    }
    Ok(())
}

/// Acknowledges the dead letters. A good one is put back.
fn bury(queue: &Queue, id: QueueId, tell: &Tell) -> Outcome {
    let mut bad = vec![];
    let dead = queue.receive_dead_letters(64, Duration::ZERO);
    for dead in dead.map_err(unexpected("L1", "dead letters are received"))? {
        let job = Job::of(&dead.record.partition_key, &dead.record.data)?;
        if dead.receive_count < RECEIVES_MAX {
            return Err(format!(
                "L5: {job:?} is a dead letter, and was handed out {} times",
                dead.receive_count
            ));
        }
        if job.is_bad() {
            bad.push((job, dead.receive_count, dead.handle));
            continue;
        }
        tell(Note::Restored { id, jobs: vec![job] });
        match queue.restore(&dead.handle) {
            Ok(()) | Err(Error::ReceiptHandleInvalid { .. }) => {}
            Err(error) => return Err(format!("L1: {job:?} is restored: {error}")),
        }
    }
    acknowledge(&bad, queue, id, tell)
}
