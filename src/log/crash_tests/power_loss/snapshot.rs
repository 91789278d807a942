//! Power is lost while a snapshot is taken, and after it.

use std::cell::RefCell;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

use super::super::snapshot::{Content, commit, content, options, put, refuse_links, take};
use super::super::steps::scratch;
use super::disk::Disk;
use super::rng::Rng;
use crate::Error;
use crate::log::sys::fault::set_hook;

/// Returns what is in a snapshot that power loss left, or `None` if it does not open.
fn left(image: &Path, what: &str) -> Option<Content> {
    // In another thread, where no hook is set.
    std::thread::scope(|threads| {
        let open = || match options().must_exist().open(image.join("to")) {
            Ok(backup) => {
                let found = backup.verify(|_| ControlFlow::Continue(())).unwrap();
                assert_eq!(found.damage, [], "{what}");
                let held = content(&backup);
                backup.close().unwrap();
                Some(held)
            }
            Err(Error::NotAStream(_)) => None,
            Err(error) => panic!("{what}: {error}"),
        };
        threads.spawn(open).join().unwrap()
    })
}

#[test]
fn p2_p16_power_loss_leaves_the_last_snapshot_or_the_new_one_and_takes_nothing_of_one_that_is_complete() {
    for seed in 0..24 {
        let (scratch, mut rng) = (scratch(), Rng::new(seed));
        let (has_no_links, has_old) = (seed % 2 == 1, seed % 3 > 0);
        let (root, image) = (scratch.path().join("disk"), scratch.path().join("image"));
        let to = root.join("to");
        fs::create_dir(&root).unwrap();
        let stream = options().shards(2).open(root.join("stream")).unwrap();
        put(&stream, 20);
        commit(&stream);
        let mut old = None;
        if has_old {
            take(&stream, &to).unwrap();
            old = Some(content(&stream));
        }
        let disk = Rc::new(RefCell::new(Disk::new(&root)));
        // Set once the stream holds what the snapshot will hold.
        let new: Rc<RefCell<Option<Content>>> = Rc::default();
        let mut image_count = 0;
        set_hook(Some(Box::new({
            let (disk, new, old, image) = (Rc::clone(&disk), Rc::clone(&new), old.clone(), image.clone());
            move |action, file| {
                let mut disk = disk.borrow_mut();
                disk.settle();
                if new.borrow().is_some() && rng.one_in(4) {
                    disk.write_back_some(&mut rng);
                    disk.image(&image, &mut rng);
                    image_count += 1;
                    let what = format!("seed {seed}, image {image_count}, {action} {}", file.display());
                    let held = left(&image, &what);
                    assert!(held == old || held == *new.borrow(), "{what}: neither the old one nor the new");
                    fs::remove_dir_all(&image).unwrap();
                }
                refuse_links(has_no_links, action)?;
                disk.begin(action, file);
                Ok(())
            }
        })));
        put(&stream, 25);
        let shards = stream.shards();
        stream.split_shard_evenly(shards[0].id).unwrap();
        put(&stream, 5);
        stream.maintain().unwrap();
        let horizon = stream.stats().unwrap().shards[1].horizon;
        stream.trim_before(shards[1].id, horizon.plus(12)).unwrap();
        stream.maintain().unwrap();
        put(&stream, 10);
        *new.borrow_mut() = Some(content(&stream));
        take(&stream, &to).unwrap();
        set_hook(None);
        disk.borrow_mut().settle();
        let mut rng = Rng::new(seed + 1_000);
        for round in 0..5 {
            disk.borrow().image(&image, &mut rng);
            let held = left(&image, &format!("seed {seed}, after it, {round}"));
            assert!(
                held == *new.borrow(),
                "seed {seed}, {round}: P2: it is complete, and power loss took some"
            );
            fs::remove_dir_all(&image).unwrap();
        }
    }
}
