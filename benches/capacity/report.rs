//! Tables in Markdown, and curves as SVG.

use std::path::PathBuf;

use crate::chart::{self, Axis, Curve};

#[derive(Debug)]
pub(crate) struct Report {
    charts: Option<PathBuf>,
}

/// One line of a chart.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Line {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), points: vec![] }
    }
}

impl Report {
    pub(crate) fn new(charts: Option<PathBuf>) -> Self {
        Self { charts }
    }

    /// Begins a table.
    pub(crate) fn head(&self, title: &str, columns: &[&str]) {
        println!("\n**{title}**\n\n| {} |", columns.join(" | "));
        println!("|{}|", vec!["---:"; columns.len()].join("|"));
    }

    pub(crate) fn row(&self, cells: &[String]) {
        println!("| {} |", cells.join(" | "));
    }

    /// Draws lines, if a directory for charts was named.
    pub(crate) fn draw(&self, file: &str, title: &str, unit: &str, x: Axis<'_>, lines: &[Line]) {
        let Some(directory) = &self.charts else { return };
        let classes = ["ours", "bare", "peer"];
        let curves: Vec<_> = lines
            .iter()
            .zip(classes.iter().cycle())
            .map(|(line, class)| Curve { name: &line.name, class, points: &line.points })
            .collect();
        let svg = chart::curves(title, unit, x, &curves);
        std::fs::create_dir_all(directory).expect("a directory for charts");
        std::fs::write(directory.join(file), svg).expect("a chart");
    }
}

/// Formats a count, rounded to three digits: more would suggest false precision.
pub(crate) fn count(value: f64) -> String {
    let digits = value.abs().max(1.0).log10().floor() as i32;
    let unit = 10f64.powi((digits - 2).max(0));
    chart::number((value / unit).round() * unit)
}

pub(crate) fn mib(bytes: u64) -> String {
    chart::number(bytes as f64 / f64::from(1 << 20))
}
