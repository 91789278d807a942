//! Consumer groups against a model: workers that join, leave, stall, poll, seek and commit, while groups are reset, shards change and the
//! process dies: P4, P6.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use common::tasks::poll_once;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use streamlog::{Batch, Error, MINUTE, ManualClock, Position, SECOND, ShardId, Stream, Worker};
use tempfile::TempDir;

const GROUP: &str = "model";
const LEASE_TIMEOUT: Duration = MINUTE;
const KEY_COUNT: u8 = 12;

#[derive(Debug, Clone)]
enum Operation {
    Put {
        count: u8,
    },
    Join {
        batch_records: u8,
    },
    Leave {
        worker: u8,
    },
    Poll {
        worker: u8,
    },
    /// Commits the worker's oldest outstanding batch, or a part of it.
    Commit {
        worker: u8,
        is_part: bool,
    },
    /// Commits an old batch, whose shard the worker may have lost.
    CommitStale {
        worker: u8,
        pick: u8,
    },
    Split {
        pick: u8,
    },
    Merge {
        pick: u8,
    },
    Advance {
        seconds: u8,
    },
    /// Seeks to the shard's checkpoint, which changes only what is outstanding.
    Seek {
        worker: u8,
        pick: u8,
    },
    Reset,
    Maintain,
    Close,
    Kill,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (1..40u8).prop_map(|count| Operation::Put { count }),
        3 => (1..20u8).prop_map(|batch_records| Operation::Join { batch_records }),
        1 => any::<u8>().prop_map(|worker| Operation::Leave { worker }),
        14 => any::<u8>().prop_map(|worker| Operation::Poll { worker }),
        10 => (any::<u8>(), any::<bool>()).prop_map(|(worker, is_part)| Operation::Commit { worker, is_part }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(worker, pick)| Operation::CommitStale { worker, pick }),
        1 => any::<u8>().prop_map(|pick| Operation::Split { pick }),
        1 => any::<u8>().prop_map(|pick| Operation::Merge { pick }),
        2 => (1..40u8).prop_map(|seconds| Operation::Advance { seconds }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(worker, pick)| Operation::Seek { worker, pick }),
        1 => Just(Operation::Reset),
        1 => Just(Operation::Maintain),
        1 => Just(Operation::Close),
        1 => Just(Operation::Kill),
    ]
}

/// A worker, its outstanding batches, and all batches it ever got.
struct Actor {
    worker: Worker,
    outstanding: Vec<Batch>,
    past: Vec<Batch>,
}

struct World {
    _scratch: TempDir,
    root: PathBuf,
    round: u32,
    clock: Arc<ManualClock>,
    poll_count: u64,
    stream: Option<Stream>,
    actors: Vec<Actor>,
    /// How many records of each key were put.
    put: BTreeMap<u8, u32>,
    /// For each key, the numbers delivered since the last reset, in the order of their first delivery.
    first_seen: BTreeMap<u8, Vec<u32>>,
    seen: BTreeSet<(u8, u32)>,
    /// The number after the last committed record of each shard, from the commits that succeeded.
    committed: BTreeMap<ShardId, u64>,
}

impl World {
    fn new() -> Self {
        let scratch = common::scratch();
        let mut world = Self {
            root: scratch.path().to_owned(),
            _scratch: scratch,
            round: 0,
            clock: common::clock(),
            poll_count: 0,
            stream: None,
            actors: vec![],
            put: BTreeMap::new(),
            first_seen: BTreeMap::new(),
            seen: BTreeSet::new(),
            committed: BTreeMap::new(),
        };
        world.open();
        world
    }

    fn path(&self) -> PathBuf {
        self.root.join(self.round.to_string())
    }

    fn open(&mut self) {
        self.stream = Some(common::small(&self.clock).shards(3).open(self.path()).unwrap());
    }

    fn stream(&self) -> &Stream {
        self.stream.as_ref().unwrap()
    }

    fn run(&mut self, operation: &Operation) {
        let pick = |pick: u8, count: usize| (count > 0).then(|| usize::from(pick) % count);
        match *operation {
            Operation::Put { count } => {
                for _ in 0..count {
                    let key = (self.put.values().sum::<u32>() % u32::from(KEY_COUNT)) as u8;
                    let number = self.put.entry(key).or_default();
                    let data = number.to_le_bytes();
                    *number += 1;
                    self.stream().put([b'k', key], data).unwrap();
                }
            }
            Operation::Join { batch_records } if self.actors.len() < 5 => {
                let options = self.stream().group(GROUP).worker().lease_timeout(LEASE_TIMEOUT);
                let worker = options.batch_records(batch_records.into()).open().unwrap();
                self.actors.push(Actor { worker, outstanding: vec![], past: vec![] });
            }
            Operation::Leave { worker } => {
                if let Some(at) = pick(worker, self.actors.len()) {
                    self.actors.swap_remove(at).worker.close();
                }
            }
            Operation::Poll { worker } => {
                if let Some(at) = pick(worker, self.actors.len()) {
                    self.poll(at);
                }
            }
            Operation::Commit { worker, is_part } => {
                let Some(at) = pick(worker, self.actors.len()) else { return };
                let actor = &mut self.actors[at];
                if actor.outstanding.is_empty() {
                    return;
                }
                let batch = if is_part { actor.outstanding[0].clone() } else { actor.outstanding.remove(0) };
                let first = batch.first_sequence().unwrap();
                let last = if is_part { first } else { batch.last_sequence().unwrap() };
                let outcome = match is_part {
                    true => actor.worker.commit_to(batch.shard(), last),
                    false => actor.worker.commit(&batch),
                };
                match outcome {
                    // Delivered under an earlier lease.
                    Err(Error::InvalidArgument(_)) if is_part => {}
                    outcome => self.note_commit(batch.shard(), last.get() + 1, outcome),
                }
            }
            Operation::CommitStale { worker, pick: which } => {
                let Some(at) = pick(worker, self.actors.len()) else { return };
                let actor = &mut self.actors[at];
                let Some(which) = pick(which, actor.past.len()) else { return };
                let batch = actor.past[which].clone();
                let outcome = actor.worker.commit(&batch);
                self.note_commit(batch.shard(), batch.last_sequence().unwrap().get() + 1, outcome);
            }
            Operation::Split { pick: which } => {
                let open: Vec<_> =
                    self.stream().shards().into_iter().filter(|shard| shard.is_open()).collect();
                if open.len() < 8 {
                    self.stream().split_shard_evenly(open[usize::from(which) % open.len()].id).unwrap();
                }
            }
            Operation::Merge { pick: which } => {
                let mut open: Vec<_> =
                    self.stream().shards().into_iter().filter(|shard| shard.is_open()).collect();
                open.sort_by_key(|shard| shard.hash_key_range.start);
                if open.len() > 1 {
                    let at = usize::from(which) % (open.len() - 1);
                    self.stream().merge_shards(open[at].id, open[at + 1].id).unwrap();
                }
            }
            Operation::Advance { seconds } => self.clock.advance(u32::from(seconds) * SECOND),
            Operation::Seek { worker, pick: which } => {
                let Some(at) = pick(worker, self.actors.len()) else { return };
                let worker = &mut self.actors[at].worker;
                let shards = worker.shards();
                let Some(which) = pick(which, shards.len()) else { return };
                let group = worker.group().describe().unwrap();
                // Finished in the meantime, or another worker's.
                let Some(shard) = group.shards.iter().find(|known| known.shard == shards[which]) else {
                    return;
                };
                match worker.seek(shard.shard, Position::At(shard.next_sequence)) {
                    Ok(()) | Err(Error::GroupLeaseLost { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Operation::Reset => {
                if !self.stream().groups().unwrap().is_empty() {
                    self.stream().group(GROUP).reset(Position::TrimHorizon).unwrap();
                    // Everything is delivered again, in order.
                    self.seen.clear();
                    self.first_seen.clear();
                    self.committed.clear();
                }
            }
            Operation::Maintain => self.stream().maintain().unwrap(),
            Operation::Close => {
                self.actors.clear();
                self.stream.take().unwrap().close().unwrap();
                self.open();
            }
            Operation::Kill => {
                let killed = self.path();
                self.round += 1;
                common::copy_dir(&killed, &self.path());
                self.actors.clear();
                self.stream = None;
                self.open();
            }
            Operation::Join { .. } => {}
        }
        self.check_leases();
    }

    fn note_commit(&mut self, shard: ShardId, next: u64, outcome: streamlog::Result<()>) {
        match outcome {
            Ok(()) => {
                let committed = self.committed.entry(shard).or_default();
                *committed = next.max(*committed);
            }
            Err(Error::GroupLeaseLost { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn poll(&mut self, at: usize) -> bool {
        let actor = &mut self.actors[at];
        self.poll_count += 1;
        // Alternates between a thread, and a task that stops waiting immediately.
        let polled = match self.poll_count % 2 {
            0 => actor.worker.poll(Duration::ZERO).unwrap(),
            _ => match poll_once(&mut actor.worker.next(), Waker::noop()) {
                Poll::Ready(batch) => Some(batch.unwrap()),
                Poll::Pending => None,
            },
        };
        let Some(batch) = polled else { return false };
        let first = batch.first_sequence().unwrap().get();
        let committed = self.committed.get(&batch.shard()).copied().unwrap_or_default();
        assert!(
            first >= committed,
            "{first} of {} is delivered again after a commit up to {committed}",
            batch.shard()
        );
        for record in &batch {
            let key = record.partition_key()[1];
            let number = u32::from_le_bytes(record.data().try_into().unwrap());
            if self.seen.insert((key, number)) {
                self.first_seen.entry(key).or_default().push(number);
            }
        }
        actor.outstanding.push(batch.clone());
        actor.past.push(batch);
        true
    }

    /// Checks that no shard belongs to a dead worker, and that no checkpoint is behind a commit that succeeded.
    fn check_leases(&self) {
        if self.actors.is_empty() {
            return;
        }
        let group = self.stream().group(GROUP).describe().unwrap();
        let ids: BTreeSet<_> = self.actors.iter().map(|actor| actor.worker.id()).collect();
        for shard in &group.shards {
            assert!(
                shard.worker.is_none_or(|worker| ids.contains(&worker)),
                "{shard:?} belongs to a dead worker"
            );
            let committed = self.committed.get(&shard.shard).copied().unwrap_or_default();
            assert!(shard.next_sequence.get() >= committed, "{shard:?} is behind a commit up to {committed}");
        }
    }

    /// Lets all workers poll and commit until nothing comes. Then every record was delivered in order, and the shards are spread evenly.
    fn settle_all(&mut self) {
        if self.actors.is_empty() {
            self.run(&Operation::Join { batch_records: 10 });
        }
        let mut quiet_rounds = 0;
        while quiet_rounds < 4 {
            let mut is_quiet = true;
            for at in 0..self.actors.len() {
                while self.poll(at) {
                    is_quiet = false;
                }
                for batch in std::mem::take(&mut self.actors[at].outstanding) {
                    let outcome = self.actors[at].worker.commit(&batch);
                    self.note_commit(batch.shard(), batch.last_sequence().unwrap().get() + 1, outcome);
                }
            }
            self.check_leases();
            quiet_rounds = if is_quiet { quiet_rounds + 1 } else { 0 };
        }
        for (&key, &count) in &self.put {
            let seen = self.first_seen.get(&key).cloned().unwrap_or_default();
            assert_eq!(
                seen,
                (0..count).collect::<Vec<_>>(),
                "the records of key {key}, in order, none missing"
            );
        }
        let group = self.stream().group(GROUP).describe().unwrap();
        assert_eq!((group.lag().record_count, group.worker_count), (0, self.actors.len()), "{group:?}");
        let counts = self
            .actors
            .iter()
            .map(|actor| group.shards.iter().filter(|shard| shard.worker == Some(actor.worker.id())).count());
        let counts: Vec<usize> = counts.collect();
        assert_eq!(counts.iter().sum::<usize>(), group.shards.len(), "each shard has a worker");
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150)
}

proptest! {
    #![proptest_config(Config {
        cases: cases(),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/consumers/model.regressions"))),
        ..Config::default()
    })]

    #[test]
    fn p4_p6_a_group_delivers_every_record_in_order_and_never_shares_a_shard(
        operations in prop::collection::vec(operation(), 1..120)
    ) {
        let mut world = World::new();
        for operation in &operations {
            world.run(operation);
        }
        world.settle_all();
    }
}
