//! An opening that fails changes nothing: it decides first, and acts only once nothing can refuse the stream any more. P9.

use crate::common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use streamlog::{HOUR, KeyHash, MINUTE, ManualClock, PutRecord, Retention, StreamOptions};

/// Returns the contents of all files below a directory, except for the empty lock file, and the directories with no contents.
fn everything_in(root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()) {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            if entry.file_type().unwrap().is_dir() {
                found.insert(name, None);
                left.push(path);
            } else if entry.file_name() != "LOCK" {
                found.insert(name, Some(fs::read(path).unwrap()));
            }
        }
    }
    found
}

/// Makes the state that a kill leaves: two shards with sealed and unsealed segments, and files behind the horizon that were about to be removed.
fn killed(path: &Path, clock: &Arc<ManualClock>) -> PathBuf {
    let (running, killed) = (path.join("running"), path.join("killed"));
    let options = common::small(clock).shards(2).retention(Retention::age(HOUR));
    let stream = options.open(&running).unwrap();
    let put = |count: u32| {
        for _ in 0..count {
            for key in [0, u128::MAX] {
                let record = PutRecord::new("key", &[7; 10_000]).explicit_hash_key(key.into());
                stream.put_record(&record).unwrap();
            }
        }
    };
    put(30);
    clock.advance(2 * HOUR);
    put(20);
    stream.sync().unwrap();
    common::copy_dir(&running, &killed);
    stream.maintain().unwrap();
    put(8);
    stream.sync().unwrap();
    put(8);
    // The files that the pass removed are there again, as if the kill had come before.
    common::copy_dir(&running, &killed);
    let behind = everything_in(&killed).len() - everything_in(&running).len();
    assert!(behind > 4, "{behind} files are behind the horizon");
    killed
}

/// Changes one file of a stream in the numbered way. Returns `false` if there are no more ways.
fn damage(file: &Path, way: usize) -> bool {
    let mut bytes = fs::read(file).unwrap();
    let (len, flipped) = (bytes.len(), [0, 8, 20, 40, 100, 4_096, 4_120, 30_000, bytes.len() - 20]);
    match way {
        0 => fs::remove_file(file).unwrap(),
        1 => fs::write(file, &bytes[..len / 2]).unwrap(),
        2 => fs::write(file, b"").unwrap(),
        way if way - 3 < flipped.len() => {
            bytes[flipped[way - 3].min(len - 1)] ^= 4;
            fs::write(file, bytes).unwrap();
        }
        _ => return false,
    }
    true
}

/// Opens the stream. If that is refused, everything must be unchanged. Returns whether it was refused.
fn is_refused(path: &Path, options: StreamOptions, what: &str) -> bool {
    let before = everything_in(path);
    let Err(error) = options.open(path) else { return false };
    let after = everything_in(path);
    let changed: Vec<_> =
        before.keys().chain(after.keys()).filter(|name| before.get(*name) != after.get(*name)).collect();
    assert!(changed.is_empty(), "{what}: {error}: opening has changed {changed:?}");
    true
}

#[test]
fn p9_a_stream_that_is_refused_as_damaged_stays_as_it_is_with_its_settings() {
    let scratch = common::scratch();
    let clock = common::clock();
    let pristine = killed(scratch.path(), &clock);
    let has_bytes = |(name, bytes): (PathBuf, Option<Vec<u8>>)| bytes.map(|_| name);
    let files: Vec<_> = everything_in(&pristine).into_iter().filter_map(has_bytes).collect();
    let mut refused = 0;
    for name in &files {
        let mut ways = 0..;
        loop {
            let (way, path) = (ways.next().unwrap(), scratch.path().join("damaged"));
            common::copy_dir(&pristine, &path);
            let is_damaged = damage(&path.join(name), way);
            let what = format!("{} in way {way}", name.display());
            // Settings that retention acts on, and that were stored before the shards were checked.
            let shorter = Retention::age(MINUTE).bytes_max(1);
            let options = common::small(&clock).segment_bytes(128 << 10).retention(shorter);
            refused += usize::from(is_damaged && is_refused(&path, options, &what));
            fs::remove_dir_all(path).unwrap();
            if !is_damaged {
                break;
            }
        }
    }
    assert!(refused > 50, "{refused} of the damaged streams are refused");
}

#[test]
fn a_stream_that_is_refused_for_its_settings_stays_as_it_is() {
    let scratch = common::scratch();
    let clock = common::clock();
    let path = killed(scratch.path(), &clock);
    let small = || common::small(&clock).retention(Retention::age(MINUTE));
    for (options, what) in [
        (small().key_hash(KeyHash::Md5), "another hash"),
        (small().record_bytes_max(1 << 30), "too large records"),
        (small().must_be_new(), "a stream that must be new"),
    ] {
        assert!(is_refused(&path, options, what), "{what}");
    }
}
