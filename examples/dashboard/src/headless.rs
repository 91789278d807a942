//! Watches without a terminal: draws into memory, presses a key on the way, prints the last picture, and checks what it shows.

use std::thread;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode};
use streamlog::Stream;

use crate::screen::Screen;
use crate::{Result, TICK, draw};

pub fn watch(stream: &Stream, seconds: u64) -> Result<()> {
    let mut screen = Screen::new(stream)?;
    let mut terminal = Terminal::new(TestBackend::new(80, 24))?;
    let shard_count = stream.shards().len();
    let (started, mut is_split) = (Instant::now(), false);
    let until = Duration::from_secs(seconds);
    loop {
        screen.refresh()?;
        terminal.draw(|frame| draw::draw(frame, &screen.view))?;
        if started.elapsed() >= until {
            break;
        }
        if !is_split && started.elapsed() >= until / 2 {
            screen.handle(&Event::Key(KeyCode::Char('s').into()));
            is_split = true;
        }
        thread::sleep(TICK);
    }
    println!("{}", terminal.backend().to_string().replace('"', ""));
    let sample = &screen.view.sample;
    assert_eq!(sample.shards.len(), shard_count + 1, "one shard was split");
    assert!(sample.records_per_second > 0.0 && sample.bytes_per_second > 0.0, "records are put, and read");
    assert!(sample.delay.is_some(), "the delay is measured");
    assert_eq!(sample.groups.len(), 2, "both groups are there");
    Ok(())
}
