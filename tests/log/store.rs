//! Stores: many streams in a directory, by name: P1, P13, P16, L1, L4.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use streamlog::{Error, Position, Store, Stream, StreamOptions, StreamReader};

use crate::common;

fn small() -> StreamOptions {
    StreamOptions::new().segment_bytes(64 << 10)
}

fn store(path: &Path) -> Store {
    Store::open(path, small()).unwrap()
}

fn record_count(stream: &StreamReader) -> u64 {
    stream.stats().unwrap().record_count()
}

#[derive(Debug, Clone)]
enum Operation {
    Create {
        name: u8,
        shards: u32,
    },
    Put {
        name: u8,
    },
    Read {
        name: u8,
    },
    SetProperty {
        name: u8,
        text: Option<String>,
    },
    /// Through a handle that others share.
    CloseStream {
        name: u8,
    },
    Delete {
        name: u8,
    },
    List,
    CloseAll,
    /// Continues with a copy of the directory, as a `kill -9` leaves it.
    Crash,
}

fn operation() -> impl Strategy<Value = Operation> {
    let name = 0u8..5;
    prop_oneof![
        3 => (name.clone(), 1u32..4).prop_map(|(name, shards)| Operation::Create { name, shards }),
        6 => name.clone().prop_map(|name| Operation::Put { name }),
        3 => name.clone().prop_map(|name| Operation::Read { name }),
        2 => (name.clone(), proptest::option::of("\\PC{0,20}"))
            .prop_map(|(name, text)| Operation::SetProperty { name, text }),
        1 => name.clone().prop_map(|name| Operation::CloseStream { name }),
        2 => name.prop_map(|name| Operation::Delete { name }),
        1 => Just(Operation::List),
        1 => Just(Operation::CloseAll),
        1 => Just(Operation::Crash),
    ]
}

/// The expected state of a stream.
#[derive(Debug, Default)]
struct Expected {
    shards: u32,
    records: u64,
    properties: BTreeMap<String, String>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn p1_p16_a_store_does_what_a_map_of_streams_does(operations in vec(operation(), 1..60)) {
        let scratch = common::scratch();
        let mut generation = 0;
        let mut path = scratch.path().join("store-0");
        let mut open = store(&path);
        let mut expected: BTreeMap<String, Expected> = BTreeMap::new();
        let named = |name: u8| format!("stream.{name}");
        for operation in operations {
            match operation {
                Operation::Create { name, shards } => {
                    let name = named(name);
                    let created = open.create(&name, small().shards(shards).property("made", "here"));
                    match expected.contains_key(&name) {
                        true => prop_assert!(matches!(created, Err(Error::InvalidArgument(_))), "{:?}", created),
                        false => {
                            prop_assert_eq!(created.unwrap().shards().len(), shards as usize);
                            let properties = [("made".to_owned(), "here".to_owned())].into();
                            expected.insert(name, Expected { shards, records: 0, properties });
                        }
                    }
                }
                Operation::Put { name } => match (open.stream(&named(name)), expected.get_mut(&named(name))) {
                    (Ok(stream), Some(expected)) => {
                        stream.put(expected.records.to_le_bytes(), "data").unwrap();
                        expected.records += 1;
                    }
                    (Err(Error::NotAStream(_)), None) => {}
                    (found, expected) => panic!("{found:?}, expected {expected:?}"),
                },
                Operation::Read { name } => match (open.reader(&named(name)), expected.get(&named(name))) {
                    (Ok(reader), Some(expected)) => {
                        let mut iterator = reader.lineage_iterator(Position::TrimHorizon).unwrap();
                        let mut count = 0;
                        loop {
                            match iterator.next_batch(7).unwrap().len() {
                                0 => break,
                                more => count += more as u64,
                            }
                        }
                        prop_assert_eq!(count, expected.records);
                        prop_assert_eq!(reader.describe().properties, expected.properties.clone());
                    }
                    (Err(Error::NotAStream(_)), None) => {}
                    (found, expected) => panic!("{found:?}, expected {expected:?}"),
                },
                Operation::SetProperty { name, text } => if let Some(expected) = expected.get_mut(&named(name)) {
                    open.stream(&named(name)).unwrap().set_property("note", text.as_deref()).unwrap();
                    match text {
                        Some(text) => drop(expected.properties.insert("note".to_owned(), text)),
                        None => drop(expected.properties.remove("note")),
                    }
                },
                Operation::CloseStream { name } => if expected.contains_key(&named(name)) {
                    open.stream(&named(name)).unwrap().close().unwrap();
                },
                Operation::Delete { name } => {
                    let deleted = open.delete(&named(name));
                    match expected.remove(&named(name)) {
                        Some(_) => deleted.unwrap(),
                        None => prop_assert!(matches!(deleted, Err(Error::NotAStream(_)))),
                    }
                }
                Operation::List => {}
                Operation::CloseAll => open.close().unwrap(),
                Operation::Crash => {
                    generation += 1;
                    let copy = scratch.path().join(format!("store-{generation}"));
                    if path.exists() {
                        common::copy_dir(&path, &copy);
                    }
                    path = copy;
                    open = store(&path);
                }
            }
            prop_assert_eq!(open.names().unwrap(), expected.keys().cloned().collect::<Vec<_>>());
        }
        for (name, expected) in expected {
            let stream = open.stream(&name).unwrap();
            prop_assert_eq!((stream.shards().len(), record_count(&stream)), (expected.shards as usize, expected.records));
            prop_assert_eq!(stream.describe().properties, expected.properties);
        }
    }
}

#[test]
fn only_names_that_kinesis_has_are_taken() {
    let scratch = common::scratch();
    let store = store(scratch.path());
    for name in ["", ".", "..", "a/b", "../up", "a b", "é", "a\0", &"n".repeat(129)] {
        for refused in
            [store.create(name, small()).map(drop), store.stream(name).map(drop), store.delete(name)]
        {
            assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{name:?}: {refused:?}");
        }
    }
    for name in ["a", "Z9_.-", "...", ".hidden", &"n".repeat(128)] {
        store.create(name, small()).unwrap().put("key", "data").unwrap();
        assert_eq!(record_count(&store.reader(name).unwrap()), 1);
    }
    // Other files in the directory are ignored.
    std::fs::create_dir(scratch.path().join("not a stream")).unwrap();
    std::fs::write(scratch.path().join("file"), "").unwrap();
    assert_eq!(store.names().unwrap().len(), 5);
    assert!(matches!(store.stream("file"), Err(Error::NotAStream(_))));
}

#[test]
fn p13_threads_that_create_use_and_delete_the_same_names_get_along() {
    let scratch = common::scratch();
    let store = store(scratch.path());
    let (created, deleted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Barrier::new(6);
    std::thread::scope(|threads| {
        for thread in 0..6 {
            let (store, created, deleted, start) = (&store, &created, &deleted, &start);
            threads.spawn(move || {
                start.wait();
                for round in 0..40 {
                    let name = ["a", "b"][(round + thread) % 2];
                    match (round * 7 + thread) % 3 {
                        0 => match store.create(name, small()) {
                            Ok(_) => _ = created.fetch_add(1, Ordering::Relaxed),
                            Err(error) => assert!(matches!(error, Error::InvalidArgument(_)), "{error}"),
                        },
                        1 => match store.delete(name) {
                            Ok(()) => _ = deleted.fetch_add(1, Ordering::Relaxed),
                            Err(error) => assert!(matches!(error, Error::NotAStream(_)), "{error}"),
                        },
                        _ => match store.stream(name).and_then(|stream| stream.put("key", "data")) {
                            Ok(_) | Err(Error::NotAStream(_) | Error::Closed) => {}
                            Err(error) => panic!("{error}"),
                        },
                    }
                }
            });
        }
    });
    let left = created.into_inner() - deleted.into_inner();
    assert_eq!(store.names().unwrap().len(), left);
}

#[test]
fn a_stream_that_another_process_has_open_is_locked_and_can_be_read() {
    let scratch = common::scratch();
    let store = store(scratch.path());
    // Another handle in this process is refused in the same way.
    let other = Stream::open(scratch.path().join("clicks")).unwrap();
    other.put("key", "data").unwrap();
    assert!(matches!(store.stream("clicks"), Err(Error::Locked(_))));
    assert!(matches!(store.delete("clicks"), Err(Error::Locked(_))));
    assert_eq!(record_count(&store.reader("clicks").unwrap()), 1);
    other.close().unwrap();
    store.stream("clicks").unwrap().put("key", "data").unwrap();
    store.delete("clicks").unwrap();
}

const CHILD: &str = "STREAMLOG_STORE_CHILD";

/// Creates and deletes streams, and prints before and after each step.
#[test]
fn child() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let store = store(Path::new(&path));
    let from: u64 = std::env::var("STREAMLOG_FROM").unwrap().parse().unwrap();
    for number in from.. {
        let name = format!("s{}", number % 7);
        if number % 13 < 7 {
            println!("create {name} {number}");
            let options = small().shards(3).property("number", number.to_string());
            match store.create(&name, options) {
                Ok(_) => println!("created {name} {number}"),
                Err(Error::InvalidArgument(_)) => println!("there {name} {number}"),
                Err(error) => panic!("{error}"),
            }
        } else {
            println!("delete {name} {number}");
            match store.delete(&name) {
                Ok(()) | Err(Error::NotAStream(_)) => println!("deleted {name} {number}"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn l1_p16_a_process_that_is_killed_leaves_each_stream_whole_or_none() {
    let scratch = common::scratch();
    let path = scratch.path().join("store");
    let mut there: BTreeMap<String, String> = BTreeMap::new();
    let mut from = 0;
    for round in 0..25u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(common::child_test(module_path!()))
            .env(CHILD, &path)
            .env("STREAMLOG_FROM", from.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let mut begun = None;
        let lines_max = 4 + round * 7_919 % 40;
        let mut seen = 0;
        let mut note = |line: String| {
            let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            let [what, name, number] = &words[..] else { return false };
            match &**what {
                "create" | "delete" => begun = Some((what.clone(), name.clone(), number.clone())),
                "created" => drop((begun.take(), there.insert(name.clone(), number.clone()))),
                "there" => assert!(begun.take().is_some() && there.contains_key(name)),
                "deleted" => drop((begun.take(), there.remove(name))),
                _ => return false,
            }
            from = number.parse::<u64>().unwrap() + 1;
            true
        };
        while seen < lines_max {
            seen += u64::from(note(lines.next().expect("the child goes on").unwrap()));
        }
        // Somewhere in the next step.
        std::thread::sleep(Duration::from_micros(round * 997 % 3_000));
        child.kill().unwrap();
        child.wait().unwrap();
        lines.map_while(Result::ok).for_each(|line| _ = note(line));

        let store = store(&path);
        let names = store.names().unwrap();
        for name in &names {
            let described = store.stream(name).unwrap().describe();
            let number = &described.properties["number"];
            let is_begun = begun
                .as_ref()
                .is_some_and(|(what, begun, at)| what == "create" && begun == name && at == number);
            assert!(there.get(name) == Some(number) || is_begun, "round {round}: {name} of {number}");
            assert_eq!(described.shards.len(), 3);
            there.insert(name.clone(), number.clone());
        }
        let missing: Vec<_> = there.keys().filter(|name| !names.contains(name)).cloned().collect();
        for name in missing {
            let is_begun = begun.as_ref().is_some_and(|(what, begun, _)| what == "delete" && *begun == name);
            assert!(is_begun, "round {round}: {name} is gone");
            there.remove(&name);
        }
    }
    assert!(from > 100, "{from} steps");
}
