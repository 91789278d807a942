//! Leases against a model: workers that crash, pause and get no answers, with clocks that differ, while shards split and merge.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};

use super::lease::{Checkpoint, Lease};
use super::lease_book::{LeaseBook, Table, Terms};
use super::lease_sync::{first_leases, is_needless, leases_of_children, may_begin, missing_leases, roots};
use super::read::RemoteShard;

const FAILOVER: Duration = Duration::from_secs(10);
const WORKERS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The request does not arrive.
    Before,
    /// The answer does not arrive.
    After,
}

/// The table, whose next write may have a fault.
#[derive(Debug, Default)]
struct Model {
    rows: RefCell<BTreeMap<String, Lease>>,
    fault: RefCell<Option<Fault>>,
}

#[derive(Debug)]
struct NoAnswer;

impl Model {
    fn write(
        &self,
        key: &str,
        may: impl Fn(&Lease) -> bool,
        change: impl Fn(&mut Lease),
    ) -> Result<bool, NoAnswer> {
        let fault = self.fault.borrow_mut().take();
        if fault == Some(Fault::Before) {
            return Err(NoAnswer);
        }
        let mut rows = self.rows.borrow_mut();
        let row = rows.get_mut(key).filter(|row| may(row));
        let is_done = row.is_some();
        row.into_iter().for_each(|row| {
            change(row);
            row.counter += 1;
        });
        if fault == Some(Fault::After) { Err(NoAnswer) } else { Ok(is_done) }
    }

    fn add(&self, lease: Lease) {
        self.rows.borrow_mut().entry(lease.key.clone()).or_insert(lease);
    }
}

impl Table for Model {
    type Error = NoAnswer;

    fn scan(&self) -> Result<Vec<Lease>, NoAnswer> {
        Ok(self.rows.borrow().values().cloned().collect())
    }

    fn get(&self, key: &str) -> Result<Option<Lease>, NoAnswer> {
        Ok(self.rows.borrow().get(key).cloned())
    }

    fn renew(&self, key: &str, counter: u64) -> Result<bool, NoAnswer> {
        self.write(key, |row| row.counter == counter, |_| ())
    }

    fn take(&self, lease: &Lease, owner: &str) -> Result<bool, NoAnswer> {
        self.write(&lease.key, |row| row.counter == lease.counter, |row| row.owner = Some(owner.to_owned()))
    }

    fn checkpoint(&self, key: &str, counter: u64, to: &Checkpoint, state: &[u8]) -> Result<bool, NoAnswer> {
        self.write(
            key,
            |row| row.counter == counter,
            |row| {
                (row.checkpoint, row.state) = (to.clone(), state.to_vec());
            },
        )
    }

    fn evict(&self, key: &str, owner: &str) -> Result<bool, NoAnswer> {
        self.write(key, |row| row.owner.as_deref() == Some(owner), |row| row.owner = None)
    }
}

fn shard(id: usize, parents: &[usize], range: (u128, u128)) -> RemoteShard {
    RemoteShard {
        id: format!("shardId-{id:012}"),
        parents: parents.iter().map(|parent| format!("shardId-{parent:012}")).collect(),
        hash_range: (range.0.to_string(), range.1.to_string()),
        starting_sequence_number: (id * 100).to_string(),
        ending_sequence_number: None,
    }
}

fn range_of(shard: &RemoteShard) -> (u128, u128) {
    (shard.hash_range.0.parse().unwrap(), shard.hash_range.1.parse().unwrap())
}

/// Closes some shards, and adds one for each range.
fn reshard(shards: &mut Vec<RemoteShard>, parents: &[usize], ranges: &[(u128, u128)]) {
    for &parent in parents {
        shards[parent].ending_sequence_number = Some("9".to_owned());
    }
    for &range in ranges {
        shards.push(shard(shards.len(), parents, range));
    }
}

struct Worker {
    book: LeaseBook,
    name: String,
    /// How far its clock is ahead of the others.
    skew: Duration,
    paused_until: Duration,
    next: [Duration; 2],
    /// The shards that it reads.
    reads: BTreeSet<String>,
}

struct World {
    table: Model,
    shards: Vec<RemoteShard>,
    workers: Vec<Worker>,
    made: usize,
    now: Duration,
    /// For two workers that both believe that they have a lease, since when.
    both: BTreeMap<(String, String, String), Duration>,
    ended: BTreeSet<String>,
}

fn terms() -> Terms {
    Terms { failover: FAILOVER, leases_max: usize::MAX, steal_max: 1 }
}

impl World {
    fn new() -> Self {
        let half = u128::MAX / 2;
        let shards = vec![shard(0, &[], (0, half)), shard(1, &[], (half + 1, u128::MAX))];
        let (table, now) = (Model::default(), Duration::ZERO);
        for lease in first_leases(&roots(&shards), &Checkpoint::TrimHorizon).unwrap() {
            table.add(lease);
        }
        let mut world = Self {
            table,
            shards,
            workers: vec![],
            made: 0,
            now,
            both: BTreeMap::new(),
            ended: BTreeSet::new(),
        };
        (0..WORKERS).for_each(|_| world.join());
        world
    }

    fn join(&mut self) {
        self.made += 1;
        let name = format!("worker-{}", self.made);
        self.workers.push(Worker {
            book: LeaseBook::new(&*name, terms()),
            name,
            skew: Duration::from_secs(self.made as u64 * 1_000),
            paused_until: Duration::ZERO,
            next: [Duration::ZERO; 2],
            reads: BTreeSet::new(),
        });
    }

    /// Lets a tenth of a second pass.
    fn step(&mut self) {
        self.now += Duration::from_millis(100);
        for at in 0..self.workers.len() {
            self.work(at);
        }
        self.check();
    }

    fn work(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        if worker.paused_until > self.now {
            return;
        }
        let own = self.now + worker.skew;
        let clock = move || own;
        let lost = worker.book.drop_lost(own);
        for grip in lost {
            worker.reads.remove(&grip.key);
        }
        if worker.next[0] <= self.now {
            worker.next[0] = self.now + terms().renew_every();
            let _ = worker.book.renew(&self.table, &clock);
        }
        if worker.next[1] <= self.now {
            worker.next[1] = self.now + terms().take_every();
            let _ = worker.book.take(&self.table, &clock);
        }
        self.read(at);
    }

    /// Reads all that a worker may: to the end, if the shard is closed.
    fn read(&mut self, at: usize) {
        let rows = self.table.scan().unwrap();
        let grips: Vec<_> = self.workers[at].book.grips().cloned().collect();
        let own = self.now + self.workers[at].skew;
        for grip in grips {
            let Some(lease) = rows.iter().find(|lease| lease.key == grip.key) else { continue };
            if grip.is_lost(own) {
                continue;
            }
            if is_needless(lease, &rows, &self.shards) {
                self.table.rows.borrow_mut().remove(&grip.key);
                self.workers[at].book.forget(&grip.key);
                self.workers[at].reads.remove(&grip.key);
                continue;
            }
            if lease.is_ended() || !may_begin(lease, &rows) {
                continue;
            }
            let shard = self.shards.iter().find(|shard| shard.id == grip.key).unwrap();
            if self.workers[at].reads.insert(grip.key.clone()) {
                let early: Vec<_> =
                    shard.parents.iter().filter(|parent| !self.ended.contains(*parent)).collect();
                assert!(early.is_empty(), "{} begins before {early:?} have ended", shard.id);
            }
            let clock = move || own;
            if shard.is_open() {
                let done = Checkpoint::Number(format!("{}7", shard.starting_sequence_number), 0);
                if lease.checkpoint != done {
                    let _ = grip.checkpoint(&self.table, &clock, &done, b"");
                }
                continue;
            }
            let children = self.shards.iter().filter(|child| child.parents.contains(&shard.id));
            let children: Vec<_> = children.map(|child| (child.id.clone(), child.parents.clone())).collect();
            for lease in leases_of_children(&shard.id, &children, &self.shards, &rows) {
                self.table.add(lease);
            }
            let ids: Vec<_> = children.into_iter().map(|(id, _)| id).collect();
            self.table.rows.borrow_mut().get_mut(&grip.key).unwrap().children = ids;
            if matches!(grip.checkpoint(&self.table, &clock, &Checkpoint::ShardEnd, b""), Ok(Ok(()))) {
                self.ended.insert(shard.id.clone());
            }
        }
        // A write whose answer was lost counts.
        let ended = self
            .table
            .rows
            .borrow()
            .values()
            .filter(|row| row.is_ended())
            .map(|row| row.key.clone())
            .collect();
        self.ended.append(&mut {
            let ended: BTreeSet<String> = ended;
            ended
        });
    }

    /// No two workers believe in the same lease for longer than the failover time.
    fn check(&mut self) {
        let mut believers: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for worker in &self.workers {
            for grip in worker.book.grips().filter(|grip| !grip.is_lost(self.now + worker.skew)) {
                believers.entry(grip.key.clone()).or_default().push(&worker.name);
            }
        }
        let mut both = BTreeMap::new();
        for (key, names) in believers {
            for (at, one) in names.iter().enumerate() {
                for other in &names[at + 1..] {
                    let pair = (key.clone(), (*one).to_owned(), (*other).to_owned());
                    let since = self.both.get(&pair).copied().unwrap_or(self.now);
                    assert!(self.now - since <= FAILOVER, "{pair:?} since {since:?}, now {:?}", self.now);
                    both.insert(pair, since);
                }
            }
        }
        self.both = both;
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.step();
        }
    }

    fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::Pass { tenths } => self.pass(Duration::from_millis(u64::from(tenths) * 100)),
            Operation::Pause { pick, tenths } => {
                let at = usize::from(pick) % self.workers.len();
                self.workers[at].paused_until = self.now + Duration::from_millis(u64::from(tenths) * 100);
            }
            Operation::Crash { pick } => {
                if self.workers.len() > 1 {
                    self.workers.swap_remove(usize::from(pick) % self.workers.len());
                }
            }
            Operation::Join => {
                if self.workers.len() < WORKERS {
                    self.join();
                }
            }
            Operation::Leave { pick } => {
                if self.workers.len() > 1 {
                    let mut worker = self.workers.swap_remove(usize::from(pick) % self.workers.len());
                    worker.book.leave(&self.table).ok();
                }
            }
            Operation::Fail { after } => {
                *self.table.fault.borrow_mut() = Some(if after { Fault::After } else { Fault::Before });
            }
            Operation::Split { pick } => {
                let open: Vec<_> = (0..self.shards.len()).filter(|&at| self.shards[at].is_open()).collect();
                let parent = open[usize::from(pick) % open.len()];
                let (start, end) = range_of(&self.shards[parent]);
                if open.len() < 8 {
                    let middle = start + (end - start) / 2;
                    reshard(&mut self.shards, &[parent], &[(start, middle), (middle + 1, end)]);
                }
            }
            Operation::Merge { pick } => {
                let mut open: Vec<_> =
                    (0..self.shards.len()).filter(|&at| self.shards[at].is_open()).collect();
                open.sort_by_key(|&at| range_of(&self.shards[at]));
                if open.len() > 1 {
                    let at = usize::from(pick) % (open.len() - 1);
                    let (one, other) = (open[at], open[at + 1]);
                    let range = (range_of(&self.shards[one]).0, range_of(&self.shards[other]).1);
                    reshard(&mut self.shards, &[one, other], &[range]);
                }
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Operation {
    Pass { tenths: u16 },
    Pause { pick: u8, tenths: u16 },
    Crash { pick: u8 },
    Join,
    Leave { pick: u8 },
    Fail { after: bool },
    Split { pick: u8 },
    Merge { pick: u8 },
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (1..200u16).prop_map(|tenths| Operation::Pass { tenths }),
        3 => (any::<u8>(), 1..400u16).prop_map(|(pick, tenths)| Operation::Pause { pick, tenths }),
        1 => any::<u8>().prop_map(|pick| Operation::Crash { pick }),
        2 => Just(Operation::Join),
        1 => any::<u8>().prop_map(|pick| Operation::Leave { pick }),
        4 => any::<bool>().prop_map(|after| Operation::Fail { after }),
        2 => any::<u8>().prop_map(|pick| Operation::Split { pick }),
        1 => any::<u8>().prop_map(|pick| Operation::Merge { pick }),
    ]
}

#[test]
fn l5_leases_pass_on_and_are_never_believed_twice_for_longer_than_the_failover_time() {
    let config = Config {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64),
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..Config::default()
    };
    let operations = prop::collection::vec(operation(), 1..40);
    let outcome = TestRunner::new(config).run(&operations, |operations| {
        let mut world = World::new();
        operations.iter().for_each(|operation| world.apply(operation));
        // Then it is quiet. Every closed shard is read to its end, and every open one has a worker.
        world.pass(60 * FAILOVER);
        for shard in &world.shards {
            let row = world.table.get(&shard.id).unwrap();
            if shard.is_open() {
                let row = row.unwrap_or_else(|| panic!("{} has no lease", shard.id));
                assert!(row.checkpoint.has_begun(), "{row:?}");
                let has = |worker: &&Worker| worker.book.grips().any(|grip| grip.key == shard.id);
                assert_eq!(world.workers.iter().filter(has).count(), 1, "{}", shard.id);
            } else {
                assert!(world.ended.contains(&shard.id), "{} was not read to its end", shard.id);
                assert!(row.is_none(), "{row:?} is still there");
            }
        }
        let rows = world.table.rows.borrow().len();
        let fair = rows.div_ceil(world.workers.len()).max(1);
        for worker in &world.workers {
            assert!(worker.book.grips().count() <= fair, "{} has more than {fair}", worker.name);
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn l5_the_missing_leases_are_those_of_the_kcl() {
    // 0 and 1 became 6, 2 and 3 became 7, 6 and 7 became 8, 5 became 9 and 10. 4 is as it was.
    let whole = |id: usize, parents: &[usize]| shard(id, parents, (id as u128, id as u128));
    let mut shards: Vec<_> = (0..6).map(|id| whole(id, &[])).collect();
    for (id, parents) in [(6, &[0, 1][..]), (7, &[2, 3]), (8, &[6, 7]), (9, &[5]), (10, &[5])] {
        shards.push(whole(id, parents));
    }
    for closed in [0, 1, 2, 3, 5, 6, 7] {
        shards[closed].ending_sequence_number = Some("9".to_owned());
    }
    let leases: Vec<_> = [4, 5, 7].map(|at| Lease::new(&*shards[at].id, Checkpoint::TrimHorizon)).into();
    let missing = |leases: &[Lease], initial: Checkpoint| {
        let missing = missing_leases(&shards, leases, &initial).unwrap();
        assert!(missing.iter().all(|lease| lease.checkpoint == initial));
        missing.iter().map(|lease| lease.key[8..].parse().unwrap()).collect::<Vec<usize>>()
    };
    assert_eq!(missing(&leases, Checkpoint::Latest), [6]);
    assert_eq!(missing(&leases, Checkpoint::TrimHorizon), [0, 1]);
    assert_eq!(missing(&leases, Checkpoint::AtTimestamp), [0, 1]);
    assert_eq!(missing(&[], Checkpoint::Latest), [4, 8, 9, 10]);
    assert_eq!(missing(&[], Checkpoint::TrimHorizon), [0, 1, 2, 3, 4, 5]);
    shards[5].ending_sequence_number = None;
    assert!(missing_leases(&shards, &leases, &Checkpoint::Latest).is_err(), "an open shard has children");
}

#[test]
fn l5_the_first_leases_have_each_hash_key_once() {
    let with = |ranges: &[(u128, u128)]| {
        let shards: Vec<_> = ranges.iter().enumerate().map(|(id, &range)| shard(id, &[], range)).collect();
        first_leases(&shards.iter().collect::<Vec<_>>(), &Checkpoint::Latest).map(|leases| leases.len())
    };
    assert_eq!(with(&[(0, 9), (10, u128::MAX)]), Ok(2));
    assert!(with(&[(0, 9), (11, u128::MAX)]).is_err(), "a hole");
    assert!(with(&[(0, 10), (10, u128::MAX)]).is_err(), "an overlap");
    assert!(with(&[(0, 10)]).is_err(), "no end");
    assert!(with(&[]).is_err());
}
