//! The life of a stream between two losses: what is done with it, and when power is lost.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::OpenKeys;
use super::disk::Disk;
use super::model::{Draft, Loss, Model};
use super::rng::Rng;
use crate::log::sys::fault::set_hook;
use crate::{
    Clock, Compression, Durability, Maintenance, ManualClock, PutRecord, Result, Retention, ShardId, Stream,
    StreamOptions, Timestamp,
};

/// How many steps a life has, and how many losses it meets on the way: first for a stream's first life, then for one after a loss, and so
/// on.
const OPS: [usize; 4] = [50, 14, 6, 0];
const LOSSES: [usize; 4] = [12, 2, 1, 0];
const KEYS: usize = 10;

/// Counts of what was tried.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) images: AtomicU64,
    pub(super) by_sector: AtomicU64,
    /// Images that differ from the live files.
    pub(super) changed: AtomicU64,
    /// Images that were taken within a call, and images of a stream that had met a loss before.
    pub(super) within_calls: AtomicU64,
    pub(super) after_losses: AtomicU64,
    /// How often a trimmed segment was refilled.
    pub(super) again: AtomicU64,
    /// How often the process died instead.
    pub(super) kills: AtomicU64,
}

fn count(counter: &AtomicU64, by: bool) {
    counter.fetch_add(by.into(), Ordering::Relaxed);
}

/// The state that the hook and the life share.
struct World {
    what: String,
    dir: PathBuf,
    depth: usize,
    model: Model,
    disk: Disk,
    rng: Rng,
    losses_left: usize,
    loss_count: usize,
    tally: Arc<Tally>,
}

/// One life, in one thread.
struct Life {
    world: Rc<RefCell<World>>,
    rng: Rng,
    clock: Arc<ManualClock>,
    durability: Durability,
    shard_count: u32,
}

/// Lives a stream from its creation, with all its losses.
pub(super) fn run(seed: u64, scratch: &Path, tally: &Arc<Tally>) {
    let root = scratch.join("first");
    fs::create_dir(&root).unwrap();
    let mut rng = Rng::new(seed);
    let now = Timestamp::from_millis(1_700_000_000_000);
    let retention = Retention::age(Duration::from_secs(100 + rng.next() % 200));
    let frame_bytes = *rng.pick(&[None, None, Some(2048), Some(4096), Some(8192), Some(16_384)]);
    let model = Model::new(now, retention, frame_bytes);
    let disk = Disk::new(&root);
    live(format!("seed {seed}"), scratch, 0, model, disk, None, rng, tally);
}

#[expect(clippy::too_many_arguments, reason = "it is where a thread begins")]
fn live(
    what: String,
    scratch: &Path,
    depth: usize,
    mut model: Model,
    disk: Disk,
    loss: Option<Loss>,
    mut rng: Rng,
    tally: &Arc<Tally>,
) {
    let clock = Arc::new(ManualClock::new(model.now));
    if loss == Some(Loss::Power) {
        model.lose_unsynced();
    }
    let world = World {
        what,
        dir: scratch.to_owned(),
        depth,
        model,
        disk,
        rng: Rng::new(rng.next()),
        losses_left: LOSSES[depth],
        loss_count: 0,
        tally: Arc::clone(tally),
    };
    let mut life = Life {
        world: Rc::new(RefCell::new(world)),
        durability: *rng.pick(&[Durability::Process, Durability::Process, Durability::Power]),
        shard_count: 1 + (rng.next() % 3) as u32,
        rng,
        clock,
    };
    life.watch();
    life.run(loss);
    set_hook(None);
}

impl World {
    fn before(&mut self, action: &str, path: &Path) {
        self.disk.settle();
        let is_quiet = ["read", "open", "map"].contains(&action);
        if self.rng.one_in(if is_quiet { 200 } else { 20 }) {
            self.lose(Some(format!("before {action} {}", path.display())));
        }
        if self.rng.one_in(8) {
            self.disk.write_back_some(&mut self.rng);
        }
        if action == "replace" && path.extension().is_some_and(|it| it == "spare") {
            count(&self.tally.again, true);
            // By now most lives have met all their losses.
            self.losses_left = self.losses_left.max(LOSSES[self.depth] / 3);
        }
        self.disk.begin(action, path);
    }

    fn between(&mut self) {
        self.disk.settle();
        if self.rng.one_in(8) {
            self.lose(None);
        }
    }

    /// Power is lost, or the process dies. Here the life continues, and in a copy another life begins.
    fn lose(&mut self, within: Option<String>) {
        if self.losses_left == 0 {
            return;
        }
        self.loss_count += 1;
        let dir = self.dir.join(format!("{}", self.loss_count));
        let root = dir.join("root");
        fs::create_dir_all(&root).unwrap();
        let loss =
            if self.depth + 2 < LOSSES.len() && self.rng.one_in(5) { Loss::Process } else { Loss::Power };
        let disk = if loss == Loss::Power {
            let image = self.disk.image(&root, &mut self.rng);
            // Losses that take nothing are tested only rarely.
            if !image.is_changed && !self.rng.one_in(5) {
                return fs::remove_dir_all(&dir).unwrap();
            }
            count(&self.tally.images, true);
            count(&self.tally.by_sector, image.is_by_sector);
            count(&self.tally.changed, image.is_changed);
            count(&self.tally.within_calls, within.is_some());
            count(&self.tally.after_losses, self.depth > 0);
            Disk::new(&root)
        } else {
            count(&self.tally.kills, true);
            self.disk.fork(&root)
        };
        self.losses_left -= 1;
        let within = within.unwrap_or_else(|| "between calls".to_owned());
        let what = format!("{}\n  {loss:?} {} {within}", self.what, self.loss_count);
        let (model, depth, rng, tally) =
            (self.model.clone(), self.depth + 1, Rng::new(self.rng.next()), &self.tally);
        // In another thread, which has a hook of its own.
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| live(what, &dir, depth, model, disk, Some(loss), rng, tally)).join()
        });
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}

impl Life {
    fn watch(&self) {
        let world = Rc::clone(&self.world);
        set_hook(Some(Box::new(move |action, path| {
            // A check has failed, and open streams are being closed.
            if !std::thread::panicking() {
                world.borrow_mut().before(action, path);
            }
            Ok(())
        })));
    }

    fn what(&self) -> String {
        self.world.borrow().what.clone()
    }

    fn with_model<T>(&self, work: impl FnOnce(&mut Model) -> T) -> T {
        work(&mut self.world.borrow_mut().model)
    }

    fn ok<T>(&self, outcome: Result<T>) -> T {
        outcome.unwrap_or_else(|error| panic!("{}: {error}", self.what()))
    }

    /// Notes that a call has returned.
    fn returned(&self, stream: &Stream) {
        let what = self.what();
        self.with_model(|model| model.adopt(stream, Loss::Nothing, &what));
        self.world.borrow_mut().between();
    }

    fn open(&mut self, loss: Loss) -> Stream {
        let options = StreamOptions::new()
            .shards(self.shard_count)
            .segment_bytes(64 << 10)
            .maintenance(Maintenance::Manual)
            .durability(self.durability)
            .clock(Arc::clone(&self.clock) as Arc<dyn Clock>);
        let is_packed = cfg!(feature = "lz4") && self.rng.one_in(6);
        let options = options.compression(if is_packed { Compression::Lz4 } else { Compression::None });
        let options = match cfg!(feature = "encryption") {
            true if self.rng.one_in(4) => options.encryption(OpenKeys),
            true => options.decryption_only(OpenKeys),
            false => options,
        };
        let (exists, retention) = self.with_model(|model| (model.exists, model.retentions[0]));
        let options = if exists { options } else { options.retention(retention) };
        let path = self.world.borrow().disk.root().join("stream");
        let stream = self.ok(options.open(path));
        let (model, what) = (self.with_model(|model| model.clone()), self.what());
        // Reading changes nothing and needs no losses.
        set_hook(None);
        model.check(&stream, loss, &what);
        self.watch();
        self.check_litter(&stream);
        self.with_model(|model| model.adopt(&stream, loss, &what));
        self.world.borrow_mut().between();
        stream
    }

    fn check_litter(&self, stream: &Stream) {
        let world = self.world.borrow();
        for entry in fs::read_dir(world.disk.root().join("stream/shards")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let is_known = stream.shards().iter().any(|shard| name == format!("{:012}", shard.id.get()));
            assert!(is_known, "{}: P16: litter: {name}", world.what);
        }
    }

    fn run(&mut self, loss: Option<Loss>) {
        let depth = self.world.borrow().depth;
        let mut stream = self.open(loss.unwrap_or(Loss::Power));
        for _ in 0..self.rng.below(OPS[depth] + 1) {
            stream = self.step(stream);
        }
        self.put_batch(&stream, KEYS);
        self.sync(&stream);
        self.put(&stream);
        self.close(stream);
        let stream = self.open(Loss::Nothing);
        self.put(&stream);
        self.close(stream);
    }

    fn step(&mut self, stream: Stream) -> Stream {
        match self.rng.below(100) {
            0..25 => self.put(&stream),
            25..40 => (0..self.rng.below(16)).for_each(|_| self.put(&stream)),
            40..52 => {
                let count = 1 + self.rng.below(12);
                self.put_batch(&stream, count);
            }
            52..58 => self.sync(&stream),
            58..60 => {
                // Some segments, with nothing synced in between.
                (0..60).for_each(|_| self.put(&stream));
            }
            60..63 => self.maintain(&stream),
            63..69 => self.seal(&stream),
            69..77 => self.reshard(&stream),
            77..82 => self.advance(),
            82..87 => {
                self.advance();
                // Some segments are begun, so that refilling trimmed ones pays.
                (0..self.rng.below(40)).for_each(|_| self.put(&stream));
                self.maintain(&stream);
                (0..self.rng.below(40)).for_each(|_| self.put(&stream));
            }
            87..91 => self.set_retention(&stream),
            91..96 => {
                self.close(stream);
                self.durability =
                    *self.rng.pick(&[Durability::Process, Durability::Process, Durability::Power]);
                return self.open(Loss::Nothing);
            }
            _ => {
                self.kill(stream);
                return self.open(Loss::Process);
            }
        }
        stream
    }

    fn draft(&mut self) -> Draft {
        let sizes = [512, 512, 512, 1024, 1024, 2048, 4096, 8192, 64, 1000 + self.rng.below(20_000)];
        let any = *self.rng.pick(&sizes);
        let frame =
            self.with_model(|model| model.frame_bytes).filter(|_| !self.rng.one_in(20)).unwrap_or(any);
        let key = self.rng.below(KEYS) as u8;
        self.with_model(|model| model.draft(key, frame - 41))
    }

    fn put(&mut self, stream: &Stream) {
        let draft = self.draft();
        let places = self.with_model(|model| model.expect(std::slice::from_ref(&draft)));
        let receipt = self.ok(stream.put([draft.key], &draft.data));
        let what = self.what();
        assert_eq!((receipt.shard.get(), receipt.sequence.get()), places[0], "{what}: P5: a receipt");
        self.put_has_returned(&places);
        if places[0].1.is_multiple_of(4) {
            // In a stream with threads, a thread does this.
            let _ = stream.prepare_ahead();
        }
    }

    fn put_batch(&mut self, stream: &Stream, count: usize) {
        let drafts: Vec<Draft> = (0..count).map(|_| self.draft()).collect();
        let places = self.with_model(|model| model.expect(&drafts));
        let keys: Vec<[u8; 1]> = drafts.iter().map(|draft| [draft.key]).collect();
        let records: Vec<_> =
            keys.iter().zip(&drafts).map(|(key, draft)| PutRecord::new(key, &draft.data)).collect();
        let what = self.what();
        for (outcome, place) in self.ok(stream.put_batch(&records)).into_iter().zip(&places) {
            let receipt = self.ok(outcome);
            assert_eq!((receipt.shard.get(), receipt.sequence.get()), *place, "{what}: P5: a receipt");
        }
        self.put_has_returned(&places);
    }

    fn put_has_returned(&mut self, places: &[(u32, u64)]) {
        let is_synced = self.durability == Durability::Power;
        self.with_model(|model| model.put_returned(places, is_synced));
        self.world.borrow_mut().between();
    }

    fn sync(&mut self, stream: &Stream) {
        self.ok(stream.sync());
        self.with_model(Model::all_is_synced);
        self.returned(stream);
    }

    fn maintain(&mut self, stream: &Stream) {
        let _ = stream.prepare_ahead();
        self.ok(stream.maintain());
        self.with_model(Model::all_is_synced);
        if stream.describe().encryption.is_some() && self.rng.one_in(2) {
            self.ok(stream.rotate_key());
        }
        self.returned(stream);
    }

    /// Does what the maintenance thread does when a segment is full.
    fn seal(&mut self, stream: &Stream) {
        if self.rng.one_in(4) {
            self.ok(stream.tidy());
        } else {
            self.ok(stream.seal_waiting());
        }
        self.returned(stream);
    }

    fn advance(&mut self) {
        let time = Duration::from_secs(*self.rng.pick(&[1, 20, 60, 150]));
        self.clock.advance(time);
        let now = self.clock.now();
        self.with_model(|model| model.now = now);
    }

    fn reshard(&mut self, stream: &Stream) {
        let open: Vec<ShardId> = {
            let mut open: Vec<_> = stream.shards().into_iter().filter(|shard| shard.is_open()).collect();
            open.sort_by_key(|shard| shard.hash_key_range.start);
            open.iter().map(|shard| shard.id).collect()
        };
        let (at, count) = (self.rng.below(open.len()), 1 + self.rng.below(3) as u32);
        self.with_model(|model| model.is_resharding = true);
        match self.rng.below(5) {
            0 | 1 if open.len() < 4 => drop(self.ok(stream.split_shard_evenly(open[at]))),
            2 | 3 if at + 1 < open.len() => drop(self.ok(stream.merge_shards(open[at], open[at + 1]))),
            _ => drop(self.ok(stream.update_shard_count(count))),
        }
        self.returned(stream);
    }

    fn set_retention(&mut self, stream: &Stream) {
        let mut retention = Retention::age(Duration::from_secs(20 + self.rng.next() % 200));
        if self.rng.one_in(3) {
            retention = retention.bytes_max(64 << (10 + self.rng.below(4)));
        }
        self.with_model(|model| model.retentions.push(retention));
        self.ok(stream.set_retention(retention));
        let what = self.what();
        assert_eq!(stream.describe().retention, retention, "{what}");
        self.returned(stream);
    }

    fn close(&mut self, stream: Stream) {
        self.ok(stream.close());
        self.with_model(Model::all_is_synced);
        self.world.borrow_mut().between();
    }

    /// Continues with what a killed process leaves.
    fn kill(&mut self, stream: Stream) {
        let mut world = self.world.borrow_mut();
        world.disk.settle();
        world.loss_count += 1;
        let root = world.dir.join(format!("{}-killed", world.loss_count));
        fs::create_dir(&root).unwrap();
        let forked = world.disk.fork(&root);
        let left = std::mem::replace(&mut world.disk, forked);
        drop(world);
        set_hook(None);
        drop(stream);
        self.watch();
        fs::remove_dir_all(left.root()).unwrap();
    }
}
