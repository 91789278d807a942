//! Draws the readers of the stream: consumer groups, processors and queues. Draws all if there is room, and otherwise one at a time.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table};

use crate::draw::{BOLD, DIM, cells, part};
use crate::readers::{GroupSample, ProcessorSample, QueueSample};
use crate::sample::Sample;
use crate::screen::View;
use crate::text;

/// The maximum number of readers in a panel, which leaves space for the shards.
const ROWS_MAX: usize = 4;

/// One kind of readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Panel {
    #[default]
    Groups,
    Processors,
    Queues,
}

impl Panel {
    /// Returns the panels that a stream has. There is always one.
    pub fn of(sample: &Sample) -> Vec<Self> {
        let mut panels = vec![Self::Groups, Self::Processors, Self::Queues];
        panels.retain(|panel| *panel == Self::Groups || panel.count(sample) > 0);
        panels
    }

    /// Returns the panel after this one.
    pub fn next(self, sample: &Sample) -> Self {
        let panels = Self::of(sample);
        let at = panels.iter().position(|panel| *panel == self).map_or(0, |at| at + 1);
        panels[at % panels.len()]
    }

    fn count(self, sample: &Sample) -> usize {
        match self {
            Self::Groups => sample.groups.len(),
            Self::Processors => sample.processors.len(),
            Self::Queues => sample.queues.len(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Groups => "consumer groups",
            Self::Processors => "processors",
            Self::Queues => "queues",
        }
    }

    /// Returns how many lines the panel takes: its title, the headings, and the readers.
    fn lines(self, sample: &Sample) -> u16 {
        2 + self.count(sample).clamp(1, ROWS_MAX) as u16
    }
}

/// Which panels are drawn.
pub struct Shown {
    panels: Vec<Panel>,
    /// There is room for only one.
    pub is_one_of_many: bool,
}

impl Shown {
    /// Chooses the panels that fit into this many lines.
    pub fn choose(view: &View, lines_max: u16) -> Self {
        let panels = Panel::of(&view.sample);
        let lines: u16 = panels.iter().map(|panel| panel.lines(&view.sample)).sum();
        if panels.len() == 1 || lines <= lines_max {
            return Self { panels, is_one_of_many: false };
        }
        let chosen = panels.iter().copied().find(|panel| *panel == view.panel).unwrap_or_default();
        Self { panels: vec![chosen], is_one_of_many: true }
    }

    /// Returns how many lines they take. A single panel takes as many as the tallest, so that nothing moves when another is chosen.
    pub fn lines(&self, sample: &Sample) -> u16 {
        if self.is_one_of_many {
            return Panel::of(sample).iter().map(|panel| panel.lines(sample)).max().unwrap_or_default();
        }
        self.panels.iter().map(|panel| panel.lines(sample)).sum()
    }

    pub fn draw(&self, frame: &mut Frame<'_>, area: Rect, view: &View) {
        let areas =
            Layout::vertical(self.panels.iter().map(|panel| Constraint::Length(panel.lines(&view.sample))));
        for (panel, area) in self.panels.iter().zip(areas.split(area).iter()) {
            let title = if self.is_one_of_many { title_of_one(*panel, view) } else { title(*panel, view) };
            let area = part(frame, *area, title);
            match panel {
                Panel::Groups => draw_groups(frame, area, &view.sample.groups),
                Panel::Processors => draw_processors(frame, area, &view.sample.processors),
                Panel::Queues => draw_queues(frame, area, &view.sample.queues),
            }
        }
    }
}

fn title(panel: Panel, view: &View) -> Line<'static> {
    let what = match panel {
        Panel::Groups => "consumer groups and their lag: what they have still to handle",
        Panel::Processors if view.is_own => "processors, by Lambda's names",
        Panel::Processors => "processors (what they do now, only their process knows)",
        Panel::Queues => "queues",
    };
    let hidden = match panel.count(&view.sample).saturating_sub(ROWS_MAX) {
        0 => String::new(),
        count => format!(" (and {count} more)"),
    };
    Line::from(Span::styled(format!(" {what}{hidden} "), BOLD.remove_modifier(Modifier::DIM)))
}

/// Returns the names of all panels, with this one highlighted.
fn title_of_one(shown: Panel, view: &View) -> Line<'static> {
    let names = Panel::of(&view.sample).into_iter().map(|panel| {
        let name = format!(" {} ({}) ", panel.name(), panel.count(&view.sample));
        let style = if panel == shown { BOLD.remove_modifier(Modifier::DIM) } else { DIM };
        Span::styled(name, style)
    });
    names.collect()
}

/// Draws a table whose columns have at least these widths.
fn draw_table<const N: usize>(
    frame: &mut Frame<'_>,
    area: Rect,
    columns: [(&str, u16); N],
    rows: Vec<Row<'_>>,
) {
    let widths = columns.map(|(_, width)| Constraint::Min(width));
    let table = Table::new(rows, widths).header(cells(columns.map(|(name, _)| name.to_owned())).style(DIM));
    frame.render_widget(table, area);
}

/// Formats an age, or `-` if there is none.
fn age(age: Duration) -> String {
    if age.is_zero() { "-".to_owned() } else { text::duration(age) }
}

fn draw_groups(frame: &mut Frame<'_>, area: Rect, groups: &[GroupSample]) {
    if groups.is_empty() {
        frame.render_widget(Paragraph::new("nobody has read this stream as a group").style(DIM), area);
        return;
    }
    let row = |group: &GroupSample| {
        let oldest = match group.lag.record_count {
            0 => "-".to_owned(),
            _ => format!("{} ago", text::duration(group.lag.age)),
        };
        cells([
            group.name.clone(),
            group.worker_count.map_or("?".to_owned(), |count| text::count(count as u64)),
            text::count(group.lag.record_count),
            text::bytes(group.lag.bytes),
            oldest,
        ])
    };
    let columns = [("group", 12), ("workers", 12), ("records", 12), ("bytes", 12), ("the oldest put", 14)];
    draw_table(frame, area, columns, groups.iter().map(row).collect());
}

fn draw_processors(frame: &mut Frame<'_>, area: Rect, processors: &[ProcessorSample]) {
    let row = |processor: &ProcessorSample| {
        let [invocations, errors, duration, discarded, running, stuck] = match &processor.work {
            None => std::array::from_fn(|_| "?".to_owned()),
            Some(work) => [
                text::rate(work.invocations_per_second),
                text::rate(work.errors_per_second),
                work.duration.map_or("-".to_owned(), text::duration),
                text::count(work.discarded),
                text::count(work.running as u64),
                text::count(work.stuck as u64),
            ],
        };
        let cells = cells([
            processor.name.clone(),
            age(processor.iterator_age),
            invocations,
            errors,
            duration,
            discarded,
            running,
            stuck,
        ]);
        let is_stuck = processor.work.as_ref().is_some_and(|work| work.stuck > 0);
        if is_stuck { cells.style(BOLD) } else { cells }
    };
    let columns = [
        ("processor", 11),
        ("iterator age", 12),
        ("invocations/s", 13),
        ("errors/s", 8),
        ("duration", 8),
        ("discarded", 9),
        ("running", 7),
        ("stuck", 5),
    ];
    draw_table(frame, area, columns, processors.iter().map(row).collect());
}

fn draw_queues(frame: &mut Frame<'_>, area: Rect, queues: &[QueueSample]) {
    let row = |queue: &QueueSample| {
        let cells = cells([
            queue.name.clone(),
            text::count(queue.visible_count),
            text::count(queue.in_flight_count as u64),
            text::count(queue.delayed_count as u64),
            text::count(queue.dead_letter_count as u64),
            age(queue.oldest_age),
        ]);
        if queue.dead_letter_count > 0 { cells.style(BOLD) } else { cells }
    };
    let columns =
        [("queue", 12), ("visible", 12), ("in flight", 12), ("delayed", 12), ("dead", 12), ("oldest", 12)];
    draw_table(frame, area, columns, queues.iter().map(row).collect());
}
