//! Watches without a terminal: draws into memory, presses keys on the way, prints the last picture, and checks what it shows.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode};
use streamlog::Stream;

use crate::demo::{self, Demo};
use crate::screen::Screen;
use crate::watched::Watched;
use crate::{Result, TICK, draw};

/// The longest time in which something that was done must be seen.
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

    /// Refreshes until something is to be seen.
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

    fn picture(&self) -> String {
        self.terminal.backend().to_string().replace('"', "")
    }
}

/// Watches a stream of this process.
pub fn watch(stream: &Stream, seconds: u64) -> Result<()> {
    let mut headless = Headless::new(&Watched::Own(stream.clone()))?;
    let shard_count = stream.shards().len();
    let half = Duration::from_secs(seconds) / 2;
    headless.refresh_for(half)?;
    headless.press('s');
    headless.refresh_for(half)?;
    println!("{}", headless.picture());
    let sample = &headless.screen.view.sample;
    assert_eq!(sample.shards.len(), shard_count + 1, "one shard was split");
    assert!(sample.records_per_second > 0.0 && sample.bytes_per_second > 0.0, "records are put");
    assert!(sample.delay.is_some() && sample.puts.is_some(), "puts and reads are timed");
    assert_eq!(sample.groups.len(), 2, "both groups are there");
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
    headless.refresh()?;
    println!("{}", headless.picture());
    for part in ["read only", "only its process knows"] {
        assert!(headless.picture().contains(part), "{part:?} is missing");
    }
    assert_eq!(headless.screen.view.sample.groups.len(), 2, "the other process's groups");

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

/// The work of that process: puts until its input ends, and splits a shard for each byte there. Answers once it is ready, and after each split.
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
