//! The permissions of a stream's files: the default, and `StreamOptions::file_mode`.

use crate::common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use streamlog::{MINUTE, Retention, ShardId, Stream, StreamOptions};

const SHARD: ShardId = ShardId::new(0);
const NOBODY: u32 = 65_534;

/// Returns a directory and all files and directories below it.
fn everything_in(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    if path.is_dir() && !path.is_symlink() {
        fs::read_dir(path).unwrap().for_each(|entry| found.extend(everything_in(&entry.unwrap().path())));
    }
    found
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn directory_mode(file_mode: u32) -> u32 {
    match file_mode {
        0o600 => 0o700,
        0o640 => 0o750,
        0o604 => 0o705,
        0o644 => 0o755,
        other => panic!("{other:o}"),
    }
}

/// Checks the modes of a directory and of all files and directories below it. Returns their names.
#[track_caller]
fn check_modes(path: &Path, mode: u32, when: &str) -> Vec<String> {
    let found = everything_in(path);
    for made in &found {
        let expected = if made.is_dir() { directory_mode(mode) } else { mode };
        assert_eq!(mode_of(made), expected, "{}, {when}: {:o}", made.display(), mode_of(made));
    }
    found.iter().map(|made| made.display().to_string()).collect()
}

/// Puts records of this length, with keys from 0 on.
fn put_some(stream: &Stream, count: u8, len: usize) {
    for key in 0..count {
        stream.put([key], vec![key; len]).unwrap();
    }
}

/// Makes files in every way that a stream does, and checks their modes after each step.
fn script(path: &Path, asked: Option<u32>) {
    let (stream_dir, mode, clock) = (path.join("stream"), asked.unwrap_or(0o600), common::clock());
    let options = || common::small(&clock).shards(2).retention(Retention::age(2 * MINUTE));
    let open = |options: StreamOptions| asked.map_or(options.clone(), |mode| options.file_mode(mode));
    let check = |when: &str| check_modes(path, mode, when);
    let stream = open(options()).open(&stream_dir).unwrap();
    check("once it is created");
    let mut seen = vec![];
    for minute in 0..8u8 {
        clock.advance(MINUTE);
        put_some(&stream, 60, 9_000 + usize::from(minute));
        seen.extend(check("after puts that roll"));
        stream.maintain().unwrap();
        seen.extend(check("once full segments are sealed, and trimmed ones refilled"));
    }
    let has = |end: &str| seen.iter().any(|name| name.ends_with(end));
    assert!(has(".seg.spare") && has(".seg"), "{seen:?}");
    stream.split_shard_evenly(SHARD).unwrap();
    put_some(&stream, 9, 10);
    check("after a split");
    stream.trim_before(SHARD, 1_000.into()).unwrap();
    let billing = stream.group("billing");
    let mut worker = billing.worker().open().unwrap();
    let batch = worker.poll(Duration::ZERO).unwrap().expect("there are records");
    worker.commit(&batch).unwrap();
    let with_group = check("with a consumer group");
    assert!(with_group.iter().any(|name| name.contains("groups/billing/shards/")), "{with_group:?}");
    stream.sync().unwrap();
    stream.set_retention(Retention::forever()).unwrap();
    check("after the manifest was replaced");
    drop(worker);
    stream.close().unwrap();
    check("once it is closed");

    // From here on, the mode comes from the manifest.
    let is_segment = |file: &PathBuf| file.extension().is_some_and(|it| it == "seg");
    let segment = everything_in(&stream_dir.join("shards")).into_iter().find(is_segment).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[4_150] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let stream = options().retention(Retention::forever()).salvage(true).open(&stream_dir).unwrap();
    assert!(stream.recovery().lost().count() > 0);
    let salvaged = check("once it is salvaged");
    assert!(salvaged.iter().any(|name| name.ends_with(".damaged")), "{salvaged:?}");
    assert_eq!(stream.describe().file_mode, mode);
    put_some(&stream, 60, 9_000);
    stream.group("shipping").worker().open().unwrap();
    check("with files that a later opening made");
    // The remains of an interrupted deletion become a new stream.
    stream.close().unwrap();
    fs::rename(stream_dir.join("manifest.json"), stream_dir.join("manifest.deleted")).unwrap();
    open(options()).open(&stream_dir).unwrap();
    check("once another one is in its place");
}

/// Reads all files below a directory. Fails at the first that cannot be read, or that can be written to.
fn read_everything(path: &Path) {
    let files: Vec<_> = everything_in(path).into_iter().filter(|found| !found.is_dir()).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(fs::OpenOptions::new().write(true).open(&file).is_err(), "{}", file.display());
    }
}

/// Not a test: another process, with a umask or a user of its own.
#[test]
fn child() {
    let Ok(path) = std::env::var("STREAMLOG_FILE_MODE_TEST") else { return };
    match std::env::var("STREAMLOG_FILE_MODE").unwrap().as_str() {
        "reads" => read_everything(Path::new(&path)),
        "default" => script(Path::new(&path), None),
        mode => script(Path::new(&path), Some(u32::from_str_radix(mode, 8).unwrap())),
    }
}

fn run_child(mut command: Command, path: &Path, what: &str) -> Output {
    command
        .args(common::child_test(module_path!()))
        .env("STREAMLOG_FILE_MODE_TEST", path)
        .env("STREAMLOG_FILE_MODE", what);
    command.output().unwrap()
}

#[test]
fn everything_that_is_created_has_the_mode_whatever_the_umask() {
    for mode in ["default", "600", "640", "604", "644"] {
        for umask in ["000", "022", "077"] {
            let scratch = common::scratch();
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(format!("umask {umask}; exec \"$0\" \"$@\""));
            shell.arg(std::env::current_exe().unwrap());
            let output = run_child(shell, &scratch.path().join("above"), mode);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{mode} with umask {umask}: {said}");
            assert!(scratch.path().join("above/stream/manifest.json").is_file(), "the child has run");
        }
    }
}

#[test]
fn another_users_process_reads_what_the_mode_lets_it_read_and_nothing_by_default() {
    if !fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0) {
        println!("skipped: only root can become another user");
        return;
    }
    let scratch = common::scratch();
    set_mode(scratch.path(), 0o755);
    let program = common::copy_of_program(scratch.path());
    let our_group = fs::metadata(scratch.path()).unwrap().gid();
    for (mode, group_reads, others_read) in [
        (None, false, false),
        (Some(0o640), true, false),
        (Some(0o604), false, true),
        (Some(0o644), true, true),
    ] {
        let path = scratch.path().join("stream");
        let options = StreamOptions::new();
        let stream = mode.map_or(options.clone(), |mode| options.file_mode(mode)).open(&path).unwrap();
        stream.put("key", "record").unwrap();
        stream.group("billing").worker().open().unwrap();
        for (group, reads) in [(our_group, group_reads), (NOBODY, others_read)] {
            let mut command = Command::new(&program);
            command.uid(NOBODY).gid(group).current_dir("/");
            let output = run_child(command, &path, "reads");
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert_eq!(output.status.success(), reads, "{mode:?}, group {group}: {said}");
            assert!(reads || said.contains("PermissionDenied"), "{said}");
        }
        stream.close().unwrap();
        Stream::delete(&path).unwrap();
    }
}

#[test]
fn opening_with_another_mode_changes_everything_and_later_openings_keep_it() {
    let scratch = common::scratch();
    let (path, outside) = (scratch.path().join("stream"), scratch.path().join("outside"));
    let stream = common::small(&common::clock()).open(&path).unwrap();
    put_some(&stream, 20, 9_000);
    stream.group("billing").worker().open().unwrap();
    stream.close().unwrap();
    check_modes(&path, 0o600, "by default");
    fs::write(&outside, "somebody's").unwrap();
    set_mode(&outside, 0o600);
    for (mode, wider) in [(0o640, true), (0o644, true), (0o600, false), (0o604, true)] {
        symlink(&outside, path.join("shards/link")).unwrap();
        let stream = StreamOptions::new().file_mode(mode).open(&path).unwrap();
        fs::remove_file(path.join("shards/link")).unwrap();
        assert_eq!(mode_of(&outside), 0o600, "a link inside a stream is not followed");
        check_modes(&path, mode, "as asked");
        stream.put("key", "record").unwrap();
        stream.group("billing").describe().unwrap();
        stream.group("shipping").worker().open().unwrap();
        stream.close().unwrap();
        let stream = Stream::open(&path).unwrap();
        assert_eq!(stream.describe().file_mode, mode);
        let shard = stream.shards().into_iter().rfind(|shard| shard.is_open()).unwrap().id;
        stream.split_shard_evenly(shard).unwrap();
        stream.put("key", "record").unwrap();
        check_modes(&path, mode, "as kept");
        drop(stream);
        let manifest = fs::read_to_string(path.join("manifest.json")).unwrap();
        assert_eq!(manifest.contains("file_mode"), wider, "{manifest}");
        assert!(!wider || manifest.contains(&format!("\"file_mode\": \"{mode:04o}\"")), "{manifest}");
    }
}

#[test]
fn a_stream_that_is_refused_keeps_its_mode_and_lets_nobody_in() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    Stream::open(&path).unwrap().put("key", "record").unwrap();
    let segment = common::segment_files(&path, 0).remove(0);
    let bytes = fs::read(&segment).unwrap();
    fs::remove_file(&segment).unwrap();
    StreamOptions::new().file_mode(0o644).open(&path).unwrap_err();
    let directories: Vec<_> =
        everything_in(&path).into_iter().filter(|found| found.is_dir()).map(|dir| mode_of(&dir)).collect();
    assert_eq!(directories, [0o700; 3], "while a segment is missing");
    assert!(!fs::read_to_string(path.join("manifest.json")).unwrap().contains("file_mode"));
    fs::write(&segment, bytes).unwrap();
    StreamOptions::new().file_mode(0o644).open(&path).unwrap();
    check_modes(&path, 0o644, "once it is back");
}

#[test]
fn what_a_crash_left_too_narrow_is_widened_where_it_is_used_again() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let open = || StreamOptions::new().file_mode(0o640).open(&path).unwrap();
    open().put("key", "record").unwrap();
    let segment = common::segment_files(&path, 0).remove(0);
    // As if the process had been killed between creating them and setting their mode.
    for file in [&path.join("LOCK"), &segment] {
        set_mode(file, 0o600);
    }
    open().put("key", "another").unwrap();
    check_modes(&path, 0o640, "once they are used");
    // With the default, a stream keeps modes that were set by hand.
    let by_hand = scratch.path().join("by hand");
    Stream::open(&by_hand).unwrap().put("key", "record").unwrap();
    set_mode(&by_hand.join("LOCK"), 0o644);
    Stream::open(&by_hand).unwrap().put("key", "record").unwrap();
    assert_eq!(mode_of(&by_hand.join("LOCK")), 0o644);
}

#[test]
fn a_directory_that_exists_keeps_its_mode_and_one_that_gives_its_group_goes_on_doing_so() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    fs::create_dir(&path).unwrap();
    set_mode(&path, 0o2711);
    StreamOptions::new().file_mode(0o644).open(&path).unwrap();
    assert_eq!(mode_of(&path), 0o2711);
    assert_eq!(mode_of(&path.join("shards")), 0o2755, "the new one has the same group");
    StreamOptions::new().file_mode(0o640).open(&path).unwrap();
    assert_eq!(mode_of(&path), 0o2750);
    assert_eq!(mode_of(&path.join("shards")), 0o2750);
}
