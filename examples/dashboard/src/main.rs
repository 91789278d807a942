//! Watches a live stream in a terminal: its shards over the hash-key space, the put rates, the time from put to read, the lag of the consumer
//! groups, the work of processors by Lambda's names, and the records of queues. Keyboard commands split and merge shards.
//!
//! ```text
//! cargo run --release -p dashboard                           # a made-up load
//! cargo run --release -p dashboard -- path/to/stream         # a stream that another process may have open
//! cargo run --release -p dashboard -- --headless --seconds 3 # without a terminal
//! ```
//!
//! A stream of another process is only read: the dashboard does not change it, and needs no write permission. Put times, the number of workers
//! of consumer groups, and the current work of processors are known only in that process. To see them, copy these files into it, and call
//! `watch` with a clone of the stream and its processors.

mod demo;
mod draw;
mod follower;
mod headless;
mod panels;
mod readers;
mod sample;
mod screen;
mod text;
mod watched;

use std::error::Error;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event;
use signal_hook::consts::{SIGHUP, SIGTERM};

use demo::Demo;
use screen::Screen;
use watched::Watched;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The interval between two updates of the screen.
const TICK: Duration = Duration::from_millis(500);
/// The delay of the first update, and of the one after a key press: long enough to compute a rate.
const SOON: Duration = Duration::from_millis(100);

/// Watches a live stream in a terminal, and splits and merges its shards.
#[derive(Debug, Parser)]
struct Args {
    /// A stream to watch, which another process may have open; a temporary one with a made-up load if not given
    path: Option<PathBuf>,
    /// End after this many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Needs no terminal: watches a stream of its own and one of another process, splits shards on the way, prints pictures, and checks them
    #[arg(long, conflicts_with = "path")]
    headless: bool,
    /// Put a made-up load into a stream until the input ends
    #[arg(long, hide = true, exclusive = true, value_name = "PATH")]
    load: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(path) = &args.load {
        return headless::put_load(path);
    }
    if !args.headless && !std::io::stdout().is_terminal() {
        return Err("this draws on a terminal: use --headless where there is none".into());
    }
    let until = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    if let Some(path) = &args.path {
        return watch(&Watched::open(path)?, until, || false);
    }
    let temporary = tempfile::tempdir()?;
    let stream = demo::open(&temporary.path().join("clicks"))?;
    let demo = Demo::start(&stream)?;
    let watched = match args.headless {
        true => headless::watch(&demo.watched(&stream), args.seconds.unwrap_or(3)),
        false => watch(&demo.watched(&stream), until, || demo.has_ended()),
    };
    // Report an error of the load first: it may be the reason why watching ended.
    demo.stop()?;
    watched?;
    stream.close()?;
    if args.headless { headless::watch_other(&temporary.path().join("other")) } else { Ok(()) }
}

/// Watches a stream until the user quits, the time is up, or `must_end` returns true. Restores the terminal in every case, even after a
/// panic in any thread.
fn watch(watched: &Watched, until: Option<Instant>, must_end: impl Fn() -> bool) -> Result<()> {
    let mut screen = Screen::new(watched)?;
    let is_told_to_end = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&is_told_to_end))?;
    }
    let has_panicked = Arc::new(AtomicBool::new(false));
    let must_end = || {
        let is_late = until.is_some_and(|until| Instant::now() >= until);
        let is_told = is_told_to_end.load(Ordering::Relaxed) || has_panicked.load(Ordering::Relaxed);
        is_late || is_told || must_end()
    };
    let mut terminal = ratatui::try_init()?;
    // A panic restores the terminal before it prints. After that, nothing may draw over the message.
    let give_back_and_print = std::panic::take_hook();
    std::panic::set_hook(Box::new({
        let has_panicked = Arc::clone(&has_panicked);
        move |panic| {
            has_panicked.store(true, Ordering::Relaxed);
            give_back_and_print(panic);
        }
    }));
    let outcome = draw_and_listen(&mut terminal, &mut screen, must_end);
    if !has_panicked.load(Ordering::Relaxed) {
        ratatui::restore();
    }
    outcome
}

fn draw_and_listen(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    must_end: impl Fn() -> bool,
) -> Result<()> {
    let mut next_tick = Instant::now() + SOON;
    while !screen.is_left() && !must_end() {
        if Instant::now() >= next_tick {
            screen.refresh()?;
            next_tick = Instant::now() + TICK;
        }
        terminal.draw(|frame| draw::draw(frame, &screen.view))?;
        if event::poll(next_tick.saturating_duration_since(Instant::now()))? {
            screen.handle(&event::read()?);
            next_tick = next_tick.min(Instant::now() + SOON);
        }
    }
    Ok(())
}
