//! The commands that only read, while a service has the stream open.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};

use streamlog::{Maintenance, StreamOptions};

use super::*;

const NOBODY: u32 = 65_534;

/// A process that has a stream open: it puts its input lines, and prints each once it is in the stream.
struct Service {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Service {
    fn start(place: &Place, options: &[&str]) -> Self {
        let mut command = place.command("put", &[options, &["--follow"]].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut service = Self { child, stdin, stdout: BufReader::new(stdout) };
        // By now it has the stream open.
        service.put("ready\n");
        service
    }

    /// Puts lines, and returns once they are in the stream.
    fn put(&mut self, lines: &str) {
        self.stdin.write_all(lines.as_bytes()).unwrap();
        for _ in lines.lines() {
            let mut line = String::new();
            self.stdout.read_line(&mut line).unwrap();
            assert!(line.ends_with('\n'), "it died: {:?}", self.child.try_wait());
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends its input, which ends the service.
    fn stop(self) {
        let Self { child, stdin, stdout } = self;
        drop(stdin);
        succeeds(&ends(child));
        drop(stdout);
    }
}

/// A command that keeps printing. Its output is read line by line: until then, it must wait.
struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::sync_channel(0);
        thread::spawn(move || stdout.lines().try_for_each(|line| sender.send(line.unwrap()).ok()));
        Self { child, lines }
    }

    /// Returns the next line, or `None` if there is none any more.
    #[track_caller]
    fn next(&mut self) -> Option<String> {
        match self.lines.recv_timeout(Duration::from_secs(30)) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                self.child.kill().unwrap();
                panic!("nothing more is printed, and it does not end");
            }
        }
    }

    /// Reads the next lines and checks them.
    #[track_caller]
    fn prints(&mut self, expected: &str) {
        expected.lines().for_each(|expected| assert_eq!(self.next().as_deref(), Some(expected)));
    }

    /// Reads the rest, and waits until the command has ended by itself.
    #[track_caller]
    fn rest(mut self) -> (Output, String) {
        let mut rest = String::new();
        while let Some(line) = self.next() {
            rest += &(line + "\n");
        }
        (ends(self.child), rest)
    }

    /// Presses Ctrl-C. Nothing more may be printed.
    fn interrupt(mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "it waits for more");
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let (output, rest) = self.rest();
        assert_eq!((output.status.code(), rest.as_str(), stderr(&output)), (Some(130), "", String::new()));
    }
}

/// Returns all files of a stream with their contents and modification times, except for the one in which waiting readers register.
pub(super) fn files_of(place: &Place) -> Vec<(PathBuf, Vec<u8>, SystemTime)> {
    let mut found = vec![];
    let mut left = vec![place.stream()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            found.push((path.clone(), vec![], modified(&path)));
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if !path.ends_with("bell") {
            found.push((path.clone(), std::fs::read(&path).unwrap(), modified(&path)));
        }
    }
    found.sort();
    found
}

/// Returns the files of a stream once its service is idle: a second after a put, its maintenance seals rolled segments.
fn quiet_files_of(place: &Place) -> Vec<(PathBuf, Vec<u8>, SystemTime)> {
    let mut files = files_of(place);
    for _ in 0..20 {
        thread::sleep(Duration::from_secs(2));
        let later = files_of(place);
        if later == files {
            return files;
        }
        files = later;
    }
    panic!("the files of a service that does nothing go on changing");
}

#[test]
fn l8_what_only_reads_works_while_a_service_has_the_stream_open_and_changes_nothing() {
    let place = Place::create(&["--shards", "3", "--segment-bytes", "64K", "--retention", "forever"]);
    let log: String = (0..3_000).map(|number| format!("h{} line {number}\n", number % 11)).collect();
    let mut service = Service::start(&place, &["--key-column", "1", "--power"]);
    service.put(&log);
    let log = format!("ready\n{log}");

    let before = quiet_files_of(&place);
    assert!(lines_by_key(log.as_bytes()) == printed_by_key(&place.cat(&["--with-key"])));
    let by_time = place.cat(&["--order", "time", "--with-key"]);
    assert!(lines_by_key(log.as_bytes()) == printed_by_key(&by_time));
    assert_eq!(place.cat(&["--from", "latest"]), b"");
    assert_eq!(json_lines(&place.run("tail", &["-n", "2", "--json"]).stdout).len(), 6);
    let described = place.json("describe", &[]);
    assert_eq!((&described["record_count"], &described["durability"]), (&3_001.into(), &"power".into()));
    for shard in described["shards"].as_array().unwrap() {
        assert_eq!(shard["synced_sequence"], shard["next_sequence"]);
    }
    assert!(place.print("describe", &[]).contains("records      3,001\n"));
    assert_eq!(place.numbers("latest"), [0, 1, 2]);
    let verified = place.json("verify", &[]);
    assert_eq!((&verified["record_count"], &verified["is_complete"]), (&3_001.into(), &true.into()));
    assert_eq!(place.print("retention", &[]), "forever\n");
    assert_eq!(place.json("groups", &[])["groups"].as_array().unwrap().len(), 0);
    fails(&place.run("lag", &["g"]), &["no consumer group \"g\""]);
    let backup = tempfile::tempdir().unwrap();
    let to = backup.path().join("snapshot");
    place.print("snapshot", &[to.to_str().unwrap()]);
    let snapshot = streamlog::StreamReader::open(&to).unwrap();
    assert_eq!(snapshot.stats().unwrap().record_count(), 3_001);
    assert!(files_of(&place) == before);

    let holder =
        format!("{} is open in process {} (streamlog)", place.stream().display(), service.child.id());
    for (name, options) in [
        ("put", &[][..]),
        ("split", &["0"]),
        ("merge", &["0", "1"]),
        ("scale", &["2"]),
        ("retention", &["--age", "1h"]),
        ("salvage", &[]),
    ] {
        fails(&place.run(name, options), &[&holder, "stop it"]);
    }
    assert!(files_of(&place) == before, "who was refused has changed nothing");
    service.put("h0 more\n");
    service.stop();
    assert_eq!(place.json("describe", &[])["record_count"], 3_002);
    assert!(place.was_closed_cleanly());
}

#[test]
fn l8_tail_and_cat_follow_a_service_that_is_killed_and_stopped_and_started_across_splits_and_merges() {
    let place = Place::create(&[]);
    let mut service = Service::start(&place, &["--key", "k"]);
    let mut tail = Following::start(place.command("tail", &["-f", "-q", "-n", "1"]));
    let mut cat = Following::start(place.command("cat", &["-f", "--count", "9"]));
    let mut one_shard = Following::start(place.command("cat", &["-f", "--shard", "0"]));
    let all = [&mut tail, &mut cat, &mut one_shard];
    all.into_iter().for_each(|following| following.prints("ready\n"));
    service.put("1\n2\n");
    [&mut tail, &mut cat, &mut one_shard].into_iter().for_each(|following| following.prints("1\n2\n"));
    service.kill();
    // While nobody has it open, and after it was opened again.
    assert!(tail.child.try_wait().unwrap().is_none());
    assert_eq!(place.cat(&[]), b"ready\n1\n2\n");
    place.print("split", &["0"]);
    let (output, rest) = one_shard.rest();
    assert_eq!((output.status.code(), rest.as_str()), (Some(0), ""), "{}", stderr(&output));
    let mut service = Service::start(&place, &["--key", "k"]);
    service.put("3\n");
    [&mut tail, &mut cat].into_iter().for_each(|following| following.prints("ready\n3\n"));
    service.stop();
    place.print("merge", &["1", "2"]);
    let mut service = Service::start(&place, &["--key", "k"]);
    service.put("4\n5\n6\n7\n8\n");
    tail.prints("ready\n4\n5\n6\n7\n8\n");
    cat.prints("ready\n4\n5\n6\n");
    let (output, rest) = cat.rest();
    assert_eq!((output.status.code(), rest.as_str()), (Some(0), ""), "{}", stderr(&output));
    tail.interrupt();
    service.put("9\n");
    service.stop();
    assert_eq!(lines(&place.cat(&[])).len(), 12);
}

#[test]
fn l8_readers_that_are_killed_or_whose_output_is_closed_do_not_disturb_the_service() {
    let place = Place::create(&[]);
    let mut service = Service::start(&place, &["--key", "k"]);
    for number in 0..3 {
        let mut tail = Following::start(place.command("tail", &["-f", "-n", "1"]));
        let mut closed = place.command("cat", &["-f", "--from", "0"]);
        let mut closed = closed.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = closed.stdout.take().unwrap();
        let line = if number == 0 { "ready\n".to_owned() } else { format!("{}\n", number - 1) };
        tail.prints(&line);
        stdout.read_exact(&mut [0; 6]).unwrap();
        tail.child.kill().unwrap();
        tail.child.wait().unwrap();
        assert!(closed.try_wait().unwrap().is_none(), "it waits for more");
        drop(stdout);
        let output = ends(closed);
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
        service.put(&format!("{number}\n"));
    }
    service.stop();
    assert_eq!(place.cat(&[]), b"ready\n0\n1\n2\n");
    assert!(place.was_closed_cleanly());
}

#[test]
fn l8_a_group_is_consumed_reset_and_deleted_beside_the_service_and_whoever_has_it_open_is_named() {
    let place = Place::create(&["--shards", "2"]);
    let mut service = Service::start(&place, &["--key", "k"]);
    service.put("1\n2\n");
    assert_eq!(place.print("consume", &["billing"]), "ready\n1\n2\n");
    assert_eq!(place.print("consume", &["billing"]), "");
    service.put("3\n");
    let before = files_of(&place);
    assert_eq!(place.json("lag", &["billing"])["record_count"], 1);
    assert!(place.print("groups", &[]).contains("\nbilling        1 "));
    assert!(files_of(&place) == before);
    let mut consume = Following::start(place.command("consume", &["billing", "-f"]));
    consume.prints("3\n");
    service.put("4\n5\n");
    consume.prints("4\n5\n");
    let id = consume.child.id();
    for (name, options) in
        [("consume", &["billing"][..]), ("reset", &["billing", "latest"]), ("delete-group", &["billing"])]
    {
        fails(&place.run(name, options), &[&format!("billing is open in process {id} (streamlog)")]);
    }
    assert!(
        comes_true(|| place.json("lag", &["billing"])["record_count"] == 0),
        "what is printed is committed"
    );
    service.kill();
    place.print("split", &["0"]);
    let mut service = Service::start(&place, &["--key", "k"]);
    service.put("6\n");
    consume.prints("ready\n6\n");
    consume.interrupt();
    place.print("reset", &["billing", "horizon"]);
    assert_eq!(lines(&place.run("consume", &["billing"]).stdout).len(), 8);
    place.print("delete-group", &["billing"]);
    assert_eq!(place.json("groups", &[])["groups"].as_array().unwrap().len(), 0);
    service.stop();
    assert!(place.was_closed_cleanly());
}

#[test]
fn delete_group_ends_a_hold_while_nobody_has_the_stream_open() {
    let place = Place::create(&[]);
    let stream = Stream::open(place.stream()).unwrap();
    let worker = stream.group("billing").worker().hold(1 << 30).open().unwrap();
    drop(worker);
    fails(&place.run("delete-group", &["billing"]), &["has a hold on retention", "has the stream open"]);
    stream.close().unwrap();
    place.print("delete-group", &["billing"]);
    assert!(Stream::open(place.stream()).unwrap().describe().holds.is_empty());
}

#[test]
fn l8_cat_ends_where_the_stream_ended_when_it_began() {
    let place = Place::create(&[]);
    let stream = Stream::open(place.stream()).unwrap();
    for number in 0..20_000u32 {
        stream.put("k", number.to_string()).unwrap();
    }
    for options in [&[][..], &["--order", "time"]] {
        let mut cat = Following::start(place.command("cat", options));
        // It cannot continue before its output is read: a pipe holds less.
        cat.prints("0\n");
        let more = stream.put("k", "put meanwhile").unwrap();
        let (output, rest) = cat.rest();
        succeeds(&output);
        assert_eq!(rest.lines().count() as u64, more.sequence.get() - 1);
    }
}

#[test]
fn l8_a_stream_of_many_shards_is_followed_whatever_the_soft_limit_of_open_files() {
    let place = Place::create(&["--shards", "200"]);
    let stream = small().open(place.stream()).unwrap();
    let put = |number: u32| {
        for shard in stream.shards() {
            let data = number.to_string();
            let record = PutRecord::new("k", &data).explicit_hash_key(shard.hash_key_range.start);
            stream.put_record(&record).unwrap();
        }
    };
    put(1);
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -S -n 100; exec \"$@\"", "sh"]).arg(tool()).arg("tail").arg(place.stream());
    let mut tail = Following::start({
        shell.args(["-f", "-q"]).stdin(Stdio::null());
        shell
    });
    tail.prints(&"1\n".repeat(200));
    put(2);
    tail.prints(&"2\n".repeat(200));
    tail.interrupt();
}

#[test]
fn l8_another_user_reads_what_the_file_mode_lets_it_read_and_changes_nothing() {
    use std::os::unix::fs::MetadataExt;
    if !std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0) {
        println!("skipped: only root can become another user");
        return;
    }
    let place = Place::create(&["--file-mode", "644"]);
    let private = Place::create(&[]);
    let all_may = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    all_may(place.directory.path());
    all_may(private.directory.path());
    let program = place.directory.path().join("program");
    // Another process makes the copy, so that no child of this one has it open for writing.
    let copied = Command::new("install").args(["-m", "755"]).arg(tool()).arg(&program).status().unwrap();
    assert!(copied.success());
    let as_nobody = |place: &Place, name: &str, options: &[&str]| {
        let mut command = Command::new(&program);
        command.arg(name).arg(place.stream()).args(options).stdin(Stdio::null());
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        command
    };
    let mut service = Service::start(&place, &[]);
    service.put("1\n2\n");
    let run = |name: &str, options: &[&str]| {
        let output = as_nobody(&place, name, options).output().unwrap();
        succeeds(&output);
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run("cat", &[]), "ready\n1\n2\n");
    assert!(run("describe", &[]).contains("records      3\n"));
    assert!(run("shards", &[]).contains("open"));
    assert!(run("verify", &[]).contains("read 3 records"));
    let mut tail = Following::start(as_nobody(&place, "tail", &["-f", "-n", "1"]));
    tail.prints("2\n");
    service.put("3\n4\n");
    tail.prints("3\n4\n");
    tail.interrupt();
    service.stop();
    assert_eq!(run("tail", &["-n", "1"]), "4\n", "also while nobody has it open");
    let stream = Stream::open(place.stream()).unwrap();
    let queue = stream.queue("jobs").max_receive_count(1).open().unwrap();
    let processor = stream.processor("audit").start(|_| ()).unwrap();
    let received = queue.receive(1, Duration::ZERO).unwrap().remove(0);
    queue.release(&received.handle, Duration::ZERO).unwrap();
    let look = || {
        assert!(
            run("processors", &[]).contains("audit") && run("processors", &["audit"]).contains("shardId-")
        );
        assert!(run("queues", &[]).contains("jobs") && run("queues", &["jobs"]).contains("in flight"));
        assert!(run("dead-letters", &["jobs"]).ends_with("\tready\n"));
    };
    look();
    processor.close().unwrap();
    queue.close().unwrap();
    stream.close().unwrap();
    let before = files_of(&place);
    look();
    fails(&as_nobody(&place, "receive", &["jobs"]).output().unwrap(), &["Permission denied"]);
    fails(&as_nobody(&place, "split", &["0"]).output().unwrap(), &["Permission denied"]);
    fails(&as_nobody(&private, "cat", &[]).output().unwrap(), &["Permission denied"]);
    assert!(files_of(&place) == before);
}

/// Mounts a directory a second time, read-only.
#[cfg(target_os = "linux")]
struct ReadOnly {
    point: tempfile::TempDir,
}

#[cfg(target_os = "linux")]
impl ReadOnly {
    fn of(path: &Path) -> Option<Self> {
        let point = tempfile::tempdir().unwrap();
        let mount = |args: &[&str]| Command::new("mount").args(args).arg(point.path()).output();
        let is_mounted = mount(&["--bind", path.to_str().unwrap()]).is_ok_and(|run| run.status.success());
        if !is_mounted {
            println!("skipped: this process may not mount anything");
            return None;
        }
        let mounted = Self { point };
        let mut remount = Command::new("mount");
        remount.args(["-o", "remount,ro,bind"]).arg(mounted.point.path());
        assert!(remount.status().unwrap().success());
        Some(mounted)
    }
}

#[cfg(target_os = "linux")]
impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.point.path()).status();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn l8_a_read_only_mount_is_enough_to_read() {
    let place = Place::create(&[]);
    let Some(mounted) = ReadOnly::of(place.directory.path()) else { return };
    let command = |name: &str, options: &[&str]| {
        let mut command = Command::new(tool());
        command.arg(name).arg(mounted.point.path().join("stream")).args(options).stdin(Stdio::null());
        command
    };
    let mut service = Service::start(&place, &[]);
    let mut tail = Following::start(command("tail", &["-f"]));
    tail.prints("ready\n");
    service.put("1\n");
    tail.prints("1\n");
    service.kill();
    for name in ["cat", "describe", "shards", "verify", "retention", "tail", "groups", "processors", "queues"]
    {
        succeeds(&command(name, &[]).output().unwrap());
    }
    assert_eq!(command("cat", &[]).output().unwrap().stdout, b"ready\n1\n");
    fails(&command("split", &["0"]).output().unwrap(), &["Read-only file system"]);
    let mut service = Service::start(&place, &[]);
    service.put("2\n");
    tail.prints("ready\n2\n");
    tail.interrupt();
    service.stop();
}

/// Returns options for a stream with the smallest segments and no thread of its own.
fn small() -> StreamOptions {
    StreamOptions::new().segment_bytes(64 << 10).maintenance(Maintenance::Manual)
}

#[test]
fn l8_a_follower_that_retention_overtakes_says_how_much_is_missing_and_goes_on() {
    let place = Place { directory: tempfile::tempdir().unwrap() };
    let stream = small().open(place.stream()).unwrap();
    stream.put("k", "first").unwrap();
    for (name, options) in [("tail", &["-f"][..]), ("cat", &["-f"])] {
        let mut following = Following::start(place.command(name, options));
        following.prints("first\n");
        let first = stream.stats().unwrap().shards[0].next_sequence;
        for _ in 0..2_000 {
            stream.put("k", vec![b'x'; 10_000]).unwrap();
        }
        // No one reads its output, so it is far behind by now, and stays there.
        let last = stream.put("k", "last").unwrap().sequence;
        stream.trim_before(stream.shards()[0].id, last).unwrap();
        let mut count = 0;
        loop {
            let line = following.next().unwrap();
            if line == "last" {
                break;
            }
            assert_eq!(line.len(), 10_000, "{line}");
            count += 1;
        }
        let id = following.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let (output, _) = following.rest();
        assert_eq!(output.status.code(), Some(130));
        let dropped = stderr(&output);
        let missing = last.get() - first.get() - count;
        assert!(missing > 0, "it was not overtaken");
        let expected =
            format!("streamlog: note: shardId-000000000000: retention dropped {} before they were read", {
                indicatif::HumanCount(missing).to_string() + if missing == 1 { " record" } else { " records" }
            });
        assert!(dropped.starts_with(&expected), "{expected}: {dropped}");
        assert_eq!(dropped.lines().count(), 1, "{dropped}");
        stream.trim_before(stream.shards()[0].id, last.plus(1)).unwrap();
        stream.put("k", "first").unwrap();
    }
    fails(&place.run("cat", &["--from", "0"]), &["no longer holds sequence number 0", "trim horizon"]);
}

#[test]
fn l8_a_follower_is_told_that_the_stream_was_cut_or_deleted() {
    let place = Place { directory: tempfile::tempdir().unwrap() };
    let put = |lines: std::ops::Range<u32>| {
        let stream = small().open(place.stream()).unwrap();
        lines.for_each(|line| assert!(stream.put("k", line.to_string()).is_ok()));
        stream.close().unwrap();
    };
    put(0..3);
    let segment = "shards/000000000000/00000000000000000000.seg";
    let old =
        ["manifest.json", segment].map(|name| (name, std::fs::read(place.stream().join(name)).unwrap()));
    put(3..6);
    let mut tail = Following::start(place.command("tail", &["-f"]));
    tail.prints("0\n1\n2\n3\n4\n5\n");
    // Someone puts the old files back in the place of the new ones.
    std::fs::remove_file(place.stream().join(segment)).unwrap();
    for (name, bytes) in old {
        std::fs::write(place.stream().join(name), bytes).unwrap();
    }
    put(6..7);
    let (output, rest) = tail.rest();
    assert_eq!((output.status.code(), rest.as_str()), (Some(1), ""));
    let told = stderr(&output);
    assert!(told.contains("was cut when its stream was opened again"), "{told}");
    assert!(told.contains("note: run the command again"), "{told}");
    assert_eq!(place.cat(&[]), b"0\n1\n2\n6\n");

    let mut tail = Following::start(place.command("tail", &["-f", "-n", "1"]));
    tail.prints("6\n");
    Stream::delete(place.stream()).unwrap();
    let (output, _) = tail.rest();
    fails(&output, &["is not a stream: it was deleted"]);
}

#[test]
fn l8_damage_is_found_while_a_service_has_the_stream_open_and_what_comes_before_it_is_printed() {
    let place = Place { directory: tempfile::tempdir().unwrap() };
    let stream = small().open(place.stream()).unwrap();
    for _ in 0..20 {
        stream.put("k", vec![b'x'; 10_000]).unwrap();
    }
    stream.maintain().unwrap();
    let segment = place.stream().join("shards/000000000000/00000000000000000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[4_096 + 25_000] ^= 1;
    // In place, as a disk would do it.
    std::os::unix::fs::FileExt::write_all_at(
        &std::fs::OpenOptions::new().write(true).open(&segment).unwrap(),
        &bytes[4_096..40_000],
        4_096,
    )
    .unwrap();
    let output = place.run("verify", &["--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["damage"][0]["path"], segment.to_str().unwrap());
    for (name, options) in
        [("cat", &[][..]), ("cat", &["-f"]), ("tail", &["-n", "100"]), ("tail", &["-fn100"])]
    {
        let output =
            ends(place.command(name, options).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        assert_eq!(output.stdout.len(), 2 * 10_001, "{name} {options:?}");
        fails(&output, &["is damaged at byte"]);
    }
    stream.close().unwrap();
    succeeds(&place.run("salvage", &[]));
    let output = place.run("tail", &["-n", "100"]);
    succeeds(&output);
    assert_eq!(output.stdout.len(), 19 * 10_001);
    assert!(stderr(&output).contains("has lost the records from sequence number 2 to before 3"));
}
