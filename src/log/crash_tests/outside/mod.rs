//! A reader in another process, at each step of a writer, and a writer at each step of such a reader: L8.
//!
//! A reader that is opened by its path shares nothing with the stream of the same process, so both run here. A step is what one of them does
//! between two calls to the operating system; the reader has a few more points where only words in memory are loaded. Only to be killed
//! does the writer need a process of its own.

mod readers;
mod world;

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::steps::scratch;
use crate::log::sys::fault::set_hook;
use crate::{Error, Position, ShardId, ShardIterator, StreamReader, Timestamp};
use readers::{LOOKS, Readers};
use world::{ACTS, Act, World};

/// Runs `work`, and calls `other` in another thread before each of its calls to the operating system, with the number of the call. Returns
/// how many there were.
fn interrupted(work: impl FnOnce(), other: impl Fn(usize) + Send + Sync + 'static) -> usize {
    let (count, other) = (Rc::new(RefCell::new(0)), Arc::new(other));
    let counted = Rc::clone(&count);
    set_hook(Some(Box::new(move |_, _| {
        let (number, other) = (*counted.borrow(), Arc::clone(&other));
        *counted.borrow_mut() += 1;
        let done = std::thread::spawn(move || other(number)).join();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(())
    })));
    let over = HookGuard;
    work();
    drop(over);
    Rc::into_inner(count).expect("the hook is gone").into_inner()
}

/// Ends the hook on drop, also if the work fails.
struct HookGuard;

impl Drop for HookGuard {
    fn drop(&mut self) {
        set_hook(None);
    }
}

/// Says which case failed.
struct Case(String);

impl Case {
    fn new(is_reopened: bool, what: impl std::fmt::Display) -> Self {
        Self(format!("a stream that is {}: {what}", if is_reopened { "opened again" } else { "new" }))
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

/// What the reader has not seen yet when it begins: puts, in the same segment or in several new ones, or something for which it has to find the
/// shards anew.
const NEWS: [(&str, Act); 4] = [
    ("puts", |world| world.put(2)),
    ("rolls three times", |world| world.put(25)),
    ("splits", |world| {
        world.split();
        world.put(2);
    }),
    ("opens again", |world| {
        world.reopen();
        world.put(2);
    }),
];

/// Lets the writer act at every `stride`-th step of the reader, in every `stride`-th case.
fn act_within_reads(stride: usize) {
    let cases = acts().flat_map(|act| NEWS.map(|news| (act, news)));
    for (number, ((is_reopened, (act_name, act)), (news_name, news))) in cases.enumerate() {
        for (look_at, (look_name, look)) in LOOKS.into_iter().enumerate() {
            let place = number * LOOKS.len() + look_at;
            if !place.is_multiple_of(stride) {
                continue;
            }
            for at in (place / stride % stride..).step_by(stride) {
                let what =
                    format!("the writer {news_name} and {act_name}, the reader {look_name}, at step {at}");
                let _case = Case::new(is_reopened, what);
                let scratch = scratch();
                let mut world = World::begun(scratch.path(), is_reopened);
                let mut readers = Readers::new(&world);
                news(&mut world);
                let end = world.puts.end_of(ShardId::new(0));
                let world = Arc::new(Mutex::new(world));
                let other = Arc::clone(&world);
                let step_count = interrupted(
                    || look(&mut readers, end),
                    move |number| {
                        if number == at {
                            act(&mut other.lock().unwrap());
                        }
                    },
                );
                readers.finish(&world.lock().unwrap());
                if at >= step_count {
                    break;
                }
            }
        }
    }
}

fn acts() -> impl Iterator<Item = (bool, (&'static str, Act))> {
    ACTS.iter().flat_map(|&act| [(false, act), (true, act)])
}

#[test]
fn l8_whatever_a_writer_does_in_the_middle_of_a_read_the_read_is_right() {
    act_within_reads(11);
}

#[test]
#[ignore = "each step of the test above: see docs/TESTING.md"]
fn l8_whatever_a_writer_does_in_the_middle_of_a_read_the_read_is_right_long() {
    act_within_reads(1);
}

#[test]
fn l8_whatever_a_reader_does_in_the_middle_of_what_a_writer_does_the_read_is_right() {
    for (is_reopened, (act_name, act)) in acts() {
        // Readers that look at every step, and readers that look at one of four.
        for (stride, offset) in [(1, 0), (4, 0), (4, 1), (4, 2), (4, 3)] {
            let what =
                format!("the writer {act_name}, the readers look at step {offset} and each {stride}th after");
            let _case = Case::new(is_reopened, what);
            let scratch = scratch();
            let mut world = World::begun(scratch.path(), is_reopened);
            let readers = Arc::new(Mutex::new(Readers::new(&world)));
            let other = Arc::clone(&readers);
            interrupted(
                || act(&mut world),
                move |number| {
                    if number % stride == offset {
                        other.lock().unwrap().look_at_all();
                    }
                },
            );
            Arc::into_inner(readers).expect("the hook is gone").into_inner().unwrap().finish(&world);
        }
    }
}

#[test]
fn l8_a_reader_that_only_lists_the_shards_misses_none() {
    for (is_reopened, (act_name, act)) in acts() {
        for (stride, offset) in [(1, 0), (5, 0), (5, 1), (5, 2), (5, 3), (5, 4)] {
            let what =
                format!("the writer {act_name}, the reader lists at step {offset} and each {stride}th after");
            let _case = Case::new(is_reopened, what);
            let scratch = scratch();
            let mut world = World::begun(scratch.path(), is_reopened);
            let reader = StreamReader::open(scratch.path()).unwrap();
            let other = reader.clone();
            interrupted(
                || act(&mut world),
                move |number| {
                    if number % stride == offset {
                        readers::check_ranges(&other);
                    }
                },
            );
            assert_eq!(reader.shards(), world.stream().shards());
        }
    }
}

#[test]
fn l8_a_segment_that_begins_without_records_hides_none_of_those_before() {
    let scratch = scratch();
    let mut world = World::begun(scratch.path(), false);
    let readers = Readers::new(&world);
    world.put(2);
    // The frame is larger than what is left of the segment. So the next one begins, and then the write fails.
    let mut large = vec![0; 40_000];
    large[..8].copy_from_slice(&1u64.to_le_bytes());
    set_hook(Some(Box::new(|action, file| match action == "write to" && !file.ends_with("spare") {
        true if std::fs::metadata(file).is_ok_and(|file| file.len() > 8_192) => {
            Err(std::io::Error::from_raw_os_error(5))
        }
        _ => Ok(()),
    })));
    let failed = (0..2).filter(|_| world.stream().put("key", &large).is_err()).count();
    set_hook(None);
    assert!(failed > 0);
    readers.finish(&world);
}

#[test]
fn l8_a_file_that_is_about_to_be_filled_again_is_not_read() {
    let scratch = scratch();
    let world = World::begun(scratch.path(), false);
    let puts = Arc::clone(&world.puts);
    let reader = StreamReader::open(scratch.path()).unwrap();
    let mut iterator = reader.iterator(ShardId::new(0), Position::TrimHorizon).unwrap();
    let (at_refill, reached) = channel();
    let (go_on, may_go_on) = channel::<()>();
    // The reader has opened the file and not locked it yet. The writer finds it without a lock, and is about to overwrite its header.
    let writer = Rc::new(RefCell::new(None));
    let started = Rc::clone(&writer);
    let mut parts = Some((world, at_refill, may_go_on));
    set_hook(Some(Box::new(move |action, _| {
        if let Some((mut world, at_refill, may_go_on)) = parts.take_if(|_| action == "lock") {
            let thread = std::thread::spawn(move || {
                set_hook(Some(Box::new(move |action, file| {
                    if action == "write to" && file.extension().is_some_and(|end| end == "spare") {
                        // Only the first time is anybody waiting.
                        let _ = at_refill.send(());
                        let _ = may_go_on.recv();
                    }
                    Ok(())
                })));
                world.trim(2);
                set_hook(None);
                world.put(60);
            });
            *started.borrow_mut() = Some(thread);
            reached.recv_timeout(Duration::from_secs(60)).expect("a file is filled again");
        }
        Ok(())
    })));
    let read = iterator.next_batch(5);
    set_hook(None);
    drop(go_on);
    writer.take().expect("the reader locks the file").join().unwrap();
    match read {
        Ok(batch) => drop(puts.check(&batch)),
        Err(error) => assert!(matches!(error, Error::Trimmed { .. }), "{error}"),
    }
}

#[test]
fn l8_a_segment_that_is_replaced_before_it_is_opened_is_looked_for_again() {
    type Look = fn(&StreamReader, &mut ShardIterator);
    let looks: [Look; 3] = [
        |_, iterator| assert_eq!(iterator.next_batch(5).unwrap().len(), 5),
        |_, iterator| assert_eq!(iterator.lag().unwrap().record_count, 30),
        |reader, _| {
            let first = Position::AtTimestamp(Timestamp::from_millis(1_700_000_000_000));
            assert_eq!(reader.iterator(ShardId::new(0), first).unwrap().next_sequence(), 0.into());
        },
    ];
    for look in looks {
        let scratch = scratch();
        let world = World::begun(scratch.path(), false);
        let reader = StreamReader::open(scratch.path()).unwrap();
        let mut iterator = reader.iterator(ShardId::new(0), Position::TrimHorizon).unwrap();
        let is_replaced = Rc::new(Cell::new(false));
        let (noted, mut parts) = (Rc::clone(&is_replaced), Some((world, reader.clone())));
        set_hook(Some(Box::new(move |action, _| {
            if let Some((mut world, reader)) = parts.take_if(|_| action == "open a segment of") {
                // Another thread of the reader's process takes over that the stream was opened again.
                let thread = std::thread::spawn(move || {
                    world.reopen();
                    reader.stats().unwrap();
                });
                thread.join().unwrap();
                noted.set(true);
            }
            Ok(())
        })));
        let over = HookGuard;
        look(&reader, &mut iterator);
        drop(over);
        assert!(is_replaced.get());
    }
}

const CHILD: &str = "STREAMLOG_OUTSIDE_CHILD";

/// Not a test: the child that is killed. It acts on a stream, and is gone before the call to the operating system with a number.
#[test]
fn child() {
    let Ok(orders) = std::env::var(CHILD) else { return };
    let orders: Vec<_> = orders.split('\n').collect();
    let number = |at: usize| orders[at].parse::<usize>().unwrap();
    let mut world = World::begun(Path::new(orders[0]), number(1) == 1);
    let say = |text: String| std::io::stdout().write_all(text.as_bytes()).unwrap();
    for ((shard, sequence), put) in world.puts.0.lock().unwrap().iter() {
        say(format!("put {} {sequence} {put}\n", shard.get()));
    }
    world.note = |shard, sequence, put| {
        std::io::stdout().write_all(format!("put {} {sequence} {put}\n", shard.get()).as_bytes()).unwrap();
    };
    say("ready\n".into());
    // The readers open the stream now.
    std::io::stdin().read_exact(&mut [0]).unwrap();
    let (kill_at, mut count) = (number(3), 0);
    set_hook(Some(Box::new(move |_, _| {
        if count == kill_at {
            // Nothing is unwound, and nothing closed.
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        }
        count += 1;
        Ok(())
    })));
    ACTS[number(2)].1(&mut world);
    set_hook(None);
    say("done\n".into());
    std::process::abort();
}

/// Runs an act in a child that is killed at a step. Returns whether it came so far.
fn kill_at(act: usize, is_reopened: bool, at: usize) -> bool {
    let _case = Case::new(is_reopened, format!("the writer {} and is killed at step {at}", ACTS[act].0));
    let scratch = scratch();
    let orders = format!("{}\n{}\n{act}\n{at}", scratch.path().display(), u8::from(is_reopened));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "log::crash_tests::outside::child", "--nocapture", "--test-threads=2"])
        .env(CHILD, orders)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut world = World::of_another_process(scratch.path());
    let mut readers = None;
    let mut was_killed = true;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["put", shard, sequence, put] => {
                let [shard, sequence, put] = [shard, sequence, put].map(|word| word.parse::<u64>().unwrap());
                world.puts.0.lock().unwrap().insert((ShardId::new(shard as u32), sequence), put);
            }
            ["ready"] => {
                readers = Some(Readers::new(&world));
                child.stdin.take().unwrap().write_all(b"!").unwrap();
            }
            ["done"] => was_killed = false,
            _ => {}
        }
    }
    child.wait().unwrap();
    let mut readers = readers.expect("the child was ready");
    // All that was put is there, and stays once the stream is opened again.
    readers.look_at_all();
    world.open_again();
    readers.look_at_all();
    world.put(2);
    readers.finish(&world);
    was_killed
}

/// Kills a writer at every `stride`-th step of what it does.
fn kill_within_acts(stride: usize) {
    for (act, is_reopened) in (0..ACTS.len()).flat_map(|act| [(act, false), (act, true)]) {
        let first = (2 * act + usize::from(is_reopened)) % stride;
        let mut steps = (first..).step_by(stride);
        while kill_at(act, is_reopened, steps.next().expect("endless")) {}
    }
}

#[test]
fn l8_what_was_read_stays_wherever_the_writer_is_killed() {
    kill_within_acts(13);
}

#[test]
#[ignore = "each step of the test above: see docs/TESTING.md"]
fn l8_what_was_read_stays_wherever_the_writer_is_killed_long() {
    kill_within_acts(1);
}
