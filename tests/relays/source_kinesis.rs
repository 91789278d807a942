//! The same code on both sides: processors on Kinesis streams, served by our gateway, with leases in DynamoDB, simulated by moto: L1, L2, L3, L5.
//!
//! moto needs Python, which `.ci/run` installs. Without it, a test prints a note and passes; if `STREAMLOG_PYTHON` says that it is there, and it is
//! not, the test fails.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::moto::Moto;
use common::waiting::until;
use streamlog::gateway::{Gateway, RunningGateway};
use streamlog::relay::{KinesisClient, KinesisSource};
use streamlog::{
    Destination, Filter, HashKey, Invocation, Position, Processor, ProcessorOptions, Record, SECOND,
    ShardFilter, Source, Store, Stream, StreamOptions, Timestamp,
};
use tempfile::TempDir;

const FAILOVER: Duration = Duration::from_secs(2);

/// A gateway with a stream, and a DynamoDB.
struct World {
    stream: Stream,
    gateway: RunningGateway,
    moto: Moto,
    scratch: TempDir,
}

impl World {
    /// Returns `None` if there is no moto.
    fn new(shards: u32) -> Option<Self> {
        let python = common::python::with("moto.server")?;
        let scratch = common::scratch();
        let options = StreamOptions::new().segment_bytes(1 << 20);
        let store = Store::open(scratch.path().join("streams"), options).unwrap();
        let stream = store.create("clicks", StreamOptions::new().shards(shards)).unwrap();
        let gateway = Gateway::new(store).without_authentication().delay(Duration::ZERO);
        let gateway = gateway.start("127.0.0.1:0").unwrap();
        Some(Self { stream, gateway, moto: Moto::start(&python), scratch })
    }

    fn url(&self) -> String {
        format!("http://{}", self.gateway.local_address())
    }

    fn source(&self) -> KinesisSource {
        source(&self.url(), &self.moto.url).spool_directory(self.scratch.path().join("spools"))
    }

    fn open_shards(&self) -> Vec<streamlog::ShardId> {
        self.stream.list_shards(ShardFilter::AtLatest).into_iter().map(|shard| shard.id).collect()
    }
}

fn source(kinesis: &str, dynamodb: &str) -> KinesisSource {
    let client = KinesisClient::options()
        .region("us-east-1")
        .credentials("test", "test", None)
        .endpoint_url(kinesis)
        .dynamodb_endpoint_url(dynamodb)
        .connect()
        .unwrap();
    KinesisSource::new(&client, "clicks")
        .failover_time(FAILOVER)
        .shard_sync_interval(Duration::from_secs(1))
        .checkpoint_interval(Duration::from_millis(200))
}

/// An event in a record: when it happened.
fn second(record: &Record<'_>) -> Result<Timestamp, String> {
    let text = String::from_utf8_lossy(record.data());
    let second: u64 = text.split(' ').next().unwrap().parse().map_err(|_| format!("{text} has no time"))?;
    Ok(Timestamp::from_millis(second * 1_000))
}

/// The result of a rule: the event count of each window, and the records given up.
#[derive(Debug, Default)]
struct Outcome {
    windows: Mutex<BTreeMap<u64, u64>>,
    discarded: Mutex<BTreeSet<String>>,
    reports: Mutex<Vec<String>>,
}

/// The same rule, wherever it runs: it counts events in windows of ten seconds, with two lanes, a filter, retries and dead letters.
fn start_rule(options: ProcessorOptions, outcome: &Arc<Outcome>) -> Processor {
    let (counts, given_up) = (Arc::clone(outcome), Arc::clone(outcome));
    options
        .batch_size(7)
        .parallelization_factor(2)
        .tumbling_window(10 * SECOND)
        .event_time(second)
        .allowed_lateness(5 * SECOND)
        .idle_timeout(3 * SECOND)
        .maximum_retry_attempts(1)
        .backoff(Duration::from_millis(1), Duration::from_millis(1))
        .bisect_batch_on_function_error(true)
        .filter(Filter::new(r#"{"partitionKey": [{"anything-but": "nobody"}]}"#).unwrap())
        .on_failure(Destination::function(move |discarded| {
            let texts = discarded.records().map(|record| String::from_utf8_lossy(record.data()).into_owned());
            given_up.discarded.lock().unwrap().extend(texts);
            given_up.reports.lock().unwrap().push(discarded.to_json());
            Ok::<_, String>(())
        }))
        .start_with_state(move |invocation, count: &mut u64| {
            if invocation.records().any(|record| record.data().ends_with(b"poison")) {
                return Err("poison");
            }
            *count += invocation.len() as u64;
            if let Some(window) = invocation.window().filter(|window| window.is_final) {
                *counts.windows.lock().unwrap().entry(window.start.as_millis() / 1_000).or_default() +=
                    *count;
            }
            Ok(())
        })
        .unwrap()
}

/// Puts the events of a minute, some of them out of order, unwanted or poisonous. Returns how many the windows must count.
fn put_events(stream: &Stream) -> u64 {
    let mut counted = 0;
    for at in 0..600_u64 {
        let happened = 1_000 + at / 10 - (at * 7 % 4);
        let what = if at % 97 == 0 { "poison" } else { "click" };
        let key = if at % 11 == 0 { "nobody".to_owned() } else { format!("key {}", at % 13) };
        counted += u64::from(what == "click" && key != "nobody");
        stream.put(&key, format!("{happened} {what}")).unwrap();
    }
    counted
}

#[test]
fn l1_l2_a_rule_gives_the_same_on_a_stream_and_on_kinesis() {
    let Some(world) = World::new(2) else { return };
    let local = Stream::open(world.scratch.path().join("local")).unwrap();
    assert_eq!(put_events(&local), put_events(&world.stream));
    let counted = put_events(&Stream::open(world.scratch.path().join("again")).unwrap());
    let sources = [Source::stream(&local), Source::reader(&local), Source::from(world.source())];
    let outcomes = sources.iter().zip(["here", "reader", "there"]).map(|(source, name)| {
        let outcome = Arc::default();
        let processor = start_rule(source.processor(name), &outcome);
        until(&format!("all windows have ended: {:?}", processor.stats()), || {
            outcome.windows.lock().unwrap().values().sum::<u64>() == counted
        });
        until("all lanes have ended", || processor.stats().running == 0);
        processor.close().unwrap();
        outcome
    });
    let outcomes: Vec<Arc<Outcome>> = outcomes.collect();
    for outcome in &outcomes[1..] {
        assert_eq!(*outcome.windows.lock().unwrap(), *outcomes[0].windows.lock().unwrap());
        assert_eq!(*outcome.discarded.lock().unwrap(), *outcomes[0].discarded.lock().unwrap());
    }
    assert!(!outcomes[2].discarded.lock().unwrap().is_empty());
    // A report names the record as Kinesis does.
    let reports = outcomes[2].reports.lock().unwrap().join("\n");
    assert!(reports.contains(r#""startSequenceNumber":"49"#), "{reports}");
    assert_eq!(
        std::fs::read_dir(world.scratch.path().join("spools")).unwrap().count(),
        0,
        "spools are deleted"
    );
}

#[test]
fn a_processor_begins_at_a_time_or_after_what_is_there() {
    // With more shards, the first record may come from one before the processor has started in the other, which gets the last record.
    let Some(world) = World::new(1) else { return };
    let put = |number: u32| {
        world.stream.put(format!("key {number}"), number.to_string()).unwrap();
    };
    (0..20).for_each(put);
    // Kinesis has times of whole milliseconds.
    let before = world.stream.now();
    until("time has passed", || world.stream.now() >= before + Duration::from_millis(2));
    let time = world.stream.now();
    (20..40).for_each(put);
    let start = |name: &str, position| {
        let got = Arc::new(Mutex::new(BTreeSet::new()));
        let to = Arc::clone(&got);
        let options = Source::from(world.source()).processor(name).starting_position(position);
        let number = |record: Record<'_>| String::from_utf8_lossy(record.data()).parse::<u32>().unwrap();
        let processor =
            options.start(move |invocation| to.lock().unwrap().extend(invocation.records().map(number)));
        (processor.unwrap(), got)
    };
    let (at_time, from_time) = start("at-time", Position::AtTimestamp(time));
    let (latest, after) = start("latest", Position::Latest);
    let mut last = 40;
    until("records come that were put later", || {
        put(last);
        last += 1;
        !after.lock().unwrap().is_empty()
    });
    until("all have come that were put at the time or later", || {
        from_time.lock().unwrap().len() as u32 == last - 20
    });
    until("the last has come", || after.lock().unwrap().contains(&(last - 1)));
    at_time.close().unwrap();
    latest.close().unwrap();
    assert_eq!(*from_time.lock().unwrap(), (20..last).collect());
    assert!(*after.lock().unwrap().first().unwrap() >= 40, "{:?}", after.lock().unwrap());
}

#[test]
fn l2_a_restart_goes_on_with_the_states_of_windows() {
    let Some(world) = World::new(1) else { return };
    let put = |range: std::ops::Range<u64>| {
        for second in range {
            world.stream.put("key", format!("{second} click")).unwrap();
        }
    };
    let seen = Arc::new(Mutex::new(vec![]));
    let windows = Arc::new(Mutex::new(BTreeMap::<u64, u64>::new()));
    let start = || {
        let (seen, windows) = (Arc::clone(&seen), Arc::clone(&windows));
        let options = Source::from(world.source()).processor("restarts");
        let options = options.tumbling_window(10 * SECOND).event_time(second).idle_timeout(600 * SECOND);
        let function = move |invocation: &Invocation, count: &mut u64| {
            *count += invocation.len() as u64;
            seen.lock().unwrap().extend(invocation.records().map(|record| record.data().to_vec()));
            if let Some(window) = invocation.window().filter(|window| window.is_final) {
                assert!(windows.lock().unwrap().insert(window.start.as_millis() / 1_000, *count).is_none());
            }
        };
        options.start_with_state(function).unwrap()
    };
    put(100..105);
    let first = start();
    until("the first five are seen", || seen.lock().unwrap().len() == 5);
    first.close().unwrap();
    put(105..112);
    let second = start();
    until("the first window has ended", || !windows.lock().unwrap().is_empty());
    until("all are seen", || seen.lock().unwrap().len() == 12);
    second.close().unwrap();
    assert_eq!(*windows.lock().unwrap(), BTreeMap::from([(100, 10)]), "five of before, and five of now");
    assert_eq!(seen.lock().unwrap().len(), 12, "none came again");
}

#[test]
fn l3_children_come_after_their_parents_and_a_window_ends_with_its_shard() {
    let Some(world) = World::new(2) else { return };
    let events = Arc::new(Mutex::new(vec![]));
    let noted = Arc::clone(&events);
    let options = Source::from(world.source()).processor("splits");
    let options = options.tumbling_window(10 * SECOND).event_time(second).idle_timeout(600 * SECOND);
    let processor = options.start_with_state(move |invocation, count: &mut u64| {
        *count += invocation.len() as u64;
        let is_final = invocation.window().is_some_and(|window| window.is_final);
        let texts = invocation.records().map(|record| String::from_utf8_lossy(record.data()).into_owned());
        let event = (invocation.shard().get(), texts.collect::<Vec<_>>(), is_final.then_some(*count));
        noted.lock().unwrap().push(event);
    });
    let processor = processor.unwrap();
    let put = |round: u64| {
        for key in 0..20 {
            world.stream.put(format!("key {key}"), format!("{} {key} {round}", 1_000 + round)).unwrap();
        }
    };
    put(0);
    let shards = world.open_shards();
    world.stream.split_shard(shards[0], HashKey::new(1 << 125)).unwrap();
    put(1);
    let open = world.stream.list_shards(ShardFilter::AtLatest);
    let upper =
        open.iter().find(|shard| shard.hash_key_range.end == HashKey::new((1 << 127) - 1)).unwrap().id;
    world.stream.merge_shards(upper, shards[1]).unwrap();
    put(2);
    let count = || events.lock().unwrap().iter().map(|(_, texts, _)| texts.len()).sum::<usize>();
    until("all records are seen", || count() >= 60);
    until("the windows of closed shards have ended", || {
        let events = events.lock().unwrap();
        events.iter().filter_map(|(_, _, last)| *last).sum::<u64>() == 20 + 20 - in_lower(&events)
    });
    processor.close().unwrap();
    assert_eq!(count(), 60, "none came twice");
    // The records of each key came in the order in which they were put, across the shards.
    let events = events.lock().unwrap();
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for text in events.iter().flat_map(|(_, texts, _)| texts) {
        let [_, key, round] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
        let round: u64 = round.parse().unwrap();
        assert_eq!(last.insert(key.to_owned(), round), round.checked_sub(1), "{text}");
    }
}

/// Returns how many events an open shard has, apart from those of the last round.
fn in_lower(events: &[(u32, Vec<String>, Option<u64>)]) -> u64 {
    let texts = events.iter().filter(|(shard, ..)| *shard == 2).flat_map(|(_, texts, _)| texts);
    texts.filter(|text| text.ends_with(" 1")).count() as u64
}

/// Not a test: a worker that is killed. It records its events until its standard input ends.
#[test]
fn child() {
    let Ok(kinesis) = std::env::var("STREAMLOG_SOURCE_KINESIS") else { return };
    let variable = |name: &str| std::env::var(format!("STREAMLOG_SOURCE_{name}")).unwrap();
    let file = OpenOptions::new().append(true).create(true).open(variable("OUT")).unwrap();
    let failover = Duration::from_millis(variable("FAILOVER_MILLIS").parse().unwrap());
    let source =
        source(&kinesis, &variable("DYNAMODB")).failover_time(failover).spool_directory(variable("SPOOLS"));
    let options = Source::from(source.worker_id(variable("WORKER"))).processor(variable("APPLICATION"));
    let processor = options.batch_size(5).start(move |invocation| write_down(&file, invocation)).unwrap();
    println!("ready");
    let _ = std::io::stdin().read_to_end(&mut vec![]);
    processor.close().unwrap();
    std::process::exit(0);
}

/// Writes a line for each record: the shard, and the data.
fn write_down(mut file: &File, invocation: &Invocation) {
    let lines = invocation.records().map(|record| {
        let number = record.headers().find(|(name, _)| *name == "source-sequence-number").unwrap().1;
        let [number, data] = [number, record.data()].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        format!("{} {number} {data}\n", invocation.shard())
    });
    file.write_all(lines.collect::<String>().as_bytes()).unwrap();
}

/// A worker in a process of its own.
struct Worker {
    process: Child,
    out: std::path::PathBuf,
}

impl Worker {
    fn start(world: &World, application: &str, name: &str) -> Self {
        let out = world.scratch.path().join(format!("{name}.txt"));
        let spools = world.scratch.path().join(format!("spools-{name}"));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(common::child_test(module_path!()))
            .env("STREAMLOG_SOURCE_KINESIS", world.url())
            .env("STREAMLOG_SOURCE_DYNAMODB", &world.moto.url)
            .env("STREAMLOG_SOURCE_OUT", &out)
            .env("STREAMLOG_SOURCE_SPOOLS", spools)
            .env("STREAMLOG_SOURCE_WORKER", name)
            .env("STREAMLOG_SOURCE_FAILOVER_MILLIS", FAILOVER.as_millis().to_string())
            .env("STREAMLOG_SOURCE_APPLICATION", application);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.as_mut().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.ends_with("ready")));
        Self { process, out }
    }

    /// Returns the records that it received, and from which shards.
    fn got(&self) -> Vec<(String, String, String)> {
        got(&self.out)
    }
}

fn got(out: &Path) -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string(out).unwrap_or_default();
    let lines = text.lines().map(|line| {
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap(), words.next().unwrap())
    });
    lines.collect()
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn l1_l5_leases_of_a_worker_that_is_killed_pass_on() {
    let Some(world) = World::new(4) else { return };
    let workers = ["one", "other"].map(|name| Worker::start(&world, "killed", name));
    let shards_of =
        |worker: &Worker| worker.got().into_iter().map(|(shard, ..)| shard).collect::<BTreeSet<_>>();
    let mut put = 0;
    let mut put_some = |count: usize| {
        for _ in 0..count {
            world.stream.put(format!("key {}", put % 40), format!("record {put}")).unwrap();
            put += 1;
        }
        put
    };
    // The first worker has all shards, until the other steals some.
    until("both have shards of their own", || {
        put_some(40);
        std::thread::sleep(Duration::from_millis(200));
        workers.iter().all(|worker| !shards_of(worker).is_empty())
    });
    let [one, mut other] = workers;
    other.process.kill().unwrap();
    let total = put_some(400);
    let all = || {
        let texts = [&one, &other].into_iter().flat_map(Worker::got).map(|(_, _, data)| data);
        texts.collect::<BTreeSet<_>>().len()
    };
    until(&format!("all {total} are there"), || all() == total);
    let again = one.got().len() + other.got().len() - total;
    assert!(again <= 4 * 500, "{again} came again");
    // Each worker got the records of a shard in order, except for redelivered ones.
    for worker in [&one, &other] {
        let mut last: BTreeMap<String, u128> = BTreeMap::new();
        let mut behind = 0;
        for (shard, number, _) in worker.got() {
            let number: u128 = number[number.len().saturating_sub(30)..].parse().unwrap();
            behind += usize::from(last.insert(shard, number).is_some_and(|last| last >= number));
        }
        assert!(behind <= 4, "{behind} times");
    }
}

#[test]
fn l1_l3_l5_two_of_our_workers_and_one_of_the_kcl_share_an_application() {
    let Some(python) = common::python::with("amazon_kclpy, moto.server") else { return };
    let Some(java) = common::java() else { return };
    let Some(world) = World::new(4) else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/kcl_shared.py");
    let mut command = Command::new(python);
    command
        .arg("-B")
        .arg(script)
        .arg(java)
        .arg(world.scratch.path())
        .args([world.url(), world.moto.url.clone()]);
    let output = command
        .arg(std::env::current_exe().unwrap())
        .args(common::child_test(module_path!()))
        .output()
        .unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    print!("{stdout}");
}
