//! The results: raw JSON, Markdown tables, charts.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::chart::{self, Bar, number};
use crate::contender::{Class, Contender, Result, STREAMLOG};
use crate::plan::{Series, Table};
use crate::task::{Outcome, Task};

/// All rounds of one contender in one table, or of one point of a series.
#[derive(Serialize)]
pub struct Measured {
    pub id: String,
    pub title: String,
    pub contender: String,
    /// The value on the axis of a series.
    pub x: Option<f64>,
    pub task: Task,
    pub rounds: Vec<Outcome>,
}

impl Measured {
    fn values(&self, figure: &str) -> Vec<f64> {
        let mut values: Vec<_> =
            self.rounds.iter().filter_map(|round| round.figures.get(figure).copied()).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    pub fn median(&self, figure: &str) -> Option<f64> {
        let values = self.values(figure);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            count if count % 2 == 0 => Some((values[middle - 1] + values[middle]) / 2.0),
            _ => Some(values[middle]),
        }
    }

    fn spread(&self, figure: &str) -> Option<(f64, f64)> {
        let values = self.values(figure);
        Some((*values.first()?, *values.last()?))
    }

    fn no_figure(&self) -> Option<String> {
        let round = self.rounds.iter().find(|round| round.figures.is_empty())?;
        let no_call = round.no_call.clone();
        no_call.or_else(|| round.failure.as_ref().map(|failure| format!("failed: {failure}")))
    }
}

#[derive(Serialize)]
struct Raw<'a> {
    machine: &'a str,
    versions: BTreeMap<&'static str, Option<&'static str>>,
    measured: &'a [Measured],
}

pub struct Report<'a> {
    pub machine: String,
    pub command: String,
    pub is_quick: bool,
    pub contenders: &'a [Contender],
    pub measured: Vec<Measured>,
}

impl Report<'_> {
    /// Writes the results so far, so that an interrupted run keeps its measurements.
    pub fn write(&self, output: &Path, tables: &[Table], series: &[Series]) -> Result<()> {
        fs::create_dir_all(output.join("charts"))?;
        let versions = self.contenders.iter().map(|one| (one.facts.name, one.facts.version())).collect();
        let raw = Raw { machine: &self.machine, versions, measured: &self.measured };
        fs::write(output.join("raw.json"), serde_json::to_string_pretty(&raw)?)?;
        let mut text = format!("# Figures\n\n{}.\n\n`{}`\n\n", self.machine, self.command);
        if self.is_quick {
            text += "**A smoke run: far too short. The figures are noise and say nothing about speed.**\n\n";
        }
        for table in tables {
            self.table(table, output, &mut text)?;
        }
        for one in series {
            self.series(one, output, &mut text)?;
        }
        self.facts(&mut text);
        fs::write(output.join("figures.md"), text)?;
        Ok(())
    }

    fn table(&self, table: &Table, output: &Path, text: &mut String) -> Result<()> {
        let main = table.columns[0];
        let rows: Vec<_> = self.measured.iter().filter(|row| row.id == table.id).collect();
        let mut ranked: Vec<_> =
            rows.iter().filter_map(|row| Some((*row, row.median(main.figure)?))).collect();
        ranked.sort_by(|a, b| if main.higher_is_better { b.1.total_cmp(&a.1) } else { a.1.total_cmp(&b.1) });
        if rows.is_empty() {
            return Ok(());
        }
        let ours = ranked.iter().find(|(row, _)| row.contender == STREAMLOG).map(|(_, value)| *value);
        let heads: Vec<_> = table.columns.iter().map(|column| column.head).collect();
        writeln!(text, "## {}\n\n![{}](charts/{}.svg)\n", table.title, table.title, table.id)?;
        writeln!(
            text,
            "| | {} | × streamlog | least – most | a put that returned survives |",
            heads.join(" | ")
        )?;
        writeln!(text, "|---|{}---:|---|---|", "---:|".repeat(heads.len()))?;
        for (row, value) in &ranked {
            let name = if row.contender == STREAMLOG { "**streamlog**" } else { &row.contender };
            let figures =
                table.columns.iter().map(|column| row.median(column.figure).map_or("–".into(), number));
            let ratio = ours.map_or("–".to_owned(), |ours| format!("{:.2}", value / ours));
            let spread = row
                .spread(main.figure)
                .map_or("–".to_owned(), |(least, most)| format!("{} – {}", number(least), number(most)));
            let figures = figures.collect::<Vec<_>>().join(" | ");
            writeln!(
                text,
                "| {name} | {figures} | {ratio} | {spread} | {} |",
                self.survives(&row.contender, table.task.class)
            )?;
        }
        let mut without: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for row in &rows {
            if let Some(why) = row.no_figure() {
                without.entry(why).or_default().push(&row.contender);
            }
        }
        if !without.is_empty() {
            writeln!(text, "\nWithout a figure:")?;
            for (why, names) in without {
                writeln!(text, "- {}: {why}", names.join(", "))?;
            }
        }
        writeln!(text)?;
        let bars: Vec<_> = ranked
            .iter()
            .map(|(row, value)| Bar {
                name: row.contender.clone(),
                value: *value,
                class: match &*row.contender {
                    name if name.starts_with(STREAMLOG) => "ours",
                    name if name.starts_with("bare: ") => "bare",
                    _ => "peer",
                },
            })
            .collect();
        let unit = format!(
            "{}; {}",
            main.head,
            if main.higher_is_better { "more is better" } else { "less is better" }
        );
        fs::write(output.join(format!("charts/{}.svg", table.id)), chart::bars(&table.title, &unit, &bars))?;
        Ok(())
    }

    fn series(&self, series: &Series, output: &Path, text: &mut String) -> Result<()> {
        let rows = self.measured.iter().filter(|row| row.id == series.rows_of);
        let points: Vec<_> =
            rows.filter_map(|row| Some((row.x?, row.median(series.column.figure)?))).collect();
        if points.is_empty() {
            return Ok(());
        }
        let title = format!("{}, by {}", series.title, series.axis);
        writeln!(text, "## {title}\n\n![{title}](charts/{}.svg)\n", series.id)?;
        writeln!(text, "| {} | {} |\n|---:|---:|", series.axis, series.column.head)?;
        points.iter().try_for_each(|(x, y)| writeln!(text, "| {} | {} |", number(*x), number(*y)))?;
        writeln!(text)?;
        let svg = chart::line(&title, series.column.head, series.axis, &points);
        fs::write(output.join(format!("charts/{}.svg", series.id)), svg)?;
        Ok(())
    }

    fn survives(&self, name: &str, class: Class) -> &'static str {
        let contender = self.contenders.iter().find(|contender| contender.facts.name == name);
        contender.and_then(|contender| contender.facts.mode(class)).map_or("", |mode| mode.survives)
    }

    fn facts(&self, text: &mut String) {
        *text += &facts(self.contenders);
    }
}

/// The setup and the promises of each contender, as a Markdown table.
pub fn facts(contenders: &[Contender]) -> String {
    let mut text = "## Contenders\n\n\
        | | version | set up for process death | then survives | set up for power loss | checksums | readers during writes \
        | writers |\n|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for Contender { facts, .. } in contenders {
        let (process, survives) = facts.process.map_or(("–", "–"), |mode| (mode.config, mode.survives));
        text += &format!(
            "| {} | {} | {process} | {survives} | {} | {} | {} | {} |\n",
            facts.name,
            facts.version().unwrap_or(""),
            facts.power.map_or("–", |mode| mode.config),
            facts.checksums,
            facts.live_readers,
            facts.writers,
        );
    }
    text
}
