//! Runs the dashboard without a terminal: draws into memory, presses keys, prints the last picture, and checks its contents.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode};

use crate::demo::{self, Demo};
use crate::panels::Panel;
use crate::readers::ProcessorWork;
use crate::screen::Screen;
use crate::watched::Watched;
use crate::{Result, TICK, draw};

/// The longest time until a change must be visible.
const LATE: Duration = Duration::from_secs(20);

struct Headless {
    screen: Screen,
    terminal: Terminal<TestBackend>,
}

impl Headless {
    fn new(watched: &Watched) -> Result<Self> {
        Ok(Self { screen: Screen::new(watched)?, terminal: Terminal::new(TestBackend::new(80, 24))? })
    }

    fn refresh(&mut self) -> Result<()> {
        self.screen.refresh()?;
        self.terminal.draw(|frame| draw::draw(frame, &self.screen.view))?;
        Ok(())
    }

    fn refresh_for(&mut self, time: Duration) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < time {
            thread::sleep(TICK);
            self.refresh()?;
        }
        Ok(())
    }

    /// Refreshes until something is visible.
    fn refresh_until(&mut self, what: &str, is_so: impl Fn(&Screen) -> bool) -> Result<()> {
        let started = Instant::now();
        while !is_so(&self.screen) {
            if started.elapsed() > LATE {
                return Err(format!("not seen: {what}\n{}", self.picture()).into());
            }
            thread::sleep(TICK);
            self.refresh()?;
        }
        Ok(())
    }

    fn press(&mut self, key: char) {
        self.screen.handle(&Event::Key(KeyCode::Char(key).into()));
    }

    /// Prints a picture with each list of readers, and returns them.
    fn print_all(&mut self) -> Result<String> {
        let mut pictures = String::new();
        for _ in Panel::of(&self.screen.view.sample) {
            self.refresh()?;
            pictures += &self.picture();
            self.screen.handle(&Event::Key(KeyCode::Tab.into()));
        }
        println!("{pictures}");
        Ok(pictures)
    }

    fn picture(&self) -> String {
        self.terminal.backend().to_string().replace('"', "")
    }
}

/// Watches a stream of this process.
pub fn watch(watched: &Watched, seconds: u64) -> Result<()> {
    let mut headless = Headless::new(watched)?;
    let shard_count = watched.reader().shards().len();
    let half = Duration::from_secs(seconds) / 2;
    headless.refresh_for(half)?;
    headless.press('s');
    headless.refresh_for(half)?;
    headless.print_all()?;
    let work = |screen: &Screen, is_so: fn(&ProcessorWork) -> bool| {
        screen.view.sample.processors.iter().filter_map(|processor| processor.work.as_ref()).any(is_so)
    };
    headless.refresh_until("a call that is stuck", |screen| work(screen, |work| work.stuck > 0))?;
    headless.refresh_until("records that are given up", |screen| work(screen, |work| work.discarded > 0))?;
    headless.refresh_until("calls at work", |screen| {
        work(screen, |work| work.invocations_per_second > 0.0 && work.duration.is_some())
    })?;
    headless.refresh_until("dead letters", |screen| {
        screen.view.sample.queues.iter().any(|queue| queue.dead_letter_count > 0)
    })?;
    let sample = &headless.screen.view.sample;
    assert_eq!(sample.shards.len(), shard_count + 1, "one shard was split");
    assert!(sample.records_per_second > 0.0 && sample.bytes_per_second > 0.0, "records are put");
    assert!(sample.delay.is_some() && sample.puts.is_some(), "puts and reads are timed");
    assert_eq!(sample.groups.len(), 2, "both groups are there, and none of a processor");
    assert_eq!((sample.processors.len(), sample.queues.len()), (2, 1));
    Ok(())
}

/// Watches a stream that another process writes, through splits, and while that process is killed and started again.
pub fn watch_other(path: &Path) -> Result<()> {
    let is_busy = |screen: &Screen| {
        let sample = &screen.view.sample;
        sample.records_per_second > 0.0 && sample.bytes_per_second > 0.0 && sample.delay.is_some()
    };
    let mut load = Load::start(path)?;
    let mut headless = Headless::new(&Watched::open(path)?)?;
    headless.refresh_until("puts of another process", is_busy)?;
    let open_count = headless.screen.view.sample.shards.len();
    load.split()?;
    headless.refresh_until("a split", |screen| screen.view.sample.shards.len() == open_count + 1)?;
    headless.refresh_until("puts after a split", is_busy)?;
    assert_eq!(headless.screen.view.sample.closed_count, 1);

    headless.press('s');
    let message = headless.screen.view.message.clone();
    assert!(message.ends_with(&format!(": {} (dashboard)", load.child.id())), "{message}");
    let pictures = headless.print_all()?;
    for part in ["read only", "only its process knows", "iterator age", "in flight"] {
        assert!(pictures.contains(part), "{part:?} is missing");
    }
    let sample = &headless.screen.view.sample;
    assert_eq!(sample.groups.len(), 2, "the other process's groups");
    assert_eq!(sample.processors.len(), 2, "its processors");
    assert!(
        sample.processors.iter().all(|processor| processor.work.is_none()),
        "what they do, it alone knows"
    );
    headless.refresh_until("a queue at work", |screen| {
        screen.view.sample.queues.iter().any(|queue| queue.in_flight_count + queue.delayed_count > 0)
    })?;

    drop(load);
    headless.refresh_until("silence", |screen| screen.view.sample.records_per_second == 0.0)?;
    headless.press('s');
    headless.refresh_until("a split while nobody has it open", |screen| {
        screen.view.sample.shards.len() == open_count + 2
    })?;
    let _load = Load::start(path)?;
    headless.refresh_until("puts of a third process", is_busy)
}

/// Another process that puts into the stream. Dropping it kills it.
struct Load {
    child: Child,
}

impl Load {
    fn start(path: &Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let command = command.arg("--load").arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut load = Self { child: command.spawn()? };
        load.wait_for_answer()?;
        Ok(load)
    }

    fn split(&mut self) -> Result<()> {
        self.child.stdin.as_mut().ok_or("it has an input")?.write_all(b"s")?;
        self.wait_for_answer()
    }

    fn wait_for_answer(&mut self) -> Result<()> {
        Ok(self.child.stdout.as_mut().ok_or("it has an output")?.read_exact(&mut [0])?)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The work of that process: puts until its input ends, and splits a shard for each byte there. Answers when it is ready, and after each split.
pub fn put_load(path: &Path) -> Result<()> {
    let stream = demo::open(path)?;
    let demo = Demo::start(&stream)?;
    let answer = || std::io::stdout().write_all(b".").and_then(|()| std::io::stdout().flush());
    answer()?;
    while std::io::stdin().read(&mut [0])? > 0 {
        let shard = stream.shards().into_iter().find(|shard| shard.is_open()).ok_or("a shard is open")?;
        stream.split_shard_evenly(shard.id)?;
        answer()?;
    }
    demo.stop()?;
    Ok(stream.close()?)
}
