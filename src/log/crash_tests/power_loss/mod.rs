//! Power is lost at random moments of random lives, and takes everything that a disk may forget: P2, P3, P4, P5, P7, P9, P12, P16.

#[cfg(test)]
mod disk;
#[cfg(test)]
mod life;
#[cfg(test)]
mod model;
#[cfg(test)]
mod rng;
#[cfg(test)]
mod snapshot;

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use disk::Disk;
use life::Tally;
use rng::Rng;

use crate::log::sys::fault::set_hook;
use crate::{Maintenance, StreamOptions};

/// Lives the streams of one seed after the other until `image_count` images were taken and `image_count / 30` trimmed segments were used
/// again (seeds differ much in that; it gives up at 10 times the images), or only those of the seed that the environment names.
fn lose_power(image_count: u64) {
    let only: Option<u64> = std::env::var("STREAMLOG_SEED").ok().map(|seed| seed.parse().unwrap());
    let tally = Arc::new(Tally::default());
    let (next_seed, has_failed) = (AtomicU64::new(only.unwrap_or(0)), AtomicBool::new(false));
    let is_enough = || {
        let [images, again] = [&tally.images, &tally.again].map(|count| count.load(Ordering::Relaxed));
        images >= image_count && (again > image_count / 30 || images >= 10 * image_count)
    };
    let work = || {
        while !is_enough() && !has_failed.load(Ordering::Relaxed) {
            let seed = next_seed.fetch_add(1, Ordering::Relaxed);
            if only.is_some_and(|only| seed > only) {
                return;
            }
            let scratch = super::steps::scratch();
            let lived = catch_unwind(AssertUnwindSafe(|| life::run(seed, scratch.path(), &tally)));
            if lived.is_err() {
                has_failed.store(true, Ordering::Relaxed);
                panic!("to see it again: STREAMLOG_SEED={seed} cargo test power_loss");
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
    println!("{} seeds: {tally:?}", next_seed.into_inner());
    if only.is_none() {
        let [images, changed] = [&tally.images, &tally.changed].map(|count| count.load(Ordering::Relaxed));
        assert!(changed * 2 > images, "{changed} of {images} images differ from the live files");
        let again = tally.again.load(Ordering::Relaxed);
        assert!(again > image_count / 30, "{again} trimmed segments were used again");
    }
}

#[test]
fn p2_p3_p5_p7_p9_p16_power_loss_takes_nothing_that_was_synced_and_is_no_damage() {
    lose_power(400);
}

#[test]
#[ignore = "takes minutes"]
fn p2_p3_p5_p7_p9_p16_power_loss_many_times() {
    let count = std::env::var("STREAMLOG_IMAGES").ok().map_or(20_000, |count| count.parse().unwrap());
    lose_power(count);
}

/// Random lives hardly ever meet this: the file has to come back, and the new records have to end exactly where it begins.
#[test]
fn p3_p5_files_that_recovery_cut_do_not_come_back_behind_new_records() {
    let scratch = super::steps::scratch();
    let [first, second] = ["first", "second"].map(|name| scratch.path().join(name));
    for root in [&first, &second] {
        fs::create_dir(root).unwrap();
    }
    let options = || StreamOptions::new().segment_bytes(64 << 10).maintenance(Maintenance::Manual);
    let stream = options().open(first.join("stream")).unwrap();
    for _ in 0..5 {
        stream.put("key", vec![1; 30_000 - 43]).unwrap();
    }
    drop(Disk::new(&first).fork(&second));
    drop(stream);
    let segment = |base: u64| format!("stream/shards/000000000000/{base:020}.seg");
    let torn = fs::OpenOptions::new().write(true).open(second.join(segment(0))).unwrap();
    torn.write_all_at(&[0; 100], 4096 + 30_000).unwrap();

    let disk = Rc::new(RefCell::new(Disk::new(&second)));
    let seen = Rc::clone(&disk);
    set_hook(Some(Box::new(move |action, path| {
        seen.borrow_mut().settle();
        seen.borrow_mut().begin(action, path);
        Ok(())
    })));
    let stream = options().open(second.join("stream")).unwrap();
    assert_eq!(stream.put("key", "again").unwrap().sequence, 1.into());
    set_hook(None);
    disk.borrow_mut().settle();
    for seed in 0..50 {
        let image = scratch.path().join(format!("{seed}"));
        disk.borrow().image(&image, &mut Rng::new(seed));
        assert!([2, 4].iter().all(|&base| !image.join(segment(base)).exists()), "seed {seed}");
    }
}
