//! The contents of the screen, and how keys change the screen and the stream.

use std::collections::VecDeque;
use std::time::Instant;

use ratatui::crossterm::event::{Event, KeyCode, KeyModifiers};
use streamlog::{Error, ShardId};

use crate::panels::Panel;
use crate::sample::{Sample, Sampler, ShardSample};
use crate::watched::Watched;
use crate::{Result, text};

/// The number of rates to keep: more than a wide terminal shows.
const HISTORY_MAX: usize = 400;

/// Everything that is drawn.
#[derive(Default)]
pub struct View {
    /// The stream's path and durability.
    pub title: String,
    /// What the last opening of the stream found, or that another process has it open.
    pub state: String,
    /// Whether this process has the stream open.
    pub is_own: bool,
    /// How long records are kept.
    pub retention: String,
    pub sample: Sample,
    /// Which readers are shown if there is no room for all.
    pub panel: Panel,
    /// Records per second, newest first.
    pub history: VecDeque<u64>,
    /// The selected shard, on which key presses act.
    pub chosen: Option<ShardId>,
    /// The result of the last key press.
    pub message: String,
}

pub struct Screen {
    pub view: View,
    watched: Watched,
    sampler: Sampler,
    is_left: bool,
}

impl View {
    /// Returns the index of the selected shard.
    pub fn chosen_at(&self) -> Option<usize> {
        self.sample.shards.iter().position(|shard| Some(shard.id) == self.chosen)
    }
}

impl Screen {
    pub fn new(watched: &Watched) -> Result<Self> {
        let described = watched.reader().describe();
        let view = View {
            title: format!("{}  (Durability::{:?})", described.path.display(), described.durability),
            state: watched.state(),
            is_own: watched.is_own(),
            retention: text::retention(described.retention),
            ..View::default()
        };
        Ok(Self { view, watched: watched.clone(), sampler: Sampler::new(watched)?, is_left: false })
    }

    pub fn is_left(&self) -> bool {
        self.is_left
    }

    /// Samples the stream again.
    pub fn refresh(&mut self) -> Result<()> {
        self.view.sample = self.sampler.take()?;
        let shards = &self.view.sample.shards;
        // Another thread may have split or merged the selected shard.
        if self.view.chosen_at().is_none() {
            self.view.chosen = shards.first().map(|shard| shard.id);
        }
        self.view.history.push_front(self.view.sample.records_per_second as u64);
        self.view.history.truncate(HISTORY_MAX);
        Ok(())
    }

    pub fn handle(&mut self, event: &Event) {
        let Some(key) = event.as_key_press_event() else { return };
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => self.is_left = true,
            KeyCode::Char('q') | KeyCode::Esc => self.is_left = true,
            KeyCode::Up | KeyCode::Left => self.choose(|at| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Right => self.choose(|at| at + 1),
            KeyCode::Tab => self.view.panel = self.view.panel.next(&self.view.sample),
            KeyCode::Char('s') => self.reshard(Self::split),
            KeyCode::Char('m') => self.reshard(Self::merge),
            _ => {}
        }
    }

    fn choose(&mut self, next: impl Fn(usize) -> usize) {
        let at = next(self.view.chosen_at().unwrap_or(0));
        // Past the last shard, the selection stays.
        if let Some(shard) = self.view.sample.shards.get(at) {
            self.view.chosen = Some(shard.id);
        }
    }

    /// Splits or merges, and shows the result. A refusal does not end the program.
    fn reshard(&mut self, change: fn(&Watched, &[ShardSample], usize) -> Outcome) {
        let Some(at) = self.view.chosen_at() else { return };
        let started = Instant::now();
        match change(&self.watched, &self.view.sample.shards, at) {
            Ok((child, what)) => {
                self.view.chosen = Some(child);
                self.view.message = format!("{what}, in {}", text::duration(started.elapsed()));
            }
            Err(why) => self.view.message = why,
        }
    }

    fn split(watched: &Watched, shards: &[ShardSample], at: usize) -> Outcome {
        let shard = shards[at].id;
        let children = watched.change(|stream| stream.split_shard_evenly(shard));
        match children.map_err(refusal)?.as_slice() {
            [lower, upper] => Ok((
                lower.id,
                format!("shard {} is split into {} and {}", shard.get(), lower.id.get(), upper.id.get()),
            )),
            children => Err(format!("a split made {} shards", children.len())),
        }
    }

    fn merge(watched: &Watched, shards: &[ShardSample], at: usize) -> Outcome {
        let shard = shards[at].id;
        let Some(adjacent) = shards.get(at + 1).map(|next| next.id) else {
            return Err(format!(
                "shard {} ends the hash-key space: there is none behind it to merge it with",
                shard.get()
            ));
        };
        let child = watched.change(|stream| stream.merge_shards(shard, adjacent));
        let child = child.map_err(refusal)?.id;
        Ok((child, format!("shards {} and {} are merged into {}", shard.get(), adjacent.get(), child.get())))
    }
}

/// Explains why a stream was not changed. The text of the error would be too long for a line that also has the stream's path.
fn refusal(error: Error) -> String {
    match error {
        Error::Locked(by) => match (by.process_id, by.process_name) {
            (Some(id), Some(name)) => format!("only the process that has it open can do that: {id} ({name})"),
            (Some(id), None) => format!("only the process that has it open can do that: {id}"),
            _ => "only the process that has it open can do that".to_owned(),
        },
        error => error.to_string(),
    }
}

/// The resulting shard and a message, or the reason why nothing changed.
type Outcome = Result<(ShardId, String), String>;
