//! Who may have a stream open, and who may access its files: P13, and the part of P11 that is about names.
//!
//! A file system without locks is not tested, because it would need a driver of its own. There, `open` would return the error of `flock`
//! with the name of the file.

use crate::common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use streamlog::{Error, Maintenance, ShardId, Stream, StreamOptions};

const SHARD: ShardId = ShardId::new(0);
/// Nothing here should wait. The limit is long because a machine may stall, and a wait for a pipe would never end.
const AT_ONCE: Duration = Duration::from_secs(120);

fn open(path: &Path) -> streamlog::Result<Stream> {
    StreamOptions::new().maintenance(Maintenance::Manual).open(path)
}

/// Opens a stream on another thread, so that an opening that never ends fails the test.
#[track_caller]
fn open_at_once(path: &Path) -> streamlog::Result<Stream> {
    let (send, receive) = mpsc::channel();
    let path = path.to_owned();
    std::thread::spawn(move || send.send(open(&path)));
    receive.recv_timeout(AT_ONCE).expect("opening does not wait")
}

/// Not a test: the other process. Opens a stream, puts a record, prints the outcome, and keeps the stream open until its input ends.
#[test]
fn child() {
    let Ok(path) = std::env::var("STREAMLOG_LOCK_TEST") else { return };
    match open(Path::new(&path)).and_then(|stream| stream.put("child", "record").map(|_| stream)) {
        Ok(stream) => {
            println!("\n> opened");
            std::io::stdin().read_to_end(&mut vec![]).unwrap();
            match stream.close() {
                Ok(()) => println!("\n> closed"),
                Err(error) => println!("\n> {error}"),
            }
        }
        Err(error) => println!("\n> {error}"),
    }
}

/// Another process that opens a stream, or tries to.
struct Other {
    process: Child,
    /// Dropped to end the child.
    input: Option<ChildStdin>,
    output: BufReader<std::process::ChildStdout>,
}

impl Other {
    fn start(path: &Path) -> Self {
        Self::with(Command::new(std::env::current_exe().unwrap()), path)
    }

    /// Starts the child with `command`, which runs this test program, directly or through a shell.
    fn with(mut command: Command, path: &Path) -> Self {
        command.args(common::child_test(module_path!())).env("STREAMLOG_LOCK_TEST", path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let (input, output) = (process.stdin.take(), BufReader::new(process.stdout.take().unwrap()));
        Self { process, input, output }
    }

    /// Returns the child's next message.
    fn says(&mut self) -> String {
        let mut lines = self.output.by_ref().lines().map_while(Result::ok);
        lines.find_map(|line| line.strip_prefix("> ").map(str::to_owned)).unwrap_or_default()
    }

    /// Makes the child close the stream, and returns its message.
    fn end(mut self) -> String {
        drop(self.input.take());
        let said = self.says();
        self.process.wait().unwrap();
        said
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn p13_another_process_is_told_at_once() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let mut holder = Other::start(&path);
    assert_eq!(holder.says(), "opened");
    let started = Instant::now();
    for _ in 0..100 {
        match open(&path) {
            Err(Error::Locked(by)) => {
                assert_eq!((&by.path, by.process_id), (&path, Some(holder.process.id())));
                assert_eq!((by.process_name, by.is_this_process), (Some(own_name()), false));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    assert_eq!(holder.end(), "closed");

    let stream = open(&path).expect("it is free at once");
    let mut second = Other::start(&path);
    let said = second.says();
    let (name, id) = (own_name(), std::process::id());
    let expected = format!("is open in process {id} ({name}): stop it, or open the stream read-only");
    assert_eq!(said, format!("{} {expected}", path.display()));
    drop(second);
    assert_eq!(common::read_all(&stream, SHARD).len(), 1, "the second one put nothing");
    stream.put("still", "open").unwrap();
}

/// Returns the file name of this test program.
fn own_name() -> String {
    std::env::current_exe().unwrap().file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn p13_the_lock_file_names_the_process_as_long_as_it_has_the_stream_open() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let lock = path.join("LOCK");
    let first_line = || fs::read_to_string(&lock).unwrap().lines().next().map(str::to_owned);
    let ours = format!("{} {}", std::process::id(), own_name());
    let stream = open(&path).unwrap();
    assert_eq!(first_line(), Some(ours.clone()));
    stream.clone().close().unwrap();
    assert_eq!(fs::metadata(&lock).unwrap().len(), 0, "nobody has it open");

    // Text left by a killed process is not trusted, however long it is.
    fs::write(&lock, "4711 clickd\n".repeat(1_000)).unwrap();
    let stream = open(&path).unwrap();
    assert_eq!(first_line(), Some(ours));
    assert_eq!(fs::read_to_string(&lock).unwrap().lines().count(), 2);
    drop(stream);
    assert_eq!(fs::metadata(&lock).unwrap().len(), 0, "nobody has it open");
    // A refused opening leaves no name either.
    let manifest = fs::read(path.join("manifest.json")).unwrap();
    fs::write(path.join("manifest.json"), "{}").unwrap();
    fs::write(&lock, "4711 clickd\n").unwrap();
    open(&path).unwrap_err();
    fs::write(path.join("manifest.json"), manifest).unwrap();
    open(&path).unwrap();
}

#[test]
fn p11_p13_whatever_is_in_the_lock_file_a_second_opener_is_told_in_one_plain_line() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let lock = path.join("LOCK");
    let stream = open(&path).unwrap();
    let nobody =
        "is open already, in this process or in another one: close it there, or open the stream read-only";
    let told = |expected: &str| {
        let error = open_at_once(&path).unwrap_err();
        assert!(matches!(error, Error::Locked(_)), "{error:?}");
        assert_eq!(error.to_string(), format!("{} {expected}", path.display()));
    };
    told("is open already in this process: share that handle or close it");
    for content in
        [&b""[..], b"4711 cli", b"hello\n", b"\0\0\0\0\0\n", b"-4 clickd\n", &[b'9'; 10_000], &[0xff; 600]]
    {
        fs::write(&lock, content).unwrap();
        told(nobody);
    }
    for (content, process) in [
        ("4711 clickd\n", "4711 (clickd)"),
        ("4711\n", "4711"),
        ("4711 two words\n", "4711 (two words)"),
        ("4711 a\x1b[31mb\rc\n", "4711 (a?[31mb?c)"),
    ] {
        fs::write(&lock, content).unwrap();
        told(&format!("is open in process {process}: stop it, or open the stream read-only"));
    }
    // The id and name of this process, but from another container: its mark differs.
    let id = std::process::id();
    fs::write(&lock, format!("{id} clickd\n0123456789abcdef\n")).unwrap();
    told(&format!("is open in process {id} (clickd): stop it, or open the stream read-only"));
    for put_there in [named_pipe, |path: &Path| fs::create_dir(path).unwrap()] {
        fs::remove_file(&lock).unwrap();
        put_there(&lock);
        told(nobody);
        if lock.is_dir() {
            fs::remove_dir(&lock).unwrap()
        } else {
            fs::remove_file(&lock).unwrap()
        };
        told(nobody);
        fs::write(&lock, "").unwrap();
    }
    drop(stream);
    open(&path).expect("the lock is free");
}

#[test]
fn p13_the_stream_of_a_group_names_who_has_it_too() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let stream = open(&path).unwrap();
    stream.group("billing").worker().open().unwrap();
    stream.close().unwrap();
    let group = path.join("groups/billing");
    let mut holder = Other::start(&group);
    assert_eq!(holder.says(), "opened");
    let stream = open(&path).unwrap();
    match stream.group("billing").worker().open() {
        Err(Error::Locked(by)) => assert_eq!((by.path, by.process_id), (group, Some(holder.process.id()))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn p13_a_second_handle_is_told_whatever_name_it_goes_by() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let stream = open(&path).unwrap();
    let link = scratch.path().join("link");
    symlink(&path, &link).unwrap();
    for name in [path.clone(), link, scratch.path().join("stream/../stream/.")] {
        assert!(matches!(open(&name), Err(Error::Locked(_))), "{}", name.display());
    }
    drop(stream);
    open(&path).unwrap();
}

#[test]
fn p13_a_killed_holder_leaves_no_lock() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    for round in 1..=10 {
        let mut holder = Other::start(&path);
        assert_eq!(holder.says(), "opened");
        // SIGKILL: it cannot clean up.
        holder.process.kill().unwrap();
        holder.process.wait().unwrap();
        let stream = open(&path).expect("the lock went with the process");
        assert_eq!(common::read_all(&stream, SHARD).len(), round);
        assert!(path.join("LOCK").exists(), "the file stays, and its content is replaced");
    }
}

#[test]
fn p13_a_child_process_inherits_no_lock() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let stream = open(&path).unwrap();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    stream.close().unwrap();
    let again = open(&path);
    child.kill().unwrap();
    child.wait().unwrap();
    again.expect("a child process holds no lock");
}

/// Returns all files and directories of a stream, including its own directory.
fn everything_in(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| found.extend(everything_in(&entry.unwrap().path())));
    }
    found
}

#[test]
fn only_the_owner_can_access_what_is_created_whatever_the_umask() {
    for umask in ["000", "022", "002", "077"] {
        let scratch = common::scratch();
        let path = scratch.path().join("above/stream");
        let mut shell = Command::new("sh");
        let script = format!("umask {umask}; exec \"$0\" \"$@\"");
        shell.arg("-c").arg(script).arg(std::env::current_exe().unwrap());
        let mut maker = Other::with(shell, &path);
        assert_eq!(maker.says(), "opened");
        let while_open = everything_in(&scratch.path().join("above"));
        assert_eq!(while_open.len(), 9, "{while_open:?}");
        assert_eq!(maker.end(), "closed");
        for made in while_open.iter().chain(&everything_in(&path)) {
            let metadata = fs::symlink_metadata(made).unwrap();
            let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(metadata.mode() & 0o7777, expected, "{} with umask {umask}", made.display());
        }
    }
}

/// Makes a closed stream with one record.
fn one_record(path: &Path) {
    let stream = open(path).unwrap();
    stream.put("key", "record").unwrap();
    stream.close().unwrap();
}

const SEGMENT: &str = "shards/000000000000/00000000000000000000.seg";
const FILES: [&str; 3] = ["LOCK", "manifest.json", SEGMENT];
const DIRECTORIES: [&str; 2] = ["shards", "shards/000000000000"];

/// Opens a stream in which something else replaces one of its files. Returns the text of the error, which names that file.
#[track_caller]
fn refused(path: &Path, name: &str) -> String {
    let error = open_at_once(path).expect_err(name);
    let Error::Io(failure) = &error else { panic!("{name}: {error:?}") };
    assert_eq!(failure.path, path.join(name), "{error}");
    error.to_string()
}

#[test]
fn a_link_inside_a_stream_is_not_followed() {
    for name in FILES.into_iter().chain(DIRECTORIES) {
        let scratch = common::scratch();
        let (path, elsewhere) = (scratch.path().join("stream"), scratch.path().join("elsewhere"));
        one_record(&path);
        fs::rename(path.join(name), &elsewhere).unwrap();
        let before = everything_in(&elsewhere);
        symlink(&elsewhere, path.join(name)).unwrap();
        let text = refused(&path, name);
        assert!(
            text.contains("symbolic link") && text.contains("put what it leads to in its place"),
            "{text}"
        );
        assert_eq!(everything_in(&elsewhere), before, "{name}: the link's target is left alone");
        // The remedy that the error names.
        fs::remove_file(path.join(name)).unwrap();
        fs::rename(&elsewhere, path.join(name)).unwrap();
        assert_eq!(common::read_all(&open(&path).unwrap(), SHARD).len(), 1);
    }
}

#[test]
fn a_link_that_leads_nowhere_makes_nothing_there() {
    for name in FILES.into_iter().chain(DIRECTORIES) {
        let scratch = common::scratch();
        let (path, nowhere) = (scratch.path().join("stream"), scratch.path().join("nowhere"));
        fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
        if name == SEGMENT || name == "manifest.json" {
            // These need the rest of a stream. Without it, opening fails with another error.
            one_record(&path);
            fs::remove_file(path.join(name)).unwrap();
        }
        symlink(&nowhere, path.join(name)).unwrap();
        refused(&path, name);
        assert!(!nowhere.exists(), "{name}");
    }
}

#[test]
fn the_next_manifest_is_written_to_a_file_of_its_own() {
    let scratch = common::scratch();
    let (path, victim) = (scratch.path().join("stream"), scratch.path().join("victim"));
    one_record(&path);
    fs::write(&victim, "somebody's").unwrap();
    let next = path.join("manifest.new");
    let links: [&dyn Fn(); 4] = [
        &|| symlink(&victim, &next).unwrap(),
        &|| fs::hard_link(&victim, &next).unwrap(),
        &|| fs::write(&next, "left by a crash").unwrap(),
        &|| named_pipe(&next),
    ];
    for (number, put_there) in links.into_iter().enumerate() {
        put_there();
        let stream = open_at_once(&path).unwrap();
        stream.put("key", "another record").unwrap();
        stream.close().unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"somebody's", "{number}");
        let manifest = fs::symlink_metadata(path.join("manifest.json")).unwrap();
        assert!(manifest.is_file() && manifest.nlink() == 1 && manifest.mode() & 0o777 == 0o600, "{number}");
        assert!(fs::symlink_metadata(&next).is_err(), "{number}");
    }
    assert_eq!(common::read_all(&open(&path).unwrap(), SHARD).len(), 5);
    fs::create_dir(&next).unwrap();
    let stream = open(&path).unwrap();
    stream.put("key", "and one more").unwrap();
    let error = stream.close().unwrap_err();
    assert!(error.to_string().contains(next.to_str().unwrap()), "{error}");
    assert_eq!(common::read_all(&open(&path).unwrap(), SHARD).len(), 6, "the stream is closed nevertheless");
}

#[test]
fn a_stream_may_be_reached_through_a_link() {
    let scratch = common::scratch();
    let (path, link) = (scratch.path().join("big/clicks"), scratch.path().join("clicks"));
    fs::create_dir_all(&path).unwrap();
    symlink(&path, &link).unwrap();
    one_record(&link);
    assert_eq!(common::read_all(&open(&path).unwrap(), SHARD).len(), 1);
    assert_eq!(common::read_all(&open(&link).unwrap(), SHARD).len(), 1);
}

fn named_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn p11_what_is_no_file_is_refused_and_nobody_waits_for_it() {
    for name in FILES {
        for make in [named_pipe, |path: &Path| fs::create_dir(path).unwrap()] {
            let scratch = common::scratch();
            let path = scratch.path().join("stream");
            one_record(&path);
            fs::remove_file(path.join(name)).unwrap();
            make(&path.join(name));
            refused(&path, name);
        }
    }
    // A segment that is opened only when it is read.
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let stream = common::small(&common::clock()).open(&path).unwrap();
    for number in 0..20u8 {
        stream.put("key", vec![number; 10_000]).unwrap();
    }
    stream.close().unwrap();
    let first = common::segment_files(&path, 0).remove(0);
    fs::remove_file(&first).unwrap();
    named_pipe(&first);
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let stream = common::small(&common::clock()).open(&path).unwrap();
        let mut iterator = stream.iterator(SHARD, streamlog::Position::TrimHorizon).unwrap();
        send.send(iterator.next_batch(1).map(drop))
    });
    let error = receive.recv_timeout(AT_ONCE).expect("reading does not wait").unwrap_err();
    assert!(error.to_string().contains(first.to_str().unwrap()), "{error}");
    assert!(error.to_string().contains("no regular file"), "{error}");
}

#[test]
fn p11_a_file_in_the_place_of_a_directory_is_refused() {
    for name in DIRECTORIES {
        let scratch = common::scratch();
        let path = scratch.path().join("stream");
        one_record(&path);
        fs::remove_dir_all(path.join(name)).unwrap();
        fs::write(path.join(name), "").unwrap();
        let error = open(&path).unwrap_err();
        assert!(error.to_string().contains(path.join(name).to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_directory_that_others_may_write_to_is_reported() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    one_record(&path);
    for (mode, expected) in
        [(0o700, false), (0o755, false), (0o775, true), (0o702, true), (0o1777, true), (0o500, false)]
    {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let stream = open(&path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(stream.unwrap().recovery().is_writable_by_others, expected, "{mode:o}");
    }
    let link = scratch.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(!open(&link).unwrap().recovery().is_writable_by_others, "a link's own mode means nothing");
}

fn am_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

const NOBODY: u32 = 65_534;

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    command
}

#[test]
fn somebody_elses_stream_and_a_directory_without_write_permission_are_refused() {
    if !am_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let scratch = common::scratch();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = common::copy_of_program(scratch.path());
    let path = scratch.path().join("stream");
    one_record(&path);
    let mut stranger = Other::with(as_nobody(&program), &path);
    let said = stranger.says();
    assert!(said.contains(path.to_str().unwrap()) && said.contains("Permission denied"), "{said}");

    let own = scratch.path().join("own");
    fs::create_dir(&own).unwrap();
    std::os::unix::fs::chown(&own, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o500)).unwrap();
    let mut owner = Other::with(as_nobody(&program), &own);
    let said = owner.says();
    assert!(said.contains(own.to_str().unwrap()) && said.contains("Permission denied"), "{said}");
    assert_eq!(fs::read_dir(&own).unwrap().count(), 0);

    // A stream that exists already: its records are safe, but the manifest cannot be written.
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
    let mut owner = Other::with(as_nobody(&program), &own);
    assert_eq!(owner.says(), "opened");
    assert_eq!(owner.end(), "closed");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o500)).unwrap();
    let mut owner = Other::with(as_nobody(&program), &own);
    assert_eq!(owner.says(), "opened");
    let said = owner.end();
    assert!(said.contains("manifest.new") && said.contains("Permission denied"), "{said}");
    assert_eq!(common::read_all(&open(&own).unwrap(), SHARD).len(), 2);
}

/// Runs this test program in a mount namespace of its own, where a shell script makes the stream's directory read-only.
#[test]
fn a_read_only_file_system_is_an_error_that_names_the_file() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    one_record(&path);
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "sh", "-c"]);
    // The bind mount ends with the namespace.
    shell.arg(
        "if mount --bind \"$STREAMLOG_LOCK_TEST\" \"$STREAMLOG_LOCK_TEST\" \
         && mount -o remount,bind,ro \"$STREAMLOG_LOCK_TEST\"; then exec \"$0\" \"$@\"; fi; echo '> no mount'",
    );
    shell.arg(std::env::current_exe().unwrap());
    let can_mount = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
    if !can_mount.is_ok_and(|status| status.success()) {
        println!("skipped: a read-only mount needs root and `unshare`");
        return;
    }
    let said = Other::with(shell, &path).says();
    if said == "no mount" {
        println!("skipped: mounts are not allowed here");
        return;
    }
    assert!(said.contains(path.join("LOCK").to_str().unwrap()) && said.contains("Read-only"), "{said}");
    assert_eq!(common::read_all(&open(&path).unwrap(), SHARD).len(), 1, "nothing was changed");
}

#[test]
fn p13_the_lock_is_free_when_close_returns() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    for _ in 0..20 {
        let stream = StreamOptions::new().open(&path).unwrap();
        let clone = stream.clone();
        stream.put("key", "").unwrap();
        stream.close().unwrap();
        open(&path).expect("the lock is free even if a clone is left").close().unwrap();
        drop(clone);
    }
}
