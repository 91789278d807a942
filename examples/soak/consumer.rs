//! The threads that read together as the workers of one group, in the worker or in a visitor.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use streamlog::{Batch, Error, Group, ShardId, StreamReader, Worker};

use super::board::{Board, Outcome, unexpected};
use super::group::{keys_of, spans_of};
use super::message::Message;
use super::plan::Random;
use super::say;

/// The number of threads.
pub(crate) const WORKER_COUNT: std::ops::RangeInclusive<u64> = 2..=4;

/// The longest time that a worker stays in its group.
const STAY_MILLIS_MAX: u64 = 4_000;

/// The next record of each shard according to the commits that returned. All workers of a process share it.
#[derive(Debug, Default)]
pub(crate) struct Committed(Mutex<BTreeMap<ShardId, u64>>);

impl Committed {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker: polls, reports what it handles, and commits. Sometimes it stalls beyond its lease, or leaves and comes back.
pub(crate) struct Consumer<'a> {
    stream: &'a StreamReader,
    group: Group,
    board: &'a Board,
    committed: &'a Committed,
    random: Random,
    lease_timeout: Duration,
    outstanding: Vec<Batch>,
}

impl<'a> Consumer<'a> {
    /// Creates a worker of a group, whose workers in this process share what they have committed.
    pub(crate) fn new(
        stream: &'a StreamReader,
        group: Group,
        board: &'a Board,
        committed: &'a Committed,
        thread: u64,
    ) -> Self {
        let mut random = board.random(thread << 8 | 7);
        let lease_timeout = Duration::from_millis(random.between(100, 1_500));
        Self { stream, group, board, committed, random, lease_timeout, outstanding: vec![] }
    }

    pub(crate) fn run(mut self) -> Outcome {
        while !self.board.must_stop() {
            let (from, to) = if self.random.one_in(8) { (1, 50) } else { (50, 2_000) };
            let worker = self
                .group
                .worker()
                .lease_timeout(self.lease_timeout)
                .batch_records(self.random.between(from, to) as usize);
            let worker = worker.open().map_err(unexpected("P1 P9", "a worker joins its group"))?;
            self.work(worker)?;
            self.outstanding.clear();
        }
        Ok(())
    }

    /// Works until this worker or all workers must stop.
    fn work(&mut self, mut worker: Worker) -> Outcome {
        // While the worker stays, a shard whose last records it left uncommitted holds back its children from all workers.
        let leaves_at = Instant::now() + Duration::from_millis(self.random.below(STAY_MILLIS_MAX));
        while !self.board.must_stop() && Instant::now() < leaves_at {
            self.poll(&mut worker)?;
            if self.random.one_in(250) {
                self.board.sleep(self.lease_timeout.mul_f64(0.5 + 2.0 * self.random.fraction()));
            }
            if self.outstanding.len() > 3 || self.random.one_in(2) {
                self.commit(&mut worker)?;
            }
        }
        Ok(())
    }

    fn poll(&mut self, worker: &mut Worker) -> Outcome {
        let committed = self.committed.lock().clone();
        match worker.poll(Duration::from_millis(self.random.below(100))) {
            Ok(None) => Ok(()),
            Ok(Some(batch)) => {
                let (first, committed) = (batch.first_sequence(), committed.get(&batch.shard()));
                if first.zip(committed).is_some_and(|(first, &committed)| first.get() < committed) {
                    return Err(format!(
                        "P6: {first:?} of {} comes again after a commit up to before {committed:?}",
                        batch.shard()
                    ));
                }
                say(&Message::Handled { spans: spans_of(&batch)? }.to_string());
                self.board.counters().handled_records += batch.len() as u64;
                self.outstanding.push(batch);
                Ok(())
            }
            Err(Error::Trimmed { shard, .. }) => {
                let key_count = self.board.args.key_count();
                say(&Message::Overtaken { keys: keys_of(self.stream, shard, key_count) }.to_string());
                self.board.counters().groups_overtaken += 1;
                match worker.skip_to_horizon(shard) {
                    Ok(_) => Ok(()),
                    Err(Error::GroupLeaseLost { .. }) => Ok(()),
                    // Retention overtook the worker again.
                    Err(Error::Trimmed { .. } | Error::ShardNotFound(_)) => Ok(()),
                    Err(error) => Err(format!("P6: a group goes on from the horizon of {shard}: {error}")),
                }
            }
            Err(error) => Err(format!("P6: a group reads: {error}")),
        }
    }

    /// Commits the batches handed out, or a part of them.
    fn commit(&mut self, worker: &mut Worker) -> Outcome {
        for batch in std::mem::take(&mut self.outstanding) {
            let (Some(first), Some(last)) = (batch.first_sequence(), batch.last_sequence()) else { continue };
            let upto = if self.random.one_in(8) {
                self.random.between(first.get(), last.get()).into()
            } else {
                last
            };
            let outcome = match upto == last {
                true => worker.commit(&batch),
                false => worker.commit_to(batch.shard(), upto),
            };
            match outcome {
                Ok(()) => {
                    let next = upto.get() + 1;
                    let mut committed = self.committed.lock();
                    let known = committed.entry(batch.shard()).or_default();
                    *known = next.max(*known);
                    drop(committed);
                    say(&Message::Committed { shard: batch.shard(), next }.to_string());
                    self.board.counters().commits += 1;
                }
                // The worker lost an earlier lease, and its current lease has not reached this record yet.
                Err(Error::InvalidArgument(_)) if upto != last => {}
                Err(Error::GroupLeaseLost { .. }) => self.board.counters().leases_lost += 1,
                Err(error) => return Err(format!("P1: a commit: {error}")),
            }
        }
        Ok(())
    }
}

impl Committed {
    /// Starts with the positions that the group committed before.
    pub(crate) fn of(stream: &StreamReader, group: &Group) -> Outcome<Self> {
        let committed = Self::default();
        if stream.groups().map_err(unexpected("P1", "no groups"))?.iter().any(|name| name == group.name()) {
            let group = group.describe().map_err(unexpected("P1 P9", "the group"))?;
            let positions = group.shards.iter().map(|shard| (shard.shard, shard.next_sequence.get()));
            committed.lock().extend(positions);
        }
        Ok(committed)
    }
}
