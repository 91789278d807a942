//! The commands for queues, beside the program that has the stream open, and beside the one that has the queue open.

use streamlog::{Queue, QueueOptions, SECOND};

use super::processors::words;
use super::*;

const NONE: Duration = Duration::ZERO;

fn put(stream: &Stream, texts: &[&str]) {
    for text in texts {
        stream.put("k", text).unwrap();
    }
}

/// Makes dead letters of all records that can be handed out.
fn bury(queue: &Queue) {
    loop {
        let records = queue.receive(100, NONE).unwrap();
        if records.is_empty() {
            break;
        }
        records.iter().for_each(|record| queue.release(&record.handle, NONE).unwrap());
    }
}

/// Returns the first and the last cell of each line.
fn handles_and_data(printed: &str) -> Vec<(&str, &str)> {
    printed.lines().map(|line| line.split_once('\t').unwrap()).collect()
}

#[test]
fn l8_queues_are_listed_with_their_settings_beside_the_program_that_has_them_open() {
    let place = Place::create(&[]);
    assert_eq!(place.json("queues", &[]), serde_json::json!({ "queues": [] }));
    let stream = Stream::open(place.stream()).unwrap();
    let jobs = stream
        .queue("jobs")
        .max_receive_count(2)
        .visibility_timeout(90 * SECOND)
        .hold(1 << 20)
        .open()
        .unwrap();
    let ordered = stream.queue("ordered").ordered_by_key().keep_dead_letters(false).open().unwrap();
    put(&stream, &["dead", "in flight", "delayed", "new"]);
    jobs.receive(1, NONE).unwrap();
    let dead = jobs.receive(1, NONE).unwrap();
    assert_eq!(&*dead[0].record.data, b"in flight");
    let delayed = jobs.receive(1, NONE).unwrap().remove(0);
    jobs.release(&delayed.handle, 60 * SECOND).unwrap();
    for _ in 0..2 {
        let first = jobs.receive(1, NONE).unwrap();
        first.iter().for_each(|first| jobs.release(&first.handle, NONE).unwrap());
    }
    let listed = place.json("queues", &[]);
    let [first, second] = &listed["queues"].as_array().unwrap()[..] else { panic!("{listed}") };
    let counts = |queue: &Value| {
        ["visible_count", "unread_count", "in_flight_count", "delayed_count", "dead_letter_count"]
            .map(|name| queue[name].as_u64().unwrap())
    };
    assert_eq!((counts(first), counts(second)), ([0, 0, 2, 1, 1], [4, 4, 0, 0, 0]));
    assert_eq!(first["visibility_timeout_seconds"], 90.0);
    assert_eq!((&first["max_receive_count"], &first["hold_bytes_max"]), (&2.into(), &(1u64 << 20).into()));
    assert_eq!((&second["is_ordered_by_key"], &second["keep_dead_letters"]), (&true.into(), &false.into()));
    assert!(first["oldest_age_seconds"].as_f64().unwrap() > 0.0);
    let printed = place.print("queues", &[]);
    let table = words(&printed);
    assert_eq!(table[0].join(" "), "queue visible in flight delayed dead oldest timeout receives order");
    assert_eq!(table[1][..5].join(" "), "jobs 0 2 1 1");
    assert!(
        table[1].join(" ").ends_with(" 1m 30s 2 -") && table[2].join(" ").ends_with(" 30s 6 by key"),
        "{printed}"
    );
    let described = place.print("queues", &["jobs"]);
    assert_eq!(words(&described)[5].join(" "), "dead letters 1 record", "{described}");
    assert!(described.contains("\nhold on retention    up to 1.00 MiB\n"), "{described}");
    let described = place.print("queues", &["ordered"]);
    assert!(described.contains("\nvisible              4 records, 4 of them new\n"), "{described}");
    assert!(described.contains("\ndead letters         0 records; they are not kept\n"), "{described}");
    assert_eq!(place.json("queues", &["jobs"])["queue"], "jobs");
    fails(&place.run("queues", &["other"]), &["the stream has no queue \"other\""]);

    // Commands that change a queue need it exclusively, and name the process that has it.
    let handle = dead[0].handle.to_string();
    let holder = format!("the queue \"jobs\" is open in process {}", std::process::id());
    for (name, options) in [
        ("receive", &["jobs"][..]),
        ("acknowledge", &["jobs", &handle]),
        ("release", &["jobs", &handle]),
        ("restore-dead-letters", &["jobs", &handle]),
        ("restore-dead-letters", &["jobs", "--all"]),
        ("purge", &["jobs"]),
        ("purge", &["jobs", "--dead-letters"]),
    ] {
        fails(&place.run(name, options), &[&holder, "stop it"]);
    }
    fails(&place.run("delete-queue", &["jobs"]), &["has a hold on retention", "has the stream open"]);
    fails(&place.run("delete-queue", &["ordered"]), &["the queue \"ordered\" is open in process"]);
    assert_eq!(counts(&place.json("queues", &["jobs"])), [0, 0, 2, 1, 1], "nothing has changed");
    ordered.close().unwrap();
    place.print("delete-queue", &["ordered"]);
    jobs.close().unwrap();
    stream.close().unwrap();
    assert_eq!(counts(&place.json("queues", &["jobs"])), [0, 0, 2, 1, 1]);
    place.print("delete-queue", &["jobs"]);
    assert!(Stream::open(place.stream()).unwrap().describe().holds.is_empty());
    for name in ["receive", "purge", "dead-letters", "delete-queue"] {
        fails(&place.run(name, &["jobs"]), &["the stream has no queue \"jobs\""]);
    }
    assert_eq!(place.json("queues", &[])["queues"].as_array().unwrap().len(), 0, "none was created");
}

/// A queue with three dead letters and one other record, whose stream is open.
fn with_dead_letters(place: &Place, options: impl FnOnce(QueueOptions) -> QueueOptions) -> (Stream, Queue) {
    let stream = Stream::open(place.stream()).unwrap();
    let queue = options(stream.queue("jobs")).max_receive_count(2).open().unwrap();
    put(&stream, &["one", "two", "three"]);
    bury(&queue);
    put(&stream, &["alive"]);
    (stream, queue)
}

#[test]
fn l8_dead_letters_are_looked_at_beside_the_program_that_has_the_queue_open_and_restored_after_it() {
    let place = Place::create(&[]);
    let (stream, queue) = with_dead_letters(&place, |options| options);
    let printed = place.print("dead-letters", &["jobs"]);
    let dead = handles_and_data(&printed);
    assert_eq!(dead.iter().map(|&(_, data)| data).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert_eq!(place.print("dead-letters", &["jobs"]), printed, "looking changes nothing");
    assert_eq!(
        place.print("dead-letters", &["jobs", "-n", "1", "--with-key"]),
        format!("{}\tk\tone\n", dead[0].0)
    );
    let json = json_lines(place.print("dead-letters", &["jobs", "--json"]).as_bytes());
    assert_eq!((&json[2]["data"], &json[2]["key"]), (&"three".into(), &"k".into()));
    assert_eq!((&json[2]["receive_count"], &json[2]["handle"]), (&2.into(), &dead[2].0.into()));
    assert!(
        json[2]["first_received_micros"].as_u64().unwrap() >= json[2]["timestamp_micros"].as_u64().unwrap()
    );
    assert_eq!(queue.describe().unwrap().dead_letter_count, 3);
    assert_eq!(place.run("dead-letters", &["jobs", "-n", "0"]).status.code(), Some(2));
    assert_eq!(place.run("restore-dead-letters", &["jobs"]).status.code(), Some(2), "which?");
    assert_eq!(place.run("restore-dead-letters", &["jobs", "--all", dead[0].0]).status.code(), Some(2));
    assert_eq!(place.run("restore-dead-letters", &["jobs", "no handle"]).status.code(), Some(2));
    queue.close().unwrap();

    // The stream is still open here; only the queue has to be free.
    assert_eq!(place.print("restore-dead-letters", &["jobs", dead[1].0]), "");
    let output = place.run("restore-dead-letters", &["jobs", dead[1].0, dead[0].0]);
    fails(&output, &[dead[1].0, "receipt handle"]);
    let left = place.print("dead-letters", &["jobs"]);
    assert_eq!(handles_and_data(&left).len(), 1, "one invalid handle stops none of the others: {left}");
    place.print("acknowledge", &["jobs", dead[2].0]);
    assert_eq!(place.print("dead-letters", &["jobs"]), "");
    let received = place.print("receive", &["jobs", "-n", "10"]);
    let data: Vec<_> = handles_and_data(&received).into_iter().map(|(_, data)| data.to_owned()).collect();
    assert_eq!(data, ["one", "two", "alive"]);
    stream.close().unwrap();
    let described = place.json("queues", &["jobs"]);
    assert_eq!((&described["in_flight_count"], &described["max_receive_count"]), (&3.into(), &2.into()));
}

#[test]
fn all_dead_letters_are_restored_or_given_up_and_all_other_records_purged() {
    let place = Place::create(&[]);
    let (stream, queue) = with_dead_letters(&place, |options| options.ordered_by_key());
    // One is handed out, and hidden from everybody else.
    queue.receive_dead_letters(1, NONE).unwrap();
    queue.close().unwrap();
    stream.close().unwrap();
    let counts = || {
        let described = place.json("queues", &["jobs"]);
        (described["visible_count"].as_u64().unwrap(), described["dead_letter_count"].as_u64().unwrap())
    };
    assert_eq!(counts(), (1, 3));
    place.print("purge", &["jobs"]);
    assert_eq!(counts(), (0, 3), "no dead letters");
    place.print("restore-dead-letters", &["jobs", "--all"]);
    assert_eq!(counts(), (3, 0));
    for _ in 0..2 {
        let received = place.print("receive", &["jobs", "--json"]);
        let handle = json_lines(received.as_bytes())[0]["handle"].as_str().unwrap().to_owned();
        place.print("release", &["jobs", &handle]);
    }
    assert_eq!(counts(), (2, 1));
    place.print("purge", &["jobs", "--dead-letters"]);
    assert_eq!((counts(), place.json("describe", &[])["record_count"].clone()), ((2, 0), 4.into()));
}

#[test]
fn records_are_received_acknowledged_and_released_by_their_handles() {
    let place = Place::create(&[]);
    let stream = Stream::open(place.stream()).unwrap();
    stream.queue("jobs").visibility_timeout(3_600 * SECOND).open().unwrap().close().unwrap();
    put(&stream, &["one", "two", "three"]);
    let received = place.print("receive", &["jobs"]);
    let first = handles_and_data(&received)[0];
    assert_eq!(first.1, "one", "one at a time");
    let received = place.print("receive", &["jobs", "--acknowledge"]);
    assert_eq!(handles_and_data(&received)[0].1, "two");
    place.print("acknowledge", &["jobs", first.0]);
    fails(&place.run("acknowledge", &["jobs", first.0]), &["streamlog: ", first.0]);
    let received = place.print("receive", &["jobs", "--timeout", "1h"]);
    let third = handles_and_data(&received)[0];
    assert_eq!(place.print("receive", &["jobs"]), "", "it is hidden");
    place.print("release", &["jobs", third.0, "--delay", "12h"]);
    assert_eq!(place.json("queues", &["jobs"])["delayed_count"], 1);
    fails(&place.run("release", &["jobs", third.0, "--delay", "13h"]), &["12 hours"]);

    // It waits for a record that is put meanwhile.
    let mut command = place.command("receive", &["jobs", "--wait", "30s", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    put(&stream, &["late"]);
    let output = ends(child);
    succeeds(&output);
    assert_eq!(json_lines(&output.stdout)[0]["data"], "late");
    let began = Instant::now();
    assert_eq!(place.print("receive", &["jobs", "--wait", "200ms"]), "");
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[cfg(target_os = "linux")]
#[test]
fn a_record_whose_printing_fails_is_given_back() {
    let place = Place::create(&[]);
    let stream = Stream::open(place.stream()).unwrap();
    stream.queue("jobs").open().unwrap().close().unwrap();
    put(&stream, &["one"]);
    for redirection in [">&-", "1</dev/null", ">/dev/full"] {
        for options in [&["jobs"][..], &["jobs", "--acknowledge"]] {
            let output = place.redirected("receive", options, redirection);
            fails(&output, &["cannot write to standard output: "]);
        }
    }
    let received = place.print("receive", &["jobs", "--json"]);
    let record = &json_lines(received.as_bytes())[0];
    assert_eq!(
        (&record["data"], &record["receive_count"]),
        (&"one".into(), &5.into()),
        "two of them could not even begin"
    );
    // A waiting command ends with the reader of its output, and by Ctrl-C, and leaves the queue to others.
    let spawn = || {
        let mut command = place.command("receive", &["jobs", "--wait", "1h"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let has_queue = |child: &Child| {
        let files = std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().flatten();
        files
            .flat_map(|file| file.path().read_link())
            .any(|path| path.starts_with(place.stream().join("queues")))
    };
    let mut child = spawn();
    assert!(comes_true(|| has_queue(&child)));
    drop(child.stdout.take());
    succeeds(&ends(child));
    let child = spawn();
    assert!(comes_true(|| has_queue(&child)));
    fails(&place.run("receive", &["jobs"]), &[&format!("is open in process {} (streamlog)", child.id())]);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(ends(child).status.code(), Some(130));
    assert_eq!(place.print("receive", &["jobs"]), "");
}
