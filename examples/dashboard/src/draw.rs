//! Draws the screen, on 80 columns and 24 lines or any other size.

use std::fmt::Display;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Sparkline, Table, TableState};

use crate::panels::Shown;
use crate::sample::{ShardSample, Times};
use crate::screen::View;
use crate::text;

pub const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
pub const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);
/// The lines of all parts that have a fixed height.
const FIXED_LINES: u16 = 12;
/// The lines that are left to the shards: the title, the headings, and some shards.
const SHARD_LINES: u16 = 6;

pub fn draw(frame: &mut Frame<'_>, view: &View) {
    let readers = Shown::choose(view, frame.area().height.saturating_sub(FIXED_LINES + SHARD_LINES));
    let areas = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(4),
        Constraint::Length(4),
        Constraint::Min(3),
        Constraint::Length(readers.lines(&view.sample)),
        Constraint::Length(2),
    ]);
    let [header, load, space, shards, below, footer] = areas.areas(frame.area());
    draw_header(frame, header, view);
    let [puts, delay] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(34)]).areas(load);
    draw_puts(frame, puts, view);
    draw_delay(frame, delay, view);
    draw_space(frame, space, view);
    draw_shards(frame, shards, view);
    readers.draw(frame, below, view);
    draw_footer(frame, footer, view, readers.is_one_of_many);
}

/// Draws a part of the screen with its title. Returns the area inside.
pub fn part(frame: &mut Frame<'_>, area: Rect, title: Line<'_>) -> Rect {
    let block = Block::new().borders(Borders::TOP).border_style(DIM).title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    inner
}

/// Returns a title that is brighter than the border that it stands in.
pub fn title(text: impl Display) -> Line<'static> {
    Line::from(Span::styled(format!(" {text} "), BOLD.remove_modifier(Modifier::DIM)))
}

fn draw_header(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let title = Line::from(vec![Span::styled("streamlog ", BOLD), Span::raw(&view.title)]);
    frame.render_widget(Paragraph::new(vec![title, Line::styled(&view.state, DIM)]), area);
}

fn draw_puts(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let sample = &view.sample;
    let title = match &sample.puts {
        Some(Times { median, p99, .. }) => {
            format!("put: half in {}, 99% in {}", text::duration(*median), text::duration(*p99))
        }
        None if view.is_own => "put".into(),
        None => "put (how fast, only its process knows)".into(),
    };
    let area = part(frame, area, self::title(title));
    let [line, chart] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let rates = format!(
        "{} records/s  {}/s",
        text::count(sample.records_per_second as u64),
        text::bytes(sample.bytes_per_second as u64),
    );
    frame.render_widget(Paragraph::new(rates), line);
    // The newest value is on the right.
    let shown = view.history.iter().take(chart.width.into()).rev().copied();
    let missing = usize::from(chart.width).saturating_sub(view.history.len());
    let bars: Vec<u64> = std::iter::repeat_n(0, missing).chain(shown).collect();
    frame.render_widget(Sparkline::default().data(bars), chart);
}

fn draw_delay(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let area = part(frame, area, title("from put to read"));
    let lines = match &view.sample.delay {
        None => vec![Line::styled(" nothing was put just now", DIM)],
        Some(delay) => [("half within", delay.median), ("99% within", delay.p99), ("longest", delay.max)]
            .map(|(what, time)| Line::raw(format!(" {what:<12}{:>10}", text::duration(time))))
            .to_vec(),
    };
    frame.render_widget(Paragraph::new(lines), area);
}

/// Draws the shards side by side, each as wide as its part of the hash-key space, above bars that compare their rates.
fn draw_space(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let area = part(frame, area, title("hash-key space: which shard owns how much, and how busy it is"));
    let busiest = view.sample.shards.iter().map(|shard| shard.records_per_second).fold(1.0, f64::max);
    let width = f64::from(area.width);
    for (at, shard) in view.sample.shards.iter().enumerate() {
        let (start, end) = ends_of(shard);
        let left = area.x + (start * width).round() as u16;
        let right = area.x + (end * width).round() as u16;
        let is_chosen = view.chosen == Some(shard.id);
        // Every second shard has another style, so that the borders are visible.
        let style = if is_chosen {
            CHOSEN
        } else if at % 2 == 0 {
            Style::new()
        } else {
            DIM
        };
        let place = Rect { x: left, width: right.saturating_sub(left), height: 1, ..area }.intersection(area);
        let name = format!("|{:<1$}", text::shard(shard.id), usize::from(place.width));
        frame.render_widget(Paragraph::new(name).style(style), place);
        let bars = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..place }.intersection(area);
        let level = (shard.records_per_second / busiest * 100.0).ceil() as u64;
        let bar = Sparkline::default()
            .data(vec![level; bars.width.into()])
            .max(100)
            .style(style.remove_modifier(Modifier::REVERSED));
        frame.render_widget(bar, bars);
    }
}

/// Returns where a shard starts and ends in the hash-key space, from 0 to 1.
fn ends_of(shard: &ShardSample) -> (f64, f64) {
    let part = |hash_key: streamlog::HashKey| hash_key.get() as f64 / u128::MAX as f64;
    (part(shard.hash_keys.start), part(shard.hash_keys.end))
}

fn draw_shards(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let sample = &view.sample;
    let title = title(format!(
        "shards: {} open, {} closed, {} on disk ({})",
        sample.shards.len(),
        sample.closed_count,
        text::bytes(sample.disk_bytes),
        view.retention,
    ));
    let area = part(frame, area, title);
    let header = ["shard", "hash keys", "records/s", "bytes/s", "records", "on disk", "max lag"];
    let rows = sample.shards.iter().map(|shard| {
        let (start, end) = ends_of(shard);
        cells([
            text::shard(shard.id),
            format!("{:.1}%", (end - start) * 100.0),
            text::count(shard.records_per_second as u64),
            text::bytes(shard.bytes_per_second as u64),
            text::count(shard.record_count),
            text::bytes(shard.disk_bytes),
            text::count(shard.lag_max),
        ])
    });
    let table = Table::new(rows, [Constraint::Fill(1); 7])
        .header(cells(header.map(str::to_owned)).style(DIM))
        .row_highlight_style(CHOSEN);
    // Scroll so that the selected shard is visible.
    frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(view.chosen_at()));
}

/// Returns a row with the first cell aligned left and the others aligned right, as is usual for numbers.
pub fn cells<const N: usize>(texts: [String; N]) -> Row<'static> {
    let mut at = 0;
    Row::new(texts.map(|text| {
        at += 1;
        if at == 1 { Line::raw(text).left_aligned() } else { Line::raw(text).right_aligned() }
    }))
}

fn draw_footer(frame: &mut Frame<'_>, area: Rect, view: &View, has_tabs: bool) {
    let keys = match has_tabs {
        true => "up/down choose a shard  s split  m merge with the next  tab next list  q leave",
        false => "up/down choose a shard   s split it   m merge it with the next   q leave",
    };
    let lines = vec![Line::styled(&view.message, BOLD), Line::styled(keys, DIM)];
    frame.render_widget(Paragraph::new(lines), area);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use streamlog::{HashKey, HashKeyRange, Lag, ShardId};

    use super::*;
    use crate::panels::Panel;
    use crate::readers::{GroupSample, ProcessorSample, ProcessorWork, QueueSample};
    use crate::sample::Sample;

    fn view(shard_count: u32) -> View {
        let width = u128::MAX / u128::from(shard_count);
        let shard = |at: u32| ShardSample {
            id: ShardId::new(at),
            hash_keys: HashKeyRange {
                start: HashKey::new(u128::from(at) * width),
                end: HashKey::new((u128::from(at) + 1) * width),
            },
            records_per_second: 1_000.0 * f64::from(at + 1),
            bytes_per_second: 1_024.0 * f64::from(at + 1),
            record_count: 1_234_567,
            disk_bytes: 64 << 20,
            lag_max: u64::from(at) * 1_000,
        };
        let group = |name: &str, worker_count, record_count, seconds| {
            let mut lag = Lag::default();
            (lag.record_count, lag.bytes) = (record_count, record_count * 100);
            lag.age = Duration::from_secs(seconds);
            GroupSample { name: name.to_owned(), worker_count, lag }
        };
        let processor = |name: &str, stuck| ProcessorSample {
            name: name.to_owned(),
            iterator_age: Duration::from_millis(1_250),
            work: Some(ProcessorWork {
                invocations_per_second: 123.4,
                errors_per_second: 0.5,
                duration: Some(Duration::from_micros(2_300)),
                discarded: 1_234,
                running: 8,
                stuck,
            }),
        };
        let queue = |name: &str, dead_letter_count| QueueSample {
            name: name.to_owned(),
            visible_count: 12_345,
            in_flight_count: 67,
            delayed_count: 8,
            dead_letter_count,
            oldest_age: Duration::from_secs(90),
        };
        let (micros, nanos) = (Duration::from_micros, Duration::from_nanos);
        View {
            title: "/data/clicks".into(),
            state: "opened clean, in 1.2 ms".into(),
            is_own: true,
            retention: "keeps 24 h".into(),
            sample: Sample {
                records_per_second: 10_000.0,
                bytes_per_second: 10_240.0,
                shards: (0..shard_count).map(shard).collect(),
                closed_count: 2,
                disk_bytes: 256 << 20,
                groups: vec![group("billing", Some(2), 0, 0), group("reports", Some(1), 54_321, 7)],
                processors: vec![processor("fraud", 0), processor("search", 1)],
                queues: vec![queue("mail", 9)],
                puts: Some(Times { median: nanos(97), p99: nanos(350), max: micros(90) }),
                delay: Some(Times { median: micros(35), p99: micros(1_500), max: micros(2_000_000) }),
            },
            panel: Panel::Groups,
            history: (1..=10).collect(),
            chosen: Some(ShardId::new(1)),
            message: "shard 0 is split into 4 and 5, in 2.1 ms".into(),
        }
    }

    /// Returns the lines of a screen of the given size.
    fn lines(view: &View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view)).unwrap();
        let cells = terminal.backend().buffer().content().chunks(width.into());
        cells.map(|line| line.iter().map(|cell| cell.symbol()).collect()).collect()
    }

    /// Returns the line that starts with a text, with runs of spaces reduced to one.
    fn line_of(lines: &[String], start: &str) -> String {
        let line = lines.iter().find(|line| line.trim_start().starts_with(start));
        let line = line.unwrap_or_else(|| panic!("no line begins with {start:?} in\n{}", lines.join("\n")));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn all_that_matters_is_there_on_80_columns_and_24_lines() {
        let lines = lines(&view(4), 80, 24);
        assert_eq!(line_of(&lines, "streamlog"), "streamlog /data/clicks");
        assert_eq!(line_of(&lines, "opened"), "opened clean, in 1.2 ms");
        assert_eq!(line_of(&lines, "10,000 records/s"), "10,000 records/s 10.0 KiB/s half within 35 µs");
        assert!(lines.iter().any(|line| line.contains(" 99% within      1.5 ms ")));
        assert!(lines.iter().any(|line| line.contains(" put: half in 97 ns, 99% in 350 ns ")));
        assert!(
            line_of(&lines, "shards:")
                .starts_with("shards: 4 open, 2 closed, 256.0 MiB on disk (keeps 24 h)")
        );
        assert_eq!(line_of(&lines, "0   "), "0 25.0% 1,000 1.0 KiB 1,234,567 64.0 MiB 0");
        assert_eq!(line_of(&lines, "3   "), "3 25.0% 4,000 4.0 KiB 1,234,567 64.0 MiB 3,000");
        assert_eq!(line_of(&lines, "billing"), "billing 2 0 0 B -");
        assert_eq!(line_of(&lines, "reports"), "reports 1 54,321 5.2 MiB 7.0 s ago");
        assert_eq!(line_of(&lines, "shard 0 is split"), "shard 0 is split into 4 and 5, in 2.1 ms");
        assert!(lines[23].starts_with("up/down choose a shard") && lines[23].contains("q leave"));
    }

    #[test]
    fn shards_are_as_wide_as_their_part_of_the_hash_key_space_and_as_high_as_they_are_busy() {
        let lines = lines(&view(4), 80, 24);
        let names = lines.iter().position(|line| line.starts_with("|0")).unwrap();
        let starts: Vec<_> = lines[names].match_indices('|').map(|(at, _)| at).collect();
        assert_eq!(starts, [0, 20, 40, 60]);
        let filled = |line: &String| line.chars().filter(|symbol| *symbol == '█').count();
        assert_eq!(
            [&lines[names + 1], &lines[names + 2]].map(filled),
            [20, 60],
            "the last one is the busiest"
        );
    }

    #[test]
    fn the_chosen_one_of_many_shards_is_to_be_seen_and_nothing_else_gives_way() {
        let mut view = view(40);
        for chosen in [0, 20, 39] {
            view.chosen = Some(ShardId::new(chosen));
            let lines = lines(&view, 80, 24);
            line_of(&lines, &format!("{chosen}   "));
            line_of(&lines, "reports");
            line_of(&lines, "up/down");
        }
    }

    #[test]
    fn readers_are_listed_one_kind_at_a_time_where_there_is_no_room_for_all() {
        let mut view = view(4);
        let titles = |lines: &[String]| line_of(lines, "consumer groups");
        let small = lines(&view, 80, 24);
        assert!(titles(&small).starts_with("consumer groups (2) processors (2) queues (1) "));
        assert!(small[23].starts_with("up/down") && small[23].contains("  tab next list  q leave"));
        line_of(&small, "reports");
        assert!(small.iter().all(|line| !line.starts_with("fraud") && !line.starts_with("mail")));
        view.panel = view.panel.next(&view.sample);
        let small = lines(&view, 80, 24);
        assert!(small.iter().all(|line| !line.starts_with("reports")));
        let headings = "processor iterator age invocations/s errors/s duration discarded running stuck";
        assert_eq!(line_of(&small, "processor "), headings);
        assert_eq!(line_of(&small, "fraud"), "fraud 1.2 s 123 0.5 2.3 ms 1,234 8 0");
        assert_eq!(line_of(&small, "search"), "search 1.2 s 123 0.5 2.3 ms 1,234 8 1");
        view.panel = view.panel.next(&view.sample);
        let small = lines(&view, 80, 24);
        assert_eq!(line_of(&small, "queue "), "queue visible in flight delayed dead oldest");
        assert_eq!(line_of(&small, "mail"), "mail 12,345 67 8 9 90.0 s");
        assert_eq!(view.panel.next(&view.sample), Panel::Groups);
        let large = lines(&view, 140, 45);
        ["billing", "search", "mail"].iter().for_each(|name| drop(line_of(&large, name)));
        assert!(titles(&large).starts_with("consumer groups and their lag") && !large[44].contains("tab"));
        line_of(&large, "processors, by Lambda's names");
        // The queues have been deleted.
        view.sample.queues.clear();
        let small = lines(&view, 80, 24);
        assert!(titles(&small).starts_with("consumer groups (2) processors (2) "));
        line_of(&small, "reports");
        assert_eq!(Panel::Queues.next(&view.sample), Panel::Groups);
    }

    #[test]
    fn a_quiet_stream_says_so() {
        let view = View { sample: Sample::default(), ..view(1) };
        let lines = lines(&view, 80, 24);
        assert!(lines.iter().any(|line| line.contains("nothing was put just now")));
        line_of(&lines, "nobody has read this stream as a group");
    }

    #[test]
    fn what_only_the_process_of_the_stream_knows_is_not_shown_as_zero() {
        let mut view = view(4);
        view.is_own = false;
        view.sample.puts = None;
        view.sample.groups.iter_mut().for_each(|group| group.worker_count = None);
        let lines = lines(&view, 80, 24);
        assert!(lines.iter().any(|line| line.contains(" put (how fast, only its process knows) ")));
        assert_eq!(line_of(&lines, "reports"), "reports ? 54,321 5.2 MiB 7.0 s ago");
        view.panel = Panel::Processors;
        view.sample.processors.iter_mut().for_each(|processor| processor.work = None);
        let lines = self::lines(&view, 140, 45);
        assert_eq!(line_of(&lines, "fraud"), "fraud 1.2 s ? ? ? ? ? ?");
        line_of(&lines, "processors (what they do now, only their process knows)");
    }

    #[test]
    fn no_size_of_a_terminal_is_too_small() {
        for (width, height) in [(1, 1), (10, 3), (40, 12), (79, 23), (300, 100)] {
            lines(&view(40), width, height);
        }
    }
}
