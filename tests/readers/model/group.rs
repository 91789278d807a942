//! A consumer group in another process than the writer: its workers, and the records that they must receive.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use streamlog::{Batch, Error, Group, MINUTE, Worker};

use super::{Place, Random, Truth, check_record, put_of, say};

pub(super) const GROUP: &str = "billing";
/// How many lines are printed when the model fails, and how much of each.
const HEARD_MAX: usize = 150;
const LINE_CHARS: usize = 80;

/// The workers of the group in one process, with the batches that they have not committed.
pub(super) struct Workers {
    group: Group,
    random: Random,
    workers: Vec<(Worker, Vec<Batch>)>,
}

impl Workers {
    /// Opens the group, and prints its position.
    pub(super) fn open(group: Group, seed: u64) -> Result<Self, Error> {
        let mut workers = Self { group, random: Random(seed), workers: vec![] };
        let count = 1 + workers.random.below(2);
        for _ in 0..count {
            workers.join()?;
        }
        say("opening");
        for shard in workers.group.describe().unwrap().shards {
            say(&format!("at {} {}", shard.shard.get(), shard.next_sequence));
        }
        say("opened");
        Ok(workers)
    }

    fn join(&mut self) -> Result<(), Error> {
        // Only the workers that leave lose their shards: the clock goes by seconds.
        let options = self.group.worker().lease_timeout(600 * MINUTE);
        let worker = options.batch_records(1 + self.random.below(60) as usize).open()?;
        self.workers.push((worker, vec![]));
        Ok(())
    }

    pub(super) fn carry_out(&mut self, order: &str, numbers: &[u64]) {
        match (order, numbers) {
            ("work", &[count]) => {
                for _ in 0..count {
                    let at = self.random.below(self.workers.len() as u64) as usize;
                    self.poll(at);
                    if self.random.one_in(2) {
                        self.commit(at);
                    }
                }
            }
            // Damage also changes the bytes of these.
            ("drop", _) => self.workers.iter_mut().for_each(|(_, outstanding)| outstanding.clear()),
            ("leave", _) => self.replace_one(),
            ("drain", _) => {
                (0..self.workers.len()).for_each(|_| self.replace_one());
                let mut quiet_count = 0;
                while quiet_count < 3 {
                    quiet_count += 1;
                    for at in 0..self.workers.len() {
                        while self.poll(at) {
                            quiet_count = 0;
                        }
                        while !self.workers[at].1.is_empty() {
                            let last = self.workers[at].1.len() - 1;
                            self.commit_batch(at, last, false);
                        }
                    }
                }
            }
            order => panic!("{order:?}"),
        }
    }

    /// Replaces the oldest worker by a new one. The group stays open.
    fn replace_one(&mut self) {
        self.join().unwrap();
        self.workers.remove(0).0.close();
        say("left");
    }

    /// Receives a batch, or handles an error. Returns whether there was any.
    fn poll(&mut self, at: usize) -> bool {
        let wait = if self.random.one_in(8) { Duration::from_millis(2) } else { Duration::ZERO };
        let (worker, outstanding) = &mut self.workers[at];
        match worker.poll(wait) {
            Ok(None) => return false,
            Ok(Some(batch)) => {
                let mut line = format!("handed {} {}", batch.shard().get(), batch.first_sequence().unwrap());
                for (record, sequence) in batch.iter().zip(batch.first_sequence().unwrap().get()..) {
                    assert_eq!(record.sequence().get(), sequence, "L8: not dense");
                    write!(line, " {}", check_record(&record)).unwrap();
                }
                say(&line);
                outstanding.push(batch);
            }
            Err(Error::Trimmed { shard, requested, horizon }) => {
                say(&format!("trimmed {} {requested} {horizon}", shard.get()));
                match worker.skip_to_horizon(shard) {
                    Ok(_) => {}
                    // Retention has overtaken it again.
                    Err(Error::Trimmed { .. } | Error::ShardNotFound(_)) => return true,
                    Err(error) => panic!("L8: {error}"),
                }
                let described = self.group.describe().unwrap();
                match described.shards.iter().find(|known| known.shard == shard) {
                    Some(known) => say(&format!("skipped {} {}", shard.get(), known.next_sequence)),
                    None => say(&format!("ended {}", shard.get())),
                }
            }
            Err(Error::Lost { shard, first, end }) => {
                say(&format!("missing {} {first} {end}", shard.get()));
                let count = worker.skip_lost(shard).unwrap();
                say(&format!("passed {} {count}", shard.get()));
            }
            Err(error) => panic!("L8: {error}"),
        }
        true
    }

    fn commit(&mut self, at: usize) {
        let count = self.workers[at].1.len() as u64;
        if count > 0 {
            let (which, is_part) = (self.random.below(count) as usize, self.random.one_in(4));
            self.commit_batch(at, which, is_part);
        }
    }

    /// Commits a batch, or a part of it. The earlier ones of its shard are committed with it.
    fn commit_batch(&mut self, at: usize, which: usize, is_part: bool) {
        let (worker, outstanding) = &mut self.workers[at];
        let batch = outstanding.remove(which);
        let shard = batch.shard();
        let earlier = outstanding.drain(..which).filter(|batch| batch.shard() != shard);
        let earlier: Vec<_> = earlier.collect();
        outstanding.splice(0..0, earlier);
        let [first, last] =
            [batch.first_sequence(), batch.last_sequence()].map(|sequence| sequence.unwrap().get());
        let last = if is_part { first + self.random.below(last + 1 - first) } else { last };
        say(&format!("committing {} {}", shard.get(), last + 1));
        let committed = if is_part { worker.commit_to(shard, last.into()) } else { worker.commit(&batch) };
        match committed {
            Ok(()) => say(&format!("committed {} {}", shard.get(), last + 1)),
            Err(Error::GroupLeaseLost { .. }) => say(&format!("refused {}", shard.get())),
            Err(error) => panic!("L8: {error}"),
        }
    }
}

/// What is known about the group.
#[derive(Default)]
pub(super) struct GroupModel {
    /// The positions in shards up to which commits have returned.
    committed: BTreeMap<u32, u64>,
    /// The commits that have not returned. After a kill, they may have had an effect.
    committing: BTreeMap<u32, u64>,
    /// A shard whose horizon the group is skipping to, and the horizon that it has learned of.
    skipping: Option<Place>,
    /// Where the group began in each shard when it was created: at the horizon that the writer showed then. A killed writer may not have
    /// stored that horizon. Then earlier records are there again.
    begun_at: BTreeMap<u32, u64>,
    /// Where the group has skipped to in each shard. A killed writer may have shown that horizon without storing it. Then
    /// earlier records are there again.
    skipped_to: BTreeMap<u32, u64>,
    /// The next record of each shard.
    next: BTreeMap<u32, u64>,
    /// Shards of which a worker had uncommitted records when it left.
    may_repeat: BTreeSet<u32>,
    /// The shards that have expired before they were read to their end.
    ended: BTreeSet<u32>,
    /// The numbers received, and the last one of each key.
    handed: BTreeSet<u64>,
    last_of_key: BTreeMap<Vec<u8>, u64>,
    /// What the group had received and committed of the other shards when it received the first record of a shard.
    known_before: BTreeMap<u32, (BTreeSet<u32>, BTreeMap<u32, u64>)>,
    /// The shards with received records.
    begun: BTreeSet<u32>,
    /// The horizons that the group has learned of since it was last compared with the writer.
    heard_horizons: Vec<Place>,
    /// The writer was killed since, and may not have stored the horizons that it had shown.
    was_writer_killed: bool,
    /// Whether it was opened. A process killed while it creates the group leaves one that has not begun.
    has_begun: bool,
    /// The last lines, to find out why the model fails.
    heard: VecDeque<String>,
}

impl Drop for GroupModel {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.heard.iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

impl GroupModel {
    /// Processes a line from the workers. Returns `false` if it is not theirs.
    pub(super) fn take(&mut self, line: &str, is_held: bool, truth: &mut Truth) -> bool {
        self.heard.push_back(line.chars().take(LINE_CHARS).collect());
        if self.heard.len() > HEARD_MAX {
            self.heard.pop_front();
        }
        let mut words = line.split(' ');
        let word = words.next().unwrap();
        let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
        let shard = numbers.first().map_or(0, |&shard| shard as u32);
        match (word, &numbers[..]) {
            ("opening", _) => {
                self.next.clear();
                self.may_repeat.clear();
            }
            ("at", &[_, next]) => {
                self.check_checkpoint(shard, next, truth);
                if !self.has_begun {
                    self.begun_at.insert(shard, next);
                }
                self.next.insert(shard, next);
            }
            ("opened", _) => {
                self.has_begun = true;
                // Before it was killed, it may have given up the rest of this one.
                self.ended.extend(self.skipping.take().map(|(shard, _)| shard));
            }
            ("left", _) => self.may_repeat.extend(self.next.keys()),
            ("handed", &[_, first, ref records @ ..]) => self.hand_out(shard, first, records, truth),
            ("committing", &[_, next]) => {
                let handed = self.next.get(&shard).copied();
                assert!(handed.is_none_or(|handed| next <= handed), "{shard}: {next}, not {handed:?}");
                self.committing.insert(shard, next);
            }
            ("committed", &[_, next]) => {
                self.committing.remove(&shard);
                let known = self.committed.entry(shard).or_default();
                *known = next.max(*known);
            }
            ("refused", _) => {
                // The group has finished the shard, because the rest of it was trimmed.
                let next = self.committing.remove(&shard).expect("something was to be committed");
                let is_over = self.committed.get(&shard).is_some_and(|&committed| next <= committed);
                assert!(is_over || self.ended.contains(&shard), "L8: {shard} was taken away");
            }
            ("trimmed", &[_, requested, horizon]) => {
                self.check_next(shard, requested, truth);
                assert!(requested < horizon, "L8: {line}");
                if is_held {
                    // A shard may expire before the group has read its end, but none of its records is missing.
                    let missing = truth.puts.range((shard, requested)..(shard, horizon)).next();
                    assert!(missing.is_none(), "P12: {line}, with {missing:?}");
                }
                self.hear_horizon(shard, horizon, truth);
                self.skipping = Some((shard, horizon));
            }
            ("skipped", &[_, next]) => {
                let (_, horizon) = self.skipping.take().expect("it was trimmed");
                let is_back = is_same(shard, self.committed.get(&shard).copied(), next, truth);
                // A killed writer may not have stored the horizon that it had shown.
                let is_right = next >= horizon || is_back || self.was_writer_killed;
                assert!(is_right, "L8: {shard}: {next} is before {horizon}");
                if !is_back {
                    self.hear_horizon(shard, next, truth);
                }
                self.committed.insert(shard, next);
                self.next.insert(shard, next);
                self.skipped_to.insert(shard, next);
            }
            ("ended", _) => {
                self.skipping = None;
                self.ended.insert(shard);
                self.next.remove(&shard);
                self.hear_horizon(shard, u64::MAX, truth);
            }
            ("missing", &[_, first, end]) => {
                self.check_next(shard, first, truth);
                truth.check_lost(shard, first, end);
                self.next.insert(shard, first);
            }
            ("passed", &[_, count]) => {
                let next = self.next.get_mut(&shard).expect("records were missing");
                truth.check_lost(shard, *next, *next + count);
                *next += count;
            }
            _ => return false,
        }
        true
    }

    fn hand_out(&mut self, shard: u32, first: u64, records: &[u64], truth: &mut Truth) {
        self.check_next(shard, first, truth);
        self.committed.entry(shard).or_insert(first);
        if self.begun.insert(shard) {
            let mut committed = self.committed.clone();
            committed.extend(&self.committing);
            self.known_before.insert(shard, (self.begun.clone(), committed));
        }
        for (&number, sequence) in records.iter().zip(first..) {
            truth.note((shard, sequence), number);
            if self.handed.insert(number) {
                let last = self.last_of_key.insert(put_of(number).0, number);
                assert!(last.is_none_or(|last| last < number), "P4: {last:?} before {number}");
            }
        }
        self.next.insert(shard, first + records.len() as u64);
        self.may_repeat.remove(&shard);
    }

    fn hear_horizon(&mut self, shard: u32, horizon: u64, truth: &mut Truth) {
        truth.raise_horizon(shard, horizon);
        self.heard_horizons.push((shard, horizon));
    }

    /// Checks that the group continues where it was, without gaps and in order.
    fn check_next(&self, shard: u32, first: u64, truth: &Truth) {
        let committed = self.committed.get(&shard).copied();
        let known = self.next.get(&shard).copied();
        let Some(next) = known.or(committed) else { return };
        if self.ended.contains(&shard) && Some(first) >= committed {
            return;
        }
        let is_repeated = self.may_repeat.contains(&shard) && is_same(shard, committed, first, truth);
        let committing = self.committing.get(&shard).copied();
        let is_place = |place| is_same(shard, place, first, truth);
        let is_committed = known.is_none() && (is_place(committed) || is_place(committing));
        assert!(
            first == next || is_repeated || is_committed || self.goes_back(shard, first, truth),
            "L8: {shard} goes on with {first} after {next}, committed up to {committed:?}"
        );
    }

    /// Returns whether the group may go back to a position, because damage took the last record that it has handled.
    fn goes_back(&self, shard: u32, first: u64, truth: &Truth) -> bool {
        let last = self.committed.get(&shard).and_then(|committed| committed.checked_sub(1));
        last.is_some_and(|last| first <= last && truth.lost.contains(&(shard, last)))
    }

    /// Checks a checkpoint that was found, and records it.
    fn check_checkpoint(&mut self, shard: u32, found: u64, truth: &mut Truth) {
        let committed = self.committed.get(&shard).copied();
        let committing = self.committing.remove(&shard);
        let has_skipped = self.skipping.is_some_and(|(of, horizon)| {
            of == shard && (found >= horizon || self.was_writer_killed && committed <= Some(found))
        });
        let is_right = committed.is_none()
            || is_same(shard, committed, found, truth)
            || is_same(shard, committing, found, truth)
            || has_skipped
            || self.goes_back(shard, found, truth);
        assert!(is_right, "L8: {shard} is at {found}, committed up to {committed:?}, {committing:?}");
        if has_skipped {
            self.hear_horizon(shard, found, truth);
        }
        self.committed.insert(shard, found);
    }

    /// Notes that the writer was killed.
    pub(super) fn note_kill_of_writer(&mut self) {
        self.heard.push_back("the writer is killed".to_owned());
        self.was_writer_killed = true;
    }

    /// Compares with the writer's report while nothing runs: the horizon and the end of each shard, and the lag of the group.
    pub(super) fn check(
        &mut self,
        state: &BTreeMap<u32, (u64, u64)>,
        lag: &BTreeMap<u32, (u64, u64)>,
        is_held: bool,
        truth: &mut Truth,
    ) {
        if !self.has_begun {
            return;
        }
        let was_killed = self.was_writer_killed;
        let heard = std::mem::take(&mut self.heard_horizons).into_iter();
        for (shard, heard) in heard.filter(|(_, heard)| !was_killed || *heard == u64::MAX) {
            let known = state.get(&shard).map_or(u64::MAX, |known| known.0);
            assert!(known >= heard, "L8: {shard} is trimmed up to {known}, not {heard}");
        }
        for (&shard, &(next, record_count)) in lag {
            self.check_checkpoint(shard, next, truth);
            assert_eq!(record_count, state[&shard].1 - next, "the lag in {shard}");
        }
        for (&shard, &(horizon, end)) in state {
            let committed = self.committed.get(&shard).copied();
            if !lag.contains_key(&shard) {
                let is_finished = committed.is_none_or(|committed| committed == end)
                    || is_same(shard, committed, end, truth)
                    || self.committing.get(&shard) == Some(&end)
                    || self.skipping.is_some_and(|skipping| skipping.0 == shard);
                assert!(is_finished, "L8: {shard} is not finished at {end}: {committed:?}");
            }
            let is_kept = committed.is_none_or(|committed| horizon <= committed)
                || is_same(shard, committed, horizon, truth);
            assert!(is_kept || !is_held, "P12: {shard} is trimmed up to {horizon}, and not {committed:?}");
        }
        self.was_writer_killed = false;
    }

    /// Checks that no record was skipped, and that children came after their parents.
    pub(super) fn finish(&self, parents: &BTreeMap<u32, Vec<u32>>, is_held: bool, truth: &Truth) {
        let is_trimmed = |place: &Place| {
            let horizons = [truth.horizons.get(&place.0), self.skipped_to.get(&place.0)];
            horizons.into_iter().flatten().any(|&horizon| place.1 < horizon)
        };
        let is_before = |place: &Place| self.begun_at.get(&place.0).is_some_and(|&begun| place.1 < begun);
        for (place, number) in truth.puts.iter().filter(|(place, _)| !is_before(place)) {
            assert!(
                self.handed.contains(number) || !is_held && is_trimmed(place) || truth.lost.contains(place),
                "L8: {number} at {place:?} was skipped: {:?}",
                truth.horizons
            );
        }
        for (shard, (begun, committed)) in &self.known_before {
            for parent in parents.get(shard).into_iter().flatten() {
                // It may have expired before the group reached it.
                let may_be_trimmed = self.ended.contains(parent) || !begun.contains(parent);
                let from = committed.get(parent).copied().unwrap_or_default();
                let is_left =
                    |place: &Place| !(truth.lost.contains(place) || may_be_trimmed && is_trimmed(place));
                let left = truth.puts.range((*parent, from)..(*parent, u64::MAX));
                let left: Vec<_> = left.filter(|(place, _)| is_left(place)).collect();
                assert!(left.is_empty(), "P4: {shard} came before {left:?} of its parent");
            }
        }
    }
}

/// Returns whether a position is the known one, or is followed up to it only by records lost to damage.
fn is_same(shard: u32, known: Option<u64>, place: u64, truth: &Truth) -> bool {
    let is_lost = |sequence| truth.lost.contains(&(shard, sequence));
    known.is_some_and(|known| known <= place && (known..place).all(is_lost))
}
